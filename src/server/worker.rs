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
use crate::net::{PacketStream, Peer, Socket, Stream};
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
    pub(super) fn start(index: usize, proxy: &Arc<Proxy>, draining: watch::Receiver<bool>) -> std::io::Result<Worker> {
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
                    let core = Rc::new(Core::new(Arc::clone(&proxy.live), mine, Arc::clone(&proxy.registry), draining));
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

async fn run(core: Rc<Core>, mut arrivals: mpsc::UnboundedReceiver<Arrival>) {
    tokio::task::spawn_local(keep(Rc::clone(&core)));
    tokio::task::spawn_local(async {
        loop {
            tokio::time::sleep(TICK).await;
        }
    });
    while let Some(arrival) = arrivals.recv().await {
        let core = Rc::clone(&core);
        tokio::task::spawn_local(async move {
            let figures = Arc::clone(&core.figures);
            match adopt(arrival) {
                Ok((socket, peer)) => {
                    let stream = PacketStream::new(Stream::Plain(socket), Rc::clone(&core.buffers));
                    serve(core, stream, peer).await;
                }
                Err(e) => tracing::debug!(error = %e, "a client that left at once"),
            }
            figures.sessions.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn adopt(arrival: Arrival) -> std::io::Result<(Socket, Peer)> {
    match arrival {
        Arrival::Tcp(socket, address) => {
            socket.set_nodelay(true)?;
            Ok((tokio::net::TcpStream::from_std(socket)?.into(), Peer::Tcp(address)))
        }
        Arrival::Unix(socket) => {
            let socket = tokio::net::UnixStream::from_std(socket)?;
            let uid = socket.peer_cred().ok().map(|c| c.uid());
            Ok((socket.into(), Peer::Unix(uid)))
        }
    }
}
