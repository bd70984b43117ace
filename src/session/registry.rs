//! Every session of the process, for KILL, for `switchover sessions`, and for counting clients per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::backend::StoreHandle;
use crate::backend::pool::Signals;
use crate::net::Peer;
use crate::routing::shadow::Shadows;

/// What others may know of a session.
#[derive(Debug)]
pub struct SessionInfo {
    /// `CONNECTION_ID()`, as the client sees it.
    pub id: u64,
    /// Account name.
    pub user: String,
    /// The client's address.
    pub peer: String,
    /// When it logged in.
    pub since: Instant,
    /// Statements so far.
    pub queries: AtomicU64,
    /// Whether a transaction is open.
    pub in_transaction: AtomicBool,
    /// Whether it waits for its client.
    pub idle: AtomicBool,
    /// Its threads on stores other than its home; of `pool: transaction`, all that it holds now.
    pub others: Mutex<Vec<(Arc<StoreHandle>, u32)>>,
    /// The epoch that it works with.
    pub epoch: AtomicU64,
    /// It is to end as soon as it is idle outside a transaction.
    pub closing: AtomicBool,
    /// KILL: it is to end at once.
    pub killed: AtomicBool,
    /// It is one of `pool: transaction`.
    pub pooled: bool,
    /// What pins it, see [`super::Pins`].
    pub pins: AtomicU32,
    /// Wakes its task.
    pub waker: OnceLock<Waker>,
}

/// Failed logins of one address.
#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    since: Instant,
}

/// Logins of one address.
#[derive(Debug, Default)]
struct Address {
    under_way: u32,
    waiting: u32,
    /// Told when one ends.
    turn: Arc<Notify>,
}

/// How long failed logins are remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// All sessions.
#[derive(Debug, Default)]
pub struct Registry {
    /// Clients that are connected, logged in or not.
    seats: AtomicU64,
    sessions: Mutex<HashMap<u64, Arc<SessionInfo>>>,
    pending: Mutex<HashMap<IpAddr, Address>>,
    failures: Mutex<HashMap<IpAddr, Failures>>,
    /// The newest id that the proxy gave.
    ids: AtomicU32,
    /// Reads that are to be compared.
    pub shadows: Shadows,
    /// Wakes every core's pool.
    pub(crate) signals: Arc<Signals>,
    /// Bounds the slow-query log.
    pub slow_lines: crate::telemetry::Pace,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SessionInfo {
    /// A session that waits for its client's first command.
    #[must_use]
    pub fn new(id: u32, user: &[u8], peer: &Peer, epoch: u64, pooled: bool) -> SessionInfo {
        SessionInfo {
            id: id.into(),
            user: String::from_utf8_lossy(user).into_owned(),
            peer: peer.to_string(),
            since: Instant::now(),
            queries: AtomicU64::default(),
            in_transaction: AtomicBool::default(),
            idle: AtomicBool::new(true),
            others: Mutex::default(),
            epoch: AtomicU64::new(epoch),
            closing: AtomicBool::default(),
            killed: AtomicBool::default(),
            pooled,
            pins: AtomicU32::default(),
            waker: OnceLock::default(),
        }
    }

    /// Replaces what is known of its threads on other stores.
    pub fn set_others(&self, others: Vec<(Arc<StoreHandle>, u32)>) {
        *lock(&self.others) = others;
    }

    /// Ends the session, as KILL does, as soon as it waits for its client.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
        if let Some(w) = self.waker.get() {
            w.wake_by_ref();
        }
    }
}

impl Registry {
    /// Tells those sessions to end, as soon as no transaction is open, that were idle at the last call and did nothing since:
    /// a client that is about to send its next statement is not cut off. `seen` is what the last call saw.
    pub fn close_quiet(&self, seen: &mut HashMap<u64, u64>) {
        for s in self.list() {
            let queries = s.queries.load(Ordering::Relaxed);
            let quiet = seen.insert(s.id, queries) == Some(queries) && s.idle.load(Ordering::Relaxed);
            if quiet {
                s.closing.store(true, Ordering::Relaxed);
                if let Some(w) = s.waker.get() {
                    w.wake_by_ref();
                }
            }
        }
    }

    /// Every session looks at its connections once.
    pub fn wake_all(&self) {
        self.list().iter().filter_map(|s| s.waker.get()).for_each(Waker::wake_by_ref);
    }

    /// Takes a place among `limit` clients; `None` when all are taken.
    #[must_use]
    pub fn seat(self: &Arc<Self>, limit: u32) -> Option<Seat> {
        let taken = self.seats.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        (taken < u64::from(limit)).then_some(seat)
    }

    /// Adds a session, until the value is dropped.
    #[must_use]
    pub fn add(self: &Arc<Self>, info: &Arc<SessionInfo>) -> Listed {
        lock(&self.sessions).insert(info.id, Arc::clone(info));
        Listed { registry: Arc::clone(self), info: Arc::clone(info) }
    }

    /// Waits until an idle session has ended, for a tenth of a second at most: its store has killed it.
    pub async fn ended(&self, info: &Arc<SessionInfo>) {
        for _ in 0..100 {
            let listed = self.get(info.id).is_some_and(|s| Arc::ptr_eq(&s, info));
            if !listed || !info.idle.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// An id for a session of `pool: transaction`: from 2^30 up, where a store's ids hardly come, and below 2^31, for
    /// drivers read it as a signed number (Connector/J would send `KILL QUERY -2147483648`).
    #[must_use]
    pub fn next_id(&self) -> u32 {
        const FIRST: u32 = 1 << 30;
        loop {
            let id = self.ids.fetch_add(1, Ordering::Relaxed) % FIRST + FIRST;
            if !lock(&self.sessions).contains_key(&u64::from(id)) {
                return id;
            }
        }
    }

    /// The session of this id.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<Arc<SessionInfo>> {
        lock(&self.sessions).get(&id).map(Arc::clone)
    }

    /// Whether this is the id of a session of `pool: transaction`.
    #[must_use]
    pub fn is_pooled(&self, id: u64) -> bool {
        self.get(id).is_some_and(|s| s.pooled)
    }

    /// The threads of session `id` on stores other than its home.
    #[must_use]
    pub fn others(&self, id: u64) -> Vec<(Arc<StoreHandle>, u32)> {
        let info = lock(&self.sessions).get(&id).map(Arc::clone);
        info.map(|i| lock(&i.others).clone()).unwrap_or_default()
    }

    /// All sessions, by id.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<SessionInfo>> {
        let mut all: Vec<_> = lock(&self.sessions).values().map(Arc::clone).collect();
        all.sort_by_key(|s| s.id);
        all
    }

    /// How many are not idle.
    #[must_use]
    pub fn busy(&self) -> usize {
        lock(&self.sessions).values().filter(|s| !s.idle.load(Ordering::Relaxed)).count()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts a login that begins, as soon as its address has less than `limit` under way (RULES.md 2). The others wait their
    /// turn: a storm of honest clients behind one address is only put in line.
    pub async fn begin_login(self: &Arc<Self>, ip: IpAddr, limit: u32) -> PendingLogin {
        let mut waiting = None;
        loop {
            let turn = {
                let mut pending = lock(&self.pending);
                let address = pending.entry(ip).or_default();
                if address.under_way < limit {
                    address.under_way += 1;
                    return PendingLogin { registry: Arc::clone(self), ip };
                }
                if waiting.is_none() {
                    address.waiting += 1;
                }
                Arc::clone(&address.turn)
            };
            waiting.get_or_insert_with(|| InLine { registry: self, ip });
            turn.notified().await;
        }
    }

    fn leave(&self, ip: IpAddr, change: impl FnOnce(&mut Address)) {
        let mut pending = lock(&self.pending);
        if let Some(address) = pending.get_mut(&ip) {
            change(address);
            if address.under_way == 0 && address.waiting == 0 {
                pending.remove(&ip);
            }
        }
    }

    /// Counts a failed login; how long the next one from there must wait.
    pub fn login_failed(&self, ip: IpAddr, allowed: u32) -> Duration {
        let mut failures = lock(&self.failures);
        failures.retain(|_, f| f.since.elapsed() < REMEMBERED);
        let f = failures.entry(ip).or_insert(Failures { count: 0, since: Instant::now() });
        f.count += 1;
        let beyond = f.count.saturating_sub(allowed);
        Duration::from_millis(u64::from(beyond.min(20)) * 100)
    }
}

/// A session's place in the list.
#[derive(Debug)]
pub struct Listed {
    registry: Arc<Registry>,
    info: Arc<SessionInfo>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut sessions = lock(&self.registry.sessions);
        // (its id may belong to a newer one already)
        if sessions.get(&self.info.id).is_some_and(|s| Arc::ptr_eq(s, &self.info)) {
            sessions.remove(&self.info.id);
        }
    }
}

/// A client's place; given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Registry>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A login under way; counted until dropped.
#[derive(Debug)]
pub struct PendingLogin {
    registry: Arc<Registry>,
    ip: IpAddr,
}

impl Drop for PendingLogin {
    fn drop(&mut self) {
        self.registry.leave(self.ip, |address| {
            address.under_way -= 1;
            address.turn.notify_one();
        });
    }
}

/// A login that waits; who gives up passes on the turn that it may have been given.
struct InLine<'a> {
    registry: &'a Registry,
    ip: IpAddr,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.registry.leave(self.ip, |address| {
            address.waiting -= 1;
            address.turn.notify_one();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logins_under_way_are_bounded_per_address_and_the_others_wait_their_turn() {
        let registry = Arc::new(Registry::default());
        let ip = IpAddr::from([127, 0, 0, 1]);
        let first = registry.begin_login(ip, 1).await;
        let line = (0..50).map(|_| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { drop(registry.begin_login(ip, 1).await) })
        });
        let line: Vec<_> = line.collect();
        let quick = Duration::from_millis(20);
        assert!(tokio::time::timeout(quick, registry.begin_login(ip, 1)).await.is_err());
        drop(registry.begin_login(IpAddr::from([127, 0, 0, 2]), 1).await);
        line[7].abort();
        drop(first);
        for (i, waiting) in line.into_iter().enumerate() {
            let end = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap();
            assert_eq!(end.is_ok(), i != 7, "{i}");
        }
        assert!(lock(&registry.pending).is_empty());
    }

    #[test]
    fn seats_are_taken_and_given_back() {
        let registry = Arc::new(Registry::default());
        let first = registry.seat(1);
        assert!(first.is_some());
        assert!(registry.seat(1).is_none());
        drop(first);
        assert!(registry.seat(1).is_some());
    }

    #[test]
    fn repeated_failures_slow_an_address_down() {
        let registry = Registry::default();
        let ip = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..3 {
            assert_eq!(registry.login_failed(ip, 3), Duration::ZERO);
        }
        assert_eq!(registry.login_failed(ip, 3), Duration::from_millis(100));
    }
}
