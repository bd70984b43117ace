//! The SQL console (`admin.sql`): operators ask and steer the proxy with any MySQL client, as ProxySQL's do on its port 6032.
//!
//! ```text
//! client ─► door: TLS, login ─► engine (opensrv-mysql) ─► shim ─► dialog ─► command: what a line asks for
//!                                                                   ├─► tables ─► select: SELECT and SHOW over what the proxy says of itself
//!                                                                   └─► admin::action: whatever changes something
//! ```
//!
//! Before a login a peer may send a few kilobytes, and has ten seconds.

mod clients;
mod command;
mod dialog;
mod door;
mod engine;
mod expression;
mod from;
mod functions;
mod pattern;
mod prepared;
mod relation;
mod schema;
mod select;
mod shadow;
mod shim;
mod tables;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::dialog::Dialog;
use self::door::Door;
use self::shim::Shim;
use super::action::Actions;
use super::login::Logins;
use crate::net::{Buffers, PacketStream, Socket, Stream};

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS: usize = 64;
/// For a login.
const LOGIN: Duration = Duration::from_secs(10);
/// Ids of connections: what CONNECTION_ID() says here.
static IDS: AtomicU32 = AtomicU32::new(1);

/// Serves the console until the future is dropped; within a `LocalSet`.
pub async fn serve(listener: TcpListener, actions: Actions, logins: Arc<Logins>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let buffers: Rc<Buffers> = Rc::default();
    let mut connections = JoinSet::new();
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let Ok((socket, from)) = listener.accept().await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let socket = Socket::connected_tcp(socket, &buffers);
        let client = PacketStream::new(Stream::Plain(socket), Rc::clone(&buffers));
        let (actions, logins) = (actions.clone(), Arc::clone(&logins));
        connections.spawn_local(async move {
            if let Err(error) = converse(client, from, actions, &logins).await {
                tracing::debug!(%from, error, "a connection to the SQL console ended");
            }
            drop(seat);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut client: PacketStream, from: SocketAddr, actions: Actions, logins: &Logins) -> Result<(), String> {
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    let door = Door { actions: &actions, logins, from, id };
    let guest = timeout(LOGIN, door.login(&mut client)).await.map_err(|_| "no login in time".to_owned())?;
    let guest = guest.map_err(|error| error.to_string())?;
    let dialog = Dialog::new(actions.clone(), guest.actor, id, guest.database);
    engine::run(client, guest.capabilities, Shim::new(actions, dialog)).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
