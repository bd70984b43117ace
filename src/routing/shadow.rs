//! Shadow reads on their way from a session to the one who compares them: a bounded queue that drops and counts, so that no client
//! ever waits, and the sampling that decides which reads go there.
//!
//! A session offers a read after its answer has reached the client; `transfer::shadow` takes it from here.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::backend::StoreHandle;
use crate::sql::dialect::Dialect;

/// Reads that wait; more are dropped.
const WAITING: usize = 256;
/// Bytes of a statement that is compared.
pub const LARGEST: usize = 64 << 10;
/// Groups whose counts are kept.
const GROUPS: usize = 1_000;

/// A read that was answered, and is to run again on both stores.
#[derive(Debug)]
pub struct Read {
    /// The group of its tables.
    pub group: String,
    /// Its text, with its literals.
    pub text: Vec<u8>,
    /// How that is read.
    pub dialect: Dialect,
    /// The session's database.
    pub database: Option<String>,
    /// It names every table with its database: it needs no current one.
    pub qualified: bool,
    /// Assignments of a SET, by which the session's answer comes about; none where these are not known: it is not to be compared.
    pub settings: Option<Vec<String>>,
    /// The store whose global settings are the session's own where it has set nothing.
    pub home: Arc<StoreHandle>,
    /// The store that answered.
    pub serving: Arc<StoreHandle>,
    /// The other one.
    pub shadow: Arc<StoreHandle>,
    /// Whether values of a difference may be shown.
    pub examples: bool,
}

/// What became of a group's sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offered {
    /// Reads in the sample.
    pub offered: u64,
    /// Of them, those for which the queue had no room.
    pub dropped: u64,
}

/// The queue.
#[derive(Debug)]
pub struct Shadows {
    sender: mpsc::Sender<Read>,
    receiver: Mutex<Option<mpsc::Receiver<Read>>>,
    counts: Mutex<BTreeMap<String, Offered>>,
}

impl Default for Shadows {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Shadows { sender, receiver: Mutex::new(Some(receiver)), counts: Mutex::default() }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shadows {
    /// Puts a read into the queue, or counts it as dropped where that is full: it never waits.
    pub fn offer(&self, read: Read) {
        let group = read.group.clone();
        let dropped = self.sender.try_send(read).is_err();
        let mut counts = lock(&self.counts);
        if !counts.contains_key(&group) && counts.len() >= GROUPS {
            return;
        }
        let counts = counts.entry(group).or_default();
        counts.offered += 1;
        counts.dropped += u64::from(dropped);
    }

    /// The queue's other end, for the first who asks.
    #[must_use]
    pub fn take_reads(&self) -> Option<mpsc::Receiver<Read>> {
        lock(&self.receiver).take()
    }

    /// What became of the sample, by group.
    #[must_use]
    pub fn offered(&self) -> BTreeMap<String, Offered> {
        lock(&self.counts).clone()
    }
}

/// Parts of a million: what a share of samples is counted in.
pub const MILLION: u32 = 1_000_000;

/// One core's dice.
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Default for Dice {
    fn default() -> Self {
        Dice(Cell::new(RandomState::new().hash_one(1u8) | 1))
    }
}

impl Dice {
    /// True for so many of a million throws.
    pub fn hit(&self, of_a_million: u32) -> bool {
        // xorshift64* (Vigna 2016)
        let mut x = self.0.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0.set(x);
        let thrown = ((x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) * u64::from(MILLION)) >> 32;
        thrown < u64::from(of_a_million)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Arc<StoreHandle> {
        let config = crate::routing::testing::config(Vec::new());
        Arc::new(StoreHandle::new(config.stores[0].clone()).unwrap())
    }

    fn read(store: &Arc<StoreHandle>) -> Read {
        Read {
            group: "g".to_owned(),
            text: b"SELECT 1".to_vec(),
            dialect: Dialect::default(),
            database: None,
            qualified: false,
            settings: Some(Vec::new()),
            home: Arc::clone(store),
            serving: Arc::clone(store),
            shadow: Arc::clone(store),
            examples: false,
        }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let (shadows, store) = (Shadows::default(), store());
        for _ in 0..300 {
            shadows.offer(read(&store));
        }
        assert_eq!(shadows.offered()["g"], Offered { offered: 300, dropped: 44 });
        let mut reads = shadows.take_reads().unwrap();
        assert!(shadows.take_reads().is_none());
        assert!(reads.try_recv().is_ok());
        shadows.offer(read(&store));
        assert_eq!(shadows.offered()["g"], Offered { offered: 301, dropped: 44 });
    }

    #[test]
    fn the_dice_keep_to_their_share() {
        let dice = Dice::default();
        for share in [0, 1_000, 50_000, 500_000, MILLION] {
            let hits = (0..200_000).filter(|_| dice.hit(share)).count() as f64 / 200_000.0;
            let wanted = f64::from(share) / f64::from(MILLION);
            // (five standard deviations)
            let off = 5.0 * (wanted * (1.0 - wanted) / 200_000.0).sqrt();
            assert!((hits - wanted).abs() <= off, "{share}: {hits}");
        }
    }
}
