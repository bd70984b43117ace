//! Wires everything together, and takes it apart again in order (layer L4).
//!
//! ```text
//! load config ─► control socket (one proxy per file) ─► probe stores ─► workers ─► listeners ─► serve
//! SIGTERM ─► listeners close ─► idle sessions end, busy ones get `limits.drain_timeout` ─► workers end ─► exit
//! SIGHUP, a saved file, `switchover reload|flag` ─► checked ─► a new snapshot for every core at once
//! a store that did not answer ─► probed until it does
//! ```

mod authority;
mod digests;
mod learn;
mod listen;
mod metrics;
mod observe;
mod post;
mod readiness;
mod reindex;
mod running;
mod shadow;
mod standby;
mod status;
mod steer;
mod surfaces;
mod takeover;
mod ties;
mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin::control::{ControlSocket, Running as _};
use crate::admin::protocol::Cause;
use crate::config::Config;
use crate::config::model::{Io, PoolMode};
use crate::config::problem::render;
use crate::telemetry;
use post::{PATIENCE, Post};
use running::Proxy;
use worker::Worker;

/// How often the figures go to the log.
const REPORT: Duration = Duration::from_secs(60);
/// A session that draining finds idle twice in a row, so far apart, is closed.
const QUIET: Duration = Duration::from_millis(500);
/// How long draining waits for clients that were accepted and have not logged in.
const LOGIN_GRACE: Duration = Duration::from_secs(2);
/// How often the file is compared with what was read of it.
const LOOK: Duration = Duration::from_secs(1);

/// Runs the proxy until a signal ends it.
/// With `takeover` it takes the listening sockets of the proxy that runs on the same file, which drains then.
///
/// # Errors
/// When it cannot start: a configuration that does not check, an address in use, another proxy on the same file.
pub fn run(config_path: &Path, takeover: bool) -> anyhow::Result<()> {
    let config = match crate::config::load(config_path) {
        Ok(config) => config,
        Err(problems) => bail!("{}", render(&problems)),
    };
    let levels = telemetry::init(&config.log.level, config.log.format == crate::config::model::LogFormat::Json);
    raise_file_limit(descriptors(&config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the control runtime")?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(config_path.to_owned(), config, levels, takeover)))
}

/// What the cores use: `io_uring` is tried here first, so that `io: io_uring` can fail.
fn usable(io: Io) -> anyhow::Result<Io> {
    if io == Io::Epoll {
        return Ok(Io::Epoll);
    }
    match crate::net::Ring::new() {
        Ok(_) => Ok(io),
        Err(e) if io == Io::IoUring => Err(e).context("io: io_uring: this kernel has none, or forbids it (`io: auto`)"),
        Err(e) => {
            tracing::info!(error = %e, "no io_uring here: epoll");
            Ok(Io::Epoll)
        }
    }
}

async fn serve(path: PathBuf, config: Config, levels: telemetry::Levels, takeover: bool) -> anyhow::Result<()> {
    let (control_socket, addresses) = (config.control_socket.clone(), config.listen.clone());
    let asked = if takeover { takeover::ask(&control_socket).context("taking over")? } else { None };
    // the first thing that only one process can have: a second proxy on the same file ends here
    let mut socket = match asked {
        Some(_) => None,
        None => Some(ControlSocket::bind_after(&control_socket, PATIENCE).await?),
    };
    let (mut predecessor, mut listeners) = match asked {
        Some((predecessor, descriptors)) => (Some(predecessor), listen::inherit(&config.listen, descriptors)?),
        None => (None, listen::bind(&config.listen)?),
    };
    let workers = if config.workers == 0 {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    } else {
        config.workers
    };
    let io = usable(config.io)?;
    let (drain, draining) = watch::channel(false);
    let proxy = Arc::new(Proxy::start(path.clone(), config, levels, workers, drain).await?);
    proxy.authorities.attach(&proxy);
    proxy.shadowing.attach(&proxy);
    let workers: Vec<Worker> = (0..workers)
        .map(|i| Worker::start(i, &proxy, io, draining.clone()))
        .collect::<std::io::Result<_>>()
        .context("a worker thread")?;
    let (_watch, mut changes) = crate::config::watch::watch_channel(&path).context("watching the configuration")?;
    let mut signals = Signals::new()?;
    if let Some(predecessor) = &mut predecessor {
        predecessor.ready();
        socket = Some(ControlSocket::bind_after(&control_socket, PATIENCE).await?);
    }
    let Some(socket) = socket else { bail!("no control socket") };
    let duplicates = listeners.iter().map(listen::Listener::duplicate).collect::<std::io::Result<Vec<_>>>()?;
    let mut post = Post::take(&control_socket, socket, &proxy)?;
    // from here on nothing can fail any more
    if let Some(predecessor) = predecessor {
        predecessor.serving();
        listeners.iter_mut().zip(&addresses).for_each(|(l, address)| l.own_file(address));
    }
    let mut accepting = Box::pin(listen::accept(&listeners, &workers, draining.clone()));
    tracing::info!(config = %path.display(), epoch = proxy.epoch(), %io, "serving");
    let taken_over = tokio::select! {
        () = &mut accepting => false,
        () = operate(&proxy, &mut changes, &mut signals, draining.clone()) => false,
        () = learn::learn(&proxy) => false,
        () = observe::observe(&proxy) => false,
        () = surfaces::serve(&proxy) => false,
        end = post.until_taken_over(&duplicates) => end.map(|()| true)?,
    };
    // closes the listeners; sessions may finish what they have begun
    drop(accepting);
    if taken_over {
        tracing::info!("a new process has taken over");
        listeners.iter_mut().for_each(listen::Listener::leave_file);
    }
    drop((listeners, duplicates));
    if taken_over {
        drop(post);
    }
    tracing::info!(sessions = proxy.registry.len(), "draining");
    proxy.begin_drain();
    end_sessions(&proxy, &workers, &mut signals).await;
    let left = proxy.registry.len();
    if left > 0 {
        tracing::warn!(sessions = left, "closing sessions that did not end in time");
    }
    drop(workers);
    tracing::info!("stopped");
    Ok(())
}

/// The signals that a proxy listens to.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Follows the file, SIGHUP and the clock, until it is time to drain.
async fn operate(
    proxy: &Arc<Proxy>,
    changes: &mut mpsc::Receiver<()>,
    signals: &mut Signals,
    mut draining: watch::Receiver<bool>,
) {
    let mut report = tokio::time::interval_at(tokio::time::Instant::now() + REPORT, REPORT);
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            // (a flag that went through the proxy was read already)
            Some(()) = changes.recv() => {
                if proxy.file_is_new() {
                    reload(proxy);
                }
            }
            _ = signals.hangup.recv() => reload(proxy),
            _ = look.tick() => {
                if proxy.file_differs() {
                    reload(proxy);
                }
            }
            _ = report.tick() => log_figures(proxy),
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = draining.wait_for(|d| *d) => return,
        }
    }
}

/// Sessions end as they fall quiet, until the deadline or a second signal. Who is about to log in may do so.
async fn end_sessions(proxy: &Proxy, workers: &[Worker], signals: &mut Signals) {
    let begun = tokio::time::Instant::now();
    let deadline = begun + proxy.drain_timeout();
    let mut sweep = tokio::time::interval(QUIET);
    let mut seen = HashMap::new();
    let logging_in = || begun.elapsed() < LOGIN_GRACE && workers.iter().any(|w| w.load() > 0);
    while (!proxy.registry.is_empty() || logging_in()) && tokio::time::Instant::now() < deadline {
        tokio::select! {
            _ = sweep.tick() => proxy.registry.close_quiet(&mut seen),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
}

/// Beside everything else: a store that takes its time to answer holds up no signal.
fn reload(proxy: &Arc<Proxy>) {
    let proxy = Arc::clone(proxy);
    tokio::spawn(async move {
        // the outcome is in the log and in `status`
        let _ = proxy.reload(Cause::default()).await;
    });
}

fn log_figures(proxy: &Proxy) {
    let f = proxy.figures();
    let queries: u64 = f.stores.iter().map(|s| s.queries).sum();
    let errors: u64 = f.stores.iter().map(|s| s.errors).sum();
    tracing::info!(
        sessions = f.sessions,
        logins = f.logins,
        login_failures = f.login_failures,
        queries,
        errors,
        refused = f.refused,
        plan_hits = f.plan_hits,
        plan_misses = f.plan_misses,
        slow_suppressed = proxy.registry.slow_lines.suppressed(),
        "figures"
    );
}

/// How many files are open when all clients are there: theirs, and the stores' connections; 100 for all else.
fn descriptors(config: &Config) -> u64 {
    let clients = u64::from(config.limits.max_connections);
    let backends = match config.pool {
        PoolMode::Session => clients * 2,
        PoolMode::Transaction => u64::from(config.pooling.max_per_store) * config.stores.len() as u64,
    };
    clients + backends + 100
}

/// The soft limit of open files goes up to the hard one.
fn raise_file_limit(needed: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|n| n < needed) {
        // only root may; others keep what they have
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: Some(needed) });
    }
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    if getrlimit(Resource::Nofile).current.is_some_and(|n| n < needed) {
        tracing::warn!(
            needed,
            "the limit of open files is too low for limits.max_connections: raise it (LimitNOFILE=, ulimit -n)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pool_mode_counts_its_own_connections() {
        let mut config = crate::routing::testing::config(Vec::new());
        config.limits.max_connections = 10_000;
        config.pooling.max_per_store = 100;
        assert_eq!(descriptors(&config), 30_100);
        config.pool = PoolMode::Transaction;
        assert_eq!(descriptors(&config), 10_000 + 100 * config.stores.len() as u64 + 100);
    }
}
