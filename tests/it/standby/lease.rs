//! Two proxies on the same stores: one applies, and only one (RULES.md 33).

use std::time::Duration;

use mysql_async::prelude::Queryable;

use super::{Kept, config};
use crate::support::{Proxy, eventually};

#[test]
fn one_of_two_proxies_applies() {
    let mut kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, n INT)", &[]);
    let second = Proxy::start(|port| config(port, &kept.authority, &kept.standby));
    let state = |proxy: &Proxy| proxy.status()["groups"][0]["standby"].clone();
    eventually("the second is idle", || state(&second)["state"] == "idle");
    assert!(state(&second)["reason"].as_str().unwrap().contains("routing.yaml applies"));
    kept.authority.sql_in("d", "INSERT INTO t (n) VALUES (1), (2)");
    kept.catch_up();
    // the first is suspended: its lease runs out, and the second takes over
    kept.proxy.signal(rustix::process::Signal::STOP);
    kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
    eventually("the second applies", || state(&second)["state"] == "applying");
    eventually("it has applied", || kept.standby.sql("SELECT SUM(n) FROM d.t")[0][0] == "5");
    // it wakes up, and must not write
    kept.proxy.signal(rustix::process::Signal::CONT);
    kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
    eventually("the first is idle", || kept.show()["state"] == "idle");
    std::thread::sleep(Duration::from_millis(500));
    kept.assert_same();
    assert_eq!(kept.standby.sql("SELECT SUM(n) FROM d.t")[0][0], "7");
    // an orderly end of the second gives the lease back
    drop(second);
    eventually("the first applies again", || kept.show()["state"] == "applying");
    kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
    kept.catch_up();
    kept.assert_same();
    kept.proxy.kill();
}

/// A suspended proxy has a transaction open on the standby: whoever takes over ends it, and does not wait until the store does.
#[tokio::test]
async fn what_a_suspended_proxy_has_open_is_ended() {
    let mut kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, n INT)", &[]);
    let second = Proxy::start(|port| config(port, &kept.authority, &kept.standby));
    eventually("the second is idle", || second.status()["groups"][0]["standby"]["state"] == "idle");
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 0)");
    kept.catch_up();
    let count = |sql: &str| {
        // (these tables are read anew only where nobody has read them for a tenth of a second)
        std::thread::sleep(Duration::from_millis(150));
        kept.standby.sql(sql)[0][0].parse::<u64>().unwrap()
    };
    // (for a row of the table: whoever wants the lease waits for a moment now and then)
    let waits = || {
        count(
            "SELECT COUNT(*) FROM information_schema.INNODB_LOCK_WAITS AS w JOIN information_schema.INNODB_LOCKS AS l \
             ON l.lock_id = w.requested_lock_id WHERE l.lock_table = '`d`.`t`'",
        )
    };
    let mut other = mysql_async::Conn::new(kept.standby.opts()).await.unwrap();
    other.query_drop("BEGIN").await.unwrap();
    other.query_drop("SELECT * FROM d.t FOR UPDATE").await.unwrap();
    kept.authority.sql_in("d", "UPDATE t SET n = 1");
    eventually("the applier waits for the row", || waits() > 0);
    kept.proxy.signal(rustix::process::Signal::STOP);
    other.query_drop("ROLLBACK").await.unwrap();
    eventually("it has the row, and nobody commits", || {
        waits() == 0 && count("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 1") == 1
    });
    let kills = kept.standby.status("Com_kill");
    kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
    eventually("the second has applied both", || kept.standby.sql("SELECT n FROM d.t")[0][0] == "2");
    assert!(kept.standby.status("Com_kill") > kills, "the store ended it by itself");
    kept.proxy.signal(rustix::process::Signal::CONT);
    kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
    eventually("the second has applied that", || kept.standby.sql("SELECT n FROM d.t")[0][0] == "3");
    kept.assert_same();
    kept.proxy.kill();
}

/// A transaction that takes longer than a lease lasts is no reason to take it over: the two would end each other's work for ever.
#[tokio::test]
async fn a_long_round_keeps_its_lease() {
    let kept = Kept::start("CREATE TABLE t (id INT PRIMARY KEY, n INT)", &[]);
    let second = Proxy::start(|port| config(port, &kept.authority, &kept.standby));
    eventually("the second is idle", || second.status()["groups"][0]["standby"]["state"] == "idle");
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)");
    kept.catch_up();
    let term = || kept.standby.sql("SELECT term FROM switchover.leases")[0][0].clone();
    let before = term();
    // each row is waited for less long than a lock is waited for, all of them longer than a lease lasts
    let mut rows = Vec::new();
    for id in 1..=3 {
        let mut conn = mysql_async::Conn::new(kept.standby.opts()).await.unwrap();
        conn.query_drop("BEGIN").await.unwrap();
        conn.query_drop(format!("SELECT * FROM d.t WHERE id = {id} FOR UPDATE")).await.unwrap();
        rows.push(conn);
    }
    kept.authority.sql_in("d", "UPDATE t SET n = n + 1");
    for mut row in rows {
        tokio::time::sleep(Duration::from_millis(3500)).await;
        row.query_drop("ROLLBACK").await.unwrap();
    }
    kept.catch_up();
    kept.assert_same();
    assert_eq!(term(), before, "{}\n{}", kept.proxy.log(), second.log());
    assert_eq!(kept.show()["state"], "applying");
}
