//! What a neighbor knows receipted, and how often it is told more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use estafet_model::{Now, ReceiptKey, ReceiptRank, SignedReceipt};

/// What a [record time](crate::Custody::set_record_time) is measured of.
const RECORD_BYTES: u32 = 64 << 10;

/// Receipts take so much of a link at most: one that has become weak is known as such only seconds later, and is to carry
/// heartbeats and records until then. They can wait, for the newest of an origin says all that those before it did.
const BYTES_PER_SECOND: u32 = 4 << 10;

/// And one part in so many of what the link seems to carry. One that is hardly used seems better than it is.
const SHARE: u32 = 32;

/// Unless it has handed over so few records since: it may wait for each, and the link has just carried far more than their
/// receipts.
const FEW: usize = 4;

const RECORD_TIME_LEAST: Duration = Duration::from_secs((RECORD_BYTES / BYTES_PER_SECOND) as u64);

/// What a frame and its datagram take beside the receipts.
const FRAME_BYTES: usize = 100;

/// One neighbor.
#[derive(Debug, Default)]
pub(super) struct Listener {
    known: BTreeMap<ReceiptKey, ReceiptRank>,
    /// There may be newer ones of these than it knows.
    behind: BTreeSet<ReceiptKey>,
    /// How long the link takes for 64 KiB.
    record_time: Duration,
    /// The link is taken up until then with what it was told last.
    free_at: Now,
    /// Records that it has handed over since.
    handed_over: usize,
}

impl Listener {
    /// What it knows is not known any more.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.behind.clear();
    }

    pub(super) fn set_record_time(&mut self, record_time: Duration) {
        self.record_time = record_time;
    }

    /// It has this receipt, or a newer one.
    pub(super) fn knows(&mut self, key: ReceiptKey, rank: ReceiptRank) {
        let known = self.known.entry(key).or_default();
        *known = (*known).max(rank);
    }

    /// There is a newer receipt.
    pub(super) fn is_behind(&mut self, key: ReceiptKey) {
        self.behind.insert(key);
    }

    /// So many of its records are durable here.
    pub(super) fn has_handed_over(&mut self, records: usize) {
        self.handed_over += records;
    }

    fn waits_for_few(&self) -> bool {
        (1..=FEW).contains(&self.handed_over)
    }

    /// When it may be told more, if there is more.
    pub(super) fn due(&self) -> Option<Now> {
        let at = if self.waits_for_few() { Now::default() } else { self.free_at };
        (!self.behind.is_empty()).then_some(at)
    }

    /// What it is to be told now, each the newest that there is. What takes numbers back is told at once, and the rest with it.
    pub(super) fn news(&mut self, now: Now, receipts: &BTreeMap<ReceiptKey, SignedReceipt>) -> Vec<Bytes> {
        let losses = |key: &ReceiptKey| self.known.get(key).map_or(0, |known| known.losses);
        let takes_back = |key| receipts.get(key).is_some_and(|receipt| receipt.rank().losses > losses(key));
        if self.free_at > now && !self.waits_for_few() && !self.behind.iter().any(takes_back) {
            return Vec::new();
        }
        let behind = std::mem::take(&mut self.behind);
        let news: Vec<Bytes> = behind.iter().filter_map(|key| self.newer(receipts.get(key)?)).collect();
        if !news.is_empty() {
            self.handed_over = 0;
            let bytes = FRAME_BYTES + news.iter().map(Bytes::len).sum::<usize>();
            let record_time = self.record_time.saturating_mul(SHARE).max(RECORD_TIME_LEAST);
            self.free_at = now + record_time.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX)) / RECORD_BYTES;
        }
        news
    }

    /// The receipt's bytes if it is newer than what the neighbor knows; it knows it from now on.
    pub(super) fn newer(&mut self, receipt: &SignedReceipt) -> Option<Bytes> {
        let rank = receipt.rank();
        let known = self.known.entry(receipt.key().clone()).or_default();
        (*known < rank).then(|| {
            *known = rank;
            receipt.encode()
        })
    }
}
