//! Random writers on the authority; afterwards both stores hold the same bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::Kept;
use crate::support::{clients, long};

/// Tables with all that may be in an applier's way: unique keys, composite and textual keys, foreign keys that act, generated
/// and exotic columns.
pub(crate) const SCHEMA: &str = "CREATE TABLE plain (id INT PRIMARY KEY AUTO_INCREMENT, a INT, b VARCHAR(100), c DOUBLE, d DATETIME(3));
CREATE TABLE uniq (id INT PRIMARY KEY, u INT UNIQUE, s VARCHAR(20) COLLATE utf8mb4_unicode_ci UNIQUE, n INT);
CREATE TABLE pair (a INT, b VARCHAR(20) CHARACTER SET latin1, v BLOB, PRIMARY KEY (a, b));
CREATE TABLE textual (k VARCHAR(40) COLLATE utf8mb4_general_ci PRIMARY KEY, v INT);
CREATE TABLE parent (id INT PRIMARY KEY, name VARCHAR(20));
CREATE TABLE child (id INT PRIMARY KEY AUTO_INCREMENT, p INT, q INT, FOREIGN KEY (p) REFERENCES parent (id) ON DELETE CASCADE ON UPDATE CASCADE, FOREIGN KEY (q) REFERENCES parent (id) ON DELETE SET NULL ON UPDATE CASCADE);
CREATE TABLE made (id INT PRIMARY KEY, a INT, twice INT AS (a * 2) VIRTUAL, thrice INT AS (a * 3) STORED, KEY (twice));
CREATE TABLE `o``dd ñ` (`i``d` INT PRIMARY KEY, `sel ect` TEXT);
CREATE TABLE bin (k BINARY(4) PRIMARY KEY, v VARBINARY(10));
CREATE TABLE nopk (u INT NOT NULL UNIQUE, v INT);
CREATE TABLE audit (id BIGINT PRIMARY KEY AUTO_INCREMENT, what VARCHAR(40))";

/// (xorshift64*)
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

/// Kinds of statements: all of them, and without the last, TRUNCATE: MariaDB 10.11 empties the table before it writes that to its
/// log, and killed in between it comes back with an empty table of which the log says nothing.
pub(crate) const ALL: u64 = 32;
pub(crate) const CRASH_SAFE: u64 = 31;

pub(crate) fn statement(dice: &mut Dice, kinds: u64) -> String {
    let (a, b) = (dice.roll(60), dice.roll(60));
    let word = ["Ab", "ab ", "é", "e", "ß", "ss", "日本", "x'y", "\\\\", "Z"][dice.roll(10) as usize];
    match dice.roll(kinds) {
        0..=4 => {
            format!("INSERT INTO plain (a, b, c, d) VALUES ({a}, '{word}', {b} / 7, NOW(3)), ({b}, NULL, 1e{a}, NULL)")
        }
        5 => format!("UPDATE plain SET a = a + 1, b = CONCAT('{word}', id) WHERE id % 17 = {}", a % 17),
        6 => format!("DELETE FROM plain WHERE id % 61 = {a}"),
        7..=9 => format!("INSERT IGNORE INTO uniq VALUES ({a}, {b}, '{word}{b}', 0)"),
        10 => format!("UPDATE IGNORE uniq SET u = {a} WHERE id = {b}"),
        11 => format!("REPLACE INTO uniq VALUES ({a}, {b}, '{word}{a}', 1)"),
        12 => format!("INSERT INTO uniq VALUES ({a}, {b}, '{word}', 2) ON DUPLICATE KEY UPDATE n = n + 1"),
        13 => "UPDATE uniq SET u = -u ORDER BY u".to_owned(),
        14 => format!("UPDATE IGNORE uniq SET id = id + 1000 * ({a} % 3 - 1) WHERE id % 7 = {}", b % 7),
        15 | 16 => format!("REPLACE INTO pair VALUES ({}, 'k{}', REPEAT(CHAR({a}), {b}))", a % 9, b % 9),
        17 => format!("UPDATE IGNORE pair SET b = CONCAT('k', {}) WHERE a = {}", a % 9, b % 9),
        18 => format!(
            "INSERT INTO textual VALUES ('{word}{}', 1) ON DUPLICATE KEY UPDATE k = '{word}{}', v = v + 1",
            a % 4,
            a % 4
        ),
        19 => format!("DELETE FROM textual WHERE k = '{word}{}'", a % 4),
        20 => format!("INSERT IGNORE INTO parent VALUES ({a}, '{word}')"),
        21 => format!("INSERT IGNORE INTO child (p, q) VALUES ({a}, {b})"),
        22 => format!("DELETE FROM parent WHERE id = {a}"),
        23 => format!("UPDATE IGNORE parent SET id = {a} WHERE id = {b}"),
        24 => format!("DELETE parent, child FROM parent JOIN child ON child.p = parent.id WHERE parent.id = {a}"),
        25 => format!("INSERT INTO made (id, a) VALUES ({a}, {b}) ON DUPLICATE KEY UPDATE a = a + 1"),
        26 => format!("REPLACE INTO `o``dd ñ` VALUES ({a}, '{word}')"),
        27 => format!(
            "INSERT INTO bin VALUES (UNHEX(LPAD(HEX({a}), 8 - 2 * ({b} % 4), '0')), '{word}') ON DUPLICATE KEY UPDATE v = CHAR({b})"
        ),
        28 => format!("INSERT INTO nopk VALUES ({a}, {b}) ON DUPLICATE KEY UPDATE v = v + 1"),
        29 => format!("DELETE FROM nopk WHERE u = {a}"),
        30 => format!("INSERT INTO other.elsewhere VALUES ({a})"),
        _ => "TRUNCATE TABLE nopk".to_owned(),
    }
}

/// Writes until told to stop; errors of the statements themselves (deadlocks, duplicates) are part of the load.
pub(crate) async fn write(port: u16, seed: u64, kinds: u64, over: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut dice = Dice(seed);
    let mut conn: Option<Conn> = None;
    while !over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            let opts = crate::support::mariadb::opts(port).db_name(Some("d"));
            // (a server that is killed before it takes a connection over leaves the client waiting for its greeting)
            match tokio::time::timeout(Duration::from_secs(5), Conn::new(opts)).await {
                Ok(Ok(c)) => conn = Some(c),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            continue;
        };
        let mut failed = false;
        let long = dice.roll(3) == 0;
        if long {
            failed |= c.query_drop("BEGIN").await.is_err();
        }
        for _ in 0..if long { 1 + dice.roll(8) } else { 1 } {
            failed |= matches!(c.query_drop(statement(&mut dice, kinds)).await, Err(mysql_async::Error::Io(_)));
            if long && dice.roll(9) == 0 {
                let _ = c.query_drop("SAVEPOINT a").await;
                let _ = c.query_drop(statement(&mut dice, kinds)).await;
                let _ = c.query_drop("ROLLBACK TO a").await;
            }
        }
        if long {
            let end = if dice.roll(5) == 0 { "ROLLBACK" } else { "COMMIT" };
            failed |= c.query_drop(end).await.is_err();
        }
        done.fetch_add(1, Ordering::Relaxed);
        if failed {
            conn = None;
        }
    }
}

/// Triggers on the authority alone: the log holds what they do.
pub(crate) fn triggers(kept: &Kept) {
    for sql in [
        "CREATE TABLE other.elsewhere (a INT)",
        "CREATE TRIGGER d.t1 AFTER INSERT ON d.uniq FOR EACH ROW INSERT INTO d.audit (what) VALUES (CONCAT('i', NEW.id))",
        "CREATE TRIGGER d.t2 AFTER DELETE ON d.uniq FOR EACH ROW INSERT INTO d.audit (what) VALUES (CONCAT('d', OLD.id))",
        "CREATE TRIGGER d.t3 BEFORE UPDATE ON d.textual FOR EACH ROW SET NEW.v = NEW.v * 2 % 1000",
    ] {
        kept.authority.sql(sql);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_hold_the_same() {
    let kept = Kept::start(SCHEMA, &["--log-bin-compress=1", "--local-infile=1"]);
    kept.authority.sql("CREATE DATABASE other");
    triggers(&kept);
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (1..=4u64)
        .map(|n| {
            // one of them through the proxy
            let port = if n == 1 { kept.proxy.port } else { kept.authority.port };
            tokio::spawn(write(port, n * 0x9E37_79B9, ALL, Arc::clone(&over), Arc::clone(&done)))
        })
        .collect();
    // (a slow disk makes few commits a second of all this)
    tokio::time::sleep(Duration::from_secs(if long() { 300 } else { 8 })).await;
    let deadline = Instant::now() + Duration::from_secs(120);
    while done.load(Ordering::Relaxed) < 300 {
        assert!(Instant::now() < deadline, "the writers do not come forward");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    kept.catch_up();
    kept.assert_same();
    let standby = kept.show();
    assert!(standby["transactions"].as_u64().unwrap() > 100, "{standby:#}");
    assert_eq!(
        standby["reconnects"],
        0,
        "a connection was lost, though nothing was killed: {standby:#}\n{}",
        kept.proxy.log()
    );
}

/// A transaction of more than 16 MiB, rows of more than 1 MiB, LOAD DATA, and a table filled from itself.
#[test]
fn large_transactions_are_whole() {
    let kept = Kept::start("CREATE TABLE big (id INT PRIMARY KEY AUTO_INCREMENT, n INT, v LONGBLOB)", &[]);
    let file = kept.authority.folder.join("rows.tsv");
    std::fs::write(&file, (0..50_000).map(|n| format!("{n}\tline {n}\n")).collect::<String>()).unwrap();
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE big (n, v)", file.display());
    let loaded = clients::mariadb(kept.authority.port, &["--local-infile=1", "-Dd", "-e", &load]);
    assert!(loaded.ok, "{}", loaded.stderr);
    kept.authority
        .sql_in("d", "INSERT INTO big (n, v) VALUES (1, REPEAT('x\\'', 5000000)), (2, REPEAT(X'00FF', 4000000))");
    kept.authority.sql_in("d", "INSERT INTO big (n, v) SELECT n, REPEAT(v, 60) FROM big WHERE n > 2");
    kept.authority.sql_in("d", "UPDATE big SET n = n + 1");
    kept.catch_up();
    kept.assert_same();
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.big")[0][0], "99999".to_owned());
}

/// The proxy was away for thousands of transactions: rounds are full, so the next one's work is made while one is applied. It is
/// killed in the midst of that, and again.
#[test]
fn a_log_that_is_far_ahead_is_applied_whole() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql("CREATE DATABASE other");
    triggers(&kept);
    kept.proxy.kill();
    kept.authority.sql("SET GLOBAL sync_binlog = 0, GLOBAL innodb_flush_log_at_trx_commit = 2");
    let mut dice = Dice(0x5EED);
    let small = (0..9_000).map(|_| statement(&mut dice, CRASH_SAFE)).filter(|sql| !sql.contains("x'y"));
    let many = "INSERT INTO plain (a, b) SELECT seq, REPEAT('w', 80) FROM d.numbers; UPDATE plain SET c = a, b = CONCAT(b, id)";
    let many = [
        "CREATE TEMPORARY TABLE numbers AS SELECT seq FROM seq_1_to_20000",
        many,
        "DELETE FROM plain WHERE id % 3 = 0",
    ];
    let file = kept.authority.folder.join("load.sql");
    let all: Vec<String> = small.chain(many.map(str::to_owned)).collect();
    std::fs::write(&file, all.join(";\n") + ";\n").unwrap();
    let source = format!("source {}", file.display());
    // (duplicates are part of the load)
    let loaded = clients::mariadb(kept.authority.port, &["--force", "-Dd", "-e", &source]);
    assert!(kept.authority.sql("SELECT COUNT(*) > 5000 FROM d.plain")[0][0] == "1", "{}", loaded.stderr);
    for pause in [150, 300, 80, 600] {
        kept.proxy.restart();
        std::thread::sleep(Duration::from_millis(pause));
        kept.proxy.kill();
    }
    kept.proxy.restart();
    kept.catch_up();
    kept.assert_same();
}

/// Rounds of large transactions, each of which changes what the one before it did.
#[test]
fn rounds_of_the_same_rows_are_applied_in_order() {
    let mut kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, n INT UNIQUE, v VARCHAR(250), KEY (v))", &[]);
    kept.proxy.kill();
    let mut load = String::from("SET GLOBAL sync_binlog = 0;\n");
    for round in 0..8 {
        load += &format!(
            "INSERT INTO t SELECT seq, seq * 10, REPEAT('{round}', 200) FROM seq_1_to_5000;
             UPDATE t SET n = n + 1, v = CONCAT(v, id);
             UPDATE t SET id = id + 10000 WHERE id % 3 = {};
             UPDATE t SET n = -n WHERE id < 100;
             DELETE FROM t WHERE id % 2 = {};
             UPDATE t SET v = REPEAT('{round}', 100);
             DELETE FROM t{};\n",
            round % 3,
            round % 2,
            if round < 7 { "" } else { " WHERE id > 4000" },
        );
    }
    kept.authority.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
    let loaded = clients::mariadb(kept.authority.port, &["-Dd", "-e", &load]);
    assert!(loaded.ok, "{}", loaded.stderr);
    kept.proxy.restart();
    kept.catch_up();
    kept.assert_same();
    assert!(kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0].parse::<u32>().unwrap() > 100);
    let standby = kept.show();
    assert_eq!(standby["state"], "applying", "{standby:#}");
}
