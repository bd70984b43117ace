//! Writes through the proxy on an authority without a binlog: recorded, and unseen by the client.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use switchover::changes::journal::Ids;
use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use super::journal::{START, WITHOUT_BINLOG, catch_up, kept_with};
use super::recorded_prepared::random;
use super::workload::Dice;
use super::{Kept, statements};
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{PrivateServer, eventually, long, mariadb};

pub(super) const SCHEMA: &str =
    "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, v VARCHAR(5), d DATETIME(3), f FLOAT, e ENUM('x','y'), ts TIMESTAMP NULL);
CREATE TABLE k (k VARCHAR(10) PRIMARY KEY, n INT NOT NULL DEFAULT 7);
CREATE TABLE m (a INT, b BINARY(3), v BLOB, u INT UNIQUE, PRIMARY KEY (a, b));
CREATE TABLE counters (id INT PRIMARY KEY, n BIGINT)";

/// Statements of every form that is recorded, and what clients ask after them; each on both connections, in this order.
const TEXTS: &[&str] = &[
    "SELECT SQL_CALC_FOUND_ROWS seq FROM seq_1_to_9 LIMIT 2",
    "INSERT INTO t (n, v, d, f, e, ts) VALUES (1, 'é', '2020-02-03 04:05:06.789', 0.1, 'y', '2021-01-01 00:00:00')",
    "SELECT FOUND_ROWS(), ROW_COUNT(), LAST_INSERT_ID()",
    "SELECT ROW_COUNT()",
    "INSERT INTO t (n) VALUES (1), (2), (3)",
    "SELECT LAST_INSERT_ID()",
    "SELECT FOUND_ROWS()",
    "INSERT INTO t VALUES (NULL, 1, 'a', NOW(3), 1e10, NULL, NULL), (DEFAULT, 2, 'b', NULL, 2, 'x', NULL)",
    "INSERT INTO t SET id = 100, n = 5 + 5, v = CONCAT('a', 'b')",
    "INSERT INTO t (n) VALUES (9)",
    "SELECT LAST_INSERT_ID(), @@identity",
    "INSERT INTO t (id) VALUES (100)",
    "SHOW WARNINGS",
    "SELECT ROW_COUNT()",
    "SHOW COUNT(*) ERRORS",
    "UPDATE t SET n = n + 1 WHERE id = 100",
    "SELECT ROW_COUNT(), ROW_COUNT() + 1 AS x",
    "UPDATE t SET n = n WHERE id = 100",
    "SELECT ROW_COUNT()",
    "UPDATE t SET n = n + 1, v = 'upd' WHERE n > 1",
    "UPDATE t SET n = 0 WHERE id = 12345",
    "UPDATE t x SET x.n = 3 WHERE x.id IN (1, 2, '3') AND x.n < 100",
    "UPDATE t SET v = 'much too long' WHERE id = 1",
    "SHOW WARNINGS",
    "SET sql_mode = ''",
    "UPDATE t SET v = 'much too long' WHERE id < 3",
    "SHOW WARNINGS",
    "SELECT ROW_COUNT()",
    "INSERT INTO t (v, n) VALUES ('much too long', 'x')",
    "SHOW WARNINGS",
    "SELECT n FROM t WHERE id = 100",
    "SHOW WARNINGS",
    "SELECT ROW_COUNT()",
    "SELECT FOUND_ROWS()",
    "INSERT IGNORE INTO t (id, n) VALUES (100, 1), (200, 2)",
    "SELECT ROW_COUNT(), FOUND_ROWS()",
    "SET sql_mode = DEFAULT",
    "INSERT INTO k (k) VALUES ('a'), ('B')",
    "INSERT INTO k VALUES ('A', 1)",
    "INSERT INTO k VALUES ('a', 1) ON DUPLICATE KEY UPDATE n = n + VALUES(n)",
    "SELECT ROW_COUNT()",
    "INSERT INTO k VALUES ('a', 1) ON DUPLICATE KEY UPDATE n = n",
    "INSERT INTO k VALUES ('c', 1) ON DUPLICATE KEY UPDATE n = n + 1",
    "REPLACE INTO k VALUES ('b', 3), ('d', 4)",
    "REPLACE k SET k = 'e', n = 1",
    "SELECT ROW_COUNT()",
    "DELETE FROM k WHERE k = 'A'",
    "DELETE FROM k WHERE n BETWEEN 1 AND 3 AND k IN ('b', 'c')",
    "SELECT ROW_COUNT()",
    "INSERT INTO m VALUES (1, 'ab', X'00FF27', 1), (1, 'cd', REPEAT('x', 70000), 2), (-2, X'000000', NULL, NULL)",
    "UPDATE m SET v = 'it\\'s; /* odd */' WHERE a = 1 AND b = 'ab\\0'",
    "UPDATE m SET u = 2 WHERE a = -2",
    "UPDATE m SET u = u + 10 WHERE a = 1 ",
    "DELETE FROM m WHERE a = 1 AND b = X'616200';",
    "INSERT INTO t (n) VALUES (1",
    "BEGIN",
    "INSERT INTO t (n) VALUES (50)",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "SAVEPOINT a",
    "UPDATE t SET n = 51 WHERE n = 50",
    "INSERT INTO t (id) VALUES (100)",
    "SELECT n FROM t WHERE n >= 50 AND n < 60",
    "SAVEPOINT b",
    "DELETE FROM t WHERE n = 51",
    "ROLLBACK TO b",
    "ROLLBACK TO a",
    "UPDATE t SET v = 'kept' WHERE n = 50",
    "COMMIT",
    "SELECT ROW_COUNT()",
    "BEGIN",
    "DELETE FROM t WHERE n < 5",
    "ROLLBACK",
    "SET autocommit = 0",
    "INSERT INTO t (n) VALUES (60)",
    "COMMIT AND CHAIN",
    "INSERT INTO t (n) VALUES (61)",
    "SET autocommit = 1",
    "START TRANSACTION READ ONLY",
    "INSERT INTO t (n) VALUES (62)",
    "COMMIT",
    "BEGIN",
    "INSERT INTO t (n) VALUES (63)",
    "BEGIN",
    "INSERT INTO t (n) VALUES (64)",
    "ROLLBACK",
    "SET NAMES latin1",
    "INSERT INTO t (v) VALUES ('\u{e9}')",
    "SET NAMES utf8mb4",
    "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
    "UPDATE \"t\" SET \"v\" = 'a\\' WHERE \"id\" = 100",
    "SET sql_mode = DEFAULT",
    "SET sql_select_limit = 1",
    "UPDATE t SET n = 99 WHERE n < 60",
    "SET sql_select_limit = DEFAULT",
    "SET auto_increment_increment = 7, auto_increment_offset = 3",
    "INSERT INTO t (n) VALUES (1), (2), (3)",
    "SET auto_increment_increment = 1, auto_increment_offset = 1",
    "SET time_zone = '+05:00'",
    "INSERT INTO t (ts) VALUES ('2022-02-02 02:02:02')",
    "SET time_zone = DEFAULT",
    "SELECT * FROM t ORDER BY id",
    "SELECT * FROM k ORDER BY k",
    "SELECT * FROM m ORDER BY a, b",
    "DELETE FROM k",
    "SELECT 1",
];

/// Differences that the docs name: a write that does not parse is refused by the proxy before its store sees it.
const REFUSED_ALIKE: &[&str] = &["INSERT INTO t (n) VALUES (1"];

pub(super) fn show(packets: &[(u8, Vec<u8>)]) -> String {
    packets.iter().map(|(n, p)| format!("{n} {}", p.escape_ascii())).collect::<Vec<_>>().join("\n")
}

fn compare(direct: u16, proxied: u16, capabilities: Capabilities, found: &str) {
    let mut plain = Raw::app(direct, capabilities, "d");
    let mut through = Raw::app(proxied, capabilities, "d");
    for text in TEXTS {
        for raw in [&mut plain, &mut through] {
            raw.send(3, text.as_bytes());
        }
        let (expected, got) = (plain.response(Expect::Results), through.response(Expect::Results));
        if REFUSED_ALIKE.contains(text) {
            assert!(Raw::error(&expected).is_some() && Raw::error(&got).is_some(), "{text}");
            continue;
        }
        if text.contains("NOW(") {
            assert_eq!(expected.len(), got.len(), "{text}");
            continue;
        }
        // (a column of the time of day differs)
        if text.starts_with("SELECT * FROM t") {
            assert_eq!(expected.len(), got.len(), "{found}: {text}");
            continue;
        }
        assert!(expected == got, "{found}: {text}\n--- direct\n{}\n--- recorded\n{}", show(&expected), show(&got));
    }
}

pub(super) fn emptied(servers: &[&PrivateServer]) {
    for server in servers {
        for table in ["t", "k", "m"] {
            server.sql(&format!("DELETE FROM d.{table}"));
        }
        server.sql("ALTER TABLE d.t AUTO_INCREMENT = 1");
    }
}

/// RULES.md 45: OK packets, LAST_INSERT_ID, ROW_COUNT, FOUND_ROWS, warnings and flags, to the byte.
#[test]
fn the_client_sees_the_same_bytes() {
    let direct = PrivateServer::start(13, WITHOUT_BINLOG);
    direct.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    statements(&direct, SCHEMA);
    let mut kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    for (name, more) in [
        ("ordinary", Capabilities::empty()),
        ("found rows", Capabilities::FOUND_ROWS),
        ("multi statements", Capabilities::MULTI_STATEMENTS | Capabilities::MULTI_RESULTS),
        ("without EOF", Capabilities::DEPRECATE_EOF),
    ] {
        compare(direct.port, kept.proxy.port, ORDINARY | more, name);
        catch_up(&kept);
        kept.assert_same();
        kept.proxy.kill();
        emptied(&[&direct, &kept.authority, &kept.standby]);
        kept.proxy.restart();
    }
}

/// What cannot be recorded is refused, and nothing of it is done.
#[tokio::test]
async fn what_cannot_be_recorded_is_refused() {
    let kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("INSERT INTO t (id, n) VALUES (1, 1), (2, 2)").await.unwrap();
    kept.authority.sql("CREATE DATABASE other");
    for sql in [
        "UPDATE t, k SET t.n = 1",
        "DELETE FROM t WHERE n < RAND()",
        "DELETE FROM t ORDER BY UUID() LIMIT 1",
        "DELETE FROM t WHERE LAST_INSERT_ID(n) = 1",
        "UPDATE t SET id = id + 1 LIMIT 1",
        "UPDATE t SET n = 9, id = n WHERE id = 1",
        "UPDATE k SET k = CONCAT(k, 'x')",
        "INSERT INTO t (n) VALUES (1) RETURNING id",
        "INSERT INTO t (id, n) VALUES (NULL, 1), (9, 2)",
        "INSERT INTO t (id, n) VALUES (0, 1), (0, 2)",
        "INSERT INTO k VALUES (UUID(), 1)",
        "INSERT INTO k SELECT v, n FROM t LIMIT 1",
        "INSERT INTO k SELECT v, RAND() FROM t",
        "INSERT INTO k SELECT * FROM t",
        "INSERT INTO k SELECT CONCAT(k, 'x'), n FROM k",
        "INSERT INTO k SELECT v, 1 FROM t ON DUPLICATE KEY UPDATE n = 2",
        "INSERT IGNORE INTO t (n) SELECT n FROM t",
        "REPLACE INTO k SELECT v, n FROM t",
        "INSERT INTO m VALUES (1, 'a', NULL, 1) ON DUPLICATE KEY UPDATE u = 7",
        "TRUNCATE t",
        "ALTER TABLE t ADD x INT",
        "DROP TABLE t",
        "LOCK TABLES t WRITE",
        "BEGIN NOT ATOMIC DELETE FROM t; END",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE t",
    ] {
        let error = match c.query_iter(sql).await {
            Ok(result) => result.drop_result().await.err(),
            Err(error) => Some(error),
        };
        let error = error.unwrap_or_else(|| panic!("{sql} was let through"));
        assert!(error.to_string().contains("cannot be recorded"), "{sql}: {error}");
    }
    assert_eq!(kept.authority.sql("SELECT COUNT(*), SUM(n) FROM d.t")[0], ["2", "3"]);
    catch_up(&kept);
    kept.assert_same();
}

/// A transaction that is gone leaves no entries: reset by the client, or ended by its store with an error that says nothing of it.
#[tokio::test]
async fn what_was_rolled_back_is_not_entered() {
    let arguments = [WITHOUT_BINLOG, &["--innodb-rollback-on-timeout=1"]].concat();
    let kept = kept_with(Ids::Sequence, START, SCHEMA, &arguments);
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("INSERT INTO counters VALUES (1, 0), (2, 0), (3, 0)").await.unwrap();
    c.query_drop("BEGIN").await.unwrap();
    c.query_drop("UPDATE counters SET n = 7 WHERE id = 1").await.unwrap();
    c.reset().await.unwrap();
    c.query_drop("BEGIN").await.unwrap();
    c.query_drop("UPDATE counters SET n = 1 WHERE id = 2").await.unwrap();
    c.query_drop("COMMIT").await.unwrap();
    let mut other = kept.proxy.connect("d").await;
    other.query_drop("BEGIN").await.unwrap();
    other.query_drop("UPDATE counters SET n = 2 WHERE id = 3").await.unwrap();
    for end in ["COMMIT", "UPDATE counters SET n = 5 WHERE id = 2", "SELECT n FROM counters WHERE id = 3 FOR UPDATE"] {
        c.query_drop("SET innodb_lock_wait_timeout = 1").await.unwrap();
        c.query_drop("BEGIN").await.unwrap();
        c.query_drop("UPDATE counters SET n = n + 100 WHERE id = 1").await.unwrap();
        let late = c.query_drop("SELECT n FROM counters WHERE id = 3 FOR UPDATE").await.unwrap_err();
        assert!(late.to_string().contains("1205"), "{late}");
        let _ = c.query_drop(end).await;
        c.query_drop("COMMIT").await.unwrap();
    }
    other.query_drop("COMMIT").await.unwrap();
    assert_eq!(kept.authority.sql("SELECT GROUP_CONCAT(n ORDER BY id) FROM d.counters")[0][0], "0,5,2");
    catch_up(&kept);
    kept.assert_same();
}

/// More changes than fit one entry, one statement, or one packet.
#[tokio::test]
async fn large_writes_are_recorded_in_parts() {
    let arguments = [WITHOUT_BINLOG, &["--max-allowed-packet=16M"]].concat();
    let kept = kept_with(Ids::Sequence, START, SCHEMA, &arguments);
    let mut c = kept.proxy.connect("d").await;
    for n in 0..12 {
        c.query_drop(format!(
            "INSERT INTO m (a, b, v) VALUES ({n}, 'abc', REPEAT(CHAR({n} + 65), 60000)), (-1{n}, 'abc', REPEAT(X'00', 65000))"
        ))
        .await
        .unwrap();
    }
    kept.authority.sql("CREATE TABLE d.big (id INT PRIMARY KEY, v LONGBLOB)");
    kept.standby.sql("CREATE TABLE d.big (id INT PRIMARY KEY, v LONGBLOB)");
    let mut kept = kept;
    kept.proxy.restart();
    let mut c = kept.proxy.connect("d").await;
    for n in 0..12 {
        c.query_drop(format!("INSERT INTO big VALUES ({n}, REPEAT(CHAR({n} + 60), 1500000))")).await.unwrap();
    }
    c.query_drop("UPDATE big SET v = CONCAT(v, 'x') WHERE id >= 0").await.unwrap();
    c.query_drop("BEGIN").await.unwrap();
    c.query_drop("UPDATE big SET v = CONCAT(v, 'y')").await.unwrap();
    c.query_drop("DELETE FROM big WHERE id IN (3, 4)").await.unwrap();
    c.query_drop("COMMIT").await.unwrap();
    catch_up(&kept);
    kept.assert_same();
    let parts = kept.authority.sql("SELECT MAX(parts), MAX(LENGTH(payload)) < 4000000 FROM switchover.journal");
    assert!(parts[0][0].parse::<u32>().unwrap() > 10 && parts[0][1] == "1", "{parts:?}");
}

/// Counts how often what is sent changes its direction from the store to the proxy and back, on connections of `app`: others watch
/// the store.
fn counting(port: u16) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    let trips = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&trips);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let last = Arc::new(AtomicU8::new(0));
            let counts = Arc::new(AtomicBool::new(false));
            let pass = |mut from: TcpStream, mut to: TcpStream, way: u8| {
                let (last, counter, counts) = (Arc::clone(&last), Arc::clone(&counter), Arc::clone(&counts));
                std::thread::spawn(move || {
                    let mut buffer = [0u8; 65_536];
                    while let Ok(n) = from.read(&mut buffer) {
                        if way == 1 && buffer[..n].windows(5).any(|bytes| bytes == b"\0app\0") {
                            counts.store(true, Ordering::SeqCst);
                        }
                        let turned = last.swap(way, Ordering::SeqCst) != way;
                        if turned && way == 1 && counts.load(Ordering::SeqCst) {
                            counter.fetch_add(1, Ordering::SeqCst);
                        }
                        if n == 0 || to.write_all(&buffer[..n]).is_err() {
                            let _ = to.shutdown(std::net::Shutdown::Both);
                            return;
                        }
                    }
                });
            };
            pass(client.try_clone().unwrap(), server.try_clone().unwrap(), 1);
            pass(server, client, 2);
        }
    });
    (at, trips)
}

/// RULES.md 28: two round trips for a write whose keys the statement fixes; one more where they must be asked for.
#[test]
fn a_write_takes_two_round_trips() {
    let kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    let (port, trips) = counting(kept.authority.port);
    kept.proxy
        .edit_config(|text| text.replace(&format!("127.0.0.1:{}", kept.authority.port), &format!("127.0.0.1:{port}")));
    eventually("the edit is live", || kept.proxy.status()["epoch"] == 2);
    let mut raw = Raw::app(kept.proxy.port, ORDINARY, "d");
    // (what is known of the journal and the table is asked for once in a while)
    let mut counted = |sql: &str| {
        // (text, or an execute)
        let (command, bytes) = match sql.strip_prefix("EXECUTE ") {
            Some(sql) => {
                raw.send(0x16, sql.as_bytes());
                let id: [u8; 4] = raw.response(Expect::Prepare)[0].1[1..5].try_into().unwrap();
                (0x17, [&id[..], &[0, 1, 0, 0, 0, 0, 1, 3, 0, 7, 0, 0, 0]].concat())
            }
            None => (3, sql.as_bytes().to_vec()),
        };
        let counts: Vec<u64> = (0..3)
            .map(|_| {
                let before = trips.load(Ordering::SeqCst);
                raw.send(command, &bytes);
                raw.response(Expect::Results);
                trips.load(Ordering::SeqCst) - before
            })
            .collect();
        counts.into_iter().min().unwrap()
    };
    counted("SELECT 1");
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", ""));
    eventually("without a standby", || kept.proxy.status()["epoch"] == 3);
    assert_eq!(counted("INSERT INTO t (n) VALUES (1)"), 1);
    kept.proxy.edit_config(|text| format!("{text}    standby: new\n"));
    eventually("with it", || kept.proxy.status()["epoch"] == 4);
    kept.standby.freeze();
    std::thread::sleep(Duration::from_millis(1_500));
    for sql in [
        "INSERT INTO t (n) VALUES (1), (2)",
        "UPDATE t SET n = n + 1 WHERE id = 1",
        "DELETE FROM t WHERE n > 100",
        "INSERT INTO k VALUES ('a', 1) ON DUPLICATE KEY UPDATE n = n + 1",
        "EXECUTE INSERT INTO t (n) VALUES (?)",
        "EXECUTE UPDATE t SET n = n + 1 WHERE id = ?",
        "EXECUTE INSERT INTO k VALUES (?, 1) ON DUPLICATE KEY UPDATE n = n + 1",
    ] {
        let n = counted(sql);
        eprintln!("{n} round trips: {sql}");
        assert!(n <= 2, "{n}: {sql}");
    }
    let n = counted("UPDATE t SET n = n + 1 WHERE n < 50");
    eprintln!("{n} round trips: an UPDATE whose keys are not fixed");
    assert!(n <= 3, "{n}");
    kept.standby.thaw();
}

fn statement(dice: &mut Dice) -> String {
    let (a, b) = (dice.roll(40), dice.roll(1_000));
    let word = ["Ab", "ab ", "é", "ß", "x''y", "Z"][dice.roll(6) as usize];
    match dice.roll(16) {
        11..=15 => super::recorded_forms::random(dice),
        0 | 1 => format!("INSERT INTO t (n, v, d) VALUES ({b}, '{word}', NOW(3)), ({a}, NULL, NULL)"),
        2 => format!("UPDATE t SET n = n + 1, v = '{word}' WHERE n % 17 = {}", a % 17),
        3 => format!("DELETE FROM t WHERE n BETWEEN {b} AND {}", b + 40),
        4 => format!("INSERT INTO k VALUES ('k{a}', {b}) ON DUPLICATE KEY UPDATE n = n + 1"),
        5 => format!("REPLACE INTO k VALUES ('K{a}', {b})"),
        6 => format!("DELETE FROM k WHERE k = 'k{a}'"),
        7 => format!("INSERT IGNORE INTO m VALUES ({a}, 'x', '{word}', {b}), ({}, 'y', NULL, NULL)", a + 1),
        8 => format!("UPDATE m SET v = '{word}' WHERE a = {a} AND b IN ('x\\0\\0', 'y\\0\\0')"),
        9 => format!("UPDATE IGNORE m SET u = {b} WHERE a = {a}"),
        _ => format!("DELETE FROM m WHERE a = {a}"),
    }
}

/// Random writers; each transaction that was acknowledged has counted itself.
async fn writer(port: u16, n: u64, isolation: String, over: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut dice = Dice(n * 0x9E37_79B9);
    let mut conn: Option<Conn> = None;
    while !over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            if let Ok(mut c) = Conn::new(mariadb::opts(port).db_name(Some("d"))).await
                && c.query_drop(format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}")).await.is_ok()
            {
                conn = Some(c);
            } else {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        let long = dice.roll(3) == 0;
        let mut texts = Vec::new();
        let plain = |sql: String| (sql, Vec::new());
        let any = |dice: &mut Dice| if dice.roll(2) == 0 { random(dice) } else { plain(statement(dice)) };
        if long {
            texts.push(plain("BEGIN".to_owned()));
            (0..=dice.roll(4)).for_each(|_| texts.push(any(&mut dice)));
            texts.push(plain(format!("UPDATE counters SET n = n + 1 WHERE id = {n}")));
            texts.push(plain(if dice.roll(5) == 0 { "ROLLBACK" } else { "COMMIT" }.to_owned()));
        } else {
            texts.push(any(&mut dice));
        }
        let mut lost = false;
        for (sql, values) in texts {
            let ran = match values.as_slice() {
                [] => c.query_drop(&sql).await,
                _ => c.exec_drop(&sql, values).await,
            };
            match ran {
                Ok(()) => {}
                Err(mysql_async::Error::Server(e)) => {
                    assert!(matches!(e.code, 1213 | 1205 | 1429 | 1062 | 1020 | 1235), "{sql}: {e:?}");
                    assert!(e.code != 1235 || e.message.contains("is not there"), "{sql}: {e:?}");
                }
                Err(_) => lost = true,
            }
        }
        done.fetch_add(1, Ordering::Relaxed);
        if lost {
            conn = None;
        }
    }
}

async fn under_load(kept: &mut Kept, isolation: &str, rounds: u64, kill: bool) {
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (1..=4u64)
        .map(|n| {
            let (over, done) = (Arc::clone(&over), Arc::clone(&done));
            tokio::spawn(writer(kept.proxy.port, n, isolation.to_owned(), over, done))
        })
        .collect();
    let mut dice = Dice(0xD1CE);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(400 + dice.roll(800))).await;
        match round % 3 {
            0 if kill => {
                kept.authority.kill();
                kept.authority.restart();
            }
            1 if kill => {
                kept.standby.kill();
                kept.standby.restart();
            }
            2 if kill => kept.proxy.restart(),
            _ => {}
        }
    }
    eventually("the writers come forward", || done.load(Ordering::Relaxed) > 60);
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    catch_up(kept);
    kept.assert_same();
}

/// RULES.md 38: a write that leaves a row as it is sees what others have committed; the snapshot of its transaction does not. The
/// rows after it are not read from that.
#[tokio::test]
async fn rows_after_a_write_are_no_snapshot() {
    let kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    let (mut a, mut b) = (kept.proxy.connect("d").await, kept.proxy.connect("d").await);
    a.query_drop("INSERT INTO m VALUES (1, 'x', 'old', 1), (2, 'x', 'old', 2), (3, 'x', 'old', 3)").await.unwrap();
    a.query_drop("INSERT INTO k VALUES ('a', 1), ('b', 1)").await.unwrap();
    a.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    for (n, write) in [
        "UPDATE m SET v = 'new' WHERE a = 1 AND b = 'x\\0\\0'",
        "UPDATE m SET v = 'new' WHERE u < 10",
        "UPDATE m SET v = 'new' ORDER BY u LIMIT 2",
        "INSERT INTO k VALUES ('a', 9) ON DUPLICATE KEY UPDATE n = 5",
        "INSERT INTO m VALUES (7, 'q', NULL, 1) ON DUPLICATE KEY UPDATE v = 'new'",
    ]
    .into_iter()
    .enumerate()
    {
        b.query_drop("UPDATE m SET v = 'old'").await.unwrap();
        b.query_drop("UPDATE k SET n = 1").await.unwrap();
        a.query_drop("BEGIN").await.unwrap();
        let _: Vec<(i64, i64)> = a.query("SELECT a, u FROM m").await.unwrap();
        b.query_drop("UPDATE m SET v = 'new'").await.unwrap();
        b.query_drop("UPDATE k SET n = 5").await.unwrap();
        a.query_drop(write).await.unwrap();
        a.query_drop(format!("INSERT INTO counters VALUES ({n}, 0)")).await.unwrap();
        a.query_drop("COMMIT").await.unwrap();
        catch_up(&kept);
        kept.assert_same();
    }
}

/// In both isolation levels, whatever phantoms come between a reading and its write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_hold_what_clients_wrote() {
    let mut kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    kept.proxy
        .connect("d")
        .await
        .query_drop("INSERT INTO counters VALUES (1, 0), (2, 0), (3, 0), (4, 0)")
        .await
        .unwrap();
    let rounds = if long() { 100 } else { 5 };
    under_load(&mut kept, "REPEATABLE READ", rounds, false).await;
    under_load(&mut kept, "READ COMMITTED", rounds, false).await;
    under_load(&mut kept, "SERIALIZABLE", rounds / 2, false).await;
}

/// `kill -9` of the proxy, of the authority and of the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_clients_wrote_is_lost() {
    for ids in [Ids::Sequence, Ids::Row] {
        let mut kept = kept_with(ids, START, SCHEMA, WITHOUT_BINLOG);
        kept.proxy
            .connect("d")
            .await
            .query_drop("INSERT INTO counters VALUES (1, 0), (2, 0), (3, 0), (4, 0)")
            .await
            .unwrap();
        under_load(&mut kept, "READ COMMITTED", if long() { 90 } else { 6 }, true).await;
    }
}
