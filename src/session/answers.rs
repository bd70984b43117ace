//! The answers to several statements of the proxy's own, sent in one packet where that is safe.

use super::Session;
use super::control_flow::Fatal;
use super::journaled::is_one_for_all;
use super::leg::Leg;
use crate::changes::journal::record::Before;
use crate::changes::journal::table::Table;
use crate::entry::Row;
use crate::wire::codec::{Malformed, Reader};
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

    /// The same, with what stands behind the table's columns.
    pub(crate) fn before(&self, at: usize, table: &Table) -> Result<Before, String> {
        let Some(Answer::Rows { rows, .. }) = self.list.get(at) else { return Err("no rows".to_owned()) };
        let width = table.columns.len();
        let read = |row: &Vec<_>| table.row(row.get(..width).unwrap_or_default());
        let computed = rows.iter().map(|row| row.get(width..).unwrap_or_default().to_vec()).collect();
        Ok(Before { rows: rows.iter().map(read).collect::<Result<_, _>>()?, computed })
    }

    /// How many rows an answer has.
    pub(crate) fn count(&self, at: usize) -> u64 {
        if let Some(Answer::Rows { rows, .. }) = self.list.get(at) { rows.len() as u64 } else { 0 }
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
    change_status(payload, |status| status & !flags.bits());
}

/// Puts flags into an OK or EOF packet.
pub(crate) fn set_status(payload: &mut [u8], flags: Status) {
    change_status(payload, |status| status | flags.bits());
}

fn change_status(payload: &mut [u8], change: impl Fn(u16) -> u16) {
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
        let kept = change(u16::from_le_bytes([*low, *high]));
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
fn values(payload: &[u8]) -> Result<Vec<Option<Vec<u8>>>, Malformed> {
    let mut r = Reader::new(payload);
    let mut row = Vec::new();
    while !r.is_empty() {
        row.push(r.lenenc_bytes_or_null()?.map(<[u8]>::to_vec));
    }
    Ok(row)
}

/// What is recorded, among the questions around it.
pub(crate) enum Write {
    /// Its text; whether that is one statement for everybody, however it is read: then it may stand between others.
    Text(Vec<u8>, bool),
    /// Commands, framed, the last of which has an answer.
    Packets(Vec<u8>),
}

impl Session {
    /// Runs statements of the proxy's own one after another, up to the first error, in one packet.
    pub(crate) async fn ask_parts(&mut self, at: usize, parts: &[Vec<u8>]) -> Result<Answers, Fatal> {
        let mut answers = Answers::default();
        self.ask_joined(at, parts, &mut answers).await?;
        Ok(answers)
    }

    /// Runs a write with questions before and after it, up to the first error: all in one packet, or what may not stand among
    /// others in its own, each when the one before it has been answered.
    pub(crate) async fn ask_around(
        &mut self,
        at: usize,
        before: &[Vec<u8>],
        write: &Write,
        after: &[Vec<u8>],
    ) -> Result<Answers, Fatal> {
        let mut answers = Answers::default();
        let alone = match write {
            Write::Text(text, true) => {
                let parts: Vec<Vec<u8>> = before.iter().chain([text]).chain(after).cloned().collect();
                self.ask_joined(at, &parts, &mut answers).await?;
                return Ok(answers);
            }
            Write::Text(text, false) => commanded(text),
            Write::Packets(packets) => packets.clone(),
        };
        self.ask_joined(at, before, &mut answers).await?;
        if answers.error.is_none() {
            self.exchange(at, &alone, false, &mut answers).await?;
        }
        if answers.error.is_none() {
            self.ask_joined(at, after, &mut answers).await?;
        }
        Ok(answers)
    }

    /// Questions in one packet, but for those that may not stand among others.
    async fn ask_joined(&mut self, at: usize, parts: &[Vec<u8>], answers: &mut Answers) -> Result<(), Fatal> {
        for group in parts.chunk_by(|a, b| is_one_for_all(a) && is_one_for_all(b)) {
            self.exchange(at, &commanded(&group.join(b"\n;".as_slice())), true, answers).await?;
            if answers.error.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Sends framed commands of which the last has an answer, and reads that.
    async fn exchange(&mut self, at: usize, framed: &[u8], several: bool, answers: &mut Answers) -> Result<(), Fatal> {
        let option = several && !self.capabilities.contains(Capabilities::MULTI_STATEMENTS);
        let Some(leg) = self.legs.get_mut(at) else { return Err(Fatal::Quit) };
        let mut out = Vec::with_capacity(framed.len() + 16);
        // for this packet alone: what keeps injected statements out must go on doing so (RULES.md 22)
        if option {
            packet::put(&mut out, 0, &[COM_SET_OPTION, 0, 0]);
        }
        out.extend_from_slice(framed);
        if option {
            packet::put(&mut out, 0, &[COM_SET_OPTION, 1, 0]);
        }
        leg.busy = true;
        leg.backend.stream.write(&out).await.map_err(|e| leg.lost(e))?;
        if option {
            option_set(leg).await?;
            leg.busy = true;
        }
        read_answers(leg, answers).await?;
        if option {
            option_set(leg).await?;
        }
        leg.busy = false;
        Ok(())
    }
}

/// COM_QUERY with this text, framed.
pub(super) fn commanded(sql: &[u8]) -> Vec<u8> {
    let mut command = Vec::with_capacity(sql.len() + 1);
    command.push(COM_QUERY);
    command.extend_from_slice(sql);
    let mut out = Vec::with_capacity(command.len() + 8);
    packet::put(&mut out, 0, &command);
    out
}

async fn option_set(leg: &mut Leg) -> Result<(), Fatal> {
    let set = super::relay::swallow(leg, Expect::Ok).await?;
    set.map_err(|e| leg.lost(std::io::Error::other(e.to_string())))
}

async fn read_answers(leg: &mut Leg, answers: &mut Answers) -> Result<(), Fatal> {
    let mut reply = Reply::new(Expect::Results, leg.backend.capabilities);
    let (mut rows, mut packets, mut columns, mut size) = (Vec::new(), Vec::new(), false, 0);
    while !reply.is_done() {
        let (header, payload) = leg.backend.packet().await.map_err(|e| leg.lost(e))?;
        let in_rows = reply.in_rows();
        size += payload.len();
        if size > LIMIT {
            return Err(leg.nonsense(Malformed("rows of more than 1 GiB, which is too much to record")));
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
            Role::LocalInfile => return Err(leg.nonsense(Malformed("a file is asked for"))),
        }
    }
    Ok(())
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
