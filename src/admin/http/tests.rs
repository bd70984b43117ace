//! The API over real sockets, with a proxy that runs nothing: who gets in, who may change, and what no browser can be made to do.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::admin::events::Event;
use crate::admin::protocol::EventQuery;
use crate::admin::testing::Fake;
use crate::config::model::{AdminUser, Role};

struct Server {
    address: SocketAddr,
    fake: Arc<Fake>,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v))
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

const CONFIG: &str = "listen: 127.0.0.1:1\ndefault: legacy\nstores: {legacy: {address: h:1}, new: {address: h:2}}
groups: {a: {tables: t, connection: legacy}}\n";

async fn start() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routing.yaml");
    std::fs::write(&path, CONFIG).unwrap();
    let mut fake = Fake::new(path);
    for (name, role) in [("ops", Role::Operator), ("look", Role::Reader)] {
        fake.admin.users.insert(name.into(), AdminUser { password: format!("{name}-secret"), role });
    }
    let fake = Arc::new(fake);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let actions = Actions::new(Arc::clone(&fake) as Arc<dyn crate::admin::control::Running>);
    tokio::spawn(serve(listener, actions, Arc::default()));
    Server { address, fake, _folder: folder }
}

impl Server {
    async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Answer { status, head: head.replace('\r', ""), body: body.to_owned() }
    }

    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = self.address;
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{kind}{headers}content-length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// Cookie and token.
    async fn login(&self, user: &str) -> (String, String) {
        let body = format!("{{\"user\":\"{user}\",\"password\":\"{user}-secret\"}}");
        let answer = self.ask("POST", "/api/v1/login", "", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        let cookie = cookie.split(';').next().unwrap().to_owned();
        (cookie, answer.json()["csrf"].as_str().unwrap().to_owned())
    }

    fn events(&self) -> Vec<Event> {
        self.fake.events.newest(&EventQuery::default())
    }
}

const BASIC: &str = "authorization: Basic b3BzOm9wcy1zZWNyZXQ=\r\n";

#[tokio::test]
async fn without_a_login_there_is_the_page_and_the_probes() {
    let server = start().await;
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.ask("GET", path, "", "").await.status, 200, "{path}");
    }
    assert!(server.ask("GET", "/metrics", "", "").await.body.contains("switchover_flips_total 3"));
    for (method, path, ..) in openapi::ROUTES {
        if path == "/login" {
            continue;
        }
        let path = format!("/api/v1{}", path.replace("{id}", "7").replace("{group}", "a"));
        let answer = server.ask(&method.to_uppercase(), &path, "", "{}").await;
        let wanted = if path.ends_with("openapi.json") { 200 } else { 401 };
        assert_eq!(answer.status, wanted, "{method} {path}: {}", answer.body);
    }
    let nowhere = server.ask("GET", "/api/v1/nowhere", BASIC, "").await;
    assert_eq!((nowhere.status, nowhere.json()["error"]["kind"].as_str()), (404, Some("request")));
    assert!(server.events().is_empty());
}

#[tokio::test]
async fn answers_have_strict_headers() {
    let server = start().await;
    for path in ["/", "/api/v1/status", "/nowhere"] {
        let answer = server.ask("GET", path, BASIC, "").await;
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(answer.header("cache-control").is_some_and(|c| c.starts_with("no-")), "{path}");
    }
}

#[tokio::test]
async fn a_program_logs_in_with_each_request() {
    let server = start().await;
    let status = server.ask("GET", "/api/v1/status", BASIC, "").await.json();
    assert_eq!(status["groups"][0]["name"], "a");
    let flag = "{\"store\":\"new\",\"why\":\"tests\"}";
    let moved = server.ask("POST", "/api/v1/groups/a/flag", BASIC, flag).await;
    assert_eq!((moved.status, moved.json()["to"].as_str()), (200, Some("new")), "{}", moved.body);
    let event = server.events().remove(0);
    assert_eq!((event.by.as_str(), event.surface.as_str(), event.why.as_deref()), ("ops", "http", Some("tests")));
    assert!(event.from.starts_with("127.0.0.1:"));
    let unknown = server.ask("POST", "/api/v1/groups/b/flag", BASIC, flag).await;
    assert_eq!((unknown.status, unknown.json()["error"]["kind"].as_str()), (404, Some("request")));
    for body in ["", "[]", "{", "{\"store\": 3}", "{\"no\": 1}"] {
        let answer = server.ask("POST", "/api/v1/groups/a/flag", BASIC, body).await;
        assert!((400..=422).contains(&answer.status), "{body}: {}", answer.status);
        assert!(answer.json()["error"]["message"].is_string());
    }
    assert_eq!(server.ask("POST", "/api/v1/sessions/7/kill", BASIC, "{}").await.status, 204);
    assert_eq!(server.ask("POST", "/api/v1/sessions/8/kill", BASIC, "{}").await.status, 404);
    let paused = server.ask("POST", "/api/v1/groups/a/pause", BASIC, "{}").await.json();
    assert_eq!(paused["paused"], true);
    let wrong = server.ask("GET", "/api/v1/status", "authorization: Basic b3BzOndyb25n\r\n", "").await;
    assert_eq!(wrong.status, 401);
    assert!(!wrong.body.contains("ops-secret"));
}

#[tokio::test]
async fn a_browser_changes_only_with_its_token_and_from_its_own_page() {
    let server = start().await;
    let (cookie, token) = server.login("ops").await;
    let cookie = format!("cookie: {cookie}\r\n");
    assert_eq!(server.ask("GET", "/api/v1/me", &cookie, "").await.json()["csrf"], token.as_str());
    let with = |more: &str| format!("{cookie}{more}");
    let token = format!("x-switchover-csrf: {token}\r\n");
    let pause = async |headers: &str| server.ask("POST", "/api/v1/groups/a/pause", headers, "{}").await.status;
    assert_eq!(pause(&cookie).await, 403, "no token");
    assert_eq!(pause(&with("x-switchover-csrf: abc\r\n")).await, 403, "a wrong one");
    assert_eq!(pause(&with(&format!("{token}origin: http://evil.example\r\n"))).await, 403, "another origin");
    assert_eq!(pause(&with(&format!("{token}sec-fetch-site: cross-site\r\n"))).await, 403, "another site");
    assert_eq!(pause(&format!("{BASIC}sec-fetch-site: cross-site\r\n")).await, 403, "with a browser's own memory too");
    assert!(server.events().is_empty(), "nothing of it was an action");
    assert_eq!(pause(&with(&format!("{token}origin: http://{}\r\n", server.address))).await, 200);
    assert_eq!(server.ask("POST", "/api/v1/logout", &with(&token), "{}").await.status, 204);
    assert_eq!(server.ask("GET", "/api/v1/me", &cookie, "").await.status, 401);
}

#[tokio::test]
async fn a_reader_sees_and_changes_nothing() {
    let server = start().await;
    let (cookie, token) = server.login("look").await;
    let headers = format!("cookie: {cookie}\r\nx-switchover-csrf: {token}\r\n");
    assert_eq!(server.ask("GET", "/api/v1/status", &headers, "").await.status, 200);
    let refused = server.ask("POST", "/api/v1/groups/a/flag", &headers, "{\"store\":\"new\"}").await;
    assert_eq!((refused.status, refused.json()["error"]["kind"].as_str()), (403, Some("forbidden")));
    assert!(std::fs::read_to_string(Path::new(&server.fake.path)).unwrap().contains("connection: legacy"));
    assert_eq!(server.events()[0].outcome.as_deref(), Some("refused"));
}

#[tokio::test]
async fn a_foreign_name_does_not_reach_it() {
    let server = start().await;
    for (host, status) in [("evil.example", 421), ("localhost:1", 200), ("[::1]:6080", 200)] {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        assert_eq!(server.raw(&request).await.status, status, "{host}");
    }
    for nonsense in [
        "\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "POST /api/v1/login HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\nconnection: close\r\n\r\n{",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(server.ask("GET", "/healthz", "", "").await.status, 200);
}

#[tokio::test]
async fn live_data_begins_with_what_was_missed() {
    let server = start().await;
    for n in 1..=3 {
        server.fake.events.add(Event::of_proxy("flip", "a", format!("<{n}>")));
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /api/v1/live HTTP/1.1\r\nhost: {}\r\n{BASIC}last-event-id: 1\r\n\r\n", server.address);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("id: 3") {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert!(text.contains("text/event-stream") && text.contains("id: 2") && !text.contains("<1>"), "{text}");
    server.fake.events.add(Event::of_proxy("flip", "a", "<4>"));
    while !text.contains("<4>") {
        let n = stream.read(&mut buffer).await.unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    assert_eq!(text.matches("event: event").count(), 3, "{text}");
}

/// What schemathesis found at a live proxy, and what it would find.
#[tokio::test]
async fn whatever_is_wrong_is_told_in_the_form_of_the_document() {
    let server = start().await;
    let document = server.ask("GET", "/api/v1/openapi.json", "", "").await.json();
    for (method, path, body, status) in [
        ("POST", "/api/v1/login", "[null, null]", 422),
        ("POST", "/api/v1/login", "{}", 422),
        ("POST", "/api/v1/login", "[\"ops\", \"ops-secret\"]", 422),
        ("POST", "/api/v1/groups/a/resume", "[]", 422),
        ("POST", "/api/v1/explain", "[\"SELECT 1\", null, null]", 422),
        ("POST", "/api/v1/reload", "null", 422),
        ("POST", "/api/v1/sessions/ops/kill", "{}", 400),
        ("POST", "/api/v1/sessions/-1/kill", "{}", 400),
        ("POST", "/api/v1/jobs/nothing/abort", "{}", 404),
        ("POST", "/api/v1/groups/b/pause", "{}", 404),
        ("POST", "/api/v1/groups/b/standby", "{\"action\":\"retry\"}", 404),
        ("POST", "/api/v1/groups/a/standby", "{\"action\":\"\"}", 422),
        ("GET", "/api/v1/events?limit=x", "", 400),
        ("GET", "/api/v1/events?limit=4294967296", "", 400),
        ("GET", "/api/v1/events?after=18446744073709551616", "", 400),
        ("GET", "/api/v1/shadow?limit=4294967296", "", 400),
        ("GET", "/api/v1/digests?limit=4294967296", "", 400),
        ("POST", "/api/v1/explain", "{}", 422),
        ("POST", "/api/v1/explain", "{\"sql\":null}", 422),
        ("POST", "/api/v1/explain", "{\"sql\":", 400),
        ("GET", "/api/v1/digests?sort=never", "", 400),
        ("GET", "/api/v1/readiness/%ff", "", 400),
        ("GET", "/api/v1/readiness/b", "", 404),
        ("PUT", "/api/v1/status", "{}", 405),
        ("DELETE", "/api/v1/log", "", 405),
    ] {
        let answer = server.ask(method, path, BASIC, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", answer.body);
    }
    let explain = &document["paths"]["/api/v1/explain"]["post"]["responses"];
    assert!(["400", "422"].iter().all(|code| explain[code].is_object()), "{explain}");
    for (method, path, ..) in openapi::ROUTES {
        if matches!(path, "/live" | "/openapi.json" | "/login") {
            continue;
        }
        let place = format!("/api/v1{}", path.replace("{id}", "7").replace("{group}", "a"));
        let body = "{\"store\":\"legacy\",\"level\":\"info\",\"sql\":\"SELECT 1\",\"db\":\"\",\"user\":null,\"action\":\"retry\",\"why\":null}";
        let answer = server.ask(&method.to_uppercase(), &place, BASIC, if method == "post" { body } else { "" }).await;
        let operation = &document["paths"][format!("/api/v1{path}")][method];
        let response = &operation["responses"][answer.status.to_string()];
        let response = if response.is_null() { &operation["responses"]["default"] } else { response };
        let schema = &response["content"]["application/json"]["schema"];
        assert!(answer.status != 500, "{method} {path}: {}", answer.body);
        match answer.body.as_str() {
            "" => assert!(schema.is_null() && answer.status == 204, "{method} {path}: {}", answer.status),
            _ => fits(&answer.json(), schema, &document, &format!("{method} {path}")),
        }
    }
}

/// Panics where a value has not the form that a schema describes.
fn fits(value: &serde_json::Value, schema: &serde_json::Value, document: &serde_json::Value, place: &str) {
    use serde_json::Value;
    assert!(schema.is_object(), "{place}: not described: {value}");
    if let Some(reference) = schema["$ref"].as_str() {
        let pointed = document.pointer(reference.trim_start_matches('#')).unwrap();
        return fits(value, pointed, document, place);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let at = usize::from(value.is_null());
        return fits(value, &either[at], document, place);
    }
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if let Some(wanted) = schema["type"].as_str() {
        assert!(wanted == is || (wanted, is) == ("number", "integer"), "{place}: {wanted}, and it is {value}");
    }
    if let Value::Array(items) = value {
        items.iter().for_each(|item| fits(item, &schema["items"], document, &format!("{place}[]")));
    }
    if let (Value::Object(fields), true) = (value, schema["properties"].is_object()) {
        for (name, field) in fields {
            fits(field, &schema["properties"][name], document, &format!("{place}.{name}"));
        }
    }
}
