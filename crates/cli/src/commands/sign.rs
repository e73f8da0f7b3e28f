//! `topology sign`: makes of a topology what nodes believe.

use std::fs;
use std::path::{Path, PathBuf};

use estafet_model::{PublicKey, SigningKey};
use estafet_tls::read_key;
use estafet_topology::{SignedTopology, Topology};
use serde::Serialize;

use super::diff::{changes, print, signers};
use crate::city::{TOPOLOGY_SIGNED, TOPOLOGY_SOURCE};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::safe_file;
use crate::topology_file::TopologyFile;
use crate::versions::{Versions, missing_signatures};

#[derive(Serialize)]
struct Signed<'a> {
    file: &'a Path,
    area: &'a str,
    version: u64,
    /// Who signed now.
    operator: &'a str,
    /// All who have signed.
    operators: Vec<&'a str>,
    /// Of these, who is no admin by the version before.
    not_counted: Vec<&'a str>,
    missing_signatures: usize,
    /// The version before, if the folder has it, and what has changed since.
    before: Option<u64>,
    changes: Option<String>,
}

/// Signs `file` with the private key in `key` and writes the result to `out`, by default `city.topology` beside it, or in
/// the folder of the `city` if another admin has signed `file` already. The signature is added to those that are there.
pub fn sign(
    file: &Path,
    key: &Path,
    operator: Option<&str>,
    out: Option<&Path>,
    city: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let TopologyFile { topology, signed: handed_on } = TopologyFile::read(file)?;
    let signing_key = read_key(key)?;
    let operator = match operator {
        Some(operator) => operator.to_owned(),
        None => owner(&topology, &signing_key, file, key)?,
    };
    let trusted: Vec<PublicKey> = topology.operators.iter().map(|operator| operator.key).collect();
    let in_city = city.filter(|_| handed_on.is_some()).map(|city| city.join(TOPOLOGY_SIGNED));
    let out = out.map(PathBuf::from).or(in_city).unwrap_or_else(|| file.with_file_name(TOPOLOGY_SIGNED));
    let there = there(&out, &trusted);
    let is_same = |there: &SignedTopology| *there.topology() == topology;
    let own_folder = city.or_else(|| out.parent()).unwrap_or(Path::new("."));
    let versions = Versions::in_folder(own_folder);
    let before = versions.before(&topology).map(SignedTopology::topology);
    let changes = before.map(|before| changes(before, &topology));
    let is_handed_on = handed_on.is_some();
    let begun = [handed_on, there.clone().filter(is_same)].into_iter().flatten();
    let signed = match begun.max_by_key(|begun| begun.signers().len()) {
        // By the same again: as it is.
        Some(there) if there.signers().iter().any(|signer| signer.key == signing_key.public()) => Ok(there),
        Some(there) => there.countersign(&operator, &signing_key),
        None => SignedTopology::sign(topology, &operator, &signing_key),
    };
    let signed = signed.map_err(|error| Failure::Sign(Box::new(error)))?;
    refuse_to_go_back(&out, &signed, there.as_ref().map(SignedTopology::topology))?;
    refuse_to_go_back(&out, &signed, before)?;
    if out == own_folder.join(TOPOLOGY_SIGNED) {
        versions.keep_before(signed.topology())?;
    }
    safe_file::replace(&out, &signed.encode())?;

    let Topology { area, version, .. } = signed.topology();
    let missing = before.map_or(0, |before| missing_signatures(before, &signed)).max(signed.missing_signatures());
    let signers = signers(&signed, before);
    let operators: Vec<&str> = signers.iter().map(|signer| signer.operator.as_str()).collect();
    let not_counted = signers.iter().filter(|signer| !signer.counts).map(|signer| signer.operator.as_str()).collect();
    let answer = Signed {
        file: &out,
        area,
        version: *version,
        operator: &operator,
        operators,
        not_counted,
        missing_signatures: missing,
        before: before.map(|before| before.version),
        changes,
    };
    output.answer(&answer, |answer, output| {
        match &answer.changes {
            Some(changes) => print(changes, output)?,
            None if answer.operators.len() > 1 => output.note(
                "No version before this one is here: `topology diff FILE --from OLD` tells what you have signed.",
            ),
            None => {}
        }
        let by = answer.operators.join(", ");
        output.line(format_args!("{}: {area} version {version}, signed by {by}", out.display()))?;
        if let Some(before) = answer.before.filter(|_| !answer.not_counted.is_empty()) {
            let whose = answer.not_counted.join(", ");
            output.line(format_args!(
                "By version {before}, {whose} is no admin: nodes that have that version do not count it."
            ))?;
        }
        if missing > 0 {
            output.line(format_args!("No node takes it before {missing} more of the city's admins have signed."))?;
        }
        if is_handed_on {
            output.note(format_args!(
                "Take {TOPOLOGY_SOURCE} from whoever signed first as well: your own next change begins with it."
            ));
        }
        Ok(())
    })?;
    Ok(if missing > 0 { Outcome::Incomplete } else { Outcome::Good })
}

/// Who has this key by the topology.
pub(crate) fn owner(topology: &Topology, signing_key: &SigningKey, file: &Path, key: &Path) -> Result<String, Failure> {
    let public = signing_key.public();
    let listed = topology.operator_by_key(&public).map(|operator| operator.id.clone());
    listed.ok_or_else(|| Failure::SignerUnlisted {
        file: file.to_owned(),
        key: key.to_owned(),
        public: public.to_string(),
    })
}

/// What is there already. A file that cannot be believed holds nothing to add to, or to go back from.
fn there(out: &Path, trusted: &[PublicKey]) -> Option<SignedTopology> {
    SignedTopology::decode(&fs::read_to_string(out).ok()?, trusted).ok()
}

/// Nodes keep the highest version, so a change under an old number would reach nobody.
fn refuse_to_go_back(out: &Path, new: &SignedTopology, there: Option<&Topology>) -> Result<(), Failure> {
    let Some(there) = there else { return Ok(()) };
    let new = new.topology();
    if there.area == new.area && there.version >= new.version && there != new {
        return Err(Failure::VersionNotRaised { out: out.to_owned(), there: there.version, new: new.version });
    }
    Ok(())
}
