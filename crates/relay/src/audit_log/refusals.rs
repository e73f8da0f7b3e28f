//! Refusals share lines, so that nobody can push the log's other lines out by being refused often.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_audit_log::{Event, Who};

/// The first of a kind by somebody has a line at once; those that follow within this time share one.
const TOGETHER: Duration = Duration::from_secs(60);

/// Those for whom there are no lines left share one of each kind in this time.
const OTHERS_TOGETHER: Duration = Duration::from_secs(600);

/// Lines about refusals that may come at once, and how long it takes until there is one more: at most 1,500 a day.
const LINES_AT_ONCE: u32 = 60;
const LINE_AGAIN: Duration = Duration::from_secs(60);

/// Who was refused for what within a minute, at most; more are others.
const TALLIES_MAX: usize = 64;

/// Counts who is refused for what.
#[derive(Debug)]
pub(super) struct Refusals {
    tallies: BTreeMap<(String, Who), Tally>,
    lines_left: u32,
    next_line: Duration,
}

/// Refusals of one kind, of one source.
#[derive(Debug)]
struct Tally {
    /// The newest of them.
    event: Event,
    /// How many have no line yet.
    unwritten: u64,
    /// When they get one.
    due: Duration,
}

impl Default for Refusals {
    fn default() -> Self {
        Self { tallies: BTreeMap::new(), lines_left: LINES_AT_ONCE, next_line: LINE_AGAIN }
    }
}

impl Refusals {
    /// Counts a refusal. It is given back if it is to have a line of its own, now.
    pub(super) fn heed(&mut self, now: Duration, event: Event) -> Option<Event> {
        let key = (event.what.clone(), event.who.clone());
        if let Some(tally) = self.tallies.get_mut(&key) {
            tally.unwritten += 1;
            tally.event = event;
            return None;
        }
        let is_one_of_many = self.tallies.len() >= TALLIES_MAX || !self.spend_line(now);
        if is_one_of_many {
            let others = self.tallies.entry((event.what.clone(), Who::Others));
            let none = Tally { event: event.clone(), unwritten: 0, due: now + OTHERS_TOGETHER };
            let tally = others.or_insert(none);
            tally.unwritten += 1;
            tally.event = Event { who: Who::Others, about: BTreeMap::new(), ..event };
            return None;
        }
        self.tallies.insert(key, Tally { event: event.clone(), unwritten: 0, due: now + TOGETHER });
        Some(event)
    }

    /// When there may be a line to write.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.tallies.values().map(|tally| tally.due).min()
    }

    /// The lines whose time has come.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Event> {
        self.refill(now);
        self.tallies.extract_if(.., |_, tally| tally.due <= now).filter_map(|(_, tally)| tally.line()).collect()
    }

    /// All that has no line yet: the relay stops.
    pub(super) fn all(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.tallies).into_values().filter_map(Tally::line).collect()
    }

    fn spend_line(&mut self, now: Duration) -> bool {
        self.refill(now);
        let has_one = self.lines_left > 0;
        self.lines_left = self.lines_left.saturating_sub(1);
        has_one
    }

    fn refill(&mut self, now: Duration) {
        while self.next_line <= now {
            self.lines_left = LINES_AT_ONCE.min(self.lines_left + 1);
            self.next_line += LINE_AGAIN;
        }
    }
}

impl Tally {
    fn line(self) -> Option<Event> {
        (self.unwritten > 0).then_some(Event { times: Some(self.unwritten), ..self.event })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: u64) -> Event {
        let who = Who::Stranger { address: format!("10.0.{}.{}", number / 256, number % 256), key: None };
        Event::refused(who, "session", "unknown key")
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn the_first_has_a_line_at_once_and_those_after_it_share_one() {
        let mut refusals = Refusals::default();
        assert!(refusals.heed(seconds(0), refusal(1)).is_some());
        assert!((0..1_000).all(|_| refusals.heed(seconds(30), refusal(1)).is_none()));
        assert!(refusals.heed(seconds(30), refusal(2)).is_some(), "somebody else");
        assert_eq!((refusals.next_due(), refusals.due(seconds(59))), (Some(seconds(60)), vec![]));
        let due = refusals.due(seconds(60));
        assert_eq!(due.iter().map(|event| event.times).collect::<Vec<_>>(), [Some(1_000)]);
        assert!(refusals.due(seconds(90)).is_empty(), "of the second there were no more");
        assert!(refusals.heed(seconds(91), refusal(1)).is_some(), "and then it begins again");
    }

    #[test]
    fn a_thousand_strangers_cannot_fill_the_log() {
        let mut refusals = Refusals::default();
        let (mut lines, mut counted) = (0, 0);
        for second in 0..24 * 3_600 {
            for stranger in 0..10 {
                let line = refusals.heed(seconds(second), refusal((second * 10 + stranger) % 10_000));
                let due = refusals.due(seconds(second));
                let written: Vec<Event> = line.into_iter().chain(due).collect();
                lines += written.len();
                counted += written.iter().map(|event| event.times.unwrap_or(1)).sum::<u64>();
                assert!(refusals.tallies.len() <= TALLIES_MAX + 1);
            }
        }
        counted += refusals.all().iter().map(|event| event.times.unwrap_or(1)).sum::<u64>();
        assert!(lines < 2_000, "{lines} lines");
        assert_eq!(counted, 24 * 3_600 * 10, "everybody is counted");
    }
}
