//! What an operator types, and what comes back.

use std::sync::Arc;

use super::dialog::{Answer, Dialog};
use super::relation::{Cell, Relation};
use crate::admin::action::{Actions, Actor, Surface};
use crate::admin::protocol::EventQuery;
use crate::admin::testing::Fake;
use crate::config::model::Role;

struct Scene {
    dialog: Dialog,
    fake: Arc<Fake>,
    _folder: tempfile::TempDir,
}

fn scene(role: Role) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    let text = "listen: 127.0.0.1:1\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}\ngroups: {a: {tables: t, connection: legacy}}\n";
    std::fs::write(&path, text).unwrap();
    let fake = Arc::new(Fake::new(path));
    let actor = Actor { name: "ops".into(), surface: Surface::Console, from: "127.0.0.1:9".into(), role };
    let actions = Actions::new(Arc::clone(&fake) as Arc<dyn crate::admin::control::Running>);
    Scene { dialog: Dialog::new(actions, actor, 7, "switchover"), fake, _folder: folder }
}

impl Scene {
    async fn rows(&mut self, sql: &str) -> Relation {
        match self.dialog.answer(sql).await {
            Ok(Answer::Rows(relation)) => relation,
            other => panic!("{sql}: {other:?}"),
        }
    }

    async fn error(&mut self, sql: &str) -> (u16, String) {
        match self.dialog.answer(sql).await {
            Err(refusal) => (refusal.code, refusal.text),
            other => panic!("{sql}: {other:?}"),
        }
    }

    async fn one(&mut self, sql: &str) -> Cell {
        self.rows(sql).await.rows[0][0].clone()
    }
}

#[tokio::test]
async fn tables_are_shown_and_selected() {
    let mut scene = scene(Role::Operator);
    let groups = scene.rows("SHOW GROUPS").await;
    assert_eq!((groups.columns[0].as_str(), &groups.rows[0][1]), ("name", &"legacy".into()));
    assert!(scene.rows("SHOW GROUPS LIKE 'b%'").await.rows.is_empty());
    assert_eq!(scene.rows("SHOW SESSIONS LIMIT 5, 3").await.rows.len(), 3);
    assert_eq!(scene.one("SELECT COUNT(*) FROM sessions WHERE id = 0 AND user LIKE '%'").await, Cell::Int(20_000));
    let metrics =
        "SELECT name, value * 2 AS twice FROM metrics WHERE labels <> '' OR value > 2 ORDER BY value DESC LIMIT 1";
    let found = scene.rows(metrics).await;
    assert_eq!((found.columns[1].as_str(), &found.rows[0][1]), ("twice", &Cell::Real(14.0)));
    let grouped = "SELECT state, COUNT(*) n, MAX(queries) FROM sessions GROUP BY state HAVING n > 1 ORDER BY 2";
    assert_eq!(scene.rows(grouped).await.rows, [["".into(), Cell::Int(20_000), Cell::Int(0)]]);
    assert_eq!(scene.rows("SELECT DISTINCT user FROM sessions").await.rows.len(), 1);
    assert_eq!(scene.one("select version() like '%switchover%'").await, Cell::Int(1));
    assert_eq!(scene.one("SELECT @@a_connection").await, "legacy".into());
    assert_eq!(scene.rows("SHOW VARIABLES LIKE 'a_connection'").await.rows[0][1], "legacy".into());
    assert_eq!(scene.one("SELECT key FROM switchover.config").await, "hints".into());
    assert!(scene.rows("HELP").await.rows.len() > 10);
}

#[tokio::test]
async fn mistakes_are_answered_with_what_there_is() {
    let mut scene = scene(Role::Operator);
    for (sql, code, part) in [
        ("SELECT nme FROM groups", 1054, "there are name"),
        ("SELECT * FROM nowhere", 1146, "HELP"),
        ("SELECT * FROM mysql.user", 1142, "console"),
        ("SELECT * FROM app.users", 1049, "app"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", 1064, "WITH"),
        ("SELECT * FROM groups a FULL OUTER JOIN groups b ON a.name = b.name", 1235, "JOIN"),
        ("SELECT (SELECT id FROM sessions)", 1242, "more than 1 row"),
        ("SELECT * FROM sessions a, sessions b", 1104, "too many"),
        ("SELECT x.* FROM groups g", 1051, "x"),
        ("SELECT * FROM (SELECT 1)", 1248, "alias"),
        ("SELECT 1 UNION SELECT 1, 2", 1222, "number of columns"),
        ("SELECT SLEEP(1)", 1235, "SLEEP"),
        ("SELECT 'a' REGEXP '('", 1139, "unclosed group"),
        ("SELECT 'a' REGEXP 'a{1000}{1000}{1000}'", 1139, "size limit"),
        ("SELECT name, ROW_NUMBER() OVER (ORDER BY name) FROM groups", 1235, "ROW_NUMBER"),
        ("SELECT * FORM groups", 1064, "syntax"),
        ("SET b_connection = 'new'", 1193, "a_connection"),
        ("SELECT @@nope", 1193, "nope"),
        ("KILL 8", 1105, "no session 8"),
        ("PAUSE GROUP b", 1105, "no group b"),
    ] {
        let (found, text) = scene.error(sql).await;
        assert!(found == code && text.contains(part), "{sql}: {found} {text}");
    }
}

#[tokio::test]
async fn tables_are_joined_nested_and_united() {
    let mut scene = scene(Role::Operator);
    let joined = "SELECT g.name, c.value FROM groups g JOIN config c ON c.key = 'hints' WHERE g.name = 'a'";
    assert_eq!(scene.rows(joined).await.rows, [["a".into(), Cell::from("true")]]);
    let left = "SELECT g.name, s.name FROM groups g LEFT JOIN stores s ON s.name = g.connection";
    assert_eq!(scene.rows(left).await.rows, [["a".into(), Cell::Null]]);
    let right = "SELECT g.name, s.name FROM stores s RIGHT JOIN groups g USING (name)";
    assert_eq!(scene.rows(right).await.rows, [["a".into(), Cell::Null]]);
    assert_eq!(scene.one("SELECT COUNT(*) FROM (SELECT * FROM sessions LIMIT 7) x").await, Cell::Int(7));
    let united = scene.rows("SELECT 'b' x UNION SELECT 'a' UNION ALL SELECT 'a' ORDER BY x LIMIT 2").await;
    assert_eq!((united.columns.as_slice(), united.rows), (&["x".to_owned()][..], vec![vec!["a".into()]; 2]));
    for (sql, is) in [
        ("SELECT name FROM groups g WHERE EXISTS (SELECT 1 FROM config WHERE g.connection = 'legacy')", "a"),
        ("SELECT name FROM groups WHERE name IN (SELECT name FROM groups)", "a"),
        ("SELECT CASE connection WHEN 'legacy' THEN 'old' ELSE 'other' END FROM groups", "old"),
        ("SELECT CASE WHEN paused THEN 'waits' ELSE 'goes' END FROM groups", "goes"),
        ("SELECT SUBSTRING_INDEX(CURRENT_USER, '@', -1)", "127.0.0.1"),
        ("SELECT SUBSTRING('varchar(9)', 1, LOCATE('(', 'varchar(9)') - 1)", "varchar"),
        ("SELECT GROUP_CONCAT(DISTINCT state SEPARATOR '-') FROM sessions", ""),
        ("SELECT t.* FROM (SELECT name FROM groups) t", "a"),
        ("SELECT CONCAT_WS('.', 'a', NULL, 'b')", "a.b"),
        ("SELECT RIGHT('abc', 2)", "bc"),
    ] {
        assert_eq!(scene.one(sql).await, is.into(), "{sql}");
    }
    for (sql, is) in [
        ("SELECT COUNT(*) FROM groups WHERE connection REGEXP '^LEG.*y$'", Cell::Int(1)),
        ("SELECT COUNT(*) FROM groups WHERE connection NOT REGEXP 'new|legacy'", Cell::Int(0)),
        ("SELECT COUNT(*) FROM sessions WHERE id RLIKE '^[[:digit:]]$'", Cell::Int(20_000)),
        ("SELECT COUNT(*) FROM groups WHERE name REGEXP name", Cell::Int(1)),
        (r"SELECT 'a.b' REGEXP 'a\\.b' AND 'axb' NOT REGEXP 'a\\.b'", Cell::Int(1)),
        ("SELECT NULL REGEXP 'a'", Cell::Null),
        ("SELECT 'a' REGEXP (NULL)", Cell::Null),
    ] {
        assert_eq!(scene.one(sql).await, is, "{sql}");
    }
    assert_eq!(scene.one("SELECT COUNT(DISTINCT queries) FROM sessions").await, Cell::Int(1));
    assert_eq!(scene.one("SELECT CAST('12x' AS SIGNED) + 7 DIV 2 + 7 % 4").await, Cell::Int(18));
}

/// What graphical and other clients have been seen to send: each line is answered, or refused with the code that begins it.
#[tokio::test]
async fn what_clients_have_been_seen_to_send_is_answered() {
    let mut scene = scene(Role::Operator);
    let mut lines = 0;
    for line in include_str!("clients.sql").lines().filter(|l| !l.starts_with("--") && !l.is_empty()) {
        lines += 1;
        let (code, sql) = match line.strip_prefix('!').and_then(|l| l.split_once(' ')) {
            Some((code, sql)) => (code.parse().ok(), sql),
            None => (None, line),
        };
        let mut answer = scene.dialog.answer(sql).await;
        if code.is_none() && answer.as_ref().is_err_and(|refusal| refusal.code == 1146) {
            // (sent behind a USE)
            scene.dialog.change_database("information_schema").unwrap();
            answer = scene.dialog.answer(sql).await;
            scene.dialog.change_database("switchover").unwrap();
        }
        assert_eq!(answer.as_ref().err().map(|r| r.code), code, "{sql}: {answer:?}");
    }
    assert!(lines > 100, "{lines}");
}

#[tokio::test]
async fn columns_are_described_as_they_are() {
    let mut scene = scene(Role::Operator);
    for (table, ..) in super::tables::TABLES {
        let described = scene.rows(&format!("SHOW FULL COLUMNS FROM `{table}`")).await;
        let found = scene.rows(&format!("SELECT * FROM `{table}`")).await;
        if let Some(row) = found.rows.first() {
            for ((cell, name), described) in row.iter().zip(&found.columns).zip(&described.rows) {
                assert_eq!(described[0], name.as_str().into());
                let kind = described[1].text().unwrap_or_default();
                let fits = match cell {
                    Cell::Null => true,
                    Cell::Int(_) => kind != "varchar(1024)",
                    Cell::Real(_) => kind == "double",
                    Cell::Text(_) => kind == "varchar(1024)",
                };
                assert!(fits, "{table}.{name}: {kind} {cell:?}");
            }
        }
    }
    let read = "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_NAME = 'digests' AND COLUMN_NAME = ";
    assert_eq!(scene.one(&format!("{read}'calls'")).await, "bigint".into());
    assert_eq!(scene.one(&format!("{read}'id'")).await, "varchar".into());
}

#[tokio::test]
async fn names_belong_to_the_database_that_is_used() {
    let mut scene = scene(Role::Operator);
    scene.dialog.change_database("INFORMATION_SCHEMA").unwrap();
    assert_eq!(scene.one("SELECT DATABASE()").await, "information_schema".into());
    assert_eq!(scene.one("SELECT TABLE_NAME FROM TABLES WHERE TABLE_NAME = 'groups'").await, "groups".into());
    assert_eq!(scene.rows("SHOW TABLES").await.columns, ["Tables_in_information_schema"]);
    assert_eq!(scene.one("SELECT name FROM switchover.groups").await, "a".into());
    assert_eq!(scene.error("SHOW COLUMNS FROM groups").await.0, 1146);
    assert_eq!(scene.dialog.change_database("app").unwrap_err().code, 1049);
}

#[tokio::test]
async fn a_flag_moves_with_its_reason() {
    let mut scene = scene(Role::Operator);
    scene.dialog.answer("SET @why = 'it is time'").await.unwrap();
    let Ok(Answer::Done(info)) = scene.dialog.answer("SET a_connection = 'new'").await else { panic!() };
    assert!(info.contains("legacy → new"), "{info}");
    let event = scene.fake.events.newest(&EventQuery::default()).remove(0);
    assert_eq!((event.by.as_str(), event.surface.as_str()), ("ops", "console"));
    assert_eq!(event.why.as_deref(), Some("it is time"));
    let cause = scene.fake.causes.lock().unwrap().last().cloned().unwrap();
    assert_eq!(
        (cause.surface.as_str(), cause.peer.as_str()),
        ("console", "127.0.0.1:9"),
        "the flip's own event says so"
    );
    let shown = scene.rows("SHOW EVENTS WHERE kind = 'action' ORDER BY id DESC LIMIT 1").await;
    assert_eq!(shown.rows[0][4], "flag to new".into());
}

#[tokio::test]
async fn a_reader_is_told_so() {
    let mut scene = scene(Role::Reader);
    assert_eq!(scene.error("SET a_connection = 'new'").await.0, 1227);
    assert_eq!(scene.error("KILL 7").await.0, 1227);
    assert_eq!(scene.rows("SHOW STORES").await.rows.len(), 0);
}

#[tokio::test]
async fn what_clients_ask_by_themselves_is_answered() {
    let mut scene = scene(Role::Operator);
    for sql in [
        "select @@version_comment limit 1",
        "SELECT @@max_allowed_packet, @@system_time_zone, @@time_zone, @@auto_increment_increment",
        "SELECT @@session.auto_increment_increment AS auto_increment_increment, @@character_set_client AS character_set_client",
        "SHOW VARIABLES WHERE Variable_name = 'sql_mode'",
        "SELECT DATABASE(), USER(), CONNECTION_ID()",
        "SHOW DATABASES",
        "SHOW FULL TABLES FROM `switchover`",
        "SHOW FULL TABLES FROM `switchover` WHERE TABLE_TYPE = 'VIEW'",
        "SHOW TABLE STATUS FROM `switchover`",
        "SHOW COLUMNS FROM `switchover`.`sessions`",
        "SHOW ENGINES",
        "SHOW COLLATION",
        "SHOW CHARACTER SET",
        "SHOW WARNINGS",
        "SHOW STATUS LIKE 'Uptime'",
        "SHOW GRANTS",
        "SELECT * FROM information_schema.SCHEMATA",
        "SELECT TABLE_NAME, TABLE_TYPE FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = 'switchover' ORDER BY TABLE_NAME",
        "SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = 'switchover'",
        "SELECT 1",
        "SELECT 1 FROM DUAL",
        "SELECT NOW()",
    ] {
        scene.rows(sql).await;
    }
    for sql in [
        "SET NAMES utf8mb4",
        "SET autocommit=1, sql_mode='ANSI'",
        "/* ping */ SET character_set_results = NULL",
        "BEGIN",
        "ROLLBACK",
    ] {
        assert!(matches!(scene.dialog.answer(sql).await, Ok(Answer::Done(_))), "{sql}");
    }
}

#[tokio::test]
async fn nothing_typed_makes_it_panic() {
    let mut scene = scene(Role::Operator);
    let words = [
        "SHOW",
        "GROUPS",
        "SELECT",
        "*",
        "FROM",
        "'",
        "`",
        "(",
        ")",
        "LIKE",
        "WHERE",
        "=",
        "SET",
        "_connection",
        "@@",
        "é",
        "LIMIT",
        "-1",
        "KILL",
        "/*",
        "\\",
        "%",
    ];
    let mut seed = 7u64;
    for _ in 0..3_000 {
        let mut sql = String::new();
        for _ in 0..8 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            sql.push_str(words[(seed >> 33) as usize % words.len()]);
            sql.push(' ');
        }
        let _ = scene.dialog.answer(&sql).await;
    }
}
