//! A recorded write of a table whose engine has no transactions: it cannot be undone, nor commit with its entry. See
//! [`crate::changes::journal::intent`] for what stands in for that.
//!
//! ```text
//! GET_LOCK, intents?, rows before │ INSERT intent │ WRITE, warnings │ rows after │ BEGIN, journal, DELETE intent, COMMIT, RELEASE_LOCK │ answer
//! ```
//!
//! What a write that failed has done nevertheless (the first of its rows) is recorded too.

use super::Session;
use super::answers::{Answer, Answers, Write};
use super::control_flow::{Failure, Fatal};
use super::journaled::{Recorder, refused};
use super::recorded::{Place, said};
use crate::changes::journal::intent::{self, CONTEXT, Intent, resolve, settle};
use crate::changes::journal::new_uuid;
use crate::changes::journal::record::{Alone, Rows, afterwards};
use crate::changes::journal::table::Table;
use crate::entry::{Row, Uuid};
use crate::wire::reply::Outcome;
use crate::wire::{ErrPacket, OkPacket};

/// Seconds that a write waits for another of its table.
const WAIT: u32 = 50;

/// Such a write on its way.
pub(super) struct AloneJob<'a> {
    pub(super) at: usize,
    pub(super) group: &'a str,
    pub(super) recorder: &'a Recorder,
    pub(super) table: &'a Table,
    pub(super) alone: &'a Alone,
    pub(super) write: &'a Write,
    pub(super) place: Place,
    pub(super) auto: bool,
}

/// What was there before it.
struct There {
    rows: Vec<Row>,
    intent: Intent,
    /// The question for its rows after it.
    question: Option<Vec<u8>>,
}

fn undone(what: &str) -> Failure {
    let text = format!("switchover: nothing was written: {what}; try again");
    Failure::Statement(ErrPacket::new(1205, b"HY000", text))
}

impl Session {
    pub(super) async fn record_alone(&mut self, job: &AloneJob<'_>) -> Result<Outcome, Failure> {
        if !job.auto {
            let why = "its table's engine has no transactions, so that a ROLLBACK would leave it: write it with autocommit, outside a transaction";
            return Err(refused(job.group, why).into());
        }
        let name = job.table.name();
        let lock = intent::lock(&name.database, &name.name);
        self.keep_found_rows(job.at).await?;
        let got = self.ask(job.at, format!("SELECT GET_LOCK('{lock}', {WAIT})")).await?;
        if got.first(0) != Some(b"1") {
            return Err(undone("another write of its table goes on for long"));
        }
        let ran = self.locked(job, &lock).await;
        // (with its connection it would go as well; a session that ends needs no more of it)
        if !matches!(ran, Err(Failure::Session(_))) {
            self.ask(job.at, format!("SELECT RELEASE_LOCK('{lock}')")).await?;
        }
        let (answer, outcome) = ran?;
        if self.asks_standby() {
            self.pay(&outcome, false).await?;
        }
        match answer {
            Answer::Ok(ok) => self.answer_client(job.at, &ok, true, job.place).await,
            Answer::Rows { packets, .. } => {
                for payload in packets {
                    self.client.write_message(job.place.sequence, &payload).await.map_err(Fatal::client)?;
                }
                Ok(outcome)
            }
        }
    }

    /// Everything that runs under the table's lock; the store's OK, or its error as the only packet of an answer.
    async fn locked(&mut self, job: &AloneJob<'_>, lock: &str) -> Result<(Answer, Outcome), Failure> {
        let there = self.look(job, lock).await?;
        let uuid = new_uuid();
        let entry = there.intent.insert(job.group, uuid, &job.recorder.secret).into_bytes();
        if let Some(error) = self.ask_parts(job.at, &[entry]).await?.error {
            return Err(undone(&text(&error)));
        }
        // (what follows is not to be given up half-way: an intent that is left is settled by whoever comes next)
        let mut answers = self.ask_around(job.at, &[], job.write, &[b"SHOW WARNINGS".to_vec()]).await?;
        let failed = answers.error.take().filter(|_| answers.list.is_empty());
        if failed.is_some() {
            answers = self.ask_parts(job.at, &[b"SHOW WARNINGS".to_vec()]).await?;
            answers.list.insert(0, Answer::Ok(Vec::new()));
        }
        if let (None, Some(Answer::Ok(ok))) = (&failed, answers.list.first()) {
            count(job, &there, ok);
        }
        self.finish_alone(job, there, uuid).await?;
        self.journal.warnings = answers.shown(1);
        self.journal.fresh = true;
        match (failed, answers.list.into_iter().next()) {
            (Some(payload), _) => {
                let code = ErrPacket::read(&payload).map_or(1105, |e| e.code);
                self.journal.row_count = Some(-1);
                let outcome = Outcome { error: Some(code), ..Outcome::default() };
                Ok((Answer::Rows { rows: Vec::new(), packets: vec![payload] }, outcome))
            }
            (None, Some(Answer::Ok(ok))) => {
                let affected = OkPacket::read(&ok).map_or(0, |ok| ok.affected_rows);
                self.journal.row_count = i64::try_from(affected).ok();
                Ok((Answer::Ok(ok), Outcome::default()))
            }
            _ => Err(Fatal::Quit.into()),
        }
    }

    /// The rows before the write, behind what a dead writer left.
    async fn look(&mut self, job: &AloneJob<'_>, lock: &str) -> Result<There, Failure> {
        let open = format!("SELECT COUNT(*) FROM switchover.journal_open WHERE lock_name = '{lock}'");
        let greatest = match &job.alone.rows {
            Rows::Above(_, name) => format!("SELECT COALESCE(MAX({name}), 0) FROM {}", job.table.name().quoted()),
            _ => "SELECT 0".to_owned(),
        };
        let mut parts = vec![open.into_bytes(), CONTEXT.as_bytes().to_vec(), greatest.into_bytes()];
        parts.extend(job.alone.before.clone());
        let mut answers = self.ask_parts(job.at, &parts).await?;
        if answers.number(0).is_some_and(|n| n > 0) {
            let handle = self.legs.get(job.at).map(|leg| std::sync::Arc::clone(&leg.backend.handle));
            if let Some(handle) = handle {
                settle(&handle, Some(lock)).await.map_err(|e| undone(&e.to_string()))?;
            }
            answers = self.ask_parts(job.at, &parts).await?;
        }
        if let Some(error) = &answers.error {
            return Err(refused(
                job.group,
                &format!("the store does not take the question for its rows: {}", text(error)),
            )
            .into());
        }
        let rows = if job.alone.before.is_some() { answers.rows(3, job.table) } else { Ok(Vec::new()) };
        let rows = rows.map_err(|why| undone(&why))?;
        let greatest = cells(&answers, 2).into_iter().next().unwrap_or_default();
        let greatest = String::from_utf8_lossy(&greatest).into_owned();
        let question = afterwards(&job.alone.rows, job.table, &rows, &greatest);
        let name = job.table.name();
        let intent = Intent {
            table: (name.database.clone(), name.name.clone()),
            context: cells(&answers, 1),
            question: question.clone().unwrap_or_else(|| afterwards_nothing(job.table)),
            before: intent::changed(job.table, rows.clone(), Vec::new()),
        };
        Ok(There { rows, intent, question })
    }

    /// Enters what the write did.
    async fn finish_alone(&mut self, job: &AloneJob<'_>, there: There, uuid: Uuid) -> Result<(), Failure> {
        let left = |why: &str| {
            let text = format!(
                "switchover: the write was done, and is not entered in the journal yet ({why}): the next write of its table, or the standby's, \
                 does it"
            );
            Failure::Statement(ErrPacket::new(1105, b"HY000", text))
        };
        let after = match there.question {
            None => Vec::new(),
            Some(question) => {
                let answers = self.ask_parts(job.at, &[question]).await?;
                if let Some(error) = &answers.error {
                    return Err(left(&text(error)));
                }
                answers.rows(0, job.table).map_err(|why| left(&why))?
            }
        };
        let changes = intent::changed(job.table, there.rows, after);
        let parts = resolve(job.group, uuid, &changes, &job.recorder.secret, job.recorder.ids);
        let parts: Vec<Vec<u8>> = parts.into_iter().map(String::into_bytes).collect();
        let answers = self.ask_parts(job.at, &parts).await?;
        if let Some(error) = &answers.error {
            let _ = self.tell(job.at, "ROLLBACK").await?;
            return Err(left(&text(error)));
        }
        Ok(())
    }
}

/// Says it where the write took other rows than were there: a writer that does not come through a proxy, which nothing keeps out.
fn count(job: &AloneJob<'_>, there: &There, ok: &[u8]) {
    let affected = OkPacket::read(ok).map_or(0, |ok| ok.affected_rows);
    let took = said(ok, b"Rows matched: ").unwrap_or(affected);
    if job.alone.rows == Rows::ByKeys && took != there.rows.len() as u64 {
        tracing::error!(
            group = job.group,
            table = %job.table.name(),
            read = there.rows.len(),
            written = took,
            "a write of a table without transactions took other rows than the proxy had read: somebody else writes it; verify the table"
        );
    }
}

/// A question that finds no row: nothing was there to be changed.
fn afterwards_nothing(table: &Table) -> Vec<u8> {
    format!("SELECT {} FROM {} WHERE 1 = 0", table.selected(), table.name().quoted()).into_bytes()
}

fn text(error: &[u8]) -> String {
    ErrPacket::read(error).map_or_else(|e| e.to_string(), |e| e.to_string())
}

/// The cells of the first row of an answer.
fn cells(answers: &Answers, at: usize) -> Vec<Vec<u8>> {
    match answers.list.get(at) {
        Some(Answer::Rows { rows, .. }) => {
            rows.first().into_iter().flatten().map(|cell| cell.clone().unwrap_or_default()).collect()
        }
        _ => Vec::new(),
    }
}
