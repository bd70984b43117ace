//! The proof that a MariaDB client (11.4 and later) wants of a server whose certificate nobody it trusts has signed.
//!
//! Such a client goes on without a CA, and believes in the certificate when the login's OK packet carries, as its info,
//! `0x01` and the hex digits of `SHA256(hash ‖ scramble ‖ SHA256(certificate))`: only who knows the account's hash can make that. A store
//! makes it for its own certificate; the client has seen ours. Source: MariaDB "Zero-Configuration SSL", "Connection".

use sha2::{Digest, Sha256};

/// SHA256 of a certificate (DER).
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// The info of the OK packet: `scramble` is the greeting's, whatever the plugin made its own of; `hash` is what the plugin's client side calls so (`mysql_native_password`: SHA1(SHA1(password))).
#[must_use]
pub fn certificate_proof(hash: &[u8], scramble: &[u8], fingerprint: &[u8; 32]) -> Vec<u8> {
    let mut h = Sha256::new();
    h.update(hash);
    h.update(scramble);
    h.update(fingerprint);
    let mut out = vec![1];
    for byte in h.finalize() {
        out.extend(format!("{byte:02X}").bytes());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_one_byte_and_hex_digits() {
        // SHA256("abc"), split in three
        let mut certificate = [0; 32];
        certificate.copy_from_slice(&fingerprint(b"x"));
        let proof = certificate_proof(b"a", b"b", &certificate);
        assert_eq!((proof.len(), proof[0]), (65, 1));
        assert_ne!(proof, certificate_proof(b"a", b"c", &certificate));
    }
}
