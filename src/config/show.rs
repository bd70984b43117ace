//! A checked configuration as keys and values, for people: every key with the value in force, defaults among them. Of a secret it
//! says only that there is one.

use std::fmt::Display;
use std::time::Duration;

use super::model::{
    Ack, Admin, ChangeLog, Config, Credentials, Fallback, Group, Limits, ListenTls, Log, LogFormat, PoolMode, Role,
    Store, StoreTls, TlsMode,
};

/// What stands in the place of a secret.
const SECRET: &str = "(secret)";

/// Keys and values, in the order of the documentation.
#[derive(Debug, Default)]
struct Entries(Vec<(String, String)>);

/// Every key of a configuration, as `groups.analytics.connection`, with its value.
#[must_use]
pub fn entries(config: &Config) -> Vec<(String, String)> {
    let mut e = Entries::default();
    e.list("listen", &config.listen);
    e.add("default", config.store_name(config.default));
    config.stores.iter().for_each(|store| e.store(store));
    config.groups.iter().for_each(|group| e.group(config, group));
    for (account, secrets) in &config.users {
        for (store, found) in secrets {
            e.account(&format!("users.{account}.{}", config.store_name(*store)), found);
        }
    }
    e.tls(&config.tls);
    e.list("proxy_protocol.from", &config.proxy_protocol_from);
    e.admin(&config.admin);
    e.add("admin.audit", config.audit.display());
    e.add("pool.mode", if config.pool == PoolMode::Session { "session" } else { "transaction" });
    e.add("pool.max_per_store", config.pooling.max_per_store);
    e.time("pool.idle_timeout", config.pooling.idle_timeout);
    e.time("pool.wait_timeout", config.pooling.wait_timeout);
    e.add("hints", config.hints);
    e.limits(&config.limits);
    e.log(&config.log);
    e.add("insight.statements", config.insight.statements);
    e.add("insight.examples", config.insight.examples);
    e.add("control_socket", config.control_socket.display());
    e.add("workers", config.workers);
    e.add("io", config.io);
    e.0
}

/// What two configurations have otherwise: key, first, second; a key that one has not is empty there.
#[must_use]
pub fn differences(one: &Config, other: &Config) -> Vec<(String, String, String)> {
    let (one, other) = (entries(one), entries(other));
    let value = |of: &[(String, String)], key: &str| of.iter().find(|(k, _)| k == key).map(|(_, v)| v.clone());
    let mut out: Vec<(String, String, String)> = one
        .iter()
        .map(|(key, v)| (key.clone(), v.clone(), value(&other, key).unwrap_or_default()))
        .filter(|(_, a, b)| a != b)
        .collect();
    let new = other.iter().filter(|(key, _)| value(&one, key).is_none());
    out.extend(new.map(|(key, v)| (key.clone(), String::new(), v.clone())));
    out
}

impl Entries {
    fn add(&mut self, key: &str, value: impl Display) {
        self.0.push((key.to_owned(), value.to_string()));
    }

    fn some(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    fn list<T: Display>(&mut self, key: &str, items: &[T]) {
        if !items.is_empty() {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            self.add(key, items.join(", "));
        }
    }

    fn time(&mut self, key: &str, time: Duration) {
        self.add(key, format!("{time:?}"));
    }

    fn account(&mut self, key: &str, account: &Credentials) {
        self.add(&format!("{key}.user"), &account.user);
        self.add(&format!("{key}.password"), SECRET);
    }

    fn store(&mut self, store: &Store) {
        let key = |name: &str| format!("stores.{}.{name}", store.name);
        self.list(&key("address"), &store.addresses);
        if let Some(control) = &store.control {
            self.account(&key("control"), control);
        }
        if let Some(account) = &store.account {
            self.account(&key("account"), account);
        }
        self.store_tls(&key("tls"), &store.tls);
        self.add(&key("proxy_protocol"), store.proxy_protocol);
        self.add(&key("change_log"), if store.change_log == ChangeLog::Binlog { "binlog" } else { "journal" });
    }

    fn store_tls(&mut self, key: &str, tls: &StoreTls) {
        self.add(&format!("{key}.mode"), mode(tls.mode));
        self.some(&format!("{key}.ca"), tls.ca.as_ref().map(|p| p.display().to_string()));
        self.some(&format!("{key}.cert"), tls.cert.as_ref().map(|p| p.display().to_string()));
        self.some(&format!("{key}.key"), tls.key.as_ref().map(|p| p.display().to_string()));
    }

    fn group(&mut self, config: &Config, group: &Group) {
        let key = |name: &str| format!("groups.{}.{name}", group.name);
        self.list(&key("tables"), &group.tables);
        self.add(&key("connection"), config.store_name(group.connection));
        self.list(&key("databases"), &group.databases);
        self.list(&key("references"), &group.references);
        self.add(&key("cross_store_transactions"), if group.cross_store_transactions { "allow" } else { "refuse" });
        if let Some(shadow) = &group.shadow {
            self.add(&key("shadow.sample"), shadow.share());
            self.some(&key("shadow.store"), shadow.store.map(|id| config.store_name(id).to_owned()));
        }
        let Some(standby) = group.standby else { return };
        self.add(&key("standby"), config.store_name(standby));
        let keeping = &group.keeping;
        self.time(&key("hold_max"), keeping.hold_max);
        self.time(&key("drain_timeout"), keeping.drain_timeout);
        self.add(&key("ack"), if keeping.ack == Ack::Authority { "authority" } else { "standby" });
        self.time(&key("ack_timeout"), keeping.ack_timeout);
        self.add(&key("fallback"), if keeping.fallback == Fallback::Manual { "manual" } else { "auto" });
        self.time(&key("fallback_after"), keeping.fallback_after);
    }

    fn tls(&mut self, tls: &ListenTls) {
        self.add("tls.mode", mode(tls.mode));
        self.some("tls.cert", tls.cert.as_ref().map(|p| p.display().to_string()));
        self.some("tls.key", tls.key.as_ref().map(|p| p.display().to_string()));
        self.some("tls.ca", tls.ca.as_ref().map(|p| p.display().to_string()));
    }

    fn admin(&mut self, admin: &Admin) {
        self.some("admin.sql", admin.sql);
        self.some("admin.http", admin.http);
        for (name, user) in &admin.users {
            self.add(&format!("admin.users.{name}.password"), SECRET);
            let role = if user.role == Role::Operator { "operator" } else { "reader" };
            self.add(&format!("admin.users.{name}.role"), role);
        }
    }

    fn limits(&mut self, limits: &Limits) {
        self.add("limits.max_connections", limits.max_connections);
        self.add("limits.max_allowed_packet", limits.max_allowed_packet);
        self.time("limits.connect_timeout", limits.connect_timeout);
        self.some("limits.idle_timeout", limits.idle_timeout.map(|t| format!("{t:?}")));
        self.add("limits.max_pending_logins", limits.max_pending_logins);
        self.add("limits.max_prepared_statements", limits.max_prepared_statements);
        self.time("limits.drain_timeout", limits.drain_timeout);
        self.add("limits.plan_cache", limits.plan_cache);
        self.add("limits.login_attempts", limits.login_attempts);
    }

    fn log(&mut self, log: &Log) {
        self.add("log.format", if log.format == LogFormat::Text { "text" } else { "json" });
        self.add("log.level", &log.level);
        self.some("log.slow_query", log.slow_query.map(|t| format!("{t:?}")));
        self.add("log.literals", log.literals);
    }
}

fn mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::FollowClient => "follow client",
        TlsMode::Off => "off",
        TlsMode::Preferred => "preferred",
        TlsMode::Required => "required",
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = "listen: 127.0.0.1:3307
stores: { legacy: { address: h:3306, control: { user: c, password: hunter2 } }, new: { address: h:3316, account: { user: s, password: hunter2 } } }
default: legacy
groups: { a: { tables: [t, d.u], connection: legacy } }
users: { app: { new: { password: hunter2 } } }
admin: { sql: 127.0.0.1:6032, users: { ops: { password: hunter2, role: reader } } }
";

    fn config(text: &str) -> Config {
        crate::config::parse(text, Path::new("/etc/routing.yaml"), &|_| None).unwrap()
    }

    #[test]
    fn everything_is_shown_but_secrets() {
        let found = entries(&config(TEXT));
        let text: String = found.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
        assert!(!text.contains("hunter2"), "{text}");
        for line in [
            "groups.a.connection = legacy",
            "groups.a.tables = t, d.u",
            "stores.legacy.control.password = (secret)",
            "users.app.new.user = app",
            "admin.users.ops.role = reader",
            "admin.audit = /etc/routing.yaml.audit",
            "limits.connect_timeout = 10s",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        let mut keys: Vec<&String> = found.iter().map(|(k, _)| k).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), found.len(), "a key is there once");
    }

    #[test]
    fn differences_have_both_sides() {
        let (one, other) = (
            config(TEXT),
            config(
                &TEXT
                    .replace("connection: legacy", "connection: new, standby: legacy")
                    .replace("new: { address: h:3316, ", "new: { address: h:3316, control: { user: c, password: x }, "),
            ),
        );
        let found = differences(&one, &other);
        assert!(found.contains(&("groups.a.connection".into(), "legacy".into(), "new".into())), "{found:?}");
        assert!(found.contains(&("groups.a.standby".into(), String::new(), "legacy".into())), "{found:?}");
        assert!(differences(&one, &one).is_empty());
    }
}
