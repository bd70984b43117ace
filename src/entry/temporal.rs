//! MySQL's packed dates and times ⇄ text as the server prints it, so that zero dates, negative times and fractions survive.
//! Source: MySQL's sql-common/my_time.c; values of MariaDB 10.11.

use crate::wire::codec::{Malformed, Reader};

/// Whole bytes, big-endian.
fn big(r: &mut Reader<'_>, n: usize) -> Result<u64, Malformed> {
    Ok(r.bytes(n)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Microseconds of a fraction with so many decimals, big-endian in (decimals + 1) / 2 bytes.
fn fraction(r: &mut Reader<'_>, decimals: u8) -> Result<u64, Malformed> {
    Ok(match decimals {
        0 => 0,
        1 | 2 => big(r, 1)? * 10_000,
        3 | 4 => big(r, 2)? * 100,
        5 | 6 => big(r, 3)?,
        _ => return Err(Malformed("more than six decimals of a second")),
    })
}

fn with_fraction(mut text: String, micros: u64, decimals: u8) -> Box<str> {
    if decimals > 0 {
        let digits = format!("{micros:06}");
        text.push('.');
        text.push_str(digits.get(..usize::from(decimals).min(6)).unwrap_or(&digits));
    }
    text.into()
}

/// DATE: three bytes.
///
/// # Errors
/// [`Malformed`] where the bytes end early; so of all below.
pub fn date(r: &mut Reader<'_>) -> Result<Box<str>, Malformed> {
    let v = r.u24()?;
    Ok(format!("{:04}-{:02}-{:02}", v >> 9, v >> 5 & 15, v & 31).into())
}

/// DATETIME of MySQL 5.6 and later.
///
/// # Errors
/// [`Malformed`].
pub fn datetime2(r: &mut Reader<'_>, decimals: u8) -> Result<Box<str>, Malformed> {
    let packed = big(r, 5)?.checked_sub(0x80_0000_0000).ok_or(Malformed("a negative DATETIME"))?;
    let micros = fraction(r, decimals)?;
    let (days, time) = (packed >> 17, packed & 0x1_FFFF);
    let (months, day) = (days >> 5, days & 31);
    let text = format!(
        "{:04}-{:02}-{day:02} {:02}:{:02}:{:02}",
        months / 13,
        months % 13,
        time >> 12,
        time >> 6 & 63,
        time & 63
    );
    Ok(with_fraction(text, micros, decimals))
}

/// DATETIME before MySQL 5.6: digits in a number.
///
/// # Errors
/// [`Malformed`].
pub fn datetime(r: &mut Reader<'_>) -> Result<Box<str>, Malformed> {
    let v = r.u64()?;
    let (date, time) = (v / 1_000_000, v % 1_000_000);
    Ok(format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        date / 10_000,
        date / 100 % 100,
        date % 100,
        time / 10_000,
        time / 100 % 100,
        time % 100
    )
    .into())
}

/// TIMESTAMP of MySQL 5.6 and later, in UTC.
///
/// # Errors
/// [`Malformed`].
pub fn timestamp2(r: &mut Reader<'_>, decimals: u8) -> Result<Box<str>, Malformed> {
    let seconds = big(r, 4)?;
    let micros = fraction(r, decimals)?;
    Ok(with_fraction(utc(seconds, micros), micros, decimals))
}

/// TIMESTAMP before MySQL 5.6, in UTC.
///
/// # Errors
/// [`Malformed`].
pub fn timestamp(r: &mut Reader<'_>) -> Result<Box<str>, Malformed> {
    Ok(utc(u64::from(r.u32()?), 0).into())
}

/// A TIMESTAMP in UTC, from what UNIX_TIMESTAMP() says of it: seconds, and as many decimals as the column has.
#[must_use]
pub fn unix(text: &str) -> Option<Box<str>> {
    let (seconds, fraction) = text.split_once('.').map_or((text, ""), |(seconds, fraction)| (seconds, fraction));
    let decimals = u8::try_from(fraction.len()).ok().filter(|decimals| *decimals <= 6)?;
    let micros = if decimals == 0 { 0 } else { fraction.parse::<u64>().ok()? * 10u64.pow(6 - u32::from(decimals)) };
    Some(with_fraction(utc(seconds.parse().ok()?, micros), micros, decimals))
}

/// Seconds since 1970 as a date and time of the Gregorian calendar; none at all is the zero date.
fn utc(seconds: u64, micros: u64) -> String {
    if seconds == 0 && micros == 0 { "0000-00-00 00:00:00".to_owned() } else { civil(seconds) }
}

/// Seconds since 1970 as a date and time of the Gregorian calendar, UTC.
#[must_use]
pub fn civil(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days; years start in March
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", time / 3_600, time / 60 % 60, time % 60)
}

/// TIME of MySQL 5.6 and later: hours up to 838, negative too.
///
/// # Errors
/// [`Malformed`].
pub fn time2(r: &mut Reader<'_>, decimals: u8) -> Result<Box<str>, Malformed> {
    // the fraction's bytes and their scale to microseconds
    let (bytes, scale): (u32, u64) = match decimals {
        0 => (0, 0),
        1 | 2 => (1, 10_000),
        3 | 4 => (2, 100),
        5 | 6 => (3, 1),
        _ => return Err(Malformed("more than six decimals of a second")),
    };
    let bits = 24 + 8 * bytes;
    let raw = big(r, usize::try_from(bits / 8).unwrap_or(3))?;
    let zero = 1u64 << (bits - 1);
    let negative = raw < zero;
    let magnitude = raw.abs_diff(zero);
    let (time, rest) = (magnitude >> (8 * bytes), magnitude & ((1 << (8 * bytes)) - 1));
    let sign = if negative { "-" } else { "" };
    let text = format!("{sign}{:02}:{:02}:{:02}", time >> 12 & 1_023, time >> 6 & 63, time & 63);
    Ok(with_fraction(text, rest * scale, decimals))
}

/// TIME before MySQL 5.6: digits in three bytes.
///
/// # Errors
/// [`Malformed`].
pub fn time(r: &mut Reader<'_>) -> Result<Box<str>, Malformed> {
    let v = r.u24()?;
    let (sign, v) = if v & 0x80_0000 == 0 { ("", v) } else { ("-", 0x100_0000 - v) };
    Ok(format!("{sign}{:02}:{:02}:{:02}", v / 10_000, v / 100 % 100, v % 100).into())
}

/// The numbers of a text that one of the functions above made, and microseconds.
fn numbers<const N: usize>(text: &str) -> Option<([u64; N], u64)> {
    let (text, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = text.split(['-', ' ', ':']);
    let mut out = [0; N];
    for number in &mut out {
        *number = parts.next()?.parse().ok()?;
    }
    if parts.next().is_some() || fraction.len() > 6 {
        return None;
    }
    let digits: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    Some((out, digits * 10u64.pow(6 - u32::try_from(fraction.len()).ok()?)))
}

/// Bytes of a fraction with so many decimals, and its scale to microseconds.
fn parts(decimals: u8) -> Option<(usize, u64)> {
    Some(match decimals {
        0 => (0, 1_000_000),
        1 | 2 => (1, 10_000),
        3 | 4 => (2, 100),
        5 | 6 => (3, 1),
        _ => return None,
    })
}

/// The last `n` bytes, big-endian.
fn put_big(out: &mut Vec<u8>, value: u64, n: usize) -> Option<()> {
    let bytes = value.to_be_bytes();
    out.extend(bytes.get(bytes.len().checked_sub(n)?..)?);
    Some(())
}

fn put_fraction(out: &mut Vec<u8>, micros: u64, decimals: u8) -> Option<()> {
    let (bytes, scale) = parts(decimals)?;
    put_big(out, micros / scale, bytes)
}

/// The other way of [`date`]; none where the text is none. So of all below.
#[must_use]
pub fn put_date(out: &mut Vec<u8>, text: &str) -> Option<()> {
    let ([year, month, day], _) = numbers(text)?;
    let packed = year << 9 | month << 5 | day;
    out.extend(packed.to_le_bytes().get(..3)?);
    Some(())
}

/// The other way of [`datetime2`].
#[must_use]
pub fn put_datetime2(out: &mut Vec<u8>, text: &str, decimals: u8) -> Option<()> {
    let ([year, month, day, hour, minute, second], micros) = numbers(text)?;
    let days = (year * 13 + month) << 5 | day;
    let packed = days << 17 | hour << 12 | minute << 6 | second;
    put_big(out, packed.checked_add(0x80_0000_0000)?, 5)?;
    put_fraction(out, micros, decimals)
}

/// The other way of [`timestamp2`].
#[must_use]
pub fn put_timestamp2(out: &mut Vec<u8>, text: &str, decimals: u8) -> Option<()> {
    let ([year, month, day, hour, minute, second], micros) = numbers(text)?;
    let seconds = if year == 0 { 0 } else { days(year, month, day)? * 86_400 + hour * 3_600 + minute * 60 + second };
    put_big(out, seconds, 4)?;
    put_fraction(out, micros, decimals)
}

/// Days since 1970, as `utc` has them; source: the same, days_from_civil.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// The other way of [`time2`].
#[must_use]
pub fn put_time2(out: &mut Vec<u8>, text: &str, decimals: u8) -> Option<()> {
    let (bytes, scale) = parts(decimals)?;
    let magnitude = text.strip_prefix('-');
    let ([hour, minute, second], micros) = numbers(magnitude.unwrap_or(text))?;
    let bits = 8 * u32::try_from(bytes).ok()?;
    let packed = ((hour << 12 | minute << 6 | second) << bits) + micros / scale;
    let zero = 1u64 << (23 + bits);
    let raw = if magnitude.is_some() { zero.checked_sub(packed)? } else { zero + packed };
    put_big(out, raw, 3 + bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_again() {
        type Read = fn(&mut Reader<'_>, u8) -> Result<Box<str>, Malformed>;
        type Put = fn(&mut Vec<u8>, &str, u8) -> Option<()>;
        type Texts = &'static [(&'static str, u8)];
        let forms: [(Read, Put, Texts); 4] = [
            (
                |r, _| date(r),
                |out, text, _| put_date(out, text),
                &[("0000-00-00", 0), ("9999-12-31", 0), ("2001-02-31", 0)],
            ),
            (
                datetime2,
                put_datetime2,
                &[
                    ("0000-00-00 00:00:00", 0),
                    ("9999-12-31 23:59:59.999999", 6),
                    ("2026-01-01 00:00:00.9", 1),
                    ("2026-00-00 00:00:00.0123", 4),
                ],
            ),
            (
                timestamp2,
                put_timestamp2,
                &[
                    ("0000-00-00 00:00:00", 0),
                    ("1970-01-01 00:00:01", 0),
                    ("2000-02-29 12:34:56.7", 1),
                    ("2000-03-01 00:00:00.000001", 6),
                    ("2038-01-19 03:14:07", 0),
                    ("2106-02-07 06:28:15.123", 3),
                    ("2024-12-31 23:59:59", 0),
                    ("2100-02-28 00:00:00", 0),
                ],
            ),
            (
                time2,
                put_time2,
                &[
                    ("00:00:00", 0),
                    ("-00:00:01", 0),
                    ("838:59:59", 0),
                    ("-838:59:59.9", 1),
                    ("-00:00:00.01", 2),
                    ("-00:00:01.000001", 6),
                    ("12:34:56.7891", 4),
                    ("-12:00:00.001", 3),
                    ("-00:59:00.00", 2),
                ],
            ),
        ];
        for (read, put, texts) in forms {
            for (text, decimals) in texts {
                let mut bytes = Vec::new();
                put(&mut bytes, text, *decimals).unwrap();
                let mut r = Reader::new(&bytes);
                assert_eq!((&*read(&mut r, *decimals).unwrap(), r.is_empty()), (*text, true));
            }
            for text in ["", "x", "1-2-3-4-5-6-7", "1", "2026-01-01 00:00:00.1234567"] {
                assert_eq!(put(&mut Vec::new(), text, 6), None, "{text}");
            }
        }
    }

    #[test]
    fn seconds_are_utc() {
        assert_eq!(utc(0, 0), "0000-00-00 00:00:00");
        assert_eq!(utc(1, 0), "1970-01-01 00:00:01");
        assert_eq!(utc(951_827_696, 0), "2000-02-29 12:34:56");
        assert_eq!(utc(2_147_483_647, 0), "2038-01-19 03:14:07");
        assert_eq!(utc(4_294_967_295, 0), "2106-02-07 06:28:15");
    }

    #[test]
    fn unix_timestamps_are_read() {
        assert_eq!(unix("951827696").as_deref(), Some("2000-02-29 12:34:56"));
        assert_eq!(unix("0.000").as_deref(), Some("0000-00-00 00:00:00.000"));
        assert_eq!(unix("1.5").as_deref(), Some("1970-01-01 00:00:01.5"));
        assert_eq!((unix("x"), unix("1.1234567"), unix("-1")), (None, None, None));
    }

    #[test]
    fn times_are_signed_and_have_fractions() {
        // values of MariaDB 10.11: TIME, TIME(2), TIME(6)
        let read = |bytes: &[u8], decimals| time2(&mut Reader::new(bytes), decimals).unwrap();
        assert_eq!(&*read(&[0x80, 0, 0], 0), "00:00:00");
        assert_eq!(&*read(&[0x7F, 0xFF, 0xFF], 0), "-00:00:01");
        assert_eq!(&*read(&[0xB4, 0x6E, 0xFB], 0), "838:59:59");
        assert_eq!(&*read(&[0x7F, 0xFF, 0xFF, 0x9D], 2), "-00:00:00.99");
        assert_eq!(&*read(&[0x80, 0, 1, 0, 0, 1], 6), "00:00:01.000001");
        assert_eq!(&*read(&[0x7F, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF], 6), "-00:00:01.000001");
    }

    #[test]
    fn dates_may_be_zero() {
        assert_eq!(&*date(&mut Reader::new(&[0, 0, 0])).unwrap(), "0000-00-00");
        assert_eq!(&*datetime2(&mut Reader::new(&[0x80, 0, 0, 0, 0]), 0).unwrap(), "0000-00-00 00:00:00");
        assert!(datetime2(&mut Reader::new(&[0, 0, 0, 0, 0]), 0).is_err());
        assert!(datetime2(&mut Reader::new(&[0x80, 0, 0, 0]), 0).is_err());
        assert!(datetime2(&mut Reader::new(&[0x80, 0, 0, 0, 0]), 7).is_err());
    }
}
