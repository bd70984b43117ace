//! Accounts are the stores' own: the login is relayed, and the secret for other stores is recovered or configured.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, SslOpts};

use crate::support::proxy::{in_transaction_mode, pair_config};
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{PrivateServer, Proxy, clients, eventually, stores};

fn account(name: &str, identified: &str) -> Account {
    for server in [&stores().legacy, &stores().new] {
        server.sql(&format!("CREATE OR REPLACE USER {name}@'127.0.0.1' {identified}"));
        server.sql(&format!("GRANT ALL ON *.* TO {name}@'127.0.0.1'"));
    }
    Account(name.to_owned())
}

struct Account(String);

impl Drop for Account {
    fn drop(&mut self) {
        for server in [&stores().legacy, &stores().new] {
            let _ = server.try_sql(None, &format!("DROP USER IF EXISTS {}@'127.0.0.1'", self.0));
        }
    }
}

async fn connect(proxy: &Proxy, user: &str, password: &str) -> mysql_async::Result<Conn> {
    Conn::new(proxy.opts().user(Some(user)).pass(Some(password))).await
}

fn hits() -> (crate::support::Database, Proxy) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT)");
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_stores_own_words() {
    let proxy = Proxy::pair(&["hits"]);
    let direct = Raw::login(stores().legacy.port, ORDINARY, "app", "wrong", "").err().unwrap();
    let proxied = Raw::login(proxy.port, ORDINARY, "app", "wrong", "").err().unwrap();
    assert_eq!(direct, proxied);
    let unknown = Raw::login(proxy.port, ORDINARY, "app", "app", "no_such_database").err().unwrap();
    assert_eq!(unknown.code, 1049);
}

#[tokio::test]
async fn an_account_made_a_second_ago_can_log_in_and_use_both_stores() {
    let (database, proxy) = hits();
    let mut admin = proxy.connect(&database.name).await;
    let name = format!("fresh{}", std::process::id());
    admin.query_drop(format!("CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'pw1'")).await.unwrap();
    admin.query_drop(format!("GRANT ALL ON *.* TO {name}@'127.0.0.1'")).await.unwrap();
    stores().new.sql(&format!("CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'pw1'"));
    stores().new.sql(&format!("GRANT ALL ON *.* TO {name}@'127.0.0.1'"));
    let _gone = Account(name.clone());
    let mut conn = connect(&proxy, &name, "pw1").await.unwrap();
    conn.query_drop(format!("USE {}", database.name)).await.unwrap();
    let user: Option<String> =
        conn.query_first("SELECT CURRENT_USER() FROM hits RIGHT JOIN (SELECT 1) x ON 1").await.unwrap();
    assert_eq!(user, Some(format!("{name}@127.0.0.1")));
    // a changed password counts from the next login on, here and there
    for server in [&stores().legacy, &stores().new] {
        server.sql(&format!("SET PASSWORD FOR {name}@'127.0.0.1' = PASSWORD('pw2')"));
    }
    assert!(connect(&proxy, &name, "pw1").await.is_err());
    let mut conn = connect(&proxy, &name, "pw2").await.unwrap();
    conn.query_drop(format!("SELECT * FROM {}.hits", database.name)).await.unwrap();
}

#[tokio::test]
async fn empty_passwords_work_on_both() {
    let (database, proxy) = hits();
    let user = account(&format!("empty{}", std::process::id()), "");
    let mut conn = Conn::new(proxy.opts().user(Some(&user.0)).pass(None::<String>)).await.unwrap();
    conn.query_drop(format!("SELECT * FROM {}.hits", database.name)).await.unwrap();
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_with_its_three_remedies() {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT)");
    let config = |port| {
        let text = pair_config(port, &stores().legacy, &stores().new, &["hits"])
            .replace("connection: legacy", "connection: new");
        text.replace(", control: { user: switchover, password: switchover }", "")
    };
    let proxy = Proxy::start(config);
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT 1").await.unwrap();
    let Err(Error::Server(error)) = conn.query_drop("SELECT * FROM hits").await else { panic!("no error") };
    assert_eq!(error.code, 1045);
    for word in ["switchover:", "users:", "account:", "control:"] {
        assert!(error.message.contains(word), "{}", error.message);
    }
    // configured, it works
    let with_users = Proxy::start(|port| config(port) + "users: { app: { new: { password: app } } }\n");
    let mut conn = with_users.connect(&database.name).await;
    conn.query_drop("SELECT * FROM hits").await.unwrap();
}

#[tokio::test]
async fn an_ed25519_login_is_relayed_and_opens_other_stores_with_a_configured_password_only() {
    let store = PrivateServer::start(25, &["--plugin-load-add=auth_ed25519"]);
    for sql in [
        "CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('secret')",
        "GRANT ALL ON *.* TO ed@'%'",
        "CREATE DATABASE d",
        "CREATE TABLE d.hits (id INT)",
    ] {
        store.sql(sql);
    }
    // both stores are this one: what it says of the account counts twice
    let config = |port| pair_config(port, &store, &store, &["hits"]).replace("connection: legacy", "connection: new");
    let script = "const m = require('mariadb'); (async () => { const c = await m.createConnection({ host: '127.0.0.1', port: +process.env.PORT, user: 'ed', password: 'secret', database: 'd' });
console.log((await c.query('SELECT CURRENT_USER() u'))[0].u); console.log((await c.query('SELECT COUNT(*) n FROM hits'))[0].n + ''); await c.end(); })().catch(e => { console.log(e.message); process.exit(1); })";
    let proxy = Proxy::start(config);
    let output = clients::node(script, proxy.port, "");
    assert!(!output.ok && output.stdout.starts_with("ed@%\n"), "{output:?}");
    assert!(
        output.stdout.contains("users:") && output.stdout.contains("account:") && !output.stdout.contains("control:"),
        "{output:?}"
    );
    let proxy = Proxy::start(|port| config(port) + "users: { ed: { new: { password: secret } } }\n");
    assert_eq!(clients::node(script, proxy.port, "").text(), "ed@%\n0");
}

#[tokio::test]
async fn tls_on_both_legs_and_on_one() {
    let (database, proxy) = hits();
    let tls = SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
    let mut conn = Conn::new(proxy.opts().db_name(Some(&database.name)).ssl_opts(Some(tls))).await.unwrap();
    // the store's leg follows the client's
    let cipher: Option<(String, String)> = conn.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await.unwrap();
    assert!(!cipher.unwrap().1.is_empty());
    for (version, suite) in [("TLSv1.2", "ECDHE-ECDSA-CHACHA20-POLY1305"), ("TLSv1.3", "TLS_AES_128_GCM_SHA256")] {
        // in its version, and with its cipher
        let (version_, suite_) = (format!("--tls-version={version}"), format!("--ssl-cipher={suite}"));
        let show = "SHOW STATUS WHERE Variable_name IN ('Ssl_version', 'Ssl_cipher')";
        let told = clients::mariadb(proxy.port, &["--ssl", &version_, &suite_, "-e", show]).text();
        // a pooled connection serves clients of several
        if !in_transaction_mode() {
            assert_eq!(told, format!("Ssl_cipher\t{suite}\nSsl_version\t{version}"));
        }
    }
    conn.query_drop("SELECT * FROM hits").await.unwrap();
    let big: Option<String> = conn.query_first("SELECT REPEAT('x', 3000000)").await.unwrap();
    assert_eq!(big.unwrap().len(), 3_000_000);
    // an account that requires TLS
    let user = account(&format!("ssl{}", std::process::id()), "IDENTIFIED BY 'x' REQUIRE SSL");
    assert!(connect(&proxy, &user.0, "x").await.is_err());
    let tls = SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
    let conn = Conn::new(proxy.opts().user(Some(&user.0)).pass(Some("x")).ssl_opts(Some(tls))).await;
    conn.unwrap().ping().await.unwrap();
    // required towards the store
    let required = Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"]).replace(", control", ", tls: required, control")
    });
    let mut conn = required.connect(&database.name).await;
    let cipher: Option<(String, String)> = conn.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await.unwrap();
    assert!(!cipher.unwrap().1.is_empty());
    // required from clients
    let strict = Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"]) + "tls: { mode: required }\n"
    });
    assert_eq!(Raw::login(strict.port, ORDINARY, "app", "app", "").err().unwrap().code, 3159);
}

#[tokio::test]
async fn change_user_makes_it_another_session() {
    let (database, proxy) = hits();
    let user = account(&format!("other{}", std::process::id()), "IDENTIFIED BY 'pw'");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SET @x = 1").await.unwrap();
    let opts = mysql_async::ChangeUserOpts::default()
        .with_user(Some(user.0.clone()))
        .with_pass(Some("pw".to_owned()))
        .with_db_name(Some(database.name.clone()));
    conn.change_user(opts).await.unwrap();
    let row: Option<(String, Option<u8>)> =
        conn.query_first("SELECT SUBSTRING_INDEX(USER(), '@', 1), @x").await.unwrap();
    assert_eq!(row, Some((user.0.clone(), None)));
    let there: Option<String> =
        conn.query_first("SELECT SUBSTRING_INDEX(USER(), '@', 1) FROM (SELECT 1) x LEFT JOIN hits ON 1").await.unwrap();
    assert_eq!(there, Some(user.0.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_reaches_the_query_on_the_other_store() {
    let (database, proxy) = hits();
    database.on_new("INSERT INTO hits VALUES (1)");
    let mut victim = proxy.connect(&database.name).await;
    let id: u64 = victim.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    let running = tokio::spawn(async move { (victim.query_drop("SELECT SLEEP(30) FROM hits").await, victim) });
    let name = database.name.clone();
    eventually("it runs on the new store", || {
        stores().new.sql(&format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{name}' AND info LIKE '%SLEEP(30)%' AND id <> CONNECTION_ID()"))[0][0] == "1"
    });
    let mut admin = proxy.connect(&database.name).await;
    admin.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let (end, mut victim) = tokio::time::timeout(std::time::Duration::from_secs(10), running).await.unwrap().unwrap();
    // SLEEP() that is interrupted returns 1, or the statement fails with 1317
    if let Err(Error::Server(e)) = end {
        assert_eq!(e.code, 1317);
    }
    victim.query_drop("SELECT 1 FROM hits").await.unwrap();
    admin.query_drop(format!("KILL {id}")).await.unwrap();
    assert!(victim.query_drop("SELECT 1").await.is_err());
}

/// The store closes a connection before it says that it is killed; so do we.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_killed_is_gone_when_its_killer_hears_of_it() {
    let (database, proxy) = hits();
    let mut admin = proxy.connect(&database.name).await;
    for round in 0..40 {
        let mut victim = proxy.connect(&database.name).await;
        let id: u64 = victim.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
        admin.query_drop(format!("KILL {id}")).await.unwrap();
        assert!(victim.ping().await.is_err(), "round {round}");
    }
}

#[tokio::test]
async fn unix_sockets_serve_and_reach_stores() {
    let database = stores().database();
    let proxy = Proxy::start(|port| {
        let text = pair_config(port, &stores().legacy, &stores().new, &["hits"]);
        text.replace(&format!("listen: 127.0.0.1:{port}"), &format!("listen: [127.0.0.1:{port}, ./p.sock]"))
    });
    let socket = proxy.folder.join("p.sock");
    let output = clients::run(&[
        "mariadb",
        "--no-defaults",
        "-S",
        socket.to_str().unwrap(),
        "-uapp",
        "-papp",
        "-N",
        "-e",
        "SELECT 7",
        &database.name,
    ]);
    assert_eq!(output.text(), "7");
    // TLS follows the client to a store's socket too: the account may require it
    let there = Proxy::start(|port| {
        let legacy = &stores().legacy;
        let text = pair_config(port, legacy, &stores().new, &["hits"]);
        text.replace(&format!("127.0.0.1:{}", legacy.port), &legacy.socket.to_string_lossy())
    });
    let show =
        "SELECT LENGTH(VARIABLE_VALUE) > 0 FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = 'Ssl_version'";
    assert_eq!(clients::mariadb(there.port, &["--ssl", "-e", show]).text(), "1");
    assert_eq!(clients::mariadb(there.port, &["--skip-ssl", "-e", show]).text(), "0");
}
