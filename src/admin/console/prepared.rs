//! Prepared statements of one connection to the console. opensrv-mysql believes whatever a COM_STMT_EXECUTE says of itself, and panics
//! where that is not so; what stands in one is therefore read here.
//!
//! ```text
//! client ─► long data, execute ─► [`Executes`]: an execute of STAND_IN, whose one parameter is all that ─► opensrv-mysql
//!                                                        statement, values ◄─ [`Prepared`] ◄─ shim ◄───────────┘
//! ```
//!
//! Source: MySQL "COM_STMT_EXECUTE", "COM_STMT_SEND_LONG_DATA"; the errors are those of MySQL 8.0.

use std::collections::{HashMap, HashSet};

use super::engine::MAX_COMMAND;
use super::expression::Refusal;
use crate::sql::bind::{Literal, bind, literal};
use crate::sql::dialect::Dialect;
use crate::sql::lex::{Lexeme, Lexer};
use crate::wire::bound::{Bound, execute_values};
use crate::wire::codec::Reader;
use crate::wire::command::{EXECUTE_FIXED, execute_types};

/// The id of the statement that stands for all others.
pub(super) const STAND_IN: u32 = 0;
/// Prepared statements of one connection.
const MAX_PREPARED: usize = 1_000;
/// What their texts may take together, bytes.
const MAX_TEXT: usize = 16 << 20;
/// What a parameter with long data takes beside it, bytes: nothing that a client sends is free.
const ENTRY: usize = 64;

/// MySQL's word for what cannot be read.
pub(super) fn malformed() -> Refusal {
    Refusal::new(1835, "Malformed communication packet.")
}

/// MySQL's word for what is too long.
pub(super) fn too_long() -> Refusal {
    Refusal::new(1153, "Got a packet bigger than 'max_allowed_packet' bytes")
}

/// Executes on their way to opensrv-mysql, and the long data that came for them.
#[derive(Default)]
pub(super) struct Executes {
    long: HashMap<(u32, u16), Vec<u8>>,
    /// Statements that have got too much of it.
    over: HashSet<u32>,
    bytes: usize,
}

impl Executes {
    /// COM_STMT_SEND_LONG_DATA. Where it is too much for the statement, its execute says so.
    ///
    /// # Errors
    /// 1835 where it cannot be read, 1153 where too many statements have some.
    pub(super) fn long_data(&mut self, argument: &[u8]) -> Result<(), Refusal> {
        let mut r = Reader::new(argument);
        let (Ok(id), Ok(parameter)) = (r.u32(), r.u16()) else { return Err(malformed()) };
        if self.over.contains(&id) {
            return Ok(());
        }
        let data = self.long.entry((id, parameter)).or_insert_with(|| {
            self.bytes += ENTRY;
            Vec::new()
        });
        self.bytes += r.rest().len();
        data.extend_from_slice(r.rest());
        if self.bytes > MAX_COMMAND {
            self.forget(id);
            self.over.insert(id);
            self.bytes += ENTRY;
        }
        if self.bytes > MAX_COMMAND { Err(too_long()) } else { Ok(()) }
    }

    /// COM_STMT_CLOSE, COM_STMT_RESET: what came for the statement is none any more.
    pub(super) fn forget(&mut self, id: u32) {
        let of_others = |(of, _): &(u32, u16), data: &mut Vec<u8>| {
            let keep = *of != id;
            self.bytes -= if keep { 0 } else { ENTRY + data.len() };
            keep
        };
        self.long.retain(of_others);
        self.bytes -= if self.over.remove(&id) { ENTRY } else { 0 };
    }

    /// COM_STMT_EXECUTE as one of STAND_IN.
    ///
    /// # Errors
    /// 1835 where it cannot be read, 1153 where its long data was too much.
    pub(super) fn execute(&mut self, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let id = statement(payload).filter(|_| payload.len() >= EXECUTE_FIXED).ok_or_else(malformed)?;
        if self.over.contains(&id) {
            self.forget(id);
            return Err(too_long());
        }
        let mut whole = Vec::with_capacity(payload.len() + ENTRY);
        let mine = self.long.iter().filter(|((of, _), _)| *of == id);
        for ((_, parameter), data) in mine {
            whole.push(1);
            whole.extend(parameter.to_le_bytes());
            whole.extend((data.len() as u64).to_le_bytes());
            whole.extend(data);
        }
        self.forget(id);
        whole.push(0);
        whole.extend(payload);
        // (no flags, one iteration, not NULL, its type: BLOB)
        let mut out = vec![0x17, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0xFC, 0, 0xFE];
        out.extend((whole.len() as u64).to_le_bytes());
        out.extend(whole);
        Ok(out)
    }
}

/// The statement that a COM_STMT_ command is about.
pub(super) fn statement(payload: &[u8]) -> Option<u32> {
    payload.get(1..)?.first_chunk::<4>().map(|id| u32::from_le_bytes(*id))
}

/// A statement that was prepared.
struct Statement {
    sql: String,
    parameters: u16,
    /// Two bytes a parameter, as the last execute said.
    types: Vec<u8>,
}

/// Those of one connection.
#[derive(Default)]
pub(super) struct Prepared {
    statements: HashMap<u32, Statement>,
    last: u32,
}

impl Prepared {
    /// COM_STMT_PREPARE: its id, and how many parameters it has.
    ///
    /// # Errors
    /// 1390 and 1461 where there are too many.
    pub(super) fn prepare(&mut self, sql: &str) -> Result<(u32, u16), Refusal> {
        let text: usize = self.statements.values().map(|s| s.sql.len()).sum();
        if self.statements.len() >= MAX_PREPARED || text + sql.len() > MAX_TEXT {
            return Err(Refusal::new(1461, "too many prepared statements"));
        }
        let dialect = Dialect::default();
        let mut lexer = Lexer::new(sql.as_bytes(), &dialect);
        let lexemes = std::iter::from_fn(|| Some(lexer.next_token().lexeme).filter(|l| *l != Lexeme::End));
        let parameters = u16::try_from(lexemes.filter(|l| *l == Lexeme::Parameter).count())
            .map_err(|_| Refusal::new(1390, "Prepared statement contains too many placeholders"))?;
        self.last = self.last.checked_add(1).unwrap_or(STAND_IN + 1);
        self.statements.insert(self.last, Statement { sql: sql.to_owned(), parameters, types: Vec::new() });
        Ok((self.last, parameters))
    }

    /// COM_STMT_CLOSE.
    pub(super) fn close(&mut self, id: u32) {
        self.statements.remove(&id);
    }

    /// The text that an execute comes to, out of what [`Executes::execute`] made of it.
    ///
    /// # Errors
    /// 1243 where there is no such statement, 1210 where its values have no types, 1835 where they cannot be read.
    pub(super) fn bound(&mut self, whole: &[u8]) -> Result<String, Refusal> {
        let (long, payload) = parts(whole).ok_or_else(malformed)?;
        let id = statement(payload).ok_or_else(malformed)?;
        let statement = self.statements.get_mut(&id).ok_or_else(|| {
            Refusal::new(1243, format!("Unknown prepared statement handler ({id}) given to mysqld_stmt_execute"))
        })?;
        if statement.parameters == 0 {
            return Ok(statement.sql.clone());
        }
        let place = execute_types(payload, statement.parameters).ok_or_else(malformed)?;
        if place.bound {
            let types = payload.get(place.flag_at + 1..).and_then(|t| t.get(..place.bytes));
            statement.types = types.ok_or_else(malformed)?.to_vec();
        } else if statement.types.is_empty() {
            return Err(Refusal::new(1210, "Incorrect arguments to mysqld_stmt_execute"));
        }
        let came = |at: usize| {
            let at = u16::try_from(at).ok()?;
            long.iter().find(|(parameter, _)| *parameter == at).map(|(_, data)| data.to_vec())
        };
        let values = execute_values(payload, statement.parameters, &statement.types, came).ok_or_else(malformed)?;
        let literals: Vec<Literal> = values.iter().map(as_literal).collect();
        let bound = bind(statement.sql.as_bytes(), &Dialect::default(), &literals).ok_or_else(malformed)?;
        Ok(String::from_utf8_lossy(&bound).into_owned())
    }
}

type LongData<'a> = Vec<(u16, &'a [u8])>;

/// Long data by parameter, and the execute itself.
fn parts(whole: &[u8]) -> Option<(LongData<'_>, &[u8])> {
    let mut r = Reader::new(whole);
    let mut long = Vec::new();
    while r.u8().ok()? == 1 {
        let parameter = r.u16().ok()?;
        let length = usize::try_from(r.u64().ok()?).ok()?;
        long.push((parameter, r.bytes(length).ok()?));
    }
    Some((long, r.rest()))
}

/// A value as the console's SQL has it: points in time and bytes are texts here.
fn as_literal(value: &Bound<'_>) -> Literal {
    let of = |value: &Bound<'_>| literal(value, &Dialect::default());
    match value {
        Bound::Bytes(_, bytes) => of(&Bound::Bytes(0xFD, bytes.clone())),
        Bound::Temporal(..) => {
            let text = String::from_utf8_lossy(&of(value).text).into_owned();
            Literal::own(text.trim_start_matches(char::is_alphabetic).to_owned())
        }
        Bound::Double(n) if n.is_finite() => Literal::own(n.to_string()),
        other => of(other),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What an execute of statement 1 comes to.
    fn execute(prepared: &mut Prepared, executes: &mut Executes, tail: &[u8]) -> Result<String, Refusal> {
        let payload = [&[0x17, 1, 0, 0, 0, 0, 1, 0, 0, 0], tail].concat();
        let put = executes.execute(&payload)?;
        prepared.bound(put.get(23..).unwrap())
    }

    #[test]
    fn values_stand_where_their_marks_stood() {
        let (mut prepared, mut executes) = (Prepared::default(), Executes::default());
        assert_eq!(prepared.prepare("SELECT 'a?', ?, `b?`, ?, ? /* ? */ LIMIT ?").unwrap(), (1, 4));
        let untyped = execute(&mut prepared, &mut executes, &[0, 0]).unwrap_err();
        assert_eq!(untyped.code, 1210);
        executes.long_data(&[1, 0, 0, 0, 1, 0, b'i', b't', b'\'']).unwrap();
        executes.long_data(&[1, 0, 0, 0, 1, 0, b's']).unwrap();
        executes.long_data(&[2, 0, 0, 0, 1, 0, b'x']).unwrap();
        // LONGLONG, long data, DATETIME, a text
        let types = [1, 8, 0, 0xFC, 0, 12, 0, 0xFD, 0];
        let values = [7, 0, 0, 0, 0, 0, 0, 0, 4, 0xEA, 7, 11, 28, 1, b'3'];
        let tail = [&[0][..], &types, &values].concat();
        let text = execute(&mut prepared, &mut executes, &tail).unwrap();
        assert_eq!(text, "SELECT 'a?',  7 , `b?`,  'it''s' ,  '2026-11-28 00:00:00'  /* ? */ LIMIT  3 ");
        // the types are remembered, the long data is not: now it is NULL
        let again = execute(&mut prepared, &mut executes, &[&[0b1110, 0][..], &values[..8]].concat()).unwrap();
        assert!(again.contains(" 7 ") && again.ends_with("NULL "), "{again}");
        assert_eq!((executes.long.len(), executes.bytes), (1, ENTRY + 1));
        executes.forget(2);
        assert_eq!((executes.long.len(), executes.bytes), (0, 0));
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let (mut prepared, mut executes) = (Prepared::default(), Executes::default());
        let chunk = [&[1, 0, 0, 0, 0, 0][..], &vec![b'x'; MAX_COMMAND / 2]].concat();
        let other = [2, 0, 0, 0, 0, 0, b'x'];
        executes.long_data(&other).unwrap();
        for _ in 0..9 {
            executes.long_data(&chunk).unwrap();
        }
        assert_eq!((executes.over.len(), executes.bytes), (1, 2 * ENTRY + 1), "that of the other is kept");
        assert_eq!(execute(&mut prepared, &mut executes, &[]).unwrap_err().code, 1153);
        assert_eq!((executes.over.len(), executes.bytes), (0, ENTRY + 1));
        let many = (0..u32::MAX).find(|n| executes.long_data(&[&n.to_le_bytes()[..], &[0, 0]].concat()).is_err());
        assert!(many.is_some_and(|n| (n as usize) < MAX_COMMAND / ENTRY + 2), "{many:?}");
        assert_eq!(prepared.prepare(&"?,".repeat(65_536)).unwrap_err().code, 1390);
        let long = "x".repeat(MAX_COMMAND);
        let codes: Vec<Option<u16>> = (0..5).map(|_| prepared.prepare(&long).err().map(|r| r.code)).collect();
        assert_eq!(codes, [None, None, None, None, Some(1461)]);
        prepared.close(1);
        assert!(prepared.prepare(&long).is_ok());
    }

    proptest! {
        /// Invariant 9: whatever a client sends is bound or refused.
        #[test]
        fn any_bytes(tail in proptest::collection::vec(any::<u8>(), 0..80), data in proptest::collection::vec(any::<u8>(), 0..20)) {
            let (mut prepared, mut executes) = (Prepared::default(), Executes::default());
            prepared.prepare("SELECT ?, ?, ?").unwrap();
            let _ = executes.long_data(&data);
            let _ = executes.execute(&tail);
            let _ = prepared.bound(&tail);
            match execute(&mut prepared, &mut executes, &tail) {
                Ok(text) => prop_assert!(text.starts_with("SELECT")),
                Err(refusal) => prop_assert!(matches!(refusal.code, 1210 | 1835)),
            }
        }
    }
}
