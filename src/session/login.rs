//! Login in `pool: session`: the store that is the default answers it; the proxy relays the exchange.
//!
//! The client sees that store's greeting (scramble, version, thread id), with the capabilities masked to what every store has and
//! the relay can carry. TLS ends at the proxy on both legs; sequence numbers are each leg's own (RULES.md 3).

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::task::Poll;
use std::time::Instant;

use arc_swap::cache::Cache;

use super::control_flow::Fatal;
use super::home::{pass_proxy_header, reach, read_proxy_header};
use super::leg::Leg;
use super::query::Frame;
use super::registry::SessionInfo;
use super::state::{State, dialect_of};
use super::{Core, Live, Session, Statements, Transaction};
use crate::auth::{CACHING_SHA2, Seen};
use crate::backend::connection::QueryError;
use crate::backend::login::{LOGIN_LIMIT, tls_host, wants_tls};
use crate::backend::{Backend, StoreHandle};
use crate::config::model::TlsMode;
use crate::net::compress::Peer as Frames;
use crate::net::proxy_protocol;
use crate::net::{PacketStream, Peer, tls};
use crate::sql::dialect::{CharsetClass, Dialect};
use crate::wire::handshake::{
    ChangeUser, Greeting, HandshakeResponse, SSL_REQUEST, client_capabilities, read_auth_switch,
};
use crate::wire::packet::HEADER;
use crate::wire::tracking::without_changes;
use crate::wire::{Capabilities, ErrPacket, OkPacket, Status};

/// Who logged in, and how.
pub(crate) struct Account {
    pub(crate) user: Vec<u8>,
    pub(crate) seen: Seen,
    pub(crate) collation: u8,
    pub(crate) max_packet: u32,
    pub(crate) attributes: Vec<u8>,
    /// How its statements are read before it sets anything.
    pub(crate) dialect: Dialect,
}

/// Plugins that authenticate the peer of the socket: relayed, they would authenticate the proxy (RULES.md 1).
const PEER_PLUGINS: &[&str] =
    &["unix_socket", "auth_socket", "auth_gssapi_client", "gssapi", "named_pipe", "authentication_windows_client"];

fn malformed(e: crate::wire::codec::Malformed) -> Fatal {
    Fatal::Protocol(ErrPacket::new(1043, b"08S01", format!("Bad handshake: {e}")))
}

/// Serves a client's login; the session is ready for its first command afterwards.
pub(crate) async fn login(core: Rc<Core>, mut client: PacketStream, peer: Peer) -> Result<Session, Fatal> {
    let mut peer = peer;
    let live = core.live.load_full();
    if let Peer::Tcp(address) = peer
        && proxy_protocol::trusted(address.ip(), &live.config().proxy_protocol_from)
        && let Some(source) = read_proxy_header(&mut client).await?
    {
        peer = Peer::Tcp(source);
    }
    let ip = match peer {
        Peer::Tcp(a) => a.ip(),
        Peer::Unix(_) => std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let limits = &live.config().limits;
    let pending = core.registry.begin_login(ip, limits.max_pending_logins);
    let seat = core.registry.seat(limits.max_connections);
    let (Some(_pending), Some(seat)) = (pending, seat) else {
        // before login an error carries no SQLSTATE (RULES.md 4)
        return Err(say(
            &mut client,
            0,
            ErrPacket { code: 1040, sqlstate: None, message: b"Too many connections".to_vec() },
        )
        .await);
    };
    let store = live.config().default;
    let Some(handle) = live.fleet.get(store).map(Arc::clone) else { return Err(Fatal::Quit) };
    let mut server = match reach(&handle, &peer, &client, &live).await {
        Ok(server) => server,
        Err(error) => return Err(say(&mut client, 0, error).await),
    };
    let result = Login { core: &core, live: &live, handle: &handle, peer: &peer }
        .run(&mut client, &mut server.0, server.1)
        .await;
    let done = match result {
        Ok(done) => done,
        Err(fatal) => {
            core.figures.login(false);
            if matches!(fatal, Fatal::Closed(ref e) if e.code == 1045) {
                let wait = core.registry.login_failed(ip, limits.login_attempts);
                tokio::time::sleep(wait).await;
            }
            return Err(fatal);
        }
    };
    core.figures.login(true);
    let mut session = assemble(core, live, client, server.0, peer, handle, done);
    session._seat = Some(seat);
    Ok(session)
}

/// What a login came to.
struct Done {
    /// The client's.
    capabilities: Capabilities,
    /// Those of the connection to the store: with SESSION_TRACK, whatever the client asked for.
    agreed: Capabilities,
    account: Account,
    database: Option<String>,
    thread_id: u32,
    status: Status,
}

fn assemble(
    core: Rc<Core>,
    live: Arc<Live>,
    client: PacketStream,
    server: PacketStream,
    peer: Peer,
    handle: Arc<StoreHandle>,
    done: Done,
) -> Session {
    let store = live.config().default;
    let backend = Backend::new(store, handle, server, done.thread_id, done.agreed, done.status);
    let mut state = State::default();
    let home = state.next_generation();
    state.reset(done.account.dialect, home);
    state.database = done.database;
    state.see_status(done.status);
    let info = Arc::new(SessionInfo {
        id: u64::from(done.thread_id),
        user: String::from_utf8_lossy(&done.account.user).into_owned(),
        peer: peer.to_string(),
        since: Instant::now(),
        queries: AtomicU64::new(0),
        in_transaction: AtomicBool::new(false),
        idle: AtomicBool::new(true),
        others: Default::default(),
        epoch: AtomicU64::new(live.snapshot.epoch),
        closing: AtomicBool::new(false),
        waker: Default::default(),
    });
    core.registry.add(&info);
    Session {
        newest: Cache::new(Arc::clone(&core.live)),
        core,
        live,
        client,
        peer,
        capabilities: done.capabilities,
        account: done.account,
        legs: vec![Leg::new(backend, home, done.capabilities)],
        state,
        transaction: Transaction::default(),
        statements: Statements::default(),
        gathered: Vec::new(),
        info,
        _seat: None,
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.core.registry.remove(&self.info);
    }
}

/// Sends an error and ends the login.
pub(super) async fn say(client: &mut PacketStream, sequence: u8, error: ErrPacket) -> Fatal {
    let mut out = Vec::new();
    error.put(&mut out, sequence);
    let _ = client.write(&out).await;
    client.shutdown().await;
    Fatal::Closed(error)
}

/// The OK that ends a login, as a client of these capabilities is to see it.
fn as_asked(ok: Vec<u8>, client: Capabilities) -> Vec<u8> {
    let reports = OkPacket::read(&ok).is_ok_and(|o| o.status.contains(Status::SESSION_STATE_CHANGED));
    if !reports || client.contains(Capabilities::SESSION_TRACK) {
        return ok;
    }
    without_changes(&ok).unwrap_or(ok)
}

struct Login<'a> {
    core: &'a Core,
    live: &'a Live,
    handle: &'a Arc<StoreHandle>,
    peer: &'a Peer,
}

impl Login<'_> {
    async fn run(&self, client: &mut PacketStream, server: &mut PacketStream, shown: Greeting) -> Result<Done, Fatal> {
        let lost = |error: io::Error| Fatal::Store { store: self.handle.name().to_owned(), error };
        let offered = self.offered(shown.capabilities);
        let masked = Greeting { capabilities: offered, ..shown.clone() };
        client.write_message(0, &masked.write()).await.map_err(Fatal::client)?;
        pass_proxy_header(client, server, self.peer, self.handle, self.live).await?;
        let (sequence, payload) = self.first_answer(client).await?;
        let mut response = match HandshakeResponse::read(&payload) {
            Ok(response) => response,
            Err(e) => return Err(self.tell(client, sequence, malformed(e)).await),
        };
        let client_tls = client.stream().is_tls();
        // mysqlnd compresses even where it is not offered
        let client_compresses = response.capabilities.contains(Capabilities::COMPRESS);
        response.capabilities &= offered | Capabilities::CLIENT_ONLY;
        response.capabilities.remove(Capabilities::SSL);
        if !response.capabilities.contains(Capabilities::CONNECT_ATTRS) {
            response.attributes.clear();
        }
        let encrypt = match wants_tls(self.handle, shown.capabilities, client_tls, server.stream().is_unix()) {
            Ok(encrypt) => encrypt,
            Err(e) => {
                let error = ErrPacket::new(1429, b"HY000", format!("switchover: store {}: {e}", self.handle.name()));
                return Err(say(client, sequence.wrapping_add(1), error).await);
            }
        };
        let capabilities = response.capabilities - Capabilities::COMPRESS;
        // always asked of stores, and taken out for a client that did not ask (RULES.md 16)
        response.capabilities |= shown.capabilities & Capabilities::SESSION_TRACK;
        let agreed = response.capabilities - Capabilities::COMPRESS;
        let next = if encrypt { self.encrypt(client, server, &mut response).await.map_err(lost)? } else { 1 };
        server.write_message(next, &response.write()).await.map_err(lost)?;
        let plugin = response.plugin.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| shown.plugin.clone());
        let mut exchange = Exchange {
            seen: Seen::answer(&plugin, &shown.scramble, &response.auth),
            plugin,
            scramble: shown.scramble.clone(),
            store: self.handle.name(),
            check_peer: server.stream().is_unix(),
        };
        let (ok, sequence) = match exchange.run(client, server, sequence.wrapping_add(1)).await? {
            Verdict::Accepted(ok, sequence) => (ok, sequence),
            Verdict::Refused(error) => {
                client.shutdown().await;
                return Err(Fatal::Closed(error));
            }
        };
        if response.capabilities.contains(Capabilities::COMPRESS) {
            server.compress(Frames::Store);
        }
        let status = OkPacket::read(&ok).map(|o| o.status).unwrap_or(Status::AUTOCOMMIT);
        if server.stream().is_unix() {
            self.check_socket_account(client, server, sequence, agreed).await?;
        }
        client.write_message(sequence, &as_asked(ok, capabilities)).await.map_err(Fatal::client)?;
        if client_compresses {
            client.compress(Frames::Client);
        }
        let dialect = dialect_of(&shown, response.collation, capabilities, status);
        let database = response.database.filter(|_| capabilities.contains(Capabilities::CONNECT_WITH_DB));
        Ok(Done {
            capabilities,
            agreed,
            database: database.map(|d| String::from_utf8_lossy(&d).into_owned()),
            account: Account {
                user: response.user,
                seen: exchange.seen,
                collation: response.collation,
                max_packet: response.max_packet,
                attributes: response.attributes,
                dialect,
            },
            thread_id: shown.thread_id,
            status,
        })
    }

    /// Turns the store's leg to TLS, like the client's; the next sequence number.
    async fn encrypt(
        &self,
        client: &PacketStream,
        server: &mut PacketStream,
        response: &mut HandshakeResponse,
    ) -> io::Result<u8> {
        let Some(connectors) = &self.handle.tls else { return Ok(1) };
        response.capabilities.insert(Capabilities::SSL);
        let next = server.write_message(1, &response.write_ssl_request()).await?;
        tls::connect(server, connectors.like(client.stream()), tls_host(self.handle)).await?;
        Ok(next)
    }

    /// What the client is offered of what the store has.
    fn offered(&self, store: Capabilities) -> Capabilities {
        // compression is a leg's own affair; a MariaDB server is one that clears LONG_PASSWORD
        let own = Capabilities::COMPRESS | Capabilities::LONG_PASSWORD;
        let mut offered = store & (self.live.fleet.common_capabilities() | own);
        offered.set(Capabilities::SSL, self.live.acceptor.is_some());
        offered
    }

    /// The client's login: behind TLS, where it asks for that first.
    async fn first_answer(&self, client: &mut PacketStream) -> Result<(u8, Vec<u8>), Fatal> {
        let (mut sequence, mut payload) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
        let first = match client_capabilities(&payload) {
            Ok(caps) => caps,
            Err(e) => return Err(self.tell(client, sequence, malformed(e)).await),
        };
        if first.contains(Capabilities::SSL) && payload.len() == SSL_REQUEST {
            let Some(acceptor) = &self.live.acceptor else {
                return Err(Fatal::Protocol(ErrPacket::new(1043, b"08S01", "Bad handshake")));
            };
            tls::accept(client, acceptor).await.map_err(Fatal::client)?;
            (sequence, payload) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
        } else if self.live.config().tls.mode == TlsMode::Required && !client.stream().is_unix() {
            let error = ErrPacket::new(
                3159,
                b"HY000",
                "Connections using insecure transport are prohibited while --require_secure_transport=ON.",
            );
            return Err(say(client, sequence.wrapping_add(1), error).await);
        }
        Ok((sequence, payload))
    }

    async fn tell(&self, client: &mut PacketStream, sequence: u8, fatal: Fatal) -> Fatal {
        match fatal {
            Fatal::Protocol(error) => say(client, sequence.wrapping_add(1), error).await,
            other => other,
        }
    }

    /// Over a unix socket the store sees the proxy's user id: an account that trusts it must not be reached through us (RULES.md 1).
    async fn check_socket_account(
        &self,
        client: &mut PacketStream,
        server: &mut PacketStream,
        sequence: u8,
        capabilities: Capabilities,
    ) -> Result<(), Fatal> {
        if let Peer::Unix(Some(uid)) = self.peer
            && *uid == rustix::process::geteuid().as_raw()
        {
            return Ok(());
        }
        // the look is made on a connection value of its own around the same stream, and given back
        let stream =
            std::mem::replace(server, PacketStream::new(crate::net::Stream::Gone, Rc::clone(&self.core.buffers)));
        let id = self.live.config().default;
        let mut backend = Backend::new(id, Arc::clone(self.handle), stream, 0, capabilities, Status::empty());
        let answer = backend.query(b"SHOW CREATE USER CURRENT_USER()").await;
        *server = std::mem::replace(
            &mut backend.stream,
            PacketStream::new(crate::net::Stream::Gone, Rc::clone(&self.core.buffers)),
        );
        let refuse = match answer {
            Ok(rows) => {
                let text = rows
                    .rows
                    .iter()
                    .flatten()
                    .flatten()
                    .map(|v| String::from_utf8_lossy(v).to_lowercase())
                    .collect::<String>();
                PEER_PLUGINS.iter().any(|p| text.contains(p))
            }
            Err(QueryError::Refused(_)) => true,
            Err(QueryError::Io(error)) => return Err(Fatal::Store { store: self.handle.name().to_owned(), error }),
            Err(QueryError::Malformed(error)) => {
                return Err(Fatal::StoreProtocol { store: self.handle.name().to_owned(), error });
            }
        };
        if !refuse {
            return Ok(());
        }
        let error = ErrPacket::new(
            1045,
            b"28000",
            format!(
                "switchover: access denied: store {} is reached over a unix socket, where it sees the proxy's own user id, and \
                 this account may log in by user id alone; give it a password plugin only, or reach the store by TCP",
                self.handle.name()
            ),
        );
        Err(say(client, sequence, error).await)
    }
}

/// The packets of an authentication exchange, passed on in both directions until the store has decided.
struct Exchange<'a> {
    seen: Seen,
    plugin: Vec<u8>,
    scramble: Vec<u8>,
    store: &'a str,
    check_peer: bool,
}

/// What the store says at the end of an authentication exchange.
enum Verdict {
    /// Its OK, not yet passed on, with the sequence number that it has on the client's leg.
    Accepted(Vec<u8>, u8),
    /// Its error, which the client has.
    Refused(ErrPacket),
}

impl Exchange<'_> {
    /// Runs it up to the store's verdict.
    async fn run(
        &mut self,
        client: &mut PacketStream,
        server: &mut PacketStream,
        sequence: u8,
    ) -> Result<Verdict, Fatal> {
        let mut to_client = sequence;
        let mut to_server = 0;
        let mut full = false;
        loop {
            let from_server = self.either(client, server).await?;
            if from_server {
                let (sequence, payload) = server.read_message(LOGIN_LIMIT).await.map_err(|e| self.lost(e))?;
                to_server = sequence.wrapping_add(1);
                match payload.first() {
                    Some(0x00) => return Ok(Verdict::Accepted(payload, to_client)),
                    Some(0xFF) => {
                        let error = ErrPacket::read(&payload)
                            .map_err(|error| Fatal::StoreProtocol { store: self.store.to_owned(), error })?;
                        client.write_message(to_client, &payload).await.map_err(Fatal::client)?;
                        return Ok(Verdict::Refused(error));
                    }
                    Some(0xFE) => self.switched(client, to_client, &payload).await?,
                    Some(0x01) if self.plugin == CACHING_SHA2 => full = payload.get(1) == Some(&4),
                    _ => {}
                }
                to_client = client.write_message(to_client, &payload).await.map_err(Fatal::client)?;
            } else {
                let (sequence, payload) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
                to_client = sequence.wrapping_add(1);
                if full && client.stream().is_tls() {
                    self.seen = Seen::Password(payload.strip_suffix(&[0]).unwrap_or(&payload).to_vec());
                } else if !full {
                    self.seen = Seen::answer(&self.plugin, &self.scramble, &payload);
                }
                to_server = server.write_message(to_server, &payload).await.map_err(|e| self.lost(e))?;
            }
        }
    }

    fn lost(&self, error: io::Error) -> Fatal {
        Fatal::Store { store: self.store.to_owned(), error }
    }

    /// Waits until one side has sent a packet; whether it was the server.
    async fn either(&self, client: &mut PacketStream, server: &mut PacketStream) -> Result<bool, Fatal> {
        loop {
            if server.peek().is_some() {
                return Ok(true);
            }
            if client.peek().is_some() {
                return Ok(false);
            }
            let (which, read) = poll_fn(|cx| {
                if let Poll::Ready(r) = server.poll_fill(cx) {
                    return Poll::Ready((true, r));
                }
                client.poll_fill(cx).map(|r| (false, r))
            })
            .await;
            match (which, read) {
                (_, Ok(n)) if n > 0 => {}
                (true, Ok(_)) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                (true, Err(e)) => return Err(self.lost(e)),
                (false, Ok(_)) => return Err(Fatal::Client(io::ErrorKind::UnexpectedEof.into())),
                (false, Err(e)) => return Err(Fatal::Client(e)),
            }
        }
    }

    /// The store asks for another plugin.
    async fn switched(&mut self, client: &mut PacketStream, sequence: u8, payload: &[u8]) -> Result<(), Fatal> {
        let Ok(Some((plugin, data))) = read_auth_switch(payload) else { return Ok(()) };
        let name = String::from_utf8_lossy(plugin).into_owned();
        if PEER_PLUGINS.contains(&name.as_str())
            && (self.check_peer || name.contains("gssapi") || name.contains("windows"))
        {
            let error = ErrPacket::new(
                1045,
                b"28000",
                format!(
                    "switchover: access denied: the account's plugin {name} authenticates the peer of the connection, which is the proxy"
                ),
            );
            return Err(say(client, sequence, error).await);
        }
        self.plugin = plugin.to_vec();
        if !data.is_empty() {
            self.scramble = data.to_vec();
        }
        Ok(())
    }
}

impl Session {
    /// COM_CHANGE_USER: the store decides; then the session is another's.
    pub(crate) async fn change_user(&mut self, frame: Frame) -> Result<(), Fatal> {
        let framed = self.framed(frame).to_vec();
        self.consume(frame);
        let payload = framed.get(HEADER..).unwrap_or_default();
        let change = match ChangeUser::read(payload, self.capabilities) {
            Ok(change) => change,
            Err(_) => return self.send_error(&ErrPacket::new(1047, b"08S01", "Unknown command")).await,
        };
        let Session { client, legs, .. } = self;
        let Some(home) = legs.first_mut() else { return Err(Fatal::Quit) };
        let store = home.name.clone();
        let server = &mut home.backend.stream;
        server.write(&framed).await.map_err(|error| Fatal::Store { store: store.clone(), error })?;
        let plugin = change.plugin.clone().unwrap_or_else(|| crate::auth::NATIVE.to_vec());
        let mut exchange = Exchange {
            seen: match &change.auth {
                a if a.is_empty() => Seen::Empty,
                // its scramble is the login's, which is not kept: most servers ask again with a fresh one
                _ => Seen::Nothing,
            },
            plugin,
            scramble: Vec::new(),
            store: &store,
            check_peer: server.stream().is_unix(),
        };
        let (ok, sequence) = match exchange.run(client, server, 1).await? {
            Verdict::Accepted(ok, sequence) => (ok, sequence),
            Verdict::Refused(_) => {
                // MariaDB keeps the connection, the user and the database, and has reset all else; MySQL closes it
                home.backend.status.remove(Status::IN_TRANS);
                home.backend.status.insert(Status::AUTOCOMMIT);
                self.forget_state();
                return Ok(());
            }
        };
        if let Ok(read) = OkPacket::read(&ok) {
            home.backend.status = read.status;
        }
        let seen = exchange.seen;
        let ok = as_asked(ok, self.capabilities);
        client.write_message(sequence, &ok).await.map_err(Fatal::client)?;
        self.account.seen = seen;
        self.account.user = change.user;
        if change.collation != 0 {
            self.account.collation = u8::try_from(change.collation).unwrap_or(self.account.collation);
            self.account.dialect.charset = CharsetClass::from_collation_id(change.collation);
        }
        self.forget_state();
        self.state.database =
            (!change.database.is_empty()).then(|| String::from_utf8_lossy(&change.database).into_owned());
        Ok(())
    }
}
