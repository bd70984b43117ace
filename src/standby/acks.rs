//! `ack: standby`: says which acknowledgements the standby has made good.
//!
//! ```text
//! sessions ask (numbers) ─► a place in the authority's log, behind all that was committed before
//!                                                     ─► the standby passes it ─► all up to that number are settled
//! ```
//!
//! One place answers everybody who asked before it, as a group commit does: its number is read first, then the place. What a
//! transaction may depend on is before it in the log.
//!
//! **A place** is where the binlog ends (`gtid_binlog_state`): a read, and no commit. A transaction that was answered is before it: a
//! server gives the number when it writes the transaction to its binlog, under the lock of that variable, and commits it in the
//! engine, and answers, only behind that (`tests/it/standby/acks.rs` looks at it in a loop). Of each domain the highest number counts
//! ([`Position::highest`]), and the standby has passed a place when it has passed it in all of them.
//!
//! **A mark** is a place that is made, by a write to the row of `switchover.groups`: at it the applier writes its position at once. It
//! costs a commit on the authority and mostly one on the standby, and so is made only where
//! - the log is a journal: its ids are no order of commits, and what an engine shows of them need not be its newest;
//! - it is to be shown that somebody applies at all: after a failure, and while the standby is not waited for;
//! - the standby has not passed a place in its usual time: what ends the log may be another's, whose places nobody tells at once.
//!
//! **The standby has passed** a place when this process's own applier says so ([`Applied`]), or else the standby's own marks, whichever
//! proxy applies. Both are behind the standby's COMMIT, under the lease's term. So the authority's row decides nothing: a
//! fallback ends the term in the transaction that notes how far the marks are, and what was passed until then is on the store that
//! takes over; behind it nobody passes a transaction of the group any more, whatever is written to the old authority, open or not.
//! That row is read with the place, in one statement, so that a store that serves no more is left at once; and its epoch: a proxy that
//! slept through a fallback, the return of the old authority and a cutover back finds the same store open, behind another history.
//! Whoever waited meanwhile is told that nobody knows ([`Acks::give_up`]).

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};

use super::pair::PairError;
use super::schema::literal;
use super::watch::Shared;
use super::{log, marks, rounds};
use crate::backend::{Backend, StoreHandle, control};
use crate::config::model::{Ack, ChangeLog, Fallback};
use crate::entry::Position;
use crate::routing::acks::{Acks, Applied};
use crate::routing::gate::Standby;
use crate::telemetry::without_values;

/// Between two looks at the standby's marks, where another proxy applies,
const POLL: Duration = Duration::from_millis(1);
/// and where this one does, but is not heard of.
const LOOK: Duration = Duration::from_millis(20);
/// For connecting.
const LIMIT: Duration = Duration::from_secs(5);
/// The least time that a place has.
const LEAST: Duration = Duration::from_millis(500);
/// Where nobody asks, the standby is looked at so often: that it has gone away is to be known before somebody writes.
const IDLE: Duration = Duration::from_secs(1);
/// Between two attempts while the standby is away.
const AGAIN: Duration = Duration::from_millis(250);

/// A place that is not passed for so long, and so many times as long as places usually take, is marked;
const PATIENCE: Duration = Duration::from_millis(5);
const USUAL: u32 = 3;
/// and so is each in the time after it, where another proxy applies: whoever writes behind the group may go on to.
const MARKING: Duration = Duration::from_millis(250);
/// Places that are waited for, at the most: the newest stands for those behind it.
const IN_FLIGHT: usize = 16;

/// A place in the authority's log.
struct Asked {
    /// Whose numbers it answers: up to this one.
    number: u64,
    place: Position,
    /// It was made.
    marked: bool,
    at: Instant,
}

/// Places that are not passed yet, in their order.
#[derive(Default)]
struct Waiting(VecDeque<Asked>);

impl Waiting {
    fn add(&mut self, asked: Asked) {
        if self.0.len() >= IN_FLIGHT {
            self.0.pop_back();
        }
        self.0.push_back(asked);
    }

    /// The newest that is before `done`, which all before it go with; whether any of them was marked.
    fn pass(&mut self, done: &Position) -> Option<(Asked, bool)> {
        let newest = self.0.iter().rposition(|asked| done.behind(&asked.place) == Some(0))?;
        let mut marked = false;
        let passed = self.0.drain(..=newest).inspect(|asked| marked |= asked.marked).last()?;
        Some((passed, marked))
    }
}

/// Settles acknowledgements, for as long as it is polled.
pub(super) async fn confirm(shared: Arc<Shared>) {
    let settings = &shared.settings;
    let acks = settings.gate.acks();
    if settings.keeping.ack != Ack::Standby {
        return std::future::pending().await;
    }
    // whether the standby follows is looked at before anybody asks
    let failing = Cell::new(Some(Instant::now()));
    loop {
        let Err(error) = follow(&shared, &failing).await else { continue };
        let since = failing.get().unwrap_or_else(Instant::now);
        failing.set(Some(since));
        if since.elapsed() >= settings.keeping.ack_timeout {
            // after a fallback it goes on without a standby until there is one that follows, settled or not
            let alone = acks.standby() == Standby::Degraded;
            let away = if alone { Standby::Degraded } else { without(&shared).await };
            if acks.set_standby(away) {
                let why = without_values(error.to_string());
                tracing::error!(group = settings.group, ?away, "the standby cannot acknowledge writes: {why}");
            }
        }
        sleep(AGAIN.min(settings.keeping.ack_timeout)).await;
    }
}

/// Place after place, until the authority is another one.
async fn follow(shared: &Shared, failing: &Cell<Option<Instant>>) -> Result<(), PairError> {
    let mut changes = shared.settings.gate.followed();
    let view = shared.view();
    if view.followed == 0 || view.followed != view.epoch {
        // this proxy is about to route by the newest rows
        let followed = timeout(AGAIN, changes.changed()).await.is_ok();
        let unknown = || PairError::Unclear("nothing is routed by the rows yet".to_owned());
        return if followed || view.followed != 0 { Ok(()) } else { Err(unknown()) };
    }
    let (authority, epoch) = (view.authority, view.followed);
    let unknown = || PairError::Unclear(format!("the authority {authority} is none of both stores"));
    let stores = &shared.settings.stores;
    let from = stores.iter().find(|s| s.name() == authority).ok_or_else(unknown)?;
    let to = stores.iter().find(|s| s.name() != authority).ok_or_else(unknown)?;
    let limit = shared.settings.keeping.ack_timeout.max(LEAST);
    let connect = async { Ok((control::connect(from, LIMIT).await?, Connected(control::connect(to, LIMIT).await?))) };
    let (there, mut standby) = within(limit, connect).await?;
    // (places are counted as the standby counts)
    let done = within(limit, standby.position(&shared.settings.group, epoch)).await?;
    let (acks, hurry, marking) = (shared.settings.gate.acks(), Hurry::default(), Cell::new(None));
    let following = Following { shared, acks, from, to, epoch, limit, failing, hurry, marking };
    let (sender, receiver) = mpsc::channel(1);
    tokio::select! {
        ended = following.find_places(there, &done, &sender) => ended,
        ended = following.pass_places(standby, receiver) => ended,
    }
}

async fn within<T>(limit: Duration, what: impl Future<Output = Result<T, PairError>>) -> Result<T, PairError> {
    timeout(limit, what).await.unwrap_or_else(|_| Err(not_forward()))
}

fn not_forward() -> PairError {
    PairError::Unclear("the standby does not come forward".to_owned())
}

/// Who finds places, and who sees them passed.
struct Following<'s> {
    shared: &'s Shared,
    acks: &'s Acks,
    from: &'s Arc<StoreHandle>,
    to: &'s Arc<StoreHandle>,
    /// The epoch that this proxy routes by.
    epoch: u64,
    limit: Duration,
    /// Since when the standby does not follow, or is not known to.
    failing: &'s Cell<Option<Instant>>,
    hurry: Hurry,
    /// Until when each place is marked.
    marking: Cell<Option<Instant>>,
}

/// A mark is wanted now.
#[derive(Default)]
struct Hurry {
    wanted: Cell<bool>,
    wake: Notify,
}

impl Following<'_> {
    fn group(&self) -> &str {
        &self.shared.settings.group
    }

    /// Finds a place whenever somebody has asked since the newest, and where it is to be seen whether the standby follows; one at once.
    async fn find_places(
        &self,
        mut there: Backend,
        done: &Position,
        sender: &mpsc::Sender<Asked>,
    ) -> Result<(), PairError> {
        let (mut how, mut newest) = (log::Marking::default(), None);
        loop {
            if newest == Some(self.acks.asked()) {
                tokio::select! {
                    () = self.hurry.wake.notified() => {}
                    _ = timeout(AGAIN, self.acks.wanted()) => {}
                }
            }
            let view = self.shared.view();
            if view.authority != self.from.name() || view.followed != self.epoch {
                return Ok(());
            }
            let (number, at, marked) = (self.acks.asked(), Instant::now(), self.is_marked());
            // (nobody asks while the standby is not waited for, or of an authority that was given up)
            let unasked = newest == Some(number) && self.acks.standby() == Standby::Follows;
            if unasked && !self.hurry.wanted.get() {
                continue;
            }
            self.hurry.wanted.set(false);
            let place = within(self.limit, self.place(marked, &mut there, &mut how, done)).await?;
            newest = Some(number);
            if sender.send(Asked { number, place, marked, at }).await.is_err() {
                return Ok(());
            }
        }
    }

    /// Whether the next place is to be a mark.
    fn is_marked(&self) -> bool {
        self.from.config.change_log == ChangeLog::Journal
            || self.hurry.wanted.get()
            || self.failing.get().is_some()
            || self.acks.standby() != Standby::Follows
            || self.marking.get().is_some_and(|until| Instant::now() < until)
    }

    async fn place(
        &self,
        marked: bool,
        there: &mut Backend,
        how: &mut log::Marking,
        done: &Position,
    ) -> Result<Position, PairError> {
        let authority = self.from.name();
        let serves = log::Serves { group: self.group(), authority, epoch: self.epoch };
        let found = match marked {
            true => log::mark(there, how, self.from.config.change_log, serves, done).await,
            false => log::end_of_open(there, serves, done).await,
        };
        let found = found.map_err(|e| match e {
            log::EndError::Query(e) => PairError::Query(authority.to_owned(), e),
            other => PairError::Unclear(format!("{authority}: {other}")),
        })?;
        found.ok_or_else(|| PairError::Unclear(format!("{authority} is not open in epoch {}", self.epoch)))
    }

    /// Settles what the standby has passed.
    async fn pass_places(&self, mut standby: Connected, mut receiver: mpsc::Receiver<Asked>) -> Result<(), PairError> {
        let mut applied = self.acks.applied();
        let (mut waiting, mut pace, mut looked) = (Waiting::default(), Pace::new(), Instant::now());
        loop {
            if waiting.0.is_empty() {
                let Ok(asked) = timeout(IDLE, receiver.recv()).await else {
                    within(self.limit, standby.position(self.group(), self.epoch)).await?;
                    continue;
                };
                let Some(asked) = asked else { return Ok(()) };
                pace.moved = Instant::now();
                waiting.add(asked);
            }
            while let Ok(asked) = receiver.try_recv() {
                waiting.add(asked);
            }
            let own = applied.borrow_and_update().clone().filter(|own| self.is_ours(own)).map(|own| own.position);
            let applies = own.is_some();
            let mut passed = own.as_ref().and_then(|here| waiting.pass(here));
            let mut here = own;
            if passed.is_none() && (!applies || looked.max(pace.moved).elapsed() >= LOOK) {
                let done = within(self.limit, standby.position(self.group(), self.epoch)).await?;
                looked = Instant::now();
                passed = waiting.pass(&done);
                here = here.or(Some(done));
            }
            pace.see(here);
            if let Some((asked, marked)) = passed {
                pace.passed(&asked);
                self.settle(&asked, marked);
                continue;
            }
            if waiting.0.front().is_some_and(|asked| asked.at.elapsed() >= self.limit) {
                return Err(not_forward());
            }
            if pace.is_late(&waiting) {
                self.marking.set((!applies).then(|| Instant::now() + MARKING));
                self.hurry.wanted.set(true);
                self.hurry.wake.notify_one();
            }
            tokio::select! {
                _ = applied.changed() => {}
                () = sleep(if applies { PATIENCE } else { POLL }) => {}
                asked = receiver.recv() => match asked {
                    Some(asked) => waiting.add(asked),
                    None => return Ok(()),
                }
            }
        }
    }

    /// Whether an applier is between these two stores.
    fn is_ours(&self, applied: &Applied) -> bool {
        applied.epoch == self.epoch && Arc::ptr_eq(&applied.from, self.from) && Arc::ptr_eq(&applied.to, self.to)
    }

    fn settle(&self, asked: &Asked, marked: bool) {
        self.acks.settle(asked.number);
        // (that a place is passed which was read shows no applier: it may have been passed long ago)
        if marked {
            self.failing.set(None);
            if self.acks.set_standby(Standby::Follows) {
                tracing::info!(group = self.group(), "writes are acknowledged with the standby again");
            }
        }
    }
}

/// How places are passed.
struct Pace {
    here: Option<Position>,
    /// Since when the standby is there.
    moved: Instant,
    /// What a place takes, about.
    usual: Duration,
    /// A mark was asked for since the last was passed.
    hurried: bool,
}

impl Pace {
    fn new() -> Pace {
        Pace { here: None, moved: Instant::now(), usual: Duration::ZERO, hurried: false }
    }

    fn see(&mut self, here: Option<Position>) {
        if self.here != here {
            (self.here, self.moved) = (here, Instant::now());
        }
    }

    fn passed(&mut self, asked: &Asked) {
        self.usual = (self.usual * 7 + asked.at.elapsed()) / 8;
        self.hurried = false;
    }

    /// Whether a mark is needed: true once.
    fn is_late(&mut self, waiting: &Waiting) -> bool {
        let Some(front) = waiting.0.front() else { return false };
        let late = front.at.max(self.moved).elapsed() >= PATIENCE + self.usual * USUAL;
        let needed = late && !self.hurried && !waiting.0.iter().any(|asked| asked.marked);
        self.hurried |= needed;
        needed
    }
}

/// The standby.
struct Connected(Backend);

impl Connected {
    /// Up to where it has everything, durably. An error where it is not the standby of this epoch: its marks may be of another
    /// history of the same authority. (One statement: marks and row are of one moment.)
    async fn position(&mut self, group: &str, epoch: u64) -> Result<Position, PairError> {
        let (name, group) = (self.0.handle.name().to_owned(), literal(group));
        let (marks, groups) = (marks::COLUMNS, "switchover.groups AS g");
        let sql = format!(
            "SELECT {marks}, (SELECT COUNT(*) FROM {groups} WHERE g.group_name = {group} AND state = 'standby' AND epoch = {epoch}) \
             FROM switchover.marks WHERE group_name = {group}"
        );
        let rows = self.0.query(sql.as_bytes()).await.map_err(|e| PairError::Query(name.clone(), e))?;
        if rows.rows.iter().any(|row| row.last().and_then(Option::as_deref) != Some(b"1")) {
            return Err(PairError::Unclear(format!("{name} is no standby of epoch {epoch}")));
        }
        let unclear = |e: marks::BadMarks| PairError::Unclear(e.to_string());
        let read: Result<Vec<_>, _> = rows.rows.iter().map(|row| rounds::mark_of(row)).collect();
        Ok(marks::resume(&read.map_err(unclear)?).map_err(unclear)?.position)
    }
}

/// What becomes of writes while the standby is away. Where it could take over, a write that it does not have is not
/// acknowledged (RULES.md 34). It cannot while it is itself the authority that was given up, and is not settled.
async fn without(shared: &Shared) -> Standby {
    let settings = &shared.settings;
    if settings.keeping.fallback == Fallback::Manual {
        return Standby::Degraded;
    }
    let authority = shared.view().authority;
    let asked = async {
        let store = settings.stores.iter().find(|s| s.name() == authority)?;
        let mut backend = control::connect(store, AGAIN * 4).await.ok()?;
        let sql = format!(
            "SELECT COUNT(*) FROM switchover.fallbacks AS f JOIN switchover.groups AS g USING (group_name, epoch) \
             WHERE group_name = {} AND f.state = 'open' AND g.state = 'open'",
            literal(&settings.group)
        );
        let rows = backend.query(sql.as_bytes()).await.ok()?;
        Some(rows.first(0) == Some(b"1"))
    };
    if timeout(AGAIN * 4, asked).await.ok().flatten() == Some(true) { Standby::Degraded } else { Standby::Away }
}
