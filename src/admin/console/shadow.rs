//! The table `shadow`: what shadow reads have found, a statement a row.

use super::super::table::moment;
use super::relation::Cell;
use crate::transfer::shadow::StatementReport;

/// Its columns.
pub(super) const COLUMNS: [&str; 28] = [
    "group",
    "id",
    "statement",
    "db",
    "serving",
    "shadow",
    "compared",
    "equal",
    "lag",
    "order",
    "type",
    "real",
    "failed",
    "too_large",
    "unreachable",
    "match_rate",
    "serving_p50_us",
    "serving_p95_us",
    "serving_p99_us",
    "shadow_p50_us",
    "shadow_p95_us",
    "shadow_p99_us",
    "last_verdict",
    "last_place",
    "last_serving",
    "last_shadow",
    "first",
    "last",
];

/// A row of it.
pub(super) fn row(s: &StatementReport) -> Vec<Cell> {
    let mut row: Vec<Cell> = vec![
        (&s.group).into(),
        (&s.id).into(),
        (&s.statement).into(),
        s.database.as_ref().into(),
        (&s.serving).into(),
        (&s.shadow).into(),
        s.compared.into(),
    ];
    row.extend(s.verdicts.words().map(|(_, count)| Cell::from(count)));
    row.push(s.match_rate.into());
    for times in [&s.serving_times, &s.shadow_times] {
        row.extend([times.p50_us, times.p95_us, times.p99_us].map(Cell::from));
    }
    row.extend([&s.last_verdict, &s.last_place, &s.last_serving, &s.last_shadow].map(|v| Cell::from(v.as_ref())));
    row.extend([s.first_ms, s.last_ms].map(|ms| Cell::from(moment(ms))));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_columns() {
        assert_eq!(row(&StatementReport::default()).len(), COLUMNS.len());
    }
}
