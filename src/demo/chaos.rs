//! `switchover demo --chaos`: the store that serves the group is killed under traffic, its standby takes over, it comes back and
//! follows, and an operator goes forward again; round after round.
//!
//! Each client keeps a ledger of its own: what it was told is done. At the end every line of it is looked for on the store that
//! serves, and both stores are compared. The last line on stdout says what was found:
//! `acknowledged <n>, lost <n>, client errors <n>, fallbacks <n>, differing rows <n>`. A client error is a connection that was lost
//! with a write under way, whose outcome nobody can tell; anything else that fails is named on stderr.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::time::{Instant, sleep};

use super::flag::{Flag, Side};
use super::ground::Ground;
use super::screen::{complain, say};
use super::store::{self, Store};
use super::{ACCOUNT, DATABASE, Options, schema, serve_somewhere};

/// What a store needs whose commits another one follows.
const DURABLE: &[&str] =
    &["--log-bin=binlog", "--binlog-format=ROW", "--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"];
/// How the group is kept.
const KEYS: &str = "    standby: new                    # follows, and takes over\n    ack: standby\n    fallback: auto\n    fallback_after: 1s\n";
/// Seconds of chaos, if the command line does not say.
const SECONDS: u64 = 20;
/// Clients that write, and that read.
const WRITERS: u64 = 4;
const READERS: u64 = 2;
/// For anything to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients were told.
#[derive(Default)]
struct Ledger {
    /// Visits whose pageview is acknowledged.
    acknowledged: Mutex<BTreeSet<String>>,
    next: AtomicU64,
    errors: AtomicU64,
    over: AtomicBool,
}

/// The whole of it.
pub(super) async fn play(ground: &mut Ground, options: &Options) -> anyhow::Result<ExitCode> {
    say(format_args!("switchover demo: starting two MariaDB servers in {}", ground.path().display()))?;
    let (legacy, new) =
        tokio::try_join!(store::install(ground.path(), "legacy"), store::install(ground.path(), "new"))?;
    let legacy = Store::start(ground, legacy, 1, DURABLE).await?;
    let mut new = Store::start(ground, new, 2, DURABLE).await?;
    tokio::try_join!(schema::create(&legacy), schema::create(&new))?;
    let config = ground.path().join("routing.yaml");
    let (port, surfaces) = serve_somewhere(ground, &config, &legacy, &new, KEYS).await?;
    let flag = Flag::new(config)?;
    flag.command(&["init"]).await?;
    // an applier that met no schema at the start waits to be told
    let _ = flag.command(&["standby", "retry", "analytics"]).await;
    say(format_args!(
        "{}\n\n  application ─► proxy 127.0.0.1:{port} ─► legacy │ new; ack: standby, fallback: auto after 1 s\n",
        surfaces.introduction()
    ))?;
    let ledger = Arc::new(Ledger::default());
    let mut clients: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(port, n, Arc::clone(&ledger)))).collect();
    clients.extend((0..READERS).map(|_| tokio::spawn(read(port, Arc::clone(&ledger)))));
    let end = Instant::now() + Duration::from_secs(options.seconds.unwrap_or(SECONDS));
    let outcome = rounds(ground, &flag, &mut new, &ledger, end).await;
    ledger.over.store(true, Ordering::Relaxed);
    for client in clients {
        let _ = client.await;
    }
    let fallbacks = outcome?;
    score(&flag, &legacy, &new, &ledger, fallbacks).await
}

/// Forward, kill, fall back, bring back; at least once.
async fn rounds(
    ground: &mut Ground,
    flag: &Flag,
    new: &mut Store,
    ledger: &Ledger,
    end: Instant,
) -> anyhow::Result<u64> {
    let mut fallbacks = 0;
    loop {
        forward(flag).await?;
        show("forward: the new store serves, legacy follows", ledger)?;
        sleep(Duration::from_secs(2)).await;
        new.kill(ground).await;
        show("kill -9 of the new store", ledger)?;
        until(flag, "legacy takes over", |authority| authority["store"] == "legacy").await?;
        fallbacks += 1;
        show("fallback: legacy serves", ledger)?;
        sleep(Duration::from_secs(1)).await;
        new.start_again(ground).await?;
        until(flag, "the new store is settled", |authority| {
            authority["settled"] == true && authority["store"] == "legacy"
        })
        .await?;
        show("the new store is back, settled, and follows", ledger)?;
        if Instant::now() >= end {
            return Ok(fallbacks);
        }
    }
}

/// `switchover flag analytics new`, as soon as nothing is in its way.
async fn forward(flag: &Flag) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match flag.set(Side::New).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(Duration::from_millis(250)).await,
        }
    }
}

/// Waits for the proxy's word on the authority.
async fn until(flag: &Flag, what: &str, good: impl Fn(&serde_json::Value) -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status: serde_json::Value = serde_json::from_str(&flag.command(&["status", "--json"]).await?)?;
        let authority = status.pointer("/groups/0/authority").cloned().unwrap_or_default();
        if good(&authority) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "in vain, for {} s: {what}: {authority:#}", PATIENCE.as_secs());
        sleep(Duration::from_millis(100)).await;
    }
}

fn show(what: &str, ledger: &Ledger) -> anyhow::Result<()> {
    let acknowledged = ledger.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
    let errors = ledger.errors.load(Ordering::Relaxed);
    Ok(say(format_args!("  acknowledged {acknowledged:6}   client errors {errors:3}   {what}"))?)
}

fn connect(port: u16) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some(ACCOUNT))
        .pass(Some(ACCOUNT))
        .db_name(Some(DATABASE))
}

/// Records pageviews, alone and in transactions with a site's statistics.
async fn write(port: u16, writer: u64, ledger: Arc<Ledger>) {
    let mut conn = None;
    while !ledger.over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            match Conn::new(connect(port)).await {
                Ok(c) => conn = Some(c),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
            continue;
        };
        let number = ledger.next.fetch_add(1, Ordering::Relaxed);
        let visit = format!("{number:032x}");
        match pageview(c, writer, number, &visit).await {
            Ok(()) => {
                ledger.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(visit);
            }
            // what nobody did may be done again
            Err(mysql_async::Error::Server(e)) if matches!(e.code, 1205 | 1213 | 1290) => {
                let _ = c.query_drop("ROLLBACK").await;
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => {
                if let mysql_async::Error::Server(e) = &error {
                    complain(format_args!("a client got an error: {e}"));
                }
                ledger.errors.fetch_add(1, Ordering::Relaxed);
                conn = None;
            }
        }
        sleep(Duration::from_millis(3)).await;
    }
}

async fn pageview(c: &mut Conn, writer: u64, number: u64, visit: &str) -> mysql_async::Result<()> {
    let site = 1 + number % schema::SITES;
    let insert = "insert into `pageviews` (`site_id`, `visit`, `pathname`, `referrer`, `browser`, `country_code`, `device_type`, \
                  `is_new`, `ts`) values (?, ?, '/', '', 'Firefox', 'CA', 'Phone', 0, now())";
    if !number.is_multiple_of(3) {
        return c.exec_drop(insert, (site, visit)).await;
    }
    c.query_drop("START TRANSACTION").await?;
    c.exec_drop(insert, (site, visit)).await?;
    let count = "insert into `site_stats` values (?, date_format(now(), '%Y-%m-%d %H:00:00') + interval ? minute, 1, 1) \
                 on duplicate key update `pageviews` = `pageviews` + 1";
    c.exec_drop(count, (site, writer)).await?;
    c.query_drop("COMMIT").await
}

/// What a dashboard asks: no such read may fail.
async fn read(port: u16, ledger: Arc<Ledger>) {
    let mut conn = None;
    while !ledger.over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            match Conn::new(connect(port)).await {
                Ok(c) => conn = Some(c),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
            continue;
        };
        let sum: mysql_async::Result<Option<u64>> =
            c.query_first("SELECT COUNT(*) FROM pageviews WHERE site_id = 1").await;
        if let Err(error) = sum {
            complain(format_args!("a read failed: {error}"));
            ledger.errors.fetch_add(1, Ordering::Relaxed);
            conn = None;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Looks for every line of the ledger, and compares both stores.
async fn score(flag: &Flag, legacy: &Store, new: &Store, ledger: &Ledger, fallbacks: u64) -> anyhow::Result<ExitCode> {
    let acknowledged = std::mem::take(&mut *ledger.acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
    let serving = if flag.side() == Some(Side::New) { new } else { legacy };
    let there: BTreeSet<String> = serving.rows("SELECT visit FROM pageviews").await?.into_iter().collect();
    let lost = acknowledged.difference(&there).count();
    let deadline = Instant::now() + PATIENCE;
    let mut differing = differences(legacy, new).await?;
    while differing > 0 && Instant::now() < deadline {
        sleep(Duration::from_millis(200)).await;
        differing = differences(legacy, new).await?;
    }
    let errors = ledger.errors.load(Ordering::Relaxed);
    let count = acknowledged.len();
    say(format_args!(
        "acknowledged {count}, lost {lost}, client errors {errors}, fallbacks {fallbacks}, differing rows {differing}"
    ))?;
    let good = lost == 0 && differing == 0 && fallbacks > 0 && count > 0;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rows of the group that are on one of the stores alone, or differ.
async fn differences(legacy: &Store, new: &Store) -> anyhow::Result<usize> {
    let mut differing = 0;
    for table in schema::GROUPED {
        let columns = format!(
            "SELECT GROUP_CONCAT(CONCAT('COALESCE(`', COLUMN_NAME, '`, ''~'')') ORDER BY ORDINAL_POSITION) FROM \
             information_schema.COLUMNS WHERE TABLE_SCHEMA = '{DATABASE}' AND TABLE_NAME = '{table}'"
        );
        let columns = legacy.rows(&columns).await?.pop().context("a table has columns")?;
        let sql = format!("SELECT CONCAT_WS('|', {columns}) FROM {table}");
        let (ours, theirs) = tokio::try_join!(legacy.rows(&sql), new.rows(&sql))?;
        let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (ours.into_iter().collect(), theirs.into_iter().collect());
        differing += ours.symmetric_difference(&theirs).count();
    }
    Ok(differing)
}
