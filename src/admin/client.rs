//! The CLI's end of the control socket: blocking, one request, one answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Failure, Reply, Request};

/// Longest wait for an answer: a little longer than the proxy's own deadline.
const PATIENCE: Duration = Duration::from_secs(65);
/// Bytes of an answer: thousands of sessions fit.
const MAX_REPLY: u64 = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No proxy has this socket.
    #[error("no proxy serves this configuration (nothing answers on {})\n  help: switchover serve --config …", .0.display())]
    NotRunning(PathBuf),
    /// The socket is another user's.
    #[error("{} belongs to another user\n  help: run as the user that the proxy runs as, or as root", .0.display())]
    Denied(PathBuf),
    /// It said no.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// It went away, stalled, or is no switchover.
    #[error("the proxy on {} did not answer: {error}\n  help: switchover status", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// Sends one request to the proxy that listens on `socket`. Blocks for the answer, 65 s at most.
///
/// # Errors
/// See [`ClientError`]. After `Broken` the request may or may not have been done.
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, ClientError> {
    ask_for(socket, request, PATIENCE)
}

/// The same, with more patience.
///
/// # Errors
/// See [`ask`].
pub fn ask_for(socket: &Path, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
    let stream = UnixStream::connect(socket).map_err(|error| unreachable_because(socket, error))?;
    match converse(&stream, request, patience) {
        Ok(Reply::Failed(failure)) => Err(ClientError::Failed(failure)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(ClientError::Broken { path: socket.to_owned(), error }),
    }
}

fn unreachable_because(socket: &Path, error: io::Error) -> ClientError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        _ => ClientError::Broken { path: socket.to_owned(), error },
    }
}

fn converse(stream: &UnixStream, request: &Request, patience: Duration) -> io::Result<Reply> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    (&mut &*stream).write_all(&text)?;
    let mut line = Vec::new();
    BufReader::new(stream).take(MAX_REPLY).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
    }
    Ok(serde_json::from_slice(&line)?)
}
