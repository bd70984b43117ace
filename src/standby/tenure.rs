//! From taking the lease to losing it, or the standby, or the log: round after round on the same connections.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::applier::{Applier, End, Settings, Skip};
use super::batch::{Batch, Plan, ROUND_TRANSACTIONS, Ready, Supply};
use super::catalog::Catalog;
use super::log;
use super::marks::Resume;
use super::reader::Reader;
use super::rounds::{Failed, Part, Stamp};
use super::schema::{PARTS, literal};
use super::underway::Underway;
use super::worker::Worker;
use crate::backend::StoreHandle;
use crate::backend::control::{self, ControlError};
use crate::changes::journal::{intent, purge};
use crate::changes::{LogError, Stop};
use crate::entry::Position;
use crate::telemetry::without_values;

/// How often the lag is measured, and a position without changes looked at.
pub(super) const BEAT: Duration = Duration::from_secs(1);
/// Beats between two writes of a position alone.
const POSITION_BEATS: u32 = 5;
/// Beats between two looks at what of a journal may go, and at what dead writers left in it.
const TIDY_BEATS: u32 = 10;
/// Transactions that go alone after a round did not fit.
const CAREFUL: usize = ROUND_TRANSACTIONS;

/// Everything that lives from connecting to the next trouble.
pub(super) struct Tenure {
    term: u64,
    pub(super) resume: Resume,
    pub(super) catalog: Arc<Catalog>,
    /// Connections for two rounds; the second ones from when they are needed.
    lanes: [Vec<Worker>; 2],
    beats: u32,
    beat: Instant,
    /// A position without changes that is not written yet.
    carried: Option<Position>,
    /// When the newest transaction that is applied committed.
    latest: Option<u32>,
    /// What keeps the authority's journal small, while it runs.
    tidying: Option<JoinHandle<()>>,
}

impl Tenure {
    /// Connects what applies parts; nothing is known of the tables yet.
    pub(super) async fn begin(applier: &Applier, term: u64, resume: Resume) -> Result<Tenure, ControlError> {
        let lanes = [connect(applier, 0).await?, Vec::new()];
        let (catalog, beat) = (Arc::default(), Instant::now());
        let (beats, carried, latest, tidying) = (0, None, None, None);
        Ok(Tenure { term, resume, catalog, lanes, beats, beat, carried, latest, tidying })
    }

    /// Round after round, until trouble.
    pub(super) async fn rounds(
        &mut self,
        applier: &mut Applier,
        reader: Reader,
    ) -> Result<std::convert::Infallible, End> {
        let mut supply = Supply::new(reader);
        let (mut next, mut before) = (None, None);
        loop {
            let ready = match next.take() {
                Some(ready) => ready,
                None => self.gather(applier, &mut supply).await,
            };
            let making = self.make_next(applier, &ready, &mut supply);
            before = self.settle(applier, before.take(), ready, making.is_some()).await?;
            if let Some(making) = making {
                // (its transactions are read, so the round after it cannot go on without it)
                next = Some(making.await.map_err(|e| End::Lost(format!("a round was not made: {e}")))?);
            }
        }
    }

    /// Transactions go one by one: after a round that did not fit, or that is there in part.
    fn is_alone(&self, applier: &Applier) -> bool {
        applier.careful > 0 || !self.resume.applied.is_empty()
    }

    fn takes_events(&self) -> bool {
        self.lanes.iter().flatten().all(Worker::takes_events)
    }

    /// What the log has; after a beat without anything, nothing.
    async fn gather(&self, applier: &Applier, supply: &mut Supply) -> Ready {
        let _ = tokio::time::timeout_at(self.beat + BEAT, supply.wait()).await;
        let (most, parts) = if self.is_alone(applier) { (1, 1) } else { (ROUND_TRANSACTIONS, PARTS) };
        let mut applied = self.resume.applied.clone();
        supply.fill(most, &self.catalog, &mut applied);
        Ready::new(supply.batch(), applied, &self.catalog, parts, self.takes_events())
    }

    /// Where the log is a whole round ahead, the work of that round is made on another thread while this one is applied.
    fn make_next(&self, applier: &Applier, ready: &Ready, supply: &mut Supply) -> Option<JoinHandle<Ready>> {
        if self.is_alone(applier) || !ready.applied.is_empty() || ready.batch.end.is_some() {
            return None;
        }
        let none = BTreeSet::new();
        if !supply.fill(ROUND_TRANSACTIONS, &self.catalog, &mut none.clone()) {
            return None;
        }
        let (batch, catalog, events) = (supply.batch(), Arc::clone(&self.catalog), self.takes_events());
        Some(tokio::task::spawn_blocking(move || Ready::new(batch, none, &catalog, PARTS, events)))
    }

    /// Applies a round, while the one `before` it is committed. Where there is more, it is given back when it is executed, to be
    /// committed while the next one is.
    async fn settle(
        &mut self,
        applier: &mut Applier,
        before: Option<Underway>,
        ready: Ready,
        more: bool,
    ) -> Result<Option<Underway>, End> {
        if ready.batch.transactions.is_empty() {
            if let Some(before) = before {
                self.end(applier, before).await?;
            }
            self.pass(applier, &ready);
            self.follow(applier, &ready.batch).await?;
            return Ok(None);
        }
        let mut round = self.start(applier, before.as_ref(), ready).await?;
        if let Some(before) = before {
            self.end(applier, before).await?;
        }
        round.may_commit();
        if more && round.executed().await {
            return Ok(Some(round));
        }
        self.end(applier, round).await?;
        Ok(None)
    }

    /// Begins a round, by connections that the one before it does not use.
    async fn start(&mut self, applier: &Applier, before: Option<&Underway>, ready: Ready) -> Result<Underway, End> {
        let (lane, from) = before.map_or((0, &self.resume), |before| (1 - before.lane, &before.behind));
        let committed_at = ready.batch.transactions.last().map_or(0, |t| t.committed_at);
        let position = ready.batch.position.clone().unwrap_or_else(|| from.position.clone());
        let stamp = self.stamp(applier, from, ready.parts.len(), position, committed_at);
        let mut workers = self.lanes.get_mut(lane).map(std::mem::take).unwrap_or_default();
        if workers.is_empty() {
            workers = connect(applier, lane).await.map_err(|e| End::Lost(e.to_string()))?;
        }
        Ok(Underway::begin(ready, &self.catalog, stamp, lane, workers))
    }

    /// A position without anything to apply.
    fn pass(&mut self, applier: &Applier, ready: &Ready) {
        let Some(position) = ready.batch.position.clone() else { return };
        applier.state.at(&position);
        self.resume.position = position.clone();
        self.resume.applied = ready.applied.clone();
        self.carried = Some(position);
    }

    /// Waits for a round's end, and moves the position behind it.
    async fn end(&mut self, applier: &mut Applier, round: Underway) -> Result<(), End> {
        let (ready, behind, lane) = (Rc::clone(&round.ready), round.behind.clone(), round.lane);
        let (done, workers) = round.end().await;
        if let Some(lane) = self.lanes.get_mut(lane) {
            *lane = workers;
        }
        let transactions = &ready.batch.transactions;
        match done {
            Ok(rows) => {
                applier.careful = applier.careful.saturating_sub(transactions.len());
                applier.state.transactions.fetch_add(transactions.len() as u64, Ordering::Relaxed);
                applier.state.rows.fetch_add(rows, Ordering::Relaxed);
                self.latest = transactions.last().map(|t| t.committed_at);
                applier.state.at(&behind.position);
                self.resume = behind;
                self.carried = None;
                self.follow(applier, &ready.batch).await
            }
            Err(failed) => {
                let end = self.failed(applier, &ready.batch, failed);
                // what an operator decides on is met at this position, and at no other
                if matches!(end, End::Stop(_)) {
                    self.write_position(applier).await?;
                }
                Err(end)
            }
        }
    }

    /// What follows a round.
    async fn follow(&mut self, applier: &mut Applier, batch: &Batch) -> Result<(), End> {
        if batch.signal {
            self.write_position(applier).await?;
        }
        self.keep(applier, batch.transactions.is_empty()).await?;
        match &batch.end {
            None => Ok(()),
            Some(LogError::Lost(why)) => Err(End::Lost(format!("{}: {why}", applier.settings.authority.name()))),
            Some(LogError::Stop(stop)) => {
                // everything before it is applied: its place in the order is now
                self.write_position(applier).await?;
                Err(End::Stop((**stop).clone()))
            }
        }
    }

    /// A round that was not applied, or not whole: once more, one by one; and one that fails alone stops the group.
    fn failed(&self, applier: &mut Applier, batch: &Batch, failed: Failed) -> End {
        let Failed::Misfit { what, remedy } = failed else {
            if matches!(failed, Failed::Busy(_)) {
                applier.careful = batch.transactions.len();
            }
            applier.state.repeats.fetch_add(1, Ordering::Relaxed);
            return failed.into();
        };
        match batch.transactions.as_slice() {
            [one] => {
                let after = Some(one.after.clone());
                End::Stop(Stop { transaction: one.id.clone(), what, remedy, after })
            }
            _ => {
                applier.careful = CAREFUL;
                applier.state.repeats.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    group = applier.settings.group,
                    "a round does not fit ({}): its transactions go one by one",
                    without_values(&what)
                );
                End::AtOnce
            }
        }
    }

    fn stamp(&self, applier: &Applier, from: &Resume, parts: usize, position: Position, committed_at: u32) -> Stamp {
        Stamp {
            group: applier.settings.group.clone(),
            term: self.term,
            authority: applier.settings.authority.name().to_owned(),
            round: from.round + 1,
            parts,
            base: from.position.clone(),
            position,
            committed_at,
        }
    }

    /// Once a second: the lag, and a position that moved without changes.
    async fn keep(&mut self, applier: &Applier, quiet: bool) -> Result<(), End> {
        if self.beat.elapsed() < BEAT {
            return Ok(());
        }
        self.beat = Instant::now();
        self.beats += 1;
        // the standby ends sessions that are silent for long, so that a suspended proxy does not keep its locks
        for worker in self.lanes.iter_mut().flatten() {
            worker.backend.execute(b"DO 0").await?;
        }
        if self.carried.is_some() && self.beats.is_multiple_of(POSITION_BEATS) {
            self.write_position(applier).await?;
        }
        // (only what is written on the standby counts as applied)
        if let (Position::Journal { id, .. }, None) = (&self.resume.position, &self.carried)
            && self.beats.is_multiple_of(TIDY_BEATS)
            && self.tidying.as_ref().is_none_or(JoinHandle::is_finished)
        {
            let (authority, group) = (Arc::clone(&applier.settings.authority), applier.settings.group.clone());
            self.tidying = Some(tokio::task::spawn_local(tidy(authority, group, *id)));
        }
        let entries = lag(&applier.settings.authority, &self.resume.position).await;
        let entries = entries.unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let seconds = match self.latest {
            Some(at) if entries > 0 && !quiet => now.saturating_sub(u64::from(at)),
            _ => 0,
        };
        applier.state.lag_entries.store(entries, Ordering::Relaxed);
        applier.state.lag_seconds.store(seconds, Ordering::Relaxed);
        Ok(())
    }

    async fn write_position(&mut self, applier: &Applier) -> Result<(), End> {
        let Some(position) = self.carried.take() else { return Ok(()) };
        self.mark_alone(applier, position, None).await
    }

    async fn mark_alone(&mut self, applier: &Applier, position: Position, further: Option<&str>) -> Result<(), End> {
        let stamp = &self.stamp(applier, &self.resume, 1, position.clone(), self.latest.unwrap_or(0));
        let Some(worker) = self.lanes.iter_mut().flatten().next() else { return Ok(()) };
        let (transactions, plan, ids) = (&[][..], Plan::default(), &self.resume.applied);
        let part = Part { catalog: &self.catalog, transactions, plan: Ok(&plan), stamp, ids, further };
        worker.apply(&part).await?;
        applier.state.at(&position);
        self.resume.round += 1;
        self.resume.position = position;
        Ok(())
    }

    /// Moves behind a transaction without applying it, and writes down who said so.
    pub(super) async fn pass_over(&mut self, applier: &Applier, skip: &Skip) -> Result<(), End> {
        if self.resume.position.to_string() != skip.before {
            tracing::warn!(
                group = applier.settings.group,
                transaction = skip.id,
                "not passed over: it is another one's turn"
            );
            return Ok(());
        }
        tracing::warn!(
            group = applier.settings.group,
            transaction = skip.id,
            by = skip.by,
            why = skip.reason,
            "passed over"
        );
        let further = format!(
            "INSERT INTO switchover.skipped VALUES ({}, {}, {}, {}, {}, NOW(6))",
            literal(&applier.settings.group),
            literal(&skip.id),
            literal(&skip.what),
            literal(&skip.reason),
            literal(&skip.by)
        );
        self.mark_alone(applier, skip.after.clone(), Some(&further)).await
    }
}

/// Takes away what of a journal every group has applied, and settles what writers that are gone left half-way.
async fn tidy(authority: Arc<StoreHandle>, group: String, applied: u64) {
    match purge::step(&authority, &group, applied, purge::KEEP).await {
        Ok(0) => {}
        Ok(gone) => tracing::debug!(group, gone, "entries of the journal that are applied were taken away"),
        Err(error) => tracing::debug!(group, %error, "the journal is not purged"),
    }
    match intent::settle(&authority, None).await {
        Ok(0) => {}
        Ok(settled) => {
            tracing::warn!(group, settled, "writes whose writer was gone were entered from the rows that are there")
        }
        Err(error) => {
            let error = without_values(error);
            tracing::warn!(group, error, "a write whose writer is gone is not settled");
        }
    }
}

/// How many transactions the authority's log is ahead.
async fn lag(authority: &Arc<StoreHandle>, done: &Position) -> Option<u64> {
    let mut backend = control::connect(authority, BEAT).await.ok()?;
    let end = tokio::time::timeout(BEAT, log::end(&mut backend, log::kind(done), Some(done))).await.ok()?.ok()?;
    let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
    done.behind(&end)
}

/// The connections of one round.
async fn connect(applier: &Applier, lane: usize) -> Result<Vec<Worker>, ControlError> {
    let Settings { standby, group, .. } = &applier.settings;
    let parts = (0..PARTS).map(|part| Worker::connect(standby, group, lane * PARTS + part));
    futures_util::future::try_join_all(parts).await
}
