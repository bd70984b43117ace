//! The value of an expression over a row: what people write behind WHERE, ORDER BY and SELECT.

use std::cmp::Ordering;

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr, Ident, UnaryOperator, Value};

use super::functions;
use super::relation::{Cell, Relation, like};
use super::select::World;

/// Why a statement has no answer: MySQL's code and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) text: String,
}

impl Refusal {
    /// A refusal with MySQL's code.
    pub(crate) fn new(code: u16, text: impl Into<String>) -> Refusal {
        Refusal { code, text: text.into() }
    }

    fn unknown_column(name: &str, relation: &Relation) -> Refusal {
        let names = relation.columns.join(", ");
        Refusal::new(1054, format!("Unknown column '{name}'; there are {names}"))
    }

    pub(crate) fn not_here(what: impl std::fmt::Display) -> Refusal {
        Refusal::new(1235, format!("this console does not know `{what}` (HELP shows what it knows)"))
    }
}

/// What an expression can see beside its row.
pub(crate) trait Surroundings {
    /// The value of `@@name`.
    fn variable(&self, name: &str) -> Result<Cell, Refusal>;
    /// The value of a function without arguments: `USER()`, `DATABASE()` …
    fn niladic(&self, name: &str) -> Option<Cell>;
}

/// Where an expression is worked out.
pub(crate) struct Scope<'a> {
    pub(crate) relation: &'a Relation,
    /// The rows of its group; of a statement without groups the one row.
    pub(crate) rows: &'a [&'a Vec<Cell>],
    pub(crate) world: &'a World<'a>,
    /// The row of the statement that this one stands in.
    pub(crate) outer: Option<&'a Scope<'a>>,
}

/// Whether an expression counts over rows.
pub(crate) fn aggregates(expr: &Expr) -> bool {
    match expr {
        Expr::Function(f) => functions::is_aggregate(f) || functions::arguments(f).any(aggregates),
        Expr::BinaryOp { left, right, .. } => aggregates(left) || aggregates(right),
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::Convert { expr: inner, .. }
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner) => aggregates(inner),
        Expr::Case { operand, conditions, else_result, .. } => {
            operand.iter().chain(else_result).any(|e| aggregates(e))
                || conditions.iter().any(|when| aggregates(&when.condition) || aggregates(&when.result))
        }
        _ => false,
    }
}

/// A table's name and a column's, as columns are asked for.
fn plain(idents: &[Ident]) -> (Option<&str>, &str) {
    match idents {
        [.., of, name] => (Some(&of.value), &name.value),
        [name] => (None, &name.value),
        [] => (None, ""),
    }
}

impl Scope<'_> {
    /// The value.
    pub(crate) fn value(&self, expr: &Expr) -> Result<Cell, Refusal> {
        Ok(match expr {
            Expr::Value(v) => literal(&v.value)?,
            Expr::Identifier(ident) => self.name(None, &ident.value)?,
            Expr::CompoundIdentifier(parts) => match parts.first() {
                Some(first) if first.value.starts_with("@@") => self.world.surroundings.variable(plain(parts).1)?,
                _ => {
                    let (of, name) = plain(parts);
                    self.name(of, name)?
                }
            },
            Expr::Nested(inner) | Expr::Collate { expr: inner, .. } | Expr::Prefixed { value: inner, .. } => {
                self.value(inner)?
            }
            Expr::Cast { expr, data_type, .. } => cast(self.value(expr)?, &data_type.to_string()),
            Expr::Convert { expr, data_type, .. } => {
                let value = self.value(expr)?;
                data_type.as_ref().map_or(value.clone(), |t| cast(value, &t.to_string()))
            }
            Expr::UnaryOp { op, expr } => self.unary(*op, self.value(expr)?)?,
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Expr::IsNull(inner) => (self.value(inner)? == Cell::Null).into(),
            Expr::IsNotNull(inner) => (self.value(inner)? != Cell::Null).into(),
            Expr::IsTrue(inner) => (truth(self.value(inner)?) == Some(true)).into(),
            Expr::IsFalse(inner) => (truth(self.value(inner)?) == Some(false)).into(),
            Expr::InList { expr, list, negated } => {
                let list = list.iter().map(|e| self.value(e)).collect::<Result<Vec<Cell>, Refusal>>()?;
                among(&self.value(expr)?, &list, *negated)
            }
            Expr::InSubquery { expr, subquery, negated } => {
                let rows = self.world.query(subquery, Some(self))?.rows.into_iter();
                let list: Vec<Cell> = rows.filter_map(|row| row.into_iter().next()).collect();
                among(&self.value(expr)?, &list, *negated)
            }
            Expr::Exists { subquery, negated } => {
                (self.world.query(subquery, Some(self))?.rows.is_empty() == *negated).into()
            }
            Expr::Subquery(query) => {
                let mut rows = self.world.query(query, Some(self))?.rows.into_iter();
                let first = rows.next().and_then(|row| row.into_iter().next()).unwrap_or(Cell::Null);
                match rows.next() {
                    Some(_) => return Err(Refusal::new(1242, "Subquery returns more than 1 row")),
                    None => first,
                }
            }
            Expr::Between { expr, negated, low, high } => {
                let (value, low, high) = (self.value(expr)?, self.value(low)?, self.value(high)?);
                let inside = value.compare(&low).zip(value.compare(&high));
                inside.map(|(a, b)| (a != Ordering::Less && b != Ordering::Greater) != *negated).into()
            }
            Expr::Like { negated, expr, pattern, .. } | Expr::ILike { negated, expr, pattern, .. } => {
                let found = self.value(expr)?.text().zip(self.value(pattern)?.text());
                found.map(|(text, pattern)| like(&text, &pattern) != *negated).into()
            }
            Expr::RLike { negated, expr, pattern, .. } => self.regexp(expr, pattern, *negated)?,
            Expr::Case { operand, conditions, else_result, .. } => {
                self.case(operand.as_deref(), conditions, else_result.as_deref())?
            }
            Expr::Function(_)
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Position { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. } => self.function(expr)?,
            other => return Err(Refusal::not_here(other)),
        })
    }

    fn regexp(&self, expr: &Expr, pattern: &Expr, negated: bool) -> Result<Cell, Refusal> {
        Ok(match self.value(expr)?.text().zip(self.value(pattern)?.text()) {
            Some((text, pattern)) => (self.world.patterns.fits(&text, &pattern)? != negated).into(),
            None => Cell::Null,
        })
    }

    fn case(&self, operand: Option<&Expr>, conditions: &[CaseWhen], otherwise: Option<&Expr>) -> Result<Cell, Refusal> {
        let operand = operand.map(|e| self.value(e)).transpose()?;
        for when in conditions {
            let condition = self.value(&when.condition)?;
            let fits = match &operand {
                Some(operand) => operand.compare(&condition) == Some(Ordering::Equal),
                None => condition.is_true(),
            };
            if fits {
                return self.value(&when.result);
            }
        }
        otherwise.map_or(Ok(Cell::Null), |e| self.value(e))
    }

    /// What a name stands for: a column, here or in the statement around, a variable, or a word like CURRENT_USER.
    fn name(&self, of: Option<&str>, name: &str) -> Result<Cell, Refusal> {
        if of.is_none() && name.starts_with('@') {
            return self.world.surroundings.variable(name);
        }
        if let Some(at) = self.relation.find(of, name) {
            return Ok(self.rows.first().and_then(|row| row.get(at)).cloned().unwrap_or(Cell::Null));
        }
        if let Some(outer) = self.outer {
            return outer.name(of, name);
        }
        let word = name.to_lowercase();
        let niladic = of.is_none() && (word.starts_with("current_") || word.starts_with("utc_"));
        let found = if niladic { self.world.surroundings.niladic(&word) } else { None };
        found.ok_or_else(|| Refusal::unknown_column(name, self.relation))
    }

    fn unary(&self, op: UnaryOperator, value: Cell) -> Result<Cell, Refusal> {
        Ok(match op {
            UnaryOperator::Not | UnaryOperator::BangNot => truth(value).map(|t| !t).into(),
            UnaryOperator::Minus => match value {
                Cell::Int(n) => n.checked_neg().map_or(Cell::Null, Cell::Int),
                other => other.number().map(|n| -n).into(),
            },
            UnaryOperator::Plus => value,
            other => return Err(Refusal::not_here(other)),
        })
    }

    fn binary(&self, left: &Expr, op: &BinaryOperator, right: &Expr) -> Result<Cell, Refusal> {
        let (a, b) = (self.value(left)?, self.value(right)?);
        let ordering = a.compare(&b);
        let numbers = a.number().zip(b.number());
        Ok(match op {
            BinaryOperator::And => match (truth(a), truth(b)) {
                (Some(false), _) | (_, Some(false)) => false.into(),
                (Some(true), Some(true)) => true.into(),
                _ => Cell::Null,
            },
            BinaryOperator::Or => match (truth(a), truth(b)) {
                (Some(true), _) | (_, Some(true)) => true.into(),
                (Some(false), Some(false)) => false.into(),
                _ => Cell::Null,
            },
            BinaryOperator::Spaceship => match (&a, &b) {
                (Cell::Null, Cell::Null) => true.into(),
                _ => (ordering == Some(Ordering::Equal)).into(),
            },
            BinaryOperator::Eq => ordering.map(|o| o == Ordering::Equal).into(),
            BinaryOperator::NotEq => ordering.map(|o| o != Ordering::Equal).into(),
            BinaryOperator::Lt => ordering.map(|o| o == Ordering::Less).into(),
            BinaryOperator::LtEq => ordering.map(|o| o != Ordering::Greater).into(),
            BinaryOperator::Gt => ordering.map(|o| o == Ordering::Greater).into(),
            BinaryOperator::GtEq => ordering.map(|o| o != Ordering::Less).into(),
            BinaryOperator::Plus => arithmetic(&a, &b, i64::checked_add, numbers.map(|(x, y)| x + y)),
            BinaryOperator::Minus => arithmetic(&a, &b, i64::checked_sub, numbers.map(|(x, y)| x - y)),
            BinaryOperator::Multiply => arithmetic(&a, &b, i64::checked_mul, numbers.map(|(x, y)| x * y)),
            BinaryOperator::Modulo => {
                arithmetic(&a, &b, i64::checked_rem, numbers.filter(|(_, y)| *y != 0.0).map(|(x, y)| x % y))
            }
            BinaryOperator::Xor => truth(a).zip(truth(b)).map(|(a, b)| a != b).into(),
            BinaryOperator::MyIntegerDivide => match (&a, &b) {
                (Cell::Int(a), Cell::Int(b)) => a.checked_div(*b).map_or(Cell::Null, Cell::Int),
                _ => numbers.filter(|(_, y)| *y != 0.0).map(|(x, y)| (x / y).trunc()).into(),
            },
            BinaryOperator::Divide => numbers.filter(|(_, y)| *y != 0.0).map(|(x, y)| x / y).into(),
            other => return Err(Refusal::not_here(other)),
        })
    }
}

/// IN.
fn among(value: &Cell, list: &[Cell], negated: bool) -> Cell {
    let mut unknown = *value == Cell::Null && !list.is_empty();
    for item in list {
        match value.compare(item) {
            Some(Ordering::Equal) => return (!negated).into(),
            Some(_) => {}
            None => unknown = true,
        }
    }
    if unknown { Cell::Null } else { negated.into() }
}

/// CAST: to a number or a text; all else stays as it is.
fn cast(value: Cell, to: &str) -> Cell {
    let to = to.to_uppercase();
    #[expect(clippy::cast_possible_truncation, reason = "that is what CAST to a whole number does")]
    if to.contains("INT") || to.contains("SIGNED") {
        match value {
            Cell::Int(n) => Cell::Int(n),
            other => other.number().map(|n| n.round() as i64).map_or(Cell::Null, Cell::Int),
        }
    } else if ["DECIMAL", "DOUBLE", "FLOAT", "REAL"].iter().any(|t| to.contains(t)) {
        value.number().into()
    } else {
        value.text().into()
    }
}

pub(super) fn truth(cell: Cell) -> Option<bool> {
    cell.number().map(|n| n != 0.0)
}

fn arithmetic(a: &Cell, b: &Cell, whole: fn(i64, i64) -> Option<i64>, real: Option<f64>) -> Cell {
    match (a, b) {
        (Cell::Int(a), Cell::Int(b)) => whole(*a, *b).map_or_else(|| real.into(), Cell::Int),
        _ => real.into(),
    }
}

/// The value of a literal.
pub(crate) fn literal(value: &Value) -> Result<Cell, Refusal> {
    Ok(match value {
        Value::Number(text, _) => match text.parse() {
            Ok(n) => Cell::Int(n),
            Err(_) => text.parse::<f64>().map(Cell::Real).map_err(|_| Refusal::not_here(value))?,
        },
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::NationalStringLiteral(text) => {
            text.into()
        }
        Value::Boolean(yes) => (*yes).into(),
        Value::Null => Cell::Null,
        other => return Err(Refusal::not_here(other)),
    })
}
