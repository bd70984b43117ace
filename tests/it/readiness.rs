//! Readiness: what is said of a statement is what happens when the flag has moved; and texts without literals are taken by real
//! parsers wherever the statements themselves are.

use mysql_async::prelude::Queryable;
use serde_json::Value;

use crate::support::proxy::pair_config;
use crate::support::{Database, Proxy, stores};
use switchover::sql::askable::askable;
use switchover::sql::dialect::{Dialect, Engine};
use switchover::sql::{Flags, Kind};

/// `hits` is on both; `names` on legacy alone; on new, `hits` lacks a column and `old` is not there.
fn tables() -> Database {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY, site INT, name VARCHAR(100), at DATETIME)");
    database.on_both("CREATE TABLE names (id INT PRIMARY KEY, name VARCHAR(100))");
    database.on_both("CREATE TABLE old (id INT PRIMARY KEY)");
    let (legacy, new, name) = (&stores().legacy, &stores().new, &database.name);
    legacy.sql(&format!("ALTER TABLE {name}.hits ADD COLUMN extra INT"));
    legacy.sql(&format!("CREATE FUNCTION {name}.twice(a INT) RETURNS INT DETERMINISTIC RETURN a * 2"));
    new.sql(&format!("DROP TABLE {name}.old"));
    database
}

fn readiness(proxy: &Proxy, code: i32) -> Value {
    let output = proxy.cli(&["readiness", "analytics", "--json"]);
    assert_eq!(output.code, Some(code), "{}{}", output.stdout, output.stderr);
    serde_json::from_str(&output.stdout).unwrap()
}

fn verdict<'a>(found: &'a Value, text: &str) -> &'a Value {
    let all = found["statements"].as_array().unwrap();
    all.iter().find(|s| s["text"].as_str().unwrap().contains(text)).unwrap_or_else(|| panic!("no {text}: {found:#}"))
}

#[tokio::test]
async fn each_verdict_is_what_happens_then() {
    let (database, proxy) = (tables(), Proxy::pair(&["hits", "old"]));
    let mut conn = proxy.connect(&database.name).await;
    let ready = [
        "SELECT name, COUNT(*) FROM hits WHERE site IN (1, 2, 3) AND at > NOW() - INTERVAL 7 DAY GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
        "INSERT INTO hits (id, site, name) VALUES (1, 2, 'a'), (2, 3, 'b') ON DUPLICATE KEY UPDATE name = VALUES(name)",
        "UPDATE hits SET name = CONCAT(name, 'x'), at = CURRENT_TIMESTAMP(6) WHERE id = 1",
        "SELECT CAST(site AS DECIMAL(10,2)), DATE_FORMAT(at, '%Y') AS 'year' FROM hits WHERE at >= TIMESTAMP '2024-01-01 00:00:00'",
    ];
    let fails = ["SELECT extra FROM hits WHERE id = 7", "SELECT id FROM old", "SELECT twice(site) FROM hits"];
    let refused = "SELECT h.id FROM hits h JOIN names USING (id)";
    let same = "/* switchover:store=legacy */ SELECT id FROM hits";
    for sql in ready.iter().chain(&fails).chain([&refused, &same, &"SELECT id FROM names", &"SELECT 1"]) {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    let statement = conn.prep("SELECT name FROM hits WHERE id = ? LIMIT ?").await.unwrap();
    let _: Vec<Option<String>> = conn.exec(&statement, (1, 1)).await.unwrap();
    conn.ping().await.unwrap();
    let found = readiness(&proxy, 6);
    assert_eq!((&found["from"], &found["to"]), (&"legacy".into(), &"new".into()));
    for text in ["GROUP BY", "INSERT INTO hits", "UPDATE hits", "DECIMAL", "LIMIT ?"] {
        assert_eq!(verdict(&found, text)["verdict"], "ready", "{text}: {:#}", verdict(&found, text));
    }
    for (text, code) in [("SELECT extra", 1054), ("FROM old", 1146), ("twice", 1305)] {
        let one = verdict(&found, text);
        assert_eq!((&one["verdict"], &one["code"]), (&"fails".into(), &code.into()), "{text}: {one:#}");
    }
    let crossing = verdict(&found, "JOIN names");
    assert_eq!((&crossing["verdict"], &crossing["code"]), (&"refused".into(), &1235.into()));
    assert!(crossing["remedies"].to_string().contains("groups.analytics.references: [names]"), "{crossing:#}");
    assert_eq!(verdict(&found, "SELECT id FROM hits")["verdict"], "same", "{found:#}");
    assert!(found["elsewhere"].as_u64().unwrap() >= 2);
    let share: f64 = found["summary"].as_object().unwrap().values().map(|p| p["share"].as_f64().unwrap()).sum();
    assert!((share - 1.0).abs() < 1e-9, "{found:#}");
    // nothing was executed there
    assert_eq!(stores().new.sql(&format!("SELECT COUNT(*) FROM {}.hits", database.name))[0][0], "0");
    let people = proxy.cli(&["readiness", "analytics"]).stdout;
    assert!(people.contains("fails") && people.contains("→ keep copies in step on new"), "{people}");
    // and so it comes
    proxy.flag("analytics", "new");
    for sql in ready.iter().chain([&same]) {
        conn.query_drop(*sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    }
    for sql in fails.iter().chain([&refused]) {
        conn.query_drop(*sql).await.expect_err(sql);
    }
}

#[tokio::test]
async fn the_exit_status_tells_ready_from_untested() {
    let (database, proxy) = (tables(), Proxy::pair(&["hits"]));
    let mut conn = proxy.connect(&database.name).await;
    readiness(&proxy, 0);
    conn.query_drop("SELECT id FROM hits WHERE name = 'x'").await.unwrap();
    conn.ping().await.unwrap();
    assert_eq!(readiness(&proxy, 0)["summary"]["ready"]["statements"], 1);
    conn.query_drop("ALTER TABLE hits ADD COLUMN more INT").await.unwrap();
    conn.ping().await.unwrap();
    let found = readiness(&proxy, 7);
    assert_eq!(verdict(&found, "ALTER TABLE hits")["verdict"], "untested");
    // what both refuse is the text's fault, or the application's own: it says nothing of the move
    conn.query_drop("SELECT nothing FROM hits").await.unwrap_err();
    conn.ping().await.unwrap();
    assert_eq!(verdict(&readiness(&proxy, 7), "SELECT nothing")["verdict"], "untested");
    // a group that names another store, one that there is not, and no group
    for (more, word) in [
        (&["nope"][..], "groups are: analytics"),
        (&["analytics", "--to", "legacy"], "already"),
        (&["analytics", "--to", "x"], "no store x"),
    ] {
        let output = proxy.cli(&[&["readiness"], more].concat());
        assert!(output.code == Some(1) && output.stderr.contains(word), "{}{}", output.stdout, output.stderr);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_asked_leaves_them_untested() {
    let database = tables();
    let proxy = Proxy::start(|port| {
        let text = pair_config(port, &stores().legacy, &stores().new, &["hits"]);
        let (head, tail) = text.split_once("  new:").unwrap();
        format!("{head}  new:{}", tail.replacen(", control: { user: switchover, password: switchover }", "", 1))
    });
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("SELECT id FROM hits").await.unwrap();
    conn.ping().await.unwrap();
    let found = readiness(&proxy, 7);
    let reason = verdict(&found, "FROM hits")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("control"), "{reason}");
}

/// The statements of the corpus that are for MariaDB, as they are.
fn corpus() -> Vec<String> {
    let text = include_str!("../corpus/statements.txt");
    let entries = text.split("\n\n").filter(|entry| !entry.lines().any(|l| l.starts_with("@ ")));
    let lines = |entry: &str| {
        entry.lines().filter(|l| !l.starts_with("# ") && !l.starts_with("=> ")).collect::<Vec<_>>().join("\n")
    };
    entries.map(lines).filter(|sql| !sql.trim().is_empty()).collect()
}

/// Whether a statement gets as far as its tables: the parser takes it.
async fn parses(conn: &mut mysql_async::Conn, sql: &str) -> Result<(), String> {
    match conn.prep(sql).await {
        Ok(statement) => {
            conn.close(statement).await.unwrap();
            Ok(())
        }
        Err(mysql_async::Error::Server(e)) if matches!(e.code, 1064 | 1149 | 1327) => Err(e.to_string()),
        Err(mysql_async::Error::Server(_)) => Ok(()),
        Err(e) => panic!("{sql}: {e}"),
    }
}

#[tokio::test]
async fn texts_without_literals_parse_wherever_the_statements_do() {
    let database = stores().database();
    let options = crate::support::mariadb::opts(stores().legacy.port).db_name(Some(&database.name));
    let mut conn = mysql_async::Conn::new(options).await.unwrap();
    let version: String = conn.query_first("SELECT VERSION()").await.unwrap().unwrap();
    let dialect = Dialect { engine: Engine::from_server_version(&version), ..Dialect::default() };
    let (mut tried, mut worse) = (0, Vec::new());
    for sql in corpus() {
        if parses(&mut conn, &sql).await.is_err() {
            continue;
        }
        let facts = switchover::sql::analyze(sql.as_bytes(), &dialect);
        if !facts.statements.iter().all(|f| matches!(f.kind, Kind::Read | Kind::Write | Kind::Call | Kind::Show)) {
            continue;
        }
        // nobody is asked about these: files, and what is no statement on tables
        let files = Flags::INTO_FILE | Flags::LOCAL_INFILE;
        let words = ["LOAD ", "HELP ", "SHOW GRANTS", "SHOW BINLOG"];
        if facts.statements.iter().any(|f| f.flags.intersects(files)) || words.iter().any(|w| sql.starts_with(w)) {
            continue;
        }
        tried += 1;
        let text = askable(sql.as_bytes(), &dialect);
        assert!(text.whole, "{sql}");
        if let Err(error) = parses(&mut conn, &text.text).await {
            worse.push(format!("{sql}\n  as {}\n  {error}", text.text));
        }
    }
    assert!(tried > 200, "{tried}");
    // (an alias in quotes directly behind a bare name looks like a value behind a keyword: such a statement is `untested`)
    assert!(worse.len() <= 1, "{} of {tried}:\n{}", worse.len(), worse.join("\n"));
}
