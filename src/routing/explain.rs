//! `switchover explain`: the facts of a text and the decision on each of its statements, for people and programs.
//!
//! Made by the same `analyze` and `decide` that the data plane uses, for a session without temporary tables and outside a
//! transaction. Display is for a terminal; `Serialize` is what `--json` prints.

use std::fmt;

use serde::Serialize;

use super::decide::{SessionView, TempTables, decide};
use super::route::{Decision, Reason};
use super::snapshot::Snapshot;
use crate::config::model::StoreId;
use crate::sql::classify::classify;
use crate::sql::dialect::Dialect;
use crate::sql::facts::{Access, Assignment, DynamicSource, Facts, Flags, Kind};
use crate::sql::second::{SecondReading, second_reading};
use crate::sql::split::split;

/// What `explain` found.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The epoch that it holds for.
    pub epoch: u64,
    /// The database that unqualified names were taken to be in.
    pub database: Option<String>,
    /// The account that was asked about.
    pub user: Option<String>,
    /// One entry per statement of the text.
    pub statements: Vec<Explained>,
    /// What the operator should know beside.
    pub notes: Vec<String>,
}

/// One statement.
#[derive(Debug, Clone, Serialize)]
pub struct Explained {
    /// Its text.
    pub sql: String,
    /// Its kind, as `read`, `write`, `ddl` …
    pub kind: &'static str,
    /// What the session makes of it, where that is not plain.
    pub detail: Option<String>,
    /// Its tables, in the order of the text.
    pub tables: Vec<ExplainedTable>,
    /// User variables that it reads.
    pub user_variables: Vec<String>,
    /// Its flags, in lower case.
    pub flags: Vec<String>,
    /// The store that a hint names.
    pub hint: Option<String>,
    /// Where it goes; `None` where it is refused.
    pub store: Option<String>,
    /// Why, in a sentence.
    pub reason: String,
    /// The error that the client gets.
    pub refusal: Option<ExplainedRefusal>,
    /// Index into `tables` of the one that decided.
    pub decided_by: Option<usize>,
    /// Whether another parser names the same tables; it decides nothing.
    pub second_reading: Option<SecondReading>,
}

/// A table of a statement.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedTable {
    /// Its database, where the text names one.
    pub database: Option<String>,
    /// Its name.
    pub name: String,
    /// `describe`, `function`, `read`, `locking read`, `write` or `ddl`.
    pub access: &'static str,
    /// The store that serves it.
    pub store: String,
    /// Its group.
    pub group: Option<String>,
    /// First byte of its name in `sql`.
    pub start: u32,
    /// One past its last byte.
    pub end: u32,
}

/// The error of a refused statement.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedRefusal {
    /// MySQL error code.
    pub code: u16,
    /// SQLSTATE.
    pub sqlstate: String,
    /// The message.
    pub message: String,
}

/// Explains every statement of `sql` for a session in database `db` of account `user`.
#[must_use]
pub fn explain(sql: &str, db: Option<&str>, user: Option<&str>, snapshot: &Snapshot, dialect: &Dialect) -> Explanation {
    let mut statements = Vec::new();
    for span in split(sql.as_bytes(), dialect) {
        let text = sql.get(span.start as usize..span.end as usize).unwrap_or_default();
        statements.push(statement(text, db, snapshot, dialect));
    }
    let notes = notes(&statements, db, user, snapshot);
    Explanation {
        epoch: snapshot.epoch,
        database: db.map(str::to_owned),
        user: user.map(str::to_owned),
        statements,
        notes,
    }
}

fn statement(text: &str, db: Option<&str>, snapshot: &Snapshot, dialect: &Dialect) -> Explained {
    let facts = classify(text.as_bytes(), dialect);
    let temporary = TempTables::default();
    let view = SessionView { database: db, temporary: &temporary, written: &[] };
    let (store, reason, refusal, decided_by) = match decide(&facts, snapshot, &view) {
        Decision::Store { store, reason } => {
            let by = match reason {
                Reason::Group { table, .. } | Reason::Reference { table, .. } | Reason::TemporaryTable { table } => {
                    Some(usize::from(table))
                }
                _ => None,
            };
            (Some(snapshot.store_name(store).to_owned()), sentence(&reason, store, &facts, snapshot), None, by)
        }
        Decision::Refuse(r) => {
            let sqlstate = String::from_utf8_lossy(&r.sqlstate).into_owned();
            let refusal = ExplainedRefusal { code: r.code, sqlstate, message: r.message };
            (None, "refused before anything runs".to_owned(), Some(refusal), None)
        }
    };
    let tables = facts.tables.iter().map(|t| {
        let location = snapshot.locate(t, db);
        ExplainedTable {
            database: t.database.as_deref().map(str::to_owned),
            name: t.name.to_string(),
            access: access_word(t.access),
            store: snapshot.store_name(location.store).to_owned(),
            group: location.group.and_then(|g| snapshot.group(g)).map(|g| g.name.clone()),
            start: t.span.start,
            end: t.span.end,
        }
    });
    Explained {
        sql: text.to_owned(),
        kind: kind_word(&facts.kind),
        detail: detail(&facts),
        tables: tables.collect(),
        user_variables: facts.user_variables.iter().map(|v| v.to_string()).collect(),
        flags: flag_words(facts.flags),
        hint: facts.hint.as_deref().map(str::to_owned),
        store,
        reason,
        refusal,
        decided_by,
        second_reading: second_reading(text, &facts),
    }
}

fn sentence(reason: &Reason, store: StoreId, facts: &Facts, snapshot: &Snapshot) -> String {
    let table = |n: u16| facts.tables.get(usize::from(n)).map_or("?", |t| &t.name);
    let group = |g| snapshot.group(g).map_or("?", |g| g.name.as_str());
    let store = snapshot.store_name(store);
    match reason {
        Reason::NoTables => format!("it names no table, so the default store {store} answers"),
        Reason::Default => format!("no group decides, so the default store {store} serves it"),
        Reason::Group { group: g, table: t } => {
            format!("table {} belongs to group {}, whose connection is {store}", table(*t), group(*g))
        }
        Reason::Reference { group: g, table: t } => {
            format!(
                "store {store} has all tables: a copy of {} is kept there by the references of group {}",
                table(*t),
                group(*g)
            )
        }
        Reason::Hint => format!("a hint in the statement names store {store}"),
        Reason::TemporaryTable { table: t } => format!("{} is a temporary table of the session on {store}", table(*t)),
    }
}

fn access_word(access: Access) -> &'static str {
    match access {
        Access::Describe => "describe",
        Access::Call => "function",
        Access::Read => "read",
        Access::LockingRead => "locking read",
        Access::Write => "write",
        Access::Ddl => "ddl",
    }
}

/// What kind of statement it is, in a word.
#[must_use]
pub fn kind_word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Read => "read",
        Kind::Write => "write",
        Kind::Ddl => "ddl",
        Kind::Show => "show",
        Kind::Diagnostics => "diagnostics",
        Kind::Begin { .. } => "begin",
        Kind::Commit { .. } => "commit",
        Kind::Rollback { .. } => "rollback",
        Kind::Savepoint(_) => "savepoint",
        Kind::RollbackTo(_) => "rollback to savepoint",
        Kind::ReleaseSavepoint(_) => "release savepoint",
        Kind::Set(_) => "set",
        Kind::Use(_) => "use",
        Kind::LockTables(_) => "lock tables",
        Kind::UnlockTables => "unlock tables",
        Kind::Prepare { .. } => "prepare",
        Kind::Execute { .. } => "execute",
        Kind::Deallocate { .. } => "deallocate prepare",
        Kind::ExecuteImmediate(_) => "execute immediate",
        Kind::Call => "call",
        Kind::Kill { .. } => "kill",
        Kind::Xa => "xa",
        Kind::Handler { .. } => "handler",
        Kind::Admin => "admin",
        Kind::Compound => "compound",
        Kind::Empty => "empty",
        Kind::Unknown => "unknown",
    }
}

/// What the session does with it beside running it.
fn detail(facts: &Facts) -> Option<String> {
    let text = match &facts.kind {
        Kind::Set(list) => list.iter().map(assignment).collect::<Vec<_>>().join(", "),
        Kind::Prepare { source, .. } | Kind::ExecuteImmediate(source) => match source {
            DynamicSource::Literal(text) => {
                format!("the text is decided on its own: {}", String::from_utf8_lossy(text))
            }
            DynamicSource::Variable(name) => format!("the text is in @{name}, and known only when it runs"),
            DynamicSource::Expression { .. } => "the text is an expression, and known only when it runs".to_owned(),
        },
        Kind::Begin { .. } => "opens on a store with the first statement that goes there".to_owned(),
        Kind::Commit { .. } | Kind::Rollback { .. } => "runs on every store of the transaction".to_owned(),
        Kind::Diagnostics => "goes to the store of the session's last statement".to_owned(),
        Kind::Unknown => "not understood: it passes through unchanged".to_owned(),
        _ => return None,
    };
    Some(text)
}

fn assignment(a: &Assignment) -> String {
    match a {
        Assignment::Session { name, value } => {
            format!("session {name} = {}", value.as_deref().unwrap_or("an expression"))
        }
        Assignment::Global { name } => format!("global {name}, on the default store"),
        Assignment::User { name } => format!("@{name}"),
        Assignment::Names { charset, .. } => format!("character set {}", charset.as_deref().unwrap_or("default")),
        Assignment::NextTransaction(_) => "characteristics of the next transaction".to_owned(),
        Assignment::SessionTransaction => "characteristics of the session's transactions".to_owned(),
        Assignment::Other => "something else of the session".to_owned(),
    }
}

fn flag_words(flags: Flags) -> Vec<String> {
    flags.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

fn notes(statements: &[Explained], db: Option<&str>, user: Option<&str>, snapshot: &Snapshot) -> Vec<String> {
    let mut notes = Vec::new();
    let unqualified = statements.iter().flat_map(|s| &s.tables).any(|t| t.database.is_none());
    if db.is_none() && unqualified && snapshot.depends_on_database() {
        notes.push("some groups depend on the session's database: name it with --db".to_owned());
    }
    if statements.iter().any(|s| s.hint.is_some()) && !snapshot.config.hints {
        notes.push("the hint is ignored: `hints: false` in the configuration".to_owned());
    }
    if let Some(user) = user {
        let mut stores: Vec<&str> = statements.iter().filter_map(|s| s.store.as_deref()).collect();
        stores.sort_unstable();
        stores.dedup();
        notes.extend(stores.into_iter().filter_map(|store| login_note(user, store, snapshot)));
    }
    notes
}

/// How `user` logs in at a store that is not the default one.
fn login_note(user: &str, store: &str, snapshot: &Snapshot) -> Option<String> {
    let id = snapshot.store_named(store).filter(|id| *id != snapshot.config.default)?;
    let configured = snapshot.config.users.get(user).and_then(|stores| stores.get(&id));
    let service = snapshot.config.stores.get(usize::from(id.0)).and_then(|s| s.account.as_ref());
    Some(match (configured, service) {
        (Some(c), _) => format!("{user} logs in at {store} as {}, from `users:`", c.user),
        (None, Some(c)) => format!("{user} uses {store}'s service account {}", c.user),
        (None, None) => {
            format!("{user} logs in at {store} with the secret recovered from its login at the default store")
        }
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, statement) in self.statements.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{statement}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text_with_caret(f)?;
        match (&self.store, &self.refusal) {
            (Some(store), _) => writeln!(f, "  goes to   {store}\n  because   {}", self.reason)?,
            (None, Some(r)) => {
                writeln!(f, "  refused   ERROR {} ({})\n  because   {}", r.code, r.sqlstate, r.message)?;
            }
            (None, None) => {}
        }
        writeln!(f, "  kind      {}", self.kind)?;
        if let Some(detail) = &self.detail {
            writeln!(f, "  detail    {detail}")?;
        }
        self.table_lines(f)?;
        if !self.user_variables.is_empty() {
            writeln!(f, "  reads     @{}", self.user_variables.join(", @"))?;
        }
        if let Some(reading) = &self.second_reading {
            writeln!(f, "  checked   {reading}")?;
        }
        let flags: Vec<String> = self.flags.iter().map(|w| w.replace('_', " ")).collect();
        if !flags.is_empty() {
            writeln!(f, "  also      {}", flags.join(", "))?;
        }
        Ok(())
    }
}

/// Characters of a line that are shown on each side of what the caret points at.
const AROUND: usize = 70;

impl Explained {
    /// The lines of the statement; under the deciding table, or under all where it is refused, a line of carets.
    fn text_with_caret(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let marks: Vec<&ExplainedTable> = match self.decided_by {
            Some(n) => self.tables.get(n).into_iter().collect(),
            None if self.refusal.is_some() => self.tables.iter().collect(),
            None => Vec::new(),
        };
        let body = self.sql.trim_end();
        let mut at = 0;
        for line in body.split('\n') {
            let end = at + line.len();
            let here: Vec<(usize, usize)> = marks
                .iter()
                .map(|t| (t.start as usize, t.end as usize))
                .filter(|(from, to)| *from >= at && *to <= end)
                .map(|(from, to)| (from - at, to - at))
                .collect();
            at = end + 1;
            if !line.trim().is_empty() {
                write_line(f, line, &here)?;
            }
        }
        Ok(())
    }

    fn table_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = |t: &ExplainedTable| match &t.database {
            Some(database) => format!("{database}.{}", t.name),
            None => t.name.clone(),
        };
        let wide = |width: fn(&ExplainedTable) -> usize| self.tables.iter().map(width).max().unwrap_or(0);
        let names = wide(|t| t.name.chars().count() + t.database.as_ref().map_or(0, |d| d.chars().count() + 1));
        let (accesses, stores) = (wide(|t| t.access.len()), wide(|t| t.store.chars().count()));
        for (n, table) in self.tables.iter().enumerate() {
            let label = if n == 0 { "tables" } else { "" };
            let group = table.group.as_ref().map_or("no group".to_owned(), |g| format!("group {g}"));
            writeln!(
                f,
                "  {label:<9} {:<names$}  {:<accesses$}  on {:<stores$}  {group}",
                full(table),
                table.access,
                table.store
            )?;
        }
        Ok(())
    }
}

/// One line of the text, cut around its marks where it is long, and the carets under it.
fn write_line(f: &mut fmt::Formatter<'_>, line: &str, marks: &[(usize, usize)]) -> fmt::Result {
    let chars: Vec<(usize, char)> = line.char_indices().collect();
    let first = marks.iter().map(|m| m.0).min().unwrap_or(0);
    let column = chars.iter().take_while(|(at, _)| *at < first).count();
    let from = if chars.len() > 2 * AROUND { column.saturating_sub(AROUND) } else { 0 };
    let shown: Vec<(usize, char)> = chars.iter().skip(from).take(2 * AROUND).copied().collect();
    let text: String = shown.iter().map(|(_, c)| if c.is_control() { ' ' } else { *c }).collect();
    let (before, after) = (if from > 0 { "…" } else { "" }, if from + shown.len() < chars.len() { "…" } else { "" });
    writeln!(f, "  {before}{text}{after}")?;
    if marks.is_empty() {
        return Ok(());
    }
    let inside = |at: usize| marks.iter().any(|(from, to)| (*from..*to).contains(&at));
    let carets: String = shown.iter().map(|(at, _)| if inside(*at) { '^' } else { ' ' }).collect();
    let pad = if from > 0 { " " } else { "" };
    writeln!(f, "  {pad}{}", carets.trim_end())
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
