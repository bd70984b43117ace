//! The proxy's own login at a store: with a secret that a client's login gave away or that the configuration holds.
//!
//! Plugins: `mysql_native_password`, `caching_sha2_password` (fast, full over TLS, full with the server's RSA key), `sha256_password`,
//! `client_ed25519`, `mysql_clear_password` over TLS, and the first question of `dialog`. Source: MySQL "Connection Phase".

use std::io;
use std::sync::Arc;

use super::connection::Backend;
use super::fleet::StoreHandle;
use crate::auth::sha2::{ASK_KEY, ASK_KEY_SHA256};
use crate::auth::{self, CACHING_SHA2, CLEAR, DIALOG, ED25519, NATIVE, SHA256, Stage1};
use crate::config::StoreId;
use crate::config::model::{Address, Secret, TlsMode};
use crate::net::{PacketStream, tls};
use crate::wire::codec::Malformed;
use crate::wire::command::COM_CHANGE_USER;
use crate::wire::handshake::{Greeting, HandshakeResponse, read_auth_switch};
use crate::wire::{Capabilities, ErrPacket, OkPacket, Status};

/// What a login needs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The password; empty for none.
    Password(Vec<u8>),
    /// SHA1(password): native only.
    Stage1(Stage1),
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// From the configuration; `None` for a hash that cannot log in.
    #[must_use]
    pub fn from_secret(secret: &Secret) -> Option<Key> {
        match secret {
            Secret::Password(p) => Some(Key::Password(p.clone().into_bytes())),
            Secret::NativeStage1(s) => Some(Key::Stage1(*s)),
            Secret::NativeHash(_) => None,
        }
    }
}

/// A login to make.
#[derive(Debug, Clone)]
pub struct Login {
    /// Account name.
    pub user: Vec<u8>,
    /// Its secret.
    pub key: Key,
    /// Wanted capabilities; those that the store lacks are an error unless they are markers of the client.
    pub capabilities: Capabilities,
    /// Connection collation, low byte.
    pub collation: u8,
    /// Longest packet, bytes.
    pub max_packet: u32,
    /// Connection attributes as they stand in a login.
    pub attributes: Vec<u8>,
    /// Whether the client's own leg is encrypted.
    pub client_tls: bool,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The connection failed or was lost.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store refused it, in its own words.
    #[error("{0}")]
    Refused(ErrPacket),
    /// The account's plugin needs another secret than the proxy has.
    #[error("the account's plugin {0} needs the password itself")]
    Secret(String),
    /// `tls: required`, and the store offers none.
    #[error("it offers no TLS, and `tls: required` is configured")]
    NoTls,
    /// It offers less than the session's client uses (RULES.md 24).
    #[error("it lacks protocol capabilities that this session uses: {0:?}")]
    Capabilities(Capabilities),
    /// It does not follow the protocol.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The longest packet of a login, bytes.
pub const LOGIN_LIMIT: usize = 1 << 20;

/// Whether a leg to this store is to be encrypted. A unix socket is safe as it is: there only a client with TLS has TLS further on
/// (its account may require it, and it may ask the store for its cipher).
///
/// # Errors
/// [`LoginError::NoTls`] where it must and cannot.
pub fn wants_tls(store: &StoreHandle, offered: Capabilities, client_tls: bool, unix: bool) -> Result<bool, LoginError> {
    let offered = offered.contains(Capabilities::SSL);
    match store.config.tls.mode {
        TlsMode::Off => Ok(false),
        TlsMode::Preferred => Ok(offered && (client_tls || !unix)),
        TlsMode::FollowClient => Ok(offered && client_tls),
        TlsMode::Required if offered => Ok(true),
        TlsMode::Required => Err(LoginError::NoTls),
    }
}

/// The name that a store's certificate is checked against.
#[must_use]
pub fn tls_host(store: &StoreHandle) -> &str {
    store
        .config
        .addresses
        .iter()
        .find_map(|a| match a {
            Address::Tcp(host, _) => Some(host.as_str()),
            Address::Unix(_) => None,
        })
        .unwrap_or("localhost")
}

/// Reads a store's greeting.
///
/// # Errors
/// [`LoginError::Refused`] when it begins with an error (too many connections, host blocked).
pub async fn greeting(stream: &mut PacketStream) -> Result<Greeting, LoginError> {
    let (_, payload) = stream.read_message(LOGIN_LIMIT).await?;
    if payload.first() == Some(&0xFF) {
        return Err(LoginError::Refused(ErrPacket::read(&payload)?));
    }
    Ok(Greeting::read(&payload)?)
}

/// Logs in on a stream that is connected.
///
/// # Errors
/// [`LoginError`].
pub async fn login(
    id: StoreId,
    store: &Arc<StoreHandle>,
    mut stream: PacketStream,
    login: &Login,
) -> Result<Backend, LoginError> {
    let greeting = greeting(&mut stream).await?;
    answer_greeting(id, store, stream, login, &greeting).await
}

/// Logs in on a stream whose greeting was read.
///
/// # Errors
/// [`LoginError`].
pub async fn answer_greeting(
    id: StoreId,
    store: &Arc<StoreHandle>,
    mut stream: PacketStream,
    login: &Login,
    greeting: &Greeting,
) -> Result<Backend, LoginError> {
    store.greeted(greeting);
    let lacking = login.capabilities - greeting.capabilities - Capabilities::CLIENT_ONLY;
    if !lacking.is_empty() {
        return Err(LoginError::Capabilities(lacking));
    }
    let encrypt = wants_tls(store, greeting.capabilities, login.client_tls, stream.stream().is_unix())?;
    // always asked for: it is taken out of what a client gets that did not ask (RULES.md 16)
    let capabilities = login.capabilities | greeting.capabilities & Capabilities::SESSION_TRACK;
    let mut response = HandshakeResponse {
        capabilities: capabilities - Capabilities::CONNECT_WITH_DB,
        max_packet: login.max_packet,
        collation: login.collation,
        user: login.user.clone(),
        auth: Vec::new(),
        database: None,
        plugin: None,
        attributes: login.attributes.clone(),
    };
    let mut sequence = 1;
    if let (true, Some(connector)) = (encrypt, &store.tls) {
        response.capabilities |= Capabilities::SSL;
        sequence = stream.write_message(sequence, &response.write_ssl_request()).await?;
        tls::connect(&mut stream, connector, tls_host(store), None).await?;
    }
    let secure = stream.stream().is_secure();
    let mut plugin = greeting.plugin.clone();
    if plugin.is_empty() {
        plugin = NATIVE.to_vec();
    }
    let scramble = greeting.scramble.clone();
    match answer(&plugin, &scramble, &login.key, secure) {
        Some(a) => response.auth = a,
        // the account's own plugin is named by a switch request
        None => {
            plugin = NATIVE.to_vec();
            response.auth = answer(&plugin, &scramble, &login.key, secure).unwrap_or_default();
        }
    }
    response.plugin = Some(plugin.clone());
    stream.write_message(sequence, &response.write()).await?;
    let asked = Asked { plugin, scramble, secure };
    let status = decided(&mut stream, login, asked).await?;
    let mut backend = Backend::new(id, Arc::clone(store), stream, greeting.thread_id, capabilities, status);
    backend.scramble.clone_from(&greeting.scramble);
    Ok(backend)
}

impl Backend {
    /// COM_CHANGE_USER: the store checks the account again, and the connection is as after a login.
    ///
    /// # Errors
    /// [`LoginError`]; after it the connection is not to be used again.
    pub async fn change_user(&mut self, login: &Login, database: &[u8]) -> Result<(), LoginError> {
        let secure = self.stream.stream().is_tls() || self.stream.stream().is_unix();
        let mut asked = Asked { plugin: NATIVE.to_vec(), scramble: self.scramble.clone(), secure };
        let auth = match answer(&asked.plugin, &asked.scramble, &login.key, secure) {
            Some(a) => a,
            None => {
                asked.plugin = CLEAR.to_vec();
                Vec::new()
            }
        };
        let mut p = vec![COM_CHANGE_USER];
        p.extend(&login.user);
        p.push(0);
        p.push(u8::try_from(auth.len()).unwrap_or(0));
        p.extend(&auth);
        p.extend(database);
        p.push(0);
        p.extend(u16::from(login.collation).to_le_bytes());
        if login.capabilities.contains(Capabilities::PLUGIN_AUTH) {
            p.extend(&asked.plugin);
            p.push(0);
        }
        if login.capabilities.contains(Capabilities::CONNECT_ATTRS) {
            p.extend(&login.attributes);
        }
        self.stream.write_message(0, &p).await?;
        self.status = decided(&mut self.stream, login, asked).await?;
        Ok(())
    }
}

/// What a store asked for last.
struct Asked {
    plugin: Vec<u8>,
    scramble: Vec<u8>,
    secure: bool,
}

/// Answers until the store has decided; its status flags.
async fn decided(stream: &mut PacketStream, login: &Login, mut asked: Asked) -> Result<Status, LoginError> {
    loop {
        let (sequence, payload) = stream.read_message(LOGIN_LIMIT).await?;
        let reply = sequence.wrapping_add(1);
        match payload.first() {
            Some(0x00) => {
                return Ok(OkPacket::read(&payload).map_or(Status::AUTOCOMMIT, |ok| ok.status));
            }
            Some(0xFF) => return Err(LoginError::Refused(ErrPacket::read(&payload)?)),
            Some(0xFE) => {
                let Some((name, data)) = read_auth_switch(&payload)? else {
                    return Err(LoginError::Secret("mysql_old_password".to_owned()));
                };
                asked.plugin = name.to_vec();
                if !data.is_empty() {
                    asked.scramble = data.to_vec();
                }
                let a = answer(&asked.plugin, &asked.scramble, &login.key, asked.secure)
                    .ok_or_else(|| secret(&asked.plugin))?;
                stream.write_message(reply, &a).await?;
            }
            Some(0x01) if asked.plugin == CACHING_SHA2 => {
                full_caching_sha2(stream, reply, payload.get(1..).unwrap_or_default(), &asked, &login.key).await?;
            }
            Some(0x01) if asked.plugin == SHA256 => {
                let Key::Password(password) = &login.key else { return Err(secret(SHA256)) };
                send_key_sealed(stream, reply, password, &asked.scramble, &payload).await?;
            }
            _ if asked.plugin == DIALOG => return Err(secret(DIALOG)),
            _ => return Err(Malformed("a login answer that is none").into()),
        }
    }
}

fn secret(plugin: &[u8]) -> LoginError {
    LoginError::Secret(String::from_utf8_lossy(plugin).into_owned())
}

fn with_nul(password: &[u8]) -> Vec<u8> {
    [password, &[0]].concat()
}

fn answer(plugin: &[u8], scramble: &[u8], key: &Key, secure: bool) -> Option<Vec<u8>> {
    match (plugin, key) {
        (SHA256 | CLEAR | DIALOG, Key::Password(p)) if p.is_empty() => Some(vec![0]),
        (_, Key::Password(p)) if p.is_empty() => Some(Vec::new()),
        (NATIVE, Key::Password(p)) => Some(auth::native_answer(scramble, auth::stage1(p)).to_vec()),
        (NATIVE, Key::Stage1(s)) => Some(auth::native_answer(scramble, *s).to_vec()),
        (CACHING_SHA2, Key::Password(p)) => Some(auth::caching_sha2_answer(scramble, p)),
        (ED25519, Key::Password(p)) => Some(auth::ed25519_answer(scramble, p)),
        (SHA256 | CLEAR | DIALOG, Key::Password(p)) if secure => Some(with_nul(p)),
        (SHA256, Key::Password(_)) => Some(vec![ASK_KEY_SHA256]),
        _ => None,
    }
}

/// The server has no cached hash (0x04) or has one (0x03).
async fn full_caching_sha2(
    stream: &mut PacketStream,
    sequence: u8,
    data: &[u8],
    asked: &Asked,
    key: &Key,
) -> Result<(), LoginError> {
    let Key::Password(password) = key else { return Err(secret(CACHING_SHA2)) };
    match data.first() {
        Some(3) => Ok(()),
        Some(4) if asked.secure => {
            stream.write_message(sequence, &with_nul(password)).await?;
            Ok(())
        }
        Some(4) => send_sealed(stream, sequence, password, &asked.scramble, ASK_KEY).await,
        _ => Err(Malformed("a caching_sha2_password answer that is none").into()),
    }
}

/// Asks the store for its RSA key, and sends the password sealed with it.
///
/// # Errors
/// [`LoginError`].
pub async fn send_sealed(
    stream: &mut PacketStream,
    sequence: u8,
    password: &[u8],
    scramble: &[u8],
    ask: u8,
) -> Result<(), LoginError> {
    stream.write_message(sequence, &[ask]).await?;
    let (sequence, said) = stream.read_message(LOGIN_LIMIT).await?;
    send_key_sealed(stream, sequence.wrapping_add(1), password, scramble, &said).await
}

/// `said` is the store's packet with its key.
async fn send_key_sealed(
    stream: &mut PacketStream,
    sequence: u8,
    password: &[u8],
    scramble: &[u8],
    said: &[u8],
) -> Result<(), LoginError> {
    if said.first() == Some(&0xFF) {
        return Err(LoginError::Refused(ErrPacket::read(said)?));
    }
    let sealed = auth::caching_sha2_encrypt(password, scramble, said.get(1..).unwrap_or_default())
        .ok_or(Malformed("an RSA key that is none"))?;
    stream.write_message(sequence, &sealed).await?;
    Ok(())
}
