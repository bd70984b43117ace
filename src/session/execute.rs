//! An execute that does not go its hot path: its statement prepared where it runs ([`super::careful`]), its types and long data put in.

use std::rc::Rc;
use std::time::Instant;

use super::Session;
use super::careful::{Ran, Way};
use super::control_flow::{Failure, Fatal};
use super::insight::Noted;
use super::prepared::{asked_tables, came, expected, insert_types, remember_types, with_asked};
use super::query::Plan;
use super::reprepare::Here;
use super::sealed::{Held, Sent};
use crate::sql::Facts;
use crate::wire::Command;
use crate::wire::packet;

impl Session {
    /// A read of the hot path, whose leg was lost, or whose store says that its table is not there.
    pub(super) async fn execute_again(
        &mut self,
        id: u32,
        plan: &Plan,
        lost: Option<Fatal>,
        command: Command,
        started: Instant,
    ) -> Result<(), Fatal> {
        let framed = std::mem::take(&mut self.kept);
        let again = async {
            self.survive_read(plan, lost).await?;
            self.execute_with_care(framed, id, command, started).await
        };
        let done = Box::pin(again).await;
        self.ended(done, plan).await
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
        let Some(facts) = &facts else {
            let (out, columns) = self.execute_for(id, 0, payload, command).await?;
            let sent = if columns.is_empty() {
                self.send_relay(&out, 0, expect).await.map(Sent::Answered)?
            } else {
                Box::pin(self.send_with_columns(&out, 0, (expect, &columns), Held::default())).await?
            };
            if let Sent::Answered(outcome) = sent {
                self.executed((id, command), 0, &outcome, started);
            }
            return Ok(());
        };
        let cached = (asked.is_empty() && !elsewhere).then_some(&*plan);
        let mut way = Way::Execute { id, command, payload: &payload, cached, expect };
        let Ran { at, outcome, as_text } = self.run_carefully(&mut way, facts).await?;
        if as_text {
            self.finish(Noted::new(Some(&plan), came(command), started), facts, at, &outcome);
        } else {
            self.executed((id, command), at, &outcome, started);
        }
        Ok(())
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
