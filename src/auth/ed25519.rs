//! MariaDB's `client_ed25519`: an Ed25519 signature of the scramble, with SHA512(password) as the expanded secret key.
//!
//! A signature gives nothing away, so a relayed login recovers no secret (that is the plugin's point): the proxy logs in elsewhere
//! only with a configured password. Source: MariaDB "Authentication Plugin - ed25519", RFC 8032 section 5.1.6.

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::{EdwardsPoint, Scalar};
use sha2::{Digest, Sha512};

/// Plugin name, as clients know it.
pub const ED25519: &[u8] = b"client_ed25519";

struct Expanded {
    secret: Scalar,
    prefix: [u8; 32],
    public: [u8; 32],
}

fn expand(password: &[u8]) -> Expanded {
    let (mut secret, mut prefix) = ([0; 32], [0; 32]);
    let hash: [u8; 64] = Sha512::digest(password).into();
    let (low, high) = hash.split_at(32);
    secret.copy_from_slice(low);
    prefix.copy_from_slice(high);
    let secret = Scalar::from_bytes_mod_order(curve25519_dalek::scalar::clamp_integer(secret));
    Expanded { secret, prefix, public: EdwardsPoint::mul_base(&secret).compress().to_bytes() }
}

fn hashed(parts: &[&[u8]]) -> Scalar {
    let mut h = Sha512::new();
    for p in parts {
        h.update(p);
    }
    Scalar::from_bytes_mod_order_wide(&h.finalize().into())
}

/// The answer to a scramble (32 bytes): R ‖ S.
#[must_use]
pub fn ed25519_answer(scramble: &[u8], password: &[u8]) -> Vec<u8> {
    let key = expand(password);
    let r = hashed(&[&key.prefix, scramble]);
    let point = EdwardsPoint::mul_base(&r).compress().to_bytes();
    let k = hashed(&[&point, &key.public, scramble]);
    let s = r + k * key.secret;
    [point, s.to_bytes()].concat()
}

/// Whether an answer was made with the secret of this public key.
#[must_use]
pub fn ed25519_verifies(scramble: &[u8], answer: &[u8], public: &[u8; 32]) -> bool {
    let Some((point, s)) = answer.split_at_checked(32) else { return false };
    let (Ok(s), Some(key)) = (<[u8; 32]>::try_from(s), CompressedEdwardsY(*public).decompress()) else { return false };
    let Some(s) = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)) else { return false };
    let k = hashed(&[point, public, scramble]);
    EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-key, &s).compress().as_bytes() == point
}

/// The key in an account table's `authentication_string`: 43 digits of base64.
#[must_use]
pub fn parse_ed25519_key(text: &str) -> Option<[u8; 32]> {
    let text = text.trim().as_bytes();
    if text.len() != 43 {
        return None;
    }
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::with_capacity(32));
    for digit in text {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(bits >> count & 0xFF).ok()?);
        }
    }
    out.try_into().ok()
}

/// The public key of a password: what account tables store, in base64 without padding.
#[must_use]
pub fn ed25519_public(password: &[u8]) -> [u8; 32] {
    expand(password).public
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::hex::hex;

    /// RFC 8032, section 7.1, test 2 and 3: there the seed is hashed as MariaDB hashes the password.
    #[test]
    fn signatures_are_those_of_the_rfc() {
        let seed: Vec<u8> = (0..32)
            .map(|i| {
                u8::from_str_radix(
                    &"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"[i * 2..i * 2 + 2],
                    16,
                )
            })
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(hex(&ed25519_public(&seed)), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(
            hex(&ed25519_answer(&[0x72], &seed)),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn answers_verify_with_the_stored_key_only() {
        // MariaDB 10.11: SELECT ed25519_password('secret')
        let key = parse_ed25519_key("ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY").unwrap();
        assert_eq!(ed25519_public(b"secret"), key);
        let answer = ed25519_answer(&[7; 32], b"secret");
        assert!(ed25519_verifies(&[7; 32], &answer, &key));
        assert!(!ed25519_verifies(&[8; 32], &answer, &key));
        assert!(!ed25519_verifies(&[7; 32], &answer, &ed25519_public(b"other")));
        assert!(!ed25519_verifies(&[7; 32], &answer[..63], &key));
        assert_eq!(parse_ed25519_key("invalid"), None);
    }
}
