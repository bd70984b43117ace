//! One client's session, from login to its last byte (layer L3).
//!
//! ```text
//! login ─► idle ─► command ─► plan (facts, decision) ─► before ─► send ─► relay ─► after ─► idle
//! ```
//!
//! The session lives on one core with its backends. It holds a leg (a backend connection) for every store that it has used; the
//! first, its *home*, was opened at login, and keeps the state (variables, database) that other legs are brought in step with.

mod answered;
mod answers;
mod careful;
mod command;
mod control_flow;
mod core;
mod effects;
mod entrant;
mod exchange;
mod execute;
mod figures;
mod guard;
mod home;
mod insight;
mod journaled;
mod keeper;
mod kept;
mod kill;
mod knock;
mod lease;
mod leg;
mod login;
mod multi;
mod one_shot;
mod open;
mod owed;
mod own_login;
mod pins;
mod pooled;
mod prepared;
mod query;
mod recorded;
mod recorded_alone;
mod recorded_execute;
mod registry;
mod relay;
mod relayed_login;
mod reprepare;
mod rescue;
mod saved;
mod sealed;
mod shadowed;
mod state;
mod sync;
mod text_prepared;
mod tracking;
mod transaction;
mod variables;

pub(crate) use control_flow::Fatal;
pub use core::{Core, Live};
pub use figures::{CoreFigures, Figures, Sort, StoreFigures};
pub use insight::{Came, Digests, Everything, Seen, Served, quantile};
pub use keeper::keep;
pub(crate) use knock::{first_answer, say};
pub use pins::{Pin, Pins};
pub use registry::{Registry, SessionInfo};

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;

use crate::net::{PacketStream, Peer};
use crate::wire::{Capabilities, ErrPacket};

use lease::Lease;
use leg::Leg;
use login::Account;
use prepared::Statements;
use state::State;
use transaction::Transaction;

/// One client.
pub(crate) struct Session {
    core: Rc<Core>,
    newest: Cache<Arc<ArcSwap<Live>>, Arc<Live>>,
    /// The snapshot that statements work with; it changes only outside transactions (invariant 1).
    live: Arc<Live>,
    client: PacketStream,
    peer: Peer,
    capabilities: Capabilities,
    account: Account,
    /// The first is home.
    legs: Vec<Leg>,
    /// `pool: transaction`: what it keeps between two leases.
    lease: Option<Box<Lease>>,
    state: State,
    transaction: Transaction,
    statements: Statements,
    /// A command that did not fit the read buffer, framed.
    gathered: Vec<u8>,
    /// A command that went the hot path, and may be sent again.
    kept: Vec<u8>,
    /// The read under way, where it is one of the sample that is compared.
    sampled: Option<Box<shadowed::Sampled>>,
    /// The text of the command under way, for a slow log with literals.
    said: Vec<u8>,
    /// What it keeps of writes that were recorded in a journal.
    journal: kept::Journaling,
    /// What it has open in groups with a standby.
    passes: Vec<crate::routing::gate::Pass>,
    info: Arc<SessionInfo>,
    /// Its place among `limits.max_connections`.
    _seat: registry::Seat,
    /// Its place in the list, which it leaves after its client: who finds it gone may say that it is dead.
    _listed: registry::Listed,
}

/// Serves one client until it leaves; every error ends here.
pub async fn serve(core: Rc<Core>, client: PacketStream, peer: Peer) {
    // boxed: what a login needs is not kept, nor moved about, with the session
    let login = Box::pin(login::login(Rc::clone(&core), client, peer));
    let limit = core.live.load().config().limits.connect_timeout;
    let (mut session, answer) = match tokio::time::timeout(limit, login).await {
        Ok(Ok(entered)) => entered,
        Ok(Err(e)) => {
            tracing::debug!(error = %e, "login ended");
            return;
        }
        Err(_) => {
            tracing::debug!("login timed out");
            return;
        }
    };
    let end = match session.answer_login(answer).await {
        Ok(()) => session.run().await,
        Err(fatal) => fatal,
    };
    session.end(end).await;
}

impl Session {
    /// Commands until the end.
    async fn run(&mut self) -> Fatal {
        loop {
            if let Err(fatal) = self.turn().await {
                return fatal;
            }
        }
    }

    /// Clears up: a read without a client is killed; dropping the legs rolls their transactions back.
    async fn end(&mut self, why: Fatal) {
        tracing::trace!(reason = %why, "session ended");
        if let Some(error) = why.last_words() {
            let mut out = Vec::new();
            error.put(&mut out, 0);
            let _ = self.client.write(&out).await;
        }
        if why.is_reset() && !self.legs.iter().any(|l| l.busy) {
            // between commands nothing is on its way to the client: it sees what it would see of the store itself
            self.client.stream().reset_on_drop();
            return self.legs.clear();
        }
        if why.leaves_query_running() {
            let limit = self.live.config().limits.connect_timeout;
            for leg in self.legs.iter().filter(|l| l.busy) {
                crate::backend::control::kill(&leg.backend.handle, leg.backend.thread_id, false, limit).await;
            }
        } else if self.lease.is_none() {
            for (i, leg) in self.legs.iter_mut().enumerate() {
                let aborts = i == 0 && why.is_abort();
                // a part of a command may be on its way
                if !leg.broken && !leg.busy && !aborts {
                    let _ = leg.backend.send(crate::wire::command::COM_QUIT, &[]).await;
                }
            }
        }
        self.release_all().await;
        self.legs.clear();
        self.client.shutdown().await;
    }

    /// Sends an error of the proxy's own as the answer to the command under way.
    async fn refuse(&mut self, error: &ErrPacket) -> Result<(), Fatal> {
        self.core.figures.refused();
        self.send_error(error).await
    }

    async fn send_error(&mut self, error: &ErrPacket) -> Result<(), Fatal> {
        let mut out = Vec::new();
        error.put(&mut out, 1);
        self.client.write(&out).await.map_err(Fatal::client)
    }
}
