//! The net effect of several transactions on each table: what of a row is left after all of them. Pure.
//!
//! A row that was inserted and deleted again is nothing; one that was updated ten times is one change. What is left is written
//! as deletes by key and inserts, all deletes of a table before its inserts: then no unique key can be in the way, whatever
//! was swapped with what. Never REPLACE (RULES.md 41). A row that stays, and no key of which changes, is updated in place.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use super::catalog::{Catalog, Description};
use crate::entry::{Change, Row, Shape, TableName, Transaction};

/// What is left to do on one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Net<'t> {
    /// The table.
    pub table: Arc<Description>,
    /// The types that the log has for its columns; none where it has two for one.
    pub shape: Option<Arc<Shape>>,
    /// All its rows go first.
    pub clear: bool,
    /// Rows that go: any image with their key.
    pub removed: Vec<&'t Row>,
    /// Rows that come.
    pub added: Vec<&'t Row>,
    /// Rows that stay and change, before and after: only where no other row can be in the way.
    pub changed: Vec<(&'t Row, &'t Row)>,
}

/// Transactions that cannot be merged, because they contradict each other or the standby's tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The standby does not have the table.
    #[error("the standby has no table {0}")]
    NoTable(TableName),
    /// Rows have no key.
    #[error("{0} has no primary key, and no unique key without NULL")]
    NoKey(TableName),
    /// Other columns than the log's.
    #[error("{table}: {what}")]
    Shape {
        /// The table.
        table: TableName,
        /// How it differs.
        what: String,
    },
    /// A row is inserted twice, or changed after it was deleted.
    #[error("{0}: the log changes a row that the log itself has deleted, or inserts it twice")]
    Contradiction(TableName),
}

/// One row through the transactions.
struct Fate<'t> {
    /// An image with its key, and that key's hash.
    key: &'t Row,
    hash: u64,
    /// An image from before, if it was there before.
    before: Option<&'t Row>,
    /// What is left of it.
    after: Option<&'t Row>,
}

#[derive(Default)]
struct Fates<'t> {
    clear: bool,
    /// The log's types, and whether they are those of all rows.
    shape: Option<(Arc<Shape>, bool)>,
    list: Vec<Fate<'t>>,
    /// Places in the list, by key.
    by_key: HashTable<usize>,
    hasher: DefaultHashBuilder,
    /// Where a key is written to be hashed.
    bytes: Vec<u8>,
}

/// Merges transactions, which are in commit order.
///
/// # Errors
/// [`Misfit`].
pub fn merge<'t>(transactions: &[&'t Transaction], catalog: &Catalog) -> Result<Vec<Net<'t>>, Misfit> {
    let mut tables: Vec<(Arc<Description>, Fates<'t>)> = Vec::new();
    let mut places: HashMap<&TableName, usize> = HashMap::new();
    // each transaction has a shape of its own, but all rows of a table in it share one
    let mut checked: Option<(*const Shape, usize)> = None;
    for change in transactions.iter().flat_map(|t| &t.changes) {
        let shape = &change.table;
        let at = match checked {
            Some((known, at)) if known == Arc::as_ptr(shape) => at,
            _ => {
                let at = place(&mut tables, &mut places, &shape.name, catalog)?;
                if let Some((table, fates)) = tables.get_mut(at)
                    && !matches!(change.change, Change::Clear)
                {
                    fits(table, shape)?;
                    fates.is_logged_as(shape);
                    checked = Some((Arc::as_ptr(shape), at));
                }
                at
            }
        };
        let Some((table, fates)) = tables.get_mut(at) else { continue };
        fates.take(table, &change.change).ok_or_else(|| Misfit::Contradiction(shape.name.clone()))?;
    }
    Ok(tables.into_iter().map(|(table, fates)| fates.net(table)).collect())
}

/// Where a table is in the list; its end for one that comes now.
fn place<'t>(
    tables: &mut Vec<(Arc<Description>, Fates<'t>)>,
    places: &mut HashMap<&'t TableName, usize>,
    name: &'t TableName,
    catalog: &Catalog,
) -> Result<usize, Misfit> {
    if let Some(at) = places.get(name) {
        return Ok(*at);
    }
    let table = catalog.get(name).ok_or_else(|| Misfit::NoTable(name.clone()))?;
    if table.key.is_empty() {
        return Err(Misfit::NoKey(name.clone()));
    }
    places.insert(name, tables.len());
    tables.push((Arc::clone(table), Fates::default()));
    Ok(tables.len() - 1)
}

/// The standby's table for a change, if it takes the change.
///
/// # Errors
/// [`Misfit`].
pub fn fitting<'c>(catalog: &'c Catalog, shape: &Shape, change: &Change) -> Result<&'c Arc<Description>, Misfit> {
    let table = catalog.get(&shape.name).ok_or_else(|| Misfit::NoTable(shape.name.clone()))?;
    if table.key.is_empty() {
        return Err(Misfit::NoKey(shape.name.clone()));
    }
    if !matches!(change, Change::Clear) {
        fits(table, shape)?;
    }
    Ok(table)
}

/// Whether the standby's table takes rows of this shape.
fn fits(table: &Description, shape: &Shape) -> Result<(), Misfit> {
    let misfit = |what: String| Misfit::Shape { table: shape.name.clone(), what };
    let (ours, theirs) = (table.columns.len(), shape.types.len());
    if ours != theirs {
        return Err(misfit(format!("{theirs} columns on the authority, {ours} on the standby")));
    }
    for (column, logged) in table.columns.iter().zip(&shape.types) {
        if !column.takes(*logged) {
            let what = format!(
                "column {} is {} on the standby, and of type {} in the log",
                column.name, column.words, logged.code
            );
            return Err(misfit(what));
        }
    }
    Ok(())
}

impl<'t> Fates<'t> {
    fn is_logged_as(&mut self, logged: &Arc<Shape>) {
        match &mut self.shape {
            Some((shape, one)) => *one &= shape.types == logged.types,
            none => *none = Some((Arc::clone(logged), true)),
        }
    }

    /// `None` where the change contradicts what is known of the row.
    fn take(&mut self, table: &Description, change: &'t Change) -> Option<()> {
        match change {
            Change::Insert(after) => self.insert(table, after),
            Change::Delete(before) => self.delete(table, before),
            Change::Update(before, after) => {
                if same_key(table, before, after) {
                    let at = self.existing(table, before)?;
                    self.list.get_mut(at)?.after = Some(after);
                    return Some(());
                }
                // a changed key is a delete of the old and an insert of the new row (RULES.md 41)
                self.delete(table, before)?;
                self.insert(table, after)
            }
            Change::Clear => {
                *self = Fates { clear: true, shape: self.shape.take(), ..Fates::default() };
                Some(())
            }
        }
    }

    fn insert(&mut self, table: &Description, after: &'t Row) -> Option<()> {
        match self.place(table, after) {
            Ok(at) => {
                let fate = self.list.get_mut(at)?;
                fate.after.is_none().then(|| fate.after = Some(after))
            }
            Err(hash) => {
                self.add(Fate { key: after, hash, before: None, after: Some(after) });
                Some(())
            }
        }
    }

    fn delete(&mut self, table: &Description, before: &'t Row) -> Option<()> {
        let at = self.existing(table, before)?;
        self.list.get_mut(at)?.after = None;
        Some(())
    }

    /// The row, which must be there now: known so far, or from before.
    fn existing(&mut self, table: &Description, before: &'t Row) -> Option<usize> {
        match self.place(table, before) {
            Ok(at) => self.list.get(at)?.after.is_some().then_some(at),
            Err(_) if self.clear => None,
            Err(hash) => Some(self.add(Fate { key: before, hash, before: Some(before), after: Some(before) })),
        }
    }

    /// Where the row with this image's key is in the list; the key's hash where it is not.
    fn place(&mut self, table: &Description, row: &Row) -> Result<usize, u64> {
        let hash = hash(table, row, &self.hasher, &mut self.bytes);
        let is_it = |at: &usize| self.list.get(*at).is_some_and(|fate| same_key(table, fate.key, row));
        self.by_key.find(hash, is_it).copied().ok_or(hash)
    }

    fn add(&mut self, fate: Fate<'t>) -> usize {
        let (at, hash) = (self.list.len(), fate.hash);
        self.list.push(fate);
        self.by_key.insert_unique(hash, at, |at| self.list.get(*at).map_or(0, |fate| fate.hash));
        at
    }

    fn net(self, table: Arc<Description>) -> Net<'t> {
        let (mut removed, mut added, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        for fate in self.list {
            match (fate.before, fate.after) {
                (Some(before), Some(after)) if same(before, after) => {}
                (Some(before), Some(after)) if table.only_key || keeps_keys(&table, before, after) => {
                    changed.push((before, after));
                }
                (before, after) => {
                    removed.extend(before);
                    added.extend(after);
                }
            }
        }
        let shape = self.shape.and_then(|(shape, one)| one.then_some(shape));
        Net { table, shape, clear: self.clear, removed, added, changed }
    }
}

fn same(before: &Row, after: &Row) -> bool {
    before.len() == after.len() && before.iter().zip(after).all(|(before, after)| before.is_same(after))
}

/// Whether a change leaves every key as it is. (What the log says of generated columns does not count.)
pub(super) fn keeps_keys(table: &Description, before: &Row, after: &Row) -> bool {
    table.uses.iter().flat_map(|key| &key.columns).all(|(at, _)| {
        let stored = table.columns.get(*at).is_some_and(|column| !column.generated);
        stored && before.get(*at).zip(after.get(*at)).is_some_and(|(before, after)| before.is_same(after))
    })
}

fn hash(table: &Description, row: &Row, hasher: &DefaultHashBuilder, bytes: &mut Vec<u8>) -> u64 {
    bytes.clear();
    for value in table.key.iter().filter_map(|at| row.get(*at)) {
        value.put_key(bytes);
    }
    hasher.hash_one(&*bytes)
}

fn same_key(table: &Description, one: &Row, other: &Row) -> bool {
    table.key.iter().all(|at| match (one.get(*at), other.get(*at)) {
        (Some(one), Some(other)) => one.is_same(other),
        (one, other) => one.is_none() && other.is_none(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::catalog::testing::{catalog, shape};
    use super::*;
    use crate::entry::{Position, RowChange, Value};

    fn row(id: i64, text: &str) -> Row {
        [Value::Int(id), Value::Bytes(text.as_bytes().into())].into()
    }

    fn transaction(changes: Vec<Change>) -> Transaction {
        let table = Arc::new(shape());
        let changes = changes
            .into_iter()
            .map(|change| RowChange { table: Arc::clone(&table), change, foreign_keys: true })
            .collect();
        Transaction { id: String::new(), committed_at: 0, changes, after: Position::Gtids(Vec::new()), bytes: 0 }
    }

    #[test]
    fn only_what_is_left_is_done() {
        let t = transaction(vec![
            Change::Insert(row(1, "a")),
            Change::Update(row(1, "a"), row(1, "b")),
            Change::Insert(row(2, "c")),
            Change::Delete(row(2, "c")),
            Change::Update(row(3, "x"), row(4, "x")),
            Change::Update(row(5, "p"), row(5, "q")),
            Change::Delete(row(5, "q")),
        ]);
        let nets = merge(&[&t], &catalog()).unwrap();
        let rows = |list: &[&Row]| list.iter().map(|r| format!("{:?}", r[0])).collect::<Vec<_>>();
        assert_eq!(rows(&nets[0].removed), ["Int(3)", "Int(5)"]);
        assert_eq!(rows(&nets[0].added), ["Int(1)", "Int(4)"]);
        assert_eq!(nets[0].added[0], &row(1, "b"));
    }

    #[test]
    fn contradictions_are_noticed() {
        for changes in [
            vec![Change::Insert(row(1, "a")), Change::Insert(row(1, "b"))],
            vec![Change::Delete(row(1, "a")), Change::Delete(row(1, "a"))],
            vec![Change::Delete(row(1, "a")), Change::Update(row(1, "a"), row(1, "b"))],
            vec![Change::Clear, Change::Delete(row(1, "a"))],
        ] {
            assert!(matches!(merge(&[&transaction(changes)], &catalog()), Err(Misfit::Contradiction(_))));
        }
    }

    proptest! {
        /// Invariant 3: the net effect is the effect of all changes one after the other, and respects rows that were there.
        #[test]
        fn the_net_effect_is_the_effect(only_key in any::<bool>(), start in proptest::collection::btree_map(0i64..8, "[a-c]", 0..8), steps in proptest::collection::vec((0u8..4, 0i64..8, 0i64..8, "[a-c]"), 0..40)) {
            let mut now: BTreeMap<i64, String> = start.clone();
            let mut changes = Vec::new();
            for (what, id, other, text) in steps {
                match (what, now.get(&id).cloned()) {
                    (0, None) => {
                        changes.push(Change::Insert(row(id, &text)));
                        now.insert(id, text);
                    }
                    (1, Some(old)) => {
                        changes.push(Change::Delete(row(id, &old)));
                        now.remove(&id);
                    }
                    (2, Some(old)) if other == id || !now.contains_key(&other) => {
                        changes.push(Change::Update(row(id, &old), row(other, &text)));
                        now.remove(&id);
                        now.insert(other, text);
                    }
                    (3, _) if other == 0 => {
                        changes.push(Change::Clear);
                        now.clear();
                    }
                    _ => {}
                }
            }
            let (first, second) = changes.split_at(changes.len() / 2);
            let (a, b) = (transaction(first.to_vec()), transaction(second.to_vec()));
            let mut catalog = catalog();
            catalog.values_mut().for_each(|table| Arc::make_mut(table).only_key = only_key);
            let nets = merge(&[&a, &b], &catalog).unwrap();
            let mut applied = start;
            for net in &nets {
                if net.clear {
                    applied.clear();
                }
                let id = |row: &Row| if let Value::Int(id) = row[0] { id } else { 0 };
                for (before, row) in &net.changed {
                    prop_assert!(only_key || before[1] == row[1]);
                    let Value::Bytes(text) = &row[1] else { unreachable!() };
                    prop_assert!(applied.insert(id(row), String::from_utf8_lossy(text).into_owned()).is_some());
                }
                for row in &net.removed {
                    prop_assert!(applied.remove(&id(row)).is_some());
                }
                for row in &net.added {
                    let Value::Bytes(text) = &row[1] else { unreachable!() };
                    prop_assert!(applied.insert(id(row), String::from_utf8_lossy(text).into_owned()).is_none());
                }
            }
            prop_assert_eq!(applied, now);
        }
    }
}
