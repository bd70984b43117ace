//! Login in `pool: transaction`: the proxy asks, checks what it can, and lets the store decide.
//!
//! A client's native answer is checked against the account's hashes, which gives the secret that pooled connections need; with
//! it the store itself is asked, by a login or COM_CHANGE_USER on a pooled connection: host patterns, locks, expiry and rights
//! on the database are as the store has them. What the proxy cannot check (a wrong password, an unknown account, another
//! plugin) is relayed to the store, whose words the client gets. With the store down, a hash that is known lets clients in.

use std::rc::Rc;
use std::sync::Arc;

use super::control_flow::Fatal;
use super::entrant::{Answer, Entrant};
use super::exchange::no_login;
use super::home::{check_peer_account, refusal};
use super::knock::{first_answer, say};
use super::lease::Lease;
use super::login::{Account, proxy_header};
use super::registry::Seat;
use super::state::dialect_of;
use super::{Core, Live, Session};
use crate::auth::random::scramble;
use crate::auth::{CACHING_SHA2, CLEAR, NATIVE, Seen, Stage2, recover_stage1, stage1, stage2};
use crate::backend::connection::QueryError;
use crate::backend::login::{Key, LOGIN_LIMIT, Login, LoginError, answer_greeting, greeting};
use crate::backend::pool::{Found, PoolKey, Pooled};
use crate::backend::{Backend, StoreHandle, control, dial::dial};
use crate::config::model::Secret;
use crate::net::{PacketStream, Peer};
use crate::sql::dialect::Engine;
use crate::wire::handshake::{Greeting, HandshakeResponse, write_auth_switch};
use crate::wire::{Capabilities, ErrPacket, OkPacket, Status};

/// utf8mb4_general_ci: what the greeting names while no store has been seen.
const COLLATION: u8 = 45;

/// Who knocks, and how.
pub(super) struct Knock {
    pub(super) user: Vec<u8>,
    /// The plugin that the client answered by.
    pub(super) plugin: Vec<u8>,
    pub(super) auth: Vec<u8>,
    pub(super) scramble: Vec<u8>,
    pub(super) database: Option<Vec<u8>>,
    pub(super) capabilities: Capabilities,
    pub(super) collation: u8,
    pub(super) max_packet: u32,
    pub(super) attributes: Vec<u8>,
}

/// Who came in.
pub(super) struct Entry {
    pub(super) seen: Seen,
    /// A connection that the store let it in by; none while the store is down.
    pub(super) backend: Option<Backend>,
    /// The sequence number of the answer.
    pub(super) sequence: u8,
    pub(super) scramble: Vec<u8>,
}

/// Who did not.
pub(super) enum Refused {
    /// To be said, with this sequence number.
    Say(ErrPacket, u8),
    /// The store has said it.
    Said(ErrPacket),
    /// The connection is of no use any more.
    Fatal(Fatal),
}

impl From<Fatal> for Refused {
    fn from(fatal: Fatal) -> Refused {
        Refused::Fatal(fatal)
    }
}

/// The door: what a check needs.
pub(super) struct Door<'a> {
    pub(super) core: &'a Rc<Core>,
    pub(super) live: &'a Live,
    pub(super) handle: &'a Arc<StoreHandle>,
    pub(super) peer: &'a Peer,
}

/// Serves a login, but for the answer; `seat` is the client's place.
pub(super) async fn own_login(
    core: Rc<Core>,
    live: Arc<Live>,
    mut client: PacketStream,
    mut peer: Peer,
    behind: bool,
    seat: Seat,
) -> Result<(Session, Answer), Fatal> {
    let Some(handle) = live.fleet.get(live.config().default).map(Arc::clone) else { return Err(Fatal::Quit) };
    if handle.probed().is_none() {
        let _ = control::probe(&handle, live.config().limits.connect_timeout / 2).await;
    }
    let id = core.registry.next_id();
    let shown = shown(&live, id);
    client.write_message(0, &shown.write()).await.map_err(Fatal::client)?;
    if behind && let Some(source) = proxy_header(&mut client).await? {
        peer = Peer::Tcp(source);
    }
    let engine = Engine::from_server_version(&String::from_utf8_lossy(&shown.version));
    let (sequence, payload) = first_answer(&mut client, live.acceptor.as_ref(), engine).await?;
    let Ok(mut response) = HandshakeResponse::read(&payload) else {
        return Err(say(&mut client, sequence.wrapping_add(1), no_login(&payload, engine)).await);
    };
    let verifies = response.capabilities.contains(Capabilities::SSL_VERIFY_SERVER_CERT);
    let compresses = response.capabilities.contains(Capabilities::COMPRESS);
    response.capabilities &= shown.capabilities | Capabilities::CLIENT_ONLY;
    response.capabilities.remove(Capabilities::SSL | Capabilities::COMPRESS);
    if !response.capabilities.contains(Capabilities::CONNECT_ATTRS) {
        response.attributes.clear();
    }
    let capabilities = response.capabilities;
    let mut knock = Knock {
        user: response.user,
        plugin: response.plugin.filter(|p| !p.is_empty()).unwrap_or_else(|| NATIVE.to_vec()),
        auth: response.auth,
        scramble: shown.scramble.clone(),
        database: response.database.filter(|_| capabilities.contains(Capabilities::CONNECT_WITH_DB)),
        capabilities,
        collation: response.collation,
        max_packet: response.max_packet,
        attributes: response.attributes,
    };
    let door = Door { core: &core, live: &live, handle: &handle, peer: &peer };
    let mut entry = match door.admit(&mut client, &mut knock, sequence.wrapping_add(1)).await {
        Ok(entry) => entry,
        Err(Refused::Say(error, sequence)) => return Err(say(&mut client, sequence, error).await),
        Err(Refused::Said(error)) => {
            client.shutdown().await;
            return Err(Fatal::Closed(error));
        }
        Err(Refused::Fatal(fatal)) => return Err(fatal),
    };
    let status = entry.backend.as_ref().map_or(Status::AUTOCOMMIT, |b| b.status);
    let mut ok = OkPacket { status, ..OkPacket::default() }.write();
    if verifies || matches!(engine, Engine::MariaDb { version: 110_400.. }) {
        ok = with_proof(ok, &live, &client, &entry);
    }
    let answer = Answer { sequence: entry.sequence, ok, compresses };
    let backend = entry.backend.take();
    let mut session = Session::begin(core, live, client, peer, seat, entrant(&shown, knock, entry, status));
    session.come_in(backend).await?;
    Ok((session, answer))
}

fn entrant(shown: &Greeting, knock: Knock, entry: Entry, status: Status) -> Entrant {
    let dialect = dialect_of(shown, knock.collation, knock.capabilities, status);
    let account = Account {
        user: knock.user,
        seen: entry.seen,
        collation: knock.collation,
        max_packet: knock.max_packet,
        attributes: knock.attributes,
        dialect,
    };
    Entrant {
        id: shown.thread_id,
        capabilities: knock.capabilities,
        account,
        database: knock.database,
        status,
        home: None,
        lease: Some(Box::new(Lease::new(entry.scramble, status))),
    }
}

/// The OK with the proof for our certificate: a client that cannot verify it otherwise wants one (RULES.md 3).
fn with_proof(ok: Vec<u8>, live: &Live, client: &PacketStream, entry: &Entry) -> Vec<u8> {
    let Some(acceptor) = live.acceptor.as_ref().filter(|_| client.stream().is_tls()) else { return ok };
    let hash = match &entry.seen {
        Seen::Stage1(s) => stage2(s),
        Seen::Password(p) => stage2(&stage1(p)),
        _ => return ok,
    };
    let proof = crate::auth::certificate_proof(&hash, &entry.scramble, &acceptor.fingerprint);
    OkPacket::with_info(&ok, &proof).unwrap_or(ok)
}

/// The proxy's greeting: the default store's version, and what every store offers.
fn shown(live: &Live, thread_id: u32) -> Greeting {
    let probed = live.fleet.get(live.config().default).and_then(|h| h.probed());
    let probed = probed.or_else(|| live.fleet.iter().find_map(|h| h.probed()));
    let of_store = probed.as_ref().map_or(Capabilities::all(), |p| p.capabilities);
    let mut capabilities = of_store & live.fleet.common_capabilities();
    capabilities.set(Capabilities::SSL, live.acceptor.is_some());
    // here each execute may run on another connection, where a statement would have to be prepared anew for its columns
    capabilities.remove(Capabilities::MARIADB_CACHE_METADATA);
    // compression is a leg's own affair; a MariaDB server is one that clears LONG_PASSWORD
    for own in [Capabilities::LONG_PASSWORD, Capabilities::COMPRESS] {
        capabilities.set(own, of_store.contains(own));
    }
    Greeting {
        collation: probed.as_ref().map_or(COLLATION, |p| p.collation),
        version: probed.map_or_else(|| b"5.5.5-10.11.0-MariaDB".to_vec(), |p| p.version.into_bytes()),
        thread_id,
        scramble: scramble().to_vec(),
        capabilities,
        status: Status::AUTOCOMMIT,
        plugin: NATIVE.to_vec(),
    }
}

impl Door<'_> {
    /// Checks who knocks; `sequence` is that of the next packet to the client.
    pub(super) async fn admit(
        &self,
        client: &mut PacketStream,
        knock: &mut Knock,
        mut sequence: u8,
    ) -> Result<Entry, Refused> {
        if knock.plugin == CLEAR && !knock.auth.is_empty() && client.stream().is_tls() {
            let password = knock.auth.strip_suffix(&[0]).unwrap_or(&knock.auth).to_vec();
            return self.with_password(client, knock, password, sequence).await;
        }
        let mut hashes = self.hashes(&knock.user, false).await;
        if hashes.is_empty() && !knock.auth.is_empty() {
            hashes = self.hashes(&knock.user, true).await;
        }
        let native = !hashes.is_empty();
        if !native && !knock.auth.is_empty() && client.stream().is_tls() && self.has_caching_sha2() {
            return self.full_caching_sha2(client, knock, sequence).await;
        }
        if native && knock.plugin != NATIVE && !knock.auth.is_empty() {
            knock.scramble = scramble().to_vec();
            client.write_message(sequence, &write_auth_switch(NATIVE, &knock.scramble)).await.map_err(Fatal::client)?;
            let (seq, answer) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
            (sequence, knock.plugin, knock.auth) = (seq.wrapping_add(1), NATIVE.to_vec(), answer);
        }
        if knock.auth.is_empty() {
            return self.enter(client, knock, Seen::Empty, Key::Password(Vec::new()), sequence).await;
        }
        let mut secret = fits(knock, &hashes);
        if secret.is_none() && native {
            // the password was changed a moment ago
            hashes = self.hashes(&knock.user, true).await;
            secret = fits(knock, &hashes);
        }
        match secret {
            Some(stage1) => self.enter(client, knock, Seen::Stage1(stage1), Key::Stage1(stage1), sequence).await,
            None if native => self.refused_by_store(client, knock, sequence).await,
            None => self.relay(client, knock, sequence).await,
        }
    }

    async fn with_password(
        &self,
        client: &mut PacketStream,
        knock: &Knock,
        password: Vec<u8>,
        sequence: u8,
    ) -> Result<Entry, Refused> {
        self.enter(client, knock, Seen::Password(password.clone()), Key::Password(password), sequence).await
    }

    /// Whether the store is one whose accounts have `caching_sha2_password` as a rule.
    fn has_caching_sha2(&self) -> bool {
        let engine = self.handle.probed().map(|p| p.engine);
        matches!(engine, Some(Engine::MySql { .. }))
    }

    /// The full exchange, which gives the password itself: over TLS only.
    async fn full_caching_sha2(
        &self,
        client: &mut PacketStream,
        knock: &Knock,
        sequence: u8,
    ) -> Result<Entry, Refused> {
        let switch = write_auth_switch(CACHING_SHA2, &scramble());
        client.write_message(sequence, &switch).await.map_err(Fatal::client)?;
        let (sequence, _) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
        client.write_message(sequence.wrapping_add(1), &[1, 4]).await.map_err(Fatal::client)?;
        let (sequence, password) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
        let password = password.strip_suffix(&[0]).unwrap_or(&password).to_vec();
        self.with_password(client, knock, password, sequence.wrapping_add(1)).await
    }

    /// Hashes of an account: configured, or read off the store (`again`: although some are known).
    pub(super) async fn hashes(&self, user: &[u8], again: bool) -> Vec<Stage2> {
        let text = String::from_utf8_lossy(user);
        let configured = self.live.config().users.get(text.as_ref()).and_then(|u| u.get(&self.live.config().default));
        if let Some(c) = configured {
            return vec![match &c.secret {
                Secret::Password(p) => stage2(&stage1(p.as_bytes())),
                Secret::NativeStage1(s) => stage2(s),
                Secret::NativeHash(h) => *h,
            }];
        }
        let known = self.handle.known_hashes(user);
        if (!known.is_empty() && !again) || self.handle.config.control.is_none() {
            return known;
        }
        match control::account_hashes(self.handle, user, self.live.config().limits.connect_timeout).await {
            Ok(hashes) => hashes,
            Err(error) => {
                tracing::debug!(%error, "the account's hashes cannot be read");
                known
            }
        }
    }

    pub(super) fn login(&self, client: &PacketStream, knock: &Knock, key: Key) -> Login {
        let text = String::from_utf8_lossy(&knock.user);
        let configured = self.live.config().users.get(text.as_ref()).and_then(|u| u.get(&self.live.config().default));
        let (user, key) = match configured.and_then(|c| Some((c, Key::from_secret(&c.secret)?))) {
            Some((c, key)) => (c.user.clone().into_bytes(), key),
            None => (knock.user.clone(), key),
        };
        Login {
            user,
            key,
            capabilities: knock.capabilities,
            collation: knock.collation,
            max_packet: knock.max_packet,
            attributes: knock.attributes.clone(),
            client_tls: client.stream().is_tls(),
        }
    }

    /// The store decides on an account whose secret is known.
    async fn enter(
        &self,
        client: &mut PacketStream,
        knock: &Knock,
        seen: Seen,
        key: Key,
        sequence: u8,
    ) -> Result<Entry, Refused> {
        let login = self.login(client, knock, key);
        let backend = match self.let_in(client, &login).await {
            Ok(backend) => Some(backend),
            // another row of the account table fits the proxy's address, with another plugin
            Err(LoginError::Secret(_)) => return self.relay(client, knock, sequence).await,
            Err(LoginError::Io(error)) if matches!(seen, Seen::Stage1(_)) && is_down(&error) => {
                tracing::warn!(store = self.handle.name(), %error, "a login without the default store, by a hash that is known");
                None
            }
            Err(error) => return Err(self.refused(error, sequence)),
        };
        let backend = match backend {
            Some(backend) => match self.check_database(backend, knock, sequence).await? {
                Some(backend) => Some(backend),
                None => return self.relay(client, knock, sequence).await,
            },
            None => None,
        };
        Ok(Entry { seen, backend, sequence, scramble: knock.scramble.clone() })
    }

    /// The store does not let it in, or cannot be asked.
    pub(super) fn refused(&self, error: LoginError, sequence: u8) -> Refused {
        Refused::Say(refusal(self.handle, error), sequence)
    }

    /// A connection on which the store has just accepted the account.
    async fn let_in(&self, client: &PacketStream, login: &Login) -> Result<Backend, LoginError> {
        let bounds = self.live.config().pooling;
        let source = self.source();
        let key = Rc::new(PoolKey {
            user: login.user.clone(),
            key: login.key.clone(),
            capabilities: login.capabilities - Capabilities::CONNECT_WITH_DB - Capabilities::SSL,
            client_tls: login.client_tls,
            source: source.filter(|_| self.handle.config.proxy_protocol).map(|a| a.ip()),
        });
        loop {
            let found = self.core.pool.acquire(self.handle, &key, bounds, false).await;
            let found = found.map_err(|_| {
                LoginError::Refused(ErrPacket {
                    code: 1040,
                    sqlstate: Some(*b"08004"),
                    message: b"Too many connections".to_vec(),
                })
            })?;
            match found {
                Found::Used(mut backend, tenant) => {
                    if let Some(tenant) = &tenant
                        && !tenant.leave(&mut backend, &self.core.shelf).await
                    {
                        continue;
                    }
                    match backend.change_user(login, &[]).await {
                        Ok(()) => return Ok(backend),
                        Err(LoginError::Io(_)) => {}
                        // a connection whose password has expired takes nothing but a new one
                        Err(LoginError::Refused(e)) if matches!(e.code, 1820 | 1862) => {}
                        Err(e) => return Err(e),
                    }
                }
                Found::Room(slot, left) => {
                    if let Some((mut old, Some(tenant))) = left {
                        tenant.leave(&mut old, &self.core.shelf).await;
                    }
                    let limit = self.live.config().limits.connect_timeout;
                    let mut stream = dial(self.handle, source, client.buffers(), limit).await?;
                    let greeting = greeting(&mut stream).await?;
                    let id = self.live.config().default;
                    let mut backend = answer_greeting(id, self.handle, stream, login, &greeting).await?;
                    self.handle.connected();
                    check_peer_account(&mut backend, self.peer).await?;
                    let multi_statements = login.capabilities.contains(Capabilities::MULTI_STATEMENTS);
                    backend.pooled = Some(Box::new(Pooled { slot, key, multi_statements }));
                    return Ok(backend);
                }
            }
        }
    }

    pub(super) fn source(&self) -> Option<std::net::SocketAddr> {
        match self.peer {
            Peer::Tcp(a) => Some(*a),
            Peer::Unix(_) => None,
        }
    }

    /// The database of the login; the connection goes to the pool if the account may not use it. `None` for an account whose
    /// password has expired: after its login a store takes nothing but a new one, so the database has to come with the login.
    async fn check_database(
        &self,
        mut backend: Backend,
        knock: &Knock,
        sequence: u8,
    ) -> Result<Option<Backend>, Refused> {
        let Some(database) = &knock.database else { return Ok(Some(backend)) };
        match backend.init_db(database).await {
            Ok(()) => Ok(Some(backend)),
            Err(QueryError::Refused(ErrPacket { code: 1820, .. })) => Ok(None),
            Err(QueryError::Refused(error)) => {
                self.core.pool.put(backend, None);
                Err(Refused::Say(error, sequence))
            }
            Err(QueryError::Io(error)) => Err(self.refused(error.into(), sequence)),
            Err(QueryError::Malformed(error)) => Err(self.refused(error.into(), sequence)),
        }
    }
}

fn fits(knock: &Knock, hashes: &[Stage2]) -> Option<crate::auth::Stage1> {
    let scramble: [u8; 20] = knock.scramble.as_slice().try_into().ok()?;
    let answer: [u8; 20] = knock.auth.as_slice().try_into().ok()?;
    if knock.plugin != NATIVE {
        return None;
    }
    hashes.iter().find_map(|h| recover_stage1(scramble, answer, *h))
}

fn is_down(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::TimedOut
            | ErrorKind::NotFound
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::UnexpectedEof
    )
}
