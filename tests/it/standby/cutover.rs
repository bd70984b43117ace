//! The cutover: the authority changes under traffic, and back; who writes where it must not is refused, and seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::{Form, Kept, sums};
use crate::support::{Proxy, clients, eventually, long};

pub(super) const TABLES: &str =
    "CREATE TABLE t (id BIGINT PRIMARY KEY AUTO_INCREMENT, writer INT NOT NULL, n INT NOT NULL, UNIQUE (writer, n));
CREATE TABLE sums (writer INT PRIMARY KEY, n INT NOT NULL)";

/// `switchover flag`, which must go well.
pub(super) fn flag(proxy: &Proxy, store: &str) -> String {
    let done = proxy.cli(&["flag", "analytics", store]);
    assert!(done.ok, "{}{}\n{}", done.stdout, done.stderr, proxy.log());
    done.stdout
}

pub(super) fn authority(proxy: &Proxy) -> serde_json::Value {
    proxy.status()["groups"][0]["authority"].clone()
}

#[test]
fn the_authority_moves_and_comes_back() {
    moves_and_comes_back(&Kept::start(TABLES, &[]));
}

/// See [`the_authority_moves_and_comes_back`].
pub(super) fn moves_and_comes_back(kept: &Kept) {
    let run = |sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", sql]);
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 1)").ok);
    let dry = kept.proxy.cli(&["flag", "analytics", "new", "--dry-run"]);
    assert!(dry.ok && dry.stdout.contains("nothing was changed"), "{}{}", dry.stdout, dry.stderr);
    assert_eq!(authority(&kept.proxy)["store"], "legacy");

    let said = flag(&kept.proxy, "new");
    for step in ["hold", "seal", "catch up", "reverse start", "open", "release"] {
        assert!(said.contains(step), "{said}");
    }
    assert_eq!(authority(&kept.proxy)["store"], "new", "{:#}", authority(&kept.proxy));
    let file = std::fs::read_to_string(&kept.proxy.config_path).unwrap();
    assert!(file.contains("connection: new") && file.contains("standby: legacy"), "{file}");

    assert!(run("INSERT INTO t (writer, n) VALUES (1, 2)").ok);
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0], "2");
    // the store that was left follows, and takes writes of nobody else
    eventually("legacy follows", || kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0] == "2");
    let stray = clients::mariadb(kept.authority.port, &["-Dd", "-e", "INSERT INTO t (writer, n) VALUES (9, 9)"]);
    assert!(!stray.ok && stray.stderr.contains("ERROR 1644 (45000)"), "{}", stray.stderr);
    let seen = kept.authority.sql("SELECT table_name, times, statement FROM switchover.refused");
    assert_eq!(seen[0][..2], ["d.t".to_owned(), "1".to_owned()]);
    assert!(seen[0][2].contains("VALUES (9, 9)"), "{seen:?}");

    flag(&kept.proxy, "legacy");
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 3)").ok);
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0], "3");
    eventually("new follows again", || kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0] == "3");
    kept.assert_same();
    let file = std::fs::read_to_string(&kept.proxy.config_path).unwrap();
    assert!(file.contains("connection: legacy") && file.contains("standby: new"), "{file}");
}

/// Two proxies on the same stores, each with its own file.
pub(super) struct Two {
    pub(super) kept: Kept,
    pub(super) second: Proxy,
}

impl Two {
    pub(super) fn start(schema: &str) -> Two {
        Two::start_as(schema, Form::default())
    }

    /// The same, where these stores have no binlog.
    pub(super) fn start_without(schema: &str, without: &[&str]) -> Two {
        Two::start_as(schema, Form { without, ..Form::default() })
    }

    /// The same, between stores of this form.
    pub(super) fn start_as(schema: &str, form: Form<'_>) -> Two {
        let kept = Kept::start_as(schema, &[], form);
        let second = Proxy::start(|port| form.config(port, &kept.authority, &kept.standby));
        eventually("the second proxy looks", || second.status()["groups"][0]["authority"]["settled"] == true);
        Two { kept, second }
    }
}

/// What a writer saw.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) acknowledged: AtomicU64,
    errors: AtomicU64,
    /// The longest statement, microseconds.
    pub(super) longest: AtomicU64,
}

/// Writes numbers in order, alone and in transactions, and reads its own writes; any error counts.
pub(super) async fn writes(port: u16, writer: u64, over: Arc<AtomicBool>, ledger: Arc<Ledger>) -> Vec<String> {
    let opts = crate::support::mariadb::opts(port).db_name(Some("d"));
    let mut conn = Conn::new(opts).await.unwrap();
    let mut said = Vec::new();
    let mut n = 0u64;
    conn.query_drop(format!("INSERT INTO sums VALUES ({writer}, 0)")).await.unwrap();
    while !over.load(Ordering::Relaxed) {
        n += 1;
        let began = Instant::now();
        let insert = format!("INSERT INTO t (writer, n) VALUES ({writer}, {n})");
        let update = format!("UPDATE sums SET n = {n} WHERE writer = {writer}");
        let done = match n % 4 {
            0 => {
                async {
                    conn.query_drop("BEGIN").await?;
                    conn.query_drop(&insert).await?;
                    conn.query_drop(&update).await?;
                    conn.query_drop("COMMIT").await
                }
                .await
            }
            1 => {
                async {
                    conn.exec_drop("INSERT INTO t (writer, n) VALUES (?, ?)", (writer, n)).await?;
                    conn.exec_drop("UPDATE sums SET n = ? WHERE writer = ?", (n, writer)).await
                }
                .await
            }
            2 => {
                async {
                    conn.query_drop(format!("{insert}; {update}")).await?;
                    let read: Option<u64> =
                        conn.query_first(format!("SELECT n FROM sums WHERE writer = {writer}")).await?;
                    if read != Some(n) {
                        said.push(format!("writer {writer} read {read:?} after it wrote {n}"));
                    }
                    Ok(())
                }
                .await
            }
            _ => {
                async {
                    conn.query_drop(&insert).await?;
                    conn.query_drop(&update).await
                }
                .await
            }
        };
        let took = u64::try_from(began.elapsed().as_micros()).unwrap();
        ledger.longest.fetch_max(took, Ordering::Relaxed);
        match done {
            Ok(()) => {
                ledger.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                ledger.errors.fetch_add(1, Ordering::Relaxed);
                said.push(format!("writer {writer}, {n}: {error}"));
                return said;
            }
        }
    }
    said
}

/// Forth and back under writers at two proxies: no client sees an error, nothing is lost, both stores are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_a_cutover() {
    forth_and_back(&Two::start(TABLES), if long() { 200 } else { 12 }).await;
}

/// See [`no_client_sees_a_cutover`].
pub(super) async fn forth_and_back(two: &Two, rounds: u64) {
    let (over, ledger) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()));
    let writers: Vec<_> = (1..=6u64)
        .map(|n| {
            let port = if n % 2 == 0 { two.kept.proxy.port } else { two.second.port };
            tokio::spawn(writes(port, n, Arc::clone(&over), Arc::clone(&ledger)))
        })
        .collect();
    let mut pauses = Vec::new();
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let store = if round % 2 == 0 { "new" } else { "legacy" };
        let proxy = if round % 3 == 0 { &two.second } else { &two.kept.proxy };
        eventually("this proxy follows", || authority(proxy)["settled"] == true);
        let done = proxy.cli(&["flag", "analytics", store]);
        assert!(done.ok, "{}\n{:#}\n{:#}", done.stderr, authority(&two.kept.proxy), authority(&two.second));
        let longest = ledger.longest.swap(0, Ordering::Relaxed) / 1_000;
        if longest > 2_000 {
            let tail = |log: String| {
                log.lines()
                    .rev()
                    .take(40)
                    .map(|l| format!("{l}\n"))
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect::<String>()
            };
            let (first, second) = (tail(two.kept.proxy.log()), tail(two.second.log()));
            eprintln!("round {round}: a statement took {longest} ms\n{}\n{first}\n{second}", done.stdout);
        }
        pauses.push(longest);
    }
    over.store(true, Ordering::Relaxed);
    let mut said = Vec::new();
    for writer in writers {
        said.extend(writer.await.unwrap());
    }
    assert!(said.is_empty(), "{said:#?}\n{}\n{}", two.kept.proxy.log(), two.second.log());
    let done = ledger.acknowledged.load(Ordering::Relaxed);
    assert!(done > 50 * rounds / 4, "{done}");
    pauses.sort_unstable();
    eprintln!("{rounds} cutovers, {done} acknowledged, longest statement of each, ms: {pauses:?}");
    let rows = two.kept.authority.sql("SELECT COUNT(*), (SELECT SUM(n) FROM d.sums) FROM d.t");
    assert_eq!(rows[0][0], rows[0][1], "every number that was written is there");
    assert_eq!(rows[0][0], done.to_string());
    let same = || sums(&two.kept.authority, &["t", "sums"]) == sums(&two.kept.standby, &["t", "sums"]);
    eventually("both stores are the same", same);
}

/// What else is written on the authority stands behind the group's last write in its log, and holds no cutover up: the standby
/// says at once that it has passed it, not with its next beat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_tables_hold_no_cutover_up() {
    let kept = Kept::start(TABLES, &[]);
    let over = Arc::new(AtomicBool::new(false));
    let writers = [&kept.authority, &kept.standby].map(|server| {
        server.sql("CREATE DATABASE other");
        server.sql("CREATE TABLE other.t (id INT PRIMARY KEY AUTO_INCREMENT)");
        let (opts, over) = (server.opts(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut conn = Conn::new(opts).await.unwrap();
            while !over.load(Ordering::Relaxed) {
                conn.query_drop("INSERT INTO other.t VALUES ()").await.unwrap();
            }
        })
    });
    for store in ["new", "legacy", "new", "legacy"] {
        let settled = || authority(&kept.proxy)["settled"] == true;
        eventually("the proxy follows", settled);
        let done = kept.proxy.cli(&["flag", "analytics", store]);
        assert!(done.ok, "{}", done.stderr);
        let step = done.stdout.lines().find(|line| line.contains("catch up")).unwrap();
        let took: f64 = step.split_whitespace().next().unwrap().parse().unwrap();
        assert!(took < 2_500.0, "{}", done.stdout);
    }
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}

/// A flag at a proxy that was suspended through a cutover: the rows say who serves, not what it routes by still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_goes_by_the_rows() {
    let two = Two::start(TABLES);
    for round in 0..3 {
        two.second.signal(rustix::process::Signal::STOP);
        flag(&two.kept.proxy, "new");
        let (said, ()) = std::thread::scope(|scope| {
            let told = scope.spawn(|| two.second.cli(&["flag", "analytics", "legacy"]));
            std::thread::sleep(Duration::from_millis(300));
            two.second.signal(rustix::process::Signal::CONT);
            (told.join().unwrap(), ())
        });
        // it goes on, or says why not; what it does not say is that all is as it should be
        let serves = two.kept.authority.sql("SELECT state FROM switchover.groups")[0][0].clone();
        assert_eq!(said.ok, serves == "open", "round {round}: {}{}, legacy is {serves}", said.stdout, said.stderr);
        eventually("both follow", || [&two.kept.proxy, &two.second].iter().all(|p| authority(p)["settled"] == true));
        if serves != "open" {
            // (what it began before may not have ended: it says so)
            eventually("it goes on", || two.second.cli(&["flag", "analytics", "legacy"]).ok);
        }
    }
    // a seal's triggers are no ties of the application's
    flag(&two.kept.proxy, "new");
    let again = two.second.cli(&["flag", "analytics", "new"]);
    assert!(again.ok, "{}{}", again.stdout, again.stderr);
}

/// A transaction that stays open makes a cutover give up in time, and hurts nobody; other groups feel nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_makes_it_give_up() {
    let kept = Kept::start(TABLES, &[]);
    kept.authority.sql("CREATE DATABASE o");
    kept.authority.sql("CREATE TABLE o.other (id INT PRIMARY KEY)");
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", "    standby: new\n    drain_timeout: 1500ms\n"));
    eventually("it is read", || kept.proxy.status()["epoch"] == 2);
    let connect =
        || async { Conn::new(crate::support::mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap() };
    let (mut open, mut other, mut third) = (connect().await, connect().await, connect().await);
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO t (writer, n) VALUES (1, 1)").await.unwrap();
    let began = Instant::now();
    let config_path = kept.proxy.config_path.clone();
    let flag = tokio::task::spawn_blocking(move || {
        let binary = env!("CARGO_BIN_EXE_switchover");
        std::process::Command::new(binary).arg("--config").arg(config_path).args(["flag", "analytics", "new"]).output()
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    // a write of the group waits meanwhile, one of another table does not
    let held = tokio::spawn(async move {
        let began = Instant::now();
        third.query_drop("INSERT INTO t (writer, n) VALUES (2, 1)").await.unwrap();
        began.elapsed()
    });
    let quick = Instant::now();
    other.query_drop("INSERT INTO o.other VALUES (1)").await.unwrap();
    let read: Option<u64> = other.query_first("SELECT COUNT(*) FROM t").await.unwrap();
    assert_eq!(read, Some(0));
    assert!(quick.elapsed() < Duration::from_millis(250), "{:?}", quick.elapsed());
    let output = flag.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("given up at `hold`, nothing has changed"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(held.await.unwrap() > Duration::from_millis(100));
    open.query_drop("INSERT INTO t (writer, n) VALUES (1, 2)").await.unwrap();
    open.query_drop("COMMIT").await.unwrap();
    assert_eq!(authority(&kept.proxy)["store"], "legacy");
    kept.catch_up();
    kept.assert_same();
    self::flag(&kept.proxy, "new");
}

/// The red button: a cutover that waits is given up, and both stores are as they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_aborts_it() {
    let kept = Kept::start(TABLES, &[]);
    assert!(!kept.proxy.cli(&["abort", "analytics"]).ok, "there is nothing to abort");
    let mut open = Conn::new(crate::support::mariadb::opts(kept.proxy.port).db_name(Some("d"))).await.unwrap();
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO t (writer, n) VALUES (1, 1)").await.unwrap();
    let config_path = kept.proxy.config_path.clone();
    let flag = tokio::task::spawn_blocking(move || {
        let binary = env!("CARGO_BIN_EXE_switchover");
        std::process::Command::new(binary).arg("--config").arg(config_path).args(["flag", "analytics", "new"]).output()
    });
    eventually("it is under way", || authority(&kept.proxy)["cutover"].is_string());
    let second = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(!second.ok && second.stderr.contains("another cutover of analytics is under way"), "{}", second.stderr);
    assert_eq!(authority(&kept.proxy)["conducted_here"], true, "one that is refused takes nothing of it away");
    let aborted = kept.proxy.cli(&["abort", "analytics", "--why", "not today"]);
    assert!(aborted.ok, "{}", aborted.stderr);
    let output = flag.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && text.contains("nothing has changed") && text.contains("aborted by"), "{text}");
    open.query_drop("INSERT INTO t (writer, n) VALUES (1, 2)").await.unwrap();
    open.query_drop("COMMIT").await.unwrap();
    let after = authority(&kept.proxy);
    assert_eq!(after["waits"], 0, "nobody has waited at the gate");
    assert_eq!((after["store"].as_str(), after["conducted_here"].as_bool()), (Some("legacy"), Some(false)));
    let events = kept.proxy.cli(&["events"]).stdout;
    assert!(events.contains("abort") && events.contains("not today"), "{events}");
    self::flag(&kept.proxy, "new");
}
