//! Shadow reads on real servers: every label, what is sampled, and that no client ever waits for the other store.

mod conditions;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Row};
use serde_json::Value;

use crate::support::proxy::pair_config;
use crate::support::{Database, PrivateServer, Proxy, clients, eventually, ports, stores};

pub struct Scene {
    pub database: Database,
    pub proxy: Proxy,
}

fn scene(sample: &str, tables: &[&str]) -> Scene {
    let database = stores().database();
    let proxy = Proxy::start(|port| {
        let base = pair_config(port, &stores().legacy, &stores().new, tables);
        format!("{base}    shadow: {{ sample: {sample} }}\n")
    });
    Scene { database, proxy }
}

pub fn report(proxy: &Proxy) -> Value {
    let output = proxy.cli(&["shadow", "--json"]);
    assert!(output.ok, "{}{}", output.stdout, output.stderr);
    serde_json::from_str(&output.stdout).unwrap()
}

pub fn count(proxy: &Proxy, what: &str) -> u64 {
    report(proxy)["groups"][0][what].as_u64().unwrap()
}

/// Every verdict that is not 0, of the group.
pub fn verdicts(proxy: &Proxy) -> Vec<(String, u64)> {
    let group = report(proxy)["groups"][0].clone();
    let words = ["equal", "lag", "order", "type", "real", "failed", "too_large", "unreachable"];
    let all = words.iter().map(|w| ((*w).to_owned(), group[w].as_u64().unwrap()));
    all.filter(|(_, n)| *n > 0).collect()
}

/// Runs one read as text and waits for its verdict, which is this one.
async fn read(scene: &Scene, conn: &mut Conn, sql: &str, verdict: &str) -> Value {
    let before = count(&scene.proxy, verdict);
    let _: Vec<Row> = conn.query(sql).await.unwrap();
    eventually(&format!("{verdict}: {sql} ({:?})", verdicts(&scene.proxy)), || {
        count(&scene.proxy, verdict) == before + 1
    });
    report(&scene.proxy)
}

#[tokio::test]
async fn each_difference_has_its_label() {
    let scene = scene("1", &["t", "other"]);
    let database = &scene.database;
    database.on_both("CREATE TABLE t (id INT, grp INT, name VARCHAR(40), price DECIMAL(10,2), f DOUBLE)");
    database.on_legacy("INSERT INTO t VALUES (1, 1, 'one', 1.5, 0.1), (2, 1, 'two', 2.5, 0.2), (3, 2, NULL, 3, 1e9)");
    database.on_new("INSERT INTO t VALUES (2, 1, 'two', 2.5, 0.2), (1, 1, 'one', 1.5, 0.1), (3, 2, NULL, 3, 1e9)");
    database.on_legacy("CREATE TABLE other (id INT, amount DECIMAL(10,2), only_here INT)");
    database.on_new("CREATE TABLE other (id INT, amount DECIMAL(12,4))");
    database.on_both("INSERT INTO other (id, amount) VALUES (1, 1.25)");
    let mut conn = scene.proxy.connect(&database.name).await;

    read(&scene, &mut conn, "SELECT id, name, f FROM t", "equal").await;
    read(&scene, &mut conn, "SELECT id FROM t ORDER BY id", "equal").await;
    let found = read(&scene, &mut conn, "SELECT id FROM t ORDER BY grp", "order").await;
    assert_eq!(found["statements"][0]["last_place"], "row 1, column id", "{found}");
    read(&scene, &mut conn, "SELECT id, amount FROM other", "type").await;
    let failed = read(&scene, &mut conn, "SELECT only_here FROM other", "failed").await;
    assert!(failed.to_string().contains("Unknown column 'only_here'"), "{failed}");

    database.on_new("UPDATE t SET name = 'secret' WHERE id = 2");
    let real = read(&scene, &mut conn, "SELECT name FROM t WHERE id = 2", "real").await;
    let first = &real["statements"][0];
    assert_eq!(first["statement"], "SELECT name FROM t WHERE id = ?", "{real}");
    assert_eq!((&first["last_verdict"], &first["last_place"]), (&Value::from("real"), &"row 1, column name".into()));
    assert_eq!((&first["serving"], &first["shadow"]), (&Value::from("legacy"), &"new".into()));
    assert!(!real.to_string().contains("secret"), "values are shown only where they are asked for: {real}");
    assert!(first["serving_times"]["p50_us"].as_u64().unwrap() > 0);
    let events = scene.proxy.cli(&["events", "--kind", "shadow", "--json"]);
    let events: Value = serde_json::from_str(&events.stdout).unwrap();
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert_eq!(events[0]["subject"], "analytics");
    read(&scene, &mut conn, "SELECT name FROM t WHERE id = 2", "real").await;
    let again = scene.proxy.cli(&["events", "--kind", "shadow", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&again.stdout).unwrap().as_array().unwrap().len(), 1, "told once");
    let text = scene.proxy.cli(&["shadow", "analytics"]);
    assert!(text.ok && text.stdout.contains("SELECT name FROM t WHERE id = ?"), "{}", text.stdout);
    assert!(!scene.proxy.cli(&["shadow", "nowhere"]).ok);
}

#[tokio::test]
async fn what_meets_a_moment_later_is_lag() {
    let scene = scene("1", &["t"]);
    let database = &scene.database;
    database.on_both("CREATE TABLE t (id INT PRIMARY KEY, n INT)");
    database.on_legacy("INSERT INTO t VALUES (1, 10)");
    let mut conn = scene.proxy.connect(&database.name).await;
    let _: Vec<Row> = conn.query("SELECT n FROM t").await.unwrap();
    // (the first comparison is done by now, the second may be; the third comes after more than a second)
    std::thread::sleep(Duration::from_millis(600));
    database.on_new("INSERT INTO t VALUES (1, 10)");
    eventually("it is lag", || count(&scene.proxy, "lag") == 1);
    assert_eq!(verdicts(&scene.proxy), [("lag".to_owned(), 1)]);
    assert_eq!(report(&scene.proxy)["groups"][0]["match_rate"], 1.0);
}

#[tokio::test]
async fn a_store_that_is_always_a_step_behind_lags() {
    let scene = scene("1", &["t"]);
    let database = &scene.database;
    database.on_both("CREATE TABLE t (n INT)");
    database.on_both("INSERT INTO t VALUES (0)");
    database.on_legacy("UPDATE t SET n = 1");
    let mut conn = scene.proxy.connect(&database.name).await;
    let _: Vec<Row> = conn.query("SELECT n FROM t").await.unwrap();
    std::thread::sleep(Duration::from_millis(600));
    // what the authority said before is what the other says now
    database.on_legacy("UPDATE t SET n = 2");
    database.on_new("UPDATE t SET n = 1");
    eventually("it is lag", || count(&scene.proxy, "compared") == 1);
    assert_eq!(verdicts(&scene.proxy), [("lag".to_owned(), 1)]);
}

#[tokio::test]
async fn prepared_reads_are_compared_with_their_values() {
    let scene = scene("1", &["t"]);
    let database = &scene.database;
    database.on_both("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), at DATETIME(6))");
    database.on_both("INSERT INTO t VALUES (1, 'it''s é', '2020-01-02 03:04:05.5'), (2, 'b', NULL)");
    database.on_new("UPDATE t SET name = 'x' WHERE id = 2");
    let mut conn = scene.proxy.connect(&database.name).await;
    let statement = conn.prep("SELECT id, name, at FROM t WHERE id = ? AND name = ? LIMIT ?").await.unwrap();
    for _ in 0..3 {
        let rows: Vec<Row> = conn.exec(&statement, (1, "it's é", 5)).await.unwrap();
        assert_eq!(rows.len(), 1);
    }
    eventually("all are compared", || count(&scene.proxy, "compared") == 3);
    assert_eq!(verdicts(&scene.proxy), [("equal".to_owned(), 3)]);
    let rows: Vec<Row> = conn.exec(&statement, (2, "b", 5)).await.unwrap();
    assert_eq!(rows.len(), 1);
    eventually("this one differs", || count(&scene.proxy, "real") == 1);
    let statements = report(&scene.proxy)["statements"].clone();
    assert_eq!(statements.as_array().unwrap().len(), 1, "one statement whatever its values: {statements}");
    assert_eq!(statements[0]["compared"], 4);
}

#[tokio::test]
async fn only_reads_that_can_be_compared_are() {
    let scene = scene("1", &["t"]);
    let database = &scene.database;
    database.on_both("CREATE TABLE t (id INT PRIMARY KEY)");
    database.on_both("CREATE TABLE elsewhere (id INT PRIMARY KEY)");
    database.on_both("INSERT INTO t VALUES (1)");
    let mut conn = scene.proxy.connect(&database.name).await;
    for sql in [
        "SELECT 1",
        "SELECT * FROM elsewhere",
        "SELECT t.id FROM t, elsewhere",
        "SELECT id FROM t FOR UPDATE",
        "SELECT id, @a FROM t",
        "INSERT INTO t VALUES (2)",
        "SHOW CREATE TABLE t",
        "EXPLAIN SELECT id FROM t",
        "SELECT id FROM t; SELECT id FROM t",
    ] {
        conn.query_drop(sql).await.unwrap();
    }
    database.on_new("INSERT INTO t VALUES (2)");
    conn.query_drop("BEGIN").await.unwrap();
    conn.query_drop("SELECT id FROM t").await.unwrap();
    conn.query_drop("COMMIT").await.unwrap();
    conn.query_drop("SET sql_mode = 'ANSI_QUOTES'").await.unwrap();
    conn.query_drop("SELECT \"id\" FROM t").await.unwrap();
    conn.query_drop("SET sql_mode = ''").await.unwrap();
    assert!(conn.query_drop("SELECT nothing FROM t").await.is_err());
    let offered = || report(&scene.proxy)["groups"][0]["offered"].as_u64().unwrap();
    assert_eq!(offered(), 0);
    for sql in ["SELECT id, NOW() FROM t", "SELECT id, RAND() FROM t", "SELECT id FROM t WHERE id > UNIX_TIMESTAMP()"] {
        conn.query_drop(sql).await.unwrap();
    }
    conn.query_drop("SELECT id FROM t").await.unwrap();
    eventually("the last one is compared", || count(&scene.proxy, "compared") == 1);
    assert_eq!((offered(), count(&scene.proxy, "skipped")), (4, 3));
}

#[tokio::test]
async fn the_sample_has_its_share_and_follows_the_file() {
    let scene = scene("0.1", &["t"]);
    let database = &scene.database;
    database.on_both("CREATE TABLE t (id INT PRIMARY KEY)");
    let mut conn = scene.proxy.connect(&database.name).await;
    for n in 0..3_000 {
        conn.query_drop(format!("SELECT id FROM t WHERE id = {n}")).await.unwrap();
    }
    // (a binomial with a deviation of 16.4: five of them)
    let offered = count(&scene.proxy, "offered");
    assert!((218..=382).contains(&offered), "{offered}");
    scene.proxy.edit_config(|text| text.replace("    shadow: { sample: 0.1 }\n", ""));
    eventually("it is off", || report(&scene.proxy)["groups"][0]["sample"].is_null());
    let before = count(&scene.proxy, "offered");
    for _ in 0..100 {
        conn.query_drop("SELECT id FROM t").await.unwrap();
    }
    assert_eq!(count(&scene.proxy, "offered"), before);
    scene.proxy.edit_config(|text| format!("{text}    shadow: {{ sample: 1, store: new }}\n"));
    eventually("it is on again", || report(&scene.proxy)["groups"][0]["sample"] == "1");
    conn.query_drop("SELECT id FROM t").await.unwrap();
    eventually("offered", || count(&scene.proxy, "offered") == before + 1);
    // after a flip the other store is the one that served before
    scene.proxy.flag("analytics", "new");
    assert_eq!(report(&scene.proxy)["groups"][0]["store"], "legacy");
}

#[tokio::test]
async fn every_surface_shows_it() {
    let database = stores().database();
    database.on_both("CREATE TABLE t (id INT PRIMARY KEY)");
    database.on_legacy("INSERT INTO t VALUES (1)");
    let (console, http) = (ports::free(), ports::free());
    let proxy = Proxy::start(|port| {
        let base = pair_config(port, &stores().legacy, &stores().new, &["t"]);
        format!(
            "{base}    shadow: {{ sample: 1 }}\nadmin:\n  sql: 127.0.0.1:{console}\n  http: 127.0.0.1:{http}\n  users:\n    ops: {{ password: ops-secret }}\ninsight: {{ examples: true }}\n"
        )
    });
    eventually("both surfaces are served", || {
        [console, http].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    });
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT COUNT(*) FROM t").await.unwrap();
    eventually("it is settled", || count(&proxy, "real") == 1);
    let opts = OptsBuilder::default().ip_or_hostname("127.0.0.1").tcp_port(console).prefer_socket(false);
    let mut admin = Conn::new(opts.user(Some("ops")).pass(Some("ops-secret"))).await.unwrap();
    let row: Row = admin.query_first("SHOW SHADOW").await.unwrap().unwrap();
    assert_eq!(row.get::<String, _>("statement").as_deref(), Some("SELECT COUNT(*) FROM t"));
    assert_eq!(row.get::<u64, _>("real"), Some(1));
    let worst: Option<String> = admin.query_first("SELECT last_place FROM shadow WHERE `real` > 0").await.unwrap();
    assert_eq!(worst.as_deref(), Some("row 1, column COUNT(*)"));
    let values: Option<(String, String)> =
        admin.query_first("SELECT last_serving, last_shadow FROM shadow WHERE `real` > 0").await.unwrap();
    assert_eq!(values, Some(("1".to_owned(), "0".to_owned())), "shown, for it is asked for");
    let ask = |path: &str| {
        let mut command = std::process::Command::new("curl");
        command.args(["-s", "-u", "ops:ops-secret"]).arg(format!("http://127.0.0.1:{http}{path}"));
        clients::output(command).stdout
    };
    let api: Value = serde_json::from_str(&ask("/api/v1/shadow?group=analytics")).unwrap();
    assert_eq!(api, report(&proxy));
    let metrics = ask("/metrics");
    for line in [
        "switchover_shadow_reads_total{group=\"analytics\",verdict=\"real\"} 1",
        "switchover_shadow_reads_total{group=\"analytics\",verdict=\"equal\"} 0",
        "switchover_shadow_dropped_total{group=\"analytics\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// The longest of so many reads.
async fn slowest(conn: &mut Conn, reads: usize) -> Duration {
    let mut longest = Duration::ZERO;
    for _ in 0..reads {
        let started = Instant::now();
        let n: Option<u32> = conn.query_first("SELECT id FROM t").await.unwrap();
        assert_eq!(n, Some(1));
        longest = longest.max(started.elapsed());
    }
    longest
}

#[tokio::test]
async fn no_client_waits_for_the_other_store() {
    let mut new = PrivateServer::start(2, &[]);
    let database = stores().database();
    database.on_legacy("CREATE TABLE t (id INT PRIMARY KEY)");
    database.on_legacy("INSERT INTO t VALUES (1)");
    new.sql(&format!("CREATE DATABASE {}", database.name));
    new.sql(&format!("CREATE TABLE {0}.t (id INT PRIMARY KEY)", database.name));
    new.sql(&format!("INSERT INTO {}.t VALUES (1)", database.name));
    let proxy = Proxy::start(|port| {
        format!("{}    shadow: {{ sample: 1 }}\n", pair_config(port, &stores().legacy, &new, &["t"]))
    });
    let mut conn = proxy.connect(&database.name).await;
    slowest(&mut conn, 20).await;
    eventually("they are equal", || count(&proxy, "equal") == 20);

    new.freeze();
    let longest = slowest(&mut conn, 2_000).await;
    assert!(longest < Duration::from_secs(2), "a read took {longest:?} while the other store was frozen");
    println!("the longest of 2,000 reads with the other store frozen: {longest:?}");
    let (offered, dropped) = (count(&proxy, "offered"), count(&proxy, "dropped"));
    assert_eq!(offered, 2_020);
    assert!(dropped > 1_500, "{dropped} were dropped");
    new.thaw();
    eventually("what waited is compared", || count(&proxy, "compared") + dropped == 2_020);
    assert!(count(&proxy, "equal") > 100, "{:?}", verdicts(&proxy));
    assert_eq!(count(&proxy, "real"), 0);

    new.kill();
    let longest = slowest(&mut conn, 200).await;
    assert!(longest < Duration::from_secs(2), "a read took {longest:?} while the other store was gone");
    eventually("it is said to be gone", || count(&proxy, "unreachable") > 0);
    new.restart();
    let before = count(&proxy, "equal");
    eventually("it is compared with again", || {
        std::thread::sleep(Duration::from_millis(100));
        let blocking = proxy.port;
        let database = database.name.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let opts = crate::support::mariadb::opts(blocking).db_name(Some(database));
                let mut conn = Conn::new(opts).await.unwrap();
                conn.query_drop("SELECT id FROM t").await.unwrap();
                conn.disconnect().await.unwrap();
            });
        })
        .join()
        .unwrap();
        count(&proxy, "equal") > before
    });
    assert_eq!(count(&proxy, "real"), 0);
}
