//! The authority fails under load: its standby takes over, no acknowledged write is lost, and what was left behind is settled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{DURABLE, Kept, sums};
use crate::support::cable::Cable;
use crate::support::{Disk, PrivateServer, Proxy, Server, clients, eventually, long};

pub(super) const TABLES: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, writer INT NOT NULL)";

fn authority(proxy: &Proxy) -> serde_json::Value {
    proxy.status()["groups"][0]["authority"].clone()
}

/// A group whose authority is `new`, with these keys; `legacy` is its standby, and every client's home.
fn moved(keys: &str) -> Kept {
    reached(Kept::start(TABLES, &[]), keys, None)
}

/// The same for clients that share connections.
fn moved_pooled(keys: &str) -> Kept {
    let kept = Kept::start(TABLES, &[]);
    kept.proxy.edit_config(|text| format!("pool: transaction\n{text}"));
    eventually("it is read", || kept.proxy.status()["epoch"] == 2);
    reached(kept, keys, None)
}

/// The same, with `new` reached through a cable.
pub(super) fn reached(kept: Kept, keys: &str, cable: Option<&Cable>) -> Kept {
    let before = kept.proxy.status()["epoch"].as_u64().unwrap();
    let read = before + u64::from(!keys.is_empty());
    let keys = format!("    standby: new\n{keys}");
    let (direct, by) = (kept.standby.port, cable.map_or(kept.standby.port, |cable| cable.port));
    kept.proxy.edit_config(|text| {
        text.replace("    standby: new\n", &keys).replace(&format!("127.0.0.1:{direct}"), &format!("127.0.0.1:{by}"))
    });
    eventually("it is read", || kept.proxy.status()["epoch"] == read);
    eventually("it is watched", || authority(&kept.proxy)["settled"] == true);
    let done = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(done.ok, "{}", done.stderr);
    eventually("legacy follows", || kept.show()["state"] == "applying");
    kept
}

/// What the clients were told.
#[derive(Default)]
struct Ledger {
    /// Ids of acknowledged rows.
    acknowledged: Mutex<BTreeSet<u64>>,
    next: AtomicU64,
    /// Connections that were lost in a write.
    lost: AtomicU64,
    /// Errors of autocommit reads.
    read_errors: Mutex<Vec<String>>,
    /// The longest time without an acknowledgement, and when the newest came, milliseconds since the start.
    newest: AtomicU64,
    gap: AtomicU64,
}

async fn writes(port: u16, writer: u32, over: Arc<AtomicBool>, ledger: Arc<Ledger>, start: Instant) {
    let opts = || crate::support::mariadb::opts(port).db_name(Some("d"));
    let mut conn = None;
    while !over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            match Conn::new(opts()).await {
                Ok(c) => conn = Some(c),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            continue;
        };
        let id = ledger.next.fetch_add(1, Ordering::Relaxed);
        let insert = format!("INSERT INTO t VALUES ({id}, {writer})");
        let done: mysql_async::Result<()> = if id.is_multiple_of(3) {
            async {
                c.query_drop("BEGIN").await?;
                c.query_drop(&insert).await?;
                c.query_drop("COMMIT").await
            }
            .await
        } else {
            c.query_drop(&insert).await
        };
        match done {
            Ok(()) => {
                ledger.acknowledged.lock().unwrap().insert(id);
                let now = u64::try_from(start.elapsed().as_millis()).unwrap();
                let before = ledger.newest.fetch_max(now, Ordering::Relaxed);
                if before > 0 {
                    ledger.gap.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
                }
            }
            Err(_) => {
                ledger.lost.fetch_add(1, Ordering::Relaxed);
                conn = None;
            }
        }
    }
}

/// Autocommit reads, as text and prepared: none may fail.
async fn reads(port: u16, over: Arc<AtomicBool>, ledger: Arc<Ledger>) {
    let mut conn = Conn::new(crate::support::mariadb::opts(port).db_name(Some("d"))).await.unwrap();
    let mut n = 0u64;
    while !over.load(Ordering::Relaxed) {
        n += 1;
        let read: mysql_async::Result<Option<u64>> = if n.is_multiple_of(2) {
            conn.query_first("SELECT COUNT(*) FROM t WHERE writer < 100").await
        } else {
            conn.exec_first("SELECT COUNT(*) FROM t WHERE writer < ?", (n,)).await
        };
        if let Err(error) = read {
            ledger.read_errors.lock().unwrap().push(error.to_string());
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs clients while `fail` does its work on the authority, until writes have gone on at the standby for a while.
async fn through(kept: &mut Kept, fail: impl FnOnce(&mut Kept)) -> Arc<Ledger> {
    through_from(kept, 1, fail).await
}

/// The same, with ids from `first` on.
async fn through_from(kept: &mut Kept, first: u64, fail: impl FnOnce(&mut Kept)) -> Arc<Ledger> {
    let (over, ledger, start) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()), Instant::now());
    ledger.next.store(first, Ordering::Relaxed);
    let port = kept.proxy.port;
    let mut tasks: Vec<_> =
        (1..=4).map(|n| tokio::spawn(writes(port, n, Arc::clone(&over), Arc::clone(&ledger), start))).collect();
    tasks.extend((0..2).map(|_| tokio::spawn(reads(port, Arc::clone(&over), Arc::clone(&ledger)))));
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    fail(kept);
    let deadline = Instant::now() + Duration::from_secs(30);
    while authority(&kept.proxy)["store"] != "legacy" {
        assert!(Instant::now() < deadline, "no fallback: {:#}\n{}", authority(&kept.proxy), kept.proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let silent = u64::try_from(start.elapsed().as_millis()).unwrap() - ledger.newest.load(Ordering::Relaxed);
    assert!(silent < 1_000, "writes do not go on: none for {silent} ms\n{}", kept.proxy.log());
    ledger
}

/// Every acknowledged row is on the survivor.
fn nothing_is_lost(kept: &Kept, ledger: &Ledger) {
    let there: BTreeSet<u64> =
        kept.authority.sql("SELECT id FROM d.t").concat().iter().map(|id| id.parse().unwrap()).collect();
    let acknowledged = ledger.acknowledged.lock().unwrap();
    let lost: Vec<&u64> = acknowledged.iter().filter(|id| !there.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged are lost: {lost:?}", lost.len(), acknowledged.len());
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    let errors = ledger.read_errors.lock().unwrap();
    assert!(errors.is_empty(), "{errors:?}\n{}", kept.proxy.log());
    let gap = ledger.gap.load(Ordering::Relaxed);
    eprintln!(
        "acknowledged {}, connections lost {}, longest time without an acknowledgement {gap} ms",
        acknowledged.len(),
        ledger.lost.load(Ordering::Relaxed)
    );
}

pub(super) const AUTO: &str = "    ack: standby\n    ack_timeout: 2s\n    fallback: auto\n    fallback_after: 1s\n";

/// `kill -9` of the authority: with `ack: standby` no acknowledged write is lost; when it returns it follows again, and nothing
/// flips by itself a second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_authority_is_given_up() {
    is_given_up(moved(AUTO)).await;
}

/// See [`a_killed_authority_is_given_up`].
pub(super) async fn is_given_up(mut kept: Kept) {
    let ledger = through(&mut kept, |kept| kept.standby.kill()).await;
    nothing_is_lost(&kept, &ledger);
    // (fallback_after + 1 s, and a margin for a machine that does other things)
    assert!(ledger.gap.load(Ordering::Relaxed) < 6_000, "{}", ledger.gap.load(Ordering::Relaxed));
    kept.standby.restart();
    eventually("the old authority follows", || {
        let authority = authority(&kept.proxy);
        authority["settled"] == true && authority["store"] == "legacy"
    });
    let stray = clients::mariadb(kept.standby.port, &["-Dd", "-e", "INSERT INTO t VALUES (0, 0)"]);
    assert!(!stray.ok && ["sealed", "ERROR 1356"].iter().any(|says| stray.stderr.contains(says)), "{}", stray.stderr);
    let through = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t VALUES (0, 0)"]);
    assert!(through.ok, "{}", through.stderr);
    let same = |a: &Server, b: &Server| sums(a, &["t"]) == sums(b, &["t"]);
    eventually("both are the same", || same(&kept.authority, &kept.standby));
    // forward again, by an operator
    eventually("it can go forward", || kept.proxy.cli(&["flag", "analytics", "new"]).ok);
    assert!(clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t VALUES (-1, 0)"]).ok);
    eventually("both are the same again", || same(&kept.authority, &kept.standby));
}

/// Again and again: killed, given up, back, and forward again by an operator.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_may_be_given_up_again_and_again() {
    let mut kept = moved(AUTO);
    let mut gaps = Vec::new();
    let rounds = if long() { 30 } else { 2 };
    for round in 0..rounds {
        let ledger = through_from(&mut kept, 1 + round * 1_000_000, |kept| kept.standby.kill()).await;
        nothing_is_lost(&kept, &ledger);
        gaps.push(ledger.gap.load(Ordering::Relaxed));
        kept.standby.restart();
        eventually("it can go forward", || kept.proxy.cli(&["flag", "analytics", "new"]).ok);
        eventually("legacy follows", || kept.show()["state"] == "applying");
    }
    gaps.sort_unstable();
    eprintln!("{rounds} fallbacks, longest time without an acknowledgement of each, ms: {gaps:?}");
    let same = |a: &Server, b: &Server| a.sql("CHECKSUM TABLE d.t EXTENDED") == b.sql("CHECKSUM TABLE d.t EXTENDED");
    eventually("both are the same", || same(&kept.authority, &kept.standby));
}

/// The same with `pool: transaction`; and a session that only waited, whatever it had last done there, goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_share_connections_survive_a_killed_authority() {
    let mut kept = moved_pooled(AUTO);
    let connect = async || Conn::new(crate::support::mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap();
    let mut idle = Vec::new();
    for (n, last) in [
        "SELECT COUNT(*) FROM t",
        "INSERT INTO t VALUES (1000010, 99)",
        // it leaves a warning, which keeps the connection
        "INSERT IGNORE INTO t VALUES (1000011, 99), (1000011, 99)",
        "SELECT 1",
    ]
    .into_iter()
    .enumerate()
    {
        let mut conn = connect().await;
        conn.query_drop(format!("SET @n = {n}, sql_mode = 'ANSI_QUOTES'")).await.unwrap();
        conn.exec_drop("SELECT id FROM t WHERE id = ?", (n,)).await.unwrap();
        conn.query_drop(last).await.unwrap();
        idle.push(conn);
    }
    let ledger = through(&mut kept, |kept| kept.standby.kill()).await;
    nothing_is_lost(&kept, &ledger);
    let lost = ledger.lost.load(Ordering::Relaxed);
    assert!(lost <= 4, "one for each writer at the most: {lost}");
    assert!(ledger.gap.load(Ordering::Relaxed) < 6_000, "{}", ledger.gap.load(Ordering::Relaxed));
    for (n, mut conn) in idle.into_iter().enumerate() {
        let found: Option<u64> = conn.exec_first("SELECT id FROM t WHERE id = ?", (1,)).await.unwrap();
        assert_eq!(found, Some(1), "{n}");
        let known: Option<(usize, String)> = conn.query_first("SELECT @n, @@sql_mode").await.unwrap();
        assert_eq!(known, Some((n, "ANSI_QUOTES".to_owned())));
        conn.query_drop(format!("INSERT INTO t VALUES ({}, 99)", 1_000_020 + n)).await.unwrap();
    }
}

/// What waits for an authority that is down goes on at the other, in a transaction, in a text of several statements, prepared; in
/// both modes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_that_could_wait() {
    for mut kept in [moved(AUTO), moved_pooled(AUTO)] {
        let port = kept.proxy.port;
        let connect = async || Conn::new(crate::support::mariadb::opts(port).db_name(Some("d"))).await.unwrap();
        let mut conns = Vec::new();
        for n in 0..5 {
            let mut conn = connect().await;
            if n % 2 == 0 {
                conn.query_drop("SELECT COUNT(*) FROM t").await.unwrap();
            }
            conns.push(conn);
        }
        conns[1].query_drop("BEGIN").await.unwrap();
        kept.standby.kill();
        // (what is sent in the moment of its death is under way, for all that anybody knows)
        tokio::time::sleep(Duration::from_millis(100)).await;
        let texts = [
            "INSERT INTO t VALUES (1, 1)",
            "INSERT INTO t VALUES (2, 1)",
            "SELECT 1; INSERT INTO t VALUES (3, 1); SELECT COUNT(*) FROM t; INSERT INTO t VALUES (4, 1)",
            "SELECT COUNT(*) FROM t; SELECT COUNT(*) FROM t",
        ];
        let tasks: Vec<_> = conns
            .into_iter()
            .enumerate()
            .map(|(n, mut conn)| {
                tokio::spawn(async move {
                    let done = match texts.get(n) {
                        Some(text) => conn.query_drop(*text).await,
                        None => conn.exec_drop("INSERT INTO t VALUES (?, 1)", (5,)).await,
                    };
                    done.unwrap_or_else(|e| panic!("{n}: {e}"));
                    if n == 1 {
                        conn.query_drop("COMMIT").await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(kept.authority.sql("SELECT GROUP_CONCAT(id ORDER BY id) FROM d.t")[0][0], "1,2,3,4,5");
    }
}

/// An authority that hangs, for clients that share connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_share_connections_survive_a_frozen_authority() {
    let mut kept = moved_pooled(AUTO);
    let ledger = through(&mut kept, |kept| kept.standby.freeze()).await;
    kept.standby.thaw();
    nothing_is_lost(&kept, &ledger);
    assert!(ledger.gap.load(Ordering::Relaxed) < 8_000, "{}", ledger.gap.load(Ordering::Relaxed));
}

/// An authority that hangs: whoever waits for it is let go, and what it did alone is settled when it wakes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_authority_is_given_up() {
    let mut kept = moved(AUTO);
    let ledger = through(&mut kept, |kept| kept.standby.freeze()).await;
    kept.standby.thaw();
    nothing_is_lost(&kept, &ledger);
    assert!(ledger.gap.load(Ordering::Relaxed) < 8_000, "{}", ledger.gap.load(Ordering::Relaxed));
    eventually("the old authority follows", || authority(&kept.proxy)["settled"] == true);
    let same = |a: &Server, b: &Server| a.sql("CHECKSUM TABLE d.t EXTENDED") == b.sql("CHECKSUM TABLE d.t EXTENDED");
    eventually("both are the same", || same(&kept.authority, &kept.standby));
    assert_eq!(authority(&kept.proxy)["store"], "legacy");
}

/// A proxy that dies as soon as it has decided leaves a store that serves, and is sealed: the next one opens it, without the other.
#[test]
fn a_fallback_whose_proxy_died_is_ended_by_the_next() {
    let mut kept = moved(AUTO);
    kept.proxy.kill();
    kept.standby.kill();
    // what the decision is, without what follows it
    let decided = "UPDATE switchover.groups SET epoch = epoch + 2, authority = 'legacy', state = 'open'";
    let note = "INSERT INTO switchover.fallbacks \
                SELECT group_name, epoch + 2, 'new', '0-12-1', '', '0-11-1', NOW(6), 'open' FROM switchover.groups";
    for sql in
        [note, decided, "UPDATE switchover.leases SET term = term + 1", "UPDATE switchover.marks SET term = term + 1"]
    {
        kept.authority.sql(sql);
    }
    assert!(
        kept.authority.try_sql(Some("d"), "INSERT INTO t VALUES (1, 1)").unwrap_err().to_string().contains("sealed")
    );
    kept.proxy.restart();
    // (until that is known a write is not acknowledged)
    eventually("it knows that it goes on alone", || authority(&kept.proxy)["acks"] == "degraded");
    let began = Instant::now();
    let written = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t VALUES (2, 1)"]);
    assert!(written.ok && began.elapsed() < Duration::from_secs(9), "{}\n{}", written.stderr, kept.proxy.log());
    assert_eq!(kept.authority.sql("SELECT id FROM d.t")[0][0], "2");
}

/// `fallback: manual`: nothing moves by itself; `--force` gives the authority up, and what it had alone is settled on its return.
#[test]
fn an_operator_gives_an_authority_up() {
    let mut kept = moved("");
    let run = |kept: &Kept, sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-e", sql]);
    assert!(run(&kept, "INSERT INTO t VALUES (1, 1), (2, 1)").ok);
    eventually("legacy has both", || kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0] == "2");
    // what the standby does not get any more: nobody may apply
    kept.authority.sql("UPDATE switchover.leases SET term = term + 100, holder = 'nobody', renewed = '2099-01-01'");
    // (what an applier goes by is the term in the marks, at once; the lease it sees a second later)
    kept.authority.sql("UPDATE switchover.marks SET term = term + 100");
    assert!(run(&kept, "INSERT INTO t VALUES (3, 1)").ok);
    assert!(run(&kept, "UPDATE t SET writer = 5 WHERE id = 2").ok);
    kept.standby.kill();
    let refused = kept.proxy.cli(&["flag", "analytics", "legacy"]);
    assert!(!refused.ok && refused.stderr.contains("--force"), "{}", refused.stderr);
    let forced = kept.proxy.cli(&["flag", "analytics", "legacy", "--force", "--why", "it is dead"]);
    assert!(forced.ok, "{}{}", forced.stdout, forced.stderr);
    // a later write touches what the dead one had changed alone
    assert!(run(&kept, "UPDATE t SET writer = 7 WHERE id = 2").ok);
    kept.standby.restart();
    eventually("the old authority follows", || {
        let authority = authority(&kept.proxy);
        authority["settled"] == true && authority["store"] == "legacy"
    });
    let rows = |s: &Server| s.sql("SELECT id, writer FROM d.t ORDER BY id");
    let wanted: Vec<Vec<String>> = [("1", "1"), ("2", "7"), ("3", "1")].map(|(a, b)| vec![a.into(), b.into()]).to_vec();
    assert_eq!(rows(&kept.authority), wanted, "what no later write touched is applied, the other is reported");
    eventually("both are the same", || rows(&kept.standby) == wanted);
    let told = kept.proxy.cli(&["standby", "left-behind", "analytics"]);
    assert!(told.ok && told.stdout.contains('5'), "{}{}", told.stdout, told.stderr);
}

/// `ack: standby` with `fallback: manual`: without its standby the group goes on, loudly, and recovers by itself.
#[test]
fn acknowledgements_go_on_without_the_standby() {
    let mut kept = Kept::start(TABLES, &[]);
    let keys = "    standby: new\n    ack: standby\n    ack_timeout: 3s\n";
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", keys));
    eventually("it is read", || authority(&kept.proxy)["acks"] == "standby");
    let run = |kept: &Kept, sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-e", sql]);
    for id in 1..=20 {
        assert!(run(&kept, &format!("INSERT INTO t VALUES ({id}, 1)")).ok);
        // acknowledged: it is there, at once
        let count = kept.standby.sql(&format!("SELECT COUNT(*) FROM d.t WHERE id = {id}"));
        assert_eq!(count[0][0], "1", "{id}");
    }
    let sql = "BEGIN; INSERT INTO t VALUES (100, 1); INSERT INTO t VALUES (101, 1); COMMIT";
    assert!(run(&kept, sql).ok);
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0], "22");
    assert_eq!(authority(&kept.proxy)["acknowledged_alone"], 0);
    kept.standby.kill();
    assert!(run(&kept, "INSERT INTO t VALUES (200, 1)").ok);
    eventually("it is degraded", || authority(&kept.proxy)["acks"] == "degraded");
    let began = Instant::now();
    assert!(run(&kept, "INSERT INTO t VALUES (201, 1)").ok);
    assert!(began.elapsed() < Duration::from_millis(2500), "{:?}", began.elapsed());
    assert!(authority(&kept.proxy)["acknowledged_alone"].as_u64().unwrap() >= 2);
    kept.standby.restart();
    eventually("it has recovered", || authority(&kept.proxy)["acks"] == "standby");
    assert!(run(&kept, "INSERT INTO t VALUES (300, 1)").ok);
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0], "25");
}

/// An orderly stop, after which connections are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_authority_is_given_up() {
    let mut kept = moved(AUTO);
    let ledger = through(&mut kept, |kept| kept.standby.stop()).await;
    nothing_is_lost(&kept, &ledger);
    kept.standby.restart();
    eventually("the old authority follows", || authority(&kept.proxy)["settled"] == true);
    let same = |a: &Server, b: &Server| a.sql("CHECKSUM TABLE d.t EXTENDED") == b.sql("CHECKSUM TABLE d.t EXTENDED");
    eventually("both are the same", || same(&kept.authority, &kept.standby));
}

/// A network that lets nothing through, while the authority lives behind it: what it did alone is settled when it is reached again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_that_is_cut_off_is_given_up() {
    let kept = Kept::start(TABLES, &[]);
    let cable = Cable::to(kept.standby.port);
    let mut kept = reached(kept, AUTO, Some(&cable));
    let ledger = through(&mut kept, |_| cable.hold()).await;
    // it lives, and somebody who reaches it past the proxy writes there: nobody has sealed it
    let alone = clients::mariadb(kept.standby.port, &["-Dd", "-e", "INSERT INTO t VALUES (-5, 77)"]);
    assert!(alone.ok, "{}", alone.stderr);
    cable.mend();
    nothing_is_lost(&kept, &ledger);
    eventually("the old authority follows", || authority(&kept.proxy)["settled"] == true);
    let same = |a: &Server, b: &Server| a.sql("CHECKSUM TABLE d.t EXTENDED") == b.sql("CHECKSUM TABLE d.t EXTENDED");
    eventually("both are the same", || same(&kept.authority, &kept.standby));
    assert_eq!(
        kept.authority.sql("SELECT writer FROM d.t WHERE id = -5"),
        [["77"]],
        "it was applied: nothing was in its way"
    );
}

/// A disk that is full: commits wait for space, and reads go on. What waited commits alone when there is room again, and is settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_whose_disk_is_full_is_given_up() {
    let disk = Disk::new();
    let new = PrivateServer::start_with(12, DURABLE, disk.environment());
    let kept = Kept::between(PrivateServer::start(11, DURABLE), new, TABLES, super::Form::default());
    let mut kept = reached(kept, AUTO, None);
    let ledger = through(&mut kept, |_| disk.fill()).await;
    nothing_is_lost(&kept, &ledger);
    assert!(ledger.gap.load(Ordering::Relaxed) < 6_000, "{}", ledger.gap.load(Ordering::Relaxed));
    assert!(kept.standby.log().contains("Disk is full"), "{}", kept.standby.log());
    // it answers meanwhile, and cannot be sealed: whoever tries to does not pile up there
    tokio::time::sleep(Duration::from_secs(if long() { 120 } else { 6 })).await;
    let waiting = kept.standby.status("Threads_connected");
    assert!(waiting < 60, "{waiting} connections");
    disk.free();
    if !long() {
        // (it would look again within a minute)
        kept.standby.kill();
        kept.standby.restart();
    }
    let deadline = Instant::now() + Duration::from_secs(120);
    while authority(&kept.proxy)["settled"] != true {
        assert!(Instant::now() < deadline, "{:#}\n{}", authority(&kept.proxy), kept.proxy.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let same = |a: &Server, b: &Server| a.sql("CHECKSUM TABLE d.t EXTENDED") == b.sql("CHECKSUM TABLE d.t EXTENDED");
    eventually("both are the same", || same(&kept.authority, &kept.standby));
    assert_eq!(authority(&kept.proxy)["store"], "legacy");
}
