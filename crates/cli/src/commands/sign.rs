//! `topology sign`: makes of a topology what nodes believe.

use std::fs;
use std::path::{Path, PathBuf};

use estafet_model::{PublicKey, SigningKey};
use estafet_tls::read_key;
use estafet_topology::{SignedTopology, Topology, parse};
use serde::Serialize;

use crate::city::TOPOLOGY_SIGNED;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::safe_file;

#[derive(Serialize)]
struct Signed<'a> {
    file: &'a Path,
    area: &'a str,
    version: u64,
    /// Who signed now.
    operator: &'a str,
    /// All who have signed.
    operators: Vec<&'a str>,
    missing_signatures: usize,
}

/// Signs `file` with the private key in `key` and writes the result to `out`, by default `city.topology` beside it. If that
/// is there with the same topology, the signature is added to those of other admins.
pub fn sign(
    file: &Path,
    key: &Path,
    operator: Option<&str>,
    out: Option<&Path>,
    output: &mut Output<'_>,
) -> Result<Outcome, Failure> {
    let text = fs::read_to_string(file).map_err(Failure::read(file))?;
    let topology = parse(&file.display().to_string(), &text)?;
    let signing_key = read_key(key)?;
    let operator = match operator {
        Some(operator) => operator.to_owned(),
        None => owner(&topology, &signing_key, file, key)?,
    };
    let trusted: Vec<PublicKey> = topology.operators.iter().map(|operator| operator.key).collect();
    let out = out.map_or_else(|| file.with_file_name(TOPOLOGY_SIGNED), PathBuf::from);
    let there = there(&out, &trusted);
    let signed = match there.clone().filter(|there| *there.topology() == topology) {
        // By the same again: as it is.
        Some(there) if there.signers().iter().any(|signer| signer.key == signing_key.public()) => Ok(there),
        Some(there) => there.countersign(&operator, &signing_key),
        None => SignedTopology::sign(topology, &operator, &signing_key),
    };
    let signed = signed.map_err(|error| Failure::Sign(Box::new(error)))?;
    refuse_to_go_back(&out, &signed, there.as_ref())?;
    safe_file::replace(&out, &signed.encode())?;

    let (Topology { area, version, .. }, missing) = (signed.topology(), signed.missing_signatures());
    let operators: Vec<&str> = signed.signers().iter().map(|signer| signer.operator.as_str()).collect();
    let answer =
        Signed { file: &out, area, version: *version, operator: &operator, operators, missing_signatures: missing };
    output.answer(&answer, |answer, output| {
        let by = answer.operators.join(", ");
        output.line(format_args!("{}: {area} version {version}, signed by {by}", out.display()))?;
        if missing > 0 {
            output.line(format_args!("No node takes it before {missing} more of its admins have signed."))?;
        }
        Ok(())
    })?;
    Ok(Outcome::Good)
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
fn refuse_to_go_back(out: &Path, new: &SignedTopology, there: Option<&SignedTopology>) -> Result<(), Failure> {
    let Some(there) = there.map(SignedTopology::topology) else { return Ok(()) };
    let new = new.topology();
    if there.area == new.area && there.version >= new.version && there != new {
        return Err(Failure::VersionNotRaised { out: out.to_owned(), there: there.version, new: new.version });
    }
    Ok(())
}
