//! `ack: standby`: what was acknowledged is on the standby at that moment, whatever statement wrote it: LOAD DATA LOCAL, alone and
//! among others in one text.

use std::path::PathBuf;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, WhiteListFsHandler};

use super::Kept;
use crate::support::{eventually, mariadb};

const TABLES: &str = "CREATE TABLE t (id BIGINT PRIMARY KEY, pad VARCHAR(500) NOT NULL)";
/// Several packets' worth.
const ROWS: u64 = 400;

fn with_standby(pool: &str) -> Kept {
    let kept = Kept::start(TABLES, &[]);
    let keys = "    standby: new\n    ack: standby\n    ack_timeout: 5s\n";
    kept.proxy.edit_config(|text| format!("pool: {pool}\n{}", text.replace("    standby: new\n", keys)));
    eventually("it is read", || kept.proxy.status()["epoch"] == 2);
    eventually("it is waited for", || kept.proxy.status()["groups"][0]["authority"]["acks"] == "standby");
    kept
}

/// A file of rows, with these first ids.
fn file(kept: &Kept, from: u64) -> PathBuf {
    let path = kept.proxy.folder.join(format!("rows-{from}"));
    let rows: String = (from..from + ROWS).map(|id| format!("{id}\t{}\n", "x".repeat(400))).collect();
    std::fs::write(&path, rows).unwrap();
    path
}

#[tokio::test]
async fn a_loaded_file_is_acknowledged_when_the_standby_has_it() {
    for pool in ["session", "transaction"] {
        let kept = with_standby(pool);
        let files = [1_000, 2_000, 3_000].map(|from| file(&kept, from));
        let opts = mariadb::opts(kept.proxy.port).db_name(Some("d"));
        let mut conn = Conn::new(opts.local_infile_handler(Some(WhiteListFsHandler::new(&files[..])))).await.unwrap();
        let load = |at: usize| format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE t", files[at].display());
        let there = || kept.standby.sql("SELECT COUNT(*) FROM d.t")[0][0].parse::<u64>().unwrap();

        conn.query_drop(load(0)).await.unwrap();
        assert_eq!((conn.affected_rows(), there()), (ROWS, ROWS), "{pool}");

        let text = format!("INSERT INTO t VALUES (1, ''), (2, ''); {}; DELETE FROM t WHERE id = 1", load(1));
        let mut result = conn.query_iter(text).await.unwrap();
        let mut affected = Vec::new();
        loop {
            affected.push(result.affected_rows());
            if result.is_empty() && affected.len() == 3 {
                break;
            }
            let _: Vec<mysql_async::Row> = result.collect().await.unwrap();
        }
        drop(result);
        assert_eq!((affected, there()), (vec![2, ROWS, 1], 2 * ROWS + 1), "{pool}");

        // in a transaction nothing is owed before its end
        conn.query_drop(format!("BEGIN; {}", load(2))).await.unwrap();
        assert_eq!(there(), 2 * ROWS + 1, "{pool}");
        conn.query_drop("COMMIT").await.unwrap();
        assert_eq!(there(), 3 * ROWS + 1, "{pool}");
        // what is refused is the client's to hear, and its connection goes on
        let refused =
            conn.query_drop(format!("INSERT INTO t VALUES (3, ''); {}", load(0).replace("TABLE t", "TABLE u"))).await;
        assert!(refused.unwrap_err().to_string().contains("1146"), "{pool}");
        let count: Option<u64> = conn.query_first("SELECT COUNT(*) FROM t").await.unwrap();
        assert_eq!((count, there()), (Some(3 * ROWS + 2), 3 * ROWS + 2), "{pool}");
        assert_eq!(kept.proxy.status()["groups"][0]["authority"]["acknowledged_alone"], 0);
    }
}
