//! The default store at a login: where the client comes from, the connection that will be the session's home, and why it is refused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Live;
use super::control_flow::Fatal;
use super::exchange::PEER_PLUGINS;
use super::knock::say;
use crate::backend::connection::QueryError;
use crate::backend::login::{LOGIN_LIMIT, LoginError};
use crate::backend::{Backend, StoreHandle, control, dial::dial};
use crate::net::proxy_protocol::{self, Parsed};
use crate::net::{PacketStream, Peer};
use crate::wire::ErrPacket;

/// How often a store that does not listen is tried again.
const AGAIN: Duration = Duration::from_millis(50);

/// Connects to a store. One where nobody listens is being restarted, as far as one can tell: the client waits, most of the
/// time that a login may take, because it cannot tell an error said by the proxy from one that no retry mends.
pub(super) async fn patiently(
    handle: &StoreHandle,
    source: Option<std::net::SocketAddr>,
    client: &PacketStream,
    limit: Duration,
) -> io::Result<PacketStream> {
    let until = Instant::now() + limit.mul_f32(0.9);
    loop {
        match dial(handle, source, client.buffers(), limit).await {
            Err(e)
                if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
                    && Instant::now() < until => {}
            done => return done,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Why the default store does not let a client in, for the client: in the store's words, where it has said something.
pub(super) fn refusal(handle: &StoreHandle, error: LoginError) -> ErrPacket {
    if let LoginError::Refused(error) = error {
        return error;
    }
    let what = error.to_string();
    handle.unreachable(&what);
    let text = format!("switchover: cannot connect to the default store {}: {what}", handle.name());
    // not 2003: clients refuse a packet with one of their own codes as malformed (libmariadb: 2027)
    ErrPacket { code: 1053, sqlstate: None, message: text.into_bytes() }
}

/// Over a unix socket the store sees the proxy's user id: an account that trusts it must not be reached through us (RULES.md 1),
/// but for a client with the same user id on our own socket.
pub(super) async fn check_peer_account(backend: &mut Backend, peer: &Peer) -> Result<(), LoginError> {
    let ours = matches!(peer, Peer::Unix(Some(uid)) if *uid == rustix::process::geteuid().as_raw());
    if !backend.stream.stream().is_unix() || ours {
        return Ok(());
    }
    let text = match backend.query(b"SHOW CREATE USER CURRENT_USER()").await {
        Ok(rows) => {
            let values = rows.rows.iter().flatten().flatten();
            values.map(|v| String::from_utf8_lossy(v).to_lowercase()).collect::<String>()
        }
        Err(QueryError::Refused(_)) => String::new(),
        Err(QueryError::Io(error)) => return Err(error.into()),
        Err(QueryError::Malformed(error)) => return Err(error.into()),
    };
    if text.contains("create user") && !PEER_PLUGINS.iter().any(|p| text.contains(p)) {
        return Ok(());
    }
    let text = format!(
        "switchover: access denied: store {} is reached over a unix socket, where it sees the proxy's own user id, and this \
         account may log in by user id alone; give it a password plugin only, or reach the store by TCP",
        backend.handle.name()
    );
    Err(LoginError::Refused(ErrPacket::new(1045, b"28000", text)))
}

/// A PROXY header that comes with the login is the store's, if the store takes one from where the client is: with
/// `proxy_protocol_networks` MariaDB reads one after its greeting, from those who send it. Returns whether one was passed on.
pub(super) async fn pass_proxy_header(
    client: &mut PacketStream,
    server: &mut PacketStream,
    peer: &Peer,
    handle: &Arc<StoreHandle>,
    live: &Live,
) -> Result<bool, Fatal> {
    while client.buffered().len() < 4 {
        client.fill().await.map_err(Fatal::client)?;
    }
    if !proxy_protocol::begins(client.buffered()) {
        return Ok(false);
    }
    let length = loop {
        match proxy_protocol::parse(client.buffered()) {
            Parsed::Header { length, .. } => break Some(length),
            Parsed::Partial => client.fill().await.map_err(Fatal::client)?,
            Parsed::Invalid => break None,
        };
    };
    let taken = takes_header(peer, handle, live).await;
    let header = client.buffered().get(..length.unwrap_or(client.buffered().len())).unwrap_or_default().to_vec();
    client.consume(header.len());
    if taken && length.is_some() {
        let passed = server.write(&header).await;
        return passed.map(|()| true).map_err(|error| Fatal::Store { store: handle.name().to_owned(), error });
    }
    // the store's words
    let words = if taken {
        "Failed to parse proxy header".to_owned()
    } else {
        format!("Proxy header is not accepted from {}", client_host(peer))
    };
    // as the answer to the login that comes behind; behind what is no header nothing can be found
    let mut sequence = 1;
    if length.is_some() {
        let login = tokio::time::timeout(Duration::from_secs(1), client.read_message(LOGIN_LIMIT)).await;
        sequence = login.ok().and_then(Result::ok).map_or(1, |(sequence, _)| sequence.wrapping_add(1));
    }
    Err(say(client, sequence, ErrPacket::new(1105, b"HY000", words)).await)
}

/// Whether the default store reads PROXY headers of clients from there.
async fn takes_header(peer: &Peer, handle: &Arc<StoreHandle>, live: &Live) -> bool {
    let asked = control::setting(handle, "proxy_protocol_networks", live.config().limits.connect_timeout).await;
    let networks: Vec<String> = asked.unwrap_or_default().split(',').map(|n| n.trim().to_owned()).collect();
    let named = |name: &str| networks.iter().any(|n| n == name);
    match peer {
        Peer::Tcp(a) => named("*") || proxy_protocol::trusted(a.ip(), &networks),
        Peer::Unix(_) => named("*") || named("localhost"),
    }
}

fn client_host(peer: &Peer) -> String {
    match peer {
        Peer::Tcp(a) => a.ip().to_string(),
        Peer::Unix(_) => "localhost".to_owned(),
    }
}
