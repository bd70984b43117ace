//! How a session ends, and what a statement's failure means for it.

use std::io;

use crate::sql::Facts;
use crate::sql::facts::{Flags, Kind};
use crate::wire::ErrPacket;
use crate::wire::codec::Malformed;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    /// The client said goodbye.
    #[error("the client left")]
    Quit,
    /// The client's connection is lost.
    #[error("client: {0}")]
    Client(io::Error),
    /// The same, while a store worked for it on what only reads.
    #[error("client: {0}")]
    ClientOfRead(io::Error),
    /// A store's connection is lost: in the middle of a response nothing but closing is possible (RULES.md 20).
    #[error("store {store}: {error}")]
    Store {
        /// Its name.
        store: String,
        /// What happened.
        error: io::Error,
    },
    /// A store sent what the protocol does not allow.
    #[error("store {store}: {error}")]
    StoreProtocol {
        /// Its name.
        store: String,
        /// What.
        error: Malformed,
    },
    /// The client broke the protocol; it is told.
    #[error("client: {0}")]
    Protocol(ErrPacket),
    /// The proxy ends the session.
    #[error("{0}")]
    Closed(ErrPacket),
    /// The same, and the client has heard of it as the answer to its command.
    #[error("{0}")]
    Told(ErrPacket),
    /// Nothing came for `idle_timeout`.
    #[error("idle for too long")]
    Idle,
}

impl Fatal {
    pub(crate) fn client(error: io::Error) -> Fatal {
        Fatal::Client(error)
    }

    /// The error packet that goes before the end.
    pub(crate) fn last_words(&self) -> Option<&ErrPacket> {
        match self {
            Fatal::Protocol(e) | Fatal::Closed(e) => Some(e),
            _ => None,
        }
    }

    /// Whether a store broke its connection off: MariaDB does so after `wait_timeout`, and libmariadb's next send fails at once (2006).
    pub(crate) fn is_reset(&self) -> bool {
        matches!(self, Fatal::Store { error, .. } if error.kind() == io::ErrorKind::ConnectionReset)
    }

    /// Whether the client left without a word, or broke the protocol: its store counts that, and logs it (`Aborted_clients`).
    pub(crate) fn is_abort(&self) -> bool {
        matches!(self, Fatal::Client(_) | Fatal::ClientOfRead(_) | Fatal::Protocol(_))
    }

    /// The same end, for the facts of the statement that was under way.
    pub(crate) fn during(self, facts: Option<&Facts>) -> Fatal {
        match self {
            Fatal::Client(e) if facts.is_some_and(is_for_its_client_alone) => Fatal::ClientOfRead(e),
            other => other,
        }
    }

    /// Whether a store may still be working, for nobody. What writes runs to its end, as it does where the client is the store's own:
    /// a client may send an INSERT and leave.
    pub(crate) fn leaves_query_running(&self) -> bool {
        matches!(self, Fatal::ClientOfRead(_))
    }
}

/// Whether nobody but the client can tell that a statement ran.
fn is_for_its_client_alone(facts: &Facts) -> bool {
    matches!(facts.kind, Kind::Read | Kind::Show) && !facts.flags.intersects(Flags::CALLS_ROUTINE | Flags::INTO_FILE)
}

/// Why a statement was not run, or not to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The session goes on; the client gets this error.
    Statement(ErrPacket),
    /// The session ends.
    Session(Fatal),
}

impl From<Fatal> for Failure {
    fn from(f: Fatal) -> Failure {
        Failure::Session(f)
    }
}

impl From<ErrPacket> for Failure {
    fn from(e: ErrPacket) -> Failure {
        Failure::Statement(e)
    }
}
