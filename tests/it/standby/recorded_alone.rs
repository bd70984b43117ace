//! Recorded writes of tables whose engine has no transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use switchover::changes::journal::Ids;

use super::journal::{START, WITHOUT_BINLOG, catch_up, kept_with};
use super::recorded::show;
use super::workload::Dice;
use super::{Kept, statements};
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{PrivateServer, eventually};

const SCHEMA: &str =
    "CREATE TABLE my (id INT PRIMARY KEY AUTO_INCREMENT, n INT, v VARCHAR(10), UNIQUE (v)) ENGINE = MyISAM;
CREATE TABLE ar (a INT, b VARCHAR(10), n INT, PRIMARY KEY (a, b)) ENGINE = Aria;
CREATE TABLE me (id INT PRIMARY KEY, n INT) ENGINE = MEMORY;
CREATE TABLE inno (id INT PRIMARY KEY, n INT)";

const TEXTS: &[&str] = &[
    "INSERT INTO my (n, v) VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    "SELECT ROW_COUNT(), LAST_INSERT_ID(), FOUND_ROWS()",
    "INSERT INTO my (n, v) VALUES (4, 'd'), (5, 'a'), (6, 'e')",
    "SHOW WARNINGS",
    "SELECT ROW_COUNT()",
    "INSERT INTO my VALUES (20, 1, 'x'), (1, 2, 'y')",
    "INSERT IGNORE INTO my (n, v) VALUES (7, 'a'), (8, 'f')",
    "SHOW WARNINGS",
    "INSERT INTO my (n, v) VALUES (7, 'a') ON DUPLICATE KEY UPDATE n = n + 10",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "REPLACE INTO my (n, v) VALUES (9, 'a')",
    "UPDATE my SET n = n + 1 WHERE n > 2",
    "SELECT ROW_COUNT()",
    "UPDATE my SET v = 'b' WHERE id > 1",
    "UPDATE my SET v = 'much too long a text' WHERE id = 2",
    "DELETE FROM my WHERE n = 3",
    "DELETE FROM my WHERE n = 333",
    "INSERT INTO ar VALUES (1, 'é', 1), (1, 'b', 2), (2, 'x;y', 3)",
    "UPDATE ar SET n = 5 WHERE a = 1 AND b IN ('b', 'é')",
    "DELETE FROM ar WHERE b = 'x;y'",
    "REPLACE INTO ar VALUES (1, 'B', 7)",
    "INSERT INTO me VALUES (1, 1), (2, 2); UPDATE me SET n = 9; SELECT ROW_COUNT()",
    "DELETE FROM me WHERE id = 1",
    "INSERT INTO inno VALUES (1, 1)",
    "SELECT * FROM my ORDER BY id",
    "SELECT * FROM ar ORDER BY a, b",
];

/// The standby's tables have transactions: its marks and its rows commit together.
fn kept() -> Kept {
    let plain: String =
        SCHEMA.split(" ENGINE = ").map(|part| part.split_once(';').map_or(part, |(_, rest)| rest)).collect();
    let plain = plain.replace("\nCREATE", ";\nCREATE");
    let kept = kept_with(Ids::Sequence, START, &plain, WITHOUT_BINLOG);
    for (table, engine) in [("my", "MyISAM"), ("ar", "Aria"), ("me", "MEMORY")] {
        kept.authority.sql(&format!("ALTER TABLE d.{table} ENGINE = {engine}"));
    }
    kept
}

fn assert_same(kept: &Kept) {
    for table in ["my", "ar", "me", "inno"] {
        let rows = |server: &PrivateServer| server.sql(&format!("SELECT * FROM d.{table} ORDER BY 1, 2"));
        assert_eq!(rows(&kept.authority), rows(&kept.standby), "{table}");
    }
    assert!(kept.authority.sql("SELECT * FROM switchover.journal_open").is_empty());
}

/// To the byte; what a write that failed has done nevertheless is recorded.
#[test]
fn the_client_sees_the_same_bytes() {
    let direct = PrivateServer::start(13, WITHOUT_BINLOG);
    direct.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    statements(&direct, SCHEMA);
    let kept = kept();
    let (mut plain, mut through) = (Raw::app(direct.port, ORDINARY, "d"), Raw::app(kept.proxy.port, ORDINARY, "d"));
    for text in TEXTS {
        let (expected, got) = (plain.query(text), through.query(text));
        let (direct, recorded) = (show(&expected), show(&got));
        assert!(expected == got, "{text}\n--- direct\n{direct}\n--- recorded\n{recorded}");
    }
    catch_up(&kept);
    assert_same(&kept);
}

#[tokio::test]
async fn what_could_not_be_undone_is_refused() {
    let kept = kept();
    let mut c = kept.proxy.connect("d").await;
    for sql in [
        "DELETE FROM my LIMIT 1",
        "DELETE FROM my WHERE n < NOW()",
        "UPDATE my SET id = id + 1",
        "INSERT INTO my (n) SELECT 1",
        "INSERT INTO me VALUES (1 + 1, 2)",
    ] {
        let error = c.query_drop(sql).await.unwrap_err();
        assert!(error.to_string().contains("has no transactions"), "{sql}: {error}");
    }
    c.query_drop("BEGIN").await.unwrap();
    let error = c.query_drop("INSERT INTO my (n) VALUES (1)").await.unwrap_err();
    assert!(error.to_string().contains("autocommit"), "{error}");
}

/// Many writers of one table, each key written by all: whatever they do, in the order in which it was done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_hold_what_clients_wrote() {
    let kept = kept();
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (1..=4u64)
        .map(|n| {
            let (over, port) = (Arc::clone(&over), kept.proxy.port);
            tokio::spawn(async move {
                let mut dice = Dice(n * 0x9E37_79B9);
                let opts = crate::support::mariadb::opts(port).db_name(Some("d"));
                let mut c = mysql_async::Conn::new(opts).await.unwrap();
                while !over.load(Ordering::Relaxed) {
                    let (a, b) = (dice.roll(12), dice.roll(100));
                    let sql = match dice.roll(7) {
                        0 => format!("INSERT INTO my (n, v) VALUES ({a}, 'v{b}')"),
                        1 => format!("UPDATE my SET n = n + 1 WHERE n % 5 = {}", a % 5),
                        2 => format!("DELETE FROM my WHERE n % 12 = {a}"),
                        3 => format!("INSERT INTO my (n, v) VALUES ({a}, 'v{b}') ON DUPLICATE KEY UPDATE n = {b}"),
                        4 => format!("REPLACE INTO ar VALUES ({a}, 'k', {b})"),
                        5 => format!("INSERT INTO ar VALUES ({a}, 'k', {b}), ({}, 'k', {b})", a + 1),
                        _ => format!("DELETE FROM ar WHERE a = {a}"),
                    };
                    match c.query_drop(&sql).await {
                        Ok(()) => {}
                        Err(mysql_async::Error::Server(e)) if e.code == 1062 => {}
                        Err(e) => panic!("{sql}: {e}"),
                    }
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(4)).await;
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    catch_up(&kept);
    assert_same(&kept);
}

/// `kill -9` of the proxy between a write and its entry: what the write did is entered by the next writer of the table, or by who
/// keeps the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_did_is_settled() {
    let mut kept = kept();
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("INSERT INTO my (id, n, v) VALUES (1, 1, 'a'), (2, 2, 'b')").await.unwrap();
    for next_writer in [true, false] {
        dies_in_a_write(&mut kept).await;
        eventually("the store has done it", || !is_under_way(&kept));
        assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM switchover.journal_open")[0][0], "1");
        kept.proxy.restart();
        if next_writer {
            let mut c = kept.proxy.connect("d").await;
            c.query_drop("UPDATE my SET n = n + 1").await.unwrap();
        }
        eventually("nothing is left open", || {
            kept.authority.sql("SELECT COUNT(*) FROM switchover.journal_open")[0][0] == "0"
        });
        catch_up(&kept);
        assert_same(&kept);
    }
    assert_eq!(kept.authority.sql("SELECT n FROM d.my WHERE id = 1")[0][0], "22");
}

fn is_under_way(kept: &Kept) -> bool {
    let sql =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'UPDATE my%' AND ID <> CONNECTION_ID()";
    kept.authority.sql(sql)[0][0] != "0"
}

/// The proxy is killed while the authority runs an UPDATE of a second or two.
async fn dies_in_a_write(kept: &mut Kept) {
    let mut c = kept.proxy.connect("d").await;
    let slow = tokio::spawn(async move {
        let _ = c
            .query_drop("INSERT INTO my (n, v) VALUES (3, CONCAT('c', SLEEP(0.5), UUID_SHORT() % 1000)), (4, NULL)")
            .await;
        let _ = c.query_drop("UPDATE my SET n = n + 10 + SLEEP(1) WHERE id <= 2").await;
    });
    eventually("the update is under way", || is_under_way(kept));
    kept.proxy.kill();
    let _ = slow.await;
}

/// A cutover waits for it, and takes along what it did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_did_moves_too() {
    let mut kept = kept();
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("INSERT INTO my (id, n, v) VALUES (1, 1, 'a'), (2, 2, 'b')").await.unwrap();
    catch_up(&kept);
    dies_in_a_write(&mut kept).await;
    kept.proxy.restart();
    eventually("the standby applies", || kept.show()["state"] == "applying");
    let moved = kept.proxy.cli(&["flag", "analytics", "new", "--force"]);
    assert!(moved.ok, "{}{}", moved.stdout, moved.stderr);
    assert_eq!(kept.authority.sql("SELECT n FROM d.my WHERE id = 1")[0][0], "11");
    assert_same(&kept);
}

/// An authority that was given up comes back, with a write whose proxy is gone: what that did is entered before the store is sealed,
/// and comes over with all that it had alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_writer_did_is_taken_back() {
    let mut kept = kept();
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("INSERT INTO my (id, n, v) VALUES (1, 1, 'a'), (2, 2, 'b')").await.unwrap();
    catch_up(&kept);
    dies_in_a_write(&mut kept).await;
    eventually("the store has done it", || !is_under_way(&kept));
    let open = |kept: &Kept| kept.authority.sql("SELECT COUNT(*) FROM switchover.journal_open")[0][0].clone();
    assert_eq!(open(&kept), "1");
    kept.authority.stop();
    kept.proxy.restart();
    let given_up = ["flag", "analytics", "new", "--force", "--why", "it is dead"];
    eventually("it is given up", || kept.proxy.cli(&given_up).ok);
    kept.authority.restart();
    let there = |kept: &Kept| kept.standby.sql("SELECT n FROM d.my WHERE id = 1")[0][0].clone();
    eventually("what it did is on the other store", || there(&kept) == "11");
    assert_eq!(open(&kept), "0");
}
