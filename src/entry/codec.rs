//! A transaction as bytes, and back: for keeping it in a table until it is settled. Exact, as all of this layer.
//!
//! ```text
//! version, id, committed_at, after, bytes, shapes (name, types), changes (shape, foreign_keys, kind, rows)
//! ```
//!
//! Numbers are little-endian; strings and lists carry their length as four bytes.

use std::sync::Arc;

use super::{Change, LoggedType, Position, Row, RowChange, Shape, TableName, Transaction, Value};
use crate::wire::codec::{Malformed, Reader};

const VERSION: u8 = 1;

/// As bytes.
#[must_use]
pub fn encode(transaction: &Transaction) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_bytes(&mut out, transaction.id.as_bytes());
    out.extend(transaction.committed_at.to_le_bytes());
    put_bytes(&mut out, transaction.after.to_string().as_bytes());
    out.extend((transaction.bytes as u64).to_le_bytes());
    let mut shapes: Vec<&Arc<Shape>> = Vec::new();
    let mut changes = Vec::new();
    for change in &transaction.changes {
        let known = shapes.iter().position(|shape| Arc::ptr_eq(shape, &change.table) || **shape == change.table);
        let at = known.unwrap_or_else(|| {
            shapes.push(&change.table);
            shapes.len() - 1
        });
        put_length(&mut changes, at);
        changes.push(u8::from(change.foreign_keys));
        put_change(&mut changes, &change.change);
    }
    put_length(&mut out, shapes.len());
    for shape in shapes {
        put_bytes(&mut out, shape.name.database.as_bytes());
        put_bytes(&mut out, shape.name.name.as_bytes());
        put_length(&mut out, shape.types.len());
        for logged in &shape.types {
            out.push(logged.code);
            out.extend(logged.meta.to_le_bytes());
        }
    }
    put_length(&mut out, transaction.changes.len());
    out.extend(changes);
    out
}

/// From bytes.
///
/// # Errors
/// [`Malformed`] for what [`encode`] did not write.
pub fn decode(bytes: &[u8]) -> Result<Transaction, Malformed> {
    let mut r = Reader::new(bytes);
    if r.u8()? != VERSION {
        return Err(Malformed("a kept transaction of another version"));
    }
    let id = text(&mut r)?;
    let committed_at = r.u32()?;
    let after: Position = text(&mut r)?.parse().map_err(|_| Malformed("a kept transaction without a position"))?;
    let bytes = usize::try_from(r.u64()?).map_err(|_| Malformed("a kept transaction beyond memory"))?;
    let mut shapes = Vec::new();
    for _ in 0..r.u32()? {
        let name = TableName { database: text(&mut r)?, name: text(&mut r)? };
        let mut types = Vec::new();
        for _ in 0..r.u32()? {
            types.push(LoggedType { code: r.u8()?, meta: r.u16()? });
        }
        shapes.push(Arc::new(Shape { name, types }));
    }
    let mut changes = Vec::new();
    for _ in 0..r.u32()? {
        let at = r.u32()? as usize;
        let table = shapes.get(at).map(Arc::clone).ok_or(Malformed("a kept change of no table"))?;
        let foreign_keys = r.u8()? == 1;
        changes.push(RowChange { table, change: change(&mut r)?, foreign_keys });
    }
    Ok(Transaction { id, committed_at, changes, after, bytes })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend(bytes);
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    let (kind, rows): (u8, &[&Row]) = match change {
        Change::Insert(row) => (0, &[row]),
        Change::Update(before, after) => (1, &[before, after]),
        Change::Delete(row) => (2, &[row]),
        Change::Clear => (3, &[]),
    };
    out.push(kind);
    for row in rows {
        put_length(out, row.len());
        row.iter().for_each(|value| put_value(out, value));
    }
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Int(v) => put_fixed(out, 1, &v.to_le_bytes()),
        Value::Float(v) => put_fixed(out, 2, &v.to_bits().to_le_bytes()),
        Value::Double(v) => put_fixed(out, 3, &v.to_bits().to_le_bytes()),
        Value::Number(v) => put_fixed(out, 4, &v.to_le_bytes()),
        Value::Decimal(v) => {
            out.push(5);
            put_bytes(out, v.as_bytes());
        }
        Value::Temporal(v) => {
            out.push(6);
            put_bytes(out, v.as_bytes());
        }
        Value::Bytes(v) => {
            out.push(7);
            put_bytes(out, v);
        }
    }
}

fn put_fixed(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend(bytes);
}

fn blob<'b>(r: &mut Reader<'b>) -> Result<&'b [u8], Malformed> {
    let length = r.u32()? as usize;
    r.bytes(length)
}

fn text(r: &mut Reader<'_>) -> Result<String, Malformed> {
    String::from_utf8(blob(r)?.to_vec()).map_err(|_| Malformed("a kept text that is none"))
}

fn change(r: &mut Reader<'_>) -> Result<Change, Malformed> {
    Ok(match r.u8()? {
        0 => Change::Insert(row(r)?),
        1 => Change::Update(row(r)?, row(r)?),
        2 => Change::Delete(row(r)?),
        3 => Change::Clear,
        _ => return Err(Malformed("a kept change of no kind")),
    })
}

fn row(r: &mut Reader<'_>) -> Result<Row, Malformed> {
    let mut values = Vec::new();
    for _ in 0..r.u32()? {
        values.push(value(r)?);
    }
    Ok(values.into())
}

fn value(r: &mut Reader<'_>) -> Result<Value, Malformed> {
    Ok(match r.u8()? {
        0 => Value::Null,
        1 => Value::Int(r.u64()?.cast_signed()),
        2 => Value::Float(f32::from_bits(r.u32()?)),
        3 => Value::Double(f64::from_bits(r.u64()?)),
        4 => Value::Number(r.u64()?),
        5 => Value::Decimal(text(r)?.into()),
        6 => Value::Temporal(text(r)?.into()),
        7 => Value::Bytes(blob(r)?.into()),
        _ => return Err(Malformed("a kept value of no type")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_row() -> impl Strategy<Value = Row> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Number),
            any::<f32>().prop_filter("stored", |v| v.is_finite()).prop_map(Value::Float),
            any::<f64>().prop_filter("stored", |v| v.is_finite()).prop_map(Value::Double),
            "[0-9.-]{0,8}".prop_map(|v| Value::Decimal(v.into())),
            "[0-9:-]{0,8}".prop_map(|v| Value::Temporal(v.into())),
            proptest::collection::vec(any::<u8>(), 0..6).prop_map(|v| Value::Bytes(v.into())),
        ];
        proptest::collection::vec(value, 0..4).prop_map(Into::into)
    }

    proptest! {
        /// Invariant 4: what is kept is what was read; and bytes that end early or are others' are refused, not guessed.
        #[test]
        fn what_is_kept_comes_back(changes in proptest::collection::vec((0u8..4, any::<bool>(), 0u8..3, any_row(), any_row()), 0..6), cut in any::<prop::sample::Index>(), noise in proptest::collection::vec(any::<u8>(), 0..40)) {
            let shapes: Vec<Arc<Shape>> = (0..3u8).map(|n| {
                let name = TableName { database: "d".into(), name: format!("tä{n}") };
                Arc::new(Shape { name, types: vec![LoggedType { code: n, meta: 400 }] })
            }).collect();
            let changes = changes.into_iter().map(|(kind, foreign_keys, at, a, b)| {
                let change = match kind {
                    0 => Change::Insert(a),
                    1 => Change::Update(a, b),
                    2 => Change::Delete(a),
                    _ => Change::Clear,
                };
                RowChange { table: Arc::clone(&shapes[usize::from(at)]), change, foreign_keys }
            }).collect();
            let after = "0-1-7,3-1-2".parse().unwrap();
            let t = Transaction { id: "0-1-7".into(), committed_at: 1_700_000_000, changes, after, bytes: 99 };
            let bytes = encode(&t);
            prop_assert_eq!(decode(&bytes), Ok(t));
            prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
            let _ = decode(&[&[VERSION], &noise[..]].concat());
        }
    }
}
