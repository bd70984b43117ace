//! Query insight: what real clients sent is counted per statement, on the store that answered, and bounded.

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, stores};

fn hits() -> Database {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY, server INT, name VARCHAR(100))");
    database.on_both("CREATE TABLE names (id INT PRIMARY KEY, name VARCHAR(100))");
    database.on_both("INSERT INTO hits VALUES (1, @@server_id, 'a'), (2, @@server_id, 'b'), (3, @@server_id, 'c')");
    database
}

fn digests(proxy: &Proxy, more: &[&str]) -> Value {
    let output = proxy.cli(&[&["digests", "--json"], more].concat());
    assert!(output.ok, "{}{}", output.stdout, output.stderr);
    serde_json::from_str(&output.stdout).unwrap()
}

/// The only statement that contains this.
fn one(found: &Value, text: &str) -> Value {
    let all = found["digests"].as_array().unwrap();
    let mut fitting = all.iter().filter(|d| d["text"].as_str().unwrap().contains(text));
    let one = fitting.next().unwrap_or_else(|| panic!("no {text} in {found:#}"));
    assert!(fitting.next().is_none(), "several of {text} in {found:#}");
    one.clone()
}

#[tokio::test]
async fn executions_are_counted_by_statement_store_and_the_way_they_came() {
    let (database, proxy) = (hits(), Proxy::pair(&["hits"]));
    let mut conn = proxy.connect(&database.name).await;
    for id in 1..=3 {
        let sql = format!("SELECT id, name FROM hits WHERE id <= {id}");
        assert_eq!(conn.query::<(u32, String), _>(sql).await.unwrap().len(), id);
    }
    proxy.flag("analytics", "new");
    let _: Vec<(u32, String)> = conn.query("SELECT id, name FROM hits WHERE id <= 2").await.unwrap();
    let statement = conn.prep("SELECT name FROM hits WHERE id IN (?, ?)").await.unwrap();
    for _ in 0..5 {
        let names: Vec<String> = conn.exec(&statement, (1, 2)).await.unwrap();
        assert_eq!(names.len(), 2);
    }
    conn.query_drop("UPDATE hits SET name = 'x' WHERE id > 1").await.unwrap();
    conn.query_drop("INSERT INTO hits VALUES (1, 1, 'secret')").await.unwrap_err();
    conn.query_drop("SELECT * FROM hits JOIN names USING (id)").await.unwrap_err();
    conn.ping().await.unwrap();
    let found = digests(&proxy, &["--limit", "0"]);
    let read = one(&found, "SELECT id, name FROM hits WHERE id <= ?");
    assert_eq!((&read["calls"], &read["as_text"], &read["rows"]), (&4.into(), &4.into(), &8.into()), "{read:#}");
    assert_eq!(read["database"], database.name.as_str());
    assert_eq!(
        (&read["kind"], &read["tables"], &read["groups"]),
        (&"read".into(), &serde_json::json!(["hits"]), &serde_json::json!(["analytics"]))
    );
    let stores: Vec<_> =
        read["stores"].as_array().unwrap().iter().map(|s| (s["store"].clone(), s["calls"].clone())).collect();
    assert_eq!(stores, [("legacy".into(), 3.into()), ("new".into(), 1.into())]);
    assert!(read["example"].is_null());
    // each row: a header, two lengths, one digit and one letter; around them columns, and what ends the result
    let bytes = read["bytes"].as_u64().unwrap();
    assert!((8 * 8 + 4 * 80..4_000).contains(&bytes), "{bytes}");
    let (p50, longest) = (read["p50_micros"].as_f64().unwrap(), read["longest_micros"].as_u64().unwrap());
    assert!(p50 > 0.0 && p50 <= longest as f64 * 1.07 && read["micros"].as_u64().unwrap() >= longest);
    let prepared = one(&found, "SELECT name FROM hits WHERE id IN");
    assert_eq!((&prepared["prepared"], &prepared["as_text"], &prepared["rows"]), (&5.into(), &0.into(), &10.into()));
    let update = one(&found, "UPDATE hits");
    assert_eq!((&update["kind"], &update["affected"]), (&"write".into(), &2.into()));
    let insert = one(&found, "INSERT INTO hits");
    assert_eq!((&insert["errors"], &insert["last_error"]), (&1.into(), &1062.into()));
    let refused = one(&found, "JOIN names");
    assert_eq!((&refused["refused"], &refused["calls"], &refused["last_error"]), (&1.into(), &0.into(), &1235.into()));
    assert!(!found.to_string().contains("secret"));
}

#[tokio::test]
async fn they_are_asked_for_by_group_store_word_and_order_and_begin_anew() {
    let (database, proxy) = (hits(), Proxy::pair(&["hits"]));
    let mut conn = proxy.connect(&database.name).await;
    for _ in 0..10 {
        conn.query_drop("SELECT 1 FROM names").await.unwrap();
    }
    conn.query_drop("SELECT SLEEP(0.3) FROM names LIMIT 1").await.unwrap();
    conn.query_drop("SELECT SLEEP(0.3)").await.unwrap();
    conn.query_drop("SELECT server FROM hits").await.unwrap();
    // what was answered is counted before the session's next command
    conn.ping().await.unwrap();
    let texts = |more: &[&str]| -> Vec<String> {
        let found = digests(&proxy, more);
        found["digests"].as_array().unwrap().iter().map(|d| d["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&["--group", "analytics"]), ["SELECT server FROM hits"]);
    assert_eq!(texts(&["--filter", "SERVER from"]), ["SELECT server FROM hits"]);
    assert!(texts(&["--store", "new"]).is_empty());
    assert_eq!(texts(&["--sort", "count", "--filter", "names", "--limit", "1"]), ["SELECT ? FROM names"]);
    assert_eq!(texts(&["--sort", "time", "--limit", "1"]), ["SELECT SLEEP(?)"]);
    assert_eq!(texts(&["--sort", "p99", "--limit", "1"]), ["SELECT SLEEP(?)"]);
    let people = proxy.cli(&["digests", "--sort", "count"]).stdout;
    assert!(people.contains("STATEMENT") && people.contains("SELECT ? FROM names"), "{people}");
    assert!(texts(&["--reset", "--limit", "0"]).len() >= 4);
    conn.query_drop("SELECT server FROM hits").await.unwrap();
    conn.ping().await.unwrap();
    let found = digests(&proxy, &["--limit", "0"]);
    assert_eq!(one(&found, "SELECT server FROM hits")["calls"], 1);
    assert_eq!(found["kept"], 1, "{found:#}");
}

#[tokio::test]
async fn of_too_many_statements_the_sums_stay_exact() {
    let database = hits();
    let proxy = Proxy::start(|port| {
        let text = pair_config(port, &stores().legacy, &stores().new, &["hits"]);
        text + "insight: { statements: 50, examples: true }\nworkers: 1\n"
    });
    let mut conn = proxy.connect(&database.name).await;
    digests(&proxy, &["--reset"]);
    for n in 0..300 {
        conn.query_drop(format!("SELECT id AS c{n} FROM hits WHERE name <> 'the secret'")).await.unwrap();
        conn.query_drop("SELECT name FROM hits").await.unwrap();
    }
    conn.ping().await.unwrap();
    let found = digests(&proxy, &["--limit", "0"]);
    assert_eq!((&found["kept"], &found["calls"]), (&50.into(), &600.into()));
    let all = found["digests"].as_array().unwrap().iter().chain([&found["others"]]);
    let (calls, rows): (u64, u64) =
        all.fold((0, 0), |(c, r), d| (c + d["calls"].as_u64().unwrap(), r + d["rows"].as_u64().unwrap()));
    assert_eq!((calls, rows), (600, 1_800));
    assert_eq!(one(&found, "SELECT name FROM hits")["calls"], 300, "what is used all the time stays");
    // examples were asked for, and have literals; texts have none
    assert!(found["digests"].to_string().contains("the secret"));
    assert!(found["digests"].as_array().unwrap().iter().all(|d| !d["text"].to_string().contains("secret")));
    // and off
    proxy.edit_config(|text| text.replace("statements: 50", "statements: 0"));
    assert!(proxy.cli(&["reload"]).ok);
    conn.query_drop("SELECT name FROM hits").await.unwrap();
    let off = digests(&proxy, &["--limit", "0"]);
    assert_eq!((&off["on"], &off["calls"]), (&false.into(), &600.into()));
}

#[tokio::test]
async fn one_statement_in_two_databases_is_two_rows() {
    let (one_db, other) = (hits(), hits());
    let proxy = Proxy::pair(&["hits"]);
    let mut conn = proxy.connect(&one_db.name).await;
    for n in 0..6 {
        conn.query_drop("SELECT server FROM hits").await.unwrap();
        let next = if n % 2 == 0 { &other.name } else { &one_db.name };
        conn.query_drop(format!("USE {next}")).await.unwrap();
    }
    conn.ping().await.unwrap();
    let found = digests(&proxy, &["--group", "analytics"]);
    let mut rows: Vec<_> =
        found["digests"].as_array().unwrap().iter().map(|d| (d["database"].clone(), d["calls"].clone())).collect();
    rows.sort_by_key(|r| r.0.to_string());
    let mut expected = [(one_db.name.clone().into(), 3.into()), (other.name.clone().into(), 3.into())];
    expected.sort_by_key(|r: &(Value, Value)| r.0.to_string());
    assert_eq!(rows, expected);
}

#[test]
fn several_statements_in_a_text_and_a_text_that_is_prepared() {
    let (database, proxy) = (hits(), Proxy::pair(&["hits"]));
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    raw.query("PREPARE s FROM 'SELECT server FROM hits WHERE id = ?'");
    raw.query("SET @a = 1");
    raw.query("EXECUTE s USING @a");
    raw.query("EXECUTE s USING @a");
    raw.query("DEALLOCATE PREPARE s");
    let found = digests(&proxy, &["--limit", "0"]);
    let inner = one(&found, "SELECT server FROM hits WHERE id = ?");
    assert_eq!((&inner["prepared"], &inner["rows"]), (&2.into(), &2.into()), "{found:#}");
}
