//! The walker: queries and expressions, token by token, with a stack of open parentheses instead of recursion.
//!
//! One frame per open parenthesis says what stands in it: a query (select list, FROM clause, the rest), a parenthesised
//! join, or an expression, in which FROM is no clause (`EXTRACT(… FROM …)`). Names that are CTEs in scope are no tables.

use std::collections::{HashMap, HashSet};

use super::Scanner;
use super::cursor::Tok;
use crate::sql::dialect::Engine;
use crate::sql::facts::{Access, Flags, Span};
use crate::sql::lex::Lexeme;
use crate::sql::word::{self, Word};

/// What a frame's content becomes if it does not begin a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// An expression, a column list …
    Expression,
    /// Table factors.
    Tables,
}

/// Where in a frame the walker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// At the beginning, or after UNION and its like.
    Start,
    /// In WITH.
    With(With),
    /// In a select list.
    Select,
    /// In a FROM clause, where a table is expected.
    Factor,
    /// In a FROM clause, behind a table.
    Joined,
    /// In a FROM clause, behind ON or USING.
    On,
    /// Anywhere else.
    Rest,
}

/// Where in WITH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct With {
    recursive: bool,
    /// The CTE's name, once read.
    name: Option<Span>,
    /// AS was read: the next parenthesis opens the query.
    body: bool,
    /// Number of tables and of CTEs before it.
    before: (usize, usize),
}

/// One open parenthesis, or the statement itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) context: Context,
    pub(super) state: State,
    /// Number of CTEs that were in scope when it opened.
    pub(super) ctes: usize,
    /// The query whose tables these are, for locking clauses.
    pub(super) query: u32,
    /// The CTE that this frame defines: in scope once it closes.
    defines: Option<Span>,
    /// Number of tables that were known when it opened.
    refs: usize,
}

impl Frame {
    pub(super) fn new(context: Context, state: State, ctes: usize, query: u32) -> Self {
        Frame { context, state, ctes, query, defines: None, refs: 0 }
    }
}

/// Deeper parentheses than any server's parser takes: beyond them nothing is looked at.
const MAX_DEPTH: usize = 40_000;

impl Scanner<'_> {
    /// Walks to the end of the statement.
    pub(super) fn walk(&mut self) {
        while !self.ended() {
            self.step();
        }
    }

    /// Walks until one of these words comes at the depth `self.frames.len()` has now, or the statement ends.
    pub(super) fn walk_to(&mut self, words: &[Word]) {
        let depth = self.frames.len();
        while !(self.ended() || self.frames.len() <= depth && self.cur.is_any(words)) {
            self.step();
        }
    }

    pub(super) fn state(&self) -> State {
        self.frames.last().map_or(State::Rest, |f| f.state)
    }

    pub(super) fn set_state(&mut self, state: State) {
        if let Some(frame) = self.frames.last_mut() {
            frame.state = state;
        }
    }

    pub(super) fn query_id(&self) -> u32 {
        self.frames.last().map_or(0, |f| f.query)
    }

    /// Takes one token (or a table name, or a clause that has to be read whole).
    pub(super) fn step(&mut self) {
        let tok = self.cur.peek();
        if self.state() == State::Factor && tok.is_name() && !self.is_factor_keyword(tok) {
            self.factor();
            return;
        }
        self.cur.bump();
        match tok.lexeme {
            Lexeme::Op(b'(') => self.open(),
            Lexeme::Op(b')') => self.close(),
            Lexeme::Op(b',') => self.comma(),
            Lexeme::Word => self.word(tok),
            Lexeme::Quoted | Lexeme::Member => self.plain_name(tok),
            Lexeme::UserVariable => self.user_variable(tok),
            Lexeme::SystemVariable => self.system_variable(),
            Lexeme::Text => self.text_literal(tok),
            _ => self.leave_start(),
        }
    }

    /// Words that may stand where a table is expected without being one.
    fn is_factor_keyword(&self, tok: Tok) -> bool {
        match tok.word {
            word::SELECT => true,
            // MariaDB has tables of that name.
            word::LATERAL => self.cur.peek2().is_op(b'('),
            word::OJ => self.cur.previous().is_op(b'{'),
            _ => false,
        }
    }

    /// Something that begins no query was read at the start of a frame.
    pub(super) fn leave_start(&mut self) {
        if self.state() == State::Start {
            let context = self.frames.last().map_or(Context::Expression, |f| f.context);
            self.set_state(if context == Context::Tables { State::Factor } else { State::Rest });
        }
    }

    fn open(&mut self) {
        let frame = self.frames.last().copied();
        let frame = frame.unwrap_or(Frame::new(Context::Expression, State::Rest, self.ctes.len(), 0));
        let context = match frame.state {
            State::Factor => Context::Tables,
            State::Start => frame.context,
            _ => Context::Expression,
        };
        let query = if context == Context::Tables { frame.query } else { self.new_query() };
        let mut inner = Frame::new(context, State::Start, self.ctes.len(), query);
        inner.refs = self.refs.len();
        if let State::With(With { recursive, name: Some(name), body: true, .. }) = frame.state {
            inner.query = self.new_query();
            if recursive {
                // In scope in its own body, and from there on until the frame around it closes.
                self.ctes.push(self.cur.unquoted(name));
                inner.ctes = self.ctes.len();
            } else {
                inner.defines = Some(name);
            }
        }
        if self.frames.len() < MAX_DEPTH {
            self.frames.push(inner);
        }
    }

    fn close(&mut self) {
        if self.frames.len() <= self.base {
            return;
        }
        let Some(inner) = self.frames.pop() else { return };
        self.ctes.truncate(inner.ctes);
        if let Some(name) = inner.defines {
            self.ctes.push(self.cur.unquoted(name));
        }
        match self.state() {
            State::Factor => {
                self.alias_of = None;
                self.set_state(State::Joined);
            }
            State::Start => {
                let context = self.frames.last().map_or(Context::Expression, |f| f.context);
                self.set_state(if context == Context::Tables { State::Joined } else { State::Rest });
            }
            State::With(with) if with.body => {
                self.set_state(State::With(With { name: None, body: false, ..with }));
            }
            _ => {}
        }
    }

    fn comma(&mut self) {
        match self.state() {
            State::Joined | State::On => self.set_state(State::Factor),
            _ => self.leave_start(),
        }
    }

    fn plain_name(&mut self, tok: Tok) {
        self.schema_predicate(tok);
        if self.cur.is_op(b'(') && self.state() != State::Factor {
            self.function_call(tok);
        }
        match self.state() {
            State::With(with) if with.name.is_none() => {
                self.set_state(State::With(With { name: Some(tok.span()), ..with }));
            }
            State::Joined => self.alias(tok),
            _ => {
                self.leave_start();
                if self.state() == State::Factor {
                    // The first table of a parenthesised join was taken by step() already in all other cases.
                    self.factor_named(tok);
                }
            }
        }
    }

    fn word(&mut self, tok: Tok) {
        self.mentions(tok);
        self.schema_predicate(tok);
        match self.state() {
            State::Start => self.word_at_start(tok),
            State::With(with) => self.word_in_with(tok, with),
            State::Select => self.word_in_select(tok),
            State::Factor => {
                if tok.word == word::SELECT {
                    self.begin_select();
                }
            }
            State::Joined | State::On => self.word_in_from(tok),
            State::Rest => self.word_in_rest(tok),
        }
    }

    fn begin_select(&mut self) {
        let id = self.new_query();
        if let Some(frame) = self.frames.last_mut() {
            if frame.context == Context::Tables {
                frame.query = id;
            }
            frame.state = State::Select;
        }
    }

    fn word_at_start(&mut self, tok: Tok) {
        match tok.word {
            word::SELECT => self.begin_select(),
            word::WITH => {
                let recursive = self.cur.eat(word::RECURSIVE);
                let before = (self.refs.len(), self.ctes.len());
                self.set_state(State::With(With { recursive, name: None, body: false, before }));
            }
            word::TABLE => {
                self.begin_select();
                self.set_state(State::Factor);
            }
            word::VALUES => self.set_state(State::Rest),
            word::ALL | word::DISTINCT => {}
            _ => {
                self.leave_start();
                if self.state() == State::Factor {
                    self.factor_named(tok);
                } else {
                    self.word_in_rest(tok);
                }
            }
        }
    }

    fn word_in_with(&mut self, tok: Tok, with: With) {
        match tok.word {
            word::AS if with.name.is_some() => self.set_state(State::With(With { body: true, ..with })),
            word::SELECT => {
                self.end_with(with);
                self.begin_select();
            }
            word::TABLE => {
                self.end_with(with);
                self.begin_select();
                self.set_state(State::Factor);
            }
            word::VALUES => self.set_state(State::Rest),
            _ if with.name.is_none() => {
                self.set_state(State::With(With { name: Some(tok.span()), ..with }));
            }
            _ => {}
        }
    }

    /// MariaDB's recursive CTEs may name those that are defined after them: such names were taken for tables.
    fn end_with(&mut self, with: With) {
        let (first, ctes) = with.before;
        if !with.recursive || self.ctes.exact || self.ctes.len() < ctes + 2 {
            return;
        }
        let later: HashSet<String> = self.ctes.stack.iter().skip(ctes + 1).cloned().collect();
        let mut at = 0;
        let cur = &self.cur;
        self.refs.retain(|r| {
            at += 1;
            at <= first
                || r.database.is_some()
                || r.access != Access::Read
                || !later.contains(&fold(&cur.unquoted(r.name)))
        });
    }

    fn word_in_select(&mut self, tok: Tok) {
        match tok.word {
            word::FROM if self.cur.before().word != word::DISTINCT => self.set_state(State::Factor),
            word::SQL_CALC_FOUND_ROWS => self.flags |= Flags::CALC_FOUND_ROWS,
            _ => self.word_in_rest(tok),
        }
    }

    fn word_in_from(&mut self, tok: Tok) {
        match tok.word {
            word::JOIN | word::STRAIGHT_JOIN => self.set_state(State::Factor),
            // INSERT … SELECT … ON DUPLICATE KEY UPDATE: what follows are assignments.
            word::ON if self.cur.is(word::DUPLICATE) && self.cur.next_is(word::KEY) => self.set_state(State::Rest),
            word::ON => self.set_state(State::On),
            word::USING => self.set_state(State::On),
            word::INNER | word::CROSS | word::LEFT | word::RIGHT | word::OUTER | word::NATURAL | word::FULL => {}
            word::AS => self.set_state(State::Joined),
            word::USE | word::FORCE | word::IGNORE if self.cur.is_any(&[word::INDEX, word::KEY]) => {
                self.cur.bump();
                if self.cur.eat(word::FOR) {
                    self.cur.eat_any(&[word::JOIN, word::ORDER, word::GROUP, word::BY]);
                }
            }
            word::PARTITION => {}
            // Not reserved by every server: an alias, or a column in ON.
            word::OFFSET | word::WINDOW | word::RETURNING if self.name_ends() => {
                if self.state() == State::Joined {
                    self.alias(tok);
                }
            }
            word::FOR if self.cur.is_any(&[word::SYSTEM_TIME, word::PORTION]) => {
                self.cur.bump();
                self.cur.eat(word::AS);
                self.set_state(State::On);
            }
            word::WHERE
            | word::GROUP
            | word::HAVING
            | word::ORDER
            | word::LIMIT
            | word::WINDOW
            | word::PROCEDURE
            | word::SET
            | word::OFFSET
            | word::FETCH
            | word::RETURNING => self.set_state(State::Rest),
            _ => {
                if !self.query_clause(tok) && self.state() == State::Joined {
                    self.alias(tok);
                }
            }
        }
    }

    /// What comes next cannot follow the first word of a clause: that word was a name.
    fn name_ends(&self) -> bool {
        const FOLLOWS: [Word; 12] = [
            word::JOIN,
            word::INNER,
            word::CROSS,
            word::LEFT,
            word::RIGHT,
            word::NATURAL,
            word::STRAIGHT_JOIN,
            word::ON,
            word::USING,
            word::SET,
            word::WHERE,
            word::IS,
        ];
        self.ended()
            || matches!(self.cur.peek().lexeme, Lexeme::Op(b',' | b')' | b'.' | b'=' | b'<' | b'>' | b'!'))
            || self.cur.is_any(&FOLLOWS)
    }

    fn word_in_rest(&mut self, tok: Tok) {
        match tok.word {
            // Reserved everywhere: wherever it was lost, a table follows.
            word::JOIN => self.set_state(State::Factor),
            _ => {
                self.query_clause(tok);
            }
        }
    }

    /// Words that mean the same in every part of a query; false if this is none of them.
    fn query_clause(&mut self, tok: Tok) -> bool {
        match tok.word {
            word::SELECT => self.begin_select(),
            word::UNION | word::EXCEPT | word::INTERSECT => self.set_state(State::Start),
            word::MINUS if self.cur.is_any(&[word::SELECT, word::ALL, word::DISTINCT]) => self.set_state(State::Start),
            word::FOR if self.cur.is(word::UPDATE) || self.cur.is(word::SHARE) => self.locking_clause(),
            word::LOCK if self.cur.is(word::IN) => {
                self.lock_tables_of_query(&[]);
                self.set_state(State::Rest);
            }
            word::INTO => self.clause_into(),
            _ => return false,
        }
        true
    }

    fn locking_clause(&mut self) {
        self.cur.bump();
        self.set_state(State::Rest);
        let mut of = Vec::new();
        if self.cur.eat(word::OF) {
            while self.cur.peek().is_name() {
                let name = self.cur.bump();
                of.push(name.span());
                if !self.cur.eat_op(b',') {
                    break;
                }
            }
        }
        self.lock_tables_of_query(&of);
    }

    fn lock_tables_of_query(&mut self, of: &[Span]) {
        let query = self.query_id();
        let wanted: HashSet<String> = of.iter().map(|s| fold(&self.cur.unquoted(*s))).collect();
        let first = self.frames.last().map_or(0, |f| f.refs);
        let refs = self.refs.iter_mut().skip(first);
        for table in refs.filter(|r| r.query == query && r.access == Access::Read) {
            let name = table.alias.unwrap_or(table.name);
            if wanted.is_empty() || wanted.contains(&fold(&self.cur.unquoted(name))) {
                table.access = Access::LockingRead;
            }
        }
    }

    /// INTO @a, @b | OUTFILE | DUMPFILE | local variables.
    fn clause_into(&mut self) {
        self.set_state(match self.state() {
            State::Select => State::Select,
            _ => State::Rest,
        });
        if self.cur.is(word::OUTFILE) || self.cur.is(word::DUMPFILE) {
            self.flags |= Flags::INTO_FILE;
            return;
        }
        while self.cur.peek().lexeme == Lexeme::UserVariable || self.cur.peek().is_name() {
            let tok = self.cur.peek();
            if self.is_clause_word(tok.word) {
                return;
            }
            if tok.lexeme == Lexeme::UserVariable {
                self.writes_variable(tok);
            }
            self.cur.bump();
            if !self.cur.eat_op(b',') {
                return;
            }
        }
    }

    fn is_clause_word(&self, w: Word) -> bool {
        matches!(
            w,
            word::FROM | word::WHERE | word::FOR | word::LOCK | word::UNION | word::ORDER | word::LIMIT | word::GROUP
        )
    }

    /// Reads a table factor that stands next.
    fn factor(&mut self) {
        let first = self.cur.bump();
        self.factor_named(first);
    }

    /// Reads the rest of a table factor whose first name was taken.
    fn factor_named(&mut self, first: Tok) {
        let (database, name) = self.qualified(first);
        self.set_state(State::Joined);
        self.alias_of = None;
        if self.cur.is_op(b'(') && !matches!(first.lexeme, Lexeme::Quoted) {
            // JSON_TABLE( … ) and other table functions.
            return;
        }
        if database.is_none() && first.word == word::DUAL {
            return;
        }
        if database.is_none() && self.is_cte(name) {
            return;
        }
        let query = self.query_id();
        self.add(database, name, Access::Read, query);
        self.alias_of = self.refs.len().checked_sub(1);
    }

    fn is_cte(&self, name: Span) -> bool {
        !self.ctes.is_empty() && self.ctes.contains(&self.cur.unquoted(name))
    }

    /// `.b` after `a`: (database, name).
    pub(super) fn qualified(&mut self, first: Tok) -> (Option<Span>, Span) {
        if self.cur.is_op(b'.') && self.cur.peek2().is_name() {
            self.cur.bump();
            let second = self.cur.bump();
            return (Some(first.span()), second.span());
        }
        (None, first.span())
    }

    fn alias(&mut self, tok: Tok) {
        if let Some(table) = self.alias_of.take().and_then(|n| self.refs.get_mut(n)) {
            table.alias = Some(tok.span());
        }
    }
}

/// Names of CTEs and aliases compare without regard to case.
pub(super) fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// The CTEs in scope.
#[derive(Debug)]
pub(super) struct Ctes {
    stack: Vec<String>,
    count: HashMap<String, u32>,
    /// MySQL compares their names as it compares tables': byte for byte, where case counts. MariaDB never does.
    exact: bool,
}

impl Ctes {
    pub(super) fn new(engine: Engine) -> Self {
        Ctes { stack: Vec::new(), count: HashMap::new(), exact: matches!(engine, Engine::MySql { .. }) }
    }

    fn key(&self, name: &str) -> String {
        if self.exact { name.to_owned() } else { fold(name) }
    }

    fn push(&mut self, name: Box<str>) {
        let name = self.key(&name);
        *self.count.entry(name.clone()).or_default() += 1;
        self.stack.push(name);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        while self.stack.len() > len
            && let Some(name) = self.stack.pop()
        {
            if let Some(count) = self.count.get_mut(&name) {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn len(&self) -> usize {
        self.stack.len()
    }

    fn is_empty(&self) -> bool {
        self.stack.is_empty()
    }

    fn contains(&self, name: &str) -> bool {
        self.count.get(&self.key(name)).is_some_and(|n| *n > 0)
    }
}
