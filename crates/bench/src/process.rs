//! What the system says a process has used (Linux, `/proc`).

use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;

use crate::error::BenchError;

/// What one process has used since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// In user and system mode, all threads.
    pub(crate) cpu: Duration,
    /// Resident memory now.
    pub(crate) rss_kib: u64,
    /// The most resident memory ever.
    pub(crate) rss_peak_kib: u64,
}

/// What a relay has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NodeUsage {
    pub(crate) node: &'static str,
    pub(crate) usage: Usage,
    /// Syncs of its spool.
    pub(crate) syncs: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self, BenchError> {
        let fault = |reason: &str| BenchError::Process { pid, reason: reason.to_owned() };
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).map_err(|error| fault(&error.to_string()));
        let ticks = cpu_ticks(&read("stat")?).ok_or_else(|| fault("its stat is not understood"))?;
        let status = read("status")?;
        let kib = |key| memory_kib(&status, key).ok_or_else(|| fault(&format!("its status has no {key}")));
        Ok(Self {
            cpu: Duration::from_millis(ticks * 1_000 / clock_ticks_per_second()),
            rss_kib: kib("VmRSS:")?,
            rss_peak_kib: kib("VmHWM:")?,
        })
    }

    pub(crate) fn of_this_process() -> Result<Self, BenchError> {
        Self::of(std::process::id())
    }

    /// The processor time since `earlier`; memory is what it is.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), ..*self }
    }
}

impl NodeUsage {
    /// Processor time and syncs since `earlier`; memory is what it is.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let (usage, syncs) = (self.usage.since(&earlier.usage), self.syncs - earlier.syncs);
        Self { node: self.node, usage, syncs }
    }
}

/// User and system time of `/proc/PID/stat`: fields 14 and 15. The second field is the program's name in parentheses,
/// which may hold anything, so counting begins behind it.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_ascii_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

/// A line of `/proc/PID/status`.
fn memory_kib(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key)?.trim().strip_suffix(" kB")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        let stat = "12 (a) b) S 1 12 12 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 4 0 1000";
        assert_eq!(cpu_ticks(stat), Some(100));
        assert_eq!(cpu_ticks("12 (a"), None);
        assert_eq!(memory_kib("Name:\tx\nVmHWM:\t   2048 kB\n", "VmHWM:"), Some(2_048));
        assert!(Usage::of_this_process().unwrap().rss_kib > 0);
    }
}
