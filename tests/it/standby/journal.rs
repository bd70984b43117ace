//! The journal's reader, against writers that write rows and entries straight through SQL, as proxies do: MariaDB poses as an
//! authority without a binlog.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};
use switchover::changes::journal::{self, Entry, Ids, Kind, Secret, codec, entry};
use switchover::entry::{Change, LoggedType, RowChange, Shape, TableName, Uuid, Value};
use switchover::standby::schema as super_schema;

use super::workload::Dice;
use super::{Kept, journaled, statements};
use crate::support::{PrivateServer, Proxy, eventually, long, mariadb};

const SECRET: Secret = Secret([7; 32]);
const SCHEMA: &str = "CREATE TABLE t (id INT PRIMARY KEY, n INT, v VARCHAR(40))";
/// What RULES.md 30 asks of an authority without a binlog.
pub(super) const WITHOUT_BINLOG: &[&str] = &["--skip-log-bin", "--innodb-flush-log-at-trx-commit=1"];
pub(super) const START: &str = "journal/0/00000000000000000000000000000000";

fn kept(ids: Ids, from: &str) -> Kept {
    kept_with(ids, from, SCHEMA, WITHOUT_BINLOG)
}

/// Both stores, `switchover init`'s work done by hand, and a proxy that reads the journal.
pub(super) fn kept_with(ids: Ids, from: &str, schema: &str, arguments: &[&str]) -> Kept {
    let authority = PrivateServer::start(11, arguments);
    let standby = PrivateServer::start(12, super::DURABLE);
    for server in [&authority, &standby] {
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        statements(server, schema);
        super_schema::STATEMENTS.iter().for_each(|sql| drop(server.sql(sql)));
    }
    journal::schema::STATEMENTS.iter().for_each(|sql| drop(authority.sql(sql)));
    if ids == Ids::Sequence {
        authority.sql(journal::schema::SEQUENCE);
    }
    authority.sql(&format!("INSERT INTO switchover.secrets VALUES ('journal', REPEAT(CHAR({}), 32))", SECRET.0[0]));
    authority.sql(&journal::schema::gate("switchover: sealed: by hand"));
    for (server, state) in [(&authority, "open"), (&standby, "standby")] {
        for group in ["analytics", "another"] {
            let row = format!("('{group}', 1, 'legacy', '{state}', 't', '', NOW(6))");
            server.sql(&format!("INSERT INTO switchover.groups VALUES {row}"));
        }
    }
    standby.sql("INSERT INTO switchover.leases VALUES ('analytics', 1, '', '1970-01-02')");
    standby.sql(&format!(
        "INSERT INTO switchover.marks VALUES ('analytics', 0, 1, 'legacy', 0, 1, '{from}', '{from}', '', 0)"
    ));
    let proxy = Proxy::start(|port| journaled(port, &authority, &standby, &["legacy"]));
    let kept = Kept { authority, standby, proxy };
    eventually("the standby applies", || kept.show()["state"] == "applying");
    kept
}

/// The newest id that the standby is at.
fn at(kept: &Kept) -> u64 {
    let position = kept.show()["position"].as_str().unwrap_or_default().to_owned();
    position.split('/').nth(1).and_then(|id| id.parse().ok()).unwrap_or(0)
}

fn newest(kept: &Kept) -> u64 {
    kept.authority.sql("SELECT COALESCE(MAX(id), 0) FROM switchover.journal")[0][0].parse().unwrap()
}

pub(super) fn catch_up(kept: &Kept) {
    let wanted = newest(kept);
    let deadline = Instant::now() + Duration::from_secs(120);
    while at(kept) < wanted {
        let standby = kept.show();
        assert!(standby["state"] != "stopped", "{standby:#}");
        assert!(Instant::now() < deadline, "not at {wanted}: {standby:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn stopped(kept: &Kept, words: &[&str]) -> serde_json::Value {
    eventually("the standby is stopped", || kept.show()["state"] == "stopped");
    let standby = kept.show();
    for word in words {
        assert!(standby.to_string().contains(word), "{word}: {standby:#}");
    }
    standby
}

fn shape() -> Arc<Shape> {
    let types = [3u8, 3, 252].map(|code| LoggedType { code, meta: 0 }).to_vec();
    Arc::new(Shape { name: TableName { database: "d".into(), name: "t".into() }, types })
}

fn image(row: Row) -> switchover::entry::Row {
    let (id, n, v): (i64, Option<i64>, Option<String>) = mysql_async::from_row(row);
    let text = v.map_or(Value::Null, |v| Value::Bytes(v.into_bytes().into()));
    [Value::Int(id), n.map_or(Value::Null, Value::Int), text].into()
}

fn row(id: i64, n: i64, v: &str) -> switchover::entry::Row {
    [Value::Int(id), Value::Int(n), Value::Bytes(v.as_bytes().into())].into()
}

fn changed(change: Change) -> RowChange {
    RowChange { table: shape(), change, foreign_keys: true }
}

/// The entries of a transaction, one for each part.
fn entries(parts: &[&[RowChange]]) -> Vec<Entry> {
    let transaction = journal::new_uuid();
    let last = parts.len() - 1;
    let entry = |(n, changes): (usize, &&[RowChange])| Entry {
        uuid: journal::new_uuid(),
        group: "analytics".into(),
        transaction,
        part: u32::try_from(n).unwrap(),
        parts: if n == last { u32::try_from(last).unwrap() } else { 0 },
        kind: if n == last { Kind::Commit } else { Kind::Rows },
        at: journal::now(),
        payload: codec::write(changes),
    };
    parts.iter().enumerate().map(entry).collect()
}

fn insert(parts: &[&[RowChange]]) -> String {
    entry::insert(&entries(parts), &SECRET, Ids::Sequence)
}

async fn images(c: &mut Conn, rows: &str, lock: &str) -> mysql_async::Result<Vec<switchover::entry::Row>> {
    let sql = format!("SELECT id, n, v FROM d.t WHERE {rows} ORDER BY id {lock}");
    Ok(c.query::<Row, _>(sql).await?.into_iter().map(image).collect())
}

/// One write as the proxy records it: images before it, locked; the write; images after it.
async fn write(c: &mut Conn, dice: &mut Dice, changes: &mut Vec<RowChange>) -> mysql_async::Result<()> {
    let (a, b) = (dice.roll(40), dice.roll(1_000));
    let (rows, sql) = match dice.roll(5) {
        0 | 1 => (
            format!("id IN ({a}, {})", a + 1),
            format!("INSERT INTO d.t VALUES ({a}, {b}, 'é{b}'), ({}, NULL, NULL)", a + 1),
        ),
        2 => (format!("id = {a}"), format!("UPDATE d.t SET n = COALESCE(n, 0) + 1, v = 'x{b}' WHERE id = {a}")),
        3 => (
            format!("id BETWEEN {a} AND {}", a + 5),
            format!("UPDATE d.t SET n = n * 2 % 997 WHERE id BETWEEN {a} AND {}", a + 5),
        ),
        _ => (format!("id BETWEEN {a} AND {}", a + 2), format!("DELETE FROM d.t WHERE id BETWEEN {a} AND {}", a + 2)),
    };
    let inserts = sql.starts_with("INSERT");
    let before = if inserts { Vec::new() } else { images(c, &rows, "FOR UPDATE").await? };
    c.query_drop(sql).await?;
    // a row that came between the two, which READ COMMITTED does not keep out: its image is not known (the driver counts matched rows)
    if !inserts && c.affected_rows() != before.len() as u64 {
        return Err(mysql_async::Error::Server(mysql_async::ServerError {
            code: 1213,
            message: "a phantom".into(),
            state: "40001".into(),
        }));
    }
    if !inserts && before.is_empty() {
        return Ok(());
    }
    let keys: Vec<String> =
        before.iter().map(|row| if let Value::Int(id) = row[0] { id.to_string() } else { String::new() }).collect();
    let rows = if inserts { rows } else { format!("id IN ({})", keys.join(",")) };
    let after = images(c, &rows, "").await?;
    if inserts {
        changes.extend(after.into_iter().map(|row| changed(Change::Insert(row))));
    } else if after.is_empty() {
        changes.extend(before.into_iter().map(|row| changed(Change::Delete(row))));
    } else {
        assert_eq!(before.len(), after.len());
        changes.extend(before.into_iter().zip(after).map(|(before, after)| changed(Change::Update(before, after))));
    }
    Ok(())
}

async fn transaction(c: &mut Conn, dice: &mut Dice, ids: Ids) -> mysql_async::Result<()> {
    c.query_drop("BEGIN").await?;
    let mut parts = Vec::new();
    for _ in 0..=dice.roll(3) {
        let mut changes = Vec::new();
        match write(c, dice, &mut changes).await {
            Ok(()) => {}
            // a duplicate undoes its statement, a deadlock everything
            Err(mysql_async::Error::Server(e)) if e.code == 1062 => changes.clear(),
            Err(e) => {
                let _ = c.query_drop("ROLLBACK").await;
                return Err(e);
            }
        }
        if !changes.is_empty() {
            parts.push(changes);
        }
    }
    if dice.roll(6) == 0 {
        // ids that are given away and never used
        if ids == Ids::Sequence {
            c.query_drop("SELECT NEXT VALUE FOR switchover.journal_ids").await?;
        }
        return c.query_drop("ROLLBACK").await;
    }
    if parts.is_empty() {
        return c.query_drop("COMMIT").await;
    }
    let parts: Vec<&[RowChange]> = parts.iter().map(Vec::as_slice).collect();
    c.query_drop(format!("{}; COMMIT", entry::insert(&entries(&parts), &SECRET, ids))).await
}

async fn writer(port: u16, seed: u64, isolation: &str, ids: Ids, over: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut dice = Dice(seed);
    let mut conn: Option<Conn> = None;
    while !over.load(Ordering::Relaxed) {
        let Some(c) = conn.as_mut() else {
            if let Ok(mut c) = Conn::new(mariadb::opts(port)).await
                && c.query_drop(format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}")).await.is_ok()
            {
                conn = Some(c);
            } else {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        match transaction(c, &mut dice, ids).await {
            Ok(()) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(mysql_async::Error::Server(e)) if matches!(e.code, 1213 | 1205 | 1062) => {}
            Err(_) => conn = None,
        }
    }
}

async fn under_load(kept: &mut Kept, isolation: &str, ids: Ids, rounds: u64, kill: bool) {
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (1..=4u64)
        .map(|n| {
            let (port, isolation) = (kept.authority.port, isolation.to_owned());
            let (over, done) = (Arc::clone(&over), Arc::clone(&done));
            tokio::spawn(async move { writer(port, n * 0x9E37_79B9, &isolation, ids, over, done).await })
        })
        .collect();
    let mut dice = Dice(0xD1CE);
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(300 + dice.roll(700))).await;
        match round % 3 {
            0 if kill => {
                kept.authority.kill();
                kept.authority.restart();
            }
            1 if kill => {
                kept.standby.kill();
                kept.standby.restart();
            }
            2 if kill => kept.proxy.restart(),
            _ => {}
        }
    }
    eventually("the writers come forward", || done.load(Ordering::Relaxed) > 60);
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    catch_up(kept);
    kept.assert_same();
}

/// RULES.md 31: in both isolation levels.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_stores_hold_the_same() {
    let mut kept = kept(Ids::Sequence, START);
    let rounds = if long() { 60 } else { 5 };
    under_load(&mut kept, "REPEATABLE READ", Ids::Sequence, rounds, false).await;
    under_load(&mut kept, "READ COMMITTED", Ids::Sequence, rounds, false).await;
}

/// RULES.md 30 and 32: `kill -9` of the authority, the standby and the proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_applied_twice() {
    let mut kept = kept(Ids::Sequence, START);
    under_load(&mut kept, "READ COMMITTED", Ids::Sequence, if long() { 120 } else { 9 }, true).await;
}

/// A store without sequences: ids from a row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_from_a_row_do_as_well() {
    let mut kept = kept(Ids::Row, START);
    under_load(&mut kept, "READ COMMITTED", Ids::Row, if long() { 60 } else { 6 }, true).await;
    let gaps = kept.authority.sql("SELECT MAX(id) - COUNT(*), SUM(kind = 2) FROM switchover.journal");
    assert_eq!(gaps[0], ["0", "0"], "an id was left out, or given up");
}

/// RULES.md 32: what is behind a missing id waits until it is known whether that one is in flight or dead; a late one fails.
#[tokio::test]
async fn a_missing_id_is_waited_for_or_buried() {
    let kept = kept(Ids::Sequence, START);
    let mut slow = kept.authority.connect().await;
    slow.query_drop("BEGIN").await.unwrap();
    slow.query_drop("INSERT INTO d.t VALUES (1, 1, 'slow')").await.unwrap();
    slow.query_drop(insert(&[&[changed(Change::Insert(row(1, 1, "slow")))]])).await.unwrap();
    let mut quick = kept.authority.connect().await;
    quick.query_drop("BEGIN; INSERT INTO d.t VALUES (2, 2, 'quick')").await.unwrap();
    quick.query_drop(format!("{}; COMMIT", insert(&[&[changed(Change::Insert(row(2, 2, "quick")))]]))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(kept.standby.sql("SELECT * FROM d.t").is_empty(), "applied ahead of a transaction in flight");
    slow.query_drop("COMMIT").await.unwrap();
    eventually("both are applied", || kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0] == "2");
    // an id that was given away, and whose entry comes too late: buried meanwhile, it fails with its transaction
    slow.query_drop("BEGIN; INSERT INTO d.t VALUES (3, 3, 'late')").await.unwrap();
    let id: u64 = slow.query_first("SELECT NEXT VALUE FOR switchover.journal_ids").await.unwrap().unwrap();
    quick.query_drop("BEGIN; UPDATE d.t SET n = 5 WHERE id = 2").await.unwrap();
    let update = changed(Change::Update(row(2, 2, "quick"), row(2, 5, "quick")));
    quick.query_drop(format!("{}; COMMIT", insert(&[&[update]]))).await.unwrap();
    eventually("what is behind it is applied", || kept.standby.sql("SELECT n FROM d.t WHERE id = 2")[0][0] == "5");
    let late = insert(&[&[changed(Change::Insert(row(3, 3, "late")))]]);
    let late = late.replace("NEXT VALUE FOR switchover.journal_ids", &id.to_string());
    let failed = slow.query_drop(late).await.unwrap_err();
    assert!(matches!(&failed, mysql_async::Error::Server(e) if e.code == 1062), "{failed}");
    slow.query_drop("ROLLBACK").await.unwrap();
    catch_up(&kept);
    kept.assert_same();
}

/// RULES.md 43: entries of somebody who may insert, and does not know the secret.
#[tokio::test]
async fn forged_entries_stop_the_group() {
    let kept = kept(Ids::Sequence, START);
    let mut c = kept.authority.connect().await;
    let change = || changed(Change::Insert(row(1, 1, "forged")));
    let forged = entry::insert(&entries(&[&[change()]]), &Secret([8; 32]), Ids::Sequence);
    c.query_drop(forged).await.unwrap();
    let standby = stopped(&kept, &["is not signed by a proxy", "switchover.journal"]);
    assert!(kept.standby.sql("SELECT * FROM d.t").is_empty());
    let id = standby["transaction"].as_str().unwrap();
    assert!(kept.proxy.cli(&["standby", "skip", "analytics", id, "--reason", "forged"]).ok);
    // one of another group is not ours to judge; then a good one, and a good one that was changed
    let mut other = entries(&[&[change()]]);
    other[0].group = "another".into();
    c.query_drop(entry::insert(&other, &Secret([8; 32]), Ids::Sequence)).await.unwrap();
    c.query_drop(format!(
        "BEGIN; INSERT INTO d.t VALUES (1, 1, 'true'); {}; COMMIT",
        insert(&[&[changed(Change::Insert(row(1, 1, "true")))]])
    ))
    .await
    .unwrap();
    catch_up(&kept);
    kept.assert_same();
    let sql = "UPDATE switchover.journal SET made_at = made_at + 1 ORDER BY id DESC LIMIT 1";
    kept.proxy.signal(rustix::process::Signal::STOP);
    c.query_drop(insert(&[&[changed(Change::Delete(row(1, 1, "true")))]])).await.unwrap();
    c.query_drop(sql).await.unwrap();
    kept.proxy.signal(rustix::process::Signal::CONT);
    stopped(&kept, &["is not signed by a proxy"]);
    // an entry far ahead: no gap of a sequence
    let far = insert(&[&[change()]]).replace("NEXT VALUE FOR switchover.journal_ids", "9999999999");
    let mut kept = kept;
    c.query_drop("DELETE FROM switchover.journal WHERE kind = 1 AND group_name = 'analytics' ORDER BY id DESC LIMIT 1")
        .await
        .unwrap();
    c.query_drop(far).await.unwrap();
    kept.proxy.restart();
    stopped(&kept, &["ids of the journal are missing before 9999999999"]);
}

/// RULES.md 30: a store that lost entries gives their ids away again.
#[tokio::test]
async fn an_id_with_a_second_life_stops_the_group() {
    let mut kept = kept(Ids::Sequence, START);
    let mut c = kept.authority.connect().await;
    c.query_drop(format!(
        "BEGIN; INSERT INTO d.t VALUES (1, 1, 'a'); {}; COMMIT",
        insert(&[&[changed(Change::Insert(row(1, 1, "a")))]])
    ))
    .await
    .unwrap();
    catch_up(&kept);
    kept.proxy.kill();
    let id = newest(&kept);
    kept.authority.sql(&format!("DELETE FROM switchover.journal WHERE id = {id}"));
    kept.proxy.restart();
    stopped(&kept, &["is not there any more", "load the standby again"]);
    kept.proxy.kill();
    let again = insert(&[&[changed(Change::Insert(row(2, 2, "b")))]]);
    kept.authority.sql(&again.replace("NEXT VALUE FOR switchover.journal_ids", &id.to_string()));
    kept.proxy.restart();
    stopped(&kept, &["the authority lost what it had"]);
}

/// A transaction of several entries with another's between them, read from a position between them; and one without an entry.
#[tokio::test]
async fn a_transaction_is_whole_or_stops_the_group() {
    let uuid = Uuid([5; 16]);
    let mut kept = kept(Ids::Sequence, START);
    kept.proxy.kill();
    let mut c = kept.authority.connect().await;
    c.query_drop("BEGIN; INSERT INTO d.t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')").await.unwrap();
    let parts: Vec<RowChange> =
        [(1, "a"), (2, "b"), (3, "c")].map(|(n, v)| changed(Change::Insert(row(n, n, v)))).into();
    let of: Vec<&[RowChange]> = parts.chunks(1).collect();
    let mut ids = [1, 2, 4].into_iter();
    let mut sql = insert(&of);
    while sql.contains("NEXT VALUE") {
        sql = sql.replacen("NEXT VALUE FOR switchover.journal_ids", &ids.next().unwrap().to_string(), 1);
    }
    let mut between = entries(&[&[]]);
    between[0].uuid = uuid;
    between[0].group = "another".into();
    let between = entry::insert(&between, &SECRET, Ids::Sequence).replace("NEXT VALUE FOR switchover.journal_ids", "3");
    c.query_drop(format!("{sql}; {between}; COMMIT")).await.unwrap();
    kept.standby.sql(&format!("UPDATE switchover.marks SET position = 'journal/3/{uuid}', base = 'journal/3/{uuid}'"));
    kept.proxy.restart();
    catch_up(&kept);
    kept.assert_same();
    // its middle entry goes before anybody has read it
    kept.proxy.kill();
    c.query_drop("SELECT SETVAL(switchover.journal_ids, 4)").await.unwrap();
    c.query_drop(insert(&of)).await.unwrap();
    c.query_drop("UPDATE switchover.journal SET group_name = 'another' WHERE id = 6").await.unwrap();
    kept.proxy.restart();
    stopped(&kept, &["entries of the transaction are missing"]);
}

/// `switchover init` makes the journal, refuses tables that cannot be recorded, and begins where both stores are the same.
#[tokio::test]
async fn init_begins_a_journal() {
    let authority = PrivateServer::start(11, &["--skip-log-bin", "--innodb-flush-log-at-trx-commit=2"]);
    let standby = PrivateServer::start(12, super::DURABLE);
    for server in [&authority, &standby] {
        server.sql("CREATE DATABASE d CHARACTER SET utf8mb4");
        statements(server, SCHEMA);
        server.sql("CREATE TABLE d.plain (id INT PRIMARY KEY) ENGINE = InnoDB");
    }
    authority.sql("ALTER TABLE d.plain DROP PRIMARY KEY");
    authority.sql("CREATE TRIGGER d.x BEFORE INSERT ON d.t FOR EACH ROW SET NEW.n = 1");
    let proxy = Proxy::start(|port| journaled(port, &authority, &standby, &["legacy"]));
    let mut c = proxy.connect("d").await;
    let early = c.query_drop("INSERT INTO t VALUES (1, 1, 'early')").await.unwrap_err();
    assert!(early.to_string().contains("switchover init analytics"), "{early}");
    let refused = proxy.cli(&["init"]);
    for words in ["innodb_flush_log_at_trx_commit = 2", "d.plain has no primary key", "d.t has triggers"] {
        assert!(!refused.ok && refused.stdout.contains(words), "{words}: {}", refused.stdout);
    }
    for sql in [
        "SET GLOBAL innodb_flush_log_at_trx_commit = 1",
        "ALTER TABLE d.plain ADD PRIMARY KEY (id), ENGINE = Aria",
        "DROP TRIGGER d.x",
    ] {
        authority.sql(sql);
    }
    authority.sql("INSERT INTO d.t VALUES (1, 1, 'a')");
    let differs = proxy.cli(&["init"]);
    assert!(!differs.ok && differs.stdout.contains("d.t differs: 1 rows on legacy, 0 on new"), "{}", differs.stdout);
    standby.sql("INSERT INTO d.t VALUES (1, 1, 'a')");
    let printed = proxy.cli(&["init", "--print"]).text();
    for words in [
        "TABLE IF NOT EXISTS switchover.journal (",
        "switchover.journal_open (",
        "GRANT INSERT, SELECT, DELETE ON switchover.journal_open",
    ] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    let begun = proxy.cli(&["init"]);
    assert!(begun.ok && begun.stdout.contains("the copy begins at journal/0/"), "{}{}", begun.stdout, begun.stderr);
    let kept = Kept { authority, standby, proxy };
    kept.retry();
    c.query_drop("INSERT INTO t VALUES (2, 2, 'b')").await.unwrap();
    c.query_drop("UPDATE t SET n = n + 1").await.unwrap();
    catch_up(&kept);
    kept.assert_same();
    let again = kept.proxy.cli(&["init"]);
    assert!(again.ok && again.stdout.contains("has begun already"), "{}", again.stdout);
}

/// What every group has applied goes, when it is old; the entry that a position names stays, and what a transaction in flight needs.
#[tokio::test]
async fn what_is_applied_is_purged() {
    let mut kept = kept(Ids::Sequence, START);
    let mut c = kept.proxy.connect("d").await;
    for n in 0..20 {
        c.query_drop(format!("INSERT INTO t VALUES ({n}, {n}, 'a')")).await.unwrap();
    }
    catch_up(&kept);
    let count = || kept.authority.sql("SELECT COUNT(*) FROM switchover.journal")[0][0].clone();
    let mut late = kept.authority.connect().await;
    // a group that reads later keeps what it has not read
    kept.authority.sql(journal::schema::READERS);
    kept.authority.sql("INSERT INTO switchover.journal_readers VALUES ('slow', 10)");
    late.query_drop("UPDATE switchover.journal SET made_at = made_at - 3600").await.unwrap();
    eventually("those below the slower group's position go", || count() == "11");
    kept.authority.sql("DELETE FROM switchover.journal_readers WHERE group_name = 'slow'");
    eventually("one is left", || count() == "1");
    kept.proxy.restart();
    let mut c = kept.proxy.connect("d").await;
    c.query_drop("DELETE FROM t WHERE id < 10").await.unwrap();
    catch_up(&kept);
    kept.assert_same();
    assert_eq!(kept.authority.sql("SELECT COUNT(*) FROM switchover.journal")[0][0], "2", "a young entry has gone");
}
