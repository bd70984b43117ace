//! Catalogs as stores would give them, and what each tie to the outside is called.

use std::path::Path;

use super::super::catalog::{ForeignKey, Trigger};
use super::*;

fn config(flag: &str) -> Config {
    let text = format!(
        "listen: 127.0.0.1:1\ndefault: legacy\nstores: {{legacy: {{address: h:1}}, new: {{address: h:2}}}}
groups: {{g: {{tables: [hits, v_ok, other.x, day_*], connection: {flag}, references: [sites]}}}}\n"
    );
    crate::config::parse(&text, Path::new("r"), &|_| None).unwrap()
}

fn named(name: &str) -> Named {
    let (database, name) = name.split_once('.').unwrap_or(("app", name));
    Named { database: database.into(), name: name.into() }
}

fn body(name: &str, text: &str) -> Body {
    Body { name: named(name), text: text.into() }
}

fn catalog(tables: &[&str]) -> Catalog {
    Catalog { tables: tables.iter().map(|name| named(name)).collect(), ..Catalog::default() }
}

fn probe(name: &str, catalog: Catalog) -> Probe {
    Probe { name: name.into(), lower_case_table_names: Some("0".into()), catalog: Some(catalog), findings: Vec::new() }
}

fn run(flag: &str, legacy: Catalog, new: Catalog) -> Vec<(Level, String)> {
    let found = findings(&config(flag), &[probe("legacy", legacy), probe("new", new)]);
    found.into_iter().map(|finding| (finding.level, finding.what)).collect()
}

const ALL: [&str; 6] = ["hits", "v_ok", "other.x", "day_1", "sites", "orders"];

#[test]
fn a_group_that_stands_alone_is_fine() {
    let found = run("new", catalog(&ALL), catalog(&ALL));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Level::Ok);
}

#[test]
fn tables_that_the_flags_store_lacks() {
    let found = run("new", catalog(&ALL), catalog(&["hits", "day_1"]));
    assert_eq!(
        found,
        [
            (Level::Error, "app.v_ok is not on new, which serves it".to_owned()),
            (Level::Error, "other.x is not on new, which serves it".to_owned()),
        ]
    );
    let found = run("legacy", catalog(&["hits", "v_ok", "other.x"]), catalog(&[]));
    assert_eq!(found, [(Level::Warn, "no table is called day_* on legacy".to_owned())]);
}

fn tied() -> Catalog {
    let trigger = |name: &str, table: &str, text: &str| Trigger { body: body(name, text), table: named(table) };
    let key = |table: &str, references: &str| ForeignKey {
        constraint: "fk".into(),
        table: named(table),
        references: named(references),
    };
    Catalog {
        views: vec![
            body("v_ok", "select `app`.`hits`.`id` from `app`.`hits`"),
            body("v", "select `h`.`id` from `app`.`hits` `h`"),
        ],
        routines: vec![body("r", "BEGIN DELETE FROM hits; END"), body("r2", "BEGIN SELECT 'hits'; END")],
        events: vec![body("e", "delete from other.x"), body("e2", "delete from orders")],
        triggers: vec![
            trigger("t1", "hits", "INSERT INTO orders VALUES (1)"),
            trigger("t2", "orders", "UPDATE hits SET n = n + 1"),
            trigger("t3", "hits", "SET NEW.a = (SELECT a FROM sites)"),
            trigger("t4", "orders", "SET NEW.a = 1"),
        ],
        foreign_keys: vec![
            key("hits", "orders"),
            key("orders", "hits"),
            key("hits", "sites"),
            key("hits", "day_1"),
            key("orders", "sites"),
        ],
        ..catalog(&ALL)
    }
}

#[test]
fn every_tie_to_the_outside_is_named() {
    let expected = [
        "the view app.v on legacy uses app.hits",
        "the routine app.r on legacy uses app.hits",
        "the event app.e on legacy uses other.x",
        "the trigger app.t1 on legacy of the group's app.hits uses app.orders",
        "the trigger app.t2 on legacy uses app.hits",
        "the foreign key fk on legacy ties app.hits to app.orders",
        "the foreign key fk on legacy ties app.orders to app.hits",
    ];
    for (flag, level) in [("legacy", Level::Warn), ("new", Level::Error)] {
        let found = run(flag, tied(), catalog(&ALL));
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.0 == level && found.1.starts_with(expected), "{found:?}");
        }
    }
}
