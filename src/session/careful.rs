//! A statement that goes with care: routed, recorded where its group has a journal, made ready, sent; and again where the group's
//! store was sealed, or has failed, before it had an effect. One loop for the three ways in which statements come.

use super::Session;
use super::control_flow::Failure;
use super::guard::{Attempts, Recorded, Ticket};
use super::journaled::{is_one_for_all, statement};
use super::query::Plan;
use super::recorded::{Place, Recording, Sending};
use super::sealed::{Sent, is_missing};
use crate::config::GroupId;
use crate::sql::Facts;
use crate::sql::facts::Kind;
use crate::wire::Command;
use crate::wire::packet;
use crate::wire::reply::{Expect, Outcome};

/// How a statement came, and how it is sent.
pub(crate) enum Way<'a> {
    /// A text of its own.
    Text {
        /// Its command, framed.
        framed: &'a [u8],
        /// Its plan, where its facts are those of its own text.
        plan: Option<&'a Plan>,
        /// The response's shape.
        expect: Expect,
    },
    /// One of several in a text; what of them is recorded is so before.
    Part {
        /// Its command, framed.
        framed: &'a [u8],
        /// The leg that it is ready for already.
        prepared_at: Option<usize>,
        /// The number of the next packet.
        sequence: &'a mut u8,
        /// Others follow.
        more: bool,
    },
    /// An execute of a prepared statement.
    Execute {
        /// The session's id of it.
        id: u32,
        /// Which kind.
        command: Command,
        /// As the client sent it.
        payload: &'a [u8],
        /// Its plan, where a decision on that holds.
        cached: Option<&'a Plan>,
        /// The response's shape.
        expect: Expect,
    },
}

/// A leg that a statement can be sent to.
pub(super) struct Ready {
    pub(super) at: usize,
    /// What an execute is there, and the columns that its client lacks.
    pub(super) bytes: Vec<u8>,
    pub(super) columns: Vec<u8>,
}

/// Where a statement has run.
pub(crate) struct Ran {
    pub(crate) at: usize,
    pub(crate) outcome: Outcome,
    /// An execute that went as text.
    pub(crate) as_text: bool,
}

impl Ran {
    fn new(at: usize, outcome: Outcome) -> Ran {
        Ran { at, outcome, as_text: false }
    }
}

impl Session {
    /// Runs a statement where it is routed.
    pub(crate) async fn run_carefully(&mut self, way: &mut Way<'_>, facts: &Facts) -> Result<Ran, Failure> {
        let mut attempts = Attempts::default();
        loop {
            let doubt = self.is_in_doubt(facts);
            let ready_already = matches!(way, Way::Part { prepared_at: Some(_), .. });
            let ticket = if ready_already { None } else { self.pass_gates(facts).await? };
            let ticket = ticket.as_ref();
            if let Some(group) = self.journaled(facts).filter(|_| !matches!(way, Way::Part { .. })) {
                match Box::pin(self.record_way(way, (facts, group), ticket, &mut attempts)).await? {
                    (Recorded::Done(at, outcome), as_text) => return Ok(Ran { at, outcome, as_text }),
                    (Recorded::Again, _) => continue,
                }
            }
            let before = ticket.map_or(self.passes.len(), Ticket::before);
            let ready = match Box::pin(self.make_ready(way, facts)).await {
                Ok(ready) => ready,
                Err(failure) => {
                    Box::pin(self.not_ready(facts, ticket, failure, &mut attempts)).await?;
                    continue;
                }
            };
            let at = ready.at;
            if doubt && self.is_sealed(facts, at).await? {
                Box::pin(self.sealed(facts, ticket, at, &mut attempts)).await?;
                continue;
            }
            match self.send_way(way, &ready, facts, ticket.is_some()).await {
                Ok(Sent::Answered(outcome)) => return Ok(Ran::new(at, outcome)),
                Ok(Sent::Sealed(sequence)) if self.is_under_way(facts, at) => {
                    return Ok(Ran::new(at, self.sealed_under_way(facts, at, sequence).await?));
                }
                Ok(Sent::Sealed(_)) => Box::pin(self.sealed(facts, ticket, at, &mut attempts)).await?,
                Ok(Sent::Missing(missing)) => {
                    if !Box::pin(self.missed(facts, ticket, at, &mut attempts)).await? {
                        if let Way::Part { sequence, .. } = way {
                            **sequence = sequence.wrapping_add(1);
                        }
                        return Ok(Ran::new(at, self.tell_missing(at, &missing).await?));
                    }
                }
                Err(failure) => Box::pin(self.survive(facts, (before, true), failure, &mut attempts)).await?,
            }
        }
    }

    /// A statement that its leg could not be made ready for: it is tried again, or the failure stands.
    pub(crate) async fn not_ready(
        &mut self,
        facts: &Facts,
        ticket: Option<&Ticket>,
        failure: Failure,
        attempts: &mut Attempts,
    ) -> Result<(), Failure> {
        // (prepared where it is to run now, whose table is away)
        if matches!(&failure, Failure::Statement(error) if is_missing(error)) && self.held(facts, false).missing {
            let at = self.target(facts, None).await?;
            return if self.missed(facts, ticket, at, attempts).await? { Ok(()) } else { Err(failure) };
        }
        let before = ticket.map_or(self.passes.len(), Ticket::before);
        self.survive(facts, (before, false), failure, attempts).await
    }

    /// Runs and records a write of a group with a journal; and whether it went as text.
    async fn record_way(
        &mut self,
        way: &Way<'_>,
        (facts, group): (&Facts, GroupId),
        ticket: Option<&Ticket>,
        attempts: &mut Attempts,
    ) -> Result<(Recorded, bool), Failure> {
        let (framed, plan) = match way {
            Way::Execute { id, command, payload, .. } => {
                return self.execute_recorded(payload, (*id, *command), (facts, group), ticket, attempts).await;
            }
            Way::Text { framed, plan, .. } => (*framed, *plan),
            Way::Part { framed, .. } => (*framed, None),
        };
        let payload = packet::payload(framed);
        let sql = statement(payload.get(1..).unwrap_or_default());
        if plan.is_none() {
            self.must_be_recorded(facts)?;
        }
        let sending = Sending::Text(sql, is_one_for_all(sql));
        let recording = Recording { facts, plan, group, sql, sending, place: Place::ALONE };
        self.record_routed(&recording, ticket, attempts).await.map(|recorded| (recorded, true))
    }

    async fn make_ready(&mut self, way: &Way<'_>, facts: &Facts) -> Result<Ready, Failure> {
        let (at, bytes, columns) = match way {
            Way::Part { prepared_at: Some(at), .. } => (*at, Vec::new(), Vec::new()),
            Way::Execute { id, command, payload, cached, .. } => {
                let at = self.target(facts, *cached).await?;
                self.before(facts, at).await?;
                let (bytes, columns) = self.execute_for(*id, at, payload.to_vec(), *command).await?;
                (at, bytes, columns)
            }
            Way::Text { .. } | Way::Part { .. } => {
                let plan = if let Way::Text { plan, .. } = way { *plan } else { None };
                let at = self.target(facts, plan).await?;
                self.before(facts, at).await?;
                (at, Vec::new(), Vec::new())
            }
        };
        Ok(Ready { at, bytes, columns })
    }

    async fn send_way(
        &mut self,
        way: &mut Way<'_>,
        ready: &Ready,
        facts: &Facts,
        gated: bool,
    ) -> Result<Sent, Failure> {
        let (at, held) = (ready.at, self.held(facts, gated));
        Ok(match way {
            Way::Text { framed, expect, .. } => self.send_held(framed, at, *expect, (facts, held)).await?,
            Way::Part { framed, sequence, more, .. } => {
                self.send_part(framed, at, (facts, held), (sequence, *more)).await?
            }
            Way::Execute { expect, .. } => match &facts.kind {
                Kind::Kill { query, id: Some(victim) } => {
                    Sent::Answered(Box::pin(self.send_kill(&ready.bytes, at, *expect, *victim, *query)).await?)
                }
                _ if !ready.columns.is_empty() => {
                    Box::pin(self.send_with_columns(&ready.bytes, at, (*expect, &ready.columns), held)).await?
                }
                _ => self.send_held(&ready.bytes, at, *expect, (facts, held)).await?,
            },
        })
    }
}
