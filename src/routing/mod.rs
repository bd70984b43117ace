//! Facts + snapshot → decision (layer L2). Pure: no I/O and no clock.

pub mod route;

pub use route::{Decision, Reason, Refusal};
