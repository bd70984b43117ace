//! `/api/v1`: every action of [`crate::admin::action`], as JSON.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::login::{Asking, login, logout, whoami};
use super::take::{Asked, Body, Named};
use super::{App, Problem, jobs, live, openapi};
use crate::admin::digest::{DEFAULT_LIMIT, DigestOrder, DigestRequest};
use crate::admin::log::LogRequest;
use crate::admin::protocol::{
    AbortRequest, Cause, EventQuery, ExplainRequest, FlagRequest, KillRequest, PauseRequest, Reply, Request,
    StandbyAction, StandbyRequest,
};
use crate::admin::readiness::ReadinessRequest;
use crate::admin::shadow::ShadowRequest;

type Outcome = Result<Response, Problem>;

/// All routes of the API; `openapi` describes the same.
pub(super) fn routes(_: &App) -> Router<App> {
    Router::new()
        .route("/openapi.json", get(openapi::document))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/me", get(whoami))
        .route("/status", get(status))
        .route("/sessions", get(sessions))
        .route("/sessions/{id}/kill", post(kill))
        .route("/pins", get(pins))
        .route("/events", get(events))
        .route("/samples", get(samples))
        .route("/live", get(live::live))
        .route("/jobs", get(list_jobs))
        .route("/jobs/{id}/abort", post(abort))
        .route("/config", get(config))
        .route("/config/diff", get(config_diff))
        .route("/shadow", get(shadow))
        .route("/digests", get(digests))
        .route("/readiness/{group}", get(readiness))
        .route("/log", get(log_level).post(set_log_level))
        .route("/explain", post(explain))
        .route("/reload", post(reload))
        .route("/groups/{group}/flag", post(flag))
        .route("/groups/{group}/pause", post(pause))
        .route("/groups/{group}/resume", post(resume))
        .route("/groups/{group}/standby", post(standby))
}

impl App {
    /// Does it, and answers with what came of it, without the name of the kind of reply.
    async fn perform(&self, asking: &Asking, request: Request) -> Outcome {
        let reply = self.actions.perform(&asking.actor, request).await?;
        Ok(match reply {
            Reply::Status(status) => Json(status).into_response(),
            Reply::Sessions(sessions) => Json(sessions).into_response(),
            Reply::Events(events) => Json(events).into_response(),
            Reply::Config(entries) => Json(entries).into_response(),
            Reply::ConfigDiff(changes) => Json(changes).into_response(),
            Reply::Explained(explained) => Json(explained).into_response(),
            Reply::Shadow(report) => Json(report).into_response(),
            Reply::Reloaded(reloaded) => Json(reloaded).into_response(),
            Reply::Flagged(flagged) => Json(flagged).into_response(),
            Reply::Group(group) => Json(group).into_response(),
            Reply::Standby(standby) => Json(standby).into_response(),
            Reply::Begun(begun) => Json(begun).into_response(),
            Reply::Digests(found) => Json(found).into_response(),
            Reply::Readiness(found) => Json(found).into_response(),
            Reply::Log(found) => Json(found).into_response(),
            Reply::Killed | Reply::Aborting | Reply::Draining | Reply::Ended => StatusCode::NO_CONTENT.into_response(),
            Reply::Failed(failure) => return Err(failure.into()),
        })
    }
}

impl App {
    /// The same, of one group: where that is none, there is nothing here.
    async fn of_group(&self, asking: &Asking, group: &str, request: Request) -> Outcome {
        let done = self.perform(asking, request).await;
        let there = || self.actions.running().status().groups.iter().any(|g| g.name == group);
        done.map_err(|problem| problem.of_nothing(|| !there()))
    }
}

async fn status(State(app): State<App>, asking: Asking) -> Outcome {
    app.perform(&asking, Request::Status).await
}

async fn sessions(State(app): State<App>, asking: Asking) -> Outcome {
    app.perform(&asking, Request::Sessions).await
}

/// What keeps a session on its backend.
#[derive(Debug, Default, Serialize)]
pub(super) struct Pin {
    session: u64,
    user: String,
    client: String,
    pin: String,
    for_ms: u64,
}

async fn pins(State(app): State<App>, asking: Asking) -> Outcome {
    let Reply::Sessions(sessions) = app.actions.perform(&asking.actor, Request::Sessions).await? else {
        return Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "no sessions"));
    };
    let pins = sessions.into_iter().flat_map(|s| {
        let pin =
            move |pin| Pin { session: s.id, user: s.user.clone(), client: s.client.clone(), pin, for_ms: s.for_ms };
        s.pins.into_iter().map(pin).collect::<Vec<Pin>>()
    });
    Ok(Json(pins.collect::<Vec<Pin>>()).into_response())
}

async fn events(State(app): State<App>, asking: Asking, Asked(wanted): Asked<EventQuery>) -> Outcome {
    app.perform(&asking, Request::Events(wanted)).await
}

async fn samples(State(app): State<App>, _asking: Asking) -> Outcome {
    let samples = app.actions.running().samples();
    Ok(Json(samples.iter().map(|s| (**s).clone()).collect::<Vec<_>>()).into_response())
}

async fn list_jobs(State(app): State<App>, _asking: Asking) -> Outcome {
    Ok(Json(jobs::jobs(app.actions.running().as_ref())).into_response())
}

async fn config(State(app): State<App>, asking: Asking) -> Outcome {
    app.perform(&asking, Request::Config).await
}

async fn config_diff(State(app): State<App>, asking: Asking) -> Outcome {
    app.perform(&asking, Request::ConfigDiff).await
}

async fn shadow(State(app): State<App>, asking: Asking, Asked(mut wanted): Asked<ShadowRequest>) -> Outcome {
    wanted.group = wanted.group.filter(|g| !g.is_empty());
    app.perform(&asking, Request::Shadow(wanted)).await
}

async fn explain(State(app): State<App>, asking: Asking, Body(wanted): Body<ExplainRequest>) -> Outcome {
    app.perform(&asking, Request::Explain(wanted)).await
}

/// Which statements. Fields that are empty ask for nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    sort: DigestOrder,
    limit: Option<u32>,
    group: Option<String>,
    store: Option<String>,
    filter: Option<String>,
}

async fn digests(State(app): State<App>, asking: Asking, Asked(wanted): Asked<Wanted>) -> Outcome {
    let some = |text: Option<String>| text.filter(|t| !t.is_empty());
    let request = DigestRequest {
        order: wanted.sort,
        limit: wanted.limit.unwrap_or(DEFAULT_LIMIT),
        group: some(wanted.group),
        store: some(wanted.store),
        filter: some(wanted.filter),
        ..DigestRequest::default()
    };
    app.perform(&asking, Request::Digests(request)).await
}

/// Where the flag would move.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    to: Option<String>,
}

async fn readiness(
    State(app): State<App>,
    asking: Asking,
    Named(group): Named<String>,
    Asked(target): Asked<Target>,
) -> Outcome {
    let request = ReadinessRequest { group: group.clone(), to: target.to };
    app.of_group(&asking, &group, Request::Readiness(request)).await
}

async fn log_level(State(app): State<App>, asking: Asking) -> Outcome {
    app.perform(&asking, Request::Log(LogRequest::default())).await
}

#[derive(Debug, Deserialize)]
struct Level {
    level: String,
    #[serde(flatten)]
    why: Why,
}

async fn set_log_level(State(app): State<App>, asking: Asking, Body(body): Body<Level>) -> Outcome {
    let request = LogRequest { level: Some(body.level), cause: body.why.cause() };
    app.perform(&asking, Request::Log(request)).await
}

/// Why somebody wants a change.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Why {
    why: Option<String>,
}

impl Why {
    fn cause(self) -> Cause {
        Cause { why: self.why.filter(|w| !w.trim().is_empty()), ..Cause::default() }
    }
}

async fn reload(State(app): State<App>, asking: Asking, Body(why): Body<Why>) -> Outcome {
    app.perform(&asking, Request::Reload(why.cause())).await
}

async fn abort(State(app): State<App>, asking: Asking, Named(job): Named<String>, Body(why): Body<Why>) -> Outcome {
    let request = AbortRequest { job: job.clone(), cause: why.cause() };
    let done = app.perform(&asking, Request::Abort(request)).await;
    // a job that has ended, or was never there
    let there = || jobs::jobs(app.actions.running().as_ref()).iter().any(|j| j.is(&job));
    done.map_err(|problem| problem.of_nothing(|| !there()))
}

#[derive(Debug, Deserialize)]
struct Flag {
    store: String,
    #[serde(default)]
    force: bool,
    #[serde(default)]
    dry_run: bool,
    #[serde(flatten)]
    why: Why,
}

async fn flag(State(app): State<App>, asking: Asking, Named(group): Named<String>, Body(flag): Body<Flag>) -> Outcome {
    let cause = Cause { force: flag.force, ..flag.why.cause() };
    let request = FlagRequest { group: group.clone(), store: flag.store, cause, dry_run: flag.dry_run };
    app.of_group(&asking, &group, Request::Flag(request)).await
}

async fn pause(State(app): State<App>, asking: Asking, Named(group): Named<String>, Body(why): Body<Why>) -> Outcome {
    let request = PauseRequest { group: group.clone(), pause: true, cause: why.cause() };
    app.of_group(&asking, &group, Request::Pause(request)).await
}

async fn resume(State(app): State<App>, asking: Asking, Named(group): Named<String>, Body(why): Body<Why>) -> Outcome {
    let request = PauseRequest { group: group.clone(), pause: false, cause: why.cause() };
    app.of_group(&asking, &group, Request::Pause(request)).await
}

#[derive(Debug, Deserialize)]
struct Standby {
    #[serde(flatten)]
    action: StandbyAction,
    #[serde(flatten)]
    why: Why,
}

async fn standby(
    State(app): State<App>,
    asking: Asking,
    Named(group): Named<String>,
    Body(body): Body<Standby>,
) -> Outcome {
    let request = StandbyRequest { group: group.clone(), action: body.action, cause: body.why.cause() };
    app.of_group(&asking, &group, Request::Standby(request)).await
}

#[derive(Debug, Default, Deserialize)]
struct Kill {
    #[serde(default)]
    query: bool,
    #[serde(flatten)]
    why: Why,
}

async fn kill(State(app): State<App>, asking: Asking, Named(session): Named<u64>, Body(kill): Body<Kill>) -> Outcome {
    let request = KillRequest { session, query: kill.query, cause: kill.why.cause() };
    let done = app.perform(&asking, Request::Kill(request)).await;
    let there = || app.actions.running().sessions().iter().any(|s| s.id == session);
    done.map_err(|problem| problem.of_nothing(|| !there()))
}
