//! A cutover is asked for at each surface in turn: the flip that comes of it says in the log of changes who asked, where and why.

use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use super::admin;
use crate::standby::Kept;
use crate::support::{clients, eventually, ports};

#[test]
fn a_cutovers_flip_says_who_asked_for_it_and_where() {
    let kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, v INT)", &[]);
    let (console, http) = (ports::free(), ports::free());
    kept.proxy.edit_config(|text| text + &admin(console, http));
    eventually("both surfaces are served", || {
        [console, http].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
    });
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
