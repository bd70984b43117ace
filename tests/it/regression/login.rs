//! Rules 1–4: login.
//!
//! Rule 3: TLS on both legs and on one, `REQUIRE SSL` and wrong passwords are in `login.rs`; caching_sha2 has unit tests in
//! `auth` (MariaDB has no such plugin). Rule 4: `hostile::a_client_that_never_logs_in_is_let_go`. Here: rule 1, an account
//! that trusts the peer of a unix socket, and rule 2, clients that never log in.

use std::path::Path;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw, read_packet};
use crate::support::{PrivateServer, Proxy, Server, clients, eventually, stores};

/// A proxy that reaches its default store over the store's unix socket, and listens on TCP and on a socket of its own.
fn over_socket(store: &Server) -> Proxy {
    let socket = store.socket.display().to_string();
    Proxy::start(|port| {
        pair_config(port, store, &stores().new, &["hits"])
            .replacen(&format!("address: 127.0.0.1:{}", store.port), &format!("address: {socket}"), 1)
            .replacen(&format!("listen: 127.0.0.1:{port}"), &format!("listen: [127.0.0.1:{port}, ./p.sock]"), 1)
    })
}

/// The name of the user that runs this test, and the store and the proxy with it.
fn own_name() -> String {
    clients::run(&["id", "-un"]).text()
}

fn by_socket(path: &Path, user: &str, password: &str) -> clients::Output {
    let (path, user) = (format!("-S{}", path.display()), format!("-u{user}"));
    let password = format!("-p{password}");
    clients::run(&["mariadb", "--no-defaults", &path, &user, &password, "-N", "-e", "SELECT CURRENT_USER()"])
}

#[test]
fn rule_01_an_account_that_trusts_the_peer_is_not_reached_over_a_socket_leg() {
    let store = PrivateServer::start(21, &["--plugin-load-add=auth_socket.so"]);
    let name = own_name();
    store.sql("CREATE USER twofold@localhost IDENTIFIED VIA mysql_native_password USING PASSWORD('pw') OR unix_socket");
    store.sql("CREATE USER plain@localhost IDENTIFIED BY 'pw'");
    store.sql(&format!("CREATE USER IF NOT EXISTS {name}@localhost"));
    store.sql(&format!("ALTER USER {name}@localhost IDENTIFIED VIA unix_socket"));
    let proxy = over_socket(&store);
    // directly it works, which shows that the trap is set: anybody's password would do
    assert!(by_socket(&store.socket, &name, "wrong").ok);
    for password in ["wrong", ""] {
        let error = Raw::login(proxy.port, ORDINARY, &name, password, "").err().expect("refused");
        assert_eq!((error.code, error.sqlstate), (1045, Some(*b"28000")), "{error}");
    }
    // with the right password too: the account could be entered without one
    let error = Raw::login(proxy.port, ORDINARY, "twofold", "pw", "").err().expect("refused");
    assert_eq!(error.code, 1045, "{error}");
    assert!(String::from_utf8_lossy(&error.message).starts_with("switchover: "), "{error}");
    // an account with a password alone is welcome, and a wrong password is not
    let mut raw = Raw::login(proxy.port, ORDINARY, "plain", "pw", "").unwrap_or_else(|e| panic!("{e}"));
    assert!(Raw::error(&raw.query("SELECT 1")).is_none());
    assert_eq!(Raw::login(proxy.port, ORDINARY, "plain", "wrong", "").err().unwrap().code, 1045);
    // the proxy's own socket, with the same user at the other end, proves as much as the store's would
    let output = by_socket(&proxy.folder.join("p.sock"), "twofold", "pw");
    assert_eq!(output.text(), "twofold@localhost");
}

#[test]
fn rule_02_clients_that_never_log_in_are_bounded_and_leave_no_connection_behind() {
    let store = PrivateServer::start(22, &[]);
    let proxy = Proxy::start(|port| {
        pair_config(port, &store, &stores().new, &["hits"])
            + "limits: { max_pending_logins: 5, connect_timeout: 30s }\n"
    });
    let waiting: Vec<Raw> = (0..5).map(|_| Raw::connect(proxy.port)).collect();
    let mut sixth = std::net::TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    sixth.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    assert!(read_packet(&mut sixth).is_none(), "the sixth does not wait its turn");
    drop(waiting);
    sixth.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    read_packet(&mut sixth).expect("a greeting, when those before have left");
    drop(sixth);
    let counted = store.status("Aborted_connects_preauth");
    // far more than max_connect_errors (100 by default), as a load balancer's checks make in a few minutes
    for _ in 0..150 {
        let mut socket = std::net::TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
        read_packet(&mut socket).expect("a greeting");
    }
    eventually("logins work again", || Raw::login(proxy.port, ORDINARY, "app", "app", "").is_ok());
    let sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'unauthenticated user'";
    eventually("the store's connections are closed", || store.sql(sql) == [["0"]]);
    // the proxy ended them in order: what the store counts against its address has not moved
    assert_eq!(store.status("Aborted_connects_preauth"), counted);
}

#[test]
fn rule_02_check_warns_of_a_store_that_may_block_the_proxy() {
    let store = PrivateServer::start(23, &["--skip-name-resolve=0"]);
    let proxy = Proxy::start(|port| pair_config(port, &store, &stores().new, &["hits"]));
    let output = proxy.cli(&["check"]);
    let text = output.stdout + &output.stderr;
    assert!(text.contains("skip_name_resolve is off") && text.contains("1129"), "{text}");
}
