//! A new city: topology, keys, and a configuration for each node, all on this machine's loopback addresses.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use estafet_model::{NodeId, SigningKey};
use estafet_seal::SealSecret;
use estafet_tls::{create_key, create_secret, new_key};
use estafet_topology::{CityPlan, NodeSetup, Operator, OperatorRole, Role, SignedTopology, Template, Topology};
use serde::Serialize;

use crate::city::{OPERATOR_KEY, TOPOLOGY_SIGNED, TOPOLOGY_SOURCE, node_dir};
use crate::failure::Failure;
use crate::ports::ReservedPorts;
use crate::relay_config::relay_config;
use crate::safe_file;

/// The name of the one operator of a new city.
const OPERATOR: &str = "operator";

/// Where a main server has its private seal keys.
const SEAL_KEYS: &str = "seal";

/// What was made, with absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewCity {
    /// The city's folder.
    pub dir: PathBuf,
    /// The nodes by their ids.
    pub nodes: BTreeMap<String, NewNode>,
}

/// A node of a new city.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewNode {
    /// Its `relay.toml`.
    pub config: PathBuf,
    /// Where it listens for neighbors (QUIC).
    pub listen: SocketAddr,
    /// Where it listens for operators (gRPC).
    pub admin: SocketAddr,
    /// Where it takes records, as the beginning of a URL.
    pub intake: String,
}

/// A node's secrets and ports, before they are written down.
struct Draft {
    role: Role,
    key: SigningKey,
    listen: SocketAddr,
    admin: SocketAddr,
    intake: SocketAddr,
}

/// Makes a city from a template in `dir`, which must be new or empty.
pub fn init(template: Template, dir: &Path) -> Result<NewCity, Failure> {
    init_plan(template.plan(), dir)
}

/// Makes a city from a plan of one's own in `dir`, which must be new or empty.
pub fn init_plan(plan: CityPlan, dir: &Path) -> Result<NewCity, Failure> {
    let dir = empty_folder(dir)?;
    let operator = new_key()?;
    let drafts = draft_nodes(&plan)?;
    let mut seal_secrets = BTreeMap::new();
    for (id, _) in drafts.iter().filter(|(_, draft)| draft.role == Role::Hub) {
        seal_secrets.insert(id.clone(), SealSecret::generate()?);
    }
    let topology = plan.into_topology(
        Operator { id: OPERATOR.to_owned(), key: operator.public(), role: OperatorRole::Admin },
        |id| {
            let draft = &drafts[id];
            NodeSetup { key: draft.key.public(), addresses: vec![draft.listen], admin: draft.admin }
        },
        |hub| seal_secrets[hub].public(),
    );
    let source = source_text(&topology);
    let signed = SignedTopology::sign(topology, OPERATOR, &operator).map_err(|error| Failure::Sign(Box::new(error)))?;

    create_key(&dir.join(OPERATOR_KEY), &operator)?;
    let mut nodes = BTreeMap::new();
    for (id, draft) in &drafts {
        let folder = node_dir(&dir, id);
        fs::create_dir_all(&folder).map_err(Failure::write(&folder))?;
        create_key(&folder.join("node.key"), &draft.key)?;
        if let Some(secret) = seal_secrets.get(id) {
            let seal = folder.join(SEAL_KEYS);
            fs::create_dir_all(&seal).map_err(Failure::write(&seal))?;
            create_secret(&seal.join(format!("{}.key", secret.public().id())), &secret.to_text())?;
        }
        let config = folder.join("relay.toml");
        safe_file::replace(&config, &relay_config(id, draft.role, &operator.public(), draft.intake))?;
        let intake = format!("http://{}", draft.intake);
        nodes.insert(id.to_string(), NewNode { config, listen: draft.listen, admin: draft.admin, intake });
    }
    safe_file::replace(&dir.join(TOPOLOGY_SOURCE), &source)?;
    // The signed topology comes last: where it stands, the folder is complete.
    safe_file::replace(&dir.join(TOPOLOGY_SIGNED), &signed.encode())?;
    Ok(NewCity { dir, nodes })
}

/// Keys and ports for all nodes. No port is let go before the last is chosen.
fn draft_nodes(plan: &CityPlan) -> Result<BTreeMap<NodeId, Draft>, Failure> {
    let mut ports = ReservedPorts::default();
    let mut drafts = BTreeMap::new();
    for node in &plan.nodes {
        let draft = Draft {
            role: node.role,
            key: new_key()?,
            listen: ports.udp().map_err(Failure::NoPort)?,
            admin: ports.tcp().map_err(Failure::NoPort)?,
            intake: ports.tcp().map_err(Failure::NoPort)?,
        };
        drafts.insert(node.id.clone(), draft);
    }
    Ok(drafts)
}

fn empty_folder(dir: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(dir).map_err(Failure::write(dir))?;
    let mut entries = fs::read_dir(dir).map_err(Failure::read(dir))?;
    if entries.next().is_some() {
        return Err(Failure::FolderNotEmpty(dir.to_owned()));
    }
    dir.canonicalize().map_err(Failure::read(dir))
}

fn source_text(topology: &Topology) -> String {
    format!(
        "\
# The network of {label}: who belongs to it, how they are linked, who may administer it.
#
# To change it:
#   1. edit this file and raise `version`;
#   2. topology check {TOPOLOGY_SOURCE}
#   3. topology sign {TOPOLOGY_SOURCE} --key {OPERATOR_KEY}
#   4. topology --city . push
# The third writes {TOPOLOGY_SIGNED}, which nodes believe; the last gives it to one of them, from which it spreads. A node
# that is no longer listed is shut out.

{text}",
        label = topology.label,
        text = topology.to_toml(),
    )
}
