//! `estafet-relay workstation`: gives tokens to counters' machines, and takes them away.

use std::io::{self, Write};
use std::path::PathBuf;

use data_encoding::BASE64URL_NOPAD;
use miette::Diagnostic;
use zeroize::Zeroizing;

use super::file::{WORKSTATIONS_MAX, check_name};
use super::{May, Workstation, WorkstationFile, WorkstationFileError};
use crate::config::{Config, ConfigError};

/// What can be done with workstations.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Operation {
    /// Lets a machine in, and prints its token, which is shown this once: whoever shows it is that machine.
    ///
    /// From the first on, every request at intake needs a token: `Authorization: Bearer TOKEN`, or `estafet-relay submit
    /// --token-file FILE`. A running relay heeds it within a second.
    Add {
        /// The machine's name: lower-case letters, digits and inner hyphens.
        name: String,
        /// The node's relay.toml.
        #[arg(long)]
        config: PathBuf,
        /// It may read /metrics, and hand nothing in: for Prometheus.
        #[arg(long)]
        only_metrics: bool,
    },
    /// Shuts a machine out. A running relay heeds it within a second.
    ///
    /// Without the last one intake would be open to whatever runs on this machine: that one goes only with --open-intake.
    Remove {
        /// Its name.
        name: String,
        /// Also if it is the last one: from then on nobody at intake needs a token.
        #[arg(long)]
        open_intake: bool,
        /// The node's relay.toml.
        #[arg(long)]
        config: PathBuf,
    },
    /// Prints the name of each, and what it may do.
    List {
        /// The node's relay.toml.
        #[arg(long)]
        config: PathBuf,
    },
}

/// Nothing came of an operation.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum WorkstationError {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] WorkstationFileError),
    #[error("{0}")]
    #[diagnostic(help("such as loket-1"))]
    Name(String),
    #[error("there is a workstation `{0}` already")]
    #[diagnostic(help("choose another name, or remove that one first: its token ends with it"))]
    Exists(String),
    #[error("there is no workstation `{0}`")]
    #[diagnostic(help("`estafet-relay workstation list` names them"))]
    Unknown(String),
    #[error("`{0}` is the last workstation: without it intake would be open to whatever runs on this machine")]
    #[diagnostic(help("add another one first; or say --open-intake, if that is what is wanted"))]
    Last(String),
    #[error("there are {WORKSTATIONS_MAX} workstations already")]
    #[diagnostic(help("remove those that are not used any more"))]
    TooMany,
    #[error("failed to make a token: {0}")]
    NoRandomness(#[from] getrandom::Error),
    #[error("failed to print the answer: {0}")]
    #[diagnostic(help("a token that nobody has seen is of no use: remove the workstation, and add it again"))]
    Output(#[from] io::Error),
}

/// Does it. `out` gets the token or the list, `notes` what people should know.
pub(crate) fn operate(
    operation: &Operation,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<(), WorkstationError> {
    match operation {
        Operation::Add { name, config, only_metrics } => {
            let may = if *only_metrics { May::ReadMetrics } else { May::HandIn };
            let token = add(&Config::workstation_file(config)?, name, may)?;
            writeln!(out, "{}", *token)?;
            writeln!(
                notes,
                "The line above is the token of `{name}`. It is shown this once: bring it to that machine alone."
            )?;
        }
        Operation::Remove { name, open_intake, config } => {
            let was_last = remove(&Config::workstation_file(config)?, name, *open_intake)?;
            writeln!(out, "{name} is shut out")?;
            if was_last {
                writeln!(
                    notes,
                    "That was the last one: intake is open on loopback again, and cannot listen elsewhere."
                )?;
            }
        }
        Operation::List { config } => {
            let all = Config::workstation_file(config)?.load()?;
            for Workstation { name, may, .. } in &all.0 {
                writeln!(out, "{name}  {}", may.as_str())?;
            }
            if all.is_empty() {
                writeln!(notes, "There is none: intake needs no token, and listens on loopback only.")?;
            }
        }
    }
    Ok(())
}

fn add(file: &WorkstationFile, name: &str, may: May) -> Result<Zeroizing<String>, WorkstationError> {
    check_name(name).map_err(WorkstationError::Name)?;
    let mut all = file.load()?;
    if all.by_name(name).is_some() {
        return Err(WorkstationError::Exists(name.to_owned()));
    }
    if all.0.len() >= WORKSTATIONS_MAX {
        return Err(WorkstationError::TooMany);
    }
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut())?;
    let token = Zeroizing::new(BASE64URL_NOPAD.encode(bytes.as_ref()));
    all.0.push(Workstation { name: name.to_owned(), token_hash: blake3::hash(token.as_bytes()), may });
    file.store(&all)?;
    Ok(token)
}

/// True if that was the last one.
fn remove(file: &WorkstationFile, name: &str, even_the_last: bool) -> Result<bool, WorkstationError> {
    let mut all = file.load()?;
    let count = all.0.len();
    all.0.retain(|workstation| workstation.name != name);
    if all.0.len() == count {
        return Err(WorkstationError::Unknown(name.to_owned()));
    }
    if all.is_empty() && !even_the_last {
        return Err(WorkstationError::Last(name.to_owned()));
    }
    file.store(&all)?;
    Ok(all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workstation_comes_with_a_token_of_its_own_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let file = WorkstationFile::new(folder.path().join("workstations.toml"));
        let first = add(&file, "loket-1", May::HandIn).unwrap();
        let second = add(&file, "loket-2", May::ReadMetrics).unwrap();
        assert_ne!(*first, *second);
        assert!(matches!(add(&file, "loket-1", May::HandIn), Err(WorkstationError::Exists(_))));
        assert!(matches!(add(&file, "Loket", May::HandIn), Err(WorkstationError::Name(_))));
        let text = std::fs::read_to_string(&file.path).unwrap();
        assert!(!text.contains(first.as_str()), "only its hash is kept");
        let found = file.load().unwrap().by_token(second.as_bytes()).map(|found| (found.name.clone(), found.may));
        assert_eq!(found, Some(("loket-2".to_owned(), May::ReadMetrics)));
        assert!(!remove(&file, "loket-2", false).unwrap());
        assert!(file.load().unwrap().by_token(second.as_bytes()).is_none());
        assert!(matches!(remove(&file, "loket-2", true), Err(WorkstationError::Unknown(_))));
        assert!(matches!(remove(&file, "loket-1", false), Err(WorkstationError::Last(_))));
        assert!(file.load().unwrap().by_token(first.as_bytes()).is_some());
        assert!(remove(&file, "loket-1", true).unwrap());
    }
}
