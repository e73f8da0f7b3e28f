//! What the main server loses of what it had committed comes back from the offices.

use std::time::Duration;

use estafet_model::{Class, RecordId};
use estafet_sim::{City, id};
use estafet_topology::Template;

const SECOND: Duration = Duration::from_secs(1);

/// Rumbai's records, committed and gone from everybody's custody. It is behind a branch.
fn delivered(seed: u64) -> (City, Vec<RecordId>) {
    let mut city = City::settled(Template::Pekanbaru2013, seed);
    let tokens: Vec<_> = (0..12).map(|_| city.capture("rumbai", Class::Normal, 40 << 10)).collect();
    city.must_deliver_within(60 * SECOND);
    let records = tokens.into_iter().map(|token| city.slip(token)).collect();
    (city, records)
}

#[test]
fn a_record_that_rots_at_the_main_server_comes_again_without_any_restart() {
    let (mut city, _) = delivered(1);
    let rotten = city.rot_a_record(&id("induk")).expect("it has complete segments");
    assert!(!city.is_committed(&rotten));
    city.must_deliver_within(30 * SECOND);
    assert!(city.is_committed(&rotten));
    assert!(city.oracle().excused().is_empty());
}

#[test]
fn an_archive_that_is_lost_or_an_old_copy_is_filled_again() {
    let hub = id("induk");
    for seed in 2..6 {
        let (mut city, records) = delivered(seed);
        let backup = city.backup(&hub);
        for _ in 0..4 {
            city.capture("rumbai", Class::Normal, 40 << 10);
        }
        city.must_deliver_within(30 * SECOND);
        city.restore(&hub, backup);
        city.restart(&hub);
        city.must_deliver_within(60 * SECOND);
        city.lose_disk(&hub);
        city.restart(&hub);
        city.must_deliver_within(60 * SECOND);
        assert!(records.iter().all(|record| city.is_committed(record)));
        assert!(city.oracle().excused().is_empty());
    }
}
