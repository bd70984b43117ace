//! Query insight: figures of every statement that was seen, by fingerprint and database.
//!
//! ```text
//! plan (fingerprint) ─► its digest ─► counted by the core alone ─► others read the counters, and add the cores up
//! ```
//!
//! A core keeps its digests in a [`Digests`] of its own. On the hot path the plan of a statement holds its [`Digest`] already: what is
//! counted is a dozen plain stores, without a lock, an allocation or a clock of its own. The lock of a table is taken for a
//! statement that is new to its plan, and by who reads.

mod digest;
mod histogram;
mod notice;
mod table;

pub(crate) use digest::{Described, Digest};
pub use digest::{Seen, Served};
pub use histogram::quantile;
pub(crate) use notice::Noted;
pub use table::{Digests, Everything};

/// How a statement came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// As text: COM_QUERY.
    Text,
    /// Prepared before: COM_STMT_EXECUTE, or EXECUTE.
    Prepared,
    /// Prepared before, with many rows of parameters: COM_STMT_BULK_EXECUTE.
    Bulk,
}
