//! The SQL console through clients of every kind: how they log in, with TLS and without, by which plugin; and what graphical ones
//! ask of it (the statements themselves stand in `src/admin/console/`). What no client sends: [`packets`].

mod packets;

use std::net::TcpStream;
use std::process::Command;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};

use crate::support::proxy::pair_config;
use crate::support::{Proxy, clients, eventually, ports, stores};

struct Scene {
    proxy: Proxy,
    port: u16,
}

fn scene(more: &str) -> Scene {
    let port = ports::free();
    let proxy = Proxy::start(|listen| {
        let base = pair_config(listen, &stores().legacy, &stores().new, &["hits"]);
        format!(
            "{base}admin:\n  sql: 127.0.0.1:{port}\n  users:\n    ops: {{ password: ops-secret }}\n    look: {{ password: look-secret, role: reader }}\n{more}"
        )
    });
    eventually("the console is served", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Scene { proxy, port }
}

impl Scene {
    /// The `mariadb` client.
    fn client(&self, arguments: &[&str]) -> clients::Output {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h127.0.0.1", "-uops", "--batch", "--skip-column-names"]);
        command.arg(format!("-P{}", self.port)).args(arguments);
        clients::output(command)
    }
}

#[test]
fn the_mariadb_client_logs_in_by_every_plugin_with_tls_and_without() {
    let scene = scene("");
    let ask = "SELECT name, CURRENT_USER() FROM groups; SHOW STATUS LIKE 'Ssl_cipher'";
    for plugin in ["", "mysql_native_password", "caching_sha2_password", "client_ed25519"] {
        for tls in ["--ssl=0", "--ssl"] {
            for compress in ["--skip-compress", "--compress"] {
                let plugin = format!("--default-auth={plugin}");
                let mut arguments = vec![tls, compress, "-pops-secret", "-e", ask];
                if plugin != "--default-auth=" {
                    arguments.push(&plugin);
                }
                assert_eq!(scene.client(&arguments).text(), "analytics\tops@127.0.0.1", "{plugin} {tls} {compress}");
            }
            let wrong = scene.client(&[tls, "-pwrong", "-e", ask]);
            assert!(!wrong.ok && wrong.stderr.contains("1045"), "{}", wrong.stderr);
        }
    }
    let cipher = scene.client(&["--ssl", "-pops-secret", "-e", "\\s"]).text();
    assert!(cipher.contains("Cipher in use is TLS_"), "{cipher}");
    // a password that travels as it is: behind TLS only
    let clear = ["--default-auth=mysql_clear_password", "-pops-secret", "-e", "SELECT 1"];
    assert_eq!(scene.client(&[&["--ssl"], &clear[..]].concat()).text(), "1");
    let nobody = scene.client(&["-ups", "-pops-secret", "-e", ask]);
    assert!(nobody.stderr.contains("Access denied for user 'ps'"), "{}", nobody.stderr);
    let none = scene.client(&["-e", ask]);
    assert!(none.stderr.contains("(using password: NO)"), "{}", none.stderr);
    let database = scene.client(&["-pops-secret", "-e", ask, "nowhere"]);
    assert!(database.stderr.contains("1049"), "{}", database.stderr);
}

#[test]
fn where_tls_is_required_it_is_required_here_too() {
    let scene = scene("tls: { mode: required }\n");
    assert_eq!(scene.client(&["--ssl", "-pops-secret", "-e", "SELECT 1"]).text(), "1");
    let plain = scene.client(&["--ssl=0", "-pops-secret", "-e", "SELECT 1"]);
    assert!(!plain.ok && plain.stderr.contains("3159"), "{}", plain.stderr);
}

#[test]
fn clients_of_mysql_9_and_of_other_languages_log_in() {
    let scene = scene("");
    // (MySQL's own Python client from 9.0 has no native plugin, and asks for TLS by default)
    let script = r#"
import os, pymysql, MySQLdb, mysql.connector
port = int(os.environ["PORT"])
at = dict(host="127.0.0.1", port=port, user="ops", password="ops-secret")
ask = "SELECT name, paused FROM groups WHERE name = 'analytics'"
for connect, options in [
    (pymysql.connect, {}),
    (pymysql.connect, {"ssl": {"verify_mode": False}}),
    (MySQLdb.connect, {}),
    (mysql.connector.connect, {"use_pure": True}),
    (mysql.connector.connect, {"use_pure": True, "ssl_disabled": True}),
    (mysql.connector.connect, {"use_pure": True, "compress": True, "database": "switchover"}),
]:
    connection = connect(**at, **options)
    cursor = connection.cursor()
    cursor.execute(ask)
    assert tuple(cursor.fetchall()[0]) == ("analytics", 0), connect
    connection.close()
connection = mysql.connector.connect(use_pure=True, **at)
cursor = connection.cursor(prepared=True)
cursor.execute("SELECT name, 1.5 FROM groups WHERE name = %s", ("analytics",))
assert cursor.fetchall() == [("analytics", 1.5)]
cursor.close()
connection.cmd_reset_connection()
try:
    connection.cmd_change_user("look", "look-secret")
    raise SystemExit("it is another one now, and is not")
except mysql.connector.Error as error:
    assert error.errno == 1047, error
try:
    mysql.connector.connect(use_pure=True, **{**at, "password": "wrong"})
    raise SystemExit("let in")
except mysql.connector.Error as error:
    assert error.errno == 1045, error
print("ok")
"#;
    assert_eq!(clients::python(script, scene.port, "").text(), "ok");
    let script = r#"
const at = {host: "127.0.0.1", port: +process.env.PORT, user: "ops", password: "ops-secret"};
const mysql2 = require("mysql2/promise");
const tls = {rejectUnauthorized: false};
(async () => {
  for (const more of [{}, {ssl: tls}, {compress: true}]) {
    const c = await mysql2.createConnection({...at, ...more});
    const [rows] = await c.query("SELECT name FROM groups");
    const [prepared] = await c.execute("SELECT name FROM groups WHERE name = ?", ["analytics"]);
    if (rows[0].name !== "analytics" || prepared.length !== 1) throw new Error("rows");
    await c.end();
  }
  console.log("ok");
})().catch((error) => { console.error(error); process.exit(1); });
"#;
    assert_eq!(clients::node(script, scene.port, "").text(), "ok");
}

#[tokio::test]
async fn a_driver_that_knows_the_newest_plugin_only_steers() {
    let scene = scene("");
    for compress in [None, Some(mysql_async::Compression::default())] {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(scene.port)
            .user(Some("ops"))
            .pass(Some("ops-secret"))
            .compression(compress)
            // (else it asks for it, and sends nothing longer)
            .max_allowed_packet(Some(64 << 20))
            .prefer_socket(false);
        let mut console = Conn::new(options).await.unwrap();
        console.query_drop("SET @why = 'by a driver'").await.unwrap();
        // what COM_RESET_CONNECTION takes away
        console.reset().await.unwrap();
        console.query_drop("PAUSE GROUP analytics").await.unwrap();
        let why: Option<Option<String>> =
            console.query_first("SELECT why FROM events WHERE what = 'pause' ORDER BY id DESC LIMIT 1").await.unwrap();
        assert_eq!(why, Some(None));
        console.query_drop("RESUME GROUP analytics").await.unwrap();
        let long = format!("SELECT '{}'", "x".repeat(5 << 20));
        let refused = console.query_drop(long).await.unwrap_err().to_string();
        assert!(refused.contains("1153"), "{refused}");
        assert_eq!(console.query_first::<u8, _>("SELECT 1").await.unwrap(), Some(1), "it goes on");
        console.disconnect().await.unwrap();
    }
    assert!(scene.proxy.cli(&["events"]).stdout.contains("pause"));
}

#[test]
fn what_mysqladmin_sends_is_done_or_refused() {
    let scene = scene("");
    let admin = |words: &[&str]| {
        let mut command = Command::new("mysqladmin");
        command.args(["--no-defaults", "-h127.0.0.1", "-uops", "-pops-secret"]);
        command.arg(format!("-P{}", scene.port)).args(words);
        clients::output(command)
    };
    assert!(admin(&["ping"]).text().contains("alive"));
    let status = admin(&["status"]).text();
    assert!(status.starts_with("Uptime: ") && status.contains("  Queries per second avg: "), "{status}");
    assert!(admin(&["version"]).text().contains("Uptime:"));
    assert!(admin(&["processlist"]).text().contains("Command"));
    let kill = admin(&["kill", "4711"]);
    assert!(!kill.ok && kill.stderr.contains("no session 4711"), "{}", kill.stderr);
    let shutdown = admin(&["shutdown"]);
    assert!(!shutdown.ok, "{}", shutdown.stdout);
    assert!(admin(&["variables"]).text().contains("analytics_connection"));
}
