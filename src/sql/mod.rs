//! What a statement is and which tables it touches: bytes in, [`Facts`] out. No I/O, no clock, no config (layer L0).
//!
//! `lex` → `fingerprint` → `plan cache` (a hit ends here) → `classify` (sqlparser, else the lexical scan) → [`Facts`].

pub mod classify;
pub mod dialect;
pub mod facts;
pub mod fingerprint;
pub mod lex;
pub mod plan_cache;
pub mod scan;
pub mod split;
pub(crate) mod word;

pub use classify::{Analysis, analyze, classify};
pub use dialect::{CharsetClass, Dialect, Engine};
pub use facts::{Access, Facts, Flags, Kind, Span, TableRef};
pub use fingerprint::{Fingerprint, fingerprint};
pub use plan_cache::PlanCache;
