//! Where a statement runs now, where it would run with the flag moved, and what mends a refusal. Pure.

use crate::config::StoreId;
use crate::routing::Snapshot;
use crate::routing::decide::{SessionView, TempTables, decide};
use crate::routing::route::Decision;
use crate::sql::facts::{Access, Facts, Flags, Kind, TableRef};

/// The two states that are compared.
pub(super) struct Move<'a> {
    pub(super) group: &'a str,
    pub(super) now: &'a Snapshot,
    pub(super) then: &'a Snapshot,
}

/// What routing alone says of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Routed {
    /// It has nothing to do with the group.
    Elsewhere,
    /// It stays on this store.
    Same(StoreId),
    /// It would go to `to`, which is to be asked.
    Moves { from: Option<StoreId>, to: StoreId },
    /// It would go to `to`, but that is not to be asked, for this reason.
    Unasked { from: Option<StoreId>, to: StoreId, why: &'static str },
    /// It would be refused; it may be now.
    Refused { from: Option<StoreId>, code: u16, message: String },
}

impl Move<'_> {
    /// What becomes of a statement of these facts, for a session in `database`.
    pub(super) fn route(&self, facts: &Facts, database: Option<&str>) -> Routed {
        let temporary = TempTables::default();
        let view = SessionView { database, temporary: &temporary, written: &[] };
        let from = match decide(facts, self.now, &view) {
            Decision::Store { store, .. } => Some(store),
            Decision::Refuse(_) => None,
        };
        let touches = facts.tables.iter().any(|t| self.has(t, database));
        match decide(facts, self.then, &view) {
            Decision::Store { store: to, .. } if !touches && from == Some(to) => Routed::Elsewhere,
            Decision::Store { store: to, .. } if from == Some(to) => Routed::Same(to),
            Decision::Store { store: to, .. } => match unasked(facts) {
                Some(why) => Routed::Unasked { from, to, why },
                None => Routed::Moves { from, to },
            },
            Decision::Refuse(_) if !touches && from.is_none() => Routed::Elsewhere,
            Decision::Refuse(refusal) => Routed::Refused { from, code: refusal.code, message: refusal.message },
        }
    }

    fn has(&self, table: &TableRef, database: Option<&str>) -> bool {
        let group = self.then.locate(table, database).group.and_then(|id| self.then.group(id));
        group.is_some_and(|g| g.name == self.group)
    }

    /// What would let the proxy run a statement that it would refuse.
    pub(super) fn remedies(&self, facts: &Facts, database: Option<&str>) -> Vec<String> {
        let Some(group) = self.then.config.group_by_name(self.group) else { return Vec::new() };
        let to = self.then.store_name(group.connection);
        let outside: Vec<&TableRef> = facts
            .tables
            .iter()
            .filter(|t| !matches!(t.access, Access::Call) && !self.has(t, database))
            .filter(|t| {
                let there = self.then.locate(t, database);
                !there.neutral && there.store != group.connection
            })
            .collect();
        let names: Vec<String> = outside.iter().map(|t| name(t)).collect();
        if names.is_empty() {
            return Vec::new();
        }
        let list = names.join(", ");
        let mut remedies = Vec::new();
        let only_read = facts.tables.iter().all(|t| t.access <= Access::Read || self.has(t, database));
        if only_read && outside.iter().all(|t| t.access <= Access::Read) {
            remedies.push(format!(
                "keep copies in step on {to}, and list them: groups.{}.references: [{list}]",
                self.group
            ));
        }
        let mut others: Vec<&str> = outside
            .iter()
            .filter_map(|t| self.then.locate(t, database).group.and_then(|id| self.then.group(id)))
            .map(|g| g.name.as_str())
            .collect();
        others.sort_unstable();
        others.dedup();
        remedies.extend(others.iter().map(|other| format!("move group {other} too: switchover flag {other} {to}")));
        if others.is_empty() {
            remedies.push(format!("let them move with the group: groups.{}.tables: [… {list}]", self.group));
        }
        remedies.push("or split the statement by store in the application".to_owned());
        remedies
    }
}

fn name(table: &TableRef) -> String {
    match &table.database {
        Some(database) => format!("{database}.{}", table.name),
        None => table.name.to_string(),
    }
}

/// Why no store is asked about such a statement.
fn unasked(facts: &Facts) -> Option<&'static str> {
    match &facts.kind {
        Kind::Ddl => Some("data definition is not tried out"),
        Kind::LockTables(_) => Some("LOCK TABLES cannot be prepared"),
        Kind::Handler { .. } => Some("HANDLER cannot be prepared"),
        Kind::Prepare { .. } | Kind::Execute { .. } | Kind::ExecuteImmediate(_) | Kind::Deallocate { .. } => {
            Some("its text is dynamic")
        }
        Kind::Compound => Some("a compound statement cannot be prepared"),
        Kind::Admin | Kind::Xa | Kind::Kill { .. } | Kind::Unknown => {
            Some("it is not understood well enough to be tried out")
        }
        _ if facts.flags.contains(Flags::LOCAL_INFILE) => Some("LOAD DATA cannot be prepared"),
        _ if facts.flags.contains(Flags::INTO_FILE) => Some("it writes a file"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::routing::testing::{config, group, snapshot};
    use crate::sql::classify;
    use crate::sql::dialect::Dialect;

    fn facts(sql: &str) -> Facts {
        classify(sql.as_bytes(), &Dialect::default())
    }

    fn moved(references: &[&str]) -> (Snapshot, Snapshot) {
        let groups = |store| vec![group("a", &["hits", "stats"], store, references), group("b", &["events"], 0, &[])];
        (snapshot(groups(0)), Snapshot::compile(Arc::new(config(groups(1))), 8, 0))
    }

    #[test]
    fn each_way_that_a_statement_may_go() {
        let (now, then) = moved(&["sites"]);
        let m = Move { group: "a", now: &now, then: &then };
        let (old, new) = (StoreId(0), StoreId(1));
        for (sql, expected) in [
            ("SELECT * FROM hits JOIN stats", Routed::Moves { from: Some(old), to: new }),
            ("SELECT * FROM hits JOIN sites", Routed::Moves { from: Some(old), to: new }),
            ("SELECT * FROM other", Routed::Elsewhere),
            ("SELECT 1", Routed::Elsewhere),
            ("/* switchover:store=legacy */ SELECT * FROM hits", Routed::Same(old)),
            (
                "ALTER TABLE hits ADD c INT",
                Routed::Unasked { from: Some(old), to: new, why: "data definition is not tried out" },
            ),
        ] {
            assert_eq!(m.route(&facts(sql), None), expected, "{sql}");
        }
        assert!(matches!(
            m.route(&facts("SELECT * FROM hits, other"), None),
            Routed::Refused { from: Some(StoreId(0)), code: 1235, .. }
        ));
        assert!(matches!(m.route(&facts("INSERT INTO sites SELECT id FROM hits"), None), Routed::Refused { .. }));
    }

    #[test]
    fn a_refusal_comes_with_what_mends_it() {
        let (now, then) = moved(&[]);
        let m = Move { group: "a", now: &now, then: &then };
        let remedies = |sql: &str| m.remedies(&facts(sql), None).join("\n");
        let read = remedies("SELECT * FROM hits JOIN sites JOIN d.more");
        assert!(
            read.contains("groups.a.references: [sites, d.more]")
                && read.contains("groups.a.tables: [… sites, d.more]"),
            "{read}"
        );
        let other = remedies("SELECT * FROM hits JOIN events");
        assert!(other.contains("switchover flag b new") && !other.contains("groups.a.tables"), "{other}");
        let write = remedies("UPDATE sites JOIN hits SET sites.n = 1");
        assert!(!write.contains("references") && write.contains("groups.a.tables: [… sites]"), "{write}");
    }
}
