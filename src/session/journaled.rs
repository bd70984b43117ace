//! Writes of a group whose authority has no binlog: the rows are read before and after the write, and entered in the journal in the
//! same transaction of the store (RULES.md 28, 44, 45).
//!
//! ```text
//! autocommit   BEGIN; rows before, locked; WRITE; rows after │ INSERT journal; COMMIT │ the client's OK      two round trips
//! transaction  SAVEPOINT; rows before; WRITE; rows after     │ OK …                   │ INSERT journal, before COMMIT
//! ```
//!
//! The client's answer is the store's own to the write, with the flags that it would have had. What the statements around it
//! change of what a client can ask for afterwards (ROW_COUNT, FOUND_ROWS, warnings) is kept, and answered from what was kept.
//! What cannot be recorded is refused before anything runs; rows that are not those which the write changed undo it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Session;
use super::answers::{Answer, Answers};
use super::control_flow::{Failure, Fatal};
use super::query::Plan;
use super::relay::rolls_back;
use crate::backend::connection::QueryError;
use crate::backend::control;
use crate::changes::journal::record::{self, After, Did};
use crate::changes::journal::table::{Table, TableError};
use crate::changes::journal::{self, Ids, Secret, schema};
use crate::config::Config;
use crate::config::GroupId;
use crate::config::model::{ChangeLog, Group};
use crate::entry::{Row, RowChange};
use crate::sql::Facts;
use crate::sql::dialect::Engine;
use crate::sql::facts::{Access, Assignment, Flags, Kind};
use crate::sql::writes;
use crate::wire::reply::Outcome;
use crate::wire::{ErrPacket, OkPacket, Status, packet, tracking};

/// What is known of a group's journal is asked again after so long: a table may have changed.
const FRESH: Duration = Duration::from_secs(5);
/// How often a write whose rows were not those that were read, or that met a deadlock, is tried.
const ATTEMPTS: u32 = 5;
/// Bytes of entries in one statement, unless one alone has more: a store takes 16 MiB at least, and they are written in hexadecimal.
const BATCH: usize = 4 << 20;
/// Where a write begins, for undoing it alone.
const SAVEPOINT: &str = "switchover_write";

/// What a core knows of a group's journal.
pub(crate) struct Recorder {
    secret: Secret,
    ids: Ids,
    tables: RefCell<HashMap<(String, String), Rc<Table>>>,
    read: Instant,
}

fn refused(group: &str, why: &str) -> ErrPacket {
    let text = format!(
        "switchover: this statement cannot be recorded for the standby of group {group}, whose authority has no binlog: {why}"
    );
    ErrPacket::new(1235, b"42000", text)
}

/// The store does not say what it must be asked first; nothing was done.
fn away(group: &str, error: &dyn std::fmt::Display) -> ErrPacket {
    let text = format!(
        "switchover: the authority of group {group} does not answer the control account: {error}; nothing was done: try again"
    );
    ErrPacket::new(1205, b"HY000", text)
}

/// One write on its way.
struct Job<'a> {
    at: usize,
    group: &'a str,
    recorder: &'a Recorder,
    table: &'a Table,
    plan: &'a record::Plan,
    sql: &'a [u8],
    /// A transaction of its own.
    auto: bool,
}

/// What became of an attempt.
enum Tried {
    Done(Outcome),
    Again(String),
}

/// Places of what is asked around a write.
#[derive(Default)]
struct Places {
    found_rows: Option<usize>,
    before: Option<usize>,
    write: usize,
    after: Option<usize>,
}

impl Session {
    fn has_journals(&self) -> bool {
        !self.live.gates.is_empty() && self.live.config().groups.iter().any(|g| is_journaled(self.live.config(), g))
    }

    /// The journaled group whose tables a statement may change.
    pub(crate) fn journaled(&self, facts: &Facts) -> Option<GroupId> {
        if facts.tables.is_empty() || !self.has_journals() {
            return None;
        }
        let database = self.state.database.as_deref();
        let any = matches!(facts.kind, Kind::Call | Kind::Compound | Kind::LockTables(_));
        let mut changed =
            facts.tables.iter().filter(|t| any || matches!(t.access, Access::Write | Access::Ddl | Access::Call));
        changed.find_map(|table| {
            let db = table.database.as_deref().or(database);
            if self.state.temporary.get(db, &table.name).is_some() {
                return None;
            }
            let group = self.live.snapshot.locate(table, database).group?;
            self.live.snapshot.group(group).filter(|g| is_journaled(self.live.config(), g)).map(|_| group)
        })
    }

    /// Refuses what changes a journaled group in a way that is not recorded, or may do so unseen.
    pub(crate) fn must_be_recorded(&self, facts: &Facts) -> Result<(), ErrPacket> {
        if let Some(group) = self.journaled(facts) {
            let name = self.live.snapshot.group(group).map(|g| g.name.clone()).unwrap_or_default();
            let why = match &facts.kind {
                Kind::Write => "as a prepared statement, or as one of several in a text, it is not recorded",
                Kind::Ddl => "DDL is not recorded; take the group's `standby:` away first",
                Kind::LockTables(_) => "LOCK TABLES is not recorded",
                _ => "what it changes cannot be told",
            };
            return Err(refused(&name, why));
        }
        if matches!(facts.kind, Kind::Execute { .. } | Kind::ExecuteImmediate(_)) && self.has_journals() {
            let config = self.live.config();
            let journaled = config.groups.iter().find(|g| is_journaled(config, g));
            let name = journaled.map(|g| g.name.clone()).unwrap_or_default();
            return Err(refused(&name, "the text of this dynamic statement is not known"));
        }
        Ok(())
    }

    async fn recorder(&self, group: &str, at: usize) -> Result<Rc<Recorder>, Failure> {
        let Some(leg) = self.legs.get(at) else { return Err(Fatal::Quit.into()) };
        let key = (group.to_owned(), leg.name.clone());
        if let Some(known) = self.core.recorders.borrow().get(&key).filter(|r| r.read.elapsed() < FRESH) {
            return Ok(Rc::clone(known));
        }
        let unknown = |e: &dyn std::fmt::Display| {
            let why = format!(
                "the journal of store {} is not there for the control account ({e}): switchover init {group}",
                leg.name
            );
            Failure::Statement(refused(group, &why))
        };
        let limit = self.live.config().limits.connect_timeout;
        let mut backend = control::connect(&leg.backend.handle, limit).await.map_err(|e| away(group, &e))?;
        let asked = |e: QueryError| match e {
            QueryError::Refused(_) => unknown(&e),
            _ => away(group, &e).into(),
        };
        let secret = backend.query(schema::READ_SECRET.as_bytes()).await.map_err(asked)?;
        let secret = secret.first(0).and_then(|bytes| bytes.try_into().ok()).map(Secret);
        let secret = secret.ok_or_else(|| unknown(&"no secret"))?;
        let sequence = backend.query(schema::HAS_SEQUENCE.as_bytes()).await.map_err(asked)?;
        let ids = if sequence.first(0) == Some(b"0") { Ids::Row } else { Ids::Sequence };
        let new = Rc::new(Recorder { secret, ids, tables: RefCell::default(), read: Instant::now() });
        self.core.recorders.borrow_mut().insert(key, Rc::clone(&new));
        let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
        Ok(new)
    }

    async fn recorded_table(
        &self,
        recorder: &Recorder,
        at: usize,
        group: &str,
        (database, name): (&str, &str),
    ) -> Result<Rc<Table>, Failure> {
        let key = (database.to_owned(), name.to_owned());
        if let Some(known) = recorder.tables.borrow().get(&key) {
            return Ok(Rc::clone(known));
        }
        let Some(leg) = self.legs.get(at) else { return Err(Fatal::Quit.into()) };
        let limit = self.live.config().limits.connect_timeout;
        let connected = control::connect(&leg.backend.handle, limit).await;
        let mut backend = connected.map_err(|e| away(group, &e))?;
        let table = match Table::read(&mut backend, database, name).await {
            Ok(table) => Rc::new(table),
            Err(TableError::Unfit(why)) => return Err(refused(group, &why).into()),
            Err(TableError::Query(e)) => return Err(away(group, &e).into()),
        };
        let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
        recorder.tables.borrow_mut().insert(key, Rc::clone(&table));
        Ok(table)
    }

    /// Runs a write of a journaled group, and records it; the leg, and what came of it.
    pub(crate) async fn run_recorded(
        &mut self,
        framed: &[u8],
        facts: &Facts,
        plan: Option<&Rc<Plan>>,
        group: GroupId,
    ) -> Result<(usize, Outcome), Failure> {
        if plan.is_none() || facts.kind != Kind::Write {
            self.must_be_recorded(facts)?;
        }
        let group = self.live.snapshot.group(group).map(|g| g.name.clone()).unwrap_or_default();
        if facts.flags.contains(Flags::CALLS_ROUTINE) {
            return Err(refused(&group, "it may call a stored function, whose changes are not seen").into());
        }
        if self.transaction.only_home == Some("an XA transaction") || self.state.tables_locked {
            return Err(refused(&group, "XA transactions and LOCK TABLES are not recorded").into());
        }
        let payload = packet::payload(framed);
        let sql = statement(payload.get(1..).unwrap_or_default());
        let write = writes::read(sql, &self.state.dialect).map_err(|e| refused(&group, &e.to_string()))?;
        let at = self.target(facts, plan.map(AsRef::as_ref)).await?;
        self.before(facts, at).await?;
        let recorder = self.recorder(&group, at).await?;
        let database = write.database.clone().or_else(|| self.state.database.clone());
        let Some(database) = database else {
            return Err(ErrPacket::new(1046, b"3D000", "No database selected").into());
        };
        let table = self.recorded_table(&recorder, at, &group, (&database, &write.name)).await?;
        let plan = record::plan(&write, sql, &table).map_err(|why| refused(&group, &why))?;
        if std::mem::take(&mut self.journal.doubt) {
            self.still_in_transaction(at).await?;
        }
        let (open, auto, generation) = self.legs.get(at).map_or((false, true, 0), |leg| {
            let open = leg.in_transaction();
            (open, !open && leg.backend.status.contains(Status::AUTOCOMMIT), leg.generation)
        });
        if !open || self.journal.generation != generation {
            self.journal.pending.clear();
            self.journal.savepoints.clear();
        }
        let job = Job { at, group: &group, recorder: &recorder, table: &table, plan: &plan, sql, auto };
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.attempt(&job).await? {
                Tried::Done(outcome) => return Ok((at, outcome)),
                Tried::Again(again) => why = again,
            }
        }
        let text =
            format!("switchover: the write was undone: what it changed could not be recorded ({why}); try again");
        Err(ErrPacket::new(1213, b"40001", text).into())
    }

    async fn attempt(&mut self, job: &Job<'_>) -> Result<Tried, Failure> {
        let (parts, places) = self.parts(job);
        let mut answers = self.ask_parts(job.at, &parts, is_one_for_all(job.sql)).await?;
        if let Some(error) = answers.error.take() {
            return self.failed(job, &answers, error, &places).await;
        }
        let Some(Answer::Ok(ok)) = answers.list.get(places.write).cloned() else {
            return self.undo(job, "the write answered with rows").await;
        };
        let before = match places.before {
            Some(n) => answers.rows(n, job.table),
            None => Ok(Vec::new()),
        };
        let after = match places.after {
            Some(n) => answers.rows(n, job.table),
            None => Ok(Vec::new()),
        };
        let (Ok(before), Ok(mut after)) = (before, after) else {
            return self.undo(job, "a row could not be read").await;
        };
        if job.plan.after == After::ByKeys && !before.is_empty() {
            match self.rows_by_keys(job, &before).await? {
                Some(rows) => after = rows,
                None => return self.undo(job, "its rows could not be read again").await,
            }
        }
        let did = Did { affected: OkPacket::read(&ok).map_or(0, |ok| ok.affected_rows), matched: matched(&ok) };
        let changes = match record::changes(job.plan.how, job.table, did, before, after) {
            Ok(changes) => changes,
            Err(mismatch) => return self.undo(job, &mismatch.0).await,
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
            return Err(error.into());
        }
        self.answer_client(job, &ok).await.map(Tried::Done)
    }

    /// What is sent for one attempt, statement by statement.
    fn parts(&self, job: &Job<'_>) -> (Vec<Vec<u8>>, Places) {
        let mut parts: Vec<Vec<u8>> = Vec::with_capacity(7);
        let mut places = Places::default();
        parts.push(if job.auto { b"BEGIN".to_vec() } else { format!("SAVEPOINT {SAVEPOINT}").into_bytes() });
        if self.journal.found_rows.is_none() {
            places.found_rows = Some(parts.len());
            parts.push(b"SELECT FOUND_ROWS()".to_vec());
        }
        if let Some(before) = &job.plan.before {
            places.before = Some(parts.len());
            parts.push(before.clone());
        }
        places.write = parts.len();
        parts.push(job.sql.to_vec());
        parts.push(b"SHOW WARNINGS".to_vec());
        if let After::Read(after) = &job.plan.after {
            places.after = Some(parts.len());
            parts.push(after.clone());
        }
        (parts, places)
    }

    async fn rows_by_keys(&mut self, job: &Job<'_>, before: &[Row]) -> Result<Option<Vec<Row>>, Failure> {
        let answers = self.ask_parts(job.at, &[record::by_keys(job.table, before)], true).await?;
        Ok(if answers.error.is_some() { None } else { answers.rows(0, job.table).ok() })
    }

    /// Enters changes, and runs `last` behind them in the same packet. Many changes go before it in packets of their own.
    async fn enter_changes(
        &mut self,
        at: usize,
        (group, recorder): (&str, &Recorder),
        changes: &[RowChange],
        last: Option<&str>,
    ) -> Result<Result<(), ErrPacket>, Failure> {
        let entries = journal::entries(group, changes);
        let mut bytes = entries.first().map_or(0, |entry| entry.payload.len());
        let batches = entries.chunk_by(|_, next| {
            bytes += next.payload.len();
            let fits = bytes <= BATCH;
            bytes = if fits { bytes } else { next.payload.len() };
            fits
        });
        let mut parts: Vec<String> =
            batches.map(|batch| journal::entry::insert(batch, &recorder.secret, recorder.ids)).collect();
        match (parts.last_mut(), last) {
            (Some(newest), Some(last)) => {
                newest.push(';');
                newest.push_str(last);
            }
            (None, Some(last)) => parts.push(last.to_owned()),
            (_, None) => {}
        }
        for part in parts {
            let mut attempts = 0;
            loop {
                let answers = self.ask_parts(at, &[part.clone().into_bytes()], true).await?;
                let Some(error) = answers.error else { break };
                let error = ErrPacket::read(&error).unwrap_or_else(|e| ErrPacket::new(1105, b"HY000", e.to_string()));
                attempts += 1;
                // an id that was buried before its entry came: another
                if error.code != 1062 || attempts >= ATTEMPTS {
                    return Ok(Err(not_entered(&error)));
                }
            }
        }
        Ok(Ok(()))
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
        if let (true, Some(leg)) = (gone, self.legs.get_mut(job.at)) {
            leg.backend.status.remove(Status::IN_TRANS);
        }
        if let Some(n) = places.found_rows.filter(|n| *n < answers.list.len()) {
            self.journal.found_rows = answers.number(n).and_then(|n| u64::try_from(n).ok());
        }
        let mut warnings = None;
        if job.auto {
            let answers = self.ask_parts(job.at, &[b"SHOW WARNINGS".to_vec(), b"ROLLBACK".to_vec()], true).await?;
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
        self.client.write_message(1, &payload).await.map_err(Fatal::client)?;
        Ok(Tried::Done(Outcome { error: Some(error.code), ..Outcome::default() }))
    }

    /// Whether a ROLLBACK makes the store forget the error that SHOW WARNINGS tells of; MariaDB's does not.
    fn forgets_warnings(&self, at: usize) -> bool {
        let engine = self.legs.get(at).and_then(|leg| leg.backend.handle.probed()).map(|probed| probed.engine);
        !matches!(engine, Some(Engine::MariaDb { .. }))
    }

    /// The store's OK to the write, with the flags that it has without what surrounds it (RULES.md 45).
    async fn answer_client(&mut self, job: &Job<'_>, ok: &[u8]) -> Result<Outcome, Failure> {
        let Some(leg) = self.legs.get_mut(job.at) else { return Err(Fatal::Quit.into()) };
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
        drop.set(Status::IN_TRANS, job.auto);
        super::answers::clear_status(&mut payload, drop);
        super::answers::plain_info(&mut payload);
        let status = OkPacket::read(&payload).map_or(read.status, |ok| ok.status);
        leg.backend.status = status;
        self.client.write_message(1, &payload).await.map_err(Fatal::client)?;
        Ok(Outcome {
            status: Some(status),
            ok: Some(OkPacket { status, ..read }),
            insert_id: read.last_insert_id,
            warnings: read.warnings,
            ..Outcome::default()
        })
    }

    /// Before a statement that ends a transaction, or may: what it has changed is entered.
    pub(crate) async fn enter_pending(&mut self, facts: Option<&Facts>) -> Result<(), Failure> {
        if self.journal.pending.is_empty() || !facts.is_none_or(may_end_transaction) {
            return Ok(());
        }
        let generation = self.journal.generation;
        let mut found = self.legs.iter().position(|l| l.generation == generation && l.in_transaction());
        if let (Some(at), true) = (found, std::mem::take(&mut self.journal.doubt))
            && !self.still_in_transaction(at).await?
        {
            found = None;
        }
        let changes = std::mem::take(&mut self.journal.pending);
        let Some(at) = found else { return Ok(()) };
        let group = self.journal.group.clone();
        let recorder = self.recorder(&group, at).await?;
        let entered = self.enter_changes(at, (&group, &recorder), &changes, None).await?;
        let Err(error) = entered else { return Ok(()) };
        self.roll_back_all_but(usize::MAX).await?;
        self.transaction_over();
        self.publish_transaction();
        Err(error.into())
    }
}

/// Whether a statement ends the transaction, or may. A ROLLBACK does not: what it undoes is not entered.
fn may_end_transaction(facts: &Facts) -> bool {
    let sets_autocommit = |list: &[Assignment]| {
        list.iter().any(|a| match a {
            Assignment::Session { name, .. } => &**name == "autocommit",
            Assignment::Other => true,
            _ => false,
        })
    };
    match &facts.kind {
        _ if facts.flags.contains(Flags::IMPLICIT_COMMIT) => true,
        Kind::Set(list) => sets_autocommit(list),
        Kind::Read | Kind::Write | Kind::Show | Kind::Diagnostics | Kind::Use(_) | Kind::Empty => false,
        Kind::Rollback { .. } | Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::ReleaseSavepoint(_) => false,
        _ => true,
    }
}

/// Whether a group's writes are recorded: those on an authority without a binlog.
fn is_journaled(config: &Config, group: &Group) -> bool {
    let authority = config.stores.get(usize::from(group.connection.0));
    group.standby.is_some() && authority.is_some_and(|store| store.change_log == ChangeLog::Journal)
}

fn not_entered(error: &ErrPacket) -> ErrPacket {
    let why = String::from_utf8_lossy(&error.message);
    let text = format!("switchover: undone, because it could not be entered in the journal: {why}");
    ErrPacket::new(error.code, &error.sqlstate.unwrap_or(*b"HY000"), text)
}

/// A text without what the server strips from its end.
pub(super) fn statement(sql: &[u8]) -> &[u8] {
    let end = sql.iter().rposition(|b| !(b.is_ascii_whitespace() || *b == b';')).map_or(0, |at| at + 1);
    sql.get(..end).unwrap_or_default()
}

/// Whether a text is one statement for everybody, however it is read: then it may stand between others.
fn is_one_for_all(sql: &[u8]) -> bool {
    memchr::memchr(b';', sql).is_none() && memchr::memmem::find(sql, b"/*").is_none()
}

/// "Rows matched: 3" of an UPDATE's OK.
fn matched(ok: &[u8]) -> Option<u64> {
    const WORDS: &[u8] = b"Rows matched: ";
    let rest = ok.get(memchr::memmem::find(ok, WORDS)? + WORDS.len()..)?;
    let digits: Vec<u8> = rest.iter().copied().take_while(u8::is_ascii_digit).collect();
    String::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_stand_between_others() {
        assert_eq!(statement(b"INSERT INTO t VALUES (1) ; \n"), b"INSERT INTO t VALUES (1)");
        assert!(is_one_for_all(b"INSERT INTO t VALUES (1) -- x"));
        assert!(!is_one_for_all(b"INSERT INTO t VALUES ('a;b')") && !is_one_for_all(b"INSERT INTO t /* x"));
        assert_eq!(matched(b"\0\x01\0\x02\0\0\0\x28Rows matched: 12  Changed: 1  Warnings: 0"), Some(12));
        assert_eq!(matched(b"\0\x01\0\x02\0\0\0"), None);
    }
}
