//! The compressed protocol: offered where the store offers it, and spoken on both legs.

use std::io::Write;

use crate::support::{Proxy, clients, stores};

/// Statements and answers of many frames, and a file in many packets; the same on a server and through a proxy.
fn exercise(port: u16, database: &str) -> String {
    let (mut file, mut script) = (tempfile("rows"), tempfile("script"));
    for n in 0..40_000 {
        writeln!(file.1, "{n}\t{}", "abcdefgh".repeat(n % 20)).unwrap();
    }
    file.1.flush().unwrap();
    writeln!(
        script.1,
        "SHOW STATUS LIKE 'Compression'; \
         CREATE OR REPLACE TABLE c (id INT PRIMARY KEY, v LONGTEXT); \
         LOAD DATA LOCAL INFILE '{}' INTO TABLE c; \
         SELECT COUNT(*), SUM(LENGTH(v)), SUM(CRC32(v)) FROM c; \
         SELECT CRC32('{}'); SELECT id, v FROM c ORDER BY id LIMIT 30000; SELECT 1; SELECT nope; SELECT 2;",
        file.0.display(),
        "0123456789".repeat(30_000),
    )
    .unwrap();
    let source = format!("source {}", script.0.display());
    let arguments = ["--compress", "--local-infile=1", "--force", "-e", &source, database];
    let output = clients::mariadb(port, &arguments);
    std::fs::remove_file(&file.0).unwrap();
    std::fs::remove_file(&script.0).unwrap();
    assert!(output.stderr.contains("Unknown column 'nope'"), "{}", output.stderr);
    output.stdout
}

fn tempfile(what: &str) -> (std::path::PathBuf, std::fs::File) {
    let path = std::env::temp_dir().join(format!("switchover-{what}-{}", std::process::id()));
    let file = std::fs::File::create(&path).unwrap();
    (path, file)
}

#[test]
fn compressed_clients_see_what_they_see_on_the_store() {
    let db = stores().database();
    let proxy = Proxy::pair(&["absent"]);
    let direct = exercise(stores().legacy.port, &db.name);
    assert!(direct.starts_with("Compression\tON\n40000\t"), "{}", &direct[..direct.len().min(200)]);
    assert!(direct.trim_end().ends_with("\n1\n2") && direct.lines().count() > 30_000);
    assert_eq!(exercise(proxy.port, &db.name), direct);
    // over TLS too
    let tls = clients::mariadb(proxy.port, &["--compress", "--ssl", "-e", "SHOW STATUS LIKE 'Compression'"]);
    assert_eq!(tls.text(), "Compression\tON");
    // nobody asked
    assert_eq!(clients::mariadb(proxy.port, &["-e", "SHOW STATUS LIKE 'Compression'"]).text(), "Compression\tOFF");
}

#[test]
fn a_compressed_client_uses_several_stores() {
    let db = stores().database();
    db.on_both("CREATE TABLE hits (id INT PRIMARY KEY, v TEXT)");
    let proxy = Proxy::pair(&["hits"]);
    proxy.flag("analytics", "new");
    let script = "INSERT INTO hits WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, REPEAT('x', 200) FROM n; SELECT @@server_id, COUNT(*), SUM(LENGTH(v)) FROM hits; \
                  SELECT @@server_id; PREPARE s FROM 'SELECT v FROM hits WHERE id = 7'; EXECUTE s; SELECT 3";
    let got = clients::mariadb(proxy.port, &["--compress", "-e", script, &db.name]).text();
    assert_eq!(got, format!("2\t1000\t200000\n1\n{}\n3", "x".repeat(200)));
}
