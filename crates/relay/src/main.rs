//! `estafet-relay`: the daemon on every office server, the main server included. Its role is configuration.

mod admin;
mod alarm;
mod audit_log;
mod carrier;
mod clocks;
mod config;
mod door;
mod doorkeeper;
mod drain;
mod driver;
mod durability;
mod durable_file;
mod failovers;
mod gate;
mod heads;
mod incident;
mod intake;
mod joining;
mod ledger;
mod listing;
mod metrics;
mod nut;
mod pace;
mod problem;
mod proofs;
mod recent;
mod relay;
mod scrub;
mod seal;
mod standing;
mod store;
mod submit;
mod surgery;
mod tail;
mod topologies;
mod upload;
mod views;
mod workstations;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use estafet_model::{Class, Kind};
use estafet_tls::keep_memory_private;
use rustix::fs::Mode;
use tracing::warn;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::topologies::NotTaken;

/// Keeps an office's records, forwards them to the city's main server, and routes around offices that are dark.
#[derive(Parser)]
#[command(
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage.\nLogs go to standard error; ESTAFET_LOG sets their level (error, warn, info, debug)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes this machine's key, which never leaves it, and prints a request to be let into a city.
    ///
    /// The request goes to standard output, what to do next to standard error. Writes node.key and, if there is none,
    /// relay.toml. Where there is a key, it stays: the request is printed again, and the exit code is 1.
    Init(joining::NewNode),
    /// Runs this node until SIGTERM or SIGINT. SIGPWR: the battery is nearly empty; it hands over what it can, and stops.
    Run {
        /// The node's relay.toml.
        #[arg(long)]
        config: PathBuf,
        /// Runs although the data folder may not keep what is synced. The node then gives no slip, no acceptance and
        /// no receipt, and `topology show` says so.
        #[arg(long)]
        no_durability_i_know: bool,
        /// Seals nothing, so that everybody on the way can read it: what sealing costs is measured beside it.
        #[arg(long, hide = true)]
        no_sealing_i_know: bool,
    },
    /// Checks the configuration, the keys and the topology, and says what they mean.
    Check {
        /// The node's relay.toml.
        #[arg(long)]
        config: PathBuf,
    },
    /// Hands in files as records, and prints a line of JSON with the slip of each.
    ///
    /// The same file by the same name, class and kind is taken once: repeating the command gives the same slip.
    Submit {
        /// The node's relay.toml: says where its intake is.
        #[arg(long)]
        config: PathBuf,
        /// How urgent: urgent, normal or bulk.
        #[arg(long, default_value_t)]
        class: Class,
        /// What sort of record, such as ktp-el.
        #[arg(long, value_parser = parse_kind, default_value = "record")]
        kind: Kind,
        /// The file with the token that `workstation add` printed, which nobody else may read. Where a workstation has one,
        /// nothing is taken without.
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
        /// Files of up to 16 MiB.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Lets counters' machines hand in at this node's intake, and shuts them out.
    Workstation {
        #[command(subcommand)]
        operation: workstations::Operation,
    },
    /// Judges this node's audit log: whether every line is as it was written.
    AuditLog {
        #[command(subcommand)]
        operation: audit_log::Operation,
    },
    /// Makes and lists a main server's seal keys: what payloads are sealed to, and opened with.
    SealKey {
        #[command(subcommand)]
        operation: seal::Operation,
    },
    /// Looks into this node's store, repairs it, or takes records out of it, while the relay is stopped.
    Store {
        #[command(subcommand)]
        operation: surgery::Operation,
    },
}

fn parse_kind(text: &str) -> Result<Kind, estafet_model::TextError> {
    text.parse()
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("ESTAFET_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colors = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colors).with_writer(std::io::stderr).init();
    // What it writes is nobody else's to read: headers are not sealed.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    if let Err(error) = keep_memory_private() {
        warn!(%error, "a crash may leave this node's key in a core dump");
    }
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(report) => {
            #[expect(clippy::print_stderr, reason = "the last word of a program that failed")]
            {
                eprintln!("{report:?}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Payload comes in buffers that glibc would give back to the kernel when they are freed, and ask for again: in a chain, 40 page
/// faults for a record of 512 KiB. It keeps up to twice the longest buffer that was ever freed (`mallopt(3)`,
/// `M_MMAP_THRESHOLD`), so one is freed here that nobody has written to.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES / 2)));
}

/// As much as relays hold in bodies at most.
const KEPT_BYTES: usize = upload::BODY_BYTES_MAX;

fn dispatch(command: Command) -> miette::Result<()> {
    match command {
        Command::Init(node) => {
            joining::init(&node, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
        }
        Command::Run { config, no_durability_i_know, no_sealing_i_know } => {
            keep_freed_memory();
            relay::run(Config::load(&config)?, !no_durability_i_know, no_sealing_i_know)?;
        }
        Command::Check { config } => {
            let config = Config::load(&config)?;
            match config.data.ancestors().find(|folder| folder.is_dir()) {
                Some(folder) if folder == config.data => store::check_disk(folder)?,
                // The relay will make it there.
                Some(folder) => store::check_file_system(folder)?,
                None => {}
            }
            config.seal_keys.load()?;
            if let Some(missing) = config.seal_keys.missing(&config.topology, &config.node.id)? {
                return Err(seal::SealKeyError::Missing(missing).into());
            }
            let neighbors = config.topology.neighbors(&config.node.id);
            let neighbors: Vec<_> = neighbors.map(|(id, link)| format!("{id} ({})", link.medium)).collect();
            #[expect(clippy::print_stdout, reason = "the answer of the command")]
            {
                println!(
                    "{} ({}) of {} version {}: neighbors {}; sessions on {} (UDP), operators on {}, counters on http://{}, data in {}",
                    config.node.id,
                    config.node.role,
                    config.topology.area,
                    config.topology.version,
                    neighbors.join(", "),
                    config.listen,
                    config.admin,
                    config.intake,
                    config.data.display(),
                );
            }
            if let Some(by) = config.shut_out() {
                return Err(NotTaken::from(by).into());
            }
        }
        Command::Submit { config, class, kind, token_file, files } => {
            let mut out = std::io::stdout().lock();
            submit::submit(&config, &files, class, &kind, token_file.as_deref(), &mut out)?;
        }
        Command::Workstation { operation } => {
            workstations::operate(&operation, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
        }
        Command::AuditLog { operation } => audit_log::operate(&operation, &mut std::io::stdout().lock())?,
        Command::SealKey { operation } => {
            seal::operate(&operation, &mut std::io::stdout().lock(), &mut std::io::stderr().lock())?;
        }
        Command::Store { operation } => surgery::operate(&operation, &mut std::io::stdout().lock())?,
    }
    Ok(())
}
