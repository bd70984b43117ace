//! Rules 25 and 26: questions about tables.
//!
//! In `routing.rs`: SHOW COLUMNS, SHOW CREATE TABLE, information_schema with a literal (25). Rule 26 is about our own oracle for
//! tests; what it found stands in `tests/corpus`. Here: the other ways in which clients ask for a table by its name.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use switchover::wire::reply::Expect;

use crate::support::proxy::pair_config;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, stores};

/// `hits` has a column `extra` on the new store only; `sites` on legacy only.
fn ground() -> Database {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database.on_both(&format!("CREATE TABLE {table} (id INT PRIMARY KEY)"));
    }
    database.on_new("ALTER TABLE hits ADD COLUMN extra INT, ADD KEY by_extra (extra)");
    database.on_legacy("ALTER TABLE sites ADD COLUMN extra INT, ADD KEY by_extra (extra)");
    database
}

async fn count(conn: &mut Conn, sql: &str) -> usize {
    conn.query::<Row, _>(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).len()
}

#[tokio::test]
async fn rule_25_questions_about_a_table_go_where_it_is() {
    let database = ground();
    let proxy = Proxy::pair(&["hits"]);
    let mut conn = proxy.connect(&database.name).await;
    let name = &database.name;
    let questions = |table: &str| {
        [
            format!("SHOW COLUMNS FROM {table} LIKE 'extra'"),
            format!("SHOW FULL FIELDS IN `{table}` IN `{name}` WHERE Field = 'extra'"),
            format!("SHOW INDEX FROM {table} WHERE Key_name = 'by_extra'"),
            format!("SHOW KEYS FROM {name}.{table} WHERE Key_name = 'by_extra'"),
            format!("DESCRIBE {table} extra"),
            format!("EXPLAIN {table} extra"),
            format!("EXPLAIN SELECT extra FROM {table}"),
            format!("ANALYZE SELECT extra FROM {table}"),
            format!(
                "SELECT 1 FROM information_schema.columns WHERE table_schema = '{name}' AND table_name = '{table}' AND column_name = 'extra'"
            ),
            format!(
                "SELECT 1 FROM INFORMATION_SCHEMA.STATISTICS s WHERE s.TABLE_NAME IN ('{table}') AND s.INDEX_NAME = 'by_extra' AND s.TABLE_SCHEMA = DATABASE()"
            ),
        ]
    };
    for flagged in ["new", "legacy"] {
        proxy.flag("analytics", flagged);
        for sql in questions("hits") {
            // on legacy the column is missing: an empty answer, or the store's own 1054
            let found = conn.query::<Row, _>(&sql).await.map_or(0, |rows| rows.len());
            assert_eq!(found > 0, flagged == "new", "{sql} with the flag on {flagged}");
        }
        for sql in questions("sites") {
            assert!(count(&mut conn, &sql).await > 0, "{sql} with the flag on {flagged}");
        }
    }
}

#[tokio::test]
async fn rule_25_a_table_name_may_be_a_parameter() {
    let database = ground();
    let proxy = Proxy::pair(&["hits"]);
    let mut conn = proxy.connect(&database.name).await;
    let sql = "SELECT column_name FROM information_schema.columns WHERE table_schema = ? AND table_name = ? AND column_name = 'extra'";
    let statement = conn.prep(sql).await.unwrap();
    for (flagged, found) in [("legacy", 0), ("new", 1), ("legacy", 0), ("new", 1)] {
        proxy.flag("analytics", flagged);
        let rows: Vec<String> = conn.exec(&statement, (&database.name, "hits")).await.unwrap();
        assert_eq!(rows.len(), found, "with the flag on {flagged}");
        let rows: Vec<String> = conn.exec(&statement, (&database.name, "sites")).await.unwrap();
        assert_eq!(rows.len(), 1, "sites, with the flag on {flagged}");
    }
}

#[test]
fn rule_25_com_field_list_follows_its_table() {
    let database = ground();
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    for table in ["hits", "sites"] {
        raw.send(0x04, format!("{table}\0").as_bytes());
        let packets = raw.response(Expect::FieldList);
        assert_eq!(packets.len(), 3, "{table}: two columns and an end");
        assert!(packets[1].1.windows(5).any(|w| w == b"extra"), "{table}");
    }
}

#[tokio::test]
async fn rule_25_a_group_may_be_narrowed_to_a_database() {
    let (inside, outside) = (ground(), ground());
    let proxy = Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"])
            .replace("connection: legacy", &format!("connection: new\n    databases: [{}]", inside.name))
    });
    for (database, found) in [(&inside, 1), (&outside, 0)] {
        let mut conn = proxy.connect(&database.name).await;
        assert_eq!(count(&mut conn, "SHOW COLUMNS FROM hits LIKE 'extra'").await, found, "{}", database.name);
        let other = if found == 1 { &outside } else { &inside };
        let sql = format!("SHOW COLUMNS FROM {}.hits LIKE 'extra'", other.name);
        assert_eq!(count(&mut conn, &sql).await, 1 - found, "{} seen from {}", other.name, database.name);
        conn.query_drop(format!("USE {}", other.name)).await.unwrap();
        assert_eq!(count(&mut conn, "SHOW COLUMNS FROM hits LIKE 'extra'").await, 1 - found);
    }
}
