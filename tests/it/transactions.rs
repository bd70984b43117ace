//! One transaction over two stores: who begins, who joins, who ends, and what an error means for the others.

use mysql_async::Error;
use mysql_async::prelude::Queryable;

use crate::support::orders::{ground, run, values};
use crate::support::{Proxy, stores};

#[tokio::test]
async fn both_stores_commit_or_roll_back_together() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["BEGIN", "UPDATE orders SET n = 1", "UPDATE hits SET n = 1", "COMMIT"]).await;
    assert_eq!(values(&database), ("2".into(), "2".into()));
    run(&mut conn, &["START TRANSACTION", "UPDATE hits SET n = 5", "UPDATE orders SET n = 5", "ROLLBACK"]).await;
    assert_eq!(values(&database), ("2".into(), "2".into()));
    // autocommit = 0, as Django does it
    run(&mut conn, &["SET autocommit = 0", "UPDATE hits SET n = 3", "UPDATE orders SET n = 3"]).await;
    assert_eq!(values(&database), ("2".into(), "2".into()));
    run(&mut conn, &["COMMIT"]).await;
    assert_eq!(values(&database), ("6".into(), "6".into()));
    run(&mut conn, &["UPDATE hits SET n = 9", "ROLLBACK", "SET autocommit = 1"]).await;
    assert_eq!(values(&database), ("6".into(), "6".into()));
}

#[tokio::test]
async fn savepoints_reach_the_store_that_joins_late() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["BEGIN", "UPDATE orders SET n = 1", "SAVEPOINT a", "UPDATE hits SET n = 1", "SAVEPOINT b"]).await;
    run(&mut conn, &["UPDATE hits SET n = 7", "ROLLBACK TO b", "RELEASE SAVEPOINT b", "COMMIT"]).await;
    assert_eq!(values(&database), ("2".into(), "2".into()));
    run(
        &mut conn,
        &["BEGIN", "SAVEPOINT a", "UPDATE hits SET n = 7", "UPDATE orders SET n = 7", "ROLLBACK TO a", "COMMIT"],
    )
    .await;
    assert_eq!(values(&database), ("2".into(), "2".into()));
}

#[tokio::test]
async fn what_commits_implicitly_commits_everywhere() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["BEGIN", "UPDATE hits SET n = 1", "UPDATE orders SET n = 1", "BEGIN"]).await;
    assert_eq!(values(&database), ("2".into(), "2".into()));
    run(&mut conn, &["UPDATE hits SET n = 2", "CREATE TABLE other (id INT)"]).await;
    assert_eq!(values(&database), ("2".into(), "4".into()));
    run(&mut conn, &["BEGIN", "UPDATE orders SET n = 2", "TRUNCATE hits"]).await;
    assert_eq!(database.on_legacy("SELECT SUM(n) FROM orders"), [["4"]]);
}

#[tokio::test]
async fn a_deadlock_on_one_store_rolls_the_other_back_before_the_client_hears_of_it() {
    let (database, proxy) = ground();
    let mut a = proxy.connect(&database.name).await;
    let mut b = stores().new.connect().await;
    run(&mut b, &[&format!("USE {}", database.name), "BEGIN"]).await;
    // b holds more, so that a is the victim
    run(&mut b, &["INSERT INTO hits SELECT seq + 100, 0 FROM seq_1_to_50", "UPDATE hits SET n = 1 WHERE id = 2"]).await;
    run(&mut a, &["BEGIN", "UPDATE orders SET n = 9", "UPDATE hits SET n = 9 WHERE id = 1"]).await;
    let waiting = tokio::spawn(async move {
        let end = b.query_drop("UPDATE hits SET n = 1 WHERE id = 1").await;
        (b, end)
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let Err(Error::Server(error)) = a.query_drop("UPDATE hits SET n = 9 WHERE id = 2").await else {
        panic!("no deadlock")
    };
    assert_eq!(error.code, 1213);
    // nothing of a is left on the other store, and its locks are free
    assert_eq!(database.on_legacy("SELECT SUM(n) FROM orders"), [["0"]]);
    database.on_legacy("SET STATEMENT innodb_lock_wait_timeout = 1 FOR UPDATE orders SET n = 0");
    run(&mut a, &["UPDATE orders SET n = 1 WHERE id = 1"]).await;
    assert_eq!(database.on_legacy("SELECT SUM(n) FROM orders"), [["1"]]);
    let (_b, end) = waiting.await.unwrap();
    end.unwrap();
}

#[tokio::test]
async fn a_consistent_snapshot_and_xa_stay_on_one_store() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT * FROM orders"]).await;
    let Err(Error::Server(error)) = conn.query_drop("SELECT * FROM hits").await else { panic!("not refused") };
    assert!(error.code == 1235 && error.message.contains("CONSISTENT SNAPSHOT"), "{error}");
    run(&mut conn, &["COMMIT", "SELECT * FROM hits"]).await;
    run(&mut conn, &["XA START 'x'", "UPDATE orders SET n = 4"]).await;
    let Err(Error::Server(error)) = conn.query_drop("UPDATE hits SET n = 4").await else { panic!("not refused") };
    assert_eq!(error.code, 1235);
    run(&mut conn, &["XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'", "UPDATE hits SET n = 1"]).await;
    assert_eq!(values(&database), ("8".into(), "2".into()));
}

#[tokio::test]
async fn read_only_reaches_the_store_that_joins() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["START TRANSACTION READ ONLY", "SELECT * FROM hits"]).await;
    let Err(Error::Server(error)) = conn.query_drop("UPDATE hits SET n = 4").await else { panic!("written") };
    assert_eq!(error.code, 1792);
    run(&mut conn, &["COMMIT", "UPDATE hits SET n = 4"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_rolls_both_back() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["BEGIN", "UPDATE orders SET n = 1", "UPDATE hits SET n = 1"]).await;
    drop(conn);
    crate::support::eventually("the locks are free", || {
        let free = |s: &crate::support::Server, t: &str| {
            let sql = format!("SET STATEMENT innodb_lock_wait_timeout = 1 FOR UPDATE {t} SET n = 0");
            s.try_sql(Some(&database.name), &sql).is_ok()
        };
        free(&stores().legacy, "orders") && free(&stores().new, "hits")
    });
    assert_eq!(values(&database), ("0".into(), "0".into()));
}

#[tokio::test]
async fn lock_tables_over_two_stores_locks_on_each() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    run(&mut conn, &["LOCK TABLES orders READ, hits AS h READ"]).await;
    for (server, table) in [(&stores().legacy, "orders"), (&stores().new, "hits")] {
        let sql = format!("SET STATEMENT lock_wait_timeout = 1 FOR INSERT INTO {table} VALUES (50, 0)");
        assert!(server.try_sql(Some(&database.name), &sql).is_err(), "{table} is not locked");
    }
    run(&mut conn, &["SELECT * FROM orders", "SELECT * FROM hits AS h", "UNLOCK TABLES"]).await;
    database.on_legacy("INSERT INTO orders VALUES (50, 0)");
    database.on_new("INSERT INTO hits VALUES (50, 0)");
}

#[tokio::test]
async fn a_group_may_keep_its_transactions_to_one_store() {
    let database = stores().database();
    database.on_both("CREATE TABLE orders (id INT PRIMARY KEY, n INT)");
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY, n INT)");
    let proxy = Proxy::start(|port| {
        crate::support::proxy::pair_config(port, &stores().legacy, &stores().new, &["hits"])
            .replace("connection: legacy", "connection: new\n    cross_store_transactions: refuse")
    });
    let mut conn = proxy.connect(&database.name).await;
    for (first, second) in [("orders", "hits"), ("hits", "orders")] {
        run(&mut conn, &["BEGIN", &format!("INSERT INTO {first} VALUES (1, 1)")]).await;
        let Err(Error::Server(error)) = conn.query_drop(format!("INSERT INTO {second} VALUES (1, 1)")).await else {
            panic!("{first}, then {second}: not refused")
        };
        assert!(error.code == 1235 && error.message.contains("cross_store_transactions"), "{error}");
        run(&mut conn, &["ROLLBACK", &format!("SELECT * FROM {second}")]).await;
    }
}
