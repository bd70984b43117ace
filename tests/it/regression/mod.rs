//! The 27 rules that real servers taught (a file per section of the list), each a test that fails if it is broken.
//!
//! `drivers` holds what drivers' own test suites found.
//!
//! Where a rule is tested elsewhere, the header of its section's file says where.

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
mod transactions;
mod two_stores;
