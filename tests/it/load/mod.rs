//! Tests that load the machine: each runs alone; short in CI, long with `make chaos`.

mod flips;
