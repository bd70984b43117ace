//! `switchover init`: what it refuses and why, where the copy begins, and the fewest rights that do.

use super::{DURABLE, Kept, config, statements};
use crate::support::{PrivateServer, Proxy, clients, eventually};

const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT, v VARCHAR(50))";

fn pair(authority: &[&str], standby: &[&str], schema: &str) -> (PrivateServer, PrivateServer, Proxy) {
    let servers = [(11, authority), (12, standby)].map(|(id, extra)| {
        let server = PrivateServer::start(id, extra);
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        statements(&server, schema);
        server
    });
    let [authority, standby] = servers;
    let proxy = Proxy::start(|port| config(port, &authority, &standby));
    (authority, standby, proxy)
}

/// RULES.md 30 and 42; and everything at once, each with what mends it.
#[test]
fn what_is_missing_is_said_with_what_mends_it() {
    let (authority, standby, proxy) = pair(
        &[
            "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=2",
            "--binlog-format=MIXED",
            "--binlog-row-image=MINIMAL",
        ],
        &["--max-allowed-packet=1M"],
        SCHEMA,
    );
    authority.sql("CREATE TABLE d.only_here (id INT PRIMARY KEY)");
    authority.sql("CREATE TABLE d.keyless (id INT)");
    standby.sql("CREATE TABLE d.keyless (id INT)");
    standby.sql("ALTER TABLE d.t MODIFY v VARCHAR(40)");
    let refused = proxy.cli(&["init"]);
    assert!(!refused.ok);
    for words in [
        "legacy has sync_binlog = 0",
        "SET GLOBAL sync_binlog = 1",
        "innodb_flush_log_at_trx_commit = 2",
        "legacy has binlog_format = MIXED",
        "SET GLOBAL binlog_row_image = FULL",
        "new has max_allowed_packet = 1048576",
        "d.only_here is not on the standby",
        "d.keyless has no primary key",
        "ALTER TABLE `d`.`keyless` ADD PRIMARY KEY",
        "column v varchar(50)",
        "nothing has begun",
    ] {
        assert!(refused.stdout.contains(words), "{words}\n{}", refused.stdout);
    }
    assert!(standby.sql("SELECT * FROM switchover.marks").is_empty());
    let json: serde_json::Value = serde_json::from_str(&proxy.cli(&["init", "--json"]).stdout).unwrap();
    assert_eq!(json[0]["good"], false);
}

#[test]
fn a_copy_begins_where_both_stores_are_the_same() {
    let kept = Kept::start(SCHEMA, &[]);
    let again = kept.proxy.cli(&["init"]);
    assert!(again.ok && again.stdout.contains("has begun already"), "{}", again.stdout);
    let (authority, standby, proxy) = pair(DURABLE, DURABLE, SCHEMA);
    authority.sql_in("d", "INSERT INTO t (n) VALUES (1), (2), (3)");
    let refused = proxy.cli(&["init"]);
    assert!(!refused.ok && refused.stdout.contains("d.t differs: 3 rows on legacy, 0 on new"), "{}", refused.stdout);
    // a dump that says its position, writers going on meanwhile
    let dump = ["mariadb-dump", "--single-transaction", "--gtid", "--master-data=1", "--socket"];
    let dump = [&dump[..], &[authority.socket.to_str().unwrap(), "-uroot", "d"]].concat();
    let dump = clients::run(&dump).text();
    authority.sql_in("d", "UPDATE t SET n = n * 10");
    let file = standby.folder.join("dump.sql");
    let position =
        dump.lines().find_map(|line| line.split("gtid_slave_pos='").nth(1)?.split('\'').next()).unwrap().to_owned();
    let lines: Vec<&str> =
        dump.lines().filter(|line| !line.contains("gtid_slave_pos") && !line.contains("CHANGE MASTER")).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let load = format!("SOURCE {}", file.display());
    assert!(clients::mariadb(standby.port, &["-Dd", "-e", &load]).ok);
    let begun = proxy.cli(&["init", "analytics", "--from", &position]);
    assert!(begun.ok && begun.stdout.contains(&format!("the copy begins at {position} of legacy")), "{}", begun.stdout);
    let show = || proxy.status()["groups"][0]["standby"].clone();
    eventually("it applies what came after the dump", || {
        if show()["state"] == "stopped" {
            proxy.cli(&["standby", "retry", "analytics"]);
        }
        standby.sql("SELECT SUM(n) FROM d.t")[0][0] == "60"
    });
    let text = proxy.cli(&["status"]).text();
    assert!(text.contains("ENTRIES BEHIND") && text.contains("applying"), "{text}");
}

/// The SQL that `--print` prints, and no right beyond it.
#[test]
fn the_printed_rights_do() {
    let servers = [11, 12].map(|id| PrivateServer::start(id, DURABLE));
    let [authority, standby] = &servers;
    let table = |port| {
        config(port, authority, standby)
            .replace("d.*", "d.t")
            .replace("user: switchover, password: switchover", "user: few, password: few")
    };
    let proxy = Proxy::start(table);
    let printed = proxy.cli(&["init", "--print"]).text();
    let parts: Vec<&str> = printed.split("-- on ").skip(1).collect();
    for (server, part) in servers.iter().zip(parts) {
        server.sql("CREATE USER few@'%' IDENTIFIED BY 'few'");
        assert_eq!(server.sql("SELECT @@log_bin_trust_function_creators")[0][0], "0");
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        statements(server, SCHEMA);
        let sql = part.split_once('\n').unwrap().1;
        for statement in sql.split(";\n").map(str::trim).filter(|s| !s.is_empty()) {
            server.sql(statement);
        }
    }
    let init = proxy.cli(&["init"]);
    assert!(init.ok, "{}{}", init.stdout, init.stderr);
    let show = || proxy.status()["groups"][0]["standby"].clone();
    // one by one: merged into one round, no row would be updated
    for (write, sum) in [("INSERT INTO t (n) VALUES (1), (2)", "3"), ("UPDATE t SET n = n + 1", "5")] {
        authority.sql_in("d", write);
        eventually("rows arrive", || {
            if show()["state"] == "stopped" {
                proxy.cli(&["standby", "retry", "analytics"]);
            }
            standby.sql("SELECT SUM(n) FROM d.t")[0][0] == sum
        });
    }
}

/// A flag that is moved in the file by hand is a wish: the authority changes by a cutover, or not at all.
#[test]
fn a_flag_in_the_file_begins_a_cutover() {
    let kept = Kept::start(SCHEMA, &[]);
    let connection = || kept.proxy.status()["groups"][0]["connection"].clone();
    kept.proxy.edit_config(|text| {
        text.replace("connection: legacy", "connection: new").replace("standby: new", "standby: legacy")
    });
    eventually("the authority follows the file", || connection() == "new");
    assert_eq!(kept.authority.sql("SELECT state FROM switchover.groups")[0][0], "standby");
    // nobody applies to a store that is stopped: the wish is not granted, and the file says otherwise than the stores. (An applier
    // that runs knows its place without the marks: it has to begin again to meet what they say.)
    let broken = "UPDATE switchover.marks SET position = '0-99-1', base = '0-99-1', term = term + 1";
    // (the applier writes them too: 1213)
    eventually("the marks are broken", || kept.authority.try_sql(None, broken).is_ok());
    kept.authority.sql("UPDATE switchover.leases SET term = term + 1, renewed = '1970-01-02'");
    eventually("it is stopped", || kept.show()["state"] == "stopped");
    kept.proxy.edit_config(|text| {
        text.replace("connection: new", "connection: legacy").replace("standby: legacy", "standby: new")
    });
    eventually("it is refused", || kept.proxy.log().contains("the authority has not"));
    assert_eq!(connection(), "new");
    assert_eq!(kept.proxy.status()["groups"][0]["authority"]["file_says"], "legacy");
}

/// A standby that is given up leaves both stores as they were before it.
#[test]
fn a_standby_can_be_ended() {
    let kept = Kept::start(SCHEMA, &[]);
    let refused = clients::mariadb(kept.standby.port, &["-Dd", "-e", "INSERT INTO t (n) VALUES (1)"]);
    assert!(!refused.ok && refused.stderr.contains("sealed"), "{}", refused.stderr);
    let ended = kept.proxy.cli(&["standby", "end", "analytics"]);
    assert!(ended.ok, "{}{}", ended.stdout, ended.stderr);
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", ""));
    eventually("the standby is gone", || kept.proxy.status()["groups"][0]["standby"].is_null());
    kept.proxy.flag("analytics", "new");
    let through = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t (n) VALUES (2)"]);
    assert!(through.ok, "{}", through.stderr);
    assert_eq!(kept.standby.sql("SELECT SUM(n) FROM d.t")[0][0], "2");
}

/// An applier that is there before its mark is waits for it; that is no lost connection (`workload` counts those).
#[test]
fn waiting_for_the_first_mark_is_no_reconnect() {
    let servers = [11, 12].map(|id| PrivateServer::start(id, DURABLE));
    for server in &servers {
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        statements(server, SCHEMA);
        switchover::standby::schema::STATEMENTS.iter().for_each(|sql| drop(server.sql(sql)));
    }
    let proxy = Proxy::start(|port| config(port, &servers[0], &servers[1]));
    let show = || proxy.status()["groups"][0]["standby"].clone();
    eventually("it waits", || show()["state"] == "waiting");
    assert!(show()["reason"].as_str().unwrap().contains("has no mark"), "{:#}", show());
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let init = proxy.cli(&["init"]);
    assert!(init.ok, "{}{}", init.stdout, init.stderr);
    eventually("it applies by itself", || show()["state"] == "applying");
    assert_eq!(show()["reconnects"], 0, "{:#}", show());
}

/// What changes the stores is in the log of changes like every other action: who, what, and what came of it; by the proxy that was
/// asked, and by the command itself where none runs.
#[test]
fn what_begins_and_ends_a_standby_is_written_down() {
    let mut kept = Kept::start(SCHEMA, &[]);
    let file = kept.proxy.folder.join("routing.yaml.audit");
    let lines = |of: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&file).unwrap();
        let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        all.filter(|line| line["what"].as_str().is_some_and(|what| what.starts_with(of))).collect()
    };
    eventually("the first init is in the file", || file.exists() && lines("standby init").len() == 1);
    let begun = lines("standby init").remove(0);
    assert_eq!(
        (&begun["kind"], &begun["subject"], &begun["outcome"]),
        (&"action".into(), &"analytics".into(), &"done".into())
    );
    assert_eq!((&begun["surface"], &begun["after"]), (&"cli".into(), &"the standby follows".into()));
    assert!(begun["by"].as_str().is_some_and(|by| by.starts_with("uid ")), "{begun}");

    kept.authority.sql("CREATE TABLE d.only_here (id INT PRIMARY KEY)");
    assert!(!kept.proxy.cli(&["init"]).ok);
    eventually("one that was refused as well", || lines("standby init").len() == 2);
    let refused = lines("standby init").remove(1);
    assert_eq!(refused["outcome"], "refused");
    assert!(refused["after"].as_str().is_some_and(|after| after.contains("d.only_here")), "{refused}");
    kept.authority.sql("DROP TABLE d.only_here");

    let ended = kept.proxy.cli(&["standby", "end", "analytics"]);
    assert!(ended.ok, "{}{}", ended.stdout, ended.stderr);
    eventually("its end", || lines("standby end").len() == 1);
    let shown = kept.proxy.cli(&["events", "--kind", "action"]);
    assert_eq!(lines("standby end")[0]["after"], "both stores take writes");
    for words in ["standby init", "standby end", "refused: nothing has begun"] {
        assert!(shown.stdout.contains(words), "{words}\n{}", shown.stdout);
    }

    kept.proxy.kill();
    let alone = kept.proxy.cli(&["init"]);
    assert!(alone.ok, "{}{}", alone.stdout, alone.stderr);
    let alone = lines("standby init").remove(2);
    assert_eq!((&alone["what"], &alone["outcome"]), (&"standby init, no proxy was asked".into(), &"done".into()));
}
