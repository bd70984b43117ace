//! The seal by `rename`: the group's tables move, all in one statement, to where only the control account finds them
//! ([`crate::entry::place`]), and back.
//!
//! RENAME TABLE takes the exclusive metadata lock of every table at once, and so waits for every transaction that has used one of
//! them, reads too: for a moment at a time (RULES.md 35). MariaDB and MySQL do it whole or not at all. Whatever was left half-done,
//! by a crash or an engine that moves one after another: each attempt looks where each table is, and moves what is not in its place.
//! A table that is at both places is nobody's to move: the error names both.
//!
//! TRUNCATE, other DDL and foreign keys' effects pass no such seal, nor does a read: who sends one to a store that does not serve
//! the group hears that there is no such table. What is written nowhere is who was refused: only a trigger sees that.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::catalog::Catalog;
use super::check::Problem;
use super::schema::literal;
use super::seal::{Brief, KINDS, SealError, Sealer, present};
use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::changes::{Interest, Tables};
use crate::entry::place::{SEALED_SCHEMAS, sealed_schema};
use crate::entry::{TableName, quoted};

/// At which of its two places a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Places {
    own: bool,
    sealed: bool,
}

impl Places {
    /// Whether it is sealed.
    pub(super) fn is_away(&self) -> bool {
        self.sealed
    }
}

/// Where the tables of a catalog are now.
///
/// # Errors
/// As the store's.
pub(super) async fn places(
    backend: &mut Backend,
    catalog: &Catalog,
) -> Result<BTreeMap<TableName, Places>, QueryError> {
    let databases: BTreeSet<&str> = catalog.keys().map(|name| name.database.as_str()).collect();
    let schemas = databases.iter().flat_map(|name| [Some((*name).to_owned()), sealed_schema(name)]).flatten();
    let within: Vec<String> = schemas.map(|name| literal(&name)).collect();
    let mut found = BTreeMap::new();
    if within.is_empty() {
        return Ok(found);
    }
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ({})",
        within.join(", ")
    );
    for row in &backend.query(sql.as_bytes()).await?.rows {
        let place = named(row);
        let (table, sealed) = place.unsealed().map_or((place, false), |table| (table, true));
        if catalog.contains_key(&table) {
            let known: &mut Places = found.entry(table).or_default();
            known.sealed |= sealed;
            known.own |= !sealed;
        }
    }
    Ok(found)
}

/// Whether tables of a group are away at a store.
///
/// # Errors
/// As the store's.
pub(super) async fn any(backend: &mut Backend, tables: &dyn Tables) -> Result<bool, QueryError> {
    let sql = format!(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE LEFT(TABLE_SCHEMA, {}) = {}",
        SEALED_SCHEMAS.len(),
        literal(SEALED_SCHEMAS)
    );
    let rows = backend.query(sql.as_bytes()).await?.rows;
    let is_own =
        |place: TableName| place.unsealed().is_some_and(|t| tables.interest(&t.database, &t.name) == Interest::Group);
    Ok(rows.iter().any(|row| is_own(named(row))))
}

/// Views over these tables that the group does not list: they fail with 1356 while the tables are away, as far as the control account
/// sees them.
///
/// # Errors
/// As the store's.
pub(super) async fn views(
    backend: &mut Backend,
    catalog: &Catalog,
    tables: &dyn Tables,
) -> Result<Vec<Problem>, QueryError> {
    let sql = "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS \
               WHERE TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')";
    let mut problems = Vec::new();
    for row in &backend.query(sql.as_bytes()).await?.rows {
        let view = named(row);
        let text = String::from_utf8_lossy(row.get(2).and_then(Option::as_deref).unwrap_or_default()).into_owned();
        let read = catalog.keys().find(|table| text.contains(&table.quoted()));
        let listed = tables.interest(&view.database, &view.name) == Interest::Group;
        if let (Some(table), false) = (read, listed) {
            let what = format!("the view {view} reads {table}, and fails while the store is sealed by rename");
            let mend = format!("list {view} in the group's `tables`; or drop it; or say `seal: trigger` for the store");
            problems.push((what, mend));
        }
    }
    Ok(problems)
}

fn named(row: &[Option<Vec<u8>>]) -> TableName {
    let cell =
        |at: usize| String::from_utf8_lossy(row.get(at).and_then(Option::as_deref).unwrap_or_default()).into_owned();
    TableName { database: cell(0), name: cell(1) }
}

/// What is to move, and whither: pure.
///
/// # Errors
/// [`SealError::Twice`], [`SealError::TooLong`].
fn moves(
    found: &BTreeMap<TableName, Places>,
    away: bool,
    stays: impl Fn(&TableName) -> bool,
) -> Result<Vec<(TableName, TableName)>, SealError> {
    let mut moves = Vec::new();
    for (own, places) in found {
        let sealed = own.sealed().ok_or_else(|| SealError::TooLong(own.database.clone()));
        if places.own && places.sealed {
            return Err(SealError::Twice { own: own.clone(), sealed: sealed? });
        }
        match away {
            true if places.own && !stays(own) => moves.push((own.clone(), sealed?)),
            false if places.sealed => moves.push((sealed?, own.clone())),
            _ => {}
        }
    }
    Ok(moves)
}

fn renaming(moves: &[(TableName, TableName)]) -> String {
    let list: Vec<String> = moves.iter().map(|(from, to)| format!("{} TO {}", from.quoted(), to.quoted())).collect();
    format!("RENAME TABLE {}", list.join(", "))
}

impl Sealer<'_> {
    /// Moves every table of the catalog away that is not sealed yet.
    ///
    /// # Errors
    /// [`SealError`].
    pub(super) async fn move_away(&mut self, catalog: &Catalog, deadline: Instant) -> Result<(), SealError> {
        let mut made = false;
        loop {
            let found = places(self.backend, catalog).await?;
            let triggers = present(self.backend, catalog).await?;
            let stays = |table: &TableName| triggers.get(table).is_some_and(|names| names.len() >= KINDS.len());
            let moves = moves(&found, true, stays)?;
            if moves.is_empty() {
                return Ok(());
            }
            if !made {
                let schemas: BTreeSet<&str> = moves.iter().map(|(_, to)| to.database.as_str()).collect();
                for schema in schemas {
                    let sql = format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quoted(schema));
                    self.backend.execute(sql.as_bytes()).await?;
                }
                // (triggers that a seal of the other kind has left half-way would keep the table where it is)
                for (table, _) in &moves {
                    if let Some(names) = triggers.get(table) {
                        self.drop_triggers(table, names, deadline).await?;
                    }
                }
                made = true;
            }
            self.rename(&moves, deadline).await?;
        }
    }

    /// Moves every table of the catalog back that is away.
    ///
    /// # Errors
    /// [`SealError`].
    pub(super) async fn move_back(&mut self, catalog: &Catalog, deadline: Instant) -> Result<(), SealError> {
        loop {
            let moves = moves(&places(self.backend, catalog).await?, false, |_| false)?;
            if moves.is_empty() {
                return Ok(());
            }
            self.rename(&moves, deadline).await?;
        }
    }

    /// One attempt: what it came to, the next look says.
    async fn rename(&mut self, moves: &[(TableName, TableName)], deadline: Instant) -> Result<(), SealError> {
        let tables = || moves.iter().map(|(from, _)| from.to_string()).collect::<Vec<_>>().join(" or ");
        match self.briefly(&renaming(moves)).await {
            Ok(Brief::Done) => Ok(()),
            // somebody else has moved one: the next look says where it is
            Err(QueryError::Refused(e)) if matches!(e.code, 1146 | 1050) => Self::pause(tables, deadline).await,
            Ok(Brief::Waits) => Self::pause(tables, deadline).await,
            Err(QueryError::Refused(e)) if e.code == 1435 => Err(SealError::Trigger(QueryError::Refused(e))),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(own: bool, sealed: bool) -> Places {
        Places { own, sealed }
    }

    fn tables(list: &[(&str, Places)]) -> BTreeMap<TableName, Places> {
        let name = |name: &str| TableName { database: "d".into(), name: name.into() };
        list.iter().map(|(table, places)| (name(table), *places)).collect()
    }

    #[test]
    fn what_is_not_in_its_place_moves() {
        let half = tables(&[("a", at(false, true)), ("b", at(true, false)), ("c", at(true, false))]);
        let away = moves(&half, true, |table| table.name == "c").unwrap();
        assert_eq!(renaming(&away), "RENAME TABLE `d`.`b` TO `switchover_sealed_d`.`b`");
        let back = moves(&half, false, |_| false).unwrap();
        assert_eq!(renaming(&back), "RENAME TABLE `switchover_sealed_d`.`a` TO `d`.`a`");
        let all = tables(&[("a", at(true, false)), ("b", at(true, false))]);
        assert_eq!(moves(&all, true, |_| false).unwrap().len(), 2);
        assert!(moves(&all, false, |_| false).unwrap().is_empty());
    }

    #[test]
    fn a_table_at_both_places_is_nobodys_to_move() {
        let both = tables(&[("a", at(true, true)), ("b", at(true, false))]);
        for away in [true, false] {
            let Err(error) = moves(&both, away, |_| false) else { panic!("moved") };
            let text = error.to_string();
            assert!(text.contains("d.a and one at switchover_sealed_d.a"), "{text}");
        }
        let long = BTreeMap::from([(TableName { database: "x".repeat(60), name: "t".into() }, at(true, false))]);
        assert!(matches!(moves(&long, true, |_| false), Err(SealError::TooLong(_))));
        assert!(moves(&long, false, |_| false).unwrap().is_empty());
    }
}
