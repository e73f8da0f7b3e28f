//! What the program says at the end.

use std::time::Duration;

use estafet_sim::{Report, Run};
use serde::Serialize;

/// A seed that broke a promise.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) reason: String,
    pub(crate) again: String,
}

/// All runs together.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) seeds: u64,
    pub(crate) failures: Vec<Failure>,
    virtual_time: Duration,
    slowest: Duration,
    records: u64,
    lost_with_disks: u64,
    cuts: u64,
    faults: u64,
    digest: blake3::Hasher,
}

#[derive(Serialize)]
struct Json<'a> {
    seeds: u64,
    failures: &'a [Failure],
    virtual_hours: f64,
    records: u64,
    lost_with_disks: u64,
    cuts: u64,
    faults: u64,
    slowest_settling_seconds: f64,
    seconds: f64,
    digest: String,
}

impl Summary {
    pub(crate) fn add(&mut self, run: &Run, report: &Report) {
        self.seeds += 1;
        self.virtual_time += report.virtual_time;
        self.slowest = self.slowest.max(report.settled_in);
        self.records += report.records;
        self.lost_with_disks += report.lost_with_disks;
        self.cuts += report.cuts();
        self.faults += report.faults.values().sum::<u64>();
        self.digest.update(report.digest.as_bytes());
        let failure = report.failure.clone();
        self.failures.extend(failure.map(|reason| Failure { seed: run.seed, reason, again: run.command() }));
    }

    fn digest(&self) -> String {
        self.digest.finalize().to_hex()[..16].to_owned()
    }

    fn virtual_hours(&self) -> f64 {
        self.virtual_time.as_secs_f64() / 3600.0
    }

    pub(crate) fn to_line(&self, seconds: f64) -> String {
        let verdict = match self.failures.as_slice() {
            [] => "every promise kept".to_owned(),
            failures => {
                let seeds: Vec<String> = failures.iter().map(|failure| failure.seed.to_string()).collect();
                format!("FAILED: {} of them ({})", failures.len(), seeds.join(", "))
            }
        };
        format!(
            "{} seeds, {:.2} virtual hours, {} records ({} lost with the only disk that held them), {} power cuts of \
             {} faults, at rest {:.1} s after healing at the latest, {seconds:.1} s, digest {}: {verdict}",
            self.seeds,
            self.virtual_hours(),
            self.records,
            self.lost_with_disks,
            self.cuts,
            self.faults,
            self.slowest.as_secs_f64(),
            self.digest(),
        )
    }

    pub(crate) fn to_json(&self, seconds: f64) -> String {
        let json = Json {
            seeds: self.seeds,
            failures: &self.failures,
            virtual_hours: self.virtual_hours(),
            records: self.records,
            lost_with_disks: self.lost_with_disks,
            cuts: self.cuts,
            faults: self.faults,
            slowest_settling_seconds: self.slowest.as_secs_f64(),
            seconds,
            digest: self.digest(),
        };
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// One run, for a person.
pub(crate) fn details(report: &Report) -> String {
    let faults: Vec<String> = report.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    format!(
        "seed {} in {}: {} records, {:?} of virtual time, faults: {}; digest {}",
        report.seed,
        report.place,
        report.records,
        report.virtual_time,
        faults.join(", "),
        report.digest
    )
}
