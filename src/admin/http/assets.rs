//! The dashboard's files, as they were built in.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

/// Path, type, content.
const FILES: [(&str, &str, &str); 1] = [("/", "text/html; charset=utf-8", include_str!("../dashboard/index.html"))];

/// One route for each.
pub(super) fn routes() -> Router<App> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        let answer = move || async move { file(kind, content) };
        router.route(path, get(answer))
    })
}

fn file(kind: &'static str, content: &'static str) -> Response {
    // a new binary has new files under the same names
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], content).into_response()
}
