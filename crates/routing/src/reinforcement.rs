//! Where new links, or another hub, would take away single points of failure.
//!
//! When one part of the area fails, those who stand fall into islands: one that still reaches a hub, the mainland, and
//! others. A new link helps if it survives that failure itself and joins an island to the mainland, perhaps over
//! another new link. So a candidate is known by the islands it joins in each failure; of candidates that join the same
//! ones only the best is looked at, and so few are left that the best set is mostly found by trying all.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use estafet_model::{LinkCost, NodeId};

use crate::failure::Part;
use crate::graph::{Graph, Index, Risks};
use crate::single_points::{SinglePoint, single_points};
use crate::spf::ShortestPaths;

/// More sets of candidates than this are not all tried: one after the other is chosen instead, each the best of its
/// turn. Trying this many takes about a second.
const SETS_MAX: usize = 1_000_000;

/// A link that could be built.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CandidateLink {
    /// What it would take: of sets that help alike, the one with the smallest sum is chosen.
    pub effort: u64,
    /// The nodes it would join. It works both ways.
    pub ends: [NodeId; 2],
    /// What it would fail with, besides its ends.
    pub risks: Risks,
}

/// A link to build, and what it gives beyond the links chosen before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenLink {
    /// The link.
    pub link: CandidateLink,
    /// Who is no longer isolated by which failure.
    pub saves: Vec<(Part, Vec<NodeId>)>,
    /// The single points of failure that are none any more.
    pub removes: Vec<Part>,
}

/// Links to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reinforcement {
    /// The links, the one that gives most first.
    pub links: Vec<ChosenLink>,
    /// True if no other set of as many links saves more, and no smaller one as much.
    pub is_best: bool,
}

/// The fewest of `candidates`, at most `links_max`, that save most nodes from being isolated by a single failure.
///
/// What counts is the number of nodes saved, summed over the failures; then the number of single points of failure that
/// go; then how few links it takes; then the sum of their efforts. Failures that leave no hub are left out: no link
/// helps against them (see [`hub_sites`]). A candidate is passed over if it shares a risk with a link that an end of it
/// has already, and that end is one of those to be saved. The links of `graph` must work both ways.
#[must_use]
pub fn reinforcement(
    graph: &Graph,
    hubs: &BTreeSet<NodeId>,
    candidates: &[CandidateLink],
    links_max: usize,
) -> Reinforcement {
    let points = single_points(graph, hubs);
    let helpable = points.iter().filter(|point| !point.leaves_no_hub);
    let mut breaks: Vec<Break> = helpable.map(|point| Break::of(graph, hubs, point)).collect();
    let bridges = bridges(graph, &breaks, candidates);
    let (chosen, is_best) = choose(&breaks, &bridges, links_max);
    let mut left: Vec<&Bridge> = chosen.iter().map(|place| &bridges[*place]).collect();
    let mut links = Vec::new();
    while !left.is_empty() {
        let gains = left.iter().enumerate().map(|(place, bridge)| (gain(&breaks, &[bridge]), Reverse(place)));
        let (_, Reverse(best)) = gains.max().expect("some are left");
        links.push(build(graph, &mut breaks, left.remove(best)));
    }
    Reinforcement { links, is_best }
}

/// The area while one single point of failure is gone.
struct Break {
    part: Part,
    /// By index: the island of each node; nothing for one that failed.
    islands: Vec<Option<Island>>,
    /// By island: how many nodes are to be saved there. None on the mainland.
    isolated: Vec<u32>,
}

/// The number of an island.
type Island = u32;

/// All who still reach a hub.
const MAINLAND: Island = 0;

/// Two islands that are joined, the smaller number first.
type Joint = (Island, Island);

impl Break {
    fn of(graph: &Graph, hubs: &BTreeSet<NodeId>, point: &SinglePoint) -> Self {
        let left = point.part.failure().leaves_of(graph);
        let to_hub = ShortestPaths::toward(&left, hubs);
        let mut islands: Vec<Option<Island>> = vec![None; graph.ids().len()];
        let mut isolated = vec![0];
        let place = |node: &NodeId| graph.index(node).expect("what is left was there") as usize;
        for node in left.nodes().filter(|node| to_hub.cost(node).is_some()) {
            islands[place(node)] = Some(MAINLAND);
        }
        for node in left.nodes() {
            if islands[place(node)].is_none() {
                let island = Island::try_from(isolated.len()).expect("there are fewer islands than nodes");
                let around = ShortestPaths::from(&left, node);
                for member in left.nodes().filter(|member| around.cost(member).is_some()) {
                    islands[place(member)] = Some(island);
                }
                isolated.push(0);
            }
        }
        for node in &point.isolates {
            isolated[islands[place(node)].expect("who is isolated stands") as usize] += 1;
        }
        Self { part: point.part.clone(), islands, isolated }
    }

    /// What a link would join; nothing if it fails too, or both its ends are on one island.
    fn joined_by(&self, link: &CandidateLink, ends: [Index; 2]) -> Option<Joint> {
        let [left, right] = ends.map(|end| self.islands[end as usize]);
        let (left, right) = left.zip(right).filter(|(left, right)| left != right)?;
        let [first, second] = &link.ends;
        let survives = !self.part.failure().takes_link(first, second, None, &link.risks);
        survives.then_some((left.min(right), left.max(right)))
    }

    /// The islands that `joints` connect to the mainland.
    fn reached(&self, joints: &[Joint]) -> Vec<Island> {
        let mut reached = vec![MAINLAND];
        loop {
            let one_side = |(left, right): &&Joint| reached.contains(left) != reached.contains(right);
            let Some(&(left, right)) = joints.iter().find(one_side) else { break };
            reached.push(if reached.contains(&left) { right } else { left });
        }
        reached
    }

    /// How many are isolated in all.
    fn isolated(&self) -> u32 {
        self.isolated.iter().sum()
    }
}

/// A candidate by what it does.
struct Bridge {
    link: CandidateLink,
    ends: [Index; 2],
    /// By break.
    joints: Vec<Option<Joint>>,
}

/// The candidates that may be taken and do something, one for each thing that can be done.
fn bridges(graph: &Graph, breaks: &[Break], candidates: &[CandidateLink]) -> Vec<Bridge> {
    let exposed = |end: Index| breaks.iter().any(|gap| gap.islands[end as usize].is_some_and(|home| home != MAINLAND));
    let shares_risk =
        |end: &NodeId, risks: &Risks| graph.edges_from(end).any(|(_, edge)| !edge.risks.is_disjoint(risks));
    let mut by_joints: BTreeMap<Vec<Option<Joint>>, (&CandidateLink, [Index; 2])> = BTreeMap::new();
    for candidate in candidates {
        let [Some(left), Some(right)] = candidate.ends.each_ref().map(|end| graph.index(end)) else { continue };
        let mut ends = candidate.ends.iter().zip([left, right]);
        if ends.any(|(end, index)| exposed(index) && shares_risk(end, &candidate.risks)) {
            continue;
        }
        let joints: Vec<_> = breaks.iter().map(|gap| gap.joined_by(candidate, [left, right])).collect();
        if joints.iter().any(Option::is_some) {
            let best = by_joints.entry(joints).or_insert((candidate, [left, right]));
            *best = (*best).min((candidate, [left, right]));
        }
    }
    let bridge = |(joints, (link, ends)): (_, (&CandidateLink, _))| Bridge { link: link.clone(), ends, joints };
    let mut bridges: Vec<Bridge> = by_joints.into_iter().map(bridge).collect();
    bridges.sort_by(|left, right| left.link.cmp(&right.link));
    bridges
}

/// How good a set of bridges is; greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Gain {
    saved: u32,
    points_removed: u32,
    links: Reverse<usize>,
    effort: Reverse<u64>,
}

fn gain(breaks: &[Break], bridges: &[&Bridge]) -> Gain {
    let (mut saved, mut points_removed) = (0, 0);
    let mut joints = Vec::with_capacity(bridges.len());
    for (place, gap) in breaks.iter().enumerate() {
        joints.clear();
        joints.extend(bridges.iter().filter_map(|bridge| bridge.joints[place]));
        if !joints.is_empty() {
            let here: u32 = gap.reached(&joints).iter().map(|island| gap.isolated[*island as usize]).sum();
            saved += here;
            points_removed += u32::from(here > 0 && here == gap.isolated());
        }
    }
    let effort = bridges.iter().map(|bridge| bridge.link.effort).fold(0, u64::saturating_add);
    Gain { saved, points_removed, links: Reverse(bridges.len()), effort: Reverse(effort) }
}

/// The best set of at most `links_max` bridges, and whether all sets were tried.
fn choose(breaks: &[Break], bridges: &[Bridge], links_max: usize) -> (Vec<usize>, bool) {
    let links_max = links_max.min(bridges.len());
    let mut search = Search { breaks, bridges, best: Vec::new(), best_gain: gain(breaks, &[]) };
    let is_best = sets(bridges.len(), links_max) <= SETS_MAX;
    if is_best {
        search.try_all(&mut Vec::new(), links_max);
    } else {
        while search.best.len() < links_max && search.extend_best() {}
    }
    (search.best, is_best)
}

/// How many ways there are to take one to `taken` out of `there`.
fn sets(there: usize, taken: usize) -> usize {
    let (mut of_size, mut sum) = (1usize, 0usize);
    for size in 1..=taken {
        of_size = of_size.saturating_mul(there + 1 - size) / size;
        sum = sum.saturating_add(of_size);
    }
    sum
}

struct Search<'a> {
    breaks: &'a [Break],
    bridges: &'a [Bridge],
    best: Vec<usize>,
    best_gain: Gain,
}

impl Search<'_> {
    /// Tries `taken`, and every set that goes on from it with later bridges.
    fn try_all(&mut self, taken: &mut Vec<usize>, links_max: usize) {
        self.consider(taken);
        if taken.len() < links_max {
            let next = taken.last().map_or(0, |last| last + 1);
            for place in next..self.bridges.len() {
                taken.push(place);
                self.try_all(taken, links_max);
                taken.pop();
            }
        }
    }

    /// Adds the bridge that helps most to the best set; false if none helps.
    fn extend_best(&mut self) -> bool {
        let begin = self.best.clone();
        for place in (0..self.bridges.len()).filter(|place| !begin.contains(place)) {
            self.consider(&[begin.as_slice(), &[place]].concat());
        }
        self.best.len() > begin.len()
    }

    fn consider(&mut self, taken: &[usize]) {
        let bridges: Vec<&Bridge> = taken.iter().map(|place| &self.bridges[*place]).collect();
        let gain = gain(self.breaks, &bridges);
        if gain > self.best_gain {
            (self.best, self.best_gain) = (taken.to_vec(), gain);
        }
    }
}

/// Builds a bridge: the islands that it joins become one. Says what that gives.
fn build(graph: &Graph, breaks: &mut [Break], bridge: &Bridge) -> ChosenLink {
    let mut chosen = ChosenLink { link: bridge.link.clone(), saves: Vec::new(), removes: Vec::new() };
    for gap in breaks {
        let Some((left, right)) = gap.joined_by(&bridge.link, bridge.ends) else { continue };
        let members = graph.nodes().zip(&gap.islands).filter(|(_, home)| **home == Some(right));
        let members: Vec<NodeId> = members.map(|(node, _)| node.clone()).collect();
        gap.islands.iter_mut().filter(|home| **home == Some(right)).for_each(|home| *home = Some(left));
        let count = std::mem::take(&mut gap.isolated[right as usize]);
        if left != MAINLAND {
            gap.isolated[left as usize] += count;
        } else if count > 0 {
            chosen.saves.push((gap.part.clone(), members));
            if gap.isolated() == 0 {
                chosen.removes.push(gap.part.clone());
            }
        }
    }
    chosen
}

/// A node that could become another hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSite {
    /// The node.
    pub node: NodeId,
    /// Who would be isolated all the same by some failure that leaves none of the present hubs. Sorted.
    pub still_isolated: Vec<NodeId>,
    /// The sum, over these failures and those who have a way then, of what their ways to it cost.
    pub cost_sum: u64,
}

/// Where another hub would help most against the failures that leave none of `hubs`, best first: by how many are still
/// isolated, then by what the ways to it cost. Empty if some hub outlives every single failure.
#[must_use]
pub fn hub_sites(graph: &Graph, hubs: &BTreeSet<NodeId>) -> Vec<HubSite> {
    let hubless = single_points(graph, hubs).into_iter().filter(|point| point.leaves_no_hub);
    let hubless: Vec<(SinglePoint, Graph)> = hubless
        .map(|point| {
            let left = point.part.failure().leaves_of(graph);
            (point, left)
        })
        .collect();
    if hubless.is_empty() {
        return Vec::new();
    }
    let others = graph.nodes().filter(|node| !hubs.contains(*node));
    let mut sites: Vec<(usize, HubSite)> = others.map(|node| hub_site(node, &hubless)).collect();
    sites.sort_by_key(|(isolated, site)| (*isolated, site.cost_sum));
    sites.into_iter().map(|(_, site)| site).collect()
}

/// A site, and how many it leaves isolated, summed over the failures.
fn hub_site(site: &NodeId, hubless: &[(SinglePoint, Graph)]) -> (usize, HubSite) {
    let (mut isolated, mut still_isolated, mut cost_sum) = (0, BTreeSet::new(), 0);
    for (point, left) in hubless {
        let to_site = ShortestPaths::toward_one(left, site);
        for node in &point.isolates {
            if let Some(LinkCost(cost)) = to_site.cost(node) {
                cost_sum += u64::from(cost);
            } else {
                isolated += 1;
                still_isolated.insert(node.clone());
            }
        }
    }
    (isolated, HubSite { node: site.clone(), still_isolated: still_isolated.into_iter().collect(), cost_sum })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::graph::Edge;
    use crate::pekanbaru::{any_graph, id, ids, network_2013, redundant, with_risks};

    fn candidate(left: &NodeId, right: &NodeId) -> CandidateLink {
        CandidateLink { effort: 1, ends: [left.clone(), right.clone()], risks: Risks::new() }
    }

    /// Every pair of nodes that no edge joins.
    fn all_candidates(graph: &Graph) -> Vec<CandidateLink> {
        let pairs = graph.nodes().flat_map(|left| graph.nodes().map(move |right| (left, right)));
        let new = pairs.filter(|(left, right)| left < right && graph.edge(left, right).is_none());
        new.map(|(left, right)| candidate(left, right)).collect()
    }

    fn with_links<'a>(graph: &Graph, links: impl IntoIterator<Item = &'a CandidateLink>) -> Graph {
        let mut graph = graph.clone();
        for link in links {
            let [left, right] = link.ends.clone();
            let edge = Edge::new(LinkCost(15), Arc::new(link.risks.clone()));
            graph.add_edge(left.clone(), right.clone(), edge.clone());
            graph.add_edge(right, left, edge);
        }
        graph
    }

    fn reinforced(graph: &Graph, advice: &Reinforcement) -> Graph {
        with_links(graph, advice.links.iter().map(|chosen| &chosen.link))
    }

    /// How many are isolated, summed over the failures that a link can help against.
    fn exposure(graph: &Graph, hubs: &BTreeSet<NodeId>) -> usize {
        single_points(graph, hubs).iter().filter(|point| !point.leaves_no_hub).map(|point| point.isolates.len()).sum()
    }

    #[test]
    fn the_fewest_links_that_free_pekanbaru_are_found() {
        let hub = ids(&["induk"]);
        for (graph, most, needed) in [(redundant(), 3, 2), (redundant(), 1, 1), (with_risks(redundant()), 3, 2)] {
            let advice = reinforcement(&graph, &hub, &all_candidates(&graph), most);
            assert!(advice.is_best);
            assert_eq!(advice.links.len(), needed, "{:?}", advice.links);
            assert_eq!(exposure(&reinforced(&graph, &advice), &hub) == 0, most > 1, "{:?}", advice.links);
        }
    }

    #[test]
    fn many_links_are_chosen_one_by_one() {
        let (graph, hub) = (network_2013(), ids(&["induk"]));
        let advice = reinforcement(&graph, &hub, &all_candidates(&graph), 8);
        assert!(!advice.is_best);
        assert_eq!(exposure(&reinforced(&graph, &advice), &hub), 0);
    }

    #[test]
    fn an_office_that_hangs_on_one_of_two_hubs_gets_a_link_toward_the_other() {
        let links = [("hub-a", "sail", 1), ("hub-a", "hub-b", 1)].map(|(a, b, cost)| (id(a), id(b), LinkCost(cost)));
        let graph = Graph::from_links(links.into_iter().map(|(a, b, cost)| (a, b, cost, &[] as &[String])));
        let advice = reinforcement(&graph, &ids(&["hub-a", "hub-b"]), &all_candidates(&graph), 3);
        assert_eq!(advice.links.len(), 1);
        assert_eq!(advice.links[0].link.ends, [id("hub-b"), id("sail")]);
        let (node, link) = (Part::Node(id("hub-a")), Part::Link(id("hub-a"), id("sail")));
        assert_eq!(advice.links[0].removes, [node, link]);
    }

    #[test]
    fn a_link_with_the_risk_of_what_is_there_is_passed_over() {
        let (graph, hub) = (with_risks(redundant()), ids(&["induk"]));
        let mut risky = candidate(&id("sail"), &id("sukajadi"));
        risky.risks.insert("mast".to_owned());
        assert!(reinforcement(&graph, &hub, &[risky.clone()], 1).links.is_empty());
        let safe = CandidateLink { risks: Risks::new(), effort: 9, ..risky.clone() };
        let advice = reinforcement(&graph, &hub, &[risky, safe.clone()], 1);
        assert_eq!(advice.links[0].link, safe);
        assert_eq!(advice.links[0].saves.len(), 2, "from the mast's loss and from the link's");
    }

    #[test]
    fn another_hub_stands_best_where_most_reach_it_and_no_risk_is_shared() {
        let mut graph = redundant();
        let sites = hub_sites(&graph, &ids(&["induk"]));
        assert_eq!(sites[0].still_isolated.len(), 7, "five hang together without the main server: {:?}", sites[0]);
        let best = sites[0].node.clone();
        for node in [&id("induk"), &best] {
            graph.add_node_risks(node.clone(), ["pln".to_owned()]);
        }
        assert_ne!(hub_sites(&graph, &ids(&["induk"]))[0].node, best);
        assert!(hub_sites(&redundant(), &ids(&["induk", "senapelan"])).is_empty());
    }

    #[test]
    fn sets_are_counted() {
        for (there, taken, expected) in [(5, 0, 0), (5, 1, 5), (5, 3, 25), (4, 4, 15)] {
            assert_eq!(sets(there, taken), expected);
        }
        assert!(sets(10_000, 9) > SETS_MAX);
    }

    /// Edges both ways, and a chain through all.
    fn connected(graph: &Graph) -> Graph {
        let mut both = graph.clone();
        let nodes: Vec<&NodeId> = graph.nodes().collect();
        let chain = nodes.windows(2).map(|pair| (pair[0], pair[1], LinkCost(3)));
        for (from, to, cost) in graph.steps().chain(chain) {
            both.add_edge(from.clone(), to.clone(), Edge::new(cost, Arc::default()));
            both.add_edge(to.clone(), from.clone(), Edge::new(cost, Arc::default()));
        }
        both
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_told_comes_true_and_no_pair_of_links_saves_more(graph in any_graph()) {
            let graph = connected(&graph);
            let hubs: BTreeSet<NodeId> = graph.nodes().take(1).cloned().collect();
            let candidates = all_candidates(&graph);
            let advice = reinforcement(&graph, &hubs, &candidates, 2);
            let left = exposure(&reinforced(&graph, &advice), &hubs);
            let saved: usize = advice.links.iter().flat_map(|link| &link.saves).map(|(_, nodes)| nodes.len()).sum();
            prop_assert_eq!(exposure(&graph, &hubs) - saved, left, "{:?}", advice.links);
            for (place, first) in candidates.iter().enumerate() {
                for second in &candidates[place..] {
                    let other = exposure(&with_links(&graph, [first, second]), &hubs);
                    prop_assert!(left <= other, "{:?} {:?}", first, second);
                }
            }
        }
    }
}
