//! The lock of who changes a seal on a store.
//!
//! `GET_LOCK` on the connection that does the DDL, where a server's end is the end of its locks. OceanBase (seekdb 1.4) keeps them
//! over `kill -9`, and gives none of them away for as long as was waited. There it is a row, locked on a connection of its own,
//! because DDL commits. The store ends that connection when nothing is heard of it, but later than the one with the DDL; and each DDL
//! is sent when the row's has just answered. So whoever was suspended, and lost the row, has lost the other too.

use tokio::time::Instant;

use super::pair::{BRIEF, LIMIT, PairError, SILENT, Side};
use super::schema::literal;
use crate::backend::connection::QueryError;
use crate::backend::{Backend, control};

/// Seconds of silence after which the store ends the connection with the row.
const ROW_SILENT: u32 = 2 * SILENT;

/// (names of locks are short on some engines, and know no case)
fn lock_name(group: &str) -> String {
    format!("CONCAT('switchover-', MD5({}))", literal(group))
}

/// Whether a store, by its version, forgets no lock of a connection that is gone.
pub(super) fn keeps_locks(version: &str) -> bool {
    version.contains("OceanBase")
}

impl Side {
    /// Takes the lock; false where somebody else has it at `deadline`.
    pub(super) async fn lock_seal(&mut self, group: &str, deadline: Instant) -> Result<bool, PairError> {
        if !self.keeps_locks {
            let lock = format!("SELECT GET_LOCK({}, 1)", lock_name(group));
            while self.one(&lock).await? != "1" {
                if Instant::now() >= deadline {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let mut row = control::connect(&self.store, LIMIT).await?;
        for sql in BRIEF {
            match row.execute(sql.as_bytes()).await {
                Ok(_) | Err(QueryError::Refused(_)) => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        for sql in [
            format!("SET SESSION wait_timeout = {ROW_SILENT}"),
            format!("INSERT IGNORE INTO switchover.seals VALUES ({})", literal(group)),
            "START TRANSACTION".to_owned(),
        ] {
            row.execute(sql.as_bytes()).await.map_err(|e| self.failed(e))?;
        }
        let lock = format!("SELECT group_name FROM switchover.seals WHERE group_name = {} FOR UPDATE", literal(group));
        loop {
            match row.query(lock.as_bytes()).await {
                Ok(_) => break,
                Err(QueryError::Refused(e)) if e.code == 1205 && Instant::now() < deadline => {}
                Err(QueryError::Refused(e)) if e.code == 1205 => return Ok(false),
                Err(e) => return Err(self.failed(e)),
            }
        }
        self.row = Some(row);
        Ok(true)
    }

    /// Gives it back.
    pub(super) async fn unlock_seal(&mut self, group: &str) -> Result<(), PairError> {
        match self.row.take() {
            Some(mut row) => row.execute(b"ROLLBACK").await.map(|_| ()).map_err(|e| self.failed(e)),
            None if self.keeps_locks => Ok(()),
            None => self.one(&format!("SELECT RELEASE_LOCK({})", lock_name(group))).await.map(|_| ()),
        }
    }
}

/// Before each DDL: the row is ours still.
pub(super) async fn is_held(row: &mut Option<Backend>) -> Result<(), QueryError> {
    match row {
        Some(row) => row.query(b"SELECT 1").await.map(|_| ()),
        None => Ok(()),
    }
}
