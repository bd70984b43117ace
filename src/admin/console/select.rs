//! SELECT over the console's tables: projection, WHERE, GROUP BY, HAVING, ORDER BY, LIMIT, UNION, and subqueries wherever they may
//! stand. What FROM names is [`super::from`]'s.
//!
//! sqlparser reads the statement; what is not among these is refused by name, never passed over.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, ObjectName, OrderByExpr, OrderByKind, OrderBySort, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, Statement, visit_relations,
};
use sqlparser::dialect::MySqlDialect;
use sqlparser::parser::Parser;

use super::expression::{Refusal, Scope, Surroundings, aggregates};
use super::pattern::Patterns;
use super::relation::{Cell, Relation};

/// A SELECT that was read.
pub(crate) struct Question {
    query: Query,
    /// SQL_CALC_FOUND_ROWS.
    counts_all: bool,
}

/// A table that a question is about: its database, where it is named, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) database: Option<String>,
    pub(crate) table: String,
}

impl Source {
    /// What a name stands for; none for DUAL.
    pub(super) fn of(name: &ObjectName) -> Result<Option<Source>, Refusal> {
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
}

impl Question {
    /// Reads a SELECT.
    pub(crate) fn read(sql: &str) -> Result<Question, Refusal> {
        let parse = |sql: &str| Parser::parse_sql(&MySqlDialect {}, sql);
        let mut statements = parse(sql)
            .or_else(|e| without_charsets(sql).map_or(Err(e), |sql| parse(&sql)))
            .map_err(|e| Refusal::new(1064, format!("You have an error in your SQL syntax: {e}")))?;
        match (statements.pop(), statements.is_empty()) {
            (Some(Statement::Query(query)), true) => {
                refuse(query.with.is_some(), "WITH")?;
                let counts_all = sql.to_uppercase().contains("SQL_CALC_FOUND_ROWS");
                Ok(Question { query: *query, counts_all })
            }
            (Some(other), true) => Err(Refusal::not_here(other)),
            _ => Err(Refusal::new(1064, "one statement at a time")),
        }
    }

    /// Every table that it names, in subqueries too.
    pub(crate) fn sources(&self) -> Result<Vec<Source>, Refusal> {
        let mut sources: Vec<Source> = Vec::new();
        let mut wrong = None;
        let _ = visit_relations(&self.query, |name| match Source::of(name) {
            Ok(source) => {
                let new: Vec<Source> = source.into_iter().filter(|s| !sources.contains(s)).collect();
                sources.extend(new);
                ControlFlow::Continue(())
            }
            Err(refusal) => {
                wrong = Some(refusal);
                ControlFlow::Break(())
            }
        });
        wrong.map_or(Ok(sources), Err)
    }

    /// The answer, out of its tables, and what FOUND_ROWS() is to say of it.
    pub(crate) fn answer(
        &self,
        tables: &[(Source, Relation)],
        surroundings: &dyn Surroundings,
    ) -> Result<(Relation, u64), Refusal> {
        let (world, nothing) = (World { tables, surroundings, patterns: Patterns::default() }, Relation::default());
        let mut found = world.whole(&self.query, None)?;
        let all = found.rows.len();
        cut(&self.query, &mut found, &Scope { relation: &nothing, rows: &[], world: &world, outer: None })?;
        let found_rows = if self.counts_all { all } else { found.rows.len() };
        Ok((found, found_rows as u64))
    }
}

/// What a question is answered out of.
pub(crate) struct World<'a> {
    pub(super) tables: &'a [(Source, Relation)],
    pub(super) surroundings: &'a dyn Surroundings,
    /// What REGEXP was asked about.
    pub(super) patterns: Patterns,
}

fn refuse(here: bool, what: &str) -> Result<(), Refusal> {
    if here { Err(Refusal::not_here(what)) } else { Ok(()) }
}

impl World<'_> {
    /// The answer to a query; `outer` is the row that it stands in.
    pub(crate) fn query(&self, query: &Query, outer: Option<&Scope<'_>>) -> Result<Relation, Refusal> {
        let (mut found, nothing) = (self.whole(query, outer)?, Relation::default());
        cut(query, &mut found, &Scope { relation: &nothing, rows: &[], world: self, outer })?;
        Ok(found)
    }

    /// The same before its LIMIT.
    fn whole(&self, query: &Query, outer: Option<&Scope<'_>>) -> Result<Relation, Refusal> {
        refuse(query.with.is_some(), "WITH")?;
        let order = order(query)?;
        match &*query.body {
            SetExpr::Select(select) => self.select(select, order, outer),
            body => {
                let mut found = self.body(body, outer)?;
                self.sort(&mut found, order)?;
                Ok(found)
            }
        }
    }

    fn body(&self, body: &SetExpr, outer: Option<&Scope<'_>>) -> Result<Relation, Refusal> {
        match body {
            SetExpr::Select(select) => self.select(select, &[], outer),
            SetExpr::Query(query) => self.query(query, outer),
            SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right } => {
                let mut all = self.body(left, outer)?;
                let more = self.body(right, outer)?;
                if all.columns.len() != more.columns.len() {
                    return Err(Refusal::new(1222, "The used SELECT statements have a different number of columns"));
                }
                all.rows.extend(more.rows);
                match set_quantifier {
                    SetQuantifier::All => {}
                    SetQuantifier::None | SetQuantifier::Distinct => all.rows = once_each(all.rows),
                    other => return Err(Refusal::not_here(other)),
                }
                Ok(all)
            }
            other => Err(Refusal::not_here(other)),
        }
    }

    /// A UNION's rows in order: by the columns of its answer.
    fn sort(&self, found: &mut Relation, order: &[OrderByExpr]) -> Result<(), Refusal> {
        let items = items(&[SelectItem::Wildcard(Default::default())], found)?;
        let mut keyed = Vec::new();
        for row in &found.rows {
            let scope = Scope { relation: found, rows: &[row], world: self, outer: None };
            let keys = order.iter().map(|o| key(o, &scope, &items, row)).collect::<Result<Vec<Cell>, Refusal>>()?;
            keyed.push((keys, row.clone()));
        }
        keyed.sort_by(|(a, _), (b, _)| compare(a, b, order));
        found.rows = keyed.into_iter().map(|(_, row)| row).collect();
        Ok(())
    }

    fn select(&self, select: &Select, order: &[OrderByExpr], outer: Option<&Scope<'_>>) -> Result<Relation, Refusal> {
        refuse(select.into.is_some(), "INTO")?;
        refuse(!select.lateral_views.is_empty() || !select.named_window.is_empty(), "WINDOW")?;
        let relation = self.from(&select.from, outer)?;
        let mut rows: Vec<&Vec<Cell>> = Vec::new();
        for row in &relation.rows {
            let taken = match &select.selection {
                Some(condition) => {
                    Scope { relation: &relation, rows: &[row], world: self, outer }.value(condition)?.is_true()
                }
                None => true,
            };
            if taken {
                rows.push(row);
            }
        }
        let items = items(&select.projection, &relation)?;
        let scope = |rows| Scope { relation: &relation, rows, world: self, outer };
        let groups = groups(select, &items, &rows, &scope(&[]))?;
        let mut found: Vec<(Vec<Cell>, Vec<Cell>)> = Vec::new();
        for group in &groups {
            let scope = Scope { relation: &relation, rows: group, world: self, outer };
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
        let mut answer = Relation::new(&items.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        answer.rows = found.into_iter().map(|(_, cells)| cells).collect();
        Ok(answer)
    }
}

/// LIMIT.
fn cut(query: &Query, found: &mut Relation, scope: &Scope<'_>) -> Result<(), Refusal> {
    let (skip, take) = limit(query, scope)?;
    found.rows = std::mem::take(&mut found.rows).into_iter().skip(skip).take(take).collect();
    Ok(())
}

/// A statement without the character sets of its CASTs, which sqlparser does not read; none where it has none. Here all is utf8mb4.
fn without_charsets(sql: &str) -> Option<String> {
    let mut out = sql.to_owned();
    for named in [" CHARACTER SET utf8mb4)", " CHARACTER SET utf8)", " CHARSET utf8mb4)", " CHARSET utf8)"] {
        out = out.replace(named, ")");
    }
    (out != sql).then_some(out)
}

fn once_each(rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    let mut seen: Vec<Vec<Cell>> = Vec::new();
    for row in rows {
        if !seen.contains(&row) {
            seen.push(row);
        }
    }
    seen
}

fn order(query: &Query) -> Result<&[OrderByExpr], Refusal> {
    match query.order_by.as_ref().map(|o| &o.kind) {
        None => Ok(&[]),
        Some(OrderByKind::Expressions(list)) => Ok(list),
        Some(OrderByKind::All(_)) => Err(Refusal::not_here("ORDER BY ALL")),
    }
}

fn limit(query: &Query, scope: &Scope<'_>) -> Result<(usize, usize), Refusal> {
    let number = |e: &Expr| -> Result<usize, Refusal> {
        match scope.value(e)? {
            Cell::Int(n) => usize::try_from(n).map_err(|_| Refusal::new(1064, "LIMIT is negative")),
            // (a client's "all": 18446744073709551615)
            Cell::Real(n) if n > 0.0 => Ok(usize::MAX),
            _ => Err(Refusal::new(1064, "LIMIT takes a number")),
        }
    };
    Ok(match &query.limit_clause {
        None => (0, usize::MAX),
        Some(LimitClause::LimitOffset { limit, offset, .. }) => (
            offset.as_ref().map(|o| number(&o.value)).transpose()?.unwrap_or(0),
            limit.as_ref().map(number).transpose()?.unwrap_or(usize::MAX),
        ),
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => (number(offset)?, number(limit)?),
    })
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
        Expr::Value(v) => super::expression::literal(&v.value).ok().and_then(|c| c.text()).unwrap_or("NULL".into()),
        other => other.to_string(),
    }
}

/// The columns of the answer: their names, and what they hold.
fn items(projection: &[SelectItem], relation: &Relation) -> Result<Vec<(String, Expr)>, Refusal> {
    let mut out = Vec::new();
    let all = |of: Option<&str>| {
        let of = of.map(str::to_owned);
        let mine = move |n: &usize| of.as_ref().is_none_or(|of| relation.is_of(*n, of));
        (0..relation.columns.len())
            .filter(mine)
            .filter_map(|n| Some((relation.columns.get(n)?.clone(), Relation::nth(n))))
    };
    for item in projection {
        match item {
            SelectItem::UnnamedExpr(e) => out.push((title(e), e.clone())),
            SelectItem::ExprWithAlias { expr, alias } => out.push((alias.value.clone(), expr.clone())),
            SelectItem::Wildcard(_) => out.extend(all(None)),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let of = Source::of(name)?.map(|s| s.table).unwrap_or_default();
                let before = out.len();
                out.extend(all(Some(&of)));
                if out.len() == before && !relation.is_open {
                    return Err(Refusal::new(1051, format!("Unknown table '{of}'")));
                }
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
    around: &Scope<'_>,
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
        let scope = Scope { rows: &[*row], ..*around };
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
