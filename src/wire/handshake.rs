//! Greeting, SSLRequest, HandshakeResponse, AuthSwitchRequest, COM_CHANGE_USER.
//!
//! Source: MySQL "Connection Phase Packets"; MariaDB keeps its extended capabilities in the greeting's last 4 filler bytes
//! and in those of the response, when CLIENT_MYSQL (LONG_PASSWORD) is clear.

use super::capability::{Capabilities, Status};
use super::codec::{Malformed, Reader, put_lenenc_bytes};

/// The server's first packet, protocol version 10.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Server version as sent.
    pub version: Vec<u8>,
    /// The connection's id.
    pub thread_id: u32,
    /// 20 bytes as a rule, without the final NUL.
    pub scramble: Vec<u8>,
    /// What the server offers.
    pub capabilities: Capabilities,
    /// Default collation, low byte.
    pub collation: u8,
    /// Status flags.
    pub status: Status,
    /// Default authentication plugin; empty without PLUGIN_AUTH.
    pub plugin: Vec<u8>,
}

impl Greeting {
    /// Reads a greeting's payload.
    ///
    /// # Errors
    /// [`Malformed`] for another protocol version or a short packet.
    pub fn read(payload: &[u8]) -> Result<Greeting, Malformed> {
        let mut r = Reader::new(payload);
        if r.u8()? != 10 {
            return Err(Malformed("a greeting of a protocol version other than 10"));
        }
        let version = r.until_nul()?.to_vec();
        let thread_id = r.u32()?;
        let mut scramble = r.bytes(8)?.to_vec();
        r.u8()?;
        let low = r.u16()?;
        let collation = r.u8()?;
        let status = Status::from_bits_retain(r.u16()?);
        let mut bits = u64::from(low) | u64::from(r.u16()?) << 16;
        let length = usize::from(r.u8()?);
        r.bytes(6)?;
        let extended = r.u32()?;
        if bits & Capabilities::LONG_PASSWORD.bits() == 0 {
            bits |= u64::from(extended) << 32;
        }
        let capabilities = Capabilities::from_bits_retain(bits);
        if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let n = length.saturating_sub(8).max(13).min(r.rest().len());
            let tail = r.bytes(n)?;
            scramble.extend(tail.strip_suffix(&[0]).unwrap_or(tail));
        }
        let mut plugin = Vec::new();
        if capabilities.contains(Capabilities::PLUGIN_AUTH) {
            let rest = r.rest();
            plugin = rest.split(|b| *b == 0).next().unwrap_or_default().to_vec();
        }
        Ok(Greeting { version, thread_id, scramble, capabilities, collation, status, plugin })
    }

    /// Its payload.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut p = vec![10];
        p.extend(&self.version);
        p.push(0);
        p.extend(self.thread_id.to_le_bytes());
        let (head, tail) = self.scramble.split_at(self.scramble.len().min(8));
        p.extend(head);
        p.push(0);
        let [l0, l1, l2, l3] = self.capabilities.low().to_le_bytes();
        p.extend([l0, l1]);
        p.push(self.collation);
        p.extend(self.status.bits().to_le_bytes());
        p.extend([l2, l3]);
        p.push(u8::try_from(self.scramble.len() + 1).unwrap_or(u8::MAX));
        p.extend([0; 6]);
        let high = if self.capabilities.contains(Capabilities::LONG_PASSWORD) { 0 } else { self.capabilities.high() };
        p.extend(high.to_le_bytes());
        p.extend(tail);
        p.push(0);
        if self.capabilities.contains(Capabilities::PLUGIN_AUTH) {
            p.extend(&self.plugin);
            p.push(0);
        }
        p
    }
}

/// A client's login, protocol 4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// What the client wants, extended bits included.
    pub capabilities: Capabilities,
    /// Longest packet it takes, bytes.
    pub max_packet: u32,
    /// Connection collation, low byte (ids over 255 come by SET NAMES).
    pub collation: u8,
    /// Account name, in the client's character set.
    pub user: Vec<u8>,
    /// The answer to the scramble.
    pub auth: Vec<u8>,
    /// Initial database.
    pub database: Option<Vec<u8>>,
    /// Authentication plugin.
    pub plugin: Option<Vec<u8>>,
    /// Connection attributes, and whatever follows them, as sent.
    pub attributes: Vec<u8>,
}

/// Bytes of an SSLRequest, and of the fixed head of a HandshakeResponse.
pub const SSL_REQUEST: usize = 32;

/// Capabilities at the head of an SSLRequest or HandshakeResponse.
///
/// # Errors
/// [`Malformed`] if it is shorter than the 32 fixed bytes, or from a client older than 4.1.
pub fn client_capabilities(payload: &[u8]) -> Result<Capabilities, Malformed> {
    let fixed = payload.get(..SSL_REQUEST).ok_or(Malformed("a login of less than 32 bytes"))?;
    let mut r = Reader::new(fixed);
    let mut bits = u64::from(r.u32()?);
    if bits & Capabilities::PROTOCOL_41.bits() == 0 {
        return Err(Malformed("a login without the 4.1 protocol"));
    }
    r.bytes(4 + 1 + 19)?;
    let extended = r.u32()?;
    if bits & Capabilities::LONG_PASSWORD.bits() == 0 {
        bits |= u64::from(extended) << 32;
    }
    Ok(Capabilities::from_bits_retain(bits))
}

impl HandshakeResponse {
    /// Reads a login's payload.
    ///
    /// # Errors
    /// [`Malformed`] if it is short.
    pub fn read(payload: &[u8]) -> Result<HandshakeResponse, Malformed> {
        let capabilities = client_capabilities(payload)?;
        let mut r = Reader::new(payload);
        r.u32()?;
        let max_packet = r.u32()?;
        let collation = r.u8()?;
        r.bytes(23)?;
        let user = r.until_nul()?.to_vec();
        let auth = if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
            r.lenenc_bytes()?.to_vec()
        } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let n = usize::from(r.u8()?);
            r.bytes(n)?.to_vec()
        } else {
            r.until_nul()?.to_vec()
        };
        let mut database = None;
        if capabilities.contains(Capabilities::CONNECT_WITH_DB) && !r.is_empty() {
            let name = until_nul_or_end(&mut r)?;
            database = (!name.is_empty()).then_some(name);
        }
        let mut plugin = None;
        if capabilities.contains(Capabilities::PLUGIN_AUTH) && !r.is_empty() {
            plugin = Some(until_nul_or_end(&mut r)?);
        }
        Ok(HandshakeResponse {
            capabilities,
            max_packet,
            collation,
            user,
            auth,
            database,
            plugin,
            attributes: r.rest().to_vec(),
        })
    }

    /// The SSLRequest that goes before it.
    #[must_use]
    pub fn write_ssl_request(&self) -> Vec<u8> {
        let mut p = Vec::with_capacity(SSL_REQUEST);
        p.extend(self.capabilities.low().to_le_bytes());
        p.extend(self.max_packet.to_le_bytes());
        p.push(self.collation);
        p.extend([0; 19]);
        let high = if self.capabilities.contains(Capabilities::LONG_PASSWORD) { 0 } else { self.capabilities.high() };
        p.extend(high.to_le_bytes());
        p
    }

    /// Its payload.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut p = self.write_ssl_request();
        p.extend(&self.user);
        p.push(0);
        if self.capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC_DATA) {
            put_lenenc_bytes(&mut p, &self.auth);
        } else if self.capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let n = u8::try_from(self.auth.len()).unwrap_or(u8::MAX);
            p.push(n);
            p.extend(self.auth.iter().take(usize::from(n)));
        } else {
            p.extend(&self.auth);
            p.push(0);
        }
        if self.capabilities.contains(Capabilities::CONNECT_WITH_DB) {
            p.extend(self.database.as_deref().unwrap_or_default());
            p.push(0);
        }
        if self.capabilities.contains(Capabilities::PLUGIN_AUTH) {
            p.extend(self.plugin.as_deref().unwrap_or_default());
            p.push(0);
        }
        p.extend(&self.attributes);
        p
    }
}

/// Old clients leave out the final NUL.
fn until_nul_or_end(r: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    if memchr::memchr(0, r.rest()).is_some() {
        return r.until_nul().map(<[u8]>::to_vec);
    }
    let rest = r.rest();
    r.bytes(rest.len()).map(<[u8]>::to_vec)
}

/// A plugin's name and its data.
pub type AuthSwitch<'a> = (&'a [u8], &'a [u8]);

/// AuthSwitchRequest: (plugin, data without its final NUL). `None` for the old form, which asks for the pre-4.1 password.
///
/// # Errors
/// [`Malformed`] if it is none.
pub fn read_auth_switch(payload: &[u8]) -> Result<Option<AuthSwitch<'_>>, Malformed> {
    let mut r = Reader::new(payload);
    if r.u8()? != 0xFE {
        return Err(Malformed("no AuthSwitchRequest"));
    }
    if r.is_empty() {
        return Ok(None);
    }
    if memchr::memchr(0, r.rest()).is_none() {
        return Ok(Some((r.rest(), &[])));
    }
    let plugin = r.until_nul()?;
    let data = r.rest();
    Ok(Some((plugin, data.strip_suffix(&[0]).unwrap_or(data))))
}

/// An AuthSwitchRequest's payload.
#[must_use]
pub fn write_auth_switch(plugin: &[u8], data: &[u8]) -> Vec<u8> {
    let mut p = vec![0xFE];
    p.extend(plugin);
    p.push(0);
    p.extend(data);
    p.push(0);
    p
}

/// The head of COM_CHANGE_USER: what the proxy must know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeUser {
    /// Account name.
    pub user: Vec<u8>,
    /// The answer to the login's scramble.
    pub auth: Vec<u8>,
    /// Database; empty for none.
    pub database: Vec<u8>,
    /// Connection collation.
    pub collation: u16,
    /// Plugin, where it is named.
    pub plugin: Option<Vec<u8>>,
}

impl ChangeUser {
    /// Reads COM_CHANGE_USER's payload (with its command byte).
    ///
    /// # Errors
    /// [`Malformed`] if it is short.
    pub fn read(payload: &[u8], capabilities: Capabilities) -> Result<ChangeUser, Malformed> {
        let mut r = Reader::new(payload);
        r.u8()?;
        let user = r.until_nul()?.to_vec();
        let auth = if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            let n = usize::from(r.u8()?);
            r.bytes(n)?.to_vec()
        } else {
            r.until_nul()?.to_vec()
        };
        let database = until_nul_or_end(&mut r)?;
        let collation = r.u16().unwrap_or(0);
        let plugin = if capabilities.contains(Capabilities::PLUGIN_AUTH) && !r.is_empty() {
            Some(until_nul_or_end(&mut r)?)
        } else {
            None
        };
        Ok(ChangeUser { user, auth, database, collation, plugin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MariaDB 10.11.6, captured.
    const GREETING: &[u8] = b"\x0a5.5.5-10.11.6-MariaDB-0+deb12u1-log\x00\x05\x00\x00\x00KgN;|zxb\x00\xfe\xf7\x2d\x02\x00\xff\x81\x15\x00\x00\x00\x00\x00\x00\x3d\x00\x00\x00vTa2Be|yQ6]X\x00mysql_native_password\x00";

    #[test]
    fn a_mariadb_greeting_round_trips() {
        let g = Greeting::read(GREETING).unwrap();
        assert_eq!(g.thread_id, 5);
        assert_eq!(g.scramble, b"KgN;|zxbvTa2Be|yQ6]X");
        assert_eq!(g.plugin, b"mysql_native_password");
        assert_eq!(g.capabilities.high(), 0x3d);
        assert!(g.capabilities.contains(Capabilities::MARIADB_CACHE_METADATA));
        assert_eq!(g.write(), GREETING);
        for cut in 0..60 {
            assert!(Greeting::read(&GREETING[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_login_round_trips_in_every_form_of_its_secret() {
        for extra in [Capabilities::empty(), Capabilities::SECURE_CONNECTION, Capabilities::PLUGIN_AUTH_LENENC_DATA] {
            let login = HandshakeResponse {
                capabilities: Capabilities::PROTOCOL_41
                    | Capabilities::CONNECT_WITH_DB
                    | Capabilities::PLUGIN_AUTH
                    | Capabilities::MARIADB_PROGRESS
                    | extra,
                max_packet: 1 << 24,
                collation: 45,
                user: b"app".to_vec(),
                auth: b"12345678901234567890".to_vec(),
                database: Some(b"stats".to_vec()),
                plugin: Some(b"mysql_native_password".to_vec()),
                attributes: b"\x05\x01a\x02bc".to_vec(),
            };
            let bytes = login.write();
            assert_eq!(HandshakeResponse::read(&bytes).as_ref(), Ok(&login));
            for cut in 0..36 {
                assert!(HandshakeResponse::read(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn auth_switch_requests_are_read() {
        let p = b"\xfemysql_native_password\x0012345678901234567890\x00";
        assert_eq!(read_auth_switch(p), Ok(Some((&b"mysql_native_password"[..], &b"12345678901234567890"[..]))));
        assert_eq!(read_auth_switch(&[0xFE]), Ok(None));
        assert!(read_auth_switch(&[1]).is_err());
    }
}
