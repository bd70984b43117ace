//! The MySQL client/server protocol: bytes ⇄ messages, and the reply state machine (layer L0: no I/O, no clock).
//!
//! | file | messages |
//! |---|---|
//! | [`packet`] | packet headers, framing of payloads |
//! | [`codec`] | length-encoded integers and strings |
//! | [`capability`] | capability and status flags |
//! | [`handshake`] | Greeting, SSLRequest, HandshakeResponse, AuthSwitchRequest |
//! | [`response`] | OkPacket, ErrPacket, EofPacket |
//! | [`command`] | command bytes, COM_STMT_EXECUTE |
//! | [`reply`] | where a response ends |
//! | [`tracking`] | session state in OK packets |
//! | [`hex`] | bytes as hexadecimal digits |

pub mod bound;
pub mod capability;
pub mod codec;
pub mod command;
pub mod handshake;
pub mod hex;
pub mod packet;
pub mod reply;
pub mod response;
pub mod tracking;

pub use capability::{Capabilities, Status};
pub use command::Command;
pub use reply::{Expect, Reply, Step};
pub use response::{ErrPacket, OkPacket};
