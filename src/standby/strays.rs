//! Writers that nobody remembers, at a store that is sealed by `rename`: a table or view that somebody has made at the own place of
//! one that is away. A view keeps that place ([`super::placeholder`]); who drops it, or an engine without views, leaves it free.
//!
//! What is there is nobody's to move or to drop. It is told in the log, in `switchover status` and in `switchover.refused` of that
//! store, and no cutover goes there before somebody has looked.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::schema::literal;
use super::seal_rename::{self, Own};
use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::changes::Tables;
use crate::entry::TableName;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Characters of a table's definition that are kept.
const LONGEST: usize = 4000;

/// What was seen of them at one store.
#[derive(Default)]
pub(super) struct Strays {
    looked: Option<Instant>,
    known: BTreeSet<TableName>,
    bare: Vec<TableName>,
}

/// What a look has found.
pub(super) struct Look {
    /// A line for each, with what mends it.
    pub(super) lines: Vec<String>,
    /// Tables lack the view that keeps their names, and were not seen so before: another seal puts it there.
    pub(super) bare: bool,
}

impl Strays {
    /// Whether it is time to look.
    pub(super) fn is_due(&self) -> bool {
        self.looked.is_none_or(|at| at.elapsed() >= EVERY)
    }

    /// Looks at a store that is a standby.
    ///
    /// # Errors
    /// As the store's.
    pub(super) async fn look(
        &mut self,
        backend: &mut Backend,
        (group, store): (&str, &str),
        tables: &dyn Tables,
    ) -> Result<Look, QueryError> {
        self.looked = Some(Instant::now());
        let away = seal_rename::away(backend, tables).await?;
        let found = seal_rename::places(backend, away.iter()).await?;
        let mut strays = BTreeSet::new();
        let mut lines = Vec::new();
        for (table, places) in found.iter().filter(|(_, places)| places.is_stray()) {
            let kind = if places.own == Own::Table { "TABLE" } else { "VIEW" };
            let line = line(store, table, kind);
            if !self.known.contains(table) {
                tracing::warn!(group, store, table = %table, "{line}");
                note(backend, group, table, kind).await?;
            }
            lines.push(line);
            strays.insert(table.clone());
        }
        self.known = strays;
        let bare = seal_rename::bare(&found);
        let news = bare.iter().any(|table| !self.bare.contains(table));
        self.bare = bare;
        Ok(Look { lines, bare: news })
    }
}

fn line(store: &str, table: &TableName, kind: &str) -> String {
    let what =
        if kind == "TABLE" { "writes there go to nobody: copy what it holds through the proxy" } else { "look at it" };
    format!(
        "{store}: somebody has made {table}, a {} that is sealed there, {what}; then on {store}: DROP {kind} {}",
        if kind == "TABLE" { "table of the name of one" } else { "view of the name of a table" },
        table.quoted()
    )
}

/// Writes it down where the refusals of a seal of triggers are; who it was is not known.
async fn note(backend: &mut Backend, group: &str, table: &TableName, kind: &str) -> Result<(), QueryError> {
    let text = match backend.query(format!("SHOW CREATE {kind} {}", table.quoted()).as_bytes()).await {
        Ok(rows) => rows.rows.first().and_then(|row| row.get(1).cloned().flatten()).unwrap_or_default(),
        Err(QueryError::Refused(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let text: String = String::from_utf8_lossy(&text).chars().take(LONGEST).collect();
    let sql = format!(
        "INSERT INTO switchover.refused VALUES ({}, {}, 'unknown: made while it was sealed', 1, {}, NOW(6), NOW(6)) \
         ON DUPLICATE KEY UPDATE statement = VALUES(statement), last_at = NOW(6)",
        literal(group),
        literal(&table.to_string()),
        literal(&text)
    );
    match backend.execute(sql.as_bytes()).await {
        Ok(_) | Err(QueryError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
