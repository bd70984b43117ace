//! One secret, as a literal of everything that clients and an operator can do, in both pools and with both kinds of change log: it
//! stands in no line of the log, no event, no figure, and in no answer of any surface but the one to who asked what stopped a standby.

use std::io::Write as _;
use std::process::Command;

use mysql_async::prelude::Queryable;

use super::MARKER;
use crate::standby::{Form, Kept};
use crate::support::{Proxy, clients, eventually, ports};

const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60) UNIQUE, n INT);
CREATE TABLE log (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(60))";

/// Where each surface is.
struct Surfaces {
    http: u16,
    console: u16,
}

impl Surfaces {
    /// Adds them to a proxy that runs, with everything that may hold a statement switched on.
    fn of(kept: &mut Kept, pool: &str) -> Surfaces {
        let surfaces = Surfaces { http: ports::free(), console: ports::free() };
        let Surfaces { http, console } = surfaces;
        kept.proxy.edit_config(|text| {
            format!(
                "{text}    shadow: {{ sample: 1 }}\npool: {pool}\nlog: {{ level: trace, slow_query: 0s }}\nadmin:\n  sql: 127.0.0.1:{console}\n  http: 127.0.0.1:{http}\n  users:\n    ops: {{ password: ops-secret }}\n    look: {{ password: look-secret, role: reader }}\n"
            )
        });
        kept.proxy.restart();
        kept.retry();
        surfaces
    }

    fn curl(&self, path: &str, post: Option<&str>) -> String {
        self.curl_as("ops", path, post)
    }

    fn curl_as(&self, user: &str, path: &str, post: Option<&str>) -> String {
        let mut command = Command::new("curl");
        command
            .args(["-s", "-u", &format!("{user}:{user}-secret")])
            .arg(format!("http://127.0.0.1:{}{path}", self.http));
        if let Some(body) = post {
            command.args(["-H", "Content-Type: application/json", "-d", body]);
        }
        clients::output(command).text()
    }

    fn sql(&self, sql: &str) -> String {
        self.sql_as("ops", sql)
    }

    fn sql_as(&self, user: &str, sql: &str) -> String {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "--ssl=0", "-f", "-E"]);
        command.arg(format!("-u{user}")).arg(format!("-p{user}-secret"));
        command.arg(format!("-P{}", self.console)).args(["-e", sql]);
        let said = clients::output(command);
        said.stdout + &said.stderr
    }

    /// Everything that they say, with where.
    fn say(&self, proxy: &Proxy) -> Vec<(String, String)> {
        let mut said = vec![("the log".to_owned(), proxy.log())];
        for path in [
            "status",
            "sessions",
            "pins",
            "events?limit=1000",
            "samples",
            "jobs",
            "config",
            "config/diff",
            "shadow",
            "digests?limit=1000",
            "readiness/analytics",
            "log",
        ] {
            let text = self.curl(&format!("/api/v1/{path}"), None);
            assert!(text.starts_with(['{', '[']) && !text.contains("\"error\":{"), "{path}: {text}");
            said.push((path.to_owned(), text));
        }
        said.push(("/metrics".to_owned(), self.curl("/metrics", None)));
        for table in
            ["GROUPS", "STORES", "SESSIONS", "PINS", "DIGESTS", "JOURNAL", "METRICS", "CONFIG", "EVENTS", "SHADOW"]
        {
            said.push((format!("SHOW {table}"), self.sql(&format!("SHOW {table}"))));
        }
        for words in
            [&["digests", "--limit", "0", "--json"][..], &["events", "--json"], &["status"], &["shadow", "--json"]]
        {
            said.push((words.join(" "), proxy.cli(words).stdout));
        }
        for file in std::fs::read_dir(&proxy.folder).unwrap().flatten().filter(|f| f.path().is_file()) {
            let name = file.file_name().to_string_lossy().into_owned();
            said.push((name, String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()).into_owned()));
        }
        said
    }
}

/// Nothing that is said holds it.
fn nowhere(said: &[(String, String)]) {
    for (place, text) in said {
        let found: Vec<&str> = text.split(['\n', '}']).filter(|line| line.contains(MARKER)).take(5).collect();
        assert!(found.is_empty(), "{place} holds it:\n{}", found.join("\n"));
    }
}

fn run(port: u16, script: &str) {
    clients::mariadb_script(port, "d", &script.replace('~', MARKER));
}

/// As text: what succeeds, and each way to fail that quotes a value.
fn texts(port: u16, from: u32, file: &str) {
    let [a, b, c, d, e] = [from, from + 1, from + 2, from + 3, from + 4];
    run(port, &format!(
        "INSERT INTO t VALUES ({a}, '~ {a}', 1), ({b}, '~ {b}', 2);
UPDATE t SET v = '~ more {a}' WHERE id = {a};
UPDATE t SET n = n + 1 WHERE v LIKE '~%';
INSERT INTO log (v) SELECT CONCAT('~', v) FROM t WHERE v = '~ {b}';
INSERT INTO t VALUES ({c}, '~ {b}', 1);
INSERT INTO t VALUES ({c}, 'x{c}', '~');
REPLACE INTO t VALUES ({d}, '~ {d}', 1);
DELETE FROM t WHERE v = '~ {d}';
SELECT '~' + 1, DATE('~'), CAST('~' AS INT) FROM t;
SELECT * FROM t WHERE v = '~' AND n = '~';
SELECT nothing FROM t WHERE v = '~';
SELECT EXTRACTVALUE('<a>~</a', '~') FROM t;
SELEC '~' FROM t;
SELECT '~ FROM t;
';
SELECT JSON_EXTRACT('{{\"~\"', '$.~') FROM t;
SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '~';
SET @v = '~'; SELECT @v FROM t; SET sql_mode = '~'; SET time_zone = '~'; SET NAMES '~';
PREPARE s FROM 'SELECT ''~'' FROM t WHERE v = ?'; EXECUTE s USING @v; EXECUTE IMMEDIATE 'INSERT INTO t VALUES ({b}, ''~ {b}'', 0)';
PREPARE s FROM 'SELEC ''~'' ';
CALL nothing_of_that_name('~');
LOAD DATA LOCAL INFILE '{file}' INTO TABLE t FIELDS TERMINATED BY ',' SET v = CONCAT(v, '~');
LOAD DATA LOCAL INFILE '/nowhere/~' INTO TABLE t;
BEGIN; INSERT INTO t VALUES ({e}, '~ {e}', 1); SAVEPOINT s; INSERT INTO t VALUES ({e}, '~', 1); ROLLBACK TO s; COMMIT;
BEGIN; DELETE FROM t WHERE v = '~ {e}'; ROLLBACK;
SELECT '~' FROM t FOR UPDATE; SHOW WARNINGS; KILL '~'; DO GET_LOCK('~', 0);
CREATE TABLE IF NOT EXISTS t (id INT DEFAULT '~');
"
    ));
}

/// Prepared, with the secret as a parameter, and two that wait for each other.
async fn prepared_and_deadlocked(proxy: &Proxy, from: u32) {
    let mut one = proxy.connect("d").await;
    let mut two = proxy.connect("d").await;
    for (id, v, n) in [(from, MARKER, "1"), (from + 1, "other", MARKER), (from + 2, MARKER, "2")] {
        let _ = one.exec_drop("INSERT INTO t VALUES (?, ?, ?)", (id, format!("{v} {from}"), n)).await;
    }
    let _: Result<Vec<mysql_async::Row>, _> = one.exec("SELECT * FROM t WHERE v = ?", (MARKER,)).await;
    let _ = one.exec_drop("UPDATE t SET v = ? WHERE v = ?", (format!("{MARKER} new {from}"), MARKER)).await;
    let _ = one.exec_drop("SELECT nothing FROM t WHERE v = ?", (MARKER,)).await;
    let _ = one
        .query_drop(format!("INSERT INTO t VALUES ({}, 'p{from}', 0), ({}, 'q{from}', 0)", from + 5, from + 6))
        .await;
    for conn in [&mut one, &mut two] {
        conn.query_drop("BEGIN").await.unwrap();
    }
    let update = |id: u32| format!("UPDATE t SET v = '{MARKER} dead {id} {from}' WHERE id = {id}");
    let _ = one.query_drop(update(from + 5)).await;
    let _ = two.query_drop(update(from + 6)).await;
    let (text, other) = (update(from + 6), update(from + 5));
    let (a, b) = tokio::join!(one.query_drop(&text), two.query_drop(&other));
    assert!(a.is_err() || b.is_err(), "a deadlock");
    for conn in [&mut one, &mut two] {
        let _ = conn.query_drop("ROLLBACK").await;
    }
}

/// What stops the standby, retries, skips; a cutover there and back, one that fails; a fallback.
fn moves(kept: &mut Kept, surfaces: &Surfaces, port: u16) {
    kept.mend(&kept.standby, &format!("INSERT INTO d.t VALUES (9000, '{MARKER} again', 1)"));
    run(port, "INSERT INTO t VALUES (9001, '~ again', 1)");
    eventually("it is stopped", || kept.show()["state"] == "stopped");
    assert!(kept.show().to_string().contains(MARKER), "who asks is told: {:#}", kept.show());
    let dry = "{\"store\":\"new\",\"dry_run\":true}";
    for (user, sees) in [("ops", true), ("look", false)] {
        let said = [
            surfaces.curl_as(user, "/api/v1/status", None),
            surfaces.sql_as(user, "SHOW JOURNAL"),
            surfaces.curl_as(user, "/api/v1/groups/analytics/flag", Some(dry)),
        ];
        assert!(said[..2].iter().all(|text| text.contains("Duplicate entry '")), "{user}: {said:#?}");
        assert_eq!(said[..2].iter().all(|text| text.contains(MARKER)), sees, "{user}: {said:#?}");
        assert!(sees || !said[2].contains(MARKER), "{user}: {said:#?}");
    }
    surfaces.curl("/api/v1/groups/analytics/standby", Some("{\"action\":\"retry\",\"why\":\"a try\"}"));
    eventually("it is stopped again", || kept.show()["state"] == "stopped");
    let id = kept.show()["transaction"].as_str().unwrap().to_owned();
    assert!(!kept.proxy.cli(&["flag", "analytics", "new"]).ok, "a standby that is stopped is in the way");
    eventually("the event is there", || kept.proxy.cli(&["events", "--json"]).stdout.contains("new is stopped"));
    let skipped = kept.proxy.cli(&["standby", "skip", "analytics", &id, "--reason", "known"]);
    assert!(skipped.ok, "{}", skipped.stderr);
    eventually("it goes on", || kept.show()["state"] == "applying");
    clients::mariadb(kept.standby.port, &["-Dd", "-e", &format!("INSERT INTO t VALUES (99, '{MARKER}', 1)")]);
    let moved = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(moved.ok, "{}{}", moved.stdout, moved.stderr);
    run(port, "INSERT INTO t VALUES (9010, '~ there', 1); INSERT INTO t VALUES (9010, '~ twice', 1)");
    eventually("legacy follows", || kept.show()["state"] == "applying");
}

/// What an operator asks of the surfaces.
fn asked(proxy: &Proxy, surfaces: &Surfaces) {
    surfaces.sql(&format!(
        "EXPLAIN ROUTE SELECT '{MARKER}' FROM t; SELECT '{MARKER}'; SELEC '{MARKER}'; SELECT * FROM digests WHERE statement = '{MARKER}'; SHOW EVENTS LIKE '{MARKER}'"
    ));
    surfaces.curl("/api/v1/explain", Some(&format!("{{\"sql\":\"SELECT '{MARKER}' FROM t WHERE\",\"db\":\"d\"}}")));
    surfaces.curl("/api/v1/explain", Some(&format!("{{\"sql\":\"{MARKER}")));
    proxy.cli(&["explain", &format!("SELECT '{MARKER}' FROM t")]);
    proxy.cli(&["readiness", "analytics"]);
}

async fn everything(form: Form<'_>, pool: &str) {
    let mut kept = Kept::start_as(SCHEMA, &[], form);
    let surfaces = Surfaces::of(&mut kept, pool);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "200,{MARKER} loaded,1\n201,{MARKER} loaded too,{MARKER}\n200,{MARKER} double,1").unwrap();
    let path = file.path().display().to_string();
    let port = kept.proxy.port;
    texts(port, 100, &path);
    prepared_and_deadlocked(&kept.proxy, 300).await;
    moves(&mut kept, &surfaces, port);
    texts(port, 400, &path);
    prepared_and_deadlocked(&kept.proxy, 500).await;
    asked(&kept.proxy, &surfaces);
    nowhere(&surfaces.say(&kept.proxy));
    // the authority fails, and its standby is opened by force
    kept.standby.kill();
    run(port, "INSERT INTO t VALUES (9020, '~ lost', 1)");
    let forced = kept.proxy.cli(&["flag", "analytics", "legacy", "--force"]);
    assert!(forced.ok, "{}{}", forced.stdout, forced.stderr);
    run(port, "INSERT INTO t VALUES (9021, '~ after', 1); SELECT * FROM t WHERE v = '~ after'");
    let said = surfaces.say(&kept.proxy);
    assert!(said.iter().any(|(place, text)| place == "the log" && text.contains("TRACE")), "all is logged");
    let slow = said[0].1.matches("slow query").count();
    // (so many come in ten seconds)
    assert!(slow >= 50, "{slow}");
    nowhere(&said);
}

#[tokio::test]
async fn a_secret_is_said_nowhere_with_a_binlog() {
    everything(Form::default(), "session").await;
}

#[tokio::test]
async fn a_secret_is_said_nowhere_with_a_journal_and_shared_connections() {
    everything(Form { without: &["legacy", "new"], ..Form::default() }, "transaction").await;
}
