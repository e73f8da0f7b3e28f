//! The program `topology`. All it does itself is to parse its arguments and to say what went wrong.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use estafet_cli::{Cli, Output, run};
use estafet_tls::keep_memory_private;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = keep_memory_private() {
        report(&miette::miette!("a crash may leave the operator's key in a core dump: {error}"));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report(&miette::miette!("failed to start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (mut out, mut notes) = (io::stdout(), io::stderr());
    let mut output = Output::new(&mut out, &mut notes, cli.options.json);
    match runtime.block_on(run(cli, &mut output)) {
        Ok(outcome) => outcome.exit_code().into(),
        Err(failure) => {
            let exit_code = failure.exit_code();
            if exit_code != 0 {
                report(&failure.into());
            }
            exit_code.into()
        }
    }
}

fn report(report: &miette::Report) {
    // Where standard error is gone too, the exit code still tells.
    let _ = writeln!(io::stderr(), "{report:?}");
}
