//! `estafet-relay audit-log`: judges the log on the machine that writes it, also while the relay runs.

use std::io::{self, Write};
use std::path::PathBuf;

use estafet_audit_log::{LineHash, Verified};
use miette::Diagnostic;
use serde_json::json;

use super::folder::{self, Unusable};
use crate::config::{Config, ConfigError};

/// What can be done with the audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Operation {
    /// Reads every line, and checks that it is this node's and follows the one before. Exit code 1, and the first bad line, if
    /// one was changed, taken out, put in or moved.
    ///
    /// Prints a line of JSON with the newest line's number and hash, its head. Lines that are missing at the end are found by
    /// whoever has noted a head earlier: give it with --head.
    Verify {
        /// The node's relay.toml.
        #[arg(long)]
        config: PathBuf,
        /// A head that was noted, which the log is to hold: 64 hexadecimal digits.
        #[arg(long, value_name = "HASH")]
        head: Option<LineHash>,
    },
}

/// The log is bad, or was not judged.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum AuditLogError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    #[error("the audit log of `{node}` is not as it was written: {fault}")]
    #[diagnostic(help(
        "somebody has changed it, or the disk has: keep it, compare it with what `topology audit-log {node}` brought elsewhere \
         before, and look who could write there"
    ))]
    Bad { node: String, fault: Unusable },
    #[error("failed to read the audit log: {0}")]
    #[diagnostic(help("it is in the folder audit-log of the data folder, and begins with the relay's first start"))]
    Unreadable(io::Error),
    #[error("failed to print the answer: {0}")]
    Output(#[from] io::Error),
}

/// Does it, and prints the answer to `out`.
pub(crate) fn operate(operation: &Operation, out: &mut dyn Write) -> Result<(), AuditLogError> {
    let Operation::Verify { config, head } = operation;
    let config = Config::load(config)?;
    let node = config.node.id.to_string();
    let Verified { first, head, lines } = folder::verify(&config.data, &config.node.id, config.node.key, *head)
        .map_err(|fault| match fault {
            Unusable::Disk(error) => AuditLogError::Unreadable(error),
            fault @ Unusable::Bad { .. } => AuditLogError::Bad { node: node.clone(), fault },
        })?;
    let answer =
        json!({ "node": node, "first": first, "last": head.sequence, "lines": lines, "head": head.hash.to_string() });
    writeln!(out, "{answer}")?;
    Ok(())
}
