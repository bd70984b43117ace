//! Tests that break things: each runs alone; a few rounds in CI, many with `make chaos`.

mod deaths;
