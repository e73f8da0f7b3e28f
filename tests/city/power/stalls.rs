//! When the machine itself stood still: what a drill measures then is not the relays'.
//!
//! On each processor a thread wants to run every millisecond, and notes when it came late: because a virtual machine's
//! host had given the processor to others, or because too many here wanted it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

const PACE: Duration = Duration::from_millis(1);

/// What is late by less is how a busy machine shares its processors.
const NOTED: Duration = Duration::from_millis(2);

/// Watches every processor until it is dropped.
pub(crate) struct Stalls {
    stop: Arc<AtomicBool>,
    noted: Arc<Mutex<Vec<Stall>>>,
    watchers: Vec<JoinHandle<()>>,
}

struct Stall {
    end: Instant,
    length: Duration,
}

impl Stalls {
    pub(crate) fn watch() -> Self {
        let (stop, noted) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let ours = sched_getaffinity(None).unwrap();
        let processors = (0..CpuSet::MAX_CPU).filter(|processor| ours.is_set(*processor));
        let watchers = processors.map(|processor| {
            let (stop, noted) = (Arc::clone(&stop), Arc::clone(&noted));
            thread::spawn(move || watch(processor, &stop, &noted))
        });
        let watchers = watchers.collect();
        Self { stop, noted, watchers }
    }

    /// The longest that a processor stood still, of the times that reach into this span.
    pub(crate) fn longest_within(&self, begin: Instant, end: Instant) -> Duration {
        let noted = self.noted.lock().unwrap();
        let meanwhile = noted.iter().filter(|stall| stall.end > begin && stall.end - stall.length < end);
        meanwhile.map(|stall| stall.length).max().unwrap_or_default()
    }
}

fn watch(processor: usize, stop: &AtomicBool, noted: &Mutex<Vec<Stall>>) {
    let mut only = CpuSet::new();
    only.set(processor);
    sched_setaffinity(None, &only).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        // Nothing waits for this: how late it comes back is what is measured.
        thread::sleep(PACE);
        let end = Instant::now();
        let length = (end - begin).saturating_sub(PACE);
        if length > NOTED {
            noted.lock().unwrap().push(Stall { end, length });
        }
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for watcher in self.watchers.drain(..) {
            // It has nothing to say, and a panic in it is on its way already.
            let _ = watcher.join();
        }
    }
}
