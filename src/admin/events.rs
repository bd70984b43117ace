//! What was changed, by whom, and what happened: the newest in memory for every surface, all that was changed in a file that is
//! only appended to.
//!
//! The file holds one JSON object a line. It is written by a thread of its own, and synced; a disk that is full or gone keeps
//! nobody from a flip: the log says so, and the events stay in memory.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::protocol::{Cause, EventQuery};
use crate::telemetry::{without_values, without_values_of_stores};

/// Events in memory.
const KEPT: usize = 1_000;
/// Bytes at the end of the file that are read at the start.
const TAIL: u64 = 512 << 10;
/// Events that a follower may be behind before it misses some.
const BEHIND: usize = 256;
/// How many an answer has where the question does not say.
const USUAL: usize = 100;

/// Something that was changed, or happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Grows; over restarts too.
    pub id: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// `action` (somebody asked for a change), `flip`, `step` (of a cutover), `config`, `health`, `standby`, `shadow`.
    pub kind: String,
    /// The group, store or session that it is about; empty where it is the proxy.
    pub subject: String,
    /// One line.
    pub what: String,
    /// Who; empty where nobody asked.
    pub by: String,
    /// `cli`, `console`, `http`, `file` or `proxy`.
    pub surface: String,
    /// The peer's address, or `uid 1000`.
    pub from: String,
    /// How it was.
    pub before: Option<String>,
    /// How it is; of what was not done, why.
    pub after: Option<String>,
    /// Their words.
    pub why: Option<String>,
    /// Of an action: `done`, `refused` or `failed`.
    pub outcome: Option<String>,
}

impl Event {
    /// One that the proxy itself brings about.
    #[must_use]
    pub fn of_proxy(kind: &str, subject: &str, what: impl Into<String>) -> Event {
        Event {
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            what: what.into(),
            surface: "proxy".to_owned(),
            ..Event::default()
        }
    }

    /// A change that a command makes by itself, because no proxy could be asked: done, until it says otherwise.
    #[must_use]
    pub fn of_command(cause: &Cause, subject: &str, what: impl Into<String>) -> Event {
        Event {
            kind: "action".to_owned(),
            subject: subject.to_owned(),
            what: what.into(),
            by: cause.by.clone(),
            surface: "cli".to_owned(),
            from: format!("uid {}", rustix::process::getuid().as_raw()),
            why: cause.why.clone(),
            outcome: Some("done".to_owned()),
            ..Event::default()
        }
    }

    /// Whether it belongs into the file: what somebody changed, and where an authority moved.
    fn is_kept(&self) -> bool {
        matches!(self.kind.as_str(), "action" | "flip" | "config")
    }
}

/// What stops a standby quotes rows; elsewhere only what stores said does.
fn redact(event: &mut Event) {
    let of_standby = event.kind == "standby" || event.what.starts_with("standby ");
    for text in [&mut event.before, &mut event.after].into_iter().flatten() {
        *text = if of_standby { without_values(&*text) } else { without_values_of_stores(text) };
    }
    event.what = without_values_of_stores(&event.what);
}

#[derive(Debug)]
struct Memory {
    newest: VecDeque<Event>,
    last_id: u64,
}

/// The events of a proxy.
#[derive(Debug)]
pub struct Events {
    memory: Mutex<Memory>,
    followers: broadcast::Sender<Event>,
    file: Option<Sender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl Default for Events {
    fn default() -> Events {
        Events::in_memory(VecDeque::new())
    }
}

impl Events {
    fn in_memory(newest: VecDeque<Event>) -> Events {
        let last_id = newest.iter().map(|e| e.id).max().unwrap_or_default();
        let followers = broadcast::channel(BEHIND).0;
        Events { memory: Mutex::new(Memory { newest, last_id }), followers, file: None, writer: None }
    }

    /// Events that are kept in `path`; those that it holds are there again.
    #[must_use]
    pub fn kept_in(path: &Path) -> Events {
        let mut events = Events::in_memory(tail(path));
        let (lines, queue) = channel::<String>();
        let path = path.to_owned();
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let mut file = None;
            for line in queue {
                if let Err(error) = append(&path, &mut file, &line) {
                    file = None;
                    tracing::error!(file = %path.display(), %error, "the log of changes cannot be written: {line}");
                }
            }
        });
        match writer {
            Ok(writer) => (events.file, events.writer) = (Some(lines), Some(writer)),
            Err(error) => tracing::error!(%error, "the log of changes has no thread: it is in memory only"),
        }
        events
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; its id and time are set here. Values that stores quoted do not stay in it: the file is kept, and every surface shows
    /// events.
    pub fn add(&self, mut event: Event) {
        redact(&mut event);
        let mut memory = self.lock();
        memory.last_id += 1;
        event.id = memory.last_id;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        event.at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        if memory.newest.len() >= KEPT {
            memory.newest.pop_front();
        }
        memory.newest.push_back(event.clone());
        // (under the lock: lines and followers see them in the order of their ids)
        if event.is_kept()
            && let (Some(file), Ok(line)) = (&self.file, serde_json::to_string(&event))
        {
            let _ = file.send(line);
        }
        let _ = self.followers.send(event);
    }

    /// The newest that fit, the newest first.
    #[must_use]
    pub fn newest(&self, query: &EventQuery) -> Vec<Event> {
        let limit = if query.limit == 0 { USUAL } else { usize::try_from(query.limit).unwrap_or(KEPT) };
        let fits = |e: &&Event| e.id > query.after && query.kind.as_ref().is_none_or(|kind| *kind == e.kind);
        self.lock().newest.iter().rev().filter(fits).take(limit).cloned().collect()
    }

    /// Those that come from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Event> {
        self.followers.subscribe()
    }
}

impl Drop for Events {
    /// What was changed last is in the file as well.
    fn drop(&mut self) {
        drop(self.file.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Appends a line, whole and synced.
fn append(path: &PathBuf, file: &mut Option<File>, line: &str) -> std::io::Result<()> {
    if file.is_none() {
        let mut opened = OpenOptions::new().append(true).create(true).read(true).mode(0o600).open(path)?;
        // a line that a full disk cut off ends here
        let mut last = [b'\n'];
        if opened.seek(SeekFrom::End(-1)).is_ok() {
            opened.read_exact(&mut last)?;
        }
        if last != *b"\n" {
            opened.write_all(b"\n")?;
        }
        *file = Some(opened);
    }
    let Some(opened) = file else { return Ok(()) };
    opened.write_all(format!("{line}\n").as_bytes())?;
    opened.sync_data()
}

/// The newest events of a file. What is no event is passed over: a line may be cut off.
fn tail(path: &Path) -> VecDeque<Event> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return VecDeque::new(),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "the log of changes cannot be read");
            return VecDeque::new();
        }
    };
    let mut events: VecDeque<Event> =
        bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    while events.len() > KEPT {
        events.pop_front();
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(what: &str) -> Event {
        Event { kind: "action".into(), what: what.into(), ..Event::default() }
    }

    /// Waits until the writer has written so many lines.
    fn lines(path: &Path, count: usize) -> Vec<String> {
        for _ in 0..500 {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            if text.lines().count() >= count && text.ends_with('\n') {
                return text.lines().map(str::to_owned).collect();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("not written: {:?}", std::fs::read_to_string(path));
    }

    #[test]
    fn changes_outlive_the_process_and_go_on_counting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        let events = Events::kept_in(&path);
        events.add(action("one"));
        events.add(Event::of_proxy("health", "new", "down"));
        events.add(action("two"));
        assert_eq!(lines(&path, 2).len(), 2, "health is no change");
        // a crash in the middle of a line
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"id\": 9, \"wh").unwrap();
        let again = Events::kept_in(&path);
        again.add(action("three"));
        let found: Vec<(u64, String)> =
            again.newest(&EventQuery::default()).into_iter().map(|e| (e.id, e.what)).collect();
        assert_eq!(found, [(4, "three".into()), (3, "two".into()), (1, "one".into())]);
        let lines = lines(&path, 4);
        assert!(lines[3].contains("three"), "{lines:?}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn memory_is_bounded_and_can_be_asked() {
        let events = Events::default();
        let mut follower = events.follow();
        for n in 0..KEPT + 5 {
            events.add(Event::of_proxy(if n % 2 == 0 { "flip" } else { "health" }, "g", n.to_string()));
        }
        let all = events.newest(&EventQuery { limit: u32::MAX, ..EventQuery::default() });
        assert_eq!((all.len(), all[0].what.as_str()), (KEPT, "1004"));
        let query = EventQuery { after: 1_000, kind: Some("flip".into()), limit: 2 };
        let found: Vec<u64> = events.newest(&query).iter().map(|e| e.id).collect();
        assert_eq!(found, [1_005, 1_003]);
        assert!(matches!(follower.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }

    #[test]
    fn a_place_that_cannot_be_written_stops_nobody() {
        let events = Events::kept_in(Path::new("/proc/no/such"));
        events.add(action("one"));
        assert_eq!(events.newest(&EventQuery::default()).len(), 1);
    }
}
