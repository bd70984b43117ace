//! `switchover status` and `switchover sessions`, from what the running proxy knows.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::running::Proxy;
use crate::admin::protocol::{GroupStatus, SessionCounts, SessionInfo, Status, StoreStatus, Totals};
use crate::config::model::{Address, Config, Group, PoolMode, TablePattern};
use crate::session::{self, Figures};
use crate::sql::dialect::Engine;

fn address(a: &Address) -> String {
    match a {
        Address::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Address::Tcp(host, port) => format!("{host}:{port}"),
        Address::Unix(path) => path.display().to_string(),
    }
}

fn pattern(p: &TablePattern) -> String {
    match &p.database {
        Some(db) => format!("{db}.{}", p.name),
        None => p.name.clone(),
    }
}

/// Whether something that began before the newest flip still runs.
fn lags_behind(s: &session::SessionInfo, epoch: u64) -> bool {
    let busy = s.in_transaction.load(Ordering::Relaxed) || !s.idle.load(Ordering::Relaxed);
    busy && s.epoch.load(Ordering::Relaxed) < epoch
}

/// Everything at this moment.
pub(super) fn status(proxy: &Proxy) -> Status {
    with(proxy, &proxy.figures())
}

/// The same, where the figures have been summed already.
pub(super) fn with(proxy: &Proxy, figures: &Figures) -> Status {
    let live = proxy.live.load();
    let config = live.config();
    let name = |id: crate::config::StoreId| config.store_name(id).to_owned();
    let lock_error = proxy.error.lock().map(|e| e.clone()).unwrap_or_default();
    let sessions = proxy.registry.list();
    let in_transaction = sessions.iter().filter(|s| s.in_transaction.load(Ordering::Relaxed)).count() as u64;
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        state: if proxy.draining.load(Ordering::Relaxed) { "draining" } else { "serving" }.to_owned(),
        uptime_seconds: proxy.started.elapsed().as_secs(),
        epoch: live.snapshot.epoch,
        config: proxy.path.clone(),
        config_loaded_at_ms: proxy.loaded_at_ms.load(Ordering::Relaxed),
        config_error: lock_error,
        restart_needed: proxy.restart.lock().map(|r| r.clone()).unwrap_or_default(),
        listen: config.listen.iter().map(address).collect(),
        workers: u32::try_from(proxy.cores.len()).unwrap_or(u32::MAX),
        pool: match config.pool {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        }
        .to_owned(),
        default: name(config.default),
        stores: stores(proxy, figures),
        groups: config
            .groups
            .iter()
            .map(|g| {
                let gate = live.gates.named(&g.name);
                GroupStatus {
                    standby: proxy.standbys.status(&g.name),
                    authority: proxy.authorities.status(&g.name),
                    paused: gate.is_some_and(|gate| gate.is_paused()),
                    waiting: gate.map_or(0, |gate| gate.waiting()),
                    targets: targets(config, g),
                    ..group(g, config.store_name(g.connection), g.connection == config.default)
                }
            })
            .collect(),
        sessions: SessionCounts {
            open: sessions.len() as u64,
            logging_in: figures.sessions.saturating_sub(sessions.len() as u64),
            in_transaction,
            on_older_epoch: sessions.iter().filter(|s| lags_behind(s, live.snapshot.epoch)).count() as u64,
            by_pin: by_pin(&sessions),
        },
        totals: Totals {
            connections: figures.logins,
            queries: figures.stores.iter().map(|s| s.queries).sum(),
            refused: figures.refused,
            failed_logins: figures.login_failures,
            flips: proxy.flip_count.load(Ordering::Relaxed),
        },
        last_flips: proxy.flips.lock().map(|f| f.clone()).unwrap_or_default(),
    }
}

/// The stores that a group's flag may name.
fn targets(config: &Config, g: &Group) -> Vec<String> {
    match g.standby {
        // (in the order of the file: the switch does not turn around with the flag)
        Some(standby) => {
            let mut pair = [g.connection, standby];
            pair.sort();
            pair.iter().map(|id| config.store_name(*id).to_owned()).collect()
        }
        None => config.stores.iter().map(|s| s.name.clone()).collect(),
    }
}

/// What pins a session.
fn pins(s: &session::SessionInfo) -> Vec<String> {
    let mut pins: Vec<String> =
        session::Pins::from_bits(s.pins.load(Ordering::Relaxed)).names().map(str::to_owned).collect();
    if s.in_transaction.load(Ordering::Relaxed) && !pins.iter().any(|p| p == "transaction") {
        pins.insert(0, "transaction".to_owned());
    }
    pins
}

/// Sessions by what pins them.
fn by_pin(sessions: &[std::sync::Arc<session::SessionInfo>]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for pin in sessions.iter().flat_map(|s| pins(s)) {
        *counts.entry(pin).or_default() += 1;
    }
    counts
}

fn engine(e: Engine) -> &'static str {
    match e {
        Engine::MariaDb { .. } => "MariaDB",
        Engine::MySql { .. } => "MySQL",
    }
}

fn stores(proxy: &Proxy, figures: &Figures) -> Vec<StoreStatus> {
    let live = proxy.live.load();
    live.fleet
        .iter()
        .enumerate()
        .map(|(i, handle)| {
            let probed = handle.probed();
            let (up, reason) = handle.health();
            let counts = figures.stores.get(i).cloned().unwrap_or_default();
            StoreStatus {
                name: handle.name().to_owned(),
                addresses: handle.config.addresses.iter().map(address).collect(),
                engine: probed.as_ref().map(|p| engine(p.engine)).unwrap_or_default().to_owned(),
                version: probed.as_ref().map(|p| p.version.clone()).unwrap_or_default(),
                state: match (up, probed.is_some()) {
                    (false, _) => "down",
                    (true, true) => "up",
                    (true, false) => "unknown",
                }
                .to_owned(),
                reason: (!up).then_some(reason),
                leases: handle.leases.load(Ordering::Relaxed).saturating_sub(handle.idle.load(Ordering::Relaxed)),
                idle: handle.idle.load(Ordering::Relaxed),
                queries: counts.queries,
                errors: counts.errors,
                connect_errors: handle.connect_errors.load(Ordering::Relaxed),
            }
        })
        .collect()
}

fn group(g: &Group, connection: &str, at_default: bool) -> GroupStatus {
    GroupStatus {
        name: g.name.clone(),
        connection: connection.to_owned(),
        stage: if at_default { "off" } else { "live" }.to_owned(),
        tables: g.tables.iter().map(pattern).collect(),
        references: g.references.iter().map(pattern).collect(),
        ..GroupStatus::default()
    }
}

/// Every session at this moment.
pub(super) fn sessions(proxy: &Proxy) -> Vec<SessionInfo> {
    let live = proxy.live.load();
    let home = live.config().store_name(live.config().default).to_owned();
    proxy
        .registry
        .list()
        .into_iter()
        .map(|s| {
            let in_transaction = s.in_transaction.load(Ordering::Relaxed);
            let mut leases = if s.pooled { Vec::new() } else { vec![home.clone()] };
            if let Ok(others) = s.others.lock() {
                leases.extend(others.iter().map(|(h, _)| h.name().to_owned()));
            }
            SessionInfo {
                id: s.id,
                user: s.user.clone(),
                client: s.peer.clone(),
                db: None,
                state: if s.idle.load(Ordering::Relaxed) { "idle" } else { "running" }.to_owned(),
                for_ms: u64::try_from(s.since.elapsed().as_millis()).unwrap_or(u64::MAX),
                leases,
                pins: pins(&s),
                in_transaction,
                epoch: s.epoch.load(Ordering::Relaxed),
                queries: s.queries.load(Ordering::Relaxed),
            }
        })
        .collect()
}
