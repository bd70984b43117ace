//! Facts + snapshot → decision (layer L2). Pure: no I/O and no clock.

pub mod decide;
pub mod patterns;
pub mod route;
pub mod snapshot;

pub use decide::{SessionView, TempTables, decide};
pub use route::{Decision, Reason, Refusal};
pub use snapshot::{Location, Snapshot};
