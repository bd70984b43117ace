//! Recorded writes whose text is not all of them: prepared statements of the binary protocol, dynamic SQL, several statements in
//! one text.

use std::collections::HashMap;

use mysql_async::Value;
use mysql_async::prelude::Queryable;
use switchover::changes::journal::Ids;
use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use super::journal::{START, WITHOUT_BINLOG, catch_up, kept_with};
use super::recorded::{SCHEMA, emptied, show};
use super::statements;
use super::workload::Dice;
use crate::support::PrivateServer;
use crate::support::raw::{ORDINARY, Raw};

/// A parameter.
#[derive(Clone, Copy)]
enum P {
    Null,
    Int(i64),
    Tiny(i8),
    Unsigned(u64),
    Double(f64),
    Float(f32),
    Text(&'static str),
    Bytes(&'static [u8]),
    Blob(&'static [u8]),
    /// By COM_STMT_SEND_LONG_DATA, in two parts.
    Long(&'static str),
    Decimal(&'static str),
    Date(u16, u8, u8),
    Moment(u16, u8, u8, [u8; 3], u32),
    Time(bool, u32, [u8; 3]),
}

impl P {
    fn kind(self) -> [u8; 2] {
        match self {
            P::Null => [6, 0],
            P::Int(_) => [8, 0],
            P::Tiny(_) => [1, 0],
            P::Unsigned(_) => [8, 0x80],
            P::Double(_) => [5, 0],
            P::Float(_) => [4, 0],
            P::Text(_) | P::Bytes(_) => [253, 0],
            P::Blob(_) | P::Long(_) => [252, 0],
            P::Decimal(_) => [246, 0],
            P::Date(..) => [10, 0],
            P::Moment(..) => [12, 0],
            P::Time(..) => [11, 0],
        }
    }

    fn put(self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, bytes: &[u8]| switchover::wire::codec::put_lenenc_bytes(out, bytes);
        match self {
            P::Null | P::Long(_) => {}
            P::Int(v) => out.extend(v.to_le_bytes()),
            P::Tiny(v) => out.extend(v.to_le_bytes()),
            P::Unsigned(v) => out.extend(v.to_le_bytes()),
            P::Double(v) => out.extend(v.to_le_bytes()),
            P::Float(v) => out.extend(v.to_le_bytes()),
            P::Text(v) | P::Decimal(v) => text(out, v.as_bytes()),
            P::Bytes(v) | P::Blob(v) => text(out, v),
            P::Date(y, m, d) => {
                out.push(4);
                out.extend(y.to_le_bytes());
                out.extend([m, d]);
            }
            P::Moment(y, m, d, time, micros) => {
                out.push(11);
                out.extend(y.to_le_bytes());
                out.extend([m, d]);
                out.extend(time);
                out.extend(micros.to_le_bytes());
            }
            P::Time(minus, days, time) => {
                out.extend([8, u8::from(minus)]);
                out.extend(days.to_le_bytes());
                out.extend(time);
            }
        }
    }
}

/// A client's prepared statements.
struct Prepared {
    raw: Raw,
    /// Ids, and the types that were sent last.
    ids: HashMap<&'static str, (u32, Vec<[u8; 2]>)>,
}

impl Prepared {
    fn new(raw: Raw) -> Prepared {
        Prepared { raw, ids: HashMap::new() }
    }

    /// COM_STMT_PREPARE where it was not, COM_STMT_EXECUTE; the packets of both.
    fn run(&mut self, sql: &'static str, values: &[P]) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        if !self.ids.contains_key(sql) {
            self.raw.send(0x16, sql.as_bytes());
            let mut packets = self.raw.response(Expect::Prepare);
            let first = &mut packets[0].1;
            if first[0] == 0xFF {
                return packets;
            }
            self.ids.insert(sql, (u32::from_le_bytes(first[1..5].try_into().unwrap()), Vec::new()));
            first[1..5].fill(0);
            all.extend(packets);
        }
        let (id, types) = self.ids.get_mut(sql).unwrap();
        for (n, value) in values.iter().enumerate() {
            if let P::Long(text) = value {
                for part in text.as_bytes().chunks(text.len().div_ceil(2).max(1)) {
                    let head = [&id.to_le_bytes()[..], &u16::try_from(n).unwrap().to_le_bytes()].concat();
                    self.raw.send(0x18, &[&head, part].concat());
                }
            }
        }
        let mut p = id.to_le_bytes().to_vec();
        p.extend([0, 1, 0, 0, 0]);
        if !values.is_empty() {
            let mut nulls = vec![0u8; values.len().div_ceil(8)];
            for (n, value) in values.iter().enumerate() {
                nulls[n / 8] |= u8::from(matches!(value, P::Null)) << (n % 8);
            }
            p.extend(nulls);
            // as drivers do: types only where they are others than before
            let now: Vec<[u8; 2]> = values.iter().map(|v| v.kind()).collect();
            p.push(u8::from(*types != now));
            if *types != now {
                p.extend(now.concat());
                *types = now;
            }
            values.iter().for_each(|v| v.put(&mut p));
        }
        self.raw.send(0x17, &p);
        all.extend(self.raw.response(Expect::Results));
        all
    }
}

const INSERT: &str = "INSERT INTO t (id, n, v, d, f, e, ts) VALUES (?, ?, ?, ?, ?, ?, ?)";
const UPDATE: &str = "UPDATE t SET n = ?, v = ? WHERE id = ?";

/// What runs as text between (no parameters, `T`), and what is prepared.
type Step = (&'static str, Option<&'static [P]>);

const STEPS: &[Step] = &[
    ("SELECT SQL_CALC_FOUND_ROWS seq FROM seq_1_to_9 LIMIT 2", None),
    ("INSERT INTO t (n, v) VALUES (?, ?)", Some(&[P::Int(1), P::Text("é'\\;")])),
    ("SELECT ROW_COUNT(), FOUND_ROWS(), LAST_INSERT_ID()", Some(&[])),
    ("INSERT INTO t (n, v) VALUES (?, ?)", Some(&[P::Int(-7), P::Text("second")])),
    ("SELECT ROW_COUNT()", None),
    ("SELECT FOUND_ROWS() AS x, ?", Some(&[P::Int(4)])),
    (
        INSERT,
        Some(&[
            P::Int(100),
            P::Tiny(-3),
            P::Text("abc"),
            P::Moment(2020, 2, 29, [1, 2, 3], 456_789),
            P::Float(0.1),
            P::Text("y"),
            P::Moment(2021, 1, 1, [0, 0, 0], 0),
        ]),
    ),
    (
        INSERT,
        Some(&[P::Text("101"), P::Double(1.5), P::Null, P::Date(2020, 2, 29), P::Double(-1e10), P::Null, P::Null]),
    ),
    (
        INSERT,
        Some(&[
            P::Unsigned(102),
            P::Decimal("2.5"),
            P::Blob(b"\xC3\xA9"),
            P::Text("2020-01-01"),
            P::Decimal("0.1"),
            P::Int(1),
            P::Null,
        ]),
    ),
    (INSERT, Some(&[P::Int(100), P::Null, P::Null, P::Null, P::Null, P::Null, P::Null])),
    ("SHOW WARNINGS", None),
    ("SELECT ROW_COUNT()", Some(&[])),
    // a date that is none is no literal: the client's own packet goes to the store
    (
        INSERT,
        Some(&[
            P::Int(103),
            P::Int(5),
            P::Text("x"),
            P::Moment(0, 0, 0, [0, 0, 0], 0),
            P::Double(0.0),
            P::Text("x"),
            P::Null,
        ]),
    ),
    (INSERT, Some(&[P::Int(104), P::Int(5), P::Bytes(b"\xE9"), P::Null, P::Double(0.0), P::Text("x"), P::Null])),
    ("SHOW WARNINGS", None),
    (INSERT, Some(&[P::Int(105), P::Int(5), P::Long("'long;'"), P::Null, P::Double(0.0), P::Text("x"), P::Null])),
    (INSERT, Some(&[P::Int(106), P::Int(5), P::Long("lo"), P::Null, P::Double(0.0), P::Text("x"), P::Null])),
    (UPDATE, Some(&[P::Int(1), P::Text("u"), P::Int(100)])),
    ("SELECT ROW_COUNT()", Some(&[])),
    (UPDATE, Some(&[P::Int(1), P::Text("u"), P::Int(100)])),
    (UPDATE, Some(&[P::Int(2), P::Text("u"), P::Text("100")])),
    (UPDATE, Some(&[P::Int(3), P::Text("much too long"), P::Int(100)])),
    ("SHOW WARNINGS", None),
    (UPDATE, Some(&[P::Int(3), P::Text("a;'/*"), P::Int(100)])),
    ("UPDATE t SET n = n + ? WHERE n > ? AND v LIKE ?", Some(&[P::Int(10), P::Double(0.5), P::Text("%")])),
    ("SELECT ROW_COUNT()", None),
    ("UPDATE t SET n = ? WHERE d = ?", Some(&[P::Int(77), P::Moment(2020, 2, 29, [1, 2, 3], 457_000)])),
    ("UPDATE t SET n = ? WHERE d <=> ?", Some(&[P::Null, P::Null])),
    ("UPDATE t SET n = ? WHERE n IN (?, ?)", Some(&[P::Int(1), P::Int(5), P::Decimal("12")])),
    ("DELETE FROM t WHERE id IN (?, ?)", Some(&[P::Int(101), P::Int(102)])),
    ("SELECT ROW_COUNT(), ?", Some(&[P::Text("a")])),
    (
        "INSERT INTO k VALUES (?, ?) ON DUPLICATE KEY UPDATE n = n + VALUES(n) + ?",
        Some(&[P::Text("a"), P::Int(1), P::Int(2)]),
    ),
    (
        "INSERT INTO k VALUES (?, ?) ON DUPLICATE KEY UPDATE n = n + VALUES(n) + ?",
        Some(&[P::Text("A"), P::Int(1), P::Int(2)]),
    ),
    ("SELECT ROW_COUNT()", None),
    ("REPLACE INTO k VALUES (?, ?), (?, ?)", Some(&[P::Text("B"), P::Int(1), P::Text("c'"), P::Int(2)])),
    ("REPLACE INTO k VALUES (?, ?), (?, ?)", Some(&[P::Text("b"), P::Int(1), P::Text("d"), P::Int(2)])),
    ("INSERT IGNORE INTO k VALUES (?, ?), (?, ?)", Some(&[P::Text("b"), P::Int(1), P::Text("e"), P::Int(2)])),
    ("SELECT ROW_COUNT()", None),
    (
        "INSERT INTO m (a, b, v, u) VALUES (?, ?, ?, ?)",
        Some(&[P::Int(1), P::Text("ab"), P::Blob(b"\0\xFF'\\"), P::Int(1)]),
    ),
    (
        "INSERT INTO m (a, b, v, u) VALUES (?, ?, ?, ?)",
        Some(&[P::Int(1), P::Blob(b"\0\0\0"), P::Long("two parts"), P::Null]),
    ),
    ("UPDATE m SET v = ? WHERE a = ? AND b = ?", Some(&[P::Text("x"), P::Int(1), P::Blob(b"ab\0")])),
    ("DELETE FROM m WHERE a = ? AND b = ?", Some(&[P::Tiny(1), P::Blob(b"\0\0\0")])),
    ("UPDATE t SET ts = ? WHERE id = ?", Some(&[P::Time(false, 0, [10, 11, 12]), P::Int(100)])),
    ("BEGIN", None),
    (UPDATE, Some(&[P::Int(4), P::Text("in"), P::Int(100)])),
    ("SELECT ROW_COUNT(), LAST_INSERT_ID()", Some(&[])),
    (UPDATE, Some(&[P::Int(4), P::Bytes(b"\xE9"), P::Int(100)])),
    ("SAVEPOINT a", None),
    (INSERT, Some(&[P::Int(100), P::Null, P::Null, P::Null, P::Null, P::Null, P::Null])),
    (INSERT, Some(&[P::Int(200), P::Null, P::Null, P::Null, P::Null, P::Null, P::Null])),
    ("ROLLBACK TO a", None),
    ("INSERT INTO t (n, v) VALUES (?, ?)", Some(&[P::Int(1), P::Text("kept")])),
    ("COMMIT", Some(&[])),
    ("SELECT ROW_COUNT()", None),
    ("SET autocommit = 0", None),
    ("INSERT INTO t (n, v) VALUES (?, ?)", Some(&[P::Int(1), P::Text("off")])),
    ("SELECT LAST_INSERT_ID()", None),
    ("COMMIT", None),
    ("SET autocommit = 1", None),
    ("SELECT id, n, v, d, f, e FROM t ORDER BY id", Some(&[])),
    ("SELECT * FROM k ORDER BY k", Some(&[])),
    ("SELECT * FROM m WHERE a = ? ORDER BY a, b", Some(&[P::Int(1)])),
    ("DELETE FROM k WHERE 1", Some(&[])),
    ("DELETE FROM k WHERE 1", Some(&[])),
];

fn prepared_alike(direct: u16, proxied: u16, capabilities: Capabilities, found: &str) {
    let mut plain = Prepared::new(Raw::app(direct, capabilities, "d"));
    let mut through = Prepared::new(Raw::app(proxied, capabilities, "d"));
    for (n, (sql, values)) in STEPS.iter().enumerate() {
        let [expected, got] = [&mut plain, &mut through].map(|client| match values {
            Some(values) => client.run(sql, values),
            None => client.raw.query(sql),
        });
        let (direct, recorded) = (show(&expected), show(&got));
        assert!(expected == got, "{found}: step {n}: {sql}\n--- direct\n{direct}\n--- recorded\n{recorded}");
    }
}

/// To the byte, for parameters of every type.
#[test]
fn prepared_writes_answer_with_the_same_bytes() {
    let direct = PrivateServer::start(13, WITHOUT_BINLOG);
    direct.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    statements(&direct, SCHEMA);
    let mut kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    for (name, more) in [
        ("ordinary", Capabilities::empty()),
        ("found rows", Capabilities::FOUND_ROWS),
        ("without EOF", Capabilities::DEPRECATE_EOF),
    ] {
        prepared_alike(direct.port, kept.proxy.port, ORDINARY | more, name);
        catch_up(&kept);
        kept.assert_same();
        kept.proxy.kill();
        emptied(&[&direct, &kept.authority, &kept.standby]);
        kept.proxy.restart();
    }
}

/// Several statements in one text, and dynamic SQL.
const SEVERAL: &[&str] = &[
    "INSERT INTO t (n, v) VALUES (1, 'a'); INSERT INTO t (n, v) VALUES (2, 'b;'), (3, 'c'); SELECT LAST_INSERT_ID(), ROW_COUNT()",
    "SELECT ROW_COUNT(), FOUND_ROWS()",
    "UPDATE t SET n = n + 1; SELECT ROW_COUNT(); DELETE FROM t WHERE n = 3; SELECT ROW_COUNT(); SELECT 1",
    "BEGIN; INSERT INTO t (id, n) VALUES (50, 1); UPDATE t SET n = 9 WHERE id = 50; COMMIT; SELECT n FROM t WHERE id = 50",
    "INSERT INTO t (id) VALUES (50); INSERT INTO t (id) VALUES (51)",
    "SHOW WARNINGS",
    "INSERT INTO t (id) VALUES (51); INSERT INTO t (id) VALUES (50); INSERT INTO t (id) VALUES (52)",
    "SET sql_mode = ''; UPDATE t SET v = 'much too long' WHERE id = 50; SHOW WARNINGS; SELECT 1",
    "SHOW WARNINGS",
    "SET sql_mode = DEFAULT; SELECT nope; DELETE FROM t",
    "BEGIN; INSERT INTO t (id) VALUES (60); SAVEPOINT a; DELETE FROM t",
    "SELECT 1; ROLLBACK TO a; INSERT INTO t (id) VALUES (61)",
    "UPDATE t SET n = 4 WHERE id = 61",
    "SAVEPOINT b",
    "UPDATE t SET n = 5 WHERE id = 61",
    "SELECT 1; SELECT 2",
    "UPDATE t SET n = 6 WHERE id = 61",
    "ROLLBACK TO b",
    "COMMIT; SELECT n FROM t WHERE id = 61",
    "PREPARE s FROM 'INSERT INTO t (id, n, v) VALUES (?, ?, ?)'",
    "SET @a = 70, @b = 1.5, @c = 'é', @n = NULL",
    "EXECUTE s USING @a, @b, @c",
    "SELECT ROW_COUNT()",
    "EXECUTE s USING @a, @b, @c",
    "SHOW WARNINGS",
    "SET @a = '71', @b = 2e0",
    "EXECUTE s USING @a, @b, @n; SELECT ROW_COUNT(); EXECUTE s USING @b, @a, @c; SELECT @a",
    "PREPARE u FROM 'UPDATE t SET n = n + ? WHERE v = ?'; EXECUTE u USING @a, @c; SELECT ROW_COUNT()",
    "DEALLOCATE PREPARE u",
    "EXECUTE IMMEDIATE 'DELETE FROM t WHERE id = ? AND n > ?' USING 70, 1",
    "SELECT ROW_COUNT(), FOUND_ROWS()",
    "SET @q = 'INSERT INTO k (k) VALUES (?)'; EXECUTE IMMEDIATE @q USING @c",
    "EXECUTE IMMEDIATE CONCAT('DELETE ', 'FROM k WHERE k = ''é''')",
    "PREPARE w FROM CONCAT('REPLACE INTO k VALUES ', '(?, 5)')",
    "EXECUTE w USING @c",
    "EXECUTE s",
    "EXECUTE IMMEDIATE 'SELECT n FROM t WHERE id = ?' USING @a",
    "SELECT id, n, v FROM t ORDER BY id; SELECT * FROM k",
];

#[test]
fn several_statements_and_dynamic_ones_answer_with_the_same_bytes() {
    let direct = PrivateServer::start(13, WITHOUT_BINLOG);
    direct.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    statements(&direct, SCHEMA);
    let mut kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    for (name, more) in [
        ("ordinary", Capabilities::empty()),
        ("found rows", Capabilities::FOUND_ROWS),
        ("without EOF", Capabilities::DEPRECATE_EOF),
    ] {
        let mut plain = Raw::app(direct.port, ORDINARY | more, "d");
        let mut through = Raw::app(kept.proxy.port, ORDINARY | more, "d");
        for text in SEVERAL {
            let (expected, got) = (plain.query(text), through.query(text));
            if *text == "EXECUTE s" {
                // another number of values than parameters: refused by whoever sees it first
                assert!(Raw::error(&expected).is_some() && Raw::error(&got).is_some(), "{text}");
                continue;
            }
            let (direct, recorded) = (show(&expected), show(&got));
            assert!(expected == got, "{name}: {text}\n--- direct\n{direct}\n--- recorded\n{recorded}");
        }
        catch_up(&kept);
        kept.assert_same();
        kept.proxy.kill();
        emptied(&[&direct, &kept.authority, &kept.standby]);
        kept.proxy.restart();
    }
}

/// A statement means what it meant when it was prepared, and is refused where the proxy would read it otherwise.
#[tokio::test]
async fn what_is_prepared_otherwise_is_refused() {
    let kept = kept_with(Ids::Sequence, START, SCHEMA, WITHOUT_BINLOG);
    let mut c = kept.proxy.connect("d").await;
    let insert = c.prep("INSERT INTO t (id, n) VALUES (?, ?)").await.unwrap();
    c.exec_drop(&insert, (1, 1)).await.unwrap();
    c.query_drop("SET time_zone = '+00:00'").await.unwrap();
    c.exec_drop(&insert, (2, 2)).await.unwrap();
    for sql in ["SET sql_mode = 'ANSI_QUOTES'", "SET NAMES latin1", "USE mysql"] {
        c.query_drop(sql).await.unwrap();
        let error = c.exec_drop(&insert, (3, 3)).await.unwrap_err();
        assert!(error.to_string().contains("prepare it again"), "{sql}: {error}");
    }
    c.query_drop("USE d").await.unwrap();
    let error = c.query_drop("INSERT INTO t (n) VALUES (ROW_COUNT())").await.unwrap_err();
    assert!(error.to_string().contains("ROW_COUNT()"), "{error}");
    let error = c.query_drop("EXECUTE IMMEDIATE 'INSERT INTO t (n) VALUES (?)' USING 1 + 1").await.unwrap_err();
    assert!(error.to_string().contains("cannot be recorded"), "{error}");
    let mut raw = Raw::app(kept.proxy.port, ORDINARY, "d");
    raw.send(0x16, b"INSERT INTO t (id) VALUES (?)");
    raw.response(Expect::Prepare);
    raw.send(0xFA, &[1, 0, 0, 0, 128, 0, 3, 0, 0, 9, 0, 0, 0]);
    let answer = raw.response(Expect::Results);
    assert!(Raw::error(&answer).unwrap().to_string().contains("COM_STMT_BULK_EXECUTE"));
    assert_eq!(kept.authority.sql("SELECT COUNT(*), SUM(n) FROM d.t")[0], ["2", "3"]);
    catch_up(&kept);
    kept.assert_same();
}

/// For writers under load: a write with parameters; several in one text.
pub(super) fn random(dice: &mut Dice) -> (String, Vec<Value>) {
    let (a, b) = (i64::try_from(dice.roll(40)).unwrap(), i64::try_from(dice.roll(1_000)).unwrap());
    let word = ["Ab", "ab ", "é", "ß", "x'y", "a;\\'"][dice.roll(6) as usize];
    match dice.roll(7) {
        0 => ("INSERT INTO t (n, v) VALUES (?, ?), (?, NULL)".into(), vec![a.into(), word.into(), b.into()]),
        1 => ("UPDATE t SET n = n + 1, v = ? WHERE n % 17 = ?".into(), vec![word.into(), (a % 17).into()]),
        2 => ("DELETE FROM t WHERE n BETWEEN ? AND ?".into(), vec![b.into(), (b + 40).into()]),
        3 => (
            "INSERT INTO k VALUES (?, ?) ON DUPLICATE KEY UPDATE n = n + 1".into(),
            vec![format!("k{a}").into(), b.into()],
        ),
        4 => ("REPLACE INTO k VALUES (?, ?)".into(), vec![format!("K{a}").into(), b.into()]),
        5 => (
            "UPDATE m SET v = ? WHERE a = ? AND b = ?".into(),
            vec![b"\xE9;'"[..].into(), a.into(), b"x\0\0"[..].into()],
        ),
        _ => (format!("INSERT INTO t (n) VALUES ({a}); UPDATE t SET n = n + 1 WHERE n = {b}"), Vec::new()),
    }
}
