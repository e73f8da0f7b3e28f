//! A node's durable store: an append-only log of checksummed entries, one writer, one sync for many entries.
//!
//! What the spool promises:
//!
//! - What it reports [`Done`] is on the disk and will be found again, byte by byte, until it is released. Everything
//!   else (indexes, queues, views) is the caller's and derived from [`Recovered`] and the outcomes.
//! - After the first write or sync that fails it is [`Poisoned`]: it stores nothing more and says so for each item,
//!   and what is there can still be read.
//! - A payload that was [begun](Append::Begin) and had arrived in part goes on where it was after a restart.
//! - It opens after any crash, in time that does not grow with the payloads, and cuts at most what was not promised.
//!   Damage costs the entries it hits. What was sealed in good order is not looked at when opening, so damage there is
//!   found on reading ([`ReadError::Damaged`]) or by a [`Survey`]; the rest is reported ([`Recovered::damaged`]). A
//!   damaged segment is kept, and [`Repair`] saves what is whole in it.
//! - Its room comes back: live records are moved out of segments that are mostly garbage.
//!
//! What it does not do: it knows no receipts. Whoever [releases](Spool::release) a record has made durable before
//! why (a receipt, another custodian's acceptance), because the log does not say which records are released: after a
//! restart those whose bytes are still there are back, and are to be released again. It refuses no duplicates and keeps no queue
//! bounds; the caller decides with [`Usage::free_bytes`] what it takes in.
//!
//! Read first: [`Spool`] (the handle the daemon uses), [`Log`] (the same without a thread, for the simulator). The
//! bytes on the disk are described in `format.rs`, what is expected of a disk in [`Disk`].

mod append;
mod contents;
mod disk;
mod format;
mod frame;
mod index;
mod log;
mod memory_disk;
mod options;
mod prepared;
mod real_disk;
mod recovery;
mod repair;
mod round;
mod scrub;
mod segments;
mod shelf;
mod spool;
mod survey;
mod table;
mod tail;
mod transfers;
mod values;
mod walk;
mod writer;

pub use append::{
    Append, Done, Extent, FailReason, Failed, Item, NewRecord, Outcome, Payload, Poisoned, Refusal, StoredRecord,
    TransferId,
};
pub use disk::{Disk, DiskFile, Listed};
pub use log::Log;
pub use memory_disk::{Fault, MemoryDisk, Operation, Unsynced};
pub use options::{SpoolOptions, Usage};
pub use real_disk::{FolderError, RealDisk};
pub use recovery::{BrokenRecord, Damage, OpenError, Recovered, RecoveredTransfer};
pub use repair::{Repair, RepairError};
pub use round::{Command, Recall, Round};
pub use scrub::Scrubbed;
pub use shelf::{ReadError, ReadPayload, ReadRecord};
pub use spool::Spool;
pub use survey::{SegmentSurvey, Survey, SurveyedTransfer};
