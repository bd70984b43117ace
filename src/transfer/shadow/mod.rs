//! Shadow reads: a sample of what clients read runs once more, on both stores at once, and the answers are compared.
//!
//! ```text
//! session ─► queue (bounded, drops and counts) ─► run on both ─► compare ─► report per statement
//!                                                     ▲             │ differ
//!                                                     └── again ◄───┘ after 250 ms, 1 s, 3 s: equal then is lag, else it is real
//! ```
//!
//! The client has its answer before any of this begins. The worker has a thread of its own, asks with the control accounts, at most
//! [`worker::AT_ONCE`] statements at a time, in sessions that may not write.

pub mod compare;
mod normal;
pub mod report;
mod run;
mod settings;
pub mod worker;

pub use report::{GroupReport, Report, StatementReport, StoreTimes, Verdicts};
pub use worker::{Handle, start};
