//! The facts of one statement: all that routing and the session need to know of its text.
//!
//! Made by `classify` on a plan-cache miss, shared by every later statement with the same fingerprint. Facts hold no
//! literal of the statement except where the kind itself is literal (`USE db`, `SET …`, `PREPARE s FROM '…'`); such
//! facts carry [`Flags::LITERALS_MATTER`] and are never cached.

/// A byte range of the statement's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

/// What a statement does to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Metadata only: SHOW CREATE TABLE, DESCRIBE, EXPLAIN of a read, `information_schema … table_name = 't'`.
    Describe,
    /// A stored function that an expression calls: it decides only where a group lists it by name.
    Call,
    /// A plain read.
    Read,
    /// A read with FOR UPDATE, FOR SHARE or LOCK IN SHARE MODE.
    LockingRead,
    /// INSERT, REPLACE, UPDATE, DELETE, LOAD DATA.
    Write,
    /// CREATE, ALTER, DROP, TRUNCATE, RENAME, ANALYZE, OPTIMIZE, REPAIR, CHECK, GRANT ON, CREATE TRIGGER … ON.
    Ddl,
}

/// A table, view or stored routine that a statement names. CTE names and aliases never appear here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// `db` of `db.table`, unquoted; `None` where the session's database applies.
    pub database: Option<Box<str>>,
    /// The name, unquoted, in the case of the text.
    pub name: Box<str>,
    /// The strongest access of the statement to it.
    pub access: Access,
    /// Where the name stands in the text that was classified (for the caret of `switchover explain`).
    pub span: Span,
}

bitflags::bitflags! {
    /// Properties of a statement beside its kind and tables.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Flags: u32 {
        /// Facts hold literals of this text: not to be cached under the fingerprint.
        const LITERALS_MATTER = 1;
        /// Commits the open transaction before it runs (DDL, LOCK TABLES, SET autocommit=1 …).
        const IMPLICIT_COMMIT = 1 << 1;
        /// Mentions LAST_INSERT_ID(), @@last_insert_id or @@identity.
        const READS_LAST_INSERT_ID = 1 << 2;
        /// Mentions ROW_COUNT().
        const READS_ROW_COUNT = 1 << 3;
        /// Mentions FOUND_ROWS().
        const READS_FOUND_ROWS = 1 << 4;
        /// Has SQL_CALC_FOUND_ROWS.
        const CALC_FOUND_ROWS = 1 << 5;
        /// SHOW WARNINGS/ERRORS, GET DIAGNOSTICS, @@warning_count, @@error_count.
        const READS_DIAGNOSTICS = 1 << 6;
        /// Reads at least one user variable (see [`Facts::user_variables`]).
        const READS_USER_VARIABLES = 1 << 7;
        /// Assigns a user variable (`:=`, `INTO @x`, `SET @x =`).
        const WRITES_USER_VARIABLES = 1 << 8;
        /// GET_LOCK, RELEASE_LOCK, RELEASE_ALL_LOCKS, IS_FREE_LOCK, IS_USED_LOCK.
        const USER_LOCK = 1 << 9;
        /// CREATE TEMPORARY TABLE or DROP TEMPORARY TABLE.
        const TEMPORARY_TABLE = 1 << 10;
        /// Sets a session variable, role, character set or the like: other stores must be brought in step.
        const SETS_SESSION = 1 << 11;
        /// Dynamic SQL whose text is not a literal of the statement.
        const DYNAMIC_SQL = 1 << 12;
        /// SELECT … INTO OUTFILE/DUMPFILE.
        const INTO_FILE = 1 << 13;
        /// The tables came from the lexical scan, not from the parser: it may name more than the statement uses.
        const SCANNED = 1 << 14;
        /// LOAD DATA LOCAL INFILE.
        const LOCAL_INFILE = 1 << 15;
        /// The statement answers with EXPLAIN output (EXPLAIN, DESCRIBE SELECT, ANALYZE SELECT).
        const EXPLAIN = 1 << 16;
        /// Names a table of information_schema, performance_schema or sys.
        const SYSTEM_TABLES = 1 << 17;
        /// DROP TABLE/VIEW … IF EXISTS and the like.
        const IF_EXISTS = 1 << 18;
        /// DROP TABLE or DROP TEMPORARY TABLE: temporary tables of these names are gone afterwards.
        const DROPS_TABLES = 1 << 19;
        /// An expression calls what may be a stored function: it may set what the text does not say.
        const CALLS_ROUTINE = 1 << 20;
    }
}

/// The text of dynamic SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DynamicSource {
    /// A string literal, unescaped.
    Literal(Box<[u8]>),
    /// `@name`.
    Variable(Box<str>),
    /// Any other expression.
    Expression {
        /// Its text, up to USING.
        text: Box<[u8]>,
        /// Evaluating it once more does no harm.
        again: bool,
    },
}

/// What SET TRANSACTION says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Characteristics {
    /// The isolation level, in the words of SET TRANSACTION; `None` where it is not said, or not by a literal.
    pub isolation: Option<&'static str>,
    /// READ ONLY (or READ WRITE).
    pub read_only: Option<bool>,
}

impl Characteristics {
    /// An isolation level as the variables spell it, by name or number.
    #[must_use]
    pub fn level(value: &str) -> Option<&'static str> {
        const LEVELS: [&str; 4] = ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
        let words = value.replace('-', " ");
        let by_name = LEVELS.iter().find(|l| l.eq_ignore_ascii_case(&words));
        by_name.or_else(|| LEVELS.get(value.parse::<usize>().ok()?)).copied()
    }

    /// What holds when `newer` is said after this.
    #[must_use]
    pub fn then(self, newer: Characteristics) -> Characteristics {
        Characteristics { isolation: newer.isolation.or(self.isolation), read_only: newer.read_only.or(self.read_only) }
    }

    /// The SET TRANSACTION that says it; `None` if it says nothing.
    #[must_use]
    pub fn statement(self) -> Option<String> {
        let isolation = self.isolation.map(|l| format!("ISOLATION LEVEL {l}"));
        let access = self.read_only.map(|ro| if ro { "READ ONLY" } else { "READ WRITE" }.to_owned());
        let said: Vec<String> = [isolation, access].into_iter().flatten().collect();
        (!said.is_empty()).then(|| format!("SET TRANSACTION {}", said.join(", ")))
    }
}

/// One assignment of a SET statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// `SET [SESSION] name = …`, `@@session.name`, `@@name`, `LOCAL name`; the value where it is one plain literal or word.
    Session {
        /// Variable name in lower case.
        name: Box<str>,
        /// The literal, unquoted; `None` for an expression or DEFAULT.
        value: Option<Box<str>>,
    },
    /// `SET GLOBAL …`, `@@global.…`, PERSIST, PERSIST_ONLY.
    Global {
        /// Variable name in lower case.
        name: Box<str>,
    },
    /// `SET @name = …`.
    User {
        /// Name without `@`, unquoted, in lower case.
        name: Box<str>,
    },
    /// `SET NAMES x [COLLATE y]`, `SET CHARACTER SET x`; `None` for DEFAULT.
    Names {
        /// Character set, in lower case.
        charset: Option<Box<str>>,
        /// Its collation, in lower case, where it is named.
        collation: Option<Box<str>>,
        /// True for SET CHARACTER SET / SET CHARSET.
        character_set_form: bool,
    },
    /// `SET TRANSACTION …` without scope, or `@@tx_isolation` without scope: for the next transaction only.
    NextTransaction(Characteristics),
    /// `SET SESSION TRANSACTION …`.
    SessionTransaction,
    /// SET ROLE, SET DEFAULT ROLE, SET PASSWORD, SET STATEMENT … FOR, SET RESOURCE GROUP and anything else.
    Other,
}

/// What kind of statement it is, with what the session needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, TABLE, VALUES, WITH … SELECT, DO.
    Read,
    /// INSERT, REPLACE, UPDATE, DELETE, LOAD DATA/XML.
    Write,
    /// Data definition and table maintenance (CREATE, ALTER, DROP, TRUNCATE, RENAME, ANALYZE, OPTIMIZE, REPAIR, CHECK, GRANT …).
    Ddl,
    /// SHOW (but WARNINGS/ERRORS), DESCRIBE, EXPLAIN, HELP.
    Show,
    /// SHOW WARNINGS, SHOW ERRORS, SHOW COUNT(*) …, GET DIAGNOSTICS: about the session's last statement.
    Diagnostics,
    /// BEGIN, START TRANSACTION.
    Begin {
        /// WITH CONSISTENT SNAPSHOT.
        consistent_snapshot: bool,
        /// READ ONLY given.
        read_only: bool,
        /// READ WRITE given.
        read_write: bool,
    },
    /// COMMIT.
    Commit {
        /// AND CHAIN.
        chain: bool,
        /// RELEASE.
        release: bool,
    },
    /// ROLLBACK (whole).
    Rollback {
        /// AND CHAIN.
        chain: bool,
        /// RELEASE.
        release: bool,
    },
    /// SAVEPOINT name.
    Savepoint(Box<str>),
    /// ROLLBACK \[WORK\] TO \[SAVEPOINT\] name.
    RollbackTo(Box<str>),
    /// RELEASE SAVEPOINT name.
    ReleaseSavepoint(Box<str>),
    /// SET …, in order.
    Set(Box<[Assignment]>),
    /// USE db.
    Use(Box<str>),
    /// LOCK TABLES: `tables` in order, with the byte span of each item (`t AS a READ LOCAL`).
    LockTables(Box<[Span]>),
    /// UNLOCK TABLES.
    UnlockTables,
    /// PREPARE name FROM source.
    Prepare {
        /// Statement name in lower case.
        name: Box<str>,
        /// Its text.
        source: DynamicSource,
    },
    /// EXECUTE name [USING …].
    Execute {
        /// Statement name in lower case.
        name: Box<str>,
    },
    /// DEALLOCATE/DROP PREPARE name.
    Deallocate {
        /// Statement name in lower case.
        name: Box<str>,
    },
    /// EXECUTE IMMEDIATE source [USING …].
    ExecuteImmediate(DynamicSource),
    /// CALL routine: the routine is in [`Facts::tables`] too, with [`Access::Write`].
    Call,
    /// KILL.
    Kill {
        /// QUERY (else the connection).
        query: bool,
        /// The thread id where it is a literal (KILL USER and expressions have none).
        id: Option<u64>,
    },
    /// Any XA statement.
    Xa,
    /// HANDLER: its table is in [`Facts::tables`] for OPEN; READ and CLOSE name the handler's alias.
    Handler {
        /// Table or alias, in the text's case.
        name: Box<str>,
        /// HANDLER … OPEN.
        open: bool,
        /// HANDLER … CLOSE.
        close: bool,
    },
    /// FLUSH, RESET, PURGE, CHANGE MASTER, START/STOP SLAVE, INSTALL, SHUTDOWN, BINLOG, CACHE INDEX …
    Admin,
    /// BEGIN NOT ATOMIC, top-level IF/LOOP/CASE/DECLARE …: a compound statement.
    Compound,
    /// Nothing but white space and comments.
    Empty,
    /// None of these.
    Unknown,
}

impl Kind {
    /// BEGIN, COMMIT, ROLLBACK and savepoints.
    #[must_use]
    pub const fn controls_transaction(&self) -> bool {
        matches!(
            self,
            Kind::Begin { .. }
                | Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::Savepoint(_)
                | Kind::RollbackTo(_)
                | Kind::ReleaseSavepoint(_)
        )
    }
}

/// All that routing and the session need to know of one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Tables, views and routines it names, each once per (database, name), in the order of the text.
    pub tables: Box<[TableRef]>,
    /// User variables it reads or assigns, without `@`, unquoted, in lower case, each once.
    pub user_variables: Box<[Box<str>]>,
    /// NAME of `/* switchover:store=NAME */`.
    pub hint: Option<Box<str>>,
    /// Everything else.
    pub flags: Flags,
}
