//! The immutable routing state: a checked config compiled for look-ups, with its epoch.
//!
//! A transaction works with one snapshot from start to end. Exact names are one hash look-up, whatever their number;
//! wildcards are tried after them, in the order of the file. `db.table` beats a bare name, a bare name beats a wildcard.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use super::patterns::{NameCase, glob, is_system_schema, is_wildcard};
use crate::config::model::{Config, Group, GroupId, StoreId, TablePattern};
use crate::sql::facts::{Access, TableRef};

/// Where a table lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The store that serves it.
    pub store: StoreId,
    /// Its group; `None` where no group names it.
    pub group: Option<GroupId>,
    /// It decides nothing: a table of information_schema, performance_schema or sys, which every store has, or a function
    /// that no group lists.
    pub neutral: bool,
}

/// Routing state of one epoch.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Grows by one with every published snapshot.
    pub epoch: u64,
    /// What it was compiled from.
    pub config: Arc<Config>,
    case: NameCase,
    tables: Names,
    references: Names,
    has_references: bool,
    largest_sample: u32,
    all_default: bool,
    depends_on_database: bool,
}

impl Snapshot {
    /// Compiles a checked config; `lower_case_table_names` is the stores' (0 is case-sensitive, 1 and 2 are not).
    #[must_use]
    pub fn compile(config: Arc<Config>, epoch: u64, lower_case_table_names: u8) -> Snapshot {
        let case = NameCase::new(lower_case_table_names);
        let mut tables = Names::new(case);
        let mut references = Names::new(case);
        for (n, group) in config.groups.iter().enumerate() {
            let id = GroupId(u16::try_from(n).unwrap_or(u16::MAX));
            group.tables.iter().for_each(|p| tables.add(p, id));
            group.references.iter().for_each(|p| references.add(p, id));
        }
        let all_default = config.groups.iter().all(|g| g.connection == config.default);
        let depends_on_database = config
            .groups
            .iter()
            .any(|g| !g.databases.is_empty() || g.tables.iter().chain(&g.references).any(|p| p.database.is_some()));
        let has_references = config.groups.iter().any(|g| !g.references.is_empty());
        let largest_sample =
            config.groups.iter().filter_map(|g| g.shadow.as_ref()).map(|s| s.sample).max().unwrap_or(0);
        Snapshot {
            epoch,
            config,
            case,
            tables,
            references,
            has_references,
            largest_sample,
            all_default,
            depends_on_database,
        }
    }

    /// The same groups and tables with other flags: `config` differs from this one's in stores' ids alone.
    #[must_use]
    pub fn reflagged(&self, config: Arc<Config>, epoch: u64) -> Snapshot {
        let all_default = config.groups.iter().all(|g| g.connection == config.default);
        Snapshot { epoch, config, all_default, ..self.clone() }
    }

    /// Where `table` lives for a session whose database is `session_db`.
    #[must_use]
    pub fn locate(&self, table: &TableRef, session_db: Option<&str>) -> Location {
        let database = table.database.as_deref().or(session_db);
        if table.access == Access::Call {
            return self.locate_function(database, &table.name);
        }
        self.locate_name(database, &table.name)
    }

    /// As [`Self::locate`], by database and name.
    #[must_use]
    pub fn locate_name(&self, database: Option<&str>, name: &str) -> Location {
        let group = self.tables.find(&self.config, database, name, |_| true);
        match group.and_then(|id| Some((id, self.group(id)?.connection))) {
            Some((id, store)) => Location { store, group: Some(id), neutral: false },
            None => Location {
                store: self.config.default,
                group: None,
                neutral: database.is_some_and(|d| is_system_schema(d) && !d.eq_ignore_ascii_case("mysql")),
            },
        }
    }

    /// A stored function belongs to the group that lists it by its name (wildcards do not mean functions), else to none: it
    /// decides nothing.
    fn locate_function(&self, database: Option<&str>, name: &str) -> Location {
        let group = self.tables.find_exact(&self.config, database, name, |_| true);
        let store = group.and_then(|id| self.group(id)).map_or(self.config.default, |g| g.connection);
        Location { store, group, neutral: group.is_none() }
    }

    /// The group that keeps a copy of this table on `store`, if any does.
    #[must_use]
    pub fn reference_on(&self, store: StoreId, database: Option<&str>, name: &str) -> Option<GroupId> {
        self.references.find(&self.config, database, name, |id| self.group(id).is_some_and(|g| g.connection == store))
    }

    /// Whether tables are kept in sync on other stores: what a transaction wrote is then not read from a copy (RULES.md 8).
    #[must_use]
    pub fn has_references(&self) -> bool {
        self.has_references
    }

    /// The largest share of a group's reads that are compared with another store, in parts of a million; 0: none are.
    #[must_use]
    pub fn largest_sample(&self) -> u32 {
        self.largest_sample
    }

    /// Whether a group keeps a copy of this table on every store that serves it.
    #[must_use]
    pub fn is_reference_of(&self, group: GroupId, database: Option<&str>, name: &str) -> bool {
        self.references.find(&self.config, database, name, |id| id == group).is_some()
    }

    /// True if every group's flag names the default store: no statement can go anywhere else.
    #[must_use]
    pub fn all_default(&self) -> bool {
        self.all_default
    }

    /// True if some pattern names a database or is narrowed to some: a kept decision must be keyed by the session's database.
    #[must_use]
    pub fn depends_on_database(&self) -> bool {
        self.depends_on_database
    }

    /// How table names compare.
    #[must_use]
    pub fn name_case(&self) -> NameCase {
        self.case
    }

    /// A group by its id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        self.config.groups.get(usize::from(id.0))
    }

    /// A store's name.
    #[must_use]
    pub fn store_name(&self, id: StoreId) -> &str {
        self.config.stores.get(usize::from(id.0)).map_or("?", |s| s.name.as_str())
    }

    /// A store by its name.
    #[must_use]
    pub fn store_named(&self, name: &str) -> Option<StoreId> {
        let at = self.config.stores.iter().position(|s| s.name == name)?;
        u16::try_from(at).ok().map(StoreId)
    }
}

/// Patterns, by name where they are exact.
#[derive(Debug, Clone)]
struct Names {
    case: NameCase,
    hasher: RandomState,
    exact: HashTable<(TablePattern, GroupId)>,
    /// Folded, so that look-ups fold the table's name only.
    wild: Vec<(TablePattern, GroupId)>,
}

impl Names {
    fn new(case: NameCase) -> Self {
        Names { case, hasher: RandomState::new(), exact: HashTable::new(), wild: Vec::new() }
    }

    fn hash(&self, database: Option<&str>, name: &str) -> u64 {
        let mut state = self.hasher.build_hasher();
        self.case.hash(name, &mut state);
        if let Some(database) = database {
            self.case.hash(database, &mut state);
        }
        state.finish()
    }

    fn add(&mut self, pattern: &TablePattern, group: GroupId) {
        if is_wildcard(pattern) {
            let database = pattern.database.as_deref().map(|d| self.case.folded(d).into_owned());
            let name = self.case.folded(&pattern.name).into_owned();
            self.wild.push((TablePattern { database, name }, group));
            return;
        }
        let hash = self.hash(pattern.database.as_deref(), &pattern.name);
        let (case, hasher) = (self.case, self.hasher.clone());
        self.exact.insert_unique(hash, (pattern.clone(), group), move |(p, _)| {
            let mut state = hasher.build_hasher();
            case.hash(&p.name, &mut state);
            if let Some(database) = &p.database {
                case.hash(database, &mut state);
            }
            state.finish()
        });
    }

    /// Whether a pattern without a database means tables of `database` in this group.
    fn in_scope(&self, config: &Config, database: Option<&str>, id: GroupId) -> bool {
        let narrowed = config.groups.get(usize::from(id.0)).map(|g| g.databases.as_slice()).unwrap_or_default();
        !database.is_some_and(is_system_schema)
            && (narrowed.is_empty() || database.is_none_or(|d| narrowed.iter().any(|n| self.case.same(n, d))))
    }

    /// The first group that lists the name itself, `db.name` before `name`.
    fn find_exact(
        &self,
        config: &Config,
        database: Option<&str>,
        name: &str,
        accept: impl Fn(GroupId) -> bool,
    ) -> Option<GroupId> {
        if let Some(db) = database
            && let Some(id) = self.exact(Some(db), name, &accept)
        {
            return Some(id);
        }
        self.exact(None, name, |id| self.in_scope(config, database, id) && accept(id))
    }

    /// The first group in order of precedence whose pattern fits and which `accept` takes.
    fn find(
        &self,
        config: &Config,
        database: Option<&str>,
        name: &str,
        accept: impl Fn(GroupId) -> bool,
    ) -> Option<GroupId> {
        if let Some(id) = self.find_exact(config, database, name, &accept) {
            return Some(id);
        }
        if self.wild.is_empty() {
            return None;
        }
        let folded_name = self.case.folded(name);
        let folded_database = database.map(|d| self.case.folded(d));
        let fits = |pattern: &TablePattern, id: GroupId| match (&pattern.database, &folded_database) {
            (Some(p), Some(d)) => glob(p.as_bytes(), d.as_bytes()) && (p != "*" || !is_system_schema(d)),
            (Some(_), None) => false,
            (None, _) => self.in_scope(config, database, id),
        };
        let of = |qualified: bool| {
            self.wild.iter().find(|(p, id)| {
                p.database.is_some() == qualified
                    && glob(p.name.as_bytes(), folded_name.as_bytes())
                    && fits(p, *id)
                    && accept(*id)
            })
        };
        of(true).or_else(|| of(false)).map(|(_, id)| *id)
    }

    fn exact(&self, database: Option<&str>, name: &str, accept: impl Fn(GroupId) -> bool) -> Option<GroupId> {
        if self.exact.is_empty() {
            return None;
        }
        let same = |(p, id): &(TablePattern, GroupId)| {
            let databases = match (p.database.as_deref(), database) {
                (None, None) => true,
                (Some(a), Some(b)) => self.case.same(a, b),
                _ => false,
            };
            databases && self.case.same(&p.name, name) && accept(*id)
        };
        self.exact.find(self.hash(database, name), same).map(|(_, id)| *id)
    }
}
