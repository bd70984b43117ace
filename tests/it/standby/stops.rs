//! What does not fit stops the group, and says what, why and how it goes on; nothing is passed over in silence.

use super::Kept;
use crate::support::{clients, eventually};

const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20));
CREATE TABLE u (id INT PRIMARY KEY, v VARCHAR(20))";

/// Waits until it is stopped; what `status` says.
fn stopped(kept: &Kept) -> serde_json::Value {
    eventually("the standby is stopped", || kept.show()["state"] == "stopped");
    kept.show()
}

fn says(standby: &serde_json::Value, words: &[&str]) {
    for word in words {
        assert!(standby.to_string().contains(word), "{word}: {standby:#}");
    }
}

#[test]
fn a_duplicate_stops_and_a_retry_goes_on() {
    let kept = Kept::start(SCHEMA, &[]);
    kept.mend(&kept.standby, "INSERT INTO d.t VALUES (5, 'stranger')");
    // several at once: the one that does not fit is named, the ones before it are applied; of those behind it perhaps some that share
    // no key with it, which a retry does not apply again, and none that does
    for id in 1..=9 {
        kept.authority.sql_in("d", &format!("INSERT INTO t VALUES ({id}, 'x')"));
    }
    kept.authority.sql_in("d", "UPDATE t SET v = 'y' WHERE id = 5");
    let standby = stopped(&kept);
    says(&standby, &["d.t", "1062", "Duplicate entry '5'", "delete it there"]);
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.t WHERE v = 'x' AND id < 5")[0][0], "4");
    assert_eq!(kept.standby.sql("SELECT v FROM d.t WHERE id = 5")[0][0], "stranger");
    let transaction = standby["transaction"].as_str().unwrap().to_owned();
    let text = kept.proxy.cli(&["standby", "show"]).text();
    assert!(text.contains(&transaction) && text.contains("switchover standby retry analytics"), "{text}");
    // a retry without mending stops at the same place
    assert!(kept.proxy.cli(&["standby", "retry", "analytics"]).ok);
    eventually("it is stopped again", || kept.show()["transaction"] == transaction.as_str());
    kept.mend(&kept.standby, "DELETE FROM d.t WHERE id = 5");
    assert!(stopped(&kept)["state"] == "stopped" && kept.proxy.cli(&["standby", "retry", "analytics"]).ok);
    kept.catch_up();
    kept.assert_same();
}

#[test]
fn a_missing_row_stops_and_can_be_passed_over() {
    let kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    kept.catch_up();
    kept.mend(&kept.standby, "DELETE FROM d.t WHERE id = 2");
    kept.authority.sql_in("d", "UPDATE t SET v = 'z' WHERE id < 3");
    let standby = stopped(&kept);
    says(&standby, &["1 rows are not on the standby", "VALUES (1,'z'),(2,'z')"]);
    // nothing of the transaction is there
    assert_eq!(kept.standby.sql("SELECT v FROM d.t WHERE id = 1")[0][0], "a");
    let wrong = kept.proxy.cli(&["standby", "skip", "analytics", "0-11-1", "--reason", "x"]);
    assert!(!wrong.ok && wrong.stderr.contains("stopped by"), "{}", wrong.stderr);
    let id = standby["transaction"].as_str().unwrap();
    assert!(kept.proxy.cli(&["standby", "skip", "analytics", id, "--reason", "it's known"]).ok);
    kept.authority.sql_in("d", "INSERT INTO u VALUES (1, 'later')");
    kept.catch_up();
    assert_eq!(kept.standby.sql("SELECT COUNT(*) FROM d.u")[0][0], "1");
    let skipped = kept.standby.sql("SELECT transaction_id, reason FROM switchover.skipped").concat();
    assert_eq!(skipped, [id, "it's known"]);
    // and it stays passed over after a restart of the proxy
    let mut kept = kept;
    kept.proxy.restart();
    kept.authority.sql_in("d", "INSERT INTO u VALUES (2, 'again')");
    kept.catch_up();
}

/// As row events go, and said as statements say it.
#[test]
fn one_row_of_many_stops_all_of_them() {
    let kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t SELECT seq, 'a' FROM seq_1_to_500");
    kept.catch_up();
    let events = kept.events();
    assert!(events > 4, "{events}");
    kept.mend(&kept.standby, "DELETE FROM d.t WHERE id = 77");
    kept.mend(&kept.standby, "INSERT INTO d.u VALUES (300, 'stranger')");
    for (sql, words) in [
        ("UPDATE t SET v = 'z'", &["d.t", "1 rows are not on the standby"][..]),
        ("INSERT INTO u SELECT seq, 'b' FROM seq_1_to_400", &["d.u", "1062", "Duplicate entry '300'"]),
        ("DELETE FROM t", &["d.t", "1 rows are not on the standby"]),
    ] {
        let before = kept.standby.sql("SELECT (SELECT COUNT(*) FROM d.t WHERE v = 'a'), (SELECT COUNT(*) FROM d.u)");
        kept.authority.sql_in("d", sql);
        let standby = stopped(&kept);
        says(&standby, words);
        let after = kept.standby.sql("SELECT (SELECT COUNT(*) FROM d.t WHERE v = 'a'), (SELECT COUNT(*) FROM d.u)");
        assert_eq!(before, after, "{sql}");
        let id = standby["transaction"].as_str().unwrap();
        assert!(kept.proxy.cli(&["standby", "skip", "analytics", id, "--reason", "tried"]).ok);
        eventually("it goes on", || kept.show()["state"] == "applying");
    }
    assert!(kept.events() > events);
    // a server that passes over what does not fit is not trusted with events
    kept.standby.sql("SET GLOBAL slave_exec_mode = 'IDEMPOTENT'");
    let events = kept.events();
    kept.authority.sql_in("d", "INSERT INTO t SELECT seq, 'c' FROM seq_1_to_400");
    says(&stopped(&kept), &["d.t", "1062"]);
    assert_eq!(kept.events(), events);
}

/// Events are sent ahead of the answers: where one is refused while others are on their way, nothing of any of them is there, and the
/// connection goes on.
#[test]
fn one_row_of_many_events_stops_all_of_them() {
    let kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, v VARBINARY(2000))", &[]);
    for stray in ["1", "1500", "3000"] {
        kept.mend(&kept.standby, &format!("INSERT INTO t VALUES ({stray}, 'stranger')"));
        let events = kept.events();
        kept.authority.sql_in("d", "INSERT INTO t SELECT seq, REPEAT(seq % 10, 1500) FROM seq_1_to_3000");
        says(&stopped(&kept), &["d.t", "1062", &format!("Duplicate entry '{stray}'")]);
        assert!(kept.events() > events);
        assert_eq!(kept.standby.sql("SELECT id, v FROM d.t"), [[stray, "stranger"]]);
        kept.mend(&kept.standby, &format!("DELETE FROM t WHERE id = {stray}"));
        let events = kept.events();
        kept.retry();
        kept.catch_up();
        kept.assert_same();
        assert!(kept.events() > events + 10, "not as events");
        kept.authority.sql_in("d", "DELETE FROM t");
        kept.catch_up();
    }
    kept.assert_same();
}

/// RULES.md 42: both can be set per session, whatever the server's setting.
#[test]
fn statements_partial_rows_and_ddl_are_noticed() {
    let kept = Kept::start(SCHEMA, &[]);
    let skip = |words: &[&str]| {
        let standby = stopped(&kept);
        says(&standby, words);
        let id = standby["transaction"].as_str().unwrap();
        assert!(kept.proxy.cli(&["standby", "skip", "analytics", id, "--reason", "test"]).ok);
        kept.catch_up();
    };
    let run = |sql: &str| clients::mariadb(kept.authority.port, &["-Dd", "-e", sql]).text();
    run("SET SESSION binlog_format = STATEMENT; INSERT INTO t VALUES (1, 'statement')");
    skip(&["logged as a statement", "by thread", "SET GLOBAL binlog_format = ROW"]);
    run("INSERT INTO t VALUES (2, 'rows')");
    run("SET SESSION binlog_row_image = MINIMAL; UPDATE t SET v = 'minimal' WHERE id = 2");
    skip(&["binlog_row_image", "FULL"]);
    run("ALTER TABLE t ADD COLUMN w INT DEFAULT 7");
    kept.standby.sql("ALTER TABLE d.t ADD COLUMN w INT DEFAULT 7");
    skip(&["DDL on d.t", "ALTER TABLE t ADD COLUMN w"]);
    run("INSERT INTO t VALUES (3, 'wider', 8)");
    kept.catch_up();
    assert_eq!(kept.standby.sql("SELECT w FROM d.t WHERE id = 3")[0][0], "8");
    // DDL that the standby does not follow: rows of another shape
    run("ALTER TABLE t MODIFY v VARCHAR(20), MODIFY w BIGINT");
    skip(&["DDL on d.t"]);
    run("INSERT INTO t VALUES (4, 'wide', 1)");
    says(&stopped(&kept), &["column w is int", "make the standby's table as the authority's"]);
    kept.standby.sql("ALTER TABLE d.t MODIFY w BIGINT");
    kept.retry();
    run("SET SESSION binlog_format = MIXED; TRUNCATE u; ANALYZE TABLE t; CREATE TABLE elsewhere.x (a INT)"
        .replace("; CREATE TABLE elsewhere.x (a INT)", "")
        .as_str());
    kept.catch_up();
    assert!(kept.show()["state"] == "applying");
}

/// Triggers on the standby would do what the log holds already; tables without a key have rows that cannot be told apart.
#[test]
fn tables_that_do_not_do_are_refused() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.standby.sql("CREATE TRIGGER d.x BEFORE INSERT ON d.t FOR EACH ROW SET NEW.v = 'trigger'");
    kept.proxy.restart();
    says(&stopped(&kept), &["the trigger x on the standby's d.t", "DROP TRIGGER `d`.`x`"]);
    kept.standby.sql("DROP TRIGGER d.x");
    kept.retry();
    for server in [&kept.authority, &kept.standby] {
        server.sql("CREATE TABLE d.heap (a INT)");
    }
    let standby = stopped(&kept);
    says(&standby, &["DDL on d.heap"]);
    let id = standby["transaction"].as_str().unwrap();
    assert!(kept.proxy.cli(&["standby", "skip", "analytics", id, "--reason", "made on both"]).ok);
    eventually("the key is missed", || kept.show().to_string().contains("d.heap has no primary key"));
    for server in [&kept.authority, &kept.standby] {
        server.sql("DROP TABLE d.heap");
    }
}

#[test]
fn a_purged_log_is_told_with_its_remedy() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.catch_up();
    kept.proxy.kill();
    eventually("nobody reads the log", || {
        kept.authority.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")[0]
            [0]
            == "0"
    });
    for n in 0..4 {
        kept.authority.sql_in("d", &format!("INSERT INTO t VALUES ({n}, 'x')"));
        kept.authority.sql("FLUSH BINARY LOGS");
    }
    let newest = kept.authority.sql("SHOW BINARY LOGS").last().unwrap()[0].clone();
    kept.authority.sql(&format!("PURGE BINARY LOGS TO '{newest}'"));
    kept.proxy.restart();
    says(&stopped(&kept), &["legacy cannot continue its log behind", "mariadb-dump", "switchover init GROUP --from"]);
}

/// Replication's way of following a server that was rolled back: a position that it does not know is an error, not a wait.
#[test]
fn a_log_that_was_reset_is_told() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'x'), (2, 'x')");
    kept.catch_up();
    kept.proxy.kill();
    kept.authority.sql("RESET MASTER");
    kept.authority.sql_in("d", "INSERT INTO t VALUES (3, 'x')");
    kept.proxy.restart();
    says(&stopped(&kept), &["legacy cannot continue its log behind"]);
}
