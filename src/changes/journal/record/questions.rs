//! What is asked before and after a write.

use super::{After, Becomes, Before, Did, How, Mismatch, Plan};
use crate::changes::journal::table::Table;
use crate::entry::{Kind, Row, quoted};
use crate::sql::Span;
use crate::sql::writes::{Assigned, Expr, Select, Verb, Write};

/// No bound of the session's (sql_select_limit) applies where a statement names its own.
const ALL: &[u8] = b" LIMIT 18446744073709551615";

fn slice(sql: &[u8], span: Span) -> &[u8] {
    sql.get(span.start as usize..span.end as usize).unwrap_or_default()
}

/// The plan of a write whose text is `sql`.
///
/// # Errors
/// Why its rows cannot be told.
pub fn plan(write: &Write, sql: &[u8], table: &Table) -> Result<Plan, String> {
    let of = Statement { write, sql, table };
    if write.assigned.iter().any(|a| table.column(&a.column).is_none()) {
        return Err("it changes a column that is not known".to_owned());
    }
    let moves = write.assigned.iter().any(|a| table.column(&a.column).is_some_and(|at| table.key.contains(&at)));
    match write.verb {
        Verb::Update if moves => of.moved(),
        Verb::Update | Verb::Delete => Ok(of.changed()),
        Verb::Insert { .. } if moves => Err("it changes the primary key of a row that is there".to_owned()),
        Verb::Insert { ignore, upsert } => match &write.select {
            Some(select) => of.insert_select(select, ignore),
            None => of.insert(ignore, upsert.then_some(How::Put)),
        },
        Verb::Replace if write.select.is_some() => {
            Err("its rows come from a query, and may go in the place of others".to_owned())
        }
        Verb::Replace => of.insert(false, Some(How::Replace)),
    }
}

/// How the rows after a write without a transaction are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rows {
    /// By the keys of those before it.
    ByKeys,
    /// By this condition.
    By(Vec<u8>),
    /// By this condition, if there is one, or a key of this column that is greater than any before.
    Above(Option<Vec<u8>>, String),
}

/// What to ask around a write of a table whose engine has no transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alone {
    /// The question before it; none where no row can be there.
    pub before: Option<Vec<u8>>,
    /// Which rows are to be looked for afterwards.
    pub rows: Rows,
}

/// What to ask around a write that cannot be undone: only what is certain to find its rows.
///
/// # Errors
/// Why they cannot be told.
pub fn alone(write: &Write, sql: &[u8], table: &Table) -> Result<Alone, String> {
    let of = Statement { write, sql, table };
    if let Some(why) = write.loose {
        return Err(format!(
            "its table has no transactions to undo it, should its rows be others than were read before ({why})"
        ));
    }
    if write.select.is_some() {
        return Err("its table has no transactions, and its rows come from a query".to_owned());
    }
    let key = |a: &Assigned| table.column(&a.column).is_none_or(|at| table.key.contains(&at));
    if write.assigned.iter().any(key) {
        return Err("its table has no transactions, and it changes the primary key".to_owned());
    }
    match write.verb {
        Verb::Update | Verb::Delete => Ok(Alone { before: Some(of.select(of.condition(), false)), rows: Rows::ByKeys }),
        Verb::Insert { .. } | Verb::Replace => of.insert_alone(),
    }
}

/// The question for the rows of these keys after the write.
#[must_use]
pub fn by_keys(table: &Table, rows: &[Row]) -> Vec<u8> {
    where_(table, &table.by_keys(rows), LOCKED)
}

/// Rows that were there before the write are looked at with a lock, which is theirs already: under REPEATABLE READ the transaction's
/// snapshot shows one that the write left as it was as somebody else had it before (RULES.md 38).
fn where_(table: &Table, condition: &str, lock: &[u8]) -> Vec<u8> {
    let mut sql = format!("SELECT {} FROM {} WHERE {condition}", table.selected(), table.name().quoted()).into_bytes();
    sql.extend(ALL);
    sql.extend(lock);
    sql
}

/// The question for the rows after a write without a transaction; `greatest` is the greatest key before it.
#[must_use]
pub fn afterwards(rows: &Rows, table: &Table, before: &[Row], greatest: &str) -> Option<Vec<u8>> {
    let condition = match rows {
        Rows::ByKeys if before.is_empty() => return None,
        Rows::ByKeys => return Some(by_keys(table, before)),
        Rows::By(found) => found.clone(),
        Rows::Above(found, name) => {
            let above = format!("{name} > {greatest}").into_bytes();
            found.iter().chain([&above]).cloned().collect::<Vec<_>>().join(b" OR ".as_slice())
        }
    };
    let mut sql = format!("SELECT {} FROM {} WHERE ", table.selected(), table.name().quoted()).into_bytes();
    sql.extend(condition);
    sql.extend(ALL);
    Some(sql)
}

/// The question for the rows after the write, where it depends on what the write did; none where there are no such rows.
///
/// # Errors
/// [`Mismatch`].
pub fn later(plan: &Plan, table: &Table, before: &Before, did: Did) -> Result<Option<Vec<u8>>, Mismatch> {
    match plan.how {
        How::InsertMade if did.affected > 0 => {
            let name = table.auto.map(|at| key_name(table, at)).unwrap_or_default();
            Ok(Some(where_(table, &made_keys(&name, &did.insert_id.to_string(), did.affected), b"")))
        }
        How::InsertMade => Ok(None),
        _ if before.rows.is_empty() => Ok(None),
        How::Move => Ok(Some(where_(table, &moved_to(plan, table, before)?, LOCKED))),
        _ => Ok(Some(by_keys(table, &before.rows))),
    }
}

/// The old keys and the new ones.
fn moved_to(plan: &Plan, table: &Table, before: &Before) -> Result<String, Mismatch> {
    let mut list = vec![format!("({})", table.by_keys(&before.rows))];
    for (row, computed) in before.rows.iter().zip(&before.computed) {
        let mut parts = Vec::new();
        for at in &table.key {
            let literal = match plan.moves.iter().find(|(column, _)| column == at) {
                None => table.literal(row, *at),
                Some((_, Becomes::Literal(text))) => text.clone(),
                Some((_, Becomes::Number(n))) => {
                    let cell = computed.get(*n).and_then(|v| v.as_deref()).and_then(|v| std::str::from_utf8(v).ok());
                    let number = cell.and_then(|text| text.parse::<i128>().ok());
                    number.ok_or_else(|| Mismatch("a key becomes no whole number".to_owned()))?.to_string()
                }
            };
            parts.push(format!("{} = {literal}", key_name(table, *at)));
        }
        list.push(format!("({})", parts.join(" AND ")));
    }
    Ok(list.join(" OR "))
}

fn key_name(table: &Table, at: usize) -> String {
    table.columns.get(at).map(|c| quoted(&c.name)).unwrap_or_default()
}

/// Keys that the store has just made: one after another from the first on.
fn made_keys(name: &str, first: &str, rows: u64) -> String {
    if rows == 1 {
        return format!("{name} = {first}");
    }
    format!(
        "{name} BETWEEN {first} AND {first} + {} * @@auto_increment_increment \
         AND ({name} - {first}) % @@auto_increment_increment = 0",
        rows - 1
    )
}

const FIRST: &str = "LAST_INSERT_ID()";
const LOCKED: &[u8] = b" FOR UPDATE";

/// What a row of VALUES says of a key.
enum Names {
    /// This condition.
    By(Vec<u8>),
    /// The store makes it.
    Made,
    /// Nothing: NULL stands in it, which is no other's equal.
    Nothing,
}

struct Statement<'a> {
    write: &'a Write,
    sql: &'a [u8],
    table: &'a Table,
}

impl Statement<'_> {
    fn select(&self, condition: Option<&[u8]>, lock: bool) -> Vec<u8> {
        self.select_more(condition, &[], ALL, lock)
    }

    fn select_more(&self, condition: Option<&[u8]>, more: &[&[u8]], tail: &[u8], lock: bool) -> Vec<u8> {
        let mut out = format!("SELECT {}", self.table.selected()).into_bytes();
        for expression in more {
            out.extend([b",(", *expression, b")"].concat());
        }
        out.extend(b" FROM ");
        out.extend(slice(self.sql, self.write.table));
        if let Some(alias) = self.write.alias {
            out.push(b' ');
            out.extend(slice(self.sql, alias));
        }
        if let Some(condition) = condition {
            out.extend(b" WHERE ");
            out.extend(condition);
        }
        out.extend(tail);
        if lock {
            out.extend(LOCKED);
        }
        out
    }

    fn condition(&self) -> Option<&[u8]> {
        self.write.condition.map(|span| slice(self.sql, span))
    }

    /// UPDATE and DELETE that leave keys alone.
    fn changed(&self) -> Plan {
        let tail = match self.write.tail {
            Some((span, true)) => [b" ", slice(self.sql, span)].concat(),
            _ => ALL.to_vec(),
        };
        let before = Some(self.select_more(self.condition(), &[], &tail, true));
        match (self.write.verb, self.write.loose.is_some()) {
            (Verb::Delete, false) => Plan::new(How::Delete, before, After::Nothing),
            (Verb::Delete, true) => Plan::new(How::DeleteSome, before, After::Later),
            (_, true) => Plan::new(How::UpdateSome, before, After::Later),
            (_, false) => {
                let after = self.fixed_keys().map_or(After::Later, |keys| After::Read(self.select(Some(&keys), true)));
                Plan::new(How::Update, before, after)
            }
        }
    }

    /// An UPDATE that changes keys.
    fn moved(&self) -> Result<Plan, String> {
        if let Some(why) = self.write.loose {
            return Err(format!(
                "it changes the primary key of rows that may be others when they are read twice ({why})"
            ));
        }
        let mut set: Vec<&str> = Vec::new();
        let (mut moves, mut more) = (Vec::new(), Vec::new());
        for Assigned { column, value, span, of } in &self.write.assigned {
            let Some(at) = self.table.column(column).filter(|at| self.table.key.contains(at)) else {
                set.push(column);
                continue;
            };
            let is_number = self.table.columns.get(at).is_some_and(|c| matches!(c.kind, Kind::Int { .. }));
            // (an UPDATE sets its columns one after another: an expression sees those before it as they have become)
            let plain = of.as_ref().is_some_and(|of| !of.iter().any(|c| set.iter().any(|s| s.eq_ignore_ascii_case(c))));
            moves.push((
                at,
                match value {
                    Expr::Literal(span) => {
                        let literal = self.as_stored(at, slice(self.sql, *span));
                        Becomes::Literal(String::from_utf8(literal).map_err(|_| "the new key is no text".to_owned())?)
                    }
                    _ if is_number && plain => {
                        more.push(slice(self.sql, *span));
                        Becomes::Number(more.len() - 1)
                    }
                    _ => return Err("it changes the primary key to what cannot be told before".to_owned()),
                },
            ));
            set.push(column);
        }
        let before = Some(self.select_more(self.condition(), &more, ALL, true));
        Ok(Plan { moves, ..Plan::new(How::Move, before, After::Later) })
    }

    fn key_name(&self, at: usize) -> String {
        key_name(self.table, at)
    }

    /// `(a IN (…) AND b IN (…))`, where the condition fixes the whole key.
    fn fixed_keys(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for (n, at) in self.table.key.iter().enumerate() {
            let fixed = self.write.fixed.iter().find(|(name, _)| self.table.column(name) == Some(*at))?;
            out.extend(if n > 0 { b" AND ".as_slice() } else { b"" });
            out.extend(self.key_name(*at).into_bytes());
            out.extend(b" IN (");
            for (m, span) in fixed.1.iter().enumerate() {
                out.extend(if m > 0 { b",".as_slice() } else { b"" });
                out.extend(slice(self.sql, *span));
            }
            out.push(b')');
        }
        Some(out)
    }

    /// A literal as its column keeps it, where that is not what it is equal to: BINARY is filled up.
    fn as_stored(&self, at: usize, literal: &[u8]) -> Vec<u8> {
        match self.table.columns.get(at).map(|column| &column.kind) {
            Some(Kind::Binary(length)) => [b"CAST(", literal, format!(" AS BINARY({length}))").as_bytes()].concat(),
            _ => literal.to_vec(),
        }
    }

    /// Where a column stands in a row of VALUES, or in a query's.
    fn place(&self, at: usize) -> Option<usize> {
        match &self.write.columns {
            Some(names) if names.is_empty() => None,
            Some(names) => names.iter().position(|name| self.table.column(name) == Some(at)),
            None => Some(at),
        }
    }

    fn fits(&self) -> Result<(), String> {
        let width = self.write.columns.as_ref().map_or(self.table.columns.len(), Vec::len);
        let no_names = self.write.columns.is_none() || width == 0;
        // `VALUES ()` gives every column its default
        let fits = |row: &Vec<Expr>| row.len() == width || (no_names && row.is_empty());
        if self.write.rows.iter().all(fits) {
            Ok(())
        } else {
            Err("its rows do not have the table's columns".to_owned())
        }
    }

    /// What a row says of one key of the table.
    fn names(&self, row: &[Expr], key: &[usize]) -> Result<Names, String> {
        let mut out = Vec::new();
        let mut made = false;
        for at in key {
            let value = self.place(*at).and_then(|place| row.get(place).copied()).unwrap_or(Expr::Default);
            let auto = self.table.auto == Some(*at);
            let primary = self.table.key.contains(at);
            let stored = match value {
                Expr::Null | Expr::Default if auto => {
                    made = true;
                    continue;
                }
                Expr::Literal(span) if auto && is_zero(slice(self.sql, span)) => {
                    made = true;
                    continue;
                }
                Expr::Null if !primary => return Ok(Names::Nothing),
                Expr::Literal(span) | Expr::Repeats(span) => self.as_stored(*at, slice(self.sql, span)),
                Expr::Default if self.table.columns.get(*at).is_some_and(|c| !c.generated) => {
                    format!("DEFAULT({})", self.key_name(*at)).into_bytes()
                }
                _ => return Err(format!("the value of {} in a row that it inserts is no literal", self.key_name(*at))),
            };
            out.extend(if out.is_empty() { b"(".as_slice() } else { b" AND " });
            out.extend(self.key_name(*at).into_bytes());
            out.extend(b" = ");
            out.extend(stored);
        }
        if made {
            return Ok(Names::Made);
        }
        out.push(b')');
        Ok(Names::By(out))
    }

    fn insert(&self, ignore: bool, put: Option<fn(usize) -> How>) -> Result<Plan, String> {
        self.fits()?;
        let rows = self.write.rows.len();
        let primary: Vec<Names> =
            self.write.rows.iter().map(|row| self.names(row, &self.table.key)).collect::<Result<_, _>>()?;
        let made = primary.iter().filter(|names| matches!(names, Names::Made)).count();
        if (put.is_some() || ignore && made > 0 && rows > 1) && !self.table.only_key {
            return self.insert_any(put, rows);
        }
        if made == rows {
            let how = if ignore { How::InsertIgnore(rows) } else { How::Insert(rows) };
            return Ok(Plan::new(how, None, After::Read(self.select(Some(&self.made(rows)?), false))));
        }
        if made > 0 {
            return Err("the store makes the keys of some of its rows, and not of others".to_owned());
        }
        let keys: Vec<Vec<u8>> =
            primary.into_iter().filter_map(|n| if let Names::By(c) = n { Some(c) } else { None }).collect();
        let keys = keys.join(b" OR ".as_slice());
        let locked = || Some(self.select(Some(&keys), true));
        // (rows that have come are the transaction's own, in any snapshot of it)
        let after = After::Read(self.select(Some(&keys), put.is_some()));
        Ok(match (put, ignore) {
            (Some(put), _) => Plan::new(put(rows), locked(), after),
            (None, true) => Plan::new(How::InsertIgnore(rows), locked(), after),
            (None, false) => Plan::new(How::Insert(rows), None, after),
        })
    }

    /// The rows whose keys the store has just made.
    fn made(&self, rows: usize) -> Result<Vec<u8>, String> {
        let Some(auto) = self.table.auto else { return Err("its keys cannot be told".to_owned()) };
        let name = self.key_name(auto);
        let zero = |row: &Vec<Expr>| {
            let value = self.place(auto).and_then(|place| row.get(place));
            matches!(value, Some(Expr::Literal(span)) if is_zero(slice(self.sql, *span)))
        };
        match self.write.rows.iter().filter(|row| zero(row)).count() {
            0 => Ok(made_keys(&name, FIRST, rows as u64).into_bytes()),
            1 if rows == 1 => {
                Ok(format!("{name} = IF(@@sql_mode LIKE '%NO_AUTO_VALUE_ON_ZERO%', 0, {FIRST})").into_bytes())
            }
            _ => Err("keys of several rows that it inserts are 0, which AUTO_INCREMENT may replace".to_owned()),
        }
    }

    /// A write that meets rows by any unique key: these are looked for by the values that it brings.
    fn insert_any(&self, put: Option<fn(usize) -> How>, rows: usize) -> Result<Plan, String> {
        let Some(uniques) = &self.table.uniques else {
            return Err("the table has a unique key of parts of columns, or of expressions".to_owned());
        };
        let assigns = |at: &usize| self.write.assigned.iter().any(|a| self.table.column(&a.column) == Some(*at));
        if uniques.iter().flatten().any(assigns) {
            return Err("it changes a unique key of a row that is there".to_owned());
        }
        let mut found = Vec::new();
        for row in &self.write.rows {
            let before = found.len();
            for key in std::iter::once(&self.table.key).chain(uniques) {
                match self.names(row, key)? {
                    Names::By(condition) => found.push(condition),
                    Names::Made if !std::ptr::eq(key, &self.table.key) => {
                        return Err("the store makes a part of a unique key".to_owned());
                    }
                    Names::Made | Names::Nothing => {}
                }
            }
            if found.len() == before && rows > 1 {
                return Err("a row that it inserts has no value in any unique key".to_owned());
            }
        }
        if found.is_empty() {
            // nothing can be in its way
            return Ok(Plan::new(How::Insert(rows), None, After::Read(self.select(Some(&self.made(rows)?), false))));
        }
        let how = match put.map(|put| put(rows)) {
            Some(How::Replace(rows)) => How::ReplaceAny(rows),
            Some(_) => How::PutAny,
            None => How::InsertAny,
        };
        let found = found.join(b" OR ".as_slice());
        let asked = self.select(Some(&found), true);
        Ok(Plan::new(how, Some(asked.clone()), After::Read(asked)))
    }

    /// An INSERT or REPLACE of a table without transactions.
    fn insert_alone(&self) -> Result<Alone, String> {
        self.fits()?;
        let any = !matches!(self.write.verb, Verb::Insert { ignore: false, upsert: false });
        let (mut found, mut made) = (Vec::new(), false);
        let uniques = match (&self.table.uniques, any) {
            (_, false) => Vec::new(),
            (Some(uniques), true) => uniques.clone(),
            (None, true) => return Err("the table has a unique key of parts of columns, or of expressions".to_owned()),
        };
        let repeats = |e: &Expr| matches!(e, Expr::Repeats(_));
        for row in &self.write.rows {
            for key in std::iter::once(&self.table.key).chain(&uniques) {
                if key.iter().any(|at| self.place(*at).and_then(|place| row.get(place)).is_some_and(repeats)) {
                    return Err("its table has no transactions, and its keys are no literals".to_owned());
                }
                match self.names(row, key)? {
                    Names::By(condition) => found.push(condition),
                    Names::Made => made = true,
                    Names::Nothing => {}
                }
            }
        }
        let found = (!found.is_empty()).then(|| found.join(b" OR ".as_slice()));
        let before = found.as_ref().map(|found| self.select(Some(found), false));
        let rows = match (made, found, self.table.auto) {
            (true, found, Some(auto)) if self.table.key == [auto] => Rows::Above(found, self.key_name(auto)),
            (false, Some(found), _) => Rows::By(found),
            _ => return Err("its table has no transactions, and its keys cannot be told".to_owned()),
        };
        Ok(Alone { before, rows })
    }

    fn insert_select(&self, select: &Select, ignore: bool) -> Result<Plan, String> {
        if ignore {
            return Err("with IGNORE, which rows of its query come is not known".to_owned());
        }
        let auto = self.table.auto.filter(|at| self.table.key.contains(at));
        if auto.is_some_and(|at| self.place(at).is_none()) {
            // only then are the keys of rows whose number is not known one after another
            let counted = Some(b"SELECT 1 FROM DUAL WHERE @@innodb_autoinc_lock_mode < 2".to_vec());
            return Ok(Plan { counted, ..Plan::new(How::InsertMade, None, After::Later) });
        }
        if !select.repeats {
            return Err("its rows come from a query that may have others when it is read twice".to_owned());
        }
        let from = select.from.map(|span| slice(self.sql, span)).unwrap_or_default();
        let (mut names, mut values) = (Vec::new(), Vec::new());
        for at in &self.table.key {
            let item = self.place(*at).and_then(|place| select.items.get(place)).map(|span| slice(self.sql, *span));
            let plain = item.filter(|item| !item.ends_with(b"*"));
            let kind = self.table.columns.get(*at).map(|c| &c.kind);
            match (plain, kind) {
                (Some(item), Some(kind)) if !matches!(kind, Kind::Binary(_)) => {
                    names.push(self.key_name(*at));
                    values.push(item);
                }
                _ => return Err("the keys of the rows of its query cannot be told".to_owned()),
            }
        }
        if select.items.iter().any(|span| slice(self.sql, *span).ends_with(b"*")) {
            return Err("the columns of its query are not named".to_owned());
        }
        let keys =
            [format!("({}) IN (SELECT ", names.join(",")).as_bytes(), &values.join(b",".as_slice()), b" ", from, b")"]
                .concat();
        let lock: &[u8] = if from.is_empty() { b"" } else { b" LOCK IN SHARE MODE" };
        let counted = Some([slice(self.sql, select.span), lock].concat());
        Ok(Plan { counted, ..Plan::new(How::InsertFrom, None, After::Read(self.select(Some(&keys), false))) })
    }
}

/// What AUTO_INCREMENT takes for 0, which it replaces unless sql_mode says otherwise.
fn is_zero(literal: &[u8]) -> bool {
    literal.iter().all(|b| matches!(b, b'0' | b'\'' | b'"' | b'-' | b'+'))
}
