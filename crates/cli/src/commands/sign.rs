//! `topology sign`: makes of a topology what nodes believe.

use std::fs;
use std::path::{Path, PathBuf};

use estafet_model::{PublicKey, SigningKey};
use estafet_topology::{SignedTopology, Topology, parse};
use serde::Serialize;

use crate::city::{TOPOLOGY_SIGNED, read_key};
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::safe_file;

#[derive(Serialize)]
struct Signed<'a> {
    file: &'a Path,
    area: &'a str,
    version: u64,
    operator: &'a str,
}

/// Signs `file` with the private key in `key` and writes the result to `out`, by default `city.topology` beside it.
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
    let signed = SignedTopology::sign(topology, &operator, &signing_key);
    let signed = signed.map_err(|error| Failure::Sign(Box::new(error)))?;
    let out = out.map_or_else(|| file.with_file_name(TOPOLOGY_SIGNED), PathBuf::from);
    refuse_to_go_back(&out, &signed, &trusted)?;
    safe_file::replace(&out, &signed.encode())?;

    let Topology { area, version, .. } = signed.topology();
    if output.is_json() {
        output.object(&Signed { file: &out, area, version: *version, operator: &operator })?;
    } else {
        output.line(format_args!("{}: {area} version {version}, signed by {operator}", out.display()))?;
    }
    Ok(Outcome::Good)
}

fn owner(topology: &Topology, signing_key: &SigningKey, file: &Path, key: &Path) -> Result<String, Failure> {
    let public = signing_key.public();
    let listed = topology.operator_by_key(&public).map(|operator| operator.id.clone());
    listed.ok_or_else(|| Failure::SignerUnlisted {
        file: file.to_owned(),
        key: key.to_owned(),
        public: public.to_string(),
    })
}

/// Nodes keep the highest version, so a change under an old number would reach nobody. A file that is there and
/// cannot be believed holds nothing to go back from.
fn refuse_to_go_back(out: &Path, new: &SignedTopology, trusted: &[PublicKey]) -> Result<(), Failure> {
    let text = fs::read_to_string(out).unwrap_or_default();
    let Ok(there) = SignedTopology::decode(&text, trusted) else { return Ok(()) };
    let (there, new) = (there.topology(), new.topology());
    let goes_back = there.area == new.area && there.version >= new.version && there != new;
    if goes_back {
        return Err(Failure::VersionNotRaised { out: out.to_owned(), there: there.version, new: new.version });
    }
    Ok(())
}
