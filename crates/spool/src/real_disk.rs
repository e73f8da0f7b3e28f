//! A folder of the operating system, locked for this process alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Advice;

use crate::disk::{Disk, DiskFile, Listed};

const LOCK: &str = "lock";
const DAMAGED: &str = "damaged";

/// What one system call takes at most (`IOV_MAX` on Linux).
const PARTS_MAX: usize = 1024;

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process has it open.
    #[error("open the spool in {}: another process has it open", .0.display())]
    Locked(PathBuf),
    /// The operating system says no.
    #[error("open the spool in {}: {error}", .folder.display())]
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A folder of the operating system. The exclusive lock on it lasts as long as this value.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    _lock: File,
}

impl RealDisk {
    /// Creates the folder if it is not there, and locks it.
    pub fn open(folder: &Path) -> Result<Self, FolderError> {
        let fault = |error| FolderError::Disk { folder: folder.to_owned(), error };
        create_durably(folder).map_err(fault)?;
        let lock = open_to_write_or_read(OpenOptions::new().create(true), &folder.join(LOCK)).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(FolderError::Locked(folder.to_owned())),
            Err(TryLockError::Error(error)) => Err(fault(error)),
        }
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let metadata = entry.metadata()?;
            if metadata.is_file() && name != LOCK {
                files.push(Listed { name, bytes: metadata.len() });
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(open_to_write_or_read(&mut OpenOptions::new(), &self.folder.join(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.folder.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn put_aside(&self, name: &str) -> io::Result<()> {
        let folder = self.folder.join(DAMAGED);
        create_durably(&folder)?;
        fs::rename(self.folder.join(name), folder.join(name))?;
        File::open(folder)?.sync_all()
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.folder)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

/// A file of the operating system.
#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let group = parts.len().min(PARTS_MAX);
            match rustix::io::pwritev(&self.0, &parts[..group], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut parts, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn uncache(&self) {
        // Only advice: a file system that does not take it keeps the pages.
        let _kept = rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed);
    }
}

/// Creates the folder and those above it, each durable in its parent.
fn create_durably(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return fs::create_dir(folder),
    };
    create_durably(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        other => other?,
    }
    File::open(parent)?.sync_all()
}

/// A file system that went read-only after a fault can still be read, and what it holds sent on.
fn open_to_write_or_read(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    match options.read(true).write(true).open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
            File::open(path)
        }
        other => other,
    }
}
