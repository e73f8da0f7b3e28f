//! Judging a link by how it behaves: a *gray* link still works, and badly.
//!
//! The session layer measures round trip, loss and window on what it sends anyway. A link is gray when it loses much,
//! or when a usual record would take a second and much longer than it can here; and good again after some time of good
//! measurements. Both ways lie well apart (hysteresis), and a link that keeps changing its mind is believed ever less:
//! at most [`RETURNS_PER_HOUR`] times in an hour it is good again, so that no more than twice as many route changes, and
//! one, come of it. The idea of a delay cost with hysteresis is that of RFC 9616; what leaves a link is not its delay
//! alone.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use estafet_model::Now;

/// How often a link may be good again in an hour.
pub const RETURNS_PER_HOUR: usize = 2;

/// For how long a link has to measure well until it is good again: at first, and after it has been gray once before
/// within the hour.
pub const GOOD_FOR: Duration = Duration::from_secs(10);
const GOOD_FOR_AFTER_RELAPSE: Duration = Duration::from_secs(120);

const HOUR: Duration = Duration::from_secs(3600);

/// A link that loses so much is gray; one that loses no more than the second may be good. Between the two nothing changes.
/// QUIC carries on at 15 %, at a small part of its speed.
const LOSS_GRAY_PERCENT: u64 = 15;
const LOSS_GOOD_PERCENT: u64 = 5;

/// The same for the time that a record of [`USUAL_BYTES`] takes. Gray is also only what takes
/// [`SLOWER_THAN_BEST`] times longer than this link can: a satellite is what it is, and its configured cost says so.
const TIME_GRAY: Duration = Duration::from_secs(1);
const TIME_GOOD: Duration = Duration::from_millis(500);
const SLOWER_THAN_BEST: u32 = 4;

/// A usual record: one scanned page.
const USUAL_BYTES: u64 = 64 << 10;

/// So many samples in a row must agree that a link is gray: a single one is a moment.
const GRAY_SAMPLES: u32 = 2;

/// Of how many packets a loss is judged, at least, and how much of what was counted before still counts with the next
/// sample: with two samples a second the figures follow the link within two seconds.
const PACKETS_GRAY_MIN: u64 = 20;
const PACKETS_GOOD_MIN: u64 = 5;
const KEPT_PERCENT: u64 = 70;

/// What the session layer has measured on a link since its session began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkSample {
    /// The smoothed round-trip time.
    pub round_trip: Duration,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets lost on their way.
    pub packets_lost: u64,
    /// What may be under way without an acknowledgement.
    pub window_bytes: u64,
}

impl LinkSample {
    /// How long a usual record takes by these figures: its windows, one round trip each, and the way there.
    fn usual_time(&self) -> Duration {
        let windows = USUAL_BYTES.div_ceil(self.window_bytes.max(1)).min(1000);
        self.round_trip * u32::try_from(1 + windows).unwrap_or(u32::MAX)
    }
}

/// What is wrong with a gray link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gray {
    /// It loses so many packets in a hundred.
    Lossy {
        /// So many.
        percent: u64,
    },
    /// A record of 64 KiB takes so long.
    Slow {
        /// So long.
        usual_record: Duration,
    },
}

impl fmt::Display for Gray {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lossy { percent } => write!(formatter, "{percent} % of packets are lost"),
            Self::Slow { usual_record } => write!(formatter, "a record of 64 KiB takes {usual_record:.1?}"),
        }
    }
}

/// What a sample changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    BecameGray(Gray),
    BecameGood,
}

/// Judges one link. Outlives its sessions.
#[derive(Debug, Clone, Default)]
pub(crate) struct LinkQuality {
    last: Option<LinkSample>,
    /// Packets of late, those longer ago counting ever less.
    sent: u64,
    lost: u64,
    best_time: Option<Duration>,
    gray: Option<Gray>,
    gray_samples: u32,
    good_since: Option<Now>,
    returns: VecDeque<Now>,
}

impl LinkQuality {
    /// What is wrong with the link, if it is gray.
    pub(crate) fn gray(&self) -> Option<Gray> {
        self.gray
    }

    /// The session ended: the next counts from the beginning. What was thought of the link stays.
    pub(crate) fn session_ended(&mut self) {
        self.last = None;
        self.good_since = None;
    }

    /// A new sample of the link; to be given twice a second.
    pub(crate) fn measured(&mut self, now: Now, sample: LinkSample) -> Option<Change> {
        let last = self.last.replace(sample)?;
        let count = |counted: u64, before: u64, after: u64| counted * KEPT_PERCENT / 100 + after.saturating_sub(before);
        self.sent = count(self.sent, last.packets_sent, sample.packets_sent);
        self.lost = count(self.lost, last.packets_lost, sample.packets_lost);
        let time = sample.usual_time();
        self.best_time = Some(self.best_time.map_or(time, |best| best.min(time)));
        if self.gray.is_some() { self.look_for_good(now, time) } else { self.look_for_gray(time) }
    }

    fn loss_percent(&self) -> u64 {
        (self.lost * 100 / self.sent.max(1)).min(100)
    }

    fn look_for_gray(&mut self, time: Duration) -> Option<Change> {
        let percent = self.loss_percent();
        let slow = time >= TIME_GRAY && self.best_time.is_some_and(|best| time >= best * SLOWER_THAN_BEST);
        let found = if self.sent >= PACKETS_GRAY_MIN && percent >= LOSS_GRAY_PERCENT {
            Some(Gray::Lossy { percent })
        } else {
            slow.then_some(Gray::Slow { usual_record: time })
        };
        self.gray_samples = if found.is_some() { self.gray_samples + 1 } else { 0 };
        self.gray = found.filter(|_| self.gray_samples >= GRAY_SAMPLES);
        self.good_since = None;
        self.gray.map(Change::BecameGray)
    }

    fn look_for_good(&mut self, now: Now, time: Duration) -> Option<Change> {
        if self.loss_percent() > LOSS_GOOD_PERCENT || time > TIME_GOOD {
            self.good_since = None;
            return None;
        }
        if self.sent < PACKETS_GOOD_MIN {
            return None;
        }
        let since = *self.good_since.get_or_insert(now);
        while self.returns.front().is_some_and(|returned| now.since(*returned) >= HOUR) {
            self.returns.pop_front();
        }
        let good_for = if self.returns.is_empty() { GOOD_FOR } else { GOOD_FOR_AFTER_RELAPSE };
        if now.since(since) < good_for || self.returns.len() >= RETURNS_PER_HOUR {
            return None;
        }
        self.returns.push_back(now);
        self.gray = None;
        self.gray_samples = 0;
        Some(Change::BecameGood)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that is measured twice a second, and what it looks like.
    struct Line {
        quality: LinkQuality,
        now: Now,
        sample: LinkSample,
        changes: Vec<(u128, bool)>,
    }

    impl Line {
        fn new() -> Self {
            let round_trip = Duration::from_millis(5);
            let sample = LinkSample { round_trip, packets_sent: 0, packets_lost: 0, window_bytes: 14_720 };
            Self { quality: LinkQuality::default(), now: Now::default(), sample, changes: Vec::new() }
        }

        /// So many packets in each half second, and so many of a hundred lost.
        fn run(&mut self, seconds: u64, packets: u64, loss_percent: u64, round_trip_ms: u64) {
            for _ in 0..seconds * 2 {
                self.sample.packets_sent += packets;
                self.sample.packets_lost += packets * loss_percent / 100;
                self.sample.round_trip = Duration::from_millis(round_trip_ms);
                let change = self.quality.measured(self.now, self.sample);
                self.changes.extend(change.map(|change| (self.now.0.as_millis(), change == Change::BecameGood)));
                self.now = self.now + Duration::from_millis(500);
            }
        }
    }

    #[test]
    fn a_lossy_and_a_slow_link_are_gray_within_three_seconds_and_good_after_ten_good_ones() {
        for (loss_percent, round_trip_ms) in [(30, 5), (0, 600)] {
            let mut line = Line::new();
            line.run(10, 50, 0, 5);
            line.run(20, 50, loss_percent, round_trip_ms);
            line.run(30, 10, 0, 5);
            let [(gray, false), (good, true)] = line.changes[..] else { panic!("{:?}", line.changes) };
            assert!((10_500..13_000).contains(&gray), "gray at {gray}");
            assert!((40_000..43_500).contains(&good), "good at {good}");
        }
    }

    #[test]
    fn five_percent_of_loss_a_satellite_and_an_idle_line_are_not_gray() {
        for (packets, loss_percent, round_trip_ms) in [(50, 5, 5), (50, 10, 5), (50, 0, 600), (2, 50, 5), (0, 0, 5)] {
            let mut line = Line::new();
            line.run(60, packets, loss_percent, round_trip_ms);
            assert_eq!(line.changes, [], "{packets} {loss_percent} {round_trip_ms}");
        }
    }

    #[test]
    fn a_link_that_keeps_changing_its_mind_changes_no_more_than_six_routes_an_hour() {
        let mut line = Line::new();
        for _ in 0..3 * 3600 / 40 {
            line.run(20, 50, 40, 5);
            line.run(20, 50, 0, 5);
        }
        for begin in (0..2 * 3600 * 1000).step_by(60_000) {
            let within = line.changes.iter().filter(|(at, _)| (begin..begin + 3_600_000).contains(at));
            assert!(within.count() <= 6, "{:?}", line.changes);
        }
        let long_bad = line.changes.len();
        line.run(2 * 3600, 50, 0, 5);
        assert!(line.quality.gray().is_none() && line.changes.len() == long_bad + 1, "it is used again some day");
    }

    #[test]
    fn a_new_session_counts_from_the_beginning() {
        let mut line = Line::new();
        line.run(10, 50, 0, 5);
        line.quality.session_ended();
        (line.sample.packets_sent, line.sample.packets_lost) = (0, 0);
        line.run(10, 50, 0, 5);
        assert_eq!(line.changes, []);
    }
}
