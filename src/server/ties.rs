//! What the stores said about a flip a moment ago, so that a flag asks them once and not before the edit and after it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::admin::check::{Ties, ties};
use crate::config::Config;

/// How long a good answer counts. A bad one is asked for again: somebody is mending it.
const FRESH: Duration = Duration::from_secs(1);
/// Answers that are kept.
const MOST: usize = 64;

/// Answers by the group as it would be.
#[derive(Debug, Default)]
pub(super) struct KnownTies(Mutex<Vec<(String, Instant)>>);

impl KnownTies {
    /// What ties `group`, placed as `config` says.
    pub(super) async fn of(&self, config: &Config, group: &str) -> Arc<Ties> {
        // All of the group counts: its tables may be listed a moment after they were missed.
        let key = format!("{:?}", config.groups.iter().find(|g| g.name == group));
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|(_, at)| at.elapsed() < FRESH);
            if known.iter().any(|(k, _)| *k == key) {
                return Arc::default();
            }
        }
        let found = ties(config, group).await;
        if found.is_clean() {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() < MOST {
                known.push((key, Instant::now()));
            }
        }
        Arc::new(found)
    }
}
