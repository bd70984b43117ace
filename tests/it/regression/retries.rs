//! Rules 20–22: retries, kills, idling, and what a connection leaves to the next.
//!
//! In `routing.rs`: a store that cannot be reached fails only the statements that need it (20). In `login.rs`: KILL of a proxied
//! session (20). Rule 22's pool is in `pool/leases.rs`; COM_SET_OPTION is tested here too.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Cable, Database, PrivateServer, Proxy, eventually, stores};

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, server INT)"));
        database.on_both(&format!("INSERT INTO {table} (server) VALUES (@@server_id)"));
    }
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

/// The client's connection is gone: no error of anybody's, no answer.
fn assert_lost(outcome: Result<(), Error>, what: &str) {
    match outcome {
        Err(Error::Io(_) | Error::Driver(_)) => {}
        // the store's own last words, passed on
        Err(Error::Server(e)) if matches!(e.code, 1053 | 1927) => {}
        other => panic!("{what}: {other:?}"),
    }
}

async fn server(conn: &mut Conn, table: &str) -> Option<u32> {
    conn.query_first(format!("SELECT server FROM {table} WHERE id = 1")).await.unwrap()
}

#[tokio::test]
async fn rule_20_a_killed_session_is_not_brought_back_by_a_retry() {
    let (database, proxy) = ground();
    let mut admin = proxy.connect(&database.name).await;
    for used_other in [false, true] {
        let mut victim = proxy.connect(&database.name).await;
        let id: u64 = victim.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        victim.query_drop("SET @secret = 1").await.unwrap();
        if used_other {
            assert_eq!(server(&mut victim, "hits").await, Some(2));
        }
        admin.query_drop(format!("KILL {id}")).await.unwrap();
        let table = if used_other { "hits" } else { "sites" };
        // KILL does not wait for its victim; once it has struck, no statement is answered any more
        let mut outcome = Ok(());
        for _ in 0..200 {
            outcome = victim.query_drop(format!("SELECT server FROM {table}")).await;
            if outcome.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_lost(outcome, "after KILL");
        assert!(victim.query_drop("SELECT 1").await.is_err(), "the session came back");
        eventually("nothing of it is left", || {
            proxy.cli(&["sessions", "--json"]).stdout.matches(&format!(":{id},")).count() == 0
                && stores().new.sessions_in(&database.name) == 0
        });
    }
    assert_eq!(server(&mut admin, "sites").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_20_a_store_lost_under_a_running_statement_closes_the_client_and_repeats_nothing() {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, server INT)");
    let cable = Cable::to(stores().new.port);
    let mut new = stores().new.clone();
    new.port = cable.port;
    let proxy = Proxy::start(|port| pair_config(port, &stores().legacy, &new, &["hits"]));
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("INSERT INTO hits (server) VALUES (1)").await.unwrap();
    // its outcome is unknown: the client must not be told that it failed, nor may it run twice
    let running =
        tokio::spawn(async move { conn.query_drop("INSERT INTO hits (server) SELECT 2 + 0 * SLEEP(1.5)").await });
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND info LIKE '%SLEEP(1.5)%' AND id <> CONNECTION_ID()",
        database.name
    );
    eventually("it runs", || stores().new.sql(&sql) == [["1"]]);
    cable.cut();
    assert_lost(running.await.unwrap(), "cut");
    cable.mend();
    eventually("it has ended", || stores().new.sql(&sql) == [["0"]]);
    let rows = database.on_new("SELECT COUNT(*) FROM hits WHERE server = 2");
    assert!(rows == [["0"]] || rows == [["1"]], "it ran again: {rows:?}");
    let mut again = proxy.connect(&database.name).await;
    again.query_drop("INSERT INTO hits (server) VALUES (3)").await.unwrap();
}

#[tokio::test]
async fn rule_20_an_idle_connection_that_was_lost_is_replaced_where_nothing_was_lost_with_it() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SET time_zone = '+02:00', @kept = 'yes'").await.unwrap();
    assert_eq!(server(&mut conn, "hits").await, Some(2));
    let sql = format!("SELECT id FROM information_schema.processlist WHERE user = 'app' AND db = '{}'", database.name);
    let kill = || {
        for row in stores().new.sql(&sql) {
            stores().new.sql(&format!("KILL {}", row[0]));
        }
        eventually("it is gone", || stores().new.sql(&sql).is_empty());
    };
    kill();
    let row: Option<(u32, String, String)> =
        conn.query_first("SELECT server, @@time_zone, @kept FROM hits WHERE id = 1").await.unwrap();
    assert_eq!(row, Some((2, "+02:00".to_owned(), "yes".to_owned())));
    // with a transaction on it, something was lost
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("UPDATE hits SET server = 2").await.unwrap();
    kill();
    assert_lost(conn.query_drop("UPDATE hits SET server = 2").await, "a transaction was lost");
}

#[tokio::test]
async fn rule_21_the_stores_wait_timeouts_pass_while_the_client_is_elsewhere() {
    let (home, new) =
        (PrivateServer::start(31, &["--wait-timeout=8"]), PrivateServer::start(32, &["--wait-timeout=1"]));
    for store in [&home, &new] {
        store.sql("CREATE DATABASE w");
        for table in ["hits", "sites"] {
            store.sql(&format!("CREATE TABLE w.{table} (id INT PRIMARY KEY, server INT)"));
            store.sql(&format!("INSERT INTO w.{table} VALUES (1, @@server_id)"));
        }
    }
    let proxy = Proxy::start(|port| pair_config(port, &home, &new, &["hits"]));
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect("w").await;
    conn.query_drop("SET @kept = 5").await.unwrap();
    assert_eq!(server(&mut conn, "hits").await, Some(32));
    // the other store's timeout, while the client uses home
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(server(&mut conn, "sites").await, Some(31));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(server(&mut conn, "hits").await, Some(32));
    // with something to lose there, which no new connection would bring back
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("UPDATE hits SET server = 33").await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(server(&mut conn, "sites").await, Some(31));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    conn.query_drop("UPDATE hits SET server = server - 1").await.unwrap();
    conn.query_drop("COMMIT").await.unwrap();
    // home's timeout, while the client uses the other
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(11) {
        assert_eq!(server(&mut conn, "hits").await, Some(32));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(server(&mut conn, "sites").await, Some(31));
    assert_eq!(conn.query_first::<u32, _>("SELECT @kept").await.unwrap(), Some(5));
    // a client that is idle itself is let go as its own store would let it go, not before and not never
    assert_eq!(conn.query_first::<u32, _>("SELECT @@wait_timeout").await.unwrap(), Some(8));
}

#[test]
fn rule_22_several_statements_are_allowed_on_no_store_unless_the_client_asked() {
    let (database, proxy) = ground();
    let single = ORDINARY - Capabilities::MULTI_STATEMENTS;
    let mut raw = Raw::app(proxy.port, single, &database.name);
    let both =
        ["SELECT 1; SELECT 2", "SELECT server FROM hits; SELECT server FROM hits", "SELECT 1; SELECT server FROM hits"];
    for text in both {
        let packets = raw.query(text);
        assert_eq!(Raw::error(&packets).expect(text).code, 1064, "{text}");
    }
    // COM_SET_OPTION turns it on, for every store, and off again
    for (option, allowed) in [(0u8, true), (1, false), (0, true)] {
        raw.send(0x1b, &[option, 0]);
        assert!(Raw::error(&raw.response(Expect::Ok)).is_none());
        for text in both {
            let packets = raw.query(text);
            assert_eq!(Raw::error(&packets).is_none(), allowed, "{text} after option {option}");
        }
    }
}
