//! Tables that exist only while they are asked for: columns, rows and cells.

use std::cmp::Ordering;

use sqlparser::ast::{Expr, Ident};

/// Before the place of a column that stands for its name: nobody types it.
const NTH: char = '\0';

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// NULL.
    Null,
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Cell {
        Cell::Text(text.clone())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Cell {
        Cell::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Cell {
        Cell::Int(i64::from(yes))
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Cell {
        Cell::Real(number)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Cell {
        value.map_or(Cell::Null, Into::into)
    }
}

impl Cell {
    /// Whether a WHERE with this value takes the row.
    pub(crate) fn is_true(&self) -> bool {
        self.number().is_some_and(|n| n != 0.0)
    }

    /// As a number, as MySQL reads text: its beginning.
    #[expect(clippy::cast_precision_loss, reason = "comparisons of numbers beyond 2^53 are not what an operator asks")]
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Cell::Null => None,
            Cell::Int(n) => Some(*n as f64),
            Cell::Real(n) => Some(*n),
            Cell::Text(text) => {
                let text = text.trim_start();
                let number = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
                let mut end = text.find(|c| !number(c)).unwrap_or(text.len());
                while end > 0 {
                    if let Some(n) = text.get(..end).and_then(|t| t.parse().ok()) {
                        return Some(n);
                    }
                    end -= 1;
                }
                Some(0.0)
            }
        }
    }

    /// As text; none of NULL.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Cell::Null => None,
            Cell::Int(n) => Some(n.to_string()),
            Cell::Real(n) => Some(n.to_string()),
            Cell::Text(text) => Some(text.clone()),
        }
    }

    /// As MySQL compares: text without regard to case, all else as numbers; none where one is NULL.
    pub(crate) fn compare(&self, other: &Cell) -> Option<Ordering> {
        match (self, other) {
            (Cell::Null, _) | (_, Cell::Null) => None,
            (Cell::Int(a), Cell::Int(b)) => Some(a.cmp(b)),
            (Cell::Text(a), Cell::Text(b)) => Some(a.to_lowercase().cmp(&b.to_lowercase())),
            (a, b) => a.number()?.partial_cmp(&b.number()?),
        }
    }

    /// For ORDER BY: NULL first.
    pub(crate) fn order(&self, other: &Cell) -> Ordering {
        match (self, other) {
            (Cell::Null, Cell::Null) => Ordering::Equal,
            (Cell::Null, _) => Ordering::Less,
            (_, Cell::Null) => Ordering::Greater,
            (a, b) => a.compare(b).unwrap_or(Ordering::Equal),
        }
    }
}

/// Rows under named columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Relation {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Cell>>,
    /// What each column's table is called in its statement; empty where there is but one, without a name.
    pub(crate) of: Vec<String>,
    /// Nobody knows its columns: it has no rows, and whatever column it is asked for.
    pub(crate) is_open: bool,
}

impl Relation {
    /// An empty one.
    pub(crate) fn new<S: AsRef<str>>(columns: &[S]) -> Relation {
        Relation { columns: columns.iter().map(|c| c.as_ref().to_owned()).collect(), ..Relation::default() }
    }

    /// One that has nothing to say of anything.
    pub(crate) fn open() -> Relation {
        Relation { is_open: true, ..Relation::default() }
    }

    /// The same under a name.
    pub(crate) fn called(self, name: &str) -> Relation {
        Relation { of: vec![name.to_owned(); self.columns.len()], ..self }
    }

    /// What each column's table is called.
    pub(crate) fn sources(&self) -> Vec<String> {
        let mut of = self.of.clone();
        of.resize(self.columns.len(), String::new());
        of
    }

    /// Whether a column is of the table of this name.
    pub(crate) fn is_of(&self, at: usize, name: &str) -> bool {
        self.of.get(at).is_some_and(|of| of.eq_ignore_ascii_case(name))
    }

    /// A column by its place, in an expression.
    pub(crate) fn nth(at: usize) -> Expr {
        Expr::Identifier(Ident::new(format!("{NTH}{at}")))
    }

    /// The place of a column, by its name and its table's in any case.
    pub(crate) fn find(&self, of: Option<&str>, name: &str) -> Option<usize> {
        if let Some(at) = name.strip_prefix(NTH) {
            return at.parse().ok();
        }
        let is_it = |(at, column): (usize, &String)| {
            column.eq_ignore_ascii_case(name) && of.is_none_or(|of| self.is_of(at, of))
        };
        let found = self.columns.iter().enumerate().position(is_it);
        // (beyond all columns: NULL)
        found.or_else(|| self.is_open.then_some(self.columns.len()))
    }

    /// One row more.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// One value under a name.
    pub(crate) fn single(name: &str, cell: impl Into<Cell>) -> Relation {
        let mut relation = Relation::new(&[name]);
        relation.row(vec![cell.into()]);
        relation
    }
}

/// MySQL's LIKE: `%`, `_`, and `\` before either; in any case.
pub(crate) fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) =
        (text.to_lowercase().chars().collect(), pattern.to_lowercase().chars().collect());
    // the newest `%`, and what of the text it has taken: enough to go back to
    let (mut t, mut p) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while t < text.len() || p < pattern.len() {
        let (here, escaped) = match pattern.get(p) {
            Some('\\') if p + 1 < pattern.len() => (pattern.get(p + 1), true),
            other => (other, false),
        };
        let step = if escaped { 2 } else { 1 };
        match here {
            Some('%') if !escaped => {
                back = Some((p, t));
                p += 1;
                continue;
            }
            Some(c) if t < text.len() && ((*c == '_' && !escaped) || text.get(t) == Some(c)) => {
                t += 1;
                p += step;
                continue;
            }
            _ => {}
        }
        match back {
            Some((star, taken)) if taken < text.len() => {
                back = Some((star, taken + 1));
                (p, t) = (star + 1, taken + 1);
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_mysql_does() {
        for (text, pattern, matches) in [
            ("analytics", "ana%", true),
            ("analytics", "%LYT%", true),
            ("analytics", "analytic_", true),
            ("analytics", "analytic", false),
            ("a%b", "a\\%b", true),
            ("axb", "a\\%b", false),
            ("a_b", "a\\_b", true),
            ("axb", "a\\_b", false),
            ("", "%", true),
            ("", "", true),
            ("x", "", false),
            ("aaab", "%a%a%b", true),
            ("ä", "_", true),
            ("ab", "a%%b%", true),
        ] {
            assert_eq!(like(text, pattern), matches, "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn numbers_and_texts_compare_as_mysql_does() {
        assert_eq!(Cell::from("12abc").number(), Some(12.0));
        assert_eq!(Cell::from("abc").number(), Some(0.0));
        assert_eq!(Cell::from("1e").number(), Some(1.0));
        assert_eq!(Cell::from("New").compare(&Cell::from("new")), Some(Ordering::Equal));
        assert_eq!(Cell::Int(10).compare(&Cell::from("9")), Some(Ordering::Greater));
        assert_eq!(Cell::Null.compare(&Cell::Null), None);
        assert_eq!(Cell::Null.order(&Cell::Int(0)), Ordering::Less);
    }
}
