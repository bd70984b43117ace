//! A store that fails under a statement of a group with `fallback: auto`: what had not begun waits for the standby to take over,
//! and a read whose answer had not begun is asked again there. What wrote, and lost its answer, ends the client's connection.
//!
//! A lost connection may be a KILL (RULES.md 20), which must not be undone: so a read is asked again only where the watcher
//! sees that the store is gone, and ends as it would have where the store answers.
//!
//! In `pool: transaction` the lost connection may be the session's only one: it goes on where nothing pins it and its variables
//! are known by value. What a write left on it (LAST_INSERT_ID(), ROW_COUNT()) is lost with it, as in `pool: session`.

use std::rc::Rc;

use tokio::time::{Duration, Instant};

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::guard::Attempts;
use super::insight::Came;
use super::pins::Pin;
use super::query::{Frame, Plan};
use crate::backend::StoreHandle;
use crate::config::model::Fallback;
use crate::sql::Facts;
use crate::sql::facts::{Access, Kind};
use crate::wire::{Command, Status, packet};

/// Between two looks.
const AGAIN: Duration = Duration::from_millis(50);
/// The store has answered its watcher so often since: it lives.
const PROOFS: u64 = 2;

/// So many bytes are left to the session of what it kept of a command.
const KEPT: usize = 1024;

impl Session {
    /// Keeps the bytes of a command that goes the hot path to a leg.
    pub(crate) fn keep(&mut self, frame: Frame, at: usize) {
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        kept.shrink_to(KEPT);
        kept.extend_from_slice(self.framed(frame));
        self.kept = kept;
        if let Some(leg) = self.legs.get_mut(at) {
            leg.answered = false;
        }
    }

    /// A statement's end, for the session.
    pub(crate) async fn ended(&mut self, done: Result<(), Failure>, plan: &Plan) -> Result<(), Fatal> {
        match done {
            Ok(()) => Ok(()),
            Err(Failure::Session(fatal)) => Err(fatal.during(plan.single())),
            Err(Failure::Statement(error)) => self.refuse_one(plan, Came::Text, &error).await,
        }
    }

    /// A read of the hot path, whose leg was lost, or whose store says that its table is not there.
    pub(crate) async fn query_again(
        &mut self,
        plan: &Rc<Plan>,
        lost: Option<Fatal>,
        started: std::time::Instant,
    ) -> Result<(), Failure> {
        let framed = std::mem::take(&mut self.kept);
        self.survive_read(plan, lost).await?;
        let payload = packet::payload(&framed);
        self.run_text(&framed, plan, payload.get(1..).unwrap_or_default(), started).await
    }

    /// After a loss of a read's leg, if it was one: the read can be sent again.
    pub(crate) async fn survive_read(&mut self, plan: &Plan, lost: Option<Fatal>) -> Result<(), Failure> {
        let Some(fatal) = lost else { return Ok(()) };
        let Some(facts) = plan.single() else { return Err(fatal.into()) };
        let passes = self.passes.len();
        self.survive(facts, (passes, true), fatal.into(), &mut Attempts::default()).await
    }

    /// Whether a statement of these facts is one that may survive its store: it goes with its bytes kept.
    pub(crate) fn is_rescued(&self, facts: &Facts) -> bool {
        self.gates_where(facts, |_| true).iter().any(|(_, gate)| gate.falls_back())
    }

    /// After a failure of the statement's store: waits until the group has another authority, and says that it can be tried again;
    /// else the failure stands. `sent` tells whether the statement was on its way, `passes` how many the session had before it.
    pub(crate) async fn survive(
        &mut self,
        facts: &Facts,
        (passes, sent): (usize, bool),
        failure: Failure,
        attempts: &mut Attempts,
    ) -> Result<(), Failure> {
        if !self.is_rescued(facts) || !self.may_survive(facts, sent, &failure) {
            return Err(failure);
        }
        let gates = self.gates_where(facts, |_| true);
        let Some((id, gate)) = gates.first().cloned() else { return Err(failure) };
        let authority = |live: &super::core::Live| {
            live.config().groups.get(usize::from(id.0)).map(|g| live.config().store_name(g.connection).to_owned())
        };
        let before = authority(&self.live);
        self.passes.truncate(passes);
        let limit = gate.hold_max();
        let deadline = *attempts.deadline.get_or_insert_with(|| Instant::now() + limit);
        let proofs = gate.proofs();
        gate.look();
        while Instant::now() < deadline {
            if authority(self.newest.load()) != before {
                // a transaction that goes on elsewhere has nothing on this group's store yet
                self.adopt(&[id]);
                return Ok(());
            }
            if gate.proofs() >= proofs + PROOFS {
                // it lives: a refused connection may be tried again, a lost one was somebody's will
                return if sent { Err(failure) } else { Ok(()) };
            }
            gate.change(AGAIN).await;
        }
        Err(failure)
    }

    /// Whether nothing is lost with the leg, and the client knows of nothing.
    fn may_survive(&self, facts: &Facts, sent: bool, failure: &Failure) -> bool {
        let bound = self.in_transaction()
            || self.transaction.explicit
            || self.state.tables_locked
            || !self.home_status().contains(Status::AUTOCOMMIT);
        let pooled = self.lease.is_some();
        match failure {
            // cannot connect: nothing was sent
            Failure::Statement(error) => error.code == 1429,
            Failure::Session(Fatal::Store { store, .. }) => {
                let reads = matches!(facts.kind, Kind::Read | Kind::Show)
                    && facts.tables.iter().all(|t| t.access <= Access::Read && t.access != Access::Call);
                let home = usize::from(!pooled);
                let leg = self.legs.iter().skip(home).find(|l| l.name == *store && l.broken);
                // (one that was lost while it was made ready is nobody's leg yet)
                let unheard = leg.map_or(pooled && !sent, |l| !sent || !l.answered);
                !bound && unheard && (reads || !sent) && (!pooled || self.leaves_nothing())
            }
            Failure::Session(_) => false,
        }
    }

    /// Whether a session of `pool: transaction` loses nothing with its connection but what its last write left there.
    pub(crate) fn leaves_nothing(&self) -> bool {
        let mut pins = self.pins();
        pins.set(Pin::Warnings, false);
        pins.is_empty() && self.legs.len() < 2 && self.lease.as_ref().is_some_and(|l| l.is_known())
    }

    /// Whether a store is one of a group that another may take over from by itself.
    pub(crate) fn may_be_given_up(&self, store: &StoreHandle) -> bool {
        let config = self.live.config();
        config.groups.iter().filter(|g| g.keeping.fallback == Fallback::Auto).any(|g| {
            g.standby.is_some_and(|other| [g.connection, other].iter().any(|id| config.store_name(*id) == store.name()))
        })
    }

    /// The connection that had the session's newest state is lost: it goes on, where what was not known of it is only what a write
    /// left, and the store one that another takes over from.
    pub(crate) fn goes_on_without(&mut self, store: &StoreHandle) -> Result<(), Failure> {
        if self.may_be_given_up(store) && self.lease.as_mut().is_some_and(|l| l.forgets_writes()) {
            return Ok(());
        }
        let error = std::io::ErrorKind::ConnectionReset.into();
        Err(Fatal::Store { store: store.name().to_owned(), error }.into())
    }

    /// Takes the connection that a command of `pool: transaction` needs first; where its store has failed, the other's in time.
    pub(crate) async fn lease_surviving(&mut self, frame: Frame, command: Command) -> Result<(), Failure> {
        let mut attempts = Attempts::default();
        loop {
            let Err(failure) = Box::pin(self.lease_for(frame, command)).await else { return Ok(()) };
            let plan = match command {
                Command::Query | Command::StmtPrepare => Some(self.plan_of(frame)),
                Command::StmtExecute | Command::StmtBulkExecute => self.statements.plan_for(self.framed(frame)),
                _ => None,
            };
            let statements = plan.iter().flat_map(|p| p.analysis.statements.iter());
            let Some(facts) = statements.into_iter().find(|f| self.is_rescued(f)).cloned() else { return Err(failure) };
            let passes = self.passes.len();
            Box::pin(self.survive(&facts, (passes, false), failure, &mut attempts)).await?;
        }
    }
}
