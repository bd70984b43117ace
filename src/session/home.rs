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
/// `proxy_protocol_networks` MariaDB reads one after its greeting, from those who send it.
pub(super) async fn pass_proxy_header(
    client: &mut PacketStream,
    server: &mut PacketStream,
    peer: &Peer,
    handle: &Arc<StoreHandle>,
    live: &Live,
) -> Result<(), Fatal> {
    // no login looks like one: its length and sequence number would be the header's first four bytes
    while client.buffered().len() < 4 {
        client.fill().await.map_err(Fatal::client)?;
    }
    let length = loop {
        match proxy_protocol::parse(client.buffered()) {
            Parsed::Header { length, .. } => break length,
            Parsed::Partial => client.fill().await.map_err(Fatal::client)?,
            Parsed::Invalid => return Ok(()),
        };
    };
    let asked = control::setting(handle, "proxy_protocol_networks", live.config().limits.connect_timeout).await;
    let networks: Vec<String> = asked.unwrap_or_default().split(',').map(|n| n.trim().to_owned()).collect();
    let named = |name: &str| networks.iter().any(|n| n == name);
    let taken = match peer {
        Peer::Tcp(a) => named("*") || proxy_protocol::trusted(a.ip(), &networks),
        Peer::Unix(_) => named("*") || named("localhost"),
    };
    let header = client.buffered().get(..length).unwrap_or_default().to_vec();
    client.consume(length);
    if !taken {
        let from = match peer {
            Peer::Tcp(a) => a.ip().to_string(),
            Peer::Unix(_) => "localhost".to_owned(),
        };
        // the store's words, as the answer to the login that comes behind
        let login = tokio::time::timeout(Duration::from_secs(1), client.read_message(LOGIN_LIMIT)).await;
        let sequence = login.ok().and_then(Result::ok).map_or(1, |(sequence, _)| sequence.wrapping_add(1));
        let error = ErrPacket::new(1105, b"HY000", format!("Proxy header is not accepted from {from}"));
        return Err(say(client, sequence, error).await);
    }
    server.write(&header).await.map_err(|error| Fatal::Store { store: handle.name().to_owned(), error })?;
    Ok(())
}
