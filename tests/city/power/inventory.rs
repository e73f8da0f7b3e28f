//! Two neighbors that meet again say what they have in summaries, however much that is.

use std::thread;
use std::time::{Duration, Instant};

use super::lab::{LAB_TOOLS, Lab};
use super::load::{hand_in, number};
use super::namespace::{alone, report};
use crate::harness::{CHAIN, City, wait_for};

/// Receipted, or held at both ends, when the link is cut; 100,000 by `ESTAFET_RECORDS`.
const RECORDS: u64 = 20_000;
const RECORD_BYTES: usize = 200;

/// A reconnection ends when nothing but heartbeats passes: this long after both ends have come up.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The main server has little room, and then lives and takes nothing.
const NO_ROOM: &str = "\n[spool]\nbytes_max = \"1MiB\"\n";
const FILLING_BYTES: usize = 100 << 10;

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

#[test]
fn a_reconnection_with_many_unreceipted_records_at_both_ends_costs_little() {
    let name = "power::inventory::a_reconnection_with_many_unreceipted_records_at_both_ends_costs_little";
    alone(name, LAB_TOOLS, || {
        let records = number("ESTAFET_RECORDS").unwrap_or(RECORDS);
        let mut city = City::new("pekanbaru-2013");
        let config = std::fs::read_to_string(city.config("induk")).unwrap();
        std::fs::write(city.config("induk"), config + NO_ROOM).unwrap();
        CHAIN.iter().for_each(|node| city.start(node));
        city.wait_for_path(&CHAIN);
        let lab = Lab::new(&city);
        let url = city.intake("rumbai");
        wait_for("the main server is full", || {
            hand_in(&url, 0..4, FILLING_BYTES);
            city.log("induk").contains("the store is full").then_some(())
        });
        hand_in(&url, 0..records, RECORD_BYTES);
        let held = |node: &str| city.metric(node, "estafet_records_held");
        let parked = wait_for("both ends hold them", || {
            let both = held("sukajadi").filter(|parked| *parked >= records && held("rumbai") == Some(*parked));
            both.filter(|_| is_all_accepted(&city, "rumbai"))
        });
        lab.cut("rumbai", "sukajadi");
        for node in ["rumbai", "sukajadi"] {
            wait_for("the session is given up", || city.log(node).contains("adjacency down").then_some(()));
        }
        let before = lab.bytes_both_ways("rumbai", "sukajadi");
        lab.heal("rumbai", "sukajadi");
        city.wait_for_path(&CHAIN);
        let healed = Instant::now();
        wait_for("the origin knows again that the next hop has them", || {
            is_all_accepted(&city, "rumbai").then_some(())
        });
        let known = healed.elapsed();
        thread::sleep(SETTLED_AFTER);
        let carried = lab.bytes_both_ways("rumbai", "sukajadi") - before;
        report(&format!(
            "inventory: a reconnection with {parked} unreceipted records at both ends carries {:.1} KiB, both ways, and \
             the origin knows after {known:.1?} that the next hop has them",
            carried as f64 / 1024.0
        ));
        assert!(carried < RECONNECTION_BYTES_MAX, "{carried} bytes passed");
        assert_eq!((held("rumbai"), held("sukajadi")), (Some(parked), Some(parked)), "they were to wait at both ends");
    });
}

/// Nothing that the node holds is still to be handed on.
fn is_all_accepted(city: &City, node: &str) -> bool {
    ["waiting", "offered"].iter().all(|state| {
        let listed = city.run(&["--node", node, "records", "--state", state, "--limit", "1"]);
        listed.status.success() && listed.stdout.is_empty()
    })
}
