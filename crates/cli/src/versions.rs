//! The versions of its topology that a folder has, so that whoever signs the next one sees what it changes, and by whose
//! word.

use std::fs;
use std::path::{Path, PathBuf};

use estafet_model::PublicKey;
use estafet_topology::{OperatorRole, SignedTopology, Topology};

use crate::city::TOPOLOGY_SIGNED;
use crate::failure::Failure;
use crate::safe_file;

/// The version before that in `city.topology`.
const TOPOLOGY_PREVIOUS: &str = "previous.topology";

/// The last two versions.
#[derive(Debug)]
pub(crate) struct Versions {
    previous_path: PathBuf,
    present: Option<SignedTopology>,
    previous: Option<SignedTopology>,
}

impl Versions {
    /// What can be read of them. The folder is its owner's, and believed.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let previous_path = folder.join(TOPOLOGY_PREVIOUS);
        let read = |path: &Path| SignedTopology::decode_kept(&fs::read_to_string(path).ok()?).ok();
        Self { present: read(&folder.join(TOPOLOGY_SIGNED)), previous: read(&previous_path), previous_path }
    }

    /// The newest other than `next` that nodes take: not one that lacks signatures.
    pub(crate) fn before(&self, next: &Topology) -> Option<&SignedTopology> {
        let present = self
            .present
            .as_ref()
            .filter(|present| self.previous.as_ref().is_none_or(|previous| previous.judge(&present.encode()).is_ok()));
        let is_other = |before: &&SignedTopology| before.topology() != next && before.topology().area == next.area;
        present.into_iter().chain(&self.previous).find(is_other)
    }

    /// Before `next` takes the place of the present one, keeps that, if nodes take it.
    pub(crate) fn keep_before(&self, next: &Topology) -> Result<(), Failure> {
        match self.before(next) {
            Some(before) => safe_file::replace(&self.previous_path, &before.encode()),
            None => Ok(()),
        }
    }
}

/// Whether nodes that have `before` believe who holds this key.
pub(crate) fn is_admin(before: &Topology, key: &PublicKey) -> bool {
    before.operator_by_key(key).is_some_and(|listed| listed.role == OperatorRole::Admin)
}

/// How many more of the admins of `before` have to sign before nodes that have it take `next`.
pub(crate) fn missing_signatures(before: &Topology, next: &SignedTopology) -> usize {
    let known = next.signers().iter().filter(|signer| is_admin(before, &signer.key)).count();
    before.required_signatures.saturating_sub(known)
}
