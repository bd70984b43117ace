//! The appliers that this process runs: one per group with a standby, started and ended as the configuration says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admin::protocol::{Failure, FailureKind, StandbyAction, StandbyRequest, StandbyStatus};
use crate::backend::StoreHandle;
use crate::config::GroupId;
use crate::config::model::Group;
use crate::routing::Gate;
use crate::routing::patterns::NameCase;
use crate::session::Live;
use crate::standby::applier::Handle;
use crate::standby::state::Phase;
use crate::standby::{Command, GroupTables, Settings};

/// A group's applier, and what it was started with.
struct Running {
    group: Group,
    case: NameCase,
    authority: Arc<StoreHandle>,
    standby: Arc<StoreHandle>,
    gate: Arc<Gate>,
    handle: Handle,
}

/// All of them.
pub(super) struct Standbys {
    holder: String,
    running: Mutex<HashMap<String, Running>>,
}

impl Standbys {
    /// None yet. The configuration's path and the machine's name say, over restarts, who holds a lease.
    pub(super) fn new(config: &Path) -> Standbys {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let path = std::fs::canonicalize(config).unwrap_or_else(|_| config.to_owned());
        Standbys { holder: format!("{}:{}", host.trim(), path.display()), running: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it so that exactly the groups with a standby have an applier.
    pub(super) fn sync(&self, live: &Live) {
        let config = live.config();
        let mut running = self.lock();
        running.retain(|name, _| config.group_by_name(name).is_some_and(|group| group.standby.is_some()));
        for (n, group) in config.groups.iter().enumerate() {
            let (Some(standby), Ok(id)) = (group.standby, u16::try_from(n)) else { continue };
            let (Some(authority), Some(standby), Some(gate)) =
                (live.fleet.get(group.connection), live.fleet.get(standby), live.gates.get(GroupId(id)))
            else {
                continue;
            };
            let case = live.snapshot.name_case();
            let same = |r: &Running| {
                Arc::ptr_eq(&r.authority, authority)
                    && Arc::ptr_eq(&r.standby, standby)
                    && Arc::ptr_eq(&r.gate, gate)
                    && r.case == case
                    && r.group.tables == group.tables
                    && r.group.databases == group.databases
            };
            if running.get(&group.name).is_some_and(same) {
                continue;
            }
            // the one before ends first: its lease is this process's, and would be taken from under it
            running.remove(&group.name);
            let settings = Settings {
                group: group.name.clone(),
                tables: GroupTables::new(live.snapshot.clone(), GroupId(id)).awaited_at(gate),
                authority: Arc::clone(authority),
                standby: Arc::clone(standby),
                holder: self.holder.clone(),
                gate: Arc::clone(gate),
            };
            match crate::standby::start(settings) {
                Ok(handle) => {
                    let (authority, standby, gate) = (Arc::clone(authority), Arc::clone(standby), Arc::clone(gate));
                    let group = group.clone();
                    running.insert(group.name.clone(), Running { group, case, authority, standby, gate, handle });
                }
                Err(error) => tracing::error!(group = group.name, %error, "its standby has no thread"),
            }
        }
    }

    /// Ends all of them.
    pub(super) fn end(&self) {
        self.lock().clear();
    }

    /// How a group's standby is.
    pub(super) fn status(&self, group: &str) -> Option<StandbyStatus> {
        self.lock().get(group).map(status)
    }

    /// Retries, or passes a transaction over.
    pub(super) fn tell(&self, request: &StandbyRequest) -> Result<StandbyStatus, Failure> {
        let refused = |text: String| Failure::new(FailureKind::Request, text);
        let running = self.lock();
        let name = &request.group;
        let found = running.get(name).ok_or_else(|| refused(format!("no group {name} with a standby")))?;
        let Phase::Stopped(stop) = found.handle.state.phase() else {
            return Err(refused(format!(
                "the standby of {name} is not stopped: it is {}",
                found.handle.state.phase().word()
            )));
        };
        let command = match &request.action {
            StandbyAction::Init { .. } | StandbyAction::End => {
                return Err(refused("that is the stores' affair".into()));
            }
            StandbyAction::Retry => Command::Retry,
            StandbyAction::Skip { transaction, reason } => {
                if *transaction != stop.transaction || stop.after.is_none() {
                    let which = match &stop.transaction {
                        id if id.is_empty() || stop.after.is_none() => {
                            "it is not stopped by a transaction that can be passed over".to_owned()
                        }
                        id => format!("it is stopped by {id}"),
                    };
                    return Err(refused(format!("{transaction} cannot be passed over: {which}")));
                }
                let by = request.cause.by.clone();
                Command::Skip { id: transaction.clone(), reason: reason.clone(), by }
            }
        };
        if !found.handle.tell(command) {
            return Err(Failure::new(FailureKind::Internal, "its applier has ended"));
        }
        Ok(status(found))
    }
}

fn status(running: &Running) -> StandbyStatus {
    let state = &running.handle.state;
    let phase = state.phase();
    let mut status = StandbyStatus {
        store: running.standby.name().to_owned(),
        state: phase.word().to_owned(),
        position: state.position(),
        lag_entries: state.lag_entries.load(Ordering::Relaxed),
        lag_seconds: state.lag_seconds.load(Ordering::Relaxed),
        transactions: state.transactions.load(Ordering::Relaxed),
        rows: state.rows.load(Ordering::Relaxed),
        repeats: state.repeats.load(Ordering::Relaxed),
        reconnects: state.reconnects.load(Ordering::Relaxed),
        ..StandbyStatus::default()
    };
    match phase {
        Phase::Idle(who) => status.reason = Some(format!("{who} applies")),
        Phase::Waiting(why) => status.reason = Some(why),
        Phase::Stopped(stop) => {
            status.reason = Some(stop.what);
            status.remedy = Some(stop.remedy);
            status.skippable = stop.after.is_some() && !stop.transaction.is_empty();
            status.transaction = Some(stop.transaction).filter(|id| !id.is_empty());
        }
        Phase::Starting | Phase::Applying | Phase::Ended => {}
    }
    status
}
