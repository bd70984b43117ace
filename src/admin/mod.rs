//! Operators' surfaces (layer L4): the control socket that a running proxy answers on, and the commands that use it.
//!
//! [`cli`] parses a command line and runs it: [`flag`], [`show`] (status, sessions, reload, drain) ask the proxy through
//! [`client`], [`check`] asks the file and the stores; each ends with an [`outcome`]. [`control`] is the proxy's end, generic over
//! what runs ([`control::Running`]); [`protocol`] is what both say.

pub mod action;
pub mod check;
pub mod cli;
pub mod client;
pub mod console;
pub mod control;
pub mod digest;
pub mod events;
pub mod explain;
pub mod flag;
pub mod http;
pub mod left_behind;
pub mod live;
pub mod log;
pub mod login;
pub mod outcome;
pub mod protocol;
pub mod readiness;
pub mod shadow;
pub mod show;
pub mod standby;
pub mod steer;
pub mod table;
#[cfg(test)]
mod testing;
