//! Every statement that was seen, judged: routing first, then the store where it would run, then, where that one does not take it,
//! the store where it runs now: what neither takes is the fault of its text without literals, not of the move.

use std::time::Duration;

use super::ask::{Asker, Heard, Question};
use super::verdict::{Move, Routed};
use super::{Judged, Readiness, Verdict};
use crate::backend::Fleet;
use crate::config::StoreId;
use crate::config::model::ChangeLog;
use crate::routing::Snapshot;
use crate::routing::explain::kind_word;
use crate::session::{Everything, Seen};
use crate::sql::Facts;
use crate::sql::facts::{Flags, Kind};
use crate::sql::fingerprint::digest_text;
use crate::sql::split::split;

/// For all questions together: less than a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(45);

/// Judges what was seen under a snapshot for a move of `group` that `then` has made.
pub(crate) async fn assess(group: &str, now: &Snapshot, then: &Snapshot, fleet: &Fleet, seen: Everything) -> Readiness {
    let named = |s: &Snapshot| s.config.group_by_name(group).map(|g| s.store_name(g.connection).to_owned());
    let mut found = Readiness {
        group: group.to_owned(),
        from: named(now).unwrap_or_default(),
        to: named(then).unwrap_or_default(),
        dropped: seen.dropped,
        ..Readiness::default()
    };
    let mut judge = Judge { moved: Move { group, now, then }, asker: Asker::new(fleet, PATIENCE) };
    let mut all: Vec<Seen> = seen.into_seen().collect();
    // (should the time run out, it does so for what matters least)
    all.sort_by_cached_key(|s| (std::cmp::Reverse(calls(s)), s.id.clone(), s.database.clone()));
    for seen in &all {
        match judge.judge(seen).await {
            Some(judged) => found.statements.push(judged),
            None => found.elsewhere += 1,
        }
    }
    found.notes = notes(&found, then, group);
    sum_up(&mut found);
    found
}

fn calls(seen: &Seen) -> u64 {
    seen.stores.values().map(|s| s.calls).sum::<u64>() + seen.refused
}

#[expect(clippy::cast_precision_loss, reason = "shares for people")]
fn sum_up(found: &mut Readiness) {
    let all: u64 = found.statements.iter().map(|s| s.calls).sum();
    let share = |calls: u64| if all == 0 { 0.0 } else { calls as f64 / all as f64 };
    for s in &mut found.statements {
        s.share = share(s.calls);
        let part = found.summary.entry(s.verdict.word().to_owned()).or_default();
        part.statements += 1;
        part.calls += s.calls;
        part.share = share(part.calls);
    }
}

fn notes(found: &Readiness, then: &Snapshot, group: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if found.dropped > 0 {
        notes.push(format!(
            "{} statements had to make room for others, and are not judged: insight.statements is too small",
            found.dropped
        ));
    }
    let Some(group) = then.config.group_by_name(group) else { return notes };
    let target = then.config.stores.get(usize::from(group.connection.0));
    if group.standby.is_some() && target.is_some_and(|s| s.change_log == ChangeLog::Journal) {
        notes.push(format!(
            "{} feeds a standby by a journal: some writes that it takes cannot be recorded, and are refused (docs/standby.md)",
            found.to
        ));
    }
    if !group.cross_store_transactions {
        notes.push(format!(
            "cross_store_transactions: refuse: a transaction that uses {} and other tables would be refused, which \
             no statement alone shows",
            group.name
        ));
    }
    notes
}

struct Judge<'a> {
    moved: Move<'a>,
    asker: Asker<'a>,
}

/// What was found of one statement of a text.
#[derive(Default)]
struct Finding {
    verdict: Verdict,
    from: Option<StoreId>,
    to: Option<StoreId>,
    reason: String,
    code: Option<u16>,
    remedies: Vec<String>,
}

impl Judge<'_> {
    /// One text; `None` if it has nothing to do with the group.
    async fn judge(&mut self, seen: &Seen) -> Option<Judged> {
        let database = seen.database.as_deref();
        let spans: Vec<_> = split(seen.text.as_bytes(), &seen.dialect).collect();
        let parts = spans.iter().map(|s| seen.text.get(s.start as usize..s.end as usize).unwrap_or_default());
        let whole = seen.whole && spans.len() == seen.statements.len();
        let mut worst: Option<Finding> = None;
        for (facts, text) in seen.statements.iter().zip(parts.map(Some).chain(std::iter::repeat(None))) {
            let text = text.filter(|_| whole);
            let Some(finding) = self.finding(seen, facts, text, database).await else { continue };
            if worst.as_ref().is_none_or(|w| finding.verdict > w.verdict) {
                worst = Some(finding);
            }
        }
        let worst = worst?;
        let store = |id: StoreId| self.moved.then.store_name(id).to_owned();
        Some(Judged {
            id: seen.id.clone(),
            text: digest_text(seen.text.as_bytes(), &seen.dialect),
            database: seen.database.clone(),
            kind: match &*seen.statements {
                [one] => kind_word(&one.kind).to_owned(),
                _ => "several".to_owned(),
            },
            tables: seen.statements.iter().flat_map(|f| &f.tables).map(|t| t.name.to_string()).collect(),
            calls: calls(seen),
            share: 0.0,
            verdict: worst.verdict,
            from: worst.from.map(store),
            to: worst.to.map(store),
            reason: worst.reason,
            code: worst.code,
            remedies: worst.remedies,
        })
    }

    async fn finding(
        &mut self,
        seen: &Seen,
        facts: &Facts,
        text: Option<&str>,
        database: Option<&str>,
    ) -> Option<Finding> {
        Some(match self.moved.route(facts, database) {
            Routed::Elsewhere => return None,
            Routed::Same(store) => Finding {
                verdict: Verdict::Same,
                from: Some(store),
                to: Some(store),
                reason: "its store does not change".to_owned(),
                ..Finding::default()
            },
            Routed::Refused { from, code, message } => Finding {
                verdict: Verdict::Refused,
                from,
                reason: if from.is_none() { format!("{message} (it is refused now too)") } else { message },
                code: Some(code),
                remedies: self.moved.remedies(facts, database),
                ..Finding::default()
            },
            Routed::Unasked { from, to, why } => {
                Finding { from, to: Some(to), reason: why.to_owned(), ..Finding::default() }
            }
            Routed::Moves { from, to } => {
                let found = match text {
                    Some(text) => self.ask(seen, facts, text, (from, to)).await,
                    None => {
                        Finding { reason: "its text is too long, or not in UTF-8".to_owned(), ..Finding::default() }
                    }
                };
                Finding { from, to: Some(to), ..found }
            }
        })
    }

    async fn ask(&mut self, seen: &Seen, facts: &Facts, text: &str, (from, to): (Option<StoreId>, StoreId)) -> Finding {
        let question = |store: StoreId| Question {
            store,
            text: text.trim().to_owned(),
            database: seen.database.clone(),
            ansi_quotes: seen.dialect.ansi_quotes,
            no_backslash_escapes: seen.dialect.no_backslash_escapes,
            explains: matches!(facts.kind, Kind::Read | Kind::Write) && !facts.flags.contains(Flags::CALLS_ROUTINE),
        };
        let name = |id: StoreId| self.moved.now.store_name(id).to_owned();
        let (code, message) = match self.asker.ask(&question(to)).await {
            Heard::Prepared => {
                let reason = format!("{} has prepared it", name(to));
                return Finding { verdict: Verdict::Ready, reason, ..Finding::default() };
            }
            Heard::Unasked(reason) => {
                return Finding { reason: format!("{}: {reason}", name(to)), ..Finding::default() };
            }
            Heard::Refused { code, message } => (code, message),
        };
        let fails = format!("{} answers {code}: {message}", name(to));
        let failing = |reason| Finding { verdict: Verdict::Fails, reason, code: Some(code), ..Finding::default() };
        let Some(from) = from else { return failing(fails) };
        match self.asker.ask(&question(from)).await {
            Heard::Prepared => failing(fails),
            Heard::Unasked(why) => {
                let reason = format!("{fails}; but {} could not be asked whether it takes it: {why}", name(from));
                Finding { reason, code: Some(code), ..Finding::default() }
            }
            Heard::Refused { code: now, message } => {
                let reason =
                    format!("without its literals neither store takes it: {fails}; {} {now}: {message}", name(from));
                Finding { reason, code: Some(code), ..Finding::default() }
            }
        }
    }
}
