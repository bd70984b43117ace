//! The journal: the change log of an authority that has no binlog.
//!
//! The proxy records each write of the group in `switchover.journal` on the authority, in the client's own transaction:
//!
//! ```text
//! session ─► BEGIN, before-images, write, after-images ─► INSERT journal, COMMIT        the same store transaction
//!                                                               │
//!                         standby reader ◄─ Item ◄─ [`log`] ◄───┘ entries in the order of their ids
//! ```
//!
//! | file | does |
//! |---|---|
//! | [`schema`] | the tables: `journal`, `journal_ids`, `secrets`, `barriers` |
//! | [`entry`] | the grammar of an entry, its HMAC, the SQL that writes it |
//! | [`codec`] | row changes ⇄ an entry's payload |
//! | [`table`] | a table of the authority: what is selected of it, and how it is read |
//! | [`intent`] | tables whose engine has no transactions: an intent before the write, settled where its writer is gone |
//! | [`purge`] | takes away what every group has applied |
//! | [`record`] | a write → what is read before and after it → what changed |
//! | [`log`] | entries → whole transactions, in commit order |
//!
//! **All writes are recorded as rows.** RULES.md 31 would let the key-exact class (INSERT … VALUES, UPDATE and DELETE by the whole
//! primary key) be repeated as statements. It is recorded as rows like everything else: then one path is to be proven, the one that the
//! binlog's rows take already (merge, partition, counts of rows), nothing of a session has to be repeated (RULES.md 44: time
//! zone, sql_mode, collations, insert_id …, of which a row image depends on none), and a standby of another engine takes it.
//! What the class is good for is the number of round trips: where the statement fixes the keys, images are read in the packet of the
//! write.
//!
//! | invariant | held by | broken at by |
//! |---|---|---|
//! | a write and its entries commit together, or not | one store transaction; COMMIT is sent behind the write's own reply (RULES.md 28) | `tests/it/standby/journal/` |
//! | conflicting transactions in commit order | ids are given behind the last lock (grammar, rule 4) | writers in both isolation levels |
//! | nothing is applied that the authority may still lose | the barrier | `kill -9` of the authority |
//! | nothing is passed over: a late entry, a gap, a second life of an id | strict order of ids, tombstones, the UUID of the position | gaps, transactions in flight, ids that are used again |
//! | nobody but a proxy makes an entry that counts (RULES.md 43) | HMAC-SHA256 with a key that only the control account reads | forged and changed entries |
//!
//! The HMAC leaves the id out, for the store gives it while the entry is inserted: who may only INSERT cannot read an entry to
//! insert it once more.

pub mod codec;
pub mod entry;
pub mod intent;
pub mod log;
pub mod purge;
pub mod record;
pub mod schema;
pub mod table;

use std::time::{SystemTime, UNIX_EPOCH};

pub use self::entry::{Entry, Ids, Kind, Secret};
pub use self::log::Log;
use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::entry::Uuid;

/// A new UUID, of random bits.
#[must_use]
pub fn new_uuid() -> Uuid {
    Uuid(crate::auth::random::random())
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u32::try_from(d.as_secs()).unwrap_or(u32::MAX))
}

/// Bytes of changes that one entry holds: far below what a store takes in one statement.
const ENTRY: usize = 1 << 20;

/// The entries of a transaction with these changes, the commit last; none where there are none.
#[must_use]
pub fn entries(group: &str, changes: &[crate::entry::RowChange]) -> Vec<Entry> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut parts: Vec<&[crate::entry::RowChange]> = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (n, change) in changes.iter().enumerate() {
        bytes += weight(&change.change);
        if bytes > ENTRY && n > from {
            parts.extend(changes.get(from..n));
            (from, bytes) = (n, weight(&change.change));
        }
    }
    parts.extend(changes.get(from..));
    let (transaction, last) = (new_uuid(), parts.len() - 1);
    let entry = |(n, part): (usize, &&[crate::entry::RowChange])| Entry {
        uuid: new_uuid(),
        group: group.to_owned(),
        transaction,
        part: u32::try_from(n).unwrap_or(u32::MAX),
        parts: if n == last { u32::try_from(last).unwrap_or(u32::MAX) } else { 0 },
        kind: if n == last { Kind::Commit } else { Kind::Rows },
        at: now(),
        payload: codec::write(part),
    };
    parts.iter().enumerate().map(entry).collect()
}

/// Enters these, in the caller's transaction.
///
/// # Errors
/// As the store's; the gate's, where the store does not serve the group.
pub async fn enter(backend: &mut Backend, entries: &[Entry], secret: &Secret, ids: Ids) -> Result<(), QueryError> {
    if entries.is_empty() {
        return Ok(());
    }
    each(backend, &entry::insert(entries, secret, ids)).await
}

/// Runs what the journal's SQL joins with `;`, one statement at a time: the control account's connections take no more. (Values are in
/// hexadecimal: a semicolon stands between statements only.)
async fn each(backend: &mut Backend, sql: &str) -> Result<(), QueryError> {
    for statement in sql.split(';') {
        backend.execute(statement.as_bytes()).await?;
    }
    Ok(())
}

fn weight(change: &crate::entry::Change) -> usize {
    use crate::entry::Change;
    let row = |row: &crate::entry::Row| row.iter().map(crate::entry::Value::weight).sum::<usize>();
    match change {
        Change::Insert(a) | Change::Delete(a) => row(a),
        Change::Update(a, b) => row(a) + row(b),
        Change::Clear => 0,
    }
}
