//! Which reads are also sent to the other store: chosen when their command comes, offered when their answer has been passed on.
//!
//! Only whole texts (or executes, with their parameters put in) that read a group's tables, and those it keeps copies of, outside a
//! transaction, on the group's authority. Whether the answer can be compared at all is found by who compares it: here nothing is
//! done but to throw dice, and to keep a text.

use std::sync::Arc;

use super::Session;
use super::prepared::Statement;
use super::recorded_execute::long_data;
use crate::config::GroupId;
use crate::routing::shadow::{LARGEST, Read};
use crate::sql::Facts;
use crate::sql::bind::{Literal, bind, literal};
use crate::sql::facts::{Access, Flags, Kind};
use crate::wire::bound::execute_values;
use crate::wire::command::{Command, execute_types};
use crate::wire::reply::Outcome;

/// What makes an answer the session's own.
const OF_SESSION: Flags = Flags::READS_LAST_INSERT_ID
    .union(Flags::READS_ROW_COUNT)
    .union(Flags::READS_FOUND_ROWS)
    .union(Flags::READS_DIAGNOSTICS)
    .union(Flags::READS_USER_VARIABLES)
    .union(Flags::WRITES_USER_VARIABLES)
    .union(Flags::USER_LOCK)
    .union(Flags::DYNAMIC_SQL)
    .union(Flags::INTO_FILE)
    .union(Flags::EXPLAIN)
    .union(Flags::SYSTEM_TABLES)
    .union(Flags::CALLS_ROUTINE)
    .union(Flags::SETS_SESSION);

impl Session {
    /// Keeps the text of a command, if it is one of the sample.
    #[inline]
    pub(crate) fn sample(&mut self, facts: Option<&Facts>, text: impl FnOnce(&Session) -> Option<Vec<u8>>) {
        if !self.live.snapshot.has_shadows() {
            return;
        }
        self.sampled = None;
        let Some(group) = facts.and_then(|facts| self.compared(facts)) else { return };
        let share = self.live.snapshot.group(group).and_then(|g| g.shadow).map_or(0, |s| s.sample);
        if self.core.dice.hit(share) {
            self.sampled =
                text(self).filter(|t| t.len() <= LARGEST).map(|text| (self.live.snapshot.epoch, group, text));
        }
    }

    /// The group whose shadow a read of these facts would be.
    fn compared(&self, facts: &Facts) -> Option<GroupId> {
        let (snapshot, state) = (&self.live.snapshot, &self.state);
        let dialect = &state.dialect;
        let odd = dialect.ansi_quotes || dialect.no_backslash_escapes || dialect.ignore_space || state.dialect_unknown;
        if facts.kind != Kind::Read || facts.flags.intersects(OF_SESSION) || facts.hint.is_some() || odd {
            return None;
        }
        if self.in_transaction() || state.tables_locked || !state.temporary.is_empty() {
            return None;
        }
        let database = state.database.as_deref();
        let group = facts.tables.iter().find_map(|table| snapshot.locate(table, database).group)?;
        snapshot.group(group)?.shadow?;
        let on_both = facts.tables.iter().all(|table| {
            let of = table.database.as_deref().or(database);
            let place = snapshot.locate(table, database);
            let mine = place.group == Some(group) || snapshot.is_reference_of(group, of, &table.name);
            mine && table.access == Access::Read
        });
        on_both.then_some(group)
    }

    /// An execute as text: its parameters in the place of their marks.
    pub(crate) fn execute_as_text(&self, id: u32, payload: &[u8], command: Command) -> Option<Vec<u8>> {
        let statement = self.statements.get(id).filter(|_| command == Command::StmtExecute)?;
        if statement.under.is_elsewhere(&self.state) {
            return None;
        }
        let values = values(statement, payload)?;
        let values: Vec<Literal> = values.iter().map(|value| literal(value, &self.state.dialect)).collect();
        let exact = values.iter().all(|v| v.exact);
        bind(&statement.sql, &self.state.dialect, &values).filter(|_| exact)
    }

    /// Offers the sampled read, now that its client has the answer.
    #[inline]
    pub(crate) fn offer_sampled(&mut self, at: usize, outcome: &Outcome) {
        if let Some((epoch, group, text)) = self.sampled.take()
            && epoch == self.live.snapshot.epoch
        {
            self.offer(group, text, at, outcome);
        }
    }

    #[cold]
    fn offer(&self, group: GroupId, text: Vec<u8>, at: usize, outcome: &Outcome) {
        let live = &self.live;
        let (Some(leg), Some(group)) = (self.legs.get(at), live.snapshot.group(group)) else { return };
        let answered = outcome.error.is_none() && outcome.result_set;
        if !answered || leg.in_transaction() || leg.store() != group.connection {
            return;
        }
        let other = live.config().shadow_of(group).and_then(|id| live.fleet.get(id));
        let Some(shadow) = other else { return };
        self.core.registry.shadows.offer(Read {
            group: group.name.clone(),
            text,
            dialect: self.state.dialect,
            database: self.state.database.clone(),
            serving: Arc::clone(&leg.backend.handle),
            shadow: Arc::clone(shadow),
            examples: live.config().insight.examples,
        });
    }
}

/// The values that an execute brings, of the types that it brings or that came last.
fn values<'a>(statement: &Statement, payload: &'a [u8]) -> Option<Vec<crate::wire::bound::Bound<'a>>> {
    if statement.parameters == 0 {
        return Some(Vec::new());
    }
    let place = execute_types(payload, statement.parameters)?;
    let own = payload.get(place.flag_at + 1..place.flag_at + 1 + place.bytes).filter(|_| place.bound);
    let long = |at| long_data(statement, at);
    execute_values(payload, statement.parameters, own.unwrap_or(&statement.types), long)
}
