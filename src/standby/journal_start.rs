//! `switchover init` on an authority without a binlog: makes the journal, and looks at what it rests on.

use super::catalog::Catalog;
use super::check::Problem;
use super::init::{InitError, Report, Store};
use crate::backend::connection::QueryError;
use crate::changes::journal::entry::put_hex;
use crate::changes::journal::schema::{self, HAS_GATE, HAS_SEQUENCE, READ_SECRET, SEQUENCE, STATEMENTS};
use crate::changes::journal::table::{Table, TableError};
use crate::config::model::ChangeLog;

/// RULES.md 30: what a commit promises.
pub(super) async fn settings(store: &mut Store, report: &mut Report) -> Result<(), InitError> {
    let name = store.name.clone();
    let is = store.variable("innodb_flush_log_at_trx_commit").await?;
    if !is.is_empty() && is != "1" {
        let what = format!(
            "{name} has innodb_flush_log_at_trx_commit = {is}: after a crash it could lose what it acknowledged"
        );
        let mend = format!("on {name}: SET GLOBAL innodb_flush_log_at_trx_commit = 1; and in its my.cnf");
        report.problems.push((what, mend));
    }
    Ok(())
}

/// What of the journal is not there: then nothing can be entered.
pub(super) async fn missing(store: &mut Store) -> Result<Vec<Problem>, InitError> {
    let tables = "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover' \
                  AND TABLE_NAME IN ('journal', 'journal_next', 'journal_open', 'journal_readers', 'secrets', 'barriers')";
    let there = store.one(tables).await? == "6"
        && store.one(HAS_GATE).await? == "1"
        && !store.run(READ_SECRET).await?.is_empty();
    let what = format!("{} has no journal, or not all of it", store.name);
    Ok(if there { Vec::new() } else { vec![(what, "switchover init".to_owned())] })
}

/// What an account of the application may do with the journal, and no more.
#[must_use]
pub fn application_grants(account: &str) -> Vec<String> {
    let grant = |rights: &str, table: &str| format!("GRANT {rights} ON switchover.{table} TO {account}");
    vec![
        grant("INSERT", "journal"),
        grant("INSERT, SELECT", "journal_ids"),
        grant("UPDATE, SELECT", "journal_next"),
        grant("INSERT, SELECT, DELETE", "journal_open"),
    ]
}

/// Makes the tables of the journal, its ids, its secret and its gate.
pub(super) async fn make(store: &mut Store, group: &str, report: &mut Report) -> Result<(), InitError> {
    let secret: String = (0..2).map(|_| crate::changes::journal::new_uuid().to_string()).collect();
    let secret = format!("INSERT IGNORE INTO switchover.secrets VALUES ('journal', X'{secret}')");
    // the sequence before anybody can write: whether it is there decides where ids come from
    let mut statements = vec!["USE switchover", SEQUENCE];
    statements.extend(STATEMENTS);
    statements.push(&secret);
    // nothing may go that this group has not read, from here on
    let mut name = String::new();
    put_hex(&mut name, group.as_bytes());
    let reader = format!("INSERT IGNORE INTO switchover.journal_readers VALUES ({name}, 0)");
    if matches!(missing(store).await, Ok(missing) if missing.is_empty()) {
        store.run(&reader).await?;
        return Ok(());
    }
    let gate = schema::gate(super::seal::JOURNAL_REFUSAL);
    statements.push(&reader);
    if store.one(HAS_GATE).await? == "0" {
        statements.push(&gate);
    }
    for statement in statements {
        match store.run(statement).await {
            Ok(_) => {}
            // a syntax error, or not supported: a store without sequences
            Err(InitError::Store { error: QueryError::Refused(e), .. })
                if statement == SEQUENCE && !matches!(e.code, 1044 | 1142) => {}
            Err(InitError::Store { error: QueryError::Refused(e), .. })
                if statement == gate && super::seal::lacks_triggers(e.code) =>
            {
                report.problems.push(super::check::standby_only(&store.name));
                return Ok(());
            }
            Err(InitError::Store { error: QueryError::Refused(e), .. }) => {
                let what = format!("{} does not let the control account make the journal: {e}", store.name);
                report.problems.push((what, "run there, as root, what `switchover init --print` prints".to_owned()));
                return Ok(());
            }
            Err(other) => return Err(other),
        }
    }
    report.done.push(format!("{}: the journal is there", store.name));
    if store.one(HAS_SEQUENCE).await? == "0" {
        let what = format!(
            "{} has no sequences: at REPEATABLE READ, of transactions that are open together all but the first end with 1213",
            store.name
        );
        let mend =
            "on the default store, whose setting sessions have everywhere: SET GLOBAL tx_isolation = 'READ-COMMITTED'";
        report.warnings.push((what, mend.to_owned()));
    }
    let mend = format!("on {}, for each of them: {}", store.name, application_grants("ACCOUNT").join("; "));
    report.warnings.push((
        "the application's accounts enter what they write themselves: they need to be allowed to".to_owned(),
        mend,
    ));
    Ok(())
}

/// Tables whose rows cannot be recorded, of a store with a journal.
pub(super) async fn tables(store: &mut Store, catalog: &Catalog) -> Result<Vec<Problem>, InitError> {
    let mut problems = Vec::new();
    for table in catalog.values().filter(|_| store.log == ChangeLog::Journal) {
        // (one that is sealed by `rename` is where it is)
        let place = table.place();
        match Table::read(&mut store.backend, &place.database, &place.name).await {
            Ok(_) => {}
            Err(TableError::Unfit(what)) => {
                let mend = "change that, or take the table out of the group's patterns".to_owned();
                let store = &store.name;
                problems.push((format!("{store}: {what}: its rows cannot be recorded in a journal"), mend));
            }
            Err(TableError::Query(error)) => return Err(InitError::Store { store: store.name.clone(), error }),
        }
    }
    Ok(problems)
}
