//! The binary's commands without a proxy and without stores: output, exit codes, and what they leave behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as it should be"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// Nothing listens on these ports: they are below those that a system hands out, and privileged.
const CONFIG: &str = "# Our routing.\nlisten: 127.0.0.1:3307\nstores:\n  legacy: { address: 127.0.0.1:1, control: { user: c, password: \"${CONTROL}\" } }
  new:    { address: 127.0.0.1:2 }   # the fast one\ndefault: legacy\ngroups:\n  analytics:\n    tables: [hits]
    connection: ${ANALYTICS_CONNECTION:-legacy}   # THE FLAG\n";

struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    fn new(config: &str) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("routing.yaml"), config).unwrap();
        Folder { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchover"));
        command.args(arguments).current_dir(self.folder.path()).env("CONTROL", "hunter2").env("USER", "alice");
        command.env_remove("ANALYTICS_CONNECTION").env_remove("SUDO_USER").output().unwrap()
    }

    fn config(&self) -> String {
        fs::read_to_string(self.path("routing.yaml")).unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn check_lists_every_problem_of_a_file() {
    let folder = Folder::new(&CONFIG.replace("tables", "tabels").replace("default: legacy", "default: lgacy"));
    let output = folder.run(&["check"]);
    assert_eq!(code(&output), 1);
    let text = stderr(&output);
    for part in [
        "routing.yaml:6:10: `default` names the store `lgacy`, and there is none",
        "help: did you mean `legacy`? the stores are legacy, new",
        "routing.yaml:9:5: unknown key `tabels` in `groups.analytics`",
        "help: did you mean `tables`?",
        "  9 |     tabels: [hits]\n    |     ^^^^^^",
        "3 problems in routing.yaml",
    ] {
        assert!(text.contains(part), "{part}\n---\n{text}");
    }
    let report = json(&folder.run(&["check", "--json"]));
    assert_eq!(report["good"], false);
    assert_eq!(report["problems"][0]["line"], 6);
    assert_eq!(report["problems"][0]["kind"], "unknown_name");
}

#[test]
fn check_tries_the_stores_unless_told_not_to() {
    let folder = Folder::new(CONFIG);
    let output = folder.run(&["check", "--offline"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "the file routing.yaml is good: 2 stores, 1 group\n"));
    let output = folder.run(&["check"]);
    assert_eq!(code(&output), 1);
    let text = stdout(&output);
    assert!(text.contains("error  127.0.0.1:1 cannot be reached: Connection refused"), "{text}");
    assert!(text.contains("→ does it run there? mariadb-admin -h 127.0.0.1 -P 1 ping"), "{text}");
    assert!(text.contains("has no control account"), "{text}");
    assert!(!text.contains("hunter2"));
    let report = json(&folder.run(&["check", "--json"]));
    assert_eq!(report["findings"][0]["level"], "error");
}

#[test]
fn a_missing_file_says_how_to_name_one() {
    let folder = Folder::new(CONFIG);
    let output = folder.run(&["check", "--config", "other.yaml"]);
    assert_eq!(code(&output), 1);
    assert!(stderr(&output).contains("other.yaml: cannot be read"), "{output:?}");
    assert!(stderr(&output).contains("--config FILE"));
}

#[test]
fn flag_without_a_proxy_edits_the_file_and_says_so() {
    let folder = Folder::new(CONFIG);
    let output = folder.run(&["flag", "analytics", "new", "--why", "a test"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let text = stdout(&output);
    assert!(text.starts_with("analytics: legacy → new (in the file)\n"), "{text}");
    assert!(text.contains("${ANALYTICS_CONNECTION:-legacy} was replaced by new"), "{text}");
    assert!(text.contains("no proxy runs"), "{text}");
    assert_eq!(folder.config(), CONFIG.replace("${ANALYTICS_CONNECTION:-legacy}", "new"));

    let output = folder.run(&["flag", "analytics", "new", "--wait"]);
    assert_eq!(code(&output), 3, "nobody serves what was waited for");
    assert!(stdout(&output).starts_with("analytics: new already"), "{output:?}");

    let answer = json(&folder.run(&["--json", "flag", "analytics", "legacy"]));
    assert_eq!((&answer["from"], &answer["to"], &answer["in_force"]), (&"new".into(), &"legacy".into(), &false.into()));
    let mut left: Vec<_> =
        fs::read_dir(folder.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["routing.yaml", "routing.yaml.audit"]);
    let audit = fs::read_to_string(folder.folder.path().join("routing.yaml.audit")).unwrap();
    let whys: Vec<bool> = audit.lines().map(|line| line.contains("\"why\":\"a test\"")).collect();
    assert_eq!(whys, [true, false, false], "each is in the log of changes: {audit}");
}

/// `ulimit -f 0` stands for a full disk: the new file cannot be written, so the old one must stay as it is.
#[test]
fn a_full_disk_leaves_the_file_as_it_was() {
    let folder = Folder::new(CONFIG);
    let script = format!("trap '' XFSZ; ulimit -f 0; exec {} flag analytics new", env!("CARGO_BIN_EXE_switchover"));
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(folder.folder.path()).env("CONTROL", "hunter2");
    let output = command.env_remove("ANALYTICS_CONNECTION").output().unwrap();
    assert_eq!(code(&output), 5, "{output:?}");
    assert!(stderr(&output).contains("routing.yaml"), "{output:?}");
    assert_eq!(folder.config(), CONFIG);
    let left: Vec<_> = fs::read_dir(folder.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["routing.yaml"], "a draft was left behind");
    assert_eq!(code(&folder.run(&["flag", "analytics", "new"])), 0, "with room again it goes through");
}

#[test]
fn flag_refuses_what_makes_no_sense() {
    let folder = Folder::new(CONFIG);
    for (arguments, expected) in [
        (["flag", "analytics", "nwe"], "no store is called `nwe`: did you mean `new`?"),
        (["flag", "analytic", "new"], "no group is called `analytic`: did you mean `analytics`?"),
    ] {
        let output = folder.run(&arguments);
        assert_eq!(code(&output), 1);
        assert!(stderr(&output).contains(expected), "{output:?}");
    }
    assert_eq!(folder.config(), CONFIG);
    assert_eq!(code(&folder.run(&["flag", "analytics"])), 2);
    assert_eq!(code(&folder.run(&["dance"])), 2);
}

#[test]
fn commands_for_a_proxy_say_that_none_runs() {
    let folder = Folder::new(CONFIG);
    for arguments in [&["status"][..], &["sessions"], &["reload"], &["drain"]] {
        let output = folder.run(arguments);
        assert_eq!(code(&output), 3, "{output:?}");
        assert!(stderr(&output).contains("no proxy serves this configuration"), "{output:?}");
        let mut arguments = arguments.to_vec();
        arguments.push("--json");
        assert!(json(&folder.run(&arguments))["error"].is_string());
    }
}

/// Answers each request with the next of `replies`, and gives back what was asked.
fn proxy(folder: &Folder, replies: &'static [&'static str]) -> std::thread::JoinHandle<Vec<Value>> {
    let listener = UnixListener::bind(folder.path("routing.yaml.sock")).unwrap();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            asked.push(serde_json::from_str(&line).unwrap());
            writeln!(stream, "{reply}").unwrap();
        }
        asked
    })
}

#[test]
fn flag_goes_through_the_proxy_and_waits_for_older_transactions() {
    let folder = Folder::new(CONFIG);
    let proxy = proxy(
        &folder,
        &[
            r#"{"flagged": {"group": "analytics", "from": "legacy", "to": "new", "changed": true, "epoch": 7}}"#,
            r#"{"status": {"sessions": {"on_older_epoch": 2}}}"#,
            r#"{"status": {"sessions": {"on_older_epoch": 0}}}"#,
        ],
    );
    let output = folder.run(&["flag", "analytics", "new", "--wait", "--why", "it is time"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (0, "analytics: legacy → new (epoch 7)\n"), "{output:?}");
    let asked = proxy.join().unwrap();
    assert_eq!((&asked[0]["by"], &asked[0]["why"]), (&"alice".into(), &"it is time".into()));
    assert_eq!(folder.config(), CONFIG, "the proxy edits the file, not the CLI");
}

#[test]
fn a_wait_that_ends_too_early_has_its_own_code() {
    let folder = Folder::new(CONFIG);
    let proxy = proxy(
        &folder,
        &[
            r#"{"flagged": {"group": "analytics", "from": "legacy", "to": "new", "changed": true, "epoch": 7}}"#,
            r#"{"status": {"sessions": {"on_older_epoch": 2}}}"#,
        ],
    );
    let output = folder.run(&["flag", "analytics", "new", "--wait=0"]);
    assert_eq!(code(&output), 4);
    assert!(stdout(&output).contains("2 transactions that began before still run"), "{output:?}");
    proxy.join().unwrap();
}

#[test]
fn a_proxy_that_may_not_write_leaves_the_edit_to_the_operator() {
    let folder = Folder::new(CONFIG);
    let proxy =
        proxy(&folder, &[r#"{"failed": {"kind": "file", "message": "read-only"}}"#, r#"{"reloaded": {"epoch": 9}}"#]);
    let output = folder.run(&["flag", "analytics", "new"]);
    assert!(stdout(&output).starts_with("analytics: legacy → new (epoch 9)"), "{output:?}");
    assert_eq!(proxy.join().unwrap()[1]["request"], "reload");
    assert!(folder.config().contains("connection: new "));
}

#[test]
fn refusals_of_the_proxy_are_passed_on() {
    for (reply, expected) in [("config", 1), ("request", 1), ("timeout", 4), ("internal", 5)] {
        let folder = Folder::new(CONFIG);
        let text = format!(r#"{{"failed": {{"kind": "{reply}", "message": "because"}}}}"#);
        let replies: &'static [&'static str] = Box::leak(Box::new([&*Box::leak(text.into_boxed_str())]));
        let proxy = proxy(&folder, replies);
        let output = folder.run(&["reload"]);
        assert_eq!((code(&output), stderr(&output).as_str()), (expected, "switchover: because\n"));
        proxy.join().unwrap();
    }
}

#[test]
fn status_is_a_table_or_json() {
    let folder = Folder::new(CONFIG);
    let reply = r#"{"status": {"epoch": 4, "state": "serving", "default": "legacy", "stores": [{"name": "legacy", "state": "up", "queries": 12345}]}}"#;
    let replies: &'static [&'static str] = Box::leak(Box::new([reply, reply, "garbage"]));
    let proxy = proxy(&folder, replies);
    let text = stdout(&folder.run(&["status"]));
    assert!(text.contains("epoch 4") && text.contains("legacy (default)  up") && text.contains("12,345"), "{text}");
    assert_eq!(json(&folder.run(&["status", "--json"]))["stores"][0]["queries"], 12345);
    assert_eq!(code(&folder.run(&["status"])), 5);
    proxy.join().unwrap();
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let folder = Folder::new(CONFIG);
    let mut command = Command::new(env!("CARGO_BIN_EXE_switchover"));
    command.args(["check", "--offline"]).current_dir(folder.folder.path()).env("CONTROL", "x");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.stdout(writer).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
}
