//! Statements whose text is in a statement: PREPARE … FROM, EXECUTE, EXECUTE IMMEDIATE. What they run is classified as if it had come
//! by itself (RULES.md 11), and is prepared where it is to run.

use std::rc::Rc;
use std::time::Instant;

use super::Session;
use super::control_flow::Failure;
use super::guard::Attempts;
use super::insight::Noted;
use super::query::Plan;
use super::sealed::{Held, Sent};
use crate::sql::Facts;
use crate::sql::dialect::Engine;
use crate::sql::facts::DynamicSource;
use crate::wire::ErrPacket;
use crate::wire::hex::hex;
use crate::wire::reply::{Expect, Outcome};

/// A PREPARE by text under way: its leg, what it prepares and its text, where they are known.
pub(crate) struct TextPrepare {
    pub(crate) at: usize,
    inner: Option<Rc<Plan>>,
    text: Option<Vec<u8>>,
}

impl Session {
    /// The plan of dynamic SQL; `None` where its text cannot be known and no group lives off the default store.
    pub(crate) async fn dynamic(&mut self, facts: &Facts, source: &DynamicSource) -> Result<Option<Rc<Plan>>, Failure> {
        Ok(self.dynamic_text(facts, source).await?.map(|t| self.plan(&t, &self.state.dialect)))
    }

    pub(crate) async fn dynamic_text(
        &mut self,
        facts: &Facts,
        source: &DynamicSource,
    ) -> Result<Option<Vec<u8>>, Failure> {
        Ok(match source {
            DynamicSource::Literal(text) => Some(text.to_vec()),
            DynamicSource::Variable(name) => {
                if self.live.snapshot.all_default() && self.legs.len() == 1 && !self.has_journals() {
                    None
                } else {
                    self.user_variable_text(name).await?
                }
            }
            DynamicSource::Expression { .. } if self.live.snapshot.all_default() && !self.has_journals() => None,
            DynamicSource::Expression { text, again: true } => {
                self.bring_variables(facts, 0).await?;
                self.evaluate(text).await?
            }
            DynamicSource::Expression { text, again: false } if self.is_no_source(text).await? => None,
            DynamicSource::Expression { again: false, .. } => {
                return Err(ErrPacket::new(
                    1235,
                    b"42000",
                    "switchover: the text of this dynamic statement is an expression that must not be evaluated twice, and tables \
                     of a group live off the default store; assign it to a user variable first, or say where it runs with \
                     /* switchover:store=NAME */",
                )
                .into());
            }
        })
    }

    pub(super) async fn text_prepare(
        &mut self,
        framed: &[u8],
        facts: &Facts,
        (name, source): (&str, &DynamicSource),
        ran: Noted<'_>,
    ) -> Result<(), Failure> {
        let mut attempts = Attempts::default();
        let (at, outcome, prepared) = loop {
            let prepared = self.before_text_prepare(facts, source).await?;
            let (at, inner) = (prepared.at, prepared.inner.clone());
            let inner = inner.as_ref().and_then(|plan| plan.single()).unwrap_or(facts);
            let held = Held { seals: false, ..self.held(inner, false) };
            match self.send_held(framed, at, Expect::Results, (facts, held)).await? {
                Sent::Answered(outcome) => break (at, outcome, prepared),
                Sent::Missing(missing) if !self.missed(inner, None, at, &mut attempts).await? => {
                    break (at, self.tell_missing(at, &missing).await?, prepared);
                }
                Sent::Missing(_) | Sent::Sealed(_) => {}
            }
        };
        self.after_text_prepare(name, prepared, &outcome);
        self.finish(ran, facts, at, &outcome);
        Ok(())
    }

    /// Where a PREPARE by text runs; that leg is ready for it.
    pub(crate) async fn before_text_prepare(
        &mut self,
        facts: &Facts,
        source: &DynamicSource,
    ) -> Result<TextPrepare, Failure> {
        let text = self.dynamic_text(facts, source).await?;
        let inner = text.as_ref().map(|t| self.plan(t, &self.state.dialect));
        // an expression's text comes in utf8mb4, whatever the session's character set is
        let text = match source {
            DynamicSource::Expression { .. } => text.filter(|t| t.is_ascii()),
            DynamicSource::Literal(_) | DynamicSource::Variable(_) => text,
        };
        let at = match inner.as_ref().and_then(|p| p.single()) {
            Some(f) => self.target(f, None).await?,
            None => 0,
        };
        if at != 0 {
            self.bring_in_step(at, None).await?;
        }
        self.bring_variables(facts, at).await?;
        Ok(TextPrepare { at, inner, text })
    }

    /// Remembers what a PREPARE by text prepared.
    pub(crate) fn after_text_prepare(&mut self, name: &str, prepared: TextPrepare, outcome: &Outcome) {
        if outcome.error.is_some() {
            return;
        }
        self.state.text_statements.remove(name);
        self.state.opaque_statements.remove(name);
        if prepared.inner.is_none() || prepared.text.is_none() {
            self.state.opaque_statements.insert(name.into());
        }
        let under = self.state.under();
        if let (Some(plan), Some(sql), Some(leg)) = (prepared.inner, prepared.text, self.legs.get(prepared.at)) {
            let statement = super::state::TextStatement { sql: sql.into(), plan, legs: vec![leg.generation], under };
            self.state.text_statements.insert(name.into(), statement);
        }
    }

    pub(super) async fn text_execute(
        &mut self,
        framed: &[u8],
        facts: &Facts,
        name: &str,
        started: Instant,
    ) -> Result<(), Failure> {
        let mut attempts = Attempts::default();
        let inner = loop {
            match Box::pin(self.before_text_execute(name)).await {
                Ok(inner) => break inner,
                Err(failure) => {
                    let known = self.state.text_statements.get(name).map(|s| Rc::clone(&s.plan));
                    let Some(inner) = known.as_ref().and_then(|plan| plan.single()) else { return Err(failure) };
                    Box::pin(self.not_ready(inner, None, failure, &mut attempts)).await?;
                }
            }
        };
        self.run_as(framed, facts, inner, started).await
    }

    /// The plan that an EXECUTE by text runs, prepared on the store where it runs now.
    pub(crate) async fn before_text_execute(&mut self, name: &str) -> Result<Option<Rc<Plan>>, Failure> {
        if self.state.opaque_statements.contains(name) && !self.live.snapshot.all_default() {
            let text = format!(
                "switchover: the statement {name} was prepared from text that the proxy did not see, and tables of a group live off \
                 the default store now; prepare it again"
            );
            return Err(ErrPacket::new(1235, b"42000", text).into());
        }
        let Some(statement) = self.state.text_statements.get(name) else { return Ok(None) };
        let (plan, sql) = (Rc::clone(&statement.plan), Rc::clone(&statement.sql));
        if let Some(inner) = plan.single() {
            let at = self.target(inner, None).await?;
            let generation = self.legs.get(at).map_or(0, |l| l.generation);
            let known = self.state.text_statements.get(name).is_some_and(|s| s.legs.contains(&generation));
            if !known {
                self.bring_in_step(at, None).await?;
                let mut text = format!("PREPARE {} FROM ", super::transaction::quoted(name)).into_bytes();
                text.extend(self.text_literal(at, &sql));
                self.tell_bytes(at, &text).await??;
                if let Some(s) = self.state.text_statements.get_mut(name) {
                    s.legs.push(generation);
                }
            }
        }
        Ok(Some(plan))
    }

    /// A statement's text as a literal for PREPARE.
    fn text_literal(&self, at: usize, sql: &[u8]) -> Vec<u8> {
        let engine = self.legs.get(at).and_then(|l| l.backend.handle.probed()).map(|p| p.engine);
        if matches!(engine, Some(Engine::MariaDb { .. })) {
            return format!("X'{}'", hex(sql)).into_bytes();
        }
        // MySQL takes a quoted string only
        let mut out = vec![b'\''];
        for byte in sql {
            if *byte == b'\'' || *byte == b'\\' && !self.state.dialect.no_backslash_escapes {
                out.push(*byte);
            }
            out.push(*byte);
        }
        out.push(b'\'');
        out
    }
}
