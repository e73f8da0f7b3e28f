//! The figures, and what each of them means.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::load::{Load, Measured};
use crate::process::NodeUsage;
use crate::timing::{Percentiles, rounded};

/// What `chain` found.
#[derive(Debug, Serialize)]
pub(crate) struct ChainReport {
    records: u64,
    bytes_each: u32,
    /// Records by the time from the first submission until the origin holds the receipt for the last. A receipt exists
    /// only for what the hub has committed; that it committed as many is checked afterwards.
    records_per_s: f64,
    /// Payload in megabytes (10^6) by the same time.
    mb_per_s: f64,
    /// From a record's submission over HTTP until its slip (201), which says that it is synced at the origin. With
    /// many connections this is mostly waiting: they share one disk.
    custody_ms: Percentiles,
    /// From a record's submission until the origin's count of receipts was seen to reach the record's number. Receipts
    /// come in the order of numbers, nearly; the count is looked at every 5 ms, so it is up to that much too long. One at a
    /// time (`--outstanding 1`), until the origin said so when it was asked for this record, again and again.
    receipt_ms: Percentiles,
    processes: Vec<ProcessReport>,
}

/// What a relay used for it.
#[derive(Debug, Serialize)]
struct ProcessReport {
    node: &'static str,
    /// User and system time of all its threads during the load.
    cpu_s: f64,
    /// The most resident memory since it began.
    rss_peak_mib: f64,
    /// Syncs of its spool during the load.
    syncs: u64,
}

/// What `idle` found.
#[derive(Debug, Serialize)]
pub(crate) struct IdleReport {
    pub(crate) seconds: u64,
    pub(crate) processes: Vec<IdleProcess>,
}

/// What a relay uses when nothing happens.
#[derive(Debug, Serialize)]
pub(crate) struct IdleProcess {
    node: &'static str,
    rss_mib: f64,
    /// Percent of one core.
    cpu_percent: f64,
    syncs: u64,
}

impl ChainReport {
    pub(crate) fn new(load: &Load, measured: &Measured, processes: Vec<NodeUsage>) -> Self {
        let records_per_s = load.records as f64 / measured.elapsed.as_secs_f64();
        let process = |node: NodeUsage| ProcessReport {
            node: node.node,
            cpu_s: node.usage.cpu.as_secs_f64(),
            rss_peak_mib: mib(node.usage.rss_peak_kib),
            syncs: node.syncs,
        };
        Self {
            records: load.records,
            bytes_each: load.bytes_each,
            records_per_s: rounded(records_per_s, 10.0),
            mb_per_s: rounded(records_per_s * f64::from(load.bytes_each) / 1e6, 10.0),
            custody_ms: Percentiles::of(&measured.custody),
            receipt_ms: Percentiles::of(&measured.receipt),
            processes: processes.into_iter().map(process).collect(),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

impl IdleReport {
    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

impl IdleProcess {
    pub(crate) fn new(node: &NodeUsage, elapsed: Duration) -> Self {
        let share = node.usage.cpu.as_secs_f64() / elapsed.as_secs_f64();
        let (rss_mib, cpu_percent) = (mib(node.usage.rss_kib), rounded(share * 100.0, 100.0));
        Self { node: node.node, rss_mib, cpu_percent, syncs: node.syncs }
    }
}

pub(crate) fn mib(kib: u64) -> f64 {
    rounded(kib as f64 / 1_024.0, 10.0)
}

pub(crate) fn json(report: &impl Serialize) -> String {
    serde_json::to_string(report).expect("a report is numbers and plain names")
}

impl fmt::Display for ChainReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, bytes_each, records_per_s, mb_per_s, custody_ms, receipt_ms, processes } = self;
        writeln!(formatter, "{records} records of {bytes_each} bytes: {records_per_s} records/s, {mb_per_s} MB/s")?;
        writeln!(formatter, "to custody  p50 {} ms, p99 {} ms", custody_ms.p50, custody_ms.p99)?;
        writeln!(formatter, "to receipt  p50 {} ms, p99 {} ms", receipt_ms.p50, receipt_ms.p99)?;
        for ProcessReport { node, cpu_s, rss_peak_mib, syncs } in processes {
            let per_record = *syncs as f64 / *records as f64;
            write!(formatter, "\n{node:8}  {cpu_s:6.2} s of processor time  {rss_peak_mib:6.1} MiB at most  ")?;
            write!(formatter, "{syncs:6} syncs ({per_record:.3} per record)")?;
        }
        Ok(())
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "idle for {} s", self.seconds)?;
        for IdleProcess { node, rss_mib, cpu_percent, syncs } in &self.processes {
            write!(formatter, "\n{node:8}  {rss_mib:6.1} MiB  {cpu_percent:5.2} % of a core  {syncs:4} syncs")?;
        }
        Ok(())
    }
}
