//! Which transactions of a round may be applied at the same time: those that share no key, directly or through others. Pure.
//!
//! Keys are the primary key, every unique key, and every foreign key with the key that it refers to. A key's value counts by
//! what its collation takes for equal, as far as that is sure: printable ASCII under collations that only fold case. Where it
//! is not, the whole key counts as one value for this round, and what touches it stays in order. (Were a doubt overlooked, the
//! standby's own unique keys would refuse one of the two, and the round is done again, one by one.)

use std::hash::{BuildHasher, Hasher};

use hashbrown::{DefaultHashBuilder, HashMap, HashSet};

use super::catalog::{Catalog, Description, Fold, KeyUse, Known};
use crate::entry::{Change, Row, Transaction, Value};

/// The value of a key, or that it cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Value(u64, u64),
    Whole(u64),
}

/// The parts of a round: [`partition`] without empty lists; one where `parts` is 1.
#[must_use]
pub fn split(transactions: &[Transaction], catalog: &Catalog, parts: usize) -> Vec<Vec<usize>> {
    if parts < 2 || transactions.len() < 2 {
        return vec![(0..transactions.len()).collect()];
    }
    let mut lists = partition(transactions, catalog, parts);
    lists.retain(|list| !list.is_empty());
    lists
}

/// Splits the transactions, by index, into at most `parts` lists; each list keeps the order.
#[must_use]
pub fn partition(transactions: &[Transaction], catalog: &Catalog, parts: usize) -> Vec<Vec<usize>> {
    let hasher = DefaultHashBuilder::default();
    let tokens: Vec<Vec<Token>> = transactions.iter().map(|t| tokens(t, catalog, &hasher)).collect();
    let whole: HashSet<u64> =
        tokens.iter().flatten().filter_map(|t| if let Token::Whole(key) = t { Some(*key) } else { None }).collect();
    let mut sets = Sets::new(transactions.len());
    let mut seen: HashMap<(u64, u64), usize> = HashMap::with_capacity(tokens.iter().map(Vec::len).sum());
    for (n, list) in tokens.iter().enumerate() {
        for token in list {
            let at = match token {
                Token::Value(key, _) if whole.contains(key) => (*key, 0),
                Token::Value(key, value) => (*key, *value),
                Token::Whole(key) => (*key, 0),
            };
            match seen.get(&at) {
                Some(other) => sets.join(*other, n),
                None => {
                    seen.insert(at, n);
                }
            }
        }
    }
    pack(transactions, &mut sets, parts)
}

/// The largest sets first, each to the part with the least to do.
fn pack(transactions: &[Transaction], sets: &mut Sets, parts: usize) -> Vec<Vec<usize>> {
    let mut members: HashMap<usize, (usize, Vec<usize>)> = HashMap::new();
    for (n, transaction) in transactions.iter().enumerate() {
        let (weight, list) = members.entry(sets.find(n)).or_default();
        *weight += transaction.bytes.max(64);
        list.push(n);
    }
    let mut sets: Vec<(usize, Vec<usize>)> = members.into_values().collect();
    sets.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut packed: Vec<(usize, Vec<usize>)> = vec![(0, Vec::new()); parts.clamp(1, sets.len().max(1))];
    for (weight, list) in sets {
        if let Some(least) = packed.iter_mut().min_by_key(|(weight, _)| *weight) {
            least.0 += weight;
            least.1.extend(list);
        }
    }
    let lists = packed.into_iter().map(|(_, mut list)| {
        list.sort_unstable();
        list
    });
    lists.collect()
}

fn tokens(transaction: &Transaction, catalog: &Catalog, hasher: &DefaultHashBuilder) -> Vec<Token> {
    let (mut out, mut known, mut bytes) = (Vec::with_capacity(transaction.changes.len()), Known::default(), Vec::new());
    for change in &transaction.changes {
        let Some(table) = known.of(catalog, &change.table) else { continue };
        match &change.change {
            Change::Insert(row) | Change::Delete(row) => row_tokens(table, row, hasher, &mut bytes, &mut out),
            Change::Update(before, after) => {
                row_tokens(table, before, hasher, &mut bytes, &mut out);
                if !super::merge::keeps_keys(table, before, after) {
                    row_tokens(table, after, hasher, &mut bytes, &mut out);
                }
            }
            Change::Clear => out.extend(table.uses.iter().map(|key| Token::Whole(key.id))),
        }
    }
    out
}

fn row_tokens(table: &Description, row: &Row, hasher: &DefaultHashBuilder, bytes: &mut Vec<u8>, out: &mut Vec<Token>) {
    for key in &table.uses {
        match key_value(key, row, hasher, bytes) {
            Some(Some(value)) => out.push(Token::Value(key.id, value)),
            Some(None) => out.push(Token::Whole(key.id)),
            // NULL is equal to nothing
            None => {}
        }
    }
}

/// The hash of a key's value, by way of `bytes`; `None` inside where it cannot be told, outside where a part of it is NULL.
#[expect(clippy::option_option, reason = "three answers: no value, a value that cannot be told, a value")]
fn key_value(key: &KeyUse, row: &Row, hasher: &DefaultHashBuilder, bytes: &mut Vec<u8>) -> Option<Option<u64>> {
    let mut state = hasher.build_hasher();
    let mut told = true;
    for (column, fold) in &key.columns {
        let value = row.get(*column)?;
        if value.is_null() {
            return None;
        }
        bytes.clear();
        match (fold, value) {
            (Fold::Exact, value) => value.put_key(bytes),
            (Fold::Ascii, Value::Bytes(text)) if text.iter().all(|b| is_plain(*b)) => {
                bytes.extend(text.trim_ascii_end().iter().map(u8::to_ascii_lowercase));
                bytes.push(0);
            }
            _ => told = false,
        }
        state.write(bytes);
    }
    Some(told.then(|| state.finish()))
}

/// Characters that the collations of [`Fold::Ascii`] tell apart from each other and from all others like them.
fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@' | b'/' | b':' | b' ')
}

/// Union-find.
struct Sets(Vec<usize>);

impl Sets {
    fn new(n: usize) -> Sets {
        Sets((0..n).collect())
    }

    fn find(&mut self, mut n: usize) -> usize {
        loop {
            let up = self.0.get(n).copied().unwrap_or(n);
            if up == n {
                return n;
            }
            let above = self.0.get(up).copied().unwrap_or(up);
            if let Some(slot) = self.0.get_mut(n) {
                *slot = above;
            }
            n = above;
        }
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        let (low, high) = (a.min(b), a.max(b));
        if let Some(slot) = self.0.get_mut(high) {
            *slot = low;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::catalog::testing::{catalog, name, shape};
    use super::*;
    use crate::entry::{Position, RowChange};

    fn transaction(rows: &[(i64, &str)]) -> Transaction {
        let shape = Arc::new(shape());
        let row = |(id, text): &(i64, &str)| -> Row { [Value::Int(*id), Value::Bytes(text.as_bytes().into())].into() };
        let changes = rows.iter().map(|r| RowChange {
            table: Arc::clone(&shape),
            change: Change::Insert(row(r)),
            foreign_keys: true,
        });
        Transaction {
            id: String::new(),
            committed_at: 0,
            changes: changes.collect(),
            after: Position::Gtids(Vec::new()),
            bytes: 100,
        }
    }

    fn parts(transactions: &[Transaction]) -> Vec<Vec<usize>> {
        let mut parts = partition(transactions, &catalog(), 4);
        parts.retain(|p| !p.is_empty());
        parts.sort();
        parts
    }

    #[test]
    fn what_shares_a_key_stays_together() {
        let t = |rows: &[(i64, &str)]| transaction(rows);
        assert_eq!(parts(&[t(&[(1, "a")]), t(&[(2, "b")]), t(&[(1, "c")])]), [vec![0, 2], vec![1]]);
        // through a unique key, whatever the case
        assert_eq!(parts(&[t(&[(1, "Ab ")]), t(&[(2, "b")]), t(&[(3, "aB")])]), [vec![0, 2], vec![1]]);
        // through a third
        assert_eq!(parts(&[t(&[(1, "a")]), t(&[(2, "b")]), t(&[(1, "b")])]), [vec![0, 1, 2]]);
        // a value that no one can be sure of
        assert_eq!(parts(&[t(&[(1, "a")]), t(&[(2, "ß")]), t(&[(3, "ss")])]), [vec![0, 1, 2]]);
        assert_eq!(name().to_string(), "d.t");
    }

    proptest! {
        /// Invariant 3: transactions that share a key are never in two parts, every transaction is in one, in order.
        #[test]
        fn no_key_is_in_two_parts(rows in proptest::collection::vec(proptest::collection::vec((0i64..30, "[ab]{1,4}"), 1..3), 1..40)) {
            let transactions: Vec<Transaction> = rows.iter().map(|r| {
                let rows: Vec<(i64, &str)> = r.iter().map(|(id, text)| (*id, text.as_str())).collect();
                transaction(&rows)
            }).collect();
            let parts = partition(&transactions, &catalog(), 4);
            let mut all: Vec<usize> = parts.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows.len()).collect::<Vec<_>>());
            prop_assert!(parts.iter().all(|p| p.is_sorted()));
            for (n, one) in parts.iter().enumerate() {
                for other in parts.iter().skip(n + 1) {
                    for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
                        for (x, y) in rows[*a].iter().flat_map(|x| rows[*b].iter().map(move |y| (x, y))) {
                            prop_assert!(x.0 != y.0 && x.1 != y.1);
                        }
                    }
                }
            }
        }
    }
}
