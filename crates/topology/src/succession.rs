//! What becomes of another topology at a node where one is in force.
//!
//! The highest version that the present one's admins vouch for wins: that is how a topology floods through an area, and
//! how an old one that comes back loses. A node takes most changes while it runs. Those of its own role, name, key or
//! addresses, and of which hubs there are, reach into what it has on its disk and who listens where: they wait for its
//! next start.

use estafet_model::{NodeId, PublicKey};

use crate::signed::{SignedTopology, UntrustedTopology};
use crate::topology::{Node, OperatorRole, Role, Topology};

/// What another topology is beside the one in force.
#[derive(Debug, Clone, PartialEq)]
pub enum Succession {
    /// It takes its place.
    Newer(Box<SignedTopology>),
    /// It is the same.
    Same,
    /// It had its time: whoever has it is to be sent the one in force.
    Older {
        /// Its version.
        version: u64,
    },
}

/// Why a topology does not take the place of the one in force.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum NoSuccessor {
    /// It is not to be believed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Untrusted(#[from] UntrustedTopology),
    /// It is that of another area.
    #[error("it is the topology of `{other}`, and here is `{area}`")]
    #[diagnostic(help("an area keeps its name: look whether this is the right file"))]
    OtherArea {
        /// The area in force.
        area: String,
        /// The one it names.
        other: String,
    },
    /// The topology in force, or this one itself, asks for more admins than have signed it.
    #[error("{found} of the {required} admins who have to sign it have")]
    #[diagnostic(help("let another admin sign the same file: `topology sign` adds to the signatures that are there"))]
    TooFewSignatures {
        /// How many admins that count have signed.
        found: usize,
        /// How many have to.
        required: usize,
    },
    /// Two different topologies have one version.
    #[error("version {version} is in force, and is another topology")]
    #[diagnostic(help("raise `version` above {version} in topology.toml, and sign it again"))]
    SameVersion {
        /// The version of both.
        version: u64,
    },
}

/// When a topology takes effect at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakesEffect {
    /// While it runs.
    AtOnce,
    /// When it is started the next time.
    NextStart {
        /// What has changed that it cannot change while it runs.
        because: &'static str,
    },
    /// Not at all: the node has no place in it.
    Never {
        /// What keeps it out.
        because: &'static str,
    },
}

impl SignedTopology {
    /// What another topology is beside this one, which is in force.
    ///
    /// # Errors
    /// If it cannot take this one's place, whatever its version.
    pub fn judge(&self, text: &str) -> Result<Succession, NoSuccessor> {
        let present = self.topology();
        let admins = present.operators.iter().filter(|operator| operator.role == OperatorRole::Admin);
        let trusted: Vec<PublicKey> = admins.map(|admin| admin.key).collect();
        let other = Self::decode(text, &trusted)?;
        let known = other.signers().iter().filter(|signer| trusted.contains(&signer.key)).count();
        for (found, required) in
            [(known, present.required_signatures), (other.signers().len(), other.topology().required_signatures)]
        {
            if found < required {
                return Err(NoSuccessor::TooFewSignatures { found, required });
            }
        }
        let (area, version) = (&other.topology().area, other.topology().version);
        if *area != present.area {
            return Err(NoSuccessor::OtherArea { area: present.area.to_string(), other: area.to_string() });
        }
        match version.cmp(&present.version) {
            std::cmp::Ordering::Greater => Ok(Succession::Newer(Box::new(other))),
            std::cmp::Ordering::Less => Ok(Succession::Older { version }),
            std::cmp::Ordering::Equal if other.topology() == present => Ok(Succession::Same),
            std::cmp::Ordering::Equal => Err(NoSuccessor::SameVersion { version }),
        }
    }
}

impl Topology {
    /// When this one takes effect at node `me`, where `present` is in force.
    #[must_use]
    pub fn takes_effect(&self, me: &NodeId, present: &Self) -> TakesEffect {
        let (Some(now), Some(then)) = (present.node(me), self.node(me)) else {
            return TakesEffect::Never { because: "this node is not listed in it" };
        };
        if now.key != then.key {
            return TakesEffect::Never { because: "it lists another key for this node" };
        }
        let hubs = |topology: &Self| -> Vec<(NodeId, PublicKey)> {
            topology.hub_ids().filter_map(|hub| Some((hub.clone(), topology.node(hub)?.key))).collect()
        };
        if hubs(self) != hubs(present) || self.copies != present.copies {
            return TakesEffect::NextStart { because: "it names other main servers or another number of copies" };
        }
        let face = |node: &Node| (node.code, node.role, node.addresses.clone(), node.admin);
        if face(now) != face(then) {
            return TakesEffect::NextStart { because: "it gives this node another code, role or address" };
        }
        TakesEffect::AtOnce
    }

    /// This topology as far as node `me` heeds it while it runs, where `present` is in force: all but what takes effect at its
    /// next start, and so under the version that it has. Nobody whom an admin shuts out stays for that long. A main server
    /// that this one no longer lists keeps what its receipts are known by, and no link.
    #[must_use]
    pub fn until_next_start(&self, me: &NodeId, present: &Self) -> Self {
        let mut partly = Self { version: present.version, copies: present.copies, ..self.clone() };
        partly.hubs.clone_from(&present.hubs);
        for hub in &mut partly.hubs {
            if let Some(renewed) = self.hubs.iter().find(|other| other.node == hub.node) {
                hub.clone_from(renewed);
            }
            if let Some(listed) = present.node(&hub.node) {
                partly.nodes.entry(hub.node.clone()).or_insert_with(|| listed.clone());
            }
        }
        for node in partly.nodes.values_mut() {
            node.role = present.node(&node.id).map_or(Role::Relay, |before| before.role);
        }
        if let (Some(now), Some(then)) = (present.node(me), partly.nodes.get_mut(me)) {
            (then.code, then.addresses, then.admin) = (now.code, now.addresses.clone(), now.admin);
        }
        partly
    }
}
