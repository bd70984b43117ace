//! What operators change beside flags: a group is paused, a session is ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::running::Proxy;
use crate::admin::protocol::{Failure, FailureKind, GroupStatus, KillRequest, PauseRequest};
use crate::backend::{StoreHandle, control};
use crate::session::Live;

fn unknown_group(live: &Live, name: &str) -> Failure {
    let names: Vec<&str> = live.config().groups.iter().map(|g| g.name.as_str()).collect();
    let there = if names.is_empty() { "there are none".to_owned() } else { format!("those are {}", names.join(", ")) };
    Failure::new(FailureKind::Request, format!("no group {name}: {there}"))
}

impl Proxy {
    /// What would write to a group waits at this proxy, `hold_max` at most, or goes on. What is open ends where it began.
    pub(super) async fn pause(&self, request: &PauseRequest) -> Result<GroupStatus, Failure> {
        let _one_at_a_time = self.reloading.lock().await;
        let old = self.live.load_full();
        let name = &request.group;
        let group = old.config().group_by_name(name).ok_or_else(|| unknown_group(&old, name))?;
        self.authorities.pause(name, request.pause);
        if group.standby.is_none() {
            // such a group has a gate only while it is paused: statements know of it with the next epoch
            let config = Arc::clone(&old.snapshot.config);
            let live = Live {
                snapshot: old.snapshot.reflagged(Arc::clone(&config), old.snapshot.epoch + 1),
                fleet: old.fleet.clone(),
                acceptor: old.acceptor.clone(),
                gates: self.authorities.gates(&config),
            };
            self.live.store(Arc::new(live));
        }
        let word = if request.pause { "paused" } else { "resumed" };
        tracing::info!(group = name, by = request.cause.by, why = request.cause.why, "{word}");
        let groups = super::status::status(self).groups;
        groups.into_iter().find(|g| g.name == *name).ok_or_else(|| unknown_group(&old, name))
    }

    /// Ends a session, or its statement, on every store where it is.
    pub(super) fn kill(&self, request: &KillRequest) -> Result<(), Failure> {
        let id = request.session;
        let gone = || Failure::new(FailureKind::Request, format!("no session {id}: see `switchover sessions`"));
        let session = self.registry.get(id).ok_or_else(gone)?;
        let mut threads = self.registry.others(id);
        if let (false, Ok(thread)) = (session.pooled, u32::try_from(id)) {
            let live = self.live.load();
            threads.extend(live.fleet.get(live.config().default).map(|home| (Arc::clone(home), thread)));
        }
        if !request.query {
            session.kill();
        }
        // (a pooled connection outlives the session: its statement alone is ended)
        let query = request.query || session.pooled;
        let busy = !session.idle.load(Ordering::Relaxed);
        for (store, thread) in threads.into_iter().filter(|_| busy || !query) {
            kill_thread(store, thread, query, self.live.load().config().limits.connect_timeout);
        }
        Ok(())
    }
}

/// On a thread of its own: connections are bound to one.
fn kill_thread(store: Arc<StoreHandle>, thread: u32, query: bool, limit: std::time::Duration) {
    tokio::task::spawn_blocking(move || {
        if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() {
            runtime.block_on(control::kill(&store, thread, query, limit));
        }
    });
}
