//! What a column is on the standby, and how a value of the log is written for it as an SQL literal.
//!
//! Literals are for a connection with `SET NAMES binary` (no literal is converted: a column takes the bytes as they are),
//! time zone +00:00 and a sql_mode without NO_BACKSLASH_ESCAPES. Keys in a WHERE carry their column's character set, so that
//! the column's collation compares and its index is used.

use super::LoggedType;
use super::value::Value;
use crate::wire::hex::hex;

/// What kind of column, as far as literals and comparisons differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// TINYINT … BIGINT, by bytes.
    Int {
        /// 1, 2, 3, 4 or 8.
        bytes: u8,
        /// UNSIGNED (or ZEROFILL).
        unsigned: bool,
    },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// DECIMAL.
    Decimal,
    /// BIT.
    Bit,
    /// YEAR.
    Year,
    /// ENUM.
    Enum,
    /// SET.
    Set,
    /// DATE, TIME, DATETIME, TIMESTAMP.
    Temporal,
    /// CHAR, VARCHAR, TEXT: the character set.
    Text(String),
    /// BINARY of so many bytes.
    Binary(usize),
    /// VARBINARY, BLOB, geometry.
    Bytes,
    /// INET4, INET6: so many bytes of an address.
    Inet(usize),
    /// UUID, whose bytes the server stores in another order than it prints them.
    Uuid,
}

impl Kind {
    /// As information_schema says it: DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, CHARACTER_OCTET_LENGTH.
    #[must_use]
    pub fn of(data_type: &str, column_type: &str, charset: &str, octets: &str) -> Kind {
        let unsigned = column_type.contains("unsigned") || column_type.contains("zerofill");
        let int = |bytes| Kind::Int { bytes, unsigned };
        match data_type.to_lowercase().as_str() {
            "tinyint" => int(1),
            "smallint" => int(2),
            "mediumint" => int(3),
            "int" => int(4),
            "bigint" => int(8),
            "float" => Kind::Float,
            "double" | "real" => Kind::Double,
            "decimal" => Kind::Decimal,
            "bit" => Kind::Bit,
            "year" => Kind::Year,
            "enum" => Kind::Enum,
            "set" => Kind::Set,
            "date" | "time" | "datetime" | "timestamp" => Kind::Temporal,
            "inet4" => Kind::Inet(4),
            "inet6" => Kind::Inet(16),
            "uuid" => Kind::Uuid,
            "binary" => Kind::Binary(octets.parse().unwrap_or(0)),
            _ if !charset.is_empty() => Kind::Text(charset.to_owned()),
            _ => Kind::Bytes,
        }
    }
}

/// A column of a table on the standby.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its type in words, for messages.
    pub words: String,
    /// Computed by the server: read past, never written.
    pub generated: bool,
    /// Its collation; empty where it has none.
    pub collation: String,
}

impl Column {
    /// Whether values of this type in the log fit this column bit by bit.
    #[must_use]
    pub fn takes(&self, logged: LoggedType) -> bool {
        match (&self.kind, logged.code) {
            (Kind::Int { bytes, .. }, code) => {
                let width = match code {
                    1 => 1,
                    2 => 2,
                    9 => 3,
                    3 => 4,
                    8 => 8,
                    _ => 0,
                };
                *bytes == width
            }
            (Kind::Float, 4)
            | (Kind::Double, 5)
            | (Kind::Decimal, 246)
            | (Kind::Bit, 16)
            | (Kind::Year, 13)
            | (Kind::Enum, 247)
            | (Kind::Set, 248)
            | (Kind::Temporal, 7 | 10 | 11 | 12 | 14 | 17 | 18 | 19)
            | (Kind::Text(_), 15 | 252 | 254)
            | (Kind::Binary(_) | Kind::Inet(_) | Kind::Uuid, 254)
            | (Kind::Bytes, 15 | 252 | 255) => true,
            _ => false,
        }
    }

    /// Appends `value` as it stands in VALUES (…).
    pub fn put(&self, out: &mut Vec<u8>, value: &Value) {
        match value {
            Value::Null => out.extend(b"NULL"),
            Value::Int(v) => put_int(out, *v, &self.kind),
            Value::Float(v) => put_double(out, f64::from(*v)),
            Value::Double(v) => put_double(out, *v),
            Value::Number(v) => out.extend(v.to_string().bytes()),
            Value::Decimal(v) => out.extend(v.bytes()),
            Value::Temporal(v) => {
                out.push(b'\'');
                out.extend(v.bytes());
                out.push(b'\'');
            }
            Value::Bytes(v) => self.put_bytes(out, v),
        }
    }

    fn put_bytes(&self, out: &mut Vec<u8>, v: &[u8]) {
        match self.kind {
            Kind::Inet(length) => put_quoted(out, &padded(v, length)),
            Kind::Uuid => out.extend(format!("_latin1'{}'", uuid(v)).bytes()),
            _ => put_quoted(out, v),
        }
    }

    /// Appends `value` as it stands behind `column =` in a WHERE.
    pub fn put_key(&self, out: &mut Vec<u8>, value: &Value) {
        match (&self.kind, value) {
            (Kind::Text(charset), Value::Bytes(v)) => {
                out.push(b'_');
                out.extend(charset.bytes());
                put_quoted(out, v);
            }
            (Kind::Binary(length), Value::Bytes(v)) => put_quoted(out, &padded(v, *length)),
            (_, value) => self.put(out, value),
        }
    }
}

fn put_int(out: &mut Vec<u8>, v: i64, kind: &Kind) {
    let text = match kind {
        Kind::Int { bytes, unsigned: true } => {
            let mask = if *bytes >= 8 { u64::MAX } else { (1u64 << (8 * u32::from(*bytes))) - 1 };
            (v.cast_unsigned() & mask).to_string()
        }
        _ => v.to_string(),
    };
    out.extend(text.bytes());
}

/// Shortest digits that read back as the same double; the exponent makes it a DOUBLE literal rather than a DECIMAL.
fn put_double(out: &mut Vec<u8>, v: f64) {
    out.extend(format!("{v:e}").bytes());
}

/// The log drops trailing zero bytes.
fn padded(v: &[u8], length: usize) -> Vec<u8> {
    let mut bytes = v.to_vec();
    bytes.resize(length.max(v.len()), 0);
    bytes
}

/// MariaDB 10.7 to 10.11 store the last segments of a UUID first (sql/sql_type_uuid.h), versions 6 and 7 excepted from
/// 10.11.5 on: those begin with their time already.
fn uuid(v: &[u8]) -> String {
    let bytes = padded(v, 16);
    let part = |from: usize, length: usize| bytes.get(from..from + length).map(hex).unwrap_or_default();
    let swapped = bytes.get(6).is_some_and(|b| b & 0x80 != 0) || bytes.get(8).is_none_or(|b| b & 0x80 == 0);
    if swapped {
        // node(6) clock(2) high(2) middle(2) low(4)
        return format!("{}-{}-{}-{}-{}", part(12, 4), part(10, 2), part(8, 2), part(6, 2), part(0, 6));
    }
    format!("{}-{}-{}-{}-{}", part(0, 4), part(4, 2), part(6, 2), part(8, 2), part(10, 6))
}

/// A string literal; only what would end it, or be taken for an escape, is escaped.
pub fn put_quoted(out: &mut Vec<u8>, v: &[u8]) {
    out.reserve(v.len() + 2);
    out.push(b'\'');
    let mut rest = v;
    while let Some(at) = memchr::memchr3(b'\'', b'\\', 0, rest) {
        let (head, tail) = rest.split_at(at);
        out.extend_from_slice(head);
        out.push(b'\\');
        match tail.split_first() {
            Some((0, after)) => {
                out.push(b'0');
                rest = after;
            }
            Some((byte, after)) => {
                out.push(*byte);
                rest = after;
            }
            None => rest = &[],
        }
    }
    out.extend_from_slice(rest);
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn column(kind: Kind) -> Column {
        Column { name: "c".into(), kind, words: String::new(), generated: false, collation: String::new() }
    }

    fn literal(kind: Kind, value: &Value) -> String {
        let mut out = Vec::new();
        column(kind).put(&mut out, value);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn signs_follow_the_column() {
        let int = |bytes, unsigned| Kind::Int { bytes, unsigned };
        assert_eq!(literal(int(1, true), &Value::Int(-1)), "255");
        assert_eq!(literal(int(3, true), &Value::Int(-1)), "16777215");
        assert_eq!(literal(int(8, true), &Value::Int(-1)), "18446744073709551615");
        assert_eq!(literal(int(8, false), &Value::Int(i64::MIN)), "-9223372036854775808");
    }

    #[test]
    fn floats_are_doubles_with_all_their_digits() {
        assert_eq!(literal(Kind::Float, &Value::Float(0.1)), "1.0000000149011612e-1");
        assert_eq!(literal(Kind::Double, &Value::Double(0.1)), "1e-1");
        assert_eq!(literal(Kind::Double, &Value::Double(f64::MIN_POSITIVE)), "2.2250738585072014e-308");
    }

    #[test]
    fn keys_carry_their_character_set() {
        let key = |kind, value: &[u8]| {
            let mut out = Vec::new();
            column(kind).put_key(&mut out, &Value::Bytes(value.into()));
            out
        };
        assert_eq!(key(Kind::Text("latin1".into()), b"\xE4'"), b"_latin1'\xE4\\''");
        assert_eq!(key(Kind::Binary(4), b"ab"), b"'ab\\0\\0'");
        assert_eq!(key(Kind::Bytes, b"ab"), b"'ab'");
    }

    /// MariaDB 10.11 takes a binary string for the address itself, so the text of a UUID must not be one.
    #[test]
    fn addresses_are_bytes_and_uuids_text() {
        assert_eq!(literal(Kind::Inet(4), &Value::Bytes([10, 0, 0, 1].into())), "'\u{a}\\0\\0\u{1}'");
        // the log drops trailing zero bytes
        assert_eq!(literal(Kind::Inet(4), &Value::Bytes([].into())), "'\\0\\0\\0\\0'");
        // MariaDB 10.11: 123e4567-e89b-12d3-a456-426655440000
        let stored = [0x42, 0x66, 0x55, 0x44, 0, 0, 0xa4, 0x56, 0x12, 0xd3, 0xe8, 0x9b, 0x12, 0x3e, 0x45, 0x67];
        let text = "_latin1'123e4567-e89b-12d3-a456-426655440000'";
        assert_eq!(literal(Kind::Uuid, &Value::Bytes(stored.into())), text);
    }

    proptest! {
        /// Invariant 3: no bytes end a literal early or are taken for an escape.
        #[test]
        fn quoting_round_trips(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut out = Vec::new();
            put_quoted(&mut out, &bytes);
            let mut back = Vec::new();
            let mut inner = out[1..out.len() - 1].iter();
            while let Some(&b) = inner.next() {
                prop_assert_ne!(b, b'\'');
                back.push(match b {
                    b'\\' => match inner.next() { Some(b'0') => 0, Some(&b) => b, None => unreachable!() },
                    b => b,
                });
            }
            prop_assert_eq!(back, bytes);
        }

        /// Invariant 3: a double is read back as itself.
        #[test]
        fn doubles_round_trip(v in any::<f64>().prop_filter("stored", |v| v.is_finite())) {
            prop_assert_eq!(literal(Kind::Double, &Value::Double(v)).parse::<f64>().unwrap().to_bits(), v.to_bits());
        }
    }
}
