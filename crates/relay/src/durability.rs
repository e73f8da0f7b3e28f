//! Does this disk keep what is synced? Looked at before anything is promised (P1).
//!
//! A sync that is passed on makes the device below write. So a few small writes are synced one by one, and after each
//! the device's own count of written sectors must have grown. A folder in memory, a file system that only says yes, or
//! a library that swallows syncs cannot make it grow. Where the count cannot be read (a network folder, a container
//! without `/sys`), a sync that takes no time is the sign.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The probe's name in the data folder; it is removed afterwards.
const PROBE: &str = "durability-probe";

/// Each round is a write and a sync of one block.
const ROUNDS: u64 = 4;
const BLOCK_BYTES: usize = 4096;
const SECTOR_BYTES: u64 = 512;

/// No device answers a sync this fast: it is the price of the system call alone.
const TOO_FAST: Duration = Duration::from_micros(8);

/// `statfs(2)`: file systems that live in memory.
const IN_MEMORY: &[(rustix::fs::FsWord, &str)] = &[(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// What is known of a folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Syncs reach a device.
    Proved,
    /// They do not, and why that is known.
    Absent(String),
}

/// Looks whether syncs in this folder reach a device.
pub(crate) fn examine(folder: &Path) -> io::Result<Durability> {
    if let Some(why) = in_memory(folder)? {
        return Ok(Durability::Absent(why));
    }
    let probe = folder.join(PROBE);
    let observed = observe(&probe);
    // Left behind, it would only be overwritten by the next start.
    let _ = fs::remove_file(&probe);
    observed.map(|rounds| judge(&rounds, folder))
}

/// Why nothing in this folder outlives a power cut, if it lies on a file system in memory.
pub(crate) fn in_memory(folder: &Path) -> io::Result<Option<String>> {
    let file_system = rustix::fs::statfs(folder)?;
    let found = IN_MEMORY.iter().find(|(magic, _)| *magic == file_system.f_type);
    Ok(found.map(|(_, name)| format!("{} is on {name}, a file system in memory", folder.display())))
}

/// What one write and sync did.
#[derive(Debug, Clone, Copy)]
struct Round {
    took: Duration,
    /// By how many sectors the device's count grew; nothing if there is no count.
    written: Option<u64>,
}

fn observe(probe: &Path) -> io::Result<Vec<Round>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(probe)?;
    let devices = devices_of(file.metadata()?.dev());
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let before = sectors_written(&devices);
        let block = [u8::try_from(round).unwrap_or_default(); BLOCK_BYTES];
        file.write_all_at(&block, round * BLOCK_BYTES as u64)?;
        let began = Instant::now();
        file.sync_data()?;
        let took = began.elapsed();
        let after = sectors_written(&devices);
        rounds.push(Round { took, written: before.zip(after).map(|(before, after)| after.saturating_sub(before)) });
    }
    Ok(rounds)
}

fn judge(rounds: &[Round], folder: &Path) -> Durability {
    let block_sectors = BLOCK_BYTES as u64 / SECTOR_BYTES;
    let swallowed = rounds.iter().any(|round| round.written.is_some_and(|written| written < block_sectors));
    let uncounted = rounds.iter().any(|round| round.written.is_none());
    let instant = rounds.iter().all(|round| round.took < TOO_FAST);
    let folder = folder.display();
    if swallowed {
        Durability::Absent(format!("a sync in {folder} returned, and no device below had written anything"))
    } else if uncounted && instant {
        Durability::Absent(format!("a sync in {folder} takes no time, as if nothing were written"))
    } else {
        Durability::Proved
    }
}

/// The counters of the device that a file is on; if the file system has no device of its own (an overlay, btrfs, a
/// network), of all devices together.
fn devices_of(device: u64) -> Vec<PathBuf> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let own = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    if own.exists() {
        return vec![own];
    }
    let listed = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let in_memory = |name: &str| name.starts_with("ram") || name.starts_with("zram");
    listed
        .filter(|entry| !in_memory(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path().join("stat"))
        .collect()
}

/// Sectors written so far: the seventh field (`Documentation/block/stat.rst` of Linux).
fn sectors_written(devices: &[PathBuf]) -> Option<u64> {
    let counts =
        devices.iter().filter_map(|stat| fs::read_to_string(stat).ok()?.split_whitespace().nth(6)?.parse().ok());
    let counts: Vec<u64> = counts.collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(took_micros: u64, written: Option<u64>) -> Vec<Round> {
        vec![Round { took: Duration::from_micros(took_micros), written }; 4]
    }

    #[test]
    fn a_device_that_writes_proves_a_sync_and_a_quick_answer_alone_does_not() {
        let rows = [
            (rounds(300, Some(8)), true),
            (rounds(3, Some(8)), true),
            (rounds(300, Some(0)), false),
            (rounds(300, None), true),
            (rounds(2, None), false),
            ([rounds(300, Some(8)), rounds(300, Some(0))].concat(), false),
        ];
        for (rounds, proved) in rows {
            assert_eq!(judge(&rounds, Path::new("data")) == Durability::Proved, proved, "{rounds:?}");
        }
    }

    #[test]
    fn a_folder_in_memory_is_found_out() {
        let shared_memory = Path::new("/dev/shm");
        let in_memory = rustix::fs::statfs(shared_memory).is_ok_and(|about| about.f_type == IN_MEMORY[0].0);
        if in_memory {
            let folder = tempfile::tempdir_in(shared_memory).unwrap();
            let Durability::Absent(why) = examine(folder.path()).unwrap() else { panic!("tmpfs keeps nothing") };
            assert!(why.contains("tmpfs"), "{why}");
        }
    }
}
