//! Sockets: the listener, TLS on both sides, the PROXY protocol, and packets over all of them (layer L2).

pub mod buffer;
pub mod compress;
pub mod packet_stream;
pub mod proxy_protocol;
pub mod ring;
pub mod socket;
pub mod stream;
pub mod tls;

pub use buffer::Buffers;
pub use packet_stream::PacketStream;
pub use ring::Ring;
pub use socket::Socket;
pub use stream::{Peer, Stream};
