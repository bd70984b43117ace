//! What a command has to say and how it ended: text for people or JSON for programs, and an exit code with a meaning.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use super::client::ClientError;
use super::protocol::{Failure, FailureKind};

/// How a command ended. 2 is clap's own: the command line was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done.
    Done = 0,
    /// Refused, or something is wrong: with the file, the stores, or the names that were given.
    Refused = 1,
    /// No proxy serves this configuration.
    NotRunning = 3,
    /// It did not happen in time.
    Timeout = 4,
    /// The machine or the proxy failed.
    Failed = 5,
    /// Statements would be refused or fail (`readiness`).
    NotReady = 6,
    /// Statements could not be tried out (`readiness`).
    Untested = 7,
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// The exit code.
    pub code: Code,
}

impl Outcome {
    /// `text`, or `value` as JSON.
    pub fn new<T: Serialize>(code: Code, json: bool, value: &T, text: impl FnOnce() -> String) -> Outcome {
        let stdout = if json { to_json(value) } else { text() };
        Outcome { stdout, stderr: String::new(), code }
    }

    /// A failure: for people on standard error, for programs as `{"error": …}` on standard output.
    #[must_use]
    pub fn failed(code: Code, json: bool, message: &str) -> Outcome {
        if json {
            let value = serde_json::json!({ "error": message });
            Outcome { stdout: to_json(&value), stderr: String::new(), code }
        } else {
            Outcome { stdout: String::new(), stderr: format!("switchover: {message}\n"), code }
        }
    }

    /// No answer from the proxy.
    #[must_use]
    pub fn unanswered(error: &ClientError, json: bool) -> Outcome {
        let code = match error {
            ClientError::NotRunning(_) | ClientError::Denied(_) => Code::NotRunning,
            ClientError::Failed(failure) => code_of(failure),
            ClientError::Broken { .. } => Code::Failed,
        };
        Outcome::failed(code, json, &error.to_string())
    }

    /// Writes it, and turns it into the process's exit code. A reader that has left (`| head`) is no failure.
    pub fn finish(self) -> ExitCode {
        let _ = std::io::stderr().write_all(self.stderr.as_bytes());
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(self.stdout.as_bytes()).and_then(|()| stdout.flush());
        ExitCode::from(self.code as u8)
    }
}

fn code_of(failure: &Failure) -> Code {
    match failure.kind {
        FailureKind::Config | FailureKind::Request | FailureKind::Forbidden => Code::Refused,
        FailureKind::Timeout => Code::Timeout,
        FailureKind::File | FailureKind::Internal => Code::Failed,
    }
}

fn to_json<T: Serialize>(value: &T) -> String {
    match serde_json::to_string_pretty(value) {
        Ok(text) => format!("{text}\n"),
        Err(error) => format!("{{\"error\": \"not representable: {error}\"}}\n"),
    }
}
