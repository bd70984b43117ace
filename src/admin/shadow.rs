//! `switchover shadow`: what shadow reads have found, as tables.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::client::ask;
use super::outcome::{Code, Outcome};
use super::protocol::{Reply, Request};
use super::show::unexpected;
use super::table::{Table, number};
use crate::transfer::shadow::{GroupReport, Report, StatementReport};

/// Which findings of shadow reads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowRequest {
    /// Only of this group.
    pub group: Option<String>,
    /// At most so many statements, those that differ first; 0 takes 100.
    pub limit: u32,
}

/// Characters of a statement in the table.
const WIDTH: usize = 72;

/// `switchover shadow`.
pub fn shadow(socket: &Path, request: ShadowRequest, json: bool) -> Outcome {
    match ask(socket, &Request::Shadow(request)) {
        Ok(Reply::Shadow(report)) => Outcome::new(Code::Done, json, &report, || render(&report)),
        other => unexpected(other, json),
    }
}

fn render(report: &Report) -> String {
    if report.groups.is_empty() {
        return "no reads are compared: write `shadow: { sample: 0.05 }` in a group\n".to_owned();
    }
    let mut text = groups(&report.groups);
    if !report.statements.is_empty() {
        text.push('\n');
        text.push_str(&statements(&report.statements));
    }
    for s in report.statements.iter().filter(|s| s.last_verdict.is_some()) {
        text.push_str(&difference(s));
    }
    let shown = report.statements.iter().filter(|s| s.id != "others").count();
    if shown < report.of {
        let _ = writeln!(text, "\n{shown} of {} statements (--limit)", report.of);
    }
    text
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |r| format!("{:.2} %", r * 100.0))
}

fn groups(groups: &[GroupReport]) -> String {
    let head = [
        "GROUP",
        "STORE",
        "SAMPLE",
        "OFFERED",
        "DROPPED",
        "SKIPPED",
        "COMPARED",
        "MATCH",
        "LAG",
        "ORDER",
        "TYPE",
        "REAL",
        "FAILED",
        "UNREACHABLE",
    ];
    let mut table = Table::new(&head);
    for g in groups {
        let v = &g.verdicts;
        let mut row = vec![
            g.group.clone(),
            g.store.clone().unwrap_or_else(|| "-".to_owned()),
            g.sample.clone().unwrap_or_else(|| "-".to_owned()),
        ];
        row.extend([g.offered, g.dropped, g.skipped, g.compared].map(number));
        row.push(rate(g.match_rate));
        row.extend([v.lag, v.order, v.r#type, v.real, v.failed, v.unreachable].map(number));
        table.row(row);
    }
    table.render(0)
}

fn statements(statements: &[StatementReport]) -> String {
    let head = ["STATEMENT", "COMPARED", "MATCH", "LAG", "ORDER", "TYPE", "REAL", "FAILED", "P50 µs", "P99 µs", "TEXT"];
    let mut table = Table::new(&head);
    for s in statements {
        let v = &s.verdicts;
        let mut row = vec![s.id.clone(), number(s.compared), rate(s.match_rate)];
        row.extend([v.lag, v.order, v.r#type, v.real, v.failed].map(number));
        let both = |of: fn(&crate::transfer::shadow::StoreTimes) -> u64| {
            format!("{} / {}", number(of(&s.serving_times)), number(of(&s.shadow_times)))
        };
        row.extend([both(|t| t.p50_us), both(|t| t.p99_us)]);
        row.push(s.statement.chars().take(WIDTH).collect());
        table.row(row);
    }
    table.render(0)
}

fn difference(s: &StatementReport) -> String {
    let word = s.last_verdict.as_deref().unwrap_or_default();
    let mut text = format!("\n{} {word}: {}\n", s.id, s.last_place.as_deref().unwrap_or_default());
    for (store, value) in [(&s.serving, &s.last_serving), (&s.shadow, &s.last_shadow)] {
        if let Some(value) = value {
            let _ = writeln!(text, "  {store}: {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::shadow::Verdicts;

    #[test]
    fn a_report_reads_as_tables() {
        assert!(render(&Report::default()).contains("no reads are compared"));
        let verdicts = Verdicts { equal: 97, lag: 2, real: 1, ..Verdicts::default() };
        let group = GroupReport {
            group: "analytics".into(),
            store: Some("new".into()),
            sample: Some("0.05".into()),
            offered: 103,
            dropped: 3,
            compared: 100,
            verdicts,
            match_rate: verdicts.match_rate(),
            ..GroupReport::default()
        };
        let statement = StatementReport {
            id: "ab".into(),
            statement: "SELECT a FROM t WHERE id = ?".into(),
            serving: "legacy".into(),
            shadow: "new".into(),
            compared: 100,
            verdicts,
            match_rate: verdicts.match_rate(),
            last_verdict: Some("real".into()),
            last_place: Some("row 1, column a".into()),
            last_serving: Some("1".into()),
            last_shadow: Some("2".into()),
            ..StatementReport::default()
        };
        let text = render(&Report { groups: vec![group], statements: vec![statement], of: 3 });
        for wanted in ["99.00 %", "ab real: row 1, column a", "  new: 2", "1 of 3 statements", "0.05", "0 / 0"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
    }
}
