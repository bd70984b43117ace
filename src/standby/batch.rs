//! What of the log is applied in one round, and what is to be done for it: made while the round before is being applied. Pure, but
//! for the thread that it is made on.

use std::collections::BTreeSet;

use super::catalog::{Catalog, cascades};
use super::events;
use super::merge::{Misfit, merge};
use super::partition::split;
use super::reader::{Read, Reader};
use super::statements::{Statement, in_order, statements};
use crate::changes::{Item, LogError};
use crate::entry::{Position, Transaction};

/// Bytes of the log in one round, and transactions.
const ROUND_BYTES: usize = 4 << 20;
pub(super) const ROUND_TRANSACTIONS: usize = 2_000;

/// What the log had ready.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) transactions: Vec<Transaction>,
    room: Vec<tokio::sync::OwnedSemaphorePermit>,
    /// Bytes of the log that they took.
    bytes: usize,
    /// Where it ends.
    pub(super) position: Option<Position>,
    /// Somebody waits to hear that the standby is there.
    pub(super) signal: bool,
    /// What ended the log behind it.
    pub(super) end: Option<LogError>,
    /// It has one transaction, which goes alone.
    alone: bool,
}

impl Batch {
    /// Takes what was read, where it may be in the same round as what is here already; what is applied is passed over.
    ///
    /// # Errors
    /// What was read, for the next round.
    fn take(&mut self, read: Read, catalog: &Catalog, applied: &mut BTreeSet<String>) -> Result<(), Read> {
        match read {
            Read::Item(Item::Transaction(t), permit) => {
                // what sets cascades off goes alone, in the order of its changes
                let alone = cascades(&t, catalog);
                if alone && !self.transactions.is_empty() {
                    return Err(Read::Item(Item::Transaction(t), permit));
                }
                self.alone |= alone;
                self.position = Some(t.after.clone());
                if !applied.remove(&t.id) {
                    self.bytes += t.bytes;
                    self.transactions.push(t);
                    self.room.push(permit);
                }
            }
            Read::Item(Item::Passed(position), _) => self.position = Some(position),
            Read::Item(Item::Signal(position), _) => {
                self.position = Some(position);
                self.signal = true;
            }
            Read::Item(Item::Alive, _) => {}
            Read::Ended(error) => self.end = Some(error),
        }
        Ok(())
    }

    /// Whether it says anything.
    fn has_any(&self) -> bool {
        self.position.is_some() || self.end.is_some()
    }

    fn is_full(&self, most: usize) -> bool {
        self.end.is_some() || self.alone || self.transactions.len() >= most || self.bytes >= ROUND_BYTES
    }
}

/// Fills batches from the log.
pub(super) struct Supply {
    reader: Reader,
    /// What was read, and is for the batch after this one.
    held: Option<Read>,
    /// What is here of the next batch.
    batch: Batch,
}

impl Supply {
    pub(super) fn new(reader: Reader) -> Supply {
        Supply { reader, held: None, batch: Batch::default() }
    }

    /// Waits until there is something for the next batch.
    pub(super) async fn wait(&mut self) {
        if self.held.is_none() && !self.batch.has_any() {
            self.held = Some(self.reader.next().await);
        }
    }

    /// Takes what there is, without waiting; whether the batch is full. What is `applied` is passed over, and no more there then.
    pub(super) fn fill(&mut self, most: usize, catalog: &Catalog, applied: &mut BTreeSet<String>) -> bool {
        while !self.batch.is_full(most) {
            let Some(read) = self.held.take().or_else(|| self.reader.ready()) else { return false };
            if let Err(read) = self.batch.take(read, catalog, applied) {
                self.held = Some(read);
                return true;
            }
        }
        true
    }

    /// The batch, as far as it is filled.
    pub(super) fn batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }
}

/// How a batch is applied.
pub(super) struct Ready {
    pub(super) batch: Batch,
    pub(super) parts: Vec<Work>,
    /// The ids behind its end that are applied already.
    pub(super) applied: BTreeSet<String>,
}

/// A part of a batch.
pub(super) struct Work {
    /// Its transactions, by their places in the batch.
    list: Vec<usize>,
    pub(super) plan: Result<Plan, Misfit>,
}

/// What is to be done for some transactions.
#[derive(Debug, Default)]
pub struct Plan {
    /// The statements.
    pub statements: Vec<Statement>,
    /// Some of them are row events: [`without_events`] is the other way.
    pub events: bool,
}

impl Ready {
    /// The work of a batch, in at most so many parts.
    pub(super) fn new(batch: Batch, applied: BTreeSet<String>, catalog: &Catalog, parts: usize, events: bool) -> Ready {
        let lists = split(&batch.transactions, catalog, parts);
        let parts = lists.into_iter().map(|list| {
            let of: Vec<&Transaction> = list.iter().filter_map(|n| batch.transactions.get(*n)).collect();
            let plan = plan(&of, catalog, events);
            Work { list, plan }
        });
        let parts = parts.collect();
        Ready { batch, parts, applied }
    }

    /// The transactions of a part.
    pub(super) fn of(&self, work: &Work) -> Vec<&Transaction> {
        work.list.iter().filter_map(|n| self.batch.transactions.get(*n)).collect()
    }
}

/// What is to be done for transactions, which are in commit order.
///
/// # Errors
/// [`Misfit`].
pub(super) fn plan(transactions: &[&Transaction], catalog: &Catalog, events: bool) -> Result<Plan, Misfit> {
    match transactions {
        [one] if cascades(one, catalog) => Ok(Plan { statements: in_order(one, catalog)?, events: false }),
        all => {
            let nets = merge(all, catalog)?;
            let list = if events { events::of_part(&nets) } else { None };
            let (events, list) = (list.is_some(), list.unwrap_or_else(|| nets.iter().flat_map(statements).collect()));
            Ok(Plan { statements: list, events })
        }
    }
}

/// The statements for what is not to be done by events.
///
/// # Errors
/// [`Misfit`].
pub(super) fn without_events(transactions: &[&Transaction], catalog: &Catalog) -> Result<Vec<Statement>, Misfit> {
    plan(transactions, catalog, false).map(|plan| plan.statements)
}
