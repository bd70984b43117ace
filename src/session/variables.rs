//! User variables and LAST_INSERT_ID on a store other than the one that has them: read there, set here (RULES.md 16, 17).

use super::Session;
use super::control_flow::Failure;
use crate::backend::connection::{QueryError, Rows};
use crate::sql::facts::{Facts, Flags};
use crate::wire::ErrPacket;

impl Session {
    /// Brings the user variables that a statement mentions to the leg where it runs.
    pub(crate) async fn bring_variables(&mut self, facts: &Facts, at: usize) -> Result<(), Failure> {
        let Some(here) = self.legs.get(at).map(|l| l.generation) else { return Ok(()) };
        for name in &facts.user_variables {
            let Some(there) = self.state.user_variables.get(name).copied() else { continue };
            if there == here {
                continue;
            }
            let Some(from) = self.legs.iter().position(|l| l.generation == there) else {
                self.state.user_variables.remove(name);
                continue;
            };
            let literal = self.read_user_variable(from, name).await?;
            let sql = format!("SET @{} = {literal}", super::transaction::quoted(name));
            self.tell(at, &sql).await??;
            self.state.user_variables.insert(name.clone(), here);
        }
        Ok(())
    }

    /// The value of a user variable, as a literal that keeps its type.
    async fn read_user_variable(&mut self, at: usize, name: &str) -> Result<String, Failure> {
        let v = format!("@{}", super::transaction::quoted(name));
        let rows = self.ask(at, &format!("SELECT {v}, HEX({v}), CHARSET({v}), COLLATION({v})")).await?;
        Ok(variable_literal(&rows))
    }

    /// The text of a user variable, for dynamic SQL.
    pub(crate) async fn user_variable_text(&mut self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let home = self.legs.first().map_or(0, |l| l.generation);
        let there = self.state.user_variables.get(name).copied().unwrap_or(home);
        let at = self.legs.iter().position(|l| l.generation == there).unwrap_or(0);
        let rows = self.ask(at, &format!("SELECT @{}", super::transaction::quoted(name))).await?;
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
            Err(Failure::Statement(error)) if error.code != 1064 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A statement that reads LAST_INSERT_ID() on another store than the one that made the id gets it there first.
    pub(crate) async fn bring_insert_id(&mut self, facts: &Facts, at: usize) -> Result<(), Failure> {
        if !facts.flags.contains(Flags::READS_LAST_INSERT_ID) {
            return Ok(());
        }
        let Some(here) = self.legs.get(at).map(|l| l.generation) else { return Ok(()) };
        let there = self.state.last_insert;
        if there == here {
            return Ok(());
        }
        let Some(from) = self.legs.iter().position(|l| l.generation == there) else { return Ok(()) };
        let rows = self.ask(from, "SELECT LAST_INSERT_ID()").await?;
        let id =
            rows.first(0).and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
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

/// From `SELECT @v, HEX(@v), CHARSET(@v), COLLATION(@v)`.
fn variable_literal(rows: &Rows) -> String {
    let text = |at: usize| rows.first(at).map(|v| String::from_utf8_lossy(v).into_owned());
    let Some(value) = text(0) else { return "NULL".to_owned() };
    match rows.columns.first().map(|c| c.kind) {
        // TINY … LONG, LONGLONG, INT24, DECIMAL, NEWDECIMAL
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
    use crate::backend::connection::Column;

    fn rows(kind: u8, values: &[Option<&str>]) -> Rows {
        Rows {
            columns: vec![Column { name: b"@v".to_vec(), kind, collation: 63 }],
            rows: vec![values.iter().map(|v| v.map(|v| v.as_bytes().to_vec())).collect()],
        }
    }

    #[test]
    fn variables_keep_their_type() {
        assert_eq!(variable_literal(&rows(8, &[Some("5"), Some("5"), Some("binary"), Some("binary")])), "5");
        assert_eq!(variable_literal(&rows(0xF6, &[Some("1.50")])), "1.50");
        assert_eq!(variable_literal(&rows(5, &[Some("1.5")])), "1.5e0");
        assert_eq!(variable_literal(&rows(0xFB, &[None])), "NULL");
        let s = rows(0xFA, &[Some("é"), Some("C3A9"), Some("utf8mb4"), Some("utf8mb4_bin")]);
        assert_eq!(variable_literal(&s), "_utf8mb4 X'C3A9' COLLATE utf8mb4_bin");
    }
}
