//! What the demo shows and how it judges: the servers' own counters, read every [`super::TICK`].
//!
//! A flip is *confirmed* by a whole tick, begun after it, in which the rows of the grouped tables moved on the flag's
//! store alone. Rows that moved on the other one are *stray*. (A transaction keeps the store it began on, so the first
//! tick after a flip proves nothing.)

use std::io::IsTerminal;

use super::application::Application;
use super::flag::{Flag, Side};
use super::screen::{Closed, complain, put, say};
use super::store::{Counters, Store};

/// What the proxy asks each of the two stores when a session begins to use the other one: its variables, with its time zone.
/// After a SET it asks the default store once more; those few stay in its count.
const QUESTIONS: u64 = 1;
/// Ticks of the live line's window: one second.
const WINDOW: u32 = 2;

/// What has been seen so far.
pub(super) struct Meter {
    side: Option<Side>,
    legacy: Counters,
    new: Counters,
    at_start: (Counters, Counters),
    /// Whole ticks since the flag moved.
    ticks_since_flip: u32,
    flips: u32,
    confirmed: bool,
    unconfirmed: u32,
    stray_ticks: u32,
    /// Whether stray traffic is a failure: nobody but the demo is supposed to touch the flag.
    strict: bool,
    shown: (u32, Counters, Counters),
    in_place: bool,
}

impl Meter {
    /// Starts to count.
    pub(super) async fn new(flag: &Flag, legacy: &Store, new: &Store, strict: bool) -> anyhow::Result<Meter> {
        let (legacy, new) = (legacy.counters().await?, new.counters().await?);
        Ok(Meter {
            side: flag.side(),
            legacy,
            new,
            at_start: (legacy, new),
            ticks_since_flip: 0,
            flips: 0,
            confirmed: true,
            unconfirmed: 0,
            stray_ticks: 0,
            strict,
            shown: (0, legacy, new),
            in_place: std::io::stdout().is_terminal(),
        })
    }

    /// Takes note that the flag has just been moved, by whomever.
    pub(super) fn flipped(&mut self, flag: &Flag) -> Result<(), Closed> {
        let side = flag.side();
        if side == self.side || side.is_none() {
            return Ok(());
        }
        self.unconfirmed += u32::from(!self.confirmed);
        self.side = side;
        self.flips += 1;
        self.confirmed = false;
        self.ticks_since_flip = 0;
        let name = side.map_or("?", Side::name);
        say(format_args!("{}  flag: analytics ─► {name}", if self.in_place { "\r\x1b[K" } else { "" }))
    }

    /// Reads the counters at the end of a tick.
    pub(super) async fn read(
        &mut self,
        flag: &Flag,
        application: &Application,
        legacy: &Store,
        new: &Store,
    ) -> anyhow::Result<()> {
        let (legacy, new) = (legacy.counters().await?, new.counters().await?);
        let moved = |now: Counters, before: Counters| now.grouped_rows > before.grouped_rows;
        let (on_legacy, on_new) = (moved(legacy, self.legacy), moved(new, self.new));
        (self.legacy, self.new) = (legacy, new);
        let before = self.side;
        self.flipped(flag)?;
        if self.side == before {
            let (own, other) = if before == Some(Side::New) { (on_new, on_legacy) } else { (on_legacy, on_new) };
            if self.ticks_since_flip > 0 && self.flips > 0 {
                self.confirmed |= own && !other;
                self.stray_ticks += u32::from(other);
            }
            self.ticks_since_flip += 1;
        }
        Ok(self.show(application)?)
    }

    fn show(&mut self, application: &Application) -> Result<(), Closed> {
        let (ticks, legacy, new) = self.shown;
        if ticks + 1 < WINDOW {
            self.shown.0 += 1;
            return Ok(());
        }
        let (on_legacy, on_new) = self.asked_since(legacy, new);
        self.shown = (0, self.legacy, self.new);
        let line = format!(
            "  analytics on {:6}   legacy {on_legacy:5}/s {}   new {on_new:5}/s {}   client errors {}   flips {}",
            self.side.map_or("?", Side::name),
            bar(on_legacy, on_legacy + on_new),
            bar(on_new, on_legacy + on_new),
            application.errors(),
            self.flips,
        );
        if self.in_place { put(format_args!("\r\x1b[K{line}")) } else { say(line) }
    }

    /// How many of the application's queries each server counted since. A session that begins to use `new` makes the proxy ask
    /// both stores what it must carry over, as the application's account: each server counts that too, and it is taken off here.
    fn asked_since(&self, legacy: Counters, new: Counters) -> (u64, u64) {
        let own = (self.new.sessions - new.sessions) * QUESTIONS;
        (
            (self.legacy.queries - legacy.queries).saturating_sub(own),
            (self.new.queries - new.queries).saturating_sub(own),
        )
    }

    /// Prints the closing line; returns whether all went well. Call it when the application has stopped.
    pub(super) async fn close(
        mut self,
        application: &Application,
        legacy: &Store,
        new: &Store,
    ) -> anyhow::Result<bool> {
        (self.legacy, self.new) = (legacy.counters().await?, new.counters().await?);
        let (queries, errors) = (application.queries(), application.errors());
        // The last flip may be too young to have been confirmed.
        let unconfirmed = self.unconfirmed + u32::from(!self.confirmed && self.ticks_since_flip > 2);
        if self.in_place {
            say("")?;
        }
        if self.strict && unconfirmed > 0 {
            complain(format_args!("{unconfirmed} of {} flips did not move the traffic", self.flips));
        }
        if self.strict && self.flips == 0 {
            complain("it ended before the first flip");
        }
        if self.stray_ticks > 0 {
            complain(format_args!("grouped tables were used on the other store {} times", self.stray_ticks));
        }
        let (on_legacy, on_new) = self.asked_since(self.at_start.0, self.at_start.1);
        say(format_args!(
            "queries {queries}, client errors {errors}, flips {}, legacy {on_legacy}, new {on_new}",
            self.flips
        ))?;
        let moved = !self.strict || (unconfirmed == 0 && self.stray_ticks == 0 && self.flips > 0);
        Ok(errors == 0 && queries > 0 && moved)
    }
}

/// Ten cells, as many filled as `part` is tenths of `whole`.
fn bar(part: u64, whole: u64) -> String {
    let filled = (part * 10 + whole / 2).checked_div(whole).unwrap_or(0).min(10);
    (0..10).map(|cell| if cell < filled { '█' } else { '·' }).collect()
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn bars_show_tenths() {
        assert_eq!(bar(0, 0), "··········");
        assert_eq!(bar(1, 2), "█████·····");
        assert_eq!(bar(7, 7), "██████████");
    }
}
