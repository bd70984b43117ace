//! `GET /api/v1/live`: a sample each second, and events as they happen, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event as Message, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use tokio::sync::{broadcast, watch};

use super::App;
use super::login::Asking;
use crate::admin::events::Event;
use crate::admin::live::Sample;
use crate::admin::protocol::EventQuery;

/// What a listener has not been sent yet.
struct Listening {
    app: App,
    user: String,
    missed: VecDeque<Event>,
    /// Events up to this one were sent.
    sent: u64,
    samples: watch::Receiver<Arc<Sample>>,
    events: broadcast::Receiver<Event>,
}

/// The stream. A browser that connects again says which event was its last, and gets what came since.
pub(super) async fn live(
    State(app): State<App>,
    asking: Asking,
    headers: HeaderMap,
) -> Sse<impl Stream<Item = Result<Message, Infallible>>> {
    let running = app.actions.running();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    // followed first: what comes in between is there twice, and sent once
    let (samples, events) = (running.follow_samples(), running.events().follow());
    let after = |after| EventQuery { after, limit: u32::MAX, kind: None };
    let newest = running.events().newest(&EventQuery { limit: 1, ..EventQuery::default() });
    let last = last.unwrap_or_else(|| newest.first().map_or(0, |e| e.id));
    let missed: VecDeque<Event> = running.events().newest(&after(last)).into_iter().rev().collect();
    let user = asking.actor.name;
    let listening = Listening { app: app.clone(), user, missed, sent: last, samples, events };
    Sse::new(unfold(listening, next)).keep_alive(KeepAlive::default())
}

async fn next(mut l: Listening) -> Option<(Result<Message, Infallible>, Listening)> {
    loop {
        if let Some(event) = l.missed.pop_front() {
            if event.id <= l.sent {
                continue;
            }
            l.sent = event.id;
            let message = Message::default().event("event").id(event.id.to_string()).json_data(&event).ok()?;
            return Some((Ok(message), l));
        }
        tokio::select! {
            changed = l.samples.changed() => {
                changed.ok()?;
                // an account that was taken away sees no more
                if !l.app.actions.running().admin().users.contains_key(&l.user) {
                    return None;
                }
                let sample = Arc::clone(&l.samples.borrow_and_update());
                let message = Message::default().event("sample").json_data(&*sample).ok()?;
                return Some((Ok(message), l));
            }
            event = l.events.recv() => match event {
                Ok(event) => l.missed.push_back(event),
                // too slow: what is still known is sent
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let query = EventQuery { after: l.sent, limit: u32::MAX, kind: None };
                    l.missed = l.app.actions.running().events().newest(&query).into_iter().rev().collect();
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            },
        }
    }
}
