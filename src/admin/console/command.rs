//! The console's grammar: what a line asks for. Whatever is no command of its own is a SELECT, or what clients send by themselves.

use super::super::protocol::StandbyAction;
use super::expression::Refusal;
use super::tables::TABLES;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// SELECT, and SHOW of a table as the SELECT that it stands for.
    Select(String),
    /// A SHOW that clients send.
    ClientShow(ClientShow),
    /// EXPLAIN of one of the console's own statements.
    Plan(String),
    /// `SET group_connection = 'store'`, or with EXPLAIN before it: what it would do.
    Flag { group: String, store: String, dry_run: bool },
    /// `SET @why = 'text'`, `SET @force = 1`: what the next changes carry.
    Remember { name: String, value: String },
    /// PAUSE GROUP, RESUME GROUP.
    Pause { group: String, pause: bool },
    /// KILL, KILL QUERY.
    Kill { session: u64, query: bool },
    /// STANDBY RETRY group, STANDBY SKIP group 'transaction' 'reason', STANDBY INIT group ['position'], STANDBY END group.
    Standby { group: String, action: StandbyAction },
    /// ABORT group.
    Abort { group: String },
    /// SHOW READINESS FOR group.
    Readiness { group: String, to: Option<String> },
    /// SET LOG LEVEL 'level'.
    Log { level: String },
    /// What COM_RESET_CONNECTION stands for.
    Reset,
    /// RELOAD.
    Reload,
    /// EXPLAIN ROUTE statement.
    Explain(String),
    /// HELP.
    Help,
    /// What changes nothing here: SET NAMES, USE, BEGIN …
    Nothing,
}

/// A SHOW that clients send.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ClientShow {
    /// The words behind SHOW.
    pub(crate) what: String,
    /// FULL, EXTENDED.
    pub(crate) full: bool,
    /// What stands behind FROM, or is created: the table, or the database.
    pub(crate) of: Option<String>,
    /// The table's database, where it is named.
    pub(crate) database: Option<String>,
    /// LIKE.
    pub(crate) like: Option<String>,
    /// WHERE, and what stands behind it.
    pub(crate) filter: Option<String>,
}

/// A word, a quoted text, or a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    /// Not a word: in quotes of any kind.
    quoted: bool,
    start: usize,
}

/// The tokens of a line; comments are none.
fn tokens(sql: &str) -> Result<Vec<Token>, Refusal> {
    let bytes = sql.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    while at < bytes.len() {
        let start = at;
        match byte(at) {
            b if b.is_ascii_whitespace() || b == b';' => at += 1,
            b'/' if byte(at + 1) == b'*' => {
                let rest = sql.get(at + 2..).unwrap_or_default();
                at += 2 + rest.find("*/").map_or(rest.len(), |end| end + 2);
            }
            b'#' => at += sql.get(at..).and_then(|rest| rest.find('\n')).unwrap_or(bytes.len() - at),
            b'-' if byte(at + 1) == b'-' && (byte(at + 2).is_ascii_whitespace() || at + 2 == bytes.len()) => {
                at += sql.get(at..).and_then(|rest| rest.find('\n')).unwrap_or(bytes.len() - at);
            }
            quote @ (b'\'' | b'"' | b'`') => {
                let (text, end) =
                    quoted(sql, at, char::from(quote)).ok_or_else(|| Refusal::new(1064, "a quote is not closed"))?;
                out.push(Token { text, quoted: true, start });
                at = end;
            }
            b if b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'$' | b'.' | b'-') || b >= 0x80 => {
                let word =
                    |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'@' | b'$' | b'.' | b'-') || b >= 0x80;
                while at < bytes.len() && word(byte(at)) {
                    at += 1;
                }
                out.push(Token { text: sql.get(start..at).unwrap_or_default().to_owned(), quoted: false, start });
            }
            _ => {
                at += 1;
                while !sql.is_char_boundary(at) {
                    at += 1;
                }
                out.push(Token { text: sql.get(start..at).unwrap_or_default().to_owned(), quoted: false, start });
            }
        }
    }
    Ok(out)
}

/// A quoted text and where it ends; a doubled quote is one, as is what a backslash stands before.
fn quoted(sql: &str, start: usize, quote: char) -> Option<(String, usize)> {
    let mut text = String::new();
    let mut chars = sql.get(start + 1..)?.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote != '`' => text.push(chars.next()?.1),
            c if c == quote => match chars.peek() {
                Some((_, next)) if *next == quote => {
                    text.push(quote);
                    chars.next();
                }
                _ => return Some((text, start + 1 + at + quote.len_utf8())),
            },
            c => text.push(c),
        }
    }
    None
}

/// Reads a line.
///
/// # Errors
/// 1064 where it is none of the console's, with what is near to it.
pub(crate) fn read(sql: &str) -> Result<Command, Refusal> {
    let tokens = tokens(sql)?;
    let word = |at: usize| {
        let token = tokens.get(at).filter(|t| !t.quoted);
        token.map(|t| t.text.to_uppercase()).unwrap_or_default()
    };
    let rest = |at: usize| tokens.get(at).map_or("", |t| sql.get(t.start..).unwrap_or_default());
    let text = |at: usize| tokens.get(at).map(|t| t.text.clone()).filter(|t| !t.is_empty());
    let wants = |form: &str| Refusal::new(1064, format!("this reads: {form}"));
    match word(0).as_str() {
        "" => Err(Refusal::new(1065, "Query was empty")),
        "SELECT" | "(" => Ok(Command::Select(sql.trim().trim_end_matches(';').to_owned())),
        "SHOW" => show(sql, &tokens),
        "DESC" | "DESCRIBE" | "EXPLAIN" if matches!(word(1).as_str(), "SELECT" | "(") => {
            Ok(Command::Plan(rest(1).trim().trim_end_matches(';').to_owned()))
        }
        "DESC" | "DESCRIBE" => fields(&tokens).ok_or_else(|| wants("DESCRIBE table")),
        "EXPLAIN" => match word(1).as_str() {
            "ROUTE" if !rest(2).is_empty() => Ok(Command::Explain(rest(2).to_owned())),
            "ROUTE" => Err(wants("EXPLAIN ROUTE statement")),
            "SET" => match set(&tokens, 2, sql)? {
                Command::Flag { group, store, .. } => Ok(Command::Flag { group, store, dry_run: true }),
                _ => Err(wants("EXPLAIN SET group_connection = 'store'")),
            },
            _ => fields(&tokens).ok_or_else(|| wants("EXPLAIN ROUTE statement")),
        },
        "SET" => set(&tokens, 1, sql),
        verb @ ("PAUSE" | "RESUME") => {
            let form = format!("{verb} GROUP name");
            let named = tokens.len() == 3 && word(1) == "GROUP";
            let group = text(2).filter(|_| named).ok_or_else(|| wants(&form))?;
            Ok(Command::Pause { group, pause: verb == "PAUSE" })
        }
        "KILL" => {
            let at = if matches!(word(1).as_str(), "QUERY" | "CONNECTION") { 2 } else { 1 };
            let session = text(at).and_then(|t| t.parse().ok()).filter(|_| tokens.len() == at + 1);
            let session = session.ok_or_else(|| wants("KILL [QUERY] session"))?;
            Ok(Command::Kill { session, query: word(1) == "QUERY" })
        }
        "STANDBY" => {
            let form = "STANDBY RETRY | END group, STANDBY INIT group ['position'], or STANDBY SKIP group 'transaction' 'reason'";
            let group = text(2).ok_or_else(|| wants(form))?;
            match (word(1).as_str(), tokens.len()) {
                ("RETRY", 3) => Ok(Command::Standby { group, action: StandbyAction::Retry }),
                ("INIT", 3 | 4) => Ok(Command::Standby { group, action: StandbyAction::Init { position: text(3) } }),
                ("END", 3) => Ok(Command::Standby { group, action: StandbyAction::End }),
                ("SKIP", 5) => {
                    let (transaction, reason) = text(3).zip(text(4)).ok_or_else(|| wants(form))?;
                    Ok(Command::Standby { group, action: StandbyAction::Skip { transaction, reason } })
                }
                _ => Err(wants(form)),
            }
        }
        "ABORT" => {
            let group = text(1).filter(|_| tokens.len() == 2).ok_or_else(|| wants("ABORT group"))?;
            Ok(Command::Abort { group })
        }
        "RESET" if word(1) == "CONNECTION" => Ok(Command::Reset),
        "RELOAD" => Ok(Command::Reload),
        "HELP" | "?" => Ok(Command::Help),
        "USE" | "BEGIN" | "COMMIT" | "ROLLBACK" | "START" | "FLUSH" | "LOCK" | "UNLOCK" => Ok(Command::Nothing),
        other => {
            let known =
                ["SELECT", "SHOW", "EXPLAIN", "SET", "PAUSE", "RESUME", "KILL", "ABORT", "STANDBY", "RELOAD", "HELP"];
            let near = known.iter().find(|k| strsim::damerau_levenshtein(k, other) <= 2);
            let near = near.map(|k| format!(" (did you mean {k}?)")).unwrap_or_default();
            Err(Refusal::new(1064, format!("this console has no {other}{near}: HELP shows what it has")))
        }
    }
}

/// DESCRIBE table.
fn fields(tokens: &[Token]) -> Option<Command> {
    let (database, table) = path_at(tokens, 1)?;
    let show = ClientShow { what: "COLUMNS".to_owned(), of: Some(table), database, ..ClientShow::default() };
    Some(Command::ClientShow(show))
}

/// The name that begins at a token, and its database where it is named.
fn path_at(tokens: &[Token], at: usize) -> Option<(Option<String>, String)> {
    let first = tokens.get(at)?;
    // (`db`.`t` is three tokens, db.t one, and `db`.t two)
    match tokens.get(at + 1).filter(|t| !t.quoted) {
        Some(dot) if dot.text == "." => Some((Some(first.text.clone()), tokens.get(at + 2)?.text.clone())),
        Some(dotted) if first.quoted && dotted.text.starts_with('.') => {
            Some((Some(first.text.clone()), dotted.text.trim_start_matches('.').to_owned()))
        }
        _ if first.quoted => Some((None, first.text.clone())),
        _ => match first.text.split_once('.') {
            Some((database, "")) => Some((Some(database.to_owned()), tokens.get(at + 1)?.text.clone())),
            Some((database, table)) => Some((Some(database.to_owned()), table.to_owned())),
            None => Some((None, first.text.clone())),
        },
    }
}

/// SHOW: of the console's tables, with LIKE, WHERE, ORDER BY and LIMIT; else what clients ask.
fn show(sql: &str, tokens: &[Token]) -> Result<Command, Refusal> {
    let word = |at: usize| tokens.get(at).filter(|t| !t.quoted).map(|t| t.text.to_uppercase()).unwrap_or_default();
    let mut at = 1;
    while matches!(word(at).as_str(), "FULL" | "GLOBAL" | "SESSION" | "LOCAL" | "EXTENDED") {
        at += 1;
    }
    // (SHOW CONFIG DIFF before SHOW CONFIG)
    let two = format!("{} {}", word(at), word(at + 1));
    let table = TABLES
        .iter()
        .find(|(_, show, _)| *show == two)
        .map(|(t, ..)| (*t, at + 2))
        .or_else(|| TABLES.iter().find(|(_, show, _)| *show == word(at)).map(|(t, ..)| (*t, at + 1)));
    if word(at) == "READINESS" {
        let wants = || Refusal::new(1064, "this reads: SHOW READINESS FOR group [TO store]");
        let name = |at: usize| tokens.get(at).map(|t| t.text.clone());
        let group = name(at + 2).filter(|_| word(at + 1) == "FOR").ok_or_else(wants)?;
        let to = if word(at + 3) == "TO" { Some(name(at + 4).ok_or_else(wants)?) } else { None };
        return Ok(Command::Readiness { group, to });
    }
    // (the scheduled events of a database, which MySQL's SHOW EVENTS lists)
    let of_database = table.is_some_and(|(_, tail)| matches!(word(tail).as_str(), "FROM" | "IN"));
    let Some((table, mut tail)) = table.filter(|_| !of_database) else { return Ok(client_show(sql, tokens, at)) };
    let mut condition = String::new();
    if word(tail) == "LIKE" {
        let pattern = tokens.get(tail + 1).ok_or_else(|| Refusal::new(1064, "LIKE takes a pattern"))?;
        let pattern = pattern.text.replace('\\', "\\\\").replace('\'', "''");
        let first = super::tables::columns(table).and_then(|c| c.first()).copied().unwrap_or("id");
        let column = if matches!(first, "id" | "session") { second_text(table) } else { first };
        condition = format!(" WHERE `{column}` LIKE '{pattern}'");
        tail += 2;
        if word(tail) == "WHERE" {
            condition.push_str(" AND");
            tail += 1;
        }
    }
    let rest = tokens.get(tail).map_or("", |t| sql.get(t.start..).unwrap_or_default());
    let rest = rest.trim().trim_end_matches(';');
    Ok(Command::Select(format!("SELECT * FROM `{table}`{condition} {rest}")))
}

/// What LIKE is about in a table whose first column is a number.
fn second_text(table: &str) -> &'static str {
    match table {
        "events" => "what",
        "digests" => "text",
        _ => "user",
    }
}

fn client_show(sql: &str, tokens: &[Token], at: usize) -> Command {
    let word = |at: usize| tokens.get(at).filter(|t| !t.quoted).map(|t| t.text.to_uppercase()).unwrap_or_default();
    let what = match (word(at).as_str(), word(at + 1).as_str()) {
        (
            "CHARACTER" | "TABLE" | "CREATE" | "PROCEDURE" | "FUNCTION" | "MASTER" | "SLAVE" | "REPLICA" | "BINARY"
            | "OPEN",
            second,
        ) if !second.is_empty() => format!("{} {second}", word(at)),
        ("FIELDS", _) => "COLUMNS".to_owned(),
        ("SCHEMAS", _) => "DATABASES".to_owned(),
        ("INDEX" | "INDEXES" | "KEYS", _) => "INDEX".to_owned(),
        ("STORAGE", _) => "ENGINES".to_owned(),
        _ => word(at),
    };
    let behind = |from: usize, words: &[&str]| (from..tokens.len()).find(|n| words.contains(&word(*n).as_str()));
    let filter = behind(at, &["WHERE"]).and_then(|n| tokens.get(n)).and_then(|t| sql.get(t.start..));
    let like = behind(at, &["LIKE"]).and_then(|n| tokens.get(n + 1)).map(|t| t.text.clone());
    let mut show = ClientShow {
        full: (1..at).any(|n| matches!(word(n).as_str(), "FULL" | "EXTENDED")),
        filter: filter.map(|f| f.trim().trim_end_matches(';').to_owned()),
        // (of a WHERE the LIKE is a part)
        like: like.filter(|_| filter.is_none()),
        ..ClientShow::default()
    };
    let place = if what.starts_with("CREATE ") { Some(at + 1) } else { behind(at, &["FROM", "IN"]) };
    if let Some(place) = place
        && let Some((database, name)) = path_at(tokens, place + 1)
    {
        // SHOW COLUMNS FROM table FROM database
        let again = behind(place + 1, &["FROM", "IN"]).and_then(|n| path_at(tokens, n + 1)).map(|(_, name)| name);
        (show.database, show.of) = (database.or(again), Some(name));
    }
    Command::ClientShow(ClientShow { what, ..show })
}

/// SET: a flag, what the next changes carry, or a variable of the client's.
fn set(tokens: &[Token], from: usize, sql: &str) -> Result<Command, Refusal> {
    let token = |at: usize| tokens.get(at);
    let mut at = from;
    while token(at).is_some_and(|t| {
        !t.quoted && ["GLOBAL", "SESSION", "LOCAL", "PERSIST"].iter().any(|w| t.text.eq_ignore_ascii_case(w))
    }) {
        at += 1;
    }
    let is = |at: usize, word: &str| token(at).is_some_and(|t| !t.quoted && t.text.eq_ignore_ascii_case(word));
    if is(at, "LOG") && is(at + 1, "LEVEL") {
        let level = token(at + 2).filter(|t| t.text != "=").or_else(|| token(at + 3)).map(|t| t.text.clone());
        return level
            .map(|level| Command::Log { level })
            .ok_or_else(|| Refusal::new(1064, "this reads: SET LOG LEVEL 'debug'"));
    }
    let Some(name) = token(at) else { return Err(Refusal::new(1064, "SET what?")) };
    let mut value_at = at + 1;
    while token(value_at).is_some_and(|t| !t.quoted && matches!(t.text.as_str(), ":" | "=")) {
        value_at += 1;
    }
    let value = token(value_at).map(|t| t.text.clone());
    let plain = name.text.trim_start_matches('@');
    let plain = plain.rsplit('.').next().unwrap_or(plain);
    let is_user_variable = name.text.starts_with('@') && !name.text.starts_with("@@");
    if is_user_variable {
        let value = value.ok_or_else(|| Refusal::new(1064, format!("SET {} to what?", name.text)))?;
        return Ok(Command::Remember { name: plain.to_lowercase(), value });
    }
    let Some(group) = plain.strip_suffix("_connection").filter(|g| !g.is_empty()) else { return Ok(Command::Nothing) };
    if matches!(plain, "character_set_connection" | "collation_connection") {
        return Ok(Command::Nothing);
    }
    match value {
        Some(store) if tokens.len() == value_at + 1 && value_at > at + 1 => {
            Ok(Command::Flag { group: group.to_owned(), store, dry_run: false })
        }
        _ => Err(Refusal::new(1064, format!("this reads: SET {plain} = 'store', near `{}`", sql.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(sql: &str) -> String {
        match read(sql) {
            Ok(Command::Select(sql)) => sql.trim().to_owned(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn show_is_a_select() {
        assert_eq!(select("show groups;"), "SELECT * FROM `groups`");
        assert_eq!(select("SHOW CONFIG DIFF"), "SELECT * FROM `config_diff`");
        assert_eq!(select("SHOW CONFIG LIKE 'groups.%'"), "SELECT * FROM `config` WHERE `key` LIKE 'groups.%'");
        assert_eq!(
            select("SHOW SESSIONS LIKE 'a\\'p%' WHERE queries > 3 ORDER BY id DESC LIMIT 2;"),
            "SELECT * FROM `sessions` WHERE `user` LIKE 'a''p%' AND queries > 3 ORDER BY id DESC LIMIT 2"
        );
        assert_eq!(select("/* x */ select 1 -- y"), "/* x */ select 1 -- y");
    }

    #[test]
    fn changes_are_read() {
        let flag = |group: &str, dry_run| Command::Flag { group: group.into(), store: "new".into(), dry_run };
        for sql in [
            "SET analytics_connection = 'new'",
            "set global analytics_connection=new;",
            "SET @@analytics_connection := \"new\"",
            "SET @@global.analytics_connection = 'new'",
            "SET `analytics_connection` = 'new'",
        ] {
            assert_eq!(read(sql), Ok(flag("analytics", false)), "{sql}");
        }
        assert_eq!(read("SET `my-group_connection` = 'new'"), Ok(flag("my-group", false)));
        assert_eq!(read("SET LOG LEVEL debug"), Ok(Command::Log { level: "debug".into() }));
        assert_eq!(read("SET LOG LEVEL = 'info'"), Ok(Command::Log { level: "info".into() }));
        let readiness = |to: Option<&str>| Ok(Command::Readiness { group: "a".into(), to: to.map(Into::into) });
        assert_eq!(read("SHOW READINESS FOR a"), readiness(None));
        assert_eq!(read("SHOW READINESS FOR a TO new"), readiness(Some("new")));
        assert_eq!(read("EXPLAIN SET analytics_connection = 'new'"), Ok(flag("analytics", true)));
        assert_eq!(read("PAUSE GROUP a"), Ok(Command::Pause { group: "a".into(), pause: true }));
        assert_eq!(read("resume group `a`;"), Ok(Command::Pause { group: "a".into(), pause: false }));
        assert_eq!(read("KILL QUERY 7"), Ok(Command::Kill { session: 7, query: true }));
        assert_eq!(read("kill 7;"), Ok(Command::Kill { session: 7, query: false }));
        let action = StandbyAction::Skip { transaction: "0-1-7".to_owned(), reason: "by hand".to_owned() };
        assert_eq!(read("STANDBY SKIP a '0-1-7' 'by hand'"), Ok(Command::Standby { group: "a".into(), action }));
        let action = StandbyAction::Init { position: Some("0-1-7".to_owned()) };
        assert_eq!(read("STANDBY INIT a '0-1-7'"), Ok(Command::Standby { group: "a".into(), action }));
        assert_eq!(read("standby end a;"), Ok(Command::Standby { group: "a".into(), action: StandbyAction::End }));
        assert_eq!(read("EXPLAIN ROUTE SELECT 'x; y'"), Ok(Command::Explain("SELECT 'x; y'".into())));
        assert_eq!(
            read("SET @why = 'it''s time'"),
            Ok(Command::Remember { name: "why".into(), value: "it's time".into() })
        );
    }

    #[test]
    fn what_clients_send_is_harmless() {
        for sql in
            ["SET NAMES utf8mb4", "SET autocommit=1", "SET character_set_connection = utf8", "USE switchover", "BEGIN"]
        {
            assert_eq!(read(sql), Ok(Command::Nothing), "{sql}");
        }
        let show = |what: &str, like: Option<&str>, of: Option<&str>| {
            let (like, of) = (like.map(Into::into), of.map(Into::into));
            ClientShow { what: what.into(), like, of, ..ClientShow::default() }
        };
        let read = |sql: &str| match read(sql) {
            Ok(Command::ClientShow(show)) => show,
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(read("SHOW VARIABLES LIKE 'lower_case_%'"), show("VARIABLES", Some("lower_case_%"), None));
        let full = ClientShow { full: true, ..show("TABLES", None, Some("switchover")) };
        assert_eq!(read("SHOW FULL TABLES FROM `switchover`"), full);
        let narrowed = ClientShow { filter: Some("WHERE Table_type LIKE 'x'".into()), ..full };
        assert_eq!(read("SHOW FULL TABLES FROM `switchover` WHERE Table_type LIKE 'x';"), narrowed);
        assert_eq!(read("SHOW TABLE STATUS"), show("TABLE STATUS", None, None));
        assert_eq!(read("DESCRIBE groups"), show("COLUMNS", None, Some("groups")));
        assert_eq!(read("SHOW CREATE TABLE `groups`"), show("CREATE TABLE", None, Some("groups")));
        assert_eq!(read("SHOW EVENTS FROM switchover"), show("EVENTS", None, Some("switchover")));
        let pins = ClientShow { database: Some("switchover".into()), ..show("COLUMNS", None, Some("pins")) };
        for sql in [
            "SHOW COLUMNS FROM `switchover`.`pins`",
            "SHOW COLUMNS FROM switchover.pins",
            "SHOW FIELDS IN `switchover`.pins",
            "SHOW COLUMNS FROM switchover.`pins`",
            "SHOW COLUMNS FROM `pins` FROM `switchover`",
            "EXPLAIN switchover.pins",
        ] {
            assert_eq!(read(sql), pins, "{sql}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_is_near() {
        for (sql, part) in [
            ("", "empty"),
            ("SHWO GROUPS", "SHOW"),
            ("DROP TABLE t", "no DROP"),
            ("PAUSE a", "PAUSE GROUP name"),
            ("KILL a", "KILL [QUERY] session"),
            ("SET analytics_connection", "'store'"),
            ("SET analytics_connection = 'new', x = 1", "'store'"),
            ("SET x_connection = 'a", "quote"),
            ("EXPLAIN ROUTE", "EXPLAIN ROUTE"),
        ] {
            let refusal = read(sql).expect_err(sql);
            assert!(refusal.text.contains(part), "{sql}: {refusal:?}");
        }
    }
}
