//! What clients ask by themselves: at connect, and graphical ones to draw a tree.

use super::super::action::Actor;
use super::super::control::Running;
use super::dialog::VERSION;
use super::expression::Refusal;
use super::relation::{Cell, Relation, like};
use super::tables::{self, TABLES};
use crate::config::model::Role;

/// Variables that clients read at connect.
pub(super) const VARIABLES: [(&str, &str); 32] = [
    ("auto_increment_increment", "1"),
    ("autocommit", "1"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_database", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("default_storage_engine", "MEMORY"),
    ("have_ssl", "DISABLED"),
    ("hostname", "switchover"),
    ("init_connect", ""),
    ("interactive_timeout", "28800"),
    ("license", "Apache-2.0"),
    ("lower_case_table_names", "1"),
    ("max_allowed_packet", "67108864"),
    ("max_execution_time", "0"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("protocol_version", "10"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("sql_mode", ""),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("tx_isolation", "READ-COMMITTED"),
    ("version", VERSION),
    ("version_comment", "Switchover console: HELP shows what it has"),
    ("wait_timeout", "28800"),
];

/// SHOW of what is no table of the console's.
///
/// # Errors
/// 1064 where nobody asks that, 1146 where there is no such table.
pub(super) fn show(what: &str, of: Option<&str>, running: &dyn Running, actor: &Actor) -> Result<Relation, Refusal> {
    Ok(match what {
        "DATABASES" => rows(&["Database"], vec![vec!["information_schema".into()], vec!["switchover".into()]]),
        "TABLES" => {
            let names = TABLES.iter().map(|(t, ..)| vec![(*t).into(), "SYSTEM VIEW".into()]);
            rows(&["Tables_in_switchover", "Table_type"], names.collect())
        }
        "TABLE STATUS" => {
            let status = |(table, show, _): &(&str, &str, _)| {
                vec![(*table).into(), "MEMORY".into(), Cell::Int(10), Cell::Null, format!("SHOW {show}").into()]
            };
            rows(&["Name", "Engine", "Version", "Rows", "Comment"], TABLES.iter().map(status).collect())
        }
        "COLUMNS" => columns(of.unwrap_or_default())?,
        "VARIABLES" => {
            let mut r = Relation::new(&["Variable_name", "Value"]);
            VARIABLES.iter().for_each(|(name, value)| r.row(vec![(*name).into(), (*value).into()]));
            for group in running.status().groups {
                r.row(vec![format!("{}_connection", group.name).into(), group.connection.into()]);
            }
            r
        }
        "STATUS" => status(running),
        "GRANTS" => {
            let may = if actor.role == Role::Operator { "ALL PRIVILEGES" } else { "SELECT" };
            Relation::single("Grants", format!("GRANT {may} ON `switchover`.* TO `{}`", actor.name))
        }
        other => fixed(other)?,
    })
}

/// The rows whose first column is like a pattern.
pub(super) fn narrowed(mut relation: Relation, pattern: Option<&str>) -> Relation {
    if let Some(pattern) = pattern {
        relation.rows.retain(|row| row.first().and_then(Cell::text).is_some_and(|name| like(&name, pattern)));
    }
    relation
}

fn rows(columns: &[&str], rows: Vec<Vec<Cell>>) -> Relation {
    Relation { rows, ..Relation::new(columns) }
}

fn columns(table: &str) -> Result<Relation, Refusal> {
    let missing = || Refusal::new(1146, format!("Table 'switchover.{table}' doesn't exist"));
    let columns = tables::columns(table).ok_or_else(missing)?.iter();
    let described = columns
        .map(|column| vec![(*column).into(), "varchar(255)".into(), "YES".into(), "".into(), Cell::Null, "".into()]);
    Ok(rows(&["Field", "Type", "Null", "Key", "Default", "Extra"], described.collect()))
}

fn status(running: &dyn Running) -> Relation {
    let status = running.status();
    let figures = [
        ("Uptime", status.uptime_seconds),
        ("Questions", status.totals.queries),
        ("Connections", status.totals.connections),
        ("Threads_connected", status.sessions.open),
    ];
    let figures = figures.iter().map(|(name, value)| vec![(*name).into(), value.to_string().into()]);
    rows(&["Variable_name", "Value"], figures.collect())
}

/// What is the same for ever.
fn fixed(what: &str) -> Result<Relation, Refusal> {
    Ok(match what {
        "WARNINGS" | "ERRORS" => Relation::new(&["Level", "Code", "Message"]),
        "ENGINES" => {
            let cells = ["MEMORY", "DEFAULT", "the proxy's own state", "NO", "NO", "NO"];
            let columns = ["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"];
            rows(&columns, vec![cells.map(Cell::from).to_vec()])
        }
        "CHARACTER SET" | "CHARSET" => {
            let columns = ["Charset", "Description", "Default collation", "Maxlen"];
            let cells = ["utf8mb4".into(), "UTF-8 Unicode".into(), "utf8mb4_general_ci".into(), Cell::Int(4)];
            rows(&columns, vec![cells.to_vec()])
        }
        "COLLATION" => {
            let columns = ["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"];
            let name: Cell = "utf8mb4_general_ci".into();
            let cells = [name, "utf8mb4".into(), Cell::Int(45), "Yes".into(), "Yes".into(), Cell::Int(1)];
            rows(&columns, vec![cells.to_vec()])
        }
        // (MySQL's SHOW EVENTS lists scheduled ones: the console's own table has the name)
        "TRIGGERS" | "PLUGINS" | "INDEX" | "PROCEDURE STATUS" | "FUNCTION STATUS" | "PRIVILEGES" | "OPEN"
        | "PROFILES" | "BINARY" | "MASTER STATUS" | "SLAVE STATUS" | "REPLICAS" => Relation::new(&["Name"]),
        other => {
            let names: Vec<&str> = TABLES.iter().map(|(_, show, _)| *show).collect();
            return Err(Refusal::new(1064, format!("there is no SHOW {other}; there is: {}", names.join(", "))));
        }
    })
}
