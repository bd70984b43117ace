//! What a watcher writes at a store: that this proxy lives, again and again, on a connection of its own.
//!
//! It is also the proof that the store takes writes. A store whose disk is full answers every read, and keeps a commit for as
//! long as that lasts (MariaDB 10.11 looks for space once a minute): so there is one write at a time, and how long it has been
//! waited for says how the store is. Whoever sent the next one meanwhile would take a connection of the store with each.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::health::Cause;
use super::schema::literal;
use super::watch::Settings;
use crate::backend::connection::QueryError;
use crate::backend::{StoreHandle, control};

/// Until there is something to say.
const SOON: Duration = Duration::from_millis(5);
/// Between two attempts that fail: to connect, and to write what the store refuses (it has no such table before `switchover init`,
/// and the first cutover after that is to know of this proxy).
const AGAIN: Duration = Duration::from_millis(100);
/// For connecting.
const LIMIT: Duration = Duration::from_secs(2);
/// A write that is kept for so long may be lost with its connection: another is sent; after twice the time the next.
const PATIENCE: Duration = Duration::from_secs(10);
/// The patience is doubled so often at the most.
const DOUBLED: u32 = 6;

/// For [`alive`]: nothing is in flight here, for this cutover.
pub(super) const DRAINED: &str = "cutover = VALUES(cutover), ";

/// Says that this proxy lives; `again`: what it says where its row is there already.
pub(super) fn alive(settings: &Settings, cutover: &str, again: &str) -> String {
    format!(
        "INSERT INTO switchover.proxies VALUES ({}, {}, {}, NOW(6)) ON DUPLICATE KEY UPDATE {again}renewed = NOW(6)",
        literal(&settings.group),
        literal(&settings.proxy),
        literal(cutover)
    )
}

#[derive(Default)]
struct State {
    sql: RefCell<String>,
    period: Cell<Duration>,
    over: Cell<bool>,
    /// When the write that is under way was begun.
    begun: Cell<Option<Instant>>,
    /// Since when none has got through, and why.
    trouble: Cell<Option<(Cause, Instant)>>,
}

/// One store's. Dropping it ends it.
pub(super) struct Beat {
    state: Rc<State>,
    task: JoinHandle<()>,
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Beat {
    /// Begins with the first [`Beat::say`]; in a runtime of this thread alone.
    pub(super) fn start(store: &Arc<StoreHandle>) -> Beat {
        let state = Rc::new(State::default());
        let task = tokio::task::spawn_local(beat(Arc::clone(store), Rc::clone(&state)));
        Beat { state, task }
    }

    /// What is written from now on, and how often.
    pub(super) fn say(&self, sql: String, period: Duration) {
        self.state.sql.replace(sql);
        self.state.period.set(period);
    }

    /// Why nothing gets through, and since when; a write counts when it has been waited for, for `limit`.
    pub(super) fn trouble(&self, limit: Duration) -> Option<(Cause, Instant)> {
        if let Some(begun) = self.state.begun.get().filter(|at| at.elapsed() >= limit) {
            self.state.is_in_trouble(Cause::Silent, begun);
        }
        self.state.trouble.get()
    }

    /// Ends it; what is under way has ended then, unless that takes longer than `limit`.
    pub(super) async fn end(mut self, limit: Duration) {
        self.state.over.set(true);
        let _ = timeout(limit, &mut self.task).await;
    }
}

impl State {
    fn is_in_trouble(&self, cause: Cause, since: Instant) {
        let since = self.trouble.get().map_or(since, |(_, earlier)| earlier);
        self.trouble.set(Some((cause, since)));
    }
}

async fn beat(store: Arc<StoreHandle>, state: Rc<State>) {
    let mut backend = None;
    let mut unheard = 0u32;
    while !state.over.get() {
        let sql = state.sql.borrow().clone();
        if sql.is_empty() {
            sleep(SOON).await;
            continue;
        }
        if backend.is_none() {
            // (that it cannot be reached the watcher sees for itself)
            backend = control::connect(&store, LIMIT).await.ok();
        }
        let Some(connection) = backend.as_mut() else {
            sleep(AGAIN).await;
            continue;
        };
        let begun = Instant::now();
        state.begun.set(Some(begun));
        let patience = PATIENCE * (1 << unheard.min(DOUBLED));
        let answer = timeout(patience, connection.execute(sql.as_bytes())).await;
        state.begun.set(None);
        let done = matches!(answer, Ok(Ok(_)));
        match answer {
            Ok(Ok(_)) => {
                unheard = 0;
                state.trouble.set(None);
            }
            Ok(Err(QueryError::Refused(e))) => match Cause::of(e.code) {
                Some(cause) => state.is_in_trouble(cause, begun),
                None => state.trouble.set(None),
            },
            Ok(Err(_)) => backend = None,
            Err(_) => {
                unheard += 1;
                state.is_in_trouble(Cause::Silent, begun);
                backend = None;
            }
        }
        sleep(if done { state.period.get() } else { AGAIN }).await;
    }
}
