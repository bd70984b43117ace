//! `switchover log`: what a running proxy logs, shown or changed. docs/logs.md.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::client::ask;
use super::outcome::{Code, Outcome};
use super::protocol::{Cause, Reply, Request};
use super::show;

/// What is to be logged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogRequest {
    /// A level, or a filter as `RUST_LOG` takes it; none only asks.
    pub level: Option<String>,
    /// Who and why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLevel {
    /// Now.
    pub level: String,
    /// Who says so: `the file`, `RUST_LOG` or `an operator`.
    pub said_by: String,
    /// What was logged before, where this request has changed it.
    pub before: Option<String>,
    /// `log.level` of the configuration in force.
    pub file_says: String,
    /// Lines of the slow-query log that were left out since the start, for there were too many.
    pub slow_suppressed: u64,
}

/// `switchover log`.
#[must_use]
pub fn log(socket: &Path, request: LogRequest, json: bool) -> Outcome {
    match ask(socket, &Request::Log(request)) {
        Ok(Reply::Log(found)) => Outcome::new(Code::Done, json, &found, || render(&found)),
        other => show::unexpected(other, json),
    }
}

fn render(found: &LogLevel) -> String {
    let LogLevel { level, said_by, before, file_says, .. } = found;
    match before {
        Some(before) => format!(
            "log level: {before} → {level}, until the file's level changes or the proxy starts again (the file says {file_says})\n"
        ),
        None => format!("log level: {level}, as {said_by} says (the file says {file_says})\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_and_what_is() {
        let mut found = LogLevel {
            level: "debug".into(),
            said_by: "an operator".into(),
            file_says: "info".into(),
            ..LogLevel::default()
        };
        assert_eq!(render(&found), "log level: debug, as an operator says (the file says info)\n");
        found.before = Some("warn".into());
        assert!(render(&found).starts_with("log level: warn → debug, until"));
    }
}
