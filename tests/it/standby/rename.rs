//! The seal by `rename`: MariaDB poses as a store without triggers, by `seal: rename`. The same proofs as for triggers, and what
//! only this seal has to show: reads that meet it, DDL that does not pass it, a table at both places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::cutover::{TABLES, Two, authority, flag, forth_and_back};
use super::cutover_deaths::{conductor_dies, proxy_sleeps, seals, store_dies};
use super::{Form, Kept, fallback, place, sums};
use crate::support::{Proxy, Server, clients, eventually, long};

const BOTH: Form<'static> = Form { without: &[], renames: &["legacy", "new"] };
const NEW: Form<'static> = Form { without: &[], renames: &["new"] };

/// Forth and back by an operator: what `init` says, where the tables are, who is refused, and by what.
#[test]
fn the_tables_move_away_and_come_back() {
    let kept = Kept::start_as(TABLES, &[], BOTH);
    let run = |sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", sql]);
    let again = kept.proxy.cli(&["init"]);
    assert!(again.ok && again.stdout.contains("new: sealed by rename"), "{}{}", again.stdout, again.stderr);
    assert_eq!((place(&kept.authority).as_str(), place(&kept.standby).as_str()), ("d", "switchover_sealed_d"));
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 1)").ok);
    kept.catch_up();
    flag(&kept.proxy, "new");
    assert_eq!((place(&kept.authority).as_str(), place(&kept.standby).as_str()), ("switchover_sealed_d", "d"));
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 2)").ok);
    eventually("legacy follows", || kept.authority.sql("SELECT COUNT(*) FROM switchover_sealed_d.t")[0][0] == "2");
    // parts of many rows go there as row events
    let many: Vec<String> = (100..300).map(|n| format!("(5, {n})")).collect();
    assert!(run(&format!("INSERT INTO t (writer, n) VALUES {}", many.join(", "))).ok);
    assert!(run("BEGIN; UPDATE t SET n = -n WHERE writer = 5; DELETE FROM t WHERE n < -200; COMMIT").ok);
    let same = || sums(&kept.authority, &["t", "sums"]) == sums(&kept.standby, &["t", "sums"]);
    eventually("both stores are the same", same);
    // what a seal of triggers lets pass
    for ddl in ["TRUNCATE t", "ALTER TABLE t ADD c INT", "INSERT INTO t (writer, n) VALUES (9, 9)", "SELECT * FROM t"] {
        let stray = clients::mariadb(kept.authority.port, &["-Dd", "-e", ddl]);
        assert!(!stray.ok && stray.stderr.contains("ERROR 1146 (42S02)"), "{ddl}: {}", stray.stderr);
    }
    // a table that is nowhere is nowhere
    let honest = run("SELECT * FROM nowhere");
    assert!(
        honest.stderr.contains("ERROR 1146 (42S02) at line 1: Table 'd.nowhere' doesn't exist"),
        "{}",
        honest.stderr
    );
    let honest = run("INSERT INTO nowhere VALUES (1)");
    assert!(honest.stderr.contains("ERROR 1146"), "{}", honest.stderr);
    a_table_at_both_places_is_told(&kept);
    a_view_is_told(&kept);
    flag(&kept.proxy, "legacy");
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 3)").ok);
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.t WHERE writer = 1")[0][0], "3");
    eventually("both stores are the same again", same);
    kept.assert_same();
    // the ways are changed while a seal is on: it stays, and the next one is of the other kind
    kept.proxy.edit_config(|text| text.replace("seal: rename", "seal: trigger"));
    eventually("it is read", || kept.proxy.cli(&["flag", "analytics", "new", "--dry-run"]).ok);
    flag(&kept.proxy, "new");
    eventually("legacy is sealed by triggers", || seals(&kept.authority) == (6, 0));
    assert_eq!(seals(&kept.standby), (0, 0));
    let ended = kept.proxy.cli(&["standby", "end", "analytics"]);
    assert!(ended.ok, "{}{}", ended.stdout, ended.stderr);
    assert_eq!((seals(&kept.authority), seals(&kept.standby)), ((0, 0), (0, 0)));
}

/// Somebody makes a table on the sealed store: nothing is dropped, and no cutover goes there, until somebody has looked.
fn a_table_at_both_places_is_told(kept: &Kept) {
    kept.authority.sql("CREATE TABLE d.t (id INT)");
    let refused = kept.proxy.cli(&["flag", "analytics", "legacy"]);
    let text = refused.stderr;
    assert!(!refused.ok && text.contains("at d.t and one at switchover_sealed_d.t"), "{text}");
    kept.authority.sql("DROP TABLE d.t");
}

/// A view that the group does not list would fail while the tables are away.
fn a_view_is_told(kept: &Kept) {
    kept.standby.sql("CREATE DATABASE v");
    kept.standby.sql("CREATE VIEW v.seen AS SELECT n FROM d.t");
    let refused = kept.proxy.cli(&["flag", "analytics", "legacy"]);
    let text = refused.stderr;
    assert!(!refused.ok && text.contains("the view v.seen reads d.t"), "{text}");
    kept.standby.sql("DROP DATABASE v");
}

/// A proxy reads the group in every way in which reads come; any error counts, and any answer that is not whole.
async fn reads(port: u16, over: Arc<AtomicBool>, longest: Arc<AtomicU64>) -> Vec<String> {
    // (a full cache would close the one that is kept)
    let opts = crate::support::mariadb::opts(port).db_name(Some("d")).stmt_cache_size(0);
    let mut conn = Conn::new(opts).await.unwrap();
    let kept = conn.prep("SELECT COUNT(*) FROM sums WHERE writer < ?").await.unwrap();
    let (mut said, mut n) = (Vec::new(), 0u64);
    while !over.load(Ordering::Relaxed) {
        n += 1;
        let began = Instant::now();
        let read: mysql_async::Result<Option<u64>> = match n % 8 {
            0 => conn.exec_first(&kept, (n,)).await,
            1 => conn.exec_first(format!("SELECT COUNT(*) FROM t WHERE writer = ? AND {n} > 0"), (n,)).await,
            2 => conn.query_first("SELECT 1; SELECT COUNT(*) FROM t").await,
            3 => {
                async {
                    conn.query_drop("START TRANSACTION READ ONLY").await?;
                    let read = conn.query_first("SELECT COUNT(*) FROM sums").await?;
                    conn.query_drop("COMMIT").await?;
                    Ok(read)
                }
                .await
            }
            4 => {
                conn.query_first(
                    "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME = 't'",
                )
                .await
            }
            5 => conn
                .query_first("SHOW COLUMNS FROM t LIKE 'n'")
                .await
                .map(|row: Option<mysql_async::Row>| row.map(|_| 1)),
            6 => {
                async {
                    conn.query_drop("PREPARE s FROM 'SELECT COUNT(*) FROM t'").await?;
                    conn.query_first("EXECUTE s").await
                }
                .await
            }
            _ => conn.query_first("SELECT COUNT(*) FROM t").await,
        };
        longest.fetch_max(u64::try_from(began.elapsed().as_micros()).unwrap(), Ordering::Relaxed);
        match read {
            Ok(Some(1)) => {}
            Ok(Some(_)) if n % 8 != 4 => {}
            other => {
                said.push(format!("read {n}, of kind {}: {other:?}", n % 8));
                return said;
            }
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let _ = conn.disconnect().await;
    said
}

/// Cutovers forth and back under writers and readers at two proxies.
async fn under_reads(form: Form<'static>, rounds: u64) {
    let two = Two::start_as(TABLES, form);
    let (over, longest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let readers: Vec<_> = [two.kept.proxy.port, two.second.port, two.kept.proxy.port, two.second.port]
        .map(|port| tokio::spawn(reads(port, Arc::clone(&over), Arc::clone(&longest))))
        .into();
    forth_and_back(&two, rounds).await;
    over.store(true, Ordering::Relaxed);
    let mut said = Vec::new();
    for reader in readers {
        said.extend(reader.await.unwrap());
    }
    assert!(said.is_empty(), "{said:#?}\n{}\n{}", two.kept.proxy.log(), two.second.log());
    let longest = longest.load(Ordering::Relaxed) / 1_000;
    eprintln!("the longest read took {longest} ms");
    assert!(longest < 5_000, "a read waited for {longest} ms");
}

/// Both stores sealed by `rename`; then one so, and the other by triggers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_tables_move() {
    under_reads(BOTH, if long() { 200 } else { 6 }).await;
    under_reads(NEW, if long() { 100 } else { 2 }).await;
}

/// The proxy that conducts is killed at every step; in the long form either store is too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_conductor_dies_while_tables_move() {
    conductor_dies(Two::start_as(TABLES, BOTH)).await;
    if long() {
        store_dies(Two::start_as(TABLES, BOTH)).await;
    }
}

/// A proxy with an old epoch wakes up behind a whole cutover: its clients' writes and reads go to the new authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proxy_sleeps_while_tables_move() {
    if long() {
        proxy_sleeps(Two::start_as(TABLES, BOTH)).await;
    }
    let two = Two::start_as(TABLES, BOTH);
    let connect = || async { two.kept.proxy.connect("d").await };
    let (mut writes, mut reads, mut binds, mut uses) =
        (connect().await, connect().await, connect().await, connect().await);
    two.kept.authority.sql("CREATE DATABASE o");
    two.kept.authority.sql("CREATE TABLE o.other (id INT PRIMARY KEY)");
    let insert = writes.prep("INSERT INTO t (writer, n) VALUES (?, ?)").await.unwrap();
    let count = reads.prep("SELECT COUNT(*) FROM t WHERE writer = ?").await.unwrap();
    // nothing of it has run; and one that holds a snapshot of the store
    binds.query_drop("BEGIN").await.unwrap();
    uses.query_drop("BEGIN").await.unwrap();
    uses.query_drop("INSERT INTO o.other VALUES (1)").await.unwrap();
    two.kept.proxy.signal(rustix::process::Signal::STOP);
    let done = two.second.cli(&["flag", "analytics", "new"]);
    assert!(done.ok, "{}{}", done.stdout, done.stderr);
    let said = tokio::spawn(async move {
        writes.exec_drop(&insert, (7, 1)).await.unwrap();
        let read: Option<u64> = reads.exec_first(&count, (7,)).await.unwrap();
        assert_eq!(read, Some(1));
        let read: Option<u64> = reads.query_first("SELECT COUNT(*) FROM t").await.unwrap();
        assert_eq!(read, Some(1));
        binds.query_drop("INSERT INTO t (writer, n) VALUES (8, 1)").await.unwrap();
        binds.query_drop("COMMIT").await.unwrap();
        // routed by what its proxy knows by then
        match uses.query_drop("INSERT INTO t (writer, n) VALUES (9, 1)").await {
            Ok(()) => uses.query_drop("COMMIT").await.map(|()| true).unwrap(),
            Err(Error::Server(error)) if error.code == 1213 => false,
            other => panic!("{other:?}"),
        }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.kept.proxy.signal(rustix::process::Signal::CONT);
    let committed = said.await.unwrap();
    let rows = two.kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0].clone();
    assert_eq!(rows, if committed { "3" } else { "2" });
    assert_eq!(two.kept.authority.sql("SELECT COUNT(*) FROM o.other")[0][0], if committed { "1" } else { "0" });
    assert!(met_seals(&two.kept.proxy) > 0, "the proxy counts what its sessions met: {:#}", authority(&two.kept.proxy));
}

fn met_seals(proxy: &Proxy) -> u64 {
    authority(proxy)["seals"].as_u64().unwrap()
}

/// `kill -9` of the authority with `fallback: auto`: the standby's tables come back, nothing is lost, and it follows again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_authority_is_given_up() {
    let kept = Kept::start_as(fallback::TABLES, &[], BOTH);
    fallback::is_given_up(fallback::reached(kept, fallback::AUTO, None)).await;
}

/// Foreign keys, partitions and counters go with their tables; a trigger of the application's keeps a table where it is.
#[test]
fn what_hangs_on_a_table_moves_with_it() {
    let schema = "CREATE TABLE parents (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(20));
CREATE TABLE children (id INT PRIMARY KEY AUTO_INCREMENT, parent INT, \
        CONSTRAINT of_parent FOREIGN KEY (parent) REFERENCES parents (id) ON DELETE CASCADE);
CREATE TABLE parts (id INT PRIMARY KEY, n INT) PARTITION BY HASH (id) PARTITIONS 3";
    let kept = Kept::start_as(schema, &[], BOTH);
    let run = |sql: &str| {
        let done = clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", sql]);
        assert!(done.ok, "{sql}: {}", done.stderr);
        done.stdout
    };
    run("INSERT INTO parents (name) VALUES ('a'), ('b'); INSERT INTO children (parent) VALUES (1), (1), (2)");
    run("INSERT INTO parts VALUES (1, 1), (2, 2), (3, 3)");
    kept.catch_up();
    flag(&kept.proxy, "new");
    run(
        "DELETE FROM parents WHERE id = 1; INSERT INTO children (parent) VALUES (2); UPDATE parts SET n = 9 WHERE id = 3",
    );
    assert_eq!(run("SELECT GROUP_CONCAT(id) FROM children").trim(), "3,4");
    let same = |server: &Server| {
        let d = place(server);
        server.sql(&format!("SELECT (SELECT GROUP_CONCAT(id) FROM {d}.children), (SELECT SUM(n) FROM {d}.parts)"))
    };
    eventually("the standby has it", || same(&kept.authority) == same(&kept.standby));
    flag(&kept.proxy, "legacy");
    run("INSERT INTO children (parent) VALUES (2)");
    assert_eq!(run("SELECT MAX(id) FROM children").trim(), "5");
    let wrong = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO children (parent) VALUES (77)"]);
    assert!(wrong.stderr.contains("ERROR 1452"), "{}", wrong.stderr);
    kept.assert_same();
    kept.authority.sql("CREATE TRIGGER d.own BEFORE INSERT ON d.parts FOR EACH ROW SET NEW.n = 1");
    let refused = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(!refused.ok && refused.stderr.contains("DROP TRIGGER `d`.`own`"), "{}", refused.stderr);
    // (who skips that comes to a store that does not move such a table, and to a cutover that is given up)
    let forced = kept.proxy.cli(&["flag", "analytics", "new", "--force"]);
    assert!(
        !forced.ok && forced.stderr.contains("a table with a trigger cannot be sealed by rename"),
        "{}",
        forced.stderr
    );
    eventually("nothing has changed", || authority(&kept.proxy)["settled"] == true);
    assert_eq!(place(&kept.authority), "d");
    run("INSERT INTO parts VALUES (4, 4)");
}
