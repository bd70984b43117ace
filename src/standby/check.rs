//! Whether a pair of stores can be authority and standby of a group, and what is missing, each with what mends it.

use std::sync::Arc;

use super::catalog::{Catalog, Description};
use crate::entry::{Column, Kind, TableName};

/// What is wrong, and what mends it.
pub type Problem = (String, String);

/// What keeps rows from being applied to the standby's tables.
#[must_use]
pub fn standby_tables(catalog: &Catalog) -> Vec<Problem> {
    catalog.values().flat_map(|table| standby_table(table)).collect()
}

fn standby_table(table: &Description) -> Vec<Problem> {
    let name = table.place().quoted();
    let mut problems = Vec::new();
    if let (true, Some(sealed)) = (table.twice, table.name.sealed()) {
        let what = format!("there is a table at {} and one at {sealed}: nobody can tell which is meant", table.name);
        let mend = format!(
            "look at both: whoever made {} while the store was sealed knows; then drop the one that is not",
            table.name
        );
        problems.push((what, mend));
    }
    if table.key.is_empty() {
        let what =
            format!("{} has no primary key, and no unique key without NULL: its rows cannot be told apart", table.name);
        problems.push((what, format!("on both stores: ALTER TABLE {name} ADD PRIMARY KEY (…)")));
    }
    if !table.engine.eq_ignore_ascii_case("innodb") {
        let what = format!("{} has the engine {}: a transaction could be applied in half", table.name, table.engine);
        problems.push((what, format!("ALTER TABLE {name} ENGINE = InnoDB")));
    }
    if table.versioned {
        let what = format!("{} keeps old versions of its rows, which a standby cannot repeat", table.name);
        problems.push((what, format!("ALTER TABLE {name} DROP SYSTEM VERSIONING")));
    }
    for trigger in table.triggers.iter().filter(|trigger| !super::seal::is_own(trigger)) {
        let what = format!(
            "the trigger {trigger} on the standby's {} would do a second time what the log holds already",
            table.name
        );
        let database = crate::entry::quoted(&table.name.database);
        let mend = format!(
            "on the standby: DROP TRIGGER {database}.{}, and make it again when the standby becomes the authority",
            crate::entry::quoted(trigger)
        );
        problems.push((what, mend));
    }
    problems
}

/// What a store is that has neither a binlog nor triggers: nothing could follow it.
#[must_use]
pub fn standby_only(store: &str) -> Problem {
    let what = format!(
        "{store} has neither a binlog nor triggers, which the gate of a journal needs: it can be a standby, and never the authority"
    );
    (
        what,
        format!(
            "leave {store} the group's `standby`, without `change_log: journal` and with `fallback: manual`: no cutover goes there, and nothing would follow what it took alone"
        ),
    )
}

/// How the tables of the two stores differ.
#[must_use]
pub fn differences(authority: &Catalog, standby: &Catalog) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, ours) in authority {
        let Some(theirs) = standby.get(name) else {
            let mend = format!("create it there: SHOW CREATE TABLE {} on the authority", name.quoted());
            problems.push((format!("{name} is not on the standby"), mend));
            continue;
        };
        problems.extend(column_differences(ours, theirs));
        if ours.key != theirs.key && !ours.key.is_empty() && !theirs.key.is_empty() {
            let what = format!("{name} has another primary key on the standby");
            problems.push((what, "make it the same on both".to_owned()));
        }
    }
    for name in standby.keys().filter(|name| !authority.contains_key(*name)) {
        let what = format!("{name} is on the standby only");
        problems.push((what, "drop it there, or take it out of the group's patterns".to_owned()));
    }
    problems
}

/// Whether a column holds the same values on both: another collation of the same character set compares otherwise, which matters
/// where a key does.
fn same_type(ours: &Description, a: &Column, theirs: &Description, b: &Column) -> bool {
    let in_key = |table: &Description, column: &Column| {
        let at = table.columns.iter().position(|c| c.name == column.name);
        at.is_some_and(|at| table.uses.iter().any(|key| key.columns.iter().any(|(of, _)| *of == at)))
    };
    let plain = |column: &Column| column.words.split(" COLLATE ").next().map(str::to_owned);
    a.words == b.words
        || (a.kind == b.kind && plain(a) == plain(b) && !in_key(ours, a) && !in_key(theirs, b) && !is_listed(a))
}

/// ENUM and SET: which of their words is meant may depend on the collation.
fn is_listed(column: &Column) -> bool {
    matches!(column.kind, Kind::Enum | Kind::Set)
}

/// Marks the standby's tables whose columns are the authority's.
pub fn mark_alike(authority: &Catalog, standby: &mut Catalog) {
    for (name, theirs) in standby {
        let alike = authority.get(name).is_some_and(|ours| column_differences(ours, theirs).is_empty());
        Arc::make_mut(theirs).alike = alike;
    }
}

/// Tables of which a binlog's authority keeps what is rolled back; a journal records them by another way.
#[must_use]
pub fn authority_engines(authority: &Catalog) -> Vec<Problem> {
    let without = authority.values().filter(|ours| !ours.engine.eq_ignore_ascii_case("innodb"));
    let problem = |name: &TableName, engine: &str| {
        let what = format!("{name} has the engine {engine} on the authority: what is rolled back there stays");
        (what, format!("on the authority: ALTER TABLE {} ENGINE = InnoDB", name.quoted()))
    };
    without.map(|ours| problem(&ours.name, &ours.engine)).collect()
}

fn column_differences(ours: &Description, theirs: &Description) -> Vec<Problem> {
    let name = &ours.name;
    let mend = format!("make it as on the authority: ALTER TABLE {} …", name.quoted());
    if ours.columns.len() != theirs.columns.len() {
        let what = format!(
            "{name} has {} columns on the authority, {} on the standby",
            ours.columns.len(),
            theirs.columns.len()
        );
        return vec![(what, mend)];
    }
    let mut problems = Vec::new();
    for (a, b) in ours.columns.iter().zip(&theirs.columns) {
        if !a.name.eq_ignore_ascii_case(&b.name) || !same_type(ours, a, theirs, b) || a.generated != b.generated {
            let what = format!(
                "{name}: column {} {} on the authority, {} {} on the standby",
                a.name, a.words, b.name, b.words
            );
            problems.push((what, mend.clone()));
        }
    }
    problems
}
