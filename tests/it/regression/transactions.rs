//! Rules 5–8: one transaction over two stores.
//!
//! In `transactions.rs`: lazy BEGIN, implicit commits by BEGIN, DDL and TRUNCATE, autocommit = 0 (5); a deadlock on one store (6);
//! savepoints, CONSISTENT SNAPSHOT, XA, READ ONLY (7). In `routing.rs`: references and locking reads, and reads of tables that
//! the transaction wrote (8). Here: what those leave open.

use mysql_async::Error;
use mysql_async::prelude::Queryable;

use crate::support::orders::{ground, run, values};
use crate::support::proxy::pair_config;
use crate::support::{Database, PrivateServer, Proxy, eventually, stores};

fn both(value: &str) -> (String, String) {
    (value.to_owned(), value.to_owned())
}

/// Ids of the threads on the new store that have this database.
fn threads_on_new(database: &Database) -> Vec<String> {
    let sql = format!("SELECT id FROM information_schema.processlist WHERE user = 'app' AND db = '{}'", database.name);
    stores().new.sql(&sql).into_iter().map(|row| row[0].clone()).collect()
}

#[tokio::test]
async fn rule_05_autocommit_on_and_ddl_commit_on_every_store() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["SET autocommit = 0", "UPDATE hits SET n = 1", "UPDATE orders SET n = 1"]).await;
    assert_eq!(values(&database), both("0"));
    run(&mut conn, &["SET autocommit = 1"]).await;
    assert_eq!(values(&database), both("2"));
    // DDL on the one store commits what was open on the other
    run(&mut conn, &["BEGIN", "UPDATE hits SET n = 2", "UPDATE orders SET n = 2", "ALTER TABLE hits ADD COLUMN x INT"])
        .await;
    assert_eq!(values(&database), both("4"));
    run(&mut conn, &["ROLLBACK"]).await;
    assert_eq!(values(&database), both("4"));
}

#[tokio::test]
async fn rule_05_begin_releases_lock_tables_on_every_store() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(
        &mut conn,
        &["LOCK TABLES orders WRITE, hits WRITE", "UPDATE orders SET n = 1", "UPDATE hits SET n = 1", "BEGIN"],
    )
    .await;
    for (server, table) in [(&stores().legacy, "orders"), (&stores().new, "hits")] {
        let sql = format!("SET STATEMENT lock_wait_timeout = 2 FOR INSERT INTO {table} VALUES (50, 0)");
        server.try_sql(Some(&database.name), &sql).unwrap_or_else(|e| panic!("{table} is still locked: {e}"));
    }
    run(&mut conn, &["ROLLBACK"]).await;
    assert_eq!(values(&database), both("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_06_a_store_that_is_lost_in_a_transaction_takes_the_other_with_it() {
    let (database, proxy) = ground();
    for at_commit in [false, true] {
        let mut conn = proxy.connect(&database.name).await;
        run(&mut conn, &["BEGIN", "UPDATE orders SET n = 9 WHERE id = 1", "UPDATE hits SET n = 9 WHERE id = 1"]).await;
        for id in threads_on_new(&database) {
            stores().new.sql(&format!("KILL {id}"));
        }
        let statement = if at_commit { "COMMIT" } else { "UPDATE hits SET n = 9 WHERE id = 2" };
        // 2013 is a client's own code: it is told by a closed connection, not by an error of ours (rule 20)
        match conn.query_drop(statement).await {
            Err(Error::Io(_) | Error::Driver(_)) => {}
            other => panic!("{statement}: {other:?}"),
        }
        eventually("nothing is left, and nothing is locked", || {
            let sql = "SET STATEMENT innodb_lock_wait_timeout = 1 FOR UPDATE orders SET n = n WHERE id = 1";
            stores().legacy.try_sql(Some(&database.name), sql).is_ok()
        });
        assert_eq!(values(&database), both("0"), "after {statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_06_an_ordinary_error_leaves_the_transaction_open_on_both() {
    let (database, proxy) = ground();
    database.on_new("INSERT INTO hits VALUES (9, 0)");
    let mut conn = proxy.connect(&database.name).await;
    let updates = ["UPDATE hits SET n = 1 WHERE id = 1", "UPDATE hits SET n = 1 WHERE id = 2"];
    run(&mut conn, &["BEGIN", "UPDATE orders SET n = 1", updates[0], updates[1]]).await;
    let Err(Error::Server(error)) = conn.query_drop("INSERT INTO hits VALUES (1, 1)").await else { panic!("no error") };
    assert_eq!(error.code, 1062);
    // a lock wait that times out rolls back its statement only, unless the server is told otherwise
    let mut blocker = stores().new.connect().await;
    run(&mut blocker, &[&format!("USE {}", database.name), "BEGIN", "UPDATE hits SET n = 7 WHERE id = 9"]).await;
    run(&mut conn, &["SET SESSION innodb_lock_wait_timeout = 1"]).await;
    let Err(Error::Server(error)) = conn.query_drop("UPDATE hits SET n = 5 WHERE id = 9").await else {
        panic!("no error")
    };
    assert_eq!(error.code, 1205);
    run(&mut blocker, &["ROLLBACK"]).await;
    run(&mut conn, &["COMMIT"]).await;
    assert_eq!(values(&database), both("2"));
}

#[tokio::test]

async fn rule_07_one_shots_bind_to_the_next_transaction_wherever_it_runs() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    let mut writer = stores().new.connect().await;
    run(&mut writer, &[&format!("USE {}", database.name), "BEGIN", "UPDATE hits SET n = 7"]).await;
    let seen = "SELECT n FROM hits WHERE id = 1";
    run(&mut conn, &["SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "BEGIN"]).await;
    assert_eq!(conn.query_first::<i32, _>(seen).await.unwrap(), Some(7), "the one-shot did not reach the new store");
    run(&mut conn, &["COMMIT"]).await;
    assert_eq!(conn.query_first::<i32, _>(seen).await.unwrap(), Some(0), "the one-shot outlived its transaction");
    run(&mut conn, &["BEGIN"]).await;
    assert_eq!(conn.query_first::<i32, _>(seen).await.unwrap(), Some(0));
    run(&mut conn, &["COMMIT", "SET @@tx_isolation = 'READ-UNCOMMITTED'"]).await;
    run(&mut conn, &["BEGIN"]).await;
    assert_eq!(
        conn.query_first::<i32, _>(seen).await.unwrap(),
        Some(7),
        "SET @@tx_isolation without scope is a one-shot"
    );
    run(&mut conn, &["COMMIT"]).await;
    assert_eq!(conn.query_first::<i32, _>(seen).await.unwrap(), Some(0));
    run(&mut writer, &["ROLLBACK"]).await;
}

#[tokio::test]
async fn rule_07_savepoints_are_replayed_in_their_order() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(
        &mut conn,
        &["BEGIN", "UPDATE orders SET n = 1", "SAVEPOINT a", "SAVEPOINT b", "SAVEPOINT a", "UPDATE hits SET n = 1"],
    )
    .await;
    // the second a replaced the first: rolling back to b forgets it
    run(&mut conn, &["ROLLBACK TO SAVEPOINT b"]).await;
    for table in ["orders", "hits"] {
        let Err(Error::Server(error)) = conn.query_drop("ROLLBACK TO SAVEPOINT a").await else { panic!("{table}") };
        assert_eq!(error.code, 1305);
    }
    run(&mut conn, &["COMMIT"]).await;
    assert_eq!(values(&database), ("2".into(), "0".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_06_a_lock_wait_that_rolls_back_takes_the_other_store_with_it() {
    let new = PrivateServer::start(22, &["--innodb-rollback-on-timeout", "--innodb-lock-wait-timeout=1"]);
    let database = stores().database();
    database.on_legacy("CREATE TABLE orders (id INT PRIMARY KEY, n INT) ENGINE=InnoDB");
    database.on_legacy("INSERT INTO orders VALUES (1, 0)");
    new.sql(&format!("CREATE DATABASE {}", database.name));
    new.sql_in(&database.name, "CREATE TABLE hits (id INT PRIMARY KEY, n INT) ENGINE=InnoDB");
    new.sql_in(&database.name, "INSERT INTO hits VALUES (1, 0), (2, 0)");
    let proxy = Proxy::start(|port| pair_config(port, &stores().legacy, &new, &["hits"]));
    proxy.flag("analytics", "new");
    let mut blocker = new.connect().await;
    run(&mut blocker, &[&format!("USE {}", database.name), "BEGIN", "UPDATE hits SET n = 7 WHERE id = 2"]).await;
    let mut conn = proxy.connect(&database.name).await;
    for several in [false, true] {
        run(&mut conn, &["BEGIN", "UPDATE orders SET n = 1", "UPDATE hits SET n = 1 WHERE id = 1"]).await;
        let text = if several {
            "UPDATE orders SET n = 2; UPDATE hits SET n = 5 WHERE id = 2"
        } else {
            "UPDATE hits SET n = 5 WHERE id = 2"
        };
        let mut answer = conn.query_iter(text).await;
        if several && let Ok(result) = &mut answer {
            let _: Vec<mysql_async::Row> = result.collect().await.unwrap();
            let Err(Error::Server(error)) = result.collect::<mysql_async::Row>().await else { panic!("no error") };
            assert_eq!(error.code, 1205);
        } else {
            let Err(Error::Server(error)) = answer.map(drop) else { panic!("no error") };
            assert_eq!(error.code, 1205);
        }
        // an application that retries what failed, and commits, must not commit half of it
        run(&mut conn, &["COMMIT"]).await;
        assert_eq!(database.on_legacy("SELECT n FROM orders"), [["0"]], "several: {several}");
        assert_eq!(new.sql_in(&database.name, "SELECT n FROM hits WHERE id = 1"), [["0"]]);
    }
    run(&mut blocker, &["ROLLBACK"]).await;
}
