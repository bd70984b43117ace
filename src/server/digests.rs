//! What the cores have counted of statements, as operators' surfaces show it; and the log's level.

use std::cmp::Reverse;

use super::running::Proxy;
use crate::admin::digest::{Digest, DigestOrder, DigestRequest, DigestStore, Digests, Latency};
use crate::admin::log::{LogLevel, LogRequest};
use crate::admin::protocol::{Failure, FailureKind};
use crate::routing::Snapshot;
use crate::routing::explain::kind_word;
use crate::session::{Everything, Seen, Served, quantile};
use crate::sql::fingerprint::digest_text;

/// The statements of all cores.
pub(super) fn seen(proxy: &Proxy) -> Everything {
    Everything::sum(proxy.cores.iter().map(|core| &core.digests))
}

/// What a request asks for.
pub(super) fn digests(proxy: &Proxy, request: &DigestRequest) -> Digests {
    let live = proxy.live.load();
    let everything = seen(proxy);
    let (others, dropped) = (everything.others.clone(), everything.dropped);
    let all: Vec<Digest> = everything.into_seen().map(|seen| digest(&seen, &live.snapshot)).collect();
    let mut found =
        Digests { on: live.config().insight.statements > 0, kept: all.len() as u64, dropped, ..Digests::default() };
    found.others = (dropped > 0).then(|| digest(&others, &live.snapshot));
    found.calls = all.iter().chain(&found.others).map(|d| d.calls).sum();
    found.micros = all.iter().chain(&found.others).map(|d| d.latency.micros).sum();
    found.digests = all.into_iter().filter(|d| is_asked_for(d, request)).collect();
    sort(&mut found.digests, request.order);
    if request.limit > 0 {
        found.digests.truncate(usize::try_from(request.limit).unwrap_or(usize::MAX));
    }
    let micros = found.micros;
    found.digests.iter_mut().chain(&mut found.others).for_each(|d| d.share_of_time = share(d.latency.micros, micros));
    if request.reset {
        tracing::info!("figures of statements begin anew");
        proxy.cores.iter().for_each(|core| core.digests.reset());
    }
    found
}

/// A part of a whole, 0 … 1.
#[expect(clippy::cast_precision_loss, reason = "a share for people")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn is_asked_for(d: &Digest, request: &DigestRequest) -> bool {
    let contains = |text: &str, word: &str| text.to_lowercase().contains(&word.to_lowercase());
    request.group.as_ref().is_none_or(|group| d.groups.contains(group))
        && request.store.as_ref().is_none_or(|store| d.stores.iter().any(|s| s.store == *store))
        && request.filter.as_ref().is_none_or(|word| {
            [&d.text, &d.id].into_iter().chain(&d.tables).chain(&d.database).any(|text| contains(text, word))
        })
}

fn sort(digests: &mut [Digest], order: DigestOrder) {
    let key = |d: &Digest| match order {
        DigestOrder::Time => d.latency.micros,
        DigestOrder::Count => d.calls,
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "µs, far below 2^63")]
        DigestOrder::P99 => d.latency.p99_micros as u64,
        DigestOrder::Errors => d.errors + d.refused,
        DigestOrder::Rows => d.rows + d.affected,
        DigestOrder::Bytes => d.bytes,
        DigestOrder::Last => d.last_seen_ms,
    };
    // (those of equal rank stand in the same order each time)
    digests.sort_by_cached_key(|d| (Reverse(key(d)), d.id.clone(), d.database.clone()));
}

/// A statement as it is shown under a snapshot.
pub(super) fn digest(seen: &Seen, snapshot: &Snapshot) -> Digest {
    let stores: Vec<DigestStore> = seen.stores.iter().map(|(id, served)| of_store(*id, served, snapshot)).collect();
    let sum = |of: fn(&DigestStore) -> u64| stores.iter().map(of).sum::<u64>();
    let (mut classes, mut longest) = (Vec::new(), 0);
    for served in seen.stores.values() {
        classes.resize(served.classes.len().max(classes.len()), 0);
        classes.iter_mut().zip(&served.classes).for_each(|(sum, n)| *sum += n);
        longest = longest.max(served.longest_micros);
    }
    let (mut tables, mut groups) = (Vec::new(), Vec::new());
    for table in seen.statements.iter().flat_map(|f| &f.tables) {
        let name = match &table.database {
            Some(database) => format!("{database}.{}", table.name),
            None => table.name.to_string(),
        };
        if !tables.contains(&name) {
            tables.push(name);
        }
        let group = snapshot.locate(table, seen.database.as_deref()).group.and_then(|id| snapshot.group(id));
        if let Some(group) = group.filter(|g| !groups.contains(&g.name)) {
            groups.push(group.name.clone());
        }
    }
    Digest {
        id: seen.id.clone(),
        text: digest_text(seen.text.as_bytes(), &seen.dialect),
        database: seen.database.clone(),
        kind: match &*seen.statements {
            [] => String::new(),
            [one] => kind_word(&one.kind).to_owned(),
            _ => "several".to_owned(),
        },
        tables,
        groups,
        example: seen.example.clone(),
        calls: sum(|s| s.calls),
        as_text: seen.as_text,
        prepared: seen.prepared,
        bulk: seen.bulk,
        refused: seen.refused,
        errors: sum(|s| s.errors),
        last_error: seen.last_error,
        first_seen_ms: seen.first_ms,
        last_seen_ms: seen.last_ms,
        share_of_time: 0.0,
        latency: latency(sum(|s| s.latency.micros), longest, &classes),
        rows: sum(|s| s.rows),
        affected: sum(|s| s.affected),
        bytes: sum(|s| s.bytes),
        stores,
    }
}

fn of_store(id: u16, served: &Served, snapshot: &Snapshot) -> DigestStore {
    DigestStore {
        store: snapshot.store_name(crate::config::StoreId(id)).to_owned(),
        calls: served.calls,
        errors: served.errors,
        latency: latency(served.micros, served.longest_micros, &served.classes),
        rows: served.rows,
        affected: served.affected,
        bytes: served.bytes,
    }
}

fn latency(micros: u64, longest_micros: u64, classes: &[u64]) -> Latency {
    let at = |share| quantile(classes, share);
    Latency { micros, p50_micros: at(0.5), p95_micros: at(0.95), p99_micros: at(0.99), longest_micros }
}

/// What is logged; changed where the request says so.
pub(super) fn log(proxy: &Proxy, request: &LogRequest) -> Result<LogLevel, Failure> {
    let mut before = None;
    if let Some(level) = &request.level {
        let set = proxy.levels.set(level).map_err(|e| Failure::new(FailureKind::Request, e.to_string()))?;
        // (at a level that most logs show, whatever it was set to)
        tracing::warn!(from = set, to = level, by = request.cause.by, why = request.cause.why, "another log level");
        before = Some(set);
    }
    let (level, said) = proxy.levels.now();
    let file_says = proxy.live.load().config().log.level.clone();
    let slow_suppressed = proxy.registry.slow_lines.suppressed();
    Ok(LogLevel { level, said_by: said.to_string(), before, file_says, slow_suppressed })
}
