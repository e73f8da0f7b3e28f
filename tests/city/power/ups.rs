//! A real UPS daemon: NUT's `upsd` with its own dummy of a UPS, whose power this test takes and gives back.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::namespace::{alone, report};
use crate::drain::{shown, wait_for_next_hop};
use crate::harness::{City, capture, noise, output_file, wait_for};

/// The programs themselves. What Debian has in its path asks `/etc/nut` first whether it may run.
const UPSD: &str = "/lib/nut/upsd";
const DUMMY_UPS: &str = "/lib/nut/dummy-ups";

/// `upsd`, its dummy, and the file that says how the UPS fares.
struct Ups {
    folder: PathBuf,
    port: u16,
    programs: Vec<Child>,
}

impl Ups {
    fn new(folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        // Nobody else is in this network namespace.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let files = [
            ("ups.conf", "[ups]\n  driver = dummy-ups\n  port = ups.dev\n  pollinterval = 1\n".to_owned()),
            ("upsd.conf", format!("LISTEN 127.0.0.1 {port}\n")),
            ("upsd.users", String::new()),
        ];
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut ups = Self { folder: folder.to_owned(), port, programs: Vec::new() };
        ups.say("OL", 3600);
        ups.run(DUMMY_UPS, &["-a", "ups", "-u", "root", "-F"]);
        wait_for("the dummy of a UPS runs", || folder.join("dummy-ups-ups").exists().then_some(()));
        ups.start_upsd();
        ups
    }

    fn start_upsd(&mut self) {
        self.run(UPSD, &["-F", "-u", "root"]);
        wait_for("upsd answers", || std::net::TcpStream::connect(("127.0.0.1", self.port)).ok());
    }

    fn run(&mut self, program: &str, arguments: &[&str]) {
        let folder = &self.folder;
        let name = Path::new(program).file_name().unwrap().to_string_lossy();
        let started = Command::new(program)
            .args(arguments)
            .envs(["NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH"].map(|variable| (variable, folder)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output_file(&folder.join(format!("{name}.log"))))
            .spawn();
        self.programs.push(started.unwrap());
    }

    /// The UPS reports this from now on.
    fn say(&self, status: &str, runtime_s: u32) {
        let new = self.folder.join("new");
        fs::write(&new, format!("ups.status: {status}\nbattery.runtime: {runtime_s}\n")).unwrap();
        fs::rename(new, self.folder.join("ups.dev")).unwrap();
    }

    fn stop_upsd(&mut self) {
        let mut upsd = self.programs.pop().unwrap();
        upsd.kill().unwrap();
        upsd.wait().unwrap();
    }
}

impl Drop for Ups {
    fn drop(&mut self) {
        for program in &mut self.programs {
            // It may have ended by itself; either way it is gone after this.
            let _ = program.kill();
            let _ = program.wait();
        }
    }
}

#[test]
fn a_real_ups_daemon_is_heeded() {
    let name = "power::ups::a_real_ups_daemon_is_heeded";
    if let Some(absent) = [UPSD, DUMMY_UPS].iter().find(|program| !Path::new(program).exists()) {
        return report(&format!("NOT RUN, so this is NOT proved here: {name}: {absent} is missing (nut-server)"));
    }
    alone(name, &[], || {
        let mut city = City::new("pekanbaru");
        let mut ups = Ups::new(&city.dir.join("nut"));
        city.configure("sukajadi", &format!("[power]\nnut = \"127.0.0.1:{}\"\n", ups.port));
        city.node_ids().iter().for_each(|node| city.start(node));
        city.wait_until_whole();
        wait_for_next_hop(&city, "rumbai", "sukajadi");
        let power = |city: &City, state: &str, power: &str, minutes_left: Option<u64>| {
            wait_for(&format!("sukajadi is {state} on {power}"), || {
                shown(city, "induk", "sukajadi").filter(|row| {
                    (&row["state"], &row["power"]) == (&state.into(), &power.into())
                        && row["minutes_left"].as_u64() == minutes_left
                })
            })
        };
        power(&city, "serving", "mains", None);
        ups.say("OB DISCHRG", 1700);
        power(&city, "serving", "battery", Some(25));
        wait_for_next_hop(&city, "rumbai", "senapelan");
        ups.say("OB DISCHRG", 200);
        power(&city, "draining", "low", None);
        // A daemon that falls silent on battery does not bring the mains back.
        ups.stop_upsd();
        wait_for("its silence is told", || city.log("sukajadi").contains("the UPS cannot be read").then_some(()));
        power(&city, "draining", "low", None);
        ups.say("OL CHRG", 300);
        ups.start_upsd();
        power(&city, "serving", "mains", None);
        wait_for_next_hop(&city, "rumbai", "sukajadi");
        let given: Vec<_> = (0..20).map(|seed| capture(&city.intake("sukajadi"), &noise(seed, 65_536), &[])).collect();
        ups.say("OB LB", 100);
        assert!(city.wait_until_ended("sukajadi").success(), "it stops cleanly");
        wait_for("its neighbor heard a goodbye", || city.log("rumbai").contains("Goodbye").then_some(()));
        city.assert_honored(&given);
        report(
            "a real upsd (dummy-ups): mains, battery, low, silence, mains again and LB are heeded; 20 of 20 slips honored",
        );
    });
}
