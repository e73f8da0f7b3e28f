//! A hub passes on what another hub lacks, until both have everything.
//!
//! What is lacking follows from the other hub's receipts; what is under way is held like any record, for that hub. There
//! is no more state than that, and none of it is on disk: the archive keeps everything, so a copy that got lost on its
//! way is only lacking still.

use std::time::Duration;

use estafet_model::{Durable, Epoch, NodeId, Now, SeqRanges};

use super::Custody;
use crate::output::CustodyOutput;
use crate::record::HeldRecord;

/// How long receipts may cross before a hub looks what others lack: what came to both is not passed on.
const LOOK_AFTER: Duration = Duration::from_millis(200);

/// How long the archive may take to find what was asked of it until it is asked again.
const FIND_PATIENCE: Duration = Duration::from_secs(10);

/// Copies under way to one hub, so that a hub that was dark for weeks costs no memory.
const COPIES_MAX: usize = 4096;

impl Custody {
    /// At a hub: the archive has found what other hubs lack, and it goes to the first of them that lacks it.
    pub(super) fn found_for_others(&mut self, now: Now, records: Vec<Durable<HeldRecord>>) {
        for record in records {
            let id = record.get().id.clone();
            let lacks = |hub: &&NodeId| !self.receipts.is_signed_by(hub, &id) && self.outbound.leads_to(hub);
            if let Some(hub) = self.receipts.other_hubs().find(lacks).filter(|_| self.receipts.is_committed(&id)) {
                self.outbound.hold_copy(now, record, hub);
            }
        }
        self.passing_on.found(now);
        self.dispatch(now);
    }

    /// At a hub: asks the archive for what other hubs lack, as much as may be under way.
    pub(super) fn pass_on(&mut self, now: Now) {
        if !self.receipts.is_hub() || !self.passing_on.is_due(now) {
            return;
        }
        for hub in self.receipts.other_hubs().filter(|hub| self.outbound.leads_to(hub)) {
            let under_way = |of: &(NodeId, Epoch)| self.outbound.held_of(&of.0, of.1);
            let lacking = self.receipts.lacking(hub).map(|(of, seqs)| (of, seqs.minus(&under_way(of))));
            let room = COPIES_MAX.saturating_sub(self.outbound.count_for(hub));
            for (origin, epoch, seqs) in first_of(lacking, room) {
                self.passing_on.asked(now);
                self.outputs.push_back(CustodyOutput::Recall { origin, epoch, seqs });
            }
        }
    }
}

/// When to look, and what the archive was asked for.
#[derive(Debug, Default)]
pub(super) struct PassingOn {
    look_at: Option<Now>,
    asked_at: Option<Now>,
}

impl PassingOn {
    /// Something was committed, or another hub has spoken, or can be reached now.
    pub(super) fn look_soon(&mut self, now: Now) {
        let soon = now + LOOK_AFTER;
        self.look_at = Some(self.look_at.map_or(soon, |at| at.min(soon)));
    }

    /// The archive has answered: there may be more.
    fn found(&mut self, now: Now) {
        self.asked_at = None;
        self.look_soon(now);
    }

    /// The archive is asked.
    fn asked(&mut self, now: Now) {
        self.asked_at = Some(now);
        self.look_at = Some(now + FIND_PATIENCE);
    }

    /// True if it is time to look; and then not again before something happens.
    fn is_due(&mut self, now: Now) -> bool {
        let due = self.look_at.is_some_and(|at| at <= now);
        let waits = self.asked_at.is_some_and(|asked| now.since(asked) < FIND_PATIENCE);
        if due && waits {
            self.look_at = self.asked_at.map(|asked| asked + FIND_PATIENCE);
        } else if due {
            (self.look_at, self.asked_at) = (None, None);
        }
        due && !waits
    }

    pub(super) fn poll_timeout(&self) -> Option<Now> {
        self.look_at
    }
}

/// The first so many of these.
fn first_of<'a>(
    all: impl Iterator<Item = (&'a (NodeId, Epoch), SeqRanges)>,
    at_most: usize,
) -> Vec<(NodeId, Epoch, SeqRanges)> {
    let mut left = at_most;
    let mut first = Vec::new();
    for ((origin, epoch), seqs) in all.filter(|(_, seqs)| !seqs.is_empty()) {
        if left == 0 {
            break;
        }
        let some: SeqRanges = seqs.iter().take(left).collect();
        left -= usize::try_from(some.count()).unwrap_or(left);
        first.push((origin.clone(), *epoch, some));
    }
    first
}

#[cfg(test)]
mod tests {
    use estafet_model::Seq;

    use super::*;

    fn at(millis: u64) -> Now {
        Now(Duration::from_millis(millis))
    }

    #[test]
    fn it_is_looked_once_and_not_while_the_archive_is_asked() {
        let mut passing = PassingOn::default();
        assert!(!passing.is_due(at(0)));
        passing.look_soon(at(0));
        passing.look_soon(at(100));
        assert_eq!((passing.is_due(at(199)), passing.is_due(at(200)), passing.is_due(at(201))), (false, true, false));
        passing.asked(at(200));
        passing.look_soon(at(300));
        assert!(!passing.is_due(at(5_000)));
        passing.found(at(5_000));
        assert!(passing.is_due(at(10_200)));
        passing.asked(at(10_200));
        assert!(passing.is_due(at(20_200)), "an answer that never comes is waited for no longer");
        assert_eq!(passing.poll_timeout(), None);
    }

    #[test]
    fn the_first_of_many_are_taken_in_order() {
        let ranges = |first: u32, last: u32| -> SeqRanges { (first..=last).filter_map(Seq::new).collect() };
        let of = |name: &str| (name.parse().unwrap(), Epoch::FIRST);
        let all =
            [(of("a"), ranges(1, 3)), (of("b"), SeqRanges::new()), (of("c"), ranges(5, 9)), (of("d"), ranges(1, 1))];
        let taken = first_of(all.iter().map(|(of, seqs)| (of, seqs.clone())), 5);
        assert_eq!(taken, [(of("a").0, Epoch::FIRST, ranges(1, 3)), (of("c").0, Epoch::FIRST, ranges(5, 6))]);
    }
}
