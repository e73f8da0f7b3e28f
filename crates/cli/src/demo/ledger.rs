//! What was promised to citizens, and what the main server committed: the demo's own books, kept apart from the
//! relays' own count so that each can be held against the other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use estafet_admin::v1;
use tokio::time::Instant;

use super::intake::Accepted;
use super::paper::Paper;

/// A record that a citizen has a slip for.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub(super) office: String,
    pub(super) paper: Paper,
    /// Of what was sent.
    pub(super) blake3: String,
    /// Of what was sent.
    pub(super) bytes: u64,
    /// When the counter began to hand it in.
    pub(super) captured_from: Instant,
    /// What the relay answered.
    pub(super) accepted: Accepted,
}

/// A record that the main server says it has.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    record_id: String,
    slip: String,
    blake3: String,
    bytes: u64,
    /// When the demo learned of it.
    at: Instant,
}

impl Commit {
    pub(super) fn learned_now(commit: v1::Commit) -> Self {
        let v1::Commit { record_id, slip, blake3, bytes, .. } = commit;
        Self { record_id, slip, blake3, bytes, at: Instant::now() }
    }
}

/// One office's side of the books.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Slips given.
    pub(super) captured: usize,
    /// Bytes of the records behind them.
    pub(super) bytes: u64,
    /// Slips whose records are committed.
    pub(super) committed: usize,
    /// From the cut until the first record that was captured after it was committed.
    pub(super) failover: Option<Duration>,
}

/// The books. Slips and commits may come in either order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: BTreeMap<String, Account>,
    promises: HashMap<String, Promise>,
    commits: HashMap<String, Commit>,
    cut_at: Option<Instant>,
    committed_twice: Vec<String>,
    slips_given_twice: Vec<String>,
}

impl Ledger {
    /// Notes the moment of the cut.
    pub(super) fn cut(&mut self, at: Instant) {
        self.cut_at = Some(at);
    }

    /// Enters a slip.
    pub(super) fn promise(&mut self, promise: Promise) {
        let account = self.accounts.entry(promise.office.clone()).or_default();
        account.captured += 1;
        account.bytes += promise.bytes;
        let id = promise.accepted.record_id.clone();
        if self.promises.insert(id.clone(), promise).is_some() {
            self.slips_given_twice.push(id);
        } else {
            self.settle(&id);
        }
    }

    /// Enters a commit.
    pub(super) fn commit(&mut self, commit: Commit) {
        let id = commit.record_id.clone();
        if self.commits.contains_key(&id) {
            self.committed_twice.push(id);
        } else {
            self.commits.insert(id.clone(), commit);
            self.settle(&id);
        }
    }

    /// Books a record of which both the slip and the commit are known now.
    fn settle(&mut self, id: &str) {
        let (Some(promise), Some(commit)) = (self.promises.get(id), self.commits.get(id)) else { return };
        let account = self.accounts.entry(promise.office.clone()).or_default();
        account.committed += 1;
        if let Some(cut_at) = self.cut_at
            && promise.captured_from >= cut_at
        {
            let after = commit.at.duration_since(cut_at);
            account.failover = Some(account.failover.map_or(after, |shortest| shortest.min(after)));
        }
    }

    pub(super) fn account(&self, office: &str) -> Account {
        self.accounts.get(office).cloned().unwrap_or_default()
    }

    /// Slips given, in all.
    pub(super) fn captured(&self) -> usize {
        self.accounts.values().map(|account| account.captured).sum()
    }

    /// Slips whose records are committed, in all.
    pub(super) fn committed(&self) -> usize {
        self.accounts.values().map(|account| account.committed).sum()
    }

    /// Bytes of all records that have a slip.
    pub(super) fn bytes(&self) -> u64 {
        self.accounts.values().map(|account| account.bytes).sum()
    }

    pub(super) fn committed_twice(&self) -> usize {
        self.committed_twice.len()
    }

    pub(super) fn promises(&self) -> impl Iterator<Item = &Promise> {
        self.promises.values()
    }

    /// Every way in which the main server's commits are not what was promised, in words.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, promise) in &self.promises {
            let Promise { bytes, accepted, .. } = promise;
            if *bytes != accepted.content_bytes {
                faults.push(format!("{id}: the slip speaks of other bytes than were sent"));
            }
            match self.commits.get(id) {
                None => faults.push(format!("{id}: has a slip and was not committed")),
                Some(commit) if (&accepted.blake3, accepted.bytes) != (&commit.blake3, commit.bytes) => {
                    faults.push(format!("{id}: other bytes were committed than were promised"));
                }
                Some(commit) if commit.slip != accepted.slip => {
                    faults.push(format!("{id}: committed as {}, but its slip is {}", commit.slip, accepted.slip));
                }
                Some(_) => {}
            }
        }
        let unknown = self.commits.keys().filter(|id| !self.promises.contains_key(*id));
        faults.extend(unknown.map(|id| format!("{id}: committed, and no counter has a slip for it")));
        faults.extend(self.committed_twice.iter().map(|id| format!("{id}: committed twice")));
        faults.extend(self.slips_given_twice.iter().map(|id| format!("{id}: given out for two papers")));
        faults.sort();
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Story {
        began: Instant,
        ledger: Ledger,
    }

    impl Story {
        fn new() -> Self {
            let began = Instant::now();
            let mut ledger = Ledger::default();
            ledger.cut(began + Duration::from_millis(100));
            Self { began, ledger }
        }

        fn promise(&mut self, id: &str, at_ms: u64) {
            let accepted = Accepted {
                slip: format!("slip-{id}"),
                record_id: id.into(),
                blake3: "hash".into(),
                bytes: 4,
                content_bytes: 3,
            };
            self.ledger.promise(Promise {
                office: "rumbai".into(),
                paper: Paper::Form { office: "rumbai".into(), number: 1 },
                blake3: "other".into(),
                bytes: 3,
                captured_from: self.began + Duration::from_millis(at_ms),
                accepted,
            });
        }

        fn commit(&mut self, id: &str, blake3: &str, at_ms: u64) {
            let at = self.began + Duration::from_millis(at_ms);
            let slip = format!("slip-{id}");
            self.ledger.commit(Commit { record_id: id.into(), slip, blake3: blake3.into(), bytes: 4, at });
        }
    }

    #[test]
    fn failover_is_the_first_commit_of_what_was_captured_after_the_cut() {
        let mut story = Story::new();
        story.promise("before", 90);
        story.commit("before", "hash", 150);
        assert_eq!(story.ledger.account("rumbai").failover, None);
        story.commit("after", "hash", 500);
        story.promise("after", 110);
        story.promise("sooner", 120);
        story.commit("sooner", "hash", 450);
        let account = story.ledger.account("rumbai");
        assert_eq!(account.failover, Some(Duration::from_millis(350)));
        assert_eq!((account.captured, account.committed, account.bytes), (3, 3, 9));
        assert_eq!(story.ledger.faults(), Vec::<String>::new());
    }

    #[test]
    fn every_difference_is_a_fault() {
        let mut story = Story::new();
        story.promise("lost", 0);
        story.promise("damaged", 0);
        story.commit("damaged", "other", 1);
        story.promise("twice", 0);
        story.commit("twice", "hash", 1);
        story.commit("twice", "hash", 2);
        story.commit("unknown", "hash", 1);
        let expected = [
            "damaged: other bytes were committed than were promised",
            "lost: has a slip and was not committed",
            "twice: committed twice",
            "unknown: committed, and no counter has a slip for it",
        ];
        assert_eq!(story.ledger.faults(), expected);
        assert_eq!(story.ledger.committed_twice(), 1);
    }
}
