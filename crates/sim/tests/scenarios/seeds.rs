//! Anything may fail at any time, as a seed decides; then all is healed, and everything must arrive.

use std::time::Duration;

use estafet_model::Class;
use estafet_topology::Template;

use estafet_sim::{City, Place, Seeded, millis};

const SEEDS: u64 = 120;

/// How many things happen before the city is healed.
const STEPS: usize = 40;

const SIZES: [usize; 6] = [0, 1 << 10, 4 << 10, 20 << 10, 64 << 10, 600 << 10];

fn something_happens(city: &mut City, seeded: &mut Seeded) {
    let nodes = city.node_ids();
    let node = seeded.pick(&nodes);
    let link = seeded.below(city.link_count());
    match seeded.below(20) {
        0..10 => {
            let class = seeded.pick(&Class::ALL);
            let bytes = seeded.pick(&SIZES);
            if city.is_running(&node) {
                for _ in 0..=seeded.below(4) {
                    city.capture(node.as_str(), class, bytes);
                }
            }
        }
        10..13 => city.kill(&node),
        13..16 => city.restart(&node),
        16..18 => city.cut(link),
        18 => city.heal(link),
        _ => city.kill(&"induk".parse().unwrap()),
    }
}

fn survives(template: Template, seed: u64) {
    let mut city = City::new(Place::Known(template), seed);
    let mut seeded = Seeded::new(seed ^ 0xfa17);
    city.run_for(millis(500));
    for _ in 0..STEPS {
        something_happens(&mut city, &mut seeded);
        city.run_for(seeded.micros(1_000, 500_000));
        city.check_slips();
    }
    city.heal_all();
    city.must_deliver_within(Duration::from_secs(90));
}

#[test]
fn whatever_fails_everything_arrives_once_it_is_healed() {
    for seed in 0..SEEDS {
        survives(Template::Pekanbaru, seed);
    }
}

#[test]
fn the_tree_of_2013_loses_nothing_either() {
    for seed in 1_000..1_000 + SEEDS / 3 {
        survives(Template::Pekanbaru2013, seed);
    }
}
