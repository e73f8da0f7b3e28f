//! Two neighbors that meet again say what they have in summaries, however much that is.

use std::thread;
use std::time::Duration;

use super::lab::{LAB_TOOLS, Lab};
use super::load::{hand_in, number};
use super::namespace::{alone, report};
use crate::harness::{CHAIN, City, wait_for};

/// Receipted before the link is cut; 100,000 by `ESTAFET_RECORDS`.
const RECORDS: u64 = 20_000;
const RECORD_BYTES: usize = 200;

/// A reconnection ends when nothing but heartbeats passes: this long after both ends have come up.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

const RECONNECTION_BYTES_MAX: u64 = 64 << 10;

#[test]
fn a_reconnection_after_many_receipted_records_costs_little() {
    alone("power::inventory::a_reconnection_after_many_receipted_records_costs_little", LAB_TOOLS, || {
        let records = number("ESTAFET_RECORDS").unwrap_or(RECORDS);
        let mut city = City::new("pekanbaru-2013");
        CHAIN.iter().for_each(|node| city.start(node));
        city.wait_for_path(&CHAIN);
        let lab = Lab::new(&city);
        hand_in(&city.intake("rumbai"), 0..records, RECORD_BYTES);
        wait_for("the origin has all receipts", || {
            (city.metric("rumbai", "estafet_records_receipted_total")? == records).then_some(())
        });
        lab.cut("rumbai", "sukajadi");
        for node in ["rumbai", "sukajadi"] {
            wait_for("the session is given up", || city.log(node).contains("adjacency down").then_some(()));
        }
        let before = lab.bytes_both_ways("rumbai", "sukajadi");
        lab.heal("rumbai", "sukajadi");
        city.wait_for_path(&CHAIN);
        thread::sleep(SETTLED_AFTER);
        let carried = lab.bytes_both_ways("rumbai", "sukajadi") - before;
        report(&format!(
            "inventory: a reconnection after {records} receipted records carries {:.1} KiB in {SETTLED_AFTER:?}, both ways",
            carried as f64 / 1024.0
        ));
        assert!(carried < RECONNECTION_BYTES_MAX, "{carried} bytes passed");
    });
}
