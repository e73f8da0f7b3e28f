//! Judging a link by how it behaves: a *gray* link still works, and badly.
//!
//! The session layer measures round trip, loss and window on what it sends anyway. A link is gray when it loses much,
//! or when a usual record would take a second and much longer than it can here; and good again after some time of good
//! measurements. One that was slow also has to carry a trial then ([`Trials`]): an unused link is measured by heartbeats, and
//! these say nothing of what it carries.
//!
//! Both ways lie well apart (hysteresis), and a link that keeps changing its mind is believed ever less:
//! at most [`RETURNS_PER_HOUR`] times in an hour it is good again, so that no more than twice as many route changes, and
//! one, come of it. The idea of a delay cost with hysteresis is that of RFC 9616; what leaves a link is not its delay
//! alone.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use estafet_model::Now;

use crate::trial::Trials;

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

/// A usual record: one scanned page. A trial is as long.
pub(crate) const USUAL_BYTES: u32 = 64 << 10;

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
        let windows = u64::from(USUAL_BYTES).div_ceil(self.window_bytes.max(1)).min(1000);
        self.round_trip * u32::try_from(1 + windows).unwrap_or(u32::MAX)
    }

    /// The same as if one window took all of it. What the window of an unused link has become is no measure of the link.
    fn least_usual_time(&self) -> Duration {
        self.round_trip * 2
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

/// What follows from a sample, or from a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    BecameGray(Gray),
    /// The link is to carry [`USUAL_BYTES`] within this time, from the first to the acknowledgement of the last.
    TrialDue {
        within: Duration,
    },
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
    /// It was slow when it became gray, or since.
    was_slow: bool,
    good_since: Option<Now>,
    trials: Trials,
    returns: VecDeque<Now>,
}

impl LinkQuality {
    /// What is wrong with the link, if it is gray.
    pub(crate) fn gray(&self) -> Option<Gray> {
        self.gray
    }

    /// How long a usual record takes: by the last sample, or as long as when the link was found to be slow. While nobody uses
    /// it, it looks better than it is.
    pub(crate) fn usual_time(&self) -> Option<Duration> {
        let slow = match self.gray {
            Some(Gray::Slow { usual_record }) => usual_record,
            Some(Gray::Lossy { .. }) | None => Duration::ZERO,
        };
        self.last.map(|sample| sample.usual_time().max(slow))
    }

    /// The session ended: the next counts from the beginning. What was thought of the link stays.
    pub(crate) fn session_ended(&mut self, now: Now) {
        self.last = None;
        self.good_since = None;
        self.trials.end(false);
        self.trials.line_is_free(now);
    }

    /// A new sample of the link; to be given twice a second. Without `may_try` a link that was slow is believed good again
    /// with no trial.
    pub(crate) fn measured(&mut self, now: Now, sample: LinkSample, may_try: bool) -> Option<Finding> {
        let last = self.last.replace(sample)?;
        let count = |counted: u64, before: u64, after: u64| counted * KEPT_PERCENT / 100 + after.saturating_sub(before);
        self.sent = count(self.sent, last.packets_sent, sample.packets_sent);
        self.lost = count(self.lost, last.packets_lost, sample.packets_lost);
        let time = sample.usual_time();
        self.best_time = Some(self.best_time.map_or(time, |best| best.min(time)));
        let is_slow = self.is_slow(time);
        self.was_slow = is_slow || self.was_slow && self.gray.is_some();
        if self.gray.is_some() {
            self.look_for_good(now, &sample, may_try)
        } else {
            self.look_for_gray(is_slow.then_some(Gray::Slow { usual_record: time }))
        }
    }

    /// The link has carried the trial that was due in the time that it was given, or not.
    pub(crate) fn tried(&mut self, now: Now, carried: bool) -> Option<Finding> {
        if !self.trials.end(carried) {
            return None;
        }
        self.good_since = None;
        carried.then(|| self.become_good(now))
    }

    fn loss_percent(&self) -> u64 {
        (self.lost * 100 / self.sent.max(1)).min(100)
    }

    fn is_slow(&self, time: Duration) -> bool {
        time >= TIME_GRAY && self.best_time.is_some_and(|best| time >= best * SLOWER_THAN_BEST)
    }

    fn look_for_gray(&mut self, slow: Option<Gray>) -> Option<Finding> {
        let percent = self.loss_percent();
        let is_lossy = self.sent >= PACKETS_GRAY_MIN && percent >= LOSS_GRAY_PERCENT;
        let found = if is_lossy { Some(Gray::Lossy { percent }) } else { slow };
        self.gray_samples = if found.is_some() { self.gray_samples + 1 } else { 0 };
        self.gray = found.filter(|_| self.gray_samples >= GRAY_SAMPLES);
        self.good_since = None;
        self.gray.map(Finding::BecameGray)
    }

    fn look_for_good(&mut self, now: Now, sample: &LinkSample, may_try: bool) -> Option<Finding> {
        if self.loss_percent() > LOSS_GOOD_PERCENT || sample.least_usual_time() > TIME_GOOD {
            self.good_since = None;
            return None;
        }
        self.trials.line_is_free(now);
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
        if self.was_slow && may_try {
            let within = TIME_GOOD + sample.round_trip;
            return self.trials.begin(now).then_some(Finding::TrialDue { within });
        }
        Some(self.become_good(now))
    }

    fn become_good(&mut self, now: Now) -> Finding {
        self.returns.push_back(now);
        self.gray = None;
        self.gray_samples = 0;
        Finding::BecameGood
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
        may_try: bool,
        changes: Vec<(u128, bool)>,
        /// When trials began, and in what time.
        trials: Vec<(u128, Duration)>,
    }

    impl Line {
        fn new() -> Self {
            let round_trip = Duration::from_millis(5);
            let sample = LinkSample { round_trip, packets_sent: 0, packets_lost: 0, window_bytes: 14_720 };
            let (quality, now) = (LinkQuality::default(), Now::default());
            Self { quality, now, sample, may_try: true, changes: Vec::new(), trials: Vec::new() }
        }

        fn find(&mut self, finding: Option<Finding>) {
            let now = self.now.0.as_millis();
            match finding {
                Some(Finding::BecameGray(_)) => self.changes.push((now, false)),
                Some(Finding::BecameGood) => self.changes.push((now, true)),
                Some(Finding::TrialDue { within }) => self.trials.push((now, within)),
                None => {}
            }
        }

        /// Half a second passes.
        fn sample(&mut self, packets: u64, loss_percent: u64, round_trip_ms: u64) {
            self.sample.packets_sent += packets;
            self.sample.packets_lost += packets * loss_percent / 100;
            self.sample.round_trip = Duration::from_millis(round_trip_ms);
            let finding = self.quality.measured(self.now, self.sample, self.may_try);
            self.find(finding);
            self.now = self.now + Duration::from_millis(500);
        }

        /// The trial that is under way is over.
        fn end_trial(&mut self, carried: bool) {
            let finding = self.quality.tried(self.now, carried);
            self.find(finding);
        }

        /// A good line that falls to so little that a trial which is given up takes half a second to send and, for so long
        /// after that, stands in its queue.
        fn run_slow(&mut self, seconds: u64, queue: u64) {
            for _ in 0..seconds * 2 {
                let trials = self.trials.len();
                self.sample(10, 0, 20);
                if self.trials.len() > trials {
                    self.end_trial(false);
                    (0..queue * 2).for_each(|_| self.sample(10, 0, 900));
                }
            }
        }

        /// So many packets in each half second, and so many of a hundred lost.
        fn run(&mut self, seconds: u64, packets: u64, loss_percent: u64, round_trip_ms: u64) {
            (0..seconds * 2).for_each(|_| self.sample(packets, loss_percent, round_trip_ms));
        }
    }

    #[test]
    fn a_lossy_and_a_slow_link_are_gray_within_three_seconds_and_good_after_ten_good_ones() {
        // What was slow is good with no trial only where none may be made.
        for (loss_percent, round_trip_ms, may_try) in [(30, 5, true), (0, 600, false)] {
            let mut line = Line { may_try, ..Line::new() };
            line.run(10, 50, 0, 5);
            line.run(20, 50, loss_percent, round_trip_ms);
            line.run(30, 10, 0, 5);
            let [(gray, false), (good, true)] = line.changes[..] else { panic!("{:?}", line.changes) };
            assert!((10_500..13_000).contains(&gray), "gray at {gray}");
            assert!((40_000..43_500).contains(&good), "good at {good}");
            assert_eq!(line.trials, []);
        }
    }

    /// A line that is slow until 30 s, and lossy beside that or not.
    fn slowed(loss_percent: u64) -> Line {
        let mut line = Line::new();
        line.run(10, 50, 0, 5);
        line.run(20, 50, loss_percent, 600);
        assert_eq!(line.changes.len(), 1);
        line
    }

    #[test]
    fn a_link_that_was_slow_is_good_as_soon_as_it_has_carried_a_trial_after_ten_good_seconds() {
        for loss_percent in [0, 30] {
            let mut line = slowed(loss_percent);
            line.run(30, 10, 0, 5);
            let [(tried, within)] = line.trials[..] else { panic!("one at a time: {:?}", line.trials) };
            assert!((40_000..43_500).contains(&tried), "tried at {tried}");
            assert_eq!(within, Duration::from_millis(505));
            assert_eq!(line.changes.len(), 1);
            line.end_trial(true);
            assert_eq!(line.changes[1], (60_000, true));
            line.end_trial(true);
            assert_eq!(line.changes.len(), 2, "an answer to nothing is none");
        }
    }

    #[test]
    fn a_window_that_losses_have_left_small_does_not_keep_a_link_from_its_trial() {
        let mut line = slowed(30);
        line.sample.window_bytes = 2_904;
        line.run(15, 10, 0, 60);
        assert_eq!(line.trials.len(), 1);
    }

    #[test]
    fn a_link_that_stays_slow_is_never_good_and_trials_take_five_percent_of_it_at_most() {
        for queue in [0, 1, 5, 10] {
            let mut line = slowed(0);
            line.run_slow(3600, queue);
            assert_eq!(line.changes.len(), 1);
            let (took, begins) = (500 + u128::from(queue) * 1000, line.trials.iter().map(|(begin, _)| *begin));
            let pauses: Vec<u128> = begins.clone().skip(1).zip(begins).map(|(next, begin)| next - begin).collect();
            let as_long_as_it_may_be = took * 20..took * 21 + 1_000;
            assert!(pauses.len() > 10, "it is tried again and again: {pauses:?}");
            assert!(pauses.iter().all(|pause| as_long_as_it_may_be.contains(pause)), "after {took} ms: {pauses:?}");
        }
    }

    #[test]
    fn one_that_heals_between_two_trials_is_good_after_the_next() {
        let mut line = slowed(0);
        line.run_slow(60, 3);
        assert_eq!(line.trials.len(), 1);
        while line.trials.len() < 2 {
            line.run(1, 10, 0, 5);
        }
        line.end_trial(true);
        let [_, (good, true)] = line.changes[..] else { panic!("{:?}", line.changes) };
        assert!(good < 130_000, "{good}: 20 times 3.5 s after the first, at 43 s");
    }

    #[test]
    fn a_session_that_ends_in_mid_trial_ends_the_trial_and_the_next_one_comes_later() {
        let mut line = slowed(0);
        line.run(15, 10, 0, 5);
        assert_eq!(line.trials.len(), 1);
        line.quality.session_ended(line.now);
        line.end_trial(true);
        assert_eq!(line.changes.len(), 1, "what is over has no outcome");
        (line.sample.packets_sent, line.sample.packets_lost) = (0, 0);
        let ended = line.now.0.as_millis();
        line.run(120, 10, 0, 5);
        assert_eq!(line.trials.len(), 2);
        let (took, rested) = (ended - line.trials[0].0, line.trials[1].0 - ended);
        assert!((took * 20..took * 20 + 1_000).contains(&rested), "{:?}", line.trials);
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
        line.quality.session_ended(line.now);
        (line.sample.packets_sent, line.sample.packets_lost) = (0, 0);
        line.run(10, 50, 0, 5);
        assert_eq!(line.changes, []);
    }
}
