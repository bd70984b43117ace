//! One of the demo's two MariaDB servers: its data folder, its process, its accounts, and what it counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ground::{self, Ground};
use super::{ACCOUNT, CONTROL, DATABASE, schema};

/// Small and quick; `userstat` makes the server count per account and per table.
const SETTINGS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--userstat=1",
    "--max-connections=500",
    "--character-set-server=utf8mb4",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=16M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-fast-shutdown=2",
];

/// What a server counted since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counters {
    /// Reads and writes of the application's account; the proxy's own questions in its name are among them.
    pub(super) queries: u64,
    /// Logins of that account.
    pub(super) sessions: u64,
    /// Rows that anybody read or changed in the grouped tables.
    pub(super) grouped_rows: u64,
}

/// A running server.
pub(super) struct Store {
    port: u16,
    /// A connection of the demo's own, past the proxy.
    own: Mutex<Conn>,
    folder: PathBuf,
    server_id: u32,
    further: &'static [&'static str],
    /// Its place among the demo's children.
    place: usize,
}

/// Starts a server, and waits until it answers.
async fn launch(
    ground: &mut Ground,
    folder: &Path,
    port: u16,
    server_id: u32,
    further: &[&str],
) -> anyhow::Result<(usize, Conn)> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let socket = folder.join("s");
    let mut command = ground::tied(&program("mariadbd")?);
    command.arg("--no-defaults").args(user_argument());
    command.args(own_folders(folder));
    command.arg(format!("--socket={}", socket.display()));
    command.arg(format!("--pid-file={}", folder.join("pid").display()));
    command.arg(format!("--port={port}")).arg(format!("--server-id={server_id}")).args(SETTINGS).args(further);
    let place = ground.start(&name, command)?;
    let opts = OptsBuilder::default().socket(Some(socket.to_string_lossy())).user(Some("root"));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match Conn::new(opts.clone()).await {
            Ok(conn) => return Ok((place, conn)),
            Err(error) if Instant::now() > deadline || ground.ended(place) => {
                anyhow::bail!("the {name} store did not start ({error}):\n{}", ground.log(&name));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Where a program is: on the PATH, or where Debian puts servers, which is not on everybody's PATH.
///
/// # Errors
/// If it is not there.
pub(super) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.is_file());
    found.with_context(|| {
        format!("the demo runs two MariaDB servers of its own, and there is no `{name}` here: `make demo` installs it")
    })
}

/// Makes the data folder of the store `name`; returns its folder.
pub(super) async fn install(ground: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = ground.join(name);
    std::fs::create_dir_all(folder.join("tmp"))?;
    let mut command = Command::new(program("mariadb-install-db")?);
    command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
    command.arg("--innodb-log-file-size=16M").args(user_argument());
    command.args(own_folders(&folder));
    let output = command.kill_on_drop(true).output().await.context("cannot start mariadb-install-db")?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "mariadb-install-db failed:\n{said}");
    Ok(folder)
}

/// A folder for temporary tables too: a mariadbd that starts removes those that it finds, whosever they are.
fn own_folders(folder: &Path) -> [String; 2] {
    ["data", "tmp"].map(|name| format!("--{name}dir={}", folder.join(name).display()))
}

/// mariadbd runs as root only when told to.
fn user_argument() -> Option<&'static str> {
    rustix::process::getuid().is_root().then_some("--user=root")
}

impl Store {
    /// Starts the server on an installed folder, and makes the accounts. `further` settings win over the usual ones.
    pub(super) async fn start(
        ground: &mut Ground,
        folder: PathBuf,
        server_id: u32,
        further: &'static [&'static str],
    ) -> anyhow::Result<Store> {
        let port = super::free_port(0)?;
        let (place, mut own) = launch(ground, &folder, port, server_id, further).await?;
        own.query_drop(format!("CREATE DATABASE {DATABASE}")).await?;
        for account in [ACCOUNT, CONTROL] {
            own.query_drop(format!("CREATE USER {account}@'%' IDENTIFIED BY '{account}'")).await?;
        }
        own.query_drop(format!("GRANT ALL ON {DATABASE}.* TO {ACCOUNT}@'%'")).await?;
        own.query_drop(format!("GRANT ALL ON *.* TO {CONTROL}@'%'")).await?;
        own.query_drop(format!("USE {DATABASE}")).await?;
        Ok(Store { port, own: Mutex::new(own), folder, server_id, further, place })
    }

    /// `kill -9`.
    pub(super) async fn kill(&self, ground: &mut Ground) {
        ground.kill(self.place).await;
    }

    /// Starts it again on its data, on the same port.
    pub(super) async fn start_again(&mut self, ground: &mut Ground) -> anyhow::Result<()> {
        let (place, mut own) = launch(ground, &self.folder, self.port, self.server_id, self.further).await?;
        own.query_drop(format!("USE {DATABASE}")).await?;
        self.place = place;
        self.own = Mutex::new(own);
        Ok(())
    }

    /// All rows of a query, as text.
    pub(super) async fn rows(&self, sql: &str) -> anyhow::Result<Vec<String>> {
        Ok(self.own.lock().await.query(sql).await?)
    }

    /// Its port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Runs a statement past the proxy.
    pub(super) async fn run(&self, sql: &str) -> anyhow::Result<()> {
        self.own.lock().await.query_drop(sql).await.with_context(|| sql.chars().take(200).collect::<String>())
    }

    /// What it has counted so far.
    pub(super) async fn counters(&self) -> anyhow::Result<Counters> {
        let queries = format!(
            "SELECT COALESCE(SUM(SELECT_COMMANDS + UPDATE_COMMANDS), 0), COALESCE(SUM(TOTAL_CONNECTIONS), 0) \
             FROM information_schema.USER_STATISTICS WHERE USER = '{ACCOUNT}'"
        );
        let rows = format!(
            "SELECT COALESCE(SUM(ROWS_READ + ROWS_CHANGED), 0) FROM information_schema.TABLE_STATISTICS \
             WHERE TABLE_SCHEMA = '{DATABASE}' AND TABLE_NAME IN ('{}')",
            schema::GROUPED.join("', '")
        );
        let mut own = self.own.lock().await;
        let (queries, sessions) = own.query_first(queries).await?.unwrap_or_default();
        let grouped_rows: Option<u64> = own.query_first(rows).await?;
        Ok(Counters { queries, sessions, grouped_rows: grouped_rows.unwrap_or(0) })
    }
}
