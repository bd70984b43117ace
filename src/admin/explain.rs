//! `switchover explain`: where a statement would go, by the same functions that the data plane uses.

use std::sync::Arc;

use super::protocol::{ExplainRequest, Explained, Failure};
use crate::config::Config;
use crate::routing::Decision;
use crate::routing::Snapshot;
use crate::routing::decide::{SessionView, TempTables, decide};
use crate::sql::classify::classify;
use crate::sql::dialect::{Dialect, Engine};

/// Explains a statement under a snapshot.
///
/// # Errors
/// None so far.
pub fn explained(snapshot: &Snapshot, request: &ExplainRequest, engine: Option<Engine>) -> Result<Explained, Failure> {
    let dialect = Dialect { engine: engine.unwrap_or_default(), ..Dialect::default() };
    let facts = classify(request.sql.as_bytes(), &dialect);
    let temporary = TempTables::default();
    let view = SessionView { database: request.db.as_deref(), temporary: &temporary, written: &[] };
    Ok(match decide(&facts, snapshot, &view) {
        Decision::Store { store, reason } => Explained {
            store: Some(snapshot.store_name(store).to_owned()),
            text: format!("{reason:?}"),
            ..Explained::default()
        },
        Decision::Refuse(r) => Explained { store: None, text: r.message, ..Explained::default() },
    })
}

/// The same without a proxy that runs: the flags as the file says, the engine as MariaDB reads.
///
/// # Errors
/// As [`explained`].
pub fn offline(config: &Config, request: &ExplainRequest) -> Result<Explained, String> {
    let snapshot = Snapshot::compile(Arc::new(config.clone()), 0, 0);
    explained(&snapshot, request, None).map_err(|f| f.message)
}
