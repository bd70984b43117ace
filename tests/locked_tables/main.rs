//! The tables that MariaDB itself locked for a statement against those that the classifier names (RULES.md 26).
//!
//! `metadata_lock_info` inside the transaction is the oracle: exact names, even of tables that were optimised away.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as it should be"
)]

mod by_hand;
mod grammar;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use grammar::{Grammar, OTHER, TABLES};
use mysql_async::prelude::Queryable;
use support::PrivateServer;
use switchover::sql::{Access, Dialect, Kind, classify};

const DATABASE: &str = "locked";

/// Which tables, and whether they are written (or read under lock).
type Tables = BTreeMap<(String, String), bool>;

async fn prepare(conn: &mut mysql_async::Conn) {
    let columns = "(id INT PRIMARY KEY, x INT, y INT, s VARCHAR(20)) ENGINE=InnoDB";
    for (database, tables) in [(DATABASE, &TABLES[..]), ("other", &OTHER[..])] {
        conn.query_drop(format!("CREATE DATABASE IF NOT EXISTS {database}")).await.unwrap();
        for table in tables {
            let name = format!("{database}.`{}`", table.replace('`', "``"));
            conn.query_drop(format!("CREATE TABLE {name} {columns}")).await.unwrap();
            conn.query_drop(format!("INSERT INTO {name} VALUES (1, 1, 1, 'a'), (2, 2, 2, 'b')")).await.unwrap();
        }
    }
    conn.query_drop(format!("USE {DATABASE}")).await.unwrap();
    for sql in by_hand::SETUP {
        conn.query_drop(*sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    conn.query_drop("SET sql_mode = '', max_recursive_iterations = 5, innodb_lock_wait_timeout = 1").await.unwrap();
}

/// What the server locked; `None` where it refused the statement.
async fn locked(conn: &mut mysql_async::Conn, sql: &str) -> Result<Tables, String> {
    conn.query_drop("START TRANSACTION").await.unwrap();
    let outcome = conn.query_drop(sql).await;
    let rows: Vec<(String, String, String)> = conn
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME, LOCK_MODE FROM information_schema.METADATA_LOCK_INFO \
             WHERE THREAD_ID = CONNECTION_ID() AND LOCK_TYPE = 'Table metadata lock'",
        )
        .await
        .unwrap();
    conn.query_drop("ROLLBACK").await.unwrap();
    outcome.map_err(|e| e.to_string())?;
    let mut tables = Tables::new();
    for (database, table, mode) in rows {
        *tables.entry((database, table)).or_default() |= mode == "MDL_SHARED_WRITE";
    }
    Ok(tables)
}

fn named(sql: &str, mode: &str) -> (Kind, Tables) {
    let dialect = Dialect {
        ansi_quotes: mode.contains("ANSI_QUOTES") || mode == "ORACLE",
        no_backslash_escapes: mode.contains("NO_BACKSLASH_ESCAPES"),
        ignore_space: mode.contains("IGNORE_SPACE") || mode == "ORACLE",
        ..Dialect::default()
    };
    let facts = classify(sql.as_bytes(), &dialect);
    let mut tables = Tables::new();
    for table in &facts.tables {
        let database = table.database.as_deref().unwrap_or(DATABASE).to_owned();
        *tables.entry((database, table.name.to_string())).or_default() |= table.access > Access::Read;
    }
    (facts.kind, tables)
}

/// What came of a number of statements.
#[derive(Default)]
struct Tally {
    agreed: usize,
    refused: Vec<String>,
    wrong: Vec<String>,
}

impl Tally {
    async fn add(&mut self, conn: &mut mysql_async::Conn, sql: &str, mode: &str) {
        let theirs = match locked(conn, sql).await {
            Ok(tables) => tables,
            Err(error) => {
                self.refused.push(format!("{sql}\n  {error}"));
                return;
            }
        };
        let (kind, ours) = named(sql, mode);
        // Executable comments are read in every way that a store may read them: more tables may be named, never fewer.
        let more = sql.contains("/*!") || sql.contains("/*M!");
        let names = ours.keys().filter(|name| !more || theirs.contains_key(*name)).eq(theirs.keys());
        // A table that the server holds for writing must be one that we call written or locked; but an UPDATE of several
        // tables holds all of them so, even those that it only reads.
        // And what is only explained is written by nobody.
        let spared = ["UPDATE", "EXPLAIN"].iter().any(|word| sql.contains(word));
        let writes = spared || theirs.iter().all(|(name, write)| !write || ours.get(name) == Some(&true));
        if names && writes {
            self.agreed += 1;
        } else {
            self.wrong.push(format!("{sql}\n  {kind:?}\n  locked {theirs:?}\n  named  {ours:?}"));
        }
    }

    fn check(&self) {
        println!("{} agreed, {} refused, {} wrong", self.agreed, self.refused.len(), self.wrong.len());
        for line in self.refused.iter().take(if std::env::var_os("SWITCHOVER_SHOW").is_some() { 20 } else { 0 }) {
            println!("{line}");
        }
        let first = &self.wrong[..self.wrong.len().min(40)];
        assert!(self.wrong.is_empty(), "{} wrong of {} right:\n{}", self.wrong.len(), self.agreed, first.join("\n"));
    }
}

#[tokio::test]
async fn the_server_locks_what_the_classifier_names_by_hand() {
    let server = PrivateServer::start(8, &[]);
    let mut conn = server.connect().await;
    prepare(&mut conn).await;
    let mut tally = Tally::default();
    for sql in by_hand::STATEMENTS {
        tally.add(&mut conn, sql, "").await;
    }
    for (mode, sql) in by_hand::UNDER_MODES {
        conn.query_drop(format!("SET sql_mode = '{mode}'")).await.unwrap();
        tally.add(&mut conn, sql, mode).await;
        conn.query_drop("SET sql_mode = ''").await.unwrap();
    }
    tally.check();
    assert!(tally.refused.is_empty(), "the server refused:\n{}", tally.refused.join("\n"));
}

#[tokio::test]
async fn the_server_locks_what_the_classifier_names() {
    let server = PrivateServer::start(9, &[]);
    let mut conn = server.connect().await;
    prepare(&mut conn).await;
    let wanted = if support::long() { 20_000 } else { 1_200 };
    let seed = std::env::var("SWITCHOVER_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(849);
    let mut grammar = Grammar::new(seed);
    let mut tally = Tally::default();
    for _ in 0..wanted {
        let sql = grammar.statement();
        tally.add(&mut conn, &sql, "").await;
    }
    tally.check();
    let refused = tally.refused.first().map(String::as_str).unwrap_or_default();
    assert!(tally.agreed > wanted * 8 / 10, "only {} of {wanted} statements ran; e.g. {refused}", tally.agreed);
}
