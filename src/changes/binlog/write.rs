//! Row events, written: rows as the `BINLOG` statement of a MariaDB server takes them and applies as its own replica would.
//!
//! ```text
//! base64( FORMAT_DESCRIPTION )                          once per connection
//! base64( TABLE_MAP, WRITE|UPDATE|DELETE_ROWS )         rows of one table, of one kind
//! ```
//!
//! It goes as a value of a prepared statement into a variable, and from there to `BINLOG`: a literal would be scanned three times
//! over before it is decoded, which is a sixth of what the rows cost. No text of a row is made or parsed, no trigger fires, and a
//! value is the log's own bytes again: [`super::rows`], the other way round. A row that is not there, or one that is there already,
//! is the server's error (1032, 1062). Images may leave columns out: a row is found by its primary key alone, and of one that
//! changes, what changes is enough. Source: MariaDB's sql/log_event.h, sql/sql_binlog.cc; tried on 10.11.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::event::{HEADER, code};
use super::rows::Kind;
use crate::entry::{LoggedType, Row, Shape, Value, decimal, temporal};
use crate::wire::codec::{put_lenenc, put_lenenc_bytes};

/// The number that the rows have for their table: of one statement only.
const TABLE: u32 = 1;
/// STMT_END_F, NO_FOREIGN_KEY_CHECKS_F, NO_CHECK_CONSTRAINT_CHECKS_F: the authority has checked both.
const FLAGS: u16 = 1 | 2 | 128;
/// Where the header of an event has its length.
const LENGTH_AT: usize = 9;
/// Lengths of what stands before the body of each type of event, from type 1 on.
const POST_HEADERS: [u8; 40] = [
    56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 228, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0, 0, 10, 10, 10, 0, 0, 0,
    0, 0, 0, 0, 0,
];

/// What takes the events of a connection into a variable: has one value.
pub const TAKE: &str = "SET @switchover_events = ?, @switchover_end = ''";
/// What applies the events in that variable, and empties it.
pub const APPLY: &str = "BINLOG @switchover_events, @switchover_end";

/// What goes first on a connection: of which version events are.
#[must_use]
pub fn format_description() -> Vec<u8> {
    let mut body = 4u16.to_le_bytes().to_vec();
    let mut version = [0; 50];
    version.iter_mut().zip(b"10.3.0-MariaDB").for_each(|(to, from)| *to = *from);
    body.extend(version);
    body.extend([0; 4]);
    body.push(u8::try_from(HEADER).unwrap_or(0));
    body.extend(POST_HEADERS);
    // no checksums; and the place where this event has one all the same
    body.extend([0; 5]);
    let mut events = Vec::new();
    let start = begin_event(&mut events, code::FORMAT_DESCRIPTION);
    events.extend(body);
    end_event(&mut events, start);
    encoded(&events)
}

/// (Not as a `String`: that would look through it for what is no UTF-8.)
fn encoded(events: &[u8]) -> Vec<u8> {
    let mut text = vec![0; events.len().div_ceil(3) * 4];
    let length = STANDARD.encode_slice(events, &mut text).unwrap_or(0);
    text.truncate(length);
    text
}

/// A row event of one table, as it grows.
pub struct Rows<'s> {
    shape: &'s Shape,
    kind: Kind,
    before: Vec<usize>,
    after: Vec<usize>,
    /// The table's map, and the rows.
    events: Vec<u8>,
    /// Where the event of the rows begins.
    start: usize,
}

impl<'s> Rows<'s> {
    /// No rows yet; their images have these columns. Of an insert, `before` is empty; of a delete, `after` is. None where the
    /// table has no table map.
    #[must_use]
    pub fn new(shape: &'s Shape, kind: Kind, before: &[usize], after: &[usize]) -> Option<Rows<'s>> {
        let mut events = Vec::new();
        let map = begin_event(&mut events, code::TABLE_MAP);
        put_table_map(&mut events, shape)?;
        end_event(&mut events, map);
        let code = match kind {
            Kind::Insert => code::WRITE_ROWS_V1,
            Kind::Update => code::UPDATE_ROWS_V1,
            Kind::Delete => code::DELETE_ROWS_V1,
        };
        let start = begin_event(&mut events, code);
        events.extend(TABLE.to_le_bytes());
        events.extend([0, 0]);
        events.extend(FLAGS.to_le_bytes());
        put_lenenc(&mut events, shape.types.len() as u64);
        for (columns, there) in [(before, kind != Kind::Insert), (after, kind != Kind::Delete)] {
            if there {
                put_bits(&mut events, shape.types.len(), columns.iter().copied());
            }
        }
        Some(Rows { shape, kind, before: before.to_vec(), after: after.to_vec(), events, start })
    }

    /// Bytes so far.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.events.len()
    }

    /// Adds a row: by its image before, after, or both; none where a value has no form of its type.
    #[must_use]
    pub fn put(&mut self, before: &Row, after: &Row) -> Option<()> {
        if self.kind != Kind::Insert {
            put_image(&mut self.events, self.shape, &self.before, before)?;
        }
        if self.kind != Kind::Delete {
            put_image(&mut self.events, self.shape, &self.after, after)?;
        }
        Some(())
    }

    /// The events in base64.
    #[must_use]
    pub fn encoded(mut self) -> Vec<u8> {
        end_event(&mut self.events, self.start);
        encoded(&self.events)
    }
}

/// (Neither the time nor the server of an event is looked at: what is logged there has the server's own.)
fn begin_event(out: &mut Vec<u8>, code: u8) -> usize {
    let start = out.len();
    out.extend([0; 4]);
    out.push(code);
    out.extend(1u32.to_le_bytes());
    out.extend([0; 10]);
    start
}

/// Writes its length into the header of an event that began at `start`.
fn end_event(out: &mut [u8], start: usize) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = out.get_mut(start + LENGTH_AT..start + LENGTH_AT + length.len()) {
        place.copy_from_slice(&length);
    }
}

fn put_bits(out: &mut Vec<u8>, count: usize, set: impl Iterator<Item = usize>) {
    let start = out.len();
    out.resize(start + count.div_ceil(8), 0);
    for n in set {
        if let Some(byte) = out.get_mut(start + n / 8) {
            *byte |= 1 << (n % 8);
        }
    }
}

fn put_table_map(body: &mut Vec<u8>, shape: &Shape) -> Option<()> {
    body.extend(TABLE.to_le_bytes());
    body.extend([0, 0, 1, 0]);
    for name in [&shape.name.database, &shape.name.name] {
        body.push(u8::try_from(name.len()).ok()?);
        body.extend(name.bytes());
        body.push(0);
    }
    let (mut codes, mut metas) = (Vec::new(), Vec::new());
    for LoggedType { code, meta } in &shape.types {
        let [low, high] = meta.to_le_bytes();
        match code {
            1 | 2 | 3 | 8 | 9 | 10 | 13 | 14 => {}
            4 | 5 | 252 | 255 | 17 | 18 | 19 => metas.push(low),
            15 | 16 => metas.extend([low, high]),
            246 => metas.extend([high, low]),
            247 | 248 => metas.extend([*code, low]),
            // two bits of the length stand in the type's byte
            254 => metas.extend([254 ^ (high & 3) << 4, low]),
            _ => return None,
        }
        codes.push(if matches!(code, 247 | 248) { 254 } else { *code });
    }
    put_lenenc(body, codes.len() as u64);
    body.extend(&codes);
    put_lenenc_bytes(body, &metas);
    put_bits(body, codes.len(), 0..codes.len());
    Some(())
}

fn put_image(out: &mut Vec<u8>, shape: &Shape, columns: &[usize], row: &Row) -> Option<()> {
    let nulls = columns.iter().enumerate().filter(|(_, at)| row.get(**at).is_none_or(Value::is_null));
    put_bits(out, columns.len(), nulls.map(|(n, _)| n));
    for at in columns {
        match row.get(*at)? {
            Value::Null => {}
            value => put_value(out, value, *shape.types.get(*at)?)?,
        }
    }
    Some(())
}

fn put_value(out: &mut Vec<u8>, value: &Value, logged: LoggedType) -> Option<()> {
    let [low, high] = logged.meta.to_le_bytes();
    match (value, logged.code) {
        (Value::Int(v), code) => {
            let width = match code {
                1 => 1,
                2 => 2,
                9 => 3,
                3 => 4,
                8 => 8,
                _ => return None,
            };
            out.extend(v.to_le_bytes().get(..width)?);
        }
        (Value::Float(v), 4) => out.extend(v.to_bits().to_le_bytes()),
        (Value::Double(v), 5) => out.extend(v.to_bits().to_le_bytes()),
        (Value::Decimal(v), 246) => decimal::put(out, v, high, low)?,
        (Value::Number(0), 13) => out.push(0),
        (Value::Number(year), 13) => out.push(u8::try_from(year.checked_sub(1_900)?).ok()?),
        (Value::Number(v), 16) => {
            let bytes = v.to_be_bytes();
            let width = usize::from(high) + usize::from(low > 0);
            out.extend(bytes.get(bytes.len().checked_sub(width)?..)?);
        }
        (Value::Number(v), 247 | 248) => out.extend(v.to_le_bytes().get(..usize::from(low))?),
        (Value::Temporal(v), 10 | 14) => temporal::put_date(out, v)?,
        (Value::Temporal(v), 17) => temporal::put_timestamp2(out, v, low)?,
        (Value::Temporal(v), 18) => temporal::put_datetime2(out, v, low)?,
        (Value::Temporal(v), 19) => temporal::put_time2(out, v, low)?,
        (Value::Bytes(v), 15 | 254) if logged.meta > 255 => {
            out.extend(u16::try_from(v.len()).ok()?.to_le_bytes());
            out.extend(&**v);
        }
        (Value::Bytes(v), 15 | 254) => {
            out.push(u8::try_from(v.len()).ok()?);
            out.extend(&**v);
        }
        (Value::Bytes(v), 252 | 255) => {
            let length = u32::try_from(v.len()).ok()?.to_le_bytes();
            let (kept, cut) = length.split_at_checked(usize::from(low))?;
            if cut.iter().any(|b| *b != 0) {
                return None;
            }
            out.extend(kept);
            out.extend(&**v);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{event, rows, table_map};
    use super::*;
    use crate::entry::{Change, TableName};

    fn logged(code: u8, meta: u16) -> LoggedType {
        LoggedType { code, meta }
    }

    fn shape() -> Shape {
        let types = vec![
            logged(3, 0),
            logged(9, 0),
            logged(4, 4),
            logged(5, 8),
            logged(246, 14 << 8 | 4),
            logged(13, 0),
            logged(16, 1 << 8 | 1),
            logged(247, 1),
            logged(248, 2),
            logged(10, 0),
            logged(17, 3),
            logged(18, 6),
            logged(19, 1),
            logged(15, 40),
            logged(15, 400),
            logged(254, 20),
            logged(254, 800),
            logged(252, 2),
        ];
        Shape { name: TableName { database: "d".into(), name: "tä".into() }, types }
    }

    fn row(id: i64, number: u64, text: &str) -> Row {
        let bytes = || Value::Bytes(text.as_bytes().into());
        [
            Value::Int(id),
            Value::Int(-3),
            Value::Float(-0.0),
            Value::Double(0.1),
            Value::Decimal("-1234567890.1234".into()),
            Value::Number(1_901 + number % 255),
            Value::Number(number % 512),
            Value::Number(number % 256),
            Value::Number(number % 65_536),
            Value::Temporal("2001-02-31".into()),
            Value::Temporal("2026-07-01 12:00:00.123".into()),
            Value::Temporal("9999-12-31 23:59:59.999999".into()),
            Value::Temporal("-838:59:59.9".into()),
            bytes(),
            bytes(),
            bytes(),
            Value::Null,
            bytes(),
        ]
        .into()
    }

    /// Events: their types and bodies.
    fn events(text: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let bytes = STANDARD.decode(text).unwrap();
        let (mut rest, mut out) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let length = usize::try_from(u32::from_le_bytes(rest[9..13].try_into().unwrap())).unwrap();
            let event = event::read(&rest[..length], Some(false)).unwrap();
            out.push((event.code, event.body.to_vec()));
            rest = &rest[length..];
        }
        out
    }

    #[test]
    fn a_format_description_says_that_there_are_no_checksums() {
        let [(code, body)] = events(&format_description()).try_into().unwrap();
        assert_eq!(code, code::FORMAT_DESCRIPTION);
        assert!(!event::has_checksums(&body).unwrap());
    }

    #[test]
    fn a_change_names_what_changed() {
        let shape = shape();
        let mut rows = Rows::new(&shape, Kind::Update, &[0], &[1, 13]).unwrap();
        rows.put(&row(5, 0, "a"), &row(5, 0, "b")).unwrap();
        let [_, (code, body)] = events(&rows.encoded()).try_into().unwrap();
        assert_eq!(code, code::UPDATE_ROWS_V1);
        let image = [0, 5, 0, 0, 0, 0, 0xFD, 0xFF, 0xFF, 1, b'b'];
        assert_eq!(body[8..], [&[18, 1, 0, 0, 0b10, 0b10_0000, 0][..], &image].concat());
    }

    #[test]
    fn what_has_no_form_is_not_written() {
        let shape = Shape { types: vec![logged(16, 1), logged(254, 4)], ..shape() };
        for (value, at) in [(Value::Bytes(b"x"[..].into()), 0), (Value::Bytes([0; 256].into()), 1)] {
            let mut values = vec![Value::Null, Value::Null];
            values[at] = value;
            let mut rows = Rows::new(&shape, Kind::Insert, &[], &[0, 1]).unwrap();
            assert!(rows.put(&Row::default(), &values.into()).is_none());
        }
        let old = Shape { types: vec![logged(12, 0)], ..shape };
        assert!(Rows::new(&old, Kind::Delete, &[0], &[]).is_none());
    }

    proptest! {
        /// Invariant 3: what is written is what was read.
        #[test]
        fn rows_are_read_back(list in proptest::collection::vec((any::<i32>(), any::<u64>(), "[a-zä]{0,6}"), 1..20)) {
            let shape = shape();
            let all: Vec<usize> = (0..shape.types.len()).collect();
            for kind in [Kind::Insert, Kind::Update, Kind::Delete] {
                let mut rows = Rows::new(&shape, kind, &all, &all).unwrap();
                let mut changes = Vec::new();
                for (id, number, text) in &list {
                    let (before, after) = (row(i64::from(*id), *number, text), row(i64::from(*id), !*number, "x"));
                    rows.put(&before, &after).unwrap();
                    changes.push(match kind {
                        Kind::Insert => Change::Insert(after),
                        Kind::Delete => Change::Delete(before),
                        Kind::Update => Change::Update(before, after),
                    });
                }
                let [(_, map), (code, body)] = events(&rows.encoded()).try_into().unwrap();
                let map = table_map::read(&map).unwrap();
                prop_assert_eq!((&map.database, &map.name), (&shape.name.database, &shape.name.name));
                prop_assert_eq!(&map.types, &shape.types);
                prop_assert_eq!(rows::read(&body, rows::sort(code).unwrap(), &map.types).unwrap(), changes);
            }
        }
    }
}
