//! A listener that serves so many connections at once, and no more: the others wait in its queue.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections at once.
const CONNECTIONS: usize = 256;

/// The listener.
pub(super) struct Seated {
    listener: TcpListener,
    seats: Arc<Semaphore>,
}

impl Seated {
    pub(super) fn new(listener: TcpListener) -> Seated {
        Seated { listener, seats: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

/// A connection, and its seat until it ends.
pub(super) struct Seat {
    stream: TcpStream,
    _seat: Option<OwnedSemaphorePermit>,
}

impl Listener for Seated {
    type Io = Seat;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Seat, SocketAddr) {
        loop {
            let seat = Arc::clone(&self.seats).acquire_owned().await.ok();
            if let Ok((stream, from)) = self.listener.accept().await {
                let _ = stream.set_nodelay(true);
                return (Seat { stream, _seat: seat }, from);
            }
            // out of descriptors, or the peer is gone already
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Seated>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Seated>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

impl AsyncRead for Seat {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seat {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
