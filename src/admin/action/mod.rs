//! The one set of actions behind every surface (DESIGN.md section 6): the CLI's control socket, the SQL console and HTTP hand an
//! [`Actor`] and a [`Request`] in, and get a [`Reply`] or a [`Failure`]. Who may do what is decided here, and here what was changed
//! is written to the log of changes ([`super::events`]): no surface can do more than another, or do it unseen.

mod cause;
mod flag;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::control::Running;
use super::events::Event;
use super::log::LogRequest;
use super::protocol::{Cause, Failure, FailureKind, GroupStatus, Reply, Request, StandbyAction};
use super::standby;
use crate::config::model::Role;
use crate::telemetry::{without_values, without_values_of_stores};

/// For the work that a request starts.
const WORK: Duration = Duration::from_secs(60);

/// The same, where stores are prepared: it waits for the transactions on each of their tables.
const WORK_OF_STORES: Duration = Duration::from_secs(29 * 60);

/// Where a request comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// The control socket.
    Cli,
    /// The SQL console.
    Console,
    /// HTTP.
    Http,
}

impl Surface {
    /// As events name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Surface::Cli => "cli",
            Surface::Console => "console",
            Surface::Http => "http",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The account of the surface; of the CLI what the command calls itself, or its uid.
    pub name: String,
    /// Which way.
    pub surface: Surface,
    /// The peer's address; of the CLI its uid, as the kernel says.
    pub from: String,
    /// What the account may do.
    pub role: Role,
}

/// The actions of a running proxy.
#[derive(Clone)]
pub struct Actions {
    running: Arc<dyn Running>,
}

/// What the log of changes says of an action.
struct Change {
    subject: String,
    what: String,
    why: Option<String>,
    before: Option<String>,
}

impl Actions {
    /// The actions of this proxy.
    #[must_use]
    pub fn new(running: Arc<dyn Running>) -> Actions {
        Actions { running }
    }

    /// The proxy.
    #[must_use]
    pub fn running(&self) -> &Arc<dyn Running> {
        &self.running
    }

    /// Does what is asked, for 60 s at most (what prepares stores: half an hour). A change is in the log of changes when this returns, whatever became of it.
    ///
    /// # Errors
    /// [`FailureKind::Forbidden`] where the actor may only look; all others as the action's.
    pub async fn perform(&self, actor: &Actor, mut request: Request) -> Result<Reply, Failure> {
        sign(&mut request, actor);
        let Some(change) = self.change(&request) else {
            let outcome = self.work(request).await;
            return if actor.role == Role::Reader { blind(outcome) } else { outcome };
        };
        let outcome = if actor.role == Role::Reader {
            let text = format!("{} may look, and change nothing (`role: reader`)", actor.name);
            Err(Failure::new(FailureKind::Forbidden, text))
        } else {
            self.work(request).await
        };
        self.running.events().add(event(actor, change, &outcome));
        outcome
    }

    async fn work(&self, request: Request) -> Result<Reply, Failure> {
        let limit = match &request {
            Request::Standby(r) if r.action.is_of_stores() => WORK_OF_STORES,
            _ => WORK,
        };
        let late = || Failure::new(FailureKind::Timeout, format!("not done within {} seconds", limit.as_secs()));
        timeout(limit, self.dispatch(request)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn dispatch(&self, request: Request) -> Result<Reply, Failure> {
        let running = &self.running;
        Ok(match request {
            Request::Status => Reply::Status(Box::new(running.status())),
            Request::Sessions => Reply::Sessions(running.sessions()),
            Request::Events(query) => Reply::Events(running.events().newest(&query)),
            Request::Config => Reply::Config(running.config()),
            Request::ConfigDiff => Reply::ConfigDiff(running.config_diff()?),
            Request::Digests(request) => Reply::Digests(Box::new(running.digests(&request))),
            Request::Readiness(request) => Reply::Readiness(Box::new(running.readiness(request).await?)),
            Request::Log(request) => Reply::Log(running.log(&request)?),
            Request::Explain(request) => Reply::Explained(running.explain(&request)?),
            Request::Standby(request) if request.action.is_of_stores() => {
                let path = running.config_path().to_owned();
                let done = tokio::task::spawn_blocking(move || standby::of_stores(&path, &request)).await;
                done.map_err(|error| Failure::new(FailureKind::Internal, error.to_string()))??
            }
            Request::Standby(request) => Reply::Standby(running.standby(&request)?),
            Request::Reload(cause) => Reply::Reloaded(running.reload(cause).await?),
            Request::Flag(request) => Reply::Flagged(flag::flag(request, running).await?),
            Request::Pause(request) => Reply::Group(Box::new(running.pause(&request).await?)),
            Request::Shadow(request) => Reply::Shadow(Box::new(running.shadow(&request)?)),
            Request::Kill(request) => {
                running.kill(&request)?;
                Reply::Killed
            }
            Request::Abort(request) => {
                running.abort(&request)?;
                Reply::Aborting
            }
            Request::Drain(request) => {
                running.drain(request).await?;
                Reply::Draining
            }
        })
    }

    /// What a request would change; none where it only looks.
    fn change(&self, request: &Request) -> Option<Change> {
        let of = |subject: &str, what: String, cause: &Cause| Change {
            subject: subject.to_owned(),
            what,
            why: cause.why.clone(),
            before: None,
        };
        Some(match request {
            Request::Flag(r) if r.dry_run => return None,
            Request::Flag(r) => {
                let before = self.group(&r.group).map(|g| g.connection);
                let force = if r.cause.force { " by force" } else { "" };
                Change { before, ..of(&r.group, format!("flag to {}{force}", r.store), &r.cause) }
            }
            Request::Reload(cause) => {
                let before = format!("epoch {}", self.running.status().epoch);
                Change { before: Some(before), ..of("", "reload".to_owned(), cause) }
            }
            Request::Pause(r) => {
                let before = self.group(&r.group).map(|g| word(g.paused).to_owned());
                let what = if r.pause { "pause" } else { "resume" };
                Change { before, ..of(&r.group, what.to_owned(), &r.cause) }
            }
            Request::Kill(r) => {
                let what = if r.query { "kill query" } else { "kill" };
                let session = self.running.sessions().into_iter().find(|s| s.id == r.session);
                let before = session.map(|s| format!("{} from {}", s.user, s.client));
                Change { before, ..of(&r.session.to_string(), what.to_owned(), &r.cause) }
            }
            Request::Standby(r) => {
                let standby = self.group(&r.group).and_then(|g| g.standby);
                let before =
                    if r.action.is_of_stores() { standby.map(|s| s.state) } else { standby.and_then(|s| s.reason) };
                let why = match &r.action {
                    StandbyAction::Skip { reason, .. } => Some(reason.clone()),
                    _ => r.cause.why.clone(),
                };
                Change { why, before, ..of(&r.group, standby::action_words(&r.action), &r.cause) }
            }
            Request::Abort(r) => of(&r.job, "abort".to_owned(), &r.cause),
            Request::Drain(r) => of("", "drain".to_owned(), &r.cause),
            Request::Digests(r) if r.reset => of("", "digests reset".to_owned(), &r.cause),
            Request::Log(r) => {
                let Some(level) = &r.level else { return None };
                let before = self.running.log(&LogRequest::default()).ok().map(|l| l.level);
                Change { before, ..of("", format!("log {level}"), &r.cause) }
            }
            Request::Status
            | Request::Sessions
            | Request::Events(_)
            | Request::Config
            | Request::ConfigDiff
            | Request::Digests(_)
            | Request::Readiness(_)
            | Request::Explain(_)
            | Request::Shadow(_) => return None,
        })
    }

    fn group(&self, name: &str) -> Option<GroupStatus> {
        self.running.status().groups.into_iter().find(|g| g.name == name)
    }
}

fn word(paused: bool) -> &'static str {
    if paused { "paused" } else { "running" }
}

/// What a client calls itself is a courtesy of the control socket; on the others the account is known. Where it came in by is known
/// of all of them: what follows from the change says so too.
fn sign(request: &mut Request, actor: &Actor) {
    let Some(cause) = request.cause_mut() else { return };
    if actor.surface != Surface::Cli || cause.by.trim().is_empty() {
        cause.by.clone_from(&actor.name);
    }
    actor.surface.word().clone_into(&mut cause.surface);
    cause.peer.clone_from(&actor.from);
}

fn event(actor: &Actor, change: Change, outcome: &Result<Reply, Failure>) -> Event {
    let after = match outcome {
        Ok(Reply::Flagged(f)) => Some(f.to.clone()),
        Ok(Reply::Reloaded(r)) => Some(format!("epoch {}", r.epoch)),
        Ok(Reply::Group(g)) => Some(word(g.paused).to_owned()),
        Ok(Reply::Standby(s)) => Some(s.state.clone()),
        Ok(Reply::Log(l)) => Some(l.level.clone()),
        other => standby::came_to(other).0,
    };
    let done = standby::came_to(outcome).1;
    Event {
        kind: "action".to_owned(),
        subject: change.subject,
        what: change.what,
        by: actor.name.clone(),
        surface: actor.surface.word().to_owned(),
        from: actor.from.clone(),
        before: change.before,
        after,
        why: change.why,
        outcome: Some(done.to_owned()),
        ..Event::default()
    }
}

/// As who changes nothing is told it: what stops a standby, and what stores say, quotes rows, which only an operator needs, to mend them.
fn blind(outcome: Result<Reply, Failure>) -> Result<Reply, Failure> {
    let mut reply =
        outcome.map_err(|failure| Failure { message: without_values_of_stores(&failure.message), ..failure })?;
    match &mut reply {
        Reply::Status(status) => {
            for reason in status.groups.iter_mut().filter_map(|g| g.standby.as_mut()?.reason.as_mut()) {
                *reason = without_values(&*reason);
            }
        }
        Reply::Flagged(flagged) => {
            flagged.notes.iter_mut().for_each(|note| *note = without_values_of_stores(note));
        }
        _ => {}
    }
    Ok(reply)
}

#[cfg(test)]
mod tests;
