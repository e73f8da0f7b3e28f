//! What one neighbor is being asked whether it holds.

use std::collections::{BTreeMap, BTreeSet};

use crate::held::Key;

/// Sets of records that one neighbor may be asked about at once. Their answer is at most 2 KiB where holdings have few
/// gaps: a quarter of a second on a line of 64 kbit/s, on which heartbeats wait behind it.
const SETS_MAX: usize = 16;

/// The records of each question that has no answer yet.
#[derive(Debug, Default)]
pub(crate) struct Questions(BTreeMap<u32, BTreeSet<Key>>);

impl Questions {
    pub(crate) fn have_room(&self) -> bool {
        self.0.len() < SETS_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, number: u32, key: Key) {
        self.0.entry(number).or_default().insert(key);
    }

    /// The answer about this record is not awaited any more.
    pub(crate) fn remove(&mut self, number: u32, key: Key) {
        let Some(keys) = self.0.get_mut(&number) else { return };
        keys.remove(&key);
        if keys.is_empty() {
            self.0.remove(&number);
        }
    }

    /// The records that this question still is about.
    pub(crate) fn of(&self, number: u32) -> Vec<Key> {
        self.0.get(&number).into_iter().flatten().copied().collect()
    }

    /// The records of all questions.
    pub(crate) fn all(&self) -> impl Iterator<Item = Key> {
        self.0.values().flatten().copied()
    }
}
