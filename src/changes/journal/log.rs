//! Reads the journal: entries above the last that is done, in the order of their ids, as whole transactions.
//!
//! ```text
//! entries above `last` ─► up to the first missing id ─► barrier ─► verified, assembled ─► Item
//!                              │ missing for a while
//!                              └─► tombstone: dead · in flight · there after all
//! ```
//!
//! An entry is yielded only behind a commit of ours that came after it was read: entries are visible before they are durable
//! (RULES.md 30). Ids are dense but for those of transactions that were rolled back, so that a missing one is either in flight
//! or dead; which, the tombstone says (RULES.md 32). Nothing behind a missing id is yielded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::codec;
use super::entry::{COLUMNS, Entry, Kind, Secret, put_hex};
use super::schema::READ_SECRET;
use crate::backend::connection::{QueryError, Rows};
use crate::backend::{Backend, StoreHandle, control};
use crate::changes::{Interest, Item, LogError, Stop, Tables};
use crate::entry::{Position, Transaction, Uuid};

/// For connecting and for each statement.
const LIMIT: Duration = Duration::from_secs(10);
/// Entries that are looked at in one go, and the bytes of their payloads.
const ENTRIES: usize = 1_000;
const BYTES: u64 = 16 << 20;
/// Between two looks at a journal in which nothing is new: it grows up to the second.
const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_millis(50);
/// A missing id is left alone for so long: its transaction is most likely between its INSERT and its COMMIT.
const GRACE: Duration = Duration::from_millis(500);
/// Missing ids in a row that are believed: a sequence leaves its cache unused when its server ends.
const MISSING: u64 = 100_000;
/// Transactions of others after which the position is told, and how often it is said that the store is alive.
const PASSED: u32 = 256;
const ALIVE: Duration = Duration::from_secs(1);
/// Memory that one transaction may take.
const MAX_TRANSACTION: usize = 2 << 30;

/// Errors of a server of a kind that does not know the variable are passed over. (On OceanBase a reader waits for who commits just then,
/// and with a timeout of nothing gets 4012.)
const SETTINGS: [&str; 6] = [
    "SET innodb_lock_wait_timeout = 1",
    "SET innodb_lock_wait_timeout = 0",
    "SET ob_trx_lock_timeout = 100000",
    "SET autocommit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET sql_mode = 'STRICT_ALL_TABLES'",
];

/// An entry as it stands in the table.
struct Stored {
    id: u64,
    entry: Entry,
    tag: Vec<u8>,
}

/// What a tombstone found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Buried {
    /// Nobody's, from now on.
    Dead,
    /// An entry that has come meanwhile.
    There,
    /// An entry that is not committed yet: whoever has it will end.
    InFlight,
}

/// A journal that is being read.
pub struct Log {
    backend: Backend,
    group: String,
    tables: Box<dyn Tables>,
    secret: Secret,
    /// The newest id that is read, with its entry's UUID; and the position that stands for it.
    last: (u64, Uuid),
    /// Entries of transactions whose commit was not read yet.
    open: HashMap<Uuid, Vec<Entry>>,
    ready: VecDeque<Item>,
    /// What is to be said behind the items that are ready.
    stop: Option<Box<Stop>>,
    /// When which id was the newest, as far back as missing ids are left alone.
    seen: VecDeque<(Instant, u64)>,
    pause: Duration,
    passed: u32,
    told: Instant,
}

fn lost(error: impl std::fmt::Display) -> LogError {
    LogError::Lost(error.to_string())
}

fn stop(transaction: String, what: impl Into<String>, remedy: impl Into<String>, after: Option<Position>) -> LogError {
    LogError::Stop(Box::new(Stop { transaction, what: what.into(), remedy: remedy.into(), after }))
}

const LOAD_AGAIN: &str = "load the standby again, then `switchover init GROUP`";

impl Log {
    /// Starts to read behind `from`.
    ///
    /// # Errors
    /// [`LogError`]; an entry that is not there any more, or is another's now, is a [`Stop`].
    pub async fn open(
        store: &Arc<StoreHandle>,
        group: &str,
        from: &Position,
        tables: Box<dyn Tables>,
    ) -> Result<Log, LogError> {
        let Position::Journal { id, uuid } = *from else {
            let what = format!("the copy is at {from}, which is no place in a journal");
            return Err(stop(String::new(), what, LOAD_AGAIN, None));
        };
        let mut backend = control::connect(store, LIMIT).await.map_err(lost)?;
        for setting in SETTINGS {
            match timeout(LIMIT, backend.execute(setting.as_bytes())).await {
                Ok(Ok(_) | Err(QueryError::Refused(_))) => {}
                Ok(Err(e)) => return Err(lost(e)),
                Err(_) => return Err(lost("it does not answer")),
            }
        }
        let now = Instant::now();
        let mut log = Log {
            backend,
            group: group.to_owned(),
            tables,
            secret: Secret([0; 32]),
            last: (id, uuid),
            open: HashMap::new(),
            ready: VecDeque::new(),
            stop: None,
            seen: VecDeque::new(),
            pause: SHORT,
            passed: 0,
            told: now,
        };
        log.read_secret().await?;
        log.is_where_it_was().await?;
        Ok(log)
    }

    async fn rows(&mut self, sql: &str) -> Result<Rows, LogError> {
        match timeout(LIMIT, self.backend.query(sql.as_bytes())).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(QueryError::Refused(e))) if matches!(e.code, 1146 | 1049 | 1142 | 1044) => {
                let remedy = format!("switchover init {}", self.group);
                let what = format!("{} has no journal for the control account: {e}", self.backend.handle.name());
                Err(stop(String::new(), what, remedy, None))
            }
            Ok(Err(e)) => Err(lost(e)),
            Err(_) => Err(lost("it does not answer")),
        }
    }

    async fn read_secret(&mut self) -> Result<(), LogError> {
        let rows = self.rows(READ_SECRET).await?;
        let secret = rows.first(0).and_then(|bytes| bytes.try_into().ok()).map(Secret);
        let remedy = format!("switchover init {}", self.group);
        self.secret = secret.ok_or_else(|| {
            stop(String::new(), "switchover.secrets does not say what entries are signed with", remedy, None)
        })?;
        Ok(())
    }

    /// The entry up to which everything is applied: a store that lost it has given its id away again, or will.
    async fn is_where_it_was(&mut self) -> Result<(), LogError> {
        let (id, uuid) = self.last;
        if id == 0 {
            return Ok(());
        }
        let rows = self.rows(&format!("SELECT uuid FROM switchover.journal WHERE id = {id}")).await?;
        let there = rows.first(0).and_then(Uuid::read);
        if there == Some(uuid) {
            return Ok(());
        }
        let what = match there {
            Some(other) => format!(
                "entry {id} of the journal is {other}, where the standby has applied {uuid}: the authority lost what it had"
            ),
            None => format!("entry {id} of the journal, up to which the standby has applied, is not there any more"),
        };
        Err(stop(String::new(), what, LOAD_AGAIN, None))
    }

    /// The next item.
    ///
    /// # Errors
    /// [`LogError`]; the log is to be dropped then.
    pub async fn next(&mut self) -> Result<Item, LogError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            if let Some(stop) = self.stop.take() {
                return Err(LogError::Stop(stop));
            }
            if self.look().await? {
                self.pause = SHORT;
                continue;
            }
            if self.passed > 0 {
                self.passed = 0;
                return Ok(Item::Passed(self.position()));
            }
            if self.told.elapsed() >= ALIVE {
                self.told = Instant::now();
                return Ok(Item::Alive);
            }
            sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONG);
        }
    }

    fn position(&self) -> Position {
        Position::Journal { id: self.last.0, uuid: self.last.1 }
    }

    /// Reads what is new; whether anything was.
    async fn look(&mut self) -> Result<bool, LogError> {
        let last = self.last.0;
        let sql = format!(
            "SELECT id, LENGTH(payload), (SELECT MAX(id) FROM switchover.journal) FROM switchover.journal WHERE id > {last} \
             ORDER BY id LIMIT {ENTRIES}"
        );
        let rows = self.rows(&sql).await?;
        let number = |row: &Vec<Option<Vec<u8>>>, at: usize| -> Option<u64> {
            std::str::from_utf8(row.get(at)?.as_deref()?).ok()?.parse().ok()
        };
        let Some(newest) = rows.rows.first().and_then(|row| number(row, 2)) else { return Ok(false) };
        let due = self.due(newest);
        // as far as the ids go without a gap; and the gaps behind that which are old
        let (mut upto, mut bytes, mut missing, mut next) = (last, 0, Vec::new(), last + 1);
        for row in &rows.rows {
            let id = number(row, 0).ok_or_else(|| lost("an id that is no number"))?;
            if id - next > MISSING {
                if upto == last && missing.is_empty() {
                    return Err(self.far_ahead(next, id));
                }
                break;
            }
            missing.extend((next..id).take_while(|id| *id < due));
            if id == next && id == upto + 1 {
                bytes += number(row, 1).unwrap_or(0);
                if bytes > BYTES && upto > last {
                    break;
                }
                upto = id;
            }
            next = id + 1;
        }
        if upto == last {
            return self.bury(&missing).await;
        }
        let sql =
            format!("SELECT id, {COLUMNS} FROM switchover.journal WHERE id > {last} AND id <= {upto} ORDER BY id");
        let found = self.rows(&sql).await?;
        let stored = found.rows.iter().map(|row| stored(row)).collect::<Result<Vec<Stored>, LogError>>()?;
        if stored.len() as u64 != upto - last {
            return Err(lost("entries went between two looks at the journal"));
        }
        self.barrier().await?;
        for entry in stored {
            self.take(entry).await?;
            if self.stop.is_some() {
                break;
            }
        }
        Ok(true)
    }

    /// An id below this was given away long ago: greater ones have been there for a while.
    fn due(&mut self, newest: u64) -> u64 {
        let now = Instant::now();
        if self.seen.back().is_none_or(|(_, id)| *id < newest) {
            self.seen.push_back((now, newest));
        }
        while self.seen.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= GRACE) {
            self.seen.pop_front();
        }
        self.seen.front().filter(|(at, _)| now.duration_since(*at) >= GRACE).map_or(0, |(_, id)| *id)
    }

    fn far_ahead(&self, first: u64, next: u64) -> LogError {
        let what =
            format!("{} ids of the journal are missing before {next}: no store leaves out so many", next - first);
        let remedy = format!(
            "an entry with a made-up id? Look at it, and on {}: DELETE FROM switchover.journal WHERE id = {next}; then \
             `switchover standby retry {}`",
            self.backend.handle.name(),
            self.group
        );
        stop(String::new(), what, remedy, None)
    }

    /// Commits something behind what was read: then that is as durable as this (RULES.md 30).
    async fn barrier(&mut self) -> Result<(), LogError> {
        let mut group = String::new();
        put_hex(&mut group, self.group.as_bytes());
        let sql = format!(
            "INSERT INTO switchover.barriers VALUES ({group}, 1) ON DUPLICATE KEY UPDATE written = written + 1"
        );
        match timeout(LIMIT, self.backend.execute(sql.as_bytes())).await {
            Ok(Ok(ok)) if ok.affected_rows > 0 => Ok(()),
            Ok(Ok(_)) => Err(lost("the barrier changed nothing")),
            Ok(Err(e)) => Err(lost(format!("the barrier: {e}"))),
            Err(_) => Err(lost("it does not answer")),
        }
    }

    /// Settles missing ids: whether any of them was. All at once; one by one, up to the first in flight, where that fails.
    async fn bury(&mut self, missing: &[u64]) -> Result<bool, LogError> {
        if missing.is_empty() {
            return Ok(false);
        }
        if missing.len() > 1 && self.tombstones(missing).await? == Buried::Dead {
            return Ok(true);
        }
        let mut settled = false;
        for id in missing {
            if self.tombstones(&[*id]).await? == Buried::InFlight {
                break;
            }
            settled = true;
        }
        Ok(settled)
    }

    async fn tombstones(&mut self, ids: &[u64]) -> Result<Buried, LogError> {
        let mut sql = format!("INSERT INTO switchover.journal (id, {COLUMNS}) VALUES ");
        for (n, id) in ids.iter().enumerate() {
            let entry = Entry {
                uuid: super::new_uuid(),
                group: String::new(),
                transaction: Uuid::default(),
                part: 0,
                parts: 0,
                kind: Kind::Tombstone,
                at: super::now(),
                payload: Vec::new(),
            };
            sql.push_str(if n > 0 { "," } else { "" });
            entry.put(&mut sql, &id.to_string(), &self.secret);
        }
        match timeout(LIMIT, self.backend.execute(sql.as_bytes())).await {
            Ok(Ok(_)) => Ok(Buried::Dead),
            Ok(Err(QueryError::Refused(e))) if e.code == 1062 => Ok(Buried::There),
            Ok(Err(QueryError::Refused(e))) if matches!(e.code, 1205 | 1213 | 3572) => Ok(Buried::InFlight),
            Ok(Err(e)) => Err(lost(format!("a tombstone: {e}"))),
            Err(_) => Err(lost("it does not answer")),
        }
    }

    /// One entry, in its turn.
    async fn take(&mut self, stored: Stored) -> Result<(), LogError> {
        let Stored { id, entry, tag } = stored;
        let before = std::mem::replace(&mut self.last, (id, entry.uuid));
        let ours = entry.group == self.group;
        let dead = entry.kind == Kind::Tombstone;
        if !ours && !dead {
            self.pass();
            return Ok(());
        }
        if !entry.is_signed_by(&self.secret, &tag) {
            self.last = before;
            let what =
                format!("entry {id} of the journal is not signed by a proxy: somebody else wrote it, or changed it");
            let remedy =
                "find out who has more than INSERT on switchover.journal; then pass it over: `switchover standby skip`";
            let after = Some(Position::Journal { id, uuid: entry.uuid });
            self.stop =
                Some(Box::new(Stop { transaction: name(id, entry.uuid), what, remedy: remedy.to_owned(), after }));
            return Ok(());
        }
        match entry.kind {
            Kind::Tombstone => {
                self.pass();
                Ok(())
            }
            Kind::Rows => {
                self.open.entry(entry.transaction).or_default().push(entry);
                Ok(())
            }
            Kind::Commit => self.commit(id, entry, before).await,
            Kind::Signal => {
                self.passed = 0;
                let position = self.position();
                self.ready.push_back(Item::Signal(position));
                Ok(())
            }
        }
    }

    fn pass(&mut self) {
        self.passed += 1;
        if self.passed >= PASSED {
            self.passed = 0;
            let position = self.position();
            self.ready.push_back(Item::Passed(position));
        }
    }

    async fn commit(&mut self, id: u64, entry: Entry, before: (u64, Uuid)) -> Result<(), LogError> {
        let mut parts = self.open.remove(&entry.transaction).unwrap_or_default();
        if parts.len() != entry.parts as usize {
            // read before a restart: its entries are behind the position, its commit is not
            parts = self.parts_of(entry.transaction).await?;
        }
        let (after, transaction) = (self.position(), name(id, entry.uuid));
        let whole = parts.len() == entry.parts as usize && parts.iter().zip(0u32..).all(|(part, n)| part.part == n);
        let (uuid, at) = (entry.uuid, entry.at);
        parts.push(entry);
        let bytes: usize = parts.iter().map(|part| part.payload.len()).sum();
        let read = if !whole {
            Err("entries of the transaction are missing".to_owned())
        } else if bytes > MAX_TRANSACTION {
            Err(format!("a transaction of more than {} GiB", MAX_TRANSACTION >> 30))
        } else {
            let read: Result<Vec<_>, _> = parts.iter().map(|part| codec::read(&part.payload)).collect();
            read.map_err(|e| format!("an entry that cannot be read: {e}"))
        };
        match read {
            Ok(changes) => {
                let wanted = |c: &crate::entry::RowChange| {
                    self.tables.interest(&c.table.name.database, &c.table.name.name) == Interest::Group
                };
                let changes: Vec<_> = changes.into_iter().flatten().filter(wanted).collect();
                if changes.is_empty() {
                    self.pass();
                    return Ok(());
                }
                self.passed = 0;
                let transaction = Transaction { id: transaction, committed_at: at, changes, after, bytes };
                self.ready.push_back(Item::Transaction(transaction));
            }
            Err(what) => {
                self.last = before;
                let what = format!("entry {id} of the journal ({uuid}): {what}");
                let remedy = "apply the transaction by hand, then `switchover standby skip`; or load the standby again";
                self.stop = Some(Box::new(Stop { transaction, what, remedy: remedy.to_owned(), after: Some(after) }));
            }
        }
        Ok(())
    }

    /// The entries of a transaction but its last, from the table.
    async fn parts_of(&mut self, transaction: Uuid) -> Result<Vec<Entry>, LogError> {
        let mut wanted = String::new();
        put_hex(&mut wanted, &transaction.0);
        let sql = format!(
            "SELECT id, {COLUMNS} FROM switchover.journal WHERE transaction_uuid = {wanted} AND kind = {} ORDER BY part",
            Kind::Rows.number()
        );
        let rows = self.rows(&sql).await?;
        let stored = rows.rows.iter().map(|row| stored(row)).collect::<Result<Vec<Stored>, LogError>>()?;
        let ours =
            stored.into_iter().filter(|s| s.entry.group == self.group && s.entry.is_signed_by(&self.secret, &s.tag));
        Ok(ours.map(|s| s.entry).collect())
    }
}

/// A transaction's name: its commit's id and enough of the UUID to tell it from another with that id.
fn name(id: u64, uuid: Uuid) -> String {
    let uuid = uuid.to_string();
    format!("{id}/{}", uuid.get(..8).unwrap_or(&uuid))
}

fn stored(row: &[Option<Vec<u8>>]) -> Result<Stored, LogError> {
    let read = || -> Option<Stored> {
        let bytes = |at: usize| row.get(at)?.as_deref();
        let number = |at: usize| -> Option<u64> { std::str::from_utf8(bytes(at)?).ok()?.parse().ok() };
        let small = |at: usize| number(at).and_then(|n| u32::try_from(n).ok());
        let entry = Entry {
            uuid: Uuid::read(bytes(1)?)?,
            group: String::from_utf8_lossy(bytes(2)?).into_owned(),
            transaction: Uuid::read(bytes(3)?)?,
            part: small(4)?,
            parts: small(5)?,
            kind: Kind::from_number(u8::try_from(number(6)?).ok()?).ok()?,
            at: small(7)?,
            payload: bytes(8)?.to_vec(),
        };
        Some(Stored { id: number(0)?, entry, tag: bytes(9)?.to_vec() })
    };
    read().ok_or_else(|| {
        let id = row
            .first()
            .and_then(Option::as_deref)
            .map(|id| String::from_utf8_lossy(id).into_owned())
            .unwrap_or_default();
        let what = format!("entry {id} of the journal is none: a proxy of another version, or somebody else, wrote it");
        stop(
            String::new(),
            what,
            "look at it; a standby that passes it by is not the same any more: load it again",
            None,
        )
    })
}
