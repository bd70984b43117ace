//! The state machine of marks, with a crash at every step, over thousands of seeds: exactly once, in order, under one term.
//!
//! The standby is modelled as what a store promises: a transaction that commits is there whole, one that does not is not
//! there. Everything else is the product's own: [`resume`], [`split`], [`ids_of`] and the order in which the applier uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::testing::{catalog, shape};
use super::marks::{Mark, Resume, ids_of, resume};
use super::partition::split;
use super::schema::PARTS;
use crate::entry::position::Gtid;
use crate::entry::{Change, Position, Row, RowChange, Transaction, Value};

/// A generator that a seed decides (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides.max(1)
    }
}

/// The standby: marks under a term, and every transaction in the order in which it was applied.
#[derive(Default)]
struct Standby {
    term: u64,
    marks: BTreeMap<usize, Mark>,
    applied: Vec<String>,
}

impl Standby {
    /// One transaction of an applier: the mark by compare-and-set, and the rows.
    fn commit(&mut self, term: u64, mark: Mark, of: &[&Transaction]) -> bool {
        if term != self.term {
            return false;
        }
        self.marks.insert(mark.part, mark);
        self.applied.extend(of.iter().map(|t| t.id.clone()));
        true
    }
}

fn log(dice: &mut Dice, length: u64) -> Vec<Transaction> {
    let table = Arc::new(shape());
    let mut position = Position::Gtids(Vec::new());
    let mut transactions = Vec::new();
    for sequence in 1..=length {
        let gtid = Gtid { domain: 0, server: 1, sequence };
        position.pass(gtid);
        let row = |id: u64| -> Row { [Value::Int(i64::try_from(id).unwrap()), Value::Null].into() };
        let changes = (0..=dice.roll(2)).map(|_| {
            let change = Change::Insert(row(dice.roll(12)));
            RowChange { table: Arc::clone(&table), change, foreign_keys: true }
        });
        let changes = changes.collect();
        transactions.push(Transaction {
            id: gtid.to_string(),
            committed_at: 0,
            changes,
            after: position.clone(),
            bytes: 100,
        });
    }
    transactions
}

/// What an applier that lives until its next crash does; `crash` says before which commit it dies.
fn live(dice: &mut Dice, standby: &mut Standby, term: u64, log: &[Transaction], crash: u64) {
    let marks: Vec<Mark> = standby.marks.values().cloned().collect();
    let Resume { mut round, mut position, mut applied } = resume(&marks).unwrap();
    let (mut commits, mut lane) = (0, 0);
    loop {
        let done = position.behind(&log.last().unwrap().after).unwrap();
        let from = log.len() - usize::try_from(done).unwrap();
        // as the applier fills a batch: what is applied is passed by, and in a torn round one goes at a time
        let alone = !applied.is_empty();
        let most = if alone { 1 } else { usize::try_from(1 + dice.roll(9)).unwrap() };
        let mut behind = applied.clone();
        let mut batch: Vec<Transaction> = Vec::new();
        let mut end = None;
        for t in log.get(from..).unwrap_or_default() {
            if batch.len() >= most {
                break;
            }
            end = Some(t.after.clone());
            if !behind.remove(&t.id) {
                batch.push(t.clone());
            }
        }
        let Some(end) = end else { return };
        if batch.is_empty() {
            position = end;
            applied = behind;
            continue;
        }
        let parts = split(&batch, &catalog(), if alone { 1 } else { PARTS });
        let mut order: Vec<usize> = (0..parts.len()).collect();
        for n in (1..order.len()).rev() {
            order.swap(n, usize::try_from(dice.roll(n as u64 + 1)).unwrap());
        }
        for part in order {
            if commits == crash {
                return;
            }
            commits += 1;
            let of: Vec<&Transaction> = parts[part].iter().map(|n| &batch[*n]).collect();
            let ids = ids_of(parts.len(), &of, &behind);
            let (base, position) = (position.clone(), end.clone());
            let mark = Mark { part: lane * PARTS + part, round: round + 1, parts: parts.len(), base, position, ids };
            if !standby.commit(term, mark, &of) {
                return;
            }
        }
        round += 1;
        position = end;
        applied = behind;
        // where the log is ahead, the next one has the other connections
        lane = if dice.roll(3) == 0 { 0 } else { 1 - lane };
    }
}

fn keys(t: &Transaction) -> BTreeSet<String> {
    let row = |change: &RowChange| {
        if let Change::Insert(row) = &change.change { format!("{:?}", row[0]) } else { String::new() }
    };
    t.changes.iter().map(row).collect()
}

/// Exactly once, and conflicting ones in commit order.
fn assert_right(seed: u64, standby: &Standby, log: &[Transaction]) {
    let place: BTreeMap<&str, usize> = standby.applied.iter().enumerate().map(|(n, id)| (id.as_str(), n)).collect();
    assert_eq!(standby.applied.len(), log.len(), "seed {seed}: {:?}", standby.applied);
    assert_eq!(place.len(), log.len(), "seed {seed}: {:?}", standby.applied);
    for (n, early) in log.iter().enumerate() {
        for late in log.iter().skip(n + 1).filter(|late| !keys(early).is_disjoint(&keys(late))) {
            assert!(place[early.id.as_str()] < place[late.id.as_str()], "seed {seed}: {} after {}", early.id, late.id);
        }
    }
}

#[test]
fn exactly_once_whatever_crashes_when() {
    for seed in 1..=600 {
        let mut dice = Dice(u64::wrapping_mul(seed, 0x9E37_79B9_7F4A_7C15));
        let log = log(&mut dice, 30);
        let mut standby = Standby::default();
        let start = Position::Gtids(Vec::new());
        standby.marks.insert(
            0,
            Mark { part: 0, round: 0, parts: 1, base: start.clone(), position: start, ids: BTreeSet::new() },
        );
        for _ in 0..40 {
            // each life takes the lease; now and then the one before it is not dead, and goes on under its old term
            standby.term += 1;
            let term = standby.term;
            let crash = dice.roll(6);
            live(&mut dice, &mut standby, term, &log, crash);
            if dice.roll(4) == 0 {
                let length = standby.applied.len();
                standby.term += 1;
                live(&mut dice, &mut standby, term, &log, u64::MAX);
                assert_eq!(standby.applied.len(), length, "seed {seed}: a deposed applier wrote");
            }
        }
        standby.term += 1;
        let term = standby.term;
        live(&mut dice, &mut standby, term, &log, u64::MAX);
        assert_right(seed, &standby, &log);
    }
}
