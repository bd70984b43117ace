//! The `switchover` binary: everything is in the library.

use std::process::ExitCode;

use switchover::admin::cli::{self, Next};

fn main() -> ExitCode {
    match cli::run(std::env::args_os(), None) {
        Next::Exit(code) => code,
        Next::Serve(..) | Next::Demo(..) => ExitCode::FAILURE,
    }
}
