//! Shadow reads of this process: one worker from start to end, and its report beside what the configuration in force says.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::running::Proxy;
use crate::admin::events::Event;
use crate::admin::protocol::{Failure, FailureKind};
use crate::admin::shadow::ShadowRequest;
use crate::transfer::shadow::{GroupReport, Handle, Report, start};

/// The worker, once it runs.
#[derive(Debug, Default)]
pub(super) struct Shadowing(OnceLock<Handle>);

impl Shadowing {
    /// Starts it. Reads of groups that get a shadow later go to it too.
    pub(super) fn attach(&self, proxy: &Arc<Proxy>) {
        let Some(reads) = proxy.registry.shadows.take_reads() else { return };
        let owner = Arc::downgrade(proxy);
        let told = move |group: &str, what: String| {
            if let Some(proxy) = owner.upgrade() {
                proxy.events.add(Event::of_proxy("shadow", group, what));
            }
        };
        match start(reads, Box::new(told)) {
            Ok(handle) => drop(self.0.set(handle)),
            Err(error) => tracing::error!(%error, "shadow reads have no thread"),
        }
    }

    /// What it has found.
    pub(super) fn report(&self, proxy: &Proxy, request: &ShadowRequest) -> Result<Report, Failure> {
        let live = proxy.live.load();
        let config = live.config();
        let wanted = request.group.as_deref();
        let mut report = self.0.get().map(|handle| handle.report(wanted, request.limit)).unwrap_or_default();
        let offered = proxy.registry.shadows.offered();
        let configured = config.groups.iter().filter(|g| g.shadow.is_some()).map(|g| g.name.clone());
        let names: BTreeSet<String> = configured.chain(offered.keys().cloned()).collect();
        for name in names.into_iter().filter(|name| wanted.is_none_or(|w| w == name)) {
            if !report.groups.iter().any(|g| g.group == name) {
                report.groups.push(GroupReport { group: name, ..GroupReport::default() });
            }
        }
        for found in &mut report.groups {
            let counts = offered.get(&found.group).copied().unwrap_or_default();
            (found.offered, found.dropped) = (counts.offered, counts.dropped);
            let group = config.group_by_name(&found.group);
            found.sample = group.and_then(|g| g.shadow).map(|s| s.share());
            let store = group.and_then(|g| config.shadow_of(g));
            found.store = store.map(|id| config.store_name(id).to_owned());
        }
        match wanted {
            Some(name) if report.groups.is_empty() => {
                let text = match config.group_by_name(name) {
                    Some(_) => {
                        format!("no reads of {name} are compared: write `shadow: {{ sample: 0.05 }}` in groups.{name}")
                    }
                    None => format!("no group {name}"),
                };
                Err(Failure::new(FailureKind::Request, text))
            }
            _ => Ok(report),
        }
    }
}
