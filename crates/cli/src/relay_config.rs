//! The `relay.toml` of a node in a new city.

use std::net::SocketAddr;

use estafet_model::{NodeId, PublicKey};
use estafet_topology::Role;

/// The file's text. Its paths count from the node's folder, `nodes/ID`.
pub(crate) fn relay_config(node: &NodeId, role: Role, operator: &PublicKey, intake: SocketAddr) -> String {
    let spool = match role {
        Role::Relay => RELAY_SPOOL,
        Role::Hub => HUB_SPOOL,
    };
    format!(
        r#"# One node. Paths count from this file's folder.
node = "{node}"
topology = "../../city.topology"
key = "node.key"
# Operator keys this relay trusts to sign a topology.
operator_keys = ["{operator}"]
# Records wait here until the main server has them; never delete it.
data = "data"
# Optional, with their defaults: listen (every interface, at the port of the node's first address in the topology; on
# loopback that address alone), admin (its admin address).
# For local use by whoever may open the file.
admin_socket = "admin.sock"

# Where counter programs hand records in.
[intake]
listen = "{intake}"

{spool}"#
    )
}

const RELAY_SPOOL: &str = r#"# The most that the records may take up on disk.
[spool]
bytes_max = "8GiB"
"#;

const HUB_SPOOL: &str = r#"# A main server keeps every record: its archive may take the whole disk, unless this says less.
# [spool]
# bytes_max = "500GiB"
"#;
