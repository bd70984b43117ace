//! What EXECUTE … USING hands to a dynamic statement.

use super::dialect::Dialect;
use super::lex::{Lexeme, Lexer, Token};

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// `@name`, unquoted.
    Variable(String),
    /// A literal, as it stands.
    Literal(String),
}

/// The values behind USING, none where there is no USING; `None` where one is neither a variable nor a literal.
#[must_use]
pub fn arguments(sql: &[u8], dialect: &Dialect) -> Option<Vec<Argument>> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next_token();
        match token.lexeme {
            Lexeme::End | Lexeme::Op(b';') => break,
            Lexeme::Acting(_) => {}
            _ => tokens.push(token),
        }
    }
    let is_using = |t: &Token| t.lexeme == Lexeme::Word && slice(sql, t).eq_ignore_ascii_case(b"USING");
    // (the text of EXECUTE IMMEDIATE is one literal or variable: a USING inside is not seen)
    let Some(at) = tokens.iter().position(is_using) else { return Some(Vec::new()) };
    let list = tokens.get(at + 1..)?;
    list.split(|t| t.lexeme == Lexeme::Op(b',')).map(|tokens| argument(sql, tokens)).collect()
}

fn slice<'a>(sql: &'a [u8], token: &Token) -> &'a [u8] {
    sql.get(token.start..token.end).unwrap_or_default()
}

fn argument(sql: &[u8], tokens: &[Token]) -> Option<Argument> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    match tokens {
        [one] if one.lexeme == Lexeme::UserVariable => {
            let name = text(slice(sql, one).strip_prefix(b"@")?)?;
            let name = match name.chars().next()? {
                quote @ ('`' | '\'' | '"') => {
                    let inner = name.get(1..name.len().checked_sub(1)?)?;
                    // what is escaped in it is not read
                    if inner.contains([quote, '\\']) {
                        return None;
                    }
                    inner.to_owned()
                }
                _ => name,
            };
            Some(Argument::Variable(name))
        }
        [one] if matches!(one.lexeme, Lexeme::Number | Lexeme::Text) => text(slice(sql, one)).map(Argument::Literal),
        [sign, one] if sign.lexeme == Lexeme::Op(b'-') && one.lexeme == Lexeme::Number => {
            text(sql.get(sign.start..one.end)?).map(Argument::Literal)
        }
        [one] if slice(sql, one).eq_ignore_ascii_case(b"NULL") => Some(Argument::Literal("NULL".to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<Vec<Argument>> {
        arguments(sql.as_bytes(), &Dialect::default())
    }

    #[test]
    fn values_behind_using() {
        let variable = |name: &str| Argument::Variable(name.into());
        let literal = |text: &str| Argument::Literal(text.into());
        assert_eq!(of("EXECUTE s"), Some(vec![]));
        assert_eq!(of("EXECUTE s USING @a, @`b c`, @'d';"), Some(vec![variable("a"), variable("b c"), variable("d")]));
        assert_eq!(
            of("EXECUTE IMMEDIATE 'DELETE FROM t USING u' USING 1, -2, 'x, y', NULL"),
            Some(vec![literal("1"), literal("-2"), literal("'x, y'"), literal("NULL")])
        );
        for sql in ["EXECUTE s USING a", "EXECUTE s USING @a + 1", "EXECUTE s USING @a,", "EXECUTE s USING @`a``b`"] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }
}
