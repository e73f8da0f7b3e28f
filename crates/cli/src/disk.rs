//! A temporary folder on a disk: relays refuse a folder in memory, and many machines have `/tmp` there.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// `statfs(2)`
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

/// True if a folder lies on a file system in memory.
#[must_use]
pub fn is_in_memory(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|about| about.f_type == TMPFS_MAGIC)
}

/// A new folder that is removed when dropped: in the system's temporary folder, or if that is in memory, in
/// `/var/tmp`, which outlives a restart, or here.
pub fn temporary_folder(prefix: &str) -> io::Result<TempDir> {
    let places = [std::env::temp_dir(), PathBuf::from("/var/tmp"), PathBuf::from(".")];
    let on_disk = places.iter().find(|place| place.is_dir() && !is_in_memory(place));
    tempfile::Builder::new().prefix(prefix).tempdir_in(on_disk.unwrap_or(&places[0]))
}
