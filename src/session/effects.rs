//! What goes before a statement so that it means the same on its store, and what its success means for the session.

use std::sync::atomic::Ordering;

use super::Session;
use super::control_flow::Failure;
use super::owed::may_leave_something;
use crate::config::StoreId;
use crate::sql::facts::{Access, Assignment, Facts, Flags, Kind};
use crate::wire::ErrPacket;
use crate::wire::Status;
use crate::wire::reply::Outcome;

/// Flags of statements that need nothing before or after them on their own leg.
const SPECIAL: Flags = Flags::READS_LAST_INSERT_ID
    .union(Flags::READS_ROW_COUNT)
    .union(Flags::READS_FOUND_ROWS)
    .union(Flags::READS_DIAGNOSTICS)
    .union(Flags::READS_USER_VARIABLES)
    .union(Flags::WRITES_USER_VARIABLES)
    .union(Flags::TEMPORARY_TABLE)
    .union(Flags::SETS_SESSION)
    .union(Flags::DYNAMIC_SQL)
    .union(Flags::IMPLICIT_COMMIT);

/// What a statement of the proxy's own would change on the leg of the session's last one.
pub(crate) const OF_LAST_STATEMENT: Flags =
    Flags::READS_ROW_COUNT.union(Flags::READS_FOUND_ROWS).union(Flags::READS_DIAGNOSTICS);

/// Whether a statement of these facts needs nothing but its store.
pub(crate) fn is_plain(facts: &Facts) -> bool {
    matches!(facts.kind, Kind::Read | Kind::Write | Kind::Show | Kind::Empty | Kind::Unknown)
        && !facts.flags.intersects(SPECIAL)
}

/// Whether it writes a table's rows.
pub(crate) fn writes(facts: &Facts) -> bool {
    matches!(facts.kind, Kind::Write | Kind::Call)
}

/// Whether it may set session variables that its text does not name: in a routine, in a block, in dynamic SQL.
pub(crate) fn may_change_unseen(facts: &Facts) -> bool {
    facts.flags.contains(Flags::CALLS_ROUTINE)
        || matches!(facts.kind, Kind::Call | Kind::Compound | Kind::Execute { .. } | Kind::ExecuteImmediate(_))
}

/// Whether it may assign user variables that its text does not name: a write may fire a trigger.
pub(crate) fn may_assign_unseen(facts: &Facts) -> bool {
    facts.kind == Kind::Write || may_change_unseen(facts)
}

impl Session {
    /// Makes the session's other stores, and this leg, ready for a statement there.
    pub(crate) async fn before(&mut self, facts: &Facts, at: usize) -> Result<(), Failure> {
        self.enter_pending(Some(facts)).await?;
        let alone = self.legs.len() == 1;
        if !alone {
            match &facts.kind {
                Kind::Commit { .. } => self.end_elsewhere(at, true).await?,
                Kind::Rollback { .. } => self.end_elsewhere(at, false).await?,
                Kind::Begin { .. } => {
                    self.end_elsewhere(at, true).await?;
                    if self.state.tables_locked {
                        self.unlock_elsewhere().await?;
                    }
                }
                Kind::Savepoint(_) | Kind::RollbackTo(_) | Kind::ReleaseSavepoint(_) => {
                    self.savepoint_elsewhere(&facts.kind).await?;
                }
                Kind::UnlockTables => self.unlock_elsewhere().await?,
                Kind::LockTables(_) => {
                    self.end_elsewhere(at, true).await?;
                    self.unlock_elsewhere().await?;
                }
                _ if facts.flags.contains(Flags::IMPLICIT_COMMIT) => self.end_elsewhere(at, true).await?,
                _ => {}
            }
        }
        if !alone {
            self.may_touch(facts, at)?;
            self.settle(at).await?;
        }
        if at != 0 {
            self.bring_in_step(at, Some(facts)).await?;
        }
        if !alone {
            self.before_one_shot(facts, at).await?;
            if at == 0 {
                self.home_joins(facts).await?;
                if self.legs.first().is_some_and(|l| l.stale_insert_id) && writes(facts) {
                    self.tell(0, "SET insert_id = DEFAULT").await??;
                    if let Some(home) = self.legs.first_mut() {
                        home.stale_insert_id = false;
                    }
                }
            }
        }
        if !alone && !facts.flags.contains(Flags::IMPLICIT_COMMIT) && !facts.tables.is_empty() {
            self.may_cross(facts, at)?;
        }
        if at != 0 && !facts.flags.contains(Flags::IMPLICIT_COMMIT) {
            self.join(at).await?;
        }
        if !alone {
            if facts.flags.intersects(Flags::READS_USER_VARIABLES | Flags::WRITES_USER_VARIABLES)
                || may_assign_unseen(facts)
            {
                self.bring_variables(facts, at).await?;
            }
            if facts.flags.contains(Flags::READS_LAST_INSERT_ID) || may_change_unseen(facts) {
                self.settle_insert_ids(facts).await?;
                self.bring_insert_id(at).await?;
            } else if self.state.insert_doubts.len() >= 16 && !facts.flags.intersects(OF_LAST_STATEMENT) {
                self.settle_insert_ids(facts).await?;
            }
        }
        Ok(())
    }

    /// UNLOCK TABLES on every store but home, which runs the client's own statement; BEGIN unlocks too (RULES.md 5).
    async fn unlock_elsewhere(&mut self) -> Result<(), Failure> {
        for i in 1..self.legs.len() {
            self.tell(i, "UNLOCK TABLES").await??;
        }
        Ok(())
    }

    /// While LOCK TABLES is in force, a store that has locked nothing must refuse as one that has.
    fn may_touch(&self, facts: &Facts, at: usize) -> Result<(), Failure> {
        let free = !self.state.tables_locked || self.legs.get(at).is_some_and(|l| l.locked);
        let own = Flags::TEMPORARY_TABLE | Flags::SYSTEM_TABLES;
        if free || facts.flags.intersects(own) || !self.state.temporary.is_empty() {
            return Ok(());
        }
        if matches!(facts.kind, Kind::LockTables(_) | Kind::Show) {
            return Ok(());
        }
        let Some(table) = facts.tables.iter().find(|t| !matches!(t.access, Access::Describe | Access::Call)) else {
            return Ok(());
        };
        let text = format!("Table '{}' was not locked with LOCK TABLES", table.name);
        Err(ErrPacket::new(1100, b"HY000", text).into())
    }

    /// A group may say that its transactions stay on one store (`cross_store_transactions: refuse`).
    fn may_cross(&mut self, facts: &Facts, at: usize) -> Result<(), Failure> {
        if !self.in_transaction() {
            return Ok(());
        }
        let snapshot = &self.live.snapshot;
        let database = self.state.database.as_deref();
        let refusing = facts
            .tables
            .iter()
            .filter_map(|t| snapshot.group(snapshot.locate(t, database).group?))
            .find(|g| !g.cross_store_transactions)
            .map(|g| g.name.clone());
        let group = refusing.or_else(|| self.transaction.alone.clone());
        let elsewhere = self.legs.iter().enumerate().find(|(i, l)| *i != at && l.touched).map(|(_, l)| l.name.clone());
        let here = self.legs.get(at).map(|l| l.name.clone()).unwrap_or_default();
        if let (Some(group), Some(other)) = (&group, elsewhere) {
            let text = format!(
                "switchover: this transaction has used tables of store {other}, and this statement goes to store {here}: group {group} says \
                 cross_store_transactions: refuse; commit first, or use the tables of one store only"
            );
            return Err(ErrPacket::new(1235, b"42000", text).into());
        }
        self.transaction.alone = group;
        Ok(())
    }

    /// Takes a statement's end into account.
    pub(crate) fn after(&mut self, facts: &Facts, at: usize, outcome: &Outcome) {
        let autocommit = self.home_status().contains(Status::AUTOCOMMIT);
        self.note(Some(facts), outcome);
        self.passes.iter_mut().for_each(crate::routing::gate::Pass::used);
        self.transaction.wrote |= !self.live.gates.is_empty() && may_leave_something(facts);
        let Some(leg) = self.legs.get_mut(at) else { return };
        let generation = leg.generation;
        let store = leg.store();
        leg.locks |= at != 0 && !autocommit && !facts.tables.is_empty();
        if writes(facts) {
            leg.wrote = true;
        }
        if leg.in_transaction() && !facts.tables.is_empty() {
            leg.touched = true;
            self.transaction.used = true;
        }
        if !matches!(facts.kind, Kind::Diagnostics) {
            self.state.last = generation;
            if !facts.tables.is_empty() || outcome.error.is_some() || outcome.warnings > 0 {
                self.state.diagnosed = generation;
            }
        }
        if !matches!(facts.kind, Kind::Set(_)) && !self.state.one_shots.is_empty() {
            self.assignments_used(facts, at);
        }
        if at == 0
            && let Some(status) = outcome.status
        {
            self.state.see_status(status);
        }
        if outcome.error.is_none() {
            self.succeeded(facts, generation, store, outcome);
        }
        if outcome.error.is_none() && self.state.next_transaction.is_some() {
            self.one_shot_used(facts, at);
        }
        self.reported(Some(facts), at, outcome);
        if self.legs.len() > 1 && may_assign_unseen(facts) || may_change_unseen(facts) {
            self.assigned_unseen(generation);
        }
        self.transaction_over();
        self.journal_after(facts, outcome);
        self.publish_transaction();
        self.offer_sampled(at, outcome);
    }

    /// Assignments for one statement have had it; insert_id waits for a write.
    fn assignments_used(&mut self, facts: &Facts, at: usize) {
        let wrote = writes(facts);
        let before = self.state.one_shots.len();
        self.state.one_shots.retain(|s| !wrote && s.starts_with("insert_id"));
        let used = wrote && before > 0;
        if let Some(home) = self.legs.first_mut() {
            home.stale_insert_id |= used && at != 0;
        }
    }

    /// Others may see whether a transaction is open.
    pub(crate) fn publish_transaction(&self) {
        let open = self.in_transaction();
        if self.info.in_transaction.load(Ordering::Relaxed) != open {
            self.info.in_transaction.store(open, Ordering::Relaxed);
        }
    }

    fn succeeded(&mut self, facts: &Facts, generation: u64, store: StoreId, outcome: &Outcome) {
        if may_change_unseen(facts) && self.legs.len() > 1 {
            // it was given the session's id before it ran: whether it made one or not, its leg has the newest
            self.state.insert_doubts.clear();
            self.state.last_insert = generation;
        } else if outcome.insert_id != 0 {
            self.insert_id_reported(generation, outcome.insert_id);
        }
        if facts.flags.contains(Flags::WRITES_USER_VARIABLES) {
            for name in &facts.user_variables {
                self.state.user_variables.insert(name.clone(), vec![generation]);
            }
        }
        if facts.flags.contains(Flags::TEMPORARY_TABLE) {
            self.temporary_tables(facts, store);
        }
        if facts.flags.contains(Flags::SETS_SESSION) && !matches!(facts.kind, Kind::Set(_)) {
            self.state.version += 1;
            self.state.reading += 1;
        }
        match &facts.kind {
            Kind::Write if self.legs.len() > 1 || self.writes_what_is_copied() => self.written(facts, store),
            Kind::Ddl => self.dropped(facts),
            Kind::Set(list) => {
                for assignment in list {
                    self.state.assigned(assignment, generation);
                    if let (Assignment::Session { name, .. }, Some(home)) = (assignment, self.legs.first_mut()) {
                        home.stale_insert_id &= &**name != "insert_id";
                    }
                }
            }
            Kind::Use(database) => self.state.database = Some(database.to_string()),
            Kind::LockTables(_) => {
                self.state.tables_locked = true;
                for leg in &mut self.legs {
                    leg.locked = leg.generation == generation;
                }
            }
            Kind::UnlockTables | Kind::Begin { .. } if self.state.tables_locked => self.state.tables_locked = false,
            Kind::Handler { name, open: true, .. } => {
                self.state.handlers.insert(name.to_ascii_lowercase(), generation);
            }
            Kind::Handler { name, close: true, .. } => {
                self.state.handlers.remove(&name.to_ascii_lowercase());
            }
            Kind::Deallocate { name } => {
                self.state.text_statements.remove(name);
                self.state.opaque_statements.remove(name);
            }
            _ => {}
        }
        if facts.kind.controls_transaction() || matches!(facts.kind, Kind::Xa) {
            self.transaction_after(facts);
        } else if facts.flags.contains(Flags::IMPLICIT_COMMIT) {
            self.transaction.forget_savepoints_all();
        }
    }

    fn temporary_tables(&mut self, facts: &Facts, store: StoreId) {
        if facts.flags.contains(Flags::DROPS_TABLES) {
            return;
        }
        if let Some(table) = facts.tables.iter().find(|t| t.access == Access::Ddl) {
            let database = table.database.as_deref().or(self.state.database.as_deref());
            self.state.temporary.insert(database, &table.name, store);
        }
    }

    /// DROP TABLE drops temporary tables too; any other DDL leaves them.
    fn dropped(&mut self, facts: &Facts) {
        if self.state.temporary.is_empty() || !facts.flags.contains(Flags::DROPS_TABLES) {
            return;
        }
        for table in &facts.tables {
            let database = table.database.as_deref().or(self.state.database.as_deref());
            self.state.temporary.remove(database, &table.name);
        }
    }

    /// A transaction that is on one store yet may read a copy on another later.
    fn writes_what_is_copied(&self) -> bool {
        self.live.snapshot.has_references() && self.in_transaction()
    }

    fn written(&mut self, facts: &Facts, store: StoreId) {
        self.transaction.used = true;
        for table in facts.tables.iter().filter(|t| t.access == Access::Write) {
            if !self.transaction.written.iter().any(|(s, n)| *s == store && *n == table.name) {
                self.transaction.written.push((store, table.name.clone()));
            }
        }
    }
}
