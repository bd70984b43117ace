//! `switchover pause | resume | kill | events | config`: what a running proxy does and says beside its flags.

use std::path::Path;

use super::client::ask;
use super::events::Event;
use super::outcome::{Code, Outcome};
use super::protocol::{AbortRequest, Cause, EventQuery, KillRequest, PauseRequest, Reply, Request};
use super::show::unexpected;
use super::table::{Table, moment};

/// `switchover pause` and `resume`.
pub fn pause(socket: &Path, group: String, pause: bool, cause: Cause, json: bool) -> Outcome {
    match ask(socket, &Request::Pause(PauseRequest { group, pause, cause })) {
        Ok(Reply::Group(group)) => Outcome::new(Code::Done, json, &group, || {
            if group.paused {
                format!("{}: paused; what would write to it waits (`switchover resume {}`)\n", group.name, group.name)
            } else {
                format!("{}: goes on\n", group.name)
            }
        }),
        other => unexpected(other, json),
    }
}

/// `switchover kill`.
pub fn kill(socket: &Path, request: KillRequest, json: bool) -> Outcome {
    let (id, what) = (request.session, if request.query { "its statement ends" } else { "it ends" });
    match ask(socket, &Request::Kill(request)) {
        Ok(Reply::Killed) => {
            Outcome::new(Code::Done, json, &serde_json::json!({ "session": id }), || format!("session {id}: {what}\n"))
        }
        other => unexpected(other, json),
    }
}

/// `switchover abort`.
pub fn abort(socket: &Path, request: AbortRequest, json: bool) -> Outcome {
    let job = request.job.clone();
    match ask(socket, &Request::Abort(request)) {
        Ok(Reply::Aborting) => Outcome::new(Code::Done, json, &serde_json::json!({ "aborting": job }), || {
            format!("{job}: is given up; whoever asked for it hears what became of it\n")
        }),
        other => unexpected(other, json),
    }
}

/// `switchover events`.
pub fn events(socket: &Path, query: EventQuery, json: bool) -> Outcome {
    match ask(socket, &Request::Events(query)) {
        Ok(Reply::Events(events)) => Outcome::new(Code::Done, json, &events, || event_table(&events)),
        other => unexpected(other, json),
    }
}

fn event_table(events: &[Event]) -> String {
    let mut table = Table::new(&["ID", "TIME (UTC)", "KIND", "SUBJECT", "WHAT", "BY", "FROM", "OUTCOME", "WHY"]);
    for event in events {
        let by = if event.by.is_empty() { &event.surface } else { &event.by };
        let outcome = match (&event.outcome, &event.after) {
            (Some(outcome), Some(after)) if outcome != "done" => {
                format!("{outcome}: {}", after.lines().next().unwrap_or_default())
            }
            (Some(outcome), _) => outcome.clone(),
            (None, _) => String::new(),
        };
        table.row(vec![
            event.id.to_string(),
            moment(event.at_ms),
            event.kind.clone(),
            event.subject.clone(),
            event.what.clone(),
            by.clone(),
            event.from.clone(),
            outcome,
            event.why.clone().unwrap_or_default(),
        ]);
    }
    table.render(0)
}

/// `switchover config`.
pub fn config(socket: &Path, diff: bool, json: bool) -> Outcome {
    let request = if diff { Request::ConfigDiff } else { Request::Config };
    match ask(socket, &request) {
        Ok(Reply::Config(entries)) => Outcome::new(Code::Done, json, &entries, || {
            let mut table = Table::new(&["KEY", "VALUE"]);
            entries.iter().for_each(|e| table.row(vec![e.key.clone(), e.value.clone()]));
            table.render(0)
        }),
        Ok(Reply::ConfigDiff(changes)) => Outcome::new(Code::Done, json, &changes, || {
            if changes.is_empty() {
                return "the file says what is in force\n".to_owned();
            }
            let mut table = Table::new(&["KEY", "IN FORCE", "IN THE FILE"]);
            changes.iter().for_each(|c| table.row(vec![c.key.clone(), c.in_force.clone(), c.file.clone()]));
            table.render(0)
        }),
        other => unexpected(other, json),
    }
}
