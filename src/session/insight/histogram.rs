//! Latencies in classes: eight to every doubling, so that a quantile is within 6.25 % of the truth. Of whole microseconds; below eight
//! each has a class of its own.

use std::sync::atomic::{AtomicU32, Ordering};

/// Classes: the last begins at 4 minutes and takes what is longer.
pub(super) const CLASSES: usize = 208;

/// A histogram with one writer.
#[derive(Debug)]
pub(super) struct Histogram([AtomicU32; CLASSES]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([const { AtomicU32::new(0) }; CLASSES])
    }
}

/// The class of a latency in µs.
fn class(micros: u64) -> usize {
    if micros < 8 {
        return usize::try_from(micros).unwrap_or(0);
    }
    let doublings = 63 - micros.leading_zeros();
    let eighth = (micros >> (doublings - 3)) & 7;
    let class = u64::from(doublings - 2) * 8 + eighth;
    usize::try_from(class).unwrap_or(CLASSES).min(CLASSES - 1)
}

/// The middle of a class, µs.
fn middle(class: usize) -> f64 {
    let Ok(class) = u32::try_from(class) else { return 0.0 };
    if class < 8 {
        return f64::from(class);
    }
    let width = f64::from(2_u32.saturating_pow(class / 8 - 1));
    width * (f64::from(8 + class % 8) + 0.5)
}

impl Histogram {
    /// One more.
    pub(super) fn add(&self, micros: u64) {
        if let Some(count) = self.0.get(class(micros)) {
            // (four thousand million of one class: the others still count)
            count.store(count.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
    }

    /// What another has too.
    pub(super) fn take_in(&self, other: &Histogram) {
        for (mine, theirs) in self.0.iter().zip(&other.0) {
            let sum = mine.load(Ordering::Relaxed).saturating_add(theirs.load(Ordering::Relaxed));
            mine.store(sum, Ordering::Relaxed);
        }
    }

    /// Adds it to sums by class.
    pub(super) fn add_to(&self, sums: &mut Vec<u64>) {
        sums.resize(CLASSES, 0);
        for (sum, count) in sums.iter_mut().zip(&self.0) {
            *sum += u64::from(count.load(Ordering::Relaxed));
        }
    }
}

/// The latency, µs, that this share (0 … 1) of the queries did not exceed, from sums by class; 0 of none.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rank among counts that are far below 2^53"
)]
pub fn quantile(classes: &[u64], share: f64) -> f64 {
    let all: u64 = classes.iter().sum();
    let rank = ((all as f64 * share).ceil() as u64).clamp(1, all.max(1));
    let mut passed = 0;
    for (class, count) in classes.iter().enumerate() {
        passed += count;
        if passed >= rank {
            return middle(class);
        }
    }
    0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_one_another_without_a_gap() {
        let mut before = 0;
        for micros in 0..1_000_000 {
            let now = class(micros);
            assert!(now == before || now == before + 1, "{micros}");
            before = now;
            if micros > 0 {
                let off = (middle(now) - micros as f64).abs() / micros as f64;
                assert!(off <= 0.0626, "{micros}: {off}");
            }
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
    }

    #[test]
    fn quantiles_of_known_latencies() {
        let histogram = Histogram::default();
        (1..=10_000).for_each(|n| histogram.add(n));
        let mut sums = Vec::new();
        histogram.add_to(&mut sums);
        for (share, truth) in [(0.5, 5_000.0), (0.95, 9_500.0), (0.99, 9_900.0)] {
            let found = quantile(&sums, share);
            assert!((found - truth).abs() / truth < 0.07, "{share}: {found}");
        }
        assert_eq!(quantile(&[], 0.5), 0.0);
        let other = Histogram::default();
        other.take_in(&histogram);
        other.take_in(&histogram);
        let mut twice = Vec::new();
        other.add_to(&mut twice);
        assert_eq!(twice.iter().sum::<u64>(), 20_000);
    }
}
