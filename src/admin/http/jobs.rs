//! Work that takes its time: cutovers that are under way, and standbys that catch up.

use serde::Serialize;

use crate::admin::control::Running;
use crate::admin::live::Sample;
use crate::admin::protocol::GroupStatus;

/// A standby that is fewer transactions behind is not catching up, it follows.
const BEHIND: u64 = 100;
/// Seconds over which a rate is taken.
const WINDOW: usize = 10;

/// One of them.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Job {
    id: String,
    /// `cutover` or `catch-up`.
    kind: &'static str,
    group: String,
    state: String,
    /// What it does now, in words.
    step: String,
    /// Of `total`: steps, or transactions.
    done: u64,
    total: u64,
    rate_per_s: f64,
    /// Until it is done, at this rate.
    eta_s: Option<f64>,
    abortable: bool,
}

impl Job {
    /// Whether it is the one of this id, or of this group.
    pub(super) fn is(&self, name: &str) -> bool {
        self.id == name || self.group == name
    }
}

/// All of them.
pub(super) fn jobs(running: &dyn Running) -> Vec<Job> {
    let (status, samples) = (running.status(), running.samples());
    let mut jobs = Vec::new();
    for g in &status.groups {
        let lags: Vec<u64> = samples.iter().rev().take(WINDOW).filter_map(|s| lag(s, &g.name)).collect();
        jobs.extend(cutover(g).into_iter().chain(catch_up(g, &lags)));
    }
    jobs
}

fn lag(sample: &Sample, group: &str) -> Option<u64> {
    sample.groups.iter().find(|g| g.name == group).map(|g| g.lag_entries)
}

fn cutover(g: &GroupStatus) -> Option<Job> {
    let authority = g.authority.as_ref()?;
    let under_way = authority.cutover.as_ref()?;
    let (id, whereto) = under_way.split_once(' ').unwrap_or((under_way, ""));
    Some(Job {
        id: id.to_owned(),
        kind: "cutover",
        group: g.name.clone(),
        state: "running".to_owned(),
        step: format!("{whereto}; rows: {}", authority.rows),
        abortable: authority.conducted_here,
        ..Job::default()
    })
}

/// A standby that is behind: `lags` are the last seconds', the newest first.
#[expect(clippy::cast_precision_loss, reason = "transactions that are waited for are far below 2^53")]
fn catch_up(g: &GroupStatus, lags: &[u64]) -> Option<Job> {
    let standby = g.standby.as_ref().filter(|s| s.lag_entries > BEHIND)?;
    let (newest, oldest) = (lags.first().copied().unwrap_or_default(), lags.last().copied().unwrap_or_default());
    let seconds = lags.len().saturating_sub(1).max(1) as f64;
    // how fast it comes nearer, whatever is written meanwhile
    let rate = (oldest as f64 - newest as f64) / seconds;
    let most = lags.iter().copied().max().unwrap_or_default().max(standby.lag_entries);
    Some(Job {
        id: format!("catch-up-{}", g.name),
        kind: "catch-up",
        group: g.name.clone(),
        state: standby.state.clone(),
        step: format!("{} transactions behind, at {}", standby.lag_entries, standby.position),
        done: most - standby.lag_entries,
        total: most,
        rate_per_s: rate,
        eta_s: (rate > 0.0).then(|| standby.lag_entries as f64 / rate),
        abortable: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::protocol::{AuthorityStatus, StandbyStatus};

    #[test]
    fn who_is_behind_has_a_rate_and_an_end() {
        let standby = |lag| StandbyStatus { lag_entries: lag, state: "applying".into(), ..StandbyStatus::default() };
        let group = |lag| GroupStatus { name: "a".into(), standby: Some(standby(lag)), ..GroupStatus::default() };
        assert_eq!(catch_up(&group(BEHIND), &[BEHIND]), None);
        let job = catch_up(&group(1_000), &[1_000, 1_500, 2_000]).unwrap();
        assert_eq!((job.rate_per_s, job.eta_s, job.done, job.total), (500.0, Some(2.0), 1_000, 2_000));
        assert_eq!(catch_up(&group(1_000), &[1_000, 900]).unwrap().eta_s, None, "it falls behind");
        let authority = AuthorityStatus { cutover: Some("abc to new".into()), ..AuthorityStatus::default() };
        let job = cutover(&GroupStatus { authority: Some(authority), ..GroupStatus::default() }).unwrap();
        assert_eq!((job.id.as_str(), job.kind), ("abc", "cutover"));
    }
}
