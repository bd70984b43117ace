//! What the CLI and a running proxy say to each other: one JSON object per line each way, answers in the order of requests.
//!
//! Fields may be added: a reader takes the default for what it misses and ignores what it does not know, so that a CLI and a
//! proxy of neighbouring versions understand each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod status;

pub use status::{
    AuthorityStatus, ConfigError, FlipRecord, GroupStatus, SessionCounts, SessionInfo, StandbyStatus, Status,
    StoreStatus, Totals,
};

use super::digest::{DigestRequest, Digests};
use super::events::Event;
pub use super::explain::{ExplainRequest, Explained};
use super::log::{LogLevel, LogRequest};
use super::readiness::{Readiness, ReadinessRequest};
use super::shadow::ShadowRequest;
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
    /// Which way they asked: the proxy says that itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub surface: String,
    /// From where: as `surface`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
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

/// A standby begins, goes on or ends.
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

/// What a standby is told.
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
    /// Both stores of the group are prepared, and where the standby's copy begins is written down.
    Init {
        /// Where in the authority's log the copy was taken; none is now.
        #[serde(default)]
        position: Option<String>,
    },
    /// It is given up: both stores take writes.
    End,
}

impl StandbyAction {
    /// Whether it changes stores, for as long as that takes, and not what the proxy does.
    #[must_use]
    pub fn is_of_stores(&self) -> bool {
        matches!(self, StandbyAction::Init { .. } | StandbyAction::End)
    }
}

/// What came of [`StandbyAction::Init`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Begun {
    /// The group.
    pub group: String,
    /// The standby follows; else nothing has begun.
    pub good: bool,
    /// What is in the way.
    pub problems: Vec<Found>,
    /// What is not as it should be.
    pub warnings: Vec<Found>,
    /// What was done.
    pub done: Vec<String>,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Found {
    /// What.
    pub what: String,
    /// What mends it.
    pub mend: String,
}

/// Which events: the newest that fit, the newest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventQuery {
    /// Only those with a higher id.
    pub after: u64,
    /// At most so many; 0 takes 100.
    pub limit: u32,
    /// Only those of this kind.
    pub kind: Option<String>,
}

/// What would write to `group` waits, or goes on. Reads go on, and what is open ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PauseRequest {
    /// The group.
    pub group: String,
    /// True: wait.
    pub pause: bool,
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// A session, or its statement, ends.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KillRequest {
    /// Its id, as `sessions` shows it.
    pub session: u64,
    /// Only the statement.
    pub query: bool,
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// A cutover that is under way is given up, unless it has been decided: both stores are as they were.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AbortRequest {
    /// Its id, or its group.
    pub job: String,
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
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
    /// To [`StandbyAction::Init`].
    Begun(Box<Begun>),
    /// To [`StandbyAction::End`].
    Ended,
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
