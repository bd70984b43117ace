//! Every column type and character set: what the standby stores is what the authority stores, byte for byte.

use super::Kept;

/// A column's type and values of it, as SQL.
pub(super) const TYPES: &[(&str, &[&str])] = &[
    ("TINYINT", &["-128", "127", "0"]),
    ("TINYINT UNSIGNED", &["255", "0"]),
    ("BOOLEAN", &["TRUE", "FALSE"]),
    ("SMALLINT", &["-32768", "32767"]),
    ("SMALLINT UNSIGNED", &["65535"]),
    ("MEDIUMINT", &["-8388608", "8388607"]),
    ("MEDIUMINT UNSIGNED", &["16777215"]),
    ("INT", &["-2147483648", "2147483647"]),
    ("INT UNSIGNED", &["4294967295"]),
    ("INT(8) ZEROFILL", &["42", "4294967295"]),
    ("BIGINT", &["-9223372036854775808", "9223372036854775807"]),
    ("BIGINT UNSIGNED", &["18446744073709551615"]),
    ("FLOAT", &["0.1", "-3.4e38", "1e-40", "16777217", "-0.0", "1.17549435e-38"]),
    ("FLOAT(7,3)", &["1234.567", "-0.001", "9999.999"]),
    ("FLOAT UNSIGNED", &["0.3"]),
    (
        "DOUBLE",
        &["0.1", "1.7976931348623157e308", "2.2250738585072014e-308", "4.9e-324", "-0.0", "1e23", "9007199254740993"],
    ),
    ("DOUBLE(15,5)", &["1234567890.12345", "-0.00001"]),
    ("DECIMAL(10,2)", &["-12345678.90", "0.01", "0", "99999999.99"]),
    (
        "DECIMAL(65,30)",
        &["12345678901234567890123456789012345.123456789012345678901234567890", "-0.000000000000000000000000000001"],
    ),
    ("DECIMAL(1,0)", &["-9", "9"]),
    ("DECIMAL(30,30)", &["0.123456789012345678901234567890"]),
    ("DECIMAL(18,9) UNSIGNED ZEROFILL", &["1.5"]),
    ("BIT(1)", &["b'0'", "b'1'"]),
    ("BIT(7)", &["b'1010101'"]),
    ("BIT(9)", &["b'100000001'"]),
    ("BIT(64)", &["0xFFFFFFFFFFFFFFFF", "0x8000000000000000", "1"]),
    ("YEAR", &["1901", "2155", "0", "2026"]),
    ("DATE", &["'0000-00-00'", "'1000-01-01'", "'9999-12-31'", "'2001-02-31'", "'2026-00-00'", "'2024-02-29'"]),
    ("TIME", &["'838:59:59'", "'-838:59:59'", "'00:00:00'", "'-00:00:01'", "'12:34:56'"]),
    ("TIME(1)", &["'-00:00:00.1'", "'838:59:59.9'", "'-838:59:59.9'"]),
    ("TIME(3)", &["'-00:00:01.999'", "'00:00:00.001'", "'-12:00:00.000'"]),
    ("TIME(6)", &["'-838:59:59.999999'", "'-00:00:00.000001'", "'23:59:59.999999'"]),
    ("DATETIME", &["'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'", "'2026-03-29 02:30:00'", "'2001-02-31 01:02:03'"]),
    ("DATETIME(2)", &["'2026-01-01 00:00:00.99'", "'0000-00-00 00:00:00.00'"]),
    ("DATETIME(4)", &["'2026-01-01 00:00:00.0001'"]),
    ("DATETIME(6)", &["'2026-12-31 23:59:59.999999'"]),
    ("TIMESTAMP NULL", &["'1970-01-02 00:00:01'", "'2038-01-18 03:14:07'", "0", "'2026-10-25 02:30:00'"]),
    ("TIMESTAMP(3) NULL", &["'2026-07-01 12:00:00.123'", "0"]),
    ("TIMESTAMP(6) NULL", &["'2026-07-01 12:00:00.000001'"]),
    ("CHAR(5)", &["''", "'a'", "'a  '", "' b'", "'ß€😀'", "'it\\'s'"]),
    ("CHAR(255)", &["REPEAT('😀', 255)", "'x'"]),
    ("CHAR(3) CHARACTER SET latin1", &["_latin1 0xE4F6FC", "_latin1 0x80"]),
    ("CHAR(0)", &["''"]),
    ("VARCHAR(10)", &["''", "'a  '", "'\\\\ \\' \\\" \\n'", "'a\\0b'", "'%_'"]),
    ("VARCHAR(300)", &["REPEAT('é', 300)"]),
    ("VARCHAR(20000)", &["REPEAT('x', 20000)"]),
    ("VARCHAR(50) CHARACTER SET latin1 COLLATE latin1_german2_ci", &["_latin1 0xDFE4", "_latin1 0x00FF5C27"]),
    ("VARCHAR(50) CHARACTER SET ascii", &["'plain'"]),
    ("VARCHAR(50) CHARACTER SET utf8mb3", &["'é€'"]),
    ("VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", &["'😀\\\\'"]),
    ("VARCHAR(50) CHARACTER SET ucs2", &["'é€x'", "''"]),
    ("VARCHAR(50) CHARACTER SET utf16", &["'é😀'", "_utf16 0x0027005C"]),
    ("VARCHAR(50) CHARACTER SET utf16le", &["'é😀'"]),
    ("VARCHAR(50) CHARACTER SET utf32", &["'é😀'"]),
    ("CHAR(4) CHARACTER SET utf32", &["'é😀'"]),
    ("VARCHAR(50) CHARACTER SET gbk", &["_gbk 0xBF5C", "_gbk 0x815C", "'中文'"]),
    ("VARCHAR(50) CHARACTER SET sjis", &["_sjis 0x835C", "'日本語'"]),
    ("VARCHAR(50) CHARACTER SET cp932", &["_cp932 0x815C"]),
    ("VARCHAR(50) CHARACTER SET big5", &["_big5 0xA55C", "'中文'"]),
    ("VARCHAR(50) CHARACTER SET ujis", &["'日本語'"]),
    ("VARCHAR(50) CHARACTER SET euckr", &["'한국어'"]),
    ("VARCHAR(50) CHARACTER SET gb2312", &["'中文'"]),
    ("VARCHAR(50) CHARACTER SET koi8r", &["'русский'"]),
    ("VARCHAR(50) CHARACTER SET cp1251", &["'русский'"]),
    ("VARCHAR(50) CHARACTER SET cp1250", &["'česky'"]),
    ("VARCHAR(50) CHARACTER SET latin2", &["'česky'"]),
    ("VARCHAR(50) CHARACTER SET greek", &["'ελληνικά'"]),
    ("VARCHAR(50) CHARACTER SET hebrew", &["'עברית'"]),
    ("VARCHAR(50) CHARACTER SET tis620", &["'ไทย'"]),
    ("VARCHAR(50) CHARACTER SET swe7", &["'abc'"]),
    ("BINARY(5)", &["''", "'ab'", "'a\\0b'", "0x0000000000", "0xFF00FF0000", "'ab   '"]),
    ("BINARY(16)", &["UNHEX(MD5('x'))"]),
    ("VARBINARY(20)", &["''", "'a\\0'", "0x275C000A1A", "'x  '"]),
    ("TINYBLOB", &["''", "0x0027"]),
    ("BLOB", &["REPEAT(0x00275CFF, 1000)"]),
    ("MEDIUMBLOB", &["REPEAT('x', 70000)"]),
    ("LONGBLOB", &["REPEAT(0xDEADBEEF, 500000)"]),
    ("TINYTEXT", &["'é'", "''"]),
    ("TEXT", &["REPEAT('é\\\\\\'', 1000)"]),
    ("MEDIUMTEXT CHARACTER SET latin1", &["REPEAT(_latin1 0xE4, 70000)"]),
    ("LONGTEXT", &["REPEAT('😀', 100000)"]),
    ("ENUM('a','b','it\\'s','ü')", &["'a'", "'ü'", "3", "''"]),
    ("SET('x','y','z')", &["''", "'x,z'", "7"]),
    ("JSON", &["'{\"a\": [1, 2.50, \"é\\\\u00e9\"]}'", "'null'"]),
    ("POINT", &["ST_GeomFromText('POINT(1.5 -2)', 4326)"]),
    ("GEOMETRY", &["ST_GeomFromText('LINESTRING(0 0,1 1)')", "ST_GeomFromText('POLYGON((0 0,0 1,1 1,0 0))')"]),
    ("GEOMETRYCOLLECTION", &["ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,2 2))')"]),
    ("INET6", &["'::'", "'2001:db8::1'", "'::ffff:10.0.0.1'", "'ffff::'"]),
    ("INET4", &["'0.0.0.0'", "'10.1.2.3'", "'255.255.255.255'"]),
    (
        "UUID",
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-4fff-bfff-ffffffffff00'",
            "'018f3e1c-7a2b-7c3d-8e4f-a1b2c3d4e5f6'",
            "UUID()",
        ],
    ),
];

#[test]
fn every_type_is_the_same_bytes() {
    let mut schema = String::new();
    for (n, (sql, _)) in TYPES.iter().enumerate() {
        schema += &format!("CREATE TABLE t{n} (id INT PRIMARY KEY AUTO_INCREMENT, v {sql} NULL, w {sql} NULL);\n");
    }
    let kept = Kept::start(&schema, &["--sql-mode=ALLOW_INVALID_DATES"]);
    let mut wrong = Vec::new();
    for (n, (sql, values)) in TYPES.iter().enumerate() {
        let mut text = String::from("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+05:30', NAMES utf8mb4;\n")
            .replace(", NAMES utf8mb4", "");
        for value in *values {
            text += &format!("INSERT INTO t{n} (v, w) VALUES ({value}, NULL), (NULL, {value}), ({value}, {value});\n");
        }
        text += &format!("UPDATE t{n} SET w = v WHERE id % 3 = 1;\nDELETE FROM t{n} WHERE id % 7 = 3;\n");
        session(&kept.authority, &text, sql, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    kept.catch_up();
    kept.assert_same();
    let count = |server: &crate::support::Server| server.sql("SELECT COUNT(*) FROM d.t0")[0][0].clone();
    assert_eq!(count(&kept.standby), "8");
}

/// The same in transactions of many rows, which go to the standby as row events.
#[test]
fn every_type_is_the_same_bytes_in_row_events() {
    let mut schema = String::new();
    for (n, (sql, _)) in TYPES.iter().enumerate() {
        schema += &format!("CREATE TABLE t{n} (id INT PRIMARY KEY AUTO_INCREMENT, v {sql} NULL, w {sql} NULL);\n");
    }
    let kept = Kept::start(&schema, &["--sql-mode=ALLOW_INVALID_DATES"]);
    let mut wrong = Vec::new();
    for (n, (sql, values)) in TYPES.iter().enumerate() {
        let mut text = String::from("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+05:30';\nBEGIN;\n");
        let long = if values.iter().any(|value| value.contains("0000")) { 1 } else { 40 };
        for value in std::iter::repeat_n(*values, long).flatten() {
            text += &format!("INSERT INTO t{n} (v, w) VALUES ({value}, NULL), (NULL, {value});\n");
        }
        text += "COMMIT;\nBEGIN;\n";
        text += &format!("UPDATE t{n} SET w = v WHERE id % 4 = 1;\nUPDATE t{n} SET v = NULL WHERE id % 4 = 3;\n");
        text += &format!("COMMIT;\nDELETE FROM t{n} WHERE id % 3 = 2;\n");
        session(&kept.authority, &text, sql, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    kept.catch_up();
    kept.assert_same();
    assert!(kept.events() > 50, "{}", kept.events());
}

/// What row events must leave alone, and what they must find: rows by keys of several columns and of text, columns that the
/// server computes or sets by itself, other unique keys, partitions.
#[test]
fn tables_of_every_kind_take_row_events() {
    let schema = "CREATE TABLE stamped (id INT PRIMARY KEY, n INT, at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), dt DATETIME ON UPDATE NOW());\n\
        CREATE TABLE made (id INT PRIMARY KEY, n INT, v INT AS (n + 1) VIRTUAL, s VARCHAR(20) AS (CONCAT('<', n, '>')) STORED, m INT, KEY (v), KEY (s));\n\
        CREATE TABLE two (id INT PRIMARY KEY, u INT NOT NULL UNIQUE, n INT);\n\
        CREATE TABLE named (a VARCHAR(20) COLLATE utf8mb4_general_ci, b DECIMAL(10,2), n INT, PRIMARY KEY (b, a));\n\
        CREATE TABLE keyed (a INT NOT NULL, b INT NOT NULL UNIQUE, n INT);\n\
        CREATE TABLE parted (id INT PRIMARY KEY, n INT) PARTITION BY HASH (id) PARTITIONS 3;\n\
        CREATE TABLE parent (id INT PRIMARY KEY, n INT);\n\
        CREATE TABLE child (id INT PRIMARY KEY, p INT, n INT, FOREIGN KEY (p) REFERENCES parent (id));\n\
        CREATE TABLE checked (id INT PRIMARY KEY, n INT, CHECK (n >= 0));\n";
    let kept = Kept::start(schema, &[]);
    let text = "INSERT INTO stamped (id, n) SELECT seq, seq FROM seq_1_to_300;
        INSERT INTO made (id, n) SELECT seq, seq FROM seq_1_to_300;
        INSERT INTO two SELECT seq, seq + 1000, seq FROM seq_1_to_300;
        INSERT INTO named SELECT CONCAT('Ab', seq), seq / 4, seq FROM seq_1_to_300;
        INSERT INTO keyed SELECT seq % 7, seq, seq FROM seq_1_to_300;
        INSERT INTO parted SELECT seq, seq FROM seq_1_to_300;
        INSERT INTO parent SELECT seq, seq FROM seq_1_to_300;
        INSERT INTO child SELECT seq, seq, seq FROM seq_1_to_300;
        SET check_constraint_checks = 0;
        INSERT INTO checked SELECT seq, -seq FROM seq_1_to_300;
        SET check_constraint_checks = 1;
        UPDATE stamped SET n = n + 1;
        UPDATE stamped SET n = n + 1, at = at, dt = dt WHERE id <= 200;
        UPDATE stamped SET dt = '2001-01-01' WHERE id <= 100;
        UPDATE made SET n = n + 5;
        UPDATE made SET m = id WHERE id <= 200;
        UPDATE two SET n = n + 1;
        UPDATE two SET u = u + 500 ORDER BY id DESC;
        UPDATE two SET u = 3000 - u;
        UPDATE named SET n = n + 1;
        UPDATE named SET a = UPPER(a), n = n + 1;
        UPDATE keyed SET n = n + 1;
        UPDATE parted SET n = n * 2;
        UPDATE parent SET n = n + 1;
        UPDATE child SET p = 1 + p % 300, n = 0;
        DELETE FROM stamped WHERE id % 3 = 0;
        DELETE FROM made WHERE id % 3 = 0;
        DELETE FROM two WHERE id % 3 = 0;
        DELETE FROM named WHERE n % 3 = 0;
        DELETE FROM keyed WHERE b % 3 = 0;
        DELETE FROM parted WHERE id % 3 = 0;
        BEGIN; TRUNCATE parted; INSERT INTO parted SELECT seq, 1 FROM seq_1_to_200; COMMIT;";
    let mut wrong = Vec::new();
    session(&kept.authority, text, "tables", &mut wrong);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    kept.catch_up();
    kept.assert_same();
    let times = "SELECT COUNT(*), SUM(dt), SUM(at) FROM d.stamped";
    assert_eq!(kept.standby.sql(times), kept.authority.sql(times));
    for index in [
        "SELECT COUNT(*) FROM d.made FORCE INDEX (v) WHERE v > 10",
        "SELECT COUNT(*) FROM d.made FORCE INDEX (s) WHERE s > '<1'",
    ] {
        assert_eq!(kept.standby.sql(index), kept.authority.sql(index));
    }
    assert!(kept.events() > 10, "{}", kept.events());
    // what the standby writes to its own log is whole: the way back needs it
    kept.catch_up();
    let flag = kept.proxy.cli(&["flag", "analytics", "new"]);
    assert!(flag.ok, "{}{}", flag.stdout, flag.stderr);
}

/// One session, so that its settings hold for all statements.
pub(super) fn session(server: &crate::support::Server, text: &str, sql: &str, wrong: &mut Vec<String>) {
    let arguments = ["-Dd", "--default-character-set=utf8mb4", "-e", text];
    let output = crate::support::clients::mariadb(server.port, &arguments);
    if !output.ok {
        wrong.push(format!("{sql}: {}", output.stderr));
    }
}
