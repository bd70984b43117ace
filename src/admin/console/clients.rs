//! What clients ask by themselves: at connect, and graphical ones to draw a tree.

use super::super::action::Actor;
use super::super::control::Running;
use super::super::protocol::SessionInfo;
use super::command::ClientShow;
use super::dialog::{DATABASES, VERSION, database};
use super::expression::Refusal;
use super::relation::{Cell, Relation, like};
use super::schema;
use super::tables::TABLES;
use crate::config::model::Role;

/// Variables that clients read.
pub(super) const VARIABLES: [(&str, &str); 80] = [
    ("auto_increment_increment", "1"),
    ("autocommit", "1"),
    ("basedir", "/"),
    ("character_set_client", "utf8mb4"),
    ("character_set_connection", "utf8mb4"),
    ("character_set_database", "utf8mb4"),
    ("character_set_filesystem", "binary"),
    ("character_set_results", "utf8mb4"),
    ("character_set_server", "utf8mb4"),
    ("character_set_system", "utf8mb4"),
    ("collation_connection", "utf8mb4_general_ci"),
    ("collation_database", "utf8mb4_general_ci"),
    ("collation_server", "utf8mb4_general_ci"),
    ("datadir", "/"),
    ("default_authentication_plugin", "caching_sha2_password"),
    ("default_storage_engine", "MEMORY"),
    ("default_tmp_storage_engine", "MEMORY"),
    ("disabled_storage_engines", ""),
    ("error_count", "0"),
    ("event_scheduler", "OFF"),
    ("foreign_key_checks", "1"),
    ("ft_min_word_len", "4"),
    ("general_log", "OFF"),
    ("group_concat_max_len", "1048576"),
    ("gtid_mode", "OFF"),
    ("have_openssl", "YES"),
    ("have_profiling", "NO"),
    ("have_ssl", "YES"),
    ("hostname", "switchover"),
    ("identity", "0"),
    ("init_connect", ""),
    ("innodb_version", ""),
    ("interactive_timeout", "28800"),
    ("last_insert_id", "0"),
    ("lc_time_names", "en_US"),
    ("license", "Apache-2.0"),
    ("local_infile", "OFF"),
    ("log_bin", "OFF"),
    ("lower_case_file_system", "OFF"),
    ("lower_case_table_names", "1"),
    ("max_allowed_packet", "4194304"),
    ("max_connections", "64"),
    ("max_execution_time", "0"),
    ("net_buffer_length", "16384"),
    ("net_read_timeout", "30"),
    ("net_write_timeout", "60"),
    ("performance_schema", "0"),
    ("port", "0"),
    ("profiling", "0"),
    ("protocol_version", "10"),
    ("query_cache_size", "0"),
    ("query_cache_type", "OFF"),
    ("read_only", "OFF"),
    ("secure_file_priv", ""),
    ("server_id", "0"),
    ("skip_name_resolve", "ON"),
    ("skip_networking", "OFF"),
    ("slow_query_log", "OFF"),
    ("socket", ""),
    ("sql_auto_is_null", "0"),
    ("sql_big_selects", "1"),
    ("sql_mode", ""),
    ("sql_safe_updates", "0"),
    ("sql_select_limit", "18446744073709551615"),
    ("ssl_ca", ""),
    ("storage_engine", "MEMORY"),
    ("super_read_only", "OFF"),
    ("system_time_zone", "UTC"),
    ("time_zone", "SYSTEM"),
    ("transaction_isolation", "READ-COMMITTED"),
    ("transaction_read_only", "0"),
    ("tx_isolation", "READ-COMMITTED"),
    ("tx_read_only", "0"),
    ("unique_checks", "1"),
    ("version", VERSION),
    ("version_comment", "Switchover console: HELP shows what it has"),
    ("version_compile_machine", ""),
    ("version_compile_os", "Linux"),
    ("wait_timeout", "28800"),
    ("warning_count", "0"),
];

/// SHOW of what is no table of the console's; `here` is the database that names belong to.
///
/// # Errors
/// 1064 where nobody asks that, 1146 where there is no such table, 1049 where there is no such database.
pub(super) fn show(
    show: &ClientShow,
    here: &'static str,
    running: &dyn Running,
    actor: &Actor,
) -> Result<Relation, Refusal> {
    let named = |name: &Option<String>| name.as_deref().map_or(Ok(here), database);
    let table = || show.of.as_deref().ok_or_else(|| Refusal::new(1064, format!("SHOW {} of what?", show.what)));
    Ok(match show.what.as_str() {
        "DATABASES" => rows(&["Database"], DATABASES.iter().map(|d| vec![(*d).into()]).collect()),
        "TABLES" => {
            let of = named(&show.of)?;
            let names = schema::names(of).into_iter();
            let title = format!("Tables_in_{of}");
            if show.full {
                rows(&[&title, "Table_type"], names.map(|t| vec![t.into(), "SYSTEM VIEW".into()]).collect())
            } else {
                rows(&[&title], names.map(|t| vec![t.into()]).collect())
            }
        }
        "TABLE STATUS" => schema::table_status(named(&show.of)?),
        "COLUMNS" => schema::show_columns(named(&show.database)?, table()?, show.full)?,
        "CREATE TABLE" | "CREATE VIEW" => schema::create_table(named(&show.database)?, table()?)?,
        "CREATE DATABASE" | "CREATE SCHEMA" => {
            let name = database(table()?)?;
            let text = format!("CREATE DATABASE `{name}` /*!40100 DEFAULT CHARACTER SET utf8mb4 */");
            rows(&["Database", "Create Database"], vec![vec![name.into(), text.into()]])
        }
        "VARIABLES" => {
            let mut r = Relation::new(&["Variable_name", "Value"]);
            VARIABLES.iter().for_each(|(name, value)| r.row(vec![(*name).into(), (*value).into()]));
            for group in running.status().groups {
                r.row(vec![format!("{}_connection", group.name).into(), group.connection.into()]);
            }
            r
        }
        "STATUS" => status(running),
        "PROCESSLIST" => processes(running),
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

fn status(running: &dyn Running) -> Relation {
    let status = running.status();
    // (nobody counts what is 0 here: phpMyAdmin's page of status breaks where it is not there)
    let figures = [
        ("Aborted_clients", 0),
        ("Aborted_connects", status.totals.failed_logins),
        ("Bytes_received", 0),
        ("Bytes_sent", 0),
        ("Connections", status.totals.connections),
        ("Max_used_connections", 0),
        ("Queries", status.totals.queries),
        ("Questions", status.totals.queries),
        ("Threads_connected", status.sessions.open),
        ("Uptime", status.uptime_seconds),
    ];
    let figures = figures.iter().map(|(name, value)| vec![(*name).into(), value.to_string().into()]);
    rows(&["Variable_name", "Value"], figures.collect())
}

/// The sessions, as MySQL's process list has them; what a statement is, SHOW SESSIONS does not tell either.
fn processes(running: &dyn Running) -> Relation {
    let process = |s: SessionInfo| {
        let command = if s.state == "idle" { "Sleep" } else { "Query" };
        let state = if s.pins.is_empty() { Cell::from("") } else { s.pins.join(", ").into() };
        let seconds = Cell::from(s.for_ms / 1_000);
        vec![s.id.into(), s.user.into(), s.client.into(), s.db.into(), command.into(), seconds, state, Cell::Null]
    };
    let columns = ["Id", "User", "Host", "db", "Command", "Time", "State", "Info"];
    rows(&columns, running.sessions().into_iter().map(process).collect())
}

/// EXPLAIN of a statement of the console's own: there is one way to answer it.
pub(super) fn plan(tables: &[String]) -> Relation {
    let columns = [
        "id",
        "select_type",
        "table",
        "partitions",
        "type",
        "possible_keys",
        "key",
        "key_len",
        "ref",
        "rows",
        "filtered",
        "Extra",
    ];
    let row = |table: &String| {
        let mut row: Vec<Cell> = vec![Cell::Int(1), "SIMPLE".into(), table.into(), Cell::Null, "ALL".into()];
        row.extend([Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Null, Cell::Int(100)]);
        row.push("worked out when asked; EXPLAIN ROUTE shows where an application's statement goes".into());
        row
    };
    rows(&columns, tables.iter().map(row).collect())
}

/// What is the same for ever.
fn fixed(what: &str) -> Result<Relation, Refusal> {
    let of_schema =
        |table: &str, columns: &[&str]| Relation { rows: schema::table(table).rows, ..Relation::new(columns) };
    Ok(match what {
        "WARNINGS" | "ERRORS" => Relation::new(&["Level", "Code", "Message"]),
        "ENGINES" => of_schema("ENGINES", &["Engine", "Support", "Comment", "Transactions", "XA", "Savepoints"]),
        "CHARACTER SET" | "CHARSET" => {
            let mut found = of_schema("CHARACTER_SETS", &["Charset", "Description", "Default collation", "Maxlen"]);
            found.rows.iter_mut().for_each(|row| row.swap(1, 2));
            found
        }
        "COLLATION" => of_schema("COLLATIONS", &["Collation", "Charset", "Id", "Default", "Compiled", "Sortlen"]),
        "INDEX" => Relation::new(&[
            "Table",
            "Non_unique",
            "Key_name",
            "Seq_in_index",
            "Column_name",
            "Collation",
            "Cardinality",
            "Sub_part",
            "Packed",
            "Null",
            "Index_type",
            "Comment",
            "Index_comment",
            "Visible",
            "Expression",
        ]),
        "TRIGGERS" => {
            Relation::new(&["Trigger", "Event", "Table", "Statement", "Timing", "Created", "sql_mode", "Definer"])
        }
        // (MySQL's SHOW EVENTS lists scheduled ones: where a database is named, else the console's own table has the name)
        "EVENTS" => Relation::new(&["Db", "Name", "Definer", "Time zone", "Type", "Execute at", "Status"]),
        "PLUGINS" => Relation::new(&["Name", "Status", "Type", "Library", "License"]),
        "PROCEDURE STATUS" | "FUNCTION STATUS" => {
            Relation::new(&["Db", "Name", "Type", "Definer", "Modified", "Created", "Security_type", "Comment"])
        }
        "OPEN TABLES" => Relation::new(&["Database", "Table", "In_use", "Name_locked"]),
        "PRIVILEGES" => Relation::new(&["Privilege", "Context", "Comment"]),
        "PROFILES" => Relation::new(&["Query_ID", "Duration", "Query"]),
        "MASTER STATUS" | "BINARY LOG" => Relation::new(&["File", "Position", "Binlog_Do_DB", "Binlog_Ignore_DB"]),
        "BINARY LOGS" | "MASTER LOGS" => Relation::new(&["Log_name", "File_size"]),
        "SLAVE STATUS" | "REPLICA STATUS" | "REPLICAS" | "SLAVE HOSTS" => {
            Relation::new(&["Slave_IO_State", "Master_Host"])
        }
        other => {
            let names: Vec<&str> = TABLES.iter().map(|(_, show, _)| *show).collect();
            return Err(Refusal::new(1064, format!("there is no SHOW {other}; there is: {}", names.join(", "))));
        }
    })
}
