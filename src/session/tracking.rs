//! Session state that changes in ways the text does not say: by a stored routine or a trigger, by dynamic SQL, by a compound block.
//!
//! Every store is asked for SESSION_TRACK (RULES.md 16). It costs the hot path one look at a status flag: packets differ only
//! where something has changed ([`crate::wire::tracking`]). What stores report by default is the database, autocommit, the
//! character sets and the time zone; the session's own `session_track_…` variables are the client's and stay as they are. So a
//! report is taken for what it says, and for a sign that more may have changed; so is a statement whose text does not show
//! what it sets, reported or not. The leg is then *suspect*: before a statement runs on another store, the variables that differ
//! from the store's global ones are read there, and follow. A session with one leg never pays for that.

use super::Session;
use super::control_flow::Failure;
use super::effects::may_change_unseen;
use super::state::STAY;
use super::sync::{FOLLOW, literal};
use crate::sql::dialect::Engine;
use crate::sql::facts::{Facts, Kind};
use crate::wire::reply::Outcome;
use crate::wire::tracking::Change;

impl Session {
    /// Takes what a store reported behind a statement into account; `facts` are the statement's, where it has some.
    pub(crate) fn reported(&mut self, facts: Option<&Facts>, at: usize, outcome: &Outcome) {
        let unseen = facts.is_some_and(may_change_unseen);
        if !outcome.changed && !unseen {
            return;
        }
        let Some(leg) = self.legs.get_mut(at) else { return };
        let changes = std::mem::take(&mut leg.changes);
        let counts = outcome.changed && (changes.is_empty() || changes.iter().any(|c| *c != Change::Other));
        // home reports what these set, and their text says it
        let plain = at == 0 && facts.is_none_or(|f| matches!(f.kind, Kind::Set(_) | Kind::Use(_)));
        if unseen || counts && !plain {
            leg.suspect = true;
        }
        if at != 0 {
            // it stays as it is until another leg is used: bringing it in step with home would undo what was set
            return;
        }
        self.state.version += 1;
        for change in changes {
            match change {
                Change::Variable { name, value } => self.state.reported(&name, &value),
                Change::Schema(name) => self.state.database = (!name.is_empty()).then(|| name.into()),
                Change::Unsaid | Change::Other => {}
            }
        }
    }

    /// What suspect legs other than home have come to, home takes over, before a statement runs on another leg than theirs.
    pub(crate) async fn settle(&mut self, at: usize) -> Result<(), Failure> {
        for i in 1..self.legs.len() {
            if i != at && self.legs.get(i).is_some_and(|l| l.suspect && !l.broken) {
                Box::pin(self.take_over(i)).await?;
            }
        }
        Ok(())
    }

    async fn take_over(&mut self, from: usize) -> Result<(), Failure> {
        let mut names: Vec<String> = FOLLOW.iter().map(|n| (*n).to_owned()).collect();
        let more = self.differing_names(from).await?;
        names.extend(more.into_iter().filter(|n| !FOLLOW.contains(&n.as_str())));
        names.extend(self.state.set.iter().map(|n| n.to_string()).filter(|n| n != "timestamp"));
        names.sort();
        names.dedup();
        let now = self.read_variables(from, &names).await?;
        let Some(leg) = self.legs.get_mut(from) else { return Ok(()) };
        leg.suspect = false;
        let differs = |(name, value): &(&String, &Option<Vec<u8>>)| {
            leg.variables.get(*name) != Some(value) && !leg.substituted.contains(*name)
        };
        let mut changed: Vec<(String, Option<Vec<u8>>)> =
            now.iter().filter(differs).map(|(n, v)| (n.clone(), v.clone())).collect();
        // a character set sets its collation, which therefore comes last
        changed.sort_by_key(|(name, _)| name == "collation_connection");
        leg.variables.extend(changed.iter().cloned());
        for (name, value) in &changed {
            let sql = format!("SET SESSION {name} = {}", literal(name, value.as_deref()));
            if let Err(error) = self.tell(0, &sql).await? {
                tracing::debug!(
                    name,
                    error = error.code,
                    "a variable that a routine set on another store means nothing at home"
                );
                continue;
            }
            self.state.reported(name, value.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    /// Names of the variables that the session has otherwise than its store's other sessions.
    pub(crate) async fn differing_names(&mut self, at: usize) -> Result<Vec<String>, Failure> {
        const MARIADB: &str = "SELECT LOWER(VARIABLE_NAME) FROM information_schema.SYSTEM_VARIABLES \
             WHERE NOT BINARY SESSION_VALUE = BINARY GLOBAL_VALUE AND READ_ONLY = 'NO' LIMIT 1000";
        const MYSQL: &str = "SELECT LOWER(s.VARIABLE_NAME) FROM performance_schema.session_variables s \
             JOIN performance_schema.global_variables g ON s.VARIABLE_NAME = g.VARIABLE_NAME \
             WHERE NOT BINARY s.VARIABLE_VALUE = BINARY g.VARIABLE_VALUE LIMIT 1000";
        let engine = self.legs.get(at).and_then(|l| l.backend.handle.probed()).map(|p| p.engine);
        let sql = if matches!(engine, Some(Engine::MariaDb { .. })) { MARIADB } else { MYSQL };
        match self.ask(at, sql).await {
            Ok(rows) => {
                let names = rows.rows.into_iter().flatten().flatten();
                let names = names.map(|n| String::from_utf8_lossy(&n).into_owned());
                Ok(names.filter(|n| !STAY.contains(&n.as_str())).collect())
            }
            // a store that has neither table: the fixed list must do
            Err(Failure::Statement(_)) => Ok(Vec::new()),
            Err(fatal) => Err(fatal),
        }
    }

    /// Home has run what may have set anything: from now on its differing variables follow like those of SET.
    pub(crate) async fn look_home_over(&mut self) -> Result<(), Failure> {
        if !self.legs.first().is_some_and(|l| l.suspect) {
            return Ok(());
        }
        let names = self.differing_names(0).await?;
        for name in names {
            self.state.follows(&name);
            self.state.settings.not_known(&name);
        }
        if let Some(home) = self.legs.first_mut() {
            home.suspect = false;
        }
        Ok(())
    }
}
