//! Rules 15–19: what a session carries from store to store.
//!
//! In `state.rs`: SET as values (15), user variables (16), LAST_INSERT_ID, ROW_COUNT, FOUND_ROWS and SHOW WARNINGS (17). In
//! `routing.rs`: temporary tables (18). In `fidelity.rs`: SESSION_TRACK on one store (16). Here: the same over two stores,
//! compared with one that has everything, to the byte.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use switchover::wire::Capabilities;

use crate::support::raw::{ORDINARY, Raw, plain};
use crate::support::{Database, Proxy, stores};

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database.on_both(&format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, s VARCHAR(3))"
        ));
        database.on_both(&format!("INSERT INTO {table} VALUES (1, 1, 'a'), (2, 2, 'b')"));
    }
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

/// Texts that use both tables: on one server directly, and on two through the proxy.
const BOTH: &[&str] = &[
    "SELECT n FROM hits",
    "START TRANSACTION READ ONLY",
    "SELECT n FROM sites",
    "SELECT n FROM hits",
    "UPDATE hits SET n = 5",
    "SET TRANSACTION READ WRITE",
    "COMMIT",
    "START TRANSACTION READ ONLY",
    "SELECT n FROM hits",
    "ROLLBACK",
    "BEGIN",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "UPDATE hits SET n = 5",
    "UPDATE sites SET n = 5",
    "SAVEPOINT a",
    "INSERT INTO hits VALUES (1, 1, 'dup')",
    "ROLLBACK TO a",
    "RELEASE SAVEPOINT a",
    "RELEASE SAVEPOINT a",
    "COMMIT",
    "SET autocommit = 0",
    "SELECT n FROM hits",
    "SELECT n FROM sites",
    "COMMIT",
    "UPDATE hits SET n = 6 WHERE id = 1",
    "ROLLBACK AND CHAIN",
    "SELECT n FROM hits",
    "COMMIT",
    "SET autocommit = 1",
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "SELECT '\\', n FROM hits",
    "SELECT n FROM sites",
    "UPDATE hits SET n = n",
    "SET sql_mode = ''",
    "INSERT INTO hits (n, s) VALUES (1, 'too long'), (NULL, 'x')",
    "SHOW WARNINGS",
    "SHOW COUNT(*) WARNINGS",
    "SELECT @@warning_count",
    "INSERT INTO hits (n) VALUES ('none')",
    "SELECT @@warning_count, @@error_count",
    "SELECT nope FROM hits",
    "SHOW ERRORS",
    "SET sql_mode = DEFAULT",
    "INSERT INTO hits (n) VALUES (3), (4)",
    "SELECT LAST_INSERT_ID(), @@identity, @@last_insert_id, ROW_COUNT()",
    "INSERT INTO sites (n) VALUES (LAST_INSERT_ID())",
    "SELECT n FROM sites ORDER BY id DESC LIMIT 1",
    "SELECT LAST_INSERT_ID(), ROW_COUNT()",
    "INSERT INTO hits (n) VALUES (LAST_INSERT_ID() + 1000)",
    "SELECT n FROM hits ORDER BY id DESC LIMIT 1",
    "UPDATE hits SET n = LAST_INSERT_ID(n + 50) WHERE id = 1",
    "SELECT LAST_INSERT_ID()",
    "DELETE FROM hits WHERE id > 2",
    "SELECT ROW_COUNT()",
    "SELECT SQL_CALC_FOUND_ROWS n FROM hits LIMIT 1",
    "SELECT FOUND_ROWS()",
    "SELECT n FROM sites",
    "SELECT FOUND_ROWS()",
    "SET @a = 1, @b := 'x'",
    "SELECT @a := @a + n FROM hits",
    "SELECT @a + n, @b FROM sites WHERE id = 1",
    "SELECT @a",
    "CREATE TEMPORARY TABLE hits (t INT)",
    "INSERT INTO hits VALUES (77)",
    "SELECT * FROM hits",
    "DROP TEMPORARY TABLE hits",
    "SELECT COUNT(*) FROM hits",
];

fn compare(capabilities: Capabilities) {
    let ((one, _unused), (two, proxy)) = (ground(), ground());
    let mut direct = Raw::app(stores().legacy.port, capabilities, &one.name);
    let mut proxied = Raw::app(proxy.port, capabilities, &two.name);
    let mut differences = Vec::new();
    for text in BOTH {
        let (a, b) = (plain(direct.query(text), &one.name), plain(proxied.query(text), &two.name));
        if a != b {
            differences.push(format!("{text}\n  direct:  {a:?}\n  proxied: {b:?}"));
        }
    }
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn rules_15_to_19_two_stores_answer_as_one() {
    compare(ORDINARY);
}

#[test]
fn rules_15_to_19_two_stores_answer_as_one_without_eof_packets() {
    compare(ORDINARY | Capabilities::DEPRECATE_EOF | Capabilities::FOUND_ROWS);
}

async fn on_new(conn: &mut Conn, expression: &str) -> Option<String> {
    let sql = format!("SELECT CAST({expression} AS CHAR) FROM hits WHERE id = 1");
    conn.query_first::<Option<String>, _>(sql).await.unwrap().flatten()
}

#[tokio::test]
async fn rule_15_a_setting_that_came_before_the_first_lease_counts_there() {
    let (database, proxy) = ground();
    // by the login, by SET in another statement's company, by a prepared statement, by SET STATEMENT for one alone
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SET SESSION sql_mode = CONCAT(@@sql_mode, ',ANSI'), time_zone = '+05:30'; SELECT 1")
        .await
        .unwrap();
    conn.exec_drop("SET SESSION lc_time_names = ?", ("fr_FR",)).await.unwrap();
    assert_eq!(on_new(&mut conn, "CONCAT(@@time_zone, @@lc_time_names)").await.as_deref(), Some("+05:30fr_FR"));
    let modes: Option<String> = conn.query_first("SELECT @@sql_mode").await.unwrap();
    assert_eq!(on_new(&mut conn, "@@sql_mode").await, modes);
    let once = "SET STATEMENT time_zone = '+01:00' FOR SELECT @@time_zone FROM hits WHERE id = 1";
    assert_eq!(conn.query_first::<String, _>(once).await.unwrap().as_deref(), Some("+01:00"));
    assert_eq!(on_new(&mut conn, "@@time_zone").await.as_deref(), Some("+05:30"));
    conn.query_drop("SET SESSION time_zone = DEFAULT, lc_time_names = DEFAULT").await.unwrap();
    assert_eq!(on_new(&mut conn, "CONCAT(@@time_zone, @@lc_time_names)").await.as_deref(), Some("SYSTEMen_US"));
}

#[tokio::test]
async fn rule_16_a_variable_set_on_one_store_is_read_on_the_other() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT n, s INTO @n, @s FROM hits WHERE id = 2").await.unwrap();
    conn.query_drop("INSERT INTO sites (n, s) VALUES (@n + 40, @s)").await.unwrap();
    assert_eq!(database.on_legacy("SELECT n, s FROM sites WHERE id = 3"), [["42", "b"]]);
    conn.query_drop("SELECT @n := @n * 2 FROM sites WHERE id = 1").await.unwrap();
    conn.exec_drop("INSERT INTO hits (n) VALUES (@n + ?)", (100,)).await.unwrap();
    assert_eq!(database.on_new("SELECT n FROM hits WHERE id = 3"), [["104"]]);
    conn.query_drop("PREPARE s FROM 'INSERT INTO hits (n) VALUES (?)'").await.unwrap();
    conn.query_drop("EXECUTE s USING @n").await.unwrap();
    assert_eq!(database.on_new("SELECT n FROM hits WHERE id = 4"), [["4"]]);
}

#[tokio::test]
async fn rule_17_the_insert_id_of_a_prepared_statement_is_found_again() {
    let (database, proxy) = ground();
    database.on_new("ALTER TABLE hits AUTO_INCREMENT = 900");
    let mut conn = proxy.connect(&database.name).await;
    conn.exec_drop("INSERT INTO hits (n) VALUES (?)", (1,)).await.unwrap();
    assert_eq!(conn.last_insert_id(), Some(900));
    assert_eq!(conn.exec_first::<u64, _, _>("SELECT LAST_INSERT_ID()", ()).await.unwrap(), Some(900));
    conn.exec_drop("INSERT INTO sites (n) VALUES (LAST_INSERT_ID())", ()).await.unwrap();
    assert_eq!(database.on_legacy("SELECT MAX(n) FROM sites"), [["900"]]);
}

#[tokio::test]
async fn rule_17_a_given_id_is_none_that_last_insert_id_knows() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT * FROM hits").await.unwrap();
    conn.query_drop("INSERT INTO sites (n) VALUES (1)").await.unwrap();
    conn.query_drop("INSERT INTO hits (id, n) VALUES (950, 1)").await.unwrap();
    let id: Option<u64> = conn.query_first("SELECT LAST_INSERT_ID()").await.unwrap();
    assert_eq!(id, Some(3), "the insert into sites gave 3");
}

#[tokio::test]
async fn rule_17_the_newest_generated_id_is_found_among_given_ones() {
    let (database, proxy) = ground();
    database.on_new("ALTER TABLE hits AUTO_INCREMENT = 500");
    database.on_both("CREATE PROCEDURE p() INSERT INTO sites (n) VALUES (9)");
    let mut conn = proxy.connect(&database.name).await;
    let generated = "INSERT INTO hits (n) VALUES (1)";
    let given = |id: u32| format!("INSERT INTO hits (id, n) VALUES ({id}, 1)");
    conn.query_drop("SELECT * FROM hits").await.unwrap();
    for (text, id) in [
        ("INSERT INTO sites (n) VALUES (1)", 3),
        (generated, 500),
        (&given(700), 500),
        ("INSERT INTO sites (id, n) VALUES (40, 1)", 500),
        (&given(701), 500),
        ("INSERT INTO sites (n) VALUES (1), (2)", 41),
        ("CALL p()", 43),
        (generated, 702),
        ("SET @@last_insert_id = 7", 7),
        (&given(800), 7),
        ("DO LAST_INSERT_ID(12)", 12),
        ("UPDATE hits SET n = LAST_INSERT_ID(n + 20) WHERE id = 1", 21),
        ("INSERT INTO sites (id, n) VALUES (900, 1)", 21),
    ] {
        conn.query_drop(text).await.unwrap();
        // a second statement of either store between must not matter
        conn.query_drop("UPDATE sites SET n = n").await.unwrap();
        assert_eq!(conn.query_first::<u64, _>("SELECT LAST_INSERT_ID()").await.unwrap(), Some(id), "{text}");
    }
    // many in a row, asked only then
    for id in 1000..1050 {
        conn.query_drop(given(id)).await.unwrap();
    }
    assert_eq!(conn.query_first::<u64, _>("SELECT LAST_INSERT_ID()").await.unwrap(), Some(21));
    conn.query_drop(generated).await.unwrap();
    conn.query_drop("INSERT INTO sites (n) SELECT LAST_INSERT_ID()").await.unwrap();
    assert_eq!(database.on_legacy("SELECT MAX(n) FROM sites"), [["1050"]]);
}
