//! FROM: tables, derived tables, and joins of them, as one relation whose columns know where they are from.

use sqlparser::ast::{Expr, JoinConstraint, JoinOperator, TableAlias, TableFactor, TableWithJoins};

use super::expression::{Refusal, Scope};
use super::relation::{Cell, Relation};
use super::select::{Source, World};

/// Pairs of rows that a join may look at.
const PAIRS: usize = 2_000_000;

/// Which rows stay that have no partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    None,
    Left,
    Right,
}

impl World<'_> {
    /// What FROM names; one row without columns where it names nothing.
    pub(super) fn from(&self, from: &[TableWithJoins], outer: Option<&Scope<'_>>) -> Result<Relation, Refusal> {
        let mut all: Option<Relation> = None;
        for part in from {
            let mut relation = self.factor(&part.relation, outer)?;
            for join in &part.joins {
                let right = self.factor(&join.relation, outer)?;
                let (keeps, constraint) = kind(&join.join_operator)?;
                relation = self.join(relation, right, keeps, constraint, outer)?;
            }
            all = Some(match all {
                None => relation,
                Some(before) => self.join(before, relation, Keeps::None, &JoinConstraint::None, outer)?,
            });
        }
        Ok(all.unwrap_or_else(nothing))
    }

    fn factor(&self, factor: &TableFactor, outer: Option<&Scope<'_>>) -> Result<Relation, Refusal> {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let Some(source) = Source::of(name)? else { return Ok(nothing()) };
                let found = self.tables.iter().find(|(s, _)| *s == source).map(|(_, relation)| relation);
                let found = found.ok_or_else(|| Refusal::not_here(name))?;
                let of = alias.as_ref().map_or(source.table.as_str(), |a| a.name.value.as_str());
                Ok(found.clone().called(of))
            }
            TableFactor::Derived { lateral: false, subquery, alias, .. } => {
                let found = self.query(subquery, outer)?;
                let Some(TableAlias { name, columns, .. }) = alias else {
                    return Err(Refusal::new(1248, "Every derived table must have its own alias"));
                };
                let mut found = found.called(&name.value);
                for (column, named) in found.columns.iter_mut().zip(columns) {
                    column.clone_from(&named.name.value);
                }
                Ok(found)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.from(std::slice::from_ref(table_with_joins), outer)
            }
            other => Err(Refusal::not_here(other)),
        }
    }

    fn join(
        &self,
        left: Relation,
        right: Relation,
        keeps: Keeps,
        constraint: &JoinConstraint,
        outer: Option<&Scope<'_>>,
    ) -> Result<Relation, Refusal> {
        if left.rows.len().saturating_mul(right.rows.len()) > PAIRS {
            return Err(Refusal::new(1104, "The SELECT would examine too many rows: join fewer of them"));
        }
        let on = condition(constraint, &left, &right)?;
        let mut both = Relation {
            columns: [left.columns.clone(), right.columns.clone()].concat(),
            of: [left.sources(), right.sources()].concat(),
            is_open: left.is_open || right.is_open,
            rows: Vec::new(),
        };
        let mut rows = Vec::new();
        let mut partners = vec![false; right.rows.len()];
        for l in &left.rows {
            let mut is_alone = true;
            for (r, has_partner) in right.rows.iter().zip(&mut partners) {
                let row = [l.clone(), r.clone()].concat();
                let scope = Scope { relation: &both, rows: &[&row], world: self, outer };
                if on.as_ref().map_or(Ok(true), |on| scope.value(on).map(|v| v.is_true()))? {
                    (is_alone, *has_partner) = (false, true);
                    rows.push(row);
                }
            }
            if is_alone && keeps == Keeps::Left {
                rows.push([l.clone(), vec![Cell::Null; right.columns.len()]].concat());
            }
        }
        if keeps == Keeps::Right {
            let alone = right.rows.iter().zip(partners).filter(|(_, has_partner)| !has_partner);
            rows.extend(alone.map(|(r, _)| [vec![Cell::Null; left.columns.len()], r.clone()].concat()));
        }
        both.rows = rows;
        Ok(both)
    }
}

fn nothing() -> Relation {
    Relation { rows: vec![Vec::new()], ..Relation::default() }
}

fn kind(operator: &JoinOperator) -> Result<(Keeps, &JoinConstraint), Refusal> {
    Ok(match operator {
        JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) | JoinOperator::StraightJoin(c) => {
            (Keeps::None, c)
        }
        JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => (Keeps::Left, c),
        JoinOperator::Right(c) | JoinOperator::RightOuter(c) => (Keeps::Right, c),
        _ => return Err(Refusal::not_here("a JOIN of this kind")),
    })
}

/// What two rows have to fulfil to be partners.
fn condition(constraint: &JoinConstraint, left: &Relation, right: &Relation) -> Result<Option<Expr>, Refusal> {
    let names: Vec<String> = match constraint {
        JoinConstraint::None => return Ok(None),
        JoinConstraint::On(expr) => return Ok(Some(expr.clone())),
        JoinConstraint::Using(names) => {
            let last = |n: &sqlparser::ast::ObjectName| Source::of(n).map(|s| s.map(|s| s.table).unwrap_or_default());
            names.iter().map(last).collect::<Result<_, _>>()?
        }
        JoinConstraint::Natural => {
            left.columns.iter().filter(|c| right.columns.iter().any(|r| r.eq_ignore_ascii_case(c))).cloned().collect()
        }
    };
    let mut all: Option<Expr> = None;
    for name in names {
        let of = |relation: &Relation, shift: usize| {
            let at =
                relation.find(None, &name).ok_or_else(|| Refusal::new(1054, format!("Unknown column '{name}'")))?;
            Ok::<Expr, Refusal>(Relation::nth(at + shift))
        };
        let pair = Expr::BinaryOp {
            left: Box::new(of(left, 0)?),
            op: sqlparser::ast::BinaryOperator::Eq,
            right: Box::new(of(right, left.columns.len())?),
        };
        all = Some(match all {
            None => pair,
            Some(before) => Expr::BinaryOp {
                left: Box::new(before),
                op: sqlparser::ast::BinaryOperator::And,
                right: Box::new(pair),
            },
        });
    }
    Ok(all)
}
