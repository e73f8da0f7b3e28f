//! Counters that do not give up: they repeat a request with its key until they have a slip.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Given, agent, given, noise, post_by, wait_for};

/// The sizes of records: mostly letters and photographs, now and then a scan of many chunks.
fn length(random: &mut SmallRng) -> usize {
    if random.random_ratio(1, 8) {
        random.random_range(64 << 10..600 << 10)
    } else {
        random.random_range(1 << 10..64 << 10)
    }
}

/// Hands in records at `url` until told to stop, and returns what was promised. The record that is on its way when
/// the word comes is handed in to its end.
pub(crate) fn counter(url: &str, seed: u64, stop: &AtomicBool) -> Vec<Given> {
    let mut random = SmallRng::seed_from_u64(seed);
    let agent = agent();
    let mut slips = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("{seed}-{}", slips.len());
        let body = noise(random.random(), length(&mut random));
        slips.push(wait_for("a slip", || {
            let answer = post_by(&agent, url, &body, &[("idempotency-key", &key)]).ok()?;
            (answer.status == 201).then(|| given(&answer, &body))
        }));
        // A clerk's pause, shortened: it bounds how much a test writes.
        std::thread::sleep(Duration::from_millis(random.random_range(0..20)));
    }
    slips
}
