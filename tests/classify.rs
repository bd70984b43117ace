//! The classifier over the corpus of `tests/corpus/statements.txt`, and properties of fingerprint, classifier and splitter.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

use std::fmt::Write as _;
use std::path::PathBuf;

use proptest::prelude::*;
use switchover::sql::facts::{Assignment, DynamicSource};
use switchover::sql::lex::Reading;
use switchover::sql::{Access, CharsetClass, Dialect, Engine, Facts, Flags, Kind, analyze, classify, fingerprint};

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
        Assignment::Names { charset, character_set_form } => {
            format!("{}={}", if *character_set_form { "charset" } else { "names" }, charset.as_deref().unwrap_or("default"))
        }
        Assignment::NextTransaction => "next_transaction".into(),
        Assignment::SessionTransaction => "session_transaction".into(),
        Assignment::Other => "other".into(),
    }
}

fn dynamic(source: &DynamicSource) -> String {
    match source {
        DynamicSource::Literal(text) => format!("{:?}", String::from_utf8_lossy(text)).replace(' ', "\u{b7}"),
        DynamicSource::Variable(name) => format!("@{name}"),
        DynamicSource::Expression => "expression".into(),
    }
}

fn render(facts: &Facts) -> String {
    let mut out = kind(&facts.kind);
    for table in &facts.tables {
        let access = match table.access {
            Access::Describe => "describe",
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
        if facts.flags.contains(flag) && flag != Flags::SCANNED {
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
