//! The fallback: the authority is down, and its standby takes over; and what happens when it returns.
//!
//! ```text
//! hold ─► the standby's applier has applied what it holds ─► strays are put aside ([`super::aside`]) ─► one transaction on the standby:
//!         nobody applies any more (the lease's term), how far it came (P), where its own log is (Q), its row: open, epoch + 2
//!      ─► unseal ─► routing follows ─► release
//!
//! the old authority returns, open still: its row: sealed ─► seal it ─► what it has behind P is settled ([`super::settle`])
//!      ─► its row: standby
//! ```
//!
//! A dead store cannot be fenced by a row on it. What fences it is the lease: with `ack: standby` nobody acknowledges a write on
//! the old authority any more once the standby takes no more of its log. Nothing flips by itself a second time: going forward
//! again is an operator's cutover.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::health::Cause;
use super::marks;
use super::pair::{PairError, Side};
use super::record::{self, Record, Standing};
use super::rounds;
use super::schema::literal;
use super::settle::{self, Report};
use super::watch::Shared;
use super::worker;
use crate::backend::StoreHandle;
use crate::backend::connection::QueryError;
use crate::backend::control::ControlError;
use crate::backend::login::LoginError;
use crate::entry::Position;
use crate::telemetry::without_values;

/// Attempts at the decision, where locks are in its way.
const TRIES: u32 = 5;
/// The standby has applied what it holds when its marks have stood still for so long,
const STILL: Duration = Duration::from_millis(250);
/// or at the latest after this.
const DRAINED: Duration = Duration::from_secs(2);
/// Epochs up: the next is that of a cutover, which the old authority may have begun ([`super::record`]).
const SKIPPED: u64 = 2;
/// For the seal's triggers.
const UNSEAL: Duration = Duration::from_secs(5);

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The new authority.
    pub authority: String,
    /// Its epoch.
    pub epoch: u64,
}

/// Opens the standby `to` in place of `from`, which is down; nothing, where the standby is none at this epoch any more.
///
/// # Errors
/// As the standby's: nothing is decided then, or [`super::pair::Pair::finish`] ends it.
pub async fn open(shared: &Shared, from: &str, to: &Arc<StoreHandle>, why: &str) -> Result<Option<Opened>, PairError> {
    let settings = &shared.settings;
    let group = &settings.group;
    let mut side = Side::connect(to, &settings.tables).await?;
    let Some(record) =
        side.rows(group).await?.record.filter(|r| r.standing == Standing::Standby && r.authority == from)
    else {
        return Ok(None);
    };
    stand_still(&mut side, group).await?;
    side.put_aside(group, &record, record.epoch + SKIPPED, Instant::now() + UNSEAL).await?;
    let new = Record {
        epoch: record.epoch + SKIPPED,
        authority: side.name().to_owned(),
        standing: Standing::Open,
        ..record.clone()
    };
    if !decide(&mut side, group, from, &record, &new).await? {
        return Ok(None);
    }
    tracing::error!(group, from, to = side.name(), epoch = new.epoch, "the authority is given up: {why}");
    side.unseal(group, Some((new.epoch, Standing::Open)), Instant::now() + UNSEAL).await?;
    side.execute(&format!("DELETE FROM switchover.intents WHERE group_name = {}", literal(group))).await?;
    Ok(Some(Opened { authority: new.authority, epoch: new.epoch }))
}

/// Takes the seal off a store whose own row says that it serves: whoever opened it may have died before he did, and the other
/// store cannot be asked.
///
/// # Errors
/// As the store's.
pub async fn unseal(shared: &Shared, authority: &str) -> Result<(), PairError> {
    let settings = &shared.settings;
    let Some(store) = settings.stores.iter().find(|s| s.name() == authority) else { return Ok(()) };
    let mut side = Side::connect(store, &settings.tables).await?;
    let rows = side.rows(&settings.group).await?;
    let record = rows.record.filter(|r| r.standing == Standing::Open && r.authority == authority);
    let Some(record) = record.filter(|_| !rows.intent.is_some_and(|i| i.is_live())) else { return Ok(()) };
    side.unseal(&settings.group, Some((record.epoch, Standing::Open)), Instant::now() + UNSEAL).await.map(drop)
}

/// Waits until the applier, wherever it runs, has applied what it holds.
async fn stand_still(side: &mut Side, group: &str) -> Result<(), PairError> {
    let begun = Instant::now();
    let mut last = (super::cutover::applied(side, group).await?, Instant::now());
    while last.1.elapsed() < STILL && begun.elapsed() < DRAINED {
        sleep(Duration::from_millis(25)).await;
        let now = super::cutover::applied(side, group).await?;
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    Ok(())
}

/// The decision. An applier that stands in its way, of a proxy that is suspended say, is ended.
async fn decide(side: &mut Side, group: &str, from: &str, seen: &Record, new: &Record) -> Result<bool, PairError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match try_decide(side, group, from, seen, new).await {
            Err(PairError::Query(_, QueryError::Refused(e))) if tries > 0 && matches!(e.code, 1205 | 1213) => {
                side.execute("ROLLBACK").await?;
                if e.code == 1205 {
                    worker::end_all(&mut side.backend, group).await.map_err(|e| side.failed(e))?;
                }
            }
            other => return other,
        }
    }
}

/// The decision, with all that it needs later, in one transaction.
async fn try_decide(side: &mut Side, group: &str, from: &str, seen: &Record, new: &Record) -> Result<bool, PairError> {
    let name = literal(group);
    side.be_brief().await?;
    side.execute("START TRANSACTION").await?;
    // an applier that is about to commit has done so when this returns, or never will
    let deposed =
        format!("UPDATE switchover.leases SET term = term + 1, renewed = '1970-01-02' WHERE group_name = {name}");
    side.execute(&deposed).await?;
    side.execute(&format!("UPDATE switchover.marks SET term = term + 1 WHERE group_name = {name}")).await?;
    let store = side.name().to_owned();
    let rows =
        side.backend.query(marks::select(group).as_bytes()).await.map_err(|e| PairError::Query(store.clone(), e))?;
    let unclear = |e: marks::BadMarks| PairError::Unclear(e.to_string());
    let marks: Vec<marks::Mark> =
        rows.rows.iter().map(|r| rounds::mark_of(r)).collect::<Result<_, _>>().map_err(unclear)?;
    let resume = marks::resume(&marks).map_err(unclear)?;
    let opened = side.log_end(None).await?;
    let sql = format!(
        "REPLACE INTO switchover.fallbacks VALUES ({name}, {}, {}, {}, {}, {}, NOW(6), 'open')",
        new.epoch,
        literal(from),
        literal(&resume.position.to_string()),
        literal(&marks::ids_to_text(&resume.applied)),
        literal(&opened.to_string())
    );
    side.execute(&sql).await?;
    if !side.replace(group, (seen.epoch, seen.standing), new).await? {
        side.execute("ROLLBACK").await?;
        return Ok(false);
    }
    side.execute("COMMIT").await?;
    side.be_patient().await?;
    Ok(true)
}

/// What a fallback wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    position: Position,
    applied: BTreeSet<String>,
    opened: Position,
}

async fn noted(side: &mut Side, group: &str, from: &str) -> Result<Option<Noted>, PairError> {
    let sql = format!(
        "SELECT position, applied, opened FROM switchover.fallbacks WHERE group_name = {} AND source = {}",
        literal(group),
        literal(from)
    );
    let store = side.name().to_owned();
    let rows = side.backend.query(sql.as_bytes()).await.map_err(|e| PairError::Query(store.clone(), e))?;
    let text = |at| rows.first(at).map(|v| String::from_utf8_lossy(v).into_owned());
    let (Some(position), Some(applied), Some(opened)) = (text(0), text(1), text(2)) else { return Ok(None) };
    let parsed = |t: &str| t.parse::<Position>().map_err(|e| PairError::Unclear(e.to_string()));
    let applied = marks::ids_from_text(&applied);
    Ok(Some(Noted { position: parsed(&position)?, applied, opened: parsed(&opened)? }))
}

/// Both stores are open, `authority` is the newer: the old one is sealed, settled, and follows. What was left behind.
///
/// # Errors
/// As the stores'; where an operator has to mend something first.
pub async fn take_back(shared: &Shared, authority: &str) -> Result<Report, PairError> {
    let settings = &shared.settings;
    let group = &settings.group;
    let mut pair = super::pair::Pair::connect(group, &settings.tables, settings.stores.each_ref()).await?;
    let (new, old) = pair.side(authority)?;
    let unclear = |text: String| PairError::Unclear(text);
    let epoch = new.rows(group).await?.record.map(|r| r.epoch);
    let record = old.rows(group).await?.record;
    let (Some(epoch), Some(mut record)) = (epoch, record) else {
        return Err(unclear(format!("{group} has no row in switchover.groups")));
    };
    let noted = noted(new, group, old.name()).await?;
    let noted =
        noted.ok_or_else(|| unclear(format!("{authority} has no note of how it took over from {}", old.name())))?;
    let shut = Record { epoch: epoch.saturating_sub(1), standing: Standing::Sealed, ..record.clone() };
    if record != shut {
        if !old.has_settled_intents(group).await? {
            return Err(unclear(format!("{}: a write whose proxy is gone is still under way there", old.name())));
        }
        if !old.replace(group, (record.epoch, record.standing), &shut).await? {
            return Err(unclear(format!("the row of {} has changed meanwhile", old.name())));
        }
        record = shut;
    }
    if !old.seal(group, &record.token, (record.epoch, record.standing), None, Instant::now() + UNSEAL).await? {
        return Err(unclear(format!("the row of {} has changed meanwhile", old.name())));
    }
    let request = settle::Request {
        group: group.clone(),
        tables: settings.tables.clone(),
        old: Arc::clone(&old.store),
        new: Arc::clone(&new.store),
        token: record.token.clone(),
        position: noted.position,
        applied: noted.applied,
        opened: noted.opened,
    };
    let report =
        settle::settle(&request).await.map_err(|e| unclear(format!("what {} left behind: {e}", old.name())))?;
    let standby = Record { epoch, authority: authority.to_owned(), standing: Standing::Standby, ..record.clone() };
    let replaced = record::replace(&mut old.backend, group, (record.epoch, record.standing), &standby).await;
    replaced.map_err(|e| PairError::Query(old.name().to_owned(), e))?;
    new.execute(&format!("UPDATE switchover.fallbacks SET state = 'settled' WHERE group_name = {}", literal(group)))
        .await?;
    Ok(report)
}

/// What a failed probe says of its store.
pub(super) fn cause_of(error: &ControlError) -> Cause {
    match error {
        ControlError::Timeout(_) => Cause::Silent,
        ControlError::Login(_, LoginError::Refused(e)) => Cause::of(e.code).unwrap_or(Cause::Denied),
        ControlError::Login(_, LoginError::Io(_)) => Cause::Unreachable,
        ControlError::Query(_, e) => cause_of_query(e),
        ControlError::Login(..) | ControlError::NoAccount(_) => Cause::Denied,
    }
}

/// What a failed query says of its store.
pub(super) fn cause_of_query(error: &QueryError) -> Cause {
    match error {
        QueryError::Refused(e) => Cause::of(e.code).unwrap_or(Cause::Denied),
        QueryError::Io(_) | QueryError::Malformed(_) => Cause::Lost,
    }
}

/// Logs how settling the old authority ended; the lines that `status` shows of it.
pub(super) fn log_settled(group: &str, settled: Result<Report, PairError>) -> Vec<String> {
    match settled {
        Ok(report) => {
            let text = without_values(report.lines().join("; "));
            tracing::warn!(group, "the old authority is settled: {text}");
            report.lines()
        }
        Err(error) => {
            let text = without_values(&error);
            tracing::warn!(group, error = text, "the old authority is back, and not settled yet");
            vec![error.to_string()]
        }
    }
}
