//! Byte fidelity (invariant 8): what a client receives through the proxy is, to the byte, what it receives from the store.

use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Proxy, stores};

/// Texts of every shape of response; each runs on both connections, in this order.
const TEXTS: &[&str] = &[
    "CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, a VARCHAR(300), b BLOB, c DECIMAL(20,5), d DATETIME(6), e ENUM('x','y'), f BIT(9), g JSON, h GEOMETRY, i DOUBLE, j YEAR, k TIME(3)) ENGINE=InnoDB",
    "INSERT INTO t (a, b, c, d, e, f, i, j, k) VALUES ('ä', x'00ff', 1.5, '2020-02-03 04:05:06.789', 'y', b'101', 1e100, 1999, '-11:22:33.444'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    "SELECT * FROM t",
    "SELECT * FROM t WHERE 0",
    "SELECT LAST_INSERT_ID(), ROW_COUNT(), FOUND_ROWS()",
    "UPDATE t SET a = 'b' WHERE id = 1",
    "UPDATE t SET a = 'b' WHERE id = 1",
    "INSERT INTO t (id, a) VALUES (1, 'dup')",
    "INSERT IGNORE INTO t (id, a) VALUES (1, 'dup')",
    "SHOW WARNINGS",
    "SELECT * FROM nope",
    "SELEKT 1",
    "SHOW ERRORS",
    "DELETE FROM t WHERE id = 2",
    "SELECT REPEAT('x', 300), REPEAT('y', 70000)",
    "SELECT seq, REPEAT('z', 100) FROM seq_1_to_3000",
    "BEGIN",
    "SELECT id FROM t",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "SET autocommit = 0",
    "SELECT COUNT(*) FROM t",
    "SET autocommit = 1",
    "SET sql_mode = 'NO_BACKSLASH_ESCAPES'",
    "SELECT '\\'",
    "SET sql_mode = DEFAULT",
    "SET NAMES latin1",
    "SELECT a FROM t",
    "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_520_ci",
    "SELECT 1; SELECT 2; INSERT INTO t (a) VALUES ('m'); SELECT nope; SELECT 3",
    "SELECT 1;;",
    "CREATE PROCEDURE p(INOUT x INT) BEGIN SELECT 1; SELECT 2, 3; SET x = 4; END",
    "SET @x = 1",
    "CALL p(@x)",
    "SELECT @x",
    "BEGIN NOT ATOMIC DECLARE v INT DEFAULT 1; SELECT v; END",
    "PREPARE s FROM 'SELECT ? + 1'",
    "EXECUTE s USING @x",
    "DEALLOCATE PREPARE s",
    "EXPLAIN SELECT * FROM t",
    "DESCRIBE t",
    "SHOW CREATE TABLE t",
    "CHECK TABLE t",
    "ANALYZE TABLE t",
    "HANDLER t OPEN",
    "HANDLER t READ FIRST",
    "HANDLER t CLOSE",
    "LOCK TABLES t READ",
    "INSERT INTO t (a) VALUES ('locked')",
    "UNLOCK TABLES",
    "XA START 'f'",
    "XA END 'f'",
    "XA ROLLBACK 'f'",
    "START TRANSACTION READ ONLY",
    "INSERT INTO t (a) VALUES ('ro')",
    "COMMIT",
    "SET STATEMENT max_statement_time = 1 FOR SELECT 1",
    "SELECT SLEEP(0)",
    "DO 1",
    "INSERT INTO t (a) VALUES ('r') RETURNING id, a",
    "KILL 999999999",
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'mine'",
    "",
    "-- nothing",
    "/* nothing */",
    "DROP PROCEDURE p",
    "DROP TABLE t",
];

fn compare(capabilities: Capabilities) {
    let (one, two) = (stores().database(), stores().database());
    let proxy = Proxy::pair(&["pageviews"]);
    let mut direct = Raw::app(stores().legacy.port, capabilities, &one.name);
    let mut proxied = Raw::app(proxy.port, capabilities, &two.name);
    assert_eq!(direct.capabilities, proxied.capabilities);
    for text in TEXTS {
        // XA ids are the server's, not the database's
        let a = direct.query(&text.replace("'f'", &format!("'{}'", one.name)));
        let b = proxied.query(&text.replace("'f'", &format!("'{}'", two.name)));
        let (a, b) = (plain(a, &one.name), plain(b, &two.name));
        assert_eq!(a, b, "{text}");
    }
    for (command, argument, expect) in [
        (0x0e, &b""[..], Expect::Ok),
        (0x1b, &[1, 0][..], Expect::Ok),
        (0x1b, &[0, 0][..], Expect::Ok),
        (0x99, &b""[..], Expect::Ok),
        (0x1f, &b""[..], Expect::Ok),
    ] {
        direct.send(command, argument);
        proxied.send(command, argument);
        assert_eq!(direct.response(expect), proxied.response(expect), "command {command:#x}");
    }
}

/// The databases differ by name; the names are of the same length but for the counter.
fn plain(packets: Vec<(u8, Vec<u8>)>, database: &str) -> Vec<(u8, Vec<u8>)> {
    let name = database.as_bytes();
    packets
        .into_iter()
        .map(|(sequence, mut payload)| {
            while let Some(at) = payload.windows(name.len()).position(|w| w == name) {
                payload.splice(at..at + name.len(), vec![b'#'; name.len()]);
            }
            (sequence, payload)
        })
        .collect()
}

#[test]
fn responses_are_the_same_to_the_byte() {
    compare(ORDINARY);
}

#[test]
fn without_eof_packets_too() {
    compare(ORDINARY | Capabilities::DEPRECATE_EOF);
}

#[test]
fn with_session_tracking_and_found_rows_too() {
    compare(ORDINARY | Capabilities::SESSION_TRACK | Capabilities::FOUND_ROWS | Capabilities::DEPRECATE_EOF);
}

#[test]
fn as_a_mariadb_client_too() {
    let mariadb = (ORDINARY - Capabilities::LONG_PASSWORD)
        | Capabilities::MARIADB_PROGRESS
        | Capabilities::MARIADB_STMT_BULK_OPERATIONS
        | Capabilities::MARIADB_EXTENDED_TYPE_INFO
        | Capabilities::DEPRECATE_EOF;
    compare(mariadb);
}

/// Prepares on one connection, executes with the given tail, and returns all packets; ids are taken out.
fn prepared(raw: &mut Raw, sql: &str, tails: &[&[u8]]) -> Vec<Vec<(u8, Vec<u8>)>> {
    raw.send(0x16, sql.as_bytes());
    let mut all = vec![raw.response(Expect::Prepare)];
    let id: Vec<u8> = all[0][0].1[1..5].to_vec();
    all[0][0].1[1..5].fill(0);
    for tail in tails {
        raw.send(0x17, &[&id, *tail].concat());
        all.push(raw.response(Expect::Results));
    }
    raw.send(0x1a, &id);
    all.push(raw.response(Expect::Ok));
    raw.send(0x19, &id);
    all
}

#[test]
fn the_binary_protocol_is_the_same_to_the_byte() {
    let database = stores().database();
    let proxy = Proxy::pair(&["pageviews"]);
    for capabilities in [ORDINARY, ORDINARY | Capabilities::DEPRECATE_EOF] {
        let mut direct = Raw::app(stores().legacy.port, capabilities, &database.name);
        let mut proxied = Raw::app(proxy.port, capabilities, &database.name);
        let no_parameters: &[u8] = &[0, 1, 0, 0, 0];
        let cursor: &[u8] = &[1, 1, 0, 0, 0];
        let one: &[u8] = &[0, 1, 0, 0, 0, 0, 1, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        let again: &[u8] = &[0, 1, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
        for (sql, tails) in [
            ("SELECT 1, 'a', NULL", vec![no_parameters, cursor]),
            ("SELECT ? + 1", vec![one, again]),
            ("SELECT * FROM nope", vec![]),
            ("DO 1", vec![no_parameters]),
            ("SELECT seq, REPEAT('x', 200) FROM seq_1_to_2000", vec![no_parameters]),
        ] {
            assert_eq!(prepared(&mut direct, sql, &tails), prepared(&mut proxied, sql, &tails), "{sql}");
        }
    }
}

#[test]
fn statements_and_results_beyond_16_mb_pass() {
    let database = stores().database();
    let proxy = Proxy::pair(&["pageviews"]);
    let mut raw = Raw::app(proxy.port, ORDINARY, &database.name);
    // payloads of one packet less, exactly one and two, and a little more
    for length in [0xFF_FFFE, 0xFF_FFFF, 0x100_0000, 2 * 0xFF_FFFF, 2 * 0xFF_FFFF + 5] {
        let head = "SELECT LENGTH('";
        let sql = format!("{head}{}')", "x".repeat(length - 1 - head.len() - 2));
        let expected = (length - 1 - head.len() - 2).to_string();
        let packets = raw.query(&sql);
        assert!(packets.iter().any(|(_, p)| p.ends_with(expected.as_bytes())), "{length}: {:?}", Raw::error(&packets));
    }
    let packets = raw.query("SELECT REPEAT('x', 40000000)");
    assert_eq!(packets.iter().map(|(_, p)| p.len()).filter(|n| *n > 1000).sum::<usize>(), 40_000_000 + 9);
    assert!(Raw::error(&raw.query("SELECT 1")).is_none());
}
