//! Session state follows the session to every store: what a statement means does not depend on where it runs.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::support::{Database, Proxy, stores};

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, n INT, t TIMESTAMP NULL, s VARCHAR(20))");
    database.on_both("CREATE TABLE sites (id INT PRIMARY KEY AUTO_INCREMENT, n INT)");
    database.on_new("INSERT INTO hits VALUES (1, 1, NULL, 'new')");
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

async fn on_new(conn: &mut Conn, expression: &str) -> Option<String> {
    conn.query_first::<Option<String>, _>(format!("SELECT CAST({expression} AS CHAR) FROM hits WHERE id = 1"))
        .await
        .unwrap()
        .flatten()
}

#[tokio::test]
async fn set_global_is_the_default_stores_own() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    let global = |on_new: bool| {
        let sql = "SELECT @@global.slow_launch_time";
        if on_new { database.on_new(sql) } else { database.on_legacy(sql) }
    };
    let (legacy, new) = (global(false), global(true));
    // the last statement ran on the new store, which must not draw the next one after it
    assert!(on_new(&mut conn, "1").await.is_some());
    conn.query_drop("SET GLOBAL slow_launch_time = 77").await.unwrap();
    assert_eq!((global(false), global(true)), (vec![vec!["77".to_owned()]], new));
    conn.query_drop(format!("SET GLOBAL slow_launch_time = {}", legacy[0][0])).await.unwrap();
}

#[tokio::test]
async fn variables_follow_as_values() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    for (set, read) in [
        ("SET time_zone = '+03:00'", "@@time_zone"),
        ("SET sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')", "@@sql_mode"),
        ("SET SESSION group_concat_max_len = 77", "@@group_concat_max_len"),
        ("SET NAMES latin1", "@@character_set_client"),
        ("SET NAMES utf8mb4 COLLATE utf8mb4_bin, @@session.sql_select_limit = 5", "@@collation_connection"),
        ("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE", "@@tx_isolation"),
        ("SET character_set_results = NULL", "COALESCE(@@character_set_results, 'null')"),
        ("SET NAMES utf8mb4", "@@character_set_results"),
        ("SET @@session.max_sort_length = 2048", "@@max_sort_length"),
        ("SET lc_time_names = 'de_DE'", "@@lc_time_names"),
        ("SET foreign_key_checks = 0", "@@foreign_key_checks"),
        ("SET SESSION auto_increment_increment = 3", "@@auto_increment_increment"),
        ("SET timestamp = 1700000000", "UNIX_TIMESTAMP()"),
    ] {
        conn.query_drop(set).await.unwrap();
        let home: Option<String> = conn.query_first(format!("SELECT CAST({read} AS CHAR)")).await.unwrap();
        assert_eq!(on_new(&mut conn, read).await, home, "{set}");
        assert!(home.is_some());
    }
    conn.query_drop("SET timestamp = DEFAULT").await.unwrap();
    let now: u64 = on_new(&mut conn, "UNIX_TIMESTAMP()").await.unwrap().parse().unwrap();
    assert!(now > 1_700_000_100, "the clock of the other store stands still");
}

#[tokio::test]
async fn user_variables_follow_with_their_type_and_come_back() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SET @i = 5, @d = 1.50, @f = 2e0, @s = _utf8mb4'né' COLLATE utf8mb4_bin, @n = NULL").await.unwrap();
    assert_eq!(on_new(&mut conn, "@i + 1").await.as_deref(), Some("6"));
    assert_eq!(on_new(&mut conn, "@d").await.as_deref(), Some("1.50"));
    assert_eq!(on_new(&mut conn, "@f / 4").await.as_deref(), Some("0.5"));
    assert_eq!(on_new(&mut conn, "CONCAT(@s, COLLATION(@s))").await.as_deref(), Some("néutf8mb4_bin"));
    assert_eq!(on_new(&mut conn, "@n").await, None);
    conn.query_drop("SELECT @i := @i + n FROM hits WHERE id = 1").await.unwrap();
    assert_eq!(conn.query_first::<i64, _>("SELECT @i").await.unwrap(), Some(6));
    conn.query_drop("SELECT s INTO @s FROM hits WHERE id = 1").await.unwrap();
    assert_eq!(conn.query_first::<String, _>("SELECT @s").await.unwrap().as_deref(), Some("new"));
}

#[tokio::test]
async fn insert_ids_counts_and_warnings_are_those_of_the_last_statement() {
    let (database, proxy) = ground();
    database.on_new("ALTER TABLE hits AUTO_INCREMENT = 500");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("INSERT INTO sites (n) VALUES (1)").await.unwrap();
    conn.query_drop("INSERT INTO hits (n) VALUES (1), (2)").await.unwrap();
    assert_eq!(conn.query_first::<i64, _>("SELECT ROW_COUNT()").await.unwrap(), Some(2));
    assert_eq!(conn.query_first::<u64, _>("SELECT LAST_INSERT_ID()").await.unwrap(), Some(500));
    conn.query_drop("INSERT INTO sites (n) VALUES (LAST_INSERT_ID())").await.unwrap();
    assert_eq!(database.on_legacy("SELECT MAX(n) FROM sites"), [["500"]]);
    assert_eq!(conn.query_first::<u64, _>("SELECT @@identity").await.unwrap(), Some(2));
    conn.query_drop("SELECT SQL_CALC_FOUND_ROWS id FROM hits LIMIT 1").await.unwrap();
    assert_eq!(conn.query_first::<u64, _>("SELECT FOUND_ROWS()").await.unwrap(), Some(3));
    conn.query_drop("INSERT IGNORE INTO hits (id, n) VALUES (1, 1)").await.unwrap();
    let warnings: Vec<(String, u16, String)> = conn.query("SHOW WARNINGS").await.unwrap();
    assert_eq!(warnings[0].1, 1062);
}

#[tokio::test]
async fn the_database_follows_and_a_reset_forgets() {
    let (database, proxy) = ground();
    let other = stores().database();
    other.on_both("CREATE TABLE hits (id INT PRIMARY KEY)");
    other.on_new("INSERT INTO hits VALUES (42)");
    let mut conn = proxy.connect(&database.name).await;
    assert_eq!(conn.query_first::<u32, _>("SELECT MAX(id) FROM hits").await.unwrap(), Some(1));
    conn.query_drop(format!("USE {}", other.name)).await.unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT MAX(id) FROM hits").await.unwrap(), Some(42));
    conn.query_drop("SET time_zone = '+09:00', @x = 1").await.unwrap();
    assert_eq!(
        conn.query_first::<String, _>("SELECT CONCAT(@@time_zone, @x) FROM hits").await.unwrap().as_deref(),
        Some("+09:001")
    );
    assert!(conn.reset().await.unwrap());
    conn.query_drop(format!("USE {}", other.name)).await.unwrap();
    let row: Option<(String, Option<String>)> = conn.query_first("SELECT @@time_zone, @x FROM hits").await.unwrap();
    assert_eq!(row, Some(("SYSTEM".to_owned(), None)));
}

/// A pool that resets at each checkout keeps its connection to the other store, as new as after a login.
#[tokio::test]
async fn a_reset_cleans_the_leg_on_the_other_store() {
    let (database, proxy) = ground();
    let legs = || {
        database.on_new(&format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE DB = '{}' AND ID != CONNECTION_ID()",
            database.name
        ))
    };
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SET @x = 7, group_concat_max_len = 5").await.unwrap();
    conn.query_drop("CREATE TEMPORARY TABLE own AS SELECT id FROM hits").await.unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT @x FROM hits JOIN own USING (id)").await.unwrap(), Some(7));
    assert_eq!(conn.exec_first::<u32, _, _>("SELECT MAX(id) + ? FROM hits", (1,)).await.unwrap(), Some(2));
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("UPDATE hits SET s = 'lost' WHERE id = 1").await.unwrap();
    let before: Vec<Vec<String>> = legs();
    assert_eq!(before.len(), 1, "{before:?}");

    assert!(conn.reset().await.unwrap());
    let seen: Option<(String, Option<u32>, u32)> =
        conn.query_first("SELECT s, @x, @@group_concat_max_len FROM hits WHERE id = 1").await.unwrap();
    assert_eq!(seen, Some(("new".to_owned(), None, 1 << 20)));
    let error = conn.query_drop("SELECT 1 FROM hits JOIN own USING (id)").await.unwrap_err().to_string();
    assert!(error.contains("own"), "{error}");
    assert_eq!(conn.exec_first::<u32, _, _>("SELECT MAX(id) + ? FROM hits", (2,)).await.unwrap(), Some(3));
    // the lock went with the transaction
    database.on_new("UPDATE hits SET s = 'newer' WHERE id = 1");
    assert_eq!(legs(), before);
}

#[tokio::test]
async fn quotes_are_read_as_the_session_reads_them() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    // ANSI_QUOTES: "hits" is a table
    conn.query_drop("SET sql_mode = 'ANSI_QUOTES'").await.unwrap();
    assert_eq!(
        conn.query_first::<String, _>(r#"SELECT s FROM "hits" WHERE id = 1"#).await.unwrap().as_deref(),
        Some("new")
    );
    // and not so without it, however the mode was set
    conn.query_drop("SET sql_mode = REPLACE(@@sql_mode, 'ANSI_QUOTES', '')").await.unwrap();
    assert_eq!(conn.query_first::<String, _>(r#"SELECT "FROM hits""#).await.unwrap().as_deref(), Some("FROM hits"));
    // gbk: the second byte of a character may be a backslash
    conn.query_drop("SET NAMES gbk").await.unwrap();
    let n: Option<u32> =
        conn.query_first(&b"SELECT LENGTH('\xaa\\') + COUNT(*) FROM hits WHERE id = 1"[..]).await.unwrap();
    assert_eq!(n, Some(3));
}
