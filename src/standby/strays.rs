//! Writers that nobody remembers, at a store that is sealed by `rename`: a table or view that somebody has made at the own place of
//! one that is away. A view keeps that place ([`super::placeholder`]); who drops it, or an engine without views, leaves it free.
//!
//! Looked for beside the watcher, which must not be late when a cutover begins, and on a connection of its own.
//!
//! What is there is nobody's to move or to drop. It is told in the log, in `switchover status` and in `switchover.refused` of that
//! store, and no cutover goes there before somebody has looked. A fallback does, and puts it aside ([`super::aside`]): that is told
//! too, for as long as it is there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::aside;
use super::pair::Pair;
use super::schema::literal;
use super::seal_rename::{self, Own};
use super::watch::Shared;
use crate::backend::connection::QueryError;
use crate::backend::{Backend, StoreHandle, control};
use crate::changes::Tables;
use crate::entry::TableName;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// Characters of a table's definition that are kept.
const LONGEST: usize = 4000;

/// For an answer, and for putting the views back.
const LIMIT: Duration = Duration::from_secs(5);

/// What was seen of them at one store.
#[derive(Default)]
struct Strays {
    known: BTreeSet<TableName>,
    bare: Vec<TableName>,
    /// A line for each, with what mends it.
    lines: Vec<String>,
    /// The same of what a fallback has put aside.
    aside: Vec<String>,
}

/// A store, and what was seen there.
#[derive(Default)]
struct At {
    backend: Option<Backend>,
    strays: Strays,
}

/// Looks at both stores of a group for as long as its watcher runs.
pub(super) async fn watch(shared: &Shared) {
    let mut seen = [At::default(), At::default()];
    loop {
        sleep(EVERY).await;
        let settings = &shared.settings;
        if !settings.gate.moved().may() {
            continue;
        }
        let mut bare = false;
        for (at, store) in seen.iter_mut().zip(&settings.stores) {
            let view = shared.view();
            let serves = store.name() == view.authority;
            if serves {
                // (whatever was at its tables' places is there no more)
                at.strays = Strays { aside: std::mem::take(&mut at.strays.aside), ..Strays::default() };
            }
            let standby = !serves && view.settled && view.cutover.is_none();
            bare |= at.look(shared, store, standby).await;
        }
        let lines = seen.iter().flat_map(|at| at.strays.lines.iter().chain(&at.strays.aside)).cloned().collect();
        shared.show(|view| view.strays = lines);
        if bare {
            seal_again(shared).await;
        }
    }
}

impl At {
    /// Looks, where the store answers; whether tables lack the view that keeps their names, and were not seen so before: another
    /// seal puts it there.
    async fn look(&mut self, shared: &Shared, store: &Arc<StoreHandle>, standby: bool) -> bool {
        let settings = &shared.settings;
        if self.backend.is_none() {
            self.backend = control::connect(store, LIMIT).await.ok();
        }
        let Some(backend) = self.backend.as_mut() else { return false };
        let look = async {
            self.strays.aside = aside::lines(backend, store.name(), &settings.tables).await?;
            let place = (settings.group.as_str(), store.name());
            if standby { self.strays.look(backend, place, &settings.tables).await } else { Ok(false) }
        };
        match timeout(LIMIT, look).await {
            Ok(Ok(bare)) => bare,
            Ok(Err(_)) | Err(_) => {
                self.backend = None;
                false
            }
        }
    }
}

/// Puts views back that are not there, as whoever ends a cutover does.
async fn seal_again(shared: &Shared) {
    let settings = &shared.settings;
    let ended = match Pair::connect(&settings.group, &settings.tables, settings.stores.each_ref()).await {
        Ok(mut pair) => pair.finish(Instant::now() + LIMIT).await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        tracing::warn!(group = settings.group, %error, "the tables' names are not kept yet");
    }
}

impl Strays {
    /// Looks at a store that is a standby.
    ///
    /// # Errors
    /// As the store's.
    async fn look(
        &mut self,
        backend: &mut Backend,
        (group, store): (&str, &str),
        tables: &dyn Tables,
    ) -> Result<bool, QueryError> {
        let away = seal_rename::away(backend, tables).await?;
        let found = seal_rename::places(backend, away.iter()).await?;
        let mut strays = BTreeSet::new();
        let mut lines = Vec::new();
        for (table, places) in found.iter().filter(|(_, places)| places.is_stray()) {
            let kind = if places.own == Own::Table { "TABLE" } else { "VIEW" };
            let line = line(store, table, kind);
            if !self.known.contains(table) {
                tracing::warn!(group, store, table = %table, "{line}");
                note(backend, group, (table, table), (kind, "unknown: made while it was sealed")).await?;
            }
            lines.push(line);
            strays.insert(table.clone());
        }
        (self.known, self.lines) = (strays, lines);
        let bare = seal_rename::bare(&found);
        let news = bare.iter().any(|table| !self.bare.contains(table));
        self.bare = bare;
        Ok(news)
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

/// Writes it down where the refusals of a seal of triggers are: what was made at a table, where it is now, and all that is known of who
/// it was.
pub(super) async fn note(
    backend: &mut Backend,
    group: &str,
    (table, place): (&TableName, &TableName),
    (kind, account): (&str, &str),
) -> Result<(), QueryError> {
    let text = match backend.query(format!("SHOW CREATE {kind} {}", place.quoted()).as_bytes()).await {
        Ok(rows) => rows.rows.first().and_then(|row| row.get(1).cloned().flatten()).unwrap_or_default(),
        Err(QueryError::Refused(_)) => Vec::new(),
        Err(error) => return Err(error),
    };
    let text: String = String::from_utf8_lossy(&text).chars().take(LONGEST).collect();
    let sql = format!(
        "INSERT INTO switchover.refused VALUES ({}, {}, {}, 1, {}, NOW(6), NOW(6)) \
         ON DUPLICATE KEY UPDATE statement = VALUES(statement), last_at = NOW(6)",
        literal(group),
        literal(&table.to_string()),
        literal(account),
        literal(&text)
    );
    match backend.execute(sql.as_bytes()).await {
        Ok(_) | Err(QueryError::Refused(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
