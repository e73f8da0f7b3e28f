//! For tests: several routers under one virtual clock. What each outputs is delivered five milliseconds later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use estafet_model::{LinkCost, LsdbDigest, Medium, NodeId, Now, SigningKey};

use crate::adjacency::DownReason;
use crate::alternates::routes_to_nearest;
use crate::failure::Failure;
use crate::graph::{Graph, LinkRisks};
use crate::lsdb::Summary;
use crate::neighbor::BearerTerms;
use crate::output::RouterOutput;
use crate::pekanbaru::{by_radio, id, ids, words};
use crate::router::{Router, RouterConfig};
use crate::signed_lsa::SignedLsa;

pub(crate) const LATENCY: Duration = Duration::from_millis(5);

/// Long enough for a death to be noticed and told, and for SPF to have run after it.
pub(crate) const SETTLE: Duration = Duration::from_millis(1500);

/// Long enough for a neighbor that has died to be trusted again.
pub(crate) const STEADY: Duration = Duration::from_secs(22);

#[derive(Debug, Clone)]
enum Frame {
    Lsas(Vec<SignedLsa>),
    Summary(Summary),
    Heartbeat { busy: bool, lsdb: Option<LsdbDigest> },
}

struct Delivery {
    at: Now,
    from: NodeId,
    to: NodeId,
    frame: Frame,
}

/// An area whose links can be cut and whose nodes can be killed.
pub(crate) struct Area {
    pub(crate) now: Now,
    pub(crate) map: Graph,
    pub(crate) routers: BTreeMap<NodeId, Router>,
    cut: BTreeSet<(NodeId, NodeId)>,
    in_flight: VecDeque<Delivery>,
    /// When each router wants to be called next, as it was after its last input; soonest first.
    timers: BTreeSet<(Now, NodeId)>,
    timer_of: BTreeMap<NodeId, Now>,
    pub(crate) downs: Vec<(NodeId, NodeId, DownReason)>,
    pub(crate) lsa_frames: usize,
    pub(crate) summaries: usize,
    /// Out of a hundred heartbeats, how many are lost.
    pub(crate) loss_percent: u64,
    /// And of LSAs: a driver may drop from a full queue.
    pub(crate) lsa_loss_percent: u64,
    /// The state of the generator behind [`Area::roll`]; set it to repeat a run.
    pub(crate) dice: u64,
}

pub(crate) fn signing_key(node: &NodeId) -> SigningKey {
    let mut seed = [0; 32];
    seed[..node.as_str().len()].copy_from_slice(node.as_str().as_bytes());
    SigningKey::from_seed(seed)
}

pub(crate) fn config(map: &Graph, me: &NodeId) -> RouterConfig {
    RouterConfig {
        neighbors: map
            .edges_from(me)
            .map(|(neighbor, edge)| {
                let terms = BearerTerms { cost: edge.cost, urgent_only: false };
                (neighbor.clone(), BTreeMap::from([(Medium::Radio, terms)]))
            })
            .collect(),
        link_risks: LinkRisks::new(),
        keys: map.nodes().map(|node| (node.clone(), signing_key(node).public())).collect(),
        hubs: ids(&["induk"]),
        signing_key: signing_key(me),
        first_sequence: 1,
        durable: true,
        topology_version: 1,
    }
}

/// Numbers that are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

impl Area {
    /// All sessions are established at the same moment and the area has settled.
    pub(crate) fn settled(map: Graph) -> Self {
        let routers = map.nodes().map(|node| (node.clone(), Router::new(node.clone(), config(&map, node))));
        let mut area = Self {
            now: Now::default(),
            routers: routers.collect(),
            map,
            cut: BTreeSet::new(),
            in_flight: VecDeque::new(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            downs: Vec::new(),
            lsa_frames: 0,
            summaries: 0,
            loss_percent: 0,
            lsa_loss_percent: 0,
            dice: 1,
        };
        area.connect(&area.map.nodes().cloned().collect());
        area.run(SETTLE);
        area
    }

    /// A map of many nodes that no single failure parts: a ring through all, and three chords for every four nodes, drawn
    /// by `seed`. One node is `induk`, the hub.
    pub(crate) fn large_map(nodes: usize, seed: u64) -> Graph {
        let name = |number: usize| if number == 0 { id("induk") } else { id(&format!("n{number:04}")) };
        let mut dice = Dice(seed);
        let ring = (0..nodes).map(|number| (number, (number + 1) % nodes));
        let chords: Vec<_> = (0..nodes * 3 / 4).map(|_| (dice.below(nodes), dice.below(nodes))).collect();
        let links = ring.chain(chords).map(|(left, right)| {
            let cost = u32::try_from(1 + (left * 7 + right * 13) % 20).unwrap();
            (name(left), name(right), LinkCost(cost), &[] as &[String])
        });
        Graph::from_links(links)
    }

    pub(crate) fn router(&self, node: &str) -> &Router {
        &self.routers[&id(node)]
    }

    pub(crate) fn next_hops(&self, node: &str) -> String {
        let neighbors: Vec<NodeId> = self.router(node).next_hops().into_iter().map(|hop| hop.neighbor).collect();
        words(&neighbors)
    }

    /// Those of the next hops that a large queue may spread over.
    pub(crate) fn downhill(&self, node: &str) -> String {
        let downhill = self.router(node).next_hops().into_iter().filter(|hop| hop.downhill);
        words(&downhill.map(|hop| hop.neighbor).collect::<Vec<_>>())
    }

    pub(crate) fn change(&mut self, node: &str, change: impl FnOnce(&mut Router, Now)) {
        let now = self.now;
        change(self.routers.get_mut(&id(node)).unwrap(), now);
        self.collect(&id(node));
        self.set_timer(&id(node));
    }

    fn set_timer(&mut self, node: &NodeId) {
        if let Some(at) = self.timer_of.remove(node) {
            self.timers.remove(&(at, node.clone()));
        }
        if let Some((at, _)) = self.routers.get(node).and_then(Router::poll_timeout) {
            self.timers.insert((at, node.clone()));
            self.timer_of.insert(node.clone(), at);
        }
    }

    /// Establishes the sessions of these nodes with all neighbors that run.
    pub(crate) fn connect(&mut self, nodes: &BTreeSet<NodeId>) {
        let links: Vec<_> = self.map.steps().map(|(from, to, _)| (from.clone(), to.clone())).collect();
        for (from, to) in links {
            let both_run = self.routers.contains_key(&from) && self.routers.contains_key(&to);
            if both_run && (nodes.contains(&from) || nodes.contains(&to)) {
                self.change(from.as_str(), |router, now| router.session_up(now, &by_radio(to.as_str())));
            }
        }
    }

    /// Takes the power of a node: nobody is told.
    pub(crate) fn kill(&mut self, node: &str) {
        self.routers.remove(&id(node));
        self.set_timer(&id(node));
        self.in_flight.retain(|delivery| delivery.from != id(node) && delivery.to != id(node));
    }

    pub(crate) fn set_cut(&mut self, left: &str, right: &str, cut: bool) {
        for ends in [(id(left), id(right)), (id(right), id(left))] {
            if cut {
                self.cut.insert(ends)
            } else {
                self.cut.remove(&ends)
            };
        }
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let timer = self.timers.first().cloned().filter(|(at, _)| *at <= end);
            let delivery = self.in_flight.front().map(|delivery| delivery.at).filter(|at| *at <= end);
            match (delivery, timer) {
                (Some(at), timer) if timer.as_ref().is_none_or(|(when, _)| at <= *when) => self.deliver(),
                (_, Some((at, node))) => {
                    self.now = self.now.max(at);
                    self.change(node.as_str(), |router, now| router.handle_timeout(now, |_| false));
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn deliver(&mut self) {
        let Some(Delivery { at, from, to, frame }) = self.in_flight.pop_front() else { return };
        self.now = at;
        if self.cut.contains(&(from.clone(), to.clone())) || !self.routers.contains_key(&to) {
            return;
        }
        let bearer = by_radio(from.as_str());
        self.change(to.as_str(), |router, now| match frame {
            Frame::Heartbeat { busy, lsdb } => router.heartbeat(now, &bearer, busy, lsdb),
            Frame::Summary(summary) => {
                router.spoken_to(now, &bearer);
                router.lsdb_summary_received(&from, &summary);
            }
            Frame::Lsas(lsas) => {
                router.spoken_to(now, &bearer);
                for lsa in lsas {
                    router.lsa_received(now, &from, SignedLsa::decode(&lsa.encode()).unwrap());
                }
            }
        });
    }

    /// Puts what a router outputs on its way.
    fn collect(&mut self, from: &NodeId) {
        while let Some(output) = self.routers.get_mut(from).and_then(Router::poll_output) {
            match output {
                RouterOutput::SendLsas { to, lsas } => {
                    self.lsa_frames += 1;
                    if self.roll() >= self.lsa_loss_percent {
                        self.send(from, to, Frame::Lsas(lsas));
                    }
                }
                RouterOutput::SendSummary { to } => {
                    self.summaries += 1;
                    let summary = self.routers[from].lsdb().summary();
                    self.send(from, to, Frame::Summary(summary));
                }
                RouterOutput::SendHeartbeat { over, busy, lsdb } => {
                    if self.roll() >= self.loss_percent {
                        self.send(from, over.neighbor, Frame::Heartbeat { busy, lsdb });
                    }
                }
                RouterOutput::AdjacencyDown { neighbor, reason } => self.downs.push((from.clone(), neighbor, reason)),
                RouterOutput::ForgedLsa { .. } => panic!("no router forges"),
                RouterOutput::AdjacencyUp(_)
                | RouterOutput::Suspected(_)
                | RouterOutput::Cleared(_)
                | RouterOutput::LinkGray { .. }
                | RouterOutput::Try { .. }
                | RouterOutput::LinkGood(_)
                | RouterOutput::BearerChanged { .. }
                | RouterOutput::SayAgain { .. }
                | RouterOutput::GiveUp(_)
                | RouterOutput::RoutesChanged => {}
            }
        }
    }

    fn send(&mut self, from: &NodeId, to: NodeId, frame: Frame) {
        self.in_flight.push_back(Delivery { at: self.now + LATENCY, from: from.clone(), to, frame });
    }

    /// A number below 100, the same in every run.
    pub(crate) fn roll(&mut self) -> u64 {
        let mut dice = Dice(self.dice);
        let rolled = dice.below(100);
        self.dice = dice.0;
        u64::try_from(rolled).unwrap()
    }

    /// All that run hold the same LSAs and the map `expected`, and route by it.
    pub(crate) fn assert_agree_on(&self, expected: &Graph) {
        let lsdb = self.routers.values().next().unwrap().lsdb();
        for (node, router) in &self.routers {
            assert_eq!(router.lsdb().summary(), lsdb.summary(), "{node}");
            assert_eq!(router.graph(), expected, "{node}");
            let route = routes_to_nearest(expected, node, &ids(&["induk"]));
            let hops = route.iter().flat_map(|route| {
                std::iter::once(&route.next_hop).chain(route.alternates.iter().map(|alternate| &alternate.next_hop))
            });
            assert_eq!(self.next_hops(node.as_str()), words(&hops.cloned().collect::<Vec<_>>()), "{node}");
        }
    }

    /// The map when nothing passes between two nodes.
    pub(crate) fn map_without_link(&self, left: &NodeId, right: &NodeId) -> Graph {
        Failure::new().and_link(left, right).leaves_of(&self.map)
    }

    /// The map when a node is there but nobody hears it.
    pub(crate) fn map_without(&self, node: &str) -> Graph {
        let mut map = self.map.without(&ids(&[node]));
        map.add_node(id(node));
        map
    }
}
