//! One group's applier: a thread that takes the lease, reads the marks, and applies round after round until it is told to end.
//!
//! ```text
//!        ┌───────────────────────── lost, busy ─────────────────────────┐
//!        ▼                                                              │
//! connect ─► lease ─► marks ─► reader ─► round, round, round … ─────────┤
//!               │ another's                      │ does not fit         │
//!               ▼                                ▼                      │
//!             idle                    one transaction at a time ─► stopped ─► retry, skip
//! ```
//!
//! There is no other way to begin than after a crash: whatever ended the session before, the marks say where to go on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::catalog::{self, Catalog, cascades};
use super::lease::{self, Taken};
use super::marks::{self, Resume};
use super::partition::split;
use super::reader::{Read, Reader};
use super::rounds::{self, Failed, Stamp};
use super::schema::{PARTS, literal};
use super::state::{Phase, State};
use super::tables::GroupTables;
use crate::backend::connection::QueryError;
use crate::backend::{Backend, StoreHandle, control};
use crate::changes::{Item, LogError, Stop, Tables};
use crate::entry::{Position, Transaction};

/// Bytes of the log in one round, and transactions.
const ROUND_BYTES: usize = 4 << 20;
const ROUND_TRANSACTIONS: usize = 2_000;
/// How often the lease is renewed, the lag measured and a position without changes written.
const BEAT: Duration = Duration::from_secs(1);
/// Beats between two writes of a position alone.
const POSITION_BEATS: u32 = 5;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);
/// Transactions that go alone after one round did not fit or was busy.
const CAREFUL: usize = ROUND_TRANSACTIONS;

/// What an applier needs to know.
#[derive(Clone)]
pub struct Settings {
    /// The group's name.
    pub group: String,
    /// Which tables are its.
    pub tables: GroupTables,
    /// The store whose log is read.
    pub authority: Arc<StoreHandle>,
    /// The store that is kept in step.
    pub standby: Arc<StoreHandle>,
    /// Who this proxy is: the same after a restart.
    pub holder: String,
}

/// What an operator tells a stopped applier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Try again.
    Retry,
    /// Pass a transaction over.
    Skip {
        /// Its id, as the stop names it.
        id: String,
        /// Why.
        reason: String,
        /// Who says so.
        by: String,
    },
}

/// A running applier. Dropping it ends it, at the end of its round at the latest.
#[derive(Debug)]
pub struct Handle {
    /// What it does.
    pub state: Arc<State>,
    group: String,
    commands: mpsc::UnboundedSender<Command>,
    end: watch::Sender<bool>,
}

impl Handle {
    /// Tells a stopped one something; false where it has ended.
    #[must_use]
    pub fn tell(&self, command: Command) -> bool {
        // whoever asks next does not see the stop that this settles
        self.state.enter(&self.group, Phase::Starting);
        self.commands.send(command).is_ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.end.send(true);
    }
}

/// Starts the applier of a group on a thread of its own.
///
/// # Errors
/// As the system's, where it has no thread.
pub fn start(settings: Settings) -> std::io::Result<Handle> {
    let state = Arc::new(State::default());
    let (commands, receiver) = mpsc::unbounded_channel();
    let (end, ended) = watch::channel(false);
    let shared = Arc::clone(&state);
    let group = settings.group.clone();
    std::thread::Builder::new().name(format!("standby-{}", settings.group)).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                let applier = Applier {
                    settings,
                    state: Arc::clone(&shared),
                    commands: receiver,
                    ended,
                    first: true,
                    careful: 0,
                    term: None,
                };
                let group = applier.settings.group.clone();
                runtime.block_on(applier.run());
                shared.enter(&group, Phase::Ended);
            }
            Err(e) => tracing::error!(error = %e, "an applier cannot start"),
        }
    })?;
    Ok(Handle { state, group, commands, end })
}

struct Applier {
    settings: Settings,
    state: Arc<State>,
    commands: mpsc::UnboundedReceiver<Command>,
    ended: watch::Receiver<bool>,
    /// No lease was taken yet: one that a process before this one left may be taken at once.
    first: bool,
    /// Transactions that still go one by one.
    careful: usize,
    /// The term of the lease that was taken last.
    term: Option<u64>,
}

/// Why a session ended.
enum End {
    /// It was told to.
    Told,
    /// Again, after a pause: why.
    Again(Phase),
    /// Again, at once.
    AtOnce,
    /// An operator decides.
    Stop(Stop),
}

impl From<Failed> for End {
    fn from(failed: Failed) -> End {
        match failed {
            Failed::Lost(why) => End::Again(Phase::Waiting(why)),
            Failed::Busy(_) => End::AtOnce,
            Failed::Deposed => End::Again(Phase::Waiting("another applier has taken over".to_owned())),
            Failed::Misfit { what, remedy } => {
                End::Stop(Stop { transaction: String::new(), what, remedy, after: None })
            }
        }
    }
}

impl From<QueryError> for End {
    fn from(error: QueryError) -> End {
        match Failed::of(error) {
            Failed::Misfit { what, .. } => End::Again(Phase::Waiting(what)),
            other => other.into(),
        }
    }
}

impl Applier {
    async fn run(mut self) {
        let mut skip = None;
        loop {
            let mut ended = self.ended.clone();
            let end = tokio::select! {
                biased;
                _ = ended.wait_for(|end| *end) => End::Told,
                end = self.session(skip.take()) => end,
            };
            let group = self.settings.group.clone();
            match end {
                End::Told => return self.leave().await,
                End::AtOnce => {}
                End::Again(phase) => {
                    self.state.reconnects.fetch_add(1, Ordering::Relaxed);
                    self.state.enter(&group, phase);
                    tokio::select! {
                        _ = ended.wait_for(|end| *end) => return,
                        () = sleep(PAUSE) => {}
                    }
                }
                End::Stop(stop) => {
                    self.state.enter(&group, Phase::Stopped(stop.clone()));
                    self.state.publish(&group);
                    match self.wait(&stop).await {
                        Some(next) => skip = next,
                        None => return,
                    }
                    self.state.enter(&group, Phase::Starting);
                }
            }
        }
    }

    /// Gives the lease back, so that another proxy need not wait until it expires.
    async fn leave(&mut self) {
        let Some(term) = self.term else { return };
        let give_back = async {
            let mut own = rounds::connect(&self.settings.standby).await.ok()?;
            lease::release(&mut own, &self.settings.group, term).await.ok()
        };
        if tokio::time::timeout(BEAT, give_back).await.is_err() {
            tracing::debug!(group = self.settings.group, "the lease is left to expire");
        }
    }

    /// Waits for an operator: what to pass over, if anything; `None` to end.
    #[expect(clippy::option_option, reason = "three answers: end, go on, go on without one transaction")]
    async fn wait(&mut self, stop: &Stop) -> Option<Option<Skip>> {
        loop {
            let mut ended = self.ended.clone();
            let command = tokio::select! {
                _ = ended.wait_for(|end| *end) => return None,
                command = self.commands.recv() => command?,
            };
            match command {
                Command::Retry => return Some(None),
                Command::Skip { id, reason, by } if id == stop.transaction => {
                    let Some(after) = stop.after.clone() else { continue };
                    return Some(Some(Skip { id, what: stop.what.clone(), reason, by, after }));
                }
                Command::Skip { .. } => {}
            }
        }
    }

    /// From connecting to whatever ends it.
    async fn session(&mut self, skip: Option<Skip>) -> End {
        match self.try_session(skip).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_session(&mut self, skip: Option<Skip>) -> Result<std::convert::Infallible, End> {
        // commands that were meant for a stop before this one
        while self.commands.try_recv().is_ok() {}
        let waiting = |e: control::ControlError| End::Again(Phase::Waiting(e.to_string()));
        let mut own = rounds::connect(&self.settings.standby).await.map_err(waiting)?;
        let term = self.lease(&mut own).await?;
        let marks = rounds::read_marks(&mut own, &self.settings.group).await?;
        let resume = marks::resume(&marks).map_err(|e| End::Again(Phase::Waiting(e.to_string())))?;
        let mut workers = Vec::with_capacity(PARTS);
        for _ in 0..PARTS {
            workers.push(rounds::connect(&self.settings.standby).await.map_err(waiting)?);
        }
        let catalog = Catalog::new();
        let mut session = Session {
            own,
            term,
            resume,
            catalog,
            workers,
            beats: 0,
            beat: Instant::now(),
            carried: None,
            latest: None,
        };
        if let Some(skip) = skip {
            session.pass_over(self, &skip).await?;
        }
        session.catalog = self.catalog().await?;
        self.state.at(&session.resume.position.to_string());
        self.state.enter(&self.settings.group, Phase::Applying);
        let databases = session.catalog.keys().map(|name| name.database.clone()).collect();
        let tables = Box::new(self.settings.tables.clone().in_databases(databases)) as Box<dyn Tables>;
        let reader = Reader::start(
            Arc::clone(&self.settings.authority),
            server_id(&self.settings.group),
            session.resume.position.clone(),
            tables,
        );
        let reader = reader.map_err(|e| End::Again(Phase::Waiting(e.to_string())))?;
        session.rounds(self, reader).await
    }

    async fn lease(&mut self, own: &mut Backend) -> Result<u64, End> {
        let group = &self.settings.group;
        match lease::take(own, group, &self.settings.holder, self.first).await {
            Ok(Taken::Ours(term)) => {
                self.first = false;
                self.term = Some(term);
                Ok(term)
            }
            Ok(Taken::Others(who)) => Err(End::Again(Phase::Idle(who))),
            Err(QueryError::Refused(e)) if matches!(e.code, 1146 | 1049 | 1142 | 1044) => {
                let what = format!("the standby has no schema `switchover` for this account: {e}");
                let stop = Stop {
                    transaction: String::new(),
                    what,
                    remedy: format!("switchover init {group}, then `switchover standby retry {group}`"),
                    after: None,
                };
                Err(End::Stop(stop))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The standby's tables, if rows can be applied to them.
    async fn catalog(&self) -> Result<Catalog, End> {
        let store = &self.settings.standby;
        let waiting = |e: &dyn std::fmt::Display| End::Again(Phase::Waiting(e.to_string()));
        // a connection with the server's own character set: names are text here
        let mut backend = control::connect(store, Duration::from_secs(10)).await.map_err(|e| waiting(&e))?;
        let catalog = catalog::read(&mut backend, &self.settings.tables).await.map_err(|e| waiting(&e))?;
        let problems = super::check::standby_tables(&catalog);
        match problems.into_iter().next() {
            Some((what, remedy)) => {
                let remedy = format!("{remedy}; then `switchover standby retry {}`", self.settings.group);
                Err(End::Stop(Stop { transaction: String::new(), what, remedy, after: None }))
            }
            None => Ok(catalog),
        }
    }
}

/// A transaction to pass over.
struct Skip {
    id: String,
    what: String,
    reason: String,
    by: String,
    after: Position,
}

/// Everything that lives from connecting to the next trouble.
struct Session {
    own: Backend,
    term: u64,
    resume: Resume,
    catalog: Catalog,
    workers: Vec<Backend>,
    beats: u32,
    beat: Instant,
    /// A position without changes that is not written yet.
    carried: Option<Position>,
    /// When the newest transaction that is applied committed.
    latest: Option<u32>,
}

/// What the log had ready.
#[derive(Default)]
struct Batch {
    transactions: Vec<Transaction>,
    room: Vec<tokio::sync::OwnedSemaphorePermit>,
    /// Bytes of the log that they took.
    bytes: usize,
    /// Where it ends.
    position: Option<Position>,
    /// What ended the log behind it.
    end: Option<LogError>,
}

impl Batch {
    fn take(&mut self, read: Read, applied: &mut BTreeSet<String>) {
        match read {
            Read::Item(Item::Transaction(t), permit) => {
                self.position = Some(t.after.clone());
                if !applied.remove(&t.id) {
                    self.bytes += t.bytes;
                    self.transactions.push(t);
                    self.room.push(permit);
                }
            }
            Read::Item(Item::Passed(position), _) => self.position = Some(position),
            Read::Item(Item::Alive, _) => {}
            Read::Ended(error) => self.end = Some(error),
        }
    }

    fn is_full(&self, most: usize) -> bool {
        self.end.is_some() || self.transactions.len() >= most || self.bytes >= ROUND_BYTES
    }
}

impl Session {
    async fn rounds(&mut self, applier: &mut Applier, mut reader: Reader) -> Result<std::convert::Infallible, End> {
        let mut held = None;
        loop {
            let mut batch = Batch::default();
            let mut applied = self.resume.applied.clone();
            let mut most = if applier.careful > 0 || !self.resume.applied.is_empty() { 1 } else { ROUND_TRANSACTIONS };
            let mut next = match held.take() {
                Some(read) => Some(read),
                None => tokio::select! {
                    read = reader.next() => Some(read),
                    () = tokio::time::sleep_until(self.beat + BEAT) => None,
                },
            };
            while let Some(read) = next.take() {
                // what sets cascades off goes alone, in the order of its changes
                if matches!(&read, Read::Item(Item::Transaction(t), _) if cascades(t, &self.catalog)) {
                    if !batch.transactions.is_empty() {
                        held = Some(read);
                        break;
                    }
                    most = 1;
                }
                batch.take(read, &mut applied);
                if batch.is_full(most) {
                    break;
                }
                next = reader.ready();
            }
            self.settle(applier, &batch, applied).await?;
            self.keep(applier, batch.transactions.is_empty()).await?;
            if let Some(end) = batch.end {
                return Err(match end {
                    LogError::Lost(why) => {
                        End::Again(Phase::Waiting(format!("{}: {why}", applier.settings.authority.name())))
                    }
                    LogError::Stop(stop) => {
                        // everything before it is applied: its place in the order is now
                        self.write_position(applier).await?;
                        End::Stop(*stop)
                    }
                });
            }
        }
    }

    /// Applies a batch, and moves the position behind it.
    async fn settle(&mut self, applier: &mut Applier, batch: &Batch, applied: BTreeSet<String>) -> Result<(), End> {
        let Some(position) = batch.position.clone() else { return Ok(()) };
        if batch.transactions.is_empty() {
            applier.state.at(&position.to_string());
            self.resume.position = position.clone();
            self.resume.applied = applied;
            self.carried = Some(position);
            return Ok(());
        }
        match self.round(applier, &batch.transactions, position.clone(), &applied).await {
            Ok(rows) => {
                applier.careful = applier.careful.saturating_sub(batch.transactions.len());
                applier.state.transactions.fetch_add(batch.transactions.len() as u64, Ordering::Relaxed);
                applier.state.rows.fetch_add(rows, Ordering::Relaxed);
                self.latest = batch.transactions.last().map(|t| t.committed_at);
                applier.state.at(&position.to_string());
                self.resume = Resume { round: self.resume.round + 1, position, applied };
                self.carried = None;
                Ok(())
            }
            Err(failed) => Err(self.failed(applier, batch, failed)),
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
                    "a round does not fit ({what}): its transactions go one by one"
                );
                End::AtOnce
            }
        }
    }

    fn stamp(&self, applier: &Applier, parts: usize, position: Position, committed_at: u32) -> Stamp {
        Stamp {
            group: applier.settings.group.clone(),
            term: self.term,
            authority: applier.settings.authority.name().to_owned(),
            round: self.resume.round + 1,
            parts,
            base: self.resume.position.clone(),
            position,
            committed_at,
        }
    }

    async fn round(
        &mut self,
        applier: &Applier,
        transactions: &[Transaction],
        position: Position,
        applied: &BTreeSet<String>,
    ) -> Result<u64, Failed> {
        let committed_at = transactions.last().map_or(0, |t| t.committed_at);
        let alone = !self.resume.applied.is_empty() || applier.careful > 0;
        let parts = split(transactions, &self.catalog, if alone { 1 } else { PARTS });
        let stamp = self.stamp(applier, parts.len(), position, committed_at);
        let mut tasks = Vec::with_capacity(parts.len());
        for ((part, list), backend) in parts.iter().enumerate().zip(&mut self.workers) {
            let of: Vec<&Transaction> = list.iter().filter_map(|n| transactions.get(*n)).collect();
            let ids = marks::ids_of(parts.len(), &of, applied);
            let (catalog, stamp) = (&self.catalog, &stamp);
            tasks.push(async move { rounds::apply(backend, catalog, &of, stamp, part, &ids, None).await });
        }
        let mut rows = 0;
        let mut failed = None;
        for outcome in join_all(tasks).await {
            match outcome {
                Ok(n) => rows += n,
                // the worst of several says what to do: a lost connection leaves more open than a lock wait
                Err(e) => {
                    failed = Some(match failed.take() {
                        Some(Failed::Lost(why)) => Failed::Lost(why),
                        Some(Failed::Deposed) => Failed::Deposed,
                        _ => e,
                    })
                }
            }
        }
        failed.map_or(Ok(rows), Err)
    }

    /// Once a second: the lease, the lag, and a position that moved without changes.
    async fn keep(&mut self, applier: &Applier, quiet: bool) -> Result<(), End> {
        if self.beat.elapsed() < BEAT {
            return Ok(());
        }
        self.beat = Instant::now();
        self.beats += 1;
        if !lease::renew(&mut self.own, &applier.settings.group, self.term).await? {
            return Err(Failed::Deposed.into());
        }
        // the standby ends sessions that are silent for long, so that a suspended proxy does not keep its locks
        for worker in &mut self.workers {
            worker.execute(b"DO 0").await?;
        }
        if self.carried.is_some() && self.beats.is_multiple_of(POSITION_BEATS) {
            self.write_position(applier).await?;
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
        applier.state.publish(&applier.settings.group);
        Ok(())
    }

    async fn write_position(&mut self, applier: &Applier) -> Result<(), End> {
        let Some(position) = self.carried.take() else { return Ok(()) };
        self.mark_alone(applier, position, None).await
    }

    async fn mark_alone(&mut self, applier: &Applier, position: Position, further: Option<&str>) -> Result<(), End> {
        let stamp = self.stamp(applier, 1, position.clone(), self.latest.unwrap_or(0));
        let ids = self.resume.applied.clone();
        let Some(worker) = self.workers.first_mut() else { return Ok(()) };
        rounds::apply(worker, &self.catalog, &[], &stamp, 0, &ids, further).await?;
        applier.state.at(&position.to_string());
        self.resume.round += 1;
        self.resume.position = position;
        Ok(())
    }

    /// Moves behind a transaction without applying it, and writes down who said so.
    async fn pass_over(&mut self, applier: &Applier, skip: &Skip) -> Result<(), End> {
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

/// How many transactions the authority's log is ahead.
async fn lag(authority: &Arc<StoreHandle>, done: &Position) -> Option<u64> {
    let mut backend = control::connect(authority, BEAT).await.ok()?;
    let rows = tokio::time::timeout(BEAT, backend.query(b"SELECT @@gtid_binlog_pos")).await.ok()?.ok()?;
    let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
    let all = String::from_utf8_lossy(rows.first(0)?).parse().ok()?;
    done.behind(&all)
}

/// A replica's number that no server has: the upper half of the range is this proxy's, one per group.
fn server_id(group: &str) -> u32 {
    let hash = group.bytes().fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 0x8000_0000
}

/// Runs them all to their ends, on this thread.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|f| (Box::pin(f), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}
