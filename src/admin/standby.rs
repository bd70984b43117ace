//! `switchover init` and `switchover standby …`.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::check;
use super::client::{ClientError, ask, ask_for};
use super::events::{Event, Events};
use super::outcome::{Code, Outcome};
use super::protocol::{
    AuthorityStatus, Begun, Cause, Failure, FailureKind, Found, GroupStatus, Reply, Request, StandbyAction,
    StandbyRequest, StandbyStatus,
};
use super::show::unexpected;
use super::table::number;
use crate::backend::{StoreHandle, control};
use crate::changes::journal::schema as journal;
use crate::config::model::{ChangeLog, Group, Seal, Store};
use crate::config::problem::render;
use crate::config::{self, Config, GroupId};
use crate::entry::TableName;
use crate::entry::place::sealed_schema;
use crate::entry::{Position, quoted};
use crate::routing::Snapshot;
use crate::standby::journal_start::application_grants;
use crate::standby::{GroupTables, init, schema};

/// What `switchover init` is asked.
pub struct Init<'a> {
    /// The configuration file.
    pub config: &'a Path,
    /// One group; none for every group with a standby.
    pub group: Option<String>,
    /// Only print the SQL.
    pub print: bool,
    /// Where the standby's copy was taken.
    pub from: Option<String>,
    /// Who wants it, and why.
    pub cause: Cause,
    /// Answer for programs.
    pub json: bool,
}

/// How long the stores may take: triggers of many tables wait for each table's transactions.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Runs `switchover init`. Blocks.
pub fn init(command: &Init<'_>) -> Outcome {
    let config = match config::load(command.config) {
        Ok(config) => config,
        Err(problems) => return check::refused(&problems, command.json),
    };
    let refused = |text: &str| Outcome::failed(Code::Refused, command.json, text);
    let wanted =
        |group: &&Group| group.standby.is_some() && command.group.as_ref().is_none_or(|name| *name == group.name);
    let groups: Vec<&Group> = config.groups.iter().filter(wanted).collect();
    if groups.is_empty() {
        let which =
            command.group.as_ref().map_or("no group has".to_owned(), |name| format!("there is no group {name} with"));
        return refused(&format!("{which} a standby\n  help: write `standby: STORE` in the group"));
    }
    if command.print {
        let text = groups.iter().map(|group| printed(&config, group)).collect::<String>();
        return Outcome { stdout: text, stderr: String::new(), code: Code::Done };
    }
    if command.from.is_some() && groups.len() > 1 {
        return refused("--from is one group's: name the group");
    }
    let mut all = Vec::new();
    for group in groups {
        let action = StandbyAction::Init { position: command.from.clone() };
        match perform(command.config, &config, &group.name, action, &command.cause) {
            Ok(Reply::Begun(begun)) => all.push(*begun),
            Ok(other) => return unexpected(Ok(other), command.json),
            Err(ClientError::Failed(failure)) => return refused(&failure.message),
            Err(error) => return unexpected(Err(error), command.json),
        }
    }
    let code = if all.iter().all(|begun| begun.good) { Code::Done } else { Code::Refused };
    Outcome::new(code, command.json, &all, || all.iter().map(told).collect())
}

/// Runs `switchover standby end`. Blocks.
pub fn end(path: &Path, name: &str, cause: &Cause, json: bool) -> Outcome {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => return check::refused(&problems, json),
    };
    if !config.groups.iter().any(|g| g.name == name && g.standby.is_some()) {
        return Outcome::failed(Code::Refused, json, &format!("there is no group {name} with a standby"));
    }
    match perform(path, &config, name, StandbyAction::End, cause) {
        Ok(Reply::Ended) => Outcome::new(Code::Done, json, &name, || {
            format!(
                "{name}: both stores take writes, nothing follows any more\n  now remove `standby:` from the group\n"
            )
        }),
        Err(ClientError::Failed(failure)) => Outcome::failed(Code::Failed, json, &failure.message),
        other => unexpected(other, json),
    }
}

/// Has the proxy do it; does it here, and writes it down, where none can be asked.
fn perform(
    path: &Path,
    config: &Config,
    group: &str,
    action: StandbyAction,
    cause: &Cause,
) -> Result<Reply, ClientError> {
    let request = StandbyRequest { group: group.to_owned(), action, cause: cause.clone() };
    let asked = ask_for(&config.control_socket, &Request::Standby(request.clone()), PATIENCE);
    if !matches!(asked, Err(ClientError::NotRunning(_) | ClientError::Denied(_))) {
        return asked;
    }
    let done = of_stores(path, &request);
    let what = format!("{}, no proxy was asked", action_words(&request.action));
    let (after, outcome) = came_to(&done);
    let event = Event { after, outcome: Some(outcome.to_owned()), ..Event::of_command(cause, group, what) };
    Events::kept_in(&config.audit).add(event);
    done.map_err(ClientError::Failed)
}

/// What the log of changes calls it.
pub(super) fn action_words(action: &StandbyAction) -> String {
    match action {
        StandbyAction::Retry => "standby retry".to_owned(),
        StandbyAction::Skip { transaction, .. } => format!("standby skip {transaction}"),
        StandbyAction::Init { position: Some(position) } => format!("standby init from {position}"),
        StandbyAction::Init { position: None } => "standby init".to_owned(),
        StandbyAction::End => "standby end".to_owned(),
    }
}

/// How it is after that, and whether it was done.
pub(super) fn came_to(done: &Result<Reply, Failure>) -> (Option<String>, &'static str) {
    match done {
        Ok(Reply::Begun(begun)) if !begun.good => {
            let problems: Vec<&str> = begun.problems.iter().map(|p| p.what.as_str()).collect();
            (Some(format!("nothing has begun: {}", problems.join("; "))), "refused")
        }
        Ok(Reply::Begun(_)) => (Some("the standby follows".to_owned()), "done"),
        Ok(Reply::Ended) => (Some("both stores take writes".to_owned()), "done"),
        Ok(_) => (None, "done"),
        Err(failure) if matches!(failure.kind, FailureKind::Timeout | FailureKind::Internal) => {
            (Some(failure.message.clone()), "failed")
        }
        Err(failure) => (Some(failure.message.clone()), "refused"),
    }
}

/// What changes the stores of a group, with a runtime of its own: connections to stores are bound to one. Blocks.
///
/// # Errors
/// Where the file does not check, the group has no standby, or a store refuses.
pub(super) fn of_stores(path: &Path, request: &StandbyRequest) -> Result<Reply, Failure> {
    let failed = |kind: FailureKind| move |text: String| Failure::new(kind, text);
    let config = config::load(path).map_err(|problems| Failure::new(FailureKind::Config, render(&problems)))?;
    let group = config.groups.iter().find(|g| g.name == request.group && g.standby.is_some());
    let none = || Failure::new(FailureKind::Request, format!("there is no group {} with a standby", request.group));
    let group = group.ok_or_else(none)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))?;
    match &request.action {
        StandbyAction::Init { position } => {
            let from = position.as_deref().map(str::parse::<Position>).transpose();
            let from = from.map_err(|e| Failure::new(FailureKind::Request, e.to_string()))?;
            let report = runtime.block_on(begin(&config, group, from)).map_err(failed(FailureKind::Request))?;
            Ok(Reply::Begun(Box::new(begun(group, report))))
        }
        StandbyAction::End => {
            let ended = runtime.block_on(async {
                let asked = self::request(&config, group, None).await?;
                init::end(&asked).await.map_err(|e| e.to_string())
            });
            ended.map(|()| Reply::Ended).map_err(failed(FailureKind::Internal))
        }
        StandbyAction::Retry | StandbyAction::Skip { .. } => {
            Err(Failure::new(FailureKind::Request, "that is no change of stores"))
        }
    }
}

async fn begin(config: &Config, group: &Group, from: Option<Position>) -> Result<init::Report, String> {
    let request = request(config, group, from).await?;
    init::init(&request).await.map_err(|e| e.to_string())
}

async fn request(config: &Config, group: &Group, from: Option<Position>) -> Result<init::Request, String> {
    let handle = |id: config::StoreId| -> Result<Arc<StoreHandle>, String> {
        let store = config.stores.get(usize::from(id.0)).cloned().ok_or("no such store")?;
        Ok(Arc::new(StoreHandle::new(store).map_err(|e| e.to_string())?))
    };
    let authority = handle(group.connection)?;
    let standby = handle(group.standby.unwrap_or(group.connection))?;
    let probed = control::probe(&authority, config.limits.connect_timeout).await.map_err(|e| e.to_string())?;
    let at = config.groups.iter().position(|g| g.name == group.name).and_then(|at| u16::try_from(at).ok());
    let snapshot = Snapshot::compile(Arc::new(config.clone()), 0, probed.lower_case_table_names.unwrap_or(0));
    let tables = GroupTables::new(snapshot, GroupId(at.unwrap_or(0)));
    Ok(init::Request { group: group.name.clone(), tables, authority, standby, from })
}

fn begun(group: &Group, report: init::Report) -> Begun {
    let found = |list: Vec<(String, String)>| list.into_iter().map(|(what, mend)| Found { what, mend }).collect();
    Begun {
        group: group.name.clone(),
        good: report.problems.is_empty(),
        problems: found(report.problems),
        warnings: found(report.warnings),
        done: report.done,
    }
}

fn told(begun: &Begun) -> String {
    let mut text = format!("{}\n", begun.group);
    for done in &begun.done {
        let _ = writeln!(text, "  ok     {done}");
    }
    for (level, found) in [("warn ", &begun.warnings), ("error", &begun.problems)] {
        for Found { what, mend } in found {
            let _ = writeln!(text, "  {level}  {what}");
            mend.lines().for_each(|line| text.push_str(&format!("         → {line}\n")));
        }
    }
    let end = if begun.good {
        "the standby follows as soon as a proxy serves this file: switchover standby show"
    } else {
        "nothing has begun: mend the errors, then run this again"
    };
    let _ = writeln!(text, "  {end}");
    text
}

/// The SQL for both stores of a group, with the fewest rights that do: either may become the authority.
fn printed(config: &Config, group: &Group) -> String {
    let mut text = String::new();
    for id in [Some(group.connection), group.standby].into_iter().flatten() {
        let Some(store) = config.stores.get(usize::from(id.0)) else { continue };
        let _ = writeln!(text, "-- on {}, for the group {}", store.name, group.name);
        for statement in schema::STATEMENTS {
            let _ = writeln!(text, "{statement};");
        }
        if store.change_log == ChangeLog::Journal {
            text.push_str(&printed_journal());
        }
        // triggers beside a binlog need SUPER, or this
        if store.seal == Some(Seal::Rename) && store.change_log == ChangeLog::Binlog {
            let _ = writeln!(text, "{}", grants(store, group));
            continue;
        }
        text.push_str("SET GLOBAL log_bin_trust_function_creators = 1;\n-- and in its my.cnf: log_bin_trust_function_creators = 1\n");
        let _ = writeln!(text, "{}", grants(store, group));
    }
    text
}

/// The journal's tables, and what the application's accounts may do with them.
fn printed_journal() -> String {
    let mut text = "-- the journal; where the store has no sequences the first statement fails, and may\n".to_owned();
    let _ = writeln!(text, "{};", journal::SEQUENCE);
    for statement in journal::STATEMENTS {
        let _ = writeln!(text, "{statement};");
    }
    // (the secret is made by `init`, and seen by nobody)
    text.push_str("-- for each account of the application that writes tables of the group\n");
    for grant in application_grants("ACCOUNT") {
        let _ = writeln!(text, "-- {grant};");
    }
    text
}

fn grants(store: &Store, group: &Group) -> String {
    let user = store.control.as_ref().map_or("switchover", |control| control.user.as_str());
    let account = format!("{}@'%'", schema::literal(user));
    let mut text = format!(
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {account};\n\
         GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON switchover.* TO {account};\n"
    );
    text.push_str("-- MariaDB, as you like: rows by the thousand are applied as a replica applies them; but the right is for every table\n");
    let _ = writeln!(text, "-- GRANT BINLOG REPLAY ON *.* TO {account};");
    text.push_str("-- MySQL, for `init` without `--from`: its tables are locked for a moment\n");
    let _ = writeln!(text, "-- GRANT RELOAD ON *.* TO {account};");
    if store.change_log == ChangeLog::Journal {
        let _ = writeln!(text, "GRANT TRIGGER ON switchover.journal TO {account};");
    }
    for pattern in &group.tables {
        let databases = match &pattern.database {
            Some(database) => vec![database.clone()],
            None if group.databases.is_empty() => vec!["DATABASE".to_owned()],
            None => group.databases.clone(),
        };
        for database in databases {
            let wild = database.contains('*') || pattern.name.contains('*') || database == "DATABASE";
            let mark = if wild { "-- for each table that it means: " } else { "" };
            let name = format!("{}.{}", quoted(&database), quoted(&pattern.name));
            let _ = writeln!(text, "{mark}GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON {name} TO {account};");
            if let (Some(Seal::Rename), Some(sealed)) = (store.seal, sealed_schema(&database)) {
                text.push_str(&rename_rights((&name, mark), &database, &pattern.name, &sealed, &account));
            }
        }
    }
    text
}

/// What a seal by `rename` needs: to move a table (`name`), and the view that keeps its name ([`TableName::spare`]).
fn rename_rights((name, mark): (&str, &str), database: &str, table: &str, sealed: &str, account: &str) -> String {
    let spare = TableName { database: database.to_owned(), name: table.to_owned() }.spare();
    let beside = if mark.is_empty() { spare.quoted() } else { format!("{}.*", quoted(database)) };
    format!(
        "{mark}GRANT CREATE, ALTER, DROP, CREATE VIEW, SHOW VIEW ON {name} TO {account};\n\
         {mark}GRANT CREATE, ALTER, DROP, INSERT, CREATE VIEW, SHOW VIEW ON {beside} TO {account};\n\
         {mark}GRANT CREATE, ALTER, DROP, SELECT, INSERT, UPDATE, DELETE ON {sealed}.* TO {account};\n\
         GRANT DROP ON switchover.* TO {account};\n",
        sealed = quoted(sealed),
    )
}

/// `switchover standby show [GROUP]`.
pub fn show(socket: &Path, group: Option<&str>, json: bool) -> Outcome {
    let status = match ask(socket, &Request::Status) {
        Ok(Reply::Status(status)) => status,
        other => return unexpected(other, json),
    };
    let wanted = |g: &&GroupStatus| g.standby.is_some() && group.is_none_or(|name| name == g.name);
    let groups: Vec<&GroupStatus> = status.groups.iter().filter(wanted).collect();
    if groups.is_empty() {
        return Outcome::failed(
            Code::Refused,
            json,
            "no such group with a standby\n  help: write `standby: STORE` in the group",
        );
    }
    let value: Vec<_> = groups.iter().map(|g| (&g.name, &g.standby)).collect();
    Outcome::new(Code::Done, json, &value, || {
        let one = |g: &&GroupStatus| {
            let standby = lines(&g.name, &g.connection, g.standby.as_ref()?);
            Some(standby + &g.authority.as_ref().map(authority_lines).unwrap_or_default())
        };
        groups.iter().filter_map(one).collect()
    })
}

/// Who serves, and what is not as it should be.
fn authority_lines(authority: &AuthorityStatus) -> String {
    let mut text =
        format!("  authority {} (epoch {}), acknowledges: {}", authority.store, authority.epoch, authority.acks);
    let health = authority.health.iter().map(|(store, how)| format!("{store} {how}")).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "; {health}");
    if !authority.settled {
        let _ = writeln!(text, "  rows      {}", authority.rows);
    }
    if let Some(cutover) = &authority.cutover {
        let _ = writeln!(text, "  cutover   {cutover}, {} open", number(authority.passes));
    }
    if let Some(store) = &authority.file_says {
        let _ = writeln!(text, "  file      says {store}: the stores are right");
    }
    if authority.seals > 0 {
        let _ = writeln!(
            text,
            "  refused   {} statements by a sealed store (switchover.refused there)",
            number(authority.seals)
        );
    }
    for line in &authority.left_behind {
        let _ = writeln!(text, "  behind    {line}");
    }
    for line in &authority.strays {
        let _ = writeln!(text, "  stray     {line}");
    }
    text
}

fn lines(group: &str, connection: &str, standby: &StandbyStatus) -> String {
    let mut text = format!("{group}  {connection} → {}: {}", standby.store, standby.state);
    if standby.state == "applying" {
        let _ = write!(text, ", {} entries and {} s behind", number(standby.lag_entries), standby.lag_seconds);
    }
    let _ = writeln!(
        text,
        "\n  applied   {} ({} transactions, {} rows since the start)",
        standby.position,
        number(standby.transactions),
        number(standby.rows)
    );
    if let Some(reason) = &standby.reason {
        let at = standby.transaction.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        let _ = writeln!(text, "  {}   {at}{reason}", standby.state);
    }
    for line in standby.remedy.iter().flat_map(|remedy| remedy.lines()) {
        let _ = writeln!(text, "  → {line}");
    }
    if standby.state == "stopped" {
        let _ = writeln!(text, "  → switchover standby retry {group}");
        if let (true, Some(id)) = (standby.skippable, &standby.transaction) {
            let _ = writeln!(text, "  → switchover standby skip {group} {id} --reason '…'");
        }
    }
    text
}

/// `switchover standby retry | skip`.
pub fn tell(socket: &Path, group: String, action: StandbyAction, cause: Cause, json: bool) -> Outcome {
    let (request, done) = match &action {
        StandbyAction::Skip { transaction, .. } => ("skip", format!("{group}: {transaction} is passed over\n")),
        _ => ("retry", format!("{group}: it tries again\n")),
    };
    match ask(socket, &Request::Standby(StandbyRequest { group, action, cause })) {
        Ok(Reply::Standby(status)) => Outcome::new(Code::Done, json, &(request, status), || done),
        other => unexpected(other, json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stopped_standby_says_how_it_goes_on() {
        let standby = StandbyStatus {
            store: "new".into(),
            state: "stopped".into(),
            position: "0-1-7".into(),
            transaction: Some("0-1-8".into()),
            reason: Some("d.t: a duplicate".into()),
            remedy: Some("delete it".into()),
            skippable: true,
            ..StandbyStatus::default()
        };
        let text = lines("a", "legacy", &standby);
        for part in [
            "a  legacy → new: stopped",
            "0-1-8: d.t: a duplicate",
            "→ delete it",
            "standby retry a",
            "skip a 0-1-8 --reason",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
