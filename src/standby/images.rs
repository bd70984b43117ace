//! One change at a time, only where the row is byte for byte as the log's image of it: what a settlement does on either store.
//! Pure.
//!
//! The applier finds rows by their keys, because nobody else writes there. Here somebody may have: so each statement's WHERE
//! holds the whole image, and changes one row or none. Text is compared as bytes, not by its collation.

use std::sync::Arc;

use super::catalog::{Catalog, Description};
use super::merge::{Misfit, Net, fitting};
use super::statements::{Does, LAX, Statement, empty_enums, statements, update};
use crate::entry::{Change, Column, Kind, Row, RowChange, Shape, Value, quoted};

/// The statement of a change that changes exactly one row; none where it changes nothing. It cannot be made of
/// [`Change::Clear`]: [`Misfit::Contradiction`].
///
/// # Errors
/// [`Misfit`].
pub fn statement(catalog: &Catalog, shape: &Shape, change: &Change) -> Result<Option<Statement>, Misfit> {
    let table = fitting(catalog, shape, change)?;
    let does =
        |sql: Vec<u8>| Statement { sql, rows: Some(1), warnings: 0, table: table.name.to_string(), does: Does::Delete };
    Ok(Some(match change {
        Change::Insert(row) => {
            let (removed, changed) = (Vec::new(), Vec::new());
            let table = Arc::clone(table);
            let net = Net { table, shape: None, clear: false, removed, added: vec![row], changed };
            return Ok(statements(&net).pop());
        }
        Change::Delete(row) => {
            let mut sql = format!("DELETE FROM {} WHERE ", table.place().quoted()).into_bytes();
            put_key(&mut sql, table, row);
            put_rest(&mut sql, table, row);
            does(sql)
        }
        Change::Update(before, after) if before == after => return Ok(None),
        Change::Update(before, after) => {
            let mut statement = update(table, before, after);
            put_rest(&mut statement.sql, table, before);
            statement.warnings = empty_enums(&table.columns, after);
            if statement.warnings > 0 {
                statement.sql.splice(0..0, LAX.bytes());
            }
            statement
        }
        Change::Clear => return Err(Misfit::Contradiction(shape.name.clone())),
    }))
}

/// The changes that undo these, in the order in which they do; none where one cannot be undone: why.
///
/// # Errors
/// What cannot be undone.
pub fn undone<'t>(changes: impl Iterator<Item = &'t RowChange>, catalog: &Catalog) -> Result<Vec<RowChange>, String> {
    let mut out = Vec::new();
    for RowChange { table, change, foreign_keys } in changes {
        let acts = catalog.get(&table.name).is_some_and(|known| *foreign_keys && known.cascades_with(change));
        let back = match change {
            _ if acts => {
                return Err(format!("a foreign key acted when a row of {} went, which no log holds", table.name));
            }
            Change::Insert(row) => Change::Delete(row.clone()),
            Change::Delete(row) => Change::Insert(row.clone()),
            Change::Update(before, after) => Change::Update(after.clone(), before.clone()),
            Change::Clear => return Err(format!("{} was emptied (TRUNCATE), which no log undoes", table.name)),
        };
        out.push(RowChange { table: Arc::clone(table), change: back, foreign_keys: *foreign_keys });
    }
    out.reverse();
    Ok(out)
}

/// The rows that a change names: any image with the key, one or two.
#[must_use]
pub fn rows(change: &Change) -> Vec<&Row> {
    match change {
        Change::Insert(row) | Change::Delete(row) => vec![row],
        Change::Update(before, after) => vec![before, after],
        Change::Clear => Vec::new(),
    }
}

/// The key of a row, in a form for sets.
#[must_use]
pub fn key(table: &Description, row: &Row) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.key.iter().filter_map(|at| row.get(*at)).for_each(|value| value.put_key(&mut bytes));
    bytes
}

/// `SELECT` of all columns of the row with this key.
#[must_use]
pub fn select(table: &Description, row: &Row) -> Vec<u8> {
    let names: Vec<String> = table.columns.iter().map(|column| quoted(&column.name)).collect();
    let mut sql = format!("SELECT {} FROM {} WHERE ", names.join(","), table.place().quoted()).into_bytes();
    put_key(&mut sql, table, row);
    sql
}

/// Appends `a = … AND b = …`: the key, which an index finds.
fn put_key(sql: &mut Vec<u8>, table: &Description, row: &Row) {
    let key = table.key.iter().filter_map(|at| Some((*at, table.columns.get(*at)?)));
    for (n, (at, column)) in key.enumerate() {
        sql.extend(format!("{}{} = ", if n > 0 { " AND " } else { "" }, quoted(&column.name)).bytes());
        column.put_key(sql, row.get(at).unwrap_or(&Value::Null));
    }
}

/// Appends that every column is as in the image.
fn put_rest(sql: &mut Vec<u8>, table: &Description, row: &Row) {
    for (at, column) in table.columns.iter().enumerate().filter(|(_, column)| !column.generated) {
        let value = row.get(at).unwrap_or(&Value::Null);
        let name = quoted(&column.name);
        let exact = match (&column.kind, value) {
            (_, Value::Null) => name,
            (Kind::Text(_), _) => format!("CAST({name} AS BINARY)"),
            (Kind::Enum | Kind::Set | Kind::Bit | Kind::Year, _) => format!("{name} + 0"),
            _ => name,
        };
        sql.extend(format!(" AND {exact} <=> ").bytes());
        match (&column.kind, value) {
            (Kind::Binary(_), value) => column.put_key(sql, value),
            (_, value) => column.put(sql, value),
        }
    }
}

/// Characters of a value that are shown.
const SHOWN: usize = 1_000;

/// A row as people read it: `id = 5, name = 'x'`.
#[must_use]
pub fn readable(table: &Description, row: &Row) -> String {
    let shown = table.columns.iter().enumerate().map(|(at, column)| {
        format!("{} = {}", column.name, readable_value(column, row.get(at).unwrap_or(&Value::Null)))
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Its key as people read it.
#[must_use]
pub fn readable_key(table: &Description, row: &Row) -> String {
    let key = table.key.iter().filter_map(|at| Some((table.columns.get(*at)?, row.get(*at)?)));
    key.map(|(column, value)| format!("{} = {}", column.name, readable_value(column, value)))
        .collect::<Vec<_>>()
        .join(", ")
}

fn readable_value(column: &Column, value: &Value) -> String {
    match value {
        Value::Bytes(bytes) if !matches!(column.kind, Kind::Inet(_) | Kind::Uuid) => readable_bytes(bytes),
        value => {
            let mut out = Vec::new();
            column.put(&mut out, value);
            String::from_utf8_lossy(&out).into_owned()
        }
    }
}

/// Text in quotes, other bytes in hexadecimal digits; long ones are cut.
#[must_use]
pub fn readable_bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => {
            let cut = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
            format!("'{}'{cut}", text.chars().take(SHOWN).collect::<String>().replace('\'', "''"))
        }
        _ => {
            let cut = if bytes.len() > SHOWN / 2 { "…" } else { "" };
            format!("X'{}'{cut}", bytes.iter().take(SHOWN / 2).map(|b| format!("{b:02X}")).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::testing::{catalog, name, shape};
    use super::*;

    fn row(id: i64, text: &str) -> Row {
        [Value::Int(id), Value::Bytes(text.as_bytes().into())].into()
    }

    fn sql(change: &Change) -> String {
        let statement = statement(&catalog(), &shape(), change).unwrap().unwrap();
        assert_eq!(statement.rows, Some(1));
        String::from_utf8(statement.sql).unwrap()
    }

    #[test]
    fn the_whole_image_is_compared() {
        let whole = "`id` = 1 AND `id` <=> 1 AND CAST(`u` AS BINARY) <=> 'a'";
        assert_eq!(sql(&Change::Delete(row(1, "a"))), format!("DELETE FROM `d`.`t` WHERE {whole}"));
        let update = format!("UPDATE `d`.`t` SET `id` = 1, `u` = 'b' WHERE {whole}");
        assert_eq!(sql(&Change::Update(row(1, "a"), row(1, "b"))), update);
        assert_eq!(sql(&Change::Insert(row(1, "a"))), "INSERT INTO `d`.`t` (`id`,`u`) VALUES (1,'a')");
        assert_eq!(statement(&catalog(), &shape(), &Change::Update(row(1, "a"), row(1, "a"))), Ok(None));
        assert!(statement(&catalog(), &shape(), &Change::Clear).is_err());
    }

    #[test]
    fn undoing_goes_backwards() {
        let table = Arc::new(shape());
        let of = |change| RowChange { table: Arc::clone(&table), change, foreign_keys: true };
        let list = [
            of(Change::Insert(row(1, "a"))),
            of(Change::Update(row(1, "a"), row(2, "b"))),
            of(Change::Delete(row(2, "b"))),
        ];
        let back = undone(list.iter(), &catalog()).unwrap();
        let wanted =
            [Change::Insert(row(2, "b")), Change::Update(row(2, "b"), row(1, "a")), Change::Delete(row(1, "a"))];
        assert_eq!(back.into_iter().map(|c| c.change).collect::<Vec<_>>(), wanted);
        assert!(undone([of(Change::Clear)].iter(), &catalog()).unwrap_err().contains("TRUNCATE"));
    }

    #[test]
    fn people_read_text_and_digits() {
        let table = &catalog()[&name()];
        assert_eq!(readable(table, &row(7, "it's")), "id = 7, u = 'it''s'");
        assert_eq!(readable_key(table, &row(7, "x")), "id = 7");
        assert_eq!(readable_bytes(b"\xFF\0"), "X'FF00'");
        assert!(readable_bytes("é".repeat(2_000).as_bytes()).ends_with("é'…"));
    }
}
