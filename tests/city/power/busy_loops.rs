//! Programs that take all the processor time there is.

use std::process::{Child, Command, Stdio};

/// Seconds of processor time, more than any drill takes: a loop that nobody ends ends by itself.
const SECONDS_MAX: &str = "1200";

/// Runs until it is dropped.
pub(crate) struct BusyLoops(Vec<Child>);

impl BusyLoops {
    /// Starts so many.
    pub(crate) fn start(count: usize) -> Self {
        let busy = |_| {
            let mut command = Command::new("setsid");
            // Each in a session of its own, as other services are. In one with the relays they also keep the kernel's own
            // threads waiting, for seconds (`sched_autogroup`, Linux 6.18), and with them every sync of a disk.
            command.args(["sh", "-c", "ulimit -t \"$1\"; while :; do :; done", "busy", SECONDS_MAX]);
            command.stdin(Stdio::null()).spawn().unwrap()
        };
        Self((0..count).map(busy).collect())
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for busy in &mut self.0 {
            // It may have ended by its limit.
            let _ = busy.kill();
            let _ = busy.wait();
        }
    }
}
