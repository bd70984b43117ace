//! What the control account does at a store: probes, account hashes, KILL. Each on a connection of its own, briefly.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::connection::{Backend, QueryError};
use super::dial::dial;
use super::fleet::{Probed, StoreHandle};
use super::login::{Key, Login, LoginError, answer_greeting, greeting, login};
use crate::auth::{Stage2, parse_native_hash};
use crate::config::StoreId;
use crate::config::model::Credentials;
use crate::net::Buffers;
use crate::sql::dialect::Engine;
use crate::wire::Capabilities;
use crate::wire::command::COM_QUIT;

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
        login(StoreId(u16::MAX), store, stream, &control_login(account)).await
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
        let version = String::from_utf8_lossy(&greeting.version).into_owned();
        let engine = Engine::from_server_version(&version);
        let capabilities = greeting.capabilities;
        let mut probed = Probed { version, engine, capabilities, lower_case_table_names: None };
        // without a control account the look ends here, and the store counts it as a connection that gave up (RULES.md 2)
        if let Some(account) = &store.config.control {
            match answer_greeting(StoreId(u16::MAX), store, stream, &control_login(account), &greeting).await {
                Ok(backend) => probed.lower_case_table_names = name_case(backend).await,
                Err(error) => tracing::warn!(store = store.name(), %error, "the control account cannot log in"),
            }
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

/// Reads the `mysql_native_password` hashes of an account, whatever its hosts.
///
/// # Errors
/// [`ControlError`]; one of them is a control account that may not read the account table.
pub async fn account_hashes(
    store: &Arc<StoreHandle>,
    user: &[u8],
    limit: Duration,
) -> Result<Vec<Stage2>, ControlError> {
    let mut backend = connect(store, limit).await?;
    let mut sql = b"SELECT * FROM mysql.user WHERE user = X'".to_vec();
    for b in user {
        sql.extend(format!("{b:02x}").bytes());
    }
    sql.push(b'\'');
    // which column holds the hash differs: Password, password, authentication_string
    let rows = match timeout(limit, backend.query(&sql)).await {
        Ok(rows) => rows.map_err(|e| ControlError::Query(store.name().to_owned(), e))?,
        Err(_) => return Err(ControlError::Timeout(store.name().to_owned())),
    };
    quit(backend).await;
    let mut hashes: Vec<Stage2> = Vec::new();
    for value in rows.rows.iter().flatten().flatten() {
        if let Some(hash) = std::str::from_utf8(value).ok().and_then(parse_native_hash)
            && !hashes.contains(&hash)
        {
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

/// `KILL [QUERY]` of a thread there; errors are logged, for nobody waits for them.
pub async fn kill(store: &Arc<StoreHandle>, thread_id: u32, query: bool, limit: Duration) {
    let sql = format!("KILL {}{thread_id}", if query { "QUERY " } else { "" });
    match connect(store, limit).await {
        Ok(mut backend) => {
            if let Err(e) = backend.query(sql.as_bytes()).await {
                tracing::debug!(store = store.name(), thread_id, error = %e, "KILL");
            }
            quit(backend).await;
        }
        Err(e) => {
            tracing::warn!(store = store.name(), thread_id, error = %e, "a query without a client goes on: KILL needs the control account")
        }
    }
}

async fn quit(mut backend: Backend) {
    let _ = backend.send(COM_QUIT, &[]).await;
}
