//! Statements of groups with a standby: they wait at the group's gate while its authority changes, and what a sealed store
//! refused before it had an effect is routed again, unseen by the client.
//!
//! A pass is taken by what writes, and by what binds a transaction to the group's store, and is kept until nothing of it is open.
//! Reads outside transactions take none and never wait.

use std::rc::Rc;
use std::sync::Arc;

use tokio::time::{Duration, Instant};

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::core::Live;
use super::journaled::{is_one_for_all, statement};
use super::owed::may_commit;
use super::query::Plan;
use super::recorded::{Place, Recording, Sending};
use super::relay::{self, rolls_back};
use crate::config::GroupId;
use crate::routing::gate::{Gate, SEALED};
use crate::sql::Facts;
use crate::sql::facts::{Access, Flags, Kind};
use crate::wire::reply::{Event, Expect, Outcome, Reply};
use crate::wire::{ErrPacket, Status, packet};

/// Between two looks at a store that is sealed still.
const AGAIN: Duration = Duration::from_millis(25);

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
}

/// What became of a statement that was sent.
pub(crate) enum Sent {
    /// The client has its answer.
    Answered(Outcome),
    /// The store is sealed: nothing happened, and the client knows of nothing. The number of the packet that would say so.
    Sealed(u8),
}

/// Whether it may write the table, or lock rows of it.
fn may_write(access: Access, kind: &Kind) -> bool {
    match access {
        Access::Describe | Access::Read => matches!(kind, Kind::Call | Kind::Compound | Kind::LockTables(_)),
        Access::Call | Access::LockingRead | Access::Write | Access::Ddl => true,
    }
}

/// Whether an error is that of a sealed store.
pub(crate) fn is_seal(error: &ErrPacket) -> bool {
    error.code == 1644 && error.message.starts_with(SEALED.as_bytes())
}

impl Session {
    /// Whether what runs now becomes part of a transaction that may write.
    fn binds(&self) -> bool {
        let open = self.transaction.explicit
            || self.in_transaction()
            || self.state.tables_locked
            || !self.home_status().contains(Status::AUTOCOMMIT);
        open && !self.transaction.read_only
    }

    /// The gates that a statement must pass: those of its groups with a standby, where it writes, or binds its transaction.
    fn gates_of(&self, facts: &Facts) -> Vec<(GroupId, Arc<Gate>)> {
        let binds = self.binds();
        self.gates_where(facts, |access| binds || may_write(access, &facts.kind))
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
        self.has_to_pass(facts) || self.is_rescued(facts)
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
            Care::Reads | Care::Rescued => !self.binds() || !self.has_to_pass(facts),
        };
        free.then(|| care == Care::Rescued && !self.binds())
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
            if let Some(pass) = self.passes.iter().find(|p| p.is_for(&gate)) {
                ticket.fresh |= !pass.is_used();
                continue;
            }
            Session::may_owe(&gate)?;
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
        let begun = Instant::now();
        let limit = gate.hold_max();
        loop {
            if let Some(pass) = gate.enter() {
                if begun.elapsed() > Duration::ZERO {
                    gate.has_waited(begun.elapsed());
                }
                self.passes.push(pass);
                return Ok(());
            }
            if !gate.opened(begun + limit).await {
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

    /// Runs a statement where it is routed, again where its store was sealed; the leg, and what came of it.
    pub(crate) async fn run_routed(
        &mut self,
        framed: &[u8],
        facts: &Facts,
        plan: Option<&Rc<Plan>>,
    ) -> Result<(usize, Outcome), Failure> {
        let mut attempts = Attempts::default();
        loop {
            let ticket = self.pass_gates(facts).await?;
            if let Some(group) = self.journaled(facts) {
                let payload = packet::payload(framed);
                let sql = statement(payload.get(1..).unwrap_or_default());
                if plan.is_none() {
                    self.must_be_recorded(facts)?;
                }
                let (plan, sending) = (plan.map(AsRef::as_ref), Sending::Text(sql, is_one_for_all(sql)));
                let recording = Recording { facts, plan, group, sql, sending, place: Place::ALONE };
                match Box::pin(self.record_routed(&recording, ticket.as_ref(), &mut attempts)).await? {
                    Recorded::Done(at, outcome) => return Ok((at, outcome)),
                    Recorded::Again => continue,
                }
            }
            let before = ticket.as_ref().map_or(self.passes.len(), |t| t.before);
            let ready = async {
                let at = self.target(facts, plan.map(AsRef::as_ref)).await?;
                self.before(facts, at).await?;
                Ok::<usize, Failure>(at)
            };
            let at = match Box::pin(ready).await {
                Ok(at) => at,
                Err(failure) => {
                    Box::pin(self.survive(facts, (before, false), failure, &mut attempts)).await?;
                    continue;
                }
            };
            let sent = match &ticket {
                None => self.send_or_owe(framed, at, Expect::Results, facts).await,
                Some(_) => self.send_gated(framed, at, Expect::Results, facts).await,
            };
            match (sent, &ticket) {
                (Ok(Sent::Answered(outcome)), _) => return Ok((at, outcome)),
                (Ok(Sent::Sealed(sequence)), Some(_)) if facts.flags.contains(Flags::LOCAL_INFILE) => {
                    return Ok((at, self.sealed_file(facts, at, sequence).await?));
                }
                (Ok(Sent::Sealed(_)), Some(ticket)) => self.sealed(facts, ticket, at, &mut attempts).await?,
                (Ok(Sent::Sealed(_)), None) => {}
                (Err(fatal), _) => {
                    Box::pin(self.survive(facts, (before, true), fatal.into(), &mut attempts)).await?;
                }
            }
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
                self.sealed(facts, ticket.unwrap_or(&none), at, attempts).await?;
                Ok(Recorded::Again)
            }
            Err(failure) => {
                Box::pin(self.survive(facts, (before, true), failure, attempts)).await?;
                Ok(Recorded::Again)
            }
        }
    }

    /// As [`Session::send_relay`], but a sealed store's refusal is kept from the client.
    pub(crate) async fn send_gated(
        &mut self,
        framed: &[u8],
        at: usize,
        expect: Expect,
        facts: &Facts,
    ) -> Result<Sent, Fatal> {
        if self.owes() && may_commit(facts) {
            return self.send_owing(framed, at, expect).await;
        }
        self.send_sealable(framed, at, expect).await
    }

    async fn send_sealable(&mut self, framed: &[u8], at: usize, expect: Expect) -> Result<Sent, Fatal> {
        let several = self.several_take_part();
        let Session { client, legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        leg.busy = true;
        leg.answered = false;
        leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
        let mut reply = Reply::new(expect, leg.backend.capabilities);
        reply.hold_errors(true);
        if relay::run(client, leg, &mut reply).await? != Event::Error {
            return Ok(Sent::Answered(*reply.outcome()));
        }
        let error = leg.backend.stream.read_message(packet::MAX_PAYLOAD).await;
        let (sequence, payload) = error.map_err(|e| leg.lost(e))?;
        leg.busy = false;
        if ErrPacket::read(&payload).is_ok_and(|e| is_seal(&e)) {
            return Ok(Sent::Sealed(sequence));
        }
        if several && (reply.outcome().error.is_some_and(rolls_back) || !self.still_in_transaction(at).await?) {
            self.roll_back_all_but(at).await?;
        }
        self.client.write_message(sequence, &payload).await.map_err(Fatal::client)?;
        Ok(Sent::Answered(*reply.outcome()))
    }

    /// After a sealed store's refusal: waits for the group's new authority, where the statement can go there as if nothing had
    /// been; else the transaction ends, with an error that a retry mends.
    pub(crate) async fn sealed(
        &mut self,
        facts: &Facts,
        ticket: &Ticket,
        at: usize,
        attempts: &mut Attempts,
    ) -> Result<(), Failure> {
        let (store, group, gates) = self.met_seal(facts, at);
        if !ticket.fresh || facts.flags.contains(Flags::LOCAL_INFILE) || !self.lets_go(at).await? {
            return Err(self.lost_to_seal(&group, &store).await?.into());
        }
        // whoever waits is not in the way of who drains
        self.passes.truncate(ticket.before);
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
                return Ok(());
            }
            if let Some(gate) = gates.first() {
                let held = gate.is_held();
                gate.change(AGAIN).await;
                // the store that refused may be the one that serves: its seal is about to be taken off
                if !held && !gate.is_held() && serves(self.newest.load()) {
                    return Ok(());
                }
            }
        }
    }

    /// The store that has refused, the group, and its gates, which know of it now.
    fn met_seal(&self, facts: &Facts, at: usize) -> (String, String, Vec<Arc<Gate>>) {
        let store = self.legs.get(at).map(|l| l.name.clone()).unwrap_or_default();
        let gates: Vec<Arc<Gate>> = self.gates_of(facts).into_iter().map(|(_, gate)| gate).collect();
        gates.iter().for_each(|gate| gate.met_seal());
        let group = gates.first().map(|g| g.group().to_owned()).unwrap_or_default();
        (store, group, gates)
    }

    /// A sealed store has refused a client's file, which is not sent twice: the client hears of it behind its last packet, where
    /// the store would have said it.
    async fn sealed_file(&mut self, facts: &Facts, at: usize, sequence: u8) -> Result<Outcome, Fatal> {
        let (store, group, _) = self.met_seal(facts, at);
        let error = self.lost_to_seal(&group, &store).await?;
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
