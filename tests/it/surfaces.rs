//! The operators' surfaces of a running proxy: the SQL console through real clients, and HTTP.

mod cutover;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};

use crate::support::proxy::pair_config;
use crate::support::raw::Raw;
use crate::support::{Database, Proxy, clients, eventually, ports, stores};

struct Scene {
    proxy: Proxy,
    database: Database,
    console: u16,
    http: u16,
}

fn scene() -> Scene {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, server INT)");
    database.on_both("INSERT INTO hits (server) VALUES (@@server_id)");
    let (console, http) = (ports::free(), ports::free());
    let proxy = Proxy::start(|port| {
        let base = pair_config(port, &stores().legacy, &stores().new, &["hits"]);
        format!("{base}{}", admin(console, http))
    });
    let scene = Scene { proxy, database, console, http };
    eventually("both surfaces are served", || {
        [scene.console, scene.http].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    });
    scene
}

fn admin(console: u16, http: u16) -> String {
    format!(
        "admin:\n  sql: 127.0.0.1:{console}\n  http: 127.0.0.1:{http}\n  users:\n    ops: {{ password: ops-secret }}\n    look: {{ password: look-secret, role: reader }}\n"
    )
}

impl Scene {
    async fn console(&self, user: &str) -> Conn {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.console)
            .user(Some(user))
            .pass(Some(format!("{user}-secret")))
            .prefer_socket(false);
        Conn::new(options).await.unwrap()
    }

    /// The `mariadb` client at the console.
    fn client(&self, user: &str, password: &str, sql: &str) -> clients::Output {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h", "127.0.0.1", "--ssl=0", "-t"]);
        command.arg(format!("-P{}", self.console)).arg(format!("-u{user}")).arg(format!("-p{password}"));
        command.args(["-e", sql]);
        clients::output(command)
    }

    /// Every surface says that so many statements wait now.
    fn wait(&self, waiting: u64) {
        let of_group = || self.json("/api/v1/status")["groups"][0]["waiting"].clone();
        eventually("they wait", || of_group() == waiting);
        let console = self.client("ops", "ops-secret", "SELECT CONCAT('now: ', waiting) FROM groups").text();
        assert!(console.contains(&format!("now: {waiting} ")), "{console}");
        let said = self.proxy.cli(&["status"]).stdout;
        assert_eq!(said.contains(&format!("PAUSED, {waiting} wait")), waiting > 0, "{said}");
        let (_, metrics) = self.http("GET", "/metrics", "nobody", "");
        let line = format!("switchover_group_waiting_statements{{group=\"analytics\"}} {waiting}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
        eventually("the sample says so", || {
            let samples = self.json("/api/v1/samples");
            samples.as_array().and_then(|s| s.last()).is_some_and(|s| s["groups"][0]["waiting"] == waiting)
        });
    }

    /// Status and body.
    fn http(&self, method: &str, path: &str, user: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let secret = STANDARD.encode(format!("{user}:{user}-secret"));
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Basic {secret}\r\n{kind}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap();
        (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    fn json(&self, path: &str) -> serde_json::Value {
        let (status, body) = self.http("GET", path, "ops", "");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test]
async fn the_mariadb_client_steers_the_proxy() {
    let scene = scene();
    let mut app = scene.proxy.connect(&scene.database.name).await;
    assert_eq!(app.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(1));
    let shown = scene.client(
        "ops",
        "ops-secret",
        "SHOW GROUPS; SHOW STORES WHERE is_default; EXPLAIN ROUTE SELECT * FROM hits",
    );
    assert!(shown.ok, "{}", shown.stderr);
    for part in ["analytics", "legacy", "MariaDB", "explanation"] {
        assert!(shown.stdout.contains(part), "{part}\n{}", shown.stdout);
    }
    let moved =
        scene.client("ops", "ops-secret", "SET @why = 'by hand'; SET analytics_connection = 'new'; SHOW GROUPS");
    assert!(moved.ok && moved.stdout.contains("| new"), "{}{}", moved.stdout, moved.stderr);
    assert_eq!(app.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(2));
    assert!(std::fs::read_to_string(&scene.proxy.config_path).unwrap().contains("connection: new"));
    let events = scene.proxy.cli(&["events", "--kind", "action"]);
    assert!(events.stdout.contains("flag to new") && events.stdout.contains("by hand"), "{}", events.stdout);
    let audit = scene.proxy.folder.join("routing.yaml.audit");
    eventually("it is in the file", || std::fs::read_to_string(&audit).is_ok_and(|t| t.contains("\"by\":\"ops\"")));
    let refused = scene.client("look", "look-secret", "SET analytics_connection = 'legacy'");
    assert!(!refused.ok && refused.stderr.contains("1227"), "{}", refused.stderr);
    let wrong = scene.client("ops", "look-secret", "SHOW GROUPS");
    assert!(!wrong.ok && wrong.stderr.contains("1045"), "{}", wrong.stderr);
    let unknown = scene.client("ops", "ops-secret", "SET analytics_connection = 'nwe'");
    assert!(!unknown.ok && unknown.stderr.contains("nwe"), "{}", unknown.stderr);
}

#[tokio::test]
async fn drivers_ask_in_text_and_prepared() {
    let scene = scene();
    let mut app = scene.proxy.connect(&scene.database.name).await;
    let id: u64 = app.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    app.query_drop("BEGIN").await.unwrap();
    app.query_drop("SELECT server FROM hits").await.unwrap();
    let mut console = scene.console("ops").await;
    let (user, queries): (String, u64) = console
        .exec_first("SELECT user, queries FROM sessions WHERE id = ? AND user LIKE ?", (id, "a%"))
        .await
        .unwrap()
        .unwrap();
    assert!(user == "app" && queries >= 1, "{user} {queries}");
    let pins: Vec<(u64, String)> = console.query("SELECT session, pin FROM pins").await.unwrap();
    assert!(pins.iter().any(|(session, _)| *session == id), "{pins:?}");
    for table in ["groups", "stores", "metrics", "config", "events", "config_diff", "journal"] {
        let _: Vec<Row> = console.query(format!("SELECT * FROM {table} LIMIT 3")).await.unwrap();
    }
    let digests: Vec<(String, u64)> =
        console.query("SELECT text, calls FROM digests WHERE `groups` = 'analytics'").await.unwrap();
    assert!(digests.iter().any(|(text, calls)| text.contains("hits") && *calls >= 1), "{digests:?}");
    let ready: Vec<Row> = console.query("SHOW READINESS FOR analytics").await.unwrap();
    assert!(!ready.is_empty());
    let columns: Vec<String> = console
        .query("SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_NAME = 'sessions' ORDER BY ORDINAL_POSITION")
        .await
        .unwrap();
    assert_eq!(columns[..3], ["id", "user", "client"]);
    console.query_drop(format!("KILL {id}")).await.unwrap();
    eventually("the session has ended", || {
        !scene.proxy.cli(&["sessions", "--json"]).stdout.contains(&format!("\"id\": {id},"))
    });
    assert!(app.query_drop("SELECT 1").await.is_err());
    assert!(console.query_drop("KILL 4000000").await.is_err());
    assert!(console.query_drop("SELECT nope FROM groups").await.is_err());
    assert_eq!(console.query_first::<u32, _>("SELECT 1").await.unwrap(), Some(1), "an error ends no dialog");
}

#[tokio::test]
async fn what_is_killed_ends_at_its_store() {
    let scene = scene();
    let mut console = scene.console("ops").await;
    let mut app = scene.proxy.connect(&scene.database.name).await;
    let id: u64 = app.query_first("SELECT CONNECTION_ID()").await.unwrap().unwrap();
    let sleeper = tokio::spawn(async move { app.query_first::<u32, _>("SELECT SLEEP(60)").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = std::time::Instant::now();
    console.query_drop(format!("KILL QUERY {id}")).await.unwrap();
    let ended = sleeper.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "the statement went on");
    // (SLEEP that is interrupted is 1, or an error)
    assert!(ended.is_err() || ended.is_ok_and(|slept| slept == Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_group_makes_writes_wait_and_nothing_else() {
    let scene = scene();
    let mut app = scene.proxy.connect(&scene.database.name).await;
    let paused = scene.proxy.cli(&["pause", "analytics", "--why", "tests"]);
    assert!(paused.ok, "{}", paused.stderr);
    assert_eq!(scene.json("/api/v1/status")["groups"][0]["paused"], true);
    assert_eq!(app.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(1), "reads go on");
    scene.wait(0);
    let mut writes = Vec::new();
    for _ in 0..2 {
        let mut writer = scene.proxy.connect(&scene.database.name).await;
        let write = async move { writer.query_drop("INSERT INTO hits (server) VALUES (7)").await };
        writes.push(tokio::spawn(write));
    }
    scene.wait(2);
    assert!(writes.iter().all(|write| !write.is_finished()), "a write went through");
    let count = "SELECT COUNT(*) FROM hits WHERE server = 7";
    assert_eq!(app.query_first::<u32, _>(count).await.unwrap(), Some(0));
    let (status, body) = scene.http("POST", "/api/v1/groups/analytics/resume", "ops", "{}");
    assert_eq!(status, 200, "{body}");
    for write in writes {
        write.await.unwrap().unwrap();
    }
    scene.wait(0);
    assert_eq!(app.query_first::<u32, _>(count).await.unwrap(), Some(2));
    assert!(!scene.proxy.cli(&["pause", "nope"]).ok);
}

#[tokio::test]
async fn http_says_and_does_the_same() {
    let scene = scene();
    let mut app = scene.proxy.connect(&scene.database.name).await;
    for _ in 0..20 {
        app.query_drop("SELECT server FROM hits").await.unwrap();
    }
    assert_eq!(scene.http("GET", "/readyz", "nobody", "").0, 200);
    let (status, body) =
        scene.http("POST", "/api/v1/groups/analytics/flag", "ops", "{\"store\":\"new\",\"why\":\"tests\"}");
    assert_eq!(status, 200, "{body}");
    assert_eq!(app.query_first::<u32, _>("SELECT server FROM hits").await.unwrap(), Some(2));
    assert_eq!(scene.http("POST", "/api/v1/groups/analytics/flag", "look", "{\"store\":\"legacy\"}").0, 403);
    let (_, metrics) = scene.http("GET", "/metrics", "nobody", "");
    for line in [
        "switchover_up 1",
        "switchover_flips_total 1",
        "switchover_group_connection{group=\"analytics\",store=\"new\"} 1",
        "# TYPE switchover_query_seconds histogram",
        "# TYPE switchover_queries_total counter",
        "switchover_store_up{store=\"legacy\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let queries = |metrics: &str| -> f64 {
        let lines = metrics.lines().filter(|l| l.starts_with("switchover_queries_total{"));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let buckets = |metrics: &str| -> f64 {
        let lines = metrics.lines().filter(|l| l.starts_with("switchover_query_seconds_count"));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    assert!(queries(&metrics) >= 20.0, "{metrics}");
    assert!((queries(&metrics) - buckets(&metrics)).abs() < 1.0, "{metrics}");
    eventually("samples come", || scene.json("/api/v1/samples").as_array().is_some_and(|s| !s.is_empty()));
    let sample = &scene.json("/api/v1/samples")[0];
    assert_eq!(
        (sample["stores"][0]["name"].as_str(), sample["groups"][0]["name"].as_str()),
        (Some("legacy"), Some("analytics"))
    );
    let config = scene.json("/api/v1/config").to_string();
    assert!(config.contains("groups.analytics.connection") && !config.contains("secret\""), "{config}");
    assert!(!config.contains("ops-secret"));
    let document = scene.json("/api/v1/openapi.json");
    for path in ["/status", "/sessions", "/events", "/config", "/digests", "/log", "/jobs", "/pins"] {
        assert!(document["paths"][format!("/api/v1{path}")].is_object());
        scene.json(&format!("/api/v1{path}"));
    }
}

#[tokio::test]
async fn surfaces_follow_the_file_and_users_go_at_once() {
    let scene = scene();
    let mut console = scene.console("look").await;
    console.query_drop("SHOW GROUPS").await.unwrap();
    let moved = ports::free();
    let old = scene.console;
    scene.proxy.edit_config(|text| {
        text.replace(&format!("sql: 127.0.0.1:{old}"), &format!("sql: 127.0.0.1:{moved}"))
            .replace("    look: { password: look-secret, role: reader }\n", "")
    });
    eventually("the console has moved", || TcpStream::connect(("127.0.0.1", moved)).is_ok());
    eventually("and left its old place", || TcpStream::connect(("127.0.0.1", old)).is_err());
    assert!(console.query_drop("SHOW GROUPS").await.is_err(), "an account that is gone still sees");
    eventually("it gets no answers over HTTP", || scene.http("GET", "/api/v1/status", "look", "").0 == 401);
    assert_eq!(scene.http("GET", "/api/v1/status", "ops", "").0, 200);
}

#[test]
fn strangers_at_the_console_cost_little_and_break_nothing() {
    let scene = scene();
    for bytes in
        [&b""[..], b"\x00", b"\xff\xff\xff\x00", b"GET / HTTP/1.1\r\n\r\n", &[0x55; 9_000], &[1, 0, 0, 1, 0x0e]]
    {
        let mut stream = TcpStream::connect(("127.0.0.1", scene.console)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let _ = stream.read(&mut [0; 200]);
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // what does not log in may not fill the memory either
    let mut stream = TcpStream::connect(("127.0.0.1", scene.console)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let before = scene.proxy.memory();
    let junk = vec![0xff; 1 << 20];
    let sent = (0..64).take_while(|_| stream.write_all(&junk).is_ok()).count();
    assert!(sent < 64, "64 MiB were taken from somebody who has not logged in");
    assert!(scene.proxy.memory() < before + (16 << 20));
    let _ = Raw::connect(scene.console);
    assert!(scene.client("ops", "ops-secret", "SHOW STORES").ok);
    assert!(!scene.proxy.log().contains("panicked"), "{}", scene.proxy.log());
}

#[test]
fn figures_of_what_is_gone_leave_the_metrics() {
    let scene = scene();
    let of_group = || {
        let (_, metrics) = scene.http("GET", "/metrics", "nobody", "");
        assert!(metrics.contains("switchover_up 1") && metrics.contains("switchover_flips_total 0"), "{metrics}");
        metrics.contains("switchover_group_paused{group=\"analytics\"} 0")
    };
    assert!(of_group());
    std::thread::sleep(Duration::from_secs(6));
    assert!(of_group(), "nobody has asked meanwhile, and it is there");
    let text = std::fs::read_to_string(&scene.proxy.config_path).unwrap();
    std::fs::write(&scene.proxy.config_path, text.replace("analytics:", "renamed:")).unwrap();
    eventually("the group has another name", || !of_group());
}
