//! What the control account does at a store: probes, account hashes, KILL. Each on a connection of its own, briefly.
//!
//! A probe must see what clients will be shown: the greeting's bytes (capabilities of both halves, plugin, version string), and
//! what the data plane's own dialling and login make of the store. `mysql_async` hides the one and would try the other in its
//! own way, so these few commands go through [`super::connection`]. Where rows are read instead (catalogs, variables and
//! grants, for `check` and before every flip: `admin::check`), `mysql_async` does it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::{Backend, QueryError, Rows};
use super::dial::dial;
use super::fleet::{Probed, StoreHandle};
use super::login::{Key, Login, LoginError, answer_greeting, greeting, login};
use crate::auth::ed25519::{ed25519_verifies, parse_ed25519_key};
use crate::auth::{Seen, Stage2, parse_native_hash, recover_stage1};
use crate::config::StoreId;
use crate::config::model::{Credentials, Secret};
use crate::net::{Buffers, PacketStream};
use crate::wire::Capabilities;
use crate::wire::command::COM_QUIT;
use crate::wire::handshake::Greeting;

/// Why the control account could not do it.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No `control:` account is configured.
    #[error("store {0} has no control account (`control: {{user, password}}`)")]
    NoAccount(String),
    /// It could not log in.
    #[error("store {0}: {1}")]
    Login(String, LoginError),
    /// A query failed.
    #[error("store {0}: {1}")]
    Query(String, QueryError),
    /// It took too long.
    #[error("store {0} does not answer")]
    Timeout(String),
}

const CAPABILITIES: Capabilities = Capabilities::PROTOCOL_41
    .union(Capabilities::SECURE_CONNECTION)
    .union(Capabilities::PLUGIN_AUTH)
    .union(Capabilities::LONG_PASSWORD)
    .union(Capabilities::TRANSACTIONS);

/// utf8mb4_general_ci.
const COLLATION: u8 = 45;

/// Logs in with the control account.
///
/// # Errors
/// [`ControlError`].
pub async fn connect(store: &Arc<StoreHandle>, limit: Duration) -> Result<Backend, ControlError> {
    let name = || store.name().to_owned();
    let account = store.config.control.as_ref().ok_or_else(|| ControlError::NoAccount(name()))?;
    let attempt = async {
        let buffers = Rc::new(Buffers::default());
        let stream = dial(store, None, &buffers, limit).await?;
        let mut backend = login(StoreId(u16::MAX), store, stream, &control_login(account)).await?;
        // what is written down with NOW() is read again by others, whatever the time zone of the server
        match backend.execute(b"SET time_zone = '+00:00'").await {
            Err(QueryError::Io(e)) => Err(LoginError::Io(e)),
            _ => Ok(backend),
        }
    };
    match timeout(limit, attempt).await {
        Ok(Ok(backend)) => Ok(backend),
        Ok(Err(e)) => Err(ControlError::Login(name(), e)),
        Err(_) => Err(ControlError::Timeout(name())),
    }
}

fn control_login(account: &Credentials) -> Login {
    Login {
        user: account.user.clone().into_bytes(),
        key: Key::from_secret(&account.secret).unwrap_or(Key::Password(Vec::new())),
        capabilities: CAPABILITIES,
        collation: COLLATION,
        max_packet: 1 << 24,
        attributes: Vec::new(),
        client_tls: false,
    }
}

/// Learns a store's version and capabilities; with a control account its settings too.
///
/// # Errors
/// [`ControlError`]; the store is marked unreachable.
pub async fn probe(store: &Arc<StoreHandle>, limit: Duration) -> Result<Probed, ControlError> {
    let name = || store.name().to_owned();
    let attempt = async {
        let buffers = Rc::new(Buffers::default());
        let mut stream = dial(store, None, &buffers, limit).await?;
        let greeting = greeting(&mut stream).await?;
        let mut probed = Probed::from(&greeting);
        let Some(account) = &store.config.control else {
            // nobody is refused, which the store does not count as a handshake that broke off (RULES.md 2)
            let _ = answer_greeting(StoreId(u16::MAX), store, stream, &control_login(&nobody()), &greeting).await;
            return Ok(probed);
        };
        match answer_greeting(StoreId(u16::MAX), store, stream, &control_login(account), &greeting).await {
            Ok(backend) => probed.lower_case_table_names = name_case(backend).await,
            Err(error) => tracing::warn!(store = store.name(), %error, "the control account cannot log in"),
        }
        Ok::<_, LoginError>(probed)
    };
    let probed = match timeout(limit, attempt).await {
        Ok(Ok(p)) => p,
        Ok(Err(e)) => {
            store.unreachable(&e.to_string());
            return Err(ControlError::Login(name(), e));
        }
        Err(_) => {
            store.unreachable("it does not answer");
            return Err(ControlError::Timeout(name()));
        }
    };
    store.connected();
    store.set_probed(probed.clone());
    Ok(probed)
}

async fn name_case(mut backend: Backend) -> Option<u8> {
    let rows = backend.query(b"SELECT @@lower_case_table_names").await.ok()?;
    let value = rows.first(0).and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.parse().ok());
    quit(backend).await;
    value
}

fn nobody() -> Credentials {
    Credentials { user: String::new(), secret: Secret::Password(String::new()) }
}

/// Ends a connection whose client left before it logged in: with a login of the proxy's own, for a store counts handshakes that
/// break off against the proxy's address, and blocks it (1129, RULES.md 2). Without a control account the store refuses it, which
/// does not count.
pub fn complete(store: &Arc<StoreHandle>, stream: PacketStream, shown: Greeting, limit: Duration) {
    let store = Arc::clone(store);
    tokio::task::spawn_local(async move {
        let nobody = nobody();
        let login = control_login(store.config.control.as_ref().unwrap_or(&nobody));
        let attempt = answer_greeting(StoreId(u16::MAX), &store, stream, &login, &shown);
        if let Ok(Ok(backend)) = timeout(limit, attempt).await {
            quit(backend).await;
        }
    });
}

/// The stored hash that a client's login fits: SHA1(SHA1(password)), or an Ed25519 key.
pub async fn stored_hash(store: &Arc<StoreHandle>, user: &[u8], seen: &Seen, limit: Duration) -> Option<Vec<u8>> {
    match seen {
        Seen::Native { scramble, response } => {
            let fits =
                |list: Vec<Stage2>| list.into_iter().find(|h| recover_stage1(*scramble, *response, *h).is_some());
            match fits(store.known_hashes(user)) {
                Some(hash) => Some(hash.to_vec()),
                None => fits(account_hashes(store, user, limit).await.ok()?).map(|h| h.to_vec()),
            }
        }
        Seen::Signature { scramble, answer } => {
            let texts = account_texts(store, user, limit).await.ok()?;
            let mut keys = texts.iter().filter_map(|t| parse_ed25519_key(t));
            keys.find(|key| ed25519_verifies(scramble, answer, key)).map(|key| key.to_vec())
        }
        _ => None,
    }
}

/// Reads the `mysql_native_password` hashes of an account, whatever its hosts.
///
/// # Errors
/// [`ControlError`]; one of them is a control account that may not read the account table.
pub async fn account_hashes(
    store: &Arc<StoreHandle>,
    user: &[u8],
    limit: Duration,
) -> Result<Vec<Stage2>, ControlError> {
    let mut hashes: Vec<Stage2> = Vec::new();
    for hash in account_texts(store, user, limit).await?.iter().filter_map(|t| parse_native_hash(t)) {
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
    }
    store.remember_hashes(user, hashes.clone());
    Ok(hashes)
}

/// A global variable's value; nothing where it cannot be asked or is not known there.
pub async fn setting(store: &Arc<StoreHandle>, name: &str, limit: Duration) -> Option<String> {
    let mut backend = connect(store, limit).await.ok()?;
    let rows = timeout(limit, backend.query(format!("SELECT @@GLOBAL.{name}").as_bytes())).await.ok()?;
    quit(backend).await;
    Some(String::from_utf8_lossy(rows.ok()?.first(0)?).into_owned())
}

/// Everything that the account table says of a user: which column holds the hash differs (Password, authentication_string). An
/// account with several plugins has its hashes in one more place.
async fn account_texts(store: &Arc<StoreHandle>, user: &[u8], limit: Duration) -> Result<Vec<String>, ControlError> {
    let failed = |e| ControlError::Query(store.name().to_owned(), e);
    let mut backend = connect(store, limit).await?;
    let user = crate::wire::hex::hex(user);
    let read = async {
        let sql = format!("SELECT * FROM mysql.user WHERE user = X'{user}'");
        let mut texts = cells(backend.query(sql.as_bytes()).await?);
        // MariaDB 10.4 and later; other servers have no such table
        let sql = format!("SELECT Priv FROM mysql.global_priv WHERE user = X'{user}'");
        if let Ok(rows) = backend.query(sql.as_bytes()).await {
            for text in cells(rows) {
                texts.extend(text.split('"').map(str::to_owned));
            }
        }
        Ok(texts)
    };
    let texts = match timeout(limit, read).await {
        Ok(texts) => texts.map_err(failed)?,
        Err(_) => return Err(ControlError::Timeout(store.name().to_owned())),
    };
    quit(backend).await;
    Ok(texts)
}

fn cells(rows: Rows) -> Vec<String> {
    rows.rows.into_iter().flatten().flatten().filter_map(|v| String::from_utf8(v).ok()).collect()
}

/// `KILL [QUERY]` of a thread there; whether the store has heard it. Errors are logged, for nobody waits for them.
pub async fn kill(store: &Arc<StoreHandle>, thread_id: u32, query: bool, limit: Duration) -> bool {
    let sql = format!("KILL {}{thread_id}", if query { "QUERY " } else { "" });
    match connect(store, limit).await {
        Ok(mut backend) => {
            let done = timeout(limit, backend.query(sql.as_bytes())).await;
            if let Ok(Err(e)) = &done {
                tracing::debug!(store = store.name(), thread_id, error = %e, "KILL");
            }
            // 1094: nobody is there any more
            let heard = matches!(done, Ok(Ok(_) | Err(QueryError::Refused(_))));
            if heard {
                quit(backend).await;
            }
            heard
        }
        Err(e) => {
            tracing::warn!(store = store.name(), thread_id, error = %e, "a query without a client goes on: KILL needs the control account");
            false
        }
    }
}

async fn quit(mut backend: Backend) {
    let _ = backend.send(COM_QUIT, &[]).await;
}
