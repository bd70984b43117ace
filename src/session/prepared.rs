//! Prepared statements of the binary protocol: they belong to the session, and are prepared on a store when they are routed there.
//!
//! Clients see ids of the session's own. When the flag has moved between prepare and execute, the statement is prepared on the
//! other store without the client noticing; the parameter types, which drivers send once, are put into its first execute there.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::time::Instant;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::figures::Sort;
use super::guard::Attempts;
use super::insight::{Came, Noted};
use super::query::{Frame, Plan};
use super::relay::relay;
use super::sealed::{Held, Sent};
use super::state::Under;
use crate::sql::Facts;
use crate::sql::classify::{AskedParameter, asked_parameters};
use crate::sql::facts::{Access, Flags, TableRef};
use crate::wire::codec::Reader;
use crate::wire::command::{COM_STMT_CLOSE, Command, LAST_PREPARED, execute_text, execute_types};
use crate::wire::packet::{self, HEADER};
use crate::wire::reply::{Expect, Outcome, Prepared};
use crate::wire::{Capabilities, ErrPacket, Status};

/// A statement.
pub(crate) struct Statement {
    pub(super) sql: Rc<[u8]>,
    pub(super) plan: Rc<Plan>,
    pub(super) parameters: u16,
    /// (generation of the leg, id there).
    pub(super) legs: Vec<(u64, u32)>,
    /// Generation of the leg that executed it last: its cursor is there.
    pub(super) last: u64,
    /// Generation of the leg whose column definitions the client has.
    pub(super) columns_of: u64,
    /// Parameter types as the client sent them last.
    pub(super) types: Vec<u8>,
    /// Parameters by which it asks information_schema for a table.
    pub(super) asked: Vec<AskedParameter>,
    /// COM_STMT_SEND_LONG_DATA payloads that wait for the execute.
    pub(super) long_data: Vec<Vec<u8>>,
    /// What its text was read under.
    pub(super) under: Under,
    /// It ran as text since: its store has not been sent the newest types.
    pub(super) untyped: bool,
}

/// All of a session.
#[derive(Default)]
pub(crate) struct Statements {
    by_id: HashMap<u32, Statement, BuildHasherDefault<IdHasher>>,
    last_id: u32,
    /// What id −1 means.
    last_prepared: Option<u32>,
}

/// Ids are the session's own, one after another: nobody can choose them so that they collide.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u32(u32::from(*b));
        }
    }

    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Statements {
    pub(super) fn get(&self, id: u32) -> Option<&Statement> {
        self.by_id.get(&id)
    }

    /// As after COM_RESET_CONNECTION.
    pub(crate) fn clear(&mut self) {
        *self = Statements { last_id: self.last_id, ..Statements::default() };
    }

    fn resolve(&self, id: u32) -> Option<u32> {
        let id = if id == LAST_PREPARED { self.last_prepared? } else { id };
        self.by_id.contains_key(&id).then_some(id)
    }

    /// One of them.
    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Statement> {
        self.by_id.get_mut(&id)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether a statement command names one of these.
    pub(crate) fn knows(&self, framed: &[u8]) -> bool {
        self.resolve(id_of(framed.get(HEADER..).unwrap_or_default())).is_some()
    }

    /// The plan of the statement that a command names.
    pub(crate) fn plan_for(&self, framed: &[u8]) -> Option<Rc<Plan>> {
        let id = self.resolve(id_of(framed.get(HEADER..).unwrap_or_default()))?;
        self.by_id.get(&id).map(|s| Rc::clone(&s.plan))
    }

    fn next_id(&mut self) -> u32 {
        loop {
            self.last_id = if self.last_id >= LAST_PREPARED - 1 { 1 } else { self.last_id + 1 };
            if !self.by_id.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

fn unknown(id: u32, what: &str) -> ErrPacket {
    ErrPacket::new(1243, b"HY000", format!("Unknown prepared statement handler ({id}) given to {what}"))
}

/// The id at the start of a statement command's payload.
fn id_of(payload: &[u8]) -> u32 {
    let mut r = Reader::new(payload.get(1..).unwrap_or_default());
    r.u32().unwrap_or(0)
}

impl Session {
    /// COM_STMT_PREPARE.
    pub(crate) async fn prepare(&mut self, frame: Frame) -> Result<(), Fatal> {
        let framed = self.framed(frame).to_vec();
        self.consume(frame);
        self.statements.last_prepared = None;
        match Box::pin(self.prepare_framed(&framed)).await {
            Ok(()) => Ok(()),
            Err(Failure::Session(fatal)) => Err(fatal),
            Err(Failure::Statement(error)) => self.refuse(&error).await,
        }
    }

    async fn prepare_framed(&mut self, framed: &[u8]) -> Result<(), Failure> {
        let started = Instant::now();
        let limit = self.live.config().limits.max_prepared_statements as usize;
        if self.statements.by_id.len() >= limit {
            return Err(ErrPacket::new(
                1461,
                b"42000",
                format!("switchover: can't create more than {limit} prepared statements in one session (limits.max_prepared_statements)"),
            )
            .into());
        }
        let payload = packet::payload(framed);
        let sql: Rc<[u8]> = payload.get(1..).unwrap_or_default().into();
        let plan = self.plan(&sql, &self.state.dialect);
        let id = self.statements.next_id();
        let (at, outcome) = self.prepare_carefully(framed, &plan, id).await?;
        let generation = self.legs.get(at).map_or(0, |l| l.generation);
        if let Some(Prepared { id: there, parameters, .. }) = outcome.prepared {
            self.statements.last_prepared = Some(id);
            let asks = plan.single().is_some_and(|f| f.flags.contains(Flags::SYSTEM_TABLES));
            let asked = if asks { asked_parameters(&sql, &self.state.dialect) } else { Vec::new() };
            let statement = Statement {
                asked,
                sql,
                plan: Rc::clone(&plan),
                parameters,
                legs: vec![(generation, there)],
                last: generation,
                columns_of: generation,
                types: Vec::new(),
                long_data: Vec::new(),
                under: self.state.under(),
                untyped: false,
            };
            self.statements.by_id.insert(id, statement);
        }
        if let Some(leg) = self.legs.get(at) {
            let (now, store, failed) = (Instant::now(), leg.store().0, outcome.error.is_some());
            let took = now.saturating_duration_since(started);
            self.core.figures.query(store, Sort::Other, took, failed);
            // (one that succeeds is counted when it is executed)
            if failed {
                self.count(Noted::new(Some(&plan), Came::Prepared, started), store, &outcome, now, took);
            }
        }
        self.state.last = generation;
        Ok(())
    }

    /// It changes nothing: where its store fails, or is sealed, it may be prepared on the next.
    async fn prepare_carefully(&mut self, framed: &[u8], plan: &Plan, id: u32) -> Result<(usize, Outcome), Failure> {
        let mut attempts = Attempts::default();
        loop {
            match (Box::pin(self.prepare_there(framed, plan, id)).await, plan.single()) {
                (Ok((at, Sent::Missing(missing))), facts) => {
                    let again = match facts {
                        Some(facts) => Box::pin(self.missed(facts, None, at, &mut attempts)).await?,
                        None => false,
                    };
                    if !again {
                        return Ok((at, self.tell_missing(at, &missing).await?));
                    }
                }
                (Ok((at, Sent::Answered(outcome))), _) => return Ok((at, outcome)),
                (Ok((_, Sent::Sealed(_))), _) => {}
                (Err(failure), Some(facts)) => {
                    let passes = self.passes.len();
                    Box::pin(self.survive(facts, (passes, false), failure, &mut attempts)).await?;
                }
                (Err(failure), None) => return Err(failure),
            }
        }
    }

    /// Prepares a text where it is routed; the answer has gone on with the session's own `id` in it.
    async fn prepare_there(&mut self, framed: &[u8], plan: &Plan, id: u32) -> Result<(usize, Sent), Failure> {
        let at = match plan.single() {
            Some(facts) => self.target(facts, Some(plan)).await?,
            None => 0,
        };
        self.bring_in_step(at, plan.single()).await?;
        let held = Held { seals: false, missing: plan.single().is_some_and(|f| self.may_have_moved(f)) };
        let mut there = 0;
        {
            let Session { legs, .. } = self;
            let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit.into()) };
            leg.busy = true;
            leg.answered = false;
            leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
            // the id stands in the first packet: it is replaced before anything is passed on
            while leg.backend.stream.buffered().len() < HEADER + 9 {
                if leg.backend.stream.buffered().get(HEADER) == Some(&0xFF) {
                    break;
                }
                leg.backend.fill().await.map_err(|e| leg.lost(e))?;
            }
            let head = leg.backend.stream.buffered_mut();
            if head.get(HEADER) == Some(&0)
                && let Some(slot) = head.get_mut(HEADER + 1..HEADER + 5)
            {
                there = Reader::new(slot).u32().unwrap_or(0);
                slot.copy_from_slice(&id.to_le_bytes());
            }
        }
        let mut sent = self.relay_begun(at, Expect::Prepare, held).await?;
        if let Sent::Answered(Outcome { prepared: Some(prepared), .. }) = &mut sent {
            prepared.id = there;
        }
        Ok((at, sent))
    }

    /// COM_STMT_EXECUTE and COM_STMT_BULK_EXECUTE.
    pub(crate) async fn execute(&mut self, frame: Frame, command: Command) -> Result<(), Fatal> {
        let started = Instant::now();
        let asked = id_of(self.framed(frame).get(HEADER..).unwrap_or_default());
        if let Some(most) = self.drawn() {
            self.sample_execute(most, asked, frame, command);
        }
        if let Some(place) = self.executes_in_place(asked) {
            return self.execute_in_place(frame, asked, place, command, started).await;
        }
        let Some(id) = self.statements.resolve(asked) else {
            self.consume(frame);
            let what = if command == Command::StmtExecute { "mysqld_stmt_execute" } else { "mysqld_stmt_bulk_execute" };
            return self.send_error(&unknown(asked, what)).await;
        };
        if asked == LAST_PREPARED && command == Command::StmtExecute && self.lacks_types(id, frame) {
            self.consume(frame);
            return self.send_error(&ErrPacket::new(1835, b"HY000", "Malformed communication packet")).await;
        }
        let framed = self.framed(frame).to_vec();
        let plan = self.statements.plan_for(&framed);
        self.consume(frame);
        match (Box::pin(self.execute_with_care(framed, id, command, started)).await, plan) {
            (Ok(()), _) => Ok(()),
            (Err(Failure::Session(fatal)), plan) => Err(fatal.during(plan.as_deref().and_then(Plan::single))),
            (Err(Failure::Statement(error)), Some(plan)) => self.refuse_one(&plan, came(command), &error).await,
            (Err(Failure::Statement(error)), None) => self.refuse(&error).await,
        }
    }

    #[cold]
    fn sample_execute(&mut self, most: u32, asked: u32, frame: Frame, command: Command) {
        let id = self.statements.resolve(asked).unwrap_or(asked);
        let plan = self.statements.get(id).map(|s| Rc::clone(&s.plan));
        let text = |s: &Session| s.execute_as_text(id, &packet::payload(s.framed(frame)), command);
        self.sample(most, plan.as_deref().and_then(Plan::single), text);
    }

    /// A store that is asked to execute "the one prepared last" wants types with it; it gets the id itself from us, and would not mind.
    fn lacks_types(&self, id: u32, frame: Frame) -> bool {
        let parameters = self.statements.by_id.get(&id).map_or(0, |s| s.parameters);
        let payload = self.framed(frame).get(HEADER..).unwrap_or_default();
        parameters > 0 && !execute_types(payload, parameters).is_some_and(|t| t.bound)
    }

    /// The hot path's condition: the statement's leg is ready for it, and it ran there last; the leg, its id there, and its plan.
    fn executes_in_place(&self, id: u32) -> Option<(usize, u32, bool, Rc<Plan>)> {
        let statement = self.statements.by_id.get(&id)?;
        let odd = statement.untyped || statement.under.is_elsewhere(&self.state);
        if odd || !(statement.long_data.is_empty() && statement.asked.is_empty()) {
            return None;
        }
        let (at, keeps) = self.hot_leg(&statement.plan)?;
        let here = self.legs.get(at)?.generation;
        let (_, there) = statement.legs.iter().find(|(g, _)| *g == here)?;
        (statement.last == here && statement.columns_of == here)
            .then(|| (at, *there, keeps, Rc::clone(&statement.plan)))
    }

    async fn execute_in_place(
        &mut self,
        frame: Frame,
        id: u32,
        (at, there, keeps, plan): (usize, u32, bool, Rc<Plan>),
        command: Command,
        started: Instant,
    ) -> Result<(), Fatal> {
        if keeps {
            self.keep(frame, at);
        }
        let bytes = match frame {
            Frame::Buffered(n) => self.client.buffered_mut().get_mut(..n).unwrap_or_default(),
            Frame::Gathered => self.gathered.as_mut_slice(),
        };
        if let Some(slot) = bytes.get_mut(HEADER + 1..HEADER + 5) {
            slot.copy_from_slice(&there.to_le_bytes());
        }
        let payload = bytes.get(HEADER..).unwrap_or_default();
        if let Some(statement) = self.statements.by_id.get_mut(&id) {
            remember_types(statement, payload, command);
        }
        let expect = expected(payload, command);
        let facts = plan.single();
        let sent = if keeps {
            Box::pin(self.forward_kept(frame, at, expect)).await
        } else {
            self.forward(frame, at, expect).await.map(Sent::Answered)
        };
        let outcome = match sent {
            Ok(Sent::Answered(outcome)) => outcome,
            Ok(Sent::Sealed(_) | Sent::Missing(_)) => {
                return Box::pin(self.execute_again(id, &plan, None, command, started)).await;
            }
            Err(fatal) if !keeps => return Err(fatal.during(facts)),
            Err(fatal) => return Box::pin(self.execute_again(id, &plan, Some(fatal), command, started)).await,
        };
        if self.lease.is_some() {
            self.note_cursor(id, outcome.status.filter(|_| outcome.result_set && outcome.rows == 0));
        }
        if let Some(facts) = facts {
            self.finish(Noted::new(Some(&plan), came(command), started), facts, at, &outcome);
        }
        Ok(())
    }

    pub(super) fn executed(&mut self, (id, command): (u32, Command), at: usize, outcome: &Outcome, started: Instant) {
        let generation = self.legs.get(at).map_or(0, |l| l.generation);
        let Some(statement) = self.statements.by_id.get_mut(&id) else { return };
        statement.last = generation;
        if outcome.result_set || !self.capabilities.contains(Capabilities::MARIADB_CACHE_METADATA) {
            statement.columns_of = generation;
        }
        statement.long_data.clear();
        let plan = Rc::clone(&statement.plan);
        if self.lease.is_some() {
            let cursor = outcome.status.filter(|_| outcome.result_set && outcome.rows == 0);
            self.note_cursor(id, cursor);
        }
        match plan.single() {
            Some(facts) => self.finish(Noted::new(Some(&plan), came(command), started), facts, at, outcome),
            None => {
                self.state.last = generation;
                self.note(None, outcome);
            }
        }
    }

    /// COM_STMT_FETCH and COM_STMT_RESET: to the leg that executed the statement last.
    pub(crate) async fn fetch_or_reset(&mut self, frame: Frame, command: Command) -> Result<(), Fatal> {
        let mut framed = self.framed(frame).to_vec();
        self.consume(frame);
        let asked = id_of(framed.get(HEADER..).unwrap_or_default());
        let (what, expect) = match command {
            Command::StmtFetch => ("mysqld_stmt_fetch", Expect::Fetch),
            _ => ("mysqld_stmt_reset", Expect::Ok),
        };
        let Some(statement) = self.statements.resolve(asked).and_then(|id| self.statements.by_id.get_mut(&id)) else {
            return self.send_error(&unknown(asked, what)).await;
        };
        if command == Command::StmtReset {
            statement.long_data.clear();
        }
        let generation = statement.last;
        let there = statement.legs.iter().find(|(g, _)| *g == generation).map(|(_, id)| *id);
        let (Some(there), Some(leg)) = (there, self.legs.iter_mut().find(|l| l.generation == generation)) else {
            return self.send_error(&unknown(asked, what)).await;
        };
        if let Some(slot) = framed.get_mut(HEADER + 1..HEADER + 5) {
            slot.copy_from_slice(&there.to_le_bytes());
        }
        leg.busy = true;
        leg.backend.stream.write(&framed).await.map_err(|e| leg.lost(e))?;
        let outcome = relay(&mut self.client, leg, expect).await?;
        if let Some(id) = self.statements.resolve(asked)
            && (command == Command::StmtReset || outcome.status.is_none_or(|s| s.contains(Status::LAST_ROW_SENT)))
        {
            self.note_cursor(id, None);
        }
        Ok(())
    }

    /// COM_STMT_SEND_LONG_DATA: kept until the execute is routed; it has no answer.
    pub(crate) fn long_data(&mut self, frame: Frame) {
        let payload = packet::payload(self.framed(frame)).into_owned();
        self.consume(frame);
        let limit = self.live.config().limits.max_allowed_packet;
        let Some(statement) =
            self.statements.resolve(id_of(&payload)).and_then(|id| self.statements.by_id.get_mut(&id))
        else {
            return;
        };
        let held: usize = statement.long_data.iter().map(Vec::len).sum();
        // beyond the limit the store refuses the execute (its max_long_data_size): what is kept is enough for that
        if ((held + payload.len()) as u64) <= limit.saturating_add(64 << 10) {
            statement.long_data.push(payload);
        }
    }

    /// COM_STMT_RESET takes back what COM_STMT_SEND_LONG_DATA brought.
    pub(crate) fn forget_long_data(&mut self, frame: Frame) {
        let asked = id_of(self.framed(frame).get(HEADER..).unwrap_or_default());
        if let Some(statement) = self.statements.resolve(asked).and_then(|id| self.statements.by_id.get_mut(&id)) {
            statement.long_data.clear();
        }
    }

    /// COM_STMT_CLOSE: it has no answer.
    pub(crate) async fn close_statement(&mut self, frame: Frame) -> Result<(), Fatal> {
        let id = id_of(self.framed(frame).get(HEADER..).unwrap_or_default());
        self.consume(frame);
        let Some(id) = self.statements.resolve(id) else { return Ok(()) };
        let Some(statement) = self.statements.by_id.remove(&id) else { return Ok(()) };
        self.note_cursor(id, None);
        for (generation, there) in statement.legs {
            if let Some(leg) = self.legs.iter_mut().find(|l| l.generation == generation && !l.broken) {
                leg.backend.send(COM_STMT_CLOSE, &there.to_le_bytes()).await.map_err(|e| leg.lost(e))?;
            } else {
                self.close_parked(generation, there).await;
            }
        }
        Ok(())
    }
}

/// Bytes before the types of COM_STMT_BULK_EXECUTE: command, id, flags.
const BULK_FIXED: usize = 7;
/// COM_STMT_BULK_EXECUTE: types follow.
const BULK_SEND_TYPES: u8 = 128;

/// The shape of the answer to an execute.
pub(super) fn expected(payload: &[u8], command: Command) -> Expect {
    match payload.get(5) {
        Some(cursor) if command == Command::StmtExecute && *cursor != 0 => Expect::Cursor,
        _ => Expect::Results,
    }
}

/// How a command that executes says that its statement came.
pub(super) fn came(command: Command) -> Came {
    if command == Command::StmtBulkExecute { Came::Bulk } else { Came::Prepared }
}

/// The tables that an execute asks information_schema for by its parameters (RULES.md 25).
pub(super) fn asked_tables(statement: &Statement, payload: &[u8], command: Command) -> Vec<TableRef> {
    if statement.asked.is_empty() || command != Command::StmtExecute {
        return Vec::new();
    }
    let bound = execute_types(payload, statement.parameters)
        .filter(|t| t.bound)
        .and_then(|t| payload.get(t.flag_at + 1..t.flag_at + 1 + t.bytes));
    let types = bound.unwrap_or(&statement.types);
    let long = |at: usize| {
        let number = u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes();
        statement.long_data.iter().any(|data| data.get(5..7) == Some(&number))
    };
    let value = |a: &AskedParameter| {
        let text = execute_text(payload, statement.parameters, types, long, a.index)?;
        Some(String::from_utf8_lossy(text).into_owned()).filter(|t| !t.contains('%'))
    };
    let database = statement.asked.iter().find(|a| !a.names_table).and_then(value);
    let names = statement.asked.iter().filter(|a| a.names_table).filter_map(value);
    names
        .map(|name| TableRef {
            database: database.as_deref().map(Into::into),
            name: name.into(),
            access: Access::Describe,
            span: Default::default(),
        })
        .collect()
}

pub(super) fn with_asked(facts: &Facts, asked: &[TableRef]) -> Facts {
    let mut facts = facts.clone();
    if !asked.is_empty() {
        facts.tables = facts.tables.iter().chain(asked).cloned().collect();
    }
    facts
}

pub(super) fn remember_types(statement: &mut Statement, payload: &[u8], command: Command) {
    let types = match command {
        Command::StmtExecute => execute_types(payload, statement.parameters)
            .filter(|t| t.bound)
            .and_then(|t| payload.get(t.flag_at + 1..t.flag_at + 1 + t.bytes)),
        _ if payload.get(5).is_some_and(|f| f & BULK_SEND_TYPES != 0) => {
            payload.get(BULK_FIXED..BULK_FIXED + usize::from(statement.parameters) * 2)
        }
        _ => None,
    };
    if let Some(types) = types
        && types != statement.types
    {
        statement.types = types.to_vec();
    }
}

/// Puts the remembered types into an execute that brings none (RULES.md 13).
pub(super) fn insert_types(statement: &Statement, payload: &mut Vec<u8>, command: Command) {
    if statement.types.is_empty() {
        return;
    }
    match command {
        Command::StmtExecute => {
            if let Some(t) = execute_types(payload, statement.parameters).filter(|t| !t.bound) {
                if let Some(flag) = payload.get_mut(t.flag_at) {
                    *flag = 1;
                }
                payload.splice(t.flag_at + 1..t.flag_at + 1, statement.types.iter().copied());
            }
        }
        _ => {
            if let Some(flags) = payload.get_mut(5).filter(|f| **f & BULK_SEND_TYPES == 0) {
                *flags |= BULK_SEND_TYPES;
                payload.splice(BULK_FIXED..BULK_FIXED, statement.types.iter().copied());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(parameters: u16, types: &[u8]) -> Statement {
        let analysis = crate::sql::classify::analyze(b"SELECT ?", &Default::default());
        let plan = Rc::new(Plan::new(crate::sql::Fingerprint(0), analysis));
        Statement {
            sql: b"SELECT ?".as_slice().into(),
            plan,
            parameters,
            legs: vec![],
            asked: vec![],
            last: 0,
            columns_of: 0,
            types: types.to_vec(),
            long_data: vec![],
            under: Under::default(),
            untyped: false,
        }
    }

    #[test]
    fn types_are_remembered_and_put_into_an_execute_without_them() {
        let first = [0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        let mut s = statement(1, &[]);
        remember_types(&mut s, &first, Command::StmtExecute);
        assert_eq!(s.types, [8, 0]);
        let mut second = vec![0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        insert_types(&s, &mut second, Command::StmtExecute);
        assert_eq!(second, first);
        let mut bound = first.to_vec();
        insert_types(&s, &mut bound, Command::StmtExecute);
        assert_eq!(bound, first);
    }

    #[test]
    fn bulk_executes_get_their_types_too() {
        let s = statement(1, &[8, 0]);
        let mut p = vec![0xfa, 1, 0, 0, 0, 0, 0, 0, 9];
        insert_types(&s, &mut p, Command::StmtBulkExecute);
        assert_eq!(p, [0xfa, 1, 0, 0, 0, 128, 0, 8, 0, 0, 9]);
    }

    #[test]
    fn id_minus_one_is_the_last_prepared() {
        let mut all = Statements::default();
        assert_eq!(all.resolve(LAST_PREPARED), None);
        let id = all.next_id();
        all.by_id.insert(id, statement(0, &[]));
        all.last_prepared = Some(id);
        assert_eq!(all.resolve(LAST_PREPARED), Some(id));
        assert_eq!(all.resolve(id + 1), None);
    }
}
