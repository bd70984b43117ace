//! Free ports on loopback, from below the range that outgoing connections take theirs from: a port that was only found
//! free by binding port 0 is soon somebody's local port when tests open thousands of connections.

use std::io::{Read, Seek, Write};
use std::net::TcpListener;

use super::place;

const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// A port that nothing listens on and that no other test was given lately.
pub fn free() -> u16 {
    let mut file = place::lock_file("next_port");
    file.lock().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let mut port = text.trim().parse().unwrap_or(FIRST + (std::process::id() % 10_000) as u16);
    loop {
        port = if (FIRST..LAST).contains(&port) { port + 1 } else { FIRST };
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break;
        }
    }
    file.rewind().unwrap();
    file.set_len(0).unwrap();
    write!(file, "{port}").unwrap();
    port
}
