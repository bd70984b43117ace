//! Logs and metrics; imports nothing of the crate and may be imported by all of it.

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error; `RUST_LOG` wins over `level`. A second call does nothing.
pub fn init(level: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// Sums that the cores keep themselves, for the `metrics` facade.
#[derive(Debug, Clone, Default)]
pub struct Sums {
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Statements that the proxy refused.
    pub refused: u64,
    /// Plan-cache hits.
    pub plan_hits: u64,
    /// Plan-cache misses.
    pub plan_misses: u64,
    /// Sessions now.
    pub sessions: u64,
    /// By store: name, statements, errors, their time together in µs.
    pub stores: Vec<(String, u64, u64, u64)>,
}

/// Publishes the sums.
pub fn publish(sums: &Sums) {
    metrics::counter!("switchover_logins_total").absolute(sums.logins);
    metrics::counter!("switchover_login_failures_total").absolute(sums.login_failures);
    metrics::counter!("switchover_refused_statements_total").absolute(sums.refused);
    metrics::counter!("switchover_plan_cache_hits_total").absolute(sums.plan_hits);
    metrics::counter!("switchover_plan_cache_misses_total").absolute(sums.plan_misses);
    #[expect(clippy::cast_precision_loss, reason = "a gauge of sessions is far below 2^53")]
    metrics::gauge!("switchover_sessions").set(sums.sessions as f64);
    for (store, queries, errors, micros) in &sums.stores {
        metrics::counter!("switchover_queries_total", "store" => store.clone()).absolute(*queries);
        metrics::counter!("switchover_query_errors_total", "store" => store.clone()).absolute(*errors);
        metrics::counter!("switchover_query_microseconds_total", "store" => store.clone()).absolute(*micros);
    }
}
