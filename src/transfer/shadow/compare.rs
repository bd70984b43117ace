//! Two answers to the same read → what tells them apart. Pure.
//!
//! Rows compare in their order where the text fixes one, else as what they are together; cells byte by byte, and where that fails, as
//! the values that they stand for ([`super::normal`]): that is a difference of type.

use std::cmp::Ordering;

use super::normal::{Family, Normal, Way, family, way};
use crate::backend::connection::{Column, Rows};
use crate::sql::repeats::Form;
use crate::wire::hex::hex;

/// Bytes of a value that is shown.
const SHOWN: usize = 100;

/// Where two answers differ first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// `row 3, column total`, `columns`, `rows`: without a value.
    pub place: String,
    /// What the serving store has there, cut.
    pub serving: String,
    /// What the shadow store has.
    pub shadow: String,
}

/// What tells two answers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Equal,
    /// The order of the rows, or which of them a LIMIT without an order takes.
    Order(Difference),
    /// How values are written: their type, or what their collation takes for the same.
    Type(Difference),
    /// The values.
    Different(Difference),
}

type Row = Vec<Option<Vec<u8>>>;

/// Compares what the serving store answered with what the shadow store did.
#[must_use]
pub fn compare(serving: &Rows, shadow: &Rows, form: Form) -> Verdict {
    let types = match columns(&serving.columns, &shadow.columns) {
        Ok(types) => types,
        Err(difference) => return Verdict::Different(difference),
    };
    let same = |types: Option<Difference>| types.map_or(Verdict::Equal, Verdict::Type);
    if serving.rows == shadow.rows {
        return same(types);
    }
    let mut verdict = rows(serving, shadow, form);
    if verdict == Verdict::Equal {
        verdict = same(types);
    }
    match verdict {
        // which rows come is the store's choice
        Verdict::Different(d) if form.limited && !form.ordered && serving.rows.len() == shadow.rows.len() => {
            Verdict::Order(d)
        }
        other => other,
    }
}

/// The first columns of another name; of another type, where all names are the same.
fn columns(serving: &[Column], shadow: &[Column]) -> Result<Option<Difference>, Difference> {
    if serving.len() != shadow.len() {
        let count = |c: &[Column]| c.len().to_string();
        return Err(Difference {
            place: "number of columns".to_owned(),
            serving: count(serving),
            shadow: count(shadow),
        });
    }
    let mut types = None;
    for (n, (a, b)) in serving.iter().zip(shadow).enumerate() {
        let place = |what: &str| format!("{what} of column {}", n + 1);
        if a.name != b.name {
            let found = Difference { place: place("name"), serving: shown(&a.name), shadow: shown(&b.name) };
            if !a.name.eq_ignore_ascii_case(&b.name) {
                return Err(found);
            }
            types.get_or_insert(found);
        }
        let (of_a, of_b) = (family(a), family(b));
        if of_a != of_b && of_a != Family::Nothing && of_b != Family::Nothing {
            let word = |f: Family| format!("{f:?}").to_lowercase();
            types.get_or_insert(Difference { place: place("type"), serving: word(of_a), shadow: word(of_b) });
        }
    }
    Ok(types)
}

fn rows(serving: &Rows, shadow: &Rows, form: Form) -> Verdict {
    if !form.ordered {
        let (mut a, mut b): (Vec<&Row>, Vec<&Row>) = (serving.rows.iter().collect(), shadow.rows.iter().collect());
        a.sort_unstable();
        b.sort_unstable();
        if a == b {
            return Verdict::Equal;
        }
    }
    let ways: Vec<Way> = serving.columns.iter().zip(&shadow.columns).map(|(a, b)| way(a, b)).collect();
    let (a, b) = (normal(&serving.rows, &ways), normal(&shadow.rows, &ways));
    if form.ordered && a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| same_row(&a.cells, &b.cells)) {
        return Verdict::Type(exact(serving, shadow));
    }
    let (sorted_a, sorted_b) = (sorted(&a), sorted(&b));
    if let Some((a, b)) = unmatched(&sorted_a, &sorted_b) {
        return Verdict::Different(difference(serving, shadow, a, b, &ways));
    }
    if form.ordered {
        return Verdict::Order(exact(serving, shadow));
    }
    let pair = sorted_a.iter().zip(&sorted_b).find(|(a, b)| serving.rows.get(a.at) != shadow.rows.get(b.at));
    let (a, b) = pair.map_or((None, None), |(a, b)| (Some(a.at), Some(b.at)));
    Verdict::Type(difference(serving, shadow, a, b, &vec![Way::Exact; ways.len()]))
}

/// A row as it compares, and its place in the answer.
struct Compared<'a> {
    at: usize,
    cells: Vec<Normal<'a>>,
}

fn normal<'a>(rows: &'a [Row], ways: &[Way]) -> Vec<Compared<'a>> {
    let cells = |row: &'a Row| row.iter().zip(ways).map(|(v, way)| Normal::of(v.as_deref(), *way)).collect();
    rows.iter().enumerate().map(|(at, row)| Compared { at, cells: cells(row) }).collect()
}

fn same_row(a: &[Normal<'_>], b: &[Normal<'_>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
}

/// By what compares exactly first, so that numbers that differ by a hair put no row elsewhere.
fn order(a: &[Normal<'_>], b: &[Normal<'_>]) -> Ordering {
    let of = |numbers: bool| {
        let pairs = a.iter().zip(b).filter(move |(a, b)| (a.is_number() && b.is_number()) == numbers);
        pairs.map(|(a, b)| a.order(b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    };
    of(false).then_with(|| of(true))
}

fn sorted<'r, 'a>(rows: &'r [Compared<'a>]) -> Vec<&'r Compared<'a>> {
    let mut rows: Vec<&Compared<'a>> = rows.iter().collect();
    rows.sort_by(|a, b| order(&a.cells, &b.cells));
    rows
}

/// The first rows of either side that the other has not, by their places; `None` where each has its like.
fn unmatched(a: &[&Compared<'_>], b: &[&Compared<'_>]) -> Option<(Option<usize>, Option<usize>)> {
    let (mut left, mut right) = (None, None);
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    loop {
        match (a.peek(), b.peek()) {
            (None, None) => break,
            (Some(x), Some(y)) if same_row(&x.cells, &y.cells) => {
                a.next();
                b.next();
            }
            (Some(x), Some(y)) if order(&x.cells, &y.cells).is_gt() => {
                right.get_or_insert(y.at);
                b.next();
            }
            (Some(x), _) => {
                left.get_or_insert(x.at);
                a.next();
            }
            (None, Some(y)) => {
                right.get_or_insert(y.at);
                b.next();
            }
        }
        if left.is_some() && right.is_some() {
            break;
        }
    }
    (left.is_some() || right.is_some()).then_some((left, right))
}

/// The first place where two answers of as many rows differ, byte by byte.
fn exact(serving: &Rows, shadow: &Rows) -> Difference {
    let at = serving.rows.iter().zip(&shadow.rows).position(|(a, b)| a != b);
    difference(serving, shadow, at, at, &vec![Way::Exact; serving.columns.len()])
}

/// Two rows, by the first column in which they differ; where one answer has a row more, what that is.
fn difference(serving: &Rows, shadow: &Rows, a: Option<usize>, b: Option<usize>, ways: &[Way]) -> Difference {
    let row = |of: &Rows, at: Option<usize>| at.and_then(|at| of.rows.get(at).cloned());
    match (row(serving, a), row(shadow, b)) {
        (Some(x), Some(y)) => {
            let differs = |n: &usize| {
                let way = ways.get(*n).copied().unwrap_or(Way::Exact);
                let one = Normal::of(x.get(*n).and_then(|v| v.as_deref()), way);
                !one.same(&Normal::of(y.get(*n).and_then(|v| v.as_deref()), way))
            };
            let n = (0..serving.columns.len()).find(differs).unwrap_or(0);
            let name = serving.columns.get(n).map(|c| shown(&c.name)).unwrap_or_default();
            let place = format!("row {}, column {name}", a.unwrap_or(0) + 1);
            let cell =
                |row: &Row| row.get(n).map(|v| v.as_deref().map_or("NULL".to_owned(), shown)).unwrap_or_default();
            Difference { place, serving: cell(&x), shadow: cell(&y) }
        }
        (x, y) => {
            let counts = format!("{} rows, {} on the shadow store", serving.rows.len(), shadow.rows.len());
            let whole = |row: Option<Row>| row.map(|r| whole(&r)).unwrap_or_default();
            Difference { place: counts, serving: whole(x), shadow: whole(y) }
        }
    }
}

fn whole(row: &Row) -> String {
    let cells: Vec<String> = row.iter().map(|v| v.as_deref().map_or("NULL".to_owned(), shown)).collect();
    shown(cells.join(", ").as_bytes())
}

fn shown(value: &[u8]) -> String {
    let cut = value.get(..value.len().min(SHOWN)).unwrap_or_default();
    let mut text = match std::str::from_utf8(cut) {
        Ok(text) => text.to_owned(),
        Err(e) if value.len() > SHOWN && cut.len() - e.valid_up_to() < 4 => {
            String::from_utf8_lossy(cut.get(..e.valid_up_to()).unwrap_or_default()).into_owned()
        }
        Err(_) => format!("X'{}", hex(cut.get(..SHOWN / 2).unwrap_or(cut))),
    };
    text = text.chars().map(|c| if c.is_control() { '·' } else { c }).collect();
    if value.len() > SHOWN {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
