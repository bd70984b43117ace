//! What is left to do on a table → SQL, with what the standby must answer to each statement. Pure.

use std::sync::Arc;

use super::catalog::{Catalog, Description};
use super::merge::{Misfit, Net, fitting};
use crate::entry::{Change, Column, Kind, Row, RowChange, Transaction, Value, quoted};

/// A statement, and what its OK must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The text; of events, these.
    pub sql: Vec<u8>,
    /// Affected rows; none where any number is right.
    pub rows: Option<u64>,
    /// Warnings.
    pub warnings: u16,
    /// The table, for messages.
    pub table: String,
    /// What it does, for messages.
    pub does: Does,
}

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Empties a table.
    Clear,
    /// Deletes rows by their keys.
    Delete,
    /// Inserts rows.
    Insert,
    /// Changes a row.
    Update,
    /// Applies row events; what it does not find, or finds already, is an error.
    Events,
    /// Sets a variable.
    Set,
}

/// Bytes after which a statement is full, and rows.
const FULL: usize = 1 << 20;
/// (MariaDB turns IN lists from 1,000 on into a join with a temporary table.)
const DELETES: usize = 500;
const INSERTS: usize = 5_000;

/// sql_mode for rows that a strict mode would refuse although the authority holds them: ENUM's empty value.
pub(super) const LAX: &str = "SET STATEMENT sql_mode = 'NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES' FOR ";

/// The statements of a transaction that set cascades off: change by change, so that the standby's own foreign keys do what
/// the authority's did. Cascades are no part of a binlog (MariaDB 10.11, MySQL 8.0: InnoDB does them, below the log).
///
/// # Errors
/// [`Misfit`].
pub fn in_order(transaction: &Transaction, catalog: &Catalog) -> Result<Vec<Statement>, Misfit> {
    let mut out = Vec::new();
    let mut checks = false;
    for RowChange { table: shape, change, foreign_keys } in &transaction.changes {
        let table = fitting(catalog, shape, change)?;
        if *foreign_keys != checks {
            checks = *foreign_keys;
            out.push(foreign_key_checks(checks));
        }
        let name = shape.name.to_string();
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        match change {
            Change::Insert(row) => added.push(row),
            Change::Delete(row) => removed.push(row),
            Change::Update(before, after) if before != after => out.push(update(table, before, after)),
            Change::Update(..) => {}
            Change::Clear => {
                // TRUNCATE sets no cascade off, and is refused where one could be
                let (table, changed) = (Arc::clone(table), Vec::new());
                let net = Net { table, shape: None, clear: true, removed, added, changed };
                out.push(foreign_key_checks(false));
                checks = false;
                out.extend(statements(&net));
                continue;
            }
        }
        let net = Net { table: Arc::clone(table), shape: None, clear: false, removed, added, changed: Vec::new() };
        deletes(&net, &net.removed, &name, &mut out);
        out.extend(statements(&Net { removed: Vec::new(), ..net }));
    }
    if checks {
        out.push(foreign_key_checks(false));
    }
    Ok(out)
}

fn foreign_key_checks(on: bool) -> Statement {
    let sql = format!("SET foreign_key_checks = {}", u8::from(on)).into_bytes();
    Statement { sql, rows: None, warnings: 0, table: String::new(), does: Does::Set }
}

pub(super) fn update(table: &Description, before: &Row, after: &Row) -> Statement {
    let mut sql = format!("UPDATE {} SET ", table.place().quoted()).into_bytes();
    let columns = table.columns.iter().enumerate().filter(|(_, column)| !column.generated);
    for (n, (at, column)) in columns.enumerate() {
        sql.extend(format!("{}{} = ", if n > 0 { ", " } else { "" }, quoted(&column.name)).bytes());
        column.put(&mut sql, after.get(at).unwrap_or(&Value::Null));
    }
    sql.extend(b" WHERE ");
    let key = table.key.iter().filter_map(|at| Some((*at, table.columns.get(*at)?)));
    for (n, (at, column)) in key.enumerate() {
        sql.extend(format!("{}{} = ", if n > 0 { " AND " } else { "" }, quoted(&column.name)).bytes());
        column.put_key(&mut sql, before.get(at).unwrap_or(&Value::Null));
    }
    Statement { sql, rows: Some(1), warnings: 0, table: table.name.to_string(), does: Does::Update }
}

/// The statement that empties a table.
pub(super) fn clear(net: &Net<'_>) -> Statement {
    let sql = format!("DELETE FROM {}", net.table.place().quoted()).into_bytes();
    Statement { sql, rows: None, warnings: 0, table: net.table.name.to_string(), does: Does::Clear }
}

/// The statements of a table, in order.
#[must_use]
pub fn statements(net: &Net<'_>) -> Vec<Statement> {
    let mut out: Vec<Statement> = net.clear.then(|| clear(net)).into_iter().collect();
    let table = net.table.name.to_string();
    // an upsert that misses its row would meet another one by a second unique key
    let (gone, come): (Vec<&Row>, Vec<&Row>) = net.changed.iter().copied().filter(|_| !net.table.only_key).unzip();
    let changed: Vec<&Row> = net.changed.iter().filter(|_| net.table.only_key).map(|(_, after)| *after).collect();
    let removed = [net.removed.as_slice(), &gone].concat();
    let added = [net.added.as_slice(), &come].concat();
    deletes(net, &removed, &table, &mut out);
    for (rows, does) in [(&changed, Does::Update), (&added, Does::Insert)] {
        let (odd, usual): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| has_empty_enum(&net.table.columns, row));
        inserts(net, "", &usual, does, &mut out);
        inserts(net, LAX, &odd, does, &mut out);
    }
    out
}

fn has_empty_enum(columns: &[Column], row: &Row) -> bool {
    empty_enums(columns, row) > 0
}

pub(super) fn empty_enums(columns: &[Column], row: &Row) -> u16 {
    let empty =
        columns.iter().zip(row).filter(|(c, v)| c.kind == Kind::Enum && !c.generated && **v == Value::Number(0));
    u16::try_from(empty.count()).unwrap_or(u16::MAX)
}

/// `WHERE k IN (…)`, or `WHERE (a = … AND b = …) OR …`: forms whose ranges every version finds.
fn deletes(net: &Net<'_>, rows: &[&Row], table: &str, out: &mut Vec<Statement>) {
    let key: Vec<(usize, &Column)> =
        net.table.key.iter().filter_map(|at| Some((*at, net.table.columns.get(*at)?))).collect();
    let head = format!("DELETE FROM {} WHERE ", net.table.place().quoted());
    let mut open: Option<Statement> = None;
    for row in rows {
        let statement = open.get_or_insert_with(|| {
            let mut sql = head.clone().into_bytes();
            if let [(_, column)] = key.as_slice() {
                sql.extend(format!("{} IN (", quoted(&column.name)).bytes());
            }
            Statement { sql, rows: Some(0), warnings: 0, table: table.to_owned(), does: Does::Delete }
        });
        let count = statement.rows.unwrap_or(0);
        let sql = &mut statement.sql;
        if let [(at, column)] = key.as_slice() {
            if count > 0 {
                sql.push(b',');
            }
            column.put_key(sql, row.get(*at).unwrap_or(&Value::Null));
        } else {
            sql.extend(if count > 0 { b" OR (".as_slice() } else { b"(" });
            for (n, (at, column)) in key.iter().enumerate() {
                sql.extend(format!("{}{} = ", if n > 0 { " AND " } else { "" }, quoted(&column.name)).bytes());
                column.put_key(sql, row.get(*at).unwrap_or(&Value::Null));
            }
            sql.push(b')');
        }
        statement.rows = Some(count + 1);
        if sql.len() >= FULL || count + 1 >= DELETES as u64 {
            out.extend(open.take().map(|s| closed(s, key.len())));
        }
    }
    out.extend(open.map(|s| closed(s, key.len())));
}

fn closed(mut statement: Statement, columns: usize) -> Statement {
    if columns == 1 {
        statement.sql.push(b')');
    }
    statement
}

/// Rows that come; or, as [`Does::Update`], rows that stay: where the only unique key is the one that finds the row, an upsert
/// of a row that is there is an update of that row. It counts two rows, and one where the row was not there after all.
fn inserts(net: &Net<'_>, prefix: &str, rows: &[&Row], does: Does, out: &mut Vec<Statement>) {
    let table = net.table.name.to_string();
    let (each, tail) = if does == Does::Update { (2, upsert(net)) } else { (1, String::new()) };
    let close = |mut statement: Statement| {
        statement.sql.extend(tail.bytes());
        statement.rows = statement.rows.map(|n| n * each);
        statement
    };
    let columns: Vec<(usize, &Column)> = net.table.columns.iter().enumerate().filter(|(_, c)| !c.generated).collect();
    let names: Vec<String> = columns.iter().map(|(_, c)| quoted(&c.name)).collect();
    let head = format!("{prefix}INSERT INTO {} ({}) VALUES ", net.table.place().quoted(), names.join(","));
    let mut open: Option<Statement> = None;
    for row in rows {
        let statement = open.get_or_insert_with(|| {
            let mut sql = Vec::with_capacity(4_096);
            sql.extend(head.bytes());
            Statement { sql, rows: Some(0), warnings: 0, table: table.clone(), does }
        });
        let count = statement.rows.unwrap_or(0);
        let sql = &mut statement.sql;
        sql.extend(if count > 0 { b",(".as_slice() } else { b"(" });
        for (n, (at, column)) in columns.iter().enumerate() {
            if n > 0 {
                sql.push(b',');
            }
            column.put(sql, row.get(*at).unwrap_or(&Value::Null));
        }
        sql.push(b')');
        statement.rows = Some(count + 1);
        statement.warnings = statement.warnings.saturating_add(empty_enums(&net.table.columns, row));
        if statement.sql.len() >= FULL || count + 1 >= INSERTS as u64 {
            out.extend(open.take().map(&close));
        }
    }
    out.extend(open.map(close));
}

/// Every column, those of the key too: none is left to ON UPDATE CURRENT_TIMESTAMP.
fn upsert(net: &Net<'_>) -> String {
    let names =
        net.table.columns.iter().filter(|c| !c.generated).map(|c| format!("{0} = VALUES({0})", quoted(&c.name)));
    format!(" ON DUPLICATE KEY UPDATE {}", names.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::catalog::testing::{catalog, name};
    use super::*;

    fn row(id: i64, text: &str) -> Row {
        [Value::Int(id), Value::Bytes(text.as_bytes().into())].into()
    }

    #[test]
    fn deletes_come_before_inserts() {
        let rows = [row(1, "a"), row(2, "it's"), row(3, "c")];
        let mut net = Net {
            table: Arc::clone(&catalog()[&name()]),
            shape: None,
            clear: false,
            removed: vec![&rows[0], &rows[1]],
            added: vec![&rows[1], &rows[2]],
            changed: Vec::new(),
        };
        let text = |net: &Net<'_>| {
            let list = statements(net);
            list.into_iter().map(|s| (String::from_utf8(s.sql).unwrap(), s.rows.unwrap_or(0))).collect::<Vec<_>>()
        };
        let insert = "INSERT INTO `d`.`t` (`id`,`u`) VALUES (2,'it\\'s'),(3,'c')".to_owned();
        assert_eq!(text(&net), [("DELETE FROM `d`.`t` WHERE `id` IN (1,2)".to_owned(), 2), (insert.clone(), 2)]);
        let mut two = (*net.table).clone();
        two.key = vec![0, 1];
        net.table = Arc::new(two);
        let delete =
            "DELETE FROM `d`.`t` WHERE (`id` = 1 AND `u` = _utf8mb4'a') OR (`id` = 2 AND `u` = _utf8mb4'it\\'s')";
        assert_eq!(text(&net), [(delete.to_owned(), 2), (insert, 2)]);
        net.clear = true;
        assert_eq!(text(&net)[0].0, "DELETE FROM `d`.`t`");
        let table = |only_key| Arc::new(Description { only_key, ..(*catalog()[&name()]).clone() });
        let changed = vec![(&rows[0], &rows[0]), (&rows[1], &rows[2])];
        let (removed, added) = (Vec::new(), Vec::new());
        let net = Net { table: table(false), shape: None, clear: false, removed, added, changed };
        let does: Vec<Does> = statements(&net).iter().map(|statement| statement.does).collect();
        assert_eq!(does, [Does::Delete, Does::Insert]);
        let (table, changed) = (table(true), net.changed);
        let net = Net { table, shape: None, clear: false, removed: Vec::new(), added: Vec::new(), changed };
        let upsert = "INSERT INTO `d`.`t` (`id`,`u`) VALUES (1,'a'),(3,'c') ON DUPLICATE KEY UPDATE `id` = VALUES(`id`),`u` = VALUES(`u`)";
        assert_eq!(text(&net), [(upsert.to_owned(), 4)]);
    }

    #[test]
    fn statements_are_bounded() {
        let rows: Vec<Row> = (0..12_000).map(|id| row(id, "x")).collect();
        let net = Net {
            table: Arc::clone(&catalog()[&name()]),
            shape: None,
            clear: false,
            removed: rows.iter().take(1_001).collect(),
            added: rows.iter().collect(),
            changed: Vec::new(),
        };
        let list = statements(&net);
        let counts: Vec<u64> = list.iter().filter_map(|s| s.rows).collect();
        assert_eq!(counts, [500, 500, 1, 5_000, 5_000, 2_000]);
        assert!(list.iter().all(|s| s.sql.len() < FULL + 100));
    }
}
