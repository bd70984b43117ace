//! The value of an expression over a row: what people write behind WHERE, ORDER BY and SELECT.

use std::cmp::Ordering;

use sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, UnaryOperator, Value,
};

use super::relation::{Cell, Relation, like};

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
    pub(crate) surroundings: &'a dyn Surroundings,
}

/// Whether an expression counts over rows.
pub(crate) fn aggregates(expr: &Expr) -> bool {
    match expr {
        Expr::Function(f) => AGGREGATES.contains(&function_name(f).as_str()) || arguments(f).any(aggregates),
        Expr::BinaryOp { left, right, .. } => aggregates(left) || aggregates(right),
        Expr::Nested(inner) | Expr::UnaryOp { expr: inner, .. } => aggregates(inner),
        _ => false,
    }
}

const AGGREGATES: [&str; 5] = ["count", "sum", "min", "max", "avg"];

fn function_name(f: &Function) -> String {
    f.name.to_string().trim_matches('`').to_lowercase()
}

fn arguments(f: &Function) -> impl Iterator<Item = &Expr> {
    let list = match &f.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|a| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    })
}

/// A name without its quotes, as columns are asked for.
fn plain(idents: &[Ident]) -> String {
    idents.last().map(|i| i.value.clone()).unwrap_or_default()
}

impl Scope<'_> {
    /// The value.
    pub(crate) fn value(&self, expr: &Expr) -> Result<Cell, Refusal> {
        Ok(match expr {
            Expr::Value(v) => literal(&v.value)?,
            Expr::Identifier(ident) if ident.value.starts_with("@@") => {
                self.surroundings.variable(ident.value.trim_start_matches('@'))?
            }
            Expr::Identifier(ident) => self.column(&ident.value)?,
            Expr::CompoundIdentifier(parts) if parts.first().is_some_and(|p| p.value.starts_with("@@")) => {
                self.surroundings.variable(&plain(parts))?
            }
            Expr::CompoundIdentifier(parts) => self.column(&plain(parts))?,
            Expr::Nested(inner) => self.value(inner)?,
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => truth(self.value(expr)?).map(|t| !t).into(),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match self.value(expr)? {
                Cell::Int(n) => Cell::Int(-n),
                other => other.number().map(|n| -n).into(),
            },
            Expr::UnaryOp { op: UnaryOperator::Plus, expr } => self.value(expr)?,
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right)?,
            Expr::IsNull(inner) => (self.value(inner)? == Cell::Null).into(),
            Expr::IsNotNull(inner) => (self.value(inner)? != Cell::Null).into(),
            Expr::IsTrue(inner) => (truth(self.value(inner)?) == Some(true)).into(),
            Expr::IsFalse(inner) => (truth(self.value(inner)?) == Some(false)).into(),
            Expr::InList { expr, list, negated } => self.in_list(expr, list, *negated)?,
            Expr::Between { expr, negated, low, high } => {
                let (value, low, high) = (self.value(expr)?, self.value(low)?, self.value(high)?);
                let inside = value.compare(&low).zip(value.compare(&high));
                inside.map(|(a, b)| (a != Ordering::Less && b != Ordering::Greater) != *negated).into()
            }
            Expr::Like { negated, expr, pattern, .. } | Expr::ILike { negated, expr, pattern, .. } => {
                let found = self.value(expr)?.text().zip(self.value(pattern)?.text());
                found.map(|(text, pattern)| like(&text, &pattern) != *negated).into()
            }
            Expr::Function(f) => self.function(f)?,
            other => return Err(Refusal::not_here(other)),
        })
    }

    fn column(&self, name: &str) -> Result<Cell, Refusal> {
        let at = self.relation.column(name).ok_or_else(|| Refusal::unknown_column(name, self.relation))?;
        Ok(self.rows.first().and_then(|row| row.get(at)).cloned().unwrap_or(Cell::Null))
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
            BinaryOperator::Divide => numbers.filter(|(_, y)| *y != 0.0).map(|(x, y)| x / y).into(),
            other => return Err(Refusal::not_here(other)),
        })
    }

    fn in_list(&self, expr: &Expr, list: &[Expr], negated: bool) -> Result<Cell, Refusal> {
        let value = self.value(expr)?;
        let mut unknown = value == Cell::Null;
        for item in list {
            match value.compare(&self.value(item)?) {
                Some(Ordering::Equal) => return Ok((!negated).into()),
                Some(_) => {}
                None => unknown = true,
            }
        }
        Ok(if unknown { Cell::Null } else { negated.into() })
    }

    fn function(&self, f: &Function) -> Result<Cell, Refusal> {
        let name = function_name(f);
        if AGGREGATES.contains(&name.as_str()) {
            return self.aggregate(&name, f);
        }
        let values = arguments(f).map(|e| self.value(e)).collect::<Result<Vec<Cell>, Refusal>>()?;
        let text = |at: usize| values.get(at).and_then(Cell::text);
        Ok(match (name.as_str(), values.len()) {
            ("lower" | "lcase", 1) => text(0).map(|t| t.to_lowercase()).into(),
            ("upper" | "ucase", 1) => text(0).map(|t| t.to_uppercase()).into(),
            ("length" | "char_length", 1) => text(0).map(|t| t.chars().count() as u64).into(),
            ("concat", _) => values.iter().map(Cell::text).collect::<Option<String>>().into(),
            ("ifnull", 2) | ("coalesce", _) => values.into_iter().find(|v| *v != Cell::Null).unwrap_or(Cell::Null),
            ("if", 3) => {
                let at = if values.first().is_some_and(Cell::is_true) { 1 } else { 2 };
                values.into_iter().nth(at).unwrap_or(Cell::Null)
            }
            ("round", 1) => values.first().and_then(Cell::number).map(f64::round).into(),
            (niladic, 0) => self.surroundings.niladic(niladic).ok_or_else(|| Refusal::not_here(f))?,
            _ => return Err(Refusal::not_here(f)),
        })
    }

    fn aggregate(&self, name: &str, f: &Function) -> Result<Cell, Refusal> {
        let mut values = Vec::new();
        for row in self.rows {
            let scope = Scope { relation: self.relation, rows: &[row], surroundings: self.surroundings };
            match arguments(f).next() {
                Some(argument) => values.push(scope.value(argument)?),
                // COUNT(*)
                None => values.push(Cell::Int(1)),
            }
        }
        values.retain(|v| *v != Cell::Null);
        let whole = values.iter().all(|v| matches!(v, Cell::Int(_)));
        let sum: f64 = values.iter().filter_map(Cell::number).sum();
        let count = values.len() as u64;
        Ok(match name {
            "count" => count.into(),
            _ if values.is_empty() => Cell::Null,
            "min" => values.into_iter().min_by(Cell::order).into(),
            "max" => values.into_iter().max_by(Cell::order).into(),
            #[expect(clippy::cast_precision_loss, reason = "a console's rows are few")]
            "avg" => (sum / count as f64).into(),
            _ if whole => Cell::Int(values.iter().fold(0, |n: i64, v| match v {
                Cell::Int(m) => n.saturating_add(*m),
                _ => n,
            })),
            _ => sum.into(),
        })
    }
}

fn truth(cell: Cell) -> Option<bool> {
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
