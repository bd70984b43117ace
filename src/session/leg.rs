//! A session's connection to one store, and how far it is in step with the session.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use crate::backend::Backend;
use crate::config::StoreId;
use crate::wire::tracking::Change;
use crate::wire::{Capabilities, Status};

/// One leg.
pub(crate) struct Leg {
    /// The connection.
    pub(crate) backend: Backend,
    /// The store's name: ids may change with a reload.
    pub(crate) name: String,
    /// Unlike that of any other leg of the session: prepared statements refer to it.
    pub(crate) generation: u64,
    /// The session-state version that it was brought in step with.
    pub(crate) synced: u64,
    /// The database that it is in (legs other than home).
    pub(crate) database: Option<String>,
    /// Session variables as this leg has them (legs other than home), by name.
    pub(crate) variables: HashMap<String, Option<Vec<u8>>>,
    /// The client did not ask for SESSION_TRACK: what the store reports is taken out of what the client gets.
    pub(crate) untracked: bool,
    /// Changes that the store reported and the session has not looked at.
    pub(crate) changes: Vec<Change>,
    /// What ran there may have set what its text does not say.
    pub(crate) suspect: bool,
    /// Variables of which the store has another value than the session, in its place.
    pub(crate) substituted: HashSet<String>,
    /// It may still wait for a transaction to which SET TRANSACTION applies, though that has run on another leg.
    pub(crate) stale_one_shot: bool,
    /// The SET NAMES of the session that it has followed.
    pub(crate) names: u64,
    /// LOCK TABLES has locked tables here.
    pub(crate) locked: bool,
    /// `SET insert_id` waits here for a write that has run on another leg.
    pub(crate) stale_insert_id: bool,
    /// A command was sent whose response is not complete.
    pub(crate) busy: bool,
    /// The client has something of that response.
    pub(crate) answered: bool,
    /// Nothing can be sent any more.
    pub(crate) broken: bool,
    /// This transaction wrote here.
    pub(crate) wrote: bool,
    /// A statement of this transaction named a table here.
    pub(crate) touched: bool,
    /// With autocommit = 0 a statement ran here that opened no transaction (it failed, or read nothing): the store keeps its metadata
    /// locks all the same until COMMIT or ROLLBACK.
    pub(crate) locks: bool,
    /// When it was last used.
    pub(crate) used: Instant,
}

impl Leg {
    /// A leg of a session whose client has these capabilities.
    pub(crate) fn new(backend: Backend, generation: u64, client: Capabilities) -> Leg {
        Leg {
            name: backend.handle.name().to_owned(),
            generation,
            synced: 0,
            database: None,
            variables: HashMap::new(),
            untracked: !client.contains(Capabilities::SESSION_TRACK),
            changes: Vec::new(),
            suspect: false,
            stale_insert_id: false,
            names: 0,
            locked: false,
            stale_one_shot: false,
            substituted: HashSet::new(),
            busy: false,
            answered: false,
            broken: false,
            wrote: false,
            touched: false,
            locks: false,
            used: Instant::now(),
            backend,
        }
    }

    pub(crate) fn store(&self) -> StoreId {
        self.backend.store
    }

    /// Whether the store says that a transaction is open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.backend.status.contains(Status::IN_TRANS)
    }
}
