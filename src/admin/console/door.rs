//! Login at the console, as applications log in at the proxy: TLS with the same certificate, and by the plugin that the client names.
//!
//! | the client names | it is let in by |
//! |---|---|
//! | `caching_sha2_password` (MySQL 8 and later) | the fast answer: the password is known here, so nobody is asked for it |
//! | `mysql_native_password`, or no plugin | SHA1 |
//! | `client_ed25519` | a signature |
//! | `mysql_clear_password` | the password, over TLS only |
//! | any other | `caching_sha2_password` |
//!
//! Accounts are `admin.users`. Whether there is an account shows in nothing that a peer could see.

use std::net::SocketAddr;

use super::super::action::{Actions, Actor, Surface};
use super::super::login::{Logins, same};
use super::dialog::{DATABASES, VERSION};
use crate::auth::random::{random, scramble};
use crate::auth::{
    CACHING_SHA2, CLEAR, ED25519, NATIVE, caching_sha2_verifies, certificate_proof, double_hash, ed25519,
    ed25519_verifies, native_answer, stage1, stage2,
};
use crate::backend::login::LOGIN_LIMIT;
use crate::net::PacketStream;
use crate::net::compress::Peer;
use crate::session::{Fatal, first_answer, say};
use crate::sql::dialect::Engine;
use crate::wire::handshake::{Greeting, HandshakeResponse, write_auth_switch};
use crate::wire::{Capabilities, ErrPacket, OkPacket, Status};

/// utf8mb4_general_ci.
const COLLATION: u8 = 45;
/// What a server sends when a fast answer is right.
const FAST_OK: [u8; 2] = [1, crate::auth::sha2::FAST_OK];

/// What the console offers: what opensrv-mysql speaks, and what the proxy's own end does before and beneath it.
fn offered() -> Capabilities {
    Capabilities::LONG_PASSWORD
        | Capabilities::FOUND_ROWS
        | Capabilities::LONG_FLAG
        | Capabilities::CONNECT_WITH_DB
        | Capabilities::COMPRESS
        | Capabilities::IGNORE_SPACE
        | Capabilities::PROTOCOL_41
        | Capabilities::INTERACTIVE
        | Capabilities::TRANSACTIONS
        | Capabilities::SECURE_CONNECTION
        | Capabilities::PLUGIN_AUTH
        | Capabilities::CONNECT_ATTRS
        | Capabilities::PLUGIN_AUTH_LENENC_DATA
        | Capabilities::SESSION_TRACK
        | Capabilities::DEPRECATE_EOF
}

/// Who came in.
pub(super) struct Guest {
    pub(super) actor: Actor,
    /// What both sides agreed on, as far as it lasts beyond the login.
    pub(super) capabilities: Capabilities,
    /// Named by its login, or the console's own.
    pub(super) database: &'static str,
}

/// A client's answer to a scramble.
struct Claim<'a> {
    plugin: &'a [u8],
    scramble: Vec<u8>,
    answer: Vec<u8>,
}

impl Claim<'_> {
    /// Whether it was made from this password.
    fn is_of(&self, password: &[u8]) -> bool {
        match self.plugin {
            NATIVE => same(&native_answer(&self.scramble, stage1(password)), &self.answer),
            CACHING_SHA2 => caching_sha2_verifies(&self.scramble, &self.answer, &double_hash(password)),
            ED25519 => ed25519_verifies(&self.scramble, &self.answer, &ed25519::ed25519_public(password)),
            CLEAR => same(self.answer.strip_suffix(&[0]).unwrap_or(&self.answer), password),
            _ => false,
        }
    }

    /// What a MariaDB client that cannot verify our certificate makes its proof of (RULES.md 3).
    fn hash(&self, password: &[u8]) -> Option<Vec<u8>> {
        match self.plugin {
            NATIVE => Some(stage2(&stage1(password)).to_vec()),
            ED25519 => Some(ed25519::ed25519_public(password).to_vec()),
            _ => None,
        }
    }
}

/// The plugin that a client which names `named` is asked by.
fn plugin(named: Option<&[u8]>, is_secure: bool) -> &'static [u8] {
    match named {
        None | Some(NATIVE | b"") => NATIVE,
        Some(ED25519) => ED25519,
        Some(CLEAR) if is_secure => CLEAR,
        Some(_) => CACHING_SHA2,
    }
}

/// Whether the login's own answer is one by this plugin: else the client is asked again.
fn answers(plugin: &[u8], named: Option<&[u8]>, answer: &[u8]) -> bool {
    match plugin {
        NATIVE => answer.len() == 20,
        CACHING_SHA2 => named == Some(CACHING_SHA2) && answer.len() == 32,
        CLEAR => !answer.is_empty(),
        _ => false,
    }
}

/// The door of the console.
pub(super) struct Door<'a> {
    pub(super) actions: &'a Actions,
    pub(super) logins: &'a Logins,
    pub(super) from: SocketAddr,
    /// The connection's id.
    pub(super) id: u32,
}

impl Door<'_> {
    /// Lets a client in, or not: then it has been told.
    pub(super) async fn login(&self, client: &mut PacketStream) -> Result<Guest, Fatal> {
        let acceptor = self.actions.running().acceptor();
        let mut capabilities = offered();
        capabilities.set(Capabilities::SSL, acceptor.is_some());
        let shown = Greeting {
            version: VERSION.as_bytes().to_vec(),
            thread_id: self.id,
            scramble: scramble().to_vec(),
            capabilities,
            collation: COLLATION,
            status: Status::AUTOCOMMIT,
            plugin: CACHING_SHA2.to_vec(),
        };
        client.write_message(0, &shown.write()).await.map_err(Fatal::client)?;
        let engine = Engine::from_server_version(VERSION);
        let (sequence, payload) = first_answer(client, acceptor.as_ref(), engine).await?;
        let Ok(response) = HandshakeResponse::read(&payload) else {
            return Err(say(client, sequence.wrapping_add(1), ErrPacket::new(1043, b"08S01", "Bad handshake")).await);
        };
        let (mut sequence, claim) = claimed(client, sequence.wrapping_add(1), &response, &shown.scramble).await?;
        let users = self.actions.running().admin().users;
        let name = String::from_utf8_lossy(&response.user).into_owned();
        let found = users.get(&name).filter(|user| claim.is_of(user.password.as_bytes()));
        self.logins.ended(self.from.ip(), found.is_some()).await;
        let Some(user) = found else {
            tracing::warn!(user = name, from = %self.from, "a login at the SQL console was refused");
            return Err(say(client, sequence, self.denied(&name, !claim.answer.is_empty())).await);
        };
        let database = response.database.as_deref().map(String::from_utf8_lossy).unwrap_or(DATABASES[1].into());
        let database = match super::dialog::database(&database) {
            Ok(database) => database,
            Err(refusal) => return Err(say(client, sequence, ErrPacket::new(1049, b"42000", refusal.text)).await),
        };
        if claim.plugin == CACHING_SHA2 {
            sequence = client.write_message(sequence, &FAST_OK).await.map_err(Fatal::client)?;
        }
        let mut ok = OkPacket { status: Status::AUTOCOMMIT, ..OkPacket::default() }.write();
        let verifies = response.capabilities.contains(Capabilities::SSL_VERIFY_SERVER_CERT);
        if let Some(acceptor) = acceptor.filter(|_| verifies && client.stream().is_tls())
            && let Some(hash) = claim.hash(user.password.as_bytes())
        {
            let proof = certificate_proof(&hash, &shown.scramble, &acceptor.fingerprint);
            ok = OkPacket::with_info(&ok, &proof).unwrap_or(ok);
        }
        client.write_message(sequence, &ok).await.map_err(Fatal::client)?;
        if response.capabilities.contains(Capabilities::COMPRESS) {
            client.compress(Peer::Client);
        }
        let actor = Actor { name, surface: Surface::Console, from: self.from.to_string(), role: user.role };
        Ok(Guest { actor, capabilities: response.capabilities & offered(), database })
    }

    fn denied(&self, name: &str, with_password: bool) -> ErrPacket {
        let using = if with_password { "YES" } else { "NO" };
        let text = format!("Access denied for user '{name}'@'{}' (using password: {using})", self.from.ip());
        ErrPacket::new(1045, b"28000", text)
    }
}

/// What a client answers: by its login where that will do, else it is asked once more. With the sequence number of the next packet to it.
async fn claimed(
    client: &mut PacketStream,
    sequence: u8,
    response: &HandshakeResponse,
    shown: &[u8],
) -> Result<(u8, Claim<'static>), Fatal> {
    let named = response.plugin.as_deref().filter(|_| response.capabilities.contains(Capabilities::PLUGIN_AUTH));
    let plugin = plugin(named, client.stream().is_secure());
    if answers(plugin, named, &response.auth) || !response.capabilities.contains(Capabilities::PLUGIN_AUTH) {
        return Ok((sequence, Claim { plugin, scramble: shown.to_vec(), answer: response.auth.clone() }));
    }
    let (scramble, switch) = if plugin == ED25519 {
        let nonce = random::<32>();
        // (its 32 bytes have no NUL behind them)
        let mut switch = write_auth_switch(plugin, &nonce);
        switch.pop();
        (nonce.to_vec(), switch)
    } else {
        let scramble = scramble();
        (scramble.to_vec(), write_auth_switch(plugin, &scramble))
    };
    client.write_message(sequence, &switch).await.map_err(Fatal::client)?;
    let (sequence, answer) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
    Ok((sequence.wrapping_add(1), Claim { plugin, scramble, answer }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{caching_sha2_answer, ed25519_answer};

    #[test]
    fn each_client_is_asked_by_what_it_knows() {
        assert_eq!(plugin(None, false), NATIVE);
        assert_eq!(plugin(Some(NATIVE), true), NATIVE);
        assert_eq!(plugin(Some(ED25519), false), ED25519);
        assert_eq!(plugin(Some(CLEAR), true), CLEAR);
        assert_eq!(plugin(Some(CLEAR), false), CACHING_SHA2, "no password in the clear");
        assert_eq!(plugin(Some(b"sha256_password"), true), CACHING_SHA2);
        // libmariadb and libmysqlclient answer nothing where the greeting names another plugin than theirs
        assert!(!answers(NATIVE, Some(NATIVE), b"") && answers(NATIVE, None, &[7; 20]));
        assert!(!answers(CACHING_SHA2, Some(b"sha256_password"), &[7; 32]));
        assert!(!answers(ED25519, Some(ED25519), &[7; 64]), "its scramble is of another length");
    }

    #[test]
    fn a_claim_holds_for_its_password_only() {
        let scramble = *b"KgN;|zxbvTa2Be|yQ6]X";
        let nonce = [7; 32];
        for (plugin, made_of, answer) in [
            (NATIVE, &scramble[..], native_answer(&scramble, stage1(b"secret")).to_vec()),
            (CACHING_SHA2, &scramble[..], caching_sha2_answer(&scramble, b"secret")),
            (ED25519, &nonce[..], ed25519_answer(&nonce, b"secret").to_vec()),
            (CLEAR, b"", b"secret\0".to_vec()),
        ] {
            let claim = Claim { plugin, scramble: made_of.to_vec(), answer };
            assert!(claim.is_of(b"secret"), "{}", String::from_utf8_lossy(plugin));
            for other in ["", "Secret", "secret\0", "secre"] {
                assert!(!claim.is_of(other.as_bytes()), "{}: {other}", String::from_utf8_lossy(plugin));
            }
        }
        for plugin in [NATIVE, CACHING_SHA2, ED25519, CLEAR] {
            let claim = Claim { plugin, scramble: scramble.to_vec(), answer: Vec::new() };
            assert!(!claim.is_of(b"secret"), "an empty answer is none");
        }
    }
}
