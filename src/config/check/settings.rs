//! `pool`, `hints`, `limits`, `log`, `insight`, `workers`, `io`: values with defaults.

use std::time::Duration;

use super::super::model::{Insight, Io, Limits, Log, LogFormat, PoolMode, Pooling};
use super::super::raw::{Content, Node};
use super::super::reader::{Fields, Reader};
use super::super::units;

/// Everything that has a default.
pub(super) struct Settings {
    pub(super) pool: PoolMode,
    pub(super) pooling: Pooling,
    pub(super) hints: bool,
    pub(super) limits: Limits,
    pub(super) log: Log,
    pub(super) insight: Insight,
    pub(super) workers: usize,
    pub(super) io: Io,
}

/// Worker threads that make sense on any machine.
const MAX_WORKERS: usize = 1_024;
/// Statements of which a core may keep figures: some 200 MB.
const MAX_STATEMENTS: u32 = 100_000;
const SIZE: &str = "a number with a unit, as 64MiB";
const DURATION: &str = "a number with a unit, as 10s, 500ms or 2m";

pub(super) fn settings(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> Settings {
    let (pool, pooling) = top.take("pool").map(|node| pool(reader, node)).unwrap_or_default();
    let hints =
        top.take("hints").and_then(|node| reader.parsed(node, "hints", "true or false", units::switch)).unwrap_or(true);
    let workers = top.take("workers").and_then(|node| workers(reader, node)).unwrap_or_default();
    let kinds = [("auto", Io::Auto), ("io_uring", Io::IoUring), ("epoll", Io::Epoll)];
    let io = top.take("io").and_then(|node| reader.choice(node, "io", &kinds)).unwrap_or_default();
    let (limits, log, insight) = (limits(reader, top), log(reader, top), insight(reader, top));
    Settings { pool, pooling, hints, limits, log, insight, workers, io }
}

/// `pool: transaction`, or `pool: { mode: transaction, … }`.
fn pool(reader: &mut Reader<'_>, node: &Node) -> (PoolMode, Pooling) {
    let modes = [("session", PoolMode::Session), ("transaction", PoolMode::Transaction)];
    let mut pooling = Pooling::default();
    if !matches!(&*node.content, Content::Mapping(_)) {
        return (reader.choice(node, "pool", &modes).unwrap_or_default(), pooling);
    }
    let Some(mut fields) = reader.fields(node, "pool", &node.span) else { return Default::default() };
    let f = &mut fields;
    let mode = f
        .require(reader, "mode", "`mode: transaction`, or `mode: session`")
        .and_then(|node| reader.choice(node, "pool.mode", &modes))
        .unwrap_or_default();
    count(reader, f, "max_per_store", 1, &mut pooling.max_per_store);
    time(reader, f, "idle_timeout", &mut pooling.idle_timeout);
    time(reader, f, "wait_timeout", &mut pooling.wait_timeout);
    fields.close(reader);
    (mode, pooling)
}

fn workers(reader: &mut Reader<'_>, node: &Node) -> Option<usize> {
    let expected = format!("a number from 0 (one per core) to {MAX_WORKERS}");
    reader.parsed(node, "workers", &expected, |text| text.parse().ok().filter(|workers| *workers <= MAX_WORKERS))
}

fn limits(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(node) = top.take("limits") else { return limits };
    let Some(mut fields) = reader.fields(node, "limits", &node.span) else { return limits };
    let f = &mut fields;
    count(reader, f, "max_connections", 1, &mut limits.max_connections);
    size(reader, f, "max_allowed_packet", 1_024, &mut limits.max_allowed_packet);
    time(reader, f, "connect_timeout", &mut limits.connect_timeout);
    if let Some(node) = f.take("idle_timeout") {
        let expected = format!("{DURATION}, or none");
        let parse = |text: &str| match text {
            "none" => Some(None),
            text => units::duration(text).filter(|time| !time.is_zero()).map(Some),
        };
        limits.idle_timeout = reader.parsed(node, "limits.idle_timeout", &expected, parse).flatten();
    }
    count(reader, f, "max_pending_logins", 1, &mut limits.max_pending_logins);
    count(reader, f, "max_prepared_statements", 0, &mut limits.max_prepared_statements);
    time(reader, f, "drain_timeout", &mut limits.drain_timeout);
    size(reader, f, "plan_cache", 0, &mut limits.plan_cache);
    count(reader, f, "login_attempts", 1, &mut limits.login_attempts);
    fields.close(reader);
    limits
}

fn count(reader: &mut Reader<'_>, fields: &mut Fields<'_>, key: &'static str, least: u32, into: &mut u32) {
    let Some(node) = fields.take(key) else { return };
    let expected = format!("a whole number, {least} at least");
    let parse = |text: &str| text.replace('_', "").parse::<u32>().ok().filter(|count| *count >= least);
    if let Some(count) = reader.parsed(node, &fields.name(key), &expected, parse) {
        *into = count;
    }
}

/// The protocol's own bound is 1 GiB for a command; more is a mistake for every size.
fn size(reader: &mut Reader<'_>, fields: &mut Fields<'_>, key: &'static str, least: u64, into: &mut u64) {
    let Some(node) = fields.take(key) else { return };
    let parse = |text: &str| units::size(text).filter(|bytes| (least..=1 << 30).contains(bytes));
    let expected = format!("{SIZE}; from {least} bytes to 1GiB");
    if let Some(bytes) = reader.parsed(node, &fields.name(key), &expected, parse) {
        *into = bytes;
    }
}

fn time(reader: &mut Reader<'_>, fields: &mut Fields<'_>, key: &'static str, into: &mut Duration) {
    let Some(node) = fields.take(key) else { return };
    if let Some(time) = reader.parsed(node, &fields.name(key), DURATION, units::duration) {
        *into = time;
    }
}

fn insight(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> Insight {
    let mut insight = Insight::default();
    let Some(node) = top.take("insight") else { return insight };
    let Some(mut fields) = reader.fields(node, "insight", &node.span) else { return insight };
    if let Some(node) = fields.take("statements") {
        let expected = format!("a whole number from 0 (keeps none) to {MAX_STATEMENTS}");
        let parse = |text: &str| text.replace('_', "").parse::<u32>().ok().filter(|count| *count <= MAX_STATEMENTS);
        insight.statements = reader.parsed(node, "insight.statements", &expected, parse).unwrap_or(insight.statements);
    }
    if let Some(node) = fields.take("examples") {
        insight.examples = reader.parsed(node, "insight.examples", "true or false", units::switch).unwrap_or_default();
    }
    fields.close(reader);
    insight
}

fn log(reader: &mut Reader<'_>, top: &mut Fields<'_>) -> Log {
    let mut log = Log::default();
    let Some(node) = top.take("log") else { return log };
    let Some(mut fields) = reader.fields(node, "log", &node.span) else { return log };
    if let Some(node) = fields.take("format") {
        log.format = reader
            .choice(node, "log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
            .unwrap_or_default();
    }
    if let Some(node) = fields.take("level") {
        let levels = ["error", "warn", "info", "debug", "trace"].map(|level| (level, level));
        log.level = reader.choice(node, "log.level", &levels).unwrap_or_default().to_owned();
    }
    if let Some(node) = fields.take("slow_query") {
        let parse = |text: &str| if text == "none" { Some(None) } else { units::duration(text).map(Some) };
        log.slow_query = reader.parsed(node, "log.slow_query", &format!("{DURATION}, or none"), parse).flatten();
    }
    if let Some(node) = fields.take("literals") {
        log.literals = reader.parsed(node, "log.literals", "true or false", units::switch).unwrap_or_default();
    }
    fields.close(reader);
    log
}
