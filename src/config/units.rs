//! Sizes, durations, numbers and switches as people write them.

use std::time::Duration;

/// `64MiB`, `16k`, `1073741824`: bytes. Decimal units are decimal, as `KiB` and `KB` differ; a bare `k`, `m` or `g` is binary, as in MySQL.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let scale: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// `500ms`, `10s`, `2m`, `1h`, `1d`. A bare number is refused: nobody could tell seconds from milliseconds (but `0`).
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let number = number.parse::<u64>().ok()?;
    let scale: u64 = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "" if number == 0 => 1,
        _ => return None,
    };
    number.checked_mul(scale).filter(|seconds| *seconds <= MAX_SECONDS).map(Duration::from_secs)
}

/// A hundred years: what clocks still add without overflow.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

/// `0.05`, `1`: a share, in parts of a million.
pub(super) fn share(text: &str) -> Option<u32> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if !(digits(whole) && digits(part)) || whole.len() > 1 || part.len() > 6 || whole.is_empty() && part.is_empty() {
        return None;
    }
    let millions = format!("{whole}{part:0<6}").parse::<u32>().ok()?;
    (millions <= 1_000_000).then_some(millions)
}

/// `true` or `false`, and the spellings of YAML 1.1.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Digits (with `_` or `,` nowhere) and what follows them.
fn split(text: &str) -> Option<(String, &str)> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '_')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: String = number.chars().filter(|c| *c != '_').collect();
    (!number.is_empty()).then_some((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("64MiB", 64 << 20),
            ("16k", 16 << 10),
            ("1 GiB", 1 << 30),
            ("10_000", 10_000),
            ("1MB", 1_000_000),
            ("0", 0),
        ];
        for (text, bytes) in cases {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "1.5MiB", "1TiB", "99999999999999999999", "18446744073709551615k", "1 0"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn shares() {
        for (text, is) in [("0.05", 50_000), ("1", 1_000_000), ("1.0", 1_000_000), (".5", 500_000), ("0.000001", 1)] {
            assert_eq!(share(text), Some(is), "{text}");
        }
        for text in ["", ".", "1.1", "5%", "-0.1", "1e-3", "0.0000001", "2"] {
            assert_eq!(share(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        let cases = [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("1d", 86_400_000), ("0", 0)];
        for (text, ms) in cases {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "10", "s", "1.5s", "-1s", "10 parsecs", "99999999999999d"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
