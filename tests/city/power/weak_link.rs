//! A busy city has a link that carries next to nothing.

use std::thread;
use std::time::{Duration, Instant};

use super::lab::{LAB_TOOLS, Lab};
use super::load::hand_in;
use super::namespace::{alone, report};
use crate::harness::{City, wait_for};

/// What a bad day leaves of a fiber.
const WEAK_KILOBITS_PER_SECOND: u32 = 128;

const RECORDS_AT_ONCE: u64 = 20;
const RECORD_BYTES: usize = 1 << 10;

const BUSY_FOR: Duration = Duration::from_secs(10);

/// The office behind it has no other link: no record passes it, and all that its neighbors would tell it comes this way.
const OTHER_LINKS: [(&str, &str); 3] =
    [("sukajadi", "rumbai"), ("sukajadi", "rumbai-pesisir"), ("sukajadi", "senapelan")];

/// What receipts, link states and heartbeats of the whole city may take of it.
const SHARE_PERCENT: f64 = 40.0;

#[test]
fn what_a_busy_city_tells_leaves_a_weak_link_alive() {
    alone("power::weak_link::what_a_busy_city_tells_leaves_a_weak_link_alive", LAB_TOOLS, || {
        let city = City::running("pekanbaru");
        let mut lab = Lab::new(&city);
        lab.slow_down("sukajadi", "induk", WEAK_KILOBITS_PER_SECOND);
        for (one, other) in OTHER_LINKS {
            lab.cut(one, other);
        }
        wait_for("Rumbai goes around it", || (city.next_hops("rumbai")?.get("rumbai")? != "sukajadi").then_some(()));
        let bytes = || [lab.bytes("induk", "sukajadi"), lab.bytes("sukajadi", "induk")];
        let deaths = || city.log("sukajadi").matches("adjacency down neighbor=induk").count();
        let (start, before) = (Instant::now(), bytes());
        let (url, mut handed_in) = (city.intake("rumbai"), 0);
        while start.elapsed() < BUSY_FOR {
            hand_in(&url, handed_in..handed_in + RECORDS_AT_ONCE, RECORD_BYTES);
            handed_in += RECORDS_AT_ONCE;
            thread::sleep(Duration::from_millis(20));
        }
        let seconds = start.elapsed().as_secs_f64();
        let carries = f64::from(WEAK_KILOBITS_PER_SECOND) * 125.0 * seconds;
        let taken = bytes().into_iter().zip(before).map(|(after, before)| (after - before) as f64);
        let percent: Vec<f64> = taken.map(|bytes| bytes * 100.0 / carries).collect();
        let rate = handed_in as f64 / seconds;
        report(&format!(
            "{rate:.0} records/s in a city with a link of {WEAK_KILOBITS_PER_SECOND} kbit/s: what is told over it takes {:.0} and \
             {:.0} % of it",
            percent[0], percent[1]
        ));
        assert!(percent.iter().all(|percent| *percent <= SHARE_PERCENT), "{percent:.0?} %");
        assert_eq!(deaths(), 0, "the adjacency over it stays");
    });
}
