//! The power-cut rig: origin, branch and main server on real ext4, cut at random moments under load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::disk::{DISK_TOOLS, Disk};
use super::load::{counter, number};
use super::namespace::{alone, report, run};
use crate::harness::{CHAIN, City, Given, Verdict, capture, noise, program, said, wait_for};

/// Sparse; a round writes a good deal less.
const DISK_BYTES: u64 = 4 << 30;

/// A round has a city and disks of its own, so that a thousand cuts need no more disk than twenty-five.
const CUTS_PER_ROUND: usize = 25;

/// The counters of each node of the chain.
const COUNTERS: [(&str, u64); 3] = [("rumbai", 4), ("sukajadi", 2), ("induk", 1)];

/// A chain of relays, the data folder of each on a disk of its own.
struct Rig {
    city: City,
    disks: BTreeMap<&'static str, Disk>,
    /// Nodes whose relay believes that it syncs, while nothing is synced.
    liars: Vec<&'static str>,
    blind_sync: Option<PathBuf>,
}

impl Rig {
    fn new() -> Self {
        let city = City::new("pekanbaru-2013");
        let disk = |node| {
            let image = city.dir.join(format!("{node}.ext4"));
            (node, Disk::new(image, city.folder(node).join("data"), DISK_BYTES))
        };
        let disks = CHAIN.map(disk).into();
        Self { city, disks, liars: Vec::new(), blind_sync: None }
    }

    /// All relays run and the origin has a way to the main server.
    fn running() -> Self {
        let mut rig = Self::new();
        CHAIN.iter().for_each(|node| rig.start(node));
        rig.city.wait_for_path(&CHAIN);
        rig
    }

    fn start(&mut self, node: &'static str) {
        match &self.blind_sync {
            Some(library) if self.liars.contains(&node) => {
                let mut relay = Command::new(program("estafet-relay"));
                relay.arg("run").arg("--config").arg(self.city.config(node)).env("LD_PRELOAD", library);
                relay.env("LIE", library.with_extension("lie"));
                self.city.start_as(node, relay);
            }
            _ => self.city.start(node),
        }
    }

    /// The power of these nodes goes.
    fn cut(&mut self, nodes: &[&'static str]) {
        let relays: Vec<u32> = nodes.iter().map(|node| self.city.relay(node).id()).collect();
        Disk::cut(nodes.iter().map(|node| &self.disks[node]), &relays);
        for node in nodes {
            self.city.kill(node);
            self.disks[node].unmount();
        }
    }

    /// The power is back: the journal is replayed and the relay starts.
    fn restore(&mut self, nodes: &[&'static str]) {
        for node in nodes {
            self.disks[node].mount();
            self.start(node);
        }
    }

    /// How often the main server had to say that it has lost what it had given a receipt for.
    fn losses(&self) -> u64 {
        self.city.metric("rumbai", "estafet_receipt_losses_total").unwrap()
    }

    /// The oracle. Everything may take its time, but then every slip is committed exactly once with its bytes, the
    /// ledgers agree, and a fresh record passes.
    fn judge(&self, given: &mut Vec<Given>) -> Verdict {
        for (node, _) in COUNTERS {
            given.push(capture(&self.city.intake(node), &noise(given.len() as u64, 5_000), &[]));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let verdict = self.city.verdict(given);
            if verdict.is_good() || Instant::now() > deadline {
                return verdict;
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Processes first: their files must be closed before the folders go.
impl Drop for Rig {
    fn drop(&mut self) {
        for node in CHAIN {
            self.city.kill(node);
        }
    }
}

/// One round: so many cuts under load, then the oracle. Returns how many slips were given.
fn round(seed: u64, cuts: usize) -> usize {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rig = Rig::running();
    let stop = AtomicBool::new(false);
    let urls: Vec<String> =
        COUNTERS.iter().flat_map(|(node, count)| (0..*count).map(|_| rig.city.intake(node))).collect();
    let mut given = thread::scope(|scope| {
        let stop = &stop;
        let seeds = (0..).map(|number| seed.wrapping_add(number));
        let counters: Vec<_> =
            urls.iter().zip(seeds).map(|(url, seed)| scope.spawn(move || counter(url, seed, stop))).collect();
        for _ in 0..cuts {
            thread::sleep(Duration::from_millis(random.random_range(10..700)));
            let victims = match random.random_range(0..4) {
                0 => &CHAIN[0..1],
                1 => &CHAIN[1..2],
                2 => &CHAIN[2..3],
                _ => &CHAIN[..],
            };
            rig.cut(victims);
            thread::sleep(Duration::from_millis(random.random_range(0..400)));
            rig.restore(victims);
        }
        stop.store(true, Ordering::Relaxed);
        counters.into_iter().flat_map(|counter| counter.join().unwrap()).collect::<Vec<Given>>()
    });
    let verdict = rig.judge(&mut given);
    // The offices would heal a main server that forgets.
    assert_eq!(rig.losses(), 0, "a receipt was taken back; repeat with ESTAFET_SEED={seed} ESTAFET_CUTS={cuts}");
    assert!(verdict.is_good(), "{verdict}; repeat with ESTAFET_SEED={seed} ESTAFET_CUTS={cuts}");
    rig.city.assert_honored(&given);
    given.len()
}

#[test]
fn power_cuts_at_random_moments_lose_nothing_and_commit_nothing_twice() {
    alone("power::cuts::power_cuts_at_random_moments_lose_nothing_and_commit_nothing_twice", DISK_TOOLS, || {
        let seed = number("ESTAFET_SEED").unwrap_or_else(rand::random);
        let cuts = number("ESTAFET_CUTS").map_or(CUTS_PER_ROUND, |cuts| usize::try_from(cuts).unwrap());
        println!("repeat with ESTAFET_SEED={seed} ESTAFET_CUTS={cuts}");
        let begin = Instant::now();
        let (mut done, mut slips) = (0, 0);
        while done < cuts {
            let of_round = CUTS_PER_ROUND.min(cuts - done);
            slips += round(seed.wrapping_add(done as u64 * 1_000), of_round);
            done += of_round;
            println!("{done} cuts, {slips} slips, {:.0?}", begin.elapsed());
        }
        report(&format!(
            "power cuts: {cuts} in {:.0?} under load (seed {seed}): {slips} slips given, 0 lost, 0 committed twice",
            begin.elapsed()
        ));
    });
}

/// From the moment the file that `LIE` names is there, says that everything is synced, and syncs nothing. Before, it is
/// honest: a relay that starts looks whether its disk is written to.
const BLIND_SYNC: &str = r#"#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
static int lies(void) { const char *sign = getenv("LIE"); return sign && access(sign, F_OK) == 0; }
int fsync(int fd) { return lies() ? 0 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return lies() ? 0 : syscall(SYS_fdatasync, fd); }
"#;

fn blind_sync(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("blind_sync.c"), folder.join("blind_sync.so"));
    std::fs::write(&source, BLIND_SYNC).unwrap();
    run("cc", &["-shared", "-fPIC", "-o", library.to_str().unwrap(), source.to_str().unwrap()]);
    library
}

#[test]
fn a_relay_whose_syncs_reach_no_disk_does_not_start() {
    let tools = [DISK_TOOLS, &["cc"]].concat();
    alone("power::cuts::a_relay_whose_syncs_reach_no_disk_does_not_start", &tools, || {
        let city = City::new("pekanbaru");
        let library = blind_sync(&city.dir);
        std::fs::write(library.with_extension("lie"), "").unwrap();
        let mut relay = Command::new(program("estafet-relay"));
        relay.arg("run").arg("--config").arg(city.config("rumbai")).env("LD_PRELOAD", &library);
        let refused = relay.env("LIE", library.with_extension("lie")).output().unwrap();
        let said = said(&refused);
        assert!(!refused.status.success() && said.contains("--no-durability-i-know"), "{said}");
    });
}

#[test]
fn the_rig_finds_a_relay_that_does_not_sync() {
    let tools = [DISK_TOOLS, &["cc"]].concat();
    alone("power::cuts::the_rig_finds_a_relay_that_does_not_sync", &tools, || {
        const RECORDS: usize = 20;
        let found = ["rumbai", "induk"].map(|liar| {
            let mut rig = Rig::new();
            rig.blind_sync = Some(blind_sync(&rig.city.dir));
            rig.liars = vec![liar];
            // What the origin has not handed on is lost with its disk. What the main server has forgotten comes back
            // from the offices, and it has to say that it had.
            let waits_for_power = if liar == "rumbai" { &CHAIN[1..] } else { &[] };
            for node in CHAIN.iter().filter(|node| !waits_for_power.contains(node)) {
                rig.start(node);
            }
            if waits_for_power.is_empty() {
                rig.city.wait_for_path(&CHAIN);
            }
            wait_for("intake answers", || rig.city.metric("rumbai", "estafet_records_held"));
            let sign = rig.blind_sync.clone().unwrap().with_extension("lie");
            std::fs::write(&sign, "").unwrap();
            let url = rig.city.intake("rumbai");
            let given: Vec<Given> = (0..RECORDS as u64).map(|seed| capture(&url, &noise(seed, 20_000), &[])).collect();
            if waits_for_power.is_empty() {
                rig.city.wait_until_receipted(RECORDS as u64);
            }
            rig.cut(&[liar]);
            std::fs::remove_file(&sign).unwrap();
            rig.restore(&[liar]);
            waits_for_power.iter().for_each(|node| rig.start(node));
            rig.city.wait_for_path(&CHAIN);
            let fresh = capture(&url, &noise(99, 20_000), &[]);
            wait_for("a fresh record passes", || {
                rig.city.verdict(std::slice::from_ref(&fresh)).is_good().then_some(())
            });
            if liar == "induk" {
                wait_for("what was forgotten is back", || rig.city.verdict(&given).is_good().then_some(()));
            }
            (rig.city.verdict(&given).absent.len(), rig.losses())
        });
        let [(lost, _), (_, losses)] = found;
        assert!(lost > 0 && losses > 0, "relays that sync nothing are not found: {found:?}");
        report(&format!(
            "the rig's own test: an origin that does not sync loses {lost} of {RECORDS} slips; a main server says that it \
             forgot some, and has them again from the offices"
        ));
    });
}
