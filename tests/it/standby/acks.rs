//! `ack: standby`: what was acknowledged is on the standby at that moment, whatever statement wrote it: LOAD DATA LOCAL, alone and
//! among others in one text. And what that rests on, and costs: a read of where the log ends, and a mark in it only where it must be,
//! whichever proxy applies.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, WhiteListFsHandler};

use super::{Kept, gtids};
use crate::support::{Proxy, eventually, mariadb};

const TABLES: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, pad VARCHAR(500) NOT NULL)";
/// Several packets' worth.
const ROWS: u64 = 400;

fn acknowledging(config: &str) -> String {
    config.replace("    standby: new\n", "    standby: new\n    ack: standby\n    ack_timeout: 5s\n")
}

fn with_standby(pool: &str) -> Kept {
    let kept = Kept::start(TABLES, &[]);
    kept.proxy.edit_config(|text| format!("pool: {pool}\n{}", acknowledging(&text)));
    eventually("it is read", || kept.proxy.status()["epoch"] == 2);
    is_waited_for(&kept.proxy);
    kept
}

/// A group whose writes are refused while the standby is away.
fn refusing_without_its_standby() -> Kept {
    let kept = Kept::start(TABLES, &[]);
    let auto = |text: String| acknowledging(&text).replace("ack_timeout: 5s", "ack_timeout: 1s\n    fallback: auto");
    kept.proxy.edit_config(auto);
    is_waited_for(&kept.proxy);
    kept
}

fn is_waited_for(proxy: &Proxy) {
    eventually("it is waited for", || {
        let authority = &proxy.status()["groups"][0]["authority"];
        authority["acks"] == "standby" && authority["settled"] == true
    });
}

/// One proxy applies, the other looks at the standby's marks.
fn two() -> (Kept, Proxy) {
    let kept = with_standby("session");
    let second = Proxy::start(|port| acknowledging(&super::config(port, &kept.authority, &kept.standby)));
    is_waited_for(&second);
    assert_eq!(second.status()["groups"][0]["standby"]["state"], "idle");
    kept.authority.sql("CREATE DATABASE other; CREATE TABLE other.o (id BIGINT PRIMARY KEY AUTO_INCREMENT)");
    (kept, second)
}

fn alone(proxy: &Proxy) -> u64 {
    proxy.status()["groups"][0]["authority"]["acknowledged_alone"].as_u64().unwrap()
}

/// Writes some rows one after another, each of which is on the standby when it is acknowledged; what that took.
async fn write(kept: &Kept, port: u16, text: impl Fn(u64) -> String, ids: std::ops::Range<u64>) -> Duration {
    let mut conn = Conn::new(mariadb::opts(port).db_name(Some("d"))).await.unwrap();
    let mut there = Conn::new(mariadb::opts(kept.standby.port).db_name(Some("d"))).await.unwrap();
    let mut took = Duration::ZERO;
    for id in ids {
        let begun = Instant::now();
        conn.query_drop(text(id)).await.unwrap();
        took += begun.elapsed();
        let found: Option<u64> = there.query_first(format!("SELECT COUNT(*) FROM t WHERE id = {id}")).await.unwrap();
        assert_eq!(found, Some(1), "{id}");
    }
    took
}

fn insert(id: u64) -> String {
    format!("INSERT INTO t VALUES ({id}, '')")
}

/// A file of rows, with these first ids.
fn file(kept: &Kept, from: u64) -> PathBuf {
    let path = kept.proxy.folder.join(format!("rows-{from}"));
    let rows: String = (from..from + ROWS).map(|id| format!("{id}\t{}\n", "x".repeat(400))).collect();
    std::fs::write(&path, rows).unwrap();
    path
}

#[tokio::test]
async fn a_loaded_file_is_acknowledged_when_the_standby_has_it() {
    for pool in ["session", "transaction"] {
        let kept = with_standby(pool);
        let files = [1_000, 2_000, 3_000].map(|from| file(&kept, from));
        let opts = mariadb::opts(kept.proxy.port).db_name(Some("d"));
        let mut conn = Conn::new(opts.local_infile_handler(Some(WhiteListFsHandler::new(&files[..])))).await.unwrap();
        let load = |at: usize| format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", files[at].display());
        let there = || kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0].parse::<u64>().unwrap();

        conn.query_drop(load(0)).await.unwrap();
        assert_eq!((conn.affected_rows(), there()), (ROWS, ROWS), "{pool}");

        let text = format!("INSERT INTO t VALUES (1, ''), (2, ''); {}; DELETE FROM t WHERE id = 1", load(1));
        let mut result = conn.query_iter(text).await.unwrap();
        let mut affected = Vec::new();
        loop {
            affected.push(result.affected_rows());
            if result.is_empty() && affected.len() == 3 {
                break;
            }
            let _: Vec<mysql_async::Row> = result.collect().await.unwrap();
        }
        drop(result);
        assert_eq!((affected, there()), (vec![2, ROWS, 1], 2 * ROWS + 1), "{pool}");

        // in a transaction nothing is owed before its end
        conn.query_drop(format!("BEGIN; {}", load(2))).await.unwrap();
        assert_eq!(there(), 2 * ROWS + 1, "{pool}");
        conn.query_drop("COMMIT").await.unwrap();
        assert_eq!(there(), 3 * ROWS + 1, "{pool}");
        // what is refused is the client's to hear, and its connection goes on
        let refused =
            conn.query_drop(format!("INSERT INTO t VALUES (3, ''); {}", load(0).replace("TABLE t", "TABLE u"))).await;
        assert!(refused.unwrap_err().to_string().contains("1146"), "{pool}");
        let count: Option<u64> = conn.query_first("SELECT COUNT(*) FROM t").await.unwrap();
        assert_eq!((count, there()), (Some(3 * ROWS + 2), 3 * ROWS + 2), "{pool}");
        assert_eq!(kept.proxy.status()["groups"][0]["authority"]["acknowledged_alone"], 0);
    }
}

/// What places rest on: whoever reads the binlog's state after a commit was answered finds that commit's GTID in it, or a newer one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_commit_is_in_the_binlogs_state() {
    let kept = Kept::start(TABLES, &[]);
    let port = kept.authority.port;
    let writers = (0..4).map(|writer| {
        tokio::spawn(async move {
            let mut conn = Conn::new(mariadb::opts(port).db_name(Some("d"))).await.unwrap();
            let mut other = Conn::new(mariadb::opts(port)).await.unwrap();
            for n in 0..250 {
                conn.query_drop(insert(writer * 1_000 + n)).await.unwrap();
                let state: Option<String> = other.query_first("SELECT @@GLOBAL.gtid_binlog_state").await.unwrap();
                let own: Option<String> = conn.query_first("SELECT @@last_gtid").await.unwrap();
                let (state, own) = (gtids(&state.unwrap()), gtids(&own.unwrap()));
                assert!(own.iter().all(|(domain, number)| state.get(domain) >= Some(number)), "{own:?} {state:?}");
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// How often the row of `switchover.groups` was changed on the authority behind a place in its binlog.
fn marks(kept: &Kept, (file, offset): (&str, &str)) -> usize {
    let events = kept.authority.sql(&format!("SHOW BINLOG EVENTS IN '{file}' FROM {offset}"));
    events.iter().filter(|event| event[2] == "Table_map" && event[5].contains("(switchover.groups)")).count()
}

/// An acknowledgement is no commit: hardly any of them needs a mark, whichever proxy applies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn marks_are_few() {
    let (kept, second) = two();
    // (how many depends on how evenly a busy machine goes)
    for (proxy, from, most) in [(&kept.proxy, 0, 60), (&second, 1_000, 85)] {
        let now = kept.authority.sql("SHOW MASTER STATUS")[0].clone();
        write(&kept, proxy.port, insert, from..from + 100).await;
        let marks = marks(&kept, (&now[0], &now[1]));
        assert!(marks <= most, "{marks} marks for 100 writes\n{}", proxy.log());
        assert_eq!(alone(proxy), 0);
    }
}

async fn others(port: u16, over: Arc<AtomicBool>) {
    let mut conn = Conn::new(mariadb::opts(port).db_name(Some("other"))).await.unwrap();
    while !over.load(Ordering::Relaxed) {
        conn.query_drop("INSERT INTO o VALUES ()").await.unwrap();
    }
}

/// What others write behind a write of the group keeps no acknowledgement: neither one thing, nor one after another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_keep_no_acknowledgement() {
    let (kept, second) = two();
    for (proxy, from) in [(&kept.proxy, 0), (&second, 1_000)] {
        let behind = |id| format!("{}; INSERT INTO other.o VALUES ()", insert(id));
        let took = write(&kept, proxy.port, behind, from..from + 10).await;
        assert!(took < Duration::from_secs(8), "10 writes with another behind each took {took:?}");
    }
    let over = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn(others(kept.authority.port, Arc::clone(&over)));
    for (proxy, from) in [(&kept.proxy, 100), (&second, 1_100)] {
        let took = write(&kept, proxy.port, insert, from..from + 30).await;
        assert!(took < Duration::from_secs(15), "30 writes among those of others took {took:?}");
    }
    over.store(true, Ordering::Relaxed);
    others.await.unwrap();
    assert_eq!((alone(&kept.proxy), alone(&second)), (0, 0));
}

/// A proxy sleeps through a fallback, the return of the old authority and a cutover back to it. The write that it waits for was left
/// behind, and the same store serves again, followed by the same standby: it is not acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_slept_through_a_fallback_confirms_nothing() {
    let auto = |text: &str| {
        let keeping = "ack: standby\n    ack_timeout: 2m\n    fallback: auto\n    fallback_after: 1s\n";
        text.replace("    standby: new\n", &format!("    standby: new\n    {keeping}"))
    };
    let mut kept = Kept::start(TABLES, &[]);
    kept.proxy.edit_config(|text| auto(&text));
    eventually("it is read", || kept.proxy.status()["epoch"] == 2);
    is_waited_for(&kept.proxy);
    let second = Proxy::start(|port| auto(&super::config(port, &kept.authority, &kept.standby)));
    is_waited_for(&second);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'before')");
    kept.catch_up();
    let mut other = Conn::new(kept.standby.opts()).await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    other.query_drop("SELECT * FROM d.t FOR UPDATE").await.unwrap();
    let mut client = Conn::new(mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap();
    let written = tokio::spawn(async move { client.query_drop("UPDATE t SET pad = 'left behind'").await });
    eventually("it is committed", || kept.authority.sql("SELECT pad FROM d.t")[0][0] == "left behind");
    kept.proxy.signal(rustix::process::Signal::STOP);
    kept.authority.kill();
    other.query_drop("ROLLBACK").await.unwrap();
    let authority = || second.status()["groups"][0]["authority"].clone();
    eventually("the standby takes over", || authority()["store"] == "new");
    // (a new session of `pool: session` would want its default store)
    eventually("and takes writes", || {
        kept.standby.try_sql(Some("d"), "UPDATE t SET pad = 'behind the fallback'").is_ok()
    });
    kept.authority.restart();
    eventually("the old authority follows", || authority()["settled"] == true && authority()["acks"] == "standby");
    super::cutover::flag(&second, "legacy");
    kept.authority.sql_in("d", "UPDATE t SET pad = 'and back'");
    kept.proxy.signal(rustix::process::Signal::CONT);
    let error = written.await.unwrap().expect_err("it was left behind, and is acknowledged").to_string();
    assert!(error.contains("has not confirmed it"), "{error}");
    // and it goes on
    is_waited_for(&kept.proxy);
    write(&kept, kept.proxy.port, insert, 100..110).await;
    assert_eq!(kept.authority.sql("SELECT pad FROM d.t WHERE id = 1")[0][0], "and back");
}

/// A cutover that is given up behind its seal ends in a new epoch: the own applier is of that one too, and is listened to as before
/// (who is not looks at the standby's marks, again and again).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_cutover_that_was_given_up_the_applier_is_heard() {
    let kept = with_standby("session");
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", "    standby: new\n    drain_timeout: 1500ms\n"));
    eventually("it is read", || kept.proxy.status()["epoch"] == 3);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'before')");
    kept.catch_up();
    let looks = async |ids| {
        let before = kept.standby.status("Com_select");
        write(&kept, kept.proxy.port, insert, ids).await;
        kept.standby.status("Com_select") - before
    };
    let usual = looks(100..200).await;
    // what is committed within the cutover, the standby cannot apply
    let mut locked = Conn::new(kept.standby.opts()).await.unwrap();
    locked.query_drop("BEGIN").await.unwrap();
    locked.query_drop("SELECT * FROM d.t WHERE id = 1 FOR UPDATE").await.unwrap();
    let mut open = Conn::new(kept.authority.opts()).await.unwrap();
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("UPDATE d.t SET pad = 'meanwhile' WHERE id = 1").await.unwrap();
    let config = kept.proxy.config_path.clone();
    let flag = tokio::task::spawn_blocking(move || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_switchover"));
        command.arg("--config").arg(config).args(["flag", "analytics", "new"]).output().unwrap()
    });
    eventually("it is under way", || kept.proxy.status()["groups"][0]["authority"]["cutover"].is_string());
    open.query_drop("COMMIT").await.unwrap();
    let told = String::from_utf8_lossy(&flag.await.unwrap().stderr).into_owned();
    assert!(told.contains("given up at `catch up`"), "{told}");
    locked.query_drop("ROLLBACK").await.unwrap();
    is_waited_for(&kept.proxy);
    let now = looks(200..300).await;
    assert!(now < 2 * usual + 50, "{now} statements at the standby for 100 writes, {usual} before");
}

/// A transaction that has only read is at its end at once, whatever the standby does; one that wrote anything after it, or called what
/// may write, is not.
async fn who_has_only_read_waits_for_nobody(kept: Kept, further: &[&[&str]]) {
    kept.proxy.edit_config(|text| acknowledging(&text).replace("ack_timeout: 5s", "ack_timeout: 60s"));
    is_waited_for(&kept.proxy);
    write(&kept, kept.proxy.port, insert, 1..3).await;
    // the standby cannot come forward
    let mut locked = Conn::new(kept.standby.opts()).await.unwrap();
    locked.query_drop("BEGIN").await.unwrap();
    locked.query_drop("SELECT * FROM d.t WHERE id = 1 FOR UPDATE").await.unwrap();
    let connect = async || Conn::new(mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap();
    let run = async |mut conn: Conn, texts: &[&str]| {
        for text in texts {
            conn.query_drop(*text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    };
    let mut first = connect().await;
    let first = tokio::spawn(async move { first.query_drop("UPDATE t SET pad = 'first' WHERE id = 1").await });
    eventually("it is committed", || kept.authority.sql("SELECT pad FROM d.t WHERE id = 1")[0][0] == "first");
    let reads: [&[&str]; 6] = [
        &["BEGIN", "SELECT * FROM t", "COMMIT"],
        &["BEGIN", "SELECT * FROM t WHERE id = 2 FOR UPDATE", "SAVEPOINT s", "ROLLBACK TO s", "ROLLBACK"],
        &["SET autocommit = 0", "SELECT * FROM t", "COMMIT", "SELECT * FROM t", "ROLLBACK"],
        &["START TRANSACTION READ ONLY", "SELECT * FROM t", "COMMIT AND CHAIN", "SELECT * FROM t", "COMMIT RELEASE"],
        &["BEGIN", "SELECT * FROM t", "SET @a = 1", "SHOW TABLES", "COMMIT"],
        &["BEGIN; SELECT * FROM t; COMMIT"],
    ];
    for texts in reads {
        run(connect().await, texts).await;
    }
    let mut prepared = connect().await;
    prepared.query_drop("BEGIN").await.unwrap();
    let _: Vec<u64> = prepared.exec("SELECT id FROM t WHERE id > ?", (0,)).await.unwrap();
    prepared.query_drop("COMMIT").await.unwrap();
    let writes: [&[&str]; 6] = [
        &["BEGIN", "SELECT * FROM t", "INSERT INTO t VALUES (11, '')", "COMMIT"],
        &["SET autocommit = 0", "SELECT * FROM t", "INSERT INTO t VALUES (12, '')", "COMMIT"],
        &["BEGIN; SELECT * FROM t; INSERT INTO t VALUES (13, ''); COMMIT"],
        &["BEGIN", "INSERT INTO t VALUES (14, '')", "COMMIT AND CHAIN"],
        &["BEGIN; INSERT INTO t VALUES (15, ''); BEGIN"],
        &["INSERT INTO t VALUES (16, '')"],
    ];
    let mut told = Vec::new();
    for texts in writes.iter().chain(further) {
        let (mut conn, texts) = (connect().await, texts.iter().map(|&text| text.to_owned()).collect::<Vec<String>>());
        let said = texts.join("; ");
        let run = async move {
            for text in texts {
                conn.query_drop(&text).await.unwrap_or_else(|error| panic!("{text}: {error}"));
            }
        };
        told.push((said, tokio::spawn(run)));
    }
    let written = (writes.len() + further.len()).to_string();
    eventually("all of them are committed", || {
        kept.authority.sql("SELECT COUNT(*) FROM d.t WHERE id > 10")[0][0] == written
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    for (texts, told) in &told {
        assert!(!told.is_finished(), "{texts}: the standby has not got it");
    }
    assert!(!first.is_finished());
    locked.query_drop("ROLLBACK").await.unwrap();
    first.await.unwrap().unwrap();
    for (_, told) in told {
        told.await.unwrap();
    }
    assert_eq!(alone(&kept.proxy), 0);
    kept.assert_same();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_only_read_waits_for_nobody_with_a_binlog() {
    let kept = Kept::start(TABLES, &[]);
    let function =
        "CREATE FUNCTION d.w(i INT) RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO d.t VALUES (i, ''); RETURN i; END";
    kept.authority.sql("SET GLOBAL log_bin_trust_function_creators = 1");
    kept.authority.sql(function);
    kept.authority.sql("CREATE PROCEDURE d.p(i INT) INSERT INTO d.t VALUES (i, '')");
    kept.authority.sql(
        "CREATE PROCEDURE d.q(i INT) BEGIN INSERT INTO d.t VALUES (i, ''); COMMIT; START TRANSACTION; SELECT 1; END",
    );
    kept.proxy.edit_config(|text| text.replace("tables: [d.*]", "tables: [d.*, d.w]"));
    let further: [&[&str]; 5] = [
        &["BEGIN", "SELECT * FROM t WHERE id = 2", "SELECT w(17)", "COMMIT"],
        &["CALL p(18)"],
        &["SELECT w(20)"],
        &["INSERT INTO t VALUES (21, '') RETURNING id"],
        &["BEGIN", "SELECT * FROM t WHERE id = 2", "CALL q(19)"],
    ];
    who_has_only_read_waits_for_nobody(kept, &further).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_only_read_waits_for_nobody_with_shared_connections() {
    let kept = Kept::start(TABLES, &[]);
    kept.proxy.edit_config(|text| format!("pool: transaction\n{text}"));
    who_has_only_read_waits_for_nobody(kept, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_only_read_waits_for_nobody_with_a_journal() {
    who_has_only_read_waits_for_nobody(Kept::start_without(TABLES, &[], &["legacy"]), &[]).await;
}

/// That the standby has gone away is known before somebody writes: that write is refused, and not on the authority alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_goes_away_is_missed_by_itself() {
    let mut kept = refusing_without_its_standby();
    kept.standby.kill();
    eventually("it is missed", || kept.proxy.status()["groups"][0]["authority"]["acks"] == "refused");
    let mut conn = Conn::new(mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap();
    let error = conn.query_drop(insert(1)).await.expect_err("nobody could acknowledge it").to_string();
    assert!(error.contains("1290"), "{error}");
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0], "0");
    kept.standby.restart();
    is_waited_for(&kept.proxy);
    write(&kept, kept.proxy.port, insert, 1..3).await;
    kept.assert_same();
}

/// Where nobody could acknowledge a write, what only reads goes on, in a transaction too; a write in it is refused, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_without_the_standby() {
    let mut kept = refusing_without_its_standby();
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, '')");
    kept.standby.kill();
    let connect = async || Conn::new(mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap();
    let error = connect().await.query_drop(insert(2)).await.expect_err("the standby has not got it").to_string();
    assert!(error.contains("1180"), "{error}");
    let mut conn = connect().await;
    eventually("it is away", || kept.proxy.status()["groups"][0]["authority"]["acks"] == "refused");
    for end in ["COMMIT", "ROLLBACK"] {
        conn.query_drop("BEGIN").await.unwrap();
        let found: Option<u64> = conn.query_first("SELECT id FROM t FOR UPDATE").await.unwrap();
        assert_eq!(found, Some(1));
        let error = conn.query_drop(insert(3)).await.expect_err("nobody could acknowledge it").to_string();
        assert!(error.contains("1290"), "{error}");
        let found: Option<u64> = conn.query_first("SELECT COUNT(*) FROM t").await.unwrap();
        assert_eq!(found, Some(2));
        conn.query_drop(end).await.unwrap();
    }
    kept.standby.restart();
    is_waited_for(&kept.proxy);
    write(&kept, kept.proxy.port, insert, 3..5).await;
    kept.assert_same();
}
