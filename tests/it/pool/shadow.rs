//! Shadow reads in `pool: transaction`: sessions that share one connection are compared each under its own settings, and none of them
//! is left to another's reads, at the other store either: that writes down here what it is asked.

use std::collections::BTreeMap;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Statement};

use crate::shadow::{Scene, count, report, verdicts};
use crate::support::proxy::pair_config;
use crate::support::{PrivateServer, Proxy, eventually, stores};

/// What shows by its answer what it was answered under: a mode, a time zone, a collation; the name is another on either store.
const READS: [(&str, &str); 3] =
    [("mode", "CONCAT(id || 'x', name)"), ("zone", "CONCAT(at, name)"), ("names", "CONCAT('a' = 'A', name)")];

/// One connection to each store, for all sessions together.
fn narrow() -> (Scene, PrivateServer) {
    let new = PrivateServer::start(2, &["--general-log=1", "--general-log-file=asked"]);
    let database = stores().database();
    let proxy = Proxy::start(|port| {
        let base = pair_config(port, &stores().legacy, &new, &["t"]);
        base + "    shadow: { sample: 1 }\ninsight: { examples: true }\nworkers: 1\n\
                pool: { mode: transaction, max_per_store: 1, wait_timeout: 10s }\n"
    });
    (Scene { database, proxy }, new)
}

/// A table in a database on both stores, whose one row has another name on either.
fn fill(new: &PrivateServer, database: &str, names: [&str; 2]) {
    new.sql(&format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"));
    for (server, name) in [&stores().legacy, &**new].into_iter().zip(names) {
        server.sql_in(database, "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(40), at TIMESTAMP NULL)");
        server.sql_in(database, &format!("INSERT INTO t VALUES (1, '{name}', FROM_UNIXTIME(1588726923))"));
    }
}

/// A session, and what the row of its database is called on both stores.
struct Client {
    who: &'static str,
    conn: Conn,
    names: [&'static str; 2],
    prepared: Option<Statement>,
}

impl Client {
    async fn new(scene: &Scene, database: &str, who: &'static str, names: [&'static str; 2]) -> Client {
        Client { who, conn: scene.proxy.connect(database).await, names, prepared: None }
    }

    async fn read(&mut self, expression: &str, what: &str) -> String {
        let sql = format!("SELECT {expression} AS {}_{what} FROM t WHERE id = 1", self.who);
        self.conn.query_first(sql).await.unwrap().unwrap()
    }

    async fn read_prepared(&mut self) -> String {
        if self.prepared.is_none() {
            let sql = format!("SELECT CONCAT(id || ?, name) AS {}_prepared FROM t WHERE id = ?", self.who);
            self.prepared = Some(self.conn.prep(sql).await.unwrap());
        }
        let statement = self.prepared.clone().unwrap();
        self.conn.exec_first(&statement, ("x", 1)).await.unwrap().unwrap()
    }
}

/// What both stores said last to the statement of this name.
fn last(scene: &Scene, name: &str) -> (String, String) {
    let statements = report(&scene.proxy)["statements"].as_array().unwrap().clone();
    let named = |s: &&serde_json::Value| s["statement"].as_str().unwrap().contains(&format!(" {name} "));
    let one = statements.iter().find(named).unwrap_or_else(|| panic!("{name}: {statements:?}"));
    (one["last_serving"].as_str().unwrap().to_owned(), one["last_shadow"].as_str().unwrap().to_owned())
}

/// Every read that the other store was asked, with the settings that its session had come to by then.
fn asked(new: &PrivateServer) -> Vec<(String, BTreeMap<String, String>)> {
    let log = std::fs::read_to_string(new.folder.join("data/asked")).unwrap();
    let (mut sessions, mut reads) = (BTreeMap::<&str, BTreeMap<String, String>>::new(), Vec::new());
    for (head, sql) in log.lines().filter_map(|line| line.split_once(" Query\t")) {
        let settings = sessions.entry(head.rsplit([' ', '\t']).next().unwrap()).or_default();
        if let Some(set) = sql.strip_prefix("SET ") {
            for assignment in set.split(", ") {
                let (name, value) = match assignment.strip_prefix("NAMES ") {
                    Some(names) => ("names", names),
                    None => assignment.split_once(" = ").unwrap_or((assignment, "")),
                };
                settings.insert(name.trim_start_matches("SESSION ").to_owned(), value.replace('\'', ""));
            }
        } else if sql.starts_with("SELECT CONCAT(") {
            reads.push((sql.to_owned(), settings.clone()));
        }
    }
    reads
}

/// Panics where the other store answered a session's reads under other settings than these.
fn answered_under(new: &PrivateServer, who: &str, settings: &[(&str, &str)]) {
    let asked = asked(new);
    let own: Vec<_> = asked.iter().filter(|(sql, _)| sql.contains(&format!(" AS {who}_"))).collect();
    assert!(!own.is_empty(), "{who}: {asked:?}");
    for (sql, found) in own {
        for (name, value) in settings {
            assert_eq!(found.get(*name).map(String::as_str), Some(*value), "{name} of {sql}: {found:?}");
        }
    }
}

#[tokio::test]
async fn each_session_is_compared_under_its_own_settings() {
    let (scene, new) = narrow();
    let other = stores().database();
    fill(&new, &scene.database.name, ["one", "uno"]);
    fill(&new, &other.name, ["zwei", "due"]);
    let mut clients = [
        Client::new(&scene, &scene.database.name, "a", ["one", "uno"]).await,
        Client::new(&scene, &other.name, "b", ["zwei", "due"]).await,
        Client::new(&scene, &scene.database.name, "c", ["one", "uno"]).await,
    ];
    let own = "sql_mode = 'PIPES_AS_CONCAT', time_zone = '+05:00', sql_auto_is_null = 1, group_concat_max_len = 77";
    clients[0].conn.query_drop(format!("SET {own}")).await.unwrap();
    clients[0].conn.query_drop("SET NAMES utf8mb4 COLLATE utf8mb4_bin").await.unwrap();
    clients[1].conn.query_drop("SET time_zone = '-03:00'").await.unwrap();
    let mut seen = BTreeMap::new();
    for _ in 0..2 {
        for (what, expression) in READS {
            for client in &mut clients {
                let answer = client.read(expression, what).await;
                seen.insert(format!("{}_{what}", client.who), (answer, client.names));
            }
        }
        for client in &mut clients {
            let answer = client.read_prepared().await;
            seen.insert(format!("{}_prepared", client.who), (answer, client.names));
        }
    }
    assert_eq!(scene.proxy.status()["stores"][0]["idle"], 1, "they share one connection: {}", scene.proxy.status());
    assert_eq!(count(&scene.proxy, "offered"), 24);
    eventually("all are compared", || count(&scene.proxy, "compared") == 24);
    assert_eq!(verdicts(&scene.proxy), [("real".to_owned(), 24)]);
    let answers = |name: &str| seen[name].0.as_str();
    assert_eq!(["a_mode", "b_mode", "c_mode"].map(answers), ["1xone", "1zwei", "1one"]);
    assert_eq!(["a_prepared", "b_prepared", "c_prepared"].map(answers), ["1xone", "1zwei", "1one"]);
    assert_eq!(["a_names", "b_names", "c_names"].map(answers), ["0one", "1zwei", "1one"]);
    assert_eq!(["a_zone", "b_zone"].map(answers), ["2020-05-06 06:02:03one", "2020-05-05 22:02:03zwei"]);
    for (name, (answer, names)) in &seen {
        let (serving, shadow) = last(&scene, name);
        assert_eq!(shadow, serving.replace(names[0], names[1]), "{name}: both under the same");
        // (a session that has set no zone is compared in UTC, whatever the stores' own)
        assert!(serving == *answer || name == "c_zone", "{name}: {serving}, and its client has seen {answer}");
    }

    let mode = stores().legacy.sql("SELECT @@GLOBAL.sql_mode")[0][0].clone();
    let length = stores().legacy.sql("SELECT @@GLOBAL.group_concat_max_len")[0][0].clone();
    let first = [
        ("sql_mode", mode.as_str()),
        ("time_zone", "+00:00"),
        ("sql_auto_is_null", "0"),
        ("group_concat_max_len", length.as_str()),
        ("names", "utf8mb4 COLLATE utf8mb4_general_ci"),
    ];
    let of_a = [
        ("sql_mode", "PIPES_AS_CONCAT"),
        ("time_zone", "+05:00"),
        ("sql_auto_is_null", "1"),
        ("group_concat_max_len", "77"),
        ("names", "utf8mb4 COLLATE utf8mb4_bin"),
    ];
    let of_b = first.map(|(name, value)| (name, if name == "time_zone" { "-03:00" } else { value }));
    answered_under(&new, "a", &of_a);
    answered_under(&new, "b", &of_b);
    answered_under(&new, "c", &first);

    // after a reset the first one has what any session begins with
    let [mut a, ..] = clients;
    a.conn.reset().await.unwrap();
    a.conn.query_drop(format!("USE {}", scene.database.name)).await.unwrap();
    a.who = "anew";
    assert_eq!(a.read(READS[0].1, "mode").await, "1one");
    eventually("it is compared", || count(&scene.proxy, "compared") == 25);
    assert_eq!(last(&scene, "anew_mode"), ("1one".to_owned(), "1uno".to_owned()));
    answered_under(&new, "anew", &first);
}

#[tokio::test]
async fn a_session_with_other_quotes_is_never_offered_and_its_neighbour_is() {
    let (scene, new) = narrow();
    fill(&new, &scene.database.name, ["one", "one"]);
    let offered = || count(&scene.proxy, "offered");
    let mut quoted = scene.proxy.connect(&scene.database.name).await;
    let mut plain = scene.proxy.connect(&scene.database.name).await;
    quoted.query_drop("SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT'").await.unwrap();
    let (sql, wanted) = ("SELECT CONCAT(id || 'x', \"name\") FROM t", ["1xone", "1name"]);
    for round in 1..=5 {
        let seen: Option<String> = quoted.query_first(sql).await.unwrap();
        assert_eq!((seen.as_deref(), offered()), (Some(wanted[0]), round - 1));
        let seen: Option<String> = plain.query_first(sql).await.unwrap();
        assert_eq!((seen.as_deref(), offered()), (Some(wanted[1]), round));
    }
    let statement = quoted.prep("SELECT \"name\" FROM t WHERE id = ?").await.unwrap();
    let seen: Option<String> = quoted.exec_first(&statement, (1,)).await.unwrap();
    assert_eq!((seen.as_deref(), offered()), (Some("one"), 5));
    // without them it is offered again, under what it has now
    quoted.query_drop("SET sql_mode = 'PIPES_AS_CONCAT'").await.unwrap();
    let seen: Option<String> = quoted.query_first("SELECT CONCAT(id || 'x', name) AS back_mode FROM t").await.unwrap();
    assert_eq!((seen.as_deref(), offered()), (Some("1xone"), 6));
    eventually("all are compared", || count(&scene.proxy, "compared") == 6);
    assert_eq!(verdicts(&scene.proxy), [("equal".to_owned(), 6)]);
    answered_under(&new, "back", &[("sql_mode", "PIPES_AS_CONCAT")]);
}

#[tokio::test]
async fn after_a_flip_the_settings_reach_the_store_that_served_before() {
    let (scene, new) = narrow();
    fill(&new, &scene.database.name, ["one", "uno"]);
    let mut a = Client::new(&scene, &scene.database.name, "a", ["uno", "one"]).await;
    let mut b = Client::new(&scene, &scene.database.name, "b", ["uno", "one"]).await;
    a.conn.query_drop("SET sql_mode = 'PIPES_AS_CONCAT', time_zone = '+05:00'").await.unwrap();
    b.conn.query_drop("SET time_zone = '-03:00'").await.unwrap();
    scene.proxy.flag("analytics", "new");
    for (what, expression) in READS {
        for client in [&mut a, &mut b] {
            let answer = client.read(expression, what).await;
            assert!(answer.ends_with("uno"), "{answer}");
        }
    }
    eventually("all are compared", || count(&scene.proxy, "compared") == 6);
    let both = |name: &str| last(&scene, name);
    assert_eq!(both("a_mode"), ("1xuno".to_owned(), "1xone".to_owned()));
    assert_eq!(both("b_mode"), ("1uno".to_owned(), "1one".to_owned()));
    assert_eq!(both("a_zone").1, "2020-05-06 06:02:03one");
    assert_eq!(both("b_zone").1, "2020-05-05 22:02:03one");
    // at rest again: what one session has set elsewhere is still none of the other's
    assert_eq!(verdicts(&scene.proxy), [("real".to_owned(), 6)]);
}
