//! `switchover init` on an authority without a binlog: makes the journal, looks at what it rests on, and says where a copy begins.
//!
//! Where it begins is exact: while all tables of the group are locked against writers for a moment, none of their transactions
//! is open, so every entry of theirs is there (RULES.md 39); a consistent snapshot taken then holds what the entries say, and no more.

use std::time::Duration;

use super::catalog::Catalog;
use super::init::{InitError, Report, Store};
use crate::backend::connection::QueryError;
use crate::changes::journal::entry::put_hex;
use crate::changes::journal::schema::{SEQUENCE, STATEMENTS};
use crate::changes::journal::table::{Table, TableError};
use crate::entry::{Position, Uuid};

/// How often the tables are tried, each time for a second: a lock that waits longer stalls every writer (RULES.md 35).
const ATTEMPTS: u32 = 20;

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

/// Makes the tables of the journal, its ids and its secret.
pub(super) async fn make(store: &mut Store, group: &str, report: &mut Report) -> Result<(), InitError> {
    let secret: String = (0..2).map(|_| crate::changes::journal::new_uuid().to_string()).collect();
    let secret = format!("INSERT IGNORE INTO switchover.secrets VALUES ('journal', X'{secret}')");
    let database = "CREATE DATABASE IF NOT EXISTS switchover CHARACTER SET utf8mb4";
    // the sequence before anybody can write: whether it is there decides where ids come from
    let mut statements = vec![database, SEQUENCE];
    statements.extend(STATEMENTS);
    statements.push(&secret);
    // nothing may go that this group has not read, from here on
    let mut name = String::new();
    put_hex(&mut name, group.as_bytes());
    let reader = format!("INSERT IGNORE INTO switchover.journal_readers VALUES ({name}, 0)");
    statements.push(&reader);
    for statement in statements {
        match store.run(statement).await {
            Ok(_) => {}
            // a syntax error, or not supported: a store without sequences
            Err(InitError::Store { error: QueryError::Refused(e), .. })
                if statement == SEQUENCE && !matches!(e.code, 1044 | 1142) => {}
            Err(InitError::Store { error: QueryError::Refused(e), .. }) => {
                let what = format!("{} does not let the control account make the journal: {e}", store.name);
                report.problems.push((what, "GRANT ALL ON switchover.* to the control account".to_owned()));
                return Ok(());
            }
            Err(other) => return Err(other),
        }
    }
    let mend = format!("on {}, for each of them: {}", store.name, application_grants("ACCOUNT").join("; "));
    report.warnings.push((
        "the application's accounts enter what they write themselves: they need to be allowed to".to_owned(),
        mend,
    ));
    Ok(())
}

/// Tables whose rows cannot be recorded.
pub(super) async fn tables(store: &mut Store, catalog: &Catalog, report: &mut Report) -> Result<(), InitError> {
    for name in catalog.keys() {
        match Table::read(&mut store.backend, &name.database, &name.name).await {
            Ok(_) => {}
            Err(TableError::Unfit(what)) => {
                let mend = "change that, or take the table out of the group's patterns".to_owned();
                report.problems.push((format!("{what}: its rows cannot be recorded in a journal"), mend));
            }
            Err(TableError::Query(error)) => return Err(InitError::Store { store: store.name.clone(), error }),
        }
    }
    Ok(())
}

/// Opens the snapshot in which the authority is read, and says which entry it is at; none where its tables stay in use.
pub(super) async fn snapshot(
    authority: &mut Store,
    locker: &mut Store,
    catalog: &Catalog,
    report: &mut Report,
) -> Result<Option<Position>, InitError> {
    let list: Vec<String> = catalog.keys().map(|name| format!("{} READ", name.quoted())).collect();
    let lock = format!("LOCK TABLES {}", list.join(", "));
    locker.run("SET lock_wait_timeout = 1").await?;
    for attempt in 1..=ATTEMPTS {
        match locker.run(&lock).await {
            Ok(_) => break,
            Err(InitError::Store { error: QueryError::Refused(e), .. }) if e.code == 1205 && attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(InitError::Store { error: QueryError::Refused(e), .. }) => {
                let what = format!("the group's tables on {} cannot be locked for a moment: {e}", authority.name);
                let mend =
                    "end the transactions that use them (SHOW PROCESSLIST), then `switchover init` again".to_owned();
                report.problems.push((what, mend));
                return Ok(None);
            }
            Err(other) => return Err(other),
        }
    }
    authority.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
    authority.run("START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
    let newest = "SELECT id, HEX(uuid) FROM switchover.journal ORDER BY id DESC LIMIT 1";
    let newest = authority.run(newest).await?;
    locker.run("UNLOCK TABLES").await?;
    let text = |at: usize| newest.first().and_then(|row| row.get(at)).map(String::as_str);
    let id = text(0).and_then(|id| id.parse().ok());
    let uuid = text(1).and_then(|uuid| uuid.parse().ok());
    Ok(Some(match (id, uuid) {
        (Some(id), Some(uuid)) => Position::Journal { id, uuid },
        _ => Position::Journal { id: 0, uuid: Uuid::default() },
    }))
}
