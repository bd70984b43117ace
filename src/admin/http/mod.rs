//! HTTP (`admin.http`): the dashboard, a JSON API under `/api/v1`, live data as server-sent events, `/metrics`, `/healthz`, `/readyz`.
//!
//! ```text
//! browser, programs ─► guard: host, origin, headers ─► login: who is it? ─► api ─► admin::action
//! Prometheus ─► /metrics        load balancers ─► /healthz, /readyz
//! ```
//!
//! Without a login there are the page itself, the figures and the two probes. A browser's login is a cookie that no other site can
//! use, and changes carry a token beside it; programs send their name and password with each request.

mod api;
mod assets;
mod guard;
mod jobs;
mod live;
mod login;
mod openapi;
mod seats;
mod take;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;

use super::action::Actions;
use super::login::Logins;
use super::protocol::{Failure, FailureKind};
use login::Sessions;
use seats::{Peer, Seated};

/// Bytes of a request's body.
const MAX_BODY: usize = 256 << 10;

/// What every request sees.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) actions: Actions,
    pub(crate) logins: Arc<Logins>,
    pub(crate) sessions: Arc<Sessions>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// Serves HTTP until the future is dropped.
///
/// # Errors
/// Where the listener does not say its address.
pub async fn serve(listener: TcpListener, actions: Actions, logins: Arc<Logins>) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let app = App { actions, logins, sessions: Arc::default(), address };
    let service = router(app).into_make_service_with_connect_info::<Peer>();
    axum::serve(Seated::new(listener), service).await
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .nest("/api/v1", api::routes(&app))
        .merge(assets::routes())
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "request", "there is nothing here") })
        .method_not_allowed_fallback(|| async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "request", "this is asked in another way: see Allow")
        })
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(app)
}

/// Whether new clients should come here: it serves, and its default store answers.
async fn ready(State(app): State<App>) -> Response {
    let status = app.actions.running().status();
    let mut reasons = Vec::new();
    if status.state != "serving" {
        reasons.push(format!("the proxy is {}", status.state));
    }
    let default = status.stores.iter().find(|s| s.name == status.default && s.state == "down");
    reasons.extend(default.map(|s| format!("store {} is down: {}", s.name, s.reason.clone().unwrap_or_default())));
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", reasons.join("\n"))).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    let text = app.actions.running().metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// What was not done, as JSON.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, kind, message: message.into() }
    }

    /// A request that was refused because what its path names is not there is answered so.
    fn of_nothing(mut self, is_nothing: impl FnOnce() -> bool) -> Problem {
        if self.status == StatusCode::BAD_REQUEST && is_nothing() {
            self.status = StatusCode::NOT_FOUND;
        }
        self
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Problem {
        let (status, kind) = match failure.kind {
            FailureKind::Config => (StatusCode::CONFLICT, "config"),
            FailureKind::File => (StatusCode::INTERNAL_SERVER_ERROR, "file"),
            FailureKind::Request => (StatusCode::BAD_REQUEST, "request"),
            FailureKind::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            FailureKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "timeout"),
            FailureKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Problem { status, kind, message: failure.message }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({ "error": { "kind": self.kind, "message": self.message } });
        (self.status, axum::Json(body)).into_response()
    }
}

#[cfg(test)]
mod tests;
