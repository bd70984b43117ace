//! Statements of groups with a standby: they wait at the group's gate while its authority changes. What a sealed store refused
//! before it had an effect is routed again, unseen by the client: [`super::sealed`].
//!
//! A pass is taken by what writes, and by what binds a transaction to the group's store, and is kept until nothing of it is open.
//! Reads outside transactions take none and never wait.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::core::Live;
use super::owed::may_leave_something;
use super::recorded::Recording;
use super::relay;
use super::sealed::{Held, Missing, Sent, is_missing, is_seal};
use crate::config::GroupId;
use crate::routing::gate::Gate;
use crate::sql::Facts;
use crate::sql::facts::{Access, Flags, Kind};
use crate::wire::reply::{Event, Expect, Outcome, Reply};
use crate::wire::{ErrPacket, Status, packet};

/// The epoch of a snapshot that one transaction made up for itself: no decision is remembered under it.
pub(crate) const MIXED: u64 = u64::MAX;

/// What a statement of a group with a standby was let in with. Asking for it once more changes nothing.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    /// The first of its transaction in one of its groups: nothing of the transaction is in that group's store yet.
    fresh: bool,
    /// How many passes the session had before.
    before: usize,
}

/// What became of a write that was to be recorded.
pub(crate) enum Recorded {
    /// The client has its answer, from this leg.
    Done(usize, Outcome),
    /// It had no effect, and is to be routed again.
    Again,
}

impl Ticket {
    /// How many passes the session had before.
    pub(crate) fn before(&self) -> usize {
        self.before
    }

    /// Whether nothing of its transaction is in the group's store yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }
}

/// What a statement has to do with the gates of its groups, by its text and the configuration alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// No group of its has a gate.
    None,
    /// It only reads,
    Reads,
    /// and may be asked again where its store fails.
    Rescued,
    /// It may write.
    Writes,
}

/// How often, and until when, a statement is routed again.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) deadline: Option<Instant>,
    /// Its store has said once that there is no such table, and was not sealed when it was looked at.
    pub(crate) missed: bool,
}

/// Whether it may write the table, or lock rows of it.
fn may_write(access: Access, kind: &Kind) -> bool {
    match access {
        Access::Describe | Access::Read => matches!(kind, Kind::Call | Kind::Compound | Kind::LockTables(_)),
        Access::Call | Access::LockingRead | Access::Write | Access::Ddl => true,
    }
}

impl Session {
    /// Whether what runs now becomes part of a transaction that may write.
    fn binds(&self) -> bool {
        let open = self.transaction.explicit
            || self.in_transaction()
            || self.state.tables_locked
            || !self.home_status().contains(Status::AUTOCOMMIT);
        // (one that only reads meets a seal by `rename` too)
        open && (!self.transaction.read_only || self.live.gates.may_move())
    }

    /// The gates that a statement must pass: those of its groups with a standby, where it writes, or binds its transaction.
    pub(crate) fn gates_of(&self, facts: &Facts) -> Vec<(GroupId, Arc<Gate>)> {
        let passes = self.binds() || self.asks_unseen(facts);
        self.gates_where(facts, |access| passes || may_write(access, &facts.kind))
    }

    /// Whether a table that is away would be no error to it, but an answer without that table: it waits, as a write does.
    pub(super) fn asks_unseen(&self, facts: &Facts) -> bool {
        (facts.kind == Kind::Show || facts.flags.contains(Flags::SYSTEM_TABLES)) && self.live.gates.may_move()
    }

    /// The gates of a statement's groups with a standby, by what it does with their tables.
    pub(crate) fn gates_where(&self, facts: &Facts, counts: impl Fn(Access) -> bool) -> Vec<(GroupId, Arc<Gate>)> {
        let mut found: Vec<(GroupId, Arc<Gate>)> = Vec::new();
        let database = self.state.database.as_deref();
        for table in &facts.tables {
            if !counts(table.access) {
                continue;
            }
            let db = table.database.as_deref().or(database);
            if self.state.temporary.get(db, &table.name).is_some() {
                continue;
            }
            let Some(group) = self.live.snapshot.locate(table, database).group else { continue };
            if found.iter().any(|(g, _)| *g == group) {
                continue;
            }
            found.extend(self.live.gates.get(group).map(|gate| (group, Arc::clone(gate))));
        }
        found
    }

    /// Whether a statement goes with care: it has a gate to pass, or writes where it has passed one.
    pub(crate) fn is_gated(&self, facts: &Facts) -> bool {
        if self.live.gates.is_empty() || facts.tables.is_empty() {
            return false;
        }
        self.has_to_pass(facts) || self.is_rescued(facts) || self.may_have_moved(facts)
    }

    fn has_to_pass(&self, facts: &Facts) -> bool {
        let gates = self.gates_of(facts);
        let writes = facts.tables.iter().any(|t| may_write(t.access, &facts.kind));
        gates.iter().any(|(_, gate)| writes || !self.passes.iter().any(|p| p.is_for(gate)))
    }

    /// What a statement has to do with gates, whatever the session's state.
    pub(crate) fn care_of(&self, facts: &Facts) -> Care {
        if self.live.gates.is_empty() || facts.tables.is_empty() {
            return Care::None;
        }
        let gates = self.gates_where(facts, |_| true);
        if gates.is_empty() {
            Care::None
        } else if facts.tables.iter().any(|t| may_write(t.access, &facts.kind)) {
            Care::Writes
        } else if gates.iter().any(|(_, gate)| gate.falls_back()) {
            Care::Rescued
        } else {
            Care::Reads
        }
    }

    /// Whether a plain statement goes the hot path, and with its bytes kept; nothing, where it does not.
    pub(crate) fn hot_care(&self, facts: &Facts, care: Care) -> Option<bool> {
        let free = match care {
            Care::None => true,
            Care::Writes => false,
            Care::Reads | Care::Rescued => !(self.binds() || self.asks_unseen(facts)) || !self.has_to_pass(facts),
        };
        free.then(|| match care {
            Care::None | Care::Writes => false,
            Care::Reads => self.live.gates.may_move() && !self.binds(),
            Care::Rescued => !self.binds(),
        })
    }

    /// Takes the passes that a statement needs; waits where a gate is closed.
    pub(crate) async fn pass_gates(&mut self, facts: &Facts) -> Result<Option<Ticket>, Failure> {
        if self.live.gates.is_empty() {
            return Ok(None);
        }
        if facts.kind != Kind::Write {
            self.must_be_recorded(facts)?;
        }
        let gates = self.gates_of(facts);
        if gates.is_empty() {
            return Ok(None);
        }
        let mut ticket = Ticket { fresh: false, before: self.passes.iter().filter(|p| p.is_used()).count() };
        let mut adopted = Vec::new();
        for (group, gate) in gates {
            let pass = self.passes.iter().find(|p| p.is_for(&gate));
            if may_leave_something(facts) && (pass.is_none() || !self.transaction.wrote) {
                Session::may_owe(&gate)?;
            }
            if let Some(pass) = pass {
                ticket.fresh |= !pass.is_used();
                continue;
            }
            self.enter(&gate).await?;
            ticket.fresh = true;
            adopted.push(group);
        }
        if !adopted.is_empty() {
            self.adopt(&adopted);
        }
        // (the authority that it came to may have another log than the one before)
        if facts.kind != Kind::Write {
            self.must_be_recorded(facts)?;
        }
        Ok(Some(ticket))
    }

    async fn enter(&mut self, gate: &Arc<Gate>) -> Result<(), Failure> {
        let limit = gate.hold_max();
        let mut waits: Option<Instant> = None;
        loop {
            if let Some(pass) = gate.enter() {
                if let Some(begun) = waits {
                    gate.has_waited(begun.elapsed());
                }
                self.passes.push(pass);
                return Ok(());
            }
            let begun = *waits.get_or_insert_with(Instant::now);
            if !gate.opened(begun + limit).await {
                gate.has_waited(begun.elapsed());
                let text = format!(
                    "switchover: group {} is held for a change of its authority, for more than {} ms; nothing was done: try again",
                    gate.group(),
                    limit.as_millis()
                );
                return Err(ErrPacket::new(1205, b"HY000", text).into());
            }
        }
    }

    pub(crate) fn hold_max(&self, group: &str) -> Duration {
        self.live.config().group_by_name(group).map_or(Duration::from_secs(10), |g| g.keeping.hold_max)
    }

    /// The newest authority of these groups is this transaction's: nothing of it is on their stores yet.
    pub(crate) fn adopt(&mut self, groups: &[GroupId]) {
        let newest = Arc::clone(self.newest.load());
        if Arc::ptr_eq(&newest, &self.live) {
            return;
        }
        if !self.in_transaction() && !self.state.tables_locked {
            return self.newest_snapshot();
        }
        let Some(live) = merged(&self.live, &newest, groups) else { return };
        self.live = Arc::new(live);
    }

    /// Gives passes back of which nothing is open any more.
    pub(crate) fn leave_gates(&mut self) {
        if !self.in_transaction() && !self.state.tables_locked {
            self.passes.clear();
        }
    }

    /// Runs and records a write of a group whose authority has a journal, once: where its store was sealed, or has failed, before it
    /// had an effect, it is to be routed again.
    pub(crate) async fn record_routed(
        &mut self,
        recording: &Recording<'_>,
        ticket: Option<&Ticket>,
        attempts: &mut Attempts,
    ) -> Result<Recorded, Failure> {
        let facts = recording.facts;
        let before = ticket.map_or(self.passes.len(), Ticket::before);
        match Box::pin(self.run_recorded(recording)).await {
            Ok((at, Some(outcome))) => Ok(Recorded::Done(at, outcome)),
            Ok((at, None)) => {
                let none = Ticket::default();
                self.sealed(facts, Some(ticket.unwrap_or(&none)), at, attempts).await?;
                Ok(Recorded::Again)
            }
            Err(failure) => {
                Box::pin(self.survive(facts, (before, true), failure, attempts)).await?;
                Ok(Recorded::Again)
            }
        }
    }

    /// As [`Session::send_relay`], but what is `held` is kept from the client; and its answer, until the standby has what it
    /// committed, where that is owed.
    pub(crate) async fn send_held(
        &mut self,
        framed: &[u8],
        at: usize,
        expect: Expect,
        (facts, held): (&Facts, Held),
    ) -> Result<Sent, Fatal> {
        if self.owes(facts) {
            return self.send_owing(framed, at, expect, (facts, held)).await;
        }
        if held == Held::default() {
            return self.send_relay(framed, at, expect).await.map(Sent::Answered);
        }
        self.send_sealable(framed, at, expect, held).await
    }

    async fn send_sealable(&mut self, framed: &[u8], at: usize, expect: Expect, held: Held) -> Result<Sent, Fatal> {
        let Session { legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        leg.busy = true;
        leg.answered = false;
        leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
        self.relay_sealable(at, expect, held).await
    }

    /// Relays the response to a command that was sent, but for what is `held`.
    pub(crate) async fn relay_sealable(&mut self, at: usize, expect: Expect, held: Held) -> Result<Sent, Fatal> {
        {
            let Session { client, legs, .. } = &mut *self;
            let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
            relay::fill_watching(client, leg).await?;
        }
        self.relay_begun(at, expect, held).await
    }

    /// The same, where something of it was read already.
    pub(crate) async fn relay_begun(&mut self, at: usize, expect: Expect, held: Held) -> Result<Sent, Fatal> {
        let several = self.several_take_part();
        let Session { client, legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        let mut reply = Reply::new(expect, leg.backend.capabilities);
        reply.hold_errors(true);
        if relay::finish(client, leg, &mut reply).await? != Event::Error {
            return Ok(Sent::Answered(*reply.outcome()));
        }
        let error = leg.backend.stream.read_message(packet::MAX_PAYLOAD).await;
        let (sequence, payload) = error.map_err(|e| leg.lost(e))?;
        leg.busy = false;
        let error = ErrPacket::read(&payload).ok();
        if held.seals && error.as_ref().is_some_and(is_seal) {
            return Ok(Sent::Sealed(sequence));
        }
        let outcome = *reply.outcome();
        if held.missing && !leg.answered && error.as_ref().is_some_and(is_missing) {
            return Ok(Sent::Missing(Missing { sequence, payload, outcome }));
        }
        self.after_part(at, several, &outcome).await?;
        self.client.write_message(sequence, &payload).await.map_err(Fatal::client)?;
        Ok(Sent::Answered(outcome))
    }
}

/// `old` with the newest authority of these groups; the newest itself where nothing else differs.
fn merged(old: &Live, newest: &Arc<Live>, groups: &[GroupId]) -> Option<Live> {
    let mut config = old.config().clone();
    let mut moved = false;
    for id in groups {
        let group = config.groups.get_mut(usize::from(id.0))?;
        let wanted = newest.config().group_by_name(&group.name)?;
        let by_name = |id| old.snapshot.store_named(newest.config().store_name(id));
        let (connection, standby) = (by_name(wanted.connection)?, wanted.standby.and_then(by_name));
        moved |= group.connection != connection;
        group.connection = connection;
        group.standby = standby;
    }
    moved.then(|| Live {
        snapshot: old.snapshot.reflagged(Arc::new(config), MIXED),
        fleet: old.fleet.clone(),
        acceptor: old.acceptor.clone(),
        gates: old.gates.clone(),
    })
}
