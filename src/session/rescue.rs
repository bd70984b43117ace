//! A store that fails under a statement of a group with `fallback: auto`: what had not begun waits for the standby to take over,
//! and a read whose answer had not begun is asked again there. What wrote, and lost its answer, ends the client's connection.
//!
//! A lost connection may be a KILL (RULES.md 20), which must not be undone: so a read is asked again only where the watcher
//! sees that the store is gone, and ends as it would have where the store answers.

use tokio::time::{Duration, Instant};

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::guard::Attempts;
use crate::config::model::Fallback;
use crate::sql::Facts;
use crate::sql::facts::{Access, Kind};
use crate::wire::Status;

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(50);
/// The store has answered its watcher so often since: it lives.
const PROOFS: u64 = 2;

impl Session {
    /// Whether a statement of these facts is one that may survive its store: it goes with its bytes kept.
    pub(crate) fn is_rescued(&self, facts: &Facts) -> bool {
        let config = self.live.config();
        let auto = |(id, _): &(crate::config::GroupId, _)| {
            config.groups.get(usize::from(id.0)).is_some_and(|g| g.keeping.fallback == Fallback::Auto)
        };
        self.gates_where(facts, |_| true).iter().any(auto)
    }

    /// After a failure of the statement's store: waits until the group has another authority, and says that it can be tried again;
    /// else the failure stands. `sent` tells whether the statement was on its way, `passes` how many the session had before it.
    pub(crate) async fn survive(
        &mut self,
        facts: &Facts,
        (passes, sent): (usize, bool),
        failure: Failure,
        attempts: &mut Attempts,
    ) -> Result<(), Failure> {
        if !self.is_rescued(facts) || !self.may_survive(facts, sent, &failure) {
            return Err(failure);
        }
        let gates = self.gates_where(facts, |_| true);
        let Some((id, gate)) = gates.first().cloned() else { return Err(failure) };
        let authority = |live: &super::core::Live| {
            live.config().groups.get(usize::from(id.0)).map(|g| live.config().store_name(g.connection).to_owned())
        };
        let before = authority(&self.live);
        self.passes.truncate(passes);
        let limit = self.hold_max(gate.group());
        let deadline = *attempts.deadline.get_or_insert_with(|| Instant::now() + limit);
        let proofs = gate.proofs();
        gate.look();
        while Instant::now() < deadline {
            if authority(self.newest.load()) != before {
                // a transaction that goes on elsewhere has nothing on this group's store yet
                self.adopt(&[id]);
                return Ok(());
            }
            if gate.proofs() >= proofs + PROOFS {
                // it lives: a refused connection may be tried again, a lost one was somebody's will
                return if sent { Err(failure) } else { Ok(()) };
            }
            gate.change(AGAIN).await;
        }
        Err(failure)
    }

    /// Whether nothing is lost with the leg, and the client knows of nothing.
    fn may_survive(&self, facts: &Facts, sent: bool, failure: &Failure) -> bool {
        let bound = self.in_transaction()
            || self.transaction.explicit
            || self.state.tables_locked
            || !self.home_status().contains(Status::AUTOCOMMIT)
            || self.lease.is_some();
        match failure {
            // cannot connect: nothing was sent
            Failure::Statement(error) => error.code == 1429 && self.lease.is_none(),
            Failure::Session(Fatal::Store { store, .. }) => {
                let reads = matches!(facts.kind, Kind::Read | Kind::Show)
                    && facts.tables.iter().all(|t| t.access <= Access::Read && t.access != Access::Call);
                let leg = self.legs.iter().skip(1).find(|l| l.name == *store && l.broken);
                !bound && leg.is_some_and(|l| !l.answered) && (reads || !sent)
            }
            Failure::Session(_) => false,
        }
    }
}
