//! Switchover: a MySQL wire-protocol proxy with a hot-swappable connection flag per group of tables.
//!
//! The layers, lowest first; a file imports from its own layer and from those below it (`tests/tidy.rs` enforces it):
//!
//! | layer | modules |
//! |---|---|
//! | L0 | [`wire`] bytes ⇄ messages and the reply state machine · [`auth`] scrambles and recovered secrets · [`sql`] lexer, fingerprint, facts |
//! | L1 | [`config`] `routing.yaml`: raw → checked → diff, watch, edit · [`entry`] transactions and row changes, values as literals |
//! | L2 | [`routing`] facts + snapshot → decision · [`backend`] connect, probe, lease · [`net`] listener, TLS, packet stream · [`changes`] a store's change log: its binlog |
//! | L3 | [`session`] one client's commands from login to the last byte · [`standby`] the other store of a group, kept in step · [`transfer`] proof that both stores say the same: shadow reads |
//! | L4 | [`admin`] control socket and commands · [`server`] wiring and shutdown order · [`demo`] two stores and an application to watch |
//!
//! [`telemetry`] (counters, histograms, logs) may be imported by all and imports nothing.

pub mod admin;
pub mod auth;
pub mod backend;
pub mod changes;
pub mod config;
pub mod demo;
pub mod entry;
pub mod net;
pub mod routing;
pub mod server;
pub mod session;
pub mod sql;
pub mod standby;
pub mod telemetry;
pub mod transfer;
pub mod wire;
