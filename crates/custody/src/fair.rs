//! Fair turns by bytes (start-time fair queueing, Goyal et al. 1996): whose turn is next has had least.

use std::collections::{BTreeMap, BTreeSet};

/// What a turn costs on top of its bytes, so that many small records are no free ride.
const TURN_BYTES: u64 = 4 << 10;

/// Those who wait, in order, and what each of all who ever waited has had. They are nodes of the area, so there are few.
#[derive(Debug)]
pub(crate) struct FairTurns<K> {
    waiting: BTreeSet<(u64, K)>,
    had: BTreeMap<K, u64>,
    /// What the one whose turn was last had had until then. Who begins to wait begins from there: nobody saves up turns.
    reached: u64,
}

impl<K> Default for FairTurns<K> {
    fn default() -> Self {
        Self { waiting: BTreeSet::new(), had: BTreeMap::new(), reached: 0 }
    }
}

impl<K: Ord + Clone> FairTurns<K> {
    /// Somebody begins to wait; nothing if it does already.
    pub(crate) fn enter(&mut self, who: &K) {
        let had = self.had.entry(who.clone()).or_default();
        if !self.waiting.contains(&(*had, who.clone())) {
            *had = self.reached.max(*had);
            self.waiting.insert((*had, who.clone()));
        }
    }

    /// It waits no longer.
    pub(crate) fn leave(&mut self, who: &K) {
        if let Some(had) = self.had.get(who) {
            self.waiting.remove(&(*had, who.clone()));
        }
    }

    /// It has a turn of so many bytes, and goes on waiting if it does.
    pub(crate) fn charge(&mut self, who: &K, bytes: u32) {
        let Some(had) = self.had.get_mut(who) else { return };
        let waits = self.waiting.remove(&(*had, who.clone()));
        self.reached = self.reached.max(*had);
        *had += u64::from(bytes) + TURN_BYTES;
        if waits {
            self.waiting.insert((*had, who.clone()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Those who wait, whose turn is next first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &K> {
        self.waiting.iter().map(|(_, who)| who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_what_everybody_has_had_and_nobody_saves_them_up() {
        let mut turns = FairTurns::default();
        let next = |turns: &mut FairTurns<char>, bytes| {
            let next = *turns.iter().next().unwrap();
            turns.charge(&next, bytes);
            next
        };
        ['a', 'b'].iter().for_each(|who| turns.enter(who));
        let large_of_a = |who| if who == 'a' { 3_000_000 } else { 1_000_000 };
        let mut order = String::new();
        for _ in 0..8 {
            let who = *turns.iter().next().unwrap();
            order.push(next(&mut turns, large_of_a(who)));
        }
        assert_eq!(order, "abbbabbb");
        turns.leave(&'b');
        (0..50).for_each(|_| assert_eq!(next(&mut turns, 1), 'a'));
        turns.enter(&'b');
        turns.enter(&'b');
        let order: String = (0..6).map(|_| next(&mut turns, 1)).collect();
        assert!(["bababa", "bbabab", "ababab"].contains(&&*order), "{order}");
    }
}
