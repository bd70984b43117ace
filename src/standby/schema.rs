//! The schema `switchover`, which both stores of a group with a standby have: what its tables hold, and the SQL that makes it.
//!
//! - `leases`: who applies a group, and under which term. Only the holder of the newest term can write a mark.
//! - `marks`: what is applied. Rows for the parts of two rounds of a group; see [`super::marks`].
//! - `skipped`: transactions that an operator passed over, and why.
//! - `settlings`, `settling_log`: what an authority that failed had and its standby had not, until that is settled, whole;
//!   on the store that took over. See [`super::settle`].
//! - `left_behind`: the same, a row for each change, for people to read, and what became of it.
//! - `rewound`: on the authority that failed: which settlement took back there what it had alone.
//! - `groups`: which store is the authority, by its own row on each store; see [`super::record`].
//! - `intents`: the cutover that is under way, on the store that it leaves.
//! - `seals`: locked by who changes a seal, where the store's GET_LOCK does not do; see [`super::seal_lock`].
//! - `proxies`: who serves the group, and for which cutover nothing is in flight there any more.
//! - `fallbacks`: how far a standby had come when it was opened, and where its own log was.
//! - `refused`: who was refused by the seal. It is no transactional table, where the store has such: what a trigger writes there
//!   outlives its own refusal. Elsewhere nobody is written down.
//!
//! Words that every engine knows: MariaDB, MySQL, and what presents itself as MySQL (OceanBase knows no character set but utf8mb4 and
//! binary). No column of a key has more than 767 bytes, as MySQL 5.6 wants it, no key of `refused` more than MyISAM's 1000.

/// Its name.
pub const SCHEMA: &str = "switchover";

/// How the table `refused` ends; and with what else, where the store has no such engine.
pub const ARIA: &str = "ENGINE = Aria TRANSACTIONAL = 0";
/// See [`ARIA`].
pub const INSTEAD_OF_ARIA: [&str; 2] = ["ENGINE = MyISAM", "ENGINE = InnoDB"];

/// Parts that a round has at the most.
pub const PARTS: usize = 4;

/// Rows of `marks` that a group has: those of a round, and those of the one that is executed while it is committed.
pub const MARKS: usize = 2 * PARTS;

/// The statements that make it; running them again changes nothing.
pub const STATEMENTS: [&str; 14] = [
    "CREATE DATABASE IF NOT EXISTS switchover CHARACTER SET utf8mb4",
    "CREATE TABLE IF NOT EXISTS switchover.leases (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  term BIGINT UNSIGNED NOT NULL,
  holder VARCHAR(512) NOT NULL,
  renewed DATETIME(6) NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.marks (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  part SMALLINT UNSIGNED NOT NULL,
  term BIGINT UNSIGNED NOT NULL,
  authority VARCHAR(64) NOT NULL,
  round BIGINT NOT NULL,
  parts SMALLINT UNSIGNED NOT NULL,
  base TEXT NOT NULL,
  position TEXT NOT NULL,
  ids LONGTEXT NOT NULL,
  committed_at BIGINT UNSIGNED NOT NULL,
  PRIMARY KEY (group_name, part)
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.skipped (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  transaction_id VARCHAR(255) NOT NULL,
  what TEXT NOT NULL,
  reason TEXT NOT NULL,
  skipped_by VARCHAR(255) NOT NULL,
  skipped_at DATETIME(6) NOT NULL,
  KEY (group_name)
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.settlings (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  settling CHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source VARCHAR(64) NOT NULL,
  transactions INT UNSIGNED NOT NULL,
  state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  begun DATETIME(6) NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.settling_log (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  place INT UNSIGNED NOT NULL,
  chunk INT UNSIGNED NOT NULL,
  data MEDIUMBLOB NOT NULL,
  PRIMARY KEY (group_name, place, chunk)
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.left_behind (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  transaction_id VARBINARY(255) NOT NULL,
  number INT UNSIGNED NOT NULL,
  settling CHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  place INT UNSIGNED NOT NULL,
  committed_at BIGINT UNSIGNED NOT NULL,
  table_name VARCHAR(130) NOT NULL,
  row_key TEXT NOT NULL,
  was LONGTEXT NOT NULL,
  found LONGTEXT NOT NULL,
  settled VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  why TEXT NOT NULL,
  noted_at DATETIME(6) NOT NULL,
  PRIMARY KEY (group_name, transaction_id, number),
  KEY (group_name, settling, place)
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.rewound (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  settling CHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  what TEXT NOT NULL,
  remedy TEXT NOT NULL,
  rewound_at DATETIME(6) NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.groups (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  epoch BIGINT UNSIGNED NOT NULL,
  authority VARCHAR(64) NOT NULL,
  state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  token CHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  cutover VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  changed DATETIME(6) NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.intents (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  cutover VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  source VARCHAR(64) NOT NULL,
  target VARCHAR(64) NOT NULL,
  conductor VARCHAR(512) NOT NULL,
  wanted_by VARCHAR(255) NOT NULL,
  reason TEXT NOT NULL,
  skipped TEXT NOT NULL,
  begun DATETIME(6) NOT NULL,
  renewed DATETIME(6) NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.proxies (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  proxy VARBINARY(512) NOT NULL,
  cutover VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  renewed DATETIME(6) NOT NULL,
  PRIMARY KEY (group_name, proxy)
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.fallbacks (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
  epoch BIGINT UNSIGNED NOT NULL,
  source VARCHAR(64) NOT NULL,
  position TEXT NOT NULL,
  applied LONGTEXT NOT NULL,
  opened TEXT NOT NULL,
  opened_at DATETIME(6) NOT NULL,
  state VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.seals (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY
) ENGINE = InnoDB",
    "CREATE TABLE IF NOT EXISTS switchover.refused (
  group_name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  table_name VARBINARY(390) NOT NULL,
  account VARBINARY(300) NOT NULL,
  times BIGINT UNSIGNED NOT NULL,
  statement TEXT,
  first_at DATETIME(6) NOT NULL,
  last_at DATETIME(6) NOT NULL,
  PRIMARY KEY (group_name, table_name, account)
) ENGINE = Aria TRANSACTIONAL = 0",
];

/// The names of its tables.
pub fn tables() -> impl Iterator<Item = &'static str> {
    STATEMENTS.iter().filter_map(|sql| sql.strip_prefix("CREATE TABLE IF NOT EXISTS switchover.")?.split(' ').next())
}

/// A string literal for the connections of this layer, whose sql_mode has backslash escapes.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut out = Vec::new();
    crate::entry::column::put_quoted(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}
