//! What the comparisons found, by statement, in bounds: who has not been seen for longest goes into a row of all others.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::compare::Difference;
use crate::sql::fingerprint::Fingerprint;

/// Statements that are kept apart.
const STATEMENTS: usize = 1_000;
/// Times of each store that quantiles are of: the newest.
const TIMES: usize = 512;
/// Characters of a statement in a report.
const TEXT: usize = 600;
/// How many statements a report has where the question does not say, and at most.
const USUAL: usize = 100;
const MOST: usize = 500;

/// The end of one comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Both say the same.
    Equal,
    /// They did not at first, and do a moment later.
    Lag,
    /// The order of the rows.
    Order(Difference),
    /// How values are written.
    Type(Difference),
    /// The values.
    Real(Difference),
    /// A store refused the statement, or did not finish it in time.
    Failed(String),
    /// An answer is beyond what is compared.
    TooLarge,
    /// A store cannot be reached.
    Unreachable(String),
}

/// Comparisons by how they ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdicts {
    /// The same at once.
    pub equal: u64,
    /// The same a moment later.
    pub lag: u64,
    /// Rows in another order, or others of those that a LIMIT without an order may take.
    pub order: u64,
    /// Values written in another way.
    pub r#type: u64,
    /// Other values.
    pub real: u64,
    /// Refused by a store, or not done within 5 s.
    pub failed: u64,
    /// An answer beyond 4 MiB or 20,000 rows.
    pub too_large: u64,
    /// A store did not answer: it says nothing of the statement.
    pub unreachable: u64,
}

impl Verdicts {
    fn count(&mut self, found: &Found) {
        *match found {
            Found::Equal => &mut self.equal,
            Found::Lag => &mut self.lag,
            Found::Order(_) => &mut self.order,
            Found::Type(_) => &mut self.r#type,
            Found::Real(_) => &mut self.real,
            Found::Failed(_) => &mut self.failed,
            Found::TooLarge => &mut self.too_large,
            Found::Unreachable(_) => &mut self.unreachable,
        } += 1;
    }

    fn add(&mut self, other: &Verdicts) {
        for (mine, theirs) in [
            (&mut self.equal, other.equal),
            (&mut self.lag, other.lag),
            (&mut self.order, other.order),
            (&mut self.r#type, other.r#type),
            (&mut self.real, other.real),
            (&mut self.failed, other.failed),
            (&mut self.too_large, other.too_large),
            (&mut self.unreachable, other.unreachable),
        ] {
            *mine += theirs;
        }
    }

    /// Each with its word.
    #[must_use]
    pub fn words(&self) -> [(&'static str, u64); 8] {
        [
            ("equal", self.equal),
            ("lag", self.lag),
            ("order", self.order),
            ("type", self.r#type),
            ("real", self.real),
            ("failed", self.failed),
            ("too_large", self.too_large),
            ("unreachable", self.unreachable),
        ]
    }

    /// All of them.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.words().iter().map(|(_, n)| n).sum()
    }

    /// The share that was the same, at once or a moment later, of those that say something; none of none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of comparisons are far below 2^53")]
    pub fn match_rate(&self) -> Option<f64> {
        let same = self.equal + self.lag;
        let all = same + self.order + self.r#type + self.real + self.failed;
        (all > 0).then(|| same as f64 / all as f64)
    }
}

/// A store's times, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreTimes {
    /// Half are not longer.
    pub p50_us: u64,
    /// 95 % are not.
    pub p95_us: u64,
    /// 99 % are not.
    pub p99_us: u64,
}

/// What was found of one statement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatementReport {
    /// The group.
    pub group: String,
    /// Its fingerprint; holds for one process. `others` stands for all that had to go.
    pub id: String,
    /// Its text without literals.
    pub statement: String,
    /// The session's database.
    pub database: Option<String>,
    /// The stores that were compared last.
    pub serving: String,
    /// The other.
    pub shadow: String,
    /// How many comparisons, and how they ended.
    pub compared: u64,
    /// By verdict.
    #[serde(flatten)]
    pub verdicts: Verdicts,
    /// The share that was the same.
    pub match_rate: Option<f64>,
    /// The serving store's newest times.
    pub serving_times: StoreTimes,
    /// The shadow store's.
    pub shadow_times: StoreTimes,
    /// The newest verdict that is not `equal` or `lag`.
    pub last_verdict: Option<String>,
    /// Where the difference is, or what a store said.
    pub last_place: Option<String>,
    /// What the serving store has there; only with `insight: { examples: true }`.
    pub last_serving: Option<String>,
    /// What the shadow store has.
    pub last_shadow: Option<String>,
    /// Milliseconds since 1970.
    pub first_ms: u64,
    /// Milliseconds since 1970.
    pub last_ms: u64,
}

/// What was found of a group.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupReport {
    /// Its name.
    pub group: String,
    /// The share of its reads; none where it has no shadow now.
    pub sample: Option<String>,
    /// The store that its reads are compared with now.
    pub store: Option<String>,
    /// Reads in the sample.
    pub offered: u64,
    /// Of them, those for which the queue had no room.
    pub dropped: u64,
    /// Those whose answer is not to be compared: it depends on the time, the session or chance.
    pub skipped: u64,
    /// How many comparisons have ended.
    pub compared: u64,
    /// How.
    #[serde(flatten)]
    pub verdicts: Verdicts,
    /// The share that was the same.
    pub match_rate: Option<f64>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// By group.
    pub groups: Vec<GroupReport>,
    /// By statement: those that differ first.
    pub statements: Vec<StatementReport>,
    /// How many statements there are in all.
    pub of: usize,
}

/// The statement of a comparison.
#[derive(Debug, Clone)]
pub(super) struct Subject<'a> {
    pub group: &'a str,
    pub print: Fingerprint,
    pub database: Option<&'a str>,
    pub serving: &'a str,
    pub shadow: &'a str,
    /// Whether values may be kept.
    pub examples: bool,
}

/// How long it took on either store, microseconds, where it was done.
pub(super) type Took = [Option<u64>; 2];

type Key = (String, Fingerprint, Option<String>);

#[derive(Debug, Default)]
struct Times {
    micros: Vec<u64>,
    next: usize,
}

impl Times {
    fn add(&mut self, micros: u64) {
        match self.micros.get_mut(self.next) {
            Some(slot) => *slot = micros,
            None => self.micros.push(micros),
        }
        self.next = (self.next + 1) % TIMES;
    }

    fn report(&self) -> StoreTimes {
        let mut sorted = self.micros.clone();
        sorted.sort_unstable();
        let of = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        let of = |percent| of(percent).unwrap_or(0);
        StoreTimes { p50_us: of(50), p95_us: of(95), p99_us: of(99) }
    }
}

#[derive(Debug, Default)]
struct Entry {
    report: StatementReport,
    times: [Times; 2],
}

#[derive(Debug, Default)]
struct Inner {
    statements: HashMap<Key, Entry>,
    others: Option<StatementReport>,
    /// Comparisons and skipped reads by group.
    groups: BTreeMap<String, (Verdicts, u64)>,
}

/// What the worker writes, and everybody reads.
#[derive(Debug, Default)]
pub struct Findings(Mutex<Inner>);

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read that is not compared.
    pub(super) fn skipped(&self, group: &str) {
        self.lock().group(group).1 += 1;
    }

    /// Notes how a comparison ended; whether it is the statement's first real difference. `text` is its text without literals.
    pub(super) fn note(&self, of: &Subject<'_>, found: &Found, took: Took, text: impl FnOnce() -> String) -> bool {
        let mut inner = self.lock();
        inner.group(of.group).0.count(found);
        let key = (of.group.to_owned(), of.print, of.database.map(str::to_owned));
        if !inner.statements.contains_key(&key) {
            inner.make_room();
            let report = StatementReport {
                group: of.group.to_owned(),
                id: format!("{:016x}", of.print.0 >> 64),
                statement: text().chars().take(TEXT).collect(),
                database: of.database.map(str::to_owned),
                first_ms: now_ms(),
                ..StatementReport::default()
            };
            inner.statements.insert(key.clone(), Entry { report, times: Default::default() });
        }
        let Some(entry) = inner.statements.get_mut(&key) else { return false };
        for (times, took) in entry.times.iter_mut().zip(took) {
            took.into_iter().for_each(|micros| times.add(micros));
        }
        let report = &mut entry.report;
        report.last_ms = now_ms();
        report.serving = of.serving.to_owned();
        report.shadow = of.shadow.to_owned();
        report.verdicts.count(found);
        report.last(found, of.examples);
        matches!(found, Found::Real(_)) && report.verdicts.real == 1
    }

    /// What was found, of one group or of all: the statements that differ first, at most so many (0 takes 100).
    #[must_use]
    pub fn report(&self, group: Option<&str>, limit: u32) -> Report {
        let inner = self.lock();
        let wanted = |name: &str| group.is_none_or(|g| g == name);
        let groups = inner.groups.iter().filter(|(name, _)| wanted(name));
        let groups = groups.map(|(name, (verdicts, skipped))| GroupReport {
            group: name.clone(),
            skipped: *skipped,
            compared: verdicts.compared(),
            verdicts: *verdicts,
            match_rate: verdicts.match_rate(),
            ..GroupReport::default()
        });
        let mut statements: Vec<&Entry> = inner.statements.values().filter(|e| wanted(&e.report.group)).collect();
        let of = statements.len();
        let order = |e: &&Entry| {
            let (r, v) = (&e.report, &e.report.verdicts);
            std::cmp::Reverse((v.real, v.failed, v.r#type + v.order, v.compared(), r.last_ms))
        };
        statements.sort_by_key(order);
        let limit = if limit == 0 { USUAL } else { usize::try_from(limit).unwrap_or(MOST).min(MOST) };
        let shown = statements.into_iter().take(limit).map(|e| StatementReport {
            compared: e.report.verdicts.compared(),
            match_rate: e.report.verdicts.match_rate(),
            serving_times: e.times.first().map(Times::report).unwrap_or_default(),
            shadow_times: e.times.last().map(Times::report).unwrap_or_default(),
            ..e.report.clone()
        });
        let others = inner.others.iter().filter(|_| group.is_none()).map(|o| StatementReport {
            compared: o.verdicts.compared(),
            match_rate: o.verdicts.match_rate(),
            ..o.clone()
        });
        Report { groups: groups.collect(), statements: shown.chain(others).collect(), of }
    }
}

impl Inner {
    fn group(&mut self, name: &str) -> &mut (Verdicts, u64) {
        self.groups.entry(name.to_owned()).or_default()
    }

    fn make_room(&mut self) {
        if self.statements.len() < STATEMENTS {
            return;
        }
        let oldest = self.statements.iter().min_by_key(|(_, e)| e.report.last_ms).map(|(key, _)| key.clone());
        let Some(gone) = oldest.and_then(|key| self.statements.remove(&key)) else { return };
        let others = self.others.get_or_insert_with(|| StatementReport {
            id: "others".to_owned(),
            first_ms: gone.report.first_ms,
            ..StatementReport::default()
        });
        others.verdicts.add(&gone.report.verdicts);
        others.first_ms = others.first_ms.min(gone.report.first_ms);
        others.last_ms = others.last_ms.max(gone.report.last_ms);
    }
}

impl StatementReport {
    fn last(&mut self, found: &Found, examples: bool) {
        let (word, place, difference) = match found {
            Found::Equal | Found::Lag => return,
            Found::Order(d) => ("order", d.place.clone(), Some(d)),
            Found::Type(d) => ("type", d.place.clone(), Some(d)),
            Found::Real(d) => ("real", d.place.clone(), Some(d)),
            Found::Failed(text) => ("failed", text.clone(), None),
            Found::TooLarge => ("too_large", "beyond 4 MiB or 20,000 rows".to_owned(), None),
            Found::Unreachable(text) => ("unreachable", text.clone(), None),
        };
        // what says something of the statement is not covered up by what does not
        let says = |word: &str| !matches!(word, "too_large" | "unreachable");
        if !says(word) && self.last_verdict.as_deref().is_some_and(says) {
            return;
        }
        self.last_verdict = Some(word.to_owned());
        self.last_place = Some(place);
        let shown = difference.filter(|_| examples);
        self.last_serving = shown.map(|d| d.serving.clone());
        self.last_shadow = shown.map(|d| d.shadow.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(print: u128) -> Subject<'static> {
        Subject {
            group: "g",
            print: Fingerprint(print << 64),
            database: Some("d"),
            serving: "legacy",
            shadow: "new",
            examples: false,
        }
    }

    fn difference() -> Difference {
        Difference { place: "row 1, column a".into(), serving: "secret".into(), shadow: "other".into() }
    }

    #[test]
    fn the_first_real_difference_is_told_once_and_values_only_where_asked_for() {
        let findings = Findings::default();
        let note = |found: Found, examples: bool| {
            findings.note(&Subject { examples, ..subject(1) }, &found, [Some(10), None], || "SELECT ?".to_owned())
        };
        assert!(!note(Found::Equal, false));
        assert!(note(Found::Real(difference()), false));
        assert!(!note(Found::Real(difference()), false));
        assert!(!note(Found::Unreachable("gone".into()), false));
        let of = |report: &Report| report.statements[0].clone();
        let report = findings.report(None, 0);
        let s = of(&report);
        assert_eq!((s.compared, s.verdicts.real, s.verdicts.equal, s.verdicts.unreachable), (4, 2, 1, 1));
        assert_eq!(s.last_verdict.as_deref(), Some("real"));
        assert_eq!((s.last_place.as_deref(), s.last_serving), (Some("row 1, column a"), None));
        assert_eq!(s.match_rate, Some(1.0 / 3.0));
        assert_eq!((s.serving_times.p50_us, s.shadow_times.p50_us), (10, 0));
        note(Found::Type(difference()), true);
        assert_eq!(of(&findings.report(Some("g"), 1)).last_serving.as_deref(), Some("secret"));
        assert!(findings.report(Some("another"), 0).statements.is_empty());
    }

    #[test]
    fn what_is_too_much_is_added_up() {
        let findings = Findings::default();
        for n in 0..1_200_u128 {
            findings.note(&subject(n), &Found::Equal, [Some(1), Some(2)], String::new);
        }
        let report = findings.report(None, 500);
        assert_eq!((report.of, report.statements.len()), (STATEMENTS, 501));
        let others = report.statements.last().unwrap();
        assert_eq!((others.id.as_str(), others.compared), ("others", 200));
        assert_eq!(report.groups[0].compared, 1_200);
    }

    #[test]
    fn quantiles_are_of_the_newest_times() {
        let mut times = Times::default();
        (0..TIMES as u64).for_each(|_| times.add(1_000_000));
        (1..=TIMES as u64).for_each(|n| times.add(n));
        let of = times.report();
        assert_eq!((of.p50_us, of.p95_us, of.p99_us), (256, 487, 507));
    }
}
