//! How a write's rows are read before and after it, and what changed in between. Pure.
//!
//! ```text
//! Write + Table ─► Plan { before, after } ─► rows before, the write's own count, rows after ─► changes, or a mismatch
//!                  questions.rs                                                                 changes.rs
//! ```
//!
//! What is read is checked against what the store says that the write did: where the numbers differ (a row came between the
//! reading and the write, which READ COMMITTED lets happen; a key that the column took for another value), nothing is recorded and
//! the write is undone. Never wrong in silence. Why equal numbers are enough:
//!
//! | write | the rows before it are locked, so | and |
//! |---|---|---|
//! | UPDATE, DELETE by a condition that means the same twice | the write takes all of them | no others, where it counts as many |
//! | one that may not (LIMIT, subqueries, the time of day) | only the write can have changed them | it changed no others, where it counts as many changed as are |
//! | INSERT of keys that are named | | the rows of those keys are its own, where none was there and it counts as many |
//! | INSERT of keys that the store makes | | they are those from LAST_INSERT_ID() on, by the store's promise |
//! | INSERT … SELECT | the query reads the same rows again | their keys name the rows |

mod changes;
mod questions;

pub use changes::{changes, net};
pub use questions::{Alone, Rows, afterwards, alone, by_keys, later, plan};

use crate::entry::Row;

/// How the rows of a write are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// So many rows come, and none goes.
    Insert(usize),
    /// At most so many come: those that do not fit are left out.
    InsertIgnore(usize),
    /// So many are there afterwards, whether they were before or not: ON DUPLICATE KEY UPDATE.
    Put(usize),
    /// The same, on a table with other unique keys: by any of them a row may have been there.
    PutAny,
    /// So many are there afterwards, in the place of the old ones: REPLACE.
    Replace(usize),
    /// The same, on a table with other unique keys: several may go for one.
    ReplaceAny(usize),
    /// INSERT IGNORE on a table with other unique keys, of keys that the store makes.
    InsertAny,
    /// The rows of a query come, of which the keys are known.
    InsertFrom,
    /// The rows of a query come; the store makes their keys.
    InsertMade,
    /// Rows stay, and change.
    Update,
    /// Some of those that were read change.
    UpdateSome,
    /// Rows change, and their keys with them.
    Move,
    /// Rows go.
    Delete,
    /// Some of those that were read go.
    DeleteSome,
}

/// How the rows after a write are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After {
    /// There are none.
    Nothing,
    /// By this, in the packet of the write.
    Read(Vec<u8>),
    /// By what came of the write ([`later`]).
    Later,
}

/// What a column of the key becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Becomes {
    /// This literal.
    Literal(String),
    /// The number that stands in this column behind those of the table, in the answer to the question before.
    Number(usize),
}

/// What to ask around a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How its rows are told.
    pub how: How,
    /// The question before it, which locks.
    pub before: Option<Vec<u8>>,
    /// A question before it whose rows are counted.
    pub counted: Option<Vec<u8>>,
    /// The question after it.
    pub after: After,
    /// Columns of the key that it changes.
    pub moves: Vec<(usize, Becomes)>,
}

impl Plan {
    fn new(how: How, before: Option<Vec<u8>>, after: After) -> Plan {
        Plan { how, before, counted: None, after, moves: Vec::new() }
    }
}

/// What the store says that a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Did {
    /// Affected rows of its OK.
    pub affected: u64,
    /// "Rows matched" of its OK, where it says so.
    pub matched: Option<u64>,
    /// "Changed" of its OK, where it says so.
    pub changed: Option<u64>,
    /// The first key that it made.
    pub insert_id: u64,
    /// Rows of the answer to [`Plan::counted`].
    pub counted: u64,
}

/// Rows, and what stands behind the table's columns in each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Before {
    /// The rows.
    pub rows: Vec<Row>,
    /// What was computed with each.
    pub computed: Vec<Vec<Option<Vec<u8>>>>,
}

/// The rows that were read are not those that the write changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

#[cfg(test)]
mod tests {
    use super::super::table::Table;
    use super::super::table::testing::table;
    use super::*;
    use crate::entry::{Change, Row, Value};
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
            After::Later => "by keys".to_owned(),
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
            told(How::Update, &locked("t WHERE id = 5 AND n > 2"), &locked("t WHERE `id` IN (5)"))
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
        assert_eq!(
            asked("REPLACE INTO t VALUES (5, 1, 'x')", &t),
            told(How::Replace(1), &locked(keyed), &locked(keyed))
        );
        assert_eq!(
            asked("INSERT INTO t VALUES (5, 1, 'x') ON DUPLICATE KEY UPDATE n = 2", &t),
            told(How::Put(1), &locked(keyed), &locked(keyed))
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
            ("UPDATE t SET unknown = 6 WHERE id = 5", true, true),
            ("INSERT INTO t VALUES (5, 1, 'x') ON DUPLICATE KEY UPDATE id = 7", true, true),
            ("INSERT INTO t VALUES (5, 1, 'x') ON DUPLICATE KEY UPDATE n = 1", false, true),
            ("REPLACE INTO t VALUES (5, n + 1, 'x')", false, true),
            ("INSERT INTO t VALUES (5, 1, 'x'), (NULL, 2, 'y')", true, true),
            ("INSERT INTO t VALUES (1, 2)", true, true),
            ("INSERT INTO t VALUES (UUID(), 1, 'x')", true, true),
            ("INSERT INTO t VALUES (0, 1, 'x'), (0, 2, 'y')", true, true),
            ("UPDATE t SET id = 6 WHERE id = 5 LIMIT 1", true, true),
            ("UPDATE t SET n = 3, id = n WHERE id = 5", true, true),
            ("UPDATE t SET id = (SELECT 1)", true, true),
            ("INSERT INTO t SELECT id, n, v FROM t", true, true),
            ("INSERT INTO t SELECT * FROM u", true, true),
            ("INSERT INTO t SELECT a, RAND(), b FROM u", true, true),
            ("INSERT IGNORE INTO t (n) SELECT a FROM u", true, true),
            ("REPLACE INTO t SELECT a, b, c FROM u", true, true),
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
        let did = |affected, matched| Did { affected, matched, changed: matched, ..Did::default() };
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
