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
    conn.query_drop("SET sql_mode = '', max_recursive_iterations = 5, innodb_lock_wait_timeout = 1").await.unwrap();
}

/// What the server locked; `None` where it refused the statement.
async fn locked(conn: &mut mysql_async::Conn, sql: &str) -> Result<Tables, String> {
    conn.query_drop("BEGIN").await.unwrap();
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

fn named(sql: &str) -> (Kind, Tables) {
    let facts = classify(sql.as_bytes(), &Dialect::default());
    let mut tables = Tables::new();
    for table in &facts.tables {
        let database = table.database.as_deref().unwrap_or(DATABASE).to_owned();
        *tables.entry((database, table.name.to_string())).or_default() |= table.access > Access::Read;
    }
    (facts.kind, tables)
}

/// Statements written by hand, for what the grammar does not make.
const BY_HAND: &[&str] = &[
    "SELECT * FROM (t1, t2) JOIN (t3, (t4)) ON 1",
    "SELECT * FROM {OJ t1 LEFT OUTER JOIN t2 ON t1.id = t2.id}",
    "WITH T1 AS (SELECT 1 AS id) SELECT * FROM t1",
    "WITH t1 AS (SELECT * FROM t1) SELECT * FROM t1, other.t1",
    "WITH t1 AS (SELECT * FROM t2), t2 AS (SELECT * FROM t1) SELECT * FROM t2",
    "WITH RECURSIVE t1 AS (SELECT 1 AS n UNION SELECT n + 1 FROM t1 WHERE n < 3) SELECT * FROM t1",
    "WITH RECURSIVE a AS (SELECT 1 AS n FROM t3 UNION SELECT b.n FROM b), b AS (SELECT 2 AS n FROM t4 UNION SELECT a.n FROM a) SELECT * FROM a",
    "SELECT * FROM t1 WHERE id IN (WITH t2 AS (SELECT 1 AS id) SELECT id FROM t2) AND x IN (SELECT x FROM t2)",
    "SELECT * FROM (WITH t2 AS (SELECT 1 AS id) SELECT id FROM t2) d JOIN t2",
    "SELECT * FROM t1, JSON_TABLE('[1]', '$[*]' COLUMNS (a INT PATH '$')) AS t2, t3",
    "SELECT * FROM t1 WHERE (id, x) IN ((SELECT id, x FROM t2) UNION (SELECT id, x FROM t3))",
    "(SELECT id FROM t1) UNION (SELECT id FROM t2 ORDER BY id LIMIT 1) ORDER BY id LIMIT 1",
    "((SELECT id FROM t1) EXCEPT (SELECT id FROM t2)) UNION ALL SELECT id FROM t3",
    "SELECT * FROM ((SELECT id FROM t1) UNION (SELECT id FROM t2)) d",
    "VALUES (1), ((SELECT MAX(id) FROM t1))",
    "SELECT id FROM t1 GROUP BY id HAVING id > (SELECT MIN(id) FROM t2) ORDER BY (SELECT id FROM t3 LIMIT 1)",
    "SELECT MAX(id) OVER (PARTITION BY x ORDER BY y) FROM t1",
    "SELECT t1.id IS NOT NULL, (SELECT COUNT(*) FROM t2 WHERE t2.id = t1.id) FROM t1",
    "SELECT * FROM t1 AS t2 JOIN t2 AS t1 ON t1.id = t2.id",
    "UPDATE t1, t2 SET t1.x = t2.x WHERE t1.id = t2.id",
    "UPDATE t1 a, t2 b SET a.x = 1, b.x = 2 WHERE a.id = b.id",
    "UPDATE t1 SET x = (SELECT MAX(x) FROM t2) WHERE id IN (SELECT id FROM t3) ORDER BY id LIMIT 1",
    "DELETE t1, other.o2 FROM t1 JOIN other.o2 JOIN t3 WHERE t1.id = o2.id",
    "DELETE FROM t1, t2 USING t1 JOIN t2 JOIN t3 WHERE t1.id < 0",
    "DELETE a FROM t1 AS a JOIN t2 AS b ON a.id = b.id",
    "DELETE FROM t1 WHERE id IN (SELECT id FROM t2) RETURNING id",
    "INSERT INTO t1 (id, x) SELECT id + 100, (SELECT MAX(x) FROM t2) FROM t3 ON DUPLICATE KEY UPDATE x = VALUES(x)",
    "INSERT INTO t1 SET id = 99, x = (SELECT MAX(x) FROM t2)",
    "INSERT INTO t1 (id) WITH c AS (SELECT id FROM t2) SELECT id + 50 FROM c",
    "INSERT INTO t1 (id) (SELECT id + 70 FROM t2) UNION (SELECT id + 80 FROM t3)",
    "REPLACE t1 SET id = 5, x = 6",
    "SELECT * FROM t1 FOR UPDATE",
    "SELECT * FROM t1 WHERE id IN (SELECT id FROM t2) LOCK IN SHARE MODE",
    "EXPLAIN SELECT * FROM t1 JOIN t2",
    "ANALYZE FORMAT=JSON SELECT * FROM t1 WHERE id = (SELECT 1 FROM t3)",
    "SET STATEMENT max_statement_time = 10 FOR SELECT * FROM t1",
    "SELECT x INTO @v FROM t1 LIMIT 1",
    "SELECT /*! STRAIGHT_JOIN */ * FROM t1 /*M! , t2 */",
    "BEGIN NOT ATOMIC DECLARE n INT DEFAULT (SELECT MAX(id) FROM t2); IF n > 0 THEN SELECT * FROM t3; END IF; UPDATE t1 SET x = 1; END",
    "FOR r IN (SELECT id FROM t2) DO INSERT IGNORE INTO t1 (id) VALUES (r.id); END FOR",
];

#[tokio::test]
async fn the_server_locks_what_the_classifier_names() {
    let server = PrivateServer::start(9, &[]);
    let mut conn = server.connect().await;
    prepare(&mut conn).await;
    let wanted = if support::long() { 20_000 } else { 1_200 };
    let seed = std::env::var("SWITCHOVER_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(849);
    let mut grammar = Grammar::new(seed);
    let generated = (0..wanted).map(|_| grammar.statement());
    let (mut agreed, mut refused, mut wrong) = (0usize, Vec::new(), Vec::new());
    for sql in BY_HAND.iter().map(|s| (*s).to_owned()).chain(generated) {
        let theirs = match locked(&mut conn, &sql).await {
            Ok(tables) => tables,
            Err(error) => {
                refused.push(format!("{sql}\n  {error}"));
                continue;
            }
        };
        let (kind, ours) = named(&sql);
        let names = |t: &Tables| t.keys().cloned().collect::<Vec<_>>();
        // A table that the server holds for writing must be one that we call written or locked; but an UPDATE of several
        // tables holds all of them so, even those that it only reads.
        let writes =
            sql.starts_with("UPDATE") || theirs.iter().all(|(name, write)| !write || ours.get(name) == Some(&true));
        if names(&theirs) == names(&ours) && writes {
            agreed += 1;
        } else {
            wrong.push(format!("{sql}\n  {kind:?}\n  locked {theirs:?}\n  named  {ours:?}"));
        }
    }
    println!("{agreed} agreed, {} refused by the server, {} wrong", refused.len(), wrong.len());
    for line in refused.iter().take(if std::env::var_os("SWITCHOVER_SHOW").is_some() { 20 } else { 0 }) {
        println!("{line}");
    }
    assert!(wrong.is_empty(), "{} wrong of {agreed} right:\n{}", wrong.len(), wrong[..wrong.len().min(12)].join("\n"));
    assert!(agreed > wanted * 8 / 10, "only {agreed} of {wanted} statements ran; e.g. {}", refused[0]);
}
