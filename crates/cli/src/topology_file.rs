//! A topology out of a file, plain or signed.

use std::fs;
use std::path::Path;

use estafet_model::PublicKey;
use estafet_topology::{OperatorRole, SignedTopology, Topology, parse};

use crate::failure::Failure;

/// How a signed file begins. No TOML begins so.
const SIGNED_BEGINNING: &str = "estafet-topology ";
const BODY_BEGINNING: &str = "\n---\n";

/// A topology file that holds together.
#[derive(Debug, Clone)]
pub struct TopologyFile {
    /// What it says.
    pub topology: Topology,
    /// The same, if it bears good signatures of admins that it lists itself. Whether a node trusts one of them, only the
    /// node can say.
    pub signed: Option<SignedTopology>,
}

impl TopologyFile {
    /// Reads a file of either form.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(path).map_err(Failure::read(path))?;
        if !text.starts_with(SIGNED_BEGINNING) {
            let topology = parse(&path.display().to_string(), &text)?;
            return Ok(Self { topology, signed: None });
        }
        let body = text.split_once(BODY_BEGINNING).map(|(_, body)| body).unwrap_or_default();
        let admins: Vec<PublicKey> = parse(&path.display().to_string(), body)?
            .operators
            .iter()
            .filter(|operator| operator.role == OperatorRole::Admin)
            .map(|operator| operator.key)
            .collect();
        let signed = decode(path, &text, &admins)?;
        Ok(Self { topology: signed.topology().clone(), signed: Some(signed) })
    }
}

/// Reads a signed topology if a holder of one of the `trusted` keys signed it.
pub(crate) fn decode(path: &Path, text: &str, trusted: &[PublicKey]) -> Result<SignedTopology, Failure> {
    SignedTopology::decode(text, trusted)
        .map_err(|error| Failure::Untrusted { path: path.to_owned(), error: Box::new(error) })
}
