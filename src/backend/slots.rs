//! How many pooled connections a store has, over all cores, and which sessions wait for one, in order.
//!
//! A [`Slot`] is a right to one connection; it is given back when its connection is dropped, and whoever waits longest is
//! woken. Cores share nothing else of the pool: an idle connection on one core is closed for a session that waits on another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A store's slots.
#[derive(Debug, Default)]
pub struct Slots {
    /// Connections that are open, or about to be.
    open: AtomicU32,
    /// The length of `queue`: read without its lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    places: BTreeMap<u64, Arc<Notify>>,
}

/// A right to one connection.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

/// A place in the queue of those that wait; left when dropped.
#[derive(Debug)]
pub struct Place {
    slots: Arc<Slots>,
    id: u64,
    woken: Arc<Notify>,
}

impl Slots {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot, if fewer than `limit` are taken.
    #[must_use]
    pub fn try_take(self: &Arc<Self>, limit: u32) -> Option<Slot> {
        let below = |n: u32| (n < limit).then_some(n + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Slot(Arc::clone(self)))
    }

    /// Takes a slot beyond the limit: for a session that holds a lease of another store, and so must not wait.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Slot {
        self.open.fetch_add(1, Ordering::Relaxed);
        Slot(Arc::clone(self))
    }

    /// Connections that are open, or about to be.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many sessions wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Joins the queue, at its end.
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Place {
        let woken = Arc::new(Notify::new());
        let mut queue = self.queue();
        let id = queue.next;
        queue.next += 1;
        queue.places.insert(id, Arc::clone(&woken));
        self.waiting.store(queue.places.len(), Ordering::Relaxed);
        drop(queue);
        Place { slots: Arc::clone(self), id, woken }
    }

    /// Tells the session that waits longest to look again.
    pub fn wake_first(&self) {
        if self.waiting() > 0
            && let Some((_, first)) = self.queue().places.first_key_value()
        {
            first.notify_one();
        }
    }
}

impl Place {
    /// Whether nobody has waited longer.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.slots.queue().places.first_key_value().is_some_and(|(id, _)| *id == self.id)
    }

    /// Waits until there may be something for it.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.slots.queue();
        queue.places.remove(&self.id);
        self.slots.waiting.store(queue.places.len(), Ordering::Relaxed);
        drop(queue);
        // what it did not take may be for the next one
        self.slots.wake_first();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_bounded_and_given_back() {
        let slots = Arc::new(Slots::default());
        let first = slots.try_take(1);
        assert!(first.is_some());
        assert!(slots.try_take(1).is_none());
        let beyond = slots.take();
        assert_eq!(slots.open(), 2);
        drop((first, beyond));
        assert!(slots.try_take(1).is_some());
    }

    #[tokio::test]
    async fn who_waits_longest_is_woken_first() {
        let slots = Arc::new(Slots::default());
        let slot = slots.try_take(1);
        let (a, b) = (slots.join(), slots.join());
        assert!(a.is_first() && !b.is_first());
        drop(slot);
        a.woken().await;
        drop(a);
        // a took nothing: it is b's turn
        b.woken().await;
        assert!(b.is_first());
        assert_eq!(slots.waiting(), 1);
    }
}
