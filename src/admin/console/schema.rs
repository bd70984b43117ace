//! `information_schema`: what the console says of its own tables, and what a server has that the console has not, as empty tables.
//! SHOW of the same things is answered out of it.

use super::expression::Refusal;
use super::relation::{Cell, Relation};
use super::tables::{self, TABLES};

/// The console's own database.
pub(super) const OWN: &str = "switchover";
/// The database of this file.
pub(super) const SCHEMA: &str = "information_schema";
const COLLATION: &str = "utf8mb4_general_ci";

/// Tables that have rows here, and those that a server has: their columns, as MySQL 8 has them.
const KNOWN: [(&str, &str); 24] = [
    (
        "SCHEMATA",
        "CATALOG_NAME SCHEMA_NAME DEFAULT_CHARACTER_SET_NAME DEFAULT_COLLATION_NAME SQL_PATH DEFAULT_ENCRYPTION",
    ),
    (
        "TABLES",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME TABLE_TYPE ENGINE VERSION ROW_FORMAT TABLE_ROWS AVG_ROW_LENGTH DATA_LENGTH \
         MAX_DATA_LENGTH INDEX_LENGTH DATA_FREE AUTO_INCREMENT CREATE_TIME UPDATE_TIME CHECK_TIME TABLE_COLLATION CHECKSUM \
         CREATE_OPTIONS TABLE_COMMENT",
    ),
    (
        "COLUMNS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME ORDINAL_POSITION COLUMN_DEFAULT IS_NULLABLE DATA_TYPE \
         CHARACTER_MAXIMUM_LENGTH CHARACTER_OCTET_LENGTH NUMERIC_PRECISION NUMERIC_SCALE DATETIME_PRECISION \
         CHARACTER_SET_NAME COLLATION_NAME COLUMN_TYPE COLUMN_KEY EXTRA PRIVILEGES COLUMN_COMMENT GENERATION_EXPRESSION",
    ),
    ("ENGINES", "ENGINE SUPPORT COMMENT TRANSACTIONS XA SAVEPOINTS"),
    ("CHARACTER_SETS", "CHARACTER_SET_NAME DEFAULT_COLLATE_NAME DESCRIPTION MAXLEN"),
    ("COLLATIONS", "COLLATION_NAME CHARACTER_SET_NAME ID IS_DEFAULT IS_COMPILED SORTLEN"),
    (
        "STATISTICS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME NON_UNIQUE INDEX_SCHEMA INDEX_NAME SEQ_IN_INDEX COLUMN_NAME COLLATION \
         CARDINALITY SUB_PART PACKED NULLABLE INDEX_TYPE COMMENT INDEX_COMMENT IS_VISIBLE EXPRESSION",
    ),
    (
        "KEY_COLUMN_USAGE",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME \
         ORDINAL_POSITION POSITION_IN_UNIQUE_CONSTRAINT REFERENCED_TABLE_SCHEMA REFERENCED_TABLE_NAME REFERENCED_COLUMN_NAME",
    ),
    (
        "TABLE_CONSTRAINTS",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME TABLE_SCHEMA TABLE_NAME CONSTRAINT_TYPE ENFORCED",
    ),
    (
        "REFERENTIAL_CONSTRAINTS",
        "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME UNIQUE_CONSTRAINT_CATALOG UNIQUE_CONSTRAINT_SCHEMA \
         UNIQUE_CONSTRAINT_NAME MATCH_OPTION UPDATE_RULE DELETE_RULE TABLE_NAME REFERENCED_TABLE_NAME",
    ),
    ("CHECK_CONSTRAINTS", "CONSTRAINT_CATALOG CONSTRAINT_SCHEMA CONSTRAINT_NAME CHECK_CLAUSE"),
    (
        "ROUTINES",
        "SPECIFIC_NAME ROUTINE_CATALOG ROUTINE_SCHEMA ROUTINE_NAME ROUTINE_TYPE DATA_TYPE CHARACTER_MAXIMUM_LENGTH \
         DTD_IDENTIFIER ROUTINE_BODY ROUTINE_DEFINITION IS_DETERMINISTIC SQL_DATA_ACCESS SECURITY_TYPE CREATED LAST_ALTERED \
         SQL_MODE ROUTINE_COMMENT DEFINER CHARACTER_SET_CLIENT COLLATION_CONNECTION DATABASE_COLLATION",
    ),
    (
        "PARAMETERS",
        "SPECIFIC_CATALOG SPECIFIC_SCHEMA SPECIFIC_NAME ORDINAL_POSITION PARAMETER_MODE PARAMETER_NAME DATA_TYPE \
         CHARACTER_MAXIMUM_LENGTH NUMERIC_PRECISION NUMERIC_SCALE DTD_IDENTIFIER ROUTINE_TYPE",
    ),
    (
        "TRIGGERS",
        "TRIGGER_CATALOG TRIGGER_SCHEMA TRIGGER_NAME EVENT_MANIPULATION EVENT_OBJECT_CATALOG EVENT_OBJECT_SCHEMA \
         EVENT_OBJECT_TABLE ACTION_ORDER ACTION_STATEMENT ACTION_ORIENTATION ACTION_TIMING CREATED SQL_MODE DEFINER",
    ),
    (
        "EVENTS",
        "EVENT_CATALOG EVENT_SCHEMA EVENT_NAME DEFINER TIME_ZONE EVENT_BODY EVENT_DEFINITION EVENT_TYPE EXECUTE_AT \
         INTERVAL_VALUE INTERVAL_FIELD STARTS ENDS STATUS ON_COMPLETION CREATED LAST_ALTERED LAST_EXECUTED EVENT_COMMENT",
    ),
    (
        "VIEWS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME VIEW_DEFINITION CHECK_OPTION IS_UPDATABLE DEFINER SECURITY_TYPE \
         CHARACTER_SET_CLIENT COLLATION_CONNECTION",
    ),
    (
        "PARTITIONS",
        "TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PARTITION_NAME SUBPARTITION_NAME PARTITION_ORDINAL_POSITION PARTITION_METHOD \
         PARTITION_EXPRESSION PARTITION_DESCRIPTION TABLE_ROWS DATA_LENGTH INDEX_LENGTH",
    ),
    ("PLUGINS", "PLUGIN_NAME PLUGIN_VERSION PLUGIN_STATUS PLUGIN_TYPE PLUGIN_DESCRIPTION PLUGIN_LICENSE"),
    ("USER_PRIVILEGES", "GRANTEE TABLE_CATALOG PRIVILEGE_TYPE IS_GRANTABLE"),
    ("SCHEMA_PRIVILEGES", "GRANTEE TABLE_CATALOG TABLE_SCHEMA PRIVILEGE_TYPE IS_GRANTABLE"),
    ("TABLE_PRIVILEGES", "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME PRIVILEGE_TYPE IS_GRANTABLE"),
    ("COLUMN_PRIVILEGES", "GRANTEE TABLE_CATALOG TABLE_SCHEMA TABLE_NAME COLUMN_NAME PRIVILEGE_TYPE IS_GRANTABLE"),
    ("FILES", "FILE_ID FILE_NAME FILE_TYPE TABLESPACE_NAME TABLE_SCHEMA TABLE_NAME ENGINE"),
    ("COLLATION_CHARACTER_SET_APPLICABILITY", "COLLATION_NAME CHARACTER_SET_NAME"),
];

/// The columns of one of its tables.
pub(super) fn columns(table: &str) -> Option<Vec<&'static str>> {
    let known = KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(table));
    known.map(|(_, columns)| columns.split_whitespace().collect())
}

/// One of its tables. What nobody here has heard of is empty, and has whatever column it is asked for.
pub(super) fn table(name: &str) -> Relation {
    let Some(columns) = columns(name) else { return Relation::open() };
    let mut relation = Relation::new(&columns);
    match name.to_uppercase().as_str() {
        "SCHEMATA" => {
            for schema in [SCHEMA, OWN] {
                relation.row(vec![
                    "def".into(),
                    schema.into(),
                    "utf8mb4".into(),
                    COLLATION.into(),
                    Cell::Null,
                    "NO".into(),
                ]);
            }
        }
        "TABLES" => {
            TABLES.iter().for_each(|(table, show, _)| relation.row(described(OWN, table, &format!("SHOW {show}"))));
            KNOWN.iter().for_each(|(table, _)| relation.row(described(SCHEMA, table, "")));
        }
        "COLUMNS" => {
            for (table, _, columns) in TABLES {
                columns.iter().enumerate().for_each(|(n, column)| relation.row(column_of(OWN, table, n, column)));
            }
            for (table, columns) in KNOWN {
                let columns = columns.split_whitespace().enumerate();
                columns.for_each(|(n, column)| relation.row(column_of(SCHEMA, table, n, column)));
            }
        }
        "ENGINES" => {
            relation.row(["MEMORY", "DEFAULT", "the proxy's own state", "NO", "NO", "NO"].map(Cell::from).to_vec())
        }
        "CHARACTER_SETS" => {
            relation.row(vec!["utf8mb4".into(), COLLATION.into(), "UTF-8 Unicode".into(), Cell::Int(4)]);
        }
        "COLLATIONS" => relation.row(vec![
            COLLATION.into(),
            "utf8mb4".into(),
            Cell::Int(45),
            "Yes".into(),
            "Yes".into(),
            Cell::Int(1),
        ]),
        "COLLATION_CHARACTER_SET_APPLICABILITY" => relation.row(vec![COLLATION.into(), "utf8mb4".into()]),
        _ => {}
    }
    relation
}

/// A row of TABLES.
fn described(schema: &str, table: &str, comment: &str) -> Vec<Cell> {
    let mut row: Vec<Cell> = ["def", schema, table, "SYSTEM VIEW", "MEMORY"].map(Cell::from).to_vec();
    row.extend([Cell::Int(10), "Fixed".into(), Cell::Null]);
    row.extend([0; 5].map(Cell::Int));
    row.extend([
        Cell::Null,
        Cell::Null,
        Cell::Null,
        Cell::Null,
        COLLATION.into(),
        Cell::Null,
        "".into(),
        comment.into(),
    ]);
    row
}

/// A row of COLUMNS.
fn column_of(schema: &str, table: &str, n: usize, column: &str) -> Vec<Cell> {
    let kind = if schema == OWN { tables::kind(table, column) } else { "varchar" };
    let is_text = kind == "varchar";
    let of_text = |cell: Cell| if is_text { cell } else { Cell::Null };
    let of_number = |n: i64| if is_text { Cell::Null } else { Cell::Int(n) };
    let mut row: Vec<Cell> = ["def", schema, table, column].map(Cell::from).to_vec();
    row.extend([(n as u64 + 1).into(), Cell::Null, "YES".into(), kind.into()]);
    row.extend([of_text(Cell::Int(LONGEST)), of_text(Cell::Int(4 * LONGEST))]);
    row.extend([of_number(20), if kind == "bigint" { Cell::Int(0) } else { Cell::Null }, Cell::Null]);
    row.extend([of_text("utf8mb4".into()), of_text(COLLATION.into()), column_type(kind).into()]);
    row.extend(["", "", "select", "", ""].map(Cell::from));
    row
}

/// Characters of a text: clients make room for it.
const LONGEST: i64 = 1_024;

fn column_type(kind: &str) -> &'static str {
    match kind {
        "bigint" => "bigint",
        "double" => "double",
        _ => "varchar(1024)",
    }
}

/// The columns of a table of either database, as SHOW FULL COLUMNS and DESCRIBE show them.
pub(super) fn show_columns(database: &str, table: &str, full: bool) -> Result<Relation, Refusal> {
    let found = super::schema::table("COLUMNS");
    let shown = [
        "COLUMN_NAME",
        "COLUMN_TYPE",
        "COLLATION_NAME",
        "IS_NULLABLE",
        "COLUMN_KEY",
        "COLUMN_DEFAULT",
        "EXTRA",
        "PRIVILEGES",
        "COLUMN_COMMENT",
    ];
    let titles = ["Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"];
    let is_shown = |n: &usize| full || !matches!(n, 2 | 7 | 8);
    let places: Vec<usize> = (0..shown.len()).filter(is_shown).collect();
    let titles: Vec<&str> = places.iter().filter_map(|n| titles.get(*n).copied()).collect();
    let mut relation = Relation::new(&titles);
    let cell =
        |row: &[Cell], name: &str| found.find(None, name).and_then(|at| row.get(at)).cloned().unwrap_or(Cell::Null);
    let is = |row: &[Cell], name: &str, wanted: &str| {
        cell(row, name).text().is_some_and(|text| text.eq_ignore_ascii_case(wanted))
    };
    for row in found.rows.iter().filter(|row| is(row, "TABLE_SCHEMA", database) && is(row, "TABLE_NAME", table)) {
        relation.row(places.iter().filter_map(|n| Some(cell(row, shown.get(*n)?))).collect());
    }
    if relation.rows.is_empty() {
        return Err(Refusal::new(1146, format!("Table '{database}.{table}' doesn't exist")));
    }
    Ok(relation)
}

/// SHOW TABLE STATUS.
pub(super) fn table_status(database: &str) -> Relation {
    let found = table("TABLES");
    let shown = [
        ("Name", "TABLE_NAME"),
        ("Engine", "ENGINE"),
        ("Version", "VERSION"),
        ("Row_format", "ROW_FORMAT"),
        ("Rows", "TABLE_ROWS"),
        ("Avg_row_length", "AVG_ROW_LENGTH"),
        ("Data_length", "DATA_LENGTH"),
        ("Max_data_length", "MAX_DATA_LENGTH"),
        ("Index_length", "INDEX_LENGTH"),
        ("Data_free", "DATA_FREE"),
        ("Auto_increment", "AUTO_INCREMENT"),
        ("Create_time", "CREATE_TIME"),
        ("Update_time", "UPDATE_TIME"),
        ("Check_time", "CHECK_TIME"),
        ("Collation", "TABLE_COLLATION"),
        ("Checksum", "CHECKSUM"),
        ("Create_options", "CREATE_OPTIONS"),
        ("Comment", "TABLE_COMMENT"),
    ];
    let mut relation = Relation::new(&shown.map(|(title, _)| title));
    let places: Vec<usize> = shown.iter().filter_map(|(_, name)| found.find(None, name)).collect();
    for row in found.rows.iter().filter(|row| row.get(1).and_then(Cell::text).is_some_and(|s| s == database)) {
        relation.row(places.iter().filter_map(|at| row.get(*at).cloned()).collect());
    }
    relation
}

/// The names of a database's tables.
pub(super) fn names(database: &str) -> Vec<&'static str> {
    if database == OWN {
        TABLES.iter().map(|(table, ..)| *table).collect()
    } else {
        KNOWN.iter().map(|(table, _)| *table).collect()
    }
}

/// What SHOW CREATE TABLE says: as a table could be made that holds the same.
pub(super) fn create_table(database: &str, table: &str) -> Result<Relation, Refusal> {
    let columns = show_columns(database, table, false)?;
    let text = |row: &[Cell], at: usize| row.get(at).and_then(Cell::text).unwrap_or_default();
    let lines: Vec<String> =
        columns.rows.iter().map(|row| format!("  `{}` {} DEFAULT NULL", text(row, 0), text(row, 1))).collect();
    let create = format!("CREATE TABLE `{table}` (\n{}\n) ENGINE=MEMORY DEFAULT CHARSET=utf8mb4", lines.join(",\n"));
    let mut relation = Relation::new(&["Table", "Create Table"]);
    relation.row(vec![table.into(), create.into()]);
    Ok(relation)
}
