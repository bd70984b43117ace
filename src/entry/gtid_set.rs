//! MySQL's GTIDs: which transactions of which servers are done.
//!
//! `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7,…`: a server's UUID, and numbers that are done of those it gave; several with commas.
//! Tags (MySQL 8.3) are not known. Source: MySQL's manual, "GTID Sets"; its `COM_BINLOG_DUMP_GTID`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::position::{NoPosition, Uuid};
use crate::wire::hex::hex;

/// Numbers from the first to the last, both in it.
type Interval = (u64, u64);

/// Which transactions are done. Of each source its intervals, in their order, none next to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GtidSet(BTreeMap<Uuid, Vec<Interval>>);

impl GtidSet {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one transaction.
    pub fn add(&mut self, source: Uuid, number: u64) {
        let known = self.0.entry(source).or_default();
        match known.last_mut() {
            // (as good as always: the next one)
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => join(known, (number, number)),
        }
    }

    /// How many of `other` are not in this one.
    #[must_use]
    pub fn lacks(&self, other: &GtidSet) -> u64 {
        let mut lacking = 0u64;
        for (source, wanted) in &other.0 {
            let known = self.0.get(source).map_or(&[][..], Vec::as_slice);
            for (first, last) in wanted {
                let overlaps = known.iter().map(|(a, b)| count(*a.max(first), *b.min(last)));
                lacking = lacking.saturating_add(count(*first, *last) - overlaps.sum::<u64>());
            }
        }
        lacking
    }

    /// As the command that asks for a binlog has it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX).to_le_bytes();
        let mut out = number(self.0.len()).to_vec();
        for (source, intervals) in &self.0 {
            out.extend(source.0);
            out.extend(number(intervals.len()));
            for (first, last) in intervals {
                out.extend(first.to_le_bytes());
                // (it says where an interval has ended)
                out.extend(last.saturating_add(1).to_le_bytes());
            }
        }
        out
    }
}

/// How many numbers are from the first to the last.
fn count(first: u64, last: u64) -> u64 {
    if first > last { 0 } else { (last - first).saturating_add(1) }
}

/// Adds an interval to others.
fn join(known: &mut Vec<Interval>, (mut first, mut last): Interval) {
    known.retain(|(a, b)| {
        let touches = *a <= last.saturating_add(1) && first <= b.saturating_add(1);
        if touches {
            (first, last) = (first.min(*a), last.max(*b));
        }
        !touches
    });
    let at = known.partition_point(|(a, _)| *a < first);
    known.insert(at, (first, last));
}

/// A UUID as MySQL writes it.
fn dashed(uuid: Uuid) -> String {
    let hex = hex(&uuid.0);
    let part = |from, to| hex.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// A GTID as MySQL writes it.
#[must_use]
pub fn gtid(source: Uuid, number: u64) -> String {
    format!("{}:{number}", dashed(source))
}

/// Whether a text begins as a set does that is not empty: with a UUID and a colon.
pub(super) fn is_one(text: &str) -> bool {
    text.split_once(':').is_some_and(|(source, _)| source_of(source).is_some())
}

fn source_of(text: &str) -> Option<Uuid> {
    let uuid: Uuid = text.trim().replace('-', "").parse().ok()?;
    text.trim().eq_ignore_ascii_case(&dashed(uuid)).then_some(uuid)
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (source, intervals)) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str(",")?;
            }
            f.write_str(&dashed(*source))?;
            for (first, last) in intervals {
                if first == last { write!(f, ":{first}") } else { write!(f, ":{first}-{last}") }?;
            }
        }
        Ok(())
    }
}

impl FromStr for GtidSet {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<GtidSet, NoPosition> {
        let mut set = GtidSet::default();
        let mut read = || -> Option<()> {
            for part in text.split(',').filter(|part| !part.trim().is_empty()) {
                let (source, intervals) = part.split_once(':')?;
                let known = set.0.entry(source_of(source)?).or_default();
                for interval in intervals.split(':') {
                    let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
                    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                    // (MySQL's numbers begin with 1, and are signed)
                    (0 < first && first <= last && last < 1 << 63).then_some(())?;
                    join(known, (first, last));
                }
            }
            Some(())
        };
        read().ok_or_else(|| NoPosition(text.to_owned()))?;
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";

    fn set(text: &str) -> GtidSet {
        text.replace('A', A).replace('B', B).parse().unwrap()
    }

    #[test]
    fn sets_are_read_and_written() {
        let text = |s: &str| set(s).to_string().replace(A, "A").replace(B, "B");
        assert_eq!(text("A:1-5"), "A:1-5");
        assert_eq!(text("B:7,\nA:1-3:5:4:9-12"), "A:1-5:9-12,B:7");
        assert_eq!(text("A:1-3,A:4"), "A:1-4");
        assert_eq!(set(""), GtidSet::default());
        assert_eq!(format!("{}:1", A.to_uppercase()).parse::<GtidSet>(), Ok(set("A:1")));
        for bad in [
            "A",
            "A:",
            "A:0",
            "A:3-1",
            "A:x",
            "A:tag:1",
            "A:1-9223372036854775808",
            "3e11fa4771ca11e19e33c80aa9429562:1",
        ] {
            assert!(bad.replace('A', A).parse::<GtidSet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_lacking_is_counted() {
        let lacks = |a: &str, b: &str| set(a).lacks(&set(b));
        assert_eq!((lacks("A:1-5", "A:1-9"), lacks("A:1-9", "A:1-5"), lacks("", "A:1-9,B:3")), (4, 0, 10));
        assert_eq!((lacks("A:1-5:8", "A:4-10"), lacks("A:1-5", "B:1-5"), lacks("A:1-5", "")), (4, 5, 0));
    }

    #[test]
    fn it_is_encoded_as_mysql_has_it() {
        let mut wanted = vec![1, 0, 0, 0, 0, 0, 0, 0];
        wanted.extend(source_of(A).unwrap().0);
        for n in [2u64, 1, 6, 8, 9] {
            wanted.extend(n.to_le_bytes());
        }
        assert_eq!(set("A:1-5:8").encode(), wanted);
        assert_eq!(set("").encode(), [0; 8]);
    }

    proptest! {
        /// Against a set of numbers.
        #[test]
        fn adding_is_that_of_numbers(ours in proptest::collection::vec(1u64..40, 0..40), theirs in proptest::collection::vec(1u64..40, 0..40)) {
            let (mut a, mut b) = (GtidSet::default(), GtidSet::default());
            let source = Uuid([7; 16]);
            ours.iter().for_each(|n| a.add(source, *n));
            theirs.iter().for_each(|n| b.add(source, *n));
            let (x, y): (BTreeSet<_>, BTreeSet<_>) = (ours.into_iter().collect(), theirs.into_iter().collect());
            prop_assert_eq!(a.lacks(&b), y.difference(&x).count() as u64);
            prop_assert_eq!(a.to_string().parse::<GtidSet>(), Ok(a.clone()));
            let text = a.to_string();
            prop_assert!(text.matches(':').count() <= x.len());
        }
    }
}
