//! `topology completions`: the completions for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Prints what the shell is to load.
pub fn completions(shell: Shell, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "topology", &mut script);
    output.answers().write_all(&script).map_err(Failure::Output)?;
    Ok(Outcome::Good)
}
