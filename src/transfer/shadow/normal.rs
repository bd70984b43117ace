//! A value as it compares where two stores may write the same one in several ways: numbers, points in time, texts of a collation.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::backend::connection::Column;

/// BINARY among the flags of a column: its collation compares bytes.
const BINARY: u16 = 128;
/// The collation of what is no text.
const BYTES: u16 = 63;
/// Floats closer than this share of themselves are equal.
const CLOSE: f64 = 1e-6;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Nothing,
    Integer,
    Decimal,
    Float,
    Time,
    Text,
    Bytes,
    Json,
}

/// The family of a column's type.
pub(super) fn family(column: &Column) -> Family {
    match column.kind {
        0x01..=0x03 | 0x08 | 0x09 | 0x0D => Family::Integer,
        0x00 | 0xF6 => Family::Decimal,
        0x04 | 0x05 => Family::Float,
        0x06 => Family::Nothing,
        0x07 | 0x0A..=0x0C | 0x0E | 0x11..=0x13 => Family::Time,
        0xF5 => Family::Json,
        _ if column.collation == BYTES => Family::Bytes,
        _ => Family::Text,
    }
}

/// How the values of two columns compare with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Byte by byte.
    Exact,
    /// As numbers, exactly.
    Number,
    /// As numbers, nearly.
    Nearly,
    /// As points in time.
    Time,
    /// Without case and trailing spaces.
    Loose,
    /// As what they say.
    Json,
}

/// How two columns compare.
pub(super) fn way(one: &Column, other: &Column) -> Way {
    let families = [family(one), family(other)];
    let has = |family| families.contains(&family);
    match () {
        () if has(Family::Float) => Way::Nearly,
        () if has(Family::Integer) || has(Family::Decimal) => Way::Number,
        () if has(Family::Time) => Way::Time,
        () if has(Family::Json) => Way::Json,
        () if has(Family::Bytes) || (one.flags & other.flags & BINARY != 0) => Way::Exact,
        () => Way::Loose,
    }
}

/// A value as it compares.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Normal<'a> {
    Null,
    Number(f64),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Normal<'a> {
    pub(super) fn of(value: Option<&'a [u8]>, way: Way) -> Normal<'a> {
        let Some(value) = value else { return Normal::Null };
        let text = || std::str::from_utf8(value).ok();
        let bytes = match way {
            Way::Exact => None,
            Way::Nearly => match text().and_then(|t| t.trim().parse::<f64>().ok()).filter(|n| n.is_finite()) {
                Some(number) => return Normal::Number(number),
                None => None,
            },
            Way::Number => text().and_then(decimal),
            Way::Time => text().map(moment),
            Way::Loose => text().map(|t| t.trim_end_matches(' ').chars().flat_map(char::to_lowercase).collect()),
            Way::Json => text().and_then(|t| serde_json::from_str::<serde_json::Value>(t).ok()).map(|v| v.to_string()),
        };
        Normal::Bytes(bytes.map_or(Cow::Borrowed(value), |text| Cow::Owned(text.into_bytes())))
    }

    /// Whether two are the same value.
    pub(super) fn same(&self, other: &Normal<'_>) -> bool {
        match (self, other) {
            (Normal::Number(a), Normal::Number(b)) => a == b || (a - b).abs() <= CLOSE * a.abs().max(b.abs()),
            (Normal::Bytes(a), Normal::Bytes(b)) => a == b,
            (Normal::Null, Normal::Null) => true,
            _ => false,
        }
    }

    /// Whether it is one that compares nearly.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Normal::Number(_))
    }

    /// An order for sorting: of no meaning beyond that.
    pub(super) fn order(&self, other: &Normal<'_>) -> Ordering {
        match (self, other) {
            (Normal::Number(a), Normal::Number(b)) => a.total_cmp(b),
            (Normal::Bytes(a), Normal::Bytes(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Normal::Null => 0,
            Normal::Number(_) => 1,
            Normal::Bytes(_) => 2,
        }
    }
}

/// A number without what says nothing: `-001.500` is `-1.5`. `None` where it is none.
fn decimal(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() || !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (whole, part) = (whole.trim_start_matches('0'), part.trim_end_matches('0'));
    Some(match (whole, part) {
        ("", "") => "0".to_owned(),
        (whole, "") => format!("{sign}{whole}"),
        (whole, part) => format!("{sign}{}.{part}", if whole.is_empty() { "0" } else { whole }),
    })
}

/// A point in time without fractions that say nothing, and without a midnight.
fn moment(text: &str) -> String {
    let text = text.trim();
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
    text.strip_suffix(" 00:00:00").unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_moments_without_what_says_nothing() {
        let of = |text: &str| decimal(text).unwrap();
        for (text, is) in
            [("1.50", "1.5"), ("-001", "-1"), ("0.0", "0"), ("-0.00", "0"), (".5", "0.5"), ("100", "100"), ("+7.", "7")]
        {
            assert_eq!(of(text), is, "{text}");
        }
        for text in ["", "-", ".", "1e5", "abc", "1.2.3"] {
            assert_eq!(decimal(text), None, "{text}");
        }
        assert_eq!(moment("2020-01-02 03:04:05.120000"), "2020-01-02 03:04:05.12");
        assert_eq!(moment("2020-01-02 03:04:05.000"), "2020-01-02 03:04:05");
        assert_eq!(moment("2020-01-02 00:00:00.000"), "2020-01-02");
        assert_eq!(moment("10:20:00"), "10:20:00");
    }

    #[test]
    fn floats_are_near_by_share() {
        let number = Normal::Number;
        assert!(number(1e9).same(&number(1e9 + 1.0)) && !number(1e9).same(&number(1e9 + 1e4)));
        assert!(number(0.0).same(&number(-0.0)) && !number(0.0).same(&number(1e-9)));
        assert!(!number(1.0).same(&Normal::Null) && Normal::Null.same(&Normal::Null));
    }
}
