//! The relays as child processes. None outlives the [`Fleet`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use super::error::DemoFailure;

/// The relay's program beside the one that runs.
pub fn relay_program() -> Result<PathBuf, DemoFailure> {
    let here = std::env::current_exe().and_then(|program| program.canonicalize()).unwrap_or_default();
    let relay = here.with_file_name("estafet-relay");
    if relay.is_file() { Ok(relay) } else { Err(DemoFailure::NoRelayProgram(relay)) }
}

/// One running relay. Dropping it kills it.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    log: PathBuf,
}

impl Relay {
    /// Starts a relay; its log goes to `relay.log` beside its configuration, behind what stands there.
    ///
    /// It gets a process group of its own: a Ctrl-C in the terminal is for the demo, which then ends its relays in
    /// order.
    pub fn start(program: &Path, config: &Path, arguments: &[String]) -> io::Result<Self> {
        let log = config.with_file_name("relay.log");
        let writer = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(["run", "--config"])
            .arg(config)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end (SIGTERM).
    fn ask_to_end(&mut self) {
        // The id stays this child's until it is waited for, so no other process can be meant.
        if self.ended().is_none()
            && let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// The end of its log, for a report.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_WORDS_LINES)..].join("\n")
    }
}

impl Drop for Relay {
    /// SIGKILL; one that has ended already is left alone.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All running relays, by their nodes.
#[derive(Debug)]
pub struct Fleet {
    program: PathBuf,
    arguments: Vec<String>,
    relays: BTreeMap<String, Relay>,
}

impl Fleet {
    /// An empty fleet of relays that run `program`.
    #[must_use]
    pub fn new(program: PathBuf) -> Self {
        Self { program, arguments: Vec::new(), relays: BTreeMap::new() }
    }

    /// Starts every relay with these as well.
    #[must_use]
    pub fn with_arguments(self, arguments: Vec<String>) -> Self {
        Self { arguments, ..self }
    }

    /// Starts the relay of a node.
    pub fn start(&mut self, node: &str, config: &Path) -> Result<(), DemoFailure> {
        let started = Relay::start(&self.program, config, &self.arguments);
        let relay = started.map_err(|error| DemoFailure::Start { node: node.to_owned(), error })?;
        self.relays.insert(node.to_owned(), relay);
        Ok(())
    }

    /// The relays that were started and not killed.
    pub fn relays(&self) -> impl Iterator<Item = (&str, &Relay)> {
        self.relays.iter().map(|(node, relay)| (node.as_str(), relay))
    }

    /// True if the relay of a node was started and not killed.
    #[must_use]
    pub fn is_running(&self, node: &str) -> bool {
        self.relays.contains_key(node)
    }

    /// Ends the relay of a node with SIGKILL, as a power cut would. When this returns, it is gone.
    pub fn kill(&mut self, node: &str) {
        self.relays.remove(node);
    }

    /// Fails if a relay has ended by itself.
    pub fn check(&mut self) -> Result<(), DemoFailure> {
        for (node, relay) in &mut self.relays {
            if let Some(status) = relay.ended() {
                let (node, last_words, log) = (node.clone(), relay.last_words(), relay.log.clone());
                return Err(DemoFailure::RelayEnded { node, status, last_words, log });
            }
        }
        Ok(())
    }

    /// Asks every relay to end, waits, and kills those that stay.
    pub async fn terminate(&mut self) {
        self.relays.values_mut().for_each(Relay::ask_to_end);
        let deadline = Instant::now() + TERMINATION_PATIENCE;
        while self.relays.values_mut().any(|relay| relay.ended().is_none()) && Instant::now() < deadline {
            sleep(Duration::from_millis(20)).await;
        }
        self.relays.clear();
    }
}

/// A relay says goodbye and closes its spool, which takes milliseconds; thirteen of them share two slow cores.
const TERMINATION_PATIENCE: Duration = Duration::from_secs(5);
const LAST_WORDS_LINES: usize = 5;
