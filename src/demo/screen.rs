//! What the demo prints. Its reader may leave (`| head`, a closed terminal): then the demo ends, as by a signal.

use std::fmt::Display;
use std::io::Write;

/// Nobody reads what is shown any more.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

/// Prints to standard output, as it stands.
pub(super) fn put(text: impl Display) -> Result<(), Closed> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(|_| Closed)
}

/// Prints a line.
pub(super) fn say(line: impl Display) -> Result<(), Closed> {
    put(format_args!("{line}\n"))
}

/// Prints a line to standard error, if anybody reads that.
pub(super) fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "switchover demo: {line}");
}
