//! What every request and every answer has to be like: the right host, the same origin where something changes, strict headers.

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, HOST, HeaderName, HeaderValue, ORIGIN};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::{App, Problem};

/// The page runs its own scripts and styles, talks to its own server, and is in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Strict headers, of every answer.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Looks at a request before anything else does, and at its answer last.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let refusal = refusal(&app, request.method(), request.headers());
    let mut response = match refusal {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn refusal(app: &App, method: &Method, headers: &HeaderMap) -> Option<Problem> {
    let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let host = text(HOST);
    // a name that somebody else lets point here makes this server part of their site (DNS rebinding)
    if app.address.ip().is_loopback() && !is_local(host) {
        let message =
            "this server is reached by its address: http://127.0.0.1 (a proxy before it sends `Host: 127.0.0.1`)";
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, "request", message));
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let origin = text(ORIGIN);
    let same = origin.is_empty() || origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    if matches!(site, "cross-site" | "same-site") || !same {
        return Some(Problem::new(StatusCode::FORBIDDEN, "forbidden", "another site may not ask for changes"));
    }
    None
}

/// Whether a Host names this machine by an address.
fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn only_addresses_are_local() {
        for host in ["127.0.0.1:6080", "127.0.0.1", "[::1]:6080", "[::1]", "localhost:6080", "LOCALHOST", "10.1.2.3:80"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "evil.example:6080", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
            assert!(!is_local(host), "{host}");
        }
    }
}
