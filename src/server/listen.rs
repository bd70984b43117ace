//! Listens on one descriptor per address, and hands each client to the least-loaded core (RULES.md 23).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use super::worker::{Arrival, Worker};
use crate::config::model::Address;

/// Pending connections that the system keeps.
const BACKLOG: i32 = 4096;

/// A bound address.
pub(super) enum Listener {
    Tcp(TcpListener),
    /// With the file, if it is this process's to remove.
    Unix {
        fd: UnixListener,
        path: Option<PathBuf>,
    },
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path: Some(path), .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    /// A second descriptor of the same socket, for a successor.
    pub(super) fn duplicate(&self) -> io::Result<OwnedFd> {
        match self {
            Listener::Tcp(l) => l.as_fd().try_clone_to_owned(),
            Listener::Unix { fd, .. } => fd.as_fd().try_clone_to_owned(),
        }
    }

    /// The file of a unix socket is the successor's now.
    pub(super) fn leave_file(&mut self) {
        if let Listener::Unix { path, .. } = self {
            *path = None;
        }
    }

    /// The file of a unix socket is this process's now.
    pub(super) fn own_file(&mut self, address: &Address) {
        if let (Listener::Unix { path, .. }, Address::Unix(file)) = (self, address) {
            *path = Some(file.clone());
        }
    }
}

/// The listeners of a predecessor, which served the same addresses in the same order. It goes on with them until this process
/// serves: files of unix sockets are not touched before [`Listener::own_file`].
pub(super) fn inherit(addresses: &[Address], descriptors: Vec<OwnedFd>) -> anyhow::Result<Vec<Listener>> {
    anyhow::ensure!(
        addresses.len() == descriptors.len(),
        "listen: has {} addresses now, and the running proxy serves {}: restart it without --takeover",
        addresses.len(),
        descriptors.len()
    );
    let mut out = Vec::new();
    for (address, fd) in addresses.iter().zip(descriptors) {
        out.push(match address {
            Address::Tcp(host, port) => {
                let listener = std::net::TcpListener::from(fd);
                let bound = listener.local_addr()?.port();
                anyhow::ensure!(bound == *port, "listen: {host}:{port} is new: restart without --takeover");
                listener.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
            Address::Unix(path) => {
                let listener = std::os::unix::net::UnixListener::from(fd);
                let bound = listener.local_addr()?.as_pathname().map(std::path::Path::to_owned);
                anyhow::ensure!(
                    bound.as_deref().is_some_and(|b| b.file_name() == path.file_name()),
                    "listen: {} is new: restart without --takeover",
                    path.display()
                );
                listener.set_nonblocking(true)?;
                Listener::Unix { fd: UnixListener::from_std(listener)?, path: None }
            }
        });
    }
    Ok(out)
}

/// Binds every address of the configuration.
pub(super) fn bind(addresses: &[Address]) -> anyhow::Result<Vec<Listener>> {
    let mut out = Vec::new();
    for address in addresses {
        match address {
            Address::Tcp(host, port) => {
                let resolved = (host.as_str(), *port)
                    .to_socket_addrs()
                    .with_context(|| format!("listen: cannot resolve {host}"))?;
                for a in resolved.take(1) {
                    out.push(Listener::Tcp(TcpListener::from_std(
                        tcp(a).with_context(|| format!("listen: cannot bind {a}"))?,
                    )?));
                }
            }
            Address::Unix(path) => {
                let fd = unix(path).with_context(|| format!("listen: cannot bind {}", path.display()))?;
                out.push(Listener::Unix { fd: UnixListener::from_std(fd)?, path: Some(path.clone()) });
            }
        }
    }
    Ok(out)
}

fn tcp(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // without SO_REUSEPORT: a second proxy on this address must fail, not share it
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn unix(path: &std::path::Path) -> io::Result<std::os::unix::net::UnixListener> {
    // a socket file that nobody answers on is left over
    if path.exists() && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    // as mysqld's own: everybody may connect, the login decides
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts on every listener until the process drains.
pub(super) async fn accept(listeners: &[Listener], workers: &[Worker], mut draining: watch::Receiver<bool>) {
    let all = async {
        let loops: Vec<_> = listeners.iter().map(|l| Box::pin(accept_on(l, workers))).collect();
        futures_all(loops).await;
    };
    tokio::select! {
        () = all => {}
        _ = draining.wait_for(|d| *d) => {}
    }
}

/// Polls all of them for ever.
async fn futures_all<F: Future<Output = ()> + Unpin>(mut list: Vec<F>) {
    std::future::poll_fn(|cx| {
        for f in &mut list {
            let _ = std::pin::Pin::new(f).poll(cx);
        }
        std::task::Poll::Pending
    })
    .await
}

async fn accept_on(listener: &Listener, workers: &[Worker]) {
    loop {
        let arrival = match listener {
            Listener::Tcp(fd) => match fd.accept().await {
                Ok((socket, address)) => socket.into_std().map(|s| Arrival::Tcp(s, address)),
                Err(e) => Err(e),
            },
            Listener::Unix { fd, .. } => match fd.accept().await {
                Ok((socket, _)) => socket.into_std().map(Arrival::Unix),
                Err(e) => Err(e),
            },
        };
        match arrival {
            Ok(arrival) => hand_over(arrival, workers),
            Err(e) => {
                // out of descriptors, or the peer is gone already: not to be tried again at once
                tracing::warn!(error = %e, "accept");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

fn hand_over(arrival: Arrival, workers: &[Worker]) {
    if let Some(least) = workers.iter().min_by_key(|w| w.load()) {
        least.take(arrival);
    }
}
