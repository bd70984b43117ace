//! Opens a session's legs on other stores, with the account and the secret that the session has there.

use std::sync::Arc;

use super::Session;
use super::control_flow::{Failure, Fatal};
use super::leg::Leg;
use crate::auth::{Seen, recover_stage1};
use crate::backend::login::{Key, Login, LoginError, login};
use crate::backend::{Backend, StoreHandle, control, dial::dial};
use crate::config::StoreId;
use crate::wire::ErrPacket;

impl Session {
    /// The index of the session's leg on `store`; opened if there is none.
    pub(crate) async fn leg(&mut self, store: StoreId) -> Result<usize, Failure> {
        self.drop_lost_legs()?;
        if let Some(at) = self.legs.iter().position(|l| l.store() == store) {
            return Ok(at);
        }
        let Some(handle) = self.live.fleet.get(store).map(Arc::clone) else {
            return Err(
                ErrPacket::new(1105, b"HY000", "switchover: the store was removed from the configuration").into()
            );
        };
        if self.lease.is_some() && self.legs.is_empty() {
            // its only connection was lost with its store
            Box::pin(self.take_lease(store, None, false)).await?;
            return Ok(0);
        }
        if self.lease.is_some() {
            let leg = Box::pin(self.lease_another(store, &handle)).await?;
            self.legs.push(leg);
            self.publish_legs();
            return Ok(self.legs.len() - 1);
        }
        let backend = match Box::pin(self.connect(store, &handle)).await {
            Ok(backend) => backend,
            Err(error) => return Err(error.into()),
        };
        let generation = self.state.next_generation();
        self.legs.push(Leg::new(backend, generation, self.capabilities));
        self.publish_legs();
        Ok(self.legs.len() - 1)
    }

    pub(crate) fn publish_legs(&self) {
        // the home of `pool: session` has the session's own id
        let known = usize::from(self.lease.is_none());
        self.info.set_others(
            self.legs.iter().skip(known).map(|l| (Arc::clone(&l.backend.handle), l.backend.thread_id)).collect(),
        );
    }

    /// Legs that died while idle are forgotten, if the session had nothing to lose on them.
    fn drop_lost_legs(&mut self) -> Result<(), Failure> {
        let kept = usize::from(self.lease.is_none() || self.legs.len() > 1);
        if self.legs.iter().skip(kept).all(|l| !l.broken) {
            return Ok(());
        }
        let loses =
            |l: &&Leg| l.broken && (l.in_transaction() || self.state.handlers.values().any(|g| *g == l.generation));
        if let Some(leg) = self.legs.iter().find(loses) {
            return Err(Failure::Session(Fatal::Store {
                store: leg.name.clone(),
                error: std::io::ErrorKind::ConnectionReset.into(),
            }));
        }
        let mut at = 0;
        self.legs.retain(|l| {
            at += 1;
            at <= kept || !l.broken
        });
        self.publish_legs();
        Ok(())
    }

    async fn connect(&self, store: StoreId, handle: &Arc<StoreHandle>) -> Result<Backend, ErrPacket> {
        let request = self.login_at(store, handle).await?;
        self.connect_with(store, handle, &request).await
    }

    /// The login that this session makes at a store.
    pub(crate) async fn login_at(&self, store: StoreId, handle: &Arc<StoreHandle>) -> Result<Login, ErrPacket> {
        let (user, key) = self.secret_for(store, handle).await?;
        Ok(Login {
            user,
            key,
            capabilities: self.capabilities,
            collation: self.account.collation,
            max_packet: self.account.max_packet,
            attributes: self.account.attributes.clone(),
            client_tls: self.client.stream().is_tls(),
        })
    }

    /// A new connection with that login.
    pub(crate) async fn connect_with(
        &self,
        store: StoreId,
        handle: &Arc<StoreHandle>,
        request: &Login,
    ) -> Result<Backend, ErrPacket> {
        let limit = self.live.config().limits.connect_timeout;
        let attempt = async {
            let client = match self.peer {
                crate::net::Peer::Tcp(a) => Some(a),
                crate::net::Peer::Unix(_) => None,
            };
            let stream = dial(handle, client, self.client.buffers(), limit).await?;
            login(store, handle, stream, request).await
        };
        let given_up = handle.times_given_up();
        let attempt = async {
            tokio::select! {
                biased;
                done = attempt => done,
                () = handle.when_given_up(given_up) => Err(LoginError::Io(std::io::ErrorKind::ConnectionAborted.into())),
            }
        };
        let failed = match tokio::time::timeout(limit, attempt).await {
            Ok(Ok(backend)) => {
                handle.connected();
                return Ok(backend);
            }
            Ok(Err(e)) => e,
            Err(_) => LoginError::Io(std::io::ErrorKind::TimedOut.into()),
        };
        let name = handle.name();
        Err(match failed {
            LoginError::Refused(mut e) => {
                let text = format!("switchover: store {name}: {}", String::from_utf8_lossy(&e.message));
                e.message = text.into_bytes();
                e.sqlstate.get_or_insert(*b"08004");
                e
            }
            LoginError::Secret(plugin) => {
                self.no_secret(name, &format!("its account uses {plugin}, which needs the password itself"))
            }
            other => {
                handle.unreachable(&other.to_string());
                ErrPacket::new(1429, b"HY000", format!("switchover: cannot connect to store {name}: {other}"))
            }
        })
    }

    /// The three ways out; the third only where it is one: a stored hash completes a native answer and nothing else.
    fn no_secret(&self, store: &str, why: &str) -> ErrPacket {
        let user = String::from_utf8_lossy(&self.account.user);
        let config = self.live.config();
        let home = self.live.fleet.get(config.default).map_or("", |h| h.name());
        let third = match self.account.seen {
            Seen::Native { .. } => format!(", or a `control:` account of store {home} that may read mysql.user"),
            _ => String::new(),
        };
        ErrPacket::new(
            1045,
            b"28000",
            format!(
                "switchover: no secret for user '{user}' on store {store}: {why}; configure one of `users: {{{user}: {{{store}: \
                 {{password: …}}}}}}`, `stores: {{{store}: {{account: …}}}}`{third}"
            ),
        )
    }

    /// The account and secret for another store: configured, a service account, or recovered from the login.
    async fn secret_for(&self, store: StoreId, handle: &Arc<StoreHandle>) -> Result<(Vec<u8>, Key), ErrPacket> {
        let user = &self.account.user;
        let text = String::from_utf8_lossy(user);
        if let Some(c) = self.live.config().users.get(text.as_ref()).and_then(|u| u.get(&store))
            && let Some(key) = Key::from_secret(&c.secret)
        {
            return Ok((c.user.clone().into_bytes(), key));
        }
        // the default store's own account let the client in
        let pooled_home = self.lease.is_some() && store == self.live.config().default;
        if let Some(c) = handle.config.account.as_ref().filter(|_| !pooled_home)
            && let Some(key) = Key::from_secret(&c.secret)
        {
            return Ok((c.user.clone().into_bytes(), key));
        }
        match &self.account.seen {
            Seen::Empty => Ok((user.clone(), Key::Password(Vec::new()))),
            Seen::Password(p) => Ok((user.clone(), Key::Password(p.clone()))),
            Seen::Stage1(s) => Ok((user.clone(), Key::Stage1(*s))),
            Seen::Native { scramble, response } => {
                let Some(home) = self.live.fleet.get(self.live.config().default).map(Arc::clone) else {
                    return Err(self.no_secret(handle.name(), "the default store is gone"));
                };
                let try_all = |hashes: Vec<_>| hashes.into_iter().find_map(|h| recover_stage1(*scramble, *response, h));
                if let Some(stage1) = try_all(home.known_hashes(user)) {
                    return Ok((user.clone(), Key::Stage1(stage1)));
                }
                let limit = self.live.config().limits.connect_timeout;
                let read = control::account_hashes(&home, user, limit).await;
                match read {
                    Ok(hashes) => try_all(hashes)
                        .map(|s| (user.clone(), Key::Stage1(s)))
                        .ok_or_else(|| self.no_secret(handle.name(), "no stored hash fits the login")),
                    Err(e) => Err(self.no_secret(handle.name(), &e.to_string())),
                }
            }
            Seen::Nothing | Seen::Signature { .. } => Err(self.no_secret(handle.name(), "its plugin gives none away")),
        }
    }
}
