//! SELECT over one table of the console: projection, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT.
//!
//! sqlparser reads the statement; what is not among these is refused by name, never passed over.

use std::cmp::Ordering;

use sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, OrderByExpr, OrderByKind, OrderBySort, Query, Select, SelectItem, SetExpr,
    Statement, TableFactor,
};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::expression::{Refusal, Scope, Surroundings, aggregates};
use super::relation::{Cell, Relation};

/// A SELECT that was read.
pub(crate) struct Question {
    query: Query,
}

/// The table that a question is about: its database, where it is named, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) database: Option<String>,
    pub(crate) table: String,
}

impl Question {
    /// Reads a SELECT.
    pub(crate) fn read(sql: &str) -> Result<Question, Refusal> {
        let mut statements = Parser::parse_sql(&MySqlDialect {}, sql)
            .map_err(|e| Refusal::new(1064, format!("You have an error in your SQL syntax: {e}")))?;
        match (statements.pop(), statements.is_empty()) {
            (Some(Statement::Query(query)), true) => Ok(Question { query: *query }),
            (Some(other), true) => Err(Refusal::not_here(other)),
            _ => Err(Refusal::new(1064, "one statement at a time")),
        }
    }

    fn select(&self) -> Result<&Select, Refusal> {
        let only = |here: bool, what: &str| if here { Err(Refusal::not_here(what)) } else { Ok(()) };
        only(self.query.with.is_some(), "WITH")?;
        let SetExpr::Select(select) = &*self.query.body else { return Err(Refusal::not_here(&self.query.body)) };
        only(select.into.is_some(), "INTO")?;
        only(!select.lateral_views.is_empty() || !select.named_window.is_empty(), "WINDOW")?;
        Ok(select)
    }

    /// The table; none of `SELECT 1`.
    pub(crate) fn source(&self) -> Result<Option<Source>, Refusal> {
        let select = self.select()?;
        let [from] = select.from.as_slice() else {
            return if select.from.is_empty() { Ok(None) } else { Err(Refusal::not_here("several tables")) };
        };
        if !from.joins.is_empty() {
            return Err(Refusal::not_here("JOIN"));
        }
        let TableFactor::Table { name, .. } = &from.relation else { return Err(Refusal::not_here(&from.relation)) };
        let parts: Vec<&str> = name.0.iter().filter_map(|p| p.as_ident()).map(|i| i.value.as_str()).collect();
        match parts.as_slice() {
            [table] if table.eq_ignore_ascii_case("dual") => Ok(None),
            [table] => Ok(Some(Source { database: None, table: (*table).to_owned() })),
            [database, table] => {
                Ok(Some(Source { database: Some((*database).to_owned()), table: (*table).to_owned() }))
            }
            _ => Err(Refusal::not_here(name)),
        }
    }

    /// Every column that the question names: what a table has to have that nobody knows.
    pub(crate) fn names(&self) -> Vec<String> {
        let Ok(select) = self.select() else { return Vec::new() };
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } => names.push(title(e)),
                _ => {}
            }
        }
        names
    }

    /// The answer, out of the table that [`Question::source`] names.
    pub(crate) fn answer(&self, relation: &Relation, surroundings: &dyn Surroundings) -> Result<Relation, Refusal> {
        let select = self.select()?;
        let mut rows: Vec<&Vec<Cell>> = Vec::new();
        for row in &relation.rows {
            let taken = match &select.selection {
                Some(condition) => Scope { relation, rows: &[row], surroundings }.value(condition)?.is_true(),
                None => true,
            };
            if taken {
                rows.push(row);
            }
        }
        let items = items(&select.projection, relation)?;
        let groups = groups(select, &items, &rows, (relation, surroundings))?;
        let order = self.order()?;
        let mut found: Vec<(Vec<Cell>, Vec<Cell>)> = Vec::new();
        for group in &groups {
            let scope = Scope { relation, rows: group, surroundings };
            if let Some(having) = &select.having
                && !scope.value(&aliased(having, &items))?.is_true()
            {
                continue;
            }
            let cells = items.iter().map(|(_, e)| scope.value(e)).collect::<Result<Vec<Cell>, Refusal>>()?;
            let keys = order.iter().map(|o| key(o, &scope, &items, &cells)).collect::<Result<Vec<Cell>, Refusal>>()?;
            found.push((keys, cells));
        }
        if select.distinct.is_some() {
            let mut seen: Vec<Vec<Cell>> = Vec::new();
            found.retain(|(_, cells)| {
                !seen.contains(cells) && {
                    seen.push(cells.clone());
                    true
                }
            });
        }
        found.sort_by(|(a, _), (b, _)| compare(a, b, order));
        let (skip, take) = self.limit(&Scope { relation, rows: &[], surroundings })?;
        let rows = found.into_iter().map(|(_, cells)| cells).skip(skip).take(take).collect();
        Ok(Relation { columns: items.into_iter().map(|(name, _)| name).collect(), rows })
    }

    fn order(&self) -> Result<&[OrderByExpr], Refusal> {
        match self.query.order_by.as_ref().map(|o| &o.kind) {
            None => Ok(&[]),
            Some(OrderByKind::Expressions(list)) => Ok(list),
            Some(OrderByKind::All(_)) => Err(Refusal::not_here("ORDER BY ALL")),
        }
    }

    fn limit(&self, scope: &Scope<'_>) -> Result<(usize, usize), Refusal> {
        let number = |e: &Expr| -> Result<usize, Refusal> {
            let value = scope.value(e)?;
            match value {
                Cell::Int(n) => usize::try_from(n).map_err(|_| Refusal::new(1064, "LIMIT is negative")),
                _ => Err(Refusal::new(1064, "LIMIT takes a number")),
            }
        };
        Ok(match &self.query.limit_clause {
            None => (0, usize::MAX),
            Some(LimitClause::LimitOffset { limit, offset, .. }) => (
                offset.as_ref().map(|o| number(&o.value)).transpose()?.unwrap_or(0),
                limit.as_ref().map(number).transpose()?.unwrap_or(usize::MAX),
            ),
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => (number(offset)?, number(limit)?),
        })
    }
}

fn compare(a: &[Cell], b: &[Cell], order: &[OrderByExpr]) -> Ordering {
    for ((a, b), by) in a.iter().zip(b).zip(order) {
        let found = a.order(b);
        let found = if by.options.sort == Some(OrderBySort::Desc) { found.reverse() } else { found };
        if found != Ordering::Equal {
            return found;
        }
    }
    Ordering::Equal
}

/// The text that MySQL puts over a column.
fn title(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => ident.value.clone(),
        Expr::CompoundIdentifier(parts) if !expr.to_string().starts_with("@@") => {
            parts.last().map(|p| p.value.clone()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

/// The columns of the answer: their names, and what they hold.
fn items(projection: &[SelectItem], relation: &Relation) -> Result<Vec<(String, Expr)>, Refusal> {
    let mut out = Vec::new();
    for item in projection {
        match item {
            SelectItem::UnnamedExpr(e) => out.push((title(e), e.clone())),
            SelectItem::ExprWithAlias { expr, alias } => out.push((alias.value.clone(), expr.clone())),
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                let all = relation.columns.iter();
                out.extend(all.map(|c| (c.clone(), Expr::Identifier(sqlparser::ast::Ident::new(c.clone())))));
            }
            other => return Err(Refusal::not_here(other)),
        }
    }
    Ok(out)
}

/// The rows by group; each by itself where nothing is counted.
fn groups<'r>(
    select: &Select,
    items: &[(String, Expr)],
    rows: &[&'r Vec<Cell>],
    (relation, surroundings): (&Relation, &dyn Surroundings),
) -> Result<Vec<Vec<&'r Vec<Cell>>>, Refusal> {
    let by = match &select.group_by {
        GroupByExpr::Expressions(list, modifiers) if modifiers.is_empty() => list.as_slice(),
        other => return Err(Refusal::not_here(other)),
    };
    let counts = items.iter().any(|(_, e)| aggregates(e)) || select.having.as_ref().is_some_and(aggregates);
    if by.is_empty() {
        return Ok(if counts { vec![rows.to_vec()] } else { rows.iter().map(|row| vec![*row]).collect() });
    }
    let mut groups: Vec<(Vec<Cell>, Vec<&'r Vec<Cell>>)> = Vec::new();
    for row in rows {
        let scope = Scope { relation, rows: &[*row], surroundings };
        let keys = by.iter().map(|e| scope.value(&aliased(e, items))).collect::<Result<Vec<Cell>, Refusal>>()?;
        match groups.iter_mut().find(|(k, _)| k.iter().zip(&keys).all(|(a, b)| a.order(b) == Ordering::Equal)) {
            Some((_, members)) => members.push(row),
            None => groups.push((keys, vec![row])),
        }
    }
    Ok(groups.into_iter().map(|(_, members)| members).collect())
}

/// What ORDER BY sorts a row by: a place in the list, an alias, or an expression.
fn key(by: &OrderByExpr, scope: &Scope<'_>, items: &[(String, Expr)], cells: &[Cell]) -> Result<Cell, Refusal> {
    if let Expr::Value(v) = &by.expr
        && let Ok(Cell::Int(place)) = super::expression::literal(&v.value)
    {
        let at = usize::try_from(place).ok().and_then(|p| p.checked_sub(1));
        let cell = at.and_then(|at| cells.get(at)).cloned();
        return cell.ok_or_else(|| Refusal::new(1054, format!("Unknown column '{place}' in 'order clause'")));
    }
    scope.value(&aliased(&by.expr, items))
}

/// An alias of the list stands for what it names.
fn aliased(expr: &Expr, items: &[(String, Expr)]) -> Expr {
    match expr {
        Expr::Identifier(ident) => {
            let named = items.iter().find(|(name, _)| name.eq_ignore_ascii_case(&ident.value));
            named.map_or_else(|| expr.clone(), |(_, e)| e.clone())
        }
        Expr::BinaryOp { left, op, right } => Expr::BinaryOp {
            left: Box::new(aliased(left, items)),
            op: op.clone(),
            right: Box::new(aliased(right, items)),
        },
        _ => expr.clone(),
    }
}
