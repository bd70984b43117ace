//! Which store is a group's authority: one row of `switchover.groups` on each of the two stores, changed by compare-and-set.
//!
//! ```text
//!             old authority        new authority
//! settled     open     E           standby  E
//! sealed      sealed   E+1         standby  E        undecided: the old one is opened again, but first the new one's row moves on
//! decided     sealed   E+1         open     E+1      the only decision: this one row
//! settled     standby  E+1         open     E+1
//! given up    sealed   E+1         standby  E+2      then: open E+2 on the old one
//! fallen back open     E           open     E+2      the old one could not be asked,
//!             sealed   E+1         open     E+2      whatever had begun there
//! returned    sealed   E+1         open     E+2      it is sealed, and what it had alone is settled; then standby  E+2
//! ```
//!
//! A fallback skips an epoch: at E+1 an old authority that had been sealed for a cutover would look as if the new one had caught up
//! with it. And the row of a returned authority moves on before its seal is touched: who looked at it before the fallback, and acts
//! only now, finds another than he saw.
//!
//! [`verdict`] reads both rows and nothing else (RULES.md 46): what a restart does follows from it.

use std::fmt;

use super::schema::literal;
use crate::backend::Backend;
use crate::backend::connection::{QueryError, Rows};

/// What a store's own row says of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It takes writes.
    Open,
    /// It was the authority, and takes no more writes.
    Sealed,
    /// It follows the authority.
    Standby,
}

impl Standing {
    fn word(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Sealed => "sealed",
            Standing::Standby => "standby",
        }
    }

    fn from_word(word: &str) -> Option<Standing> {
        [Standing::Open, Standing::Sealed, Standing::Standby].into_iter().find(|s| s.word() == word)
    }
}

/// A store's row of `switchover.groups`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Grows with each change of authority, and with each that was given up.
    pub epoch: u64,
    /// The store that is the authority, or is to become it.
    pub authority: String,
    /// Of this store.
    pub standing: Standing,
    /// What the applier shows to a sealed store.
    pub token: String,
    /// The cutover that wrote it.
    pub cutover: String,
}

/// A store's row of `switchover.intents`: a cutover that leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its id.
    pub cutover: String,
    /// The store that it leaves.
    pub source: String,
    /// The store that it goes to.
    pub target: String,
    /// The proxy that conducts it.
    pub conductor: String,
    /// Who wanted it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since the conductor was heard of last, microseconds by the store's clock.
    pub silent_micros: u64,
}

/// So long after its conductor was heard of last, a cutover is taken over.
pub const INTENT_EXPIRES_MICROS: u64 = 4_000_000;

impl Intent {
    /// Whether its conductor is alive.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.silent_micros < INTENT_EXPIRES_MICROS
    }
}

/// Both rows of a store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows2 {
    /// Of `switchover.groups`.
    pub record: Option<Record>,
    /// Of `switchover.intents`.
    pub intent: Option<Intent>,
}

/// Reads both rows of a store in one statement.
///
/// # Errors
/// As the store's.
pub async fn read(backend: &mut Backend, group: &str) -> Result<Rows2, QueryError> {
    let sql = format!(
        "SELECT g.epoch, g.authority, g.state, g.token, g.cutover, i.cutover, i.source, i.target, i.conductor, i.wanted_by, i.reason, \
         GREATEST(TIMESTAMPDIFF(MICROSECOND, i.renewed, NOW(6)), 0) \
         FROM (SELECT {name} AS group_name) AS n LEFT JOIN switchover.groups AS g ON g.group_name = n.group_name \
         LEFT JOIN switchover.intents AS i ON i.group_name = n.group_name",
        name = literal(group)
    );
    backend.query(sql.as_bytes()).await.map(|rows| parse(&rows))
}

fn parse(rows: &Rows) -> Rows2 {
    let text = |at: usize| rows.first(at).map(|v| String::from_utf8_lossy(v).into_owned());
    let record = || {
        Some(Record {
            epoch: text(0)?.parse().ok()?,
            authority: text(1)?,
            standing: Standing::from_word(&text(2)?)?,
            token: text(3)?,
            cutover: text(4)?,
        })
    };
    let intent = || {
        Some(Intent {
            cutover: text(5)?,
            source: text(6)?,
            target: text(7)?,
            conductor: text(8)?,
            by: text(9)?,
            reason: text(10)?,
            silent_micros: text(11)?.parse().ok()?,
        })
    };
    Rows2 { record: record(), intent: intent() }
}

/// Replaces a store's row where it stands as it was seen; whether it did.
///
/// # Errors
/// As the store's; whether it was replaced is open then, unless the store refused.
pub async fn replace(
    backend: &mut Backend,
    group: &str,
    seen: (u64, Standing),
    new: &Record,
) -> Result<bool, QueryError> {
    let ok = backend.execute(replacement(group, seen, new).as_bytes()).await?;
    Ok(ok.affected_rows == 1)
}

/// The statement of [`replace`].
#[must_use]
pub fn replacement(group: &str, (epoch, standing): (u64, Standing), new: &Record) -> String {
    format!(
        "UPDATE switchover.groups SET epoch = {}, authority = {}, state = '{}', cutover = {}, changed = NOW(6) \
         WHERE group_name = {} AND epoch = {epoch} AND state = '{}'",
        new.epoch,
        literal(&new.authority),
        new.standing.word(),
        literal(&new.cutover),
        literal(group),
        standing.word()
    )
}

/// The statement that makes a store's row, where there is none.
#[must_use]
pub fn creation(group: &str, new: &Record) -> String {
    format!(
        "INSERT IGNORE INTO switchover.groups VALUES ({}, {}, {}, '{}', {}, {}, NOW(6))",
        literal(group),
        new.epoch,
        literal(&new.authority),
        new.standing.word(),
        literal(&new.token),
        literal(&new.cutover)
    )
}

/// What both rows say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One authority, one standby.
    Settled {
        /// Its name.
        authority: String,
        /// Of both rows.
        epoch: u64,
    },
    /// `from` is sealed, `to` not opened: it is given up, or goes on.
    Undecided {
        /// The old authority.
        from: String,
        /// The new one.
        to: String,
        /// The new one's epoch: the old authority's before it was sealed.
        epoch: u64,
    },
    /// `authority` is open, and the other row does not say yet that it is a standby.
    Decided {
        /// The new authority.
        authority: String,
        /// Its epoch.
        epoch: u64,
    },
    /// `authority` is to be opened again, at the standby's epoch.
    GivenUp {
        /// The old authority.
        authority: String,
        /// The epoch that both are to have.
        epoch: u64,
    },
    /// A standby was opened while the old authority could not be asked: that has something alone, perhaps.
    Returned {
        /// The newer authority.
        authority: String,
        /// Its epoch.
        epoch: u64,
    },
    /// They make no sense together: why.
    Unclear(String),
}

impl Verdict {
    /// The store that takes writes now, or will when what is begun is finished; none while it is undecided.
    #[must_use]
    pub fn authority(&self) -> Option<(&str, u64)> {
        match self {
            Verdict::Settled { authority, epoch }
            | Verdict::Decided { authority, epoch }
            | Verdict::GivenUp { authority, epoch }
            | Verdict::Returned { authority, epoch } => Some((authority, *epoch)),
            Verdict::Undecided { .. } | Verdict::Unclear(_) => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Settled { authority, epoch } => write!(f, "{authority}, epoch {epoch}"),
            Verdict::Undecided { from, to, epoch } => {
                write!(f, "{from} is sealed, and {to} not opened yet, epoch {epoch}")
            }
            Verdict::Decided { authority, epoch } => {
                write!(f, "{authority}, epoch {epoch}; the other store does not say yet that it is its standby")
            }
            Verdict::GivenUp { authority, epoch } => {
                write!(f, "{authority} again, epoch {epoch}: a change of the authority was given up")
            }
            Verdict::Returned { authority, epoch } => {
                write!(f, "{authority}, epoch {epoch}; the other store is open or sealed by an older one")
            }
            Verdict::Unclear(why) => f.write_str(why),
        }
    }
}

/// What the rows of the stores `a` and `b` say together.
#[must_use]
pub fn verdict(a: (&str, Option<&Record>), b: (&str, Option<&Record>)) -> Verdict {
    let (Some(ra), Some(rb)) = (a.1, b.1) else {
        let without = if a.1.is_none() { a.0 } else { b.0 };
        return Verdict::Unclear(format!("store {without} has no row of the group in switchover.groups"));
    };
    let ((a, ra), (b, rb)) = if a.0 <= b.0 { ((a.0, ra), (b.0, rb)) } else { ((b.0, rb), (a.0, ra)) };
    for (one, other) in [((a, ra), (b, rb)), ((b, rb), (a, ra))] {
        if let Some(verdict) = one_way(one, other) {
            return verdict;
        }
    }
    Verdict::Unclear(format!(
        "{a} is {} at epoch {}, {b} is {} at epoch {}",
        ra.standing.word(),
        ra.epoch,
        rb.standing.word(),
        rb.epoch
    ))
}

/// What the rows say where `one` is, or was, the authority.
fn one_way((name, one): (&str, &Record), (other_name, other): (&str, &Record)) -> Option<Verdict> {
    use Standing::{Open, Sealed, Standby};
    let (authority, epoch) = (name.to_owned(), one.epoch);
    match (one.standing, other.standing) {
        (Open, Standby) if one.epoch == other.epoch => Some(Verdict::Settled { authority, epoch }),
        (Open, Standby) if one.epoch > other.epoch => Some(Verdict::Decided { authority, epoch }),
        (Open, Sealed) if one.epoch == other.epoch => Some(Verdict::Decided { authority, epoch }),
        (Open | Sealed, Standby) if one.epoch < other.epoch => Some(Verdict::GivenUp { authority, epoch: other.epoch }),
        (Sealed, Standby) if one.epoch == other.epoch + 1 => {
            Some(Verdict::Undecided { from: authority, to: other_name.to_owned(), epoch: other.epoch })
        }
        (Open, Open | Sealed) if one.epoch > other.epoch => Some(Verdict::Returned { authority, epoch }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(standing: Standing, epoch: u64) -> Record {
        Record { epoch, authority: String::new(), standing, token: String::new(), cutover: String::new() }
    }

    fn of(a: (Standing, u64), b: (Standing, u64)) -> Verdict {
        let (ra, rb) = (record(a.0, a.1), record(b.0, b.1));
        let verdict_ab = verdict(("a", Some(&ra)), ("b", Some(&rb)));
        assert_eq!(verdict_ab, verdict(("b", Some(&rb)), ("a", Some(&ra))), "the order of stores means nothing");
        verdict_ab
    }

    #[test]
    fn each_step_of_a_cutover_has_one_meaning() {
        use Standing::{Open, Sealed, Standby};
        let a = || "a".to_owned();
        let b = || "b".to_owned();
        assert_eq!(of((Open, 5), (Standby, 5)), Verdict::Settled { authority: a(), epoch: 5 });
        assert_eq!(of((Sealed, 6), (Standby, 5)), Verdict::Undecided { from: a(), to: b(), epoch: 5 });
        assert_eq!(of((Sealed, 6), (Open, 6)), Verdict::Decided { authority: b(), epoch: 6 });
        assert_eq!(of((Standby, 6), (Open, 6)), Verdict::Settled { authority: b(), epoch: 6 });
        assert_eq!(of((Sealed, 6), (Standby, 7)), Verdict::GivenUp { authority: a(), epoch: 7 });
        assert_eq!(of((Open, 5), (Standby, 7)), Verdict::GivenUp { authority: a(), epoch: 7 });
        assert_eq!(of((Open, 7), (Standby, 7)), Verdict::Settled { authority: a(), epoch: 7 });
        for fallen in [(Open, 5), (Sealed, 5), (Sealed, 6)] {
            assert_eq!(of(fallen, (Open, 7)), Verdict::Returned { authority: b(), epoch: 7 });
        }
        assert_eq!(of((Standby, 7), (Open, 7)), Verdict::Settled { authority: b(), epoch: 7 });
        for pair in [
            ((Open, 5), (Open, 5)),
            ((Standby, 5), (Standby, 5)),
            ((Sealed, 5), (Sealed, 5)),
            ((Sealed, 8), (Standby, 5)),
        ] {
            assert!(matches!(of(pair.0, pair.1), Verdict::Unclear(_)), "{pair:?}");
        }
        assert!(matches!(verdict(("a", None), ("b", Some(&record(Open, 1)))), Verdict::Unclear(_)));
    }
}
