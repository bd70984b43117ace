//! What was left behind, written down on the store that took over, before the store that had it is made to forget it.
//!
//! `settling_log` holds the transactions whole, until they are settled; `left_behind` a row for each of their changes, for
//! people, which stays. Both are written in one transaction with the row of `settlings` that says so.

use super::catalog::Catalog;
use super::images::{readable, readable_key, rows};
use super::rounds::Failed;
use super::schema::literal;
use crate::backend::Backend;
use crate::entry::column::put_quoted;
use crate::entry::{Change, RowChange, Transaction, codec};

/// Bytes of a kept transaction in one row, and of one statement.
const CHUNK: usize = 1 << 20;

/// Which settlement, of which group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settling {
    /// The group.
    pub group: String,
    /// 64 hexadecimal digits: the same for the same authority, left at the same position.
    pub id: String,
    /// The authority that failed.
    pub source: String,
}

impl Settling {
    /// `group_name = … AND settling = …`.
    pub(super) fn is_it(&self) -> String {
        format!("group_name = {} AND settling = {}", literal(&self.group), literal(&self.id))
    }
}

/// What is written down of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Nothing yet.
    Nothing,
    /// So many transactions, not all of them settled.
    Open(usize),
    /// All is settled.
    Done,
}

/// The rows of a result as text, NULL as nothing.
pub(super) async fn ask(backend: &mut Backend, sql: &str) -> Result<Vec<Vec<String>>, Failed> {
    let text = |v: Option<Vec<u8>>| String::from_utf8_lossy(&v.unwrap_or_default()).into_owned();
    let rows = backend.query(sql.as_bytes()).await.map_err(Failed::of)?.rows;
    Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

pub(super) async fn run(backend: &mut Backend, sql: &str) -> Result<u64, Failed> {
    Ok(backend.execute(sql.as_bytes()).await.map_err(Failed::of)?.affected_rows)
}

/// Looks. The row is locked until the transaction ends: two proxies that settle do so in turn.
///
/// # Errors
/// As the store's; a settlement of another failure that has not come to its end.
pub async fn look(backend: &mut Backend, settling: &Settling) -> Result<Written, Failed> {
    let sql = format!(
        "SELECT settling, transactions, state FROM switchover.settlings WHERE group_name = {} FOR UPDATE",
        literal(&settling.group)
    );
    let rows = ask(backend, &sql).await?;
    let Some([id, transactions, state]) = rows.first().map(Vec::as_slice) else { return Ok(Written::Nothing) };
    match (*id == settling.id, state.as_str()) {
        (true, "done") => Ok(Written::Done),
        (true, _) => Ok(Written::Open(transactions.parse().unwrap_or(0))),
        (false, "done") => Ok(Written::Nothing),
        (false, _) => Err(Failed::Misfit {
            what: format!("what an earlier authority of {} left behind is not settled yet", settling.group),
            remedy: "start the store that failed before, so that it can be settled first".to_owned(),
        }),
    }
}

/// Writes the transactions down as pending; whoever did so first has.
///
/// # Errors
/// [`Failed`]; nothing is written then, but after [`Failed::Lost`], which leaves that open.
pub async fn record(
    backend: &mut Backend,
    settling: &Settling,
    transactions: &[Transaction],
    catalog: &Catalog,
) -> Result<(), Failed> {
    let written = match look(backend, settling).await {
        Ok(Written::Nothing) => write(backend, settling, transactions, catalog).await,
        other => other.map(|_| ()),
    };
    end(backend, written).await
}

/// COMMIT, or ROLLBACK after an error.
pub(super) async fn end<T>(backend: &mut Backend, done: Result<T, Failed>) -> Result<T, Failed> {
    match &done {
        Err(Failed::Lost(_)) => {}
        Err(_) => drop(backend.execute(b"ROLLBACK").await),
        Ok(_) => {
            run(backend, "COMMIT").await?;
        }
    }
    done
}

async fn write(
    backend: &mut Backend,
    settling: &Settling,
    transactions: &[Transaction],
    catalog: &Catalog,
) -> Result<(), Failed> {
    let group = literal(&settling.group);
    run(backend, &format!("DELETE FROM switchover.settling_log WHERE group_name = {group}")).await?;
    run(backend, &format!("DELETE FROM switchover.settlings WHERE group_name = {group} AND state = 'done'")).await?;
    let row = format!(
        "INSERT INTO switchover.settlings VALUES ({group}, {}, {}, {}, 'open', NOW(6))",
        literal(&settling.id),
        literal(&settling.source),
        transactions.len()
    );
    run(backend, &row).await.map_err(|failed| match failed {
        // (a row that is not there cannot be locked)
        Failed::Misfit { what, .. } => Failed::Busy(format!("another proxy has written it down: {what}")),
        other => other,
    })?;
    for (place, transaction) in transactions.iter().enumerate() {
        for (chunk, data) in codec::encode(transaction).chunks(CHUNK).enumerate() {
            let mut sql =
                format!("INSERT INTO switchover.settling_log VALUES ({group}, {place}, {chunk}, ").into_bytes();
            put_quoted(&mut sql, data);
            sql.push(b')');
            backend.execute(&sql).await.map_err(Failed::of)?;
        }
        let mut values = String::new();
        for (number, change) in transaction.changes.iter().enumerate() {
            values.push_str(if values.is_empty() { "" } else { ", " });
            values.push_str(&pending(settling, place, transaction, (number, change), catalog));
            if values.len() > CHUNK {
                insert(backend, &std::mem::take(&mut values)).await?;
            }
        }
        insert(backend, &values).await?;
    }
    Ok(())
}

async fn insert(backend: &mut Backend, values: &str) -> Result<(), Failed> {
    if values.is_empty() {
        return Ok(());
    }
    // (a log that was reset counts from one again)
    run(backend, &format!("REPLACE INTO switchover.left_behind VALUES {values}")).await.map(|_| ())
}

fn pending(
    settling: &Settling,
    place: usize,
    transaction: &Transaction,
    (number, change): (usize, &RowChange),
    catalog: &Catalog,
) -> String {
    let (key, was) = match catalog.get(&change.table.name) {
        Some(table) => {
            let images = rows(&change.change);
            let key = images.first().map(|row| readable_key(table, row)).unwrap_or_default();
            let shown = images.iter().map(|row| readable(table, row)).collect::<Vec<_>>().join(" → ");
            let does = match change.change {
                Change::Insert(_) => "INSERT ",
                Change::Update(..) => "UPDATE ",
                Change::Delete(_) => "DELETE ",
                Change::Clear => "TRUNCATE",
            };
            (key, format!("{does}{shown}"))
        }
        None => Default::default(),
    };
    format!(
        "({}, {}, {number}, {}, {place}, {}, {}, {}, {}, '', 'pending', '', NOW(6))",
        literal(&settling.group),
        literal(&transaction.id),
        literal(&settling.id),
        transaction.committed_at,
        literal(&change.table.name.to_string()),
        literal(&key),
        literal(&was),
    )
}

/// Reads the transactions back.
///
/// # Errors
/// [`Failed`]; rows that were not written by [`record`] as a misfit.
pub async fn load(backend: &mut Backend, settling: &Settling, transactions: usize) -> Result<Vec<Transaction>, Failed> {
    let group = literal(&settling.group);
    let mut out = Vec::with_capacity(transactions);
    for place in 0..transactions {
        let mut bytes = Vec::new();
        for chunk in 0.. {
            let sql = format!(
                "SELECT data FROM switchover.settling_log WHERE group_name = {group} AND place = {place} AND chunk = {chunk}"
            );
            let rows = backend.query(sql.as_bytes()).await.map_err(Failed::of)?;
            let Some(data) = rows.first(0) else { break };
            bytes.extend_from_slice(data);
        }
        let transaction = codec::decode(&bytes).map_err(|e| Failed::Misfit {
            what: format!("switchover.settling_log, transaction {place} of {}: {e}", settling.group),
            remedy: "let the proxy that wrote it settle it".to_owned(),
        })?;
        out.push(transaction);
    }
    run(backend, "COMMIT").await?;
    Ok(out)
}

/// One transaction, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its id in the log of the authority that failed.
    pub id: String,
    /// `pending`, `applied` or `reported`.
    pub became: String,
}

/// All of a settlement, in order.
///
/// # Errors
/// As the store's.
pub async fn list(backend: &mut Backend, settling: &Settling) -> Result<Vec<Settled>, Failed> {
    let sql = format!(
        "SELECT transaction_id, MIN(settled) FROM switchover.left_behind WHERE {} GROUP BY place, transaction_id ORDER BY place",
        settling.is_it()
    );
    let rows = ask(backend, &sql).await?;
    run(backend, "COMMIT").await?;
    let settled = |row: Vec<String>| {
        let [id, became] = <[String; 2]>::try_from(row).ok()?;
        Some(Settled { id, became })
    };
    Ok(rows.into_iter().filter_map(settled).collect())
}

/// The end: the transactions themselves are kept no longer.
///
/// # Errors
/// As the store's.
pub async fn finish(backend: &mut Backend, settling: &Settling) -> Result<(), Failed> {
    let done = async {
        let done = format!("UPDATE switchover.settlings SET state = 'done' WHERE {}", settling.is_it());
        if run(backend, &done).await? == 1 {
            let kept = format!("DELETE FROM switchover.settling_log WHERE group_name = {}", literal(&settling.group));
            run(backend, &kept).await?;
        }
        Ok(())
    };
    let done = done.await;
    end(backend, done).await
}

/// One change that was left behind, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The transaction.
    pub transaction: String,
    /// When it committed on the authority that failed, by that one's clock, UTC.
    pub committed_at: String,
    /// The table.
    pub table: String,
    /// The row's key.
    pub key: String,
    /// What the authority that failed did: the statement's kind, and the row before and after.
    pub was: String,
    /// What the other store has under the key.
    pub found: String,
    /// `pending`, `applied` or `reported`.
    pub settled: String,
    /// Why it was not applied.
    pub why: String,
}

/// Changes of a group, the newest settlement's last, in order; with `all` those too that were applied. At most `most`.
///
/// # Errors
/// As the store's.
pub async fn noted(backend: &mut Backend, group: &str, all: bool, most: usize) -> Result<Vec<Noted>, Failed> {
    let which = if all { "" } else { " AND settled <> 'applied'" };
    let sql = format!(
        "SELECT transaction_id, FROM_UNIXTIME(committed_at), table_name, row_key, was, found, settled, why \
         FROM switchover.left_behind WHERE group_name = {}{which} \
         ORDER BY MAX(noted_at) OVER (PARTITION BY settling), settling, place, number LIMIT {most}",
        literal(group)
    );
    let noted = |row: Vec<String>| {
        let [transaction, committed_at, table, key, was, found, settled, why] = <[String; 8]>::try_from(row).ok()?;
        Some(Noted { transaction, committed_at, table, key, was, found, settled, why })
    };
    Ok(ask(backend, &sql).await?.into_iter().filter_map(noted).collect())
}
