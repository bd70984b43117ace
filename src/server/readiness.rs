//! Readiness of a running proxy: the snapshot in force, one with the flag moved, and what the cores have seen.

use std::sync::Arc;

use super::running::{Proxy, name_case};
use crate::admin::check;
use crate::admin::protocol::{Failure, FailureKind};
use crate::admin::readiness::{Readiness, ReadinessRequest, assess};
use crate::config::Config;
use crate::routing::Snapshot;

/// What would become of the statements that were seen, if the flag moved.
pub(super) async fn readiness(proxy: &Proxy, request: ReadinessRequest) -> Result<Readiness, Failure> {
    let live = proxy.live.load_full();
    let config = live.config();
    let to = target(config, &request).map_err(|text| Failure::new(FailureKind::Request, text))?;
    let moved = check::moved(config, &request.group, &to);
    let then = Snapshot::compile(Arc::new(moved), live.snapshot.epoch, name_case(config, &live.fleet));
    let seen = super::digests::seen(proxy);
    // connections of the proxy's own live on one thread: they get one
    let assessed = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (now, fleet) = (&live.snapshot, &live.fleet);
        Ok::<_, std::io::Error>(runtime.block_on(assess(&request.group, now, &then, fleet, seen)))
    });
    let failed = |e: &dyn std::fmt::Display| Failure::new(FailureKind::Internal, e.to_string());
    assessed.await.map_err(|e| failed(&e))?.map_err(|e| failed(&e))
}

/// The store that the flag would move to.
fn target(config: &Config, request: &ReadinessRequest) -> Result<String, String> {
    let names = |all: Vec<&str>| all.join(", ");
    let Some(group) = config.group_by_name(&request.group) else {
        let groups = names(config.groups.iter().map(|g| g.name.as_str()).collect());
        return Err(format!("there is no group {}; groups are: {groups}", request.group));
    };
    let from = config.store_name(group.connection);
    let others: Vec<&str> = config.stores.iter().map(|s| s.name.as_str()).filter(|name| *name != from).collect();
    match (&request.to, group.standby.map(|id| config.store_name(id)), others.as_slice()) {
        (Some(to), ..) if to == from => Err(format!("{} is on {to} already", request.group)),
        (Some(to), ..) if others.contains(&to.as_str()) => Ok(to.clone()),
        (Some(to), ..) => Err(format!("there is no store {to}; the others are: {}", names(others))),
        (None, Some(standby), _) if standby != from => Ok(standby.to_owned()),
        (None, _, [only]) => Ok((*only).to_owned()),
        (None, ..) => Err(format!("which store? --to {}", names(others))),
    }
}
