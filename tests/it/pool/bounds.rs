//! The pool is bounded, those that wait get their turn, and thousands of clients cost little.

use std::time::{Duration, Instant};

use mysql_async::Error;
use mysql_async::prelude::Queryable;
use switchover::wire::reply::Expect;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Cable, PrivateServer, Proxy, eventually, long, stores};

fn proxy(pool: &str, workers: u32) -> Proxy {
    Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"])
            + &format!("workers: {workers}\npool: {{ mode: transaction, {pool} }}\n")
    })
}

#[tokio::test]
async fn a_full_pool_makes_wait_and_then_says_so() {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT)");
    let proxy = proxy("max_per_store: 2, wait_timeout: 1s", 2);
    proxy.flag("analytics", "new");
    let mut holders = Vec::new();
    for _ in 0..2 {
        let mut conn = proxy.connect(&database.name).await;
        conn.query_drop("BEGIN").await.unwrap();
        holders.push(conn);
    }
    let begun = Instant::now();
    let Err(Error::Server(error)) = mysql_async::Conn::new(proxy.opts()).await.map(|_| ()) else { panic!("room") };
    assert_eq!(error.code, 1040);
    assert!(begun.elapsed() >= Duration::from_millis(900), "it did not wait");
    // who holds a lease does not wait for another
    for conn in &mut holders {
        conn.query_drop("SELECT * FROM hits").await.unwrap();
    }
    // one that waits gets what becomes free
    let port = proxy.port;
    let waiting = tokio::spawn(async move {
        let mut conn = mysql_async::Conn::new(crate::support::mariadb::opts(port)).await.unwrap();
        conn.query_first::<u32, _>("SELECT 3").await.unwrap()
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    holders.pop().unwrap().query_drop("COMMIT").await.unwrap();
    assert_eq!(waiting.await.unwrap(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_take_turns_on_a_few_connections() {
    let database = stores().database();
    database.on_legacy("CREATE TABLE sums (id INT PRIMARY KEY, n INT)");
    let proxy = proxy("max_per_store: 3, wait_timeout: 30s", 2);
    let before = stores().legacy.status("Connections");
    let mut clients = Vec::new();
    for id in 0..24 {
        let mut conn = proxy.connect(&database.name).await;
        clients.push(tokio::spawn(async move {
            conn.query_drop(format!("SET @mine = {id}")).await.unwrap();
            conn.query_drop(format!("INSERT INTO sums VALUES ({id}, 0)")).await.unwrap();
            for n in 1..=20 {
                conn.query_drop("BEGIN").await.unwrap();
                conn.query_drop("UPDATE sums SET n = n + 1 WHERE id = @mine").await.unwrap();
                assert_eq!(conn.affected_rows(), 1);
                conn.query_drop("COMMIT").await.unwrap();
                let seen: Option<(u32, u32)> =
                    conn.query_first("SELECT @mine, n FROM sums WHERE id = @mine").await.unwrap();
                assert_eq!(seen, Some((id, n)));
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(database.on_legacy("SELECT COUNT(*), MIN(n) FROM sums"), [["24", "20"]]);
    let used = stores().legacy.status("Connections") - before;
    println!("24 sessions, 3 at once, {used} connections made");
    assert!(proxy.status()["stores"][0]["idle"].as_u64().unwrap() <= 3);
}

#[test]
fn idle_connections_are_closed_and_the_session_does_not_notice() {
    let database = stores().database();
    let proxy = proxy("idle_timeout: 1s", 1);
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    raw.query("SET @kept = 'still here'");
    eventually("it is closed", || proxy.status()["stores"][0]["idle"] == 0);
    let packets = raw.query("SELECT @kept");
    assert!(packets.iter().any(|(_, p)| p.ends_with(b"still here")), "{packets:?}");
}

#[test]
fn a_lost_idle_connection_is_replaced_where_nothing_is_lost() {
    let mut server = PrivateServer::start(52, &[]);
    let config = |port| pair_config(port, &server, &stores().new, &[]) + "workers: 1\npool: transaction\n";
    let proxy = Proxy::start(config);
    let mut fresh = Raw::app(proxy.port, ORDINARY, "");
    let mut known = Raw::app(proxy.port, ORDINARY, "");
    known.query("SELECT 1");
    server.restart();
    eventually("the store is back", || Raw::error(&fresh.query("SELECT 1")).is_none());
    assert!(Raw::error(&known.query("SELECT 1")).is_none(), "a session that had set nothing lost nothing");
}

#[test]
fn thousands_of_idle_clients_on_a_few_connections() {
    let clients: usize = if long() { 10_000 } else { 2_000 };
    let proxy = proxy("max_per_store: 8", 2);
    let login = || Raw::app(proxy.port, ORDINARY, "");
    // what threads, caches and the allocator take once is not a client's
    let warm: Vec<Raw> = (0..200).map(|_| login()).collect();
    let before = proxy.memory();
    let mut idle: Vec<Raw> = (0..clients).map(|_| login()).collect();
    let each = (proxy.memory().saturating_sub(before)) / clients as u64;
    println!("{clients} idle clients, {each} bytes each");
    assert!(each <= 10 * 1024, "{each} bytes for each idle client");
    let status = proxy.status();
    let held = status["stores"][0]["idle"].as_u64().unwrap() + status["stores"][0]["leases"].as_u64().unwrap();
    assert!(held <= 8, "{held} connections");
    // each of them can still work
    for raw in idle.iter_mut().step_by(clients / 50) {
        assert!(Raw::error(&raw.query("SELECT 1")).is_none());
        raw.send(0x0e, &[]);
        assert!(Raw::error(&raw.response(Expect::Ok)).is_none());
    }
    drop(warm);
}

#[test]
fn pings_need_no_store() {
    let cable = Cable::to(stores().legacy.port);
    let mut legacy = stores().legacy.clone();
    legacy.port = cable.port;
    let proxy = Proxy::start(|port| pair_config(port, &legacy, &stores().new, &[]) + "pool: transaction\n");
    let mut raw = Raw::app(proxy.port, ORDINARY, "");
    cable.cut();
    raw.send(0x0e, &[]);
    assert!(Raw::error(&raw.response(Expect::Ok)).is_none());
    raw.send(0x09, &[]);
    assert!(raw.response(Expect::Text)[0].1.starts_with(b"Uptime: "));
}
