//! The map of an area: nodes, directed edges, what each edge costs and what it can fail with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use estafet_model::{LinkCost, Medium, NodeId};

/// What leaving a draining node costs on top of the link: more than any path without one, so that it carries
/// transit only when nothing else is left, and little enough that the sum over a hundred of them does not saturate.
///
/// The idea is the stub router advertisement of RFC 6987. Only the edges that leave the node are raised: it stays
/// as near as ever as a destination, and its own ways out keep their order among each other.
pub const DRAINING_COST: LinkCost = LinkCost(1 << 24);

/// What leaving a node on battery costs on top of the link: more than any one link, so that powered ways are taken, and
/// so much less than [`DRAINING_COST`] that a way over a hundred batteries is better than one over a node that drains.
pub const BATTERY_COST: LinkCost = LinkCost(1 << 16);

/// Names of shared-risk groups: what names the same one fails together.
pub type Risks = BTreeSet<String>;

/// One direction of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// What its tail says it costs. Never zero.
    pub cost: LinkCost,
    /// The shared-risk groups it can fail with. Shared by all edges of one link, and by the map after the next change.
    pub risks: Arc<Risks>,
    /// What carries it, where that is known: on plans, and not on the live map, whose nodes tell one cost for each neighbor.
    pub medium: Option<Medium>,
    /// What leads there as well when this one fails, dearer or as dear.
    pub spare: Option<Box<Edge>>,
}

impl Edge {
    /// An edge that has no spare.
    #[must_use]
    pub fn new(cost: LinkCost, risks: Arc<Risks>) -> Self {
        Self { cost, risks, medium: None, spare: None }
    }

    /// This edge and its spares, cheapest first.
    pub fn bearers(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |edge| edge.spare.as_deref())
    }

    /// Another edge between the same two nodes takes its place behind those that are no dearer.
    fn add(&mut self, mut other: Self) {
        if other.cost < self.cost {
            std::mem::swap(self, &mut other);
        }
        match &mut self.spare {
            Some(spare) => spare.add(other),
            none => *none = Some(Box::new(other)),
        }
    }

    /// What is left of this edge and its spares.
    fn filtered(&self, keeps: &impl Fn(&Self) -> bool) -> Option<Self> {
        let rest = self.spare.as_ref().and_then(|spare| spare.filtered(keeps));
        if keeps(self) { Some(Self { spare: rest.map(Box::new), ..self.clone() }) } else { rest }
    }
}

/// A node's place in the order of ids within one graph.
pub(crate) type Index = u32;

/// Nodes and directed edges, at most one edge from a node to another. Iterates in the order of node ids.
///
/// Inside, a node is its place in the sorted list of ids: algorithms compare and look up numbers, and the order of
/// numbers is the order of ids, so that ties break alike. A new node therefore moves those behind it: whoever builds a
/// large graph adds its nodes at once, with [`Graph::add_nodes`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Graph {
    /// Sorted. Shared with what is computed from the graph, which answers in ids.
    ids: Arc<Vec<NodeId>>,
    /// By index.
    vertices: Vec<Vertex>,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Vertex {
    draining: bool,
    on_battery: bool,
    risks: Risks,
    /// Sorted by where they lead.
    out: Vec<(Index, Edge)>,
}

impl Vertex {
    /// What leaving the node costs on top of the link.
    fn toll(&self) -> LinkCost {
        match (self.draining, self.on_battery) {
            (true, _) => DRAINING_COST,
            (false, true) => BATTERY_COST,
            (false, false) => LinkCost(0),
        }
    }
}

impl Graph {
    /// A graph without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The graph of links that work both ways at the same cost, each given as two ends, cost and risks.
    pub fn from_links<'a>(links: impl IntoIterator<Item = (NodeId, NodeId, LinkCost, &'a [String])>) -> Self {
        let edge = |(left, right, cost, risks): (_, _, _, &[String])| {
            (left, right, Edge::new(cost, Arc::new(risks.iter().cloned().collect())))
        };
        Self::from_edges(links.into_iter().map(edge))
    }

    /// The graph of edges that work both ways, each given with its two ends.
    pub fn from_edges(edges: impl IntoIterator<Item = (NodeId, NodeId, Edge)>) -> Self {
        let edges: Vec<_> = edges.into_iter().collect();
        let mut graph = Self::new();
        graph.add_nodes(edges.iter().flat_map(|(left, right, _)| [left.clone(), right.clone()]));
        for (left, right, edge) in edges {
            graph.add_edge(left.clone(), right.clone(), edge.clone());
            graph.add_edge(right, left, edge);
        }
        graph
    }

    /// Adds a node; one that is there stays as it is.
    pub fn add_node(&mut self, node: NodeId) {
        self.add_nodes([node]);
    }

    /// Adds nodes; those that are there stay as they are. Takes as long for many as for one.
    pub fn add_nodes(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        let mut new: Vec<NodeId> = nodes.into_iter().filter(|node| !self.contains(node)).collect();
        if new.is_empty() {
            return;
        }
        new.sort();
        new.dedup();
        let (moved_to, ids) = merged(&self.ids, new);
        let mut vertices = vec![Vertex::default(); ids.len()];
        for (vertex, to) in std::mem::take(&mut self.vertices).into_iter().zip(&moved_to) {
            vertices[*to as usize] = vertex;
        }
        for (to, _) in vertices.iter_mut().flat_map(|vertex| &mut vertex.out) {
            *to = moved_to[*to as usize];
        }
        (self.ids, self.vertices) = (Arc::new(ids), vertices);
    }

    /// Adds an edge, and its ends if they are new. Of two edges between the same nodes the cheaper is taken; by another
    /// medium, the other is its spare. An edge from a node to itself is ignored.
    ///
    /// A cost of zero counts as one: shortest paths and the loop-free conditions need every step to cost something.
    pub fn add_edge(&mut self, from: NodeId, to: NodeId, edge: Edge) {
        let (from, before) = (self.place(from), self.ids.len());
        let to = self.place(to);
        let moved = self.ids.len() > before && to <= from;
        self.join(from + Index::from(moved), to, edge);
    }

    /// [`Graph::add_edge`] between nodes that are there.
    pub(crate) fn join(&mut self, from: Index, to: Index, mut edge: Edge) {
        if from == to {
            return;
        }
        edge.cost = edge.cost.max(LinkCost(1));
        let out = &mut self.vertices[from as usize].out;
        match out.binary_search_by_key(&to, |(to, _)| *to) {
            Ok(there) if edge.medium.is_some() && edge.medium != out[there].1.medium => out[there].1.add(edge),
            Ok(there) if edge.cost < out[there].1.cost => out[there].1 = edge,
            Ok(_) => {}
            Err(place) => out.insert(place, (to, edge)),
        }
    }

    /// Marks a node as draining: see [`DRAINING_COST`]. Adds it if it is new.
    pub fn drain(&mut self, node: NodeId) {
        let place = self.place(node);
        self.vertices[place as usize].draining = true;
    }

    /// Adds shared-risk groups that a node itself fails with. Adds the node if it is new.
    pub fn add_node_risks(&mut self, node: NodeId, risks: impl IntoIterator<Item = String>) {
        let place = self.place(node);
        self.vertices[place as usize].risks.extend(risks);
    }

    /// The index of a node, which is added if it is new.
    fn place(&mut self, node: NodeId) -> Index {
        let place = self.ids.binary_search(&node).unwrap_or_else(|place| {
            self.add_nodes([node]);
            place
        });
        to_index(place)
    }

    /// Marks a node as running on battery: see [`BATTERY_COST`].
    pub fn set_on_battery(&mut self, node: NodeId) {
        let place = self.place(node);
        self.vertices[place as usize].on_battery = true;
    }

    /// Those of `hubs` that do not drain. Nothing is sent to one that does: records are safest where they wait.
    #[must_use]
    pub fn serving(&self, hubs: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        hubs.iter().filter(|hub| !self.is_draining(hub)).cloned().collect()
    }

    /// True if `node` takes no transit while there is another way.
    #[must_use]
    pub fn is_draining(&self, node: &NodeId) -> bool {
        self.vertex(node).is_some_and(|vertex| vertex.draining)
    }

    /// True if `node` runs on a battery.
    #[must_use]
    pub fn is_on_battery(&self, node: &NodeId) -> bool {
        self.vertex(node).is_some_and(|vertex| vertex.on_battery)
    }

    /// The shared-risk groups that `node` itself fails with.
    pub fn node_risks(&self, node: &NodeId) -> impl Iterator<Item = &String> {
        self.vertex(node).into_iter().flat_map(|vertex| &vertex.risks)
    }

    /// True if `node` is there, with or without edges.
    #[must_use]
    pub fn contains(&self, node: &NodeId) -> bool {
        self.index(node).is_some()
    }

    /// All nodes, sorted.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.ids.iter()
    }

    /// The edges that leave `node`, sorted by where they lead.
    pub fn edges_from(&self, node: &NodeId) -> impl Iterator<Item = (&NodeId, &Edge)> {
        let out = self.vertex(node).into_iter().flat_map(|vertex| &vertex.out);
        out.map(|(to, edge)| (self.id(*to), edge))
    }

    /// The edge from one node to another.
    #[must_use]
    pub fn edge(&self, from: &NodeId, to: &NodeId) -> Option<&Edge> {
        let (out, to) = (&self.vertex(from)?.out, self.index(to)?);
        out.binary_search_by_key(&to, |(to, _)| *to).ok().map(|place| &out[place].1)
    }

    /// Each edge as (from, to, what taking it costs): its own cost, and [`DRAINING_COST`] or [`BATTERY_COST`] if `from` is so.
    pub fn steps(&self) -> impl Iterator<Item = (&NodeId, &NodeId, LinkCost)> {
        self.index_steps().map(|(from, to, cost)| (self.id(from), self.id(to), cost))
    }

    /// [`Graph::steps`] by index, sorted by `from`, then by `to`.
    pub(crate) fn index_steps(&self) -> impl Iterator<Item = (Index, Index, LinkCost)> {
        let nodes = (0..).take(self.vertices.len());
        nodes.flat_map(|from| self.index_edges(from).map(move |(to, cost)| (from, to, cost)))
    }

    /// The edges that leave the node at `from`, with what taking them costs, sorted by where they lead.
    pub(crate) fn index_edges(&self, from: Index) -> impl Iterator<Item = (Index, LinkCost)> {
        let vertex = &self.vertices[from as usize];
        let toll = vertex.toll();
        vertex.out.iter().map(move |(to, edge)| (*to, edge.cost + toll))
    }

    /// The sorted ids, by index.
    pub(crate) fn ids(&self) -> &Arc<Vec<NodeId>> {
        &self.ids
    }

    pub(crate) fn index(&self, node: &NodeId) -> Option<Index> {
        index_of(&self.ids, node)
    }

    fn id(&self, index: Index) -> &NodeId {
        &self.ids[index as usize]
    }

    fn vertex(&self, node: &NodeId) -> Option<&Vertex> {
        self.index(node).map(|index| &self.vertices[index as usize])
    }

    /// The graph that is left when `gone` and their edges are taken out.
    #[must_use]
    pub fn without(&self, gone: &BTreeSet<NodeId>) -> Self {
        self.filtered(|node, _| !gone.contains(node), |_, _, _| true)
    }

    /// The nodes that `keeps_node` keeps, with the edges between them that `keeps_edge` keeps. It is asked about the
    /// risks of each node, and about the ends of each edge and itself; of an edge that goes, a spare may stay.
    pub(crate) fn filtered(
        &self,
        keeps_node: impl Fn(&NodeId, &Risks) -> bool,
        keeps_edge: impl Fn(&NodeId, &NodeId, &Edge) -> bool,
    ) -> Self {
        let nodes = || self.ids.iter().zip(&self.vertices);
        let kept: Vec<bool> = nodes().map(|(id, vertex)| keeps_node(id, &vertex.risks)).collect();
        let moved_to: Vec<Index> = kept
            .iter()
            .scan(0, |next, kept| {
                let place = *next;
                *next += Index::from(*kept);
                Some(place)
            })
            .collect();
        let left = |(_, kept): &((&NodeId, &Vertex), &bool)| **kept;
        let (ids, vertices) = nodes()
            .zip(&kept)
            .filter(left)
            .map(|((id, vertex), _)| {
                let standing = vertex.out.iter().filter(|(to, _)| kept[*to as usize]);
                let out = standing.filter_map(|(to, edge)| {
                    let left = edge.filtered(&|edge| keeps_edge(id, self.id(*to), edge))?;
                    Some((moved_to[*to as usize], left))
                });
                let out = out.collect();
                (id.clone(), Vertex { risks: vertex.risks.clone(), out, ..*vertex })
            })
            .unzip();
        Self { ids: Arc::new(ids), vertices }
    }
}

/// Where `node` stands in sorted ids.
pub(crate) fn index_of(ids: &[NodeId], node: &NodeId) -> Option<Index> {
    ids.binary_search(node).ok().map(to_index)
}

fn to_index(place: usize) -> Index {
    Index::try_from(place).expect("an area has fewer nodes than four billion")
}

/// Merges two sorted lists without common ids; also says where each of `there` has come to stand.
fn merged(there: &[NodeId], new: Vec<NodeId>) -> (Vec<Index>, Vec<NodeId>) {
    let mut ids = Vec::with_capacity(there.len() + new.len());
    let mut moved_to = Vec::with_capacity(there.len());
    let mut new = new.into_iter().peekable();
    for id in there {
        ids.extend(std::iter::from_fn(|| new.next_if(|new| new < id)));
        moved_to.push(to_index(ids.len()));
        ids.push(id.clone());
    }
    ids.extend(new);
    (moved_to, ids)
}

/// Every link of the area as the topology lists it: its shared-risk groups, and what it costs at least.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LinkRisks {
    /// By the smaller end, then by the greater.
    by_ends: BTreeMap<NodeId, BTreeMap<NodeId, ListedLink>>,
    none: Arc<Risks>,
}

/// What the topology says of a link, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ListedLink {
    risks: Arc<Risks>,
    cost: LinkCost,
}

impl LinkRisks {
    /// No link is listed: nothing is known of links, and each that both ends tell of is believed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a link between two nodes, in whichever order, with its cost and its risks. Of several bearers between the same
    /// two, what parts them is what all of them name, and the least cost counts.
    pub fn insert(&mut self, left: &NodeId, right: &NodeId, cost: LinkCost, risks: impl IntoIterator<Item = String>) {
        let (first, second) = in_order(left, right);
        let risks: Risks = risks.into_iter().collect();
        let links = self.by_ends.entry(first.clone()).or_default();
        match links.get_mut(second) {
            Some(shared) => {
                Arc::make_mut(&mut shared.risks).retain(|risk| risks.contains(risk));
                shared.cost = shared.cost.min(cost);
            }
            None => drop(links.insert(second.clone(), ListedLink { risks: Arc::new(risks), cost })),
        }
    }

    /// The edge between two nodes of which one says that it costs so much. A node can say that its link is dearer than the
    /// topology has it, for it goes badly, and never that it is cheaper, or that it has one which is not listed.
    #[must_use]
    pub fn edge(&self, left: &NodeId, right: &NodeId, told: LinkCost) -> Option<Edge> {
        if self.by_ends.is_empty() {
            return Some(Edge::new(told, Arc::clone(&self.none)));
        }
        let (first, second) = in_order(left, right);
        let listed = self.by_ends.get(first)?.get(second)?;
        Some(Edge::new(told.max(listed.cost), Arc::clone(&listed.risks)))
    }
}

/// One order for both directions of a link.
pub(crate) fn in_order<'a>(left: &'a NodeId, right: &'a NodeId) -> (&'a NodeId, &'a NodeId) {
    if left <= right { (left, right) } else { (right, left) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{Failure, Part};
    use crate::pekanbaru::{id, ids, network_2013};

    fn edge(cost: u32) -> Edge {
        Edge::new(LinkCost(cost), Arc::default())
    }

    #[test]
    fn links_work_both_ways_and_nodes_may_stand_alone() {
        let mut graph = network_2013();
        assert_eq!(graph.edge(&id("rumbai"), &id("sukajadi")), graph.edge(&id("sukajadi"), &id("rumbai")));
        assert_eq!(graph.edge(&id("rumbai"), &id("induk")), None);
        graph.add_node(id("alone"));
        assert!(graph.contains(&id("alone")));
        assert_eq!(graph.edges_from(&id("alone")).count(), 0);
    }

    #[test]
    fn taking_nodes_out_takes_their_edges_out() {
        let left = network_2013().without(&ids(&["sukajadi"]));
        assert!(!left.contains(&id("sukajadi")));
        assert_eq!(left.edges_from(&id("rumbai")).count(), 0);
        assert_eq!(left.edges_from(&id("induk")).count(), 9);
    }

    #[test]
    fn the_order_in_which_nodes_come_does_not_matter() {
        let links = [("m", "z", 1), ("a", "m", 2), ("c", "z", 3), ("b", "a", 4)];
        let graph = |links: &mut dyn Iterator<Item = &(&str, &str, u32)>| {
            let mut graph = Graph::new();
            for (from, to, cost) in links {
                graph.add_edge(id(from), id(to), edge(*cost));
            }
            graph.add_node_risks(id("m"), ["pln-m".to_owned()]);
            graph.drain(id("c"));
            graph
        };
        let (forward, backward) = (graph(&mut links.iter()), graph(&mut links.iter().rev()));
        assert_eq!(forward, backward);
        assert_eq!(forward.nodes().map(NodeId::as_str).collect::<String>(), "abcmz");
        assert!(forward.is_draining(&id("c")) && !forward.is_draining(&id("m")));
        assert_eq!(forward.node_risks(&id("m")).count(), 1);
        assert_eq!(forward.without(&ids(&["a", "c"])).steps().count(), 1);
    }

    #[test]
    fn the_cheaper_of_two_edges_is_taken_and_none_is_free() {
        let mut graph = Graph::new();
        for cost in [7, 3, 5] {
            graph.add_edge(id("a"), id("b"), edge(cost));
        }
        graph.add_edge(id("b"), id("a"), edge(0));
        graph.add_edge(id("a"), id("a"), edge(1));
        let steps: Vec<_> = graph.steps().map(|(from, to, cost)| (from.as_str(), to.as_str(), cost.0)).collect();
        assert_eq!(steps, [("a", "b", 3), ("b", "a", 1)]);
    }

    #[test]
    fn when_an_edge_fails_its_spare_takes_its_place() {
        let bearer = |cost, medium, risk: &str| Edge { medium: Some(medium), ..Edge::new(LinkCost(cost), risks(risk)) };
        let edges = [(40, Medium::Cellular, "tower"), (10, Medium::Fiber, "duct"), (20, Medium::Radio, "mast")];
        let edges = edges.map(|(cost, medium, risk)| (id("a"), id("b"), bearer(cost, medium, risk)));
        let graph = Graph::from_edges(edges);
        let fails = Failure::new;
        for (failure, left) in [
            (fails(), Some(10)),
            (fails().and_risk("duct".to_owned()), Some(20)),
            (fails().and_risk("mast".to_owned()), Some(10)),
            (fails().and_bearer(&id("b"), &id("a"), Medium::Fiber), Some(20)),
            (fails().and_risk("duct".to_owned()).and_risk("mast".to_owned()), Some(40)),
            (fails().and_link(&id("b"), &id("a")), None),
        ] {
            let graph = failure.leaves_of(&graph);
            assert_eq!(graph.edge(&id("b"), &id("a")).map(|edge| edge.cost.0), left, "{failure:?}");
        }
        assert!(!Part::all_of(&graph).iter().any(|part| matches!(part, Part::Link(..))), "no one link parts them");
    }

    fn risks(name: &str) -> Arc<Risks> {
        Arc::new(Risks::from([name.to_owned()]))
    }

    #[test]
    fn leaving_costs_more_on_battery_and_most_when_draining_and_no_hub_that_drains_is_served() {
        let mut graph = network_2013();
        let plain = graph.edge(&id("sukajadi"), &id("induk")).unwrap().clone();
        let leaving = |graph: &Graph| {
            let mut steps = graph.steps();
            steps.find(|(from, to, _)| (from.as_str(), to.as_str()) == ("sukajadi", "induk")).unwrap().2
        };
        assert_eq!(leaving(&graph), plain.cost);
        graph.set_on_battery(id("sukajadi"));
        assert_eq!(leaving(&graph), plain.cost + BATTERY_COST);
        graph.drain(id("sukajadi"));
        assert_eq!(leaving(&graph), plain.cost + DRAINING_COST);
        let hubs = ids(&["induk", "sukajadi"]);
        assert_eq!(graph.serving(&hubs), ids(&["induk"]));
        assert_eq!(graph.without(&ids(&["sukajadi"])).serving(&hubs), hubs, "who is gone drains nothing");
    }

    #[test]
    fn risks_of_a_link_do_not_depend_on_the_direction() {
        let mut risks = LinkRisks::new();
        let edge = |risks: &LinkRisks, from: &str, to: &str| risks.edge(&id(from), &id(to), LinkCost(1));
        risks.insert(&id("b"), &id("a"), LinkCost(2), ["pln-sukajadi".to_owned()]);
        assert_eq!(edge(&risks, "a", "b"), edge(&risks, "b", "a"));
        assert_eq!(edge(&risks, "a", "b").unwrap().risks.len(), 1);
        assert_eq!(edge(&risks, "a", "c"), None);
        risks.insert(&id("a"), &id("b"), LinkCost(3), ["mast".to_owned()]);
        let both = edge(&risks, "a", "b").unwrap();
        assert!(both.risks.is_empty(), "the second bearer outlives the first one's risk");
        assert_eq!(both.cost, LinkCost(2));
    }
}
