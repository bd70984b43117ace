//! The second reading of a statement, by sqlparser: `switchover explain` shows whether it names the tables that the scanner
//! names, so that whoever doubts a decision need not take one reader's word for it.
//!
//! It decides nothing. On plan-cache misses it would cost 6–480 µs where the scanner takes 0.1–5.5 µs, refuse a quarter of what
//! MySQL takes, and be wrong in places where the scanner, held against the server's own locks (`tests/locked_tables`), is not.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{ObjectName, Query, Visit, Visitor};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::facts::{Access, Facts, Kind};

/// How the second reading compares with the facts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "reading")]
pub enum SecondReading {
    /// It names the same tables.
    Agrees,
    /// It names others.
    Differs {
        /// Tables that only sqlparser names.
        also: Vec<String>,
        /// Tables that only the scanner names.
        not: Vec<String>,
    },
    /// It does not understand the statement.
    Unread {
        /// What it says.
        error: String,
    },
}

/// Reads a statement again; `None` for those that are not about tables.
#[must_use]
pub fn second_reading(sql: &str, facts: &Facts) -> Option<SecondReading> {
    if !matches!(facts.kind, Kind::Read | Kind::Write | Kind::Ddl) {
        return None;
    }
    let statements = match Parser::parse_sql(&MySqlDialect {}, sql) {
        Ok(statements) => statements,
        Err(error) => return Some(SecondReading::Unread { error: error.to_string() }),
    };
    let mut theirs = Relations::default();
    let _ = statements.visit(&mut theirs);
    // What is only described or called may stand in places that sqlparser does not visit.
    let ours: BTreeSet<String> =
        facts.tables.iter().filter(|t| t.access > Access::Call).map(|t| t.name.to_string()).collect();
    // A name that is a CTE anywhere is left out: sqlparser's visitor knows no scopes.
    let named = |name: &&String| !theirs.ctes.contains(*name) && !name.eq_ignore_ascii_case("dual");
    let also: Vec<String> = theirs.tables.difference(&ours).filter(named).cloned().collect();
    let not: Vec<String> = ours.difference(&theirs.tables).filter(named).cloned().collect();
    Some(if also.is_empty() && not.is_empty() { SecondReading::Agrees } else { SecondReading::Differs { also, not } })
}

impl std::fmt::Display for SecondReading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SecondReading::Agrees => write!(f, "sqlparser names the same tables"),
            SecondReading::Differs { also, not } => {
                let mut parts = Vec::new();
                if !also.is_empty() {
                    parts.push(format!("names {} too", also.join(", ")));
                }
                if !not.is_empty() {
                    parts.push(format!("does not name {}", not.join(", ")));
                }
                write!(f, "sqlparser {}", parts.join(", and "))
            }
            SecondReading::Unread { error } => write!(f, "sqlparser does not understand it: {error}"),
        }
    }
}

/// Tables and CTE names, as sqlparser sees them.
#[derive(Default)]
struct Relations {
    tables: BTreeSet<String>,
    ctes: BTreeSet<String>,
}

impl Visitor for Relations {
    type Break = ();

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<()> {
        if let Some(ident) = name.0.last().and_then(|part| part.as_ident()) {
            self.tables.insert(ident.value.clone());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.ctes.extend(query.with.iter().flat_map(|w| &w.cte_tables).map(|cte| cte.alias.name.value.clone()));
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify::classify;
    use crate::sql::dialect::Dialect;

    fn read(sql: &str) -> Option<SecondReading> {
        second_reading(sql, &classify(sql.as_bytes(), &Dialect::default()))
    }

    #[test]
    fn it_agrees_differs_or_does_not_understand() {
        for sql in [
            "SELECT * FROM a JOIN db.b ON a.id = b.id",
            "WITH a AS (SELECT * FROM b) SELECT * FROM a",
            "INSERT INTO a SELECT * FROM b ON DUPLICATE KEY UPDATE x = 1, y = 2",
            "CREATE TABLE a (id INT)",
            "SELECT 1 FROM dual",
        ] {
            assert_eq!(read(sql), Some(SecondReading::Agrees), "{sql}");
        }
        assert_eq!(read("SET NAMES utf8mb4"), None);
        assert!(matches!(read("SELECT * FROM a LOCK IN SHARE MODE"), Some(SecondReading::Unread { .. })));
        let differs = SecondReading::Differs { also: vec!["c".into()], not: vec!["a".into(), "b".into()] };
        assert_eq!(differs.to_string(), "sqlparser names c too, and does not name a, b");
    }
}
