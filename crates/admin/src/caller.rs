//! Who asks, and what they may ask for.

use estafet_model::PublicKey;
use estafet_topology::{OperatorRole, Topology};

/// Who made a request. Every handler finds it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// What they may do.
    pub role: OperatorRole,
    /// Their name in the topology, for the audit log.
    pub name: String,
    /// How they have shown that.
    pub proof: Proof,
}

/// How somebody has shown who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Proof {
    /// They hold this key of an operator.
    Operator(PublicKey),
    /// They hold this key of a node.
    Node(PublicKey),
    /// They could open the Unix socket; with the number of their user, if the system tells it.
    Local(Option<u32>),
}

impl Caller {
    /// The owner of `key` by the topology: an operator with their role, or a node, which may look. A key that is
    /// neither is nobody's.
    #[must_use]
    pub fn by_key(topology: &Topology, key: &PublicKey) -> Option<Self> {
        let operator = topology.operator_by_key(key).map(|operator| Self {
            role: operator.role,
            name: operator.id.clone(),
            proof: Proof::Operator(*key),
        });
        let node = || {
            topology.node_by_key(key).map(|node| Self {
                role: OperatorRole::Viewer,
                name: node.id.to_string(),
                proof: Proof::Node(*key),
            })
        };
        operator.or_else(node)
    }

    /// Whoever can open the node's own Unix socket: its file permission is the guard.
    #[must_use]
    pub fn local(user: Option<u32>) -> Self {
        Self { role: OperatorRole::Admin, name: "local".to_owned(), proof: Proof::Local(user) }
    }
}
