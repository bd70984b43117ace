//! A restart without downtime: a new process takes the listening sockets over from the one that runs.
//!
//! The running proxy listens on `<control socket>.takeover` (permissions 0600). Whoever connects there gets the descriptors of
//! its listeners by SCM_RIGHTS, in the order of `listen:`; then the old process drains and gives its control socket up, while
//! the new one accepts on the same descriptors. No connection is refused in between: the kernel's queue is the same.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::net::UnixListener;

/// The most listeners that are handed over.
const MOST: usize = 32;

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
}

impl Drop for Offer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Offer {
    /// Listens; a file that a crash left is replaced (the control socket's lock says that nobody else serves).
    pub(super) fn bind(path: PathBuf) -> io::Result<Offer> {
        let _ = std::fs::remove_file(&path);
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Offer { listener: UnixListener::from_std(listener)?, path })
    }

    /// Waits for a successor and gives it the descriptors.
    pub(super) async fn given(&self, descriptors: &[OwnedFd]) -> io::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let own = rustix::process::geteuid().as_raw();
            if stream.peer_cred().is_ok_and(|c| c.uid() == own || c.uid() == 0) {
                return send(&stream.into_std()?, descriptors);
            }
        }
    }
}

fn send(stream: &StdUnixStream, descriptors: &[OwnedFd]) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let list: Vec<_> = descriptors.iter().map(AsFd::as_fd).take(MOST).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&list)) {
        return Err(io::Error::other("too many listeners"));
    }
    let count = u8::try_from(list.len()).unwrap_or(0);
    sendmsg(stream, &[IoSlice::new(&[count])], &mut ancillary, SendFlags::empty())?;
    Ok(())
}

/// Takes the listeners of the proxy that runs on this control socket; `None` if none runs.
///
/// # Errors
/// When one runs and does not hand over.
pub(super) fn take(control_socket: &Path) -> io::Result<Option<Vec<OwnedFd>>> {
    let Ok(stream) = StdUnixStream::connect(path(control_socket)) else { return Ok(None) };
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
    Ok(Some(descriptors))
}
