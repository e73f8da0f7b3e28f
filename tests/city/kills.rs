//! Any relay, the main server included, dies at any moment: every slip is honored all the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{City, Given, given, noise, post};

const RECORDS_PER_OFFICE: usize = 100;
const RECORD_BYTES: usize = 64 << 10;
const KILLS: usize = 20;

/// A counter that does not give up: it repeats a request with its key until it has a slip.
fn counter(url: &str, office: u64, done: &AtomicUsize) -> Vec<Given> {
    let mut slips = Vec::with_capacity(RECORDS_PER_OFFICE);
    for number in 0..RECORDS_PER_OFFICE as u64 {
        let body = noise(office * 1_000 + number, RECORD_BYTES);
        let key = format!("{office}-{number}");
        slips.push(crate::harness::wait_for("a slip", || {
            let answer = post(url, &body, &[("idempotency-key", &key)]).ok()?;
            (answer.status == 201).then(|| given(&answer, &body))
        }));
        done.fetch_add(1, Ordering::Relaxed);
    }
    slips
}

#[test]
fn kill_9_at_twenty_random_moments_loses_nothing_and_commits_nothing_twice() {
    let seed =
        std::env::var("ESTAFET_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random::<u64>);
    println!("repeat with ESTAFET_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut city = City::running("pekanbaru");
    let done = AtomicUsize::new(0);
    let urls: Vec<String> = city.offices().iter().map(|office| city.intake(office)).collect();
    let nodes = city.node_ids();
    let slips = thread::scope(|scope| {
        let done = &done;
        let counters: Vec<_> =
            (0u64..).zip(&urls).map(|(office, url)| scope.spawn(move || counter(url, office, done))).collect();
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(random.random_range(10..300)));
            let victim = &nodes[random.random_range(0..nodes.len())];
            println!("kill -9 {victim} after {} slips", done.load(Ordering::Relaxed));
            city.kill(victim);
            thread::sleep(Duration::from_millis(random.random_range(10..500)));
            city.start(victim);
        }
        counters.into_iter().flat_map(|counter| counter.join().unwrap()).collect::<Vec<Given>>()
    });
    assert_eq!(slips.len(), RECORDS_PER_OFFICE * urls.len());
    city.assert_honored(&slips);
}
