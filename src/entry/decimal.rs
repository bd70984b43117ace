//! MySQL's packed DECIMAL → its text. Nine digits a word of four bytes, big-endian, rests in fewer bytes; the first bit is the
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

    /// What MariaDB 10.11 stores, the other way round.
    fn pack(text: &str, precision: usize, scale: usize) -> Vec<u8> {
        let negative = text.starts_with('-');
        let (whole, fraction) =
            text.trim_start_matches('-').split_once('.').unwrap_or((text.trim_start_matches('-'), ""));
        let whole =
            if precision == scale { String::new() } else { format!("{whole:0>width$}", width = precision - scale) };
        let fraction = format!("{fraction:0<scale$}");
        let mut out: Vec<u8> = Vec::new();
        let mut put = |digits: &str| {
            if !digits.is_empty() {
                let value: u32 = digits.parse().unwrap();
                out.extend(&value.to_be_bytes()[4 - REST[digits.len()]..]);
            }
        };
        let head = whole.len() % 9;
        put(&whole[..head]);
        for at in (head..whole.len()).step_by(9) {
            put(&whole[at..at + 9]);
        }
        for at in (0..fraction.len()).step_by(9) {
            put(&fraction[at..(at + 9).min(fraction.len())]);
        }
        if negative {
            out.iter_mut().for_each(|b| *b = !*b);
        }
        out[0] ^= 0x80;
        out
    }

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
            let bytes = pack(text, precision, scale);
            let mut r = Reader::new(&bytes);
            let read = read(&mut r, u8::try_from(precision).unwrap(), u8::try_from(scale).unwrap()).unwrap();
            assert_eq!((&*read, r.is_empty()), (text, true));
        }
        // DECIMAL(14,4) of MySQL's own documentation
        let bytes = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        assert_eq!(&*read(&mut Reader::new(&bytes), 14, 4).unwrap(), "1234567890.1234");
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
