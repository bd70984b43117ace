//! Has stores prepare statements with their control accounts: their own parsers and catalogues answer, and nothing is executed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::backend::connection::QueryError;
use crate::backend::{Backend, Fleet, control};
use crate::config::StoreId;
use crate::sql::dialect::Dialect;
use crate::sql::lex::{Lexeme, Lexer};

/// For connecting to a store, and for one statement there.
const PATIENCE: Duration = Duration::from_secs(5);
/// ER_UNSUPPORTED_PS: not in the prepared protocol.
const UNSUPPORTED: u16 = 1295;
/// What a control account lacks a right for: table, column, database, routine, any.
const RIGHTS: [u16; 6] = [1044, 1045, 1142, 1143, 1227, 1370];

/// What a store is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) store: StoreId,
    pub(super) text: String,
    pub(super) database: Option<String>,
    pub(super) ansi_quotes: bool,
    pub(super) no_backslash_escapes: bool,
    /// EXPLAIN may take the place of a PREPARE: it reads or writes rows, and calls no routine.
    pub(super) explains: bool,
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// It takes it.
    Prepared,
    /// It does not.
    Refused { code: u16, message: String },
    /// Nobody knows.
    Unasked(String),
}

/// Connections to the stores, and what they said already.
pub(super) struct Asker<'a> {
    fleet: &'a Fleet,
    /// `None`: that store cannot be asked, and why.
    lines: HashMap<StoreId, Result<Line, String>>,
    heard: HashMap<Question, Heard>,
    deadline: Instant,
}

struct Line {
    backend: Backend,
    database: Option<String>,
    modes: Option<(bool, bool)>,
}

impl<'a> Asker<'a> {
    pub(super) fn new(fleet: &'a Fleet, limit: Duration) -> Asker<'a> {
        Asker { fleet, lines: HashMap::new(), heard: HashMap::new(), deadline: Instant::now() + limit }
    }

    /// What a store says of a statement.
    pub(super) async fn ask(&mut self, question: &Question) -> Heard {
        if let Some(heard) = self.heard.get(question) {
            return heard.clone();
        }
        let heard = match timeout_at(self.deadline, self.ask_anew(question)).await {
            Ok(heard) => heard,
            Err(_) => Heard::Unasked("there was no time left to ask".to_owned()),
        };
        self.heard.insert(question.clone(), heard.clone());
        heard
    }

    async fn ask_anew(&mut self, question: &Question) -> Heard {
        let line = match self.lines.remove(&question.store) {
            Some(line) => line,
            None => self.connect(question.store).await,
        };
        let (line, heard) = match line {
            Err(why) => (Some(Err(why.clone())), Heard::Unasked(why)),
            Ok(mut line) => match timeout(PATIENCE, line.ask(question)).await {
                Ok(Ok(heard)) => (Some(Ok(line)), heard),
                // (the next question gets a connection of its own)
                Ok(Err(e)) => (None, Heard::Unasked(format!("the store could not be asked: {e}"))),
                Err(_) => (None, Heard::Unasked(format!("the store did not answer within {} s", PATIENCE.as_secs()))),
            },
        };
        if let Some(line) = line {
            self.lines.insert(question.store, line);
        }
        heard
    }

    async fn connect(&self, store: StoreId) -> Result<Line, String> {
        let handle = self.fleet.get(store).map(Arc::clone).ok_or("no such store")?;
        let backend = control::connect(&handle, PATIENCE).await.map_err(|e| e.to_string())?;
        Ok(Line { backend, database: None, modes: None })
    }
}

/// How a store refused; an error is of the connection.
fn heard(answer: Result<(), QueryError>) -> Result<Heard, QueryError> {
    match answer {
        Ok(()) => Ok(Heard::Prepared),
        Err(QueryError::Refused(e)) if RIGHTS.contains(&e.code) => Ok(Heard::Unasked(format!(
            "the control account may not ask ({}): GRANT it SELECT, INSERT, UPDATE, DELETE on the group's tables",
            String::from_utf8_lossy(&e.message)
        ))),
        Err(QueryError::Refused(e)) => {
            Ok(Heard::Refused { code: e.code, message: String::from_utf8_lossy(&e.message).into_owned() })
        }
        Err(lost) => Err(lost),
    }
}

impl Line {
    async fn ask(&mut self, question: &Question) -> Result<Heard, QueryError> {
        if let Some(refused) = self.make_ready(question).await? {
            return Ok(refused);
        }
        let prepared = heard(self.backend.try_prepare(question.text.as_bytes()).await)?;
        match prepared {
            Heard::Refused { code: UNSUPPORTED, .. } if question.explains => {
                let text = explain(question);
                heard(self.backend.query(text.as_bytes()).await.map(drop))
            }
            Heard::Refused { code: UNSUPPORTED, message } => Ok(Heard::Unasked(message)),
            prepared => Ok(prepared),
        }
    }

    /// The database and the modes that the statement was read under.
    async fn make_ready(&mut self, question: &Question) -> Result<Option<Heard>, QueryError> {
        let modes = (question.ansi_quotes, question.no_backslash_escapes);
        if self.modes != Some(modes) {
            let mut sql = "SET SESSION sql_mode = CONCAT(@@GLOBAL.sql_mode".to_owned();
            for (on, mode) in [(modes.0, "ANSI_QUOTES"), (modes.1, "NO_BACKSLASH_ESCAPES")] {
                if on {
                    sql.push_str(&format!(", ',{mode}'"));
                }
            }
            sql.push(')');
            match self.backend.execute(sql.as_bytes()).await {
                Ok(_) | Err(QueryError::Refused(_)) => self.modes = Some(modes),
                Err(lost) => return Err(lost),
            }
        }
        if self.database == question.database {
            return Ok(None);
        }
        let Some(database) = &question.database else {
            // nothing takes a database away again; the names of such a statement are qualified, or it fails anyway
            return Ok(None);
        };
        match heard(self.backend.init_db(database.as_bytes()).await)? {
            Heard::Prepared => {
                self.database = Some(database.clone());
                Ok(None)
            }
            refused => Ok(Some(refused)),
        }
    }
}

/// EXPLAIN of a statement, with NULL in the place of every parameter.
fn explain(question: &Question) -> String {
    let dialect = Dialect {
        ansi_quotes: question.ansi_quotes,
        no_backslash_escapes: question.no_backslash_escapes,
        ..Dialect::default()
    };
    let mut lexer = Lexer::new(question.text.as_bytes(), &dialect);
    let (mut out, mut from) = ("EXPLAIN ".to_owned(), 0);
    loop {
        let token = lexer.next_token();
        match token.lexeme {
            Lexeme::Parameter => {
                out.push_str(question.text.get(from..token.start).unwrap_or_default());
                out.push_str("NULL");
                from = token.end;
            }
            Lexeme::End => break,
            _ => {}
        }
    }
    out.push_str(question.text.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explained_with_nulls() {
        let question = Question {
            store: StoreId(0),
            text: "SELECT '?' FROM t WHERE a = ? AND b IN (?)".into(),
            database: None,
            ansi_quotes: false,
            no_backslash_escapes: false,
            explains: true,
        };
        assert_eq!(explain(&question), "EXPLAIN SELECT '?' FROM t WHERE a = NULL AND b IN (NULL)");
    }

    #[test]
    fn a_right_that_lacks_is_no_verdict() {
        let refused = |code| Err(QueryError::Refused(crate::wire::ErrPacket::new(code, b"42000", "no")));
        assert!(matches!(heard(refused(1142)).unwrap(), Heard::Unasked(_)));
        assert_eq!(heard(refused(1146)).unwrap(), Heard::Refused { code: 1146, message: "no".into() });
    }
}
