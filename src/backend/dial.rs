//! Opens a socket to a store: its addresses in order, the PROXY protocol header first where the store wants one.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::fleet::StoreHandle;
use crate::config::model::Address;
use crate::net::proxy_protocol;
use crate::net::{Buffers, PacketStream, Socket, Stream};

/// Connects to the first address of the store that answers within `limit`.
///
/// # Errors
/// The error of the last address; `TimedOut` after `limit`.
pub async fn dial(
    store: &StoreHandle,
    client: Option<SocketAddr>,
    buffers: &Rc<Buffers>,
    limit: Duration,
) -> io::Result<PacketStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    for address in &store.config.addresses {
        match timeout(limit, open(address, buffers)).await {
            Ok(Ok(socket)) => {
                // asked for only where it is told on
                let local = if store.config.proxy_protocol { socket.peer_address() } else { None };
                let mut stream = PacketStream::new(Stream::Plain(socket), Rc::clone(buffers));
                if store.config.proxy_protocol {
                    stream.write(&proxy_protocol::header(client, local)).await?;
                }
                return Ok(stream);
            }
            Ok(Err(e)) => last = e,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "it does not answer"),
        }
    }
    Err(last)
}

async fn open(address: &Address, buffers: &Buffers) -> io::Result<Socket> {
    match address {
        Address::Tcp(host, port) => {
            let stream = match host.parse::<std::net::IpAddr>() {
                Ok(ip) => TcpStream::connect((ip, *port)).await?,
                Err(_) => TcpStream::connect((host.as_str(), *port)).await?,
            };
            stream.set_nodelay(true)?;
            Ok(Socket::connected_tcp(stream, buffers))
        }
        Address::Unix(path) => Ok(Socket::connected_unix(UnixStream::connect(path).await?, buffers)),
    }
}
