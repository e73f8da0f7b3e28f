//! `flood`: what a neighbor in the wrong hands costs the others. Some offices hang on one branch; one of them is an intruder
//! (`estafet-intruder`), with the real key and a script. The others send records to the hub, by turns with and without the flood.
//!
//! The intruder shares the machine. What it takes of the processor itself would be its own machine's elsewhere, so beside the plain
//! ratio stands the one that leaves that out: as if the relays had had only the time that the intruder did not take.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use estafet_intruder::{Intruder, Polite, Taking, Trouble, piece};
use estafet_model::{Class, HeaderDigest, NodeId, PAYLOAD_BYTES_MAX, RecordId};
use estafet_wire::{Frame, Offer, padding};
use serde::Serialize;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::chain::{BRANCH, Chain, ROGUE};
use crate::error::BenchError;
use crate::load::Load;
use crate::process::Usage;
use crate::report::json;
use crate::timing::rounded;

/// What the intruder does without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Script {
    /// It is there, as a relay with nothing to do.
    Quiet,
    /// Acceptances of records that it was never handed.
    Frames,
    /// Offers of the largest records, and never a piece.
    Offers,
    /// One record of its own, again and again.
    Repeats,
    /// Streams that are opened and ended.
    Streams,
    /// New words about itself.
    Lsas,
    /// Sessions that are begun and left.
    Redials,
    /// New records of its own, 4 KiB each: no abuse but for their number.
    Records,
}

/// What is measured unless something else is asked for.
const USUAL: [Script; 7] =
    [Script::Frames, Script::Offers, Script::Repeats, Script::Streams, Script::Lsas, Script::Redials, Script::Records];

/// What `flood` found.
#[derive(Debug, Serialize)]
pub(crate) struct FloodReport {
    /// How many honest ones there are, and how many records each of them sends in a turn.
    offices: u16,
    records: u64,
    bytes_each: u32,
    scripts: Vec<ScriptReport>,
}

/// What one script cost.
#[derive(Debug, Serialize)]
struct ScriptReport {
    script: Script,
    /// Records of the honest offices by the time from their first submission until these hold the last receipt: each pair of turns.
    alone_per_s: Vec<f64>,
    flooded_per_s: Vec<f64>,
    /// Mean of the flooded turns by mean of the others.
    ratio: f64,
    /// The same, had the relays alone had the processor time that the intruder took.
    ratio_without_its_processor_time: f64,
    /// What the intruder took of one core, in percent.
    intruder_cpu_percent: f64,
}

/// Measures every script by turns, on one chain.
pub(crate) async fn measure(
    program: PathBuf,
    dir: &Path,
    offices: u16,
    scripts: &[Script],
    turns: u32,
    load: Load,
) -> Result<FloodReport, BenchError> {
    let quiet = || Flooder::start(dir, Script::Quiet);
    let mut chain = Chain::start_with_rogue(program, dir, offices, quiet).await?;
    let mut reports = Vec::new();
    let mut sent = 0;
    // What the first load meets (files that grow, paths that are searched) is not the intruder's doing.
    run(&mut chain, &load, &mut sent).await?;
    for script in if scripts.is_empty() { &USUAL } else { scripts } {
        let (mut alone, mut flooded, mut its_time, mut all_time) = (Vec::new(), Vec::new(), 0.0, 0.0);
        for turn in 0..turns {
            // A machine that becomes slower or faster meanwhile does not change what comes out.
            for with_flood in [turn % 2 == 1, turn % 2 == 0] {
                if !with_flood {
                    alone.push(run(&mut chain, &load, &mut sent).await?.0);
                    continue;
                }
                let flooder = Flooder::start(dir, *script)?;
                sleep(SETTLING).await;
                let before = flooder.usage()?;
                let (rate, elapsed) = run(&mut chain, &load, &mut sent).await?;
                its_time += flooder.usage()?.since(&before).cpu.as_secs_f64();
                all_time += elapsed.as_secs_f64();
                flooded.push(rate);
                flooder.end().await;
                sleep(SETTLING).await;
            }
        }
        let mean = |rates: &[f64]| rates.iter().sum::<f64>() / rates.len() as f64;
        let ratio = mean(&flooded) / mean(&alone);
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
        let left = 1.0 - its_time / (all_time * cores);
        reports.push(ScriptReport {
            script: *script,
            alone_per_s: alone.iter().map(|rate| rounded(*rate, 1.0)).collect(),
            flooded_per_s: flooded.iter().map(|rate| rounded(*rate, 1.0)).collect(),
            ratio: rounded(ratio, 1_000.0),
            ratio_without_its_processor_time: rounded(ratio / left.max(0.1), 1_000.0),
            intruder_cpu_percent: rounded(100.0 * its_time / all_time, 10.0),
        });
        crate::note(reports.last().map(ToString::to_string).unwrap_or_default());
    }
    chain.terminate().await;
    Ok(FloodReport { offices, records: load.records, bytes_each: load.bytes_each, scripts: reports })
}

/// One turn: how many records a second, and how long it took.
async fn run(chain: &mut Chain, load: &Load, sent: &mut u64) -> Result<(f64, Duration), BenchError> {
    let measured = Load { before: *sent, ..*load }.run(chain).await?;
    *sent += load.records;
    Ok((measured.custody.len() as f64 / measured.elapsed.as_secs_f64(), measured.elapsed))
}

/// The intruder's own process.
pub(crate) struct Flooder {
    child: Child,
}

impl Flooder {
    fn start(dir: &Path, script: Script) -> Result<Self, BenchError> {
        let program = std::env::current_exe().map_err(BenchError::Runtime)?;
        let name =
            serde_json::to_value(script).ok().and_then(|name| Some(name.as_str()?.to_owned())).unwrap_or_default();
        let mut command = Command::new(program);
        command.arg("flooder").arg(dir).arg(name).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        Ok(Self { child: command.spawn().map_err(BenchError::Runtime)? })
    }

    fn usage(&self) -> Result<Usage, BenchError> {
        Usage::of(self.child.id().unwrap_or_default())
    }

    async fn end(mut self) {
        // It may have ended by itself, which its figures show.
        let _ended = self.child.kill().await;
    }
}

/// What the intruder's process does, until it is killed.
pub(crate) async fn flood(city: &Path, script: Script) -> Result<(), BenchError> {
    let fault = |trouble: Trouble| BenchError::Intruder(trouble.to_string());
    let intruder = Intruder::of_city(city, ROGUE, ([127, 0, 0, 2], 0).into()).map_err(fault)?;
    let mut sequence = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs() << 20);
    loop {
        if script == Script::Redials {
            let _let_in = intruder.join(BRANCH).await;
            continue;
        }
        // Whoever is kept out, or comes before the relay does, comes again.
        let Ok(joined) = intruder.join(BRANCH).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (session, _heard) = joined.be_polite(Taking::Nothing);
        sequence += 1;
        let of_itself =
            |sequence| Frame::Lsas(vec![intruder.lsa(intruder.node(), sequence, &[(branch(&intruder), 10)])]);
        let _gone = session.say(&of_itself(sequence)).await;
        let _ended = act(&intruder, &session, script, &mut sequence).await;
    }
}

fn branch(intruder: &Intruder) -> NodeId {
    let named = intruder.topology().nodes.keys().find(|node| node.as_str() == BRANCH);
    named.unwrap_or(intruder.node()).clone()
}

async fn act(intruder: &Intruder, session: &Polite, script: Script, sequence: &mut u64) -> Result<(), Trouble> {
    let id = |seq: u64| -> RecordId {
        format!("{ROGUE}.1.{}", 1 + seq % 33_000_000).parse().expect("a number of that size is a record's")
    };
    let payload = vec![7; 4_096];
    let mut stream = session.open().await?;
    let mut next = *sequence % 1_000_000 * 20;
    loop {
        next += 1;
        match script {
            Script::Quiet | Script::Redials => sleep(Duration::from_secs(3_600)).await,
            Script::Frames => session.say(&Frame::Acceptances((1..=32).map(id).collect())).await?,
            Script::Offers => {
                let offer = |seq| Offer {
                    id: id(seq),
                    class: Class::Normal,
                    payload_bytes: PAYLOAD_BYTES_MAX,
                    digest: HeaderDigest([0; 32]),
                    for_hub: None,
                };
                session.say(&Frame::Offers((1..=32).map(offer).collect())).await?;
            }
            Script::Repeats | Script::Records => {
                let seqs = if script == Script::Repeats { 1..=64 } else { next * 64..=next * 64 + 63 };
                let headers = intruder.headers(seqs.map(|seq| (id(seq), &payload[..])));
                let bytes: Vec<u8> = headers.iter().flat_map(|header| piece(header, 0, &[], &payload)).collect();
                write(&mut stream, bytes.into()).await?;
            }
            Script::Streams => {
                let mut stream = session.open().await?;
                write(&mut stream, padding(64).flatten().collect::<Vec<u8>>().into()).await?;
                let _gone = stream.finish();
            }
            Script::Lsas => {
                *sequence += 1;
                let cost = 10 + u32::from(next.is_multiple_of(2));
                let lsa = intruder.lsa(intruder.node(), *sequence, &[(branch(intruder), cost)]);
                session.say(&Frame::Lsas(vec![lsa])).await?;
            }
        }
    }
}

async fn write(stream: &mut estafet_intruder::Stream, bytes: Bytes) -> Result<(), Trouble> {
    stream.write_chunk(bytes).await.map_err(|error| Trouble::Lost(error.to_string()))
}

impl FloodReport {
    pub(crate) fn to_json(&self) -> String {
        json(self)
    }
}

impl fmt::Display for FloodReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offices, records, bytes_each, .. } = self;
        write!(formatter, "{offices} offices, {records} records of {bytes_each} bytes of each in each turn")?;
        self.scripts.iter().try_for_each(|script| write!(formatter, "\n{script}"))
    }
}

impl fmt::Display for ScriptReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { script, ratio, ratio_without_its_processor_time, intruder_cpu_percent, .. } = self;
        let name = format!("{script:?}").to_lowercase();
        let (alone, flooded) = (&self.alone_per_s, &self.flooded_per_s);
        write!(formatter, "{name:8} {ratio:.3} of {alone:?} records/s: {flooded:?}; the intruder took ")?;
        write!(formatter, "{intruder_cpu_percent} % of a core, {ratio_without_its_processor_time:.3} without that")
    }
}

/// So long the branch has the intruder before the load begins, and none before the next: it was taken for dead by then.
const SETTLING: Duration = Duration::from_secs(3);
