//! The dashboard's files, as they were built in.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Path, type, content.
const FILES: [(&str, &str, &str); 18] = [
    ("/", "text/html; charset=utf-8", include_str!("../dashboard/index.html")),
    ("/style.css", "text/css; charset=utf-8", include_str!("../dashboard/style.css")),
    ("/favicon.svg", "image/svg+xml", include_str!("../dashboard/favicon.svg")),
    ("/api.js", SCRIPT, include_str!("../dashboard/api.js")),
    ("/app.js", SCRIPT, include_str!("../dashboard/app.js")),
    ("/charts.js", SCRIPT, include_str!("../dashboard/charts.js")),
    ("/dialog.js", SCRIPT, include_str!("../dashboard/dialog.js")),
    ("/dom.js", SCRIPT, include_str!("../dashboard/dom.js")),
    ("/events.js", SCRIPT, include_str!("../dashboard/events.js")),
    ("/flip.js", SCRIPT, include_str!("../dashboard/flip.js")),
    ("/groups.js", SCRIPT, include_str!("../dashboard/groups.js")),
    ("/insight.js", SCRIPT, include_str!("../dashboard/insight.js")),
    ("/jobs.js", SCRIPT, include_str!("../dashboard/jobs.js")),
    ("/sessions.js", SCRIPT, include_str!("../dashboard/sessions.js")),
    ("/shadow.js", SCRIPT, include_str!("../dashboard/shadow.js")),
    ("/statements.js", SCRIPT, include_str!("../dashboard/statements.js")),
    ("/stores.js", SCRIPT, include_str!("../dashboard/stores.js")),
    ("/tabs.js", SCRIPT, include_str!("../dashboard/tabs.js")),
];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/dashboard");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| format!("/{}", entry.unwrap().file_name().to_string_lossy().replace("index.html", "")))
            .collect();
        let mut served: Vec<String> = FILES.iter().map(|(path, ..)| (*path).to_owned()).collect();
        there.sort();
        served.sort();
        assert_eq!(there, served);
    }
}
