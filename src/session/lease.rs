//! `pool: transaction`: a session takes connections when a command needs one, and gives them back when nothing pins it.
//!
//! ```text
//! parked ── a command that needs a store ─► leased ── it ends, and nothing pins ─► parked
//! ```
//!
//! A connection that was given back keeps the session as its tenant (`backend::pool`): while nobody else needs it, the next
//! lease is free. Else whoever takes it saves the session's state by value, and the next lease sets it again, in one round trip.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Notify;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::leg::Leg;
use super::pins::{Known, Pins};
use super::saved::{Cleaning, Left, Resident, Saved, restore, save};
use super::sync::Zone;
use crate::backend::connection::QueryError;
use crate::backend::login::Login;
use crate::backend::pool::{Found, PoolKey, Pooled, Ticket};
use crate::backend::{Backend, StoreHandle};
use crate::config::StoreId;
use crate::sql::facts::{Facts, Flags};
use crate::wire::command::{COM_PING, COM_RESET_CONNECTION, COM_STMT_CLOSE};
use crate::wire::reply::Expect;
use crate::wire::{Capabilities, ErrPacket, Status};

/// A connection that idled for so long is asked whether it lives before it is used.
const CHECK_AFTER: Duration = Duration::from_secs(30);

/// How often a session that waits for its state looks whether somebody still saves it.
const LOOK: Duration = Duration::from_millis(50);

/// What a session of `pool: transaction` keeps between its leases.
pub(crate) struct Lease {
    /// Connections that it gave back, and may find again as it left them.
    parked: Vec<Parked>,
    /// Its state by value, as of `saved_at`; `None` for one that is as after its login.
    saved: Option<Saved>,
    /// The (version, soft) that `saved` is of.
    saved_at: (u64, u64),
    /// The generation whose connection has the newest state.
    newest: u64,
    /// The state that the first connection in use was in step with when it was taken, and the session's own then.
    held_at: (u64, u64),
    taken_at: (u64, u64),
    /// Whether the connection in use ran the session's last statement, and nothing since.
    pub(crate) exact: bool,
    /// What pins, and what changed.
    pub(crate) known: Known,
    /// Status flags of its last answer.
    pub(crate) status: Status,
    /// What its last challenge was.
    pub(crate) scramble: Vec<u8>,
}

/// A connection that was given back.
struct Parked {
    store: Arc<StoreHandle>,
    ticket: Ticket,
    resident: Rc<Resident>,
    generation: u64,
    /// The state that it is in step with.
    version: u64,
    soft: u64,
}

impl Lease {
    pub(crate) fn new(scramble: Vec<u8>, status: Status) -> Lease {
        Lease {
            parked: Vec::new(),
            saved: None,
            saved_at: (0, 0),
            newest: 0,
            held_at: (0, 0),
            taken_at: (0, 0),
            exact: true,
            known: Known::default(),
            status,
            scramble,
        }
    }

    /// The store of the connection that ran the last statement, if it is parked.
    pub(crate) fn last_store(&self, generation: u64) -> Option<&Arc<StoreHandle>> {
        self.parked.iter().find(|p| p.generation == generation).map(|p| &p.store)
    }

    /// Whether its variables and its database are known by value; what a write left may be newer.
    pub(crate) fn is_known(&self) -> bool {
        self.known.version == 0 || self.saved.is_some() && self.saved_at.0 == self.known.version
    }

    /// Forgets what a write left on a connection that is lost; false where more than that is lost with it.
    pub(crate) fn forgets_writes(&mut self) -> bool {
        let known = self.is_known();
        if known {
            self.saved_at = (self.known.version, self.known.soft);
        }
        known
    }

    fn pristine(&self) -> bool {
        (self.known.version, self.known.soft) == (0, 0)
    }
}

/// Whether nothing has come from a store unasked: an error before it closes, or the end.
async fn is_quiet(backend: &mut Backend) -> bool {
    let polled = poll_fn(|cx| Poll::Ready(backend.stream.poll_fill(cx))).await;
    polled.is_pending() && backend.stream.buffered().is_empty()
}

/// Asks whether a connection lives.
async fn answers(backend: &mut Backend) -> bool {
    backend.send(COM_PING, &[]).await.is_ok() && backend.collect(Expect::Ok).await.is_ok()
}

impl Session {
    /// Takes a connection to `store` as the session's first; it holds none. `reads`: nothing that it may leave behind is asked
    /// for later.
    pub(crate) async fn take_lease(
        &mut self,
        store: StoreId,
        facts: Option<&Facts>,
        reads: bool,
    ) -> Result<(), Failure> {
        let Some(handle) = self.live.fleet.get(store).map(Arc::clone) else {
            let text = "switchover: the store was removed from the configuration";
            return Err(ErrPacket::new(1105, b"HY000", text).into());
        };
        let soft = !reads
            || facts.is_none_or(|f| {
                f.flags.intersects(Flags::READS_LAST_INSERT_ID | Flags::READS_USER_VARIABLES | Flags::DYNAMIC_SQL)
            });
        let found = self.find_parked(&handle).await?;
        let Some(lease) = &mut self.lease else { return Ok(()) };
        if let Some((mut backend, parked)) = found {
            let known = &lease.known;
            let in_step = parked.version == known.version && (!soft || parked.soft == known.soft);
            lease.exact = in_step && parked.generation == self.state.last;
            lease.held_at = (parked.version, parked.soft);
            lease.taken_at = (known.version, known.soft);
            let multi_statements = self.multi_statements_for(&mut backend);
            if in_step && multi_statements.is_none() {
                self.hold(backend, store, parked.generation);
                return Ok(());
            }
            if in_step {
                let cleaning = Cleaning { reset: false, multi_statements };
                let answer = restore(&mut backend, cleaning, None, None).await;
                answer.map_err(|e| lost(handle.name(), e))?;
                self.hold(backend, store, parked.generation);
                return Ok(());
            }
            self.know_state().await?;
            let cleaning = Cleaning { reset: false, multi_statements };
            self.settle_in(backend, store, Some(parked.generation), cleaning, facts).await?;
            return Ok(());
        }
        self.know_state().await?;
        if let Some(lease) = &mut self.lease {
            lease.exact = false;
        }
        let (backend, cleaning) = Box::pin(self.find_backend(store, &handle, false)).await?;
        self.settle_in(backend, store, None, cleaning, facts).await
    }

    /// Holds a connection that is as the session needs it.
    fn hold(&mut self, mut backend: Backend, store: StoreId, generation: u64) {
        backend.store = store;
        self.legs.push(Leg::new(backend, generation, self.capabilities));
        self.publish_legs();
    }

    /// The session's own parked connection to a store, if it is there still and alive.
    async fn find_parked(&mut self, handle: &Arc<StoreHandle>) -> Result<Option<(Backend, Parked)>, Failure> {
        let Some(lease) = &mut self.lease else { return Ok(None) };
        let Some(at) = lease.parked.iter().position(|p| Arc::ptr_eq(&p.store, handle)) else { return Ok(None) };
        let parked = lease.parked.swap_remove(at);
        let Some((mut backend, idled)) = self.core.pool.reclaim(handle, parked.ticket) else {
            self.evicted(&parked).await?;
            return Ok(None);
        };
        if is_quiet(&mut backend).await && (idled < CHECK_AFTER || answers(&mut backend).await) {
            return Ok(Some((backend, parked)));
        }
        drop(backend);
        let Some(lease) = &self.lease else { return Ok(None) };
        if parked.resident.unsaved && parked.generation == lease.newest && !lease.pristine() {
            return self.goes_on_without(handle).map(|()| None);
        }
        Ok(None)
    }

    /// Takes over the state that whoever took the parked connection has saved.
    async fn evicted(&mut self, parked: &Parked) -> Result<(), Failure> {
        while matches!(&*parked.resident.left.borrow(), Left::There | Left::Leaving) {
            if Rc::strong_count(&parked.resident) == 1 {
                // who took the connection was cut off before the state was saved
                parked.resident.lose();
                break;
            }
            let _ = tokio::time::timeout(LOOK, parked.resident.settled.notified()).await;
        }
        let left = parked.resident.left.replace(Left::Saved(None));
        let Some(lease) = &mut self.lease else { return Ok(()) };
        if parked.generation != lease.newest {
            return Ok(());
        }
        match left {
            Left::Saved(Some(saved)) => self.keep_saved(saved, parked),
            Left::Lost if !lease.pristine() => return self.goes_on_without(&parked.store),
            _ => {}
        }
        Ok(())
    }

    fn keep_saved(&mut self, saved: Saved, parked: &Parked) {
        let default = self.live.config().store_name(self.live.config().default);
        // a dropped database is no session's
        if saved.database.is_none() && parked.store.name() == default {
            self.state.database = None;
        }
        let Some(lease) = &mut self.lease else { return };
        if parked.generation == self.state.last {
            lease.known.found_rows = saved.found_rows;
        }
        lease.saved = Some(saved);
        lease.saved_at = (parked.version, parked.soft);
    }

    /// Sees to it that `saved` is the session's state: it may be on a parked connection only.
    async fn know_state(&mut self) -> Result<(), Failure> {
        let Some(lease) = &mut self.lease else { return Ok(()) };
        if lease.saved_at == (lease.known.version, lease.known.soft) && (lease.saved.is_some() || lease.pristine()) {
            return Ok(());
        }
        let newest = lease.newest;
        let Some(at) = lease.parked.iter().position(|p| p.generation == newest) else { return Ok(()) };
        let parked = lease.parked.swap_remove(at);
        let Some((mut backend, _)) = self.core.pool.reclaim(&parked.store, parked.ticket) else {
            return self.evicted(&parked).await;
        };
        let saved = save(&mut backend, &parked.resident.names, &parked.resident.user_variables, &self.core.shelf).await;
        let Some(lease) = &mut self.lease else { return Ok(()) };
        match saved {
            Ok(saved) => {
                self.keep_saved(saved, &parked);
                let Parked { generation, version, soft, .. } = parked;
                self.park_backend(backend, generation, version, soft);
                Ok(())
            }
            Err(_) if lease.pristine() => Ok(()),
            Err(_) => self.goes_on_without(&parked.store),
        }
    }

    /// Gives a connection the session's state, and holds it.
    async fn settle_in(
        &mut self,
        mut backend: Backend,
        store: StoreId,
        generation: Option<u64>,
        cleaning: Cleaning,
        facts: Option<&Facts>,
    ) -> Result<(), Failure> {
        let name = backend.handle.name().to_owned();
        let Some(lease) = &self.lease else { return Ok(()) };
        let saved = lease.saved.clone();
        let same = saved.as_ref().is_none_or(|s| s.values.store == name);
        let database = self.state.database.clone();
        let values = saved.as_ref().filter(|_| same);
        let answer = restore(&mut backend, cleaning, values, database.as_deref()).await;
        let (set, base) = answer.map_err(|e| lost(&name, e))?;
        let generation = generation.unwrap_or_else(|| self.state.next_generation());
        self.hold(backend, store, generation);
        match (&saved, set) {
            (Some(saved), Some(_)) => self.settle_slowly(saved, same).await?,
            (Some(saved), None) if !same => self.settle_slowly(saved, same).await?,
            _ => {}
        }
        if let Some(saved) = &saved {
            self.state.user_variables =
                saved.user_variables.iter().map(|(n, _)| (n.clone(), vec![generation])).collect();
            self.state.assigned_unseen.clear();
        }
        self.state.last = generation;
        self.state.last_insert = generation;
        self.state.insert_doubts.clear();
        if let Some(lease) = &mut self.lease {
            lease.newest = generation;
            lease.taken_at = (lease.known.version, lease.known.soft);
            lease.held_at = lease.taken_at;
        }
        match base {
            // a statement that qualifies every table needs no current database; the default store's errors are the client's
            Some(mut e) if !(e.code == 1049 && facts.is_some_and(super::sync::names_databases)) => {
                if store == self.live.config().default && matches!(e.code, 1049 | 1044) {
                    // the database went meanwhile: the statement's own error says so
                    return Ok(());
                }
                let text = String::from_utf8_lossy(&e.message).into_owned();
                let database = database.unwrap_or_default();
                e.message = format!("switchover: store {name}, database '{database}': {text}").into_bytes();
                Err(e.into())
            }
            _ => Ok(()),
        }
    }

    /// The same one by one, for a store that is unlike the one that the values are from.
    async fn settle_slowly(&mut self, saved: &Saved, same: bool) -> Result<(), Failure> {
        let wanted = saved.values.map();
        let names: Vec<String> = saved.values.variables.iter().map(|(n, _)| n.clone()).collect();
        if let Zone::System(there) = self.give_values(0, &names, &wanted).await?
            && !same
            && !saved.values.offset.is_empty()
        {
            self.give_offset(0, &saved.values.offset, there).await?;
        }
        for (name, value) in &saved.user_variables {
            self.tell(0, &format!("SET @{} = {value}", super::transaction::quoted(name))).await??;
        }
        if saved.last_insert_id != 0 {
            self.tell(0, &format!("SET last_insert_id = {}", saved.last_insert_id)).await??;
        }
        Ok(())
    }

    /// A connection beside those that the session holds: for a transaction, or a pin, over several stores.
    pub(crate) async fn lease_another(&mut self, store: StoreId, handle: &Arc<StoreHandle>) -> Result<Leg, Failure> {
        if let Some((backend, parked)) = self.find_parked(handle).await? {
            return Ok(Leg::new(backend, parked.generation, self.capabilities));
        }
        let (mut backend, cleaning) = Box::pin(self.find_backend(store, handle, true)).await?;
        let answer = restore(&mut backend, cleaning, None, None).await;
        answer.map_err(|e| lost(handle.name(), e))?;
        Ok(Leg::new(backend, self.state.next_generation(), self.capabilities))
    }

    /// A connection from the pool, or a new one; how it is to be cleaned.
    async fn find_backend(
        &mut self,
        store: StoreId,
        handle: &Arc<StoreHandle>,
        urgent: bool,
    ) -> Result<(Backend, Cleaning), Failure> {
        let login = self.login_at(store, handle).await?;
        let key = Rc::new(self.pool_key(handle, &login));
        let as_new = self.lease.as_ref().is_none_or(|l| l.saved.is_none());
        let bounds = self.live.config().pooling;
        loop {
            let found = self.core.pool.acquire(handle, &key, bounds, urgent).await;
            let found = found.map_err(|_| full(handle.name(), bounds.max_per_store))?;
            let (slot, left) = match found {
                Found::Used(mut backend, tenant) => {
                    let alive = is_quiet(&mut backend).await;
                    if let Some(tenant) = tenant {
                        let kept = alive && tenant.leave(&mut backend, &self.core.shelf).await;
                        if !kept {
                            tenant.lose();
                            continue;
                        }
                    }
                    if !alive || as_new && backend.change_user(&login, &[]).await.is_err() {
                        continue;
                    }
                    let multi_statements = self.multi_statements_for(&mut backend);
                    return Ok((backend, Cleaning { reset: !as_new, multi_statements }));
                }
                Found::Room(slot, left) => (slot, left),
            };
            if let Some((mut old, Some(tenant))) = left {
                tenant.leave(&mut old, &self.core.shelf).await;
            }
            let mut backend = self.connect_with(store, handle, &login).await?;
            let multi = login.capabilities.contains(Capabilities::MULTI_STATEMENTS);
            backend.pooled = Some(Box::new(Pooled { slot, key, multi_statements: multi }));
            let multi_statements = self.multi_statements_for(&mut backend);
            return Ok((backend, Cleaning { reset: false, multi_statements }));
        }
    }

    /// The option that a connection needs for this session, if it has another.
    fn multi_statements_for(&self, backend: &mut Backend) -> Option<bool> {
        let wanted = self.capabilities.contains(Capabilities::MULTI_STATEMENTS);
        let pooled = backend.pooled.as_mut()?;
        (std::mem::replace(&mut pooled.multi_statements, wanted) != wanted).then_some(wanted)
    }

    fn pool_key(&self, handle: &StoreHandle, login: &Login) -> PoolKey {
        let source = match &self.peer {
            crate::net::Peer::Tcp(a) if handle.config.proxy_protocol => Some(a.ip()),
            _ => None,
        };
        PoolKey {
            user: login.user.clone(),
            key: login.key.clone(),
            capabilities: login.capabilities - Capabilities::CONNECT_WITH_DB - Capabilities::SSL,
            client_tls: login.client_tls,
            source,
        }
    }

    /// Gives everything back that nothing pins; else the connections stay.
    pub(crate) async fn give_back(&mut self) -> Result<(), Fatal> {
        let pins = self.pins();
        self.publish_pins(pins);
        self.publish_transaction();
        if self.legs.is_empty() {
            return Ok(());
        }
        if let Some(lease) = &mut self.lease {
            lease.exact = true;
            lease.status = self.legs.first().map_or(lease.status, |l| l.backend.status);
        }
        if !pins.is_empty() {
            return Ok(());
        }
        for i in 0..self.legs.len() {
            // a SET TRANSACTION that was used up on another store is not for a later transaction on this one
            if self.legs.get(i).is_some_and(|l| l.stale_one_shot) {
                let _ = self.tell(i, "COMMIT").await?;
            }
        }
        if self.legs.first().is_some_and(|l| l.suspect)
            && let Err(Failure::Session(fatal)) = Box::pin(self.look_home_over()).await
        {
            return Err(fatal);
        }
        if self.legs.len() > 1
            && let Err(Failure::Session(fatal)) = Box::pin(self.gather_at_home()).await
        {
            return Err(fatal);
        }
        let Some(lease) = &mut self.lease else { return Ok(()) };
        let now = (lease.known.version, lease.known.soft);
        let (version, soft) = if now == lease.taken_at { lease.held_at } else { now };
        if now != lease.taken_at {
            lease.newest = self.legs.first().map_or(0, |l| l.generation);
        }
        let state = self.state.version;
        let legs = std::mem::take(&mut self.legs);
        for (i, leg) in legs.into_iter().enumerate() {
            if leg.broken || leg.busy {
                continue;
            }
            let Leg { backend, generation, synced, database, .. } = leg;
            if i == 0 {
                self.park_backend(backend, generation, version, soft);
            } else if synced == state && database == self.state.database {
                self.park_backend(backend, generation, version, u64::MAX);
            } else {
                self.park_backend(backend, generation, u64::MAX, u64::MAX);
            }
        }
        self.publish_legs();
        Ok(())
    }

    /// What later statements may ask for is on the first connection.
    async fn gather_at_home(&mut self) -> Result<(), Failure> {
        self.settle(0).await?;
        let home = self.legs.first().map_or(0, |l| l.generation);
        for unseen in self.state.assigned_unseen.clone() {
            let Some(at) = self.legs.iter().position(|l| l.generation == unseen && unseen != home) else { continue };
            // a store without this table is not asked what its triggers did
            let Ok(rows) = self.ask(at, super::saved::USER_VARIABLES).await else { continue };
            let names = rows.rows.iter().filter_map(|r| r.first()?.as_deref());
            let names: Vec<Box<str>> = names.map(|n| String::from_utf8_lossy(n).into()).collect();
            self.carry_variables(unseen, &names, 0).await?;
        }
        let mut elsewhere: Vec<Box<str>> = Vec::new();
        elsewhere.extend(self.state.user_variables.iter().filter(|(_, g)| !g.contains(&home)).map(|(n, _)| n.clone()));
        if elsewhere.is_empty() && self.state.last_insert == home && self.state.insert_doubts.is_empty() {
            return Ok(());
        }
        let facts = Facts {
            kind: crate::sql::facts::Kind::Read,
            tables: [].into(),
            user_variables: elsewhere.into(),
            hint: None,
            flags: Flags::READS_LAST_INSERT_ID,
        };
        self.bring_variables(&facts, 0).await?;
        self.settle_insert_ids(&facts).await?;
        self.bring_insert_id(0).await
    }

    fn park_backend(&mut self, backend: Backend, generation: u64, version: u64, soft: u64) {
        let Some(lease) = &mut self.lease else { return };
        let unsaved = generation == lease.newest && (lease.saved_at != (version, soft) || lease.saved.is_none());
        let resident = Rc::new(Resident {
            names: if unsaved { super::saved::followed(self.state.set.iter().map(AsRef::as_ref)) } else { Vec::new() },
            user_variables: if unsaved { self.state.user_variables.keys().cloned().collect() } else { Vec::new() },
            unsaved,
            gone: Cell::new(false),
            left: RefCell::new(Left::There),
            settled: Notify::new(),
        });
        let store = Arc::clone(&backend.handle);
        let ticket = self.core.pool.put(backend, Some(Rc::clone(&resident)));
        lease.parked.push(Parked { store, ticket, resident, generation, version, soft });
    }

    /// Closes a prepared statement on a parked connection, if it is there still.
    pub(crate) async fn close_parked(&mut self, generation: u64, id: u32) {
        let Some(lease) = &mut self.lease else { return };
        let Some(parked) = lease.parked.iter_mut().find(|p| p.generation == generation) else { return };
        let Some((mut backend, _)) = self.core.pool.reclaim(&parked.store, parked.ticket) else { return };
        // one that fails is found dead when it is used
        let _ = backend.send(COM_STMT_CLOSE, &id.to_le_bytes()).await;
        parked.ticket = self.core.pool.put(backend, Some(Rc::clone(&parked.resident)));
    }

    fn publish_pins(&self, pins: Pins) {
        self.info.pins.store(pins.bits(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Leaves everything: at the end, or when the session begins anew. Connections that were held are cleaned.
    pub(crate) async fn release_all(&mut self) {
        // prepared statements count against the store's limit until then
        let mut cleaned = Vec::new();
        let Some(lease) = &mut self.lease else { return };
        for parked in lease.parked.drain(..) {
            parked.resident.gone.set(true);
            if self.statements.is_empty() {
                self.core.pool.abandon(&parked.store, parked.ticket);
            } else if let Some((backend, _)) = self.core.pool.reclaim(&parked.store, parked.ticket) {
                cleaned.push(backend);
            }
        }
        lease.saved = None;
        lease.saved_at = (0, 0);
        lease.newest = 0;
        lease.known.reset();
        let legs = std::mem::take(&mut self.legs).into_iter();
        cleaned.extend(legs.filter(|l| !l.broken && !l.busy && l.backend.pooled.is_some()).map(|l| l.backend));
        for mut backend in cleaned {
            // locks, the transaction and temporary tables go now, not when somebody takes it
            if backend.send(COM_RESET_CONNECTION, &[]).await.is_ok() && backend.collect(Expect::Ok).await.is_ok() {
                self.core.pool.put(backend, None);
            }
        }
        self.publish_legs();
    }

    /// A connection that the login left, for the session's first statements.
    pub(crate) fn move_in(&mut self, backend: Backend) {
        let generation = self.state.next_generation();
        self.state.last = generation;
        self.state.last_insert = generation;
        if let Some(lease) = &mut self.lease {
            lease.status = backend.status;
            lease.newest = generation;
        }
        self.park_backend(backend, generation, 0, 0);
    }
}

impl Resident {
    /// The connection is lost.
    pub(crate) fn lose(&self) {
        if !matches!(&*self.left.borrow(), Left::Saved(_)) {
            self.left.replace(if self.unsaved { Left::Lost } else { Left::Saved(None) });
            self.settled.notify_one();
        }
    }
}

fn lost(store: &str, error: QueryError) -> Failure {
    let store = store.to_owned();
    match error {
        QueryError::Io(error) => Fatal::Store { store, error }.into(),
        QueryError::Malformed(error) => Fatal::StoreProtocol { store, error }.into(),
        QueryError::Refused(e) => e.into(),
    }
}

fn full(store: &str, bound: u32) -> Failure {
    let text = format!(
        "switchover: all {bound} connections to store {store} are in use, and none became free in time; raise \
         `pool: {{ max_per_store: … }}` or `wait_timeout`, or see `switchover sessions` for what pins them"
    );
    ErrPacket::new(1040, b"08004", text).into()
}
