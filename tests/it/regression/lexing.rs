//! Rules 9–12: reading statements.
//!
//! In `state.rs`: ANSI_QUOTES and gbk (9). In `tests/classify.rs` and the unit tests of `sql`: the plan cache's bound, 128-bit
//! fingerprints, folded lists (10), the splitter (12). In `routing.rs`: PREPARE … FROM and EXECUTE IMMEDIATE of literals and
//! variables (11). Here: each against real servers, where a wrong reading would send a write to the wrong store.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};

use crate::support::{Database, Proxy, eventually, stores};

/// `hits` is grouped, and on the new store; `sites` is not. `server` tells the rows apart.
fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database
            .on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, s VARCHAR(100), server INT)"));
        database.on_both(&format!("INSERT INTO {table} VALUES (1, 'a', @@server_id)"));
    }
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

async fn number(conn: &mut Conn, sql: &str) -> Option<i64> {
    conn.query_first(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

async fn refused(conn: &mut Conn, sql: &str) -> (u16, String) {
    match conn.query_drop(sql).await {
        Err(Error::Server(e)) => (e.code, e.message),
        other => panic!("{sql}: {other:?}"),
    }
}

#[tokio::test]
async fn rule_09_a_backslash_is_read_as_the_session_reads_it() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    // escaped, the quote does not end the text, and `FROM hits` is inside it
    let inside = r"SELECT 7 + LENGTH('\' FROM hits WHERE \'')";
    assert_eq!(number(&mut conn, inside).await, Some(7 + 19));
    // unescaped, it does, and what follows is a table
    let outside = r"SELECT server FROM hits WHERE s <> '\' AND id = 1 -- '";
    conn.query_drop("SET sql_mode = 'NO_BACKSLASH_ESCAPES'").await.unwrap();
    assert_eq!(number(&mut conn, outside).await, Some(2));
    conn.query_drop(r"INSERT INTO hits (s) SELECT s FROM hits WHERE s <> '\'").await.unwrap();
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits"), [["2"]]);
    conn.query_drop("SET sql_mode = DEFAULT").await.unwrap();
    assert_eq!(number(&mut conn, inside).await, Some(7 + 19), "the plan of the other reading was used");
}

#[tokio::test]
async fn rule_09_executable_comments_are_read_as_the_store_reads_them() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    // MariaDB runs these: the table is there
    for sql in [
        "SELECT server /*! FROM hits */ WHERE id = 1",
        "SELECT server /*!50000 FROM hits */ WHERE id = 1",
        "SELECT server /*!100000 FROM hits */ WHERE id = 1",
        "SELECT server /*M! FROM hits */ WHERE id = 1",
        "SELECT server /*M!100100 FROM hits */ WHERE id = 1",
        "SELECT server FROM /* sites */ hits WHERE id = 1 # FROM sites",
        "SELECT server FROM hits -- , sites\n WHERE id = 1",
    ] {
        assert_eq!(number(&mut conn, sql).await, Some(2), "{sql}");
    }
    // and ignores these; what is refused instead is no harm done (rule 9), what runs on both stores would be
    for sql in
        ["SELECT server FROM sites /*!50799 , hits */ LIMIT 1", "SELECT server FROM sites /*!99999 , hits */ LIMIT 1"]
    {
        match conn.query_first::<i64, _>(sql).await {
            Ok(server) => assert_eq!(server, Some(1), "{sql}"),
            Err(Error::Server(e)) => assert!(e.code == 1235 && e.message.starts_with("switchover:"), "{sql}: {e}"),
            Err(e) => panic!("{sql}: {e}"),
        }
    }
    // a write that is one in a comment only
    conn.query_drop("/*!40000 INSERT INTO hits (s) VALUES ('comment') */").await.unwrap();
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits WHERE s = 'comment'"), [["1"]]);
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM hits WHERE s = 'comment'"), [["0"]]);
}

#[tokio::test]
async fn rule_09_a_second_byte_may_be_a_backslash_or_not() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    // gbk: AA 5C is one character, so the quote after it ends the text; latin1: 5C escapes the quote
    let text = b"SELECT COUNT(*) FROM hits WHERE s = '\xaa\\' -- '".to_vec();
    conn.query_drop("SET NAMES gbk").await.unwrap();
    assert_eq!(conn.query_first::<i64, _>(&text[..]).await.unwrap(), Some(0));
    conn.query_drop("SET NAMES latin1").await.unwrap();
    let other = b"SELECT CONCAT('\xaa\\' FROM hits -- ', @@server_id)".to_vec();
    let answer: Option<Vec<u8>> = conn.query_first(&other[..]).await.unwrap();
    assert!(answer.unwrap().ends_with(b"' FROM hits -- 1"), "a table was seen inside a text");
}

#[tokio::test]
async fn rule_11_dynamic_sql_that_cannot_be_read_is_refused_only_where_it_matters() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    // evaluating it for the routing too would do something twice
    let unreadable = "EXECUTE IMMEDIATE CONCAT('SELECT server FROM ', @t := 'hits')";
    let (code, message) = refused(&mut conn, unreadable).await;
    assert!(code == 1235 && message.starts_with("switchover:") && message.contains("switchover:store="), "{message}");
    let prepare = "PREPARE s FROM CONCAT('SELECT server FROM hits LIMIT ', GET_LOCK('l', 0))";
    assert_eq!(refused(&mut conn, prepare).await.0, 1235);
    assert_eq!(number(&mut conn, "EXECUTE IMMEDIATE 'SELECT server FROM hits'").await, Some(2));
    // what the store takes for no text at all, it refuses itself, and evaluates nothing
    conn.query_drop(
        "CREATE FUNCTION counted() RETURNS TEXT NO SQL RETURN CONCAT('SELECT ', @calls := IFNULL(@calls, 0) + 1)",
    )
    .await
    .unwrap();
    for source in [
        "EXECUTE IMMEDIATE counted()",
        "PREPARE s FROM CONCAT(counted(), '')",
        "EXECUTE IMMEDIATE (SELECT s FROM hits)",
    ] {
        assert_eq!(refused(&mut conn, source).await.0, 1970, "{source}");
    }
    assert_eq!(number(&mut conn, "SELECT IFNULL(@calls, 0)").await, Some(0));
    // nothing lives elsewhere: nothing to refuse
    proxy.flag("analytics", "legacy");
    assert_eq!(number(&mut conn, unreadable).await, Some(1));
}

#[tokio::test]
async fn rule_11_dynamic_sql_is_routed_by_what_its_expression_comes_to() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    assert_eq!(number(&mut conn, "EXECUTE IMMEDIATE CONCAT('SELECT server FROM ', 'hits')").await, Some(2));
    assert_eq!(number(&mut conn, "EXECUTE IMMEDIATE CONCAT('SELECT server FROM ', _latin1'sites')").await, Some(1));
    conn.query_drop("SET @t = 'hits', @one = 1").await.unwrap();
    let using = "EXECUTE IMMEDIATE CONCAT('SELECT server FROM ', CONVERT(@t USING latin1), ' WHERE id = ?') USING @one";
    assert_eq!(number(&mut conn, using).await, Some(2));
    // as mariadb-dump says it
    let dumped = "/*M!100203 EXECUTE IMMEDIATE IF(@@LOG_OUTPUT='TABLE', \"SELECT 7\", \"SELECT 8\") */";
    assert_eq!(number(&mut conn, dumped).await, Some(8));
    // prepared on one store, and again on the other when the flag has moved
    conn.query_drop("PREPARE s FROM CONCAT('SELECT server FROM ', @t)").await.unwrap();
    assert_eq!(number(&mut conn, "EXECUTE s").await, Some(2));
    proxy.flag("analytics", "legacy");
    assert_eq!(number(&mut conn, "EXECUTE s").await, Some(1));
    proxy.flag("analytics", "new");
    // answers in UCS-2 are read all the same
    conn.query_drop("SET character_set_results = ucs2").await.unwrap();
    conn.query_drop("EXECUTE IMMEDIATE CONCAT('UPDATE ', @t, ' SET server = 9')").await.unwrap();
    assert_eq!(database.on_new("SELECT server FROM hits"), [["9"]]);
    assert_eq!(database.on_legacy("SELECT server FROM hits"), [["1"]]);
    // what is wrong is said by the store
    conn.query_drop("SET character_set_results = utf8mb4").await.unwrap();
    let (code, message) = refused(&mut conn, "EXECUTE IMMEDIATE CONCAT(nowhere)").await;
    assert_eq!(code, 1054, "{message}");
    assert_eq!(refused(&mut conn, "PREPARE s FROM").await.0, 1064);
    let (code, message) = refused(&mut conn, "PREPARE s from_garbage 'SELECT 1'").await;
    assert!(code == 1064 && message.contains("near 'from_garbage 'SELECT 1''"), "{message}");
    assert_eq!(refused(&mut conn, "EXECUTE IMMEDIATE CONCAT('SELECT ', NULL)").await.0, 1064);
}

#[tokio::test]
async fn rule_11_a_hint_says_where_dynamic_sql_runs() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    let hinted = "EXECUTE IMMEDIATE /* switchover:store=new */ CONCAT('SELECT server FROM ', 'hits')";
    assert_eq!(number(&mut conn, hinted).await, Some(2));
}

/// Tables that no other test's group names: what is tied to them would hold up those tests' flips too.
fn tied() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["tied", "strangers"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, s VARCHAR(100))"));
    }
    (database, Proxy::pair(&["tied"]))
}

#[tokio::test]
async fn rule_11_check_names_views_and_triggers_that_a_group_does_not_list() {
    let (database, proxy) = tied();
    database.on_legacy("CREATE VIEW busy_sites AS SELECT h.id FROM tied h");
    database.on_legacy(
        "CREATE TRIGGER count_hits AFTER INSERT ON tied FOR EACH ROW INSERT INTO strangers (s) VALUES ('t')",
    );
    let output = proxy.cli(&["check"]);
    let text = output.stdout + &output.stderr;
    for name in ["busy_sites", "count_hits"] {
        assert!(text.contains(name), "{name} is not named:\n{text}");
    }
    database.on_legacy("DROP VIEW busy_sites");
    database.on_legacy("DROP TRIGGER count_hits");
}

/// One proxy for all of it: the tied tables are in one database, and each flip looks at all databases.
#[tokio::test]
async fn rule_11_a_flip_is_refused_while_something_that_the_group_does_not_list_uses_its_tables() {
    let database = stores().database();
    for table in ["bound", "others"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY, s VARCHAR(100))"));
    }
    let proxy = Proxy::pair(&["bound"]);
    let (before, epoch) = (std::fs::read_to_string(&proxy.config_path).unwrap(), proxy.status()["epoch"].clone());
    for (make, drop) in [
        ("CREATE VIEW knot AS SELECT b.id FROM others JOIN bound AS b ON b.id = others.id", "DROP VIEW knot"),
        ("CREATE TRIGGER knot AFTER INSERT ON bound FOR EACH ROW DELETE FROM others", "DROP TRIGGER knot"),
        ("CREATE TRIGGER knot AFTER INSERT ON others FOR EACH ROW DELETE FROM `bound`", "DROP TRIGGER knot"),
        ("CREATE PROCEDURE knot() BEGIN IF 1 THEN SELECT COUNT(*) FROM bound; END IF; END", "DROP PROCEDURE knot"),
        ("CREATE FUNCTION knot() RETURNS INT READS SQL DATA RETURN (SELECT COUNT(*) FROM bound)", "DROP FUNCTION knot"),
        ("CREATE EVENT knot ON SCHEDULE EVERY 1 DAY DO DELETE FROM bound", "DROP EVENT knot"),
        (
            "ALTER TABLE bound ADD CONSTRAINT knot FOREIGN KEY (id) REFERENCES others (id)",
            "ALTER TABLE bound DROP FOREIGN KEY knot",
        ),
        (
            "ALTER TABLE others ADD CONSTRAINT knot FOREIGN KEY (id) REFERENCES bound (id)",
            "ALTER TABLE others DROP FOREIGN KEY knot",
        ),
    ] {
        database.on_legacy(make);
        let output = proxy.cli(&["flag", "analytics", "new"]);
        assert!(!output.ok, "{make}: {}", output.stdout);
        let text = output.stderr + &output.stdout;
        assert!(text.contains("knot") && text.contains("--force"), "{make}: {text}");
        assert_eq!(std::fs::read_to_string(&proxy.config_path).unwrap(), before, "{make}: the file was touched");
        assert_eq!((&proxy.status()["epoch"], &proxy.status()["config_error"]), (&epoch, &serde_json::Value::Null));
        database.on_legacy(drop);
    }
    // a saved file is refused as one that does not check is
    database.on_legacy("CREATE VIEW knot AS SELECT * FROM bound");
    proxy.edit_config(|text| text.replace("connection: legacy", "connection: new"));
    eventually("the refusal is told", || proxy.status()["config_error"].to_string().contains("knot"));
    assert_eq!((&proxy.status()["epoch"], &proxy.status()["groups"][0]["connection"]), (&epoch, &"legacy".into()));
    let forced = proxy.cli(&["flag", "analytics", "new", "--force", "--why", "the view is not used"]);
    assert!(forced.ok, "{}", forced.stderr);
    let status = proxy.status();
    assert_eq!(
        (&status["groups"][0]["connection"], &status["config_error"]),
        (&"new".into(), &serde_json::Value::Null)
    );
    assert_eq!(status["last_flips"][0]["force"], true, "who skipped the check is on record");
    // the way back is never held up, and what is listed does not hold up either
    proxy.flag("analytics", "legacy");
    proxy.edit_config(|text| text.replace("tables: [bound]", "tables: [bound, knot]"));
    eventually("the view is in the group", || proxy.cli(&["flag", "analytics", "new"]).ok);
    database.on_legacy("DROP VIEW knot");
}

#[tokio::test]
async fn rule_12_compound_statements_are_one_statement() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("BEGIN NOT ATOMIC INSERT INTO hits (s) VALUES ('x'); INSERT INTO hits (s) VALUES ('x'); END")
        .await
        .unwrap();
    conn.query_drop("IF (SELECT COUNT(*) FROM hits) > 1 THEN INSERT INTO hits (s) VALUES ('x'); DO 0; END IF")
        .await
        .unwrap();
    conn.query_drop("FOR i IN 1..3 DO INSERT INTO hits (s) VALUES ('x'); END FOR").await.unwrap();
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits WHERE s = 'x'"), [["6"]]);
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM hits WHERE s = 'x'"), [["0"]]);
    // a body, and after it another statement: two in one text, for two stores
    let two = "CREATE OR REPLACE PROCEDURE p() BEGIN SELECT 1; IF 1 THEN SELECT 2; END IF; SELECT CASE 1 WHEN 1 THEN 3 END; END; \
               SELECT server FROM hits WHERE id = 1";
    let mut results = conn.query_iter(two).await.unwrap();
    let none: Vec<i64> = results.collect().await.unwrap();
    let server: Vec<i64> = results.collect().await.unwrap();
    assert_eq!((none, server), (vec![], vec![2]));
    drop(results);
    let mut results = conn.query_iter("CALL p()").await.unwrap();
    let mut all = Vec::new();
    while !results.is_empty() {
        all.extend(results.collect::<i64>().await.unwrap());
    }
    assert_eq!(all, [1, 2, 3]);
}
