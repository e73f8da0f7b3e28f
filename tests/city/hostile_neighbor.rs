//! A neighbor in the wrong hands: it has the real key of Sukajadi, whose relay does not run, and misbehaves by script. Whatever
//! it does, no slip that an honest office gave is lost, no relay falls, and what it costs is bounded.

mod cable;
mod custody;
mod floods;
mod junk;
mod lies;
mod records;

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use estafet_intruder::{Intruder, Intrusion, Polite, Taking, Trouble};
use estafet_wire::Frame;
use tokio::runtime::Runtime;

use crate::harness::{City, wait_for};

/// The honest relays: the main server, an office that the intruder stands before, and the office that has another way.
const HONEST: [&str; 3] = ["induk", "rumbai", "senapelan"];

/// More than any relay takes here, with room; a flood that is kept in memory is a multiple of it.
const MEMORY_MIB_MAX: u64 = 160;

/// A city with an intruder in it.
struct Scene {
    city: City,
    intruder: Intruder,
    runtime: Runtime,
}

impl Scene {
    /// The honest relays run, and the intruder has said nothing yet. It comes from an address of its own.
    fn new() -> Self {
        Self::prepared(|_| ())
    }

    /// The same in a city that is changed before its relays start.
    fn prepared(prepare: impl FnOnce(&City)) -> Self {
        let mut city = City::new("pekanbaru");
        prepare(&city);
        HONEST.iter().for_each(|node| city.start(node));
        for office in ["rumbai", "senapelan"] {
            wait_for("an honest office has a way", || city.next_hops(office)?.get(office).cloned());
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let intruder = {
            let _entered = runtime.enter();
            Intruder::of_city(city.dir(), "sukajadi", SocketAddr::from(([127, 0, 0, 2], 0))).unwrap()
        };
        Self { city, intruder, runtime }
    }

    fn run<T>(&self, script: impl Future<Output = T>) -> T {
        self.runtime.block_on(script)
    }

    /// A session with a relay, that is let in when it is not kept out (any more).
    fn join(&self, relay: &str) -> Intrusion {
        wait_for("the intruder is let in", || self.run(self.intruder.join(relay)).ok())
    }

    /// A session that is kept alive.
    fn join_politely(&self, relay: &str, taking: Taking) -> (Polite, tokio::sync::mpsc::UnboundedReceiver<Frame>) {
        let joined = self.join(relay);
        self.run(async { joined.be_polite(taking) })
    }

    /// With which words the relay does not let the intruder in.
    fn refused(&self, relay: &str) -> Option<String> {
        match self.run(self.intruder.join(relay)) {
            Ok(_) => None,
            Err(Trouble::Lost(words)) => Some(words),
            Err(other) => panic!("{other}"),
        }
    }

    /// For how many seconds a relay has kept the intruder out, one time after the other.
    fn exclusions(&self, relay: &str) -> Vec<u64> {
        let log = self.city.log(relay);
        let of_line = |line: &str| line.split("for_s=").nth(1)?.split_whitespace().next()?.parse().ok();
        log.lines().filter_map(of_line).collect()
    }

    /// No relay has fallen or eaten the machine's memory, and none complains without end.
    fn assert_unharmed(&self) {
        for relay in HONEST {
            let log = self.city.log(relay);
            assert!(!log.contains("panicked"), "{log}");
            let lines = log.lines().count();
            assert!(lines < 2_000, "{relay} has written {lines} lines");
            let peak = peak_mib(self.city.pid(relay));
            assert!(peak < MEMORY_MIB_MAX, "{relay} took {peak} MiB");
        }
    }
}

/// The most memory that a process ever had.
fn peak_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

/// Does something again and again for so long; says how often.
async fn again_and_again<F: Future<Output = bool>>(span: Duration, mut action: impl FnMut(u64) -> F) -> u64 {
    let until = Instant::now() + span;
    let mut count = 0;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, action(count)).await {
            Ok(true) => count += 1,
            Ok(false) | Err(_) => break,
        }
    }
    count
}
