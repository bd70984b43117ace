//! The dialog behind opensrv-mysql: text and prepared statements, rows and words.

use std::collections::HashMap;
use std::io;

use async_trait::async_trait;
use opensrv_mysql::{
    AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, OkResponse, ParamParser, QueryResultWriter,
    StatementMetaWriter, StatusFlags, ValueInner,
};
use tokio::io::AsyncWrite;

use super::super::action::Actions;
use super::dialog::{Answer, Dialog};
use super::expression::Refusal;
use super::relation::{Cell, Relation};

/// Prepared statements of one connection.
const MAX_PREPARED: usize = 1_000;

/// One connection to the console.
pub(crate) struct Shim {
    actions: Actions,
    dialog: Dialog,
    prepared: HashMap<u32, String>,
    next: u32,
}

impl Shim {
    pub(crate) fn new(actions: Actions, dialog: Dialog) -> Shim {
        Shim { actions, dialog, prepared: HashMap::new(), next: 0 }
    }

    async fn answer(&mut self, sql: &str) -> Result<Answer, Refusal> {
        if let Some(refusal) = super::engine::refusal(sql) {
            return Err(refusal);
        }
        // an account that was taken away, or whose role has changed, is so at once
        let users = self.actions.running().admin().users;
        let Some(user) = users.get(&self.dialog.actor.name) else {
            let text = format!("Access denied: {} is no admin user any more", self.dialog.actor.name);
            return Err(Refusal::new(1045, text));
        };
        self.dialog.actor.role = user.role;
        self.dialog.answer(sql).await
    }
}

/// The columns as the protocol describes them: numbers where all cells are, else text.
fn described(relation: &Relation) -> Vec<Column> {
    let kind = |at: usize| {
        let mut cells = relation.rows.iter().filter_map(|row| row.get(at)).filter(|c| **c != Cell::Null).peekable();
        if cells.peek().is_none() {
            return ColumnType::MYSQL_TYPE_VAR_STRING;
        }
        let cells: Vec<&Cell> = cells.collect();
        if cells.iter().all(|c| matches!(c, Cell::Int(_))) {
            ColumnType::MYSQL_TYPE_LONGLONG
        } else if cells.iter().all(|c| matches!(c, Cell::Int(_) | Cell::Real(_))) {
            ColumnType::MYSQL_TYPE_DOUBLE
        } else {
            ColumnType::MYSQL_TYPE_VAR_STRING
        }
    };
    relation
        .columns
        .iter()
        .enumerate()
        .map(|(at, name)| Column {
            table: String::new(),
            column: name.clone(),
            coltype: kind(at),
            colflags: ColumnFlags::empty(),
        })
        .collect()
}

async fn write<W: AsyncWrite + Send + Unpin>(
    answer: Result<Answer, Refusal>,
    results: QueryResultWriter<'_, W>,
) -> io::Result<()> {
    let relation = match answer {
        Ok(Answer::Done(info)) => {
            let status_flags = StatusFlags::SERVER_STATUS_AUTOCOMMIT;
            return results.completed(OkResponse { info, status_flags, ..OkResponse::default() }).await;
        }
        Ok(Answer::Rows(relation)) => relation,
        Err(refusal) => {
            let kind = ErrorKind::from(refusal.code);
            return results.error(kind, refusal.text.as_bytes()).await;
        }
    };
    let columns = described(&relation);
    let mut writer = results.start(&columns).await?;
    for row in &relation.rows {
        for (cell, column) in row.iter().zip(&columns) {
            match column.coltype {
                ColumnType::MYSQL_TYPE_LONGLONG => writer.write_col(match cell {
                    Cell::Int(n) => Some(*n),
                    _ => None,
                })?,
                ColumnType::MYSQL_TYPE_DOUBLE => writer.write_col(cell.number())?,
                _ => writer.write_col(cell.text())?,
            }
        }
        writer.end_row().await?;
    }
    writer.finish().await
}

/// `sql` with its question marks replaced by values.
fn bound(sql: &str, values: &[String]) -> String {
    let mut values = values.iter();
    let mut out = String::new();
    let mut quote = None;
    for c in sql.chars() {
        match (quote, c) {
            (None, '?') => {
                out.push_str(values.next().map_or("NULL", String::as_str));
                continue;
            }
            (None, '\'' | '"' | '`') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
        out.push(c);
    }
    out
}

fn literal(value: ValueInner<'_>) -> String {
    match value {
        ValueInner::NULL | ValueInner::Date(_) | ValueInner::Time(_) | ValueInner::Datetime(_) => "NULL".to_owned(),
        ValueInner::Int(n) => n.to_string(),
        ValueInner::UInt(n) => n.to_string(),
        ValueInner::Double(n) => n.to_string(),
        ValueInner::Bytes(bytes) => {
            format!("'{}'", String::from_utf8_lossy(bytes).replace('\\', "\\\\").replace('\'', "''"))
        }
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Shim {
    type Error = io::Error;

    async fn on_prepare<'a>(&'a mut self, sql: &'a str, info: StatementMetaWriter<'a, W>) -> io::Result<()> {
        if self.prepared.len() >= MAX_PREPARED {
            let text: &[u8] = b"too many prepared statements";
            return info.error(ErrorKind::from(1461), text).await;
        }
        self.next = self.next.wrapping_add(1);
        self.prepared.insert(self.next, sql.to_owned());
        let marks = bound(sql, &[]).matches("NULL").count() - sql.matches("NULL").count();
        let mark = |_| Column {
            table: String::new(),
            column: "?".to_owned(),
            coltype: ColumnType::MYSQL_TYPE_VAR_STRING,
            colflags: ColumnFlags::empty(),
        };
        let marks: Vec<Column> = (0..marks).map(mark).collect();
        info.reply(self.next, &marks, &[]).await
    }

    async fn on_execute<'a>(
        &'a mut self,
        id: u32,
        params: ParamParser<'a>,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        let values: Vec<String> = params.into_iter().map(|p| literal(p.value.into_inner())).collect();
        let sql = self.prepared.get(&id).map(|sql| bound(sql, &values)).unwrap_or_default();
        let answer = self.answer(&sql).await;
        write(answer, results).await
    }

    async fn on_close<'a>(&'a mut self, id: u32)
    where
        W: 'async_trait,
    {
        self.prepared.remove(&id);
    }

    async fn on_query<'a>(&'a mut self, sql: &'a str, results: QueryResultWriter<'a, W>) -> io::Result<()> {
        let answer = self.answer(sql).await;
        write(answer, results).await
    }

    async fn on_init<'a>(&'a mut self, database: &'a str, writer: InitWriter<'a, W>) -> io::Result<()> {
        match self.dialog.change_database(database.trim_matches(|c| matches!(c, '`' | ';' | ' '))) {
            Ok(()) => writer.ok().await,
            Err(refusal) => writer.error(ErrorKind::from(refusal.code), refusal.text.as_bytes()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_in_quotes_are_none() {
        let values = [literal(ValueInner::Bytes(b"it's")), "7".to_owned()];
        assert_eq!(bound("a = ? AND b = '?' AND `c?` = ?", &values), "a = 'it''s' AND b = '?' AND `c?` = 7");
        assert_eq!(literal(ValueInner::UInt(u64::MAX)), u64::MAX.to_string());
    }
}
