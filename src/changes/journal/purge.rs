//! Takes entries away that no group needs: those below every group's applied position, when they are old enough.
//!
//! Each group's applier says in `switchover.journal_readers` how far its standby is, durably. Kept are the entry that a position
//! names (its UUID tells whether the authority lost entries), the entries of a transaction whose commit is not applied yet, those
//! of a group whose reader nobody knows, and all that are young: a standby that comes back from a backup of minutes ago goes on.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Kind, put_hex};
use super::schema::READERS;
use crate::backend::connection::{QueryError, Rows};
use crate::backend::{Backend, StoreHandle, control};

/// How long entries are kept that nobody needs.
pub const KEEP: Duration = Duration::from_secs(600);
/// Entries in one statement: it locks them for a moment.
const BATCH: usize = 500;
/// Statements in one step.
const BATCHES: usize = 20;
const LIMIT: Duration = Duration::from_secs(5);
/// Below the positions of all groups that this store serves, or that nothing is known of: where a group's standby is, nobody reads.
const FLOOR: &str = "SELECT MIN(r.id) FROM switchover.journal_readers r LEFT JOIN switchover.groups g \
     ON g.group_name = CONVERT(r.group_name USING utf8mb4) WHERE g.state IS NULL OR g.state <> 'standby'";

/// Says how far a group's standby is, and takes away what no group needs; how many entries went.
///
/// # Errors
/// As the store's.
pub async fn step(store: &Arc<StoreHandle>, group: &str, applied: u64, keep: Duration) -> Result<u64, QueryError> {
    let connected = control::connect(store, LIMIT).await;
    let mut backend = connected.map_err(|e| QueryError::Io(std::io::Error::other(e.to_string())))?;
    let gone = purge(&mut backend, group, applied, keep).await;
    let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
    gone
}

async fn purge(backend: &mut Backend, group: &str, applied: u64, keep: Duration) -> Result<u64, QueryError> {
    // (what is deleted is named: no gap need be locked)
    backend.execute(b"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
    let mut name = String::new();
    put_hex(&mut name, group.as_bytes());
    let says = format!(
        "INSERT INTO switchover.journal_readers VALUES ({name}, {applied}) ON DUPLICATE KEY UPDATE id = {applied}"
    );
    match backend.execute(says.as_bytes()).await {
        // a journal of before this table
        Err(QueryError::Refused(e)) if e.code == 1146 => {
            backend.execute(READERS.as_bytes()).await?;
            backend.execute(says.as_bytes()).await?;
        }
        other => drop(other?),
    }
    let before = u64::from(super::now()).saturating_sub(keep.as_secs());
    let (mut from, mut gone) = (0, 0);
    for _ in 0..BATCHES {
        // (a tombstone is of no group)
        let sql = format!(
            "SELECT id, kind, HEX(transaction_uuid), ({FLOOR}) FROM switchover.journal \
             WHERE id > {from} AND id < ({FLOOR}) AND made_at < {before} \
             AND (kind = {} OR group_name IN (SELECT group_name FROM switchover.journal_readers)) ORDER BY id LIMIT {BATCH}",
            Kind::Tombstone.number()
        );
        let found = backend.query(sql.as_bytes()).await?;
        let Some(last) = found.rows.len().checked_sub(1).and_then(|at| number(&found, at, 0)) else { break };
        from = last;
        let mut ids = Vec::new();
        for at in 0..found.rows.len() {
            let (Some(id), Some(floor)) = (number(&found, at, 0), number(&found, at, 3)) else { continue };
            let is_part = number(&found, at, 1) == Some(u64::from(Kind::Rows.number()));
            if !is_part || is_over(backend, &found, at, floor).await? {
                ids.push(id.to_string());
            }
        }
        if !ids.is_empty() {
            let sql = format!("DELETE FROM switchover.journal WHERE id IN ({})", ids.join(","));
            gone += backend.execute(sql.as_bytes()).await?.affected_rows;
        }
    }
    Ok(gone)
}

/// Whether the transaction of an entry that is not its last is applied everywhere.
async fn is_over(backend: &mut Backend, rows: &Rows, at: usize, floor: u64) -> Result<bool, QueryError> {
    let uuid = rows.rows.get(at).and_then(|row| row.get(2)?.as_deref()).unwrap_or_default();
    let sql = format!(
        "SELECT MAX(id) FROM switchover.journal WHERE transaction_uuid = X'{}' AND kind = {}",
        String::from_utf8_lossy(uuid),
        Kind::Commit.number()
    );
    let commit = backend.query(sql.as_bytes()).await?;
    Ok(number(&commit, 0, 0).is_some_and(|id| id < floor))
}

fn number(rows: &Rows, row: usize, column: usize) -> Option<u64> {
    std::str::from_utf8(rows.rows.get(row)?.get(column)?.as_deref()?).ok()?.parse().ok()
}
