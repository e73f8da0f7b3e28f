//! Wall clocks that jump in the middle of a death, and such that disagree.
//!
//! The relays ask a library of the test's own for the time of day. Nothing else on the machine notices.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime};

use super::flow::{Network, OLD_WAY, all_given, time_until_first_hop};
use super::lab::{LAB_TOOLS, Lab};
use super::namespace::{alone, report, run};
use crate::drain::shown;
use crate::harness::{City, capture, noise, program, wait_for};

/// Adds to the time of day the seconds that stand in the file that `CLOCK_JUMP` names.
const JUMPING_CLOCK: &str = r#"#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static const volatile long *jump;
__attribute__((constructor)) static void find(void) {
  int file = open(getenv("CLOCK_JUMP"), O_RDONLY);
  void *mapped = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) abort();
  jump = mapped;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && clock == CLOCK_REALTIME) now->tv_sec += *jump;
  return failed;
}
"#;

const DAY: i64 = 86_400;

/// The day on which the seconds since 1970 need more than 31 bits.
const IN_2038: i64 = 1 << 31;

/// How long the power is away: longer than what counts as the pulse of a breaker.
const AWAY: Duration = Duration::from_secs(4);

/// What all relays take for the time of day.
struct Clock {
    shim: PathBuf,
    jump: PathBuf,
}

impl Clock {
    fn new(city: &City) -> Self {
        let [source, shim, jump] = ["clock.c", "clock.so", "clock.jump"].map(|name| city.dir().join(name));
        fs::write(&source, JUMPING_CLOCK).unwrap();
        run("cc", &["-shared", "-fPIC", "-o", shim.to_str().unwrap(), source.to_str().unwrap()]);
        let clock = Self { shim, jump };
        clock.jump(0);
        clock
    }

    /// Another clock, that of one node.
    fn of(&self, node: &str) -> Self {
        let clock = Self { shim: self.shim.clone(), jump: self.jump.with_file_name(format!("clock.{node}")) };
        clock.jump(0);
        clock
    }

    /// From now on it is so many seconds later than it is.
    fn jump(&self, seconds: i64) {
        // Over what is there: the relays have mapped the file.
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&self.jump).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &seconds.to_ne_bytes(), 0).unwrap();
    }

    fn start(&self, city: &mut City, node: &str) {
        let mut relay = Command::new(program("estafet-relay"));
        relay.arg("run").arg("--config").arg(city.config(node));
        relay.env("LD_PRELOAD", &self.shim).env("CLOCK_JUMP", &self.jump);
        city.start_as(node, relay);
    }
}

#[test]
fn a_clock_that_jumps_during_a_death_changes_nothing() {
    let tools = [LAB_TOOLS, &["cc"]].concat();
    alone("power::clock::a_clock_that_jumps_during_a_death_changes_nothing", &tools, || {
        let mut city = City::new("pekanbaru");
        let (lab, clock) = (Lab::new(&city), Clock::new(&city));
        city.node_ids().iter().for_each(|node| clock.start(&mut city, node));
        city.wait_until_whole();
        let mut network = Network::of(city, lab);
        let since_1970 = since_1970();
        let mut all = Vec::new();
        for (jump, what) in [(DAY, "a day ahead"), (IN_2038 - since_1970, "to 2038"), (DAY - since_1970, "to 1970")] {
            let sent = network.flow(|city, lab| {
                lab.silence("sukajadi");
                clock.jump(jump);
                city.kill("sukajadi");
                time_until_first_hop(city, "senapelan");
            });
            let (gap, slowest) = network.delays_of_the_blow(&sent);
            thread::sleep(AWAY);
            network.lab.hear_again("sukajadi");
            clock.start(&mut network.city, "sukajadi");
            network.city.wait_for_path(&OLD_WAY);
            report(&format!(
                "the clock jumps {what} as sukajadi dies: no commit for {gap:.0?}, the slowest record took {slowest:.0?}"
            ));
            // One death each: a disk may stall in it, but nothing waits for the wall clock.
            assert!(gap < Duration::from_secs(3));
            all.extend(all_given([sent]));
        }
        assert!(network.city.log("rumbai").lines().any(|line| line.contains("1970-01-02T")), "its clock did jump");
        network.city.assert_honored(&all);
    });
}

fn since_1970() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed()
}

#[test]
fn clocks_that_disagree_by_decades_refuse_nothing_and_are_shown() {
    alone("power::clock::clocks_that_disagree_by_decades_refuse_nothing_and_are_shown", &["cc"], || {
        let mut city = City::new("pekanbaru");
        let true_clock = Clock::new(&city);
        let [in_2038, in_1970] = ["rumbai", "sukajadi"].map(|node| true_clock.of(node));
        in_2038.jump(IN_2038 + DAY - since_1970());
        in_1970.jump(DAY - since_1970());
        for node in city.node_ids() {
            let clock = match node.as_str() {
                "rumbai" => &in_2038,
                "sukajadi" => &in_1970,
                _ => &true_clock,
            };
            clock.start(&mut city, &node);
        }
        city.wait_until_whole();
        city.wait_for_path(&OLD_WAY);
        let mut given: Vec<_> = (0..20).map(|seed| capture(&city.intake("rumbai"), &noise(seed, 4_096), &[])).collect();
        city.wait_until_receipted(20);
        for (seen_from, node, direction) in [("sukajadi", "rumbai", "ahead"), ("induk", "sukajadi", "behind")] {
            let row = wait_for("a skew", || shown(&city, seen_from, node).filter(|row| row["clock_skew_ms"].is_i64()));
            let decades = row["clock_skew_ms"].as_i64().unwrap() / 1_000 / DAY / 365 / 10;
            assert!(if direction == "ahead" { decades >= 5 } else { decades <= -5 }, "{row}");
        }

        // A node whose clock goes back, by a restart too, gives the numbers that follow, and takes a newer topology.
        city.kill("rumbai");
        in_2038.jump(DAY - since_1970());
        in_2038.start(&mut city, "rumbai");
        city.wait_for_path(&OLD_WAY);
        given.extend((20..40).map(|seed| capture(&city.intake("rumbai"), &noise(seed, 4_096), &[])));
        city.edit_topology(|text| text.replace("Kecamatan Rumbai\"", "Rumbai, in 1970\""));
        assert!(city.run(&["push"]).status.success());
        wait_for("the newer topology", || {
            let show = city.ask(&["show"])?;
            let nodes = show["nodes"].as_array()?;
            nodes.iter().all(|node| node["topology_version"] == show["newest_version"]).then_some(())
        });
        city.assert_honored(&given);
    });
}
