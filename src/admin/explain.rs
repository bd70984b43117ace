//! `switchover explain`: [`mod@crate::routing::explain`] behind the control socket and the command line.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::protocol::{Failure, FailureKind};
use crate::config::Config;
use crate::routing::Snapshot;
use crate::routing::explain::explain;
use crate::sql::dialect::{Dialect, Engine};

/// A statement to explain, not to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The statement: there is no request without one.
    pub sql: String,
    /// The session's database.
    pub db: Option<String>,
    /// The session's account.
    pub user: Option<String>,
}

/// Where a statement would go, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Explained {
    /// The store; none where it would be refused.
    pub store: Option<String>,
    /// The whole explanation for people: facts, decision, reason, caret.
    pub text: String,
    /// The facts and the decision for programs.
    pub details: serde_json::Value,
}

/// Explains a statement, or each of several, under a snapshot.
///
/// # Errors
/// [`FailureKind::Internal`] where the explanation is no JSON, which no statement should bring about.
pub fn explained(snapshot: &Snapshot, request: &ExplainRequest, engine: Option<Engine>) -> Result<Explained, Failure> {
    let dialect = Dialect { engine: engine.unwrap_or_default(), ..Dialect::default() };
    let found = explain(&request.sql, request.db.as_deref(), request.user.as_deref(), snapshot, &dialect);
    let mut stores: Vec<Option<String>> = found.statements.iter().map(|s| s.store.clone()).collect();
    stores.dedup();
    let store = if stores.len() == 1 { stores.pop().flatten() } else { None };
    let details = serde_json::to_value(&found).map_err(|e| Failure::new(FailureKind::Internal, e.to_string()))?;
    Ok(Explained { store, text: found.to_string(), details })
}

/// The same without a proxy that runs: the flags as the file says, the engine as MariaDB reads.
///
/// # Errors
/// As [`explained`].
pub fn offline(config: &Config, request: &ExplainRequest) -> Result<Explained, String> {
    let snapshot = Snapshot::compile(Arc::new(config.clone()), 0, 0);
    explained(&snapshot, request, None).map_err(|f| f.message)
}
