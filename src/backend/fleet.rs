//! The stores at run time: what was probed of each, how it is connected to, and what it was asked.
//!
//! A handle outlives configurations: a reload that leaves a store's address alone keeps its handle, figures included.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::slots::Slots;
use crate::auth::Stage2;
use crate::config::StoreId;
use crate::config::model::Store;
use crate::net::tls::{self, TlsError};
use crate::sql::dialect::Engine;
use crate::wire::Capabilities;
use crate::wire::handshake::Greeting;

/// What a probe learned of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Server version as sent in its greeting.
    pub version: String,
    /// MariaDB or MySQL, with the version.
    pub engine: Engine,
    /// What its greeting offers.
    pub capabilities: Capabilities,
    /// The collation of its greeting: clients that choose none of their own take it (mysqlnd).
    pub collation: u8,
    /// `lower_case_table_names`, if the control account could ask.
    pub lower_case_table_names: Option<u8>,
}

impl From<&Greeting> for Probed {
    /// What a greeting says.
    fn from(greeting: &Greeting) -> Probed {
        let version = String::from_utf8_lossy(&greeting.version).into_owned();
        Probed {
            engine: Engine::from_server_version(&version),
            version,
            capabilities: greeting.capabilities,
            collation: greeting.collation,
            lower_case_table_names: None,
        }
    }
}

/// One store at run time.
pub struct StoreHandle {
    /// Its configuration.
    pub config: Store,
    /// TLS towards it; `None` when off.
    pub tls: Option<tls::Connector>,
    /// What the newest successful probe learned.
    probed: Mutex<Option<Probed>>,
    /// A probe has reached it since it was away last.
    learned: AtomicBool,
    /// Hashes of accounts, by user name, read with the control account.
    hashes: Mutex<std::collections::HashMap<Vec<u8>, Vec<Stage2>>>,
    /// Session variables that it is known not to have: asking for one leaves an error behind that SHOW WARNINGS shows.
    lacking: Mutex<std::collections::HashSet<String>>,
    /// Whether the newest connection attempt succeeded.
    up: AtomicBool,
    /// Why not.
    reason: Mutex<String>,
    /// Backend connections that sessions hold now.
    pub leases: AtomicU64,
    /// Grows each time that the store is given up: connections from before are not waited for any longer.
    given_up: AtomicU64,
    /// Told of it.
    giving_up: Notify,
    /// Failed attempts to connect.
    pub connect_errors: AtomicU64,
    /// Rights to pooled connections (`pool: transaction`).
    pub slots: Arc<Slots>,
    /// Of the connections, those that idle in a pool.
    pub idle: AtomicU64,
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle").field("config", &self.config).finish_non_exhaustive()
    }
}

fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StoreHandle {
    /// A store that nothing is known of yet.
    ///
    /// # Errors
    /// [`TlsError`] when its TLS files cannot be used.
    pub fn new(config: Store) -> Result<StoreHandle, TlsError> {
        Ok(StoreHandle {
            tls: tls::connector(&config.tls)?,
            config,
            probed: Mutex::new(None),
            learned: AtomicBool::new(false),
            hashes: Mutex::default(),
            lacking: Mutex::default(),
            up: AtomicBool::new(true),
            reason: Mutex::default(),
            leases: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            giving_up: Notify::new(),
            connect_errors: AtomicU64::new(0),
            slots: Arc::default(),
            idle: AtomicU64::new(0),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What the newest probe learned.
    #[must_use]
    pub fn probed(&self) -> Option<Probed> {
        lock(&self.probed).clone()
    }

    /// Records a probe.
    pub fn set_probed(&self, probed: Probed) {
        *lock(&self.probed) = Some(probed);
        self.learned.store(true, Ordering::Relaxed);
    }

    /// Whether a probe has reached it since it was away last: it may have come back as another version.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        self.learned.load(Ordering::Relaxed)
    }

    /// Learns of a store that no probe has reached yet, from the greeting that a session got: clients that come later are not
    /// offered what it lacks.
    pub fn greeted(&self, greeting: &Greeting) {
        let mut probed = lock(&self.probed);
        if probed.is_none() {
            *probed = Some(Probed::from(greeting));
        }
    }

    /// Whether the newest attempt to connect succeeded, and why not.
    #[must_use]
    pub fn health(&self) -> (bool, String) {
        (self.up.load(Ordering::Relaxed), lock(&self.reason).clone())
    }

    /// Whether the newest attempt to connect succeeded.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Whether the store is known not to have a session variable.
    #[must_use]
    pub fn lacks_variable(&self, name: &str) -> bool {
        lock(&self.lacking).contains(name)
    }

    /// Remembers that the store has no such session variable.
    pub fn note_lacking(&self, name: &str) {
        lock(&self.lacking).insert(name.to_owned());
    }

    /// Records that a connection was made.
    pub fn connected(&self) {
        if !self.up.swap(true, Ordering::Relaxed) {
            lock(&self.reason).clear();
            tracing::info!(store = self.name(), "store is reachable again");
        }
    }

    /// Records that no connection could be made.
    pub fn unreachable(&self, reason: &str) {
        self.connect_errors.fetch_add(1, Ordering::Relaxed);
        reason.clone_into(&mut lock(&self.reason));
        self.learned.store(false, Ordering::Relaxed);
        if self.up.swap(false, Ordering::Relaxed) {
            tracing::warn!(store = self.name(), reason, "store is unreachable");
        }
    }

    /// Nobody is to wait for it: it is down, and another store has taken over.
    pub fn give_up(&self) {
        self.given_up.fetch_add(1, Ordering::Relaxed);
        self.giving_up.notify_waiters();
    }

    /// How often it was given up.
    #[must_use]
    pub fn times_given_up(&self) -> u64 {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Waits until it is given up once more than `before` times.
    pub async fn when_given_up(&self, before: u64) {
        loop {
            // (told of all that comes from here on)
            let told = self.giving_up.notified();
            if self.times_given_up() != before {
                return;
            }
            told.await;
        }
    }

    /// Known hashes of an account.
    #[must_use]
    pub fn known_hashes(&self, user: &[u8]) -> Vec<Stage2> {
        lock(&self.hashes).get(user).cloned().unwrap_or_default()
    }

    /// Remembers the hashes of an account; the map is bounded.
    pub fn remember_hashes(&self, user: &[u8], hashes: Vec<Stage2>) {
        let mut map = lock(&self.hashes);
        if map.len() >= 10_000 {
            map.clear();
        }
        map.insert(user.to_vec(), hashes);
    }
}

/// Every store of a configuration; [`StoreId`] is the index.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    stores: Vec<Arc<StoreHandle>>,
}

impl Fleet {
    /// Handles for `stores`; those of `old` are kept where the configuration of a store is the same.
    ///
    /// # Errors
    /// [`TlsError`] when a store's TLS files cannot be used.
    pub fn build(stores: &[Store], old: &Fleet) -> Result<Fleet, TlsError> {
        let mut list = Vec::with_capacity(stores.len());
        for s in stores {
            let kept = old.stores.iter().find(|h| h.config == *s).map(Arc::clone);
            list.push(match kept {
                Some(h) => h,
                None => Arc::new(StoreHandle::new(s.clone())?),
            });
        }
        Ok(Fleet { stores: list })
    }

    /// One store.
    #[must_use]
    pub fn get(&self, id: StoreId) -> Option<&Arc<StoreHandle>> {
        self.stores.get(usize::from(id.0))
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<StoreHandle>> {
        self.stores.iter()
    }

    /// The store of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<StoreId> {
        let at = self.stores.iter().position(|s| s.name() == name)?;
        u16::try_from(at).ok().map(StoreId)
    }

    /// The capabilities that every probed store has, without those that cannot be relayed.
    #[must_use]
    pub fn common_capabilities(&self) -> Capabilities {
        let mut caps = Capabilities::all();
        for probed in self.stores.iter().filter_map(|s| s.probed()) {
            caps &= probed.capabilities | Capabilities::CLIENT_ONLY | Capabilities::SSL;
        }
        caps - Capabilities::NEVER_RELAYED
    }
}
