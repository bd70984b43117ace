//! Logins of `pool: transaction` that the store decides alone: a password that fits no hash, an account that the proxy does not
//! know, a plugin that it cannot check. The exchange is relayed; what it gives away of the secret decides whether its connection
//! can be shared.

use std::rc::Rc;
use std::sync::Arc;

use super::exchange::{Exchange, Verdict};
use super::home::check_peer_account;
use super::own_login::{Door, Entry, Knock, Refused};
use crate::auth::random::scramble;
use crate::auth::{CLEAR, NATIVE, Seen, recover_stage1};
use crate::backend::login::{Key, LoginError, greeting, tls_host, wants_tls};
use crate::backend::pool::{PoolKey, Pooled};
use crate::backend::{Backend, dial::dial};
use crate::net::{PacketStream, tls};
use crate::wire::handshake::HandshakeResponse;
use crate::wire::{Capabilities, OkPacket, Status};

impl Door<'_> {
    /// A password that fits none of the account's hashes: the store says so, to a login that cannot succeed. The client is not
    /// asked again, which some drivers do not take.
    pub(super) async fn refused_by_store(
        &self,
        client: &mut PacketStream,
        knock: &Knock,
        sequence: u8,
    ) -> Result<Entry, Refused> {
        let mut wrong = [0; 20];
        wrong.copy_from_slice(&scramble());
        let mut login = self.login(client, knock, Key::Stage1(wrong));
        (login.user, login.key) = (knock.user.clone(), Key::Stage1(wrong));
        let limit = self.live.config().limits.connect_timeout;
        let attempt = async {
            let stream = dial(self.handle, self.source(), client.buffers(), limit).await?;
            crate::backend::login::login(self.live.config().default, self.handle, stream, &login).await
        };
        match tokio::time::timeout(limit, attempt).await {
            Ok(Err(LoginError::Secret(_))) => self.relay(client, knock, sequence).await,
            Ok(Err(error)) => Err(self.refused(error, sequence)),
            Ok(Ok(_)) | Err(_) => Err(self.refused(LoginError::Io(std::io::ErrorKind::TimedOut.into()), sequence)),
        }
    }

    /// The store asks the client itself.
    pub(super) async fn relay(&self, client: &mut PacketStream, knock: &Knock, sequence: u8) -> Result<Entry, Refused> {
        // beyond the bound: logins under way are bounded on their own
        let slot = self.handle.slots.take();
        let limit = self.live.config().limits.connect_timeout;
        let say = |error: LoginError| self.refused(error, sequence);
        let mut server = dial(self.handle, self.source(), client.buffers(), limit).await.map_err(|e| say(e.into()))?;
        let shown = greeting(&mut server).await.map_err(say)?;
        let encrypt = wants_tls(self.handle, shown.capabilities, client.stream().is_tls(), server.stream().is_unix())
            .map_err(say)?;
        let mut login = HandshakeResponse {
            capabilities: knock.capabilities,
            max_packet: knock.max_packet,
            collation: knock.collation,
            user: knock.user.clone(),
            auth: Vec::new(),
            database: knock.database.clone(),
            // a plugin that no account has: the store names the account's own, with its scramble
            plugin: Some(if knock.auth.is_empty() { NATIVE.to_vec() } else { CLEAR.to_vec() }),
            attributes: knock.attributes.clone(),
        };
        login.capabilities.set(Capabilities::CONNECT_WITH_DB, login.database.is_some());
        // always asked of stores (RULES.md 16)
        login.capabilities |= shown.capabilities & Capabilities::SESSION_TRACK;
        let agreed = login.capabilities - Capabilities::SSL;
        let mut next = 1;
        if let (true, Some(connector)) = (encrypt, &self.handle.tls) {
            login.capabilities.insert(Capabilities::SSL);
            let sent = server.write_message(next, &login.write_ssl_request()).await;
            next = sent.map_err(|e| say(e.into()))?;
            tls::connect(&mut server, connector, tls_host(self.handle), client.stream().agreed())
                .await
                .map_err(|e| say(e.into()))?;
        }
        server.write_message(next, &login.write()).await.map_err(|e| say(e.into()))?;
        let mut exchange = Exchange {
            seen: Seen::Empty,
            plugin: CLEAR.to_vec(),
            scramble: shown.scramble.clone(),
            answer: Vec::new(),
            password_wanted: true,
            store: self.handle.name(),
            check_peer: server.stream().is_unix(),
        };
        let (ok, sequence) = match exchange.run(client, &mut server, sequence).await? {
            Verdict::Accepted(ok, sequence) => (ok, sequence),
            Verdict::Refused(error) => return Err(Refused::Said(error)),
        };
        let status = OkPacket::read(&ok).map_or(Status::AUTOCOMMIT, |o| o.status);
        let id = self.live.config().default;
        let mut backend = Backend::new(id, Arc::clone(self.handle), server, shown.thread_id, agreed, status);
        check_peer_account(&mut backend, self.peer).await.map_err(|e| self.refused(e, sequence))?;
        let seen = self.secret_of(knock, exchange.seen).await;
        let login = self.login(client, knock, key_of(&seen));
        let key = PoolKey {
            user: login.user,
            key: login.key,
            capabilities: login.capabilities - Capabilities::CONNECT_WITH_DB - Capabilities::SSL,
            client_tls: login.client_tls,
            source: self.source().filter(|_| self.handle.config.proxy_protocol).map(|a| a.ip()),
        };
        let multi_statements = knock.capabilities.contains(Capabilities::MULTI_STATEMENTS);
        backend.scramble.clone_from(&exchange.scramble);
        backend.pooled = Some(Box::new(Pooled { slot, key: Rc::new(key), multi_statements }));
        Ok(Entry { seen, backend: Some(backend), sequence, scramble: exchange.scramble })
    }

    /// What a relayed login gave away.
    async fn secret_of(&self, knock: &Knock, seen: Seen) -> Seen {
        let Seen::Native { scramble, response } = &seen else { return seen };
        for again in [false, true] {
            let hashes = self.hashes(&knock.user, again).await;
            if let Some(s) = hashes.into_iter().find_map(|h| recover_stage1(*scramble, *response, h)) {
                return Seen::Stage1(s);
            }
        }
        // a control account may come to read the hash later
        seen
    }
}

/// The key that a login gave; for one that gave none, a key that no other session has.
fn key_of(seen: &Seen) -> Key {
    match seen {
        Seen::Stage1(s) => Key::Stage1(*s),
        Seen::Password(p) => Key::Password(p.clone()),
        Seen::Empty => Key::Password(Vec::new()),
        Seen::Nothing | Seen::Native { .. } | Seen::Signature { .. } => Key::Password(scramble().to_vec()),
    }
}
