//! The simulator's disk: a folder in memory that forgets what was not synced, on demand and by seed.
//!
//! It implements the fault model of [`disk`](crate::Disk) and nothing kinder. [`MemoryDisk::power_cut`] gives the
//! disk as it is found afterwards; [`MemoryDisk::journal`] lets a test cut the power after each single operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, Listed};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// What a power cut does to everything that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsynced {
    /// All of it happened to be on the disk.
    Kept,
    /// None of it was.
    Dropped,
    /// Each sector was or was not, and of the changes to names the first few; drawn from this seed.
    Torn(u64),
}

/// What a disk answers when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `ENOSPC`: no room left.
    Full,
    /// `EIO`: the device failed.
    Broken,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Full => io::ErrorKind::StorageFull.into(),
            Fault::Broken => io::Error::other("input/output error"),
        }
    }
}

/// One thing that was done to a [`MemoryDisk`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A file came to be.
    Create(String),
    /// A file got another name.
    Rename(String, String),
    /// A name went.
    Remove(String),
    /// The names became durable.
    SyncDir,
    /// Bytes were written to file number `.0` at `.1`.
    Write(usize, u64, Vec<u8>),
    /// File number `.0` got this length.
    SetLen(usize, u64),
    /// The content of file number `.0` became durable.
    SyncData(usize),
    /// A sync of file number `.0` failed: what it was to make durable can still be read, but will never be written.
    SyncFailed(usize),
}

/// A folder in memory. A clone is another handle to the same folder.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<Operation>,
    journal: Option<Vec<Operation>>,
    capacity: Option<u64>,
    fail_write: Option<(u64, Fault)>,
    fail_sync: Option<(u64, Fault)>,
}

/// Files that nothing was written to since a power cut share their bytes with those on the disk, and with copies.
#[derive(Debug, Clone, Default)]
struct Content {
    current: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<Change>,
    unreadable: Option<Range<u64>>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl MemoryDisk {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The folder as it is found after a power cut now. This one stays as it is.
    #[must_use]
    pub fn power_cut(&self, unsynced: Unsynced) -> MemoryDisk {
        let state = self.state().after_power_cut(unsynced);
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// From now on, remembers every operation.
    pub fn record_journal(&self) {
        self.state().journal.get_or_insert_default();
    }

    /// What was done since [`MemoryDisk::record_journal`].
    #[must_use]
    pub fn journal(&self) -> Vec<Operation> {
        self.state().journal.clone().unwrap_or_default()
    }

    /// How many operations the journal holds.
    #[must_use]
    pub fn journal_length(&self) -> usize {
        self.state().journal.as_ref().map_or(0, Vec::len)
    }

    /// Does one operation of another disk's journal to this one.
    pub fn replay(&self, operation: Operation) {
        self.state().apply(operation);
    }

    /// The `n`-th write from now on (1 is the next) fails, having written half of its bytes.
    pub fn fail_write(&self, n: u64, fault: Fault) {
        self.state().fail_write = Some((n, fault));
    }

    /// The `n`-th sync of a file from now on (1 is the next) fails, and as on Linux, what it was to make durable is
    /// marked clean: it can be read until the power goes, and no later sync writes it.
    pub fn fail_sync(&self, n: u64, fault: Fault) {
        self.state().fail_sync = Some((n, fault));
    }

    /// The disk has room for this many bytes in all.
    pub fn limit(&self, capacity: u64) {
        self.state().capacity = Some(capacity);
    }

    /// The disk has no bound any more.
    pub fn lift_limit(&self) {
        self.state().capacity = None;
    }

    /// No write or sync fails that was to.
    pub fn forget_faults(&self) {
        let mut state = self.state();
        (state.fail_write, state.fail_sync) = (None, None);
    }

    /// How much the files take.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Flips one bit of a file, on the disk itself: rot.
    pub fn flip_bit(&self, name: &str, offset: usize, bit: u8) {
        let mut state = self.state();
        if let Some(&file) = state.names.get(name) {
            let content = &mut state.files[file];
            for bytes in [&mut content.current, &mut content.durable] {
                if let Some(byte) = Arc::make_mut(bytes).get_mut(offset) {
                    *byte ^= 1 << (bit & 7);
                }
            }
        }
    }

    /// Reading any of these bytes of a file fails from now on.
    pub fn make_unreadable(&self, name: &str, bytes: Range<u64>) {
        let mut state = self.state();
        if let Some(&file) = state.names.get(name) {
            state.files[file].unreadable = Some(bytes);
        }
    }

    /// True if these bytes of a file would be as they are now after a power cut that drops all that was not synced.
    #[must_use]
    pub fn is_durable(&self, name: &str, bytes: Range<usize>) -> bool {
        let state = self.state();
        let Some(&file) = state.names.get(name) else { return false };
        let content = &state.files[file];
        let (now, then) = (content.current.get(bytes.clone()), content.durable.get(bytes));
        state.durable_names.get(name) == Some(&file) && now.is_some() && now == then
    }

    /// A disk with the same content and a life of its own.
    #[must_use]
    pub fn copy(&self) -> MemoryDisk {
        MemoryDisk { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, number: usize) -> Arc<dyn DiskFile> {
        Arc::new(MemoryFile { disk: self.clone(), number })
    }
}

impl State {
    fn apply(&mut self, operation: Operation) {
        if let Some(journal) = &mut self.journal {
            journal.push(operation.clone());
        }
        match operation {
            Operation::Create(ref name) => {
                self.files.push(Content::default());
                self.names.insert(name.clone(), self.files.len() - 1);
                self.pending_names.push(operation);
            }
            Operation::Rename(..) | Operation::Remove(_) => {
                change_names(&mut self.names, &operation, None);
                self.pending_names.push(operation);
            }
            Operation::SyncDir => {
                self.durable_names = self.names.clone();
                self.pending_names.clear();
            }
            Operation::Write(file, offset, bytes) => self.files[file].change(Change::Write(offset, bytes)),
            Operation::SetLen(file, length) => self.files[file].change(Change::SetLen(length)),
            Operation::SyncData(file) => self.files[file].settle(&mut |_| true),
            Operation::SyncFailed(file) => self.files[file].pending.clear(),
        }
    }

    fn after_power_cut(&self, unsynced: Unsynced) -> State {
        let mut seed = if let Unsynced::Torn(seed) = unsynced { seed } else { 0 };
        let mut keeps = |_: &()| match unsynced {
            Unsynced::Kept => true,
            Unsynced::Dropped => false,
            Unsynced::Torn(_) => draw(&mut seed) & 1 == 1,
        };
        let names = self.names_after(unsynced);
        let named: BTreeSet<usize> = names.values().copied().collect();
        let files = self.files.iter().enumerate().map(|(number, file)| {
            // Without a name nobody can open it again. Its number stays, so that the others keep theirs.
            if !named.contains(&number) {
                return Content::default();
            }
            let mut durable = Arc::clone(&file.durable);
            file.pending.iter().for_each(|change| change.apply(Arc::make_mut(&mut durable), &mut keeps));
            Content { current: Arc::clone(&durable), durable, pending: Vec::new(), unreadable: file.unreadable.clone() }
        });
        let files = files.collect();
        State { files, durable_names: names.clone(), names, capacity: self.capacity, ..State::default() }
    }

    fn names_after(&self, unsynced: Unsynced) -> BTreeMap<String, usize> {
        let count = self.pending_names.len();
        let kept = match unsynced {
            Unsynced::Kept => count,
            Unsynced::Dropped => 0,
            Unsynced::Torn(mut seed) => {
                usize::try_from(draw(&mut seed) % (count as u64 + 1)).expect("at most as many as there are")
            }
        };
        // Files are numbered in order of creation, so the pending creations are the last ones.
        let created = self.pending_names.iter().filter(|operation| matches!(operation, Operation::Create(_))).count();
        let mut number = self.files.len() - created;
        let mut names = self.durable_names.clone();
        for operation in &self.pending_names[..kept] {
            change_names(&mut names, operation, Some(&mut number));
        }
        names
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].current.len() as u64).sum()
    }

    /// Counts down to an injected fault.
    fn due(fault: &mut Option<(u64, Fault)>) -> Option<Fault> {
        let (left, kind) = fault.as_mut()?;
        *left -= 1;
        let kind = *kind;
        if *left > 0 {
            return None;
        }
        *fault = None;
        Some(kind)
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(Arc::make_mut(&mut self.current), &mut |_| true);
        self.pending.push(change);
    }

    /// Decides what of the pending changes is on the disk.
    fn settle(&mut self, keeps: &mut dyn FnMut(&()) -> bool) {
        for change in self.pending.drain(..) {
            change.apply(Arc::make_mut(&mut self.durable), keeps);
        }
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, keeps: &mut dyn FnMut(&()) -> bool) {
        match self {
            Change::SetLen(length) => {
                if keeps(&()) {
                    bytes.resize(to_index(*length), 0);
                }
            }
            Change::Write(offset, data) => {
                let mut at = to_index(*offset);
                let mut rest = data.as_slice();
                while !rest.is_empty() {
                    let (sector, after) = rest.split_at(rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES));
                    if keeps(&()) {
                        bytes.resize(bytes.len().max(at + sector.len()), 0);
                        bytes[at..at + sector.len()].copy_from_slice(sector);
                    }
                    at += sector.len();
                    rest = after;
                }
            }
        }
    }
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<Listed>> {
        let state = self.state();
        let listed = |(name, &file): (&String, &usize)| Listed {
            name: name.clone(),
            bytes: state.files[file].current.len() as u64,
        };
        Ok(state.names.iter().filter(|(name, _)| !name.contains('/')).map(listed).collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.file(number))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.apply(Operation::Create(name.to_owned()));
        let number = state.files.len() - 1;
        drop(state);
        Ok(self.file(number))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.apply(Operation::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.apply(Operation::Remove(name.to_owned()));
        Ok(())
    }

    fn put_aside(&self, name: &str) -> io::Result<()> {
        self.rename(name, &format!("damaged/{name}"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.state().apply(Operation::SyncDir);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(1 << 50, |capacity| capacity.saturating_sub(state.used_bytes())))
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    number: usize,
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let unreadable = state.files[self.number].unreadable.clone().unwrap_or_default();
        if offset < unreadable.end && unreadable.start < offset + buffer.len() as u64 {
            return Err(Fault::Broken.error());
        }
        let content = &state.files[self.number].current;
        let rest = content.get(to_index(offset)..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut bytes = parts.iter().map(|part| &**part).collect::<Vec<_>>().concat();
        let mut state = self.disk.state();
        let grown = (offset + bytes.len() as u64).saturating_sub(state.files[self.number].current.len() as u64);
        let full = state.capacity.is_some_and(|capacity| state.used_bytes() + grown > capacity);
        let fault = State::due(&mut state.fail_write).or(full.then_some(Fault::Full));
        if fault.is_some() {
            bytes.truncate(bytes.len() / 2);
        }
        state.apply(Operation::Write(self.number, offset, bytes));
        fault.map_or(Ok(()), |fault| Err(fault.error()))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.disk.state().apply(Operation::SetLen(self.number, length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if let Some(fault) = State::due(&mut state.fail_sync) {
            state.apply(Operation::SyncFailed(self.number));
            return Err(fault.error());
        }
        state.apply(Operation::SyncData(self.number));
        Ok(())
    }
}

fn change_names(names: &mut BTreeMap<String, usize>, operation: &Operation, next_file: Option<&mut usize>) {
    match operation {
        Operation::Create(name) => {
            if let Some(number) = next_file {
                names.insert(name.clone(), *number);
                *number += 1;
            }
        }
        Operation::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Operation::Remove(name) => {
            names.remove(name);
        }
        Operation::SyncDir
        | Operation::Write(..)
        | Operation::SetLen(..)
        | Operation::SyncData(_)
        | Operation::SyncFailed(_) => {}
    }
}

fn to_index(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory is addressable")
}

/// The next number of the sequence (SplitMix64).
fn draw(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
