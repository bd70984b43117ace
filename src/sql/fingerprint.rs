//! A statement's fingerprint: 128 bits over its tokens with the literals taken out, in one pass and without allocation.
//!
//! Two texts with one fingerprint have the same facts, unless those carry `LITERALS_MATTER`, which are never cached.
//! So: names and keywords count byte for byte; literals count as "a literal", placeholders as "a placeholder"; lists of
//! either fold to one, rows of VALUES that look alike fold to one row; comments count only where they act.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use super::dialect::{CharsetClass, Dialect, Engine};
use super::lex::{Acting, Lexeme, Lexer, Token};

/// Key of the plan cache. Seeded per process: never written down, never compared between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u128);

/// Odd constants of the two lanes, drawn once per process so that nobody can prepare collisions.
static SEED: LazyLock<[u64; 4]> = LazyLock::new(|| {
    let random = RandomState::new();
    [1u64, 2, 3, 4].map(|n| random.hash_one(n) | 1)
});

/// Two 64-bit lanes, each fed by a folded 64 × 64 multiplication.
#[derive(Debug, Clone, Copy)]
struct Lanes {
    a: u64,
    b: u64,
    ka: u64,
    kb: u64,
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the fold takes both halves of the product")]
fn fold(x: u64, y: u64) -> u64 {
    let product = u128::from(x) * u128::from(y);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Lanes {
    fn new(seed: &[u64; 4]) -> Self {
        let [a, b, ka, kb] = *seed;
        Lanes { a, b, ka, kb }
    }

    #[inline(always)]
    fn word(&mut self, w: u64) {
        self.a = fold(self.a ^ w, self.ka);
        self.b = fold(self.b.rotate_left(23) ^ w, self.kb);
    }

    #[inline(always)]
    fn bytes(&mut self, tag: u64, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            if let Ok(eight) = <[u8; 8]>::try_from(chunk) {
                self.word(u64::from_le_bytes(eight));
            }
        }
        // The last bytes below the length and the tag: what follows cannot be confused with what stood before.
        let tail = chunks.remainder().iter().fold(0u64, |v, b| (v << 8) | u64::from(*b));
        self.word(tail ^ (tag << 56) ^ ((bytes.len() as u64) << 60));
        if bytes.len() >= 16 {
            self.word(bytes.len() as u64);
        }
    }

    fn finish(mut self) -> u128 {
        self.word(self.ka);
        (u128::from(self.a) << 64) | u128::from(self.b)
    }
}

const LITERAL: u64 = 1 << 32;
const PLACEHOLDER: u64 = 2 << 32;
const OPERATOR: u64 = 3 << 32;
const ROW: u64 = 4 << 32;

fn dialect_key(d: &Dialect) -> u64 {
    let charset = match d.charset {
        CharsetClass::Safe => 0u64,
        CharsetClass::Gbk => 1,
        CharsetClass::Sjis => 2,
        CharsetClass::Big5 => 3,
        CharsetClass::Gb18030 => 4,
    };
    let (family, version) = match d.engine {
        Engine::MariaDb { version } => (0u64, version),
        Engine::MySql { version } => (1, version),
    };
    u64::from(version)
        | charset << 40
        | u64::from(d.ansi_quotes) << 48
        | u64::from(d.no_backslash_escapes) << 49
        | u64::from(d.ignore_space) << 50
        | family << 51
}

/// What the last tokens were, for folding lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Other,
    Literal,
    Placeholder,
    /// A comma after a literal or placeholder, not hashed yet.
    Comma(u64),
}

/// Rows after VALUES: each is hashed apart, and only added where it differs from the one before.
#[derive(Debug, Clone, Copy)]
struct Rows {
    outer: Lanes,
    depth: u32,
    held_comma: bool,
}

/// The fingerprint of one statement or of a whole multi-statement text.
#[must_use]
pub fn fingerprint(sql: &[u8], dialect: &Dialect) -> Fingerprint {
    let mut folder = Folder::new(dialect);
    let mut lexer = Lexer::new(sql, dialect);
    loop {
        let token = lexer.next_token();
        if token.lexeme == Lexeme::End {
            return folder.finish();
        }
        folder.feed(&token, lexer.bytes(&token));
    }
}

struct Folder {
    lanes: Lanes,
    seed: [u64; 4],
    last: Last,
    /// Set by VALUES until something else than rows follows.
    expecting_row: bool,
    rows: Option<Rows>,
    /// Hash of the last row of the VALUES list that is being read, and whether its comma is held back.
    last_row: u128,
    held_comma: bool,
}

impl Folder {
    fn new(dialect: &Dialect) -> Self {
        let seed = *SEED;
        let mut lanes = Lanes::new(&seed);
        lanes.word(dialect_key(dialect));
        Folder { lanes, seed, last: Last::Other, expecting_row: false, rows: None, last_row: 0, held_comma: false }
    }

    fn finish(mut self) -> Fingerprint {
        self.settle();
        if let Some(rows) = self.rows.take() {
            let inner = self.lanes.finish();
            self.lanes = rows.outer;
            self.held_comma = rows.held_comma;
            self.add_row(inner);
            self.lanes.word(OPERATOR);
        }
        self.settle_row_comma();
        Fingerprint(self.lanes.finish())
    }

    /// Adds a comma that was held back, since no literal followed it.
    #[inline(always)]
    fn settle(&mut self) {
        if let Last::Comma(_) = self.last {
            self.lanes.word(OPERATOR | u64::from(b','));
        }
        self.last = Last::Other;
    }

    #[inline(always)]
    fn feed(&mut self, token: &Token, bytes: &[u8]) {
        match token.lexeme {
            Lexeme::Word => self.word(bytes),
            Lexeme::Text | Lexeme::Number => self.value(LITERAL),
            Lexeme::Parameter => self.value(PLACEHOLDER),
            Lexeme::Op(b) => self.operator(b),
            Lexeme::Member => self.name(6, bytes),
            Lexeme::Quoted => self.name(7, bytes),
            Lexeme::UserVariable => self.name(8, bytes),
            Lexeme::SystemVariable => self.name(9, bytes),
            Lexeme::Assign => self.name(10, bytes),
            Lexeme::Acting(Acting::OptimizerHint) => self.name(11, bytes),
            Lexeme::Acting(Acting::RoutingHint) => self.name(12, bytes),
            Lexeme::Acting(Acting::Entered) => self.name(13, bytes),
            Lexeme::Acting(Acting::Skipped) => self.name(14, bytes),
            Lexeme::End => {}
        }
    }

    #[inline(always)]
    fn name(&mut self, tag: u64, bytes: &[u8]) {
        self.settle();
        self.expecting_row = false;
        self.settle_row_comma();
        self.lanes.bytes(tag, bytes);
    }

    #[inline(always)]
    fn word(&mut self, bytes: &[u8]) {
        if bytes.len() == 4 && bytes.eq_ignore_ascii_case(b"null") {
            return self.value(LITERAL);
        }
        self.name(5, bytes);
        if self.rows.is_none() && matches!(bytes.len(), 5 | 6) && is_values(bytes) {
            self.expecting_row = true;
            self.last_row = 0;
        }
    }

    #[inline(always)]
    fn value(&mut self, kind: u64) {
        let same = match self.last {
            Last::Comma(before) => before == kind,
            _ => false,
        };
        if !same {
            self.settle();
            self.expecting_row = false;
            self.settle_row_comma();
            self.lanes.word(kind);
        }
        self.last = if kind == LITERAL { Last::Literal } else { Last::Placeholder };
    }

    #[inline(always)]
    fn operator(&mut self, b: u8) {
        match (b, self.last) {
            (b',', Last::Literal) => {
                self.last = Last::Comma(LITERAL);
                return;
            }
            (b',', Last::Placeholder) => {
                self.last = Last::Comma(PLACEHOLDER);
                return;
            }
            _ => self.settle(),
        }
        match b {
            b'(' => self.open(),
            b')' => self.close(),
            b',' if self.expecting_row && self.rows.is_none() && self.last_row != 0 => self.held_comma = true,
            _ => {
                self.expecting_row = false;
                self.settle_row_comma();
                self.lanes.word(OPERATOR | u64::from(b));
            }
        }
    }

    #[inline(always)]
    fn open(&mut self) {
        if let Some(rows) = &mut self.rows {
            rows.depth = rows.depth.saturating_add(1);
        } else if self.expecting_row {
            self.rows = Some(Rows { outer: self.lanes, depth: 0, held_comma: std::mem::take(&mut self.held_comma) });
            self.lanes = Lanes::new(&self.seed);
            return;
        }
        self.lanes.word(OPERATOR | u64::from(b'('));
    }

    #[inline(always)]
    fn close(&mut self) {
        match &mut self.rows {
            Some(rows) if rows.depth == 0 => {
                let (outer, held_comma) = (rows.outer, rows.held_comma);
                let inner = self.lanes.finish();
                self.rows = None;
                self.lanes = outer;
                self.held_comma = held_comma;
                self.add_row(inner);
            }
            Some(rows) => {
                rows.depth -= 1;
                self.lanes.word(OPERATOR | u64::from(b')'));
            }
            None => {
                self.settle_row_comma();
                self.lanes.word(OPERATOR | u64::from(b')'));
            }
        }
    }

    /// Adds a row that differs from the one before; the comma before it goes with it.
    fn add_row(&mut self, inner: u128) {
        if inner != self.last_row {
            self.settle_row_comma();
            self.lanes.word(ROW);
            #[expect(clippy::cast_possible_truncation, reason = "both halves are fed")]
            for half in [(inner >> 64) as u64, inner as u64] {
                self.lanes.word(half);
            }
        }
        self.held_comma = false;
        self.last_row = inner;
        self.expecting_row = true;
    }

    #[inline(always)]
    fn settle_row_comma(&mut self) {
        if std::mem::take(&mut self.held_comma) {
            self.lanes.word(OPERATOR | u64::from(b','));
        }
    }
}

/// The statement with its literals as `?`, lists of them as `?, …`, and without comments: for people and logs.
///
/// At most 4 KiB; longer texts are cut.
#[must_use]
pub fn digest_text(sql: &[u8], dialect: &Dialect) -> String {
    const LIMIT: usize = 4096;
    let mut out = String::new();
    let mut lexer = Lexer::new(sql, dialect);
    let mut digest = Digest::default();
    loop {
        let token = lexer.next_token();
        if token.lexeme == Lexeme::End {
            return out;
        }
        if out.len() > LIMIT {
            out.push_str(" …");
            return out;
        }
        digest.feed(&token, lexer.bytes(&token), &mut out);
    }
}

/// What [`digest_text`] wrote last.
#[derive(Debug, Default)]
struct Digest {
    /// Literals of the list that is being written; a comma after the first is held back.
    values: u32,
    comma: bool,
    /// No space before the next token.
    tight: bool,
    /// The last token was a name, to which `(` sticks.
    name: bool,
}

impl Digest {
    fn feed(&mut self, token: &Token, bytes: &[u8], out: &mut String) {
        let value = match token.lexeme {
            Lexeme::Text | Lexeme::Number | Lexeme::Parameter => true,
            Lexeme::Op(b',') if self.values > 0 && !self.comma => {
                self.comma = true;
                return;
            }
            Lexeme::Acting(_) => return,
            _ => false,
        };
        if value && self.comma {
            self.comma = false;
            self.values = self.values.saturating_add(1);
            if self.values == 2 {
                out.push_str(", …");
            }
            return;
        }
        if std::mem::take(&mut self.comma) {
            out.push(',');
        }
        self.values = u32::from(value);
        let text = if value { "?".into() } else { String::from_utf8_lossy(bytes) };
        let sticks = matches!(token.lexeme, Lexeme::Op(b',' | b')' | b'.' | b';'))
            || (token.lexeme == Lexeme::Op(b'(') && self.name);
        if !(out.is_empty() || self.tight || sticks) {
            out.push(' ');
        }
        out.push_str(&text);
        self.tight = matches!(token.lexeme, Lexeme::Op(b'(' | b'.') | Lexeme::SystemVariable);
        self.name = matches!(token.lexeme, Lexeme::Word | Lexeme::Quoted) && !is_in_or_values(bytes);
    }
}

fn is_in_or_values(bytes: &[u8]) -> bool {
    is_values(bytes) || bytes.eq_ignore_ascii_case(b"in")
}

fn is_values(bytes: &[u8]) -> bool {
    bytes.eq_ignore_ascii_case(b"values") || bytes.eq_ignore_ascii_case(b"value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fp(sql: &str) -> Fingerprint {
        fingerprint(sql.as_bytes(), &Dialect::default())
    }

    #[test]
    fn literals_and_lists_fold() {
        assert_eq!(fp("SELECT 1"), fp("select 'x'".replace("select", "SELECT").as_str()));
        assert_eq!(fp("SELECT * FROM t WHERE a IN (1,2,3)"), fp("SELECT *  FROM t /* x */ WHERE a IN ( 'y' )"));
        assert_eq!(fp("INSERT INTO t VALUES (1,2)"), fp("INSERT INTO t VALUES (1,2), (3,'x'),(NULL,4)"));
        assert_eq!(fp("INSERT INTO t VALUES (1,NOW())"), fp("INSERT INTO t VALUES (1,NOW()), (3,NOW())"));
        assert_ne!(fp("INSERT INTO t VALUES (1,NOW())"), fp("INSERT INTO t VALUES (1,NOW()), (NOW(),3)"));
        assert_eq!(fp("a IN (?,?)"), fp("a IN (?)"));
        assert_ne!(fp("a IN (?)"), fp("a IN (1)"));
    }

    #[test]
    fn digests() {
        let digest = |sql: &str| digest_text(sql.as_bytes(), &Dialect::default());
        assert_eq!(
            digest("SELECT a.b,COUNT( * )FROM t /* x */ WHERE a IN(1,2,3) AND b='x' AND c=? LIMIT 1, 2"),
            "SELECT a.b, COUNT(*) FROM t WHERE a IN (?, …) AND b = ? AND c = ? LIMIT ?, …"
        );
        assert_eq!(digest("INSERT INTO t VALUES (1,f(2)),(3,@@x)"), "INSERT INTO t VALUES (?, f(?)), (?, @@x)");
    }

    #[test]
    fn what_acts_counts() {
        for (a, b) in [
            ("SELECT a", "SELECT b"),
            ("SELECT ab c", "SELECT a bc"),
            ("SELECT * FROM t", "SELECT /*+ NO_MERGE() */ * FROM t"),
            ("SELECT * FROM t", "SELECT /* switchover:store=new */ * FROM t"),
            ("SELECT /*! a */ 1", "SELECT a 1"),
            ("SELECT /*!99999 a */ 1", "SELECT /*!99999 b */ 1"),
            ("INSERT INTO t VALUES (1), (f(2))", "INSERT INTO t VALUES (1)"),
            ("VALUES (1) , x", "VALUES (1) x"),
            ("VALUES (1),", "VALUES (1)"),
            ("SELECT 1,", "SELECT 1"),
            ("SELECT 'a' FROM x", "SELECT 'a' FROM y"),
            ("a.null", "a.true"),
            ("(", "(("),
        ] {
            assert_ne!(fp(a), fp(b), "{a} / {b}");
        }
        let ansi = Dialect { ansi_quotes: true, ..Dialect::default() };
        assert_ne!(fp("SELECT 1"), fingerprint(b"SELECT 1", &ansi));
    }
}
