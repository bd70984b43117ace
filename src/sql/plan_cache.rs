//! Fingerprint → what was found out about the statement: bounded in bytes, one per core, nothing shared.
//!
//! A clock (second chance) rather than a list: a hit is one look-up and one store of a flag, and allocates nothing.

use std::hash::{BuildHasherDefault, Hasher};

use hashbrown::HashMap;

use super::fingerprint::Fingerprint;

/// Bytes that an entry takes beside the weight its owner names.
const OVERHEAD: usize = 96;

/// A bounded map from [`Fingerprint`] to `V`.
#[derive(Debug)]
pub struct PlanCache<V> {
    index: HashMap<Fingerprint, usize, BuildHasherDefault<AlreadyHashed>>,
    slots: Vec<Slot<V>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Slot<V> {
    entry: Option<(Fingerprint, V)>,
    weight: usize,
    used: bool,
}

impl<V> PlanCache<V> {
    /// An empty cache of at most `bytes` bytes, as entries declare them; 0 keeps nothing.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        PlanCache { index: HashMap::default(), slots: Vec::new(), free: Vec::new(), hand: 0, bytes: 0, limit: bytes }
    }

    /// What is kept under `key`. Does not allocate.
    #[inline]
    pub fn get(&mut self, key: Fingerprint) -> Option<&V> {
        let slot = self.slots.get_mut(*self.index.get(&key)?)?;
        slot.used = true;
        slot.entry.as_ref().map(|(_, value)| value)
    }

    /// Keeps `value`, of `weight` bytes, and drops what was not used lately until it fits.
    ///
    /// An entry that is larger than an eighth of the cache is not kept.
    pub fn insert(&mut self, key: Fingerprint, value: V, weight: usize) {
        self.remove(key);
        let weight = weight.saturating_add(OVERHEAD);
        if weight > self.limit / 8 {
            return;
        }
        while self.bytes + weight > self.limit && self.evict_one() {}
        let slot = Slot { entry: Some((key, value)), weight, used: false };
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.slots.get_mut(at) {
                    *place = slot;
                }
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.index.insert(key, at);
        self.bytes += weight;
    }

    /// Drops everything, as a new snapshot may ask.
    pub fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.free.clear();
        (self.hand, self.bytes) = (0, 0);
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True when nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes in use, as entries declared them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn remove(&mut self, key: Fingerprint) {
        if let Some(at) = self.index.remove(&key) {
            self.empty_slot(at);
        }
    }

    fn empty_slot(&mut self, at: usize) -> Option<Fingerprint> {
        let slot = self.slots.get_mut(at)?;
        let (key, _) = slot.entry.take()?;
        self.bytes -= slot.weight;
        self.free.push(at);
        Some(key)
    }

    /// Drops the first entry that the hand finds unused since it last passed.
    fn evict_one(&mut self) -> bool {
        for _ in 0..=2 * self.slots.len() {
            let at = self.hand;
            self.hand = if at + 1 < self.slots.len() { at + 1 } else { 0 };
            let Some(slot) = self.slots.get_mut(at) else { return false };
            if std::mem::take(&mut slot.used) {
                continue;
            }
            if let Some(key) = self.empty_slot(at) {
                self.index.remove(&key);
                return true;
            }
        }
        false
    }
}

/// A fingerprint is a hash already.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*b);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "any 64 bits of the fingerprint will do")]
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used() {
        let mut cache = PlanCache::new(10 * (OVERHEAD + 4));
        for n in 0..10u32 {
            cache.insert(Fingerprint(u128::from(n)), n, 4);
        }
        assert_eq!((cache.len(), cache.bytes()), (10, 10 * (OVERHEAD + 4)));
        assert_eq!(cache.get(Fingerprint(0)), Some(&0));
        cache.insert(Fingerprint(10), 10, 4);
        assert_eq!(cache.get(Fingerprint(0)), Some(&0));
        assert_eq!(cache.get(Fingerprint(1)), None);
        assert_eq!(cache.len(), 10);
        cache.insert(Fingerprint(10), 11, 4);
        assert_eq!(cache.get(Fingerprint(10)), Some(&11));
        assert_eq!(cache.len(), 10);
        cache.clear();
        assert!(cache.is_empty() && cache.bytes() == 0);
    }

    #[test]
    fn never_above_its_limit() {
        let mut cache = PlanCache::new(10_000);
        for n in 0..10_000u32 {
            cache.insert(Fingerprint(u128::from(n % 700)), n, n as usize % 1500);
            let _ = cache.get(Fingerprint(u128::from(n % 13)));
            assert!(cache.bytes() <= 10_000);
        }
        assert!(!cache.is_empty());
        let mut none = PlanCache::new(0);
        none.insert(Fingerprint(1), 1, 0);
        assert!(none.is_empty());
    }
}
