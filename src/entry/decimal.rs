//! MySQL's packed DECIMAL ⇄ its text. Nine digits a word of four bytes, big-endian, rests in fewer bytes; the first bit is the
//! sign, inverted; negative numbers have every bit inverted. Source: MySQL's strings/decimal.c; values of MariaDB 10.11.

use crate::wire::codec::{Malformed, Reader};

/// Bytes that a rest of so many digits takes.
const REST: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn packed(digits: usize) -> usize {
    digits / 9 * 4 + REST.get(digits % 9).copied().unwrap_or(0)
}

/// Reads a DECIMAL(precision, scale).
///
/// # Errors
/// [`Malformed`] where the bytes end early, or hold no decimal.
pub fn read(r: &mut Reader<'_>, precision: u8, scale: u8) -> Result<Box<str>, Malformed> {
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let whole = precision.checked_sub(scale).ok_or(Malformed("a DECIMAL with more decimals than digits"))?;
    let mut bytes = r.bytes(packed(whole) + packed(scale))?.to_vec();
    let first = bytes.first_mut().ok_or(Malformed("a DECIMAL without digits"))?;
    let negative = *first & 0x80 == 0;
    *first ^= 0x80;
    if negative {
        bytes.iter_mut().for_each(|b| *b = !*b);
    }
    let mut r = Reader::new(&bytes);
    let mut digits = String::with_capacity(precision + 2);
    group(&mut r, &mut digits, whole % 9)?;
    for _ in 0..whole / 9 {
        group(&mut r, &mut digits, 9)?;
    }
    let mut text = String::with_capacity(precision + 3);
    if negative {
        text.push('-');
    }
    let significant = digits.trim_start_matches('0');
    text.push_str(if significant.is_empty() { "0" } else { significant });
    if scale > 0 {
        text.push('.');
        for _ in 0..scale / 9 {
            group(&mut r, &mut text, 9)?;
        }
        group(&mut r, &mut text, scale % 9)?;
    }
    Ok(text.into())
}

/// Appends the packed form of a text that [`read`] made; none where it is no DECIMAL(precision, scale).
#[must_use]
pub fn put(out: &mut Vec<u8>, text: &str, precision: u8, scale: u8) -> Option<()> {
    let (precision, scale) = (usize::from(precision), usize::from(scale));
    let room = precision.checked_sub(scale)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0').as_bytes();
    let fraction = fraction.as_bytes();
    if whole.len() > room || fraction.len() > scale || precision == 0 {
        return None;
    }
    let start = out.len();
    // the digits of all groups, zeros where the text has none
    let digit = |at: usize| {
        let known = if at < room {
            at.checked_sub(room - whole.len()).and_then(|at| whole.get(at))
        } else {
            fraction.get(at - room)
        };
        match known {
            Some(digit @ b'0'..=b'9') => Some(u32::from(digit - b'0')),
            Some(_) => None,
            None => Some(0),
        }
    };
    let mut at = 0;
    let first = std::iter::once(room % 9);
    let groups = first.chain(std::iter::repeat_n(9, room / 9 + scale / 9)).chain(std::iter::once(scale % 9));
    for length in groups {
        let mut value = 0u32;
        for _ in 0..length {
            value = value * 10 + digit(at)?;
            at += 1;
        }
        let bytes = value.to_be_bytes();
        out.extend(bytes.get(bytes.len() - REST.get(length).copied()?..)?);
    }
    let packed = out.get_mut(start..)?;
    if text.starts_with('-') {
        packed.iter_mut().for_each(|b| *b = !*b);
    }
    *packed.first_mut()? ^= 0x80;
    Some(())
}

fn group(r: &mut Reader<'_>, out: &mut String, digits: usize) -> Result<(), Malformed> {
    let length = REST.get(digits).copied().unwrap_or(0);
    if length == 0 {
        return Ok(());
    }
    let value = r.bytes(length)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    if value >= 10u64.pow(u32::try_from(digits).unwrap_or(9)) {
        return Err(Malformed("no DECIMAL: a group of digits is too large"));
    }
    out.push_str(&format!("{value:0digits$}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_trip() {
        for (text, precision, scale) in [
            ("0", 10, 0),
            ("-1", 1, 0),
            ("1234567890.1234", 14, 4),
            ("-1234567890.1234", 14, 4),
            ("0.000000000000000000000000000001", 30, 30),
            ("99999999999999999999999999999999999999999999999999999999999999999", 65, 0),
            ("-0.5", 2, 1),
            ("10.00", 4, 2),
        ] {
            let mut bytes = Vec::new();
            put(&mut bytes, text, precision, scale).unwrap();
            let mut r = Reader::new(&bytes);
            let read = read(&mut r, precision, scale).unwrap();
            assert_eq!((&*read, r.is_empty()), (text, true));
        }
        for (text, precision, scale) in [("10", 1, 0), ("0.12", 3, 1), ("x", 5, 0), ("1", 0, 0), ("1.x", 4, 2)] {
            assert_eq!(put(&mut Vec::new(), text, precision, scale), None, "{text}");
        }
        // DECIMAL(14,4) of MySQL's own documentation
        let bytes = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        assert_eq!(&*read(&mut Reader::new(&bytes), 14, 4).unwrap(), "1234567890.1234");
        let mut out = Vec::new();
        put(&mut out, "-1234567890.1234", 14, 4).unwrap();
        assert_eq!(out, bytes.map(|b| !b));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for length in 0..40 {
            for precision in 0..=70u8 {
                let _ = read(&mut Reader::new(&vec![0xA5; length]), precision, precision / 2);
                let _ = read(&mut Reader::new(&vec![0xFF; length]), precision, 71);
            }
        }
    }
}
