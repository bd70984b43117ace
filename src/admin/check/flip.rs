//! What a flip would tear apart, read off the stores before each flip away from the default store (RULES.md 11): views,
//! routines, triggers, events and foreign keys that tie the group's tables to others.
//!
//! Going back to the default store is never held up, and a store that cannot be asked in time holds up nothing: the note says
//! so. It runs on the control plane's own connections, so `mysql_async` does it, as everything in `check`.

use std::time::Duration;

use super::groups::dependencies;
use super::store::{self, Probe};
use super::{Finding, Level};
use crate::config::Config;
use crate::config::model::StoreId;

/// For reading two catalogs; a flip that waits longer than this does more harm than what it may tear.
const PATIENCE: Duration = Duration::from_secs(5);

/// What ties a group's tables to others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ties {
    /// What would go wrong once the flag has moved.
    torn: Vec<Finding>,
    /// What the operator should know beside.
    pub(crate) notes: Vec<String>,
}

impl Ties {
    /// Why the flag stays; `None` where nothing is torn.
    pub(crate) fn refusal(&self, group: &str, to: &str) -> Option<String> {
        if self.torn.is_empty() {
            return None;
        }
        let mut text = format!("the flag of group {group} does not move to {to}, for that would tear apart:");
        for finding in &self.torn {
            text.push_str(&format!("\n  {}", finding.what));
            for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
                text.push_str(&format!("\n    → {line}"));
            }
        }
        text.push_str(&format!("\n  help: or move it all the same: switchover flag {group} {to} --force"));
        Some(text)
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_clean(&self) -> bool {
        self.torn.is_empty() && self.notes.is_empty()
    }
}

/// `config` with the flag of `group` at `store`; unchanged where it has no such group or store.
pub(crate) fn moved(config: &Config, group: &str, store: &str) -> Config {
    let mut config = config.clone();
    let id = config.stores.iter().position(|s| s.name == store).and_then(|at| u16::try_from(at).ok()).map(StoreId);
    if let (Some(group), Some(id)) = (config.groups.iter_mut().find(|g| g.name == group), id) {
        group.connection = id;
    }
    config
}

/// What ties `group` as `config`, the configuration after the flip, places it. Takes [`PATIENCE`] at most.
pub(crate) async fn ties(config: &Config, group: &str) -> Ties {
    let mut ties = Ties::default();
    let Some(group) = config.groups.iter().find(|g| g.name == group) else { return ties };
    if group.connection == config.default {
        return ties;
    }
    let stores = [config.default, group.connection].map(|id| config.stores.get(usize::from(id.0)));
    let [Some(home), Some(there)] = stores else { return ties };
    let both = async { tokio::join!(store::catalog(config, home), store::catalog(config, there)) };
    let Ok((home, there)) = tokio::time::timeout(PATIENCE, both).await else {
        let seconds = PATIENCE.as_secs();
        ties.notes.push(format!("what is tied to the group was not read within {seconds} s: `switchover check` does"));
        return ties;
    };
    let mut findings = Vec::new();
    for probe in [home, there] {
        match probe {
            Ok(probe) => add(&mut ties, &mut findings, config, group, &probe),
            Err(why) => ties.notes.push(why),
        }
    }
    for finding in findings {
        if finding.level == Level::Error { ties.torn.push(finding) } else { ties.notes.push(finding.what) }
    }
    ties
}

fn add(
    ties: &mut Ties,
    findings: &mut Vec<Finding>,
    config: &Config,
    group: &crate::config::model::Group,
    probe: &Probe,
) {
    let unreadable = probe.catalog.as_ref().map_or(0, |catalog| catalog.unreadable);
    if unreadable > 0 {
        ties.notes.push(format!("{unreadable} views, routines or events on {} do not show their text", probe.name));
    }
    dependencies(findings, config, group, probe);
}

/// [`ties`] for a caller without a runtime.
pub(crate) fn ties_blocking(config: &Config, group: &str) -> Ties {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ties(config, group)),
        Err(error) => {
            Ties { torn: Vec::new(), notes: vec![format!("what is tied to the group was not read: {error}")] }
        }
    }
}
