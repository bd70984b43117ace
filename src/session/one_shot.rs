//! SET TRANSACTION: what it says counts for the next transaction, on whichever stores that runs (RULES.md 7).
//!
//! Home runs the client's own SET TRANSACTION, and so holds it as long as no transaction has begun there. Measured on MariaDB
//! 10.11: it is used up by a transaction's end (COMMIT without one too), by DDL, and in autocommit by a statement that reached a
//! table; not by SHOW, by SET autocommit, or by a statement that failed. A leg that holds one which has been used up elsewhere is
//! freed of it by a COMMIT before it runs anything else.

use super::Session;
use super::control_flow::Failure;
use crate::sql::facts::{Characteristics, Facts, Flags, Kind};
use crate::wire::Status;

/// Whether it opens a transaction where none is open and every statement is its own.
fn reaches_tables(facts: &Facts) -> bool {
    matches!(facts.kind, Kind::Read | Kind::Write | Kind::Call | Kind::Compound) && !facts.tables.is_empty()
}

impl Session {
    /// What SET TRANSACTION has said reaches the leg before the statement to which it applies.
    pub(crate) async fn before_one_shot(&mut self, facts: &Facts, at: usize) -> Result<(), Failure> {
        if self.legs.get(at).is_some_and(|l| l.stale_one_shot && !l.in_transaction()) {
            self.tell(at, "COMMIT").await??;
            if let Some(leg) = self.legs.get_mut(at) {
                leg.stale_one_shot = false;
            }
        }
        if at != 0
            && let Some(said) = self.state.next_transaction
            && !self.in_transaction()
            && !self.transaction.explicit
            && reaches_tables(facts)
        {
            self.say(at, said).await?;
        }
        Ok(())
    }

    async fn say(&mut self, at: usize, said: Characteristics) -> Result<(), Failure> {
        if let Some(sql) = said.statement() {
            self.tell(at, &sql).await??;
            if let Some(leg) = self.legs.get_mut(at) {
                // until a transaction has begun there
                leg.stale_one_shot = true;
            }
        }
        Ok(())
    }

    /// A statement that succeeded may have used it up.
    pub(crate) fn one_shot_used(&mut self, facts: &Facts, at: usize) {
        let Some(said) = self.state.next_transaction else { return };
        let ends = matches!(facts.kind, Kind::Commit { .. } | Kind::Rollback { .. })
            || facts.flags.contains(Flags::IMPLICIT_COMMIT) && !matches!(facts.kind, Kind::Set(_) | Kind::Begin { .. });
        if matches!(facts.kind, Kind::Begin { .. }) {
            self.transaction.characteristics = said;
        } else if !ends {
            if !reaches_tables(facts) {
                return;
            }
            if !self.home_status().contains(Status::AUTOCOMMIT) {
                // the transaction goes on, and home holds what was said until its end
                self.transaction.characteristics = said;
                self.transaction.used = true;
            } else {
                if let Some(home) = self.legs.first_mut() {
                    home.stale_one_shot |= at != 0;
                }
            }
        }
        self.state.next_transaction = None;
    }

    /// Opens the session's transaction on a leg that joins it.
    pub(crate) async fn open_there(&mut self, at: usize) -> Result<(), Failure> {
        let said = self.transaction.characteristics;
        if !self.transaction.explicit && !self.in_transaction() {
            return self.say(at, said).await;
        }
        // BEGIN's own words win over those of SET TRANSACTION: home's flag knows what came out
        self.say(at, Characteristics { read_only: None, ..said }).await?;
        let sql = if self.transaction.read_only || self.home_status().contains(Status::IN_TRANS_READONLY) {
            "START TRANSACTION READ ONLY"
        } else if self.has_read_only_default(at) {
            "START TRANSACTION READ WRITE"
        } else {
            "START TRANSACTION"
        };
        self.tell(at, sql).await??;
        if let Some(leg) = self.legs.get_mut(at) {
            leg.stale_one_shot = false;
        }
        Ok(())
    }

    fn has_read_only_default(&self, at: usize) -> bool {
        let Some(leg) = self.legs.get(at) else { return false };
        let on =
            |name: &str| matches!(leg.variables.get(name), Some(Some(v)) if v == b"1" || v.eq_ignore_ascii_case(b"ON"));
        on("tx_read_only") || on("transaction_read_only")
    }
}
