//! Two stores as what they promise: one statement is one step, a lock is its connection's; and what must hold whoever does what.

use crate::standby::record::{Record, Standing, Verdict, verdict};

pub(super) const STORES: [&str; 2] = ["a", "b"];
pub(super) const TABLES: usize = 2;

/// A generator that a seed decides (xorshift64*).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides.max(1)
    }

    pub(super) fn pick(&mut self, of: usize) -> usize {
        usize::try_from(self.roll(of as u64)).unwrap()
    }
}

/// What a store holds.
pub(super) struct Store {
    pub(super) row: Record,
    pub(super) sealed: [bool; TABLES],
    /// Writes of each table that it has.
    pub(super) has: [u64; TABLES],
    /// Who has the lock of its seal.
    pub(super) lock: Option<usize>,
    /// The epoch of the cutover that wrote down where it begins to follow.
    pub(super) follows: u64,
}

/// What the model leaves out, to see that it matters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Without {
    Nothing,
    /// Seals are changed without the lock, and without a second look.
    Lock,
    /// A fallback takes the very next epoch.
    Skip,
    /// A returned authority is sealed with its row as it was.
    Shut,
}

/// An authority that was given up, and is not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fallen {
    pub(super) at: usize,
    /// What the other had of it then.
    pub(super) position: [u64; TABLES],
    /// What it had when that was written down.
    pub(super) recorded: Option<[u64; TABLES]>,
    pub(super) rewound: bool,
}

pub(super) struct World {
    pub(super) stores: [Store; 2],
    /// This one does not answer.
    pub(super) down: Option<usize>,
    pub(super) fallen: Option<Fallen>,
    /// The intent on each store: its cutover, and whether its conductor was heard of lately.
    pub(super) intents: [Option<(u64, bool)>; 2],
    /// Writes of each table that clients were told of.
    pub(super) acknowledged: [u64; TABLES],
    pub(super) without: Without,
    /// Verdicts that a look came to.
    pub(super) met: [u64; 5],
}

pub(super) type Checked = Result<(), String>;

impl World {
    pub(super) fn new(without: Without) -> World {
        let store = |standing, sealed| {
            let (authority, token) = ("a".to_owned(), String::new());
            let row = Record { epoch: 1, authority, standing, token, cutover: String::new() };
            Store { row, sealed: [sealed; TABLES], has: [0; TABLES], lock: None, follows: 0 }
        };
        let stores = [store(Standing::Open, false), store(Standing::Standby, true)];
        let (intents, acknowledged, met) = ([None, None], [0; TABLES], [0; 5]);
        World { stores, down: None, fallen: None, intents, acknowledged, without, met }
    }

    pub(super) fn fenced(&self) -> bool {
        self.without != Without::Lock
    }

    /// The standby of a store that does not answer takes over.
    pub(super) fn fall_back(&mut self, from: usize) -> Result<Option<u64>, String> {
        let to = 1 - from;
        let (epoch, standing) = (self.stores[to].row.epoch, self.stores[to].row.standing);
        if self.down != Some(from) || standing != Standing::Standby || self.fallen.is_some() {
            return Ok(None);
        }
        let new = epoch + if self.without == Without::Skip { 1 } else { 2 };
        (self.stores[to].row.epoch, self.stores[to].row.standing) = (new, Standing::Open);
        let position = self.stores[to].has;
        // (what was acknowledged was on the standby: `ack: standby`)
        self.acknowledged = position;
        self.fallen = Some(Fallen { at: from, position, recorded: None, rewound: false });
        Ok(Some(new))
    }

    /// What the old authority has alone is written down, once.
    pub(super) fn record(&mut self, at: usize) {
        let has = self.stores[at].has;
        if let Some(fallen) = self.fallen.as_mut().filter(|f| f.at == at) {
            fallen.recorded.get_or_insert(has);
        }
    }

    /// It is taken back, once.
    pub(super) fn rewind(&mut self, at: usize) -> Checked {
        let Some(fallen) = self.fallen.as_mut().filter(|f| f.at == at && !f.rewound) else { return Ok(()) };
        if fallen.recorded != Some(self.stores[at].has) {
            return Err(format!(
                "{:?} was written down, and {} has {:?}",
                fallen.recorded, STORES[at], self.stores[at].has
            ));
        }
        fallen.rewound = true;
        self.stores[at].has = fallen.position;
        Ok(())
    }

    pub(super) fn verdict(&self, rows: &[Option<Record>; 2]) -> Verdict {
        verdict((STORES[0], rows[0].as_ref()), (STORES[1], rows[1].as_ref()))
    }

    /// The compare-and-set of a row; what may become of a row is checked here.
    pub(super) fn replace(
        &mut self,
        at: usize,
        seen: (u64, Standing),
        epoch: u64,
        standing: Standing,
    ) -> Result<bool, String> {
        let other = (self.stores[1 - at].row.epoch, self.stores[1 - at].row.standing);
        let row = &mut self.stores[at].row;
        if (row.epoch, row.standing) != seen {
            return Ok(false);
        }
        if epoch < row.epoch {
            return Err(format!("the epoch of {} goes back from {} to {epoch}", STORES[at], row.epoch));
        }
        if standing == Standing::Open && row.standing == Standing::Sealed {
            let moved_on = other.1 == Standing::Standby && other.0 == row.epoch + 1 && epoch == other.0;
            if !moved_on {
                return Err(format!("{} is opened again at {epoch}, and the other is at {other:?}", STORES[at]));
            }
        }
        if standing == Standing::Standby && self.fallen.is_some_and(|f| f.at == at && !f.rewound) {
            return Err(format!("{} follows, and what it had alone is not settled", STORES[at]));
        }
        if standing == Standing::Open && other.1 == Standing::Open {
            return Err("both rows are open".to_owned());
        }
        (row.epoch, row.standing) = (epoch, standing);
        Ok(true)
    }

    /// A client writes a table wherever that is not sealed.
    pub(super) fn write(&mut self, at: usize, table: usize) -> Checked {
        let all = self.acknowledged[table];
        let store = &mut self.stores[at];
        if store.sealed[table] || self.down == Some(at) {
            return Ok(());
        }
        if let Some(fallen) = self.fallen.filter(|f| f.at == at) {
            if fallen.recorded.is_some() {
                return Err(format!("{} takes a write that nobody settles", STORES[at]));
            }
            store.has[table] += 1;
            return Ok(());
        }
        if store.has[table] != all {
            return Err(format!("{} takes a write, and has {} of {all} before it", STORES[at], store.has[table]));
        }
        store.has[table] += 1;
        self.acknowledged[table] += 1;
        Ok(())
    }

    /// The standby gets one more of what the other has.
    pub(super) fn apply(&mut self, table: usize) {
        if self.down.is_some() || self.fallen.is_some() {
            return;
        }
        let [a, b] = &mut self.stores;
        let (behind, ahead) = if a.has[table] < b.has[table] { (a, b) } else { (b, a) };
        behind.has[table] = ahead.has[table].min(behind.has[table] + 1);
    }

    pub(super) fn check(&self) -> Checked {
        let [a, b] = &self.stores;
        match (0..TABLES).find(|t| !a.sealed[*t] && !b.sealed[*t]) {
            // (until an old authority is settled, `write` looks after it)
            Some(_) if self.fallen.is_some() => Ok(()),
            Some(table) => Err(format!("both stores take writes of table {table}")),
            None => Ok(()),
        }
    }
}
