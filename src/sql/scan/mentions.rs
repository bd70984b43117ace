//! What expressions mention beside tables: functions and variables about the session, sequences, and the names that
//! information_schema is asked for.

use super::Scanner;
use super::builtins::is_builtin;
use super::cursor::Tok;
use super::query::State;
use crate::sql::facts::{Access, Flags};
use crate::sql::lex::Lexeme;
use crate::sql::word::{self, Word};

impl Scanner<'_> {
    /// Functions whose answer depends on the session, and sequences.
    pub(super) fn mentions(&mut self, tok: Tok) {
        if self.cur.is_op(b'(') {
            match tok.word {
                word::LAST_INSERT_ID => self.flags |= Flags::READS_LAST_INSERT_ID,
                word::ROW_COUNT => self.flags |= Flags::READS_ROW_COUNT,
                word::FOUND_ROWS => self.flags |= Flags::READS_FOUND_ROWS,
                word::GET_LOCK
                | word::RELEASE_LOCK
                | word::RELEASE_ALL_LOCKS
                | word::IS_FREE_LOCK
                | word::IS_USED_LOCK => self.flags |= Flags::USER_LOCK,
                word::NEXTVAL | word::SETVAL => self.sequence(Access::Write, true),
                word::LASTVAL => self.sequence(Access::Read, true),
                _ => self.function_call(tok),
            }
            return;
        }
        if self.cur.is(word::VALUE) && self.cur.next_is(word::FOR) {
            match tok.word {
                word::NEXT => self.sequence(Access::Write, false),
                word::PREVIOUS => self.sequence(Access::Read, false),
                _ => {}
            }
        }
    }

    /// `f(` or `db.f(`, where the name was taken.
    pub(super) fn function_call(&mut self, tok: Tok) {
        let before = self.cur.before();
        let qualified = before.is_op(b'.') && self.cur.earlier().is_name();
        let names = matches!(self.state(), State::With(_) | State::Joined) || before.word == word::AS;
        if !self.calls || self.accounts || (names && !qualified) {
            return;
        }
        if !qualified
            && tok.lexeme == Lexeme::Word
            && (before.is_op(b'.') || is_builtin(self.cur.bytes(tok.span()), tok.word))
        {
            return;
        }
        let database = qualified.then(|| self.cur.earlier().span());
        let query = self.new_query();
        self.flags |= Flags::CALLS_ROUTINE;
        self.add(database, tok.span(), Access::Call, query);
    }

    /// `(seq…` or `VALUE FOR seq`, seen from the token before.
    fn sequence(&mut self, access: Access, function: bool) {
        let mut ahead = self.cur.ahead();
        ahead.bump();
        if !function {
            ahead.bump();
        }
        let first = ahead.bump();
        if !first.is_name() {
            return;
        }
        let query = self.new_query();
        if ahead.is_op(b'.') && ahead.peek2().is_name() {
            self.add(Some(first.span()), ahead.peek2().span(), access, query);
        } else {
            self.add(None, first.span(), access, query);
        }
    }

    /// `@x` was taken.
    pub(super) fn user_variable(&mut self, tok: Tok) {
        self.leave_start();
        if self.is_host(tok) {
            return;
        }
        if self.cur.peek().lexeme == Lexeme::Assign {
            self.writes_variable(tok);
        } else {
            self.reads_variable(tok);
        }
    }

    /// Notes that the statement assigns `@x`: by `:=` or INTO.
    pub(super) fn writes_variable(&mut self, tok: Tok) {
        self.flags |= Flags::WRITES_USER_VARIABLES;
        self.mentions_variable(tok);
    }

    /// The `@'host'` of an account: directly behind a string, or behind a word where accounts are expected.
    fn is_host(&self, tok: Tok) -> bool {
        let before = self.cur.before();
        before.end == tok.start
            && (matches!(before.lexeme, Lexeme::Text | Lexeme::Quoted)
                || (self.accounts && matches!(before.lexeme, Lexeme::Word | Lexeme::Member)))
    }

    /// Notes that the statement reads `@x`.
    pub(super) fn reads_variable(&mut self, tok: Tok) {
        self.flags |= Flags::READS_USER_VARIABLES;
        self.mentions_variable(tok);
    }

    fn mentions_variable(&mut self, tok: Tok) {
        let name = self.variable_name(tok);
        if self.variables_seen.insert(name.clone()) {
            self.variables.push(name);
        }
    }

    /// `x` of `@x`, `` @`x` ``, `@'x'`.
    pub(super) fn variable_name(&self, tok: Tok) -> Box<str> {
        let raw = self.cur.bytes(tok.span());
        let raw = raw.get(1..).unwrap_or_default();
        let name = match raw.first() {
            Some(b'`') => super::cursor::unquote_name(raw),
            Some(b'"' | b'\'') => String::from_utf8_lossy(&super::cursor::unescape(raw, self.cur.backslash)).into(),
            _ => String::from_utf8_lossy(raw).into(),
        };
        name.to_lowercase().into_boxed_str()
    }

    /// `@@` was taken: `[global. | session. | local.] name` follows.
    pub(super) fn system_variable(&mut self) {
        self.leave_start();
        let mut name = self.cur.peek();
        if self.cur.peek2().is_op(b'.') && self.cur.is_any(&[word::SESSION, word::LOCAL]) {
            self.cur.bump();
            self.cur.bump();
            name = self.cur.peek();
        }
        let name = if name.is_name() { Word::pack(self.cur.unquoted(name.span()).as_bytes()) } else { Word::NONE };
        match name {
            word::LAST_INSERT_ID | word::IDENTITY => self.flags |= Flags::READS_LAST_INSERT_ID,
            word::WARNING_COUNT | word::ERROR_COUNT => self.flags |= Flags::READS_DIAGNOSTICS,
            _ => {}
        }
        // Whatever its name, no keyword stands there.
        if self.cur.peek().is_name() {
            self.cur.bump();
        }
    }

    /// A string literal was taken: `'t' = table_name` asks for a table.
    pub(super) fn text_literal(&mut self, tok: Tok) {
        self.leave_start();
        if !self.cur.is_op(b'=') || !self.cur.peek2().is_name() {
            return;
        }
        let mut ahead = self.cur.ahead();
        ahead.bump();
        let mut column = ahead.bump();
        if ahead.is_op(b'.') {
            ahead.bump();
            column = ahead.bump();
        }
        match schema_column(self.column_word(column)) {
            Column::Table => self.asked_tables.push(tok.span()),
            Column::Schema => self.asked_schemas.push(tok.span()),
            Column::Other => {}
        }
    }

    fn column_word(&self, tok: Tok) -> Word {
        match tok.lexeme {
            Lexeme::Word => tok.word,
            Lexeme::Member => Word::pack(self.cur.bytes(tok.span())),
            Lexeme::Quoted => Word::pack(self.cur.unquoted(tok.span()).as_bytes()),
            _ => Word::NONE,
        }
    }

    /// A name was taken in an expression: `table_name = 't'`, `table_name IN ('t', …)`, `table_name LIKE 't'`.
    pub(super) fn schema_predicate(&mut self, tok: Tok) {
        let column = schema_column(self.column_word(tok));
        if column == Column::Other {
            return;
        }
        let mut ahead = self.cur.ahead();
        if ahead.eat_op(b'=') {
            self.asked(column, ahead.peek(), false);
        } else if ahead.eat(word::LIKE) {
            self.asked(column, ahead.peek(), true);
        } else if ahead.eat(word::IN) && ahead.eat_op(b'(') {
            while ahead.peek().is_literal() || ahead.peek().lexeme == Lexeme::Parameter {
                let literal = ahead.bump();
                self.asked(column, literal, false);
                if !ahead.eat_op(b',') {
                    break;
                }
            }
        }
    }

    fn asked(&mut self, column: Column, literal: Tok, pattern: bool) {
        if literal.lexeme == Lexeme::Parameter {
            self.asked_parameters.push((column == Column::Table, literal.span()));
        }
        if !literal.is_literal() {
            return;
        }
        let span = literal.span();
        if pattern {
            let value = self.cur.string_value(literal);
            if value.iter().any(|b| matches!(b, b'%' | b'_')) && !only_escaped(&value) {
                self.asked_otherwise = true;
                return;
            }
        }
        match column {
            Column::Table => self.asked_tables.push(span),
            Column::Schema => self.asked_schemas.push(span),
            Column::Other => {}
        }
    }
}

/// True if every `_` of a LIKE pattern is escaped or may stand for itself, and there is no `%`.
///
/// `_` matches itself too: `LIKE 'page_stats'` is how clients ask for that one table.
pub(super) fn only_escaped(pattern: &[u8]) -> bool {
    let mut escaped = false;
    for b in pattern {
        if *b == b'%' && !escaped {
            return false;
        }
        escaped = *b == b'\\' && !escaped;
    }
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Table,
    Schema,
    Other,
}

/// Columns of information_schema that name a table or its database.
fn schema_column(name: Word) -> Column {
    match name {
        word::TABLE_NAME | word::REFERENCED_TABLE_NAME | word::EVENT_OBJECT_TABLE => Column::Table,
        word::TABLE_SCHEMA | word::EVENT_OBJECT_SCHEMA => Column::Schema,
        _ => Column::Other,
    }
}
