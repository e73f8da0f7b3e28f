//! Neighbors whose word has turned out to be empty: they accepted records, or were silent about them, and others brought them
//! home.
//!
//! A record that a neighbor has accepted, and for which no receipt comes in time although a way leads to a hub, goes by
//! another neighbor, unless the first brings others home and only has a long queue: older records go first there, so what was
//! overtaken by one that it accepted later is not in that queue. If the record is receipted then, the first one's word was
//! empty: it gets nothing more for a while as long as there is another way, and what it still has accepted goes by another at
//! once. So a neighbor that drops everything costs one patience, once.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{Class, NodeId, Now};

use crate::held::{Key, Micros, Name, Names};

/// So many empty words end the trust: one may be a record that both brought at the same time.
const EMPTY_WORDS_MAX: u64 = 3;

/// How long it is gone, at first and at most; it doubles each time.
const MISTRUST: Duration = Duration::from_secs(3_600);
const MISTRUST_MAX: Duration = Duration::from_secs(86_400);

/// A neighbor that accepted records which others brought home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Which neighbor.
    pub neighbor: NodeId,
    /// How many such records, since this node was started.
    pub records: u64,
    /// When the last of them came home.
    pub last: Now,
    /// Until when it gets nothing that has another way; nothing if it is trusted again, or still.
    pub shunned_until: Option<Now>,
}

/// What one neighbor's word was worth.
#[derive(Debug, Clone, Default)]
struct Words {
    empty: u64,
    /// Of these, since it was trusted last.
    of_late: u64,
    last: Now,
    mistrusts: u32,
    until: Option<Now>,
}

/// What a neighbor has brought home of one origin's records in a class.
#[derive(Debug, Clone, Copy, Default)]
struct Brought {
    /// When it did so last.
    last: Now,
    /// When it had accepted the newest of them.
    newest: Micros,
}

/// What all neighbors' words were worth.
#[derive(Debug, Default)]
pub(crate) struct Custodians {
    /// Records that are overdue, and with whom.
    overdue: BTreeMap<Key, Name>,
    words: BTreeMap<Name, Words>,
    brought: BTreeMap<(Name, Name, Class), Brought>,
}

impl Custodians {
    /// The neighbor accepted the record and no receipt has come in time, or it has left an offer without an answer: it goes by
    /// another.
    pub(crate) fn overdue(&mut self, key: Key, with: Name) {
        self.overdue.insert(key, with);
    }

    /// The record is with that neighbor, and overdue: it goes by another if there is one.
    pub(crate) fn is_overdue(&self, key: Key, with: Name) -> bool {
        !self.overdue.is_empty() && self.overdue.get(&key) == Some(&with)
    }

    /// Nobody is to blame for the record: another has it that was not given it from here.
    pub(crate) fn excuse(&mut self, key: Key) {
        self.overdue.remove(&key);
    }

    /// A record that the neighbor had accepted at `accepted` has come home.
    pub(crate) fn brought(&mut self, now: Now, by: Name, origin: Name, class: Class, accepted: Micros) {
        let brought = self.brought.entry((by, origin, class)).or_default();
        *brought = Brought { last: now, newest: brought.newest.max(accepted) };
    }

    /// True if a record that the neighbor accepted at `accepted` may well be in its queue: within `patience` it has brought
    /// home some of this origin and class, and none that it accepted later.
    pub(crate) fn is_at_it(
        &self,
        now: Now,
        by: Name,
        (origin, class): (Name, Class),
        accepted: Micros,
        patience: Duration,
    ) -> bool {
        let brought = self.brought.get(&(by, origin, class));
        brought.is_some_and(|brought| now.since(brought.last) <= patience && brought.newest <= accepted)
    }

    /// The record has come home. If it was overdue, says with whom.
    pub(crate) fn came_home(&mut self, now: Now, key: Key) -> Option<Name> {
        let with = self.overdue.remove(&key)?;
        let words = self.words.entry(with).or_default();
        words.empty += 1;
        words.of_late += 1;
        words.last = now;
        Some(with)
    }

    /// Ends the trust in a neighbor if that is due; true if it does.
    pub(crate) fn mistrust(&mut self, now: Now, neighbor: Name) -> bool {
        let Some(words) = self.words.get_mut(&neighbor) else { return false };
        let ends = words.of_late >= EMPTY_WORDS_MAX && words.until.is_none_or(|until| until <= now);
        if ends {
            words.of_late = 0;
            words.until = Some(now + (MISTRUST * (1 << words.mistrusts.min(5))).min(MISTRUST_MAX));
            words.mistrusts += 1;
        }
        ends
    }

    /// True if the neighbor gets only what has no other way.
    pub(crate) fn is_mistrusted(&self, neighbor: Name) -> bool {
        self.words.get(&neighbor).is_some_and(|words| words.until.is_some())
    }

    /// Trusts those again whose time is over.
    pub(crate) fn handle_timeout(&mut self, now: Now) {
        for words in self.words.values_mut().filter(|words| words.until.is_some_and(|until| until <= now)) {
            (words.until, words.of_late) = (None, 0);
        }
    }

    /// When somebody is trusted again.
    pub(crate) fn poll_timeout(&self) -> Option<Now> {
        self.words.values().filter_map(|words| words.until).min()
    }

    pub(crate) fn suspects(&self, names: &Names) -> Vec<Suspect> {
        let suspect = |(name, words): (&Name, &Words)| Suspect {
            neighbor: names.name(*name).clone(),
            records: words.empty,
            last: words.last,
            shunned_until: words.until,
        };
        self.words.iter().map(suspect).collect()
    }
}
