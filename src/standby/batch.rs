//! What of the log is applied in one round, and what is to be done for it: made while the round before is being applied. Pure, but
//! for the thread that it is made on.

use std::collections::BTreeSet;

use super::catalog::{Catalog, cascades};
use super::events;
use super::merge::{Misfit, merge};
use super::partition::split;
use super::reader::{Read, Reader};
use super::schema::PARTS;
use super::statements::{Statement, in_order, statements};
use crate::changes::{Item, LogError};
use crate::entry::{Position, Transaction};

/// Bytes of the log from which a round is full if each of its parts has about as much to do.
const ROUND_BYTES: usize = 4 << 20;
/// Bytes from which it is full whatever they have, and transactions.
const MOST_BYTES: usize = 2 * ROUND_BYTES;
pub(super) const ROUND_TRANSACTIONS: usize = 2_000;

/// What the log had ready.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) transactions: Vec<Transaction>,
    room: Vec<tokio::sync::OwnedSemaphorePermit>,
    /// Bytes of the log that they took, as they would be spread over the parts if none shared a key.
    loads: [usize; PARTS],
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
                    self.load(t.bytes);
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
        let bytes: usize = self.loads.iter().sum();
        let full = bytes >= MOST_BYTES || bytes >= ROUND_BYTES && self.is_even();
        self.end.is_some() || self.alone || self.transactions.len() >= most || full
    }

    /// Large transactions are few in a round: one too many is waited for by all other parts.
    fn is_even(&self) -> bool {
        let (least, most) =
            self.loads.iter().fold((usize::MAX, 0), |(least, most), load| (least.min(*load), most.max(*load)));
        most - least <= most / 8
    }

    fn load(&mut self, bytes: usize) {
        if let Some(least) = self.loads.iter_mut().min() {
            *least += bytes;
        }
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

#[cfg(test)]
mod tests {
    use super::super::catalog::testing::{catalog, name, shape};
    use super::super::catalog::{Cascade, Catalog};
    use super::*;
    use crate::entry::{Change, RowChange, Value};

    fn read(id: &str, bytes: usize, change: Change) -> Read {
        let after = Position::Gtids(Vec::new());
        let changes = vec![RowChange { table: std::sync::Arc::new(shape()), change, foreign_keys: true }];
        let transaction = Transaction { id: id.to_owned(), committed_at: 0, changes, after, bytes };
        let room = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        Read::Item(Item::Transaction(transaction), room.try_acquire_owned().unwrap())
    }

    fn insert(id: i64) -> Change {
        Change::Insert([Value::Int(id), Value::Null].into())
    }

    fn delete(id: i64) -> Change {
        Change::Delete([Value::Int(id), Value::Null].into())
    }

    /// A catalog whose table sets cascades off.
    fn acting() -> Catalog {
        let mut catalog = catalog();
        let mut table = (*catalog[&name()]).clone();
        table.cascades = vec![Cascade { columns: vec![0], on_delete: true, on_update: false }];
        catalog.insert(name(), std::sync::Arc::new(table));
        catalog
    }

    #[test]
    fn what_sets_cascades_off_goes_alone() {
        let (catalog, mut none) = (acting(), BTreeSet::new());
        let mut batch = Batch::default();
        batch.take(read("1", 1, insert(1)), &catalog, &mut none).unwrap();
        let held = batch.take(read("2", 1, delete(1)), &catalog, &mut none).unwrap_err();
        assert!(!batch.is_full(9) && batch.transactions.len() == 1);
        let mut next = Batch::default();
        next.take(held, &catalog, &mut none).unwrap();
        assert!(next.is_full(9) && next.transactions[0].id == "2");
        let ready = Ready::new(next, none, &catalog, 4, true);
        assert!(matches!(&ready.parts[..], [Work { plan: Ok(plan), .. }] if !plan.events));
    }

    #[test]
    fn what_is_applied_is_passed_over() {
        let mut applied: BTreeSet<String> = ["1", "3"].map(str::to_owned).into();
        let mut batch = Batch::default();
        for id in ["1", "2"] {
            batch.take(read(id, 1, insert(1)), &catalog(), &mut applied).unwrap();
        }
        assert_eq!(batch.transactions.iter().map(|t| &*t.id).collect::<Vec<_>>(), ["2"]);
        assert!(batch.has_any() && applied.contains("3") && applied.len() == 1);
    }

    #[test]
    fn a_batch_has_bounds() {
        let mut none = BTreeSet::new();
        let mut batch = Batch::default();
        assert!(!batch.has_any() && !batch.is_full(2));
        batch.take(read("1", MOST_BYTES - 1, insert(1)), &catalog(), &mut none).unwrap();
        assert!(!batch.is_full(2) && batch.is_full(1));
        batch.take(read("2", 1, insert(2)), &catalog(), &mut none).unwrap();
        assert!(batch.is_full(9));
        let mut ended = Batch::default();
        ended.take(Read::Ended(LogError::Lost(String::new())), &catalog(), &mut none).unwrap();
        assert!(ended.has_any() && ended.is_full(9));
    }

    /// One large transaction more than the parts can share would keep all of them waiting for the part that has it.
    #[test]
    fn large_transactions_fill_a_batch_when_each_part_has_as_many() {
        let mut none = BTreeSet::new();
        let mut batch = Batch::default();
        let mut full = Vec::new();
        for n in 0..2 * PARTS {
            batch.take(read(&n.to_string(), ROUND_BYTES / PARTS - 1, insert(0)), &catalog(), &mut none).unwrap();
            full.push(batch.is_full(99));
        }
        let at = full.iter().position(|full| *full);
        assert_eq!(at, Some(2 * PARTS - 1), "{PARTS} are a byte too few, and one more is uneven");
        // (small ones are even at any time)
        let mut batch = Batch::default();
        while !batch.is_full(usize::MAX) {
            batch.take(read("", 4_096, insert(0)), &catalog(), &mut none).unwrap();
        }
        assert!(batch.loads.iter().sum::<usize>() < ROUND_BYTES + 8_192);
    }

    /// Invariant 3: every transaction of a batch is in one part, in order, and its mark can say so.
    #[test]
    fn parts_are_the_whole_batch() {
        let (catalog, mut none) = (catalog(), BTreeSet::new());
        let mut batch = Batch::default();
        for n in 0..40 {
            batch.take(read(&n.to_string(), 1, insert(n)), &catalog, &mut none).unwrap();
        }
        let ready = Ready::new(batch, none, &catalog, 4, true);
        assert!(ready.parts.len() > 1);
        let mut ids: Vec<u32> = Vec::new();
        for work in &ready.parts {
            let part: Vec<u32> = ready.of(work).iter().map(|t| t.id.parse().unwrap()).collect();
            assert!(part.is_sorted());
            ids.extend(part);
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..40).collect::<Vec<_>>());
    }
}
