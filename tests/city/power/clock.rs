//! A wall clock that jumps in the middle of a death.
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
use crate::harness::{City, program};

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

/// How long the power is away: longer than what counts as the pulse of a breaker.
const AWAY: Duration = Duration::from_secs(4);

/// What all relays take for the time of day.
struct Clock {
    library: PathBuf,
    jump: PathBuf,
}

impl Clock {
    fn new(city: &City) -> Self {
        let [source, library, jump] = ["clock.c", "clock.so", "clock.jump"].map(|name| city.dir().join(name));
        fs::write(&source, JUMPING_CLOCK).unwrap();
        run("cc", &["-shared", "-fPIC", "-o", library.to_str().unwrap(), source.to_str().unwrap()]);
        let clock = Self { library, jump };
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
        relay.env("LD_PRELOAD", &self.library).env("CLOCK_JUMP", &self.jump);
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
        let since_1970 = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
        let mut all = Vec::new();
        for (jump, what) in [(DAY, "a day ahead"), (DAY - since_1970, "to 1970")] {
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
