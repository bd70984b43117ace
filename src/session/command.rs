//! Waits for the client's next command, reads it whole, and sends it where it belongs.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Session;
use super::careful::Way;
use super::control_flow::{Failure, Fatal};
use super::leg::Leg;
use super::query::Frame;
use crate::backend::Backend;
use crate::sql::Facts;
use crate::sql::facts::{Access, Flags, Kind, TableRef};
use crate::wire::command::COM_RESET_CONNECTION;
use crate::wire::packet::HEADER;
use crate::wire::reply::Expect;
use crate::wire::{Capabilities, Command, ErrPacket};

/// A home connection that was not used for so long is pinged while the session works elsewhere (RULES.md 21).
const PING_AFTER: Duration = Duration::from_secs(5);
/// A connection to another store that was not used for so long is given back when the session is reset.
const KEPT_UNUSED: Duration = Duration::from_secs(10);

/// What ended a wait.
enum Woken {
    /// The client sent something.
    Client,
    /// The home store sent something on its own.
    Home,
    /// The process drains, and nothing pins the session.
    Draining,
}

impl Session {
    /// One command, from waiting for it to its answer.
    pub(crate) async fn turn(&mut self) -> Result<(), Fatal> {
        let frame = self.next_command().await?;
        self.newest_snapshot();
        // only this session writes it: no locked instruction is needed
        self.info.queries.store(self.info.queries.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let command = self.framed(frame).get(HEADER).copied().map(Command::from);
        if self.lease.is_some() {
            let turn = Box::pin(self.pooled_turn(frame, command)).await;
            self.leave_gates();
            return turn;
        }
        match command {
            Some(Command::Query) => self.query(frame).await?,
            Some(c @ (Command::StmtExecute | Command::StmtBulkExecute)) => self.execute(frame, c).await?,
            Some(c) => Box::pin(self.other_command(frame, c)).await?,
            None => {
                self.consume(frame);
                self.send_error(&unknown_command()).await?;
            }
        }
        if !self.passes.is_empty() {
            self.leave_gates();
        }
        if self.legs.len() > 1 {
            self.keep_home_alive().await?;
        }
        Ok(())
    }

    pub(crate) async fn other_command(&mut self, frame: Frame, command: Command) -> Result<(), Fatal> {
        match command {
            Command::Quit => Err(Fatal::Quit),
            Command::StmtPrepare => self.prepare(frame).await,
            Command::StmtFetch | Command::StmtReset => self.fetch_or_reset(frame, command).await,
            Command::StmtSendLongData => {
                self.long_data(frame);
                Ok(())
            }
            Command::StmtClose => self.close_statement(frame).await,
            Command::InitDb => self.init_db(frame).await,
            Command::FieldList => self.field_list(frame).await,
            Command::ChangeUser => self.change_user(frame).await,
            Command::ResetConnection => self.reset_connection(frame).await,
            Command::ProcessKill => {
                let id = self.framed(frame).get(HEADER + 1..HEADER + 5).and_then(|b| b.first_chunk::<4>()).copied();
                let Some(id) = id else { return self.at_home(frame, Expect::Ok).await.map(|_| ()) };
                let framed = self.framed(frame).to_vec();
                self.consume(frame);
                let id = u64::from(u32::from_le_bytes(id));
                let outcome = self.send_kill(&framed, 0, Expect::Ok, id, false).await?;
                self.reported(None, 0, &outcome);
                self.transaction_over();
                Ok(())
            }
            Command::SetOption => self.set_option(frame).await,
            Command::Ping | Command::Refresh | Command::Debug | Command::Shutdown | Command::RegisterSlave => {
                self.at_home(frame, Expect::Ok).await.map(|_| ())
            }
            Command::Statistics => self.at_home(frame, Expect::Text).await.map(|_| ()),
            Command::ProcessInfo => self.at_home(frame, Expect::Results).await.map(|_| ()),
            Command::BinlogDump | Command::BinlogDumpGtid => self.stream_binlog(frame).await,
            Command::Query | Command::StmtExecute | Command::StmtBulkExecute | Command::Unknown(_) => {
                self.consume(frame);
                self.send_error(&unknown_command()).await
            }
        }
    }

    /// Outside a transaction, each command takes the newest snapshot (invariant 1).
    pub(crate) fn newest_snapshot(&mut self) {
        let newest = self.newest.load();
        if Arc::ptr_eq(newest, &self.live)
            || self.legs.iter().any(super::leg::Leg::in_transaction)
            || self.state.tables_locked
        {
            return;
        }
        self.live = Arc::clone(newest);
        self.info.epoch.store(self.live.snapshot.epoch, Ordering::Relaxed);
        // stores may have gone, or have new addresses: a leg whose store is another now is left
        let live = Arc::clone(&self.live);
        for leg in self.legs.iter_mut().skip(1) {
            match live.fleet.by_name(&leg.name) {
                Some(id) if live.fleet.get(id).is_some_and(|h| Arc::ptr_eq(h, &leg.backend.handle)) => {
                    leg.backend.store = id
                }
                _ => leg.broken = true,
            }
        }
        if let Some(home) = self.legs.first_mut()
            && let Some(id) = live.fleet.by_name(&home.name)
        {
            home.backend.store = id;
        }
    }

    /// Waits until a whole command is there.
    async fn next_command(&mut self) -> Result<Frame, Fatal> {
        loop {
            if let Some((header, whole)) = self.client.peek() {
                if header.sequence != 0 {
                    return Err(Fatal::Protocol(ErrPacket::new(1156, b"08S01", "Got packets out of order")));
                }
                let limit = self.live.config().limits.max_allowed_packet;
                if header.len() as u64 > limit {
                    return Err(too_large());
                }
                if whole && !header.continues() {
                    return Ok(Frame::Buffered(HEADER + header.len()));
                }
                if HEADER + header.len() > crate::net::buffer::SIZE / 2 || header.continues() {
                    self.gather(limit).await?;
                    return Ok(Frame::Gathered);
                }
                self.client.fill().await.map_err(Fatal::client)?;
                continue;
            }
            self.info.idle.store(true, Ordering::Relaxed);
            let woken = match self.live.config().limits.idle_timeout {
                None => self.wait().await,
                Some(limit) => tokio::time::timeout(limit, self.wait()).await.map_err(|_| Fatal::Idle)?,
            };
            self.info.idle.store(false, Ordering::Relaxed);
            self.client.command_came();
            match woken? {
                Woken::Client => {}
                Woken::Home => self.unsolicited().await?,
                Woken::Draining => {
                    let text = "switchover: the proxy is shutting down";
                    return Err(Fatal::Closed(ErrPacket::new(1053, b"08S01", text)));
                }
            }
        }
    }

    /// Reads a command that does not fit the read buffer.
    async fn gather(&mut self, limit: u64) -> Result<(), Fatal> {
        self.gathered.clear();
        let mut total = 0;
        let mut packets = 0u8;
        let compressed = matches!(self.client.stream(), crate::net::Stream::Compressed(_));
        loop {
            let Some((header, _)) = self.client.peek() else {
                self.client.fill().await.map_err(Fatal::client)?;
                continue;
            };
            total += header.len() as u64;
            if total > limit {
                return Err(too_large());
            }
            // libmariadb numbers them anew where frames have numbers of their own; a store that has no frames minds
            if let Some(number) = self.client.buffered_mut().get_mut(3).filter(|_| compressed) {
                *number = packets;
            }
            packets = packets.wrapping_add(1);
            let mut left = HEADER + header.len();
            while left > 0 {
                if self.client.buffered().is_empty() {
                    self.client.fill().await.map_err(Fatal::client)?;
                }
                let n = left.min(self.client.buffered().len());
                self.gathered.extend_from_slice(self.client.buffered().get(..n).unwrap_or_default());
                self.client.consume(n);
                left -= n;
            }
            if !header.continues() {
                return Ok(());
            }
        }
    }

    async fn wait(&mut self) -> Result<Woken, Fatal> {
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<Woken, Fatal>> {
        if self.info.waker.get().is_none() {
            let _ = self.info.waker.set(cx.waker().clone());
        }
        if self.info.killed.load(Ordering::Relaxed) {
            let killed = ErrPacket::new(1927, b"70100", "Connection was killed");
            return Poll::Ready(Err(Fatal::Closed(killed)));
        }
        match self.client.poll_fill(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(Fatal::Client(io::ErrorKind::UnexpectedEof.into()))),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Woken::Client)),
            Poll::Ready(Err(e)) => return Poll::Ready(Err(Fatal::Client(e))),
            Poll::Pending => {}
        }
        if self.info.closing.load(Ordering::Relaxed) && !self.in_transaction() {
            return Poll::Ready(Ok(Woken::Draining));
        }
        let mut lost = None;
        for (i, leg) in self.legs.iter_mut().enumerate() {
            if leg.broken {
                continue;
            }
            match (i, leg.backend.stream.poll_fill(cx)) {
                (_, Poll::Pending) => {}
                (0, Poll::Ready(Ok(n))) if n > 0 => return Poll::Ready(Ok(Woken::Home)),
                (0, Poll::Ready(end)) => lost = Some(end.err().unwrap_or(io::ErrorKind::UnexpectedEof.into())),
                // an unsolicited error or end of stream closes the lease (RULES.md 21)
                (_, Poll::Ready(_)) => leg.broken = true,
            }
        }
        match lost {
            Some(error) => self.home_is_lost(error),
            None => Poll::Pending,
        }
    }

    /// The first leg has ended unasked, and so does the session; but one of `pool: transaction` that kept it for its warnings alone
    /// goes on, where another store takes over.
    fn home_is_lost(&mut self, error: io::Error) -> Poll<Result<Woken, Fatal>> {
        let Some(handle) = self.legs.first().map(|l| Arc::clone(&l.backend.handle)) else { return Poll::Pending };
        if self.lease.is_some() && self.may_be_given_up(&handle) && self.leaves_nothing() {
            self.legs.clear();
            self.publish_legs();
            return Poll::Pending;
        }
        let Some(leg) = self.legs.first_mut() else { return Poll::Pending };
        Poll::Ready(Err(leg.lost(error)))
    }

    /// What home says on its own (killed, timed out) is the client's to hear.
    async fn unsolicited(&mut self) -> Result<(), Fatal> {
        let Session { client, legs, .. } = self;
        let Some(home) = legs.first_mut() else { return Err(Fatal::Quit) };
        let n = home.backend.stream.buffered().len();
        home.backend.stream.pass(client, n).await.map_err(Fatal::client)
    }

    /// Sends a command to home and relays the answer.
    pub(crate) async fn at_home(&mut self, frame: Frame, expect: Expect) -> Result<crate::wire::reply::Outcome, Fatal> {
        let framed = self.framed(frame).to_vec();
        self.consume(frame);
        let outcome = self.send_relay(&framed, 0, expect).await?;
        self.reported(None, 0, &outcome);
        self.transaction_over();
        Ok(outcome)
    }

    /// COM_INIT_DB.
    async fn init_db(&mut self, frame: Frame) -> Result<(), Fatal> {
        let name = String::from_utf8_lossy(self.framed(frame).get(HEADER + 1..).unwrap_or_default()).into_owned();
        let before = self.state.database.clone();
        let outcome = self.at_home(frame, Expect::Ok).await?;
        // what the store reports is better: it is spelled as the store spells it
        if outcome.error.is_none() && self.state.database == before {
            self.state.database = Some(name);
        }
        Ok(())
    }

    /// COM_FIELD_LIST follows its table.
    async fn field_list(&mut self, frame: Frame) -> Result<(), Fatal> {
        let framed = self.framed(frame).to_vec();
        self.consume(frame);
        let argument = framed.get(HEADER + 1..).unwrap_or_default();
        let name = String::from_utf8_lossy(argument.split(|b| *b == 0).next().unwrap_or_default()).into_owned();
        let table = TableRef { database: None, name: name.into(), access: Access::Describe, span: Default::default() };
        let facts = Facts {
            kind: Kind::Show,
            tables: [table].into(),
            user_variables: [].into(),
            hint: None,
            flags: Flags::default(),
        };
        let mut way = Way::Text { framed: &framed, plan: None, expect: Expect::FieldList };
        match Box::pin(self.run_carefully(&mut way, &facts)).await {
            Ok(_) => Ok(()),
            Err(Failure::Session(fatal)) => Err(fatal),
            Err(Failure::Statement(error)) => self.refuse(&error).await,
        }
    }

    /// COM_SET_OPTION: whether several statements may come in one COM_QUERY; every leg follows.
    async fn set_option(&mut self, frame: Frame) -> Result<(), Fatal> {
        let framed = self.framed(frame).to_vec();
        let off = framed.get(HEADER + 1) == Some(&1);
        let outcome = self.at_home(frame, Expect::Ok).await?;
        if outcome.error.is_none() {
            self.capabilities.set(Capabilities::MULTI_STATEMENTS, !off);
            for leg in self.legs.iter_mut().skip(1).filter(|l| !l.broken) {
                leg.busy = true;
                leg.backend.stream.write(&framed).await.map_err(|e| leg.lost(e))?;
                if super::relay::swallow(leg, Expect::Ok).await?.is_err() {
                    leg.broken = true;
                }
            }
        }
        Ok(())
    }

    /// COM_RESET_CONNECTION, on home and on the other legs: a pool that resets at each checkout must not log in anew each time.
    async fn reset_connection(&mut self, frame: Frame) -> Result<(), Fatal> {
        let outcome = self.at_home(frame, Expect::Ok).await?;
        if outcome.error.is_some() {
            return Ok(());
        }
        let others = self.legs.split_off(1.min(self.legs.len()));
        self.forget_state();
        let limit = self.live.config().limits.connect_timeout;
        // a store that stalls costs no more than a new login there may
        if let Ok(kept) = tokio::time::timeout(limit, self.reset(others)).await {
            for (backend, used) in kept {
                let generation = self.state.next_generation();
                let leg = Leg { used, ..Leg::new(backend, generation, self.capabilities) };
                self.legs.push(leg);
            }
            self.publish_legs();
        }
        Ok(())
    }

    /// Those of the legs that are as after their login again. What was not used of late is given back.
    async fn reset(&self, legs: Vec<Leg>) -> Vec<(Backend, Instant)> {
        let known =
            |leg: &Leg| self.live.fleet.get(leg.store()).is_some_and(|handle| Arc::ptr_eq(handle, &leg.backend.handle));
        let mut kept = Vec::new();
        for mut leg in legs {
            if leg.broken || leg.busy || leg.used.elapsed() > KEPT_UNUSED || !known(&leg) {
                continue;
            }
            if leg.backend.send(COM_RESET_CONNECTION, &[]).await.is_ok() {
                kept.push((leg.backend, leg.used));
            }
        }
        let mut clean = Vec::new();
        for (mut backend, used) in kept {
            if backend.collect(Expect::Ok).await.is_ok() {
                clean.push((backend, used));
            }
        }
        clean
    }

    /// Everything that a reset or a change of user ends.
    pub(crate) fn forget_state(&mut self) {
        self.legs.truncate(1);
        self.statements.clear();
        self.transaction = super::Transaction::default();
        let home = self.legs.first().map_or(0, |l| l.generation);
        let database = self.state.database.take();
        self.state.reset(self.account.dialect, self.account.collation, home);
        self.state.database = database;
        self.info.set_others(Vec::new());
    }

    /// COM_BINLOG_DUMP: from here on, an opaque stream.
    async fn stream_binlog(&mut self, frame: Frame) -> Result<(), Fatal> {
        let framed = self.framed(frame).to_vec();
        self.consume(frame);
        let Session { client, legs, .. } = self;
        let Some(home) = legs.first_mut() else { return Err(Fatal::Quit) };
        home.backend.stream.write(&framed).await.map_err(|e| home.lost(e))?;
        loop {
            let from_store = poll_fn(|cx| {
                if let Poll::Ready(r) = home.backend.stream.poll_fill(cx) {
                    return Poll::Ready((true, r));
                }
                // semi-synchronous acknowledgements come from the client
                client.poll_fill(cx).map(|r| (false, r))
            })
            .await;
            match from_store {
                (true, Ok(n)) if n > 0 => {
                    let n = home.backend.stream.buffered().len();
                    home.backend.stream.pass(client, n).await.map_err(Fatal::client)?;
                }
                (true, _) => return Err(home.lost(io::ErrorKind::UnexpectedEof.into())),
                (false, Ok(n)) if n > 0 => {
                    let n = client.buffered().len();
                    client.pass(&mut home.backend.stream, n).await.map_err(|e| home.lost(e))?;
                }
                (false, _) => return Err(Fatal::Quit),
            }
        }
    }

    /// A session that works on another store keeps home from timing out.
    async fn keep_home_alive(&mut self) -> Result<(), Fatal> {
        let Some(home) = self.legs.first_mut() else { return Ok(()) };
        if home.used.elapsed() < PING_AFTER {
            return Ok(());
        }
        home.used = Instant::now();
        home.busy = true;
        home.backend.send(crate::wire::command::COM_PING, &[]).await.map_err(|e| home.lost(e))?;
        let _ = super::relay::swallow(home, Expect::Ok).await?;
        Ok(())
    }
}

fn unknown_command() -> ErrPacket {
    ErrPacket::new(1047, b"08S01", "Unknown command")
}

fn too_large() -> Fatal {
    Fatal::Protocol(ErrPacket::new(1153, b"08S01", "Got a packet bigger than 'max_allowed_packet' bytes"))
}
