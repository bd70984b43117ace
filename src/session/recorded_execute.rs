//! Recorded writes whose text is not all of what they say: prepared statements of both protocols. Their parameters become literals,
//! by which the rows are looked for; how the write itself is sent, see `recorded`.
//!
//! And prepared statements that ask for what was kept of a recorded write, answered from that.

use std::rc::Rc;
use std::time::Instant;

use super::Session;
use super::control_flow::Failure;
use super::guard::{Attempts, Recorded, Ticket};
use super::insight::{Came, Noted};
use super::journaled::{is_one_for_all, refused, statement};
use super::prepared::{Statement, expected, insert_types, remember_types};
use super::recorded::{Place, Recording, Sending};
use super::state::Under;
use super::variables::{variable, variable_literal};
use crate::backend::connection::QueryError;
use crate::config::GroupId;
use crate::sql::Facts;
use crate::sql::bind::{Literal, bind, literal};
use crate::sql::dynamic::{Argument, arguments};
use crate::sql::facts::{Flags, Kind};
use crate::wire::bound::execute_values;
use crate::wire::command::{COM_STMT_CLOSE, COM_STMT_PREPARE, Command};
use crate::wire::reply::Outcome;
use crate::wire::{ErrPacket, packet};

/// Bytes of a write that is sent as text: beyond, its client's own bytes are what its store takes.
const LARGE: usize = 4 << 20;

/// A statement that was prepared by text, or is dynamic: its own text, and what that was read under.
pub(crate) struct Dynamic {
    pub(crate) sql: Rc<[u8]>,
    pub(crate) under: Under,
}

pub(super) fn long_data(statement: &Statement, at: usize) -> Option<Vec<u8>> {
    // command, id, parameter, data
    let number = u16::try_from(at).unwrap_or(u16::MAX).to_le_bytes();
    let mut parts = statement.long_data.iter().filter(|data| data.get(5..7) == Some(&number)).peekable();
    parts.peek()?;
    Some(parts.flat_map(|data| data.get(7..).unwrap_or_default()).copied().collect())
}

impl Session {
    fn group_name(&self, group: GroupId) -> String {
        self.live.snapshot.group(group).map(|g| g.name.clone()).unwrap_or_default()
    }

    /// Runs an execute of a prepared write of a journaled group, and records it; and whether that went as text.
    pub(super) async fn execute_recorded(
        &mut self,
        payload: &[u8],
        (id, command): (u32, Command),
        (facts, group): (&Facts, GroupId),
        ticket: Option<&Ticket>,
        attempts: &mut Attempts,
    ) -> Result<(Recorded, bool), Failure> {
        let name = self.group_name(group);
        if command != Command::StmtExecute {
            let why = "it brings several rows at once (COM_STMT_BULK_EXECUTE); execute it row by row";
            return Err(refused(&name, why).into());
        }
        let under = self.state.under();
        let Some(statement) = self.statements.get_mut(id) else { return Ok((Recorded::Again, false)) };
        if statement.under != under {
            return Err(refused(&name, OTHERWISE).into());
        }
        remember_types(statement, payload, command);
        let long = |at| long_data(statement, at);
        let Some(values) = execute_values(payload, statement.parameters, &statement.types, long) else {
            return Err(refused(&name, "a parameter is of a type that is not known").into());
        };
        let dialect = self.state.dialect;
        let values: Vec<Literal> = values.iter().map(|value| literal(value, &dialect)).collect();
        let sql = Rc::clone(&statement.sql);
        let own = self::statement(&sql);
        let Some(text) = bind(own, &dialect, &values) else {
            return Err(refused(&name, "its parameters cannot be told").into());
        };
        let exact = values.iter().all(|v| v.exact) && text.len() <= LARGE;
        let together = is_one_for_all(own) && values.iter().all(|v| v.plain);
        let sending = if exact && together { Sending::Text(&text, true) } else { Sending::Execute(id, payload) };
        let as_text = matches!(sending, Sending::Text(..));
        let recording = Recording { facts, plan: None, group, sql: &text, sending, place: Place::ALONE };
        let ran = self.record_routed(&recording, ticket, attempts).await;
        if let Some(statement) = self.statements.get_mut(id) {
            statement.untyped |= as_text;
            if matches!(ran, Ok(Recorded::Done(..)) if as_text) || ran.is_err() {
                statement.long_data.clear();
            }
        }
        Ok((ran?, as_text))
    }

    /// A dynamic write of a journaled group: `outer` is the client's own text, which runs `inner`.
    pub(crate) async fn dynamic_recorded(
        &mut self,
        outer: &[u8],
        (facts, group): (&Facts, GroupId),
        inner: &Dynamic,
        place: Place,
        (ticket, attempts): (Option<&Ticket>, &mut Attempts),
    ) -> Result<Recorded, Failure> {
        let name = self.group_name(group);
        if inner.under != self.state.under() {
            return Err(refused(&name, OTHERWISE).into());
        }
        let outer = statement(outer);
        let Some(using) = arguments(outer, &self.state.dialect) else {
            return Err(
                refused(&name, "what it hands to its dynamic statement is neither a variable nor a literal").into()
            );
        };
        let at = self.target(facts, None).await?;
        self.before(facts, at).await?;
        let mut values = Vec::with_capacity(using.len());
        for argument in using {
            values.push(match argument {
                Argument::Literal(text) => Literal::own(text),
                Argument::Variable(variable) => Literal::own(self.variable_as_literal(at, &variable).await?),
            });
        }
        let Some(text) = bind(statement(&inner.sql), &self.state.dialect, &values) else {
            // another number of them: the store says so
            return Err(refused(&name, "it is given another number of values than it has parameters").into());
        };
        let sending = Sending::Text(outer, is_one_for_all(outer));
        let recording = Recording { facts, plan: None, group, sql: &text, sending, place };
        self.record_routed(&recording, ticket, attempts).await
    }

    /// A dynamic statement (its `outer` facts, and those of what it runs) that is to be recorded.
    pub(crate) async fn run_dynamic_recorded(
        &mut self,
        framed: &[u8],
        outer: &Facts,
        facts: &Facts,
        place: Place,
    ) -> Result<Option<(usize, Outcome)>, Failure> {
        let mut attempts = Attempts::default();
        loop {
            // (held until the statement has run: whoever asks for it again gets the same)
            let ticket = if facts.kind == Kind::Write { self.pass_gates(facts).await? } else { None };
            let Some(group) = self.journaled(facts).filter(|_| facts.kind == Kind::Write) else { return Ok(None) };
            let Some(inner) = self.dynamic_of(outer).await? else {
                return Err(refused(&self.group_name(group), "the text of this dynamic statement is not known").into());
            };
            let payload = packet::payload(framed);
            let text = payload.get(1..).unwrap_or_default();
            let with = (ticket.as_ref(), &mut attempts);
            match Box::pin(self.dynamic_recorded(text, (facts, group), &inner, place, with)).await? {
                Recorded::Done(at, outcome) => return Ok(Some((at, outcome))),
                Recorded::Again => {}
            }
        }
    }

    /// What a user variable holds, as a literal that compares as a parameter does: in its own character set, of no collation of
    /// its own.
    async fn variable_as_literal(&mut self, at: usize, name: &str) -> Result<String, Failure> {
        self.keep_found_rows(at).await?;
        let v = variable(name);
        let rows = self.ask(at, format!("SELECT {v}, HEX({v}), CHARSET({v}), NULL")).await?;
        let text = variable_literal(&rows, 0);
        Ok(if text.starts_with("X'") { format!("_binary {text}") } else { text })
    }

    /// Before a question of the proxy's own that answers with rows.
    pub(super) async fn keep_found_rows(&mut self, at: usize) -> Result<(), Failure> {
        if self.journal.found_rows.is_none() {
            let rows = self.ask(at, "SELECT FOUND_ROWS()").await?;
            let number = rows.first(0).and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
            self.journal.found_rows = number;
        }
        Ok(())
    }

    /// The text of what a dynamic statement runs, where that is known.
    pub(crate) async fn dynamic_of(&mut self, facts: &Facts) -> Result<Option<Dynamic>, Failure> {
        match &facts.kind {
            Kind::Execute { name } => Ok(self
                .state
                .text_statements
                .get(name)
                .map(|known| Dynamic { sql: Rc::clone(&known.sql), under: known.under.clone() })),
            Kind::ExecuteImmediate(source) => {
                let text = self.dynamic_text(facts, source).await?;
                Ok(text.map(|text| Dynamic { sql: text.into(), under: self.state.under() }))
            }
            _ => Ok(None),
        }
    }

    /// The text of a prepared statement that asks for what was kept of a recorded write, with that in it.
    ///
    /// # Errors
    /// For one that asks for kept warnings: their answer is of the text protocol.
    pub(super) fn kept_for_prepared(&self, id: u32, facts: &Facts) -> Result<Option<Vec<u8>>, ErrPacket> {
        let asks = facts.kind == Kind::Diagnostics || facts.flags.contains(Flags::READS_DIAGNOSTICS);
        if asks && self.journal.warnings.is_some() {
            let why = "switchover: after a recorded write with warnings, only SHOW WARNINGS as text can ask for them";
            return Err(ErrPacket::new(1235, b"42000", why));
        }
        let Some(statement) = self.statements.get(id) else { return Ok(None) };
        let framed = self.with_kept(facts, &statement.sql);
        Ok(framed.map(|framed| packet::payload(&framed).get(1..).unwrap_or_default().to_vec()))
    }

    /// Runs such a statement: prepared for this once, for its values are in its text.
    pub(super) async fn execute_kept(
        &mut self,
        payload: &[u8],
        id: u32,
        (facts, text): (&Facts, Vec<u8>),
        started: Instant,
    ) -> Result<(), Failure> {
        let at = self.target(facts, None).await?;
        self.before(facts, at).await?;
        let Some(leg) = self.legs.get_mut(at) else { return Ok(()) };
        if let Err(e) = leg.backend.send(COM_STMT_PREPARE, &text).await {
            return Err(leg.lost(e).into());
        }
        let (prepared, _) = match leg.backend.collect_prepared().await {
            Ok(answer) => answer,
            Err(QueryError::Refused(e)) => return Err(e.into()),
            Err(QueryError::Io(e)) => return Err(leg.lost(e).into()),
            Err(QueryError::Malformed(e)) => return Err(leg.nonsense(e).into()),
        };
        let mut payload = payload.to_vec();
        if let Some(statement) = self.statements.get_mut(id) {
            insert_types(statement, &mut payload, Command::StmtExecute);
            remember_types(statement, &payload, Command::StmtExecute);
            statement.untyped = true;
        }
        // (its rows come whole: a cursor would be closed with it)
        if let Some(cursor) = payload.get_mut(5) {
            *cursor = 0;
        }
        let expect = expected(&payload, Command::StmtExecute);
        if let Some(slot) = payload.get_mut(1..5) {
            slot.copy_from_slice(&prepared.id.to_le_bytes());
        }
        let mut out = Vec::with_capacity(payload.len() + 4);
        packet::put(&mut out, 0, &payload);
        let outcome = self.send_relay(&out, at, expect).await?;
        if let Some(leg) = self.legs.get_mut(at) {
            let closed = leg.backend.send(COM_STMT_CLOSE, &prepared.id.to_le_bytes()).await;
            closed.map_err(|e| leg.lost(e))?;
        }
        let plan = self.statements.get(id).map(|s| Rc::clone(&s.plan));
        self.finish(Noted::new(plan.as_deref(), Came::Prepared, started), facts, at, &outcome);
        Ok(())
    }
}

const OTHERWISE: &str =
    "the default database, sql_mode, character set or collation has changed since it was prepared; prepare it again";
