//! The reply state machine: a stream that is fed in any pieces gives what it gives in one, and no more is consumed than is there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use switchover::wire::Capabilities;
use switchover::wire::reply::{Event, Expect, Outcome, Reply};

/// Where it stopped, at what, and what it learned.
type End = (usize, Result<Event, ()>, Outcome);

fn whole(bytes: &[u8], mut reply: Reply) -> End {
    let mut at = 0;
    loop {
        match reply.feed(&bytes[at..]) {
            Err(_) => return (at, Err(()), *reply.outcome()),
            Ok(step) => {
                at += step.consumed;
                assert!(at <= bytes.len(), "consumed what is not there");
                match step.event {
                    Event::LocalInfile if step.consumed > 0 => {}
                    event => return (at, Ok(event), *reply.outcome()),
                }
            }
        }
    }
}

/// Bytes arrive in pieces of the given lengths; what was not consumed is offered again with the next piece.
fn pieces(bytes: &[u8], lengths: &[u8], mut reply: Reply) -> End {
    let (mut at, mut arrived, mut turn) = (0, 0, 0);
    loop {
        let last = arrived == bytes.len();
        match reply.feed(&bytes[at..arrived]) {
            Err(_) => return (at, Err(()), *reply.outcome()),
            Ok(step) => {
                at += step.consumed;
                assert!(at <= arrived, "consumed what has not arrived");
                match step.event {
                    Event::More if !last => {}
                    Event::LocalInfile if step.consumed > 0 => continue,
                    event => return (at, Ok(event), *reply.outcome()),
                }
            }
        }
        let length = lengths.get(turn % lengths.len().max(1)).map_or(1, |l| usize::from(*l) + 1);
        turn += 1;
        arrived = (arrived + length).min(bytes.len());
    }
}

fuzz_target!(|data: &[u8]| {
    let [expect, flags, count, rest @ ..] = data else { return };
    let expect = match expect % 7 {
        0 => Expect::Results,
        1 => Expect::Cursor,
        2 => Expect::Prepare,
        3 => Expect::FieldList,
        4 => Expect::Fetch,
        5 => Expect::Text,
        _ => Expect::Ok,
    };
    let mut capabilities = Capabilities::PROTOCOL_41;
    for (bit, capability) in [
        Capabilities::DEPRECATE_EOF,
        Capabilities::SESSION_TRACK,
        Capabilities::MARIADB_PROGRESS,
        Capabilities::MARIADB_EXTENDED_TYPE_INFO,
    ]
    .into_iter()
    .enumerate()
    {
        capabilities.set(capability, flags & (1 << bit) != 0);
    }
    let (lengths, bytes) = rest.split_at(usize::from(count % 8).min(rest.len()));
    let reply = || {
        let mut reply = Reply::new(expect, capabilities);
        reply.hold_errors(flags & 0x80 != 0);
        reply
    };
    let (one, other) = (whole(bytes, reply()), pieces(bytes, lengths, reply()));
    assert_eq!(one.1, other.1, "{expect:?}");
    if one.1.is_ok() {
        assert_eq!((one.0, one.2), (other.0, other.2), "{expect:?}");
    }
});
