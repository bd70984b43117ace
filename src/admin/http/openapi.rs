//! The API's OpenAPI document. Its schemas are taken from values of the very types that are sent: they cannot fall behind.

use axum::Json;
use serde_json::{Map, Value, json};

use super::api::Pin;
use super::jobs::Job;
use crate::admin::digest::{Digest, DigestStore, Digests};
use crate::admin::events::Event;
use crate::admin::live::{GroupSample, Sample, StoreSample};
use crate::admin::log::LogLevel;
use crate::admin::protocol::{
    AuthorityStatus, Begun, ConfigChange, ConfigEntry, Explained, Flagged, FlipRecord, Found, GroupStatus, Reloaded,
    SessionInfo, StandbyStatus, Status, StoreStatus,
};
use crate::admin::readiness::{Judged, Readiness};
use crate::transfer::shadow::{GroupReport, Report, StatementReport};

/// Method, path below `/api/v1`, what it does, the schema of its answer (`[X]` is a list, `X|Y` either), fields of its body: `x?` may be left out or
/// null, `x!` is true or false.
pub(super) const ROUTES: [(&str, &str, &str, &str, &[&str]); 26] = [
    ("get", "/openapi.json", "This document", "", &[]),
    ("post", "/login", "Begin a browser's session", "Me", &["user", "password"]),
    ("post", "/logout", "End it", "", &[]),
    ("get", "/me", "Who is logged in, and the token of changes", "Me", &[]),
    ("get", "/status", "Everything at this moment", "Status", &[]),
    ("get", "/sessions", "Every session", "[Session]", &[]),
    ("post", "/sessions/{id}/kill", "End a session, or its statement (`query`)", "", &["query!", "why?"]),
    ("get", "/pins", "What keeps sessions on their backends", "[Pin]", &[]),
    ("get", "/events", "What was changed and happened, the newest first", "[Event]", &[]),
    ("get", "/samples", "The samples of the last five minutes", "[Sample]", &[]),
    ("get", "/live", "Server-sent events: `sample` each second, `event` as it happens", "", &[]),
    ("get", "/jobs", "Cutovers and standbys that catch up", "[Job]", &[]),
    ("post", "/jobs/{id}/abort", "Give up a cutover, by its id or its group", "", &["why?"]),
    ("get", "/config", "The configuration in force, without secrets", "[ConfigEntry]", &[]),
    ("get", "/config/diff", "What the file says otherwise", "[ConfigChange]", &[]),
    ("get", "/shadow", "What shadow reads have found, by statement", "Shadow", &[]),
    ("get", "/digests", "Statements by fingerprint", "Digests", &[]),
    ("get", "/readiness/{group}", "What would become of each statement if the flag moved now", "Readiness", &[]),
    ("get", "/log", "What is logged", "Log", &[]),
    ("post", "/log", "Log another level", "Log", &["level", "why?"]),
    ("post", "/explain", "Where a statement would go, and why", "Explained", &["sql", "db?", "user?"]),
    ("post", "/reload", "Read the configuration file again", "Reloaded", &["why?"]),
    ("post", "/groups/{group}/flag", "Move the flag of a group", "Flagged", &["store", "why?", "force!", "dry_run!"]),
    ("post", "/groups/{group}/pause", "What would write to the group waits", "Group", &["why?"]),
    ("post", "/groups/{group}/resume", "The group goes on", "Group", &["why?"]),
    (
        "post",
        "/groups/{group}/standby",
        "What a standby is told: to try again, to pass a transaction over, how it begins and ends",
        "Standby|Begun",
        &["action", "transaction", "reason", "position?", "why?"],
    ),
];

/// `GET /api/v1/openapi.json`.
pub(super) async fn document() -> Json<Value> {
    Json(whole())
}

fn whole() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for route in ROUTES {
        let (method, path, ..) = route;
        let operations = paths.entry(format!("/api/v1{path}")).or_insert_with(|| json!({}));
        if let Some(operations) = operations.as_object_mut() {
            operations.insert(method.to_owned(), Value::Object(operation(route)));
        }
    }
    let schemas: Map<String, Value> =
        examples().into_iter().map(|(name, value)| (name.to_owned(), schema(&value))).collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Switchover", "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "basic": [] }, { "cookie": [], "csrf": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": { "type": "http", "scheme": "basic" },
                "cookie": { "type": "apiKey", "in": "cookie", "name": "switchover_session" },
                "csrf": { "type": "apiKey", "in": "header", "name": "X-Switchover-CSRF" },
            },
        },
    })
}

/// What may stand behind the `?` of a path: names and types.
fn asked(path: &str) -> &'static [(&'static str, &'static str)] {
    match path {
        "/events" => &[("after", "id"), ("limit", "integer"), ("kind", "string")],
        "/shadow" => &[("group", "string"), ("limit", "integer")],
        "/digests" => {
            &[("sort", "sort"), ("limit", "integer"), ("group", "string"), ("store", "string"), ("filter", "string")]
        }
        "/readiness/{group}" => &[("to", "string")],
        _ => &[],
    }
}

fn parameter(name: &str, place: &str, kind: &str) -> Value {
    let schema = match kind {
        "integer" => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        "id" => json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX }),
        "sort" => json!({ "type": "string", "enum": ["time", "count", "p99", "errors", "rows", "bytes", "last"] }),
        kind => json!({ "type": kind }),
    };
    json!({ "name": name, "in": place, "required": place == "path", "schema": schema })
}

/// One route, as the document describes it.
fn operation((method, path, summary, answer, body): (&str, &str, &str, &str, &[&str])) -> Map<String, Value> {
    let mut operation = Map::new();
    operation.insert("summary".to_owned(), json!(summary));
    operation.insert("responses".to_owned(), responses(method, path, answer));
    if matches!(path, "/openapi.json" | "/login") {
        operation.insert("security".to_owned(), json!([]));
    }
    if method == "post" && path != "/logout" {
        let schema = asked_for(path, body);
        let content = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        operation.insert("requestBody".to_owned(), content);
    }
    let named = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let kind = if path.starts_with("/sessions/") { "id" } else { "string" };
    let in_path = named.map(|name| parameter(name, "path", kind));
    let parameters: Vec<Value> =
        in_path.chain(asked(path).iter().map(|(name, kind)| parameter(name, "query", kind))).collect();
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), Value::Array(parameters));
    }
    operation
}

/// What a body must be.
fn asked_for(path: &str, body: &[&str]) -> Value {
    let fields: Map<String, Value> =
        body.iter().map(|f| (f.trim_end_matches(['?', '!']).to_owned(), field(f))).collect();
    if path == "/groups/{group}/standby" {
        let of = |actions: Value, required: &[&str]| json!({ "properties": { "action": { "enum": actions } }, "required": required });
        let either = [
            of(json!(["retry", "init", "end"]), &["action"]),
            of(json!(["skip"]), &["action", "transaction", "reason"]),
        ];
        return json!({ "type": "object", "properties": fields, "anyOf": either });
    }
    let required: Vec<&&str> = body.iter().filter(|f| !f.ends_with(['?', '!'])).collect();
    json!({ "type": "object", "properties": fields, "required": required })
}

/// What comes: of a change without an answer nothing, and of whatever is not done, why.
fn responses(method: &str, path: &str, answer: &str) -> Value {
    let mut all = Map::new();
    let done = match (path, answer) {
        ("/live", _) => {
            json!({ "description": "events", "content": { "text/event-stream": { "schema": { "type": "string" } } } })
        }
        ("/openapi.json", _) => {
            json!({ "description": "done", "content": { "application/json": { "schema": { "type": "object" } } } })
        }
        (_, "") => json!({ "description": "done" }),
        _ => json!({ "description": "done", "content": content(answer) }),
    };
    let code = if method == "post" && answer.is_empty() { "204" } else { "200" };
    all.insert(code.to_owned(), done);
    if path == "/groups/{group}/standby" {
        all.insert("204".to_owned(), json!({ "description": "it has ended" }));
    }
    let not = |why: &str| json!({ "description": why, "content": content("Problem") });
    if !matches!(path, "/openapi.json") {
        all.insert("401".to_owned(), not("not logged in"));
    }
    if method == "post" && path != "/logout" || !asked(path).is_empty() || path.starts_with("/sessions/{id}") {
        all.insert("400".to_owned(), not("what is asked cannot be read, or cannot be done"));
    }
    if method == "post" && path != "/logout" {
        all.insert("422".to_owned(), not("the body lacks a field, or has one of another type"));
    }
    if method == "post" && !matches!(path, "/login" | "/logout" | "/explain") {
        all.insert("403".to_owned(), not("a reader changes nothing"));
    }
    if path.contains('{') {
        all.insert("404".to_owned(), not("what the path names is not there"));
    }
    all.insert("default".to_owned(), not("not done"));
    Value::Object(all)
}

fn field(name: &str) -> Value {
    match name {
        "action" => json!({ "type": "string", "enum": ["retry", "skip", "init", "end"] }),
        name if name.ends_with('!') => json!({ "type": "boolean" }),
        name if name.ends_with('?') => json!({ "type": ["string", "null"] }),
        _ => json!({ "type": "string" }),
    }
}

fn content(schema: &str) -> Value {
    let of = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    match (schema, schema.strip_prefix('[').and_then(|s| s.strip_suffix(']'))) {
        ("", _) => json!({}),
        (_, Some(item)) => json!({ "application/json": { "schema": { "type": "array", "items": of(item) } } }),
        (name, None) => match name.split_once('|') {
            Some((one, other)) => json!({ "application/json": { "schema": { "anyOf": [of(one), of(other)] } } }),
            None => json!({ "application/json": { "schema": of(name) } }),
        },
    }
}

/// What a group may be without.
const MAY_LACK: [&str; 2] = ["standby", "authority"];

/// The schema that a value has: of an empty list or of nothing, any.
fn schema(value: &Value) -> Value {
    match value {
        Value::Null => json!({}),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(n) if n.is_f64() => json!({ "type": "number" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::String(_) => json!({ "type": "string" }),
        Value::Array(items) => json!({ "type": "array", "items": items.first().map_or_else(|| json!({}), schema) }),
        Value::Object(fields) => {
            let of = |name: &str, value: &Value| match schema(value) {
                whole if MAY_LACK.contains(&name) && value.is_object() => {
                    json!({ "anyOf": [whole, { "type": "null" }] })
                }
                whole => whole,
            };
            let properties: Map<String, Value> = fields.iter().map(|(name, v)| (name.clone(), of(name, v))).collect();
            json!({ "type": "object", "properties": properties })
        }
    }
}

/// A value of each type that the API sends, with everything in it.
fn examples() -> Vec<(&'static str, Value)> {
    let value = |v: serde_json::Result<Value>| v.unwrap_or_default();
    let group = || GroupStatus {
        targets: vec![String::new()],
        tables: vec![String::new()],
        references: vec![String::new()],
        standby: Some(StandbyStatus::default()),
        authority: Some(AuthorityStatus {
            left_behind: vec![String::new()],
            strays: vec![String::new()],
            unreachable: vec![String::new()],
            ..AuthorityStatus::default()
        }),
        ..GroupStatus::default()
    };
    let session = || SessionInfo { leases: vec![String::new()], pins: vec![String::new()], ..SessionInfo::default() };
    let status = Status {
        stores: vec![StoreStatus { addresses: vec![String::new()], ..StoreStatus::default() }],
        groups: vec![group()],
        listen: vec![String::new()],
        restart_needed: vec![String::new()],
        last_flips: vec![FlipRecord::default()],
        ..Status::default()
    };
    let sample =
        Sample { stores: vec![StoreSample::default()], groups: vec![GroupSample::default()], ..Sample::default() };
    let report = Report {
        groups: vec![GroupReport::default()],
        statements: vec![StatementReport::default()],
        ..Report::default()
    };
    let flagged = Flagged { notes: vec![String::new()], ..Flagged::default() };
    vec![
        ("Problem", json!({ "error": { "kind": "", "message": "" } })),
        ("Me", json!({ "user": "", "role": "", "csrf": "" })),
        ("Status", value(serde_json::to_value(status))),
        ("Group", value(serde_json::to_value(group()))),
        ("Standby", value(serde_json::to_value(StandbyStatus::default()))),
        ("Begun", value(serde_json::to_value(begun()))),
        ("Session", value(serde_json::to_value(session()))),
        ("Pin", value(serde_json::to_value(Pin::default()))),
        ("Event", value(serde_json::to_value(Event::default()))),
        ("Sample", value(serde_json::to_value(sample))),
        ("Job", value(serde_json::to_value(Job::default()))),
        ("ConfigEntry", value(serde_json::to_value(ConfigEntry::default()))),
        ("ConfigChange", value(serde_json::to_value(ConfigChange::default()))),
        ("Explained", value(serde_json::to_value(Explained::default()))),
        ("Shadow", value(serde_json::to_value(report))),
        ("Reloaded", value(serde_json::to_value(Reloaded::default()))),
        ("Digests", value(serde_json::to_value(digests()))),
        ("Readiness", value(serde_json::to_value(readiness()))),
        ("Log", value(serde_json::to_value(LogLevel::default()))),
        ("Flagged", value(serde_json::to_value(flagged))),
    ]
}

fn begun() -> Begun {
    let found = || vec![Found::default()];
    Begun { problems: found(), warnings: found(), done: vec![String::new()], ..Begun::default() }
}

fn digests() -> Digests {
    let digest = Digest {
        tables: vec![String::new()],
        groups: vec![String::new()],
        stores: vec![DigestStore::default()],
        ..Digest::default()
    };
    Digests { digests: vec![digest], ..Digests::default() }
}

fn readiness() -> Readiness {
    let judged = Judged { tables: vec![String::new()], remedies: vec![String::new()], ..Judged::default() };
    Readiness { statements: vec![judged], notes: vec![String::new()], ..Readiness::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_schema() {
        let document = whole();
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name: String = text[at + 21..].chars().take_while(|c| c.is_alphanumeric()).collect();
            assert!(document["components"]["schemas"][&name].is_object(), "{name}");
        }
        let of_group = &document["components"]["schemas"]["Status"]["properties"]["groups"]["items"]["properties"];
        assert_eq!(of_group["standby"]["anyOf"][0]["properties"]["lag_entries"]["type"], "integer");
        assert_eq!(of_group["paused"]["type"], "boolean");
    }
}
