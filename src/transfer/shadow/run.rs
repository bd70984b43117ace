//! One statement on one store, with its control account: in a session that may not write, under the settings of the session that it
//! comes from, within 5 s, and within bounds.
//!
//! Nothing goes on there: who takes longer is killed, and the store itself ends what takes a second longer (where it knows how).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::settings::{Base, Set};
use crate::backend::connection::{Bounds, QueryError, Rows};
use crate::backend::{Backend, StoreHandle, control};
use crate::routing::shadow::Read;
use crate::wire::ErrPacket;

/// For a statement, and for a connection.
const LIMIT: Duration = Duration::from_secs(5);
/// For the KILL of one that takes longer.
const KILL: Duration = Duration::from_secs(2);
/// Between two attempts at a KILL that the store has not heard.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(60)];
/// What is compared at most.
const BOUNDS: Bounds = Bounds { bytes: 4 << 20, rows: 20_000, cells: 400_000 };
/// Connections that wait for the next statement.
const IDLE: usize = 16;
/// A connection that has waited for longer is not used any more: its store may have closed it.
const STALE: Duration = Duration::from_secs(30);
/// Said by a session as it begins: what only looks like a read is refused, and what the proxy cannot kill ends by itself (6 s; the
/// first is MariaDB's word, the second MySQL's). A store that does not know one of them goes without.
const BEGIN: [&str; 3] = [
    "SET SESSION TRANSACTION READ ONLY",
    "SET SESSION max_statement_time = 6",
    "SET SESSION max_execution_time = 6000",
];

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
    /// The session's own settings do not hold there.
    OtherSettings,
}

struct Seat {
    backend: Backend,
    database: Option<String>,
    /// The SET that holds here.
    set: String,
    since: Instant,
}

/// Connections to stores.
#[derive(Default)]
pub(super) struct Seats {
    idle: RefCell<Vec<Seat>>,
    bases: Base,
}

impl Seats {
    fn idle(&self, store: &Arc<StoreHandle>, database: Option<&str>, set: &Set) -> Option<Seat> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|seat| seat.since.elapsed() < STALE);
        // without a database a session can only begin
        let fits =
            |seat: &Seat| Arc::ptr_eq(&seat.backend.handle, store) && (database.is_some() || seat.database.is_none());
        let same = idle.iter().position(|seat| fits(seat) && seat.set == set.text);
        let at = same.or_else(|| idle.iter().position(fits))?;
        Some(idle.swap_remove(at))
    }

    fn keep(&self, seat: Seat) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE {
            idle.push(Seat { since: Instant::now(), ..seat });
        }
    }

    /// What a session sets before it reads; an error where the store is not reached whose settings are a session's own.
    pub(super) async fn set(&self, read: &Read) -> Result<Set, String> {
        let own = read.settings.clone().unwrap_or_default();
        let base = match timeout(LIMIT, self.bases.of(&read.home)).await {
            Ok(base) => base?,
            Err(_) => return Err(format!("store {} does not answer", read.home.name())),
        };
        Ok(Set::new(base, own))
    }

    /// Runs a statement.
    pub(super) async fn ask(&self, store: &Arc<StoreHandle>, read: &Read, set: &Set) -> Answer {
        match self.ask_in(store, read.database.as_deref(), &read.text, set).await {
            // a statement that names every table with its database needs no current one
            Answer::Refused(error) if error.code == 1049 && read.qualified && read.database.is_some() => {
                self.ask_in(store, None, &read.text, set).await
            }
            answer => answer,
        }
    }

    async fn ask_in(&self, store: &Arc<StoreHandle>, database: Option<&str>, sql: &[u8], set: &Set) -> Answer {
        loop {
            let (mut seat, reused) = match self.idle(store, database, set) {
                Some(seat) => (seat, true),
                None => match connect(store).await {
                    Ok(backend) => (Seat { backend, database: None, set: String::new(), since: Instant::now() }, false),
                    Err(text) => return Answer::Unreachable(text),
                },
            };
            let Ok(done) = timeout(LIMIT, run(&mut seat, database, sql, set)).await else {
                end(seat);
                return Answer::Late;
            };
            match done {
                Ok(Some(answer)) => {
                    self.keep(seat);
                    return answer;
                }
                Ok(None) => {
                    end(seat);
                    return Answer::TooLarge;
                }
                // the store was restarted since: a new connection tells
                Err(_) if reused => {}
                Err(text) => return Answer::Unreachable(text),
            }
        }
    }
}

/// Ends what runs on a connection, and the connection; nobody waits for that.
fn end(seat: Seat) {
    let (store, thread) = (Arc::clone(&seat.backend.handle), seat.backend.thread_id);
    drop(seat);
    tokio::task::spawn_local(async move {
        for pause in [Duration::ZERO].into_iter().chain(AGAIN) {
            sleep(pause).await;
            if control::kill(&store, thread, false, KILL).await {
                return;
            }
        }
    });
}

async fn connect(store: &Arc<StoreHandle>) -> Result<Backend, String> {
    let mut backend = control::connect(store, LIMIT).await.map_err(|e| e.to_string())?;
    for sql in BEGIN {
        match timeout(LIMIT, backend.execute(sql.as_bytes())).await {
            Ok(Ok(_) | Err(QueryError::Refused(_))) => {}
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err(format!("store {} does not answer", store.name())),
        }
    }
    Ok(backend)
}

/// The answer; none where it is too large. An error where the connection is lost.
async fn run(seat: &mut Seat, database: Option<&str>, sql: &[u8], set: &Set) -> Result<Option<Answer>, String> {
    if seat.set != set.text {
        seat.set.clear();
        if !set.apply(&mut seat.backend).await? {
            return Ok(Some(Answer::OtherSettings));
        }
        seat.set.clone_from(&set.text);
    }
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
