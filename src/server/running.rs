//! The proxy's one live state: loads it, replaces it whole, and says what it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::shadow::Shadowing;
use super::standby::Standbys;
use crate::admin::check;
use crate::admin::control::{BoxFuture, Running};
use crate::admin::digest::{DigestRequest, Digests};
use crate::admin::events::{Event, Events};
use crate::admin::live::Sample;
use crate::admin::log::{LogLevel, LogRequest};
use crate::admin::protocol::{
    AbortRequest, Cause, ConfigChange, ConfigEntry, ConfigError, DrainRequest, ExplainRequest, Explained, Failure,
    FailureKind, FlagRequest, Flagged, FlipRecord, GroupStatus, KillRequest, PauseRequest, Reloaded, SessionInfo,
    StandbyRequest, StandbyStatus, Status,
};
use crate::admin::readiness::{Readiness, ReadinessRequest};
use crate::admin::shadow::ShadowRequest;
use crate::backend::{Fleet, control};
use crate::config::model::Admin;
use crate::config::problem::{Problem, ProblemKind, render};
use crate::config::{Config, diff, show};
use crate::net::tls;
use crate::routing::patterns::NameCase;
use crate::routing::{Gates, Snapshot};
use crate::session::{CoreFigures, Figures, Live, Registry};
use crate::telemetry::Levels;
use crate::transfer::shadow::Report;
use crate::wire::Capabilities;

use super::authority::Authorities;
use super::metrics::Exporter;
use super::observe::Samples;
use super::ties::KnownTies;

/// How long a probe of a store may take.
pub(super) const PROBE: Duration = Duration::from_secs(3);
/// Flips that `status` shows.
const REMEMBERED: usize = 20;

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running proxy.
pub(super) struct Proxy {
    pub(super) path: PathBuf,
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) registry: Arc<Registry>,
    pub(super) cores: Vec<Arc<CoreFigures>>,
    pub(super) started: Instant,
    pub(super) loaded_at_ms: AtomicU64,
    pub(super) error: Mutex<Option<ConfigError>>,
    pub(super) restart: Mutex<Vec<String>>,
    /// The configuration of the start: what cannot change live is compared with it.
    started_with: Config,
    /// What was changed, and what happened.
    pub(super) events: Events,
    /// What happens now.
    pub(super) samples: Samples,
    exporter: Exporter,
    pub(super) flips: Mutex<Vec<FlipRecord>>,
    pub(super) flip_count: AtomicU64,
    /// The cause that was announced for the next change of the file.
    announced: Mutex<Option<Cause>>,
    /// What clients are shown over TLS where no certificate is configured.
    own: tls::Pair,
    /// Hash of the file's bytes when it was read last.
    read_last: AtomicU64,
    pub(super) reloading: tokio::sync::Mutex<()>,
    pub(super) standbys: Standbys,
    pub(super) shadowing: Shadowing,
    pub(super) authorities: Authorities,
    ties: KnownTies,
    pub(super) levels: Levels,
    drain: watch::Sender<bool>,
    drain_override_ms: AtomicU64,
    pub(super) draining: AtomicBool,
}

impl Proxy {
    /// Compiles the first snapshot; stores that do not answer are no reason not to start.
    pub(super) async fn start(
        path: PathBuf,
        config: Config,
        levels: Levels,
        cores: usize,
        drain: watch::Sender<bool>,
    ) -> anyhow::Result<Proxy> {
        let path_of_start = path.clone();
        let fleet = Fleet::build(&config.stores, &Fleet::default())?;
        probe(&fleet).await;
        let own = tls::Pair::self_signed()?;
        let authorities = Authorities::new(&path);
        let events = Events::kept_in(&config.audit);
        let mut in_force = config.clone();
        authorities.ask(&mut in_force, &fleet).await;
        let gates = authorities.gates(&in_force);
        let live = compile(in_force, 1, fleet, &own, gates)?;
        let standbys = Standbys::new(&path);
        standbys.sync(&live);
        Ok(Proxy {
            own,
            levels,
            started_with: config,
            path,
            live: Arc::new(ArcSwap::from_pointee(live)),
            registry: Arc::default(),
            cores: (0..cores).map(|_| Arc::default()).collect(),
            started: Instant::now(),
            loaded_at_ms: AtomicU64::new(now_ms()),
            error: Mutex::default(),
            restart: Mutex::default(),
            events,
            samples: Samples::default(),
            exporter: Exporter::install(),
            flips: Mutex::default(),
            flip_count: AtomicU64::new(0),
            announced: Mutex::default(),
            read_last: AtomicU64::new(content(&path_of_start)),
            reloading: tokio::sync::Mutex::default(),
            standbys,
            shadowing: Shadowing::default(),
            authorities,
            ties: KnownTies::default(),
            drain,
            drain_override_ms: AtomicU64::new(0),
            draining: AtomicBool::new(false),
        })
    }

    pub(super) fn core_figures(&self, index: usize) -> Arc<CoreFigures> {
        self.cores.get(index).map(Arc::clone).unwrap_or_default()
    }

    pub(super) fn figures(&self) -> Figures {
        Figures::sum(&self.cores)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.live.load().snapshot.epoch
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        match self.drain_override_ms.load(Ordering::Relaxed) {
            0 => self.live.load().config().limits.drain_timeout,
            ms => Duration::from_millis(ms),
        }
    }

    /// Whether the file holds other bytes than those that were read last (put back right after a flag, for one), and nobody
    /// reads it now.
    pub(super) fn file_differs(&self) -> bool {
        self.reloading.try_lock().is_ok() && self.file_is_new()
    }

    /// Whether the file holds other bytes than those that were read last.
    pub(super) fn file_is_new(&self) -> bool {
        content(&self.path) != self.read_last.load(Ordering::Relaxed)
    }

    /// No more clients; `serve` ends the sessions.
    pub(super) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.standbys.end();
        self.authorities.end();
        let _ = self.drain.send(true);
    }

    async fn load_again(&self, cause: Cause) -> Result<Reloaded, Failure> {
        let _one_at_a_time = self.reloading.lock().await;
        let announced = lock(&self.announced).take();
        let cause = if cause.by.is_empty() { announced.unwrap_or(cause) } else { cause };
        self.read_last.store(content(&self.path), Ordering::Relaxed);
        let mut new = match crate::config::load(&self.path) {
            Ok(new) => new,
            Err(problems) => {
                let text = render(&problems);
                tracing::error!(file = %self.path.display(), "the changed configuration is refused, the old one stays:\n{text}");
                telemetry_rejected();
                *lock(&self.error) = Some(ConfigError { at_ms: now_ms(), problems });
                return Err(Failure::new(FailureKind::Config, text));
            }
        };
        let old = self.live.load_full();
        super::reindex::keep_ids(old.config(), &mut new);
        self.begin_wished(self.authorities.wished(&new), &cause);
        self.authorities.follow_facts(&mut new);
        let changes = diff::diff(old.config(), &new);
        *lock(&self.error) = None;
        *lock(&self.restart) = diff::waits_for_restart(&self.started_with, &new);
        if changes.is_empty() {
            return Ok(Reloaded { epoch: old.snapshot.epoch, ..Reloaded::default() });
        }
        let failed = |e: &dyn std::fmt::Display| {
            tracing::error!(error = %e, "the changed configuration is refused, the old one stays");
            telemetry_rejected();
            let problem = Problem::of_file(ProblemKind::Invalid, &self.path, e.to_string());
            *lock(&self.error) = Some(ConfigError { at_ms: now_ms(), problems: vec![problem] });
            Failure::new(FailureKind::Config, e.to_string())
        };
        for flip in changes.flips.iter().filter(|_| !cause.force) {
            if let Some(text) = self.ties.of(&new, &flip.group).await.refusal(&flip.group, &flip.to) {
                return Err(failed(&text));
            }
        }
        let fleet = Fleet::build(&new.stores, &old.fleet).map_err(|e| failed(&e))?;
        probe_unknown(&fleet).await;
        self.refuse_poorer(&old.fleet, &fleet).map_err(|e| failed(&e))?;
        if new.log.level != old.config().log.level && !self.levels.follow_file(&new.log.level) {
            tracing::warn!("log.level of the file changes nothing: RUST_LOG is set");
        }
        let epoch = old.snapshot.epoch + 1;
        let gates = self.authorities.gates(&new);
        let live = compile(new, epoch, fleet, &self.own, gates).map_err(|e| failed(&e))?;
        self.standbys.sync(&live);
        self.authorities.sync(&live);
        self.live.store(Arc::new(live));
        self.loaded_at_ms.store(now_ms(), Ordering::Relaxed);
        self.record(&changes, &cause, epoch);
        Ok(Reloaded {
            epoch,
            changes: changes.lines.clone(),
            flips: changes.flips.clone(),
            restart: changes.restart.clone(),
        })
    }

    /// A default store that did not answer at the start may tell the cases of names apart, or not: the snapshot follows.
    pub(super) async fn follow_name_case(&self) {
        let _one_at_a_time = self.reloading.lock().await;
        let old = self.live.load_full();
        let case = name_case(old.config(), &old.fleet);
        if NameCase::new(case) == old.snapshot.name_case() {
            return;
        }
        let snapshot = Snapshot::compile(Arc::clone(&old.snapshot.config), old.snapshot.epoch + 1, case);
        let (fleet, acceptor, gates) = (old.fleet.clone(), old.acceptor.clone(), old.gates.clone());
        let live = Live { snapshot, fleet, acceptor, gates };
        tracing::info!(
            epoch = live.snapshot.epoch,
            lower_case_table_names = case,
            "names are compared as the default store does"
        );
        self.standbys.sync(&live);
        self.live.store(Arc::new(live));
    }

    /// A store that offers less than live sessions use is not added (RULES.md 24).
    fn refuse_poorer(&self, old: &Fleet, new: &Fleet) -> Result<(), String> {
        if self.registry.is_empty() {
            return Ok(());
        }
        let used = old.common_capabilities() - Capabilities::SSL;
        for store in new.iter().filter(|s| old.by_name(s.name()).is_none()) {
            let Some(probed) = store.probed() else { continue };
            let lacking = used - probed.capabilities - Capabilities::CLIENT_ONLY;
            if !lacking.is_empty() {
                return Err(format!(
                    "store {} lacks protocol capabilities that clients which are connected now may use ({lacking:?}); \
                     restart the proxy to add it",
                    store.name()
                ));
            }
        }
        Ok(())
    }

    pub(super) fn record(&self, changes: &diff::Changes, cause: &Cause, epoch: u64) {
        let by = if cause.by.is_empty() { "the file" } else { &cause.by };
        for flip in &changes.flips {
            tracing::info!(group = flip.group, from = flip.from, to = flip.to, epoch, by, why = cause.why, "flip");
        }
        for line in &changes.lines {
            tracing::info!(epoch, by, "{line}");
        }
        for line in &changes.restart {
            tracing::warn!("waits for a restart: {line}");
        }
        for line in &changes.lines {
            self.events.add(changed("config", "", line, cause));
        }
        let mut flips = lock(&self.flips);
        for f in &changes.flips {
            let mut event = changed("flip", &f.group, &format!("{} → {}, epoch {epoch}", f.from, f.to), cause);
            (event.before, event.after) = (Some(f.from.clone()), Some(f.to.clone()));
            self.events.add(event);
            self.flip_count.fetch_add(1, Ordering::Relaxed);
            flips.insert(
                0,
                FlipRecord {
                    group: f.group.clone(),
                    from: f.from.clone(),
                    to: f.to.clone(),
                    cause: cause.clone(),
                    at_ms: now_ms(),
                    epoch,
                },
            );
        }
        flips.truncate(REMEMBERED);
    }
}

/// A change of the configuration in force, as an event.
fn changed(kind: &str, subject: &str, what: &str, cause: &Cause) -> Event {
    Event {
        by: cause.by.clone(),
        why: cause.why.clone(),
        surface: match (cause.surface.as_str(), cause.by.as_str()) {
            ("", "") => "file",
            ("", _) => "proxy",
            (surface, _) => surface,
        }
        .to_owned(),
        from: cause.peer.clone(),
        ..Event::of_proxy(kind, subject, what)
    }
}

/// A hash of a file's bytes; 0 where it cannot be read.
fn content(path: &Path) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let Ok(bytes) = std::fs::read(path) else { return 0 };
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish()
}

fn telemetry_rejected() {
    metrics::counter!("switchover_config_rejected_total").increment(1);
}

async fn probe(fleet: &Fleet) {
    let mut tasks = Vec::new();
    for store in fleet.iter() {
        let store = Arc::clone(store);
        tasks.push(tokio::task::spawn_local(async move {
            if let Err(e) = control::probe(&store, PROBE).await {
                tracing::warn!(store = store.name(), error = %e, "cannot probe");
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
}

async fn probe_unknown(fleet: &Fleet) {
    for store in fleet.iter().filter(|s| s.probed().is_none()) {
        let store = Arc::clone(store);
        // the control socket's tasks are not local ones: a probe gets a thread of its own
        let done = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime
                && let Err(e) = runtime.block_on(control::probe(&store, PROBE))
            {
                tracing::warn!(store = store.name(), error = %e, "cannot probe");
            }
        });
        let _ = done.await;
    }
}

/// The default store's `lower_case_table_names`; 0 while it is not known.
pub(super) fn name_case(config: &Config, fleet: &Fleet) -> u8 {
    fleet.get(config.default).and_then(|s| s.probed()).and_then(|p| p.lower_case_table_names).unwrap_or(0)
}

fn compile(config: Config, epoch: u64, fleet: Fleet, own: &tls::Pair, gates: Gates) -> Result<Live, tls::TlsError> {
    let acceptor = tls::acceptor(&config.tls, own)?;
    let case = name_case(&config, &fleet);
    let snapshot = Snapshot::compile(Arc::new(config), epoch, case);
    Ok(Live { snapshot, fleet, acceptor, gates })
}

impl Running for Proxy {
    fn config_path(&self) -> &Path {
        &self.path
    }

    fn status(&self) -> Status {
        super::status::status(self)
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        super::status::sessions(self)
    }

    fn reload(&self, cause: Cause) -> BoxFuture<'_, Result<Reloaded, Failure>> {
        Box::pin(self.load_again(cause))
    }

    fn standby(&self, request: &StandbyRequest) -> Result<StandbyStatus, Failure> {
        self.standbys.tell(request)
    }

    fn cut_over(&self, request: FlagRequest) -> BoxFuture<'_, Result<Flagged, Failure>> {
        Box::pin(Proxy::cut_over(self, request))
    }

    fn may_flip<'a>(&'a self, group: &'a str, store: &'a str) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        Box::pin(async move {
            let moved = check::moved(self.live.load().config(), group, store);
            let ties = self.ties.of(&moved, group).await;
            match ties.refusal(group, store) {
                Some(text) => Err(Failure::new(FailureKind::Config, text)),
                None => Ok(ties.notes.clone()),
            }
        })
    }

    fn digests(&self, request: &DigestRequest) -> Digests {
        super::digests::digests(self, request)
    }

    fn readiness(&self, request: ReadinessRequest) -> BoxFuture<'_, Result<Readiness, Failure>> {
        Box::pin(super::readiness::readiness(self, request))
    }

    fn log(&self, request: &LogRequest) -> Result<LogLevel, Failure> {
        super::digests::log(self, request)
    }

    fn announce(&self, cause: &Cause) {
        *lock(&self.announced) = Some(cause.clone());
    }

    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move {
            tracing::info!(by = request.cause.by, why = request.cause.why, "drain was asked for");
            if let Some(ms) = request.timeout_ms {
                self.drain_override_ms.store(ms.max(1), Ordering::Relaxed);
            }
            self.begin_drain();
            Ok(())
        })
    }

    fn shadow(&self, request: &ShadowRequest) -> Result<Report, Failure> {
        self.shadowing.report(self, request)
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn samples(&self) -> Vec<Arc<Sample>> {
        self.samples.all()
    }

    fn follow_samples(&self) -> watch::Receiver<Arc<Sample>> {
        self.samples.follow()
    }

    fn config(&self) -> Vec<ConfigEntry> {
        let entries = show::entries(self.live.load().config()).into_iter();
        entries.map(|(key, value)| ConfigEntry { key, value }).collect()
    }

    fn config_diff(&self) -> Result<Vec<ConfigChange>, Failure> {
        let file = crate::config::load(&self.path).map_err(|p| Failure::new(FailureKind::Config, render(&p)))?;
        let found = show::differences(self.live.load().config(), &file).into_iter();
        Ok(found.map(|(key, in_force, file)| ConfigChange { key, in_force, file }).collect())
    }

    fn pause<'a>(&'a self, request: &'a PauseRequest) -> BoxFuture<'a, Result<GroupStatus, Failure>> {
        Box::pin(Proxy::pause(self, request))
    }

    fn abort(&self, request: &AbortRequest) -> Result<(), Failure> {
        if self.authorities.abort(&request.job, &request.cause.by) {
            return Ok(());
        }
        let text = format!("no cutover {} is conducted by this proxy: `switchover status` at the others", request.job);
        Err(Failure::new(FailureKind::Request, text))
    }

    fn kill(&self, request: &KillRequest) -> Result<(), Failure> {
        Proxy::kill(self, request)
    }

    fn metrics(&self) -> String {
        self.exporter.render(self)
    }

    fn admin(&self) -> Admin {
        self.live.load().config().admin.clone()
    }

    fn acceptor(&self) -> Option<tls::Acceptor> {
        self.live.load().acceptor.clone()
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Explained, Failure> {
        let live = self.live.load();
        let engine = live.fleet.get(live.config().default).and_then(|s| s.probed()).map(|p| p.engine);
        crate::admin::explain::explained(&live.snapshot, request, engine)
    }
}
