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

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::catalog::{self, Catalog};
use super::lease::{self, Taken};
use super::marks::{self, Resume};
use super::reader::Reader;
use super::rounds::{self, Failed};
use super::state::{Phase, State};
use super::tables::GroupTables;
use super::tenure::{BEAT, Tenure};
use crate::backend::connection::QueryError;
use crate::backend::{Backend, StoreHandle, control};
use crate::changes::{Source, Stop, Tables};
use crate::entry::Position;
use crate::routing::Gate;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

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
    /// Where sessions wait for the standby.
    pub gate: Arc<Gate>,
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
    let state = Arc::new(State::new(&settings.gate, &settings.authority, &settings.standby));
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
                    skip: None,
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

pub(super) struct Applier {
    pub(super) settings: Settings,
    pub(super) state: Arc<State>,
    commands: mpsc::UnboundedReceiver<Command>,
    ended: watch::Receiver<bool>,
    /// Transactions that still go one by one.
    pub(super) careful: usize,
    /// The term of the lease that was taken last.
    term: Option<u64>,
    /// What an operator wants passed over, until that is written down.
    skip: Option<Skip>,
}

/// Why a session ended.
pub(super) enum End {
    /// It was told to.
    Told,
    /// Nothing was lost, but there is nothing to apply now: again, after a pause.
    Again(Phase),
    /// A connection failed: again, after a pause.
    Lost(String),
    /// Again, at once.
    AtOnce,
    /// An operator decides.
    Stop(Stop),
}

impl From<Failed> for End {
    fn from(failed: Failed) -> End {
        match failed {
            Failed::Lost(why) => End::Lost(why),
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
        loop {
            let mut ended = self.ended.clone();
            let end = tokio::select! {
                biased;
                _ = ended.wait_for(|end| *end) => End::Told,
                end = self.session() => end,
            };
            let group = self.settings.group.clone();
            let phase = match end {
                End::Told => return self.leave().await,
                End::AtOnce => continue,
                End::Again(phase) => phase,
                End::Lost(why) => {
                    self.state.reconnects.fetch_add(1, Ordering::Relaxed);
                    Phase::Waiting(why)
                }
                End::Stop(stop) => {
                    self.state.enter(&group, Phase::Stopped(stop.clone()));
                    match self.wait(&stop).await {
                        Some(skip) => self.skip = skip,
                        None => return,
                    }
                    self.state.enter(&group, Phase::Starting);
                    continue;
                }
            };
            self.state.enter(&group, phase);
            tokio::select! {
                _ = ended.wait_for(|end| *end) => return,
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// Gives the lease back, so that another proxy need not wait until it expires.
    async fn leave(&mut self) {
        let Some(term) = self.term else { return };
        let give_back = async {
            let mut own = rounds::connect(&self.settings.standby, &self.settings.group).await.ok()?;
            lease::release(&mut own, &self.settings.group, term).await.ok()
        };
        if tokio::time::timeout(BEAT, give_back).await.is_err() {
            tracing::debug!(group = self.settings.group, "the lease is left to expire");
        }
    }

    /// Waits for an operator: what to pass over, if anything; `None` to end.
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
                    return Some(Some(Skip {
                        id,
                        what: stop.what.clone(),
                        reason,
                        by,
                        before: self.state.position(),
                        after,
                    }));
                }
                Command::Skip { .. } => {}
            }
        }
    }

    /// From connecting to whatever ends it.
    async fn session(&mut self) -> End {
        match self.try_session().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_session(&mut self) -> Result<std::convert::Infallible, End> {
        // commands that were meant for a stop before this one
        while self.commands.try_recv().is_ok() {}
        let waiting = |e: control::ControlError| End::Lost(e.to_string());
        // (what is said of it from here on is looked at)
        let mut followed = self.settings.gate.followed();
        let before = *followed.borrow_and_update();
        let mut own = rounds::connect(&self.settings.standby, &self.settings.group).await.map_err(waiting)?;
        let term = self.lease(&mut own).await?;
        let epoch = self.may_apply(&mut own).await?;
        self.state.epoch.store(epoch, Ordering::Relaxed);
        let marks = rounds::read_marks(&mut own, &self.settings.group).await?;
        let resume = marks::resume(&marks).map_err(|e| End::Again(Phase::Waiting(e.to_string())))?;
        let group = self.settings.group.clone();
        tokio::select! {
            kept = lease::keep(own, &group, term) => Err(kept.map_or_else(End::from, |()| Failed::Deposed.into())),
            // a cutover that was given up behind its seal, if it is not the end of this applier: its places count in the new epoch only
            _ = followed.wait_for(|now| *now != before && *now != epoch) => Err(End::AtOnce),
            ended = self.tenure(term, resume) => ended,
        }
    }

    /// What is done while the lease is held.
    async fn tenure(&mut self, term: u64, resume: Resume) -> Result<std::convert::Infallible, End> {
        let mut tenure = Tenure::begin(self, term, resume).await.map_err(|e| End::Lost(e.to_string()))?;
        if let Some(skip) = self.skip.take()
            && let Err(end) = tenure.pass_over(self, &skip).await
        {
            self.skip = Some(skip);
            return Err(end);
        }
        tenure.catalog = Arc::new(self.catalog().await?);
        self.state.at(&tenure.resume.position);
        self.state.enter(&self.settings.group, Phase::Applying);
        let databases = tenure.catalog.keys().map(|name| name.database.clone()).collect();
        let tables = Box::new(self.settings.tables.clone().in_databases(databases)) as Box<dyn Tables>;
        let source = Source {
            store: Arc::clone(&self.settings.authority),
            group: self.settings.group.clone(),
            server_id: server_id(&self.settings.group),
        };
        let reader = Reader::start(source, tenure.resume.position.clone(), tables);
        let reader = reader.map_err(|e| End::Lost(e.to_string()))?;
        tenure.rounds(self, reader).await
    }

    /// The store must say of itself that it is this authority's standby: one that was opened meanwhile, or has come back and is
    /// not settled yet, is not written to. The epoch in which it says so.
    async fn may_apply(&self, own: &mut Backend) -> Result<u64, End> {
        let rows = match super::record::read(own, &self.settings.group).await {
            Ok(rows) => rows,
            // a schema of before the cutover: `init` says so
            Err(QueryError::Refused(_)) => return Ok(0),
            Err(e) => return Err(e.into()),
        };
        own.execute(b"COMMIT").await?;
        let authority = self.settings.authority.name();
        match rows.record {
            Some(r) if r.standing != super::record::Standing::Standby || r.authority != authority => {
                let store = self.settings.standby.name();
                Err(End::Again(Phase::Waiting(format!("{store} is not the standby of {authority} yet, or no more"))))
            }
            record => Ok(record.map_or(0, |r| r.epoch)),
        }
    }

    async fn lease(&mut self, own: &mut Backend) -> Result<u64, End> {
        let group = &self.settings.group;
        match lease::take(own, group, &self.settings.holder, self.term).await {
            Ok(Taken::Ours(term)) => {
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
        let waiting = |e: &dyn std::fmt::Display| End::Lost(e.to_string());
        // a connection with the server's own character set: names are text here
        let mut backend = control::connect(store, Duration::from_secs(10)).await.map_err(|e| waiting(&e))?;
        let mut catalog = catalog::read(&mut backend, &self.settings.tables).await.map_err(|e| waiting(&e))?;
        super::check::mark_alike(&self.authority_catalog().await.unwrap_or_default(), &mut catalog);
        // (the store says that it is sealed: what somebody has made at a table's own name is a stray, and told as such)
        catalog.values_mut().filter(|table| table.twice).for_each(|table| Arc::make_mut(table).twice = false);
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

// (an authority that does not answer keeps nobody from applying what was read)
impl Applier {
    async fn authority_catalog(&self) -> Option<Catalog> {
        let read = async {
            let mut there = control::connect(&self.settings.authority, BEAT).await.ok()?;
            let catalog = catalog::read(&mut there, &self.settings.tables).await.ok();
            let _ = there.send(crate::wire::command::COM_QUIT, &[]).await;
            catalog
        };
        tokio::time::timeout(2 * BEAT, read).await.ok()?
    }
}

/// A transaction to pass over.
pub(super) struct Skip {
    pub(super) id: String,
    pub(super) what: String,
    pub(super) reason: String,
    pub(super) by: String,
    /// The position at which it was met: elsewhere it is another one's turn.
    pub(super) before: String,
    pub(super) after: Position,
}

/// A replica's number that no server has: the upper half of the range is this proxy's, one per group.
fn server_id(group: &str) -> u32 {
    let hash = group.bytes().fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash | 0x8000_0000
}
