//! The file as written: what each table holds, each value with its place, before anybody asks if it fits together.
//!
//! A value that is missing or cannot be read is reported and left empty in its draft; the rest of the draft stays
//! useful, so that one bad address does not hide a duplicate name. [`Draft::finish`] turns a draft without faults
//! into a [`Topology`].

use std::net::SocketAddr;
use std::ops::Range;

use estafet_model::{LinkCost, Medium, NodeId, PublicKey, SealKey, ShortCode};
use toml::Spanned;
use toml::de::DeTable;

use crate::faults::FaultLog;
use crate::link_name::LinkName;
use crate::reader::{Key, TableReader};
use crate::topology::{FormerNode, Hub, Link, Node, Operator, OperatorRole, Outage, Place, Power, Role, Topology};
use crate::values::{Capacity, Count, Latitude, Longitude, Minutes, Moment, Name, Span, Text, Version};

const TOP_KEYS: &[Key] = &[
    ("area", "\"pekanbaru\""),
    ("label", "\"Kota Pekanbaru\""),
    ("version", "1"),
    ("copies", "2"),
    ("required_signatures", "2"),
    ("node", "[{ … }]"),
    ("former_node", "[{ … }]"),
    ("link", "[{ … }]"),
    ("hub", "[{ … }]"),
    ("operator", "[{ … }]"),
    ("outage", "[{ … }]"),
];

const NODE_KEYS: &[Key] = &[
    ("id", "\"sukajadi\""),
    ("code", "\"SKJ\""),
    ("label", "\"Kecamatan Sukajadi\""),
    ("region", "\"14.71.01\""),
    ("role", "\"relay\""),
    ("key", "\"ed25519:…\" (the node prints its own)"),
    ("addresses", "[\"10.77.0.2:4460\"]"),
    ("admin", "\"10.77.0.2:4461\""),
    ("place", "{ latitude = 0.51826, longitude = 101.43833 }"),
    ("power", "{ ups_minutes = 30 }"),
    ("risks", "[\"pln-sukajadi\"]"),
];

const FORMER_NODE_KEYS: &[Key] = &[
    ("id", "\"sukajadi\""),
    ("code", "\"SKJ\""),
    ("key", "\"ed25519:…\" (the key that it had)"),
    ("role", "\"hub\" (if it was one)"),
    ("accept", "true"),
];

const PLACE_KEYS: &[Key] = &[("latitude", "0.51826"), ("longitude", "101.43833")];

const POWER_KEYS: &[Key] = &[("ups_minutes", "30")];

const LINK_KEYS: &[Key] = &[
    ("ends", "[\"induk\", \"sukajadi\"]"),
    ("medium", "\"radio\""),
    ("cost", "10"),
    ("capacity", "\"10Mbit\""),
    ("risks", "[\"telkom-sto\"]"),
    ("addresses", "{ sukajadi = [\"10.9.0.2:4460\"] }"),
    ("metered", "true"),
    ("bulk", "true"),
];

const HUB_KEYS: &[Key] = &[("node", "\"induk\""), ("seal_key", "\"xwing:…\" (the hub prints its own)")];

const OPERATOR_KEYS: &[Key] =
    &[("id", "\"kepala\""), ("key", "\"ed25519:…\" (the public half of their key)"), ("role", "\"admin\"")];

const OUTAGE_KEYS: &[Key] = &[
    ("nodes", "[\"sukajadi\"]"),
    ("links", "[\"induk,sukajadi:radio\"]"),
    ("risks", "[\"pln-sukajadi\"]"),
    ("start", "2013-08-06T18:00:00+07:00"),
    ("duration", "\"3h\""),
    ("every", "\"1d\""),
    ("reason", "\"rolling blackout\""),
];

/// The whole file.
pub(crate) struct Draft {
    area: Option<Spanned<Name>>,
    label: Option<Spanned<Text>>,
    version: Option<Spanned<Version>>,
    pub(crate) copies: Option<Spanned<Count>>,
    pub(crate) required_signatures: Option<Spanned<Count>>,
    pub(crate) nodes: Vec<NodeDraft>,
    pub(crate) former_nodes: Vec<FormerNodeDraft>,
    pub(crate) links: Vec<LinkDraft>,
    pub(crate) hubs: Vec<HubDraft>,
    pub(crate) operators: Vec<OperatorDraft>,
    pub(crate) outages: Vec<OutageDraft>,
}

/// A `[[node]]`.
pub(crate) struct NodeDraft {
    pub(crate) place_in_file: Range<usize>,
    pub(crate) id: Option<Spanned<NodeId>>,
    pub(crate) code: Option<Spanned<ShortCode>>,
    label: Option<Spanned<Text>>,
    region: Option<Spanned<Text>>,
    pub(crate) role: Option<Spanned<Role>>,
    pub(crate) key: Option<Spanned<PublicKey>>,
    pub(crate) addresses: Vec<Spanned<SocketAddr>>,
    pub(crate) admin: Option<Spanned<SocketAddr>>,
    place: Option<Place>,
    power: Option<Power>,
    pub(crate) risks: Vec<Spanned<Name>>,
}

/// A `[[former_node]]`.
pub(crate) struct FormerNodeDraft {
    pub(crate) id: Option<Spanned<NodeId>>,
    pub(crate) code: Option<Spanned<ShortCode>>,
    pub(crate) key: Option<Spanned<PublicKey>>,
    role: Option<Spanned<Role>>,
    accept: Option<Spanned<bool>>,
}

/// A `[[link]]`.
pub(crate) struct LinkDraft {
    pub(crate) ends: Vec<Spanned<NodeId>>,
    pub(crate) medium: Option<Spanned<Medium>>,
    cost: Option<Spanned<LinkCost>>,
    capacity: Option<Spanned<Capacity>>,
    pub(crate) risks: Vec<Spanned<Name>>,
    pub(crate) addresses: Vec<EndAddresses>,
    pub(crate) metered: Option<Spanned<bool>>,
    pub(crate) bulk: Option<Spanned<bool>>,
}

/// Where one end of a link listens over it.
pub(crate) type EndAddresses = (Spanned<NodeId>, Vec<Spanned<SocketAddr>>);

/// A `[[hub]]`.
pub(crate) struct HubDraft {
    pub(crate) node: Option<Spanned<NodeId>>,
    seal_key: Option<Spanned<SealKey>>,
}

/// An `[[operator]]`.
pub(crate) struct OperatorDraft {
    pub(crate) id: Option<Spanned<Name>>,
    pub(crate) key: Option<Spanned<PublicKey>>,
    pub(crate) role: Option<Spanned<OperatorRole>>,
}

/// An `[[outage]]`.
pub(crate) struct OutageDraft {
    pub(crate) place_in_file: Range<usize>,
    pub(crate) nodes: Vec<Spanned<NodeId>>,
    pub(crate) links: Vec<Spanned<LinkName>>,
    pub(crate) risks: Vec<Spanned<Name>>,
    /// Neither `nodes`, `links` nor `risks` holds anything, readable or not.
    pub(crate) is_aimless: bool,
    start: Option<Spanned<Moment>>,
    pub(crate) duration: Option<Spanned<Span>>,
    pub(crate) every: Option<Spanned<Span>>,
    reason: Option<Spanned<Text>>,
}

impl Draft {
    /// Reads all tables and reports what cannot be read.
    pub(crate) fn read<'a>(table: &'a DeTable<'a>, log: &'a FaultLog<'a>) -> Self {
        let top = TableReader::open("the file", TOP_KEYS, table, 0..0, log);
        Self {
            area: top.required("area"),
            label: top.required("label"),
            version: top.required("version"),
            copies: top.optional("copies"),
            required_signatures: top.optional("required_signatures"),
            nodes: top.tables("node", "[[node]]", NODE_KEYS).iter().map(NodeDraft::read).collect(),
            former_nodes: top
                .tables("former_node", "[[former_node]]", FORMER_NODE_KEYS)
                .iter()
                .map(FormerNodeDraft::read)
                .collect(),
            links: top.tables("link", "[[link]]", LINK_KEYS).iter().map(LinkDraft::read).collect(),
            hubs: top.tables("hub", "[[hub]]", HUB_KEYS).iter().map(HubDraft::read).collect(),
            operators: top.tables("operator", "[[operator]]", OPERATOR_KEYS).iter().map(OperatorDraft::read).collect(),
            outages: top.tables("outage", "[[outage]]", OUTAGE_KEYS).iter().map(OutageDraft::read).collect(),
        }
    }

    /// The topology, in canonical order. Nothing if something is missing, which [`Draft::read`] has reported.
    pub(crate) fn finish(self) -> Option<Topology> {
        let nodes = self.nodes.into_iter().map(|draft| draft.finish().map(|node| (node.id.clone(), node)));
        let mut topology = Topology {
            area: self.area?.into_inner().0,
            label: self.label?.into_inner().0,
            version: self.version?.into_inner().0,
            copies: self.copies.map_or(1, |copies| copies.into_inner().0),
            required_signatures: self.required_signatures.map_or(1, |required| required.into_inner().0),
            nodes: nodes.collect::<Option<_>>()?,
            former_nodes: self.former_nodes.into_iter().map(FormerNodeDraft::finish).collect::<Option<_>>()?,
            links: self.links.into_iter().map(LinkDraft::finish).collect::<Option<_>>()?,
            hubs: self.hubs.into_iter().map(HubDraft::finish).collect::<Option<_>>()?,
            operators: self.operators.into_iter().map(OperatorDraft::finish).collect::<Option<_>>()?,
            outages: self.outages.into_iter().map(OutageDraft::finish).collect::<Option<_>>()?,
        };
        topology.sort();
        Some(topology)
    }
}

impl NodeDraft {
    fn read(table: &TableReader<'_>) -> Self {
        Self {
            place_in_file: table.place(),
            id: table.required("id"),
            code: table.required("code"),
            label: table.required("label"),
            region: table.optional("region"),
            role: table.required("role"),
            key: table.required("key"),
            addresses: table.required_list("addresses"),
            admin: table.required("admin"),
            place: table.table("place", PLACE_KEYS).and_then(|place| read_place(&place)),
            power: table.table("power", POWER_KEYS).and_then(|power| read_power(&power)),
            risks: table.optional_list("risks"),
        }
    }

    fn finish(self) -> Option<Node> {
        Some(Node {
            id: self.id?.into_inner(),
            code: self.code?.into_inner(),
            label: self.label?.into_inner().0,
            region: self.region.map(|region| region.into_inner().0),
            role: self.role?.into_inner(),
            key: self.key?.into_inner(),
            addresses: plain(self.addresses),
            admin: self.admin?.into_inner(),
            place: self.place,
            power: self.power,
            risks: names(self.risks),
        })
    }
}

fn read_place(table: &TableReader<'_>) -> Option<Place> {
    // Both are read before either is given up, so that both can be reported.
    let (latitude, longitude) = (table.required::<Latitude>("latitude"), table.required::<Longitude>("longitude"));
    Some(Place { latitude: latitude?.into_inner().0, longitude: longitude?.into_inner().0 })
}

fn read_power(table: &TableReader<'_>) -> Option<Power> {
    table.required::<Minutes>("ups_minutes").map(|minutes| Power { ups_minutes: minutes.into_inner().0 })
}

impl FormerNodeDraft {
    fn read(table: &TableReader<'_>) -> Self {
        Self {
            id: table.required("id"),
            code: table.required("code"),
            key: table.required("key"),
            role: table.optional("role"),
            accept: table.optional("accept"),
        }
    }

    fn finish(self) -> Option<FormerNode> {
        Some(FormerNode {
            id: self.id?.into_inner(),
            code: self.code?.into_inner(),
            key: self.key?.into_inner(),
            role: self.role.map_or(Role::Relay, Spanned::into_inner),
            accept: self.accept.is_some_and(Spanned::into_inner),
        })
    }
}

impl LinkDraft {
    fn read(table: &TableReader<'_>) -> Self {
        Self {
            ends: table.required_pair("ends"),
            medium: table.required("medium"),
            cost: table.required("cost"),
            capacity: table.optional("capacity"),
            risks: table.optional_list("risks"),
            addresses: table.named_lists("addresses"),
            metered: table.optional("metered"),
            bulk: table.optional("bulk"),
        }
    }

    fn finish(self) -> Option<Link> {
        Some(Link {
            ends: plain(self.ends).try_into().ok()?,
            medium: self.medium?.into_inner(),
            cost: self.cost?.into_inner(),
            capacity_bits_per_second: self.capacity.map(|capacity| capacity.into_inner().0),
            risks: names(self.risks),
            addresses: self.addresses.into_iter().map(|(end, listed)| (end.into_inner(), plain(listed))).collect(),
            metered: self.metered.is_some_and(Spanned::into_inner),
            bulk: self.bulk.is_some_and(Spanned::into_inner),
        })
    }
}

impl HubDraft {
    fn read(table: &TableReader<'_>) -> Self {
        Self { node: table.required("node"), seal_key: table.required("seal_key") }
    }

    fn finish(self) -> Option<Hub> {
        Some(Hub { node: self.node?.into_inner(), seal_key: self.seal_key?.into_inner() })
    }
}

impl OperatorDraft {
    fn read(table: &TableReader<'_>) -> Self {
        Self { id: table.required("id"), key: table.required("key"), role: table.required("role") }
    }

    fn finish(self) -> Option<Operator> {
        Some(Operator { id: self.id?.into_inner().0, key: self.key?.into_inner(), role: self.role?.into_inner() })
    }
}

impl OutageDraft {
    fn read(table: &TableReader<'_>) -> Self {
        Self {
            place_in_file: table.place(),
            nodes: table.optional_list("nodes"),
            links: table.optional_list("links"),
            risks: table.optional_list("risks"),
            is_aimless: ["nodes", "links", "risks"].iter().all(|key| table.is_blank(key)),
            start: table.required("start"),
            duration: table.required("duration"),
            every: table.optional("every"),
            reason: table.required("reason"),
        }
    }

    fn finish(self) -> Option<Outage> {
        Some(Outage {
            start: self.start?.into_inner().0,
            nodes: plain(self.nodes),
            links: plain(self.links),
            risks: names(self.risks),
            duration: self.duration?.into_inner().0,
            every: self.every.map(|every| every.into_inner().0),
            reason: self.reason?.into_inner().0,
        })
    }
}

fn names(names: Vec<Spanned<Name>>) -> Vec<String> {
    names.into_iter().map(|name| name.into_inner().0).collect()
}

/// The values without their places.
fn plain<T>(values: Vec<Spanned<T>>) -> Vec<T> {
    values.into_iter().map(Spanned::into_inner).collect()
}
