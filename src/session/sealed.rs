//! What a sealed store says, and what follows: where nothing of the statement's transaction has run, it goes to the group's new
//! authority as if nothing had been; else the client hears what a retry mends.
//!
//! A seal of triggers says so itself ([`SEALED`]). A store that is sealed by `rename` says that there is no such table, as one does
//! where there is none: which it is, only the control account can tell, and so the group's watcher is asked
//! ([`crate::routing::moved`]). The seal may have been taken off between the store's word and the watcher's look: so a "no" counts
//! when the store has said it once more. What would not hear of a seal, or could not be routed again, asks before it runs, where this
//! proxy may have slept through a cutover.
//!
//! Where the client has something of the answer already (the columns of INSERT … RETURNING, a result of CALL), or a routine may have
//! committed something, nothing is routed again: the client hears it where the store would have said it.
//!
//! Reads meet such a seal as well, and only there: they take no pass, so they go on while a cutover waits for writers, and wait from
//! the moment at which the tables move to the one at which the new authority is routed to.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::core::Live;
use super::guard::{Attempts, Ticket};
use crate::config::GroupId;
use crate::routing::gate::{Gate, SEALED};
use crate::routing::moved::Found;
use crate::sql::Facts;
use crate::sql::facts::{Flags, Kind};
use crate::wire::ErrPacket;
use crate::wire::reply::Outcome;

/// Between two looks at a store that is sealed still.
const AGAIN: Duration = Duration::from_millis(25);

/// What became of a statement that was sent.
pub(crate) enum Sent {
    /// The client has its answer.
    Answered(Outcome),
    /// The store is sealed, and has undone the statement. The number of the packet that would say so.
    Sealed(u8),
    /// The store says that there is no such table, and the client knows of nothing.
    Missing(Missing),
}

/// An error that is kept from the client until it is known whose it is.
pub(crate) struct Missing {
    /// The number of its packet.
    pub(crate) sequence: u8,
    /// Its packet.
    pub(crate) payload: Vec<u8>,
    /// The statement's outcome, if it is the statement's.
    pub(crate) outcome: Outcome,
}

/// Which errors are kept from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Held {
    /// Those of a seal of triggers.
    pub(crate) seals: bool,
    /// Those that may be of a seal by `rename`.
    pub(crate) missing: bool,
}

/// Whether an error is that of a sealed store.
pub(crate) fn is_seal(error: &ErrPacket) -> bool {
    error.code == 1644 && error.message.starts_with(SEALED.as_bytes())
}

/// Whether an error may be that of a store that is sealed by `rename`: no such table, to be read, written or dropped; a view whose
/// table is not there, to be read or written, explained, altered or dropped.
pub(crate) fn is_missing(error: &ErrPacket) -> bool {
    matches!(error.code, 1146 | 1051 | 1356 | 1345 | 1347 | 1965)
}

/// Whether a statement that met a table that is not there has had no effect: a routine may have, before it came to that table, and
/// DROP of several.
fn has_done_nothing(facts: &Facts) -> bool {
    let partly = facts.kind == Kind::Ddl && facts.tables.len() > 1;
    !partly && !may_have_committed(facts) && !facts.flags.contains(Flags::CALLS_ROUTINE)
}

/// Whether a statement that was refused may have committed something before: a routine, or a block, outside a transaction.
fn may_have_committed(facts: &Facts) -> bool {
    matches!(facts.kind, Kind::Call | Kind::Compound)
}

impl Session {
    /// What of a statement's errors is kept from the client; `gated` where it has taken a pass.
    pub(crate) fn held(&self, facts: &Facts, gated: bool) -> Held {
        Held { seals: gated, missing: has_done_nothing(facts) && self.may_have_moved(facts) }
    }

    /// Whether the tables of a statement may be away, at a store that is sealed by `rename`.
    pub(crate) fn may_have_moved(&self, facts: &Facts) -> bool {
        self.live.gates.may_move() && self.gates_where(facts, |_| true).iter().any(|(_, gate)| gate.moved().may())
    }

    /// Whether it must be known, before a statement runs, that its store is not sealed: it might not hear of it, or could not be
    /// routed again; and this proxy may have slept through a cutover.
    pub(crate) fn is_in_doubt(&self, facts: &Facts) -> bool {
        let late = self.asks_unseen(facts)
            || !has_done_nothing(facts)
            || facts.kind == Kind::Ddl
            || facts.flags.contains(Flags::LOCAL_INFILE);
        late && !self.live.gates.is_empty()
            && self.gates_where(facts, |_| true).iter().any(|(_, gate)| gate.moved().may_have_slept())
    }

    /// Whether the store of this leg is sealed for a group of a statement that is in doubt.
    pub(crate) async fn is_sealed(&mut self, facts: &Facts, at: usize) -> Result<bool, Failure> {
        for (_, gate) in self.gates_where(facts, |_| true) {
            if self.look_at(&gate, at).await?.sealed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A store says that a statement's table is not there: whether the statement is to be tried again; else the error is its own.
    pub(crate) async fn missed(
        &mut self,
        facts: &Facts,
        ticket: Option<&Ticket>,
        at: usize,
        attempts: &mut Attempts,
    ) -> Result<bool, Failure> {
        if self.has_moved(facts, at).await? {
            self.sealed(facts, ticket, at, attempts).await?;
            return Ok(true);
        }
        Ok(!std::mem::replace(&mut attempts.missed, true))
    }

    /// Whether tables of a statement's groups are away at this leg's store.
    pub(crate) async fn has_moved(&self, facts: &Facts, at: usize) -> Result<bool, Failure> {
        for (_, gate) in self.gates_where(facts, |_| true).into_iter().filter(|(_, gate)| gate.moved().may()) {
            if self.look_at(&gate, at).await?.away {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How the store of this leg is found.
    async fn look_at(&self, gate: &Gate, at: usize) -> Result<Found, Failure> {
        let store = self.legs.get(at).map(|l| l.name.as_str()).unwrap_or_default();
        gate.look_at(store, Instant::now() + gate.hold_max()).await.ok_or_else(|| {
            let group = gate.group();
            let text = format!(
                "switchover: whether store {store} is sealed for group {group} cannot be told; nothing was done: try again"
            );
            ErrPacket::new(1205, b"HY000", text).into()
        })
    }

    /// Gives the client an error that was kept from it, and is its own.
    pub(crate) async fn tell_missing(&mut self, at: usize, missing: &Missing) -> Result<Outcome, Fatal> {
        let several = self.several_take_part();
        self.after_part(at, several, &missing.outcome).await?;
        self.client.write_message(missing.sequence, &missing.payload).await.map_err(Fatal::client)?;
        Ok(missing.outcome)
    }

    /// After a sealed store's refusal: waits for the group's new authority, where the statement can go there as if nothing had
    /// been; else the transaction ends, with an error that a retry mends.
    pub(crate) async fn sealed(
        &mut self,
        facts: &Facts,
        ticket: Option<&Ticket>,
        at: usize,
        attempts: &mut Attempts,
    ) -> Result<(), Failure> {
        let (store, group, gates) = self.met_seal(facts, at);
        let fresh = ticket.is_none_or(Ticket::is_fresh);
        if !fresh || !self.lets_go(at).await? {
            return Err(self.lost_to_seal(&group, &store).await?.into());
        }
        // whoever waits is not in the way of who drains
        if let Some(ticket) = ticket {
            self.passes.truncate(ticket.before());
        }
        let limit = self.hold_max(&group);
        let deadline = *attempts.deadline.get_or_insert_with(|| Instant::now() + limit);
        let serves = |live: &Live| {
            let group = live.config().group_by_name(&group);
            group.is_some_and(|g| live.config().store_name(g.connection) == store)
        };
        loop {
            if Instant::now() >= deadline {
                let text = format!(
                    "switchover: store {store} is sealed for group {group}, and no other store serves it yet; nothing was done: try again"
                );
                return Err(ErrPacket::new(1205, b"HY000", text).into());
            }
            if !serves(self.newest.load()) {
                break;
            }
            let Some((_, gate)) = gates.first() else { break };
            let held = gate.is_held();
            gate.change(AGAIN).await;
            // the store that refused may be the one that serves: its seal is about to be taken off
            if !held && !gate.is_held() && serves(self.newest.load()) {
                break;
            }
        }
        // (whoever takes a pass adopts it there)
        if ticket.is_none() {
            let groups: Vec<GroupId> = gates.iter().map(|(group, _)| *group).collect();
            self.adopt(&groups);
        }
        Ok(())
    }

    /// The store that has refused, the group, and its gates, which know of it now.
    fn met_seal(&self, facts: &Facts, at: usize) -> (String, String, Vec<(GroupId, Arc<Gate>)>) {
        let store = self.legs.get(at).map(|l| l.name.clone()).unwrap_or_default();
        let mut gates = self.gates_of(facts);
        if gates.is_empty() {
            gates = self.gates_where(facts, |_| true);
        }
        gates.iter().for_each(|(_, gate)| gate.met_seal());
        let group = gates.first().map(|(_, g)| g.group().to_owned()).unwrap_or_default();
        (store, group, gates)
    }

    /// Whether what a sealed store has refused cannot be routed again: the client has something of its answer (for a file, that it is
    /// asked for), or something of it may be committed.
    pub(crate) fn is_under_way(&self, facts: &Facts, at: usize) -> bool {
        may_have_committed(facts) || self.legs.get(at).is_some_and(|leg| leg.answered)
    }

    /// A sealed store has refused what was under way: the client hears of it behind its last packet, where the store would have said
    /// it.
    pub(crate) async fn sealed_under_way(&mut self, facts: &Facts, at: usize, sequence: u8) -> Result<Outcome, Fatal> {
        let (store, group, _) = self.met_seal(facts, at);
        let mut error = self.lost_to_seal(&group, &store).await?;
        if may_have_committed(facts) {
            error.message.extend_from_slice(b" (what a routine had committed by itself stays)");
        }
        let mut out = Vec::new();
        error.put(&mut out, sequence);
        self.client.write(&out).await.map_err(Fatal::client)?;
        Ok(Outcome { error: Some(error.code), ..Outcome::default() })
    }

    /// A refused statement leaves the table's metadata lock to its transaction, in the way of the seal that is not complete yet: the
    /// leg begins its transaction again, where that has done nothing there; whether it could.
    async fn lets_go(&mut self, at: usize) -> Result<bool, Failure> {
        let Some(leg) = self.legs.get(at).filter(|l| l.in_transaction()) else { return Ok(true) };
        if leg.touched || leg.wrote || self.transaction.has_savepoints() {
            return Ok(false);
        }
        // (the chained one has the characteristics of the one before it)
        let again = if at == 0 && self.transaction.explicit { "ROLLBACK AND CHAIN" } else { "ROLLBACK" };
        Ok(self.tell(at, again).await?.is_ok())
    }

    /// The transaction has used the store that is sealed now: it ends everywhere, as a deadlock's victim does.
    pub(crate) async fn lost_to_seal(&mut self, group: &str, store: &str) -> Result<ErrPacket, Fatal> {
        self.roll_back_all_but(usize::MAX).await?;
        self.transaction_over();
        self.publish_transaction();
        let text = format!(
            "switchover: group {group} has left store {store} while this transaction was open, and it was rolled back: try again"
        );
        Ok(ErrPacket::new(1213, b"40001", text))
    }
}
