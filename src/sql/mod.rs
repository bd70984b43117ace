//! What a statement is and which tables it touches: bytes in, [`Facts`] out. No I/O, no clock, no config (layer L0).
//!
//! `lex` → `fingerprint` → `plan cache` (a hit ends here) → `classify` (the table scanner) → [`Facts`].
//!
//! The design asked for sqlparser on a miss and a lexical scan behind it. The scanner, which had to be right alone for the quarter of
//! MySQL's statements that sqlparser 0.63 refuses, came out as exact as sqlparser for those that it parses (`tests/classify.rs` holds
//! both to one corpus) and several times faster (`cargo bench --bench sql`), so it is the only reader, and one reading cannot
//! disagree with itself. sqlparser is the second opinion, of the tests and of `switchover explain` ([`second`]).

pub mod askable;
pub mod bind;
pub mod classify;
pub mod dialect;
pub mod dynamic;
pub mod facts;
pub mod fingerprint;
pub mod lex;
pub mod plan_cache;
pub mod repeats;
pub mod scan;
pub mod second;
pub mod split;
pub mod substitute;
mod volatile;
pub(crate) mod word;
pub mod writes;

pub use classify::{Analysis, analyze, classify};
pub use dialect::{CharsetClass, Dialect, Engine};
pub use facts::{Access, Facts, Flags, Kind, Span, TableRef};
pub use fingerprint::{Fingerprint, fingerprint};
pub use plan_cache::PlanCache;
