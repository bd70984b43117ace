//! OceanBase seekdb: a real store that is unlike MariaDB. No binlog, READ COMMITTED, +08:00, names in lower case, three collations.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::other::Other;
use super::place::Folder;
use super::{clients, full_disk, ports, spawn};

/// A running one: killed with the value.
pub struct Seekdb {
    port: u16,
    child: Child,
    folder: Folder,
}

/// Its program, from the wheel that `tools/clients.sh` installs.
fn program() -> PathBuf {
    let found = clients::python_package("pylibseekdb").join("seekdb");
    assert!(found.is_file(), "{} is not there: run tools/install.sh test", found.display());
    found
}

impl Seekdb {
    /// Starts one on an empty folder, with the accounts `app` and `switchover` of the tests.
    pub fn start() -> Seekdb {
        let (port, folder) = (ports::free(), Folder::new("k"));
        let child = spawn(folder.path(), port);
        let seekdb = Seekdb { port, child, folder };
        seekdb.wait_until_up();
        for account in ["app", "switchover"] {
            seekdb.sql(&format!("CREATE USER {account} IDENTIFIED BY '{account}'"));
            seekdb.sql(&format!("GRANT ALL ON *.* TO {account}"));
        }
        seekdb
    }

    /// [`Other::sql`], for what may fail.
    pub fn try_sql(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let done = clients::mariadb(self.port, &["-uroot", "--password=", "-e", text]);
        if !done.ok {
            return Err(format!("{}\n{}", done.stderr, self.log()));
        }
        Ok(done.stdout.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while self.try_sql("SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "seekdb does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Other for Seekdb {
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
        self.child = spawn(self.folder.path(), self.port);
        self.wait_until_up();
    }
}

impl Drop for Seekdb {
    fn drop(&mut self) {
        self.kill();
    }
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
