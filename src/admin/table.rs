//! Tables for people: columns as wide as their widest cell, numbers to the right, nothing at the line's end.

use crate::entry::temporal;

/// Rows under a head; a cell of only digits, separators and units stands to the right.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    #[must_use]
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|&name| name.to_owned()).collect(), rows: Vec::new() }
    }

    /// One more row; cells beyond the head are dropped.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, each line indented by `indent` spaces.
    #[must_use]
    pub fn render(&self, indent: usize) -> String {
        let widths: Vec<usize> = (0..self.head.len()).map(|column| self.width(column)).collect();
        let numeric: Vec<bool> = (0..self.head.len()).map(|column| self.is_numeric(column)).collect();
        let mut text = String::new();
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for ((cell, width), numeric) in row.iter().zip(&widths).zip(&numeric) {
                let padding = " ".repeat(width - cell.chars().count().min(*width));
                let (before, after) = if *numeric { (padding.as_str(), "") } else { ("", padding.as_str()) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn cells(&self, column: usize) -> impl Iterator<Item = &String> {
        self.rows.iter().filter_map(move |row| row.get(column))
    }

    fn width(&self, column: usize) -> usize {
        let head = self.head.get(column);
        self.cells(column).chain(head).map(|cell| cell.chars().count()).max().unwrap_or_default()
    }

    fn is_numeric(&self, column: usize) -> bool {
        let digits = |cell: &String| !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || c == ',');
        !self.rows.is_empty() && self.cells(column).all(digits)
    }
}

/// `1234567` as `1,234,567`.
#[must_use]
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds since 1970 as `2026-11-27 22:04:05.123`, UTC.
#[must_use]
pub fn moment(ms: u64) -> String {
    format!("{}.{:03}", temporal::civil(ms / 1_000), ms % 1_000)
}

/// `93784` seconds as `1d 2h`: the two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if rest >= size || (!parts.is_empty() && parts.len() < 2) {
            parts.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["STORE", "QUERIES"]);
        table.row(vec!["legacy".into(), number(1_234_567)]);
        table.row(vec!["größe".into(), number(8)]);
        assert_eq!(table.render(2), "  STORE     QUERIES\n  legacy  1,234,567\n  größe           8\n");
    }

    #[test]
    fn moments_are_dates() {
        let texts = [0, 951_826_799_999, 951_826_800_000, 1_795_816_800_123, 4_107_542_400_000].map(moment);
        assert_eq!(
            texts,
            [
                "1970-01-01 00:00:00.000",
                "2000-02-29 12:19:59.999",
                "2000-02-29 12:20:00.000",
                "2026-11-27 22:00:00.123",
                "2100-03-01 00:00:00.000",
            ]
        );
    }

    #[test]
    fn numbers_and_durations() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1_000, 12_345_678].map(number).each_ref().map(String::as_str)
        );
        let texts = [0, 59, 60, 3_661, 93_784].map(duration);
        assert_eq!(texts, ["0s", "59s", "1m 0s", "1h 1m", "1d 2h"]);
    }
}
