//! Whether a read answers the same whoever asks it, and when: only such reads can be compared between two stores. And whether its text
//! fixes the order, and the choice, of its rows.
//!
//! It goes by tokens, and doubts against the read: what depends on the time, the session or chance, what locks, what leaves something
//! behind, and what executable comments hide is refused. Functions: MariaDB 10.11 and MySQL 8.0 manual.

use super::dialect::Dialect;
use super::lex::{Acting, Lexeme, Lexer};
use super::volatile::{MOMENT, NEVER_TWICE};

/// What the text fixes of an answer's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Form {
    /// An ORDER BY of the whole.
    pub ordered: bool,
    /// A LIMIT of the whole: without an order, any rows are right.
    pub limited: bool,
}

/// Functions whose value is that of the moment, the session or the server, beside those that never say the same twice.
const CALLS: [&str; 26] = [
    "NOW",
    "SYSDATE",
    "CURDATE",
    "CURTIME",
    "IS_FREE_LOCK",
    "IS_USED_LOCK",
    "CONNECTION_ID",
    "LAST_INSERT_ID",
    "FOUND_ROWS",
    "ROW_COUNT",
    "USER",
    "SESSION_USER",
    "SYSTEM_USER",
    "CURRENT_USER",
    "CURRENT_ROLE",
    "VERSION",
    "SOURCE_POS_WAIT",
    "WAIT_FOR_EXECUTED_GTID_SET",
    "BINLOG_GTID_POS",
    "ENCRYPT",
    "COLLATION",
    "CHARSET",
    "COERCIBILITY",
    "ROLES_GRAPHML",
    "PS_CURRENT_THREAD_ID",
    "ICU_VERSION",
];

/// Words that lock, write or count.
const WORDS: [&str; 4] = ["INTO", "PROCEDURE", "NEXT", "PREVIOUS"];

/// The words before this one, as far as they matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Call,
    UnixTimestamp,
    UnixTimestampOpen,
    Order,
    For,
    Lock,
    Other,
}

/// What a read's text fixes; `None` where its answer is not to be compared.
#[must_use]
pub fn repeats(sql: &[u8], dialect: &Dialect) -> Option<Form> {
    let mut lexer = Lexer::new(sql, dialect);
    let (mut form, mut depth, mut before) = (Form::default(), 0_u32, Before::Nothing);
    loop {
        let token = lexer.next_token();
        let bytes = lexer.bytes(&token);
        let is = |word: &str| bytes.eq_ignore_ascii_case(word.as_bytes());
        before = match token.lexeme {
            Lexeme::End => return (before != Before::Nothing).then_some(form),
            Lexeme::Acting(Acting::OptimizerHint) => before,
            Lexeme::UserVariable
            | Lexeme::SystemVariable
            | Lexeme::Assign
            | Lexeme::Parameter
            | Lexeme::Acting(_)
            | Lexeme::Op(b';') => {
                let ends = before != Before::Nothing && ends(lexer, token.lexeme);
                return ends.then_some(form);
            }
            Lexeme::Op(b'(') => {
                depth += 1;
                match before {
                    Before::Call => return None,
                    Before::UnixTimestamp => Before::UnixTimestampOpen,
                    Before::Nothing => Before::Nothing,
                    _ => Before::Other,
                }
            }
            Lexeme::Op(b')') if before == Before::UnixTimestampOpen => return None,
            Lexeme::Op(b')') => {
                depth = depth.saturating_sub(1);
                Before::Other
            }
            Lexeme::Word if before == Before::Nothing => {
                if !["SELECT", "WITH", "TABLE", "VALUES"].iter().any(|w| is(w)) {
                    return None;
                }
                Before::Other
            }
            Lexeme::Word => {
                let locks =
                    before == Before::For && (is("UPDATE") || is("SHARE")) || before == Before::Lock && is("IN");
                if locks || WORDS.iter().chain(MOMENT).any(|w| is(w)) {
                    return None;
                }
                form.ordered |= depth == 0 && before == Before::Order && is("BY");
                form.limited |= depth == 0 && (is("LIMIT") || is("FETCH"));
                word(&is)
            }
            _ if before == Before::Nothing => return None,
            _ => Before::Other,
        };
    }
}

fn word(is: &impl Fn(&str) -> bool) -> Before {
    match () {
        () if is("ORDER") => Before::Order,
        () if is("FOR") => Before::For,
        () if is("LOCK") => Before::Lock,
        () if is("UNIX_TIMESTAMP") => Before::UnixTimestamp,
        () if CALLS.iter().chain(NEVER_TWICE).any(|w| is(w)) => Before::Call,
        () => Before::Other,
    }
}

/// Whether this is a semicolon that nothing follows.
fn ends(mut lexer: Lexer<'_>, lexeme: Lexeme) -> bool {
    lexeme == Lexeme::Op(b';') && lexer.next_token().lexeme == Lexeme::End
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Option<Form> {
        repeats(sql.as_bytes(), &Dialect::default())
    }

    #[test]
    fn what_is_compared() {
        let plain = Some(Form::default());
        for sql in [
            "SELECT a, user FROM t WHERE b = 'NOW()'",
            "(SELECT a FROM t ORDER BY a) UNION ALL (SELECT 2)",
            "SELECT COUNT(*), UNIX_TIMESTAMP(at) FROM t GROUP BY 2;",
            "WITH x AS (SELECT 1 LIMIT 1) SELECT * FROM x",
            "SELECT GROUP_CONCAT(a ORDER BY b), DATABASE() FROM t",
            "SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t",
            "SELECT t.now, `rand` FROM t",
            "/* a comment */ SELECT /*+ MAX_EXECUTION_TIME(9) */ 1",
        ] {
            assert_eq!(of(sql), plain, "{sql}");
        }
        assert_eq!(of("SELECT a FROM t ORDER BY a"), Some(Form { ordered: true, limited: false }));
        assert_eq!(of("SELECT a FROM t LIMIT 5"), Some(Form { ordered: false, limited: true }));
        assert_eq!(of("(SELECT 1) UNION (SELECT 2) ORDER BY 1 LIMIT 1"), Some(Form { ordered: true, limited: true }));
    }

    #[test]
    fn what_is_not() {
        for sql in [
            "",
            ";",
            "SHOW TABLES",
            "UPDATE t SET a = 1",
            "SELECT NOW()",
            "SELECT now ( ) FROM t",
            "SELECT CURRENT_TIMESTAMP",
            "SELECT a FROM t WHERE at > CURRENT_DATE - INTERVAL 1 DAY",
            "SELECT UNIX_TIMESTAMP()",
            "SELECT UNIX_TIMESTAMP( ) - 5",
            "SELECT RAND(5)",
            "SELECT @a",
            "SELECT @@version",
            "SELECT a FROM t WHERE b = ?",
            "SELECT a INTO OUTFILE 'x' FROM t",
            "SELECT a FROM t FOR UPDATE",
            "SELECT a FROM t FOR SHARE SKIP LOCKED",
            "SELECT a FROM t LOCK IN SHARE MODE",
            "SELECT 1; SELECT 2",
            "SELECT /*!50000 1 */",
            "/* switchover:store=new */ SELECT 1",
            "SELECT LAST_INSERT_ID()",
            "SELECT GET_LOCK('a', 1)",
            "SELECT NEXT VALUE FOR s",
        ] {
            assert_eq!(of(sql), None, "{sql}");
        }
    }
}
