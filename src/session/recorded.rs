//! One write of a group whose authority has no binlog: the rows are read before and after it, and entered in the journal in the
//! same transaction of the store (RULES.md 28, 44, 45).
//!
//! ```text
//! autocommit   BEGIN; rows before, locked; WRITE; rows after │ INSERT journal; COMMIT │ the client's OK      two round trips
//! transaction  SAVEPOINT; rows before; WRITE; rows after     │ OK …                   │ INSERT journal, before COMMIT
//! ```
//!
//! WRITE is the client's text, or that of its prepared statement with its parameters as literals, where those are the parameters'
//! very values: the store stops at the first error, so that nothing runs outside its transaction. Where they are not, it is the
//! client's own COM_STMT_EXECUTE, sent when what goes before it has been answered (RULES.md 28).
//!
//! The client's answer is the store's own to the write, with the flags that it would have had. What the statements around it
//! change of what a client can ask for afterwards (ROW_COUNT, FOUND_ROWS, warnings) is kept, and answered from what was kept.
//! What cannot be recorded is refused before anything runs; rows that are not those which the write changed undo it.

use super::Session;
use super::answers::{Answer, Answers, Write};
use super::control_flow::{Failure, Fatal};
use super::journaled::{Recorder, refused};
use super::query::Plan;
use super::recorded_alone::AloneJob;
use super::relay::rolls_back;
use super::sealed::{is_missing, is_seal};
use crate::changes::journal::Ids;
use crate::changes::journal::record::{self, After, Before, Did, How};
use crate::changes::journal::table::Table;
use crate::config::GroupId;
use crate::entry::RowChange;
use crate::sql::Facts;
use crate::sql::dialect::Engine;
use crate::sql::facts::{Flags, Kind};
use crate::sql::writes;
use crate::wire::reply::Outcome;
use crate::wire::{Command, ErrPacket, OkPacket, Status, tracking};

/// How often a write whose rows were not those that were read, or that met a deadlock, is tried.
pub(super) const ATTEMPTS: u32 = 5;
/// Where a write begins, for undoing it alone.
const SAVEPOINT: &str = "switchover_write";

/// A write that is to be recorded.
pub(crate) struct Recording<'a> {
    pub(crate) facts: &'a Facts,
    /// What was decided on it.
    pub(crate) plan: Option<&'a Plan>,
    pub(crate) group: GroupId,
    /// What it does, as text without parameters.
    pub(crate) sql: &'a [u8],
    pub(crate) sending: Sending<'a>,
    pub(crate) place: Place,
}

/// How the write itself is sent.
pub(crate) enum Sending<'a> {
    /// As this text; whether it is one statement for everybody, however it is read.
    Text(&'a [u8], bool),
    /// As this COM_STMT_EXECUTE of a statement of the session's.
    Execute(u32, &'a [u8]),
}

/// Where its answer stands in the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The number of its packet.
    pub(crate) sequence: u8,
    /// Answers to other statements follow.
    pub(crate) more: bool,
}

impl Place {
    /// That of the only answer.
    pub(crate) const ALONE: Place = Place { sequence: 1, more: false };
}

/// How a write is asked about.
enum Planned {
    Together(record::Plan),
    Alone(record::Alone),
}

/// One write on its way.
struct Job<'a> {
    at: usize,
    facts: &'a Facts,
    group: &'a str,
    recorder: &'a Recorder,
    table: &'a Table,
    plan: &'a record::Plan,
    write: &'a Write,
    place: Place,
    /// A transaction of its own.
    auto: bool,
}

/// What became of an attempt.
enum Tried {
    Done(Outcome),
    /// The store is sealed, and has undone it.
    Sealed,
    Again(String),
}

/// Places of what is asked around a write.
#[derive(Default)]
struct Places {
    found_rows: Option<usize>,
    before: Option<usize>,
    counted: Option<usize>,
    write: usize,
    after: Option<usize>,
}

/// What a question of the proxy's own is told where the client's write would say nothing of the kind: it is no question.
fn is_no_question(code: u16) -> bool {
    // syntax; a wrong literal of a date; collations that do not go together; no default; a variable that is not known
    matches!(code, 1064 | 1525 | 1267 | 1270 | 1271 | 1364 | 1193)
}

impl Session {
    /// Runs a write of a journaled group, and records it; the leg, and what came of it: nothing, and nothing the client knows of,
    /// where the store is sealed.
    pub(crate) async fn run_recorded(
        &mut self,
        recording: &Recording<'_>,
    ) -> Result<(usize, Option<Outcome>), Failure> {
        let Recording { facts, plan, group, sql, .. } = *recording;
        if facts.kind != Kind::Write {
            self.must_be_recorded(facts)?;
        }
        let group = self.live.snapshot.group(group).map(|g| g.name.clone()).unwrap_or_default();
        self.may_record(&group, facts)?;
        let read = writes::read(sql, &self.state.dialect).map_err(|e| refused(&group, &e.to_string()))?;
        let at = self.target(facts, plan).await?;
        self.before(facts, at).await?;
        let recorder = self.recorder(&group, at).await?;
        let database = read.database.clone().or_else(|| self.state.database.clone());
        let Some(database) = database else {
            return Err(ErrPacket::new(1046, b"3D000", "No database selected").into());
        };
        let table = self.recorded_table(&recorder, at, &group, (&database, &read.name)).await?;
        let plan = match table.transactional {
            true => record::plan(&read, sql, &table).map(Planned::Together),
            false => record::alone(&read, sql, &table).map(Planned::Alone),
        };
        let plan = plan.map_err(|why| refused(&group, &why))?;
        let write = match recording.sending {
            Sending::Text(text, together) => Write::Text(text.to_vec(), together),
            Sending::Execute(id, payload) => {
                let (packets, _) = self.execute_for(id, at, payload.to_vec(), Command::StmtExecute).await?;
                Write::Packets(packets)
            }
        };
        if std::mem::take(&mut self.journal.doubt) {
            self.still_in_transaction(at).await?;
        }
        let auto = self.begins_alone(at);
        let place = recording.place;
        let (recorder, table, write, group) = (&*recorder, &*table, &write, group.as_str());
        let plan = match plan {
            Planned::Together(plan) => plan,
            Planned::Alone(alone) => {
                let job = AloneJob { at, group, recorder, table, alone: &alone, write, place, auto };
                let outcome = Box::pin(self.record_alone(&job)).await?;
                return Ok((at, Some(outcome)));
            }
        };
        let job = Job { at, facts, group, recorder, table, plan: &plan, write, place, auto };
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.attempt(&job).await? {
                Tried::Done(outcome) => return Ok((at, Some(outcome))),
                Tried::Sealed => return Ok((at, None)),
                Tried::Again(again) => why = again,
            }
        }
        let text =
            format!("switchover: the write was undone: what it changed could not be recorded ({why}); try again");
        Err(ErrPacket::new(1213, b"40001", text).into())
    }

    /// Refuses what would be recorded wrongly whatever its form is.
    fn may_record(&self, group: &str, facts: &Facts) -> Result<(), ErrPacket> {
        if facts.flags.contains(Flags::CALLS_ROUTINE) {
            return Err(refused(group, "it may call a stored function, whose changes are not seen"));
        }
        let asks = Flags::READS_ROW_COUNT | Flags::READS_FOUND_ROWS | Flags::READS_DIAGNOSTICS;
        if facts.flags.intersects(asks) {
            return Err(refused(
                group,
                "it reads what the statement before it left (ROW_COUNT(), FOUND_ROWS(), warnings), which recording changes",
            ));
        }
        if self.transaction.only_home == Some("an XA transaction") || self.state.tables_locked {
            return Err(refused(group, "XA transactions and LOCK TABLES are not recorded"));
        }
        Ok(())
    }

    /// Whether a write is a transaction of its own there; what an earlier transaction had pending is forgotten.
    fn begins_alone(&mut self, at: usize) -> bool {
        let (open, auto, generation) = self.legs.get(at).map_or((false, true, 0), |leg| {
            let open = leg.in_transaction();
            (open, !open && leg.backend.status.contains(Status::AUTOCOMMIT), leg.generation)
        });
        if !open || self.journal.generation != generation {
            self.journal.pending.clear();
            self.journal.savepoints.clear();
        }
        auto
    }

    async fn attempt(&mut self, job: &Job<'_>) -> Result<Tried, Failure> {
        let (before, after, places) = self.parts(job);
        let mut answers = self.ask_around(job.at, &before, job.write, &after).await?;
        if let Some(error) = answers.error.take() {
            return self.failed(job, &answers, error, &places).await;
        }
        let Some(Answer::Ok(ok)) = answers.list.get(places.write).cloned() else {
            return self.undo(job, "the write answered with rows").await;
        };
        let read = OkPacket::read(&ok).unwrap_or_default();
        let did = Did {
            affected: read.affected_rows,
            matched: said(&ok, b"Rows matched: "),
            changed: said(&ok, b"Changed: "),
            insert_id: read.last_insert_id,
            counted: places.counted.map_or(0, |n| answers.count(n)),
        };
        if job.plan.how == How::InsertMade && did.counted == 0 {
            self.undo(job, "").await?;
            return Err(refused(job.group, INTERLEAVED).into());
        }
        let changes = match self.what_changed(job, &answers, &places, did).await? {
            Ok(changes) => changes,
            Err(mismatch) => return self.undo(job, &mismatch).await,
        };
        if let Some(n) = places.found_rows {
            self.journal.found_rows = answers.number(n).and_then(|n| u64::try_from(n).ok());
        }
        self.journal.row_count = i64::try_from(did.affected).ok();
        self.journal.warnings = answers.shown(places.write + 1);
        self.journal.fresh = true;
        if !job.auto {
            self.journal.group = job.group.to_owned();
            self.journal.generation = self.legs.get(job.at).map_or(0, |l| l.generation);
            self.journal.pending.extend(changes);
        } else if let Err(error) =
            self.enter_changes(job.at, (job.group, job.recorder), &changes, Some("COMMIT")).await?
        {
            let _ = self.tell(job.at, "ROLLBACK").await?;
            return if is_seal(&error) { Ok(Tried::Sealed) } else { Err(error.into()) };
        }
        if job.auto && self.asks_standby() {
            self.pay(&Outcome::default(), false).await?;
        }
        self.answer_client(job.at, &ok, job.auto, job.place).await.map(Tried::Done)
    }

    /// What is asked before and after the write in one attempt.
    fn parts(&self, job: &Job<'_>) -> (Vec<Vec<u8>>, Vec<Vec<u8>>, Places) {
        let mut before: Vec<Vec<u8>> = Vec::with_capacity(3);
        let mut places = Places::default();
        if job.auto && self.conflicts_at_the_row(job) {
            before.push(b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED".to_vec());
        }
        before.push(if job.auto { b"BEGIN".to_vec() } else { format!("SAVEPOINT {SAVEPOINT}").into_bytes() });
        if self.journal.found_rows.is_none() {
            places.found_rows = Some(before.len());
            before.push(b"SELECT FOUND_ROWS()".to_vec());
        }
        if let Some(question) = &job.plan.before {
            places.before = Some(before.len());
            before.push(question.clone());
        }
        if let Some(question) = &job.plan.counted {
            places.counted = Some(before.len());
            before.push(question.clone());
        }
        places.write = before.len();
        let mut after = vec![b"SHOW WARNINGS".to_vec()];
        if let After::Read(question) = &job.plan.after {
            places.after = Some(places.write + 2);
            after.push(question.clone());
        }
        (before, after, places)
    }

    /// Whether the row that gives ids away makes a conflict of any two transactions that are open together: under snapshot isolation,
    /// which is what such stores mean by REPEATABLE READ (RULES.md 38). A write alone is the same at either.
    fn conflicts_at_the_row(&self, job: &Job<'_>) -> bool {
        let engine = self.legs.get(job.at).and_then(|leg| leg.backend.handle.probed()).map(|probed| probed.engine);
        job.recorder.ids == Ids::Row && !matches!(engine, Some(Engine::MariaDb { .. }))
    }

    /// What the write has changed, from the answers around it; or why that cannot be said.
    async fn what_changed(
        &mut self,
        job: &Job<'_>,
        answers: &Answers,
        places: &Places,
        did: Did,
    ) -> Result<Result<Vec<RowChange>, String>, Failure> {
        let before = match places.before.map(|n| answers.before(n, job.table)) {
            Some(Ok(before)) => before,
            Some(Err(why)) => return Ok(Err(why)),
            None => Before::default(),
        };
        let mut after = match places.after.map(|n| answers.rows(n, job.table)) {
            Some(Ok(after)) => after,
            Some(Err(why)) => return Ok(Err(why)),
            None => Vec::new(),
        };
        if job.plan.after == After::Later {
            match record::later(job.plan, job.table, &before, did) {
                Ok(None) => {}
                Ok(Some(question)) => {
                    let answers = self.ask_parts(job.at, &[question]).await?;
                    match answers.rows(0, job.table) {
                        Ok(rows) if answers.error.is_none() => after = rows,
                        _ => return Ok(Err("its rows could not be read again".to_owned())),
                    }
                }
                Err(mismatch) => return Ok(Err(mismatch.0)),
            }
        }
        Ok(record::changes(job.plan.how, job.table, did, before.rows, after).map_err(|mismatch| mismatch.0))
    }

    /// Undoes what an attempt did, so that it can be tried again.
    async fn undo(&mut self, job: &Job<'_>, why: &str) -> Result<Tried, Failure> {
        let undo = if job.auto { "ROLLBACK".to_owned() } else { format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}") };
        self.tell(job.at, &undo).await??;
        Ok(Tried::Again(why.to_owned()))
    }

    /// An error of the write is the client's; one of what is asked around it undoes the write.
    async fn failed(
        &mut self,
        job: &Job<'_>,
        answers: &Answers,
        payload: Vec<u8>,
        places: &Places,
    ) -> Result<Tried, Failure> {
        let error = ErrPacket::read(&payload).map_err(|e| Fatal::Client(std::io::Error::other(e.to_string())))?;
        let behind = answers.list.len() > places.write;
        let gone = rolls_back(error.code);
        let away =
            is_missing(&error) && self.held(job.facts, false).missing && self.has_moved(job.facts, job.at).await?;
        if away || is_seal(&error) {
            if job.auto {
                self.tell(job.at, "ROLLBACK").await??;
            }
            return Ok(Tried::Sealed);
        }
        if let (true, Some(leg)) = (gone, self.legs.get_mut(job.at)) {
            leg.backend.status.remove(Status::IN_TRANS);
        }
        if let Some(n) = places.found_rows.filter(|n| *n < answers.list.len()) {
            self.journal.found_rows = answers.number(n).and_then(|n| u64::try_from(n).ok());
        }
        if answers.list.len() < places.write && is_no_question(error.code) {
            self.undo(job, "").await?;
            return Err(
                refused(job.group, &format!("the store does not take the question for its rows: {error}")).into()
            );
        }
        let mut warnings = None;
        if job.auto {
            let answers = self.ask_parts(job.at, &[b"SHOW WARNINGS".to_vec(), b"ROLLBACK".to_vec()]).await?;
            warnings = answers.shown(0).filter(|_| self.forgets_warnings(job.at));
            if gone || (behind && error.code != 1142 && error.code != 1143) {
                return Ok(Tried::Again(error.to_string()));
            }
        } else if behind && !gone {
            self.tell(job.at, &format!("ROLLBACK TO SAVEPOINT {SAVEPOINT}")).await??;
        }
        self.journal.row_count = Some(-1);
        self.journal.warnings = warnings;
        self.journal.fresh = true;
        if gone && self.several_take_part() {
            self.roll_back_all_but(job.at).await?;
        }
        self.client.write_message(job.place.sequence, &payload).await.map_err(Fatal::client)?;
        Ok(Tried::Done(Outcome { error: Some(error.code), ..Outcome::default() }))
    }

    /// Whether a ROLLBACK makes the store forget the error that SHOW WARNINGS tells of; MariaDB's does not.
    fn forgets_warnings(&self, at: usize) -> bool {
        let engine = self.legs.get(at).and_then(|leg| leg.backend.handle.probed()).map(|probed| probed.engine);
        !matches!(engine, Some(Engine::MariaDb { .. }))
    }

    /// The store's OK to the write, with the flags that it has without what surrounds it (RULES.md 45).
    pub(super) async fn answer_client(
        &mut self,
        at: usize,
        ok: &[u8],
        auto: bool,
        place: Place,
    ) -> Result<Outcome, Failure> {
        let Some(leg) = self.legs.get_mut(at) else { return Err(Fatal::Quit.into()) };
        let read = OkPacket::read(ok).map_err(|e| leg.nonsense(e))?;
        let mut payload = ok.to_vec();
        if read.status.contains(Status::SESSION_STATE_CHANGED) {
            let changes = tracking::changes(ok).map_err(|e| leg.nonsense(e))?;
            leg.changes.extend(changes);
            if leg.untracked {
                payload = tracking::without_changes(ok).map_err(|e| leg.nonsense(e))?;
            }
        }
        let mut drop = Status::MORE_RESULTS;
        drop.set(Status::IN_TRANS, auto);
        super::answers::clear_status(&mut payload, drop);
        super::answers::plain_info(&mut payload);
        let status = OkPacket::read(&payload).map_or(read.status, |ok| ok.status);
        leg.backend.status = status;
        if place.more {
            super::answers::set_status(&mut payload, Status::MORE_RESULTS);
        }
        self.client.write_message(place.sequence, &payload).await.map_err(Fatal::client)?;
        Ok(Outcome {
            status: Some(status),
            ok: Some(OkPacket { status, ..read }),
            insert_id: read.last_insert_id,
            warnings: read.warnings,
            ..Outcome::default()
        })
    }
}

/// A number of an UPDATE's OK: `Rows matched: 3  Changed: 1  Warnings: 0`.
pub(super) fn said(ok: &[u8], words: &[u8]) -> Option<u64> {
    let rest = ok.get(memchr::memmem::find(ok, words)? + words.len()..)?;
    let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

const INTERLEAVED: &str =
    "the store makes the keys of the rows of its query, and not one after another (innodb_autoinc_lock_mode = 2)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_off_an_ok() {
        let ok = b"\0\x01\0\x02\0\0\0\x28Rows matched: 12  Changed: 1  Warnings: 0";
        assert_eq!((said(ok, b"Rows matched: "), said(ok, b"Changed: ")), (Some(12), Some(1)));
        assert_eq!(said(b"\0\x01\0\x02\0\0\0", b"Changed: "), None);
    }
}
