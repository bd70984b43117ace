//! Row changes ⇄ the bytes of an entry's payload. Exact: what is read is what was written, and no bytes make it panic or
//! allocate beyond what they are.
//!
//! ```text
//! payload := version(1)  tables: n { database, name, types: n { code(1) meta(2) } }  changes: n { table, sort(1), row{0,2} }
//! row     := n { tag(1) value }                       n and lengths are int<lenenc>, names and bytes string<lenenc>
//! ```

use std::sync::Arc;

use crate::entry::{Change, LoggedType, Row, RowChange, Shape, TableName, Value};
use crate::wire::codec::{Malformed, Reader, put_lenenc, put_lenenc_bytes};

const VERSION: u8 = 1;
const INSERT: u8 = 0;
const UPDATE: u8 = 1;
const DELETE: u8 = 2;
const CLEAR: u8 = 3;
/// Foreign keys were at work.
const FOREIGN_KEYS: u8 = 0x80;

/// The payload of these changes.
#[must_use]
pub fn write(changes: &[RowChange]) -> Vec<u8> {
    let mut shapes: Vec<&Arc<Shape>> = Vec::new();
    let mut body = Vec::new();
    put_lenenc(&mut body, changes.len() as u64);
    for change in changes {
        let at = shapes.iter().position(|known| **known == change.table).unwrap_or_else(|| {
            shapes.push(&change.table);
            shapes.len() - 1
        });
        put_lenenc(&mut body, at as u64);
        let (sort, rows): (u8, [Option<&Row>; 2]) = match &change.change {
            Change::Insert(after) => (INSERT, [Some(after), None]),
            Change::Update(before, after) => (UPDATE, [Some(before), Some(after)]),
            Change::Delete(before) => (DELETE, [Some(before), None]),
            Change::Clear => (CLEAR, [None, None]),
        };
        body.push(sort | if change.foreign_keys { FOREIGN_KEYS } else { 0 });
        rows.into_iter().flatten().for_each(|row| put_row(&mut body, row));
    }
    let mut out = vec![VERSION];
    put_lenenc(&mut out, shapes.len() as u64);
    for shape in shapes {
        put_lenenc_bytes(&mut out, shape.name.database.as_bytes());
        put_lenenc_bytes(&mut out, shape.name.name.as_bytes());
        put_lenenc(&mut out, shape.types.len() as u64);
        for logged in &shape.types {
            out.push(logged.code);
            out.extend(logged.meta.to_le_bytes());
        }
    }
    out.extend(body);
    out
}

fn put_row(out: &mut Vec<u8>, row: &Row) {
    put_lenenc(out, row.len() as u64);
    for value in row {
        match value {
            Value::Null => out.push(0),
            Value::Int(v) => {
                out.push(1);
                out.extend(v.to_le_bytes());
            }
            Value::Float(v) => {
                out.push(2);
                out.extend(v.to_bits().to_le_bytes());
            }
            Value::Double(v) => {
                out.push(3);
                out.extend(v.to_bits().to_le_bytes());
            }
            Value::Number(v) => {
                out.push(4);
                out.extend(v.to_le_bytes());
            }
            Value::Decimal(v) => put_bytes(out, 5, v.as_bytes()),
            Value::Temporal(v) => put_bytes(out, 6, v.as_bytes()),
            Value::Bytes(v) => put_bytes(out, 7, v),
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_lenenc_bytes(out, bytes);
}

/// The changes of a payload.
///
/// # Errors
/// [`Malformed`] for bytes that are none.
pub fn read(payload: &[u8]) -> Result<Vec<RowChange>, Malformed> {
    let mut r = Reader::new(payload);
    if r.u8()? != VERSION {
        return Err(Malformed("a payload of another version"));
    }
    let mut shapes = Vec::new();
    for _ in 0..r.lenenc()? {
        let name = TableName { database: text(r.lenenc_bytes()?)?, name: text(r.lenenc_bytes()?)? };
        let mut types = Vec::new();
        for _ in 0..r.lenenc()? {
            types.push(LoggedType { code: r.u8()?, meta: r.u16()? });
        }
        shapes.push(Arc::new(Shape { name, types }));
    }
    let mut changes = Vec::new();
    for _ in 0..r.lenenc()? {
        let at = usize::try_from(r.lenenc()?).unwrap_or(usize::MAX);
        let table = shapes.get(at).map(Arc::clone).ok_or(Malformed("a change of no table"))?;
        let sort = r.u8()?;
        let columns = table.types.len();
        let change = match sort & !FOREIGN_KEYS {
            INSERT => Change::Insert(row(&mut r, columns)?),
            UPDATE => Change::Update(row(&mut r, columns)?, row(&mut r, columns)?),
            DELETE => Change::Delete(row(&mut r, columns)?),
            CLEAR => Change::Clear,
            _ => return Err(Malformed("a change of an unknown sort")),
        };
        changes.push(RowChange { table, change, foreign_keys: sort & FOREIGN_KEYS != 0 });
    }
    if r.is_empty() { Ok(changes) } else { Err(Malformed("bytes behind the last change")) }
}

fn row(r: &mut Reader<'_>, columns: usize) -> Result<Row, Malformed> {
    if r.lenenc()? != columns as u64 {
        return Err(Malformed("a row of another number of columns than its table"));
    }
    (0..columns).map(|_| value(r)).collect()
}

fn value(r: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match r.u8()? {
        0 => Value::Null,
        1 => Value::Int(r.u64()?.cast_signed()),
        2 => Value::Float(f32::from_bits(r.u32()?)),
        3 => Value::Double(f64::from_bits(r.u64()?)),
        4 => Value::Number(r.u64()?),
        5 => Value::Decimal(text(r.lenenc_bytes()?)?.into()),
        6 => Value::Temporal(text(r.lenenc_bytes()?)?.into()),
        7 => Value::Bytes(r.lenenc_bytes()?.into()),
        _ => return Err(Malformed("a value of an unknown sort")),
    })
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("text that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Number),
            any::<f32>().prop_filter("stored", |v| v.is_finite()).prop_map(Value::Float),
            any::<f64>().prop_filter("stored", |v| v.is_finite()).prop_map(Value::Double),
            "-?[0-9]{1,20}\\.[0-9]{1,5}".prop_map(|v| Value::Decimal(v.into())),
            "[0-9:. -]{8,26}".prop_map(|v| Value::Temporal(v.into())),
            proptest::collection::vec(any::<u8>(), 0..600).prop_map(|v| Value::Bytes(v.into())),
        ]
    }

    fn any_change(columns: usize) -> impl Strategy<Value = Change> {
        let row = || proptest::collection::vec(any_value(), columns..=columns).prop_map(Row::from);
        prop_oneof![
            row().prop_map(Change::Insert),
            (row(), row()).prop_map(|(a, b)| Change::Update(a, b)),
            row().prop_map(Change::Delete),
            Just(Change::Clear),
        ]
    }

    proptest! {
        /// Invariant 3: a payload is read back as what was written.
        #[test]
        fn payloads_round_trip(list in proptest::collection::vec((0usize..3, any_change(3), any::<bool>()), 0..12)) {
            let shapes: Vec<Arc<Shape>> = ["a", "b", "ñ`"].iter().map(|name| {
                let name = TableName { database: "d".into(), name: (*name).into() };
                Arc::new(Shape { name, types: vec![LoggedType { code: 3, meta: 7 }; 3] })
            }).collect();
            let changes: Vec<RowChange> = list.into_iter().map(|(at, change, foreign_keys)| {
                RowChange { table: Arc::clone(&shapes[at]), change, foreign_keys }
            }).collect();
            let payload = write(&changes);
            prop_assert_eq!(read(&payload).unwrap(), changes);
            for cut in 0..payload.len() {
                prop_assert!(read(&payload[..cut]).is_err());
            }
        }

        /// Invariant 9: no bytes make it panic.
        #[test]
        fn any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            bytes.insert(0, VERSION);
            let _ = read(&bytes);
        }
    }
}
