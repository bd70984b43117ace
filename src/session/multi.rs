//! COM_QUERY with several statements, and LOCK TABLES over several stores.
//!
//! All on one store: relayed as they are. On several: one after another in order, their responses stitched into one
//! multi-result response; a failure stops the rest, as MySQL does.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Session;
use super::answers::commanded;
use super::careful::{Ran, Way};
use super::control_flow::{Failure, Fatal};
use super::guard::{Attempts, Recorded};
use super::insight::{Came, Noted};
use super::journaled::{is_one_for_all, statement};
use super::query::{Plan, inner_facts};
use super::recorded::{Place, Recording, Sending};
use super::relay::{Part, relay_part};
use super::sealed::{Held, Sent};
use crate::config::StoreId;
use crate::sql::Facts;
use crate::sql::facts::{Kind, Span};
use crate::sql::split::split;
use crate::wire::packet;
use crate::wire::reply::{Expect, Outcome};
use crate::wire::{Capabilities, ErrPacket, OkPacket, Status};

fn slice(sql: &[u8], span: Span) -> &[u8] {
    sql.get(span.start as usize..span.end as usize).unwrap_or_default()
}

impl Session {
    /// Several statements in one text.
    pub(crate) async fn multi(
        &mut self,
        framed: &[u8],
        plan: &Rc<Plan>,
        sql: &[u8],
        started: Instant,
    ) -> Result<(), Failure> {
        let statements: Vec<Arc<Facts>> = plan.analysis.statements.to_vec();
        let gated = !self.live.gates.is_empty() && statements.iter().any(|f| self.is_gated(f));
        if !gated && self.all_on_home(&statements) && !self.keeps_answers() {
            self.enter_pending(None).await?;
            let outcome = self.send_relay(framed, 0, Expect::Results).await?;
            let Some((last, first)) = statements.split_last() else { return Ok(()) };
            // which of them ran before an error is unknown: what they may have set counts as set
            let assumed = Outcome { error: None, ..outcome };
            for facts in first {
                self.after(facts, 0, &assumed);
            }
            self.finish(Noted::new(Some(plan), Came::Text, started), last, 0, &outcome);
            return Ok(());
        }
        if !self.capabilities.contains(Capabilities::MULTI_STATEMENTS) {
            // what keeps injected statements out on one store keeps them out on two (RULES.md 22): home refuses them itself, for
            // its connection was not opened for several either
            let outcome = self.send_relay(framed, 0, Expect::Results).await?;
            self.state.last = self.legs.first().map_or(0, |l| l.generation);
            self.state.diagnosed = self.state.last;
            self.reported(None, 0, &outcome);
            return Ok(());
        }
        let spans: Vec<Span> =
            split(sql, &self.state.dialect).filter(|s| !slice(sql, *s).iter().all(u8::is_ascii_whitespace)).collect();
        self.stitch(sql, &spans).await
    }

    /// Whether nothing but home has a part in them.
    fn all_on_home(&self, statements: &[Arc<Facts>]) -> bool {
        let Some(home) = self.legs.first().map(super::leg::Leg::store) else { return false };
        let dynamic =
            |f: &Facts| matches!(f.kind, Kind::Prepare { .. } | Kind::Execute { .. } | Kind::ExecuteImmediate(_));
        if self.live.snapshot.all_default() && self.legs.len() == 1 && home == self.live.config().default {
            return !statements.iter().any(|f| dynamic(f));
        }
        self.legs.len() == 1
            && statements.iter().all(|f| {
                !dynamic(f)
                    && (matches!(
                        f.kind,
                        Kind::Set(_) | Kind::Use(_) | Kind::Begin { .. } | Kind::Commit { .. } | Kind::Rollback { .. }
                    ) && f.tables.is_empty()
                        || self.decide(f, None) == Ok(home))
            })
    }

    async fn stitch(&mut self, sql: &[u8], spans: &[Span]) -> Result<(), Failure> {
        let mut sequence = 1;
        for (i, span) in spans.iter().enumerate() {
            let text = slice(sql, *span);
            let more = i + 1 < spans.len();
            match Box::pin(self.one_of_several(text, &mut sequence, more)).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(Failure::Statement(error)) => {
                    let mut out = Vec::new();
                    error.put(&mut out, sequence);
                    self.core.figures.refused();
                    self.count_refused(&self.plan(text, &self.state.dialect), Came::Text, &error);
                    self.client.write(&out).await.map_err(Fatal::client)?;
                    return Ok(());
                }
                Err(fatal) => return Err(fatal),
            }
        }
        Ok(())
    }

    /// Runs one of several; false when it failed, and so the rest is not run.
    async fn one_of_several(&mut self, text: &[u8], sequence: &mut u8, more: bool) -> Result<bool, Failure> {
        let started = Instant::now();
        let plan = self.plan(text, &self.state.dialect);
        let Some(outer) = plan.single() else { return Ok(true) };
        let place = Place { sequence: *sequence, more };
        if let Some(next) = self.show_kept_warnings(outer, text, place).await? {
            *sequence = next;
            return Ok(true);
        }
        let facts = outer;
        let (facts, prepare) = match &facts.kind {
            Kind::Prepare { name, source } => {
                let prepare = self.before_text_prepare(facts, source).await?;
                (facts.clone(), Some((name.clone(), prepare)))
            }
            Kind::Execute { name } => {
                let inner = self.before_text_execute(name).await?;
                (self.placed_facts(facts, inner_facts(facts, inner.as_deref())), None)
            }
            Kind::ExecuteImmediate(source) => {
                let inner = self.dynamic(facts, source).await?;
                (inner_facts(facts, inner.as_deref()), None)
            }
            _ => (facts.clone(), None),
        };
        let framed = self.with_kept(&facts, text).unwrap_or_else(|| commanded(text));
        if let Some((at, outcome)) = self.record_part(&framed, outer, &facts, &plan, place).await? {
            *sequence = sequence.wrapping_add(1);
            self.finish(Noted::new(Some(&plan), Came::Text, started), &facts, at, &outcome);
            return Ok(outcome.error.is_none());
        }
        let prepared_at = prepare.as_ref().map(|(_, prepare)| prepare.at);
        let mut way = Way::Part { framed: &framed, prepared_at, sequence, more };
        let Ran { at, outcome, .. } = self.run_carefully(&mut way, &facts).await?;
        if let Some((name, prepare)) = prepare {
            self.after_text_prepare(&name, prepare, &outcome);
        }
        self.finish(Noted::new(Some(&plan), Came::Text, started), &facts, at, &outcome);
        Ok(outcome.error.is_none())
    }

    /// One of several that is to be recorded; `facts` are those of what it runs.
    async fn record_part(
        &mut self,
        framed: &[u8],
        outer: &Facts,
        facts: &Facts,
        plan: &Plan,
        place: Place,
    ) -> Result<Option<(usize, Outcome)>, Failure> {
        match outer.kind {
            Kind::Prepare { .. } => return Ok(None),
            Kind::Execute { .. } | Kind::ExecuteImmediate(_) => {
                return self.run_dynamic_recorded(framed, outer, facts, place).await;
            }
            _ => {}
        }
        let mut attempts = Attempts::default();
        loop {
            // (held until the statement has run: whoever asks for it again gets the same)
            let ticket = if facts.kind == Kind::Write { self.pass_gates(facts).await? } else { None };
            let Some(group) = self.journaled(facts) else { return Ok(None) };
            let payload = packet::payload(framed);
            let sql = statement(payload.get(1..).unwrap_or_default());
            let sending = Sending::Text(sql, is_one_for_all(sql));
            let recording = Recording { facts, plan: Some(plan), group, sql, sending, place };
            match Box::pin(self.record_routed(&recording, ticket.as_ref(), &mut attempts)).await? {
                Recorded::Done(at, outcome) => return Ok(Some((at, outcome))),
                Recorded::Again => {}
            }
        }
    }

    /// Sends one of several, its answer a part of theirs.
    pub(super) async fn send_part(
        &mut self,
        framed: &[u8],
        at: usize,
        (facts, held): (&Facts, Held),
        (sequence, more): (&mut u8, bool),
    ) -> Result<Sent, Fatal> {
        let (several, owes) = (self.several_take_part(), self.owes(facts));
        let Session { client, legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        leg.busy = true;
        leg.answered = false;
        leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
        let part = Part { expect: Expect::Results, more, columns: &[], held };
        let mut kept = Vec::new();
        let sent = relay_part(client, leg, sequence, &part, owes.then_some(&mut kept)).await?;
        if let Sent::Answered(outcome) = &sent {
            self.after_part(at, several, outcome).await?;
            if owes {
                self.pay_and_answer(facts, outcome, &kept).await?;
            }
        }
        Ok(sent)
    }

    /// A store that lost its transaction takes the others with it.
    pub(crate) async fn after_part(&mut self, at: usize, several: bool, outcome: &Outcome) -> Result<(), Fatal> {
        let lost = match outcome.error {
            Some(code) if super::relay::rolls_back(code) => true,
            Some(_) if several => !self.still_in_transaction(at).await?,
            _ => false,
        };
        if lost {
            self.roll_back_all_but(at).await?;
        }
        Ok(())
    }

    /// The items of LOCK TABLES by store, if they are on several.
    pub(crate) fn split_lock(&self, facts: &Facts, sql: &[u8]) -> Result<Option<Vec<(StoreId, String)>>, ErrPacket> {
        let Kind::LockTables(items) = &facts.kind else { return Ok(None) };
        let mut parts: Vec<(StoreId, Vec<String>)> = Vec::new();
        for (item, table) in items.iter().zip(&facts.tables) {
            let one = Facts { tables: [table.clone()].into(), kind: Kind::Unknown, ..facts.clone() };
            let store = self.decide(&one, None)?;
            let mut text = String::from_utf8_lossy(slice(sql, *item)).into_owned();
            // `t READ /*!32311 LOCAL */`, as mysqldump says it: the item ends with LOCAL, inside the comment
            if text.rsplit_once("/*").is_some_and(|(_, tail)| !tail.contains("*/")) {
                text.push_str(" */");
            }
            match parts.iter_mut().find(|(s, _)| *s == store) {
                Some((_, list)) => list.push(text),
                None => parts.push((store, vec![text])),
            }
        }
        let home = self.legs.first().map(super::leg::Leg::store);
        if parts.len() < 2 && parts.first().map(|p| p.0) == home || items.len() != facts.tables.len() {
            return Ok(None);
        }
        Ok(Some(parts.into_iter().map(|(s, list)| (s, format!("LOCK TABLES {}", list.join(", ")))).collect()))
    }

    /// LOCK TABLES over several stores: each locks its own, in a fixed order of stores; all or none.
    pub(crate) async fn lock_tables(
        &mut self,
        facts: &Facts,
        mut parts: Vec<(StoreId, String)>,
    ) -> Result<(), Failure> {
        parts.sort_by_key(|(store, _)| *store);
        self.end_elsewhere(usize::MAX, true).await?;
        for i in 0..self.legs.len() {
            self.tell(i, "UNLOCK TABLES").await??;
        }
        for (store, sql) in &parts {
            let at = self.leg(*store).await?;
            self.bring_in_step(at, Some(facts)).await?;
            if let Err(error) = self.tell(at, sql).await? {
                for i in 0..self.legs.len() {
                    let _ = self.tell(i, "UNLOCK TABLES").await?;
                }
                return Err(error.into());
            }
        }
        let outcome = Outcome { status: Some(self.home_status()), ..Outcome::default() };
        self.after(facts, 0, &outcome);
        for leg in &mut self.legs {
            leg.locked = parts.iter().any(|(store, _)| *store == leg.store());
        }
        self.send_ok().await?;
        Ok(())
    }

    /// An OK packet of the proxy's own, with the session's flags.
    pub(crate) async fn send_ok(&mut self) -> Result<(), Fatal> {
        let mut status = self.home_status() & Status::LASTING;
        status.set(Status::IN_TRANS, self.in_transaction());
        let ok = OkPacket { status, ..OkPacket::default() };
        let mut out = Vec::new();
        ok.put(&mut out, 1);
        self.client.write(&out).await.map_err(Fatal::client)
    }
}
