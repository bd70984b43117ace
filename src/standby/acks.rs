//! `ack: standby`: says which acknowledgements the standby has made good.
//!
//! ```text
//! sessions ask (numbers) ─► a mark in the authority's log, behind all that was committed before ─► the standby's marks pass it
//!                                                                                               ─► all up to that number are settled
//! ```
//!
//! One mark answers everybody who asked before it, as a group commit does: its number is read first, then the mark is written.
//! It is a row of `switchover.groups`, at which the applier writes its position at once. "The standby has it" is what its own
//! rows say, so it does not matter which proxy applies. What a transaction may depend on is before it in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::pair::PairError;
use super::schema::literal;
use super::watch::Shared;
use super::{log, marks, rounds};
use crate::backend::{Backend, StoreHandle, control};
use crate::config::model::{Ack, Fallback};
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

/// Both connections, and whose they are.
struct Connected {
    authority: String,
    there: Backend,
    marking: log::Marking,
    standby: Backend,
}

/// Settles acknowledgements, for as long as it is polled.
pub(super) async fn confirm(shared: Arc<Shared>) {
    let settings = &shared.settings;
    let acks = settings.gate.acks();
    if settings.keeping.ack != Ack::Standby {
        return std::future::pending().await;
    }
    let mut connected = None;
    // whether the standby follows is looked at before anybody asks
    let mut failing = Some(Instant::now());
    let limit = settings.keeping.ack_timeout.max(LEAST);
    loop {
        if failing.is_none() && acks.asked() == acks.done() {
            acks.wanted().await;
        }
        let number = acks.asked();
        match timeout(limit, mark(&shared, &mut connected)).await {
            Ok(Ok(())) => {
                acks.settle(number);
                failing = None;
                if acks.set_standby(Standby::Follows) {
                    tracing::info!(group = settings.group, "writes are acknowledged with the standby again");
                }
            }
            other => {
                let why = match other {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the standby does not come forward".to_owned(),
                };
                connected = None;
                let since = *failing.get_or_insert_with(Instant::now);
                if since.elapsed() >= settings.keeping.ack_timeout {
                    // after a fallback it goes on without a standby until there is one that follows, settled or not
                    let alone = acks.standby() == Standby::Degraded;
                    let away = if alone { Standby::Degraded } else { without(&shared).await };
                    if acks.set_standby(away) {
                        tracing::error!(
                            group = settings.group,
                            ?away,
                            "the standby cannot acknowledge writes: {}",
                            without_values(&why)
                        );
                    }
                }
                sleep(AGAIN.min(settings.keeping.ack_timeout)).await;
            }
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

async fn connect(shared: &Shared, authority: String) -> Result<Connected, PairError> {
    let unknown = || PairError::Unclear(format!("the authority {authority} is none of both stores"));
    let stores = &shared.settings.stores;
    let there: &Arc<StoreHandle> = stores.iter().find(|s| s.name() == authority).ok_or_else(unknown)?;
    let other: &Arc<StoreHandle> = stores.iter().find(|s| s.name() != authority).ok_or_else(unknown)?;
    let (there, standby) = (control::connect(there, LIMIT).await?, control::connect(other, LIMIT).await?);
    Ok(Connected { authority, there, marking: log::Marking::default(), standby })
}

/// Writes a mark on the authority, and waits until the standby has passed it.
async fn mark(shared: &Shared, kept: &mut Option<Connected>) -> Result<(), PairError> {
    let authority = shared.view().authority;
    if kept.as_ref().is_none_or(|c| c.authority != authority) {
        *kept = Some(connect(shared, authority).await?);
    }
    let Some(Connected { authority, there, marking, standby }) = kept.as_mut() else { return Ok(()) };
    let group = &shared.settings.group;
    let stores = &shared.settings.stores;
    let kind = stores.iter().find(|s| s.name() == authority).map(|s| s.config.change_log).unwrap_or_default();
    let mark = log::mark(there, marking, kind, group, authority).await.map_err(|e| match e {
        log::EndError::Query(e) => PairError::Query(authority.clone(), e),
        other => PairError::Unclear(format!("{authority}: {other}")),
    })?;
    let mark = mark.ok_or_else(|| PairError::Unclear(format!("{authority} is not open")))?;
    loop {
        let rows = rounds::read_marks(standby, group).await.map_err(|e| PairError::Unclear(e.to_string()))?;
        let done = marks::resume(&rows).map_err(|e| PairError::Unclear(e.to_string()))?.position;
        if done.behind(&mark) == Some(0) {
            return Ok(());
        }
        sleep(POLL).await;
    }
}
