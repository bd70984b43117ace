//! Command bytes, and the parts of COM_STMT_EXECUTE that a re-prepare must touch.
//!
//! Source: MySQL "Command Phase"; MariaDB COM_STMT_BULK_EXECUTE.

use super::codec::Reader;

/// A command's first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// 0x01
    Quit,
    /// 0x02
    InitDb,
    /// 0x03
    Query,
    /// 0x04
    FieldList,
    /// 0x07
    Refresh,
    /// 0x08
    Shutdown,
    /// 0x09
    Statistics,
    /// 0x0a
    ProcessInfo,
    /// 0x0c
    ProcessKill,
    /// 0x0d
    Debug,
    /// 0x0e
    Ping,
    /// 0x11
    ChangeUser,
    /// 0x12
    BinlogDump,
    /// 0x15
    RegisterSlave,
    /// 0x16
    StmtPrepare,
    /// 0x17
    StmtExecute,
    /// 0x18
    StmtSendLongData,
    /// 0x19
    StmtClose,
    /// 0x1a
    StmtReset,
    /// 0x1b
    SetOption,
    /// 0x1c
    StmtFetch,
    /// 0x1e
    BinlogDumpGtid,
    /// 0x1f
    ResetConnection,
    /// 0xfa (MariaDB)
    StmtBulkExecute,
    /// Any other: answered with 1047.
    Unknown(u8),
}

impl From<u8> for Command {
    fn from(byte: u8) -> Command {
        match byte {
            0x01 => Command::Quit,
            0x02 => Command::InitDb,
            0x03 => Command::Query,
            0x04 => Command::FieldList,
            0x07 => Command::Refresh,
            0x08 => Command::Shutdown,
            0x09 => Command::Statistics,
            0x0a => Command::ProcessInfo,
            0x0c => Command::ProcessKill,
            0x0d => Command::Debug,
            0x0e => Command::Ping,
            0x11 => Command::ChangeUser,
            0x12 => Command::BinlogDump,
            0x15 => Command::RegisterSlave,
            0x16 => Command::StmtPrepare,
            0x17 => Command::StmtExecute,
            0x18 => Command::StmtSendLongData,
            0x19 => Command::StmtClose,
            0x1a => Command::StmtReset,
            0x1b => Command::SetOption,
            0x1c => Command::StmtFetch,
            0x1e => Command::BinlogDumpGtid,
            0x1f => Command::ResetConnection,
            0xfa => Command::StmtBulkExecute,
            other => Command::Unknown(other),
        }
    }
}

/// COM_QUERY's byte.
pub const COM_QUERY: u8 = 0x03;
/// COM_INIT_DB's byte.
pub const COM_INIT_DB: u8 = 0x02;
/// COM_PING's byte.
pub const COM_PING: u8 = 0x0e;
/// COM_QUIT's byte.
pub const COM_QUIT: u8 = 0x01;
/// COM_STMT_PREPARE's byte.
pub const COM_STMT_PREPARE: u8 = 0x16;
/// COM_STMT_EXECUTE's byte.
pub const COM_STMT_EXECUTE: u8 = 0x17;
/// COM_STMT_CLOSE's byte.
pub const COM_STMT_CLOSE: u8 = 0x19;
/// COM_CHANGE_USER's byte.
pub const COM_CHANGE_USER: u8 = 0x11;
/// COM_SET_OPTION's byte.
pub const COM_SET_OPTION: u8 = 0x1b;
/// COM_RESET_CONNECTION's byte.
pub const COM_RESET_CONNECTION: u8 = 0x1f;

/// The statement id "the one that was prepared last" (MariaDB).
pub const LAST_PREPARED: u32 = u32::MAX;

/// Bytes before the NULL bitmap of COM_STMT_EXECUTE: command, id, flags, iteration count.
pub(crate) const EXECUTE_FIXED: usize = 10;

/// Where the parameter types of a COM_STMT_EXECUTE payload stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecuteTypes {
    /// Offset of the new-params-bound flag.
    pub flag_at: usize,
    /// Whether types are sent.
    pub bound: bool,
    /// Two bytes a parameter, after the flag.
    pub bytes: usize,
}

/// Finds the types of a COM_STMT_EXECUTE payload for a statement of `parameters` parameters; `None` if it has none or is short.
#[must_use]
pub fn execute_types(payload: &[u8], parameters: u16) -> Option<ExecuteTypes> {
    if parameters == 0 {
        return None;
    }
    let flag_at = EXECUTE_FIXED + usize::from(parameters).div_ceil(8);
    let bound = *payload.get(flag_at)? == 1;
    Some(ExecuteTypes { flag_at, bound, bytes: usize::from(parameters) * 2 })
}

/// The text bound to parameter `index` of a COM_STMT_EXECUTE payload; `None` if it is NULL, no text, or sent as long data.
///
/// `types` are two bytes a parameter; `long` tells which parameters came by COM_STMT_SEND_LONG_DATA: their values are not here.
#[must_use]
pub fn execute_text<'a>(
    payload: &'a [u8],
    parameters: u16,
    types: &[u8],
    long: impl Fn(usize) -> bool,
    index: usize,
) -> Option<&'a [u8]> {
    let place = execute_types(payload, parameters)?;
    let nulls = payload.get(EXECUTE_FIXED..place.flag_at)?;
    let mut values = Reader::new(payload.get(place.flag_at + 1 + if place.bound { place.bytes } else { 0 }..)?);
    for at in 0..=index {
        let null = nulls.get(at / 8)? >> (at % 8) & 1 == 1;
        if null || long(at) {
            if at == index {
                return None;
            }
            continue;
        }
        let text = match *types.get(at * 2)? {
            // TINY; SHORT, YEAR; LONG, FLOAT, INT24; LONGLONG, DOUBLE
            0x01 => values.bytes(1).ok().map(|_| None)?,
            0x02 | 0x0D => values.bytes(2).ok().map(|_| None)?,
            0x03 | 0x04 | 0x09 => values.bytes(4).ok().map(|_| None)?,
            0x05 | 0x08 => values.bytes(8).ok().map(|_| None)?,
            0x06 => None,
            // DATE, DATETIME, TIMESTAMP, TIME, and everything of variable length
            kind => {
                let value = values.lenenc_bytes().ok()?;
                (!matches!(kind, 0x07 | 0x0A..=0x0C)).then_some(value)
            }
        };
        if at == index {
            return text;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_text_is_found_behind_values_of_every_kind() {
        // BIGINT, NULL, DATE, long data, two texts
        let mut p = vec![0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0b10, 1, 8, 0, 15, 0, 10, 0, 0xFC, 0, 0xFD, 0, 15, 0];
        let types = p[12..].to_vec();
        p.extend([5, 0, 0, 0, 0, 0, 0, 0, 4, 0xE6, 7, 1, 2, 2, b'a', b'b', 4, b'h', b'i', b't', b's']);
        let text = |index| execute_text(&p, 6, &types, |at| at == 3, index);
        assert_eq!([0, 1, 2, 3].map(text), [None; 4]);
        assert_eq!((text(4), text(5), text(6)), (Some(&b"ab"[..]), Some(&b"hits"[..]), None));
        assert_eq!(execute_text(&p[..p.len() - 2], 6, &types, |at| at == 3, 5), None);
    }

    #[test]
    fn types_of_an_execute_are_found() {
        // id 1, no cursor, one iteration; 1 parameter, not NULL, bound, type LONGLONG
        let p = [0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 8, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(execute_types(&p, 1), Some(ExecuteTypes { flag_at: 11, bound: true, bytes: 2 }));
        assert_eq!(execute_types(&p, 0), None);
        assert_eq!(execute_types(&p[..11], 1), None);
    }
}
