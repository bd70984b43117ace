//! The answers to several statements of the proxy's own, sent in one packet where that is safe.

use super::Session;
use super::control_flow::Fatal;
use crate::changes::journal::table::Table;
use crate::entry::Row;
use crate::wire::codec::Reader;
use crate::wire::command::{COM_QUERY, COM_SET_OPTION};
use crate::wire::reply::{Expect, Reply, Role};
use crate::wire::{Capabilities, Status, packet};

/// Bytes of answers that are kept: a write of more rows ends its session, and with it the transaction.
const LIMIT: usize = 1 << 30;

/// The answer to one statement.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// OK: its payload.
    Ok(Vec<u8>),
    /// Rows.
    Rows {
        /// Their values.
        rows: Vec<Vec<Option<Vec<u8>>>>,
        /// Payloads of all the packets.
        packets: Vec<Vec<u8>>,
    },
}

/// The answers to all of them, up to the first error.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) list: Vec<Answer>,
    /// The payload of the error that ended them.
    pub(crate) error: Option<Vec<u8>>,
}

impl Answers {
    /// The rows of an answer, as a table's.
    pub(crate) fn rows(&self, at: usize, table: &Table) -> Result<Vec<Row>, String> {
        match self.list.get(at) {
            Some(Answer::Rows { rows, .. }) => rows.iter().map(|row| table.row(row)).collect(),
            _ => Err("no rows".to_owned()),
        }
    }

    /// The number that an answer is.
    pub(crate) fn number(&self, at: usize) -> Option<i64> {
        let Some(Answer::Rows { rows, .. }) = self.list.get(at) else { return None };
        std::str::from_utf8(rows.first()?.first()?.as_deref()?).ok()?.parse().ok()
    }

    /// The packets of an answer, as they are when nothing follows; none where it has no rows.
    pub(crate) fn shown(&self, at: usize) -> Option<Vec<Vec<u8>>> {
        let Some(Answer::Rows { rows, packets }) = self.list.get(at) else { return None };
        if rows.is_empty() {
            return None;
        }
        let mut packets = packets.clone();
        packets.iter_mut().for_each(|payload| clear_status(payload, Status::MORE_RESULTS | Status::IN_TRANS));
        Some(packets)
    }
}

/// Takes flags out of an OK or EOF packet; leaves other packets as they are.
pub(crate) fn clear_status(payload: &mut [u8], flags: Status) {
    let at = match payload.first() {
        Some(0xFE) if payload.len() == 5 => 3,
        Some(0x00 | 0xFE) => {
            let mut r = Reader::new(payload);
            if r.u8().is_err() || r.lenenc().is_err() || r.lenenc().is_err() {
                return;
            }
            payload.len() - r.rest().len()
        }
        _ => return,
    };
    if let Some([low, high]) = payload.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        let kept = u16::from_le_bytes([*low, *high]) & !flags.bits();
        [*low, *high] = kept.to_le_bytes();
    }
}

/// An OK as it is where nothing follows: OceanBase begins its text with a space when another result follows, and gives an empty
/// text where it has none.
pub(crate) fn plain_info(payload: &mut Vec<u8>) {
    let mut r = Reader::new(payload);
    if r.u8().is_err() || r.lenenc().is_err() || r.lenenc().is_err() || r.u32().is_err() {
        return;
    }
    let at = payload.len() - r.rest().len();
    match r.rest() {
        [0] => payload.truncate(at),
        [length, b' ', text @ ..] if usize::from(*length) == text.len() + 1 && *length < 0xFB => {
            let shorter = [&[length - 1], text].concat();
            payload.truncate(at);
            payload.extend(shorter);
        }
        _ => {}
    }
}

/// The values of a row of text.
fn values(payload: &[u8]) -> Result<Vec<Option<Vec<u8>>>, crate::wire::codec::Malformed> {
    let mut r = Reader::new(payload);
    let mut row = Vec::new();
    while !r.is_empty() {
        row.push(r.lenenc_bytes_or_null()?.map(<[u8]>::to_vec));
    }
    Ok(row)
}

impl Session {
    /// Runs statements one after another, up to the first error: in one packet, or each in its own.
    pub(crate) async fn ask_parts(&mut self, at: usize, parts: &[Vec<u8>], together: bool) -> Result<Answers, Fatal> {
        let mut answers = Answers::default();
        if together {
            self.send_parts(at, &parts.join(b"\n;".as_slice()), &mut answers).await?;
            return Ok(answers);
        }
        for part in parts {
            self.send_parts(at, part, &mut answers).await?;
            if answers.error.is_some() {
                break;
            }
        }
        Ok(answers)
    }

    async fn send_parts(&mut self, at: usize, sql: &[u8], answers: &mut Answers) -> Result<(), Fatal> {
        let option = !self.capabilities.contains(Capabilities::MULTI_STATEMENTS);
        let Some(leg) = self.legs.get_mut(at) else { return Err(Fatal::Quit) };
        let mut out = Vec::with_capacity(sql.len() + 32);
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(sql);
        // for this packet alone: what keeps injected statements out must go on doing so (RULES.md 22)
        if option {
            packet::put(&mut out, 0, &[COM_SET_OPTION, 0, 0]);
        }
        packet::put(&mut out, 0, &command);
        if option {
            packet::put(&mut out, 0, &[COM_SET_OPTION, 1, 0]);
        }
        leg.busy = true;
        leg.backend.stream.write(&out).await.map_err(|e| leg.lost(e))?;
        if option {
            super::relay::swallow(leg, Expect::Ok)
                .await?
                .map_err(|e| leg.lost(std::io::Error::other(e.to_string())))?;
            leg.busy = true;
        }
        let mut reply = Reply::new(Expect::Results, leg.backend.capabilities);
        let (mut rows, mut packets, mut columns, mut size) = (Vec::new(), Vec::new(), false, 0);
        while !reply.is_done() {
            let (header, payload) = leg.backend.packet().await.map_err(|e| leg.lost(e))?;
            let in_rows = reply.in_rows();
            size += payload.len();
            if size > LIMIT {
                return Err(
                    leg.nonsense(crate::wire::codec::Malformed("rows of more than 1 GiB, which is too much to record"))
                );
            }
            let prefix = payload.get(..payload.len().min(32)).unwrap_or_default();
            let role = reply.packet(header, prefix).map_err(|e| leg.nonsense(e))?;
            if let Some(status) = reply.outcome().status {
                leg.backend.status = status;
            }
            match role {
                Role::Part => {
                    columns = true;
                    if in_rows && reply.in_rows() {
                        rows.push(values(&payload).map_err(|e| leg.nonsense(e))?);
                    }
                    packets.push(payload);
                }
                Role::ResultEnd | Role::Last if std::mem::take(&mut columns) => {
                    packets.push(payload);
                    let (rows, packets) = (std::mem::take(&mut rows), std::mem::take(&mut packets));
                    answers.list.push(Answer::Rows { rows, packets });
                }
                Role::ResultEnd | Role::Last => answers.list.push(Answer::Ok(payload)),
                Role::Error => {
                    answers.error = Some(payload);
                    break;
                }
                Role::LocalInfile => return Err(leg.nonsense(crate::wire::codec::Malformed("a file is asked for"))),
            }
        }
        if option {
            super::relay::swallow(leg, Expect::Ok)
                .await?
                .map_err(|e| leg.lost(std::io::Error::other(e.to_string())))?;
        }
        leg.busy = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ok_is_as_if_nothing_followed() {
        let mut ok = b"\0\x01\0\x2b\0\0\0\x05 Rows".to_vec();
        clear_status(&mut ok, Status::MORE_RESULTS | Status::IN_TRANS);
        plain_info(&mut ok);
        assert_eq!(ok, b"\0\x01\0\x22\0\0\0\x04Rows");
        let mut empty = b"\0\x01\0\x02\0\0\0\0".to_vec();
        plain_info(&mut empty);
        assert_eq!(empty, b"\0\x01\0\x02\0\0\0");
        let mut eof = vec![0xFE, 0, 0, 0x0A, 0];
        clear_status(&mut eof, Status::MORE_RESULTS);
        assert_eq!(eof, [0xFE, 0, 0, 2, 0]);
    }
}
