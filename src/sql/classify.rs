//! A text → the facts of its statements, on a plan-cache miss.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::dialect::Dialect;
use super::facts::{Facts, Flags, Kind};
use super::lex::{Lexeme, Lexer, Reading};
use super::scan::Scan;
use super::split::split;

/// What is known of a text: the facts of each of its statements, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analysis {
    /// One entry per statement; more than one only for multi-statement text, and at least one.
    pub statements: Box<[Arc<Facts>]>,
}

impl Analysis {
    /// Whether another text with the same fingerprint has the same facts.
    #[must_use]
    pub fn cacheable(&self) -> bool {
        !self.statements.iter().any(|f| f.flags.contains(Flags::LITERALS_MATTER))
    }

    /// Bytes that it takes, roughly, for the plan cache.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names = |f: &Arc<Facts>| {
            let tables =
                f.tables.iter().map(|t| t.name.len() + t.database.as_ref().map_or(0, |d| d.len()) + size_of_val(t));
            tables.chain(f.user_variables.iter().map(|v| v.len() + 16)).sum::<usize>()
        };
        self.statements.iter().map(|f| size_of::<Facts>() + 32 + names(f)).sum()
    }
}

/// The facts of every statement of a text.
#[must_use]
pub fn analyze(sql: &[u8], dialect: &Dialect) -> Analysis {
    let statement = |span: super::facts::Span| {
        let text = sql.get(span.start as usize..span.end as usize).unwrap_or_default();
        Arc::new(classify(text, dialect))
    };
    Analysis { statements: split(sql, dialect).map(statement).collect() }
}

/// The facts of one statement.
#[must_use]
pub fn classify(sql: &[u8], dialect: &Dialect) -> Facts {
    let own = Scan::new(sql, dialect, Reading::Engine);
    if !own.executable {
        return own.facts;
    }
    let others = [Reading::RunAll, Reading::RunNone].map(|r| Scan::new(sql, dialect, r).facts);
    union(own.facts, others)
}

/// A placeholder that information_schema is asked about a table with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedParameter {
    /// Number of the placeholder, from 0.
    pub index: usize,
    /// It names a table; else the database of the table.
    pub names_table: bool,
}

/// The placeholders of one statement that `table_name` and `table_schema` of information_schema are compared with
/// (RULES.md 25): what is bound to them decides as the literal would. Only for statements with
/// [`Flags::SYSTEM_TABLES`]; not cached, because lists of placeholders fold in fingerprints.
#[must_use]
pub fn asked_parameters(sql: &[u8], dialect: &Dialect) -> Vec<AskedParameter> {
    let scan = Scan::new(sql, dialect, Reading::Engine);
    if !scan.facts.flags.contains(Flags::SYSTEM_TABLES) || scan.asked_parameters.is_empty() {
        return Vec::new();
    }
    let mut lexer = Lexer::new(sql, dialect);
    let mut places = Vec::new();
    loop {
        let token = lexer.next_token();
        match token.lexeme {
            Lexeme::End => break,
            Lexeme::Parameter => places.push(token.span()),
            _ => {}
        }
    }
    let asked = scan.asked_parameters.iter().filter_map(|(names_table, span)| {
        let index = places.binary_search_by_key(&span.start, |p| p.start).ok()?;
        Some(AskedParameter { index, names_table: *names_table })
    });
    asked.collect()
}

/// Facts of a text with executable comments: stores may read it otherwise, so its tables are those of every reading.
///
/// What the session must do (its kind, its assignments) stays as the default store's engine reads it, unless that one
/// reads nothing at all.
fn union(mut own: Facts, others: [Facts; 2]) -> Facts {
    const SEEN_BY_ANY: Flags = Flags::READS_LAST_INSERT_ID
        .union(Flags::READS_ROW_COUNT)
        .union(Flags::READS_FOUND_ROWS)
        .union(Flags::CALC_FOUND_ROWS)
        .union(Flags::READS_DIAGNOSTICS)
        .union(Flags::READS_USER_VARIABLES)
        .union(Flags::WRITES_USER_VARIABLES)
        .union(Flags::USER_LOCK)
        .union(Flags::SYSTEM_TABLES);
    let mut tables = own.tables.into_vec();
    let mut places: HashMap<(Option<Box<str>>, Box<str>), usize> =
        tables.iter().enumerate().map(|(n, t)| ((t.database.clone(), t.name.clone()), n)).collect();
    let mut variables = own.user_variables.into_vec();
    let mut seen: HashSet<Box<str>> = variables.iter().cloned().collect();
    for other in others {
        if own.kind == Kind::Empty && !other.tables.is_empty() {
            own.kind = other.kind;
        }
        own.flags |= other.flags & SEEN_BY_ANY;
        for table in other.tables {
            let key = (table.database.clone(), table.name.clone());
            if let Some(known) = places.get(&key).and_then(|n| tables.get_mut(*n)) {
                known.access = known.access.max(table.access);
                continue;
            }
            places.insert(key, tables.len());
            tables.push(table);
        }
        variables.extend(other.user_variables.into_iter().filter(|v| seen.insert(v.clone())));
    }
    if !matches!(own.kind, Kind::LockTables(_)) {
        tables.sort_by_key(|t| t.span.start);
    }
    own.tables = tables.into();
    own.user_variables = variables.into();
    own.flags |= Flags::LITERALS_MATTER;
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_name_tables() {
        let asked = |sql: &str| {
            let found = asked_parameters(sql.as_bytes(), &Dialect::default());
            found.into_iter().map(|a| (a.index, a.names_table)).collect::<Vec<_>>()
        };
        let sql =
            "select * from information_schema.tables where x = ? and table_schema = ? and table_name = ? and y in (?)";
        assert_eq!(asked(sql), [(1, false), (2, true)]);
        assert_eq!(asked("select * from information_schema.tables where table_name in ('a', ?) limit ?"), [(0, true)]);
        assert_eq!(
            asked("select * from information_schema.columns c where c.table_name IN (?, ?)"),
            [(0, true), (1, true)]
        );
        assert_eq!(asked("select * from t where table_name = ?"), []);
    }
}
