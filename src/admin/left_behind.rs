//! `switchover standby left-behind GROUP`: what an authority that failed had and its standby had not, and what became of it.
//! Read from the stores themselves: it needs no running proxy.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::check;
use super::outcome::{Code, Outcome};
use crate::backend::{StoreHandle, control};
use crate::config::model::Group;
use crate::config::{self, Config};
use crate::standby::left_behind;
use crate::standby::rounds::Failed;

const LIMIT: Duration = Duration::from_secs(10);
/// Changes that are shown.
const MOST: usize = 10_000;

#[derive(Debug, Serialize)]
struct Shown {
    store: String,
    transaction: String,
    committed_at: String,
    table: String,
    key: String,
    was: String,
    found: String,
    settled: String,
    why: String,
}

/// Runs it. Blocks.
pub fn left_behind(config: &Path, group: &str, all: bool, json: bool) -> Outcome {
    let config = match config::load(config) {
        Ok(config) => config,
        Err(problems) => return check::refused(&problems, json),
    };
    let Some(found) = config.group_by_name(group) else {
        return Outcome::failed(Code::Refused, json, &format!("there is no group {group}"));
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::failed(Code::Failed, json, &error.to_string()),
    };
    match runtime.block_on(read(&config, found, all)) {
        Ok(shown) => Outcome::new(Code::Done, json, &shown, || lines(group, &shown)),
        Err(error) => Outcome::failed(Code::Refused, json, &error),
    }
}

/// From both stores of the group: either may have taken over from the other.
async fn read(config: &Config, group: &Group, all: bool) -> Result<Vec<Shown>, String> {
    let mut shown = Vec::new();
    let mut errors = Vec::new();
    let stores = std::iter::once(group.connection).chain(group.standby);
    for store in stores.filter_map(|id| config.stores.get(usize::from(id.0))) {
        match of_store(store.clone(), &group.name, all).await {
            Ok(list) => shown.extend(list),
            Err(error) => errors.push(error),
        }
    }
    // one of the two may be away: that is when this is asked
    match errors.into_iter().next() {
        Some(error) if shown.is_empty() => Err(error),
        _ => Ok(shown),
    }
}

async fn of_store(store: config::model::Store, group: &str, all: bool) -> Result<Vec<Shown>, String> {
    let handle = Arc::new(StoreHandle::new(store).map_err(|e| e.to_string())?);
    let mut backend = control::connect(&handle, LIMIT).await.map_err(|e| e.to_string())?;
    let setting = backend.execute(b"SET time_zone = '+00:00'").await.map(|_| ());
    setting.map_err(|e| format!("{}: {e}", handle.name()))?;
    let store = handle.name();
    let noted = match left_behind::noted(&mut backend, group, all, MOST).await {
        Ok(noted) => noted,
        // a schema of before there was such a table
        Err(Failed::Misfit { what, .. }) if what.starts_with("1146") => Vec::new(),
        Err(error) => return Err(format!("{store}: {error}")),
    };
    let shown = |n: left_behind::Noted| Shown {
        store: store.to_owned(),
        transaction: n.transaction,
        committed_at: n.committed_at,
        table: n.table,
        key: n.key,
        was: n.was,
        found: n.found,
        settled: n.settled,
        why: n.why,
    };
    Ok(noted.into_iter().map(shown).collect())
}

fn lines(group: &str, shown: &[Shown]) -> String {
    if shown.is_empty() {
        return format!("{group}: nothing was left behind that is not applied\n");
    }
    let mut text = String::new();
    let mut last = "";
    for n in shown {
        if n.transaction != last {
            let _ =
                writeln!(text, "{} of {} UTC  {} (on record on {})", n.transaction, n.committed_at, n.settled, n.store);
            last = &n.transaction;
        }
        let _ = writeln!(text, "  {}  {}", n.table, n.was);
        if n.settled == "reported" {
            let _ = writeln!(
                text,
                "    {}\n    has {}",
                n.why,
                if n.found.is_empty() { "nothing under a key" } else { &n.found }
            );
        }
    }
    if shown.len() >= MOST {
        let _ = writeln!(text, "… and more: SELECT * FROM switchover.left_behind");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_named_once() {
        let change = |key: &str, why: &str| Shown {
            store: "new".into(),
            transaction: "0-1-7".into(),
            committed_at: "2026-01-01 00:00:00".into(),
            table: "d.t".into(),
            key: key.into(),
            was: format!("DELETE {key}"),
            found: "no row".into(),
            settled: "reported".into(),
            why: why.into(),
        };
        let text = lines("a", &[change("id = 1", "gone"), change("id = 2", "another row")]);
        let wanted = "0-1-7 of 2026-01-01 00:00:00 UTC  reported (on record on new)\n  d.t  DELETE id = 1\n    gone\n    has no row\n  \
                      d.t  DELETE id = 2\n    another row\n    has no row\n";
        assert_eq!(text, wanted);
        assert!(lines("a", &[]).contains("nothing was left behind"));
    }
}
