//! Watches the rows that say who is a group's authority, on a thread of its own, and makes this proxy follow them.
//!
//! ```text
//! every 100 ms (20 ms during a cutover, at once when a session met a seal):
//!   both rows ─► an intent lives: the gate closes; nothing in flight: `switchover.proxies` says so
//!             ─► the authority is another: routing follows, then the gate opens
//!             ─► nobody conducts what has begun: it is brought to its end here
//!   beside that: this proxy is alive, in `switchover.proxies` on both ([`super::beat`])
//! ```
//!
//! The file is the wish, the rows are the fact: what is routed follows the rows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::beat::{self, Beat};
use super::fallback::{self, cause_of, cause_of_query};
use super::health::{self, Cause, Evidence, Health, State};
use super::pair::Pair;
use super::record::{self, Intent, Rows2, Verdict, verdict};
use super::schema::literal;
use super::watch::{Follow, Shared};
use super::{seal, seal_rename};
use crate::backend::connection::QueryError;
use crate::backend::{Backend, control};
use crate::config::model::{Ack, Fallback, Seal};
use crate::routing::gate::Standby;
use crate::routing::moved::Found;

/// Between two looks.
const TICK: Duration = Duration::from_millis(100);
/// The same, while the authority changes.
const QUICK: Duration = Duration::from_millis(20);
/// For an answer; less, where an authority is given up so soon that it would be a hole in the evidence.
const LIMIT: Duration = Duration::from_secs(1);
/// How often this proxy says that it is alive,
const ALIVE: Duration = Duration::from_secs(1);
/// and how often at an authority that is given up when it takes no writes.
const PROOF: Duration = Duration::from_millis(250);
/// The store that does not serve is asked this often, while all is well.
const OTHER: Duration = Duration::from_millis(500);
/// Rows that are not settled are left to whoever conducts for so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// For bringing to its end what has begun.
const FINISH: Duration = Duration::from_secs(5);

/// One store, as the watcher sees it.
#[derive(Default)]
struct Seen {
    backend: Option<Backend>,
    rows: Option<Rows2>,
    error: Option<String>,
    asked: Option<Instant>,
    /// What is written there.
    beat: Option<Beat>,
    /// Whether it is known how it is sealed.
    way: bool,
}

pub(super) struct Watcher {
    shared: Arc<Shared>,
    follow: Arc<dyn Follow>,
    seen: [Seen; 2],
    /// Whom this proxy routes by.
    authority: String,
    /// The cutover for which it said that nothing is in flight.
    drained: String,
    /// Since when rows are not settled, and nobody conducts.
    unsettled: Option<Instant>,
    /// Refusals by a seal, at the last look.
    seals: u64,
    /// The newest cutover that was seen: who wanted it, and why.
    wanted: (String, String),
    health: [Health; 2],
    /// When a returned authority was tried to be settled last.
    tried: Option<Instant>,
    settling: Option<tokio::task::JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>, follow: Arc<dyn Follow>) -> Watcher {
        let authority = shared.view().authority;
        let times = health::Settings { fallback_after: shared.settings.keeping.fallback_after, ..Default::default() };
        Watcher {
            health: [Health::new(times), Health::new(times)],
            tried: None,
            settling: None,
            shared,
            follow,
            seen: [Seen::default(), Seen::default()],
            authority,
            drained: String::new(),
            unsettled: None,
            seals: 0,
            wanted: (String::new(), String::new()),
        }
    }

    pub(super) async fn run(mut self, mut ended: watch::Receiver<bool>) {
        let shared = Arc::clone(&self.shared);
        for (seen, store) in self.seen.iter_mut().zip(&shared.settings.stores) {
            seen.beat = Some(Beat::start(store));
        }
        tokio::select! {
            () = self.watch(&mut ended) => {}
            () = super::acks::confirm(Arc::clone(&shared)) => {}
            () = super::strays::watch(&shared) => {}
        }
        self.leave().await;
    }

    async fn watch(&mut self, ended: &mut watch::Receiver<bool>) {
        loop {
            let pause = tokio::select! {
                _ = ended.wait_for(|end| *end) => return,
                pause = self.turn() => pause,
            };
            self.shared.settings.gate.moved().was_watched();
            tokio::select! {
                _ = ended.wait_for(|end| *end) => return,
                () = self.shared.settings.gate.look_wanted() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Nobody is to wait for this proxy.
    async fn leave(&mut self) {
        if let Some(settling) = self.settling.take() {
            settling.abort();
        }
        for seen in &mut self.seen {
            if let Some(beat) = seen.beat.take() {
                beat.end(PROOF).await;
            }
        }
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

    /// For an answer.
    fn limit(&self) -> Duration {
        LIMIT.min(self.shared.settings.keeping.fallback_after / 4).max(QUICK)
    }

    fn at(&self, name: &str) -> Option<usize> {
        self.shared.settings.stores.iter().position(|s| s.name() == name)
    }

    /// Looks once, and acts; how long to wait before the next look.
    async fn turn(&mut self) -> Duration {
        let serving = self.at(&self.authority).unwrap_or(0);
        // (whoever asks while it is looked is answered by the next look)
        let number = self.shared.settings.gate.moved().asked();
        self.ask(serving).await;
        let calm = self.seen.get(serving).and_then(|s| s.rows.as_ref()).is_some_and(|rows| {
            rows.intent.is_none() && rows.record.as_ref().is_some_and(|r| r.standing == record::Standing::Open)
        });
        let other = 1 - serving.min(1);
        let due = self.is_asked_for(other, number)
            || self.seen.get(other).and_then(|s| s.asked).is_none_or(|at| at.elapsed() >= OTHER);
        if !calm || due || self.unsettled.is_some() {
            self.ask(other).await;
        }
        for at in [serving, other] {
            self.look_where(at, number).await;
        }
        let verdict = self.verdict();
        let intent = self.intent();
        self.publish(&verdict, intent.as_ref());
        self.beat(serving);
        if self.may_fall_back(serving) {
            return self.fall_back(serving).await;
        }
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
                self.unseal().await;
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
            Verdict::Returned { authority, epoch } => {
                let (authority, epoch) = (authority.clone(), *epoch);
                self.unsettled = None;
                self.settled(&authority, epoch).await;
                self.take_back(&authority);
                TICK
            }
        }
    }

    async fn settled(&mut self, authority: &str, epoch: u64) {
        let followed = self.shared.view().followed;
        if followed != 0 && followed != epoch {
            // before a cutover nobody here waits any more for an acknowledgement (`drained`): who does has slept through it, or
            // waits for an authority that was given up
            self.shared.settings.gate.acks().give_up();
        }
        if self.authority != authority {
            // before anything is written there: the next cutover waits for this proxy
            self.say_alive().await;
            let settings = &self.shared.settings;
            let (by, why) = self.wanted.clone();
            self.follow.follow(&settings.group, authority, &by, &why).await;
            authority.clone_into(&mut self.authority);
            tracing::info!(group = settings.group, authority, epoch, "the authority has changed");
            settings.gate.changed();
        }
        let settings = &self.shared.settings;
        self.shared.show(|view| {
            authority.clone_into(&mut view.authority);
            (view.epoch, view.followed) = (epoch, epoch);
        });
        settings.gate.follow(epoch);
        let seals = settings.gate.seals();
        if self.intent().is_some() || seals > self.seals {
            // an intent that nobody conducts; a seal on the store that serves: it is taken off before anybody gets in, because a
            // transaction that has written one table would be lost to the seal of another
            self.finish().await;
        }
        self.shared.settings.gate.release();
        self.seals = seals;
    }

    async fn hold(&mut self, intent: &Intent) {
        let gate = &self.shared.settings.gate;
        self.wanted = (intent.by.clone(), intent.reason.clone());
        gate.hold();
        if gate.passes() > 0 || self.drained == intent.cutover {
            return;
        }
        let sql = beat::alive(&self.shared.settings, &intent.cutover, beat::DRAINED);
        if self.tell_store(&intent.source.clone(), &sql).await {
            self.drained.clone_from(&intent.cutover);
        }
    }

    /// This proxy lives: whoever leaves either of the stores next must know whom to wait for.
    fn beat(&mut self, serving: usize) {
        // (what a cutover was told is left as it is: this may arrive later)
        let sql = beat::alive(&self.shared.settings, &self.drained, "");
        let auto = self.shared.settings.keeping.fallback == Fallback::Auto;
        for (at, seen) in self.seen.iter().enumerate() {
            if let Some(beat) = &seen.beat {
                beat.say(sql.clone(), if auto && at == serving { PROOF } else { ALIVE });
            }
        }
    }

    /// The same, now.
    async fn say_alive(&mut self) {
        let sql = beat::alive(&self.shared.settings, &self.drained, beat::DRAINED);
        let limit = self.limit();
        for (at, name) in self.shared.settings.stores.each_ref().map(|s| s.name().to_owned()).iter().enumerate() {
            let writable = self.seen.get(at).and_then(|s| s.beat.as_ref()).is_none_or(|b| b.trouble(limit).is_none());
            if writable {
                self.tell_store(name, &sql).await;
            }
        }
    }

    /// Writes at a store; whether it has.
    async fn tell_store(&mut self, name: &str, sql: &str) -> bool {
        let limit = self.limit();
        let Some(seen) = self.at(name).and_then(|at| self.seen.get_mut(at)) else { return false };
        let Some(backend) = seen.backend.as_mut() else { return false };
        match timeout(limit, backend.execute(sql.as_bytes())).await {
            Ok(Ok(_)) => true,
            Ok(Err(QueryError::Refused(_))) => false,
            Ok(Err(_)) | Err(_) => {
                seen.backend = None;
                false
            }
        }
    }

    /// Reads a store's rows; what it said before is forgotten where it does not answer.
    async fn ask(&mut self, at: usize) {
        let limit = self.limit();
        let (Some(store), Some(seen)) = (self.shared.settings.stores.get(at), self.seen.get_mut(at)) else { return };
        seen.asked = Some(Instant::now());
        let group = &self.shared.settings.group;
        let answer = timeout(limit, async {
            if seen.backend.is_none() {
                seen.backend = Some(control::connect(store, limit).await.map_err(|e| (cause_of(&e), e.to_string()))?);
            }
            let Some(backend) = seen.backend.as_mut() else { return Err((Cause::Lost, String::new())) };
            record::read(backend, group).await.map_err(|e| (cause_of_query(&e), e.to_string()))
        });
        let mut trouble = None;
        let evidence = match answer.await.unwrap_or_else(|_| Err((Cause::Silent, "it does not answer".to_owned()))) {
            Ok(rows) => {
                seen.rows = Some(rows);
                seen.error = None;
                trouble = seen.beat.as_ref().and_then(|beat| beat.trouble(limit));
                trouble.map_or(Evidence::Good, |(cause, _)| Evidence::Failed(cause))
            }
            Err((cause, error)) => {
                seen.backend = None;
                seen.rows = None;
                seen.error = Some(error);
                Evidence::Failed(cause)
            }
        };
        if evidence == Evidence::Good && store.name() == self.authority {
            self.shared.settings.gate.prove();
        }
        if let Some(health) = self.health.get_mut(at) {
            if let Some((cause, since)) = trouble {
                health.see(since, Evidence::Met(cause));
            }
            health.see(Instant::now(), evidence);
        }
    }

    /// Whether sessions have asked for a store, and wait.
    fn is_asked_for(&self, at: usize, number: u64) -> bool {
        let settings = &self.shared.settings;
        number > 0 && settings.stores.get(at).is_some_and(|store| !settings.gate.moved().is_answered(store.name()))
    }

    /// Whether a store is sealed, and where its tables are, for sessions that had asked before it was asked for its rows; and, once,
    /// whether they may be away at all.
    async fn look_where(&mut self, at: usize, number: u64) {
        let asked = self.is_asked_for(at, number);
        let settings = &self.shared.settings;
        let (Some(store), Some(seen)) = (settings.stores.get(at), self.seen.get_mut(at)) else { return };
        let Some(backend) = seen.backend.as_mut() else { return };
        let moved = settings.gate.moved();
        if seen.way && !asked {
            return;
        }
        let known = seen.way;
        let record = seen.rows.as_ref().and_then(|rows| rows.record.as_ref());
        let sealed = record.is_some_and(|record| record.standing != record::Standing::Open);
        let looked = timeout(LIMIT, async {
            let renames = !known && seal::kind(backend, store.config.seal).await? == Seal::Rename;
            Ok::<_, QueryError>((renames, !seal_rename::away(backend, &settings.tables).await?.is_empty()))
        });
        match looked.await {
            Ok(Ok((renames, away))) => {
                if renames || away {
                    moved.allow();
                }
                moved.answer(store.name(), number, Found { away, sealed: sealed || away });
                seen.way = true;
            }
            Ok(Err(_)) | Err(_) => seen.backend = None,
        }
    }

    /// Whether the authority has been down for long enough, and its standby can take over.
    fn may_fall_back(&self, serving: usize) -> bool {
        let down = self.health.get(serving).is_some_and(|h| h.state() == State::Down);
        let other = self.seen.get(1 - serving.min(1)).and_then(|s| s.rows.as_ref()?.record.as_ref());
        down && self.shared.settings.keeping.fallback == Fallback::Auto
            && !self.acknowledges_alone()
            && other.is_some_and(|r| r.standing == record::Standing::Standby && r.authority == self.authority)
    }

    /// What was acknowledged without the standby would be lost with the authority: nobody but an operator gives that up.
    fn acknowledges_alone(&self) -> bool {
        let settings = &self.shared.settings;
        settings.keeping.ack == Ack::Standby && settings.gate.acks().standby() == Standby::Degraded
    }

    /// The standby takes over.
    async fn fall_back(&mut self, serving: usize) -> Duration {
        let settings = &self.shared.settings;
        let why = self.health.get(serving).and_then(Health::cause).map_or("it is down", Cause::words);
        let Some(to) = settings.stores.get(1 - serving.min(1)) else { return TICK };
        settings.gate.hold();
        self.wanted = ("fallback: auto".to_owned(), why.to_owned());
        match fallback::open(&self.shared, &self.authority, to, why).await {
            Ok(Some(opened)) => {
                let from = self.authority.clone();
                // nobody can take over from the new authority before the old one is settled
                settings.gate.acks().set_standby(Standby::Degraded);
                self.settled(&opened.authority, opened.epoch).await;
                self.follow.give_up(&from);
            }
            // another proxy was there first, or it is no standby any more: the rows say so at the next look
            Ok(None) => {}
            Err(error) => tracing::error!(group = settings.group, %error, "the standby cannot take over yet"),
        }
        QUICK
    }

    /// The authority that was given up is back: it is settled beside everything else that is to be watched.
    fn take_back(&mut self, authority: &str) {
        let busy = self.settling.as_ref().is_some_and(|task| !task.is_finished());
        if busy || self.tried.is_some_and(|at| at.elapsed() < PATIENCE) {
            return;
        }
        self.tried = Some(Instant::now());
        let (shared, authority) = (Arc::clone(&self.shared), authority.to_owned());
        self.settling = Some(tokio::task::spawn_local(async move {
            let settled = fallback::take_back(&shared, &authority).await;
            let lines = fallback::log_settled(&shared.settings.group, settled);
            shared.show(|view| view.left_behind = lines);
        }));
    }

    fn verdict(&self) -> Verdict {
        let [a, b] = &self.seen;
        let [sa, sb] = &self.shared.settings.stores;
        let record = |seen: &Seen| seen.rows.as_ref().and_then(|r| r.record.clone());
        let (ra, rb) = (record(a), record(b));
        for (store, seen) in [(sa, a), (sb, b)] {
            if let Some(error) = &seen.error {
                if let Some(alone) = self.taken_over() {
                    return alone;
                }
                return Verdict::Unclear(format!("store {} cannot be asked: {error}", store.name()));
            }
        }
        verdict((sa.name(), ra.as_ref()), (sb.name(), rb.as_ref()))
    }

    /// The store that this proxy routes by cannot be asked, and the other says that it has taken over.
    fn taken_over(&self) -> Option<Verdict> {
        let serving = self.at(&self.authority)?;
        let other = self.seen.get(1 - serving.min(1))?.rows.as_ref()?.record.as_ref()?;
        let newer = other.epoch > self.shared.view().followed && other.standing == record::Standing::Open;
        if newer {
            self.shared.settings.gate.acks().set_standby(Standby::Degraded);
        }
        newer.then(|| Verdict::Settled { authority: other.authority.clone(), epoch: other.epoch })
    }

    /// The cutover that is written down on either store.
    fn intent(&self) -> Option<Intent> {
        self.seen.iter().find_map(|s| s.rows.as_ref()?.intent.clone())
    }

    fn publish(&self, verdict: &Verdict, intent: Option<&Intent>) {
        let stores = &self.shared.settings.stores;
        let errors = self.seen.iter().zip(stores);
        self.shared.show(|view| {
            if let Some((authority, epoch)) = verdict.authority() {
                // (what it routes by from its start on, a cutover under way or not)
                if view.followed == 0 && *authority == self.authority {
                    view.followed = epoch;
                }
                authority.clone_into(&mut view.authority);
                view.epoch = epoch;
            }
            view.settled = matches!(verdict, Verdict::Settled { .. });
            view.rows = verdict.to_string();
            view.cutover = intent.map(|i| (i.cutover.clone(), i.target.clone()));
            let states = self.health.iter().zip(stores).map(|(h, s)| (s.name().to_owned(), h.state()));
            view.health = states.collect();
            view.unreachable =
                errors.filter_map(|(seen, s)| Some((s.name().to_owned(), seen.error.clone()?))).collect();
        });
    }

    /// The other store cannot be asked, and sessions meet a seal: whoever gave that store up died before this one was open.
    async fn unseal(&mut self) {
        let gate = &self.shared.settings.gate;
        let seals = gate.seals();
        if seals > self.seals && fallback::unseal(&self.shared, &self.authority).await.is_ok() {
            self.seals = seals;
            gate.changed();
        }
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
