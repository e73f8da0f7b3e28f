//! What keeps a benchmark from its end.

use std::io;

use estafet_cli::Failure;
use estafet_cli::demo::{DemoFailure, NotAccepted};
use miette::Diagnostic;

/// What went wrong.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum BenchError {
    #[error("failed to start: {0}")]
    Runtime(io::Error),
    #[error("the intruder failed: {0}")]
    Intruder(String),
    #[error("failed to build estafet-relay: {0}")]
    Build(io::Error),
    #[error("failed to make a folder for the relays: {0}")]
    #[diagnostic(help("name an empty one with --dir"))]
    Folder(io::Error),
    #[error("failed to read what the system says of process {pid}: {reason}")]
    #[diagnostic(help("figures of processes come from /proc, which only Linux has"))]
    Process { pid: u32, reason: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    City(#[from] Failure),
    #[error("failed to fill the spool: {0}")]
    Fill(String),
    #[error("the relay did not answer within {waited_s} s")]
    NoAnswer { waited_s: u64 },
    #[error("the origin did not take a record: {0}")]
    Submit(NotAccepted),
    #[error("`{0}` is no address of an intake")]
    Address(String),
    #[error("a node did not give its metrics: {0}")]
    Metrics(NotAccepted),
    #[error("a node has no metric `{0}`")]
    NoMetric(&'static str),
    #[error("{receipted} of {records} records are receipted, and for {waited_s} s no receipt has come")]
    Stuck { receipted: u64, records: u64, waited_s: u64 },
    #[error("the hub committed {committed} records, and {records} were sent")]
    Count { committed: u64, records: u64 },
}

impl From<DemoFailure> for BenchError {
    fn from(failure: DemoFailure) -> Self {
        Self::City(failure.into())
    }
}
