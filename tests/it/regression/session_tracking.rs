//! Rule 16: session state that the text does not show: by routines, triggers, blocks and dynamic SQL; and what clients see of
//! SESSION_TRACK, which is asked of every store and passed on only to those that asked.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use switchover::wire::Capabilities;
use switchover::wire::reply::Expect;

use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, stores};

/// `hits` and what is named `new_…` on the new store, all else on legacy.
fn ground() -> (Database, Proxy) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, n INT)");
    database.on_both("CREATE TABLE sites (id INT PRIMARY KEY AUTO_INCREMENT, n INT)");
    database.on_both("INSERT INTO hits VALUES (1, 1)");
    database.on_both("INSERT INTO sites VALUES (1, 1)");
    for name in ["p", "new_p"] {
        database.on_both(&format!(
            "CREATE PROCEDURE {name}() BEGIN SET time_zone = '+02:00', SESSION lc_time_names = 'de_DE', max_sort_length = 99; SET @x = 'set'; END"
        ));
    }
    database.on_both(
        "CREATE FUNCTION f() RETURNS INT DETERMINISTIC BEGIN SET SESSION lc_time_names = 'fr_FR'; SET @x = 'f'; RETURN 7; END",
    );
    let proxy = Proxy::pair(&["hits", "new_p"]);
    proxy.flag("analytics", "new");
    (database, proxy)
}

/// The value of an expression on the new store and on legacy.
async fn both(conn: &mut Conn, expression: &str) -> [Option<String>; 2] {
    let mut out = [None, None];
    for (slot, table) in out.iter_mut().zip(["hits", "sites"]) {
        let sql = format!("SELECT CAST({expression} AS CHAR) FROM {table} WHERE id = 1");
        *slot = conn.query_first::<Option<String>, _>(sql).await.unwrap().flatten();
    }
    out
}

fn twice(value: &str) -> [Option<String>; 2] {
    [Some(value.to_owned()), Some(value.to_owned())]
}

const STATE: &str = "CONCAT_WS(' ', @@time_zone, @@lc_time_names, @@max_sort_length)";

#[tokio::test]
async fn rule_16_what_a_routine_sets_follows_to_the_other_store() {
    let (database, proxy) = ground();
    // on the default store and on the other, before the first lease there and after it
    for (call, warm) in [("CALL p()", false), ("CALL p()", true), ("CALL new_p()", false), ("CALL new_p()", true)] {
        let mut conn = proxy.connect(&database.name).await;
        if warm {
            assert_eq!(both(&mut conn, STATE).await, twice("SYSTEM en_US 1024"));
            assert_eq!(both(&mut conn, "@x").await, [None, None]);
        }
        conn.query_drop(call).await.unwrap();
        assert_eq!(both(&mut conn, STATE).await, twice("+02:00 de_DE 99"), "{call}, {warm}");
        assert_eq!(both(&mut conn, "@x").await, twice("set"), "{call}, {warm}");
        assert_eq!(conn.query_first::<String, _>("SELECT @x").await.unwrap().as_deref(), Some("set"));
    }
}

#[tokio::test]
async fn rule_16_functions_blocks_and_dynamic_sql_too() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect(&database.name).await;
    let lc = "@@lc_time_names";
    assert_eq!(both(&mut conn, lc).await, twice("en_US"));
    assert_eq!(conn.query_first::<i32, _>("SELECT f()").await.unwrap(), Some(7));
    assert_eq!(both(&mut conn, lc).await, twice("fr_FR"));
    assert_eq!(both(&mut conn, "@x").await, twice("f"));
    for (text, value) in [
        ("BEGIN NOT ATOMIC SET SESSION lc_time_names = 'it_IT'; END", "it_IT"),
        ("IF 1 THEN SET lc_time_names = 'es_ES'; END IF", "es_ES"),
        ("SELECT 1; SET lc_time_names = 'pl_PL'; SELECT 2", "pl_PL"),
        ("EXECUTE IMMEDIATE 'SET lc_time_names = ''sv_SE'''", "sv_SE"),
        ("SET @t = 'SET lc_time_names = ''da_DK'''; PREPARE s FROM @t; EXECUTE s", "da_DK"),
        ("EXECUTE IMMEDIATE /* switchover:store=legacy */ CONCAT('SET lc_time_names = ', QUOTE('nl_NL'))", "nl_NL"),
        ("SET STATEMENT lc_time_names = 'fi_FI' FOR SELECT n FROM hits", "nl_NL"),
    ] {
        conn.query_drop(text).await.unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(both(&mut conn, lc).await, twice(value), "{text}");
    }
}

#[tokio::test]
async fn rule_16_triggers_see_and_set_user_variables() {
    let (database, proxy) = ground();
    database.on_new("CREATE TRIGGER t BEFORE INSERT ON hits FOR EACH ROW BEGIN SET NEW.n = COALESCE(@n, -1); SET @n = 50; SET @seen = NEW.n; END");
    let mut conn = proxy.connect(&database.name).await;
    conn.query_drop("INSERT INTO hits (n) VALUES (0)").await.unwrap();
    assert_eq!(conn.query_first::<i32, _>("SELECT @seen").await.unwrap(), Some(-1));
    assert_eq!(conn.query_first::<i32, _>("SELECT @n FROM sites").await.unwrap(), Some(50));
    conn.query_drop("SET @n = 7").await.unwrap();
    conn.exec_drop("INSERT INTO hits (n) VALUES (?)", (0,)).await.unwrap();
    assert_eq!(conn.query_first::<(i32, i32), _>("SELECT @seen, @n").await.unwrap(), Some((7, 50)));
    assert_eq!(database.on_new("SELECT n FROM hits ORDER BY id"), [["1"], ["-1"], ["7"]]);
}

#[tokio::test]
async fn rule_16_a_database_chosen_by_dynamic_sql_follows() {
    let (database, proxy) = ground();
    let mut conn = proxy.connect("").await;
    proxy.flag("analytics", "legacy");
    conn.query_drop(format!("EXECUTE IMMEDIATE CONCAT('USE ', '{}')", database.name)).await.unwrap();
    proxy.flag("analytics", "new");
    database.on_new("UPDATE hits SET n = 2");
    assert_eq!(conn.query_first::<i32, _>("SELECT n FROM hits").await.unwrap(), Some(2));
}

/// Everything that MariaDB reports, in OK packets that answer statements, in those that end rows, between results.
const REPORTED: &[&str] = &[
    "SET NAMES latin1",
    "SET time_zone = '+01:00', @a = 1",
    "SELECT f(), @@lc_time_names",
    "SELECT 1",
    "CALL p()",
    "SELECT 1; SET time_zone = '+04:00'; SELECT f(); SET NAMES utf8mb4; SELECT nope",
    "SET SESSION session_track_system_variables = '*'",
    "SET lc_time_names = 'de_DE', sql_mode = 'ANSI', max_sort_length = 1000",
    "SELECT f()",
    "SELECT @@session_track_system_variables, @@session_track_schema, @@session_track_state_change",
    "SET session_track_state_change = 1",
    "SET session_track_transaction_info = 'CHARACTERISTICS'",
    "SET @a = 2",
    "START TRANSACTION READ ONLY",
    "SELECT n FROM sites",
    "COMMIT",
    "BEGIN",
    "INSERT INTO sites (n) VALUES (1), (2)",
    "UPDATE sites SET n = 3",
    "ROLLBACK",
    "SET autocommit = 0",
    "INSERT INTO sites (n) VALUES (1)",
    "COMMIT AND CHAIN",
    "ROLLBACK",
    "SET autocommit = 1",
    "CREATE TEMPORARY TABLE tt (a INT)",
    "PREPARE s FROM 'SET time_zone = ''+07:00'''",
    "EXECUTE s",
    "BEGIN NOT ATOMIC SET time_zone = '+08:00'; SELECT 1; END",
    "SET session_track_system_variables = ''",
    "SET time_zone = SYSTEM",
    "SET session_track_schema = 0",
    "USE information_schema",
    "SET session_track_schema = 1",
    "USE mysql",
];

/// The names of the two databases are of the same length but for their counter.
fn plain(packets: Vec<(u8, Vec<u8>)>, name: &str) -> Vec<(u8, Vec<u8>)> {
    let blank = |mut payload: Vec<u8>| {
        while let Some(at) = payload.windows(name.len()).position(|w| w == name.as_bytes()) {
            payload.splice(at..at + name.len(), vec![b'#'; name.len()]);
        }
        // the server's, not the session's
        if let Some(at) = payload.windows(9).position(|w| w == b"last_gtid") {
            payload.truncate(at);
        }
        payload
    };
    packets.into_iter().map(|(sequence, payload)| (sequence, blank(payload))).collect()
}

fn compare(capabilities: Capabilities, pair: bool) {
    let ((one, _unused), (two, proxy)) = (ground(), ground());
    let mut direct = Raw::app(stores().legacy.port, capabilities, &one.name);
    let mut proxied = Raw::app(proxy.port, capabilities, &two.name);
    if pair {
        direct.query("SELECT n FROM hits");
        proxied.query("SELECT n FROM hits");
    }
    let same = |direct: &mut Raw, proxied: &mut Raw, text: &str| {
        let (a, b) = (plain(direct.query(text), &one.name), plain(proxied.query(text), &two.name));
        assert_eq!(a, b, "{capabilities:?}: {text}");
    };
    for text in REPORTED {
        if pair && text.contains("transaction_info") {
            // of a transaction over two stores, each store tells its part
            continue;
        }
        same(&mut direct, &mut proxied, text);
        if text.contains("USE ") {
            let mine = [&one.name, &two.name].map(|name| format!("USE {name}"));
            assert_eq!(direct.query(&mine[0]).len(), proxied.query(&mine[1]).len());
        }
        if pair {
            same(&mut direct, &mut proxied, "SELECT n FROM hits");
        }
    }
    for (command, argument, expect) in
        [(0x02, &b"mysql"[..], Expect::Ok), (0x02, &b"nope"[..], Expect::Ok), (0x1f, &b""[..], Expect::Ok)]
    {
        direct.send(command, argument);
        proxied.send(command, argument);
        assert_eq!(direct.response(expect), proxied.response(expect), "command {command:#x}");
    }
}

const TRACKED: Capabilities = ORDINARY.union(Capabilities::SESSION_TRACK);

#[test]
fn rule_16_a_client_that_did_not_ask_gets_no_reports() {
    compare(ORDINARY, false);
    compare(ORDINARY | Capabilities::DEPRECATE_EOF, false);
}

#[test]
fn rule_16_a_client_that_asked_gets_them_unchanged() {
    compare(TRACKED, false);
    compare(TRACKED | Capabilities::DEPRECATE_EOF, false);
}

#[test]
fn rule_16_two_stores_report_as_one() {
    compare(ORDINARY | Capabilities::DEPRECATE_EOF, true);
    compare(TRACKED | Capabilities::DEPRECATE_EOF, true);
}
