//! Clients of other languages, as child processes: the `mariadb` command, Python, Node, PHP and whatever else is installed.
//!
//! The Python and Node ones live in `clients/` of the target folder, made by `tools/clients.sh` (from here, if need be).
//! A client that is missing makes the test fail, never skip.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::place;

/// How long a client may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a client left.
#[derive(Debug)]
pub struct Output {
    /// Whether it exited with 0.
    pub ok: bool,
    /// What it exited with; none where a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Its standard output, without the line end at its end; panics if it failed.
    pub fn text(self) -> String {
        assert!(self.ok, "client failed:\n{}{}", self.stdout, self.stderr);
        self.stdout.trim_end().to_owned()
    }
}

/// Runs a program to its end: `run(&["mysqldump", …])`.
pub fn run(words: &[&str]) -> Output {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    output(command)
}

/// The `mariadb` command as `app` on a port of 127.0.0.1, with further arguments.
pub fn mariadb(port: u16, arguments: &[&str]) -> Output {
    let mut command = Command::new("mariadb");
    command.args([
        "--no-defaults",
        "--protocol=tcp",
        "-h127.0.0.1",
        "-uapp",
        "-papp",
        "--batch",
        "--skip-column-names",
    ]);
    command.arg(format!("-P{port}")).args(arguments);
    output(command)
}

/// A script through the `mariadb` command as `app`, in a database; what fails in it does not end it, and it may load local files.
pub fn mariadb_script(port: u16, database: &str, script: &str) -> Output {
    let mut command = Command::new("mariadb");
    command.args(["--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-uapp", "-papp", "--force", "--local-infile=1"]);
    command.arg(format!("-P{port}")).arg(database);
    output_of(command, script)
}

/// Runs a Python script with PyMySQL (`pymysql`), mysqlclient (`MySQLdb`) and `PORT`, `DB` in its environment.
pub fn python(script: &str, port: u16, database: &str) -> Output {
    let mut command = Command::new(folder().join("venv/bin/python"));
    command.args(["-c", script]);
    output(at(command, port, database))
}

/// The folder of an installed Python package.
pub fn python_package(name: &str) -> PathBuf {
    let libraries = std::fs::read_dir(folder().join("venv/lib")).unwrap();
    let mut found = libraries.map(|entry| entry.unwrap().path().join("site-packages").join(name));
    found.find(|path| path.is_dir()).unwrap_or_else(|| panic!("{name} is not installed: tools/clients.sh"))
}

/// The folder of an installed Node package.
pub fn node_package(name: &str) -> PathBuf {
    folder().join("node/node_modules").join(name)
}

/// Runs a Node script (CommonJS) with `mysql2` and `PORT`, `DB` in its environment.
pub fn node(script: &str, port: u16, database: &str) -> Output {
    let mut command = Command::new("node");
    command.args(["-e", script]).env("NODE_PATH", folder().join("node/node_modules"));
    output(at(command, port, database))
}

/// Runs a PHP script (no opening tag) with PDO, mysqli and `PORT`, `DB` in its environment.
pub fn php(script: &str, port: u16, database: &str) -> Output {
    let mut command = Command::new("php");
    command.args(["-r", script]);
    output(at(command, port, database))
}

fn at(mut command: Command, port: u16, database: &str) -> Command {
    command.env("PORT", port.to_string()).env("DB", database);
    command
}

/// Where the Python and Node clients live.
pub fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = place::kept().with_file_name("clients");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/clients.sh");
        let made = Command::new(script).arg(&folder).stdin(Stdio::null()).output().unwrap();
        assert!(made.status.success(), "{script}: {}", String::from_utf8_lossy(&made.stderr));
        folder
    })
}

/// Runs a command to its end, with nothing on its standard input; kills it after [`LIMIT`].
pub fn output(command: Command) -> Output {
    output_of(command, "")
}

/// [`output`] with a text on its standard input.
pub fn output_of(mut command: Command, input: &str) -> Output {
    let name = format!("{command:?}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let stdout = child.stdout.take().unwrap();
    let stdout = std::thread::spawn(move || read(stdout));
    let stderr = child.stderr.take().unwrap();
    let stderr = std::thread::spawn(move || read(stderr));
    let deadline = Instant::now() + LIMIT;
    let mut killed = false;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline && !killed {
            child.kill().unwrap();
            killed = true;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let _ = writer.join().unwrap();
    let (stdout, mut stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
    if killed {
        stderr.push_str(&format!("\n(killed after {LIMIT:?}: {name})"));
    }
    Output { ok: status.success(), code: status.code(), stdout, stderr }
}

fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
