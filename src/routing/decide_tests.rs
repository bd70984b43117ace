//! Tests of `decide`: every rule, on statements as they are written.

use super::super::testing::{config, group, pattern, snapshot};
use super::*;
use crate::sql::classify::classify;
use crate::sql::dialect::Dialect;
use std::sync::Arc;

fn facts(sql: &str) -> Facts {
    classify(sql.as_bytes(), &Dialect::default())
}

fn run(sql: &str, snapshot: &Snapshot, db: Option<&str>) -> Decision {
    let temporary = TempTables::default();
    decide(&facts(sql), snapshot, &SessionView { database: db, temporary: &temporary, written: &[] })
}

/// `legacy`, `new`, `third`, or the refusal's message.
fn goes(sql: &str, snapshot: &Snapshot) -> String {
    name(run(sql, snapshot, Some("app")), snapshot)
}

fn name(decision: Decision, snapshot: &Snapshot) -> String {
    match decision {
        Decision::Store { store, .. } => snapshot.store_name(store).to_owned(),
        Decision::Refuse(r) => {
            assert_eq!((r.code, &r.sqlstate), (1235, b"42000"));
            r.message
        }
    }
}

fn usual() -> Snapshot {
    snapshot(vec![
        group("analytics", &["pageviews", "site_stats", "log_*"], 1, &["sites", "goals"]),
        group("billing", &["invoices", "acct.payments"], 2, &[]),
        group("home", &["users"], 0, &[]),
    ])
}

#[test]
fn one_store() {
    let s = usual();
    for (sql, store) in [
        ("SELECT 1", "legacy"),
        ("SELECT * FROM sites", "legacy"),
        ("SELECT * FROM users JOIN sites", "legacy"),
        ("SELECT * FROM pageviews", "new"),
        ("SELECT * FROM `Pageviews`", "legacy"),
        ("SELECT * FROM other.pageviews", "new"),
        ("SELECT * FROM log_2020", "new"),
        ("SELECT * FROM payments", "legacy"),
        ("SELECT * FROM acct.payments", "third"),
        ("INSERT INTO pageviews SELECT * FROM site_stats", "new"),
        ("SHOW CREATE TABLE pageviews", "new"),
        ("DESCRIBE site_stats", "new"),
        ("TRUNCATE pageviews", "new"),
        ("SELECT * FROM mysql.log_x", "legacy"),
        ("SELECT * FROM information_schema.pageviews", "legacy"),
        ("SELECT * FROM information_schema.tables WHERE table_name = 'pageviews'", "new"),
        ("SELECT * FROM information_schema.tables WHERE table_name IN ('pageviews', 'sites')", "legacy"),
        ("SELECT * FROM information_schema.tables WHERE table_name = 'sites'", "legacy"),
        ("SELECT * FROM information_schema.tables", "legacy"),
        ("SELECT * FROM information_schema.processlist JOIN pageviews", "new"),
        ("SHOW TABLES LIKE 'pageviews'", "new"),
        ("SHOW TABLES", "legacy"),
        ("EXPLAIN SELECT * FROM pageviews", "new"),
        ("EXPLAIN SELECT * FROM pageviews JOIN users", "legacy"),
        ("ALTER TABLE pageviews ADD FOREIGN KEY (a) REFERENCES sites (id)", "new"),
        ("CREATE PROCEDURE p() SELECT * FROM pageviews", "legacy"),
    ] {
        assert_eq!(goes(sql, &s), store, "{sql}");
    }
}

#[test]
fn stored_functions_count_where_a_group_lists_them() {
    let s = snapshot(vec![group("analytics", &["pageviews", "total_visits", "log_*"], 1, &[])]);
    for (sql, store) in [
        ("SELECT total_visits(1)", "new"),
        ("SELECT total_visits(id) FROM pageviews", "new"),
        ("SELECT log_x(1) FROM sites", "legacy"),
        ("SELECT f(id) FROM pageviews", "new"),
        ("SELECT f(1)", "legacy"),
        ("SELECT other.total_visits(1)", "new"),
        ("CALL total_visits(1)", "new"),
    ] {
        assert_eq!(goes(sql, &s), store, "{sql}");
    }
    assert!(goes("SELECT total_visits(id) FROM sites", &s).starts_with("switchover:"));
}

#[test]
fn references_serve_plain_reads() {
    let s = usual();
    for (sql, store) in [
        ("SELECT * FROM pageviews JOIN sites", "new"),
        ("SELECT * FROM sites JOIN pageviews JOIN goals", "new"),
        ("INSERT INTO pageviews SELECT * FROM sites", "new"),
        ("UPDATE pageviews p JOIN sites s ON s.id = p.id SET p.a = s.a", "new"),
        ("DELETE pageviews FROM pageviews JOIN sites", "new"),
    ] {
        assert_eq!(goes(sql, &s), store, "{sql}");
    }
    for sql in [
        "SELECT * FROM pageviews JOIN sites FOR UPDATE",
        "UPDATE pageviews p JOIN sites s SET s.a = p.a",
        "INSERT INTO sites SELECT * FROM pageviews",
        "SELECT * FROM pageviews JOIN users",
        "SELECT * FROM pageviews JOIN invoices",
        "SELECT * FROM pageviews JOIN sites JOIN users",
        "CREATE TABLE t SELECT * FROM pageviews",
        "DROP TABLE pageviews, sites",
    ] {
        let message = goes(sql, &s);
        assert!(message.starts_with("switchover: "), "{sql}: {message}");
    }
    let reason = run("SELECT * FROM pageviews JOIN sites", &s, None);
    assert_eq!(
        reason,
        Decision::Store { store: StoreId(1), reason: Reason::Reference { group: GroupId(0), table: 1 } }
    );
}

#[test]
fn a_table_written_in_this_transaction_is_not_read_from_a_copy() {
    let s = usual();
    let temporary = TempTables::default();
    let written = [(StoreId(0), Box::from("sites"))];
    let view = SessionView { database: None, temporary: &temporary, written: &written };
    assert!(matches!(decide(&facts("SELECT * FROM pageviews JOIN sites"), &s, &view), Decision::Refuse(_)));
    assert!(matches!(decide(&facts("SELECT * FROM pageviews JOIN goals"), &s, &view), Decision::Store { .. }));
}

#[test]
fn a_refusal_names_tables_stores_and_ways_out() {
    let message = goes("UPDATE pageviews, users SET a = 1", &usual());
    for part in [
        "'pageviews' on store new, group analytics",
        "'users' on store legacy, group home",
        "/* switchover:store=NAME */",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn hints() {
    let s = usual();
    assert_eq!(goes("SELECT /* switchover:store=third */ * FROM pageviews JOIN users", &s), "third");
    assert!(goes("SELECT /* switchover:store=nowhere */ 1", &s).contains("legacy, new, third"));
    let mut off = config(vec![group("analytics", &["pageviews"], 1, &[])]);
    off.hints = false;
    let off = Snapshot::compile(Arc::new(off), 1, 0);
    assert_eq!(goes("SELECT /* switchover:store=third */ * FROM pageviews", &off), "new");
}

#[test]
fn temporary_tables_come_first() {
    let s = usual();
    let mut temporary = TempTables::default();
    temporary.insert(Some("app"), "pageviews", StoreId(0));
    temporary.insert(Some("app"), "tmp", StoreId(1));
    let at = |sql: &str| {
        let view = SessionView { database: Some("app"), temporary: &temporary, written: &[] };
        decide(&facts(sql), &s, &view)
    };
    let on = |n: u16| Decision::Store { store: StoreId(n), reason: Reason::TemporaryTable { table: 0 } };
    assert_eq!(at("SELECT * FROM pageviews"), on(0));
    assert_eq!(at("SELECT * FROM app.pageviews"), on(0));
    assert_eq!(name(at("SELECT * FROM other.pageviews"), &s), "new");
    assert_eq!(at("SELECT * FROM tmp JOIN site_stats"), on(1));
    assert!(matches!(at("SELECT * FROM tmp JOIN users"), Decision::Refuse(_)));
    assert_eq!(at("DROP TEMPORARY TABLE tmp"), on(1));
    assert!(temporary.remove(Some("app"), "tmp") && !temporary.remove(Some("app"), "tmp"));
    temporary.clear();
    assert!(temporary.is_empty());
}

#[test]
fn a_new_temporary_table_goes_where_its_query_reads() {
    let s = usual();
    assert_eq!(goes("CREATE TEMPORARY TABLE tmp (a INT)", &s), "legacy");
    assert_eq!(goes("CREATE TEMPORARY TABLE pageviews (a INT)", &s), "new");
    assert_eq!(goes("CREATE TEMPORARY TABLE tmp SELECT * FROM pageviews", &s), "new");
    assert_eq!(goes("CREATE TEMPORARY TABLE tmp SELECT * FROM users", &s), "legacy");
    assert!(goes("CREATE TEMPORARY TABLE tmp SELECT * FROM users, pageviews", &s).starts_with("switchover:"));
}

#[test]
fn everything_on_the_default_store() {
    let s = snapshot(vec![group("a", &["t"], 0, &[]), group("b", &["u"], 0, &[])]);
    assert!(s.all_default() && !s.depends_on_database());
    assert_eq!(goes("INSERT INTO t SELECT * FROM u JOIN v", &s), "legacy");
}

#[test]
fn databases_narrow_and_qualified_names_win() {
    let mut analytics = group("analytics", &["pageviews", "shop.orders"], 1, &[]);
    analytics.databases = vec!["fathom".into()];
    let s = snapshot(vec![analytics, group("other", &["orders", "o*"], 2, &[])]);
    assert!(s.depends_on_database());
    let at = |sql: &str, db: Option<&str>| name(run(sql, &s, db), &s);
    assert_eq!(at("SELECT * FROM pageviews", Some("fathom")), "new");
    assert_eq!(at("SELECT * FROM pageviews", Some("else")), "legacy");
    assert_eq!(at("SELECT * FROM pageviews", None), "new");
    assert_eq!(at("SELECT * FROM fathom.pageviews", Some("else")), "new");
    assert_eq!(at("SELECT * FROM orders", Some("shop")), "new");
    assert_eq!(at("SELECT * FROM orders", Some("else")), "third");
    assert_eq!(at("SELECT * FROM oops", Some("else")), "third");
    assert_eq!(at("SELECT * FROM user", Some("mysql")), "legacy");
    assert_eq!(at("SELECT * FROM o", Some("mysql")), "legacy");
}

#[test]
fn names_ignore_case_where_the_stores_do() {
    let config = Arc::new(config(vec![group("analytics", &["PageViews", "DB.Été_*"], 1, &[])]));
    let loose = Snapshot::compile(Arc::clone(&config), 1, 1);
    let exact = Snapshot::compile(config, 1, 0);
    assert_eq!(goes("SELECT * FROM PAGEVIEWS", &loose), "new");
    assert_eq!(goes("SELECT * FROM PAGEVIEWS", &exact), "legacy");
    assert_eq!(goes("SELECT * FROM db.éTÉ_1", &loose), "new");
    assert_eq!(goes("SELECT * FROM db.éTÉ_1", &exact), "legacy");
    assert_eq!(pattern("a.b").database.as_deref(), Some("a"));
}
