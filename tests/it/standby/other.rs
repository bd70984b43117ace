//! MariaDB is the legacy store, and the new one another engine: what every such pair has to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::cutover::{self, Ledger, writes};
use super::{DURABLE, statements};
use crate::support::other::Other;
use crate::support::proxy::pair_config_at;
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

/// Both, and a proxy.
pub(super) struct Pair {
    pub(super) legacy: PrivateServer,
    pub(super) new: Other,
    pub(super) proxy: Proxy,
}

impl Pair {
    /// With the tables of these tests on both. `log` is what the configuration says of the new store's log; it has the database `d`.
    pub(super) fn start(new: Other, log: &str, serves: &str) -> Pair {
        let legacy = PrivateServer::start(11, &[DURABLE, &["--transaction-isolation=READ-COMMITTED"]].concat());
        legacy.sql("CREATE DATABASE d CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci");
        // (`time_zone` of both: rows are compared as text)
        new.sql("SET GLOBAL time_zone = '+00:00'");
        new.sql("SET GLOBAL max_allowed_packet = 67108864");
        let both = format!("{TYPES};\n{}", cutover::TABLES);
        statements(&legacy, &both);
        for statement in both.split(";\n") {
            new.sql(&format!("USE d; {statement}"));
        }
        let standby = if serves == "new" { "legacy" } else { "new" };
        let proxy = Proxy::start(|port| {
            let text = pair_config_at(port, legacy.port, new.port, &["d.*"]);
            let text = text.replace("  new: { ", &format!("  new: {{ {log}"));
            format!("{}    standby: {standby}\n", text.replace("connection: legacy", &format!("connection: {serves}")))
        });
        Pair { legacy, new, proxy }
    }

    /// `switchover init`, and the standby follows.
    pub(super) fn begin(&self) {
        let init = self.proxy.cli(&["init"]);
        assert!(init.ok, "{}{}", init.stdout, init.stderr);
        eventually("it applies", || {
            self.proxy.cli(&["standby", "retry", "analytics"]);
            self.proxy.status()["groups"][0]["standby"]["state"] == "applying"
        });
    }

    pub(super) fn authority(&self) -> serde_json::Value {
        cutover::authority(&self.proxy)
    }

    pub(super) fn flag(&self, store: &str) {
        cutover::flag(&self.proxy, store);
    }

    /// Whether the tables of the new store are where they are while it is sealed by `rename`.
    pub(super) fn is_away(&self) -> bool {
        let sql = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover_sealed_d'";
        self.new.sql(sql)[0][0] != "0"
    }

    /// Waits until both hold the same.
    pub(super) fn same(&self, sql: &str) {
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

    /// A writer past the proxy hears that the new store is sealed.
    pub(super) fn refuses(&self, code: u16) {
        let stray = clients::mariadb(self.new.port, &["-Dd", "-e", "INSERT INTO t (writer, n) VALUES (0, 0)"]);
        assert!(!stray.ok && stray.stderr.contains(&format!("ERROR {code}")), "{}", stray.stderr);
    }
}

const SUMS: &str = "SELECT COUNT(*), SUM(id), SUM(n), (SELECT COALESCE(SUM(n), 0) FROM d.sums) FROM d.t";

/// The same rows come of it, written on the one and on the other.
pub(super) async fn every_kind_of_column(pair: &Pair) {
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
pub(super) async fn forth_and_back(pair: &Pair, first: u64) {
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
        "4 cutovers, {done} acknowledged, longest statement {} ms",
        ledger.longest.load(Ordering::Relaxed) / 1_000
    );
    assert!(done > 100, "{done}");
    pair.same(SUMS);
    assert_eq!(pair.legacy.sql(SUMS)[0][0], (before + done).to_string());
}

/// `kill -9` of the new store while it serves, with `ack: standby`: what was acknowledged is on the legacy store; and it follows
/// again, sealed against who hears `code`.
pub(super) async fn it_is_given_up(pair: &mut Pair, code: u16) {
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
        assert!(Instant::now() < deadline, "it does not follow: {:#}\n{}", pair.authority(), pair.proxy.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    pair.refuses(code);
    pair.same(SUMS);
}
