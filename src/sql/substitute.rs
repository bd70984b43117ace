//! Puts values in the place of functions without arguments: `CONNECTION_ID()` of a client that shares its connections.
//!
//! The name of a result's column stays what it was: where such a function is an item of a select list on its own, it gets its
//! text as an alias.

use super::dialect::Dialect;
use super::lex::{Lexeme, Lexer, Token};

/// `sql` with every `name()` replaced by its value.
#[must_use]
pub fn substitute(sql: &[u8], dialect: &Dialect, values: &[(&str, String)]) -> Vec<u8> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token();
        tokens.push(token);
        if token.lexeme == Lexeme::End {
            break;
        }
    }
    let mut out = Vec::with_capacity(sql.len() + 32);
    let mut copied = 0;
    let mut depth = 0_usize;
    let mut in_list = false;
    for (i, token) in tokens.iter().enumerate() {
        match token.lexeme {
            Lexeme::Op(b'(') => depth += 1,
            Lexeme::Op(b')') => depth = depth.saturating_sub(1),
            Lexeme::Word if depth == 0 => in_list = follows(slice(sql, token), in_list),
            _ => {}
        }
        let Some(value) = called(sql, &tokens, i, values) else { continue };
        let Some(close) = tokens.get(i + 2) else { continue };
        out.extend_from_slice(sql.get(copied..token.start).unwrap_or_default());
        out.extend_from_slice(value.as_bytes());
        copied = close.end;
        if depth == 0 && in_list && alone(sql, &tokens, i) {
            let text = sql.get(token.start..close.end).unwrap_or_default();
            out.extend_from_slice(b" AS `");
            out.extend_from_slice(text);
            out.push(b'`');
        }
    }
    out.extend_from_slice(sql.get(copied..).unwrap_or_default());
    out
}

fn slice<'a>(sql: &'a [u8], token: &Token) -> &'a [u8] {
    sql.get(token.start..token.end).unwrap_or_default()
}

/// Whether a select list is open after this word.
fn follows(word: &[u8], in_list: bool) -> bool {
    const ENDS: [&str; 12] =
        ["FROM", "WHERE", "GROUP", "ORDER", "HAVING", "LIMIT", "SET", "VALUES", "INTO", "UNION", "FOR", "BY"];
    if word.eq_ignore_ascii_case(b"SELECT") {
        return true;
    }
    in_list && !ENDS.iter().any(|e| word.eq_ignore_ascii_case(e.as_bytes()))
}

/// The value of the function that is called at token `i`.
fn called<'v>(sql: &[u8], tokens: &[Token], i: usize, values: &'v [(&str, String)]) -> Option<&'v String> {
    let name = tokens.get(i).filter(|t| t.lexeme == Lexeme::Word)?;
    let (open, close) = (tokens.get(i + 1)?, tokens.get(i + 2)?);
    if open.lexeme != Lexeme::Op(b'(') || close.lexeme != Lexeme::Op(b')') {
        return None;
    }
    let name = slice(sql, name);
    values.iter().find(|(n, _)| name.eq_ignore_ascii_case(n.as_bytes())).map(|(_, v)| v)
}

/// Whether the call at token `i` is a whole item of a select list, without an alias.
fn alone(sql: &[u8], tokens: &[Token], i: usize) -> bool {
    let before = i.checked_sub(1).and_then(|i| tokens.get(i));
    let begins = before.is_some_and(|t| match t.lexeme {
        Lexeme::Op(b',') => true,
        Lexeme::Word => slice(sql, t).eq_ignore_ascii_case(b"SELECT"),
        _ => false,
    });
    let ends = tokens.get(i + 3).is_none_or(|t| match t.lexeme {
        Lexeme::End | Lexeme::Op(b',' | b';') => true,
        Lexeme::Word => {
            ["FROM", "LIMIT", "INTO", "UNION", "WHERE"].iter().any(|w| slice(sql, t).eq_ignore_ascii_case(w.as_bytes()))
        }
        _ => false,
    });
    begins && ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(sql: &str) -> String {
        let values = [("connection_id", "7".to_owned()), ("row_count", "-1".to_owned())];
        String::from_utf8(substitute(sql.as_bytes(), &Dialect::default(), &values)).unwrap()
    }

    #[test]
    fn functions_become_values_and_columns_keep_their_names() {
        assert_eq!(with("SELECT CONNECTION_ID()"), "SELECT 7 AS `CONNECTION_ID()`");
        assert_eq!(with("select connection_id(), 1"), "select 7 AS `connection_id()`, 1");
        assert_eq!(with("SELECT 1, Connection_Id( ) FROM t"), "SELECT 1, 7 AS `Connection_Id( )` FROM t");
        assert_eq!(with("SELECT CONNECTION_ID() AS id"), "SELECT 7 AS id");
        assert_eq!(with("SELECT CONNECTION_ID() + 1"), "SELECT 7 + 1");
        assert_eq!(with("SELECT ROW_COUNT();"), "SELECT -1 AS `ROW_COUNT()`;");
    }

    #[test]
    fn nothing_else_is_touched() {
        for sql in [
            "SELECT 'CONNECTION_ID()'",
            "SELECT `CONNECTION_ID`",
            "SELECT connection_id FROM t",
            "SELECT CONNECTION_ID(1)",
            "SELECT 1 -- CONNECTION_ID()",
        ] {
            assert_eq!(with(sql), sql);
        }
        assert_eq!(with("KILL CONNECTION_ID()"), "KILL 7");
        assert_eq!(with("INSERT INTO t VALUES (CONNECTION_ID())"), "INSERT INTO t VALUES (7)");
        assert_eq!(with("SELECT a FROM t GROUP BY a, CONNECTION_ID()"), "SELECT a FROM t GROUP BY a, 7");
        assert_eq!(with("SELECT a FROM t WHERE id = CONNECTION_ID()"), "SELECT a FROM t WHERE id = 7");
    }
}
