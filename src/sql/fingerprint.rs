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

/// Two 64-bit lanes; each absorbs a pair of words by one folded 64 × 64 multiplication.
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
    fn pair(&mut self, x: u64, y: u64) {
        self.a = fold(self.a ^ x, self.ka ^ y);
        self.b = fold(self.b ^ y, self.kb ^ x);
    }

    fn finish(mut self) -> u128 {
        self.pair(4 << 56, 5 << 56);
        self.pair(self.b, self.a);
        (u128::from(self.a) << 64) | u128::from(self.b)
    }
}

// Tokens without a text of their own are symbols of one byte. Operators are their byte, which is below 0x80 and not 0.
const LITERAL: u8 = 0x81;
const PLACEHOLDER: u8 = 0x82;
const ROW: u8 = 0x83;
const NUL: u8 = 0x84;

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

/// The fingerprint of one statement or of a whole multi-statement text.
#[must_use]
pub fn fingerprint(sql: &[u8], dialect: &Dialect) -> Fingerprint {
    let mut folder = Folder::new(sql, dialect);
    let mut lexer = Lexer::new(sql, dialect);
    loop {
        let token = lexer.next_token();
        match token.lexeme {
            Lexeme::Word => folder.word(&token),
            Lexeme::Op(b) => folder.operator(b),
            Lexeme::Text | Lexeme::Number => folder.value(LITERAL),
            Lexeme::Quoted => folder.name(7, &token),
            Lexeme::Parameter => folder.value(PLACEHOLDER),
            Lexeme::End => return folder.finish(),
            other => folder.name(tag(other), &token),
        }
    }
}

#[cold]
fn tag(lexeme: Lexeme) -> u64 {
    match lexeme {
        Lexeme::Member => 6,
        Lexeme::UserVariable => 8,
        Lexeme::SystemVariable => 9,
        Lexeme::Assign => 10,
        Lexeme::Acting(Acting::OptimizerHint) => 11,
        Lexeme::Acting(Acting::RoutingHint) => 12,
        Lexeme::Acting(Acting::Entered) => 13,
        Lexeme::Acting(Acting::Skipped) => 14,
        _ => 15,
    }
}

/// A hash under way: the lanes, and symbols that are not in them yet.
#[derive(Debug, Clone, Copy)]
struct Hash {
    lanes: Lanes,
    /// Up to six symbols, the oldest highest.
    symbols: u64,
}

impl Hash {
    #[inline(always)]
    fn symbol(&mut self, symbol: u8) {
        self.symbols = (self.symbols << 8) | u64::from(symbol);
        if self.symbols >> 40 != 0 {
            self.flush();
        }
    }

    #[inline(always)]
    fn flush(&mut self) {
        self.lanes.pair(std::mem::take(&mut self.symbols), 1 << 56);
    }

    /// A token with its text: its tag, its length and the symbols before it make one word, its bytes the others.
    #[inline(always)]
    fn text(&mut self, tag: u64, text: &[u8], token: &Token) {
        let len = token.end - token.start;
        let head = std::mem::take(&mut self.symbols) | (len.min(255) as u64) << 48 | tag << 56;
        if len <= 8 {
            self.lanes.pair(head, short(text, token.start, len));
        } else {
            self.long(head, text, token);
        }
    }

    #[inline(never)]
    fn long(&mut self, head: u64, text: &[u8], token: &Token) {
        let bytes = text.get(token.start..token.end).unwrap_or_default();
        let (first, rest) = bytes.split_at(bytes.len().min(8));
        self.lanes.pair(head, word_of(first));
        let mut chunks = rest.chunks_exact(16);
        for chunk in &mut chunks {
            let (x, y) = chunk.split_at(8);
            self.lanes.pair(word_of(x), word_of(y));
        }
        let rest = chunks.remainder();
        let (x, y) = rest.split_at(rest.len().min(8));
        self.lanes.pair(word_of(x), word_of(y));
        if bytes.len() >= 255 {
            self.lanes.pair(bytes.len() as u64, 2 << 56);
        }
    }

    fn finish(mut self) -> u128 {
        self.flush();
        self.lanes.finish()
    }
}

/// Up to eight bytes as a number.
#[inline(always)]
fn word_of(bytes: &[u8]) -> u64 {
    match <[u8; 8]>::try_from(bytes) {
        Ok(eight) => u64::from_le_bytes(eight),
        Err(_) => bytes.iter().rev().fold(0, |v, b| (v << 8) | u64::from(*b)),
    }
}

/// `len` bytes, at most eight, from `start`: one load wherever the text goes on for eight bytes.
#[inline(always)]
fn short(text: &[u8], start: usize, len: usize) -> u64 {
    match text.get(start..start + 8).and_then(|s| <[u8; 8]>::try_from(s).ok()) {
        Some(eight) => u64::from_le_bytes(eight) & (u64::MAX >> (64 - 8 * len.clamp(1, 8))),
        None => word_of(text.get(start..start + len).unwrap_or_default()),
    }
}

/// A row after VALUES is hashed apart, and added only where it differs from the one before.
#[derive(Debug, Clone, Copy)]
struct Row {
    outer: Hash,
    /// Parentheses open in it.
    depth: u32,
    /// The comma before it.
    comma: bool,
}

struct Folder<'a> {
    text: &'a [u8],
    hash: Hash,
    /// LITERAL or PLACEHOLDER if that was the last token (or the one before a comma that is held back), else 0.
    last: u8,
    /// A comma after it is held back.
    held: bool,
    /// VALUES was read, and nothing but rows since.
    rows: bool,
    row: Option<Row>,
    last_row: u128,
    /// The comma behind a row is held back.
    row_comma: bool,
    seed: [u64; 4],
}

impl<'a> Folder<'a> {
    fn new(text: &'a [u8], dialect: &Dialect) -> Self {
        let seed = *SEED;
        let mut lanes = Lanes::new(&seed);
        lanes.pair(dialect_key(dialect), 3 << 56);
        let hash = Hash { lanes, symbols: 0 };
        Folder { text, hash, last: 0, held: false, rows: false, row: None, last_row: 0, row_comma: false, seed }
    }

    #[cold]
    #[inline(never)]
    fn settle_rows(&mut self) {
        self.rows = false;
        if std::mem::take(&mut self.row_comma) {
            self.hash.symbol(b',');
        }
    }

    /// Adds the commas that were held back, since neither a literal nor a row followed.
    #[inline(always)]
    fn settle(&mut self) {
        if self.held {
            self.held = false;
            self.hash.symbol(b',');
        }
        self.last = 0;
    }

    #[inline(always)]
    fn name(&mut self, tag: u64, token: &Token) {
        self.settle();
        if self.rows {
            self.settle_rows();
        }
        self.hash.text(tag, self.text, token);
    }

    #[inline(always)]
    fn word(&mut self, token: &Token) {
        let len = token.end - token.start;
        if len == 4 && short(self.text, token.start, 4) | 0x2020_2020 == u64::from(u32::from_le_bytes(*b"null")) {
            return self.value(LITERAL);
        }
        self.name(5, token);
        if (len == 5 || len == 6) && self.row.is_none() && is_values(self.text.get(token.start..token.end)) {
            self.rows = true;
            self.last_row = 0;
        }
    }

    #[inline(always)]
    fn value(&mut self, kind: u8) {
        if self.held && self.last == kind {
            self.held = false;
            return;
        }
        self.settle();
        if self.rows {
            self.settle_rows();
        }
        self.hash.symbol(kind);
        self.last = kind;
    }

    #[inline(always)]
    fn operator(&mut self, b: u8) {
        if b == b',' && self.last != 0 && !self.held {
            self.held = true;
            return;
        }
        self.settle();
        if self.rows || self.row.is_some() {
            return self.operator_in_rows(b);
        }
        self.hash.symbol(if b == 0 { NUL } else { b });
    }

    #[inline(never)]
    fn operator_in_rows(&mut self, b: u8) {
        match (b, &mut self.row) {
            (b'(', None) => {
                let inner = Hash { lanes: Lanes::new(&self.seed), symbols: 0 };
                let outer = std::mem::replace(&mut self.hash, inner);
                self.row = Some(Row { outer, depth: 0, comma: std::mem::take(&mut self.row_comma) });
                // Within a row nothing is held back for rows.
                self.rows = false;
                return;
            }
            (b'(', Some(row)) => row.depth = row.depth.saturating_add(1),
            (b')', Some(row)) if row.depth == 0 => return self.end_row(),
            (b')', Some(row)) => row.depth -= 1,
            (b',', None) if self.last_row != 0 && !self.row_comma => {
                self.row_comma = true;
                return;
            }
            (_, None) => self.settle_rows(),
            _ => {}
        }
        self.hash.symbol(if b == 0 { NUL } else { b });
    }

    fn end_row(&mut self) {
        let Some(row) = self.row.take() else { return };
        let inner = std::mem::replace(&mut self.hash, row.outer).finish();
        if inner != self.last_row {
            if row.comma {
                self.hash.symbol(b',');
            }
            self.hash.symbol(ROW);
            self.hash.flush();
            #[expect(clippy::cast_possible_truncation, reason = "both halves are fed")]
            self.hash.lanes.pair((inner >> 64) as u64, inner as u64);
        }
        self.last_row = inner;
        self.rows = true;
    }

    fn finish(mut self) -> Fingerprint {
        self.settle();
        if self.row.is_some() {
            self.end_row();
            self.hash.symbol(NUL);
        }
        if self.rows {
            self.settle_rows();
        }
        Fingerprint(self.hash.finish())
    }
}

fn is_values(word: Option<&[u8]>) -> bool {
    word.is_some_and(|w| w.eq_ignore_ascii_case(b"values") || w.eq_ignore_ascii_case(b"value"))
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
    /// The last token, where it was an operator, and where it ended.
    operator: (u8, usize),
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
            || (token.lexeme == Lexeme::Op(b'(') && self.name)
            || self.continues(token);
        if !(out.is_empty() || self.tight || sticks) {
            out.push(' ');
        }
        out.push_str(&text);
        self.operator = match token.lexeme {
            Lexeme::Op(b) => (b, token.end),
            _ => (0, 0),
        };
        self.tight = matches!(token.lexeme, Lexeme::Op(b'(' | b'.') | Lexeme::SystemVariable);
        self.name = matches!(token.lexeme, Lexeme::Word | Lexeme::Quoted) && !is_in_or_values(bytes);
    }
}

impl Digest {
    /// Whether an operator goes on with the byte before it: `<=`, `||`, `->>` …
    fn continues(&self, token: &Token) -> bool {
        let Lexeme::Op(b) = token.lexeme else { return false };
        let pair = matches!(
            (self.operator.0, b),
            (b'<', b'=' | b'>' | b'<')
                | (b'>' | b'-', b'>')
                | (b'>' | b'!', b'=')
                | (b'=', b'>')
                | (b'|', b'|')
                | (b'&', b'&')
        );
        pair && self.operator.1 == token.start
    }
}

fn is_in_or_values(bytes: &[u8]) -> bool {
    is_values(Some(bytes)) || bytes.eq_ignore_ascii_case(b"in")
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
        assert_eq!(
            digest("SELECT a<=1, b<>-2, c <=> d||e, f->>'$.x', g = -h"),
            "SELECT a <= ?, b <> - ?, c <=> d || e, f ->> ?, g = - h"
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
