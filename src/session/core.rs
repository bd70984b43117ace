//! What the sessions of one core share, and the live state that all cores see through one pointer.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::figures::CoreFigures;
use super::journaled::Recorder;
use super::query::Plan;
use super::registry::Registry;
use super::saved::{Resident, Shelf};
use crate::backend::Fleet;
use crate::backend::pool::Pool;
use crate::config::Config;
use crate::net::Buffers;
use crate::net::tls::Acceptor;
use crate::routing::shadow::Dice;
use crate::routing::{Gates, Snapshot};
use crate::sql::plan_cache::PlanCache;

/// Everything that a reload replaces, whole.
pub struct Live {
    /// Config, flags and epoch, compiled.
    pub snapshot: Snapshot,
    /// The stores at run time.
    pub fleet: Fleet,
    /// TLS towards clients.
    pub acceptor: Option<Acceptor>,
    /// Where writes of groups with a standby wait while the authority changes.
    pub gates: Gates,
}

impl Live {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.snapshot.config
    }
}

/// One core's share.
pub struct Core {
    /// The newest live state.
    pub live: Arc<ArcSwap<Live>>,
    /// Read buffers.
    pub buffers: Rc<Buffers>,
    /// Plans by fingerprint.
    pub(crate) plans: RefCell<PlanCache<Rc<Plan>>>,
    /// Idle connections of `pool: transaction`.
    pub(crate) pool: Pool<Resident>,
    /// What saving the state of sessions shares.
    pub(crate) shelf: Shelf,
    /// What is known of the journals of groups, by group and store.
    pub(crate) recorders: RefCell<HashMap<(String, String), Rc<Recorder>>>,
    /// Counters of this core.
    pub figures: Arc<CoreFigures>,
    /// Every session of the process.
    pub registry: Arc<Registry>,
    /// Which reads are compared.
    pub(crate) dice: Dice,
    /// Turns true when the process drains: idle sessions end.
    pub draining: watch::Receiver<bool>,
}

impl Core {
    /// A core's share of the live state.
    #[must_use]
    pub fn new(
        live: Arc<ArcSwap<Live>>,
        buffers: Rc<Buffers>,
        figures: Arc<CoreFigures>,
        registry: Arc<Registry>,
        draining: watch::Receiver<bool>,
    ) -> Core {
        let bytes = usize::try_from(live.load().config().limits.plan_cache).unwrap_or(usize::MAX);
        Core {
            live,
            buffers,
            plans: RefCell::new(PlanCache::new(bytes)),
            pool: Pool::new(Arc::clone(&registry.signals)),
            shelf: Shelf::default(),
            recorders: RefCell::default(),
            figures,
            registry,
            dice: Dice::default(),
            draining,
        }
    }
}
