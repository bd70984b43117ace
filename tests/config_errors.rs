//! Golden messages: what an operator reads for each kind of mistake, whole. `BLESS=1 cargo test --test config_errors` rewrites them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::fmt::Write;
use std::path::Path;

use switchover::config::{self, problem};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config_errors.txt");

/// A file as operators write it, with `…` where each case has its mistake.
fn whole(case: &str) -> String {
    if case.contains("listen:") || case.contains("!whole") {
        return case.replace("!whole\n", "");
    }
    format!(
        "listen: 127.0.0.1:3307\nstores:\n  legacy: {{ address: db1:3306 }}\n  new: {{ address: db2:3306 }}\ndefault: legacy\n{case}"
    )
}

const CASES: &[(&str, &str)] = &[
    ("an empty file", "!whole\n"),
    ("nothing that is needed", "!whole\nhints: true\n"),
    ("a misspelt key", "groups:\n  analytics:\n    tables: [hits]\n    conection: new\n"),
    ("an unknown key", "colour: blue\n"),
    ("a key at the wrong depth", "groups:\n  analytics:\n    tables: [hits]\nconnection: new\n"),
    ("a store that is not there", "groups:\n  analytics: { tables: [hits], connection: nwe }\n"),
    ("a variable that names no store", "groups:\n  analytics:\n    tables: [hits]\n    connection: ${FLAG}\n"),
    (
        "a variable that is not set",
        "groups:\n  analytics:\n    tables: [hits]\n    connection: ${ANALYTICS_CONNECTION}\n",
    ),
    ("a variable without quotes in braces", "groups: { a: { tables: [hits], connection: ${FLAG} } }\n"),
    ("a key that is there twice", "pool: session\npool: transaction\n"),
    (
        "a table in two groups",
        "groups:\n  a: { tables: [hits, visits], connection: new }\n  b: { tables: [visits], connection: legacy }\n",
    ),
    ("a table twice", "groups:\n  a: { tables: [hits, hits], connection: new }\n"),
    ("a group without tables", "groups:\n  a: { tables: [], connection: new }\n  b: { connection: new }\n"),
    ("a group of everything", "groups:\n  a: { tables: ['*'], connection: new }\n"),
    ("names in quotes", "groups:\n  a: { tables: [\"`db`.`hits`\", a.b.c], connection: new }\n"),
    ("keys of later versions", "groups:\n  a:\n    tables: [hits]\n    connection: new\n    tenant: site_id\n"),
    (
        "shadow reads without a share",
        "groups:\n  a:\n    tables: [hits]\n    connection: new\n    shadow: { sample: 5%, stroe: new }\n",
    ),
    ("wrong types", "groups: [a, b]\nlimits: 5\nlog: { level: [x] }\nhints: maybe\nworkers: -1\n"),
    (
        "wrong units",
        "limits: { connect_timeout: 10, max_allowed_packet: 64 megabytes, max_connections: many, idle_timeout: 0 }\n",
    ),
    ("a wrong choice", "pool: transactions\nlog: { format: xml, level: warning }\n"),
    ("tabs", "groups:\n\ta: {}\n"),
    ("broken YAML", "groups: { a: { tables: [hits, connection: new }\n"),
    (
        "addresses",
        "listen: [3307, '::1:3307', 127.0.0.1:3308, 0.0.0.0:3308]\nstores: { a: { address: localhost:3308 }, b: { address: db }, c: { address: h:0 } }\ndefault: a\n",
    ),
    ("a second default", "listen: 127.0.0.1:1\nstores: { a: { address: h:1 } }\ndefault: b\n"),
    ("no stores", "listen: 127.0.0.1:1\nstores: {}\ndefault: legacy\n"),
    (
        "names of stores",
        "listen: 127.0.0.1:1\nstores: { 1st: { address: h:1 }, 'null': { address: h:2 } }\ndefault: 1st\n",
    ),
    (
        "secrets",
        "users:\n  app:\n    password: hunter2\n    new: { pasword: hunter2 }\n    legacy: { password: hunter2, hash: hunter2 }\n",
    ),
    ("hashes", "users: { app: { new: { hash: hunter2 } } }\n"),
    (
        "files that are not there",
        "tls: { cert: no/such.pem, mode: required }\nusers: { app: { new: { password_file: no-such } } }\n",
    ),
    ("admin", "admin: { sql: 127.0.0.1:3307, http: localhost:6080, users: { ops: { password: '' } } }\n"),
    ("networks", "proxy_protocol: { from: [10.0.0.0/33, load-balancer] }\n"),
];

#[test]
fn messages_are_as_written() {
    let mut text = String::new();
    for (title, case) in CASES {
        let env = |name: &str| (name == "FLAG").then(|| "nope".to_owned());
        let problems = config::parse(&whole(case), Path::new("routing.yaml"), &env).expect_err(title);
        writeln!(text, "### {title}\n\n{}\n", problem::render(&problems)).unwrap();
    }
    assert!(!text.contains("hunter2"));
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(GOLDEN, &text).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    for (line, (found, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, wanted, "line {} of tests/config_errors.txt (BLESS=1 accepts)", line + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
