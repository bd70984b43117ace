//! Questions of sessions to whoever watches a group: is a store sealed? Has the one that says "no such table" been sealed by `rename`?
//!
//! Only the control account can tell, and many sessions ask at once: the watcher looks once for all that have asked by then.
//!
//! Not every statement hears of a seal (SHOW CREATE TABLE shows the view that has the table's name; triggers refuse no DDL), and not
//! every one can be routed again when it does (CALL, a client's file). Those ask before they run, where the watcher has not looked for
//! so long that a cutover may not have waited for this proxy: it was suspended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A watcher that has not looked for so long was suspended. A cutover waits for a proxy that was heard of within three seconds.
const SUSPENDED: Duration = Duration::from_secs(2);

/// How a store was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Tables of the group are away: it is sealed by `rename`.
    pub away: bool,
    /// It is not the group's open authority: it is sealed, or about to be.
    pub sealed: bool,
}

/// What was found at a store: behind which question it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    store: String,
    number: u64,
    found: Found,
}

/// The questions of one group.
#[derive(Debug)]
pub struct Moved {
    may: AtomicBool,
    asked: AtomicU64,
    answers: watch::Sender<Vec<Answer>>,
    /// When the watcher had looked, and done what follows, last: milliseconds since `begun`.
    watched: AtomicU64,
    begun: Instant,
}

impl Default for Moved {
    fn default() -> Moved {
        Moved {
            may: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            answers: watch::Sender::new(Vec::new()),
            watched: AtomicU64::new(0),
            begun: Instant::now(),
        }
    }
}

impl Moved {
    /// Whether a store of the group may be sealed so. Where none may, nobody asks.
    #[must_use]
    pub fn may(&self) -> bool {
        self.may.load(Ordering::Relaxed)
    }

    /// One may.
    pub fn allow(&self) {
        self.may.store(true, Ordering::Relaxed);
    }

    /// The watcher has looked, and what it saw is routed by.
    pub fn was_watched(&self) {
        self.watched.store(self.age(), Ordering::SeqCst);
    }

    fn age(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether a cutover may have gone by without this proxy.
    #[must_use]
    pub fn may_have_slept(&self) -> bool {
        let since = self.age().saturating_sub(self.watched.load(Ordering::SeqCst));
        since > u64::try_from(SUSPENDED.as_millis()).unwrap_or(u64::MAX)
    }

    /// A new question.
    pub(super) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The newest question.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Whether a store has been looked at since the newest question.
    #[must_use]
    pub fn is_answered(&self, store: &str) -> bool {
        self.answers.borrow().iter().any(|a| a.store == store && a.number >= self.asked())
    }

    /// What a look that began behind question `number` has found.
    pub fn answer(&self, store: &str, number: u64, found: Found) {
        self.answers.send_modify(|answers| {
            answers.retain(|a| a.store != store);
            answers.push(Answer { store: store.to_owned(), number, found });
        });
    }

    /// The answer to a question; none, where there is none by `deadline`.
    pub(super) async fn settled(&self, store: &str, number: u64, deadline: Instant) -> Option<Found> {
        let mut answers = self.answers.subscribe();
        loop {
            let known =
                answers.borrow_and_update().iter().find(|a| a.store == store && a.number >= number).map(|a| a.found);
            if known.is_some() {
                return known;
            }
            timeout_at(deadline, answers.changed()).await.ok()?.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn who_was_suspended_is_told_by_the_clock() {
        let begun = |ago: Duration| Moved { begun: Instant::now().checked_sub(ago).unwrap(), ..Moved::default() };
        assert!(!begun(SUSPENDED / 2).may_have_slept());
        let moved = begun(SUSPENDED * 2);
        assert!(moved.may_have_slept());
        moved.was_watched();
        assert!(!moved.may_have_slept());
    }

    #[tokio::test]
    async fn only_a_look_behind_the_question_answers_it() {
        let moved = Arc::new(Moved::default());
        let soon = || Instant::now() + Duration::from_millis(50);
        let (gone, open) = (Found { away: true, sealed: true }, Found { away: false, sealed: false });
        let first = moved.ask();
        assert!(!moved.is_answered("old"));
        moved.answer("old", moved.asked(), gone);
        assert_eq!(moved.settled("old", first, soon()).await, Some(gone));
        assert_eq!(moved.settled("new", first, soon()).await, None);
        let second = moved.ask();
        assert!(!moved.is_answered("old"));
        let waits = tokio::spawn({
            let moved = Arc::clone(&moved);
            async move { moved.settled("old", second, Instant::now() + Duration::from_secs(9)).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        moved.answer("old", first, gone);
        moved.answer("old", second, open);
        assert_eq!(waits.await.unwrap(), Some(open));
        assert!(moved.is_answered("old"));
    }
}
