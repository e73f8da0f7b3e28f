//! Why a demo could not be carried through. A demo that ends with a bad ledger is none of these.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use miette::Diagnostic;

/// What kept the demo from its end.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum DemoFailure {
    /// The relay's program is not there.
    #[error("failed to find estafet-relay beside this program: there is no {}", .0.display())]
    #[diagnostic(help("build it with `cargo build --release -p estafet-relay`, or use `cargo demo`, which does"))]
    NoRelayProgram(PathBuf),
    /// A relay could not be started.
    #[error("failed to start the relay of {node}: {error}")]
    Start {
        /// The node.
        node: String,
        /// What the operating system said.
        error: io::Error,
    },
    /// A relay ended though nobody asked it to.
    #[error("the relay of {node} ended by itself ({status})\n{last_words}")]
    #[diagnostic(help("see {}", log.display()))]
    RelayEnded {
        /// The node.
        node: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        last_words: String,
        /// All of its log.
        log: PathBuf,
    },
    /// The city did not find itself.
    #[error("the map of {seen_from} was not complete after {waited_s} s: {lacking}")]
    #[diagnostic(help("see relay.log of the nodes that are named"))]
    MapIncomplete {
        /// Whose map.
        seen_from: String,
        /// How long it was waited for.
        waited_s: u64,
        /// What it lacked.
        lacking: String,
    },
    /// A relay refused a record for good.
    #[error("{office} refused a record: {reason}")]
    #[diagnostic(help("see relay.log of {office}"))]
    RecordRefused {
        /// Where.
        office: String,
        /// In the relay's words.
        reason: String,
    },
    /// There is nothing to send.
    #[error("{} holds no file of at most 16 MiB", .0.display())]
    #[diagnostic(help("name a folder with files; those in folders within it count too"))]
    NoInput(PathBuf),
    /// A file of the user's could not be read.
    #[error("failed to read {}: {error}", path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The operating system does not report signals.
    #[error("failed to listen for Ctrl-C: {0}")]
    Signals(io::Error),
    /// Ctrl-C, or another signal to end.
    #[error("the demo was interrupted; its relays have ended")]
    Interrupted,
}
