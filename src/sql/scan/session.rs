//! Statements about the session: USE, transactions, PREPARE and EXECUTE, LOCK TABLES, HANDLER, KILL, XA …

use super::Scanner;
use super::cursor::Cursor;
use super::query::State;
use crate::sql::facts::{Access, DynamicSource, Flags, Kind, Span};
use crate::sql::lex::Lexeme;
use crate::sql::word;

impl Scanner<'_> {
    /// Everything that begins with none of the words of queries and definitions.
    pub(super) fn session_statement(&mut self) -> Kind {
        let first = self.cur.peek();
        match first.word {
            word::SET => self.set(),
            word::USE => self.use_database(),
            word::BEGIN => self.begin(),
            word::START => self.start(),
            word::COMMIT => {
                self.cur.bump();
                let (chain, release) = self.completion();
                self.rest(Kind::Commit { chain, release })
            }
            word::ROLLBACK => self.rollback(),
            word::SAVEPOINT => {
                self.cur.bump();
                Kind::Savepoint(self.name_text())
            }
            word::RELEASE => {
                self.cur.bump();
                self.cur.eat(word::SAVEPOINT);
                Kind::ReleaseSavepoint(self.name_text())
            }
            word::PREPARE => self.prepare(),
            word::EXECUTE => self.execute(),
            word::DEALLOCATE | word::DROP => {
                self.cur.bump();
                self.cur.eat(word::PREPARE);
                Kind::Deallocate { name: self.name_text().to_lowercase().into() }
            }
            word::LOCK => self.lock_tables(),
            word::UNLOCK => self.unlock_tables(),
            word::HANDLER => self.handler(),
            word::KILL => self.kill(),
            word::XA => self.rest_of_admin(Kind::Xa),
            word::GET => self.get_diagnostics(),
            _ => self.compound_or_unknown(),
        }
    }

    fn rest_of_admin(&mut self, kind: Kind) -> Kind {
        self.cur.bump();
        self.set_state(State::Rest);
        self.rest(kind)
    }

    /// Takes a name; empty if none stands there.
    pub(super) fn name_text(&mut self) -> Box<str> {
        if !self.cur.peek().is_name() {
            return Box::default();
        }
        let name = self.cur.bump();
        self.cur.unquoted(name.span())
    }

    fn use_database(&mut self) -> Kind {
        self.cur.bump();
        self.flags |= Flags::LITERALS_MATTER;
        Kind::Use(self.name_text())
    }

    fn begin(&mut self) -> Kind {
        if self.cur.next_is(word::NOT) {
            return self.compound();
        }
        self.cur.bump();
        self.cur.eat(word::WORK);
        if !self.ended() {
            // sql_mode=ORACLE: an anonymous block.
            return self.compound_rest();
        }
        self.flags |= Flags::IMPLICIT_COMMIT;
        Kind::Begin { consistent_snapshot: false, read_only: false, read_write: false }
    }

    fn start(&mut self) -> Kind {
        self.cur.bump();
        if !self.cur.eat(word::TRANSACTION) {
            self.flags |= Flags::IMPLICIT_COMMIT;
            return self.rest(Kind::Admin);
        }
        self.flags |= Flags::IMPLICIT_COMMIT;
        let (mut consistent_snapshot, mut read_only, mut read_write) = (false, false, false);
        while !self.ended() {
            let tok = self.cur.bump();
            match tok.word {
                word::CONSISTENT => consistent_snapshot = true,
                word::ONLY => read_only = true,
                word::WRITE => read_write = true,
                _ => {}
            }
        }
        Kind::Begin { consistent_snapshot, read_only, read_write }
    }

    /// `[WORK] [AND [NO] CHAIN] [[NO] RELEASE]`: (chain, release).
    fn completion(&mut self) -> (bool, bool) {
        let (mut chain, mut release) = (false, false);
        let mut no = false;
        while !self.ended() {
            match self.cur.bump().word {
                word::NO => no = true,
                word::CHAIN => chain = !std::mem::take(&mut no),
                word::RELEASE => release = !std::mem::take(&mut no),
                _ => {}
            }
        }
        (chain, release)
    }

    fn rollback(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat(word::WORK);
        if self.cur.eat(word::TO) {
            if !matches!(self.cur.peek2().lexeme, Lexeme::End | Lexeme::Op(b';')) {
                self.cur.eat(word::SAVEPOINT);
            }
            return Kind::RollbackTo(self.name_text());
        }
        let (chain, release) = self.completion();
        Kind::Rollback { chain, release }
    }

    fn prepare(&mut self) -> Kind {
        self.cur.bump();
        let name = self.name_text().to_lowercase().into();
        self.cur.eat(word::FROM);
        let source = self.dynamic_source();
        Kind::Prepare { name, source }
    }

    /// The text of dynamic SQL: one literal (adjacent ones join), one variable, or an expression.
    fn dynamic_source(&mut self) -> DynamicSource {
        self.set_state(State::Rest);
        if self.ended() {
            return DynamicSource::Literal(Box::default());
        }
        let first = self.cur.peek();
        let ahead = self.cur.ahead();
        match first.lexeme {
            Lexeme::Text => {
                let mut text = Vec::new();
                while self.cur.peek().lexeme == Lexeme::Text {
                    let part = self.cur.bump();
                    text.extend_from_slice(&self.cur.string_value(part));
                }
                if self.ended() || self.cur.is(word::USING) {
                    self.flags |= Flags::LITERALS_MATTER;
                    self.walk();
                    return DynamicSource::Literal(text.into());
                }
            }
            Lexeme::UserVariable => {
                self.cur.bump();
                self.reads_variable(first);
                if self.ended() || self.cur.is(word::USING) {
                    self.flags |= Flags::DYNAMIC_SQL;
                    self.walk();
                    return DynamicSource::Variable(self.variable_name(first));
                }
            }
            _ => {}
        }
        self.flags |= Flags::DYNAMIC_SQL | Flags::LITERALS_MATTER;
        let once = Flags::WRITES_USER_VARIABLES | Flags::USER_LOCK;
        let before = self.flags & once;
        self.walk();
        let harmless = self.flags & once == before && self.refs.is_empty();
        let (text, one) = expression(ahead);
        DynamicSource::Expression { text, again: harmless && one }
    }

    fn execute(&mut self) -> Kind {
        self.cur.bump();
        if self.cur.eat(word::IMMEDIATE) {
            return Kind::ExecuteImmediate(self.dynamic_source());
        }
        self.flags |= Flags::DYNAMIC_SQL;
        let name = self.name_text().to_lowercase().into();
        self.set_state(State::Rest);
        self.rest(Kind::Execute { name })
    }

    /// `LOCK TABLES t [AS] a READ [LOCAL], u WRITE …`
    fn lock_tables(&mut self) -> Kind {
        self.cur.bump();
        if !self.cur.is_any(&[word::TABLE, word::TABLES]) {
            return self.rest(Kind::Admin);
        }
        self.cur.bump();
        self.flags |= Flags::IMPLICIT_COMMIT | Flags::LITERALS_MATTER;
        self.keep_all = true;
        let mut items = Vec::new();
        loop {
            let mut span = self.cur.peek().span();
            if self.table(Access::Read).is_none() {
                break;
            }
            while !self.ended() && !self.cur.is_op(b',') && !self.cur.is_any(&[word::WAIT, word::NOWAIT]) {
                if self.cur.bump().word == word::WRITE
                    && let Some(last) = self.refs.last_mut()
                {
                    last.access = Access::Write;
                }
            }
            span.end = self.cur.previous().span().end;
            items.push(span);
            if !self.cur.eat_op(b',') {
                break;
            }
        }
        self.rest(Kind::LockTables(items.into()))
    }

    fn unlock_tables(&mut self) -> Kind {
        self.cur.bump();
        let tables = self.cur.is_any(&[word::TABLE, word::TABLES]);
        self.rest(if tables { Kind::UnlockTables } else { Kind::Admin })
    }

    /// `HANDLER t OPEN [AS a] | READ … | CLOSE`
    fn handler(&mut self) -> Kind {
        self.cur.bump();
        if !self.cur.peek().is_name() {
            return self.rest(Kind::Unknown);
        }
        let first = self.cur.bump();
        let (database, name) = self.qualified(first);
        let mut text = self.cur.unquoted(name);
        self.set_state(State::Rest);
        let (open, close) = (self.cur.is(word::OPEN), self.cur.is(word::CLOSE));
        if open {
            self.add(database, name, Access::Read, 0);
            self.cur.bump();
            self.cur.eat(word::AS);
            if self.cur.peek().is_name() {
                // from here on it goes by this name
                let alias = self.cur.bump();
                text = self.cur.unquoted(alias.span());
            }
        }
        self.rest(Kind::Handler { name: text, open, close })
    }

    /// `KILL [HARD | SOFT] [CONNECTION | QUERY [ID]] n`, `KILL … USER x`
    fn kill(&mut self) -> Kind {
        self.cur.bump();
        self.flags |= Flags::LITERALS_MATTER;
        self.cur.eat_any(&[word::HARD, word::SOFT]);
        let query = self.cur.eat(word::QUERY);
        self.cur.eat(word::CONNECTION);
        self.cur.eat(word::ID);
        let tok = self.cur.peek();
        let id = match (tok.lexeme, self.cur.peek2().lexeme) {
            (Lexeme::Number, Lexeme::End | Lexeme::Op(b';')) => {
                std::str::from_utf8(self.cur.bytes(tok.span())).ok().and_then(|n| n.parse().ok())
            }
            _ => None,
        };
        self.accounts = true;
        self.set_state(State::Rest);
        self.rest(Kind::Kill { query, id })
    }

    /// `GET [CURRENT | STACKED] DIAGNOSTICS @x = NUMBER, …`
    fn get_diagnostics(&mut self) -> Kind {
        self.cur.bump();
        self.flags |= Flags::READS_DIAGNOSTICS;
        while !self.ended() {
            let tok = self.cur.bump();
            if tok.lexeme == Lexeme::UserVariable {
                if self.cur.is_op(b'=') {
                    self.writes_variable(tok);
                } else {
                    self.reads_variable(tok);
                }
            }
        }
        Kind::Diagnostics
    }
}

/// The text of the expression that `at` stands before, up to USING, and whether it is one expression that takes no sequence's
/// next value.
fn expression(mut at: Cursor<'_>) -> (Box<[u8]>, bool) {
    let start = at.peek().span().start;
    let (mut depth, mut one) = (0i64, true);
    while !at.at_end() && !(depth == 0 && (at.is(word::USING) || at.is_op(b';'))) {
        let tok = at.bump();
        match tok.lexeme {
            Lexeme::Op(b'(') => depth += 1,
            Lexeme::Op(b')') => depth -= 1,
            Lexeme::Op(b',') => one &= depth != 0,
            Lexeme::Word => one &= ![word::NEXT, word::NEXTVAL, word::SETVAL].contains(&tok.word),
            _ => {}
        }
        one &= depth >= 0;
    }
    let end = at.previous().span().end;
    if end <= start {
        return (Box::default(), false);
    }
    (at.bytes(Span { start, end }).into(), one && depth == 0)
}
