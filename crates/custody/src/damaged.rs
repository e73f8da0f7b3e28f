//! Records that this node had and cannot read any more.
//!
//! They are not held: nobody may count on them. They are sought from the neighbors, of which one may have a copy, and
//! taken like new ones when they come.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{Epoch, HeaderDigest, NodeId, Now, RecordId, SeqRanges};

use crate::record::{HeldRecord, RecordState, RecordView, WaitReason};

/// How long after the neighbors were asked they are asked again, at first and at most.
const SEEK_REST: Duration = Duration::from_secs(30);
const SEEK_REST_MAX: Duration = Duration::from_secs(3600);

/// Ids that one question names. The rest is asked for when these have come.
pub(crate) const SOUGHT_MAX: usize = 1024;

/// All damaged records.
#[derive(Debug, Default)]
pub(crate) struct Damaged {
    records: BTreeMap<RecordId, RecordView>,
    ask_at: Option<Now>,
    asked: u32,
}

impl Damaged {
    /// A record cannot be read. It is asked for at once.
    pub(crate) fn insert(&mut self, now: Now, view: RecordView) {
        let state = RecordState::Waiting { why: WaitReason::Unreadable, until: None };
        self.records.insert(view.id.clone(), RecordView { state, since: now, next_attempt: None, ..view });
        self.asked = 0;
        self.ask_at = Some(now);
    }

    /// It was found damaged when the store was opened.
    pub(crate) fn recover(&mut self, record: HeldRecord) {
        let since = Now::default();
        self.insert(since, view_of(record, since));
    }

    /// A hub has committed it, and cannot read it.
    pub(crate) fn insert_committed(&mut self, now: Now, record: HeldRecord) {
        self.insert(now, view_of(record, now));
    }

    pub(crate) fn digest(&self, id: &RecordId) -> Option<HeaderDigest> {
        self.records.get(id).map(|view| view.digest)
    }

    /// It is whole again, or not needed.
    pub(crate) fn remove(&mut self, id: &RecordId) -> Option<RecordView> {
        let view = self.records.remove(id);
        if self.records.is_empty() {
            self.ask_at = None;
        }
        view
    }

    /// Removes those that `matches`.
    pub(crate) fn remove_if(&mut self, matches: impl Fn(&RecordId) -> bool) -> Vec<RecordId> {
        let ids: Vec<RecordId> = self.records.keys().filter(|id| matches(id)).cloned().collect();
        ids.iter().for_each(|id| drop(self.remove(id)));
        ids
    }

    pub(crate) fn view(&self, id: &RecordId) -> Option<RecordView> {
        self.records.get(id).map(|view| RecordView { next_attempt: self.ask_at, ..view.clone() })
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = RecordView> {
        self.records.keys().filter_map(|id| self.view(id))
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// All of them.
    pub(crate) fn all_ids(&self) -> impl Iterator<Item = &RecordId> {
        self.records.keys()
    }

    /// The numbers of those of one origin's epoch.
    pub(crate) fn seqs(&self, origin: &NodeId, epoch: Epoch) -> SeqRanges {
        let of_epoch = self.records.keys().filter(|id| id.origin == *origin && id.epoch == epoch);
        of_epoch.map(|id| id.seq).collect()
    }

    /// What to ask a neighbor for that has just come up.
    pub(crate) fn ids(&self) -> Vec<RecordId> {
        self.records.keys().take(SOUGHT_MAX).cloned().collect()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        self.ask_at
    }

    /// What to ask all neighbors for now, if it is time.
    pub(crate) fn due(&mut self, now: Now) -> Vec<RecordId> {
        if self.ask_at.is_none_or(|at| at > now) {
            return Vec::new();
        }
        let rest = SEEK_REST.saturating_mul(1 << self.asked.min(16)).min(SEEK_REST_MAX);
        self.asked += 1;
        self.ask_at = Some(now + rest);
        self.ids()
    }

    /// Asks for everything now.
    pub(crate) fn ask_now(&mut self, now: Now) {
        if !self.records.is_empty() {
            self.asked = 0;
            self.ask_at = Some(now);
        }
    }
}

fn view_of(record: HeldRecord, since: Now) -> RecordView {
    let HeldRecord { id, class, payload_bytes, digest, received_from, .. } = record;
    let state = RecordState::Waiting { why: WaitReason::Unreadable, until: None };
    RecordView { id, class, payload_bytes, digest, received_from, state, since, next_attempt: None }
}
