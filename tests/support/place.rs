//! Where test servers and proxies live: a short folder under the system's temporary one (unix socket paths end at 107
//! bytes), one per target folder; and the locks by which test processes know of each other.
//!
//! Every process that uses the folder holds `users.lock` shared until it ends, however it ends; the keeper removes the
//! folder when it can take that lock for itself.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Cargo's folder for what integration tests keep between runs.
pub fn kept() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The folder of everything that runs; removed when the last test process has ended.
pub fn running() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    kept().hash(&mut hasher);
    std::env::temp_dir().join(format!("so-{:08x}", hasher.finish() as u32))
}

/// Opens (and makes) a lock file.
pub fn lock_file(name: &str) -> File {
    std::fs::create_dir_all(kept()).unwrap();
    File::options().create(true).truncate(false).read(true).write(true).open(kept().join(name)).unwrap()
}

/// Says that this process uses [`running`]; until it ends.
pub fn hold() {
    static HELD: OnceLock<File> = OnceLock::new();
    HELD.get_or_init(|| {
        let gate = lock_file("start.lock");
        gate.lock().unwrap();
        let users = lock_file("users.lock");
        users.lock_shared().unwrap();
        users
    });
}

/// A folder of this test alone, removed with the value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(kind: &str) -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        hold();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = running().join(format!("{kind}{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
