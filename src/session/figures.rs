//! Counters that the hot path may touch: one set per core, written by that core alone, read by anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::insight::Digests;
use crate::sql::Kind;

/// Stores whose figures are kept apart; those of higher index share the last place.
const STORES: usize = 16;
/// Latency classes: class n holds queries of less than 2^n µs.
const CLASSES: usize = 28;

/// A counter with one writer: no locked instruction is needed.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct StoreCounts {
    queries: Count,
    errors: Count,
    micros: Count,
    classes: [Count; CLASSES],
}

/// What kind of statement took its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// It reads.
    Read,
    /// It writes.
    Write,
    /// Everything else: transaction control, DDL, SET, SHOW, prepares.
    Other,
}

impl Sort {
    /// All of them, in the order in which figures are kept.
    pub const ALL: [Sort; 3] = [Sort::Read, Sort::Write, Sort::Other];

    /// The sort of a statement.
    #[must_use]
    pub fn of(kind: &Kind) -> Sort {
        match kind {
            Kind::Read => Sort::Read,
            Kind::Write => Sort::Write,
            _ => Sort::Other,
        }
    }

    /// As labels name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Sort::Read => "read",
            Sort::Write => "write",
            Sort::Other => "other",
        }
    }
}

/// One core's counters.
#[derive(Debug, Default)]
pub struct CoreFigures {
    stores: [[StoreCounts; Sort::ALL.len()]; STORES],
    plan_hits: Count,
    plan_misses: Count,
    refused: Count,
    logins: Count,
    login_failures: Count,
    /// Sessions on this core now; the listener reads it to choose the least-loaded core, and writes it too.
    pub sessions: AtomicU64,
    /// Figures by statement.
    pub digests: Digests,
}

impl CoreFigures {
    /// One statement was answered by a store.
    pub fn query(&self, store: u16, sort: Sort, took: Duration, failed: bool) {
        let at = usize::from(store).min(STORES - 1);
        let Some(s) = self.stores.get(at).and_then(|sorts| sorts.get(sort as usize)) else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        s.queries.add(1);
        s.micros.add(micros);
        if failed {
            s.errors.add(1);
        }
        let class = usize::try_from(64 - micros.leading_zeros()).unwrap_or(0).min(CLASSES - 1);
        if let Some(c) = s.classes.get(class) {
            c.add(1);
        }
    }

    /// The plan cache was asked.
    pub fn plan(&self, hit: bool) {
        if hit { self.plan_hits.add(1) } else { self.plan_misses.add(1) }
    }

    /// A statement was refused by the proxy.
    pub fn refused(&self) {
        self.refused.add(1);
    }

    /// A login ended.
    pub fn login(&self, good: bool) {
        if good { self.logins.add(1) } else { self.login_failures.add(1) }
    }
}

/// Sums over cores, for one store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFigures {
    /// Statements answered.
    pub queries: u64,
    /// Of them with an error.
    pub errors: u64,
    /// Their time together, µs.
    pub micros: u64,
    /// Statements by latency class: class n took less than 2^n µs.
    pub classes: Vec<u64>,
}

impl StoreFigures {
    fn add(&mut self, counts: &StoreCounts) {
        self.queries += counts.queries.get();
        self.errors += counts.errors.get();
        self.micros += counts.micros.get();
        self.classes.resize(CLASSES, 0);
        for (sum, count) in self.classes.iter_mut().zip(&counts.classes) {
            *sum += count.get();
        }
    }
}

/// Sums over cores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// By store index.
    pub stores: Vec<StoreFigures>,
    /// The same by [`Sort::ALL`].
    pub sorts: Vec<[StoreFigures; Sort::ALL.len()]>,
    /// Plan-cache hits.
    pub plan_hits: u64,
    /// Plan-cache misses.
    pub plan_misses: u64,
    /// Statements refused by the proxy.
    pub refused: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Sessions now.
    pub sessions: u64,
}

impl Figures {
    /// Adds up the cores.
    #[must_use]
    pub fn sum(cores: &[Arc<CoreFigures>]) -> Figures {
        let mut out = Figures {
            stores: vec![StoreFigures::default(); STORES],
            sorts: vec![Default::default(); STORES],
            ..Figures::default()
        };
        for core in cores {
            for ((store, sorts), counted) in out.stores.iter_mut().zip(&mut out.sorts).zip(&core.stores) {
                for (sort, counts) in sorts.iter_mut().zip(counted) {
                    sort.add(counts);
                    store.add(counts);
                }
            }
            out.plan_hits += core.plan_hits.get();
            out.plan_misses += core.plan_misses.get();
            out.refused += core.refused.get();
            out.logins += core.logins.get();
            out.login_failures += core.login_failures.get();
            out.sessions += core.sessions.load(Ordering::Relaxed);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_added_up() {
        let cores = [Arc::new(CoreFigures::default()), Arc::new(CoreFigures::default())];
        cores[0].query(0, Sort::Read, Duration::from_micros(3), false);
        cores[1].query(0, Sort::Write, Duration::from_micros(3), true);
        cores[1].query(99, Sort::Other, Duration::from_secs(10_000), true);
        let sum = Figures::sum(&cores);
        assert_eq!((sum.stores[0].queries, sum.stores[0].errors, sum.stores[0].micros), (2, 1, 6));
        assert_eq!(sum.stores[0].classes[2], 2);
        assert_eq!(sum.stores[STORES - 1].queries, 1);
        let by_sort: Vec<(u64, u64)> = sum.sorts[0].iter().map(|s| (s.queries, s.errors)).collect();
        assert_eq!(by_sort, [(1, 0), (1, 1), (0, 0)]);
    }
}
