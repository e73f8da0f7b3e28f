//! Plans of real cities to begin with. Names, codes and places are facts; keys and addresses are each city's own.
//!
//! Pekanbaru, Riau: the network of the electronic identity cards as a newspaper described it in August 2013. Ten
//! offices hang on the main server; Rumbai and Rumbai Pesisir have no line of sight to it and go by a branch in
//! Sukajadi. Region codes and centroids are those of 2013 (Kemendagri), before the split of 2020.
//!
//! Media and shared risks are our reading of such a network, to plan and to drill with; nobody has published them.

use std::net::SocketAddr;
use std::str::FromStr;

use estafet_model::{LinkCost, Medium, NodeId, PublicKey, SealKey, ShortCode};

use crate::suggestion::did_you_mean;
use crate::topology::{Hub, Link, Node, Operator, Place, Role, Topology};

/// A city whose network is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Template {
    /// Pekanbaru with six links added, so that both Rumbai and seven other offices have more than one way. Pekanbaru
    /// Kota, Sail and Marpoyan Damai still hang on the main server alone.
    Pekanbaru,
    /// The same with a second main server, `cadangan`, in Tenayan Raya, and the links that `topology advise` proposes:
    /// no node, link or risk isolates anybody, a main server included.
    PekanbaruCadangan,
    /// Pekanbaru as it was in 2013: a tree, in which every cut of a link isolates somebody.
    Pekanbaru2013,
}

/// The text names no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no template `{name}`: {remedy}")]
pub struct UnknownTemplate {
    name: String,
    remedy: String,
}

/// A network without its keys and addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct CityPlan {
    /// The name of the area, for programs.
    pub area: String,
    /// The name of the area, for people.
    pub label: String,
    /// The offices and the main server.
    pub nodes: Vec<PlannedNode>,
    /// The links between them.
    pub links: Vec<Link>,
}

/// A node of which everything is known that does not depend on its machine.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// Its name, for ever.
    pub id: NodeId,
    /// The beginning of its slips.
    pub code: ShortCode,
    /// Its name, for people.
    pub label: String,
    /// Its region code.
    pub region: Option<String>,
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub place: Option<Place>,
    /// What it fails together with.
    pub risks: Vec<String>,
}

/// What a plan does not know about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSetup {
    /// The key it proves itself with.
    pub key: PublicKey,
    /// Where it listens for neighbors (QUIC), first choice first.
    pub addresses: Vec<SocketAddr>,
    /// Where it listens for operators (gRPC).
    pub admin: SocketAddr,
}

impl Template {
    /// All templates.
    pub const ALL: [Template; 3] = [Template::Pekanbaru, Template::PekanbaruCadangan, Template::Pekanbaru2013];

    /// The name, as commands take it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pekanbaru => "pekanbaru",
            Self::PekanbaruCadangan => "pekanbaru-cadangan",
            Self::Pekanbaru2013 => "pekanbaru-2013",
        }
    }

    /// The city's plan.
    ///
    /// # Panics
    /// Never: the tables of this module are tested.
    #[must_use]
    pub fn plan(self) -> CityPlan {
        let links = match self {
            Self::Pekanbaru => [LINKS_OF_2013, LINKS_TO_ADD].concat(),
            Self::PekanbaruCadangan => [LINKS_OF_2013, LINKS_TO_ADD, LINKS_OF_CADANGAN].concat(),
            Self::Pekanbaru2013 => LINKS_OF_2013.to_vec(),
        };
        let cadangan = (self == Self::PekanbaruCadangan).then_some(&CADANGAN);
        CityPlan {
            area: "pekanbaru".to_owned(),
            label: "Kota Pekanbaru".to_owned(),
            nodes: NODES.iter().chain(cadangan).map(planned_node).collect(),
            links: links.iter().map(planned_link).collect(),
        }
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

impl FromStr for Template {
    type Err = UnknownTemplate;

    fn from_str(name: &str) -> Result<Self, UnknownTemplate> {
        let names = || Self::ALL.into_iter().map(Self::name);
        Self::ALL.into_iter().find(|template| template.name() == name).ok_or_else(|| {
            let rest = format!("use one of {}", names().collect::<Vec<_>>().join(", "));
            UnknownTemplate { name: name.to_owned(), remedy: did_you_mean(name, names(), rest) }
        })
    }
}

impl CityPlan {
    /// Completes the plan with what only the city knows: an operator, for each node its key and addresses, and for each
    /// hub its seal key.
    ///
    /// The result is version 1 and as good as what was put in; signing it finds what does not fit.
    #[must_use]
    pub fn into_topology(
        self,
        operator: Operator,
        mut setup: impl FnMut(&NodeId) -> NodeSetup,
        mut seal_key: impl FnMut(&NodeId) -> SealKey,
    ) -> Topology {
        let hubs = self.nodes.iter().filter(|node| node.role == Role::Hub);
        let hubs = hubs.map(|node| Hub { node: node.id.clone(), seal_key: seal_key(&node.id) }).collect();
        let nodes = self.nodes.into_iter().map(|planned| {
            let NodeSetup { key, addresses, admin } = setup(&planned.id);
            let PlannedNode { id, code, label, region, role, place, risks } = planned;
            (id.clone(), Node { id, code, label, region, role, key, addresses, admin, place, power: None, risks })
        });
        let mut topology = Topology {
            area: self.area,
            label: self.label,
            version: 1,
            copies: 1,
            required_signatures: 1,
            nodes: nodes.collect(),
            former_nodes: Vec::new(),
            links: self.links,
            hubs,
            operators: vec![operator],
            outages: Vec::new(),
        };
        topology.sort();
        topology
    }
}

struct NodeRow {
    id: &'static str,
    code: &'static str,
    label: &'static str,
    region: &'static str,
    role: Role,
    latitude: f64,
    longitude: f64,
    risks: &'static [&'static str],
}

#[derive(Clone, Copy)]
struct LinkRow {
    ends: [&'static str; 2],
    medium: Medium,
    cost: u32,
    capacity: u64,
    risks: &'static [&'static str],
}

fn planned_node(row: &NodeRow) -> PlannedNode {
    PlannedNode {
        id: id(row.id),
        code: row.code.parse().expect("a tested short code"),
        label: row.label.to_owned(),
        region: Some(row.region.to_owned()),
        role: row.role,
        place: Some(Place { latitude: row.latitude, longitude: row.longitude }),
        risks: row.risks.iter().map(|&risk| risk.to_owned()).collect(),
    }
}

fn planned_link(row: &LinkRow) -> Link {
    Link {
        capacity_bits_per_second: Some(row.capacity),
        risks: row.risks.iter().map(|&risk| risk.to_owned()).collect(),
        ..Link::new(row.ends.map(id), row.medium, LinkCost(row.cost))
    }
}

fn id(name: &str) -> NodeId {
    name.parse().expect("a tested node id")
}

/// No point is published for the main server in Jalan Mustafasari: it stands at the mean of the twelve centroids.
#[rustfmt::skip]
const NODES: &[NodeRow] = &[
    NodeRow { id: "induk", code: "NDK", label: "Disdukcapil Kota Pekanbaru", region: "14.71", role: Role::Hub, latitude: 0.52284, longitude: 101.44287, risks: &["pln-induk"] },
    NodeRow { id: "sukajadi", code: "SKJ", label: "Kecamatan Sukajadi", region: "14.71.01", role: Role::Relay, latitude: 0.51826, longitude: 101.43833, risks: &["pln-sukajadi"] },
    NodeRow { id: "pekanbaru-kota", code: "PKT", label: "Kecamatan Pekanbaru Kota", region: "14.71.02", role: Role::Relay, latitude: 0.52468, longitude: 101.44769, risks: &["pln-kota"] },
    NodeRow { id: "sail", code: "SAA", label: "Kecamatan Sail", region: "14.71.03", role: Role::Relay, latitude: 0.51511, longitude: 101.45907, risks: &["pln-kota"] },
    NodeRow { id: "lima-puluh", code: "50P", label: "Kecamatan Lima Puluh", region: "14.71.04", role: Role::Relay, latitude: 0.53633, longitude: 101.45756, risks: &["pln-kota"] },
    NodeRow { id: "senapelan", code: "SNP", label: "Kecamatan Senapelan", region: "14.71.05", role: Role::Relay, latitude: 0.53539, longitude: 101.43896, risks: &["pln-sukajadi"] },
    NodeRow { id: "rumbai", code: "RMB", label: "Kecamatan Rumbai", region: "14.71.06", role: Role::Relay, latitude: 0.61099, longitude: 101.3979, risks: &["pln-rumbai"] },
    NodeRow { id: "bukit-raya", code: "BKR", label: "Kecamatan Bukit Raya", region: "14.71.07", role: Role::Relay, latitude: 0.47877, longitude: 101.46599, risks: &["pln-induk"] },
    NodeRow { id: "tampan", code: "TMP", label: "Kecamatan Tampan", region: "14.71.08", role: Role::Relay, latitude: 0.46878, longitude: 101.38488, risks: &["pln-panam"] },
    NodeRow { id: "marpoyan-damai", code: "MPD", label: "Kecamatan Marpoyan Damai", region: "14.71.09", role: Role::Relay, latitude: 0.47544, longitude: 101.43747, risks: &["pln-induk"] },
    NodeRow { id: "tenayan-raya", code: "TNR", label: "Kecamatan Tenayan Raya", region: "14.71.10", role: Role::Relay, latitude: 0.50112, longitude: 101.51801, risks: &["pln-tenayan"] },
    NodeRow { id: "payung-sekaki", code: "PYS", label: "Kecamatan Payung Sekaki", region: "14.71.11", role: Role::Relay, latitude: 0.52084, longitude: 101.39575, risks: &["pln-sukajadi"] },
    NodeRow { id: "rumbai-pesisir", code: "RBP", label: "Kecamatan Rumbai Pesisir", region: "14.71.12", role: Role::Relay, latitude: 0.58834, longitude: 101.47283, risks: &["pln-rumbai"] },
];

/// Line of sight to the mast of the main server, or of the branch in Sukajadi; three in the old town have glass.
#[rustfmt::skip]
const LINKS_OF_2013: &[LinkRow] = &[
    LinkRow { ends: ["induk", "sukajadi"], medium: Medium::Fiber, cost: 10, capacity: 20_000_000, risks: &["telkom-sto"] },
    LinkRow { ends: ["induk", "pekanbaru-kota"], medium: Medium::Fiber, cost: 10, capacity: 20_000_000, risks: &["telkom-sto"] },
    LinkRow { ends: ["induk", "sail"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["induk", "lima-puluh"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["induk", "senapelan"], medium: Medium::Fiber, cost: 10, capacity: 20_000_000, risks: &["telkom-sto"] },
    LinkRow { ends: ["induk", "bukit-raya"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["induk", "tampan"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["induk", "marpoyan-damai"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["induk", "tenayan-raya"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["induk", "payung-sekaki"], medium: Medium::Radio, cost: 10, capacity: 10_000_000, risks: &["mast-induk"] },
    LinkRow { ends: ["sukajadi", "rumbai"], medium: Medium::Radio, cost: 10, capacity: 4_000_000, risks: &["mast-sukajadi"] },
    LinkRow { ends: ["sukajadi", "rumbai-pesisir"], medium: Medium::Radio, cost: 10, capacity: 4_000_000, risks: &["mast-sukajadi"] },
];

/// Dearer than those of 2013, so that Sukajadi stays the first choice.
#[rustfmt::skip]
const LINKS_TO_ADD: &[LinkRow] = &[
    LinkRow { ends: ["rumbai", "senapelan"], medium: Medium::Radio, cost: 15, capacity: 4_000_000, risks: &["mast-senapelan"] },
    LinkRow { ends: ["rumbai-pesisir", "lima-puluh"], medium: Medium::Radio, cost: 15, capacity: 4_000_000, risks: &["mast-lima-puluh"] },
    LinkRow { ends: ["rumbai", "rumbai-pesisir"], medium: Medium::Radio, cost: 15, capacity: 4_000_000, risks: &[] },
    LinkRow { ends: ["sukajadi", "senapelan"], medium: Medium::Fiber, cost: 15, capacity: 20_000_000, risks: &["telkom-sto"] },
    LinkRow { ends: ["payung-sekaki", "tampan"], medium: Medium::Cellular, cost: 15, capacity: 2_000_000, risks: &["cellular-panam"] },
    LinkRow { ends: ["bukit-raya", "tenayan-raya"], medium: Medium::Radio, cost: 15, capacity: 10_000_000, risks: &["mast-bukit-raya"] },
];

/// At the municipal offices in Tenayan Raya, ten kilometers from the first, on other power.
#[rustfmt::skip]
const CADANGAN: NodeRow =
    NodeRow { id: "cadangan", code: "CDG", label: "Pusat data cadangan Kota Pekanbaru", region: "14.71", role: Role::Hub, latitude: 0.52222, longitude: 101.53333, risks: &["pln-cadangan"] };

/// What joins it to the others, and what `topology advise` proposes then.
#[rustfmt::skip]
const LINKS_OF_CADANGAN: &[LinkRow] = &[
    LinkRow { ends: ["induk", "cadangan"], medium: Medium::Fiber, cost: 20, capacity: 20_000_000, risks: &["telkom-sto"] },
    LinkRow { ends: ["cadangan", "tenayan-raya"], medium: Medium::Radio, cost: 15, capacity: 10_000_000, risks: &["mast-cadangan"] },
    LinkRow { ends: ["pekanbaru-kota", "sail"], medium: Medium::Radio, cost: 15, capacity: 10_000_000, risks: &[] },
    LinkRow { ends: ["bukit-raya", "marpoyan-damai"], medium: Medium::Radio, cost: 23, capacity: 10_000_000, risks: &[] },
    LinkRow { ends: ["payung-sekaki", "senapelan"], medium: Medium::Radio, cost: 23, capacity: 10_000_000, risks: &[] },
    LinkRow { ends: ["pekanbaru-kota", "senapelan"], medium: Medium::Radio, cost: 23, capacity: 10_000_000, risks: &[] },
    LinkRow { ends: ["sail", "tenayan-raya"], medium: Medium::Radio, cost: 23, capacity: 10_000_000, risks: &[] },
];
