//! What is applied, as the rows of `switchover.marks` say it: pure.
//!
//! A round applies the transactions between two positions, `base` and `position`, in one part or in several. Each part is one
//! transaction on the standby, which writes its own row: round, number of parts, both positions, and the ids that it applied.
//!
//! - A round of one part is there or not. Its `ids` are transactions *behind* `position` that are applied already (from a
//!   torn round before it).
//! - A round of several parts may be torn: some rows have its number, some not. Then everything before `base` is applied, and
//!   the `ids` of the rows that have it. A torn round is finished by rounds of one part, in the order of the log.

use std::collections::BTreeSet;
use std::str::FromStr;

use super::schema::literal;
use crate::entry::position::NoPosition;
use crate::entry::{Position, Transaction};

/// What [`from_cells`] takes.
pub const COLUMNS: &str = "part, round, parts, base, position, ids";

/// One row of `switchover.marks`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which part.
    pub part: usize,
    /// The newest round that this part took part in; −1 for none.
    pub round: i64,
    /// Parts of that round.
    pub parts: usize,
    /// Where it began.
    pub base: Position,
    /// Where it ends.
    pub position: Position,
    /// See above.
    pub ids: BTreeSet<String>,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resume {
    /// The newest round; the next has the number after it.
    pub round: i64,
    /// Everything before is applied.
    pub position: Position,
    /// Applied although behind `position`.
    pub applied: BTreeSet<String>,
}

/// Why the rows make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMarks {
    /// There are none: nobody said where to start.
    #[error("the standby has no mark: `switchover init` says where its copy starts")]
    None,
    /// A position that cannot be read.
    #[error("switchover.marks: {0}")]
    Position(#[from] NoPosition),
}

/// What the rows say.
///
/// # Errors
/// [`BadMarks::None`] where no row has a round.
pub fn resume(marks: &[Mark]) -> Result<Resume, BadMarks> {
    let newest = marks.iter().filter(|m| m.round >= 0).max_by_key(|m| m.round).ok_or(BadMarks::None)?;
    let round = newest.round;
    let of_round: Vec<&Mark> = marks.iter().filter(|m| m.round == round).collect();
    if newest.parts == 1 {
        return Ok(Resume { round, position: newest.position.clone(), applied: newest.ids.clone() });
    }
    if of_round.len() >= newest.parts {
        return Ok(Resume { round, position: newest.position.clone(), applied: BTreeSet::new() });
    }
    let applied = of_round.iter().flat_map(|m| m.ids.iter().cloned()).collect();
    Ok(Resume { round, position: newest.base.clone(), applied })
}

/// The ids of a part's row: a round of one part names what is applied behind it, a part of several what it applies itself.
#[must_use]
pub fn ids_of(parts: usize, own: &[&Transaction], behind: &BTreeSet<String>) -> BTreeSet<String> {
    if parts == 1 { behind.clone() } else { own.iter().map(|t| t.id.clone()).collect() }
}

/// The ids as they stand in a row.
#[must_use]
pub fn ids_to_text(ids: &BTreeSet<String>) -> String {
    ids.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// The other way.
#[must_use]
pub fn ids_from_text(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The statement that reads the rows of a group.
#[must_use]
pub fn select(group: &str) -> String {
    format!("SELECT {COLUMNS} FROM switchover.marks WHERE group_name = {}", literal(group))
}

/// A mark from the cells of its row: [`COLUMNS`], and whatever is behind them.
///
/// # Errors
/// [`BadMarks::Position`].
pub fn from_cells(cells: &[String]) -> Result<Mark, BadMarks> {
    let text = |at: usize| cells.get(at).map(String::as_str).unwrap_or_default();
    Ok(Mark {
        part: text(0).parse().unwrap_or(0),
        round: text(1).parse().unwrap_or(-1),
        parts: text(2).parse().unwrap_or(1),
        base: Position::from_str(text(3))?,
        position: Position::from_str(text(4))?,
        ids: ids_from_text(text(5)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(part: usize, round: i64, parts: usize, positions: (&str, &str), ids: &str) -> Mark {
        let position = |text: &str| text.parse().unwrap();
        Mark {
            part,
            round,
            parts,
            base: position(positions.0),
            position: position(positions.1),
            ids: ids_from_text(ids),
        }
    }

    #[test]
    fn a_torn_round_goes_on_from_its_base() {
        assert_eq!(resume(&[]), Err(BadMarks::None));
        let old = mark(1, 3, 2, ("0-1-5", "0-1-9"), "0-1-7");
        let torn = resume(&[mark(0, 4, 2, ("0-1-9", "0-1-14"), "0-1-11 0-1-10"), old.clone()]).unwrap();
        assert_eq!((torn.round, torn.position.to_string().as_str()), (4, "0-1-9"));
        assert_eq!(ids_to_text(&torn.applied), "0-1-10 0-1-11");
        let whole =
            resume(&[mark(0, 4, 2, ("0-1-9", "0-1-14"), "0-1-11"), mark(1, 4, 2, ("0-1-9", "0-1-14"), "0-1-12")]);
        assert_eq!(whole.unwrap(), Resume { round: 4, position: "0-1-14".parse().unwrap(), applied: BTreeSet::new() });
        let single = resume(&[mark(0, 5, 1, ("0-1-9", "0-1-10"), "0-1-13"), old]).unwrap();
        assert_eq!(
            (single.position.to_string().as_str(), ids_to_text(&single.applied)),
            ("0-1-10", "0-1-13".to_owned())
        );
    }
}
