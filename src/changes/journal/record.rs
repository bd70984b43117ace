//! How a write's rows are read before and after it, and what changed in between. Pure.
//!
//! ```text
//! Write + Table ─► Plan { before, after } ─► rows before, the write's own count, rows after ─► changes, or a mismatch
//! ```
//!
//! What is read is checked against what the store says that the write did: where the numbers differ (a row came between the
//! reading and the write, which READ COMMITTED lets happen; a key that the column took for another value), nothing is recorded and
//! the write is undone. Never wrong in silence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::table::Table;
use crate::entry::{Change, Kind, Row, RowChange};
use crate::sql::Span;
use crate::sql::writes::{Expr, Verb, Write};

/// How the rows of a write are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// So many rows come, and none goes.
    Insert(usize),
    /// At most so many come: those that do not fit are left out.
    InsertIgnore(usize),
    /// So many are there afterwards, whether they were before or not: ON DUPLICATE KEY UPDATE.
    Put(usize),
    /// The same, the old ones in the place of the new: REPLACE.
    Replace(usize),
    /// Rows stay, and change.
    Update,
    /// Rows go.
    Delete,
}

/// How the rows after a write are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// There are none.
    Nothing,
    /// By this, in the packet of the write.
    Read(Vec<u8>),
    /// By the keys of the rows before it ([`by_keys`]).
    ByKeys,
}

/// What to ask around a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How its rows are told.
    pub how: How,
    /// The question before it, which locks.
    pub before: Option<Vec<u8>>,
    /// The question after it.
    pub after: After,
}

/// What the store says that a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Did {
    /// Affected rows of its OK.
    pub affected: u64,
    /// "Rows matched" of its OK, where it says so.
    pub matched: Option<u64>,
}

/// The rows that were read are not those that the write changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// No bound of the session's (sql_select_limit) applies where a statement names its own.
const ALL: &[u8] = b" LIMIT 18446744073709551615";

fn slice(sql: &[u8], span: Span) -> &[u8] {
    sql.get(span.start as usize..span.end as usize).unwrap_or_default()
}

/// The plan of a write whose text is `sql`.
///
/// # Errors
/// Why its rows cannot be told.
pub fn plan(write: &Write, sql: &[u8], table: &Table) -> Result<Plan, String> {
    let of = Statement { write, sql, table };
    let assigns_key = write.assigned.iter().any(|name| table.column(name).is_none_or(|at| table.key.contains(&at)));
    if assigns_key {
        return Err("it changes the primary key, or a column that is not known".to_owned());
    }
    match write.verb {
        Verb::Update | Verb::Delete => {
            let condition = write.condition.map(|span| slice(sql, span));
            let before = of.select(condition, true);
            if write.verb == Verb::Delete {
                return Ok(Plan { how: How::Delete, before: Some(before), after: After::Nothing });
            }
            let after = of.fixed_keys().map_or(After::ByKeys, |keys| After::Read(of.select(Some(&keys), false)));
            Ok(Plan { how: How::Update, before: Some(before), after })
        }
        Verb::Insert { ignore, upsert } => of.insert(ignore, upsert.then_some(How::Put)),
        Verb::Replace => of.insert(false, Some(How::Replace)),
    }
}

/// The question for the rows of these keys after the write.
#[must_use]
pub fn by_keys(table: &Table, rows: &[Row]) -> Vec<u8> {
    let mut sql = format!("SELECT {} FROM {} WHERE {}", table.selected(), table.name().quoted(), table.by_keys(rows))
        .into_bytes();
    sql.extend(ALL);
    sql
}

struct Statement<'a> {
    write: &'a Write,
    sql: &'a [u8],
    table: &'a Table,
}

impl Statement<'_> {
    fn select(&self, condition: Option<&[u8]>, lock: bool) -> Vec<u8> {
        let mut out = format!("SELECT {} FROM ", self.table.selected()).into_bytes();
        out.extend(slice(self.sql, self.write.table));
        if let Some(alias) = self.write.alias {
            out.push(b' ');
            out.extend(slice(self.sql, alias));
        }
        if let Some(condition) = condition {
            out.extend(b" WHERE ");
            out.extend(condition);
        }
        out.extend(ALL);
        if lock {
            out.extend(b" FOR UPDATE");
        }
        out
    }

    fn key_name(&self, at: usize) -> String {
        self.table.columns.get(at).map(|c| crate::entry::quoted(&c.name)).unwrap_or_default()
    }

    /// `(a IN (…) AND b IN (…))`, where the condition fixes the whole key.
    fn fixed_keys(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for (n, at) in self.table.key.iter().enumerate() {
            let fixed = self.write.fixed.iter().find(|(name, _)| self.table.column(name) == Some(*at))?;
            out.extend(if n > 0 { b" AND ".as_slice() } else { b"" });
            out.extend(self.key_name(*at).into_bytes());
            out.extend(b" IN (");
            for (m, span) in fixed.1.iter().enumerate() {
                out.extend(if m > 0 { b",".as_slice() } else { b"" });
                out.extend(slice(self.sql, *span));
            }
            out.push(b')');
        }
        Some(out)
    }

    /// A literal as its column keeps it, where that is not what it is equal to: BINARY is filled up.
    fn as_stored(&self, at: usize, literal: &[u8]) -> Vec<u8> {
        match self.table.columns.get(at).map(|column| &column.kind) {
            Some(Kind::Binary(length)) => [b"CAST(", literal, format!(" AS BINARY({length}))").as_bytes()].concat(),
            _ => literal.to_vec(),
        }
    }

    /// Where each column of the key stands in a row of VALUES.
    fn places(&self) -> Result<Vec<Option<usize>>, String> {
        let place = |at: &usize| match &self.write.columns {
            Some(names) if names.is_empty() => None,
            Some(names) => names.iter().position(|name| self.table.column(name) == Some(*at)),
            None => Some(*at),
        };
        let width = self.write.columns.as_ref().map_or(self.table.columns.len(), Vec::len);
        let no_names = self.write.columns.is_none() || width == 0;
        // `VALUES ()` gives every column its default
        let fits = |row: &Vec<Expr>| row.len() == width || (no_names && row.is_empty());
        if !self.write.rows.iter().all(fits) {
            return Err("its rows do not have the table's columns".to_owned());
        }
        Ok(self.table.key.iter().map(place).collect())
    }

    fn insert(&self, ignore: bool, put: Option<fn(usize) -> How>) -> Result<Plan, String> {
        let rows = self.write.rows.len();
        let places = self.places()?;
        let value =
            |row: &Vec<Expr>, place: Option<usize>| place.and_then(|at| row.get(at).copied()).unwrap_or(Expr::Default);
        let is_auto = |row: &Vec<Expr>| {
            self.table.auto.is_some()
                && self.table.key.iter().zip(&places).all(|(at, place)| {
                    Some(*at) == self.table.auto && matches!(value(row, *place), Expr::Null | Expr::Default)
                })
        };
        let alone = self.table.only_key;
        if put.is_some() && !alone {
            return Err("it may change rows of other keys, for the table has a second unique key".to_owned());
        }
        if self.write.rows.iter().all(is_auto) {
            if ignore && rows > 1 && !alone {
                return Err("with IGNORE, which of its rows come is not known where their keys are made by the store"
                    .to_owned());
            }
            let how = if ignore { How::InsertIgnore(rows) } else { How::Insert(rows) };
            return Ok(Plan {
                how,
                before: None,
                after: After::Read(self.select(Some(self.made_keys(rows).as_bytes()), false)),
            });
        }
        let mut keys = Vec::new();
        for (n, row) in self.write.rows.iter().enumerate() {
            keys.extend(if n > 0 { b" OR (".as_slice() } else { b"(" });
            for (m, (at, place)) in self.table.key.iter().zip(&places).enumerate() {
                let Expr::Literal(span) = value(row, *place) else {
                    return Err("the primary key of a row that it inserts is no literal".to_owned());
                };
                let literal = slice(self.sql, span);
                // (under NO_AUTO_VALUE_ON_ZERO it would be 0: which, the store knows)
                if self.table.auto == Some(*at)
                    && literal.iter().all(|b| matches!(b, b'0' | b'\'' | b'"' | b'-' | b'+'))
                {
                    return Err(
                        "the primary key of a row that it inserts is 0, which AUTO_INCREMENT may replace".to_owned()
                    );
                }
                keys.extend(if m > 0 { b" AND ".as_slice() } else { b"" });
                keys.extend(self.key_name(*at).into_bytes());
                keys.extend(b" = ");
                keys.extend(self.as_stored(*at, literal));
            }
            keys.push(b')');
        }
        let after = After::Read(self.select(Some(&keys), false));
        Ok(match (put, ignore) {
            (Some(put), _) => Plan { how: put(rows), before: Some(self.select(Some(&keys), true)), after },
            (None, true) => Plan { how: How::InsertIgnore(rows), before: Some(self.select(Some(&keys), true)), after },
            (None, false) => Plan { how: How::Insert(rows), before: None, after },
        })
    }

    /// The rows whose keys the store has just made: one after another from LAST_INSERT_ID() on.
    fn made_keys(&self, rows: usize) -> String {
        let name = self.table.auto.map(|at| self.key_name(at)).unwrap_or_default();
        if rows == 1 {
            return format!("{name} = LAST_INSERT_ID()");
        }
        format!(
            "{name} BETWEEN LAST_INSERT_ID() AND LAST_INSERT_ID() + {} * @@auto_increment_increment \
             AND ({name} - LAST_INSERT_ID()) % @@auto_increment_increment = 0",
            rows - 1
        )
    }
}

/// What changed, from the rows before and after, and what the store says that it did.
///
/// # Errors
/// [`Mismatch`].
pub fn changes(
    how: How,
    table: &Table,
    did: Did,
    before: Vec<Row>,
    after: Vec<Row>,
) -> Result<Vec<RowChange>, Mismatch> {
    let counts = (before.len() as u64, after.len() as u64);
    let list: Result<Vec<Change>, &'static str> = match how {
        How::Delete if did.affected != counts.0 => Err("other rows were deleted than were read"),
        How::Delete => Ok(before.into_iter().map(Change::Delete).collect()),
        How::Update if did.matched.unwrap_or(did.affected) != counts.0 => Err("other rows were updated than were read"),
        How::Update => updated(table, before, after),
        How::Insert(rows) if counts.1 != rows as u64 || did.affected != counts.1 => Err(OTHERS),
        How::Insert(_) => Ok(after.into_iter().map(Change::Insert).collect()),
        // (LAST_INSERT_ID() is an older one where nothing came)
        How::InsertIgnore(_) if did.affected == 0 => Ok(Vec::new()),
        How::InsertIgnore(_) => came(table, did, &before, after),
        How::Put(rows) | How::Replace(rows) if counts.1 != rows as u64 => Err("other rows are there than were written"),
        How::Put(_) | How::Replace(_) => put(how, table, did, before, after),
    };
    let change = |change| RowChange { table: Arc::clone(&table.shape), change, foreign_keys: false };
    match list {
        Ok(list) => Ok(list.into_iter().map(change).collect()),
        Err(what) => {
            let matched = did.matched.map(|n| format!(", {n} matched")).unwrap_or_default();
            let (before, after) = counts;
            Err(Mismatch(format!("{what}: {before} before, {after} after, {} affected{matched}", did.affected)))
        }
    }
}

const OTHERS: &str = "other rows are there than were inserted";

fn keyed(table: &Table, rows: Vec<Row>) -> HashMap<Vec<u8>, Row> {
    rows.into_iter().map(|row| (table.key_of(&row), row)).collect()
}

fn updated(table: &Table, before: Vec<Row>, after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let mut after = keyed(table, after);
    let mut list = Vec::with_capacity(before.len());
    for row in before {
        let new = after.remove(&table.key_of(&row)).ok_or("a row that was updated is not found again by its key")?;
        if row != new {
            list.push(Change::Update(row, new));
        }
    }
    Ok(list)
}

fn came(table: &Table, did: Did, before: &[Row], after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let there: HashSet<Vec<u8>> = before.iter().map(|row| table.key_of(row)).collect();
    let came: Vec<Row> = after.into_iter().filter(|row| !there.contains(&table.key_of(row))).collect();
    if came.len() as u64 != did.affected {
        return Err(OTHERS);
    }
    Ok(came.into_iter().map(Change::Insert).collect())
}

/// What the store counts tells whether the rows that were there are those that were read: one that came in between counts as
/// updated or deleted.
fn put(how: How, table: &Table, did: Did, before: Vec<Row>, after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let (rows, old) = (after.len() as u64, before.len() as u64);
    let mut there = keyed(table, before);
    let (mut same, mut list) = (0, Vec::new());
    for row in after {
        match there.remove(&table.key_of(&row)) {
            Some(old) if old == row => same += 1,
            Some(old) => list.push(Change::Update(old, row)),
            None => list.push(Change::Insert(row)),
        }
    }
    let most = rows + old;
    let counted = match how {
        // a row that is replaced by its like counts once
        How::Replace(_) => (most.saturating_sub(same)..=most).contains(&did.affected),
        // one that is updated twice, one that stays as it is not at all, or once (CLIENT_FOUND_ROWS)
        _ => [most.saturating_sub(2 * same), most.saturating_sub(same)].contains(&did.affected) && there.is_empty(),
    };
    // a key that is the same to its collation, and was written with other bytes: 'b' in the place of 'B'
    let comes = list.iter().filter(|change| matches!(change, Change::Insert(_))).count();
    if !counted || there.len() > comes {
        return Err("other rows were replaced or updated than were read");
    }
    Ok(there.into_values().map(Change::Delete).chain(list).collect())
}

#[cfg(test)]
mod tests {
    use super::super::table::testing::table;
    use super::*;
    use crate::entry::Value;
    use crate::sql::Dialect;
    use crate::sql::writes::read;

    fn plan_of(sql: &str, table: &Table) -> Result<Plan, String> {
        plan(&read(sql.as_bytes(), &Dialect::default()).unwrap(), sql.as_bytes(), table)
    }

    fn asked(sql: &str, table: &Table) -> (How, String, String) {
        let plan = plan_of(sql, table).unwrap_or_else(|why| panic!("{sql}: {why}"));
        let text = |sql: Vec<u8>| {
            let text = String::from_utf8(sql).unwrap();
            assert!(text.contains(" LIMIT 18446744073709551615"), "{text}");
            text.split_once(" FROM ").unwrap().1.replace(" LIMIT 18446744073709551615", "")
        };
        let after = match plan.after {
            After::Nothing => "nothing".to_owned(),
            After::ByKeys => "by keys".to_owned(),
            After::Read(sql) => text(sql),
        };
        (plan.how, plan.before.map(text).unwrap_or_default(), after)
    }

    fn told(how: How, before: &str, after: &str) -> (How, String, String) {
        (how, before.to_owned(), after.to_owned())
    }

    #[test]
    fn rows_are_asked_for_by_key_or_condition() {
        let t = table(true, true);
        let locked = |sql: &str| format!("{sql} FOR UPDATE");
        assert_eq!(
            asked("UPDATE t SET n = 1 WHERE id = 5 AND n > 2", &t),
            told(How::Update, &locked("t WHERE id = 5 AND n > 2"), "t WHERE `id` IN (5)")
        );
        assert_eq!(
            asked("UPDATE d.t x SET n = 1 WHERE n > 2", &t),
            told(How::Update, &locked("d.t x WHERE n > 2"), "by keys")
        );
        assert_eq!(asked("DELETE FROM t", &t), told(How::Delete, &locked("t"), "nothing"));
        assert_eq!(
            asked("INSERT INTO t VALUES (5, NOW(), 'x'), (6, 1, 'y')", &t),
            told(How::Insert(2), "", "t WHERE (`id` = 5) OR (`id` = 6)")
        );
        assert_eq!(
            asked("INSERT INTO t (n) VALUES (1)", &t),
            told(How::Insert(1), "", "t WHERE `id` = LAST_INSERT_ID()")
        );
        assert_eq!(
            asked("INSERT INTO t (id, n) VALUES (NULL, 1)", &t),
            told(How::Insert(1), "", "t WHERE `id` = LAST_INSERT_ID()")
        );
        assert!(
            asked("INSERT INTO t (n) VALUES (1), (2)", &t)
                .2
                .contains("BETWEEN LAST_INSERT_ID() AND LAST_INSERT_ID() + 1 * @@auto")
        );
        let keyed = "t WHERE (`id` = 5)";
        assert_eq!(asked("REPLACE INTO t VALUES (5, 1, 'x')", &t), told(How::Replace(1), &locked(keyed), keyed));
        assert_eq!(
            asked("INSERT INTO t VALUES (5, 1, 'x') ON DUPLICATE KEY UPDATE n = 2", &t),
            told(How::Put(1), &locked(keyed), keyed)
        );
        assert_eq!(
            asked("INSERT IGNORE INTO t VALUES (5, 1, 'x')", &t),
            told(How::InsertIgnore(1), &locked(keyed), keyed)
        );
        assert_eq!(asked("INSERT INTO t () VALUES ()", &t).0, How::Insert(1));
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for (sql, only_key, auto) in [
            ("UPDATE t SET id = 6 WHERE id = 5", true, true),
            ("UPDATE t SET unknown = 6 WHERE id = 5", true, true),
            ("INSERT INTO t VALUES (5, 1, 'x') ON DUPLICATE KEY UPDATE id = 7", true, true),
            ("REPLACE INTO t VALUES (5, 1, 'x')", false, true),
            ("INSERT INTO t VALUES (5, 1, 'x') ON DUPLICATE KEY UPDATE n = 1", false, true),
            ("INSERT IGNORE INTO t (n) VALUES (1), (2)", false, true),
            ("INSERT INTO t VALUES (5, 1, 'x'), (NULL, 2, 'y')", true, true),
            ("INSERT INTO t VALUES (0, 1, 'x')", true, true),
            ("INSERT INTO t VALUES ('0', 1, 'x')", true, true),
            ("INSERT INTO t VALUES (1 + 1, 1, 'x')", true, true),
            ("INSERT INTO t (n) VALUES (1)", true, false),
            ("INSERT INTO t VALUES (1, 2)", true, true),
        ] {
            assert!(plan_of(sql, &table(only_key, auto)).is_err(), "{sql}");
        }
    }

    fn row(id: i64, n: i64) -> Row {
        [Value::Int(id), Value::Int(n), Value::Null].into()
    }

    #[test]
    fn what_was_read_must_be_what_was_done() {
        let t = table(true, true);
        let did = |affected, matched| Did { affected, matched };
        let run = |how, did, before: &[&Row], after: &[&Row]| {
            changes(
                how,
                &t,
                did,
                before.iter().map(|row| (*row).clone()).collect(),
                after.iter().map(|row| (*row).clone()).collect(),
            )
            .map(|list| list.into_iter().map(|c| c.change).collect::<Vec<_>>())
        };
        let (a, b, c) = (row(1, 1), row(1, 2), row(2, 2));
        assert_eq!(
            run(How::Update, did(1, Some(2)), &[&a, &c], &[&c, &b]),
            Ok(vec![Change::Update(a.clone(), b.clone())])
        );
        assert!(run(How::Update, did(1, Some(2)), &[&a], &[&b]).is_err(), "a phantom");
        assert!(run(How::Update, did(1, Some(1)), &[&a], &[&c]).is_err());
        // more than was asked for by a key that means several rows
        assert_eq!(run(How::Update, did(1, Some(1)), &[&a], &[&c, &b]), Ok(vec![Change::Update(a.clone(), b.clone())]));
        assert_eq!(run(How::Delete, did(1, None), &[&a], &[]), Ok(vec![Change::Delete(a.clone())]));
        assert!(run(How::Delete, did(2, None), &[&a], &[]).is_err());
        assert_eq!(run(How::Insert(1), did(1, None), &[], &[&a]), Ok(vec![Change::Insert(a.clone())]));
        assert!(run(How::Insert(1), did(1, None), &[], &[]).is_err(), "the column took the key for another");
        assert_eq!(run(How::InsertIgnore(2), did(1, None), &[&a], &[&a, &c]), Ok(vec![Change::Insert(c.clone())]));
        assert_eq!(run(How::InsertIgnore(1), did(0, None), &[], &[&c]), Ok(vec![]));
        assert!(run(How::InsertIgnore(1), did(1, None), &[&a], &[&a]).is_err());
        assert_eq!(
            run(How::Put(2), did(3, None), &[&a], &[&b, &c]),
            Ok(vec![Change::Update(a.clone(), b.clone()), Change::Insert(c.clone())])
        );
        assert_eq!(
            run(How::Replace(1), did(2, None), &[&a], &[&c]),
            Ok(vec![Change::Delete(a.clone()), Change::Insert(c.clone())])
        );
        assert_eq!(run(How::Put(1), did(0, None), &[&a], &[&a]), Ok(vec![]));
        assert!(run(How::Put(2), did(2, None), &[], &[&a]).is_err(), "two rows of one key");
    }
}
