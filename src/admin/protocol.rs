//! What the CLI and a running proxy say to each other: one JSON object per line each way, answers in the order of requests.
//!
//! Fields may be added: a reader takes the default for what it misses and ignores what it does not know, so that a CLI and a
//! proxy of neighbouring versions understand each other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::digest::{DigestRequest, Digests};
use super::events::Event;
pub use super::events::EventQuery;
pub use super::explain::{ExplainRequest, Explained};
use super::log::{LogLevel, LogRequest};
use super::readiness::{Readiness, ReadinessRequest};
use super::shadow::ShadowRequest;
pub use super::steer::{AbortRequest, KillRequest, PauseRequest};
use crate::config::Problem;
use crate::config::diff::Flip;
use crate::transfer::shadow::Report;

/// Bytes of one line, its line break included.
pub const MAX_LINE: usize = 1 << 20;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// How it is going.
    Status,
    /// Read the configuration file again.
    Reload(Cause),
    /// Set a flag.
    Flag(FlagRequest),
    /// Stop accepting, let sessions end, and leave.
    Drain(DrainRequest),
    /// Where a statement would go.
    Explain(ExplainRequest),
    /// Every session.
    Sessions,
    /// A stopped standby goes on.
    Standby(StandbyRequest),
    /// The statements that were seen, with figures.
    Digests(DigestRequest),
    /// What would become of statements if a flag moved.
    Readiness(ReadinessRequest),
    /// What is logged.
    Log(LogRequest),
    /// What was changed, and what happened.
    Events(EventQuery),
    /// The configuration in force.
    Config,
    /// What the file says otherwise.
    ConfigDiff,
    /// What would write to a group waits, or goes on.
    Pause(PauseRequest),
    /// A session, or its statement, ends.
    Kill(KillRequest),
    /// What shadow reads have found.
    Shadow(ShadowRequest),
    /// A cutover that is under way is given up.
    Abort(AbortRequest),
}

impl Request {
    /// Who wants a change, and why; none where nothing is changed.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Request::Reload(cause) => Some(cause),
            Request::Flag(r) => Some(&r.cause),
            Request::Pause(r) => Some(&r.cause),
            Request::Kill(r) => Some(&r.cause),
            Request::Abort(r) => Some(&r.cause),
            Request::Standby(r) => Some(&r.cause),
            Request::Drain(r) => Some(&r.cause),
            Request::Digests(r) => Some(&r.cause),
            Request::Log(r) => Some(&r.cause),
            Request::Status
            | Request::Readiness(_)
            | Request::Explain(_)
            | Request::Sessions
            | Request::Events(_)
            | Request::Config
            | Request::ConfigDiff
            | Request::Shadow(_) => None,
        }
    }

    /// The same, to be signed.
    pub fn cause_mut(&mut self) -> Option<&mut Cause> {
        match self {
            Request::Reload(cause) => Some(cause),
            Request::Flag(r) => Some(&mut r.cause),
            Request::Pause(r) => Some(&mut r.cause),
            Request::Kill(r) => Some(&mut r.cause),
            Request::Abort(r) => Some(&mut r.cause),
            Request::Standby(r) => Some(&mut r.cause),
            Request::Drain(r) => Some(&mut r.cause),
            Request::Digests(r) => Some(&mut r.cause),
            Request::Log(r) => Some(&mut r.cause),
            Request::Status
            | Request::Readiness(_)
            | Request::Explain(_)
            | Request::Sessions
            | Request::Events(_)
            | Request::Config
            | Request::ConfigDiff
            | Request::Shadow(_) => None,
        }
    }
}

/// Who wants something, and why: for the log and the history.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// A person or program, as `alice` or `alice@host`.
    pub by: String,
    /// Their words.
    pub why: Option<String>,
    /// Flips are not held up by what they would tear apart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// Set the flag of `group` to `store` by editing the proxy's configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FlagRequest {
    /// The group.
    pub group: String,
    /// The store.
    pub store: String,
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
    /// Only say what would be done: of a cutover.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A stopped standby goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyRequest {
    /// The group.
    pub group: String,
    /// How.
    #[serde(flatten)]
    pub action: StandbyAction,
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// How a stopped standby goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum StandbyAction {
    /// It tries again.
    Retry,
    /// It passes the transaction over that it is stopped by.
    Skip {
        /// Its id.
        transaction: String,
        /// Why.
        reason: String,
    },
}

/// A key of the configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigEntry {
    /// As `groups.analytics.connection`.
    pub key: String,
    /// Its value; of a secret only that there is one.
    pub value: String,
}

/// A key that the file and what is in force have otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// In force.
    pub in_force: String,
    /// In the file.
    pub file: String,
}

/// How to leave.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainRequest {
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
    /// Milliseconds until sessions that are still busy are closed; none takes `limits.drain_timeout`.
    pub timeout_ms: Option<u64>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Reload`].
    Reloaded(Reloaded),
    /// To [`Request::Flag`].
    Flagged(Flagged),
    /// To [`Request::Drain`]: it has begun.
    Draining,
    /// To [`Request::Explain`].
    Explained(Explained),
    /// To [`Request::Sessions`].
    Sessions(Vec<SessionInfo>),
    /// To [`Request::Standby`]: how it was when it was told.
    Standby(StandbyStatus),
    /// To [`Request::Digests`].
    Digests(Box<Digests>),
    /// To [`Request::Readiness`].
    Readiness(Box<Readiness>),
    /// To [`Request::Log`].
    Log(LogLevel),
    /// To [`Request::Events`].
    Events(Vec<Event>),
    /// To [`Request::Config`].
    Config(Vec<ConfigEntry>),
    /// To [`Request::ConfigDiff`].
    ConfigDiff(Vec<ConfigChange>),
    /// To [`Request::Pause`]: how the group is now.
    Group(Box<GroupStatus>),
    /// To [`Request::Kill`].
    Killed,
    /// To [`Request::Shadow`].
    Shadow(Box<Report>),
    /// To [`Request::Abort`]: whoever asked for it hears what became of it.
    Aborting,
    /// To any: it was not done.
    Failed(Failure),
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose it is to mend.
    pub kind: FailureKind,
    /// What happened, and what mends it.
    pub message: String,
}

/// Kinds of [`Failure`]; the CLI's exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The configuration file has problems: the old one stays in force.
    Config,
    /// The proxy may not write its configuration file.
    File,
    /// What was asked makes no sense here: no such group, a malformed request.
    Request,
    /// The account may only look.
    Forbidden,
    /// It took too long.
    Timeout,
    /// The proxy's own fault.
    Internal,
}

impl Failure {
    /// A failure of `kind`.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure { kind, message: message.into() }
    }
}

/// The configuration file was read, and is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// The epoch in force.
    pub epoch: u64,
    /// What changed, one line each; empty where the file says what was in force.
    pub changes: Vec<String>,
    /// Flags that moved.
    pub flips: Vec<Flip>,
    /// What waits for a restart.
    pub restart: Vec<String>,
}

/// A flag was set, and new statements follow it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Flagged {
    /// The group.
    pub group: String,
    /// The store before.
    pub from: String,
    /// The store now.
    pub to: String,
    /// False where it was so already.
    pub changed: bool,
    /// The epoch that serves it.
    pub epoch: u64,
    /// The file that was edited.
    pub file: PathBuf,
    /// What the operator should know beside.
    pub notes: Vec<String>,
}

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
    /// Statements on its tables per store, since the start.
    pub queries: BTreeMap<String, u64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_flat_objects() {
        let cause = Cause { by: "alice".into(), ..Cause::default() };
        let flag = FlagRequest { group: "a".into(), store: "new".into(), cause, dry_run: false };
        let text = serde_json::to_string(&Request::Flag(flag.clone())).unwrap();
        assert_eq!(text, r#"{"request":"flag","group":"a","store":"new","by":"alice","why":null}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), Request::Flag(flag));
        assert_eq!(
            serde_json::from_str::<Request>(r#"{"request":"reload"}"#).unwrap(),
            Request::Reload(Cause::default())
        );
        assert_eq!(serde_json::from_str::<Request>(r#"{"request":"status","more":1}"#).unwrap(), Request::Status);
    }

    #[test]
    fn a_reader_takes_more_and_less_than_it_knows() {
        let status: Status =
            serde_json::from_str(r#"{"epoch": 7, "stores": [{"name": "x", "mood": "fine"}]}"#).unwrap();
        assert_eq!((status.epoch, status.stores[0].name.as_str(), status.pid), (7, "x", 0));
    }
}
