//! The journal of a group whose authority has no binlog, as its sessions know it: which statements are recorded there, what its
//! tables are, and how changes are entered. The writes themselves: `recorded`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::recorded::ATTEMPTS;
use super::sealed::is_seal;
use crate::backend::connection::QueryError;
use crate::backend::control;
use crate::changes::journal::table::{Table, TableError};
use crate::changes::journal::{self, Ids, Secret, schema};
use crate::config::Config;
use crate::config::GroupId;
use crate::config::model::{ChangeLog, Group};
use crate::entry::RowChange;
use crate::sql::Facts;
use crate::sql::facts::{Access, Assignment, Flags, Kind};
use crate::wire::ErrPacket;

/// What is known of a group's journal is asked again after so long: a table may have changed.
const FRESH: Duration = Duration::from_secs(5);
/// Bytes of entries in one statement, unless one alone has more: a store takes 16 MiB at least, and they are written in hexadecimal.
const BATCH: usize = 4 << 20;

/// What a core knows of a group's journal.
pub(crate) struct Recorder {
    pub(super) secret: Secret,
    pub(super) ids: Ids,
    tables: RefCell<HashMap<(String, String), Rc<Table>>>,
    read: Instant,
}

pub(super) fn refused(group: &str, why: &str) -> ErrPacket {
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
    ErrPacket::new(1429, b"HY000", text)
}

impl Session {
    pub(super) fn has_journals(&self) -> bool {
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
                Kind::Write => "in this form it is not recorded",
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

    pub(super) async fn recorder(&self, group: &str, at: usize) -> Result<Rc<Recorder>, Failure> {
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
        let signing = schema::signing(&mut backend).await.map_err(asked)?;
        let (secret, ids) = signing.ok_or_else(|| unknown(&"no secret"))?;
        let new = Rc::new(Recorder { secret, ids, tables: RefCell::default(), read: Instant::now() });
        self.core.recorders.borrow_mut().insert(key, Rc::clone(&new));
        let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
        Ok(new)
    }

    pub(super) async fn recorded_table(
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

    /// Enters changes, and runs `last` behind them in the same packet. Many changes go before it in packets of their own.
    pub(super) async fn enter_changes(
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
                let answers = self.ask_parts(at, &[part.clone().into_bytes()]).await?;
                let Some(error) = answers.error else { break };
                let error = ErrPacket::read(&error).unwrap_or_else(|e| ErrPacket::new(1105, b"HY000", e.to_string()));
                attempts += 1;
                // an id that was buried before its entry came: another
                if error.code != 1062 || attempts >= ATTEMPTS {
                    return Ok(Err(if is_seal(&error) { error } else { not_entered(&error) }));
                }
            }
        }
        Ok(Ok(()))
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
        // (what is entered goes with a ROLLBACK TO by itself)
        self.journal.savepoints.iter_mut().for_each(|(_, before)| *before = 0);
        let Some(at) = found else { return Ok(()) };
        let group = self.journal.group.clone();
        let recorder = self.recorder(&group, at).await?;
        let entered = self.enter_changes(at, (&group, &recorder), &changes, None).await?;
        let Err(error) = entered else { return Ok(()) };
        if is_seal(&error) {
            let store = self.legs.get(at).map(|l| l.name.clone()).unwrap_or_default();
            return Err(self.lost_to_seal(&group, &store).await?.into());
        }
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

/// OceanBase: a row has changed since the transaction's snapshot.
const CONFLICT: u16 = 6235;

fn not_entered(error: &ErrPacket) -> ErrPacket {
    let why = String::from_utf8_lossy(&error.message);
    let text = format!("switchover: undone, because it could not be entered in the journal: {why}");
    if error.code == CONFLICT {
        return ErrPacket::new(1213, b"40001", text);
    }
    ErrPacket::new(error.code, &error.sqlstate.unwrap_or(*b"HY000"), text)
}

/// A text without what the server strips from its end.
pub(super) fn statement(sql: &[u8]) -> &[u8] {
    let end = sql.iter().rposition(|b| !(b.is_ascii_whitespace() || *b == b';')).map_or(0, |at| at + 1);
    sql.get(..end).unwrap_or_default()
}

/// Whether a text is one statement for everybody, however it is read: then it may stand between others.
pub(super) fn is_one_for_all(sql: &[u8]) -> bool {
    memchr::memchr(b';', sql).is_none() && memchr::memmem::find(sql, b"/*").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_stand_between_others() {
        assert_eq!(statement(b"INSERT INTO t VALUES (1) ; \n"), b"INSERT INTO t VALUES (1)");
        assert!(is_one_for_all(b"INSERT INTO t VALUES (1) -- x"));
        assert!(!is_one_for_all(b"INSERT INTO t VALUES ('a;b')") && !is_one_for_all(b"INSERT INTO t /* x"));
    }
}
