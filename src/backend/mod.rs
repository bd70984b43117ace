//! Connections to stores: dialling, login, probes, and the state of each store (layer L2).

pub mod connection;
pub mod control;
pub mod dial;
pub mod fleet;
pub mod login;
pub mod pool;
pub mod slots;

pub use connection::Backend;
pub use fleet::{Fleet, StoreHandle};
