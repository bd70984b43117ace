//! Logs; imports nothing of the crate and may be imported by all of it.

use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error; `RUST_LOG` wins over `level`. A second call does nothing.
pub fn init(level: &str, json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if json { builder.json().try_init() } else { builder.with_ansi(false).try_init() };
}
