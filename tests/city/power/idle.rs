//! What an area costs that has nothing to carry: bytes on its links, memory and processor time of its relays.

use std::thread;
use std::time::Duration;

use super::lab::{LAB_TOOLS, Lab};
use super::load::number;
use super::namespace::{alone, report};
use crate::harness::City;

/// Neighbors are spoken to at the quick pace for ten seconds after the last reason for it; here the beginning of the
/// sessions was one. The margin is for a machine that is busy itself.
const UNTIL_QUIET: Duration = Duration::from_secs(15);

/// How long is counted: ten heartbeats each way. `ESTAFET_SECONDS` counts longer.
const COUNTED_SECONDS: u64 = 20;

/// What an idle link may carry, both ways together, with all headers from IP on.
const LINK_BYTES_PER_SECOND: u64 = 200;

/// What an idle relay may hold in memory.
const MEMORY_BYTES: u64 = 40 << 20;

/// What an idle relay may take of a core, in thousandths.
const CORE_PER_MILLE: u128 = 10;

/// With these every office is a neighbor of the main server.
const LINKS_MORE: &str = r#"
[[link]]
ends = ["induk", "rumbai"]
medium = "radio"
cost = 100
capacity = "1Mbit"

[[link]]
ends = ["induk", "rumbai-pesisir"]
medium = "radio"
cost = 100
capacity = "1Mbit"
"#;

#[test]
fn an_idle_area_costs_next_to_nothing() {
    alone("power::idle::an_idle_area_costs_next_to_nothing", LAB_TOOLS, || {
        let mut city = City::new("pekanbaru");
        city.edit_topology(|text| text + LINKS_MORE);
        let lab = Lab::new(&city);
        city.start_all();
        thread::sleep(UNTIL_QUIET);

        let span = Duration::from_secs(number("ESTAFET_SECONDS").unwrap_or(COUNTED_SECONDS));
        let (passed, worked) = (lab.links(), processor_time(city.pid("induk")));
        thread::sleep(span);
        let (passed_then, worked_then) = (lab.links(), processor_time(city.pid("induk")));

        let of_induk = passed_then.keys().filter(|ends| ends.iter().any(|end| end == "induk"));
        assert_eq!(of_induk.count(), 12, "every office is its neighbor");
        let rates: Vec<u64> = passed_then.iter().map(|(link, then)| (then - passed[link]) / span.as_secs()).collect();
        let (mean, busiest) = (rates.iter().sum::<u64>() / rates.len() as u64, *rates.iter().max().unwrap());
        let per_mille = (worked_then - worked).as_micros() * 1_000 / span.as_micros();
        let memory = memory(city.pid("induk"));
        report(&format!(
            "an idle area of {} links, {} s: {mean} B/s on a link, {busiest} on the busiest; the main server with its 12 \
             neighbors takes {}.{} % of a core and {} MiB",
            rates.len(),
            span.as_secs(),
            per_mille / 10,
            per_mille % 10,
            memory >> 20
        ));
        assert!(busiest < LINK_BYTES_PER_SECOND && memory < MEMORY_BYTES && per_mille < CORE_PER_MILLE);
    });
}

/// User and system time of a process: fields 14 and 15 of `/proc/PID/stat`, of which the second is the name of the program in parentheses. The kernel counts
/// in hundredths of a second for everybody.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let hundredths: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(hundredths * 10)
}

fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kibibytes.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}
