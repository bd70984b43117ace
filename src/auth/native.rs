//! `mysql_native_password`: SHA1 scrambles, and the secret that a relayed answer gives away.
//!
//! The answer is `SHA1(password) XOR SHA1(scramble ‖ SHA1(SHA1(password)))`. Who sees it and knows the stored hash
//! SHA1(SHA1(password)) knows SHA1(password), which is all that a login at another store needs. Source: MySQL "Native
//! Authentication".

use sha1::{Digest, Sha1};

/// SHA1(password): logs in with `mysql_native_password`.
pub type Stage1 = [u8; 20];
/// SHA1(SHA1(password)): what account tables store.
pub type Stage2 = [u8; 20];

fn sha1(parts: &[&[u8]]) -> [u8; 20] {
    let mut h = Sha1::new();
    for p in parts {
        h.update(p);
    }
    h.finalize().into()
}

fn xor(a: [u8; 20], b: [u8; 20]) -> [u8; 20] {
    std::array::from_fn(|i| a.get(i).unwrap_or(&0) ^ b.get(i).unwrap_or(&0))
}

/// SHA1(password).
#[must_use]
pub fn stage1(password: &[u8]) -> Stage1 {
    sha1(&[password])
}

/// SHA1(SHA1(password)), from SHA1(password).
#[must_use]
pub fn stage2(stage1: &Stage1) -> Stage2 {
    sha1(&[stage1])
}

/// The answer to a scramble.
#[must_use]
pub fn native_answer(scramble: &[u8], stage1: Stage1) -> [u8; 20] {
    xor(stage1, sha1(&[scramble.get(..20).unwrap_or(scramble), &stage2(&stage1)]))
}

/// SHA1(password) out of an answer, if `stage2` is the hash that it was made from: it verifies a login as well.
#[must_use]
pub fn recover_stage1(scramble: [u8; 20], answer: [u8; 20], hash: Stage2) -> Option<Stage1> {
    let stage1 = xor(answer, sha1(&[&scramble, &hash]));
    (stage2(&stage1) == hash).then_some(stage1)
}

/// The hash in an account table's `authentication_string`: `*` and 40 hex digits.
#[must_use]
pub fn parse_native_hash(text: &str) -> Option<Stage2> {
    let hex = text.trim().strip_prefix('*')?.as_bytes();
    if hex.len() != 40 {
        return None;
    }
    let mut out = [0; 20];
    for (byte, pair) in out.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_answer_gives_the_secret_and_only_with_the_right_hash() {
        let scramble = *b"KgN;|zxbvTa2Be|yQ6]X";
        let secret = stage1(b"app");
        let answer = native_answer(&scramble, secret);
        assert_eq!(mysql_common::scramble::scramble_native(&scramble, b"app"), Some(answer));
        let hash = parse_native_hash("*5BCB3E6AC345B435C7C2E6B7949A04CE6F6563D3").unwrap();
        assert_eq!(recover_stage1(scramble, answer, hash), Some(secret));
        assert_eq!(recover_stage1(scramble, answer, [0; 20]), None);
        assert_eq!(parse_native_hash("*zz"), None);
        assert_eq!(parse_native_hash("invalid"), None);
    }
}
