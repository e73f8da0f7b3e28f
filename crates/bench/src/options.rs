//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use estafet_model::PAYLOAD_BYTES_MAX;

use crate::flood::Script;

/// Measure real relays: origin, branch and hub on loopback, everything synced.
#[derive(Debug, Parser)]
#[command(name = "estafet-bench", version)]
pub(crate) struct Options {
    /// Print one object of JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// An empty folder on the disk that is to be measured; by default a temporary one.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What to measure.
    #[command(subcommand)]
    pub(crate) benchmark: Benchmark,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    /// Send records from the origin to the hub.
    Chain {
        /// How many.
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        records: u64,
        /// The size of each, such as 4KiB, 512KiB, 8MiB or a number of bytes.
        #[arg(long, default_value = "4KiB", value_parser = bytes)]
        size: u32,
        /// The most that may be submitted and without a receipt.
        #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..))]
        outstanding: u64,
        /// HTTP connections that submit at the same time, each one record after the other.
        #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4_096))]
        connections: u32,
        /// How many records each request hands in.
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
        per_request: u16,
        /// Seal nothing, to measure beside it what sealing costs.
        #[arg(long)]
        no_sealing: bool,
    },
    /// Let the relays stand idle.
    Idle {
        /// How long.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
    },
    /// Fill a relay's spool, and start the relay on it with nobody to talk to, as after a power cut.
    Start {
        /// How many records.
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
        records: u32,
        /// The size of each, such as 4KiB, 512KiB, 8MiB or a number of bytes.
        #[arg(long, default_value = "4KiB", value_parser = bytes)]
        size: u32,
    },
    /// Time routing in a large area, without relays: SPF, and what a change of one LSA costs a node.
    Spf {
        /// How many nodes; can be repeated.
        #[arg(long, default_values_t = [500, 1_000, 10_000], value_parser = clap::value_parser!(u32).range(4..=100_000))]
        nodes: Vec<u32>,
        /// How often each is measured.
        #[arg(long, default_value_t = 101, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        runs: u32,
    },
    /// Let an office flood the branch that it shares with others, by turns, and measure what that costs the others.
    Flood {
        /// How many others there are.
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=90))]
        offices: u16,
        /// How many records these send in each turn, all together.
        #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        records: u64,
        /// The size of each, such as 4KiB, 512KiB, 8MiB or a number of bytes.
        #[arg(long, default_value = "4KiB", value_parser = bytes)]
        size: u32,
        /// How many turns with, and as many without each flood.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        turns: u32,
        /// How many records a second each of these sends; by default as many as are taken.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        per_second: Option<u32>,
        /// What the hostile office does; can be repeated. By default one after the other.
        #[arg(long = "script", value_enum)]
        scripts: Vec<Script>,
    },
    /// The hostile office of `flood`.
    #[command(hide = true)]
    Flooder {
        /// The city's folder.
        city: PathBuf,
        /// What it does.
        script: Script,
    },
    /// What `start` runs to see what the spool alone takes.
    #[command(hide = true)]
    OpenSpool {
        /// The spool's folder.
        folder: PathBuf,
    },
}

fn bytes(text: &str) -> Result<u32, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return Err(format!("`{unit}` is no unit: use B, KiB or MiB")),
    };
    let bytes = number.parse().ok().and_then(|number: u32| number.checked_mul(factor));
    bytes.filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX).ok_or_else(|| "a record has 0 B to 16 MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_a_bound() {
        for (text, expected) in [
            ("4KiB", Some(4_096)),
            ("16MiB", Some(16 << 20)),
            ("0", Some(0)),
            ("17MiB", None),
            ("4kb", None),
            ("KiB", None),
            ("9999999999", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
