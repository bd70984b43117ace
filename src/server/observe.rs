//! Looks at the proxy once a second: a [`Sample`] for charts, and an [`Event`] for what has changed by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::running::{Proxy, now_ms};
use crate::admin::events::Event;
use crate::admin::live::{Sample, StoreCounts, sample};
use crate::admin::protocol::{GroupStatus, Status};
use crate::session::{Figures, StoreFigures};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Samples that are kept: five minutes.
const KEPT: usize = 300;

/// The samples of the last minutes, and the newest for whoever waits for it.
#[derive(Debug)]
pub(super) struct Samples {
    kept: Mutex<VecDeque<Arc<Sample>>>,
    newest: watch::Sender<Arc<Sample>>,
}

impl Default for Samples {
    fn default() -> Samples {
        Samples { kept: Mutex::default(), newest: watch::Sender::new(Arc::default()) }
    }
}

impl Samples {
    fn add(&self, sample: Sample) {
        let sample = Arc::new(sample);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&sample));
        drop(kept);
        self.newest.send_replace(sample);
    }

    /// The oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Sample>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Arc::clone).collect()
    }

    pub(super) fn follow(&self) -> watch::Receiver<Arc<Sample>> {
        self.newest.subscribe()
    }
}

/// Looks for ever.
pub(super) async fn observe(proxy: &Arc<Proxy>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<(Status, Vec<StoreCounts>, Instant)> = None;
    loop {
        ticks.tick().await;
        let (figures, now) = (proxy.figures(), Instant::now());
        let (status, counts) = (super::status::with(proxy, &figures), counts(&figures));
        if let Some((before, counted, then)) = &last {
            for event in happened(before, &status) {
                proxy.events.add(event);
            }
            let seconds = now.duration_since(*then).as_secs_f64();
            proxy.samples.add(sample(&status, now_ms(), counted, &counts, seconds));
        }
        last = Some((status, counts, now));
    }
}

fn counts(figures: &Figures) -> Vec<StoreCounts> {
    let count = |s: &StoreFigures| StoreCounts { queries: s.queries, errors: s.errors, classes: s.classes.clone() };
    figures.stores.iter().map(count).collect()
}

/// What is otherwise than a second ago, and nobody asked for.
fn happened(before: &Status, now: &Status) -> Vec<Event> {
    let mut events = Vec::new();
    for store in &now.stores {
        let Some(was) = before.stores.iter().find(|s| s.name == store.name) else { continue };
        if was.state != store.state {
            let mut event = Event::of_proxy("health", &store.name, format!("is {}", store.state));
            (event.before, event.after) = (Some(was.state.clone()), store.reason.clone());
            events.push(event);
        }
    }
    for group in &now.groups {
        if let Some(was) = before.groups.iter().find(|g| g.name == group.name) {
            of_group(was, group, &mut events);
        }
    }
    if let (None, Some(error)) = (&before.config_error, &now.config_error) {
        let mut event = Event::of_proxy("config", "", "the file is refused, what was in force stays so");
        event.after = error.problems.first().map(|p| p.message.clone());
        events.push(event);
    }
    events
}

fn of_group(was: &GroupStatus, group: &GroupStatus, events: &mut Vec<Event>) {
    if let (Some(before), Some(now)) = (&was.standby, &group.standby)
        && before.state != now.state
        && [before, now].iter().any(|s| s.state == "stopped")
    {
        let mut event = Event::of_proxy("standby", &group.name, format!("{} is {}", now.store, now.state));
        (event.before, event.after) = (Some(before.state.clone()), now.reason.clone());
        events.push(event);
    }
    let (Some(before), Some(now)) = (&was.authority, &group.authority) else { return };
    if before.acks != now.acks {
        let mut event = Event::of_proxy("standby", &group.name, format!("acknowledgements: {}", now.acks));
        event.before = Some(before.acks.clone());
        events.push(event);
    }
    for line in now.strays.iter().filter(|line| !before.strays.contains(line)) {
        events.push(Event::of_proxy("standby", &group.name, line.clone()));
    }
    if before.settled != now.settled {
        let what =
            if now.settled { "the stores agree on the authority" } else { "the stores disagree on the authority" };
        let mut event = Event::of_proxy("standby", &group.name, what);
        event.after = Some(now.rows.clone());
        events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::protocol::{AuthorityStatus, StandbyStatus, StoreStatus};

    fn status(state: &str, standby: &str, acks: &str) -> Status {
        Status {
            stores: vec![StoreStatus { name: "new".into(), state: state.into(), ..StoreStatus::default() }],
            groups: vec![GroupStatus {
                name: "a".into(),
                standby: Some(StandbyStatus {
                    store: "legacy".into(),
                    state: standby.into(),
                    ..StandbyStatus::default()
                }),
                authority: Some(AuthorityStatus { acks: acks.into(), settled: true, ..AuthorityStatus::default() }),
                ..GroupStatus::default()
            }],
            ..Status::default()
        }
    }

    #[test]
    fn what_nobody_asked_for_is_told_once() {
        let (good, bad) = (status("up", "applying", "standby"), status("down", "stopped", "degraded"));
        assert!(happened(&good, &good).is_empty());
        let told: Vec<String> =
            happened(&good, &bad).into_iter().map(|e| format!("{} {}", e.subject, e.what)).collect();
        assert_eq!(told, ["new is down", "a legacy is stopped", "a acknowledgements: degraded"]);
        assert_eq!(happened(&bad, &good).len(), 3);
        let waiting = status("up", "waiting", "standby");
        assert!(happened(&good, &waiting).is_empty(), "a standby that waits a moment is no news");
    }

    #[test]
    fn five_minutes_are_kept() {
        let samples = Samples::default();
        let newest = samples.follow();
        (0..KEPT as u64 + 5).for_each(|n| samples.add(Sample { at_ms: n, ..Sample::default() }));
        assert_eq!((samples.all().len(), samples.all()[0].at_ms), (KEPT, 5));
        assert_eq!(newest.borrow().at_ms, KEPT as u64 + 4);
    }
}
