//! Statements go where the flag says, the flag moves while traffic flows, and what cannot be right is refused.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::support::{Database, LEGACY_ID, NEW_ID, Proxy, stores};

const TABLES: &[&str] = &["pageviews", "site_stats"];

/// Tables of the group and one of none, on both stores; `marker` says which store answered.
fn shop() -> Database {
    let database = stores().database();
    for table in ["pageviews", "site_stats", "sites"] {
        database.on_both(&format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, n INT, marker VARCHAR(10)) ENGINE=InnoDB"
        ));
        database.on_legacy(&format!("INSERT INTO {table} VALUES (1, 10, 'legacy')"));
        database.on_new(&format!("INSERT INTO {table} VALUES (1, 20, 'new')"));
    }
    database
}

async fn text(conn: &mut Conn, sql: &str) -> String {
    conn.query_first::<String, _>(sql).await.unwrap().unwrap()
}

fn server_error(error: Error) -> (u16, String) {
    match error {
        Error::Server(e) => (e.code, e.message),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn grouped_tables_follow_the_flag_and_others_do_not() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    let mut conn = proxy.connect(&database.name).await;
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "legacy");
    proxy.flag("analytics", "new");
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "new");
    assert_eq!(text(&mut conn, "SELECT p.marker FROM pageviews p JOIN site_stats s ON s.id = p.id").await, "new");
    assert_eq!(text(&mut conn, "SELECT marker FROM sites").await, "legacy");
    assert_eq!(conn.query_first::<u32, _>("SELECT @@server_id").await.unwrap(), Some(LEGACY_ID));
    let qualified = format!("SELECT marker FROM `{}`.`pageviews` AS x WHERE x.id IN (SELECT 1)", database.name);
    assert_eq!(text(&mut conn, &qualified).await, "new");
    conn.query_drop("INSERT INTO pageviews (n, marker) VALUES (1, 'w')").await.unwrap();
    conn.query_drop("INSERT INTO sites (n, marker) VALUES (1, 'w')").await.unwrap();
    assert_eq!(database.on_new("SELECT COUNT(*) FROM pageviews"), [["2"]]);
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM pageviews"), [["1"]]);
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM sites"), [["2"]]);
    proxy.flag("analytics", "legacy");
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "legacy");
}

#[tokio::test]
async fn a_join_that_no_store_can_answer_is_refused_with_the_way_out() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect(&database.name).await;
    for sql in [
        "SELECT * FROM pageviews p JOIN sites s ON s.id = p.id",
        "INSERT INTO pageviews (n) SELECT n FROM sites",
        "UPDATE sites s, pageviews p SET s.n = p.n WHERE s.id = p.id",
        "DELETE FROM sites WHERE id IN (SELECT id FROM pageviews)",
    ] {
        let (code, message) = server_error(conn.query_drop(sql).await.unwrap_err());
        assert_eq!(code, 1235, "{sql}: {message}");
        assert!(message.starts_with("switchover:"), "{message}");
        for word in ["sites", "pageviews", "legacy", "new"] {
            assert!(message.contains(word), "{sql}: {message} does not say {word}");
        }
    }
    // the session goes on
    assert_eq!(text(&mut conn, "SELECT marker FROM sites").await, "legacy");
    let hint = "SELECT COUNT(*) FROM pageviews p JOIN sites s ON s.id = p.id /* switchover:store=new */";
    assert_eq!(conn.query_first::<u32, _>(hint).await.unwrap(), Some(1));
}

#[tokio::test]
async fn references_make_a_join_possible_for_reading_only() {
    let database = shop();
    let proxy = Proxy::start(|port| {
        let text = crate::support::proxy::pair_config(port, &stores().legacy, &stores().new, TABLES);
        text.replace("connection: legacy", "connection: new\n    references: [sites]")
    });
    let mut conn = proxy.connect(&database.name).await;
    assert_eq!(text(&mut conn, "SELECT s.marker FROM pageviews p JOIN sites s ON s.id = p.id").await, "new");
    assert_eq!(text(&mut conn, "SELECT marker FROM sites").await, "legacy");
    for locking in ["FOR UPDATE", "LOCK IN SHARE MODE"] {
        let sql = format!("SELECT * FROM pageviews p JOIN sites s ON s.id = p.id {locking}");
        assert_eq!(server_error(conn.query_drop(sql).await.unwrap_err()).0, 1235, "{locking}");
    }
    let mut transaction = conn.start_transaction(Default::default()).await.unwrap();
    transaction.query_drop("UPDATE sites SET n = 99").await.unwrap();
    let (code, _) = server_error(
        transaction.query_drop("SELECT * FROM pageviews p JOIN sites s ON s.id = p.id").await.unwrap_err(),
    );
    assert_eq!(code, 1235, "a table that this transaction wrote is not read from a copy");
    transaction.rollback().await.unwrap();
}

#[tokio::test]
async fn a_flip_never_splits_a_transaction() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    let mut conn = proxy.connect(&database.name).await;
    let mut transaction = conn.start_transaction(Default::default()).await.unwrap();
    transaction.query_drop("UPDATE pageviews SET n = n + 1").await.unwrap();
    // without --wait, which would wait for this very transaction
    assert!(proxy.cli(&["flag", "analytics", "new"]).ok);
    assert_eq!(proxy.status()["sessions"]["on_older_epoch"], 1);
    let marker: Option<String> = transaction.query_first("SELECT marker FROM pageviews").await.unwrap();
    assert_eq!(marker.as_deref(), Some("legacy"));
    transaction.query_drop("UPDATE pageviews SET n = n + 1").await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(database.on_legacy("SELECT n FROM pageviews"), [["12"]]);
    assert_eq!(database.on_new("SELECT n FROM pageviews"), [["20"]]);
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "new");
}

#[tokio::test]
async fn several_statements_for_several_stores_are_stitched_into_one_response() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect(&database.name).await;
    let sql =
        "SELECT marker FROM sites; UPDATE pageviews SET n = 5; SELECT marker FROM pageviews; SELECT marker FROM sites";
    let mut results = conn.query_iter(sql).await.unwrap();
    let first: Vec<String> = results.collect().await.unwrap();
    let update: Vec<String> = results.collect().await.unwrap();
    let third: Vec<String> = results.collect().await.unwrap();
    let fourth: Vec<String> = results.collect().await.unwrap();
    assert_eq!((first, third, fourth), (vec!["legacy".into()], vec!["new".into()], vec!["legacy".into()]));
    assert!(update.is_empty());
    drop(results);
    assert_eq!(database.on_new("SELECT n FROM pageviews"), [["5"]]);
    // a failure stops the rest
    let sql = "UPDATE pageviews SET n = 6; SELECT nope FROM sites; UPDATE pageviews SET n = 7";
    let mut results = conn.query_iter(sql).await.unwrap();
    let _: Vec<String> = results.collect().await.unwrap();
    let (code, _) = server_error(results.collect::<String>().await.unwrap_err());
    assert_eq!(code, 1054);
    drop(results);
    assert_eq!(database.on_new("SELECT n FROM pageviews"), [["6"]]);
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "new");
}

#[tokio::test]
async fn prepared_statements_follow_the_flag_and_leave_nothing_behind() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    let before = (stores().legacy.status("Prepared_stmt_count"), stores().new.status("Prepared_stmt_count"));
    let mut conn = proxy.connect(&database.name).await;
    let statement = conn.prep("SELECT marker, n + ? FROM pageviews WHERE id = ?").await.unwrap();
    for (store, marker, n) in [("legacy", "legacy", 11), ("new", "new", 21), ("legacy", "legacy", 11)] {
        proxy.flag("analytics", store);
        let row: Option<(String, i64)> = conn.exec_first(&statement, (1, 1)).await.unwrap();
        assert_eq!(row, Some((marker.to_owned(), n)));
    }
    conn.close(statement).await.unwrap();
    conn.ping().await.unwrap();
    conn.disconnect().await.unwrap();
    crate::support::eventually("no prepared statement is left", || {
        stores().legacy.status("Prepared_stmt_count") <= before.0
            && stores().new.status("Prepared_stmt_count") <= before.1
    });
}

#[tokio::test]
async fn text_prepared_statements_follow_too() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("PREPARE s FROM 'SELECT CONCAT(marker, ?) FROM pageviews'").await.unwrap();
    conn.query_drop("SET @a = '!', @hidden = 'SELECT marker FROM pageviews'").await.unwrap();
    conn.query_drop("PREPARE hidden FROM @hidden").await.unwrap();
    assert_eq!(text(&mut conn, "EXECUTE hidden").await, "legacy");
    assert_eq!(text(&mut conn, "EXECUTE s USING @a").await, "legacy!");
    proxy.flag("analytics", "new");
    assert_eq!(text(&mut conn, "EXECUTE s USING @a").await, "new!");
    // its text was not seen: it might read the table where it no longer is
    assert_eq!(server_error(conn.query_drop("EXECUTE hidden").await.unwrap_err()).0, 1235);
    conn.query_drop("SET @sql = 'SELECT marker FROM pageviews'").await.unwrap();
    conn.query_drop("PREPARE t FROM @sql").await.unwrap();
    assert_eq!(text(&mut conn, "EXECUTE t").await, "new");
    assert_eq!(text(&mut conn, "EXECUTE IMMEDIATE 'SELECT marker FROM pageviews'").await, "new");
    conn.query_drop("DEALLOCATE PREPARE s").await.unwrap();
    assert_eq!(server_error(conn.query_drop("EXECUTE s").await.unwrap_err()).0, 1243);
}

#[tokio::test]
async fn ddl_and_metadata_follow_their_table() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("ALTER TABLE pageviews ADD COLUMN extra INT").await.unwrap();
    assert_eq!(database.on_new("SHOW COLUMNS FROM pageviews LIKE 'extra'").len(), 1);
    assert_eq!(database.on_legacy("SHOW COLUMNS FROM pageviews LIKE 'extra'").len(), 0);
    for sql in [
        "SHOW COLUMNS FROM pageviews LIKE 'extra'",
        "SHOW FULL COLUMNS FROM `pageviews` WHERE Field = 'extra'",
        "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'pageviews' AND column_name = 'extra'",
    ] {
        let rows: Vec<mysql_async::Row> = conn.query(sql).await.unwrap();
        assert_eq!(rows.len(), 1, "{sql}");
    }
    let create: Option<(String, String)> = conn.query_first("SHOW CREATE TABLE pageviews").await.unwrap();
    assert!(create.unwrap().1.contains("extra"));
    conn.query_drop("TRUNCATE pageviews").await.unwrap();
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM pageviews"), [["1"]]);
    assert_eq!(database.on_new("SELECT COUNT(*) FROM pageviews"), [["0"]]);
}

#[tokio::test]
async fn temporary_tables_stay_where_they_were_made() {
    let database = shop();
    let proxy = Proxy::pair(TABLES);
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("CREATE TEMPORARY TABLE pageviews (marker VARCHAR(10))").await.unwrap();
    conn.query_drop("INSERT INTO pageviews VALUES ('mine')").await.unwrap();
    proxy.flag("analytics", "new");
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "mine");
    conn.query_drop("DROP TEMPORARY TABLE pageviews").await.unwrap();
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "new");
    // on the new store too
    conn.query_drop("CREATE TEMPORARY TABLE site_stats SELECT * FROM pageviews").await.unwrap();
    assert_eq!(text(&mut conn, "SELECT marker FROM site_stats").await, "new");
    proxy.flag("analytics", "legacy");
    assert_eq!(text(&mut conn, "SELECT marker FROM site_stats").await, "new");
    conn.query_drop("DROP TABLE site_stats").await.unwrap();
    assert_eq!(text(&mut conn, "SELECT marker FROM site_stats").await, "legacy");
}

#[tokio::test]
async fn a_store_that_is_down_fails_only_the_statements_that_need_it() {
    let database = shop();
    let dead = crate::support::ports::free();
    let proxy = Proxy::start(|port| {
        crate::support::proxy::pair_config(port, &stores().legacy, &stores().new, TABLES)
            .replace(&format!("127.0.0.1:{}", stores().new.port), &format!("127.0.0.1:{dead}"))
            .replace("connection: legacy", "connection: new")
    });
    let mut conn = proxy.connect(&database.name).await;
    assert_eq!(text(&mut conn, "SELECT marker FROM sites").await, "legacy");
    let (code, message) = server_error(conn.query_drop("SELECT 1 FROM pageviews").await.unwrap_err());
    assert_eq!(code, 1429, "{message}");
    assert!(message.contains("new"), "{message}");
    assert_eq!(text(&mut conn, "SELECT marker FROM sites").await, "legacy");
    proxy.flag("analytics", "legacy");
    assert_eq!(text(&mut conn, "SELECT marker FROM pageviews").await, "legacy");
    let _ = NEW_ID;
}
