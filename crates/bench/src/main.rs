//! Benchmarks of real relays: three processes on loopback (origin, branch, hub), everything synced.
//!
//! `chain` sends records through and measures; `idle` measures what they cost when nothing happens. `start` measures how
//! long one relay takes to come back with a full spool, `spf` what routing takes in a large area, `flood` what a hostile neighbor
//! costs the others. What each figure means
//! stands in [`report`], [`start`], [`spf`] and [`flood`]. The loader shares the machine with the relays; what it took of the processor is told on
//! standard error.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

mod chain;
mod counter;
mod error;
mod flood;
mod load;
mod options;
mod process;
mod report;
mod spf;
mod start;
mod timing;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use estafet_cli::demo::relay_program;
use estafet_cli::disk::temporary_folder;
use tokio::time::sleep;

use chain::Chain;
use error::BenchError;
use load::Load;
use options::{Benchmark, Options};
use process::Usage;
use report::{ChainReport, IdleProcess, IdleReport};

fn main() -> ExitCode {
    let options = Options::parse();
    let run = || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::Runtime)?;
        runtime.block_on(run(&options))
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("{:?}", miette::Report::new(error)));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), BenchError> {
    match &options.benchmark {
        Benchmark::Start { records, size } => {
            let report = start::measure(relay()?, options.dir.as_deref(), *records, *size).await?;
            println!("{}", if options.json { report.to_json() } else { report.to_string() });
            return Ok(());
        }
        Benchmark::OpenSpool { folder } => {
            println!("{}", start::open_spool(folder)?.to_json());
            return Ok(());
        }
        Benchmark::Spf { nodes, runs } => {
            let report = spf::measure(nodes, *runs as usize);
            println!("{}", if options.json { report.to_json() } else { report.to_string() });
            return Ok(());
        }
        Benchmark::Flood { offices, records, size, turns, per_second, scripts } => {
            let temporary = temporary_folder("estafet-bench-").map_err(BenchError::Folder)?;
            let dir = options.dir.as_deref().unwrap_or(temporary.path());
            let load = Load {
                records: records.div_ceil(u64::from(*offices)),
                before: 0,
                bytes_each: *size,
                outstanding: 4_096,
                connections: 128_u32.div_ceil(u32::from(*offices)),
                per_request: 1,
                per_second: *per_second,
            };
            let report = flood::measure(relay()?, dir, *offices, scripts, *turns, load).await?;
            println!("{}", if options.json { report.to_json() } else { report.to_string() });
            return Ok(());
        }
        Benchmark::Flooder { city, script } => return flood::flood(city, *script).await,
        Benchmark::Chain { .. } | Benchmark::Idle { .. } => {}
    }
    let program = relay()?;
    let is_clear = matches!(options.benchmark, Benchmark::Chain { no_sealing: true, .. });
    let arguments = if is_clear { vec!["--no-sealing-i-know".to_owned()] } else { Vec::new() };
    let mut chain = Chain::start(program, options.dir.as_deref(), arguments).await?;
    let line = match &options.benchmark {
        Benchmark::Chain { records, size, outstanding, connections, per_request, .. } => {
            let (records, bytes_each) = (*records, *size);
            let (outstanding, connections, per_request) = (*outstanding, *connections, *per_request);
            let load = Load { records, before: 0, bytes_each, outstanding, connections, per_request, per_second: None };
            let report = measure(&mut chain, &load).await?;
            if options.json { report.to_json() } else { report.to_string() }
        }
        Benchmark::Idle { seconds } => {
            let report = measure_idle(&chain, *seconds).await?;
            if options.json { report.to_json() } else { report.to_string() }
        }
        Benchmark::Start { .. }
        | Benchmark::Spf { .. }
        | Benchmark::OpenSpool { .. }
        | Benchmark::Flood { .. }
        | Benchmark::Flooder { .. } => unreachable!("these have no chain, or one of their own"),
    };
    chain.terminate().await;
    println!("{line}");
    Ok(())
}

async fn measure(chain: &mut Chain, load: &Load) -> Result<ChainReport, BenchError> {
    let before = chain.usage().await?;
    let own_before = Usage::of_this_process()?;
    let measured = load.run(chain).await?;
    let own = Usage::of_this_process()?.since(&own_before);
    note(format_args!("the loader took {:.2} s of processor time", own.cpu.as_secs_f64()));
    let after = chain.usage().await?;
    chain.check_committed(load.records).await?;
    let processes = after.into_iter().zip(before).map(|(after, before)| after.since(&before)).collect();
    Ok(ChainReport::new(load, &measured, processes))
}

async fn measure_idle(chain: &Chain, seconds: u64) -> Result<IdleReport, BenchError> {
    sleep(SETTLING).await;
    let before = chain.usage().await?;
    let began = Instant::now();
    sleep(std::time::Duration::from_secs(seconds)).await;
    let elapsed = began.elapsed();
    let after = chain.usage().await?;
    let processes =
        after.into_iter().zip(before).map(|(after, before)| IdleProcess::new(&after.since(&before), elapsed));
    Ok(IdleReport { seconds, processes: processes.collect() })
}

/// The relay's program: built now, as offices run it, if Cargo runs this, otherwise the one beside this program.
fn relay() -> Result<PathBuf, BenchError> {
    if std::env::var_os("CARGO").is_none() {
        return Ok(relay_program()?);
    }
    let mut programs = xtask::build("dist", &["estafet-relay"]).map_err(BenchError::Build)?;
    programs.remove("estafet-relay").ok_or_else(|| BenchError::Build(io::Error::other("Cargo built no such program")))
}

/// Tells the person something that is not part of the report.
fn note(note: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{note}");
}

/// Sessions are up by then, and the first floods have passed.
const SETTLING: std::time::Duration = std::time::Duration::from_secs(3);
