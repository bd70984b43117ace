//! Functions: those that people and clients write, and the aggregates.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments,
};

use super::expression::{Refusal, Scope, truth};
use super::relation::Cell;

const AGGREGATES: [&str; 6] = ["count", "sum", "min", "max", "avg", "group_concat"];

fn name(f: &Function) -> String {
    f.name.to_string().trim_matches('`').to_lowercase()
}

/// Whether it counts over rows.
pub(super) fn is_aggregate(f: &Function) -> bool {
    AGGREGATES.contains(&name(f).as_str())
}

/// Its arguments.
pub(super) fn arguments(f: &Function) -> impl Iterator<Item = &Expr> {
    let list = match &f.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|a| match a {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    })
}

impl Scope<'_> {
    /// The value of a function, in whatever form it is written.
    pub(super) fn function(&self, expr: &Expr) -> Result<Cell, Refusal> {
        let values = |list: &[&Expr]| list.iter().map(|e| self.value(e)).collect::<Result<Vec<Cell>, Refusal>>();
        let known = match expr {
            Expr::Function(f) if is_aggregate(f) => return self.aggregate(f),
            Expr::Function(f) => {
                let (name, values) = (name(f), values(&arguments(f).collect::<Vec<_>>())?);
                if values.is_empty() { self.world.surroundings.niladic(&name) } else { call(&name, &values) }
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                let list: Vec<&Expr> = [Some(expr), substring_from.as_ref(), substring_for.as_ref()]
                    .into_iter()
                    .flatten()
                    .map(|e| &**e)
                    .collect();
                call("substring", &values(&list)?)
            }
            Expr::Trim { trim_what: None, trim_characters: None, expr, .. } => call("trim", &values(&[&**expr])?),
            Expr::Position { expr, r#in } => call("locate", &values(&[&**expr, &**r#in])?),
            Expr::Ceil { expr, .. } => call("ceil", &values(&[&**expr])?),
            Expr::Floor { expr, .. } => call("floor", &values(&[&**expr])?),
            _ => None,
        };
        known.ok_or_else(|| Refusal::not_here(expr))
    }

    fn aggregate(&self, f: &Function) -> Result<Cell, Refusal> {
        let mut values = Vec::new();
        for row in self.rows {
            let scope = Scope { rows: &[row], ..*self };
            match arguments(f).next() {
                Some(argument) => values.push(scope.value(argument)?),
                // COUNT(*)
                None => values.push(Cell::Int(1)),
            }
        }
        values.retain(|v| *v != Cell::Null);
        let FunctionArguments::List(list) = &f.args else { return Err(Refusal::not_here(f)) };
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            let mut seen: Vec<Cell> = Vec::new();
            values.retain(|v| {
                !seen.contains(v) && {
                    seen.push(v.clone());
                    true
                }
            });
        }
        let separator = list.clauses.iter().find_map(|c| match c {
            FunctionArgumentClause::Separator(s) => Some(s.to_string().trim_matches('\'').to_owned()),
            _ => None,
        });
        let whole = values.iter().all(|v| matches!(v, Cell::Int(_)));
        let sum: f64 = values.iter().filter_map(Cell::number).sum();
        let count = values.len() as u64;
        Ok(match name(f).as_str() {
            "count" => count.into(),
            _ if values.is_empty() => Cell::Null,
            "min" => values.into_iter().min_by(Cell::order).into(),
            "max" => values.into_iter().max_by(Cell::order).into(),
            "group_concat" => {
                let texts: Vec<String> = values.iter().filter_map(Cell::text).collect();
                texts.join(separator.as_deref().unwrap_or(",")).into()
            }
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

/// A function of values; none where there is no such one.
fn call(name: &str, values: &[Cell]) -> Option<Cell> {
    let text = |at: usize| values.get(at).and_then(Cell::text);
    let number = |at: usize| values.get(at).and_then(Cell::number);
    let whole = |at: usize| match values.get(at) {
        Some(Cell::Int(n)) => Some(*n),
        #[expect(clippy::cast_possible_truncation, reason = "places in a text are small")]
        other => other.and_then(Cell::number).map(|n| n as i64),
    };
    let first = || values.first().cloned().unwrap_or(Cell::Null);
    Some(match (name, values.len()) {
        ("lower" | "lcase", 1) => text(0).map(|t| t.to_lowercase()).into(),
        ("upper" | "ucase", 1) => text(0).map(|t| t.to_uppercase()).into(),
        ("length" | "octet_length", 1) => text(0).map(|t| t.len() as u64).into(),
        ("char_length" | "character_length", 1) => text(0).map(|t| t.chars().count() as u64).into(),
        ("trim", 1) => text(0).map(|t| t.trim_matches(' ').to_owned()).into(),
        ("ltrim", 1) => text(0).map(|t| t.trim_start_matches(' ').to_owned()).into(),
        ("rtrim", 1) => text(0).map(|t| t.trim_end_matches(' ').to_owned()).into(),
        ("concat", _) => values.iter().map(Cell::text).collect::<Option<String>>().into(),
        ("concat_ws", _) => {
            let parts: Vec<String> = values.iter().skip(1).filter_map(Cell::text).collect();
            text(0).map(|with| parts.join(&with)).into()
        }
        ("ifnull", 2) | ("coalesce", _) => values.iter().find(|v| **v != Cell::Null).cloned().unwrap_or(Cell::Null),
        ("nullif", 2) => match first().compare(values.get(1)?) {
            Some(std::cmp::Ordering::Equal) => Cell::Null,
            _ => first(),
        },
        ("isnull", 1) => (first() == Cell::Null).into(),
        ("if", 3) => values.get(if first().is_true() { 1 } else { 2 })?.clone(),
        ("not", 1) => truth(first()).map(|t| !t).into(),
        ("round", 1) => rounded(&first(), f64::round),
        ("round", 2) => {
            let digits = i32::try_from(whole(1)?).ok()?;
            number(0).map(|n| (n * 10f64.powi(digits)).round() / 10f64.powi(digits)).into()
        }
        ("floor", 1) => rounded(&first(), f64::floor),
        ("ceil" | "ceiling", 1) => rounded(&first(), f64::ceil),
        ("abs", 1) => match first() {
            Cell::Int(n) => Cell::Int(n.saturating_abs()),
            other => other.number().map(f64::abs).into(),
        },
        ("greatest", _) => values.iter().cloned().max_by(Cell::order)?,
        ("least", _) => values.iter().cloned().min_by(Cell::order)?,
        ("replace", 3) => match (text(0), text(1), text(2)) {
            (Some(t), Some(from), Some(to)) if !from.is_empty() => t.replace(&from, &to).into(),
            (t, _, _) => t.into(),
        },
        ("locate", 2) => located(text(1), text(0)),
        ("instr", 2) => located(text(0), text(1)),
        ("left", 2) => text(0).map(|t| part(&t, 1, whole(1))).into(),
        ("right", 2) => text(0).map(|t| part(&t, -whole(1).unwrap_or(0), None)).into(),
        ("substring" | "substr" | "mid", 2 | 3) => {
            text(0).zip(whole(1)).map(|(t, from)| part(&t, from, whole(2))).into()
        }
        ("substring_index", 3) => match (text(0), text(1), whole(2)) {
            (Some(t), Some(by), Some(n)) if !by.is_empty() => before_nth(&t, &by, n).into(),
            (t, _, _) => t.into(),
        },
        _ => return None,
    })
}

fn rounded(value: &Cell, how: fn(f64) -> f64) -> Cell {
    match value {
        Cell::Int(n) => Cell::Int(*n),
        other => other.number().map(how).into(),
    }
}

/// Where a text stands in another, from 1 on; 0 for nowhere.
fn located(within: Option<String>, what: Option<String>) -> Cell {
    let place = |(within, what): (String, String)| {
        let (within, what) = (within.to_lowercase(), what.to_lowercase());
        within.find(&what).map_or(0, |at| within.get(..at).map_or(0, |t| t.chars().count()) as u64 + 1)
    };
    within.zip(what).map(place).into()
}

/// SUBSTRING: from a place on, counted from 1 or, where it is negative, from the end.
fn part(text: &str, from: i64, length: Option<i64>) -> String {
    let characters = text.chars().count();
    let skip = match usize::try_from(from) {
        Ok(0) => return String::new(),
        Ok(n) => n - 1,
        Err(_) => match characters.checked_sub(usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX)) {
            Some(skip) => skip,
            None => return String::new(),
        },
    };
    let take = length.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
    text.chars().skip(skip).take(take).collect()
}

/// SUBSTRING_INDEX: what stands before the nth separator, or, where n is negative, behind it from the end.
fn before_nth(text: &str, separator: &str, n: i64) -> String {
    let parts: Vec<&str> = text.split(separator).collect();
    let count = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX).min(parts.len());
    let kept = if n >= 0 { parts.get(..count) } else { parts.get(parts.len() - count..) };
    kept.unwrap_or_default().join(separator)
}
