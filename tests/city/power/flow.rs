//! An office in full use while something happens to the network: how long its records wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::commits::Commits;
use super::lab::Lab;
use super::stalls::Stalls;
use crate::harness::{City, Given, agent, capture, given, noise, post_by, wait_for};

/// The flow.
pub(crate) const RECORD_BYTES: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(50);

/// How long records flow before and after what happens to them: thirty of them each.
const AROUND: Duration = Duration::from_millis(1_500);

/// Multiples of it, without their whole part, lie as evenly as can be however many there are.
const GOLDEN_RATIO: f64 = 0.618_034;

/// What is done to the network shows within this.
const BLOW: Duration = Duration::from_secs(1);

/// How they go when nothing is wrong.
pub(crate) const OLD_WAY: [&str; 3] = ["rumbai", "sukajadi", "induk"];

/// Times longer than on a quiet machine that a test may find a figure: others build and test on this one too. Only
/// medians are held to it; a disk that stalls once for two seconds is no fault of routing.
pub(crate) const NOISE: u32 = 3;

/// Pekanbaru, with its links and its commits.
pub(crate) struct Network {
    pub(crate) city: City,
    pub(crate) lab: Lab,
    pub(crate) commits: Commits,
    stalls: Stalls,
    records: u64,
    /// How many flows were disturbed, and when the last of them was.
    blows: u32,
    disturbed: Instant,
}

/// A record of a flow, with the moments in which it was handed in and promised.
pub(crate) struct Sent {
    pub(crate) given: Given,
    begun: Instant,
    promised: Instant,
}

impl Network {
    pub(crate) fn new() -> Self {
        let mut city = City::new("pekanbaru");
        // Before the relays find out what datagrams their links carry.
        let lab = Lab::new(&city);
        city.start_all();
        Self::of(city, lab)
    }

    /// Of a city whose relays run.
    pub(crate) fn of(city: City, lab: Lab) -> Self {
        city.wait_for_path(&OLD_WAY);
        let commits = Commits::of(&city, "induk");
        // The listener hears commits as they happen from here on.
        let first = capture(&city.intake("rumbai"), b"the first", &[]);
        commits.moments(&[&first.record_id]);
        Self { city, lab, commits, stalls: Stalls::watch(), records: 0, blows: 0, disturbed: Instant::now() }
    }

    /// Records from Rumbai at a steady pace while `disturb` runs, and before and after it. It begins ever elsewhere
    /// between two captures: by the golden ratio, so that a few flows have tried the whole span evenly.
    pub(crate) fn flow(&mut self, disturb: impl FnOnce(&mut City, &mut Lab)) -> Vec<Sent> {
        let stop = &AtomicBool::new(false);
        let (url, first) = (self.city.intake("rumbai"), self.records);
        let begins = AROUND + PAUSE.mul_f64(f64::from(self.blows) * GOLDEN_RATIO % 1.0);
        self.blows += 1;
        let (city, lab, disturbed) = (&mut self.city, &mut self.lab, &mut self.disturbed);
        let sent = thread::scope(|scope| {
            let counter = scope.spawn(|| steadily(&url, first, stop));
            let stopping = StopOnDrop(stop);
            // The schedule of the drill, not a wait for anything.
            thread::sleep(begins);
            *disturbed = Instant::now();
            disturb(city, lab);
            thread::sleep(AROUND);
            drop(stopping);
            counter.join().unwrap()
        });
        self.records += sent.len() as u64;
        sent
    }

    /// The longest that no record of a flow was committed, and the longest that one took.
    pub(crate) fn delays(&self, sent: &[Sent]) -> (Duration, Duration) {
        delays(&self.commits, sent)
    }

    /// The same, but of the pauses only those that began within a second after the last flow was disturbed, or went on
    /// then, as long as they would have been with a counter whose own disk keeps the pace: other stalls of disks are no fault
    /// of the network.
    pub(crate) fn delays_of_the_blow(&self, sent: &[Sent]) -> (Duration, Duration) {
        (self.pause_of_the_blow(sent).0, self.delays(sent).1)
    }

    /// What the machine itself did to a flow: the longest that a processor of it stood still during that pause, and the
    /// longest that a record took before anything was disturbed.
    pub(crate) fn noise(&self, sent: &[Sent]) -> (Duration, Duration) {
        let (_, begin, end) = self.pause_of_the_blow(sent);
        let before = sent.iter().zip(self.moments(sent)).filter(|(_, commit)| *commit < self.disturbed);
        let slowest = before.map(|(sent, commit)| commit.saturating_duration_since(sent.promised)).max();
        (self.stalls.longest_within(begin, end), slowest.unwrap())
    }

    /// That pause, with its begin and its end.
    fn pause_of_the_blow(&self, sent: &[Sent]) -> (Duration, Instant, Instant) {
        let mut commits: Vec<(Instant, Instant)> =
            self.moments(sent).into_iter().zip(sent.iter().map(|sent| sent.promised)).collect();
        commits.sort();
        let pauses = commits.windows(2).enumerate().filter_map(|(index, pause)| {
            let (last, end) = (pause[0].0, pause[1].0);
            let waits_since = commits[index + 1..].iter().map(|(_, promised)| *promised).min()?;
            let struck = end > self.disturbed && last < self.disturbed + BLOW;
            struck.then(|| (end - last.max(waits_since - PAUSE), last, end))
        });
        pauses.max().unwrap()
    }

    /// How long in all no record was committed though one waited for it: what every such pause is longer than the pace of
    /// the flow. Up to twice that is how commits lie anyway; and while the counter waits for its own disk nobody waits for
    /// the network.
    pub(crate) fn time_without_progress(&self, sent: &[Sent]) -> Duration {
        let moments = self.moments(sent);
        let mut ends = moments.clone();
        ends.sort();
        let waited = ends.iter().enumerate().map(|(index, end)| {
            let waiting = sent.iter().zip(&moments).filter(|(_, commit)| *commit >= end);
            let since = waiting.map(|(sent, _)| sent.promised).min().unwrap();
            let since = if index == 0 { since } else { since.max(ends[index - 1]) };
            end.saturating_duration_since(since)
        });
        waited.filter(|span| *span > PAUSE * 2).map(|span| span - PAUSE).sum()
    }

    /// How long each record of a flow took from the counter to its commit, shortest first.
    pub(crate) fn latencies(&self, sent: &[Sent]) -> Vec<Duration> {
        let moments = self.moments(sent);
        let latencies = sent.iter().zip(moments).map(|(sent, commit)| commit.saturating_duration_since(sent.begun));
        let mut latencies: Vec<Duration> = latencies.collect();
        latencies.sort();
        latencies
    }

    fn moments(&self, sent: &[Sent]) -> Vec<Instant> {
        moments(&self.commits, sent)
    }

    /// Waits until nobody owes anybody an answer: nothing is held on the way of the flow.
    pub(crate) fn wait_until_idle(&self) {
        wait_for("nothing is under way", || {
            let held: Option<u64> = OLD_WAY.iter().map(|node| self.city.metric(node, "estafet_records_held")).sum();
            (held? == 0).then_some(())
        });
    }

    /// How often a neighbor was given up in the whole area.
    pub(crate) fn deaths(&self) -> u64 {
        let of = |node: String| wait_for("its metrics", || self.city.metric(&node, "estafet_neighbor_deaths_total"));
        self.city.node_ids().into_iter().map(of).sum()
    }
}

/// The records of flows, for the oracle.
pub(crate) fn all_given(flows: impl IntoIterator<Item = Vec<Sent>>) -> Vec<Given> {
    flows.into_iter().flatten().map(|sent| sent.given).collect()
}

/// The longest that no record of a flow was committed, and the longest that one took.
pub(crate) fn delays(commits: &Commits, sent: &[Sent]) -> (Duration, Duration) {
    let moments = moments(commits, sent);
    let slowest = sent.iter().zip(&moments).map(|(sent, commit)| commit.saturating_duration_since(sent.promised));
    let slowest = slowest.max().unwrap();
    (gaps(moments).max().unwrap(), slowest)
}

fn moments(commits: &Commits, sent: &[Sent]) -> Vec<Instant> {
    let records: Vec<&str> = sent.iter().map(|sent| sent.given.record_id.as_str()).collect();
    commits.moments(&records)
}

fn gaps(mut moments: Vec<Instant>) -> impl Iterator<Item = Duration> {
    moments.sort();
    let later: Vec<Instant> = moments.iter().skip(1).copied().collect();
    later.into_iter().zip(moments).map(|(later, earlier)| later - earlier)
}

/// Ends a flow, also when its test panics: otherwise it would be waited for.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) fn steadily(url: &str, first: u64, stop: &AtomicBool) -> Vec<Sent> {
    let agent = agent();
    let (start, mut sent) = (Instant::now(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let body = noise(first + sent.len() as u64, RECORD_BYTES);
        let begun = Instant::now();
        let answer = post_by(&agent, url, &body, &[]).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        sent.push(Sent { given: given(&answer, &body), begun, promised: Instant::now() });
        let next = start + PAUSE * u32::try_from(sent.len()).unwrap();
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

/// The pauses of trials one by one, with the noise of each.
pub(crate) fn in_its_turn(gaps: &[Duration], noises: Vec<(Duration, Duration)>) -> String {
    let (stalls, before): (Vec<Duration>, Vec<Duration>) = noises.into_iter().unzip();
    format!(
        "each in its turn: {gaps:.0?}; a processor of this machine stood still for {stalls:.0?} meanwhile, and before it the \
         slowest record took {before:.0?}"
    )
}

pub(crate) fn median(spans: &mut [Duration]) -> Duration {
    spans.sort();
    spans[spans.len() / 2]
}

/// How long until Rumbai's first choice is this neighbor.
pub(crate) fn time_until_first_hop(city: &City, neighbor: &str) -> Duration {
    let begin = Instant::now();
    wait_for("another first hop", || (city.next_hops("rumbai")?.get("rumbai")? == neighbor).then_some(()));
    begin.elapsed()
}
