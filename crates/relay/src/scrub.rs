//! Looking for damage before anybody needs what it has hit: every complete segment of the store is read now and then.
//!
//! One segment at a time, slowly, on a thread of its own. It begins at any of them, so that a node that never runs for
//! long comes around all the same.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use estafet_model::RecordId;
use estafet_spool::{Extent, Scrubbed};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, warn};

use crate::driver::Commands;
use crate::ledger::Commit;
use crate::store::{Store, wall_clock};

/// What reading may take of the disk: little beside what even a memory card gives.
const BYTES_PER_SECOND: u64 = 4 << 20;

/// Between two segments at least. A store with few of them is looked through sooner than it has to be.
const REST_MIN: Duration = Duration::from_secs(1);
/// And at most, so that segments that come meanwhile are counted.
const REST_MAX: Duration = Duration::from_secs(3600);

/// What scrubbing has come to, for those who look.
#[derive(Debug, Default)]
pub(crate) struct Scrubs {
    /// Segments that were read.
    pub(crate) segments: AtomicU64,
    /// Records that were found unreadable.
    pub(crate) records_unreadable: AtomicU64,
    /// When the newest segment was reached, in milliseconds since 1970; 0 before.
    pub(crate) passed_at: AtomicU64,
}

/// Reads one segment after the other, all of them once in `interval`, until `stopped`.
pub(crate) async fn run(
    store: Store,
    commands: Commands,
    interval: Duration,
    scrubs: Arc<Scrubs>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut last = None;
    loop {
        let segments = store.spool.complete_segments().unwrap_or_default();
        let rest = interval / u32::try_from(segments.len().max(1)).unwrap_or(u32::MAX);
        tokio::select! {
            () = sleep(rest.clamp(REST_MIN, REST_MAX)) => {}
            _ = stopped.wait_for(|stopped| *stopped) => return,
        }
        let next = match last {
            None => segments.iter().nth(any_of(segments.len())),
            Some(last) => segments.range((Bound::Excluded(last), Bound::Unbounded)).next().or(segments.first()),
        };
        let Some(&generation) = next else { continue };
        last = Some(generation);
        let Some(found) = scrub(&store, generation, stopped.clone()).await else { return };
        report(&store, &commands, &scrubs, generation, found).await;
        scrubs.segments.fetch_add(1, Ordering::Relaxed);
        if segments.last() == last.as_ref() {
            scrubs.passed_at.store(wall_clock().0, Ordering::Relaxed);
        }
    }
}

fn any_of(count: usize) -> usize {
    if count == 0 { 0 } else { rand::rng().random_range(0..count) }
}

/// Nothing if the process ends.
async fn scrub(store: &Store, generation: u64, stopped: watch::Receiver<bool>) -> Option<Scrubbed> {
    let spool = store.spool.clone();
    let work = move || {
        let mut paced = |bytes: u64| {
            if *stopped.borrow() {
                return ControlFlow::Break(());
            }
            thread::sleep(Duration::from_micros(bytes * 1_000_000 / BYTES_PER_SECOND));
            ControlFlow::Continue(())
        };
        spool.scrub(generation, &mut paced)
    };
    tokio::task::spawn_blocking(work).await.ok()
}

async fn report(store: &Store, commands: &Commands, scrubs: &Scrubs, generation: u64, found: Scrubbed) {
    let Scrubbed { broken, unnamed, .. } = found;
    if unnamed {
        error!(segment = format!("{generation:016x}"), "a part of the store is damaged; everything else is served");
        for commit in unreadable_commits(store, generation).await {
            unreadable(store, commands, commit.id, commit.extent).await;
        }
    }
    scrubs.records_unreadable.fetch_add(broken.len() as u64, Ordering::Relaxed);
    for (id, place) in broken {
        unreadable(store, commands, id, place).await;
    }
}

/// At a hub: what the ledger has in this segment, and the archive has not.
async fn unreadable_commits(store: &Store, generation: u64) -> Vec<Commit> {
    let Some(ledger) = &store.ledger else { return Vec::new() };
    let commits = ledger.in_segment(generation).await.unwrap_or_default();
    let spool = store.spool.clone();
    let check = move || commits.into_iter().filter(|commit| spool.check(commit.extent).is_err()).collect();
    tokio::task::spawn_blocking(check).await.unwrap_or_default()
}

/// The record at this place cannot be read: the node hears of it, if that is the copy that counts.
pub(crate) async fn unreadable(store: &Store, commands: &Commands, id: RecordId, place: Extent) {
    let told = match &store.ledger {
        None => commands.unreadable(id).await,
        Some(ledger) => match ledger.take_out(id.clone(), place).await {
            Ok(Some(commit)) => commands.committed_unreadable(commit.into_held()).await,
            Ok(None) => Ok(()),
            Err(error) => {
                warn!(record = %id, %error, "the ledger does not answer; the record is looked at again later");
                Ok(())
            }
        },
    };
    // Nobody is left to tell when the driver has ended: the next start begins anew.
    let _shutting_down = told;
}
