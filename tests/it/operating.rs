//! Operating a proxy: hot reload, the slow-query log, the PROXY protocol in and out, and many idle clients.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;

use mysql_async::prelude::Queryable;
use rustix::process::Signal;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw, read_packet};
use crate::support::{Database, PrivateServer, Proxy, clients, eventually, stores};
use switchover::wire::handshake::Greeting;

fn hits() -> Database {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, server INT)");
    database.on_both("INSERT INTO hits (server) VALUES (@@server_id)");
    database
}

fn config(port: u16) -> String {
    pair_config(port, &stores().legacy, &stores().new, &["hits"])
}

#[tokio::test]
async fn a_broken_file_changes_nothing_and_is_told_until_it_is_mended() {
    let (database, proxy) = (hits(), Proxy::pair(&["hits"]));
    let mut conn = proxy.connect(&database.name).await;
    let good = std::fs::read_to_string(&proxy.config_path).unwrap();
    let epoch = proxy.status()["epoch"].clone();
    for (broken, word) in [
        (good.replace("connection: legacy", "connection: nwe"), "nwe"),
        (good.replace("tables:", "tabels:"), "tabels"),
        (good.replace("connection: legacy", "connection: new\n    shadwo: 1"), "shadwo"),
        (String::new(), "empty"),
    ] {
        proxy.edit_config(|_| broken);
        eventually("the proxy says so", || {
            let error = &proxy.status()["config_error"];
            error.is_object() && error.to_string().contains(word)
        });
        assert_eq!(proxy.status()["epoch"], epoch);
        assert_eq!(conn.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(1));
        // (a flag that is the only mistake is mended by setting it)
        assert!(word == "nwe" || !proxy.cli(&["flag", "analytics", "new"]).ok, "a flag was set in a broken file");
        assert!(proxy.log().contains("the old one stays"));
    }
    proxy.edit_config(|_| good.replace("connection: legacy", "connection: new"));
    eventually("the good file is in force", || {
        let status = proxy.status();
        status["config_error"].is_null() && status["groups"][0]["connection"] == "new"
    });
    assert_eq!(conn.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(2));
}

#[tokio::test]
async fn every_way_of_saving_is_seen() {
    let (database, proxy) = (hits(), Proxy::pair(&["hits"]));
    let mut conn = proxy.connect(&database.name).await;
    let path = &proxy.config_path;
    let with = |store: &str| config(proxy.port).replace("connection: legacy", &format!("connection: {store}"));
    let served = |store: &str| proxy.status()["groups"][0]["connection"] == store;
    // written in place
    std::fs::write(path, with("new")).unwrap();
    eventually("in place", || served("new"));
    // replaced by another file, as editors do
    let before = std::fs::metadata(path).unwrap().ino();
    proxy.edit_config(|_| with("legacy"));
    assert_ne!(std::fs::metadata(path).unwrap().ino(), before);
    eventually("replaced", || served("legacy"));
    // removed for a moment
    std::fs::remove_file(path).unwrap();
    assert_eq!(conn.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(1));
    std::fs::write(path, with("new")).unwrap();
    eventually("written anew", || served("new"));
    // a link that is pointed elsewhere, as mounts of ConfigMaps do it
    let (one, two, link) = (proxy.folder.join("one"), proxy.folder.join("two"), proxy.folder.join("link"));
    std::fs::write(&one, with("legacy")).unwrap();
    std::fs::write(&two, with("new")).unwrap();
    for (target, store) in [(&one, "legacy"), (&two, "new"), (&one, "legacy")] {
        std::os::unix::fs::symlink(target, &link).unwrap();
        std::fs::rename(&link, path).unwrap();
        eventually("linked", || served(store));
    }
    // SIGHUP, and `reload`, of a file that says the same: the epoch stays
    let epoch = proxy.status()["epoch"].clone();
    proxy.signal(Signal::HUP);
    assert!(proxy.cli(&["reload"]).ok);
    assert_eq!(proxy.status()["epoch"], epoch);
    // a comment is no change either
    std::fs::write(path, with("legacy") + "# a comment\n").unwrap();
    assert!(proxy.cli(&["reload"]).ok);
    assert_eq!(proxy.status()["epoch"], epoch);
    assert_eq!(conn.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(1));
}

#[test]
fn a_file_that_is_put_back_right_after_a_flag_is_seen() {
    let proxy = Proxy::pair(&["hits"]);
    let before = std::fs::read_to_string(&proxy.config_path).unwrap();
    proxy.flag_at_once("analytics", "new");
    proxy.edit_config(|_| before);
    eventually("the file is served", || proxy.status()["groups"][0]["connection"] == "legacy");
}

#[tokio::test]
async fn a_thousand_tables_in_ten_groups_are_told_apart() {
    let database = stores().database();
    let asked: &[usize] = &[0, 99, 500, 999];
    for n in asked {
        database.on_both(&format!("CREATE TABLE table_{n} (server INT)"));
        database.on_both(&format!("INSERT INTO table_{n} VALUES (@@server_id)"));
    }
    let proxy = Proxy::start(|port| {
        let mut text = pair_config(port, &stores().legacy, &stores().new, &[]) + "groups:\n";
        for group in 0..10 {
            let tables: Vec<_> = (0..100).map(|n| format!("table_{}", group * 100 + n)).collect();
            let store = if group % 2 == 0 { "new" } else { "legacy" };
            writeln!(text, "  g{group}:\n    tables: [{}]\n    connection: {store}", tables.join(", ")).unwrap();
        }
        text
    });
    let mut conn = proxy.connect(&database.name).await;
    let mut check = async |moved: bool| {
        for n in asked {
            let on_new = (n / 100 % 2 == 0) != (moved && *n < 100);
            let server: Option<u32> = conn.query_first(format!("SELECT server FROM table_{n}")).await.unwrap();
            assert_eq!(server, Some(if on_new { 2 } else { 1 }), "table_{n}");
        }
    };
    check(false).await;
    proxy.flag("g0", "legacy");
    check(true).await;
    proxy.flag("g0", "new");
    check(false).await;
}

#[tokio::test]
async fn slow_statements_are_logged_with_their_store_and_without_their_literals() {
    let database = hits();
    let proxy = Proxy::start(|port| config(port) + "log: { slow_query: 200ms }\n");
    proxy.flag("analytics", "new");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT 'quick secret'").await.unwrap();
    conn.query_drop("SELECT SLEEP(0.3), 'slow secret' FROM hits").await.unwrap();
    conn.exec_drop("SELECT SLEEP(?) FROM hits", (0.3,)).await.unwrap();
    let lines =
        || proxy.log().lines().filter(|line| line.contains("slow query")).map(str::to_owned).collect::<Vec<_>>();
    eventually("two lines", || lines().len() == 2);
    for line in lines() {
        for word in ["new", "hits", "app", "rows=1"] {
            assert!(line.contains(word), "{word}: {line}");
        }
        assert!(!line.contains("secret"), "{line}");
    }
}

/// A PROXY v1 header in front of the login.
fn through_a_balancer(port: u16, header: &[u8]) -> Option<Raw> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    socket.write_all(header).unwrap();
    let (_, payload) = read_packet(&mut socket)?;
    let greeting = Greeting::read(&payload).ok()?;
    Some(Raw { socket, greeting, capabilities: ORDINARY })
}

#[test]
fn a_balancers_header_names_the_client() {
    let proxy = Proxy::start(|port| config(port) + "proxy_protocol: { from: [127.0.0.0/8] }\n");
    let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 3306\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x08\x7f\x00\x00\x01\x12\x67\x0c\xea";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let open: Vec<Raw> =
        [&v1[..], v2, local].iter().map(|h| through_a_balancer(proxy.port, h).expect("a greeting")).collect();
    drop(open);
    // the greeting may come before the header, and who sends none is welcome, as with MariaDB
    let mut late = Raw::connect(proxy.port);
    late.socket.write_all(v1).unwrap();
    late.log_in("app", "app", "").unwrap_or_else(|e| panic!("{e}"));
    assert!(Raw::error(&late.query("SELECT 1")).is_none());
    assert!(proxy.cli(&["sessions", "--json"]).stdout.contains("203.0.113.7:4711"));
    let mut without = Raw::app(proxy.port, ORDINARY, "");
    assert!(Raw::error(&without.query("SELECT 1")).is_none());
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 not an address\r\n", b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff"]
    {
        let mut raw = through_a_balancer(proxy.port, garbage).expect("the greeting comes first");
        raw.until_closed();
    }
    // who is not trusted cannot claim an address: the header is no login
    let closed = Proxy::start(|port| config(port) + "proxy_protocol: { from: [192.0.2.0/24] }\n");
    let mut raw = through_a_balancer(closed.port, v1).expect("the greeting comes first");
    raw.until_closed();
}

#[test]
fn a_header_that_comes_with_the_login_is_the_stores() {
    let store = PrivateServer::start(42, &["--proxy-protocol-networks=127.0.0.1"]);
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 3306\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x12\x67\x0c\xea";
    let address = |raw: &mut Raw| {
        let packets = raw.query("SELECT SUBSTRING_INDEX(USER(), '@', -1)");
        let bytes: Vec<u8> = packets.into_iter().flat_map(|(_, payload)| payload).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    for header in [&v1[..], v2] {
        let raw = through_a_balancer(proxy.port, header).expect("the greeting comes first");
        let mut raw = raw;
        raw.log_in("app", "app", "").unwrap();
        assert!(address(&mut raw).contains("203.0.113.7"));
    }
    // who leaves before the login is counted for the header's address, as on the store
    let counted = store.status("Aborted_connects_preauth");
    let gone = through_a_balancer(proxy.port, v1).expect("the greeting comes first");
    drop(gone);
    eventually("it is counted", || store.status("Aborted_connects_preauth") == counted + 1);
    // one that cannot be read is refused as the store refuses it: without an end, and without an address
    for broken in
        [[&b"PROXY TCP4 203.0.113.7 1"[..], &[b' '; 84]].concat(), v2[..14].iter().copied().chain([0, 0]).collect()]
    {
        let mut straight = through_a_balancer(store.port, &broken).expect("a greeting");
        let mut raw = through_a_balancer(proxy.port, &broken).expect("a greeting");
        let said = read_packet(&mut raw.socket).expect("an error");
        assert!(String::from_utf8_lossy(&said.1).contains("Failed to parse proxy header"));
        assert_eq!(said, read_packet(&mut straight.socket).expect("an error"));
        raw.until_closed();
    }
    // nobody has to send one
    assert!(address(&mut Raw::app(proxy.port, ORDINARY, "")).contains("127.0.0.1"));
    // the store would not take one from here: nobody gains an address by what the store thinks of the proxy
    store.sql("SET GLOBAL proxy_protocol_networks = '127.0.0.2'");
    let raw = through_a_balancer(proxy.port, v1).expect("the greeting comes first");
    let mut raw = raw;
    let error = raw.log_in("app", "app", "").err().unwrap();
    assert_eq!((error.code, error.message.as_slice()), (1105, &b"Proxy header is not accepted from 127.0.0.1"[..]));
}

#[tokio::test]
async fn a_store_that_restarts_shows_as_a_slow_connect() {
    let mut store = PrivateServer::start(43, &[]);
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    store.stop();
    let waiting = tokio::spawn(mysql_async::Conn::new(proxy.opts()));
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    store.restart();
    waiting.await.unwrap().unwrap().ping().await.unwrap();
    // one that does not come back is told of before the login's time is over
    let short =
        Proxy::start(|port| pair_config(port, &store, &stores().new, &[]) + "limits: { connect_timeout: 1s }\n");
    store.stop();
    let mut socket = TcpStream::connect(("127.0.0.1", short.port)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let (_, said) = read_packet(&mut socket).unwrap();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("switchover: cannot connect to the default store legacy"), "{said}");
}

#[tokio::test]
async fn a_store_is_told_the_clients_address() {
    let store = PrivateServer::start(41, &["--proxy-protocol-networks=127.0.0.1"]);
    let proxy = Proxy::start(|port| {
        pair_config(port, &store, &stores().new, &["hits"]).replacen(", control", ", proxy_protocol: true, control", 1)
            + "proxy_protocol: { from: [127.0.0.2] }\n"
    });
    // the control account's connections work as well
    assert_eq!(proxy.status()["stores"][0]["state"], "up", "{}", proxy.status());
    let mut conn = proxy.connect("").await;
    let row: Option<(String, u16)> = conn
        .query_first("SELECT SUBSTRING_INDEX(host, ':', 1), SUBSTRING_INDEX(host, ':', -1) FROM information_schema.processlist WHERE id = CONNECTION_ID()")
        .await
        .unwrap();
    let (host, port) = row.unwrap();
    assert_eq!(host, "127.0.0.1");
    let sessions = proxy.cli(&["sessions", "--json"]).stdout;
    assert!(sessions.contains(&format!("127.0.0.1:{port}")), "the store saw port {port}, the proxy {sessions}");
}

#[test]
fn a_store_counts_clients_that_leave_without_a_word_and_no_others() {
    if crate::support::proxy::in_transaction_mode() {
        return;
    }
    let store = PrivateServer::start(44, &[]);
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    let id = |raw: &mut Raw| String::from_utf8(raw.query("SELECT CONNECTION_ID()")[3].1[1..].to_vec()).unwrap();
    let (mut polite, mut rude) = (Raw::app(proxy.port, ORDINARY, ""), Raw::app(proxy.port, ORDINARY, ""));
    let (polite_id, rude_id) = (id(&mut polite), id(&mut rude));
    polite.send(1, b"");
    assert!(polite.until_closed().is_empty());
    drop(rude);
    let aborted = |id: &str| store.log().contains(&format!("Aborted connection {id} to db"));
    eventually("the store says that a client is gone", || aborted(&rude_id));
    assert!(!aborted(&polite_id), "{}", store.log());
}

#[test]
fn two_thousand_idle_clients_take_little_memory() {
    const CLIENTS: usize = 2_000;
    let proxy = Proxy::pair(&["hits"]);
    // what threads, caches and the allocator take once is not a client's
    let warm: Vec<Raw> = (0..200).map(|_| Raw::app(proxy.port, ORDINARY, "")).collect();
    let before = proxy.memory();
    let mut idle: Vec<Raw> = (0..CLIENTS).map(|_| Raw::app(proxy.port, ORDINARY, "")).collect();
    for raw in &mut idle {
        assert!(Raw::error(&raw.query("SELECT 1")).is_none());
    }
    let each = proxy.memory().saturating_sub(before) / CLIENTS as u64;
    assert!(each <= 10 << 10, "{each} bytes for each idle client");
    assert_eq!(proxy.status()["sessions"]["open"], CLIENTS + warm.len());
    drop((idle, warm));
    eventually("all have left", || proxy.status()["sessions"]["open"] == 0);
}

/// What is not known of a store that does not answer at the start is learned when it does, though no client asks for it.
#[tokio::test]
async fn a_store_that_comes_after_the_proxy_is_probed_in_the_background() {
    let mut late = PrivateServer::start(41, &["--lower-case-table-names=1"]);
    late.sql("CREATE DATABASE d");
    late.sql("CREATE TABLE d.hits (server INT)");
    late.stop();
    let proxy = Proxy::start(|port| pair_config(port, &late, &stores().new, &["hits"]));
    let store = || proxy.status()["stores"][0].clone();
    assert_eq!(store()["state"], "down", "{:#}", store());
    let before = proxy.status()["epoch"].as_u64().unwrap();
    late.restart();
    eventually("the proxy knows its version", || store()["version"].as_str().is_some_and(|v| v.contains("MariaDB")));
    assert_eq!(store()["state"], "up");
    // this store does not tell `HITS` from `hits`
    eventually("names are compared as it does", || proxy.status()["epoch"].as_u64().unwrap() > before);
    assert!(proxy.cli(&["explain", "SELECT server FROM d.HITS"]).text().contains("analytics"));
    // and one that went away is probed again
    late.stop();
    assert!(!clients::mariadb(proxy.port, &["-e", "SELECT 1"]).ok);
    assert_eq!(store()["state"], "down");
    late.restart();
    eventually("it is up again", || store()["state"] == "up");
}
