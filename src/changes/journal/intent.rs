//! Tables whose engine has no transactions: a write and its entry cannot commit together, so an intent goes before the write, and
//! whoever finds one whose writer is gone settles it from the rows that are there.
//!
//! ```text
//! GET_LOCK(table) ─► rows before ─► INSERT intent ─► WRITE ─► rows after ─► INSERT journal, DELETE intent ─► RELEASE_LOCK
//! ```
//!
//! One writer of a table at a time, over all proxies: the store's own locks of such engines are no finer. The lock goes with its
//! connection: an intent that is there while the lock is free is of a writer that is dead, and what it did is the difference
//! between the rows that the intent holds and those that its question finds. The applier's owner settles such intents, and so does the
//! next writer of the table, before it reads.
//!
//! Intents are signed as entries are (RULES.md 43).

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::entry::{Entry, Ids, Kind, Secret, insert, put_hex};
use super::record::net;
use super::table::{Table, TableError};
use super::{codec, schema};
use crate::backend::connection::{QueryError, Rows};
use crate::backend::{Backend, StoreHandle, control};
use crate::entry::{Change, Row, RowChange, Uuid};
use crate::wire::codec::{Malformed, Reader, put_lenenc, put_lenenc_bytes};

const LIMIT: Duration = Duration::from_secs(10);
/// The store's error.
const NO_SUCH_TABLE: u16 = 1146;

/// What is about to be written, and how to see what was.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The table's database and name.
    pub table: (String, String),
    /// What the question is asked under: values of [`CONTEXT`].
    pub context: Vec<Vec<u8>>,
    /// The question for its rows.
    pub question: Vec<u8>,
    /// The rows before.
    pub before: Vec<RowChange>,
}

/// What changes how a question is read.
pub const CONTEXT: &str = "SELECT @@character_set_client, @@collation_connection, @@sql_mode, @@time_zone";

/// The name of the lock of a table.
#[must_use]
pub fn lock(database: &str, name: &str) -> String {
    let digest = Sha256::digest(format!("{database}\0{name}").to_lowercase());
    format!("switchover/{}", crate::wire::hex::hex(digest.get(..16).unwrap_or(&digest)))
}

impl Intent {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_lenenc_bytes(&mut out, self.table.0.as_bytes());
        put_lenenc_bytes(&mut out, self.table.1.as_bytes());
        put_lenenc(&mut out, self.context.len() as u64);
        self.context.iter().for_each(|value| put_lenenc_bytes(&mut out, value));
        put_lenenc_bytes(&mut out, &self.question);
        out.extend(codec::write(&self.before));
        out
    }

    fn read(payload: &[u8]) -> Result<Intent, Malformed> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Malformed("a name that is no text"));
        let mut r = Reader::new(payload);
        let table = (text(r.lenenc_bytes()?)?, text(r.lenenc_bytes()?)?);
        let mut context = Vec::new();
        for _ in 0..r.lenenc()? {
            context.push(r.lenenc_bytes()?.to_vec());
        }
        let question = r.lenenc_bytes()?.to_vec();
        Ok(Intent { table, context, question, before: codec::read(r.rest())? })
    }

    fn entry(&self, group: &str, uuid: Uuid) -> Entry {
        let (part, parts, kind, at) = (0, 0, Kind::Rows, 0);
        Entry { uuid, group: group.to_owned(), transaction: uuid, part, parts, kind, at, payload: self.write() }
    }

    /// The statement that enters it.
    #[must_use]
    pub fn insert(&self, group: &str, uuid: Uuid, secret: &Secret) -> String {
        let entry = self.entry(group, uuid);
        let mut sql = "INSERT INTO switchover.journal_open VALUES (".to_owned();
        let lock = lock(&self.table.0, &self.table.1);
        for (n, bytes) in
            [&uuid.0[..], lock.as_bytes(), group.as_bytes(), &entry.payload, &entry.tag(secret)].iter().enumerate()
        {
            sql.push_str(if n > 0 { "," } else { "" });
            put_hex(&mut sql, bytes);
        }
        sql.push(')');
        sql
    }
}

/// The statements that enter what became of an intent, and take it away; COMMIT is among them.
#[must_use]
pub fn resolve(group: &str, uuid: Uuid, changes: &[RowChange], secret: &Secret, ids: Ids) -> Vec<String> {
    let entries = super::entries(group, changes);
    let mut parts = vec!["BEGIN".to_owned()];
    if !entries.is_empty() {
        parts.push(insert(&entries, secret, ids));
    }
    let mut delete = "DELETE FROM switchover.journal_open WHERE uuid = ".to_owned();
    put_hex(&mut delete, &uuid.0);
    parts.push(delete);
    parts.push("COMMIT".to_owned());
    parts
}

/// Why an intent could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The store.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// What is no intent of a proxy's.
    #[error("{0}")]
    Odd(String),
}

/// Settles the intents of a table whose lock the caller holds, or, of those tables whose lock is free, of all; how many. A journal of
/// before there were intents has none.
///
/// # Errors
/// [`SettleError`].
pub async fn settle(store: &Arc<StoreHandle>, held: Option<&str>) -> Result<u64, SettleError> {
    let mut backend = connect(store).await?;
    let found = found(&mut backend, "SELECT DISTINCT lock_name FROM switchover.journal_open").await?;
    let names: Vec<String> = found
        .rows
        .iter()
        .filter_map(|row| row.first()?.as_deref())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .filter(|name| held.is_none_or(|held| held == name))
        .collect();
    let mut settled = 0;
    for name in names {
        // (the name is the table's, and has come from it as hexadecimal digits; whatever else it is fits no lock)
        let quoted = quoted(&name);
        if held.is_none() {
            let got = backend.query(format!("SELECT GET_LOCK({quoted}, 0)").as_bytes()).await?;
            if got.first(0) != Some(b"1") {
                continue;
            }
        }
        settled += settle_table(store, &quoted).await?;
        if held.is_none() {
            backend.query(format!("SELECT RELEASE_LOCK({quoted})").as_bytes()).await?;
        }
    }
    let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
    Ok(settled)
}

/// How many of a group there are.
///
/// # Errors
/// As the store's.
pub async fn open(backend: &mut Backend, group: &str) -> Result<u64, QueryError> {
    let mut sql = "SELECT uuid FROM switchover.journal_open WHERE group_name = ".to_owned();
    put_hex(&mut sql, group.as_bytes());
    Ok(found(backend, &sql).await?.rows.len() as u64)
}

/// Intents; none, in a journal of before there were any.
async fn found(backend: &mut Backend, sql: &str) -> Result<Rows, QueryError> {
    match backend.query(sql.as_bytes()).await {
        Err(QueryError::Refused(e)) if e.code == NO_SUCH_TABLE => Ok(Rows::default()),
        answer => answer,
    }
}

fn quoted(name: &str) -> String {
    let mut out = "CONVERT(".to_owned();
    put_hex(&mut out, name.as_bytes());
    out.push_str(" USING utf8mb4)");
    out
}

async fn connect(store: &Arc<StoreHandle>) -> Result<Backend, QueryError> {
    control::connect(store, LIMIT).await.map_err(|e| QueryError::Io(std::io::Error::other(e.to_string())))
}

async fn settle_table(store: &Arc<StoreHandle>, name: &str) -> Result<u64, SettleError> {
    let mut backend = connect(store).await?;
    let signing = schema::signing(&mut backend).await?;
    let (secret, ids) = signing.ok_or_else(|| SettleError::Odd("no secret".to_owned()))?;
    let sql = format!("SELECT uuid, group_name, payload, mac FROM switchover.journal_open WHERE lock_name = {name}");
    let found = backend.query(sql.as_bytes()).await?;
    let mut settled = 0;
    for row in &found.rows {
        let bytes = |at: usize| row.get(at).and_then(|v| v.as_deref()).unwrap_or_default();
        let uuid = Uuid::read(bytes(0)).unwrap_or_default();
        let group = String::from_utf8_lossy(bytes(1)).into_owned();
        let odd = |why: &str| SettleError::Odd(format!("intent {uuid} in switchover.journal_open: {why}"));
        let intent = Intent::read(bytes(2)).map_err(|e| odd(&e.to_string()))?;
        if !intent.entry(&group, uuid).is_signed_by(&secret, bytes(3)) {
            return Err(odd("not signed by a proxy"));
        }
        settle_one(store, &intent, (&group, uuid), &secret, ids).await?;
        settled += 1;
    }
    let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
    Ok(settled)
}

async fn settle_one(
    store: &Arc<StoreHandle>,
    intent: &Intent,
    (group, uuid): (&str, Uuid),
    secret: &Secret,
    ids: Ids,
) -> Result<(), SettleError> {
    let mut backend = connect(store).await?;
    let table = Table::read(&mut backend, &intent.table.0, &intent.table.1).await?;
    let text = |at: usize| intent.context.get(at).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default();
    let word = |text: String| text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let set = format!(
        "SET sql_mode = {}, time_zone = {}, character_set_client = {}, collation_connection = {}",
        quoted(&text(2)),
        quoted(&text(3)),
        word(text(0)),
        word(text(1))
    );
    backend.execute(set.as_bytes()).await?;
    let rows = backend.query(&intent.question).await?.rows;
    let after: Result<Vec<Row>, String> = rows.iter().map(|row| table.row(row)).collect();
    let after = after.map_err(SettleError::Odd)?;
    let before = intent.before.iter().filter_map(|change| match &change.change {
        Change::Delete(row) => Some(row.clone()),
        _ => None,
    });
    let changes = changed(&table, before.collect(), after);
    for sql in resolve(group, uuid, &changes, secret, ids) {
        super::each(&mut backend, &sql).await?;
    }
    let _ = backend.send(crate::wire::command::COM_QUIT, &[]).await;
    Ok(())
}

/// What the rows of a table became.
#[must_use]
pub fn changed(table: &Table, before: Vec<Row>, after: Vec<Row>) -> Vec<RowChange> {
    let change = |change| RowChange { table: Arc::clone(&table.shape), change, foreign_keys: false };
    net(table, before, after).into_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::super::table::testing::table;
    use super::*;
    use crate::entry::Value;

    #[test]
    fn an_intent_is_read_back() {
        let t = table(true, true);
        let row: Row = [Value::Int(1), Value::Null, Value::Bytes(b"a".as_slice().into())].into();
        let before = changed(&t, vec![row], Vec::new());
        let context = vec![b"latin1".to_vec(), b"latin1_bin".to_vec(), Vec::new(), b"SYSTEM".to_vec()];
        let intent = Intent { table: ("d".into(), "t".into()), context, question: b"SELECT ';'".to_vec(), before };
        let bytes = intent.write();
        assert_eq!(Intent::read(&bytes).unwrap(), intent);
        for cut in 0..bytes.len() {
            assert!(Intent::read(&bytes[..cut]).is_err());
        }
        let secret = Secret([3; 32]);
        let entry = intent.entry("g", Uuid([1; 16]));
        assert!(entry.is_signed_by(&secret, &entry.tag(&secret)));
        assert!(!intent.entry("h", Uuid([1; 16])).is_signed_by(&secret, &entry.tag(&secret)));
    }

    #[test]
    fn a_lock_is_of_one_table() {
        assert_eq!(lock("d", "T"), lock("D", "t"));
        assert_ne!(lock("d", "t"), lock("d", "u"));
        assert!(lock("d", "t").len() < 64);
    }
}
