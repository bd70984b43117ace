//! What changed, from the rows before and after a write.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Did, How, Mismatch};
use crate::changes::journal::table::Table;
use crate::entry::{Change, Row, RowChange};

/// What changed, from the rows before and after, and what the store says that it did.
///
/// # Errors
/// [`Mismatch`].
pub fn changes(
    how: How,
    table: &Table,
    did: Did,
    before: Vec<Row>,
    after: Vec<Row>,
) -> Result<Vec<RowChange>, Mismatch> {
    let counts = (before.len() as u64, after.len() as u64);
    let list: Result<Vec<Change>, &'static str> = match how {
        How::DeleteSome if did.affected != counts.0 || counts.1 > 0 => Err("other rows were deleted than were read"),
        How::DeleteSome => Ok(before.into_iter().map(Change::Delete).collect()),
        How::UpdateSome => updated(table, before, after).and_then(|list| all_that_changed(did, list)),
        How::Move if did.matched.unwrap_or(did.affected) != counts.0 || counts.0 != counts.1 => {
            Err("other rows were moved than were read")
        }
        How::Move => Ok(net(table, before, after)),
        How::Delete if did.affected != counts.0 => Err("other rows were deleted than were read"),
        How::Delete => Ok(before.into_iter().map(Change::Delete).collect()),
        How::Update if did.matched.unwrap_or(did.affected) != counts.0 => Err("other rows were updated than were read"),
        How::Update => updated(table, before, after),
        How::Insert(rows) if counts.1 != rows as u64 || did.affected != counts.1 => Err(OTHERS),
        How::Insert(_) => Ok(after.into_iter().map(Change::Insert).collect()),
        How::InsertFrom if did.counted != counts.1 || did.affected != counts.1 => Err(OTHERS),
        How::InsertMade if did.affected != counts.1 => Err(OTHERS),
        How::InsertFrom | How::InsertMade => Ok(after.into_iter().map(Change::Insert).collect()),
        How::PutAny | How::ReplaceAny(_) | How::InsertAny => any(how, table, did, before, after),
        // (LAST_INSERT_ID() is an older one where nothing came)
        How::InsertIgnore(_) if did.affected == 0 => Ok(Vec::new()),
        How::InsertIgnore(_) => came(table, did, &before, after),
        How::Put(rows) | How::Replace(rows) if counts.1 != rows as u64 => Err("other rows are there than were written"),
        How::Put(_) | How::Replace(_) => put(how, table, did, before, after),
    };
    let change = |change| RowChange { table: Arc::clone(&table.shape), change, foreign_keys: false };
    match list {
        Ok(list) => Ok(list.into_iter().map(change).collect()),
        Err(what) => {
            let matched = did.matched.map(|n| format!(", {n} matched")).unwrap_or_default();
            let (before, after) = counts;
            Err(Mismatch(format!("{what}: {before} before, {after} after, {} affected{matched}", did.affected)))
        }
    }
}

const OTHERS: &str = "other rows are there than were inserted";

fn keyed(table: &Table, rows: Vec<Row>) -> HashMap<Vec<u8>, Row> {
    rows.into_iter().map(|row| (table.key_of(&row), row)).collect()
}

fn updated(table: &Table, before: Vec<Row>, after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let mut after = keyed(table, after);
    let mut list = Vec::with_capacity(before.len());
    for row in before {
        let new = after.remove(&table.key_of(&row)).ok_or("a row that was updated is not found again by its key")?;
        if row != new {
            list.push(Change::Update(row, new));
        }
    }
    Ok(list)
}

fn came(table: &Table, did: Did, before: &[Row], after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let there: HashSet<Vec<u8>> = before.iter().map(|row| table.key_of(row)).collect();
    let came: Vec<Row> = after.into_iter().filter(|row| !there.contains(&table.key_of(row))).collect();
    if came.len() as u64 != did.affected {
        return Err(OTHERS);
    }
    Ok(came.into_iter().map(Change::Insert).collect())
}

/// What the store counts tells whether the rows that were there are those that were read: one that came in between counts as
/// updated or deleted.
fn put(how: How, table: &Table, did: Did, before: Vec<Row>, after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let (rows, old) = (after.len() as u64, before.len() as u64);
    let mut there = keyed(table, before);
    let (mut same, mut list) = (0, Vec::new());
    for row in after {
        match there.remove(&table.key_of(&row)) {
            Some(old) if old == row => same += 1,
            Some(old) => list.push(Change::Update(old, row)),
            None => list.push(Change::Insert(row)),
        }
    }
    let most = rows + old;
    let counted = match how {
        // a row that is replaced by its like counts once
        How::Replace(_) => (most.saturating_sub(same)..=most).contains(&did.affected),
        // one that is updated twice, one that stays as it is not at all, or once (CLIENT_FOUND_ROWS)
        _ => [most.saturating_sub(2 * same), most.saturating_sub(same)].contains(&did.affected) && there.is_empty(),
    };
    // a key that is the same to its collation, and was written with other bytes: 'b' in the place of 'B'
    let comes = list.iter().filter(|change| matches!(change, Change::Insert(_))).count();
    if !counted || there.len() > comes {
        return Err("other rows were replaced or updated than were read");
    }
    Ok(there.into_values().map(Change::Delete).chain(list).collect())
}

/// Where only some of the rows that were read may have been taken: as many changed as the store says did, so that no other did.
fn all_that_changed(did: Did, list: Vec<Change>) -> Result<Vec<Change>, &'static str> {
    if did.changed == Some(list.len() as u64) { Ok(list) } else { Err("other rows were updated than were read") }
}

/// The change of all rows together, by key: deletes first.
#[must_use]
pub fn net(table: &Table, before: Vec<Row>, after: Vec<Row>) -> Vec<Change> {
    let mut there = keyed(table, before);
    let mut list = Vec::new();
    for row in after {
        match there.remove(&table.key_of(&row)) {
            Some(old) if old == row => {}
            Some(old) => list.push(Change::Update(old, row)),
            None => list.push(Change::Insert(row)),
        }
    }
    there.into_values().map(Change::Delete).chain(list).collect()
}

/// Rows that were met by any unique key.
fn any(how: How, table: &Table, did: Did, before: Vec<Row>, after: Vec<Row>) -> Result<Vec<Change>, &'static str> {
    let (old, rows) = (before.len() as u64, after.len() as u64);
    let list = net(table, before, after);
    let count = |is: fn(&Change) -> bool| list.iter().filter(|change| is(change)).count() as u64;
    let (came, went) = (count(|c| matches!(c, Change::Insert(_))), count(|c| matches!(c, Change::Delete(_))));
    let changed = count(|c| matches!(c, Change::Update(..)));
    let same = old.saturating_sub(went + changed);
    let counted = match how {
        How::ReplaceAny(written) => {
            let most = written as u64 + old;
            rows == written as u64 && (most.saturating_sub(same)..=most).contains(&did.affected)
        }
        How::PutAny => went == 0 && [came + 2 * changed, came + 2 * changed + same].contains(&did.affected),
        _ => went + changed == 0 && came == did.affected,
    };
    if counted { Ok(list) } else { Err("other rows were replaced or updated than were read") }
}
