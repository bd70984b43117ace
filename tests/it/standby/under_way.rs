//! A sealed store refuses what has begun to answer, or to commit: the client hears it once, where the store would have said it.

use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use super::Kept;
use super::cutover::TABLES;
use super::cutover_deaths::seals;
use crate::support::raw::{ORDINARY, Raw};
use crate::support::{clients, eventually};

type Packets = Vec<(u8, Vec<u8>)>;

const RETURNING: &str = "INSERT INTO t (writer, n) VALUES (60, 1) RETURNING id, writer";

/// Seals the authority's table by hand; the watcher takes that off as soon as somebody meets it.
fn seal(kept: &Kept) {
    is_open(kept);
    kept.authority.sql(
        "CREATE TRIGGER d.switchover_seal_t_insert BEFORE INSERT ON d.t FOR EACH ROW \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'switchover: sealed: by hand'",
    );
}

fn is_open(kept: &Kept) {
    eventually("the seal is taken off", || seals(&kept.authority) == (0, 0));
}

fn log_in(port: u16) -> Raw {
    Raw::app(port, ORDINARY | Capabilities::MULTI_STATEMENTS, "d")
}

/// What a text is answered.
fn text(sql: &'static str) -> impl Fn(&mut Raw) -> Packets {
    move |raw| raw.query(sql)
}

/// What an execute of [`RETURNING`] is answered.
fn execute(raw: &mut Raw) -> Packets {
    raw.send(0x16, RETURNING.as_bytes());
    let prepared = raw.response(Expect::Prepare);
    let mut argument = prepared[0].1[1..5].to_vec();
    argument.extend_from_slice(&[0, 1, 0, 0, 0]);
    raw.send(0x17, &argument);
    raw.response(Expect::Results)
}

/// The answer of the proxy has the packets of the store's own, but for the last: that one says what a retry mends.
fn is_told_once(kept: &Kept, what: &str, ask: impl Fn(&mut Raw) -> Packets) {
    seal(kept);
    let direct = ask(&mut log_in(kept.authority.port));
    let mut raw = log_in(kept.proxy.port);
    let through = ask(&mut raw);
    let (error, front) = through.split_last().unwrap();
    assert_eq!(front, &direct[..direct.len() - 1], "{what}");
    assert_eq!(error.0, direct.last().unwrap().0, "{what}: the number of the last packet");
    let says = Raw::error(&through).unwrap_or_else(|| panic!("{what}: {through:?}"));
    assert_eq!((says.code, Raw::error(&direct).unwrap().code), (1213, 1644), "{what}: {says}");
    // nothing comes behind it
    let next = raw.query("SELECT 4711");
    assert!(next.iter().any(|(_, payload)| payload == b"\x044711"), "{what}: {next:?}");
    // and a retry mends it
    is_open(kept);
    let again = ask(&mut raw);
    assert!(Raw::error(&again).is_none(), "{what}: {again:?}");
    kept.authority.sql("DELETE FROM d.t");
}

fn prepare(kept: &Kept) {
    kept.authority.sql("SET GLOBAL log_bin_trust_function_creators = 1");
    kept.authority.sql("CREATE DATABASE o");
    kept.authority.sql("CREATE TABLE o.other (id INT PRIMARY KEY AUTO_INCREMENT)");
    for routine in [
        "PROCEDURE d.selects() BEGIN SELECT 1; SELECT 2; INSERT INTO d.t (writer, n) VALUES (60, 2); END",
        "PROCEDURE d.commits() BEGIN INSERT INTO o.other VALUES (); INSERT INTO d.t (writer, n) VALUES (60, 3); END",
        "FUNCTION d.writes() RETURNS INT MODIFIES SQL DATA BEGIN INSERT INTO d.t (writer, n) VALUES (60, 4); RETURN 1; END",
    ] {
        kept.authority.sql(&format!("CREATE {routine}"));
    }
}

fn tells(kept: &Kept) {
    prepare(kept);
    let lists = |text: String| text.replace("tables: [d.*]", "tables: [d.*, d.selects, d.commits, d.writes]");
    let epoch = kept.proxy.status()["epoch"].as_u64().unwrap();
    kept.proxy.edit_config(lists);
    eventually("it is read", || kept.proxy.status()["epoch"] == epoch + 1);
    is_told_once(kept, "INSERT … RETURNING", text(RETURNING));
    is_told_once(kept, "prepared INSERT … RETURNING", execute);
    is_told_once(kept, "CALL that selects first", text("CALL selects()"));
    is_told_once(kept, "a function", text("SELECT writes()"));
    is_told_once(kept, "the second of several", text("SELECT 7; INSERT INTO t (writer, n) VALUES (60, 5) RETURNING n"));
    // what it had committed before is not done twice
    seal(kept);
    let called = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "CALL commits()"]);
    assert!(!called.ok && called.stderr.contains("ERROR 1213"), "{}{}", called.stdout, called.stderr);
    assert!(called.stderr.contains("what a routine had committed by itself stays"), "{}", called.stderr);
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM o.other")[0][0], "1");
    // what had no effect, and no answer, is routed again
    seal(kept);
    let written = clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t (writer, n) VALUES (60, 6)"]);
    assert!(written.ok, "{}", written.stderr);
    kept.catch_up();
    kept.assert_same();
}

#[test]
fn what_has_begun_to_answer_is_told_of_a_seal_once() {
    tells(&Kept::start(TABLES, &[]));
}

#[test]
fn what_has_begun_to_answer_is_told_of_a_seal_once_where_the_standby_acknowledges() {
    let kept = Kept::start(TABLES, &[]);
    kept.proxy.edit_config(|text| text.replace("    standby: new\n", "    standby: new\n    ack: standby\n"));
    eventually("the standby is waited for", || kept.proxy.status()["groups"][0]["authority"]["acks"] == "standby");
    tells(&kept);
}
