//! Tests of `explain`: what an operator reads.

use super::super::testing::{group, snapshot};
use super::*;

fn shown(sql: &str, db: Option<&str>) -> String {
    let snapshot = snapshot(vec![group("analytics", &["pageviews", "stats.*"], 1, &["sites"])]);
    explain(sql, db, Some("app"), &snapshot, &Dialect::default()).to_string()
}

#[test]
fn a_grouped_table() {
    assert_eq!(
        shown("SELECT * FROM pageviews p JOIN sites s ON s.id = p.site_id", Some("fathom")),
        "  SELECT * FROM pageviews p JOIN sites s ON s.id = p.site_id\n\
         \x20                                ^^^^^\n\
         \x20 goes to   new\n\
         \x20 because   store new has all tables: a copy of sites is kept there by the references of group analytics\n\
         \x20 kind      read\n\
         \x20 tables    pageviews  read  on new     group analytics\n\
         \x20           sites      read  on legacy  no group\n\
         \x20 checked   sqlparser names the same tables\n\
         \n\
         note: app logs in at new with the secret recovered from its login at the default store\n"
    );
}

#[test]
fn a_refusal_marks_every_table() {
    let text = shown("INSERT INTO été\nSELECT * FROM pageviews", None);
    assert!(
        text.contains("  INSERT INTO été\n              ^^^\n  SELECT * FROM pageviews\n                ^^^^^^^^^\n"),
        "{text}"
    );
    assert!(text.contains("  refused   ERROR 1235 (42000)\n"), "{text}");
    assert!(text.contains("note: some groups depend on the session's database"), "{text}");
}

#[test]
fn several_statements_and_long_lines() {
    let text = shown(&format!("SET @a = 1; SELECT {} FROM pageviews WHERE x", "1, ".repeat(200)), None);
    assert!(text.contains("goes to   legacy") && text.contains("goes to   new"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let caret = lines.iter().position(|l| l.trim() == "^^^^^^^^^").unwrap();
    let column = lines[caret].find('^').unwrap();
    assert_eq!(lines[caret - 1].chars().skip(column).take(9).collect::<String>(), "pageviews");
}

#[test]
fn json() {
    let snapshot = snapshot(vec![group("analytics", &["pageviews"], 1, &[])]);
    let value =
        serde_json::to_value(explain("DELETE FROM pageviews", None, None, &snapshot, &Dialect::default())).unwrap();
    assert_eq!(value["statements"][0]["store"], "new");
    assert_eq!(value["statements"][0]["tables"][0]["access"], "write");
    assert_eq!(value["statements"][0]["tables"][0]["group"], "analytics");
    assert_eq!(value["epoch"], 7);
}
