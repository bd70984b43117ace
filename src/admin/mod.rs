//! Operators' surfaces (layer L4): the control socket that a running proxy answers on, and the commands that use it.
//!
//! `cli` parses a command line and runs it: `flag`, `status`, `explain` … ask the proxy through [`client`]; [`control`] is the
//! proxy's end, generic over what runs ([`control::Running`]); [`protocol`] is what both say.

pub mod client;
pub mod control;
pub mod protocol;
