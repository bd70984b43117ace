//! `switchover flag GROUP STORE`: through the proxy where one runs, so that who and why are in its log; else in the file alone.

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::check;
use super::client::{ClientError, ask};
use super::events::{Event, Events};
use super::outcome::{Code, Outcome};
use super::protocol::{Cause, FailureKind, FlagRequest, Flagged, Reply, Request};
use super::show;
use crate::config::edit::{self, EditError};

/// What to set, and how long to wait.
pub struct Flag<'a> {
    /// The configuration file.
    pub config: &'a Path,
    /// The control socket of its proxy.
    pub socket: &'a Path,
    /// What is asked.
    pub request: FlagRequest,
    /// Wait so long until no transaction of an older epoch is left.
    pub wait: Option<Duration>,
    /// Answer for programs.
    pub json: bool,
}

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    flagged: &'a Flagged,
    /// Whether a proxy says that new statements follow the flag.
    in_force: bool,
    /// Transactions that still run where they began.
    older_transactions: Option<u64>,
}

/// Runs the command.
pub fn flag(command: &Flag<'_>) -> Outcome {
    match ask(command.socket, &Request::Flag(command.request.clone())) {
        Ok(Reply::Flagged(flagged)) => in_force(command, &flagged),
        Err(ClientError::NotRunning(_)) => {
            file_alone(command, "no proxy runs: the file says so now, and the next start follows it")
        }
        Err(ClientError::Denied(socket)) => {
            let note = format!(
                "the proxy was not asked, {} belongs to another user: it follows the file by itself",
                socket.display()
            );
            file_alone(command, &note)
        }
        Err(ClientError::Failed(failure)) if failure.kind == FailureKind::File => edit_for_proxy(command),
        other => show::unexpected(other, command.json),
    }
}

/// The proxy may not write the file, but perhaps this user may.
fn edit_for_proxy(command: &Flag<'_>) -> Outcome {
    let request = &command.request;
    let edited = edit::set_connection(command.config, &request.group, &request.store);
    let mut flagged = match edited {
        Ok(edit) => from_edit(edit),
        Err(error) => return refused(&error, command.json),
    };
    match ask(command.socket, &Request::Reload(request.cause.clone())) {
        Ok(Reply::Reloaded(reloaded)) => {
            flagged.epoch = reloaded.epoch;
            in_force(command, &flagged)
        }
        other => show::unexpected(other, command.json),
    }
}

/// The proxy serves the flag; waits for those who began before it, where that was asked.
fn in_force(command: &Flag<'_>, flagged: &Flagged) -> Outcome {
    let older = command.wait.map(|patience| wait_for_older(command.socket, patience));
    let code = if older.is_some_and(|older| older > 0) { Code::Timeout } else { Code::Done };
    let answer = Answer { flagged, in_force: true, older_transactions: older };
    Outcome::new(code, command.json, &answer, || {
        let mut text = describe(flagged, &format!("epoch {}", flagged.epoch));
        if let Some(older) = older.filter(|older| *older > 0) {
            text.push_str(&format!(
                "  {older} transactions that began before still run where they began: `switchover sessions`\n"
            ));
        }
        text
    })
}

/// Transactions of an older epoch that are left after `patience` at most.
fn wait_for_older(socket: &Path, patience: Duration) -> u64 {
    let deadline = Instant::now() + patience;
    loop {
        let older = match ask(socket, &Request::Status) {
            Ok(Reply::Status(status)) => status.sessions.on_older_epoch,
            _ => return 0,
        };
        if older == 0 || Instant::now() >= deadline {
            return older;
        }
        std::thread::sleep(Duration::from_millis(50).min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Edits the file with nobody to follow at once. Who waits for a proxy waits in vain: that is another exit code.
fn file_alone(command: &Flag<'_>, note: &str) -> Outcome {
    let request = &command.request;
    let ties = match ties(command) {
        Ok(notes) => notes,
        Err(why) => return Outcome::failed(Code::Refused, command.json, &why),
    };
    let mut flagged = match edit::set_connection(command.config, &request.group, &request.store) {
        Ok(edit) => from_edit(edit),
        Err(error) => return refused(&error, command.json),
    };
    write_down(command, &flagged);
    flagged.notes.push(note.to_owned());
    flagged.notes.extend(ties);
    let code = if command.wait.is_some() { Code::NotRunning } else { Code::Done };
    let answer = Answer { flagged: &flagged, in_force: false, older_transactions: None };
    Outcome::new(code, command.json, &answer, || describe(&flagged, "in the file"))
}

/// A flag that no proxy has set is in the log of changes too.
fn write_down(command: &Flag<'_>, flagged: &Flagged) {
    let Ok(config) = crate::config::load(command.config) else { return };
    let what = format!("flag to {} in the file, no proxy was asked", flagged.to);
    Events::kept_in(&config.audit).add(Event {
        before: Some(flagged.from.clone()),
        after: Some(flagged.to.clone()),
        ..Event::of_command(&command.request.cause, &flagged.group, what)
    });
}

/// What the stores say of the flip, where there is no proxy to ask them. A file that does not check is the edit's to refuse.
fn ties(command: &Flag<'_>) -> Result<Vec<String>, String> {
    let request = &command.request;
    let Ok(config) = crate::config::load(command.config) else { return Ok(Vec::new()) };
    if request.cause.force {
        return Ok(Vec::new());
    }
    let moved = check::moved(&config, &request.group, &request.store);
    let ties = check::ties_blocking(&moved, &request.group);
    match ties.refusal(&request.group, &request.store) {
        Some(why) => Err(why),
        None => Ok(ties.notes),
    }
}

fn describe(flagged: &Flagged, state: &str) -> String {
    let mut text = if flagged.changed {
        format!("{}: {} → {} ({state})\n", flagged.group, flagged.from, flagged.to)
    } else {
        format!("{}: {} already ({state})\n", flagged.group, flagged.to)
    };
    for note in &flagged.notes {
        text.push_str(&format!("  {note}\n"));
    }
    text
}

fn from_edit(edit: edit::Edit) -> Flagged {
    Flagged {
        group: edit.group,
        from: edit.from,
        to: edit.to,
        changed: edit.changed,
        epoch: 0,
        file: edit.file,
        notes: edit.notes,
    }
}

fn refused(error: &EditError, json: bool) -> Outcome {
    let code = match error {
        EditError::Config(_) | EditError::NotEditable(_) | EditError::UnknownName(_) => Code::Refused,
        EditError::Busy(_) => Code::Timeout,
        EditError::Io { .. } => Code::Failed,
    };
    Outcome::failed(code, json, &error.to_string())
}

/// Who runs this command, as far as the environment says.
#[must_use]
pub fn cause(why: Option<String>) -> Cause {
    let name = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()));
    Cause { by: name.unwrap_or_default(), why, ..Cause::default() }
}
