//! A thousand flips under traffic, by the CLI and by editing the file: no client error, no transaction on two stores, no
//! statement behind the flag, no prepared statement left on a store.
//!
//! The proof is on the servers, not in the proxy: every write carries its transaction's number and the `@@server_id` that
//! ran it, so a transaction that was split, lost or run twice shows in the tables of the two stores.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, TxOpts, params};

use crate::support::{Database, LEGACY_ID, NEW_ID, Proxy, eventually, long, stores};

/// Rows that each transaction writes.
const STEPS: u64 = 3;
/// Rows of the table that is streamed.
const BIG: u64 = 20_000;

/// What the clients did.
#[derive(Default)]
struct Done {
    over: AtomicBool,
    next_transaction: AtomicU64,
    committed: AtomicU64,
    streamed: AtomicU64,
    singles: AtomicU64,
    written: AtomicU64,
}

impl Done {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }
}

fn set_up() -> (Database, Proxy) {
    let database = stores().database();
    database.on_both(
        "CREATE TABLE steps (tx BIGINT NOT NULL, step INT NOT NULL, server INT NOT NULL, how VARCHAR(10) NOT NULL,
         PRIMARY KEY (tx, step))",
    );
    database.on_both("CREATE TABLE hits (n BIGINT PRIMARY KEY, server INT NOT NULL)");
    database.on_both("CREATE TABLE big (id INT PRIMARY KEY, server INT NOT NULL, filler VARCHAR(200) NOT NULL)");
    database.on_both(&format!(
        "INSERT INTO big SELECT seq, @@server_id, REPEAT(CHAR(65 + seq % 26), 150) FROM seq_1_to_{BIG}"
    ));
    let proxy = Proxy::pair(&["steps", "big", "hits"]);
    (database, proxy)
}

/// Transactions of prepared statements, or of text; a quarter of them is rolled back.
async fn transactions(mut conn: Conn, done: Arc<Done>, prepared: bool) {
    let how = if prepared { "prepared" } else { "text" };
    while done.goes_on() {
        let tx = done.next_transaction.fetch_add(1, Ordering::Relaxed);
        let mut transaction = conn.start_transaction(TxOpts::default()).await.unwrap();
        for step in 0..STEPS {
            let values = params! { "tx" => tx, "step" => step, "how" => how };
            if prepared {
                let sql = "INSERT INTO steps VALUES (:tx, :step, @@server_id, :how)";
                transaction.exec_drop(sql, values).await.unwrap();
            } else {
                let sql = format!("INSERT INTO steps VALUES ({tx}, {step}, @@server_id, '{how}')");
                transaction.query_drop(sql).await.unwrap();
            }
        }
        let seen: (u64, u64) = transaction
            .exec_first("SELECT COUNT(*), COUNT(DISTINCT server) FROM steps WHERE tx = ?", (tx,))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(seen, (STEPS, 1), "transaction {tx} does not see its own writes");
        if tx.is_multiple_of(4) {
            transaction.rollback().await.unwrap();
        } else {
            transaction.commit().await.unwrap();
            done.committed.fetch_add(1, Ordering::Relaxed);
        }
    }
    conn.disconnect().await.unwrap();
}

/// Whole results, read row by row while the flag moves: all of one result is of one store.
async fn streams(mut conn: Conn, done: Arc<Done>) {
    while done.goes_on() {
        let mut result = conn.query_iter("SELECT id, server, filler FROM big ORDER BY id").await.unwrap();
        let (mut rows, mut servers) = (0, HashSet::new());
        while let Some(row) = result.next().await.unwrap() {
            let (id, server, filler): (u64, u32, String) = mysql_async::from_row::<(u64, u32, String)>(row);
            rows += 1;
            assert_eq!((id, filler.len()), (rows, 150));
            servers.insert(server);
            if rows.is_multiple_of(5_000) {
                tokio::task::yield_now().await;
            }
        }
        drop(result);
        assert_eq!((rows, servers.len()), (BIG, 1));
        done.streamed.fetch_add(1, Ordering::Relaxed);
    }
    conn.disconnect().await.unwrap();
}

/// Statements in autocommit, with one prepared statement that is kept for the whole time.
async fn singles(mut conn: Conn, done: Arc<Done>) {
    let point = conn.prep("SELECT server, @@server_id FROM big WHERE id = ?").await.unwrap();
    let mut id = 0;
    while done.goes_on() {
        id = id % BIG + 1;
        let (stored, server): (u32, u32) = conn.exec_first(&point, (id,)).await.unwrap().unwrap();
        assert_eq!(stored, server);
        done.singles.fetch_add(1, Ordering::Relaxed);
    }
    conn.disconnect().await.unwrap();
}

/// Writes in autocommit, every second one by a prepared statement that is kept for the whole time.
async fn writes(mut conn: Conn, done: Arc<Done>) {
    let insert = conn.prep("INSERT INTO hits VALUES (?, @@server_id)").await.unwrap();
    while done.goes_on() {
        let n = done.written.fetch_add(1, Ordering::Relaxed);
        if n.is_multiple_of(2) {
            conn.exec_drop(&insert, (n,)).await.unwrap();
        } else {
            conn.query_drop(format!("INSERT INTO hits VALUES ({n}, @@server_id)")).await.unwrap();
        }
        assert_eq!(conn.affected_rows(), 1);
    }
    conn.disconnect().await.unwrap();
}

/// Transaction → number of steps, as a store has them.
fn on_store(database: &Database, new: bool) -> HashSet<u64> {
    let id = if new { NEW_ID } else { LEGACY_ID };
    let run = |sql: &str| if new { database.on_new(sql) } else { database.on_legacy(sql) };
    let torn = run(&format!(
        "SELECT tx FROM steps GROUP BY tx HAVING COUNT(*) <> {STEPS} OR MIN(server) <> {id} OR MAX(server) <> {id}"
    ));
    assert!(torn.is_empty(), "transactions not whole on store {id}: {torn:?}");
    run("SELECT DISTINCT tx FROM steps").iter().map(|row| row[0].parse().unwrap()).collect()
}

/// Moves the flag as an operator with an editor does, who says why in a comment; returns when the proxy serves the file.
fn edit(proxy: &Proxy, store: &str) {
    let epoch = proxy.status()["epoch"].as_u64().unwrap();
    let line = |store: &str| format!("connection: {store}");
    let other = if store == "new" { "legacy" } else { "new" };
    proxy.edit_config(|text| text.replace(&line(other), &line(store)) + &format!("# after epoch {epoch}\n"));
    eventually("the saved file is served", || proxy.status()["epoch"].as_u64().unwrap() > epoch);
}

#[tokio::test]
async fn a_thousand_flips_split_no_transaction_and_break_no_client() {
    let flips = match (long(), crate::support::proxy::in_transaction_mode()) {
        (true, _) => 20_000,
        (false, true) => 60,
        (false, false) => 1_000,
    };
    let (database, proxy) = set_up();
    let proxy = Arc::new(proxy);
    let prepared = || [&stores().legacy, &stores().new].map(|store| store.status("Prepared_stmt_count"));
    let before = prepared();
    let done = Arc::new(Done::default());
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(tokio::spawn(transactions(proxy.connect(&database.name).await, done.clone(), number % 2 == 0)));
    }
    clients.push(tokio::spawn(streams(proxy.connect(&database.name).await, done.clone())));
    for _ in 0..2 {
        clients.push(tokio::spawn(singles(proxy.connect(&database.name).await, done.clone())));
        clients.push(tokio::spawn(writes(proxy.connect(&database.name).await, done.clone())));
    }

    let mut witness = proxy.connect(&database.name).await;
    for flip in 0..flips {
        let (store, id) = if flip % 2 == 0 { ("new", NEW_ID) } else { ("legacy", LEGACY_ID) };
        let operator = proxy.clone();
        let by_hand = flip % 10 == 9;
        let flipped = move || match by_hand {
            true => edit(&operator, store),
            false => operator.flag_at_once("analytics", store),
        };
        tokio::task::spawn_blocking(flipped).await.unwrap();
        // The command has returned: from now on no statement goes where the flag was.
        let row: Row = witness.query_first("SELECT @@server_id, server FROM big LIMIT 1").await.unwrap().unwrap();
        assert_eq!(mysql_async::from_row::<(u32, u32)>(row), (id, id), "flip {flip} had not happened when it said so");
        assert!(clients.iter().all(|client| !client.is_finished()), "a client has failed by flip {flip}");
    }
    done.over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }

    let (legacy, new) = (on_store(&database, false), on_store(&database, true));
    assert!(legacy.is_disjoint(&new), "on both stores: {:?}", legacy.intersection(&new));
    let committed = done.committed.load(Ordering::Relaxed);
    assert_eq!((legacy.len() + new.len()) as u64, committed);
    assert!(legacy.iter().chain(&new).all(|tx| !tx.is_multiple_of(4)), "a rolled back transaction is there");
    assert!(legacy.len() > 3 && new.len() > 3, "the load ran on one store: {} and {}", legacy.len(), new.len());
    let written = |rows: Vec<Vec<String>>| rows.into_iter().map(|row| row[0].clone()).collect::<HashSet<_>>();
    let (on_legacy, on_new) =
        (written(database.on_legacy("SELECT n FROM hits")), written(database.on_new("SELECT n FROM hits")));
    assert!(on_legacy.is_disjoint(&on_new) && !on_legacy.is_empty() && !on_new.is_empty());
    assert_eq!((on_legacy.len() + on_new.len()) as u64, done.written.load(Ordering::Relaxed));
    assert_eq!(database.on_legacy(&format!("SELECT COUNT(*) FROM hits WHERE server <> {LEGACY_ID}")), [["0"]]);
    assert_eq!(database.on_new(&format!("SELECT COUNT(*) FROM hits WHERE server <> {NEW_ID}")), [["0"]]);
    witness.disconnect().await.unwrap();
    eventually("no prepared statement is left", || prepared().iter().zip(before).all(|(now, then)| *now <= then));
    println!(
        "{flips} flips, {committed} transactions, {} streams, {} statements",
        done.streamed.load(Ordering::Relaxed),
        done.singles.load(Ordering::Relaxed)
    );
}
