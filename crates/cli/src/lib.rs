//! The operators' command `topology`: make a city, check and sign its topology, ask its nodes.
//!
//! Each command is a function of [`commands`] that writes to an [`Output`], so that tests and other programs can run
//! it. The commands ask nodes over the admin API; `init`, `check`, `sign`, `impact`,
//! `spof` and `advise` work on files alone, and `impact` adds what a node says if one answers.
//!
//! Read first: [`CityFolder`] (all that a program needs to talk to a city) and [`Reach`] (how it gets an answer from a
//! node that is alive). [`init::init`] makes a city.

mod amendment;
mod arguments;
mod city;
pub mod commands;
mod cost;
pub mod demo;
pub mod disk;
mod failure;
mod fingerprint;
pub mod init;
mod moment;
mod output;
pub mod plan;
mod ports;
mod reach;
mod record_name;
mod relay_config;
mod safe_file;
mod topology_file;
mod versions;

pub use arguments::{Cli, Command, Options};
pub use city::CityFolder;
pub use commands::run;
pub use failure::{Failure, Outcome};
pub use moment::{Moment, NoMoment};
pub use output::Output;
pub use ports::ReservedPorts;
pub use reach::{Asked, NodeClient, Reach, Silence};
pub use record_name::RecordName;
pub use topology_file::TopologyFile;
