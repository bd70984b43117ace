//! Learns what is not known of stores: one that did not answer at the start, or was away since, is probed until it answers.

use std::time::Duration;

use super::running::{PROBE, Proxy};
use crate::backend::control;

/// How long after the first attempt the second follows; each wait is twice as long as the one before, up to [`SLOWEST`].
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const SLOWEST: Duration = Duration::from_secs(30);

/// Runs as long as the proxy serves.
pub(super) async fn learn(proxy: &Proxy) {
    let mut wait = FIRST;
    let mut before = Vec::new();
    loop {
        tokio::time::sleep(wait).await;
        let unknown = learn_once(proxy).await;
        wait = if unknown.is_empty() || unknown != before { FIRST } else { (wait * 2).min(SLOWEST) };
        before = unknown;
    }
}

/// Probes each store that is to be learned of; the names of those that do not answer.
async fn learn_once(proxy: &Proxy) -> Vec<String> {
    let fleet = proxy.live.load().fleet.clone();
    let mut silent = Vec::new();
    for store in fleet.iter().filter(|s| !s.is_learned()) {
        match control::probe(store, PROBE).await {
            Ok(probed) => tracing::info!(store = store.name(), version = probed.version, "probed"),
            Err(_) => silent.push(store.name().to_owned()),
        }
    }
    proxy.follow_name_case().await;
    silent
}
