//! `switchover init`: makes the schema `switchover` on both stores of a group, looks at everything that a standby rests on,
//! and writes down where the standby's copy begins.
//!
//! Where it begins is exact: without `--from`, both stores are read in one consistent snapshot whose place in the log the
//! authority itself says (RULES.md 40), and must hold the same rows. A copy that was loaded from a dump says its position.

use std::sync::Arc;
use std::time::Duration;

use super::catalog::{self, Catalog, Description};
use super::check;
use super::journal_start;
use super::pair::{Pair, PairError};
use super::record::{self, Record, Standing};
use super::schema::{self, ARIA, INSTEAD_OF_ARIA, STATEMENTS, literal};
use super::seal_rename;
use super::snapshot;
use super::tables::GroupTables;
use crate::backend::connection::QueryError;
use crate::backend::control::{self, ControlError};
use crate::backend::{Backend, StoreHandle};
use crate::config::model::{ChangeLog, Seal};
use crate::entry::{Kind, Position, quoted};

const LIMIT: Duration = Duration::from_secs(10);

/// What to begin.
pub struct Request {
    /// The group.
    pub group: String,
    /// Its tables.
    pub tables: GroupTables,
    /// The store that serves it.
    pub authority: Arc<StoreHandle>,
    /// The other.
    pub standby: Arc<StoreHandle>,
    /// Where the standby's copy was taken; none to compare both stores now.
    pub from: Option<Position>,
}

/// What was found and done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What keeps the standby from beginning, and what mends it.
    pub problems: Vec<(String, String)>,
    /// What works, until it does not.
    pub warnings: Vec<(String, String)>,
    /// What was done, or was so already.
    pub done: Vec<String>,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A store cannot be reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A store refused a question.
    #[error("{store}: {error}")]
    Store {
        /// Which.
        store: String,
        /// What it said.
        error: QueryError,
    },
}

/// A store, connected.
pub(super) struct Store {
    pub(super) name: String,
    /// What feeds the standby of a group that it serves.
    pub(super) log: ChangeLog,
    pub(super) backend: Backend,
}

impl Store {
    pub(super) async fn connect(handle: &Arc<StoreHandle>) -> Result<Store, InitError> {
        let (name, log) = (handle.name().to_owned(), handle.config.change_log);
        Ok(Store { name, log, backend: control::connect(handle, LIMIT).await? })
    }

    pub(super) async fn run(&mut self, sql: &str) -> Result<Vec<Vec<String>>, InitError> {
        let rows = self.backend.query(sql.as_bytes()).await.map_err(|error| self.failed(error))?;
        let text = |v: &Option<Vec<u8>>| String::from_utf8_lossy(v.as_deref().unwrap_or_default()).into_owned();
        Ok(rows.rows.iter().map(|row| row.iter().map(text).collect()).collect())
    }

    pub(super) async fn one(&mut self, sql: &str) -> Result<String, InitError> {
        let rows = self.run(sql).await?;
        Ok(rows.first().and_then(|row| row.first()).cloned().unwrap_or_default())
    }

    /// A variable; empty where the server has none of this name.
    pub(super) async fn variable(&mut self, name: &str) -> Result<String, InitError> {
        match self.one(&format!("SELECT @@global.{name}")).await {
            Err(InitError::Store { error: QueryError::Refused(_), .. }) => Ok(String::new()),
            other => other,
        }
    }

    /// Whether it has no triggers at all.
    async fn has_no_triggers(&mut self) -> Result<bool, InitError> {
        let asked = super::seal::has_no_triggers(&mut self.backend).await;
        asked.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: QueryError) -> InitError {
        InitError::Store { store: self.name.clone(), error }
    }
}

/// Looks at everything, and begins where nothing is in the way.
///
/// # Errors
/// [`InitError`] where a store does not answer; what it answers is in the report.
pub async fn init(request: &Request) -> Result<Report, InitError> {
    let mut report = Report::default();
    let mut authority = Store::connect(&request.authority).await?;
    let mut standby = Store::connect(&request.standby).await?;
    log_settings(&mut authority, &mut report).await?;
    for store in [&mut authority, &mut standby] {
        make_schema(store, &mut report).await?;
        if store.log == ChangeLog::Journal {
            journal_start::make(store, &request.group, &mut report).await?;
        }
    }
    let ours = catalog::read(&mut authority.backend, &request.tables).await.map_err(|e| authority.failed(e))?;
    let theirs = catalog::read(&mut standby.backend, &request.tables).await.map_err(|e| standby.failed(e))?;
    standby_settings(&mut authority, &mut standby, &ours, &mut report).await?;
    if ours.is_empty() {
        let mend = "mend the group's `tables`, or give its control account SELECT on them".to_owned();
        report
            .problems
            .push((format!("{} has no table of the group that its control account sees", authority.name), mend));
    }
    report.problems.extend(check::differences(&ours, &theirs));
    let problems = journal_start::tables(&mut authority, &ours).await?;
    report.problems.extend(problems);
    if authority.log == ChangeLog::Binlog {
        report.problems.extend(check::authority_engines(&ours));
    }
    let warnings = journal_start::tables(&mut standby, &theirs).await?;
    report.warnings.extend(warnings);
    report.problems.extend(check::standby_tables(&theirs));
    if report.problems.is_empty() {
        begin(request, &mut authority, &mut standby, &ours, &mut report).await?;
    }
    if report.problems.is_empty() {
        seal(request, &mut report).await;
    }
    Ok(report)
}

/// What keeps a store from being an authority that a standby follows.
pub(super) async fn authority_problems(store: &Arc<StoreHandle>, catalog: &Catalog) -> Vec<check::Problem> {
    let mut report = Report::default();
    let looked = async {
        let mut store = Store::connect(store).await?;
        log_settings(&mut store, &mut report).await?;
        if store.log == ChangeLog::Journal {
            report.problems.extend(journal_start::missing(&mut store).await?);
            report.problems.extend(journal_start::tables(&mut store, catalog).await?);
        }
        Ok::<(), InitError>(())
    };
    if let Err(error) = looked.await {
        report.problems.push((error.to_string(), "mend the store, then try again".to_owned()));
    }
    report.problems
}

/// What a store's log promises, whichever it is.
async fn log_settings(store: &mut Store, report: &mut Report) -> Result<(), InitError> {
    match store.log {
        ChangeLog::Binlog => binlog_settings(store, report).await,
        ChangeLog::Journal => journal_start::settings(store, report).await,
    }
}

/// Gives a standby up: both stores take writes, and nothing of the group is left in the schema `switchover`.
///
/// # Errors
/// As the stores'.
pub async fn end(request: &Request) -> Result<(), PairError> {
    let mut pair = Pair::connect(&request.group, &request.tables, [&request.authority, &request.standby]).await?;
    for side in &mut pair.sides {
        // the rows first: no proxy seals a store again that has none
        for table in ["groups", "intents", "proxies", "marks", "leases"] {
            side.execute(&format!("DELETE FROM switchover.{table} WHERE group_name = {}", literal(&request.group)))
                .await?;
        }
        // (where there is a journal: it waits for this group no longer)
        let reader = format!("DELETE FROM switchover.journal_readers WHERE group_name = {}", literal(&request.group));
        let _ = side.execute(&reader).await;
        side.unseal(&request.group, None, tokio::time::Instant::now() + LIMIT).await?;
    }
    Ok(())
}

/// Writes down who is the authority, where nothing says so yet, and seals the standby.
async fn seal(request: &Request, report: &mut Report) {
    let sealed = async {
        let mut pair = Pair::connect(&request.group, &request.tables, [&request.authority, &request.standby]).await?;
        let (_, rows) = pair.look().await?;
        let known = rows.iter().find_map(|r| r.record.as_ref());
        let (epoch, token) = known.map_or_else(|| (1, crate::auth::random::token()), |r| (r.epoch, r.token.clone()));
        let authority = request.authority.name().to_owned();
        for (side, standing) in pair.sides.iter_mut().zip([Standing::Open, Standing::Standby]) {
            let (authority, token) = (authority.clone(), token.clone());
            let record = Record { epoch, authority, standing, token, cutover: String::new() };
            side.execute(&record::creation(&request.group, &record)).await?;
        }
        pair.finish(tokio::time::Instant::now() + LIMIT).await
    };
    match sealed.await {
        Ok((serves, epoch)) if serves == request.authority.name() => {
            let standby = request.standby.name();
            let way = ways(request).await;
            report.done.push(format!("{standby}: sealed{way}, it takes writes of the applier alone (epoch {epoch})"));
        }
        Ok((serves, epoch)) => {
            let what = format!("{serves} is the authority (epoch {epoch}), the file says {}", request.authority.name());
            report.problems.push((what, format!("set the flag in the file to {serves}")));
        }
        Err(error) => {
            let mend = match error.to_string() {
                text if text.contains("SUPER") => {
                    "triggers beside a binlog need a right: SET GLOBAL log_bin_trust_function_creators = 1, and in the my.cnf of both stores"
                }
                text if text.contains("denied") => "run on both stores, as root, what `switchover init --print` prints",
                _ => "mend it, then `switchover init` again",
            };
            report.problems.push((format!("the standby is not sealed: {error}"), mend.to_owned()));
        }
    }
}

/// By which way the standby is sealed, as far as it says so now.
async fn ways(request: &Request) -> String {
    let looked = async {
        let mut store = Store::connect(&request.standby).await.ok()?;
        let catalog = catalog::read(&mut store.backend, &request.tables).await.ok()?;
        let found = seal_rename::places(&mut store.backend, catalog.keys()).await.ok()?;
        let seal = if catalog.values().any(|table| table.sealed) { Seal::Rename } else { Seal::Trigger };
        // (an engine without views, or an account without the right to make some)
        let free = seal_rename::bare(&found);
        let but = if free.is_empty() {
            ""
        } else {
            ", but no view keeps the tables' names, so a table of one can be made there"
        };
        Some(format!(" by {}{but}", seal.word()))
    };
    looked.await.unwrap_or_default()
}

/// RULES.md 30 and 42: what a commit promises, and what the log holds of it.
async fn binlog_settings(store: &mut Store, report: &mut Report) -> Result<(), InitError> {
    let name = store.name.clone();
    let log = store.variable("log_bin").await?;
    if log != "1" && store.has_no_triggers().await? {
        report.problems.push(check::standby_only(&name));
        return Ok(());
    }
    // (there are stores that say `log_bin = 1`, and have none)
    if matches!(store.run("SHOW BINARY LOGS").await, Err(InitError::Store { error: QueryError::Refused(e), .. }) if e.code == 1064)
    {
        let mend = format!("in routing.yaml: `change_log: journal` for the store {name}");
        report.problems.push((format!("{name} has no binlog"), mend));
        return Ok(());
    }
    if log != "1" {
        let mend = format!("in {name}'s my.cnf: log_bin = binlog, server_id = {}; then restart it", 1);
        report.problems.push((format!("{name} writes no binlog"), mend));
        return Ok(());
    }
    for (variable, wanted, why) in [
        ("binlog_format", "ROW", "a statement cannot be repeated exactly"),
        ("binlog_row_image", "FULL", "a row that lacks columns cannot be repeated"),
        ("sync_binlog", "1", "after a crash the standby could hold what the authority has lost"),
        ("innodb_flush_log_at_trx_commit", "1", "after a crash the authority could lose what it acknowledged"),
    ] {
        let is = store.variable(variable).await?;
        if !is.eq_ignore_ascii_case(wanted) {
            let mend = format!(
                "on {name}: SET GLOBAL {variable} = {wanted}; and in its my.cnf; sessions that are connected keep the old value"
            );
            report.problems.push((format!("{name} has {variable} = {is}: {why}"), mend));
        }
    }
    let grants = store.run("SHOW GRANTS").await?.concat().join("\n").to_uppercase();
    if !["REPLICATION SLAVE", "ALL PRIVILEGES ON *.*"].iter().any(|right| grants.contains(right)) {
        let account = store.one("SELECT CURRENT_USER()").await?;
        let mend =
            format!("on {name}: GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {}", account_literal(&account));
        report.problems.push((format!("{name} does not give its log to the control account {account}"), mend));
    }
    Ok(())
}

fn account_literal(account: &str) -> String {
    let (user, host) = account.rsplit_once('@').unwrap_or((account, "%"));
    format!("{}@{}", literal(user), literal(host))
}

async fn standby_settings(
    authority: &mut Store,
    standby: &mut Store,
    catalog: &Catalog,
    report: &mut Report,
) -> Result<(), InitError> {
    let name = standby.name.clone();
    let (ours, theirs) =
        (authority.variable("max_allowed_packet").await?, standby.variable("max_allowed_packet").await?);
    if ours.parse::<u64>().unwrap_or(0) > theirs.parse::<u64>().unwrap_or(0) {
        let what = format!("{name} has max_allowed_packet = {theirs}, the authority {ours}: a large row would not fit");
        report.problems.push((what, format!("on {name}: SET GLOBAL max_allowed_packet = {ours}; and in its my.cnf")));
    }
    let (ours, theirs) =
        (authority.variable("lower_case_table_names").await?, standby.variable("lower_case_table_names").await?);
    let upper = |text: &str| text.chars().any(char::is_uppercase);
    let matters = catalog.keys().find(|name| upper(&name.database) || upper(&name.name));
    if ours != theirs
        && let Some(table) = matters
    {
        let what = format!(
            "{table} has capital letters, and lower_case_table_names is {ours} on {}, {theirs} on {name}",
            authority.name
        );
        report
            .problems
            .push((what, "start the standby with the authority's setting, on an empty data folder".to_owned()));
    }
    if standby.variable("binlog_format").await?.eq_ignore_ascii_case("STATEMENT") {
        let mend = format!("on {name}: SET GLOBAL binlog_format = ROW; and in its my.cnf");
        report
            .problems
            .push((format!("{name} has binlog_format = STATEMENT: rows cannot be applied at READ COMMITTED"), mend));
    }
    if standby.log == ChangeLog::Journal {
        return Ok(());
    }
    let log = standby.variable("log_bin").await?;
    if log != "1" && standby.has_no_triggers().await? {
        report.warnings.push(check::standby_only(&name));
        return Ok(());
    }
    if log != "1" {
        let what = format!("{name} writes no binlog: when it becomes the authority, nothing can follow it");
        report.warnings.push((what, format!("in {name}'s my.cnf: log_bin = binlog; then restart it")));
    }
    for variable in ["sync_binlog", "innodb_flush_log_at_trx_commit"] {
        let is = standby.variable(variable).await?;
        if !is.is_empty() && is != "1" {
            let what = format!("{name} has {variable} = {is}: as an authority it could lose what it acknowledged");
            report.warnings.push((what, format!("on {name}: SET GLOBAL {variable} = 1; and in its my.cnf")));
        }
    }
    Ok(())
}

async fn make_schema(store: &mut Store, report: &mut Report) -> Result<(), InitError> {
    let names: Vec<String> = schema::tables().map(schema::literal).collect();
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'switchover' AND TABLE_NAME IN ({})",
        names.join(", ")
    );
    if store.one(&sql).await? == names.len().to_string() {
        return Ok(());
    }
    for statement in STATEMENTS {
        let mut made = store.run(statement).await;
        for instead in INSTEAD_OF_ARIA.iter().filter(|_| statement.contains(ARIA)) {
            if made.is_err() {
                made = store.run(&statement.replace(ARIA, instead)).await;
            }
        }
        match made {
            Ok(_) => {}
            Err(InitError::Store { error: QueryError::Refused(e), .. }) => {
                let what = format!("{} does not let the control account make the schema `switchover`: {e}", store.name);
                report.problems.push((what, "run there, as root, what `switchover init --print` prints".to_owned()));
                return Ok(());
            }
            Err(other) => return Err(other),
        }
    }
    report.done.push(format!("{}: the schema `switchover` is there", store.name));
    Ok(())
}

/// Writes the first mark.
async fn begin(
    request: &Request,
    authority: &mut Store,
    standby: &mut Store,
    catalog: &Catalog,
    report: &mut Report,
) -> Result<(), InitError> {
    let group = literal(&request.group);
    let begun = format!(
        "SELECT position, authority FROM switchover.marks WHERE group_name = {group} ORDER BY round DESC LIMIT 1"
    );
    let begun = standby.run(&begun).await?;
    let position = match (&request.from, begun.first()) {
        (None, Some(row)) if row.get(1) == Some(&authority.name) => {
            let at = row.first().cloned().unwrap_or_default();
            report.done.push(format!("{}: the copy has begun already, and is at {at}", standby.name));
            return Ok(());
        }
        (Some(from), _) => snapshot::exact(authority, from).await?,
        (None, _) => {
            let position = snapshot::open(authority, &request.authority, catalog, report).await?;
            let Some(position) = position else { return Ok(()) };
            if !same_rows(authority, standby, catalog, report).await? {
                return Ok(());
            }
            position
        }
    };
    standby.run("START TRANSACTION").await?;
    for sql in first_mark(&request.group, &authority.name, &position) {
        standby.run(&sql).await?;
    }
    standby.run("COMMIT").await?;
    report.done.push(format!("{}: the copy begins at {position} of {}", standby.name, authority.name));
    Ok(())
}

/// The statements, for one transaction, that write down where a standby begins to follow: an applier that runs is deposed by the
/// term, and reads the new mark.
pub(super) fn first_mark(group: &str, authority: &str, position: &Position) -> [String; 3] {
    let (group, position, name) = (literal(group), literal(&position.to_string()), literal(authority));
    [
        format!(
            "INSERT INTO switchover.leases VALUES ({group}, 1, '', '1970-01-02') ON DUPLICATE KEY UPDATE term = term + 1, \
             renewed = '1970-01-02'"
        ),
        format!("DELETE FROM switchover.marks WHERE group_name = {group}"),
        format!(
            "INSERT INTO switchover.marks SELECT group_name, 0, term, {name}, 0, 1, {position}, {position}, '', \
             UNIX_TIMESTAMP() FROM switchover.leases WHERE group_name = {group}"
        ),
    ]
}

/// Compares both stores, the authority as it is in the snapshot that is open: whether they hold the same.
async fn same_rows(
    authority: &mut Store,
    standby: &mut Store,
    catalog: &Catalog,
    report: &mut Report,
) -> Result<bool, InitError> {
    for table in catalog.values() {
        let sql = checksum(table);
        let (ours, theirs) = (authority.run(&sql).await?, standby.run(&sql).await?);
        if ours != theirs {
            let count = |rows: &[Vec<String>]| rows.first().and_then(|row| row.first()).cloned().unwrap_or_default();
            let what = format!(
                "{} differs: {} rows on {}, {} on {}",
                table.name,
                count(&ours),
                authority.name,
                count(&theirs),
                standby.name
            );
            let mend = format!(
                "load the standby from a dump that says its position (mariadb-dump --single-transaction --gtid --master-data=1), then \
                 `switchover init GROUP --from POSITION`; or, to begin with empty tables: TRUNCATE {} on both",
                table.name.quoted()
            );
            report.problems.push((what, mend));
        }
    }
    authority.run("COMMIT").await?;
    Ok(report.problems.is_empty())
}

/// The number of rows, and sums over all their columns that do not depend on their order.
fn checksum(table: &Description) -> String {
    let columns = table.columns.iter().filter(|c| !c.generated).map(|column| {
        let name = quoted(&column.name);
        let text = match column.kind {
            Kind::Text(_) | Kind::Binary(_) | Kind::Bytes => format!("HEX({name})"),
            Kind::Enum | Kind::Set | Kind::Bit => format!("{name} + 0"),
            _ => format!("CAST({name} AS CHAR)"),
        };
        format!("COALESCE({text}, '~')")
    });
    let row = format!("CRC32(CONCAT_WS('|', {}))", columns.collect::<Vec<_>>().join(", "));
    format!("SELECT COUNT(*), COALESCE(BIT_XOR({row}), 0), COALESCE(SUM({row}), 0) FROM {}", table.place().quoted())
}
