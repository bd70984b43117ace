//! Rules 5–7 and 14–19 by long transcripts: each runs on one server directly, and on two stores through the proxy; what the client
//! gets must be the same to the byte, status flags and all. Each line is there because it was wrong once, or may easily be.

use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use crate::support::raw::{ORDINARY, Raw, plain};
use crate::support::{Database, Proxy, stores};

/// `hits` and `hits2` on the new store, all else on legacy.
fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "hits2", "sites"] {
        database.on_both(&format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL, s VARCHAR(10)) ENGINE=InnoDB"
        ));
        database.on_both(&format!("INSERT INTO {table} VALUES (1, 1, 'a'), (2, 2, 'b')"));
    }
    let proxy = Proxy::pair(&["hits", "hits2"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

const RESET: &str = "COM_RESET_CONNECTION";
/// COM_SET_OPTION.
const NO_MULTI: &str = "MULTI_STATEMENTS off";
const MULTI: &str = "MULTI_STATEMENTS on";

fn run(raw: &mut Raw, text: &str) -> Vec<(u8, Vec<u8>)> {
    match text {
        RESET => raw.send(0x1f, &[]),
        NO_MULTI => raw.send(0x1b, &[1, 0]),
        MULTI => raw.send(0x1b, &[0, 0]),
        _ => return raw.query(text),
    }
    raw.response(Expect::Ok)
}

fn compare(texts: &[&str]) {
    for capabilities in [ORDINARY, ORDINARY | Capabilities::DEPRECATE_EOF] {
        let ((one, _unused), (two, proxy)) = (ground(), ground());
        let mut direct = Raw::app(stores().legacy.port, capabilities, &one.name);
        let mut proxied = Raw::app(proxy.port, capabilities, &two.name);
        let mut differences = Vec::new();
        for text in texts {
            let (a, b) = (plain(run(&mut direct, text), &one.name), plain(run(&mut proxied, text), &two.name));
            if a != b {
                differences.push(format!("{text}\n  direct:  {a:?}\n  proxied: {b:?}"));
            }
        }
        assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    }
}

const HITS: &str = "SELECT * FROM hits";
const SITES: &str = "SELECT * FROM sites";

#[test]
fn rules_05_and_07_autocommit_off_and_savepoints() {
    compare(&[
        "SET autocommit=0",
        "SAVEPOINT a",
        "UPDATE hits SET n=10",
        "SAVEPOINT b",
        "UPDATE sites SET n=10",
        "ROLLBACK TO b",
        HITS,
        SITES,
        "ROLLBACK TO a",
        HITS,
        SITES,
        "UPDATE hits SET n=11",
        "COMMIT",
        HITS,
        SITES,
        "ROLLBACK TO a",
        "UPDATE hits SET n=12",
        "ROLLBACK",
        HITS,
        SITES,
        "RELEASE SAVEPOINT a",
        "SET autocommit=1",
        HITS,
        // as Django does it
        "SET autocommit=0",
        "UPDATE sites SET n=5 WHERE id=1",
        "SAVEPOINT s1",
        "INSERT INTO hits (n) VALUES (7)",
        "ROLLBACK TO SAVEPOINT s1",
        "RELEASE SAVEPOINT s1",
        "COMMIT",
        "SET autocommit = 1",
        HITS,
        SITES,
        "SET autocommit=0",
        "SELECT COUNT(*) FROM hits",
        "SELECT 1",
        "SET @a = 1",
        "ROLLBACK",
        "SET autocommit=1",
    ]);
}

#[test]
fn rule_05_what_commits_commits_everywhere() {
    compare(&[
        "BEGIN",
        "UPDATE hits SET n=20",
        "CREATE TABLE other (id INT)",
        "ROLLBACK",
        HITS,
        "BEGIN",
        "UPDATE sites SET n=30",
        "ALTER TABLE hits ADD COLUMN z INT",
        "ROLLBACK",
        HITS,
        SITES,
        "BEGIN",
        "UPDATE sites SET n=31",
        "UPDATE hits SET n=31",
        "TRUNCATE TABLE hits2",
        "ROLLBACK",
        HITS,
        SITES,
        "BEGIN",
        "UPDATE sites SET n=32",
        "UPDATE hits SET n=32",
        "CREATE TEMPORARY TABLE tmp (id INT)",
        "ROLLBACK",
        HITS,
        SITES,
        "BEGIN",
        "INSERT INTO hits(n) VALUES(4)",
        "ANALYZE TABLE sites",
        "ROLLBACK",
        HITS,
        "BEGIN",
        "INSERT INTO hits(n) VALUES(5)",
        "DROP TABLE other",
        "ROLLBACK",
        HITS,
        "BEGIN",
        "INSERT INTO hits(n) VALUES(5)",
        "DROP TABLE nope",
        "ROLLBACK",
        HITS,
        "BEGIN",
        "INSERT INTO hits(n) VALUES(6)",
        "LOCK TABLES sites READ",
        "UNLOCK TABLES",
        "ROLLBACK",
        HITS,
        "BEGIN",
        "INSERT INTO hits(n) VALUES(7)",
        "BEGIN",
        "ROLLBACK",
        HITS,
        "SET completion_type=1",
        "BEGIN",
        "UPDATE hits SET n=5",
        "COMMIT",
        "UPDATE hits SET n=6",
        "UPDATE sites SET n=6",
        "ROLLBACK",
        "ROLLBACK AND NO CHAIN",
        HITS,
        SITES,
        "SET completion_type=0",
        "BEGIN",
        "UPDATE hits SET n=7",
        "COMMIT AND CHAIN",
        "UPDATE hits SET n=8",
        "UPDATE sites SET n=8",
        "ROLLBACK",
        HITS,
        SITES,
    ]);
}

#[test]
fn rule_05_lock_tables_holds_on_every_store() {
    compare(&[
        "LOCK TABLES hits WRITE, sites READ",
        HITS,
        "UPDATE sites SET n=1",
        "UPDATE hits SET n=50",
        "BEGIN",
        "UPDATE sites SET n=2",
        "ROLLBACK",
        HITS,
        SITES,
        "LOCK TABLES hits READ",
        "SELECT COUNT(*) FROM sites",
        "INSERT INTO hits(n) VALUES(1)",
        "LOCK TABLES sites READ",
        "SELECT COUNT(*) FROM hits",
        "UNLOCK TABLES",
        "SELECT COUNT(*) FROM sites",
        "SET autocommit=0",
        "LOCK TABLES hits WRITE",
        "UPDATE hits SET n=51",
        "UNLOCK TABLES",
        "ROLLBACK",
        HITS,
        SITES,
        "SET autocommit=1",
        "LOCK TABLES sites WRITE",
        "SELECT COUNT(*) FROM hits",
        "UNLOCK TABLES",
        "LOCK TABLES hits WRITE",
        "CREATE TABLE x (id INT)",
        RESET,
        SITES,
        "HANDLER hits OPEN AS h",
        "HANDLER h READ FIRST",
        "HANDLER sites OPEN",
        "HANDLER sites READ NEXT",
        "HANDLER h READ NEXT",
        "HANDLER h CLOSE",
        "HANDLER h READ NEXT",
        "HANDLER sites CLOSE",
    ]);
}

#[test]
fn rule_07_one_shots_are_used_up_once() {
    compare(&[
        "SET TRANSACTION READ ONLY",
        "UPDATE hits SET n=1",
        "UPDATE hits SET n=1",
        "COMMIT",
        "UPDATE hits SET n=9",
        "SET TRANSACTION READ ONLY",
        "SELECT COUNT(*) FROM hits",
        "UPDATE hits SET n=8",
        "UPDATE sites SET n=8",
        HITS,
        SITES,
        "SET TRANSACTION READ ONLY",
        "BEGIN",
        "UPDATE hits SET n=7",
        "ROLLBACK",
        "UPDATE hits SET n=6",
        "SET @@tx_read_only=1",
        "START TRANSACTION READ WRITE",
        "UPDATE hits SET n=5",
        "COMMIT",
        "SET SESSION TRANSACTION READ ONLY",
        "UPDATE hits SET n=4",
        "START TRANSACTION READ WRITE",
        "UPDATE hits SET n=3",
        "UPDATE sites SET n=3",
        "COMMIT",
        "UPDATE sites SET n=3",
        "SET SESSION TRANSACTION READ WRITE",
        "UPDATE hits SET n=2",
        HITS,
        SITES,
        "SET autocommit=0",
        "SET TRANSACTION READ ONLY",
        "SELECT COUNT(*) FROM hits",
        "UPDATE sites SET n=77",
        "SET TRANSACTION READ WRITE",
        "COMMIT",
        "UPDATE sites SET n=78",
        "COMMIT",
        "SET TRANSACTION READ ONLY",
        "SELECT COUNT(*) FROM sites",
        "UPDATE hits SET n=79",
        "COMMIT",
        HITS,
        SITES,
        "SET TRANSACTION READ ONLY",
        "SET autocommit=1",
        "INSERT INTO hits(n) VALUES(1)",
        "SELECT COUNT(*) FROM hits",
        "INSERT INTO hits(n) VALUES(1)",
        "BEGIN",
        "UPDATE hits SET n=n",
        "SET TRANSACTION READ ONLY",
        "COMMIT",
        "SET TRANSACTION READ ONLY",
        "START TRANSACTION",
        "COMMIT AND CHAIN",
        "UPDATE hits SET n=0",
        "ROLLBACK",
        "UPDATE hits SET n=0",
    ]);
}

#[test]
fn rule_17_what_the_last_statement_left_behind() {
    compare(&[
        "INSERT INTO hits (n,s) VALUES (1,'much too long a text')",
        "SHOW WARNINGS",
        "SELECT 1",
        "SHOW WARNINGS",
        "SET sql_mode=''",
        "INSERT INTO hits (n,s) VALUES (1,'much too long a text'),('x','y')",
        "SHOW WARNINGS",
        "SHOW COUNT(*) WARNINGS",
        "SELECT ROW_COUNT()",
        "INSERT INTO hits (n,s) VALUES (1,'much too long a text'),('x','y')",
        "SELECT ROW_COUNT(), @@warning_count",
        "DELETE FROM hits WHERE id>2",
        "SELECT ROW_COUNT()",
        "SELECT ROW_COUNT()",
        "SELECT SQL_CALC_FOUND_ROWS * FROM hits LIMIT 1",
        "SELECT FOUND_ROWS(), ROW_COUNT()",
        "SELECT FOUND_ROWS()",
        "INSERT INTO sites (n,s) VALUES (1,'much too long a text'),('x','y')",
        "SHOW WARNINGS LIMIT 1",
        "SELECT * FROM hits WHERE id=1",
        "SHOW WARNINGS",
        "GET DIAGNOSTICS @c = NUMBER",
        "SELECT @c",
        "SELECT nope FROM hits",
        "GET DIAGNOSTICS CONDITION 1 @e = RETURNED_SQLSTATE, @m = MESSAGE_TEXT",
        "SELECT @e, @m",
        "SELECT nope FROM hits",
        "SHOW ERRORS",
        "SELECT @@error_count",
        "DO 1/0",
        "SHOW WARNINGS",
        "SET sql_mode='ERROR_FOR_DIVISION_BY_ZERO'",
        "DO 1/0",
        "SHOW WARNINGS",
        "SELECT n/0 FROM hits",
        "SHOW WARNINGS",
        "INSERT IGNORE INTO hits VALUES (1,1,'d')",
        "SHOW WARNINGS",
        "SELECT LAST_INSERT_ID()",
        "INSERT INTO hits(n) SELECT n FROM hits",
        "SELECT LAST_INSERT_ID(), ROW_COUNT()",
        "REPLACE INTO hits VALUES (1,5,'r')",
        "SELECT ROW_COUNT(), LAST_INSERT_ID()",
        "UPDATE hits SET n=n",
        "SELECT ROW_COUNT()",
        "TRUNCATE hits",
        "SELECT ROW_COUNT()",
    ]);
}

#[test]
fn rule_16_user_variables_of_every_type() {
    let all = "@a,@b,@c,@d,@e,@f,@g,@h,@i,@j,@l,@m, HEX(@f), CHARSET(@g), COLLATION(@d)";
    let (from_hits, from_sites) =
        (format!("SELECT {all} FROM hits LIMIT 1"), format!("SELECT {all} FROM sites LIMIT 1"));
    compare(&[
        "SET @a=1,@b=1.50,@c=2e0,@d='é',@e=NULL,@f=x'00ff',@g=_latin1'abc',@h=18446744073709551615,@i=-5,@j=TRUE,@l=1e30,@m=0.1e0",
        &from_hits,
        &from_sites,
        "SELECT @r:=@a+n FROM hits",
        "SELECT @r+1 FROM sites",
        "SELECT n,s INTO @n,@s FROM hits WHERE id=2",
        "SELECT @n,@s",
        "SET @n=@n+1",
        "SELECT @n FROM hits",
        "PREPARE q FROM 'SELECT n+? FROM hits WHERE id=?'",
        "EXECUTE q USING @n,@a",
        "SET @t='SELECT ?+n FROM sites'",
        "PREPARE q FROM @t",
        "EXECUTE q USING @n",
        "EXECUTE IMMEDIATE 'INSERT INTO hits (n,s) VALUES (?,?)' USING @n, @s",
        "EXECUTE IMMEDIATE @t USING @a",
        HITS,
        "SELECT @x:=1, @x:=@x+1 FROM hits",
        "SELECT @x",
        "SET @`odd name`='v'",
        "SELECT @`odd name` FROM hits LIMIT 1",
        "SET @A=9",
        "SELECT @a FROM hits LIMIT 1",
        "SELECT COALESCE(@never,'none') FROM hits LIMIT 1",
        "SET @u = (SELECT MAX(n) FROM hits)",
        "SELECT @u FROM sites LIMIT 1",
        "SELECT @`u` FROM hits LIMIT 1",
        "UPDATE hits SET n=(@q:=n)+1 WHERE id=1",
        "SELECT @q",
        "SELECT MAX(@m2:=n) INTO @z FROM hits",
        "SELECT @z,@m2 FROM sites LIMIT 1",
        "DEALLOCATE PREPARE q",
        "EXECUTE q",
    ]);
}

#[test]
fn rule_15_settings_mean_the_same_on_every_store() {
    compare(&[
        "SET time_zone='Europe/Nowhere'",
        "SET time_zone='+05:30'",
        "SELECT @@time_zone FROM hits LIMIT 1",
        "SET @tz=@@time_zone, time_zone='-03:00'",
        "SET time_zone=@tz",
        "SELECT @@time_zone FROM hits LIMIT 1",
        "SET sql_mode=CONCAT(@@sql_mode,',ANSI_QUOTES')",
        "SELECT \"n\" FROM hits",
        "SELECT \"n\" FROM sites",
        "SET sql_mode=REPLACE(@@sql_mode,'ANSI_QUOTES','')",
        "SELECT \"n\" FROM hits LIMIT 1",
        "SET SESSION sql_mode=DEFAULT",
        "SELECT @@sql_mode FROM hits LIMIT 1",
        "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_520_ci",
        "SELECT @@collation_connection, COLLATION('a') FROM hits LIMIT 1",
        "SET NAMES latin1",
        "SELECT 'caf\u{e9}', s FROM hits LIMIT 1",
        "SET character_set_results=NULL",
        "SELECT s FROM hits LIMIT 1",
        "SET NAMES utf8mb4 COLLATE utf8mb4_uca1400_as_ci",
        "SELECT COLLATION('a') FROM hits LIMIT 1",
        "SET NAMES utf8mb4 COLLATE utf8mb4_nopad_bin",
        "SELECT COLLATION('a') FROM hits LIMIT 1",
        "SET CHARACTER SET utf8mb4",
        "SELECT @@character_set_connection,@@collation_connection FROM hits LIMIT 1",
        "SET max_statement_time=5",
        "SELECT @@max_statement_time FROM hits LIMIT 1",
        "SET nope=1",
        "SET SESSION max_connections=5",
        "SELECT @@nope FROM hits",
        "SET insert_id=77",
        "SELECT n FROM hits",
        "INSERT INTO hits(n) VALUES(1)",
        "INSERT INTO hits(n) VALUES(1)",
        "SELECT MAX(id) FROM hits",
        "INSERT INTO sites(n) VALUES(1)",
        "SET timestamp=1000000000",
        "SELECT NOW() FROM hits LIMIT 1",
        "SELECT NOW() FROM sites LIMIT 1",
        "SET timestamp=DEFAULT",
        "SET sql_select_limit=1",
        "SELECT n FROM hits",
        "SET sql_select_limit=DEFAULT",
        "SET SQL_BIG_SELECTS=1, sql_safe_updates=1",
        "UPDATE hits SET n=5",
        "UPDATE sites SET n=5",
        "SET sql_safe_updates=0",
        "SET div_precision_increment=8",
        "SELECT 1/n FROM hits LIMIT 1",
        "SET lc_messages='fr_FR'",
        "SELECT * FROM hits WHERE nope",
        "INSERT INTO hits VALUES(1,1,1)",
        "SET lc_messages=DEFAULT",
        "SET old_mode='NO_DUP_KEY_WARNINGS_WITH_IGNORE'",
        "INSERT IGNORE INTO hits VALUES(1,1,1)",
        "SET @@session.auto_increment_increment=10, @@auto_increment_offset=3",
        "INSERT INTO hits(n) VALUES(1)",
        "SELECT LAST_INSERT_ID()",
        "BEGIN",
        "UPDATE hits SET n=9",
        RESET,
        HITS,
        SITES,
        "SELECT @a, @@time_zone, @@sql_mode FROM hits LIMIT 1",
        "SELECT LAST_INSERT_ID()",
        "SET NAMES latin1",
        "SELECT @@collation_connection FROM hits LIMIT 1",
        RESET,
        "SELECT @@collation_connection FROM hits LIMIT 1",
        "SET autocommit=0",
        "SELECT COUNT(*) FROM hits",
        RESET,
        "SELECT @@autocommit FROM hits LIMIT 1",
        "SELECT @@autocommit",
    ]);
}

#[test]
fn several_statements_in_one_text() {
    compare(&[
        "SELECT n FROM hits WHERE id=1; SELECT n FROM sites WHERE id=1",
        "SET @a=5; SELECT @a FROM hits LIMIT 1; SELECT @a FROM sites LIMIT 1",
        "BEGIN; UPDATE hits SET n=4; UPDATE sites SET n=4; COMMIT; SELECT * FROM hits",
        "INSERT INTO hits(n) VALUES(1); SELECT LAST_INSERT_ID(); INSERT INTO sites(n) VALUES (1); SELECT LAST_INSERT_ID()",
        "SELECT 1; SELECT nope FROM hits; SELECT 2",
        "SELECT n FROM sites LIMIT 1; SELECT 1; SHOW WARNINGS; SELECT ROW_COUNT(), FOUND_ROWS()",
        "SET time_zone='+03:00'; SELECT @@time_zone FROM hits LIMIT 1;",
        "START TRANSACTION; INSERT INTO hits(n) VALUES(7); SAVEPOINT a; INSERT INTO sites(n) VALUES(7); ROLLBACK TO a; COMMIT",
        HITS,
        SITES,
        "UPDATE hits SET n=3;UPDATE sites SET n=3;;",
        "SELECT 1; -- x",
        "DELETE FROM hits WHERE id>2; SELECT ROW_COUNT()",
        NO_MULTI,
        "SELECT 1; SELECT n FROM hits",
        "SELECT n FROM hits;",
        MULTI,
        "SELECT 1; SELECT n FROM hits",
    ]);
}
