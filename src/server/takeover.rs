//! A restart without downtime: a new process takes the listening sockets over from the one that runs.
//!
//! The running proxy listens on `<control socket>.takeover` (permissions 0600). A successor connects there, and:
//!
//! ```text
//! old ─ the listeners' descriptors (SCM_RIGHTS, in the order of `listen:`) ─► new
//! new: binds nothing, probes the stores, starts its cores                      (old accepts clients)
//! old ◄─ READY ─ new
//! old: gives up the control socket and this one                                (old accepts clients)
//! old ─ YOURS ─► new
//! new: takes the control socket, accepts clients                               (both accept)
//! old ◄─ SERVING ─ new
//! old: stops accepting, drains
//! ```
//!
//! A successor that fails or is killed before it said SERVING changes nothing: the old process takes its control socket back and
//! goes on. No connection is refused at any point: the kernel's queue is the same for both.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// The most listeners that are handed over.
const MOST: usize = 32;
/// The new process can serve: all that may fail has been done.
const READY: u8 = b'R';
/// The old process has given up what only one can have.
const YOURS: u8 = b'Y';
/// The new process accepts clients.
const SERVING: u8 = b'S';
/// How long the old process waits for a successor to become ready, which probes stores meanwhile.
const PREPARATION: Duration = Duration::from_secs(60);
/// How long the last step may take.
const STEP: Duration = Duration::from_secs(10);

/// Where a running proxy hands its listeners over.
pub(super) fn path(control_socket: &Path) -> PathBuf {
    let mut name = control_socket.as_os_str().to_owned();
    name.push(".takeover");
    PathBuf::from(name)
}

/// The socket on which a successor asks; removed when dropped.
pub(super) struct Offer {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Offer {
    fn drop(&mut self) {
        // a successor may have put its own there already
        if std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Offer {
    /// Listens; a file that a crash left is replaced (the control socket's lock says that nobody else serves).
    pub(super) fn bind(path: PathBuf) -> io::Result<Offer> {
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let metadata = std::fs::metadata(&path)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Offer { listener: UnixListener::from_std(listener)?, path, identity })
    }

    /// Waits for a successor, gives it the descriptors, and waits until it is ready.
    pub(super) async fn successor(&self, descriptors: &[OwnedFd]) -> io::Result<Successor> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let own = rustix::process::geteuid().as_raw();
            if stream.peer_cred().is_ok_and(|c| c.uid() == own || c.uid() == 0) {
                send(&stream, descriptors)?;
                let mut successor = Successor(stream);
                successor.hear(READY, PREPARATION).await?;
                return Ok(successor);
            }
        }
    }
}

/// The process that takes over, as the old one sees it.
pub(super) struct Successor(UnixStream);

impl Successor {
    async fn hear(&mut self, word: u8, limit: Duration) -> io::Result<()> {
        let heard = timeout(limit, self.0.read_u8()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if heard == word { Ok(()) } else { Err(io::Error::other("a successor that does not follow the protocol")) }
    }

    /// Says that the control socket is free, and waits until the successor serves.
    pub(super) async fn yield_to(&mut self) -> io::Result<()> {
        self.0.write_u8(YOURS).await?;
        self.hear(SERVING, STEP).await
    }
}

fn send(stream: &UnixStream, descriptors: &[OwnedFd]) -> io::Result<()> {
    let list: Vec<_> = descriptors.iter().map(AsFd::as_fd).take(MOST).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&list)) {
        return Err(io::Error::other("too many listeners"));
    }
    let count = u8::try_from(list.len()).unwrap_or(0);
    sendmsg(stream, &[IoSlice::new(&[count])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The process that is taken over from, as the new one sees it.
pub(super) struct Predecessor(StdUnixStream);

/// Asks the proxy that runs on this control socket for its listeners; `None` if none runs. It goes on until [`Predecessor::ready`].
///
/// # Errors
/// When one runs and does not hand over.
pub(super) fn ask(control_socket: &Path) -> io::Result<Option<(Predecessor, Vec<OwnedFd>)>> {
    let Ok(stream) = StdUnixStream::connect(path(control_socket)) else { return Ok(None) };
    stream.set_read_timeout(Some(STEP))?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|m| match m {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if got.bytes == 0 || descriptors.len() != usize::from(byte[0]) {
        return Err(io::Error::other("the running proxy did not hand its listeners over"));
    }
    Ok(Some((Predecessor(stream), descriptors)))
}

impl Predecessor {
    /// All that may fail has been done: the predecessor gives up its control socket. One that is gone has done so too.
    pub(super) fn ready(&mut self) {
        if self.0.write_all(&[READY]).is_ok() {
            let _ = self.0.read_exact(&mut [0]);
        }
    }

    /// Clients are accepted here: the predecessor drains.
    pub(super) fn serving(mut self) {
        let _ = self.0.write_all(&[SERVING]);
    }
}
