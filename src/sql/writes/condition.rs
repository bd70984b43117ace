//! UPDATE and DELETE: what they set, and which rows they take.

use super::super::volatile::{MOMENT, NEVER_TWICE};
use super::Unrecordable::{self, Condition, Form};
use super::cursor::Cursor;
use super::{Assigned, Expr, Verb, Write};
use crate::sql::facts::Span;
use crate::sql::lex::{Lexeme, Token};

/// Words and functions whose value is that of their arguments alone.
const DETERMINISTIC: &[&str] = &[
    "IN",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "BETWEEN",
    "LIKE",
    "IS",
    "DIV",
    "MOD",
    "WHEN",
    "THEN",
    "ELSE",
    "CASE",
    "INTERVAL",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "IF",
    "LOWER",
    "UPPER",
    "CONCAT",
    "CONCAT_WS",
    "LENGTH",
    "CHAR_LENGTH",
    "LEFT",
    "RIGHT",
    "SUBSTRING",
    "SUBSTR",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "LPAD",
    "RPAD",
    "REPLACE",
    "REPEAT",
    "ABS",
    "ROUND",
    "FLOOR",
    "CEIL",
    "CEILING",
    "LEAST",
    "GREATEST",
    "DATE",
    "YEAR",
    "MONTH",
    "DAY",
    "HEX",
    "UNHEX",
    "MD5",
    "SHA1",
    "CRC32",
    "CAST",
    "CHAR",
    "BINARY",
    "DATE_ADD",
    "DATE_SUB",
    "ADDDATE",
    "SUBDATE",
    "COUNT",
    "SUM",
    "MIN",
    "MAX",
    "ON",
    "USING",
    "JOIN",
    "BY",
    "WHERE",
    "HAVING",
    "AS",
    "VALUES",
];
/// Reserved words of expressions: no columns.
const OPERATORS: &[&str] = &[
    "IN", "AND", "OR", "XOR", "NOT", "BETWEEN", "LIKE", "IS", "DIV", "MOD", "WHEN", "THEN", "ELSE", "CASE", "INTERVAL",
    "AS", "BINARY", "NULL", "TRUE", "FALSE",
];
/// Words that make a condition read more than its row.
const READS_MORE: &[&str] = &["SELECT", "WITH", "MATCH"];

impl<'a> Cursor<'a> {
    /// Nothing may follow.
    pub(super) fn end(&self) -> Result<(), Unrecordable> {
        match self.peek() {
            None => Ok(()),
            Some(token) if self.is(token, "RETURNING") => Err(Form("RETURNING is not recorded")),
            Some(_) => Err(Form("it has a form that is not read")),
        }
    }

    /// What `a = …, b = …` assigns, up to one of the words or the end.
    pub(super) fn assignments(&mut self, words: &[&str]) -> Result<Vec<Assigned>, Unrecordable> {
        let wrong = Form("the columns that it sets cannot be told");
        let words: Vec<&str> = words.iter().copied().chain(["RETURNING", "ORDER", "LIMIT"]).collect();
        let mut list = Vec::new();
        loop {
            let (mut parts, _) = self.name().ok_or(wrong)?;
            let column = parts.pop().unwrap_or_default();
            if !(self.eat_op(b'=') || self.eat_assign()) {
                return Err(wrong);
            }
            let start = self.at;
            let (end, closed) = self.up_to_comma(&words)?;
            let tokens = self.tokens.get(start..end).unwrap_or_default();
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Err(wrong) };
            let span = Span { start: first.span().start, end: last.span().end };
            list.push(Assigned { column, value: self.literal(tokens), span, of: self.columns_of(tokens) });
            match closed {
                Some(b',') => {}
                Some(_) => return Err(wrong),
                None => return Ok(list),
            }
        }
    }

    pub(super) fn update(&mut self) -> Result<Write, Unrecordable> {
        self.eat("LOW_PRIORITY");
        self.eat("IGNORE");
        let mut write = self.table(Verb::Update)?;
        write.alias = self.alias(&["SET", "FOR", "PARTITION", "USE", "FORCE", "IGNORE", "JOIN", "INNER", "LEFT"]);
        if !self.eat("SET") {
            return Err(Form("it has several tables, or a form that is not read"));
        }
        write.assigned = self.assignments(&["WHERE"])?;
        self.condition(&mut write)?;
        Ok(write)
    }

    pub(super) fn delete(&mut self) -> Result<Write, Unrecordable> {
        while self.eat("LOW_PRIORITY") || self.eat("QUICK") || self.eat("IGNORE") {}
        if !self.eat("FROM") {
            return Err(Form("it has several tables, or a form that is not read"));
        }
        let mut write = self.table(Verb::Delete)?;
        write.alias = self.alias(&["WHERE", "ORDER", "LIMIT", "RETURNING", "USING", "FOR", "PARTITION"]);
        self.condition(&mut write)?;
        Ok(write)
    }

    /// `[WHERE …] [ORDER BY …] [LIMIT …]`, to the end.
    fn condition(&mut self, write: &mut Write) -> Result<(), Unrecordable> {
        if self.eat("WHERE") {
            let tokens = self.up_to(&["ORDER", "LIMIT", "RETURNING"]);
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Err(Form("it ends early")) };
            write.loose = self.looseness(tokens)?;
            write.condition = Some(Span { start: first.span().start, end: last.span().end });
            write.fixed = self.fixed(tokens);
        }
        let tail = self.up_to(&["RETURNING"]);
        self.end()?;
        let Some(first) = tail.first() else { return Ok(()) };
        if !(self.is(first, "ORDER") || self.is(first, "LIMIT")) {
            return Err(Form("it has a form that is not read"));
        }
        let order = self.looseness(tail)?;
        let limited = tail.iter().any(|t| self.is(t, "LIMIT"));
        if limited {
            // (an order that has two rows at one place, or none, takes either)
            write.loose = write.loose.or(order).or(Some("LIMIT"));
        }
        let end = tail.last().map_or(first.end, |t| t.end);
        write.tail = Some((Span { start: first.span().start, end: crate::sql::lex::offset(end) }, limited));
        Ok(())
    }

    /// The tokens before one of these words, or all that are left.
    fn up_to(&mut self, words: &[&str]) -> &'a [Token] {
        let start = self.at;
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(b')') => depth = depth.saturating_sub(1),
                _ if depth == 0 && words.iter().any(|w| self.is(token, w)) => break,
                _ => {}
            }
            self.at += 1;
        }
        self.tokens.get(start..self.at).unwrap_or_default()
    }

    /// Why a condition may find other rows when it is read a second time; nothing where it does not.
    ///
    /// # Errors
    /// For one that finds others each time.
    pub(super) fn looseness(&self, tokens: &[Token]) -> Result<Option<&'static str>, Unrecordable> {
        let mut loose = None;
        for (n, token) in tokens.iter().enumerate() {
            let next = |by: usize| tokens.get(n + by);
            let more = match token.lexeme {
                Lexeme::Assign => return Err(Condition("it assigns a variable")),
                Lexeme::SystemVariable => Some("a variable of the server"),
                Lexeme::UserVariable if self.assigns => Some("a variable that it assigns"),
                Lexeme::Word if READS_MORE.iter().chain(MOMENT).any(|word| self.is(token, word)) => {
                    Some("a subquery, or the moment")
                }
                Lexeme::Word if self.is(token, "VALUE") && next(1).is_some_and(|t| self.is(t, "FOR")) => {
                    return Err(Condition("a sequence"));
                }
                Lexeme::Word | Lexeme::Member | Lexeme::Quoted => {
                    let called = next(1).is_some_and(|t| t.lexeme == Lexeme::Op(b'('));
                    if called && NEVER_TWICE.iter().any(|word| self.is(token, word)) {
                        return Err(Condition("a function that comes to something else each time"));
                    }
                    let empty = next(2).is_some_and(|t| t.lexeme == Lexeme::Op(b')'));
                    if called && self.is(token, "LAST_INSERT_ID") && !empty {
                        return Err(Condition("it sets LAST_INSERT_ID()"));
                    }
                    let known = DETERMINISTIC.iter().any(|word| self.is(token, word));
                    (called && !known).then_some("a function")
                }
                _ => None,
            };
            loose = loose.or(more);
        }
        Ok(loose)
    }

    /// Whether an expression names no column, and comes to the same whenever it is evaluated.
    pub(super) fn repeats(&self, tokens: &[Token]) -> bool {
        self.columns_of(tokens).is_some_and(|columns| columns.is_empty())
    }

    /// The columns that an expression names, where it depends on them alone.
    pub(super) fn columns_of(&self, tokens: &[Token]) -> Option<Vec<String>> {
        if self.looseness(tokens) != Ok(None) {
            return None;
        }
        let mut columns = Vec::new();
        for (n, token) in tokens.iter().enumerate() {
            let is_word = |list: &[&str]| list.iter().any(|word| self.is(token, word));
            let called = tokens.get(n + 1).is_some_and(|t| t.lexeme == Lexeme::Op(b'('));
            match token.lexeme {
                // (VALUES(c) means something else there)
                Lexeme::Word if self.is(token, "VALUES") || self.is(token, "DEFAULT") => return None,
                Lexeme::Word if called || is_word(OPERATORS) => {}
                // CAST(… AS type), CASE … END
                Lexeme::Word if n.checked_sub(1).and_then(|n| tokens.get(n)).is_some_and(|t| self.is(t, "AS")) => {}
                Lexeme::Word if self.is(token, "END") && tokens.iter().any(|t| self.is(t, "CASE")) => {}
                Lexeme::Word if self.bytes(token).starts_with(b"_") => {}
                Lexeme::Word | Lexeme::Member | Lexeme::Quoted => columns.push(self.unquoted(token)),
                _ => {}
            }
        }
        Some(columns)
    }

    /// The columns that a conjunction of `column = literal` and `column IN (literals)` fixes; none where it is more than that.
    fn fixed(&self, tokens: &[Token]) -> Vec<(String, Vec<Span>)> {
        let mut fixed = Vec::new();
        let mut depth = 0usize;
        let mut from = 0;
        let mut parts = Vec::new();
        let mut between = false;
        for (n, token) in tokens.iter().enumerate() {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(b')') => depth = depth.saturating_sub(1),
                Lexeme::Op(b'|' | b'!' | b'&') if depth == 0 => return fixed,
                Lexeme::Word if depth == 0 && ["OR", "XOR", "NOT", "CASE"].iter().any(|w| self.is(token, w)) => {
                    return fixed;
                }
                Lexeme::Word if depth == 0 && self.is(token, "BETWEEN") => between = true,
                Lexeme::Word if depth == 0 && self.is(token, "AND") && !std::mem::take(&mut between) => {
                    parts.extend(tokens.get(from..n));
                    from = n + 1;
                }
                _ => {}
            }
        }
        parts.extend(tokens.get(from..));
        for part in parts {
            let mut cursor = Cursor { sql: self.sql, tokens: part, at: 0, assigns: self.assigns };
            let Some((mut names, _)) = cursor.name() else { continue };
            let column = names.pop().unwrap_or_default();
            let rest = part.get(cursor.at..).unwrap_or_default();
            match rest {
                [equals, value @ ..] if equals.lexeme == Lexeme::Op(b'=') => {
                    if let Expr::Literal(span) = self.literal(value) {
                        fixed.push((column, vec![span]));
                    }
                }
                [word, open, ..] if self.is(word, "IN") && open.lexeme == Lexeme::Op(b'(') => {
                    let mut cursor = Cursor { sql: self.sql, tokens: rest, at: 2, assigns: self.assigns };
                    let Ok(row) = cursor.row() else { continue };
                    let literal = |e: &Expr| if let Expr::Literal(span) = e { Some(*span) } else { None };
                    let spans: Option<Vec<Span>> = row.iter().map(literal).collect();
                    if let (Some(spans), None) = (spans, cursor.peek()) {
                        fixed.push((column, spans));
                    }
                }
                _ => {}
            }
        }
        fixed
    }
}
