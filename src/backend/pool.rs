//! The idle connections of one core, for `pool: transaction`.
//!
//! A connection that a session gives back keeps it as its *tenant*: if nobody else needs the connection meanwhile, the session
//! gets it back as it left it, without a word on the wire. Who takes a connection with a tenant is handed the tenant too, and
//! must save its state first and clean the connection then. The pool itself does no I/O.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::connection::Backend;
use super::fleet::StoreHandle;
use super::login::Key;
use super::slots::Slot;
use crate::config::model::Pooling;
use crate::wire::Capabilities;

/// What a lease cannot change about a connection (RULES.md 22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolKey {
    /// Account name.
    pub user: Vec<u8>,
    /// Its secret.
    pub key: Key,
    /// All client flags.
    pub capabilities: Capabilities,
    /// Whether the clients' legs are encrypted: the store's leg may follow them.
    pub client_tls: bool,
    /// The client's address, where the store is told of it (PROXY protocol).
    pub source: Option<IpAddr>,
}

/// What makes a connection one of a pool.
#[derive(Debug)]
pub struct Pooled {
    /// Its right to exist.
    pub slot: Slot,
    /// Who may use it.
    pub key: Rc<PoolKey>,
    /// Whether COM_SET_OPTION left multi-statements on: COM_RESET_CONNECTION keeps that (RULES.md 22).
    pub multi_statements: bool,
}

/// Finds a parked connection again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// A connection with a tenant that idled for less is left alone while another may be opened.
const SETTLED: Duration = Duration::from_millis(100);

struct Idle<R> {
    backend: Backend,
    tenant: Option<Rc<R>>,
    since: Instant,
}

/// What a session finds when it needs a connection.
#[derive(Debug)]
pub enum Found<R> {
    /// One that somebody used: to be cleaned; before that the state of its tenant is to be saved.
    Used(Backend, Option<Rc<R>>),
    /// Room for a new one; perhaps made by giving up another, whose tenant's state is to be saved.
    Room(Slot, Option<Left<R>>),
}

/// A connection that the pool gives up, and whose state it holds.
pub type Left<R> = (Backend, Option<Rc<R>>);

/// All connections were in use for `pool.wait_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// One core's idle connections.
pub struct Pool<R> {
    /// By store (its handle's address), in the order in which they became idle.
    stores: RefCell<HashMap<usize, BTreeMap<u64, Idle<R>>>>,
    next: Cell<u64>,
    /// Wakes whoever closes idle connections when a session waits somewhere.
    pub shed: Arc<Notify>,
    signals: Arc<Signals>,
}

/// The signals of all cores: one that waits asks every core to close what idles.
#[derive(Debug, Default)]
pub struct Signals(Mutex<Vec<Arc<Notify>>>);

impl Signals {
    fn all(&self) -> MutexGuard<'_, Vec<Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id(store: &Arc<StoreHandle>) -> usize {
    Arc::as_ptr(store).addr()
}

impl<R> Pool<R> {
    /// An empty pool, which adds its signal to those of the other cores.
    #[must_use]
    pub fn new(signals: Arc<Signals>) -> Self {
        let shed = Arc::new(Notify::new());
        signals.all().push(Arc::clone(&shed));
        Pool { stores: RefCell::default(), next: Cell::new(0), shed, signals }
    }

    /// Puts a connection in.
    pub fn put(&self, backend: Backend, tenant: Option<Rc<R>>) -> Ticket {
        let ticket = self.next.get();
        self.next.set(ticket + 1);
        let store = Arc::clone(&backend.handle);
        let idle = Idle { backend, tenant, since: Instant::now() };
        self.stores.borrow_mut().entry(id(&store)).or_default().insert(ticket, idle);
        store.idle.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if store.slots.waiting() > 0 {
            store.slots.wake_first();
            // the first may wait on another core
            self.shed.notify_one();
        }
        Ticket(ticket)
    }

    fn remove(&self, store: usize, ticket: u64) -> Option<Idle<R>> {
        let mut stores = self.stores.borrow_mut();
        let idle = stores.get_mut(&store)?.remove(&ticket)?;
        idle.backend.handle.idle.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        Some(idle)
    }

    /// The parked connection as its tenant left it, with the time that it idled; `None` if somebody else took it.
    pub fn reclaim(&self, store: &Arc<StoreHandle>, ticket: Ticket) -> Option<(Backend, Duration)> {
        self.remove(id(store), ticket.0).map(|idle| (idle.backend, idle.since.elapsed()))
    }

    /// Its tenant does not come back.
    pub fn abandon(&self, store: &Arc<StoreHandle>, ticket: Ticket) {
        if let Some(idle) = self.stores.borrow_mut().get_mut(&id(store)).and_then(|s| s.get_mut(&ticket.0)) {
            idle.tenant = None;
        }
    }

    /// Waits for a connection, or for room for one. `urgent`: a session that holds a lease of another store does not wait.
    ///
    /// # Errors
    /// [`Full`] after `bounds.wait_timeout`.
    pub async fn acquire(
        &self,
        store: &Arc<StoreHandle>,
        key: &PoolKey,
        bounds: Pooling,
        urgent: bool,
    ) -> Result<Found<R>, Full> {
        if (urgent || store.slots.waiting() == 0)
            && let Some(found) = self.find(store, key, bounds.max_per_store, urgent)
        {
            return Ok(found);
        }
        let place = store.slots.join();
        let turns = async {
            loop {
                if place.is_first()
                    && let Some(found) = self.find(store, key, bounds.max_per_store, false)
                {
                    return found;
                }
                for core in self.signals.all().iter() {
                    core.notify_one();
                }
                place.woken().await;
            }
        };
        tokio::time::timeout(bounds.wait_timeout, turns).await.map_err(|_| Full)
    }

    fn find(&self, store: &Arc<StoreHandle>, key: &PoolKey, limit: u32, urgent: bool) -> Option<Found<R>> {
        let at = id(store);
        let (free, settled, any, other) = self.candidates(at, key);
        if let Some(idle) = free.or(settled).and_then(|t| self.remove(at, t)) {
            return Some(Found::Used(idle.backend, idle.tenant));
        }
        if let Some(slot) = store.slots.try_take(limit) {
            return Some(Found::Room(slot, None));
        }
        if let Some(idle) = any.and_then(|t| self.remove(at, t)) {
            return Some(Found::Used(idle.backend, idle.tenant));
        }
        if let Some(mut idle) = other.and_then(|t| self.remove(at, t))
            && let Some(pooled) = idle.backend.pooled.take()
        {
            return Some(Found::Room(pooled.slot, Some((idle.backend, idle.tenant))));
        }
        urgent.then(|| Found::Room(store.slots.take(), None))
    }

    /// Of this key: the newest without a tenant, the oldest that settled, the oldest; and the oldest of another key.
    fn candidates(&self, store: usize, key: &PoolKey) -> (Option<u64>, Option<u64>, Option<u64>, Option<u64>) {
        let stores = self.stores.borrow();
        let (mut free, mut settled, mut any, mut other) = (None, None, None, None);
        for (ticket, idle) in stores.get(&store).into_iter().flatten() {
            if idle.backend.pooled.as_ref().is_none_or(|p| *p.key != *key) {
                other = other.or(Some(*ticket));
                continue;
            }
            any = any.or(Some(*ticket));
            if idle.tenant.is_none() {
                free = Some(*ticket);
            } else if settled.is_none() && idle.since.elapsed() >= SETTLED {
                settled = Some(*ticket);
            }
        }
        (free, settled, any, other)
    }

    /// Takes out the connections that are to be closed: idle for `limit`, of stores that are not in `live`, and one of each
    /// store that a session waits for.
    pub fn expired(&self, limit: Duration, live: impl Fn(&Arc<StoreHandle>) -> bool) -> Vec<Left<R>> {
        let mut out: Vec<(usize, u64)> = Vec::new();
        for (store, idle) in self.stores.borrow().iter() {
            let waited_for = idle.values().next().is_some_and(|i| i.backend.handle.slots.waiting() > 0);
            let stays = idle.values().next().is_some_and(|i| live(&i.backend.handle));
            for (n, (ticket, one)) in idle.iter().enumerate() {
                if !stays || one.since.elapsed() >= limit || waited_for && n == 0 {
                    out.push((*store, *ticket));
                }
            }
        }
        self.stores.borrow_mut().retain(|_, idle| !idle.is_empty());
        out.into_iter().filter_map(|(s, t)| self.remove(s, t)).map(|i| (i.backend, i.tenant)).collect()
    }
}
