//! The dialog behind the MySQL protocol, by opensrv-mysql: login with `mysql_native_password`, text and prepared statements.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::OnceLock;

use async_trait::async_trait;
use opensrv_mysql::{
    AsyncMysqlShim, Column, ColumnFlags, ColumnType, ErrorKind, InitWriter, OkResponse, ParamParser, QueryResultWriter,
    StatementMetaWriter, StatusFlags, ValueInner,
};
use tokio::io::AsyncWrite;

use super::super::action::{Actions, Actor, Surface};
use super::super::login::Logins;
use super::dialog::{Answer, Dialog, VERSION};
use super::expression::Refusal;
use super::relation::{Cell, Relation};

/// Prepared statements of one connection.
const MAX_PREPARED: usize = 1_000;

/// One connection to the console.
pub(crate) struct Shim {
    actions: Actions,
    logins: Arc<Logins>,
    from: std::net::SocketAddr,
    id: u32,
    salt: [u8; 20],
    /// Who has logged in; told to whoever watches the deadline of logins.
    actor: Arc<OnceLock<Actor>>,
    dialog: Option<Dialog>,
    prepared: HashMap<u32, String>,
    next: u32,
}

impl Shim {
    pub(crate) fn new(
        actions: Actions,
        logins: Arc<Logins>,
        from: std::net::SocketAddr,
        id: u32,
        actor: Arc<OnceLock<Actor>>,
    ) -> Shim {
        let salt = crate::auth::random::scramble();
        Shim { actions, logins, from, id, salt, actor, dialog: None, prepared: HashMap::new(), next: 0 }
    }

    async fn answer(&mut self, sql: &str) -> Result<Answer, Refusal> {
        let Some(actor) = self.actor.get() else { return Err(Refusal::new(1045, "Access denied")) };
        // an account that was taken away, or whose role has changed, is so at once
        let users = self.actions.running().admin().users;
        let Some(user) = users.get(&actor.name) else {
            return Err(Refusal::new(1045, format!("Access denied: {} is no admin user any more", actor.name)));
        };
        let (actions, id) = (&self.actions, self.id);
        let dialog = self.dialog.get_or_insert_with(|| Dialog::new(actions.clone(), actor.clone(), id));
        dialog.actor.role = user.role;
        dialog.answer(sql).await
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

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn connect_id(&self) -> u32 {
        self.id
    }

    fn salt(&self) -> [u8; 20] {
        self.salt
    }

    async fn authenticate(&self, _plugin: &str, user: &[u8], salt: &[u8], answer: &[u8]) -> bool {
        let name = String::from_utf8_lossy(user).into_owned();
        let users = self.actions.running().admin().users;
        let salt: Vec<u8> = salt.to_vec();
        let proves = |password: &str| {
            let stage1 = crate::auth::native::stage1(password.as_bytes());
            super::super::login::same(&crate::auth::native::native_answer(&salt, stage1), answer)
        };
        let found = users.get(&name).filter(|user| proves(&user.password)).map(|user| user.role);
        self.logins.ended(self.from.ip(), found.is_some()).await;
        let Some(role) = found else {
            tracing::warn!(user = name, from = %self.from, "a login at the SQL console was refused");
            return false;
        };
        self.actor.set(Actor { name, surface: Surface::Console, from: self.from.to_string(), role }).is_ok()
    }

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
        let database = database.trim_matches(|c| matches!(c, '`' | ';' | ' ')).to_lowercase();
        if matches!(database.as_str(), "switchover" | "information_schema" | "") {
            return writer.ok().await;
        }
        writer.error(ErrorKind::ER_BAD_DB_ERROR, format!("Unknown database '{database}'").as_bytes()).await
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
