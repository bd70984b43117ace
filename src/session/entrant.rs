//! Who was let in: the session that begins with it, and the answer to its login.
//!
//! A session is listed before its client knows that it is in: whoever was told "OK" can be killed, counted and drained.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::cache::Cache;

use super::control_flow::Fatal;
use super::lease::Lease;
use super::leg::Leg;
use super::login::Account;
use super::registry::{Seat, SessionInfo};
use super::state::State;
use super::{Core, Live, Session, Statements, Transaction};
use crate::backend::Backend;
use crate::net::compress::Peer as Frames;
use crate::net::{PacketStream, Peer};
use crate::wire::{Capabilities, Status};

/// What a login came to.
pub(crate) struct Entrant {
    /// `CONNECTION_ID()`, as the client sees it.
    pub(crate) id: u32,
    /// The client's.
    pub(crate) capabilities: Capabilities,
    pub(crate) account: Account,
    pub(crate) database: Option<Vec<u8>>,
    pub(crate) status: Status,
    /// `pool: session`: the connection that it logged in on.
    pub(crate) home: Option<Backend>,
    /// `pool: transaction`.
    pub(crate) lease: Option<Box<Lease>>,
}

/// The answer to a login that succeeded.
pub(crate) struct Answer {
    pub(crate) sequence: u8,
    /// The OK packet's payload.
    pub(crate) ok: Vec<u8>,
    /// What follows it is compressed.
    pub(crate) compresses: bool,
}

impl Session {
    /// A session, which is listed from now on.
    pub(crate) fn begin(
        core: Rc<Core>,
        live: Arc<Live>,
        client: PacketStream,
        peer: Peer,
        seat: Seat,
        entrant: Entrant,
    ) -> Session {
        let Entrant { id, capabilities, account, database, status, home, lease } = entrant;
        let mut state = State::default();
        let home = home.map(|backend| Leg::new(backend, state.next_generation(), capabilities));
        state.reset(account.dialect, account.collation, home.as_ref().map_or(0, |leg| leg.generation));
        state.database = database.map(|d| String::from_utf8_lossy(&d).into_owned());
        state.see_status(status);
        let info = Arc::new(SessionInfo::new(id, &account.user, &peer, live.snapshot.epoch, lease.is_some()));
        let listed = core.registry.add(&info);
        Session {
            newest: Cache::new(Arc::clone(&core.live)),
            core,
            live,
            client,
            peer,
            capabilities,
            account,
            legs: home.into_iter().collect(),
            lease,
            state,
            transaction: Transaction::default(),
            statements: Statements::default(),
            gathered: Vec::new(),
            kept: Vec::new(),
            sampled: None,
            said: Vec::new(),
            journal: super::kept::Journaling::default(),
            passes: Vec::new(),
            info,
            _seat: seat,
            _listed: listed,
        }
    }

    /// Tells the client that it is in.
    pub(crate) async fn answer_login(&mut self, answer: Answer) -> Result<(), Fatal> {
        self.client.write_message(answer.sequence, &answer.ok).await.map_err(Fatal::client)?;
        if answer.compresses {
            self.client.compress(Frames::Client);
        }
        Ok(())
    }
}
