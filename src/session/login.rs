//! Login in `pool: session`: the store that is the default answers it; the proxy relays the exchange.
//!
//! The client sees that store's greeting (scramble, version, thread id), with the capabilities masked to what every store has and
//! the relay can carry. TLS ends at the proxy on both legs; sequence numbers are each leg's own (RULES.md 3).

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::control_flow::Fatal;
use super::entrant::{Answer, Entrant};
use super::exchange::{Exchange, Verdict, no_login, seen};
use super::home::{check_peer_account, pass_proxy_header, patiently, refusal};
use super::knock::{first_answer, say};
use super::query::Frame;
use super::state::dialect_of;
use super::{Core, Live, Session};
use crate::auth::{self, SHA256, Seen};
use crate::backend::login::{greeting, tls_host, wants_tls};
use crate::backend::{Backend, StoreHandle, control};
use crate::config::StoreId;
use crate::config::model::PoolMode;
use crate::net::compress::Peer as Frames;
use crate::net::proxy_protocol::{self, Parsed};
use crate::net::{PacketStream, Peer, tls};
use crate::sql::dialect::{CharsetClass, Dialect, Engine};
use crate::wire::handshake::{ChangeUser, Greeting, HandshakeResponse};
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

/// How long a load balancer may take to send its header, where the header must be known before the greeting.
const HEADER_GRACE: Duration = Duration::from_millis(250);

/// Serves a client's login, but for the answer that lets it in; the session is ready for its first command.
pub(crate) async fn login(core: Rc<Core>, mut client: PacketStream, peer: Peer) -> Result<(Session, Answer), Fatal> {
    let mut peer = peer;
    let live = core.live.load_full();
    let behind = matches!(peer, Peer::Tcp(a) if proxy_protocol::trusted(a.ip(), &live.config().proxy_protocol_from));
    let store = live.config().default;
    let Some(handle) = live.fleet.get(store).map(Arc::clone) else { return Err(Fatal::Quit) };
    // a store that is told the client's address is told it first of all; else the header may come behind the greeting
    if behind
        && handle.config.proxy_protocol
        && let Ok(source) = tokio::time::timeout(HEADER_GRACE, proxy_header(&mut client)).await
        && let Some(source) = source?
    {
        peer = Peer::Tcp(source);
    }
    let ip = match peer {
        Peer::Tcp(a) => a.ip(),
        Peer::Unix(_) => std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let limits = &live.config().limits;
    let Some(seat) = core.registry.seat(limits.max_connections) else {
        // before login an error carries no SQLSTATE (RULES.md 4)
        return Err(say(
            &mut client,
            0,
            ErrPacket { code: 1040, sqlstate: None, message: b"Too many connections".to_vec() },
        )
        .await);
    };
    let _pending = core.registry.begin_login(ip, limits.max_pending_logins).await;
    if live.config().pool == PoolMode::Transaction {
        let own = super::own_login::own_login(Rc::clone(&core), Arc::clone(&live), client, peer, behind, seat).await;
        return counted(&core, own, ip, limits.login_attempts).await;
    }
    let (mut server, shown) = match reach(&handle, &peer, &client, &live).await {
        Ok(server) => server,
        Err(error) => return Err(say(&mut client, 0, error).await),
    };
    let relayed = Cell::new(false);
    let result = Login { live: &live, handle: &handle, peer: &peer, behind, relayed: &relayed }
        .run(&mut client, &mut server, &shown)
        .await;
    let mut done = match result {
        Ok(done) => done,
        Err(fatal) => {
            if !relayed.get() {
                control::complete(&handle, server, shown, limits.connect_timeout);
            }
            return counted(&core, Err(fatal), ip, limits.login_attempts).await;
        }
    };
    let mut home = Backend::new(store, handle, server, done.entrant.id, done.agreed, done.entrant.status);
    if let Err(error) = check_peer_account(&mut home, &peer).await {
        let fatal = say(&mut client, done.answer.sequence, refusal(&home.handle, error)).await;
        return counted(&core, Err(fatal), ip, limits.login_attempts).await;
    }
    core.figures.login(true);
    if let Some(source) = done.source {
        peer = Peer::Tcp(source);
    }
    done.entrant.home = Some(home);
    Ok((Session::begin(core, live, client, peer, seat, done.entrant), done.answer))
}

/// Counts a login; one that failed is slowed down.
async fn counted<T>(core: &Core, result: Result<T, Fatal>, ip: std::net::IpAddr, allowed: u32) -> Result<T, Fatal> {
    core.figures.login(result.is_ok());
    if matches!(&result, Err(Fatal::Closed(e)) if e.code == 1045) {
        let wait = core.registry.login_failed(ip, allowed);
        tokio::time::sleep(wait).await;
    }
    result
}

/// What a login came to.
struct Done {
    entrant: Entrant,
    answer: Answer,
    /// Those of the connection to the store: with SESSION_TRACK, whatever the client asked for.
    agreed: Capabilities,
    /// The client's address, which came behind the greeting.
    source: Option<std::net::SocketAddr>,
}

/// Connects to the default store.
async fn reach(
    handle: &Arc<StoreHandle>,
    peer: &Peer,
    client: &PacketStream,
    live: &Live,
) -> Result<(PacketStream, Greeting), ErrPacket> {
    let source = match peer {
        Peer::Tcp(a) => Some(*a),
        Peer::Unix(_) => None,
    };
    let limit = live.config().limits.connect_timeout;
    let mut stream = patiently(handle, source, client, limit).await.map_err(|e| refusal(handle, e.into()))?;
    match greeting(&mut stream).await {
        Ok(greeting) => {
            handle.connected();
            Ok((stream, greeting))
        }
        Err(error) => Err(refusal(handle, error)),
    }
}

/// The PROXY protocol header of a trusted load balancer, if there is one: like MariaDB, with and without it. The first byte tells,
/// for a client that comes without waits for the greeting first.
pub(super) async fn proxy_header(client: &mut PacketStream) -> Result<Option<std::net::SocketAddr>, Fatal> {
    loop {
        match proxy_protocol::parse(client.buffered()) {
            Parsed::Header { length, source } => {
                client.consume(length);
                return Ok(source);
            }
            Parsed::Partial => {
                client.fill().await.map_err(Fatal::client)?;
            }
            Parsed::Invalid => return Ok(None),
        }
    }
}

/// Whether the session would need the password itself for some other store than its home.
fn password_wanted(live: &Live, user: &[u8]) -> bool {
    let config = live.config();
    let configured = config.users.get(String::from_utf8_lossy(user).as_ref());
    config.stores.iter().enumerate().any(|(i, store)| {
        let id = u16::try_from(i).map(StoreId).ok();
        id != Some(config.default)
            && store.account.is_none()
            && !id.is_some_and(|id| configured.is_some_and(|c| c.contains_key(&id)))
    })
}

/// The OK that ends a login, as a client of these capabilities is to see it.
fn as_asked(ok: Vec<u8>, client: Capabilities) -> Vec<u8> {
    let reports = OkPacket::read(&ok).is_ok_and(|o| o.status.contains(Status::SESSION_STATE_CHANGED));
    if !reports || client.contains(Capabilities::SESSION_TRACK) {
        return ok;
    }
    without_changes(&ok).unwrap_or(ok)
}

pub(super) struct Login<'a> {
    pub(super) live: &'a Live,
    pub(super) handle: &'a Arc<StoreHandle>,
    pub(super) peer: &'a Peer,
    /// The peer is a load balancer, which may send a PROXY protocol header.
    pub(super) behind: bool,
    /// The client's login has reached the store, or the header before it.
    pub(super) relayed: &'a Cell<bool>,
}

impl Login<'_> {
    async fn run(&self, client: &mut PacketStream, server: &mut PacketStream, shown: &Greeting) -> Result<Done, Fatal> {
        let offered = self.offered(shown.capabilities);
        let masked = Greeting { capabilities: offered, ..shown.clone() };
        client.write_message(0, &masked.write()).await.map_err(Fatal::client)?;
        let source = if self.behind { proxy_header(client).await? } else { None };
        if !self.behind && pass_proxy_header(client, server, self.peer, self.handle, self.live).await? {
            // what becomes of this login counts for the address in the header, not for the proxy's
            self.relayed.set(true);
        }
        let engine = Engine::from_server_version(&String::from_utf8_lossy(&shown.version));
        let (sequence, payload) = first_answer(client, self.live.acceptor.as_ref(), engine).await?;
        let Ok(mut response) = HandshakeResponse::read(&payload) else {
            return Err(say(client, sequence.wrapping_add(1), no_login(&payload, engine)).await);
        };
        // mysqlnd compresses even where it is not offered
        let client_compresses = response.capabilities.contains(Capabilities::COMPRESS);
        response.capabilities &= offered | Capabilities::CLIENT_ONLY;
        response.capabilities.remove(Capabilities::SSL);
        if !response.capabilities.contains(Capabilities::CONNECT_ATTRS) {
            response.attributes.clear();
        }
        let capabilities = response.capabilities - Capabilities::COMPRESS;
        // always asked of stores, and taken out for a client that did not ask (RULES.md 16)
        response.capabilities |= shown.capabilities & Capabilities::SESSION_TRACK;
        let agreed = response.capabilities - Capabilities::COMPRESS;
        self.forward(client, server, shown, &mut response, sequence).await?;
        let plugin = response.plugin.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| shown.plugin.clone());
        let mut exchange = Exchange {
            seen: seen(&plugin, &shown.scramble, &response.auth, client.stream().is_secure()),
            plugin,
            scramble: shown.scramble.clone(),
            answer: response.auth.clone(),
            password_wanted: password_wanted(self.live, &response.user),
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
        let ok = self.with_proof(as_asked(ok, capabilities), client, &exchange, &response, shown).await;
        let dialect = dialect_of(shown, response.collation, capabilities, status);
        let database = response.database.filter(|_| capabilities.contains(Capabilities::CONNECT_WITH_DB));
        let account = Account {
            user: response.user,
            seen: exchange.seen,
            collation: response.collation,
            max_packet: response.max_packet,
            attributes: response.attributes,
            dialect,
        };
        Ok(Done {
            entrant: Entrant { id: shown.thread_id, capabilities, account, database, status, home: None, lease: None },
            answer: Answer { sequence, ok, compresses: client_compresses },
            agreed,
            source,
        })
    }

    /// Sends the login on to the store, behind TLS where that leg is to have it.
    async fn forward(
        &self,
        client: &mut PacketStream,
        server: &mut PacketStream,
        shown: &Greeting,
        response: &mut HandshakeResponse,
        sequence: u8,
    ) -> Result<(), Fatal> {
        let lost = |error: io::Error| Fatal::Store { store: self.handle.name().to_owned(), error };
        let client_tls = client.stream().is_tls();
        let encrypt = match wants_tls(self.handle, shown.capabilities, client_tls, server.stream().is_unix()) {
            Ok(encrypt) => encrypt,
            Err(e) => {
                let error = ErrPacket::new(1429, b"HY000", format!("switchover: store {}: {e}", self.handle.name()));
                return Err(say(client, sequence.wrapping_add(1), error).await);
            }
        };
        let mut next = 1;
        self.relayed.set(true);
        if let (true, Some(connector)) = (encrypt, &self.handle.tls) {
            response.capabilities.insert(Capabilities::SSL);
            next = server.write_message(next, &response.write_ssl_request()).await.map_err(lost)?;
            if let Err(e) = tls::connect(server, connector, tls_host(self.handle), client.stream().agreed()).await {
                self.handle.unreachable(&format!("TLS: {e}"));
                let text = format!("switchover: cannot encrypt the connection to store {}: {e}", self.handle.name());
                return Err(say(client, sequence.wrapping_add(1), ErrPacket::new(1429, b"HY000", text)).await);
            }
        }
        if client.stream().is_secure() && !server.stream().is_secure() && response.plugin.as_deref() == Some(SHA256) {
            // it holds the password: the store shall ask for it, and gets it sealed
            response.plugin = Some(auth::NATIVE.to_vec());
            response.auth.clear();
        }
        server.write_message(next, &response.write()).await.map_err(lost)?;
        Ok(())
    }

    /// What the client is offered of what the store has.
    fn offered(&self, store: Capabilities) -> Capabilities {
        // compression is a leg's own affair; a MariaDB server is one that clears LONG_PASSWORD
        let own = Capabilities::COMPRESS | Capabilities::LONG_PASSWORD;
        let mut offered = store & (self.live.fleet.common_capabilities() | own);
        offered.set(Capabilities::SSL, self.live.acceptor.is_some());
        offered
    }

    /// The store's OK, with the proof for our certificate where the client wants one: it cannot know the store's.
    async fn with_proof(
        &self,
        ok: Vec<u8>,
        client: &PacketStream,
        exchange: &Exchange<'_>,
        response: &HandshakeResponse,
        shown: &Greeting,
    ) -> Vec<u8> {
        let Some(acceptor) = self.live.acceptor.as_ref().filter(|_| client.stream().is_tls()) else { return ok };
        let verifies = response.capabilities.contains(Capabilities::SSL_VERIFY_SERVER_CERT);
        let engine = Engine::from_server_version(&String::from_utf8_lossy(&shown.version));
        if !verifies && !matches!(engine, Engine::MariaDb { version: 110_400.. }) {
            return ok;
        }
        let limit = self.live.config().limits.connect_timeout;
        let hash = match &exchange.seen {
            Seen::Native { .. } | Seen::Signature { .. } => {
                control::stored_hash(self.handle, &response.user, &exchange.seen, limit).await
            }
            Seen::Password(p) => Some(auth::stage2(&auth::stage1(p)).to_vec()),
            _ => None,
        };
        let Some(hash) = hash else { return ok };
        let proof = auth::certificate_proof(&hash, &shown.scramble, &acceptor.fingerprint);
        OkPacket::with_info(&ok, &proof).unwrap_or(ok)
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
        let wanted = password_wanted(&self.live, &change.user);
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
            answer: change.auth.clone(),
            password_wanted: wanted,
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
