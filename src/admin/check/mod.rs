//! `switchover check`: all that is wrong with the file at once, then every store as the proxy will meet it, each finding with
//! what mends it.

mod catalog;
mod flip;
mod groups;
mod names;
mod store;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

pub(crate) use flip::{Ties, moved, ties, ties_blocking};

use super::outcome::{Code, Outcome};
use crate::config::{self, Config, Problem, problem};

/// For everything that is asked of one store.
const STORE_DEADLINE: Duration = Duration::from_secs(30);

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Works, until it does not.
    Warn,
    /// Statements will fail, or go wrong.
    Error,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The store or group.
    pub(crate) subject: String,
    /// How much it matters.
    pub(crate) level: Level,
    /// What was found.
    pub(crate) what: String,
    /// The command, the SQL or the key that mends it.
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn ok(subject: &str, what: impl Into<String>) -> Finding {
        Finding { subject: subject.to_owned(), level: Level::Ok, what: what.into(), mend: None }
    }

    fn bad(subject: &str, level: Level, what: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { subject: subject.to_owned(), level, what: what.into(), mend: Some(mend.into()) }
    }
}

/// The answer for programs.
#[derive(Debug, Serialize)]
struct Report<'a> {
    config: &'a Path,
    good: bool,
    problems: &'a [Problem],
    findings: &'a [Finding],
}

/// Runs the command; `offline` stops after the file. Blocks, 30 s per store at most, all stores at once.
pub fn check(path: &Path, offline: bool, json: bool) -> Outcome {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => return refused(&problems, json),
    };
    let findings = if offline { Vec::new() } else { findings(&config) };
    let good = findings.iter().all(|finding| finding.level < Level::Error);
    let code = if good { Code::Done } else { Code::Refused };
    let report = Report { config: path, good, problems: &[], findings: &findings };
    Outcome::new(code, json, &report, || {
        let (stores, groups) = (config.stores.len(), config.groups.len());
        let head =
            format!("the file {} is good: {}, {}\n", path.display(), count(stores, "store"), count(groups, "group"));
        format!("{head}{}", render(&findings))
    })
}

/// A file with problems, as `check` and every other command reports it.
pub(crate) fn refused(problems: &[Problem], json: bool) -> Outcome {
    let file = problems.first().map(|problem| problem.file.clone()).unwrap_or_default();
    let report = Report { config: &file, good: false, problems, findings: &[] };
    let text = format!("{}\n\n{} in {}\n", problem::render(problems), count(problems.len(), "problem"), file.display());
    if json {
        return Outcome::new(Code::Refused, true, &report, String::new);
    }
    Outcome { stdout: String::new(), stderr: text, code: Code::Refused }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn findings(config: &Config) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Finding::bad("stores", Level::Error, error.to_string(), "try again")],
    };
    let probes = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (index, store) in config.stores.iter().enumerate() {
            let (store, config) = (store.clone(), config.clone());
            tasks.spawn(async move {
                let probed = tokio::time::timeout(STORE_DEADLINE, store::probe(&config, &store)).await;
                (index, probed.unwrap_or_else(|_| store::Probe::late(&store, STORE_DEADLINE)))
            });
        }
        let mut probes = tasks.join_all().await;
        probes.sort_by_key(|(index, _)| *index);
        probes.into_iter().map(|(_, probe)| probe).collect::<Vec<_>>()
    });
    let mut findings: Vec<Finding> = probes.iter().flat_map(|probe| probe.findings.clone()).collect();
    findings.extend(groups::findings(config, &probes));
    findings
}

/// A block per subject, what is bad with its remedy under it.
fn render(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    let mut last = None;
    for finding in findings {
        if last != Some(&finding.subject) {
            text.push('\n');
        }
        last = Some(&finding.subject);
        let level = match finding.level {
            Level::Ok => "ok   ",
            Level::Warn => "warn ",
            Level::Error => "error",
        };
        text.push_str(&format!("{:width$}  {level}  {}\n", finding.subject, finding.what));
        for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
            text.push_str(&format!("{:width$}         → {line}\n", ""));
        }
    }
    let of = |level| findings.iter().filter(|finding| finding.level == level).count();
    if !findings.is_empty() {
        text.push_str(&format!("\n{}, {}\n", count(of(Level::Error), "error"), count(of(Level::Warn), "warning")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_grouped_and_counted() {
        let findings = [
            Finding::ok("legacy", "fine"),
            Finding::bad("legacy", Level::Warn, "so so", "do this\nor that"),
            Finding::bad("a", Level::Error, "bad", "mend"),
        ];
        let expected = "\nlegacy  ok     fine\nlegacy  warn   so so\n               → do this\n               → or that\n\n\
                        a       error  bad\n               → mend\n\n1 error, 1 warning\n";
        assert_eq!(render(&findings), expected);
    }
}
