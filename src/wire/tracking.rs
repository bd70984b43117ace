//! Session state that rides in OK packets (CLIENT_SESSION_TRACK), read for the session, and taken out for a client that did not ask.
//!
//! Source: MySQL "OK_Packet", "Session State Change Information"; MariaDB "OK_Packet". Measured on MariaDB 10.11 on two
//! connections that differ in CLIENT_SESSION_TRACK alone: an OK packet differs only where something has changed. Then, for the
//! one that asked, SERVER_SESSION_STATE_CHANGED is set, the info text is there even if empty, and the changes follow it; for the
//! other, none of the three. EOF packets are the same on both (the flag may be set, nothing follows). So packets without the flag,
//! which are all but those of SET, USE and the like, are relayed unread whatever was agreed on.

use super::capability::Status;
use super::codec::{Malformed, Reader, put_lenenc};

/// One change that a store reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A session variable has this value now.
    Variable {
        /// Its name, in lower case.
        name: Box<str>,
        /// Its value, as SHOW VARIABLES prints it.
        value: Box<[u8]>,
    },
    /// The current database.
    Schema(Box<str>),
    /// Something has changed, it does not say what (`session_track_state_change`).
    Unsaid,
    /// What does not concern the session's state (a transaction's, a GTID).
    Other,
}

/// The longest OK packet with changes that is read: their values are names and short lists.
pub const LIMIT: usize = 1 << 20;

/// Types of changes, as they stand in the packet.
const SYSTEM_VARIABLES: u8 = 0;
const SCHEMA: u8 = 1;
const STATE_CHANGE: u8 = 2;

/// The parts of an OK packet's payload.
struct Parts<'a> {
    /// Where the status flags stand.
    status_at: usize,
    /// Where the fixed part ends.
    fixed: usize,
    info: &'a [u8],
    changes: &'a [u8],
}

fn parts(payload: &[u8]) -> Result<Parts<'_>, Malformed> {
    let mut r = Reader::new(payload);
    r.u8()?;
    r.lenenc()?;
    r.lenenc()?;
    let status_at = payload.len() - r.rest().len();
    r.bytes(4)?;
    let fixed = payload.len() - r.rest().len();
    // a store may set the flag and have nothing to say
    let mut text = || if r.is_empty() { Ok::<&[u8], Malformed>(&[]) } else { r.lenenc_bytes() };
    Ok(Parts { status_at, fixed, info: text()?, changes: text()? })
}

/// The changes that an OK packet reports; it must carry SERVER_SESSION_STATE_CHANGED.
///
/// # Errors
/// [`Malformed`] if it is short.
pub fn changes(payload: &[u8]) -> Result<Vec<Change>, Malformed> {
    let mut r = Reader::new(parts(payload)?.changes);
    let mut out = Vec::new();
    while !r.is_empty() {
        let kind = r.u8()?;
        let mut entry = Reader::new(r.lenenc_bytes()?);
        match kind {
            SYSTEM_VARIABLES => {
                while !entry.is_empty() {
                    let name = String::from_utf8_lossy(entry.lenenc_bytes()?).to_ascii_lowercase().into();
                    out.push(Change::Variable { name, value: entry.lenenc_bytes()?.into() });
                }
            }
            SCHEMA => out.push(Change::Schema(String::from_utf8_lossy(entry.lenenc_bytes()?).into())),
            STATE_CHANGE => out.push(Change::Unsaid),
            _ => out.push(Change::Other),
        }
    }
    Ok(out)
}

/// The same OK packet as the store would have sent it to a client that did not ask for changes.
///
/// # Errors
/// [`Malformed`] if it is short.
pub fn without_changes(payload: &[u8]) -> Result<Vec<u8>, Malformed> {
    let parts = parts(payload)?;
    let mut out = payload.get(..parts.fixed).unwrap_or_default().to_vec();
    if let Some([low, high]) = out.get_mut(parts.status_at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        let status = Status::from_bits_retain(u16::from_le_bytes([*low, *high])) - Status::SESSION_STATE_CHANGED;
        [*low, *high] = status.bits().to_le_bytes();
    }
    if !parts.info.is_empty() {
        put_lenenc(&mut out, parts.info.len() as u64);
        out.extend_from_slice(parts.info);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str, value: &str) -> Change {
        Change::Variable { name: name.into(), value: value.as_bytes().into() }
    }

    #[test]
    fn changes_are_read_and_taken_out() {
        // MariaDB 10.11: USE t2; SET NAMES latin1; SELECT f() that sets time_zone (an OK that stands for EOF)
        let schema = b"\x00\x00\x00\x02\xc0\x00\x00\x00\x05\x01\x03\x02t2";
        assert_eq!(changes(schema), Ok(vec![Change::Schema("t2".into())]));
        assert_eq!(without_changes(schema).unwrap(), b"\x00\x00\x00\x02\x80\x00\x00");
        let names = b"\x00\x00\x00\x02@\x00\x00\x00_\x00\x1c\x14character_set_client\x06latin1\x00 \x18character_set_connection\x06latin1\
            \x00\x1d\x15character_set_results\x06latin1";
        let each = ["client", "connection", "results"].map(|n| variable(&format!("character_set_{n}"), "latin1"));
        assert_eq!(changes(names), Ok(each.to_vec()));
        let end = b"\xfe\x00\x00\x02\xc0\x00\x00\x00\x13\x00\x11\ttime_zone\x06+02:00";
        assert_eq!(changes(end), Ok(vec![variable("time_zone", "+02:00")]));
        assert_eq!(without_changes(end).unwrap(), b"\xfe\x00\x00\x02\x80\x00\x00");
    }

    #[test]
    fn the_info_stays() {
        let both = b"\x00\x01\x02\x02\x40\x00\x00\x02hi\x05\x01\x03\x02t2";
        assert_eq!(without_changes(both).unwrap(), b"\x00\x01\x02\x02\x00\x00\x00\x02hi");
        assert!(changes(&both[..9]).is_err() && without_changes(&both[..12]).is_err());
        assert_eq!(changes(&both[..10]), Ok(vec![]));
        // what is unknown is counted, not read
        assert_eq!(changes(b"\x00\x00\x00\x02\x40\x00\x00\x00\x04\x05\x02ab"), Ok(vec![Change::Other]));
    }
}
