//! One statement's figures on one core: counters with one writer, which anybody may read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::super::figures::Count;
use super::Came;
use super::histogram::Histogram;
use crate::sql::askable::{Askable, askable};
use crate::sql::dialect::Dialect;
use crate::sql::{Analysis, Facts, Fingerprint};

/// Stores whose figures are kept apart; those of higher index share the last place.
const STORES: usize = 16;
/// Bytes of an example.
const EXAMPLE: usize = 4 << 10;

/// What is known of a statement's text, whatever database it runs in.
#[derive(Debug)]
pub(crate) struct Described {
    pub(super) print: Fingerprint,
    pub(super) askable: Askable,
    pub(super) dialect: Dialect,
    pub(super) statements: Box<[Arc<Facts>]>,
    pub(super) example: Option<Box<str>>,
}

impl Described {
    /// Of a text that was analysed; with its literals as an example, where that was asked for.
    pub(crate) fn new(
        print: Fingerprint,
        sql: &[u8],
        dialect: &Dialect,
        analysis: &Analysis,
        example: bool,
    ) -> Described {
        let text = || String::from_utf8_lossy(sql.get(..sql.len().min(EXAMPLE)).unwrap_or_default()).into();
        Described {
            print,
            askable: askable(sql, dialect),
            dialect: *dialect,
            statements: analysis.statements.clone(),
            example: example.then(text),
        }
    }

    /// The text without its literals.
    pub(crate) fn text(&self) -> &str {
        &self.askable.text
    }

    /// The fingerprint, as people and logs see it.
    pub(crate) fn id(&self) -> String {
        id(self.print)
    }

    /// Bytes that it takes, and its digest with it.
    pub(crate) fn weight(&self) -> usize {
        self.askable.text.len() + self.example.as_ref().map_or(0, |e| e.len()) + size_of::<Digest>() + size_of::<Part>()
    }
}

/// A fingerprint in hexadecimal digits: its upper half tells statements apart well enough.
fn id(print: Fingerprint) -> String {
    format!("{:016x}", print.0 >> 64)
}

/// What one store did of it.
#[derive(Debug, Default)]
struct Part {
    calls: Count,
    errors: Count,
    micros: Count,
    longest: Count,
    rows: Count,
    affected: Count,
    bytes: Count,
    latencies: Histogram,
}

/// One answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    pub(super) store: u16,
    pub(super) micros: u64,
    pub(super) rows: u64,
    pub(super) affected: u64,
    pub(super) bytes: u64,
    pub(super) error: Option<u16>,
    /// When it ended: µs since the table was made.
    pub(super) at: u64,
}

/// A statement in one database, on one core.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    described: Option<Arc<Described>>,
    pub(super) database: Option<Box<str>>,
    /// It is in no table any more: what is counted from now on belongs in another.
    gone: AtomicBool,
    first: Count,
    last: Count,
    as_text: Count,
    prepared: Count,
    bulk: Count,
    refused: Count,
    last_error: Count,
    parts: [OnceLock<Box<Part>>; STORES],
}

impl Digest {
    pub(super) fn new(described: Arc<Described>, database: Option<&str>, now: u64) -> Digest {
        let digest = Digest { described: Some(described), database: database.map(Into::into), ..Digest::default() };
        digest.first.set(now);
        digest.last.set(now);
        digest
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    pub(super) fn go(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// How often it was counted: it tells whether that was so lately.
    pub(super) fn uses(&self) -> u64 {
        self.as_text.get() + self.prepared.get() + self.bulk.get() + self.refused.get()
    }

    /// When it was used last.
    pub(super) fn last(&self) -> u64 {
        self.last.get()
    }

    fn part(&self, store: usize) -> Option<&Part> {
        self.parts.get(store.min(STORES - 1)).map(|p| &**p.get_or_init(Box::default))
    }

    /// A store has answered it.
    pub(super) fn answered(&self, came: Came, answer: &Answer) {
        match came {
            Came::Text => self.as_text.add(1),
            Came::Prepared => self.prepared.add(1),
            Came::Bulk => self.bulk.add(1),
        }
        self.last.set(answer.at);
        let Some(part) = self.part(usize::from(answer.store)) else { return };
        part.calls.add(1);
        part.micros.add(answer.micros);
        if answer.micros > part.longest.get() {
            part.longest.set(answer.micros);
        }
        part.rows.add(answer.rows);
        part.affected.add(answer.affected);
        part.bytes.add(answer.bytes);
        part.latencies.add(answer.micros);
        if let Some(code) = answer.error {
            part.errors.add(1);
            self.last_error.set(u64::from(code));
        }
    }

    /// The proxy has refused it.
    pub(super) fn refused(&self, code: u16, at: u64) {
        self.refused.add(1);
        self.last.set(at);
        self.last_error.set(u64::from(code));
    }

    /// Adds another's figures.
    pub(super) fn take_in(&self, other: &Digest) {
        let pairs = [
            (&self.as_text, &other.as_text),
            (&self.prepared, &other.prepared),
            (&self.bulk, &other.bulk),
            (&self.refused, &other.refused),
        ];
        pairs.iter().for_each(|(mine, theirs)| mine.add(theirs.get()));
        if self.first.get() == 0 || other.first.get() < self.first.get() {
            self.first.set(other.first.get());
        }
        if other.last.get() >= self.last.get() {
            self.last.set(other.last.get());
            self.last_error.set(other.last_error.get());
        }
        for (store, theirs) in other.parts.iter().enumerate() {
            let (Some(theirs), Some(mine)) = (theirs.get(), self.part(store)) else { continue };
            let pairs = [
                (&mine.calls, &theirs.calls),
                (&mine.errors, &theirs.errors),
                (&mine.micros, &theirs.micros),
                (&mine.rows, &theirs.rows),
                (&mine.affected, &theirs.affected),
                (&mine.bytes, &theirs.bytes),
            ];
            pairs.iter().for_each(|(mine, theirs)| mine.add(theirs.get()));
            mine.longest.set(mine.longest.get().max(theirs.longest.get()));
            mine.latencies.take_in(&theirs.latencies);
        }
    }

    /// Adds what it holds; `base_ms` is when its table was made, in ms since 1970.
    pub(super) fn add_to(&self, seen: &mut Seen, base_ms: u64) {
        let ms = |at: u64| base_ms + at / 1_000;
        if seen.first_ms == 0 || ms(self.first.get()) < seen.first_ms {
            seen.first_ms = ms(self.first.get());
        }
        if ms(self.last.get()) >= seen.last_ms {
            seen.last_ms = ms(self.last.get());
            let code = u16::try_from(self.last_error.get()).unwrap_or(0);
            seen.last_error = Some(code).filter(|c| *c != 0).or(seen.last_error);
        }
        seen.as_text += self.as_text.get();
        seen.prepared += self.prepared.get();
        seen.bulk += self.bulk.get();
        seen.refused += self.refused.get();
        if let (None, Some(d)) = (&seen.example, &self.described) {
            seen.example = d.example.as_deref().map(str::to_owned);
        }
        for (store, part) in self.parts.iter().enumerate() {
            let Some(part) = part.get() else { continue };
            let sums = seen.stores.entry(u16::try_from(store).unwrap_or(0)).or_default();
            sums.calls += part.calls.get();
            sums.errors += part.errors.get();
            sums.micros += part.micros.get();
            sums.longest_micros = sums.longest_micros.max(part.longest.get());
            sums.rows += part.rows.get();
            sums.affected += part.affected.get();
            sums.bytes += part.bytes.get();
            part.latencies.add_to(&mut sums.classes);
        }
    }

    /// An empty sum for it.
    pub(super) fn seen(&self) -> Seen {
        let Some(d) = &self.described else { return Seen::default() };
        Seen {
            id: d.id(),
            text: d.askable.text.clone(),
            whole: d.askable.whole,
            dialect: d.dialect,
            statements: d.statements.clone(),
            database: self.database.as_deref().map(str::to_owned),
            ..Seen::default()
        }
    }

    pub(super) fn described(&self) -> Option<&Arc<Described>> {
        self.described.as_ref()
    }
}

/// A statement's figures, summed over cores.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its fingerprint; holds for one process.
    pub id: String,
    /// Its text without literals, as [`mod@crate::sql::askable`] writes it.
    pub text: String,
    /// Whether the text is all of it.
    pub whole: bool,
    /// How it was read.
    pub dialect: Dialect,
    /// The facts of each of its statements.
    pub statements: Box<[Arc<Facts>]>,
    /// The session's database.
    pub database: Option<String>,
    /// Its first text, where examples are kept.
    pub example: Option<String>,
    /// Executions as text.
    pub as_text: u64,
    /// Executions of what was prepared.
    pub prepared: u64,
    /// Bulk executions.
    pub bulk: u64,
    /// Times that the proxy refused it.
    pub refused: u64,
    /// The newest error's code.
    pub last_error: Option<u16>,
    /// Milliseconds since 1970.
    pub first_ms: u64,
    /// Milliseconds since 1970.
    pub last_ms: u64,
    /// By index of the store.
    pub stores: BTreeMap<u16, Served>,
}

/// What one store did of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    /// Answers.
    pub calls: u64,
    /// Of them errors.
    pub errors: u64,
    /// Their time together, µs.
    pub micros: u64,
    /// The longest, µs.
    pub longest_micros: u64,
    /// Rows of result sets that passed with them.
    pub rows: u64,
    /// Rows that their last OK says were changed.
    pub affected: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Answers by class of latency, for [`super::quantile`].
    pub classes: Vec<u64>,
}
