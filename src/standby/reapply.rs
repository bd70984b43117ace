//! On the store that took over: what was left behind, applied where no later write touched it, else reported row by row.
//!
//! ```text
//!                     each image is there as it was, byte for byte
//! pending ──┬───────────────────────────────────────────────────────► applied
//!           │ a row is another one by now, or what it builds on was reported
//!           └───────────────────────────────────────────────────────► reported, none of it applied
//! ```
//!
//! Each transaction is one here too, an ordinary one, without a mark: it goes back to the other store through this one's log. Where
//! that is a journal, its entries are made here, in the same transaction, as a client's session makes them. Its rows of
//! `switchover.left_behind` change from pending in the same transaction: once, over any crash.

use std::collections::HashMap;

use super::catalog::{Catalog, Description};
use super::images::{key, readable_bytes, rows, select, statement};
use super::left_behind::{Settling, Written, end, look, run};
use super::rounds::Failed;
use super::schema::literal;
use super::seal;
use crate::backend::Backend;
use crate::changes::journal::{self, Ids, Secret};
use crate::entry::{Change, Row, RowChange, TableName, Transaction};

/// Attempts at a transaction that meets deadlocks and lock waits.
const ATTEMPTS: usize = 20;

/// Why a transaction is reported: the change that does not fit, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Misfits {
    number: usize,
    why: String,
}

/// What came of it.
enum Outcome {
    Settled,
    Differs(Misfits),
}

/// The keys of what was reported, and by which transaction.
#[derive(Default)]
struct Touched(HashMap<(TableName, Vec<u8>), String>);

impl Touched {
    /// The table as a whole counts as one more key: what is emptied touches all.
    fn of<'c>(change: &'c RowChange, table: &'c Description) -> impl Iterator<Item = (TableName, Vec<u8>)> + 'c {
        let name = change.table.name.clone();
        rows(&change.change).into_iter().map(move |row| (name.clone(), key(table, row)))
    }

    fn add(&mut self, transaction: &Transaction, catalog: &Catalog) {
        for change in &transaction.changes {
            if matches!(change.change, Change::Clear) {
                self.0.insert((change.table.name.clone(), Vec::new()), transaction.id.clone());
            }
            let Some(table) = catalog.get(&change.table.name) else { continue };
            for touched in Touched::of(change, table) {
                self.0.insert(touched, transaction.id.clone());
            }
        }
    }

    /// The first change that builds on something reported.
    fn met(&self, transaction: &Transaction, catalog: &Catalog) -> Option<Misfits> {
        transaction.changes.iter().enumerate().find_map(|(number, change)| {
            let table = catalog.get(&change.table.name)?;
            let whole = (change.table.name.clone(), Vec::new());
            let id =
                std::iter::once(whole).chain(Touched::of(change, table)).find_map(|at| self.0.get(&at).cloned())?;
            Some(Misfits { number, why: format!("it builds on {id}, which was not applied") })
        })
    }
}

/// Where it is applied.
#[derive(Debug, Clone, Copy)]
pub struct Reapply<'a> {
    /// For which settlement.
    pub settling: &'a Settling,
    /// The tables here.
    pub catalog: &'a Catalog,
    /// How entries of this store's journal are made; none, where it has a binlog.
    pub journal: Option<&'a (Secret, Ids)>,
}

/// Settles all that are pending, in order. The connection is one of the applier's, of no lease.
///
/// # Errors
/// [`Failed`]; those before it are settled then.
pub async fn reapply(
    backend: &mut Backend,
    onto: Reapply<'_>,
    transactions: &[Transaction],
    became: &HashMap<String, String>,
) -> Result<(), Failed> {
    let Reapply { settling, catalog, .. } = onto;
    let mut touched = Touched::default();
    for transaction in transactions {
        let misfits = match became.get(&transaction.id).map(String::as_str) {
            Some("applied") => continue,
            Some("reported") => {
                touched.add(transaction, catalog);
                continue;
            }
            _ => touched.met(transaction, catalog).or_else(|| unfit(transaction, catalog)),
        };
        let misfits = match misfits {
            Some(misfits) => Some(misfits),
            None => match again(backend, onto, transaction).await? {
                Outcome::Settled => None,
                Outcome::Differs(misfits) => Some(misfits),
            },
        };
        if let Some(misfits) = misfits {
            touched.add(transaction, catalog);
            report(backend, settling, transaction, &misfits, catalog).await?;
        }
    }
    Ok(())
}

/// What cannot be applied exactly, whatever the rows are.
fn unfit(transaction: &Transaction, catalog: &Catalog) -> Option<Misfits> {
    transaction.changes.iter().enumerate().find_map(|(number, change)| {
        let table = catalog.get(&change.table.name)?;
        let trigger = table.triggers.iter().find(|trigger| !seal::is_own(trigger));
        let why = match (&change.change, trigger) {
            (Change::Clear, _) => "the table was emptied".to_owned(),
            (change_, _) if change.foreign_keys && table.cascades_with(change_) => {
                "foreign keys acted, which no log holds".to_owned()
            }
            (_, Some(trigger)) => format!("the trigger {trigger} would do a second time what the log holds"),
            _ => return None,
        };
        Some(Misfits { number, why })
    })
}

/// Until it is no longer in the way of others.
async fn again(backend: &mut Backend, onto: Reapply<'_>, transaction: &Transaction) -> Result<Outcome, Failed> {
    let mut attempts = 0;
    loop {
        let outcome = apply(backend, onto, transaction).await;
        let outcome = match outcome {
            // (nothing of it stays)
            Ok(Outcome::Differs(misfits)) => {
                run(backend, "ROLLBACK").await?;
                Ok(Outcome::Differs(misfits))
            }
            other => end(backend, other).await,
        };
        match outcome {
            Err(Failed::Busy(_)) if attempts < ATTEMPTS => attempts += 1,
            other => return other,
        }
    }
}

async fn apply(backend: &mut Backend, onto: Reapply<'_>, transaction: &Transaction) -> Result<Outcome, Failed> {
    let Reapply { settling, catalog, journal } = onto;
    if !matches!(look(backend, settling).await?, Written::Open(_)) {
        return Ok(Outcome::Settled);
    }
    let pending = format!(
        "UPDATE switchover.left_behind SET settled = 'applied', noted_at = NOW(6) WHERE {} AND transaction_id = {} AND settled = 'pending'",
        settling.is_it(),
        literal(&transaction.id)
    );
    if run(backend, &pending).await? == 0 {
        return Ok(Outcome::Settled);
    }
    let mut checks = None;
    for (number, change) in transaction.changes.iter().enumerate() {
        let misfits = |why: String| Ok(Outcome::Differs(Misfits { number, why }));
        let statement = match statement(catalog, &change.table, &change.change) {
            Ok(Some(statement)) => statement,
            Ok(None) => continue,
            Err(misfit) => return misfits(misfit.to_string()),
        };
        if checks != Some(change.foreign_keys) {
            checks = Some(change.foreign_keys);
            run(backend, &format!("SET foreign_key_checks = {}", u8::from(change.foreign_keys))).await?;
        }
        match backend.execute(&statement.sql).await.map_err(Failed::of) {
            Ok(ok) if statement.rows == Some(ok.affected_rows) && ok.warnings == statement.warnings => {}
            Ok(_) => return misfits("the row is another one by now".to_owned()),
            Err(Failed::Misfit { what, .. }) => return misfits(what),
            Err(other) => return Err(other),
        }
    }
    if let Some(journal) = journal {
        enter(backend, &settling.group, journal, transaction).await?;
    }
    Ok(Outcome::Settled)
}

/// Enters it in this store's journal. What keeps it out (the gate) is no misfit of a row: nothing is settled then.
async fn enter(
    backend: &mut Backend,
    group: &str,
    (secret, ids): &(Secret, Ids),
    transaction: &Transaction,
) -> Result<(), Failed> {
    let entries = journal::entries(group, &transaction.changes);
    journal::enter(backend, &entries, secret, *ids).await.map_err(Failed::of)
}

async fn report(
    backend: &mut Backend,
    settling: &Settling,
    transaction: &Transaction,
    misfits: &Misfits,
    catalog: &Catalog,
) -> Result<(), Failed> {
    let reported = noted(backend, settling, transaction, misfits, catalog).await;
    end(backend, reported).await
}

async fn noted(
    backend: &mut Backend,
    settling: &Settling,
    transaction: &Transaction,
    misfits: &Misfits,
    catalog: &Catalog,
) -> Result<(), Failed> {
    if !matches!(look(backend, settling).await?, Written::Open(_)) {
        return Ok(());
    }
    for (number, change) in transaction.changes.iter().enumerate() {
        let table = catalog.get(&change.table.name);
        let found = match (table, rows(&change.change).first()) {
            (Some(table), Some(row)) => found(backend, table, row).await?,
            _ => String::new(),
        };
        let why = if number == misfits.number {
            misfits.why.clone()
        } else {
            "another row of its transaction does not fit".to_owned()
        };
        let sql = format!(
            "UPDATE switchover.left_behind SET settled = 'reported', found = {}, why = {}, noted_at = NOW(6) \
             WHERE {} AND transaction_id = {} AND number = {number} AND settled = 'pending'",
            literal(&found),
            literal(&why),
            settling.is_it(),
            literal(&transaction.id)
        );
        run(backend, &sql).await?;
    }
    Ok(())
}

/// The row that this store has under the key.
async fn found(backend: &mut Backend, table: &Description, row: &Row) -> Result<String, Failed> {
    let rows = backend.query(&select(table, row)).await.map_err(Failed::of)?;
    let Some(cells) = rows.rows.first() else { return Ok("no row".to_owned()) };
    let shown = table.columns.iter().zip(cells).map(|(column, cell)| {
        let value = cell.as_deref().map_or_else(|| "NULL".to_owned(), readable_bytes);
        format!("{} = {value}", column.name)
    });
    Ok(shown.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::catalog::testing::{catalog, shape};
    use super::*;
    use crate::entry::{Position, Value};

    fn transaction(id: &str, changes: Vec<Change>) -> Transaction {
        let table = Arc::new(shape());
        let changes =
            changes.into_iter().map(|change| RowChange { table: Arc::clone(&table), change, foreign_keys: true });
        Transaction {
            id: id.into(),
            committed_at: 0,
            changes: changes.collect(),
            after: Position::Gtids(Vec::new()),
            bytes: 0,
        }
    }

    fn row(id: i64) -> Row {
        [Value::Int(id), Value::Null].into()
    }

    #[test]
    fn what_builds_on_something_reported_is_found_by_either_key() {
        let catalog = catalog();
        let mut touched = Touched::default();
        touched.add(&transaction("0-1-1", vec![Change::Update(row(1), row(2))]), &catalog);
        for (id, met) in [(1, true), (2, true), (3, false)] {
            let t = transaction("0-1-2", vec![Change::Insert(row(9)), Change::Delete(row(id))]);
            assert_eq!(touched.met(&t, &catalog).map(|m| m.number), met.then_some(1), "{id}");
        }
        touched.add(&transaction("0-1-3", vec![Change::Clear]), &catalog);
        let why = touched.met(&transaction("0-1-4", vec![Change::Insert(row(50))]), &catalog).unwrap().why;
        assert_eq!(why, "it builds on 0-1-3, which was not applied");
    }

    #[test]
    fn triggers_and_emptied_tables_are_reported() {
        let mut catalog = catalog();
        assert_eq!(unfit(&transaction("1", vec![Change::Insert(row(1))]), &catalog), None);
        assert!(
            unfit(&transaction("1", vec![Change::Insert(row(1)), Change::Clear]), &catalog)
                .is_some_and(|m| m.number == 1)
        );
        catalog.values_mut().for_each(|table| Arc::make_mut(table).triggers = vec!["switchover_seal_x".into()]);
        assert_eq!(unfit(&transaction("1", vec![Change::Insert(row(1))]), &catalog), None);
        catalog.values_mut().for_each(|table| Arc::make_mut(table).triggers.push("own".into()));
        assert!(unfit(&transaction("1", vec![Change::Insert(row(1))]), &catalog).unwrap().why.contains("own"));
    }
}
