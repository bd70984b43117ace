//! The rules that real servers taught (a file per section of the list), each a test that fails if it is broken.
//!
//! `drivers` holds what drivers' own test suites found. `docs/rules.md` says which test proves which rule, wherever it stands.

mod cached_columns;
mod drivers;
mod introspection;
mod lexing;
mod login;
mod operating;
mod prepared;
mod retries;
mod session_state;
mod session_tracking;
mod standby;
mod transactions;
mod two_stores;
