//! The parameters of a prepared statement as literals, and its text with them in their place.
//!
//! A literal compares and converts as its parameter does: a text is in character_set_client and takes the connection's collation
//! (so it stands in quotes), bytes are binary, a double keeps its bits, a point in time its type. What has no literal of its own
//! (a date that is none, bytes that are no text of the connection's character set) gets one that is near it, and is marked:
//! good enough to look for rows, not to be written.

use super::dialect::{CharsetClass, Dialect};
use super::lex::{Lexeme, Lexer};
use crate::wire::bound::Bound;

/// Bytes of a text that is written as a literal: a packet has 16 MiB, and what is quoted may take twice its room.
const SHORT: usize = 1 << 20;

/// A value as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal {
    /// The text.
    pub text: Vec<u8>,
    /// It is the parameter's very value.
    pub exact: bool,
    /// However it is read, it ends no statement.
    pub plain: bool,
    /// All of it is digits, in a parameter of text: LIMIT takes it as a number.
    digits: bool,
}

impl Literal {
    fn of(text: impl Into<Vec<u8>>) -> Literal {
        Literal { text: text.into(), exact: true, plain: true, digits: false }
    }

    /// A literal that is a value of a statement's own: what a user variable holds.
    #[must_use]
    pub fn own(text: String) -> Literal {
        Literal { exact: false, ..Literal::of(text) }
    }
}

/// The literal of a value.
#[must_use]
pub fn literal(value: &Bound<'_>, dialect: &Dialect) -> Literal {
    match value {
        Bound::Null => Literal::of("NULL"),
        Bound::Int(v) => Literal::of(v.to_string()),
        Bound::Unsigned(v) => Literal::of(v.to_string()),
        Bound::Double(v) if v.is_finite() => Literal::of(format!("{v:e}")),
        Bound::Double(_) => Literal { exact: false, ..Literal::of("NULL") },
        Bound::Temporal(kind, bytes) => temporal(*kind, bytes),
        Bound::Bytes(0x00 | 0xF6, bytes) if is_decimal(bytes) => Literal::of(bytes.as_ref()),
        // TINYBLOB … BLOB: binary, whatever the connection's character set is
        Bound::Bytes(0xF9..=0xFC, bytes) => Literal { exact: bytes.len() <= SHORT, ..Literal::of(binary(bytes)) },
        Bound::Bytes(kind, bytes) => {
            let mut literal = quoted(bytes, dialect);
            literal.exact &= matches!(kind, 0x0F | 0xFD | 0xFE);
            literal
        }
    }
}

fn is_decimal(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (whole, part) = match memchr::memchr(b'.', digits) {
        Some(at) => (digits.get(..at).unwrap_or_default(), digits.get(at + 1..).unwrap_or_default()),
        None => (digits, b"0".as_slice()),
    };
    let all = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    digits.len() <= 66 && all(whole) && all(part)
}

fn binary(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2 + 12);
    out.push_str("_binary X'");
    bytes.iter().for_each(|byte| out.push_str(&format!("{byte:02X}")));
    out.push('\'');
    out
}

fn quoted(bytes: &[u8], dialect: &Dialect) -> Literal {
    let mut text = Vec::with_capacity(bytes.len() + 2);
    let mut odd = false;
    text.push(b'\'');
    let mut rest = bytes;
    while let Some((byte, behind)) = rest.split_first() {
        let length = dialect.charset.char_len(*byte, behind);
        if length > 1 {
            let (character, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            text.extend(character);
            rest = behind;
            continue;
        }
        if *byte == b'\'' || (*byte == b'\\' && !dialect.no_backslash_escapes) {
            text.push(*byte);
        }
        odd |= matches!(byte, b'\'' | b'\\');
        text.push(*byte);
        rest = behind;
    }
    text.push(b'\'');
    // (what is not valid in the connection's character set is stored, or refused, by other rules than a literal)
    let known = dialect.charset == CharsetClass::Safe && std::str::from_utf8(bytes).is_ok();
    let ends = memchr::memchr(b';', bytes).is_some() || memchr::memmem::find(bytes, b"/*").is_some();
    let digits = !bytes.is_empty() && bytes.len() < 20 && bytes.iter().all(u8::is_ascii_digit);
    Literal {
        exact: bytes.len() <= SHORT && (bytes.is_ascii() || known),
        plain: !(ends && (odd || dialect.charset != CharsetClass::Safe)),
        text,
        digits,
    }
}

fn temporal(kind: u8, bytes: &[u8]) -> Literal {
    let at = |n: usize| u32::from(bytes.get(n).copied().unwrap_or(0));
    let micros = |from: usize| {
        let part = bytes.get(from..from + 4).and_then(|b| <[u8; 4]>::try_from(b).ok());
        part.map(u32::from_le_bytes).filter(|v| *v > 0).map(|v| format!(".{v:06}")).unwrap_or_default()
    };
    if kind == 0x0B {
        let days = bytes.get(1..5).and_then(|b| <[u8; 4]>::try_from(b).ok()).map_or(0, u32::from_le_bytes);
        let hours = u64::from(days) * 24 + u64::from(at(5));
        let sign = if at(0) == 1 { "-" } else { "" };
        let text = format!("TIME'{sign}{hours:02}:{:02}:{:02}{}'", at(6), at(7), micros(8));
        return Literal { exact: hours <= 838 && at(6) < 60 && at(7) < 60, ..Literal::of(text) };
    }
    let year = bytes.first_chunk::<2>().map_or(0, |b| u32::from(u16::from_le_bytes(*b)));
    let (month, day) = (at(2), at(3));
    let date = format!("{year:04}-{month:02}-{day:02}");
    let time = format!("{:02}:{:02}:{:02}{}", at(4), at(5), at(6), micros(7));
    let is_one = (1..=9999).contains(&year) && (1..=days(year, month)).contains(&day);
    let is_one = is_one && at(4) < 24 && at(5) < 60 && at(6) < 60;
    let (word, text) =
        if kind == 0x0A { ("DATE", format!("'{date}'")) } else { ("TIMESTAMP", format!("'{date} {time}'")) };
    if is_one { Literal::of(format!("{word}{text}")) } else { Literal { exact: false, ..Literal::of(text) } }
}

fn days(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    }
}

/// `sql` with its parameters replaced; `None` where it has another number of them.
#[must_use]
pub fn bind(sql: &[u8], dialect: &Dialect, values: &[Literal]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(sql.len() + values.iter().map(|v| v.text.len() + 2).sum::<usize>());
    let (mut lexer, mut left, mut copied, mut limit) = (Lexer::new(sql, dialect), values.iter(), 0, false);
    loop {
        let token = lexer.next_token();
        let bytes = sql.get(token.start..token.end).unwrap_or_default();
        match token.lexeme {
            Lexeme::End => break,
            Lexeme::Parameter => {
                let value = left.next()?;
                out.extend(sql.get(copied..token.start)?);
                // spaces keep a sign from becoming a comment, and a word from its neighbour
                out.push(b' ');
                match value.text.get(1..value.text.len().saturating_sub(1)) {
                    Some(digits) if limit && value.digits => out.extend(digits),
                    _ => out.extend(&value.text),
                }
                out.push(b' ');
                copied = token.end;
            }
            Lexeme::Word if bytes.eq_ignore_ascii_case(b"LIMIT") => limit = true,
            Lexeme::Word if bytes.eq_ignore_ascii_case(b"OFFSET") => {}
            Lexeme::Number | Lexeme::Op(b',') => {}
            _ => limit = false,
        }
    }
    out.extend(sql.get(copied..)?);
    left.next().is_none().then_some(out)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn of(value: Bound<'_>) -> (String, bool, bool) {
        let l = literal(&value, &Dialect::default());
        (String::from_utf8_lossy(&l.text).into_owned(), l.exact, l.plain)
    }

    fn text(bytes: &[u8]) -> Bound<'_> {
        Bound::Bytes(0xFD, Cow::Borrowed(bytes))
    }

    #[test]
    fn literals_are_their_values() {
        let exact = |v, text: &str| assert_eq!(of(v), (text.to_owned(), true, true));
        exact(Bound::Null, "NULL");
        exact(Bound::Int(-5), "-5");
        exact(Bound::Unsigned(u64::MAX), "18446744073709551615");
        exact(Bound::Double(f64::from(0.1f32)), "1.0000000149011612e-1");
        exact(text("it's é".as_bytes()), "'it''s é'");
        exact(Bound::Bytes(0xFC, Cow::Borrowed(b"\0'")), "_binary X'0027'");
        exact(Bound::Bytes(0xF6, Cow::Borrowed(b"-1.50")), "-1.50");
        exact(Bound::Temporal(10, &[0xE4, 7, 2, 29]), "DATE'2020-02-29'");
        exact(
            Bound::Temporal(12, &[0xE4, 7, 2, 29, 1, 2, 3, 0x3F, 0x42, 0x0F, 0]),
            "TIMESTAMP'2020-02-29 01:02:03.999999'",
        );
        exact(Bound::Temporal(7, &[0xE4, 7, 2, 29]), "TIMESTAMP'2020-02-29 00:00:00'");
        exact(Bound::Temporal(11, &[1, 1, 0, 0, 0, 2, 3, 4, 1, 0, 0, 0]), "TIME'-26:03:04.000001'");
    }

    #[test]
    fn what_is_no_value_of_its_type_is_not_written() {
        for value in [
            Bound::Double(f64::NAN),
            Bound::Temporal(10, &[]),
            Bound::Temporal(12, &[0xE5, 7, 2, 29]),
            Bound::Temporal(11, &[0, 99, 0, 0, 0, 2, 3, 4]),
            text(b"\xE9"),
            Bound::Bytes(0xF6, Cow::Borrowed(b"1e5")),
            Bound::Bytes(0x10, Cow::Borrowed(b"1")),
        ] {
            assert!(!of(value.clone()).1, "{value:?}");
        }
        assert_eq!(of(Bound::Temporal(10, &[])).0, "'0000-00-00'");
        assert!(of(text(b"a;b")).2 && !of(text(b"a';b")).2 && !of(text(b"\\/*")).2);
    }

    #[test]
    fn parameters_become_literals() {
        let with = |sql: &str, values: &[Bound<'_>]| {
            let values: Vec<Literal> = values.iter().map(|v| literal(v, &Dialect::default())).collect();
            bind(sql.as_bytes(), &Dialect::default(), &values).map(|sql| String::from_utf8(sql).unwrap())
        };
        let two = [Bound::Int(-1), text(b"?")];
        assert_eq!(
            with("UPDATE t SET a=?,b='?' WHERE c=?-- ?", &two).unwrap(),
            "UPDATE t SET a= -1 ,b='?' WHERE c= '?' -- ?"
        );
        assert_eq!(with("SELECT ?", &two), None);
        assert_eq!(with("SELECT ?,?,?", &two), None);
        assert_eq!(with("DELETE FROM t WHERE a = ? LIMIT ?", &[text(b"3"), text(b"10")]).unwrap(), {
            "DELETE FROM t WHERE a =  '3'  LIMIT  10 "
        });
    }

    #[test]
    fn a_trailing_backslash_of_a_character_is_no_escape() {
        let gbk = Dialect { charset: CharsetClass::Gbk, ..Dialect::default() };
        let l = literal(&text(&[0xB0, 0x5C, b'\'']), &gbk);
        assert_eq!((l.text.as_slice(), l.exact), (&[b'\'', 0xB0, 0x5C, b'\'', b'\'', b'\''][..], false));
    }
}
