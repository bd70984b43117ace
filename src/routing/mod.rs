//! Facts + snapshot → decision (layer L2): pure, no I/O and no clock; and the hold gate of groups with a standby.

pub mod acks;
pub mod decide;
pub mod explain;
pub mod gate;
pub mod moved;
pub mod patterns;
pub mod route;
pub mod shadow;
pub mod snapshot;
#[cfg(test)]
pub(crate) mod testing;

pub use decide::{SessionView, TempTables, decide};
pub use explain::{Explanation, explain};
pub use gate::{Gate, Gates};
pub use route::{Decision, Reason, Refusal};
pub use snapshot::{Location, Snapshot};
