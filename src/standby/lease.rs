//! Who applies a group: a row on the standby with a term, taken by compare-and-set. GET_LOCK would not do (RULES.md 33): a
//! connection that is lost loses it, and the one that lost it may still commit.
//!
//! The lease keeps two appliers from working against each other; what keeps them from writing is the term in each mark: it
//! changes in the transaction that takes the lease, so a round of the one before either committed by then, or never will.

use std::time::Duration;

use super::schema::{MARKS, literal};
use super::worker;
use crate::backend::Backend;
use crate::backend::connection::QueryError;

/// So long after its last renewal a lease may be taken, seconds.
pub const EXPIRES: u64 = 5;

/// How often it is renewed.
const RENEWED: Duration = Duration::from_secs(1);

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Ours, under this term.
    Ours(u64),
    /// Another's: who.
    Others(String),
}

/// Tries to take the lease of `group` for `holder`. Under the `last` term that this process had, it is its own still; without
/// one, a lease of the same holder is taken although it has not expired: the process before this one has ended. The
/// connection has autocommit off.
///
/// # Errors
/// As the store's.
pub async fn take(backend: &mut Backend, group: &str, holder: &str, last: Option<u64>) -> Result<Taken, QueryError> {
    let taken = try_take(backend, group, holder, last).await;
    let end = if matches!(taken, Ok(Taken::Ours(_))) { "COMMIT" } else { "ROLLBACK" };
    backend.execute(end.as_bytes()).await?;
    taken
}

async fn try_take(backend: &mut Backend, group: &str, holder: &str, last: Option<u64>) -> Result<Taken, QueryError> {
    let (name, holder_literal) = (literal(group), literal(holder));
    let select = format!(
        "SELECT term, holder, TIMESTAMPDIFF(MICROSECOND, renewed, NOW(6)) > {EXPIRES} * 1000000 \
         FROM switchover.leases WHERE group_name = {name} FOR UPDATE"
    );
    let mut rows = backend.query(select.as_bytes()).await?;
    if rows.rows.is_empty() {
        // (not before: the lock that it takes on a row that is there would have to grow, and is a deadlock with who else wants it)
        let insert = format!("INSERT IGNORE INTO switchover.leases VALUES ({name}, 0, '', '1970-01-02')");
        backend.execute(insert.as_bytes()).await?;
        rows = backend.query(select.as_bytes()).await?;
    }
    let text = |at| rows.first(at).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
    let (term, other, expired) = (text(0), text(1), text(2) == "1");
    let term = term.parse::<u64>().unwrap_or(0);
    let own = other == holder && last.is_none_or(|last| last == term);
    if !expired && !own {
        return Ok(Taken::Others(other));
    }
    let term = term + 1;
    let update = format!(
        "UPDATE switchover.leases SET term = {term}, holder = {holder_literal}, renewed = NOW(6) WHERE group_name = {name}"
    );
    backend.execute(update.as_bytes()).await?;
    // (what it has open would keep the marks)
    worker::end_all(backend, group).await?;
    // parts that have no row yet: those beyond the first, which `init` makes
    for part in 1..MARKS {
        let insert = format!(
            "INSERT IGNORE INTO switchover.marks (group_name, part, term, authority, round, parts, base, position, ids, committed_at) \
             SELECT group_name, {part}, {term}, authority, -1, 1, '', '', '', 0 FROM switchover.marks WHERE group_name = {name} AND part = 0"
        );
        backend.execute(insert.as_bytes()).await?;
    }
    backend.execute(format!("UPDATE switchover.marks SET term = {term} WHERE group_name = {name}").as_bytes()).await?;
    Ok(Taken::Ours(term))
}

/// Says once a second that the holder is alive, whatever its rounds wait for meanwhile: a transaction of many rows must not look
/// like a proxy that has stopped. Ends where the lease is another's by now.
///
/// # Errors
/// As the store's.
pub async fn keep(mut backend: Backend, group: &str, term: u64) -> Result<(), QueryError> {
    let sql = format!(
        "UPDATE switchover.leases SET renewed = NOW(6) WHERE group_name = {} AND term = {term}",
        literal(group)
    );
    // (a proxy that is suspended in the middle keeps no lock of the row that the next one takes)
    backend.execute(b"SET autocommit = 1").await?;
    loop {
        tokio::time::sleep(RENEWED).await;
        let ok = backend.execute(sql.as_bytes()).await?;
        if ok.affected_rows != 1 {
            return Ok(());
        }
    }
}

/// Gives it back, so that another need not wait; whoever has the term.
///
/// # Errors
/// As the store's.
pub async fn release(backend: &mut Backend, group: &str, term: u64) -> Result<(), QueryError> {
    let sql = format!(
        "UPDATE switchover.leases SET renewed = '1970-01-02' WHERE group_name = {} AND term = {term}",
        literal(group)
    );
    backend.execute(sql.as_bytes()).await?;
    backend.execute(b"COMMIT").await?;
    Ok(())
}
