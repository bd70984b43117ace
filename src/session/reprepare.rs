//! A statement on the store where it is to run now: prepared there if it was not, and what the client has to be told by that.
//!
//! With MARIADB_CLIENT_CACHE_METADATA a store leaves the columns out of a result if they are those that it sent for the statement
//! before, in the answer to PREPARE or to an execute. Of a statement that has moved, the client has the columns of another store
//! (RULES.md 14). It is prepared anew then: its columns as that store believes the client to have them come with the answer, and
//! are put into the next result that comes without.

use std::rc::Rc;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::relay::{Part, relay_part};
use super::sealed::{Held, Sent};
use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::wire::codec::Malformed;
use crate::wire::command::{COM_STMT_CLOSE, COM_STMT_PREPARE};
use crate::wire::packet;
use crate::wire::reply::{Expect, Prepared, Reply, Role};
use crate::wire::{Capabilities, ErrPacket};

/// Bytes of column definitions; a result has 4,096 of them at most.
const COLUMNS_LIMIT: usize = 16 << 20;

/// A statement on a leg.
#[derive(Default)]
pub(super) struct Here {
    /// Its id there.
    pub(super) id: u32,
    /// It was prepared just now.
    pub(super) fresh: bool,
    /// Column definitions, framed, that the store believes the client to have, and the client has not.
    pub(super) columns: Vec<u8>,
}

impl Session {
    /// Prepares a statement on a leg, unless it is there already as the client knows it.
    pub(super) async fn prepared_on(&mut self, id: u32, at: usize) -> Result<Here, Failure> {
        let Some(statement) = self.statements.get_mut(id) else { return Ok(Here::default()) };
        let Some(leg) = self.legs.get_mut(at) else { return Ok(Here::default()) };
        let client_keeps = leg.backend.capabilities.contains(Capabilities::MARIADB_CACHE_METADATA);
        let other_columns = client_keeps && statement.columns_of != leg.generation;
        if let Some(found) = statement.legs.iter().position(|(g, _)| *g == leg.generation) {
            let there = statement.legs.get(found).map_or(0, |(_, there)| *there);
            if !other_columns {
                return Ok(Here { id: there, ..Here::default() });
            }
            statement.legs.remove(found);
            leg.backend.send(COM_STMT_CLOSE, &there.to_le_bytes()).await.map_err(|e| leg.lost(e))?;
        }
        let sql = Rc::clone(&statement.sql);
        leg.busy = true;
        if let Err(e) = leg.backend.send(COM_STMT_PREPARE, &sql).await {
            return Err(leg.lost(e).into());
        }
        let answer = leg.backend.collect_prepared().await;
        leg.busy = false;
        match answer {
            Ok((prepared, columns)) => {
                if self.lease.is_some() && statement.legs.len() >= 8 {
                    // connections that the session left long ago
                    statement.legs.remove(0);
                }
                statement.legs.push((leg.generation, prepared.id));
                if prepared.columns == 0 {
                    statement.columns_of = leg.generation;
                }
                Ok(Here { id: prepared.id, fresh: true, columns: if other_columns { columns } else { Vec::new() } })
            }
            Err(QueryError::Refused(e)) => Err(e.into()),
            Err(QueryError::Io(e)) => Err(leg.lost(e).into()),
            Err(QueryError::Malformed(e)) => Err(leg.nonsense(e).into()),
        }
    }

    /// Sends an execute, and relays its result with these columns if it comes without.
    pub(super) async fn send_with_columns(
        &mut self,
        framed: &[u8],
        at: usize,
        (expect, columns): (Expect, &[u8]),
        held: Held,
    ) -> Result<Sent, Failure> {
        let several = self.several_take_part();
        let Session { client, legs, .. } = self;
        let Some(leg) = legs.get_mut(at) else { return Err(Fatal::Quit.into()) };
        leg.busy = true;
        leg.answered = false;
        leg.backend.stream.write(framed).await.map_err(|e| leg.lost(e))?;
        let part = Part { expect, more: false, columns, held };
        let sent = relay_part(client, leg, &mut 1, &part, None).await?;
        if let Sent::Answered(outcome) = &sent {
            self.after_part(at, several, outcome).await?;
        }
        Ok(sent)
    }

    /// Whether home takes an expression for no source of dynamic SQL at all, as MariaDB those with stored functions and subqueries.
    /// It says so when it parses EXECUTE IMMEDIATE, which cannot be prepared either way: nothing is evaluated.
    pub(crate) async fn is_no_source(&mut self, expression: &[u8]) -> Result<bool, Failure> {
        const SYNTAX: u16 = 1064;
        const UNKNOWN_COLUMN: u16 = 1054;
        const SUBQUERY_OR_FUNCTION: u16 = 1970;
        let Some(home) = self.legs.first_mut() else { return Ok(false) };
        if let Err(e) = home.backend.send(COM_STMT_PREPARE, &[b"EXECUTE IMMEDIATE ", expression].concat()).await {
            return Err(home.lost(e).into());
        }
        match home.backend.collect_prepared().await {
            Ok(_) => Ok(false),
            Err(QueryError::Refused(e)) => Ok(matches!(e.code, SYNTAX | UNKNOWN_COLUMN | SUBQUERY_OR_FUNCTION)),
            Err(QueryError::Io(e)) => Err(home.lost(e).into()),
            Err(QueryError::Malformed(e)) => Err(home.nonsense(e).into()),
        }
    }
}

impl Backend {
    /// Reads the response to COM_STMT_PREPARE and keeps of it what an execute needs: its numbers, and its columns, framed.
    pub(super) async fn collect_prepared(&mut self) -> Result<(Prepared, Vec<u8>), QueryError> {
        let mut reply = Reply::new(Expect::Prepare, self.capabilities);
        let mut columns = Vec::new();
        while !reply.is_done() {
            let (header, payload) = self.packet().await?;
            if reply.at_prepared_column() {
                if columns.len() + payload.len() > COLUMNS_LIMIT {
                    return Err(Malformed("columns beyond 16 MiB for a prepared statement").into());
                }
                packet::put(&mut columns, 0, &payload);
            }
            let role = reply.packet(header, payload.get(..payload.len().min(32)).unwrap_or_default())?;
            if role == Role::Error {
                return Err(QueryError::Refused(ErrPacket::read(&payload)?));
            }
        }
        let prepared = reply.outcome().prepared.ok_or(Malformed("no PREPARE_OK"))?;
        Ok((prepared, columns))
    }
}
