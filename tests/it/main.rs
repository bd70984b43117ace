//! Every integration test, as one binary: linking the proxy's dependencies once instead of once per file saves more time
//! on two cores than anything else. nextest still runs each test in a process of its own.
//!
//! To add tests: a file beside this one and its `mod` line below, in the right place:
//!
//! - `mod NAME;` for what the proxy does, through real clients, on real servers;
//! - `regression/`: one file per incident, and per rule of the house that a real server taught;
//! - `load/`, `chaos/`: what loads or breaks things. Such a test runs alone, has a short form, and a long one where
//!   [`support::long`] is true (`make chaos`).
//!
//! What a test can use stands in [`support`]: a pair of stores, a fresh database on both, a proxy of its own, clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    missing_docs,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as it should be"
)]
#![allow(clippy::duplicate_mod, reason = "pool/again.rs runs the tests of pool: session in pool: transaction")]

#[path = "../support/mod.rs"]
mod support;

mod chaos;
mod clients;
mod compression;
mod console;
mod dashboard;
mod demo;
mod fidelity;
mod hostile;
mod insight;
mod load;
mod login;
mod login_cases;
mod logs;
mod operating;
mod ops;
mod pool;
mod readiness;
mod regression;
mod routing;
mod sha2;
mod shadow;
mod smoke;
mod standby;
mod state;
mod surfaces;
mod takeover;
mod tls;
mod transactions;
