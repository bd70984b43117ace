//! Two proxies on the same stores: one applies, and only one (RULES.md 33).

use std::time::Duration;

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
