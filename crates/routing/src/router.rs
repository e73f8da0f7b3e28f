//! Routing for one node: liveness of its neighbors, its own LSA, flooding, the map, next hops.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

use estafet_model::{LinkCost, LsaVersion, LsdbDigest, NodeId, Now, PublicKey, SigningKey};

use crate::adjacency::{AdjacencyAction, DownReason, Liveness, NeighborState};
use crate::alternates::{Route, route};
use crate::comparison::Comparison;
use crate::damping::Damping;
use crate::fib::{Fib, NextHop};
use crate::graph::{Graph, LinkRisks};
use crate::lsa::{HubLedger, OriginLedger};
use crate::lsdb::{Installed, Lsdb};
use crate::origination::Origination;
use crate::output::{RouterOutput, TimerReason};
use crate::quality::{Change, Gray, LinkQuality, LinkSample};
use crate::signed_lsa::SignedLsa;
use crate::spf::ShortestPaths;
use crate::standing::Standing;

/// What the topology says that concerns routing, from the view of one node.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The links of this node: the node at the other end, and what sending to it costs.
    pub neighbors: BTreeMap<NodeId, LinkCost>,
    /// The shared-risk groups of every link of the area.
    pub link_risks: LinkRisks,
    /// Every node of the area, this one included, with its public key. LSAs of others are ignored.
    pub keys: BTreeMap<NodeId, PublicKey>,
    /// The hubs of the area.
    pub hubs: BTreeSet<NodeId>,
    /// The key that signs this node's LSAs.
    pub signing_key: SigningKey,
    /// The sequence number of the first LSA: best above all that an earlier life may have used, such as a durable
    /// count of starts shifted left by 32 bits. With 1 the node finds its place by RFC 2328 section 13.4 as soon as
    /// a neighbor returns what it said before. Read by [`Router::new`] only.
    pub first_sequence: u64,
    /// This node's disk keeps what is synced. Told to all, so that people see who gives no promises.
    pub durable: bool,
}

/// What taking a link costs on top, while it is gray or its neighbor flaps: more than any path of good links, less than
/// one through a draining node, and few enough that the sum does not saturate. Everybody shares the map that has it.
pub const SHUNNED_COST: LinkCost = LinkCost(1 << 18);

/// What is known of a neighbor and of the link to it.
#[derive(Debug, Clone, Default)]
struct NeighborLink {
    liveness: Liveness,
    quality: LinkQuality,
    damping: Damping,
    comparison: Comparison,
}

impl NeighborLink {
    /// The last choice: the link is gray, or the neighbor flaps.
    fn is_shunned(&self) -> bool {
        self.quality.gray().is_some() || self.damping.out_until().is_some()
    }
}

/// Routing for one node, without IO.
///
/// The driver feeds inputs (every method that changes something), and after each takes outputs from
/// [`Router::poll_output`] until there are none; then it waits for the next input or for the time that
/// [`Router::poll_timeout`] names, and calls [`Router::handle_timeout`]. Time never goes backward between calls. Inputs
/// about nodes that are not configured neighbors are ignored: the session layer has refused them already.
///
/// An input may change [`Router::next_hops`] at once: the answer never names a neighbor whose adjacency is not up.
#[derive(Debug, Clone)]
pub struct Router {
    me: NodeId,
    config: RouterConfig,
    neighbors: BTreeMap<NodeId, NeighborLink>,
    own: Origination,
    lsdb: Lsdb,
    /// Made out of the LSDB when somebody asks for it: of the changes of a flood most are followed by others before
    /// that.
    map: OnceLock<Map>,
    fib: Fib,
    outputs: VecDeque<RouterOutput>,
    routes_changed: bool,
}

/// What the LSDB comes to.
#[derive(Debug, Clone)]
struct Map {
    graph: Graph,
    from_me: ShortestPaths,
}

impl Router {
    /// A router without sessions. Its LSDB holds its own LSA, without adjacencies.
    #[must_use]
    pub fn new(me: NodeId, config: RouterConfig) -> Self {
        let mut router = Self {
            neighbors: config.neighbors.keys().map(|neighbor| (neighbor.clone(), NeighborLink::default())).collect(),
            own: Origination::new(me.clone(), config.signing_key.clone(), config.first_sequence, config.durable),
            lsdb: Lsdb::new(),
            map: OnceLock::new(),
            fib: Fib::new(),
            outputs: VecDeque::new(),
            routes_changed: false,
            me,
            config,
        };
        let first = router.own.originate(Now::default(), std::iter::empty());
        router.lsdb.install_own(first);
        router
    }

    /// A session with a neighbor was established.
    pub fn session_up(&mut self, now: Now, neighbor: &NodeId) {
        self.with_neighbor(now, neighbor, |liveness| liveness.session_up(now));
    }

    /// The session with a neighbor ended.
    pub fn session_down(&mut self, now: Now, neighbor: &NodeId) {
        self.with_neighbor(now, neighbor, Liveness::session_down);
    }

    /// Anything came from a neighbor, if only an acknowledgement of its transport.
    pub fn heard(&mut self, now: Now, neighbor: &NodeId) {
        self.with_neighbor(now, neighbor, |liveness| liveness.heard(now));
    }

    /// A heartbeat came from a neighbor; `busy` says that it is busy with this node, `lsdb` what its LSDB comes to.
    pub fn heartbeat(&mut self, now: Now, neighbor: &NodeId, busy: bool, lsdb: Option<LsdbDigest>) {
        self.with_neighbor(now, neighbor, |liveness| liveness.heartbeat(now, busy));
        let Some(link) = self.neighbors.get_mut(neighbor).filter(|link| link.liveness.is_up()) else { return };
        if lsdb.is_some_and(|theirs| link.comparison.differs_for_long(now, theirs == self.lsdb.digest())) {
            self.outputs.push_back(RouterOutput::SendSummary { to: neighbor.clone() });
        }
    }

    /// A neighbor was handed something, or still owes an answer: its death is to be noticed soon.
    pub fn busy(&mut self, now: Now, neighbor: &NodeId) {
        if let Some(link) = self.neighbors.get_mut(neighbor) {
            link.liveness.busy(now);
        }
    }

    /// A network device of this machine has lost its carrier: every neighbor is asked at once whether it is there.
    pub fn carrier_lost(&mut self, now: Now) {
        self.neighbors.values_mut().for_each(|link| link.liveness.ask_at_once(now));
    }

    /// A neighbor said that it goes.
    pub fn goodbye(&mut self, now: Now, neighbor: &NodeId) {
        self.with_neighbor(now, neighbor, Liveness::goodbye);
    }

    /// A neighbor sent an LSA, its own or somebody's. Counts as heard.
    pub fn lsa_received(&mut self, now: Now, from: &NodeId, signed: SignedLsa) {
        self.heard(now, from);
        let origin = signed.lsa().origin.clone();
        let Some(key) = self.config.keys.get(&origin).filter(|_| self.neighbors.contains_key(from)) else { return };
        if origin == self.me
            && let Some(sequence) = self.lsdb.own_sequence_behind(&signed, key)
        {
            self.own.jump_above(sequence);
            return self.originate(now);
        }
        match self.lsdb.install(signed, key) {
            Installed::Newer { changed_topology } => {
                self.flood(&origin, Some(from));
                if changed_topology {
                    self.map_changed(now, false);
                }
            }
            Installed::Same => {}
            Installed::Older(ours) => self.send(from, vec![ours]),
            Installed::Forged => self.outputs.push_back(RouterOutput::ForgedLsa { from: from.clone(), origin }),
        }
    }

    /// A neighbor told which LSAs it has: it is sent those that it lacks.
    pub fn lsdb_summary_received(&mut self, now: Now, from: &NodeId, summary: &[LsaVersion]) {
        self.heard(now, from);
        let lacking: Vec<SignedLsa> = self.lsdb.newer_than(summary).into_iter().cloned().collect();
        if self.neighbors.contains_key(from) && !lacking.is_empty() {
            self.send(from, lacking);
        }
    }

    /// What was measured on the link to a neighbor; to be given twice a second. The round-trip time is told with the next
    /// LSA and never the reason for one; that the link is gray, or good again, is told at once.
    pub fn measured(&mut self, now: Now, neighbor: &NodeId, sample: LinkSample) {
        let Some(link) = self.neighbors.get_mut(neighbor).filter(|link| link.liveness.is_up()) else { return };
        link.liveness.set_round_trip(sample.round_trip);
        self.own.set_rtt(neighbor.clone(), sample.round_trip);
        let neighbor = neighbor.clone();
        match link.quality.measured(now, sample) {
            Some(Change::BecameGray(why)) => {
                link.liveness.set_watched(now, true);
                self.outputs.push_back(RouterOutput::LinkGray { neighbor, why });
            }
            Some(Change::BecameGood) => {
                link.liveness.set_watched(now, false);
                self.outputs.push_back(RouterOutput::LinkGood(neighbor));
            }
            None => return,
        }
        self.originate(now);
    }

    /// Where this node's captures stand. Told soon, at most every [`crate::LEDGER_INTERVAL`].
    pub fn set_ledger(&mut self, ledger: OriginLedger) {
        self.own.set_ledger(ledger);
    }

    /// What this hub has committed. Told soon, at most every [`crate::LEDGER_INTERVAL`].
    pub fn set_hub_ledger(&mut self, ledger: HubLedger) {
        self.own.set_hub_ledger(ledger);
    }

    /// What this node does with transit, on what power, and why. Told at once.
    pub fn set_standing(&mut self, now: Now, standing: Standing) {
        if self.own.set_standing(standing) {
            self.originate(now);
        }
    }

    /// What this node says about its service.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        self.own.standing()
    }

    /// The hubs that take records: those that do not drain.
    #[must_use]
    pub fn serving_hubs(&self) -> BTreeSet<NodeId> {
        self.graph().serving(&self.config.hubs)
    }

    /// A new topology. Neighbors that stay keep their sessions; what it no longer vouches for goes.
    pub fn reconfigure(&mut self, now: Now, config: RouterConfig) {
        self.config = config;
        let gone: Vec<NodeId> =
            self.neighbors.keys().filter(|node| !self.config.neighbors.contains_key(*node)).cloned().collect();
        for neighbor in gone {
            self.fib.neighbor_back(&neighbor);
            if self.neighbors.remove(&neighbor).is_some_and(|link| link.liveness.is_up()) {
                self.outputs.push_back(RouterOutput::AdjacencyDown { neighbor, reason: DownReason::Removed });
            }
        }
        for neighbor in self.config.neighbors.keys() {
            self.neighbors.entry(neighbor.clone()).or_default();
        }
        self.own.reconfigure(self.config.signing_key.clone(), |node| self.config.neighbors.contains_key(node));
        self.lsdb.retain_verified(&self.config.keys);
        self.originate(now);
        self.map_changed(now, false);
    }

    /// Time passed. `owes` says whether a neighbor owes an answer now.
    pub fn handle_timeout(&mut self, now: Now, owes: impl Fn(&NodeId) -> bool) {
        let neighbors: Vec<NodeId> = self.neighbors.keys().cloned().collect();
        for neighbor in neighbors {
            while self.with_neighbor(now, &neighbor, |liveness| liveness.handle_timeout(now, || owes(&neighbor))) {}
        }
        let mut stays = false;
        for link in self.neighbors.values_mut() {
            stays |= link.damping.handle_timeout(now);
        }
        if stays {
            self.originate(now);
        }
        if self.own.ledger_due().is_some_and(|due| due <= now) {
            self.originate(now);
        }
        if self.fib.schedule.due().is_some_and(|due| due <= now) {
            self.run_spf(now);
        }
    }

    /// The next thing to do; nothing when all is done.
    pub fn poll_output(&mut self) -> Option<RouterOutput> {
        let changed = || std::mem::take(&mut self.routes_changed).then_some(RouterOutput::RoutesChanged);
        self.outputs.pop_front().or_else(changed)
    }

    /// When to call [`Router::handle_timeout`] next, and what for. A time that has passed means now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Now, TimerReason)> {
        let adjacencies = self.neighbors.iter().filter_map(|(neighbor, link)| {
            let (when, timer) = link.liveness.poll_timeout()?;
            Some((when, TimerReason::Adjacency { neighbor: neighbor.clone(), timer }))
        });
        let damped = self.neighbors.values().filter_map(|link| Some((link.damping.out_until()?, TimerReason::Damping)));
        let spf = self.fib.schedule.due().map(|when| (when, TimerReason::Spf));
        let ledger = self.own.ledger_due().map(|when| (when, TimerReason::Ledger));
        adjacencies.chain(damped).chain(spf).chain(ledger).min_by_key(|(when, _)| *when)
    }

    /// Where to send toward the nearest hub, best first: the best way, then its alternates, and of these only
    /// neighbors that are up, suspects and gray links behind all others. Empty if there is no way, and at a hub.
    #[must_use]
    pub fn next_hops(&self) -> Vec<NextHop> {
        let mut hops = self.fib.next_hops(|neighbor| self.is_up(neighbor));
        hops.sort_by_key(|hop| self.is_suspect(&hop.neighbor) || self.gray(&hop.neighbor).is_some());
        hops
    }

    /// True if the neighbor is up, and owes an answer suspiciously long.
    #[must_use]
    pub fn is_suspect(&self, neighbor: &NodeId) -> bool {
        self.neighbors.get(neighbor).is_some_and(|link| link.liveness.is_suspect())
    }

    /// What is wrong with the link to a neighbor, if it is gray.
    #[must_use]
    pub fn gray(&self, neighbor: &NodeId) -> Option<Gray> {
        self.neighbors.get(neighbor).and_then(|link| link.quality.gray())
    }

    fn is_up(&self, neighbor: &NodeId) -> bool {
        self.neighbors.get(neighbor).is_some_and(|link| link.liveness.is_up())
    }

    /// The route from this node to any other, over neighbors that are up, around neighbors that may have died.
    #[must_use]
    pub fn route_to(&self, destination: &NodeId) -> Option<Route> {
        self.fib.around_the_dead(self.graph(), |graph| route(graph, &self.me, destination))
    }

    /// The route that another node has by this node's map.
    #[must_use]
    pub fn route_from(&self, source: &NodeId, destination: &NodeId) -> Option<Route> {
        route(self.graph(), source, destination)
    }

    /// The map: every node of the topology, and the edges that both ends vouch for.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.map().graph
    }

    /// What every node last said.
    #[must_use]
    pub fn lsdb(&self) -> &Lsdb {
        &self.lsdb
    }

    /// True if there is a way from this node to `node` by the map.
    #[must_use]
    pub fn reachable(&self, node: &NodeId) -> bool {
        self.map().from_me.cost(node).is_some()
    }

    /// Whether a neighbor is alive; nothing if it is none.
    #[must_use]
    pub fn neighbor_state(&self, neighbor: &NodeId) -> Option<NeighborState> {
        self.neighbors.get(neighbor).map(|link| link.liveness.state())
    }

    /// Gives an input to a neighbor's liveness and does what it asks for; true if it asked for something.
    fn with_neighbor(
        &mut self,
        now: Now,
        neighbor: &NodeId,
        input: impl FnOnce(&mut Liveness) -> Option<AdjacencyAction>,
    ) -> bool {
        let Some(link) = self.neighbors.get_mut(neighbor) else { return false };
        let Some(action) = input(&mut link.liveness) else { return false };
        let neighbor = neighbor.clone();
        match action {
            AdjacencyAction::SendHeartbeat { busy } => {
                let lsdb = link.comparison.is_to_be_told(now).then(|| self.lsdb.digest());
                self.outputs.push_back(RouterOutput::SendHeartbeat { to: neighbor, busy, lsdb });
            }
            AdjacencyAction::CameUp => {
                link.damping.returned(now);
                link.comparison = Comparison::default();
                self.fib.neighbor_back(&neighbor);
                self.outputs.push_back(RouterOutput::AdjacencyUp(neighbor.clone()));
                self.outputs.push_back(RouterOutput::SendSummary { to: neighbor });
                self.originate(now);
            }
            AdjacencyAction::BecameSuspect => self.outputs.push_back(RouterOutput::Suspected(neighbor)),
            AdjacencyAction::Cleared => self.outputs.push_back(RouterOutput::Cleared(neighbor)),
            AdjacencyAction::WentDown(reason) => {
                link.quality.session_ended();
                if reason != DownReason::Goodbye {
                    link.damping.died(now);
                }
                self.fib.neighbor_lost(neighbor.clone());
                self.outputs.push_back(RouterOutput::AdjacencyDown { neighbor, reason });
                self.originate_after_loss(now);
            }
        }
        true
    }

    fn originate(&mut self, now: Now) {
        if self.install_own_lsa(now) {
            self.map_changed(now, false);
        }
    }

    fn originate_after_loss(&mut self, now: Now) {
        self.install_own_lsa(now);
        self.map_changed(now, true);
    }

    /// Says anew what this node is, to itself and to all; true if paths may differ with it.
    fn install_own_lsa(&mut self, now: Now) -> bool {
        let up = self.config.neighbors.iter().filter_map(|(node, cost)| {
            let link = self.neighbors.get(node).filter(|link| link.liveness.is_up())?;
            Some((node, if link.is_shunned() { *cost + SHUNNED_COST } else { *cost }))
        });
        let signed = self.own.originate(now, up);
        let changed_topology = self.lsdb.install_own(signed);
        let me = self.me.clone();
        self.flood(&me, None);
        changed_topology
    }

    /// Sends an origin's LSA to all up neighbors but the one that it came from. Others get it by summary when they
    /// are back.
    fn flood(&mut self, origin: &NodeId, except: Option<&NodeId>) {
        let Some(signed) = self.lsdb.get(origin).cloned() else { return };
        let receivers: Vec<NodeId> = self.up_neighbors().cloned().collect();
        for to in receivers.into_iter().filter(|to| Some(to) != except) {
            self.send(&to, vec![signed.clone()]);
        }
    }

    fn send(&mut self, to: &NodeId, lsas: Vec<SignedLsa>) {
        self.outputs.push_back(RouterOutput::SendLsas { to: to.clone(), lsas });
    }

    fn up_neighbors(&self) -> impl Iterator<Item = &NodeId> {
        self.neighbors.iter().filter(|(_, link)| link.liveness.is_up()).map(|(neighbor, _)| neighbor)
    }

    /// Takes a change of the LSDB into the map, and into the next hops when it is time: after the loss of a neighbor the
    /// alternates serve first, without any way left there is nothing to wait for (a hub needs none).
    fn map_changed(&mut self, now: Now, neighbor_lost: bool) {
        self.map.take();
        self.fib.review_presumptions(&self.me, &self.lsdb);
        if self.next_hops().is_empty() && !self.config.hubs.contains(&self.me) {
            self.run_spf(now);
        } else if neighbor_lost {
            self.fib.schedule.defer(now);
        } else if self.fib.schedule.request(now) {
            self.run_spf(now);
        }
        self.routes_changed = true;
    }

    fn map(&self) -> &Map {
        self.map.get_or_init(|| {
            let mut graph = self.lsdb.graph(&self.config.link_risks);
            graph.add_nodes(self.config.keys.keys().cloned());
            let from_me = ShortestPaths::from(&graph, &self.me);
            Map { graph, from_me }
        })
    }

    fn run_spf(&mut self, now: Now) {
        let hubs = self.serving_hubs();
        let Some(Map { graph, .. }) = self.map.get() else { return };
        self.fib.run_spf(now, graph, &self.me, &hubs);
        self.routes_changed = true;
    }
}
