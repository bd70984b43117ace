//! Which tables of a log are a group's: by the same patterns that route statements.

use std::sync::Arc;

use crate::changes::{Interest, Tables};
use crate::config::GroupId;
use crate::entry::TableName;
use crate::routing::{Gate, Snapshot};

/// The tables of one group, and the applier's mark.
#[derive(Debug, Clone)]
pub struct GroupTables {
    snapshot: Snapshot,
    group: GroupId,
    databases: Vec<String>,
    gate: Option<Arc<Gate>>,
}

impl GroupTables {
    /// Those of `group` in `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot, group: GroupId) -> GroupTables {
        GroupTables { snapshot, group, databases: Vec::new(), gate: None }
    }

    /// Sessions wait at this gate to hear how far its log is applied.
    #[must_use]
    pub fn awaited_at(mut self, gate: &Arc<Gate>) -> GroupTables {
        self.gate = Some(Arc::clone(gate));
        self
    }

    /// The databases in which the standby has tables of the group.
    #[must_use]
    pub fn in_databases(mut self, databases: Vec<String>) -> GroupTables {
        self.databases = databases;
        self
    }
}

impl Tables for GroupTables {
    fn interest(&self, database: &str, name: &str) -> Interest {
        // what is written to a table that is sealed by `rename` is the applier's
        if crate::entry::place::unsealed_schema(database).is_some() {
            return Interest::Other;
        }
        let place = TableName { database: database.to_owned(), name: name.to_owned() };
        if place.put_aside().is_some() {
            return Interest::Other;
        }
        if database == super::schema::SCHEMA {
            return match name {
                "marks" => Interest::Mark,
                "groups" => Interest::Signal,
                _ => Interest::Other,
            };
        }
        match self.snapshot.locate_name(Some(database), name).group {
            Some(group) if group == self.group => Interest::Group,
            _ => Interest::Other,
        }
    }

    fn any_in(&self, database: &str) -> bool {
        self.databases.iter().any(|known| self.snapshot.name_case().same(known, database))
    }

    fn is_awaited(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.acks().is_awaited())
    }
}
