//! What a spool is told when it opens, and what it says of itself.

use estafet_model::ByteCount;

use crate::append::Poisoned;
use crate::disk::Disk;

/// A segment is not smaller: it would be all header and values.
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// A segment is not larger: offsets have 32 bits, and a segment is given back as a whole.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// How a spool is to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolOptions {
    /// The nominal size of a segment file, taken between 4 KiB and 1 GiB. It is the unit in which room is given back.
    pub segment_bytes: ByteCount,
    /// How much all segments together should take; [`Usage::free_bytes`] counts down from it. Nothing that is
    /// appended is refused for it.
    pub bytes_max: ByteCount,
    /// How many bytes of released segments with own captures are kept, oldest given back first. They go sooner when
    /// there is no other room left. 0 keeps none.
    pub hold_bytes_max: ByteCount,
    /// How many released files are kept to be overwritten; more are deleted.
    pub spare_segments: usize,
    /// Nothing is moved out of so many of the newest segments unless room is short: what is live in them usually goes
    /// by itself, soon.
    pub young_segments: u64,
    /// False for an archive: nothing is ever given back, and records are read by [`Extent`](crate::Extent) only. The
    /// archive keeps no index in memory, so reading by id says that nothing is here.
    pub reclaim: bool,
    /// Segments of lower generations are not scanned when opening, because what they hold is known elsewhere. The
    /// newest segment is scanned in any case. Payloads that were arriving are found only as far as is scanned.
    pub scan_from: Option<u64>,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            // Large enough that sealing one (two more syncs) is nothing beside its 32 commits or more; small enough
            // that one record that nobody wants does not hold back much.
            segment_bytes: ByteCount::mebibytes(16),
            bytes_max: ByteCount::mebibytes(16 << 10),
            hold_bytes_max: ByteCount::mebibytes(1 << 10),
            // A burst of four segments at the price of overwriting instead of growing.
            spare_segments: 4,
            young_segments: 4,
            reclaim: true,
            scan_from: None,
        }
    }
}

impl SpoolOptions {
    pub(crate) fn nominal_bytes(&self) -> u32 {
        let bytes = self.segment_bytes.0.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        u32::try_from(bytes).expect("clamped to 1 GiB")
    }
}

/// How full the spool is and how it fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// What the segments take on the disk.
    pub used_bytes: ByteCount,
    /// Of that, what records and chunks need that are not released.
    pub live_bytes: ByteCount,
    /// The rest: released, held, or overhead.
    pub released_bytes: ByteCount,
    /// How much more may be taken in: what the configured maximum or the file system leaves, whichever is less.
    pub free_bytes: ByteCount,
    /// How many segments there are, the one that is written to included.
    pub segments: usize,
    /// How many files wait to be overwritten.
    pub spares: usize,
    /// How many segments are kept untouched because something in them is damaged.
    pub damaged_segments: usize,
    /// How many syncs there were since the spool was opened, of files and of the folder.
    pub syncs: u64,
    /// Why the spool stores nothing more, if so.
    pub poisoned: Option<String>,
}

/// The writer's side of [`Usage`]; what the file system has left is asked when somebody wants to know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fill {
    pub(crate) used_bytes: u64,
    pub(crate) live_bytes: u64,
    /// What may be given back when there is no other room.
    pub(crate) held_bytes: u64,
    /// What the newest segment's file and the spares have room for without growing.
    pub(crate) room_in_files: u64,
    pub(crate) bytes_max: u64,
    pub(crate) segments: usize,
    pub(crate) spares: usize,
    pub(crate) damaged_segments: usize,
    pub(crate) syncs: u64,
    pub(crate) poisoned: Option<Poisoned>,
}

impl Fill {
    pub(crate) fn usage(self, disk: &dyn Disk) -> Usage {
        let by_option = self.bytes_max.saturating_sub(self.used_bytes - self.held_bytes);
        // A file system that does not even answer has room for nothing.
        let by_disk = disk.free_bytes().map_or(0, |free| free.saturating_add(self.room_in_files + self.held_bytes));
        let free = if self.poisoned.is_some() { 0 } else { by_option.min(by_disk) };
        Usage {
            used_bytes: ByteCount(self.used_bytes),
            live_bytes: ByteCount(self.live_bytes),
            released_bytes: ByteCount(self.used_bytes) - ByteCount(self.live_bytes),
            free_bytes: ByteCount(free),
            segments: self.segments,
            spares: self.spares,
            damaged_segments: self.damaged_segments,
            syncs: self.syncs,
            poisoned: self.poisoned.map(|poisoned| poisoned.to_string()),
        }
    }
}
