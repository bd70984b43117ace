//! An authority fails with transactions that its standby never got, and comes back: what was left behind is settled, once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use switchover::backend::{StoreHandle, control};
use switchover::config::model::ChangeLog;
use switchover::config::{self, GroupId, StoreId};
use switchover::routing::Snapshot;
use switchover::standby::rewind::Rewound;
use switchover::standby::rounds::{self, Failed};
use switchover::standby::settle::{self, Report, Request, settle};
use switchover::standby::{GroupTables, log, marks, reapply};

use super::Kept;
use super::types::{TYPES, session};
use super::workload::{CRASH_SAFE, Dice};
use crate::support::{PrivateServer, Server, clients, eventually};

const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20) UNIQUE, n INT);
CREATE TABLE u (id INT PRIMARY KEY, v VARCHAR(20))";

const TOKEN: &str = "it's a token";

/// Every row of every table of `d`, as text.
fn everything(server: &Server) -> BTreeMap<String, Vec<Vec<String>>> {
    let tables = server.sql("SHOW TABLES FROM d").concat();
    let rows = |table: &String| server.sql(&format!("SELECT * FROM d.`{}` ORDER BY 1, 2", table.replace('`', "``")));
    tables.iter().map(|table| (table.clone(), rows(table))).collect()
}

/// The proxy is gone, the standby takes over where it is: what a fallback knows by then.
async fn fall_back(kept: &mut Kept) -> Request {
    kept.catch_up();
    takes_over(kept, ChangeLog::Binlog).await
}

/// The same, wherever the standby is.
async fn takes_over(kept: &mut Kept, kind: ChangeLog) -> Request {
    kept.proxy.kill();
    unseal(&kept.standby);
    let config = config::load(&kept.proxy.config_path).unwrap();
    let handle = |n: usize| Arc::new(StoreHandle::new(config.stores[n].clone()).unwrap());
    let group = &config.groups[0];
    let StoreId(old) = group.connection;
    let StoreId(new) = group.standby.unwrap();
    let (old, new) = (handle(usize::from(old)), handle(usize::from(new)));
    let probed = control::probe(&new, Duration::from_secs(5)).await.unwrap();
    let snapshot = Snapshot::compile(Arc::new(config.clone()), 0, probed.lower_case_table_names.unwrap());
    let tables = GroupTables::new(snapshot, GroupId(0));
    let mut backend = rounds::connect(&new, "analytics").await.unwrap();
    let resume = marks::resume(&rounds::read_marks(&mut backend, "analytics").await.unwrap()).unwrap();
    let opened = log::end(&mut backend, kind, None).await.unwrap();
    Request {
        group: "analytics".to_owned(),
        tables,
        old,
        new,
        token: TOKEN.to_owned(),
        position: resume.position,
        applied: resume.applied,
        opened,
    }
}

/// The seal, as far as it matters here.
fn seal(server: &Server) {
    for table in server.sql("SHOW TABLES FROM d").concat() {
        for kind in ["INSERT", "UPDATE", "DELETE"] {
            server.sql(&format!(
                "CREATE TRIGGER d.`switchover_seal_{table}_{kind}` BEFORE {kind} ON d.`{table}` FOR EACH ROW \
                 IF COALESCE(@switchover_applier, '') <> 'it''s a token' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'sealed'; END IF"
            ));
        }
    }
    assert!(server.try_sql(None, "DELETE FROM d.t").is_err());
}

fn unseal(server: &Server) {
    for trigger in
        server.sql("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'd'").concat()
    {
        server.sql(&format!("DROP TRIGGER d.`{trigger}`"));
    }
}

/// The old authority follows the new one, from where the settlement says; both hold the same in the end.
fn goes_on(mut kept: Kept) {
    follows(&mut kept);
    kept.authority.sql("INSERT INTO d.u VALUES (4711, 'after')");
    kept.catch_up();
    kept.assert_same();
}

fn opens(kept: &Kept) {
    for (server, state) in [(&kept.authority, "standby"), (&kept.standby, "open")] {
        server.sql(&format!("UPDATE switchover.groups SET epoch = epoch + 1, authority = 'new', state = '{state}'"));
    }
}

fn follows(kept: &mut Kept) {
    unseal(&kept.authority);
    opens(kept);
    kept.proxy.edit_config(|text| {
        text.replace("connection: legacy", "connection: new").replace("standby: new", "standby: legacy")
    });
    std::mem::swap(&mut kept.authority, &mut kept.standby);
    kept.proxy.restart();
    eventually("the old authority follows", || kept.show()["state"] == "applying");
}

fn became(report: &Report) -> Vec<&str> {
    report.transactions.iter().map(|t| t.became.as_str()).collect()
}

#[tokio::test]
async fn what_fits_is_applied_and_the_rest_reported() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)");
    let request = fall_back(&mut kept).await;
    let (old, new) = (&kept.authority, &kept.standby);
    let opened = everything(new);
    for sql in [
        "UPDATE t SET v = 'left' WHERE id = 1",
        "INSERT INTO t VALUES (10, 'new', 0)",
        "CREATE DATABASE elsewhere",
        "UPDATE t SET n = n + 1 WHERE id IN (2, 3)",
        "DELETE FROM t WHERE id = 3",
        "UPDATE t SET n = 7 WHERE id = 10",
        "INSERT INTO t VALUES (20, 'theirs', 0)",
        "INSERT INTO t VALUES (21, 'taken', 0)",
        "UPDATE t SET v = 'D' WHERE id = 4",
    ] {
        old.sql_in("d", sql);
    }
    for sql in [
        "UPDATE t SET v = 'ours' WHERE id = 2",
        "INSERT INTO t VALUES (20, 'own', 1)",
        "INSERT INTO t VALUES (22, 'TAKEN', 0)",
    ] {
        new.sql_in("d", sql);
    }
    seal(old);
    let report = settle(&request).await.unwrap();
    let expected = ["applied", "applied", "reported", "reported", "applied", "reported", "reported", "applied"];
    assert_eq!(became(&report), expected, "{report:#?}");
    assert!(report.lines()[0].starts_with("behind by 8 transactions of legacy, ids 0-11-"), "{:?}", report.lines());
    assert_eq!(everything(old), opened);
    let rows = new.sql("SELECT id, v, n FROM d.t ORDER BY id");
    let rows: Vec<String> = rows.iter().map(|row| row.join(" ")).collect();
    assert_eq!(rows, ["1 left 1", "2 ours 2", "3 c 3", "4 D 4", "10 new 7", "20 own 1", "22 TAKEN 0"]);
    let noted = new.sql(
        "SELECT row_key, was, found, why FROM switchover.left_behind WHERE settled = 'reported' ORDER BY place, number",
    );
    let noted: Vec<String> = noted.iter().map(|row| row.join("; ")).collect();
    assert_eq!(noted.len(), 5, "{noted:#?}");
    let first = "id = 2; UPDATE id = 2, v = 'b', n = 2 → id = 2, v = 'b', n = 3; id = '2', v = 'ours', n = '2'; the row is another one by now";
    assert_eq!(noted[0], first);
    assert!(noted[1].ends_with("another row of its transaction does not fit"), "{noted:#?}");
    assert!(noted[2].contains("it builds on 0-11-"), "{noted:#?}");
    assert!(noted[3].contains("Duplicate entry '20'"), "{noted:#?}");
    assert!(noted[4].contains("no row") && noted[4].contains("Duplicate entry 'taken'"), "{noted:#?}");
    // once
    assert_eq!(settle(&request).await.unwrap(), report);
    assert_eq!(new.sql("SELECT COUNT(*) FROM switchover.settling_log")[0][0], "0");
    // for operators: the stores say it, no proxy runs
    let text = kept.proxy.cli(&["standby", "left-behind", "analytics"]).text();
    assert!(text.contains("UPDATE id = 2, v = 'b'") && text.contains("has id = '2', v = 'ours'"), "{text}");
    assert!(!text.contains("'left'"), "{text}");
    let all = kept.proxy.cli(&["standby", "left-behind", "analytics", "--all", "--json"]);
    let all: serde_json::Value = serde_json::from_str(&all.stdout).unwrap();
    assert_eq!((all[0]["settled"].as_str(), all[0]["store"].as_str()), (Some("applied"), Some("new")), "{all:#}");
    assert_eq!(all.as_array().unwrap().len(), 9);
    goes_on(kept);
}

/// Where neither store has a binlog: what is applied goes back through the new authority's journal, once, and one by one.
#[tokio::test]
async fn what_was_left_behind_goes_back_through_a_journal() {
    let mut kept = Kept::start_without(SCHEMA, &[], &["legacy", "new"]);
    let write = |kept: &Kept, sql: &str| {
        let done = clients::mariadb(kept.proxy.port, &["-Dd", "-e", sql]);
        assert!(done.ok, "{}", done.stderr);
    };
    write(&kept, "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)");
    eventually("the standby follows", || everything(&kept.authority) == everything(&kept.standby));
    kept.standby.kill();
    for sql in [
        "UPDATE t SET v = 'left' WHERE id = 1",
        "BEGIN; INSERT INTO t VALUES (10, 'new', 0); DELETE FROM t WHERE id = 3; COMMIT",
        "UPDATE t SET n = 7 WHERE id = 10",
        "UPDATE t SET v = 'left too' WHERE id = 2",
    ] {
        write(&kept, sql);
    }
    kept.standby.restart();
    let request = takes_over(&mut kept, ChangeLog::Journal).await;
    opens(&kept);
    let opened = everything(&kept.standby);
    kept.standby.sql("UPDATE d.t SET v = 'ours' WHERE id = 2");
    seal(&kept.authority);
    let report = settle(&request).await.unwrap();
    assert_eq!(became(&report), ["applied", "applied", "applied", "reported"], "{report:#?}");
    assert_eq!(everything(&kept.authority), opened);
    let entries = "SELECT COUNT(*) FROM switchover.journal WHERE kind = 1";
    assert_eq!(kept.standby.sql(entries)[0][0], "3");
    assert_eq!(settle(&request).await.unwrap(), report);
    assert_eq!(kept.standby.sql(entries)[0][0], "3");
    // (the store's own row was written behind the proxy's back: no journal has it)
    kept.standby.sql("UPDATE d.t SET v = 'b' WHERE id = 2");
    follows(&mut kept);
    write(&kept, "INSERT INTO u VALUES (4711, 'after')");
    eventually("the old authority has it all", || everything(&kept.authority) == everything(&kept.standby));
    assert_eq!(kept.authority.sql("SELECT v FROM d.t ORDER BY id").concat(), ["left", "b", "new"]);
}

#[tokio::test]
async fn each_step_is_done_once_over_a_crash() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)");
    let request = fall_back(&mut kept).await;
    let opened = everything(&kept.standby);
    for n in 0..5 {
        kept.authority.sql_in("d", &format!("INSERT INTO t VALUES ({}, 'x{n}', 0)", 100 + n));
        kept.authority.sql_in("d", "UPDATE t SET n = n + 1 WHERE id <> 2");
    }
    seal(&kept.authority);
    let left = everything(&kept.authority);
    let transactions = settle::record(&request).await.unwrap().unwrap();
    assert_eq!(transactions.len(), 10);
    // on record, and nothing else has changed; again, from what is on record
    let pending =
        "SELECT COUNT(DISTINCT transaction_id), COUNT(*) FROM switchover.left_behind WHERE settled = 'pending'";
    assert_eq!(kept.standby.sql(pending).concat(), ["10", "25"]);
    kept.standby.kill();
    kept.standby.restart();
    assert_eq!(settle::record(&request).await.unwrap().unwrap(), transactions);
    assert_eq!((everything(&kept.authority), everything(&kept.standby)), (left.clone(), opened.clone()));
    // taken back, and the store dies
    for _ in 0..2 {
        assert_eq!(settle::rewind(&request, &transactions).await.unwrap(), Rewound::Done);
        assert_eq!(everything(&kept.authority), opened);
        kept.authority.kill();
        kept.authority.restart();
    }
    // some are applied
    let settling = request.settling();
    let mut new = rounds::connect(&request.new, "analytics").await.unwrap();
    let mut catalog_of = control::connect(&request.new, Duration::from_secs(5)).await.unwrap();
    let catalog = switchover::standby::catalog::read(&mut catalog_of, &request.tables).await.unwrap();
    let none = Default::default();
    let onto = reapply::Reapply { settling: &settling, catalog: &catalog, journal: None };
    reapply::reapply(&mut new, onto, &transactions[..3], &none).await.unwrap();
    // (without knowing that they are)
    reapply::reapply(&mut new, onto, &transactions[..5], &none).await.unwrap();
    let report = settle(&request).await.unwrap();
    assert_eq!(became(&report), ["applied"; 10]);
    assert_eq!(everything(&kept.standby), left);
    goes_on(kept);
}

/// Ended at any moment, begun again, ended again …
#[tokio::test]
async fn a_settlement_that_is_cut_off_anywhere_goes_on() {
    let mut kept = Kept::start(super::workload::SCHEMA, &[]);
    kept.authority.sql("CREATE DATABASE other");
    kept.authority.sql("CREATE TABLE other.elsewhere (a INT)");
    let mut dice = Dice(0xBAD_5EED);
    // without TRUNCATE, and without what sets foreign keys off
    let some = |dice: &mut Dice, server: &Server, count| {
        for _ in 0..count {
            let sql = super::workload::statement(dice, CRASH_SAFE);
            if !sql.contains("parent") {
                let _ = server.try_sql(Some("d"), &sql);
            }
        }
    };
    some(&mut dice, &kept.authority, 150);
    let request = fall_back(&mut kept).await;
    let opened = everything(&kept.standby);
    some(&mut dice, &kept.authority, 120);
    let left = everything(&kept.authority);
    assert_ne!(left, opened);
    let mut cut = 0;
    let report = loop {
        // each goes on from where the one before came to, a little further
        let limit = Duration::from_millis(5 + cut * 10 + dice.roll(20));
        match tokio::time::timeout(limit, settle(&request)).await {
            Ok(Ok(report)) => break report,
            Ok(Err(Failed::Busy(_) | Failed::Lost(_))) | Err(_) => cut += 1,
            Ok(Err(other)) => panic!("{other}"),
        }
        assert!(cut < 500);
    };
    assert!(cut > 5, "{cut}");
    assert_eq!(report.count("applied"), report.transactions.len(), "{report:#?}");
    assert!(report.transactions.len() > 20, "{report:#?}");
    assert_eq!(everything(&kept.authority), opened);
    assert_eq!(everything(&kept.standby), left);
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_to_be_loaded_again() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'a', 1)");
    let request = fall_back(&mut kept).await;
    kept.authority.sql_in("d", "INSERT INTO u VALUES (1, 'left')");
    kept.authority.sql_in("d", "TRUNCATE TABLE t");
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'b', 1)");
    for _ in 0..2 {
        let report = settle(&request).await.unwrap();
        assert_eq!(became(&report), ["applied", "reported", "reported"]);
        let (what, remedy) = report.reload.unwrap();
        assert!(
            what.contains("d.t was emptied") && remedy.contains("switchover init analytics --from"),
            "{what} {remedy}"
        );
    }
    // nobody applies to it until then
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM switchover.marks")[0][0], "0");
    assert_eq!(kept.standby.sql("SELECT * FROM d.t").concat(), ["1", "a", "1"]);
    assert_eq!(kept.standby.sql("SELECT * FROM d.u").concat(), ["1", "left"]);
}

/// A row is compared as the log has it, whatever its type.
#[tokio::test]
async fn every_type_is_taken_back_and_applied() {
    let mut schema = String::new();
    for (n, (sql, _)) in TYPES.iter().enumerate() {
        schema += &format!("CREATE TABLE t{n} (id INT PRIMARY KEY AUTO_INCREMENT, v {sql} NULL, w {sql} NULL);\n");
    }
    let mut kept = Kept::start(&schema, &["--sql-mode=ALLOW_INVALID_DATES"]);
    let write = |server: &PrivateServer, update: bool| {
        let mut wrong = Vec::new();
        for (n, (sql, values)) in TYPES.iter().enumerate() {
            let mut text = String::from("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+05:30';\n");
            if update {
                text +=
                    &format!("UPDATE t{n} SET w = v, v = NULL WHERE id % 3 = 0;\nDELETE FROM t{n} WHERE id % 3 = 1;\n");
            }
            for value in *values {
                text +=
                    &format!("INSERT INTO t{n} (v, w) VALUES ({value}, NULL), (NULL, {value}), ({value}, {value});\n");
            }
            session(server, &text, sql, &mut wrong);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    };
    write(&kept.authority, false);
    let request = fall_back(&mut kept).await;
    let sums = |server: &Server| -> Vec<Vec<String>> {
        (0..TYPES.len()).map(|n| server.sql(&format!("CHECKSUM TABLE d.t{n} EXTENDED")).concat()).collect()
    };
    let opened = sums(&kept.standby);
    write(&kept.authority, true);
    let left = sums(&kept.authority);
    let report = settle(&request).await.unwrap();
    assert_eq!(report.reload, None);
    let why =
        "SELECT DISTINCT table_name, was, found, why FROM switchover.left_behind WHERE settled <> 'applied' LIMIT 20";
    assert_eq!(report.count("applied"), report.transactions.len(), "{:#?}", kept.standby.sql(why));
    assert_eq!(sums(&kept.authority), opened);
    assert_eq!(sums(&kept.standby), left);
}

/// What the standby had of the log behind its position, from a round that was torn, was not left behind.
#[tokio::test]
async fn what_a_torn_round_applied_stays() {
    let mut kept = Kept::start(SCHEMA, &[]);
    let mut request = fall_back(&mut kept).await;
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'left', 0)");
    kept.authority.sql_in("d", "INSERT INTO t VALUES (2, 'had', 0)");
    request.applied = [kept.authority.sql("SELECT @@gtid_binlog_pos")[0][0].clone()].into();
    kept.authority.sql_in("d", "UPDATE t SET n = 5 WHERE id = 2");
    kept.standby.sql_in("d", "INSERT INTO t VALUES (2, 'had', 0)");
    request.opened = kept.standby.sql("SELECT @@gtid_binlog_pos")[0][0].parse().unwrap();
    let opened = everything(&kept.standby);
    let report = settle(&request).await.unwrap();
    assert_eq!(became(&report), ["applied", "applied"]);
    assert_eq!(everything(&kept.authority), opened);
    assert_eq!(kept.standby.sql("SELECT * FROM d.t ORDER BY id").concat(), ["1", "left", "0", "2", "had", "5"]);
    goes_on(kept);
}

/// Two proxies that find the old authority back at the same moment.
#[tokio::test]
async fn two_settle_at_once_and_each_is_done_once() {
    let mut kept = Kept::start(SCHEMA, &[]);
    kept.authority.sql_in("d", "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)");
    let request = fall_back(&mut kept).await;
    let opened = everything(&kept.standby);
    for n in 0..30 {
        kept.authority.sql_in("d", &format!("INSERT INTO t VALUES ({}, 'x{n}', 0)", 100 + n));
        kept.authority.sql_in("d", "UPDATE t SET n = n + 1 WHERE id <> 2");
    }
    let left = everything(&kept.authority);
    let until_done = async || loop {
        match settle(&request).await {
            Ok(report) => break report,
            Err(Failed::Busy(_) | Failed::Lost(_)) => {}
            Err(other) => panic!("{other}"),
        }
    };
    let (a, b) = tokio::join!(until_done(), until_done());
    assert_eq!(a, b);
    assert_eq!(became(&a), ["applied"; 60]);
    assert_eq!((everything(&kept.authority), everything(&kept.standby)), (opened, left));
}
