//! Who wants what a request asks for: to be signed by the surface that it came in by, and written down with the change.

use super::super::protocol::{Cause, Request};

impl Request {
    /// Who wants a change, and why: to be read and signed; none where nothing is changed.
    pub fn cause_mut(&mut self) -> Option<&mut Cause> {
        match self {
            Request::Reload(cause) => Some(cause),
            Request::Flag(r) => Some(&mut r.cause),
            Request::Pause(r) => Some(&mut r.cause),
            Request::Kill(r) => Some(&mut r.cause),
            Request::Abort(r) => Some(&mut r.cause),
            Request::Standby(r) => Some(&mut r.cause),
            Request::Drain(r) => Some(&mut r.cause),
            Request::Digests(r) => Some(&mut r.cause),
            Request::Log(r) => Some(&mut r.cause),
            Request::Status
            | Request::Readiness(_)
            | Request::Explain(_)
            | Request::Sessions
            | Request::Events(_)
            | Request::Config
            | Request::ConfigDiff
            | Request::Shadow(_) => None,
        }
    }
}
