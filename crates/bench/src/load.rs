//! The load: counters that submit as fast as the chain allows, and a watch for the receipts. One counter with one
//! record at a time asks for the receipt itself, again and again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use estafet_model::RecordId;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::chain::{Chain, Office};
use crate::counter::Counter;
use crate::error::BenchError;

/// What is sent, by each office.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) records: u64,
    /// So many went before, and are receipted.
    pub(crate) before: u64,
    pub(crate) bytes_each: u32,
    /// The most that may be submitted and without a receipt.
    pub(crate) outstanding: u64,
    /// How many submit at the same time.
    pub(crate) connections: u32,
    /// How many each request hands in.
    pub(crate) per_request: u16,
    /// How many a second are submitted, unless as many as the chain takes.
    pub(crate) per_second: Option<u32>,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    /// From the first submission until each office had its last receipt.
    pub(crate) elapsed: Duration,
    /// Per record, from its submission until its slip.
    pub(crate) custody: Vec<Duration>,
    /// Per record, from its submission until the origin was seen with its receipt.
    pub(crate) receipt: Vec<Duration>,
}

/// What the submitters share.
struct Shared {
    load: Load,
    intake: SocketAddr,
    /// More than one record long, so that each is another part of it.
    noise: Bytes,
    next: AtomicU64,
    began: Instant,
    submitted: Mutex<Vec<Submitted>>,
}

/// A record that has its slip.
#[derive(Debug, Clone, Copy)]
struct Submitted {
    /// Its number at the origin, from 1.
    number: u64,
    began: Instant,
    custody: Duration,
    /// From its submission until its receipt, if its counter waited for that.
    receipt: Option<Duration>,
}

/// How many receipts the origin had at a moment.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    at: Instant,
    receipted: u64,
}

impl Load {
    /// The number of the last record.
    fn last(&self) -> u64 {
        self.before + self.records
    }

    fn is_one_at_a_time(&self) -> bool {
        self.outstanding == 1
    }

    /// Runs it at each office at once.
    pub(crate) async fn run(&self, chain: &mut Chain) -> Result<Measured, BenchError> {
        let mut runs = JoinSet::new();
        for office in chain.offices().iter().cloned() {
            let load = *self;
            runs.spawn(async move { load.run_at(office).await });
        }
        let all = async {
            let mut all = Measured { elapsed: Duration::ZERO, custody: Vec::new(), receipt: Vec::new() };
            while let Some(ended) = runs.join_next().await {
                let Measured { elapsed, custody, receipt } =
                    ended.map_err(|panic| BenchError::Runtime(panic.into()))??;
                all.elapsed = all.elapsed.max(elapsed);
                all.custody.extend(custody);
                all.receipt.extend(receipt);
            }
            Ok(all)
        };
        tokio::select! {
            measured = all => measured,
            broken = chain.broken() => Err(broken),
        }
    }

    async fn run_at(&self, office: Office) -> Result<Measured, BenchError> {
        let began = Instant::now();
        let shared = Arc::new(Shared {
            load: *self,
            intake: office.address,
            noise: noise(self.bytes_each),
            next: AtomicU64::new(self.before),
            began,
            submitted: Mutex::new(Vec::new()),
        });
        let receipted = watch::Sender::new(self.before);
        let mut submitters = JoinSet::new();
        for _ in 0..u64::from(self.connections).min(self.outstanding) {
            submitters.spawn(submit_all(Arc::clone(&shared), receipted.subscribe()));
        }
        let sightings = watch_receipts(self.last(), &office, &shared, &receipted, &mut submitters).await?;
        while let Some(ended) = submitters.join_next().await {
            ended.unwrap_or(Ok(()))?;
        }
        let submitted = std::mem::take(&mut *shared.submitted.lock().unwrap_or_else(PoisonError::into_inner));
        let elapsed = sightings.last().map_or(began, |last| last.at).duration_since(began);
        let custody = submitted.iter().map(|record| record.custody).collect();
        Ok(Measured { elapsed, custody, receipt: submitted.iter().map(|record| receipt(record, &sightings)).collect() })
    }
}

/// Looks again and again until all receipts are there.
async fn watch_receipts(
    records: u64,
    office: &Office,
    shared: &Shared,
    receipted: &watch::Sender<u64>,
    submitters: &mut JoinSet<Result<(), BenchError>>,
) -> Result<Vec<Sighting>, BenchError> {
    let mut sightings: Vec<Sighting> = Vec::new();
    let mut moved_at = Instant::now();
    loop {
        while let Some(ended) = submitters.try_join_next() {
            ended.unwrap_or(Ok(()))?;
        }
        let seen = office.receipted().await?;
        let sighting = Sighting { at: Instant::now(), receipted: seen };
        if sightings.last().is_none_or(|last| last.receipted < seen) {
            moved_at = sighting.at;
            sightings.push(sighting);
            receipted.send_replace(seen);
        }
        if seen >= records {
            return Ok(sightings);
        }
        if moved_at.elapsed() > STUCK_AFTER {
            return Err(BenchError::Stuck { receipted: seen, records, waited_s: STUCK_AFTER.as_secs() });
        }
        if shared.load.is_one_at_a_time() {
            // The counter looks for itself.
            sleep(LOOK_EVERY_BESIDE).await;
            continue;
        }
        let is_full = shared.next.load(Ordering::Relaxed) > seen + shared.load.outstanding;
        sleep(if is_full { LOOK_EVERY_WHEN_FULL } else { LOOK_EVERY }).await;
    }
}

/// Takes the next record until there is none.
async fn submit_all(shared: Arc<Shared>, mut receipted: watch::Receiver<u64>) -> Result<(), BenchError> {
    let mut counter = Counter::connect(shared.intake).await.map_err(BenchError::Submit)?;
    let one_at_a_time = shared.load.is_one_at_a_time();
    loop {
        let per_request = u64::from(shared.load.per_request);
        let first = shared.next.fetch_add(per_request, Ordering::Relaxed);
        if first >= shared.load.last() {
            return Ok(());
        }
        let indexes = first..shared.load.last().min(first + per_request);
        let last = indexes.end - 1;
        let outstanding = shared.load.outstanding;
        if !one_at_a_time && receipted.wait_for(|receipted| last < receipted + outstanding).await.is_err() {
            return Ok(());
        }
        if let Some(per_second) = shared.load.per_second {
            let turn = (first - shared.load.before) as f64 / f64::from(per_second);
            sleep_until(shared.began + Duration::from_secs_f64(turn)).await;
        }
        let records: Vec<(String, Bytes)> =
            indexes.map(|index| (format!("bench-{index}"), shared.payload(index))).collect();
        let began = Instant::now();
        let accepted = match &records[..] {
            [(key, body)] => counter.submit(body.clone(), key).await.map(|accepted| vec![accepted]),
            records => counter.submit_all(records).await,
        };
        let accepted = accepted.map_err(BenchError::Submit)?;
        let custody = began.elapsed();
        let mut receipt = None;
        while one_at_a_time && receipt.is_none() {
            let is_receipted = counter.is_receipted(&accepted[0].slip).await.map_err(BenchError::Submit)?;
            receipt = is_receipted.then(|| began.elapsed());
            // Nothing else runs in this program meanwhile, and the clock of its tasks is too coarse for this.
            std::thread::sleep(LOOK_AGAIN);
        }
        let submitted = accepted.iter().map(|accepted| {
            let number = accepted.record_id.parse().map_or(shared.load.last(), |id: RecordId| id.seq.get().into());
            Submitted { number, began, custody, receipt }
        });
        shared.submitted.lock().unwrap_or_else(PoisonError::into_inner).extend(submitted);
    }
}

impl Shared {
    /// A record's bytes: another part of the noise for each of the first 65,536.
    fn payload(&self, index: u64) -> Bytes {
        let start = usize::from(u16::try_from(index % u64::from(NOISE_PARTS)).unwrap_or(0));
        self.noise.slice(start..start + self.load.bytes_each as usize)
    }
}

fn noise(bytes_each: u32) -> Bytes {
    let mut noise = vec![0; bytes_each as usize + NOISE_PARTS as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise.into()
}

/// From a record's submission until the origin was first seen with as many receipts as the record's number.
fn receipt(record: &Submitted, sightings: &[Sighting]) -> Duration {
    if let Some(receipt) = record.receipt {
        return receipt;
    }
    let index = sightings.partition_point(|sighting| sighting.receipted < record.number);
    sightings.get(index).or(sightings.last()).map_or(Duration::ZERO, |seen| seen.at.duration_since(record.began))
}

const NOISE_PARTS: u32 = 1 << 16;
/// Each look costs the origin some tens of microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Submitters wait for this.
const LOOK_EVERY_WHEN_FULL: Duration = Duration::from_millis(1);
/// One at a time: little beside the milliseconds that are measured, and a rest for the origin between two looks.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
const LOOK_EVERY_BESIDE: Duration = Duration::from_millis(20);
const STUCK_AFTER: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_dated_by_the_first_sighting_that_covers_it() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let sightings = [(5, 2), (10, 3)].map(|(ms, receipted)| Sighting { at: at(ms), receipted });
        let record = |number| Submitted { number, began: at(1), custody: Duration::ZERO, receipt: None };
        for (number, expected_ms) in [(1, 4), (2, 4), (3, 9), (4, 9)] {
            assert_eq!(receipt(&record(number), &sightings), Duration::from_millis(expected_ms), "{number}");
        }
    }
}
