//! Speed of the statement path: `cargo bench --bench sql`.
//!
//! `hit` is what every statement costs once its shape is known (fingerprint and plan-cache look-up); `miss` is what a new
//! shape costs, beside what sqlparser alone would take; `decide` is routing with ten groups and a thousand tables.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use switchover::config::model::{
    Address, Admin, Config, Group, GroupId, Limits, ListenTls, Log, PoolMode, Store, StoreId, StoreTls, TablePattern,
};
use switchover::routing::{SessionView, Snapshot, TempTables, decide};
use switchover::sql::lex::{Lexeme, Lexer};
use switchover::sql::{CharsetClass, Dialect, PlanCache, analyze, classify, fingerprint};

/// About 100 bytes, as an ORM writes them.
const SHORT: &str =
    "select `id`, `pathname`, `visits` from `pageviews` where `site_id` = 849 and `hostname` = 'usefathom.com'";
const POINT: &str = "SELECT c FROM sbtest1 WHERE id=5017";

/// About two kilobytes, of names and literals as in a dashboard's report.
fn long() -> String {
    let column = |n: usize| format!("SUM(CASE WHEN `p`.`kind` = {n} THEN `p`.`visits` ELSE 0 END) AS `visits_{n}`, ");
    format!(
        "SELECT {} p.site_id FROM `page_stats` AS `p` INNER JOIN `sites` AS `s` ON `s`.`id` = `p`.`site_id` \
         WHERE `s`.`user_id` = 12345 AND `p`.`timestamp` BETWEEN '2020-01-01 00:00:00' AND '2020-12-31 23:59:59' \
         GROUP BY `p`.`site_id` ORDER BY `p`.`site_id` DESC LIMIT 50",
        (0..22).map(column).collect::<String>()
    )
}

fn insert() -> String {
    let row = "(849, '/blog/some-article', 'https://example.com/', '2020-01-01 00:00:00', 1, NULL)";
    format!("INSERT INTO pageviews (a, b, c, d, e, f) VALUES {}", vec![row; 22].join(", "))
}

fn texts() -> Vec<(&'static str, String)> {
    vec![("35 B", POINT.into()), ("100 B", SHORT.into()), ("2 KB", long()), ("2 KB insert", insert())]
}

fn hit(c: &mut Criterion) {
    let dialect = Dialect::default();
    let mut lexing = c.benchmark_group("lex");
    for (name, sql) in texts() {
        lexing.throughput(Throughput::Bytes(sql.len() as u64));
        lexing.bench_with_input(BenchmarkId::from_parameter(name), sql.as_bytes(), |b, sql| {
            b.iter(|| {
                let mut lexer = Lexer::new(black_box(sql), &dialect);
                let mut n = 0;
                while lexer.next_token().lexeme != Lexeme::End {
                    n += 1;
                }
                n
            });
        });
    }
    lexing.finish();
    let mut group = c.benchmark_group("hit");
    let mut cache = PlanCache::new(16 << 20);
    for n in 0..2_000 {
        let sql = format!("SELECT a FROM table_{n}");
        cache.insert(fingerprint(sql.as_bytes(), &dialect), Arc::new(analyze(sql.as_bytes(), &dialect)), 300);
    }
    for (name, sql) in texts() {
        cache.insert(fingerprint(sql.as_bytes(), &dialect), Arc::new(analyze(sql.as_bytes(), &dialect)), 300);
        group.throughput(Throughput::Bytes(sql.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(name), sql.as_bytes(), |b, sql| {
            b.iter(|| cache.get(fingerprint(black_box(sql), &dialect)).is_some());
        });
    }
    let gbk = Dialect { charset: CharsetClass::Gbk, ..dialect };
    group.bench_function("100 B, gbk", |b| b.iter(|| fingerprint(black_box(SHORT.as_bytes()), &gbk)));
    group.finish();
}

fn miss(c: &mut Criterion) {
    let dialect = Dialect::default();
    let mut group = c.benchmark_group("miss");
    for (name, sql) in texts() {
        group.bench_with_input(BenchmarkId::new("analyze", name), &sql, |b, sql| {
            b.iter(|| analyze(black_box(sql.as_bytes()), &dialect));
        });
        group.bench_with_input(BenchmarkId::new("sqlparser", name), &sql, |b, sql| {
            let mysql = sqlparser::dialect::MySqlDialect {};
            b.iter(|| sqlparser::parser::Parser::parse_sql(&mysql, black_box(sql)).unwrap());
        });
    }
    group.finish();
}

/// Ten groups of a hundred tables, some by pattern.
fn snapshot() -> Snapshot {
    let pattern = |name: String| TablePattern { database: None, name };
    let store = |name: &str| Store {
        name: name.into(),
        addresses: vec![Address::Tcp("127.0.0.1".into(), 3306)],
        control: None,
        account: None,
        tls: StoreTls::default(),
        proxy_protocol: false,
        change_log: switchover::config::model::ChangeLog::default(),
        seal: None,
    };
    let groups = (0..10u16).map(|g| Group {
        name: format!("g{g}"),
        tables: (0..100).map(|t| pattern(format!("g{g}_table_{t}"))).chain([pattern(format!("g{g}_log_*"))]).collect(),
        connection: StoreId(g % 2),
        databases: Vec::new(),
        references: vec![pattern("sites".into())],
        cross_store_transactions: true,
        standby: None,
        keeping: switchover::config::model::Keeping::default(),
        shadow: None,
    });
    let config = Config {
        listen: Vec::new(),
        proxy_protocol_from: Vec::new(),
        tls: ListenTls::default(),
        control_socket: PathBuf::new(),
        audit: PathBuf::new(),
        admin: Admin::default(),
        stores: vec![store("legacy"), store("new")],
        default: StoreId(0),
        groups: groups.collect(),
        users: BTreeMap::new(),
        pool: PoolMode::Session,
        pooling: Default::default(),
        hints: true,
        limits: Limits::default(),
        log: Log::default(),
        insight: Default::default(),
        workers: 0,
        io: Default::default(),
    };
    Snapshot::compile(Arc::new(config), 1, 0)
}

fn decision(c: &mut Criterion) {
    let (snapshot, dialect, temporary) = (snapshot(), Dialect::default(), TempTables::default());
    let view = SessionView { database: Some("app"), temporary: &temporary, written: &[] };
    let mut group = c.benchmark_group("decide");
    for (name, sql) in [
        ("no table", "SELECT 1"),
        ("one grouped", "SELECT * FROM g7_table_55"),
        ("one ungrouped", "SELECT * FROM users"),
        ("by pattern", "SELECT * FROM g9_log_2020"),
        ("four and a reference", "SELECT * FROM g1_table_1, g3_table_2, g5_table_3, sites"),
    ] {
        let facts = classify(sql.as_bytes(), &dialect);
        group.bench_function(name, |b| b.iter(|| decide(black_box(&facts), &snapshot, &view)));
    }
    group.finish();
    assert!(snapshot.group(GroupId(9)).is_some());
}

criterion_group!(benches, hit, miss, decision);
criterion_main!(benches);
