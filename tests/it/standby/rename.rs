//! The seal by `rename`: MariaDB poses as a store without triggers, by `seal: rename`. The same proofs as for triggers, and what
//! only this seal has to show: reads that meet it, DDL that does not pass it, views that keep the tables' names, a table at both
//! places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use super::cutover::{TABLES, Two, authority, flag, forth_and_back};
use super::cutover_deaths::{conductor_dies, proxy_sleeps, seals, store_dies};
use super::{Form, Kept, fallback, place, sums};
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Proxy, Server, clients, eventually, long};
use switchover::wire::reply::Expect;

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
    for (sql, code) in PASSES_TRIGGERS {
        let stray = clients::mariadb(kept.authority.port, &["-Dd", "-e", sql]);
        assert!(!stray.ok && stray.stderr.contains(&format!("ERROR {code}")), "{sql}: {}", stray.stderr);
    }
    assert_eq!((views(&kept.authority), views(&kept.standby)), (["sums", "t"].map(String::from).into(), Vec::new()));
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
    a_view_in_the_way_is_told(&kept);
    a_view_is_told(&kept);
    flag(&kept.proxy, "legacy");
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 3)").ok);
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.t WHERE writer = 1")[0][0], "3");
    eventually("both stores are the same again", same);
    kept.assert_same();
    assert_eq!((views(&kept.authority).len(), views(&kept.standby).len()), (0, 2));
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

/// What a seal of triggers does not refuse, and what is nobody's without rights to it; and the error of each.
const PASSES_TRIGGERS: [(&str, u16); 10] = [
    ("TRUNCATE t", 1146),
    ("ALTER TABLE t ADD c INT", 1347),
    ("CREATE TABLE t (id INT)", 1050),
    ("CREATE TABLE IF NOT EXISTS t (id INT); INSERT INTO t VALUES (1)", 1356),
    ("CREATE OR REPLACE TABLE t (id INT)", 1965),
    ("DROP TABLE t", 1965),
    ("DROP TABLE IF EXISTS t; CREATE TABLE t (id INT)", 1050),
    ("LOCK TABLES t WRITE", 1356),
    ("INSERT INTO t (writer, n) VALUES (9, 9)", 1356),
    ("SELECT * FROM t", 1356),
];

/// Views in `d`, and in the schema `switchover` what only makes them.
/// `init` writes down where the copy begins, and then seals: an applier that has begun in between looks for the tables again.
#[test]
fn an_applier_of_before_the_seal_finds_the_tables() {
    let kept = Kept::start_as(TABLES, &[], NEW);
    let run = |sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-e", sql]);
    let many: Vec<String> = (100..300).map(|n| format!("(5, {n})")).collect();
    let texts = [
        "INSERT INTO t (writer, n) VALUES (1, 1)",
        "UPDATE t SET n = 2 WHERE writer = 1",
        "DELETE FROM t WHERE writer = 1",
    ];
    let events = format!("INSERT INTO t (writer, n) VALUES {}", many.join(", "));
    for (round, text) in texts.into_iter().chain([events.as_str()]).enumerate() {
        for table in ["sums", "t"] {
            kept.standby.sql(&format!("DROP VIEW d.{table}"));
            kept.standby.sql(&format!("RENAME TABLE switchover_sealed_d.{table} TO d.{table}"));
        }
        assert!(run(&format!("INSERT INTO t (writer, n) VALUES (2, {round})")).ok);
        kept.catch_up();
        let init = kept.proxy.cli(&["init"]);
        assert!(init.ok && place(&kept.standby) == "switchover_sealed_d", "{}{}", init.stdout, init.stderr);
        assert!(run(text).ok);
        eventually("it is applied", || sums(&kept.authority, &["t", "sums"]) == sums(&kept.standby, &["t", "sums"]));
    }
}

fn views(server: &Server) -> Vec<String> {
    let sql = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' AND TABLE_TYPE = 'VIEW' \
               OR TABLE_SCHEMA = 'switchover' AND TABLE_NAME LIKE 'sealed\\_by%' ORDER BY 1";
    server.sql(sql).concat()
}

/// Somebody makes a table on the sealed store nevertheless: it is told, nothing is dropped, and no cutover goes there, until somebody
/// has looked; then the view is back.
fn a_table_at_both_places_is_told(kept: &Kept) {
    kept.authority.sql("DROP VIEW d.t");
    kept.authority.sql("CREATE TABLE d.t (id INT)");
    let strays = || authority(&kept.proxy)["strays"].as_array().unwrap().clone();
    eventually("it is told", || strays().len() == 1);
    let line = strays()[0].as_str().unwrap().to_owned();
    assert!(line.starts_with("legacy: somebody has made d.t") && line.contains("DROP TABLE `d`.`t`"), "{line}");
    let shown = kept.proxy.cli(&["standby", "show"]);
    assert!(shown.stdout.contains("stray     legacy: somebody has made d.t"), "{}", shown.stdout);
    let noted = kept.authority.sql("SELECT table_name, account, statement FROM switchover.refused");
    assert!(
        noted[0][0] == "d.t" && noted[0][1].starts_with("unknown") && noted[0][2].contains("`id` int"),
        "{noted:?}"
    );
    let refused = kept.proxy.cli(&["flag", "analytics", "legacy"]);
    let text = refused.stderr;
    assert!(!refused.ok && text.contains("at d.t and one at switchover_sealed_d.t"), "{text}");
    kept.authority.sql("DROP TABLE d.t");
    eventually("its name is kept again", || views(&kept.authority) == ["sums", "t"]);
    eventually("nothing is told any more", || strays().is_empty());
}

/// The same, of a view: the seal could not be taken off.
fn a_view_in_the_way_is_told(kept: &Kept) {
    kept.authority.sql("CREATE OR REPLACE VIEW d.t AS SELECT 1 AS n");
    eventually("it is told", || authority(&kept.proxy)["strays"].to_string().contains("DROP VIEW"));
    let refused = kept.proxy.cli(&["flag", "analytics", "legacy"]);
    assert!(!refused.ok && refused.stderr.contains("somebody has made a view at d.t"), "{}", refused.stderr);
    assert_eq!(kept.authority.sql("SELECT n FROM d.t"), [["1"]]);
    kept.authority.sql("DROP VIEW d.t");
    eventually("its name is kept again", || views(&kept.authority) == ["sums", "t"]);
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
pub(super) async fn under_reads(form: Form<'static>, rounds: u64) {
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

/// A writer that nobody remembers, at the store that is sealed, once there is a table of its own: how many rows it was told of.
async fn writes_a_stray(port: u16, over: Arc<AtomicBool>) -> u64 {
    let mut conn = Conn::new(crate::support::mariadb::opts(port).db_name(Some("d"))).await.unwrap();
    let mut told = 0;
    while !over.load(Ordering::Relaxed) {
        // (where its table is gone, it writes nothing: a view that refers to nothing, then a column without a value)
        match conn.query_drop("INSERT INTO t (id) VALUES (7)").await {
            Ok(()) => told += 1,
            Err(Error::Server(error)) if matches!(error.code, 1356 | 1364) => {}
            other => panic!("{other:?}"),
        }
    }
    told
}

/// What somebody has made at the standby keeps no fallback from taking over: it is put aside, told, and kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_puts_strays_aside() {
    for trigger in [false, true] {
        let schema = format!("{};\nCREATE TABLE u (id INT PRIMARY KEY)", fallback::TABLES);
        let mut kept = fallback::reached(Kept::start_as(&schema, &[], BOTH), fallback::AUTO, None);
        let mut conn = kept.proxy.connect("d").await;
        for n in 1..=20 {
            conn.query_drop(format!("INSERT INTO t VALUES ({n}, 1)")).await.unwrap();
        }
        kept.authority.sql("DROP VIEW d.t");
        kept.authority.sql("CREATE TABLE d.t (id INT)");
        kept.authority.sql("CREATE OR REPLACE VIEW d.u AS SELECT 1 AS n");
        if trigger {
            kept.authority.sql("CREATE TRIGGER d.own BEFORE INSERT ON d.t FOR EACH ROW SET NEW.id = 8");
        }
        let strays = |kept: &Kept| authority(&kept.proxy)["strays"].as_array().unwrap().clone();
        eventually("they are told", || strays(&kept).len() == 2);
        let over = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(writes_a_stray(kept.authority.port, Arc::clone(&over)));
        tokio::time::sleep(Duration::from_millis(300)).await;
        kept.standby.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let done = conn.query_drop("INSERT INTO t VALUES (1000, 1)").await;
        done.unwrap_or_else(|e| panic!("{e}\n{}", kept.proxy.log()));
        over.store(true, Ordering::Relaxed);
        let told = writer.await.unwrap();
        assert_eq!(authority(&kept.proxy)["store"], "legacy");
        assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.t"), [["21"]]);
        let epoch = &authority(&kept.proxy)["epoch"];
        let table = format!("{}.switchover_stray_{epoch}_t", if trigger { "d" } else { "switchover_sealed_d" });
        assert!(told > 0);
        assert_eq!(kept.authority.sql(&format!("SELECT COUNT(*) FROM {table}")), [[told.to_string()]]);
        assert_eq!(kept.authority.sql(&format!("SELECT n FROM d.switchover_stray_{epoch}_u")), [["1"]]);
        they_are_told_aside(&kept, &table);
        // the old authority follows by a log in which they were renamed
        kept.standby.restart();
        eventually("the old authority follows", || authority(&kept.proxy)["settled"] == true);
        conn.query_drop("INSERT INTO t VALUES (1001, 1)").await.unwrap();
        let there = || kept.standby.sql("SELECT COUNT(*) FROM switchover_sealed_d.t")[0][0] == "22";
        eventually("it has all rows", there);
        eventually("it can move", || kept.proxy.cli(&["flag", "analytics", "new", "--dry-run"]).ok);
        flag(&kept.proxy, "new");
        kept.authority.sql(&format!("DROP TABLE {table}"));
        kept.authority.sql(&format!("DROP VIEW d.switchover_stray_{epoch}_u"));
        eventually("nothing is told any more", || strays(&kept).is_empty());
        eventually("legacy follows", || kept.show()["state"] == "applying");
    }
}

/// In the log, in `switchover.refused`, in status and by the CLI; and nobody is told to drop what has the name now.
fn they_are_told_aside(kept: &Kept, table: &str) {
    let (database, name) = table.split_once('.').unwrap();
    let drops = format!("DROP TABLE `{database}`.`{name}`");
    eventually("it is told that they are put aside", || {
        let told = authority(&kept.proxy)["strays"].to_string();
        told.contains(&drops) && told.contains("is a view that somebody had made at d.u") && !told.contains("has made")
    });
    let shown = kept.proxy.cli(&["standby", "show"]).stdout;
    assert!(shown.contains("the fallback has put it aside") && shown.contains(&drops), "{shown}");
    assert!(kept.proxy.log().contains("the fallback has put it aside"), "{}", kept.proxy.log());
    let noted = "SELECT statement FROM switchover.refused WHERE table_name = 'd.t' AND account LIKE '%put aside by the fallback%'";
    assert!(kept.authority.sql(noted)[0][0].contains(name), "{:?}", kept.authority.sql(noted));
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

/// A writer that nobody remembers, at both stores, which begins as an ORM does: whatever it was told of is on both.
async fn forgotten(port: u16, writer: u64, over: Arc<AtomicBool>) -> (Vec<u64>, u64) {
    let mut conn = Conn::new(crate::support::mariadb::opts(port).db_name(Some("d"))).await.unwrap();
    let make = "CREATE TABLE IF NOT EXISTS t (id BIGINT PRIMARY KEY AUTO_INCREMENT, writer INT NOT NULL, n INT NOT NULL, UNIQUE (writer, n))";
    let (mut told, mut refused, mut n) = (Vec::new(), 0, 0);
    while !over.load(Ordering::Relaxed) {
        n += 1;
        conn.query_drop(make).await.unwrap();
        match conn.query_drop(format!("INSERT INTO t (writer, n) VALUES ({writer}, {n})")).await {
            Ok(()) => told.push(n),
            Err(Error::Server(error)) if error.code == 1356 => refused += 1,
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (told, refused)
}

/// Its CREATE TABLE comes at every moment of cutovers forth and back, and never makes a table where one is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_name_is_free_for_a_moment() {
    let two = Two::start_as(TABLES, BOTH);
    let over = Arc::new(AtomicBool::new(false));
    let ports = [two.kept.authority.port, two.kept.standby.port, two.kept.authority.port, two.kept.standby.port];
    let writers = [61u64, 62, 63, 64].into_iter().zip(ports);
    let writers: Vec<_> = writers.map(|(n, port)| (n, tokio::spawn(forgotten(port, n, Arc::clone(&over))))).collect();
    for round in 0..if long() { 60 } else { 6 } {
        flag(&two.kept.proxy, if round % 2 == 0 { "new" } else { "legacy" });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    over.store(true, Ordering::Relaxed);
    eventually("both stores are the same", || {
        sums(&two.kept.authority, &["t", "sums"]) == sums(&two.kept.standby, &["t", "sums"])
    });
    for (writer, ended) in writers {
        let (told, refused) = ended.await.unwrap();
        let rows = two.kept.authority.sql(&format!("SELECT COUNT(*) FROM d.t WHERE writer = {writer}"));
        eprintln!("writer {writer}: {} acknowledged, {refused} refused", told.len());
        assert!(rows[0][0] == told.len().to_string() && refused > 0 && !told.is_empty(), "{rows:?}, {}", told.len());
    }
    assert_eq!(authority(&two.kept.proxy)["strays"].as_array().unwrap().len(), 0);
}

/// Where RENAME takes no views, they are made in place; where the account may make none, the seal goes without, and `init` says so.
#[test]
fn a_seal_goes_as_far_as_it_may() {
    let mut kept = Kept::start_as(TABLES, &[], BOTH);
    let server = &kept.standby;
    let each = |sql: &str| {
        ["t", "sums"].iter().for_each(|table| drop(server.sql(&sql.replace("TABLE", &format!("d.{table}")))))
    };
    // no right to the names beside the tables (and no moment without the others); then to no view at all
    let first = || {
        server.sql("GRANT ALL ON switchover.* TO switchover@'%'");
        server.sql("GRANT ALL ON switchover_sealed_d.* TO switchover@'%'");
        each("GRANT INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE VIEW, SHOW VIEW ON TABLE TO switchover@'%'");
        server.sql(
            "REVOKE INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, CREATE VIEW, SHOW VIEW ON *.* FROM switchover@'%'",
        );
    };
    let second = || each("REVOKE CREATE VIEW, SHOW VIEW ON TABLE FROM switchover@'%'");
    let run = |sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", sql]);
    let again = |rights: &dyn Fn()| {
        rights();
        // (whoever is connected has the rights that he had)
        let ids = server.sql("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'switchover'").concat();
        ids.iter().for_each(|id| drop(server.try_sql(None, &format!("KILL {id}"))));
        eventually("it is connected again", || kept.proxy.cli(&["flag", "analytics", "new", "--dry-run"]).ok);
        flag(&kept.proxy, "new");
        assert!(run("INSERT INTO t (writer, n) VALUES (1, (SELECT COUNT(*) FROM t AS old))").ok);
        eventually("legacy follows", || kept.proxy.cli(&["flag", "analytics", "legacy", "--dry-run"]).ok);
        flag(&kept.proxy, "legacy");
    };
    again(&first);
    assert_eq!(place(server), "switchover_sealed_d");
    assert_eq!(views(server), ["sums", "t"]);
    let stray = clients::mariadb(server.port, &["-Dd", "-e", "CREATE TABLE t (id INT)"]);
    assert!(stray.stderr.contains("ERROR 1050"), "{}", stray.stderr);
    again(&second);
    assert_eq!((place(server).as_str(), views(server).len()), ("switchover_sealed_d", 0));
    let init = kept.proxy.cli(&["init"]);
    assert!(
        init.stdout.contains("new: sealed by rename, but no view keeps the tables' names"),
        "{}{}",
        init.stdout,
        init.stderr
    );
    // what a writer makes then is told at once, and kept
    let stray = clients::mariadb(
        server.port,
        &["-Dd", "-e", "CREATE TABLE IF NOT EXISTS t (id INT); INSERT INTO t VALUES (7)"],
    );
    assert!(stray.ok, "{}", stray.stderr);
    eventually("it is told", || authority(&kept.proxy)["strays"].to_string().contains("new: somebody has made d.t"));
    assert_eq!(server.sql("SELECT id FROM d.t"), [["7"]]);
    assert!(!kept.proxy.cli(&["flag", "analytics", "new"]).ok);
    // and the standby follows nevertheless, whoever begins to apply
    kept.proxy.restart();
    let insert = "INSERT INTO t (writer, n) VALUES (2, 1)";
    assert!(clients::mariadb(kept.proxy.port, &["-Dd", "-e", insert]).ok);
    eventually("it has that row", || {
        server.sql("SELECT COUNT(*) FROM switchover_sealed_d.t WHERE writer = 2") == [["1"]]
    });
    assert_eq!(server.sql("SELECT id FROM d.t"), [["7"]]);
}

/// A proxy that was suspended while its tables moved: what would not hear of the seal, or could not be sent again, is routed by a look
/// before it runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proxy_that_slept_asks_first() {
    let two = Two::start_as(TABLES, BOTH);
    for server in [&two.kept.authority, &two.kept.standby] {
        server.sql("CREATE PROCEDURE d.adds(w INT) BEGIN SET @n = w; INSERT INTO t (writer, n) VALUES (w, 1); END");
    }
    two.kept.proxy.edit_config(|text| text.replace("tables: [d.*]", "tables: [d.*, d.adds]"));
    two.second.edit_config(|text| text.replace("tables: [d.*]", "tables: [d.*, d.adds]"));
    eventually("it is read", || two.kept.proxy.status()["epoch"] == 2 && two.second.status()["epoch"] == 2);
    eventually("it is settled", || {
        authority(&two.kept.proxy)["settled"] == true && authority(&two.second)["settled"] == true
    });
    let connect = || async { two.kept.proxy.connect("d").await };
    let (mut shows, mut asks, mut calls, mut makes) =
        (connect().await, connect().await, connect().await, connect().await);
    let mut fields = Raw::app(two.kept.proxy.port, ORDINARY, "d");
    for (conn, warm) in
        [(&mut shows, "SELECT 1"), (&mut asks, "SELECT 1"), (&mut calls, "SELECT 1"), (&mut makes, "SELECT 1")]
    {
        conn.query_drop(warm).await.unwrap();
    }
    two.kept.proxy.signal(rustix::process::Signal::STOP);
    let done = two.second.cli(&["flag", "analytics", "new"]);
    assert!(done.ok, "{}{}", done.stdout, done.stderr);
    let said = tokio::spawn(async move {
        let shown: Option<(String, String)> = shows.query_first("SHOW CREATE TABLE t").await.unwrap();
        assert!(shown.as_ref().unwrap().1.starts_with("CREATE TABLE"), "{shown:?}");
        let kind = "SELECT TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME = 't'";
        assert_eq!(asks.query_first::<String, _>(kind).await.unwrap().unwrap(), "BASE TABLE");
        calls.query_drop("CALL adds(77)").await.unwrap();
        makes.query_drop("CREATE TABLE IF NOT EXISTS t (id INT)").await.unwrap();
    });
    let listed = std::thread::spawn(move || {
        fields.send(0x04, b"t\0");
        fields.response(Expect::FieldList)
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    two.kept.proxy.signal(rustix::process::Signal::CONT);
    said.await.unwrap();
    let listed = listed.join().unwrap();
    assert!(Raw::error(&listed).is_none() && listed.len() == 4, "{listed:?}");
    assert_eq!(two.kept.standby.sql("SELECT COUNT(*) FROM d.t WHERE writer = 77")[0][0], "1");
    assert_eq!(place(&two.kept.authority), "switchover_sealed_d");
}
