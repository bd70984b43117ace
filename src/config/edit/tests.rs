//! Edits keep every other byte, meet what cannot be edited with a remedy, and survive a crowd of editors.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;

use super::*;

const STORES: &str = "listen: 127.0.0.1:1\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}\n";

fn planned(groups: &str, store: &str) -> Result<Plan, EditError> {
    plan(&format!("{STORES}{groups}"), Path::new("r.yaml"), "a", store, &|_| None)
}

fn edited(groups: &str) -> String {
    planned(groups, "new").unwrap_or_else(|error| panic!("{error}")).text.unwrap().split_off(STORES.len())
}

#[test]
fn only_the_word_changes() {
    let cases = [
        ("groups:\n  a: # x\n    connection:   legacy   # THE FLAG\n    tables: [t]\n", "legacy", "new"),
        ("groups: { a: { tables: [t, u], connection: legacy } }  # end", "legacy }", "new }"),
        ("groups: {a: {connection: legacy, tables: t}}", "legacy", "new"),
        ("groups:\n  a: {tables: t, connection: 'legacy'}   # ü\n", "'legacy'", "'new'"),
        ("groups:\n  a:\n    tables: t\n    connection: \"legacy\" # c\n", "\"legacy\"", "\"new\""),
        ("groups:\r\n  a:\r\n    tables: t # größe\r\n    connection: legacy\r\n", "legacy", "new"),
        ("groups:\n  \"a\":\n    \"connection\" : legacy\n    tables: t", "legacy", "new"),
        ("groups:\n  a:\n    tables: t\n    connection: !!str legacy\n", "!!str legacy", "new"),
        (
            "groups:\n  a:\n    tables: t\n    connection:\n      legacy\n  b: {tables: u, connection: legacy}\n",
            "legacy\n  b",
            "new\n  b",
        ),
        ("groups:\n  a:\n    tables: t\n    connection: ${F:-legacy}  # x\n", "${F:-legacy}", "new"),
    ];
    for (text, old, new) in cases {
        assert_eq!(edited(text), text.replacen(old, new, 1), "{text}");
    }
}

#[test]
fn the_old_value_is_told() {
    let plan = planned("groups: {a: {tables: t, connection: \"${FLAG:-legacy}\"}}", "new").ok().unwrap();
    assert_eq!((plan.edit.from.as_str(), plan.edit.to.as_str(), plan.edit.line), ("legacy", "new", 4));
    assert_eq!(plan.edit.replaced_expression.as_deref(), Some("${FLAG:-legacy}"));
    let plan = planned("groups: {a: {tables: t, connection: legacy}}", "legacy").ok().unwrap();
    assert!(plan.text.is_none() && !plan.edit.changed);
}

#[test]
fn an_expression_is_replaced_even_if_it_names_the_store_now() {
    assert!(
        planned("groups: {a: {tables: t, connection: \"${FLAG:-legacy}\"}}", "legacy").ok().unwrap().text.is_some()
    );
}

#[test]
fn variables_of_the_proxy_may_be_unset_here() {
    let text =
        "users: {app: {new: {password: \"${APP_PASSWORD}\"}}}\ngroups: {a: {tables: t, connection: \"${FLAG}\"}}\n";
    let plan = planned(text, "new").ok().unwrap();
    assert_eq!(plan.edit.from, "${FLAG}");
    assert!(plan.text.unwrap().contains("connection: \"new\""));
}

#[test]
fn what_cannot_be_edited_says_why() {
    let cases = [
        ("groups: {b: {tables: t, connection: legacy}}", "no group is called `a`: the groups are b"),
        ("groups: {a: {tables: t, connection: &x legacy}}", "has an anchor"),
        ("groups: {b: {tables: u, connection: &x legacy}, a: {tables: t, connection: *x}}", "is an alias of line 4"),
        ("groups: {b: &g {tables: u, connection: legacy}, a: *g}", "shared by an anchor or alias"),
        ("groups: {a: {tables: t, connection: }}", "names no store"),
        ("groups: {a: {tables: t}}", "`groups.a.connection` is missing"),
        ("groups: {a: {tables: t, connection: [legacy]}}", "names no store"),
        ("groups:\n  a:\n    tables: t\n    connection: |\n      legacy\n", "is a block of text"),
        ("groups: {a: {tables: [], connection: legacy}}", "it would not check"),
        ("groups: {a: {tables: t, connection: legacy}}\nlimit: 1", "unknown key `limit`"),
        ("groups: {a: {tables: t, connection: legacy", "not valid YAML"),
    ];
    for (text, expected) in cases {
        let message = planned(text, "new").err().unwrap().to_string();
        assert!(message.contains(expected), "{text}\n{message}");
    }
    let message = planned("groups: {a: {tables: t, connection: legacy}}", "nwe").err().unwrap().to_string();
    assert_eq!(message, "no store is called `nwe`: did you mean `new`? the stores are legacy, new");
}

#[test]
fn a_flag_that_names_nothing_can_be_mended() {
    assert_eq!(edited("groups: {a: {tables: t, connection: nwe}}"), "groups: {a: {tables: t, connection: new}}");
}

const FILE: &str = "listen: 127.0.0.1:1 # ü\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}
groups: {a: {tables: t, connection: legacy}, b: {tables: u, connection: legacy}}\n";

#[test]
fn permissions_and_symlinks_stay() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.yaml"), folder.path().join("link.yaml"));
    fs::write(&real, FILE).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("real.yaml", &link).unwrap();
    let edit = set_connection(&link, "a", "new").unwrap();
    assert_eq!(edit.file, real.canonicalize().unwrap());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_to_string(&real).unwrap(), FILE.replacen("connection: legacy", "connection: new", 1));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn many_editors_lose_no_edit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    fs::write(&path, FILE).unwrap();
    std::thread::scope(|scope| {
        for group in ["a", "b"] {
            for _ in 0..3 {
                let path = &path;
                scope.spawn(move || {
                    for turn in 0..20 {
                        set_connection(path, group, if turn % 2 == 0 { "new" } else { "legacy" }).unwrap();
                    }
                    set_connection(path, group, "new").unwrap();
                });
            }
        }
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), FILE.replace("connection: legacy", "connection: new"));
}

#[test]
fn a_locked_file_is_busy_and_a_vanished_lock_is_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    fs::write(&path, FILE).unwrap();
    fs::write(folder.path().join(".routing.yaml.lock"), "left by a crash").unwrap();
    set_connection(&path, "a", "new").unwrap();
    assert!(matches!(set_connection(&folder.path().join("none"), "a", "new"), Err(EditError::Io { .. })));
}

proptest! {
    #[test]
    fn there_and_back_restores_every_byte(
        comment in "[^\\r\\n\\x00-\\x1f\\x7f-\\x9f\\u{feff}\\u{fffe}\\u{ffff}\\u{2028}\\u{2029}]{0,40}",
        blanks in " {1,4}",
        quote in prop::sample::select(vec!["", "'", "\""]),
        newline in prop::sample::select(vec!["\n", "\r\n"]),
        flow in any::<bool>(),
    ) {
        let flag = format!("{quote}legacy{quote}");
        let groups = if flow {
            format!("groups: {{ a: {{tables: [t],{blanks}connection:{blanks}{flag} }} }}{blanks}# {comment}{newline}")
        } else {
            format!("groups:{newline}  a:{newline}    connection:{blanks}{flag}{blanks}# {comment}{newline}    tables: t{newline}")
        };
        let there = planned(&groups, "new").map_err(|e| TestCaseError::fail(e.to_string()))?.text.unwrap();
        let back = plan(&there, Path::new("r"), "a", "legacy", &|_| None).ok().unwrap().text.unwrap();
        prop_assert_eq!(back, format!("{STORES}{groups}"));
    }
}
