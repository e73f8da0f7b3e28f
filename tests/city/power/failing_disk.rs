//! A disk that fails under load, or becomes read-only: the node promises nothing, says so, and has kept its promises
//! when the disk is well again. The others go on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::disk::{DISK_TOOLS, Disk};
use super::load::counter;
use super::namespace::{alone, report, run};
use crate::harness::{CHAIN, City, Given, capture, noise, post, wait_for};

/// The node whose disk fails: an origin and, as built in 2013, on nobody's way.
const SICK: &str = "rumbai";

/// Larger than what lies under it.
const DISK_BYTES: u64 = 1 << 30;

fn start(city: &mut City) {
    CHAIN.iter().for_each(|node| city.start(node));
    city.wait_for_path(&CHAIN);
}

/// The node says 503 in a clerk's words and shows it to the operator; its own process lives on without a panic, and
/// another node's counter does not notice.
fn assert_sick_but_honest(city: &City) -> Vec<Given> {
    let refused = wait_for("the counter is refused", || {
        let answer = post(&city.intake(SICK), &noise(1, 5_000), &[]).unwrap();
        (answer.status == 503).then_some(answer)
    });
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("NOT taken") && detail.contains("call the operator"), "{detail}");
    assert_eq!(city.metric(SICK, "estafet_spool_poisoned"), Some(1));
    let log = city.log(SICK);
    assert!(log.contains("ERROR") && !log.contains("panicked"), "{log}");
    (0..20).map(|seed| capture(&city.intake("sukajadi"), &noise(100 + seed, 20_000), &[])).collect()
}

/// The disk is well again and the node is started again: everything promised is there, and a fresh record passes.
fn assert_recovers(city: &mut City, disk: &Disk, mut given: Vec<Given>) -> usize {
    city.kill(SICK);
    disk.unmount();
    disk.mount();
    city.start(SICK);
    city.wait_for_path(&CHAIN);
    given.push(capture(&city.intake(SICK), &noise(2, 5_000), &[]));
    city.assert_honored(&given);
    given.len()
}

/// The number of the loop device that is mounted here, as /sys knows it.
fn device(mount: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == mount.to_str()).unwrap();
    line.split(' ').next().unwrap().trim_start_matches("/dev/").to_owned()
}

#[test]
fn a_file_system_that_becomes_read_only_is_no_place_for_promises() {
    alone("power::failing_disk::a_file_system_that_becomes_read_only_is_no_place_for_promises", DISK_TOOLS, || {
        let mut city = City::new("pekanbaru-2013");
        let mount = city.folder(SICK).join("data");
        let disk = Disk::new(city.dir.join("sick.ext4"), mount.clone(), DISK_BYTES);
        start(&mut city);
        let url = city.intake(SICK);
        // Not all of them will have their receipt.
        let mut given: Vec<Given> = (0..100).map(|seed| capture(&url, &noise(1_000 + seed, 20_000), &[])).collect();
        // ext4 finds a fault and protects itself. Nothing is being synced at this moment, because ext4 may say of a
        // sync that is under way that it went well.
        run("mount", &["-o", "remount,errors=remount-ro", mount.to_str().unwrap()]);
        let trigger = PathBuf::from("/sys/fs/ext4").join(device(&mount)).join("trigger_fs_error");
        std::fs::write(trigger, "as in a drill").unwrap();
        given.extend(assert_sick_but_honest(&city));
        let slips = assert_recovers(&mut city, &disk, given);
        report(&format!("read-only file system: 503 and no panic; after a restart all {slips} slips are honored"));
    });
}

#[test]
fn a_disk_that_fails_under_load_is_no_place_for_promises() {
    alone("power::failing_disk::a_disk_that_fails_under_load_is_no_place_for_promises", DISK_TOOLS, || {
        let mut city = City::new("pekanbaru-2013");
        // What lies under the disk has less room than the disk believes: when it is used up, writes fail with EIO.
        let under = city.dir.join("under");
        std::fs::create_dir(&under).unwrap();
        run("mount", &["-t", "tmpfs", "-o", "size=96m", "tmpfs", under.to_str().unwrap()]);
        let disk = Disk::new(under.join("sick.ext4"), city.folder(SICK).join("data"), DISK_BYTES);
        start(&mut city);
        let stop = AtomicBool::new(false);
        let urls = vec![city.intake(SICK); 4];
        let (given, slips_before) = thread::scope(|scope| {
            let stop = &stop;
            let counters: Vec<_> =
                urls.iter().zip(1..).map(|(url, seed)| scope.spawn(move || counter(url, seed, stop))).collect();
            wait_for("the disk fails", || (city.metric(SICK, "estafet_spool_poisoned")? == 1).then_some(()));
            let mut given = assert_sick_but_honest(&city);
            stop.store(true, Ordering::Relaxed);
            // The counters go on with what they have in hand until the disk is well again.
            run("mount", &["-o", "remount,size=900m", under.to_str().unwrap()]);
            city.kill(SICK);
            disk.unmount();
            disk.mount();
            city.start(SICK);
            given.extend(counters.into_iter().flat_map(|counter| counter.join().unwrap()));
            let slips_before = given.len();
            (given, slips_before)
        });
        let slips = assert_recovers(&mut city, &disk, given);
        assert!(slips_before > 100, "only {slips_before} slips before the disk failed");
        report(&format!("failing disk under load: 503 and no panic; after a restart all {slips} slips are honored"));
    });
}
