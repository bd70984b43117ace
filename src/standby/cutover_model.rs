//! The cutover's state machine with a crash, a lost connection or a suspension at every step, over thousands of seeds.
//!
//! Two stores are modelled as what they promise: one statement is one step, a lock is its connection's. Conductors take the steps
//! of [`super::cutover`], recoverers those of [`super::pair::Pair::finish`], each whenever the dice say so, and what they decide by
//! is the product's own [`verdict`]. Clients write wherever a table is not sealed, at any moment: no proxy holds anybody here,
//! because safety must not need it.
//!
//! A store may also fall silent, its standby take over ([`super::fallback`]), and the old authority return; what it had alone counts
//! as settled when it is recorded, and nothing may be written there from then on until it is a standby.
//!
//! The same runs without the lock of [`super::pair`], without the epoch that a fallback skips, or without the first step of a return must
//! break an invariant: a model that cannot fail proves nothing.

mod world;

use super::record::{Record, Standing, Verdict};
use world::{Checked, Dice, STORES, TABLES, Without, World};

/// Where somebody is; each is one step of a store.
#[derive(Debug, Clone, PartialEq)]
enum At {
    Look,
    Intend { from: usize, epoch: u64 },
    CloseLock { from: usize, epoch: u64 },
    CloseSeal { from: usize, epoch: u64, table: usize },
    CloseRow { from: usize, epoch: u64 },
    CloseUnlock { from: usize, epoch: u64 },
    CatchUp { from: usize, epoch: u64 },
    Reverse { from: usize, epoch: u64 },
    Decide { from: usize, epoch: u64 },
    // from here on: whoever recovers, and a conductor at its end
    First,
    Second { first: Record, intent: Option<u64> },
    Replace { at: usize, seen: (u64, Standing), new: (u64, Standing) },
    UnsealLock { at: usize, epoch: u64, then: Then },
    Unseal { at: usize, table: usize, then: Then },
    UnsealUnlock { at: usize, then: Then },
    Forget { at: usize, epoch: u64, store: usize, seen: [Option<u64>; 2] },
    SealLock { at: usize, epoch: u64 },
    Seal { at: usize, table: usize },
    SealUnlock { at: usize },
    FallBack { from: usize },
    // an old authority returns
    Shut { at: usize, seen: (u64, Standing), epoch: u64 },
    ReturnLock { at: usize, seen: (u64, Standing), epoch: u64 },
    ReturnSeal { at: usize, seen: (u64, Standing), epoch: u64, table: usize },
    ReturnUnlock { at: usize, seen: (u64, Standing), epoch: u64 },
    Record { at: usize, seen: (u64, Standing), epoch: u64 },
    Rewind { at: usize, seen: (u64, Standing), epoch: u64 },
    Over,
}

impl At {
    /// The store that the next statement is for.
    fn store(&self) -> Option<usize> {
        Some(match *self {
            At::Look | At::Over => return None,
            At::First => 0,
            At::Second { .. } => 1,
            At::Intend { from, .. }
            | At::CloseLock { from, .. }
            | At::CloseSeal { from, .. }
            | At::CloseRow { from, .. }
            | At::CloseUnlock { from, .. }
            | At::CatchUp { from, .. }
            | At::Reverse { from, .. } => from,
            At::Decide { from, .. } | At::FallBack { from } => 1 - from,
            At::Forget { store, .. } => store,
            At::Replace { at, .. }
            | At::UnsealLock { at, .. }
            | At::Unseal { at, .. }
            | At::UnsealUnlock { at, .. }
            | At::SealLock { at, .. }
            | At::Seal { at, .. }
            | At::SealUnlock { at }
            | At::Shut { at, .. }
            | At::ReturnLock { at, .. }
            | At::ReturnSeal { at, .. }
            | At::ReturnUnlock { at, .. }
            | At::Record { at, .. }
            | At::Rewind { at, .. } => at,
        })
    }
}

/// What follows when a seal is off.
#[derive(Debug, Clone, PartialEq)]
enum Then {
    /// Nothing: a fallback.
    Over,
    /// The other row says that it is a standby.
    Follow { seen: (u64, Standing), epoch: u64 },
    /// Nobody waits any more, and the other store is sealed.
    Settle { epoch: u64, seen: [Option<u64>; 2] },
}

struct Actor {
    /// This one among all; also its cutover's id.
    id: u64,
    at: At,
    /// What it locked the last time is still its own: the connection is alive.
    connected: bool,
}

impl Actor {
    /// A statement on a connection that the store has ended: it begins again with another one, as whoever recovers.
    fn reconnected(&mut self) -> bool {
        if self.connected {
            return false;
        }
        self.connected = true;
        self.at = At::First;
        true
    }

    fn locked(&self, world: &mut World, at: usize) -> bool {
        let me = usize::try_from(self.id).unwrap();
        if world.fenced() && world.stores[at].lock.is_some_and(|other| other != me) {
            return false;
        }
        world.stores[at].lock = Some(me);
        true
    }

    fn unlock(&self, world: &mut World, at: usize) {
        let me = usize::try_from(self.id).unwrap();
        if world.stores[at].lock == Some(me) {
            world.stores[at].lock = None;
        }
    }

    /// One statement.
    fn step(&mut self, world: &mut World) -> Checked {
        // (a statement to a store that does not answer takes as long as that lasts)
        if self.reconnected() || world.down.is_some() && world.down == self.at.store() {
            return Ok(());
        }
        self.at = match self.at.clone() {
            At::Look => self.look(world),
            At::Intend { from, epoch } => {
                if world.intents[from].is_some_and(|(_, live)| live) {
                    At::Over
                } else {
                    world.intents[from] = Some((self.id, true));
                    At::CloseLock { from, epoch }
                }
            }
            At::CloseLock { .. } | At::CloseSeal { .. } | At::CloseRow { .. } | At::CloseUnlock { .. } => {
                self.close(world)?
            }
            At::CatchUp { from, epoch } => {
                let behind = (0..TABLES).any(|t| world.stores[1 - from].has[t] < world.stores[from].has[t]);
                if behind { At::CatchUp { from, epoch } } else { At::Reverse { from, epoch } }
            }
            At::Reverse { from, epoch } => {
                let row = &world.stores[from].row;
                if (row.epoch, row.standing) == (epoch + 1, Standing::Sealed) {
                    world.stores[from].follows = epoch + 1;
                    At::Decide { from, epoch }
                } else {
                    At::Over
                }
            }
            At::Decide { from, epoch } => {
                let decided = world.replace(1 - from, (epoch, Standing::Standby), epoch + 1, Standing::Open)?;
                if decided && world.stores[from].follows != epoch + 1 {
                    return Err(format!("{} does not know from where it follows", STORES[from]));
                }
                At::First
            }
            At::FallBack { from } => match world.fall_back(from)? {
                Some(epoch) => At::UnsealLock { at: 1 - from, epoch, then: Then::Over },
                None => At::Over,
            },
            At::Shut { .. }
            | At::ReturnLock { .. }
            | At::ReturnSeal { .. }
            | At::ReturnUnlock { .. }
            | At::Record { .. }
            | At::Rewind { .. } => self.take_back(world)?,
            _ => self.recover(world)?,
        };
        Ok(())
    }

    fn look(&self, world: &World) -> At {
        let rows = world.stores.each_ref().map(|s| Some(s.row.clone()));
        match world.verdict(&rows) {
            Verdict::Settled { authority, epoch } => {
                At::Intend { from: STORES.iter().position(|s| *s == authority).unwrap(), epoch }
            }
            _ => At::Over,
        }
    }

    fn close(&self, world: &mut World) -> Result<At, String> {
        Ok(match self.at.clone() {
            At::CloseLock { from, epoch } => {
                if !self.locked(world, from) {
                    return Ok(self.at.clone());
                }
                let row = &world.stores[from].row;
                let own = world.intents[from].is_some_and(|(id, _)| id == self.id);
                if world.fenced() && !(own && (row.epoch, row.standing) == (epoch, Standing::Open)) {
                    self.unlock(world, from);
                    return Ok(At::Over);
                }
                At::CloseSeal { from, epoch, table: 0 }
            }
            At::CloseSeal { from, epoch, table } => {
                world.stores[from].sealed[table] = true;
                if table + 1 < TABLES {
                    At::CloseSeal { from, epoch, table: table + 1 }
                } else {
                    At::CloseRow { from, epoch }
                }
            }
            At::CloseRow { from, epoch } => {
                let done = world.replace(from, (epoch, Standing::Open), epoch + 1, Standing::Sealed)?;
                if done { At::CloseUnlock { from, epoch } } else { At::Over }
            }
            At::CloseUnlock { from, epoch } => {
                self.unlock(world, from);
                At::CatchUp { from, epoch }
            }
            other => other,
        })
    }

    /// The steps of [`super::fallback::take_back`].
    fn take_back(&self, world: &mut World) -> Result<At, String> {
        Ok(match self.at.clone() {
            At::Shut { at, seen, epoch } => {
                let shut = (epoch - 1, Standing::Sealed);
                if world.without == Without::Shut || seen == shut {
                    At::ReturnLock { at, seen, epoch }
                } else if world.replace(at, seen, shut.0, shut.1)? {
                    At::ReturnLock { at, seen: shut, epoch }
                } else {
                    At::First
                }
            }
            At::ReturnLock { at, seen, epoch } => {
                if !self.locked(world, at) {
                    return Ok(self.at.clone());
                }
                let row = &world.stores[at].row;
                if world.fenced() && (row.epoch, row.standing) != seen {
                    self.unlock(world, at);
                    return Ok(At::First);
                }
                At::ReturnSeal { at, seen, epoch, table: 0 }
            }
            At::ReturnSeal { at, seen, epoch, table } => {
                world.stores[at].sealed[table] = true;
                let next = table + 1;
                if next < TABLES {
                    At::ReturnSeal { at, seen, epoch, table: next }
                } else {
                    At::ReturnUnlock { at, seen, epoch }
                }
            }
            At::ReturnUnlock { at, seen, epoch } => {
                self.unlock(world, at);
                At::Record { at, seen, epoch }
            }
            At::Record { at, seen, epoch } => {
                world.record(at);
                At::Rewind { at, seen, epoch }
            }
            At::Rewind { at, seen, epoch } => {
                world.rewind(at)?;
                At::Replace { at, seen, new: (epoch, Standing::Standby) }
            }
            other => other,
        })
    }

    /// The steps of [`super::pair::Pair::finish`].
    fn recover(&self, world: &mut World) -> Result<At, String> {
        Ok(match self.at.clone() {
            At::First => {
                let intent = world.intents[0];
                match intent {
                    Some((id, true)) if id != self.id => At::Over,
                    _ => At::Second { first: world.stores[0].row.clone(), intent: intent.map(|(id, _)| id) },
                }
            }
            At::Second { first, intent } => match world.intents[1] {
                Some((id, true)) if id != self.id => At::Over,
                second => {
                    let seen = [intent, second.map(|(id, _)| id)];
                    let rows = [Some(first), Some(world.stores[1].row.clone())];
                    self.decide(world, rows, seen)
                }
            },
            At::Replace { at, seen, new } => {
                if world.replace(at, seen, new.0, new.1)? && new.1 == Standing::Standby {
                    world.fallen = world.fallen.filter(|f| f.at != at);
                }
                At::First
            }
            At::UnsealLock { at, epoch, then } => {
                if !self.locked(world, at) {
                    return Ok(self.at.clone());
                }
                let row = &world.stores[at].row;
                if world.fenced() && (row.epoch, row.standing) != (epoch, Standing::Open) {
                    self.unlock(world, at);
                    return Ok(At::First);
                }
                At::Unseal { at, table: 0, then }
            }
            At::Unseal { at, table, then } => {
                world.stores[at].sealed[table] = false;
                let next = table + 1;
                if next < TABLES { At::Unseal { at, table: next, then } } else { At::UnsealUnlock { at, then } }
            }
            At::UnsealUnlock { at, then } => {
                self.unlock(world, at);
                match then {
                    Then::Over => At::Over,
                    Then::Follow { seen, epoch } => At::Replace { at: 1 - at, seen, new: (epoch, Standing::Standby) },
                    Then::Settle { epoch, seen } => At::Forget { at, epoch, store: 0, seen },
                }
            }
            At::Forget { at, epoch, store, seen } => {
                let same = |(id, _): &(u64, bool)| seen.contains(&Some(*id));
                if world.intents[store].as_ref().is_some_and(same) {
                    world.intents[store] = None;
                }
                if store == 0 { At::Forget { at, epoch, store: 1, seen } } else { At::SealLock { at: 1 - at, epoch } }
            }
            At::SealLock { at, epoch } => {
                if !self.locked(world, at) {
                    return Ok(self.at.clone());
                }
                let row = &world.stores[at].row;
                if world.fenced() && (row.epoch, row.standing) != (epoch, Standing::Standby) {
                    self.unlock(world, at);
                    return Ok(At::First);
                }
                At::Seal { at, table: 0 }
            }
            At::Seal { at, table } => {
                world.stores[at].sealed[table] = true;
                if table + 1 < TABLES { At::Seal { at, table: table + 1 } } else { At::SealUnlock { at } }
            }
            At::SealUnlock { at } => {
                self.unlock(world, at);
                At::Over
            }
            other => other,
        })
    }

    /// What the product's verdict on both rows leads to.
    fn decide(&self, world: &mut World, rows: [Option<Record>; 2], seen: [Option<u64>; 2]) -> At {
        let place = |name: &str| STORES.iter().position(|s| *s == name).unwrap();
        let of = |at: usize| rows[at].as_ref().map(|r| (r.epoch, r.standing)).unwrap();
        match world.verdict(&rows) {
            Verdict::Settled { authority, epoch } => {
                world.met[0] += 1;
                At::UnsealLock { at: place(&authority), epoch, then: Then::Settle { epoch, seen } }
            }
            Verdict::Undecided { to, .. } => {
                world.met[1] += 1;
                let at = place(&to);
                At::Replace { at, seen: of(at), new: (of(at).0 + 2, of(at).1) }
            }
            Verdict::GivenUp { authority, epoch } => {
                world.met[2] += 1;
                let at = place(&authority);
                At::Replace { at, seen: of(at), new: (epoch, Standing::Open) }
            }
            Verdict::Decided { authority, epoch } => {
                world.met[3] += 1;
                let at = place(&authority);
                At::UnsealLock { at, epoch, then: Then::Follow { seen: of(1 - at), epoch } }
            }
            Verdict::Returned { authority, epoch } => {
                world.met[4] += 1;
                let at = 1 - place(&authority);
                At::Shut { at, seen: of(at), epoch }
            }
            // two looks at two stores are no snapshot: what fits no order of steps is looked at again
            Verdict::Unclear(_) => At::First,
        }
    }
}

/// One life of a group: what the dice say, and then a last recovery to its end.
fn live(seed: u64, without: Without) -> Result<[u64; 5], String> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut world = World::new(without);
    // (a store that falls silent is rare, or nothing else would come to its end)
    let falls = dice.roll(2) == 0;
    let mut actors: Vec<Actor> = Vec::new();
    let mut newest = 0;
    for _ in 0..400 {
        match dice.roll(40) {
            0 if actors.len() < 3 => {
                newest += 1;
                let at = if dice.roll(2) == 0 { At::Look } else { At::First };
                actors.push(Actor { id: newest, at, connected: true });
            }
            // a crash: the store ends its connection in its own time, and what it locked with it
            1 if !actors.is_empty() => {
                let dead = actors.swap_remove(dice.pick(actors.len()));
                lose(&mut world, dead.id);
            }
            // a connection that is lost, or was silent for too long
            2 if !actors.is_empty() => {
                let at = dice.pick(actors.len());
                lose(&mut world, actors[at].id);
                actors[at].connected = false;
            }
            // a conductor that was not heard of for long, be it dead or suspended
            3 | 4 => {
                if let Some(intent) = &mut world.intents[dice.pick(2)] {
                    intent.1 = false;
                }
            }
            5 if falls && dice.roll(4) == 0 => {
                world.down = world.down.is_none().then(|| dice.pick(2));
                if let Some(from) = world.down.filter(|_| dice.roll(2) == 0) {
                    newest += 1;
                    actors.push(Actor { id: newest, at: At::FallBack { from }, connected: true });
                }
            }
            5..=9 => world.write(dice.pick(2), dice.pick(TABLES))?,
            10..=15 => world.apply(dice.pick(TABLES)),
            _ if !actors.is_empty() => {
                // one is suspended for as long as the dice do not name it
                let at = dice.pick(actors.len());
                actors[at].step(&mut world)?;
                if actors[at].at == At::Over {
                    actors.swap_remove(at);
                }
            }
            _ => {}
        }
        world.check()?;
    }
    for actor in actors {
        lose(&mut world, actor.id);
    }
    world.down = None;
    recovered(&mut world)?;
    Ok(world.met)
}

fn lose(world: &mut World, id: u64) {
    let id = usize::try_from(id).unwrap();
    for store in &mut world.stores {
        store.lock = store.lock.filter(|holder| *holder != id);
    }
}

/// Nobody conducts any more: one recoverer brings about one authority, one standby, and nobody who waits.
fn recovered(world: &mut World) -> Checked {
    for intent in world.intents.iter_mut().flatten() {
        intent.1 = false;
    }
    let mut last = Actor { id: 1_000_000, at: At::First, connected: true };
    for _ in 0..80 {
        last.step(world)?;
        world.check()?;
    }
    let rows = world.stores.each_ref().map(|s| Some(s.row.clone()));
    let Verdict::Settled { authority, .. } = world.verdict(&rows) else { return Err(format!("not settled: {rows:?}")) };
    let at = STORES.iter().position(|s| *s == authority).unwrap();
    let sealed = world.stores.each_ref().map(|s| s.sealed);
    if last.at != At::Over || sealed[at] != [false; TABLES] || sealed[1 - at] != [true; TABLES] {
        return Err(format!("{:?}: {authority} serves, sealed are {sealed:?}", last.at));
    }
    if world.intents != [None, None] {
        return Err(format!("somebody waits for {:?}", world.intents));
    }
    if world.stores[at].has != world.acknowledged {
        return Err(format!("{:?} of {:?} are there", world.stores[at].has, world.acknowledged));
    }
    Ok(())
}

const SEEDS: u64 = 6_000;

#[test]
fn one_authority_whatever_crashes_when() {
    let mut met = [0; 5];
    for seed in 1..=SEEDS {
        let seen = live(seed, Without::Nothing).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        met.iter_mut().zip(seen).for_each(|(all, n)| *all += n);
    }
    // settled, undecided, given up, decided, returned: each was recovered from
    assert!(met.iter().all(|n| *n > SEEDS / 20), "{met:?}");
}

#[test]
fn without_the_lock_an_invariant_breaks() {
    for without in [Without::Lock, Without::Skip, Without::Shut] {
        let broken = (1..=4 * SEEDS).filter(|seed| live(*seed, without).is_err()).count();
        assert!(broken > 0, "{without:?}");
    }
}
