//! Scrambles of the authentication plugins, and the secret that a relayed login gives away (layer L0).
//!
//! | plugin | here | what a relayed login gives away |
//! |---|---|---|
//! | `mysql_native_password` | [`native`] | SHA1(password), with the stored hash: enough for other stores |
//! | `caching_sha2_password`, `sha256_password` | [`sha2`] | the password, in the full exchange over TLS |
//! | `client_ed25519` | [`ed25519`] | nothing |
//! | `mysql_clear_password`, `dialog` | | the password |
//!
//! Source: MySQL "Authentication Methods", MariaDB "Pluggable Authentication"; DESIGN.md section 3, Login.

pub mod ed25519;
pub mod native;
pub mod proof;
pub mod random;
pub mod sha2;

pub use self::sha2::{caching_sha2_answer, caching_sha2_encrypt, caching_sha2_verifies, double_hash};
pub use ed25519::{ED25519, ed25519_answer, ed25519_verifies};
pub use native::{Stage1, Stage2, native_answer, parse_native_hash, recover_stage1, stage1, stage2};
pub use proof::certificate_proof;

/// Plugin name: SHA1 scramble.
pub const NATIVE: &[u8] = b"mysql_native_password";
/// Plugin name: SHA-256 scramble with a server-side cache.
pub const CACHING_SHA2: &[u8] = b"caching_sha2_password";
/// Plugin name: SHA-256 with the password itself over TLS, else sealed with the server's RSA key.
pub const SHA256: &[u8] = b"sha256_password";
/// Plugin name: the password itself.
pub const CLEAR: &[u8] = b"mysql_clear_password";
/// Plugin name: questions and answers in the clear (PAM).
pub const DIALOG: &[u8] = b"dialog";

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
    /// A signature of a scramble: it gives no secret, but says which stored key fits.
    Signature {
        /// As long as the store made it.
        scramble: Vec<u8>,
        /// R ‖ S.
        answer: Vec<u8>,
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
            Seen::Signature { .. } => "Signature(…)",
            Seen::Stage1(_) => "Stage1(…)",
            Seen::Password(_) => "Password(…)",
        })
    }
}

impl Seen {
    /// From the answer of a client to a plugin's scramble.
    #[must_use]
    pub fn answer(plugin: &[u8], scramble: &[u8], answer: &[u8]) -> Seen {
        let password = || Seen::Password(answer.strip_suffix(&[0]).unwrap_or(answer).to_vec());
        match plugin {
            NATIVE | CACHING_SHA2 if answer.is_empty() => Seen::Empty,
            NATIVE => match (scramble.try_into(), answer.try_into()) {
                (Ok(scramble), Ok(response)) => Seen::Native { scramble, response },
                _ => Seen::Nothing,
            },
            ED25519 if !answer.is_empty() => Seen::Signature { scramble: scramble.to_vec(), answer: answer.to_vec() },
            CLEAR => password(),
            // the first prompt asks for the password; what others ask for is nobody's business
            DIALOG => password(),
            _ => Seen::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_is_never_printed() {
        let seen = Seen::answer(CLEAR, b"", b"secret\0");
        assert_eq!(seen, Seen::Password(b"secret".to_vec()));
        assert!(!format!("{seen:?}").contains("secret"));
        assert_eq!(Seen::answer(NATIVE, &[1; 20], b""), Seen::Empty);
    }
}
