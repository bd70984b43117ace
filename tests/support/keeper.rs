//! The pair of stores that all test processes of a run share, and the process that keeps it.
//!
//! The first test process that wants the pair starts the keeper: this same test binary, in a session of its own, running
//! [`keep`]. The servers are the keeper's children. Each test process holds a shared lock until it ends (even by
//! `kill -9`: see [`place`]); when the keeper has been able to take that lock for itself for [`LINGER`], it stops the
//! servers and removes their folder. `tools/stop-stores.sh` (SIGTERM) takes the lingering away.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::mariadb::{Instance, Server};
use super::{Database, LEGACY_ID, NEW_ID, place};

/// How long the pair waits for a next test process.
const LINGER: Duration = Duration::from_secs(8);
const KEEPER: &str = "SWITCHOVER_TEST_KEEPER";

/// The shared pair.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stores {
    pub legacy: Server,
    pub new: Server,
}

impl Stores {
    /// A database with a name of its own, made on both stores and dropped with the value.
    pub fn database(&self) -> Database {
        Database::create(self)
    }
}

/// The shared pair; started by the first test process that asks.
pub fn stores() -> &'static Stores {
    static STORES: OnceLock<Stores> = OnceLock::new();
    STORES.get_or_init(|| {
        place::hold();
        let gate = place::lock_file("start.lock");
        gate.lock().unwrap();
        let mut started = None;
        if place::lock_file("keeper.lock").try_lock_shared().is_ok() {
            let _ = std::fs::remove_file(state_path());
            started = Some(start_keeper());
        }
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            if let Ok(text) = std::fs::read(state_path()) {
                return serde_json::from_slice(&text).unwrap();
            }
            let ended = started.as_mut().is_some_and(|keeper| !matches!(keeper.try_wait(), Ok(None)));
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(log_path()).unwrap_or_default();
                panic!("the shared stores did not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

fn state_path() -> PathBuf {
    place::kept().join("stores.json")
}

fn log_path() -> PathBuf {
    place::kept().join("keeper.log")
}

/// It outlives this process: nobody waits for it.
fn start_keeper() -> Child {
    let log = File::create(log_path()).unwrap();
    let test = concat!(module_path!(), "::keep").split_once("::").map(|(_, path)| path).unwrap();
    let mut keeper = Command::new("setsid");
    keeper.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact", "--nocapture", test]);
    keeper.env(KEEPER, "1").stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    keeper.spawn().unwrap()
}

/// Not a test: the keeper's whole life.
#[tokio::test]
#[ignore = "the keeper of the shared stores, which tests start by themselves"]
async fn keep() {
    let lock = place::lock_file("keeper.lock");
    if std::env::var_os(KEEPER).is_none() || lock.try_lock().is_err() {
        return;
    }
    let pid_path = place::kept().join("keeper.pid");
    std::fs::write(&pid_path, std::process::id().to_string()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();

    let at = |name: &str| {
        let folder = place::running().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        folder
    };
    let mut legacy = Instance::start(&at("legacy"), LEGACY_ID, &[]);
    let mut new = Instance::start(&at("new"), NEW_ID, &[]);
    let stores = Stores { legacy: legacy.server().clone(), new: new.server().clone() };
    let draft = place::kept().join("stores.json.draft");
    std::fs::write(&draft, serde_json::to_vec(&stores).unwrap()).unwrap();
    std::fs::rename(draft, state_path()).unwrap();

    let mut linger = LINGER;
    let mut idle_since: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = terminate.recv() => linger = Duration::ZERO,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        let gate = place::lock_file("start.lock");
        if gate.try_lock().is_err() {
            continue;
        }
        let users = place::lock_file("users.lock");
        let idle = users.try_lock().is_ok();
        if !idle {
            idle_since = None;
        }
        let over = idle && idle_since.get_or_insert_with(Instant::now).elapsed() >= linger;
        if over || !legacy.alive() || !new.alive() {
            let _ = std::fs::remove_file(state_path());
            drop((legacy, new));
            let _ = std::fs::remove_dir_all(place::running());
            let _ = std::fs::remove_file(pid_path);
            return;
        }
    }
}
