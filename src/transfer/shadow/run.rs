//! One statement on one store, with its control account: in a session that may not write, within 5 s, and within bounds.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::backend::connection::{Bounds, QueryError, Rows};
use crate::backend::{Backend, StoreHandle, control};
use crate::wire::ErrPacket;

/// For a statement, and for a connection.
const LIMIT: Duration = Duration::from_secs(5);
/// For the KILL of one that takes longer.
const KILL: Duration = Duration::from_secs(2);
/// What is compared at most.
const BOUNDS: Bounds = Bounds { bytes: 4 << 20, rows: 20_000, cells: 400_000 };
/// Connections that wait for the next statement.
const IDLE: usize = 16;
/// A connection that has waited for longer is not used any more: its store may have closed it.
const STALE: Duration = Duration::from_secs(30);

/// What a store said.
#[derive(Debug)]
pub(super) enum Answer {
    /// Rows, and microseconds until their last.
    Rows(Rows, u64),
    /// An error.
    Refused(ErrPacket),
    /// Nothing within 5 s.
    Late,
    /// More than is compared.
    TooLarge,
    /// It cannot be reached, or was lost.
    Unreachable(String),
}

struct Seat {
    backend: Backend,
    database: Option<String>,
    since: Instant,
}

/// Connections to stores.
#[derive(Default)]
pub(super) struct Seats(RefCell<Vec<Seat>>);

impl Seats {
    fn idle(&self, store: &Arc<StoreHandle>, database: Option<&str>) -> Option<Seat> {
        let mut idle = self.0.borrow_mut();
        idle.retain(|seat| seat.since.elapsed() < STALE);
        // without a database a session can only begin
        let fits =
            |seat: &Seat| Arc::ptr_eq(&seat.backend.handle, store) && (database.is_some() || seat.database.is_none());
        let at = idle.iter().position(fits)?;
        Some(idle.swap_remove(at))
    }

    fn keep(&self, seat: Seat) {
        let mut idle = self.0.borrow_mut();
        if idle.len() < IDLE {
            idle.push(Seat { since: Instant::now(), ..seat });
        }
    }

    /// Runs a statement.
    pub(super) async fn ask(&self, store: &Arc<StoreHandle>, database: Option<&str>, sql: &[u8]) -> Answer {
        loop {
            let (mut seat, reused) = match self.idle(store, database) {
                Some(seat) => (seat, true),
                None => match connect(store).await {
                    Ok(backend) => (Seat { backend, database: None, since: Instant::now() }, false),
                    Err(text) => return Answer::Unreachable(text),
                },
            };
            let thread = seat.backend.thread_id;
            let Ok(done) = timeout(LIMIT, run(&mut seat, database, sql)).await else {
                drop(seat);
                control::kill(store, thread, true, KILL).await;
                return Answer::Late;
            };
            match done {
                Ok(Some(answer)) => {
                    self.keep(seat);
                    return answer;
                }
                Ok(None) => {
                    drop(seat);
                    control::kill(store, thread, true, KILL).await;
                    return Answer::TooLarge;
                }
                // the store was restarted since: a new connection tells
                Err(_) if reused => {}
                Err(text) => return Answer::Unreachable(text),
            }
        }
    }
}

async fn connect(store: &Arc<StoreHandle>) -> Result<Backend, String> {
    let mut backend = control::connect(store, LIMIT).await.map_err(|e| e.to_string())?;
    // what only looks like a read is refused there, where the store knows how
    let asked = timeout(LIMIT, backend.execute(b"SET SESSION TRANSACTION READ ONLY")).await;
    match asked {
        Ok(Ok(_) | Err(QueryError::Refused(_))) => Ok(backend),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("store {} does not answer", store.name())),
    }
}

/// The answer; none where it is too large. An error where the connection is lost.
async fn run(seat: &mut Seat, database: Option<&str>, sql: &[u8]) -> Result<Option<Answer>, String> {
    if let Some(wanted) = database.filter(|d| seat.database.as_deref() != Some(*d)) {
        match seat.backend.init_db(wanted.as_bytes()).await {
            Ok(()) => seat.database = Some(wanted.to_owned()),
            Err(QueryError::Refused(error)) => return Ok(Some(Answer::Refused(error))),
            Err(error) => return Err(error.to_string()),
        }
    }
    let started = Instant::now();
    match seat.backend.query_within(sql, BOUNDS).await {
        Ok(Some(rows)) => {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            Ok(Some(Answer::Rows(rows, micros)))
        }
        Ok(None) => Ok(None),
        Err(QueryError::Refused(error)) => Ok(Some(Answer::Refused(error))),
        Err(error) => Err(error.to_string()),
    }
}
