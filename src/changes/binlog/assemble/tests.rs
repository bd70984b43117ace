//! Events as MariaDB and MySQL send them, and what comes of them.

use super::*;

struct Group;

impl Tables for Group {
    fn interest(&self, database: &str, name: &str) -> Interest {
        match (database, name) {
            ("d", "t") => Interest::Group,
            ("switchover", "marks") => Interest::Mark,
            _ => Interest::Other,
        }
    }

    fn any_in(&self, database: &str) -> bool {
        database == "d"
    }
}

/// A server's log: each event with its header, without checksums.
struct Server(Assembler);

impl Server {
    fn gtids() -> Server {
        Server(Assembler::new("0-1-10".parse().unwrap(), Box::new(Group)))
    }

    fn file() -> Server {
        Server(Assembler::new("b.000001:4".parse().unwrap(), Box::new(Group)))
    }

    fn send(&mut self, code: u8, next: u32, body: &[u8]) -> Result<Option<Item>, LogError> {
        let mut bytes = vec![9, 0, 0, 0, code, 7, 0, 0, 0];
        bytes.extend(u32::try_from(event::HEADER + body.len()).unwrap().to_le_bytes());
        bytes.extend(next.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(body);
        self.0.push(&bytes)
    }

    fn gtid(&mut self, sequence: u64, flags: u8) {
        let mut body = sequence.to_le_bytes().to_vec();
        body.extend([0, 0, 0, 0, flags]);
        body.extend([0; 6]);
        assert_eq!(self.send(code::GTID, 0, &body).unwrap(), None);
    }

    fn map(&mut self, id: u8, database: &str, name: &str) {
        let mut body = vec![id, 0, 0, 0, 0, 0, 1, 0];
        for text in [database, name] {
            body.push(u8::try_from(text.len()).unwrap());
            body.extend(text.bytes());
            body.push(0);
        }
        body.extend([1, 3, 0, 0]);
        assert_eq!(self.send(code::TABLE_MAP, 0, &body).unwrap(), None);
    }

    fn insert(&mut self, id: u8, value: u8) -> Result<Option<Item>, LogError> {
        self.send(code::WRITE_ROWS_V1, 0, &[id, 0, 0, 0, 0, 0, 1, 0, 1, 0xFF, 0xFE, value, 0, 0, 0])
    }

    fn query(&mut self, next: u32, sql: &str) -> Result<Option<Item>, LogError> {
        let mut body = vec![5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        body.extend(b"d\0");
        body.extend(sql.bytes());
        self.send(code::QUERY, next, &body)
    }

    fn xid(&mut self, next: u32) -> Option<Item> {
        self.send(code::XID, next, &[1, 0, 0, 0, 0, 0, 0, 0]).unwrap()
    }
}

fn values(item: Option<Item>) -> (String, Vec<i64>, String) {
    let Some(Item::Transaction(t)) = item else { panic!("no transaction: {item:?}") };
    let value = |change: &RowChange| match &change.change {
        Change::Insert(row) => match row[0] {
            crate::entry::Value::Int(v) => v,
            _ => -1,
        },
        _ => -2,
    };
    (t.id.clone(), t.changes.iter().map(value).collect(), t.after.to_string())
}

fn stop(outcome: Result<Option<Item>, LogError>) -> Stop {
    match outcome {
        Err(LogError::Stop(stop)) => *stop,
        other => panic!("no stop: {other:?}"),
    }
}

#[test]
fn transactions_leave_whole_and_filtered() {
    let mut server = Server::gtids();
    server.gtid(11, 4);
    server.map(1, "d", "t");
    server.map(2, "d", "other");
    assert_eq!(server.insert(1, 5).unwrap(), None);
    assert_eq!(server.insert(2, 6).unwrap(), None);
    assert_eq!(server.insert(1, 7).unwrap(), None);
    assert_eq!(values(server.xid(100)), ("0-7-11".into(), vec![5, 7], "0-7-11".into()));
    // of others only: nothing leaves, and the position moves
    server.gtid(12, 4);
    server.map(2, "d", "other");
    assert_eq!(server.insert(2, 6).unwrap(), None);
    assert_eq!(server.xid(200), None);
    assert_eq!(server.send(code::HEARTBEAT, 200, b"b.000001").unwrap(), Some(Item::Passed("0-7-12".parse().unwrap())));
    assert_eq!(server.send(code::HEARTBEAT, 200, b"b.000001").unwrap(), Some(Item::Alive));
    // COMMIT ends one too, as engines without XID have it
    server.gtid(13, 4);
    server.map(1, "d", "t");
    server.insert(1, 8).unwrap();
    assert_eq!(values(server.query(300, "COMMIT").unwrap()).1, [8]);
}

/// What the applier of the other direction wrote is not to come back.
#[test]
fn what_an_applier_wrote_does_not_go_back() {
    let mut server = Server::gtids();
    server.gtid(11, 4);
    server.map(1, "switchover", "marks");
    server.map(2, "d", "t");
    server.insert(1, 1).unwrap();
    server.insert(2, 5).unwrap();
    assert_eq!(server.xid(100), None);
    assert_eq!(server.0.position().to_string(), "0-7-11");
}

#[test]
fn a_lost_connection_leaves_no_half() {
    let mut server = Server::gtids();
    server.gtid(11, 4);
    server.map(1, "d", "t");
    server.insert(1, 5).unwrap();
    assert_eq!(server.0.position().to_string(), "0-1-10");
    // rows of a table that was announced before the GTID are no rows of this transaction
    server.gtid(11, 4);
    assert!(matches!(server.insert(1, 5), Err(LogError::Lost(_))));
    assert!(matches!(server.0.push(&[1, 2, 3]), Err(LogError::Lost(_))));
}

#[test]
fn savepoints_take_back_what_came_after_them() {
    let mut server = Server::gtids();
    server.gtid(11, 4);
    server.map(1, "d", "t");
    server.insert(1, 1).unwrap();
    server.query(0, "SAVEPOINT `a`").unwrap();
    server.insert(1, 2).unwrap();
    server.query(0, "ROLLBACK TO `a`").unwrap();
    server.insert(1, 3).unwrap();
    assert_eq!(values(server.xid(9)).1, [1, 3]);
}

#[test]
fn ddl_stops_with_its_remedy_and_can_be_passed_over() {
    let mut server = Server::gtids();
    server.gtid(11, FL_STANDALONE);
    let stop = stop(server.query(100, "ALTER TABLE t ADD c INT"));
    assert_eq!((stop.transaction.as_str(), stop.after.unwrap().to_string().as_str()), ("0-7-11", "0-7-11"));
    assert!(stop.what.contains("ALTER TABLE t ADD c INT") && stop.remedy.contains("standby skip"));
    // of others: passed
    let mut server = Server::gtids();
    server.gtid(11, FL_STANDALONE);
    assert_eq!(server.query(100, "ALTER TABLE other ADD c INT").unwrap(), None);
    assert_eq!(server.0.position().to_string(), "0-7-11");
    // TRUNCATE is applied
    server.gtid(12, FL_STANDALONE);
    assert_eq!(values(server.query(100, "TRUNCATE t").unwrap()).1, [-2]);
}

/// RULES.md 42.
#[test]
fn statements_and_partial_rows_stop() {
    let mut server = Server::gtids();
    server.gtid(11, 4);
    let stopped = stop(server.query(100, "UPDATE t SET a = RAND()"));
    assert!(
        stopped.what.contains("thread 5")
            && stopped.what.contains("RAND()")
            && stopped.remedy.contains("binlog_format")
    );
    let mut server = Server::gtids();
    server.gtid(11, 4);
    server.map(1, "d", "t");
    let partial = server.send(code::DELETE_ROWS_V1, 0, &[1, 0, 0, 0, 0, 0, 1, 0, 1, 0]);
    let stopped = stop(partial);
    assert!(stopped.remedy.contains("binlog_row_image") && stopped.after.is_some());
    assert!(stop(Server::gtids().send(code::INCIDENT, 0, &[1, 0, 0])).after.is_none());
    assert!(stop(Server::gtids().send(40, 0, &[])).remedy.contains("binlog_transaction_compression"));
}

#[test]
fn xa_stops_only_where_it_changed_the_group() {
    let mut server = Server::gtids();
    server.gtid(11, 4 | FL_PREPARED_XA);
    server.query(0, "XA START X'61',X'',1").unwrap();
    server.map(1, "d", "other");
    server.insert(1, 1).unwrap();
    server.query(0, "XA END X'61',X'',1").unwrap();
    assert_eq!(server.send(code::XA_PREPARE, 9, &[0; 14]).unwrap(), None);
    server.gtid(12, FL_COMPLETED_XA);
    assert_eq!(server.query(9, "XA COMMIT X'61',X'',1").unwrap(), None);
    assert_eq!(server.0.position().to_string(), "0-7-12");
    server.gtid(13, 4 | FL_PREPARED_XA);
    server.map(1, "d", "t");
    server.insert(1, 1).unwrap();
    assert!(stop(server.send(code::XA_PREPARE, 9, &[0; 14])).what.contains("XA"));
}

#[test]
fn files_and_offsets_do_too() {
    let mut server = Server::file();
    server.query(50, "BEGIN").unwrap();
    server.map(1, "d", "t");
    server.insert(1, 5).unwrap();
    assert_eq!(values(server.xid(100)), ("b.000001:100".into(), vec![5], "b.000001:100".into()));
    let mut rotate = 4u64.to_le_bytes().to_vec();
    rotate.extend(b"b.000002");
    server.send(code::ROTATE, 0, &rotate).unwrap();
    assert_eq!(server.0.position().to_string(), "b.000002:4");
    // MySQL: a GTID before BEGIN, and DDL with a GTID alone
    let mut gtid = vec![0];
    gtid.extend([0xAB; 16]);
    gtid.extend(3u64.to_le_bytes());
    server.send(code::MYSQL_GTID, 120, &gtid).unwrap();
    server.query(150, "BEGIN").unwrap();
    server.map(1, "d", "t");
    server.insert(1, 6).unwrap();
    let (id, values, after) = values(server.xid(200));
    assert_eq!(
        (id.as_str(), values, after.as_str()),
        ("abababab-abab-abab-abab-abababababab:3", vec![6], "b.000002:200")
    );
    server.send(code::ANONYMOUS_GTID, 220, &gtid).unwrap();
    assert_eq!(server.query(300, "CREATE TABLE x (a INT)").unwrap(), None);
    assert_eq!(server.0.position().to_string(), "b.000002:300");
}

#[test]
fn mysqls_transactions_are_counted_in_a_set() {
    const SOURCE: &str = "05050505-0505-0505-0505-050505050505";
    let mut server = Server(Assembler::new(format!("{SOURCE}:1-10").parse().unwrap(), Box::new(Group)));
    let gtid = |server: &mut Server, number: u64| {
        let mut body = vec![1];
        body.extend([5; 16]);
        body.extend(number.to_le_bytes());
        assert_eq!(server.send(code::MYSQL_GTID, 120, &body).unwrap(), None);
    };
    // a rotation moves nothing; what others wrote moves it as well
    let mut rotation = 4u64.to_le_bytes().to_vec();
    rotation.extend(b"b.000007");
    assert_eq!(server.send(code::ROTATE, 0, &rotation).unwrap(), None);
    gtid(&mut server, 11);
    assert_eq!(server.query(250, "BEGIN").unwrap(), None);
    server.map(3, "e", "other");
    server.xid(300);
    // (commits of other threads may be written in another order than their numbers)
    gtid(&mut server, 13);
    assert_eq!(server.query(250, "BEGIN").unwrap(), None);
    server.map(4, "d", "t");
    server.insert(4, 1).unwrap();
    assert_eq!(values(server.xid(400)), (format!("{SOURCE}:13"), vec![1], format!("{SOURCE}:1-11:13")));
    assert_eq!(server.0.position().behind(&format!("{SOURCE}:1-14").parse().unwrap()), Some(2));
}
