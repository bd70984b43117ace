//! One transaction over the legs of a session.
//!
//! Home begins at once when the client says so; another store joins with the first statement that reaches it: START
//! TRANSACTION and the open savepoints go before that statement. The end reaches every store that takes part, the one that
//! wrote first; home, whose answer the client sees, last.

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::leg::Leg;
use super::relay::swallow;
use crate::sql::facts::{Characteristics, Facts, Flags, Kind};
use crate::wire::ErrPacket;
use crate::wire::Status;
use crate::wire::command::COM_QUERY;
use crate::wire::packet;
use crate::wire::reply::{Expect, Outcome, Reply};

/// What is known of the open transaction.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    /// Something below was set.
    pub(crate) used: bool,
    /// BEGIN was said, not only implied by autocommit = 0.
    pub(crate) explicit: bool,
    /// Something of it may have written.
    pub(crate) wrote: bool,
    /// READ ONLY was said.
    pub(crate) read_only: bool,
    /// What SET TRANSACTION said of it.
    pub(crate) characteristics: Characteristics,
    /// It stays on home: the reason (a consistent snapshot, XA).
    pub(crate) only_home: Option<&'static str>,
    /// A group that took part and refuses to share its transactions with another store.
    pub(crate) alone: Option<String>,
    /// Open savepoints, in order.
    savepoints: Vec<Box<str>>,
    /// Tables that it wrote: a read of them never goes to a copy (RULES.md 8).
    pub(crate) written: Vec<(crate::config::StoreId, Box<str>)>,
}

impl Transaction {
    /// BEGIN was said, or SAVEPOINT: with autocommit = 0 no flag tells of the latter before the first statement.
    pub(crate) fn is_begun(&self) -> bool {
        self.explicit || !self.savepoints.is_empty()
    }

    /// Whether savepoints are open.
    pub(crate) fn has_savepoints(&self) -> bool {
        !self.savepoints.is_empty()
    }

    /// The transaction has ended, and its savepoints with it.
    pub(crate) fn forget_savepoints_all(&mut self) {
        self.savepoints.clear();
    }
}

/// A savepoint's name as SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

impl Session {
    /// Whether any store holds a transaction of this session open.
    pub(crate) fn in_transaction(&self) -> bool {
        self.legs.iter().any(super::leg::Leg::in_transaction)
    }

    /// Runs a statement of the proxy's own on a leg and expects OK.
    pub(crate) async fn tell(&mut self, at: usize, sql: &str) -> Result<Result<(), ErrPacket>, Fatal> {
        self.tell_bytes(at, sql.as_bytes()).await
    }

    /// The same, for a text in the client's character set.
    pub(crate) async fn tell_bytes(&mut self, at: usize, sql: &[u8]) -> Result<Result<(), ErrPacket>, Fatal> {
        let Some(leg) = self.legs.get_mut(at) else { return Ok(Ok(())) };
        leg.busy = true;
        if let Err(e) = leg.backend.send(COM_QUERY, sql).await {
            return Err(leg.lost(e));
        }
        swallow(leg, Expect::Results).await
    }

    /// An error in a transaction over several stores, held back: whether its store has still got the transaction is asked there
    /// (1205 under innodb_rollback_on_timeout, and other engines' own codes), before the client hears of it (RULES.md 6).
    pub(crate) async fn doubtful_error(&mut self, at: usize, reply: Reply) -> Result<Outcome, Fatal> {
        let Some(leg) = self.legs.get_mut(at) else { return Err(Fatal::Quit) };
        let error = leg.backend.stream.read_message(packet::MAX_PAYLOAD).await;
        let (sequence, payload) = error.map_err(|e| leg.lost(e))?;
        leg.busy = false;
        if !self.still_in_transaction(at).await? {
            self.roll_back_all_but(at).await?;
        }
        self.client.write_message(sequence, &payload).await.map_err(Fatal::client)?;
        Ok(*reply.outcome())
    }

    /// Whether a leg that was in a transaction is in it after an error; the question leaves ROW_COUNT and SHOW WARNINGS alone.
    pub(crate) async fn still_in_transaction(&mut self, at: usize) -> Result<bool, Fatal> {
        match self.ask(at, "SELECT 1").await {
            Ok(_) | Err(Failure::Statement(_)) => Ok(self.legs.get(at).is_some_and(Leg::in_transaction)),
            Err(Failure::Session(fatal)) => Err(fatal),
        }
    }

    /// Brings a leg other than home into the open transaction, if there is one.
    pub(crate) async fn join(&mut self, at: usize) -> Result<(), Failure> {
        let Some(home) = self.legs.first() else { return Ok(()) };
        let open = self.transaction.explicit || self.in_transaction() || !self.transaction.savepoints.is_empty();
        if at == 0 || !open {
            return Ok(());
        }
        if let Some(why) = self.transaction.only_home {
            let home = home.name.clone();
            let other = self.legs.get(at).map(|l| l.name.clone()).unwrap_or_default();
            return Err(ErrPacket::new(
                1235,
                b"42000",
                format!(
                    "switchover: this statement goes to store {other}, but {why} runs on store {home} alone; \
                     end it first, or keep it to tables of store {home}"
                ),
            )
            .into());
        }
        if self.legs.get(at).is_none_or(super::leg::Leg::in_transaction) {
            return Ok(());
        }
        self.open_there(at).await?;
        for i in 0..self.transaction.savepoints.len() {
            let name = self.transaction.savepoints.get(i).map(|n| quoted(n)).unwrap_or_default();
            self.tell(at, &format!("SAVEPOINT {name}")).await??;
        }
        Ok(())
    }

    /// With autocommit = 0 a transaction may have begun on another store alone. Before home runs something in it, it begins there
    /// too: its flags say so, and SET TRANSACTION is refused there as it must be.
    pub(crate) async fn home_joins(&mut self, facts: &Facts) -> Result<(), Failure> {
        let apart = matches!(
            facts.kind,
            Kind::Begin { .. }
                | Kind::Commit { .. }
                | Kind::Rollback { .. }
                | Kind::Diagnostics
                | Kind::Kill { .. }
                | Kind::Xa
        );
        let home_in = self.legs.first().is_some_and(super::leg::Leg::in_transaction);
        if home_in
            || !self.in_transaction()
            || apart
            || facts.flags.intersects(super::effects::OF_LAST_STATEMENT | Flags::IMPLICIT_COMMIT)
        {
            return Ok(());
        }
        self.tell(0, "BEGIN").await??;
        for i in 0..self.transaction.savepoints.len() {
            let name = self.transaction.savepoints.get(i).map(|n| quoted(n)).unwrap_or_default();
            self.tell(0, &format!("SAVEPOINT {name}")).await??;
        }
        Ok(())
    }

    /// Ends the transaction on every leg but `target`, before a statement there that ends it.
    pub(crate) async fn end_elsewhere(&mut self, target: usize, commit: bool) -> Result<(), Failure> {
        let mut order: Vec<usize> = (0..self.legs.len())
            .filter(|i| *i != target && self.legs.get(*i).is_some_and(|l| l.in_transaction() || (l.locks && !l.broken)))
            .collect();
        order.sort_by_key(|i| !self.legs.get(*i).is_some_and(|l| l.wrote));
        for i in order {
            let sql = if commit { "COMMIT" } else { "ROLLBACK" };
            if let Err(error) = self.tell(i, sql).await? {
                self.roll_back_all_but(usize::MAX).await?;
                return Err(error.into());
            }
            if let Some(leg) = self.legs.get_mut(i) {
                leg.wrote = false;
                leg.locks = false;
            }
        }
        Ok(())
    }

    /// One store lost its transaction: the others lose it too, before the client hears of it (RULES.md 6).
    pub(crate) async fn roll_back_all_but(&mut self, lost: usize) -> Result<(), Fatal> {
        for i in 0..self.legs.len() {
            if i != lost && self.legs.get(i).is_some_and(super::leg::Leg::in_transaction) {
                let _ = self.tell(i, "ROLLBACK").await?;
            }
        }
        Ok(())
    }

    /// Whether more than one store takes part.
    pub(crate) fn several_take_part(&self) -> bool {
        self.legs.len() > 1 && self.legs.iter().filter(|l| l.in_transaction()).count() > 1
    }

    /// Runs a savepoint statement on the legs that take part, but for home, which runs the client's own.
    pub(crate) async fn savepoint_elsewhere(&mut self, kind: &Kind) -> Result<(), Failure> {
        let sql = match kind {
            Kind::Savepoint(n) => format!("SAVEPOINT {}", quoted(n)),
            Kind::RollbackTo(n) => format!("ROLLBACK TO SAVEPOINT {}", quoted(n)),
            Kind::ReleaseSavepoint(n) => format!("RELEASE SAVEPOINT {}", quoted(n)),
            _ => return Ok(()),
        };
        for i in 1..self.legs.len() {
            if self.legs.get(i).is_some_and(super::leg::Leg::in_transaction) {
                self.tell(i, &sql).await??;
            }
        }
        Ok(())
    }

    /// What a successful statement means for the transaction.
    pub(crate) fn transaction_after(&mut self, facts: &Facts) {
        self.transaction.used = true;
        match &facts.kind {
            Kind::Begin { consistent_snapshot, read_only, .. } => {
                self.transaction = Transaction {
                    used: true,
                    explicit: true,
                    read_only: *read_only,
                    only_home: consistent_snapshot.then_some("a transaction WITH CONSISTENT SNAPSHOT"),
                    ..Transaction::default()
                };
            }
            Kind::Savepoint(name) => {
                self.transaction.savepoints.retain(|n| !n.eq_ignore_ascii_case(name));
                self.transaction.savepoints.push(name.clone());
            }
            Kind::RollbackTo(name) => self.forget_savepoints(name, true),
            Kind::ReleaseSavepoint(name) => self.forget_savepoints(name, false),
            Kind::Xa => {
                self.transaction.only_home = Some("an XA transaction");
            }
            Kind::Commit { chain: true, .. } | Kind::Rollback { chain: true, .. } => {
                self.transaction = Transaction {
                    used: true,
                    explicit: true,
                    read_only: self.transaction.read_only,
                    characteristics: self.transaction.characteristics,
                    ..Transaction::default()
                };
                for leg in &mut self.legs {
                    leg.wrote = false;
                }
            }
            Kind::Commit { .. } | Kind::Rollback { .. } => self.transaction.forget_savepoints_all(),
            _ => {}
        }
    }

    /// Forgets the transaction when the stores say that none is open.
    pub(crate) fn transaction_over(&mut self) {
        // with autocommit = 0 savepoints may stand before the first statement that opens it: no flag tells of that
        let waits = !self.transaction.savepoints.is_empty() && !self.home_status().contains(Status::AUTOCOMMIT);
        if self.in_transaction() || !self.transaction.used || waits {
            return;
        }
        self.transaction = Transaction::default();
        for leg in &mut self.legs {
            leg.wrote = false;
            leg.touched = false;
        }
    }

    fn forget_savepoints(&mut self, name: &str, keep: bool) {
        if let Some(at) = self.transaction.savepoints.iter().position(|n| n.eq_ignore_ascii_case(name)) {
            self.transaction.savepoints.truncate(at + usize::from(keep));
        }
    }

    /// Status flags of home, for OK packets that the proxy makes (RULES.md 19).
    pub(crate) fn home_status(&self) -> Status {
        let parked = self.lease.as_ref().map_or(Status::AUTOCOMMIT, |l| l.status);
        self.legs.first().map_or(parked, |l| l.backend.status)
    }
}
