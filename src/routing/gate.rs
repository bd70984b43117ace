//! The hold gate of a group with a standby: while the group changes its authority, what would write waits here.
//!
//! A statement that writes, or that binds its transaction to the store, takes a [`Pass`] before it is sent, and keeps it until
//! nothing of it is open. The gate closes, and then the passes that are out are waited for: the order of the two steps on both
//! sides (pass, then look; close, then count) is what leaves no statement unseen. Reads outside transactions take none.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::acks::Acks;
pub use super::acks::Standby;
use super::moved::{Found, Moved};
use crate::config::model::{Ack, Fallback, Keeping};

/// How the message of a sealed store's refusal begins: error 1644, SQLSTATE 45000.
pub const SEALED: &str = "switchover: sealed: ";
/// How the names of the triggers begin that a sealed store has.
pub const SEAL_TRIGGERS: &str = "switchover_seal_";
/// For how long the longest wait is told: longer than figures are asked for apart.
const NEWEST: Duration = Duration::from_secs(60);

/// The gate of one group.
#[derive(Debug)]
pub struct Gate {
    group: String,
    held: AtomicBool,
    /// An operator has closed it.
    paused: AtomicBool,
    passes: AtomicU64,
    /// Grows with each hold, each release and each new authority.
    changes: watch::Sender<u64>,
    /// Sessions that a sealed store refused, since the start.
    seals: AtomicU64,
    /// Somebody wants the group's authority looked at.
    wanted: Notify,
    /// The epoch of the rows that this proxy routes the group by.
    followed: watch::Sender<u64>,
    /// Statements that wait now.
    waiting: AtomicU64,
    /// Statements that waited, since the start, and for how long in all, microseconds.
    waited: AtomicU64,
    waited_micros: AtomicU64,
    /// The longest of the newest waits, microseconds, and when it ended.
    longest: Mutex<Option<(Instant, u64)>>,
    /// Acknowledgements that the standby is waited for with.
    acks: Acks,
    /// Times that the authority answered its watcher.
    proofs: AtomicU64,
    /// What the group's settings say, for those who ask with each statement.
    asks_standby: AtomicBool,
    falls_back: AtomicBool,
    hold_millis: AtomicU64,
    /// Whether tables of it are away, at a store that is sealed by `rename`.
    moved: Moved,
}

/// What a statement of the group has while its effects are open; given back when dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    used: bool,
}

impl Gate {
    /// An open gate.
    #[must_use]
    pub fn new(group: &str) -> Gate {
        Gate {
            group: group.to_owned(),
            held: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            passes: AtomicU64::new(0),
            changes: watch::Sender::new(0),
            seals: AtomicU64::new(0),
            wanted: Notify::new(),
            followed: watch::Sender::new(0),
            waiting: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
            longest: Mutex::new(None),
            acks: Acks::new(),
            proofs: AtomicU64::new(0),
            asks_standby: AtomicBool::new(false),
            falls_back: AtomicBool::new(false),
            hold_millis: AtomicU64::new(0),
            moved: Moved::default(),
        }
    }

    /// Takes the group's settings over.
    pub fn keep(&self, keeping: &Keeping) {
        self.asks_standby.store(keeping.ack == Ack::Standby, Ordering::Relaxed);
        self.falls_back.store(keeping.fallback == Fallback::Auto, Ordering::Relaxed);
        self.hold_millis.store(u64::try_from(keeping.hold_max.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether its writes are acknowledged when the standby has them.
    #[must_use]
    pub fn asks_standby(&self) -> bool {
        self.asks_standby.load(Ordering::Relaxed)
    }

    /// Whether its authority may be given up without an operator.
    #[must_use]
    pub fn falls_back(&self) -> bool {
        self.falls_back.load(Ordering::Relaxed)
    }

    /// How long a statement waits at it.
    #[must_use]
    pub fn hold_max(&self) -> Duration {
        Duration::from_millis(self.hold_millis.load(Ordering::Relaxed))
    }

    /// Its acknowledgements.
    #[must_use]
    pub fn acks(&self) -> &Acks {
        &self.acks
    }

    /// Questions whether a store is sealed.
    #[must_use]
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// How a store is found, by a look after this call; none, where nobody knows by `deadline`.
    pub async fn look_at(&self, store: &str, deadline: Instant) -> Option<Found> {
        let number = self.moved.ask();
        self.look();
        self.moved.settled(store, number, deadline).await
    }

    /// The authority has answered its watcher.
    pub fn prove(&self) {
        self.proofs.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    #[must_use]
    pub fn proofs(&self) -> u64 {
        self.proofs.load(Ordering::Relaxed)
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// A pass, unless the gate is closed.
    #[must_use]
    pub fn enter(self: &Arc<Gate>) -> Option<Pass> {
        self.passes.fetch_add(1, Ordering::SeqCst);
        let pass = Pass { gate: Arc::clone(self), used: false };
        (!self.is_held()).then_some(pass)
    }

    /// Closes it: [`Gate::passes`] tells when those who were in before have left.
    pub fn hold(&self) {
        if !self.held.swap(true, Ordering::SeqCst) {
            self.changed();
        }
    }

    /// Opens it.
    pub fn release(&self) {
        if self.held.swap(false, Ordering::SeqCst) {
            self.changed();
        }
    }

    /// An operator closes it, or opens it again: beside whatever a cutover does.
    pub fn pause(&self, paused: bool) {
        if self.paused.swap(paused, Ordering::SeqCst) != paused {
            self.changed();
        }
    }

    /// Whether an operator has closed it.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Whether it is closed.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst) || self.is_paused()
    }

    /// Passes that are out.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.passes.load(Ordering::SeqCst)
    }

    /// The group has another authority: whoever waits looks again.
    pub fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
    }

    /// This proxy routes the group by the rows of `epoch`; said at each look that finds them in order.
    pub fn follow(&self, epoch: u64) {
        self.followed.send_replace(epoch);
    }

    /// The epoch that this proxy routes the group by (0 before its first look), and each time that it is said.
    #[must_use]
    pub fn followed(&self) -> watch::Receiver<u64> {
        self.followed.subscribe()
    }

    /// Waits until it is open, until `deadline` at most; whether it is.
    pub async fn opened(&self, deadline: Instant) -> bool {
        let _waiting = Waiting::count(&self.waiting);
        let mut changes = self.changes.subscribe();
        while self.is_held() {
            if timeout_at(deadline, changes.changed()).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits until something changes, for `limit` at most.
    pub async fn change(&self, limit: Duration) {
        let mut changes = self.changes.subscribe();
        let _ = timeout_at(Instant::now() + limit, changes.changed()).await;
    }

    /// A sealed store refused a session.
    pub fn met_seal(&self) {
        self.seals.fetch_add(1, Ordering::Relaxed);
        self.look();
    }

    /// Whoever watches the group's authority is to look at once.
    pub fn look(&self) {
        self.wanted.notify_one();
    }

    /// Waits until somebody wants it looked at.
    pub async fn look_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Refusals so far.
    #[must_use]
    pub fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    /// Statements that wait now.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// A statement waited for so long.
    pub fn has_waited(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(1, Ordering::Relaxed);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
        let (now, mut longest) = (Instant::now(), self.longest.lock().unwrap_or_else(PoisonError::into_inner));
        if longest.is_none_or(|(at, most)| micros >= most || now.duration_since(at) > NEWEST) {
            *longest = Some((now, micros));
        }
    }

    /// Statements that waited, and their waits together in microseconds.
    #[must_use]
    pub fn waits(&self) -> (u64, u64) {
        (self.waited.load(Ordering::Relaxed), self.waited_micros.load(Ordering::Relaxed))
    }

    /// The longest wait that ended in the last minute, microseconds; a shorter and newer one is not remembered behind it.
    #[must_use]
    pub fn longest_wait(&self) -> u64 {
        let longest = *self.longest.lock().unwrap_or_else(PoisonError::into_inner);
        longest.filter(|(at, _)| at.elapsed() <= NEWEST).map_or(0, |(_, micros)| micros)
    }
}

/// One that waits; no longer when dropped, also where its client has gone away.
struct Waiting<'a>(&'a AtomicU64);

impl Waiting<'_> {
    fn count(waiting: &AtomicU64) -> Waiting<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pass {
    /// Whether a statement has run under it: something of its transaction may be in the group's store.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// A statement has run under it.
    pub fn used(&mut self) {
        self.used = true;
    }

    /// Whether it is for this gate.
    #[must_use]
    pub fn is_for(&self, gate: &Arc<Gate>) -> bool {
        Arc::ptr_eq(&self.gate, gate)
    }

    /// Its gate.
    #[must_use]
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.passes.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The gates of a configuration's groups, by their index.
#[derive(Debug, Clone, Default)]
pub struct Gates(Vec<Option<Arc<Gate>>>);

impl Gates {
    /// One for each group that has a standby, in the order of groups; no group has one where all are `None`.
    #[must_use]
    pub fn new(gates: Vec<Option<Arc<Gate>>>) -> Gates {
        if gates.iter().all(Option::is_none) { Gates::default() } else { Gates(gates) }
    }

    /// Whether no group has a standby.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The gate of a group.
    #[must_use]
    pub fn get(&self, group: crate::config::GroupId) -> Option<&Arc<Gate>> {
        self.0.get(usize::from(group.0))?.as_ref()
    }

    /// Whether a store of any group may be sealed by `rename`.
    #[must_use]
    pub fn may_move(&self) -> bool {
        self.0.iter().flatten().any(|gate| gate.moved().may())
    }

    /// The gate of a group, by its name.
    #[must_use]
    pub fn named(&self, group: &str) -> Option<&Arc<Gate>> {
        self.0.iter().flatten().find(|g| g.group() == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_gate_lets_nobody_in_and_knows_who_is_in() {
        let gate = Arc::new(Gate::new("g"));
        let first = gate.enter().unwrap();
        gate.hold();
        assert!(gate.enter().is_none());
        assert_eq!(gate.passes(), 1);
        drop(first);
        assert_eq!(gate.passes(), 0);
        assert!(!gate.opened(Instant::now() + Duration::from_millis(20)).await);
        let waiting = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.opened(Instant::now() + Duration::from_secs(9)).await }
        });
        let given_up =
            tokio::time::timeout(Duration::from_millis(5), gate.opened(Instant::now() + Duration::from_secs(9)));
        assert!(given_up.await.is_err());
        assert_eq!(gate.waiting(), 1, "who has left waits no more");
        gate.release();
        assert!(waiting.await.unwrap());
        assert_eq!(gate.waiting(), 0);
        assert!(gate.enter().is_some());
    }

    #[test]
    fn the_longest_wait_is_told_for_a_minute() {
        let gate = Gate::new("g");
        assert_eq!(gate.longest_wait(), 0);
        for millis in [7, 30, 9] {
            gate.has_waited(Duration::from_millis(millis));
        }
        assert_eq!((gate.longest_wait(), gate.waits()), (30_000, (3, 46_000)));
        let before = Instant::now().checked_sub(NEWEST + Duration::from_millis(1));
        *gate.longest.lock().unwrap() = before.map(|at| (at, 30_000));
        assert_eq!(gate.longest_wait(), 0);
        gate.has_waited(Duration::from_millis(8));
        assert_eq!(gate.longest_wait(), 8_000);
    }

    #[test]
    fn a_pause_and_a_hold_do_not_open_each_other() {
        let gate = Arc::new(Gate::new("g"));
        gate.pause(true);
        gate.hold();
        gate.release();
        assert!(gate.is_held() && gate.enter().is_none());
        gate.hold();
        gate.pause(false);
        assert!(gate.is_held());
        gate.release();
        assert!(gate.enter().is_some());
    }

    #[test]
    fn whoever_closes_sees_whoever_got_in() {
        for _ in 0..200 {
            let gate = Arc::new(Gate::new("g"));
            let other = Arc::clone(&gate);
            let enters = std::thread::spawn(move || other.enter());
            gate.hold();
            let seen = gate.passes();
            let pass = enters.join().unwrap();
            // in before the gate closed, and counted; or refused
            assert!(pass.is_none() || seen == 1);
        }
    }
}
