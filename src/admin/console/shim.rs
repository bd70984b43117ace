//! The dialog behind opensrv-mysql: text and prepared statements, rows and words.

use std::io;

use async_trait::async_trait;
use opensrv_mysql::{
    AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, ParamParser, QueryResultWriter,
    StatementMetaWriter, ValueInner,
};
use tokio::io::AsyncWrite;

use super::super::action::Actions;
use super::dialog::{Answer, Dialog};
use super::engine::{self, Own};
use super::expression::Refusal;
use super::prepared::{Prepared, STAND_IN, malformed};
use super::relation::{Cell, Relation};

/// One connection to the console.
pub(crate) struct Shim {
    actions: Actions,
    dialog: Dialog,
    prepared: Prepared,
}

impl Shim {
    pub(crate) fn new(actions: Actions, dialog: Dialog) -> Shim {
        Shim { actions, dialog, prepared: Prepared::default() }
    }

    async fn answer(&mut self, sql: &str) -> Result<Answer, Refusal> {
        let own = engine::own(sql);
        if let Some(Own::Refused(refusal)) = own {
            return Err(refusal);
        }
        // an account that was taken away, or whose role has changed, is so at once
        let users = self.actions.running().admin().users;
        let Some(user) = users.get(&self.dialog.actor.name) else {
            let text = format!("Access denied: {} is no admin user any more", self.dialog.actor.name);
            return Err(Refusal::new(1045, text));
        };
        self.dialog.actor.role = user.role;
        match own {
            Some(_) => Err(engine::put_text(&self.statistics())),
            None => self.dialog.answer(sql).await,
        }
    }

    /// What COM_STATISTICS answers.
    fn statistics(&self) -> String {
        let status = self.actions.running().status();
        let (up, queries) = (status.uptime_seconds, status.totals.queries);
        #[expect(clippy::cast_precision_loss, reason = "statements are far below 2^53")]
        let each = queries as f64 / up.max(1) as f64;
        let threads = status.sessions.open;
        format!("Uptime: {up}  Threads: {threads}  Questions: {queries}  Queries per second avg: {each:.3}")
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
            // (opensrv-mysql does not say how long a text is: mysqlnd loses its way behind such an OK)
            return results.error(ErrorKind::from(1105), engine::put_done(&info).text.as_bytes()).await;
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

/// A parameter, as it is described: of whatever type.
fn mark() -> Column {
    Column {
        table: String::new(),
        column: "?".to_owned(),
        coltype: ColumnType::MYSQL_TYPE_VAR_STRING,
        colflags: ColumnFlags::empty(),
    }
}

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> AsyncMysqlShim<W> for Shim {
    type Error = io::Error;

    async fn on_prepare<'a>(&'a mut self, sql: &'a str, info: StatementMetaWriter<'a, W>) -> io::Result<()> {
        if let Some(Own::StandIn) = engine::own(sql) {
            return info.reply(STAND_IN, &[mark()], &[]).await;
        }
        match self.prepared.prepare(sql) {
            Ok((id, parameters)) => {
                let marks: Vec<Column> = (0..parameters).map(|_| mark()).collect();
                info.reply(id, &marks, &[]).await
            }
            Err(refusal) => info.error(ErrorKind::from(refusal.code), refusal.text.as_bytes()).await,
        }
    }

    /// (of [`STAND_IN`]: nothing else gets here)
    async fn on_execute<'a>(
        &'a mut self,
        _id: u32,
        params: ParamParser<'a>,
        results: QueryResultWriter<'a, W>,
    ) -> io::Result<()> {
        let whole = params.into_iter().next().map(|p| p.value.into_inner());
        let bound = match whole {
            Some(ValueInner::Bytes(whole)) => self.prepared.bound(whole),
            _ => Err(malformed()),
        };
        let answer = match bound {
            Ok(sql) => self.answer(&sql).await,
            Err(refusal) => Err(refusal),
        };
        write(answer, results).await
    }

    async fn on_close<'a>(&'a mut self, id: u32)
    where
        W: 'async_trait,
    {
        self.prepared.close(id);
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
