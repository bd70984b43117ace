//! What no client sends to the console, packet by packet: each is answered with an error or ends its connection with one, nothing
//! panics, and who is logged in beside it goes on.

use std::io::Write;

use switchover::wire::packet::{self, HEADER};
use switchover::wire::reply::Expect;
use switchover::wire::{Capabilities, ErrPacket};

use super::{Scene, scene};
use crate::support::raw::{ORDINARY, Raw, read_packet};

const MALFORMED: u16 = 1835;

impl Scene {
    fn raw(&self) -> Raw {
        Raw::login(self.port, ORDINARY, "ops", "ops-secret", "").unwrap_or_else(|e| panic!("{e}"))
    }

    fn has_not_panicked(&self) {
        assert!(!self.proxy.log().contains("panicked"), "{}", self.proxy.log());
    }
}

/// The error that is the next packet.
fn error(raw: &mut Raw) -> ErrPacket {
    let (sequence, payload) = read_packet(&mut raw.socket).expect("an answer");
    assert_eq!(sequence, 1, "{payload:?}");
    ErrPacket::read(&payload).unwrap_or_else(|e| panic!("{e}: {payload:?}"))
}

/// The connection lives, and nothing more was sent than what was read.
fn lives(raw: &mut Raw) {
    let rows = raw.query("SELECT 6 * 7");
    assert!(rows.iter().any(|(_, p)| p == b"\x0242"), "{rows:?}");
}

fn prepare(raw: &mut Raw, sql: &str) -> u32 {
    raw.send(0x16, sql.as_bytes());
    let packets = raw.response(Expect::Prepare);
    let id = packets[0].1.get(1..5).and_then(|id| id.first_chunk::<4>()).expect("an id");
    assert_eq!(packets[0].1[0], 0, "{packets:?}");
    u32::from_le_bytes(*id)
}

/// COM_STMT_EXECUTE: no flags, one iteration, and this.
fn execute(raw: &mut Raw, id: u32, tail: &[u8]) {
    raw.send(0x17, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0], tail].concat());
}

#[test]
fn executes_that_lie_are_refused() {
    let scene = scene("");
    let (mut beside, mut raw) = (scene.raw(), scene.raw());
    lives(&mut beside);
    let id = prepare(&mut raw, "SELECT ?, ?");
    let long = prepare(&mut raw, &format!("SELECT {}", vec!["?"; 300].join(", ")));
    let truths: [&[u8]; 2] = [&[0, 1, 8, 0, 0xFD, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, b'a', b'b'], &[0b11, 1, 8, 0, 8, 0]];
    execute(&mut raw, id, &[0, 0]);
    assert_eq!(error(&mut raw).code, 1210, "no types have come yet");
    for truth in truths {
        // cut everywhere
        for length in 0..truth.len() {
            execute(&mut raw, id, &truth[..length]);
            assert_eq!(error(&mut raw).code, MALFORMED, "{length} of {truth:?}");
        }
        execute(&mut raw, id, truth);
        let rows = raw.response(Expect::Results);
        assert!(Raw::error(&rows).is_none(), "{rows:?}");
    }
    let lies: [(&str, u32, &[u8]); 8] = [
        ("nothing behind the id", id, &[]),
        ("a type that there is not", id, &[0, 1, 0x42, 0, 0x42, 0, 1, 1]),
        ("one that no parameter has", id, &[0, 1, 0x0D, 0, 0x0E, 0, 1, 1, 1, 1]),
        ("a length beyond the end", id, &[0, 1, 8, 0, 0xFD, 0, 7, 0, 0, 0, 0, 0, 0, 0, 200, b'a']),
        ("the longest length", id, &[0, 1, 0xFD, 0, 0xFD, 0, 0xFE, 255, 255, 255, 255, 255, 255, 255, 255, 1, b'a']),
        ("a date longer than what is left", id, &[0, 1, 0x0A, 0, 0x0B, 0, 4, 1, 2, 3, 4, 250, 0]),
        ("a length that is none", id, &[0, 1, 0xFD, 0, 0xFD, 0, 0xFF, 0xFB]),
        ("a bitmap shorter than its parameters", long, &[0; 37]),
    ];
    for (what, id, tail) in lies {
        execute(&mut raw, id, tail);
        let said = error(&mut raw).code;
        // (no types yet, where its 37 bytes are read as a bitmap)
        assert!(matches!((said, what), (MALFORMED, _)), "{what}: {said}");
        lives(&mut raw);
    }
    for unknown in [0, 4711, u32::MAX] {
        execute(&mut raw, unknown, &[0, 1, 8, 0]);
        let said = error(&mut raw);
        assert_eq!(said.code, 1243, "{said}");
    }
    raw.send(0x17, &[1, 0]);
    assert_eq!(error(&mut raw).code, MALFORMED);
    raw.send(0x19, &id.to_le_bytes());
    execute(&mut raw, id, truths[0]);
    assert_eq!(error(&mut raw).code, 1243, "it was closed");
    for of_ours in [0u32, 4711] {
        raw.send(0x19, &of_ours.to_le_bytes());
    }
    // what stands for all of them cannot be closed
    let id = prepare(&mut raw, "SELECT ?, ?");
    execute(&mut raw, id, truths[0]);
    assert!(Raw::error(&raw.response(Expect::Results)).is_none());
    lives(&mut raw);
    lives(&mut beside);
    scene.has_not_panicked();
}

#[test]
fn long_data_is_for_its_statement_and_bounded() {
    let scene = scene("");
    let mut raw = scene.raw();
    let id = prepare(&mut raw, "SELECT ?");
    let long = |id: u32, data: &[u8]| [&id.to_le_bytes()[..], &[0, 0], data].concat();
    raw.send(0x18, &long(4711, b"of nothing"));
    raw.send(0x18, &long(id, b"it"));
    raw.send(0x18, &long(id, b"'s"));
    execute(&mut raw, id, &[0, 1, 0xFC, 0]);
    let rows = raw.response(Expect::Results);
    assert!(rows.iter().any(|(_, p)| p.ends_with(b"\x04it's")), "{rows:?}");
    // after a reset there is none: what is left is a text without a length
    raw.send(0x18, &long(id, b"gone"));
    raw.send(0x1A, &id.to_le_bytes());
    assert_eq!(raw.response(Expect::Ok).len(), 1);
    execute(&mut raw, id, &[0, 1, 0xFC, 0]);
    assert_eq!(error(&mut raw).code, MALFORMED);
    lives(&mut raw);
    for _ in 0..5 {
        raw.send(0x18, &long(id, &vec![b'x'; 1 << 20]));
    }
    execute(&mut raw, id, &[0, 1, 0xFC, 0]);
    assert_eq!(error(&mut raw).code, 1153);
    lives(&mut raw);
    raw.send(0x18, &[1, 0, 0, 0, 0]);
    assert_eq!(error(&mut raw).code, MALFORMED);
    raw.until_closed();
    scene.has_not_panicked();
}

#[test]
fn what_is_no_text_or_out_of_order_is_refused() {
    let scene = scene("");
    let mut raw = scene.raw();
    for command in [0x02, 0x03, 0x16] {
        raw.send(command, b"SELECT '\xC3'");
        assert_eq!(error(&mut raw).code, 1300, "{command}");
        // what the console says to itself is nothing that a client may say
        for own in ["\09999 x", "\0statistics", "\0stands in", "\0"] {
            raw.send(command, own.as_bytes());
            assert_eq!(error(&mut raw).code, 1064, "{command} {own:?}");
        }
    }
    for (command, tail) in [(0x0C, &[1][..]), (0x19, &[1, 2]), (0x1A, &[])] {
        raw.send(command, tail);
        assert_eq!(error(&mut raw).code, MALFORMED, "{command}");
    }
    raw.write(0, &[]);
    assert_eq!(error(&mut raw).code, 1047);
    lives(&mut raw);
    // a command of more than 16 MiB: its answer has the number behind its packets
    let mut long = Vec::new();
    packet::put(&mut long, 0, &[&[3][..], &vec![b' '; 17 << 20]].concat());
    raw.socket.write_all(&long).unwrap();
    let (sequence, payload) = read_packet(&mut raw.socket).expect("an answer");
    assert_eq!((sequence, ErrPacket::read(&payload).unwrap().code), (2, 1153));
    lives(&mut raw);
    raw.write(7, b"\x03SELECT 1");
    assert_eq!(error(&mut raw).code, 1156);
    raw.until_closed();
    scene.has_not_panicked();
}

/// A seeded generator is enough: what is looked for is a panic.
fn bytes(seed: &mut u64, below: u64) -> Vec<u8> {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    };
    let length = next() % below;
    (0..length).map(|_| next().to_le_bytes()[0]).collect()
}

#[test]
fn garbage_behind_a_login_hurts_nobody() {
    let scene = scene("");
    let mut beside = scene.raw();
    let mut seed = 0x5eed;
    for command in 0..=0x20u8 {
        let mut raw = scene.raw();
        let id = prepare(&mut raw, "SELECT ?, ?, ?");
        for round in 0..40 {
            let tail = bytes(&mut seed, 60);
            // half of it behind an id that is one
            let tail = if round % 2 == 0 { tail } else { [&id.to_le_bytes()[..], &tail].concat() };
            let mut framed = Vec::new();
            packet::put(&mut framed, 0, &[&[command], &tail[..]].concat());
            if raw.socket.write_all(&framed).is_err() {
                break;
            }
        }
        // a header that promises more than what comes
        let _ = raw.socket.write_all(&[0xFF, 0xFF, 0xFF, 0][..HEADER]);
        // (which it may have closed by now)
        let _ = raw.socket.shutdown(std::net::Shutdown::Write);
        raw.until_closed();
        lives(&mut beside);
    }
    scene.has_not_panicked();
}

#[test]
fn statistics_are_a_text() {
    let scene = scene("");
    for more in [Capabilities::empty(), Capabilities::DEPRECATE_EOF] {
        let mut raw = Raw::login(scene.port, ORDINARY | more, "ops", "ops-secret", "").unwrap();
        raw.send(0x09, &[]);
        let (sequence, text) = read_packet(&mut raw.socket).expect("a text");
        let text = String::from_utf8(text).unwrap();
        assert_eq!(sequence, 1);
        assert!(text.starts_with("Uptime: ") && text.contains("  Threads: 0  Questions: "), "{text}");
        lives(&mut raw);
    }
}

/// As a server writes it, and not as the protocol's pages have it: mysqlnd takes an OK without the length for a broken one.
#[test]
fn what_an_ok_says_has_its_length() {
    let scene = scene("");
    let mut raw = scene.raw();
    for (sql, says) in [("PAUSE GROUP analytics", "paused"), ("RESUME GROUP analytics", "goes on"), ("BEGIN", "")] {
        let packets = raw.query(sql);
        let length = u8::try_from(says.len()).unwrap();
        let info = if says.is_empty() { Vec::new() } else { [&[length], says.as_bytes()].concat() };
        assert_eq!(packets, [(1, [&[0, 0, 0, 2, 0, 0, 0][..], &info].concat())], "{sql}");
    }
    lives(&mut raw);
}

#[test]
fn commands_that_come_together_are_answered_one_by_one() {
    let scene = scene("");
    let mut raw = scene.raw();
    let (mut all, rounds) = (Vec::new(), 200);
    for n in 0..rounds {
        packet::put(&mut all, 0, format!("\x03SELECT 'number {n}'").as_bytes());
    }
    raw.socket.write_all(&all).unwrap();
    for n in 0..rounds {
        let rows = raw.response(Expect::Results);
        let wanted = format!("number {n}");
        assert!(rows.iter().any(|(_, p)| p.ends_with(wanted.as_bytes())), "{n}: {rows:?}");
    }
    scene.has_not_panicked();
}
