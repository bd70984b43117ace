//! Bytes that nobody can foretell: scrambles, tokens, ids. They come from the system, which is waited for.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::wire::hex::hex;

/// `N` of them; no more than 256, for so few are given whole.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    const { assert!(N <= 256) };
    let mut bytes = [0; N];
    // for so few bytes it fails only where a signal came, before the system has any
    while getrandom(&mut bytes, GetRandomFlags::empty()) != Ok(N) {}
    bytes
}

/// A secret of 32 bytes, as 64 hexadecimal digits.
#[must_use]
pub fn token() -> String {
    hex(&random::<32>())
}

/// What a login's answer is made of: 20 bytes, none of them 0 (it would end it) or `$`.
#[must_use]
pub fn scramble() -> [u8; 20] {
    random::<20>().map(|b| 33 + b % 94).map(|b| if b == b'$' { b'!' } else { b })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_twice() {
        let tokens: std::collections::HashSet<String> = (0..100).map(|_| token()).collect();
        assert!(tokens.len() == 100 && tokens.iter().all(|t| t.len() == 64));
        assert_ne!(random::<16>(), [0; 16]);
    }

    #[test]
    fn scrambles_are_text_without_what_ends_them() {
        for _ in 0..200 {
            assert!(scramble().iter().all(|b| (33..=126).contains(b) && *b != b'$'));
        }
    }
}
