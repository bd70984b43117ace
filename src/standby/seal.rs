//! What makes a store refuse every writer of a group but the applier, in one of two ways ([`Seal`]): a trigger per table and kind
//! of change, which lets in only the session that shows the group's token; or the tables move to where only the control account
//! finds them ([`super::seal_rename`]). A seal that is there, of either kind, stays; the store's wish counts when the next is put on.
//!
//! Making a trigger takes the table's exclusive metadata lock: it waits for every transaction that has used the table, whoever
//! runs it. A lock that waits stands in everybody's way (RULES.md 35), so it waits for a moment only, and is tried again.
//!
//! OceanBase waits for nobody there: what is open goes on until its next statement is refused, and its COMMIT is not. So with a
//! journal the seal is not complete without the gate at the entry ([`crate::changes::journal::schema`]), which is the same row that
//! says whether the store is sealed.
//!
//! What triggers cannot see: TRUNCATE, other DDL, and what foreign keys do. `rename` stops them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::aside::Aside;
use super::catalog::Catalog;
use super::pair::LIMIT;
use super::schema::literal;
use super::seal_lock::is_held;
use super::seal_rename::{self, Places};
use crate::backend::connection::QueryError;
use crate::backend::{Backend, StoreHandle, control};
use crate::config::model::Seal;
use crate::entry::place::number;
use crate::entry::{TableName, quoted};
use crate::routing::gate::{SEAL_TRIGGERS, SEALED};
use crate::wire::hex::hex;

/// What a trigger is fired by.
pub(super) const KINDS: [&str; 3] = ["insert", "update", "delete"];
/// So long a lock may wait in front of others.
const QUEUED: Duration = Duration::from_millis(150);
/// Between two attempts: those who waited behind it come forward.
const PAUSE: Duration = Duration::from_millis(50);

/// Whether a trigger is one of the seal's.
#[must_use]
pub fn is_own(trigger: &str) -> bool {
    trigger.starts_with(SEAL_TRIGGERS)
}

/// The statement with which a session shows the token.
#[must_use]
pub fn show(token: &str) -> String {
    format!("SET @switchover_applier = {}", literal(token))
}

/// Why a store is not sealed, or its seal not taken off.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Transactions are open that use the table.
    #[error("{tables} is in use by a transaction that does not end")]
    Busy {
        /// Which, or one of which.
        tables: String,
    },
    /// A table is at its own place, and where it is while it is sealed.
    #[error("there is a table at {own} and one at {sealed}: look at both, and drop the one that is not the table")]
    Twice {
        /// The one,
        own: TableName,
        /// and the other.
        sealed: TableName,
    },
    /// A view is at a table's own place that no seal has put there.
    #[error("somebody has made a view at {0}, whose table is sealed: look at it, and drop it")]
    View(TableName),
    /// There is no place for it.
    #[error(
        "the name of database {0} is too long for `seal: rename`, which puts `switchover_sealed_` before it: say `seal: trigger`"
    )]
    TooLong(String),
    /// A table with triggers moves to no other schema (1435).
    #[error(
        "a table with a trigger cannot be sealed by rename: DROP TRIGGER, and make it again when the store is the authority: {0}"
    )]
    Trigger(QueryError),
    /// The store refused, or is gone.
    #[error("{0}")]
    Query(#[from] QueryError),
}

/// The triggers of the seal that a store has, by their table.
pub type Present = BTreeMap<TableName, BTreeSet<String>>;

/// Reads which triggers of the seal the tables of these databases have.
///
/// # Errors
/// As the store's.
pub async fn present(backend: &mut Backend, catalog: &Catalog) -> Result<Present, QueryError> {
    let mut databases: Vec<String> = catalog.keys().map(|name| literal(&name.database)).collect();
    databases.dedup();
    if databases.is_empty() {
        return Ok(Present::new());
    }
    let sql = format!(
        "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS \
         WHERE TRIGGER_SCHEMA IN ({}) AND LEFT(TRIGGER_NAME, {}) = '{SEAL_TRIGGERS}'",
        databases.join(", "),
        SEAL_TRIGGERS.len()
    );
    let rows = backend.query(sql.as_bytes()).await?;
    let mut found = Present::new();
    for row in &rows.rows {
        let cell = |at: usize| {
            String::from_utf8_lossy(row.get(at).and_then(Option::as_deref).unwrap_or_default()).into_owned()
        };
        let name = TableName { database: cell(0), name: cell(1) };
        if catalog.contains_key(&name) {
            found.entry(name).or_default().insert(cell(2));
        }
    }
    Ok(found)
}

/// A trigger's name: a schema has each name once.
fn name_of(kind: &str, table: &str) -> String {
    format!("{SEAL_TRIGGERS}{kind}_{:016x}", number(table))
}

/// The statement that makes a trigger. Its text shows a hash of the token only.
fn creation(group: &str, table: &TableName, kind: &str, token: &str, counted: bool) -> String {
    let hash = hex(&Sha256::digest(token.as_bytes()));
    let count = format!(
        "DECLARE text LONGTEXT; \
         SET text = (SELECT LEFT(INFO, 4000) FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()); \
         INSERT INTO switchover.refused VALUES ({}, {}, LEFT(USER(), 100), 1, text, NOW(6), NOW(6)) \
         ON DUPLICATE KEY UPDATE times = times + 1, statement = COALESCE(text, statement), last_at = NOW(6); ",
        literal(group),
        literal(&format!("{}.{}", table.database, table.name)),
    );
    format!(
        "CREATE TRIGGER {database}.{name} BEFORE {kind} ON {table} FOR EACH ROW BEGIN \
         IF NOT (SHA2(@switchover_applier, 256) <=> '{hash}') THEN BEGIN {count}\
         SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 1644, MESSAGE_TEXT = {message}; END; END IF; END",
        database = quoted(&table.database),
        name = quoted(&name_of(kind, &table.name)),
        table = table.quoted(),
        kind = kind.to_uppercase(),
        count = if counted { count.as_str() } else { "" },
        message = literal(&refusal(group)),
    )
}

/// What a sealed store says.
#[must_use]
pub fn refusal(group: &str) -> String {
    format!("{SEALED}this store is the standby of group {group}: write to its authority, through the proxy")
}

/// What the gate of a journal says, whatever the group.
pub const JOURNAL_REFUSAL: &str = "switchover: sealed: this store does not serve the group whose journal it is";

/// Whether what a trigger writes to `switchover.refused` outlives its own refusal there; and whether it may write there at all: a
/// MySQL that wants GTIDs to be consistent refuses every statement that could write a table without transactions too (1785).
async fn counts(backend: &mut Backend) -> Result<bool, QueryError> {
    let sql =
        b"SELECT ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover' AND TABLE_NAME = 'refused'";
    let rows = backend.query(sql).await?;
    if !rows.first(0).is_some_and(|e| e.eq_ignore_ascii_case(b"aria") || e.eq_ignore_ascii_case(b"myisam")) {
        return Ok(false);
    }
    match backend.query(b"SELECT @@GLOBAL.enforce_gtid_consistency IN ('0', 'OFF')").await {
        Ok(rows) => Ok(rows.first(0) == Some(b"1")),
        // (MariaDB has no such variable)
        Err(QueryError::Refused(_)) => Ok(true),
        Err(e) => Err(e),
    }
}

/// A store of which a seal is put on or taken off: one connection, and its handle to break a wait off.
pub struct Sealer<'a> {
    /// The store.
    pub store: &'a Arc<StoreHandle>,
    /// A connection of the control account.
    pub backend: &'a mut Backend,
    /// Where the lock of who changes a seal is a row: the connection that has it.
    pub row: &'a mut Option<Backend>,
    /// What somebody has made where tables were is in nobody's way: it is put aside.
    pub(super) aside: Option<Aside>,
}

impl Sealer<'_> {
    /// Puts the seal on every table of the catalog; at `deadline` it gives up, and what is there stays.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn put_on(
        &mut self,
        group: &str,
        catalog: &Catalog,
        token: &str,
        deadline: Instant,
    ) -> Result<(), SealError> {
        let seal = kind(self.backend, self.store.config.seal).await?;
        self.backend.execute(b"SET SESSION lock_wait_timeout = 1").await?;
        match seal {
            Seal::Trigger => self.put_triggers(group, catalog, token, deadline).await,
            Seal::Rename => self.move_away(group, catalog, deadline).await,
        }
    }

    async fn put_triggers(
        &mut self,
        group: &str,
        catalog: &Catalog,
        token: &str,
        deadline: Instant,
    ) -> Result<(), SealError> {
        let there = present(self.backend, catalog).await?;
        let away = seal_rename::places(self.backend, catalog.keys()).await?;
        let counted = counts(self.backend).await?;
        for kind in KINDS {
            for table in catalog.keys().filter(|table| !away.get(table).is_some_and(Places::is_away)) {
                let name = name_of(kind, &table.name);
                if there.get(table).is_some_and(|names| names.contains(&name)) {
                    continue;
                }
                self.patiently(&creation(group, table, kind, token, counted), table, deadline).await?;
            }
        }
        Ok(())
    }

    /// Takes the seal off wherever it is.
    ///
    /// # Errors
    /// [`SealError`].
    pub async fn take_off(&mut self, catalog: &Catalog, deadline: Instant) -> Result<(), SealError> {
        self.backend.execute(b"SET SESSION lock_wait_timeout = 1").await?;
        self.move_back(catalog, deadline).await?;
        for (table, names) in present(self.backend, catalog).await? {
            self.drop_triggers(&table, &names, deadline).await?;
        }
        Ok(())
    }

    /// Drops these triggers of a table.
    pub(super) async fn drop_triggers(
        &mut self,
        table: &TableName,
        names: &BTreeSet<String>,
        deadline: Instant,
    ) -> Result<(), SealError> {
        for name in names {
            let sql = format!("DROP TRIGGER IF EXISTS {}.{}", quoted(&table.database), quoted(name));
            self.patiently(&sql, table, deadline).await?;
        }
        Ok(())
    }

    /// Runs DDL once, for as long as it may stand in front of others. OceanBase's waits in nobody's way, and one that is killed at the
    /// wrong moment answers after a minute and a half only: there it may wait until `deadline`, while the row is ours.
    pub(super) async fn briefly(&mut self, sql: &str, deadline: Instant) -> Result<Brief, QueryError> {
        let Sealer { store, backend, row, .. } = self;
        is_held(row).await?;
        let thread = backend.thread_id;
        let mut running = std::pin::pin!(backend.execute(sql.as_bytes()));
        let outcome = loop {
            match timeout(QUEUED, &mut running).await {
                Ok(outcome) => break outcome,
                Err(_) if row.is_some() && Instant::now() < deadline && is_held(row).await.is_ok() => {}
                Err(_) => {
                    control::kill(store, thread, true, Duration::from_secs(1)).await;
                    let lost = |_| Err(QueryError::Io(std::io::ErrorKind::TimedOut.into()));
                    break timeout(LIMIT, running).await.unwrap_or_else(lost);
                }
            }
        };
        match outcome {
            Ok(_) => Ok(Brief::Done),
            // a lock wait; interrupted
            Err(QueryError::Refused(e)) if matches!(e.code, 1205 | 1317) => Ok(Brief::Waits),
            Err(error) => Err(error),
        }
    }

    /// Before another attempt; an error, where there is to be none any more.
    pub(super) async fn pause(tables: impl Fn() -> String, deadline: Instant) -> Result<(), SealError> {
        if Instant::now() >= deadline {
            return Err(SealError::Busy { tables: tables() });
        }
        sleep(PAUSE).await;
        Ok(())
    }

    /// Runs DDL that waits in front of others for a moment at a time.
    async fn patiently(&mut self, sql: &str, table: &TableName, deadline: Instant) -> Result<(), SealError> {
        loop {
            match self.briefly(sql, deadline).await {
                Ok(Brief::Done) => return Ok(()),
                Ok(Brief::Waits) => Self::pause(|| table.to_string(), deadline).await?,
                // there is one already (OceanBase: 5734); there is none any more; nor a table
                Err(QueryError::Refused(e)) if matches!(e.code, 1359 | 5734 | 1360 | 1146) => return Ok(()),
                // OceanBase makes triggers in the session's database only
                Err(QueryError::Refused(e)) if e.code == 1046 => {
                    self.backend.execute(format!("USE {}", quoted(&table.database)).as_bytes()).await?;
                }
                Err(e) => return Err(e.into()),
            }
        }
    }
}

/// What became of DDL that does not wait for long.
pub(super) enum Brief {
    /// It is done.
    Done,
    /// Somebody uses the table.
    Waits,
}

/// By which way a store is sealed next: as its configuration says, or as it can. The question for what it can has no effect: an
/// engine with triggers says that there is no such table, or that the account may not.
///
/// # Errors
/// As the store's.
pub async fn kind(backend: &mut Backend, wish: Option<Seal>) -> Result<Seal, QueryError> {
    const QUESTION: &[u8] =
        b"CREATE TRIGGER switchover.switchover_question BEFORE INSERT ON switchover.no_table FOR EACH ROW BEGIN END";
    if let Some(seal) = wish {
        return Ok(seal);
    }
    // engines that are known to have them are not asked: the question is DDL, which OceanBase (seekdb) beside other DDL may never answer
    let version = backend.query(b"SELECT VERSION()").await?;
    if version
        .first(0)
        .is_some_and(|v| [&b"MariaDB"[..], b"OceanBase"].iter().any(|known| memchr::memmem::find(v, known).is_some()))
    {
        return Ok(Seal::Trigger);
    }
    match backend.execute(QUESTION).await {
        Err(QueryError::Refused(e)) if lacks_triggers(e.code) => Ok(Seal::Rename),
        Ok(_) | Err(QueryError::Refused(_)) => Ok(Seal::Trigger),
        Err(e) => Err(e),
    }
}

/// Whether a store has no triggers at all.
///
/// # Errors
/// As the store's.
pub(super) async fn has_no_triggers(backend: &mut Backend) -> Result<bool, QueryError> {
    kind(backend, None).await.map(|seal| seal == Seal::Rename)
}

/// Whether an error of CREATE TRIGGER says that the engine has none: it does not know the words, or says so.
pub(super) fn lacks_triggers(code: u16) -> bool {
    matches!(code, 1064 | 1178 | 1235 | 1289 | 1706)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trigger_shows_no_token() {
        let table = TableName { database: "d".to_owned(), name: "o`dd".to_owned() };
        let sql = creation("analytics", &table, "insert", "secret", true);
        assert!(!sql.contains("secret"));
        assert!(sql.starts_with("CREATE TRIGGER `d`.`switchover_seal_insert_"), "{sql}");
        assert!(sql.contains("ON `d`.`o``dd` FOR EACH ROW"), "{sql}");
        assert_ne!(name_of("insert", "a"), name_of("insert", "b"));
        assert!(name_of("insert", &"x".repeat(64)).len() <= 64);
    }

    #[test]
    fn an_engine_without_triggers_is_known_by_its_error() {
        // a table that is not there; no right; SUPER; no database: it has them
        assert!([1146, 1142, 1419, 1046, 1227].into_iter().all(|code| !lacks_triggers(code)));
        assert!([1064, 1235, 1706].into_iter().all(lacks_triggers));
    }
}
