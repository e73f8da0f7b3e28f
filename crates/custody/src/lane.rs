//! What one neighbor has been handed.

use std::collections::{BTreeMap, BTreeSet};

use estafet_model::Class;

use crate::held::{Key, Micros, Name};
use crate::questions::Questions;
use crate::window::Window;

/// The records that one neighbor has, or may have.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// The neighbor has said what it knows receipted, and may be handed records.
    pub(crate) open: bool,
    /// What leads to it now is metered: only urgent records are handed to it.
    pub(crate) urgent_only: bool,
    /// Offered to it or accepted by it.
    pub(crate) handed: BTreeSet<Key>,
    /// What was offered to it, and may go another way since because it was suspect or said nothing. Its answers still count.
    pub(crate) diverted: BTreeSet<Key>,
    /// It has no room for more of these origins, and is to be offered none of theirs before this.
    full_until: BTreeMap<Name, Micros>,
    /// What it is being asked whether it holds.
    pub(crate) questions: Questions,
    window: Window,
}

impl Lane {
    pub(crate) fn offer(&mut self, now: Micros, key: Key, bytes: u32) {
        self.handed.insert(key);
        self.diverted.remove(&key);
        self.window.handed(now, bytes);
    }

    /// The neighbor has accepted what it was offered. To be told before [`Lane::answered`].
    pub(crate) fn taken(&mut self, now: Micros, bytes: u32) {
        self.window.taken(now, bytes);
    }

    /// The neighbor has answered, or will not be listened to any more.
    pub(crate) fn answered(&mut self, key: Key, bytes: u32) {
        assert!(self.handed.contains(&key), "an answer ends what was offered, once");
        self.window.answered(bytes);
    }

    /// True if the neighbor was handed the record and may still answer for it.
    pub(crate) fn has(&self, key: Key) -> bool {
        self.handed.contains(&key) || self.diverted.contains(&key)
    }

    pub(crate) fn accepted_count(&self) -> usize {
        self.handed.len() - self.window.unanswered_records()
    }

    pub(crate) fn awaits_answer(&self) -> bool {
        self.window.unanswered_records() > 0 || !self.questions.is_empty()
    }

    /// True if a record of this class may go to it.
    pub(crate) fn takes(&self, class: Class) -> bool {
        class == Class::Urgent || !self.urgent_only
    }

    /// True if it may be asked now about some more records.
    pub(crate) fn may_be_asked(&self) -> bool {
        self.open && self.questions.have_room()
    }

    /// True if a record may be handed to it now, unless it is full for its origin.
    pub(crate) fn has_room(&self, class: Class, bytes: u32) -> bool {
        self.open && self.window.has_room(class, bytes)
    }

    /// It has no room for more of this origin.
    pub(crate) fn set_full(&mut self, origin: Name, until: Micros) {
        let known = self.full_until.entry(origin).or_default();
        *known = until.max(*known);
    }

    pub(crate) fn is_full_for(&self, origin: Name) -> bool {
        self.full_until.contains_key(&origin)
    }

    /// When it may have room again for one of the origins for which it has none.
    pub(crate) fn next_room(&self) -> Option<Micros> {
        self.full_until.values().min().copied()
    }

    /// Time passed.
    pub(crate) fn forget_full(&mut self, now: Micros) {
        self.full_until.retain(|_, until| *until > now);
    }
}
