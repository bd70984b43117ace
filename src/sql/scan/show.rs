//! SHOW, DESCRIBE, EXPLAIN and ANALYZE.

use super::Scanner;
use super::cursor::Tok;
use super::mentions::only_escaped;
use super::query::State;
use crate::sql::facts::{Access, Flags, Kind, Span};
use crate::sql::lex::Lexeme;
use crate::sql::word::{self, Word};

/// Words that begin a statement which EXPLAIN explains.
const EXPLAINABLE: [Word; 9] = [
    word::SELECT,
    word::INSERT,
    word::REPLACE,
    word::UPDATE,
    word::DELETE,
    word::WITH,
    word::TABLE,
    word::VALUES,
    word::SET,
];

impl Scanner<'_> {
    /// `SHOW …`
    pub(super) fn show(&mut self) -> Kind {
        self.cur.bump();
        self.set_state(State::Rest);
        self.accounts = true;
        self.cur.eat_any(&[word::FULL, word::EXTENDED]);
        let what = self.cur.bump();
        match what.word {
            word::WARNINGS | word::ERRORS => return self.diagnostics(),
            word::COUNT if self.cur.is_op(b'(') => return self.diagnostics(),
            word::COLUMNS | word::FIELDS | word::INDEX | word::INDEXES | word::KEYS => self.show_of_table(),
            word::CREATE => self.show_create(),
            word::TABLES | word::TRIGGERS => self.show_like(),
            word::TABLE if self.cur.eat(word::STATUS) => self.show_like(),
            word::OPEN if self.cur.eat(word::TABLES) => self.show_like(),
            word::EVENTS => self.show_like(),
            word::GLOBAL | word::SESSION | word::LOCAL => {}
            _ => {}
        }
        self.rest(Kind::Show)
    }

    fn diagnostics(&mut self) -> Kind {
        self.flags |= Flags::READS_DIAGNOSTICS;
        self.rest(Kind::Diagnostics)
    }

    fn eat_from(&mut self) -> bool {
        self.cur.eat(word::FROM) || self.cur.eat(word::IN)
    }

    /// `FROM t [FROM db] [LIKE … | WHERE …]`
    fn show_of_table(&mut self) {
        if !self.eat_from() || self.table(Access::Describe).is_none() {
            return;
        }
        if self.eat_from() && self.cur.peek().is_name() {
            let database = self.cur.bump().span();
            if let Some(table) = self.refs.last_mut() {
                table.database = Some(database);
            }
        }
    }

    /// `CREATE TABLE | VIEW | PROCEDURE … name`
    fn show_create(&mut self) {
        let kind = self.cur.bump().word;
        self.cur.eat(word::BODY);
        if matches!(kind, word::DATABASE | word::SCHEMA) {
            return;
        }
        if kind != word::USER && kind != word::SERVER {
            self.cur.eat_if_exists();
            self.table(Access::Describe);
        }
    }

    /// `[FROM db] [LIKE 't' | WHERE …]`: a pattern that means one table describes it.
    fn show_like(&mut self) {
        let mut database = None;
        if self.eat_from() && self.cur.peek().is_name() {
            database = Some(self.cur.bump().span());
        }
        if self.cur.eat(word::LIKE) {
            self.flags |= Flags::LITERALS_MATTER;
            let pattern = self.cur.peek();
            if pattern.lexeme == Lexeme::Text && only_escaped(&self.cur.string_value(pattern)) {
                self.describe_literal(database, pattern);
            }
        } else if self.cur.eat(word::WHERE) {
            self.flags |= Flags::LITERALS_MATTER;
            self.show_where(database);
        }
    }

    /// `WHERE Tables_in_db = 't'`, `WHERE Name = 't'`, `WHERE name IN ('t', …)`
    fn show_where(&mut self, database: Option<Span>) {
        let column = self.cur.peek();
        if !column.is_name() {
            return;
        }
        let name = self.cur.unquoted(column.span()).to_ascii_lowercase();
        if !(name == "name" || name == "table" || name.starts_with("tables_in_")) {
            return;
        }
        self.cur.bump();
        if self.cur.eat_op(b'=') || self.cur.eat(word::LIKE) {
            let literal = self.cur.peek();
            if literal.lexeme == Lexeme::Text && only_escaped(&self.cur.string_value(literal)) {
                self.describe_literal(database, literal);
            }
        } else if self.cur.eat(word::IN) && self.cur.is_op(b'(') {
            let mut ahead = self.cur.ahead();
            ahead.bump();
            while ahead.peek().lexeme == Lexeme::Text {
                let literal = ahead.bump();
                self.describe_literal(database, literal);
                if !ahead.eat_op(b',') {
                    break;
                }
            }
        }
    }

    fn describe_literal(&mut self, database: Option<Span>, literal: Tok) {
        let query = self.new_query();
        self.add(database, literal.span(), Access::Describe, query);
        if let Some(last) = self.refs.last_mut() {
            last.literal = true;
        }
    }

    /// `EXPLAIN [options] statement`, `DESCRIBE t [column]`
    pub(super) fn explain(&mut self) -> Kind {
        self.cur.bump();
        let analyze = self.explain_options();
        if self.cur.is(word::FOR) && self.cur.next_is(word::CONNECTION) {
            return self.rest(Kind::Show);
        }
        if self.cur.is_any(&EXPLAINABLE) || self.cur.is_op(b'(') {
            return self.explained(analyze);
        }
        self.table(Access::Describe);
        self.set_state(State::Rest);
        self.rest(Kind::Show)
    }

    /// Takes EXTENDED, PARTITIONS, FORMAT = x, ANALYZE, FOR SCHEMA x; true if ANALYZE was among them.
    fn explain_options(&mut self) -> bool {
        let mut analyze = false;
        loop {
            match self.cur.peek().word {
                word::EXTENDED | word::PARTITIONS if !self.cur.peek2().is_op(b'.') && !self.next_ends() => {
                    self.cur.bump();
                }
                word::ANALYZE => {
                    analyze = true;
                    self.cur.bump();
                }
                word::FORMAT if self.cur.peek2().is_op(b'=') => {
                    self.cur.bump();
                    self.cur.bump();
                    self.cur.bump();
                }
                word::INTO => {
                    self.cur.bump();
                    self.cur.bump();
                    self.flags |= Flags::WRITES_USER_VARIABLES;
                }
                word::FOR if self.cur.next_is(word::SCHEMA) || self.cur.next_is(word::DATABASE) => {
                    self.cur.bump();
                    self.cur.bump();
                    self.cur.bump();
                }
                _ => return analyze,
            }
        }
    }

    fn next_ends(&self) -> bool {
        matches!(self.cur.peek2().lexeme, Lexeme::End | Lexeme::Op(b';'))
    }

    /// What is explained is described; what ANALYZE runs, it runs.
    fn explained(&mut self, runs: bool) -> Kind {
        let first = self.refs.len();
        self.set_state(State::Start);
        let kind = self.statement();
        self.flags |= Flags::EXPLAIN;
        if runs {
            return kind;
        }
        for table in self.refs.iter_mut().skip(first) {
            table.access = Access::Describe;
        }
        Kind::Show
    }

    /// `ANALYZE TABLE t, …` or MariaDB's `ANALYZE [FORMAT = JSON] statement`
    pub(super) fn analyze(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat_any(&[word::NO_WRITE_TO_BINLOG, word::LOCAL]);
        // ANALYZE TABLE t is the maintenance statement, not an explained TABLE t.
        if self.cur.is_any(&[word::TABLE, word::TABLES]) {
            self.cur.bump();
            self.flags |= Flags::IMPLICIT_COMMIT;
            self.table_list(Access::Ddl);
            self.set_state(State::Rest);
            return self.rest(Kind::Ddl);
        }
        self.explain_options();
        self.explained(true)
    }
}
