//! The table scanner: one statement → [`Facts`], from its tokens alone. Correctness rests on it, not on sqlparser.
//!
//! `statement` looks at the first words and hands over to the file for that kind: `query` (the walker that all use),
//! `dml`, `ddl`, `session` (SET, USE, transactions, dynamic SQL …), `show`, `compound`. It uses no recursion but for
//! statements within statements, whose depth is bounded, and its memory is bounded by the depth of the parentheses and
//! the tables named. Source: MariaDB 10.11 `sql_yacc.yy`, MySQL 8.0 manual chapter 13.

mod builtins;
mod compound;
mod cursor;
mod ddl;
mod dml;
mod mentions;
mod query;
mod session;
mod set;
mod show;

use std::collections::HashSet;

use cursor::Cursor;
use query::{Context, Ctes, Frame, State};

use super::dialect::Dialect;
use super::facts::{Access, Facts, Flags, Kind, Span, TableRef};
use super::lex::Reading;
use super::word;

/// A table as the scanner found it.
#[derive(Debug, Clone, Copy)]
struct Found {
    database: Option<Span>,
    name: Span,
    access: Access,
    /// The query that names it.
    query: u32,
    alias: Option<Span>,
    /// The spans are of string literals.
    literal: bool,
}

/// What is being found out about one statement.
struct Scanner<'a> {
    cur: Cursor<'a>,
    refs: Vec<Found>,
    frames: Vec<Frame>,
    /// Frames that belong to the statement itself.
    base: usize,
    ctes: Ctes,
    queries: u32,
    /// The table that an alias would belong to.
    alias_of: Option<usize>,
    flags: Flags,
    variables: Vec<Box<str>>,
    variables_seen: HashSet<Box<str>>,
    /// Literals that information_schema columns are compared with.
    asked_tables: Vec<Span>,
    asked_schemas: Vec<Span>,
    /// A predicate on a table's name that names no single table.
    asked_otherwise: bool,
    /// Placeholders that they are compared with.
    asked_parameters: Vec<(bool, Span)>,
    /// `name@host` is an account here.
    accounts: bool,
    /// `name(` may call a stored function here.
    calls: bool,
    /// `;` ends a statement within a compound one.
    in_compound: bool,
    /// Tables stay in the order and number of the text (LOCK TABLES).
    keep_all: bool,
    /// Statements within statements.
    depth: u32,
}

/// The facts of one statement, read as `reading` says.
#[must_use]
pub fn scan(sql: &[u8], dialect: &Dialect, reading: Reading) -> Facts {
    Scan::new(sql, dialect, reading).facts
}

/// What a scan found.
pub(super) struct Scan {
    /// The facts.
    pub(super) facts: Facts,
    /// The text has executable comments: other readings may differ.
    pub(super) executable: bool,
    /// Placeholders that an information_schema column is compared with: whether it names tables (else databases), where.
    pub(super) asked_parameters: Vec<(bool, Span)>,
}

impl Scan {
    /// Scans one statement.
    pub(super) fn new(sql: &[u8], dialect: &Dialect, reading: Reading) -> Scan {
        let mut scanner = Scanner {
            cur: Cursor::new(sql, dialect, reading),
            refs: Vec::new(),
            frames: vec![Frame::new(Context::Expression, State::Start, 0, 0)],
            base: 1,
            ctes: Ctes::new(dialect.engine),
            queries: 0,
            alias_of: None,
            flags: Flags::empty(),
            variables: Vec::new(),
            variables_seen: HashSet::new(),
            asked_tables: Vec::new(),
            asked_schemas: Vec::new(),
            asked_otherwise: false,
            asked_parameters: Vec::new(),
            accounts: false,
            calls: true,
            in_compound: false,
            keep_all: false,
            depth: 0,
        };
        let kind = scanner.statement();
        while !scanner.cur.at_end() {
            // What a statement's own reader left: tables of stray subqueries, hints at the end.
            scanner.in_compound = false;
            scanner.walk();
        }
        scanner.finish(kind)
    }
}

impl Scanner<'_> {
    fn ended(&self) -> bool {
        self.cur.at_end() || (self.in_compound && self.cur.is_op(b';'))
    }

    fn new_query(&mut self) -> u32 {
        self.queries = self.queries.saturating_add(1);
        self.queries
    }

    fn add(&mut self, database: Option<Span>, name: Span, access: Access, query: u32) {
        self.refs.push(Found { database, name, access, query, alias: None, literal: false });
    }

    /// Takes a table name, if one stands next, and notes it.
    fn table(&mut self, access: Access) -> Option<Found> {
        if self.cur.is_op(b'.') {
            self.cur.bump();
        }
        if !self.cur.peek().is_name() {
            return None;
        }
        let first = self.cur.bump();
        let (database, name) = self.qualified(first);
        let query = self.new_query();
        self.add(database, name, access, query);
        self.refs.last().copied()
    }

    /// Takes `a, b.c, …`.
    fn table_list(&mut self, access: Access) {
        while self.table(access).is_some() && self.cur.eat_op(b',') {}
    }

    /// Reads one statement to its end (or to where the walker can take over) and says what it is.
    fn statement(&mut self) -> Kind {
        // Statements within statements: EXPLAIN, SET STATEMENT … FOR, handlers. Deeper nesting is hostile.
        self.depth += 1;
        let kind = if self.depth > 64 { Kind::Unknown } else { self.dispatch() };
        self.depth -= 1;
        kind
    }

    fn dispatch(&mut self) -> Kind {
        let first = self.cur.peek();
        match first.word {
            _ if self.ended() => Kind::Empty,
            word::SELECT | word::VALUES | word::TABLE => self.query(),
            word::WITH => self.with(),
            word::INSERT | word::REPLACE => self.insert(),
            word::UPDATE => self.update(),
            word::DELETE => self.delete(),
            word::LOAD => self.load(),
            word::DO => self.do_expressions(),
            word::CALL => self.call(),
            word::SHOW => self.show(),
            word::EXPLAIN | word::DESCRIBE | word::DESC => self.explain(),
            word::ANALYZE => self.analyze(),
            word::HELP => self.rest(Kind::Show),
            word::CREATE => self.create(),
            word::ALTER => self.alter(),
            word::DROP => self.drop(),
            word::TRUNCATE
            | word::RENAME
            | word::OPTIMIZE
            | word::REPAIR
            | word::CHECK
            | word::CHECKSUM
            | word::GRANT
            | word::REVOKE
            | word::IMPORT => self.maintenance(),
            word::FLUSH
            | word::RESET
            | word::PURGE
            | word::CHANGE
            | word::STOP
            | word::INSTALL
            | word::UNINSTALL
            | word::SHUTDOWN
            | word::RESTART
            | word::BINLOG
            | word::CACHE
            | word::CLONE
            | word::BACKUP => self.admin(),
            _ if first.is_op(b'(') => self.query(),
            _ if first.is_op(b'{') => self.rest(Kind::Unknown),
            _ => self.session_statement(),
        }
    }

    /// Walks to the end.
    fn rest(&mut self, kind: Kind) -> Kind {
        self.walk();
        kind
    }

    fn query(&mut self) -> Kind {
        self.set_state(State::Start);
        self.rest(Kind::Read)
    }

    /// `WITH … SELECT`, or WITH before UPDATE, DELETE …
    fn with(&mut self) -> Kind {
        self.set_state(State::Start);
        self.walk_to(&[
            word::UPDATE,
            word::DELETE,
            word::INSERT,
            word::REPLACE,
            word::SELECT,
            word::VALUES,
            word::TABLE,
        ]);
        match self.cur.peek().word {
            word::UPDATE => self.update(),
            word::DELETE => self.delete(),
            word::INSERT | word::REPLACE => self.insert(),
            _ => self.rest(Kind::Read),
        }
    }

    fn finish(mut self, kind: Kind) -> Scan {
        self.add_asked_tables();
        if !self.keep_all {
            self.refs.sort_by_key(|r| r.name.start);
        }
        let tables = self.merged();
        // Grammar that is not known, or only followed from keyword to keyword.
        self.flags.set(Flags::SCANNED, matches!(kind, Kind::Unknown | Kind::Compound));
        let facts = Facts {
            kind,
            tables,
            user_variables: std::mem::take(&mut self.variables).into_boxed_slice(),
            hint: self.cur.hint.map(Into::into),
            flags: self.flags,
        };
        Scan { facts, executable: self.cur.executable, asked_parameters: self.asked_parameters }
    }

    /// Each table once, with its strongest access.
    fn merged(&mut self) -> Box<[TableRef]> {
        let mut out: Vec<TableRef> = Vec::with_capacity(self.refs.len());
        let mut places: std::collections::HashMap<(Option<Box<str>>, Box<str>), usize> = Default::default();
        let indexed = self.refs.len() > 8;
        for found in std::mem::take(&mut self.refs) {
            let text = |span| if found.literal { self.literal_name(span) } else { self.cur.unquoted(span) };
            let (database, name) = (found.database.map(text), text(found.name));
            let system = database.as_deref().is_some_and(is_server_schema);
            self.flags.set(Flags::SYSTEM_TABLES, system || self.flags.contains(Flags::SYSTEM_TABLES));
            let known = match (indexed, self.keep_all) {
                (_, true) => None,
                (true, _) => places.get(&(database.clone(), name.clone())).copied(),
                (false, _) => out.iter().position(|t| t.name == name && t.database == database),
            };
            if let Some(table) = known.and_then(|n| out.get_mut(n)) {
                table.access = table.access.max(found.access);
                continue;
            }
            if indexed {
                places.insert((database.clone(), name.clone()), out.len());
            }
            out.push(TableRef { database, name, access: found.access, span: found.name });
        }
        out.into_boxed_slice()
    }

    fn literal_name(&self, span: Span) -> Box<str> {
        let value = cursor::unescape(self.cur.bytes(span), self.cur.backslash);
        // What a pattern escapes stands for itself.
        String::from_utf8_lossy(&value).replace(r"\_", "_").replace(r"\%", "%").into()
    }

    /// Tables that information_schema is asked about, if it is asked.
    fn add_asked_tables(&mut self) {
        if self.asked_tables.is_empty() && !self.asked_otherwise {
            return;
        }
        let system = self.refs.iter().any(|r| r.database.is_some_and(|d| is_server_schema(&self.cur.unquoted(d))));
        if !system {
            self.asked_tables.clear();
            return;
        }
        self.flags |= Flags::LITERALS_MATTER;
        let schema = match self.asked_schemas.as_slice() {
            [one] => Some(*one),
            _ => None,
        };
        for name in std::mem::take(&mut self.asked_tables).into_iter().take(256) {
            let query = self.new_query();
            self.add(schema, name, Access::Describe, query);
            if let Some(last) = self.refs.last_mut() {
                last.literal = true;
            }
        }
    }
}

fn is_server_schema(database: &str) -> bool {
    ["information_schema", "performance_schema", "sys"].iter().any(|s| s.eq_ignore_ascii_case(database))
}
