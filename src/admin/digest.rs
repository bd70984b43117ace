//! `switchover digests`: the statements that a proxy has seen, with figures. What is counted, and what is not: docs/insight.md.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::client::ask;
use super::outcome::{Code, Outcome};
use super::protocol::{Cause, Reply, Request};
use super::show;
use super::table::{Table, number};

/// Rows that a client gets who names no number.
pub const DEFAULT_LIMIT: u32 = 20;
/// Characters of a statement in a table.
const SHOWN: usize = 100;

/// Which statements, and in which order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DigestRequest {
    /// What comes first.
    pub order: DigestOrder,
    /// So many at most; 0 is all.
    pub limit: u32,
    /// Only those that name a table of this group.
    pub group: Option<String>,
    /// Only those that this store has answered.
    pub store: Option<String>,
    /// Only those whose text, id, database or tables contain this, in any case.
    pub filter: Option<String>,
    /// All figures begin anew, after this answer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// Who wants a reset, and why.
    #[serde(flatten)]
    pub cause: Cause,
}

/// What comes first: the most of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum DigestOrder {
    /// Time of all executions together.
    #[default]
    Time,
    /// Executions.
    Count,
    /// The latency that 99 of 100 executions do not exceed.
    P99,
    /// Errors and refusals.
    Errors,
    /// Rows read and changed.
    Rows,
    /// Bytes to clients.
    Bytes,
    /// The newest execution.
    Last,
}

/// The statements that were seen since the start, or the last reset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Digests {
    /// False where `insight.statements` is 0: nothing is counted.
    pub on: bool,
    /// Those that were asked for, in order.
    pub digests: Vec<Digest>,
    /// Statements that are kept, shown or not.
    pub kept: u64,
    /// Statements that had to make room for others.
    pub dropped: u64,
    /// The figures of those, in one row without a text.
    pub others: Option<Digest>,
    /// Executions of all statements, shown or not.
    pub calls: u64,
    /// Their time together, µs.
    pub micros: u64,
}

/// A statement in one database: texts that differ in their literals only are one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Digest {
    /// Its fingerprint, 16 hexadecimal digits; another after a restart.
    pub id: String,
    /// Its text without literals.
    pub text: String,
    /// The session's database when it ran.
    pub database: Option<String>,
    /// `read`, `write`, `ddl`, `set` …; `several` for a text of more than one statement.
    pub kind: String,
    /// The tables that it names, as it names them.
    pub tables: Vec<String>,
    /// The groups of these tables.
    pub groups: Vec<String>,
    /// Its first text, with literals: only with `insight: { examples: true }`.
    pub example: Option<String>,
    /// Executions that a store answered.
    pub calls: u64,
    /// Of them as text (COM_QUERY).
    pub as_text: u64,
    /// Of them prepared (COM_STMT_EXECUTE, EXECUTE).
    pub prepared: u64,
    /// Of them bulk executes.
    pub bulk: u64,
    /// Executions that the proxy refused.
    pub refused: u64,
    /// Executions that a store answered with an error.
    pub errors: u64,
    /// The code of the newest error or refusal.
    pub last_error: Option<u16>,
    /// When it was seen first: milliseconds since 1970.
    pub first_seen_ms: u64,
    /// And last.
    pub last_seen_ms: u64,
    /// Its part of the time of all statements, 0 … 1.
    pub share_of_time: f64,
    /// Over all stores.
    #[serde(flatten)]
    pub latency: Latency,
    /// Rows of result sets.
    pub rows: u64,
    /// Rows changed.
    pub affected: u64,
    /// Bytes to clients.
    pub bytes: u64,
    /// By store.
    pub stores: Vec<DigestStore>,
}

/// What one store did of a statement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DigestStore {
    /// The store.
    pub store: String,
    /// Executions that it answered.
    pub calls: u64,
    /// Of them with an error.
    pub errors: u64,
    /// Of these.
    #[serde(flatten)]
    pub latency: Latency,
    /// Rows of result sets.
    pub rows: u64,
    /// Rows changed.
    pub affected: u64,
    /// Bytes to clients.
    pub bytes: u64,
}

/// How long executions took, from the command's last byte to the answer's, in µs; quantiles within 6.25 %.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// All of them together.
    pub micros: u64,
    /// The median.
    pub p50_micros: f64,
    /// 95 of 100 were as fast.
    pub p95_micros: f64,
    /// 99 of 100.
    pub p99_micros: f64,
    /// The longest.
    pub longest_micros: u64,
}

/// `switchover digests`.
#[must_use]
pub fn digests(socket: &Path, request: DigestRequest, full: bool, json: bool) -> Outcome {
    match ask(socket, &Request::Digests(request)) {
        Ok(Reply::Digests(found)) => Outcome::new(Code::Done, json, &found, || render(&found, full)),
        other => show::unexpected(other, json),
    }
}

/// `312µs`, `4.2ms`, `1.3s`.
#[must_use]
pub fn latency(micros: f64) -> String {
    match micros {
        m if m < 1_000.0 => format!("{m:.0}µs"),
        m if m < 10_000.0 => format!("{:.1}ms", m / 1e3),
        m if m < 1_000_000.0 => format!("{:.0}ms", m / 1e3),
        m => format!("{:.1}s", m / 1e6),
    }
}

/// A text as one line, cut where it is long.
#[must_use]
pub fn one_line(text: &str, full: bool) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) if !full => format!("{} …", line.get(..at).unwrap_or_default()),
        _ => line,
    }
}

#[expect(clippy::cast_precision_loss, reason = "times for people")]
fn render(found: &Digests, full: bool) -> String {
    if !found.on {
        return "nothing is counted: `insight: { statements: 0 }` in the configuration\n".to_owned();
    }
    let mut table = Table::new(&[
        "ID",
        "CALLS",
        "TIME",
        "SHARE",
        "P50",
        "P95",
        "P99",
        "ERRORS",
        "ROWS",
        "STORES",
        "DB",
        "STATEMENT",
    ]);
    for d in found.digests.iter().chain(&found.others) {
        let stores: Vec<String> = d.stores.iter().map(|s| format!("{} {}", s.store, number(s.calls))).collect();
        let code = d.last_error.map(|code| format!(" ({code})")).unwrap_or_default();
        let others = format!("({} statements that made room)", number(found.dropped));
        table.row(vec![
            d.id.clone(),
            number(d.calls),
            latency(d.latency.micros as f64),
            format!("{:.1}%", d.share_of_time * 100.0),
            latency(d.latency.p50_micros),
            latency(d.latency.p95_micros),
            latency(d.latency.p99_micros),
            format!("{}{code}", number(d.errors + d.refused)),
            number(d.rows + d.affected),
            stores.join(", "),
            d.database.clone().unwrap_or_default(),
            if d.text.is_empty() { others } else { one_line(&d.text, full) },
        ]);
    }
    let counted = format!("{} executions in {}", number(found.calls), latency(found.micros as f64));
    format!("{}{} of {} statements; {counted}\n", table.render(0), found.digests.len(), number(found.kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people() {
        let latency = Latency {
            micros: 12_500_000,
            p50_micros: 312.0,
            p95_micros: 4_200.0,
            p99_micros: 56_000.0,
            longest_micros: 1,
        };
        let store = DigestStore { store: "new".into(), calls: 1_234, ..DigestStore::default() };
        let one = Digest {
            id: "00ff".into(),
            text: format!("SELECT {}", "x, ".repeat(60)),
            calls: 1_234,
            errors: 2,
            refused: 1,
            last_error: Some(1235),
            share_of_time: 0.5,
            latency,
            stores: vec![store],
            ..Digest::default()
        };
        let others = Digest { calls: 7, ..Digest::default() };
        let found = Digests {
            on: true,
            digests: vec![one],
            dropped: 9,
            others: Some(others),
            kept: 40,
            calls: 1_241,
            micros: 1,
        };
        let text = render(&found, false);
        for part in [
            "1,234  12.5s  50.0%  312µs  4.2ms  56ms  3 (1235)",
            "new 1,234",
            " …\n",
            "(9 statements that made room)",
            "1 of 40 statements; 1,241 executions",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(render(&found, true).contains(&"x, ".repeat(59)));
    }

    #[test]
    fn requests_have_defaults() {
        let request: Request = serde_json::from_str(r#"{"request":"digests","order":"p99","group":"a"}"#).unwrap();
        let expected = DigestRequest { order: DigestOrder::P99, group: Some("a".into()), ..DigestRequest::default() };
        assert_eq!(request, Request::Digests(expected));
    }
}
