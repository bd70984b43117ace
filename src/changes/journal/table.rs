//! A table of the authority, as far as recording its rows needs it: what is selected of each column, and how it is read.
//!
//! Rows are read on the client's own connection, whose time zone, character sets and sql_mode are the client's: each column is
//! selected in a way that none of them changes.

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::connection::QueryError;
use crate::entry::{Column, Kind, LoggedType, Row, Shape, TableName, Value, quoted, temporal};
use crate::routing::gate::SEAL_TRIGGERS;

/// The table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its columns.
    pub columns: Vec<Column>,
    /// What its rows look like in the log; its name is there too.
    pub shape: Arc<Shape>,
    /// Columns of its primary key.
    pub key: Vec<usize>,
    /// Whether that is its only unique key.
    pub only_key: bool,
    /// The columns of its other unique keys; none where one has more than whole columns in it.
    pub uniques: Option<Vec<Vec<usize>>>,
    /// The column that has AUTO_INCREMENT.
    pub auto: Option<usize>,
    /// Whether what is written of it can be undone.
    pub transactional: bool,
}

/// Why the rows of a table cannot be recorded.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The store did not say.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// It has something that cannot be recorded.
    #[error("{0}")]
    Unfit(String),
}

/// A string for the control account's connections.
fn literal(text: &str) -> String {
    let mut out = String::new();
    super::entry::put_hex(&mut out, text.as_bytes());
    format!("CONVERT({out} USING utf8mb4)")
}

type Cells = Vec<Option<String>>;

async fn rows(backend: &mut Backend, sql: &str) -> Result<Vec<Cells>, QueryError> {
    let text = |value: Option<Vec<u8>>| value.map(|v| String::from_utf8_lossy(&v).into_owned());
    let rows = backend.query(sql.as_bytes()).await?.rows;
    Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

fn cell(row: &Cells, at: usize) -> &str {
    row.get(at).and_then(Option::as_deref).unwrap_or_default()
}

impl Table {
    /// Asks the store about one.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn read(backend: &mut Backend, database: &str, name: &str) -> Result<Table, TableError> {
        let unfit = |what: &str| TableError::Unfit(format!("{database}.{name} {what}"));
        let of = format!("TABLE_SCHEMA = {} AND TABLE_NAME = {}", literal(database), literal(name));
        let sql =
            format!("SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE {of}");
        let found = rows(backend, &sql).await?;
        let [about] = found.as_slice() else { return Err(unfit("is not known to the control account")) };
        if cell(about, 2) != "BASE TABLE" {
            return Err(unfit("is no plain table"));
        }
        let is = |engines: &[&str]| engines.iter().any(|engine| cell(about, 3).eq_ignore_ascii_case(engine));
        let transactional = is(&["innodb", "oceanbase"]);
        if !transactional && !is(&["myisam", "aria", "memory"]) {
            return Err(unfit("has an engine that is not known"));
        }
        let table = TableName { database: cell(about, 0).to_owned(), name: cell(about, 1).to_owned() };
        let (columns, auto) = columns(backend, &of).await?;
        let (key, uniques) = keys(backend, &of, &columns).await?;
        let only_key = uniques.as_ref().is_some_and(Vec::is_empty);
        if key.is_empty() {
            return Err(unfit("has no primary key"));
        }
        if let Some(column) = columns.iter().find(|column| !is_recordable(column)) {
            return Err(unfit(&format!(
                "has a column of a type that cannot be recorded: {} {}",
                column.name, column.words
            )));
        }
        if key.iter().any(|at| columns.get(*at).is_none_or(|c| !finds(c))) {
            return Err(unfit("has a key of a type by which rows cannot be found exactly"));
        }
        let names = || columns.iter().map(|c| &c.name).chain([&table.database, &table.name]);
        if !names().all(|name| name.is_ascii()) {
            return Err(unfit("has a name beyond ASCII, which a client's character set could change"));
        }
        if let Some(what) = acts_by_itself(backend, &of).await? {
            return Err(unfit(what));
        }
        let types = columns.iter().map(logged).collect();
        Ok(Table {
            columns,
            shape: Arc::new(Shape { name: table, types }),
            key,
            only_key,
            uniques,
            auto,
            transactional,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &TableName {
        &self.shape.name
    }

    /// The place of a column.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name))
    }

    /// What is selected to read whole rows.
    #[must_use]
    pub fn selected(&self) -> String {
        self.columns.iter().map(selected).collect::<Vec<_>>().join(",")
    }

    /// A row of what was selected.
    ///
    /// # Errors
    /// Says which column holds what it cannot.
    pub fn row(&self, cells: &[Option<Vec<u8>>]) -> Result<Row, String> {
        if cells.len() != self.columns.len() {
            return Err(format!("{}: a row of {} columns", self.name(), cells.len()));
        }
        let value = |(column, cell): (&Column, &Option<Vec<u8>>)| match cell {
            None => Ok(Value::Null),
            Some(bytes) => {
                value(column, bytes).ok_or_else(|| format!("{}: column {} has an odd value", self.name(), column.name))
            }
        };
        self.columns.iter().zip(cells).map(value).collect()
    }

    /// A form in which equal keys, and only those, are equal.
    #[must_use]
    pub fn key_of(&self, row: &Row) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.key.iter().filter_map(|at| row.get(*at)).for_each(|value| value.put_key(&mut bytes));
        bytes
    }

    /// A value of a key's column as a literal, under any sql_mode and character set.
    #[must_use]
    pub fn literal(&self, row: &Row, at: usize) -> String {
        let (Some(value), Some(column)) = (row.get(at), self.columns.get(at)) else { return "NULL".to_owned() };
        key_literal(column, value)
    }

    /// A condition that finds exactly the rows of these keys, under any sql_mode and character set.
    #[must_use]
    pub fn by_keys(&self, rows: &[Row]) -> String {
        let literal = |row: &Row, at: usize| self.literal(row, at);
        let name = |at: usize| self.columns.get(at).map(|c| quoted(&c.name)).unwrap_or_default();
        if let [at] = self.key.as_slice() {
            let list: Vec<String> = rows.iter().map(|row| literal(row, *at)).collect();
            return format!("{} IN ({})", name(*at), list.join(","));
        }
        let one = |row: &Row| {
            let parts: Vec<String> =
                self.key.iter().map(|at| format!("{} = {}", name(*at), literal(row, *at))).collect();
            format!("({})", parts.join(" AND "))
        };
        rows.iter().map(one).collect::<Vec<_>>().join(" OR ")
    }
}

async fn columns(backend: &mut Backend, of: &str) -> Result<(Vec<Column>, Option<usize>), QueryError> {
    let sql = format!(
        "SELECT COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, CHARACTER_OCTET_LENGTH, EXTRA \
         FROM information_schema.COLUMNS WHERE {of} ORDER BY ORDINAL_POSITION"
    );
    let (mut columns, mut auto) = (Vec::new(), None);
    for row in rows(backend, &sql).await? {
        let extra = cell(&row, 6).to_lowercase();
        if extra.contains("auto_increment") {
            auto = Some(columns.len());
        }
        columns.push(Column {
            name: cell(&row, 0).to_owned(),
            kind: Kind::of(cell(&row, 1), cell(&row, 2), cell(&row, 3), cell(&row, 5)),
            words: cell(&row, 2).to_lowercase(),
            generated: extra.contains("generated") && !extra.contains("default_generated"),
            collation: cell(&row, 4).to_owned(),
        });
    }
    Ok((columns, auto))
}

type Keys = (Vec<usize>, Option<Vec<Vec<usize>>>);

/// The columns of the primary key, and of the other unique ones.
async fn keys(backend: &mut Backend, of: &str, columns: &[Column]) -> Result<Keys, QueryError> {
    let sql = format!(
        "SELECT INDEX_NAME, COLUMN_NAME, SUB_PART FROM information_schema.STATISTICS WHERE {of} AND NON_UNIQUE = 0 \
         ORDER BY INDEX_NAME, SEQ_IN_INDEX"
    );
    let (mut key, mut others, mut last, mut odd) = (Vec::new(), Vec::<Vec<usize>>::new(), String::new(), false);
    for row in rows(backend, &sql).await? {
        let whole = cell(&row, 2).is_empty();
        let column = columns.iter().position(|c| c.name.eq_ignore_ascii_case(cell(&row, 1))).filter(|_| whole);
        if cell(&row, 0) == "PRIMARY" && whole {
            key.extend(column);
            continue;
        }
        if cell(&row, 0) != last {
            last = cell(&row, 0).to_owned();
            others.push(Vec::new());
        }
        match (column, others.last_mut()) {
            (Some(column), Some(unique)) => unique.push(column),
            _ => odd = true,
        }
    }
    Ok((key, (!odd).then_some(others)))
}

/// What changes rows without a statement that says so: triggers, and foreign keys that cascade, at either end.
async fn acts_by_itself(backend: &mut Backend, of: &str) -> Result<Option<&'static str>, QueryError> {
    let event = of.replace("TABLE_SCHEMA", "EVENT_OBJECT_SCHEMA").replace("TABLE_NAME", "EVENT_OBJECT_TABLE");
    let sql = format!(
        "SELECT 1 FROM information_schema.TRIGGERS WHERE {event} AND LEFT(TRIGGER_NAME, {}) <> '{SEAL_TRIGGERS}' LIMIT 1",
        SEAL_TRIGGERS.len()
    );
    if !rows(backend, &sql).await?.is_empty() {
        return Ok(Some("has triggers, whose changes the proxy does not see"));
    }
    let child = of.replace("TABLE_SCHEMA", "CONSTRAINT_SCHEMA");
    let parent = of.replace("TABLE_SCHEMA", "UNIQUE_CONSTRAINT_SCHEMA").replace("TABLE_NAME", "REFERENCED_TABLE_NAME");
    let sql = format!(
        "SELECT 1 FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE (({child}) OR ({parent})) \
         AND (DELETE_RULE NOT IN ('RESTRICT', 'NO ACTION') OR UPDATE_RULE NOT IN ('RESTRICT', 'NO ACTION')) LIMIT 1"
    );
    let acts = !rows(backend, &sql).await?.is_empty();
    Ok(acts.then_some("has foreign keys that cascade, whose changes the proxy does not see"))
}

fn first_word(column: &Column) -> &str {
    column.words.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default()
}

fn is_recordable(column: &Column) -> bool {
    const BYTES: [&str; 5] = ["varbinary", "tinyblob", "blob", "mediumblob", "longblob"];
    match column.kind {
        Kind::Inet(_) | Kind::Uuid => false,
        Kind::Text(_) => first_word(column) != "json",
        Kind::Bytes => BYTES.contains(&first_word(column)),
        _ => true,
    }
}

/// Whether a literal of a value of this column finds the rows that have it, and no others.
fn finds(column: &Column) -> bool {
    match column.kind {
        Kind::Int { .. } | Kind::Decimal | Kind::Text(_) | Kind::Binary(_) | Kind::Bytes | Kind::Year => true,
        Kind::Temporal => first_word(column) != "timestamp",
        _ => false,
    }
}

/// The type that a binlog would give the column.
fn logged(column: &Column) -> LoggedType {
    let code = match &column.kind {
        Kind::Int { bytes: 1, .. } => 1,
        Kind::Int { bytes: 2, .. } => 2,
        Kind::Int { bytes: 3, .. } => 9,
        Kind::Int { bytes: 4, .. } => 3,
        Kind::Int { .. } => 8,
        Kind::Float => 4,
        Kind::Double => 5,
        Kind::Decimal => 246,
        Kind::Bit => 16,
        Kind::Year => 13,
        Kind::Enum => 247,
        Kind::Set => 248,
        Kind::Temporal => match first_word(column) {
            "date" => 10,
            "time" => 19,
            "datetime" => 18,
            _ => 17,
        },
        Kind::Text(_) | Kind::Bytes => 252,
        Kind::Binary(_) | Kind::Inet(_) | Kind::Uuid => 254,
    };
    LoggedType { code, meta: 0 }
}

fn selected(column: &Column) -> String {
    let name = quoted(&column.name);
    match column.kind {
        // all digits, whatever the column says of how many are shown
        Kind::Float | Kind::Double => format!("{name}+0e0"),
        Kind::Bit | Kind::Enum | Kind::Set => format!("{name}+0"),
        Kind::Temporal if first_word(column) == "timestamp" => format!("UNIX_TIMESTAMP({name})"),
        // not converted for the client
        Kind::Text(_) => format!("CAST({name} AS BINARY)"),
        _ => name,
    }
}

fn value(column: &Column, bytes: &[u8]) -> Option<Value> {
    let text = || std::str::from_utf8(bytes).ok();
    Some(match &column.kind {
        Kind::Int { unsigned: true, bytes } => {
            // as the log has it: the bits, sign-extended from the column's width
            let shift = 64 - 8 * u32::from((*bytes).clamp(1, 8));
            Value::Int((text()?.parse::<u64>().ok()? << shift).cast_signed() >> shift)
        }
        Kind::Int { .. } => Value::Int(text()?.parse().ok()?),
        Kind::Float => Value::Float(text()?.parse().ok()?),
        Kind::Double => Value::Double(text()?.parse().ok()?),
        Kind::Decimal => Value::Decimal(text()?.into()),
        Kind::Bit | Kind::Year | Kind::Enum | Kind::Set => Value::Number(text()?.parse().ok()?),
        Kind::Temporal if first_word(column) == "timestamp" => Value::Temporal(temporal::unix(text()?)?),
        Kind::Temporal => Value::Temporal(text()?.into()),
        Kind::Text(_) if first_word(column) == "char" => Value::Bytes(trimmed(bytes, b' ').into()),
        Kind::Binary(_) => Value::Bytes(trimmed(bytes, 0).into()),
        _ => Value::Bytes(bytes.into()),
    })
}

fn trimmed(bytes: &[u8], end: u8) -> &[u8] {
    let length = bytes.iter().rposition(|b| *b != end).map_or(0, |at| at + 1);
    bytes.get(..length).unwrap_or_default()
}

fn key_literal(column: &Column, value: &Value) -> String {
    let mut out = String::new();
    match (&column.kind, value) {
        (Kind::Text(charset), Value::Bytes(v)) => {
            out.push('_');
            out.push_str(charset);
            out.push(' ');
            super::entry::put_hex(&mut out, v);
        }
        (Kind::Binary(length), Value::Bytes(v)) => {
            let mut padded = v.to_vec();
            padded.resize((*length).max(v.len()), 0);
            super::entry::put_hex(&mut out, &padded);
        }
        (_, Value::Bytes(v)) => super::entry::put_hex(&mut out, v),
        _ => {
            let mut plain = Vec::new();
            column.put(&mut plain, value);
            out = String::from_utf8_lossy(&plain).into_owned();
        }
    }
    out
}

/// `d.t (id INT AUTO_INCREMENT PRIMARY KEY, n INT, v VARCHAR)` for unit tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn table(only_key: bool, auto: bool) -> Table {
        let column = |name: &str, kind: Kind, words: &str| Column {
            name: name.into(),
            kind,
            words: words.into(),
            generated: false,
            collation: String::new(),
        };
        let int = || Kind::Int { bytes: 4, unsigned: false };
        let columns = vec![
            column("id", int(), "int(11)"),
            column("n", int(), "int(11)"),
            column("v", Kind::Text("utf8mb4".into()), "varchar(20)"),
        ];
        let types = columns.iter().map(logged).collect();
        let name = TableName { database: "d".into(), name: "t".into() };
        let uniques = Some(if only_key { vec![] } else { vec![vec![1]] });
        Table {
            columns,
            shape: Arc::new(Shape { name, types }),
            key: vec![0],
            only_key,
            uniques,
            auto: auto.then_some(0),
            transactional: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, words: &str, text: &str) -> Option<Value> {
        let column = Column { name: "c".into(), kind, words: words.into(), generated: false, collation: String::new() };
        value(&column, text.as_bytes())
    }

    #[test]
    fn values_are_those_of_a_log() {
        let int = |bytes, unsigned| Kind::Int { bytes, unsigned };
        assert_eq!(read(int(1, true), "tinyint(3) unsigned", "255"), Some(Value::Int(-1)));
        assert_eq!(read(int(8, true), "bigint(20) unsigned", "18446744073709551615"), Some(Value::Int(-1)));
        assert_eq!(read(int(4, true), "int(10) unsigned zerofill", "0000000005"), Some(Value::Int(5)));
        assert_eq!(read(int(8, false), "bigint(20)", "-9223372036854775808"), Some(Value::Int(i64::MIN)));
        assert_eq!(read(Kind::Float, "float", "0.10000000149011612"), Some(Value::Float(0.1)));
        assert_eq!(read(Kind::Text("latin1".into()), "char(5)", "a  "), Some(Value::Bytes(b"a"[..].into())));
        assert_eq!(read(Kind::Text("latin1".into()), "varchar(5)", "a  "), Some(Value::Bytes(b"a  "[..].into())));
        assert_eq!(read(Kind::Binary(4), "binary(4)", "a\0\0\0"), Some(Value::Bytes(b"a"[..].into())));
        assert_eq!(
            read(Kind::Temporal, "timestamp(3)", "951827696.120"),
            Some(Value::Temporal("2000-02-29 12:34:56.120".into()))
        );
        assert_eq!(read(int(4, false), "int", "x"), None);
    }

    #[test]
    fn keys_are_found_by_hexadecimal_literals() {
        let t = testing::table(true, true);
        let row = |id: i64, v: &str| -> Row { [Value::Int(id), Value::Null, Value::Bytes(v.as_bytes().into())].into() };
        assert_eq!(t.by_keys(&[row(1, "a"), row(-2, "b")]), "`id` IN (1,-2)");
        let two = Table { key: vec![2, 0], ..t };
        assert_eq!(two.by_keys(&[row(1, "it's")]), "(`v` = _utf8mb4 X'69742773' AND `id` = 1)");
        assert_ne!(two.key_of(&row(1, "a")), two.key_of(&row(1, "b")));
    }
}
