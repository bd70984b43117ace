//! Groups against what the stores have: tables that the flag's store lacks, and views, triggers, routines, events and foreign
//! keys that tie grouped tables to others, which a flip would tear apart.

use std::collections::BTreeSet;

use super::catalog::{Body, Catalog, Named};
use super::names::{in_group, is_reference, matches, mentioned};
use super::store::Probe;
use super::{Finding, Level};
use crate::config::Config;
use crate::config::model::Group;
use crate::routing::gate::SEAL_TRIGGERS;

/// All findings about groups; stores that could not be read are left out, their own findings say so.
pub(super) fn findings(config: &Config, probes: &[Probe]) -> Vec<Finding> {
    let mut findings = case_differences(probes);
    for group in &config.groups {
        let before = findings.len();
        let (home, flag) = (probe_of(probes, config.default.0), probe_of(probes, group.connection.0));
        tables(&mut findings, group, home, flag);
        for probe in unique(home, flag) {
            dependencies(&mut findings, config, group, probe);
        }
        if findings.len() == before && flag.is_some_and(|probe| probe.catalog.is_some()) {
            let store = config.store_name(group.connection);
            let what = format!("on {store}: every table is there, and nothing outside the group hides one of them");
            findings.push(Finding::ok(&group.name, what));
        }
    }
    findings
}

fn probe_of(probes: &[Probe], store: u16) -> Option<&Probe> {
    probes.get(usize::from(store))
}

fn unique<'p>(home: Option<&'p Probe>, flag: Option<&'p Probe>) -> Vec<&'p Probe> {
    let mut both: Vec<&Probe> = home.into_iter().chain(flag).collect();
    both.dedup_by(|a, b| a.name == b.name);
    both
}

fn case_differences(probes: &[Probe]) -> Vec<Finding> {
    let modes: BTreeSet<&str> = probes.iter().filter_map(|probe| probe.lower_case_table_names.as_deref()).collect();
    if modes.len() < 2 {
        return Vec::new();
    }
    let list: Vec<String> = probes
        .iter()
        .filter_map(|probe| probe.lower_case_table_names.as_ref().map(|mode| format!("{} {mode}", probe.name)))
        .collect();
    let what = format!("lower_case_table_names differs: {}", list.join(", "));
    let mend = "write table names in one case everywhere, or start the new store with the legacy store's setting";
    vec![Finding::bad("stores", Level::Warn, what, mend)]
}

/// Tables that the default store has, or that the file names in full, must be on the store that the flag names.
fn tables(findings: &mut Vec<Finding>, group: &Group, home: Option<&Probe>, flag: Option<&Probe>) {
    let Some((flag, there)) = flag.and_then(|probe| Some((probe, probe.catalog.as_ref()?))) else { return };
    let here = home.and_then(|probe| probe.catalog.as_ref());
    for pattern in &group.tables {
        let of = |catalog: &Catalog, fold: bool| -> BTreeSet<Named> {
            let all = catalog.tables.iter().chain(catalog.routines.iter().map(|routine| &routine.name));
            all.filter(|name| matches(pattern, &group.databases, &name.database, &name.name, fold)).cloned().collect()
        };
        let on_flag = of(there, flag.fold());
        let on_home = here.map(|catalog| of(catalog, home.is_some_and(Probe::fold))).unwrap_or_default();
        if on_flag.is_empty() && on_home.is_empty() {
            let what = format!("no table is called {pattern} on {}", flag.name);
            findings.push(Finding::bad(
                &group.name,
                Level::Warn,
                what,
                "create it, or mend its name in the group's `tables`",
            ));
        }
        for name in on_home.difference(&on_flag) {
            let what = format!("{name} is not on {}, which serves it", flag.name);
            let mend = format!(
                "create it there: SHOW CREATE TABLE {name} on {}, and run that on {}; or flip back: switchover flag {} {}",
                home.map_or("", |probe| probe.name.as_str()),
                flag.name,
                group.name,
                home.map_or("", |probe| probe.name.as_str()),
            );
            findings.push(Finding::bad(&group.name, Level::Error, what, mend));
        }
    }
}

/// What on one store ties the group to others.
pub(super) fn dependencies(findings: &mut Vec<Finding>, config: &Config, group: &Group, probe: &Probe) {
    let Some(catalog) = &probe.catalog else { return };
    let eye = Eye {
        group,
        catalog,
        fold: probe.fold(),
        store: &probe.name,
        // A store that does not serve the group has stale tables, or none: what uses them there goes wrong now, not later.
        level: if config.store_name(group.connection) == probe.name { Level::Warn } else { Level::Error },
    };
    for (kind, bodies) in [("view", &catalog.views), ("routine", &catalog.routines)] {
        for body in bodies.iter().filter(|body| !eye.has(&body.name)) {
            if let Some(tables) = eye.grouped_in(body) {
                let mend = format!(
                    "add {} to groups.{}.tables and create it on every store of the group, or drop it",
                    body.name, group.name
                );
                findings.push(eye.finding(
                    format!("the {kind} {} on {} uses {tables}, and is not in the group", body.name, probe.name),
                    mend,
                ));
            }
        }
    }
    for event in &catalog.events {
        if let Some(tables) = eye.grouped_in(event) {
            let mend = format!(
                "let the application do its work, or ALTER EVENT {} DISABLE on {} before a flip",
                event.name, probe.name
            );
            findings.push(eye.finding(
                format!("the event {} on {} uses {tables}: it does so wherever the flag is", event.name, probe.name),
                mend,
            ));
        }
    }
    eye.triggers(findings);
    eye.foreign_keys(findings);
}

struct Eye<'a> {
    group: &'a Group,
    catalog: &'a Catalog,
    fold: bool,
    store: &'a str,
    level: Level,
}

impl Eye<'_> {
    fn has(&self, name: &Named) -> bool {
        in_group(self.group, &name.database, &name.name, self.fold)
    }

    fn finding(&self, what: String, mend: String) -> Finding {
        Finding::bad(&self.group.name, self.level, what, mend)
    }

    /// Tables of this store that a text names.
    fn tables_in(&self, body: &Body) -> Vec<Named> {
        let mentioned =
            mentioned(&body.text, &body.name.database).into_iter().map(|(database, name)| Named { database, name });
        mentioned.filter(|name| self.exists(name)).collect()
    }

    fn exists(&self, name: &Named) -> bool {
        let same = |table: &Named| {
            if self.fold { table.to_string().to_lowercase() == name.to_string().to_lowercase() } else { table == name }
        };
        self.catalog.tables.iter().any(same)
    }

    /// The group's tables that a text names, joined; none where it names none.
    fn grouped_in(&self, body: &Body) -> Option<String> {
        let found: Vec<String> =
            self.tables_in(body).iter().filter(|name| self.has(name)).map(Named::to_string).collect();
        (!found.is_empty()).then(|| found.join(", "))
    }

    fn triggers(&self, findings: &mut Vec<Finding>) {
        // (those of a seal come and go with the authority)
        for trigger in self.catalog.triggers.iter().filter(|t| !t.body.name.name.starts_with(SEAL_TRIGGERS)) {
            let name = &trigger.body.name;
            if !self.has(&trigger.table) {
                if let Some(tables) = self.grouped_in(&trigger.body) {
                    let what = format!(
                        "the trigger {name} on {} uses {tables}, and its table {} is not in the group",
                        self.store, trigger.table
                    );
                    let mend = format!(
                        "let the application do its work, or add {} to groups.{}.tables",
                        trigger.table, self.group.name
                    );
                    findings.push(self.finding(what, mend));
                }
                continue;
            }
            let strangers: Vec<String> = self
                .tables_in(&trigger.body)
                .iter()
                .filter(|table| self.is_stranger(table))
                .map(Named::to_string)
                .collect();
            if !strangers.is_empty() {
                let what = format!(
                    "the trigger {name} on {} of the group's {} uses {}",
                    self.store,
                    trigger.table,
                    strangers.join(", ")
                );
                let mend = format!(
                    "add what it uses to groups.{}.tables, or let the application do its work",
                    self.group.name
                );
                findings.push(self.finding(what, mend));
            }
        }
    }

    fn is_stranger(&self, table: &Named) -> bool {
        !self.has(table) && !is_reference(self.group, &table.database, &table.name, self.fold)
    }

    fn foreign_keys(&self, findings: &mut Vec<Finding>) {
        for key in &self.catalog.foreign_keys {
            let (child, parent) = (self.has(&key.table), self.has(&key.references));
            let copied = child && is_reference(self.group, &key.references.database, &key.references.name, self.fold);
            if child == parent || copied {
                continue;
            }
            let what = format!(
                "the foreign key {} on {} ties {} to {}: one is in the group, one is not",
                key.constraint, self.store, key.table, key.references
            );
            let mend = format!(
                "ALTER TABLE {} DROP FOREIGN KEY {}, or put both into groups.{}.tables",
                key.table, key.constraint, self.group.name
            );
            findings.push(self.finding(what, mend));
        }
    }
}

#[cfg(test)]
mod tests;
