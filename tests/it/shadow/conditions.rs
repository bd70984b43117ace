//! Under what conditions both stores are asked: a session's settings hold on both or its reads are not compared, nothing goes on at a
//! store after the comparison has ended, and what a store wants of its clients (TLS, a password) is kept.

use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::{Scene, count, read, report, verdicts};
use crate::support::proxy::pair_config;
use crate::support::{PrivateServer, Proxy, eventually, stores};

/// Rows on a store of its own beside the shared one, in a database on both.
fn pair(extra: &[&str], schema: &[&str]) -> (Scene, PrivateServer) {
    let new = PrivateServer::start(2, extra);
    let database = stores().database();
    let name = database.name.clone();
    new.sql(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"));
    for sql in schema {
        database.on_legacy(sql);
        new.sql_in(&name, sql);
    }
    let proxy = Proxy::start(|port| {
        let base = pair_config(port, &stores().legacy, &new, &["t"]);
        format!("{base}    shadow: {{ sample: 1 }}\ninsight: {{ examples: true }}\n")
    });
    (Scene { database, proxy }, new)
}

/// A read that is not compared.
async fn skipped(scene: &Scene, conn: &mut Conn, sql: &str) {
    let (before, compared) = (count(&scene.proxy, "skipped"), count(&scene.proxy, "compared"));
    let _: Vec<Row> = conn.query(sql).await.unwrap();
    eventually(&format!("skipped: {sql} ({:?})", verdicts(&scene.proxy)), || {
        count(&scene.proxy, "skipped") == before + 1
    });
    assert_eq!(count(&scene.proxy, "compared"), compared, "{sql}");
}

fn last(scene: &Scene, sql_without_literals: &str) -> (String, String) {
    let statements = report(&scene.proxy)["statements"].as_array().unwrap().clone();
    let one =
        statements.iter().find(|s| s["statement"] == sql_without_literals).unwrap_or_else(|| panic!("{statements:?}"));
    (one["last_serving"].as_str().unwrap().to_owned(), one["last_shadow"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_sessions_settings_hold_on_both_stores_or_its_reads_are_not_compared() {
    let odd = [
        "--group-concat-max-len=4",
        "--div-precision-increment=9",
        "--sql-mode=PIPES_AS_CONCAT",
        "--lc-time-names=de_DE",
    ];
    let (scene, new) = pair(
        &odd,
        &[
            "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), price DECIMAL(10,2), at TIMESTAMP)",
            "INSERT INTO t VALUES (1, 'one', 1, '2020-05-06 01:02:03'), (2, 'two', 2, '2020-05-07 01:02:03'), (3, 'THREE', 3, NULL)",
        ],
    );
    let mut conn = scene.proxy.connect(&scene.database.name).await;
    // what the stores have otherwise globally makes no difference: a session has its home's settings on either
    for sql in [
        "SELECT GROUP_CONCAT(name ORDER BY id) FROM t",
        "SELECT price / 7 FROM t",
        "SELECT name || 'x', DATE_FORMAT(at, '%M') FROM t",
    ] {
        read(&scene, &mut conn, sql, "equal").await;
    }
    // what it has set by value holds on both: each of these answers shows by which setting it came about
    new.sql_in(&scene.database.name, "UPDATE t SET at = '2020-05-06 01:02:04' WHERE id = 1");
    conn.query_drop("SET time_zone = '+05:00', group_concat_max_len = 5").await.unwrap();
    read(&scene, &mut conn, "SELECT at FROM t WHERE id = 1", "real").await;
    let (serving, shadow) = last(&scene, "SELECT at FROM t WHERE id = ?");
    assert_eq!(&serving[13..], ":02:03", "{serving}");
    let seen: Option<String> = conn.query_first("SELECT CAST(at AS CHAR) FROM t WHERE id = 1").await.unwrap();
    eventually("that is a read as well", || count(&scene.proxy, "real") == 2);
    assert_eq!((serving.as_str(), &shadow[13..]), (seen.unwrap().as_str(), ":02:04"), "in the session's own zone");
    new.sql_in(&scene.database.name, "UPDATE t SET name = 'oneone' WHERE id = 1");
    read(&scene, &mut conn, "SELECT GROUP_CONCAT(name ORDER BY id) FROM t", "real").await;
    let found = last(&scene, "SELECT GROUP_CONCAT(name ORDER BY id) FROM t");
    assert_eq!(found, ("one,t".to_owned(), "oneon".to_owned()));
    conn.query_drop("SET sql_mode = 'PIPES_AS_CONCAT', SESSION lc_time_names = 'fr_FR'").await.unwrap();
    read(&scene, &mut conn, "SELECT id || 'x', DATE_FORMAT(at, '%M') FROM t WHERE id = 2", "equal").await;
    conn.query_drop("SET NAMES utf8mb4 COLLATE utf8mb4_bin").await.unwrap();
    read(&scene, &mut conn, "SELECT DATE_FORMAT(at, '%M') = 'MAI' FROM t WHERE id = 2", "equal").await;
    // harmless ones change nothing
    conn.query_drop("SET autocommit = 1, foreign_key_checks = 0, optimizer_switch = 'mrr=on'").await.unwrap();
    read(&scene, &mut conn, "SELECT id FROM t", "equal").await;
    // a database that the other store does not have: of a statement that names its own it says nothing
    scene.database.on_legacy(&format!("CREATE DATABASE {}_x", scene.database.name));
    let mut elsewhere = scene.proxy.connect(&format!("{}_x", scene.database.name)).await;
    read(&scene, &mut elsewhere, &format!("SELECT id FROM {}.t", scene.database.name), "equal").await;
    scene.database.on_legacy(&format!("DROP DATABASE {}_x", scene.database.name));

    // what is not known by value, or not carried, or not known to a store
    let ways = [
        ("SET group_concat_max_len = 5 + 5", "SELECT id FROM t"),
        ("SET max_sort_length = 8", "SELECT id FROM t"),
        ("SET NAMES latin1", "SELECT id, 'é' FROM t"),
        ("SET NAMES latin1 COLLATE latin1_german1_ci", "SELECT id FROM t"),
        ("SET @v = 1", "SELECT id, 'x' FROM t WHERE at < NOW()"),
    ];
    for (set, sql) in ways {
        let mut conn = scene.proxy.connect(&scene.database.name).await;
        conn.query_drop(set).await.unwrap();
        skipped(&scene, &mut conn, sql).await;
    }
    // (a mode by an expression may change how the text itself is read: not even looked at)
    let mut conn = scene.proxy.connect(&scene.database.name).await;
    conn.query_drop("SET sql_mode = CONCAT(@@sql_mode, ',ONLY_FULL_GROUP_BY')").await.unwrap();
    let offered = count(&scene.proxy, "offered");
    conn.query_drop("SELECT id FROM t").await.unwrap();
    assert_eq!(count(&scene.proxy, "offered"), offered);
    new.sql("TRUNCATE mysql.time_zone_name");
    new.sql("FLUSH TABLES");
    let mut zoned = scene.proxy.connect(&scene.database.name).await;
    zoned.query_drop("SET time_zone = 'Europe/Vienna'").await.unwrap();
    skipped(&scene, &mut zoned, "SELECT id FROM t").await;
    // and after a reset it is an ordinary session again
    zoned.reset().await.unwrap();
    zoned.query_drop(format!("USE {}", scene.database.name)).await.unwrap();
    read(&scene, &mut zoned, "SELECT id FROM t", "equal").await;
}

/// Statements of the proxy's control account that run at a server.
fn running(server: &crate::support::Server) -> Vec<Vec<String>> {
    server
        .sql("SELECT id, info FROM information_schema.processlist WHERE user = 'switchover' AND info LIKE 'SELECT %t%'")
}

#[tokio::test]
async fn what_takes_too_long_or_is_too_large_goes_on_nowhere() {
    let (scene, new) = pair(&[], &["CREATE TABLE t (id INT PRIMARY KEY, pad TEXT)", "INSERT INTO t VALUES (1, 'x')"]);
    let mut conn = scene.proxy.connect(&scene.database.name).await;
    // one that computes, and one that waits for a lock
    new.sql_in(&scene.database.name, "INSERT INTO t SELECT seq, 'x' FROM seq_2_to_20000");
    let long = "SELECT COUNT(*) FROM t a, t b, t c WHERE a.id + b.id + c.id < 4 AND a.pad = b.pad";
    let _: Vec<Row> = conn.query(long).await.unwrap();
    eventually("it runs", || running(&new).len() == 1);
    eventually("it is given up", || count(&scene.proxy, "failed") == 1);
    eventually("it is killed", || running(&new).is_empty());
    assert!(report(&scene.proxy).to_string().contains("new does not answer within 5 s"));
    let mut locker = new.connect().await;
    locker.query_drop(format!("LOCK TABLES {}.t WRITE", scene.database.name)).await.unwrap();
    let _: Vec<Row> = conn.query("SELECT id FROM t WHERE id = 1").await.unwrap();
    eventually("it is given up", || count(&scene.proxy, "failed") == 2);
    eventually("it waits no more", || running(&new).is_empty());
    locker.query_drop("UNLOCK TABLES").await.unwrap();
    read(&scene, &mut conn, "SELECT id FROM t WHERE id = 1", "equal").await;
    // were the proxy gone, the store would end it by itself
    let own = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'switchover' AND command = 'Sleep'";
    assert_ne!(new.sql(own)[0][0], "0");

    // too many rows, too many bytes in rows, and in one
    scene.database.on_legacy("REPLACE INTO t SELECT seq, 'x' FROM seq_1_to_25000");
    read(&scene, &mut conn, "SELECT id FROM t", "too_large").await;
    read(&scene, &mut conn, "SELECT REPEAT('x', 1000) FROM t WHERE id < 6000", "too_large").await;
    read(&scene, &mut conn, "SELECT REPEAT('x', 5000000) FROM t WHERE id = 1", "too_large").await;
    for server in [&*new, &stores().legacy] {
        let left = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'switchover' AND db = '{}' AND command = 'Query'",
            scene.database.name
        );
        eventually("nothing of it goes on", || server.sql(&left)[0][0] == "0");
    }
    read(&scene, &mut conn, "SELECT id FROM t WHERE id = 1", "equal").await;
    assert_eq!(report(&scene.proxy)["groups"][0]["real"], 0);
    let group = report(&scene.proxy)["groups"][0].clone();
    assert_eq!((&group["too_large"], &group["failed"]), (&3.into(), &2.into()), "{group}");
}

#[tokio::test]
async fn a_store_that_wants_tls_and_another_password_gets_them() {
    let new = PrivateServer::start(2, &[]);
    let database = stores().database();
    new.sql(&format!("CREATE DATABASE {}", database.name));
    database.on_legacy("CREATE TABLE t (id INT PRIMARY KEY)");
    new.sql_in(&database.name, "CREATE TABLE t (id INT PRIMARY KEY)");
    new.sql("ALTER USER switchover@'%' IDENTIFIED BY 'of its own' REQUIRE SSL");
    let tls = format!("tls: {{ mode: required, ca: {} }}", new.folder.join("ca.pem").display());
    let proxy = Proxy::start(|port| {
        let text =
            pair_config(port, &stores().legacy, &new, &["t"]) + "    shadow: { sample: 1 }\nlog: { level: trace }\n";
        text.replace("  new: { ", &format!("  new: {{ {tls}, "))
    });
    let scene = Scene { database, proxy };
    let mut conn = scene.proxy.connect(&scene.database.name).await;
    read(&scene, &mut conn, "SELECT id FROM t", "unreachable").await;
    scene.proxy.edit_config(|text| {
        let (before, after) = text.split_once("  new: ").unwrap();
        format!("{before}  new: {}", after.replacen("password: switchover", "password: 'of its own'", 1))
    });
    assert!(scene.proxy.cli(&["reload"]).ok);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut conn = scene.proxy.connect(&scene.database.name).await;
    read(&scene, &mut conn, "SELECT id FROM t", "equal").await;
    // without TLS this account is refused: the comparison was by TLS
    let plain = new.opts().user(Some("switchover")).pass(Some("of its own"));
    assert!(Conn::new(plain).await.is_err());
    assert!(!scene.proxy.log().contains("of its own") && !report(&scene.proxy).to_string().contains("of its own"));
}
