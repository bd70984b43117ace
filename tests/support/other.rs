//! A server that is no MariaDB, to be the new store of a pair.

use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::place::Folder;
use super::{clients, ports, spawn};

type Spawn = Box<dyn Fn(&Path, u16) -> Child + Send + Sync>;

/// A running one: killed with the value.
pub struct Other {
    /// On 127.0.0.1.
    pub port: u16,
    spawn: Spawn,
    child: Child,
    folder: Folder,
}

impl Other {
    /// Starts one in a folder of its own, with the accounts `app` and `switchover` of the tests. Root has no password.
    pub fn start(kind: &str, prepare: impl FnOnce(&Path), spawn: Spawn, nobody: &str) -> Other {
        let (port, folder) = (ports::free(), Folder::new(kind));
        prepare(folder.path());
        let child = spawn(folder.path(), port);
        let other = Other { port, spawn, child, folder };
        other.wait_until_up();
        for sql in nobody.split_terminator(';') {
            other.sql(sql);
        }
        for account in ["app", "switchover"] {
            other.sql(&format!("CREATE USER {account} IDENTIFIED BY '{account}'"));
            other.sql(&format!("GRANT ALL ON *.* TO {account}"));
        }
        other
    }

    /// Runs one statement as root; its rows as text, a line each.
    pub fn sql(&self, text: &str) -> Vec<Vec<String>> {
        self.try_sql(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// [`Other::sql`], for what may fail.
    pub fn try_sql(&self, text: &str) -> Result<Vec<Vec<String>>, String> {
        let done = clients::mariadb(self.port, &["-uroot", "--password=", "-e", text]);
        if !done.ok {
            return Err(format!("{}\n{}", done.stderr, self.log()));
        }
        Ok(done.stdout.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        spawn::signal(&self.child, rustix::process::Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Starts it again, after a kill, with what it has kept.
    pub fn restart(&mut self) {
        self.child = (self.spawn)(self.folder.path(), self.port);
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while self.try_sql("SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "it does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.kill();
    }
}
