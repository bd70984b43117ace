//! Where a response ends: a state machine over the bytes that a store sends, without I/O and without copying.
//!
//! ```text
//!            ┌─────────────── MORE_RESULTS ────────────────┐
//!            ▼                                             │
//!  First ── OK/ERR ─► end                                  │
//!    │ ── 0xFB ─► (LOCAL INFILE: the client's file) ─► First
//!    └─ column count ─► Columns ─► [EOF] ─► Rows ─► EOF/OK ┴─► end
//! ```
//!
//! Rows are never decoded: of each, five bytes are looked at. The caller keeps bytes that [`Reply::feed`] did not consume
//! (less than one packet's first 36 bytes) and offers them again with those that follow, so that any split of a stream gives
//! the same boundaries. Source: MySQL "Command Phase" (COM_QUERY response, binary protocol result set), MariaDB progress reports.

use super::capability::{Capabilities, Status};
use super::codec::{Malformed, Reader};
use super::packet::{HEADER, Header};
use super::response::OkPacket;

/// Payload bytes of a packet that the machine may look at.
const PREFIX: usize = 32;

/// The shape of the response that a command gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// COM_QUERY, COM_STMT_EXECUTE without a cursor, COM_STMT_BULK_EXECUTE, COM_PROCESS_INFO: OK, ERR, LOCAL INFILE or result sets.
    Results,
    /// COM_STMT_EXECUTE that asks for a cursor: the rows may be left to COM_STMT_FETCH.
    Cursor,
    /// COM_STMT_PREPARE.
    Prepare,
    /// COM_FIELD_LIST: column definitions.
    FieldList,
    /// COM_STMT_FETCH: rows.
    Fetch,
    /// COM_STATISTICS: one packet of text.
    Text,
    /// One OK, EOF or ERR.
    Ok,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    First,
    Columns { left: u64 },
    ColumnsEnd,
    Rows,
    Prepare,
    Parameters { left: u32, columns: u32 },
    ParametersEnd { columns: u32 },
    PreparedColumns { left: u32 },
    PreparedColumnsEnd,
    FieldList,
    Text,
    Ok,
    End,
}

/// What the machine found at the end of the bytes that it consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The response goes on.
    More,
    /// The response is complete; bytes after it do not belong to it.
    Done,
    /// The store asks for a file: the client answers with packets up to an empty one, then the response goes on.
    LocalInfile,
    /// The next packet is the ERR that ends the response; seen only with [`Reply::hold_errors`], and not consumed yet.
    Error,
    /// The next packet, of so many bytes with its header, is an OK that reports changes of session state. It is not consumed, and
    /// the machine has passed it: the caller takes it whole ([`super::tracking`]) and goes on behind it.
    Changed(usize),
}

/// Progress of [`Reply::feed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How many of the offered bytes belong to the response so far.
    pub consumed: usize,
    /// What comes now.
    pub event: Event,
}

/// The role of one packet, as [`Reply::packet`] sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Inside the response.
    Part,
    /// The OK or EOF that ends one of several results; another follows.
    ResultEnd,
    /// The last packet of the response.
    Last,
    /// The ERR that ends the response.
    Error,
    /// A LOCAL INFILE request.
    LocalInfile,
}

/// COM_STMT_PREPARE_OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// The store's statement id.
    pub id: u32,
    /// Columns of its result.
    pub columns: u16,
    /// Its parameters.
    pub parameters: u16,
}

/// What is known of the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Status flags of the newest OK or EOF.
    pub status: Option<Status>,
    /// The newest OK packet that was no end of rows.
    pub ok: Option<OkPacket>,
    /// The error that ended the response.
    pub error: Option<u16>,
    /// The newest insert id of any OK packet that was not 0.
    pub insert_id: u64,
    /// Warnings that the newest OK or EOF counts.
    pub warnings: u16,
    /// Rows so far.
    pub rows: u64,
    /// Bytes of it that were passed on, as [`Reply::passed`] was told.
    pub bytes: u64,
    /// Whether a result set was part of it.
    pub result_set: bool,
    /// The answer to COM_STMT_PREPARE.
    pub prepared: Option<Prepared>,
    /// Some OK or EOF says that session state has changed; an EOF cannot say what.
    pub changed: bool,
}

/// The machine; one per response.
#[derive(Debug, Clone)]
pub struct Reply {
    state: State,
    capabilities: Capabilities,
    /// Payload bytes of the packet in flight that were not passed over yet.
    skip: usize,
    /// The packet in flight is of the longest size: the next packet continues its payload.
    continues: bool,
    hold_errors: bool,
    /// The packet in flight is a LOCAL INFILE request.
    asks_for_file: bool,
    may_open_cursor: bool,
    /// The newest packet is an OK that reports changes.
    reports: bool,
    /// The newest packet is a column count that no columns follow.
    bare: bool,
    outcome: Outcome,
}

impl Reply {
    /// A machine for the response to one command on a connection with these capabilities.
    #[must_use]
    pub fn new(expect: Expect, capabilities: Capabilities) -> Reply {
        let state = match expect {
            Expect::Results | Expect::Cursor => State::First,
            Expect::Prepare => State::Prepare,
            Expect::FieldList => State::FieldList,
            Expect::Fetch => State::Rows,
            Expect::Text => State::Text,
            Expect::Ok => State::Ok,
        };
        Reply {
            state,
            capabilities,
            skip: 0,
            continues: false,
            hold_errors: false,
            asks_for_file: false,
            may_open_cursor: expect == Expect::Cursor,
            reports: false,
            bare: false,
            outcome: Outcome::default(),
        }
    }

    /// Stop in front of the ERR that ends the response ([`Event::Error`]) instead of consuming it.
    pub fn hold_errors(&mut self, hold: bool) {
        self.hold_errors = hold;
    }

    /// What is known so far.
    #[must_use]
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// So many more bytes of the response were passed on.
    pub fn passed(&mut self, bytes: usize) {
        self.outcome.bytes += bytes as u64;
    }

    /// Whether the response is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::End && self.skip == 0
    }

    /// Whether bytes of the response were seen.
    #[must_use]
    pub fn in_rows(&self) -> bool {
        self.state == State::Rows
    }

    /// Whether the next packet is the EOF between columns and rows.
    #[must_use]
    pub fn at_columns_end(&self) -> bool {
        self.state == State::ColumnsEnd
    }

    /// Whether the packet that [`Reply::packet`] took last is an OK that reports changes of session state.
    pub fn reports_changes(&mut self) -> bool {
        std::mem::take(&mut self.reports)
    }

    /// Whether the packet that [`Reply::packet`] took last is a column count, with its columns left out: the client is held to have
    /// them (MARIADB_CLIENT_CACHE_METADATA).
    pub fn leaves_out_columns(&mut self) -> bool {
        std::mem::take(&mut self.bare)
    }

    /// Whether the next packet is a column definition in the answer to COM_STMT_PREPARE.
    #[must_use]
    pub fn at_prepared_column(&self) -> bool {
        matches!(self.state, State::PreparedColumns { .. })
    }

    /// Passes over the response bytes at the start of `bytes`.
    ///
    /// # Errors
    /// [`Malformed`] if a packet cannot stand where it stands; nothing after it can be trusted.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Step, Malformed> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if self.skip > 0 {
                let n = self.skip.min(rest.len());
                self.skip -= n;
                at += n;
                if self.skip > 0 {
                    return Ok(Step { consumed: at, event: Event::More });
                }
                if std::mem::take(&mut self.asks_for_file) {
                    return Ok(Step { consumed: at, event: Event::LocalInfile });
                }
                continue;
            }
            if self.state == State::End && !self.continues {
                return Ok(Step { consumed: at, event: Event::Done });
            }
            if let State::Rows | State::Columns { .. } = self.state
                && !self.continues
            {
                let passed = if self.state == State::Rows { self.rows(rest) } else { self.columns(rest) };
                if passed > 0 {
                    at += passed;
                    continue;
                }
            }
            let Some(header) = Header::read(rest) else {
                return Ok(Step { consumed: at, event: Event::More });
            };
            let Some(prefix) = rest.get(HEADER..HEADER + header.len().min(PREFIX)) else {
                return Ok(Step { consumed: at, event: Event::More });
            };
            let held = if self.hold_errors && !self.continues { Some(self.clone()) } else { None };
            let role = self.packet(header, prefix)?;
            if let (Role::Error, Some(before)) = (role, held) {
                let error = self.outcome.error;
                *self = before;
                self.outcome.error = error;
                return Ok(Step { consumed: at, event: Event::Error });
            }
            if self.reports_changes() {
                return Ok(Step { consumed: at, event: Event::Changed(HEADER + header.len()) });
            }
            at += HEADER;
            let here = header.len().min(bytes.len() - at);
            at += here;
            self.skip = header.len() - here;
            // the client answers when it has the whole name of the file, which may come in several reads
            self.asks_for_file = role == Role::LocalInfile;
            if self.asks_for_file && self.skip == 0 {
                self.asks_for_file = false;
                return Ok(Step { consumed: at, event: Event::LocalInfile });
            }
        }
    }

    /// The hot loop: passes over whole rows, and over the head of one that is cut; returns the bytes passed.
    fn rows(&mut self, bytes: &[u8]) -> usize {
        let (mut at, mut before) = (0, 0);
        while let Some(length) = bytes.get(at..).and_then(row_length) {
            self.outcome.rows += 1;
            at += HEADER + length;
            if at > bytes.len() {
                self.skip = at - bytes.len();
                return bytes.len();
            }
            if length == before {
                let same = rows_of(length, bytes.get(at..).unwrap_or_default());
                self.outcome.rows += same as u64;
                at += same * (HEADER + length);
            }
            before = length;
        }
        at
    }

    /// The same for column definitions, of which only the number counts.
    fn columns(&mut self, bytes: &[u8]) -> usize {
        let State::Columns { mut left } = self.state else { return 0 };
        let mut at = 0;
        while let Some([a, b, c, _, first]) = bytes.get(at..).and_then(|r| r.first_chunk::<5>()) {
            let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
            // an ERR, or what no column definition is: for the careful path
            if *first >= 0xFE || length == 0 || length == super::packet::MAX_PAYLOAD {
                break;
            }
            left = left.saturating_sub(1);
            at += HEADER + length;
            self.state = if left == 0 { self.after_columns() } else { State::Columns { left } };
            if at > bytes.len() {
                self.skip = at - bytes.len();
                return bytes.len();
            }
            if left == 0 {
                break;
            }
        }
        at
    }

    /// Takes one packet: its header and the first bytes of its payload (all of it, or at least 32).
    ///
    /// # Errors
    /// [`Malformed`] as [`Reply::feed`].
    pub fn packet(&mut self, header: Header, prefix: &[u8]) -> Result<Role, Malformed> {
        let continuation = std::mem::replace(&mut self.continues, header.continues());
        if continuation {
            return Ok(if self.state == State::End && !self.continues { Role::Last } else { Role::Part });
        }
        let first = prefix.first().copied();
        if first == Some(0xFF) && self.may_be_error() {
            let code = Reader::new(prefix.get(1..).unwrap_or_default()).u16()?;
            if code == 0xFFFF && self.capabilities.contains(Capabilities::MARIADB_PROGRESS) {
                return Ok(Role::Part);
            }
            self.outcome.error = Some(code);
            self.state = State::End;
            return Ok(Role::Error);
        }
        match self.state {
            State::First => self.first(header, prefix),
            State::Columns { left } => {
                self.state = match left {
                    0 | 1 => self.after_columns(),
                    n => State::Columns { left: n - 1 },
                };
                Ok(Role::Part)
            }
            State::ColumnsEnd => {
                let status = self.eof_status(prefix)?;
                // the flag alone says nothing: MariaDB leaves it set behind a cursor that a stored procedure opened for itself
                let opened = status.contains(Status::CURSOR_EXISTS) && !status.contains(Status::MORE_RESULTS);
                if self.may_open_cursor && opened {
                    return Ok(self.result_end(status));
                }
                self.state = State::Rows;
                Ok(Role::Part)
            }
            State::Rows => {
                if self.is_end_of_rows(header, first) {
                    let status = self.eof_status(prefix)?;
                    return Ok(self.result_end(status));
                }
                self.outcome.rows += 1;
                Ok(Role::Part)
            }
            State::Prepare
            | State::Parameters { .. }
            | State::ParametersEnd { .. }
            | State::PreparedColumns { .. }
            | State::PreparedColumnsEnd => self.prepared_part(prefix),
            State::FieldList => {
                if self.is_end_of_rows(header, first) {
                    let status = self.eof_status(prefix)?;
                    self.outcome.status = Some(status);
                    return Ok(self.finish());
                }
                Ok(Role::Part)
            }
            State::Text => Ok(self.finish()),
            State::Ok => {
                match first {
                    Some(0x00) => self.ok(prefix)?,
                    Some(0xFE) => {
                        let status = self.eof_status(prefix)?;
                        self.outcome.status = Some(status);
                    }
                    _ => return Err(Malformed("neither OK, EOF nor ERR")),
                }
                Ok(self.finish())
            }
            State::End => Err(Malformed("a packet after the end of the response")),
        }
    }

    fn first(&mut self, header: Header, prefix: &[u8]) -> Result<Role, Malformed> {
        match prefix.first() {
            Some(0x00) => {
                self.ok(prefix)?;
                let status = self.outcome.status.unwrap_or_default();
                Ok(self.result_end(status))
            }
            Some(0xFB) => Ok(Role::LocalInfile),
            // some servers end a multi-result with an EOF in place of an OK
            Some(0xFE) if header.len() < 9 => {
                let status = self.eof_status(prefix)?;
                Ok(self.result_end(status))
            }
            Some(_) => {
                let mut r = Reader::new(prefix);
                let left = r.lenenc()?;
                self.outcome.result_set = true;
                self.bare = self.capabilities.contains(Capabilities::MARIADB_CACHE_METADATA) && r.u8()? == 0;
                self.state = if left == 0 || self.bare { self.after_columns() } else { State::Columns { left } };
                Ok(Role::Part)
            }
            None => Err(Malformed("an empty response")),
        }
    }

    /// A packet of the response to COM_STMT_PREPARE.
    fn prepared_part(&mut self, prefix: &[u8]) -> Result<Role, Malformed> {
        match self.state {
            State::Prepare => self.prepare(prefix),
            State::Parameters { left, columns } => Ok(match left {
                0 | 1 if self.deprecate_eof() => self.prepared_columns(columns),
                0 | 1 => self.go(State::ParametersEnd { columns }),
                n => self.go(State::Parameters { left: n - 1, columns }),
            }),
            State::ParametersEnd { columns } => {
                self.eof_status(prefix)?;
                Ok(self.prepared_columns(columns))
            }
            State::PreparedColumns { left } => Ok(match left {
                0 | 1 if self.deprecate_eof() => self.finish(),
                0 | 1 => self.go(State::PreparedColumnsEnd),
                n => self.go(State::PreparedColumns { left: n - 1 }),
            }),
            State::PreparedColumnsEnd => {
                self.eof_status(prefix)?;
                Ok(self.finish())
            }
            _ => Err(Malformed("no response to COM_STMT_PREPARE")),
        }
    }

    fn prepare(&mut self, prefix: &[u8]) -> Result<Role, Malformed> {
        let mut r = Reader::new(prefix);
        if r.u8()? != 0 {
            return Err(Malformed("neither PREPARE_OK nor ERR"));
        }
        let id = r.u32()?;
        let columns = r.u16()?;
        let parameters = r.u16()?;
        self.outcome.prepared = Some(Prepared { id, columns, parameters });
        Ok(if parameters > 0 {
            self.go(State::Parameters { left: u32::from(parameters), columns: u32::from(columns) })
        } else {
            self.prepared_columns(u32::from(columns))
        })
    }

    fn prepared_columns(&mut self, columns: u32) -> Role {
        if columns > 0 { self.go(State::PreparedColumns { left: columns }) } else { self.finish() }
    }

    fn go(&mut self, state: State) -> Role {
        self.state = state;
        Role::Part
    }

    fn finish(&mut self) -> Role {
        self.state = State::End;
        if self.continues { Role::Part } else { Role::Last }
    }

    fn deprecate_eof(&self) -> bool {
        self.capabilities.contains(Capabilities::DEPRECATE_EOF)
    }

    fn after_columns(&self) -> State {
        if self.deprecate_eof() { State::Rows } else { State::ColumnsEnd }
    }

    /// In column definitions 0xFF cannot begin a packet; everywhere else it is an ERR.
    fn may_be_error(&self) -> bool {
        !matches!(self.state, State::Text | State::End)
    }

    fn is_end_of_rows(&self, header: Header, first: Option<u8>) -> bool {
        // a row whose first value is longer than 16 MB begins with 0xFE too, but fills its packet
        first == Some(0xFE) && if self.deprecate_eof() { !header.continues() } else { header.len() < 9 }
    }

    fn ok(&mut self, prefix: &[u8]) -> Result<(), Malformed> {
        let ok = OkPacket::read(prefix)?;
        self.see(ok.status, true);
        self.outcome.warnings = ok.warnings;
        self.outcome.status = Some(ok.status);
        self.outcome.warnings = ok.warnings;
        if ok.last_insert_id != 0 {
            self.outcome.insert_id = ok.last_insert_id;
        }
        self.outcome.ok = Some(ok);
        Ok(())
    }

    /// Status of an EOF packet, or of the OK packet with header 0xFE that stands for it.
    fn eof_status(&mut self, prefix: &[u8]) -> Result<Status, Malformed> {
        if prefix.first() != Some(&0xFE) {
            return Err(Malformed("no EOF where one must stand"));
        }
        if self.deprecate_eof() && prefix.len() >= 7 {
            let ok = OkPacket::read(prefix)?;
            self.see(ok.status, true);
            self.outcome.warnings = ok.warnings;
            return Ok(ok.status);
        }
        let mut r = Reader::new(prefix.get(1..).unwrap_or_default());
        // EOF packets of the oldest form carry nothing
        self.outcome.warnings = r.u16().unwrap_or(0);
        let status = r.u16().map(Status::from_bits_retain).unwrap_or_default();
        self.see(status, false);
        Ok(status)
    }

    /// Takes note of SERVER_SESSION_STATE_CHANGED; `ok` where the changes follow.
    fn see(&mut self, status: Status, ok: bool) {
        if status.contains(Status::SESSION_STATE_CHANGED) {
            self.outcome.changed = true;
            self.reports = ok && self.capabilities.contains(Capabilities::SESSION_TRACK);
        }
    }

    fn result_end(&mut self, status: Status) -> Role {
        self.outcome.status = Some(status);
        if status.contains(Status::MORE_RESULTS) {
            self.state = State::First;
            Role::ResultEnd
        } else {
            self.finish()
        }
    }
}

/// The payload's length of a packet that can only be a row; `None` for what may be an end, and for what the careful path must see.
#[inline]
fn row_length(bytes: &[u8]) -> Option<usize> {
    let [a, b, c, _, first] = bytes.first_chunk::<5>()?;
    let length = u32::from_le_bytes([*a, *b, *c, 0]) as usize;
    (*first < 0xFE && length != 0 && length != super::packet::MAX_PAYLOAD).then_some(length)
}

/// How many whole rows of one length stand at the start. Where the next head is does not depend on what was read of the last one,
/// so that the processor need not wait for one to read the next: twice as fast as one by one.
#[inline]
fn rows_of(length: usize, bytes: &[u8]) -> usize {
    let mut rows = 0;
    for row in bytes.chunks(HEADER + length) {
        match row.first_chunk::<5>() {
            Some([a, b, c, _, first])
                if row.len() == HEADER + length
                    && u32::from_le_bytes([*a, *b, *c, 0]) as usize == length
                    && *first < 0xFE =>
            {
                rows += 1;
            }
            _ => break,
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::super::packet::put;
    use super::*;
    use proptest::prelude::*;

    const OLD: Capabilities = Capabilities::PROTOCOL_41;
    const NEW: Capabilities = Capabilities::PROTOCOL_41.union(Capabilities::DEPRECATE_EOF);

    fn stream(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sequence = 1;
        for p in payloads {
            sequence = put(&mut out, sequence, p);
        }
        out
    }

    fn done(expect: Expect, caps: Capabilities, payloads: &[&[u8]]) -> Outcome {
        let mut bytes = stream(payloads);
        let whole = bytes.len();
        bytes.extend(b"next response");
        let mut reply = Reply::new(expect, caps);
        assert_eq!(reply.feed(&bytes), Ok(Step { consumed: whole, event: Event::Done }), "{payloads:?}");
        assert!(reply.is_done());
        *reply.outcome()
    }

    /// `SELECT 1`, MariaDB 10.11: column definition of `1`.
    const COLUMN: &[u8] = b"\x03def\x00\x00\x00\x011\x00\x0c\x3f\x00\x01\x00\x00\x00\x03\x81\x00\x00\x00\x00";
    const EOF: &[u8] = &[0xFE, 0, 0, 2, 0];
    const EOF_MORE: &[u8] = &[0xFE, 0, 0, 0x0A, 0];
    const EOF_CURSOR: &[u8] = &[0xFE, 0, 0, 0x42, 0];
    const OK_END: &[u8] = &[0xFE, 0, 0, 2, 0, 0, 0];
    const OK: &[u8] = &[0, 1, 0, 2, 0, 0, 0];
    const OK_MORE: &[u8] = &[0, 1, 5, 0x0A, 0, 0, 0];
    const ERR: &[u8] = b"\xff\x7a\x04#42S02no such table";

    #[test]
    fn ok_err_and_result_sets_end_where_they_end() {
        assert_eq!(done(Expect::Results, OLD, &[OK]).ok.unwrap().affected_rows, 1);
        assert_eq!(done(Expect::Results, OLD, &[ERR]).error, Some(1146));
        assert_eq!(done(Expect::Results, OLD, &[&[1], COLUMN, EOF, b"\x011", b"\xfb", EOF]).rows, 2);
        assert_eq!(done(Expect::Results, NEW, &[&[1], COLUMN, b"\x011", OK_END]).rows, 1);
        // an error in the middle of rows
        assert_eq!(done(Expect::Results, OLD, &[&[1], COLUMN, EOF, b"\x011", ERR]).error, Some(1146));
        // a cursor has no rows yet
        assert_eq!(done(Expect::Cursor, OLD, &[&[1], COLUMN, EOF_CURSOR]).rows, 0);
        assert_eq!(done(Expect::Fetch, OLD, &[b"\x00\x001", EOF_CURSOR]).rows, 1);
    }

    #[test]
    fn columns_may_be_left_out_for_a_client_that_keeps_them() {
        let (old, new) = (OLD | Capabilities::MARIADB_CACHE_METADATA, NEW | Capabilities::MARIADB_CACHE_METADATA);
        assert_eq!(done(Expect::Results, old, &[&[1, 0], EOF, b"\x011", EOF]).rows, 1);
        assert_eq!(done(Expect::Results, new, &[&[1, 0], b"\x011", OK_END]).rows, 1);
        assert_eq!(done(Expect::Results, new, &[&[1, 1], COLUMN, b"\x011", OK_END]).rows, 1);
        assert_eq!(done(Expect::Cursor, old, &[&[1, 0], EOF_CURSOR]).rows, 0);
        let mut reply = Reply::new(Expect::Results, new);
        reply.feed(&stream(&[&[1, 0]])).unwrap();
        assert!(reply.leaves_out_columns());
        assert!(reply.in_rows());
    }

    #[test]
    fn more_results_go_on() {
        let o = done(Expect::Results, OLD, &[OK_MORE, &[1], COLUMN, EOF, b"\x011", EOF_MORE, OK]);
        assert_eq!((o.rows, o.insert_id), (1, 5));
        assert_eq!(done(Expect::Results, OLD, &[OK_MORE, ERR]).error, Some(1146));
    }

    #[test]
    fn a_procedures_own_cursor_does_not_end_its_results() {
        let eof: &[u8] = &[0xFE, 0, 0, 0x6A, 0];
        let call: &[&[u8]] = &[&[1], COLUMN, eof, b"\x011", eof, OK];
        assert_eq!(done(Expect::Results, OLD, call).rows, 1);
        assert_eq!(done(Expect::Cursor, OLD, call).rows, 1);
    }

    #[test]
    fn prepare_with_and_without_eof() {
        let head = [0, 9, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0];
        let p = done(Expect::Prepare, OLD, &[&head, COLUMN, COLUMN, EOF, COLUMN, EOF]).prepared.unwrap();
        assert_eq!(p, Prepared { id: 9, columns: 1, parameters: 2 });
        done(Expect::Prepare, NEW, &[&head, COLUMN, COLUMN, COLUMN]);
        done(Expect::Prepare, OLD, &[&[0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]);
        done(Expect::Prepare, OLD, &[ERR]);
        done(Expect::FieldList, OLD, &[COLUMN, COLUMN, EOF]);
        done(Expect::Text, OLD, &[b"\xffUptime: 1"]);
        done(Expect::Ok, OLD, &[EOF]);
    }

    #[test]
    fn progress_reports_are_no_end() {
        let caps = OLD | Capabilities::MARIADB_PROGRESS;
        done(Expect::Results, caps, &[b"\xff\xff\xff\x01\x01\x01\x00\x00\x00\x05stage", OK]);
    }

    #[test]
    fn a_row_that_begins_with_a_long_value_is_no_end() {
        let mut long = vec![0xFE];
        long.extend(20_000_000u64.to_le_bytes());
        long.resize(20_000_009, b'x');
        for caps in [OLD, NEW] {
            let eof: &[&[u8]] = if caps == NEW { &[] } else { &[EOF] };
            let mut all: Vec<&[u8]> = vec![&[1], COLUMN];
            all.extend(eof);
            all.push(&long);
            all.push(if caps == NEW { OK_END } else { EOF });
            assert_eq!(done(Expect::Results, caps, &all).rows, 1);
        }
    }

    #[test]
    fn a_file_request_stops_the_machine_and_it_goes_on() {
        let mut reply = Reply::new(Expect::Results, OLD);
        let ask = stream(&[b"\xfb/tmp/x"]);
        assert_eq!(reply.feed(&ask), Ok(Step { consumed: ask.len(), event: Event::LocalInfile }));
        let ok = stream(&[OK]);
        assert_eq!(reply.feed(&ok), Ok(Step { consumed: ok.len(), event: Event::Done }));
    }

    /// Found by `make fuzz`: a name beyond the 32 bytes that the machine looks at was refused if it came in two reads.
    #[test]
    fn a_file_request_with_a_long_name_may_come_in_pieces() {
        let name = [&b"\xfb"[..], &[b'x'; 200]].concat();
        let ask = stream(&[&name]);
        for cut in 1..ask.len() {
            let mut reply = Reply::new(Expect::Results, OLD);
            let first = reply.feed(&ask[..cut]).unwrap();
            assert_eq!(first.event, Event::More, "cut at {cut}");
            let rest = &ask[first.consumed..];
            assert_eq!(reply.feed(rest), Ok(Step { consumed: rest.len(), event: Event::LocalInfile }), "cut at {cut}");
            assert_eq!(reply.feed(&stream(&[OK])).unwrap().event, Event::Done);
        }
    }

    #[test]
    fn held_errors_are_seen_before_they_pass() {
        let bytes = stream(&[&[1], COLUMN, EOF, b"\x011", ERR]);
        let mut reply = Reply::new(Expect::Results, OLD);
        reply.hold_errors(true);
        let step = reply.feed(&bytes).unwrap();
        assert_eq!(step.event, Event::Error);
        assert_eq!(reply.outcome().error, Some(1146));
        reply.hold_errors(false);
        let rest = &bytes[step.consumed..];
        assert_eq!(reply.feed(rest), Ok(Step { consumed: rest.len(), event: Event::Done }));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_boundaries(cuts in proptest::collection::vec(0usize..200, 0..12), new in any::<bool>()) {
            let caps = if new { NEW } else { OLD };
            let bytes = if new {
                stream(&[&[2], COLUMN, COLUMN, b"\x011\xfb", b"\x012\x013", &[0xFE, 0, 0, 0x0A, 0, 0, 0], OK_MORE, ERR])
            } else {
                stream(&[&[2], COLUMN, COLUMN, EOF, b"\x011\xfb", b"\x012\x013", EOF_MORE, OK_MORE, OK])
            };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let mut reply = Reply::new(Expect::Results, caps);
            let (mut start, mut passed) = (0, 0);
            for end in cuts {
                let step = reply.feed(&bytes[start..end]).unwrap();
                start += step.consumed;
                passed += step.consumed;
                prop_assert_eq!(step.event == Event::Done, passed == bytes.len());
            }
            prop_assert_eq!(passed, bytes.len());
            prop_assert_eq!(reply.outcome().rows, 2);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), expect in 0usize..6) {
            let expect = [Expect::Results, Expect::Prepare, Expect::FieldList, Expect::Fetch, Expect::Text, Expect::Ok][expect];
            let mut reply = Reply::new(expect, OLD);
            if let Ok(step) = reply.feed(&bytes) {
                prop_assert!(step.consumed <= bytes.len());
            }
        }
    }
}
