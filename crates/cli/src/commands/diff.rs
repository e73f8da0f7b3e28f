//! `topology diff`: what a topology changes, and who has signed it, before somebody else does.

use std::path::Path;

use estafet_topology::{SignedTopology, Topology};
use serde::Serialize;
use similar::TextDiff;

use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::topology_file::TopologyFile;
use crate::versions::{Versions, is_admin};

/// As many lines around each change as tell whose it is: the longest table of a node has about as many.
const CONTEXT_LINES: usize = 6;
const LINE_CHARACTERS_MAX: usize = 160;

#[derive(Serialize)]
struct Compared {
    from: u64,
    to: u64,
    changes: String,
    signers: Vec<SignedBy>,
}

/// Somebody who has signed a topology.
#[derive(Debug, Serialize)]
pub(super) struct SignedBy {
    pub(super) operator: String,
    /// An admin by the version before: nodes that have that one count the signature.
    pub(super) counts: bool,
}

/// Compares a topology, signed or not, with another, or with the version before it in the folder of the `city`.
pub fn diff(
    file: &Path,
    from: Option<&Path>,
    city: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let TopologyFile { topology: after, signed } = TopologyFile::read(file)?;
    let before = match (from, city) {
        (Some(from), _) => TopologyFile::read(from)?.topology,
        (None, Some(city)) => {
            let before = Versions::in_folder(city).before(&after).map(|before| before.topology().clone());
            before.ok_or_else(|| Failure::NoVersionBefore(city.to_owned()))?
        }
        (None, None) => return Err(Failure::NoCity),
    };
    let signers = signed.iter().flat_map(|signed| signers(signed, Some(&before))).collect();
    let compared = Compared { from: before.version, to: after.version, changes: changes(&before, &after), signers };
    output.answer(&compared, |Compared { from, to, changes, signers }, output| {
        print(changes, output)?;
        if changes.is_empty() {
            output.line("Nothing differs.")?;
        } else if to <= from {
            output
                .line(format_args!("No node that has version {from} takes this one, version {to}: it is not newer."))?;
        }
        print_signers(signers, *from, output)
    })?;
    Ok(Outcome::Good)
}

/// Who has signed, beside the version before.
pub(super) fn signers(signed: &SignedTopology, before: Option<&Topology>) -> Vec<SignedBy> {
    let counts = |key| before.is_none_or(|before| is_admin(before, key));
    let signers = signed.signers().iter();
    signers.map(|signer| SignedBy { operator: signer.operator.clone(), counts: counts(&signer.key) }).collect()
}

/// Warns of those whose signatures do not count.
pub(super) fn print_signers(signers: &[SignedBy], before: u64, output: &mut Output<'_>) -> Result<(), Failure> {
    for SignedBy { operator, counts } in signers {
        let what = if *counts { "an admin of" } else { "who is NO admin of" };
        output.line(format_args!("signed by {operator}, {what} version {before}"))?;
    }
    Ok(())
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
