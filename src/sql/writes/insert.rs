//! INSERT and REPLACE: their rows, or the query that these come from.

use super::Unrecordable::{self, Form};
use super::cursor::Cursor;
use super::{Expr, Select, Verb, Write};
use crate::sql::facts::Span;
use crate::sql::lex::{Lexeme, Token};

fn span(tokens: &[Token]) -> Option<Span> {
    Some(Span { start: tokens.first()?.span().start, end: tokens.last()?.span().end })
}

impl Cursor<'_> {
    pub(super) fn insert(&mut self, replace: bool) -> Result<Write, Unrecordable> {
        if self.eat("DELAYED") {
            return Err(Form("INSERT DELAYED is written later"));
        }
        let _ = self.eat("LOW_PRIORITY") || self.eat("HIGH_PRIORITY");
        let ignore = self.eat("IGNORE");
        self.eat("INTO");
        let verb = if replace { Verb::Replace } else { Verb::Insert { ignore, upsert: false } };
        let mut write = self.table(verb)?;
        if self.eat("SET") {
            self.set_row(&mut write)?;
        } else {
            if self.eat_op(b'(') {
                write.columns = Some(self.column_list()?);
            }
            if self.next_is("SELECT") {
                write.select = Some(self.query(&write)?);
                return Ok(write);
            }
            if !(self.eat("VALUES") || self.eat("VALUE")) {
                return Err(Form("its rows come from a query, or in a way that is not read"));
            }
            loop {
                if !self.eat_op(b'(') {
                    return Err(Form("its rows cannot be told"));
                }
                let row = self.row()?;
                write.rows.push(row);
                if !self.eat_op(b',') {
                    break;
                }
            }
        }
        if self.eat("ON") {
            if !(self.eat("DUPLICATE") && self.eat("KEY") && self.eat("UPDATE")) || replace {
                return Err(Form("its rows cannot be told"));
            }
            write.verb = Verb::Insert { ignore, upsert: true };
            write.assigned = self.assignments(&[])?;
        }
        self.end()?;
        Ok(write)
    }

    fn column_list(&mut self) -> Result<Vec<String>, Unrecordable> {
        let wrong = Form("its columns cannot be told");
        let mut columns = Vec::new();
        if self.eat_op(b')') {
            return Ok(columns);
        }
        loop {
            let (mut parts, _) = self.name().ok_or(wrong)?;
            columns.push(parts.pop().unwrap_or_default());
            if self.eat_op(b')') {
                return Ok(columns);
            }
            if !self.eat_op(b',') {
                return Err(wrong);
            }
        }
    }

    /// The values up to the `)` of the row.
    pub(super) fn row(&mut self) -> Result<Vec<Expr>, Unrecordable> {
        let mut row = Vec::new();
        if self.eat_op(b')') {
            return Ok(row);
        }
        loop {
            let (expr, closed) = self.expression()?;
            row.push(expr);
            match closed {
                Some(b')') => return Ok(row),
                Some(_) => {}
                None => return Err(Form("its rows cannot be told")),
            }
        }
    }

    /// `INSERT … SET a = 1, b = 2`: one row.
    fn set_row(&mut self, write: &mut Write) -> Result<(), Unrecordable> {
        let (mut columns, mut row) = (Vec::new(), Vec::new());
        loop {
            let (mut parts, _) = self.name().ok_or(Form("its columns cannot be told"))?;
            columns.push(parts.pop().unwrap_or_default());
            if !(self.eat_op(b'=') || self.eat_assign()) {
                return Err(Form("its columns cannot be told"));
            }
            let start = self.at;
            let (end, closed) = self.up_to_comma(&["ON", "RETURNING"])?;
            row.push(self.literal(self.tokens.get(start..end).unwrap_or_default()));
            match closed {
                Some(b',') => {}
                Some(_) => return Err(Form("its columns cannot be told")),
                None => break,
            }
        }
        write.columns = Some(columns);
        write.rows.push(row);
        Ok(())
    }

    /// The query of INSERT … SELECT, to the end.
    fn query(&mut self, write: &Write) -> Result<Select, Unrecordable> {
        let tokens = self.tokens.get(self.at..).unwrap_or_default();
        let mut depth = 0usize;
        let (mut items, mut from, mut start) = (Vec::new(), None, 1);
        for (n, token) in tokens.iter().enumerate().skip(1) {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(b')') => depth = depth.saturating_sub(1),
                Lexeme::Op(b',') if depth == 0 && from.is_none() => {
                    items.extend(tokens.get(start..n).and_then(span));
                    start = n + 1;
                }
                Lexeme::Word if depth == 0 && from.is_none() && self.is(token, "FROM") => from = Some(n),
                Lexeme::Word if depth == 0 && self.takes_more(token, tokens.get(n + 1)) => {
                    return Err(Form(
                        "its rows come from a query with LIMIT, UNION, a lock, or ON DUPLICATE KEY UPDATE",
                    ));
                }
                _ => {}
            }
        }
        items.extend(tokens.get(start..from.unwrap_or(tokens.len())).and_then(span));
        let from = from.and_then(|n| tokens.get(n..)).and_then(span);
        let names_itself = |t: &Token| {
            matches!(t.lexeme, Lexeme::Word | Lexeme::Member | Lexeme::Quoted)
                && self.unquoted(t).eq_ignore_ascii_case(&write.name)
        };
        let nested = tokens.iter().skip(1).any(|t| self.is(t, "SELECT"));
        let behind = tokens.get(1..).unwrap_or_default();
        let steady = matches!(self.looseness(behind), Ok(None));
        let repeats = steady && !nested && !behind.iter().any(names_itself);
        self.at = self.tokens.len();
        let span = span(tokens).ok_or(Form("it ends early"))?;
        Ok(Select { span, items, from, repeats })
    }

    /// What makes a query another than its rows, or says something of the INSERT.
    fn takes_more(&self, token: &Token, next: Option<&Token>) -> bool {
        const WORDS: [&str; 9] =
            ["LIMIT", "FETCH", "UNION", "EXCEPT", "INTERSECT", "INTO", "RETURNING", "LOCK", "PROCEDURE"];
        let followed = |by: &str| next.is_some_and(|t| self.is(t, by));
        WORDS.iter().any(|word| self.is(token, word))
            || self.is(token, "ON") && followed("DUPLICATE")
            || self.is(token, "FOR") && (followed("UPDATE") || followed("SHARE"))
    }
}
