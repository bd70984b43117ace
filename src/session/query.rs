//! COM_QUERY: its plan, its store, and one statement on one leg.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Session;
use super::careful::Way;
use super::control_flow::{Failure, Fatal};
use super::effects::{is_plain, may_assign_unseen};
use super::guard::Care;
use super::insight::{Came, Described, Digest, Noted};
use super::leg::Leg;
use super::recorded::Place;
use super::relay::{self, relay, rolls_back};
use super::sealed::{Held, Sent};
use crate::config::StoreId;
use crate::routing::decide::{SessionView, decide};
use crate::routing::{Decision, Refusal};
use crate::sql::Facts;
use crate::sql::classify::{Analysis, analyze};
use crate::sql::dialect::Dialect;
use crate::sql::facts::{DynamicSource, Flags, Kind};
use crate::sql::fingerprint::{Fingerprint, fingerprint};
use crate::wire::ErrPacket;
use crate::wire::packet;
use crate::wire::reply::{Event, Expect, Outcome, Reply};

/// A text's facts, with the newest decision on them.
pub(crate) struct Plan {
    pub(crate) analysis: Analysis,
    /// Its only statement needs nothing but its store.
    plain: bool,
    /// (epoch, database, store, what it has to do with gates).
    decided: Cell<Option<(u64, u64, StoreId, Care)>>,
    /// Its text may ask for CONNECTION_ID(), which `pool: transaction` answers.
    pub(crate) own_id: bool,
    pub(crate) print: Fingerprint,
    /// Its text without literals, where figures of it are kept.
    pub(crate) described: OnceCell<Arc<Described>>,
    /// Its figures in the database where it ran last.
    pub(crate) digest: RefCell<Option<Arc<Digest>>>,
}

impl Plan {
    pub(crate) fn new(print: Fingerprint, analysis: Analysis) -> Plan {
        let plain = match analysis.statements.as_ref() {
            [one] => is_plain(one),
            _ => false,
        };
        Plan {
            analysis,
            plain,
            decided: Cell::new(None),
            own_id: false,
            print,
            described: OnceCell::new(),
            digest: RefCell::default(),
        }
    }

    /// The facts of its only statement.
    pub(crate) fn single(&self) -> Option<&Facts> {
        match self.analysis.statements.as_ref() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// The facts of a statement whose text is dynamic: its inner statement's; the outer may bring variables of its own (USING @a).
pub(crate) fn inner_facts(outer: &Facts, inner: Option<&Plan>) -> Facts {
    let mut facts = inner.and_then(Plan::single).cloned().unwrap_or_else(|| outer.clone());
    let mut variables = facts.user_variables.to_vec();
    variables.extend(outer.user_variables.iter().cloned());
    facts.user_variables = variables.into();
    facts.flags |= outer.flags & (Flags::READS_USER_VARIABLES | Flags::WRITES_USER_VARIABLES);
    facts
}

/// Where the bytes of a command are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// So many bytes at the start of the client's read buffer.
    Buffered(usize),
    /// In `Session::gathered`.
    Gathered,
}

impl From<Refusal> for ErrPacket {
    fn from(r: Refusal) -> ErrPacket {
        ErrPacket::new(r.code, &r.sqlstate, r.message)
    }
}

/// What runs at home, which keeps the session's state.
fn of_session(kind: &Kind) -> bool {
    kind.controls_transaction()
        || matches!(kind, Kind::Set(_) | Kind::Use(_) | Kind::Kill { .. } | Kind::Xa | Kind::UnlockTables)
}

impl Session {
    /// The framed bytes of the command under way.
    pub(crate) fn framed(&self, frame: Frame) -> &[u8] {
        match frame {
            Frame::Buffered(n) => self.client.buffered().get(..n).unwrap_or_default(),
            Frame::Gathered => &self.gathered,
        }
    }

    /// Drops the command's bytes.
    pub(crate) fn consume(&mut self, frame: Frame) {
        match frame {
            Frame::Buffered(n) => self.client.consume(n),
            Frame::Gathered => self.gathered = Vec::new(),
        }
    }

    pub(crate) fn plan_of(&self, frame: Frame) -> Rc<Plan> {
        let payload = packet::payload(self.framed(frame));
        self.plan(payload.get(1..).unwrap_or_default(), &self.state.dialect)
    }

    /// The plan of a text: from the cache, or made.
    pub(crate) fn plan(&self, sql: &[u8], dialect: &Dialect) -> Rc<Plan> {
        let print = fingerprint(sql, dialect);
        if let Some(plan) = self.core.plans.borrow_mut().get(print) {
            self.core.figures.plan(true);
            if plan.described.get().is_none() {
                self.describe(plan, sql);
            }
            return Rc::clone(plan);
        }
        self.core.figures.plan(false);
        let plan = Rc::new(Plan::new(print, analyze(sql, dialect)).of(sql));
        self.describe(&plan, sql);
        if plan.analysis.cacheable() {
            // facts are of the size of the names in the text
            let described = plan.described.get().map_or(0, |d| d.weight());
            let weight = 256 + sql.len().min(4096) + plan.analysis.statements.len() * 256 + described;
            self.core.plans.borrow_mut().insert(print, Rc::clone(&plan), weight);
        }
        plan
    }

    /// The store of a statement that the facts decide; the session's own state has its say before.
    pub(crate) fn decide(&self, facts: &Facts, plan: Option<&Plan>) -> Result<StoreId, ErrPacket> {
        let snapshot = &self.live.snapshot;
        let cacheable = self.remembers();
        let database = if snapshot.depends_on_database() { hash(self.state.database.as_deref()) } else { 0 };
        if let Some(plan) = plan
            && cacheable
            && let Some((epoch, db, store, _)) = plan.decided.get()
            && epoch == snapshot.epoch
            && db == database
        {
            return Ok(store);
        }
        let view = SessionView {
            database: self.state.database.as_deref(),
            temporary: &self.state.temporary,
            written: &self.transaction.written,
        };
        match decide(facts, snapshot, &view) {
            Decision::Store { store, .. } => {
                if let (Some(plan), true) = (plan, cacheable) {
                    plan.decided.set(Some((snapshot.epoch, database, store, self.care_of(facts))));
                }
                Ok(store)
            }
            Decision::Refuse(refusal) => Err(refusal.into()),
        }
    }

    /// The leg on which a statement runs.
    pub(crate) async fn target(&mut self, facts: &Facts, plan: Option<&Plan>) -> Result<usize, Failure> {
        let by_generation = |legs: &[Leg], g: u64| legs.iter().position(|l| l.generation == g).unwrap_or(0);
        match &facts.kind {
            // home keeps the session's state
            kind if facts.tables.is_empty() && of_session(kind) => return Ok(0),
            Kind::Diagnostics => return Ok(by_generation(&self.legs, self.state.diagnosed)),
            Kind::Handler { name, open: false, .. } => {
                let g = self.state.handlers.get(&name.to_ascii_lowercase()).copied();
                return Ok(g.map_or(0, |g| by_generation(&self.legs, g)));
            }
            _ => {}
        }
        if facts.tables.is_empty() && facts.hint.is_none() {
            if facts.flags.intersects(Flags::READS_ROW_COUNT | Flags::READS_FOUND_ROWS) {
                return Ok(by_generation(&self.legs, self.state.last));
            }
            if facts.flags.contains(Flags::READS_DIAGNOSTICS) {
                return Ok(by_generation(&self.legs, self.state.diagnosed));
            }
            if facts.flags.contains(Flags::READS_LAST_INSERT_ID) {
                self.settle_insert_ids(facts).await?;
                return Ok(by_generation(&self.legs, self.state.last_insert));
            }
        }
        let store = self.decide(facts, plan)?;
        if self.stands_in(facts, store) {
            return Ok(0);
        }
        self.leg(store).await
    }

    /// The hot path's condition: a plain statement whose leg is there. Nothing is done before it, and its bytes go on as they came.
    /// In a session of several legs that holds for reads outside transactions, while nothing is left to be brought in step. Also
    /// whether its bytes are to be kept: it may be asked again where its store fails.
    pub(crate) fn hot_leg(&self, plan: &Plan) -> Option<(usize, bool)> {
        if !plan.plain {
            return None;
        }
        let facts = plan.single()?;
        let store = self.decide(facts, Some(plan)).ok()?;
        let mut keeps = false;
        if !self.live.gates.is_empty() {
            if self.journal.has_pending() {
                return None;
            }
            let known = plan.decided.get().filter(|known| known.0 == self.live.snapshot.epoch && self.remembers());
            keeps = self.hot_care(facts, known.map_or_else(|| self.care_of(facts), |known| known.3))?;
        }
        if let [home] = self.legs.as_slice() {
            return (home.store() == store).then_some((0, keeps));
        }
        let settled = !(self.transaction.used
            || self.in_transaction()
            || self.state.next_transaction.is_some()
            || self.state.tables_locked
            || may_assign_unseen(facts)
            || self.legs.iter().any(|l| l.broken || l.suspect || l.stale_one_shot));
        let at = self.legs.iter().position(|l| l.store() == store).filter(|_| settled)?;
        let leg = self.legs.get(at)?;
        let in_step = leg.synced == self.state.version
            && self.state.one_shots.is_empty()
            && (self.state.database.is_none() || leg.database == self.state.database);
        (at == 0 || in_step).then_some((at, keeps))
    }

    /// Whether decisions are those of the snapshot alone, and so the plan's.
    fn remembers(&self) -> bool {
        self.live.snapshot.epoch != super::guard::MIXED
            && self.state.temporary.is_empty()
            && self.transaction.written.is_empty()
    }

    /// COM_QUERY.
    pub(crate) async fn query(&mut self, frame: Frame) -> Result<(), Fatal> {
        let started = Instant::now();
        let plan = self.plan_of(frame);
        if let Some(most) = self.drawn() {
            self.sample(most, plan.single(), |s| Some(packet::payload(s.framed(frame)).get(1..)?.to_vec()));
        }
        self.keep_said(|s| packet::payload(s.framed(frame)).get(1..).unwrap_or_default().to_vec());
        if !self.state.dialect_unknown
            && let Some((at, keeps)) = self.hot_leg(&plan)
            && let Some(facts) = plan.single()
        {
            if keeps {
                self.keep(frame, at);
            }
            let sent = if keeps {
                Box::pin(self.forward_kept(frame, at, Expect::Results)).await
            } else {
                self.forward(frame, at, Expect::Results).await.map(Sent::Answered)
            };
            let lost = match sent {
                Ok(Sent::Answered(outcome)) => {
                    self.finish(Noted::new(Some(&plan), Came::Text, started), facts, at, &outcome);
                    return Ok(());
                }
                Ok(Sent::Sealed(_) | Sent::Missing(_)) => None,
                Err(fatal) if !keeps => return Err(fatal.during(Some(facts))),
                Err(fatal) => Some(fatal),
            };
            let again = Box::pin(self.query_again(&plan, lost, started)).await;
            return self.ended(again, &plan).await;
        }
        let done = Box::pin(self.query_with_care(frame, Rc::clone(&plan), started)).await;
        self.ended(done, &plan).await
    }

    async fn query_with_care(&mut self, frame: Frame, plan: Rc<Plan>, started: Instant) -> Result<(), Failure> {
        // the frame is consumed whatever happens, before anything is answered
        let framed: Vec<u8> = self.framed(frame).to_vec();
        self.consume(frame);
        let payload = packet::payload(&framed);
        let sql = payload.get(1..).unwrap_or_default();
        if self.state.dialect_unknown && sql.iter().any(|b| matches!(b, b'"' | b'\\')) {
            Box::pin(self.ask_dialect()).await?;
            let plan = self.plan(sql, &self.state.dialect);
            return Box::pin(self.run_text(&framed, &plan, sql, started)).await;
        }
        self.run_text(&framed, &plan, sql, started).await
    }

    pub(crate) async fn run_text(
        &mut self,
        framed: &[u8],
        plan: &Rc<Plan>,
        sql: &[u8],
        started: Instant,
    ) -> Result<(), Failure> {
        let Some(facts) = plan.single() else {
            return Box::pin(self.multi(framed, plan, sql, started)).await;
        };
        if self.show_kept_warnings(facts, sql, Place::ALONE).await?.is_some() {
            return Ok(());
        }
        let kept = self.with_kept(facts, sql);
        let framed = kept.as_deref().unwrap_or(framed);
        match &facts.kind {
            Kind::Prepare { name, source } => {
                let ran = Noted::new(Some(plan), Came::Text, started);
                return Box::pin(self.text_prepare(framed, facts, (name, source), ran)).await;
            }
            Kind::Execute { name } => return Box::pin(self.text_execute(framed, facts, name, started)).await,
            Kind::ExecuteImmediate(source) => {
                let told = facts.hint.is_some() && self.live.config().hints;
                let inner = match source {
                    DynamicSource::Expression { .. } if told => None,
                    _ => self.dynamic(facts, source).await?,
                };
                return Box::pin(self.run_as(framed, facts, inner, started)).await;
            }
            Kind::LockTables(_) => {
                if let Some(parts) = self.split_lock(facts, sql)? {
                    self.pass_gates(facts).await?;
                    return Box::pin(self.lock_tables(facts, parts)).await;
                }
            }
            _ => {}
        }
        let (at, outcome) = match &facts.kind {
            Kind::Kill { query, id: Some(id) } => {
                let at = self.target(facts, Some(plan)).await?;
                self.before(facts, at).await?;
                (at, self.send_kill(framed, at, Expect::Results, *id, *query).await?)
            }
            _ => {
                let ran = self
                    .run_carefully(&mut Way::Text { framed, plan: Some(plan), expect: Expect::Results }, facts)
                    .await?;
                (ran.at, ran.outcome)
            }
        };
        self.finish(Noted::new(Some(plan), Came::Text, started), facts, at, &outcome);
        Ok(())
    }

    /// A statement whose text is dynamic: it runs where its inner statement would.
    pub(super) async fn run_as(
        &mut self,
        framed: &[u8],
        outer: &Facts,
        inner: Option<Rc<Plan>>,
        started: Instant,
    ) -> Result<(), Failure> {
        let facts = self.placed_facts(outer, inner_facts(outer, inner.as_deref()));
        let recorded = self.run_dynamic_recorded(framed, outer, &facts, Place::ALONE).await?;
        let (at, outcome) = match recorded {
            Some(ran) => ran,
            None => {
                let ran =
                    self.run_carefully(&mut Way::Text { framed, plan: None, expect: Expect::Results }, &facts).await?;
                (ran.at, ran.outcome)
            }
        };
        self.finish(Noted::new(inner.as_deref(), Came::Prepared, started), &facts, at, &outcome);
        Ok(())
    }

    /// The facts of what a text prepared: its tables are in what was the default database then.
    pub(crate) fn placed_facts(&self, outer: &Facts, facts: Facts) -> Facts {
        let Kind::Execute { name } = &outer.kind else { return facts };
        match self.state.text_statements.get(name) {
            Some(known) if known.under.is_elsewhere(&self.state) => known.under.placed(facts),
            _ => facts,
        }
    }

    /// sql_mode was set to an expression: what it came to decides how quotes and backslashes are read.
    async fn ask_dialect(&mut self) -> Result<(), Failure> {
        let rows = self.ask(0, "SELECT @@sql_mode, @@character_set_client").await?;
        let modes = String::from_utf8_lossy(rows.first(0).unwrap_or_default()).into_owned();
        self.state.dialect.ansi_quotes = modes.split(',').any(|m| m == "ANSI_QUOTES");
        self.state.dialect.no_backslash_escapes = modes.split(',').any(|m| m == "NO_BACKSLASH_ESCAPES");
        let charset = String::from_utf8_lossy(rows.first(1).unwrap_or_default()).into_owned();
        self.state.dialect.charset = crate::sql::dialect::CharsetClass::from_charset_name(&charset);
        self.state.dialect_unknown = false;
        Ok(())
    }

    /// Sends the client's own bytes to a leg and relays the response: nothing is copied.
    pub(crate) async fn forward(&mut self, frame: Frame, at: usize, expect: Expect) -> Result<Outcome, Fatal> {
        self.pass_on(frame, at).await?;
        let Session { client, legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        relay(client, leg, expect).await
    }

    /// The same, for a read whose bytes are kept: what may be the word of a store that is sealed by `rename` is kept from the client.
    pub(crate) async fn forward_kept(&mut self, frame: Frame, at: usize, expect: Expect) -> Result<Sent, Fatal> {
        if !self.live.gates.may_move() {
            return self.forward(frame, at, expect).await.map(Sent::Answered);
        }
        self.pass_on(frame, at).await?;
        self.relay_sealable(at, expect, Held { seals: false, missing: true }).await
    }

    async fn pass_on(&mut self, frame: Frame, at: usize) -> Result<(), Fatal> {
        let Session { client, legs, gathered, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        leg.busy = true;
        match frame {
            Frame::Buffered(n) => {
                if let Err(error) = client.pass(&mut leg.backend.stream, n).await {
                    client.consume(n);
                    return Err(leg.lost(error));
                }
            }
            Frame::Gathered => {
                let bytes = std::mem::take(gathered);
                leg.backend.stream.write(&bytes).await.map_err(|e| leg.lost(e))?;
            }
        }
        Ok(())
    }

    /// Sends framed bytes to a leg and relays the response; a store that loses its transaction takes the others with it.
    pub(crate) async fn send_relay(&mut self, framed: &[u8], at: usize, expect: Expect) -> Result<Outcome, Fatal> {
        let several = self.several_take_part();
        let Session { client, legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
        leg.busy = true;
        leg.answered = false;
        leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
        if !several {
            return relay(client, leg, expect).await;
        }
        let mut reply = Reply::new(expect, leg.backend.capabilities);
        reply.hold_errors(true);
        if relay::run(client, leg, &mut reply).await? == Event::Error {
            if !reply.outcome().error.is_some_and(rolls_back) {
                return Box::pin(self.doubtful_error(at, reply)).await;
            }
            self.roll_back_all_but(at).await?;
            let Session { client, legs, .. } = self;
            let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit) };
            reply.hold_errors(false);
            relay::finish(client, leg, &mut reply).await?;
        }
        Ok(*reply.outcome())
    }
}

fn hash(database: Option<&str>) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut h = DefaultHasher::new();
    database.hash(&mut h);
    h.finish()
}
