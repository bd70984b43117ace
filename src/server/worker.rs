//! One core: a thread with a runtime of its own, on which its sessions live from login to end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, watch};

use super::running::Proxy;
use crate::config::model::Io;
use crate::net::{Buffers, PacketStream, Peer, Ring, Socket, Stream};
use crate::session::{Core, CoreFigures, keep, serve};

/// A client that was accepted; its socket does not block already.
pub(super) enum Arrival {
    Tcp(std::net::TcpStream, SocketAddr),
    Unix(std::os::unix::net::UnixStream),
}

/// A core's handle.
pub(super) struct Worker {
    arrivals: Option<mpsc::UnboundedSender<Arrival>>,
    figures: Arc<CoreFigures>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(
        index: usize,
        proxy: &Arc<Proxy>,
        io: Io,
        draining: watch::Receiver<bool>,
    ) -> std::io::Result<Worker> {
        let (arrivals, receiver) = mpsc::unbounded_channel();
        let figures = proxy.core_figures(index);
        let proxy = Arc::clone(proxy);
        let mine = Arc::clone(&figures);
        let thread = std::thread::Builder::new().name(format!("core-{index}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .event_interval(61)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    let buffers = Rc::new(Buffers::with_ring(ring(io)));
                    let (live, registry) = (Arc::clone(&proxy.live), Arc::clone(&proxy.registry));
                    let core = Rc::new(Core::new(live, buffers, mine, registry, draining));
                    runtime.block_on(run(core, receiver));
                }
                Err(e) => tracing::error!(error = %e, "a core cannot start"),
            }
        })?;
        Ok(Worker { arrivals: Some(arrivals), figures, thread: Some(thread) })
    }

    /// Sessions on it now.
    pub(super) fn load(&self) -> u64 {
        self.figures.sessions.load(Ordering::Relaxed)
    }

    /// Hands it a client.
    pub(super) fn take(&self, arrival: Arrival) {
        self.figures.sessions.fetch_add(1, Ordering::Relaxed);
        if let Some(a) = &self.arrivals
            && a.send(arrival).is_err()
        {
            self.figures.sessions.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // its sessions end when the runtime is dropped, at the end of the thread
        self.arrivals = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often a core wakes for nothing: a timer that is set for later than that (every login sets one) then needs no system call.
const TICK: Duration = Duration::from_secs(1);

/// This thread's ring: it could be made a moment ago.
fn ring(io: Io) -> Option<Rc<Ring>> {
    if io == Io::Epoll {
        return None;
    }
    let ring =
        Ring::new().inspect_err(|e| tracing::warn!(error = %e, "io_uring fails on a core, which uses epoll")).ok()?;
    if io == Io::IoUring {
        ring.serve_all();
    }
    Some(ring)
}

/// How long clients have, after their sessions have ended, to read what is theirs.
const SETTLE: Duration = Duration::from_secs(5);

async fn run(core: Rc<Core>, mut arrivals: mpsc::UnboundedReceiver<Arrival>) {
    tokio::task::spawn_local(keep(Rc::clone(&core)));
    if let Some(ring) = core.buffers.ring().cloned() {
        tokio::task::spawn_local(async move {
            if let Err(e) = ring.drive().await {
                tracing::error!(error = %e, "a core cannot go on");
            }
        });
    }
    let ring = core.buffers.ring().cloned();
    tokio::task::spawn_local(async move {
        loop {
            tokio::time::sleep(TICK).await;
            if let Some(ring) = &ring {
                ring.tick();
            }
        }
    });
    while let Some(arrival) = arrivals.recv().await {
        let core = Rc::clone(&core);
        tokio::task::spawn_local(async move {
            let figures = Arc::clone(&core.figures);
            match adopt(arrival, &core.buffers) {
                Ok((socket, peer)) => {
                    let stream = PacketStream::new(Stream::Plain(socket), Rc::clone(&core.buffers));
                    serve(core, stream, peer).await;
                }
                Err(e) => tracing::debug!(error = %e, "a client that left at once"),
            }
            figures.sessions.fetch_sub(1, Ordering::Relaxed);
        });
    }
    // who was served last may still have to read it
    if let Some(ring) = core.buffers.ring() {
        ring.settle(SETTLE).await;
    }
}

fn adopt(arrival: Arrival, buffers: &Buffers) -> std::io::Result<(Socket, Peer)> {
    match arrival {
        Arrival::Tcp(socket, address) => {
            socket.set_nodelay(true)?;
            Ok((Socket::tcp(socket, buffers)?, Peer::Tcp(address)))
        }
        Arrival::Unix(socket) => {
            let uid = rustix::net::sockopt::socket_peercred(&socket).ok().map(|c| c.uid.as_raw());
            Ok((Socket::unix(socket, buffers)?, Peer::Unix(uid)))
        }
    }
}
