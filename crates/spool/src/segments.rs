//! The books on all segment files: what is live where, what may go, what waits to be used again.

use std::collections::{BTreeMap, BTreeSet};

use estafet_model::UnixMillis;

use crate::index::Share;

/// One segment file.
#[derive(Debug, Default)]
struct Segment {
    /// What the file takes on the disk.
    file_bytes: u64,
    live_entries: u32,
    live_bytes: u64,
    /// It holds captures of this node.
    own: bool,
    sealed: bool,
    /// Something in it is damaged: it is kept as it is, for whoever repairs it.
    damaged: bool,
    /// The newest capture of this node in it, released or not.
    newest_own: UnixMillis,
}

/// Whether a segment may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Something in it is needed, or may be.
    Stays,
    /// Everything in it is released, and some of it was captured here.
    Held,
    /// Nobody needs it.
    Idle,
}

impl Segment {
    fn fate(&self) -> Fate {
        let released = self.sealed && !self.damaged && self.live_entries == 0;
        match (released, self.own) {
            (false, _) => Fate::Stays,
            (true, true) => Fate::Held,
            (true, false) => Fate::Idle,
        }
    }

    fn totals(&self) -> Totals {
        let held = self.fate() == Fate::Held;
        Totals {
            file_bytes: self.file_bytes,
            live_bytes: self.live_bytes,
            held_bytes: if held { self.file_bytes } else { 0 },
            damaged: usize::from(self.damaged),
        }
    }
}

/// Sums over all segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    /// What they take on the disk.
    pub(crate) file_bytes: u64,
    pub(crate) live_bytes: u64,
    /// What could be given back at once if room were needed.
    pub(crate) held_bytes: u64,
    /// How many are damaged.
    pub(crate) damaged: usize,
}

impl Totals {
    fn with(self, other: Self) -> Self {
        Self {
            file_bytes: self.file_bytes + other.file_bytes,
            live_bytes: self.live_bytes + other.live_bytes,
            held_bytes: self.held_bytes + other.held_bytes,
            damaged: self.damaged + other.damaged,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            file_bytes: self.file_bytes - other.file_bytes,
            live_bytes: self.live_bytes - other.live_bytes,
            held_bytes: self.held_bytes - other.held_bytes,
            damaged: self.damaged - other.damaged,
        }
    }
}

/// A file that waits to be overwritten. It still has the name of the generation it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spare {
    pub(crate) generation: u64,
    pub(crate) file_bytes: u64,
}

/// All segment files.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    segments: BTreeMap<u64, Segment>,
    totals: Totals,
    spares: Vec<Spare>,
    /// Released, sealed, undamaged, with own captures; oldest first.
    held: BTreeSet<u64>,
    /// The same without own captures.
    idle: BTreeSet<u64>,
    /// The newest segment whose first commit is durable: it repeats all values, so lower ones are not needed for them.
    checkpointed: u64,
}

impl Segments {
    pub(crate) fn insert(&mut self, generation: u64, file_bytes: u64) {
        self.segments.insert(generation, Segment::default());
        self.grow(generation, file_bytes);
    }

    pub(crate) fn contains(&self, generation: u64) -> bool {
        self.segments.contains_key(&generation)
    }

    pub(crate) fn mark_damaged(&mut self, generation: u64) {
        self.change(generation, |segment| segment.damaged = true);
    }

    pub(crate) fn is_damaged(&self, generation: u64) -> bool {
        self.segments.get(&generation).is_some_and(|segment| segment.damaged)
    }

    /// The segment holds something of a capture of this node that was stored then.
    pub(crate) fn mark_own(&mut self, generation: u64, stored_at: UnixMillis) {
        self.change(generation, |segment| {
            segment.own = true;
            segment.newest_own = segment.newest_own.max(stored_at);
        });
    }

    /// The segment is complete and takes this much of the disk.
    pub(crate) fn seal(&mut self, generation: u64) {
        self.change(generation, |segment| segment.sealed = true);
    }

    /// The file has grown to this length, if it was not as long before.
    pub(crate) fn grow(&mut self, generation: u64, file_bytes: u64) {
        self.change(generation, |segment| segment.file_bytes = segment.file_bytes.max(file_bytes));
    }

    /// The file was cut off, or extended.
    pub(crate) fn resize(&mut self, generation: u64, file_bytes: u64) {
        self.change(generation, |segment| segment.file_bytes = file_bytes);
    }

    /// Values up to this generation are not needed in lower ones.
    pub(crate) fn checkpoint(&mut self, generation: u64) {
        self.checkpointed = generation;
    }

    /// These entries are needed.
    pub(crate) fn need(&mut self, share: Share) {
        self.change(share.generation, |segment| {
            segment.live_entries += share.entries;
            segment.live_bytes += u64::from(share.bytes);
        });
    }

    /// These entries, needed before, are not needed any more.
    pub(crate) fn unneed(&mut self, share: Share) {
        self.change(share.generation, |segment| {
            assert!(segment.live_entries >= share.entries, "an entry is released once; twice would free a live one");
            segment.live_entries -= share.entries;
            segment.live_bytes = segment.live_bytes.saturating_sub(u64::from(share.bytes));
        });
    }

    /// Every change goes through here, so that the totals and the lists of what may go are always true.
    fn change(&mut self, generation: u64, change: impl FnOnce(&mut Segment)) {
        let Some(segment) = self.segments.get_mut(&generation) else { return };
        let before = segment.totals();
        change(segment);
        self.totals = self.totals.without(before).with(segment.totals());
        match segment.fate() {
            Fate::Stays => {
                self.held.remove(&generation);
                self.idle.remove(&generation);
            }
            Fate::Held => {
                self.idle.remove(&generation);
                self.held.insert(generation);
            }
            Fate::Idle => {
                self.idle.insert(generation);
            }
        }
    }

    /// The next segment to give back: the oldest without own captures, or the oldest held one beyond the bound.
    pub(crate) fn next_to_go(&self, hold_bytes_max: u64) -> Option<u64> {
        let below = |generation: &u64| *generation < self.checkpointed;
        let idle = self.idle.first().copied().filter(below);
        idle.or_else(|| self.oldest_held().filter(|_| self.totals.held_bytes > hold_bytes_max))
    }

    /// The oldest held segment that may go.
    pub(crate) fn oldest_held(&self) -> Option<u64> {
        self.held.first().copied().filter(|generation| *generation < self.checkpointed)
    }

    /// A held segment whose newest capture is older than this.
    pub(crate) fn held_before(&self, before: UnixMillis) -> Option<u64> {
        let below = self.held.range(..self.checkpointed);
        below.copied().find(|generation| self.segments[generation].newest_own < before)
    }

    /// The sealed segment with the smallest part of it live, of those below `before` where it is below one part in
    /// `parts`. Damaged ones are kept as they are.
    pub(crate) fn sparsest(&self, parts: u64, before: u64) -> Option<u64> {
        let sparse = |segment: &Segment| {
            let movable = segment.sealed && !segment.damaged && segment.live_entries > 0;
            movable && segment.live_bytes.saturating_mul(parts) < segment.file_bytes
        };
        let below = self.segments.range(..self.checkpointed.min(before)).filter(|(_, segment)| sparse(segment));
        let share = |segment: &Segment| segment.live_bytes.saturating_mul(1 << 10) / segment.file_bytes.max(1);
        below.min_by_key(|(_, segment)| share(segment)).map(|(generation, _)| *generation)
    }

    /// How much of a segment is live.
    pub(crate) fn live_bytes_of(&self, generation: u64) -> u64 {
        self.segments.get(&generation).map_or(0, |segment| segment.live_bytes)
    }

    /// Takes a segment off the books.
    pub(crate) fn take(&mut self, generation: u64) -> Option<Spare> {
        self.held.remove(&generation);
        self.idle.remove(&generation);
        let segment = self.segments.remove(&generation)?;
        self.totals = self.totals.without(segment.totals());
        Some(Spare { generation, file_bytes: segment.file_bytes })
    }

    pub(crate) fn add_spare(&mut self, spare: Spare) {
        self.spares.push(spare);
    }

    pub(crate) fn take_spare(&mut self) -> Option<Spare> {
        self.spares.pop()
    }

    pub(crate) fn spares(&self) -> usize {
        self.spares.len()
    }

    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spares.iter().map(|spare| spare.file_bytes).sum()
    }

    pub(crate) fn count(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// What one segment takes on the disk.
    pub(crate) fn file_bytes_of(&self, generation: u64) -> u64 {
        self.segments.get(&generation).map_or(0, |segment| segment.file_bytes)
    }
}
