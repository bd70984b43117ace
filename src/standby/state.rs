//! What the applier of a group is doing, for `status`, `switchover standby show` and the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::StoreHandle;
use crate::changes::Stop;
use crate::entry::Position;
use crate::routing::Gate;
use crate::routing::acks::Applied;
use crate::telemetry::without_values;

/// What it does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Phase {
    /// It has just begun.
    #[default]
    Starting,
    /// Another proxy applies: who.
    Idle(String),
    /// It applies.
    Applying,
    /// Something is away, and is tried again: what.
    Waiting(String),
    /// An operator decides.
    Stopped(Stop),
    /// It has ended.
    Ended,
}

impl Phase {
    /// One word.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Starting => "starting",
            Phase::Idle(_) => "idle",
            Phase::Applying => "applying",
            Phase::Waiting(_) => "waiting",
            Phase::Stopped(_) => "stopped",
            Phase::Ended => "ended",
        }
    }
}

/// A group's applier, as others see it.
#[derive(Debug, Default)]
pub struct State {
    phase: Mutex<Phase>,
    position: Mutex<String>,
    /// The epoch in which the store is the standby that it is written to as.
    pub(super) epoch: AtomicU64,
    /// Transactions applied since the start.
    pub transactions: AtomicU64,
    /// Rows deleted and inserted since the start.
    pub rows: AtomicU64,
    /// Rounds that were done again because they did not fit, or were in each other's way.
    pub repeats: AtomicU64,
    /// Connections that were lost since the start.
    pub reconnects: AtomicU64,
    /// Transactions of the log behind the applied one, by the authority's count; those of others included.
    pub lag_entries: AtomicU64,
    /// Seconds between the commit of the newest applied transaction and now, while something waits; else 0.
    pub lag_seconds: AtomicU64,
    told: Option<Told>,
}

/// Who waits for the standby, and between which stores.
#[derive(Debug)]
struct Told {
    gate: Arc<Gate>,
    from: Arc<StoreHandle>,
    to: Arc<StoreHandle>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Of an applier that applies the log of `from` at `to`, and tells those who wait at the gate.
    #[must_use]
    pub fn new(gate: &Arc<Gate>, from: &Arc<StoreHandle>, to: &Arc<StoreHandle>) -> State {
        let told = Told { gate: Arc::clone(gate), from: Arc::clone(from), to: Arc::clone(to) };
        State { told: Some(told), ..State::default() }
    }

    /// What it does now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    /// Where it is in the log.
    #[must_use]
    pub fn position(&self) -> String {
        lock(&self.position).clone()
    }

    pub(super) fn enter(&self, group: &str, phase: Phase) {
        let mut now = lock(&self.phase);
        if *now == phase {
            return;
        }
        match &phase {
            // (the rows, and what mends it, are for who may ask the proxy: not for the log)
            Phase::Stopped(stop) => tracing::error!(
                group,
                transaction = stop.transaction,
                "the standby has stopped: {}; `switchover standby show {group}` says what mends it",
                without_values(&stop.what)
            ),
            Phase::Waiting(why) => tracing::warn!(group, "the standby waits: {}", without_values(why)),
            Phase::Idle(who) => tracing::info!(group, who, "another proxy applies"),
            other => tracing::info!(group, "the standby is {}", other.word()),
        }
        if let Some(told) = &self.told
            && phase != Phase::Applying
        {
            told.gate.acks().apply(None);
        }
        *now = phase;
    }

    /// What the group has before this place of the log is on the standby, durably, whether its marks say so yet or not.
    pub(super) fn at(&self, position: &Position) {
        *lock(&self.position) = position.to_string();
        if let Some(Told { gate, from, to }) = self.told.as_ref().filter(|told| told.gate.asks_standby()) {
            let (from, to, position) = (Arc::clone(from), Arc::clone(to), position.clone());
            let epoch = self.epoch.load(Ordering::Relaxed);
            gate.acks().apply(Some(Applied { from, to, epoch, position }));
        }
    }
}
