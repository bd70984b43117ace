//! `switchover explain`: where a statement would go, by the same functions that the data plane uses, said for people with a caret
//! at the table that decided. Temporary tables of a session, and what its transaction wrote, are not known here.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::{Value, json};

use super::protocol::{ExplainRequest, Explained, Failure};
use super::table::Table;
use crate::config::{Config, StoreId};
use crate::routing::decide::{SessionView, TempTables, decide};
use crate::routing::{Decision, Reason, Snapshot};
use crate::sql::classify::classify;
use crate::sql::dialect::{Dialect, Engine};
use crate::sql::facts::{Facts, Kind, Span, TableRef};
use crate::sql::split::split;

/// Characters of a statement's line around the caret.
const WIDTH: usize = 100;

/// Explains a statement, or each of several, under a snapshot.
///
/// # Errors
/// None so far.
pub fn explained(snapshot: &Snapshot, request: &ExplainRequest, engine: Option<Engine>) -> Result<Explained, Failure> {
    let dialect = Dialect { engine: engine.unwrap_or_default(), ..Dialect::default() };
    let mut texts = Vec::new();
    let mut details = Vec::new();
    let mut stores = Vec::new();
    for span in split(request.sql.as_bytes(), &dialect) {
        let sql = slice(&request.sql, span).trim();
        let one = Explanation::new(sql, snapshot, request, &dialect);
        texts.push(one.text());
        details.push(one.details());
        stores.push(one.store().map(str::to_owned));
    }
    stores.dedup();
    let store = if stores.len() == 1 { stores.pop().flatten() } else { None };
    Ok(Explained { store, text: texts.join("\n"), details: Value::Array(details) })
}

/// The same without a proxy that runs: the flags as the file says, the engine as MariaDB reads.
///
/// # Errors
/// As [`explained`].
pub fn offline(config: &Config, request: &ExplainRequest) -> Result<Explained, String> {
    let snapshot = Snapshot::compile(Arc::new(config.clone()), 0, 0);
    explained(&snapshot, request, None).map_err(|f| f.message)
}

fn slice(text: &str, span: Span) -> &str {
    let place = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
    text.get(place(span.start)..place(span.end)).unwrap_or_default()
}

struct Explanation<'a> {
    sql: &'a str,
    snapshot: &'a Snapshot,
    request: &'a ExplainRequest,
    facts: Facts,
    decision: Decision,
}

impl<'a> Explanation<'a> {
    fn new(sql: &'a str, snapshot: &'a Snapshot, request: &'a ExplainRequest, dialect: &Dialect) -> Explanation<'a> {
        let facts = classify(sql.as_bytes(), dialect);
        let temporary = TempTables::default();
        let view = SessionView { database: request.db.as_deref(), temporary: &temporary, written: &[] };
        let decision = decide(&facts, snapshot, &view);
        Explanation { sql, snapshot, request, facts, decision }
    }

    fn store(&self) -> Option<&'a str> {
        match &self.decision {
            Decision::Store { store, .. } => Some(self.snapshot.store_name(*store)),
            Decision::Refuse(_) => None,
        }
    }

    /// The table that decided; for a refusal the first one that is not where the first is.
    fn deciding(&self) -> Option<&TableRef> {
        match &self.decision {
            Decision::Store { reason, .. } => match reason {
                Reason::Group { table, .. } | Reason::Reference { table, .. } | Reason::TemporaryTable { table } => {
                    self.facts.tables.get(usize::from(*table))
                }
                Reason::NoTables | Reason::Default | Reason::Hint => None,
            },
            Decision::Refuse(_) => {
                let first = self.facts.tables.first().map(|table| self.locate(table).0)?;
                self.facts.tables.iter().find(|table| self.locate(table).0 != first)
            }
        }
    }

    /// The store of a table, and its group's name.
    fn locate(&self, table: &TableRef) -> (StoreId, Option<&str>) {
        let found = self.snapshot.locate(table, self.request.db.as_deref());
        let group = found.group.and_then(|id| self.snapshot.group(id)).map(|group| group.name.as_str());
        (found.store, group)
    }

    fn reason(&self) -> String {
        let group = |id| self.snapshot.group(id).map_or("?", |group| group.name.as_str());
        let table = self.deciding().map(full_name).unwrap_or_default();
        match &self.decision {
            Decision::Refuse(refusal) => {
                let state = String::from_utf8_lossy(&refusal.sqlstate);
                format!("refused: {} ({state}) {}", refusal.code, refusal.message)
            }
            Decision::Store { store, reason } => {
                let store = self.snapshot.store_name(*store);
                match reason {
                    Reason::NoTables => {
                        format!("{store}: the statement names no table, so it goes to the default store")
                    }
                    Reason::Default => format!("{store}: no group names its tables, so it goes to the default store"),
                    Reason::Group { group: id, .. } => {
                        format!("{store}: {table} is in the group {}, whose connection is {store}", group(*id))
                    }
                    Reason::Reference { group: id, .. } => {
                        format!(
                            "{store}: the group {} is there, and has {table} as a reference, so all of it can be read there",
                            group(*id)
                        )
                    }
                    Reason::Hint => format!("{store}: the statement's hint says so"),
                    Reason::TemporaryTable { .. } => {
                        format!("{store}: {table} is a temporary table of the session there")
                    }
                }
            }
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n{}\n\n", self.caret(), self.reason());
        let _ = writeln!(text, "kind    {}", kind(&self.facts.kind));
        if !self.facts.flags.is_empty() {
            let flags: Vec<String> =
                self.facts.flags.iter_names().map(|(name, _)| name.to_lowercase().replace('_', " ")).collect();
            let _ = writeln!(text, "flags   {}", flags.join(", "));
        }
        if let Some(note) = self.secret() {
            let _ = writeln!(text, "login   {note}");
        }
        if !self.facts.tables.is_empty() {
            let mut table = Table::new(&["TABLE", "ACCESS", "GROUP", "STORE"]);
            for named in &self.facts.tables {
                let (store, group) = self.locate(named);
                let group = group.unwrap_or("(default)").to_owned();
                let access = format!("{:?}", named.access).to_lowercase();
                table.row(vec![full_name(named), access, group, self.snapshot.store_name(store).to_owned()]);
            }
            let _ = write!(text, "\n{}", table.render(0));
        }
        text
    }

    /// Whether the account could log in at a store that is not the default one.
    fn secret(&self) -> Option<String> {
        let Decision::Store { store, .. } = &self.decision else { return None };
        let (user, config) = (self.request.user.as_deref()?, &self.snapshot.config);
        let there = config.stores.get(usize::from(store.0))?;
        Some(if *store == config.default {
            format!("{user} logs in at {} itself", there.name)
        } else if let Some(account) = &there.account {
            format!("on {} as its service account {}", there.name, account.user)
        } else if let Some(own) = config.users.get(user).and_then(|stores| stores.get(store)) {
            format!("on {} as {}, with the secret in `users:`", there.name, own.user)
        } else {
            format!("on {} as {user}, if its secret can be recovered at login; else name it in `users:`", there.name)
        })
    }

    /// The line of the statement with the deciding table marked.
    fn caret(&self) -> String {
        let (start, end) = self.deciding().map_or((0, 0), |table| {
            let place = |at: u32| usize::try_from(at).unwrap_or_default();
            (place(table.span.start), place(table.span.end))
        });
        let before = self.sql.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.sql.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
        let column = before.chars().count() - self.sql.get(..line_start).unwrap_or_default().chars().count();
        let skip = if column > WIDTH * 3 / 4 { column - WIDTH / 2 } else { 0 };
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = line.chars().skip(skip).take(WIDTH).map(printable).collect();
        let length = self.sql.get(start..end).unwrap_or_default().chars().count();
        if length == 0 {
            return shown;
        }
        format!("{shown}\n{}{}", " ".repeat(column - skip), "^".repeat(length.min(WIDTH)))
    }

    fn details(&self) -> Value {
        let tables: Vec<Value> = self
            .facts
            .tables
            .iter()
            .map(|table| {
                let (store, group) = self.locate(table);
                json!({
                    "database": table.database,
                    "name": table.name,
                    "access": format!("{:?}", table.access).to_lowercase(),
                    "group": group,
                    "store": self.snapshot.store_name(store),
                    "span": [table.span.start, table.span.end],
                })
            })
            .collect();
        json!({
            "sql": self.sql,
            "kind": kind(&self.facts.kind),
            "flags": self.facts.flags.iter_names().map(|(name, _)| name.to_lowercase()).collect::<Vec<_>>(),
            "tables": tables,
            "store": self.store(),
            "reason": self.reason(),
            "epoch": self.snapshot.epoch,
        })
    }
}

fn full_name(table: &TableRef) -> String {
    match &table.database {
        Some(database) => format!("{database}.{}", table.name),
        None => table.name.to_string(),
    }
}

/// `Read`, `LockTables` … as words: what a kind holds is in the statement already.
fn kind(kind: &Kind) -> String {
    let text = format!("{kind:?}");
    let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn explain(sql: &str, user: Option<&str>) -> Explained {
        let text = "listen: 127.0.0.1:1\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}
groups: {analytics: {tables: [hits], connection: new, references: [sites]}}\n";
        let config = crate::config::parse(text, Path::new("r"), &|_| None).unwrap();
        let request = ExplainRequest { sql: sql.to_owned(), db: Some("app".to_owned()), user: user.map(str::to_owned) };
        offline(&config, &request).unwrap()
    }

    #[test]
    fn the_table_that_decides_is_marked() {
        let found = explain("SELECT *\n  FROM hits h WHERE a = 1", Some("app"));
        assert_eq!(found.store.as_deref(), Some("new"));
        let expected = "  FROM hits h WHERE a = 1\n       ^^^^\nnew: hits is in the group analytics, whose connection is new\n\nkind    read\n";
        assert!(found.text.starts_with(expected), "{}", found.text);
        assert!(
            found.text.contains("TABLE  ACCESS  GROUP      STORE\nhits   read    analytics  new\n"),
            "{}",
            found.text
        );
        assert!(found.text.contains("login   on new as app, if its secret can be recovered"), "{}", found.text);
        assert_eq!(found.details[0]["tables"][0]["group"], "analytics");
    }

    #[test]
    fn refusals_and_defaults_say_why() {
        let found = explain("SELECT * FROM orders o JOIN hits h ON h.id = o.id", None);
        assert_eq!(found.store, None);
        assert!(found.text.contains("refused: 1235 (42000) switchover:"), "{}", found.text);
        assert!(explain("SELECT 1", None).text.contains("names no table"));
        assert!(explain("SELECT * FROM orders", None).text.contains("no group names its tables"));
        assert!(explain("SELECT * FROM hits JOIN sites USING (id)", None).text.contains("^"));
    }

    #[test]
    fn several_statements_are_explained_each() {
        let found = explain("SELECT * FROM hits; SELECT * FROM orders;", None);
        assert_eq!(found.store, None);
        assert_eq!(found.details.as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn any_text_is_explained() {
        for sql in ["", ";", "é\u{1b}[31m", "SELECT * FROM `hits", "SELECT 'é' FROM app.hits -- ü"] {
            let _ = explain(sql, Some(""));
        }
    }
}
