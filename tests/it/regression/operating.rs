//! Rules 23, 24 and 27: one proxy per address, stores that offer less, drain and takeover.
//!
//! Rule 27's "the error says so" for a default store that is down is tested here too; its several proxies come with the standby.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use switchover::wire::packet;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Cable, Database, Proxy, clients, eventually, ports, spawn, stores};

const BINARY: &str = env!("CARGO_BIN_EXE_switchover");

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, n INT)"));
    }
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

fn serves(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[test]
fn rule_23_a_second_proxy_on_the_same_address_or_file_does_not_start() {
    let proxy = Proxy::pair(&["hits"]);
    let other = tempfile::tempdir().unwrap();
    let config = other.path().join("routing.yaml");
    std::fs::copy(&proxy.config_path, &config).unwrap();
    let output = clients::run(&[BINARY, "serve", "--config", config.to_str().unwrap()]);
    let text = output.stdout + &output.stderr;
    assert!(!output.ok && text.contains(&proxy.port.to_string()) && text.contains("cannot bind"), "{text}");
    // the same file, though on another port
    let text = std::fs::read_to_string(&proxy.config_path).unwrap();
    std::fs::write(&proxy.config_path, text.replace(&proxy.port.to_string(), &ports::free().to_string())).unwrap();
    let output = proxy.cli(&["serve"]);
    assert!(!output.ok, "{output:?}");
    assert!(proxy.status()["state"] == "serving" && serves(proxy.port));
}

/// Says one greeting of a server that can little, and no more.
fn poor_store() -> u16 {
    let port = ports::free();
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            // 4.1, transactions, native passwords; no DEPRECATE_EOF, no multi-results, nothing of MariaDB's
            let mut greeting =
                b"\x0a5.5.5\0\x01\0\0\0abcdefgh\0\x01\xa2\x2d\x02\0\x08\0\x15\0\0\0\0\0\0\0\0\0\0".to_vec();
            greeting.extend(b"ijklmnopqrst\0mysql_native_password\0");
            let mut framed = Vec::new();
            packet::put(&mut framed, 0, &greeting);
            let _ = client.write_all(&framed);
        }
    });
    port
}

#[tokio::test]
async fn rule_24_a_store_that_offers_less_than_sessions_use_is_not_added() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    let before = proxy.status()["epoch"].clone();
    let port = poor_store();
    let text = std::fs::read_to_string(&proxy.config_path).unwrap();
    proxy.edit_config(|text| {
        text.replace("default: legacy", &format!("  poor: {{ address: 127.0.0.1:{port} }}\ndefault: legacy"))
    });
    let output = proxy.cli(&["reload"]);
    assert!(!output.ok && output.stderr.contains("poor") && output.stderr.contains("restart"), "{output:?}");
    assert_eq!(proxy.status()["epoch"], before);
    conn.query_drop("INSERT INTO hits (n) VALUES (1)").await.unwrap();
    proxy.edit_config(|_| text);
    proxy.flag("analytics", "legacy");
}

#[tokio::test]
async fn rule_27_a_default_store_that_is_down_is_named_at_login() {
    let cable = Cable::to(stores().legacy.port);
    let mut legacy = stores().legacy.clone();
    legacy.port = cable.port;
    let proxy = Proxy::start(|port| pair_config(port, &legacy, &stores().new, &["hits"]));
    cable.cut();
    let output = clients::mariadb(proxy.port, &["-e", "SELECT 1"]);
    assert!(!output.ok && output.stderr.contains("switchover:") && output.stderr.contains("legacy"), "{output:?}");
    cable.mend();
    assert_eq!(clients::mariadb(proxy.port, &["-e", "SELECT 1"]).text(), "1");
}

#[tokio::test]
async fn rule_27_sigterm_lets_a_transaction_end_and_takes_no_new_client() {
    let (database, mut proxy) = ground();
    let mut busy = proxy.connect(&database.name).await;
    let mut idle = proxy.connect(&database.name).await;
    idle.query_drop("SELECT 1").await.unwrap();
    busy.query_drop("BEGIN").await.unwrap();
    busy.query_drop("INSERT INTO sites (n) VALUES (1)").await.unwrap();
    proxy.signal(Signal::TERM);
    eventually("no new client is taken", || !serves(proxy.port));
    busy.query_drop("INSERT INTO hits (n) VALUES (1)").await.unwrap();
    busy.query_drop("INSERT INTO sites (n) VALUES (2)").await.unwrap();
    eventually("the session that stays quiet is closed", || proxy.status()["sessions"]["open"] == 1);
    assert!(idle.query_drop("SELECT 1").await.is_err(), "an idle session outlives the drain");
    busy.query_drop("COMMIT").await.unwrap();
    eventually("the proxy has ended", || proxy.ended().is_some());
    assert!(proxy.ended().unwrap().success());
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM sites"), [["2"]]);
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits"), [["1"]]);
    assert!(!proxy.control_socket.exists(), "the control socket is left");
}

#[tokio::test]
async fn rule_27_a_drain_ends_at_its_deadline_and_rolls_back() {
    let (database, mut proxy) = ground();
    let mut busy = proxy.connect(&database.name).await;
    busy.query_drop("BEGIN").await.unwrap();
    busy.query_drop("INSERT INTO hits (n) VALUES (1)").await.unwrap();
    let output = proxy.cli(&["drain", "--timeout", "1"]);
    assert!(output.ok, "{output:?}");
    eventually("the proxy has ended", || proxy.ended().is_some());
    assert!(busy.query_drop("COMMIT").await.is_err());
    eventually("the transaction is rolled back", || stores().new.sessions_in(&database.name) == 0);
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits"), [["0"]]);
}

/// A proxy that takes over from another; killed with the value.
struct Successor(Child);

impl Successor {
    fn start(proxy: &Proxy) -> Successor {
        let mut command = spawn::tied(BINARY);
        command.args(["serve", "--takeover", "--config"]).arg(&proxy.config_path).current_dir(&proxy.folder);
        Successor(spawn::start(command, &proxy.folder.join("log")))
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rule_27_a_new_process_takes_over_and_no_client_notices() {
    let (database, mut proxy) = ground();
    let over = Arc::new(AtomicBool::new(false));
    let connections = Arc::new(AtomicU64::new(0));
    let mut clients = Vec::new();
    for n in 0..4 {
        let (over, connections) = (over.clone(), connections.clone());
        let opts = mysql_async::Opts::from(proxy.opts().db_name(Some(&database.name)).setup(vec!["BEGIN"]));
        clients.push(tokio::spawn(async move {
            // each connection is in a transaction from its login on: there is no clean point to close it before its end
            while !over.load(Ordering::Relaxed) {
                let mut conn = Conn::new(opts.clone()).await.unwrap_or_else(|e| panic!("client {n}: {e}"));
                conn.query_drop("INSERT INTO sites (n) VALUES (1)").await.unwrap();
                conn.query_drop("INSERT INTO hits (n) VALUES (1)").await.unwrap();
                conn.query_drop("COMMIT AND CHAIN").await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let _ = conn.disconnect().await;
            }
        }));
    }
    let mut long = proxy.connect(&database.name).await;
    long.query_drop("BEGIN").await.unwrap();
    long.query_drop("INSERT INTO hits (n) VALUES (1000)").await.unwrap();
    eventually("clients come", || connections.load(Ordering::Relaxed) > 50);
    let first = proxy.status()["pid"].clone();
    let successor = Successor::start(&proxy);
    eventually("the new process answers", || {
        let output = proxy.cli(&["status", "--json"]);
        output.ok && serde_json::from_str::<serde_json::Value>(&output.stdout).unwrap()["pid"] != first
    });
    let then = connections.load(Ordering::Relaxed);
    eventually("clients come to the new one", || connections.load(Ordering::Relaxed) > then + 50);
    assert!(proxy.ended().is_none(), "the old process left while a transaction was under way");
    // the flag moves in the new process; the old one's transaction ends where it began
    proxy.flag_at_once("analytics", "legacy");
    long.query_drop("INSERT INTO hits (n) VALUES (1001)").await.unwrap();
    long.query_drop("COMMIT").await.unwrap();
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    eventually("the old process has ended", || proxy.ended().is_some());
    assert!(proxy.ended().unwrap().success());
    assert_eq!(database.on_new("SELECT n FROM hits WHERE n >= 1000 ORDER BY n"), [["1000"], ["1001"]]);
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    assert!(Raw::error(&raw.query("SELECT 1")).is_none());
    let all = connections.load(Ordering::Relaxed).to_string();
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM sites"), [[all]]);
    drop(successor);
}
