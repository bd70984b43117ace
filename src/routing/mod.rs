//! Facts + snapshot → decision (layer L2). Pure: no I/O and no clock.

pub mod decide;
pub mod explain;
pub mod patterns;
pub mod route;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;

pub use decide::{SessionView, TempTables, decide};
pub use explain::{Explanation, explain};
pub use route::{Decision, Reason, Refusal};
pub use snapshot::{Location, Snapshot};
