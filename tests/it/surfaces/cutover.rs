//! A cutover is asked for at each surface in turn: the flip that comes of it says in the log of changes who asked, where and why. And a
//! standby ends and begins over HTTP as the API's document says.

use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use serde_json::Value;

use super::admin;
use crate::standby::Kept;
use crate::support::{clients, eventually, ports};

fn surfaces() -> (Kept, u16, u16) {
    let kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, v INT)", &[]);
    let (console, http) = (ports::free(), ports::free());
    kept.proxy.edit_config(|text| text + &admin(console, http));
    eventually("both surfaces are served", || {
        [console, http].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    });
    (kept, console, http)
}

#[test]
fn a_cutovers_flip_says_who_asked_for_it_and_where() {
    let (kept, console, http) = surfaces();
    let file = kept.proxy.folder.join("routing.yaml.audit");
    let flips = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|line| line["kind"] == "flip").collect()
    };
    let by_console = || {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-h127.0.0.1", "-uops", "-pops-secret", "--ssl=0"]).arg(format!("-P{console}"));
        command.args(["-e", "SET @why = 'by sql'; SET analytics_connection = 'new'"]);
        clients::output(command)
    };
    let by_http = || {
        let place = format!("http://127.0.0.1:{http}/api/v1/groups/analytics/flag");
        let body = r#"{"store": "legacy", "why": "by http"}"#;
        clients::run(&["curl", "-s", "--fail-with-body", "-u", "ops:ops-secret", "--json", body, &place])
    };
    let by_cli = || kept.proxy.cli(&["flag", "analytics", "new", "--why", "by cli"]);
    let ways: [(&str, &str, &dyn Fn() -> clients::Output); 3] =
        [("console", "ops", &by_console), ("http", "ops", &by_http), ("cli", "uid ", &by_cli)];
    for (n, (surface, who, way)) in ways.into_iter().enumerate() {
        let done = way();
        assert!(done.ok, "{surface}: {}{}", done.stdout, done.stderr);
        eventually(&format!("the flip by {surface} is in the file"), || flips().len() > n);
        let (all, (from, to)) = (flips(), if n % 2 == 0 { ("legacy", "new") } else { ("new", "legacy") });
        assert_eq!(all.len(), n + 1, "{all:#?}");
        let flip = &all[n];
        assert_eq!((&flip["subject"], &flip["surface"]), (&"analytics".into(), &surface.into()), "{flip:#}");
        assert!(flip["by"].as_str().is_some_and(|by| by.starts_with(who)), "{flip:#}");
        assert!(flip["why"].as_str().is_some_and(|why| why.starts_with("by ")), "{flip:#}");
        assert_eq!((&flip["before"], &flip["after"]), (&from.into(), &to.into()), "{flip:#}");
        kept.retry();
    }
}

#[test]
fn a_standby_ends_and_begins_over_http_as_the_document_says() {
    let (_kept, _, http) = surfaces();
    let at = |path: &str| format!("http://127.0.0.1:{http}/api/v1{path}");
    let get = clients::run(&["curl", "-s", "-u", "ops:ops-secret", &at("/openapi.json")]).text();
    let document: Value = serde_json::from_str(&get).unwrap();
    let described = &document["paths"]["/api/v1/groups/{group}/standby"]["post"]["responses"];
    let tell = |action: &str| -> (String, String) {
        let (place, body) = (at("/groups/analytics/standby"), format!("{{\"action\": \"{action}\"}}"));
        let said =
            clients::run(&["curl", "-s", "-u", "ops:ops-secret", "-w", "\n%{http_code}", "--json", &body, &place]);
        let text = said.stdout.trim_end().to_owned();
        text.rsplit_once('\n').map(|(body, code)| (code.to_owned(), body.to_owned())).unwrap()
    };
    let (code, body) = tell("end");
    assert_eq!((code.as_str(), body.as_str()), ("204", ""));
    assert!(described[&code].is_object() && described[&code]["content"].is_null(), "{described}");
    let flag = clients::run(&[
        "curl",
        "-s",
        "-u",
        "ops:ops-secret",
        "--json",
        "{\"store\": \"new\"}",
        &at("/groups/analytics/flag"),
    ]);
    let refused: Value = serde_json::from_str(&flag.stdout).unwrap();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("do not agree: store ") && !message.contains("Unclear"), "{refused:#}");
    let (code, body) = tell("init");
    let begun: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code.as_str(), &begun["good"], &begun["group"]), ("200", &true.into(), &"analytics".into()), "{body}");
    let either = described["200"]["content"]["application/json"]["schema"]["anyOf"].as_array().unwrap();
    assert!(either.iter().any(|s| s["$ref"] == "#/components/schemas/Begun"), "{either:?}");
    let fields = &document["components"]["schemas"]["Begun"]["properties"];
    assert!(begun.as_object().unwrap().keys().all(|field| fields[field].is_object()), "{fields}");
}

/// Two ask at once, and neither sees the other's intent yet: whose comes second is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_the_race_for_a_cutover_is_told() {
    let (kept, _, http) = surfaces();
    let mut first = kept.authority.connect().await;
    first.query_drop("BEGIN").await.unwrap();
    let intent = "INSERT INTO switchover.intents VALUES \
        ('analytics', 'first', 'legacy', 'new', 'another proxy', 'somebody', '', '', NOW(6), NOW(6) + INTERVAL 1 MINUTE)";
    first.query_drop(intent).await.unwrap();
    let place = format!("http://127.0.0.1:{http}/api/v1/groups/analytics/flag");
    let asked = move || {
        let body = r#"{"store": "new"}"#;
        let said =
            clients::run(&["curl", "-s", "-u", "ops:ops-secret", "-w", "\n%{http_code}", "--json", body, &place]);
        let (body, code) = said.stdout.trim_end().rsplit_once('\n').unwrap();
        (code.to_owned(), serde_json::from_str::<Value>(body).unwrap())
    };
    let second = tokio::task::spawn_blocking(asked.clone());
    eventually("the second has looked, and waits to write its own", || {
        // (this table is read anew only where nobody has read it for a tenth of a second)
        std::thread::sleep(Duration::from_millis(150));
        kept.authority.sql("SELECT COUNT(*) FROM information_schema.INNODB_LOCK_WAITS")[0][0] != "0"
    });
    first.query_drop("COMMIT").await.unwrap();
    let (code, said) = second.await.unwrap();
    assert_eq!(code, "409", "{said:#}");
    let message = said["error"]["message"].as_str().unwrap();
    assert!(message.contains("another cutover of analytics is under way"), "{message}");
    first.query_drop("DELETE FROM switchover.intents").await.unwrap();
    let (code, said) = tokio::task::spawn_blocking(asked).await.unwrap();
    assert_eq!(code, "200", "{said:#}");
}
