//! What a client may ask for after a recorded write, kept from before the statements around it changed it: ROW_COUNT, FOUND_ROWS,
//! warnings (RULES.md 45). And what of a transaction is not entered in the journal yet.

use super::Session;
use super::answers::set_status;
use super::control_flow::{Failure, Fatal};
use super::journaled::statement;
use super::recorded::Place;
use crate::entry::RowChange;
use crate::sql::Facts;
use crate::sql::facts::{Flags, Kind};
use crate::wire::reply::Outcome;
use crate::wire::{ErrPacket, Status, packet};

/// What a session keeps of its recorded writes.
#[derive(Default)]
pub(crate) struct Journaling {
    /// Changes of the open transaction that are not entered yet.
    pub(super) pending: Vec<RowChange>,
    /// Whose they are.
    pub(super) group: String,
    /// The leg on which they were made.
    pub(super) generation: u64,
    /// Savepoints, and how many changes there were before each.
    pub(super) savepoints: Vec<(Box<str>, usize)>,
    /// What the client would be answered, had nothing been recorded.
    pub(super) row_count: Option<i64>,
    pub(super) found_rows: Option<u64>,
    /// The answer to SHOW WARNINGS, where the write had any.
    pub(super) warnings: Option<Vec<Vec<u8>>>,
    /// The statement under way has just set these.
    pub(super) fresh: bool,
    /// A statement of the transaction failed: its store may have ended it without a word (innodb_rollback_on_timeout, and other
    /// engines' dead locks).
    pub(super) doubt: bool,
}

impl Journaling {
    /// Whether the open transaction has changes that are not entered yet.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }
}

impl Session {
    /// After any statement: what was kept for the one after a recorded write has had its time.
    pub(crate) fn journal_after(&mut self, facts: &Facts, outcome: &Outcome) {
        self.journal.doubt |= outcome.error.is_some();
        if !self.in_transaction() {
            self.journal.pending.clear();
            self.journal.savepoints.clear();
            self.journal.doubt = false;
        } else if outcome.error.is_none() {
            match &facts.kind {
                Kind::Savepoint(name) => {
                    let length = self.journal.pending.len();
                    self.journal.savepoints.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                    self.journal.savepoints.push((name.clone(), length));
                }
                Kind::RollbackTo(name) => {
                    let known = self.journal.savepoints.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                    let length = known.map_or(0, |(_, length)| *length);
                    self.journal.pending.truncate(length);
                }
                _ => {}
            }
        }
        if std::mem::take(&mut self.journal.fresh) {
            return;
        }
        self.journal.row_count = None;
        if outcome.result_set && facts.kind != Kind::Diagnostics {
            self.journal.found_rows = None;
        }
        if !facts.tables.is_empty() || outcome.error.is_some() || outcome.warnings > 0 {
            self.journal.warnings = None;
        }
    }

    /// A statement that asks for what was kept, with that in its place.
    pub(crate) fn with_kept(&self, facts: &Facts, sql: &[u8]) -> Option<Vec<u8>> {
        if !facts.flags.intersects(Flags::READS_ROW_COUNT | Flags::READS_FOUND_ROWS) {
            return None;
        }
        // (the function beside the value gives the column its type)
        let mut values = Vec::new();
        values.extend(self.journal.row_count.map(|n| ("row_count", format!("COALESCE({n},ROW_COUNT())"))));
        values.extend(self.journal.found_rows.map(|n| ("found_rows", format!("COALESCE({n},FOUND_ROWS())"))));
        if values.is_empty() {
            return None;
        }
        let mut command = vec![crate::wire::command::COM_QUERY];
        command.extend(crate::sql::substitute::substitute(sql, &self.state.dialect, &values));
        let mut framed = Vec::with_capacity(command.len() + 4);
        packet::put(&mut framed, 0, &command);
        Some(framed)
    }

    /// Whether the next statement may ask for something that was kept.
    pub(crate) fn keeps_answers(&self) -> bool {
        let Journaling { row_count, found_rows, warnings, .. } = &self.journal;
        row_count.is_some() || found_rows.is_some() || warnings.is_some()
    }

    /// SHOW WARNINGS after a recorded write that had some: the number of the packet behind the answer, if it was answered.
    pub(crate) async fn show_kept_warnings(
        &mut self,
        facts: &Facts,
        sql: &[u8],
        place: Place,
    ) -> Result<Option<u8>, Failure> {
        let Some(packets) = &self.journal.warnings else { return Ok(None) };
        if !(facts.kind == Kind::Diagnostics || facts.flags.contains(Flags::READS_DIAGNOSTICS)) {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(statement(sql)).to_lowercase();
        if text.split_whitespace().ne(["show", "warnings"]) {
            let why = "switchover: after a recorded write with warnings, only SHOW WARNINGS can ask for them";
            return Err(ErrPacket::new(1235, b"42000", why).into());
        }
        let mut out = Vec::new();
        let mut sequence = place.sequence;
        let columns = packets.first().and_then(|count| count.first()).map_or(0, |n| usize::from(*n));
        for (n, payload) in packets.iter().enumerate() {
            let mut payload = payload.clone();
            // (a row may begin with the bytes of an OK)
            if place.more && (n + 1 == packets.len() || n == columns + 1) {
                set_status(&mut payload, Status::MORE_RESULTS);
            }
            packet::put(&mut out, sequence, &payload);
            sequence = sequence.wrapping_add(1);
        }
        self.client.write(&out).await.map_err(Fatal::client)?;
        // as after any statement that answers with rows
        self.journal.row_count = Some(-1);
        self.journal.fresh = true;
        let outcome = Outcome { result_set: true, status: Some(self.home_status()), ..Outcome::default() };
        self.after(facts, 0, &outcome);
        Ok(Some(sequence))
    }
}
