//! The tables of the journal on an authority without a binlog. Words that every engine knows: no character set but utf8mb4 and
//! binary.
//!
//! - `journal`: the entries. The application's accounts may INSERT, and no more.
//! - `journal_ids`, a sequence, gives them ids; `journal_next`, a row, where the store has no sequences. Never AUTO_INCREMENT:
//!   the client would see it in LAST_INSERT_ID (RULES.md 45).
//! - `secrets`: what entries are signed with. The control account's alone.
//! - `journal_open`: intents of writes of tables whose engine has no transactions. The application's accounts may SELECT, INSERT and
//!   DELETE.
//! - `journal_readers`: how far each group's standby is. The control account's.
//! - `barriers`: a row per group, written between reading entries and applying them (RULES.md 30).
//! - the trigger `journal_gate`: an entry is let in while the store's own row of `switchover.groups` says that it serves the group.
//!
//! The gate is part of the seal (DESIGN.md 4). The locking read in it is what a cutover waits for: the row becomes `sealed` when
//! every transaction that has entered something has ended, and whoever comes later cannot commit. It stands at the entry and not
//! before the first write (RULES.md 35): a transaction waits for nothing behind its entry, so there is no deadlock, and the hot
//! row (RULES.md 37) is locked from there to its COMMIT only.

use super::entry::{Ids, Kind, Secret};
use crate::backend::Backend;
use crate::backend::connection::QueryError;

/// The statements that make it; running them again changes nothing.
pub const STATEMENTS: [&str; 7] = [
    "CREATE TABLE IF NOT EXISTS switchover.journal (
  id BIGINT UNSIGNED NOT NULL PRIMARY KEY,
  uuid BINARY(16) NOT NULL,
  group_name VARBINARY(64) NOT NULL,
  transaction_uuid BINARY(16) NOT NULL,
  part INT UNSIGNED NOT NULL,
  parts INT UNSIGNED NOT NULL,
  kind TINYINT UNSIGNED NOT NULL,
  made_at BIGINT UNSIGNED NOT NULL,
  payload LONGBLOB NOT NULL,
  mac BINARY(32) NOT NULL,
  KEY (transaction_uuid)
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.journal_next (
  one TINYINT NOT NULL PRIMARY KEY,
  id BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB",
    "INSERT IGNORE INTO switchover.journal_next VALUES (1, 0)",
    "CREATE TABLE IF NOT EXISTS switchover.secrets (
  name VARBINARY(64) NOT NULL PRIMARY KEY,
  secret BINARY(32) NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.barriers (
  group_name VARBINARY(64) NOT NULL PRIMARY KEY,
  written BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB",
    OPEN,
    READERS,
];

/// Writes under way of tables whose engine has no transactions.
pub const OPEN: &str = "CREATE TABLE IF NOT EXISTS switchover.journal_open (
  uuid BINARY(16) NOT NULL PRIMARY KEY,
  lock_name VARBINARY(64) NOT NULL,
  group_name VARBINARY(64) NOT NULL,
  payload LONGBLOB NOT NULL,
  mac BINARY(32) NOT NULL,
  KEY (lock_name)
) ENGINE = InnoDB";

/// Up to which entry each group's standby has applied.
pub const READERS: &str = "CREATE TABLE IF NOT EXISTS switchover.journal_readers (
  group_name VARBINARY(64) NOT NULL PRIMARY KEY,
  id BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB";

/// Where the store knows sequences: cheaper than a row that every writer changes, and no conflict under snapshot isolation
/// (RULES.md 37 and 38). Elsewhere it is a syntax error, and the row it is.
pub const SEQUENCE: &str =
    "CREATE SEQUENCE IF NOT EXISTS switchover.journal_ids START WITH 1 INCREMENT BY 1 CACHE 50 NOCYCLE";

/// Whether the sequence is there.
pub const HAS_SEQUENCE: &str =
    "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover' AND TABLE_NAME = 'journal_ids'";

/// Makes the gate. Tombstones and signals, which are no writes of a group, pass.
#[must_use]
pub fn gate(refusal: &str) -> String {
    format!(
        "CREATE TRIGGER switchover.journal_gate BEFORE INSERT ON switchover.journal FOR EACH ROW BEGIN \
         DECLARE serves VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin; \
         DECLARE CONTINUE HANDLER FOR NOT FOUND SET serves = NULL; \
         IF NEW.kind NOT IN ({TOMBSTONE}, {SIGNAL}) THEN \
         SELECT g.state INTO serves FROM switchover.groups g WHERE g.group_name = CONVERT(NEW.group_name USING utf8mb4) \
         LOCK IN SHARE MODE; \
         IF serves IS NULL THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1644, MESSAGE_TEXT = '{NO_ROW}'; END IF; \
         IF serves <> 'open' THEN \
         SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1644, MESSAGE_TEXT = '{refusal}'; END IF; END IF; END"
    )
}

/// What it says of a group that nobody has begun, or that has ended: never is one let in by a row that is missing (RULES.md 29).
const NO_ROW: &str = "switchover: the group has no row in switchover.groups on this store: switchover init";
const TOMBSTONE: u8 = Kind::Tombstone.number();
const SIGNAL: u8 = Kind::Signal.number();

/// Whether the gate is there.
pub const HAS_GATE: &str = "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'switchover' AND TRIGGER_NAME = 'journal_gate'";

/// How entries are made here: what signs them, and where their ids come from; none where the store has no secret.
///
/// # Errors
/// As the store's.
pub async fn signing(backend: &mut Backend) -> Result<Option<(Secret, Ids)>, QueryError> {
    let secret = backend.query(READ_SECRET.as_bytes()).await?;
    let Some(secret) = secret.first(0).and_then(|bytes| bytes.try_into().ok()).map(Secret) else { return Ok(None) };
    let sequence = backend.query(HAS_SEQUENCE.as_bytes()).await?;
    let ids = if sequence.first(0) == Some(b"0") { Ids::Row } else { Ids::Sequence };
    Ok(Some((secret, ids)))
}

/// What entries are signed with.
pub const READ_SECRET: &str = "SELECT secret FROM switchover.secrets WHERE name = 'journal'";
