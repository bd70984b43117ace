//! Rules 13 and 14: prepared statements, by bare packets: what drivers may do and few do.
//!
//! In `cached_columns.rs`: the columns that a client keeps. In `routing.rs`: a statement follows the flag and leaves nothing behind.
//! In `fidelity.rs`: the binary protocol to the byte.

use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, eventually, stores};

const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;
const LONG_DATA: u8 = 0x18;
const CLOSE: u8 = 0x19;
const FETCH: u8 = 0x1c;
const BULK_EXECUTE: u8 = 0xfa;
const LAST: [u8; 4] = [0xFF; 4];

type Packets = Vec<(u8, Vec<u8>)>;

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, n BIGINT, s LONGTEXT, server INT)");
    database.on_both("INSERT INTO hits (n, s, server) VALUES (1, 'a', @@server_id), (2, 'b', @@server_id)");
    (database, Proxy::pair(&["hits"]))
}

fn prepare(raw: &mut Raw, sql: &str) -> [u8; 4] {
    raw.send(PREPARE, sql.as_bytes());
    let packets = raw.response(Expect::Prepare);
    assert!(Raw::error(&packets).is_none(), "{sql}: {:?}", Raw::error(&packets));
    packets[0].1[1..5].try_into().unwrap()
}

/// Flags 0, one iteration, and the rest.
fn execute(raw: &mut Raw, id: [u8; 4], tail: &[u8]) -> Packets {
    raw.send(EXECUTE, &[&id, &[0, 1, 0, 0, 0][..], tail].concat());
    raw.response(Expect::Results)
}

/// The rows of a response with EOF packets: what stands between the two of them.
fn rows(packets: &Packets) -> Vec<&[u8]> {
    assert!(Raw::error(packets).is_none(), "{:?}", Raw::error(packets));
    let ends: Vec<usize> =
        (0..packets.len()).filter(|i| packets[*i].1.len() == 5 && packets[*i].1[0] == 0xFE).collect();
    packets[ends[0] + 1..ends[1]].iter().map(|(_, payload)| payload.as_slice()).collect()
}

/// No NULLs, types follow: one of LONGLONG, and its value.
fn typed(value: i64) -> Vec<u8> {
    [&[0, 1, 8, 0][..], &value.to_le_bytes()].concat()
}

/// No NULLs, the types of before, a value.
fn untyped(value: i64) -> Vec<u8> {
    [&[0, 0][..], &value.to_le_bytes()].concat()
}

#[test]
fn rule_13_types_that_were_sent_once_hold_on_the_next_store() {
    let (database, proxy) = ground();
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    let id = prepare(&mut raw, "SELECT server, ? + n FROM hits WHERE id = 1");
    // header, NULL bitmap, INT, BIGINT
    let row = |server: u8, sum: u8| vec![0, 0, server, 0, 0, 0, sum, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(rows(&execute(&mut raw, id, &typed(40))), [row(1, 41)]);
    assert_eq!(rows(&execute(&mut raw, id, &untyped(50))), [row(1, 51)]);
    proxy.flag("analytics", "new");
    assert_eq!(rows(&execute(&mut raw, id, &untyped(60))), [row(2, 61)], "1210 means: the types did not travel");
    assert_eq!(rows(&execute(&mut raw, id, &untyped(70))), [row(2, 71)]);
}

#[test]
fn rule_13_types_that_changed_hold_where_the_statement_was_before() {
    let (database, proxy) = ground();
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    let id = prepare(&mut raw, "SELECT server, ? + n FROM hits WHERE id = 1");
    let row = |server: u8, sum: u8| vec![0, 0, server, 0, 0, 0, sum, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(rows(&execute(&mut raw, id, &typed(40))), [row(1, 41)]);
    proxy.flag("analytics", "new");
    let short = [0, 1, 2, 0, 80, 0];
    assert_eq!(rows(&execute(&mut raw, id, &short)), [row(2, 81)]);
    proxy.flag("analytics", "legacy");
    assert_eq!(rows(&execute(&mut raw, id, &[0, 0, 90, 0])), [row(1, 91)]);
}

#[test]
fn rule_14_minus_one_is_the_statement_prepared_last() {
    let (database, proxy) = ground();
    for store in ["legacy", "new"] {
        proxy.flag("analytics", store);
        let server = if store == "new" { 2 } else { 1 };
        let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
        prepare(&mut raw, "SELECT 1");
        prepare(&mut raw, "SELECT server FROM hits WHERE id = ?");
        assert_eq!(rows(&execute(&mut raw, LAST, &typed(1))), [vec![0, 0, server, 0, 0, 0]]);
        // a flip in between is none of the client's business
        let (other, there) = if store == "new" { ("legacy", 1) } else { ("new", 2) };
        proxy.flag("analytics", other);
        assert_eq!(rows(&execute(&mut raw, LAST, &typed(1))), [vec![0, 0, there, 0, 0, 0]]);
        raw.send(CLOSE, &LAST);
        assert_eq!(Raw::error(&execute(&mut raw, LAST, &typed(1))).unwrap().code, 1243);
    }
    // without types, MariaDB takes it for malformed, whatever it was sent before
    for port in [stores().legacy.port, proxy.port] {
        let mut raw = Raw::app(port, ORDINARY, &database.name);
        let id = prepare(&mut raw, "SELECT server FROM hits WHERE id = ?");
        for tail in [&[][..], &[1], &[0, 0], &untyped(1)] {
            let error = Raw::error(&execute(&mut raw, LAST, tail)).unwrap();
            assert_eq!(
                (error.code, error.message.as_slice()),
                (1835, &b"Malformed communication packet"[..]),
                "{tail:?}"
            );
        }
        assert_eq!(rows(&execute(&mut raw, LAST, &typed(1))).len(), 1);
        assert_eq!(Raw::error(&execute(&mut raw, LAST, &untyped(1))).unwrap().code, 1835);
        assert_eq!(rows(&execute(&mut raw, id, &untyped(1))).len(), 1);
    }
    // a PREPARE that failed leaves none
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    prepare(&mut raw, "SELECT 1");
    raw.send(PREPARE, b"SELECT nope FROM hits");
    raw.response(Expect::Prepare);
    assert_eq!(Raw::error(&execute(&mut raw, LAST, &[])).unwrap().code, 1243);
}

#[test]
fn rule_14_bulk_executes_follow_the_flag() {
    let (database, proxy) = ground();
    let mariadb = (ORDINARY - Capabilities::LONG_PASSWORD) | Capabilities::MARIADB_STMT_BULK_OPERATIONS;
    let mut raw = Raw::app(proxy.port, mariadb, &database.name);
    assert!(raw.capabilities.contains(Capabilities::MARIADB_STMT_BULK_OPERATIONS), "{:?}", raw.capabilities);
    let id = prepare(&mut raw, "INSERT INTO hits (n) VALUES (?)");
    // each row: an indicator (0: a value follows, 1: NULL) and the value
    let row = |value: i64| [&[0][..], &value.to_le_bytes()].concat();
    let two = [row(10), row(11), vec![1]].concat();
    raw.send(BULK_EXECUTE, &[&id, &[128, 0, 8, 0][..], &two].concat());
    let packets = raw.response(Expect::Results);
    assert!(Raw::error(&packets).is_none(), "{:?}", Raw::error(&packets));
    proxy.flag("analytics", "new");
    // without types: those of before
    raw.send(BULK_EXECUTE, &[&id, &[0, 0][..], &two].concat());
    let packets = raw.response(Expect::Results);
    assert!(Raw::error(&packets).is_none(), "{:?}", Raw::error(&packets));
    let sql = "SELECT COUNT(*), SUM(n) FROM hits WHERE id > 2";
    assert_eq!(database.on_legacy(sql), [["3", "21"]]);
    assert_eq!(database.on_new(sql), [["3", "21"]]);
}

#[test]
fn rule_14_long_data_waits_for_the_execute_and_goes_where_that_goes() {
    let (database, proxy) = ground();
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    let id = prepare(&mut raw, "INSERT INTO hits (s) VALUES (?)");
    for part in ["long ", "data"] {
        raw.send(LONG_DATA, &[&id, &[0, 0][..], part.as_bytes()].concat());
    }
    // the flag moves between the data and the execute
    proxy.flag("analytics", "new");
    let packets = execute(&mut raw, id, &[0, 1, 0xFC, 0]);
    assert!(Raw::error(&packets).is_none(), "{:?}", Raw::error(&packets));
    assert_eq!(database.on_new("SELECT s FROM hits WHERE id > 2"), [["long data"]]);
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM hits WHERE id > 2"), [["0"]]);
    // it is used up
    let packets = execute(&mut raw, id, &[0, 1, 0xFE, 0, 1, b'x']);
    assert!(Raw::error(&packets).is_none(), "{:?}", Raw::error(&packets));
    assert_eq!(database.on_new("SELECT s FROM hits WHERE s = 'x'"), [["x"]]);
}

#[test]
fn rule_14_an_open_cursor_is_read_to_its_end_on_the_store_where_it_was_opened() {
    let (database, proxy) = ground();
    let before = [&stores().legacy, &stores().new].map(|store| store.sessions_in(&database.name));
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    let id = prepare(&mut raw, "SELECT server FROM hits ORDER BY id");
    raw.send(EXECUTE, &[&id, &[1, 1, 0, 0, 0][..]].concat());
    assert!(Raw::error(&raw.response(Expect::Cursor)).is_none());
    let fetch = |raw: &mut Raw| {
        raw.send(FETCH, &[&id, &[1, 0, 0, 0][..]].concat());
        raw.response(Expect::Fetch)[0].1.clone()
    };
    assert_eq!(fetch(&mut raw), [0, 0, 1, 0, 0, 0]);
    proxy.flag_at_once("analytics", "new");
    assert!(Raw::error(&raw.query("SELECT server FROM hits")).is_none());
    assert_eq!(fetch(&mut raw), [0, 0, 1, 0, 0, 0], "the second row is the new store's");
    drop(raw);
    // a pool keeps its connections
    eventually("no connection is left", || {
        [&stores().legacy, &stores().new].map(|store| store.sessions_in(&database.name)) == before
            || crate::support::proxy::in_transaction_mode()
    });
}

#[test]
fn rule_14_what_cannot_be_relayed_is_not_offered() {
    let (_database, proxy) = ground();
    let offered = Raw::connect(proxy.port).greeting.capabilities;
    let direct = Raw::connect(stores().legacy.port).greeting.capabilities;
    for (name, flag) in
        [("QUERY_ATTRIBUTES", Capabilities::QUERY_ATTRIBUTES), ("ZSTD_COMPRESSION", Capabilities::ZSTD_COMPRESSION)]
    {
        assert!(!offered.contains(flag), "{name} is offered");
    }
    // what clients keep of a statement (cached_columns.rs) holds on one connection only
    let cached = Capabilities::MARIADB_CACHE_METADATA;
    assert_eq!(offered.contains(cached), direct.contains(cached) && !crate::support::proxy::in_transaction_mode());
    assert!((offered - Capabilities::SSL - direct).is_empty(), "more than the store has: {:?}", offered - direct);
}
