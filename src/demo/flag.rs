//! The flag as an operator handles it: read from `routing.yaml`, changed by the `switchover flag` command.

use std::path::PathBuf;

use anyhow::Context;
use tokio::process::Command;

/// The group that the demo moves.
const GROUP: &str = "analytics";

/// The flag of the demo's group.
pub(super) struct Flag {
    config: PathBuf,
    program: PathBuf,
}

/// A store of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Legacy,
    New,
}

impl Side {
    /// Its name in `routing.yaml`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Side::Legacy => "legacy",
            Side::New => "new",
        }
    }

    fn other(self) -> Side {
        match self {
            Side::Legacy => Side::New,
            Side::New => Side::Legacy,
        }
    }
}

impl Flag {
    /// The flag in that file.
    pub(super) fn new(config: PathBuf) -> anyhow::Result<Flag> {
        Ok(Flag { config, program: std::env::current_exe()? })
    }

    /// What the file says now; `None` while it says something that the demo does not know.
    pub(super) fn side(&self) -> Option<Side> {
        let text = std::fs::read_to_string(&self.config).ok()?;
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix("connection:"))?;
        match value.split('#').next()?.trim().trim_matches(['"', '\'']) {
            "legacy" => Some(Side::Legacy),
            "new" => Some(Side::New),
            _ => None,
        }
    }

    /// Flips it with the command that an operator would type; returns when the proxy says that it is live.
    pub(super) async fn flip(&self) -> anyhow::Result<()> {
        self.set(self.side().unwrap_or(Side::New).other()).await
    }

    /// Sets it, as an operator would.
    pub(super) async fn set(&self, side: Side) -> anyhow::Result<()> {
        let target = side.name();
        let mut command = Command::new(&self.program);
        command.args(["flag", GROUP, target, "--wait", "--config"]).arg(&self.config);
        let output = command.kill_on_drop(true).output().await.context("cannot run the flag command")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        anyhow::ensure!(output.status.success(), "switchover flag {GROUP} {target}: {said}");
        Ok(())
    }

    /// Runs another command of the program on this file; what it printed.
    pub(super) async fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--config").arg(&self.config);
        let output = command.kill_on_drop(true).output().await.context("cannot run a command")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "switchover {}: {said}{why}", arguments.join(" "));
        Ok(said)
    }
}
