//! Groups with a standby, as this process serves them: which store is the authority is what the rows on both stores say; the
//! file's flag is a wish, and a change of it begins a cutover.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use super::running::Proxy;
use crate::admin::events::Event;
use crate::admin::protocol::{AuthorityStatus, Cause, Failure, FailureKind, FlagRequest, Flagged};
use crate::backend::{Fleet, StoreHandle};
use crate::config::model::{Ack, Config, Group, GroupId, StoreId};
use crate::config::{diff, edit};
use crate::routing::gate::Standby;
use crate::routing::{Gate, Gates};
use crate::session::Live;
use crate::standby::GroupTables;
use crate::standby::at_start::authority_at_start;
use crate::standby::cutover::{self, CutoverError, Report, Step, Wish};
use crate::standby::watch::{self, BoxFuture, Follow, Shared};
use tokio::sync::watch as watch_channel;

/// How long the start waits for the stores to say who the authority is.
const AT_START: Duration = Duration::from_secs(3);

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watcher, and what it was started with.
struct Watching {
    group: Group,
    stores: [Arc<StoreHandle>; 2],
    handle: watch::Handle,
}

/// All of them.
pub(super) struct Authorities {
    /// This process, unlike any other.
    proxy: String,
    owner: OnceLock<Weak<Proxy>>,
    /// A group's gate outlives configurations.
    gates: Mutex<HashMap<String, Arc<Gate>>>,
    /// Groups that an operator has paused.
    paused: Mutex<HashSet<String>>,
    /// The authority by which this process routes, by group.
    facts: Mutex<HashMap<String, String>>,
    /// The flags as the file had them last, of groups with a standby.
    wishes: Mutex<HashMap<String, String>>,
    watching: Mutex<HashMap<String, Watching>>,
    /// Cutovers that this process conducts: how they are given up. (Of one group there may be several for a moment: all but one are
    /// refused, and take nothing of that one with them.)
    conducted: Mutex<Vec<Conducted>>,
}

/// A cutover that this process conducts.
struct Conducted {
    group: String,
    /// Gives it up; closed when it has ended.
    abort: watch_channel::Sender<String>,
    /// Who asked for it, and which way: the rows on the stores hold a name and a reason only.
    cause: Cause,
}

/// The group's authority becomes `to`; the store that it leaves is its standby.
fn place(config: &mut Config, group: &str, to: &str) -> bool {
    let Some(to) = config.stores.iter().position(|s| s.name == to).and_then(|i| u16::try_from(i).ok()).map(StoreId)
    else {
        return false;
    };
    let Some(group) = config.groups.iter_mut().find(|g| g.name == group) else { return false };
    let Some(standby) = group.standby else { return false };
    if group.connection == to {
        return true;
    }
    if standby != to {
        return false;
    }
    group.standby = Some(group.connection);
    group.connection = to;
    true
}

impl Conducted {
    fn is_of(&self, group: &str) -> bool {
        self.group == group && !self.abort.is_closed()
    }
}

impl Authorities {
    /// None yet.
    pub(super) fn new(path: &Path) -> Authorities {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let proxy = format!("{}:{}:{}", host.trim(), path.display(), std::process::id());
        Authorities {
            proxy,
            owner: OnceLock::new(),
            gates: Mutex::default(),
            paused: Mutex::default(),
            facts: Mutex::default(),
            wishes: Mutex::default(),
            watching: Mutex::default(),
            conducted: Mutex::default(),
        }
    }

    /// Asks the stores before the first snapshot: what is routed follows the rows from the first statement on.
    pub(super) async fn ask(&self, config: &mut Config, fleet: &Fleet) {
        lock(&self.wishes).extend(wishes(config));
        for group in config.groups.clone().iter().filter(|g| g.standby.is_some()) {
            let Some([a, b]) = pair(group, fleet) else { continue };
            let Some((authority, epoch)) = authority_at_start(&group.name, [&a, &b], AT_START).await else {
                continue;
            };
            let file = config.store_name(group.connection).to_owned();
            if authority != file {
                tracing::warn!(
                    group = group.name,
                    file,
                    authority,
                    epoch,
                    "the stores say otherwise than the file: they are right"
                );
            }
            lock(&self.facts).insert(group.name.clone(), authority);
        }
        self.follow_facts(config);
    }

    /// A configuration as it is in force: the flags of groups with a standby are what the rows say.
    pub(super) fn follow_facts(&self, config: &mut Config) {
        let facts = lock(&self.facts).clone();
        for (group, authority) in facts {
            place(config, &group, &authority);
        }
    }

    /// The gates of a configuration: of groups with a standby, and of those that are paused.
    pub(super) fn gates(&self, config: &Config) -> Gates {
        let mut known = lock(&self.gates);
        let paused = lock(&self.paused);
        let gate = |g: &Group| {
            let fresh = || Arc::new(Gate::new(&g.name));
            let is_paused = paused.contains(&g.name);
            (g.standby.is_some() || is_paused).then(|| {
                let gate = known.entry(g.name.clone()).or_insert_with(fresh);
                gate.keep(&g.keeping);
                gate.pause(is_paused);
                Arc::clone(gate)
            })
        };
        Gates::new(config.groups.iter().map(gate).collect())
    }

    /// A group is paused, or goes on.
    pub(super) fn pause(&self, group: &str, pause: bool) {
        if pause {
            lock(&self.paused).insert(group.to_owned());
        } else {
            lock(&self.paused).remove(group);
        }
        if let Some(gate) = lock(&self.gates).get(group) {
            gate.pause(pause);
        }
    }

    /// Flags of groups with a standby that a change of the file has moved: group and store.
    pub(super) fn wished(&self, new: &Config) -> Vec<(String, String)> {
        let new = wishes(new);
        let mut known = lock(&self.wishes);
        let facts = lock(&self.facts);
        let moved = new.iter().filter(|(group, store)| {
            known.get(*group).is_some_and(|was| was != *store) && facts.get(*group).is_some_and(|fact| fact != *store)
        });
        let moved = moved.map(|(g, s)| (g.clone(), s.clone())).collect();
        *known = new;
        moved
    }

    /// Who owns this: watchers make it follow.
    pub(super) fn attach(&self, proxy: &Arc<Proxy>) {
        let _ = self.owner.set(Arc::downgrade(proxy));
        self.sync(&proxy.live.load());
        // what became of a cutover while this process was not there: the next one that starts may find a store missing
        let facts = lock(&self.facts).clone();
        let wishes = lock(&self.wishes).clone();
        for (group, authority) in facts.into_iter().filter(|(group, fact)| wishes.get(group) != Some(fact)) {
            let path = proxy.path.clone();
            tokio::task::spawn_blocking(move || write_down(&path, &group, &authority));
        }
    }

    /// Exactly the groups with a standby have a watcher.
    pub(super) fn sync(&self, live: &Live) {
        let Some(owner) = self.owner.get() else { return };
        let config = live.config();
        let mut watching = lock(&self.watching);
        watching.retain(|name, _| config.group_by_name(name).is_some_and(|g| g.standby.is_some()));
        lock(&self.facts).retain(|name, _| config.group_by_name(name).is_some_and(|g| g.standby.is_some()));
        for (n, group) in config.groups.iter().enumerate().filter(|(_, g)| g.standby.is_some()) {
            let (Some(stores), Ok(id)) = (pair(group, &live.fleet), u16::try_from(n)) else { continue };
            let authority = config.store_name(group.connection).to_owned();
            lock(&self.facts).entry(group.name.clone()).or_insert_with(|| authority.clone());
            let same = |w: &Watching| {
                let stores = w.stores.iter().all(|s| stores.iter().any(|t| Arc::ptr_eq(s, t)));
                stores
                    && w.group.tables == group.tables
                    && w.group.databases == group.databases
                    && w.group.keeping == group.keeping
            };
            if watching.get(&group.name).is_some_and(same) {
                continue;
            }
            let Some(gate) = live.gates.get(GroupId(id)) else { continue };
            let settings = watch::Settings {
                group: group.name.clone(),
                tables: GroupTables::new(live.snapshot.clone(), GroupId(id)),
                stores: stores.clone(),
                gate: Arc::clone(gate),
                proxy: self.proxy.clone(),
                keeping: group.keeping,
            };
            let follower = Arc::new(Follower(Weak::clone(owner)));
            match watch::start(settings, &authority, follower) {
                Ok(handle) => {
                    watching.insert(group.name.clone(), Watching { group: group.clone(), stores, handle });
                }
                Err(error) => tracing::error!(group = group.name, %error, "its authority is not watched: no thread"),
            }
        }
    }

    /// Ends all watchers.
    pub(super) fn end(&self) {
        lock(&self.watching).clear();
    }

    fn shared(&self, group: &str) -> Option<Arc<Shared>> {
        lock(&self.watching).get(group).map(|w| Arc::clone(&w.handle.shared))
    }

    /// Gives up the cutover of a group, or the one with this id, unless it has been decided; whether there is one here.
    pub(super) fn abort(&self, job: &str, by: &str) -> bool {
        let id = |group: &str| self.shared(group).and_then(|s| s.view().cutover).map(|(id, _)| id);
        let asked = |c: &&Conducted| c.group == job || id(&c.group).is_some_and(|id| id == job);
        // (each that is still there is told)
        lock(&self.conducted).iter().filter(asked).filter(|c| c.abort.send(by.to_owned()).is_ok()).count() > 0
    }

    /// What somebody has asked for a cutover with that this process conducts.
    fn cause(&self, group: &str, by: &str) -> Option<Cause> {
        lock(&self.conducted).iter().find(|c| c.is_of(group) && c.cause.by == by).map(|c| c.cause.clone())
    }

    /// How a group's authority is.
    pub(super) fn status(&self, group: &str) -> Option<AuthorityStatus> {
        let shared = self.shared(group)?;
        let (view, gate) = (shared.view(), &shared.settings.gate);
        let (waits, waited_us) = gate.waits();
        let wish = lock(&self.wishes).get(group).filter(|wish| **wish != view.authority).cloned();
        Some(AuthorityStatus {
            store: view.authority,
            epoch: view.epoch,
            settled: view.settled,
            rows: view.rows,
            cutover: view.cutover.map(|(id, to)| format!("{id} to {to}")),
            conducted_here: lock(&self.conducted).iter().any(|c| c.is_of(group)),
            held: gate.is_held(),
            file_says: wish,
            passes: gate.passes(),
            waits,
            waited_us,
            longest_wait_us: gate.longest_wait(),
            seals: gate.seals(),
            health: view.health.into_iter().map(|(s, h)| (s, format!("{h:?}").to_lowercase())).collect(),
            acks: match (shared.settings.keeping.ack, gate.acks().standby()) {
                (Ack::Authority, _) => "authority",
                (Ack::Standby, Standby::Follows) => "standby",
                (Ack::Standby, Standby::Degraded) => "degraded",
                (Ack::Standby, Standby::Away) => "refused",
            }
            .to_owned(),
            acknowledged_alone: gate.acks().alone(),
            left_behind: view.left_behind,
            strays: view.strays,
            unreachable: view.unreachable.into_iter().map(|(store, why)| format!("{store}: {why}")).collect(),
        })
    }
}

fn wishes(config: &Config) -> HashMap<String, String> {
    let kept = config.groups.iter().filter(|g| g.standby.is_some());
    kept.map(|g| (g.name.clone(), config.store_name(g.connection).to_owned())).collect()
}

fn pair(group: &Group, fleet: &Fleet) -> Option<[Arc<StoreHandle>; 2]> {
    Some([Arc::clone(fleet.get(group.connection)?), Arc::clone(fleet.get(group.standby?)?)])
}

/// Makes the process follow.
struct Follower(Weak<Proxy>);

impl Follow for Follower {
    fn follow<'a>(&'a self, group: &'a str, authority: &'a str, by: &'a str, why: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let Some(proxy) = self.0.upgrade() else { return };
            let why = Some(why.to_owned()).filter(|w| !w.is_empty());
            let cause = proxy.authorities.cause(group, by);
            let cause = cause.unwrap_or_else(|| Cause { by: by.to_owned(), why, ..Cause::default() });
            proxy.follow(group, authority, &cause).await;
            // the file says so too, but nobody waits for a disk
            let (path, group, authority) = (proxy.path.clone(), group.to_owned(), authority.to_owned());
            tokio::task::spawn_blocking(move || write_down(&path, &group, &authority));
        })
    }

    fn give_up(&self, store: &str) {
        let Some(proxy) = self.0.upgrade() else { return };
        let live = proxy.live.load();
        if let Some(handle) = live.fleet.by_name(store).and_then(|id| live.fleet.get(id)) {
            handle.give_up();
        }
        proxy.registry.wake_all();
    }
}

fn write_down(path: &Path, group: &str, authority: &str) -> Option<edit::Edit> {
    match edit::set_authority(path, group, authority) {
        Ok(edit) => Some(edit),
        Err(error) => {
            tracing::warn!(group, authority, %error, "the file does not say who the authority is");
            None
        }
    }
}

impl Proxy {
    /// Routes a group to its new authority.
    pub(super) async fn follow(&self, group: &str, authority: &str, cause: &Cause) {
        let _one_at_a_time = self.reloading.lock().await;
        lock(&self.authorities.facts).insert(group.to_owned(), authority.to_owned());
        let old = self.live.load_full();
        let mut config = old.config().clone();
        if !place(&mut config, group, authority) {
            tracing::error!(group, authority, "the rows name a store that this file does not know for the group");
            return;
        }
        lock(&self.authorities.wishes).insert(group.to_owned(), authority.to_owned());
        let changes = diff::diff(old.config(), &config);
        if changes.is_empty() {
            return;
        }
        let epoch = old.snapshot.epoch + 1;
        let live = Live {
            snapshot: old.snapshot.reflagged(Arc::new(config), epoch),
            fleet: old.fleet.clone(),
            acceptor: old.acceptor.clone(),
            gates: old.gates.clone(),
        };
        let live = Arc::new(live);
        self.live.store(Arc::clone(&live));
        self.record(&changes, cause, epoch);
        self.standbys.sync(&live);
    }

    /// Changes the authority of a group with a standby.
    pub(super) async fn cut_over(&self, request: FlagRequest) -> Result<Flagged, Failure> {
        let refused = |text: String| Failure::new(FailureKind::Request, text);
        let FlagRequest { group, store, cause, dry_run } = request;
        let shared = self.authorities.shared(&group);
        let shared = shared.ok_or_else(|| refused(format!("the authority of {group} is not watched yet")))?;
        let mut flagged = Flagged { group: group.clone(), to: store.clone(), ..Flagged::default() };
        {
            let live = self.live.load();
            let known = live.config().group_by_name(&group).map(|g| live.config().store_name(g.connection).to_owned());
            flagged.from = known.unwrap_or_default();
            flagged.epoch = live.snapshot.epoch;
            flagged.file.clone_from(&self.path);
        }
        // (what this proxy routes by may be older than the rows: it has not looked yet, or was suspended)
        if flagged.from == store && serves(&shared).await.is_none_or(|authority| authority == store) {
            return Ok(flagged);
        }
        let stores: Vec<&str> = shared.settings.stores.iter().map(|s| s.name()).collect();
        if !stores.contains(&store.as_str()) {
            return Err(refused(format!("{store} is no store of {group}: those are {}", stores.join(" and "))));
        }
        let (steps, mut told_steps) = tokio::sync::mpsc::unbounded_channel();
        let reason = cause.why.clone().unwrap_or_default();
        let (abort, aborted) = watch_channel::channel(String::new());
        let wish = Wish {
            to: store,
            by: cause.by.clone(),
            reason,
            force: cause.force,
            dry_run,
            steps: (!dry_run).then_some(steps),
            abort: Some(aborted),
        };
        if !dry_run {
            let mut conducted = lock(&self.authorities.conducted);
            conducted.retain(|c| !c.abort.is_closed());
            conducted.push(Conducted { group: group.clone(), abort, cause });
        }
        let tell = async {
            while let Some(step) = told_steps.recv().await {
                self.events.add(Event::of_proxy("step", &group, told_step(&step)));
            }
        };
        let (report, ()) = tokio::join!(conduct(Arc::clone(&shared), wish), tell);
        let report = report?;
        flagged.from.clone_from(&report.from);
        flagged.changed = !dry_run;
        flagged.notes = told(&report, dry_run);
        flagged.epoch = self.epoch();
        if !dry_run {
            let (path, group, authority) = (self.path.clone(), group, flagged.to.clone());
            let written = tokio::task::spawn_blocking(move || write_down(&path, &group, &authority)).await;
            match written {
                Ok(Some(edit)) => flagged.file = edit.file,
                _ => flagged.notes.push("the file could not be changed: it says otherwise than the stores".to_owned()),
            }
        }
        Ok(flagged)
    }

    /// A flag that was moved in the file: the cutover that it wishes for.
    pub(super) fn begin_wished(&self, wished: Vec<(String, String)>, cause: &Cause) {
        let Some(proxy) = self.authorities.owner.get().and_then(Weak::upgrade) else { return };
        for (group, store) in wished {
            let (proxy, cause) = (Arc::clone(&proxy), cause.clone());
            tokio::spawn(async move {
                let request = FlagRequest { group: group.clone(), store: store.clone(), cause, dry_run: false };
                if let Err(failure) = proxy.cut_over(request).await {
                    tracing::error!(
                        group,
                        store,
                        "the flag was moved in the file, the authority has not: {}",
                        crate::telemetry::without_values(&failure.message)
                    );
                }
            });
        }
    }
}

/// Who serves a group by the rows, asked now.
async fn serves(shared: &Arc<Shared>) -> Option<String> {
    let shared = Arc::clone(shared);
    let asked = on_own_thread(move |runtime| runtime.block_on(cutover::serves(&shared)));
    asked.await.ok().flatten()
}

/// Runs what needs a runtime on a thread of its own: control connections are bound to one.
async fn on_own_thread<T: Send + 'static>(
    run: impl FnOnce(&tokio::runtime::Runtime) -> T + Send + 'static,
) -> Result<T, Failure> {
    let internal = |e: String| Failure::new(FailureKind::Internal, e);
    let done = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map(|runtime| run(&runtime))
    });
    done.await.map_err(|e| internal(e.to_string()))?.map_err(|e| internal(e.to_string()))
}

/// Runs a cutover.
async fn conduct(shared: Arc<Shared>, wish: Wish) -> Result<Report, Failure> {
    let done = on_own_thread(move |runtime| {
        runtime.block_on(cutover::cutover(&shared, wish)).map_err(|e| {
            let kind = match &e {
                CutoverError::Refused(_) => FailureKind::Config,
                CutoverError::GivenUp { .. } | CutoverError::Open { .. } => FailureKind::Timeout,
            };
            Failure::new(kind, e.to_string())
        })
    });
    done.await?
}

fn told_step(step: &Step) -> String {
    format!("{:>6.1} ms  {}: {}", step.took.as_secs_f64() * 1_000.0, step.name, step.note)
}

fn told(report: &Report, dry_run: bool) -> Vec<String> {
    let mut notes: Vec<String> = report.steps.iter().map(told_step).collect();
    notes.extend(report.skipped.iter().map(|(what, _)| format!("passed over by --force: {what}")));
    if dry_run {
        notes.push(
            "would follow: intent, hold, seal, catch up, reverse start, open, release; nothing was changed".to_owned(),
        );
    }
    notes
}
