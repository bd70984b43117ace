//! What `ops/` offers beside the proxy: each file is read as its program reads it, and held against the product: the metrics that the
//! proxy exports, its configuration file, its command line. (Docker's engine does not run where these tests do: images are not built.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

use crate::support::proxy::pair_config;
use crate::support::{Proxy, clients, ports, stores};

fn ops(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ops").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(ops(path)).unwrap_or_else(|error| panic!("ops/{path}: {error}"))
}

/// YAML as values, aliases and merge keys resolved; every scalar is a string.
fn yaml(path: &str) -> Value {
    let text = text(path);
    let mut events = Parser::new_from_str(&text).map(|event| event.unwrap_or_else(|e| panic!("ops/{path}: {e}")).0);
    let mut anchors = BTreeMap::new();
    let first = events.find(|e| !matches!(e, Event::StreamStart | Event::DocumentStart(_))).unwrap();
    value(first, &mut events, &mut anchors)
}

fn value<'t>(
    event: Event<'t>,
    rest: &mut impl Iterator<Item = Event<'t>>,
    anchors: &mut BTreeMap<usize, Value>,
) -> Value {
    let (anchor, made) = match event {
        Event::Scalar(text, _, anchor, _) => (anchor, Value::String(text.into_owned())),
        Event::Alias(anchor) => return anchors[&anchor].clone(),
        Event::SequenceStart(anchor, _) => {
            let mut items = Vec::new();
            loop {
                match rest.next().unwrap() {
                    Event::SequenceEnd => break,
                    event => items.push(value(event, rest, anchors)),
                }
            }
            (anchor, Value::Array(items))
        }
        Event::MappingStart(anchor, _) => (anchor, Value::Object(mapping(rest, anchors))),
        other => panic!("{other:?}"),
    };
    anchors.insert(anchor, made.clone());
    made
}

fn mapping<'t>(rest: &mut impl Iterator<Item = Event<'t>>, anchors: &mut BTreeMap<usize, Value>) -> Map<String, Value> {
    let mut entries = Map::new();
    loop {
        let key = match rest.next().unwrap() {
            Event::MappingEnd => return entries,
            event => value(event, rest, anchors),
        };
        let event = rest.next().unwrap();
        let found = value(event, rest, anchors);
        if key == "<<" {
            entries.extend(found.as_object().unwrap().clone());
        } else {
            let double = entries.insert(key.as_str().unwrap().to_owned(), found);
            assert!(double.is_none(), "{key} is there twice");
        }
    }
}

/// Names of metrics in an expression of PromQL, as they are exported: a histogram without the endings of its series.
fn metrics(expression: &str) -> BTreeSet<String> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("switchover_"));
    names
        .map(|name| {
            name.trim_end_matches("_bucket").replace("_seconds_sum", "_seconds").replace("_seconds_count", "_seconds")
        })
        .collect()
}

/// Every expression of the rules and of the dashboard, with where it stands.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for group in yaml("prometheus/alerts.yml")["groups"].as_array().unwrap() {
        for rule in group["rules"].as_array().unwrap() {
            found.push((rule["alert"].as_str().unwrap().to_owned(), rule["expr"].as_str().unwrap().to_owned()));
        }
    }
    let board: Value = serde_json::from_str(&text("grafana/switchover.json")).unwrap();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((panel["title"].as_str().unwrap().to_owned(), target["expr"].as_str().unwrap().to_owned()));
        }
    }
    for annotation in board["annotations"]["list"].as_array().unwrap() {
        found.push((annotation["name"].as_str().unwrap().to_owned(), annotation["expr"].as_str().unwrap().to_owned()));
    }
    assert!(found.len() > 40, "{}", found.len());
    found
}

fn exported() -> BTreeSet<String> {
    let http = ports::free();
    let surfaces = format!("admin: {{ http: \"127.0.0.1:{http}\", users: {{ ops: {{ password: secret }} }} }}\n");
    let proxy = Proxy::start(|port| {
        pair_config(port, &stores().legacy, &stores().new, &["hits"])
            + "    standby: new\n    shadow: { sample: 1 }\n"
            + &surfaces
    });
    assert!(clients::mariadb(proxy.port, &["-e", "SELECT 1"]).ok);
    let mut asked = Command::new("python3");
    let script = format!(
        "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:{http}/metrics').read().decode())"
    );
    asked.args(["-c", &script]);
    let said = clients::output(asked);
    assert!(said.ok, "{}", said.stderr);
    let types = said.stdout.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn rules_and_dashboards_ask_for_what_the_proxy_exports() {
    let exported = exported();
    for (place, expression) in expressions() {
        for name in metrics(&expression) {
            assert!(exported.contains(&name), "{place}: {name} is not among {exported:#?}");
        }
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let count = |c| expression.matches(c).count();
            assert_eq!(count(open), count(close), "{place}: {expression}");
        }
    }
    let asked: BTreeSet<String> = expressions().iter().flat_map(|(_, expression)| metrics(expression)).collect();
    let unseen: Vec<&String> = exported.iter().filter(|name| !asked.contains(*name)).collect();
    assert!(unseen.is_empty(), "no rule and no panel looks at {unseen:?}");
    for rule in yaml("prometheus/alerts.yml")["groups"][0]["rules"].as_array().unwrap() {
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["page", "ticket", "info"].contains(&severity), "{rule}");
        assert!(rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(), "{rule}");
        let tried = text("prometheus/alerts_test.yml").contains(rule["alert"].as_str().unwrap());
        assert!(tried, "alerts_test.yml does not try {}", rule["alert"]);
    }
}

#[test]
fn panels_have_a_place_of_their_own() {
    let board: Value = serde_json::from_str(&text("grafana/switchover.json")).unwrap();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeMap::new());
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{title}: beyond the edge");
        for place in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            let other = places.insert(place, title);
            assert!(other.is_none(), "{title} lies on {}", other.unwrap_or_default());
        }
    }
}

/// What a file's own program says of it, where that is installed (`tools/install.sh lint`); everything else about it is checked
/// without. Whether it was asked.
fn linted(folder: &str, words: &[&str], input: &str) -> bool {
    let found = std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join(words[0]).is_file()));
    if !found {
        eprintln!("{} is not installed (tools/install.sh lint): it was not asked", words[0]);
        return false;
    }
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir(ops(folder));
    for name in ["ROOT_PASSWORD", "APP_PASSWORD", "CONTROL_PASSWORD", "OPS_PASSWORD"] {
        command.env(name, "x");
    }
    let done = clients::output_of(command, input);
    assert!(done.ok, "{words:?}: {}{}", done.stdout, done.stderr);
    true
}

#[test]
fn rules_fire_when_they_should() {
    linted("prometheus", &["promtool", "test", "rules", "alerts_test.yml"], "");
    linted("prometheus", &["promtool", "check", "rules", "alerts.yml"], "");
    linted("prometheus", &["promtool", "check", "config", "prometheus.yml"], "");
}

#[test]
fn the_image_and_its_neighbours_are_as_their_programs_want_them() {
    linted("docker", &["hadolint", "Dockerfile"], "");
    // Debian's version is of before `name:`
    let older = text("docker/compose.yaml").lines().filter(|l| !l.starts_with("name:")).collect::<Vec<_>>().join("\n");
    linted("docker", &["docker-compose", "-f", "-", "--project-directory", ".", "config", "-q"], &older);
}

#[test]
fn the_unit_is_one_that_systemd_takes_and_its_commands_exist() {
    let unit = text("systemd/switchover.service");
    let value = |key: &str| {
        unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_else(|| panic!("{key}"))
    };
    for (key, wanted) in
        [("Type", "exec"), ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("User", "switchover")]
    {
        assert_eq!(value(key), wanted);
    }
    assert!(value("ExecReload").contains("-HUP"));
    assert!(value("LimitNOFILE").parse::<u32>().unwrap() >= 30_000);
    let binary = env!("CARGO_BIN_EXE_switchover");
    for key in ["ExecStart", "ExecStartPre"] {
        let words: Vec<&str> = value(key).split(' ').collect();
        let help = Command::new(binary).args([words[1], "--help"]).output().unwrap();
        assert!(help.status.success(), "{words:?}");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{option}: {help}");
        }
    }
    // with the binary that is here, for `verify` looks whether it is there
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("switchover.service");
    std::fs::write(&path, unit.replace("/usr/bin/switchover", binary)).unwrap();
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(verified) => assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr)),
        Err(_) => eprintln!("systemd-analyze is not installed (Debian's package systemd): the unit was not verified"),
    }
}

#[test]
fn compose_names_only_what_is_there_and_its_proxy_checks() {
    let compose = yaml("docker/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services {
        for volume in service["volumes"].as_array().unwrap() {
            let source = volume.as_str().unwrap().split(':').next().unwrap();
            let here = ops("docker").join(source).exists();
            let named = compose["volumes"].get(source).is_some();
            assert!(if source.starts_with('.') { here } else { named }, "{name}: {source} is not there");
        }
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().unwrap().starts_with("127.0.0.1:"), "{name}: {port} is open to everybody");
        }
        let after = &service["depends_on"];
        let names = after.as_object().map(|o| o.keys().cloned().collect::<Vec<_>>());
        let names =
            names.or_else(|| after.as_array().map(|a| a.iter().map(|n| n.as_str().unwrap().to_owned()).collect()));
        assert!(names.into_iter().flatten().all(|other| services.contains_key(&other)), "{name}: {after}");
    }
    let build = &services["switchover"]["build"];
    let root = ops("docker").join(build["context"].as_str().unwrap());
    assert!(root.join(build["dockerfile"].as_str().unwrap()).exists());
    // what the proxy is given is a file that it takes
    let binary = env!("CARGO_BIN_EXE_switchover");
    let mut check = Command::new(binary);
    check.args(["check", "--offline", "--config"]).arg(ops("docker/proxy/routing.yaml"));
    check.env("CONTROL_PASSWORD", "x").env("OPS_PASSWORD", "x");
    let check = check.output().unwrap();
    assert!(
        check.status.success(),
        "{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
    // every password is asked for, and none has a default
    let whole = text("docker/compose.yaml");
    for name in ["ROOT_PASSWORD", "APP_PASSWORD", "CONTROL_PASSWORD", "OPS_PASSWORD"] {
        assert!(whole.contains(&format!("${{{name}:?")) && !whole.contains(&format!("${{{name}:-")), "{name}");
        assert!(text("docker/env.example").contains(&format!("{name}=\n")), "{name}");
    }
    let scraped = yaml("prometheus/prometheus.yml")["scrape_configs"][0]["static_configs"][0]["targets"][0].clone();
    assert_eq!(scraped, "switchover:6080");
}

#[test]
fn the_image_runs_without_root_and_copies_what_cargo_needs() {
    let file = text("docker/Dockerfile");
    let last = file.rsplit("\nFROM ").next().unwrap();
    assert!(file.matches("FROM ").count() == 2 && last.contains("\nUSER 10001:10001\n"), "{file}");
    assert!(last.contains("ENTRYPOINT [\"switchover\"]") && last.contains("HEALTHCHECK"), "{last}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied = file.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"));
    let sources: Vec<&str> = copied.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    for source in &sources {
        assert!(root.join(source).exists(), "{source}");
        assert!(text("docker/Dockerfile.dockerignore").contains(&format!("!{source}\n")), "{source} is kept out");
    }
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches"] {
        assert!(sources.contains(&needed), "{needed}");
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("[profile.dist]"), "the profile that the image is built with");
}
