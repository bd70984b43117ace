//! A running proxy as it says of itself: what `status` and `sessions` answer.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Cause;
use crate::config::Problem;

/// A running proxy, whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Of the binary.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// `serving` or `draining`.
    pub state: String,
    /// Since the start.
    pub uptime_seconds: u64,
    /// Of the snapshot in force; it grows with each change.
    pub epoch: u64,
    /// The configuration file.
    pub config: PathBuf,
    /// When the configuration in force was read: milliseconds since 1970.
    pub config_loaded_at_ms: u64,
    /// The file as it is now, where it was refused.
    pub config_error: Option<ConfigError>,
    /// Changes of the file that wait for a restart.
    pub restart_needed: Vec<String>,
    /// Where clients connect.
    pub listen: Vec<String>,
    /// Threads that serve sessions.
    pub workers: u32,
    /// `session` or `transaction`.
    pub pool: String,
    /// The store of every table that no group names.
    pub default: String,
    /// In the order of the file.
    pub stores: Vec<StoreStatus>,
    /// In the order of the file.
    pub groups: Vec<GroupStatus>,
    /// Clients.
    pub sessions: SessionCounts,
    /// Since the start.
    pub totals: Totals,
    /// The newest first, a few.
    pub last_flips: Vec<FlipRecord>,
}

/// A configuration that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigError {
    /// When: milliseconds since 1970.
    pub at_ms: u64,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// One store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreStatus {
    /// Its name.
    pub name: String,
    /// Its addresses, in the order in which they are tried.
    pub addresses: Vec<String>,
    /// `MariaDB`, `MySQL` …; empty until it was reached.
    pub engine: String,
    /// As its greeting says.
    pub version: String,
    /// `up`, `suspect`, `down`, `recovering` or `unknown`.
    pub state: String,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Backend connections that sessions hold.
    pub leases: u64,
    /// Backend connections that wait for a session.
    pub idle: u64,
    /// Statements sent to it since the start.
    pub queries: u64,
    /// Errors that it answered since the start.
    pub errors: u64,
    /// Connections that failed since the start.
    pub connect_errors: u64,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// THE FLAG.
    pub connection: String,
    /// `off`, `live` …: derived, never stored.
    pub stage: String,
    /// Its patterns, as written.
    pub tables: Vec<String>,
    /// Its references, as written.
    pub references: Vec<String>,
    /// Stores that the flag may name.
    pub targets: Vec<String>,
    /// Whether an operator has paused it: what would write waits.
    pub paused: bool,
    /// Statements that wait now: for an operator, or for a cutover.
    pub waiting: u64,
    /// Its standby, where it has one.
    pub standby: Option<StandbyStatus>,
    /// Its authority, where it has a standby.
    pub authority: Option<AuthorityStatus>,
}

/// The authority of a group with a standby, as the rows on both stores say it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorityStatus {
    /// The store.
    pub store: String,
    /// Grows with each change of the authority.
    pub epoch: u64,
    /// Whether the rows of both stores agree.
    pub settled: bool,
    /// What they say, in words.
    pub rows: String,
    /// A cutover that is under way.
    pub cutover: Option<String>,
    /// Whether this proxy conducts it: it can be aborted here.
    pub conducted_here: bool,
    /// Whether writes wait.
    pub held: bool,
    /// The store that the file names, where that is another one.
    pub file_says: Option<String>,
    /// Statements and transactions of the group that are open.
    pub passes: u64,
    /// Statements that have waited since the start.
    pub waits: u64,
    /// For how long in all, microseconds.
    pub waited_us: u64,
    /// The longest of these waits that ended in the last minute, microseconds.
    pub longest_wait_us: u64,
    /// Statements that a sealed store refused to this proxy since the start.
    pub seals: u64,
    /// Stores that cannot be asked, and why.
    pub unreachable: Vec<String>,
    /// How each store is: `up`, `suspect`, `down`, `recovering`.
    pub health: BTreeMap<String, String>,
    /// Acknowledgements: `authority`, `standby`, `degraded` (the standby is away, and not waited for), `refused`.
    pub acks: String,
    /// Writes of a group with `ack: standby` that were acknowledged by the authority alone since the start.
    pub acknowledged_alone: u64,
    /// What the newest fallback left behind.
    pub left_behind: Vec<String>,
    /// Tables and views that somebody has made where tables are sealed by `rename`, each with what mends it.
    #[serde(default)]
    pub strays: Vec<String>,
}

/// A group's standby.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StandbyStatus {
    /// The store.
    pub store: String,
    /// `starting`, `idle` (another proxy applies), `applying`, `waiting`, `stopped`, `ended`.
    pub state: String,
    /// Why it waits or is stopped.
    pub reason: Option<String>,
    /// The transaction that it is stopped by.
    pub transaction: Option<String>,
    /// What mends it, a command or statement a line.
    pub remedy: Option<String>,
    /// Whether the transaction can be passed over.
    pub skippable: bool,
    /// Everything up to here is applied.
    pub position: String,
    /// Transactions of the authority's log that are not applied, those of others included.
    pub lag_entries: u64,
    /// Seconds behind.
    pub lag_seconds: u64,
    /// Transactions applied since the start of the proxy.
    pub transactions: u64,
    /// Rows deleted and inserted since then.
    pub rows: u64,
    /// Rounds that were done again since then.
    pub repeats: u64,
    /// Times that it connected again since then.
    pub reconnects: u64,
}

/// Clients, counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionCounts {
    /// Logged in.
    pub open: u64,
    /// Connected, not logged in yet.
    pub logging_in: u64,
    /// In a transaction.
    pub in_transaction: u64,
    /// In a transaction that began on an older epoch: they end on the store where they began.
    pub on_older_epoch: u64,
    /// By what keeps them on their backend; a session may count several times.
    pub by_pin: BTreeMap<String, u64>,
}

/// Since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Clients that logged in.
    pub connections: u64,
    /// Statements.
    pub queries: u64,
    /// Statements that the proxy refused.
    pub refused: u64,
    /// Logins that failed.
    pub failed_logins: u64,
    /// Flags that moved.
    pub flips: u64,
}

/// A flag that moved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlipRecord {
    /// The group.
    pub group: String,
    /// The store before.
    pub from: String,
    /// The store after.
    pub to: String,
    /// Who and why; empty `by` where the file was edited by hand.
    #[serde(flatten)]
    pub cause: Cause,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The epoch that it made.
    pub epoch: u64,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionInfo {
    /// What the client sees as CONNECTION_ID().
    pub id: u64,
    /// The account.
    pub user: String,
    /// Where it comes from.
    pub client: String,
    /// Its database.
    pub db: Option<String>,
    /// `idle`, `running`, `login` …
    pub state: String,
    /// Milliseconds in that state.
    pub for_ms: u64,
    /// Stores on which it holds a backend.
    pub leases: Vec<String>,
    /// What keeps it on them.
    pub pins: Vec<String>,
    /// In a transaction.
    pub in_transaction: bool,
    /// The epoch that it works with.
    pub epoch: u64,
    /// Statements since its login.
    pub queries: u64,
}
