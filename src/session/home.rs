//! Before a login: where the client comes from, and the connection to the default store that will be the session's home.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Live;
use super::control_flow::Fatal;
use super::login::say;
use crate::backend::login::LOGIN_LIMIT;
use crate::backend::{StoreHandle, control, dial::dial};
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
