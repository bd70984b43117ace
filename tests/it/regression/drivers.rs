//! What drivers' own test suites found: each test names the client and what it saw.

use std::io::Write;
use std::time::Duration;

use crate::support::raw::{ORDINARY, Raw};
use crate::support::{Database, Proxy, clients, stores};

fn ground() -> (Database, Proxy) {
    let database = stores().database();
    database.on_both("CREATE TABLE hits (id INT PRIMARY KEY AUTO_INCREMENT, s LONGTEXT, server INT)");
    (database, Proxy::pair(&["hits"]))
}

/// Connector/C's `test_compress`, mysqlnd's `MYSQLI_CLIENT_COMPRESS`: the store says that the connection is compressed, and it is.
#[test]
fn compressed_clients_are_compressed_and_the_store_says_so() {
    let (database, proxy) = ground();
    for tls in ["--skip-ssl", "--ssl"] {
        for store in ["legacy", "new"] {
            proxy.flag("analytics", store);
            let text = "SHOW STATUS LIKE 'Compression'; TRUNCATE hits; \
                        INSERT INTO hits (s, server) VALUES (REPEAT('ab', 3000000), @@server_id), ('short', @@server_id); \
                        SELECT LENGTH(s), server FROM hits; SELECT s FROM hits WHERE id = 1";
            let arguments = ["--compress", "--max-allowed-packet=64M", tls, &database.name, "-e", text];
            let (direct, proxied) =
                (clients::mariadb(stores().legacy.port, &arguments), clients::mariadb(proxy.port, &arguments));
            let server = if store == "new" { "2" } else { "1" };
            let expected = direct.text().replace("\t1\n", &format!("\t{server}\n"));
            assert!(expected.starts_with(&format!("Compression\tON\n6000000\t{server}\n5\t{server}\nabab")));
            assert!(proxied.text() == expected, "{store} {tls}");
        }
    }
}

/// A large command and pipelined ones, compressed, through libmariadb.
#[test]
fn compressed_commands_of_any_size_arrive() {
    let (database, proxy) = ground();
    let script = r"
import os, tempfile, MySQLdb
c = MySQLdb.connect(host='127.0.0.1', port=int(os.environ['PORT']), user='app', password='app', database=os.environ['DB'], compress=True, local_infile=1)
k = c.cursor()
for n in (0, 1, 49, 50, 51, 16373, 16384, 65535, 65536, 70000, 1 << 20, 20_000_000):
    s = ''.join(chr(97 + i * 7 % 23) for i in range(min(n, 5000))).ljust(n, 'x')
    k.execute('SELECT %s', (s,))
    assert k.fetchone()[0] == s, n
k.execute('TRUNCATE hits')
k.executemany('INSERT INTO hits (s) VALUES (%s)', [('v' * (i % 300),) for i in range(20000)])
k.execute('INSERT INTO hits (s) VALUES (%s)', ('w' * 20_000_000,))
with tempfile.NamedTemporaryFile('w') as f:
    f.writelines(f'{i}\\t{i * 7}\\n' for i in range(30000, 700000))
    f.flush()
    os.chmod(f.name, 0o644)
    k.execute(f'LOAD DATA LOCAL INFILE \'{f.name}\' INTO TABLE hits (id, s)')
c.commit()
k.execute('SELECT COUNT(*), SUM(LENGTH(s)) FROM hits')
print(*k.fetchone())
";
    let expected = clients::python(script, stores().legacy.port, &database.name).text();
    for store in ["legacy", "new"] {
        proxy.flag("analytics", store);
        assert_eq!(clients::python(script, proxy.port, &database.name).text(), expected, "{store}");
    }
}

/// PyMySQL, DBD::mysql: MariaDB resets a connection that was idle for `wait_timeout`, so that the client's next send fails (2006,
/// "gone away": nothing ran) instead of its next read (2013, "lost": who knows).
#[test]
fn a_client_whose_store_timed_out_sees_what_it_would_see_of_the_store() {
    let (_database, proxy) = ground();
    for port in [stores().legacy.port, proxy.port] {
        let mut raw = Raw::app(port, ORDINARY, "");
        raw.query("SET SESSION wait_timeout = 1");
        std::thread::sleep(Duration::from_millis(2500));
        let error = raw.socket.write_all(&[1, 0, 0, 0, 0x0e]).expect_err("a ping was sent");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "port {port}");
    }
}
