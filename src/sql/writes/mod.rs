//! What a write does to the rows of one table, as far as recording them needs it: text → [`Write`], or why it cannot be recorded.
//!
//! Recording reads the rows before and after the write, so the values that it sets may be anything; what must be plain is how
//! its rows are found. An INSERT names them by literals of the key, or expressions that come to the same whenever they are
//! evaluated (or leaves the key to AUTO_INCREMENT), UPDATE and DELETE by a condition. One that means the same twice finds the same
//! rows twice; one that may not (LIMIT, a subquery, the time of day) is [`Write::loose`]: which rows it took is told by what became
//! of those that were locked before. Where the condition fixes whole keys by literals ([`Write::fixed`]), rows are found without
//! asking first.
//!
//! Nothing is guessed: what this does not read is refused. Source: MariaDB 10.11 `sql_yacc.yy`.

mod condition;
mod cursor;
mod insert;

use super::dialect::Dialect;
use super::facts::Span;
use super::lex::{Acting, Lexeme, Lexer};
use cursor::Cursor;

/// What the statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// INSERT … VALUES or SET.
    Insert {
        /// IGNORE: rows that do not fit are left out.
        ignore: bool,
        /// ON DUPLICATE KEY UPDATE.
        upsert: bool,
    },
    /// REPLACE … VALUES or SET.
    Replace,
    /// UPDATE of one table.
    Update,
    /// DELETE from one table.
    Delete,
}

/// A value of VALUES.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expr {
    /// One literal, with its sign.
    Literal(Span),
    /// NULL.
    Null,
    /// DEFAULT.
    Default,
    /// An expression of no column, that comes to the same whenever it is evaluated.
    Repeats(Span),
    /// Anything else.
    Other,
}

/// `column = value` of SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The column, unquoted.
    pub column: String,
    /// What it is set to.
    pub value: Expr,
    /// Where that stands.
    pub span: Span,
    /// The value depends on the old row alone, in a way that means the same twice: columns that it names, unquoted.
    pub of: Option<Vec<String>>,
}

/// The query of INSERT … SELECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// All of it.
    pub span: Span,
    /// Its columns.
    pub items: Vec<Span>,
    /// From FROM on.
    pub from: Option<Span>,
    /// It reads the same rows whenever they are locked, and names nothing called as the table that is written.
    pub repeats: bool,
}

/// A write of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// What it does.
    pub verb: Verb,
    /// The table as it stands in the text, with its database.
    pub table: Span,
    /// Its database, unquoted.
    pub database: Option<String>,
    /// Its name, unquoted.
    pub name: String,
    /// Its alias as it stands in the text.
    pub alias: Option<Span>,
    /// The columns of an INSERT, unquoted, where it names them.
    pub columns: Option<Vec<String>>,
    /// The rows of an INSERT.
    pub rows: Vec<Vec<Expr>>,
    /// The query that an INSERT takes its rows from.
    pub select: Option<Select>,
    /// What SET, or ON DUPLICATE KEY UPDATE, assigns.
    pub assigned: Vec<Assigned>,
    /// The condition behind WHERE.
    pub condition: Option<Span>,
    /// ORDER BY and LIMIT of an UPDATE or DELETE; whether a LIMIT is among them.
    pub tail: Option<(Span, bool)>,
    /// Why it may take other rows than those that the same condition finds before it.
    pub loose: Option<&'static str>,
    /// Columns that the condition fixes, each with the literals that it may be.
    pub fixed: Vec<(String, Vec<Span>)>,
}

/// Why a write cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unrecordable {
    /// INSERT … SELECT, several tables, LOAD DATA, …: a form whose rows cannot be told.
    #[error("{0}")]
    Form(&'static str),
    /// A condition that may mean something else when it is read a second time.
    #[error("its condition may find other rows when it is read twice ({0})")]
    Condition(&'static str),
}

use Unrecordable::Form;

/// Reads one statement, which is known to be a write.
///
/// # Errors
/// [`Unrecordable`].
pub fn read(sql: &[u8], dialect: &Dialect) -> Result<Write, Unrecordable> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token();
        match token.lexeme {
            Lexeme::End => break,
            Lexeme::Acting(Acting::RoutingHint | Acting::OptimizerHint) => {}
            Lexeme::Acting(_) => return Err(Form("it has executable comments")),
            Lexeme::Parameter => return Err(Form("it has parameters")),
            _ => tokens.push(token),
        }
    }
    while tokens.last().is_some_and(|t| t.lexeme == Lexeme::Op(b';')) {
        tokens.pop();
    }
    if tokens.iter().any(|t| t.lexeme == Lexeme::Op(b';')) {
        return Err(Form("it is several statements"));
    }
    let assigns = tokens
        .iter()
        .zip(tokens.iter().skip(1))
        .any(|(v, to)| v.lexeme == Lexeme::UserVariable && to.lexeme == Lexeme::Assign);
    let mut cursor = Cursor { sql, tokens: &tokens, at: 0, assigns };
    match () {
        () if cursor.eat("INSERT") => cursor.insert(false),
        () if cursor.eat("REPLACE") => cursor.insert(true),
        () if cursor.eat("UPDATE") => cursor.update(),
        () if cursor.eat("DELETE") => cursor.delete(),
        () => Err(Form("it is no INSERT, REPLACE, UPDATE or DELETE of one table")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(sql: &str) -> Result<Write, Unrecordable> {
        read(sql.as_bytes(), &Dialect::default())
    }

    fn text(sql: &str, span: Span) -> &str {
        &sql[span.start as usize..span.end as usize]
    }

    fn fixed(sql: &str) -> Vec<(String, Vec<String>)> {
        let list = write(sql).unwrap().fixed;
        list.into_iter().map(|(c, s)| (c, s.into_iter().map(|s| text(sql, s).to_owned()).collect())).collect()
    }

    #[test]
    fn inserts_name_their_rows() {
        let sql = "INSERT IGNORE INTO `d`.`t``s` (id, `n`) VALUES (1, NOW()), (-2, (SELECT 1)), (NULL, DEFAULT), ('x', 'a, (b')";
        let w = write(sql).unwrap();
        assert_eq!((w.database.as_deref(), w.name.as_str()), (Some("d"), "t`s"));
        assert_eq!(w.verb, Verb::Insert { ignore: true, upsert: false });
        assert_eq!(w.columns.unwrap(), ["id", "n"]);
        assert_eq!(text(sql, w.table), "`d`.`t``s`");
        let shape = |e: &Expr| match e {
            Expr::Literal(span) => text(sql, *span).to_owned(),
            other => format!("{other:?}"),
        };
        let rows: Vec<Vec<String>> = w.rows.iter().map(|row| row.iter().map(shape).collect()).collect();
        assert_eq!(rows, [["1", "Other"], ["-2", "Other"], ["Null", "Default"], ["'x'", "'a, (b'"]]);
        let w = write("REPLACE t SET a = 1, b = 2 + 3").unwrap();
        assert_eq!((w.verb, w.columns.unwrap().len(), w.rows[0].len()), (Verb::Replace, 2, 2));
        let w = write("INSERT t VALUES (1, 2) ON DUPLICATE KEY UPDATE n = VALUES(n), t.m = IF(a, b, c);").unwrap();
        assert_eq!(w.verb, Verb::Insert { ignore: false, upsert: true });
        let columns = |w: &Write| w.assigned.iter().map(|a| a.column.clone()).collect::<Vec<_>>();
        assert_eq!(columns(&w), ["n", "m"]);
        assert_eq!(write("INSERT INTO t () VALUES ()").unwrap().rows, [Vec::new()]);
    }

    #[test]
    fn conditions_fix_keys() {
        let one = |c: &str, v: &[&str]| (c.to_owned(), v.iter().map(|v| (*v).to_owned()).collect::<Vec<_>>());
        assert_eq!(fixed("UPDATE t SET n = 1 WHERE id = 5"), [one("id", &["5"])]);
        assert_eq!(
            fixed("DELETE FROM t WHERE a = 'x' AND t.b IN (1, -2) AND c > 3"),
            [one("a", &["'x'"]), one("b", &["1", "-2"])]
        );
        assert_eq!(fixed("DELETE FROM t WHERE a BETWEEN 1 AND 2 AND b = 3"), [one("b", &["3"])]);
        for sql in [
            "DELETE FROM t WHERE id = 5 OR n = 1",
            "DELETE FROM t WHERE NOT id = 5",
            "DELETE FROM t WHERE id = n",
            "DELETE FROM t WHERE id = 5 || n",
            "DELETE FROM t WHERE (id = 5)",
            "DELETE FROM t WHERE id IN (1, n)",
            "DELETE FROM t WHERE id = 5 + 1",
            "DELETE FROM t",
        ] {
            assert_eq!(fixed(sql), [], "{sql}");
        }
        let sql = "UPDATE t AS x SET x.n = n + 1, m = (SELECT MAX(a) FROM u WHERE b = 1) WHERE x.id = 7 AND n < 4";
        let w = write(sql).unwrap();
        assert_eq!(text(sql, w.alias.unwrap()), "x");
        let of: Vec<_> = w.assigned.iter().map(|a| (a.column.as_str(), a.of.clone())).collect();
        assert_eq!(of, [("n", Some(vec!["n".to_owned()])), ("m", None)]);
        assert_eq!(text(sql, w.condition.unwrap()), "x.id = 7 AND n < 4");
    }

    #[test]
    fn what_may_find_other_rows_is_loose() {
        let loose = |sql: &str| write(sql).unwrap_or_else(|e| panic!("{sql}: {e}")).loose.is_some();
        for sql in [
            "UPDATE t SET a = 1 WHERE b = 2 LIMIT 1",
            "DELETE FROM t ORDER BY b DESC LIMIT 3",
            "DELETE FROM t WHERE a IN (SELECT b FROM u)",
            "DELETE FROM t WHERE a < NOW()",
            "DELETE FROM t WHERE a < CURRENT_TIMESTAMP",
            "DELETE FROM t WHERE a = @@sql_mode",
            "DELETE FROM t WHERE SOUNDEX(a) = 'x'",
            "UPDATE t SET a = (@x := @x + 1) WHERE b = @x",
        ] {
            assert!(loose(sql), "{sql}");
        }
        for sql in [
            "UPDATE t SET a = 1 ORDER BY b DESC",
            "DELETE FROM t WHERE a = @x",
            "DELETE FROM t WHERE CASE WHEN a > 1 THEN b ELSE COALESCE(c, 2) END = 3",
        ] {
            assert!(!loose(sql), "{sql}");
        }
        let sql = "UPDATE t SET a = 1 WHERE b = 2 ORDER BY c, d LIMIT 5";
        let (tail, limit) = write(sql).unwrap().tail.unwrap();
        assert_eq!((text(sql, tail), limit), ("ORDER BY c, d LIMIT 5", true));
        assert!(!write("DELETE FROM t ORDER BY c").unwrap().tail.unwrap().1);
    }

    #[test]
    fn expressions_that_come_to_the_same() {
        let shape = |value: &str| write(&format!("INSERT INTO t VALUES ({value})")).unwrap().rows[0][0];
        for value in ["1 + 2", "CONCAT('a', @b)", "@a", "CAST('5' AS UNSIGNED)", "-@a", "IF(1 < 2, 'a', NULL)"] {
            assert!(matches!(shape(value), Expr::Repeats(_)), "{value}");
        }
        for value in ["a", "NOW()", "UUID()", "(SELECT 1)", "`a`", "a + 1", "f(1)", "@@port", "@a := 1"] {
            assert_eq!(shape(value), Expr::Other, "{value}");
        }
    }

    #[test]
    fn rows_may_come_from_a_query() {
        let sql = "INSERT INTO t (a, b) SELECT u.x, CONCAT(y, ',') AS z FROM u JOIN v ON u.i = v.i WHERE x > 3";
        let select = write(sql).unwrap().select.unwrap();
        let items: Vec<&str> = select.items.iter().map(|s| text(sql, *s)).collect();
        assert_eq!(items, ["u.x", "CONCAT(y, ',') AS z"]);
        assert_eq!(text(sql, select.from.unwrap()), "FROM u JOIN v ON u.i = v.i WHERE x > 3");
        assert!(select.repeats);
        for sql in [
            "INSERT INTO t SELECT a FROM t",
            "INSERT INTO t SELECT RAND() FROM u",
            "INSERT INTO t SELECT a FROM (SELECT 1 AS a) x",
        ] {
            assert!(!write(sql).unwrap().select.unwrap().repeats, "{sql}");
        }
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for sql in [
            "INSERT INTO t SELECT * FROM u LIMIT 3",
            "INSERT INTO t (a) SELECT 1 UNION SELECT 2",
            "INSERT INTO t (a) SELECT b FROM u FOR UPDATE",
            "INSERT INTO t (a) SELECT b FROM u ON DUPLICATE KEY UPDATE a = 1",
            "INSERT INTO t (a) WITH u AS (SELECT 1 AS b) SELECT b FROM u",
            "INSERT DELAYED INTO t VALUES (1)",
            "INSERT INTO t VALUES (1) RETURNING id",
            "INSERT INTO t PARTITION (p) VALUES (1)",
            "REPLACE INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1",
            "INSERT INTO t VALUES (1",
            "INSERT INTO t VALUES 1",
            "INSERT INTO t VALUES (?)",
            "INSERT INTO t VALUES (1); DELETE FROM t",
            "INSERT /*!50000 IGNORE */ INTO t VALUES (1)",
            "UPDATE t, u SET t.a = 1",
            "UPDATE t JOIN u SET t.a = 1",
            "UPDATE t FOR PORTION OF p FROM 1 TO 2 SET a = 1",
            "DELETE t FROM t JOIN u",
            "DELETE FROM t USING t, u",
            "DELETE FROM t WHERE RAND() < 0.5",
            "DELETE FROM t WHERE (@n := @n + 1) < 3",
            "DELETE FROM t WHERE",
            "DELETE FROM t WHERE a = UUID()",
            "DELETE FROM t WHERE a = NEXT VALUE FOR s",
            "DELETE FROM t WHERE LAST_INSERT_ID(a)",
            "DELETE FROM t ORDER BY RAND() LIMIT 1",
            "DELETE FROM t WHERE a = 1 LIMIT 1 RETURNING a",
            "LOAD DATA INFILE 'x' INTO TABLE t",
            "WITH x AS (SELECT 1) DELETE FROM t",
        ] {
            assert!(write(sql).is_err(), "{sql}: {:?}", write(sql));
        }
    }

    proptest! {
        /// Invariant 9: no text makes it panic.
        #[test]
        fn any_text(head in "(INSERT|UPDATE|DELETE FROM|REPLACE) ", tail in "[a-z(),=`'\\. ]{0,40}", bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut sql = format!("{head}t {tail}").into_bytes();
            let _ = read(&sql, &Dialect::default());
            sql.extend(bytes);
            let _ = read(&sql, &Dialect::default());
        }
    }
}
