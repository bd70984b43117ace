//! What happens now: one sample a second, for charts and for whoever watches.

use serde::{Deserialize, Serialize};

use super::protocol::Status;

/// A second of the proxy's life.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Of the snapshot in force.
    pub epoch: u64,
    /// `serving` or `draining`.
    pub state: String,
    /// Clients.
    pub sessions: SessionSample,
    /// In the order of the file.
    pub stores: Vec<StoreSample>,
    /// In the order of the file.
    pub groups: Vec<GroupSample>,
}

/// Clients at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionSample {
    /// Logged in.
    pub open: u64,
    /// In a transaction.
    pub in_transaction: u64,
}

/// One store, over the last second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoreSample {
    /// Its name.
    pub name: String,
    /// `up`, `down`, `unknown`.
    pub state: String,
    /// Why it is not up.
    pub reason: Option<String>,
    /// Statements a second.
    pub queries_per_s: f64,
    /// Errors a second.
    pub errors_per_s: f64,
    /// Half of the statements took less, µs; 0 where there were none.
    pub p50_us: f64,
    /// 95 of a hundred.
    pub p95_us: f64,
    /// 99 of a hundred.
    pub p99_us: f64,
    /// Backend connections that sessions hold.
    pub leases: u64,
    /// Backend connections that wait for a session.
    pub idle: u64,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSample {
    /// Its name.
    pub name: String,
    /// THE FLAG.
    pub connection: String,
    /// `off`, `live` …
    pub stage: String,
    /// The store that follows.
    pub standby: Option<String>,
    /// `applying`, `stopped` …
    pub standby_state: Option<String>,
    /// Transactions behind.
    pub lag_entries: u64,
    /// Seconds behind.
    pub lag_seconds: u64,
    /// Whether writes wait.
    pub held: bool,
    /// Whether an operator made them.
    pub paused: bool,
    /// Statements that wait now.
    pub waiting: u64,
    /// Acknowledgements: `authority`, `standby`, `degraded`, `refused`.
    pub acks: Option<String>,
    /// A cutover that is under way.
    pub cutover: Option<String>,
}

/// What of a store is counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreCounts {
    /// Statements.
    pub queries: u64,
    /// Of them with an error.
    pub errors: u64,
    /// Statements by latency: class n took less than 2^n µs, and not less than half of that.
    pub classes: Vec<u64>,
}

/// The sample between two counts, `seconds` apart.
#[must_use]
pub fn sample(status: &Status, at_ms: u64, before: &[StoreCounts], now: &[StoreCounts], seconds: f64) -> Sample {
    let none = StoreCounts::default();
    let stores = status.stores.iter().enumerate().map(|(n, s)| {
        let (before, now) = (before.get(n).unwrap_or(&none), now.get(n).unwrap_or(&none));
        let classes: Vec<u64> = now
            .classes
            .iter()
            .enumerate()
            .map(|(class, count)| count.saturating_sub(before.classes.get(class).copied().unwrap_or_default()))
            .collect();
        StoreSample {
            name: s.name.clone(),
            state: s.state.clone(),
            reason: s.reason.clone(),
            queries_per_s: rate(before.queries, now.queries, seconds),
            errors_per_s: rate(before.errors, now.errors, seconds),
            p50_us: percentile(&classes, 0.50),
            p95_us: percentile(&classes, 0.95),
            p99_us: percentile(&classes, 0.99),
            leases: s.leases,
            idle: s.idle,
        }
    });
    let groups = status.groups.iter().map(|g| {
        let (standby, authority) = (g.standby.as_ref(), g.authority.as_ref());
        GroupSample {
            name: g.name.clone(),
            connection: g.connection.clone(),
            stage: g.stage.clone(),
            standby: standby.map(|s| s.store.clone()),
            standby_state: standby.map(|s| s.state.clone()),
            lag_entries: standby.map_or(0, |s| s.lag_entries),
            lag_seconds: standby.map_or(0, |s| s.lag_seconds),
            held: authority.is_some_and(|a| a.held),
            paused: g.paused,
            waiting: g.waiting,
            acks: authority.map(|a| a.acks.clone()),
            cutover: authority.and_then(|a| a.cutover.clone()),
        }
    });
    Sample {
        at_ms,
        epoch: status.epoch,
        state: status.state.clone(),
        sessions: SessionSample { open: status.sessions.open, in_transaction: status.sessions.in_transaction },
        stores: stores.collect(),
        groups: groups.collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "statements of a second are far below 2^53")]
fn rate(before: u64, now: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds.max(1e-3)
}

/// The time below which a share of the statements lies, µs, spread evenly within its class; 0 where there are none.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "statements of a second are far below 2^53")]
pub fn percentile(classes: &[u64], share: f64) -> f64 {
    let total: u64 = classes.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let wanted = share * total as f64;
    let (mut below, mut upper) = (0.0, 1.0);
    for count in classes {
        let count = *count as f64;
        if count > 0.0 && below + count >= wanted {
            let lower = if upper > 1.0 { upper / 2.0 } else { 0.0 };
            return lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0);
        }
        below += count;
        upper *= 2.0;
    }
    upper / 2.0
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{GroupStatus, StoreStatus};
    use super::*;

    #[test]
    fn percentiles_lie_in_their_class() {
        assert_eq!(percentile(&[], 0.5), 0.0);
        assert_eq!(percentile(&[0, 0, 0], 0.5), 0.0);
        // ten of 4 to 8 µs
        assert_eq!(percentile(&[0, 0, 0, 10], 0.5), 6.0);
        assert_eq!(percentile(&[5, 0, 0, 5], 0.99), 4.0 + 4.0 * 0.98);
        assert!(percentile(&[4], 0.5) <= 1.0);
        assert_eq!(percentile(&[0, 1], 1.0), 2.0);
    }

    #[test]
    fn a_sample_is_a_difference() {
        let status = Status {
            stores: vec![StoreStatus { name: "new".into(), state: "up".into(), ..StoreStatus::default() }],
            groups: vec![GroupStatus { name: "a".into(), paused: true, waiting: 2, ..GroupStatus::default() }],
            ..Status::default()
        };
        let before = [StoreCounts { queries: 10, errors: 1, classes: vec![0, 0, 10] }];
        let now = [StoreCounts { queries: 30, errors: 1, classes: vec![0, 0, 10, 20] }];
        let found = sample(&status, 7, &before, &now, 2.0);
        assert_eq!((found.stores[0].queries_per_s, found.stores[0].errors_per_s), (10.0, 0.0));
        assert_eq!(found.stores[0].p50_us, 6.0);
        assert!(found.groups[0].paused && found.groups[0].standby.is_none());
        assert_eq!(found.groups[0].waiting, 2);
    }
}
