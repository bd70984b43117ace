//! The standby between two real servers: types, workload, deaths, stops, leases, and `switchover init`.

mod acks;
mod cutover;
mod cutover_deaths;
mod deaths;
mod fallback;
mod init;
mod journal;
mod journal_cutover;
mod lease;
mod mysql;
mod other;
mod recorded;
mod recorded_alone;
mod recorded_forms;
mod recorded_prepared;
mod rename;
mod seekdb;
mod settle;
mod stops;
mod types;
mod under_way;
mod workload;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::proxy::pair_config;
use crate::support::{PrivateServer, Proxy, Server, eventually};

/// What RULES.md 30 asks of a store of a group with a standby.
pub(crate) const DURABLE: &[&str] = &["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"];

/// An authority, its standby, and a proxy that keeps them in step.
pub(crate) struct Kept {
    pub(crate) authority: PrivateServer,
    pub(crate) standby: PrivateServer,
    pub(crate) proxy: Proxy,
}

/// The configuration of a group `analytics` of all tables of database `d`, on `legacy`, with the standby `new`.
pub(crate) fn config(port: u16, authority: &Server, standby: &Server) -> String {
    format!("{}    standby: new\n", pair_config(port, authority, standby, &["d.*"]))
}

/// How stores differ from the usual ones.
#[derive(Clone, Copy, Default)]
pub(crate) struct Form<'a> {
    /// These have no binlog.
    pub(crate) without: &'a [&'a str],
    /// These are sealed by `rename`.
    pub(crate) renames: &'a [&'a str],
}

impl Form<'_> {
    /// The configuration of a proxy between such stores.
    pub(crate) fn config(self, port: u16, authority: &Server, standby: &Server) -> String {
        let mut text = journaled(port, authority, standby, self.without);
        for store in self.renames {
            text = text.replace(&format!("  {store}: {{ "), &format!("  {store}: {{ seal: rename, "));
        }
        text
    }
}

/// In which schema a store has the tables of `d` now: where they are while it is sealed by `rename`, or at their own place.
pub(crate) fn place(server: &Server) -> String {
    let sql = "SELECT DISTINCT TABLE_SCHEMA FROM information_schema.TABLES \
               WHERE TABLE_SCHEMA IN ('d', 'switchover_sealed_d') AND TABLE_TYPE = 'BASE TABLE'";
    let found = server.sql(sql).concat();
    assert_eq!(found.len(), 1, "the tables are at {found:?}");
    found[0].clone()
}

/// Sums over the tables of `d`, wherever they are.
pub(crate) fn sums(server: &Server, tables: &[&str]) -> Vec<String> {
    let place = place(server);
    let names: Vec<String> = tables.iter().map(|table| format!("{place}.{table}")).collect();
    let rows = server.sql(&format!("CHECKSUM TABLE {} EXTENDED", names.join(", ")));
    rows.into_iter().map(|row| row[1].clone()).collect()
}

/// The same, where these stores have no binlog.
pub(crate) fn journaled(port: u16, authority: &Server, standby: &Server, without: &[&str]) -> String {
    let mut text = config(port, authority, standby);
    for store in without {
        text = text.replace(&format!("  {store}: {{ "), &format!("  {store}: {{ change_log: journal, "));
    }
    text
}

impl Kept {
    /// Both servers with the same schema (statements with `;`), and a proxy after `switchover init`.
    pub(crate) fn start(schema: &str, extra: &[&str]) -> Kept {
        Kept::start_as(schema, extra, Form::default())
    }

    /// The same, where these stores have no binlog.
    pub(crate) fn start_without(schema: &str, extra: &[&str], without: &[&str]) -> Kept {
        Kept::start_as(schema, extra, Form { without, ..Form::default() })
    }

    /// The same, between stores of this form.
    pub(crate) fn start_as(schema: &str, extra: &[&str], form: Form<'_>) -> Kept {
        let start = |n, name: &&str| {
            let durable = if form.without.contains(name) { journal::WITHOUT_BINLOG } else { DURABLE };
            PrivateServer::start(n, &durable.iter().chain(extra).copied().collect::<Vec<&str>>())
        };
        Kept::between(start(11, &"legacy"), start(12, &"new"), schema, form)
    }

    /// The same, with two servers that run already.
    pub(crate) fn between(authority: PrivateServer, standby: PrivateServer, schema: &str, form: Form<'_>) -> Kept {
        for server in [&authority, &standby] {
            server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
            statements(server, schema);
        }
        let proxy = Proxy::start(|port| form.config(port, &authority, &standby));
        let kept = Kept { authority, standby, proxy };
        let init = kept.proxy.cli(&["init"]);
        assert!(init.ok, "{}{}", init.stdout, init.stderr);
        kept.retry();
        kept
    }

    /// `switchover standby retry`, where it is stopped.
    pub(crate) fn retry(&self) {
        eventually("the standby applies", || {
            let standby = self.show();
            if standby["state"] == "stopped" {
                self.proxy.cli(&["standby", "retry", "analytics"]);
            }
            standby["state"] == "applying"
        });
    }

    /// A statement on the store that is sealed, by who may mend it.
    pub(crate) fn mend(&self, sealed: &Server, sql: &str) {
        let token = sealed.sql("SELECT token FROM switchover.groups")[0][0].clone();
        let sql = format!("SET @switchover_applier = '{token}'; {sql}");
        let done = crate::support::clients::mariadb(sealed.port, &["-Dd", "-e", &sql]);
        assert!(done.ok, "{}", done.stderr);
    }

    /// How many statements of row events the standby has had.
    pub(crate) fn events(&self) -> u64 {
        self.standby.sql("SHOW GLOBAL STATUS LIKE 'Com_binlog'")[0][1].parse().expect("a number")
    }

    /// The standby's part of `switchover status`.
    pub(crate) fn show(&self) -> serde_json::Value {
        self.proxy.status()["groups"][0]["standby"].clone()
    }

    /// Waits until the standby has applied all that the authority has committed by now.
    pub(crate) fn catch_up(&self) {
        let wanted = gtids(&self.authority.sql("SELECT @@gtid_binlog_pos")[0][0]);
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let standby = self.show();
            let done = gtids(standby["position"].as_str().unwrap_or_default());
            if wanted.iter().all(|(domain, sequence)| done.get(domain).is_some_and(|done| done >= sequence)) {
                return;
            }
            assert!(standby["state"] != "stopped", "{standby:#}");
            assert!(Instant::now() < deadline, "not at {wanted:?}: {standby:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Panics where a table of `d` differs between the stores: every row, every byte.
    pub(crate) fn assert_same(&self) {
        let (ours, theirs) = (place(&self.authority), place(&self.standby));
        let sql = format!(
            "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{ours}' AND TABLE_TYPE <> 'VIEW' ORDER BY 1"
        );
        let tables = self.authority.sql(&sql);
        assert!(!tables.is_empty());
        for table in tables.concat() {
            let table = table.replace('`', "``");
            let stores = [(&self.authority, &ours), (&self.standby, &theirs)];
            let sums =
                stores.map(|(s, place)| s.sql(&format!("CHECKSUM TABLE {place}.`{table}` EXTENDED"))[0][1].clone());
            let generated = format!(
                "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{ours}' AND TABLE_NAME = '{table}' AND EXTRA LIKE '%GENERATED%'"
            );
            // (CHECKSUM TABLE reads VIRTUAL columns without computing them: two equal tables differ)
            let generated = self.authority.sql(&generated)[0][0] != "0";
            if sums[0] != sums[1] {
                let rows = stores.map(|(s, place)| s.sql(&format!("SELECT * FROM {place}.`{table}` ORDER BY 1")));
                if generated && rows[0] == rows[1] {
                    continue;
                }
                let differing: Vec<_> = rows[0].iter().zip(&rows[1]).filter(|(a, b)| a != b).take(3).collect();
                panic!("d.{table} differs: {} and {} rows; {differing:#?}", rows[0].len(), rows[1].len());
            }
        }
    }
}

/// Runs statements one by one, in database `d`.
pub(crate) fn statements(server: &Server, text: &str) {
    for statement in text.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
        server.sql_in("d", statement);
    }
}

fn gtids(text: &str) -> BTreeMap<String, u64> {
    let parts = text.split(',').filter_map(|gtid| {
        let mut parts = gtid.split('-');
        Some((parts.next()?.to_owned(), parts.nth(1)?.parse().ok()?))
    });
    parts.collect()
}
