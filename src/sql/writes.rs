//! What a write does to the rows of one table, as far as recording them needs it: text → [`Write`], or why it cannot be recorded.
//!
//! Recording reads the rows before and after the write, so the values that it sets may be anything; what must be plain is how
//! its rows are found. An INSERT names them by literals of the key (or leaves the key to AUTO_INCREMENT), UPDATE and DELETE by a
//! condition that means the same twice: no subquery, no variable that it assigns, no function that is not known to depend on its
//! arguments alone. Where the condition fixes whole keys by literals ([`Write::fixed`]), rows are found without asking first.
//!
//! Nothing is guessed: what this does not read is refused. Source: MariaDB 10.11 `sql_yacc.yy`.

use super::dialect::Dialect;
use super::facts::Span;
use super::lex::{Acting, Lexeme, Lexer, Token};

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
    /// Anything else.
    Other,
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
    /// Columns that SET, or ON DUPLICATE KEY UPDATE, assigns.
    pub assigned: Vec<String>,
    /// The condition behind WHERE.
    pub condition: Option<Span>,
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

use Unrecordable::{Condition, Form};

/// Functions whose value is that of their arguments alone.
const DETERMINISTIC: [&str; 44] = [
    "IN",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "BETWEEN",
    "LIKE",
    "IS",
    "DIV",
    "MOD",
    "WHEN",
    "THEN",
    "ELSE",
    "CASE",
    "INTERVAL",
    "COALESCE",
    "IFNULL",
    "NULLIF",
    "IF",
    "LOWER",
    "UPPER",
    "CONCAT",
    "LENGTH",
    "CHAR_LENGTH",
    "LEFT",
    "RIGHT",
    "SUBSTRING",
    "SUBSTR",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "REPLACE",
    "ABS",
    "ROUND",
    "FLOOR",
    "CEIL",
    "CEILING",
    "LEAST",
    "GREATEST",
    "DATE",
    "YEAR",
    "MONTH",
    "DAY",
    "HEX",
];
/// Words that make a condition read more than its row, or depend on the moment.
const READS_MORE: [&str; 14] = [
    "SELECT",
    "WITH",
    "MATCH",
    "CURRENT_TIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "LOCALTIME",
    "LOCALTIMESTAMP",
    "UTC_DATE",
    "UTC_TIME",
    "UTC_TIMESTAMP",
    "CURRENT_USER",
    "CURRENT_ROLE",
    "NEXT",
];

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
    let mut cursor = Cursor { sql, tokens: &tokens, at: 0 };
    match () {
        () if cursor.eat("INSERT") => cursor.insert(false),
        () if cursor.eat("REPLACE") => cursor.insert(true),
        () if cursor.eat("UPDATE") => cursor.update(),
        () if cursor.eat("DELETE") => cursor.delete(),
        () => Err(Form("it is no INSERT, REPLACE, UPDATE or DELETE of one table")),
    }
}

struct Cursor<'a> {
    sql: &'a [u8],
    tokens: &'a [Token],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn bytes(&self, token: &Token) -> &'a [u8] {
        self.sql.get(token.start..token.end).unwrap_or_default()
    }

    fn is(&self, token: &Token, word: &str) -> bool {
        token.lexeme == Lexeme::Word && self.bytes(token).eq_ignore_ascii_case(word.as_bytes())
    }

    fn next_is(&self, word: &str) -> bool {
        self.peek().is_some_and(|t| self.is(t, word))
    }

    fn eat(&mut self, word: &str) -> bool {
        let there = self.next_is(word);
        self.at += usize::from(there);
        there
    }

    fn eat_op(&mut self, op: u8) -> bool {
        let there = self.peek().is_some_and(|t| t.lexeme == Lexeme::Op(op));
        self.at += usize::from(there);
        there
    }

    fn unquoted(&self, token: &Token) -> String {
        let bytes = self.bytes(token);
        let text = String::from_utf8_lossy(bytes).into_owned();
        match bytes.first() {
            Some(quote @ (b'`' | b'"')) if token.lexeme == Lexeme::Quoted => {
                let quote = char::from(*quote);
                let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                inner.replace(&format!("{quote}{quote}"), &quote.to_string())
            }
            _ => text,
        }
    }

    /// `a`, `a.b` or `a.b.c`: the parts, and where they stand.
    fn name(&mut self) -> Option<(Vec<String>, Span)> {
        let first = *self.peek()?;
        if !matches!(first.lexeme, Lexeme::Word | Lexeme::Quoted) {
            return None;
        }
        let mut parts = vec![self.unquoted(&first)];
        let mut end = first.end;
        self.at += 1;
        while self.peek().is_some_and(|t| t.lexeme == Lexeme::Op(b'.')) {
            let member = *self.tokens.get(self.at + 1)?;
            if !matches!(member.lexeme, Lexeme::Word | Lexeme::Quoted | Lexeme::Member) {
                return None;
            }
            parts.push(self.unquoted(&member));
            end = member.end;
            self.at += 2;
        }
        let span = Token { lexeme: Lexeme::Word, start: first.start, end }.span();
        Some((parts, span))
    }

    fn table(&mut self, verb: Verb) -> Result<Write, Unrecordable> {
        let (mut parts, table) = self.name().ok_or(Form("its table cannot be told"))?;
        let name = parts.pop().unwrap_or_default();
        let database = parts.pop();
        if !parts.is_empty() {
            return Err(Form("its table cannot be told"));
        }
        Ok(Write {
            verb,
            table,
            database,
            name,
            alias: None,
            columns: None,
            rows: Vec::new(),
            assigned: Vec::new(),
            condition: None,
            fixed: Vec::new(),
        })
    }

    /// `[AS] alias`, where one stands before one of these words or the end.
    fn alias(&mut self, before: &[&str]) -> Option<Span> {
        self.eat("AS");
        let token = self.peek()?;
        if before.iter().any(|word| self.is(token, word)) || !matches!(token.lexeme, Lexeme::Word | Lexeme::Quoted) {
            return None;
        }
        self.at += 1;
        Some(token.span())
    }

    fn insert(&mut self, replace: bool) -> Result<Write, Unrecordable> {
        if self.eat("DELAYED") {
            return Err(Form("INSERT DELAYED is written later"));
        }
        let _ = self.eat("LOW_PRIORITY") || self.eat("HIGH_PRIORITY");
        let ignore = self.eat("IGNORE");
        self.eat("INTO");
        let verb = if replace { Verb::Replace } else { Verb::Insert { ignore, upsert: false } };
        let mut write = self.table(verb)?;
        if self.eat("SET") {
            self.set_row(&mut write)?;
        } else {
            if self.eat_op(b'(') {
                write.columns = Some(self.column_list()?);
            }
            if !(self.eat("VALUES") || self.eat("VALUE")) {
                return Err(Form("its rows come from a query, or in a way that is not read"));
            }
            loop {
                if !self.eat_op(b'(') {
                    return Err(Form("its rows cannot be told"));
                }
                let row = self.row()?;
                write.rows.push(row);
                if !self.eat_op(b',') {
                    break;
                }
            }
        }
        if self.eat("ON") {
            if !(self.eat("DUPLICATE") && self.eat("KEY") && self.eat("UPDATE")) || replace {
                return Err(Form("its rows cannot be told"));
            }
            write.verb = Verb::Insert { ignore, upsert: true };
            write.assigned = self.assignments(&[])?;
        }
        self.end()?;
        Ok(write)
    }

    /// Nothing may follow.
    fn end(&self) -> Result<(), Unrecordable> {
        match self.peek() {
            None => Ok(()),
            Some(token) if self.is(token, "RETURNING") => Err(Form("RETURNING is not recorded")),
            Some(token) if self.is(token, "LIMIT") || self.is(token, "ORDER") => {
                Err(Form("with LIMIT, which rows it takes may change between two readings"))
            }
            Some(_) => Err(Form("it has a form that is not read")),
        }
    }

    fn column_list(&mut self) -> Result<Vec<String>, Unrecordable> {
        let wrong = Form("its columns cannot be told");
        let mut columns = Vec::new();
        if self.eat_op(b')') {
            return Ok(columns);
        }
        loop {
            let (mut parts, _) = self.name().ok_or(wrong)?;
            columns.push(parts.pop().unwrap_or_default());
            if self.eat_op(b')') {
                return Ok(columns);
            }
            if !self.eat_op(b',') {
                return Err(wrong);
            }
        }
    }

    /// The values up to the `)` of the row.
    fn row(&mut self) -> Result<Vec<Expr>, Unrecordable> {
        let mut row = Vec::new();
        if self.eat_op(b')') {
            return Ok(row);
        }
        loop {
            let (expr, closed) = self.expression()?;
            row.push(expr);
            match closed {
                Some(b')') => return Ok(row),
                Some(_) => {}
                None => return Err(Form("its rows cannot be told")),
            }
        }
    }

    /// One expression, up to the `,` or `)` that ends it (which is taken), or to the end.
    fn expression(&mut self) -> Result<(Expr, Option<u8>), Unrecordable> {
        let start = self.at;
        let (end, closed) = self.up_to_comma(&[])?;
        let tokens = self.tokens.get(start..end).unwrap_or_default();
        Ok((self.literal(tokens), closed))
    }

    /// Moves behind the next `,` or unmatched `)`, or to one of the words; where that stood, and what it was.
    fn up_to_comma(&mut self, words: &[&str]) -> Result<(usize, Option<u8>), Unrecordable> {
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(close @ (b')' | b',')) if depth == 0 => {
                    self.at += 1;
                    return Ok((self.at - 1, Some(close)));
                }
                Lexeme::Op(b')') => depth -= 1,
                Lexeme::Word if depth == 0 && words.iter().any(|word| self.is(token, word)) => {
                    return Ok((self.at, None));
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok((self.at, None))
    }

    fn literal(&self, tokens: &[Token]) -> Expr {
        match tokens {
            [one] if matches!(one.lexeme, Lexeme::Text | Lexeme::Number) => Expr::Literal(one.span()),
            [sign, one] if matches!(sign.lexeme, Lexeme::Op(b'-' | b'+')) && one.lexeme == Lexeme::Number => {
                Expr::Literal(Span { start: sign.span().start, end: one.span().end })
            }
            // _latin1'x', _binary X'00'; DATE'2020-01-01'
            [word, one] if self.introduces(word, one) => {
                Expr::Literal(Span { start: word.span().start, end: one.span().end })
            }
            [one] if self.is(one, "NULL") => Expr::Null,
            [one] if self.is(one, "DEFAULT") => Expr::Default,
            _ => Expr::Other,
        }
    }

    fn introduces(&self, word: &Token, one: &Token) -> bool {
        let is_value = match one.lexeme {
            Lexeme::Text => true,
            Lexeme::Number => self.bytes(one).ends_with(b"'"),
            _ => false,
        };
        let types = ["DATE", "TIME", "TIMESTAMP"].iter().any(|w| self.is(word, w)) && one.lexeme == Lexeme::Text;
        is_value && word.lexeme == Lexeme::Word && (types || self.bytes(word).starts_with(b"_"))
    }

    /// `INSERT … SET a = 1, b = 2`: one row.
    fn set_row(&mut self, write: &mut Write) -> Result<(), Unrecordable> {
        let (mut columns, mut row) = (Vec::new(), Vec::new());
        loop {
            let (mut parts, _) = self.name().ok_or(Form("its columns cannot be told"))?;
            columns.push(parts.pop().unwrap_or_default());
            if !(self.eat_op(b'=') || self.eat_assign()) {
                return Err(Form("its columns cannot be told"));
            }
            let start = self.at;
            let (end, closed) = self.up_to_comma(&["ON", "RETURNING"])?;
            row.push(self.literal(self.tokens.get(start..end).unwrap_or_default()));
            match closed {
                Some(b',') => {}
                Some(_) => return Err(Form("its columns cannot be told")),
                None => break,
            }
        }
        write.columns = Some(columns);
        write.rows.push(row);
        Ok(())
    }

    fn eat_assign(&mut self) -> bool {
        let there = self.peek().is_some_and(|t| t.lexeme == Lexeme::Assign);
        self.at += usize::from(there);
        there
    }

    /// The columns of `a = …, b = …`, up to one of the words or the end.
    fn assignments(&mut self, words: &[&str]) -> Result<Vec<String>, Unrecordable> {
        let wrong = Form("the columns that it sets cannot be told");
        let words: Vec<&str> = words.iter().copied().chain(["RETURNING", "ORDER", "LIMIT"]).collect();
        let mut columns = Vec::new();
        loop {
            let (mut parts, _) = self.name().ok_or(wrong)?;
            columns.push(parts.pop().unwrap_or_default());
            if !(self.eat_op(b'=') || self.eat_assign()) {
                return Err(wrong);
            }
            match self.up_to_comma(&words)?.1 {
                Some(b',') => {}
                Some(_) => return Err(wrong),
                None => return Ok(columns),
            }
        }
    }

    fn update(&mut self) -> Result<Write, Unrecordable> {
        self.eat("LOW_PRIORITY");
        self.eat("IGNORE");
        let mut write = self.table(Verb::Update)?;
        write.alias = self.alias(&["SET", "FOR", "PARTITION", "USE", "FORCE", "IGNORE", "JOIN", "INNER", "LEFT"]);
        if !self.eat("SET") {
            return Err(Form("it has several tables, or a form that is not read"));
        }
        write.assigned = self.assignments(&["WHERE"])?;
        self.condition(&mut write)?;
        Ok(write)
    }

    fn delete(&mut self) -> Result<Write, Unrecordable> {
        while self.eat("LOW_PRIORITY") || self.eat("QUICK") || self.eat("IGNORE") {}
        if !self.eat("FROM") {
            return Err(Form("it has several tables, or a form that is not read"));
        }
        let mut write = self.table(Verb::Delete)?;
        write.alias = self.alias(&["WHERE", "ORDER", "LIMIT", "RETURNING", "USING", "FOR", "PARTITION"]);
        self.condition(&mut write)?;
        Ok(write)
    }

    fn condition(&mut self, write: &mut Write) -> Result<(), Unrecordable> {
        if !self.eat("WHERE") {
            return self.end();
        }
        let start = self.at;
        let mut depth = 0usize;
        while let Some(token) = self.peek() {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(b')') => depth = depth.saturating_sub(1),
                _ if depth == 0 && ["ORDER", "LIMIT", "RETURNING"].iter().any(|w| self.is(token, w)) => break,
                _ => {}
            }
            self.at += 1;
        }
        let tokens = self.tokens.get(start..self.at).unwrap_or_default();
        self.end()?;
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Err(Form("it ends early")) };
        self.means_the_same_twice(tokens)?;
        write.condition = Some(Span { start: first.span().start, end: last.span().end });
        write.fixed = self.fixed(tokens);
        Ok(())
    }

    fn means_the_same_twice(&self, tokens: &[Token]) -> Result<(), Unrecordable> {
        for (n, token) in tokens.iter().enumerate() {
            match token.lexeme {
                Lexeme::Assign => return Err(Condition("it assigns a variable")),
                Lexeme::SystemVariable => return Err(Condition("it reads a variable of the server")),
                Lexeme::Word if READS_MORE.iter().any(|word| self.is(token, word)) => {
                    return Err(Condition("a subquery, or the moment"));
                }
                Lexeme::Word | Lexeme::Member | Lexeme::Quoted => {
                    let called = tokens.get(n + 1).is_some_and(|t| t.lexeme == Lexeme::Op(b'('));
                    if called && !DETERMINISTIC.iter().any(|word| self.is(token, word)) {
                        return Err(Condition("a function"));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The columns that a conjunction of `column = literal` and `column IN (literals)` fixes; none where it is more than that.
    fn fixed(&self, tokens: &[Token]) -> Vec<(String, Vec<Span>)> {
        let mut fixed = Vec::new();
        let mut depth = 0usize;
        let mut from = 0;
        let mut parts = Vec::new();
        let mut between = false;
        for (n, token) in tokens.iter().enumerate() {
            match token.lexeme {
                Lexeme::Op(b'(') => depth += 1,
                Lexeme::Op(b')') => depth = depth.saturating_sub(1),
                Lexeme::Op(b'|' | b'!' | b'&') if depth == 0 => return fixed,
                Lexeme::Word if depth == 0 && ["OR", "XOR", "NOT", "CASE"].iter().any(|w| self.is(token, w)) => {
                    return fixed;
                }
                Lexeme::Word if depth == 0 && self.is(token, "BETWEEN") => between = true,
                Lexeme::Word if depth == 0 && self.is(token, "AND") && !std::mem::take(&mut between) => {
                    parts.extend(tokens.get(from..n));
                    from = n + 1;
                }
                _ => {}
            }
        }
        parts.extend(tokens.get(from..));
        for part in parts {
            let mut cursor = Cursor { sql: self.sql, tokens: part, at: 0 };
            let Some((mut names, _)) = cursor.name() else { continue };
            let column = names.pop().unwrap_or_default();
            let rest = part.get(cursor.at..).unwrap_or_default();
            match rest {
                [equals, value @ ..] if equals.lexeme == Lexeme::Op(b'=') => {
                    if let Expr::Literal(span) = self.literal(value) {
                        fixed.push((column, vec![span]));
                    }
                }
                [word, open, ..] if self.is(word, "IN") && open.lexeme == Lexeme::Op(b'(') => {
                    let mut cursor = Cursor { sql: self.sql, tokens: rest, at: 2 };
                    let Ok(row) = cursor.row() else { continue };
                    let literal = |e: &Expr| if let Expr::Literal(span) = e { Some(*span) } else { None };
                    let spans: Option<Vec<Span>> = row.iter().map(literal).collect();
                    if let (Some(spans), None) = (spans, cursor.peek()) {
                        fixed.push((column, spans));
                    }
                }
                _ => {}
            }
        }
        fixed
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
        assert_eq!(w.assigned, ["n", "m"]);
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
        assert_eq!(
            (text(sql, w.alias.unwrap()), w.assigned.as_slice()),
            ("x", ["n".to_owned(), "m".to_owned()].as_slice())
        );
        assert_eq!(text(sql, w.condition.unwrap()), "x.id = 7 AND n < 4");
    }

    #[test]
    fn what_cannot_be_told_is_refused() {
        for sql in [
            "INSERT INTO t SELECT * FROM u",
            "INSERT INTO t (a) SELECT 1",
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
            "UPDATE t SET a = 1 ORDER BY b",
            "UPDATE t SET a = 1 WHERE b = 2 LIMIT 1",
            "UPDATE t FOR PORTION OF p FROM 1 TO 2 SET a = 1",
            "DELETE t FROM t JOIN u",
            "DELETE FROM t USING t, u",
            "DELETE FROM t WHERE a IN (SELECT b FROM u)",
            "DELETE FROM t WHERE a < NOW()",
            "DELETE FROM t WHERE a < CURRENT_TIMESTAMP",
            "DELETE FROM t WHERE RAND() < 0.5",
            "DELETE FROM t WHERE f(a)",
            "DELETE FROM t WHERE d.f(a)",
            "DELETE FROM t WHERE (@n := @n + 1) < 3",
            "DELETE FROM t WHERE a = @@sql_mode",
            "DELETE FROM t WHERE",
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
