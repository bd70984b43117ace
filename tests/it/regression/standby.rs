//! Rules 34–40 of groups with a standby, where no test of `standby/` is theirs already; `docs/rules.md` says which test proves which.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::standby::{DURABLE, Kept, config};
use crate::support::proxy::pair_config;
use crate::support::{PrivateServer, Proxy, eventually, mariadb, stores};

const TABLES: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, n INT NOT NULL)";

/// A group with further keys.
fn with(keys: &str) -> Kept {
    let kept = Kept::start(TABLES, &[]);
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", &format!("    standby: new\n{keys}")));
    eventually("it is read", || kept.proxy.status()["epoch"] == 2);
    kept
}

fn acks(kept: &Kept) -> String {
    kept.proxy.status()["groups"][0]["authority"]["acks"].as_str().unwrap_or_default().to_owned()
}

async fn connect(port: u16) -> Conn {
    Conn::new(mariadb::opts(port).db_name(Some("d"))).await.unwrap()
}

/// What a transaction builds on is on the standby when it is acknowledged, whoever wrote it.
#[tokio::test]
async fn rule_34_what_an_acknowledged_write_builds_on_is_there_too() {
    let kept = with("    ack: standby\n    ack_timeout: 5s\n");
    eventually("the standby is waited for", || acks(&kept) == "standby");
    let (mut alone, mut through) = (connect(kept.authority.port).await, connect(kept.proxy.port).await);
    for id in 1..=50 {
        alone.query_drop(format!("INSERT INTO t VALUES ({id}, 1)")).await.unwrap();
        through.query_drop(format!("UPDATE t SET n = n + 1 WHERE id = {id}")).await.unwrap();
        assert_eq!(kept.standby.sql(&format!("SELECT n FROM d.t WHERE id = {id}")), [["2"]], "{id}");
    }
}

/// `fallback: auto` never acknowledges without the standby: it could take over without the write.
#[tokio::test]
async fn rule_34_with_fallback_auto_nothing_degrades() {
    let mut kept = with("    ack: standby\n    ack_timeout: 500ms\n    fallback: auto\n");
    eventually("the standby is waited for", || acks(&kept) == "standby");
    connect(kept.proxy.port).await.query_drop("INSERT INTO t VALUES (1, 1)").await.unwrap();
    kept.standby.kill();
    let mut conn = connect(kept.proxy.port).await;
    let open = conn.query_drop("INSERT INTO t VALUES (2, 1)").await.unwrap_err();
    assert!(open.to_string().contains("has not confirmed it"), "{open}");
    eventually("writes are refused", || acks(&kept) == "refused");
    let mut conn = connect(kept.proxy.port).await;
    let Err(Error::Server(refused)) = conn.query_drop("INSERT INTO t VALUES (3, 1)").await else { panic!("no error") };
    assert_eq!((refused.code, refused.state.as_str()), (1290, "HY000"), "{}", refused.message);
    // (nothing was done, and reads go on)
    let rows: Vec<u64> = conn.query("SELECT id FROM t ORDER BY id").await.unwrap();
    assert_eq!(rows, [1, 2]);
    assert_eq!(kept.proxy.status()["groups"][0]["authority"]["acknowledged_alone"], 0);
    kept.standby.restart();
    eventually("it is waited for again", || acks(&kept) == "standby");
    conn.query_drop("INSERT INTO t VALUES (3, 1)").await.unwrap();
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0], "3");
}

/// A seal that waits for a transaction of somebody who uses no proxy is in nobody's way meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_35_a_seal_that_waits_stalls_nobody() {
    let kept = with("    drain_timeout: 1500ms\n");
    let mut open = connect(kept.authority.port).await;
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO t VALUES (0, 0)").await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (over, port) = (Arc::clone(&over), kept.authority.port);
        async move {
            let (mut conn, mut count, mut longest) = (connect(port).await, 0u32, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                count += 1;
                let began = Instant::now();
                conn.query_drop(format!("INSERT INTO t VALUES ({count}, 1)")).await.unwrap();
                let _: Option<u64> = conn.query_first("SELECT COUNT(*) FROM t WHERE n = 1").await.unwrap();
                longest = longest.max(began.elapsed());
            }
            (count, longest)
        }
    });
    let flag = kept.proxy.cli(&["flag", "analytics", "new"]);
    over.store(true, Ordering::Relaxed);
    let (count, longest) = writer.await.unwrap();
    assert!(!flag.ok && flag.stderr.contains("given up at `seal`"), "{}{}", flag.stdout, flag.stderr);
    assert!(count > 50 && longest < Duration::from_millis(700), "{count} writes, the longest {longest:?}");
    open.query_drop("COMMIT").await.unwrap();
    kept.catch_up();
    kept.assert_same();
    let flag = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(flag.ok, "{}{}", flag.stdout, flag.stderr);
}

/// XA PREPARE gives no lock of a trigger's seal away: while the transaction is prepared, the authority does not move.
#[tokio::test]
async fn rule_36_a_prepared_xa_transaction_is_in_the_way_of_a_cutover() {
    let kept = with("    drain_timeout: 700ms\n");
    let mut conn = connect(kept.proxy.port).await;
    for sql in ["XA START 'x'", "INSERT INTO t VALUES (1, 1)", "XA END 'x'", "XA PREPARE 'x'"] {
        conn.query_drop(sql).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    eventually("the standby stops at what may yet be undone", || kept.show()["state"] == "stopped");
    assert!(kept.show().to_string().contains("an XA transaction of the group"), "{:#}", kept.show());
    for force in [false, true] {
        let mut arguments = vec!["flag", "analytics", "new"];
        arguments.extend(force.then_some(["--force", "--why", "a test"]).into_iter().flatten());
        let flag = kept.proxy.cli(&arguments);
        assert!(!flag.ok, "{}", flag.stdout);
        eventually("it is settled", || kept.proxy.status()["groups"][0]["authority"]["settled"] == true);
        assert_eq!(kept.proxy.status()["groups"][0]["authority"]["store"], "legacy");
    }
    // it commits where it was prepared; its rows are the operator's to apply
    eventually("nobody has it any more", || kept.authority.try_sql(None, "XA COMMIT 'x'").is_ok());
    kept.mend(&kept.standby, "INSERT INTO d.t VALUES (1, 1)");
    let id = kept.show()["transaction"].as_str().unwrap().to_owned();
    assert!(kept.proxy.cli(&["standby", "skip", "analytics", &id, "--reason", "by hand"]).ok);
    kept.catch_up();
    kept.assert_same();
    let flag = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(flag.ok, "{}{}", flag.stdout, flag.stderr);
}

/// 1020 ends a transaction as a deadlock does: the other store's part goes with it.
#[tokio::test]
async fn rule_38_a_row_that_changed_under_a_snapshot_rolls_back_on_every_store() {
    let new = PrivateServer::start(22, &["--innodb-snapshot-isolation=ON"]);
    let database = stores().database();
    database.on_legacy("CREATE TABLE orders (id INT PRIMARY KEY, n INT) ENGINE=InnoDB");
    database.on_legacy("INSERT INTO orders VALUES (1, 0)");
    new.sql(&format!("CREATE DATABASE {}", database.name));
    new.sql_in(&database.name, "CREATE TABLE hits (id INT PRIMARY KEY, n INT) ENGINE=InnoDB");
    new.sql_in(&database.name, "INSERT INTO hits VALUES (1, 0)");
    let proxy = Proxy::start(|port| pair_config(port, &stores().legacy, &new, &["hits"]));
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect(&database.name).await;
    for sql in ["BEGIN", "UPDATE orders SET n = 1", "SELECT * FROM hits"] {
        conn.query_drop(sql).await.unwrap();
    }
    new.sql_in(&database.name, "UPDATE hits SET n = 7");
    let Err(Error::Server(error)) = conn.query_drop("UPDATE hits SET n = 2").await else { panic!("no error") };
    assert_eq!(error.code, 1020, "{}", error.message);
    conn.query_drop("COMMIT").await.unwrap();
    assert_eq!(database.on_legacy("SELECT n FROM orders"), [["0"]]);
    assert_eq!(new.sql_in(&database.name, "SELECT n FROM hits"), [["7"]]);
}

/// Both servers with the same rows, and a proxy that has not begun.
fn before_init() -> (PrivateServer, PrivateServer, Proxy) {
    let [authority, standby] = [11, 12].map(|id| {
        let server = PrivateServer::start(id, DURABLE);
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        server.sql_in("d", TABLES);
        server
    });
    let proxy = Proxy::start(|port| config(port, &authority, &standby));
    (authority, standby, proxy)
}

/// A transaction that began before the standby did is the standby's when it commits after.
#[tokio::test]
async fn rule_39_a_transaction_that_is_open_when_a_standby_begins_is_its() {
    let (authority, standby, proxy) = before_init();
    let mut open = connect(authority.port).await;
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO t VALUES (1, 1)").await.unwrap();
    let init = proxy.cli(&["init"]);
    assert!(init.ok, "{}{}", init.stdout, init.stderr);
    open.query_drop("COMMIT").await.unwrap();
    let kept = Kept { authority, standby, proxy };
    kept.retry();
    kept.catch_up();
    kept.assert_same();
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0], "1");
}

/// The position at which a standby begins is that of the rows that were compared: what commits in that very moment is neither lost
/// nor applied twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rule_40_a_copy_begins_exactly_where_it_was_compared() {
    let (authority, standby, proxy) = before_init();
    let kept = Kept { authority, standby, proxy };
    let (mut began, mut missed) = (0, 0);
    let mut next = 1u64;
    for attempt in 0..40 {
        // the first write of this attempt meets init somewhere
        let delay = Duration::from_millis(attempt * 7 % 150);
        let writer = tokio::spawn({
            let (port, first) = (kept.authority.port, next);
            async move {
                let mut conn = connect(port).await;
                tokio::time::sleep(delay).await;
                for id in first..first + 60 {
                    conn.query_drop(format!("INSERT INTO t VALUES ({id}, 1)")).await.unwrap();
                }
            }
        });
        next += 60;
        let init = kept.proxy.cli(&["init"]);
        writer.await.unwrap();
        if init.ok {
            began += 1;
            kept.retry();
            kept.catch_up();
            kept.assert_same();
            assert!(kept.proxy.cli(&["standby", "end", "analytics"]).ok);
        } else {
            // it saw rows that only one of them has
            missed += 1;
            for server in [&kept.authority, &kept.standby] {
                server.sql("DELETE FROM d.t");
            }
        }
        if began >= 6 && missed >= 3 {
            break;
        }
    }
    eprintln!("{began} begun under writes, {missed} refused");
    assert!(began >= 3, "{began} begun, {missed} refused");
}
