//! Event headers and checksums of binlog version 4.

use crate::wire::codec::{Malformed, Reader};

/// Bytes of a header.
pub const HEADER: usize = 19;
/// The event may be passed over by who does not know it.
pub const IGNORABLE: u16 = 0x80;

/// One event, its checksum checked and cut off.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Seconds since 1970.
    pub timestamp: u32,
    /// Its type.
    pub code: u8,
    /// `server_id` of the server that wrote it first.
    pub server: u32,
    /// Offset of the next event in its file, bytes.
    pub next: u32,
    /// Flags.
    pub flags: u16,
    /// What stands behind the header.
    pub body: &'a [u8],
}

/// Types of events.
pub mod code {
    #![allow(missing_docs, reason = "the names of MySQL's and MariaDB's own sources")]
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const MYSQL_GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const XA_PREPARE: u8 = 38;
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const GTID: u8 = 162;
    pub const GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// Reads an event; `checksums` says whether its last four bytes are a CRC32. Where that is not known yet (the rotation that a server
/// makes up before its format description), they are one if they fit: not every server puts one there.
///
/// # Errors
/// [`Malformed`] where it ends early or its checksum is another.
pub fn read(bytes: &[u8], checksums: Option<bool>) -> Result<Event<'_>, Malformed> {
    let mut r = Reader::new(bytes);
    let timestamp = r.u32()?;
    let code = r.u8()?;
    let server = r.u32()?;
    let length = r.u32()?;
    let next = r.u32()?;
    let flags = r.u16()?;
    if usize::try_from(length).ok() != Some(bytes.len()) {
        return Err(Malformed("an event of another length than it says"));
    }
    let mut body = r.rest();
    // a format description always carries one: its own body says of which kind
    if checksums != Some(false) && code != code::FORMAT_DESCRIPTION {
        let (covered, sum) = bytes.split_last_chunk::<4>().ok_or(Malformed("an event without its checksum"))?;
        let mut crc = flate2::Crc::new();
        crc.update(covered);
        if crc.sum() == u32::from_le_bytes(*sum) {
            body = body.get(..body.len().saturating_sub(4)).unwrap_or_default();
        } else if checksums == Some(true) {
            return Err(Malformed("an event whose checksum is another: the network or the disk changed it"));
        }
    }
    Ok(Event { timestamp, code, server, next, flags, body })
}

/// Whether events after this format description carry checksums.
///
/// # Errors
/// [`Malformed`] for another version of binlogs than 4, or unknown checksums.
pub fn has_checksums(body: &[u8]) -> Result<bool, Malformed> {
    let mut r = Reader::new(body);
    if r.u16()? != 4 {
        return Err(Malformed("no binlog of version 4"));
    }
    r.bytes(50)?;
    r.u32()?;
    if r.u8()? != 19 {
        return Err(Malformed("event headers of another length than 19"));
    }
    // the kind of checksum, and the checksum of this event itself
    let (_, [algorithm, ..]) = r.rest().split_last_chunk::<5>().ok_or(Malformed("it ends early"))?;
    match algorithm {
        0 | 255 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("checksums of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(code: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.push(code);
        bytes.extend([1, 0, 0, 0]);
        bytes.extend(u32::try_from(HEADER + body.len() + 4).unwrap().to_le_bytes());
        bytes.extend([0; 6]);
        bytes.extend(body);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes);
        bytes.extend(crc.sum().to_le_bytes());
        bytes
    }

    /// What a server makes up before it says whether there are checksums.
    #[test]
    fn a_checksum_is_told_from_a_name() {
        let name = b"\x04\0\0\0\0\0\0\0binlog.000001";
        let summed = event(code::ROTATE, name);
        assert_eq!(read(&summed, None).unwrap().body, name);
        let mut bare = summed[..summed.len() - 4].to_vec();
        bare[9] -= 4;
        assert_eq!(read(&bare, None).unwrap().body, name);
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let good = event(code::XID, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(read(&good, Some(true)).unwrap().body, [1, 2, 3, 4, 5, 6, 7, 8]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // (an event that calls itself a format description has its checksum looked at by nobody)
            assert!(read(&bad, Some(true)).is_err() || bad[4] == code::FORMAT_DESCRIPTION, "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(read(&good[..cut], Some(true)).is_err());
        }
    }
}
