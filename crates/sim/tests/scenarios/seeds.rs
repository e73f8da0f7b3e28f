//! Anything may fail at any time, as a seed decides; then all is healed, and everything must arrive.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use estafet_sim::{Place, Run};
use estafet_topology::Template;

const SEEDS: u64 = 200;

/// Runs the seeds on all cores, and says of each that fails why, and how to see it again.
fn failures(seeds: u64) -> Vec<String> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut failures = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return failures;
            }
            let run = Run::of_seed(seed);
            let failure = run.run().failure;
            failures.extend(failure.map(|why| format!("seed {seed}: {why}\n    again: {}", run.command())));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker reports every failure")).collect()
    })
}

#[test]
fn whatever_fails_no_promise_is_broken_and_everything_arrives_once_it_is_healed() {
    let failures = failures(SEEDS);
    assert!(failures.is_empty(), "{} of {SEEDS} seeds fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for place in [Place::Known(Template::Pekanbaru), Place::Drawn(9)] {
        let run = |seed| Run { place, ..Run::of_seed(seed) }.run().digest;
        assert_eq!(run(7), run(7), "{place}");
        assert_ne!(run(7), run(8), "{place}");
    }
}

#[test]
fn an_hour_of_light_traffic_and_ordinary_trouble_breaks_no_promise() {
    let run = Run { hours: Some(1), ..Run::of_seed(1) };
    let report = run.run();
    assert_eq!(report.failure, None, "again: {}", run.command());
    assert!(report.virtual_time.as_secs() >= 3600);
}
