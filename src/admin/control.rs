//! The proxy's end of the control socket: who may speak (its own user, by permissions 0600), one proxy per socket (a lock beside
//! it), and bounds on what a peer can cost (connections, line length, time).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::action::{Actions, Actor, Surface};
use super::digest::{DigestRequest, Digests};
use super::events::Events;
use super::live::Sample;
use super::log::{LogLevel, LogRequest};
use super::protocol::{
    AbortRequest, Cause, ConfigChange, ConfigEntry, DrainRequest, ExplainRequest, Explained, Failure, FailureKind,
    FlagRequest, Flagged, GroupStatus, KillRequest, MAX_LINE, PauseRequest, Reloaded, Reply, Request, SessionInfo,
    StandbyRequest, StandbyStatus, Status,
};
use super::readiness::{Readiness, ReadinessRequest};
use super::shadow::ShadowRequest;
use crate::config::model::{Admin, Role};
use crate::net::tls::Acceptor;
use crate::transfer::shadow::Report;

/// Connections served at once; more wait in the listener's queue.
const CONNECTIONS: usize = 16;
/// For the next line of a peer, and for a peer to take an answer.
const IDLE: Duration = Duration::from_secs(30);

/// A future that a trait object returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a running proxy can tell and do.
pub trait Running: Send + Sync + 'static {
    /// The configuration file, as it was given to `serve`.
    fn config_path(&self) -> &Path;

    /// Everything at this moment.
    fn status(&self) -> Status;

    /// Every session at this moment.
    fn sessions(&self) -> Vec<SessionInfo>;

    /// Reads the file again; done when new statements follow it. The same content again is no new epoch.
    fn reload(&self, cause: Cause) -> BoxFuture<'_, Result<Reloaded, Failure>>;

    /// The file is about to change for this cause: a watcher that sees the change first logs it with this cause.
    fn announce(&self, cause: &Cause);

    /// What the operator should know before the flag of `group` moves to `store`; says so too where either is not known.
    ///
    /// # Errors
    /// [`FailureKind::Config`] where the flip would tear apart what the stores tie together.
    fn may_flip<'a>(&'a self, group: &'a str, store: &'a str) -> BoxFuture<'a, Result<Vec<String>, Failure>>;

    /// Changes the authority of a group with a standby; done when new statements follow.
    ///
    /// # Errors
    /// Where a precondition does not hold, or a step failed: nothing has changed then, or the message says what is open.
    fn cut_over(&self, request: FlagRequest) -> BoxFuture<'_, Result<Flagged, Failure>> {
        let text = format!("no group {} with a standby", request.group);
        Box::pin(async move { Err(Failure::new(FailureKind::Request, text)) })
    }

    /// Begins to drain; done when that has begun.
    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<(), Failure>>;

    /// A stopped standby goes on.
    ///
    /// # Errors
    /// Where the group has none, or it is not stopped by this.
    fn standby(&self, request: &StandbyRequest) -> Result<StandbyStatus, Failure> {
        Err(Failure::new(FailureKind::Request, format!("no group {} with a standby", request.group)))
    }

    /// The statements that were seen.
    fn digests(&self, request: &DigestRequest) -> Digests;

    /// What would become of the statements that were seen, if a flag moved.
    ///
    /// # Errors
    /// Where the request names no group, or it is not clear which store.
    fn readiness(&self, request: ReadinessRequest) -> BoxFuture<'_, Result<Readiness, Failure>> {
        let text = format!("no group {}", request.group);
        Box::pin(async move { Err(Failure::new(FailureKind::Request, text)) })
    }

    /// What is logged, changed where the request says so.
    ///
    /// # Errors
    /// Where it names no level, and no filter.
    fn log(&self, request: &LogRequest) -> Result<LogLevel, Failure>;

    /// What shadow reads have found.
    ///
    /// # Errors
    /// Where there is no such group.
    fn shadow(&self, request: &ShadowRequest) -> Result<Report, Failure> {
        let none = |group: &String| Failure::new(FailureKind::Request, format!("no group {group}"));
        request.group.as_ref().map_or_else(|| Ok(Report::default()), |group| Err(none(group)))
    }

    /// What was changed, and what happened.
    fn events(&self) -> &Events;

    /// The samples of the last minutes, the oldest first.
    fn samples(&self) -> Vec<Arc<Sample>>;

    /// The newest sample, and those that come.
    fn follow_samples(&self) -> watch::Receiver<Arc<Sample>>;

    /// The figures in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Who may use the operators' surfaces, and where they are.
    fn admin(&self) -> Admin;

    /// TLS towards clients, theirs and ours; none where it is off.
    fn acceptor(&self) -> Option<Acceptor> {
        None
    }

    /// The configuration in force, a key a line; secrets are never in it.
    fn config(&self) -> Vec<ConfigEntry>;

    /// What the file says otherwise than what is in force.
    ///
    /// # Errors
    /// [`FailureKind::Config`] where the file does not check.
    fn config_diff(&self) -> Result<Vec<ConfigChange>, Failure>;

    /// Makes what would write to a group wait, or lets it go on.
    ///
    /// # Errors
    /// Where there is no such group.
    fn pause<'a>(&'a self, request: &'a PauseRequest) -> BoxFuture<'a, Result<GroupStatus, Failure>>;

    /// Ends a session, or its statement.
    ///
    /// # Errors
    /// Where there is no such session.
    fn kill(&self, request: &KillRequest) -> Result<(), Failure>;

    /// Gives up a cutover that this proxy conducts.
    ///
    /// # Errors
    /// Where there is none.
    fn abort(&self, request: &AbortRequest) -> Result<(), Failure> {
        Err(Failure::new(FailureKind::Request, format!("no cutover {} is under way here", request.job)))
    }

    /// Where a statement would go.
    ///
    /// # Errors
    /// Where the request names nothing that exists.
    fn explain(&self, request: &ExplainRequest) -> Result<Explained, Failure>;
}

/// Why a proxy has no control socket. Starting without one is no option: a second proxy could serve the same file.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another proxy has it.
    #[error(
        "another switchover{} serves this configuration: its control socket is {}\n  help: stop that one (`switchover status` \
         shows it), or give this one its own file or `control_socket:`",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(), path.display()
    )]
    Taken {
        /// The socket.
        path: PathBuf,
        /// Its process, where it says so.
        pid: Option<u32>,
    },
    /// The file system refused.
    #[error(
        "the control socket {} cannot be made: {error}\n  help: set `control_socket:` to a path in a folder that this user \
         may write", path.display()
    )]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// A bound control socket; removed when dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: std::os::unix::net::UnixListener,
    path: PathBuf,
    identity: (u64, u64),
    _lock: File,
}

impl ControlSocket {
    /// Takes the lock `PATH.lock`, and listens on `path` with permissions 0600. A socket that a crash left is replaced.
    ///
    /// # Errors
    /// Where another process has the lock, or the file system refuses.
    pub fn bind(path: &Path) -> Result<ControlSocket, ControlError> {
        let failed = |error: io::Error| ControlError::Io { path: path.to_owned(), error };
        let lock = lock(path)?;
        // The socket gets its name only when its permissions are right: nobody connects in between.
        let draft = sibling(path, ".new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&draft).map_err(failed)?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let metadata = fs::metadata(&draft).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)?;
        Ok(ControlSocket { listener, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), _lock: lock })
    }

    /// [`ControlSocket::bind`], but waits up to `patience` for a proxy that is leaving (a restart without downtime).
    ///
    /// # Errors
    /// As [`ControlSocket::bind`].
    pub async fn bind_after(path: &Path, patience: Duration) -> Result<ControlSocket, ControlError> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            match ControlSocket::bind(path) {
                Err(ControlError::Taken { .. }) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until the future is dropped; runs on the tokio runtime that polls it. One connection's trouble is its own.
    ///
    /// # Errors
    /// Where the listener cannot be given to the runtime.
    pub async fn serve(self, actions: Actions) -> io::Result<()> {
        let listener = UnixListener::from_std(self.listener.try_clone()?)?;
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return Ok(()) };
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors: the next moment may have some.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let actions = actions.clone();
            connections.spawn(async move {
                // A peer that vanishes, stalls or talks nonsense ends its own connection only.
                let _ = converse(stream, actions).await;
                drop(seat);
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Holds `PATH.lock` for the life of the process; the file stays, only its lock counts. It says who has it.
fn lock(path: &Path) -> Result<File, ControlError> {
    let failed = |error: io::Error| ControlError::Io { path: path.to_owned(), error };
    let file = sibling(path, ".lock");
    let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(file).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = lock.read_to_string(&mut text);
            return Err(ControlError::Taken { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    lock.set_len(0)
        .and_then(|()| lock.rewind())
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(lock)
}

/// One peer: line in, line out, until it leaves.
async fn converse(stream: UnixStream, actions: Actions) -> io::Result<()> {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let length = timeout(IDLE, (&mut lines).take(limit).read_until(b'\n', &mut line)).await??;
        if length == 0 {
            return Ok(());
        }
        let whole = line.ends_with(b"\n");
        let reply = match serde_json::from_slice(&line) {
            Ok(mut request) if whole => {
                let actor = actor(uid, &mut request);
                actions.perform(&actor, request).await.unwrap_or_else(Reply::Failed)
            }
            _ if length >= MAX_LINE => {
                Reply::Failed(Failure::new(FailureKind::Request, format!("a line has at most {MAX_LINE} bytes")))
            }
            Ok(_) => return Ok(()),
            Err(error) => Reply::Failed(Failure::new(FailureKind::Request, format!("not a request: {error}"))),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        timeout(IDLE, write.write_all(&text)).await??;
        if !whole {
            return Ok(());
        }
    }
}

/// Whoever runs the command: what it calls itself is a courtesy, its uid is what the kernel says.
fn actor(uid: Option<u32>, request: &mut Request) -> Actor {
    let uid = uid.map_or("uid unknown".to_owned(), |uid| format!("uid {uid}"));
    let named = request.cause_mut().map(|cause| cause.by.trim()).filter(|by| !by.is_empty());
    // who may open the socket is the proxy's own user or root: they could edit its file as well
    Actor { name: named.unwrap_or(&uid).to_owned(), surface: Surface::Cli, from: uid, role: Role::Operator }
}

#[cfg(test)]
mod tests;
