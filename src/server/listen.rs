//! Listens on one descriptor per address, and hands each client to the least-loaded core (RULES.md 23).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::worker::{Arrival, Worker};
use crate::config::model::Address;

/// Pending connections that the system keeps.
const BACKLOG: i32 = 4096;

/// A bound address.
pub(super) enum Listener {
    Tcp(AsyncFd<std::net::TcpListener>),
    Unix { fd: AsyncFd<std::os::unix::net::UnixListener>, path: PathBuf },
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listener::Unix { path, .. } = self {
            let _ = std::fs::remove_file(path);
        }
    }
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
                    out.push(Listener::Tcp(AsyncFd::new(tcp(a).with_context(|| format!("listen: cannot bind {a}"))?)?));
                }
            }
            Address::Unix(path) => {
                let fd = unix(path).with_context(|| format!("listen: cannot bind {}", path.display()))?;
                out.push(Listener::Unix { fd: AsyncFd::new(fd)?, path: path.clone() });
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
pub(super) async fn accept(listeners: Vec<Listener>, workers: &[Worker], mut draining: watch::Receiver<bool>) {
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
            Listener::Tcp(fd) => next(fd, |l| l.accept().map(|(s, a)| Arrival::Tcp(s, a))).await,
            Listener::Unix { fd, .. } => next(fd, |l| l.accept().map(|(s, _)| Arrival::Unix(s))).await,
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

async fn next<L: std::os::fd::AsRawFd, T>(fd: &AsyncFd<L>, accept: impl Fn(&L) -> io::Result<T>) -> io::Result<T> {
    loop {
        let mut ready = fd.readable().await?;
        if let Ok(result) = ready.try_io(|fd| accept(fd.get_ref())) {
            return result;
        }
    }
}

fn hand_over(arrival: Arrival, workers: &[Worker]) {
    if let Some(least) = workers.iter().min_by_key(|w| w.load()) {
        least.take(arrival);
    }
}
