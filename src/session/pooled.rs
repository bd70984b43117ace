//! The commands of a session of `pool: transaction`: what the proxy answers itself, which store a command needs first, and the
//! functions whose values are the session's own (CONNECTION_ID(), ROW_COUNT(), FOUND_ROWS()).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::login::Account;
use super::own_login::{Door, Knock, Refused};
use super::pins::Pin;
use super::query::{Frame, Plan};
use crate::auth::Seen;
use crate::backend::Backend;
use crate::config::StoreId;
use crate::sql::Facts;
use crate::sql::dialect::CharsetClass;
use crate::sql::facts::{Flags, Kind};
use crate::sql::substitute::substitute;
use crate::wire::handshake::ChangeUser;
use crate::wire::packet::{self, HEADER};
use crate::wire::{Capabilities, Command, ErrPacket, OkPacket, Status};

/// Whether it runs on any store while the default one is down (RULES.md 27): it names no table.
fn runs_anywhere(facts: &Facts) -> bool {
    facts.tables.is_empty()
        && facts.hint.is_none()
        && (is_sessions_own(facts) || matches!(facts.kind, Kind::Read | Kind::Show | Kind::Diagnostics))
}

/// Statements about the session.
fn is_sessions_own(facts: &Facts) -> bool {
    facts.tables.is_empty()
        && (facts.kind.controls_transaction() || matches!(facts.kind, Kind::Set(_) | Kind::Use(_) | Kind::UnlockTables))
}

/// Whether a read of these facts changes nothing that a later statement may ask for.
fn only_reads(facts: &Facts) -> bool {
    !facts
        .flags
        .intersects(Flags::WRITES_USER_VARIABLES | Flags::CALC_FOUND_ROWS | Flags::USER_LOCK | Flags::DYNAMIC_SQL)
}

impl Session {
    /// One command of a session of `pool: transaction`.
    pub(crate) async fn pooled_turn(&mut self, frame: Frame, command: Option<Command>) -> Result<(), Fatal> {
        let Some(command) = command else {
            self.consume(frame);
            return self.send_error(&ErrPacket::new(1047, b"08S01", "Unknown command")).await;
        };
        match command {
            Command::Quit => return Err(Fatal::Quit),
            Command::StmtSendLongData => {
                self.long_data(frame);
                return Ok(());
            }
            Command::StmtClose => {
                self.close_statement(frame).await?;
                return self.give_back().await;
            }
            Command::ChangeUser => return Box::pin(self.pooled_change_user(frame)).await,
            Command::ResetConnection => return self.pooled_reset(frame).await,
            _ => {}
        }
        if self.legs.is_empty() {
            if let Some(answer) = self.without_a_store(frame, command) {
                self.consume(frame);
                self.client.write(&answer).await.map_err(Fatal::client)?;
                return Ok(());
            }
            match Box::pin(self.lease_surviving(frame, command)).await {
                Ok(()) => {}
                Err(Failure::Session(fatal)) => return Err(fatal),
                Err(Failure::Statement(error)) => {
                    self.consume(frame);
                    match command {
                        Command::Statistics => self.own_statistics().await?,
                        _ => self.refuse(&error).await?,
                    }
                    return self.give_back().await;
                }
            }
        }
        let frame = self.with_own_values(frame, command);
        if command == Command::Query
            && let Some((id, query)) = self.asks_to_kill(frame)
        {
            match Box::pin(self.kill_pooled(frame, id, query)).await {
                Ok(()) => {}
                Err(Failure::Session(fatal)) => return Err(fatal),
                Err(Failure::Statement(error)) => self.send_error(&error).await?,
            }
            return self.give_back().await;
        }
        self.run_leased(frame, command).await?;
        self.give_back().await
    }

    async fn run_leased(&mut self, frame: Frame, command: Command) -> Result<(), Fatal> {
        match command {
            Command::Query => self.query(frame).await?,
            Command::StmtExecute | Command::StmtBulkExecute => self.execute(frame, command).await?,
            other => Box::pin(self.other_command(frame, other)).await?,
        }
        let Some(lease) = &mut self.lease else { return Ok(()) };
        match command {
            // the database changed, and nothing told so
            Command::InitDb => lease.known.version += 1,
            Command::RegisterSlave => lease.known.sticky.set(Pin::Replica, true),
            Command::SetOption => {
                let on = self.capabilities.contains(Capabilities::MULTI_STATEMENTS);
                for pooled in self.legs.iter_mut().filter_map(|l| l.backend.pooled.as_mut()) {
                    pooled.multi_statements = on;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The answer to a command that needs no store.
    fn without_a_store(&mut self, frame: Frame, command: Command) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let status = self.home_status() & Status::LASTING;
        match command {
            Command::Ping => {
                OkPacket { status, ..OkPacket::default() }.put(&mut out, 1);
            }
            // without a cursor there is nothing to reset but what the proxy holds
            Command::StmtReset if self.statements.knows(self.framed(frame)) => {
                self.forget_long_data(frame);
                OkPacket { status, ..OkPacket::default() }.put(&mut out, 1);
            }
            Command::StmtFetch if self.statements.knows(self.framed(frame)) => {
                let id = self.framed(frame).get(HEADER + 1..HEADER + 5).and_then(|b| b.first_chunk::<4>());
                let id = id.map_or(0, |b| u32::from_le_bytes(*b));
                let text = format!("The statement ({id}) has no open cursor");
                ErrPacket::new(1421, b"HY000", text).put(&mut out, 1);
            }
            Command::Unknown(_) => {
                ErrPacket::new(1047, b"08S01", "Unknown command").put(&mut out, 1);
            }
            _ => return None,
        }
        Some(out)
    }

    /// COM_STATISTICS while no store answers it: of this session.
    async fn own_statistics(&mut self) -> Result<(), Fatal> {
        let text = format!(
            "Uptime: {}  Threads: {}  Questions: {}",
            self.info.since.elapsed().as_secs(),
            self.core.registry.len(),
            self.info.queries.load(Ordering::Relaxed)
        );
        self.client.write_message(1, text.as_bytes()).await.map_err(Fatal::client)?;
        Ok(())
    }

    /// Takes a connection to the store that a command needs first.
    pub(crate) async fn lease_for(&mut self, frame: Frame, command: Command) -> Result<(), Failure> {
        let plan = match command {
            Command::Query | Command::StmtPrepare => Some(self.plan_of(frame)),
            Command::StmtExecute | Command::StmtBulkExecute => self.statements.plan_for(self.framed(frame)),
            _ => None,
        };
        let facts = plan.as_ref().and_then(|p| p.single()).cloned();
        let default = self.live.config().default;
        let store = match (&facts, &plan) {
            (Some(facts), _) => self.first_store(facts, plan.as_deref()),
            (None, Some(plan)) => {
                let mut stores = plan.analysis.statements.iter().map(|f| self.first_store(f, None));
                let first = stores.next().unwrap_or(default);
                if stores.all(|s| s == first) { first } else { default }
            }
            _ => default,
        };
        // what a statement leaves behind is complete only where all that came before it is
        let reads =
            facts.as_ref().is_some_and(|f| matches!(f.kind, Kind::Read | Kind::Show | Kind::Empty) && only_reads(f));
        let answer = Box::pin(self.take_lease(store, facts.as_ref(), reads)).await;
        let Err(Failure::Statement(error)) = answer else { return answer };
        if store != default || !facts.as_ref().is_some_and(runs_anywhere) || error.code != 1429 {
            return Err(error.into());
        }
        let others: Vec<StoreId> = (0..self.live.config().stores.len())
            .filter_map(|i| u16::try_from(i).ok().map(StoreId))
            .filter(|id| *id != default && self.live.fleet.get(*id).is_some_and(|h| h.is_up()))
            .collect();
        for other in others {
            if let Ok(()) = Box::pin(self.take_lease(other, facts.as_ref(), reads)).await {
                return Ok(());
            }
        }
        Err(error.into())
    }

    /// Whether a statement for the default store, which is down, may run on the connection that the session holds.
    pub(crate) fn stands_in(&self, facts: &Facts, store: StoreId) -> bool {
        self.lease.is_some()
            && store == self.live.config().default
            && self.legs.first().is_some_and(|l| l.store() != store)
            && runs_anywhere(facts)
            && self.live.fleet.get(store).is_some_and(|h| !h.is_up())
    }

    /// The store of the connection that a statement needs first.
    fn first_store(&self, facts: &Facts, plan: Option<&Plan>) -> StoreId {
        let default = self.live.config().default;
        let about_the_last = matches!(facts.kind, Kind::Diagnostics)
            || facts.tables.is_empty()
                && facts.hint.is_none()
                && facts.flags.intersects(
                    Flags::READS_ROW_COUNT
                        | Flags::READS_FOUND_ROWS
                        | Flags::READS_DIAGNOSTICS
                        | Flags::READS_LAST_INSERT_ID,
                );
        if about_the_last {
            let last = self.lease.as_ref().and_then(|l| l.last_store(self.state.last));
            return last.and_then(|h| self.live.fleet.by_name(h.name())).unwrap_or(default);
        }
        if is_sessions_own(facts) || matches!(facts.kind, Kind::Kill { .. } | Kind::Xa) {
            return default;
        }
        self.decide(facts, plan).unwrap_or(default)
    }

    /// Puts the session's own values in the place of functions that a pooled connection would answer with its own.
    fn with_own_values(&mut self, frame: Frame, command: Command) -> Frame {
        if !matches!(command, Command::Query | Command::StmtPrepare) {
            return frame;
        }
        let plan = self.plan_of(frame);
        let flags = plan.single().map_or(Flags::empty(), |f| f.flags);
        let about_the_last = flags.intersects(Flags::READS_ROW_COUNT | Flags::READS_FOUND_ROWS);
        let listed = plan.own_id && names(packet::payload(self.framed(frame)).as_ref(), b"processlist");
        let Some(lease) = &mut self.lease else { return frame };
        if command == Command::StmtPrepare && (about_the_last || flags.contains(Flags::READS_DIAGNOSTICS)) {
            lease.known.sticky.set(Pin::PreparedDiagnostics, true);
            return frame;
        }
        let mut own: Vec<(&str, String)> = Vec::new();
        // the process list has the stores' ids
        if plan.own_id && !listed {
            own.push(("connection_id", self.info.id.to_string()));
        }
        if about_the_last && !lease.exact {
            own.push(("row_count", format!("CAST({} AS SIGNED)", lease.known.row_count)));
            own.push(("found_rows", format!("CAST({} AS SIGNED)", lease.known.found_rows)));
        }
        if own.is_empty() {
            return frame;
        }
        let payload = packet::payload(self.framed(frame)).into_owned();
        let Some((first, sql)) = payload.split_first() else { return frame };
        let mut new = vec![*first];
        new.extend(substitute(sql, &self.state.dialect, &own));
        self.consume(frame);
        self.gathered = Vec::with_capacity(new.len() + HEADER);
        packet::put(&mut self.gathered, 0, &new);
        Frame::Gathered
    }

    /// KILL of another session of this mode: its id, and whether only its query.
    fn asks_to_kill(&self, frame: Frame) -> Option<(u64, bool)> {
        let plan = self.plan_of(frame);
        match plan.single()?.kind {
            Kind::Kill { query, id: Some(id) } => self.core.registry.is_pooled(id).then_some((id, query)),
            _ => None,
        }
    }

    /// KILL: the store that a session uses now is told; one that waits for its client ends.
    async fn kill_pooled(&mut self, frame: Frame, id: u64, query: bool) -> Result<(), Failure> {
        self.consume(frame);
        let Some(victim) = self.core.registry.get(id) else {
            return Err(ErrPacket::new(1094, b"HY000", format!("Unknown thread id: {id}")).into());
        };
        if id == self.info.id {
            self.send_error(&if query {
                ErrPacket::new(1317, b"70100", "Query execution was interrupted")
            } else {
                ErrPacket::new(1927, b"70100", "Connection was killed")
            })
            .await?;
            return if query { Ok(()) } else { Err(Fatal::Quit.into()) };
        }
        if victim.user.as_bytes() != self.account.user.as_slice() {
            let sql = "SELECT 1 FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE IN ('SUPER', 'CONNECTION ADMIN', \
                       'CONNECTION_ADMIN') AND GRANTEE = CONCAT(\"'\", REPLACE(CURRENT_USER(), '@', \"'@'\"), \"'\") LIMIT 1";
            if self.ask(0, sql).await?.first(0).is_none() {
                return Err(ErrPacket::new(1095, b"HY000", format!("You are not owner of thread {id}")).into());
            }
        }
        if !query {
            victim.kill();
        }
        let limit = self.live.config().limits.connect_timeout;
        for (store, thread) in self.core.registry.others(id) {
            let own = self.legs.iter().position(|l| Arc::ptr_eq(&l.backend.handle, &store));
            match own {
                Some(at) => {
                    let sql = format!("KILL {}{thread}", if query { "QUERY " } else { "" });
                    let _ = self.tell(at, &sql).await?;
                }
                None => {
                    crate::backend::control::kill(&store, thread, query, limit).await;
                }
            }
        }
        if !query {
            self.core.registry.ended(&victim).await;
        }
        self.send_ok().await?;
        Ok(())
    }

    /// COM_RESET_CONNECTION: the connections are given up, and cleaned before anybody uses them.
    async fn pooled_reset(&mut self, frame: Frame) -> Result<(), Fatal> {
        self.consume(frame);
        self.release_all().await;
        self.forget_state();
        let status = Status::AUTOCOMMIT;
        if let Some(lease) = &mut self.lease {
            lease.status = status;
        }
        self.give_back().await?;
        let mut out = Vec::new();
        OkPacket { status, ..OkPacket::default() }.put(&mut out, 1);
        self.client.write(&out).await.map_err(Fatal::client)
    }

    /// COM_CHANGE_USER: as a login, on the same client connection.
    async fn pooled_change_user(&mut self, frame: Frame) -> Result<(), Fatal> {
        let framed = self.framed(frame).to_vec();
        self.consume(frame);
        let payload = packet::payload(&framed).into_owned();
        let Ok(change) = ChangeUser::read(&payload, self.capabilities) else {
            return self.send_error(&ErrPacket::new(1047, b"08S01", "Unknown command")).await;
        };
        self.release_all().await;
        let collation = u8::try_from(change.collation).ok().filter(|c| *c != 0).unwrap_or(self.account.collation);
        let mut knock = Knock {
            user: change.user,
            // its answer is to a scramble of the past: it is asked again
            plugin: if change.auth.is_empty() { crate::auth::NATIVE.to_vec() } else { b"ask again".to_vec() },
            auth: change.auth,
            scramble: self.lease.as_ref().map(|l| l.scramble.clone()).unwrap_or_default(),
            database: (!change.database.is_empty()).then_some(change.database),
            capabilities: self.capabilities,
            collation,
            max_packet: self.account.max_packet,
            attributes: self.account.attributes.clone(),
        };
        let live = Arc::clone(&self.live);
        let Some(handle) = live.fleet.get(live.config().default).map(Arc::clone) else { return Err(Fatal::Quit) };
        let Session { client, core, peer, .. } = self;
        let door = Door { core, live: &live, handle: &handle, peer };
        let entry = match door.admit(client, &mut knock, 1).await {
            Ok(entry) => entry,
            Err(Refused::Fatal(fatal)) => return Err(fatal),
            Err(Refused::Said(_)) => {
                self.forget_state();
                return self.give_back().await;
            }
            Err(Refused::Say(error, sequence)) => {
                self.forget_state();
                let mut out = Vec::new();
                error.put(&mut out, sequence);
                self.client.write(&out).await.map_err(Fatal::client)?;
                return self.give_back().await;
            }
        };
        let mut dialect = self.account.dialect;
        dialect.charset = CharsetClass::from_collation_id(u16::from(collation));
        self.account = Account {
            user: knock.user,
            seen: entry.seen,
            collation,
            max_packet: knock.max_packet,
            attributes: knock.attributes,
            dialect,
        };
        self.forget_state();
        self.state.database = knock.database.map(|d| String::from_utf8_lossy(&d).into_owned());
        let status = entry.backend.as_ref().map_or(Status::AUTOCOMMIT, |b| b.status);
        if let Some(lease) = &mut self.lease {
            lease.scramble = entry.scramble;
            lease.status = status;
            lease.known.sticky.set(Pin::Secret, false);
        }
        let mut out = Vec::new();
        OkPacket { status, ..OkPacket::default() }.put(&mut out, entry.sequence);
        self.client.write(&out).await.map_err(Fatal::client)?;
        self.come_in(entry.backend).await
    }

    /// The connection that let the session in is where its first statements run; one that cannot be opened again stays.
    pub(crate) async fn come_in(&mut self, backend: Option<Backend>) -> Result<(), Fatal> {
        let Some(backend) = backend else { return Ok(()) };
        if matches!(self.account.seen, Seen::Nothing | Seen::Native { .. } | Seen::Signature { .. }) {
            if let Some(lease) = &mut self.lease {
                lease.known.sticky.set(Pin::Secret, true);
                lease.status = backend.status;
            }
            let generation = self.state.next_generation();
            self.legs.push(super::leg::Leg::new(backend, generation, self.capabilities));
            self.state.last = generation;
            self.state.last_insert = generation;
            self.publish_legs();
            return self.give_back().await;
        }
        self.move_in(backend);
        self.give_back().await
    }
}

/// Whether a text has this name in it, in any case.
fn names(sql: &[u8], name: &[u8]) -> bool {
    let Some(first) = name.first() else { return false };
    memchr::memchr2_iter(first.to_ascii_lowercase(), first.to_ascii_uppercase(), sql)
        .any(|at| sql.get(at..at + name.len()).is_some_and(|word| word.eq_ignore_ascii_case(name)))
}

impl Plan {
    /// The same, for a text that may ask for CONNECTION_ID().
    pub(crate) fn of(mut self, sql: &[u8]) -> Plan {
        self.own_id = names(sql, b"connection_id");
        self
    }
}
