//! Where a copy begins: both stores are compared in a snapshot of the authority whose place in its log is known (RULES.md 40).
//!
//! MariaDB says the place of a snapshot itself, and nobody waits. Of a journal and of MySQL it is known while nobody writes the
//! group's tables: they are locked for the moment in which the snapshot is opened. None of their transactions is open then, so the
//! log has all of theirs (RULES.md 39), and the snapshot holds what the log says, and no more.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::Catalog;
use super::init::{InitError, Report, Store};
use super::log::{self, EndError};
use crate::backend::StoreHandle;
use crate::backend::connection::QueryError;
use crate::config::model::ChangeLog;
use crate::entry::{Position, TableName};

/// How often the tables are tried to be locked.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(200);

/// Opens the snapshot, and says its place; none where that cannot be: why is in the report.
///
/// # Errors
/// As the store's.
pub(super) async fn open(
    authority: &mut Store,
    handle: &Arc<StoreHandle>,
    catalog: &Catalog,
    report: &mut Report,
) -> Result<Option<Position>, InitError> {
    let tables: Vec<String> = catalog.keys().map(TableName::quoted).collect();
    if authority.log == ChangeLog::Journal {
        let lock = format!("LOCK TABLES {} READ", tables.join(" READ, "));
        return locked(authority, handle, &lock, report).await;
    }
    begin(authority).await?;
    let status = authority.run("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let value = |name: &str| {
        let row = status.iter().find(|row| row.first().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        row.and_then(|row| row.get(1)).cloned().unwrap_or_default()
    };
    let (file, offset) = (value("Binlog_snapshot_file"), value("Binlog_snapshot_position"));
    let Ok(offset) = offset.parse::<u64>() else {
        authority.run("ROLLBACK").await?;
        // (MySQL. Its LOCK TABLES, before 5.7, does not wait for transactions)
        let lock = format!("FLUSH TABLES {} WITH READ LOCK", tables.join(", "));
        return locked(authority, handle, &lock, report).await;
    };
    exact(authority, &Position::File { file, offset }).await.map(Some)
}

async fn begin(authority: &mut Store) -> Result<(), InitError> {
    authority.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    authority.run("START TRANSACTION WITH CONSISTENT SNAPSHOT").await.map(drop)
}

/// Opens it while another connection has the group's tables.
async fn locked(
    authority: &mut Store,
    handle: &Arc<StoreHandle>,
    lock: &str,
    report: &mut Report,
) -> Result<Option<Position>, InitError> {
    let mut locker = Store::connect(handle).await?;
    locker.run("SET lock_wait_timeout = 1").await?;
    for attempt in 1..=ATTEMPTS {
        match locker.run(lock).await {
            Ok(_) => break,
            Err(InitError::Store { error: QueryError::Refused(e), .. }) if e.code == 1205 && attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(InitError::Store { error: QueryError::Refused(e), .. }) => {
                let what = format!("the group's tables on {} cannot be locked for a moment: {e}", authority.name);
                let mend = match e.code {
                    1205 => "end the transactions that use them (SHOW PROCESSLIST), then `switchover init` again",
                    _ => {
                        "GRANT RELOAD ON *.* to the control account there, or load the standby from a dump that says its position \
                         (mysqldump --single-transaction --master-data=1), then `switchover init GROUP --from POSITION`"
                    }
                };
                report.problems.push((what, mend.to_owned()));
                return Ok(None);
            }
            Err(other) => return Err(other),
        }
    }
    begin(authority).await?;
    let end = log::end(&mut authority.backend, authority.log, None).await;
    locker.run("UNLOCK TABLES").await?;
    match end {
        Ok(position) => Ok(Some(position)),
        Err(EndError::Query(error)) => Err(InitError::Store { store: authority.name.clone(), error }),
        Err(unclear) => {
            let mend = match authority.log {
                ChangeLog::Journal => "the journal is not a proxy's: drop its table, then `switchover init` again",
                ChangeLog::Binlog => "look at SHOW MASTER STATUS there",
            };
            report.problems.push((format!("{}: {unclear}", authority.name), mend.to_owned()));
            Ok(None)
        }
    }
}

/// A file and an offset as GTIDs, where the server can say it: those outlive the file's name.
///
/// # Errors
/// As the store's.
pub(super) async fn exact(authority: &mut Store, from: &Position) -> Result<Position, InitError> {
    let Position::File { file, offset } = from else { return Ok(from.clone()) };
    let file = super::schema::literal(file);
    let sql = format!("SELECT BINLOG_GTID_POS({file}, {offset}) IS NULL, BINLOG_GTID_POS({file}, {offset})");
    let found = match authority.run(&sql).await {
        Ok(rows) => {
            rows.first().filter(|row| row.first().is_some_and(|null| null == "0")).and_then(|row| row.get(1).cloned())
        }
        Err(InitError::Store { error: QueryError::Refused(_), .. }) => None,
        Err(other) => return Err(other),
    };
    Ok(found.and_then(|text| text.parse().ok()).unwrap_or_else(|| from.clone()))
}
