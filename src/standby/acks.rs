//! `ack: standby`: says which acknowledgements the standby has made good.
//!
//! ```text
//! sessions ask (numbers) ─► a mark in the authority's log, behind all that was committed before ─► the standby's marks pass it
//!                                                                                               ─► all up to that number are settled
//! ```
//!
//! One mark answers everybody who asked before it, as a group commit does: its number is read first, then the mark is written. The
//! next one is written while some are on their way; they are passed in the order in which they were written.
//! It is a row of `switchover.groups`, at which the applier writes its position at once. "The standby has it" is what its own
//! rows say, so it does not matter which proxy applies. What a transaction may depend on is before it in the log.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::pair::PairError;
use super::schema::literal;
use super::watch::Shared;
use super::{log, marks, rounds};
use crate::backend::{Backend, StoreHandle, control};
use crate::config::model::{Ack, ChangeLog, Fallback};
use crate::entry::Position;
use crate::routing::gate::Standby;
use crate::telemetry::without_values;

/// Between two looks at the standby's marks.
const POLL: Duration = Duration::from_millis(1);
/// For connecting.
const LIMIT: Duration = Duration::from_secs(5);
/// The least time that a mark has.
const LEAST: Duration = Duration::from_millis(500);
/// Between two attempts while the standby is away.
const AGAIN: Duration = Duration::from_millis(250);

/// Marks that are on their way, at the most.
const IN_FLIGHT: usize = 4;

/// Connections to both.
struct Connected {
    there: Backend,
    standby: Backend,
}

/// A mark in the authority's log.
struct Written {
    /// Whose numbers it answers: up to this one.
    number: u64,
    mark: Position,
    at: Instant,
}

/// Settles acknowledgements, for as long as it is polled.
pub(super) async fn confirm(shared: Arc<Shared>) {
    let settings = &shared.settings;
    let acks = settings.gate.acks();
    if settings.keeping.ack != Ack::Standby {
        return std::future::pending().await;
    }
    // whether the standby follows is looked at before anybody asks
    let failing = Cell::new(Some(Instant::now()));
    let limit = settings.keeping.ack_timeout.max(LEAST);
    loop {
        let Err(error) = follow(&shared, limit, &failing).await else { continue };
        let since = failing.get().unwrap_or_else(Instant::now);
        failing.set(Some(since));
        if since.elapsed() >= settings.keeping.ack_timeout {
            // after a fallback it goes on without a standby until there is one that follows, settled or not
            let alone = acks.standby() == Standby::Degraded;
            let away = if alone { Standby::Degraded } else { without(&shared).await };
            if acks.set_standby(away) {
                let why = without_values(error.to_string());
                tracing::error!(group = settings.group, ?away, "the standby cannot acknowledge writes: {why}");
            }
        }
        sleep(AGAIN.min(settings.keeping.ack_timeout)).await;
    }
}

/// Marks, until the authority is another one.
async fn follow(shared: &Shared, limit: Duration, failing: &Cell<Option<Instant>>) -> Result<(), PairError> {
    let authority = shared.view().authority;
    let Connected { there, standby } = within(limit, connect(shared, &authority)).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::select! {
        ended = write_marks(shared, &authority, there, &sender, limit) => ended,
        ended = pass_marks(shared, standby, receiver, limit, failing) => ended,
    }
}

async fn within<T>(limit: Duration, what: impl Future<Output = Result<T, PairError>>) -> Result<T, PairError> {
    timeout(limit, what).await.unwrap_or_else(|_| Err(not_forward()))
}

fn not_forward() -> PairError {
    PairError::Unclear("the standby does not come forward".to_owned())
}

/// Writes a mark whenever somebody has asked since the newest, and where it is to be seen whether the standby follows; one at once.
async fn write_marks(
    shared: &Shared,
    authority: &str,
    mut there: Backend,
    sender: &mpsc::Sender<Written>,
    limit: Duration,
) -> Result<(), PairError> {
    let (acks, stores) = (shared.settings.gate.acks(), &shared.settings.stores);
    let kind = stores.iter().find(|s| s.name() == authority).map(|s| s.config.change_log).unwrap_or_default();
    let (mut marking, mut newest) = (log::Marking::default(), None);
    loop {
        while newest == Some(acks.asked()) {
            let _ = timeout(AGAIN, acks.wanted()).await;
            // (nobody asks while the standby is not waited for, or of an authority that was given up)
            if acks.standby() != Standby::Follows || shared.view().authority != authority {
                break;
            }
        }
        if shared.view().authority != authority {
            return Ok(());
        }
        let (number, at) = (acks.asked(), Instant::now());
        let mark = within(limit, mark(&shared.settings.group, authority, kind, &mut there, &mut marking)).await?;
        newest = Some(number);
        if sender.send(Written { number, mark, at }).await.is_err() {
            return Ok(());
        }
    }
}

/// Settles what the standby has passed.
async fn pass_marks(
    shared: &Shared,
    mut standby: Backend,
    mut receiver: mpsc::Receiver<Written>,
    limit: Duration,
    failing: &Cell<Option<Instant>>,
) -> Result<(), PairError> {
    let (acks, group) = (shared.settings.gate.acks(), &shared.settings.group);
    let mut waiting: VecDeque<Written> = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(written) = receiver.recv().await else { return Ok(()) };
            waiting.push_back(written);
        }
        while waiting.len() < IN_FLIGHT
            && let Ok(written) = receiver.try_recv()
        {
            waiting.push_back(written);
        }
        let done = within(limit, position(&mut standby, group)).await?;
        let mut passed = None;
        while let Some(written) = waiting.front().filter(|written| done.behind(&written.mark) == Some(0)) {
            passed = Some(written.number);
            waiting.pop_front();
        }
        let Some(number) = passed else {
            if waiting.front().is_some_and(|written| written.at.elapsed() >= limit) {
                return Err(not_forward());
            }
            sleep(POLL).await;
            continue;
        };
        acks.settle(number);
        failing.set(None);
        if acks.set_standby(Standby::Follows) {
            tracing::info!(group, "writes are acknowledged with the standby again");
        }
    }
}

/// What becomes of writes while the standby is away. Where it could take over, a write that it does not have is not
/// acknowledged (RULES.md 34). It cannot while it is itself the authority that was given up, and is not settled.
async fn without(shared: &Shared) -> Standby {
    let settings = &shared.settings;
    if settings.keeping.fallback == Fallback::Manual {
        return Standby::Degraded;
    }
    let authority = shared.view().authority;
    let asked = async {
        let store = settings.stores.iter().find(|s| s.name() == authority)?;
        let mut backend = control::connect(store, AGAIN * 4).await.ok()?;
        let sql = format!(
            "SELECT COUNT(*) FROM switchover.fallbacks AS f JOIN switchover.groups AS g USING (group_name, epoch) \
             WHERE group_name = {} AND f.state = 'open' AND g.state = 'open'",
            literal(&settings.group)
        );
        let rows = backend.query(sql.as_bytes()).await.ok()?;
        Some(rows.first(0) == Some(b"1"))
    };
    if timeout(AGAIN * 4, asked).await.ok().flatten() == Some(true) { Standby::Degraded } else { Standby::Away }
}

/// A group's figures for its metrics.
pub(super) fn publish(shared: &Shared) {
    let (gate, view) = (&shared.settings.gate, shared.view());
    let labels = || [("group", shared.settings.group.clone())];
    let (waits, micros) = gate.waits();
    #[expect(clippy::cast_precision_loss, reason = "microseconds and epochs are far below 2^53")]
    let seconds = |micros: u64| micros as f64 / 1e6;
    metrics::counter!("switchover_held_statements_total", &labels()).absolute(waits);
    metrics::gauge!("switchover_held_seconds", &labels()).set(seconds(micros));
    metrics::gauge!("switchover_held_longest_seconds", &labels()).set(seconds(gate.longest_wait()));
    metrics::counter!("switchover_seal_refusals_total", &labels()).absolute(gate.seals());
    metrics::counter!("switchover_acknowledged_alone_total", &labels()).absolute(gate.acks().alone());
    let alone = if gate.acks().standby() == Standby::Follows { 0.0 } else { 1.0 };
    metrics::gauge!("switchover_acks_without_standby", &labels()).set(alone);
    metrics::gauge!("switchover_authority_epoch", &labels()).set(seconds(view.epoch) * 1e6);
    metrics::gauge!("switchover_authority_settled", &labels()).set(if view.settled { 1.0 } else { 0.0 });
}

async fn connect(shared: &Shared, authority: &str) -> Result<Connected, PairError> {
    let unknown = || PairError::Unclear(format!("the authority {authority} is none of both stores"));
    let stores = &shared.settings.stores;
    let there: &Arc<StoreHandle> = stores.iter().find(|s| s.name() == authority).ok_or_else(unknown)?;
    let other: &Arc<StoreHandle> = stores.iter().find(|s| s.name() != authority).ok_or_else(unknown)?;
    Ok(Connected { there: control::connect(there, LIMIT).await?, standby: control::connect(other, LIMIT).await? })
}

async fn mark(
    group: &str,
    authority: &str,
    kind: ChangeLog,
    there: &mut Backend,
    marking: &mut log::Marking,
) -> Result<Position, PairError> {
    let mark = log::mark(there, marking, kind, group, authority).await.map_err(|e| match e {
        log::EndError::Query(e) => PairError::Query(authority.to_owned(), e),
        other => PairError::Unclear(format!("{authority}: {other}")),
    })?;
    mark.ok_or_else(|| PairError::Unclear(format!("{authority} is not open")))
}

/// Up to where the standby has everything, durably.
async fn position(standby: &mut Backend, group: &str) -> Result<Position, PairError> {
    let rows = rounds::read_marks(standby, group).await.map_err(|e| PairError::Unclear(e.to_string()))?;
    Ok(marks::resume(&rows).map_err(|e| PairError::Unclear(e.to_string()))?.position)
}
