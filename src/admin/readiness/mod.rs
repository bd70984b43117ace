//! `switchover readiness GROUP`: what would become of the statements that a proxy has seen, if the flag of a group moved now.
//!
//! [`verdict`](mod@verdict) is pure: where a statement runs now, and where it would. [`ask`](mod@ask) has the store where it would
//! run prepare it, and never executes anything. What a verdict promises, and what it does not: docs/insight.md.

mod ask;
mod assess;
mod verdict;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub(crate) use assess::assess;

use super::client::ask as ask_proxy;
use super::digest::one_line;
use super::outcome::{Code, Outcome};
use super::protocol::{Reply, Request};
use super::show;
use super::table::{Table, number};

/// Which flag would move where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadinessRequest {
    /// The group.
    pub group: String,
    /// The store; none is the other one, where that is clear.
    pub to: Option<String>,
}

/// What would become of one statement. The order is that of what deserves attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Its store does not change.
    Same,
    /// The other store has prepared it.
    Ready,
    /// Nobody could be asked.
    #[default]
    Untested,
    /// The proxy would refuse it: no store has all its tables.
    Refused,
    /// The other store does not take it.
    Fails,
}

impl Verdict {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::Ready => "ready",
            Verdict::Untested => "untested",
            Verdict::Refused => "refused",
            Verdict::Fails => "fails",
        }
    }
}

/// What would become of the statements on a group's tables.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Readiness {
    /// The group.
    pub group: String,
    /// The store that serves it.
    pub from: String,
    /// The store that would.
    pub to: String,
    /// Each statement that names a table of the group, or that would go elsewhere: the most executed first.
    pub statements: Vec<Judged>,
    /// By verdict.
    pub summary: BTreeMap<String, Part>,
    /// Statements that have nothing to do with the group.
    pub elsewhere: u64,
    /// Statements that had to make room for others, and are not judged.
    pub dropped: u64,
    /// What the operator should know beside.
    pub notes: Vec<String>,
}

/// The statements of one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Part {
    /// How many.
    pub statements: u64,
    /// Their executions.
    pub calls: u64,
    /// Of the executions of all that were judged, 0 … 1.
    pub share: f64,
}

/// One statement, judged.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Judged {
    /// Its fingerprint, as in `switchover digests`.
    pub id: String,
    /// Its text without literals.
    pub text: String,
    /// The session's database.
    pub database: Option<String>,
    /// `read`, `write` …
    pub kind: String,
    /// Its tables.
    pub tables: Vec<String>,
    /// Executions.
    pub calls: u64,
    /// Of the executions of all that were judged, 0 … 1.
    pub share: f64,
    /// What would become of it.
    pub verdict: Verdict,
    /// Where it runs now; none where it is refused.
    pub from: Option<String>,
    /// Where it would run.
    pub to: Option<String>,
    /// Why.
    pub reason: String,
    /// The error's code, where a store or the proxy would answer with one.
    pub code: Option<u16>,
    /// What mends it: one of these.
    pub remedies: Vec<String>,
}

impl Readiness {
    /// 0: all run as now, or are ready; 6: some are refused or fail; 7: else, some are untested.
    #[must_use]
    pub fn code(&self) -> Code {
        let any = |verdict: Verdict| self.statements.iter().any(|s| s.verdict == verdict);
        if any(Verdict::Refused) || any(Verdict::Fails) {
            Code::NotReady
        } else if any(Verdict::Untested) || self.dropped > 0 {
            Code::Untested
        } else {
            Code::Done
        }
    }
}

/// `switchover readiness`.
#[must_use]
pub fn readiness(socket: &Path, request: ReadinessRequest, full: bool, json: bool) -> Outcome {
    match ask_proxy(socket, &Request::Readiness(request)) {
        Ok(Reply::Readiness(found)) => Outcome::new(found.code(), json, &found, || render(&found, full)),
        other => show::unexpected(other, json),
    }
}

fn render(found: &Readiness, full: bool) -> String {
    let Readiness { group, from, to, .. } = found;
    let mut text = format!("if the flag of {group} moved from {from} to {to} now:\n\n");
    if found.statements.is_empty() {
        text.push_str("no statement on its tables was seen since the start\n");
    } else {
        let mut table = Table::new(&["VERDICT", "ID", "CALLS", "SHARE", "DB", "STATEMENT"]);
        for s in &found.statements {
            table.row(vec![
                s.verdict.word().to_owned(),
                s.id.clone(),
                number(s.calls),
                format!("{:.1}%", s.share * 100.0),
                s.database.clone().unwrap_or_default(),
                one_line(&s.text, full),
            ]);
        }
        text.push_str(&table.render(0));
        details(found, &mut text);
        text.push('\n');
        for (verdict, part) in &found.summary {
            let share = part.share * 100.0;
            text.push_str(&format!(
                "{verdict:9} {} statements, {} executions ({share:.1}%)\n",
                number(part.statements),
                number(part.calls)
            ));
        }
    }
    if found.elsewhere > 0 {
        text.push_str(&format!("{} statements have nothing to do with {group}\n", number(found.elsewhere)));
    }
    found.notes.iter().for_each(|note| text.push_str(&format!("note: {note}\n")));
    text
}

/// Why those are as they are that are neither as now nor ready.
fn details(found: &Readiness, text: &mut String) {
    for s in found.statements.iter().filter(|s| !matches!(s.verdict, Verdict::Same | Verdict::Ready)) {
        text.push_str(&format!("\n{} {}: {}\n", s.verdict.word(), s.id, s.reason));
        s.remedies.iter().for_each(|remedy| text.push_str(&format!("  → {remedy}\n")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(verdict: Verdict) -> Judged {
        let remedies = vec!["do this".to_owned()];
        Judged {
            id: "00ff".into(),
            text: "SELECT 1".into(),
            calls: 10,
            verdict,
            reason: "so".into(),
            remedies,
            ..Judged::default()
        }
    }

    fn found(verdicts: &[Verdict]) -> Readiness {
        Readiness {
            group: "a".into(),
            from: "legacy".into(),
            to: "new".into(),
            statements: verdicts.iter().copied().map(judged).collect(),
            ..Readiness::default()
        }
    }

    #[test]
    fn the_exit_code_says_the_worst() {
        use Verdict::{Fails, Ready, Refused, Same, Untested};
        assert_eq!(found(&[]).code(), Code::Done);
        assert_eq!(found(&[Same, Ready]).code(), Code::Done);
        assert_eq!(found(&[Same, Untested]).code(), Code::Untested);
        assert_eq!(found(&[Untested, Refused]).code(), Code::NotReady);
        assert_eq!(found(&[Ready, Fails]).code(), Code::NotReady);
        assert_eq!(Readiness { dropped: 1, ..found(&[Ready]) }.code(), Code::Untested);
    }

    #[test]
    fn people_see_why_and_what_mends_it() {
        let text = render(&found(&[Verdict::Ready, Verdict::Refused]), false);
        for part in ["moved from legacy to new", "ready", "\nrefused 00ff: so\n  → do this\n"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("ready 00ff:"));
    }
}
