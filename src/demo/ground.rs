//! The ground that the demo stands on: one temporary folder, and children that cannot outlive it.
//!
//! Three nets, each for what the one before misses: [`Ground::clear`] at an orderly end; `setpriv --pdeathsig`, by which
//! the kernel kills the children when the demo is killed; and the janitor, a shell in a session of its own that waits
//! for the demo's end of a pipe to close and then removes the folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long a child may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads until the demo is gone, then removes the folder: twice, since dying children may still write to it.
const JANITOR: &str = r#"cat >/dev/null; sleep 0.3; rm -rf -- "$1"; [ ! -e "$1" ] || { sleep 2; rm -rf -- "$1"; }"#;

/// The folder and the children.
pub(super) struct Ground {
    folder: TempDir,
    children: Vec<Child>,
    janitor: Child,
}

impl Ground {
    /// An empty folder with its janitor.
    pub(super) fn new() -> anyhow::Result<Ground> {
        let folder = tempfile::Builder::new().prefix("switchover-demo-").tempdir()?;
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", JANITOR, "janitor"]).arg(folder.path()).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let janitor = command.spawn().context("cannot start setsid (package util-linux)")?;
        Ok(Ground { folder, children: Vec::new(), janitor })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a command made by [`tied`]; what it prints goes to `<name>.log`. Returns its place among the children.
    pub(super) fn start(&mut self, name: &str, mut command: Command) -> anyhow::Result<usize> {
        let log = std::fs::File::create(self.log_path(name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Not in the terminal's foreground group: Ctrl-C is the demo's alone.
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.children.push(child);
        Ok(self.children.len() - 1)
    }

    /// Whether a child has ended.
    pub(super) fn ended(&mut self, place: usize) -> bool {
        self.children.get_mut(place).is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Kills a child, and waits for its end.
    pub(super) async fn kill(&mut self, place: usize) {
        if let Some(child) = self.children.get_mut(place) {
            let _ = child.kill().await;
        }
    }

    /// What a child printed.
    pub(super) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }

    /// Ends the children, the last one first and in order, then removes the folder.
    pub(super) async fn clear(mut self) {
        while let Some(mut child) = self.children.pop() {
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
        let _ = self.folder.close();
        drop(self.janitor.stdin.take());
        let _ = tokio::time::timeout(PATIENCE, self.janitor.wait()).await;
    }
}

/// A command whose process the kernel kills when this one ends, however it ends.
pub(super) fn tied(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}
