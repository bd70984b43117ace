//! A statement's text without its literals, which a store's parser still accepts: what query insight keeps of a statement, and what
//! readiness has a store prepare.
//!
//! Literals become `?`, except where the grammar of MySQL and MariaDB has no placeholder (types, precisions, typed literals, paths,
//! aliases …): there stands a constant of this file's own. Nothing of what the client wrote as a value is left, but ordinals of
//! ORDER BY and GROUP BY, which name columns. Lists after IN fold to one value, rows of VALUES that look alike to one row; other
//! lists keep their length, for it counts. Comments are left out, what executable comments hold is not.
//! Sources: MariaDB 10.11 `sql_yacc.yy`, MySQL 8.0 manual 13.5 and 15.5.1.

use super::dialect::Dialect;
use super::lex::{Lexeme, Lexer, Token};

/// Bytes of a text that is kept; a longer one is cut.
const LIMIT: usize = 8 << 10;
/// Ordinals of ORDER BY and GROUP BY up to here are kept: a table has 4,096 columns at most.
const MAX_ORDINAL: u32 = 4_096;

/// A statement without its literals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Askable {
    /// The text.
    pub text: String,
    /// Whether a store may be asked about it: it is whole, and can be written in UTF-8.
    pub whole: bool,
}

/// The statement, or the several of a text, without literals.
#[must_use]
pub fn askable(sql: &[u8], dialect: &Dialect) -> Askable {
    let mut writer = Writer::default();
    let mut lexer = Lexer::new(sql, dialect);
    let mut whole = true;
    loop {
        let token = lexer.next_token();
        if token.lexeme == Lexeme::End {
            break;
        }
        if writer.out.len() > LIMIT {
            whole = false;
            break;
        }
        let bytes = lexer.bytes(&token);
        whole &= std::str::from_utf8(bytes).is_ok() || is_value(token.lexeme);
        writer.token(&token, bytes);
    }
    writer.settle();
    Askable { text: writer.out, whole }
}

fn is_value(lexeme: Lexeme) -> bool {
    matches!(lexeme, Lexeme::Text | Lexeme::Number | Lexeme::Parameter)
}

/// What opened a parenthesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paren {
    /// IN: its values fold.
    In,
    /// A type or a function of the time: numbers in it are written out.
    Sized,
    /// A row of VALUES, written from here on.
    Row(usize),
    Other,
}

/// The token before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Before {
    #[default]
    Nothing,
    Word(Word),
    /// A string literal.
    Text,
    /// A value of any other kind.
    Value,
    Op(u8),
    /// A name that cannot be a keyword.
    Name,
    Other,
}

/// Words that decide how the next literal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    In,
    Sized,
    Date,
    Time,
    Timestamp,
    Separator,
    Escape,
    As,
    Path,
    Wait,
    Like,
    By,
    Values,
    /// `_utf8mb4`: a character set before its string.
    Introducer,
    Other,
}

/// Types with a length or precision, and functions with one: no placeholder may stand there.
const SIZED: [&str; 22] = [
    "DECIMAL",
    "DEC",
    "NUMERIC",
    "FIXED",
    "FLOAT",
    "DOUBLE",
    "CHAR",
    "VARCHAR",
    "CHARACTER",
    "NCHAR",
    "BINARY",
    "VARBINARY",
    "DATETIME",
    "YEAR",
    "NOW",
    "CURRENT_TIMESTAMP",
    "CURRENT_TIME",
    "CURTIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "SYSDATE",
    "UTC_TIME",
];

fn word(bytes: &[u8]) -> Word {
    const WORDS: [(&str, Word); 14] = [
        ("IN", Word::In),
        ("DATE", Word::Date),
        ("TIME", Word::Time),
        ("TIMESTAMP", Word::Timestamp),
        ("UTC_TIMESTAMP", Word::Sized),
        ("SEPARATOR", Word::Separator),
        ("ESCAPE", Word::Escape),
        ("AS", Word::As),
        ("PATH", Word::Path),
        ("WAIT", Word::Wait),
        ("LIKE", Word::Like),
        ("BY", Word::By),
        ("VALUES", Word::Values),
        ("VALUE", Word::Values),
    ];
    if bytes.first() == Some(&b'_') {
        return Word::Introducer;
    }
    let is = |name: &str| bytes.eq_ignore_ascii_case(name.as_bytes());
    match WORDS.iter().find(|(name, _)| is(name)) {
        Some((_, word)) => *word,
        None if SIZED.iter().any(|name| is(name)) => Word::Sized,
        None => Word::Other,
    }
}

#[derive(Debug, Default)]
struct Writer {
    out: String,
    /// End of the last token in the statement's text.
    end: usize,
    before: Before,
    parens: Vec<Paren>,
    /// ORDER BY or GROUP BY goes on, at this depth.
    by: Option<usize>,
    /// The statement is a SHOW.
    shows: bool,
    /// VALUES was read at this depth, and nothing but rows since.
    rows: Option<usize>,
    last_row: Option<String>,
    /// A comma that is held back: behind a value in a list of IN, or behind a row.
    comma: bool,
    aliases: u32,
}

impl Writer {
    fn token(&mut self, token: &Token, bytes: &[u8]) {
        match token.lexeme {
            Lexeme::Acting(_) => {}
            Lexeme::Text | Lexeme::Number | Lexeme::Parameter => self.value(token, bytes),
            Lexeme::Op(b',') if self.may_fold() => {
                self.comma = true;
                self.end = token.end;
            }
            Lexeme::Op(b'(') => self.open(token),
            Lexeme::Op(b')') => self.close(token),
            Lexeme::Op(b) => {
                self.plain(token, bytes);
                self.before = Before::Op(b);
            }
            Lexeme::Word => {
                let word = word(bytes);
                // JSON_TABLE(doc, 'path' COLUMNS (…)
                if self.before == Before::Text && self.out.ends_with('?') && bytes.eq_ignore_ascii_case(b"COLUMNS") {
                    self.out.pop();
                    self.out.push_str("'$'");
                }
                self.plain(token, bytes);
                self.clause(word, bytes);
                self.before = Before::Word(word);
            }
            Lexeme::Quoted | Lexeme::Member => {
                self.plain(token, bytes);
                self.before = Before::Name;
            }
            _ => {
                self.plain(token, bytes);
                self.before = Before::Other;
            }
        }
    }

    /// Whether a comma may be followed by what folds with what stands before it.
    fn may_fold(&self) -> bool {
        let value = matches!(self.before, Before::Text | Before::Value);
        let in_list = self.parens.last() == Some(&Paren::In) && value;
        !self.comma && (in_list || self.last_row.is_some() && self.rows == Some(self.parens.len()))
    }

    fn clause(&mut self, word: Word, bytes: &[u8]) {
        let depth = self.parens.len();
        match word {
            Word::By => self.by = Some(depth),
            Word::Values => (self.rows, self.last_row) = (Some(depth), None),
            _ if bytes.eq_ignore_ascii_case(b"LIMIT") || bytes.eq_ignore_ascii_case(b"HAVING") => self.by = None,
            _ if self.before == Before::Nothing => self.shows = bytes.eq_ignore_ascii_case(b"SHOW"),
            _ => {}
        }
    }

    /// A comma that was held back was no end of what folds.
    fn settle(&mut self) {
        if std::mem::take(&mut self.comma) {
            self.out.push(',');
        }
    }

    fn plain(&mut self, token: &Token, bytes: &[u8]) {
        self.settle();
        if self.rows == Some(self.parens.len()) {
            self.rows = None;
        }
        self.write(token, &String::from_utf8_lossy(bytes));
    }

    /// As it stood: what was apart stays apart, for `COUNT (` is not `COUNT(` everywhere.
    fn write(&mut self, token: &Token, text: &str) {
        if !self.out.is_empty() && token.start != self.end && !self.out.ends_with(' ') {
            self.out.push(' ');
        }
        self.out.push_str(text);
        self.end = token.end;
    }

    fn open(&mut self, token: &Token) {
        let row = self.rows == Some(self.parens.len());
        let start = self.out.len();
        self.settle();
        let paren = match self.before {
            _ if row => Paren::Row(start),
            Before::Word(Word::In) => Paren::In,
            Before::Word(Word::Sized | Word::Time | Word::Timestamp) => Paren::Sized,
            _ => Paren::Other,
        };
        self.write(token, "(");
        self.parens.push(paren);
        self.before = Before::Op(b'(');
    }

    fn close(&mut self, token: &Token) {
        self.settle();
        self.write(token, ")");
        if self.by.is_some_and(|depth| depth >= self.parens.len()) {
            self.by = None;
        }
        if let Some(Paren::Row(start)) = self.parens.pop() {
            let row = self.out.get(start..).unwrap_or_default().trim_start_matches([',', ' ']).to_owned();
            if self.last_row.as_ref() == Some(&row) {
                self.out.truncate(start);
            }
            self.last_row = Some(row);
        }
        self.before = Before::Op(b')');
    }

    fn value(&mut self, token: &Token, bytes: &[u8]) {
        let text = token.lexeme == Lexeme::Text;
        let joined = text && self.before == Before::Text;
        if joined || self.comma && self.parens.last() == Some(&Paren::In) {
            // strings side by side are one; one more value of a list
            self.comma = false;
            self.end = token.end;
            return;
        }
        self.settle();
        if self.rows == Some(self.parens.len()) {
            self.rows = None;
        }
        let written = match token.lexeme {
            Lexeme::Parameter => "?".to_owned(),
            _ => self.constant(text, bytes).unwrap_or_else(|| "?".to_owned()),
        };
        // (a constant must not run into the word before it: DATE'2000-01-01' may, `_utf8''` too, 1 may not)
        self.write(token, &written);
        self.before = if text { Before::Text } else { Before::Value };
    }

    /// What stands for a literal where no placeholder may.
    fn constant(&mut self, text: bool, bytes: &[u8]) -> Option<String> {
        let fixed = match self.before {
            Before::Word(Word::Date) if text => "'2000-01-01'",
            Before::Word(Word::Time) if text => "'00:00:00'",
            Before::Word(Word::Timestamp) if text => "'2000-01-01 00:00:00'",
            Before::Word(Word::Separator) => "','",
            Before::Word(Word::Escape) => "'|'",
            Before::Word(Word::Path) if text => "'$'",
            Before::Word(Word::Introducer) => "''",
            Before::Word(Word::Wait) => "1",
            Before::Word(Word::Like) if self.shows => "'%'",
            // (also `c 'alias'`, without AS)
            Before::Word(Word::As) | Before::Name | Before::Op(b')') if text => {
                self.aliases += 1;
                return Some(format!("a{}", self.aliases));
            }
            Before::Op(b'>') if self.out.ends_with("->") || self.out.ends_with("->>") => "'$'",
            _ if self.parens.last() == Some(&Paren::Sized) => "1",
            Before::Word(Word::By) | Before::Op(b',') if !text && self.by == Some(self.parens.len()) => {
                let ordinal = std::str::from_utf8(bytes).ok()?.parse::<u32>().ok()?;
                return (ordinal <= MAX_ORDINAL).then(|| ordinal.to_string());
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(sql: &str) -> String {
        let found = askable(sql.as_bytes(), &Dialect::default());
        assert!(found.whole, "{sql}");
        found.text
    }

    #[test]
    fn literals_go_and_the_rest_stays() {
        for (sql, expected) in [
            (
                "SELECT a.b, COUNT( * ) FROM t /* x */ WHERE c = 'it''s' AND d=-1.5e3",
                "SELECT a.b, COUNT( * ) FROM t WHERE c = ? AND d=-?",
            ),
            (
                "SELECT * FROM t WHERE a IN (1, 2,3) AND b NOT IN('x','y')",
                "SELECT * FROM t WHERE a IN (?) AND b NOT IN(?)",
            ),
            ("SELECT f(1, 2, 3) FROM t LIMIT 5, 10", "SELECT f(?, ?, ?) FROM t LIMIT ?, ?"),
            ("INSERT INTO t (a,b) VALUES (1,'x'),(2,'y'), (3, NULL)", "INSERT INTO t (a,b) VALUES (?,?), (?, NULL)"),
            (
                "INSERT INTO t VALUES (1,2),(3,4) ON DUPLICATE KEY UPDATE a=VALUES(a), b=VALUES(b)",
                "INSERT INTO t VALUES (?,?) ON DUPLICATE KEY UPDATE a=VALUES(a), b=VALUES(b)",
            ),
            (
                "SELECT /*!40001 SQL_NO_CACHE */ a FROM t /*+ x */ WHERE b = ?",
                "SELECT SQL_NO_CACHE a FROM t WHERE b = ?",
            ),
            ("SELECT a FROM t WHERE b = 'x' 'y'", "SELECT a FROM t WHERE b = ?"),
            ("SELECT a IN (1, 2) + 3, (4, 5)", "SELECT a IN (?) + ?, (?, ?)"),
        ] {
            assert_eq!(text(sql), expected, "{sql}");
        }
    }

    #[test]
    fn where_no_placeholder_may_stand_is_a_constant() {
        for (sql, expected) in [
            (
                "SELECT DATE '2024-02-03', TIMESTAMP'2024-02-03 04:05:06'",
                "SELECT DATE '2000-01-01', TIMESTAMP'2000-01-01 00:00:00'",
            ),
            ("SELECT CAST(a AS DECIMAL(10, 2)), NOW(6), CHAR(77)", "SELECT CAST(a AS DECIMAL(1, 1)), NOW(1), CHAR(1)"),
            ("SELECT a AS 'secret', b AS 'two', _utf8mb4'x' FROM t", "SELECT a AS a1, b AS a2, _utf8mb4'' FROM t"),
            ("SELECT a->'$.x', a->>'$.y' FROM t", "SELECT a->'$', a->>'$' FROM t"),
            (
                "SELECT GROUP_CONCAT(a ORDER BY b SEPARATOR ';') FROM t WHERE a LIKE 'x%' ESCAPE '!'",
                "SELECT GROUP_CONCAT(a ORDER BY b SEPARATOR ',') FROM t WHERE a LIKE ? ESCAPE '|'",
            ),
            (
                "SELECT a, COUNT(*) FROM t GROUP BY 1, 2 ORDER BY 2 DESC, 99999 LIMIT 3",
                "SELECT a, COUNT(*) FROM t GROUP BY 1, 2 ORDER BY 2 DESC, ? LIMIT ?",
            ),
            ("SELECT COUNT(*) 'n', t.a 'b', @x := 'y' FROM t", "SELECT COUNT(*) a1, t.a a2, @x := ? FROM t"),
            (
                "SELECT a FROM JSON_TABLE(d, '$[*]' COLUMNS (a INT PATH '$.a')) AS j",
                "SELECT a FROM JSON_TABLE(d, '$' COLUMNS (a INT PATH '$')) AS j",
            ),
            ("SHOW COLUMNS FROM t LIKE 'secret'", "SHOW COLUMNS FROM t LIKE '%'"),
            (
                "SELECT a FROM t WHERE b < DATE_SUB(NOW(), INTERVAL 7 DAY) FOR UPDATE WAIT 5",
                "SELECT a FROM t WHERE b < DATE_SUB(NOW(), INTERVAL ? DAY) FOR UPDATE WAIT 1",
            ),
        ] {
            assert_eq!(text(sql), expected, "{sql}");
        }
    }

    #[test]
    fn what_is_long_or_no_utf8_is_not_asked() {
        let long = format!("SELECT {}", vec!["a"; 9_000].join(", "));
        let cut = askable(long.as_bytes(), &Dialect::default());
        assert!(!cut.whole && cut.text.len() <= LIMIT + 16);
        assert!(!askable(b"SELECT \xE4 FROM t", &Dialect::default()).whole);
        assert!(askable(b"SELECT '\xE4' FROM t", &Dialect::default()).whole);
        let rows = format!("INSERT INTO t VALUES {}", vec!["(1, 'x')"; 50_000].join(","));
        assert_eq!(text(&rows), "INSERT INTO t VALUES (?, ?)");
    }
}
