//! `status`, `sessions`, `reload`, `drain`: what a running proxy says, as tables.

use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::client::{ClientError, ask};
use super::outcome::{Code, Outcome};
use super::protocol::{Cause, DrainRequest, GroupStatus, Reloaded, Reply, Request, SessionInfo, Status, StoreStatus};
use super::table::{Table, duration, number};
use crate::config::problem;

/// Flips that the text of `status` shows; its JSON has all that the proxy remembers.
const FLIPS: usize = 5;

/// `switchover status`.
pub fn status(socket: &Path, json: bool) -> Outcome {
    match ask(socket, &Request::Status) {
        Ok(Reply::Status(status)) => Outcome::new(Code::Done, json, &status, || render(&status, now_ms())),
        other => unexpected(other, json),
    }
}

/// `switchover sessions`.
pub fn sessions(socket: &Path, json: bool) -> Outcome {
    match ask(socket, &Request::Sessions) {
        Ok(Reply::Sessions(sessions)) => Outcome::new(Code::Done, json, &sessions, || session_table(&sessions)),
        other => unexpected(other, json),
    }
}

/// `switchover reload`.
pub fn reload(socket: &Path, cause: Cause, json: bool) -> Outcome {
    match ask(socket, &Request::Reload(cause)) {
        Ok(Reply::Reloaded(reloaded)) => Outcome::new(Code::Done, json, &reloaded, || reload_text(&reloaded)),
        other => unexpected(other, json),
    }
}

/// `switchover drain`.
pub fn drain(socket: &Path, request: DrainRequest, json: bool) -> Outcome {
    match ask(socket, &Request::Drain(request)) {
        Ok(Reply::Draining) => {
            let value = serde_json::json!({ "draining": true });
            Outcome::new(Code::Done, json, &value, || {
                "draining: no new clients; sessions end at a clean point\n".to_owned()
            })
        }
        other => unexpected(other, json),
    }
}

/// An error, or an answer to another question.
pub fn unexpected(answer: Result<Reply, ClientError>, json: bool) -> Outcome {
    match answer {
        Err(error) => Outcome::unanswered(&error, json),
        Ok(_) => Outcome::failed(Code::Failed, json, "the proxy answered another question: is it of another version?"),
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn reload_text(reloaded: &Reloaded) -> String {
    let mut text = format!("epoch {}", reloaded.epoch);
    text.push_str(if reloaded.changes.is_empty() { ": nothing changed\n" } else { "\n" });
    for line in &reloaded.changes {
        let _ = writeln!(text, "  {line}");
    }
    for line in &reloaded.restart {
        let _ = writeln!(text, "  {line} (after a restart)");
    }
    text
}

fn render(status: &Status, now_ms: u64) -> String {
    let mut text = format!(
        "switchover {} (pid {}) {} for {}, epoch {}\nconfig   {}\nlisten   {}; workers {}, pool {}\n\n",
        status.version,
        status.pid,
        status.state,
        duration(status.uptime_seconds),
        status.epoch,
        status.config.display(),
        status.listen.join(", "),
        status.workers,
        status.pool,
    );
    text.push_str(&store_table(&status.stores, &status.default));
    if !status.groups.is_empty() {
        text.push('\n');
        text.push_str(&group_table(&status.groups));
        text.push_str(&standby_table(&status.groups));
    }
    text.push('\n');
    text.push_str(&session_lines(status));
    for flip in status.last_flips.iter().take(FLIPS) {
        let ago = duration(now_ms.saturating_sub(flip.at_ms) / 1_000);
        let by = if flip.cause.by.is_empty() {
            "by an edit of the file".to_owned()
        } else {
            format!("by {}", flip.cause.by)
        };
        let by = if flip.cause.force { format!("{by}, by force") } else { by };
        let why = flip.cause.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "flip     {} {} → {} {ago} ago {by}{why} (epoch {})",
            flip.group, flip.from, flip.to, flip.epoch
        );
    }
    for line in &status.restart_needed {
        let _ = writeln!(text, "restart  {line}: waits for a restart");
    }
    if let Some(error) = &status.config_error {
        let ago = duration(now_ms.saturating_sub(error.at_ms) / 1_000);
        let _ = writeln!(text, "\nREFUSED  the file was refused {ago} ago; what was in force stays so:\n");
        let _ = writeln!(text, "{}", problem::render(&error.problems));
    }
    text
}

fn store_table(stores: &[StoreStatus], default: &str) -> String {
    let mut table =
        Table::new(&["STORE", "STATE", "ADDRESS", "VERSION", "LEASES", "IDLE", "QUERIES", "ERRORS", "CONNECT ERRORS"]);
    for store in stores {
        let mark = if store.name == default { " (default)" } else { "" };
        let state = match &store.reason {
            Some(reason) => format!("{}: {reason}", store.state),
            None => store.state.clone(),
        };
        table.row(vec![
            format!("{}{mark}", store.name),
            state,
            store.addresses.join(", "),
            format!("{} {}", store.engine, store.version.trim_start_matches("5.5.5-")).trim().to_owned(),
            number(store.leases),
            number(store.idle),
            number(store.queries),
            number(store.errors),
            number(store.connect_errors),
        ]);
    }
    table.render(0)
}

fn group_table(groups: &[GroupStatus]) -> String {
    let mut table = Table::new(&["GROUP", "CONNECTION", "STAGE", "TABLES", ""]);
    for group in groups {
        table.row(vec![
            group.name.clone(),
            group.connection.clone(),
            group.stage.clone(),
            group.tables.len().to_string(),
            halted(group),
        ]);
    }
    table.render(0)
}

/// Whether what would write waits, and how many do.
fn halted(group: &GroupStatus) -> String {
    let paused = if group.paused { "PAUSED" } else { "" };
    let waiting = match group.waiting {
        0 => String::new(),
        1 => "1 waits".to_owned(),
        n => format!("{} wait", number(n)),
    };
    let words: Vec<&str> = [paused, &waiting].into_iter().filter(|word| !word.is_empty()).collect();
    words.join(", ")
}

/// The groups that have a standby; nothing where none has.
fn standby_table(groups: &[GroupStatus]) -> String {
    let mut table = Table::new(&["GROUP", "STANDBY", "STATE", "ENTRIES BEHIND", "SECONDS BEHIND", "APPLIED"]);
    let mut any = false;
    for (group, standby) in groups.iter().filter_map(|g| Some((g, g.standby.as_ref()?))) {
        any = true;
        let reason = standby.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        table.row(vec![
            group.name.clone(),
            standby.store.clone(),
            format!("{}{reason}", standby.state),
            number(standby.lag_entries),
            number(standby.lag_seconds),
            standby.position.clone(),
        ]);
    }
    if any { format!("\n{}", table.render(0)) } else { String::new() }
}

fn session_lines(status: &Status) -> String {
    let (sessions, totals) = (&status.sessions, &status.totals);
    let mut text =
        format!("sessions {} open, {} in a transaction", number(sessions.open), number(sessions.in_transaction));
    if sessions.on_older_epoch > 0 {
        let _ = write!(text, " ({} on an older epoch)", number(sessions.on_older_epoch));
    }
    if sessions.logging_in > 0 {
        let _ = write!(text, ", {} logging in", number(sessions.logging_in));
    }
    let pins: Vec<String> = sessions.by_pin.iter().map(|(pin, count)| format!("{pin} {}", number(*count))).collect();
    if !pins.is_empty() {
        let _ = write!(text, "; pinned by {}", pins.join(", "));
    }
    let _ = writeln!(
        text,
        "\ntotals   {} connections, {} queries, {} refused, {} failed logins, {} flips",
        number(totals.connections),
        number(totals.queries),
        number(totals.refused),
        number(totals.failed_logins),
        number(totals.flips),
    );
    text
}

fn session_table(sessions: &[SessionInfo]) -> String {
    let mut table = Table::new(&[
        "ID",
        "USER",
        "CLIENT",
        "DB",
        "STATE",
        "FOR",
        "LEASES",
        "PINS",
        "TRANSACTION",
        "EPOCH",
        "QUERIES",
    ]);
    for session in sessions {
        table.row(vec![
            session.id.to_string(),
            session.user.clone(),
            session.client.clone(),
            session.db.clone().unwrap_or_default(),
            session.state.clone(),
            duration(session.for_ms / 1_000),
            session.leases.join(","),
            session.pins.join(","),
            if session.in_transaction { "yes" } else { "" }.to_owned(),
            session.epoch.to_string(),
            number(session.queries),
        ]);
    }
    format!("{}{} sessions\n", table.render(0), sessions.len())
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{ConfigError, FlipRecord};
    use super::*;
    use crate::config::{Problem, ProblemKind};

    #[test]
    fn a_status_in_full() {
        let mut status = Status {
            version: "0.1.0".into(),
            pid: 7,
            state: "serving".into(),
            uptime_seconds: 3_700,
            epoch: 3,
            config: "routing.yaml".into(),
            listen: vec!["127.0.0.1:3307".into()],
            workers: 2,
            pool: "session".into(),
            default: "legacy".into(),
            restart_needed: vec!["workers: 0 → 2".into()],
            ..Status::default()
        };
        let store = |name: &str, queries| StoreStatus {
            name: name.into(),
            state: "up".into(),
            queries,
            ..StoreStatus::default()
        };
        status.stores =
            vec![store("legacy", 1_200_000), StoreStatus { reason: Some("refused".into()), ..store("new", 3) }];
        status.groups = vec![GroupStatus {
            name: "analytics".into(),
            connection: "new".into(),
            paused: true,
            waiting: 2,
            ..GroupStatus::default()
        }];
        status.sessions.by_pin = [("transaction".to_owned(), 2)].into();
        status.last_flips =
            vec![FlipRecord { group: "analytics".into(), at_ms: 1_000, epoch: 3, ..FlipRecord::default() }];
        let problem = Problem::of_file(ProblemKind::Invalid, "routing.yaml", "is wrong");
        status.config_error = Some(ConfigError { at_ms: 1_000, problems: vec![problem] });
        let text = render(&status, 61_000);
        for part in [
            "switchover 0.1.0 (pid 7) serving for 1h 1m, epoch 3",
            "legacy (default)  up",
            "1,200,000",
            "up: refused",
            "analytics  new",
            "PAUSED, 2 wait",
            "pinned by transaction 2",
            "1m 0s ago by an edit of the file",
            "workers: 0 → 2: waits for a restart",
            "refused 1m 0s ago",
            "routing.yaml: is wrong",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
