//! OkPacket, ErrPacket, EofPacket.
//!
//! Source: MySQL "OK_Packet", "ERR_Packet", "EOF_Packet"; MariaDB progress reports (an ERR packet with code 0xFFFF).

use super::capability::{Capabilities, Status};
use super::codec::{Malformed, Reader, put_lenenc, put_lenenc_bytes};
use super::packet;

/// The part of an OK packet that the proxy reads; its info text and session state are relayed unread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OkPacket {
    /// Affected rows.
    pub affected_rows: u64,
    /// The insert id that the statement reports (not LAST_INSERT_ID(): RULES.md 17).
    pub last_insert_id: u64,
    /// Status flags.
    pub status: Status,
    /// Number of warnings.
    pub warnings: u16,
}

impl OkPacket {
    /// Reads the fixed part of an OK packet (header 0x00, or 0xFE with DEPRECATE_EOF).
    ///
    /// # Errors
    /// [`Malformed`] if it is short.
    pub fn read(payload: &[u8]) -> Result<OkPacket, Malformed> {
        let mut r = Reader::new(payload);
        r.u8()?;
        let affected_rows = r.lenenc()?;
        let last_insert_id = r.lenenc()?;
        let status = Status::from_bits_retain(r.u16()?);
        Ok(OkPacket { affected_rows, last_insert_id, status, warnings: r.u16()? })
    }

    /// The payload `ok` with another info text, as it stands where no session state follows.
    ///
    /// # Errors
    /// [`Malformed`] if it is short.
    pub fn with_info(ok: &[u8], info: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut r = Reader::new(ok);
        r.u8()?;
        r.lenenc()?;
        r.lenenc()?;
        let status = Status::from_bits_retain(r.u16()?);
        r.u16()?;
        let rest = r.rest();
        let mut out = ok.get(..ok.len() - rest.len()).unwrap_or_default().to_vec();
        put_lenenc_bytes(&mut out, info);
        if status.contains(Status::SESSION_STATE_CHANGED) && !rest.is_empty() {
            r.lenenc_bytes()?;
            out.extend(r.rest());
        }
        Ok(out)
    }

    /// Its payload, with header 0x00 and no info.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut p = vec![0];
        put_lenenc(&mut p, self.affected_rows);
        put_lenenc(&mut p, self.last_insert_id);
        p.extend(self.status.bits().to_le_bytes());
        p.extend(self.warnings.to_le_bytes());
        p
    }

    /// Appends it as a packet.
    pub fn put(&self, out: &mut Vec<u8>, sequence: u8) -> u8 {
        packet::put(out, sequence, &self.write())
    }
}

/// Appends the packet that ends rows or a SET_OPTION: EOF, or OK with header 0xFE where DEPRECATE_EOF was agreed.
pub fn put_end(out: &mut Vec<u8>, sequence: u8, status: Status, caps: Capabilities) -> u8 {
    let s = status.bits().to_le_bytes();
    let [s0, s1] = s;
    if caps.contains(Capabilities::DEPRECATE_EOF) {
        packet::put(out, sequence, &[0xFE, 0, 0, s0, s1, 0, 0])
    } else {
        packet::put(out, sequence, &[0xFE, 0, 0, s0, s1])
    }
}

/// An error as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrPacket {
    /// MySQL error code.
    pub code: u16,
    /// SQLSTATE; absent before login (RULES.md 4).
    pub sqlstate: Option<[u8; 5]>,
    /// Text.
    pub message: Vec<u8>,
}

impl ErrPacket {
    /// An error of the proxy's own.
    #[must_use]
    pub fn new(code: u16, sqlstate: &[u8; 5], message: impl Into<String>) -> ErrPacket {
        ErrPacket { code, sqlstate: Some(*sqlstate), message: message.into().into_bytes() }
    }

    /// Reads an ERR packet's payload.
    ///
    /// # Errors
    /// [`Malformed`] if it is short.
    pub fn read(payload: &[u8]) -> Result<ErrPacket, Malformed> {
        let mut r = Reader::new(payload);
        if r.u8()? != 0xFF {
            return Err(Malformed("no ERR packet"));
        }
        let code = r.u16()?;
        let mut sqlstate = None;
        if r.rest().first() == Some(&b'#')
            && let Some((state, _)) = r.rest().get(1..).and_then(|s| s.split_first_chunk::<5>())
        {
            sqlstate = Some(*state);
            r.bytes(6)?;
        }
        Ok(ErrPacket { code, sqlstate, message: r.rest().to_vec() })
    }

    /// Appends it as a packet.
    pub fn put(&self, out: &mut Vec<u8>, sequence: u8) -> u8 {
        let mut p = vec![0xFF];
        p.extend(self.code.to_le_bytes());
        if let Some(state) = self.sqlstate {
            p.push(b'#');
            p.extend(state);
        }
        p.extend(&self.message);
        packet::put(out, sequence, &p)
    }
}

impl std::fmt::Display for ErrPacket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(s) = self.sqlstate {
            write!(f, " ({})", String::from_utf8_lossy(&s))?;
        }
        write!(f, ": {}", String::from_utf8_lossy(&self.message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MariaDB 10.11: `SELECT * FROM nope`.
    const ERR: &[u8] = b"\xff\x7a\x04#42S02Table 'test.nope' doesn't exist";

    #[test]
    fn err_packets_round_trip() {
        let e = ErrPacket::read(ERR).unwrap();
        assert_eq!((e.code, e.sqlstate), (1146, Some(*b"42S02")));
        let mut out = Vec::new();
        e.put(&mut out, 1);
        assert_eq!(&out[packet::HEADER..], ERR);
        // before login there is no SQLSTATE
        let early = ErrPacket::read(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!((early.code, early.sqlstate), (1040, None));
        assert!(ErrPacket::read(b"\xff\x10").is_err());
    }

    #[test]
    fn ok_packets_round_trip() {
        let ok = OkPacket { affected_rows: 300, last_insert_id: 7, status: Status::AUTOCOMMIT, warnings: 2 };
        let mut out = Vec::new();
        ok.put(&mut out, 1);
        assert_eq!(OkPacket::read(&out[packet::HEADER..]), Ok(ok));
        assert!(OkPacket::read(&out[packet::HEADER..8]).is_err());
    }
}
