//! The authority fails under load: its standby takes over, no acknowledged write is lost, and what was left behind is settled.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::Kept;
use crate::support::cable::Cable;
use crate::support::{Proxy, Server, clients, eventually};

pub(super) const TABLES: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, writer INT NOT NULL)";

fn authority(proxy: &Proxy) -> serde_json::Value {
    proxy.status()["groups"][0]["authority"].clone()
}

/// A group whose authority is `new`, with these keys; `legacy` is its standby, and every client's home.
fn moved(keys: &str) -> Kept {
    reached(Kept::start(TABLES, &[]), keys, None)
}

/// The same, with `new` reached through a cable.
pub(super) fn reached(kept: Kept, keys: &str, cable: Option<&Cable>) -> Kept {
    let keys_given = !keys.is_empty();
    let keys = format!("    standby: new\n{keys}");
    let (direct, by) = (kept.standby.port, cable.map_or(kept.standby.port, |cable| cable.port));
    kept.proxy.edit_config(|text| {
        text.replace("    standby: new\n", &keys).replace(&format!("127.0.0.1:{direct}"), &format!("127.0.0.1:{by}"))
    });
    let read = if keys_given { 2 } else { 1 };
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
    let (over, ledger, start) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()), Instant::now());
    ledger.next.store(1, Ordering::Relaxed);
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
    assert!(!stray.ok && stray.stderr.contains("sealed"), "{}", stray.stderr);
    let through = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t VALUES (0, 0)"]);
    assert!(through.ok, "{}", through.stderr);
    let same = |a: &Server, b: &Server| a.sql("CHECKSUM TABLE d.t EXTENDED") == b.sql("CHECKSUM TABLE d.t EXTENDED");
    eventually("both are the same", || same(&kept.authority, &kept.standby));
    // forward again, by an operator
    eventually("it can go forward", || kept.proxy.cli(&["flag", "analytics", "new"]).ok);
    assert!(clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t VALUES (-1, 0)"]).ok);
    eventually("both are the same again", || same(&kept.authority, &kept.standby));
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
    let keys = "    standby: new\n    ack: standby\n    ack_timeout: 500ms\n";
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
    assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
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
