//! The values that COM_STMT_EXECUTE brings.
//!
//! Source: MySQL "Binary Protocol Value"; MariaDB 10.11 `sql_prepare.cc` (`set_param_*`).

use std::borrow::Cow;

use super::codec::Reader;
use super::command::{EXECUTE_FIXED, execute_types};

/// A value that is bound to a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound<'a> {
    /// NULL.
    Null,
    /// TINY … LONGLONG.
    Int(i64),
    /// The same, UNSIGNED.
    Unsigned(u64),
    /// FLOAT (widened, as the server does it) and DOUBLE.
    Double(f64),
    /// A DATE (10), DATETIME (12), TIMESTAMP (7) or TIME (11), and the bytes that say it.
    Temporal(u8, &'a [u8]),
    /// A value of any other type, and its bytes.
    Bytes(u8, Cow<'a, [u8]>),
}

/// The values of a COM_STMT_EXECUTE payload; `None` where it is malformed or a type is not known.
///
/// `types` are two bytes a parameter: those that came last. `long` gives what came by COM_STMT_SEND_LONG_DATA for a parameter.
#[must_use]
pub fn execute_values<'a>(
    payload: &'a [u8],
    parameters: u16,
    types: &[u8],
    long: impl Fn(usize) -> Option<Vec<u8>>,
) -> Option<Vec<Bound<'a>>> {
    if parameters == 0 {
        return Some(Vec::new());
    }
    let place = execute_types(payload, parameters)?;
    let nulls = payload.get(EXECUTE_FIXED..place.flag_at)?;
    let mut r = Reader::new(payload.get(place.flag_at + 1 + if place.bound { place.bytes } else { 0 }..)?);
    let mut values = Vec::with_capacity(usize::from(parameters));
    for at in 0..usize::from(parameters) {
        let (kind, unsigned) = (*types.get(at * 2)?, *types.get(at * 2 + 1)? & 0x80 != 0);
        if let Some(data) = long(at) {
            values.push(Bound::Bytes(kind, Cow::Owned(data)));
            continue;
        }
        if nulls.get(at / 8)? >> (at % 8) & 1 == 1 {
            values.push(Bound::Null);
            continue;
        }
        values.push(value(&mut r, kind, unsigned)?);
    }
    Some(values)
}

fn value<'a>(r: &mut Reader<'a>, kind: u8, unsigned: bool) -> Option<Bound<'a>> {
    let int = |signed: i64, plain: u64| if unsigned { Bound::Unsigned(plain) } else { Bound::Int(signed) };
    Some(match kind {
        0x01 => {
            let v = r.u8().ok()?;
            int(i64::from(v.cast_signed()), u64::from(v))
        }
        0x02 => {
            let v = r.u16().ok()?;
            int(i64::from(v.cast_signed()), u64::from(v))
        }
        0x03 | 0x09 => {
            let v = r.u32().ok()?;
            int(i64::from(v.cast_signed()), u64::from(v))
        }
        0x08 => {
            let v = r.u64().ok()?;
            int(v.cast_signed(), v)
        }
        0x04 => Bound::Double(f64::from(f32::from_bits(r.u32().ok()?))),
        0x05 => Bound::Double(f64::from_bits(r.u64().ok()?)),
        0x06 => Bound::Null,
        0x07 | 0x0A..=0x0C => Bound::Temporal(kind, r.lenenc_bytes().ok()?),
        0x00 | 0x0F | 0x10 | 0xF5..=0xFF => Bound::Bytes(kind, Cow::Borrowed(r.lenenc_bytes().ok()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_every_kind() {
        // BIGINT, NULL, DATE, long data, text, TINY UNSIGNED, FLOAT
        let mut p = vec![0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0b10, 1];
        p.extend([8, 0, 15, 0, 10, 0, 0xFC, 0, 0xFD, 0, 1, 0x80, 4, 0]);
        let types = p[12..].to_vec();
        p.extend([0xFB, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4, 0xE6, 7, 1, 2, 2, b'a', b'b', 0xFF]);
        p.extend(1.5f32.to_le_bytes());
        let values = execute_values(&p, 7, &types, |at| (at == 3).then(|| b"long".to_vec())).unwrap();
        let text = |bytes: &'static [u8]| Cow::Borrowed(bytes);
        assert_eq!(
            values,
            [
                Bound::Int(-5),
                Bound::Null,
                Bound::Temporal(10, &[0xE6, 7, 1, 2]),
                Bound::Bytes(0xFC, text(b"long")),
                Bound::Bytes(0xFD, text(b"ab")),
                Bound::Unsigned(255),
                Bound::Double(1.5),
            ]
        );
        assert_eq!(execute_values(&p[..p.len() - 1], 7, &types, |_| None), None);
        assert_eq!(execute_values(&p, 0, &[], |_| None), Some(Vec::new()));
    }

    proptest! {
        /// Invariant 9: no bytes make it panic.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60), types in proptest::collection::vec(any::<u8>(), 0..12), n in 0u16..9) {
            let _ = execute_values(&bytes, n, &types, |_| None);
        }
    }
}
