//! The network of one area as validated values.
//!
//! A [`Topology`] that came from [`parse`](crate::parse) or from a [`SignedTopology`](crate::SignedTopology) holds
//! what the crate's documentation lists under "What is always true". The fields are public because it is a
//! document, not a machine: whoever builds one by hand and signs it has it checked there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use estafet_model::{LinkCost, Medium, NodeId, PublicKey, SealKey, ShortCode};

use crate::link_name::LinkName;

/// One area: its nodes, the links between them, and who may do what.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// The name of the area, for programs: `pekanbaru`.
    pub area: String,
    /// The name of the area, for people.
    pub label: String,
    /// The highest version with a good signature wins. Counted from 1.
    pub version: u64,
    /// How many hubs are to have signed for a record before its origin lets it go; 1 unless the file says otherwise.
    pub copies: usize,
    /// How many admins are to have signed a topology before a node takes it; 1 unless the file says otherwise.
    pub required_signatures: usize,
    /// The nodes by their ids.
    pub nodes: BTreeMap<NodeId, Node>,
    /// The keys that nodes had before, and the nodes that are none any more, by their ids.
    pub former_nodes: Vec<FormerNode>,
    /// The links, by their ends and their medium.
    pub links: Vec<Link>,
    /// The hubs, by their nodes.
    pub hubs: Vec<Hub>,
    /// The people who may look, operate and administer, by their ids.
    pub operators: Vec<Operator>,
    /// What is known beforehand to go dark, by its start.
    pub outages: Vec<Outage>,
}

impl Topology {
    /// The node of that name.
    #[must_use]
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// What the slips of a node begin with, also of one that was removed.
    #[must_use]
    pub fn code_of(&self, id: &NodeId) -> Option<ShortCode> {
        let former = || self.former_nodes.iter().find(|former| former.id == *id);
        self.node(id).map(|node| node.code).or_else(|| former().map(|former| former.code))
    }

    /// The node whose slips begin with `code`, also one that was removed: a code is never used again.
    #[must_use]
    pub fn id_by_code(&self, code: ShortCode) -> Option<&NodeId> {
        let former = || self.former_nodes.iter().find(|former| former.code == code);
        let node = self.nodes.values().find(|node| node.code == code);
        node.map(|node| &node.id).or_else(|| former().map(|former| &former.id))
    }

    /// The keys by which an origin's records are told, the one that it has now first. Those of former nodes count if
    /// somebody has decided so.
    pub fn origin_keys(&self) -> BTreeMap<NodeId, Vec<PublicKey>> {
        let mut keys: BTreeMap<NodeId, Vec<PublicKey>> =
            self.nodes.values().map(|node| (node.id.clone(), vec![node.key])).collect();
        for former in self.former_nodes.iter().filter(|former| former.accept) {
            keys.entry(former.id.clone()).or_default().push(former.key);
        }
        keys
    }

    /// The keys by which receipts of single records are told, and whether the hub with that key is one still. Who was a hub
    /// once has committed all the same what it signed for.
    pub fn receipt_keys<'a>(&'a self, hub: &'a NodeId) -> impl Iterator<Item = (PublicKey, bool)> + 'a {
        let present = self.hub_ids().filter(move |id| *id == hub).filter_map(|id| self.node(id));
        let former = self.former_nodes.iter().filter(move |former| former.id == *hub && former.role == Role::Hub);
        present.map(|node| (node.key, true)).chain(former.map(|former| (former.key, false)))
    }

    /// The node that holds `key`, such as the peer at the other end of a session.
    #[must_use]
    pub fn node_by_key(&self, key: &PublicKey) -> Option<&Node> {
        self.nodes.values().find(|node| node.key == *key)
    }

    /// The operator who holds `key`.
    #[must_use]
    pub fn operator_by_key(&self, key: &PublicKey) -> Option<&Operator> {
        self.operators.iter().find(|operator| operator.key == *key)
    }

    /// The nodes at the other ends of a node's links, each with its link: a neighbor comes once for each bearer. None for a
    /// node that is not there.
    pub fn neighbors(&self, id: &NodeId) -> impl Iterator<Item = (&NodeId, &Link)> {
        self.links.iter().filter_map(move |link| link.other_end(id).map(|neighbor| (neighbor, link)))
    }

    /// Where `node` is reached over `link`, first choice first.
    #[must_use]
    pub fn addresses_over<'a>(&'a self, link: &'a Link, node: &NodeId) -> &'a [SocketAddr] {
        let own = || self.node(node).map_or(&[][..], |node| &node.addresses);
        link.addresses.get(node).map_or_else(own, Vec::as_slice)
    }

    /// The links between two nodes, in the order of their media.
    pub fn bearers(&self, one: &NodeId, other: &NodeId) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(move |link| link.other_end(one) == Some(other))
    }

    /// Every shared risk that some node or link names, sorted.
    #[must_use]
    pub fn risks(&self) -> BTreeSet<&str> {
        let of_nodes = self.nodes.values().flat_map(|node| &node.risks);
        of_nodes.chain(self.links.iter().flat_map(|link| &link.risks)).map(String::as_str).collect()
    }

    /// What new records are sealed to.
    pub fn seal_keys(&self) -> impl Iterator<Item = &SealKey> {
        self.hubs.iter().map(|hub| &hub.seal_key)
    }

    /// The nodes that commit records.
    pub fn hub_ids(&self) -> impl Iterator<Item = &NodeId> {
        self.hubs.iter().map(|hub| &hub.node)
    }

    /// Brings what has no order of its own into the order of the canonical text.
    pub(crate) fn sort(&mut self) {
        for node in self.nodes.values_mut() {
            sort_names(&mut node.risks);
        }
        for link in &mut self.links {
            link.ends.sort();
            sort_names(&mut link.risks);
        }
        for outage in &mut self.outages {
            sort_names(&mut outage.nodes);
            sort_names(&mut outage.links);
            sort_names(&mut outage.risks);
        }
        self.links.sort_by(|left, right| left.name().cmp(&right.name()));
        self.former_nodes.sort_by(|left, right| (&left.id, &left.key).cmp(&(&right.id, &right.key)));
        self.hubs.sort_by(|left, right| left.node.cmp(&right.node));
        self.operators.sort_by(|left, right| left.id.cmp(&right.id));
        self.outages.sort();
    }
}

fn sort_names<T: Ord>(names: &mut Vec<T>) {
    names.sort();
    names.dedup();
}

/// One relay with its own key.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its name, for ever.
    pub id: NodeId,
    /// The beginning of its slips.
    pub code: ShortCode,
    /// Its name, for people.
    pub label: String,
    /// The region code of today. Codes move, so this identifies nothing.
    pub region: Option<String>,
    /// What it does.
    pub role: Role,
    /// The key it proves itself with.
    pub key: PublicKey,
    /// Where it listens for neighbors (QUIC), first choice first. At least one.
    pub addresses: Vec<SocketAddr>,
    /// Where it listens for operators (gRPC).
    pub admin: SocketAddr,
    /// Where it stands.
    pub place: Option<Place>,
    /// What feeds it.
    pub power: Option<Power>,
    /// What it fails together with.
    pub risks: Vec<String>,
}

/// A node that was removed, or the key of a machine that another one has replaced. Its id and its code are never another
/// node's, and its key is nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerNode {
    /// Its name. A node that has it now has replaced this one.
    pub id: NodeId,
    /// The beginning of its slips.
    pub code: ShortCode,
    /// The key that counts no more.
    pub key: PublicKey,
    /// What it was. Receipts that it has signed as a hub are told by this.
    pub role: Role,
    /// Records that it has signed, and that others still hold, are taken all the same.
    pub accept: bool,
}

/// What a node does in the area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A main server: commits records and gives receipts.
    Hub,
    /// An office: accepts records and passes on those of others.
    Relay,
}

/// A point on Earth (WGS 84).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
}

impl Place {
    /// How far it is to another place on the surface, in meters (haversine, on a sphere: half a percent off at worst).
    #[must_use]
    pub fn meters_to(&self, other: &Self) -> f64 {
        let [north, other_north] = [self.latitude, other.latitude].map(f64::to_radians);
        let half_sine = |angle: f64| (angle / 2.0).sin().powi(2);
        let across = half_sine((other.longitude - self.longitude).to_radians());
        let chord = half_sine(other_north - north) + north.cos() * other_north.cos() * across;
        2.0 * EARTH_RADIUS_METERS * chord.sqrt().min(1.0).asin()
    }
}

/// The mean of its radii (IUGG).
const EARTH_RADIUS_METERS: f64 = 6_371_009.0;

/// The power of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Power {
    /// How long the battery lasts after the mains are gone, in minutes.
    pub ups_minutes: u32,
}

/// A configured edge between two nodes: one bearer. Two nodes may have several, each by a medium of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The two nodes, in order.
    pub ends: [NodeId; 2],
    /// What carries it.
    pub medium: Medium,
    /// What it costs to use when it behaves well.
    pub cost: LinkCost,
    /// What it can carry, in bits per second.
    pub capacity_bits_per_second: Option<u64>,
    /// What it fails together with.
    pub risks: Vec<String>,
    /// Where its ends listen for each other over this link, if that is not where they listen for everybody. An end
    /// without an address cannot be dialed over it, and dials.
    pub addresses: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// Its bytes cost money: it carries urgent records and control, and others only if `bulk` says so.
    pub metered: bool,
    /// It carries all records although it is metered.
    pub bulk: bool,
}

impl Link {
    /// A link that carries everything, of unknown capacity, alone in what it fails with.
    #[must_use]
    pub fn new(ends: [NodeId; 2], medium: Medium, cost: LinkCost) -> Self {
        Self {
            ends,
            medium,
            cost,
            capacity_bits_per_second: None,
            risks: Vec::new(),
            addresses: BTreeMap::new(),
            metered: false,
            bulk: false,
        }
    }

    /// The node at the other end, or nothing if `id` is at neither.
    #[must_use]
    pub fn other_end(&self, id: &NodeId) -> Option<&NodeId> {
        match &self.ends {
            [first, second] if first == id => Some(second),
            [first, second] if second == id => Some(first),
            _ => None,
        }
    }

    /// True if only urgent records may go over it.
    #[must_use]
    pub fn is_urgent_only(&self) -> bool {
        self.metered && !self.bulk
    }

    /// The two nodes and the medium, which together name it.
    #[must_use]
    pub fn name(&self) -> (&[NodeId; 2], Medium) {
        (&self.ends, self.medium)
    }
}

/// A main server of the area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hub {
    /// The node, whose role is [`Role::Hub`].
    pub node: NodeId,
    /// The key that new records are sealed to. What was sealed to another one before, the hub opens with that.
    pub seal_key: SealKey,
}

/// A person (or a program of theirs) who may use the admin side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name, written like a node id.
    pub id: String,
    /// The key they prove themselves with.
    pub key: PublicKey,
    /// What they may do.
    pub role: OperatorRole,
}

/// What an operator may do. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OperatorRole {
    /// Looks.
    Viewer,
    /// Also drains nodes, retries records, mutes alarms.
    Operator,
    /// Also signs topologies.
    Admin,
}

/// Something that is known beforehand to go dark, such as a line of the blackout calendar.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Outage {
    /// When it begins the first time, as RFC 3339 text with an offset.
    pub start: String,
    /// The nodes that go dark.
    pub nodes: Vec<NodeId>,
    /// The links that go dark.
    pub links: Vec<LinkName>,
    /// The shared risks that strike: everything that names one of them goes dark.
    pub risks: Vec<String>,
    /// How long it lasts each time, in whole seconds.
    pub duration: Duration,
    /// How often it comes again, from start to start, in whole seconds.
    pub every: Option<Duration>,
    /// Why, for people.
    pub reason: String,
}
