//! Bytes before and after the login: PROXY headers, greetings, logins, commands, framing. Nothing panics; what was read and
//! is written again reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchover::net::proxy_protocol::{self, Parsed};
use switchover::wire::command::{Command, execute_types};
use switchover::wire::handshake::{ChangeUser, Greeting, HandshakeResponse, client_capabilities, read_auth_switch};
use switchover::wire::packet::{self, HEADER, Header};
use switchover::wire::{Capabilities, ErrPacket, OkPacket};

fuzz_target!(|data: &[u8]| {
    if let Parsed::Header { length, .. } = proxy_protocol::parse(data) {
        assert!(length <= data.len());
        // a prefix of a header is none yet, and never another one
        assert_eq!(proxy_protocol::parse(&data[..length - 1]), Parsed::Partial);
    }
    let mut rest = data;
    while let Some(header) = Header::read(rest) {
        let Some(payload) = rest.get(HEADER..HEADER + header.len()) else { break };
        one(payload);
        let mut framed = Vec::new();
        packet::put(&mut framed, header.sequence, payload);
        assert_eq!(packet::payload(&framed).as_ref(), payload);
        rest = &rest[HEADER + header.len()..];
    }
    one(data);
});

fn one(payload: &[u8]) {
    let _ = client_capabilities(payload);
    let _ = read_auth_switch(payload);
    let _ = OkPacket::read(payload);
    if let Ok(error) = ErrPacket::read(payload) {
        let mut framed = Vec::new();
        error.put(&mut framed, 1);
        assert_eq!(ErrPacket::read(&packet::payload(&framed)), Ok(error));
    }
    if let Ok(greeting) = Greeting::read(payload) {
        let _ = Greeting::read(&greeting.write());
    }
    if let Ok(login) = HandshakeResponse::read(payload) {
        // what cannot be said in the form that its flags choose is cut, and not panicked over
        let _ = HandshakeResponse::read(&login.write());
        assert!(!login.write_ssl_request().is_empty());
    }
    for capabilities in [Capabilities::empty(), Capabilities::all()] {
        let _ = ChangeUser::read(payload, capabilities);
    }
    let Some(&byte) = payload.first() else { return };
    if matches!(Command::from(byte), Command::StmtExecute | Command::StmtBulkExecute) {
        for parameters in [0, 1, 8, 9, u16::MAX] {
            if let Some(types) = execute_types(payload, parameters) {
                assert!(types.flag_at < payload.len());
            }
        }
    }
}
