//! A change log's events, any bytes: they come out as whole transactions, a stop or a lost connection, and in bounded memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchover::changes::binlog::assemble::Assembler;
use switchover::changes::{Interest, Item, Tables};

struct Every;

impl Tables for Every {
    fn interest(&self, database: &str, _: &str) -> Interest {
        match database {
            "switchover" => Interest::Mark,
            "other" => Interest::Other,
            _ => Interest::Group,
        }
    }

    fn any_in(&self, _: &str) -> bool {
        true
    }
}

fuzz_target!(|data: &[u8]| {
    let [mode, rest @ ..] = data else { return };
    let from = if mode & 1 == 0 { "0-1-1" } else { "b.000001:4" };
    let mut assembler = Assembler::new(from.parse().expect("a position"), Box::new(Every));
    // a length byte, a type, then a body: headers are made, so that bodies are reached
    let mut rest = rest;
    while let [length, code, tail @ ..] = rest {
        let (body, after) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = after;
        let mut event = vec![0, 0, 0, 0, *code, 1, 0, 0, 0];
        event.extend(u32::try_from(19 + body.len()).expect("short").to_le_bytes());
        event.extend([0; 6]);
        event.extend(body);
        match assembler.push(&event) {
            Ok(Some(Item::Transaction(t))) => assert!(!t.changes.is_empty()),
            Ok(_) => {}
            Err(_) => return,
        }
    }
});
