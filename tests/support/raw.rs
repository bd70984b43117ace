//! A client that says exactly the bytes it is told to: for what no driver would send.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mysql_common::scramble::scramble_native;

/// LONG_PASSWORD, LONG_FLAG, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS, MULTI_RESULTS,
/// PS_MULTI_RESULTS, PLUGIN_AUTH.
pub const CAPABILITIES: u32 = 0x1 | 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x4_0000 | 0x8_0000;

/// One connection; reads fail after ten seconds.
pub struct Raw {
    pub stream: TcpStream,
    /// The sequence number of the next packet to send.
    pub sequence: u8,
}

impl Raw {
    /// Connects, and reads nothing.
    pub fn connect(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, sequence: 0 }
    }

    /// Connects and logs in as `app`.
    pub fn login(port: u16, database: &str) -> Raw {
        Raw::login_with(port, database, CAPABILITIES)
    }

    /// [`Raw::login`] with those capabilities and no others.
    pub fn login_with(port: u16, database: &str, capabilities: u32) -> Raw {
        let mut client = Raw::connect(port);
        let greeting = client.packet().unwrap();
        let version_end = greeting.iter().position(|&byte| byte == 0).unwrap();
        let rest = &greeting[version_end + 1..];
        let scramble = [&rest[4..12], &rest[31..43]].concat();
        let mut answer = capabilities.to_le_bytes().to_vec();
        answer.extend(1_u32.wrapping_shl(24).to_le_bytes());
        answer.push(45);
        answer.extend([0; 23]);
        answer.extend(b"app\0\x14");
        answer.extend(native(&scramble));
        answer.extend(database.as_bytes());
        answer.extend(b"\0mysql_native_password\0");
        client.send(&answer).unwrap();
        let mut reply = client.packet().unwrap();
        if reply[0] == 0xfe {
            let start = reply.iter().position(|&byte| byte == 0).unwrap() + 1;
            let scramble = reply[start..start + 20].to_vec();
            client.send(&native(&scramble)).unwrap();
            reply = client.packet().unwrap();
        }
        assert_eq!(reply[0], 0, "login: {}", String::from_utf8_lossy(&reply));
        client
    }

    /// Sends one packet of a command: sequence number 0, then the payload.
    pub fn command(&mut self, payload: &[u8]) -> io::Result<()> {
        self.sequence = 0;
        self.send(payload)
    }

    /// COM_QUERY.
    pub fn query(&mut self, sql: &str) -> io::Result<()> {
        self.command(&[b"\x03", sql.as_bytes()].concat())
    }

    /// Sends one packet (under 16 MiB) with the next sequence number.
    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut bytes = (payload.len() as u32).to_le_bytes();
        bytes[3] = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&[&bytes, payload].concat())
    }

    /// Sends bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one packet's payload.
    pub fn packet(&mut self) -> io::Result<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head)?;
        self.sequence = head[3].wrapping_add(1);
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        Ok(payload)
    }

    /// The code of the error that is next; panics if it is no error.
    pub fn error(&mut self) -> u16 {
        let packet = self.packet().unwrap();
        assert_eq!(packet[0], 0xff, "not an error: {}", String::from_utf8_lossy(&packet));
        u16::from_le_bytes([packet[1], packet[2]])
    }

    /// Whether the other side closes without another byte.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn native(scramble: &[u8]) -> [u8; 20] {
    scramble_native(scramble, b"app").unwrap()
}
