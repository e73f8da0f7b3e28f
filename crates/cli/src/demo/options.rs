//! What the demo can be asked for.

use std::path::PathBuf;

use clap::Args;

/// How the demo is to run.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Send the files in this folder (any type, up to 16 MiB each), and compare byte for byte at the end.
    #[arg(long, value_name = "DIR")]
    pub input: Option<PathBuf>,
    /// Run the network as it was in 2013, in which the same cut isolates three sub-districts.
    #[arg(long)]
    pub as_built_2013: bool,
    /// Leave the city running afterwards, until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// How many records each office captures, of 64 KiB each.
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "input", value_parser = clap::value_parser!(u32).range(1..))]
    pub records: u32,
    /// Where to make the city's folder, new or empty; by default a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
