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

/// What entries are signed with.
pub const READ_SECRET: &str = "SELECT secret FROM switchover.secrets WHERE name = 'journal'";
