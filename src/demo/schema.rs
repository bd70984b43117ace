//! The demo's tables, shaped like Fathom's, and what they hold at the start: the same on both stores.

use std::fmt::Write;

use super::store::Store;

/// The tables of the group `analytics`. `sites`, `goals` and `goal_stats` are in no group.
pub(super) const GROUPED: &[&str] =
    &["pageviews", "site_stats", "page_stats", "referrer_stats", "browser_stats", "country_stats", "device_type_stats"];

/// Sites of the application; their ids start at 1.
pub(super) const SITES: u64 = 20;
/// Goals of each site.
pub(super) const GOALS_PER_SITE: u64 = 3;
/// Hours of statistics that are there at the start.
const HOURS: u64 = 48;

/// The statistics tables that count by a dimension: table, its column, the values seen.
pub(super) const DIMENSIONS: &[(&str, &str, &[&str])] = &[
    ("page_stats", "pathname", &["/", "/pricing", "/docs", "/blog", "/about"]),
    ("referrer_stats", "referrer", &["", "https://search.example", "https://news.example", "https://friend.example"]),
    ("browser_stats", "browser", &["Firefox", "Chrome", "Safari", "Edge"]),
    ("country_stats", "country_code", &["CA", "DE", "JP", "BR", "KE"]),
    ("device_type_stats", "device_type", &["Desktop", "Phone", "Tablet"]),
];

const TABLES: &[&str] = &[
    "CREATE TABLE sites (
        id BIGINT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT,
        name VARCHAR(255) NOT NULL,
        settings JSON,
        updated_at DATETIME NOT NULL)",
    "CREATE TABLE goals (
        id BIGINT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT,
        site_id BIGINT UNSIGNED NOT NULL,
        name VARCHAR(255) NOT NULL,
        KEY (site_id))",
    "CREATE TABLE goal_stats (
        site_id BIGINT UNSIGNED NOT NULL,
        goal_id BIGINT UNSIGNED NOT NULL,
        ts DATETIME NOT NULL,
        conversions BIGINT UNSIGNED NOT NULL,
        value DECIMAL(12,2) NOT NULL,
        PRIMARY KEY (site_id, ts, goal_id))",
    "CREATE TABLE pageviews (
        id BIGINT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT,
        site_id BIGINT UNSIGNED NOT NULL,
        visit CHAR(32) NOT NULL,
        pathname VARCHAR(255) NOT NULL,
        referrer VARCHAR(255) NOT NULL,
        browser VARCHAR(64) NOT NULL,
        country_code CHAR(2) NOT NULL,
        device_type VARCHAR(16) NOT NULL,
        is_new TINYINT(1) NOT NULL,
        duration INT UNSIGNED,
        ts DATETIME NOT NULL,
        KEY (site_id, ts))",
    "CREATE TABLE site_stats (
        site_id BIGINT UNSIGNED NOT NULL,
        ts DATETIME NOT NULL,
        pageviews BIGINT UNSIGNED NOT NULL,
        visits BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (site_id, ts))",
];

/// Makes and fills the tables.
///
/// # Errors
/// If the store refuses a statement.
pub(super) async fn create(store: &Store) -> anyhow::Result<()> {
    for table in TABLES {
        store.run(table).await?;
    }
    for (table, column, _) in DIMENSIONS {
        let sql = format!(
            "CREATE TABLE {table} (
                site_id BIGINT UNSIGNED NOT NULL,
                ts DATETIME NOT NULL,
                {column} VARCHAR(255) NOT NULL,
                pageviews BIGINT UNSIGNED NOT NULL,
                PRIMARY KEY (site_id, ts, {column}))"
        );
        store.run(&sql).await?;
    }
    fill(store).await
}

async fn fill(store: &Store) -> anyhow::Result<()> {
    let sites = (1..=SITES).map(|site| format!("({site}, 'site{site}.example', '{{\"public\": true}}', NOW())"));
    store.run(&insert("sites", sites)).await?;
    let goals =
        (1..=SITES).flat_map(|site| (1..=GOALS_PER_SITE).map(move |goal| format!("(NULL, {site}, 'goal {goal}')")));
    store.run(&insert("goals", goals)).await?;

    // Numbers that look alive and are the same on both stores.
    let count = |site: u64, hour: u64, value: u64| 1 + (site * 7 + hour * 13 + value * 29) % 97;
    let hours = || (1..=SITES).flat_map(|site| (1..=HOURS).map(move |hour| (site, hour)));
    let ts = |hour: u64| format!("DATE_FORMAT(NOW(), '%Y-%m-%d %H:00:00') - INTERVAL {hour} HOUR");
    let rows = hours()
        .map(|(site, hour)| format!("({site}, {}, {}, {})", ts(hour), count(site, hour, 0), count(site, hour, 1) / 2));
    store.run(&insert("site_stats", rows)).await?;
    for (table, _, values) in DIMENSIONS {
        let rows = hours().flat_map(|(site, hour)| {
            (0..)
                .zip(*values)
                .map(move |(at, value)| format!("({site}, {}, '{value}', {})", ts(hour), count(site, hour, at)))
        });
        store.run(&insert(table, rows)).await?;
    }
    Ok(())
}

fn insert(table: &str, rows: impl Iterator<Item = String>) -> String {
    let mut sql = format!("INSERT INTO {table} VALUES ");
    for (at, row) in rows.enumerate() {
        let comma = if at > 0 { ", " } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{comma}{row}");
    }
    sql
}
