//! Where a change log goes on: the GTIDs that are done, MariaDB's, one per domain, or MySQL's set of them; a file and an offset; or a
//! journal's entry.
//!
//! Its text is what stands in `switchover.marks`, what `switchover init --from` takes, and what `status` shows.

use std::fmt;
use std::str::FromStr;

use super::gtid_set::{self, GtidSet};
use crate::wire::hex::hex;

/// A MariaDB GTID: `domain-server-sequence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gtid {
    /// Replication domain.
    pub domain: u32,
    /// `server_id` of the server on which the transaction ran first.
    pub server: u32,
    /// Its number in the domain.
    pub sequence: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for Gtid {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Gtid, NoPosition> {
        let mut parts = text.trim().split('-');
        let mut gtid = || -> Option<Gtid> {
            let domain = parts.next()?.parse().ok()?;
            let server = parts.next()?.parse().ok()?;
            let sequence = parts.next()?.parse().ok()?;
            parts.next().is_none().then_some(Gtid { domain, server, sequence })
        };
        gtid().ok_or_else(|| NoPosition(text.to_owned()))
    }
}

/// A position in a change log; everything before it is done.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Position {
    /// MariaDB: the newest GTID that is done, per domain, in the order of domains.
    Gtids(Vec<Gtid>),
    /// MySQL: which GTIDs are done. (An empty one has the text of MariaDB's.)
    Set(GtidSet),
    /// A binlog file and the offset of its next event, bytes.
    File {
        /// The file's name.
        file: String,
        /// Bytes from its start.
        offset: u64,
    },
    /// The newest entry of a journal that is done: its UUID tells whether its id was given away a second time (RULES.md 30).
    Journal {
        /// The entry's id; 0 before the first.
        id: u64,
        /// Its UUID; zero before the first.
        uuid: Uuid,
    },
}

/// A UUID, as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// From the bytes of a BINARY(16).
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Uuid> {
        bytes.try_into().ok().map(Uuid)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Uuid {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Uuid, NoPosition> {
        let wrong = || NoPosition(text.to_owned());
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(|n| Uuid(n.to_be_bytes())).map_err(|_| wrong())
    }
}

/// What the text of a journal's position begins with.
const JOURNAL: &str = "journal/";

/// Text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no position: write GTIDs as 0-1-100 (several with commas), MySQL's as UUID:1-100, a binlog's name and offset as \
     binlog.000001:4, or an entry of a journal as journal/ID/UUID"
)]
pub struct NoPosition(pub String);

impl Position {
    /// The position after a transaction of this GTID.
    pub fn pass(&mut self, gtid: Gtid) {
        if let Position::Gtids(list) = self {
            match list.binary_search_by_key(&gtid.domain, |g| g.domain) {
                Ok(at) => {
                    if let Some(known) = list.get_mut(at) {
                        *known = gtid;
                    }
                }
                Err(at) => list.insert(at, gtid),
            }
        }
    }

    /// The highest number of each domain in a MariaDB's `gtid_binlog_state`, which names the newest GTID of each server in it. What a
    /// server writes itself has a higher number than anything before it in its binlog; what it takes over from others need not.
    ///
    /// # Errors
    /// [`NoPosition`].
    pub fn highest(state: &str) -> Result<Position, NoPosition> {
        let mut position = Position::Gtids(Vec::new());
        for gtid in state.split(',').filter(|gtid| !gtid.trim().is_empty()) {
            let gtid: Gtid = gtid.parse()?;
            if position.behind(&Position::Gtids(vec![gtid])) != Some(0) {
                position.pass(gtid);
            }
        }
        Ok(position)
    }

    /// How many transactions `other` is ahead of this, where both are of one kind: by their numbers, whosever they are. Of files of
    /// one server, 1 for any: how many they are the places do not say.
    #[must_use]
    pub fn behind(&self, other: &Position) -> Option<u64> {
        if let (Position::Journal { id: done, .. }, Position::Journal { id: all, .. }) = (self, other) {
            return Some(all.saturating_sub(*done));
        }
        if let (Position::File { file: done, offset }, Position::File { file: all, offset: end }) = (self, other) {
            let ((name, number), (same, last)) = (numbered(done)?, numbered(all)?);
            return (name == same).then(|| u64::from((number, offset) < (last, end)));
        }
        if let (Position::Set(done), Position::Set(all)) = (self, other) {
            return Some(done.lacks(all));
        }
        let (Position::Gtids(done), Position::Gtids(all)) = (self, other) else { return None };
        let of = |domain| done.iter().find(|g| g.domain == domain).map_or(0, |g| g.sequence);
        Some(all.iter().map(|g| g.sequence.saturating_sub(of(g.domain))).sum())
    }
}

/// The name that a server's binlogs have in common, and the number of this one.
fn numbered(file: &str) -> Option<(&str, u64)> {
    let (name, number) = file.rsplit_once('.')?;
    Some((name, number.parse().ok()?))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Gtids(list) => {
                for (n, gtid) in list.iter().enumerate() {
                    if n > 0 {
                        f.write_str(",")?;
                    }
                    write!(f, "{gtid}")?;
                }
                Ok(())
            }
            Position::Set(set) => write!(f, "{set}"),
            Position::File { file, offset } => write!(f, "{file}:{offset}"),
            Position::Journal { id, uuid } => write!(f, "{JOURNAL}{id}/{uuid}"),
        }
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Position, NoPosition> {
        if let Some((id, uuid)) = text.strip_prefix(JOURNAL).and_then(|rest| rest.split_once('/')) {
            let id = id.parse().map_err(|_| NoPosition(text.to_owned()))?;
            return Ok(Position::Journal { id, uuid: uuid.parse()? });
        }
        if gtid_set::is_one(text) {
            return text.parse().map(Position::Set);
        }
        if let Some((file, offset)) = text.rsplit_once(':')
            && let (false, Ok(offset)) = (file.is_empty(), offset.parse())
        {
            return Ok(Position::File { file: file.to_owned(), offset });
        }
        let mut position = Position::Gtids(Vec::new());
        for gtid in text.split(',').filter(|gtid| !gtid.trim().is_empty()) {
            position.pass(gtid.parse().map_err(|_| NoPosition(text.to_owned()))?);
        }
        Ok(position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn positions_pass_and_compare() {
        let mut p: Position = "0-1-5".parse().unwrap();
        p.pass("0-2-6".parse().unwrap());
        p.pass("7-1-1".parse().unwrap());
        assert_eq!(p.to_string(), "0-2-6,7-1-1");
        assert_eq!(p.behind(&"0-1-10,7-1-1,9-1-2".parse().unwrap()), Some(6));
        assert_eq!(p.behind(&"b.000001:4".parse().unwrap()), None);
        assert_eq!("".parse(), Ok(Position::Gtids(Vec::new())));
        let behind = |done: &str, all: &str| done.parse::<Position>().unwrap().behind(&all.parse().unwrap());
        assert_eq!(behind("b.000009:50", "b.000010:4"), Some(1));
        assert_eq!(behind("b.1000000:4", "b.999999:50"), Some(0));
        assert_eq!(behind("b.000009:50", "b.000009:50"), Some(0));
        assert_eq!(behind("b.000009:50", "c.000009:50"), None);
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        assert_eq!(behind(&format!("{uuid}:1-5"), &format!("{uuid}:1-7")), Some(2));
        assert_eq!(behind("b.000009:50", &format!("{uuid}:1-7")), None);
        let at = |id| Position::Journal { id, uuid: Uuid::default() };
        assert_eq!((at(3).behind(&at(10)), at(3).behind(&"0-1-10".parse().unwrap())), (Some(7), None));
        let highest = Position::highest("0-2-50,0-1-100,0-3-7,5-1-4,\n4-1-1").unwrap();
        assert_eq!(highest.to_string(), "0-1-100,4-1-1,5-1-4");
        assert_eq!((Position::highest(""), Position::highest("0-1").is_err()), ("".parse(), true));
        for text in [
            "0-1",
            "0-1-2-3",
            "a-b-c",
            ":4",
            "x",
            "0-1-99999999999999999999",
            "journal/1/ab",
            "journal/x/00",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:x",
        ] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(gtids in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 0..5), file in "[a-z.:0-9]{1,9}", offset in any::<u64>(), uuid in any::<[u8; 16]>()) {
            let mut position = Position::Gtids(Vec::new());
            for (domain, server, sequence) in gtids {
                position.pass(Gtid { domain, server, sequence });
            }
            let mut set = GtidSet::default();
            set.add(Uuid(uuid), offset >> 1 | 1);
            for p in [position, Position::Set(set), Position::File { file, offset }, Position::Journal { id: offset, uuid: Uuid(uuid) }] {
                prop_assert_eq!(p.to_string().parse::<Position>(), Ok(p));
            }
        }
    }
}
