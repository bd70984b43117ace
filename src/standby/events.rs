//! What is left to do on a table → row events ([`crate::changes::binlog::write`]), which a MariaDB server applies as its own replica would: for parts of many rows. Pure.
//!
//! Statements are [`super::statements`]. They ask nothing of the server but the rights on its tables, and say what does not fit in
//! words that an operator can act on; but their text costs more than the rows, and the seal's triggers run for each of them. Events
//! need the right BINLOG REPLAY and tables whose columns are the same on both stores. Where a part of events is refused, for whatever
//! reason, it is done again as statements: so they decide nothing.

use std::collections::HashMap;

use super::catalog::Description;
use super::merge::Net;
use super::statements::{self, Does, Statement};
use crate::changes::binlog::rows::Kind;
use crate::changes::binlog::write::Rows;
use crate::entry::{Row, Shape};

/// Rows below which statements do: a part of them is one or two.
const LEAST: usize = 50;
/// Bytes of images after which an event is full.
const FULL: usize = 1 << 18;
/// Sets of changed columns that have an event of their own; the rows of others name all columns.
const SETS: usize = 8;

/// All statements of a part, of which some are events; none where no table's are.
#[must_use]
pub fn of_part(nets: &[Net<'_>]) -> Option<Vec<Statement>> {
    let rows: usize = nets.iter().map(|net| net.removed.len() + net.changed.len() + net.added.len()).sum();
    if rows < LEAST {
        return None;
    }
    let (mut out, mut any) = (Vec::new(), false);
    for net in nets {
        match of_table(net) {
            Some(list) => {
                any = true;
                out.extend(list);
            }
            None => out.extend(statements::statements(net)),
        }
    }
    any.then_some(out)
}

/// (A row is found by what the server takes for its key, so that must be the key that is known here.)
fn of_table(net: &Net<'_>) -> Option<Vec<Statement>> {
    let table = &*net.table;
    let shape = net.shape.as_deref().filter(|_| table.alike && table.primary)?;
    let shape = &Shape { name: table.place(), types: shape.types.clone() };
    // (MariaDB 10.11 computes no STORED column of a row event that leaves it out)
    if table.columns.iter().any(|column| column.generated) {
        return None;
    }
    let written: Vec<usize> = (0..table.columns.len()).collect();
    let none = Row::default();
    let mut out: Vec<Statement> = net.clear.then(|| statements::clear(net)).into_iter().collect();
    let list = Writing { table, shape, out: &mut out };
    list.write(Kind::Delete, &[], &mut net.removed.iter().map(|row| (*row, &none)))?;
    for (set, rows) in by_changed(&net.changed, &written) {
        let list = Writing { table, shape, out: &mut out };
        list.write(Kind::Update, &set, &mut rows.into_iter())?;
    }
    let list = Writing { table, shape, out: &mut out };
    list.write(Kind::Insert, &written, &mut net.added.iter().map(|row| (&none, *row)))?;
    Some(out)
}

/// A row before and after.
type Both<'t> = (&'t Row, &'t Row);

/// Rows by which of their columns changed.
fn by_changed<'t>(changed: &[Both<'t>], written: &[usize]) -> HashMap<Vec<usize>, Vec<Both<'t>>> {
    let mut sets: HashMap<Vec<usize>, Vec<Both<'t>>> = HashMap::new();
    let mut set = Vec::new();
    for (before, after) in changed {
        set.clear();
        set.extend(written.iter().copied().filter(|at| match (before.get(*at), after.get(*at)) {
            (Some(before), Some(after)) => !before.is_same(after),
            _ => true,
        }));
        match sets.get_mut(&set) {
            Some(rows) => rows.push((before, after)),
            None => {
                let set = if sets.len() < SETS { set.clone() } else { written.to_vec() };
                sets.entry(set).or_default().push((before, after));
            }
        }
    }
    sets
}

struct Writing<'w> {
    table: &'w Description,
    shape: &'w Shape,
    out: &'w mut Vec<Statement>,
}

impl Writing<'_> {
    /// None where a row cannot be written.
    fn write<'t>(self, kind: Kind, after: &[usize], rows: &mut dyn Iterator<Item = Both<'t>>) -> Option<()> {
        let before: &[usize] = if kind == Kind::Insert { &[] } else { &self.table.key };
        let mut rows = rows.peekable();
        while rows.peek().is_some() {
            let mut event = Rows::new(self.shape, kind, before, after)?;
            let mut count = 0;
            while event.weight() < FULL
                && let Some((before, after)) = rows.next()
            {
                event.put(before, after)?;
                count += 1;
            }
            let (sql, table) = (event.encoded(), self.table.name.to_string());
            self.out.push(Statement { sql, rows: Some(count), warnings: 0, table, does: Does::Events });
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::catalog::testing::{catalog, name, shape};
    use super::*;
    use crate::entry::Value;

    fn row(id: i64, text: &str) -> Row {
        [Value::Int(id), Value::Bytes(text.as_bytes().into())].into()
    }

    fn net<'t>(alike: bool) -> Net<'t> {
        let mut table = (*catalog()[&name()]).clone();
        (table.alike, table.primary) = (alike, true);
        let (removed, added, changed) = (Vec::new(), Vec::new(), Vec::new());
        Net { table: Arc::new(table), shape: Some(Arc::new(shape())), clear: false, removed, added, changed }
    }

    #[test]
    fn many_rows_are_events_and_few_are_statements() {
        let rows: Vec<Row> = (0..60).map(|id| row(id, "a")).collect();
        let mut many = net(true);
        many.removed = rows.iter().take(20).collect();
        many.changed = rows.iter().skip(20).take(20).map(|row| (row, row)).collect();
        many.added = rows.iter().skip(40).collect();
        let does: Vec<Does> = of_part(&[many]).unwrap().iter().map(|statement| statement.does).collect();
        assert_eq!(does, [Does::Events; 3]);
        let mut few = net(true);
        few.added = rows.iter().take(3).collect();
        assert_eq!(of_part(&[few]), None);
    }

    #[test]
    fn a_table_that_is_another_on_the_authority_has_statements() {
        let rows: Vec<Row> = (0..60).map(|id| row(id, "a")).collect();
        let (mut alike, mut other) = (net(true), net(false));
        alike.added = rows.iter().collect();
        other.added = rows.iter().collect();
        assert_eq!(of_part(&[other.clone()]), None);
        let does: Vec<Does> = of_part(&[alike, other]).unwrap().iter().map(|statement| statement.does).collect();
        assert_eq!(does, [Does::Events, Does::Insert]);
    }

    #[test]
    fn sets_of_columns_are_few() {
        let before: Row = (0..12).map(Value::Int).collect();
        let afters: Vec<Row> = (0..4_096u32)
            .map(|set| (0..12).map(|n| Value::Int(if set >> n & 1 == 1 { -1 } else { n })).collect())
            .collect();
        let changed: Vec<Both<'_>> = afters.iter().map(|after| (&before, after)).collect();
        let written: Vec<usize> = (0..12).collect();
        let sets = by_changed(&changed, &written);
        assert!(sets.len() <= SETS + 1);
        assert_eq!(sets.values().map(Vec::len).sum::<usize>(), afters.len());
        for (set, rows) in &sets {
            for (before, after) in rows {
                assert!((0..12).all(|at| before[at] == after[at] || set.contains(&at)));
            }
        }
    }
}
