//! Scrambles of the authentication plugins, and the secret that a relayed login gives away (layer L0).
//!
//! `mysql_native_password` sends `SHA1(password) XOR SHA1(scramble ‖ SHA1(SHA1(password)))`. Who sees that and knows the stored
//! hash SHA1(SHA1(password)) knows SHA1(password), which is all that a login at another store needs. Source: MySQL "Native
//! Authentication", "Caching SHA-2 pluggable authentication"; DESIGN.md section 3, Login.

use sha1::{Digest, Sha1};

/// SHA1(password): logs in with `mysql_native_password`.
pub type Stage1 = [u8; 20];
/// SHA1(SHA1(password)): what account tables store.
pub type Stage2 = [u8; 20];

/// Plugin name: SHA1 scramble.
pub const NATIVE: &[u8] = b"mysql_native_password";
/// Plugin name: SHA-256 scramble with a server-side cache.
pub const CACHING_SHA2: &[u8] = b"caching_sha2_password";
/// Plugin name: the password itself.
pub const CLEAR: &[u8] = b"mysql_clear_password";

/// What the proxy saw of a client's login.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Seen {
    /// Nothing that helps.
    #[default]
    Nothing,
    /// The account has no password.
    Empty,
    /// A native response and the scramble that it answers.
    Native {
        /// 20 bytes.
        scramble: [u8; 20],
        /// 20 bytes.
        response: [u8; 20],
    },
    /// SHA1(password), as a native answer and the stored hash gave it.
    Stage1(Stage1),
    /// The password itself (`mysql_clear_password`, or the full exchange of `caching_sha2_password` over TLS).
    Password(Vec<u8>),
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Seen::Nothing => "Nothing",
            Seen::Empty => "Empty",
            Seen::Native { .. } => "Native(…)",
            Seen::Stage1(_) => "Stage1(…)",
            Seen::Password(_) => "Password(…)",
        })
    }
}

impl Seen {
    /// From the answer of a client to a plugin's scramble.
    #[must_use]
    pub fn answer(plugin: &[u8], scramble: &[u8], answer: &[u8]) -> Seen {
        if plugin == NATIVE || plugin == CACHING_SHA2 {
            if answer.is_empty() {
                return Seen::Empty;
            }
            if let (Ok(scramble), Ok(response)) = (scramble.try_into(), answer.try_into()) {
                return Seen::Native { scramble, response };
            }
        }
        if plugin == CLEAR {
            return Seen::Password(answer.strip_suffix(&[0]).unwrap_or(answer).to_vec());
        }
        Seen::Nothing
    }
}

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
pub fn stage2(stage1: Stage1) -> Stage2 {
    sha1(&[&stage1])
}

/// The native answer to a scramble.
#[must_use]
pub fn native_answer(scramble: &[u8], stage1: Stage1) -> [u8; 20] {
    let stage2 = sha1(&[&stage1]);
    xor(stage1, sha1(&[scramble.get(..20).unwrap_or(scramble), &stage2]))
}

/// SHA1(password) out of a relayed native answer, if `stage2` is the hash that it was made from.
#[must_use]
pub fn recover_stage1(scramble: [u8; 20], answer: [u8; 20], stage2: Stage2) -> Option<Stage1> {
    let stage1 = xor(answer, sha1(&[&scramble, &stage2]));
    (sha1(&[&stage1]) == stage2).then_some(stage1)
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

/// The `caching_sha2_password` answer to a scramble; empty for an empty password.
#[must_use]
pub fn caching_sha2_answer(scramble: &[u8], password: &[u8]) -> Vec<u8> {
    let scramble = scramble.get(..20).unwrap_or(scramble);
    mysql_common::scramble::scramble_sha256(scramble, password).map(|a| a.to_vec()).unwrap_or_default()
}

/// A password for the RSA leg of `caching_sha2_password`: with its NUL, XORed with the scramble, encrypted for the server's key (PEM).
#[must_use]
pub fn caching_sha2_encrypt(password: &[u8], scramble: &[u8], key: &[u8]) -> Option<Vec<u8>> {
    let mut secret = password.to_vec();
    secret.push(0);
    for (byte, mask) in secret.iter_mut().zip(scramble.iter().cycle()) {
        *byte ^= mask;
    }
    // mysql_common panics on a key that is none
    std::panic::catch_unwind(|| mysql_common::crypto::encrypt(&secret, key)).ok()
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

    #[test]
    fn what_is_seen_is_never_printed() {
        let seen = Seen::answer(CLEAR, b"", b"secret\0");
        assert_eq!(seen, Seen::Password(b"secret".to_vec()));
        assert!(!format!("{seen:?}").contains("secret"));
        assert_eq!(Seen::answer(NATIVE, &[1; 20], b""), Seen::Empty);
    }
}
