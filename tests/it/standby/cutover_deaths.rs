//! Whoever conducts a cutover, whoever takes part in it, and the stores that it is about are killed or suspended in the middle of
//! it: afterwards one store serves, the other is sealed, and every write that a client was told of is on both.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, Statement, WhiteListFsHandler};
use rustix::process::Signal;
use switchover::standby::record::{Record, Standing, Verdict, verdict};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::cutover::{Ledger, TABLES, Two, authority, writes};
use super::workload::Dice;
use super::{place, sums};
use crate::support::{PrivateServer, Proxy, clients, eventually, long};

impl Two {
    fn store(&self, name: &str) -> &PrivateServer {
        if name == "legacy" { &self.kept.authority } else { &self.kept.standby }
    }

    fn store_mut(&mut self, name: &str) -> &mut PrivateServer {
        if name == "legacy" { &mut self.kept.authority } else { &mut self.kept.standby }
    }

    /// What both rows say now.
    fn verdict(&self) -> Verdict {
        let row = |name: &str| {
            let rows = self.store(name).sql("SELECT epoch, authority, state FROM switchover.groups");
            let standing = match rows[0][2].as_str() {
                "open" => Standing::Open,
                "sealed" => Standing::Sealed,
                _ => Standing::Standby,
            };
            let (epoch, authority) = (rows[0][0].parse().unwrap(), rows[0][1].clone());
            Record { epoch, authority, standing, token: String::new(), cutover: String::new() }
        };
        let (legacy, new) = (row("legacy"), row("new"));
        verdict(("legacy", Some(&legacy)), ("new", Some(&new)))
    }

    /// One store serves, the other takes nothing, nobody waits, and both proxies and their files say so; who serves.
    fn settled(&self) -> String {
        let mut serves = String::new();
        eventually("one authority", || {
            let Verdict::Settled { authority: store, .. } = self.verdict() else { return false };
            let intents = ["legacy", "new"].map(|s| self.store(s).sql("SELECT cutover FROM switchover.intents").len());
            let follows = |proxy: &Proxy| {
                let seen = authority(proxy);
                seen["settled"] == true && seen["store"] == store && seen["held"] == false
            };
            serves = store.clone();
            intents == [0, 0] && follows(&self.kept.proxy) && follows(&self.second)
        });
        let other = other(&serves);
        for proxy in [&self.kept.proxy, &self.second] {
            eventually("the file says so", || {
                let file = std::fs::read_to_string(&proxy.config_path).unwrap();
                file.contains(&format!("connection: {serves}")) && file.contains(&format!("standby: {other}"))
            });
        }
        eventually("the authority has no seal", || seals(self.store(&serves)) == (0, 0));
        // three triggers on each of two tables, or both away
        let sealed = seals(self.store(other));
        assert!([(6, 0), (0, 2)].contains(&sealed), "{other} is sealed: {sealed:?}");
        let stray = "INSERT INTO t (writer, n) VALUES (99, 99)";
        let stray = clients::mariadb(self.store(other).port, &["-Dd", "-e", stray]);
        let says = if sealed.1 == 0 { "ERROR 1644 (45000)" } else { "ERROR 1356 (HY000)" };
        assert!(!stray.ok && stray.stderr.contains(says), "{}", stray.stderr);
        serves
    }

    /// Waits until a cutover to `to` would be begun, and waits for nobody who is dead.
    fn ready(&self, to: &str) {
        eventually("nobody is counted who is not there", || {
            let alive = "SELECT COUNT(*) FROM switchover.proxies WHERE renewed > NOW(6) - INTERVAL 3 SECOND";
            self.store(other(to)).sql(alive)[0][0] == "2"
        });
        eventually("the preconditions hold", || self.kept.proxy.cli(&["flag", "analytics", to, "--dry-run"]).ok);
    }

    /// Both stores hold the same rows.
    fn same(&self) {
        eventually("both stores are the same", || {
            sums(&self.kept.authority, &["t", "sums"]) == sums(&self.kept.standby, &["t", "sums"])
        });
    }

    /// Writers at the second proxy, which nobody touches.
    fn writers(&self, over: &Arc<AtomicBool>, ledger: &Arc<Ledger>) -> Vec<JoinHandle<Vec<String>>> {
        let port = self.second.port;
        (1..=4).map(|n| tokio::spawn(writes(port, n, Arc::clone(over), Arc::clone(ledger)))).collect()
    }

    /// Ends them: no error, and all that they were told of is on both stores.
    async fn end(&self, over: &AtomicBool, ledger: &Ledger, writers: Vec<JoinHandle<Vec<String>>>) {
        over.store(true, Ordering::Relaxed);
        for writer in writers {
            let said = writer.await.unwrap();
            assert!(said.is_empty(), "{said:#?}\n{}\n{}", self.kept.proxy.log(), self.second.log());
        }
        let longest = ledger.longest.load(Ordering::Relaxed) / 1_000;
        let done = ledger.acknowledged.load(Ordering::Relaxed);
        eprintln!("{done} acknowledged, the longest statement took {longest} ms");
        self.same();
        let d = place(&self.kept.authority);
        let sql = format!("SELECT COUNT(*), (SELECT SUM(n) FROM {d}.sums) FROM {d}.t WHERE writer < 5");
        let written = self.kept.authority.sql(&sql);
        assert_eq!(written[0], [done.to_string(), done.to_string()], "every number that was written is there");
    }
}

fn other(store: &str) -> &'static str {
    if store == "legacy" { "new" } else { "legacy" }
}

/// Triggers of a seal, and tables that are away.
pub(super) fn seals(server: &PrivateServer) -> (usize, usize) {
    let count = |sql: &str| server.sql(sql)[0][0].parse().unwrap();
    (
        count(TRIGGERS),
        count("SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover_sealed_d'"),
    )
}

const TRIGGERS: &str = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_NAME LIKE 'switchover\\_seal%'";

/// `switchover flag`, in the background.
fn begin_flag(proxy: &Proxy, to: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchover"));
    command.arg("--config").arg(&proxy.config_path).args(["flag", "analytics", to]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Where in a cutover something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// The old authority is being sealed.
    Seal,
    /// It is sealed, the new one has not everything yet.
    CatchUp,
    /// The new one is open, and sealed still.
    Decided,
    /// So many milliseconds after it was begun.
    After(u64),
}

impl Place {
    /// Stands in the way of what comes behind this place, until it is dropped.
    async fn obstruct(self, old: &PrivateServer, new: &PrivateServer) -> Option<Conn> {
        let (store, sql) = match self {
            Place::Seal => (old, "SELECT COUNT(*) FROM t"),
            Place::CatchUp => (new, "SELECT COUNT(*) FROM sums FOR UPDATE"),
            Place::Decided => (new, "SELECT COUNT(*) FROM t"),
            Place::After(_) => return None,
        };
        let within = place(store);
        let mut conn = store.connect().await;
        conn.query_drop(format!("USE {within}")).await.unwrap();
        conn.query_drop("BEGIN").await.unwrap();
        conn.query_drop(sql).await.unwrap();
        Some(conn)
    }

    /// Waits until a cutover is there.
    async fn reached(self, old: &PrivateServer, new: &PrivateServer) {
        let (store, wanted) = match self {
            Place::Seal => return being_sealed(old).await,
            Place::CatchUp => (old, "SELECT COUNT(*) FROM switchover.groups WHERE state = 'sealed'"),
            Place::Decided => (new, "SELECT COUNT(*) FROM switchover.groups WHERE state = 'open'"),
            Place::After(millis) => return sleep(Duration::from_millis(millis)).await,
        };
        let mut conn = store.connect().await;
        let deadline = Instant::now() + Duration::from_secs(12);
        while conn.query_first::<u64, _>(wanted).await.unwrap() == Some(0) {
            assert!(Instant::now() < deadline, "no cutover comes to {self:?}");
            sleep(Duration::from_millis(3)).await;
        }
        let _ = conn.disconnect().await;
    }
}

/// Waits for a trigger of the seal, or for an attempt to move the tables away.
async fn being_sealed(store: &PrivateServer) {
    let moves = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'RENAME TABLE%'";
    let deadline = Instant::now() + Duration::from_secs(12);
    while [TRIGGERS, moves].iter().all(|sql| store.sql(sql)[0][0] == "0") {
        assert!(Instant::now() < deadline, "nobody seals it");
        sleep(Duration::from_millis(3)).await;
    }
}

/// Ends what stood in the way.
async fn clear(obstacle: Option<Conn>) {
    if let Some(conn) = obstacle {
        let _ = conn.disconnect().await;
    }
}

/// The proxy that conducts is killed at every step; clients of the other one see nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_conductor_dies_at_every_step() {
    conductor_dies(Two::start(TABLES)).await;
}

/// See [`a_conductor_dies_at_every_step`].
pub(super) async fn conductor_dies(mut two: Two) {
    let (over, ledger) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()));
    let writers = two.writers(&over, &ledger);
    let mut dice = Dice(0xDEAD_0001);
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    let mut from = two.settled();
    for round in 0..if long() { 60 } else { 4 } {
        let to = other(&from);
        two.ready(to);
        let place = match round {
            0 => Place::Decided,
            1 => Place::CatchUp,
            2 => Place::Seal,
            n if n % 7 == 0 => Place::Decided,
            _ => Place::After(dice.roll(400)),
        };
        let obstacle = place.obstruct(two.store(&from), two.store(to)).await;
        let mut flag = begin_flag(&two.kept.proxy, to);
        place.reached(two.store(&from), two.store(to)).await;
        two.kept.proxy.kill();
        let state = match two.verdict() {
            Verdict::Settled { authority, .. } if authority == from => "settled, the old one",
            Verdict::Settled { .. } => "settled, the new one",
            Verdict::Undecided { .. } => "undecided",
            Verdict::Decided { .. } => "decided",
            other => panic!("{place:?}: {other:?}"),
        };
        *met.entry(state.to_owned()).or_default() += 1;
        clear(obstacle).await;
        let _ = flag.wait();
        // it comes back before the other one has ended its cutover, or after
        sleep(Duration::from_millis(dice.roll(2) * 5_000 * u64::from(long()))).await;
        two.kept.proxy.restart();
        let serves = two.settled();
        let decided = matches!(state, "decided" | "settled, the new one");
        assert_eq!(serves == to, decided, "{place:?}, {state}: {serves} serves");
        let before = ledger.acknowledged.load(Ordering::Relaxed);
        eventually("writes go on", || ledger.acknowledged.load(Ordering::Relaxed) > before + 4);
        from = serves;
    }
    eprintln!("met: {met:?}");
    two.end(&over, &ledger, writers).await;
    assert!(ledger.longest.load(Ordering::Relaxed) < 10_000_000);
    let all = ["undecided", "decided", "settled, the old one", "settled, the new one"];
    let must = if long() { &all[..] } else { &all[..3] };
    assert!(must.iter().all(|state| met.contains_key(*state)), "{met:?}");
}

/// The proxy that conducts is suspended in the middle, and wakes up when the other one has ended its cutover.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_conductor_sleeps_and_wakes() {
    let two = Two::start(TABLES);
    let (over, ledger) = (Arc::new(AtomicBool::new(false)), Arc::new(Ledger::default()));
    let writers = two.writers(&over, &ledger);
    let mut dice = Dice(0xDEAD_0002);
    let mut from = two.settled();
    for round in 0..if long() { 20 } else { 2 } {
        let to = other(&from);
        two.ready(to);
        let place = match round % 5 {
            0 => Place::Seal,
            1 => Place::CatchUp,
            2 => Place::Decided,
            _ => Place::After(dice.roll(250)),
        };
        let obstacle = place.obstruct(two.store(&from), two.store(to)).await;
        let mut flag = begin_flag(&two.kept.proxy, to);
        place.reached(two.store(&from), two.store(to)).await;
        two.kept.proxy.signal(Signal::STOP);
        clear(obstacle).await;
        let before = ledger.acknowledged.load(Ordering::Relaxed);
        sleep(Duration::from_secs(6)).await;
        let meanwhile = ledger.acknowledged.load(Ordering::Relaxed) - before;
        two.kept.proxy.signal(Signal::CONT);
        assert!(meanwhile > 4, "{place:?}: {meanwhile} writes in six seconds");
        let _ = flag.wait();
        from = two.settled();
        // nothing of it comes later
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(two.settled(), from);
        let insert = format!("INSERT INTO t (writer, n) VALUES (50, {round})");
        let woken = clients::mariadb(two.kept.proxy.port, &["-Dd", "-e", &insert]);
        assert!(woken.ok, "{}", woken.stderr);
    }
    two.end(&over, &ledger, writers).await;
}

/// What a client of a proxy that sleeps is about to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Autocommit,
    Prepared,
    /// A transaction that has written another table of the store.
    Wrote,
    /// A transaction that has done nothing yet.
    Begun,
    Several,
    Load,
    /// Its answer begins before the row is written.
    Returning,
    ReturningPrepared,
    /// A routine that answers before it writes.
    Calls,
}

const KINDS: [Next; 9] = [
    Next::Autocommit,
    Next::Prepared,
    Next::Wrote,
    Next::Begun,
    Next::Several,
    Next::Load,
    Next::Returning,
    Next::ReturningPrepared,
    Next::Calls,
];

impl Next {
    /// Whether it must not be sent again as if nothing had been.
    fn is_told(self) -> bool {
        matches!(self, Next::Wrote | Next::Returning | Next::ReturningPrepared)
    }
}

struct Sleeper {
    kind: Next,
    conn: Conn,
    prepared: Option<Statement>,
    round: u64,
    file: String,
}

impl Sleeper {
    async fn start(port: u16, kind: Next, round: u64, file: &str) -> Sleeper {
        let opts = crate::support::mariadb::opts(port).db_name(Some("d"));
        let opts = opts.local_infile_handler(Some(WhiteListFsHandler::new(&[file][..])));
        let mut conn = Conn::new(opts).await.unwrap();
        let insert = "INSERT INTO t (writer, n) VALUES (?, ?)";
        let prepared = match kind {
            Next::Prepared => Some(conn.prep(insert).await.unwrap()),
            Next::ReturningPrepared => Some(conn.prep(format!("{insert} RETURNING n")).await.unwrap()),
            _ => None,
        };
        let mut sleeper = Sleeper { kind, conn, prepared, round, file: file.to_owned() };
        sleeper.begin().await.unwrap();
        sleeper
    }

    fn writer(&self) -> u64 {
        20 + KINDS.iter().position(|k| *k == self.kind).unwrap() as u64
    }

    async fn begin(&mut self) -> Result<(), Error> {
        if matches!(self.kind, Next::Wrote | Next::Begun) {
            self.conn.query_drop("BEGIN").await?;
        }
        if self.kind == Next::Wrote {
            self.conn.query_drop(format!("INSERT INTO o.other (n) VALUES ({})", self.round)).await?;
        }
        Ok(())
    }

    async fn go_on(&mut self) -> Result<(), Error> {
        let (writer, round) = (self.writer(), self.round);
        let insert = format!("INSERT INTO t (writer, n) VALUES ({writer}, {round})");
        match self.kind {
            Next::Autocommit => self.conn.query_drop(insert).await,
            Next::Prepared => {
                let Some(prepared) = self.prepared.clone() else { unreachable!() };
                self.conn.exec_drop(&prepared, (writer, round)).await
            }
            Next::Wrote | Next::Begun => {
                self.conn.query_drop(insert).await?;
                self.conn.query_drop("COMMIT").await
            }
            Next::Returning | Next::ReturningPrepared => {
                let said: Vec<u64> = match self.prepared.clone() {
                    Some(prepared) => self.conn.exec(&prepared, (writer, round)).await?,
                    None => self.conn.query(format!("{insert} RETURNING n")).await?,
                };
                assert_eq!(said, [round], "{:?}", self.kind);
                Ok(())
            }
            Next::Calls => {
                let said: Vec<u64> = self.conn.query(format!("CALL says_and_writes({writer}, {round})")).await?;
                assert_eq!(said, [round], "{:?}", self.kind);
                Ok(())
            }
            Next::Several => self.conn.query_drop(format!("{insert}; UPDATE sums SET n = n WHERE writer = 1")).await,
            Next::Load => {
                let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t (writer, n)", self.file);
                self.conn.query_drop(load).await
            }
        }
    }

    /// What it was told first, and whether a retry mended that.
    async fn wake(mut self) -> (Next, u16) {
        let mut first = 0;
        for attempt in 0..40 {
            let done = match attempt {
                0 => self.go_on().await,
                _ => match self.begin().await {
                    Ok(()) => self.go_on().await,
                    Err(error) => Err(error),
                },
            };
            if done.is_ok() {
                let next: Option<u64> = self.conn.query_first("SELECT 4711").await.unwrap();
                assert_eq!(next, Some(4711), "{:?}: something came behind its answer", self.kind);
            }
            match done {
                Ok(()) => return (self.kind, first),
                Err(Error::Server(error)) if error.code == 1213 => first = error.code,
                Err(error) => panic!("{:?}, attempt {attempt}: {error}", self.kind),
            }
            sleep(Duration::from_millis(50)).await;
        }
        panic!("{:?}: a retry does not mend it", self.kind)
    }
}

/// A proxy sleeps through a cutover that the other one conducts; its clients write nothing where they must not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proxy_sleeps_through_a_cutover() {
    assert!(
        proxy_sleeps(Two::start(TABLES)).await > 0,
        "the sealed store tells nobody of the writers that it has refused"
    );
}

/// The same, where the standby acknowledges.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_proxy_sleeps_through_a_cutover_that_waits_for_its_standby() {
    let two = Two::start(TABLES);
    for proxy in [&two.kept.proxy, &two.second] {
        proxy.edit_config(|text| text.replace("    standby: new\n", "    standby: new\n    ack: standby\n"));
        eventually("the standby is waited for", || authority(proxy)["acks"] == "standby");
    }
    proxy_sleeps(two).await;
}

/// See [`a_proxy_sleeps_through_a_cutover`]; how many writers the stores have written down that they refused.
pub(super) async fn proxy_sleeps(two: Two) -> u64 {
    two.kept.authority.sql("CREATE DATABASE o");
    two.kept.authority.sql("CREATE TABLE o.other (id INT PRIMARY KEY AUTO_INCREMENT, n INT)");
    two.kept.authority.sql("INSERT INTO d.sums VALUES (1, 0)");
    for server in [&two.kept.authority, &two.kept.standby] {
        server.sql(
            "CREATE PROCEDURE d.says_and_writes(w INT, r INT) BEGIN SELECT r; INSERT INTO t (writer, n) VALUES (w, r); END",
        );
    }
    for proxy in [&two.kept.proxy, &two.second] {
        let epoch = proxy.status()["epoch"].as_u64().unwrap();
        proxy.edit_config(|text| {
            text.replace("    standby: new\n", "    standby: new\n    drain_timeout: 3500ms\n")
                .replace("tables: [d.*]", "tables: [d.*, d.says_and_writes]")
        });
        eventually("it is read", || proxy.status()["epoch"] == epoch + 1);
    }
    a_transaction_that_wrote_is_waited_for(&two).await;
    let mut from = two.settled();
    let file = two.kept.proxy.folder.join("rows.tsv").display().to_string();
    let mut refused = 0;
    for round in 0..if long() { 20 } else { 1 } {
        let to = other(&from);
        two.ready(to);
        std::fs::write(&file, format!("25\t{round}\n")).unwrap();
        let mut sleepers = Vec::new();
        for kind in KINDS {
            sleepers.push(Sleeper::start(two.kept.proxy.port, kind, round, &file).await);
        }
        two.kept.proxy.signal(Signal::STOP);
        let done = two.second.cli(&["flag", "analytics", to]);
        assert!(done.ok, "{}{}", done.stdout, done.stderr);
        // they say it to a proxy that sleeps still
        let said: Vec<_> = sleepers.into_iter().map(|sleeper| tokio::spawn(sleeper.wake())).collect();
        sleep(Duration::from_millis(200)).await;
        two.kept.proxy.signal(Signal::CONT);
        for told in said {
            let (kind, code) = told.await.unwrap();
            eprintln!(
                "round {round}, {kind:?}: {}",
                if code == 0 { "routed again".to_owned() } else { code.to_string() }
            );
            // what can be sent again as if nothing had been is
            assert!(code == 0 || kind.is_told(), "{kind:?}: {code}");
        }
        let written = "SELECT COUNT(*) FROM d.t WHERE writer >= 20 AND writer < 30 AND n = ";
        assert_eq!(two.store(to).sql(&format!("{written}{round}"))[0][0], KINDS.len().to_string());
        let times =
            "SELECT COALESCE(SUM(times), 0) FROM switchover.refused WHERE table_name = 'd.t' AND account LIKE 'app@%'";
        refused += two.store(&from).sql(times)[0][0].parse::<u64>().unwrap();
        from = two.settled();
        assert_eq!(from, to);
        two.same();
    }
    let other = two.kept.authority.sql("SELECT COUNT(*), COUNT(DISTINCT n) FROM o.other");
    assert_eq!(other[0][0], other[0][1], "a transaction that was rolled back has left something");
    refused
}

/// Triggers refuse no DDL: that of a proxy that slept through the cutover goes to the new authority nevertheless.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sleeper_changes_no_table_of_the_sealed_store() {
    let two = Two::start(TABLES);
    let mut conn = two.kept.proxy.connect("d").await;
    conn.query_drop("INSERT INTO t (writer, n) VALUES (41, 1)").await.unwrap();
    two.ready("new");
    two.kept.proxy.signal(Signal::STOP);
    let done = two.second.cli(&["flag", "analytics", "new"]);
    assert!(done.ok, "{}{}", done.stdout, done.stderr);
    let said = tokio::spawn(async move { conn.query_drop("ALTER TABLE t COMMENT = 'late'").await });
    sleep(Duration::from_millis(200)).await;
    two.kept.proxy.signal(Signal::CONT);
    said.await.unwrap().unwrap();
    let comment = "SELECT TABLE_COMMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd' AND TABLE_NAME = 't'";
    assert_eq!(two.kept.standby.sql(comment)[0][0], "late");
    assert_eq!(two.kept.authority.sql(comment)[0][0], "");
}

/// A transaction of a sleeping proxy that has written the group keeps the store from being sealed, and loses nothing.
async fn a_transaction_that_wrote_is_waited_for(two: &Two) {
    let mut conn = two.kept.proxy.connect("d").await;
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("INSERT INTO t (writer, n) VALUES (40, 1)").await.unwrap();
    two.kept.proxy.signal(Signal::STOP);
    let done = two.second.cli(&["flag", "analytics", "new"]);
    assert!(
        !done.ok && done.stderr.contains("given up at `seal`, nothing has changed"),
        "{}{}",
        done.stdout,
        done.stderr
    );
    two.kept.proxy.signal(Signal::CONT);
    conn.query_drop("INSERT INTO t (writer, n) VALUES (40, 2)").await.unwrap();
    conn.query_drop("UPDATE sums SET n = n WHERE writer = 1").await.unwrap();
    conn.query_drop("COMMIT").await.unwrap();
    assert_eq!(two.settled(), "legacy");
}

/// Writes numbers, whatever happens; those that it was told of.
async fn stubborn(port: u16, writer: u64, over: Arc<AtomicBool>) -> Vec<u64> {
    let mut told = Vec::new();
    let mut conn: Option<Conn> = None;
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            conn = Conn::new(crate::support::mariadb::opts(port).db_name(Some("d"))).await.ok();
            if conn.is_none() {
                sleep(Duration::from_millis(30)).await;
            }
            continue;
        };
        n += 1;
        match c.query_drop(format!("INSERT INTO t (writer, n) VALUES ({writer}, {n})")).await {
            Ok(()) => told.push(n),
            Err(Error::Server(_)) => sleep(Duration::from_millis(10)).await,
            Err(_) => conn = None,
        }
    }
    told
}

/// Either store is killed in the middle of a cutover, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_dies_in_the_middle() {
    store_dies(Two::start(TABLES)).await;
}

/// See [`a_store_dies_in_the_middle`].
pub(super) async fn store_dies(mut two: Two) {
    let over = Arc::new(AtomicBool::new(false));
    let ports = [two.kept.proxy.port, two.second.port];
    let writers = [31u64, 32, 33, 34].map(|n| (n, tokio::spawn(stubborn(ports[n as usize % 2], n, Arc::clone(&over)))));
    let mut dice = Dice(0xDEAD_0003);
    let mut from = two.settled();
    for round in 0..if long() { 60 } else { 2 } {
        let to = other(&from);
        two.ready(to);
        let place = match round {
            0 => Place::CatchUp,
            1 => Place::Seal,
            n if n % 7 == 0 => Place::Decided,
            _ => Place::After(dice.roll(200)),
        };
        let victim = if round % 2 == 0 { from.clone() } else { to.to_owned() };
        let obstacle = place.obstruct(two.store(&from), two.store(to)).await;
        let mut flag = begin_flag(&two.kept.proxy, to);
        place.reached(two.store(&from), two.store(to)).await;
        two.store_mut(&victim).kill();
        clear(obstacle).await;
        sleep(Duration::from_millis(dice.roll(1_500))).await;
        two.store_mut(&victim).restart();
        let began = Instant::now();
        let _ = flag.wait();
        let serves = two.settled();
        eprintln!(
            "round {round}: {victim} was killed at {place:?}, settled {:?} after it was back: {serves}",
            began.elapsed()
        );
        from = serves;
    }
    sleep(Duration::from_millis(300)).await;
    over.store(true, Ordering::Relaxed);
    two.same();
    for (writer, told) in writers {
        let told = told.await.unwrap();
        let d = place(&two.kept.authority);
        let there = two.kept.authority.sql(&format!("SELECT n FROM {d}.t WHERE writer = {writer}")).concat();
        let there: std::collections::BTreeSet<u64> = there.iter().map(|n| n.parse().unwrap()).collect();
        let lost: Vec<_> = told.iter().filter(|n| !there.contains(n)).collect();
        assert!(lost.is_empty() && told.len() > 10, "{writer}: {} told, lost {lost:?}", told.len());
    }
    two.same();
}
