//! Both stores of a group, connected: their rows, and what brings a change of authority that has stopped anywhere to its end.
//!
//! A seal is DDL, which no compare-and-set guards: whoever was suspended between its look and its DROP TRIGGER would open a store
//! that was sealed meanwhile. So a seal is changed under the store's lock of that name only, behind a second look at the store's
//! own row, and an authority's row becomes `sealed` under it. Lock and DDL are one connection ([`super::seal_lock`] says where
//! they are two): whoever loses it can neither change a seal nor keep others from it, and a store ends one that says nothing for
//! [`SILENT`].

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::aside::Aside;
use super::catalog::{self, Catalog};
use super::check::Problem;
use super::record::{self, Intent, Record, Rows2, Standing, Verdict, verdict};
use super::schema::literal;
use super::seal::{self, SealError, Sealer};
use super::seal_lock::keeps_locks;
use super::seal_rename;
use super::tables::GroupTables;
use crate::backend::connection::QueryError;
use crate::backend::control::{self, ControlError};
use crate::backend::{Backend, StoreHandle};
use crate::config::model::Seal;

/// For connecting, and for a statement.
pub(super) const LIMIT: Duration = Duration::from_secs(3);

/// A store ends the connection of who changes a seal or a row, and says nothing for so many seconds: less than an intent lives.
pub(super) const SILENT: u32 = 3;

/// A row's lock is waited for as briefly as a table's (RULES.md 35); a store that does not know one of these knows the other.
pub(super) const BRIEF: [&str; 2] =
    ["SET SESSION innodb_lock_wait_timeout = 1", "SET SESSION ob_trx_lock_timeout = 1000000"];
/// Between two attempts at a row.
const PAUSE: Duration = Duration::from_millis(50);

/// One of the two.
pub struct Side {
    /// Its handle.
    pub store: Arc<StoreHandle>,
    /// The control account's connection, autocommit on.
    pub backend: Backend,
    /// The group's tables there.
    pub catalog: Catalog,
    /// See [`super::seal_lock`].
    pub(super) keeps_locks: bool,
    pub(super) row: Option<Backend>,
}

/// Both.
pub struct Pair {
    /// The group.
    pub group: String,
    /// The sides, in no order that means anything.
    pub sides: [Side; 2],
}

/// Why the pair cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A store cannot be reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A store refused, or was lost.
    #[error("store {0}: {1}")]
    Query(String, QueryError),
    /// A seal cannot be put on or taken off.
    #[error("store {0}: {1}")]
    Seal(String, SealError),
    /// The rows make no sense together.
    #[error("{0}")]
    Unclear(String),
}

impl Side {
    /// Connects to a store.
    ///
    /// # Errors
    /// As the store's.
    pub async fn connect(store: &Arc<StoreHandle>, tables: &GroupTables) -> Result<Side, PairError> {
        let mut backend = control::connect(store, LIMIT).await?;
        let failed = |e| PairError::Query(store.name().to_owned(), e);
        for sql in BRIEF {
            match backend.execute(sql.as_bytes()).await {
                Ok(_) | Err(QueryError::Refused(_)) => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let version = backend.query(b"SELECT VERSION()").await.map_err(failed)?;
        let keeps_locks = keeps_locks(&String::from_utf8_lossy(version.first(0).unwrap_or_default()));
        let catalog = catalog::read(&mut backend, tables).await.map_err(failed)?;
        Ok(Side { store: Arc::clone(store), backend, catalog, keeps_locks, row: None })
    }

    /// The store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.store.name()
    }

    pub(super) fn failed(&self, error: QueryError) -> PairError {
        PairError::Query(self.name().to_owned(), error)
    }

    /// Runs a statement; how many rows it changed.
    ///
    /// # Errors
    /// As the store's.
    pub async fn execute(&mut self, sql: &str) -> Result<u64, PairError> {
        let ok = self.backend.execute(sql.as_bytes()).await;
        ok.map(|ok| ok.affected_rows).map_err(|e| PairError::Query(self.name().to_owned(), e))
    }

    /// The first cell of a query's answer.
    ///
    /// # Errors
    /// As the store's.
    pub async fn one(&mut self, sql: &str) -> Result<String, PairError> {
        let rows = self.backend.query(sql.as_bytes()).await;
        let rows = rows.map_err(|e| PairError::Query(self.store.name().to_owned(), e))?;
        Ok(rows.first(0).map(|v| String::from_utf8_lossy(v).into_owned()).unwrap_or_default())
    }

    /// Its rows.
    ///
    /// # Errors
    /// As the store's.
    pub async fn rows(&mut self, group: &str) -> Result<Rows2, PairError> {
        record::read(&mut self.backend, group).await.map_err(|e| PairError::Query(self.store.name().to_owned(), e))
    }

    /// Replaces its row of `switchover.groups` where it is as it was seen; whether it did.
    ///
    /// # Errors
    /// As the store's.
    pub async fn replace(&mut self, group: &str, seen: (u64, Standing), new: &Record) -> Result<bool, PairError> {
        record::replace(&mut self.backend, group, seen, new)
            .await
            .map_err(|e| PairError::Query(self.store.name().to_owned(), e))
    }

    /// Puts the seal on, where the row is as it was seen; whether it is. What somebody has made where tables were is put `aside`, or stays.
    ///
    /// # Errors
    /// As [`Side::close`].
    pub(super) async fn seal(
        &mut self,
        group: &str,
        token: &str,
        seen: (u64, Standing),
        aside: Option<Aside>,
        deadline: Instant,
    ) -> Result<bool, PairError> {
        if !self.begin_change(group, Some(seen), None, deadline).await? {
            return Ok(false);
        }
        let sealed = self.put_on(group, token, aside, deadline).await;
        self.end_change(group).await?;
        sealed.map(|()| true)
    }

    /// Takes the seal off, where the row is as it was seen, or there is none as was seen; whether it is. What somebody has made where
    /// tables were keeps it on, unless a fallback has opened the store: then it is put aside.
    ///
    /// # Errors
    /// As [`Side::close`].
    pub async fn unseal(
        &mut self,
        group: &str,
        seen: Option<(u64, Standing)>,
        deadline: Instant,
    ) -> Result<bool, PairError> {
        if !self.begin_change(group, seen, None, deadline).await? {
            return Ok(false);
        }
        let aside = match seen {
            Some((epoch, Standing::Open)) => self.aside(group, epoch).await?,
            _ => None,
        };
        let mut sealer = Sealer { store: &self.store, backend: &mut self.backend, row: &mut self.row, aside };
        let taken = sealer.take_off(&self.catalog, deadline).await;
        self.end_change(group).await?;
        taken.map(|()| true).map_err(|e| PairError::Seal(self.store.name().to_owned(), e))
    }

    /// Seals the authority for the cutover that `sealed` names, and says so in its row; false where that is not under way any more.
    ///
    /// # Errors
    /// As the store's; where a transaction does not end by `deadline`.
    pub async fn close(
        &mut self,
        group: &str,
        epoch: u64,
        sealed: &Record,
        deadline: Instant,
    ) -> Result<bool, PairError> {
        let seen = (epoch, Standing::Open);
        if !self.begin_change(group, Some(seen), Some(&sealed.cutover), deadline).await? {
            return Ok(false);
        }
        let mut closed = self.put_on(group, &sealed.token, None, deadline).await.map(|()| true);
        // (behind a journal's gate: transactions that have entered something and not ended hold the row)
        while closed.is_ok() {
            closed = self.replace(group, seen, sealed).await;
            match &closed {
                Err(PairError::Query(_, QueryError::Refused(e))) if e.code == 1205 && Instant::now() < deadline => {
                    closed = Ok(true);
                    tokio::time::sleep(PAUSE).await;
                }
                _ => break,
            }
        }
        self.end_change(group).await?;
        closed
    }

    async fn put_on(
        &mut self,
        group: &str,
        token: &str,
        aside: Option<Aside>,
        deadline: Instant,
    ) -> Result<(), PairError> {
        let mut sealer = Sealer { store: &self.store, backend: &mut self.backend, row: &mut self.row, aside };
        let sealed = sealer.put_on(group, &self.catalog, token, deadline).await;
        sealed.map_err(|e| PairError::Seal(self.store.name().to_owned(), e))
    }

    /// What keeps its tables from being sealed by `rename`, where that is the way.
    pub(super) async fn rename_problems(&mut self, tables: &GroupTables) -> Result<Vec<Problem>, PairError> {
        let looked = async {
            match seal::kind(&mut self.backend, self.store.config.seal).await? {
                Seal::Trigger => Ok(Vec::new()),
                Seal::Rename => seal_rename::views(&mut self.backend, &self.catalog, tables).await,
            }
        };
        looked.await.map_err(|e| PairError::Query(self.store.name().to_owned(), e))
    }

    /// What keeps its seal, where it is one by `rename`, from being taken off.
    pub(super) async fn unseal_problems(&mut self) -> Result<Vec<Problem>, PairError> {
        let looked = seal_rename::strange_views(&mut self.backend, &self.catalog).await;
        looked.map_err(|e| PairError::Query(self.store.name().to_owned(), e))
    }

    /// From here on the store ends this connection, and what it holds, when nothing is heard of it.
    ///
    /// # Errors
    /// As the store's.
    pub async fn be_brief(&mut self) -> Result<(), PairError> {
        self.execute(&format!("SET SESSION wait_timeout = {SILENT}")).await.map(|_| ())
    }

    /// The end of [`Side::be_brief`].
    ///
    /// # Errors
    /// As the store's.
    pub async fn be_patient(&mut self) -> Result<(), PairError> {
        self.execute("SET SESSION wait_timeout = DEFAULT").await.map(|_| ())
    }

    /// Takes the lock of who changes the group's seal on this store, and looks again; whether all is as it was seen.
    async fn begin_change(
        &mut self,
        group: &str,
        seen: Option<(u64, Standing)>,
        cutover: Option<&str>,
        deadline: Instant,
    ) -> Result<bool, PairError> {
        self.be_brief().await?;
        if !self.lock_seal(group, deadline).await? {
            self.be_patient().await?;
            let text = format!("store {}: somebody else is changing its seal", self.name());
            return Err(PairError::Unclear(text));
        }
        let rows = self.rows(group).await?;
        let same = rows.record.map(|r| (r.epoch, r.standing)) == seen
            && cutover.is_none_or(|id| rows.intent.is_some_and(|i| i.cutover == id));
        if !same {
            self.end_change(group).await?;
        }
        Ok(same)
    }

    async fn end_change(&mut self, group: &str) -> Result<(), PairError> {
        self.unlock_seal(group).await?;
        self.be_patient().await
    }
}

impl Pair {
    /// Connects to both stores.
    ///
    /// # Errors
    /// As the stores'.
    pub async fn connect(group: &str, tables: &GroupTables, stores: [&Arc<StoreHandle>; 2]) -> Result<Pair, PairError> {
        let [a, b] = stores;
        let (a, b) = (Side::connect(a, tables).await?, Side::connect(b, tables).await?);
        Ok(Pair { group: group.to_owned(), sides: [a, b] })
    }

    /// What both rows say now, and the rows.
    ///
    /// # Errors
    /// As the stores'.
    pub async fn look(&mut self) -> Result<(Verdict, [Rows2; 2]), PairError> {
        let [a, b] = &mut self.sides;
        let rows = [a.rows(&self.group).await?, b.rows(&self.group).await?];
        let [ra, rb] = &rows;
        Ok((verdict((a.name(), ra.record.as_ref()), (b.name(), rb.record.as_ref())), rows))
    }

    /// The side of a store's name, and the other.
    ///
    /// # Errors
    /// Where neither has the name.
    pub fn side(&mut self, name: &str) -> Result<(&mut Side, &mut Side), PairError> {
        let [a, b] = &mut self.sides;
        match name {
            _ if a.name() == name => Ok((a, b)),
            _ if b.name() == name => Ok((b, a)),
            _ => Err(PairError::Unclear(format!("the rows name a store {name}, which is none of this group"))),
        }
    }

    /// Brings whatever has begun to its end: what is decided goes forward, what is not goes back (RULES.md 46). Whatever happens
    /// to whoever does this, doing it again goes on; two that do it at once do not harm each other: each step is a
    /// compare-and-set, or changes nothing the second time. The authority and its epoch.
    ///
    /// # Errors
    /// As the stores'; where both stores are open, which [`super::settle`] is for; where somebody conducts a cutover.
    pub async fn finish(&mut self, deadline: Instant) -> Result<(String, u64), PairError> {
        self.finish_own("", deadline).await
    }

    /// [`Pair::finish`] by who conducts the cutover `own`.
    ///
    /// # Errors
    /// As [`Pair::finish`].
    pub async fn finish_own(&mut self, own: &str, deadline: Instant) -> Result<(String, u64), PairError> {
        let group = self.group.clone();
        let mut looked = false;
        loop {
            if looked && Instant::now() >= deadline {
                return Err(PairError::Unclear(format!("the rows of {group} change again and again")));
            }
            looked = true;
            let (verdict, rows) = self.look().await?;
            let intents = rows.each_ref().map(|r| r.intent.clone());
            if let Some(intent) = intents.iter().flatten().find(|i| i.is_live() && i.cutover != own) {
                let text = format!("a cutover to {} is under way, by {}", intent.target, intent.conductor);
                return Err(PairError::Unclear(text));
            }
            let [first, second] = rows;
            let of = |name: &str, this: &str| if name == this { first.record.clone() } else { second.record.clone() };
            let first_name = self.sides.first().map(|s| s.name().to_owned()).unwrap_or_default();
            let seen = |record: &Record| (record.epoch, record.standing);
            match verdict {
                Verdict::Settled { authority, epoch } => {
                    if self.settled(&authority, epoch, &intents, deadline).await? {
                        return Ok((authority, epoch));
                    }
                }
                Verdict::Undecided { from, to, .. } => {
                    let Some(record) = of(&to, &first_name) else { continue };
                    let new = Record { epoch: record.epoch + 2, authority: from, ..record.clone() };
                    let (side, _) = self.side(&to)?;
                    side.replace(&group, seen(&record), &new).await?;
                }
                Verdict::GivenUp { authority, epoch } => {
                    let Some(record) = of(&authority, &first_name) else { continue };
                    let new =
                        Record { epoch, authority: authority.clone(), standing: Standing::Open, ..record.clone() };
                    let (side, _) = self.side(&authority)?;
                    side.replace(&group, seen(&record), &new).await?;
                }
                Verdict::Decided { authority, epoch } => {
                    let (side, other) = self.side(&authority)?;
                    if !side.unseal(&group, Some((epoch, Standing::Open)), deadline).await? {
                        continue;
                    }
                    let Some(record) = of(other.name(), &first_name) else { continue };
                    let new = Record { epoch, authority, standing: Standing::Standby, ..record.clone() };
                    other.replace(&group, seen(&record), &new).await?;
                }
                Verdict::Returned { authority, .. } => {
                    let text = format!(
                        "{authority} has taken over from the other store: what that has of its own is to be settled first"
                    );
                    return Err(PairError::Unclear(text));
                }
                Verdict::Unclear(why) => return Err(PairError::Unclear(why)),
            }
        }
    }

    /// One authority, one standby: the one takes writes, the other does not, and nobody waits any more; false where that has
    /// changed meanwhile. Only the intents that were seen are ended: a newer one is somebody's.
    async fn settled(
        &mut self,
        authority: &str,
        epoch: u64,
        intents: &[Option<Intent>; 2],
        deadline: Instant,
    ) -> Result<bool, PairError> {
        let group = self.group.clone();
        let (side, other) = self.side(authority)?;
        if !side.unseal(&group, Some((epoch, Standing::Open)), deadline).await? {
            return Ok(false);
        }
        for intent in intents.iter().flatten() {
            let (name, cutover) = (literal(&group), literal(&intent.cutover));
            let done = format!("DELETE FROM switchover.intents WHERE group_name = {name} AND cutover = {cutover}");
            side.execute(&done).await?;
            other.execute(&done).await?;
        }
        let token = other.rows(&group).await?.record.map(|r| r.token).unwrap_or_default();
        other.seal(&group, &token, (epoch, Standing::Standby), None, deadline).await
    }
}
