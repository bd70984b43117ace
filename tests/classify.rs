//! The classifier over the corpus of `tests/corpus/statements.txt`, and properties of fingerprint, classifier and splitter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use switchover::sql::facts::{Assignment, DynamicSource};
use switchover::sql::fingerprint::digest_text;
use switchover::sql::split::split;
use switchover::sql::{
    Access, CharsetClass, Dialect, Engine, Facts, Fingerprint, Flags, Kind, analyze, classify, fingerprint,
};

/// One entry of the corpus.
struct Entry {
    /// Comment lines that stand before it.
    comments: String,
    options: String,
    sql: String,
    facts: Vec<String>,
}

fn corpus_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/statements.txt")
}

fn corpus() -> Vec<Entry> {
    let text = std::fs::read_to_string(corpus_path()).unwrap();
    text.split("\n\n").filter(|block| !block.trim().is_empty()).map(entry).collect()
}

fn entry(block: &str) -> Entry {
    let mut entry = Entry { comments: String::new(), options: String::new(), sql: String::new(), facts: Vec::new() };
    for line in block.trim_matches('\n').lines() {
        if entry.sql.is_empty() && line.starts_with("# ") {
            let _ = writeln!(entry.comments, "{line}");
        } else if entry.sql.is_empty() && line.starts_with("@ ") {
            entry.options = line.to_owned();
        } else if let Some(facts) = line.strip_prefix("=> ") {
            entry.facts.push(facts.to_owned());
        } else {
            if !entry.sql.is_empty() {
                entry.sql.push('\n');
            }
            entry.sql.push_str(line);
        }
    }
    entry
}

fn dialect(options: &str) -> Dialect {
    let mut dialect = Dialect::default();
    for option in options.split_whitespace().skip(1) {
        match option {
            "ansi_quotes" => dialect.ansi_quotes = true,
            "no_backslash_escapes" => dialect.no_backslash_escapes = true,
            _ => match option.split_once('=').unwrap() {
                ("mysql", version) => dialect.engine = Engine::MySql { version: version.parse().unwrap() },
                ("charset", name) => dialect.charset = CharsetClass::from_charset_name(name),
                other => panic!("unknown option {other:?}"),
            },
        }
    }
    dialect
}

fn quoted(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_$-".contains(c));
    if plain { name.to_owned() } else { format!("{name:?}") }
}

fn kind(kind: &Kind) -> String {
    let yes = |flag: bool, text: &str| if flag { format!(",{text}") } else { String::new() };
    match kind {
        Kind::Begin { consistent_snapshot, read_only, read_write } => format!(
            "Begin{}{}{}",
            yes(*consistent_snapshot, "snapshot"),
            yes(*read_only, "read_only"),
            yes(*read_write, "read_write")
        ),
        Kind::Commit { chain, release } => format!("Commit{}{}", yes(*chain, "chain"), yes(*release, "release")),
        Kind::Rollback { chain, release } => format!("Rollback{}{}", yes(*chain, "chain"), yes(*release, "release")),
        Kind::Savepoint(name) => format!("Savepoint({})", quoted(name)),
        Kind::RollbackTo(name) => format!("RollbackTo({})", quoted(name)),
        Kind::ReleaseSavepoint(name) => format!("ReleaseSavepoint({})", quoted(name)),
        Kind::Set(list) => format!("Set({})", list.iter().map(assignment).collect::<Vec<_>>().join(";")),
        Kind::Use(name) => format!("Use({})", quoted(name)),
        Kind::LockTables(items) => format!("LockTables({})", items.len()),
        Kind::Prepare { name, source } => format!("Prepare({}:{})", quoted(name), dynamic(source)),
        Kind::Execute { name } => format!("Execute({})", quoted(name)),
        Kind::Deallocate { name } => format!("Deallocate({})", quoted(name)),
        Kind::ExecuteImmediate(source) => format!("ExecuteImmediate({})", dynamic(source)),
        Kind::Kill { query, id } => {
            format!("Kill({}{})", id.map_or("?".into(), |n| n.to_string()), yes(*query, "query"))
        }
        Kind::Handler { name, open, close } => {
            format!("Handler({}{}{})", quoted(name), yes(*open, "open"), yes(*close, "close"))
        }
        plain => format!("{plain:?}"),
    }
}

fn assignment(a: &Assignment) -> String {
    match a {
        Assignment::Session { name, value: Some(value) } => format!("{name}={}", quoted(value).replace(' ', "\u{b7}")),
        Assignment::Session { name, value: None } => format!("{name}=?"),
        Assignment::Global { name } => format!("global.{name}"),
        Assignment::User { name } => format!("@{name}"),
        Assignment::Names { charset, collation, character_set_form } => {
            format!(
                "{}={}{}",
                if *character_set_form { "charset" } else { "names" },
                charset.as_deref().unwrap_or("default"),
                collation.as_ref().map(|c| format!("/{c}")).unwrap_or_default()
            )
        }
        Assignment::NextTransaction(_) => "next_transaction".into(),
        Assignment::SessionTransaction => "session_transaction".into(),
        Assignment::Other => "other".into(),
    }
}

fn dynamic(source: &DynamicSource) -> String {
    match source {
        DynamicSource::Literal(text) => format!("{:?}", String::from_utf8_lossy(text)).replace(' ', "\u{b7}"),
        DynamicSource::Variable(name) => format!("@{name}"),
        DynamicSource::Expression { .. } => "expression".into(),
    }
}

fn render(facts: &Facts) -> String {
    let mut out = kind(&facts.kind);
    for table in &facts.tables {
        let access = match table.access {
            Access::Describe => "describe",
            Access::Call => "call",
            Access::Read => "read",
            Access::LockingRead => "locking",
            Access::Write => "write",
            Access::Ddl => "ddl",
        };
        let database = table.database.as_ref().map_or(String::new(), |d| format!("{}.", quoted(d)));
        let _ = write!(out, " {database}{}:{access}", quoted(&table.name));
    }
    for variable in &facts.user_variables {
        let _ = write!(out, " @{}", quoted(variable));
    }
    if let Some(hint) = &facts.hint {
        let _ = write!(out, " hint={hint}");
    }
    for (name, flag) in Flags::all().iter_names() {
        if facts.flags.contains(flag) {
            let _ = write!(out, " +{}", name.to_lowercase());
        }
    }
    out
}

#[test]
fn corpus_facts() {
    let entries = corpus();
    if std::env::var_os("CORPUS_BLESS").is_some() {
        return bless(&entries);
    }
    let mut wrong = String::new();
    for e in &entries {
        let found: Vec<String> =
            analyze(e.sql.as_bytes(), &dialect(&e.options)).statements.iter().map(|f| render(f)).collect();
        if found != e.facts {
            let _ = writeln!(wrong, "{}\n  expected {:#?}\n  found    {:#?}", e.sql, e.facts, found);
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(entries.len() >= 300, "the corpus has {} entries", entries.len());
}

fn bless(entries: &[Entry]) {
    let mut out = String::new();
    for e in entries {
        out.push_str(&e.comments);
        if !e.options.is_empty() {
            let _ = writeln!(out, "{}", e.options);
        }
        let _ = writeln!(out, "{}", e.sql);
        for facts in &analyze(e.sql.as_bytes(), &dialect(&e.options)).statements {
            let _ = writeln!(out, "=> {}", render(facts));
        }
        out.push('\n');
    }
    std::fs::write(corpus_path(), out).unwrap();
}

// ---- Properties ----

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_on_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200), dialect in dialects()) {
        let _ = fingerprint(&bytes, &dialect);
        let _ = digest_text(&bytes, &dialect);
        let analysis = analyze(&bytes, &dialect);
        prop_assert!(!analysis.statements.is_empty());
    }

    #[test]
    fn nothing_panics_on_words(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60), dialect in dialects()) {
        let sql = words.join(" ");
        let tight = words.concat();
        for text in [&sql, &tight] {
            let _ = fingerprint(text.as_bytes(), &dialect);
            for facts in &analyze(text.as_bytes(), &dialect).statements {
                for table in &facts.tables {
                    prop_assert!(table.span.start <= table.span.end && table.span.end as usize <= text.len());
                }
            }
        }
    }

    #[test]
    fn spans_cover_the_text(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60), dialect in dialects()) {
        let text = words.join(" ");
        let mut at = 0usize;
        for (n, span) in split(text.as_bytes(), &dialect).enumerate() {
            if n > 0 {
                prop_assert_eq!(text.as_bytes()[at], b';');
                at += 1;
            }
            prop_assert_eq!(span.start as usize, at);
            at = span.end as usize;
        }
        prop_assert!(text[at..].bytes().all(|b| b == b';' || b.is_ascii_whitespace()));
    }

    #[test]
    fn literals_do_not_count(n in any::<u32>(), s in "[a-z';\\\\ %]{0,12}", rows in 1usize..4, list in 1usize..5) {
        let quoted = format!("'{}'", s.replace('\\', "\\\\").replace('\'', "''"));
        let row = format!("({n}, {quoted}, NOW(), NULL)");
        let with = |a: &str, b: &str, row: String, list: String| [
            format!("SELECT a, b FROM t WHERE a = {a} AND b = {b} AND c IN ({list}) LIMIT {n}"),
            format!("INSERT INTO t (a, b, c, d) VALUES {row} ON DUPLICATE KEY UPDATE a = VALUES(a) + {a}"),
            format!("UPDATE t SET a = {a} /* {n} */ WHERE b LIKE {b} -- {n}"),
        ];
        let varied = with(&n.to_string(), &quoted, vec![row; rows].join(", "), vec![n.to_string(); list].join(","));
        let plain = with("1", "'x'", "(1, 'a', NOW(), NULL)".into(), "1".into());
        let dialect = Dialect::default();
        for (a, b) in varied.iter().zip(&plain) {
            prop_assert_eq!(fingerprint(a.as_bytes(), &dialect), fingerprint(b.as_bytes(), &dialect), "{} / {}", a, b);
            let (a, b) = (classify(a.as_bytes(), &dialect), classify(b.as_bytes(), &dialect));
            prop_assert_eq!(render(&a), render(&b));
        }
    }
}

/// Two texts of the corpus with one fingerprint have the same facts, unless those are never cached.
#[test]
fn one_fingerprint_means_one_analysis() {
    let mut known: HashMap<Fingerprint, (String, Vec<String>)> = HashMap::new();
    for e in corpus() {
        let dialect = dialect(&e.options);
        for text in [e.sql.clone(), e.sql.replace('1', "0x2F"), e.sql.replace('1', "''"), e.sql.replace('x', "y")] {
            let analysis = analyze(text.as_bytes(), &dialect);
            let key = fingerprint(text.as_bytes(), &dialect);
            let facts: Vec<String> = match analysis.cacheable() {
                true => analysis.statements.iter().map(|f| render(f)).collect(),
                false => vec!["not cacheable".into()],
            };
            if let Some((other, theirs)) = known.get(&key) {
                assert_eq!(theirs, &facts, "{other}\n{text}");
            }
            known.insert(key, (text, facts));
        }
    }
}

fn dialects() -> impl Strategy<Value = Dialect> {
    let charset = prop_oneof![
        Just(CharsetClass::Safe),
        Just(CharsetClass::Gbk),
        Just(CharsetClass::Sjis),
        Just(CharsetClass::Big5),
        Just(CharsetClass::Gb18030)
    ];
    let engine = prop_oneof![Just(Engine::default()), Just(Engine::MySql { version: 80_036 })];
    (charset, any::<bool>(), any::<bool>(), engine).prop_map(|(charset, ansi_quotes, no_backslash_escapes, engine)| {
        Dialect { charset, ansi_quotes, no_backslash_escapes, ignore_space: false, engine }
    })
}

/// What statements are made of.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "JOIN",
    "LEFT",
    "ON",
    "USING",
    "(",
    ")",
    ",",
    "t",
    "`q`",
    "\"d\"",
    "'s'",
    "1",
    "1e5",
    ".",
    "*",
    "WITH",
    "RECURSIVE",
    "AS",
    "UNION",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "=",
    ":=",
    "@x",
    "@@y",
    "@",
    "DELETE",
    "REPLACE",
    "LOAD",
    "DATA",
    "LOCAL",
    "INFILE",
    "TABLE",
    "CREATE",
    "TEMPORARY",
    "VIEW",
    "TRIGGER",
    "PROCEDURE",
    "FUNCTION",
    "EVENT",
    "BEGIN",
    "NOT",
    "ATOMIC",
    "END",
    "IF",
    "THEN",
    "ELSE",
    "CASE",
    "WHEN",
    "LOOP",
    "WHILE",
    "DO",
    "REPEAT",
    "UNTIL",
    "FOR",
    "IN",
    "ALTER",
    "RENAME",
    "TO",
    "DROP",
    "EXISTS",
    "LIKE",
    "SHOW",
    "TABLES",
    "COLUMNS",
    "DESCRIBE",
    "EXPLAIN",
    "ANALYZE",
    "FORMAT",
    "LOCK",
    "READ",
    "WRITE",
    "UNLOCK",
    "PREPARE",
    "EXECUTE",
    "IMMEDIATE",
    "HANDLER",
    "OPEN",
    "KILL",
    "GRANT",
    "TO",
    "CALL",
    "START",
    "TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "XA",
    ";",
    "/*",
    "*/",
    "/*!",
    "/*!50701",
    "/*M!",
    "/*+",
    "--",
    "#",
    "\n",
    "?",
    "NULL",
    "table_name",
    "information_schema",
    "{",
    "OJ",
    "}",
    ":",
    "STATEMENT",
    "NAMES",
    "DECLARE",
    "CURSOR",
    "RETURNS",
    "EACH",
    "ROW",
    "JSON_TABLE",
    "LATERAL",
    "SYSTEM_TIME",
    "OF",
    "SHARE",
    "PARTITION",
    "N'x'",
    "x'1'",
    "\\N",
    "été",
    "_utf8",
    "NEXT",
    "VALUE",
    "é'",
    "\\",
];

/// Hostile texts end, and soon.
#[test]
fn hostile_texts_end() {
    let patterns = [
        "(",
        "((SELECT",
        "SELECT(",
        ")",
        "SELECT * FROM (",
        "a,",
        "FROM t,",
        "'",
        "`",
        "/*",
        "/*!",
        "/*!99999",
        "/*!*/",
        "*/",
        "--",
        ";",
        "WITH a AS (SELECT ",
        "WITH a AS (SELECT 1),",
        "(SELECT 1 FROM t FOR UPDATE)",
        "SELECT 1 FROM t UNION ",
        "@a,",
        "@@",
        "?",
        ".",
        "a.",
        "EXPLAIN ",
        "SET STATEMENT a=1 FOR ",
        "BEGIN NOT ATOMIC ",
        "IF 1 THEN ",
        "CASE ",
        "DECLARE CONTINUE HANDLER FOR NOT FOUND ",
        "INSERT INTO t VALUES (1),",
        "(1,2),",
        "UPDATE t SET a.b=1,",
        "DELETE a FROM b,",
        "LOCK TABLES a READ,",
        "SELECT 1;",
        "\u{e9}",
        "\\",
        "x'",
        "1e",
        "0x",
        "SHOW CREATE ",
        "CREATE ",
        "ALTER TABLE t RENAME ",
        "table_name IN ('a',",
        "'a' = ",
        "SET a=1,",
        "FROM t FOR UPDATE OF ",
        "a b",
        "SELECT @a:=@a,",
        "NEXT VALUE FOR ",
        "{OJ ",
        "\0",
        "/* switchover:store=x */",
    ];
    for pattern in patterns {
        for prefix in [
            "",
            "SELECT * FROM a JOIN b WHERE ",
            "WITH RECURSIVE x AS (",
            "SELECT 1 FROM information_schema.tables WHERE ",
        ] {
            let size: usize = if prefix.is_empty() { 1 << 20 } else { 1 << 16 };
            let sql = format!("{prefix}{}", pattern.repeat(size / pattern.len()));
            let begun = std::time::Instant::now();
            let _ = fingerprint(sql.as_bytes(), &Dialect::default());
            let analysis = analyze(sql.as_bytes(), &Dialect::default());
            assert!(!analysis.statements.is_empty());
            let took = begun.elapsed();
            assert!(took.as_millis() < 8_000, "{prefix}{pattern}… took {took:?}");
            if took.as_millis() > 300 {
                println!("{prefix}{pattern}… took {took:?}");
            }
        }
    }
}

// ---- sqlparser as the second opinion ----

/// Tables and CTE names of a statement, as sqlparser sees them.
#[derive(Default)]
struct Relations {
    tables: std::collections::BTreeSet<String>,
    ctes: std::collections::BTreeSet<String>,
}

impl sqlparser::ast::Visitor for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &sqlparser::ast::ObjectName) -> std::ops::ControlFlow<()> {
        if let Some(ident) = name.0.last().and_then(|p| p.as_ident()) {
            self.tables.insert(ident.value.clone());
        }
        std::ops::ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &sqlparser::ast::Query) -> std::ops::ControlFlow<()> {
        for cte in query.with.iter().flat_map(|w| &w.cte_tables) {
            self.ctes.insert(cte.alias.name.value.clone());
        }
        std::ops::ControlFlow::Continue(())
    }
}

#[test]
fn sqlparser_finds_no_table_that_the_scanner_misses() {
    let (mut parsed, mut wrong) = (0, String::new());
    for e in corpus().iter().filter(|e| e.facts.len() == 1 && e.options.is_empty()) {
        let dialect = sqlparser::dialect::MySqlDialect {};
        let Ok(statements) = sqlparser::parser::Parser::parse_sql(&dialect, &e.sql) else { continue };
        parsed += 1;
        let mut theirs = Relations::default();
        let _ = sqlparser::ast::Visit::visit(&statements, &mut theirs);
        let facts = classify(e.sql.as_bytes(), &Dialect::default());
        let names = |t: &&switchover::sql::TableRef| facts.kind == Kind::Show || t.access > Access::Call;
        let ours: std::collections::BTreeSet<String> =
            facts.tables.iter().filter(names).map(|t| t.name.to_string()).collect();
        // Names that are no tables: DUAL, the alias in DELETE FROM alias USING, the database in SHOW TABLES FROM.
        let no_table =
            |t: &String| theirs.ctes.contains(t) || t == "DUAL" || (t == "a" && e.sql.contains("USING t1 AS a"));
        let missed: Vec<_> = theirs.tables.difference(&ours).filter(|t| !no_table(t)).collect();
        let extra: Vec<_> = ours.difference(&theirs.tables).collect();
        let queries = matches!(facts.kind, Kind::Read | Kind::Write);
        // sqlparser has `INSERT INTO t TABLE u` and executable comments for other engines wrong.
        let known = e.sql == "INSERT INTO t TABLE u" || e.sql.contains("/*M!");
        if (!missed.is_empty() && facts.kind != Kind::Show) || (queries && !known && !extra.is_empty()) {
            let _ = writeln!(wrong, "{}\n   missed {missed:?}, extra {extra:?}", e.sql);
        }
    }
    assert!(parsed > 200, "sqlparser read only {parsed}");
    assert!(wrong.is_empty(), "{wrong}");
}
