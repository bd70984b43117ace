//! `caching_sha2_password` and `sha256_password`: PyMySQL and mysql2 against a store that has them, over every pairing of TLS on the
//! two legs, and the password that another store needs.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, SslOpts};

use crate::support::proxy::pair_config;
use crate::support::{Gate, Proxy, Server, clients, stores};

/// Our store behind the gate is `legacy`; `more` goes into its entry.
fn proxy(gate: &Gate, more: &str) -> Proxy {
    let mut legacy = stores().legacy.clone();
    legacy.port = gate.port;
    Proxy::start(|port| {
        let text =
            pair_config(port, &legacy, &stores().new, &["hits"]).replace("connection: legacy", "connection: new");
        // the control account is not one of the gate's
        text.replacen(", control: { user: switchover, password: switchover }", more, 1)
    })
}

fn legacy() -> &'static Server {
    &stores().legacy
}

/// PyMySQL logs in, asks who it is, and does something on the other store.
fn pymysql(port: u16, tls: bool, password: &str, database: &str) -> clients::Output {
    let script = format!(
        "import os, pymysql
c = pymysql.connect(host='127.0.0.1', port=int(os.environ['PORT']), user='app', password='{password}', database=os.environ['DB'],
    ssl={}, ssl_disabled={})
cur = c.cursor()
cur.execute('SELECT @@server_id, 7'); print(cur.fetchall())
cur.execute('SELECT @@server_id FROM hits'); print(cur.fetchall())",
        if tls { "{'check_hostname': False, 'verify_mode': False}" } else { "None" },
        if tls { "False" } else { "True" },
    );
    clients::python(&script, port, database)
}

fn mysql2(port: u16, tls: bool) -> clients::Output {
    let ssl = if tls { "{ rejectUnauthorized: false }" } else { "undefined" };
    let script = format!(
        "const m = require('mysql2/promise');
(async () => {{ const c = await m.createConnection({{ host: '127.0.0.1', port: +process.env.PORT, user: 'app', password: 'app', ssl: {ssl} }});
const [r] = await c.query('SELECT 7 AS n'); console.log(r[0].n); await c.end(); }})().catch(e => {{ console.error(e.message); process.exit(1); }})"
    );
    clients::node(&script, port, "")
}

#[test]
fn over_tls_the_password_is_asked_for_and_opens_the_other_store() {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT)");
    database.on_new("INSERT INTO hits VALUES (1)");
    for plugin in ["caching_sha2_password", "sha256_password"] {
        for store_tls in [true, false] {
            let gate = Gate::start(legacy(), plugin, store_tls);
            let proxy = proxy(&gate, "");
            let home = if store_tls { "tls" } else { "plain" };
            // twice: from the second login on the store answers out of its cache
            for round in 0..2 {
                let text = pymysql(proxy.port, true, "app", &database.name).text();
                assert_eq!(text, "((1, 7),)\n((2,),)", "{plugin}, store {home}");
                let how = match (plugin, round, store_tls) {
                    ("caching_sha2_password", 1, _) => "fast",
                    (_, _, true) => "clear",
                    (_, _, false) => "rsa",
                };
                assert_eq!(gate.logins().last().unwrap(), &format!("{home} {how}"), "{plugin}");
            }
            assert_eq!(mysql2(proxy.port, true).text(), "7", "{plugin}, store {home}");
            let wrong = pymysql(proxy.port, true, "wrong", &database.name);
            assert!(!wrong.ok && wrong.stderr.contains("1045"), "{wrong:?}");
        }
    }
}

#[test]
fn without_tls_on_either_leg_the_exchange_is_relayed() {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT)");
    for plugin in ["caching_sha2_password", "sha256_password"] {
        let gate = Gate::start(legacy(), plugin, true);
        // TLS towards the store follows the client, who has none
        let proxy = proxy(&gate, "");
        let output = pymysql(proxy.port, false, "app", &database.name);
        assert!(output.stdout.starts_with("((1, 7),)"), "{output:?}");
        // the sealed password gives no secret: the other store's error says what helps, and only that
        assert!(!output.ok && output.stderr.contains("users:") && output.stderr.contains("account:"), "{output:?}");
        assert_eq!(gate.logins(), ["plain rsa"], "{plugin}");
        assert_eq!(mysql2(proxy.port, false).text(), "7", "{plugin}");
    }
}

#[test]
fn a_client_without_tls_is_told_what_to_do_where_the_store_s_leg_has_it() {
    let gate = Gate::start(legacy(), "caching_sha2_password", true);
    let proxy = proxy(&gate, ", tls: required");
    let output = pymysql(proxy.port, false, "app", "");
    assert!(!output.ok && output.stderr.contains("1045") && output.stderr.contains("use TLS"), "{output:?}");
    assert!(pymysql(proxy.port, true, "app", "").stdout.starts_with("((1, 7),)"));
    // out of the store's cache it works without TLS too
    assert!(pymysql(proxy.port, false, "app", "").stdout.starts_with("((1, 7),)"));
}

#[tokio::test]
async fn the_proxy_itself_logs_in_with_a_configured_password() {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT)");
    for plugin in ["caching_sha2_password", "sha256_password"] {
        for tls in [true, false] {
            let gate = Gate::start(&stores().new, plugin, tls);
            let mut new = stores().new.clone();
            new.port = gate.port;
            let proxy = Proxy::start(|port| {
                pair_config(port, legacy(), &new, &["hits"]).replace("connection: legacy", "connection: new").replace(
                    &format!("127.0.0.1:{}, control: {{ user: switchover, password: switchover }}", gate.port),
                    &format!("127.0.0.1:{}, control: {{ user: app, password: app }}", gate.port),
                ) + "users: { app: { new: { password: app } } }\n"
            });
            for encrypted in [true, false] {
                let options =
                    SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true);
                let mut conn =
                    Conn::new(proxy.opts().db_name(Some(&database.name)).ssl_opts(encrypted.then_some(options)))
                        .await
                        .unwrap();
                let rows: Vec<u32> = conn.query("SELECT id FROM hits").await.unwrap();
                assert!(rows.is_empty());
                conn.disconnect().await.unwrap();
            }
            assert!(gate.logins().iter().all(|l| !l.contains("wrong")), "{plugin}: {:?}", gate.logins());
        }
    }
}
