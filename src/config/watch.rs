//! Tells when the configuration file has new content, however it came there: written in place, replaced by an editor, a
//! symlink moved (Kubernetes' `..data`), a folder mounted over it.
//!
//! inotify on the folders of the path and of every symlink on the way makes it fast; reading the file once a second makes it
//! certain where inotify sees nothing (network file systems, bind mounts, watch limits). Content decides: the same bytes again
//! are no change, and a burst of writes is one.

use std::collections::BTreeSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use super::raw::MAX_BYTES;

/// Without any event the file is looked at this often.
const POLL: Duration = Duration::from_secs(1);
/// A change counts when nothing more has happened for this long …
const QUIET: Duration = Duration::from_millis(30);
/// … or after this long, whatever happens.
const MOST: Duration = Duration::from_millis(500);
/// A file that is gone counts as changed only after this long: editors move the old one away before the new one comes.
const GONE: Duration = Duration::from_secs(2);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct WatchHandle {
    stop: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Signal {
    Event,
    Stop,
}

/// What the file holds: the hash of its bytes, or nothing where it cannot be read.
type Content = Option<u64>;

/// Calls `changed` after each change of the content of `path`, from a thread of its own.
///
/// The content at the time of this call is where it starts: read the file after it, and no change is missed.
///
/// # Errors
/// Where the thread cannot be started. Missing inotify is no error: the file is then read every second.
pub fn watch(path: &Path, mut changed: impl FnMut() + Send + 'static) -> io::Result<WatchHandle> {
    let (stop, signals) = channel();
    let mut watched = Watched::new(path, stop.clone());
    let thread = std::thread::Builder::new().name("config-watch".to_owned()).spawn(move || {
        while watched.next_change(&signals) {
            changed();
        }
    })?;
    Ok(WatchHandle { stop, thread: Some(thread) })
}

/// [`watch`] for an async task: the receiver gets a `()` for each change; changes that it has not taken yet are one.
///
/// # Errors
/// As [`watch`].
pub fn watch_channel(path: &Path) -> io::Result<(WatchHandle, tokio::sync::mpsc::Receiver<()>)> {
    let (changes, receiver) = tokio::sync::mpsc::channel(1);
    let handle = watch(path, move || {
        // Full means that a change is waiting to be taken already.
        let _ = changes.try_send(());
    })?;
    Ok((handle, receiver))
}

struct Watched {
    path: PathBuf,
    known: Content,
    gone_since: Option<Instant>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
}

impl Watched {
    fn new(path: &Path, events: Sender<Signal>) -> Watched {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = events.send(Signal::Event);
            }
        });
        let mut watched = Watched {
            path: path.to_owned(),
            known: None,
            gone_since: None,
            watcher: watcher.ok(),
            folders: BTreeSet::new(),
        };
        watched.follow();
        watched.known = content(path);
        watched
    }

    /// Waits for new content; false when told to stop.
    fn next_change(&mut self, signals: &Receiver<Signal>) -> bool {
        loop {
            match signals.recv_timeout(POLL) {
                Ok(Signal::Event) => {
                    if !settle(signals) {
                        return false;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            }
            self.follow();
            if self.is_new() {
                return true;
            }
        }
    }

    fn is_new(&mut self) -> bool {
        let now = content(&self.path);
        if now == self.known {
            self.gone_since = None;
            return false;
        }
        if now.is_none() {
            let since = *self.gone_since.get_or_insert_with(Instant::now);
            if since.elapsed() < GONE {
                return false;
            }
        }
        self.gone_since = None;
        self.known = now;
        true
    }

    /// Watches the folders that the path leads through now.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders = folders(&self.path);
        for old in self.folders.difference(&folders) {
            let _ = watcher.unwatch(old);
        }
        let mut now = BTreeSet::new();
        for folder in folders {
            if self.folders.contains(&folder) || watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                now.insert(folder);
            }
        }
        self.folders = now;
    }
}

/// Waits until a burst of events is over; false when told to stop.
fn settle(signals: &Receiver<Signal>) -> bool {
    let deadline = Instant::now() + MOST;
    while Instant::now() < deadline {
        match signals.recv_timeout(QUIET) {
            Ok(Signal::Event) => {}
            Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
    true
}

fn content(path: &Path) -> Content {
    // Opening a pipe would wait for its writer; what is no file has no changes to tell.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Some(hasher.finish())
}

/// The folders in which a change can change what `path` means: its own, and that of every symlink on the way.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut pending = vec![std::path::absolute(path).unwrap_or_else(|_| path.to_owned())];
    // Forty links are more than the kernel follows.
    for _ in 0..40 {
        let Some(path) = pending.pop() else { break };
        for part in path.ancestors() {
            let Some(folder) = part.parent() else { break };
            if part == path {
                found.insert(folder.to_owned());
            }
            if let Ok(target) = std::fs::read_link(part) {
                found.insert(folder.to_owned());
                let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
                pending.push(folder.join(target).join(rest));
                break;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    use super::*;

    struct Eye {
        _handle: WatchHandle,
        seen: Receiver<()>,
    }

    impl Eye {
        fn on(path: &Path) -> Eye {
            let (tell, seen) = channel();
            Eye { _handle: watch(path, move || tell.send(()).unwrap_or(())).unwrap(), seen }
        }

        fn sees(&self) -> bool {
            self.seen.recv_timeout(Duration::from_secs(5)).is_ok()
        }

        fn sees_nothing(&self) -> bool {
            self.seen.recv_timeout(Duration::from_millis(200)).is_err()
        }
    }

    #[test]
    fn writes_replacements_and_touches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        fs::write(&path, "1").unwrap();
        let eye = Eye::on(&path);
        assert!(eye.sees_nothing());
        fs::write(&path, "2").unwrap();
        assert!(eye.sees());
        fs::write(folder.path().join("other"), "x").unwrap();
        // (in place: an emptied file may be seen for what it is)
        fs::File::options().write(true).open(&path).unwrap().write_all(b"2").unwrap();
        assert!(eye.sees_nothing());
        fs::write(folder.path().join("new"), "3").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        assert!(eye.sees());
        fs::write(&path, "4").unwrap();
        assert!(eye.sees(), "after a replacement too");
        fs::rename(&path, folder.path().join("backup")).unwrap();
        fs::write(&path, "5").unwrap();
        assert!(eye.sees());
        fs::remove_file(&path).unwrap();
        assert!(eye.sees(), "a file that stays away is a change");
        fs::write(&path, "6").unwrap();
        assert!(eye.sees());
    }

    #[test]
    fn kubernetes_swaps_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for version in ["..1", "..2", "..3"] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("r.yaml"), version).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/r.yaml", at("r.yaml")).unwrap();
        let eye = Eye::on(&at("r.yaml"));
        for version in ["..2", "..3"] {
            symlink(version, at("..tmp")).unwrap();
            fs::rename(at("..tmp"), at("..data")).unwrap();
            assert!(eye.sees(), "{version}");
        }
    }

    #[test]
    fn links_to_elsewhere_are_followed() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(there.path().join("real"), "1").unwrap();
        symlink(there.path().join("real"), here.path().join("r.yaml")).unwrap();
        let eye = Eye::on(&here.path().join("r.yaml"));
        fs::write(there.path().join("real"), "2").unwrap();
        assert!(eye.sees());
    }

    #[test]
    fn a_burst_is_few_changes_and_the_last_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        fs::write(&path, "start").unwrap();
        let eye = Eye::on(&path);
        for turn in 0..100 {
            fs::write(&path, turn.to_string()).unwrap();
        }
        assert!(eye.sees());
        let mut more = 0;
        while eye.seen.recv_timeout(Duration::from_millis(300)).is_ok() {
            more += 1;
        }
        assert!(more < 10, "{more}");
    }

    #[test]
    fn dropping_the_handle_stops_the_thread_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        let started = Instant::now();
        drop(watch(&path, || ()).unwrap());
        assert!(started.elapsed() < Duration::from_millis(500));
    }

    #[tokio::test]
    async fn an_async_task_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.yaml");
        fs::write(&path, "1").unwrap();
        let (_handle, mut changes) = watch_channel(&path).unwrap();
        fs::write(&path, "2").unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(5), changes.recv()).await.unwrap().is_some());
    }
}
