//! The first words of a client that wants to log in, whoever lets it in: a store, the proxy, or the operators' console.

use super::control_flow::Fatal;
use super::exchange::{no_login, out_of_order};
use crate::backend::login::LOGIN_LIMIT;
use crate::net::PacketStream;
use crate::net::tls::{self, Acceptor};
use crate::sql::dialect::Engine;
use crate::wire::Capabilities;
use crate::wire::ErrPacket;
use crate::wire::handshake::{SSL_REQUEST, client_capabilities};

/// Sends an error and ends the login.
pub(crate) async fn say(client: &mut PacketStream, sequence: u8, error: ErrPacket) -> Fatal {
    let mut out = Vec::new();
    error.put(&mut out, sequence);
    let _ = client.write(&out).await;
    client.shutdown().await;
    Fatal::Closed(error)
}

/// A client's packet, which must have this sequence number: what speaks another protocol is told so at once.
async fn packet_of_order(client: &mut PacketStream, expected: u8) -> Result<(u8, Vec<u8>), Fatal> {
    let header = loop {
        if let Some((header, _)) = client.peek() {
            break header;
        }
        client.fill().await.map_err(Fatal::client)?;
    };
    if header.sequence != expected {
        return Err(say(client, expected, out_of_order()).await);
    }
    client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)
}

/// The client's login: behind TLS, where it asks for that first. `engine` is what the greeting says that we are.
///
/// # Errors
/// Where it is none, or not behind TLS although that is required: the client has been told.
pub(crate) async fn first_answer(
    client: &mut PacketStream,
    acceptor: Option<&Acceptor>,
    engine: Engine,
) -> Result<(u8, Vec<u8>), Fatal> {
    let (mut sequence, mut payload) = packet_of_order(client, 1).await?;
    let Ok(first) = client_capabilities(&payload) else {
        return Err(say(client, sequence.wrapping_add(1), no_login(&payload, engine)).await);
    };
    if first.contains(Capabilities::SSL) && payload.len() == SSL_REQUEST {
        let Some(acceptor) = acceptor else {
            return Err(Fatal::Protocol(ErrPacket::new(1043, b"08S01", "Bad handshake")));
        };
        tls::accept(client, acceptor).await.map_err(Fatal::client)?;
        (sequence, payload) = packet_of_order(client, 2).await?;
    } else if acceptor.is_some_and(|a| a.required) && !client.stream().is_unix() {
        let error = ErrPacket::new(
            3159,
            b"HY000",
            "Connections using insecure transport are prohibited while --require_secure_transport=ON.",
        );
        return Err(say(client, sequence.wrapping_add(1), error).await);
    }
    Ok((sequence, payload))
}
