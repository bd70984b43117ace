//! `pool: transaction`: the proxy's own login, leases and what pins them, bounds; and suites of `pool: session` once more.

mod again;
mod bounds;
mod leases;
mod login;
mod shadow;
