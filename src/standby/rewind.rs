//! On the authority that failed, once it is back and sealed: takes back what it alone had, so that it holds what its standby
//! held when that took over, and may follow it from there.
//!
//! All of it is one transaction, with the marks from which the applier follows, and with the row of `switchover.rewound` that
//! says that it is done. What cannot be taken back (TRUNCATE, what foreign keys did, a row that somebody changed) leaves the
//! store without marks, so that nobody applies to it, and says that it is to be loaded again.

use super::catalog::Catalog;
use super::images::{statement, undone};
use super::init::first_mark;
use super::left_behind::{Settling, ask, end, run};
use super::rounds::Failed;
use super::schema::literal;
use super::statements::Statement;
use crate::backend::Backend;
use crate::entry::{Position, Transaction};

/// Where the store stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewound {
    /// It holds what the other store held at the start of its time as the authority, and follows it from there.
    Done,
    /// It is to be loaded again.
    Reload {
        /// Why.
        what: String,
        /// How.
        remedy: String,
    },
}

/// What is to be done.
pub struct Rewind<'a> {
    /// Of which settlement.
    pub settling: &'a Settling,
    /// The store that is the authority now.
    pub authority: &'a str,
    /// Where its log begins that this store is to follow.
    pub start: &'a Position,
    /// The tables here.
    pub catalog: &'a Catalog,
    /// What to take back, in commit order.
    pub transactions: &'a [Transaction],
}

/// Takes it back, if that was not done yet. The connection shows the seal's token.
///
/// # Errors
/// [`Failed`]; nothing is done then, but after [`Failed::Lost`], which leaves that open.
pub async fn rewind(backend: &mut Backend, rewind: &Rewind<'_>) -> Result<Rewound, Failed> {
    let outcome = match take_back(backend, rewind).await {
        Ok(Ok(known)) => Ok(known),
        Ok(Err(what)) => {
            run(backend, "ROLLBACK").await?;
            give_up(backend, rewind, what).await
        }
        Err(failed) => Err(failed),
    };
    end(backend, outcome).await
}

/// The inner error: what cannot be taken back.
async fn take_back(backend: &mut Backend, rewind: &Rewind<'_>) -> Result<Result<Rewound, String>, Failed> {
    if let Some(known) = begin(backend, rewind).await? {
        return Ok(Ok(known));
    }
    let statements = match planned(rewind) {
        Ok(statements) => statements,
        Err(what) => return Ok(Err(what)),
    };
    for statement in &statements {
        match backend.execute(&statement.sql).await.map_err(Failed::of) {
            Ok(ok) if statement.rows == Some(ok.affected_rows) && ok.warnings == statement.warnings => {}
            Ok(_) => {
                let shown: String = String::from_utf8_lossy(&statement.sql).chars().take(400).collect();
                return Ok(Err(format!("{}: a row is not as it was written: {shown}", statement.table)));
            }
            Err(Failed::Misfit { what, .. }) => return Ok(Err(format!("{}: {what}", statement.table))),
            Err(other) => return Err(other),
        }
    }
    marks(backend, rewind, true).await?;
    note(backend, rewind, "", "").await?;
    Ok(Ok(Rewound::Done))
}

/// Deposes whoever applies here; waits for another who rewinds. What is known of this settlement.
async fn begin(backend: &mut Backend, rewind: &Rewind<'_>) -> Result<Option<Rewound>, Failed> {
    let group = literal(&rewind.settling.group);
    let depose = format!(
        "INSERT INTO switchover.leases VALUES ({group}, 1, '', '1970-01-02') ON DUPLICATE KEY UPDATE term = term + 1, \
         renewed = '1970-01-02'"
    );
    run(backend, &depose).await?;
    let Some(known) = known(backend, rewind.settling).await? else { return Ok(None) };
    // the term stays as it was: whoever applies here by now does so rightly
    run(backend, "ROLLBACK").await?;
    Ok(Some(known))
}

/// Where the store stands, if this settlement has been there.
///
/// # Errors
/// As the store's.
pub async fn known(backend: &mut Backend, settling: &Settling) -> Result<Option<Rewound>, Failed> {
    let sql = format!("SELECT what, remedy FROM switchover.rewound WHERE {} FOR UPDATE", settling.is_it());
    let rows = ask(backend, &sql).await?;
    let Some([what, remedy]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
    Ok(Some(match what.is_empty() {
        true => Rewound::Done,
        false => Rewound::Reload { what: what.clone(), remedy: remedy.clone() },
    }))
}

fn planned(rewind: &Rewind<'_>) -> Result<Vec<Statement>, String> {
    let changes = undone(rewind.transactions.iter().flat_map(|t| &t.changes), rewind.catalog)?;
    let statements = changes.iter().map(|c| statement(rewind.catalog, &c.table, &c.change).map_err(|e| e.to_string()));
    statements.filter_map(Result::transpose).collect()
}

async fn give_up(backend: &mut Backend, rewind: &Rewind<'_>, what: String) -> Result<Rewound, Failed> {
    if let Some(known) = begin(backend, rewind).await? {
        return Ok(known);
    }
    marks(backend, rewind, false).await?;
    let (group, source) = (&rewind.settling.group, &rewind.settling.source);
    let remedy = format!(
        "load {source} again from {} (mariadb-dump --single-transaction --gtid --master-data=1), then `switchover init {group} \
         --from POSITION`",
        rewind.authority
    );
    note(backend, rewind, &what, &remedy).await?;
    Ok(Rewound::Reload { what, remedy })
}

/// Where the applier begins here; without, none does. Its term is another one by now.
async fn marks(backend: &mut Backend, rewind: &Rewind<'_>, begin: bool) -> Result<(), Failed> {
    let group = &rewind.settling.group;
    if begin {
        for sql in first_mark(group, rewind.authority, rewind.start) {
            run(backend, &sql).await?;
        }
    } else {
        run(backend, &format!("DELETE FROM switchover.marks WHERE group_name = {}", literal(group))).await?;
    }
    Ok(())
}

async fn note(backend: &mut Backend, rewind: &Rewind<'_>, what: &str, remedy: &str) -> Result<(), Failed> {
    let (group, id) = (literal(&rewind.settling.group), literal(&rewind.settling.id));
    let (what, remedy) = (literal(what), literal(remedy));
    let sql = format!("REPLACE INTO switchover.rewound VALUES ({group}, {id}, {what}, {remedy}, NOW(6))");
    run(backend, &sql).await.map(|_| ())
}
