//! What integration tests stand on: real MariaDB servers, a proxy per test, and clients of several languages.
//!
//! | want | use |
//! |---|---|
//! | the pair of stores that all tests share | [`stores()`]: `stores().legacy`, `stores().new` |
//! | a fresh database on both, dropped at the end | [`Stores::database`] |
//! | a server to kill, freeze, restart | [`PrivateServer`] |
//! | a proxy | [`Proxy::pair`] for the usual config, [`Proxy::start`] for any |
//! | which store answered | `SELECT @@server_id`: [`LEGACY_ID`] or [`NEW_ID`] |
//! | a client of another language | [`clients`] |
//! | a client of bare packets | [`raw::Raw`] |
//! | a browser | [`Browser`] |
//! | a network that fails | [`Cable`]: put its port in the config instead of the store's |
//! | a disk that is full | [`Disk`]: its environment for [`PrivateServer::start_with`] |
//! | a store with MySQL 8's password plugins | [`Gate`] |
//! | a store that is unlike MariaDB | [`seekdb::start`], [`mysql::start`] |
//! | a free port | [`ports::free`] |
//! | to wait for something | [`eventually`] |
//!
//! All of it panics when something is not as it should be, and leaves nothing behind, even after `kill -9`.
#![allow(dead_code, unused_imports, reason = "offered to tests; not every part is used at every time")]

pub mod browser;
pub mod cable;
pub mod clients;
pub mod database;
pub mod full_disk;
pub mod gate;
pub mod keeper;
pub mod mariadb;
pub mod mysql;
pub mod orders;
pub mod other;
pub mod place;
pub mod ports;
pub mod proxy;
pub mod raw;
pub mod seekdb;
pub mod spawn;
pub mod template;

use std::time::{Duration, Instant};

pub use browser::Browser;
pub use cable::Cable;
pub use database::Database;
pub use full_disk::Disk;
pub use gate::Gate;
pub use keeper::{Stores, stores};
pub use mariadb::{PrivateServer, Server};
pub use proxy::Proxy;

/// `@@server_id` of the shared legacy store.
pub const LEGACY_ID: u32 = 1;
/// `@@server_id` of the shared new store.
pub const NEW_ID: u32 = 2;

/// Whether this run is the long one (`make chaos`).
pub fn long() -> bool {
    std::env::var_os("SWITCHOVER_LONG").is_some()
}

/// Polls until `what` holds; panics with `name` if it does not within half a minute.
pub fn eventually(name: &str, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !what() {
        assert!(Instant::now() < deadline, "still not, after 30 s: {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
