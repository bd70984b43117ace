//! How a text is to be read: the session's character set class, the sql_mode bits that change the lexer, and the engine.
//!
//! A [`Dialect`] is part of every fingerprint, because the same bytes are another statement under another dialect
//! (in gbk a trail byte can be a backslash; with ANSI_QUOTES a double quote opens a name).
//! Source: MySQL 8.0 manual 9.1–9.7 and 10.10, MariaDB 10.11 `sql_lex.cc`, `ctype-*.c`.

/// Character sets by what the lexer must know of them: whether a trail byte can look like ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CharsetClass {
    /// No byte of a multi-byte character is below 0x80: latin1, utf8, euckr, ujis, gb2312 …
    #[default]
    Safe,
    /// gbk: trail bytes 40–7E, 80–FE.
    Gbk,
    /// sjis and cp932: trail bytes 40–7E, 80–FC.
    Sjis,
    /// big5: trail bytes 40–7E, A1–FE.
    Big5,
    /// gb18030: as gbk, and four-byte characters with digits at the second and fourth place.
    Gb18030,
}

impl CharsetClass {
    /// The class of a collation id, as greetings and `COM_CHANGE_USER` carry it.
    #[must_use]
    pub fn from_collation_id(id: u16) -> Self {
        // MariaDB's NO PAD variants of old collations are the id plus 1024.
        let id = if (1024..2048).contains(&id) { id - 1024 } else { id };
        match id {
            1 | 84 => CharsetClass::Big5,
            13 | 88 | 95 | 96 => CharsetClass::Sjis,
            28 | 87 => CharsetClass::Gbk,
            248..=250 => CharsetClass::Gb18030,
            _ => CharsetClass::Safe,
        }
    }

    /// The class of a character set's name, in any case.
    #[must_use]
    pub fn from_charset_name(name: &str) -> Self {
        const NAMES: [(&str, CharsetClass); 5] = [
            ("big5", CharsetClass::Big5),
            ("sjis", CharsetClass::Sjis),
            ("cp932", CharsetClass::Sjis),
            ("gbk", CharsetClass::Gbk),
            ("gb18030", CharsetClass::Gb18030),
        ];
        NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map_or(CharsetClass::Safe, |(_, c)| *c)
    }

    /// Bytes of the multi-byte character that begins with `lead`, or 1 where the lexer may go byte by byte.
    #[inline]
    pub(crate) fn char_len(self, lead: u8, rest: &[u8]) -> usize {
        if lead < 0x80 || self == CharsetClass::Safe {
            return 1;
        }
        let trail = rest.first().copied().unwrap_or(0);
        let two = match self {
            CharsetClass::Safe => false,
            CharsetClass::Gbk | CharsetClass::Gb18030 => {
                matches!(lead, 0x81..=0xFE) && matches!(trail, 0x40..=0x7E | 0x80..=0xFE)
            }
            CharsetClass::Sjis => {
                matches!(lead, 0x81..=0x9F | 0xE0..=0xFC) && matches!(trail, 0x40..=0x7E | 0x80..=0xFC)
            }
            CharsetClass::Big5 => matches!(lead, 0xA1..=0xF9) && matches!(trail, 0x40..=0x7E | 0xA1..=0xFE),
        };
        if two {
            return 2;
        }
        if self == CharsetClass::Gb18030
            && let [b'0'..=b'9', 0x81..=0xFE, b'0'..=b'9', ..] = rest
        {
            return 4;
        }
        1
    }
}

/// Who will run the text, for version comments. The version is `major * 10000 + minor * 100 + patch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Engine {
    /// MariaDB: skips `/*!50700 … */` to `/*!99999 … */`, runs `/*M! … */`.
    MariaDb {
        /// e.g. 101106.
        version: u32,
    },
    /// MySQL and everything that presents itself as MySQL.
    MySql {
        /// e.g. 80036.
        version: u32,
    },
}

impl Default for Engine {
    fn default() -> Self {
        Engine::MariaDb { version: 101_100 }
    }
}

impl Engine {
    /// Reads the version string of a greeting (`5.5.5-10.11.6-MariaDB-log`, `8.0.36`, `5.7.25-OceanBase-v4.2.1`).
    #[must_use]
    pub fn from_server_version(version: &str) -> Self {
        let maria = version.as_bytes().windows(7).any(|w| w.eq_ignore_ascii_case(b"mariadb"));
        if maria {
            let own = version.strip_prefix("5.5.5-").filter(|v| v.starts_with(|c: char| c.is_ascii_digit()));
            return Engine::MariaDb { version: version_number(own.unwrap_or(version)) };
        }
        Engine::MySql { version: version_number(version) }
    }

    /// Whether `/*!<version> … */` (or `/*M!<version>` with `maria_form`) runs here; `None` is a comment without a version.
    #[must_use]
    pub fn runs_comment(self, version: Option<u32>, maria_form: bool) -> bool {
        match (self, version) {
            (Engine::MariaDb { .. }, None) => true,
            (Engine::MariaDb { version: own }, Some(v)) => v <= own && (maria_form || !(50_700..=99_999).contains(&v)),
            (Engine::MySql { .. }, _) if maria_form => false,
            (Engine::MySql { .. }, None) => true,
            (Engine::MySql { version: own }, Some(v)) => v <= own,
        }
    }
}

fn version_number(text: &str) -> u32 {
    let mut parts = text.split(|c: char| !c.is_ascii_digit()).map(|p| p.parse::<u32>().unwrap_or(0).min(9_999));
    let mut next = || parts.next().unwrap_or(0);
    let (major, minor, patch) = (next(), next(), next());
    major * 10_000 + minor.min(99) * 100 + patch.min(99)
}

/// How to read a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Dialect {
    /// Class of `character_set_client`.
    pub charset: CharsetClass,
    /// sql_mode ANSI_QUOTES: `"x"` is a name.
    pub ansi_quotes: bool,
    /// sql_mode NO_BACKSLASH_ESCAPES: a backslash in a string is a backslash.
    pub no_backslash_escapes: bool,
    /// sql_mode IGNORE_SPACE, or the login flag of that name.
    pub ignore_space: bool,
    /// The default store's engine and version.
    pub engine: Engine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_by_version_string() {
        assert_eq!(Engine::from_server_version("5.5.5-10.11.6-MariaDB-log"), Engine::MariaDb { version: 101_106 });
        assert_eq!(Engine::from_server_version("11.4.2-MariaDB"), Engine::MariaDb { version: 110_402 });
        assert_eq!(Engine::from_server_version("5.7.25-OceanBase_CE-v4"), Engine::MySql { version: 50_725 });
        assert_eq!(Engine::from_server_version("8.0.36"), Engine::MySql { version: 80_036 });
        assert_eq!(Engine::from_server_version("nonsense"), Engine::MySql { version: 0 });
        assert_eq!(Engine::from_server_version("99999999999.1"), Engine::MySql { version: 100 });
    }

    #[test]
    fn version_comments() {
        let maria = Engine::MariaDb { version: 101_106 };
        assert!(maria.runs_comment(None, false));
        assert!(maria.runs_comment(Some(40_101), false));
        assert!(!maria.runs_comment(Some(50_700), false));
        assert!(maria.runs_comment(Some(50_700), true));
        assert!(maria.runs_comment(Some(100_000), false));
        assert!(!maria.runs_comment(Some(110_000), false));
        let mysql = Engine::MySql { version: 80_036 };
        assert!(mysql.runs_comment(Some(80_000), false));
        assert!(!mysql.runs_comment(Some(100_000), false));
        assert!(!mysql.runs_comment(None, true));
    }

    #[test]
    fn trail_bytes() {
        assert_eq!(CharsetClass::Gbk.char_len(0xBF, b"\\'"), 2);
        assert_eq!(CharsetClass::Safe.char_len(0xBF, b"\\'"), 1);
        assert_eq!(CharsetClass::Gb18030.char_len(0x81, b"0\x810x"), 4);
        assert_eq!(CharsetClass::from_collation_id(1052), CharsetClass::Gbk);
        assert_eq!(CharsetClass::from_charset_name("CP932"), CharsetClass::Sjis);
    }
}
