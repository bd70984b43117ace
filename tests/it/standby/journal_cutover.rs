//! Cutover, acknowledgements and fallback where a store has no binlog: the same proofs as with one, and together with the seal by
//! `rename`; and what a store can be that has neither a binlog nor triggers.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::cutover::{self, Two};
use super::cutover_deaths::{conductor_dies, store_dies};
use super::{DURABLE, Form, Kept, fallback, journal, place, rename, statements};
use crate::support::{PrivateServer, Proxy, clients, eventually, long};

/// The users' case: the new store has none.
const NEW: &[&str] = &["new"];
const BOTH: &[&str] = &["legacy", "new"];
/// Journals on stores that are sealed by `rename`.
const MOVED: Form<'static> = Form { without: BOTH, renames: BOTH };
const NEW_MOVED: Form<'static> = Form { without: NEW, renames: NEW };

#[test]
fn the_authority_moves_to_a_journal_and_comes_back() {
    cutover::moves_and_comes_back(&Kept::start_without(cutover::TABLES, &[], NEW));
}

#[test]
fn the_authority_moves_from_journal_to_journal() {
    cutover::moves_and_comes_back(&Kept::start_without(cutover::TABLES, &[], BOTH));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_a_cutover_to_a_journal() {
    cutover::forth_and_back(&Two::start_without(cutover::TABLES, NEW), if long() { 200 } else { 12 }).await;
}

/// At READ COMMITTED, where a write sees what others have committed since the transaction began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_a_cutover_between_journals() {
    let two = Two::start_without(cutover::TABLES, BOTH);
    for server in [&two.kept.authority, &two.kept.standby] {
        server.sql("SET GLOBAL tx_isolation = 'READ-COMMITTED'");
    }
    cutover::forth_and_back(&two, if long() { 100 } else { 8 }).await;
}

/// What is not committed behind the seal never is: the gate stands where an entry is made.
#[test]
fn a_store_that_is_left_takes_no_entries() {
    let kept = Kept::start_without(cutover::TABLES, &[], BOTH);
    let entry = "INSERT INTO switchover.journal SELECT 900000 + id, uuid, group_name, transaction_uuid, part, parts, kind, made_at, \
                 payload, mac FROM switchover.journal WHERE kind = 1 LIMIT 1";
    let run = |sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", sql]);
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 1)").ok);
    cutover::flag(&kept.proxy, "new");
    let stray = clients::mariadb(kept.authority.port, &["-e", entry]);
    assert!(!stray.ok && stray.stderr.contains("ERROR 1644 (45000)"), "{}", stray.stderr);
    assert!(run("INSERT INTO t (writer, n) VALUES (1, 2)").ok);
    eventually("legacy follows", || kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0] == "2");
}

/// RULES.md 29: a row that is missing lets nobody in; the client is told so at once, and its write is undone.
#[test]
fn rule_29_a_missing_gate_row_is_an_error() {
    let kept = Kept::start_without(cutover::TABLES, &[], BOTH);
    let write = |n: u32| {
        let sql = format!("INSERT INTO t (writer, n) VALUES (1, {n})");
        clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", &sql])
    };
    assert!(write(1).ok);
    kept.authority.sql("DELETE FROM switchover.groups");
    let refused = write(2);
    assert!(!refused.ok && refused.stderr.contains("no row in switchover.groups"), "{}", refused.stderr);
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM d.t")[0][0], "1");
}

/// `kill -9` of an authority without a binlog: with `ack: standby` no acknowledged write is lost, and it follows again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_authority_with_a_journal_is_given_up() {
    let kept = Kept::start_without(fallback::TABLES, &[], NEW);
    fallback::is_given_up(fallback::reached(kept, fallback::AUTO, None)).await;
}

/// The gate keeps entries out, the tables are away: either by itself, in both directions.
#[test]
fn a_journal_and_a_seal_by_rename() {
    let kept = Kept::start_as(cutover::TABLES, &[], MOVED);
    let run = |sql: &str| clients::mariadb(kept.proxy.port, &["-Dd", "-N", "-e", sql]);
    let entry = "INSERT INTO switchover.journal SELECT 900000 + id, uuid, group_name, transaction_uuid, part, parts, kind, made_at, \
                 payload, mac FROM switchover.journal WHERE kind = 1 LIMIT 1";
    for (round, to) in ["new", "legacy", "new", "legacy"].into_iter().enumerate() {
        let (left, serves) =
            if to == "new" { (&kept.authority, &kept.standby) } else { (&kept.standby, &kept.authority) };
        assert!(run(&format!("INSERT INTO t (writer, n) VALUES (1, {round})")).ok);
        cutover::flag(&kept.proxy, to);
        assert_eq!((place(left).as_str(), place(serves).as_str()), ("switchover_sealed_d", "d"));
        let stray = clients::mariadb(left.port, &["-Dd", "-e", "INSERT INTO t (writer, n) VALUES (9, 9)"]);
        assert!(stray.stderr.contains("ERROR 1356"), "{}", stray.stderr);
        let stray = clients::mariadb(left.port, &["-e", entry]);
        assert!(stray.stderr.contains("ERROR 1644 (45000)"), "{}", stray.stderr);
        // alone, in a transaction, and of many rows
        let write = format!(
            "BEGIN; INSERT INTO t (writer, n) VALUES (2, {round}); REPLACE INTO sums VALUES ({round}, 1); COMMIT; \
             UPDATE sums SET n = n + 1; INSERT INTO t (writer, n) SELECT 100 + {round}, t.n + 1000 FROM t WHERE writer = 1"
        );
        let written = run(&write);
        assert!(written.ok, "{}", written.stderr);
        let same = || super::sums(left, &["t", "sums"]) == super::sums(serves, &["t", "sums"]);
        eventually("the store that was left follows", same);
    }
    kept.assert_same();
}

/// Writers and readers at two proxies; and where only one of the stores is such a one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_sees_tables_move_between_journals() {
    rename::under_reads(MOVED, if long() { 100 } else { 4 }).await;
    rename::under_reads(NEW_MOVED, if long() { 40 } else { 2 }).await;
}

/// The proxy that conducts is killed at every step; in the long form either store is too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_conductor_dies_while_tables_with_journals_move() {
    conductor_dies(Two::start_as(cutover::TABLES, MOVED)).await;
    if long() {
        store_dies(Two::start_as(cutover::TABLES, MOVED)).await;
    }
}

/// `kill -9` of an authority with a journal, whose standby's tables are away: they come back, and it follows again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_authority_with_a_journal_is_given_up_for_one_whose_tables_are_away() {
    let kept = Kept::start_as(fallback::TABLES, &[], MOVED);
    fallback::is_given_up(fallback::reached(kept, fallback::AUTO, None)).await;
}

/// A way to a server that makes it one without triggers, of another name: it rewrites two statements of control connections.
fn without_triggers(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || rewritten(client, server));
        }
    });
    at
}

fn rewritten(mut client: TcpStream, mut server: TcpStream) {
    let mut header = [0u8; 4];
    while client.read_exact(&mut header).is_ok() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]);
        let mut payload = vec![0u8; length as usize];
        if client.read_exact(&mut payload).is_err() {
            break;
        }
        let sql = payload.get(1..).filter(|_| header[3] == 0 && payload[0] == 3).unwrap_or_default();
        if sql.starts_with(b"CREATE TRIGGER") {
            payload = b"\x03SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1235, MESSAGE_TEXT = 'no triggers here'".to_vec();
        } else if sql == b"SELECT VERSION()" {
            payload = b"\x03SELECT '8.0.11-other'".to_vec();
        }
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        let packet = [&[length[0], length[1], length[2], header[3]], payload.as_slice()].concat();
        if server.write_all(&packet).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// A store with neither a binlog nor triggers: it follows, and nobody makes it the authority; `init` says so, whatever the file says.
#[test]
fn a_store_without_log_and_triggers_is_a_standby_only() {
    let authority = PrivateServer::start(11, DURABLE);
    let standby = PrivateServer::start(12, journal::WITHOUT_BINLOG);
    for server in [&authority, &standby] {
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        statements(server, cutover::TABLES);
    }
    let (real, poor) = (format!("127.0.0.1:{}", standby.port), format!("127.0.0.1:{}", without_triggers(standby.port)));
    let form = Form { without: NEW, ..Form::default() };
    let proxy = Proxy::start(|port| {
        form.config(port, &authority, &standby)
            .replace(&format!("address: {real}"), &format!("tls: off, address: {poor}"))
    });
    let says = "new has neither a binlog nor triggers, which the gate of a journal needs: it can be a standby, and never the authority";
    let refused = proxy.cli(&["init"]);
    assert!(
        !refused.ok && format!("{}{}", refused.stdout, refused.stderr).contains(says),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    proxy.edit_config(|text| text.replace("change_log: journal, ", ""));
    eventually("it is read", || proxy.status()["epoch"] == 2);
    let begun = proxy.cli(&["init"]);
    let told = format!("{}{}", begun.stdout, begun.stderr);
    assert!(begun.ok && told.contains(says) && told.contains("new: sealed by rename"), "{told}");
    let kept = Kept { authority, standby, proxy };
    kept.retry();
    assert!(clients::mariadb(kept.proxy.port, &["-Dd", "-e", "INSERT INTO t (writer, n) VALUES (1, 1)"]).ok);
    eventually("it follows", || kept.standby.sql("SELECT COUNT(*) FROM switchover_sealed_d.t")[0][0] == "1");
    let refused = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(!refused.ok && refused.stderr.contains(says), "{}{}", refused.stdout, refused.stderr);
    kept.assert_same();
}
