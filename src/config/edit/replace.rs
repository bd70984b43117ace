//! Replacing a file so that no reader and no crash ever sees half of it, under a lock against a second editor.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Gid, Uid, fchown, flock};

use super::EditError;

/// How long a second editor waits for the first.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The right to edit one file; given back when dropped.
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked here: whoever opened this file before it went sees in `lock` that it is gone, and starts over.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks `.NAME.lock` beside the file.
pub(super) fn lock(file: &Path) -> Result<Lock, EditError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let path = file.with_file_name(format!(".{name}.lock"));
    let failed = |error| EditError::Io { action: format!("{} cannot be locked", path.display()), error };
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let lock = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_at(&lock, &path) => return Ok(Lock { path, _file: lock }),
            Ok(()) => continue,
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if Instant::now() >= deadline {
            let message =
                format!("another edit of {} is under way (lock {}): try again", file.display(), path.display());
            return Err(EditError::Busy(message));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(open), Ok(there)) if identity(open.clone()) == identity(there.clone()))
}

/// Replaces `old` by `new`, durably; notes for the operator, or `None` where the file is no longer `old`.
pub(super) fn replace(_lock: &Lock, file: &Path, old: &str, new: &str) -> Result<Option<Vec<String>>, EditError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let failed = |error| EditError::Io { action: format!("{} cannot be replaced", file.display()), error };
    let mut beside = tempfile::Builder::new().prefix(".routing-").suffix(".tmp").tempfile_in(folder).map_err(failed)?;
    beside.write_all(new.as_bytes()).map_err(failed)?;
    let notes = adopt(beside.as_file(), file).map_err(failed)?;
    beside.as_file().sync_all().map_err(failed)?;
    if fs::read(file).map_err(failed)? != old.as_bytes() {
        return Ok(None);
    }
    beside.persist(file).map_err(|error| failed(error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(Some(notes))
}

/// Gives the new file the old one's permissions, group and, where this process may, owner.
fn adopt(new: &File, old: &Path) -> io::Result<Vec<String>> {
    let was = fs::metadata(old)?;
    let is = new.metadata()?;
    let mut notes = Vec::new();
    if was.gid() != is.gid() {
        fchown(new, None, Some(Gid::from_raw(was.gid())))?;
    }
    if was.uid() != is.uid() && fchown(new, Some(Uid::from_raw(was.uid())), None).is_err() {
        notes.push(format!("the file now belongs to user {}: only root can keep another owner", is.uid()));
    }
    new.set_permissions(was.permissions())?;
    Ok(notes)
}
