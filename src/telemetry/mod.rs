//! Logs and metrics; imports nothing of the crate and may be imported by all of it.

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error; `RUST_LOG` wins over `level`. A second call does nothing.
pub fn init(level: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}

/// Publishes sums that the cores keep themselves to the `metrics` facade.
pub fn publish(logins: u64, login_failures: u64, refused: u64, plan_hits: u64, plan_misses: u64, sessions: u64) {
    metrics::counter!("switchover_logins_total").absolute(logins);
    metrics::counter!("switchover_login_failures_total").absolute(login_failures);
    metrics::counter!("switchover_refused_statements_total").absolute(refused);
    metrics::counter!("switchover_plan_cache_hits_total").absolute(plan_hits);
    metrics::counter!("switchover_plan_cache_misses_total").absolute(plan_misses);
    #[expect(clippy::cast_precision_loss, reason = "a gauge of sessions is far below 2^53")]
    metrics::gauge!("switchover_sessions").set(sessions as f64);
}
