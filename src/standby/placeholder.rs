//! Views that keep the names of tables which are away: a store that is sealed by `rename` has one at each table's own place.
//!
//! A table that is away leaves its name free, and whoever writes where he must not may begin with CREATE TABLE IF NOT EXISTS: what
//! he wrote then would be in a table that nobody follows. So a view has the name. It refers to a table that is not there: MariaDB
//! (10.11) neither reads nor writes it (1356), whoever asks, and makes and drops no table of its name (1050, 1965); it holds no
//! metadata lock for whoever was refused, and RENAME TABLE takes it in the same statement with tables.
//!
//! ```text
//! put on:    CREATE TABLE base ─► CREATE VIEW spare … FROM base ─► DROP TABLE base ─► RENAME t TO sealed.t, spare TO t
//! taken off: RENAME t TO spare, sealed.t TO t ─► DROP VIEW spare
//! ```
//!
//! Whatever is left by a crash in between is a view of a name that no table has; the next look takes it away, or makes it anew. Where
//! RENAME takes no views, or the account may not, they are made in place, behind the move. Where there are none at all, a table of the
//! name can be made: [`super::strays`] tells of it.

use super::seal::Sealer;
use super::seal_rename::Found;
use crate::backend::connection::QueryError;
use crate::entry::TableName;
use crate::entry::place::number;

/// In the text of each such view, and by that it is known.
const MARK: &str = "sealed_by_rename";

/// How far a store goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Views {
    /// They come and go in the statement in which tables move.
    Swapped,
    /// They are made where tables were, and dropped before tables come back.
    InPlace,
    /// There are none.
    None,
}

/// Whether a view at the place of a table that is away is such a one, by its text; one whose text may not be read is.
pub(super) fn is_own(definition: &str) -> bool {
    definition.is_empty() || definition.contains(MARK)
}

impl Sealer<'_> {
    /// Makes the views that wait beside these tables, anew where they are there; how it is to go on.
    ///
    /// # Errors
    /// Where the store is lost.
    pub(super) async fn make_spares(&mut self, group: &str, tables: &[TableName]) -> Result<Views, QueryError> {
        let spares: Vec<TableName> = tables.iter().map(TableName::spare).collect();
        let made = self.make_views(group, "CREATE OR REPLACE VIEW", &spares).await?;
        Ok(if made { Views::Swapped } else { Views::InPlace })
    }

    /// Makes the views at the own places of tables that are away, as far as the store lets it.
    ///
    /// # Errors
    /// Where the store is lost.
    pub(super) async fn make_in_place(&mut self, group: &str, tables: &[TableName]) -> Result<(), QueryError> {
        if !self.make_views(group, "CREATE VIEW", tables).await? {
            let store = self.store.name();
            tracing::warn!(
                group,
                store,
                "sealed by rename, and no views keep the tables' names: who makes a table of one can write it"
            );
        }
        Ok(())
    }

    /// Makes views that refer to nothing: all of them, or none. (An aggregate: nobody could write one of them even before.)
    async fn make_views(&mut self, group: &str, create: &str, views: &[TableName]) -> Result<bool, QueryError> {
        if views.is_empty() {
            return Ok(true);
        }
        let base = TableName { database: super::schema::SCHEMA.into(), name: format!("{MARK}_{:016x}", number(group)) };
        let base = base.quoted();
        let mut refused = self.may(&format!("CREATE TABLE IF NOT EXISTS {base} ({MARK} INT)")).await?;
        let mut made = Vec::new();
        for view in views {
            if refused.is_none() {
                let sql = format!("{create} {} AS SELECT MAX({MARK}) AS {MARK} FROM {base}", view.quoted());
                refused = self.may(&sql).await?;
                made.extend(refused.is_none().then(|| view.clone()));
            }
        }
        let dropped = self.may(&format!("DROP TABLE IF EXISTS {base}")).await?;
        let Some(why) = refused.or(dropped) else { return Ok(true) };
        tracing::debug!(group, store = self.store.name(), why, "no views can keep the tables' names");
        self.drop_views(made).await?;
        Ok(false)
    }

    /// Drops the views that wait beside their tables; whether none is there any more.
    ///
    /// # Errors
    /// Where the store is lost.
    pub(super) async fn drop_spares(&mut self, found: &Found) -> Result<bool, QueryError> {
        let spares = found.iter().filter(|(_, places)| places.spare);
        self.drop_views(spares.map(|(table, _)| table.spare()).collect()).await
    }

    /// Drops views; whether it could.
    ///
    /// # Errors
    /// Where the store is lost.
    pub(super) async fn drop_views(&mut self, views: Vec<TableName>) -> Result<bool, QueryError> {
        if views.is_empty() {
            return Ok(true);
        }
        let names: Vec<String> = views.iter().map(TableName::quoted).collect();
        Ok(self.may(&format!("DROP VIEW IF EXISTS {}", names.join(", "))).await?.is_none())
    }

    /// Runs DDL in nobody's way; what the store says, where it refuses.
    async fn may(&mut self, sql: &str) -> Result<Option<String>, QueryError> {
        super::seal_lock::is_held(self.row).await?;
        match self.backend.execute(sql.as_bytes()).await {
            Ok(_) => Ok(None),
            Err(QueryError::Refused(error)) => Ok(Some(QueryError::Refused(error).to_string())),
            Err(error) => Err(error),
        }
    }
}
