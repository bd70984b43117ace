//! Clients that break the protocol, vanish or stall: never a panic, never unbounded memory, never harm to others.

use std::io::Write;
use std::time::{Duration, Instant};

use switchover::wire::ErrPacket;
use switchover::wire::packet::HEADER;

use crate::support::raw::{ORDINARY, Raw, read_packet};
use crate::support::{Proxy, eventually, stores};

/// The proxy is alive and serves.
fn serves(proxy: &Proxy) {
    let mut raw = Raw::app(proxy.port, ORDINARY, "");
    let packets = raw.query("SELECT 41 + 1");
    assert!(packets.iter().any(|(_, p)| p == b"\x0242"), "{packets:?}");
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn garbage_before_and_after_login_hurts_nobody() {
    let proxy = Proxy::pair(&["pageviews"]);
    let mut seed = 0x5eed;
    for round in 0..150 {
        let length = usize::try_from(xorshift(&mut seed) % 400).unwrap();
        let bytes: Vec<u8> = (0..length).map(|_| xorshift(&mut seed).to_le_bytes()[0]).collect();
        let mut raw = if round % 2 == 0 { Raw::connect(proxy.port) } else { Raw::app(proxy.port, ORDINARY, "") };
        let _ = raw.socket.write_all(&bytes);
    }
    serves(&proxy);
}

#[test]
fn every_command_byte_with_every_short_payload_is_answered_or_closed() {
    let proxy = Proxy::pair(&["pageviews"]);
    for command in 0..=255u8 {
        // quit, shutdown (would stop the store), daemon commands of replication are streams
        if matches!(command, 0x01 | 0x08 | 0x12 | 0x1e) {
            continue;
        }
        for tail in [&[][..], &[0], &[1, 2, 3], &[0xFF; 12]] {
            let mut raw = Raw::app(proxy.port, ORDINARY, "");
            raw.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            raw.send(command, tail);
            raw.send(0x0e, &[]);
            while read_packet(&mut raw.socket).is_some_and(|(_, p)| p.first() != Some(&0)) {}
        }
    }
    serves(&proxy);
}

#[test]
fn logins_cut_at_every_byte_and_then_gone() {
    let proxy = Proxy::pair(&["pageviews"]);
    let raw = Raw::connect(proxy.port);
    let login = switchover::wire::handshake::HandshakeResponse {
        capabilities: ORDINARY,
        max_packet: 1,
        collation: 45,
        user: b"app".to_vec(),
        auth: vec![1; 20],
        database: None,
        plugin: Some(b"mysql_native_password".to_vec()),
        attributes: Vec::new(),
    };
    drop(raw);
    let mut framed = Vec::new();
    switchover::wire::packet::put(&mut framed, 1, &login.write());
    for cut in 0..framed.len() {
        let mut raw = Raw::connect(proxy.port);
        raw.socket.write_all(&framed[..cut]).unwrap();
    }
    serves(&proxy);
}

#[test]
fn packets_out_of_order_are_told_and_closed() {
    let proxy = Proxy::pair(&["pageviews"]);
    let mut raw = Raw::app(proxy.port, ORDINARY, "");
    raw.write(7, b"\x03SELECT 1");
    let (_, payload) = read_packet(&mut raw.socket).expect("an error");
    assert_eq!(ErrPacket::read(&payload).unwrap().code, 1156);
    raw.until_closed();
}

#[test]
fn a_packet_beyond_the_limit_is_refused_before_it_is_read() {
    let proxy = Proxy::start(|port| {
        let text = crate::support::proxy::pair_config(port, &stores().legacy, &stores().new, &["pageviews"]);
        format!("{text}limits: {{ max_allowed_packet: 1MiB }}\n")
    });
    let mut raw = Raw::app(proxy.port, ORDINARY, "");
    raw.socket.write_all(&[0xFF, 0xFF, 0x7F, 0, 3]).unwrap();
    let (_, payload) = read_packet(&mut raw.socket).expect("an error");
    assert_eq!(ErrPacket::read(&payload).unwrap().code, 1153);
    // announced and never sent: memory does not follow the announcement
    let before = proxy.memory();
    let open: Vec<Raw> = (0..50)
        .map(|_| {
            let mut raw = Raw::app(proxy.port, ORDINARY, "");
            raw.socket.write_all(&[0xFF, 0xFF, 0x0F, 0, 3]).unwrap();
            raw
        })
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    assert!(proxy.memory() < before + (30 << 20), "{} → {}", before, proxy.memory());
    drop(open);
    serves(&proxy);
}

#[test]
fn a_slow_reader_holds_back_its_store_and_not_the_proxys_memory() {
    let database = stores().database();
    let proxy = Proxy::pair(&["pageviews"]);
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    let before = proxy.memory();
    raw.send(3, b"SELECT REPEAT('x', 1000) FROM seq_1_to_300000");
    std::thread::sleep(Duration::from_millis(1500));
    let after = proxy.memory();
    assert!(after < before + (8 << 20), "300 MB wait for a client that does not read: {before} → {after}");
    // others are served meanwhile
    serves(&proxy);
}

#[test]
fn a_slow_writer_does_not_hold_up_others() {
    let proxy = Proxy::pair(&["pageviews"]);
    let mut slow = Raw::app(proxy.port, ORDINARY, "");
    slow.socket.write_all(&[9, 0, 0]).unwrap();
    serves(&proxy);
    for b in b"\0\x03SELECT 1" {
        slow.socket.write_all(&[*b]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!slow.response(switchover::wire::Expect::Results).is_empty());
}

#[test]
fn a_client_that_vanishes_has_its_query_killed() {
    let database = stores().database();
    let proxy = Proxy::pair(&["pageviews"]);
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    raw.send(3, format!("SELECT SLEEP(60) /* {} */", database.name).as_bytes());
    let running = || {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND info LIKE '%SLEEP(60)%' AND id <> CONNECTION_ID()",
            database.name
        );
        stores().legacy.sql(&sql)[0][0].clone()
    };
    eventually("the query runs", || running() == "1");
    drop(raw);
    eventually("it is killed", || running() == "0");
    eventually("no session is left", || proxy.status()["sessions"]["open"] == 0);
}

#[test]
fn a_client_that_sends_a_write_and_vanishes_has_written() {
    let database = stores().database();
    database.on_legacy("CREATE TABLE notes (n INT)");
    let session = Proxy::pair(&["pageviews"]);
    let pooled = Proxy::start(|port| {
        crate::support::proxy::pair_config(port, &stores().legacy, &stores().new, &["pageviews"])
            + "pool: transaction\n"
    });
    let mut sent = 0;
    for proxy in [&session, &pooled] {
        for sql in [
            "INSERT INTO notes VALUES (1)",
            "INSERT INTO notes SELECT SLEEP(0.3)",
            "DO 1; INSERT INTO notes VALUES (3)",
        ] {
            for _ in 0..10 {
                let several = switchover::wire::Capabilities::MULTI_STATEMENTS;
                let mut raw = Raw::app(proxy.port, ORDINARY | several, &database.name);
                raw.send(3, sql.as_bytes());
                drop(raw);
                sent += 1;
            }
        }
    }
    let written = || stores().legacy.sql(&format!("SELECT COUNT(*) FROM {}.notes", database.name))[0][0].clone();
    eventually("all is written", || written() == sent.to_string());
    eventually("no session is left", || session.status()["sessions"]["open"] == 0);
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let proxy = Proxy::pair(&["pageviews"]);
    let mut raw = Raw::app(proxy.port, ORDINARY, "");
    let mut burst = Vec::new();
    for i in 0..50 {
        switchover::wire::packet::put(&mut burst, 0, format!("\x03SELECT {i}").as_bytes());
    }
    raw.socket.write_all(&burst).unwrap();
    for i in 0..50 {
        let packets = raw.response(switchover::wire::Expect::Results);
        let expected = i.to_string();
        assert!(packets.iter().any(|(_, p)| p.get(1..) == Some(expected.as_bytes())), "{i}: {packets:?}");
    }
}

#[test]
fn a_client_that_never_logs_in_is_let_go() {
    let proxy = Proxy::start(|port| {
        let text = crate::support::proxy::pair_config(port, &stores().legacy, &stores().new, &["pageviews"]);
        format!("{text}limits: {{ connect_timeout: 1s, max_connections: 3, idle_timeout: 2s }}\n")
    });
    let begun = Instant::now();
    let mut raw = Raw::connect(proxy.port);
    raw.until_closed();
    assert!(begun.elapsed() < Duration::from_secs(8));
    // full
    let _held: Vec<Raw> = (0..3).map(|_| Raw::app(proxy.port, ORDINARY, "")).collect();
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", proxy.port)).unwrap();
    let (_, payload) = read_packet(&mut socket).expect("an error in place of a greeting");
    let error = ErrPacket::read(&payload).unwrap();
    assert_eq!((error.code, error.sqlstate), (1040, None));
    assert_eq!(payload.get(3..), Some(&b"Too many connections"[..]), "{HEADER}");
    // idle for too long
    let mut idle = _held;
    idle[0].until_closed();
}
