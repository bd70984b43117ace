//! A proxy that runs nothing, for the tests of surfaces.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it should be")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::control::{BoxFuture, Running};
use super::digest::{DigestRequest, Digests};
use super::events::Events;
use super::live::Sample;
use super::log::{LogLevel, LogRequest};
use super::protocol::{
    Cause, ConfigChange, ConfigEntry, DrainRequest, ExplainRequest, Explained, Failure, FailureKind, GroupStatus,
    KillRequest, PauseRequest, Reloaded, SessionInfo, Status,
};
use crate::config::model::Admin;

/// It counts, remembers causes, and does what it is told.
pub(crate) struct Fake {
    pub(crate) path: PathBuf,
    pub(crate) epoch: AtomicU64,
    pub(crate) causes: Mutex<Vec<Cause>>,
    pub(crate) events: Events,
    pub(crate) admin: Admin,
    newest: watch::Sender<Arc<Sample>>,
}

impl Fake {
    pub(crate) fn new(path: PathBuf) -> Fake {
        Fake {
            path,
            epoch: AtomicU64::new(1),
            causes: Mutex::default(),
            events: Events::default(),
            admin: Admin::default(),
            newest: watch::Sender::new(Arc::default()),
        }
    }
}

impl Running for Fake {
    fn config_path(&self) -> &Path {
        &self.path
    }

    fn status(&self) -> Status {
        Status {
            state: "serving".into(),
            epoch: self.epoch.load(Ordering::SeqCst),
            groups: vec![GroupStatus { name: "a".into(), connection: "legacy".into(), ..GroupStatus::default() }],
            ..Status::default()
        }
    }

    fn sessions(&self) -> Vec<SessionInfo> {
        vec![SessionInfo::default(); 20_000]
    }

    fn may_flip<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn reload(&self, cause: Cause) -> BoxFuture<'_, Result<Reloaded, Failure>> {
        self.causes.lock().unwrap().push(cause);
        Box::pin(async move {
            crate::config::load(&self.path)
                .map_err(|problems| Failure::new(FailureKind::Config, crate::config::problem::render(&problems)))?;
            Ok(Reloaded { epoch: self.epoch.fetch_add(1, Ordering::SeqCst) + 1, ..Reloaded::default() })
        })
    }

    fn announce(&self, cause: &Cause) {
        self.causes.lock().unwrap().push(cause.clone());
    }

    fn drain(&self, _: DrainRequest) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn digests(&self, request: &DigestRequest) -> Digests {
        Digests { on: true, kept: request.limit.into(), ..Digests::default() }
    }

    fn log(&self, request: &LogRequest) -> Result<LogLevel, Failure> {
        let level = request.level.clone().unwrap_or_else(|| "info".to_owned());
        Ok(LogLevel { level, said_by: request.cause.by.clone(), ..LogLevel::default() })
    }

    fn explain(&self, request: &ExplainRequest) -> Result<Explained, Failure> {
        Ok(Explained { store: Some("new".into()), text: request.sql.clone(), ..Explained::default() })
    }

    fn events(&self) -> &Events {
        &self.events
    }

    fn samples(&self) -> Vec<Arc<Sample>> {
        vec![Arc::default(); 2]
    }

    fn follow_samples(&self) -> watch::Receiver<Arc<Sample>> {
        self.newest.subscribe()
    }

    fn config(&self) -> Vec<ConfigEntry> {
        vec![ConfigEntry { key: "hints".into(), value: "true".into() }]
    }

    fn config_diff(&self) -> Result<Vec<ConfigChange>, Failure> {
        Ok(Vec::new())
    }

    fn metrics(&self) -> String {
        "# TYPE switchover_flips_total counter\nswitchover_flips_total 3\nswitchover_queries_total{store=\"new\"} 7\n"
            .to_owned()
    }

    fn admin(&self) -> Admin {
        self.admin.clone()
    }

    fn pause<'a>(&'a self, request: &'a PauseRequest) -> BoxFuture<'a, Result<GroupStatus, Failure>> {
        Box::pin(async {
            if request.group == "a" {
                return Ok(GroupStatus { name: "a".into(), paused: request.pause, ..GroupStatus::default() });
            }
            Err(Failure::new(FailureKind::Request, format!("no group {}", request.group)))
        })
    }

    fn kill(&self, request: &KillRequest) -> Result<(), Failure> {
        match request.session {
            7 => Ok(()),
            id => Err(Failure::new(FailureKind::Request, format!("no session {id}"))),
        }
    }
}
