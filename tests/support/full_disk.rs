//! A disk that is full when a test says so: a library, preloaded into a server, that lets none of its files grow. No mount is
//! needed, and so no rights.
//!
//! MariaDB 10.11 on it does what it does on a tmpfs without a free page: what appends to the binlog waits for space, and looks
//! again once a minute; behind it every other commit waits; reads go on.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::place::{self, Folder};

/// A disk.
pub struct Disk {
    flag: PathBuf,
    library: PathBuf,
    _folder: Folder,
}

impl Disk {
    /// One with room.
    pub fn new() -> Disk {
        let folder = Folder::new("d");
        Disk { flag: folder.path().join("full"), library: library(), _folder: folder }
    }

    /// For a server that is to be on it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        vec![("FULL_DISK".to_owned(), text(&self.flag)), ("LD_PRELOAD".to_owned(), text(&self.library))]
    }

    /// Nothing is free any more.
    pub fn fill(&self) {
        std::fs::write(&self.flag, "").unwrap();
    }

    /// Somebody has cleared it up.
    pub fn free(&self) {
        std::fs::remove_file(&self.flag).unwrap();
    }
}

/// The library, compiled if need be.
fn library() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/full_disk.c");
    let made = place::kept().join("full_disk.so");
    let lock = place::lock_file("full_disk.lock");
    lock.lock().unwrap();
    let age = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    if age(&made).is_none_or(|made| Some(made) < age(&source)) {
        let mut compiler = Command::new("cc");
        compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&made).arg(&source).arg("-ldl");
        let output = compiler.output().expect("no C compiler: run tools/install.sh test");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    made
}
