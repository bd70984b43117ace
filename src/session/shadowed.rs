//! Which reads are also sent to the other store: chosen when their command comes, offered when their answer has been passed on.
//!
//! Only whole texts (or executes, with their parameters put in) that read a group's tables, and those it keeps copies of, outside a
//! transaction, on the group's authority. Whether the answer can be compared at all is found by who compares it: here nothing is
//! done but to throw dice, and to keep a text. (The dice come first: looking at what a read names would cost as much as all else that
//! the hot path does with it.)

use std::sync::Arc;

use super::Session;
use super::prepared::Statement;
use super::recorded_execute::long_data;
use super::sync::names_databases;
use crate::config::GroupId;
use crate::routing::shadow::{LARGEST, MILLION, Read};
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

/// A read of the sample, while it runs.
pub(super) struct Sampled {
    /// Of the snapshot by which it is one.
    epoch: u64,
    group: GroupId,
    text: Vec<u8>,
    /// It names every table with its database.
    qualified: bool,
}

impl Session {
    /// Throws the dice for a command, before it is looked at: the share of the group that has most taken. All that a command which is
    /// none of the sample pays for.
    #[inline]
    pub(crate) fn drawn(&mut self) -> Option<u32> {
        let most = self.live.snapshot.largest_sample();
        if most == 0 {
            return None;
        }
        self.sampled = None;
        self.core.dice.hit(most).then_some(most)
    }

    /// Keeps the text of a command that was drawn, if it is one of the sample.
    #[cold]
    pub(crate) fn sample(&mut self, most: u32, facts: Option<&Facts>, text: impl FnOnce(&Session) -> Option<Vec<u8>>) {
        let Some(group) = facts.and_then(|facts| self.compared(facts)) else { return };
        let share = self.live.snapshot.group(group).and_then(|g| g.shadow).map_or(0, |s| s.sample);
        // of a group with a smaller share than the dice were thrown for, so many stay
        if share < most && !self.core.dice.hit(share_of(share, most)) {
            return;
        }
        let epoch = self.live.snapshot.epoch;
        let qualified = facts.is_some_and(names_databases);
        let text = text(self).filter(|t| t.len() <= LARGEST);
        self.sampled = text.map(|text| Box::new(Sampled { epoch, group, text, qualified }));
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
        if let Some(sampled) = self.sampled.take()
            && sampled.epoch == self.live.snapshot.epoch
        {
            self.offer(*sampled, at, outcome);
        }
    }

    #[cold]
    fn offer(&self, sampled: Sampled, at: usize, outcome: &Outcome) {
        let Sampled { group, text, qualified, .. } = sampled;
        let live = &self.live;
        let (Some(leg), Some(group)) = (self.legs.get(at), live.snapshot.group(group)) else { return };
        let answered = outcome.error.is_none() && outcome.result_set;
        if !answered || leg.in_transaction() || leg.store() != group.connection {
            return;
        }
        let other = live.config().shadow_of(group).and_then(|id| live.fleet.get(id));
        let Some(shadow) = other else { return };
        // what a routine may have set is not known by value until it is looked over
        let said = !self.legs.iter().any(|l| l.suspect);
        let settings = said.then(|| self.state.settings.carried(&text)).flatten();
        let home = live.fleet.get(live.config().default).unwrap_or(&leg.backend.handle);
        self.core.registry.shadows.offer(Read {
            group: group.name.clone(),
            settings,
            home: Arc::clone(home),
            text,
            dialect: self.state.dialect,
            database: self.state.database.clone(),
            qualified,
            serving: Arc::clone(&leg.backend.handle),
            shadow: Arc::clone(shadow),
            examples: live.config().insight.examples,
        });
    }
}

/// The share of those drawn, in parts of a million, that makes it `share` of all.
fn share_of(share: u32, most: u32) -> u32 {
    let of = u64::from(share) * u64::from(MILLION) / u64::from(most.max(1));
    u32::try_from(of).unwrap_or(MILLION)
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
