//! The log: its lines go to standard error; what is logged can change while the proxy runs.
//!
//! What is said last holds: `RUST_LOG`, or else the file's `log.level`, at the start; a changed `log.level`, unless `RUST_LOG` is
//! set, for that wins over the file; and what an operator asks for, whatever stands elsewhere.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// What decides what is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `log.level` of the configuration file.
    File,
    /// `RUST_LOG`.
    Environment,
    /// An operator, while it runs.
    Operator,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Said::File => "the file",
            Said::Environment => "RUST_LOG",
            Said::Operator => "an operator",
        })
    }
}

#[derive(Debug)]
struct Level {
    filter: String,
    said: Said,
    /// Whether `RUST_LOG` was set at the start.
    environment: bool,
}

/// What is logged, to be changed by whoever has it. Clones are of one log.
#[derive(Debug, Clone)]
pub struct Levels {
    handle: Option<reload::Handle<EnvFilter, Registry>>,
    level: Arc<Mutex<Level>>,
}

/// A filter that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{filter:?} is no level (error, warn, info, debug, trace, off), and no filter as RUST_LOG takes it: {reason}")]
pub struct NoFilter {
    filter: String,
    reason: String,
}

fn parsed(filter: &str) -> Result<EnvFilter, NoFilter> {
    let failed = |reason: String| NoFilter { filter: filter.to_owned(), reason };
    if filter.trim().is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    // a single word that is no level would be the name of a module, and log nothing else
    let levels = ["error", "warn", "info", "debug", "trace", "off"];
    if !filter.contains(['=', ',']) && !levels.iter().any(|l| filter.eq_ignore_ascii_case(l)) {
        return Err(failed("no such level".to_owned()));
    }
    EnvFilter::try_new(filter).map_err(|e| failed(e.to_string()))
}

/// Sends log lines to standard error; `RUST_LOG` wins over `level`. A second call leaves the log as it is, and its levels change
/// nothing.
pub fn init(level: &str, json: bool) -> Levels {
    let environment = std::env::var("RUST_LOG").ok().filter(|f| EnvFilter::try_new(f).is_ok() && !f.is_empty());
    let said = if environment.is_some() { Said::Environment } else { Said::File };
    let text = environment.clone().unwrap_or_else(|| level.to_owned());
    let (filter, handle) = reload::Layer::new(EnvFilter::new(&text));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let begun =
        if json { registry.with(lines.json()).try_init() } else { registry.with(lines.with_ansi(false)).try_init() };
    let level = Level { filter: text, said, environment: environment.is_some() };
    Levels { handle: begun.is_ok().then_some(handle), level: Arc::new(Mutex::new(level)) }
}

impl Levels {
    fn lock(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is logged now, and who says so.
    #[must_use]
    pub fn now(&self) -> (String, Said) {
        let level = self.lock();
        (level.filter.clone(), level.said)
    }

    /// An operator wants another level, or filter as `RUST_LOG` takes it; what was logged before.
    ///
    /// # Errors
    /// [`NoFilter`]: then nothing has changed.
    pub fn set(&self, filter: &str) -> Result<String, NoFilter> {
        let new = parsed(filter)?;
        Ok(self.change(new, filter, Said::Operator))
    }

    /// The file has another `log.level`; whether it counts.
    pub fn follow_file(&self, level: &str) -> bool {
        let fixed = self.lock().environment;
        match parsed(level) {
            Ok(new) if !fixed => {
                self.change(new, level, Said::File);
                true
            }
            _ => false,
        }
    }

    fn change(&self, new: EnvFilter, filter: &str, said: Said) -> String {
        let mut level = self.lock();
        if let Some(handle) = &self.handle {
            // (it fails only when the log is gone)
            let _ = handle.reload(new);
        }
        level.said = said;
        std::mem::replace(&mut level.filter, filter.to_owned())
    }
}

/// A store's message, or what was made of it, as the log may have it: without values of rows and statements, which stores quote
/// (`Duplicate entry 'x'`, `… syntax near 'x'`), and without statements. Messages that quote names only keep them.
#[must_use]
pub fn without_values(text: impl fmt::Display) -> String {
    const OF_NAMES: [&str; 8] = [
        "Unknown column",
        "Unknown database",
        "Unknown table",
        "Unknown storage engine",
        "doesn't exist",
        "command denied",
        "Access denied",
        "Unknown system variable",
    ];
    const STATEMENTS: [&str; 12] = [
        "INSERT ",
        "UPDATE ",
        "DELETE ",
        "REPLACE ",
        "ALTER ",
        "CREATE ",
        "DROP ",
        "TRUNCATE ",
        "VALUES",
        "SET ",
        "WHERE ",
        "SELECT ",
    ];
    let text = text.to_string();
    let cut = STATEMENTS.iter().filter_map(|word| text.find(word)).min();
    let (kept, more) = match cut.and_then(|at| text.get(..at)) {
        Some(before) => (before, "…"),
        None => (text.as_str(), ""),
    };
    let quotes = || kept.char_indices().filter(|(at, c)| *c == '"' || *c == '\'' && !is_apostrophe(kept, *at));
    let (Some((first, _)), Some((last, _))) = (quotes().next(), quotes().next_back()) else {
        return format!("{kept}{more}");
    };
    if OF_NAMES.iter().any(|words| kept.contains(words)) {
        return format!("{kept}{more}");
    }
    let (before, after) = (kept.get(..first).unwrap_or_default(), kept.get(last + 1..).unwrap_or_default());
    format!("{before}'…'{after}{more}")
}

/// Whether it is the one of `the standby's` or `can't`.
fn is_apostrophe(text: &str, at: usize) -> bool {
    let before = text.get(..at).and_then(|t| t.chars().next_back());
    let mut behind = text.get(at + 1..).unwrap_or_default().chars();
    before.is_some_and(char::is_alphabetic)
        && matches!(behind.next(), Some('s' | 't'))
        && !behind.next().is_some_and(char::is_alphanumeric)
}

/// A text of the proxy's own, for those who may not see values: what stores said within it (`1062 (23000): …`, to the end of its line)
/// goes through [`without_values`], all else stays.
#[must_use]
pub fn without_values_of_stores(text: &str) -> String {
    let lines = text.split('\n').map(|line| match said_by_store(line) {
        Some(at) => {
            let (own, said) = line.split_at(at);
            format!("{own}{}", without_values(said))
        }
        None => line.to_owned(),
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// Where an error begins as the proxy writes those of stores: `code (SQLSTATE): text`.
fn said_by_store(line: &str) -> Option<usize> {
    line.match_indices(" (").map(|(at, _)| at).find_map(|at| {
        let state = line.get(at + 2..at + 7)?;
        let digits = line.get(..at)?.bytes().rev().take_while(u8::is_ascii_digit).count();
        let is = state.bytes().all(|b| b.is_ascii_alphanumeric()) && line.get(at + 7..)?.starts_with("): ");
        (is && digits >= 3).then_some(at - digits)
    })
}

/// Lines of one kind that may come in every window.
const LINES: u64 = 50;
/// Their window.
const WINDOW: Duration = Duration::from_secs(10);

/// Bounds how many lines of one kind are logged: 50 in ten seconds.
#[derive(Debug)]
pub struct Pace {
    base: Instant,
    /// Number of the window, in the upper 32 bits, and lines in it.
    window: AtomicU64,
    /// Lines left out that no line has told of yet.
    untold: AtomicU64,
    /// All lines left out.
    suppressed: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            base: Instant::now(),
            window: AtomicU64::default(),
            untold: AtomicU64::default(),
            suppressed: AtomicU64::default(),
        }
    }
}

impl Pace {
    /// Whether one more line may come now; with how many were left out before it.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(self.base.elapsed())
    }

    fn admit_at(&self, elapsed: Duration) -> Option<u64> {
        let window = (elapsed.as_secs() / WINDOW.as_secs()) << 32;
        let taken = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            let lines = if before >> 32 == window >> 32 { before & u64::from(u32::MAX) } else { 0 };
            (lines < LINES).then_some(window | (lines + 1))
        });
        if taken.is_ok() {
            return Some(self.untold.swap(0, Ordering::Relaxed));
        }
        self.untold.fetch_add(1, Ordering::Relaxed);
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Lines left out since the start.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_in_a_window_and_the_next_tells_of_the_rest() {
        let pace = Pace::default();
        let at = Duration::from_secs;
        let admitted = (0..80).filter(|_| pace.admit_at(at(3)).is_some()).count();
        assert_eq!((admitted, pace.suppressed()), (50, 30));
        assert_eq!(pace.admit_at(at(11)), Some(30));
        assert_eq!(pace.admit_at(at(12)), Some(0));
        assert_eq!(pace.suppressed(), 30);
    }

    #[test]
    fn values_are_cut_out_and_names_stay() {
        for (text, expected) in [
            ("1062 (23000): Duplicate entry 'a'b' for key 'PRIMARY'", "1062 (23000): Duplicate entry '…'"),
            (
                "1064 (42000): You have an error in your SQL syntax near ''x' at line 1",
                "1064 (42000): You have an error in your SQL syntax near '…' at line 1",
            ),
            ("1146 (42S02): Table 'd.t' doesn't exist", "1146 (42S02): Table 'd.t' doesn't exist"),
            ("a row is not there: INSERT INTO d.t VALUES (7, 'x')", "a row is not there: …"),
            ("connection refused", "connection refused"),
            ("the trigger x on the standby's d.t can't stay", "the trigger x on the standby's d.t can't stay"),
            (
                "the standby's row: 1062 (23000): Duplicate entry 'it's'",
                "the standby's row: 1062 (23000): Duplicate entry '…'",
            ),
        ] {
            assert_eq!(without_values(text), expected);
        }
    }

    #[test]
    fn of_a_text_only_what_stores_said_is_cut() {
        let text = "`hits` cannot move:\n  d.hits: 1062 (23000): Duplicate entry 'x' for key 'v'\n  help: DROP TRIGGER `d`.'y'";
        let expected = "`hits` cannot move:\n  d.hits: 1062 (23000): Duplicate entry '…'\n  help: DROP TRIGGER `d`.'y'";
        assert_eq!(without_values_of_stores(text), expected);
        for kept in ["legacy (epoch 1): 'a'", "x (23000): 'a'", "5 rows ('a')"] {
            assert_eq!(without_values_of_stores(kept), kept);
        }
    }

    #[test]
    fn filters_are_levels_or_directives() {
        for good in ["debug", "OFF", "info,switchover::slow=off", "switchover::session=trace"] {
            assert!(parsed(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "loud", "warning", "switchover=loud", "a=b=c"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_an_operator_over_both() {
        let level = Level { filter: "warn".into(), said: Said::Environment, environment: true };
        let levels = Levels { handle: None, level: Arc::new(Mutex::new(level)) };
        assert!(!levels.follow_file("debug"));
        assert_eq!(levels.now(), ("warn".to_owned(), Said::Environment));
        assert_eq!(levels.set("trace").unwrap(), "warn");
        assert_eq!(levels.now(), ("trace".to_owned(), Said::Operator));
        levels.lock().environment = false;
        assert!(levels.follow_file("info"));
        assert_eq!(levels.now(), ("info".to_owned(), Said::File));
    }
}
