//! What somebody has made at the own place of a table that is away ([`super::strays`]), when the store takes over in a fallback: it
//! is put aside, because service comes first; and it is kept, because nobody else has what it holds.
//!
//! A fallback puts it aside before it decides anything, and a view in its place: whoever writes there is refused from then on, and
//! what he wrote is in the store's log before the place from which the other store will follow. Where no view keeps the name, and he
//! makes another, that goes when the seal is taken off: of a store that a fallback has opened, and of no other.
//!
//! A table goes beside the tables that are away. A view, or a table with triggers, cannot leave its database (1450, 1435).

use super::pair::{PairError, Side};
use super::record::Record;
use super::schema::literal;
use super::seal::Sealer;
use super::seal_rename::{Found, Move, Own, Places, places, sealed_schemas, tables_of};
use super::strays;
use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::changes::{Interest, Tables};
use crate::entry::TableName;
use crate::entry::place::{ASIDE, unsealed_schema};
use tokio::time::Instant;

/// Strays are to be put aside.
#[derive(Debug, Clone)]
pub(super) struct Aside {
    /// For this group,
    pub(super) group: String,
    /// by the fallback that opens this epoch.
    pub(super) epoch: u64,
    /// Tables cannot leave their database either.
    pub(super) beside: bool,
}

/// Something that is to be put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stray {
    table: TableName,
    view: bool,
    to: TableName,
}

impl Stray {
    fn kind(&self) -> &'static str {
        if self.view { "VIEW" } else { "TABLE" }
    }
}

/// What is to be put aside; for whoever moves tables, its place is empty.
pub(super) fn take(found: &mut Found, aside: Option<&Aside>) -> Vec<Stray> {
    let Some(aside) = aside else { return Vec::new() };
    let mut strays = Vec::new();
    for (table, places) in found.iter_mut().filter(|(_, places)| places.is_stray()) {
        let view = places.own == Own::View;
        if let Some(to) = table.aside(aside.epoch, aside.beside || view) {
            places.own = Own::Nothing;
            strays.push(Stray { table: table.clone(), view, to });
        }
    }
    strays
}

/// From where to where it goes.
pub(super) fn pairs(strays: &[Stray]) -> impl Iterator<Item = Move> {
    strays.iter().map(|stray| (stray.table.clone(), stray.to.clone()))
}

impl Sealer<'_> {
    /// Whether there is another way for strays that do not leave their database: they stay there.
    pub(super) fn goes_beside(&mut self, strays: &[Stray]) -> bool {
        let another = self.aside.as_mut().filter(|aside| !aside.beside && !strays.is_empty());
        another.map(|aside| aside.beside = true).is_some()
    }

    /// It is done: in the log, and in `switchover.refused`.
    pub(super) async fn tell_aside(&mut self, strays: Vec<Stray>) -> Result<(), QueryError> {
        let Some(aside) = self.aside.clone() else { return Ok(()) };
        for stray in strays {
            let (group, store) = (&aside.group, self.store.name());
            tracing::error!(group, store, table = %stray.table, "{}", line(store, &stray.table, &stray.to, stray.kind()));
            let account =
                format!("unknown: made while it was sealed, put aside by the fallback of epoch {}", aside.epoch);
            strays::note(self.backend, group, (&stray.table, &stray.to), (stray.kind(), &account)).await?;
        }
        Ok(())
    }
}

impl Side {
    /// Puts strays aside at a standby that is to take over, and views in their places.
    ///
    /// # Errors
    /// As [`Side::close`].
    pub(super) async fn put_aside(
        &mut self,
        group: &str,
        record: &Record,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), PairError> {
        let looked = places(&mut self.backend, self.catalog.keys()).await;
        let found = looked.map_err(|e| self.failed(e))?;
        if !found.values().any(Places::is_stray) {
            return Ok(());
        }
        let aside = Aside { group: group.to_owned(), epoch, beside: false };
        self.seal(group, &record.token, (record.epoch, record.standing), Some(aside), deadline).await.map(drop)
    }

    /// Whether a fallback has opened this epoch here: then what is in the way of its tables is put aside.
    pub(super) async fn aside(&mut self, group: &str, epoch: u64) -> Result<Option<Aside>, PairError> {
        let sql = format!(
            "SELECT COUNT(*) FROM switchover.fallbacks WHERE group_name = {} AND epoch = {epoch}",
            literal(group)
        );
        let opened = self.one(&sql).await? != "0";
        Ok(opened.then(|| Aside { group: group.to_owned(), epoch, beside: false }))
    }
}

/// What was put aside at a store, a line for each.
///
/// # Errors
/// As the store's.
pub(super) async fn lines(backend: &mut Backend, store: &str, tables: &dyn Tables) -> Result<Vec<String>, QueryError> {
    // (whoever puts something aside has made the schema for tables that are away, if it was not there)
    let sealed = sealed_schemas(backend).await?;
    let mut lines = Vec::new();
    if sealed.is_empty() {
        return Ok(lines);
    }
    let own: Vec<String> = sealed.iter().filter_map(|name| unsealed_schema(name)).map(str::to_owned).collect();
    // (a server opens what has such a name, and no other)
    let named = format!(" AND TABLE_NAME LIKE '{ASIDE}%'");
    let sql = tables_of(own.into_iter().chain(sealed), "TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE", &named);
    for row in &backend.query(sql.as_bytes()).await?.rows {
        let cell = |at: usize| {
            String::from_utf8_lossy(row.get(at).and_then(Option::as_deref).unwrap_or_default()).into_owned()
        };
        let place = TableName { database: cell(0), name: cell(1) };
        if let Some(was) = place.put_aside().filter(|was| is_of(tables, was)) {
            lines.push(line(store, &was, &place, if cell(2).ends_with("VIEW") { "VIEW" } else { "TABLE" }));
        }
    }
    Ok(lines)
}

/// Whether it was made at a table of the group; of a name that was too long only its number is known.
fn is_of(tables: &dyn Tables, was: &TableName) -> bool {
    let number = was.name.len() == 16 && was.name.bytes().all(|b| b.is_ascii_hexdigit());
    number || tables.interest(&was.database, &was.name) == Interest::Group
}

fn line(store: &str, was: &TableName, place: &TableName, kind: &str) -> String {
    let what = if kind == "TABLE" { "copy what it holds through the proxy" } else { "look at it" };
    let (words, place) = (kind.to_lowercase(), place.quoted());
    format!(
        "{store}: {place} is a {words} that somebody had made at {was} while that was sealed, and the fallback has put it aside: \
         {what}; then on {store}: DROP {kind} {place}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_go_aside_and_nothing_else_does() {
        let name = |name: &str| TableName { database: "d".into(), name: name.into() };
        let at = |own, sealed| Places { own, sealed, ..Places::default() };
        let mut found: Found = [
            (name("kept"), at(Own::Placeholder, true)),
            (name("own"), at(Own::Table, false)),
            (name("table"), at(Own::Table, true)),
            (name("view"), at(Own::View, true)),
        ]
        .into();
        let before = found.clone();
        assert!(take(&mut found, None).is_empty() && found == before);
        let mut aside = Aside { group: "g".into(), epoch: 4, beside: false };
        let strays = take(&mut found, Some(&aside));
        let to: Vec<String> = pairs(&strays).map(|(from, to)| format!("{from} {to}")).collect();
        let sealed = "d.table switchover_sealed_d.switchover_stray_4_table";
        assert_eq!(to, [sealed, "d.view d.switchover_stray_4_view"]);
        assert_eq!(found[&name("table")], at(Own::Nothing, true));
        assert!(take(&mut found, Some(&aside)).is_empty());
        aside.beside = true;
        let strays = take(&mut before.clone(), Some(&aside));
        assert_eq!(strays[0].to.to_string(), "d.switchover_stray_4_table");
    }
}
