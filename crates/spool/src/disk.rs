//! What the spool asks of a disk: the whole contract, for whoever writes another one.
//!
//! A disk is one folder of files with plain names. [`RealDisk`](crate::RealDisk) is a folder of the operating
//! system, [`MemoryDisk`](crate::MemoryDisk) the simulator's; the tests in `tests/conformance.rs` run over both.
//!
//! # Fault model
//!
//! What the log is built to survive, and what it assumes of every disk:
//!
//! - **A power cut at any moment.** Of what was written to a file since its last successful
//!   [`sync_data`](DiskFile::sync_data), any set of 512-byte sectors may be on the disk afterwards and the others
//!   are as before; a sector is old or new, never mixed. Of the creations, renames and removals since the last
//!   successful [`sync_dir`](Disk::sync_dir), the disk keeps the first few in order, or all, or none.
//! - **A sync that returned `Ok` is kept.** A disk that lies about it loses records; nothing above it can help.
//! - **A write or sync that failed** may have left anything behind. It is never tried again: the kernel may have
//!   dropped the pages and report success the second time.
//! - **Bits may rot** in what was synced long ago, and pieces may become unreadable. That costs the entries it
//!   hits. Checksums find chance, not an enemy: who can write to the disk can forge.
//! - **A file that was synced does not vanish** by itself. The log cannot tell it from one that it recycled.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// A folder of files. Shared between the writer and any number of readers.
pub trait Disk: Debug + Send + Sync + 'static {
    /// All files of the folder, in any order.
    fn list(&self) -> io::Result<Vec<Listed>>;

    /// Opens a file that exists; [`io::ErrorKind::NotFound`] if it does not.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file; [`io::ErrorKind::AlreadyExists`] if there is one. Durable after [`Disk::sync_dir`].
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing what has that name. Files that are open stay open.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Files that are open stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Moves a file to the folder `damaged` beside the others, where it is not listed. Durable after
    /// [`Disk::sync_dir`].
    fn put_aside(&self, name: &str) -> io::Result<()>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// How many more bytes the disk has room for.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file. Reads and writes may happen at the same time from several threads.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads from `offset` until `buffer` is full or the file ends; says how much was read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all `parts` one after the other from `offset` on, growing the file if need be. The slices may be
    /// advanced on the way.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Cuts the file off, or extends it with zeros.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes everything written to this file so far durable, its length included.
    fn sync_data(&self) -> io::Result<()>;

    /// What was synced to this file will not be read soon: it need not stay in the system's memory.
    fn uncache(&self) {}
}

/// A file in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
}
