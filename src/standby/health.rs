//! How a store is, from what was seen of it: pure, the time is handed in. `fallback: auto` rests on it.
//!
//! ```text
//!                 a failure                 failed probes only, for `fallback_after`
//!   ┌──► up ─────────────────────► suspect ─────────────────────────────────────────► down ◄───────┐
//!   │     ▲                           │                                                │           │ a failed
//!   │     └────── a good probe ───────┘                                   a good probe │           │ probe
//!   │                                                                                  ▼           │
//!   └─────────────────── good probes only, for `steady_after` ────────────────── recovering ───────┘
//! ```
//!
//! - Only probes make a store down. What sessions meet (a lost connection may be a KILL, RULES.md 20) makes it suspect, and
//!   says since when; so the prober asks more often, and loses no time.
//! - A store that answers is not down: too many connections, or a login refused, keep it suspect for as long as they last.
//! - Evidence with a hole counts from behind the hole: a proxy that was suspended for a minute has seen no minute of failures.
//! - One failed probe ends a recovery; and a store that goes down again soon after must be steady for longer each time.
//!
//! It begins as suspect: nothing is known. Measured servers: MariaDB 10.11's error codes.

use std::time::Duration;

use tokio::time::Instant;

/// How a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It answers.
    Up,
    /// Something failed since it last answered a probe, or nothing is known yet.
    Suspect,
    /// It has failed for long enough to be given up.
    Down,
    /// It answers again, but not for long enough.
    Recovering,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nobody listens at its address, or the network says so.
    Unreachable,
    /// A connection to it was lost.
    Lost,
    /// It did not answer in time.
    Silent,
    /// It is shutting down or starting: 1053, 1927, 3169, 4031.
    Ending,
    /// It takes no writes: 1290, 1792, 1836; its disk is full: 1021, 1114, 3.
    ReadOnly,
    /// It answers that it has too many connections: 1040, 1041, 1203, 1226.
    Full,
    /// It refuses the login: 1044, 1045, 1130, 1698.
    Denied,
}

impl Cause {
    /// What an error code of a store says of its health; nothing, for most.
    #[must_use]
    pub fn of(code: u16) -> Option<Cause> {
        Some(match code {
            1053 | 1927 | 3169 | 4031 => Cause::Ending,
            1290 | 1792 | 1836 | 1021 | 1114 | 3 => Cause::ReadOnly,
            1040 | 1041 | 1203 | 1226 => Cause::Full,
            1044 | 1045 | 1130 | 1698 => Cause::Denied,
            _ => return None,
        })
    }

    /// Whether it can mean that the store is gone.
    #[must_use]
    pub fn is_grave(self) -> bool {
        !matches!(self, Cause::Full | Cause::Denied)
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Cause::Unreachable => "it cannot be reached",
            Cause::Lost => "it lost a connection",
            Cause::Silent => "it does not answer",
            Cause::Ending => "it is shutting down",
            Cause::ReadOnly => "it takes no writes",
            Cause::Full => "it has too many connections",
            Cause::Denied => "it refuses the control account",
        }
    }
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// A probe was answered as it should be.
    Good,
    /// A probe failed.
    Failed(Cause),
    /// A session met this.
    Met(Cause),
}

/// When a store counts as what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// So long it fails before it is down.
    pub fallback_after: Duration,
    /// And so many probes in a row.
    pub failures: u32,
    /// So long it answers before it is up again.
    pub steady_after: Duration,
    /// And so many probes in a row.
    pub answers: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        let (fallback_after, steady_after) = (Duration::from_secs(3), Duration::from_secs(5));
        Settings { fallback_after, failures: 3, steady_after, answers: 5 }
    }
}

impl Settings {
    /// Two probes further apart than this have seen nothing of the time between them.
    #[must_use]
    pub fn hole(&self) -> Duration {
        self.fallback_after.max(Duration::from_secs(1))
    }
}

/// Times that `steady_after` is doubled at the most.
const DOUBLED: u32 = 4;
/// So many `steady_after`s of being up, and the earlier downs are forgotten.
const FORGOTTEN: u32 = 20;

/// Probes in a row that say the same.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    since: Option<Instant>,
    count: u32,
}

impl Row {
    fn add(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.count = self.count.saturating_add(1);
    }

    fn lasted(&self, now: Instant) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// One store's health.
#[derive(Debug, Clone)]
pub struct Health {
    settings: Settings,
    state: State,
    /// Failures since the last probe that was answered; it may begin with what a session met.
    failing: Row,
    answering: Row,
    /// The newest probe.
    probed: Option<Instant>,
    /// The newest failure.
    cause: Option<Cause>,
    /// Where the failures began that made it down.
    down_since: Option<Instant>,
    up_since: Option<Instant>,
    /// How often it went down without having been up for long.
    relapses: u32,
}

impl Health {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(settings: Settings) -> Health {
        Health {
            settings,
            state: State::Suspect,
            failing: Row::default(),
            answering: Row::default(),
            probed: None,
            cause: None,
            down_since: None,
            up_since: None,
            relapses: 0,
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What failed last, unless it is up.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cause.filter(|_| self.state != State::Up)
    }

    /// For how long it has failed, where it is down.
    #[must_use]
    pub fn down_for(&self, now: Instant) -> Option<Duration> {
        let since = self.down_since.filter(|_| self.state == State::Down)?;
        Some(now.saturating_duration_since(since))
    }

    /// Takes what was seen at `now`, which is no earlier than what was seen before.
    pub fn see(&mut self, now: Instant, evidence: Evidence) -> State {
        match evidence {
            Evidence::Good => self.good(now),
            Evidence::Failed(cause) => self.failed(now, cause),
            Evidence::Met(cause) => self.met(now, cause),
        }
        self.state
    }

    fn good(&mut self, now: Instant) {
        self.after_a_hole(now);
        self.failing = Row::default();
        self.answering.add(now);
        match self.state {
            State::Up => {}
            State::Suspect => self.up(now),
            State::Down => self.state = State::Recovering,
            State::Recovering => {
                let steady = self.settings.steady_after.saturating_mul(1 << self.relapses.min(DOUBLED));
                if self.answering.count >= self.settings.answers && self.answering.lasted(now) >= steady {
                    self.up(now);
                }
            }
        }
    }

    fn up(&mut self, now: Instant) {
        self.state = State::Up;
        self.up_since = Some(now);
        self.down_since = None;
    }

    fn failed(&mut self, now: Instant, cause: Cause) {
        self.after_a_hole(now);
        self.cause = Some(cause);
        self.answering = Row::default();
        if cause.is_grave() {
            self.failing.add(now);
        } else {
            // it answers, if only this
            self.failing = Row::default();
        }
        match self.state {
            State::Up => self.state = State::Suspect,
            State::Recovering => self.state = State::Down,
            State::Suspect | State::Down => {}
        }
        let given_up =
            self.failing.count >= self.settings.failures && self.failing.lasted(now) >= self.settings.fallback_after;
        if self.state == State::Suspect && given_up {
            let forgotten = self.settings.steady_after.saturating_mul(FORGOTTEN);
            let soon = self.up_since.is_some_and(|since| now.saturating_duration_since(since) < forgotten);
            self.relapses = if soon { self.relapses.saturating_add(1) } else { 0 };
            self.down_since = self.failing.since;
            self.state = State::Down;
        }
    }

    fn met(&mut self, now: Instant, cause: Cause) {
        match self.state {
            State::Up | State::Suspect => {
                self.state = State::Suspect;
                if cause.is_grave() {
                    self.failing.since.get_or_insert(now);
                }
            }
            // it may have been lost long before it was noticed: the recovery begins again, no more
            State::Recovering => self.answering = Row::default(),
            State::Down => return,
        }
        self.cause = Some(cause);
    }

    /// Rows of evidence do not reach over a time of which nothing was seen.
    fn after_a_hole(&mut self, now: Instant) {
        let hole = self.settings.hole();
        let over = |at: Instant| now.saturating_duration_since(at) > hole;
        // what a session met is as old as it is, even before the first probe
        let last = self.probed.filter(|_| self.failing.count + self.answering.count > 0).or(self.failing.since);
        if last.is_some_and(over) {
            self.failing = Row::default();
            self.answering = Row::default();
        }
        self.probed = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: Evidence = Evidence::Failed(Cause::Unreachable);

    struct Watched {
        start: Instant,
        health: Health,
    }

    impl Watched {
        fn new() -> Watched {
            Watched { start: Instant::now(), health: Health::new(Settings::default()) }
        }

        /// At a time in ms.
        fn see(&mut self, ms: u64, evidence: Evidence) -> State {
            self.health.see(self.start + Duration::from_millis(ms), evidence)
        }

        /// The same every half second from `from` on, up to but not at `to`; the last state.
        fn all(&mut self, from: u64, to: u64, evidence: Evidence) -> State {
            (from..to).step_by(500).map(|ms| self.see(ms, evidence)).last().unwrap()
        }
    }

    #[test]
    fn down_only_after_failures_over_the_whole_time() {
        let mut w = Watched::new();
        assert_eq!(w.health.state(), State::Suspect);
        assert_eq!(w.see(0, Evidence::Good), State::Up);
        assert_eq!(w.all(500, 3_500, GONE), State::Suspect);
        assert_eq!(w.health.down_for(w.start), None);
        assert_eq!(w.see(3_500, GONE), State::Down);
        assert_eq!(w.health.down_for(w.start + Duration::from_secs(4)), Some(Duration::from_millis(3_500)));
        assert_eq!(w.health.cause(), Some(Cause::Unreachable));
        // one answer in between, and the time begins again
        let mut w = Watched::new();
        w.all(0, 3_000, GONE);
        assert_eq!(w.see(2_700, Evidence::Good), State::Up);
        assert_eq!(w.all(3_000, 6_000, GONE), State::Suspect);
        assert_eq!(w.see(6_000, GONE), State::Down);
    }

    #[test]
    fn sessions_say_since_when_and_probes_say_that() {
        let mut w = Watched::new();
        w.see(0, Evidence::Good);
        assert_eq!(w.see(100, Evidence::Met(Cause::Lost)), State::Suspect);
        for ms in 101..5_000 {
            assert_eq!(w.see(ms, Evidence::Met(Cause::Unreachable)), State::Suspect);
        }
        let mut w = Watched::new();
        w.see(0, Evidence::Good);
        w.see(100, Evidence::Met(Cause::Lost));
        assert_eq!(w.all(600, 3_100, GONE), State::Suspect);
        assert_eq!(w.see(3_100, GONE), State::Down);
    }

    #[test]
    fn who_answers_is_not_down() {
        for cause in [Cause::Full, Cause::Denied] {
            let mut w = Watched::new();
            assert_eq!(w.all(0, 60_000, Evidence::Failed(cause)), State::Suspect);
            assert_eq!(w.all(60_000, 63_000, GONE), State::Suspect);
            assert_eq!(w.see(63_000, GONE), State::Down);
        }
        assert_eq!([1053, 1290, 1836, 1040, 1062].map(Cause::of), {
            [Some(Cause::Ending), Some(Cause::ReadOnly), Some(Cause::ReadOnly), Some(Cause::Full), None]
        });
    }

    /// A proxy that was suspended, or whose machine was.
    #[test]
    fn a_hole_is_no_evidence() {
        let mut w = Watched::new();
        w.see(0, Evidence::Good);
        w.all(500, 2_000, GONE);
        assert_eq!(w.all(60_000, 63_000, GONE), State::Suspect);
        assert_eq!(w.see(63_000, GONE), State::Down);
        w.all(63_500, 65_500, Evidence::Good);
        assert_eq!(w.all(130_000, 140_000, Evidence::Good), State::Recovering);
        assert_eq!(w.see(140_000, Evidence::Good), State::Up);
    }

    #[test]
    fn a_recovery_is_steady_or_none_and_takes_longer_each_time() {
        let mut w = Watched::new();
        w.all(0, 3_500, GONE);
        assert_eq!(w.all(4_000, 8_500, Evidence::Good), State::Recovering);
        assert_eq!(w.see(8_500, GONE), State::Down);
        assert_eq!(w.health.down_for(w.start + Duration::from_secs(9)), Some(Duration::from_secs(9)));
        assert_eq!(w.all(9_000, 14_000, Evidence::Good), State::Recovering);
        assert_eq!(w.see(14_000, Evidence::Good), State::Up);
        // and again: twice as long
        assert_eq!(w.all(14_500, 18_000, GONE), State::Down);
        assert_eq!(w.all(18_000, 28_000, Evidence::Good), State::Recovering);
        assert_eq!(w.see(28_000, Evidence::Good), State::Up);
    }

    /// Seeded: whatever is seen, in whatever order, the state changes only for the reasons of the diagram.
    #[test]
    fn whatever_is_seen_it_does_not_flap() {
        let mut dice = 0x9E37_79B9_7F4A_7C15u64;
        let mut roll = |sides: u64| {
            dice ^= dice >> 12;
            dice ^= dice << 25;
            dice ^= dice >> 27;
            (dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
        };
        let (mut downs, mut ups) = (0, 0);
        for _ in 0..200 {
            let mut w = Watched::new();
            let settings = Settings::default();
            let (mut now, mut odds) = (0, 50);
            // since when, and how many, by the simplest reckoning
            let (mut grave, mut good) = (Vec::new(), Vec::new());
            let (mut first_met, mut entered) = (None::<u64>, [None::<u64>; 2]);
            for step in 0..600 {
                if step % 40 == 0 {
                    odds = [2, 10, 50, 90, 98].into_iter().nth(roll(5).try_into().unwrap()).unwrap();
                }
                let pause = if roll(60) == 0 { 10_000 } else { roll(900) };
                now += pause;
                let causes = [Cause::Unreachable, Cause::Lost, Cause::Silent, Cause::Full, Cause::ReadOnly];
                let cause = causes.into_iter().nth(roll(5).try_into().unwrap()).unwrap();
                let evidence = match roll(100) {
                    n if n < odds => Evidence::Good,
                    _ if roll(4) == 0 => Evidence::Met(cause),
                    _ => Evidence::Failed(if roll(10) == 0 { cause } else { Cause::Silent }),
                };
                let before = w.health.state();
                let after = w.see(now, evidence);
                match evidence {
                    Evidence::Good => {
                        grave.clear();
                        good.push(now);
                        first_met = None;
                    }
                    Evidence::Failed(c) if c.is_grave() => {
                        good.clear();
                        grave.push(now);
                    }
                    Evidence::Failed(_) => {
                        good.clear();
                        grave.clear();
                        first_met = None;
                    }
                    Evidence::Met(_) => first_met = first_met.or(Some(now)),
                }
                let from = |list: &[u64]| list.first().map_or(0, |at| now - at);
                match (before, after) {
                    (a, b) if a == b => {}
                    (State::Up, State::Suspect) => assert_ne!(evidence, Evidence::Good),
                    (State::Suspect, State::Up) | (State::Down, State::Recovering) => {
                        assert_eq!(evidence, Evidence::Good);
                    }
                    (State::Suspect, State::Down) => {
                        let since = from(&grave).max(first_met.map_or(0, |at| now - at));
                        assert!(matches!(evidence, Evidence::Failed(c) if c.is_grave()));
                        assert!(grave.len() >= 3 && since >= 3_000, "{grave:?} {first_met:?} {now}");
                        if let Some(last) = entered[0] {
                            // between two downs it was up for a moment at least, and steady before
                            assert!(now - last >= 8_000);
                        }
                        entered[0] = Some(now);
                        downs += 1;
                    }
                    (State::Recovering, State::Down) => assert!(matches!(evidence, Evidence::Failed(_))),
                    (State::Recovering, State::Up) => {
                        assert!(good.len() >= 5 && from(&good) >= 5_000, "{good:?} {now}");
                        entered[1] = Some(now);
                        ups += 1;
                    }
                    other => panic!("{other:?} by {evidence:?}"),
                }
                let down = w.health.down_for(w.start + Duration::from_millis(now));
                assert_eq!(down.is_some(), after == State::Down);
                assert!(down.is_none_or(|d| d >= settings.fallback_after));
            }
        }
        assert!(downs > 50 && ups > 20, "{downs} {ups}");
    }
}
