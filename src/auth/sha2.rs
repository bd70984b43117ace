//! `caching_sha2_password` and `sha256_password`: the fast scramble, and the password sealed with the server's RSA key.
//!
//! Fast: `SHA256(password) XOR SHA256(SHA256(SHA256(password)) ‖ scramble)`; the server answers 0x03 if it knows the double hash, else
//! 0x04, and wants the password itself: in the clear where the transport is secure, else XORed with the scramble and sealed
//! (RSAES-OAEP with SHA-1). Source: MySQL "Caching SHA-2 pluggable authentication", "SHA-256 pluggable authentication".

use sha2::{Digest, Sha256};

/// SHA256(SHA256(password)): what a server caches, and verifies a fast login with.
pub type DoubleHash = [u8; 32];

/// The server's byte after a fast login that its cache vouches for.
pub const FAST_OK: u8 = 3;
/// The server's byte that asks for the password itself.
pub const FULL: u8 = 4;
/// A client's request for the server's RSA key, in `caching_sha2_password`.
pub const ASK_KEY: u8 = 2;
/// The same in `sha256_password`.
pub const ASK_KEY_SHA256: u8 = 1;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut h = Sha256::new();
    for p in parts {
        h.update(p);
    }
    h.finalize().into()
}

fn xor(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    std::array::from_fn(|i| a.get(i).unwrap_or(&0) ^ b.get(i).unwrap_or(&0))
}

/// SHA256(SHA256(password)).
#[must_use]
pub fn double_hash(password: &[u8]) -> DoubleHash {
    sha256(&[&sha256(&[password])])
}

/// The fast answer to a scramble; empty for an empty password.
#[must_use]
pub fn caching_sha2_answer(scramble: &[u8], password: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let scramble = scramble.get(..20).unwrap_or(scramble);
    xor(sha256(&[password]), sha256(&[&double_hash(password), scramble])).to_vec()
}

/// Whether a fast answer was made from the password with this double hash: the server's side of the fast login.
#[must_use]
pub fn caching_sha2_verifies(scramble: &[u8], answer: &[u8], hash: &DoubleHash) -> bool {
    let scramble = scramble.get(..20).unwrap_or(scramble);
    let Ok(answer) = <[u8; 32]>::try_from(answer) else { return false };
    sha256(&[&xor(answer, sha256(&[hash, scramble]))]) == *hash
}

/// A password sealed for the server: with its NUL, XORed with the scramble, encrypted for the server's key (PEM). `None` if the key is none.
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
    fn the_fast_answer_is_the_documented_one_and_verifies() {
        let scramble = *b"KgN;|zxbvTa2Be|yQ6]X";
        let answer = caching_sha2_answer(&scramble, b"secret");
        let reference = mysql_common::scramble::scramble_sha256(&scramble, b"secret").map(|a| a.to_vec());
        assert_eq!(Some(&answer), reference.as_ref());
        assert!(caching_sha2_verifies(&scramble, &answer, &double_hash(b"secret")));
        assert!(!caching_sha2_verifies(&scramble, &answer, &double_hash(b"Secret")));
        assert!(!caching_sha2_verifies(b"another scramble....", &answer, &double_hash(b"secret")));
        assert!(!caching_sha2_verifies(&scramble, &answer[..31], &double_hash(b"secret")));
        assert!(caching_sha2_answer(&scramble, b"").is_empty());
    }

    #[test]
    fn what_is_no_key_seals_nothing() {
        assert_eq!(caching_sha2_encrypt(b"secret", &[1; 20], b"no key"), None);
        assert_eq!(caching_sha2_encrypt(b"secret", &[1; 20], b""), None);
    }
}
