//! The log: its level moves while the proxy runs, the slow-query log says what it should and not too often, and no literal of a
//! statement, no value of a row and no password gets into it, whatever happens and at every level.

mod secrets;

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::standby::Kept;
use crate::support::proxy::pair_config;
use crate::support::{Database, Proxy, clients, eventually, stores};

/// What must not be in a log: it stands in every statement below as a literal.
const MARKER: &str = "Zq7-marker";

fn hits() -> Database {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY, server INT, name VARCHAR(100) UNIQUE)");
    database.on_both("CREATE TABLE names (id INT PRIMARY KEY, name VARCHAR(100))");
    database.on_both("INSERT INTO hits VALUES (1, @@server_id, 'a'), (2, @@server_id, 'b')");
    database
}

fn config(port: u16) -> String {
    pair_config(port, &stores().legacy, &stores().new, &["hits"])
}

fn slow(proxy: &Proxy) -> Vec<String> {
    proxy.log().lines().filter(|line| line.contains("slow query")).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_level_moves_by_a_request_and_by_the_file() {
    let (database, proxy) = (hits(), Proxy::start(|port| config(port) + "log: { level: warn }\n"));
    let shown = || -> Value { serde_json::from_str(&proxy.cli(&["log", "--json"]).stdout).unwrap() };
    let ends = |count: usize| {
        eventually("sessions end in the log", || proxy.log().matches("session ended").count() >= count);
    };
    assert_eq!((&shown()["level"], &shown()["said_by"]), (&"warn".into(), &"the file".into()));
    drop(proxy.connect(&database.name).await);
    assert!(!proxy.log().contains("INFO") && !proxy.log().contains("TRACE"));
    let changed = proxy.cli(&["log", "trace", "--why", "a look"]);
    assert!(changed.ok && changed.stdout.contains("warn → trace"), "{}{}", changed.stdout, changed.stderr);
    drop(proxy.connect(&database.name).await);
    ends(1);
    assert!(proxy.log().contains("another log level") && proxy.log().contains("a look"));
    let wrong = proxy.cli(&["log", "loud"]);
    assert!(wrong.code == Some(1) && wrong.stderr.contains("no level"), "{}", wrong.stderr);
    assert_eq!(shown()["level"], "trace");
    // a filter of one module; then the file, whose other changes do not touch the level
    assert!(proxy.cli(&["log", "warn,switchover::server=info"]).ok);
    proxy.edit_config(|text| text + "hints: false\n");
    eventually("info of one module", || proxy.log().contains("hints: true → false"));
    assert_eq!(shown()["said_by"], "an operator");
    proxy.edit_config(|text| text.replace("level: warn", "level: error"));
    eventually("the file", || shown()["level"] == "error");
    assert_eq!(shown()["said_by"], "the file");
}

#[tokio::test]
async fn rust_log_wins_over_the_file() {
    let proxy = Proxy::start_with(&[("RUST_LOG", "error")], |port| config(port) + "log: { level: trace }\n");
    assert!(proxy.log().is_empty(), "{}", proxy.log());
    proxy.edit_config(|text| text.replace("level: trace", "level: debug"));
    assert!(proxy.cli(&["reload"]).ok);
    let shown: Value = serde_json::from_str(&proxy.cli(&["log", "--json"]).stdout).unwrap();
    assert_eq!(
        (&shown["level"], &shown["said_by"], &shown["file_says"]),
        (&"error".into(), &"RUST_LOG".into(), &"debug".into())
    );
    assert!(proxy.cli(&["log", "info"]).ok);
    eventually("an operator wins", || proxy.log().contains("another log level"));
}

#[tokio::test]
async fn a_slow_statement_in_json_with_all_that_is_known_of_it() {
    let database = hits();
    let proxy = Proxy::start(|port| config(port) + "log: { format: json, slow_query: 200ms }\n");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT SLEEP(0.3), 'secret' FROM hits WHERE id = 1").await.unwrap();
    conn.exec_drop("SELECT name FROM hits WHERE SLEEP(?) = 0", (0.2,)).await.unwrap();
    eventually("two lines", || slow(&proxy).len() == 2);
    let lines: Vec<Value> = slow(&proxy).iter().map(|l| serde_json::from_str(l).unwrap()).collect();
    let first = &lines[0]["fields"];
    assert_eq!(first["statement"], "SELECT SLEEP(?), ? FROM hits WHERE id = ?");
    assert_eq!(
        (&first["store"], &first["group"], &first["user"], &first["db"]),
        (&"legacy".into(), &"analytics".into(), &"app".into(), &database.name.as_str().into())
    );
    assert!(first["milliseconds"].as_u64().unwrap() >= 300 && first["bytes"].as_u64().unwrap() > 50, "{first}");
    assert_eq!(first["rows"], 1);
    assert!(first["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(lines[1]["fields"]["statement"], "SELECT name FROM hits WHERE SLEEP(?) = ?");
    // its digest is the one of `digests`
    let found = proxy.cli(&["digests", "--json", "--filter", first["digest"].as_str().unwrap()]).stdout;
    assert!(found.contains("SELECT SLEEP(?), ? FROM hits"), "{found}");
}

#[tokio::test]
async fn literals_come_only_where_they_are_asked_for() {
    let database = hits();
    let proxy = Proxy::start(|port| config(port) + "log: { slow_query: 0s, literals: true }\n");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop(format!("SELECT '{MARKER}'")).await.unwrap();
    eventually("the literal", || slow(&proxy).iter().any(|l| l.contains(MARKER)));
    proxy.edit_config(|text| text.replace("literals: true", "literals: false"));
    assert!(proxy.cli(&["reload"]).ok);
    conn.query_drop("SELECT 'another secret'").await.unwrap();
    eventually("the statement", || slow(&proxy).last().is_some_and(|l| l.contains("statement=\"SELECT ?\"")));
    assert!(!proxy.log().contains("another secret"));
}

#[tokio::test]
async fn a_store_that_is_slow_for_everybody_does_not_fill_the_disk() {
    let database = hits();
    let proxy = Proxy::start(|port| config(port) + "log: { slow_query: 0s }\n");
    let mut conn = proxy.connect(&database.name).await;
    for n in 0..300 {
        conn.query_drop(format!("SELECT {n}")).await.unwrap();
    }
    // two windows at the most
    assert!((50..=100).contains(&slow(&proxy).len()), "{}", slow(&proxy).len());
    let shown: Value = serde_json::from_str(&proxy.cli(&["log", "--json"]).stdout).unwrap();
    assert!(shown["slow_suppressed"].as_u64().unwrap() >= 200, "{shown}");
    std::thread::sleep(std::time::Duration::from_secs(11));
    conn.query_drop("SELECT 1").await.unwrap();
    eventually("the next line tells", || slow(&proxy).last().is_some_and(|l| l.contains("suppressed=2")));
}

/// Every path that a statement can take: each with the marker in it.
#[tokio::test]
async fn no_literal_gets_into_the_log_of_a_proxy() {
    let database = hits();
    let proxy = Proxy::start(|port| config(port) + "log: { level: trace, slow_query: 0s }\n");
    for flag in ["legacy", "new"] {
        proxy.flag("analytics", flag);
        let statements = [
            "SELECT '~'",
            "SELECT '~' FROM hits",
            "SELEC '~'",
            "SELECT nothing FROM hits WHERE name = '~'",
            "UPDATE hits SET name = '~' WHERE id = 1",
            "INSERT INTO hits VALUES (9, 1, '~')",
            "INSERT INTO hits VALUES (1, 1, '~')",
            "SELECT * FROM hits JOIN names USING (id) WHERE hits.name = '~'",
            "SET @v = '~'",
            "SELECT @v, id FROM hits",
            "SET sql_mode = '~'",
            "SET SESSION lc_messages = '~'",
            "SET NAMES '~'",
            "SET PASSWORD FOR nobody_of_that_name@'%' = PASSWORD('~')",
            "PREPARE s FROM 'SELECT ''~'' FROM hits'",
            "EXECUTE s",
            "EXECUTE IMMEDIATE 'SELECT ''~'' FROM hits'",
            "PREPARE s FROM 'SELEC ''~'' '",
            "CREATE TABLE IF NOT EXISTS names (a INT DEFAULT '~')",
            "LOAD DATA LOCAL INFILE '~' INTO TABLE hits",
            "SELECT GET_LOCK('~', 0)",
            "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '~'",
            "KILL '~'",
            "DO SLEEP('~')",
            "BEGIN",
            "INSERT INTO names VALUES (7, '~')",
            "SELECT '~' FROM hits FOR UPDATE",
            "ROLLBACK",
            "SHOW WARNINGS",
        ];
        let script = statements.join(";\n").replace('~', MARKER);
        clients::mariadb_script(proxy.port, &database.name, &script);
        let mut conn = proxy.connect(&database.name).await;
        let _ = conn.exec_drop("SELECT id FROM hits WHERE name = ?", (MARKER,)).await;
        let _ = conn.exec_drop("UPDATE hits SET server = ? WHERE id = 1", (MARKER,)).await;
        drop(conn);
    }
    let wrong = proxy.opts().user(Some("app")).pass(Some(MARKER));
    mysql_async::Conn::new(wrong).await.unwrap_err();
    proxy.cli(&["explain", &format!("SELECT '{MARKER}' FROM hits")]);
    proxy.cli(&["readiness", "analytics"]);
    proxy.cli(&["digests"]);
    proxy.edit_config(|text| text + &format!("users: {{ other: {{ new: {{ password: {MARKER} }} }} }}\n"));
    assert!(proxy.cli(&["reload"]).ok);
    proxy.edit_config(|text| text.replace("users:", "usres:"));
    proxy.cli(&["reload"]);
    let log = proxy.log();
    assert!(slow(&proxy).len() >= 30 && log.contains("TRACE"), "{}", log.len());
    let leaks: Vec<&str> = log.lines().filter(|l| l.contains(MARKER)).collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

/// The same of a standby: rows in its log, what stops it, a seal, a cutover.
#[test]
fn no_value_gets_into_the_log_of_a_standby() {
    let kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(40) UNIQUE)", &[]);
    assert!(kept.proxy.cli(&["log", "trace"]).ok);
    let run = |sql: &str| {
        let sql = sql.replace('~', MARKER);
        clients::mariadb(kept.proxy.port, &["-Dd", "-f", "-e", &sql])
    };
    run("INSERT INTO t VALUES (1, '~'); UPDATE t SET v = '~~' WHERE v = '~'; DELETE FROM t WHERE v = 'no ~'");
    kept.catch_up();
    // what stops it: a duplicate, then a row that is not there
    kept.mend(&kept.standby, &format!("INSERT INTO d.t VALUES (50, '{MARKER} again')"));
    run("INSERT INTO t VALUES (2, '~ again')");
    eventually("it is stopped", || kept.show()["state"] == "stopped");
    assert!(kept.show().to_string().contains(MARKER), "an operator is told: {:#}", kept.show());
    kept.mend(&kept.standby, "DELETE FROM d.t WHERE id = 50");
    kept.retry();
    kept.catch_up();
    kept.mend(&kept.standby, "DELETE FROM d.t WHERE id = 1");
    run("UPDATE t SET v = '~ gone' WHERE id = 1");
    eventually("it is stopped again", || kept.show()["state"] == "stopped");
    kept.mend(&kept.standby, &format!("INSERT INTO d.t VALUES (1, '{MARKER}{MARKER}')"));
    kept.retry();
    kept.catch_up();
    // a writer that goes to the sealed store, and a cutover with a write of the other side
    clients::mariadb(kept.standby.port, &["-Dd", "-e", &format!("INSERT INTO t VALUES (99, '{MARKER}')")]);
    let moved = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(moved.ok, "{}{}", moved.stdout, moved.stderr);
    run("INSERT INTO t VALUES (3, '~ after')");
    run("INSERT INTO t VALUES (3, '~ twice')");
    let log = kept.proxy.log();
    assert!(log.contains("the standby has stopped"));
    let leaks: Vec<&str> = log.lines().filter(|l| l.contains(MARKER)).collect();
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
