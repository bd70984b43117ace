//! A store with MySQL 8's password plugins, which MariaDB does not have: `sha2_gate.py` in front of one of our servers.

use std::process::{Child, Command};

use super::place::Folder;
use super::{Server, clients, eventually, ports, spawn};

/// It accepts one account, `app`/`app`; killed with the value.
pub struct Gate {
    /// On 127.0.0.1.
    pub port: u16,
    folder: Folder,
    child: Child,
}

impl Gate {
    /// In front of `server`; with TLS it shows the server's own certificate.
    pub fn start(server: &Server, plugin: &str, tls: bool) -> Gate {
        let (folder, port) = (Folder::new("g"), ports::free());
        let mut command: Command = spawn::tied(clients::folder().join("venv/bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/sha2_gate.py"));
        command.args([&port.to_string(), &server.port.to_string(), plugin, "app", "app"]);
        if tls {
            command.arg(server.folder.join("cert.pem")).arg(server.folder.join("key.pem"));
        }
        let child = spawn::start(command, &folder.path().join("log"));
        let gate = Gate { port, folder, child };
        eventually("the gate listens", || gate.log().contains("listening"));
        gate
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How the logins went so far: `tls fast`, `plain rsa` … Nobody's (clients that left before) do not count.
    pub fn logins(&self) -> Vec<String> {
        self.log().lines().filter(|l| *l != "listening" && !l.ends_with("nobody")).map(str::to_owned).collect()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gate's log ---\n{}---", self.log());
        }
    }
}
