//! A client of bare packets: what drivers hide (flags, sequence numbers, bytes) is what it is for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use switchover::auth;
use switchover::wire::handshake::{Greeting, HandshakeResponse};
use switchover::wire::packet::{self, HEADER, Header};
use switchover::wire::reply::{Expect, Reply};
use switchover::wire::{Capabilities, ErrPacket};

/// What an ordinary client asks for.
pub const ORDINARY: Capabilities = Capabilities::PROTOCOL_41
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::LONG_PASSWORD)
    .union(Capabilities::TRANSACTIONS)
    .union(Capabilities::MULTI_STATEMENTS)
    .union(Capabilities::MULTI_RESULTS)
    .union(Capabilities::PS_MULTI_RESULTS)
    .union(Capabilities::LOCAL_FILES);

/// A connection of bare packets.
pub struct Raw {
    /// The socket.
    pub socket: TcpStream,
    /// What the server said first.
    pub greeting: Greeting,
    /// What was agreed on.
    pub capabilities: Capabilities,
}

/// Packets without the name of a database, so that those of two databases can be compared: the names are of the same length but
/// for their counter.
pub fn plain(packets: Vec<(u8, Vec<u8>)>, name: &str) -> Vec<(u8, Vec<u8>)> {
    let blank = |mut payload: Vec<u8>| {
        while let Some(at) = payload.windows(name.len()).position(|w| w == name.as_bytes()) {
            payload.splice(at..at + name.len(), vec![b'#'; name.len()]);
        }
        payload
    };
    packets.into_iter().map(|(sequence, payload)| (sequence, blank(payload))).collect()
}

/// Reads one packet; `None` at the end of the stream.
pub fn read_packet(socket: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; HEADER];
    socket.read_exact(&mut head).ok()?;
    let header = Header::read(&head)?;
    let mut payload = vec![0; header.len()];
    socket.read_exact(&mut payload).ok()?;
    Some((header.sequence, payload))
}

impl Raw {
    /// Connects and reads the greeting.
    pub fn connect(port: u16) -> Raw {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.set_nodelay(true).unwrap();
        let (_, payload) = read_packet(&mut socket).expect("a greeting");
        let greeting = Greeting::read(&payload).unwrap_or_else(|e| panic!("{e}: {payload:?}"));
        Raw { socket, greeting, capabilities: Capabilities::empty() }
    }

    /// Logs in with `mysql_native_password`.
    pub fn login(
        port: u16,
        wanted: Capabilities,
        user: &str,
        password: &str,
        database: &str,
    ) -> Result<Raw, ErrPacket> {
        let mut raw = Raw::connect(port);
        raw.capabilities = wanted;
        raw.log_in(user, password, database)?;
        Ok(raw)
    }

    /// Logs in with `mysql_native_password` and the capabilities that are set (none: [`ORDINARY`]), as far as they are offered.
    pub fn log_in(&mut self, user: &str, password: &str, database: &str) -> Result<(), ErrPacket> {
        let wanted = if self.capabilities.is_empty() { ORDINARY } else { self.capabilities };
        let mut capabilities = wanted & (self.greeting.capabilities | Capabilities::CLIENT_ONLY);
        capabilities.set(Capabilities::CONNECT_WITH_DB, !database.is_empty());
        let answer = |scramble: &[u8]| match password {
            "" => Vec::new(),
            p => auth::native_answer(scramble, auth::stage1(p.as_bytes())).to_vec(),
        };
        let login = HandshakeResponse {
            capabilities,
            max_packet: 1 << 30,
            collation: 45,
            user: user.into(),
            auth: answer(&self.greeting.scramble),
            database: (!database.is_empty()).then(|| database.into()),
            plugin: Some(auth::NATIVE.to_vec()),
            attributes: Vec::new(),
        };
        self.capabilities = capabilities;
        self.write(1, &login.write());
        loop {
            let (sequence, payload) = read_packet(&mut self.socket).expect("an answer to the login");
            match payload.first() {
                Some(0) => return Ok(()),
                Some(0xFF) => return Err(ErrPacket::read(&payload).unwrap()),
                Some(0xFE) => {
                    let (_, data) = switchover::wire::handshake::read_auth_switch(&payload).unwrap().unwrap();
                    let again = answer(data);
                    self.write(sequence + 1, &again);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Logs in as app.
    pub fn app(port: u16, wanted: Capabilities, database: &str) -> Raw {
        Raw::login(port, wanted, "app", "app", database).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Writes one message.
    pub fn write(&mut self, sequence: u8, payload: &[u8]) {
        let mut out = Vec::new();
        packet::put(&mut out, sequence, payload);
        self.socket.write_all(&out).unwrap();
    }

    /// Sends a command.
    pub fn send(&mut self, command: u8, argument: &[u8]) {
        let mut payload = vec![command];
        payload.extend_from_slice(argument);
        self.write(0, &payload);
    }

    /// Reads the packets of one whole response.
    pub fn response(&mut self, expect: Expect) -> Vec<(u8, Vec<u8>)> {
        let mut reply = Reply::new(expect, self.capabilities);
        let mut packets = Vec::new();
        while !reply.is_done() {
            let Some((sequence, payload)) = read_packet(&mut self.socket) else { break };
            let mut framed = Vec::new();
            packet::put_header(&mut framed, payload.len(), sequence);
            framed.extend_from_slice(&payload);
            reply.feed(&framed).unwrap();
            packets.push((sequence, payload));
        }
        packets
    }

    /// COM_QUERY and its response.
    pub fn query(&mut self, sql: &str) -> Vec<(u8, Vec<u8>)> {
        self.send(3, sql.as_bytes());
        self.response(Expect::Results)
    }

    /// The error that a response ends with.
    pub fn error(packets: &[(u8, Vec<u8>)]) -> Option<ErrPacket> {
        ErrPacket::read(&packets.last()?.1).ok()
    }

    /// Reads to the end of the stream; panics if the peer does not close.
    pub fn until_closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.socket.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => rest,
            Err(e) => panic!("the peer does not close: {e}"),
        }
    }
}
