//! The cutover: a group with a standby changes its authority, and no client sees an error.
//!
//! ```text
//! intent ─► hold ─► seal ─► marker ─► caught up ─► reverse start ─► open: decided ─► unseal ─► release
//!   │        every      old store    the standby   the old store    compare-and-set on the
//!   │        proxy      refuses      has it all    will follow      new store's row
//!   └── any failure before "decided": both stores go back, the old authority first of all loses nothing
//! ```
//!
//! Each proxy holds by itself: it sees the intent on the old authority, closes its gate, and says so in `switchover.proxies`
//! when nothing is in flight ([`super::watch`]). A proxy that says nothing for three seconds is not waited for: the seal refuses
//! what it sends. [`Pair::finish`] ends what a conductor that died has left.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::check;
use super::init;
use super::marks;
use super::pair::{Pair, PairError};
use super::record::{self, Record, Standing, Verdict};
use super::rounds;
use super::schema::literal;
use super::watch::Shared;
use crate::entry::Position;

/// Between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(10);
/// Between two attempts to end what failed.
const AGAIN: Duration = Duration::from_millis(200);
/// The conductor is heard of this often.
const PULSE: Duration = Duration::from_millis(500);
/// A proxy that was not heard of for so long is not waited for, seconds.
const ABSENT: u32 = 3;
/// For somebody who applies: a cutover back comes when those who will have not begun yet.
const BEGINS: Duration = Duration::from_secs(3);
/// Transactions that the standby may be behind at the start.
const MAX_LAG: u64 = 5_000;

/// Who wants it, and how.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The store that is to be the authority.
    pub to: String,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Preconditions that do not hold are written down and passed over.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Hears of each step when it is done.
    pub steps: Option<UnboundedSender<Step>>,
    /// Who wants it given up, once somebody does: it is, unless it has been decided.
    pub abort: Option<watch::Receiver<String>>,
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What it came to.
    pub note: String,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Its id.
    pub cutover: String,
    /// The authority before.
    pub from: String,
    /// The epoch that the new authority has.
    pub epoch: u64,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Preconditions that did not hold: what, and what mends it.
    pub skipped: Vec<check::Problem>,
}

/// Why the authority is what it was.
#[derive(Debug, thiserror::Error)]
pub enum CutoverError {
    /// Preconditions do not hold.
    #[error("{}", problems(.0))]
    Refused(Vec<check::Problem>),
    /// Something did not end in time, or failed, before anything was decided; both stores are as they were.
    #[error("given up at `{step}`, nothing has changed: {why}")]
    GivenUp {
        /// Where.
        step: &'static str,
        /// Why.
        why: String,
    },
    /// A store was lost at a moment that leaves open what became of it: the proxies find out when it is back.
    #[error(
        "interrupted at `{step}`: {why}; it goes on, or back, by itself when both stores answer: `switchover status`"
    )]
    Open {
        /// Where.
        step: &'static str,
        /// Why.
        why: String,
    },
}

fn problems(list: &[check::Problem]) -> String {
    list.iter().map(|(what, mend)| format!("{what}\n  help: {mend}")).collect::<Vec<_>>().join("\n")
}

/// Why a step failed.
enum Failed {
    Store(PairError),
    Late(String),
    /// Another proxy has taken it over: it ends it.
    TakenOver,
    /// Another was quicker to write its intent down: of this one there is nothing.
    Other,
}

impl From<PairError> for Failed {
    fn from(error: PairError) -> Failed {
        Failed::Store(error)
    }
}

/// One cutover.
pub struct Cutover<'a> {
    shared: &'a Shared,
    wish: Wish,
    report: Report,
    step: &'static str,
    begun: Instant,
}

/// Moves the authority of a group.
///
/// # Errors
/// [`CutoverError`].
pub async fn cutover(shared: &Shared, wish: Wish) -> Result<Report, CutoverError> {
    let report = Report { cutover: new_id(), ..Report::default() };
    let mut cutover = Cutover { shared, wish, report, step: "look", begun: Instant::now() };
    cutover.run().await
}

/// Who serves a group, by the rows of both stores; nothing where they cannot be asked, or say nothing clear.
pub async fn serves(shared: &Shared) -> Option<String> {
    let settings = &shared.settings;
    let mut pair = Pair::connect(&settings.group, &settings.tables, settings.stores.each_ref()).await.ok()?;
    let (verdict, _) = pair.look().await.ok()?;
    verdict.authority().map(|(authority, _)| authority.to_owned())
}

fn new_id() -> String {
    crate::auth::random::token().chars().take(16).collect()
}

impl Cutover<'_> {
    async fn run(&mut self) -> Result<Report, CutoverError> {
        let settings = &self.shared.settings;
        let stores = settings.stores.each_ref();
        let refused = |e: PairError| {
            let mend =
                "see `switchover status`; an authority that is lost is given up with `--force`: what it has alone is settled when it returns"
                    .to_owned();
            CutoverError::Refused(vec![(e.to_string(), mend)])
        };
        let mut pair = match Pair::connect(&settings.group, &settings.tables, stores).await {
            Ok(pair) => pair,
            Err(error) if self.wish.force && !self.wish.dry_run => return self.without(error).await,
            Err(error) => return Err(refused(error)),
        };
        let (from, epoch, token) = self.look(&mut pair).await?;
        let problems = self.preconditions(&mut pair, &from).await.map_err(refused)?;
        if !problems.is_empty() && !self.wish.force {
            return Err(CutoverError::Refused(problems));
        }
        self.report.skipped = problems;
        self.report.from.clone_from(&from);
        self.report.epoch = epoch + 1;
        self.done(format!("{from} serves, epoch {epoch}"));
        if self.wish.dry_run {
            return Ok(self.report.clone());
        }
        if let Err(failed) = self.conduct(&mut pair, &from, epoch, &token).await {
            return Err(self.back(&mut pair, failed).await);
        }
        self.shared.followed(self.report.epoch, Duration::from_secs(5)).await;
        self.done("writes go on".to_owned());
        Ok(self.report.clone())
    }

    /// The authority cannot be reached, and the operator gives it up: the fallback, by hand.
    async fn without(&mut self, error: PairError) -> Result<Report, CutoverError> {
        let settings = &self.shared.settings;
        self.step = "fallback";
        let open = |why: String| CutoverError::Open { step: "fallback", why };
        let to = settings.stores.iter().find(|s| s.name() == self.wish.to);
        let from = settings.stores.iter().find(|s| s.name() != self.wish.to);
        let (Some(to), Some(from)) = (to, from) else { return Err(open("no such store".to_owned())) };
        let why = format!("{error}; {}", self.wish.reason);
        let opened =
            super::fallback::open(self.shared, from.name(), to, &why).await.map_err(|e| open(e.to_string()))?;
        let Some(opened) = opened else { return Err(open(format!("{} is no standby", to.name()))) };
        settings.gate.acks().set_standby(crate::routing::gate::Standby::Degraded);
        self.report.from = from.name().to_owned();
        self.report.epoch = opened.epoch;
        self.report.skipped.push((error.to_string(), String::new()));
        self.shared.look();
        self.shared.followed(opened.epoch, Duration::from_secs(5)).await;
        self.done(format!(
            "{} is the authority, epoch {}; {} is settled when it returns",
            to.name(),
            opened.epoch,
            from.name()
        ));
        Ok(self.report.clone())
    }

    fn done(&mut self, note: String) {
        let step = Step { name: self.step, took: self.begun.elapsed(), note };
        if let Some(listener) = &self.wish.steps {
            let _ = listener.send(step.clone());
        }
        self.report.steps.push(step);
        self.begun = Instant::now();
    }

    /// Who serves; the other store must be the one that is wished for.
    async fn look(&mut self, pair: &mut Pair) -> Result<(String, u64, String), CutoverError> {
        let group = pair.group.clone();
        let refused = |what: String, mend: String| CutoverError::Refused(vec![(what, mend)]);
        let (verdict, rows) = pair.look().await.map_err(|e| refused(e.to_string(), "switchover status".to_owned()))?;
        let live = rows.iter().find_map(|r| r.intent.as_ref().filter(|i| i.is_live()));
        if let Some(intent) = live {
            let what =
                format!("another cutover of {group} is under way, to {}, by {}", intent.target, intent.conductor);
            return Err(refused(what, "wait for its end: `switchover status`".to_owned()));
        }
        let Verdict::Settled { authority, epoch } = verdict else {
            let what = format!("the rows of switchover.groups do not agree: {verdict}");
            let mend = format!(
                "if the group has no rows yet: switchover init {group}; else the proxies settle it: `switchover status`"
            );
            return Err(refused(what, mend));
        };
        let token = rows.into_iter().find_map(|r| r.record).map(|r| r.token).unwrap_or_default();
        Ok((authority, epoch, token))
    }

    /// What keeps a cutover from going well: all of it, each with what mends it.
    async fn preconditions(&self, pair: &mut Pair, from: &str) -> Result<Vec<check::Problem>, PairError> {
        let group = pair.group.clone();
        let (old, new) = pair.side(from)?;
        let mut problems = check::differences(&old.catalog, &new.catalog);
        problems.extend(check::authority_engines(&old.catalog));
        // the old authority will be a standby: what a standby's tables may not have, it may not have
        problems.extend(check::standby_tables(&old.catalog));
        problems.extend(check::standby_tables(&new.catalog));
        problems.extend(init::authority_problems(&new.store, &new.catalog).await);
        problems.extend(old.rename_problems(&self.shared.settings.tables).await?);
        problems.extend(new.unseal_problems().await?);
        if !is_applied_to(new, &group).await? {
            let what = format!("nobody applies to {}", new.name());
            let mend =
                format!("see `switchover standby show {group}`; a stopped one: `switchover standby retry {group}`");
            problems.push((what, mend));
        }
        let done = applied(new, &group).await?;
        let behind = done.behind(&old.log_end(Some(&done)).await?);
        if behind.is_none_or(|n| n > MAX_LAG) {
            let by = behind.map_or("by an unknown number".to_owned(), |n| format!("by {n}"));
            let what = format!("{} is behind {by} of transactions", new.name());
            problems.push((what, format!("wait until `switchover standby show {group}` is near 0")));
        }
        Ok(problems)
    }

    /// The steps, while the conductor's pulse goes on a connection of its own.
    async fn conduct(&mut self, pair: &mut Pair, from: &str, epoch: u64, token: &str) -> Result<(), Failed> {
        let group = pair.group.clone();
        let old = {
            let (old, _) = pair.side(from)?;
            std::sync::Arc::clone(&old.store)
        };
        self.step = "intent";
        self.intend(pair, from).await?;
        self.shared.look();
        self.done(self.report.cutover.clone());
        let cutover = self.report.cutover.clone();
        // when it may be decided, whoever ends it takes the intent away: this conductor too, in the middle of a beat
        let ending = Cell::new(false);
        let pulse = async {
            let mut own =
                crate::backend::control::connect(&old, Duration::from_secs(3)).await.map_err(PairError::from)?;
            let sql = format!(
                "UPDATE switchover.intents SET renewed = NOW(6) WHERE group_name = {} AND cutover = {}",
                literal(&group),
                literal(&cutover)
            );
            loop {
                sleep(PULSE).await;
                let beat = own.execute(sql.as_bytes()).await;
                match beat {
                    Ok(ok) if ok.affected_rows == 1 => {}
                    _ if ending.get() => std::future::pending().await,
                    Ok(_) => return Err::<(), Failed>(Failed::TakenOver),
                    Err(e) => return Err(Failed::Store(PairError::Query(old.name().to_owned(), e))),
                }
            }
        };
        let aborted = aborted(self.wish.abort.clone());
        tokio::select! {
            biased;
            done = self.steps(pair, (from, epoch, token), &ending) => done,
            lost = pulse => lost,
            by = aborted => Err(Failed::Late(format!("aborted by {by}"))),
        }
    }

    async fn steps(
        &mut self,
        pair: &mut Pair,
        (from, epoch, token): (&str, u64, &str),
        ending: &Cell<bool>,
    ) -> Result<(), Failed> {
        let patience = self.shared.settings.keeping.drain_timeout;
        self.step = "hold";
        self.hold(pair, from, Instant::now() + patience).await?;
        self.step = "seal";
        let group = pair.group.clone();
        let (old, new) = pair.side(from)?;
        let deadline = Instant::now() + patience;
        while !old.has_settled_intents(&group).await? {
            if Instant::now() >= deadline {
                let why = "a write of a table without transactions is under way whose proxy is gone: `SHOW PROCESSLIST` there";
                return Err(Failed::Late(format!("{from}: {why}")));
            }
            sleep(POLL).await;
        }
        let record = |standing| Record {
            epoch: epoch + 1,
            authority: new.name().to_owned(),
            standing,
            token: token.to_owned(),
            cutover: self.report.cutover.clone(),
        };
        let (sealed, open) = (record(Standing::Sealed), record(Standing::Open));
        if !old.close(&group, epoch, &sealed, Instant::now() + patience).await? {
            return Err(Failed::TakenOver);
        }
        self.done(format!("{from} refuses writes"));
        self.step = "catch up";
        let marker = old.last_mark(&group, &applied(new, &group).await?).await?;
        let deadline = Instant::now() + patience;
        while applied(new, &group).await?.behind(&marker) != Some(0) {
            if Instant::now() >= deadline {
                return Err(Failed::Late(format!("{} has not applied everything up to {marker}", new.name())));
            }
            sleep(POLL).await;
        }
        self.done(format!("{} has everything up to {marker}", new.name()));
        self.step = "reverse start";
        let start = new.log_end(None).await?;
        if !begin_reverse(old, &group, &sealed, &start).await? {
            return Err(Failed::TakenOver);
        }
        self.done(format!("{from} will follow from {start}"));
        self.step = "open";
        ending.set(true);
        if !self.decide(new, &group, epoch, &open).await? {
            return Err(Failed::TakenOver);
        }
        self.done(format!("{} is the authority, epoch {}", open.authority, open.epoch));
        self.step = "release";
        let own = self.report.cutover.clone();
        pair.finish_own(&own, Instant::now() + patience).await?;
        self.shared.look();
        Ok(())
    }

    async fn intend(&self, pair: &mut Pair, from: &str) -> Result<(), Failed> {
        let group = pair.group.clone();
        let (old, new) = pair.side(from)?;
        let stale = format!(
            "DELETE FROM switchover.intents WHERE group_name = {} AND renewed < NOW(6) - INTERVAL {} MICROSECOND",
            literal(&group),
            record::INTENT_EXPIRES_MICROS
        );
        old.execute(&stale).await?;
        let skipped: Vec<&str> = self.report.skipped.iter().map(|(what, _)| what.as_str()).collect();
        let text = |t: &str| literal(t);
        let insert = format!(
            "INSERT IGNORE INTO switchover.intents VALUES ({}, {}, {}, {}, {}, {}, {}, {}, NOW(6), NOW(6))",
            text(&group),
            text(&self.report.cutover),
            text(from),
            text(new.name()),
            text(&self.shared.settings.proxy),
            text(&self.wish.by.chars().take(255).collect::<String>()),
            text(&self.wish.reason),
            text(&skipped.join("\n")),
        );
        if old.execute(&insert).await? == 1 { Ok(()) } else { Err(Failed::Other) }
    }

    /// Every proxy that lives holds, and has nothing in flight.
    async fn hold(&mut self, pair: &mut Pair, from: &str, deadline: Instant) -> Result<(), Failed> {
        let sql = format!(
            "SELECT CONCAT(COUNT(*), ' ', COALESCE(SUM(cutover = {}), 0), ' ', COALESCE(GROUP_CONCAT(IF(cutover = {}, NULL, proxy) \
             SEPARATOR ', '), '')) FROM switchover.proxies WHERE group_name = {} AND renewed > NOW(6) - INTERVAL {ABSENT} SECOND",
            literal(&self.report.cutover),
            literal(&self.report.cutover),
            literal(&pair.group),
        );
        let (old, _) = pair.side(from)?;
        loop {
            let answer = old.one(&sql).await?;
            let mut words = answer.splitn(3, ' ');
            let mut next = || words.next().unwrap_or_default().to_owned();
            let (all, ready, missing) = (next(), next(), next());
            if all != "0" && all == ready {
                let hold = if all == "1" { "proxy holds" } else { "proxies hold" };
                self.done(format!("{all} {hold}, nothing is in flight"));
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!(
                    "transactions that write the group are open for longer than `drain_timeout` at {}: `switchover sessions`",
                    if missing.is_empty() { "this proxy" } else { &missing }
                );
                return Err(Failed::Late(why));
            }
            sleep(POLL).await;
        }
    }

    /// The decision: the new authority's row, and with it the end of everybody who applies there.
    async fn decide(
        &self,
        new: &mut super::pair::Side,
        group: &str,
        epoch: u64,
        open: &Record,
    ) -> Result<bool, Failed> {
        let name = literal(group);
        // a conductor that is suspended here keeps nobody's recovery waiting
        new.be_brief().await?;
        new.execute("START TRANSACTION").await?;
        if !new.replace(group, (epoch, Standing::Standby), open).await? {
            new.execute("ROLLBACK").await?;
            return Ok(false);
        }
        new.execute(&format!(
            "UPDATE switchover.leases SET term = term + 1, renewed = '1970-01-02' WHERE group_name = {name}"
        ))
        .await?;
        new.execute(&format!("UPDATE switchover.marks SET term = term + 1 WHERE group_name = {name}")).await?;
        new.execute("COMMIT").await?;
        new.be_patient().await?;
        Ok(true)
    }

    /// After a failure: what is not decided goes back, what is goes forward.
    async fn back(&self, pair: &mut Pair, failed: Failed) -> CutoverError {
        let step = self.step;
        let why = match failed {
            Failed::Store(error) => error.to_string(),
            Failed::Late(why) => why,
            Failed::TakenOver => {
                let why = "another proxy has taken it over".to_owned();
                return CutoverError::Open { step, why };
            }
            Failed::Other => {
                let what = format!("another cutover of {} is under way", pair.group);
                return CutoverError::Refused(vec![(what, "wait for its end: `switchover status`".to_owned())]);
            }
        };
        let settings = &self.shared.settings;
        // a connection may be in any state: new ones
        let stores = settings.stores.each_ref();
        let patience = Instant::now() + settings.keeping.drain_timeout;
        let ended = loop {
            let ended = match Pair::connect(&settings.group, &settings.tables, stores).await {
                Ok(mut fresh) => fresh.finish_own(&self.report.cutover, patience).await,
                Err(error) => Err(error),
            };
            // a store that restarts is back in a moment, and everybody waits
            if ended.is_ok() || Instant::now() >= patience {
                break ended;
            }
            sleep(AGAIN).await;
        };
        self.shared.look();
        match ended {
            Ok((authority, _)) if authority == self.report.from => {
                let _ = pair;
                CutoverError::GivenUp { step, why }
            }
            Ok((authority, epoch)) => {
                let why = format!("{why}; yet it was decided: {authority} is the authority, epoch {epoch}");
                CutoverError::Open { step, why }
            }
            Err(error) => CutoverError::Open { step, why: format!("{why}; {error}") },
        }
    }
}

/// Whether somebody applies to a store, or begins to within [`BEGINS`].
async fn is_applied_to(side: &mut super::pair::Side, group: &str) -> Result<bool, PairError> {
    let sql = format!(
        "SELECT COALESCE(MAX(TIMESTAMPDIFF(MICROSECOND, renewed, NOW(6)) < {} * 1000000), 0) FROM switchover.leases \
         WHERE group_name = {}",
        super::lease::EXPIRES,
        literal(group)
    );
    let deadline = Instant::now() + BEGINS;
    while side.one(&sql).await? != "1" {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(POLL).await;
    }
    Ok(true)
}

/// Waits until somebody wants a cutover given up: who.
async fn aborted(wanted: Option<watch::Receiver<String>>) -> String {
    let Some(mut wanted) = wanted else { return std::future::pending().await };
    match wanted.changed().await {
        Ok(()) => wanted.borrow().clone(),
        Err(_) => std::future::pending().await,
    }
}

/// Up to where a standby has everything, durably.
pub(super) async fn applied(side: &mut super::pair::Side, group: &str) -> Result<Position, PairError> {
    let failed = |why: String| PairError::Unclear(format!("switchover.marks of store {}: {why}", side.store.name()));
    let marks = rounds::read_marks(&mut side.backend, group).await.map_err(|e| failed(e.to_string()))?;
    marks::resume(&marks).map(|r| r.position).map_err(|e| failed(e.to_string()))
}

/// Writes down, on the store that was the authority, where it begins to follow: while its row is as this cutover has sealed it.
/// A conductor that wakes up when that store follows already must not send it back.
pub(super) async fn begin_reverse(
    side: &mut super::pair::Side,
    group: &str,
    sealed: &Record,
    start: &Position,
) -> Result<bool, PairError> {
    side.be_brief().await?;
    side.execute("START TRANSACTION").await?;
    let own = side.replace(group, (sealed.epoch, Standing::Sealed), sealed).await?;
    if own {
        for sql in init::first_mark(group, &sealed.authority, start) {
            side.execute(&sql).await?;
        }
    }
    side.execute(if own { "COMMIT" } else { "ROLLBACK" }).await?;
    side.be_patient().await?;
    Ok(own)
}
