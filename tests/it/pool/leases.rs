//! Many sessions on few connections: each finds its own state, and what cannot be carried pins.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use serde_json::Value;
use switchover::wire::reply::Expect;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, eventually, stores};

/// A proxy with so many connections to each store.
fn narrow(connections: u32) -> Proxy {
    Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"])
            + &format!("workers: 1\npool: {{ mode: transaction, max_per_store: {connections}, wait_timeout: 2s }}\n")
    })
}

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, n INT)"));
    }
    (database, narrow(1))
}

async fn one<T: mysql_async::prelude::FromValue + Send + 'static>(conn: &mut Conn, sql: &str) -> T {
    conn.query_first(sql).await.unwrap().unwrap()
}

/// The pins of the session with this id.
fn pins(proxy: &Proxy, id: u64) -> Vec<String> {
    let output = proxy.cli(&["sessions", "--json"]);
    let all: Value = serde_json::from_str(&output.stdout).unwrap();
    let list = all.as_array().or_else(|| all["sessions"].as_array()).unwrap();
    let one = list.iter().find(|s| s["id"] == id).unwrap();
    one["pins"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn two_sessions_share_one_connection_and_keep_their_own_state() {
    let (database, proxy) = ground();
    let other = stores().database();
    let mut a = proxy.connect(&database.name).await;
    let mut b = proxy.connect(&other.name).await;
    a.query_drop("SET NAMES latin1 COLLATE latin1_german1_ci, SESSION sql_mode = 'ANSI_QUOTES', @x = 1.50, @y = 'e'")
        .await
        .unwrap();
    b.query_drop("SET SESSION time_zone = '+03:00', @x = X'00FF', SESSION group_concat_max_len = 77").await.unwrap();
    a.query_drop("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE").await.unwrap();
    let state = |x: &str| {
        format!(
            "SELECT CONCAT_WS('|', DATABASE(), @@sql_mode, @@time_zone, @@character_set_client, @@collation_connection, \
             @@group_concat_max_len, @@tx_isolation, {x}, COALESCE(@y, 'none'), CONNECTION_ID())"
        )
    };
    let (ida, idb): (u64, u64) =
        (one(&mut a, "SELECT CONNECTION_ID()").await, one(&mut b, "SELECT CONNECTION_ID()").await);
    assert_ne!(ida, idb);
    let defaults: String = one(
        &mut proxy.connect("").await,
        "SELECT CONCAT_WS('|', @@sql_mode, @@character_set_client, @@collation_connection, @@group_concat_max_len)",
    )
    .await;
    let defaults: Vec<&str> = defaults.split('|').collect();
    for _ in 0..5 {
        let seen: String = one(&mut a, &state("CAST(@x AS CHAR)")).await;
        let tail = format!("latin1|latin1_german1_ci|{}|SERIALIZABLE|1.50|e|{ida}", defaults[3]);
        assert_eq!(seen, format!("{}|ANSI_QUOTES|SYSTEM|{tail}", database.name), "a");
        let seen: String = one(&mut b, &state("HEX(@x)")).await;
        let tail = format!("{}|{}|77|REPEATABLE-READ|00FF|none|{idb}", defaults[1], defaults[2]);
        assert_eq!(seen, format!("{}|{}|+03:00|{tail}", other.name, defaults[0]), "b");
    }
    assert!(stores().legacy.status("Threads_connected") > 0);
    assert_eq!(proxy.status()["stores"][0]["idle"], 1, "{}", proxy.status());
}

#[tokio::test]
async fn what_is_asked_of_the_last_statement_is_answered_after_another_session_used_the_connection() {
    let (database, proxy) = ground();
    let mut a = proxy.connect(&database.name).await;
    let mut b = proxy.connect(&database.name).await;
    a.query_drop("INSERT INTO sites (n) VALUES (1), (2), (3)").await.unwrap();
    b.query_drop("INSERT INTO sites (n) VALUES (4)").await.unwrap();
    assert_eq!(one::<u64>(&mut a, "SELECT LAST_INSERT_ID()").await, 1);
    assert_eq!(one::<u64>(&mut b, "SELECT LAST_INSERT_ID()").await, 4);
    a.query_drop("UPDATE sites SET n = n + 10").await.unwrap();
    b.query_drop("SELECT 1").await.unwrap();
    assert_eq!(one::<i64>(&mut a, "SELECT ROW_COUNT()").await, 4);
    a.query_drop("SELECT SQL_CALC_FOUND_ROWS * FROM sites LIMIT 1").await.unwrap();
    b.query_drop("SELECT 1").await.unwrap();
    assert_eq!(one::<u64>(&mut a, "SELECT FOUND_ROWS()").await, 4);
    a.query_drop("SELECT * FROM sites LIMIT 2").await.unwrap();
    b.query_drop("SELECT 1").await.unwrap();
    assert_eq!(one::<u64>(&mut a, "SELECT FOUND_ROWS()").await, 2);
    // a trigger's user variable
    database.on_legacy("CREATE TRIGGER seen AFTER INSERT ON sites FOR EACH ROW SET @seen = NEW.n * 2");
    a.query_drop("INSERT INTO sites (n) VALUES (21)").await.unwrap();
    b.query_drop("SELECT 1").await.unwrap();
    assert_eq!(one::<i64>(&mut a, "SELECT @seen").await, 42);
}

#[test]
fn a_reset_takes_back_long_data_without_a_connection() {
    let (database, proxy) = ground();
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    raw.send(0x16, b"SELECT HEX(?)");
    let prepared = raw.response(Expect::Prepare);
    let id = prepared[0].1[1..5].to_vec();
    raw.send(0x18, &[&id[..], &[0, 0], b"abc"].concat());
    raw.send(0x1a, &id);
    assert_eq!(raw.response(Expect::Ok)[0].1[0], 0);
    // one parameter, a BLOB, whose value is empty
    raw.send(0x17, &[&id[..], &[0, 1, 0, 0, 0, 0, 1, 252, 0, 0]].concat());
    let packets = raw.response(Expect::Results);
    assert!(packets.iter().any(|(_, p)| p == &[0, 0, 0]), "an empty string: {packets:?}");
}

#[tokio::test]
async fn prepared_statements_live_on_over_connections_and_leave_none_behind() {
    let (database, proxy) = ground();
    database.on_both("INSERT INTO hits (n) VALUES (5)");
    let before = [&stores().legacy, &stores().new].map(|s| s.status("Prepared_stmt_count"));
    let mut a = proxy.connect(&database.name).await;
    let mut b = proxy.connect(&database.name).await;
    let sa = a.prep("SELECT n + ? FROM hits").await.unwrap();
    let sb = b.prep("SELECT n * ? FROM hits").await.unwrap();
    for flip in 0..6 {
        proxy.flag("analytics", if flip % 2 == 0 { "new" } else { "legacy" });
        for n in 0..3_i64 {
            assert_eq!(a.exec_first(&sa, (n,)).await.unwrap(), Some(5 + n));
            assert_eq!(b.exec_first(&sb, (n,)).await.unwrap(), Some(5 * n));
        }
    }
    a.close(sa).await.unwrap();
    a.disconnect().await.unwrap();
    b.disconnect().await.unwrap();
    eventually("no prepared statement is left", || {
        let now = [&stores().legacy, &stores().new].map(|s| s.status("Prepared_stmt_count"));
        now.iter().zip(before).all(|(now, then)| *now <= then)
    });
}

#[test]
fn what_cannot_be_carried_pins_and_is_seen() {
    let (database, proxy) = ground();
    let wide = narrow(20);
    drop(proxy);
    for (sql, pin) in [
        ("BEGIN", "transaction"),
        ("CREATE TEMPORARY TABLE tmp (a INT)", "temporary_table"),
        ("LOCK TABLES sites READ", "table_lock"),
        ("SELECT GET_LOCK('pool_test', 0)", "user_lock"),
        ("PREPARE p FROM 'SELECT 1'", "text_statement"),
        ("HANDLER sites OPEN", "handler"),
        ("SELECT 1 / 0 FROM no_such_table", "warnings"),
        ("SET SESSION wait_timeout = 100", "session_variable"),
        ("SET TRANSACTION READ ONLY", "next_statement"),
        ("XA START 'pool_test'", "xa"),
        ("BEGIN NOT ATOMIC SET @a = 1; END", "routine"),
    ] {
        let mut raw = Raw::app(wide.port, ORDINARY, &database.name);
        let id = u64::from(raw.greeting.thread_id);
        assert!(pins(&wide, id).is_empty(), "{sql}");
        raw.query(sql);
        // (an answer may be here before what it leaves is published)
        eventually(sql, || pins(&wide, id).contains(&pin.to_owned()));
        assert_eq!(wide.status()["sessions"]["by_pin"][pin], 1);
        raw.send(0x1f, &[]);
        assert!(Raw::error(&raw.response(Expect::Ok)).is_none(), "{sql}");
        eventually("nothing pins after COM_RESET_CONNECTION", || pins(&wide, id).is_empty());
    }
    // what frees by itself
    let mut raw = Raw::app(wide.port, ORDINARY, &database.name);
    let id = u64::from(raw.greeting.thread_id);
    for (sql, pinned) in [
        ("BEGIN", true),
        ("INSERT INTO sites (n) VALUES (1)", true),
        ("COMMIT", false),
        ("SET autocommit = 0", false),
        ("SELECT * FROM sites", true),
        ("ROLLBACK", false),
        ("CREATE TEMPORARY TABLE tmp (a INT)", true),
        ("DROP TEMPORARY TABLE tmp", false),
        ("LOCK TABLES sites READ", true),
        ("UNLOCK TABLES", false),
        ("SELECT * FROM nope", true),
        ("SELECT 1", false),
        ("HANDLER sites OPEN", true),
        ("HANDLER sites CLOSE", false),
    ] {
        raw.query(sql);
        eventually(sql, || pins(&wide, id).is_empty() != pinned);
    }
}

#[tokio::test]
async fn nothing_of_a_session_is_left_to_the_next() {
    let (database, proxy) = ground();
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    raw.query("SET @secret = 1, sql_mode = 'ANSI', SESSION sql_safe_updates = 1");
    raw.query("CREATE TEMPORARY TABLE secrets (a INT)");
    raw.query("SELECT GET_LOCK('left', 0)");
    raw.query("BEGIN");
    raw.query("INSERT INTO sites (n) VALUES (66)");
    // it goes without a word
    drop(raw);
    let mut next = proxy.connect(&database.name).await;
    let row: (Option<u8>, String, u8, Option<u64>) = next
        .query_first("SELECT @secret, @@sql_mode, @@sql_safe_updates, IS_USED_LOCK('left')")
        .await
        .unwrap()
        .unwrap();
    assert!(row.0.is_none() && !row.1.contains("ANSI") && row.2 == 0 && row.3.is_none(), "{row:?}");
    assert_eq!(one::<u64>(&mut next, "SELECT COUNT(*) FROM sites").await, 0);
    let Err(Error::Server(error)) = next.query_drop("SELECT * FROM secrets").await else { panic!("left behind") };
    assert_eq!(error.code, 1146);
}

#[test]
fn multi_statements_are_for_those_who_asked() {
    let (database, _) = ground();
    // the error pins for as long as its text may be asked for
    let proxy = narrow(2);
    let plain = ORDINARY - switchover::wire::Capabilities::MULTI_STATEMENTS;
    let mut asked = Raw::app(proxy.port, plain, &database.name);
    asked.send(0x1b, &[0, 0]);
    assert!(Raw::error(&asked.response(Expect::Ok)).is_none());
    assert!(Raw::error(&asked.query("SELECT 1; SELECT 2")).is_none());
    let mut other = Raw::app(proxy.port, plain, &database.name);
    for _ in 0..2 {
        assert_eq!(Raw::error(&other.query("SELECT 1; SELECT 2")).map(|e| e.code), Some(1064));
        assert!(Raw::error(&asked.query("SELECT 1; SELECT 2")).is_none());
    }
}
