//! Who asks: a browser's session by its cookie, or a program by name and password. Sessions live in memory, and end with the
//! account, with another password, after twelve idle hours, or with the process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::seats::Peer;
use super::take::Body;
use super::{App, Problem};
use crate::admin::action::{Actor, Surface};
use crate::admin::login::same;
use crate::auth::random::token;
use crate::config::model::Role;

/// The cookie's name.
const NAME: &str = "switchover_session";
/// The header that a browser's changes carry.
const TOKEN: &str = "x-switchover-csrf";
/// A session that nobody used for so long has ended.
const IDLE: Duration = Duration::from_secs(12 * 3_600);
/// Sessions at once: the one that was not used for longest goes.
const SESSIONS: usize = 1_000;

#[derive(Debug, Clone)]
struct Session {
    user: String,
    /// SHA-256 of the password at its login.
    proof: [u8; 32],
    token: String,
    used: Instant,
}

/// The browsers that are logged in.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Session>>);

fn proof(password: &str) -> [u8; 32] {
    Sha256::digest(password.as_bytes()).into()
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one: its cookie, and the token that its changes carry.
    fn open(&self, user: &str, password: &str, now: Instant) -> (String, String) {
        let mut sessions = self.lock();
        sessions.retain(|_, s| now.duration_since(s.used) < IDLE);
        if sessions.len() >= SESSIONS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.used).map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        let (id, token) = (token(), token());
        let session = Session { user: user.to_owned(), proof: proof(password), token: token.clone(), used: now };
        sessions.insert(id.clone(), session);
        (id, token)
    }

    fn used(&self, id: &str, now: Instant) -> Option<Session> {
        let mut sessions = self.lock();
        let session = sessions.get_mut(id).filter(|s| now.duration_since(s.used) < IDLE)?;
        session.used = now;
        Some(session.clone())
    }

    fn close(&self, id: &str) {
        self.lock().remove(id);
    }
}

/// Who asks, as a handler's argument: without a login it is not called.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) actor: Actor,
    /// The token of a browser's session.
    pub(super) token: String,
}

impl FromRequestParts<App> for Asking {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Asking, Problem> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(Peer(peer))| *peer);
        let peer = peer.ok_or_else(|| denied("no peer"))?;
        asking(app, peer, &parts.method, &parts.headers).await
    }
}

fn denied(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "login", message)
}

async fn asking(app: &App, peer: SocketAddr, method: &Method, headers: &HeaderMap) -> Result<Asking, Problem> {
    if let Some(basic) = headers.get(AUTHORIZATION) {
        let (user, password) = basic.to_str().ok().and_then(decode).ok_or_else(|| denied("Authorization: Basic …"))?;
        let role = check(app, peer, &user, &password).await?;
        return Ok(Asking { actor: actor(user, role, peer), token: String::new() });
    }
    let id = cookie(headers).ok_or_else(|| denied("log in first"))?;
    let session = app.sessions.used(&id, Instant::now()).ok_or_else(|| denied("the login has ended: log in again"))?;
    let users = app.actions.running().admin().users;
    let user = users.get(&session.user).filter(|u| same(&proof(&u.password), &session.proof));
    let Some(user) = user else {
        app.sessions.close(&id);
        return Err(denied("the account has changed: log in again"));
    };
    let carried = headers.get(TOKEN).map(|t| t.as_bytes()).unwrap_or_default();
    if !matches!(*method, Method::GET | Method::HEAD) && !same(carried, session.token.as_bytes()) {
        let message = format!("a change needs the header {TOKEN}: GET /api/v1/me says its value");
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    Ok(Asking { actor: actor(session.user, user.role, peer), token: session.token })
}

fn actor(name: String, role: Role, peer: SocketAddr) -> Actor {
    Actor { name, surface: Surface::Http, from: peer.to_string(), role }
}

/// `Basic base64(user:password)`.
fn decode(header: &str) -> Option<(String, String)> {
    let encoded = header.strip_prefix("Basic ").or_else(|| header.strip_prefix("basic "))?;
    let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    let mut pairs = all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value.to_owned())
}

async fn check(app: &App, peer: SocketAddr, user: &str, password: &str) -> Result<Role, Problem> {
    let users = app.actions.running().admin().users;
    // (an unknown name costs the same comparison)
    let found = users.get(user);
    let good = same(&proof(found.map_or("", |u| &u.password)), &proof(password)) && found.is_some();
    app.logins.ended(peer.ip(), good).await;
    match found.filter(|_| good) {
        Some(user) => Ok(user.role),
        None => {
            tracing::warn!(user, from = %peer, "a login over HTTP was refused");
            Err(denied("wrong name or password"))
        }
    }
}

/// What `login` takes.
#[derive(Deserialize)]
pub(super) struct Credentials {
    user: String,
    password: String,
}

#[derive(Serialize)]
struct Me<'a> {
    user: &'a str,
    role: &'static str,
    csrf: &'a str,
}

fn me(user: &str, role: Role, csrf: &str) -> Response {
    let role = if role == Role::Operator { "operator" } else { "reader" };
    Json(Me { user, role, csrf }).into_response()
}

/// `POST /api/v1/login`.
pub(super) async fn login(
    State(app): State<App>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Body(given): Body<Credentials>,
) -> Result<Response, Problem> {
    let role = check(&app, peer, &given.user, &given.password).await?;
    let (id, token) = app.sessions.open(&given.user, &given.password, Instant::now());
    let cookie = format!("{NAME}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", IDLE.as_secs());
    Ok(([(SET_COOKIE, cookie)], me(&given.user, role, &token)).into_response())
}

/// `GET /api/v1/me`.
pub(super) async fn whoami(asking: Asking) -> Response {
    me(&asking.actor.name, asking.actor.role, &asking.token)
}

/// `POST /api/v1/logout`.
pub(super) async fn logout(State(app): State<App>, _asking: Asking, headers: HeaderMap) -> Response {
    if let Some(id) = cookie(&headers) {
        app.sessions.close(&id);
    }
    let gone = format!("{NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(SET_COOKIE, gone)], StatusCode::NO_CONTENT).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        assert_eq!(decode("Basic b3BzOmE6Yg=="), Some(("ops".into(), "a:b".into())));
        for bad in ["", "Basic", "Basic !!", "Bearer b3BzOmE=", "Basic b3Bz"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b; switchover_session=abc".parse().unwrap());
        assert_eq!(cookie(&headers).as_deref(), Some("abc"));
    }

    #[test]
    fn sessions_end() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (id, token) = sessions.open("ops", "x", now);
        assert_eq!(sessions.used(&id, now).map(|s| s.token), Some(token));
        assert!(sessions.used(&id, now + IDLE).is_none());
        for _ in 0..SESSIONS + 10 {
            sessions.open("ops", "x", now);
        }
        assert!(sessions.lock().len() <= SESSIONS);
    }
}
