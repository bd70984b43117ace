//! `ack: standby`: what a transaction of such a group has committed is acknowledged when the standby has it too.
//!
//! The last packet of the store's answer is kept from the client until then. Whether a statement has committed, that says: no
//! transaction is open any more, and no error; where it may begin the next one in the same breath (BEGIN in a transaction, COMMIT AND
//! CHAIN, a routine), its text. An answer that is not confirmed in time ends the connection: the write is on the authority, and whoever
//! tried it again could do it twice.

use tokio::time::Instant;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::effects::may_change_unseen;
use super::relay::{Part, relay_part};
use super::sealed::{Held, Sent};
use crate::config::model::Fallback;
use crate::routing::Gate;
use crate::routing::gate::Standby;
use crate::sql::Facts;
use crate::sql::facts::{Access, Kind};
use crate::wire::ErrPacket;
use crate::wire::packet::HEADER;
use crate::wire::reply::{Expect, Outcome};

/// Whether its end may be that of a transaction. What only reads ends none; what calls a function that a group lists, or takes of a
/// sequence, may.
fn may_commit(facts: &Facts) -> bool {
    !matches!(facts.kind, Kind::Read | Kind::Show | Kind::Diagnostics) || writes_unseen(facts)
}

fn writes_unseen(facts: &Facts) -> bool {
    facts.tables.iter().any(|table| matches!(table.access, Access::Write | Access::Call))
}

/// Whether a transaction may have written something behind it: what neither writes nor calls a routine leaves it as it was.
pub(super) fn may_leave_something(facts: &Facts) -> bool {
    let leaves_nothing = matches!(
        facts.kind,
        Kind::Read
            | Kind::Show
            | Kind::Diagnostics
            | Kind::Begin { .. }
            | Kind::Commit { .. }
            | Kind::Rollback { .. }
            | Kind::Savepoint(_)
            | Kind::RollbackTo(_)
            | Kind::ReleaseSavepoint(_)
            | Kind::Set(_)
            | Kind::Use(_)
    );
    !leaves_nothing || may_change_unseen(facts) || writes_unseen(facts)
}

/// Whether it may have ended a transaction although one is open behind it: by its text, or in a routine or a block.
fn may_begin_the_next(facts: &Facts) -> bool {
    let chain = matches!(facts.kind, Kind::Commit { chain: true, .. } | Kind::Rollback { chain: true, .. });
    chain || matches!(facts.kind, Kind::Begin { .. } | Kind::Call | Kind::Compound)
}

impl Session {
    /// Whether a statement may end something that is acknowledged only when the standby has it. (The end of a transaction that has
    /// only read is none: frameworks end each of theirs.)
    pub(crate) fn owes(&self, facts: &Facts) -> bool {
        let only_ends = matches!(facts.kind, Kind::Begin { .. } | Kind::Commit { .. } | Kind::Rollback { .. });
        may_commit(facts) && (self.transaction.wrote || !only_ends) && self.asks_standby()
    }

    /// Whether a group of what is open is acknowledged with its standby.
    pub(crate) fn asks_standby(&self) -> bool {
        self.passes.iter().any(|p| p.gate().asks_standby())
    }

    /// A statement of a group whose standby is away is not begun, where nobody could acknowledge it.
    pub(crate) fn may_owe(gate: &Gate) -> Result<(), Failure> {
        if !gate.asks_standby() || gate.acks().standby() != Standby::Away {
            return Ok(());
        }
        let group = gate.group();
        let text = format!(
            "switchover: group {group} acknowledges writes with its standby (ack: standby, fallback: auto), and the standby is away; \
             nothing was done: try again"
        );
        Err(ErrPacket::new(1290, b"HY000", text).into())
    }

    /// Sends a statement, and gives the client its answer when the standby has what it has committed.
    pub(crate) async fn send_owing(
        &mut self,
        framed: &[u8],
        at: usize,
        expect: Expect,
        (facts, held): (&Facts, Held),
    ) -> Result<Sent, Fatal> {
        let several = self.several_take_part();
        let mut kept = Vec::new();
        let sent = {
            let Session { client, legs, .. } = self;
            let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
            leg.busy = true;
            leg.answered = false;
            leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
            let part = Part { expect, more: false, columns: &[], held };
            relay_part(client, leg, &mut 1, &part, Some(&mut kept)).await?
        };
        let Sent::Answered(outcome) = sent else { return Ok(sent) };
        self.after_part(at, several, &outcome).await?;
        self.pay_and_answer(facts, &outcome, &kept).await?;
        Ok(Sent::Answered(outcome))
    }

    /// Gives the client the answer that was kept from it, when the standby has what it stands for; else the error in its place.
    pub(crate) async fn pay_and_answer(&mut self, facts: &Facts, outcome: &Outcome, held: &[u8]) -> Result<(), Fatal> {
        let open = self.in_transaction() && !may_begin_the_next(facts);
        match self.pay(outcome, open).await {
            Ok(()) => self.client.write(held).await.map_err(Fatal::client),
            Err(Fatal::Closed(error)) => {
                let mut out = Vec::new();
                error.put(&mut out, held.get(HEADER - 1).copied().unwrap_or(1));
                self.client.write(&out).await.map_err(Fatal::client)?;
                Err(Fatal::Told(error))
            }
            Err(fatal) => Err(fatal),
        }
    }

    /// Waits for the standby, where the statement has committed something: neither has it failed, nor is it part of what is open still.
    pub(crate) async fn pay(&mut self, outcome: &Outcome, open: bool) -> Result<(), Fatal> {
        if outcome.error.is_some() || open {
            return Ok(());
        }
        let owed: Vec<_> = self.passes.iter().map(|p| std::sync::Arc::clone(p.gate())).collect();
        for gate in owed.into_iter().filter(|g| g.asks_standby()) {
            let Some(keeping) = self.live.config().group_by_name(gate.group()).map(|g| g.keeping) else { continue };
            if gate.acks().standby() == Standby::Degraded {
                gate.acks().was_alone();
                continue;
            }
            let number = gate.acks().ask();
            let settled = gate.acks().settled(number, Instant::now() + keeping.ack_timeout).await;
            if settled {
                continue;
            }
            if keeping.fallback == Fallback::Manual {
                gate.acks().was_alone();
                continue;
            }
            let text = format!(
                "switchover: the authority of group {} has committed this, and the standby has not confirmed it within {} ms",
                gate.group(),
                keeping.ack_timeout.as_millis()
            );
            return Err(Fatal::Closed(ErrPacket::new(1180, b"HY000", text)));
        }
        Ok(())
    }
}
