//! Routing for one node: liveness of its neighbors, its own LSA, flooding, the map, next hops.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use estafet_model::{LinkCost, NodeId, Now, PublicKey, SigningKey};

use crate::adjacency::{AdjacencyAction, DownReason, Liveness, NeighborState};
use crate::alternates::{Route, route};
use crate::fib::{Fib, NextHop};
use crate::graph::{Graph, LinkRisks};
use crate::lsa::{HubLedger, OriginLedger};
use crate::lsdb::{Installed, Lsdb};
use crate::origination::Origination;
use crate::output::{RouterOutput, TimerReason};
use crate::signed_lsa::SignedLsa;
use crate::spf::ShortestPaths;
use crate::standing::Standing;

/// How often up neighbors compare summaries although nothing happened. Flooding over a session loses nothing, but a
/// driver may drop from a full queue; this bounds how long such a loss can last.
pub const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

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
    neighbors: BTreeMap<NodeId, Liveness>,
    own: Origination,
    lsdb: Lsdb,
    graph: Graph,
    from_me: ShortestPaths,
    fib: Fib,
    summary_due: Now,
    outputs: VecDeque<RouterOutput>,
    routes_changed: bool,
}

impl Router {
    /// A router without sessions. Its LSDB holds its own LSA, without adjacencies.
    #[must_use]
    pub fn new(me: NodeId, config: RouterConfig) -> Self {
        let graph = Graph::new();
        let mut router = Self {
            neighbors: config.neighbors.keys().map(|neighbor| (neighbor.clone(), Liveness::new())).collect(),
            own: Origination::new(me.clone(), config.signing_key.clone(), config.first_sequence, config.durable),
            lsdb: Lsdb::new(),
            from_me: ShortestPaths::from(&graph, &me),
            graph,
            fib: Fib::new(),
            summary_due: Now::default() + SUMMARY_INTERVAL,
            outputs: VecDeque::new(),
            routes_changed: false,
            me,
            config,
        };
        let first = router.own.originate(Now::default(), std::iter::empty());
        router.lsdb.install_own(first);
        router.rebuild_map();
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

    /// Any frame came from a neighbor.
    pub fn heard(&mut self, now: Now, neighbor: &NodeId) {
        self.with_neighbor(now, neighbor, |liveness| liveness.heard(now));
    }

    /// A heartbeat came from a neighbor; `busy` says that it is busy with this node.
    pub fn heartbeat(&mut self, now: Now, neighbor: &NodeId, busy: bool) {
        self.with_neighbor(now, neighbor, |liveness| liveness.heartbeat(now, busy));
    }

    /// A neighbor was handed something, or still owes an answer: its death is to be noticed soon.
    pub fn busy(&mut self, now: Now, neighbor: &NodeId) {
        if let Some(liveness) = self.neighbors.get_mut(neighbor) {
            liveness.busy(now);
        }
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
    pub fn lsdb_summary_received(&mut self, now: Now, from: &NodeId, summary: &[(NodeId, u64)]) {
        self.heard(now, from);
        let lacking: Vec<SignedLsa> = self.lsdb.newer_than(summary).into_iter().cloned().collect();
        if self.neighbors.contains_key(from) && !lacking.is_empty() {
            self.send(from, lacking);
        }
    }

    /// The smoothed round-trip time to a neighbor. Told with the next LSA, never the reason for one.
    pub fn set_rtt(&mut self, neighbor: &NodeId, rtt: Duration) {
        if self.neighbors.contains_key(neighbor) {
            self.own.set_rtt(neighbor.clone(), rtt);
        }
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
        self.graph.serving(&self.config.hubs)
    }

    /// A new topology. Neighbors that stay keep their sessions; what it no longer vouches for goes.
    pub fn reconfigure(&mut self, now: Now, config: RouterConfig) {
        self.config = config;
        let gone: Vec<NodeId> =
            self.neighbors.keys().filter(|node| !self.config.neighbors.contains_key(*node)).cloned().collect();
        for neighbor in gone {
            self.fib.neighbor_back(&neighbor);
            if self.neighbors.remove(&neighbor).is_some_and(|liveness| liveness.is_up()) {
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

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let neighbors: Vec<NodeId> = self.neighbors.keys().cloned().collect();
        for neighbor in neighbors {
            while self.with_neighbor(now, &neighbor, |liveness| liveness.handle_timeout(now)) {}
        }
        if self.own.ledger_due().is_some_and(|due| due <= now) {
            self.originate(now);
        }
        if self.fib.schedule.due().is_some_and(|due| due <= now) {
            self.run_spf(now);
        }
        if self.summary_due <= now {
            self.summary_due = now + SUMMARY_INTERVAL;
            let summaries = self.up_neighbors().map(|(to, _)| RouterOutput::SendSummary { to: to.clone() });
            let summaries: Vec<_> = summaries.collect();
            self.outputs.extend(summaries);
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
        let adjacencies = self.neighbors.iter().filter_map(|(neighbor, liveness)| {
            let (when, timer) = liveness.poll_timeout()?;
            Some((when, TimerReason::Adjacency { neighbor: neighbor.clone(), timer }))
        });
        let spf = self.fib.schedule.due().map(|when| (when, TimerReason::Spf));
        let ledger = self.own.ledger_due().map(|when| (when, TimerReason::Ledger));
        let summary = Some((self.summary_due, TimerReason::Summary));
        adjacencies.chain(spf).chain(ledger).chain(summary).min_by_key(|(when, _)| *when)
    }

    /// Where to send toward the nearest hub, best first: the best way, then its alternates, and of these only
    /// neighbors that are up. Empty if there is no way, and at a hub.
    #[must_use]
    pub fn next_hops(&self) -> Vec<NextHop> {
        self.fib.next_hops(|neighbor| self.neighbors.get(neighbor).is_some_and(Liveness::is_up))
    }

    /// The route from this node to any other, over neighbors that are up, around neighbors that may have died.
    #[must_use]
    pub fn route_to(&self, destination: &NodeId) -> Option<Route> {
        self.fib.around_the_dead(&self.graph, |graph| route(graph, &self.me, destination))
    }

    /// The route that another node has by this node's map.
    #[must_use]
    pub fn route_from(&self, source: &NodeId, destination: &NodeId) -> Option<Route> {
        route(&self.graph, source, destination)
    }

    /// The map: every node of the topology, and the edges that both ends vouch for.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What every node last said.
    #[must_use]
    pub fn lsdb(&self) -> &Lsdb {
        &self.lsdb
    }

    /// True if there is a way from this node to `node` by the map.
    #[must_use]
    pub fn reachable(&self, node: &NodeId) -> bool {
        self.from_me.cost(node).is_some()
    }

    /// Whether a neighbor is alive; nothing if it is none.
    #[must_use]
    pub fn neighbor_state(&self, neighbor: &NodeId) -> Option<NeighborState> {
        self.neighbors.get(neighbor).map(Liveness::state)
    }

    /// Gives an input to a neighbor's liveness and does what it asks for; true if it asked for something.
    fn with_neighbor(
        &mut self,
        now: Now,
        neighbor: &NodeId,
        input: impl FnOnce(&mut Liveness) -> Option<AdjacencyAction>,
    ) -> bool {
        let Some(action) = self.neighbors.get_mut(neighbor).and_then(input) else { return false };
        let neighbor = neighbor.clone();
        match action {
            AdjacencyAction::SendHeartbeat { busy } => {
                self.outputs.push_back(RouterOutput::SendHeartbeat { to: neighbor, busy });
            }
            AdjacencyAction::CameUp => {
                self.fib.neighbor_back(&neighbor);
                self.outputs.push_back(RouterOutput::AdjacencyUp(neighbor.clone()));
                self.outputs.push_back(RouterOutput::SendSummary { to: neighbor });
                self.originate(now);
            }
            AdjacencyAction::WentDown(reason) => {
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
        let up =
            self.config.neighbors.iter().filter(|(node, _)| self.neighbors.get(*node).is_some_and(Liveness::is_up));
        let signed = self.own.originate(now, up.map(|(neighbor, cost)| (neighbor, *cost)));
        let changed_topology = self.lsdb.install_own(signed);
        let me = self.me.clone();
        self.flood(&me, None);
        changed_topology
    }

    /// Sends an origin's LSA to all up neighbors but the one that it came from. Others get it by summary when they
    /// are back.
    fn flood(&mut self, origin: &NodeId, except: Option<&NodeId>) {
        let Some(signed) = self.lsdb.get(origin).cloned() else { return };
        let receivers: Vec<NodeId> = self.up_neighbors().map(|(node, _)| node.clone()).collect();
        for to in receivers.into_iter().filter(|to| Some(to) != except) {
            self.send(&to, vec![signed.clone()]);
        }
    }

    fn send(&mut self, to: &NodeId, lsas: Vec<SignedLsa>) {
        self.outputs.push_back(RouterOutput::SendLsas { to: to.clone(), lsas });
    }

    fn up_neighbors(&self) -> impl Iterator<Item = (&NodeId, &Liveness)> {
        self.neighbors.iter().filter(|(_, liveness)| liveness.is_up())
    }

    /// Takes a change of the LSDB into the map, and into the next hops when it is time: after the loss of a neighbor the
    /// alternates serve first, without any way left there is nothing to wait for.
    fn map_changed(&mut self, now: Now, neighbor_lost: bool) {
        self.rebuild_map();
        if self.next_hops().is_empty() {
            self.run_spf(now);
        } else if neighbor_lost {
            self.fib.schedule.defer(now);
        } else if self.fib.schedule.request(now) {
            self.run_spf(now);
        }
        self.routes_changed = true;
    }

    fn rebuild_map(&mut self) {
        self.graph = self.lsdb.graph(&self.config.link_risks);
        self.config.keys.keys().for_each(|node| self.graph.add_node(node.clone()));
        self.from_me = ShortestPaths::from(&self.graph, &self.me);
        self.fib.review_presumptions(&self.me, &self.lsdb);
    }

    fn run_spf(&mut self, now: Now) {
        self.fib.run_spf(now, &self.graph, &self.me, &self.serving_hubs());
        self.routes_changed = true;
    }
}
