//! `decide`: facts + snapshot + what the session remembers → a store, or a refusal. Pure.
//!
//! Hints first, then the session's temporary tables, then groups. One store: there. Several: the one that has copies
//! (references) of all other tables, for plain reads only; else the statement is refused before anything runs
//! (DESIGN.md invariant 6). Accesses that only describe a table never cause a refusal.

use super::route::{Decision, Reason, Refusal};
use super::snapshot::Snapshot;
use crate::config::model::{GroupId, StoreId};
use crate::sql::facts::{Access, Facts, Flags, TableRef};

/// The session's temporary tables and where they are.
#[derive(Debug, Clone, Default)]
pub struct TempTables {
    tables: Vec<(Option<Box<str>>, Box<str>, StoreId)>,
}

impl TempTables {
    /// Remembers `db.name`; `db` is the session's database where the statement named none.
    pub fn insert(&mut self, db: Option<&str>, name: &str, store: StoreId) {
        self.remove(db, name);
        self.tables.push((db.map(Into::into), name.into(), store));
    }

    /// Forgets it; true if it was known.
    pub fn remove(&mut self, db: Option<&str>, name: &str) -> bool {
        let before = self.tables.len();
        self.tables.retain(|(d, n, _)| !(same(d.as_deref(), db) && n.eq_ignore_ascii_case(name)));
        self.tables.len() != before
    }

    /// Where it is.
    #[must_use]
    pub fn get(&self, db: Option<&str>, name: &str) -> Option<StoreId> {
        let found = self.tables.iter().find(|(d, n, _)| same(d.as_deref(), db) && n.eq_ignore_ascii_case(name));
        found.map(|(_, _, store)| *store)
    }

    /// True if the session has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.tables.clear();
    }

    /// All of them: database, name, store.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&str>, &str, StoreId)> {
        self.tables.iter().map(|(d, n, s)| (d.as_deref(), n.as_ref(), *s))
    }
}

fn same(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

/// What `decide` must know of the session.
#[derive(Debug, Clone, Copy)]
pub struct SessionView<'a> {
    /// Its database.
    pub database: Option<&'a str>,
    /// Its temporary tables.
    pub temporary: &'a TempTables,
    /// Names (without database) of the tables that its open transaction has written, and where.
    pub written: &'a [(StoreId, Box<str>)],
}

/// A table of the statement and where it is.
struct Placed<'a> {
    table: &'a TableRef,
    index: u16,
    store: StoreId,
    group: Option<GroupId>,
    temporary: bool,
}

/// Where the statement runs. Dynamic SQL counts only with the tables that it names itself.
#[must_use]
pub fn decide(facts: &Facts, snapshot: &Snapshot, session: &SessionView<'_>) -> Decision {
    if let Some(name) = facts.hint.as_deref().filter(|_| snapshot.config.hints) {
        return hinted(name, snapshot);
    }
    let default = snapshot.config.default;
    if facts.tables.is_empty() {
        return Decision::Store { store: default, reason: Reason::NoTables };
    }
    if snapshot.all_default() && session.temporary.is_empty() {
        return all_default(facts, snapshot, session);
    }
    if let [only] = facts.tables.as_ref() {
        let placed = place(only, 0, snapshot, session);
        return match &placed {
            Some(p) => at(std::slice::from_ref(p), p.store),
            None => Decision::Store { store: default, reason: Reason::Default },
        };
    }
    let mut placed: Vec<Placed<'_>> = Vec::with_capacity(facts.tables.len());
    for (n, table) in facts.tables.iter().enumerate() {
        placed.extend(place(table, n, snapshot, session));
    }
    if facts.flags.contains(Flags::TEMPORARY_TABLE) {
        forget_new_temporary(&mut placed);
    }
    if placed.iter().any(|p| p.table.access > Access::Describe) {
        placed.retain(|p| p.table.access > Access::Describe);
        return choose(&placed, snapshot, session);
    }
    match placed.split_first() {
        Some((first, rest)) if rest.iter().all(|p| p.store == first.store) => at(&placed, first.store),
        _ => Decision::Store { store: default, reason: Reason::Default },
    }
}

/// Every table is on the default store: only the reason is to be found.
fn all_default(facts: &Facts, snapshot: &Snapshot, session: &SessionView<'_>) -> Decision {
    let grouped = facts.tables.iter().enumerate().find_map(|(n, table)| {
        let group = snapshot.locate(table, session.database).group?;
        Some(Reason::Group { group, table: u16::try_from(n).ok()? })
    });
    Decision::Store { store: snapshot.config.default, reason: grouped.unwrap_or(Reason::Default) }
}

fn place<'a>(table: &'a TableRef, index: usize, snapshot: &Snapshot, session: &SessionView<'_>) -> Option<Placed<'a>> {
    let index = u16::try_from(index).unwrap_or(u16::MAX);
    if !session.temporary.is_empty() && table.access != Access::Call {
        let db = table.database.as_deref().or(session.database);
        let case = snapshot.name_case();
        let own = session.temporary.iter().find(|(d, n, _)| {
            case.same(n, &table.name)
                && match (d, db) {
                    (Some(a), Some(b)) => case.same(a, b),
                    (a, b) => a.is_none() && b.is_none(),
                }
        });
        if let Some((_, _, store)) = own {
            return Some(Placed { table, index, store, group: None, temporary: true });
        }
    }
    let location = snapshot.locate(table, session.database);
    let Some(group) = location.group else {
        let placed = Placed { table, index, store: location.store, group: None, temporary: false };
        return (!location.neutral).then_some(placed);
    };
    Some(Placed { table, index, store: location.store, group: Some(group), temporary: false })
}

/// A temporary table that is about to be made, and that no group names, goes with the tables that it is made from.
fn forget_new_temporary(placed: &mut Vec<Placed<'_>>) {
    let new = |p: &Placed<'_>| p.table.access == Access::Ddl && p.group.is_none() && !p.temporary;
    if placed.iter().any(|p| !new(p)) {
        placed.retain(|p| !new(p));
    }
}

fn hinted(name: &str, snapshot: &Snapshot) -> Decision {
    match snapshot.store_named(name) {
        Some(store) => Decision::Store { store, reason: Reason::Hint },
        None => {
            let stores = snapshot.config.stores.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
            refuse(format!("switchover: the hint names store '{name}', which does not exist; stores are: {stores}"))
        }
    }
}

fn refuse(message: String) -> Decision {
    Decision::Refuse(Refusal { code: 1235, sqlstate: *b"42000", message })
}

/// All tables are on `store`: the first that has more to say than "default" is the reason.
fn at(placed: &[Placed<'_>], store: StoreId) -> Decision {
    let reason = placed.iter().find_map(|p| match p.group {
        _ if p.temporary => Some(Reason::TemporaryTable { table: p.index }),
        Some(group) => Some(Reason::Group { group, table: p.index }),
        None => None,
    });
    Decision::Store { store, reason: reason.unwrap_or(Reason::Default) }
}

fn choose(placed: &[Placed<'_>], snapshot: &Snapshot, session: &SessionView<'_>) -> Decision {
    let Some(first) = placed.first() else {
        return Decision::Store { store: snapshot.config.default, reason: Reason::Default };
    };
    if placed.iter().all(|p| p.store == first.store) {
        return at(placed, first.store);
    }
    for (n, candidate) in placed.iter().enumerate() {
        let seen = placed.iter().take(n).any(|p| p.store == candidate.store);
        if seen {
            continue;
        }
        if let Some(reason) = by_reference(candidate.store, placed, snapshot, session) {
            return Decision::Store { store: candidate.store, reason };
        }
    }
    refuse(cross_store_message(placed, snapshot))
}

/// The reason if `store` has every table: its own, and copies of the others that may be read there.
fn by_reference(
    store: StoreId,
    placed: &[Placed<'_>],
    snapshot: &Snapshot,
    session: &SessionView<'_>,
) -> Option<Reason> {
    let mut reason = None;
    for p in placed.iter().filter(|p| p.store != store) {
        let written = session.written.iter().any(|(_, name)| name.eq_ignore_ascii_case(&p.table.name));
        if p.temporary || written || p.table.access > Access::Read {
            return None;
        }
        let database = p.table.database.as_deref().or(session.database);
        let group = snapshot.reference_on(store, database, &p.table.name)?;
        reason = reason.or(Some(Reason::Reference { group, table: p.index }));
    }
    reason
}

/// Names the tables, their stores and the ways out.
fn cross_store_message(placed: &[Placed<'_>], snapshot: &Snapshot) -> String {
    const SHOWN: usize = 6;
    let mut items: Vec<String> = placed
        .iter()
        .take(SHOWN)
        .map(|p| {
            let kind = match p.group.and_then(|id| snapshot.group(id)) {
                _ if p.temporary => ", temporary".to_owned(),
                Some(group) => format!(", group {}", group.name),
                None => String::new(),
            };
            format!("'{}' on store {}{kind}", p.table.name, snapshot.store_name(p.store))
        })
        .collect();
    if placed.len() > SHOWN {
        items.push(format!("{} more", placed.len() - SHOWN));
    }
    let ways = if placed.iter().any(|p| p.temporary) {
        "use the temporary table without the others, or move the group's flag"
    } else if placed.iter().any(|p| p.table.access > Access::Read) {
        "split the statement by store, or put the tables in one group"
    } else {
        "split the statement by store, put the tables in one group, or list those kept in sync under the group's references"
    };
    let hint = if snapshot.config.hints { ", or name a store by /* switchover:store=NAME */" } else { "" };
    format!("switchover: no store has all tables of this statement: {}; {ways}{hint}", items.join("; "))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
