//! Row events: images of rows → values. Full images only (RULES.md 42): a column that the image leaves out cannot be applied.

use std::io::Read;

use crate::entry::{Change, LoggedType, Row, Value, decimal, temporal};
use crate::wire::codec::{Malformed, Reader};

/// What a row event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// WRITE_ROWS.
    Insert,
    /// UPDATE_ROWS.
    Update,
    /// DELETE_ROWS.
    Delete,
}

/// What sort of row event a type is: its kind, whether of version 2, whether compressed.
#[must_use]
pub fn sort(code: u8) -> Option<(Kind, bool, bool)> {
    Some(match code {
        23 => (Kind::Insert, false, false),
        24 => (Kind::Update, false, false),
        25 => (Kind::Delete, false, false),
        30 => (Kind::Insert, true, false),
        31 => (Kind::Update, true, false),
        32 => (Kind::Delete, true, false),
        166 => (Kind::Insert, false, true),
        167 => (Kind::Update, false, true),
        168 => (Kind::Delete, false, true),
        169 => (Kind::Insert, true, true),
        170 => (Kind::Update, true, true),
        171 => (Kind::Delete, true, true),
        _ => return None,
    })
}

/// Why rows cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The event is broken, or of a server that is not understood.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// An image without all columns.
    #[error("a row image that leaves columns out (binlog_row_image is not FULL in the session that wrote it)")]
    Partial,
    /// A type that is not read: its code.
    #[error("a column of a type that is not read from a log (type {0})")]
    Type(u8),
    /// More or fewer columns than the table map.
    #[error("a row of another number of columns than its table map")]
    Columns,
}

/// Reads every change of a row event's body.
///
/// # Errors
/// [`RowsError`].
pub fn read(body: &[u8], sort: (Kind, bool, bool), types: &[LoggedType]) -> Result<Vec<Change>, RowsError> {
    let (kind, version2, compressed) = sort;
    let mut r = Reader::new(body);
    r.bytes(8)?;
    if version2 {
        let extra = r.u16()?;
        r.bytes(usize::from(extra).saturating_sub(2))?;
    }
    if types.is_empty() || r.lenenc()? != types.len() as u64 {
        return Err(RowsError::Columns);
    }
    let bitmap = types.len().div_ceil(8);
    for _ in 0..if kind == Kind::Update { 2 } else { 1 } {
        let present = r.bytes(bitmap)?;
        if !(0..types.len()).all(|n| bit(present, n)) {
            return Err(RowsError::Partial);
        }
    }
    let unpacked;
    let mut r = if compressed {
        unpacked = uncompress(r.rest())?;
        Reader::new(&unpacked)
    } else {
        r
    };
    let mut changes = Vec::new();
    while !r.is_empty() {
        let first = image(&mut r, types, bitmap)?;
        changes.push(match kind {
            Kind::Insert => Change::Insert(first),
            Kind::Delete => Change::Delete(first),
            Kind::Update => Change::Update(first, image(&mut r, types, bitmap)?),
        });
    }
    Ok(changes)
}

fn bit(bytes: &[u8], n: usize) -> bool {
    bytes.get(n / 8).is_some_and(|b| b >> (n % 8) & 1 == 1)
}

fn image(r: &mut Reader<'_>, types: &[LoggedType], bitmap: usize) -> Result<Row, RowsError> {
    let nulls = r.bytes(bitmap)?;
    let mut row = Vec::with_capacity(types.len());
    for (n, logged) in types.iter().enumerate() {
        row.push(if bit(nulls, n) { Value::Null } else { value(r, *logged)? });
    }
    Ok(row.into())
}

/// MariaDB's `log_bin_compress`: a byte with the number of length bytes, the length big-endian, zlib.
///
/// # Errors
/// [`Malformed`].
pub fn uncompress(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut r = Reader::new(bytes);
    let head = r.u8()?;
    if head & 0x70 != 0 || head & 0x80 == 0 {
        return Err(Malformed("compressed in an unknown way"));
    }
    let length = r.bytes(usize::from(head & 7))?.iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
    if length > 1 << 30 {
        return Err(Malformed("a compressed event beyond 1 GiB"));
    }
    let mut out = Vec::new();
    let read = flate2::read::ZlibDecoder::new(r.rest()).take(length + 1).read_to_end(&mut out);
    if read.is_err() || out.len() as u64 != length {
        return Err(Malformed("a compressed event that does not unpack"));
    }
    Ok(out)
}

fn signed(bytes: &[u8]) -> i64 {
    let mut all = [if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 }; 8];
    all.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    i64::from_le_bytes(all)
}

fn string(r: &mut Reader<'_>, long: bool) -> Result<Value, Malformed> {
    let length = if long { usize::from(r.u16()?) } else { usize::from(r.u8()?) };
    Ok(Value::Bytes(r.bytes(length)?.into()))
}

fn little(r: &mut Reader<'_>, n: u16) -> Result<u64, Malformed> {
    let bytes = r.bytes(usize::from(n))?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn value(r: &mut Reader<'_>, logged: LoggedType) -> Result<Value, RowsError> {
    let meta = logged.meta;
    let [low, high] = meta.to_le_bytes();
    Ok(match logged.code {
        1 => Value::Int(signed(r.bytes(1)?)),
        2 => Value::Int(signed(r.bytes(2)?)),
        9 => Value::Int(signed(r.bytes(3)?)),
        3 => Value::Int(signed(r.bytes(4)?)),
        8 => Value::Int(signed(r.bytes(8)?)),
        4 => Value::Float(f32::from_bits(r.u32()?)),
        5 => Value::Double(f64::from_bits(r.u64()?)),
        246 => Value::Decimal(decimal::read(r, high, low)?),
        13 => match r.u8()? {
            0 => Value::Number(0),
            year => Value::Number(u64::from(year) + 1_900),
        },
        10 | 14 => Value::Temporal(temporal::date(r)?),
        7 => Value::Temporal(temporal::timestamp(r)?),
        17 => Value::Temporal(temporal::timestamp2(r, low)?),
        12 => Value::Temporal(temporal::datetime(r)?),
        18 => Value::Temporal(temporal::datetime2(r, low)?),
        11 => Value::Temporal(temporal::time(r)?),
        19 => Value::Temporal(temporal::time2(r, low)?),
        16 => {
            let bytes = usize::from(high) + usize::from(low > 0);
            Value::Number(r.bytes(bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        247 | 248 if meta <= 8 => Value::Number(little(r, meta)?),
        15 => string(r, meta > 255)?,
        254 => string(r, meta > 255)?,
        252 | 255 if (1..=4).contains(&meta) => {
            let length = little(r, meta)?;
            Value::Bytes(r.bytes(usize::try_from(length).unwrap_or(usize::MAX))?.into())
        }
        code => return Err(RowsError::Type(code)),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPES: [LoggedType; 3] =
        [LoggedType { code: 3, meta: 0 }, LoggedType { code: 15, meta: 40 }, LoggedType { code: 1, meta: 0 }];

    fn event(present: u8, rows: &[u8]) -> Vec<u8> {
        let mut body = vec![18, 0, 0, 0, 0, 0, 1, 0, 3, present];
        body.extend(rows);
        body
    }

    #[test]
    fn full_images_are_read() {
        let body = event(0xFF, &[0b010, 0xFE, 0xFF, 0xFF, 0xFF, 7, 0, 1, 0, 0, 0, 2, b'h', b'i', 0xFF]);
        let changes = read(&body, (Kind::Insert, false, false), &TYPES).unwrap();
        let row = |values: [Value; 3]| Change::Insert(values.into());
        let hi = Value::Bytes(b"hi"[..].into());
        assert_eq!(
            changes,
            [row([Value::Int(-2), Value::Null, Value::Int(7)]), row([Value::Int(1), hi, Value::Int(-1)])]
        );
    }

    /// RULES.md 42: binlog_row_image can be another in each session, so each event is looked at.
    #[test]
    fn minimal_images_are_refused() {
        let sort = (Kind::Insert, false, false);
        assert_eq!(read(&event(0b101, &[]), sort, &TYPES), Err(RowsError::Partial));
        assert_eq!(read(&event(0xFF, &[]), sort, &TYPES[..2]), Err(RowsError::Columns));
    }

    #[test]
    fn compressed_rows_are_read() {
        use std::io::Write;
        let rows = [0b010, 1, 0, 0, 0, 7];
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&rows).unwrap();
        let mut packed = vec![0x81, u8::try_from(rows.len()).unwrap()];
        packed.extend(encoder.finish().unwrap());
        let changes = read(&event(0xFF, &packed), (Kind::Insert, false, true), &TYPES).unwrap();
        assert_eq!(changes, [Change::Insert([Value::Int(1), Value::Null, Value::Int(7)].into())]);
        assert!(uncompress(&[0x81, 7]).is_err() && uncompress(&[0x91, 7, 1]).is_err() && uncompress(&[]).is_err());
    }

    proptest! {
        /// Invariant 9: no bytes make it panic or allocate beyond what they are.
        #[test]
        fn any_bytes(body in proptest::collection::vec(any::<u8>(), 0..200), types in proptest::collection::vec((any::<u8>(), any::<u16>()), 0..20), code in 0u8..=255) {
            let types: Vec<LoggedType> = types.into_iter().map(|(code, meta)| LoggedType { code, meta }).collect();
            if let Some(sort) = sort(code) {
                let _ = read(&body, sort, &types);
            }
            let _ = super::super::table_map::read(&body);
            let _ = super::super::event::read(&body, Some(true));
            let _ = super::super::event::has_checksums(&body);
        }
    }
}
