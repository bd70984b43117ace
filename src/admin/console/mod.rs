//! The SQL console (`admin.sql`): operators ask and steer the proxy with any MySQL client, as ProxySQL's do on its port 6032.
//!
//! ```text
//! client ─► shim (opensrv-mysql) ─► dialog ─► command: what a line asks for
//!                                      ├─► tables ─► select: SELECT and SHOW over what the proxy says of itself
//!                                      └─► admin::action: whatever changes something
//! ```
//!
//! Before a login a peer may send a few kilobytes, and has ten seconds.

mod clients;
mod command;
mod dialog;
mod expression;
mod relation;
mod select;
mod shadow;
mod shim;
mod tables;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use opensrv_mysql::AsyncMysqlIntermediary;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::action::{Actions, Actor};
use super::login::Logins;
use shim::Shim;

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS: usize = 64;
/// For a login.
const LOGIN: Duration = Duration::from_secs(10);
/// Bytes that a peer may send before it has logged in.
const BEFORE_LOGIN: usize = 16 << 10;
/// Ids of connections: what CONNECTION_ID() says here.
static IDS: AtomicU32 = AtomicU32::new(1);

/// Serves the console until the future is dropped.
pub async fn serve(listener: TcpListener, actions: Actions, logins: Arc<Logins>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((stream, from)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (actions, logins) = (actions.clone(), Arc::clone(&logins));
        connections.spawn(async move {
            if let Err(error) = converse(stream, from, actions, logins).await {
                tracing::debug!(%from, %error, "a connection to the SQL console ended");
            }
            drop(seat);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(
    stream: TcpStream,
    from: std::net::SocketAddr,
    actions: Actions,
    logins: Arc<Logins>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let actor: Arc<OnceLock<Actor>> = Arc::default();
    let (read, write) = stream.into_split();
    let read = Guarded { inner: read, actor: Arc::clone(&actor), left: BEFORE_LOGIN };
    let shim = Shim::new(actions, logins, from, IDS.fetch_add(1, Ordering::Relaxed), Arc::clone(&actor));
    let late = async {
        sleep(LOGIN).await;
        if actor.get().is_some() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        ended = AsyncMysqlIntermediary::run_on(shim, read, write) => ended,
        () = late => Err(io::Error::new(io::ErrorKind::TimedOut, "no login in time")),
    }
}

/// A peer that has not logged in may send so much, and no more.
struct Guarded<R> {
    inner: R,
    actor: Arc<OnceLock<Actor>>,
    left: usize,
}

impl<R: AsyncRead + Unpin> AsyncRead for Guarded<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if self.actor.get().is_none() && polled.is_ready() {
            let read = buf.filled().len() - before;
            self.left = match self.left.checked_sub(read) {
                Some(left) => left,
                None => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too much before a login"))),
            };
        }
        polled
    }
}

#[cfg(test)]
mod tests;
