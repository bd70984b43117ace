//! Cutover, acknowledgements and fallback where a store has no binlog: the same proofs as with one.

use super::cutover::{self, Two};
use super::{Kept, fallback};
use crate::support::{clients, eventually, long};

/// The users' case: the new store has none.
const NEW: &[&str] = &["new"];
const BOTH: &[&str] = &["legacy", "new"];

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
