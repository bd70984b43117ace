//! Watches the rows that say who is a group's authority, on a thread of its own, and makes this proxy follow them.
//!
//! ```text
//! every 100 ms (20 ms during a cutover, at once when a session met a seal):
//!   both rows ─► an intent lives: the gate closes; nothing in flight: `switchover.proxies` says so
//!             ─► the authority is another: routing follows, then the gate opens
//!             ─► nobody conducts what has begun: it is brought to its end here
//!   once a second: this proxy is alive, in `switchover.proxies` on the authority
//! ```
//!
//! The file is the wish, the rows are the fact: what is routed follows the rows.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::pair::Pair;
use super::record::{self, Intent, Rows2, Verdict, verdict};
use super::schema::literal;
use super::tables::GroupTables;
use crate::backend::{Backend, StoreHandle, control};
use crate::config::model::Keeping;
use crate::routing::Gate;

/// Between two looks.
const TICK: Duration = Duration::from_millis(100);
/// The same, while the authority changes.
const QUICK: Duration = Duration::from_millis(20);
/// For an answer.
const LIMIT: Duration = Duration::from_secs(1);
/// How often this proxy says that it is alive.
const ALIVE: Duration = Duration::from_secs(1);
/// The store that does not serve is asked this often, while all is well.
const OTHER: Duration = Duration::from_millis(500);
/// Rows that are not settled are left to whoever conducts for so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// For bringing to its end what has begun.
const FINISH: Duration = Duration::from_secs(5);

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the process does when the rows say something new.
pub trait Follow: Send + Sync + 'static {
    /// Routes the group to `authority`; done when new statements go there. `by` and `why` are the cutover's.
    fn follow<'a>(&'a self, group: &'a str, authority: &'a str, by: &'a str, why: &'a str) -> BoxFuture<'a, ()>;
}

/// What a watcher needs to know.
pub struct Settings {
    /// The group's name.
    pub group: String,
    /// Which tables are its.
    pub tables: GroupTables,
    /// Both stores.
    pub stores: [Arc<StoreHandle>; 2],
    /// Where sessions wait.
    pub gate: Arc<Gate>,
    /// This process, unlike any other.
    pub proxy: String,
    /// Times.
    pub keeping: Keeping,
}

/// What others see of a watcher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The authority, as far as it is known.
    pub authority: String,
    /// Its epoch.
    pub epoch: u64,
    /// The epoch that this proxy routes by.
    pub followed: u64,
    /// What the rows say together, in words.
    pub rows: String,
    /// Whether they are in order.
    pub settled: bool,
    /// A cutover that is under way: its id and its target.
    pub cutover: Option<(String, String)>,
    /// Why a store could not be asked, by its name.
    pub unreachable: Vec<(String, String)>,
}

/// A watcher's settings and view, for whoever conducts.
pub struct Shared {
    /// Its settings.
    pub settings: Settings,
    view: Mutex<View>,
    changed: watch::Sender<u64>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What it sees now.
    #[must_use]
    pub fn view(&self) -> View {
        lock(&self.view).clone()
    }

    /// It is to look at once.
    pub fn look(&self) {
        self.settings.gate.look();
    }

    /// Waits until this proxy routes by `epoch`, for `limit` at most.
    pub async fn followed(&self, epoch: u64, limit: Duration) -> bool {
        let mut changes = self.changed.subscribe();
        timeout(limit, changes.wait_for(|followed| *followed >= epoch)).await.is_ok()
    }
}

/// A running watcher; dropping it ends it.
pub struct Handle {
    /// Its settings and view.
    pub shared: Arc<Shared>,
    end: watch::Sender<bool>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.end.send(true);
    }
}

/// Asks both stores once: the authority that their rows name, for a proxy that starts. A store that does not answer in time says
/// nothing; where the rows leave it open, nobody is named.
pub async fn authority_at_start(group: &str, stores: [&Arc<StoreHandle>; 2], limit: Duration) -> Option<(String, u64)> {
    let ask = |store: Arc<StoreHandle>| async move {
        let asked = async {
            let mut backend = control::connect(&store, limit).await.ok()?;
            record::read(&mut backend, group).await.ok()?.record
        };
        timeout(limit, asked).await.ok().flatten()
    };
    let [a, b] = stores;
    let (ra, rb) = tokio::join!(ask(Arc::clone(a)), ask(Arc::clone(b)));
    let both = verdict((a.name(), ra.as_ref()), (b.name(), rb.as_ref()));
    if let Some((authority, epoch)) = both.authority() {
        return Some((authority.to_owned(), epoch));
    }
    if let Verdict::Undecided { from, epoch, .. } = both {
        return Some((from, epoch));
    }
    // one row alone: a store that says of itself that it does not serve names who does
    let alone = |name: &str, record: &record::Record| match record.standing {
        record::Standing::Standby => Some((record.authority.clone(), record.epoch)),
        record::Standing::Open => Some((name.to_owned(), record.epoch)),
        record::Standing::Sealed => None,
    };
    match (&ra, &rb) {
        (Some(record), None) => alone(a.name(), record),
        (None, Some(record)) => alone(b.name(), record),
        _ => None,
    }
}

/// Starts the watcher of a group. `authority` is what this proxy routes by now.
///
/// # Errors
/// As the system's, where it has no thread.
pub fn start(settings: Settings, authority: &str, follow: Arc<dyn Follow>) -> std::io::Result<Handle> {
    let view = View { authority: authority.to_owned(), ..View::default() };
    let shared = Arc::new(Shared { settings, view: Mutex::new(view), changed: watch::Sender::new(0) });
    let (end, ended) = watch::channel(false);
    let own = Arc::clone(&shared);
    std::thread::Builder::new().name(format!("watch-{}", shared.settings.group)).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => runtime.block_on(Watcher::new(own, follow).run(ended)),
            Err(e) => tracing::error!(error = %e, "a watcher cannot start"),
        }
    })?;
    Ok(Handle { shared, end })
}

/// One store, as the watcher sees it.
#[derive(Default)]
struct Seen {
    backend: Option<Backend>,
    rows: Option<Rows2>,
    error: Option<String>,
    asked: Option<Instant>,
}

struct Watcher {
    shared: Arc<Shared>,
    follow: Arc<dyn Follow>,
    seen: [Seen; 2],
    /// Whom this proxy routes by.
    authority: String,
    /// When this proxy said last that it is alive.
    alive: Option<Instant>,
    /// The cutover for which it said that nothing is in flight.
    drained: String,
    /// Since when rows are not settled, and nobody conducts.
    unsettled: Option<Instant>,
    /// Refusals by a seal, at the last look.
    seals: u64,
    /// The newest cutover that was seen: who wanted it, and why.
    wanted: (String, String),
}

impl Watcher {
    fn new(shared: Arc<Shared>, follow: Arc<dyn Follow>) -> Watcher {
        let authority = shared.view().authority;
        Watcher {
            shared,
            follow,
            seen: [Seen::default(), Seen::default()],
            authority,
            alive: None,
            drained: String::new(),
            unsettled: None,
            seals: 0,
            wanted: (String::new(), String::new()),
        }
    }

    async fn run(mut self, mut ended: watch::Receiver<bool>) {
        loop {
            let pause = tokio::select! {
                _ = ended.wait_for(|end| *end) => return self.leave().await,
                pause = self.turn() => pause,
            };
            tokio::select! {
                _ = ended.wait_for(|end| *end) => return self.leave().await,
                () = self.shared.settings.gate.look_wanted() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Nobody is to wait for this proxy.
    async fn leave(&mut self) {
        let sql = format!(
            "DELETE FROM switchover.proxies WHERE group_name = {} AND proxy = {}",
            literal(&self.shared.settings.group),
            literal(&self.shared.settings.proxy)
        );
        for name in self.shared.settings.stores.each_ref().map(|s| s.name().to_owned()) {
            self.tell_store(&name, &sql).await;
        }
        self.shared.settings.gate.release();
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.shared.settings.stores.iter().position(|s| s.name() == name)
    }

    /// Looks once, and acts; how long to wait before the next look.
    async fn turn(&mut self) -> Duration {
        let serving = self.at(&self.authority).unwrap_or(0);
        self.ask(serving).await;
        let calm = self.seen.get(serving).and_then(|s| s.rows.as_ref()).is_some_and(|rows| {
            rows.intent.is_none() && rows.record.as_ref().is_some_and(|r| r.standing == record::Standing::Open)
        });
        let other = 1 - serving.min(1);
        let due = self.seen.get(other).and_then(|s| s.asked).is_none_or(|at| at.elapsed() >= OTHER);
        if !calm || due || self.unsettled.is_some() {
            self.ask(other).await;
        }
        let verdict = self.verdict();
        let intent = self.intent();
        self.publish(&verdict, intent.as_ref());
        self.say_alive().await;
        if let Some(intent) = intent.filter(Intent::is_live) {
            self.unsettled = None;
            self.hold(&intent).await;
            return QUICK;
        }
        self.act(verdict).await
    }

    /// Nobody conducts: follows what is settled, ends what is not.
    async fn act(&mut self, verdict: Verdict) -> Duration {
        match &verdict {
            Verdict::Settled { authority, epoch } => {
                let (authority, epoch) = (authority.clone(), *epoch);
                self.unsettled = None;
                self.settled(&authority, epoch).await;
                TICK
            }
            Verdict::Unclear(_) => {
                self.unsettled = None;
                TICK
            }
            Verdict::Undecided { .. } | Verdict::Decided { .. } | Verdict::GivenUp { .. } => {
                let since = *self.unsettled.get_or_insert_with(Instant::now);
                // the conductor may have lost its intent a moment ago; one that was seen to be silent is not waited for
                if since.elapsed() >= PATIENCE || self.intent().is_some() {
                    self.finish().await;
                    self.unsettled = None;
                }
                QUICK
            }
            Verdict::Returned { .. } => {
                self.unsettled = None;
                TICK
            }
        }
    }

    async fn settled(&mut self, authority: &str, epoch: u64) {
        if self.authority != authority {
            // before anything is written there: the next cutover waits for this proxy
            self.alive = None;
            self.say_alive().await;
            let settings = &self.shared.settings;
            let (by, why) = self.wanted.clone();
            self.follow.follow(&settings.group, authority, &by, &why).await;
            authority.clone_into(&mut self.authority);
            tracing::info!(group = settings.group, authority, epoch, "the authority has changed");
            settings.gate.changed();
        }
        let settings = &self.shared.settings;
        lock(&self.shared.view).followed = epoch;
        self.shared.changed.send_replace(epoch);
        let seals = settings.gate.seals();
        if self.intent().is_some() || (seals > self.seals && self.sealed_here()) {
            // an intent that nobody conducts; a seal on the store that serves: it is taken off before anybody gets in, because a
            // transaction that has written one table would be lost to the seal of another
            self.finish().await;
        }
        self.shared.settings.gate.release();
        self.seals = seals;
    }

    /// Whether sessions may have met a seal on the authority itself.
    fn sealed_here(&self) -> bool {
        self.seals != self.shared.settings.gate.seals()
    }

    async fn hold(&mut self, intent: &Intent) {
        let gate = &self.shared.settings.gate;
        self.wanted = (intent.by.clone(), intent.reason.clone());
        gate.hold();
        if gate.passes() > 0 || self.drained == intent.cutover {
            return;
        }
        let sql = self.alive_statement(&intent.cutover);
        if self.tell_store(&intent.source.clone(), &sql).await {
            self.drained.clone_from(&intent.cutover);
        }
    }

    fn alive_statement(&self, cutover: &str) -> String {
        let settings = &self.shared.settings;
        format!(
            "INSERT INTO switchover.proxies VALUES ({}, {}, {}, NOW(6)) ON DUPLICATE KEY UPDATE cutover = VALUES(cutover), renewed = NOW(6)",
            literal(&settings.group),
            literal(&settings.proxy),
            literal(cutover)
        )
    }

    /// On both stores: whoever leaves either of them next must know whom to wait for.
    async fn say_alive(&mut self) {
        if self.alive.is_some_and(|at| at.elapsed() < ALIVE) {
            return;
        }
        let sql = self.alive_statement(&self.drained.clone());
        let mut told = true;
        for name in self.shared.settings.stores.each_ref().map(|s| s.name().to_owned()) {
            told &= self.tell_store(&name, &sql).await;
        }
        self.alive = told.then(Instant::now);
    }

    async fn tell_store(&mut self, name: &str, sql: &str) -> bool {
        let Some(seen) = self.at(name).and_then(|at| self.seen.get_mut(at)) else { return false };
        let Some(backend) = seen.backend.as_mut() else { return false };
        match timeout(LIMIT, backend.execute(sql.as_bytes())).await {
            Ok(Ok(_)) => true,
            Ok(Err(crate::backend::connection::QueryError::Refused(_))) => false,
            _ => {
                seen.backend = None;
                false
            }
        }
    }

    /// Reads a store's rows; what it said before is forgotten where it does not answer.
    async fn ask(&mut self, at: usize) {
        let (Some(store), Some(seen)) = (self.shared.settings.stores.get(at), self.seen.get_mut(at)) else { return };
        seen.asked = Some(Instant::now());
        let group = &self.shared.settings.group;
        let answer = timeout(LIMIT, async {
            if seen.backend.is_none() {
                seen.backend = Some(control::connect(store, LIMIT).await.map_err(|e| e.to_string())?);
            }
            let Some(backend) = seen.backend.as_mut() else { return Err(String::new()) };
            record::read(backend, group).await.map_err(|e| e.to_string())
        });
        match answer.await.unwrap_or_else(|_| Err("it does not answer".to_owned())) {
            Ok(rows) => {
                seen.rows = Some(rows);
                seen.error = None;
            }
            Err(error) => {
                seen.backend = None;
                seen.rows = None;
                seen.error = Some(error);
            }
        }
    }

    fn verdict(&self) -> Verdict {
        let [a, b] = &self.seen;
        let [sa, sb] = &self.shared.settings.stores;
        let record = |seen: &Seen| seen.rows.as_ref().and_then(|r| r.record.clone());
        let (ra, rb) = (record(a), record(b));
        for (store, seen) in [(sa, a), (sb, b)] {
            if let Some(error) = &seen.error {
                return Verdict::Unclear(format!("store {} cannot be asked: {error}", store.name()));
            }
        }
        verdict((sa.name(), ra.as_ref()), (sb.name(), rb.as_ref()))
    }

    /// The cutover that is written down on either store.
    fn intent(&self) -> Option<Intent> {
        self.seen.iter().find_map(|s| s.rows.as_ref()?.intent.clone())
    }

    fn publish(&self, verdict: &Verdict, intent: Option<&Intent>) {
        let stores = &self.shared.settings.stores;
        let errors = self.seen.iter().zip(stores);
        let mut view = lock(&self.shared.view);
        if let Some((authority, epoch)) = verdict.authority() {
            authority.clone_into(&mut view.authority);
            view.epoch = epoch;
        }
        view.settled = matches!(verdict, Verdict::Settled { .. });
        view.rows = match verdict {
            Verdict::Settled { authority, epoch } => format!("{authority}, epoch {epoch}"),
            Verdict::Unclear(why) => why.clone(),
            other => format!("{other:?}"),
        };
        view.cutover = intent.map(|i| (i.cutover.clone(), i.target.clone()));
        view.unreachable = errors.filter_map(|(seen, s)| Some((s.name().to_owned(), seen.error.clone()?))).collect();
    }

    /// Brings to its end what nobody conducts.
    async fn finish(&mut self) {
        let settings = &self.shared.settings;
        let stores = settings.stores.each_ref();
        let ended = match Pair::connect(&settings.group, &settings.tables, stores).await {
            Ok(mut pair) => pair.finish(Instant::now() + FINISH).await,
            Err(error) => Err(error),
        };
        match ended {
            Ok((authority, epoch)) => {
                tracing::info!(group = settings.group, authority, epoch, "what was left of a cutover is settled");
            }
            Err(error) => {
                tracing::warn!(group = settings.group, %error, "what was left of a cutover is not settled yet")
            }
        }
    }
}
