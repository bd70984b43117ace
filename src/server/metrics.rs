//! The proxy's figures for Prometheus: the `metrics` facade, and its exporter's text.
//!
//! Cores count by themselves, and stores and groups are looked at when somebody asks: a scrape costs what `switchover status` does.
//! Labels are names of the configuration, and kinds: what clients send makes no series.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use super::running::Proxy;
use crate::admin::protocol::{GroupStatus, Status, StoreStatus};
use crate::admin::shadow::ShadowRequest;
use crate::session::{Figures, Sort, StoreFigures};

/// The latencies of statements.
const LATENCY: &str = "switchover_query_seconds";
/// Latency classes that have a bucket: from 16 µs to 67 s.
const BUCKETS: std::ops::RangeInclusive<i32> = 4..=26;
/// For how long figures stay of what is not there any more: of a standby that has ended, an alert would go on. (All that is there is
/// set anew by each scrape, so that this is no more than what two scrapes at once may differ by.)
const GONE: Duration = Duration::from_secs(5);

/// What is exported, and what of the latencies was exported already.
pub(super) struct Exporter {
    handle: PrometheusHandle,
    given: Mutex<HashMap<(String, &'static str), Vec<u64>>>,
}

impl Exporter {
    /// Installs the recorder of this process; a second one in the same process has figures of its own, which nobody records.
    pub(super) fn install() -> Exporter {
        let bounds: Vec<f64> = BUCKETS.map(|n| f64::powi(2.0, n) / 1e6).collect();
        let builder =
            PrometheusBuilder::new().idle_timeout(MetricKindMask::COUNTER | MetricKindMask::GAUGE, Some(GONE));
        let builder = builder
            .set_buckets_for_metric(Matcher::Full(LATENCY.to_owned()), &bounds)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_ok() {
            describe();
        }
        Exporter { handle, given: Mutex::default() }
    }

    /// Everything at this moment, in Prometheus' text format.
    pub(super) fn render(&self, proxy: &Proxy) -> String {
        let figures = proxy.figures();
        let status = super::status::with(proxy, &figures);
        let limit = proxy.live.load().config().limits.max_connections;
        whole(&status, &figures, limit);
        for (store, sorts) in status.stores.iter().zip(&figures.sorts) {
            store_gauges(store);
            for (counts, sort) in sorts.iter().zip(Sort::ALL) {
                self.answered(&store.name, sort.word(), counts);
            }
        }
        status.groups.iter().for_each(|g| group(g, &status.stores));
        shadows(proxy);
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn answered(&self, store: &str, kind: &'static str, counts: &StoreFigures) {
        let name = || store.to_owned();
        counter!("switchover_queries_total", "store" => name(), "kind" => kind).absolute(counts.queries);
        counter!("switchover_query_errors_total", "store" => name(), "kind" => kind).absolute(counts.errors);
        let histogram = histogram!(LATENCY, "store" => name(), "kind" => kind);
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let given = given.entry((name(), kind)).or_default();
        given.resize(counts.classes.len().max(given.len()), 0);
        let mut middle = 0.75e-6;
        for (given, now) in given.iter_mut().zip(&counts.classes) {
            // (fewer than before: a store of the same name in the place of another)
            let new = now.checked_sub(*given).unwrap_or(*now);
            histogram.record_many(middle, usize::try_from(new).unwrap_or(usize::MAX));
            *given = *now;
            middle *= 2.0;
        }
    }
}

fn store_gauges(store: &StoreStatus) {
    let name = || store.name.clone();
    counter!("switchover_store_connect_errors_total", "store" => name()).absolute(store.connect_errors);
    gauge!("switchover_store_up", "store" => name()).set(yes(store.state != "down"));
    gauge!("switchover_store_connections", "store" => name(), "state" => "leased").set(number(store.leases));
    gauge!("switchover_store_connections", "store" => name(), "state" => "idle").set(number(store.idle));
}

fn yes(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[expect(clippy::cast_precision_loss, reason = "gauges of connections, transactions and epochs are far below 2^53")]
fn number(n: u64) -> f64 {
    n as f64
}

fn whole(status: &Status, figures: &Figures, limit: u32) {
    gauge!("switchover_up").set(yes(status.state == "serving"));
    gauge!("switchover_build_info", "version" => status.version.clone()).set(1.0);
    gauge!("switchover_config_epoch").set(number(status.epoch));
    // (there from the start: a counter that appears with its first count has no rate)
    counter!("switchover_config_rejected_total").increment(0);
    gauge!("switchover_config_in_force").set(yes(status.config_error.is_none()));
    gauge!("switchover_sessions").set(number(status.sessions.open));
    gauge!("switchover_sessions_in_transaction").set(number(status.sessions.in_transaction));
    gauge!("switchover_sessions_limit").set(f64::from(limit));
    counter!("switchover_logins_total").absolute(figures.logins);
    counter!("switchover_login_failures_total").absolute(figures.login_failures);
    counter!("switchover_refused_statements_total").absolute(figures.refused);
    counter!("switchover_plan_cache_hits_total").absolute(figures.plan_hits);
    counter!("switchover_plan_cache_misses_total").absolute(figures.plan_misses);
    counter!("switchover_flips_total").absolute(status.totals.flips);
}

fn group(g: &GroupStatus, stores: &[StoreStatus]) {
    let name = || g.name.clone();
    for store in stores {
        let serves = yes(store.name == g.connection);
        gauge!("switchover_group_connection", "group" => name(), "store" => store.name.clone()).set(serves);
    }
    gauge!("switchover_group_paused", "group" => name()).set(yes(g.paused));
    gauge!("switchover_group_waiting_statements", "group" => name()).set(number(g.waiting));
    if let Some(standby) = &g.standby {
        gauge!("switchover_standby_lag_entries", "group" => name()).set(number(standby.lag_entries));
        gauge!("switchover_standby_lag_seconds", "group" => name()).set(number(standby.lag_seconds));
        gauge!("switchover_standby_stopped", "group" => name()).set(yes(standby.state == "stopped"));
        counter!("switchover_standby_transactions_total", "group" => name()).absolute(standby.transactions);
        counter!("switchover_standby_rows_total", "group" => name()).absolute(standby.rows);
        counter!("switchover_standby_repeats_total", "group" => name()).absolute(standby.repeats);
        counter!("switchover_standby_reconnects_total", "group" => name()).absolute(standby.reconnects);
    }
    let Some(authority) = &g.authority else { return };
    gauge!("switchover_group_held", "group" => name()).set(yes(authority.held));
    counter!("switchover_group_held_statements_total", "group" => name()).absolute(authority.waits);
    // (a counter of the facade is whole: seconds with a fraction are a gauge, which Prometheus takes a rate of as well)
    gauge!("switchover_group_held_seconds_total", "group" => name()).set(number(authority.waited_us) / 1e6);
    gauge!("switchover_group_held_longest_seconds", "group" => name()).set(number(authority.longest_wait_us) / 1e6);
    counter!("switchover_seal_refusals_total", "group" => name()).absolute(authority.seals);
    let degraded = matches!(authority.acks.as_str(), "degraded" | "refused");
    gauge!("switchover_acks_degraded", "group" => name()).set(yes(degraded));
    counter!("switchover_acknowledged_alone_total", "group" => name()).absolute(authority.acknowledged_alone);
    gauge!("switchover_authority_settled", "group" => name()).set(yes(authority.settled));
    gauge!("switchover_authority_epoch", "group" => name()).set(number(authority.epoch));
}

fn shadows(proxy: &Proxy) {
    let asked = ShadowRequest { group: None, limit: 1 };
    let Ok(report) = proxy.shadowing.report(proxy, &asked) else { return };
    for found in &report.groups {
        let name = || found.group.clone();
        for (verdict, count) in found.verdicts.words() {
            counter!("switchover_shadow_reads_total", "group" => name(), "verdict" => verdict).absolute(count);
        }
        counter!("switchover_shadow_dropped_total", "group" => name()).absolute(found.dropped);
    }
}

/// What each of them means.
fn describe() {
    describe_gauge!("switchover_up", "1 while the proxy serves, 0 while it drains");
    describe_gauge!("switchover_build_info", "the version, as a label");
    describe_gauge!("switchover_config_epoch", "grows with each change of the configuration in force");
    describe_counter!("switchover_config_rejected_total", "times that a changed configuration file was refused");
    describe_gauge!("switchover_config_in_force", "0 while the file is refused and an older one is in force");
    describe_gauge!("switchover_sessions", "clients that are logged in");
    describe_gauge!("switchover_sessions_in_transaction", "of them in a transaction");
    describe_gauge!("switchover_sessions_limit", "limits.max_connections");
    describe_counter!("switchover_logins_total", "logins that succeeded");
    describe_counter!("switchover_login_failures_total", "logins that failed");
    describe_counter!("switchover_refused_statements_total", "statements that the proxy refused");
    describe_counter!("switchover_plan_cache_hits_total", "statements whose plan was known");
    describe_counter!("switchover_plan_cache_misses_total", "statements that were read for the first time");
    describe_counter!("switchover_flips_total", "flags that moved");
    describe_gauge!("switchover_group_connection", "1 for the store that serves the group");
    describe_gauge!("switchover_group_paused", "1 while an operator makes writes to the group wait");
    describe_gauge!("switchover_group_waiting_statements", "statements that wait at the group's gate now");
    describe_gauge!("switchover_group_held", "1 while writes to the group wait");
    describe_counter!("switchover_group_held_statements_total", "statements that have waited at the group's gate");
    describe_gauge!("switchover_group_held_seconds_total", "how long they have waited in all");
    describe_gauge!(
        "switchover_group_held_longest_seconds",
        "the longest of these waits that ended in the last minute"
    );
    describe_counter!("switchover_seal_refusals_total", "statements of this proxy that a sealed store refused");
    describe_counter!("switchover_shadow_reads_total", "shadow reads that were compared, by how that ended");
    describe_counter!("switchover_shadow_dropped_total", "shadow reads that found the queue full");
    describe_counter!("switchover_queries_total", "statements that a store answered");
    describe_counter!("switchover_query_errors_total", "of them with an error");
    describe_histogram!(LATENCY, "from a statement's last byte to its answer's last byte");
    describe_gauge!("switchover_store_up", "0 while the store does not answer");
    describe_gauge!("switchover_store_connections", "backend connections, leased to sessions or idle");
    describe_counter!("switchover_store_connect_errors_total", "connections to the store that failed");
    describe_gauge!("switchover_standby_lag_entries", "transactions that the standby has not applied");
    describe_gauge!("switchover_standby_lag_seconds", "how far the standby is behind");
    describe_gauge!("switchover_standby_stopped", "1 while the standby is stopped by a transaction");
    describe_counter!("switchover_standby_transactions_total", "transactions that this proxy has applied");
    describe_counter!("switchover_standby_rows_total", "rows that this proxy has applied");
    describe_counter!("switchover_standby_repeats_total", "rounds of the standby that were done again");
    describe_counter!("switchover_standby_reconnects_total", "times that the standby has connected again");
    describe_gauge!("switchover_acks_degraded", "1 while writes are acknowledged without the standby, or refused");
    describe_counter!("switchover_acknowledged_alone_total", "writes acknowledged by the authority alone");
    describe_gauge!("switchover_authority_settled", "0 while the rows of both stores disagree on the authority");
    describe_gauge!("switchover_authority_epoch", "grows with each change of the group's authority");
}
