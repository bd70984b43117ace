//! CREATE, ALTER, DROP, table maintenance, GRANT, and the administrators' statements.

use super::Scanner;
use super::query::State;
use crate::sql::facts::{Access, Flags, Kind};
use crate::sql::word::{self, Word};

/// Kinds of object that have a name like a table's.
const NAMED: [Word; 6] = [word::TABLE, word::VIEW, word::SEQUENCE, word::PROCEDURE, word::FUNCTION, word::EVENT];

/// Words that a routine's body begins with.
const BODY: [Word; 22] = [
    word::BEGIN,
    word::SELECT,
    word::INSERT,
    word::UPDATE,
    word::DELETE,
    word::REPLACE,
    word::CALL,
    word::RETURN,
    word::IF,
    word::CASE,
    word::LOOP,
    word::WHILE,
    word::REPEAT,
    word::FOR,
    word::WITH,
    word::TRUNCATE,
    word::CREATE,
    word::DROP,
    word::ALTER,
    word::EXECUTE,
    word::LOCK,
    word::SIGNAL,
];

impl Scanner<'_> {
    /// `CREATE [OR REPLACE] [DEFINER = …] … kind name …`
    pub(super) fn create(&mut self) -> Kind {
        self.cur.bump();
        self.flags |= Flags::IMPLICIT_COMMIT;
        self.accounts = true;
        self.calls = false;
        let mut temporary = false;
        loop {
            let tok = self.cur.peek();
            if self.ended() {
                return Kind::Ddl;
            }
            match tok.word {
                word::TEMPORARY => temporary = true,
                word::TABLE | word::SEQUENCE => return self.create_table(temporary),
                word::VIEW => return self.create_view(),
                word::INDEX => return self.create_index(),
                word::PROCEDURE | word::FUNCTION | word::EVENT | word::PACKAGE => return self.create_routine(),
                word::TRIGGER => return self.create_trigger(),
                word::USER
                | word::ROLE
                | word::DATABASE
                | word::SCHEMA
                | word::SERVER
                | word::TABLESPACE
                | word::RESOURCE => return self.create_other(),
                _ => {}
            }
            self.cur.bump();
        }
    }

    fn create_other(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat_if_exists();
        self.set_state(State::Rest);
        self.rest(Kind::Ddl)
    }

    fn create_table(&mut self, temporary: bool) -> Kind {
        self.cur.bump();
        self.accounts = false;
        if temporary {
            self.flags |= Flags::TEMPORARY_TABLE;
            self.flags &= !Flags::IMPLICIT_COMMIT;
        }
        if self.cur.eat_if_exists() {
            self.flags |= Flags::IF_EXISTS;
        }
        self.table(Access::Ddl);
        self.set_state(State::Rest);
        if self.cur.eat(word::LIKE) || (self.cur.is_op(b'(') && self.cur.next_is(word::LIKE)) {
            self.cur.eat_op(b'(');
            self.cur.eat(word::LIKE);
            self.table(Access::Read);
            return self.rest(Kind::Ddl);
        }
        self.walk_definitions()
    }

    /// Columns, keys, options and the query at the end; `REFERENCES t` describes t.
    fn walk_definitions(&mut self) -> Kind {
        while !self.ended() {
            if self.cur.is(word::REFERENCES) {
                self.cur.bump();
                self.table(Access::Describe);
            } else if self.cur.is_any(&[word::AS, word::IGNORE, word::REPLACE])
                && (self.cur.peek2().is_op(b'(')
                    || self.cur.next_is(word::WITH)
                    || self.cur.next_is(word::TABLE)
                    || self.cur.next_is(word::VALUES))
                && self.frames.len() == self.base
            {
                self.cur.bump();
                self.set_state(State::Start);
                return self.rest(Kind::Ddl);
            } else {
                self.step();
            }
        }
        Kind::Ddl
    }

    fn create_view(&mut self) -> Kind {
        self.cur.bump();
        self.accounts = false;
        if self.cur.eat_if_exists() {
            self.flags |= Flags::IF_EXISTS;
        }
        self.table(Access::Ddl);
        self.set_state(State::Rest);
        self.walk_to(&[word::AS]);
        self.cur.eat(word::AS);
        self.calls = true;
        self.set_state(State::Start);
        self.rest(Kind::Ddl)
    }

    fn create_index(&mut self) -> Kind {
        self.cur.bump();
        self.set_state(State::Rest);
        self.cur.eat_if_exists();
        self.cur.bump();
        self.skip_to(word::ON);
        self.table(Access::Ddl);
        self.rest(Kind::Ddl)
    }

    /// Takes everything up to this word, and it.
    fn skip_to(&mut self, word: Word) {
        while !self.ended() && !self.cur.eat(word) {
            self.cur.bump();
        }
    }

    /// The routine itself is defined; what its body uses is only described.
    fn create_routine(&mut self) -> Kind {
        let kind = self.cur.bump().word;
        if kind == word::FUNCTION || kind == word::PACKAGE {
            self.cur.eat(word::BODY);
        }
        if self.cur.eat_if_exists() {
            self.flags |= Flags::IF_EXISTS;
        }
        self.table(Access::Ddl);
        if self.cur.is(word::RETURNS) && self.is_udf() {
            return self.rest(Kind::Ddl);
        }
        self.skip_header();
        self.body();
        Kind::Ddl
    }

    /// Takes parameters, the returned type and characteristics, up to the body.
    fn skip_header(&mut self) {
        while !self.ended() {
            let tok = self.cur.peek();
            let body = match tok.word {
                word::SET => {
                    !self.cur.peek2().is_op(b'(') && !matches!(self.cur.previous().word, word::CHARACTER | word::CHAR)
                }
                word::DO => {
                    self.cur.bump();
                    true
                }
                w => BODY.contains(&w),
            };
            if body || (tok.is_name() && self.cur.peek2().is_op(b':')) {
                return;
            }
            self.cur.bump();
        }
    }

    /// `CREATE FUNCTION f RETURNS INT SONAME 'x.so'`
    fn is_udf(&self) -> bool {
        let mut ahead = self.cur.ahead();
        ahead.bump();
        ahead.bump();
        ahead.is(word::SONAME)
    }

    fn create_trigger(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat_if_exists();
        self.skip_to(word::ON);
        self.table(Access::Ddl);
        self.skip_to(word::ROW);
        if self.cur.is(word::FOLLOWS) || self.cur.is(word::PRECEDES) {
            self.cur.bump();
            self.cur.bump();
        }
        self.body();
        Kind::Ddl
    }

    /// A routine's body, up to the end of the statement: its tables are described, its variables are nobody's.
    fn body(&mut self) {
        let (first, flags, variables) = (self.refs.len(), self.flags, self.variables.len());
        self.compound_body();
        for table in self.refs.iter_mut().skip(first) {
            table.access = Access::Describe;
        }
        self.flags = flags;
        self.variables.truncate(variables);
    }

    /// `ALTER … kind name …`
    pub(super) fn alter(&mut self) -> Kind {
        self.cur.bump();
        self.flags |= Flags::IMPLICIT_COMMIT;
        self.accounts = true;
        self.calls = false;
        while !self.ended() {
            match self.cur.peek().word {
                word::TABLE => return self.alter_table(),
                word::VIEW => return self.create_view(),
                word::SEQUENCE | word::PROCEDURE | word::FUNCTION => {
                    self.cur.bump();
                    self.cur.eat_if_exists();
                    self.table(Access::Ddl);
                    self.set_state(State::Rest);
                    return self.rest(Kind::Ddl);
                }
                word::EVENT => return self.alter_event(),
                word::USER
                | word::ROLE
                | word::DATABASE
                | word::SCHEMA
                | word::SERVER
                | word::TABLESPACE
                | word::INSTANCE
                | word::RESOURCE => return self.create_other(),
                _ => self.cur.bump(),
            };
        }
        Kind::Ddl
    }

    fn alter_event(&mut self) -> Kind {
        self.cur.bump();
        self.table(Access::Ddl);
        while !self.ended() && !self.cur.is(word::DO) {
            if self.cur.eat(word::RENAME) && self.cur.eat(word::TO) {
                self.table(Access::Ddl);
            } else {
                self.cur.bump();
            }
        }
        self.body();
        Kind::Ddl
    }

    fn alter_table(&mut self) -> Kind {
        self.cur.bump();
        self.accounts = false;
        if self.cur.eat_if_exists() {
            self.flags |= Flags::IF_EXISTS;
        }
        self.table(Access::Ddl);
        self.set_state(State::Rest);
        while !self.ended() {
            match self.cur.peek().word {
                word::RENAME if self.cur.next_is(word::TO) || self.cur.next_is(word::AS) || self.renames_bare() => {
                    self.cur.bump();
                    self.cur.eat_any(&[word::TO, word::AS]);
                    self.table(Access::Ddl);
                }
                word::EXCHANGE => self.other_table(&[word::WITH, word::TABLE]),
                word::CONVERT if self.cur.next_is(word::PARTITION) => self.other_table(&[word::TO, word::TABLE]),
                word::CONVERT if self.cur.next_is(word::TABLE) => {
                    self.cur.bump();
                    self.cur.bump();
                    self.table(Access::Ddl);
                }
                word::REFERENCES => {
                    self.cur.bump();
                    self.table(Access::Describe);
                }
                _ => self.step(),
            }
        }
        Kind::Ddl
    }

    /// `RENAME t2`, as opposed to RENAME COLUMN, INDEX and KEY.
    fn renames_bare(&self) -> bool {
        self.cur.peek2().is_name() && !matches!(self.cur.peek2().word, word::COLUMN | word::INDEX | word::KEY)
            || self.cur.peek2().is_op(b'=')
    }

    /// `EXCHANGE PARTITION p WITH TABLE t`, `CONVERT PARTITION p TO TABLE t`
    fn other_table(&mut self, words: &[Word; 2]) {
        self.cur.bump();
        let [first, second] = *words;
        while !(self.ended() || self.cur.is(first) && self.cur.next_is(second)) {
            self.cur.bump();
        }
        self.cur.eat(first);
        self.cur.eat(second);
        self.table(Access::Ddl);
    }

    /// `DROP [TEMPORARY] kind [IF EXISTS] name, …`
    pub(super) fn drop(&mut self) -> Kind {
        if self.cur.next_is(word::PREPARE) {
            return self.session_statement();
        }
        self.cur.bump();
        self.flags |= Flags::IMPLICIT_COMMIT;
        if self.cur.eat(word::TEMPORARY) {
            self.flags |= Flags::TEMPORARY_TABLE;
            self.flags &= !Flags::IMPLICIT_COMMIT;
        }
        let kind = self.cur.bump().word;
        self.flags.set(Flags::DROPS_TABLES, matches!(kind, word::TABLE | word::TABLES));
        self.cur.eat(word::BODY);
        if self.cur.eat_if_exists() {
            self.flags |= Flags::IF_EXISTS;
        }
        match kind {
            word::INDEX => {
                self.skip_to(word::ON);
                self.table(Access::Ddl);
            }
            word::TABLES | word::TRIGGER | word::PACKAGE => self.table_list(Access::Ddl),
            _ if NAMED.contains(&kind) => self.table_list(Access::Ddl),
            _ => {}
        }
        self.accounts = true;
        self.set_state(State::Rest);
        self.rest(Kind::Ddl)
    }

    /// TRUNCATE, RENAME, OPTIMIZE, REPAIR, CHECK, CHECKSUM, GRANT, REVOKE, IMPORT.
    pub(super) fn maintenance(&mut self) -> Kind {
        let verb = self.cur.bump().word;
        self.flags.set(Flags::IMPLICIT_COMMIT, verb != word::CHECKSUM);
        self.set_state(State::Rest);
        self.cur.eat_any(&[word::NO_WRITE_TO_BINLOG, word::LOCAL]);
        match verb {
            word::TRUNCATE => {
                self.cur.eat(word::TABLE);
                self.table(Access::Ddl);
            }
            word::RENAME => return self.rename(),
            word::GRANT | word::REVOKE => return self.grant(),
            word::IMPORT => {}
            _ if self.cur.is_any(&[word::TABLE, word::TABLES, word::VIEW]) => {
                self.cur.bump();
                let checksum = verb == word::CHECKSUM;
                self.table_list(if checksum { Access::Read } else { Access::Ddl });
                if checksum {
                    return self.rest(Kind::Read);
                }
            }
            _ => return self.rest(Kind::Unknown),
        }
        self.rest(Kind::Ddl)
    }

    fn rename(&mut self) -> Kind {
        if !self.cur.is_any(&[word::TABLE, word::TABLES]) {
            self.accounts = true;
            return self.rest(Kind::Ddl);
        }
        self.cur.bump();
        self.cur.eat_if_exists();
        while self.table(Access::Ddl).is_some() {
            while !self.ended() && !self.cur.is(word::TO) {
                self.cur.bump();
            }
            self.cur.eat(word::TO);
            self.table(Access::Ddl);
            if !self.cur.eat_op(b',') {
                break;
            }
        }
        self.rest(Kind::Ddl)
    }

    /// `GRANT … ON [TABLE | FUNCTION | PROCEDURE | PACKAGE] name TO …`
    fn grant(&mut self) -> Kind {
        self.accounts = true;
        let proxy = self.cur.is(word::PROXY);
        while !self.ended() && !self.cur.is(word::ON) {
            self.cur.bump();
        }
        self.cur.eat(word::ON);
        self.cur.eat_any(&[word::TABLE, word::FUNCTION, word::PROCEDURE, word::PACKAGE, word::BODY]);
        let whole_database = self.cur.peek2().is_op(b'.') && self.grants_on_star();
        if !proxy && !whole_database && self.cur.peek().is_name() {
            self.table(Access::Ddl);
        }
        self.rest(Kind::Ddl)
    }

    /// `db.*`
    fn grants_on_star(&self) -> bool {
        let mut ahead = self.cur.ahead();
        ahead.bump();
        ahead.bump();
        ahead.is_op(b'*')
    }

    /// FLUSH, RESET, BACKUP … : the tables that they name are held or written out.
    pub(super) fn admin(&mut self) -> Kind {
        let verb = self.cur.bump().word;
        self.set_state(State::Rest);
        self.accounts = true;
        self.flags.set(Flags::IMPLICIT_COMMIT, !matches!(verb, word::PURGE | word::SHUTDOWN | word::BINLOG));
        self.cur.eat_any(&[word::NO_WRITE_TO_BINLOG, word::LOCAL]);
        match verb {
            word::FLUSH if self.cur.is_any(&[word::TABLE, word::TABLES]) => {
                self.cur.bump();
                if !self.cur.is_any(&[word::WITH, word::FOR]) {
                    self.table_list(Access::Ddl);
                }
            }
            word::CACHE if self.cur.eat(word::INDEX) => self.table_list(Access::Ddl),
            word::BACKUP if self.cur.eat(word::LOCK) => {
                self.table(Access::Ddl);
            }
            _ => {}
        }
        self.rest(Kind::Admin)
    }
}
