//! The `switchover` binary: everything is in the library.

fn main() {}
