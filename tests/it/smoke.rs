//! The tests' own ground: the stores start, are told apart, and a test's database is its own.

use mysql_async::prelude::Queryable;

use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Cable, LEGACY_ID, NEW_ID, PrivateServer, clients, eventually, stores};

#[tokio::test]
async fn each_store_answers_as_itself() {
    for (server, id) in [(&stores().legacy, LEGACY_ID), (&stores().new, NEW_ID)] {
        let mut conn = server.connect().await;
        let answered: Option<u32> = conn.query_first("SELECT @@server_id").await.unwrap();
        assert_eq!(answered, Some(id));
        conn.disconnect().await.unwrap();
    }
}

#[test]
fn a_database_is_there_on_both_and_gone_at_the_end() {
    let database = stores().database();
    let name = database.name.clone();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY)");
    database.on_legacy("INSERT INTO hits VALUES (1), (2)");
    assert_eq!(database.on_legacy("SELECT COUNT(*) FROM hits"), [["2"]]);
    assert_eq!(database.on_new("SELECT COUNT(*) FROM hits"), [["0"]]);
    drop(database);
    assert!(stores().legacy.sql(&format!("SHOW DATABASES LIKE '{name}'")).is_empty());
    assert!(stores().new.sql(&format!("SHOW DATABASES LIKE '{name}'")).is_empty());
}

#[test]
fn a_private_server_comes_back_with_its_data() {
    let mut server = PrivateServer::start(7, &[]);
    server.sql("CREATE DATABASE d");
    server.sql("CREATE TABLE d.t (id INT PRIMARY KEY)");
    server.sql("INSERT INTO d.t VALUES (1)");
    server.kill();
    assert!(server.try_sql(None, "SELECT 1").is_err());
    server.restart();
    assert_eq!(server.sql("SELECT @@server_id, COUNT(*) FROM d.t"), [["7", "1"]]);
    server.freeze();
    server.thaw();
    eventually("answers after a thaw", || server.try_sql(None, "SELECT 1").is_ok());
    server.stop();
    server.restart();
    assert_eq!(server.sql("SELECT COUNT(*) FROM d.t"), [["1"]]);
}

#[test]
fn clients_of_every_language_are_there() {
    let database = stores().database();
    let port = stores().legacy.port;
    assert_eq!(clients::mariadb(port, &["-e", "SELECT @@server_id"]).text(), "1");
    let pymysql = "
import os, pymysql, MySQLdb
for driver in pymysql, MySQLdb:
    conn = driver.connect(host='127.0.0.1', port=int(os.environ['PORT']), user='app', password='app', db=os.environ['DB'])
    cursor = conn.cursor()
    cursor.execute('SELECT @@server_id, DATABASE()')
    print(*cursor.fetchone())";
    let twice = format!("1 {0}\n1 {0}", database.name);
    assert_eq!(clients::python(pymysql, port, &database.name).text(), twice);
    let mysql2 = "
const { PORT: port, DB: database } = process.env
const conn = require('mysql2').createConnection({ host: '127.0.0.1', port, user: 'app', password: 'app', database })
conn.execute('SELECT @@server_id AS id', (error, rows) => { if (error) throw error; console.log(rows[0].id); conn.end() })";
    assert_eq!(clients::node(mysql2, port, &database.name).text(), "1");
    let pdo = "
$dsn = 'mysql:host=127.0.0.1;port=' . getenv('PORT') . ';dbname=' . getenv('DB');
echo (new PDO($dsn, 'app', 'app'))->query('SELECT @@server_id')->fetchColumn();";
    assert_eq!(clients::php(pdo, port, &database.name).text(), "1");
}

#[test]
fn a_cable_can_be_cut_and_mended() {
    let cable = Cable::to(stores().new.port);
    let mut client = Raw::app(cable.port, ORDINARY, "");
    assert!(Raw::error(&client.query("SELECT @@server_id")).is_none());
    cable.cut();
    assert!(client.until_closed().is_empty());
    cable.mend();
    assert!(Raw::error(&Raw::app(cable.port, ORDINARY, "").query("SELECT 1")).is_none());
}
