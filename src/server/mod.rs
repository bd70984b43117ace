//! Wires everything together, and takes it apart again in order (layer L4).
//!
//! ```text
//! load config ─► control socket (one proxy per file) ─► probe stores ─► workers ─► listeners ─► serve
//! SIGTERM ─► listeners close ─► idle sessions end, busy ones get `limits.drain_timeout` ─► workers end ─► exit
//! SIGHUP, a saved file, `switchover reload|flag` ─► checked ─► a new snapshot for every core at once
//! ```

mod listen;
mod reindex;
mod running;
mod status;
mod takeover;
mod ties;
mod worker;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::admin::control::{ControlSocket, Running as _};
use crate::admin::protocol::Cause;
use crate::config::problem::render;
use crate::telemetry;
use running::Proxy;
use worker::Worker;

/// How often the figures go to the log.
const REPORT: Duration = Duration::from_secs(60);
/// A session that draining finds idle twice in a row, so far apart, is closed.
const QUIET: Duration = Duration::from_millis(500);
/// How often the file is compared with what was read of it.
const LOOK: Duration = Duration::from_secs(1);
/// How long a new process waits for the old one's control socket.
const PATIENCE: Duration = Duration::from_secs(5);

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
    telemetry::init(&config.log.level, config.log.format == crate::config::model::LogFormat::Json);
    raise_file_limit(config.limits.max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the control runtime")?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(config_path.to_owned(), config, takeover)))
}

async fn serve(path: PathBuf, config: crate::config::Config, takeover: bool) -> anyhow::Result<()> {
    let inherited = if takeover { takeover::take(&config.control_socket).context("taking over")? } else { None };
    let socket = ControlSocket::bind_after(&config.control_socket, PATIENCE).await?;
    let mut listeners = match inherited {
        Some(descriptors) => listen::inherit(&config.listen, descriptors)?,
        None => listen::bind(&config.listen)?,
    };
    let offer = takeover::Offer::bind(takeover::path(&config.control_socket)).context("the takeover socket")?;
    let duplicates = listeners.iter().map(listen::Listener::duplicate).collect::<std::io::Result<Vec<_>>>()?;
    let workers = if config.workers == 0 {
        std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    } else {
        config.workers
    };
    let (drain, draining) = watch::channel(false);
    let proxy = Arc::new(Proxy::start(path.clone(), config, workers, drain).await?);
    let workers: Vec<Worker> = (0..workers)
        .map(|i| Worker::start(i, &proxy, draining.clone()))
        .collect::<std::io::Result<_>>()
        .context("a worker thread")?;
    let control = tokio::spawn(socket.serve(Arc::clone(&proxy) as Arc<dyn crate::admin::control::Running>));
    let (_watch, mut changes) = crate::config::watch::watch_channel(&path).context("watching the configuration")?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut report = tokio::time::interval_at(tokio::time::Instant::now() + REPORT, REPORT);
    let mut accepting = Box::pin(listen::accept(&listeners, &workers, draining.clone()));
    let mut draining_seen = draining.clone();
    tracing::info!(config = %path.display(), epoch = proxy.epoch(), "serving");
    let mut look = tokio::time::interval(LOOK);
    let mut taken_over = false;
    loop {
        tokio::select! {
            () = &mut accepting => break,
            given = offer.given(&duplicates) => match given {
                Ok(()) => {
                    taken_over = true;
                    break;
                }
                Err(e) => tracing::warn!(error = %e, "a takeover failed"),
            },
            Some(()) = changes.recv() => reload(&proxy).await,
            _ = hangup.recv() => reload(&proxy).await,
            _ = look.tick() => {
                if proxy.file_differs() {
                    reload(&proxy).await;
                }
            }
            _ = report.tick() => log_figures(&proxy),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = draining_seen.wait_for(|d| *d) => break,
        }
    }
    // closes the listeners; sessions may finish what they have begun
    drop(accepting);
    if taken_over {
        tracing::info!("a new process has taken over");
        listeners.iter_mut().for_each(listen::Listener::leave_file);
        control.abort();
    }
    drop((listeners, duplicates, offer));
    tracing::info!(sessions = proxy.registry.len(), "draining");
    proxy.begin_drain();
    end_sessions(&proxy, &mut terminate, &mut interrupt).await;
    control.abort();
    let left = proxy.registry.len();
    if left > 0 {
        tracing::warn!(sessions = left, "closing sessions that did not end in time");
    }
    drop(workers);
    tracing::info!("stopped");
    Ok(())
}

/// Sessions end as they fall quiet, until the deadline or a second signal.
async fn end_sessions(proxy: &Proxy, terminate: &mut Signal, interrupt: &mut Signal) {
    let deadline = tokio::time::Instant::now() + proxy.drain_timeout();
    let mut sweep = tokio::time::interval(QUIET);
    let mut seen = HashMap::new();
    while !proxy.registry.is_empty() && tokio::time::Instant::now() < deadline {
        tokio::select! {
            _ = sweep.tick() => proxy.registry.close_quiet(&mut seen),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
}

async fn reload(proxy: &Proxy) {
    // the outcome is in the log and in `status`
    let _ = proxy.reload(Cause::default()).await;
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
        "figures"
    );
    let names: Vec<String> = proxy.live.load().config().stores.iter().map(|s| s.name.clone()).collect();
    telemetry::publish(&telemetry::Sums {
        logins: f.logins,
        login_failures: f.login_failures,
        refused: f.refused,
        plan_hits: f.plan_hits,
        plan_misses: f.plan_misses,
        sessions: f.sessions,
        stores: names.into_iter().zip(&f.stores).map(|(n, s)| (n, s.queries, s.errors, s.micros)).collect(),
    });
}

/// Each session has two sockets or more: the soft limit of open files goes up to the hard one.
fn raise_file_limit(max_connections: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = u64::from(max_connections) * 3 + 100;
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
