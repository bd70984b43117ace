//! A MariaDB server of a test's own: started from the template, killed with the value or with the process.

use std::io::Read;
use std::net::TcpStream;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::place::Folder;
use super::{ports, spawn, template};

/// How to reach a server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Server {
    /// On 127.0.0.1.
    pub port: u16,
    /// Its unix socket.
    pub socket: PathBuf,
    /// Its process.
    pub pid: u32,
    /// Its folder: `log`, `data/`, `ca.pem`, `client.pem`, `client-key.pem`.
    pub folder: PathBuf,
}

impl Server {
    /// Options of a connection as `app` over TCP.
    pub fn opts(&self) -> OptsBuilder {
        opts(self.port)
    }

    /// Connects as `app` over TCP.
    pub async fn connect(&self) -> Conn {
        Conn::new(self.opts()).await.unwrap()
    }

    /// Runs statements as `root`, from any thread; the rows of the first as text, NULL as `NULL`.
    pub fn sql(&self, text: &str) -> Vec<Vec<String>> {
        self.try_sql(None, text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// [`Server::sql`] with a current database.
    pub fn sql_in(&self, database: &str, text: &str) -> Vec<Vec<String>> {
        self.try_sql(Some(database), text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// [`Server::sql`], for what may fail.
    pub fn try_sql(&self, database: Option<&str>, text: &str) -> mysql_async::Result<Vec<Vec<String>>> {
        let socket = self.socket.to_string_lossy();
        let opts = OptsBuilder::default().socket(Some(socket)).user(Some("root")).db_name(database);
        let text = text.to_owned();
        // A thread of its own, because the caller may be inside a runtime that must not be blocked on again.
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut conn = Conn::new(opts).await?;
                let rows: Vec<mysql_async::Row> = conn.query(text).await?;
                conn.disconnect().await?;
                Ok(rows.into_iter().map(|row| row.unwrap().into_iter().map(as_text).collect()).collect())
            })
        };
        std::thread::spawn(run).join().unwrap()
    }

    /// A global status counter (`Com_select`, `Prepared_stmt_count`, `Threads_connected` …).
    pub fn status(&self, name: &str) -> u64 {
        self.sql(&format!("SHOW GLOBAL STATUS LIKE '{name}'"))[0][1].parse().unwrap()
    }

    /// How many sessions have that current database.
    pub fn sessions_in(&self, database: &str) -> usize {
        let query = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{database}'");
        self.sql(&query)[0][0].parse().unwrap()
    }
}

/// Options of a connection as `app` to a port of 127.0.0.1, which never jump to the unix socket that the server
/// behind it names.
pub fn opts(port: u16) -> OptsBuilder {
    OptsBuilder::default()
        .ip_or_hostname("127.0.0.1")
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some("app"))
        .pass(Some("app"))
}

fn as_text(value: mysql_async::Value) -> String {
    match value {
        mysql_async::Value::NULL => "NULL".to_owned(),
        mysql_async::Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => other.as_sql(true),
    }
}

/// A running mariadbd that is this process's child.
pub struct Instance {
    server: Server,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    child: Child,
}

impl Instance {
    /// Starts one in `folder` (made, and filled from the template) with further arguments.
    pub fn start(folder: &Path, server_id: u32, extra: &[&str]) -> Instance {
        Instance::start_with(folder, server_id, extra, Vec::new())
    }

    fn start_with(folder: &Path, server_id: u32, extra: &[&str], environment: Vec<(String, String)>) -> Instance {
        let template = template::folder();
        std::fs::create_dir_all(folder).unwrap();
        let copied = Command::new("cp").arg("-a").arg(template.join(".")).arg(folder).status().unwrap();
        assert!(copied.success());
        let port = ports::free();
        let at = |name: &str| folder.join(name).display().to_string();
        let mut arguments = vec![
            "--no-defaults".to_owned(),
            template::user_argument().to_owned(),
            format!("--socket={}", at("s")),
            format!("--pid-file={}", at("pid")),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--server-id={server_id}"),
            format!("--log-bin={}", at("data/binlog")),
            format!("--ssl-ca={}", at("ca.pem")),
            format!("--ssl-cert={}", at("cert.pem")),
            format!("--ssl-key={}", at("key.pem")),
        ];
        arguments.extend(template::own_folders(folder));
        arguments.extend(SETTINGS.iter().chain(extra).map(|&argument| argument.to_owned()));
        let child = spawn_server(folder, &arguments, &environment);
        let server = Server { port, socket: folder.join("s"), pid: child.id(), folder: folder.to_owned() };
        let mut instance = Instance { server, arguments, environment, child };
        instance.wait_until_up();
        instance
    }

    /// How to reach it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Whether its process still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it answers. One that aborts while it recovers (seen once in some thousand kills) is started again, as its unit for
    /// systemd does (`Restart=on-abort`).
    fn wait_until_up(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut aborts = 0;
        while !greets(self.server.port) {
            let ended = self.child.try_wait().unwrap();
            if ended.is_some_and(|status| status.signal() == Some(Signal::ABORT.as_raw())) && aborts < 3 {
                aborts += 1;
                eprintln!("mariadbd has aborted while it recovered: it is started again\n{}", self.complaints());
                self.spawn();
            } else if ended.is_some() || Instant::now() > deadline {
                panic!("mariadbd did not come up ({ended:?}):\n{}\n{}", self.complaints(), self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.server.folder.join("log")).unwrap_or_default()
    }

    /// What its log says of an abort.
    fn complaints(&self) -> String {
        let log = self.log();
        let told = log.lines().filter(|line| ["[ERROR]", "ssertion", "signal"].iter().any(|word| line.contains(word)));
        told.collect::<Vec<_>>().join("\n")
    }

    /// Starts it on its data, on its port.
    fn spawn(&mut self) {
        self.child = spawn_server(&self.server.folder, &self.arguments, &self.environment);
        self.server.pid = self.child.id();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Durable enough for a process that is killed, and quick to start.
const SETTINGS: &[&str] = &[
    "--skip-name-resolve",
    "--local-infile=1",
    "--max-connections=3000",
    "--max-allowed-packet=64M",
    "--character-set-server=utf8mb4",
    "--performance-schema=0",
    "--binlog-format=ROW",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-fast-shutdown=2",
    "--innodb-lock-wait-timeout=10",
    "--plugin-maturity=alpha",
    "--loose-plugin-load-add=metadata_lock_info",
    "--table-open-cache=512",
    "--thread-stack=256K",
];

fn spawn_server(folder: &Path, arguments: &[String], environment: &[(String, String)]) -> Child {
    let mut command = spawn::tied(template::mariadbd());
    command.args(arguments).envs(environment.iter().cloned()).current_dir(folder);
    spawn::start(command, &folder.join("log"))
}

/// Whether something on that port says the first byte, as MySQL servers do.
fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.read(&mut [0; 1]).is_ok_and(|read| read == 1)
}

/// A server that this test alone uses, and may kill.
pub struct PrivateServer {
    instance: Instance,
    _folder: Folder,
}

impl PrivateServer {
    /// Starts one; further arguments win over the usual ones.
    pub fn start(server_id: u32, extra: &[&str]) -> PrivateServer {
        PrivateServer::start_with(server_id, extra, Vec::new())
    }

    /// [`PrivateServer::start`] with environment variables.
    pub fn start_with(server_id: u32, extra: &[&str], environment: Vec<(String, String)>) -> PrivateServer {
        let folder = Folder::new("s");
        PrivateServer { instance: Instance::start_with(folder.path(), server_id, extra, environment), _folder: folder }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.instance.kill();
    }

    /// An orderly stop; returns when the process has ended.
    pub fn stop(&mut self) {
        spawn::signal(&self.instance.child, Signal::TERM);
        self.instance.child.wait().unwrap();
    }

    /// Starts it again on its data, on the same port.
    pub fn restart(&mut self) {
        self.instance.kill();
        self.instance.spawn();
        self.instance.wait_until_up();
    }

    /// Stops it from answering, without closing anything, until [`PrivateServer::thaw`].
    pub fn freeze(&self) {
        spawn::signal(&self.instance.child, Signal::STOP);
    }

    /// Ends a [`PrivateServer::freeze`].
    pub fn thaw(&self) {
        spawn::signal(&self.instance.child, Signal::CONT);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.instance.log()
    }
}

impl Deref for PrivateServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.instance.server
    }
}
