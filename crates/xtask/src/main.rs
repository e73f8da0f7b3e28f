//! `cargo demo`: builds the relay and the CLI, then becomes `topology demo` with the arguments that remain.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use xtask::build;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let failure = match arguments.next() {
        Some(task) if task == "demo" => match build("release", &["estafet-relay", "estafet-cli"]) {
            // This process becomes the demo, which so gets Ctrl-C and gives its own exit status.
            Ok(programs) => match programs.get("topology") {
                // `cargo demo -- --help` is meant like `cargo demo --help`.
                Some(topology) => Command::new(topology).arg("demo").args(arguments.filter(|word| word != "--")).exec(),
                None => io::Error::other("cargo built no program `topology`"),
            },
            Err(error) => error,
        },
        _ => io::Error::other("the one task is `demo`: cargo demo [--help]"),
    };
    // Where standard error is gone too, the exit code still tells.
    let _ = writeln!(io::stderr(), "xtask: {failure}");
    ExitCode::FAILURE
}
