//! One operator's dialog with the console: a line in, rows or a word out. No protocol here.

use super::super::action::{Actions, Actor};
use super::super::log::LogRequest;
use super::super::protocol::{
    AbortRequest, Begun, Cause, ExplainRequest, FlagRequest, Flagged, KillRequest, PauseRequest, Reply, Request,
    StandbyRequest,
};
use super::super::readiness::ReadinessRequest;
use super::clients::{self, VARIABLES};
use super::command::{ClientShow, Command, read};
use super::expression::{Refusal, Surroundings};
use super::relation::{Cell, Relation};
use super::schema;
use super::select::{Question, Source};
use super::tables::{self, TABLES};

/// As the console calls itself: clients choose what they send by it.
pub(crate) const VERSION: &str = concat!("8.0.30-switchover-", env!("CARGO_PKG_VERSION"));

/// Every database that there is here.
pub(crate) const DATABASES: [&str; 2] = [schema::SCHEMA, schema::OWN];

/// The database of this name.
///
/// # Errors
/// 1049 where there is none.
pub(crate) fn database(name: &str) -> Result<&'static str, Refusal> {
    let found = DATABASES.into_iter().find(|d| d.eq_ignore_ascii_case(name));
    found.ok_or_else(|| Refusal::new(1049, format!("Unknown database '{name}'")))
}

/// What a line came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    /// Done; a text for people.
    Done(String),
    /// Rows.
    Rows(Relation),
}

/// One operator's dialog.
pub(crate) struct Dialog {
    actions: Actions,
    pub(crate) actor: Actor,
    /// The console's id of the connection.
    id: u32,
    /// Where names without a database belong.
    database: &'static str,
    /// What FOUND_ROWS() says.
    found_rows: u64,
    /// What the next changes carry.
    why: Option<String>,
    force: bool,
}

impl Dialog {
    pub(crate) fn new(actions: Actions, actor: Actor, id: u32, database: &'static str) -> Dialog {
        Dialog { actions, actor, id, database, found_rows: 0, why: None, force: false }
    }

    /// USE.
    ///
    /// # Errors
    /// 1049 where there is no such database.
    pub(crate) fn change_database(&mut self, name: &str) -> Result<(), Refusal> {
        if !name.is_empty() {
            self.database = database(name)?;
        }
        Ok(())
    }

    /// Answers a line.
    pub(crate) async fn answer(&mut self, sql: &str) -> Result<Answer, Refusal> {
        match read(sql)? {
            Command::Select(sql) => {
                let (rows, found) = self.select(&sql).await?;
                self.found_rows = found;
                Ok(Answer::Rows(rows))
            }
            Command::ClientShow(show) => self.client_show(&show).map(Answer::Rows),
            Command::Plan(sql) => {
                let sources = Question::read(&sql)?.sources()?;
                Ok(Answer::Rows(clients::plan(&sources.into_iter().map(|s| s.table).collect::<Vec<_>>())))
            }
            Command::Remember { name, value } => self.remember(&name, value),
            Command::Reset => {
                (self.why, self.force) = (None, false);
                Ok(Answer::Done(String::new()))
            }
            Command::Nothing => Ok(Answer::Done(String::new())),
            Command::Help => Ok(Answer::Rows(help())),
            Command::Explain(sql) => self.explain(sql).await,
            Command::Flag { group, store, dry_run } => self.flag(group, store, dry_run).await,
            Command::Pause { group, pause } => {
                let request = Request::Pause(PauseRequest { group, pause, cause: self.cause() });
                self.perform(request).await?;
                Ok(Answer::Done(if pause { "paused" } else { "goes on" }.to_owned()))
            }
            Command::Kill { session, query } => {
                self.perform(Request::Kill(KillRequest { session, query, cause: self.cause() })).await?;
                Ok(Answer::Done(String::new()))
            }
            Command::Readiness { group, to } => self.readiness(group, to).await,
            Command::Log { level } => {
                let request = LogRequest { level: Some(level), cause: self.cause() };
                match self.perform(Request::Log(request)).await? {
                    Reply::Log(now) => Ok(Answer::Done(format!("log level: {}", now.level))),
                    _ => Ok(Answer::Done(String::new())),
                }
            }
            Command::Abort { group } => {
                self.perform(Request::Abort(AbortRequest { job: group, cause: self.cause() })).await?;
                Ok(Answer::Done(String::new()))
            }
            Command::Reload => match self.perform(Request::Reload(self.cause())).await? {
                Reply::Reloaded(r) => Ok(Answer::Done(format!("epoch {}; {}", r.epoch, r.changes.join("; ")))),
                _ => Ok(Answer::Done(String::new())),
            },
            Command::Standby { group, action } => {
                let request = Request::Standby(StandbyRequest { group, action, cause: self.cause() });
                Ok(match self.perform(request).await? {
                    Reply::Begun(begun) => Answer::Rows(told(&begun)),
                    _ => Answer::Done(String::new()),
                })
            }
        }
    }

    /// What a client asks by SHOW, and of that what its LIKE or WHERE takes.
    fn client_show(&self, show: &ClientShow) -> Result<Relation, Refusal> {
        let shown = clients::show(show, self.database, self.actions.running().as_ref(), &self.actor)?;
        let shown = clients::narrowed(shown, show.like.as_deref());
        let Some(filter) = &show.filter else { return Ok(shown) };
        let source = Source { database: None, table: "shown".to_owned() };
        Question::read(&format!("SELECT * FROM shown {filter}"))?.answer(&[(source, shown)], self).map(|(rows, _)| rows)
    }

    async fn perform(&self, request: Request) -> Result<Reply, Refusal> {
        self.actions.perform(&self.actor, request).await.map_err(|failure| {
            let code = match failure.kind {
                super::super::protocol::FailureKind::Forbidden => 1227,
                super::super::protocol::FailureKind::Timeout => 1205,
                _ => 1105,
            };
            Refusal::new(code, failure.message)
        })
    }

    fn cause(&self) -> Cause {
        Cause { why: self.why.clone(), force: self.force, ..Cause::default() }
    }

    fn remember(&mut self, name: &str, value: String) -> Result<Answer, Refusal> {
        match name {
            "why" => self.why = Some(value).filter(|v| !v.is_empty() && !v.eq_ignore_ascii_case("null")),
            "force" => self.force = matches!(value.to_lowercase().as_str(), "1" | "on" | "true" | "yes"),
            // (drivers keep variables of their own)
            _ => {}
        }
        Ok(Answer::Done(String::new()))
    }

    async fn flag(&mut self, group: String, store: String, dry_run: bool) -> Result<Answer, Refusal> {
        let known = self.actions.running().status().groups;
        if !known.iter().any(|g| g.name == group) {
            let names: Vec<String> = known.iter().map(|g| format!("{}_connection", g.name)).collect();
            let there = if names.is_empty() { "there are no groups".to_owned() } else { names.join(", ") };
            return Err(Refusal::new(1193, format!("Unknown system variable '{group}_connection'; there is: {there}")));
        }
        let request = Request::Flag(FlagRequest { group, store, cause: self.cause(), dry_run });
        let Reply::Flagged(flagged) = self.perform(request).await? else {
            return Ok(Answer::Done(String::new()));
        };
        if dry_run {
            let mut steps = Relation::new(&["step"]);
            flagged.notes.iter().for_each(|note| steps.row(vec![note.into()]));
            return Ok(Answer::Rows(steps));
        }
        Ok(Answer::Done(moved(&flagged)))
    }

    async fn readiness(&self, group: String, to: Option<String>) -> Result<Answer, Refusal> {
        let request = Request::Readiness(ReadinessRequest { group, to });
        let Reply::Readiness(found) = self.perform(request).await? else {
            return Ok(Answer::Done(String::new()));
        };
        let mut rows = Relation::new(&["verdict", "calls", "statement", "from", "to", "code", "reason", "remedies"]);
        for s in found.statements {
            rows.row(vec![
                s.verdict.word().into(),
                s.calls.into(),
                s.text.into(),
                s.from.into(),
                s.to.into(),
                s.code.map(u64::from).into(),
                s.reason.into(),
                s.remedies.join("; ").into(),
            ]);
        }
        Ok(Answer::Rows(rows))
    }

    async fn explain(&self, sql: String) -> Result<Answer, Refusal> {
        let request = Request::Explain(ExplainRequest { sql, db: None, user: None });
        let Reply::Explained(found) = self.perform(request).await? else {
            return Ok(Answer::Done(String::new()));
        };
        let mut lines = Relation::new(&["store", "explanation"]);
        for (n, line) in found.text.lines().enumerate() {
            let store = if n == 0 { found.store.as_ref().into() } else { Cell::Null };
            lines.row(vec![store, line.into()]);
        }
        Ok(Answer::Rows(lines))
    }

    /// The rows, and how many there are in all where the statement wants to know.
    async fn select(&self, sql: &str) -> Result<(Relation, u64), Refusal> {
        let question = Question::read(sql)?;
        let mut tables = Vec::new();
        for source in question.sources()? {
            let relation = self.table(&source).await?;
            tables.push((source, relation));
        }
        question.answer(&tables, self)
    }

    async fn table(&self, source: &Source) -> Result<Relation, Refusal> {
        let database = source.database.as_deref().unwrap_or(self.database).to_lowercase();
        match database.as_str() {
            schema::SCHEMA => Ok(schema::table(&source.table)),
            schema::OWN => tables::rows(&source.table, &self.actions, &self.actor).await,
            "mysql" | "performance_schema" | "sys" => Err(Refusal::new(
                1142,
                format!(
                    "this is the console of switchover: it has no {}.{}",
                    source.database.as_deref().unwrap_or_default(),
                    source.table
                ),
            )),
            other => Err(Refusal::new(1049, format!("Unknown database '{other}'"))),
        }
    }
}

/// What came of STANDBY INIT.
fn told(begun: &Begun) -> Relation {
    let mut told = Relation::new(&["state", "what", "mend"]);
    begun.done.iter().for_each(|done| told.row(vec!["ok".into(), done.into(), "".into()]));
    for (state, found) in [("warning", &begun.warnings), ("error", &begun.problems)] {
        found.iter().for_each(|f| told.row(vec![state.into(), (&f.what).into(), (&f.mend).into()]));
    }
    told
}

/// A flag that moved, in a line.
fn moved(f: &Flagged) -> String {
    let what = match f.changed {
        true => format!("{}: {} → {} (epoch {})", f.group, f.from, f.to, f.epoch),
        false => format!("{}: {} already", f.group, f.to),
    };
    std::iter::once(what).chain(f.notes.iter().map(|n| n.trim().to_owned())).collect::<Vec<_>>().join("; ")
}

impl Surroundings for Dialog {
    fn variable(&self, name: &str) -> Result<Cell, Refusal> {
        let name = name.to_lowercase();
        if !name.starts_with("@@")
            && let Some(own) = name.strip_prefix('@')
        {
            return Ok(match own {
                "why" => self.why.as_ref().into(),
                "force" => self.force.into(),
                _ => Cell::Null,
            });
        }
        let name = name.rsplit(['.', '@']).next().unwrap_or_default();
        if let Some(group) = name.strip_suffix("_connection")
            && let Some(found) = self.actions.running().status().groups.into_iter().find(|g| g.name == group)
        {
            return Ok(found.connection.into());
        }
        let found = VARIABLES.iter().find(|(n, _)| *n == name);
        let (_, value) = found.ok_or_else(|| Refusal::new(1193, format!("Unknown system variable '{name}'")))?;
        Ok(value.parse::<i64>().map_or_else(|_| (*value).into(), Cell::Int))
    }

    fn niladic(&self, name: &str) -> Option<Cell> {
        Some(match name {
            "version" => VERSION.into(),
            "database" | "schema" => self.database.into(),
            "user" | "current_user" | "session_user" | "system_user" => {
                let host = self.actor.from.rsplit_once(':').map_or(self.actor.from.as_str(), |(host, _)| host);
                format!("{}@{host}", self.actor.name).into()
            }
            "connection_id" => u64::from(self.id).into(),
            "now" | "current_timestamp" | "sysdate" | "utc_timestamp" => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                crate::entry::temporal::civil(since.as_secs()).into()
            }
            "unix_timestamp" => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                since.as_secs().into()
            }
            "found_rows" => self.found_rows.into(),
            "row_count" => Cell::Int(-1),
            "last_insert_id" => Cell::Int(0),
            _ => return None,
        })
    }
}

/// HELP.
fn help() -> Relation {
    let mut help = Relation::new(&["statement", "what it does"]);
    for (table, show, _) in TABLES {
        help.row(vec![
            format!("SHOW {show} [LIKE 'pattern'] [WHERE …] [ORDER BY …] [LIMIT …]").into(),
            format!("the same as SELECT * FROM {table} …").into(),
        ]);
    }
    for (statement, what) in [
        ("SELECT … FROM table WHERE … GROUP BY … HAVING … ORDER BY … LIMIT …", "over any of these tables"),
        ("EXPLAIN ROUTE statement", "where a statement would go, and why"),
        ("SET group_connection = 'store'", "moves the flag of a group; with a standby by a cutover"),
        (
            "SHOW READINESS FOR group [TO store]",
            "what would become of each statement that was seen, if the flag moved now",
        ),
        ("SET LOG LEVEL 'debug'", "what the proxy logs, until the file's level changes"),
        ("EXPLAIN SET group_connection = 'store'", "what that would do, and what is in the way"),
        ("SET @why = 'text'", "goes into the log of changes with each change that follows"),
        ("SET @force = 1", "what is in the way is written down and passed over, until SET @force = 0"),
        ("PAUSE GROUP name", "what would write to it waits, at this proxy"),
        ("RESUME GROUP name", "it goes on"),
        ("KILL [QUERY] session", "ends a session of the proxy, or its statement"),
        ("ABORT group", "gives up the cutover of a group, unless it has been decided"),
        ("STANDBY INIT group ['position']", "prepares both stores of a group for its standby"),
        ("STANDBY END group", "gives the standby up: both stores take writes"),
        ("STANDBY RETRY group", "a stopped standby tries again"),
        ("STANDBY SKIP group 'transaction' 'reason'", "it passes over what it is stopped by"),
        ("RELOAD", "reads the configuration file again"),
    ] {
        help.row(vec![statement.into(), what.into()]);
    }
    help
}
