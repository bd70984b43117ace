//! `kill -9` of a store and of the proxy under traffic: who is not concerned notices nothing, and no write that was
//! acknowledged is lost or there twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::task::JoinHandle;

use crate::support::proxy::pair_config;
use crate::support::{PrivateServer, Proxy, Server, eventually, long, stores};

const TABLE: &str = "CREATE TABLE w.writes (id BIGINT PRIMARY KEY AUTO_INCREMENT, n BIGINT NOT NULL, UNIQUE KEY (n))";

fn rounds() -> usize {
    if long() { 200 } else { 3 }
}

/// A client that writes until it is told to stop, and connects again when its connection is gone.
struct Writer {
    over: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

/// What became of the numbers, as the client knows it.
#[derive(Default)]
struct Written {
    /// Answered by OK.
    acknowledged: BTreeSet<u64>,
    /// The connection went away instead.
    unknown: BTreeSet<u64>,
    /// Refused by the proxy, since the store could not be reached: it promises that nothing ran.
    refused: BTreeSet<u64>,
}

impl Written {
    fn troubles(&self) -> usize {
        self.unknown.len() + self.refused.len()
    }
}

impl Writer {
    fn start(proxy: &Proxy, numbers: Arc<AtomicU64>, table: &'static str) -> Writer {
        let over = Arc::new(AtomicBool::new(false));
        let opts = mysql_async::Opts::from(proxy.opts().db_name(Some("w")));
        let told = over.clone();
        let task = tokio::spawn(async move {
            let mut written = Written::default();
            while !told.load(Ordering::Relaxed) {
                let Ok(mut conn) = Conn::new(opts.clone()).await else {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                while !told.load(Ordering::Relaxed) {
                    let n = numbers.fetch_add(1, Ordering::Relaxed);
                    match conn.exec_drop(format!("INSERT INTO {table} (n) VALUES (?)"), (n,)).await {
                        Ok(()) => _ = written.acknowledged.insert(n),
                        Err(Error::Server(said)) if said.code == 1429 => {
                            assert!(said.message.starts_with("switchover: "), "{said}");
                            written.refused.insert(n);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                        Err(error) => {
                            // 1053: the store is shutting down. All else must be the connection itself.
                            let lost = matches!(&error, Error::Io(_) | Error::Driver(_))
                                || matches!(&error, Error::Server(said) if said.code == 1053);
                            assert!(lost, "{error}");
                            written.unknown.insert(n);
                            break;
                        }
                    }
                }
            }
            written
        });
        Writer { over, task }
    }

    async fn stop(self) -> Written {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Everything acknowledged is on the store once, and nothing is there that nobody wrote.
fn judge(store: &Server, table: &str, written: &[Written]) {
    let there: BTreeSet<u64> =
        store.sql(&format!("SELECT n FROM w.{table}")).iter().map(|r| r[0].parse().unwrap()).collect();
    for one in written {
        let lost: Vec<_> = one.acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "acknowledged, and not on the store: {lost:?}");
    }
    let known = |n: &u64| written.iter().any(|one| one.acknowledged.contains(n) || one.unknown.contains(n));
    let strange: Vec<_> = there.iter().filter(|n| !known(n)).collect();
    assert!(strange.is_empty(), "on the store, and written by nobody: {strange:?}");
}

fn pair() -> (PrivateServer, PrivateServer) {
    let pair = (PrivateServer::start(11, &[]), PrivateServer::start(12, &[]));
    for server in [&pair.0, &pair.1] {
        server.sql("CREATE DATABASE w");
        server.sql(TABLE);
        server.sql(&TABLE.replace("w.writes", "w.plain"));
    }
    pair
}

#[tokio::test]
async fn a_killed_store_concerns_its_own_clients_only() {
    let (legacy, mut new) = pair();
    let proxy = Proxy::start(|port| pair_config(port, &legacy, &new, &["writes"]));
    proxy.flag("analytics", "new");
    let numbers = Arc::new(AtomicU64::new(0));
    let grouped: Vec<_> = (0..3).map(|_| Writer::start(&proxy, numbers.clone(), "writes")).collect();
    let plain: Vec<_> = (0..3).map(|_| Writer::start(&proxy, numbers.clone(), "plain")).collect();
    for _ in 0..rounds() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        new.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        new.restart();
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut on_new = Vec::new();
    for writer in grouped {
        on_new.push(writer.stop().await);
    }
    let mut on_legacy = Vec::new();
    for writer in plain {
        on_legacy.push(writer.stop().await);
    }
    assert!(on_legacy.iter().all(|one| one.troubles() == 0), "a client of the store that lives lost its connection");
    assert!(on_new.iter().all(|one| one.troubles() > 0 && !one.acknowledged.is_empty()));
    judge(&new, "writes", &on_new);
    judge(&legacy, "plain", &on_legacy);
    assert!(!proxy.log().contains("panicked"));
}

#[tokio::test]
async fn a_killed_proxy_loses_no_acknowledged_write() {
    let (legacy, new) = pair();
    let mut proxy = Proxy::start(|port| pair_config(port, &legacy, &new, &["writes"]));
    let numbers = Arc::new(AtomicU64::new(0));
    let grouped: Vec<_> = (0..4).map(|_| Writer::start(&proxy, numbers.clone(), "writes")).collect();
    for round in 0..rounds() {
        tokio::time::sleep(Duration::from_millis(400)).await;
        proxy.kill();
        tokio::time::sleep(Duration::from_millis(50)).await;
        if round == 1 {
            // Flipped while no proxy runs: the file is the truth when the next one starts.
            proxy.edit_config(|text| text.replace("connection: legacy", "connection: new"));
        }
        proxy.restart();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut written = Vec::new();
    for writer in grouped {
        written.push(writer.stop().await);
    }
    assert!(written.iter().all(|one| one.troubles() > 0));
    let count = |server: &Server| server.sql("SELECT COUNT(*) FROM w.writes")[0][0].parse::<u64>().unwrap();
    assert!(count(&legacy) > 0 && count(&new) > 0);
    // One table of both stores: what the flag moved in between.
    let rows = new.sql("SELECT n FROM w.writes");
    for chunk in rows.chunks(1_000) {
        let values: Vec<String> = chunk.iter().map(|row| format!("({})", row[0])).collect();
        legacy.sql(&format!("INSERT INTO w.writes (n) VALUES {}", values.join(", ")));
    }
    judge(&legacy, "writes", &written);
    let sessions = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'app'";
    for server in [&legacy, &new] {
        eventually("no session of a dead proxy is left", || server.sql(sessions)[0][0].parse::<usize>().unwrap() <= 4);
    }
}

#[tokio::test]
async fn a_store_that_freezes_holds_nobody_else_up() {
    let new = PrivateServer::start(13, &[]);
    new.sql("CREATE DATABASE w");
    new.sql(TABLE);
    let database = stores().database();
    new.sql(&format!("CREATE DATABASE {}", database.name));
    database.on_legacy("CREATE TABLE plain (n INT PRIMARY KEY)");
    let proxy = Proxy::start(|port| pair_config(port, &stores().legacy, &new, &["writes"]));
    proxy.flag("analytics", "new");
    let mut waiting = proxy.connect(&database.name).await;
    waiting.query_drop("SELECT COUNT(*) FROM w.writes").await.unwrap();
    new.freeze();
    let waiter = tokio::spawn(async move {
        let count: Option<u64> = waiting.query_first("SELECT COUNT(*) FROM w.writes").await.unwrap();
        count
    });
    for n in 0..50 {
        let quick = async {
            let mut conn = proxy.connect(&database.name).await;
            conn.query_drop(format!("INSERT INTO plain VALUES ({n})")).await.unwrap();
            conn.disconnect().await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(5), quick).await.expect("a client of the other store had to wait");
    }
    assert!(!waiter.is_finished());
    new.thaw();
    let count = tokio::time::timeout(Duration::from_secs(10), waiter).await.expect("an answer after the thaw").unwrap();
    assert_eq!(count, Some(0));
}
