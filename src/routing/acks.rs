//! Acknowledgements of a group that wait for its standby (`ack: standby`): sessions ask for them, and `standby::acks` settles them.
//!
//! This process's own applier, where it is the one that applies, says here how far it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::backend::StoreHandle;
use crate::entry::Position;

/// Acknowledgements that wait for the standby, numbered; they are settled in order.
#[derive(Debug)]
pub struct Acks {
    asked: AtomicU64,
    wanted: Notify,
    done: watch::Sender<u64>,
    /// The standby is not waited for, or nothing is written at all: see [`Standby`].
    standby: AtomicU8,
    /// Numbers up to this one were committed on an authority that was given up: nobody knows what became of them.
    void: AtomicU64,
    /// Writes that were acknowledged by the authority alone, since the start.
    alone: AtomicU64,
    /// Where the own applier is.
    applied: watch::Sender<Option<Applied>>,
}

/// How far an applier is.
#[derive(Debug, Clone)]
pub struct Applied {
    /// Whose log it reads.
    pub from: Arc<StoreHandle>,
    /// Where it applies it.
    pub to: Arc<StoreHandle>,
    /// In which epoch that store is the standby.
    pub epoch: u64,
    /// What the group has before this place of the log is there, durably.
    pub position: Position,
}

/// How the standby is, for acknowledgements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standby {
    /// It is waited for.
    Follows,
    /// It is away, and writes are acknowledged without it (`fallback: manual`).
    Degraded,
    /// It is away, and writes are refused (`fallback: auto`).
    Away,
}

impl Acks {
    /// Nobody has asked.
    pub(super) fn new() -> Acks {
        Acks {
            asked: AtomicU64::new(0),
            wanted: Notify::new(),
            done: watch::Sender::new(0),
            standby: AtomicU8::new(0),
            void: AtomicU64::new(0),
            alone: AtomicU64::new(0),
            applied: watch::Sender::new(None),
        }
    }

    /// How the standby is.
    #[must_use]
    pub fn standby(&self) -> Standby {
        match self.standby.load(Ordering::Relaxed) {
            0 => Standby::Follows,
            1 => Standby::Degraded,
            _ => Standby::Away,
        }
    }

    /// Says how the standby is; whether that is news.
    pub fn set_standby(&self, standby: Standby) -> bool {
        let number = match standby {
            Standby::Follows => 0,
            Standby::Degraded => 1,
            Standby::Away => 2,
        };
        self.standby.swap(number, Ordering::Relaxed) != number
    }

    /// A number for what was committed before this call.
    #[must_use]
    pub fn ask(&self) -> u64 {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        number
    }

    /// Waits until the standby has what a number stands for; false where it has not by `deadline`, or is not waited for.
    pub async fn settled(&self, number: u64, deadline: Instant) -> bool {
        let mut done = self.done.subscribe();
        loop {
            let settled = *done.borrow_and_update() >= number;
            if number <= self.void.load(Ordering::SeqCst) {
                return false;
            }
            if settled {
                return true;
            }
            if timeout_at(deadline, done.changed()).await.is_err() {
                return false;
            }
        }
    }

    /// The newest number that was asked for.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The newest number that is settled.
    #[must_use]
    pub fn done(&self) -> u64 {
        *self.done.borrow()
    }

    /// Waits until somebody asks.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Everything up to `number` is on the standby.
    pub fn settle(&self, number: u64) {
        self.done.send_replace(number);
    }

    /// The authority was given up: what was asked for and is not settled never will be.
    pub fn give_up(&self) {
        self.void.store(self.asked(), Ordering::SeqCst);
        self.done.send_modify(|_| {});
    }

    /// One was acknowledged without the standby.
    pub fn was_alone(&self) {
        self.alone.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were.
    #[must_use]
    pub fn alone(&self) -> u64 {
        self.alone.load(Ordering::Relaxed)
    }

    /// Whether somebody waits.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.asked() > self.done()
    }

    /// The own applier says how far it is; nothing, where it applies no more.
    pub fn apply(&self, applied: Option<Applied>) {
        self.applied.send_replace(applied);
    }

    /// How far the own applier is, and each change of that.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Option<Applied>> {
        self.applied.subscribe()
    }
}
