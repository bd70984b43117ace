//! A core's digests: so many at most. Of more, one that was not used of late goes, and its figures into `others`, so that sums stay
//! exact.
//!
//! The core alone adds and drops; its lock is for readers, who hold it while they add up.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::digest::{Described, Digest, Seen};
use crate::sql::Fingerprint;

type Key = (Fingerprint, u64);

/// One core's digests.
#[derive(Debug)]
pub struct Digests {
    table: Mutex<Table>,
    /// What times are counted from.
    base: Instant,
    /// The same, in milliseconds since 1970.
    base_ms: u64,
}

#[derive(Debug, Default)]
struct Table {
    index: HashMap<Key, usize>,
    slots: Vec<Slot>,
    hand: usize,
    others: Arc<Digest>,
    dropped: u64,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    digest: Arc<Digest>,
    /// Its uses when the hand passed last.
    uses: u64,
}

impl Default for Digests {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Digests {
            table: Mutex::default(),
            base: Instant::now(),
            base_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

fn hash(database: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    database.hash(&mut hasher);
    hasher.finish()
}

impl Digests {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment as digests note it.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_micros()).unwrap_or(u64::MAX)
    }

    /// The digest of a statement in a database; made where there is none, in the place of others where there are `limit`.
    pub(super) fn of(
        &self,
        described: &Arc<Described>,
        database: Option<&str>,
        limit: usize,
        now: Instant,
    ) -> Arc<Digest> {
        let now = self.micros(now);
        let key = (described.print, hash(database));
        let mut table = self.lock();
        if let Some(slot) = table.index.get(&key).and_then(|at| table.slots.get(*at)) {
            return Arc::clone(&slot.digest);
        }
        while table.slots.len() >= limit.max(1) {
            table.drop_one();
        }
        let digest = Arc::new(Digest::new(Arc::clone(described), database, now));
        let at = table.slots.len();
        table.slots.push(Slot { key, digest: Arc::clone(&digest), uses: u64::MAX });
        table.index.insert(key, at);
        digest
    }

    /// Begins anew.
    pub fn reset(&self) {
        let mut table = self.lock();
        table.slots.iter().for_each(|slot| slot.digest.go());
        *table = Table::default();
    }

    /// Adds its digests to those of other cores.
    fn add_to(&self, all: &mut Everything) {
        let table = self.lock();
        for Slot { digest, .. } in &table.slots {
            let Some(described) = digest.described() else { continue };
            let key = (described.print, digest.database.clone());
            let seen = all.by_key.entry(key).or_insert_with(|| digest.seen());
            digest.add_to(seen, self.base_ms);
        }
        if table.dropped > 0 {
            table.others.add_to(&mut all.others, self.base_ms);
        }
        all.dropped += table.dropped;
    }
}

impl Table {
    /// Drops the first that was not used since the hand passed it last; where all were, the one that was so longest ago.
    fn drop_one(&mut self) {
        let (mut at, mut oldest) = (self.hand, (u64::MAX, 0));
        for _ in 0..self.slots.len() {
            at = if at < self.slots.len() { at } else { 0 };
            let Some(slot) = self.slots.get_mut(at) else { return };
            let uses = slot.digest.uses();
            // (one that has just come in has not been counted yet)
            if std::mem::replace(&mut slot.uses, uses) == uses {
                oldest = (0, at);
                break;
            }
            oldest = oldest.min((slot.digest.last(), at));
            at += 1;
        }
        let at = oldest.1;
        self.hand = at;
        let Some(slot) = self.slots.get(at) else { return };
        slot.digest.go();
        self.others.take_in(&slot.digest);
        self.index.remove(&slot.key);
        self.slots.swap_remove(at);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.key, at);
        }
        self.dropped += 1;
    }
}

/// The digests of all cores.
#[derive(Debug, Clone, Default)]
pub struct Everything {
    by_key: HashMap<(Fingerprint, Option<Box<str>>), Seen>,
    /// The figures of those that had to go.
    pub others: Seen,
    /// How many had to go.
    pub dropped: u64,
}

impl Everything {
    /// Adds up the cores.
    pub fn sum<'a>(cores: impl IntoIterator<Item = &'a Digests>) -> Everything {
        let mut all = Everything::default();
        cores.into_iter().for_each(|core| core.add_to(&mut all));
        all
    }

    /// Each statement, in no order.
    pub fn into_seen(self) -> impl Iterator<Item = Seen> {
        self.by_key.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Came;
    use super::super::digest::Answer;
    use super::*;
    use crate::sql::dialect::Dialect;
    use crate::sql::{analyze, fingerprint};

    fn described(sql: &str) -> Arc<Described> {
        let dialect = Dialect::default();
        let analysis = analyze(sql.as_bytes(), &dialect);
        Arc::new(Described::new(fingerprint(sql.as_bytes(), &dialect), sql.as_bytes(), &dialect, &analysis, true))
    }

    fn answer(store: u16, micros: u64) -> Answer {
        Answer { store, micros, rows: 2, affected: 1, bytes: 100, error: None, at: micros }
    }

    #[test]
    fn cores_and_databases_are_told_apart_and_added_up() {
        let cores = [Digests::default(), Digests::default()];
        let now = Instant::now();
        let sql = described("SELECT a FROM t WHERE b = 7");
        for core in &cores {
            core.of(&sql, Some("x"), 10, now).answered(Came::Text, &answer(0, 10));
            core.of(&sql, Some("x"), 10, now).answered(Came::Prepared, &answer(1, 20));
        }
        cores[1].of(&sql, Some("y"), 10, now).answered(Came::Bulk, &Answer { error: Some(1062), ..answer(0, 1) });
        cores[1].of(&sql, Some("y"), 10, now).refused(1235, 9);
        let mut seen: Vec<Seen> = Everything::sum(&cores).into_seen().collect();
        seen.sort_by_key(|s| s.database.clone());
        let [x, y] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((x.as_text, x.prepared, x.bulk, x.refused), (2, 2, 0, 0));
        assert_eq!(
            (x.text.as_str(), x.example.as_deref()),
            ("SELECT a FROM t WHERE b = ?", Some("SELECT a FROM t WHERE b = 7"))
        );
        let Served { calls, micros, rows, affected, bytes, .. } = x.stores[&1];
        assert_eq!((calls, micros, rows, affected, bytes), (2, 40, 4, 2, 200));
        assert_eq!((y.bulk, y.refused, y.last_error, y.stores[&0].errors), (1, 1, Some(1235), 1));
        cores[1].reset();
        assert_eq!(Everything::sum(&cores).into_seen().map(|s| s.as_text).sum::<u64>(), 1);
    }

    use super::super::Served;

    #[test]
    fn what_is_too_much_is_added_up_and_nothing_is_lost() {
        let core = Digests::default();
        let now = Instant::now();
        let hot = described("SELECT hot");
        let kept = core.of(&hot, None, 10, now);
        for n in 0..1_000 {
            let digest = core.of(&described(&format!("SELECT c{n} FROM t")), None, 10, now);
            digest.answered(Came::Text, &answer(0, n));
            kept.answered(Came::Text, &answer(1, n + 1));
        }
        assert!(!kept.is_gone(), "what is used all the time must stay");
        let all = Everything::sum([&core]);
        assert_eq!(all.dropped, 991);
        let (dropped, others) = (all.dropped, all.others.clone());
        let seen: Vec<Seen> = all.into_seen().collect();
        assert_eq!(seen.len(), 10);
        let calls: u64 = seen.iter().chain([&others]).map(|s| s.as_text).sum();
        assert_eq!(calls, 2_000);
        let micros: u64 = seen.iter().chain([&others]).filter_map(|s| s.stores.get(&0)).map(|s| s.micros).sum();
        assert_eq!(micros, (0..1_000).sum::<u64>());
        assert_eq!(others.as_text, dropped);
    }

    #[test]
    fn a_smaller_limit_holds_from_the_next_new_statement_on() {
        let core = Digests::default();
        let now = Instant::now();
        for n in 0..50 {
            core.of(&described(&format!("SELECT c{n}")), None, 50, now);
        }
        core.of(&described("SELECT more"), None, 5, now);
        assert_eq!(Everything::sum([&core]).into_seen().count(), 5);
    }
}
