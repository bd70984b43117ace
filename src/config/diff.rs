//! What a new configuration changes against the one in force: for the log, for `switchover flag`, and for what a reload cannot do.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use super::model::{ChangeLog, Config, Credentials, Group, Log, Seal, Store, StoreId};

/// A flag that moved.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Flip {
    /// The group.
    pub group: String,
    /// The store that served it.
    pub from: String,
    /// The store that serves it now.
    pub to: String,
}

/// The difference of two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Changes {
    /// Flags that moved, of groups that are in both.
    pub flips: Vec<Flip>,
    /// Every change, flips included, one line each for people. Secrets are said to have changed, never shown.
    pub lines: Vec<String>,
    /// Changes that wait for a restart: until then the old values stay in force.
    pub restart: Vec<String>,
}

impl Changes {
    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.restart.is_empty()
    }
}

/// What `new` changes against `old`. Stores and groups are the same where their names are.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes { restart: waits_for_restart(old, new), ..Changes::default() };
    let c = &mut changes;
    stores(c, old, new);
    c.value("default", old.store_name(old.default), new.store_name(new.default));
    groups(c, old, new);
    users(c, old, new);
    c.debug("tls", &old.tls, &new.tls);
    c.list("proxy_protocol.from", &old.proxy_protocol_from, &new.proxy_protocol_from);
    c.debug("pool", &old.pool, &new.pool);
    c.debug("pool", &old.pooling, &new.pooling);
    c.value("hints", old.hints, new.hints);
    c.debug("limits", &old.limits, &new.limits);
    // (its format waits for a restart)
    c.debug("log", &Log { format: new.log.format, ..old.log.clone() }, &new.log);
    c.debug("insight", &old.insight, &new.insight);
    admin(c, old, new);
    changes
}

impl Config {
    /// The name of a store of this configuration; empty for an id of another one.
    #[must_use]
    pub fn store_name(&self, id: StoreId) -> &str {
        self.stores.get(usize::from(id.0)).map_or("", |store| store.name.as_str())
    }

    /// The store with this name.
    #[must_use]
    pub fn store_by_name(&self, name: &str) -> Option<StoreId> {
        let index = self.stores.iter().position(|store| store.name == name)?;
        u16::try_from(index).ok().map(StoreId)
    }

    /// The group with this name.
    #[must_use]
    pub fn group_by_name(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }
}

impl Changes {
    fn value<T: PartialEq + Display>(&mut self, key: &str, old: T, new: T) {
        if old != new {
            self.lines.push(format!("{key}: {old} → {new}"));
        }
    }

    /// For values without secrets: only the fields that differ would be nicer than all of them, so structs say `changed`.
    fn debug<T: PartialEq + Debug>(&mut self, key: &str, old: &T, new: &T) {
        if old == new {
            return;
        }
        let (old, new) = (format!("{old:?}"), format!("{new:?}"));
        self.lines.push(match old.contains('{') {
            true => format!("{key}: {}", fields(&old, &new)),
            false => format!("{key}: {} → {}", old.to_lowercase(), new.to_lowercase()),
        });
    }

    fn list<T: PartialEq + Display>(&mut self, key: &str, old: &[T], new: &[T]) {
        if old == new {
            return;
        }
        let missing = |from: &[T], other: &[T], sign: char| -> Vec<String> {
            from.iter().filter(|item| !other.contains(item)).map(|item| format!("{sign}{item}")).collect()
        };
        let mut parts = missing(old, new, '-');
        parts.extend(missing(new, old, '+'));
        if !parts.is_empty() {
            self.lines.push(format!("{key}: {}", parts.join(" ")));
        } else {
            self.lines.push(format!("{key}: another order"));
        }
    }
}

/// The fields that differ between two `Debug` texts of one flat struct.
fn fields(old: &str, new: &str) -> String {
    let body = |text: &str| -> Vec<String> {
        let inner = text.split_once('{').map_or("", |(_, rest)| rest).trim_end_matches('}').trim().to_owned();
        inner.split(", ").map(str::to_owned).collect()
    };
    let (old, new) = (body(old), body(new));
    let changed = old.iter().zip(&new).filter(|(old, new)| old != new && !old.starts_with("content: "));
    let lines: Vec<String> = changed
        .map(|(old, new)| format!("{old} → {}", new.split_once(": ").map_or(new.as_str(), |(_, value)| value)))
        .collect();
    if lines.is_empty() { "its files have new content".to_owned() } else { lines.join(", ") }
}

/// What of `new` waits for a restart of a process that started with `started`: however many reloads were in between.
#[must_use]
pub fn waits_for_restart(started: &Config, new: &Config) -> Vec<String> {
    let mut waits = Changes::default();
    waits.list("listen", &started.listen, &new.listen);
    let socket = |config: &Config| config.control_socket.display().to_string();
    waits.value("control_socket", socket(started), socket(new));
    waits.value("admin.audit", started.audit.display().to_string(), new.audit.display().to_string());
    waits.value("workers", started.workers, new.workers);
    waits.value("io", started.io, new.io);
    waits.debug("log.format", &started.log.format, &new.log.format);
    waits.lines
}

/// Operators' surfaces, by their keys.
fn admin(changes: &mut Changes, old: &Config, new: &Config) {
    let address = |a: Option<std::net::SocketAddr>| a.map_or("off".to_owned(), |a| a.to_string());
    changes.value("admin.sql", address(old.admin.sql), address(new.admin.sql));
    changes.value("admin.http", address(old.admin.http), address(new.admin.http));
    for (name, user) in &new.admin.users {
        match old.admin.users.get(name) {
            None => changes.lines.push(format!("admin.users.{name}: added")),
            Some(was) => {
                changes.debug(&format!("admin.users.{name}.role"), &was.role, &user.role);
                if was.password != user.password {
                    changes.lines.push(format!("admin.users.{name}: another password"));
                }
            }
        }
    }
    let gone = old.admin.users.keys().filter(|name| !new.admin.users.contains_key(*name));
    changes.lines.extend(gone.map(|name| format!("admin.users.{name}: removed")));
}

fn stores(changes: &mut Changes, old: &Config, new: &Config) {
    let before: BTreeMap<&str, &Store> = old.stores.iter().map(|store| (store.name.as_str(), store)).collect();
    for store in &new.stores {
        let key = format!("stores.{}", store.name);
        match before.get(store.name.as_str()) {
            None => changes.lines.push(format!("{key}: added")),
            Some(was) => store_changes(changes, &key, was, store),
        }
    }
    for store in old.stores.iter().filter(|store| new.store_by_name(&store.name).is_none()) {
        changes.lines.push(format!("stores.{}: removed", store.name));
    }
}

fn store_changes(changes: &mut Changes, key: &str, was: &Store, is: &Store) {
    changes.list(&format!("{key}.address"), &was.addresses, &is.addresses);
    credentials(changes, &format!("{key}.control"), was.control.as_ref(), is.control.as_ref());
    credentials(changes, &format!("{key}.account"), was.account.as_ref(), is.account.as_ref());
    changes.debug(&format!("{key}.tls"), &was.tls, &is.tls);
    changes.value(&format!("{key}.proxy_protocol"), was.proxy_protocol, is.proxy_protocol);
    let log = |store: &Store| if store.change_log == ChangeLog::Journal { "journal" } else { "binlog" };
    changes.value(&format!("{key}.change_log"), log(was), log(is));
    let seal = |store: &Store| store.seal.map_or("as the store can", Seal::word);
    changes.value(&format!("{key}.seal"), seal(was), seal(is));
}

fn credentials(changes: &mut Changes, key: &str, was: Option<&Credentials>, is: Option<&Credentials>) {
    let line = match (was, is) {
        (None, Some(is)) => format!("{key}: added ({})", is.user),
        (Some(was), None) => format!("{key}: removed ({})", was.user),
        (Some(was), Some(is)) if was.user != is.user => format!("{key}.user: {} → {}", was.user, is.user),
        (Some(was), Some(is)) if was.secret != is.secret => format!("{key}: another secret"),
        _ => return,
    };
    changes.lines.push(line);
}

fn groups(changes: &mut Changes, old: &Config, new: &Config) {
    for group in &new.groups {
        let key = format!("groups.{}", group.name);
        let to = new.store_name(group.connection).to_owned();
        let Some(was) = old.group_by_name(&group.name) else {
            changes.lines.push(format!("{key}: added, {} tables on {to}", group.tables.len()));
            continue;
        };
        let from = old.store_name(was.connection).to_owned();
        if from != to {
            changes.lines.push(format!("{key}.connection: {from} → {to}"));
            changes.flips.push(Flip { group: group.name.clone(), from, to });
        }
        changes.list(&format!("{key}.tables"), &was.tables, &group.tables);
        changes.list(&format!("{key}.databases"), &was.databases, &group.databases);
        changes.list(&format!("{key}.references"), &was.references, &group.references);
        let policy = |group: &Group| if group.cross_store_transactions { "allow" } else { "refuse" };
        changes.value(&format!("{key}.cross_store_transactions"), policy(was), policy(group));
        let standby =
            |config: &Config, group: &Group| group.standby.map_or("none", |id| config.store_name(id)).to_owned();
        changes.value(&format!("{key}.standby"), standby(old, was), standby(new, group));
        changes.value(&format!("{key}.shadow"), shadow(old, was), shadow(new, group));
        for ((name, was), (_, now)) in kept(was).into_iter().zip(kept(group)) {
            changes.value(&format!("{key}.{name}"), was, now);
        }
    }
    for group in old.groups.iter().filter(|group| new.group_by_name(&group.name).is_none()) {
        let store = new.store_name(new.default);
        changes.lines.push(format!("groups.{}: removed, its tables are on {store}", group.name));
    }
}

fn shadow(config: &Config, group: &Group) -> String {
    let Some(shadow) = group.shadow else { return "none".to_owned() };
    let store = shadow.store.map(|id| format!(" on {}", config.store_name(id))).unwrap_or_default();
    format!("{}{store}", shadow.share())
}

/// How a group's standby is kept, by key.
fn kept(group: &Group) -> [(&'static str, String); 6] {
    let k = &group.keeping;
    [
        ("ack", format!("{:?}", k.ack).to_lowercase()),
        ("ack_timeout", format!("{:?}", k.ack_timeout)),
        ("fallback", format!("{:?}", k.fallback).to_lowercase()),
        ("fallback_after", format!("{:?}", k.fallback_after)),
        ("hold_max", format!("{:?}", k.hold_max)),
        ("drain_timeout", format!("{:?}", k.drain_timeout)),
    ]
}

fn users(changes: &mut Changes, old: &Config, new: &Config) {
    let named = |config: &Config| -> BTreeMap<(String, String), Credentials> {
        let all = config.users.iter().flat_map(|(user, stores)| stores.iter().map(move |found| (user, found)));
        all.map(|(user, (store, found))| ((user.clone(), config.store_name(*store).to_owned()), found.clone()))
            .collect()
    };
    let (was, is) = (named(old), named(new));
    let keys: std::collections::BTreeSet<_> = was.keys().chain(is.keys()).collect();
    for key in keys {
        credentials(changes, &format!("users.{}.{}", key.0, key.1), was.get(key), is.get(key));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        super::super::parse(text, Path::new("r.yaml"), &|_| None)
            .unwrap_or_else(|p| panic!("{}", super::super::problem::render(&p)))
    }

    const OLD: &str = "listen: 127.0.0.1:1
stores: {legacy: {address: h:1, control: {user: c, password: one}}, new: {address: h:2}}
default: legacy
groups: {a: {tables: [t, u], connection: legacy}, gone: {tables: g, connection: new}}
users: {app: {new: {password: one}}}
";

    #[test]
    fn the_same_is_nothing() {
        assert!(diff(&config(OLD), &config(&OLD.replace("h:1", "h:1   "))).is_empty());
    }

    #[test]
    fn another_order_of_stores_is_nothing() {
        let text = "listen: 127.0.0.1:1
stores: {new: {address: h:2}, legacy: {address: h:1, control: {user: c, password: one}}}
default: legacy
groups: {a: {tables: [t, u], connection: legacy}, gone: {tables: g, connection: new}}
users: {app: {new: {password: one}}}
";
        assert!(diff(&config(OLD), &config(text)).is_empty());
    }

    #[test]
    fn every_change_is_a_line_without_secrets() {
        let new = "listen: [127.0.0.1:1, 127.0.0.1:9]
stores: {legacy: {address: [h:1, h:3], control: {user: c, password: two}}, new: {address: h:2, tls: required}, x: {address: h:4}}
default: new
groups: {a: {tables: [t, v], connection: new, cross_store_transactions: refuse}, more: {tables: m, connection: x}}
tls: {mode: off}
users: {app: {new: {password: two}, legacy: {password: one}}}
limits: {max_connections: 5}
log: {level: debug, format: json}
insight: {examples: true}
pool: transaction
workers: 2
";
        let changes = diff(&config(OLD), &config(new));
        assert_eq!(changes.flips, [Flip { group: "a".into(), from: "legacy".into(), to: "new".into() }]);
        assert_eq!(changes.restart, ["listen: +127.0.0.1:9", "workers: 0 → 2", "log.format: text → json"]);
        let expected = [
            "stores.legacy.address: +h:3",
            "stores.legacy.control: another secret",
            "stores.new.tls: mode: FollowClient → Required",
            "stores.x: added",
            "default: legacy → new",
            "groups.a.connection: legacy → new",
            "groups.a.tables: -u +v",
            "groups.a.cross_store_transactions: allow → refuse",
            "groups.more: added, 1 tables on x",
            "groups.gone: removed, its tables are on new",
            "users.app.legacy: added (app)",
            "users.app.new: another secret",
            "tls: mode: Preferred → Off",
            "pool: session → transaction",
            "limits: max_connections: 10000 → 5",
            "log: level: \"info\" → \"debug\"",
            "insight: examples: false → true",
        ];
        assert_eq!(changes.lines, expected);
    }

    #[test]
    fn a_renewed_certificate_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let load = |serial: u8| {
            let pem = |label: &str| format!("-----BEGIN {label}-----\n{serial}\n-----END {label}-----\n");
            std::fs::write(folder.path().join("cert.pem"), pem("CERTIFICATE")).unwrap();
            std::fs::write(folder.path().join("key.pem"), pem("PRIVATE KEY")).unwrap();
            let text = format!("{OLD}tls: {{cert: cert.pem, key: key.pem}}\n");
            super::super::parse(&text, &folder.path().join("r.yaml"), &|_| None).unwrap()
        };
        assert!(diff(&load(1), &load(1)).is_empty());
        assert_eq!(diff(&load(1), &load(2)).lines, ["tls: its files have new content"]);
    }
}
