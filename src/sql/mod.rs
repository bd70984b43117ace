//! What a statement is and which tables it touches: bytes in, [`Facts`] out. No I/O, no clock, no config (layer L0).
//!
//! `lex` → `fingerprint` → `plan cache` (a hit ends here) → `classify` (sqlparser, else the lexical scan) → [`Facts`].

pub mod facts;

pub use facts::{Access, Facts, Flags, Kind, Span, TableRef};
