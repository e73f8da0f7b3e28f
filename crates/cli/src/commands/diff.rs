//! `topology diff`: what a topology changes, before somebody signs it.

use std::path::Path;

use estafet_topology::Topology;
use serde::Serialize;
use similar::TextDiff;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::topology_file::TopologyFile;

/// As many lines around each change as tell whose it is: the longest table of a node has about as many.
const CONTEXT_LINES: usize = 6;
const LINE_CHARACTERS_MAX: usize = 160;

#[derive(Serialize)]
struct Compared {
    from: u64,
    to: u64,
    changes: String,
}

/// Compares two topologies, signed or not.
pub fn diff(from: &Path, file: &Path, output: &mut Output<'_>) -> Result<Outcome, Failure> {
    let [before, after] = [TopologyFile::read(from)?.topology, TopologyFile::read(file)?.topology];
    let compared = Compared { from: before.version, to: after.version, changes: changes(&before, &after) };
    output.answer(&compared, |Compared { changes, .. }, output| {
        if changes.is_empty() { output.line("Nothing differs.") } else { print(changes, output) }
    })?;
    Ok(Outcome::Good)
}

/// Prints changes for people, who need not see all of a seal key.
pub(super) fn print(changes: &str, output: &mut Output<'_>) -> Result<(), Failure> {
    changes.lines().try_for_each(|line| match line.char_indices().nth(LINE_CHARACTERS_MAX) {
        Some((end, _)) => output.line(format_args!("{}…", &line[..end])),
        None => output.line(line),
    })
}

/// What differs between two topologies, as a unified diff of their canonical texts. Empty if nothing does.
pub(super) fn changes(before: &Topology, after: &Topology) -> String {
    let [before, after] = [before, after].map(Topology::to_toml);
    TextDiff::from_lines(&before, &after).unified_diff().context_radius(CONTEXT_LINES).to_string()
}
