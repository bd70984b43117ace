//! The console's tables: each is worked out when it is asked for, from what the proxy says of itself.

use super::super::action::{Actions, Actor};
use super::super::digest::{Digest, DigestRequest};
use super::super::protocol::{EventQuery, Failure, GroupStatus, Reply, Request, SessionInfo, Status};
use super::super::shadow::ShadowRequest;
use super::super::table::moment;
use super::expression::Refusal;
use super::relation::{Cell, Relation};

/// Every table: its name in SELECT, how SHOW names it, its columns.
pub(crate) const TABLES: [(&str, &str, &[&str]); 11] = [
    (
        "groups",
        "GROUPS",
        &[
            "name",
            "connection",
            "stage",
            "targets",
            "tables",
            "paused",
            "held",
            "waiting",
            "standby",
            "standby_state",
            "lag_entries",
            "lag_seconds",
            "epoch",
            "acks",
            "cutover",
        ],
    ),
    (
        "stores",
        "STORES",
        &[
            "name",
            "state",
            "reason",
            "addresses",
            "engine",
            "version",
            "is_default",
            "leases",
            "idle",
            "queries",
            "errors",
            "connect_errors",
        ],
    ),
    (
        "sessions",
        "SESSIONS",
        &["id", "user", "client", "db", "state", "for_ms", "leases", "pins", "in_transaction", "epoch", "queries"],
    ),
    ("pins", "PINS", &["session", "user", "client", "pin", "for_ms"]),
    (
        "digests",
        "DIGESTS",
        &[
            "id",
            "text",
            "kind",
            "database",
            "tables",
            "groups",
            "stores",
            "calls",
            "errors",
            "refused",
            "last_error",
            "rows",
            "affected",
            "bytes",
            "micros",
            "p50_us",
            "p95_us",
            "p99_us",
            "longest_us",
            "as_text",
            "prepared",
            "bulk",
            "first_seen",
            "last_seen",
            "example",
        ],
    ),
    (
        "journal",
        "JOURNAL",
        &[
            "group",
            "authority",
            "standby",
            "state",
            "position",
            "lag_entries",
            "lag_seconds",
            "transactions",
            "rows",
            "repeats",
            "reconnects",
            "transaction",
            "reason",
            "remedy",
        ],
    ),
    ("shadow", "SHADOW", &super::shadow::COLUMNS),
    ("metrics", "METRICS", &["name", "labels", "value"]),
    ("config", "CONFIG", &["key", "value"]),
    ("config_diff", "CONFIG DIFF", &["key", "in_force", "file"]),
    (
        "events",
        "EVENTS",
        &["id", "time", "kind", "subject", "what", "by", "surface", "from", "before", "after", "why", "outcome"],
    ),
];

/// The columns of a table; none where there is no such table.
pub(crate) fn columns(name: &str) -> Option<&'static [&'static str]> {
    TABLES.iter().find(|(table, ..)| table.eq_ignore_ascii_case(name)).map(|(_, _, columns)| *columns)
}

/// What a column holds: `bigint`, `double` or `varchar`.
pub(crate) fn kind(table: &str, column: &str) -> &'static str {
    match (table, column) {
        ("metrics", "value") | ("shadow", "match_rate") => "double",
        ("digests" | "shadow", "id") | ("sessions", "leases") | ("shadow", "shadow") => "varchar",
        (
            _,
            "id" | "session" | "paused" | "held" | "waiting" | "lag_entries" | "lag_seconds" | "epoch" | "is_default"
            | "leases" | "idle" | "queries" | "errors" | "connect_errors" | "for_ms" | "in_transaction" | "calls"
            | "refused" | "last_error" | "rows" | "affected" | "bytes" | "micros" | "as_text" | "prepared" | "bulk"
            | "transactions" | "repeats" | "reconnects" | "compared" | "equal" | "lag" | "order" | "type" | "real"
            | "failed" | "too_large" | "unreachable",
        ) => "bigint",
        (_, column) if column.ends_with("_us") => "bigint",
        _ => "varchar",
    }
}

fn refused(failure: Failure) -> Refusal {
    Refusal::new(1105, failure.message)
}

/// The rows of a table, for this actor.
pub(crate) async fn rows(name: &str, actions: &Actions, actor: &Actor) -> Result<Relation, Refusal> {
    let ask = async |request| actions.perform(actor, request).await.map_err(refused);
    let mut relation = Relation::new(columns(name).unwrap_or_default());
    match name.to_lowercase().as_str() {
        "groups" | "stores" | "journal" => {
            if let Reply::Status(status) = ask(Request::Status).await? {
                match name.to_lowercase().as_str() {
                    "groups" => status.groups.iter().for_each(|g| relation.row(group(g, status.epoch))),
                    "stores" => stores(&status, &mut relation),
                    _ => status.groups.iter().for_each(|g| journal(g, &mut relation)),
                }
            }
        }
        "sessions" | "pins" => {
            if let Reply::Sessions(sessions) = ask(Request::Sessions).await? {
                let pins = name.eq_ignore_ascii_case("pins");
                sessions.iter().for_each(|s| if pins { pins_of(s, &mut relation) } else { relation.row(session(s)) });
            }
        }
        "shadow" => {
            let all = ShadowRequest { limit: u32::MAX, ..ShadowRequest::default() };
            if let Reply::Shadow(report) = ask(Request::Shadow(all)).await? {
                report.statements.iter().for_each(|s| relation.row(super::shadow::row(s)));
            }
        }
        "digests" => {
            let all = Request::Digests(DigestRequest::default());
            if let Reply::Digests(found) = ask(all).await? {
                found.digests.into_iter().chain(found.others).for_each(|d| relation.row(digest(d)));
            }
        }
        "metrics" => actions.running().metrics().lines().filter_map(metric).for_each(|row| relation.row(row)),
        "config" => {
            if let Reply::Config(entries) = ask(Request::Config).await? {
                entries.iter().for_each(|e| relation.row(vec![(&e.key).into(), (&e.value).into()]));
            }
        }
        "config_diff" => {
            if let Reply::ConfigDiff(changes) = ask(Request::ConfigDiff).await? {
                let row = |c: &super::super::protocol::ConfigChange| {
                    vec![(&c.key).into(), (&c.in_force).into(), (&c.file).into()]
                };
                changes.iter().for_each(|c| relation.row(row(c)));
            }
        }
        "events" => {
            let all = EventQuery { limit: u32::MAX, ..EventQuery::default() };
            if let Reply::Events(events) = ask(Request::Events(all)).await? {
                events.into_iter().for_each(|e| relation.row(event(e)));
            }
        }
        _ => return Err(Refusal::new(1146, format!("there is no table {name}: HELP shows what there is"))),
    }
    Ok(relation)
}

fn group(g: &GroupStatus, epoch: u64) -> Vec<Cell> {
    let (standby, authority) = (g.standby.as_ref(), g.authority.as_ref());
    vec![
        (&g.name).into(),
        (&g.connection).into(),
        (&g.stage).into(),
        g.targets.join(", ").into(),
        g.tables.join(", ").into(),
        g.paused.into(),
        authority.is_some_and(|a| a.held).into(),
        g.waiting.into(),
        standby.map(|s| &s.store).into(),
        standby.map(|s| &s.state).into(),
        standby.map(|s| s.lag_entries).into(),
        standby.map(|s| s.lag_seconds).into(),
        authority.map_or(epoch, |a| a.epoch).into(),
        authority.map(|a| &a.acks).into(),
        authority.and_then(|a| a.cutover.as_ref()).into(),
    ]
}

fn stores(status: &Status, relation: &mut Relation) {
    for s in &status.stores {
        relation.row(vec![
            (&s.name).into(),
            (&s.state).into(),
            s.reason.as_ref().into(),
            s.addresses.join(", ").into(),
            (&s.engine).into(),
            (&s.version).into(),
            (s.name == status.default).into(),
            s.leases.into(),
            s.idle.into(),
            s.queries.into(),
            s.errors.into(),
            s.connect_errors.into(),
        ]);
    }
}

fn journal(g: &GroupStatus, relation: &mut Relation) {
    let Some(s) = &g.standby else { return };
    relation.row(vec![
        (&g.name).into(),
        (&g.connection).into(),
        (&s.store).into(),
        (&s.state).into(),
        (&s.position).into(),
        s.lag_entries.into(),
        s.lag_seconds.into(),
        s.transactions.into(),
        s.rows.into(),
        s.repeats.into(),
        s.reconnects.into(),
        s.transaction.as_ref().into(),
        s.reason.as_ref().into(),
        s.remedy.as_ref().into(),
    ]);
}

fn session(s: &SessionInfo) -> Vec<Cell> {
    vec![
        s.id.into(),
        (&s.user).into(),
        (&s.client).into(),
        s.db.as_ref().into(),
        (&s.state).into(),
        s.for_ms.into(),
        s.leases.join(", ").into(),
        s.pins.join(", ").into(),
        s.in_transaction.into(),
        s.epoch.into(),
        s.queries.into(),
    ]
}

fn pins_of(s: &SessionInfo, relation: &mut Relation) {
    for pin in &s.pins {
        relation.row(vec![s.id.into(), (&s.user).into(), (&s.client).into(), pin.into(), s.for_ms.into()]);
    }
}

fn digest(d: Digest) -> Vec<Cell> {
    let stores: Vec<String> = d.stores.iter().map(|s| s.store.clone()).collect();
    vec![
        d.id.into(),
        d.text.into(),
        d.kind.into(),
        d.database.into(),
        d.tables.join(", ").into(),
        d.groups.join(", ").into(),
        stores.join(", ").into(),
        d.calls.into(),
        d.errors.into(),
        d.refused.into(),
        d.last_error.map(u64::from).into(),
        d.rows.into(),
        d.affected.into(),
        d.bytes.into(),
        d.latency.micros.into(),
        d.latency.p50_micros.into(),
        d.latency.p95_micros.into(),
        d.latency.p99_micros.into(),
        d.latency.longest_micros.into(),
        d.as_text.into(),
        d.prepared.into(),
        d.bulk.into(),
        moment(d.first_seen_ms).into(),
        moment(d.last_seen_ms).into(),
        d.example.into(),
    ]
}

/// A line of Prometheus' text format.
fn metric(line: &str) -> Option<Vec<Cell>> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some(vec![name.into(), labels.trim_end_matches('}').into(), value.parse::<f64>().ok()?.into()])
}

fn event(e: super::super::events::Event) -> Vec<Cell> {
    vec![
        e.id.into(),
        moment(e.at_ms).into(),
        e.kind.into(),
        e.subject.into(),
        e.what.into(),
        e.by.into(),
        e.surface.into(),
        e.from.into(),
        e.before.into(),
        e.after.into(),
        e.why.into(),
        e.outcome.into(),
    ]
}
