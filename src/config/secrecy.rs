//! Which values of a configuration file are secrets, and so never shown: generous, because a misspelt `pasword:` holds one too.

use std::ops::Range;

/// Words that make the value of a key a secret, wherever they stand in the key.
const MARKS: [&str; 6] = ["password", "passwd", "secret", "token", "hash", "pwd"];
/// Keys that contain a mark, and are no secrets.
const HARMLESS: [&str; 1] = ["password_file"];

/// Whether the value of `key` must not be shown.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if HARMLESS.contains(&key.as_str()) {
        return false;
    }
    MARKS.iter().any(|mark| key.contains(mark)) || strsim::damerau_levenshtein(&key, "password") <= 3 || key == "pass"
}

/// Whether the mapping under `key` is about accounts, where a misplaced value may be a secret.
pub(super) fn holds_secrets(key: &str) -> bool {
    matches!(key, "users" | "control" | "account")
}

/// Whether the value of `key`, in a mapping that holds secrets, is none.
pub(super) fn is_harmless_in_account(key: &str) -> bool {
    matches!(key, "user" | "password_file")
}

/// Byte ranges of a line of broken YAML that may hold secrets: all that follows a secret key, up to a comma or a brace.
pub(super) fn lexical(line: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    for (colon, _) in line.match_indices(':') {
        let before = line.get(..colon).unwrap_or_default();
        let word = before
            .trim_end_matches(['"', '\'', ' '])
            .rsplit([' ', '{', ',', '"', '\'', '\t'])
            .next()
            .unwrap_or_default();
        if is_secret_key(word) {
            secrets.push(colon + 1..line.len());
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_passwords_are_secrets() {
        for key in ["password", "pasword", "Password", "passwort", "pass", "hash", "SECRET", "db_password", "apssword"]
        {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["user", "address", "password_file", "tables", "key", "connection", "databases"] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    #[test]
    fn broken_lines_hide_what_follows_a_secret_key() {
        let hidden = |line: &str| lexical(line).first().map(|range| line[range.clone()].to_owned());
        assert_eq!(hidden("a: {user: x, pasword: \"y").as_deref(), Some(" \"y"));
        assert_eq!(hidden("  \"password\" : y").as_deref(), Some(" y"));
        assert_eq!(hidden("tables: [a, b"), None);
    }
}
