//! The new store is OceanBase seekdb, the legacy one MariaDB: what our users' pairs are like. One server for all of it, for it
//! takes its time to start.

use super::other::{Pair, every_kind_of_column, forth_and_back, it_is_given_up};
use crate::support::{clients, eventually, seekdb};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_unlike_mariadb() {
    let new = seekdb::start();
    new.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
    let mut pair = Pair::start(new, "change_log: journal, ", "legacy");
    what_cannot_hold_is_said(&pair);
    pair.begin();
    every_kind_of_column(&pair).await;
    forth_and_back(&pair, 0).await;
    its_tables_move(&pair).await;
    it_is_given_up(&mut pair, 1356).await;
}

/// What cannot be the same on both is refused before anything begins.
fn what_cannot_hold_is_said(pair: &Pair) {
    pair.legacy.sql("CREATE TABLE d.Capital (id INT PRIMARY KEY)");
    pair.new.sql("CREATE TABLE d.capital (id INT PRIMARY KEY)");
    pair.legacy.sql("CREATE TABLE d.words (w VARCHAR(10) COLLATE utf8mb4_unicode_ci PRIMARY KEY, v VARCHAR(10) COLLATE utf8mb4_unicode_ci)");
    pair.new.sql("CREATE TABLE d.words (w VARCHAR(10) PRIMARY KEY, v VARCHAR(10))");
    let refused = pair.proxy.cli(&["init"]);
    assert!(!refused.ok, "{}", refused.stdout);
    for words in
        ["d.Capital has capital letters", "d.words: column w varchar(10) COLLATE utf8mb4_unicode_ci on the authority"]
    {
        assert!(refused.stdout.contains(words), "{words}: {}", refused.stdout);
    }
    // (of a column that is in no key, only the order differs)
    assert!(!refused.stdout.contains("d.words: column v"), "{}", refused.stdout);
    for table in ["Capital", "words"] {
        pair.legacy.sql(&format!("DROP TABLE d.{table}"));
        pair.new.sql(&format!("DROP TABLE d.{}", table.to_lowercase()));
    }
}

/// The same with seekdb sealed by `rename`: it moves tables and views in one statement, and waits for transactions.
async fn its_tables_move(pair: &Pair) {
    let epoch = pair.proxy.status()["epoch"].as_u64().unwrap();
    pair.proxy.edit_config(|text| text.replace("change_log: journal, ", "change_log: journal, seal: rename, "));
    eventually("it is read", || pair.proxy.status()["epoch"].as_u64().unwrap() > epoch);
    eventually("it can move", || pair.proxy.cli(&["flag", "analytics", "new", "--dry-run"]).ok);
    forth_and_back(pair, 10).await;
    assert!(pair.is_away(), "{}", pair.proxy.log());
    for (sql, code) in [
        ("INSERT INTO t (writer, n) VALUES (0, 0)", 1356),
        ("SELECT * FROM t", 1356),
        ("TRUNCATE t", 1146),
        ("CREATE TABLE t (id INT)", 1050),
        ("DROP TABLE t", 1051),
    ] {
        let stray = clients::mariadb(pair.new.port, &["-Dd", "-e", sql]);
        assert!(!stray.ok && stray.stderr.contains(&format!("ERROR {code}")), "{sql}: {}", stray.stderr);
    }
}
