//! A proxy of a test's own: the release binary with a `routing.yaml` in a folder of its own.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use mysql_async::{Conn, OptsBuilder};
use rustix::process::Signal;

use super::place::Folder;
use super::{Server, clients, mariadb, ports, spawn, stores};

const BINARY: &str = env!("CARGO_BIN_EXE_switchover");

/// A running `switchover serve`; killed with the value or with the process. If the test panics, its log is printed.
pub struct Proxy {
    /// Where clients connect, on 127.0.0.1.
    pub port: u16,
    /// Its folder.
    pub folder: PathBuf,
    /// Its `routing.yaml`.
    pub config_path: PathBuf,
    /// The CLI's way in.
    pub control_socket: PathBuf,
    child: Child,
    _folder: Folder,
}

impl Proxy {
    /// The usual one: the shared stores, `default: legacy`, and a group `analytics` of the given tables on `legacy`.
    pub fn pair(tables: &[&str]) -> Proxy {
        let stores = stores();
        Proxy::start(|port| pair_config(port, &stores.legacy, &stores.new, tables))
    }

    /// One with the given `routing.yaml`, made for the port that it is to listen on; returns when it accepts.
    pub fn start(config: impl FnOnce(u16) -> String) -> Proxy {
        Proxy::start_with(&[], config)
    }

    /// [`Proxy::start`] with environment variables.
    pub fn start_with(environment: &[(&str, &str)], config: impl FnOnce(u16) -> String) -> Proxy {
        let folder = Folder::new("p");
        let port = ports::free();
        let config_path = folder.path().join("routing.yaml");
        std::fs::write(&config_path, config(port)).unwrap();
        let child = serve(folder.path(), &config_path, environment);
        let control_socket = folder.path().join("routing.yaml.sock");
        let mut proxy =
            Proxy { port, folder: folder.path().to_owned(), config_path, control_socket, child, _folder: folder };
        proxy.wait_until_up();
        proxy
    }

    fn wait_until_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.ended() {
                panic!("switchover serve ended with {status}");
            }
            assert!(Instant::now() < deadline, "switchover serve does not accept on port {}", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Options of a connection as `app` through the proxy.
    pub fn opts(&self) -> OptsBuilder {
        mariadb::opts(self.port)
    }

    /// Connects as `app` through the proxy.
    pub async fn connect(&self, database: &str) -> Conn {
        Conn::new(self.opts().db_name(Some(database))).await.unwrap()
    }

    /// `switchover flag GROUP STORE --wait`: when it returns, nothing runs on the old store any more.
    pub fn flag(&self, group: &str, store: &str) {
        let output = self.cli(&["flag", group, store, "--wait"]);
        assert!(output.ok, "switchover flag {group} {store}: {}{}", output.stdout, output.stderr);
    }

    /// `switchover flag GROUP STORE`: when it returns, new statements go to that store; transactions may still run on the old.
    pub fn flag_at_once(&self, group: &str, store: &str) {
        let output = self.cli(&["flag", group, store]);
        assert!(output.ok, "switchover flag {group} {store}: {}{}", output.stdout, output.stderr);
    }

    /// `switchover status --json`.
    pub fn status(&self) -> serde_json::Value {
        let output = self.cli(&["status", "--json"]);
        assert!(output.ok, "switchover status: {}{}", output.stdout, output.stderr);
        serde_json::from_str(&output.stdout).unwrap()
    }

    /// Any command of the CLI, with this proxy's `--config`.
    pub fn cli(&self, arguments: &[&str]) -> clients::Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config").arg(&self.config_path);
        clients::output(command)
    }

    /// Replaces `routing.yaml` by what `edit` makes of it, as editors do: a new file renamed over the old one.
    pub fn edit_config(&self, edit: impl FnOnce(String) -> String) {
        let text = edit(std::fs::read_to_string(&self.config_path).unwrap());
        let draft = self.folder.join("routing.yaml.draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &self.config_path).unwrap();
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Sends a signal (TERM drains, HUP reloads).
    pub fn signal(&self, signal: Signal) {
        spawn::signal(&self.child, signal);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again with the same config and port.
    pub fn restart(&mut self) {
        self.kill();
        self.child = serve(&self.folder, &self.config_path, &[]);
        self.wait_until_up();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(200)..).unwrap_or_default();
            eprintln!("--- the proxy's log (its last {} lines) ---\n{}\n---", tail.len(), tail.join("\n"));
        }
    }
}

fn serve(folder: &Path, config: &Path, environment: &[(&str, &str)]) -> Child {
    let mut command = spawn::tied(BINARY);
    command.args(["serve", "--config"]).arg(config).current_dir(folder).env("RUST_BACKTRACE", "1");
    command.envs(environment.iter().copied());
    spawn::start(command, &folder.join("log"))
}

/// Whether this test is one of those that run again in `pool: transaction` (`tests/it/pool/again.rs`).
pub fn in_transaction_mode() -> bool {
    std::env::var_os("SWITCHOVER_TEST_POOLED").is_some() || std::env::args().any(|a| a.starts_with("pool::again::"))
}

/// What the proxy's sockets are read and written with: in `pool: transaction`, always with io_uring where there is one, so that all
/// that runs in both modes runs in both ways. `SWITCHOVER_TEST_IO` says it for every test.
fn io() -> String {
    std::env::var("SWITCHOVER_TEST_IO").unwrap_or_else(|_| {
        let uring = in_transaction_mode() && switchover::net::Ring::new().is_ok();
        if uring { "io_uring" } else { "auto" }.to_owned()
    })
}

/// A `routing.yaml` of two stores, `default: legacy` and, if there are tables, a group `analytics` of them on `legacy`.
pub fn pair_config(port: u16, legacy: &Server, new: &Server, tables: &[&str]) -> String {
    pair_config_at(port, legacy.port, new.port, tables)
}

/// [`pair_config`] of stores at these ports.
pub fn pair_config_at(port: u16, legacy: u16, new: u16, tables: &[&str]) -> String {
    let mut text = format!("listen: 127.0.0.1:{port}\nstores:\n");
    for (name, at) in [("legacy", legacy), ("new", new)] {
        let address = format!("127.0.0.1:{at}");
        let control = "{ user: switchover, password: switchover }";
        writeln!(text, "  {name}: {{ address: {address}, control: {control} }}").unwrap();
    }
    text.push_str("default: legacy\n");
    if in_transaction_mode() {
        text.push_str("pool: transaction\n");
    }
    writeln!(text, "io: {}", io()).unwrap();
    if !tables.is_empty() {
        writeln!(text, "groups:\n  analytics:\n    tables: [{}]\n    connection: legacy", tables.join(", ")).unwrap();
    }
    text
}
