//! The end of a statement: figures of its store, of its digest, the slow-query log, and what its answer means for the session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Session;
use super::super::control_flow::Fatal;
use super::super::figures::Sort;
use super::super::query::Plan;
use super::digest::{Answer, Described};
use super::{Came, Digest};
use crate::sql::Facts;
use crate::sql::fingerprint::digest_text;
use crate::wire::ErrPacket;
use crate::wire::reply::Outcome;

/// Bytes of a text in the slow-query log.
const SHOWN: usize = 4 << 10;

/// What ran, for its figures.
#[derive(Clone, Copy)]
pub(crate) struct Noted<'a> {
    /// The plan of its text, where that is known.
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) came: Came,
    /// When its command was read.
    pub(crate) started: Instant,
}

impl<'a> Noted<'a> {
    pub(crate) fn new(plan: Option<&'a Plan>, came: Came, started: Instant) -> Noted<'a> {
        Noted { plan, came, started }
    }
}

impl Session {
    /// After a statement: figures, effects, slow log.
    pub(crate) fn finish(&mut self, ran: Noted<'_>, facts: &Facts, at: usize, outcome: &Outcome) {
        let now = Instant::now();
        let took = now.saturating_duration_since(ran.started);
        if let Some(leg) = self.legs.get_mut(at) {
            leg.used = now;
            let store = leg.store().0;
            self.core.figures.query(store, Sort::of(&facts.kind), took, outcome.error.is_some());
            self.count(ran, store, outcome, now, took);
        }
        if let Some(limit) = self.live.config().log.slow_query
            && took >= limit
        {
            self.log_slow(ran, facts, at, outcome, took);
        }
        self.after(facts, at, outcome);
    }

    /// Counts an answer in its statement's digest.
    pub(crate) fn count(&self, ran: Noted<'_>, store: u16, outcome: &Outcome, now: Instant, took: Duration) {
        self.in_digest(ran, now, |digest| {
            digest.answered(
                ran.came,
                &Answer {
                    store,
                    micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                    rows: outcome.rows,
                    affected: outcome.ok.map_or(0, |ok| ok.affected_rows),
                    bytes: outcome.bytes,
                    error: outcome.error,
                    at: self.core.figures.digests.micros(now),
                },
            );
        });
    }

    fn in_digest(&self, ran: Noted<'_>, now: Instant, with: impl FnOnce(&Digest)) {
        let limit = self.live.config().insight.statements;
        let Some(plan) = ran.plan.filter(|_| limit > 0) else { return };
        let Some(described) = plan.described.get() else { return };
        let mut held = plan.digest.borrow_mut();
        let database = self.state.database.as_deref();
        let fits = |d: &&Arc<Digest>| !d.is_gone() && d.database.as_deref() == database;
        if let Some(digest) = held.as_ref().filter(fits) {
            return with(digest);
        }
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let digest = self.core.figures.digests.of(described, database, limit, now);
        with(&digest);
        *held = Some(digest);
    }

    /// Answers a statement with an error of the proxy's own, and counts it.
    pub(crate) async fn refuse_one(&mut self, plan: &Plan, came: Came, error: &ErrPacket) -> Result<(), Fatal> {
        self.count_refused(plan, came, error);
        self.refuse(error).await
    }

    pub(crate) fn count_refused(&self, plan: &Plan, came: Came, error: &ErrPacket) {
        let now = Instant::now();
        let at = self.core.figures.digests.micros(now);
        self.in_digest(Noted::new(Some(plan), came, now), now, |digest| digest.refused(error.code, at));
    }

    /// Takes a plan's text down while it is at hand, where figures or the slow log will need it.
    pub(crate) fn describe(&self, plan: &Plan, sql: &[u8]) {
        let config = self.live.config();
        if plan.described.get().is_some() || config.insight.statements == 0 && config.log.slow_query.is_none() {
            return;
        }
        let described = Described::new(plan.print, sql, &self.state.dialect, &plan.analysis, config.insight.examples);
        let _ = plan.described.set(Arc::new(described));
    }

    /// Keeps the text of a command for the slow log, where that is to have it with its literals.
    pub(crate) fn keep_said(&mut self, sql: impl FnOnce(&Session) -> Vec<u8>) {
        let log = &self.live.config().log;
        if log.literals && log.slow_query.is_some() {
            self.said = sql(self);
            self.said.truncate(SHOWN);
        }
    }

    #[cold]
    fn log_slow(&mut self, ran: Noted<'_>, facts: &Facts, at: usize, outcome: &Outcome, took: Duration) {
        let said = std::mem::take(&mut self.said);
        let Some(suppressed) = self.core.registry.slow_lines.admit() else { return };
        let literals = self.live.config().log.literals && ran.came == Came::Text && !said.is_empty();
        let described = ran.plan.and_then(|p| p.described.get());
        let statement = match described {
            _ if literals => String::from_utf8_lossy(&said).into_owned(),
            Some(d) => digest_text(d.text().as_bytes(), &self.state.dialect),
            None => String::new(),
        };
        let snapshot = &self.live.snapshot;
        let database = self.state.database.as_deref();
        let group = facts.tables.iter().find_map(|t| snapshot.group(snapshot.locate(t, database).group?));
        tracing::warn!(
            target: "switchover::slow",
            session = self.info.id,
            user = self.info.user,
            client = self.info.peer,
            db = database,
            store = self.legs.get(at).map(|l| l.name.as_str()),
            group = group.map(|g| g.name.as_str()),
            milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            rows = outcome.rows,
            affected = outcome.ok.map(|ok| ok.affected_rows),
            bytes = outcome.bytes,
            error = outcome.error,
            digest = described.map(|d| d.id()),
            statement,
            suppressed = Some(suppressed).filter(|n| *n > 0),
            "slow query"
        );
    }
}
