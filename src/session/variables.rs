//! User variables and LAST_INSERT_ID on a store other than the one that has them: read there, set here (RULES.md 16, 17).
//!
//! For each variable the session knows the legs that hold its newest value. A routine or a trigger may read and assign variables
//! that the text does not name: before it runs, its leg gets all of them; afterwards only that leg is believed.

use std::collections::{BTreeMap, HashMap};

use super::Session;
use super::control_flow::Failure;
use super::effects::{OF_LAST_STATEMENT, may_assign_unseen};
use super::transaction::quoted;
use crate::backend::connection::{Column, QueryError, Rows};
use crate::sql::facts::Facts;
use crate::wire::ErrPacket;

/// UNSIGNED among the flags of a column.
const UNSIGNED: u16 = 32;
/// Columns of a variable in [`variable_expressions`].
const PARTS: usize = 5;

impl Session {
    /// Brings the user variables that a statement may look at to the leg where it runs.
    pub(crate) async fn bring_variables(&mut self, facts: &Facts, at: usize) -> Result<(), Failure> {
        let Some(here) = self.legs.get(at).map(|l| l.generation) else { return Ok(()) };
        let legs: Vec<u64> = self.legs.iter().map(|l| l.generation).collect();
        // a value that was on a lost leg alone is lost
        self.state.user_variables.retain(|_, holders| holders.iter().any(|g| legs.contains(g)));
        let everything = may_assign_unseen(facts);
        let mut wanted: BTreeMap<(u64, bool), Vec<Box<str>>> = BTreeMap::new();
        for (name, holders) in &self.state.user_variables {
            let named = facts.user_variables.contains(name);
            if holders.contains(&here) || !(everything || named) {
                continue;
            }
            let Some(from) = holders.iter().find(|g| legs.contains(g)) else { continue };
            wanted.entry((*from, named)).or_default().push(name.clone());
        }
        for ((from, named), names) in wanted {
            match self.carry_variables(from, &names, at).await {
                // what cannot be had there matters only to a statement that names it
                Err(Failure::Statement(error)) if !named => {
                    let store = self.legs.get(at).map(|l| l.name.as_str());
                    tracing::debug!(store, error = error.code, "a user variable cannot follow");
                }
                other => other?,
            }
        }
        // names that nobody was seen to assign: a routine or a trigger may have, the newest first
        let unknown: Vec<Box<str>> =
            facts.user_variables.iter().filter(|n| !self.state.user_variables.contains_key(*n)).cloned().collect();
        for from in self.state.assigned_unseen.clone().into_iter().rev() {
            let left: Vec<Box<str>> =
                unknown.iter().filter(|n| !self.state.user_variables.contains_key(*n)).cloned().collect();
            if from == here || left.is_empty() {
                break;
            }
            self.carry_variables(from, &left, at).await?;
        }
        Ok(())
    }

    /// Reads variables on one leg and sets them on another; those that are NULL and not known to be are left alone.
    pub(crate) async fn carry_variables(&mut self, from: u64, names: &[Box<str>], to: usize) -> Result<(), Failure> {
        let (Some(at), Some(here)) =
            (self.legs.iter().position(|l| l.generation == from), self.legs.get(to).map(|l| l.generation))
        else {
            return Ok(());
        };
        for names in names.chunks(64) {
            let list: Vec<String> = names.iter().map(|n| variable_expressions(n)).collect();
            let rows = self.ask(at, &format!("SELECT {}", list.join(", "))).await?;
            let columns = names.iter().zip((0..).step_by(PARTS));
            let carried: Vec<(&Box<str>, usize)> = columns
                .filter(|(name, at)| rows.first(*at).is_some() || self.state.user_variables.contains_key(*name))
                .collect();
            if carried.is_empty() {
                continue;
            }
            let set = |how: &dyn Fn(&Rows, usize) -> String| {
                let list: Vec<String> =
                    carried.iter().map(|(name, at)| format!("{} = {}", variable(name), how(&rows, *at))).collect();
                format!("SET {}", list.join(", "))
            };
            // a store that does not know a character set or collation gets the text in utf8mb4
            if self.tell(to, &set(&variable_literal)).await?.is_err() {
                self.tell(to, &set(&plain_literal)).await??;
            }
            for (name, _) in carried {
                self.state.user_variables.entry(name.clone()).or_insert_with(|| vec![from]).push(here);
            }
        }
        Ok(())
    }

    /// What a statement may have assigned beyond its text is where it ran.
    pub(crate) fn assigned_unseen(&mut self, generation: u64) {
        for holders in self.state.user_variables.values_mut() {
            if holders.contains(&generation) {
                holders.clear();
                holders.push(generation);
            }
        }
        let legs = &mut self.state.assigned_unseen;
        if legs.last() != Some(&generation) {
            legs.retain(|g| *g != generation);
            legs.push(generation);
        }
    }

    /// The text of a user variable, for dynamic SQL.
    pub(crate) async fn user_variable_text(&mut self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let known = self.state.user_variables.get(name).and_then(|h| h.first()).copied();
        let there = known.or_else(|| self.state.assigned_unseen.last().copied());
        let at = self.legs.iter().position(|l| Some(l.generation) == there).unwrap_or(0);
        let rows = self.ask(at, &format!("SELECT {}", variable(name))).await?;
        Ok(rows.first(0).map(<[u8]>::to_vec))
    }

    /// What an expression without side effects comes to on home, in utf8mb4; `None` where the statement itself is to say what
    /// is wrong with it.
    pub(crate) async fn evaluate(&mut self, expression: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        // as bytes: text would come in character_set_results, where some of it may have no place
        let parts: [&[u8]; 5] =
            [b"SELECT CAST(CONVERT((", expression, b") USING utf8mb4) AS BINARY), (", expression, b") IS NULL"];
        match self.ask(0, parts.concat()).await {
            Ok(rows) if rows.first(0).is_none() && rows.first(1) != Some(b"1") => {
                let text = "switchover: the text of this dynamic statement is none in utf8mb4, and tables of a group live off the \
                            default store";
                Err(ErrPacket::new(1235, b"42000", text).into())
            }
            Ok(rows) => Ok(rows.first(0).map(<[u8]>::to_vec)),
            // what is no expression in parentheses may be another thing without them
            Err(Failure::Statement(error)) if error.code != 1064 || self.is_no_source(expression).await? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An OK packet came with an insert id: one that LAST_INSERT_ID() knows only if the store generated it (RULES.md 17). On the
    /// leg that has the session's newest id that makes no difference; elsewhere it is a doubt, until somebody asks.
    pub(crate) fn insert_id_reported(&mut self, generation: u64, id: u64) {
        if self.legs.len() < 2 || self.state.insert_doubts.is_empty() && self.state.last_insert == generation {
            return;
        }
        self.state.insert_doubts.push((generation, id));
    }

    /// Finds out which leg generated the newest insert id: the newest report that its leg's LAST_INSERT_ID() agrees with.
    pub(crate) async fn settle_insert_ids(&mut self, facts: &Facts) -> Result<(), Failure> {
        let mut known: HashMap<u64, u64> = HashMap::new();
        for (leg, id) in std::mem::take(&mut self.state.insert_doubts).into_iter().rev() {
            let Some(at) = self.legs.iter().position(|l| l.generation == leg) else { continue };
            // a question there would change what this very statement asks for: the likelier answer is taken
            if leg == self.state.last && facts.flags.intersects(OF_LAST_STATEMENT) {
                self.state.last_insert = leg;
                break;
            }
            let there = match known.get(&leg) {
                Some(there) => *there,
                None => self.insert_id_of(at).await?,
            };
            known.insert(leg, there);
            if there == id {
                self.state.last_insert = leg;
                break;
            }
        }
        Ok(())
    }

    async fn insert_id_of(&mut self, at: usize) -> Result<u64, Failure> {
        let rows = self.ask(at, "SELECT LAST_INSERT_ID()").await?;
        Ok(rows.first(0).and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok()).unwrap_or(0))
    }

    /// LAST_INSERT_ID() of the leg that has the session's newest id becomes that of another.
    pub(crate) async fn bring_insert_id(&mut self, at: usize) -> Result<(), Failure> {
        let Some(here) = self.legs.get(at).map(|l| l.generation) else { return Ok(()) };
        let there = self.state.last_insert;
        if there == here {
            return Ok(());
        }
        let Some(from) = self.legs.iter().position(|l| l.generation == there) else { return Ok(()) };
        let id = self.insert_id_of(from).await?;
        self.tell(at, &format!("SET last_insert_id = {id}")).await??;
        self.state.last_insert = here;
        Ok(())
    }

    /// A small query of the proxy's own on a leg.
    pub(crate) async fn ask(&mut self, at: usize, sql: impl AsRef<[u8]>) -> Result<Rows, Failure> {
        let Some(leg) = self.legs.get_mut(at) else { return Ok(Rows::default()) };
        match leg.backend.query(sql.as_ref()).await {
            Ok(rows) => Ok(rows),
            Err(QueryError::Refused(e)) => Err(e.into()),
            Err(QueryError::Io(e)) => Err(leg.lost(e).into()),
            Err(QueryError::Malformed(e)) => Err(leg.nonsense(e).into()),
        }
    }
}

/// A user variable as SQL; not every engine takes quotes, so only where they are needed.
pub(super) fn variable(name: &str) -> String {
    let ordinary = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '.');
    if !name.is_empty() && name.chars().all(ordinary) { format!("@{name}") } else { format!("@{}", quoted(name)) }
}

/// What a variable is, as columns of a SELECT.
fn variable_expressions(name: &str) -> String {
    let v = variable(name);
    format!(
        "{v}, HEX({v}), CHARSET({v}), COLLATION({v}), IF(CHARSET({v}) = 'binary', NULL, HEX(CONVERT({v} USING utf8mb4)))"
    )
}

/// The same as [`variable_literal`] with every text in utf8mb4, in its default collation.
fn plain_literal(rows: &Rows, from: usize) -> String {
    let exact = variable_literal(rows, from);
    match rows.first(from + PARTS - 1) {
        Some(hex) if exact.starts_with('_') => format!("_utf8mb4 X'{}'", String::from_utf8_lossy(hex)),
        _ => exact,
    }
}

/// The variable whose [`variable_expressions`] begin at column `from`, as a literal that keeps its type.
pub(crate) fn variable_literal(rows: &Rows, from: usize) -> String {
    let text = |at: usize| rows.first(from + at).map(|v| String::from_utf8_lossy(v).into_owned());
    let Some(value) = text(0) else { return "NULL".to_owned() };
    match rows.columns.get(from).map(|c: &Column| c.kind) {
        // TINY … LONG, LONGLONG, INT24, DECIMAL, NEWDECIMAL
        Some(0x08) if rows.columns.get(from).is_some_and(|c| c.flags & UNSIGNED != 0) => {
            format!("CAST({value} AS UNSIGNED)")
        }
        Some(0x00..=0x03 | 0x08 | 0x09 | 0xF6) => value,
        Some(0x04 | 0x05) if value.contains(['e', 'E']) => value,
        Some(0x04 | 0x05) => format!("{value}e0"),
        _ => {
            let hex = text(1).unwrap_or_default();
            match (text(2).as_deref(), text(3)) {
                (None | Some("binary"), _) => format!("X'{hex}'"),
                (Some(charset), Some(collation)) => format!("_{charset} X'{hex}' COLLATE {collation}"),
                (Some(charset), None) => format!("_{charset} X'{hex}'"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(kind: u8, values: &[Option<&str>]) -> Rows {
        Rows {
            columns: vec![Column { name: b"@v".to_vec(), kind, collation: 63, flags: 0 }],
            rows: vec![values.iter().map(|v| v.map(|v| v.as_bytes().to_vec())).collect()],
        }
    }

    #[test]
    fn variables_keep_their_type() {
        assert_eq!(variable_literal(&rows(8, &[Some("5"), Some("5"), Some("binary"), Some("binary")]), 0), "5");
        assert_eq!(variable_literal(&rows(0xF6, &[Some("1.50")]), 0), "1.50");
        assert_eq!(variable_literal(&rows(5, &[Some("1.5")]), 0), "1.5e0");
        assert_eq!(variable_literal(&rows(0xFB, &[None]), 0), "NULL");
        let s = rows(0xFA, &[Some("é"), Some("C3A9"), Some("utf8mb4"), Some("utf8mb4_bin")]);
        let l = rows(0xFD, &[Some("\u{e9}"), Some("E9"), Some("latin1"), Some("latin1_bin"), Some("C3A9")]);
        assert_eq!(variable_literal(&l, 0), "_latin1 X'E9' COLLATE latin1_bin");
        assert_eq!(plain_literal(&l, 0), "_utf8mb4 X'C3A9'");
        assert_eq!(plain_literal(&rows(8, &[Some("5"), Some("5")]), 0), "5");
        assert_eq!((variable("a_1.$").as_str(), variable("odd name").as_str()), ("@a_1.$", "@`odd name`"));
        assert_eq!(variable_literal(&s, 0), "_utf8mb4 X'C3A9' COLLATE utf8mb4_bin");
    }
}
