//! The new store is OceanBase seekdb, the legacy one MariaDB: what our users' pairs are like. One server for all of it, for it
//! takes its time to start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::cutover::{self, Ledger, writes};
use super::{DURABLE, statements};
use crate::support::proxy::pair_config_at;
use crate::support::seekdb::Seekdb;
use crate::support::{PrivateServer, Proxy, clients, eventually, mariadb};

/// Every kind of column that both know, with a collation that both have.
const TYPES: &str = "CREATE TABLE kinds (id BIGINT NOT NULL, k VARCHAR(20) NOT NULL, ti TINYINT, si SMALLINT UNSIGNED, i INT, \
     bu BIGINT UNSIGNED, de DECIMAL(20,6), fl FLOAT, db DOUBLE, da DATE, ti6 TIME(6), dt DATETIME(3), ts TIMESTAMP(6) NULL, y YEAR, ch CHAR(10), \
     te TEXT, bi BINARY(4), vb VARBINARY(300), bl BLOB, en ENUM('a','b','c'), se SET('x','y','z'), bt BIT(9), PRIMARY KEY (id, k))";

const ROWS: &[&str] = &[
    "INSERT INTO kinds VALUES (1, 'k', -128, 65535, -2147483648, 18446744073709551615, -12345678901234.567890, 1.5, 1e300, '2024-02-29', \
     '-838:59:59.000000', '9999-12-31 23:59:59.999', '2026-01-02 03:04:05.123456', 2155, 'ends  ', 'it''s \\\\ é 😀', X'00FF0001', X'', X'00', 'b', \
     'x,z', b'101010101')",
    "INSERT INTO kinds (id, k) VALUES (2, 'a'), (2, 'b'), (-9223372036854775808, '')",
    "UPDATE kinds SET te = REPEAT('ü', 3000), vb = X'FF27225C00' WHERE id = 2",
    "UPDATE kinds SET de = 0.000001, fl = -0.1, db = 0.1, da = '1000-01-01', ti6 = '00:00:00.000001', y = 1901 WHERE id = 1 AND k = 'k'",
    "INSERT INTO kinds (id, k, en, bt) VALUES (3, 'x', 'c', b'1') ON DUPLICATE KEY UPDATE en = 'a'",
    "REPLACE INTO kinds (id, k, se) VALUES (3, 'x', 'y')",
    "DELETE FROM kinds WHERE id = 2 AND k = 'b'",
];

const ALL: &str = "SELECT id, HEX(k), ti, si, i, bu, de, fl, db, da, ti6, dt, ts, y, HEX(ch), HEX(te), HEX(bi), HEX(vb), HEX(bl), en, se, bt + 0 \
     FROM d.kinds ORDER BY id, k";

struct Pair {
    legacy: PrivateServer,
    new: Seekdb,
    proxy: Proxy,
}

fn config(port: u16, legacy: &PrivateServer, new: &Seekdb) -> String {
    let text = pair_config_at(port, legacy.port, new.port, &["d.*"]);
    // (`time_zone` of both: rows are compared as text)
    format!("{}    standby: new\n", text.replace("  new: { ", "  new: { change_log: journal, "))
}

impl Pair {
    fn start() -> Pair {
        let legacy = PrivateServer::start(11, &[DURABLE, &["--transaction-isolation=READ-COMMITTED"]].concat());
        let new = Seekdb::start();
        legacy.sql("CREATE DATABASE d CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        new.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        new.sql("SET GLOBAL time_zone = '+00:00'");
        new.sql("SET GLOBAL max_allowed_packet = 67108864");
        let both = format!("{TYPES};\n{}", cutover::TABLES);
        statements(&legacy, &both);
        for statement in both.split(";\n") {
            new.sql(&format!("USE d; {statement}"));
        }
        let proxy = Proxy::start(|port| config(port, &legacy, &new));
        Pair { legacy, new, proxy }
    }

    fn authority(&self) -> serde_json::Value {
        cutover::authority(&self.proxy)
    }

    fn flag(&self, store: &str) {
        let done = self.proxy.cli(&["flag", "analytics", store]);
        assert!(done.ok, "{}{}\n{}", done.stdout, done.stderr, self.proxy.log());
    }

    /// Whether the tables of seekdb are where they are while it is sealed by `rename`.
    fn is_away(&self) -> bool {
        let sql = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover_sealed_d'";
        self.new.sql(sql)[0][0] != "0"
    }

    /// Waits until both hold the same.
    fn same(&self, sql: &str) {
        let text = |rows: Vec<Vec<String>>| rows.iter().map(|row| row.join("\t")).collect::<Vec<_>>();
        eventually("both stores hold the same", || {
            // (while it is sealed by `rename`)
            let there =
                if self.is_away() { sql.replace("FROM d.", "FROM switchover_sealed_d.") } else { sql.to_owned() };
            let (ours, theirs) = (text(self.legacy.sql(sql)), text(self.new.sql(&there)));
            assert!(self.proxy.status()["groups"][0]["standby"]["state"] != "stopped", "{:#}", self.proxy.status());
            ours == theirs && !ours.is_empty()
        });
    }
}

const SUMS: &str = "SELECT COUNT(*), SUM(id), SUM(n), (SELECT COALESCE(SUM(n), 0) FROM d.sums) FROM d.t";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_unlike_mariadb() {
    let mut pair = Pair::start();
    what_cannot_hold_is_said(&pair);
    let init = pair.proxy.cli(&["init"]);
    assert!(init.ok, "{}{}", init.stdout, init.stderr);
    eventually("it applies", || {
        pair.proxy.cli(&["standby", "retry", "analytics"]);
        pair.proxy.status()["groups"][0]["standby"]["state"] == "applying"
    });
    every_kind_of_column(&pair).await;
    forth_and_back(&pair, 0).await;
    its_tables_move(&pair).await;
    it_is_given_up(&mut pair).await;
}

/// What cannot be the same on both is refused before anything begins.
fn what_cannot_hold_is_said(pair: &Pair) {
    pair.legacy.sql("CREATE TABLE d.Capital (id INT PRIMARY KEY)");
    pair.new.sql("CREATE TABLE d.capital (id INT PRIMARY KEY)");
    pair.legacy.sql("CREATE TABLE d.words (w VARCHAR(10) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v VARCHAR(10) COLLATE utf8mb4_unicode_ci)");
    pair.new.sql("CREATE TABLE d.words (w VARCHAR(10) PRIMARY KEY, v VARCHAR(10))");
    let refused = pair.proxy.cli(&["init"]);
    assert!(!refused.ok, "{}", refused.stdout);
    for words in
        ["d.Capital has capital letters", "d.words: column w varchar(10) COLLATE utf8mb4_unicode_ci on the authority"]
    {
        assert!(refused.stdout.contains(words), "{words}: {}", refused.stdout);
    }
    // (of a column that is in no key, only the order differs)
    assert!(!refused.stdout.contains("d.words: column v"), "{}", refused.stdout);
    for table in ["Capital", "words"] {
        pair.legacy.sql(&format!("DROP TABLE d.{table}"));
        pair.new.sql(&format!("DROP TABLE d.{}", table.to_lowercase()));
    }
}

/// The same rows come of it, written on the one and on the other.
async fn every_kind_of_column(pair: &Pair) {
    let mut conn = Conn::new(mariadb::opts(pair.proxy.port).db_name(Some("d"))).await.unwrap();
    for store in ["new", "legacy"] {
        conn.query_drop("SET time_zone = '+00:00'").await.unwrap();
        for sql in ROWS {
            conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{sql}: {e}\n{}", pair.proxy.log()));
        }
        pair.same(ALL);
        conn.query_drop("DELETE FROM kinds WHERE id > -10000000000000000000").await.unwrap();
        conn.query_drop("INSERT INTO kinds (id, k) VALUES (0, 'last')").await.unwrap();
        pair.same(ALL);
        conn.query_drop("DELETE FROM kinds WHERE id = 0").await.unwrap();
        pair.flag(store);
    }
}

/// Under writers, who see no error.
async fn forth_and_back(pair: &Pair, first: u64) {
    let before: u64 = pair.legacy.sql(SUMS)[0][0].parse().unwrap();
    let (over, ledger) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()));
    let writers: Vec<_> = (1..=4u64)
        .map(|n| tokio::spawn(writes(pair.proxy.port, first + n, Arc::clone(&over), Arc::clone(&ledger))))
        .collect();
    for store in ["new", "legacy", "new", "legacy"] {
        tokio::time::sleep(Duration::from_millis(700)).await;
        eventually("it can move", || pair.authority()["settled"] == true);
        pair.flag(store);
    }
    over.store(true, Ordering::Relaxed);
    let mut said = Vec::new();
    for writer in writers {
        said.extend(writer.await.unwrap());
    }
    assert!(said.is_empty(), "{said:#?}\n{}", pair.proxy.log());
    let done = ledger.acknowledged.load(Ordering::Relaxed);
    eprintln!(
        "4 cutovers with seekdb, {done} acknowledged, longest statement {} ms",
        ledger.longest.load(Ordering::Relaxed) / 1_000
    );
    assert!(done > 100, "{done}");
    pair.same(SUMS);
    assert_eq!(pair.legacy.sql(SUMS)[0][0], (before + done).to_string());
}

/// The same with seekdb sealed by `rename`: it moves tables and views in one statement, and waits for transactions.
async fn its_tables_move(pair: &Pair) {
    let epoch = pair.proxy.status()["epoch"].as_u64().unwrap();
    pair.proxy.edit_config(|text| text.replace("change_log: journal, ", "change_log: journal, seal: rename, "));
    eventually("it is read", || pair.proxy.status()["epoch"].as_u64().unwrap() > epoch);
    eventually("it can move", || pair.proxy.cli(&["flag", "analytics", "new", "--dry-run"]).ok);
    forth_and_back(pair, 10).await;
    assert!(pair.is_away(), "{}", pair.proxy.log());
    for (sql, code) in [
        ("INSERT INTO t (writer, n) VALUES (0, 0)", 1356),
        ("SELECT * FROM t", 1356),
        ("TRUNCATE t", 1146),
        ("CREATE TABLE t (id INT)", 1050),
        ("DROP TABLE t", 1051),
    ] {
        let stray = clients::mariadb(pair.new.port, &["-Dd", "-e", sql]);
        assert!(!stray.ok && stray.stderr.contains(&format!("ERROR {code}")), "{sql}: {}", stray.stderr);
    }
}

/// `kill -9` of seekdb while it serves, with `ack: standby`: what was acknowledged is on the legacy store; and it follows again.
async fn it_is_given_up(pair: &mut Pair) {
    let auto = "    standby: new\n    ack: standby\n    ack_timeout: 5s\n    fallback: auto\n    fallback_after: 1s\n";
    pair.proxy.edit_config(|text| text.replace("    standby: new\n", auto));
    eventually("it is read", || pair.authority()["acks"] == "standby");
    pair.flag("new");
    eventually("legacy follows", || pair.authority()["acks"] == "standby" && pair.authority()["settled"] == true);
    let mut conn = Conn::new(mariadb::opts(pair.proxy.port).db_name(Some("d"))).await.unwrap();
    let mut acknowledged = Vec::new();
    for n in 1..=60 {
        conn.query_drop(format!("INSERT INTO t (writer, n) VALUES (99, {n})")).await.unwrap();
        acknowledged.push(n.to_string());
    }
    pair.new.kill();
    // what is not sent to a store that is known to be gone waits for the one that takes over
    tokio::time::sleep(Duration::from_millis(300)).await;
    conn.query_drop("INSERT INTO t (writer, n) VALUES (99, 1000)")
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}", pair.proxy.log()));
    assert_eq!(pair.authority()["store"], "legacy");
    let there = pair.legacy.sql("SELECT n FROM d.t WHERE writer = 99 AND n < 1000 ORDER BY n").concat();
    assert_eq!(there, acknowledged);
    pair.new.restart();
    let deadline = Instant::now() + Duration::from_secs(90);
    while pair.authority()["settled"] != true {
        assert!(Instant::now() < deadline, "seekdb does not follow: {:#}\n{}", pair.authority(), pair.proxy.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let stray = clients::mariadb(pair.new.port, &["-Dd", "-e", "INSERT INTO t (writer, n) VALUES (0, 0)"]);
    assert!(!stray.ok && stray.stderr.contains("ERROR 1356"), "{}", stray.stderr);
    pair.same(SUMS);
}
