//! A connection that applies parts, and how one of before is ended.
//!
//! A suspended proxy may have transactions open on the standby, whose row locks its successor would wait for until the store ends
//! silent sessions. So each connection holds a lock that only names it (GET_LOCK: it is gone with its session, after the session's
//! transaction): whoever takes the lease asks who holds it, and ends that session. Nothing depends on it: what keeps a
//! deposed applier from writing is the term in its marks ([`super::lease`]).

use std::sync::Arc;

use super::rounds::{self, Failed, Part};
use super::schema::{MARKS, literal};
use super::seal_lock::keeps_locks;
use crate::backend::connection::QueryError;
use crate::backend::control::ControlError;
use crate::backend::{Backend, StoreHandle};

/// A connection to the standby, and what it can.
pub(super) struct Worker {
    pub(super) backend: Backend,
    /// The row of `switchover.marks` that it writes.
    pub(super) number: usize,
    /// The statement by which it takes row events.
    take: Option<u32>,
}

impl Worker {
    /// Connects.
    pub(super) async fn connect(store: &Arc<StoreHandle>, group: &str, number: usize) -> Result<Worker, ControlError> {
        let mut backend = rounds::connect(store, group).await?;
        let failed = |e| ControlError::Query(store.name().to_owned(), e);
        let version = backend.query(b"SELECT VERSION()").await.map_err(failed)?;
        let version = String::from_utf8_lossy(version.first(0).unwrap_or_default()).into_owned();
        if !keeps_locks(&version) {
            // (one that was ended a moment ago may still have it)
            match backend.query(format!("SELECT GET_LOCK({}, 1)", name(group, number)).as_bytes()).await {
                Ok(_) | Err(QueryError::Refused(_)) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let take = rounds::takes_events(&mut backend, &version).await.map_err(failed)?;
        backend.execute(b"COMMIT").await.map_err(failed)?;
        Ok(Worker { backend, number, take })
    }

    pub(super) fn takes_events(&self) -> bool {
        self.take.is_some()
    }

    /// Does what a part brings, and leaves its transaction open.
    pub(super) async fn execute(&mut self, part: &Part<'_>) -> Result<u64, Failed> {
        rounds::execute(&mut self.backend, self.number, self.take, part).await
    }

    /// Commits what it has done.
    pub(super) async fn commit(&mut self) -> Result<(), Failed> {
        rounds::commit(&mut self.backend).await
    }

    /// Does a part, and commits it.
    pub(super) async fn apply(&mut self, part: &Part<'_>) -> Result<u64, Failed> {
        let rows = self.execute(part).await?;
        self.commit().await?;
        Ok(rows)
    }
}

fn name(group: &str, number: usize) -> String {
    format!("CONCAT('switchover-{number}-', MD5({}))", literal(group))
}

/// Ends the sessions that apply a group on a store, as far as that can be done. Only for who may take their place.
///
/// # Errors
/// Where the connection is lost.
pub(super) async fn end_all(backend: &mut Backend, group: &str) -> Result<(), QueryError> {
    let names: Vec<String> = (0..MARKS).map(|number| format!("IS_USED_LOCK({})", name(group, number))).collect();
    let sessions = match backend.query(format!("SELECT {}", names.join(", ")).as_bytes()).await {
        Ok(sessions) => sessions,
        Err(QueryError::Refused(_)) => return Ok(()),
        Err(e) => return Err(e),
    };
    for session in (0..MARKS).filter_map(|at| sessions.first(at)) {
        let kill = format!("KILL {}", String::from_utf8_lossy(session));
        match backend.execute(kill.as_bytes()).await {
            // (gone by itself, or another account's)
            Ok(_) | Err(QueryError::Refused(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
