//! The `switchover` binary: everything is in the library.

use std::io::Write;
use std::process::ExitCode;

use switchover::admin::cli::{self, Next};
use switchover::admin::explain;

fn main() -> ExitCode {
    let end = match cli::run(std::env::args_os(), Some(&explain::offline)) {
        Next::Exit(code) => return code,
        Next::Serve(config, options) => switchover::server::run(&config, options.takeover).map(|()| ExitCode::SUCCESS),
        Next::Demo(options) => {
            let options = switchover::demo::Options {
                seconds: options.seconds,
                flip_every: options.flip_every,
                chaos: options.chaos,
            };
            switchover::demo::run(&options)
        }
    };
    end.unwrap_or_else(|error| {
        // its reader may have left
        let _ = writeln!(std::io::stderr(), "switchover: {error:#}");
        ExitCode::FAILURE
    })
}
