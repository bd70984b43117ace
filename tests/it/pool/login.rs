//! The proxy's own login says what the store would say, and its ids are its own.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error, SslOpts};
use switchover::wire::reply::Expect;
use switchover::wire::{Capabilities, ErrPacket};

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{PrivateServer, Proxy, eventually, stores};

fn pooled(extra: &str) -> Proxy {
    Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"]) + &format!("pool: transaction\n{extra}")
    })
}

/// An account on the legacy store; dropped with the value.
struct Account(String);

impl Account {
    fn new(name: &str, host: &str, how: &str) -> Account {
        let account = format!("{name}{}@'{host}'", std::process::id());
        stores().legacy.sql(&format!("CREATE OR REPLACE USER {account} {how}"));
        Account(account)
    }

    fn name(&self) -> &str {
        self.0.split('@').next().unwrap()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = stores().legacy.try_sql(None, &format!("DROP USER IF EXISTS {}", self.0));
    }
}

/// What the store and the proxy answer to the same login.
fn both(proxy: &Proxy, user: &str, password: &str, database: &str) -> (Result<(), ErrPacket>, Result<(), ErrPacket>) {
    let one = |port| Raw::login(port, ORDINARY, user, password, database).map(|_| ());
    (one(stores().legacy.port), one(proxy.port))
}

#[test]
fn every_refusal_is_in_the_stores_own_words() {
    let proxy = pooled("");
    let good = Account::new("good", "127.0.0.1", "IDENTIFIED BY 'pw'");
    let locked = Account::new("locked", "127.0.0.1", "IDENTIFIED BY 'pw' ACCOUNT LOCK");
    let expired = Account::new("expired", "127.0.0.1", "IDENTIFIED BY 'pw' PASSWORD EXPIRE");
    let elsewhere = Account::new("elsewhere", "10.9.9.9", "IDENTIFIED BY 'pw'");
    let encrypted = Account::new("encrypted", "127.0.0.1", "IDENTIFIED BY 'pw' REQUIRE SSL");
    let empty = Account::new("empty", "127.0.0.1", "IDENTIFIED BY ''");
    for (user, password, database, code) in [
        (good.name(), "wrong", "", 1045),
        (good.name(), "", "", 1045),
        ("nobody_of_this_name", "pw", "", 1045),
        (good.name(), "pw", "no_such_database", 1044),
        (good.name(), "pw", "mysql", 1044),
        (locked.name(), "pw", "", 4151),
        (expired.name(), "pw", "", 0),
        (elsewhere.name(), "pw", "", 1045),
        (encrypted.name(), "pw", "", 1045),
        (empty.name(), "pw", "", 1045),
    ] {
        for round in 0..2 {
            let (direct, proxied) = both(&proxy, user, password, database);
            assert_eq!(direct, proxied, "{user}, {password}, {database}, round {round}");
            assert_eq!(direct.map_or_else(|e| e.code, |()| 0), code, "{user}, {password}, {database}");
        }
    }
    let unknown = both(&proxy, "app", "app", "no_such_database");
    assert_eq!(unknown.0, unknown.1);
    assert_eq!(unknown.0.unwrap_err().code, 1049);
    for (user, password) in [(good.name(), "pw"), (empty.name(), ""), ("app", "app")] {
        assert_eq!(both(&proxy, user, password, ""), (Ok(()), Ok(())), "{user}");
    }
}

#[test]
fn an_expired_password_lets_in_with_a_database_and_only_to_be_changed() {
    let proxy = pooled("");
    let database = stores().database();
    let mut answers = Vec::new();
    for port in [stores().legacy.port, proxy.port] {
        let account = Account::new("late", "127.0.0.1", "IDENTIFIED BY 'pw'");
        stores().legacy.sql(&format!("GRANT ALL ON {}.* TO {}", database.name, account.0));
        stores().legacy.sql(&format!("ALTER USER {} PASSWORD EXPIRE", account.0));
        let mut raw = Raw::login(port, ORDINARY, account.name(), "pw", &database.name).unwrap();
        let refused = Raw::error(&raw.query("SELECT 1"));
        assert_eq!(refused.as_ref().map(|e| e.code), Some(1820));
        let changed = raw.query("SET PASSWORD = PASSWORD('pw2')");
        answers.push((refused, changed, raw.query("SELECT DATABASE()")));
    }
    assert_eq!(answers[0], answers[1]);
}

#[test]
fn accounts_may_come_change_and_go_while_it_runs() {
    let proxy = pooled("");
    let account = Account::new("fresh", "127.0.0.1", "IDENTIFIED BY 'one'");
    let enter = |password: &str| Raw::login(proxy.port, ORDINARY, account.name(), password, "").map(|_| ());
    assert_eq!(enter("one"), Ok(()));
    stores().legacy.sql(&format!("SET PASSWORD FOR {} = PASSWORD('two')", account.0));
    assert_eq!(enter("one").unwrap_err().code, 1045);
    assert_eq!(enter("two"), Ok(()));
    stores().legacy.sql(&format!("ALTER USER {} ACCOUNT LOCK", account.0));
    assert_eq!(
        enter("two").unwrap_err().code,
        4151,
        "a connection of the pool does not let in whom the store locks out"
    );
    stores().legacy.sql(&format!("DROP USER {}", account.0));
    assert_eq!(enter("two").unwrap_err().code, 1045);
}

#[tokio::test]
async fn plugins_that_the_proxy_cannot_check_are_relayed_and_keep_their_connection() {
    if stores().legacy.try_sql(None, "INSTALL SONAME 'auth_ed25519'").is_err() {
        eprintln!("the server has no ed25519 plugin");
        return;
    }
    let proxy = pooled("");
    let account = Account::new("curve", "127.0.0.1", "IDENTIFIED VIA ed25519 USING PASSWORD('secret')");
    let output = |password: &str| {
        let port = proxy.port.to_string();
        let sql = "SELECT CURRENT_USER(); SELECT SLEEP(0); SELECT 7";
        let password = format!("-p{password}");
        crate::support::clients::run(&[
            "mariadb",
            "--no-defaults",
            "-h127.0.0.1",
            "-P",
            &port,
            "-u",
            account.name(),
            &password,
            "--skip-ssl",
            "-N",
            "-e",
            sql,
        ])
    };
    let good = output("secret");
    assert!(good.ok && good.stdout.contains('7'), "{}{}", good.stdout, good.stderr);
    assert!(output("wrong").stderr.contains("1045"));
}

#[tokio::test]
async fn tls_clear_passwords_and_configured_secrets() {
    let proxy = pooled("users: { app: { legacy: { password: app } } }\n");
    let tls = SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
    let opts = proxy.opts().ssl_opts(Some(tls.clone())).enable_cleartext_plugin(true);
    let mut conn = Conn::new(opts).await.unwrap();
    let cipher: Option<(String, String)> = conn.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await.unwrap();
    assert!(!cipher.unwrap().1.is_empty(), "the store's leg follows the client's");
    let account = Account::new("ssl", "127.0.0.1", "IDENTIFIED BY 'x' REQUIRE SSL");
    let opts = proxy.opts().user(Some(account.name())).pass(Some("x")).ssl_opts(Some(tls));
    Conn::new(opts).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn change_user_is_a_login_of_its_own() {
    let proxy = pooled("");
    let account = Account::new("other", "127.0.0.1", "IDENTIFIED BY 'pw'");
    let mut conn = proxy.connect("").await;
    let id: u64 = conn.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    conn.query_drop("SET @x = 1, SESSION sql_mode = 'ANSI'").await.unwrap();
    let opts = |password: &str| {
        mysql_async::ChangeUserOpts::default()
            .with_user(Some(account.name().to_owned()))
            .with_pass(Some(password.to_owned()))
            .with_db_name(None)
    };
    conn.change_user(opts("pw")).await.unwrap();
    let row: (String, Option<u8>, String, u64) = conn
        .query_first("SELECT SUBSTRING_INDEX(USER(), '@', 1), @x, @@sql_mode, CONNECTION_ID()")
        .await
        .unwrap()
        .unwrap();
    assert_eq!((row.0.as_str(), row.1, row.3), (account.name(), None, id));
    assert!(!row.2.contains("ANSI"), "{}", row.2);
    match conn.change_user(opts("wrong")).await {
        Err(Error::Server(error)) => assert_eq!(error.code, 1045),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_the_proxys_and_kill_finds_them() {
    let proxy = pooled("");
    let mut raw = Raw::app(proxy.port, ORDINARY | Capabilities::DEPRECATE_EOF, "");
    let shown = u64::from(raw.greeting.thread_id);
    assert!((1 << 30..1 << 31).contains(&shown), "no store's, and a signed number for drivers: {shown}");
    let packets = raw.query("SELECT CONNECTION_ID()");
    assert!(packets.iter().any(|(_, p)| p.ends_with(shown.to_string().as_bytes())), "{packets:?}");
    assert!(packets.iter().any(|(_, p)| p.windows(15).any(|w| w == b"CONNECTION_ID()")), "the column's name");

    let mut admin = proxy.connect("").await;
    // one that waits for its client
    admin.query_drop(format!("KILL {shown}")).await.unwrap();
    assert!(String::from_utf8_lossy(&raw.until_closed()).contains("Connection was killed"));
    // one that runs
    let mut victim = proxy.connect("").await;
    let id: u64 = victim.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    let running = tokio::spawn(async move { (victim.query_drop("SELECT SLEEP(20)").await, victim) });
    let runs =
        || stores().legacy.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(20)'");
    eventually("it runs", || runs() == [["1"]]);
    admin.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let (_, mut victim) = tokio::time::timeout(std::time::Duration::from_secs(10), running).await.unwrap().unwrap();
    assert_eq!(victim.query_first("SELECT 5").await.unwrap(), Some(5), "KILL QUERY leaves the session");
    // somebody else's
    let account = Account::new("poor", "127.0.0.1", "IDENTIFIED BY 'pw'");
    let opts = proxy.opts().user(Some(account.name())).pass(Some("pw"));
    let mut poor = Conn::new(opts).await.unwrap();
    let Err(Error::Server(error)) = poor.query_drop(format!("KILL {id}")).await else { panic!("killed") };
    assert_eq!(error.code, 1095);
    let Err(Error::Server(error)) = admin.query_drop("KILL 4294967290").await else { panic!("killed") };
    assert_eq!(error.code, 1094);
}

#[test]
fn the_greeting_names_the_stores_collation_and_statistics_are_the_stores() {
    let proxy = pooled("");
    let of_store = Raw::app(stores().legacy.port, ORDINARY, "");
    // PHP takes it where the application names none
    let mut raw = Raw::app(proxy.port, ORDINARY, "");
    assert_eq!(raw.greeting.collation, of_store.greeting.collation);
    raw.send(9, &[]);
    let text = String::from_utf8_lossy(&raw.response(Expect::Text)[0].1).into_owned();
    assert!(text.contains("Queries per second avg"), "{text}");
}

#[tokio::test]
async fn with_the_default_store_down_others_still_serve() {
    let mut legacy = PrivateServer::start(51, &[]);
    let database = stores().database();
    database.on_new("CREATE TABLE hits (id INT)");
    database.on_new("INSERT INTO hits VALUES (4)");
    let proxy = Proxy::start(|port| {
        pair_config(port, &legacy, &stores().new, &["hits"]).replace("connection: legacy", "connection: new")
            + "pool: transaction\n"
    });
    let mut before = proxy.connect("").await;
    before.query_drop("SET @mine = 9").await.unwrap();
    let sql = format!("SELECT id FROM {}.hits", database.name);
    assert_eq!(before.query_first(&sql).await.unwrap(), Some(4));
    legacy.kill();
    // who was there, and who comes now
    assert_eq!(before.query_first(&sql).await.unwrap(), Some(4));
    let mut after = proxy.connect("").await;
    assert_eq!(after.query_first(&sql).await.unwrap(), Some(4));
    after.query_drop("SET @x = 3").await.unwrap();
    after.query_drop("BEGIN").await.unwrap();
    assert_eq!(after.query_first(format!("SELECT id + @x FROM {}.hits", database.name)).await.unwrap(), Some(7));
    after.query_drop("COMMIT").await.unwrap();
    let Err(Error::Server(error)) = after.query_drop("SELECT * FROM test.sites").await else { panic!("no error") };
    assert_eq!(error.code, 1429);
    assert_eq!(after.query_first(&sql).await.unwrap(), Some(4), "the session goes on");
}
