//! `kill -9` of the proxy, the standby and the authority, in turn, under load: nothing is lost, nothing is applied twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::Kept;
use super::workload::{CRASH_SAFE, Dice, SCHEMA, triggers, write};
use crate::support::{eventually, long};

/// Rows that tell a transaction that was applied twice, or not at all: an insert would be a duplicate, an increment wrong.
const COUNTERS: &str = ";\nCREATE TABLE counters (id INT PRIMARY KEY, n BIGINT)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_applied_twice() {
    let mut kept = Kept::start(&format!("{SCHEMA}{COUNTERS}"), &[]);
    kept.authority.sql("CREATE DATABASE other");
    triggers(&kept);
    kept.authority.sql_in("d", "INSERT INTO counters VALUES (1, 0), (2, 0), (3, 0), (4, 0)");
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (1..=3u64)
        .map(|n| {
            tokio::spawn(write(kept.authority.port, n * 0x51_7C_C1, CRASH_SAFE, Arc::clone(&over), Arc::clone(&done)))
        })
        .collect();
    let mut dice = Dice(0xD1CE);
    for round in 0..if long() { 200 } else { 9 } {
        tokio::time::sleep(Duration::from_millis(300 + dice.roll(900))).await;
        match round % 3 {
            0 => kept.proxy.restart(),
            1 => {
                kept.standby.kill();
                kept.standby.restart();
            }
            _ => {
                kept.authority.kill();
                kept.authority.restart();
            }
        }
        kept.authority.sql_in("d", "UPDATE counters SET n = n + id");
    }
    eventually("the writers come forward", || done.load(Ordering::Relaxed) > 20);
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    kept.catch_up();
    kept.assert_same();
}

/// A standby that was frozen, and not dead, when its applier was replaced: what it still commits counts, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_standby_wakes_up() {
    let mut kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT)", &[]);
    for _ in 0..3 {
        for n in 0..50 {
            kept.authority.sql_in("d", &format!("INSERT INTO t (n) VALUES ({n}), ({n})"));
        }
        kept.standby.freeze();
        kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
        kept.proxy.restart();
        tokio::time::sleep(Duration::from_millis(500)).await;
        kept.standby.thaw();
    }
    kept.catch_up();
    kept.assert_same();
}
