//! The tokens of a write, one after another: names, literals, and the ends of expressions.

use super::Unrecordable::{self, Form};
use super::{Expr, Verb, Write};
use crate::sql::facts::Span;
use crate::sql::lex::{Lexeme, Token};

/// The tokens of a statement.
pub(super) struct Cursor<'a> {
    pub(super) sql: &'a [u8],
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    /// The statement assigns a user variable.
    pub(super) assigns: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn bytes(&self, token: &Token) -> &'a [u8] {
        self.sql.get(token.start..token.end).unwrap_or_default()
    }

    pub(super) fn is(&self, token: &Token, word: &str) -> bool {
        token.lexeme == Lexeme::Word && self.bytes(token).eq_ignore_ascii_case(word.as_bytes())
    }

    pub(super) fn next_is(&self, word: &str) -> bool {
        self.peek().is_some_and(|t| self.is(t, word))
    }

    pub(super) fn eat(&mut self, word: &str) -> bool {
        let there = self.next_is(word);
        self.at += usize::from(there);
        there
    }

    pub(super) fn eat_op(&mut self, op: u8) -> bool {
        let there = self.peek().is_some_and(|t| t.lexeme == Lexeme::Op(op));
        self.at += usize::from(there);
        there
    }

    pub(super) fn unquoted(&self, token: &Token) -> String {
        let bytes = self.bytes(token);
        let text = String::from_utf8_lossy(bytes).into_owned();
        match bytes.first() {
            Some(quote @ (b'`' | b'"')) if token.lexeme == Lexeme::Quoted => {
                let quote = char::from(*quote);
                let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                inner.replace(&format!("{quote}{quote}"), &quote.to_string())
            }
            _ => text,
        }
    }

    /// `a`, `a.b` or `a.b.c`: the parts, and where they stand.
    pub(super) fn name(&mut self) -> Option<(Vec<String>, Span)> {
        let first = *self.peek()?;
        if !matches!(first.lexeme, Lexeme::Word | Lexeme::Quoted) {
            return None;
        }
        let mut parts = vec![self.unquoted(&first)];
        let mut end = first.end;
        self.at += 1;
        while self.peek().is_some_and(|t| t.lexeme == Lexeme::Op(b'.')) {
            let member = *self.tokens.get(self.at + 1)?;
            if !matches!(member.lexeme, Lexeme::Word | Lexeme::Quoted | Lexeme::Member) {
                return None;
            }
            parts.push(self.unquoted(&member));
            end = member.end;
            self.at += 2;
        }
        let span = Token { lexeme: Lexeme::Word, start: first.start, end }.span();
        Some((parts, span))
    }

    pub(super) fn table(&mut self, verb: Verb) -> Result<Write, Unrecordable> {
        let (mut parts, table) = self.name().ok_or(Form("its table cannot be told"))?;
        let name = parts.pop().unwrap_or_default();
        let database = parts.pop();
        if !parts.is_empty() {
            return Err(Form("its table cannot be told"));
        }
        Ok(Write {
            verb,
            table,
            database,
            name,
            alias: None,
            columns: None,
            rows: Vec::new(),
            assigned: Vec::new(),
            select: None,
            condition: None,
            tail: None,
            loose: None,
            fixed: Vec::new(),
        })
    }

    /// `[AS] alias`, where one stands before one of these words or the end.
    pub(super) fn alias(&mut self, before: &[&str]) -> Option<Span> {
        self.eat("AS");
        let token = self.peek()?;
        if before.iter().any(|word| self.is(token, word)) || !matches!(token.lexeme, Lexeme::Word | Lexeme::Quoted) {
            return None;
        }
        self.at += 1;
        Some(token.span())
    }

    /// One expression, up to the `,` or `)` that ends it (which is taken), or to the end.
    pub(super) fn expression(&mut self) -> Result<(Expr, Option<u8>), Unrecordable> {
        let start = self.at;
        let (end, closed) = self.up_to_comma(&[])?;
        let tokens = self.tokens.get(start..end).unwrap_or_default();
        Ok((self.literal(tokens), closed))
    }

    /// Moves behind the next `,` or unmatched `)`, or to one of the words; where that stood, and what it was.
    pub(super) fn up_to_comma(&mut self, words: &[&str]) -> Result<(usize, Option<u8>), Unrecordable> {
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(close @ (b')' | b',')) if depth == 0 => {
                    self.at += 1;
                    return Ok((self.at - 1, Some(close)));
                }
                Lexeme::Op(b')') => depth -= 1,
                Lexeme::Word if depth == 0 && words.iter().any(|word| self.is(token, word)) => {
                    return Ok((self.at, None));
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok((self.at, None))
    }

    pub(super) fn literal(&self, tokens: &[Token]) -> Expr {
        match tokens {
            [one] if matches!(one.lexeme, Lexeme::Text | Lexeme::Number) => Expr::Literal(one.span()),
            [sign, one] if matches!(sign.lexeme, Lexeme::Op(b'-' | b'+')) && one.lexeme == Lexeme::Number => {
                Expr::Literal(Span { start: sign.span().start, end: one.span().end })
            }
            // _latin1'x', _binary X'00'; DATE'2020-01-01'
            [word, one] if self.introduces(word, one) => {
                Expr::Literal(Span { start: word.span().start, end: one.span().end })
            }
            [one] if self.is(one, "NULL") => Expr::Null,
            [one] if self.is(one, "DEFAULT") => Expr::Default,
            [first, .., last] | [first @ last] if self.repeats(tokens) => {
                Expr::Repeats(Span { start: first.span().start, end: last.span().end })
            }
            _ => Expr::Other,
        }
    }

    pub(super) fn introduces(&self, word: &Token, one: &Token) -> bool {
        let is_value = match one.lexeme {
            Lexeme::Text => true,
            Lexeme::Number => self.bytes(one).ends_with(b"'"),
            _ => false,
        };
        let types = ["DATE", "TIME", "TIMESTAMP"].iter().any(|w| self.is(word, w)) && one.lexeme == Lexeme::Text;
        is_value && word.lexeme == Lexeme::Word && (types || self.bytes(word).starts_with(b"_"))
    }

    pub(super) fn eat_assign(&mut self) -> bool {
        let there = self.peek().is_some_and(|t| t.lexeme == Lexeme::Assign);
        self.at += usize::from(there);
        there
    }
}
