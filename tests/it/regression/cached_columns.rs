//! Rule 14: columns that a client keeps for a prepared statement (MARIADB_CLIENT_CACHE_METADATA) are those of the store that answers.

use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use crate::support::proxy::in_transaction_mode;
use crate::support::raw::{ORDINARY, Raw, plain};
use crate::support::{Database, Proxy, stores};

const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONGLONG: u8 = 8;
const STRING: u8 = 0xFD;
/// What a column count is followed by.
const LEFT_OUT: u8 = 0;
const FOLLOW: u8 = 1;

type Packets = Vec<(u8, Vec<u8>)>;

/// A table whose column is a BIGINT on the legacy store, and text on the new one.
fn ground() -> (Database, Proxy) {
    let database = stores().database();
    database.on_legacy("CREATE TABLE hits (id INT PRIMARY KEY, n BIGINT)");
    database.on_new("CREATE TABLE hits (id INT PRIMARY KEY, n VARCHAR(20))");
    database.on_both("INSERT INTO hits VALUES (1, 70), (2, 71)");
    (database, Proxy::pair(&["hits"]))
}

/// Clients that read EOF packets, and clients that do not.
fn wanted(deprecate_eof: bool) -> Capabilities {
    let mut wanted = (ORDINARY - Capabilities::LONG_PASSWORD) | Capabilities::MARIADB_CACHE_METADATA;
    wanted.set(Capabilities::DEPRECATE_EOF, deprecate_eof);
    wanted
}

fn prepare(raw: &mut Raw, sql: &str) -> [u8; 4] {
    raw.send(PREPARE, sql.as_bytes());
    let packets = raw.response(Expect::Prepare);
    assert!(Raw::error(&packets).is_none(), "{sql}: {:?}", Raw::error(&packets));
    packets[0].1[1..5].try_into().unwrap()
}

/// With `cursor`, opens one; no parameters but those in `tail`.
fn execute(raw: &mut Raw, id: [u8; 4], cursor: bool, tail: &[u8]) -> Packets {
    raw.send(EXECUTE, &[&id, &[u8::from(cursor), 1, 0, 0, 0][..], tail].concat());
    let packets = raw.response(if cursor { Expect::Cursor } else { Expect::Results });
    let numbers: Vec<u8> = packets.iter().map(|(sequence, _)| *sequence).collect();
    assert_eq!(numbers, (1..).take(packets.len()).collect::<Vec<u8>>(), "{packets:?}");
    packets
}

/// The type of the second of two columns, if they were sent.
fn second_type(packets: &Packets) -> Option<u8> {
    assert!(Raw::error(packets).is_none(), "{:?}", Raw::error(packets));
    match packets[0].1[..] {
        [2, LEFT_OUT] => None,
        // behind the type: flags, decimals and two bytes of filling
        [2, FOLLOW] => Some(packets[2].1[packets[2].1.len() - 6]),
        _ => panic!("{packets:?}"),
    }
}

#[test]
fn they_are_sent_again_where_a_statement_has_moved() {
    if in_transaction_mode() {
        return;
    }
    let (database, proxy) = ground();
    for deprecate_eof in [false, true] {
        let mut raw = Raw::app(proxy.port, wanted(deprecate_eof), &database.name);
        let id = prepare(&mut raw, "SELECT id, n FROM hits");
        for (store, kind) in [("legacy", None), ("new", Some(STRING)), ("legacy", Some(LONGLONG))] {
            proxy.flag("analytics", store);
            assert_eq!(second_type(&execute(&mut raw, id, false, &[])), kind, "{store}");
            assert_eq!(second_type(&execute(&mut raw, id, false, &[])), None, "{store}, the second time");
        }
    }
}

#[test]
fn an_execute_that_fails_brings_none() {
    if in_transaction_mode() {
        return;
    }
    let (database, proxy) = ground();
    let mut raw = Raw::app(proxy.port, wanted(true), &database.name);
    let id = prepare(&mut raw, "SELECT id, n FROM hits WHERE id = (SELECT id FROM hits WHERE id < ?)");
    let below = |value: u8| [0, 1, 1, 0, value];
    assert_eq!(second_type(&execute(&mut raw, id, false, &below(2))), None);
    proxy.flag("analytics", "new");
    assert_eq!(Raw::error(&execute(&mut raw, id, false, &below(9))).unwrap().code, 1242);
    assert_eq!(second_type(&execute(&mut raw, id, false, &below(2))), Some(STRING));
    assert_eq!(second_type(&execute(&mut raw, id, false, &below(2))), None);
}

#[test]
fn on_one_store_all_is_as_it_sends_it() {
    if in_transaction_mode() {
        return;
    }
    let (database, proxy) = ground();
    let run = |port: u16, deprecate_eof: bool| {
        let mut raw = Raw::app(port, wanted(deprecate_eof), &database.name);
        let id = prepare(&mut raw, "SELECT id, n FROM hits");
        let mut all = vec![execute(&mut raw, id, false, &[])];
        all.push(raw.query("ALTER TABLE hits ADD m INT DEFAULT 3, MODIFY n DECIMAL(9, 2)"));
        all.push(execute(&mut raw, id, false, &[]));
        all.push(raw.query("SELECT id, n FROM hits; SELECT 1"));
        all.push(execute(&mut raw, id, false, &[]));
        all.push(raw.query("ALTER TABLE hits DROP m, MODIFY n BIGINT"));
        // a cursor's columns are those of its temporary table
        all.push(execute(&mut raw, id, true, &[]));
        all.push(execute(&mut raw, id, true, &[]));
        let id = prepare(&mut raw, "INSERT INTO hits VALUES (3, 3) RETURNING n");
        all.push(execute(&mut raw, id, false, &[]));
        all.push(raw.query("DELETE FROM hits WHERE id = 3"));
        all.into_iter().map(|packets| plain(packets, &database.name)).collect::<Vec<_>>()
    };
    for deprecate_eof in [false, true] {
        assert_eq!(run(proxy.port, deprecate_eof), run(stores().legacy.port, deprecate_eof));
    }
}
