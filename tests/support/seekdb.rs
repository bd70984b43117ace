//! OceanBase seekdb: a real store that is unlike MariaDB. No binlog, READ COMMITTED, +08:00, names in lower case, three collations.

use std::path::{Path, PathBuf};
use std::process::Child;

use super::other::Other;
use super::{clients, full_disk, spawn};

/// Its program, from the wheel that `tools/clients.sh` installs.
fn program() -> PathBuf {
    let found = clients::python_package("pylibseekdb").join("seekdb");
    assert!(found.is_file(), "{} is not there: run tools/install.sh test", found.display());
    found
}

/// Starts one on an empty folder.
pub fn start() -> Other {
    Other::start("k", |_| {}, Box::new(spawn), "")
}

fn spawn(folder: &Path, port: u16) -> Child {
    // (it binds to every address, and calls home: the library keeps it on loopback)
    let mut command = spawn::tied(program());
    command.env("LD_PRELOAD", full_disk::library("loopback")).env("TELEMETRY_ENABLED", "0");
    command.args(["--nodaemon", "--base-dir"]).arg(folder.join("data")).args(["--port", &port.to_string()]);
    for parameter in ["datafile_size=64M", "log_disk_size=2G", "memory_budget=1G"] {
        command.args(["--parameter", parameter]);
    }
    spawn::start(command, &folder.join("log"))
}
