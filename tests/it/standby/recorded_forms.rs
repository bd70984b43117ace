//! Recorded writes whose rows are not told by their text alone: LIMIT and ORDER BY, conditions that may find other rows when they
//! are read twice, rows from a query, keys that change, several unique keys.

use mysql_async::prelude::Queryable;
use switchover::changes::journal::Ids;
use switchover::wire::Capabilities;

use super::journal::{START, WITHOUT_BINLOG, catch_up, kept_with};
use super::recorded::{SCHEMA, emptied, show};
use super::statements;
use super::workload::Dice;
use crate::support::PrivateServer;
use crate::support::raw::{ORDINARY, Raw};

/// Its key is made, and another is brought; a key with a part that is made.
const MORE: &str =
    "CREATE TABLE a (id INT PRIMARY KEY AUTO_INCREMENT, mail VARCHAR(20) UNIQUE, n INT, name VARCHAR(20));
CREATE TABLE p (tenant INT, id INT AUTO_INCREMENT, n INT, PRIMARY KEY (tenant, id), KEY (id))";

const TEXTS: &[&str] = &[
    "INSERT INTO t (id, n, v, d) VALUES (1, 1, 'a', '2020-01-01'), (2, 2, 'b', '2030-01-01'), (3, 3, 'c', '2999-01-01'), (4, 4, 'd', NULL), (5, 5, 'e', '2021-01-01')",
    "DELETE FROM t WHERE n > 1 ORDER BY n DESC LIMIT 1",
    "SELECT ROW_COUNT()",
    "UPDATE t SET n = n + 10 ORDER BY id LIMIT 2",
    "UPDATE t SET n = n + 10 ORDER BY n DESC",
    "UPDATE t SET n = n LIMIT 2",
    "SELECT ROW_COUNT()",
    "DELETE FROM t WHERE d < NOW() AND n > 1000 LIMIT 5",
    "UPDATE t SET v = 'past' WHERE d < NOW()",
    "SELECT ROW_COUNT(), FOUND_ROWS()",
    "UPDATE t SET v = 'late' WHERE d > CURRENT_TIMESTAMP - INTERVAL 1 DAY",
    "UPDATE t SET n = 7 WHERE id IN (SELECT seq FROM seq_1_to_2)",
    "SET @x = 3",
    "UPDATE t SET n = 8 WHERE id = @x",
    "UPDATE t SET n = (@x := @x + 1) WHERE id > @x - 4 ORDER BY id",
    "UPDATE t SET n = 9 WHERE v = (SELECT MAX(k) FROM k)",
    "DELETE FROM t WHERE id > (SELECT 3) LIMIT 1",
    "UPDATE t SET n = 1 WHERE id = (SELECT id FROM t LIMIT 1)",
    "SHOW WARNINGS",
    // keys that change
    "UPDATE t SET id = 50 WHERE id = 1",
    "SELECT ROW_COUNT()",
    "UPDATE t SET id = id + 100",
    "UPDATE t SET id = id - 1 WHERE id > 100 ORDER BY id",
    "UPDATE t SET n = 5, id = 7 WHERE id = 149",
    "UPDATE t SET id = 101 WHERE id = 7",
    "UPDATE t SET id = 7 WHERE id = 7",
    "UPDATE t SET id = id WHERE n > 0",
    "INSERT INTO k VALUES ('a', 1), ('b', 2)",
    "UPDATE k SET k = 'A' WHERE k = 'a'",
    "UPDATE k SET k = 'c', n = 3 WHERE k = 'b'",
    "UPDATE k SET k = 'c' WHERE k = 'a'",
    "INSERT INTO m VALUES (1, 'ab', 'x', 1), (2, 'cd', 'y', 2)",
    "UPDATE m SET b = 'zz' WHERE a = 1",
    "UPDATE m SET a = a + 1, v = 'moved' ORDER BY a DESC",
    // keys that are expressions
    "INSERT INTO k VALUES (CONCAT('x', 1 + 1), 3), (LOWER('YY'), 4)",
    "SET @k = 'var'",
    "INSERT INTO k VALUES (@k, 5)",
    "INSERT INTO k VALUES (@k, 5) ON DUPLICATE KEY UPDATE n = n + 1",
    "INSERT INTO t (id, n) VALUES (500 + 1, 1)",
    "INSERT INTO t (id, n) VALUES (0, 1)",
    "INSERT INTO t (id, n) VALUES ('0', 1)",
    "SELECT LAST_INSERT_ID()",
    "INSERT INTO k (n) VALUES (1)",
    "INSERT INTO p (tenant, n) VALUES (1, 1)",
    "INSERT INTO p (tenant, n) VALUES (1, 2), (2, 3)",
    "INSERT INTO p VALUES (7, NULL, 4)",
    // rows from a query
    "INSERT INTO t (n, v) SELECT seq, 'q' FROM seq_1_to_5",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "INSERT INTO t (n, v) SELECT n + 1, v FROM t WHERE v = 'q'",
    "INSERT INTO t (n, v) SELECT n, v FROM t WHERE v = 'nobody'",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "INSERT INTO k (k, n) SELECT CONCAT('q', n), COUNT(*) FROM t WHERE v = 'q' GROUP BY n",
    "INSERT INTO k SELECT CONCAT('q', n), n FROM t WHERE v = 'q'",
    "SHOW WARNINGS",
    "INSERT INTO t (id, n) SELECT 900, 90",
    // several unique keys
    "INSERT INTO a (mail, n) VALUES ('x@y', 1) ON DUPLICATE KEY UPDATE n = n + 1",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "INSERT INTO a (mail, n) VALUES ('x@y', 1) ON DUPLICATE KEY UPDATE n = n + 1",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "INSERT INTO a (mail, n) VALUES ('X@Y', 1) ON DUPLICATE KEY UPDATE n = n",
    "INSERT INTO a (mail, n) VALUES ('z', 1), ('x@y', 5) ON DUPLICATE KEY UPDATE n = VALUES(n)",
    "INSERT INTO a (id, mail, n) VALUES (2, 'x@y', 1) ON DUPLICATE KEY UPDATE n = 77",
    "INSERT INTO a (mail, n) VALUES (NULL, 1) ON DUPLICATE KEY UPDATE n = 2",
    "REPLACE INTO a (mail, n) VALUES ('x@y', 6)",
    "SELECT ROW_COUNT(), LAST_INSERT_ID()",
    "REPLACE INTO a (id, mail, n) VALUES (3, 'z', 8)",
    "REPLACE INTO a (mail, n) VALUES ('new', 6), ('newer', 7)",
    "INSERT IGNORE INTO a (mail, n) VALUES ('new', 1), ('newest', 2)",
    "SHOW WARNINGS",
    "REPLACE INTO m VALUES (1, 'ab', 'z', 90)",
    "INSERT INTO m VALUES (1, 'ab', 'z', 90) ON DUPLICATE KEY UPDATE v = 'zz'",
    "BEGIN",
    "DELETE FROM t LIMIT 1",
    "INSERT INTO a (mail, n) VALUES ('newest', 3) ON DUPLICATE KEY UPDATE n = 4",
    "UPDATE a SET id = id + 1000 ORDER BY id DESC",
    "COMMIT",
    "SELECT id, n, v, d FROM t ORDER BY id",
    "SELECT * FROM k ORDER BY k",
    "SELECT * FROM m ORDER BY a, b",
    "SELECT * FROM a ORDER BY id",
    "SELECT * FROM p ORDER BY tenant, id",
];

/// To the byte, whatever the rows are told by.
#[test]
fn other_forms_answer_with_the_same_bytes() {
    let direct = PrivateServer::start(13, WITHOUT_BINLOG);
    direct.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    let schema = format!("{SCHEMA};\n{MORE}");
    statements(&direct, &schema);
    let mut kept = kept_with(Ids::Sequence, START, &schema, WITHOUT_BINLOG);
    for (name, more) in [("ordinary", Capabilities::empty()), ("found rows", Capabilities::FOUND_ROWS)] {
        let mut plain = Raw::app(direct.port, ORDINARY | more, "d");
        let mut through = Raw::app(kept.proxy.port, ORDINARY | more, "d");
        for text in TEXTS {
            let (expected, got) = (plain.query(text), through.query(text));
            let (direct, recorded) = (show(&expected), show(&got));
            assert!(expected == got, "{name}: {text}\n--- direct\n{direct}\n--- recorded\n{recorded}");
        }
        catch_up(&kept);
        kept.assert_same();
        kept.proxy.kill();
        emptied(&[&direct, &kept.authority, &kept.standby]);
        for server in [&direct, &kept.authority, &kept.standby] {
            for table in ["a", "p"] {
                server.sql(&format!("DELETE FROM d.{table}"));
                server.sql(&format!("ALTER TABLE d.{table} AUTO_INCREMENT = 1"));
            }
        }
        kept.proxy.restart();
    }
}

/// Keys that are not one after another cannot be told; nor can rows that a condition takes by chance.
#[tokio::test]
async fn what_the_rows_do_not_tell_is_undone_or_refused() {
    let arguments = [WITHOUT_BINLOG, &["--innodb-autoinc-lock-mode=2"]].concat();
    let kept = kept_with(Ids::Sequence, START, SCHEMA, &arguments);
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("INSERT INTO t (id, n) VALUES (1, 1), (2, 2)").await.unwrap();
    let error = c.query_drop("INSERT INTO t (n) SELECT n FROM t").await.unwrap_err();
    assert!(error.to_string().contains("innodb_autoinc_lock_mode"), "{error}");
    // (other rows each time it is evaluated: the counts say so)
    c.query_drop("UPDATE t SET n = 1").await.unwrap();
    let sql = "UPDATE t SET n = n + 1 WHERE id = MOD(CONNECTION_ID() + MICROSECOND(NOW(6)), 2) + 1";
    for _ in 0..20 {
        if let Err(error) = c.query_drop(sql).await {
            assert!(error.to_string().contains("could not be recorded"), "{error}");
        }
    }
    catch_up(&kept);
    kept.assert_same();
}

/// For writers under load.
pub(super) fn random(dice: &mut Dice) -> String {
    let (a, b) = (dice.roll(40), dice.roll(1_000));
    match dice.roll(9) {
        0 => format!("DELETE FROM t WHERE n > {b} LIMIT 2"),
        1 => format!("UPDATE t SET n = {b} WHERE n < {b} ORDER BY n DESC LIMIT 3"),
        2 => format!("UPDATE t SET v = 'now' WHERE d < NOW(3) AND n % 13 = {}", a % 13),
        3 => format!("UPDATE IGNORE k SET n = n + 1 WHERE n IN (SELECT n FROM t WHERE id % 11 = {})", a % 11),
        4 => format!("INSERT INTO t (n, v) SELECT n + 1, 'sel' FROM t WHERE n % 19 = {} AND id < 400", a % 19),
        5 => format!("UPDATE m SET a = a + 100 WHERE a = {a}"),
        6 => format!("REPLACE INTO m VALUES ({a}, 'z', 'r', {b})"),
        7 => format!("INSERT INTO m VALUES ({a}, 'q', NULL, {b}) ON DUPLICATE KEY UPDATE v = 'dup'"),
        _ => format!("INSERT INTO k VALUES (CONCAT('e', {a}), {b}) ON DUPLICATE KEY UPDATE n = {b}"),
    }
}
