//! Multi-statement texts → the spans of their statements.
//!
//! Cuts at `;` as the server does, never inside a compound statement (`BEGIN NOT ATOMIC`, top-level IF/LOOP/CASE …, the
//! bodies of CREATE PROCEDURE/FUNCTION/TRIGGER/EVENT/PACKAGE). Spans and the `;` between them cover the text but for
//! trailing `;` and white space, which the server strips too.

use super::dialect::Dialect;
use super::facts::Span;
use super::lex::{Lexeme, Lexer, Token, offset};
use super::word::{self, Word};

/// The statements of `sql`, in order; a text without `;` (or with a trailing one) is found whole without being read.
#[must_use]
pub fn split<'a>(sql: &'a [u8], dialect: &Dialect) -> Statements<'a> {
    let end = sql.len() - sql.iter().rev().take_while(|b| **b == b';' || is_space(**b)).count();
    let text = sql.get(..end).unwrap_or_default();
    let lexer = memchr::memchr(b';', text).map(|_| Lexer::new(text, dialect));
    Statements { text, lexer, start: 0, done: false }
}

/// White space as the server strips it.
fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0B | 0x0C)
}

/// Iterator of [`split`].
#[derive(Debug, Clone)]
pub struct Statements<'a> {
    text: &'a [u8],
    /// None where the text has no `;` to look at.
    lexer: Option<Lexer<'a>>,
    start: usize,
    done: bool,
}

impl Iterator for Statements<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        if self.done {
            return None;
        }
        let start = self.start;
        let mut end = self.text.len();
        self.done = true;
        if let Some(lexer) = &mut self.lexer
            && let Some(cut) = next_cut(lexer)
        {
            end = cut;
            self.start = cut + 1;
            self.done = false;
        }
        Some(Span { start: offset(start), end: offset(end) })
    }
}

/// Place of the next `;` that ends a statement.
fn next_cut(lexer: &mut Lexer<'_>) -> Option<usize> {
    let mut blocks = Blocks::default();
    loop {
        let token = lexer.next_token();
        match token.lexeme {
            Lexeme::End => return None,
            Lexeme::Op(b';') if !blocks.keeps_together() => return Some(token.start),
            Lexeme::Acting(_) => {}
            _ => blocks.feed(&token, lexer),
        }
    }
}

/// What a statement turned out to be, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Shape {
    /// Nothing read yet.
    #[default]
    Start,
    /// `BEGIN`, of which the next word decides.
    Begin,
    /// `name`, which a `:` would make a label.
    Name,
    /// CREATE or ALTER, before the kind of object is known.
    Create,
    /// Blocks are counted.
    Compound,
    /// Any `;` ends it.
    Simple,
}

/// Counts the open blocks of a compound statement.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    shape: Shape,
    /// One entry for each open block: true where END closes wherever it stands (CASE, REPEAT after its UNTIL).
    open: Vec<bool>,
    /// A statement can begin at the next token.
    at_start: bool,
    /// The last word was END, and a word that names the block may follow.
    after_end: bool,
    previous: Word,
    /// Open parentheses, in which no statement begins.
    parens: u32,
}

/// Blocks deeper than any server takes: counting stops there.
const MAX_BLOCKS: usize = 100_000;

impl Blocks {
    /// True while `;` does not end the statement.
    pub(crate) fn keeps_together(&self) -> bool {
        !self.open.is_empty()
    }

    fn feed(&mut self, token: &Token, lexer: &Lexer<'_>) {
        let word = if token.lexeme == Lexeme::Word { Word::pack(lexer.bytes(token)) } else { Word::NONE };
        match self.shape {
            Shape::Simple => {}
            Shape::Start => self.start(token, word),
            Shape::Begin => {
                if word == word::NOT {
                    self.shape = Shape::Compound;
                    self.open.push(false);
                } else {
                    self.shape = Shape::Simple;
                }
            }
            Shape::Name => {
                self.shape = if token.lexeme == Lexeme::Op(b':') { Shape::Compound } else { Shape::Simple };
                self.at_start = true;
            }
            Shape::Create => self.create(word),
            Shape::Compound => self.compound(token, word),
        }
        self.previous = word;
    }

    fn start(&mut self, token: &Token, word: Word) {
        self.shape = match word {
            word::BEGIN => Shape::Begin,
            word::CREATE | word::ALTER => Shape::Create,
            word::IF | word::CASE | word::LOOP | word::WHILE | word::REPEAT | word::FOR => {
                self.open_block(word);
                Shape::Compound
            }
            _ if matches!(token.lexeme, Lexeme::Word | Lexeme::Quoted) => Shape::Name,
            _ => Shape::Simple,
        };
    }

    /// Looks for the kind of object: routines have bodies, everything else has not.
    fn create(&mut self, word: Word) {
        match word {
            word::PROCEDURE | word::FUNCTION | word::TRIGGER | word::EVENT => self.shape = Shape::Compound,
            word::PACKAGE => {
                self.shape = Shape::Compound;
                self.open.push(false);
            }
            word::TABLE
            | word::VIEW
            | word::INDEX
            | word::DATABASE
            | word::SCHEMA
            | word::USER
            | word::ROLE
            | word::SERVER
            | word::SEQUENCE
            | word::TABLESPACE
            | word::TEMPORARY
            | word::UNIQUE => {
                self.shape = Shape::Simple;
            }
            _ => {}
        }
    }

    fn compound(&mut self, token: &Token, word: Word) {
        let starts = std::mem::replace(&mut self.at_start, false);
        if std::mem::take(&mut self.after_end)
            && matches!(word, word::IF | word::CASE | word::LOOP | word::WHILE | word::REPEAT | word::FOR)
        {
            return;
        }
        match token.lexeme {
            Lexeme::Op(b'(') => self.parens = self.parens.saturating_add(1),
            Lexeme::Op(b')') => self.parens = self.parens.saturating_sub(1),
            Lexeme::Op(b';') => {
                self.parens = 0;
                self.at_start = true;
            }
            Lexeme::Op(b':') => self.at_start = true,
            _ => {}
        }
        match word {
            word::BEGIN | word::CASE if self.previous != word::XA => self.open_block(word),
            word::IF | word::LOOP | word::WHILE | word::REPEAT | word::FOR if starts => self.open_block(word),
            word::THEN | word::ELSE | word::DO => self.at_start = true,
            word::UNTIL if starts => {
                if let Some(top) = self.open.last_mut() {
                    *top = true;
                }
            }
            word::END if starts || self.open.last() == Some(&true) => {
                self.open.pop();
                self.after_end = true;
            }
            _ => {}
        }
    }

    fn open_block(&mut self, word: Word) {
        if self.open.len() < MAX_BLOCKS {
            self.open.push(word == word::CASE);
        }
        self.at_start = matches!(word, word::BEGIN | word::LOOP | word::REPEAT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(sql: &str) -> Vec<String> {
        split(sql.as_bytes(), &Dialect::default())
            .map(|s| sql[s.start as usize..s.end as usize].trim().to_owned())
            .collect()
    }

    #[test]
    fn plain() {
        assert_eq!(cut("SELECT 1"), ["SELECT 1"]);
        assert_eq!(cut("SELECT 1 ; ;\n"), ["SELECT 1"]);
        assert_eq!(cut("a; b ;c"), ["a", "b", "c"]);
        assert_eq!(cut("SELECT ';' /* ; */ -- ;\n; SELECT `;`"), ["SELECT ';' /* ; */ -- ;", "SELECT `;`"]);
        assert_eq!(cut("BEGIN; INSERT INTO t VALUES (1); COMMIT"), ["BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"]);
        assert_eq!(cut(""), [""]);
        assert_eq!(cut("a;;b"), ["a", "", "b"]);
    }

    #[test]
    fn compound_statements_stay_whole() {
        for sql in [
            "BEGIN NOT ATOMIC DECLARE x INT; SELECT start, end FROM t; IF x THEN SELECT 1; END IF; END",
            "IF EXISTS (SELECT 1) THEN SELECT 1; ELSE SELECT IF(1,2,3); END IF",
            "l: LOOP SET @a = 1; LEAVE l; END LOOP",
            "WHILE 1 DO SELECT 1; END WHILE",
            "REPEAT SELECT 1; UNTIL 1 END REPEAT",
            "FOR i IN 1..2 DO SELECT i; END FOR",
            "CASE 1 WHEN 1 THEN SELECT 1; ELSE SELECT CASE 1 WHEN 1 THEN 2 END; END CASE",
            "CREATE DEFINER=`a`@`b` PROCEDURE p() BEGIN SELECT REPEAT('a', 3); SELECT 1 FOR UPDATE; END",
            "CREATE OR REPLACE TRIGGER t BEFORE INSERT ON x FOR EACH ROW BEGIN SET NEW.a = CASE WHEN 1 THEN 2 END; SET @b = 1; END",
            "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN DELETE FROM a; DELETE FROM b; END",
            "CREATE FUNCTION f() RETURNS INT BEGIN IF (1) THEN RETURN 1; ELSEIF 2 THEN RETURN 2; END IF; RETURN 3; END",
        ] {
            assert_eq!(cut(sql), [sql]);
            assert_eq!(cut(&format!("{sql}; SELECT 2")), [sql, "SELECT 2"], "{sql}");
        }
    }

    #[test]
    fn bodies_of_one_statement() {
        assert_eq!(cut("CREATE PROCEDURE p() SELECT 1; SELECT 2"), ["CREATE PROCEDURE p() SELECT 1", "SELECT 2"]);
        assert_eq!(cut("CREATE TABLE t (a INT); SELECT 2"), ["CREATE TABLE t (a INT)", "SELECT 2"]);
        assert_eq!(cut("CREATE TABLE begin (a INT); SELECT 2").len(), 2);
    }
}
