//! When the main server commits what: its live list of commits, each with the moment it came.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::harness::{City, program, wait_for};

/// The commits of a main server.
pub(crate) struct Commits {
    tail: Child,
    at: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Commits {
    /// Begins to listen. What was committed before is told first, so nothing is missed while the listener starts.
    pub(crate) fn of(city: &City, hub: &str) -> Self {
        let mut command = Command::new(program("topology"));
        command.arg("--city").arg(city.dir()).args(["--json", "--node", hub, "tail", "--from", "1"]);
        let mut tail = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(tail.stdout.take().unwrap()).lines();
        let at: Arc<Mutex<BTreeMap<String, Instant>>> = Arc::default();
        let seen = Arc::clone(&at);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let commit: Value = serde_json::from_str(&line).unwrap();
                seen.lock().unwrap().insert(commit["record_id"].as_str().unwrap().to_owned(), Instant::now());
            }
        });
        Self { tail, at }
    }

    /// The same of a main server that has just been started.
    pub(crate) fn of_a_new_one(city: &City, hub: &str) -> Self {
        wait_for("the main server answers", || city.ask(&["--node", hub, "audit"]));
        Self::of(city, hub)
    }

    /// Waits until so many have come, as long as there are more and more of them.
    pub(crate) fn wait_while_they_come(&self, count: usize) {
        let have_come = || self.at.lock().unwrap().len();
        while have_come() < count {
            let before = have_come();
            wait_for("another commit", || (have_come() > before).then_some(()));
        }
    }

    /// When these records were committed; waits until they are.
    pub(crate) fn moments(&self, records: &[&str]) -> Vec<Instant> {
        wait_for("the records are committed", || {
            let at = self.at.lock().unwrap();
            records.iter().map(|record| at.get(*record).copied()).collect()
        })
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.tail.kill();
        let _ = self.tail.wait();
    }
}
