//! A backlog: all offices of a city have waited for a main server that returns behind an access link of 100 Mbit/s.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::commits::Commits;
use super::lab::{LAB_TOOLS, Lab};
use super::load::{hand_in, number};
use super::namespace::{alone, report};
use crate::harness::{City, Given, agent, given, noise, post_by, program, wait_for};

/// What each office has captured while the main server was away, in a run of all tests; `ESTAFET_BACKLOG_RECORDS` makes
/// more. 400 are 2.4 GB in all: they take four minutes and 6 GB of disk.
const RECORDS: u64 = 24;
const RECORD_BYTES: usize = 512 << 10;

/// How much of a full access link is payload: a datagram of 1,452 bytes takes 1,494
/// with the headers of UDP, IP and Ethernet, and at most 1,411 of it are a stream's.
const PAYLOAD_SHARE: f64 = 1_411.0 / 1_494.0;

/// Who captures an urgent record each second meanwhile: two behind branches, and one next to the main server.
const URGENT_OFFICES: [&str; 3] = ["rumbai", "rumbai-pesisir", "sail"];
const URGENT_BYTES: usize = 64 << 10;
const URGENT_EVERY: Duration = Duration::from_secs(1);

/// How often a neighbor may dial in vain: an attempt takes a second and the pause after it at least another, but a few
/// times more often while the pauses are short.
const VAIN_EVERY: Duration = Duration::from_secs(2);
const VAIN_AT_FIRST: u64 = 6;

/// Sessions that a neighbor may begin with a main server that returns: both may dial at once, and one of the two stays.
const SESSIONS_MAX: u64 = 2;

/// What a drain is held to.
struct Bounds {
    /// What the main server's access link carries.
    kilobits_per_second: u32,
    goodput_min: f64,
    fairness_min: f64,
    urgent_p95_max: Duration,
}

/// A long one, on a machine that does nothing else.
const LONG: Bounds = Bounds {
    kilobits_per_second: 100_000,
    goodput_min: 0.9,
    fairness_min: 0.9,
    urgent_p95_max: Duration::from_secs(2),
};
const LONG_RECORDS: u64 = 100;

/// A short one, most of which is its beginning and its end, and during which others may build and test here: behind a link that a
/// slow disk keeps up with too.
const SHORT: Bounds = Bounds { kilobits_per_second: 50_000, goodput_min: 0.7, fairness_min: 0.8, ..LONG };

/// An urgent record, and when a clerk handed it in.
struct Urgent {
    given: Given,
    handed_in: Instant,
}

/// What was measured while the backlog went.
struct Drain {
    /// What the access link carries.
    kilobits_per_second: u32,
    /// From the return to the first commit, and from there to the last.
    first: Duration,
    lasted: Duration,
    /// The payload that was committed, and the bytes of IP that reached the main server.
    payload: u64,
    carried: u64,
    /// Of each office, what was committed when half of all was.
    shares: BTreeMap<String, u64>,
    /// From handing in to the commit, the quickest first.
    urgent: Vec<Duration>,
}

/// How the neighbors of the main server missed it.
struct Reconnection {
    away: Duration,
    /// Of the neighbor that did it most.
    vain_dials: u64,
    sessions: u64,
}

#[test]
fn a_main_server_that_returns_gets_the_backlog_as_fast_as_its_link_carries_it() {
    let test = "power::backlog::a_main_server_that_returns_gets_the_backlog_as_fast_as_its_link_carries_it";
    alone(test, LAB_TOOLS, || {
        let records = number("ESTAFET_BACKLOG_RECORDS").unwrap_or(RECORDS);
        let bounds = if records < LONG_RECORDS { &SHORT } else { &LONG };
        let mut city = City::new("pekanbaru");
        let mut lab = Lab::new(&city);
        lab.limit_access("induk", bounds.kilobits_per_second);
        for node in city.node_ids() {
            start_talkative(&mut city, &node);
        }
        city.wait_until_whole();

        city.kill("induk");
        let darkness = Instant::now();
        wait_for("nobody has a way to the main server", || {
            let ways = city.offices().iter().map(|office| Some(city.next_hops(office)?.len())).sum::<Option<usize>>();
            (ways? == 0).then_some(())
        });
        let mut all = capture_backlog(&city, records);
        let sessions_before = count_of_each(&city, "session up");
        let away = darkness.elapsed();

        start_talkative(&mut city, "induk");
        let (drain, urgent) = watch(&city, &lab, &all, bounds);
        let sessions = count_of_each(&city, "session up").into_iter().zip(sessions_before);
        let reconnection = Reconnection {
            away,
            vain_dials: count_of_each(&city, "dialing failed").into_iter().max().unwrap(),
            sessions: sessions.map(|(after, before)| after - before).max().unwrap(),
        };
        report(&format!(
            "a backlog of {} x {records} records of 512 KiB: {drain}; {reconnection}",
            city.offices().len()
        ));
        all.extend(urgent);
        city.assert_honored(&all);
        drain.assert_good(bounds);
        reconnection.assert_good();
    });
}

/// Starts a relay that tells of its dialing.
fn start_talkative(city: &mut City, node: &str) {
    let mut command = Command::new(program("estafet-relay"));
    command.arg("run").arg("--config").arg(city.config(node)).env("ESTAFET_LOG", "info,estafet_quic=debug");
    city.start_as(node, command);
}

fn capture_backlog(city: &City, records: u64) -> Vec<Given> {
    let offices = city.offices();
    let seeds = (0..).step_by(records.try_into().unwrap());
    let captured = offices
        .iter()
        .zip(seeds)
        .map(|(office, first)| hand_in(&city.intake(office), first..first + records, RECORD_BYTES));
    captured.flatten().collect()
}

/// How often each office's log says `what` of the main server.
fn count_of_each(city: &City, what: &str) -> Vec<u64> {
    let count = |office: &String| {
        let log = city.log(office);
        log.lines().filter(|line| line.contains(what) && line.contains("neighbor=induk")).count() as u64
    };
    city.offices().iter().map(count).collect()
}

/// Watches the backlog go, while counters hand in urgent records.
fn watch(city: &City, lab: &Lab, backlog: &[Given], bounds: &Bounds) -> (Drain, Vec<Given>) {
    let returned = Instant::now();
    let commits = Commits::of_a_new_one(city, "induk");
    let done = AtomicBool::new(false);
    let urgent: Vec<Urgent> = thread::scope(|scope| {
        let counters = URGENT_OFFICES.map(|office| {
            let (url, done) = (city.intake(office), &done);
            scope.spawn(move || hand_in_urgently(&url, done))
        });
        commits.wait_while_they_come(backlog.len());
        done.store(true, Ordering::Relaxed);
        counters.into_iter().flat_map(|counter| counter.join().unwrap()).collect()
    });
    let ids = |records: &mut dyn Iterator<Item = &Given>| {
        commits.moments(&records.map(|given| given.record_id.as_str()).collect::<Vec<_>>())
    };
    let moments = ids(&mut backlog.iter());
    let urgent_moments = ids(&mut urgent.iter().map(|urgent| &urgent.given));
    let (first, last) = (*moments.iter().min().unwrap(), *moments.iter().max().unwrap());
    let mut delays: Vec<Duration> = urgent.iter().zip(urgent_moments).map(|(sent, at)| at - sent.handed_in).collect();
    delays.sort();
    let urgent: Vec<Given> = urgent.into_iter().map(|urgent| urgent.given).collect();
    let drain = Drain {
        kilobits_per_second: bounds.kilobits_per_second,
        first: first - returned,
        lasted: last - first,
        payload: backlog.iter().chain(&urgent).map(|given| given.bytes).sum(),
        carried: city.offices().iter().map(|office| lab.bytes(office, "induk")).sum(),
        shares: shares_at_half(backlog, &moments),
        urgent: delays,
    };
    (drain, urgent)
}

/// Hands in an urgent record each second until the backlog is gone.
fn hand_in_urgently(url: &str, done: &AtomicBool) -> Vec<Urgent> {
    let (agent, begin, mut sent) = (agent(), Instant::now(), Vec::new());
    while !done.load(Ordering::Relaxed) {
        let body = noise(u64::MAX - sent.len() as u64, URGENT_BYTES);
        let handed_in = Instant::now();
        let answer = post_by(&agent, url, &body, &[("estafet-class", "urgent")]).unwrap();
        assert_eq!(answer.status, 201, "{}", answer.body);
        sent.push(Urgent { given: given(&answer, &body), handed_in });
        let next = begin + URGENT_EVERY * u32::try_from(sent.len()).unwrap();
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

/// What of each origin was committed when half of all bytes were.
fn shares_at_half(backlog: &[Given], moments: &[Instant]) -> BTreeMap<String, u64> {
    let origin = |given: &Given| given.record_id.split('.').next().unwrap().to_owned();
    let mut shares: BTreeMap<String, u64> = backlog.iter().map(|given| (origin(given), 0)).collect();
    let mut in_order: Vec<(&Instant, &Given)> = moments.iter().zip(backlog).collect();
    in_order.sort_by_key(|(at, _)| **at);
    for (_, given) in &in_order[..in_order.len() / 2] {
        *shares.get_mut(&origin(given)).unwrap() += given.bytes;
    }
    shares
}

impl Drain {
    /// How much of what the link carries of payload was used.
    fn goodput(&self) -> f64 {
        self.megabits_per_second() * 1_000.0 / f64::from(self.kilobits_per_second) / PAYLOAD_SHARE
    }

    fn megabits_per_second(&self) -> f64 {
        self.payload as f64 * 8e-6 / self.lasted.as_secs_f64()
    }

    /// Jain's index: 1 if all offices got the same, 1/n if one got all.
    fn fairness(&self) -> f64 {
        let (sum, squares) = self
            .shares
            .values()
            .fold((0.0, 0.0), |(sum, squares), share| (sum + *share as f64, squares + (*share as f64).powi(2)));
        sum * sum / (self.shares.len() as f64 * squares)
    }

    fn urgent_at(&self, percent: usize) -> Duration {
        self.urgent[(self.urgent.len() * percent).div_ceil(100) - 1]
    }

    fn assert_good(&self, bounds: &Bounds) {
        let is_good = self.goodput() >= bounds.goodput_min
            && self.fairness() >= bounds.fairness_min
            && self.urgent_at(95) < bounds.urgent_p95_max;
        assert!(is_good, "{:?}, {:?}", self.shares, self.urgent);
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, lasted, payload, carried, shares, urgent, .. } = self;
        let least = shares.values().min().unwrap() >> 19;
        let most = shares.values().max().unwrap() >> 19;
        write!(
            formatter,
            "first commit {first:.1?} after the return, the last {lasted:.1?} later, {:.1} Mbit/s of payload, {:.1} % of \
             what the link carries of it ({:.3} bytes of IP for each); when half was committed, {least} to {most} \
             records of each office, Jain's index {:.3}; {} urgent records meanwhile: {:.0?} (median), {:.0?} (p95), \
             {:.0?} (worst)",
            self.megabits_per_second(),
            self.goodput() * 100.0,
            *carried as f64 / *payload as f64,
            self.fairness(),
            urgent.len(),
            self.urgent_at(50),
            self.urgent_at(95),
            self.urgent_at(100),
        )
    }
}

impl Reconnection {
    fn assert_good(&self) {
        let vain_max = self.away.as_secs() / VAIN_EVERY.as_secs() + VAIN_AT_FIRST;
        assert!(self.vain_dials <= vain_max && self.sessions <= SESSIONS_MAX, "{self}");
    }
}

impl fmt::Display for Reconnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { away, vain_dials, sessions } = self;
        write!(
            formatter,
            "away for {away:.0?}: of one neighbor at most {vain_dials} vain dials and {sessions} sessions"
        )
    }
}
