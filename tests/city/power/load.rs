//! Counters that do not give up: they repeat a request with its key until they have a slip.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::batches::{MULTIPART, Part, all_given, multipart};
use crate::harness::{Given, agent, given, noise, post_by, wait_for};

/// How many counters hand in at once where speed is wanted: syncs are shared.
const CLERKS: u64 = 16;

/// One request of so many is a batch.
const BATCHES: u32 = 16;

/// The sizes of records: mostly letters and photographs, now and then a scan of many chunks.
fn length(random: &mut SmallRng) -> usize {
    if random.random_ratio(1, 8) {
        random.random_range(64 << 10..600 << 10)
    } else {
        random.random_range(1 << 10..64 << 10)
    }
}

/// Hands in a batch; nothing if not every record of it was taken.
fn all_taken(agent: &ureq::Agent, url: &str, records: &[(String, Vec<u8>)]) -> Option<Vec<Given>> {
    let keys: Vec<_> = records.iter().map(|(key, _)| [("idempotency-key", key.as_str())]).collect();
    let parts: Vec<Part<'_>> = keys.iter().zip(records).map(|(key, (_, body))| (&key[..], &body[..])).collect();
    let answer = post_by(agent, &url.replace("/records", "/batches"), &multipart(&parts), &[MULTIPART]).ok()?;
    (answer.status == 201).then(|| all_given(&answer, &parts))
}

/// Hands in records at `url` until told to stop, and returns what was promised. The record that is on its way when
/// the word comes is handed in to its end; now and then it is a batch of them.
pub(crate) fn counter(url: &str, seed: u64, stop: &AtomicBool) -> Vec<Given> {
    let mut random = SmallRng::seed_from_u64(seed);
    let agent = agent();
    let mut slips = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let count = if random.random_ratio(1, BATCHES) { random.random_range(2..8) } else { 1 };
        let records: Vec<(String, Vec<u8>)> = (slips.len()..slips.len() + count)
            .map(|number| (format!("{seed}-{number}"), noise(random.random(), length(&mut random))))
            .collect();
        slips.extend(match &records[..] {
            [(key, body)] => vec![wait_for("a slip", || {
                let answer = post_by(&agent, url, body, &[("idempotency-key", key)]).ok()?;
                (answer.status == 201).then(|| given(&answer, body))
            })],
            records => wait_for("the slips of a batch", || all_taken(&agent, url, records)),
        });
        // A clerk's pause, shortened: it bounds how much a test writes.
        thread::sleep(Duration::from_millis(random.random_range(0..20)));
    }
    slips
}

/// Hands in one record for each seed, all of `length`, as fast as they are taken.
pub(crate) fn hand_in(url: &str, seeds: Range<u64>, length: usize) -> Vec<Given> {
    thread::scope(|scope| {
        let clerk = |clerk: u64| {
            let agent = agent();
            let mine = seeds.clone().filter(|seed| seed % CLERKS == clerk);
            let post = |seed| {
                let body = noise(seed, length);
                let answer = post_by(&agent, url, &body, &[]).unwrap();
                assert_eq!(answer.status, 201, "{}", answer.body);
                given(&answer, &body)
            };
            mine.map(post).collect::<Vec<_>>()
        };
        let clerks: Vec<_> = (0..CLERKS).map(|number| scope.spawn(move || clerk(number))).collect();
        clerks.into_iter().flat_map(|clerk| clerk.join().unwrap()).collect()
    })
}

/// A number that whoever runs the tests may set.
pub(crate) fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().unwrap_or_else(|error| panic!("{variable}: {error}")))
}
