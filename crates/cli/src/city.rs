//! A city's folder: all that an operator's program needs to talk to its nodes.

use std::fs;
use std::path::{Path, PathBuf};

use estafet_model::{NodeId, PublicKey, SigningKey};
use estafet_tls::{Identity, read_key};
use estafet_topology::{OperatorRole, SignedTopology, Topology};

use crate::failure::Failure;
use crate::topology_file::decode;

/// The topology as people edit it.
pub(crate) const TOPOLOGY_SOURCE: &str = "topology.toml";
/// The topology as nodes believe it.
pub(crate) const TOPOLOGY_SIGNED: &str = "city.topology";
pub(crate) const OPERATOR_KEY: &str = "operator.key";

/// A folder with a topology that its operator has signed.
#[derive(Debug)]
pub struct CityFolder {
    dir: PathBuf,
    topology: Topology,
    operator: SigningKey,
}

impl CityFolder {
    /// Reads the folder, and believes its topology if `operator.key` signed it. Whoever is no admin cannot have: then it is
    /// enough that the topology gives that key its role, for such a folder signs no other.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        if !dir.is_dir() {
            return Err(Failure::CityMissing(dir.to_owned()));
        }
        let operator = read_key(&dir.join(OPERATOR_KEY))?;
        let path = dir.join(TOPOLOGY_SIGNED);
        let text = fs::read_to_string(&path).map_err(Failure::read(&path))?;
        let own = operator.public();
        let kept = SignedTopology::decode_kept(&text).ok();
        let listed = kept.as_ref().and_then(|signed| signed.topology().operator_by_key(&own));
        let signed = match (listed.map(|listed| listed.role), kept) {
            (Some(OperatorRole::Viewer | OperatorRole::Operator), Some(signed)) => signed,
            (Some(OperatorRole::Admin), Some(signed)) if signed.signers().iter().all(|signer| signer.key != own) => {
                return Err(Failure::NotSignedByOwner(path));
            }
            _ => decode(&path, &text, &[own])?,
        };
        Ok(Self { dir: dir.to_owned(), topology: signed.topology().clone(), operator })
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The topology in `city.topology`. Nodes may know a later one.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The public half of the key in `operator.key`.
    #[must_use]
    pub fn operator_key(&self) -> PublicKey {
        self.operator.public()
    }

    /// What the operator shows to nodes.
    pub fn operator_identity(&self) -> Result<Identity, Failure> {
        Ok(Identity::new(&self.operator, "operator")?)
    }

    /// The folder of a node: configuration, key, and by default its data and Unix socket.
    #[must_use]
    pub fn node_dir(&self, node: &NodeId) -> PathBuf {
        node_dir(&self.dir, node)
    }
}

pub(crate) fn node_dir(city: &Path, node: &NodeId) -> PathBuf {
    city.join("nodes").join(node.as_str())
}
