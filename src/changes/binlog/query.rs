//! Statements in a binlog: transaction control, DDL, and DML that should have been rows.

use super::rows::uncompress;
use crate::changes::{Interest, Tables};
use crate::entry::TableName;
use crate::sql::classify::classify;
use crate::sql::dialect::{CharsetClass, Dialect};
use crate::sql::facts::{Access, Facts, Flags, Kind, TableRef};
use crate::wire::codec::{Malformed, Reader};

/// A QUERY event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The session that ran it.
    pub thread: u32,
    /// Its database.
    pub database: String,
    /// How its text is to be read.
    pub dialect: Dialect,
    /// The text.
    pub sql: Vec<u8>,
}

/// Reads a QUERY event's body; with `load` an EXECUTE_LOAD_QUERY's, which says 13 bytes more.
///
/// # Errors
/// [`Malformed`].
pub fn read(body: &[u8], load: bool, compressed: bool) -> Result<Query, Malformed> {
    let mut r = Reader::new(body);
    let thread = r.u32()?;
    r.u32()?;
    let database = usize::from(r.u8()?);
    r.u16()?;
    let variables = usize::from(r.u16()?);
    if load {
        r.bytes(13)?;
    }
    let dialect = dialect(r.bytes(variables)?);
    let database = String::from_utf8_lossy(r.bytes(database)?).into_owned();
    r.u8()?;
    let sql = if compressed { uncompress(r.rest())? } else { r.rest().to_vec() };
    Ok(Query { thread, database, dialect, sql })
}

/// From the status variables: the session's sql_mode and character set decide what is a name and what a string.
fn dialect(variables: &[u8]) -> Dialect {
    let mut dialect = Dialect::default();
    let mut r = Reader::new(variables);
    while let Ok(code) = r.u8() {
        let read = match code {
            // flags2, auto_increment
            0 | 3 => r.u32().map(|_| ()),
            1 => r.u64().map(|mode| {
                dialect.ansi_quotes = mode & 4 != 0;
                dialect.ignore_space = mode & 8 != 0;
                dialect.no_backslash_escapes = mode & 1 << 20 != 0;
            }),
            4 => r.bytes(6).map(|ids| {
                let [low, high, ..] = *ids else { return };
                dialect.charset = CharsetClass::from_collation_id(u16::from_le_bytes([low, high]));
            }),
            // catalog
            6 => r.u8().and_then(|length| r.bytes(usize::from(length))).map(|_| ()),
            _ => break,
        };
        if read.is_err() {
            break;
        }
    }
    dialect
}

/// What a statement in the log means for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A transaction begins.
    Begin,
    /// It is committed.
    Commit,
    /// It was rolled back.
    Rollback,
    /// SAVEPOINT.
    Savepoint(String),
    /// ROLLBACK TO.
    RollbackTo(String),
    /// Nothing for the group.
    Nothing,
    /// TRUNCATE TABLE of one of its tables: database and name.
    Truncate(String, String),
    /// Other DDL on these tables of it.
    Ddl(String),
    /// It may write these tables of it, and not as rows.
    Statement(String),
}

/// Judges a statement.
pub fn meaning(query: &Query, tables: &dyn Tables) -> Meaning {
    let text = query.sql.trim_ascii();
    if text.eq_ignore_ascii_case(b"BEGIN") {
        return Meaning::Begin;
    }
    if text.eq_ignore_ascii_case(b"COMMIT") {
        return Meaning::Commit;
    }
    if text.eq_ignore_ascii_case(b"ROLLBACK") {
        return Meaning::Rollback;
    }
    let facts = classify(text, &query.dialect);
    match &facts.kind {
        Kind::Savepoint(name) => return Meaning::Savepoint(name.to_lowercase()),
        Kind::RollbackTo(name) => return Meaning::RollbackTo(name.to_lowercase()),
        Kind::Begin { .. } => return Meaning::Begin,
        Kind::Xa if starts(text, &["XA", "COMMIT"]) || starts(text, &["XA", "ROLLBACK"]) => return Meaning::Commit,
        Kind::Xa if starts(text, &["XA", "END"]) => return Meaning::Nothing,
        Kind::Xa => return Meaning::Begin,
        Kind::ReleaseSavepoint(_) | Kind::Empty | Kind::Set(_) | Kind::Use(_) => return Meaning::Nothing,
        _ => {}
    }
    if facts.flags.contains(Flags::TEMPORARY_TABLE) || is_maintenance(text) {
        return Meaning::Nothing;
    }
    if let Some(database) = dropped_database(text)
        && tables.any_in(&database)
    {
        return Meaning::Ddl(format!("every table of {database}"));
    }
    let touched = touched(&facts, query, tables);
    if touched.is_empty() || is_seal(&facts, query, text) {
        return Meaning::Nothing;
    }
    if facts.kind != Kind::Ddl {
        return Meaning::Statement(names(&touched));
    }
    match touched.as_slice() {
        [(database, name)] if starts(text, &["TRUNCATE"]) => Meaning::Truncate(database.clone(), name.clone()),
        _ => Meaning::Ddl(names(&touched)),
    }
}

/// Whether it is a seal by `rename`, put on or taken off.
fn is_seal(facts: &Facts, query: &Query, text: &[u8]) -> bool {
    let place = |t: &TableRef| TableName {
        database: t.database.as_deref().unwrap_or(&query.database).to_owned(),
        name: t.name.to_string(),
    };
    let names: Vec<TableName> = facts.tables.iter().map(place).collect();
    starts(text, &["RENAME", "TABLE"]) && TableName::are_moved(&names)
}

fn names(tables: &[(String, String)]) -> String {
    let names: Vec<String> = tables.iter().map(|(database, name)| format!("{database}.{name}")).collect();
    names.join(", ")
}

/// The group's tables that a statement changes; those that it may only read where it is not understood whole.
fn touched(facts: &Facts, query: &Query, tables: &dyn Tables) -> Vec<(String, String)> {
    let sure = matches!(facts.kind, Kind::Write | Kind::Ddl);
    let changed = facts.tables.iter().filter(|t| !sure || t.access >= Access::Write);
    let full = changed.map(|t| {
        let database = t.database.as_deref().unwrap_or(&query.database);
        (database.to_owned(), t.name.to_string())
    });
    full.filter(|(database, name)| tables.interest(database, name) == Interest::Group).collect()
}

fn words(text: &[u8]) -> impl Iterator<Item = String> {
    text.split(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b'*' | b'!' | b'(' | b';'))
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).to_uppercase())
}

fn starts(text: &[u8], words_wanted: &[&str]) -> bool {
    words(text).take(words_wanted.len()).eq(words_wanted.iter().map(|word| (*word).to_owned()))
}

/// Statements that are DDL by their privileges, and change neither rows nor the shape of a table; triggers and rights are
/// each store's own.
fn is_maintenance(text: &[u8]) -> bool {
    let Some(first) = words(text).next() else { return true };
    match first.as_str() {
        "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "FLUSH" | "GRANT" | "REVOKE" => true,
        "CREATE" | "DROP" | "ALTER" => {
            let rest: Vec<String> = words(text).skip(1).take(8).collect();
            let kind = rest.iter().find(|word| {
                [
                    "TABLE",
                    "DATABASE",
                    "SCHEMA",
                    "TRIGGER",
                    "USER",
                    "ROLE",
                    "VIEW",
                    "PROCEDURE",
                    "FUNCTION",
                    "EVENT",
                    "INDEX",
                ]
                .contains(&word.as_str())
            });
            kind.is_some_and(|kind| {
                ["TRIGGER", "USER", "ROLE", "VIEW", "PROCEDURE", "FUNCTION", "EVENT"].contains(&kind.as_str())
            })
        }
        _ => false,
    }
}

fn dropped_database(text: &[u8]) -> Option<String> {
    if !starts(text, &["DROP", "DATABASE"]) && !starts(text, &["DROP", "SCHEMA"]) {
        return None;
    }
    let text = String::from_utf8_lossy(text).into_owned();
    let name =
        text.split_whitespace().filter(|word| !matches!(word.to_uppercase().as_str(), "IF" | "EXISTS")).nth(2)?;
    Some(name.trim_matches(|c| matches!(c, '`' | ';')).replace("``", "`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Group;

    impl Tables for Group {
        fn interest(&self, database: &str, name: &str) -> Interest {
            if database == "d" && name.starts_with("hits") { Interest::Group } else { Interest::Other }
        }

        fn any_in(&self, database: &str) -> bool {
            database == "d"
        }
    }

    fn judge(sql: &str) -> Meaning {
        meaning(&Query { thread: 1, database: "d".into(), dialect: Dialect::default(), sql: sql.into() }, &Group)
    }

    #[test]
    fn statements_are_judged() {
        let ddl = |tables: &str| Meaning::Ddl(tables.to_owned());
        let statement = |tables: &str| Meaning::Statement(tables.to_owned());
        for (sql, expected) in [
            ("BEGIN", Meaning::Begin),
            ("COMMIT", Meaning::Commit),
            ("SAVEPOINT `a`", Meaning::Savepoint("a".into())),
            ("ROLLBACK TO `A`", Meaning::RollbackTo("a".into())),
            ("XA START X'61',X'',1", Meaning::Begin),
            ("XA END X'61',X'',1", Meaning::Nothing),
            ("XA COMMIT X'61',X'',1", Meaning::Commit),
            ("TRUNCATE hits", Meaning::Truncate("d".into(), "hits".into())),
            ("truncate table d.hits", Meaning::Truncate("d".into(), "hits".into())),
            ("truncate table e.hits", Meaning::Nothing),
            ("ALTER TABLE hits ADD c INT", ddl("d.hits")),
            ("DROP TABLE `hits`, `other` /* generated by server */", ddl("d.hits")),
            ("CREATE TABLE hits2 LIKE other", ddl("d.hits2")),
            ("RENAME TABLE other TO hits_x", ddl("d.hits_x")),
            ("RENAME TABLE `d`.`hits` TO `switchover_sealed_d`.`hits`", Meaning::Nothing),
            ("RENAME TABLE switchover_sealed_d.hits TO hits, switchover_sealed_d.hits2 TO d.hits2", Meaning::Nothing),
            ("RENAME TABLE hits TO switchover_sealed_d.hits, hits2 TO other2", ddl("d.hits, d.hits2")),
            ("RENAME TABLE hits TO switchover_sealed_e.hits", ddl("d.hits")),
            ("CREATE DATABASE IF NOT EXISTS switchover_sealed_d", Meaning::Nothing),
            ("CREATE UNIQUE INDEX i ON hits (a)", ddl("d.hits")),
            ("CREATE OR REPLACE TABLE hits (a INT)", ddl("d.hits")),
            ("DROP DATABASE IF EXISTS `d`", ddl("every table of d")),
            ("DROP DATABASE e", Meaning::Nothing),
            ("CREATE TABLE other (a INT)", Meaning::Nothing),
            ("CREATE TEMPORARY TABLE hits (a INT)", Meaning::Nothing),
            ("ANALYZE TABLE hits", Meaning::Nothing),
            (
                "CREATE DEFINER=`root`@`localhost` TRIGGER t BEFORE INSERT ON hits FOR EACH ROW SET NEW.a = 1",
                Meaning::Nothing,
            ),
            ("GRANT SELECT ON hits TO x", Meaning::Nothing),
            ("INSERT INTO hits VALUES (1)", statement("d.hits")),
            ("UPDATE other, hits SET hits.a = 1", statement("d.hits")),
            ("INSERT INTO other SELECT * FROM hits", Meaning::Nothing),
            ("INSERT INTO other VALUES (1)", Meaning::Nothing),
        ] {
            assert_eq!(judge(sql), expected, "{sql}");
        }
    }

    /// Under ANSI_QUOTES a name may stand in double quotes: taken for a string, a TRUNCATE would be missed.
    #[test]
    fn the_sessions_sql_mode_counts() {
        let mut body = vec![1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 14, 0];
        body.extend([0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0]);
        body.extend(b"d\0TRUNCATE \"hits\"");
        let query = read(&body, false, false).unwrap();
        assert!(query.dialect.ansi_quotes);
        assert_eq!(meaning(&query, &Group), Meaning::Truncate("d".into(), "hits".into()));
        for cut in 0..body.len() - 15 {
            assert!(read(&body[..cut], false, false).is_err());
        }
    }
}
