//! Real clients end to end: unchanged programs of several languages, through the proxy, with the flag moved under them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::support::{Database, Proxy, clients, stores};

/// `hits` (grouped) and `sites` on both stores, empty; the flag on legacy.
fn ground() -> (Database, Proxy) {
    let database = stores().database();
    for table in ["hits", "sites"] {
        database.on_both(&format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, n INT, s VARCHAR(50), server INT)"
        ));
    }
    (database, Proxy::pair(&["hits"]))
}

/// The `mariadb` command with a script on its standard input.
fn script(proxy: &Proxy, database: &Database, text: &str) -> clients::Output {
    let mut command = Command::new("mariadb");
    command.args([
        "--no-defaults",
        "--protocol=tcp",
        "-h127.0.0.1",
        "-uapp",
        "-papp",
        "-N",
        "--batch",
        "--local-infile=1",
    ]);
    command.arg(format!("-P{}", proxy.port)).arg(&database.name);
    clients::output_of(command, text)
}

/// A program that asks for a flip with a line of its output, and waits for a line of its input.
struct Dialogue {
    child: Child,
    input: ChildStdin,
}

/// Runs a program that prints `flip STORE` where the flag is to move, and reads a line then; what it printed besides.
fn with_flips(mut command: Command, proxy: &Proxy) -> Vec<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let input = child.stdin.take().unwrap();
    let mut dialogue = Dialogue { child, input };
    let mut printed = Vec::new();
    for line in output.lines().map_while(Result::ok) {
        match line.strip_prefix("flip ") {
            Some(store) => {
                proxy.flag_at_once("analytics", store);
                writeln!(dialogue.input, "flipped").unwrap();
            }
            None => printed.push(line),
        }
    }
    let status = dialogue.child.wait().unwrap();
    assert!(status.success(), "{status}: {printed:#?}");
    printed
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What [`clients::python`] and its sisters run, with pipes: its interpreter is asked for by a script of one line.
fn interpreter(of: impl Fn(&str) -> clients::Output, question: &str) -> String {
    of(question).text()
}

#[test]
fn the_mariadb_command_loads_files_into_the_store_of_the_table() {
    let (database, proxy) = ground();
    let file = proxy.folder.join("rows.csv");
    let rows: String = (1..=5_000).map(|n| format!("{n},text {n}\n")).collect();
    std::fs::write(&file, rows).unwrap();
    for (store, table) in [("legacy", "hits"), ("new", "hits"), ("new", "sites")] {
        proxy.flag("analytics", store);
        let load = format!(
            "LOAD DATA LOCAL INFILE '{}' INTO TABLE {table} FIELDS TERMINATED BY ',' (n, s) SET server = @@server_id;
             SELECT COUNT(*), MIN(server), MAX(n) FROM {table};",
            file.display()
        );
        let server = if table == "hits" && store == "new" { 2 } else { 1 };
        assert_eq!(script(&proxy, &database, &load).text(), format!("5000\t{server}\t5000"));
    }
    assert_eq!(database.on_new("SELECT COUNT(*) FROM sites"), [["0"]]);
    // a file that is not there is the client's own error, and the session goes on
    let missing = "LOAD DATA LOCAL INFILE '/no/such/file' INTO TABLE hits;";
    let output = script(&proxy, &database, missing);
    assert!(!output.ok && output.stderr.contains("no/such/file"), "{output:?}");
}

#[test]
fn the_mariadb_command_runs_scripts_with_delimiters_and_several_results() {
    let (database, proxy) = ground();
    proxy.flag("analytics", "new");
    let text = "
        DELIMITER //
        CREATE PROCEDURE fill(IN count INT)
        BEGIN
          DECLARE i INT DEFAULT 0;
          WHILE i < count DO
            INSERT INTO sites (n, server) VALUES (i, @@server_id);
            SET i = i + 1;
          END WHILE;
          SELECT COUNT(*) FROM sites;
          SELECT 'done';
        END//
        INSERT INTO hits (n, server) VALUES (1, @@server_id); SELECT 'two', server FROM hits; SELECT COUNT(*) FROM sites//
        DELIMITER ;
        CALL fill(7);
        SELECT DISTINCT server FROM sites;
        SELECT server FROM hits;
        DROP PROCEDURE fill;
    ";
    assert_eq!(script(&proxy, &database, text).text(), "two\t2\n0\n7\ndone\n1\n2");
}

#[test]
fn a_dump_through_the_proxy_restores_through_the_proxy() {
    let (database, proxy) = ground();
    database.on_new("INSERT INTO hits (n, s, server) SELECT seq, CONCAT('ä\\'', seq), 2 FROM seq_1_to_3000");
    database.on_legacy("INSERT INTO sites (n, s, server) SELECT seq, NULL, 1 FROM seq_1_to_500");
    proxy.flag("analytics", "new");
    let dump = |options: &[&str]| {
        let port = format!("-P{}", proxy.port);
        let mut words = vec!["mariadb-dump", "--no-defaults", "--protocol=tcp", "-h127.0.0.1", "-uapp", "-papp", &port];
        words.extend(options);
        words.push(&database.name);
        clients::run(&words).text()
    };
    // LOCK TABLES over both stores; a consistent snapshot stays on one, so each table is dumped by itself
    let text = dump(&["--hex-blob"]);
    assert!(text.contains("CREATE TABLE `hits`") && text.contains("CREATE TABLE `sites`"));
    let before = (database.on_new("CHECKSUM TABLE hits"), database.on_legacy("CHECKSUM TABLE sites"));
    for table in ["hits", "sites"] {
        database.on_both(&format!("DROP TABLE {table}"));
    }
    assert_eq!(script(&proxy, &database, &text).text(), "");
    assert_eq!((database.on_new("CHECKSUM TABLE hits"), database.on_legacy("CHECKSUM TABLE sites")), before);
    assert!(
        database.on_legacy("SHOW TABLES LIKE 'hits'").is_empty()
            && database.on_new("SHOW TABLES LIKE 'sites'").is_empty()
    );
}

/// mydumper reads every table in one consistent snapshot: all of them on one store, or it is told why not (rule 7).
#[test]
fn mydumper_dumps_one_store_and_is_told_why_not_two() {
    let (database, proxy) = ground();
    database.on_legacy("INSERT INTO hits (n, s, server) SELECT seq, 'one', 1 FROM seq_1_to_50");
    database.on_legacy("INSERT INTO sites (n, s, server) SELECT seq, 'two', 1 FROM seq_1_to_50");
    let folder = tempfile::tempdir().unwrap();
    let dump = |name: &str| {
        let (port, to) = (proxy.port.to_string(), folder.path().join(name));
        let mut command = std::process::Command::new("mydumper");
        command.args(["--host", "127.0.0.1", "--port", &port, "--user", "app", "--password", "app", "--threads", "2"]);
        command.args(["--no-locks", "--database", &database.name, "--outputdir"]).arg(&to);
        (command.output().unwrap(), to)
    };
    let (output, to) = dump("whole");
    assert!(output.status.success(), "{output:?}");
    for (table, text) in [("hits", "one"), ("sites", "two")] {
        let rows = std::fs::read_to_string(to.join(format!("{}.{table}.sql", database.name))).unwrap();
        assert_eq!(rows.matches(text).count(), 50, "{table}");
    }
    proxy.flag("analytics", "new");
    let (output, _) = dump("half");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("WITH CONSISTENT SNAPSHOT"), "{output:?}");
}

const PYTHON: &str = "
import os, sys, pymysql, MySQLdb
def flip(store):
    print('flip', store, flush=True)
    sys.stdin.readline()
for driver in pymysql, MySQLdb:
    conn = driver.connect(host='127.0.0.1', port=int(os.environ['PORT']), user='app', password='app', db=os.environ['DB'], charset='utf8mb4')
    cursor = conn.cursor()
    for store in 'new', 'legacy':
        cursor.execute('INSERT INTO hits (n, s, server) VALUES (%s, %s, @@server_id)', (1, 'é'))
        flip(store)
        cursor.execute('INSERT INTO hits (n, s, server) VALUES (%s, %s, @@server_id)', (2, 'é'))
        cursor.execute('SELECT COUNT(DISTINCT server), MIN(s) FROM hits WHERE id > %s', (0,))
        assert cursor.fetchone() == (1, 'é')
        conn.commit()
        cursor.execute('SELECT MIN(server) FROM hits')
        assert cursor.fetchone() in ((1,), (2,), (None,)), store
        conn.commit()
    try:
        cursor.execute('SELECT nope FROM hits')
    except driver.Error as error:
        assert error.args[0] == 1054, error
    cursor.executemany('INSERT INTO sites (n) VALUES (%s)', [(n,) for n in range(10)])
    conn.commit()
    print(driver.__name__, 'done', flush=True)
";

const NODE: &str = "
const mysql = require('mysql2/promise'), lines = require('readline').createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const flip = async store => { console.log('flip ' + store); await lines.next() }
;(async () => {
  const { PORT: port, DB: database } = process.env
  const conn = await mysql.createConnection({ host: '127.0.0.1', port, user: 'app', password: 'app', database, multipleStatements: true })
  for (const store of ['new', 'legacy']) {
    await conn.beginTransaction()
    await conn.execute('INSERT INTO hits (n, s, server) VALUES (?, ?, @@server_id)', [1, 'é'])
    await flip(store)
    await conn.execute('INSERT INTO hits (n, s, server) VALUES (?, ?, @@server_id)', [2, 'é'])
    await conn.commit()
    const [rows] = await conn.execute('SELECT COUNT(*) AS c, @@server_id AS id FROM hits WHERE n = ?', [9])
    if (rows[0].c !== 0 || rows[0].id !== (store === 'new' ? 2 : 1)) throw new Error(store + ': ' + JSON.stringify(rows))
    const [several] = await conn.query('SELECT 1 AS a; SELECT @@server_id AS id FROM hits LIMIT 1; SELECT 3 AS c')
    if (several.length !== 3) throw new Error('several')
  }
  await conn.end()
  console.log('mysql2 done')
  process.exit(0)
})().catch(error => { console.error(error); process.exit(1) })
";

const PHP: &str = "
function flip($store) { echo \"flip $store\\n\"; flush(); fgets(STDIN); }
$dsn = 'mysql:host=127.0.0.1;charset=utf8mb4;port=' . getenv('PORT') . ';dbname=' . getenv('DB');
foreach ([true, false] as $emulate) {
  $pdo = new PDO($dsn, 'app', 'app', [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_EMULATE_PREPARES => $emulate]);
  $insert = $pdo->prepare('INSERT INTO hits (n, s, server) VALUES (?, ?, @@server_id)');
  foreach (['new', 'legacy'] as $store) {
    $pdo->beginTransaction();
    $insert->execute([1, 'é']);
    flip($store);
    $insert->execute([2, 'é']);
    $pdo->commit();
    $insert->execute([3, 'é']);
    $id = $pdo->query('SELECT @@server_id FROM hits WHERE n = 3 LIMIT 1')->fetchColumn();
    if ($id != ($store === 'new' ? 2 : 1)) throw new Exception(\"$store: $id\");
  }
}
echo \"PDO done\\n\";
";

/// Each transaction of two rows is on one store, each on the store of its beginning.
fn assert_whole(database: &Database, transactions: usize) {
    let ones = |rows: Vec<Vec<String>>| rows[0].iter().map(|n| n.parse::<usize>().unwrap()).collect::<Vec<_>>();
    let sql =
        "SELECT COALESCE(SUM(n = 1), 0), COALESCE(SUM(n = 2), 0), COALESCE(SUM(server <> @@server_id), 0) FROM hits";
    let (legacy, new) = (ones(database.on_legacy(sql)), ones(database.on_new(sql)));
    assert_eq!((legacy[0], new[0]), (legacy[1], new[1]), "a transaction was split");
    assert_eq!((legacy[2], new[2]), (0, 0), "a row says that another store made it");
    assert_eq!(legacy[0] + new[0], transactions);
    assert!(legacy[0] > 0 && new[0] > 0, "all on one store: {legacy:?} {new:?}");
}

#[test]
fn python_drivers_keep_their_transactions_whole_over_a_flip() {
    let (database, proxy) = ground();
    let program =
        interpreter(|text| clients::python(text, proxy.port, &database.name), "import sys; print(sys.executable)");
    let mut command = Command::new(program);
    command.args(["-c", PYTHON]).env("PORT", proxy.port.to_string()).env("DB", &database.name);
    assert_eq!(with_flips(command, &proxy), ["pymysql done", "MySQLdb done"]);
    assert_whole(&database, 4);
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM sites"), [["20"]]);
}

#[test]
fn node_keeps_its_transactions_whole_over_a_flip() {
    let (database, proxy) = ground();
    let modules =
        interpreter(|text| clients::node(text, proxy.port, &database.name), "console.log(process.env.NODE_PATH)");
    let mut command = Command::new("node");
    command.args(["-e", NODE]).env("NODE_PATH", modules).env("PORT", proxy.port.to_string()).env("DB", &database.name);
    assert_eq!(with_flips(command, &proxy), ["mysql2 done"]);
    assert_whole(&database, 2);
}

#[test]
fn php_keeps_its_transactions_whole_over_a_flip() {
    let (database, proxy) = ground();
    let mut command = Command::new("php");
    command.args(["-r", PHP]).env("PORT", proxy.port.to_string()).env("DB", &database.name);
    assert_eq!(with_flips(command, &proxy), ["PDO done"]);
    assert_whole(&database, 4);
}
