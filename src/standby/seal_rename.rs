//! The seal by `rename`: the group's tables move, all in one statement, to where only the control account finds them
//! ([`crate::entry::place`]), and back.
//!
//! RENAME TABLE takes the exclusive metadata lock of every table at once, and so waits for every transaction that has used one of
//! them, reads too: for a moment at a time (RULES.md 35). MariaDB and MySQL do it whole or not at all. Whatever was left half-done,
//! by a crash or an engine that moves one after another: each attempt looks where each table is, and moves what is not in its place.
//! A table that is at both places is nobody's to move: the error names both.
//!
//! In the same statement a view takes each table's own place ([`super::placeholder`]), so that nobody makes a table of that name
//! while it is away. TRUNCATE, other DDL and foreign keys' effects pass no such seal, nor does a read: who sends one to a store that
//! does not serve the group hears that the view refers to nothing. What is written nowhere is who was refused: only a trigger sees
//! that.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::aside;
use super::catalog::Catalog;
use super::check::Problem;
use super::placeholder::{self, Views};
use super::schema::literal;
use super::seal::{Brief, KINDS, Present, SealError, Sealer, present};
use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::changes::{Interest, Tables};
use crate::entry::place::{SEALED_SCHEMAS, sealed_schema, unsealed_schema};
use crate::entry::{TableName, quoted};

/// What has a table's own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Own {
    #[default]
    Nothing,
    Table,
    /// The view that keeps its name.
    Placeholder,
    /// A view that no seal has put there.
    View,
}

/// At which of its two places a table is, and what is at its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Places {
    pub(super) own: Own,
    pub(super) sealed: bool,
    /// The view that keeps its name waits beside it.
    pub(super) spare: bool,
}

impl Places {
    /// Whether it is sealed.
    pub(super) fn is_away(&self) -> bool {
        self.sealed
    }

    /// Whether something is at its own place, while it is away, that no seal has put there.
    pub(super) fn is_stray(&self) -> bool {
        self.sealed && matches!(self.own, Own::Table | Own::View)
    }
}

/// Where tables are, and which views keep their names.
pub(super) type Found = BTreeMap<TableName, Places>;

/// Where these tables are now.
///
/// # Errors
/// As the store's.
pub(super) async fn places<'a>(
    backend: &mut Backend,
    tables: impl Iterator<Item = &'a TableName>,
) -> Result<Found, QueryError> {
    let spares: BTreeMap<TableName, &TableName> = tables.map(|table| (table.spare(), table)).collect();
    let known: BTreeSet<&TableName> = spares.values().copied().collect();
    let databases: BTreeSet<&str> = known.iter().map(|name| name.database.as_str()).collect();
    let own = databases.iter().map(|name| (*name).to_owned());
    let schemas = own.clone().chain(databases.iter().filter_map(|name| sealed_schema(name)));
    let mut found = Found::new();
    if known.is_empty() {
        return Ok(found);
    }
    let sql = tables_of(schemas, "TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE", "");
    for row in &backend.query(sql.as_bytes()).await?.rows {
        let place = named(row);
        let view = cell(row, 2).ends_with("VIEW");
        if let Some(table) = spares.get(&place).filter(|_| view) {
            found.entry((*table).clone()).or_default().spare = true;
            continue;
        }
        let (table, sealed) = place.unsealed().map_or((place, false), |table| (table, true));
        if !known.contains(&table) {
            continue;
        }
        let places = found.entry(table).or_default();
        match (sealed, view) {
            (true, _) => places.sealed |= !view,
            (false, true) => places.own = Own::View,
            (false, false) => places.own = Own::Table,
        }
    }
    if found.values().any(|places| places.own == Own::View) {
        let within = own.map(|name| literal(&name)).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN ({within})"
        );
        for row in &backend.query(sql.as_bytes()).await?.rows {
            if let Some(places) = found.get_mut(&named(row)).filter(|_| placeholder::is_own(&cell(row, 2))) {
                places.own = Own::Placeholder;
            }
        }
    }
    Ok(found)
}

/// The tables of a group that are away at a store.
///
/// # Errors
/// As the store's.
pub(super) async fn away(backend: &mut Backend, tables: &dyn Tables) -> Result<BTreeSet<TableName>, QueryError> {
    let schemas = sealed_schemas(backend).await?;
    if schemas.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = tables_of(schemas.into_iter(), "TABLE_SCHEMA, TABLE_NAME", "");
    let rows = backend.query(sql.as_bytes()).await?.rows;
    let own = rows.iter().filter_map(|row| named(row).unsealed());
    Ok(own.filter(|t| tables.interest(&t.database, &t.name) == Interest::Group).collect())
}

/// The schemas here for tables that are away, whosever.
///
/// # Errors
/// As the store's.
pub(super) async fn sealed_schemas(backend: &mut Backend) -> Result<Vec<String>, QueryError> {
    let sql = format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE '{SEALED_SCHEMAS}%'");
    let rows = backend.query(sql.as_bytes()).await?.rows;
    // (an underscore in a pattern is any character)
    Ok(rows.iter().map(|row| cell(row, 0)).filter(|name| unsealed_schema(name).is_some()).collect())
}

/// The question for the tables of these schemas, one at the least. By equality: then a MariaDB reads the folders of no others.
pub(super) fn tables_of(schemas: impl Iterator<Item = String>, columns: &str, further: &str) -> String {
    let of = |schema: String| {
        let schema = literal(&schema);
        format!("SELECT {columns} FROM information_schema.TABLES WHERE TABLE_SCHEMA = {schema}{further}")
    };
    schemas.map(of).collect::<Vec<_>>().join(" UNION ALL ")
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

/// What is at the own place of a table that is away, and no seal has put there: its seal could not be taken off.
///
/// # Errors
/// As the store's.
pub(super) async fn strange_views(backend: &mut Backend, catalog: &Catalog) -> Result<Vec<Problem>, QueryError> {
    let found = places(backend, catalog.keys()).await?;
    let strange = found.iter().filter(|(_, places)| places.sealed && places.own == Own::View);
    let problem = |(table, _): (&TableName, &Places)| {
        let what = format!("somebody has made a view at {table}, whose table is sealed");
        (what, format!("look at it, and drop it: DROP VIEW {}", table.quoted()))
    };
    Ok(strange.map(problem).collect())
}

fn cell(row: &[Option<Vec<u8>>], at: usize) -> String {
    String::from_utf8_lossy(row.get(at).and_then(Option::as_deref).unwrap_or_default()).into_owned()
}

fn named(row: &[Option<Vec<u8>>]) -> TableName {
    TableName { database: cell(row, 0), name: cell(row, 1) }
}

/// A table that is to move: its own place, and where it is while it is sealed.
pub(super) type Move = (TableName, TableName);

/// What is to move: pure.
///
/// # Errors
/// [`SealError::Twice`], [`SealError::View`], [`SealError::TooLong`].
fn moves(found: &Found, away: bool, stays: impl Fn(&TableName) -> bool) -> Result<Vec<Move>, SealError> {
    let mut moves = Vec::new();
    for (own, places) in found {
        if away && stays(own) {
            continue;
        }
        let sealed = own.sealed().ok_or_else(|| SealError::TooLong(own.database.clone()));
        match (places.own, places.sealed) {
            (Own::Table, true) => return Err(SealError::Twice { own: own.clone(), sealed: sealed? }),
            (Own::View, true) if !away => return Err(SealError::View(own.clone())),
            (Own::Table, false) if away => moves.push((own.clone(), sealed?)),
            (_, true) if !away => moves.push((own.clone(), sealed?)),
            _ => {}
        }
    }
    Ok(moves)
}

/// What moves them away, and views to where they were, and where tables are away already (`bare`).
fn away_list(moves: &[Move], bare: &[TableName], views: Views) -> Vec<Move> {
    let mut list = Vec::new();
    for (table, sealed) in moves {
        list.push((table.clone(), sealed.clone()));
        list.extend((views == Views::Swapped).then(|| (table.spare(), table.clone())));
    }
    list.extend(bare.iter().filter(|_| views == Views::Swapped).map(|table| (table.spare(), table.clone())));
    list
}

/// What moves them back, and what kept their names beside them.
fn back_list(moves: &[Move], found: &Found, views: Views) -> Vec<Move> {
    let mut list = Vec::new();
    for (table, sealed) in moves {
        list.extend((views == Views::Swapped && is_kept(found, table)).then(|| (table.clone(), table.spare())));
        list.push((sealed.clone(), table.clone()));
    }
    list
}

fn is_kept(found: &Found, table: &TableName) -> bool {
    found.get(table).is_some_and(|places| places.own == Own::Placeholder)
}

fn renaming(list: impl Iterator<Item = Move>) -> String {
    let list: Vec<String> = list.map(|(from, to)| format!("{} TO {}", from.quoted(), to.quoted())).collect();
    format!("RENAME TABLE {}", list.join(", "))
}

/// The tables that move, by their own names.
fn names(list: &[Move]) -> String {
    let tables =
        list.iter().filter(|(from, to)| from.sealed().as_ref() == Some(to) || to.sealed().as_ref() == Some(from));
    let own = tables.map(|(from, to)| from.unsealed().map_or(from, |_| to).to_string());
    own.collect::<Vec<_>>().join(" or ")
}

impl Sealer<'_> {
    /// Moves every table of the catalog away that is not sealed yet, and puts a view at the own place of each that is.
    ///
    /// # Errors
    /// [`SealError`].
    pub(super) async fn move_away(
        &mut self,
        group: &str,
        catalog: &Catalog,
        deadline: Instant,
    ) -> Result<(), SealError> {
        let mut views = Views::Swapped;
        let (mut room, mut moved, mut made) = (false, BTreeSet::new(), BTreeSet::new());
        loop {
            let mut found = places(self.backend, catalog.keys()).await?;
            let strays = aside::take(&mut found, self.aside.as_ref());
            let triggers = present(self.backend, catalog).await?;
            // (a table that somebody makes behind the move keeps nobody from the seal: the watcher tells of it)
            let stays = |table: &TableName| {
                moved.contains(table) || triggers.get(table).is_some_and(|names| names.len() >= KINDS.len())
            };
            let moves = moves(&found, true, stays)?;
            let bare = bare(&found);
            let still = moves.is_empty() && strays.is_empty();
            if still && (bare.is_empty() || views == Views::None) {
                self.drop_spares(&found).await?;
                return Ok(());
            }
            if !std::mem::replace(&mut room, true) {
                self.make_room(&moves, &triggers, deadline).await?;
            }
            if views == Views::Swapped {
                // (what somebody has left who died is made anew: it may refer to a table that is there)
                let wanted = moves.iter().map(|(table, _)| table).chain(&bare);
                let is_there = |table: &&TableName| found.get(*table).is_some_and(|p| p.spare) && made.contains(*table);
                let lacking: Vec<TableName> = wanted.filter(|table| !is_there(table)).cloned().collect();
                views = self.make_spares(group, &lacking).await?;
                made.extend(lacking);
            } else if still {
                self.make_in_place(group, &bare).await?;
                views = Views::None;
                continue;
            }
            if still && views != Views::Swapped {
                continue;
            }
            let list: Vec<Move> = aside::pairs(&strays).chain(away_list(&moves, &bare, views)).collect();
            match self.rename(list, deadline).await {
                Ok(true) => {
                    moved.extend(moves.into_iter().map(|(table, _)| table));
                    self.tell_aside(strays).await?;
                }
                Ok(false) => {}
                Err(SealError::Trigger(_)) if self.goes_beside(&strays) => {}
                Err(SealError::Query(QueryError::Refused(why))) if views == Views::Swapped => {
                    views = Views::InPlace;
                    tracing::debug!(group, ?why, "views do not move with their tables");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Before tables move: the schemas that they move to; and triggers that a seal of the other kind has left half-way, which would
    /// keep the table where it is.
    async fn make_room(&mut self, moves: &[Move], triggers: &Present, deadline: Instant) -> Result<(), SealError> {
        let schemas: BTreeSet<&str> = moves.iter().map(|(_, to)| to.database.as_str()).collect();
        for schema in schemas {
            let sql = format!("CREATE DATABASE IF NOT EXISTS {} CHARACTER SET utf8mb4", quoted(schema));
            self.backend.execute(sql.as_bytes()).await?;
        }
        for (table, _) in moves {
            if let Some(names) = triggers.get(table) {
                self.drop_triggers(table, names, deadline).await?;
            }
        }
        Ok(())
    }

    /// Moves every table of the catalog back that is away, and takes away what kept its name.
    ///
    /// # Errors
    /// [`SealError`].
    pub(super) async fn move_back(&mut self, catalog: &Catalog, deadline: Instant) -> Result<(), SealError> {
        let mut views = Views::Swapped;
        loop {
            let mut found = places(self.backend, catalog.keys()).await?;
            let strays = aside::take(&mut found, self.aside.as_ref());
            let moves = moves(&found, false, |_| false)?;
            // (before the tables move they would be in the way, and then of no use)
            if !self.drop_spares(&found).await? {
                views = Views::InPlace;
            }
            if moves.is_empty() {
                return Ok(());
            }
            if views == Views::InPlace {
                let kept = moves.iter().map(|(table, _)| table).filter(|table| is_kept(&found, table));
                self.drop_views(kept.cloned().collect()).await?;
            }
            let list: Vec<Move> = aside::pairs(&strays).chain(back_list(&moves, &found, views)).collect();
            match self.rename(list, deadline).await {
                Ok(true) => self.tell_aside(strays).await?,
                Ok(false) => {}
                Err(SealError::Trigger(_)) if self.goes_beside(&strays) => {}
                Err(SealError::Query(QueryError::Refused(why))) if views == Views::Swapped => {
                    views = Views::InPlace;
                    tracing::debug!(?why, "views do not move with their tables");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One attempt; whether it is done: if not, the next look says where everything is.
    async fn rename(&mut self, list: Vec<Move>, deadline: Instant) -> Result<bool, SealError> {
        let tables = names(&list);
        match self.briefly(&renaming(list.into_iter()), deadline).await {
            Ok(Brief::Done) => return Ok(true),
            // somebody else has moved one; somebody uses one
            Err(QueryError::Refused(e)) if matches!(e.code, 1146 | 1050) => {}
            Ok(Brief::Waits) => {}
            Err(QueryError::Refused(e)) if e.code == 1435 => return Err(SealError::Trigger(QueryError::Refused(e))),
            Err(error) => return Err(error.into()),
        }
        Self::pause(|| tables.clone(), deadline).await?;
        Ok(false)
    }
}

/// Tables that are away, and whose own place is empty.
pub(super) fn bare(found: &Found) -> Vec<TableName> {
    found.iter().filter(|(_, p)| p.sealed && p.own == Own::Nothing).map(|(table, _)| table.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(own: Own, sealed: bool) -> Places {
        Places { own, sealed, spare: false }
    }

    fn tables(list: &[(&str, Places)]) -> Found {
        let name = |name: &str| TableName { database: "d".into(), name: name.into() };
        list.iter().map(|(table, places)| (name(table), *places)).collect()
    }

    fn sql(list: Vec<Move>) -> String {
        renaming(list.into_iter())
    }

    #[test]
    fn what_is_not_in_its_place_moves() {
        let half = [("a", at(Own::Nothing, true)), ("b", at(Own::Table, false)), ("c", at(Own::Table, false))];
        let half = tables(&half);
        let away = moves(&half, true, |table| table.name == "c").unwrap();
        assert_eq!(
            sql(away_list(&away, &bare(&half), Views::None)),
            "RENAME TABLE `d`.`b` TO `switchover_sealed_d`.`b`"
        );
        let back = moves(&half, false, |_| false).unwrap();
        assert_eq!(sql(back_list(&back, &half, Views::Swapped)), "RENAME TABLE `switchover_sealed_d`.`a` TO `d`.`a`");
        let all = tables(&[("a", at(Own::Table, false)), ("b", at(Own::Table, false))]);
        assert_eq!(moves(&all, true, |_| false).unwrap().len(), 2);
        assert!(moves(&all, false, |_| false).unwrap().is_empty());
    }

    #[test]
    fn no_name_is_free_for_a_moment() {
        let half = tables(&[("a", at(Own::Nothing, true)), ("b", at(Own::Table, false))]);
        let away = moves(&half, true, |_| false).unwrap();
        let (a, b) = (half.keys().next().unwrap().spare(), half.keys().next_back().unwrap().spare());
        let away = sql(away_list(&away, &bare(&half), Views::Swapped));
        let (a, b) = (a.quoted(), b.quoted());
        assert_eq!(away, format!("RENAME TABLE `d`.`b` TO `switchover_sealed_d`.`b`, {b} TO `d`.`b`, {a} TO `d`.`a`"));
        let kept = tables(&[("a", at(Own::Placeholder, true)), ("b", at(Own::Nothing, true))]);
        let back = moves(&kept, false, |_| false).unwrap();
        let swapped = sql(back_list(&back, &kept, Views::Swapped));
        let rest = "`switchover_sealed_d`.`a` TO `d`.`a`, `switchover_sealed_d`.`b` TO `d`.`b`";
        assert_eq!(swapped, format!("RENAME TABLE `d`.`a` TO {a}, {rest}"));
        assert_eq!(sql(back_list(&back, &kept, Views::InPlace)), format!("RENAME TABLE {rest}"));
    }

    #[test]
    fn a_table_at_both_places_is_nobodys_to_move() {
        let both = tables(&[("a", at(Own::Table, true)), ("b", at(Own::Table, false))]);
        for away in [true, false] {
            let Err(error) = moves(&both, away, |_| false) else { panic!("moved") };
            let text = error.to_string();
            assert!(text.contains("d.a and one at switchover_sealed_d.a"), "{text}");
        }
        let view = tables(&[("a", at(Own::View, true))]);
        assert!(matches!(moves(&view, false, |_| false), Err(SealError::View(_))));
        assert!(moves(&view, true, |_| false).unwrap().is_empty());
        let long = TableName { database: "x".repeat(60), name: "t".into() };
        let long = BTreeMap::from([(long, at(Own::Table, false))]);
        assert!(matches!(moves(&long, true, |_| false), Err(SealError::TooLong(_))));
        assert!(moves(&long, false, |_| false).unwrap().is_empty());
    }
}
