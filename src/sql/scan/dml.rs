//! INSERT, REPLACE, UPDATE, DELETE, LOAD DATA, CALL, DO: which tables they write and which they only read.

use std::collections::HashSet;

use super::query::{State, fold};
use super::{Found, Scanner};
use crate::sql::facts::{Access, Flags, Kind, Span};
use crate::sql::lex::Lexeme;
use crate::sql::word::{self, Word};

const MODIFIERS: [Word; 6] =
    [word::LOW_PRIORITY, word::HIGH_PRIORITY, word::DELAYED, word::IGNORE, word::QUICK, word::CONCURRENT];

impl Scanner<'_> {
    /// `INSERT [INTO] t [PARTITION …] [(…)] VALUES … | SET … | query [ON DUPLICATE KEY UPDATE …] [RETURNING …]`
    pub(super) fn insert(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat_any(&MODIFIERS);
        self.cur.eat(word::INTO);
        self.table(Access::Write);
        // A list of columns or rows may follow before a query begins.
        self.set_state(State::Rest);
        self.walk_to(&[word::WITH, word::TABLE, word::SELECT]);
        if !self.ended() {
            self.set_state(State::Start);
        }
        self.rest(Kind::Write)
    }

    /// `UPDATE refs SET a.x = …`: written are the tables whose columns are set, or all where that cannot be told.
    pub(super) fn update(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat_any(&MODIFIERS);
        let first = self.refs.len();
        let query = self.new_query();
        self.set_query(query);
        self.set_state(State::Factor);
        self.walk_to(&[word::SET]);
        self.cur.eat(word::SET);
        self.set_state(State::Rest);
        let targets: Vec<usize> =
            (first..self.refs.len()).filter(|n| self.refs.get(*n).is_some_and(|r| r.query == query)).collect();
        let written = self.assigned_tables();
        for at in targets {
            let is_written = self.refs.get(at).is_some_and(|r| match &written {
                None => true,
                Some(names) => self.goes_by(r, names),
            });
            if let Some(table) = self.refs.get_mut(at).filter(|_| is_written) {
                table.access = Access::Write;
            }
        }
        self.rest(Kind::Write)
    }

    fn set_query(&mut self, query: u32) {
        if let Some(frame) = self.frames.last_mut() {
            frame.query = query;
        }
    }

    /// Whether a table is known under one of these names (its alias, or its own name).
    fn goes_by(&self, table: &Found, names: &HashSet<String>) -> bool {
        names.contains(&fold(&self.cur.unquoted(table.alias.unwrap_or(table.name))))
    }

    /// The qualifiers of the columns that SET assigns, `None` if one has none. Walks up to WHERE, ORDER or LIMIT.
    fn assigned_tables(&mut self) -> Option<HashSet<String>> {
        let mut names = HashSet::new();
        let mut all = false;
        loop {
            let first = self.cur.peek();
            if !first.is_name() {
                break;
            }
            match self.column_qualifier() {
                Some(name) => {
                    names.insert(fold(&self.cur.unquoted(name)));
                }
                None => all = true,
            }
            if !self.walk_to_comma(&[word::WHERE, word::ORDER, word::LIMIT, word::RETURNING]) {
                break;
            }
        }
        (!all && !names.is_empty()).then_some(names)
    }

    /// Takes `[[db.]t.]column`; `t`.
    fn column_qualifier(&mut self) -> Option<Span> {
        let mut parts = [self.cur.bump().span(); 3];
        let mut count = 1;
        while count < 3 && self.cur.is_op(b'.') && self.cur.peek2().is_name() {
            self.cur.bump();
            if let Some(part) = parts.get_mut(count) {
                *part = self.cur.bump().span();
            }
            count += 1;
        }
        (count > 1).then(|| parts.get(count - 2).copied()).flatten()
    }

    /// Walks past the next `,` at this depth; false where one of `words` or the end comes first.
    pub(super) fn walk_to_comma(&mut self, words: &[Word]) -> bool {
        let depth = self.frames.len();
        while !self.ended() {
            if self.frames.len() <= depth {
                if self.cur.is_any(words) {
                    return false;
                }
                if self.cur.eat_op(b',') {
                    return true;
                }
            }
            self.step();
        }
        false
    }

    /// `DELETE FROM t …`, `DELETE a, b FROM refs …`, `DELETE FROM a, b USING refs …`
    pub(super) fn delete(&mut self) -> Kind {
        self.cur.bump();
        self.cur.eat_any(&MODIFIERS);
        if self.cur.is(word::HISTORY) && self.cur.next_is(word::FROM) {
            self.cur.bump();
        }
        let from_first = self.cur.eat(word::FROM);
        let targets = self.delete_targets();
        let query = self.new_query();
        self.set_query(query);
        let first = self.refs.len();
        if from_first && !self.cur.is(word::USING) {
            // One table, perhaps with an alias: the name was taken as the only target.
            for (database, name) in targets {
                self.add(database, name, Access::Write, query);
            }
            self.set_state(State::Joined);
            self.alias_of = self.refs.len().checked_sub(1);
            return self.rest(Kind::Write);
        }
        if !self.cur.eat(word::FROM) {
            self.cur.eat(word::USING);
        }
        self.set_state(State::Factor);
        self.walk_to(&[word::WHERE, word::ORDER, word::LIMIT, word::RETURNING]);
        self.mark_deleted(&targets, first, query);
        self.rest(Kind::Write)
    }

    /// `a, db.b, c.*`
    fn delete_targets(&mut self) -> Vec<(Option<Span>, Span)> {
        let mut targets = Vec::new();
        while self.cur.peek().is_name() && !self.cur.is(word::FROM) && !self.cur.is(word::USING) {
            let first = self.cur.bump();
            targets.push(self.qualified(first));
            if self.cur.is_op(b'.') {
                self.cur.bump();
                self.cur.eat_op(b'*');
            }
            if !self.cur.eat_op(b',') {
                break;
            }
        }
        targets
    }

    /// Tables of the FROM clause that are targets are written; a target that stands for none of them is a table itself.
    fn mark_deleted(&mut self, targets: &[(Option<Span>, Span)], first: usize, query: u32) {
        let names: HashSet<String> = targets.iter().map(|(_, name)| fold(&self.cur.unquoted(*name))).collect();
        let mut met: HashSet<String> = HashSet::new();
        for at in first..self.refs.len() {
            let Some(table) = self.refs.get(at).copied().filter(|r| r.query == query) else { continue };
            let known_as = fold(&self.cur.unquoted(table.alias.unwrap_or(table.name)));
            if names.contains(&known_as) {
                met.insert(known_as);
                if let Some(table) = self.refs.get_mut(at) {
                    table.access = Access::Write;
                }
            }
        }
        for (database, name) in targets {
            if !met.contains(&fold(&self.cur.unquoted(*name))) {
                self.add(*database, *name, Access::Write, query);
            }
        }
    }

    /// `LOAD DATA [LOCAL] INFILE … INTO TABLE t …`, `LOAD XML`, `LOAD INDEX INTO CACHE t, …`
    pub(super) fn load(&mut self) -> Kind {
        self.cur.bump();
        if self.cur.eat(word::INDEX) {
            self.flags |= Flags::IMPLICIT_COMMIT;
            self.cur.eat_any(&[word::INTO, word::CACHE]);
            self.table_list(Access::Ddl);
            return self.rest(Kind::Admin);
        }
        if !self.cur.is(word::DATA) && !self.cur.is(word::XML) {
            return self.rest(Kind::Unknown);
        }
        self.cur.bump();
        self.cur.eat_any(&MODIFIERS);
        if self.cur.eat(word::LOCAL) {
            self.flags |= Flags::LOCAL_INFILE;
        }
        while !(self.ended() || self.cur.is(word::INTO) && self.cur.next_is(word::TABLE)) {
            self.cur.bump();
        }
        self.cur.eat_any(&[word::INTO, word::TABLE]);
        self.table(Access::Write);
        self.set_state(State::Rest);
        self.load_variables();
        self.rest(Kind::Write)
    }

    /// The variables of LOAD's column list are written.
    fn load_variables(&mut self) {
        while !self.ended() && !self.cur.is(word::SET) {
            let tok = self.cur.bump();
            if tok.lexeme == Lexeme::UserVariable {
                self.writes_variable(tok);
            }
        }
    }

    /// `CALL p(…)`: variables among its arguments may be read and written.
    pub(super) fn call(&mut self) -> Kind {
        self.cur.bump();
        self.table(Access::Write);
        // MariaDB's packages: db.package.procedure.
        if self.cur.is_op(b'.') {
            self.cur.bump();
            self.cur.bump();
        }
        self.set_state(State::Rest);
        self.walk();
        if self.flags.contains(Flags::READS_USER_VARIABLES) {
            self.flags |= Flags::WRITES_USER_VARIABLES;
        }
        Kind::Call
    }

    /// `DO expr, …`
    pub(super) fn do_expressions(&mut self) -> Kind {
        self.cur.bump();
        self.set_state(State::Rest);
        self.rest(Kind::Read)
    }
}
