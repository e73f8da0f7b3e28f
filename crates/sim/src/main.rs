//! `cargo sim`: cities under virtual time, by seed.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

mod report;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use clap::Parser;
use estafet_sim::{Place, Report, Run};
use estafet_topology::Template;

use report::Summary;

/// Runs cities under virtual time: real nodes on the real log, with disks, links, power and clocks that a seed
/// decides. First everything fails and every promise is held against the disks; then everything is healed and must
/// arrive.
#[derive(Debug, Parser)]
#[command(name = "cargo sim", after_help = "Exit codes: 0 every promise was kept, 1 one was broken, 2 usage.")]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many seeds, from the first on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// A city of so many nodes, drawn from the seed.
    #[arg(long, conflicts_with = "template", value_parser = clap::value_parser!(u32).range(2..=4095))]
    nodes: Option<u32>,
    /// Every other link of it has a mobile network beside it.
    #[arg(long, requires = "nodes")]
    bearers: bool,
    /// A known city: pekanbaru, pekanbaru-cadangan or pekanbaru-2013.
    #[arg(long)]
    template: Option<Template>,
    /// So many hours of light traffic, with several cuts a day in each office; otherwise a short, dense run.
    #[arg(long)]
    hours: Option<u32>,
    /// Tell everything that mentions this, such as a record or a node.
    #[arg(long)]
    watch: Option<String>,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

impl Options {
    fn run_of(&self, seed: u64) -> Run {
        let drawn = Run::of_seed(seed);
        let place = match (self.nodes, self.template) {
            (Some(nodes), _) if self.bearers => Place::Doubled(nodes as usize),
            (Some(nodes), _) => Place::Drawn(nodes as usize),
            (None, Some(template)) => Place::Known(template),
            (None, None) => drawn.place,
        };
        Run { place, hours: self.hours, watched: self.watch.clone(), ..drawn }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let began = Instant::now();
    let mut summary = Summary::default();
    for (run, report) in in_order(&options) {
        report.sightings.iter().for_each(|sighting| println!("{sighting}"));
        if let Some(failure) = &report.failure {
            note(format_args!("seed {} failed: {failure}\n    again: {}", report.seed, run.command()));
        }
        summary.add(&run, &report);
        progress(&summary, options.seeds);
        if options.seeds == 1 && !options.json {
            println!("{}", report::details(&report));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{}", if options.json { summary.to_json(seconds) } else { summary.to_line(seconds) });
    if summary.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs all seeds on all cores; reports come in the order of seeds.
fn in_order(options: &Options) -> impl Iterator<Item = (Run, Report)> {
    let runs: Vec<Run> = (options.seed..options.seed + options.seeds).map(|seed| options.run_of(seed)).collect();
    let (sender, reports) = mpsc::channel();
    let next = std::sync::Arc::new(AtomicU64::new(0));
    let cores = thread::available_parallelism().map_or(1, usize::from).min(runs.len().max(1));
    for _ in 0..cores {
        let (sender, next, runs) = (sender.clone(), std::sync::Arc::clone(&next), runs.clone());
        thread::spawn(move || {
            while let Ok(index) = usize::try_from(next.fetch_add(1, Ordering::Relaxed))
                && let Some(run) = runs.get(index)
                && sender.send((index, run.clone(), run.run())).is_ok()
            {}
        });
    }
    drop(sender);
    let mut early = BTreeMap::new();
    (0..runs.len()).map_while(move |wanted| {
        while !early.contains_key(&wanted) {
            let (index, run, report) = reports.recv().ok()?;
            early.insert(index, (run, report));
        }
        early.remove(&wanted)
    })
}

/// One line that is written over, for a person who watches.
fn progress(summary: &Summary, seeds: u64) {
    if seeds > 1 && io::stderr().is_terminal() {
        let _ = write!(io::stderr(), "\r{} of {seeds} seeds, {} failed ", summary.seeds, summary.failures.len());
    } else if seeds > 1 && summary.seeds.is_multiple_of(1000) {
        note(format_args!("{} of {seeds} seeds, {} failed", summary.seeds, summary.failures.len()));
    }
}

/// Tells the person something that is not part of the report.
fn note(note: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{note}");
}
