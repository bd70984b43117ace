//! A window of two tokens over a statement, with the comments that act taken out and noted.

use crate::sql::dialect::Dialect;
use crate::sql::facts::Span;
use crate::sql::lex::{Acting, Lexeme, Lexer, Reading, Token, hinted_store};
use crate::sql::word::Word;

/// A token with its word, if it is an unquoted one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tok {
    pub(super) lexeme: Lexeme,
    pub(super) word: Word,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Tok {
    pub(super) fn span(&self) -> Span {
        Token { lexeme: self.lexeme, start: self.start, end: self.end }.span()
    }

    /// True where it can be a name (keywords included).
    pub(super) fn is_name(&self) -> bool {
        matches!(self.lexeme, Lexeme::Word | Lexeme::Member | Lexeme::Quoted)
    }

    pub(super) fn is_op(&self, b: u8) -> bool {
        self.lexeme == Lexeme::Op(b)
    }

    pub(super) fn is_literal(&self) -> bool {
        matches!(self.lexeme, Lexeme::Text | Lexeme::Number)
    }
}

/// Where in the statement the scanner stands.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    lexer: Lexer<'a>,
    current: Tok,
    next: Tok,
    previous: Tok,
    before: Tok,
    earlier: Tok,
    /// NAME of the last `switchover:store=NAME`.
    pub(super) hint: Option<&'a str>,
    /// An executable comment was met: other engines may read the text otherwise.
    pub(super) executable: bool,
    pub(super) backslash: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(sql: &'a [u8], dialect: &Dialect, reading: Reading) -> Self {
        let nothing = Tok { lexeme: Lexeme::End, word: Word::NONE, start: 0, end: 0 };
        let mut cursor = Cursor {
            lexer: Lexer::reading(sql, dialect, reading),
            current: nothing,
            next: nothing,
            previous: nothing,
            before: nothing,
            earlier: nothing,
            hint: None,
            executable: false,
            backslash: !dialect.no_backslash_escapes,
        };
        cursor.bump();
        cursor.bump();
        cursor.previous = nothing;
        cursor
    }

    /// The token that comes next.
    pub(super) fn peek(&self) -> Tok {
        self.current
    }

    /// The token after it.
    pub(super) fn peek2(&self) -> Tok {
        self.next
    }

    /// The token that was taken last.
    pub(super) fn previous(&self) -> Tok {
        self.previous
    }

    /// The token before that one.
    pub(super) fn before(&self) -> Tok {
        self.before
    }

    /// The token before that one.
    pub(super) fn earlier(&self) -> Tok {
        self.earlier
    }

    /// Takes the next token.
    pub(super) fn bump(&mut self) -> Tok {
        self.earlier = self.before;
        self.before = self.previous;
        self.previous = self.current;
        self.current = self.next;
        self.next = self.read();
        self.previous
    }

    fn read(&mut self) -> Tok {
        loop {
            let t = self.lexer.next_token();
            match t.lexeme {
                Lexeme::Acting(Acting::RoutingHint) => {
                    self.hint = hinted_store(self.lexer.bytes(&t)).or(self.hint);
                }
                Lexeme::Acting(Acting::Entered | Acting::Skipped) => self.executable = true,
                Lexeme::Acting(Acting::OptimizerHint) => {}
                Lexeme::Word => {
                    let word = Word::pack(self.lexer.bytes(&t));
                    return Tok { lexeme: t.lexeme, word, start: t.start, end: t.end };
                }
                _ => return Tok { lexeme: t.lexeme, word: Word::NONE, start: t.start, end: t.end },
            }
        }
    }

    /// A copy that reads ahead from the next token, without effect on this one.
    pub(super) fn ahead(&self) -> Cursor<'a> {
        self.clone()
    }

    pub(super) fn at_end(&self) -> bool {
        matches!(self.current.lexeme, Lexeme::End)
    }

    pub(super) fn is(&self, word: Word) -> bool {
        self.current.word == word
    }

    pub(super) fn next_is(&self, word: Word) -> bool {
        self.next.word == word
    }

    pub(super) fn is_op(&self, b: u8) -> bool {
        self.current.is_op(b)
    }

    pub(super) fn is_any(&self, words: &[Word]) -> bool {
        self.current.word.is_some() && words.contains(&self.current.word)
    }

    /// Takes the next token if it is this word.
    pub(super) fn eat(&mut self, word: Word) -> bool {
        let found = self.current.word == word;
        if found {
            self.bump();
        }
        found
    }

    /// Takes the next token if it is this byte.
    pub(super) fn eat_op(&mut self, b: u8) -> bool {
        let found = self.is_op(b);
        if found {
            self.bump();
        }
        found
    }

    /// Takes tokens while they are among these words.
    pub(super) fn eat_any(&mut self, words: &[Word]) {
        while self.is_any(words) {
            self.bump();
        }
    }

    /// Takes the tokens `IF EXISTS`, `IF NOT EXISTS`; true if they stood there.
    pub(super) fn eat_if_exists(&mut self) -> bool {
        use crate::sql::word::{EXISTS, IF, NOT};
        if !(self.is(IF) && (self.next_is(EXISTS) || self.next_is(NOT))) {
            return false;
        }
        self.bump();
        self.eat(NOT);
        self.eat(EXISTS);
        true
    }

    pub(super) fn bytes(&self, span: Span) -> &'a [u8] {
        self.lexer.text().get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    /// A name without its quotes.
    pub(super) fn unquoted(&self, span: Span) -> Box<str> {
        unquote_name(self.bytes(span))
    }

    /// The value of a string literal token.
    pub(super) fn string_value(&self, tok: Tok) -> Box<[u8]> {
        unescape(self.bytes(tok.span()), self.backslash)
    }
}

/// `` `a``b` `` → `` a`b ``; anything unquoted as it is.
pub(super) fn unquote_name(raw: &[u8]) -> Box<str> {
    let text = match raw.split_first() {
        Some((quote @ (b'`' | b'"'), rest)) => {
            let inner = rest.strip_suffix(std::slice::from_ref(quote)).unwrap_or(rest);
            if inner.contains(quote) { undouble(inner, *quote) } else { inner.to_vec() }
        }
        _ => return String::from_utf8_lossy(raw).into_owned().into_boxed_str(),
    };
    String::from_utf8_lossy(&text).into_owned().into_boxed_str()
}

fn undouble(inner: &[u8], quote: u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        if b == quote && bytes.peek() == Some(&quote) {
            bytes.next();
        }
        out.push(b);
    }
    out
}

/// The bytes that a string literal stands for. Trail bytes of gbk and its like are not looked at: texts in those sets
/// that are run as dynamic SQL keep their escapes as they are.
pub(super) fn unescape(raw: &[u8], backslash: bool) -> Box<[u8]> {
    let raw = raw.strip_prefix(b"n").or_else(|| raw.strip_prefix(b"N")).unwrap_or(raw);
    let Some((quote, rest)) = raw.split_first() else { return Box::default() };
    if !matches!(quote, b'\'' | b'"') {
        return raw.into();
    }
    let inner = rest.strip_suffix(std::slice::from_ref(quote)).unwrap_or(rest);
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' if backslash => match bytes.next() {
                Some(b'0') => out.push(0),
                Some(b'n') => out.push(b'\n'),
                Some(b't') => out.push(b'\t'),
                Some(b'r') => out.push(b'\r'),
                Some(b'b') => out.push(8),
                Some(b'Z') => out.push(26),
                Some(kept @ (b'%' | b'_')) => out.extend([b'\\', kept]),
                Some(other) => out.push(other),
                None => {}
            },
            b if b == *quote => {
                bytes.next_if_eq(quote);
                out.push(b);
            }
            b => out.push(b),
        }
    }
    out.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(&*unquote_name(b"`a``b`"), "a`b");
        assert_eq!(&*unquote_name(b"\"a\""), "a");
        assert_eq!(&*unquote_name(b"a"), "a");
        assert_eq!(&*unquote_name(b"`"), "");
        assert_eq!(&*unescape(br"'a\'b''c\n\%'", true), b"a'b'c\n\\%");
        assert_eq!(&*unescape(br"'a\'", false), br"a\");
        assert_eq!(&*unescape(br"N'x'", true), b"x");
        assert_eq!(&*unescape(b"", true), b"");
    }
}
