//! The packets of an authentication exchange, passed on between client and store until the store has decided.
//!
//! Most plugins are relayed as they are. Those that send the password itself depend on how safe the connection is
//! (`caching_sha2_password`, `sha256_password`), and the two legs may differ in that: then the proxy ends the exchange on each
//! leg in the way that leg needs. It also asks for the password itself where the session will need it for another store
//! (RULES.md 3). Sequence numbers are each leg's own.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use super::control_flow::Fatal;
use super::knock::say;
use crate::auth::sha2::{FAST_OK, FULL};
use crate::auth::{self, CACHING_SHA2, SHA256, Seen};
use crate::backend::login::{LOGIN_LIMIT, LoginError, send_sealed};
use crate::net::PacketStream;
use crate::sql::dialect::Engine;
use crate::wire::handshake::read_auth_switch;
use crate::wire::{Capabilities, ErrPacket};

/// Plugins that authenticate the peer of the socket: relayed, they would authenticate the proxy (RULES.md 1).
pub(super) const PEER_PLUGINS: &[&str] =
    &["unix_socket", "auth_socket", "auth_gssapi_client", "gssapi", "named_pipe", "authentication_windows_client"];

/// One exchange.
pub(super) struct Exchange<'a> {
    /// What the client's newest answer gives away.
    pub(super) seen: Seen,
    /// The plugin that is asked for.
    pub(super) plugin: Vec<u8>,
    /// What the client's answer is made from.
    pub(super) scramble: Vec<u8>,
    /// The client's newest answer.
    pub(super) answer: Vec<u8>,
    /// The store's name.
    pub(super) store: &'a str,
    /// The store is reached over a unix socket.
    pub(super) check_peer: bool,
    /// The session will need the password for another store.
    pub(super) password_wanted: bool,
}

/// What the store says at the end of an authentication exchange.
pub(super) enum Verdict {
    /// Its OK, not yet passed on, with the sequence number that it has on the client's leg.
    Accepted(Vec<u8>, u8),
    /// Its error, which the client has.
    Refused(ErrPacket),
}

/// The next sequence number on each leg.
struct Next {
    client: u8,
    server: u8,
}

/// A packet that does not continue its exchange.
pub(super) fn out_of_order() -> ErrPacket {
    ErrPacket::new(1156, b"08S01", "Got packets out of order")
}

fn text_of(secret: &[u8]) -> Vec<u8> {
    secret.strip_suffix(&[0]).unwrap_or(secret).to_vec()
}

/// What an answer gives away.
pub(super) fn seen(plugin: &[u8], scramble: &[u8], answer: &[u8], secure: bool) -> Seen {
    if plugin == SHA256 && secure && !answer.is_empty() {
        return Seen::Password(text_of(answer));
    }
    Seen::answer(plugin, scramble, answer)
}

impl Exchange<'_> {
    /// Runs it up to the store's verdict. `sequence` is the next on the client's leg; the store's packet comes first.
    pub(super) async fn run(
        &mut self,
        client: &mut PacketStream,
        server: &mut PacketStream,
        sequence: u8,
    ) -> Result<Verdict, Fatal> {
        let mut next = Next { client: sequence, server: 0 };
        // a client may have sent its first command already: what it sends is an answer only after the store has asked
        let mut asked = false;
        loop {
            if !asked || self.either(client, server).await? {
                let (sequence, payload) = server.read_message(LOGIN_LIMIT).await.map_err(|e| self.lost(e))?;
                next.server = sequence.wrapping_add(1);
                match payload.first() {
                    Some(0x00) => return Ok(Verdict::Accepted(payload, next.client)),
                    Some(0xFF) => {
                        let error = ErrPacket::read(&payload)
                            .map_err(|error| Fatal::StoreProtocol { store: self.store.to_owned(), error })?;
                        client.write_message(next.client, &payload).await.map_err(Fatal::client)?;
                        return Ok(Verdict::Refused(error));
                    }
                    Some(0xFE) => self.switched(client, next.client, &payload).await?,
                    _ => {}
                }
                let more = payload.first() == Some(&1) && self.plugin == CACHING_SHA2;
                asked = !(more && self.caching_sha2(client, server, &mut next, payload.get(1).copied()).await?);
                if !asked {
                    continue;
                }
                next.client = client.write_message(next.client, &payload).await.map_err(Fatal::client)?;
            } else {
                let payload = self.answer_of(client, &mut next).await?;
                asked = false;
                if self.plugin == SHA256 && client.stream().is_secure() != server.stream().is_secure() {
                    self.sha256(client, server, &next, &payload).await?;
                    continue;
                }
                if self.plugin != CACHING_SHA2 || self.answer.is_empty() {
                    self.see(&payload, client.stream().is_secure());
                }
                next.server = server.write_message(next.server, &payload).await.map_err(|e| self.lost(e))?;
            }
        }
    }

    /// Takes note of an answer to the plugin's scramble.
    fn see(&mut self, payload: &[u8], secure: bool) {
        let first = self.answer.is_empty();
        payload.clone_into(&mut self.answer);
        if self.plugin == auth::DIALOG && !first {
            return;
        }
        self.seen = seen(&self.plugin, &self.scramble, payload, secure);
    }

    /// The client's next packet, in its order.
    async fn answer_of(&self, client: &mut PacketStream, next: &mut Next) -> Result<Vec<u8>, Fatal> {
        let (sequence, payload) = client.read_message(LOGIN_LIMIT).await.map_err(Fatal::client)?;
        if sequence != next.client {
            return Err(say(client, next.client, out_of_order()).await);
        }
        next.client = sequence.wrapping_add(1);
        Ok(payload)
    }

    /// What the store made of the fast answer; whether the exchange was ended here, so that nothing is to be passed on.
    async fn caching_sha2(
        &mut self,
        client: &mut PacketStream,
        server: &mut PacketStream,
        next: &mut Next,
        said: Option<u8>,
    ) -> Result<bool, Fatal> {
        let (client_safe, server_safe) = (client.stream().is_secure(), server.stream().is_secure());
        match said {
            Some(FAST_OK) if self.password_wanted && client_safe => {
                let password = self.ask_password(client, next).await?;
                // the store vouches for the fast answer; the password must be the one that it was made from
                if auth::caching_sha2_answer(&self.scramble, &password) != self.answer {
                    let text = "switchover: access denied: the password is not that of the answer before it";
                    return Err(say(client, next.client, ErrPacket::new(1045, b"28000", text)).await);
                }
                self.seen = Seen::Password(password);
                Ok(true)
            }
            Some(FULL) if client_safe => {
                let mut password = self.ask_password(client, next).await?;
                self.seen = Seen::Password(password.clone());
                if server_safe {
                    password.push(0);
                    next.server = server.write_message(next.server, &password).await.map_err(|e| self.lost(e))?;
                } else {
                    self.seal(server, next.server, &password, auth::sha2::ASK_KEY).await?;
                }
                Ok(true)
            }
            Some(FULL) if server_safe => Err(self.unsafe_client(client, next.client).await),
            _ => Ok(false),
        }
    }

    async fn ask_password(&self, client: &mut PacketStream, next: &mut Next) -> Result<Vec<u8>, Fatal> {
        next.client = client.write_message(next.client, &[1, FULL]).await.map_err(Fatal::client)?;
        self.answer_of(client, next).await.map(|p| text_of(&p))
    }

    /// `sha256_password` where the legs differ: one sends the password, the other seals it.
    async fn sha256(
        &mut self,
        client: &mut PacketStream,
        server: &mut PacketStream,
        next: &Next,
        payload: &[u8],
    ) -> Result<(), Fatal> {
        if !client.stream().is_secure() {
            return Err(self.unsafe_client(client, next.client).await);
        }
        let password = text_of(payload);
        self.seen = Seen::Password(password.clone());
        if password.is_empty() {
            server.write_message(next.server, &[0]).await.map_err(|e| self.lost(e))?;
            return Ok(());
        }
        self.seal(server, next.server, &password, auth::sha2::ASK_KEY_SHA256).await
    }

    async fn seal(&self, server: &mut PacketStream, sequence: u8, password: &[u8], ask: u8) -> Result<(), Fatal> {
        send_sealed(server, sequence, password, &self.scramble, ask).await.map_err(|e| match e {
            LoginError::Malformed(error) => Fatal::StoreProtocol { store: self.store.to_owned(), error },
            LoginError::Io(error) => self.lost(error),
            other => self.lost(io::Error::other(other.to_string())),
        })
    }

    /// A client without TLS would ask for the key of a store that, over its secure leg, has none to give.
    async fn unsafe_client(&self, client: &mut PacketStream, sequence: u8) -> Fatal {
        let text = format!(
            "switchover: access denied: {} needs the password itself, which this client cannot send without TLS; use TLS \
             towards the proxy, or reach store {} by TCP without TLS (`tls: off`)",
            String::from_utf8_lossy(&self.plugin),
            self.store
        );
        say(client, sequence, ErrPacket::new(1045, b"28000", text)).await
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
        self.answer.clear();
        self.seen = Seen::Nothing;
        if !data.is_empty() {
            self.scramble = data.to_vec();
        }
        Ok(())
    }
}

/// What a packet that is no login is answered with, as servers do. A client older than 4.1 is told so.
pub(super) fn no_login(payload: &[u8], engine: Engine) -> ErrPacket {
    let low = payload.first_chunk::<2>().map_or(0, |b| u16::from_le_bytes(*b));
    let new = Capabilities::from_bits_retain(u64::from(low)).contains(Capabilities::PROTOCOL_41);
    if new || payload.len() < 5 {
        return ErrPacket::new(1043, b"08S01", "Bad handshake");
    }
    let name = if matches!(engine, Engine::MariaDb { .. }) { "MariaDB" } else { "MySQL" };
    let text = format!(
        "Client does not support authentication protocol requested by server; consider upgrading {name} client"
    );
    ErrPacket { code: 1251, sqlstate: None, message: text.into_bytes() }
}
