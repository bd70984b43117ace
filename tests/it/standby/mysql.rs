//! The new store is MySQL, the legacy one MariaDB: counted by MySQL's GTIDs, and by file and offset.

use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::other::{Pair, every_kind_of_column, forth_and_back, it_is_given_up};
use crate::support::{eventually, mariadb, mysql};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_counted_by_its_gtids() {
    let mut pair = start(&["--gtid-mode=ON", "--enforce-gtid-consistency"], "new");
    // it is copied from: a transaction that has written is waited for, and not in half
    pair.legacy.sql("INSERT INTO d.kinds (id, k) VALUES (7, 'a'), (8, 'b')");
    pair.new.sql("INSERT INTO d.kinds (id, k) VALUES (7, 'a')");
    let mut open = Conn::new(mariadb::opts(pair.new.port).db_name(Some("d"))).await.unwrap();
    open.query_drop("BEGIN").await.unwrap();
    open.query_drop("INSERT INTO kinds (id, k) VALUES (8, 'b')").await.unwrap();
    let committed = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        open.query_drop("COMMIT").await
    });
    pair.begin();
    committed.await.unwrap().unwrap();
    let source = pair.new.sql("SELECT @@server_uuid")[0][0].clone();
    assert!(position(&pair).starts_with(&format!("{source}:1-")), "{}", position(&pair));
    pair.new.sql("DELETE FROM d.kinds");
    all_of_it(&mut pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_counted_by_file_and_offset() {
    let mut pair = start(&[], "legacy");
    pair.begin();
    pair.flag("new");
    eventually("legacy follows", || position(&pair).starts_with("binlog.000"));
    all_of_it(&mut pair).await;
}

fn start(arguments: &[&str], serves: &str) -> Pair {
    let new = mysql::start(arguments);
    new.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    Pair::start(new, "", serves)
}

/// Where the standby is.
fn position(pair: &Pair) -> String {
    pair.proxy.status()["groups"][0]["standby"]["position"].as_str().unwrap().to_owned()
}

async fn all_of_it(pair: &mut Pair) {
    every_kind_of_column(pair).await;
    forth_and_back(pair, 0).await;
    // who writes past the proxy is refused, and written down where the server lets a trigger do that
    pair.refuses(1644);
    let seen = pair.new.sql("SELECT table_name, times, statement FROM switchover.refused").concat();
    if pair.new.sql("SELECT @@enforce_gtid_consistency")[0][0] == "0" {
        assert_eq!(seen, ["d.t", "1", "INSERT INTO t (writer, n) VALUES (0, 0)"]);
    } else {
        assert!(seen.is_empty(), "{seen:?}");
    }
    it_is_given_up(pair, 1644).await;
    what_is_gone_from_its_log_is_told(pair);
}

/// A log that was purged while nobody read it stops the standby, with what mends it.
fn what_is_gone_from_its_log_is_told(pair: &Pair) {
    pair.flag("new");
    eventually("legacy follows", || pair.authority()["settled"] == true && !dumps(pair).is_empty());
    pair.proxy.signal(rustix::process::Signal::STOP);
    for thread in dumps(pair) {
        pair.new.sql(&format!("KILL {thread}"));
    }
    pair.new.sql("INSERT INTO d.t (writer, n) VALUES (77, 1); FLUSH LOGS");
    let last = pair.new.sql("SHOW MASTER STATUS")[0][0].clone();
    pair.new.sql(&format!("PURGE BINARY LOGS TO '{last}'"));
    pair.proxy.signal(rustix::process::Signal::CONT);
    eventually("it stops", || pair.proxy.status()["groups"][0]["standby"]["state"] == "stopped");
    let shown = pair.proxy.cli(&["standby", "show", "analytics"]).stdout;
    assert!(shown.contains("cannot continue its log behind") && shown.contains("mysqldump"), "{shown}");
}

/// The threads that send its log.
fn dumps(pair: &Pair) -> Vec<String> {
    let sql = "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    pair.new.sql(sql).concat()
}
