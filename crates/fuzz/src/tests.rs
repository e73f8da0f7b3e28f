//! A little of it without the engine, so that the targets stay alive between two fuzzings.

use std::path::Path;

use crate::TARGETS;

/// How many damaged copies of a seed are tried, spread over all its bits.
const DAMAGED: usize = 64;

#[test]
fn every_target_takes_its_seeds_and_what_was_found_before() {
    for target in TARGETS {
        (target.check)(&[]);
        for seed in (target.seeds)() {
            (target.check)(&seed);
        }
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found").join(target.name);
        for file in std::fs::read_dir(found).into_iter().flatten() {
            (target.check)(&std::fs::read(file.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn every_target_takes_damaged_seeds() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            for bit in (0..seed.len() * 8).step_by((seed.len() * 8 / DAMAGED).max(1) | 1) {
                let mut damaged = seed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                (target.check)(&damaged);
                (target.check)(&damaged[..bit / 8]);
            }
        }
    }
}
