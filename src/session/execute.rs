//! An execute that does not go its hot path: routed, its statement prepared where it runs, its types and long data put in; again
//! where the group's store was sealed, or has failed, before it had an effect.

use std::rc::Rc;
use std::time::Instant;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::guard::{Attempts, Recorded, Sent, Ticket};
use super::insight::Ran;
use super::prepared::{asked_tables, came, expected, insert_types, remember_types, with_asked};
use super::query::Plan;
use super::reprepare::Here;
use crate::sql::Facts;
use crate::sql::facts::Kind;
use crate::wire::Command;
use crate::wire::packet;

impl Session {
    /// A read of the hot path, whose leg was lost.
    pub(super) async fn execute_again(
        &mut self,
        id: u32,
        plan: &Plan,
        fatal: Fatal,
        command: Command,
        started: Instant,
    ) -> Result<(), Fatal> {
        let framed = std::mem::take(&mut self.kept);
        let Some(facts) = plan.single() else { return Err(fatal) };
        let passes = self.passes.len();
        let again = async {
            self.survive(facts, (passes, true), fatal.into(), &mut Attempts::default()).await?;
            self.execute_with_care(framed, id, command, started).await
        };
        match Box::pin(again).await {
            Ok(()) => Ok(()),
            Err(Failure::Session(fatal)) => Err(fatal.during(Some(facts))),
            Err(Failure::Statement(error)) => self.refuse_one(plan, came(command), &error).await,
        }
    }

    pub(crate) async fn execute_with_care(
        &mut self,
        framed: Vec<u8>,
        id: u32,
        command: Command,
        started: Instant,
    ) -> Result<(), Failure> {
        let Some(statement) = self.statements.get(id) else { return Ok(()) };
        let plan = Rc::clone(&statement.plan);
        let payload = packet::payload(&framed).into_owned();
        let asked = asked_tables(statement, &payload, command);
        let elsewhere = statement.under.is_elsewhere(&self.state);
        let place = |facts: Facts| if elsewhere { statement.under.placed(facts) } else { facts };
        let facts: Option<Facts> = plan.single().map(|f| place(with_asked(f, &asked)));
        let expect = expected(&payload, command);
        if let Some(facts) = &facts
            && let Some(text) = self.kept_for_prepared(id, facts)?
        {
            return Box::pin(self.execute_kept(&payload, id, (facts, text), started)).await;
        }
        let mut attempts = Attempts::default();
        loop {
            let ticket = match &facts {
                Some(facts) => self.pass_gates(facts).await?,
                None => None,
            };
            if let Some(facts) = &facts
                && let Some(group) = self.journaled(facts)
            {
                let (ticket, write) = (ticket.as_ref(), (facts, group));
                match Box::pin(self.execute_recorded(&payload, (id, command), write, ticket, &mut attempts)).await? {
                    (Recorded::Done(at, outcome), true) => {
                        self.finish(Ran::new(Some(&plan), came(command), started), facts, at, &outcome);
                    }
                    (Recorded::Done(at, outcome), false) => self.executed((id, command), at, &outcome, started),
                    (Recorded::Again, _) => continue,
                }
                return Ok(());
            }
            let before = ticket.as_ref().map_or(self.passes.len(), Ticket::before);
            let cached = (asked.is_empty() && !elsewhere).then_some(&*plan);
            let ready = Box::pin(self.ready_to_execute(id, facts.as_ref(), cached, &payload, command)).await;
            let (at, out, columns) = match (ready, &facts) {
                (Ok(ready), _) => ready,
                (Err(failure), Some(facts)) => {
                    Box::pin(self.survive(facts, (before, false), failure, &mut attempts)).await?;
                    continue;
                }
                (Err(failure), None) => return Err(failure),
            };
            let sent = match (&facts, &ticket) {
                (Some(Facts { kind: Kind::Kill { query, id: Some(victim) }, .. }), _) => {
                    Box::pin(self.send_kill(&out, at, expect, *victim, *query)).await.map(Sent::Answered)
                }
                _ if !columns.is_empty() => {
                    let outcome = Box::pin(self.send_with_columns(&out, at, expect, &columns)).await?;
                    Ok(Sent::Answered(outcome))
                }
                (Some(facts), Some(_)) => self.send_gated(&out, at, expect, facts).await,
                (Some(facts), None) => self.send_or_owe(&out, at, expect, facts).await,
                (None, _) => self.send_relay(&out, at, expect).await.map(Sent::Answered),
            };
            let outcome = match (sent, &facts, &ticket) {
                (Ok(Sent::Answered(outcome)), ..) => outcome,
                (Ok(Sent::Sealed(_)), Some(facts), Some(ticket)) => {
                    Box::pin(self.sealed(facts, ticket, at, &mut attempts)).await?;
                    continue;
                }
                (Ok(Sent::Sealed(_)), ..) => continue,
                (Err(fatal), Some(facts), _) => {
                    Box::pin(self.survive(facts, (before, true), fatal.into(), &mut attempts)).await?;
                    continue;
                }
                (Err(fatal), None, _) => return Err(fatal.into()),
            };
            self.executed((id, command), at, &outcome, started);
            return Ok(());
        }
    }

    /// The leg on which it runs, ready for it, with the bytes and the columns of [`Session::execute_for`].
    async fn ready_to_execute(
        &mut self,
        id: u32,
        facts: Option<&Facts>,
        cached: Option<&Plan>,
        payload: &[u8],
        command: Command,
    ) -> Result<(usize, Vec<u8>, Vec<u8>), Failure> {
        let at = match facts {
            Some(facts) => self.target(facts, cached).await?,
            None => 0,
        };
        if let Some(facts) = facts {
            self.before(facts, at).await?;
        }
        let (out, columns) = self.execute_for(id, at, payload.to_vec(), command).await?;
        Ok((at, out, columns))
    }

    /// The bytes that execute a statement on a leg, framed, and the columns that the client has of it where that leg leaves them out.
    pub(super) async fn execute_for(
        &mut self,
        id: u32,
        at: usize,
        mut payload: Vec<u8>,
        command: Command,
    ) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let Here { id: there, fresh, columns } = self.prepared_on(id, at).await?;
        let here = self.legs.get(at).map(|l| l.generation);
        let mut out = Vec::with_capacity(payload.len() + 16);
        let Some(statement) = self.statements.get_mut(id) else { return Ok((out, columns)) };
        // a store keeps the types that it was sent: those of an execute elsewhere it has not seen
        let untyped = std::mem::take(&mut statement.untyped);
        if fresh || untyped || here != Some(statement.last) {
            insert_types(statement, &mut payload, command);
        }
        remember_types(statement, &payload, command);
        for data in &mut statement.long_data {
            if let Some(slot) = data.get_mut(1..5) {
                slot.copy_from_slice(&there.to_le_bytes());
            }
            packet::put(&mut out, 0, data);
        }
        if let Some(slot) = payload.get_mut(1..5) {
            slot.copy_from_slice(&there.to_le_bytes());
        }
        packet::put(&mut out, 0, &payload);
        Ok((out, columns))
    }
}
