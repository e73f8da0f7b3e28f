//! Routing for one node: liveness of its neighbors, its own LSA, flooding, the map, next hops.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;
use std::time::Duration;

use estafet_model::{Bearer, LinkCost, LsaVersion, LsdbDigest, Medium, NodeId, Now, PublicKey, SigningKey};

use crate::adjacency::{AdjacencyAction, DownReason, Liveness, NeighborState};
use crate::alternates::{Route, route};
use crate::arrivals::Arrivals;
use crate::comparison::Comparison;
use crate::fib::{Fib, NextHop};
use crate::graph::{Graph, LinkRisks};
use crate::lsa::{HubLedger, OriginLedger};
use crate::lsdb::{Installed, Lsdb};
use crate::neighbor::{BearerState, BearerTerms, Choice, Neighbor, Turn};
use crate::origination::Origination;
use crate::outlook::Outlook;
use crate::output::{RouterOutput, TimerReason};
use crate::quality::{Finding, Gray, LinkSample, USUAL_BYTES};
use crate::signed_lsa::SignedLsa;
use crate::spf::ShortestPaths;
use crate::standing::Standing;
use crate::suspicion::Hurry;

/// What the topology says that concerns routing, from the view of one node.
#[derive(Debug, Clone)]
pub struct RouterConfig {
    /// The links of this node: the nodes at their other ends, each with every bearer to it.
    pub neighbors: BTreeMap<NodeId, BTreeMap<Medium, BearerTerms>>,
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
    /// The version of the topology that says all this. Told to all, so that people see who lags behind.
    pub topology_version: u64,
}

/// What taking a link costs on top, while it is gray or its neighbor flaps: more than any path of good links, less than
/// one through a draining node, and few enough that the sum does not saturate. Everybody shares the map that has it.
pub const SHUNNED_COST: LinkCost = LinkCost(1 << 18);

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
    neighbors: BTreeMap<NodeId, Neighbor>,
    own: Origination,
    lsdb: Lsdb,
    arrivals: Arrivals,
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
            neighbors: BTreeMap::new(),
            own: Origination::new(me.clone(), &config),
            lsdb: Lsdb::new(),
            arrivals: Arrivals::default(),
            map: OnceLock::new(),
            fib: Fib::new(),
            outputs: VecDeque::new(),
            routes_changed: false,
            me,
            config,
        };
        router.configure_neighbors();
        let first = router.own.originate(Now::default(), std::iter::empty());
        router.lsdb.install_own(first);
        router
    }

    /// A session was established.
    pub fn session_up(&mut self, now: Now, bearer: &Bearer) {
        self.with_bearer(now, bearer, |liveness| liveness.session_up(now));
    }

    /// A session ended.
    pub fn session_down(&mut self, now: Now, bearer: &Bearer) {
        self.with_bearer(now, bearer, Liveness::session_down);
    }

    /// The neighbor's transport has acknowledged something over a bearer.
    pub fn acknowledged(&mut self, now: Now, bearer: &Bearer) {
        self.with_bearer(now, bearer, |liveness| liveness.acknowledged(now));
        self.believed_in(now, bearer);
    }

    /// A heartbeat came over a bearer; `busy` says that the neighbor is busy with this node, `lsdb` what its LSDB comes to.
    pub fn heartbeat(&mut self, now: Now, bearer: &Bearer, busy: bool, lsdb: Option<LsdbDigest>) {
        self.with_bearer(now, bearer, |liveness| liveness.heartbeat(now, busy));
        let Some(link) = self.neighbors.get_mut(&bearer.neighbor).filter(|link| link.is_up()) else { return };
        if lsdb.is_some_and(|theirs| link.comparison.differs_for_long(now, theirs == self.lsdb.digest())) {
            self.outputs.push_back(RouterOutput::SendSummary { to: bearer.neighbor.clone() });
        }
    }

    /// More than a heartbeat came over a bearer: it is one that the neighbor believes in.
    pub fn spoken_to(&mut self, now: Now, bearer: &Bearer) {
        self.with_bearer(now, bearer, |liveness| liveness.heard(now));
        self.believed_in(now, bearer);
    }

    /// The neighbor hears this node over a bearer. Its acknowledgements show it as well as its words: when both have left the
    /// bearer, neither would be the first to speak.
    fn believed_in(&mut self, now: Now, bearer: &Bearer) {
        if self.neighbors.get_mut(&bearer.neighbor).is_some_and(|link| link.set_doubted(bearer.medium, false)) {
            self.review(now, &bearer.neighbor, None);
        }
    }

    /// A neighbor has left this bearer, because it does not hear this node over it.
    pub fn doubted(&mut self, now: Now, bearer: &Bearer) {
        let Some(link) = self.neighbors.get_mut(&bearer.neighbor).filter(|link| link.is_up()) else { return };
        link.set_doubted(bearer.medium, true);
        self.review(now, &bearer.neighbor, None);
        // Whatever this node has said over it: the answers may be lost as well, and they were given after it had left.
        self.outputs.push_back(RouterOutput::SayAgain { to: bearer.neighbor.clone(), doubt: None });
        self.outputs.push_back(RouterOutput::SendSummary { to: bearer.neighbor.clone() });
    }

    /// Something was handed over by this bearer, or an answer is still owed: a death is to be noticed soon.
    pub fn busy(&mut self, now: Now, bearer: &Bearer) {
        if let Some(link) = self.neighbors.get_mut(&bearer.neighbor).and_then(|link| link.bearer(bearer.medium)) {
            link.liveness.busy(now);
        }
    }

    /// A network device of this machine has lost its carrier. Those who are spoken to through it are suspect at once; if
    /// nobody knows who they are, all are asked whether they are there.
    pub fn carrier_lost(&mut self, now: Now, cut_off: Option<&[Bearer]>) {
        let Some(cut_off) = cut_off else {
            return self.neighbors.values_mut().for_each(|link| link.ask_at_once(now));
        };
        for bearer in cut_off {
            if let Some(link) = self.neighbors.get_mut(&bearer.neighbor).and_then(|link| link.bearer(bearer.medium)) {
                link.liveness.ask_at_once(now, Hurry::CutOff);
            }
        }
    }

    /// A neighbor said over this bearer that it goes.
    pub fn goodbye(&mut self, now: Now, bearer: &Bearer) {
        self.with_bearer(now, bearer, Liveness::goodbye);
    }

    /// A neighbor sent an LSA, its own or somebody's.
    pub fn lsa_received(&mut self, now: Now, from: &NodeId, signed: SignedLsa) {
        let origin = signed.lsa().origin.clone();
        let Some(key) = self.config.keys.get(&origin).filter(|_| self.neighbors.contains_key(from)) else { return };
        if origin == self.me
            && let Some(sequence) = self.lsdb.own_sequence_behind(&signed, key)
        {
            self.own.jump_above(sequence);
            return self.originate(now);
        }
        // Before its signature is looked at, which costs more than all the rest.
        if self.lsdb.is_news(&signed) && !self.arrivals.may_come(now, &origin) {
            return;
        }
        match self.lsdb.install(signed, key) {
            Installed::Newer { changed_topology } => {
                self.arrivals.came(now, &origin);
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
    pub fn lsdb_summary_received(&mut self, from: &NodeId, summary: &[LsaVersion]) {
        let lacking: Vec<SignedLsa> = self.lsdb.newer_than(summary).into_iter().cloned().collect();
        if self.neighbors.contains_key(from) && !lacking.is_empty() {
            self.send(from, lacking);
        }
    }

    /// What was measured on a bearer; to be given twice a second. The round-trip time is told with the next LSA and never
    /// the reason for one; that the neighbor's link is gray, or good again, is told at once.
    pub fn measured(&mut self, now: Now, bearer: &Bearer, sample: LinkSample) {
        let Some(neighbor) = self.neighbors.get_mut(&bearer.neighbor) else { return };
        let is_face = neighbor.is_face(bearer.medium);
        let Some(link) = neighbor.bearer(bearer.medium).filter(|link| link.liveness.is_up()) else { return };
        let finding = link.measured(now, sample);
        if is_face {
            self.own.set_rtt(bearer.neighbor.clone(), sample.round_trip);
        }
        if let Some(finding) = finding {
            self.found(now, bearer, finding);
        }
    }

    /// A bearer has carried what [`RouterOutput::Try`] asked for in time, or it has not. Not to be said when its session has
    /// ended meanwhile.
    pub fn tried(&mut self, now: Now, bearer: &Bearer, carried: bool) {
        let link = self.neighbors.get_mut(&bearer.neighbor).and_then(|link| link.bearer(bearer.medium));
        if let Some(finding) = link.and_then(|link| link.tried(now, carried)) {
            self.found(now, bearer, finding);
        }
    }

    fn found(&mut self, now: Now, bearer: &Bearer, finding: Finding) {
        let over = bearer.clone();
        self.outputs.push_back(match finding {
            Finding::BecameGray(why) => RouterOutput::LinkGray { bearer: over, why },
            Finding::TrialDue { within } => RouterOutput::Try { over, bytes: USUAL_BYTES, within },
            Finding::BecameGood => RouterOutput::LinkGood(over),
        });
        self.review(now, &bearer.neighbor, None);
    }

    /// Where this node's captures stand. Told soon, at most every [`crate::LEDGER_INTERVAL`].
    pub fn set_ledger(&mut self, ledger: OriginLedger) {
        self.own.set_ledger(ledger);
    }

    /// What this hub has committed. Told soon, at most every [`crate::LEDGER_INTERVAL`].
    pub fn set_hub_ledger(&mut self, ledger: HubLedger) {
        self.own.set_hub_ledger(ledger);
    }

    /// How long this node can go on taking captures. Told like its ledger.
    pub fn set_outlook(&mut self, outlook: Outlook) {
        self.own.set_outlook(outlook);
    }

    /// A topology of this version is on the disk, though it may not be in force yet. Told at once.
    pub fn set_topology_kept(&mut self, now: Now, version: u64) {
        if self.own.set_topology_kept(version) {
            self.originate(now);
        }
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

    /// The bearers that a planned outage darkens, now or soon: they are used only where nothing else leads on.
    pub fn set_planned_dark(&mut self, now: Now, dark: &BTreeSet<Bearer>) {
        let neighbors: Vec<NodeId> = self.neighbors.keys().cloned().collect();
        for neighbor in neighbors {
            let link = self.neighbors.get_mut(&neighbor).expect("its own key");
            if link.set_planned_dark(|medium| dark.contains(&Bearer::new(neighbor.clone(), medium))) {
                self.review(now, &neighbor, None);
            }
        }
    }

    /// The hubs that take records: those that do not drain.
    #[must_use]
    pub fn serving_hubs(&self) -> BTreeSet<NodeId> {
        self.graph().serving(&self.config.hubs)
    }

    /// A new topology. Neighbors that stay keep their sessions; what it no longer vouches for goes.
    pub fn reconfigure(&mut self, now: Now, config: RouterConfig) {
        // Under another key it is another machine, and begins anew with a session of its own.
        let is_replaced = |node: &NodeId| config.keys.get(node) != self.config.keys.get(node);
        let is_gone = |node: &&NodeId| !config.neighbors.contains_key(*node) || is_replaced(node);
        let gone: Vec<NodeId> = self.neighbors.keys().filter(is_gone).cloned().collect();
        self.config = config;
        for neighbor in gone {
            self.fib.neighbor_back(&neighbor);
            if self.neighbors.remove(&neighbor).is_some_and(|link| link.is_up()) {
                self.outputs.push_back(RouterOutput::AdjacencyDown { neighbor, reason: DownReason::Removed });
            }
        }
        self.configure_neighbors();
        self.own.reconfigure(&self.config);
        self.lsdb.retain_verified(&self.config.keys);
        self.arrivals.retain(&self.config.keys);
        let stay: Vec<NodeId> = self.neighbors.keys().cloned().collect();
        stay.iter().for_each(|neighbor| self.review(now, neighbor, Some(DownReason::Removed)));
        self.originate(now);
        self.map_changed(now, false);
    }

    fn configure_neighbors(&mut self) {
        for (neighbor, terms) in &self.config.neighbors {
            self.neighbors.entry(neighbor.clone()).or_default().configure(terms);
        }
    }

    /// Time passed. `owes` says whether a neighbor owes an answer now.
    pub fn handle_timeout(&mut self, now: Now, owes: impl Fn(&NodeId) -> bool) {
        let bearers = self
            .neighbors
            .iter()
            .flat_map(|(neighbor, link)| link.media().map(|medium| Bearer::new(neighbor.clone(), medium)));
        for bearer in bearers.collect::<Vec<_>>() {
            while self.handle_liveness(now, &bearer, &owes) {}
            let link = self.neighbors.get_mut(&bearer.neighbor).and_then(|link| link.bearer(bearer.medium));
            if link.is_some_and(|link| link.damping.handle_timeout(now)) {
                self.review(now, &bearer.neighbor, None);
            }
        }
        if self.own.ledger_due().is_some_and(|due| due <= now) {
            self.originate(now);
        }
        if self.fib.schedule.due().is_some_and(|due| due <= now) {
            self.run_spf(now);
        }
    }

    fn handle_liveness(&mut self, now: Now, bearer: &Bearer, owes: impl Fn(&NodeId) -> bool) -> bool {
        let neighbor = &bearer.neighbor;
        // What is owed is owed over the bearers in use: another one may well be silent.
        let is_used = self.neighbors.get(neighbor).is_some_and(|link| link.uses(bearer.medium));
        self.with_bearer(now, bearer, |liveness| liveness.handle_timeout(now, || is_used && owes(neighbor)))
    }

    /// The next thing to do; nothing when all is done.
    pub fn poll_output(&mut self) -> Option<RouterOutput> {
        let changed = || std::mem::take(&mut self.routes_changed).then_some(RouterOutput::RoutesChanged);
        self.outputs.pop_front().or_else(changed)
    }

    /// When to call [`Router::handle_timeout`] next, and what for. A time that has passed means now.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Now, TimerReason)> {
        let bearers =
            || self.neighbors.iter().flat_map(|(neighbor, link)| link.bearers().map(move |bearer| (neighbor, bearer)));
        let adjacencies = bearers().filter_map(|(neighbor, link)| {
            let (when, timer) = link.liveness.poll_timeout()?;
            Some((when, TimerReason::Adjacency { neighbor: neighbor.clone(), timer }))
        });
        let damped = bearers().filter_map(|(_, link)| Some((link.damping.out_until()?, TimerReason::Damping)));
        let spf = self.fib.schedule.due().map(|when| (when, TimerReason::Spf));
        let ledger = self.own.ledger_due().map(|when| (when, TimerReason::Ledger));
        adjacencies.chain(damped).chain(spf).chain(ledger).min_by_key(|(when, _)| *when)
    }

    /// Where to send toward the nearest hub, best first: the best way, then its alternates, and of these only
    /// neighbors that are up, suspects and gray links behind all others. Empty if there is no way, and at a hub.
    #[must_use]
    pub fn next_hops(&self) -> Vec<NextHop> {
        let mut hops = self.fib.next_hops(|neighbor| self.is_up(neighbor));
        hops.sort_by_key(|hop| self.is_last_choice(&hop.neighbor));
        for hop in &mut hops {
            let is_shunned = self.neighbors.get(&hop.neighbor).is_none_or(Neighbor::is_shunned);
            hop.downhill &= !is_shunned && !self.is_suspect(&hop.neighbor);
        }
        hops
    }

    /// Where to send toward each hub that takes records, the nearest one or not, best first. Nothing where there is only
    /// one hub: then [`Router::next_hops`] says it all.
    #[must_use]
    pub fn hops_to_hubs(&self) -> BTreeMap<NodeId, Vec<NodeId>> {
        if self.config.hubs.len() < 2 {
            return BTreeMap::new();
        }
        let others = self.serving_hubs().into_iter().filter(|hub| *hub != self.me);
        let hops = others.filter_map(|hub| {
            let Route { next_hop, alternates, .. } = self.route_to(&hub)?;
            let alternates = alternates.into_iter().map(|alternate| alternate.next_hop);
            let mut hops: Vec<NodeId> = std::iter::once(next_hop).chain(alternates).collect();
            hops.retain(|neighbor| self.is_up(neighbor));
            hops.sort_by_key(|neighbor| self.is_last_choice(neighbor));
            Some((hub, hops))
        });
        hops.filter(|(_, hops)| !hops.is_empty()).collect()
    }

    fn is_last_choice(&self, neighbor: &NodeId) -> bool {
        self.is_suspect(neighbor) || self.gray(neighbor).is_some()
    }

    /// True if the neighbor is up, and owes an answer suspiciously long over every bearer that might bring it.
    #[must_use]
    pub fn is_suspect(&self, neighbor: &NodeId) -> bool {
        self.neighbors.get(neighbor).is_some_and(Neighbor::is_suspect)
    }

    /// How long a record of 64 KiB seems to take to a neighbor, by that of its bearers which most records go over.
    #[must_use]
    pub fn record_time(&self, neighbor: &NodeId) -> Option<Duration> {
        self.neighbors.get(neighbor).and_then(Neighbor::record_time)
    }

    /// What is wrong with the link to a neighbor, if it is gray: with that of its bearers which most records go over.
    #[must_use]
    pub fn gray(&self, neighbor: &NodeId) -> Option<Gray> {
        self.neighbors.get(neighbor).and_then(Neighbor::gray)
    }

    /// Over which bearers a neighbor is spoken to; nothing if it is not up.
    #[must_use]
    pub fn choice(&self, neighbor: &NodeId) -> Option<Choice> {
        self.neighbors.get(neighbor).and_then(Neighbor::choice)
    }

    /// How every bearer to a neighbor fares.
    pub fn bearers(&self, neighbor: &NodeId) -> impl Iterator<Item = (Medium, BearerState)> {
        self.neighbors.get(neighbor).into_iter().flat_map(Neighbor::bearer_states)
    }

    fn is_up(&self, neighbor: &NodeId) -> bool {
        self.neighbors.get(neighbor).is_some_and(Neighbor::is_up)
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
        self.neighbors.get(neighbor).map(Neighbor::state)
    }

    /// Gives an input to a bearer's liveness and does what it asks for; true if it asked for something.
    fn with_bearer(
        &mut self,
        now: Now,
        bearer: &Bearer,
        input: impl FnOnce(&mut Liveness) -> Option<AdjacencyAction>,
    ) -> bool {
        let link = self.neighbors.get_mut(&bearer.neighbor).and_then(|link| link.bearer(bearer.medium));
        let Some(link) = link else { return false };
        let Some(action) = input(&mut link.liveness) else { return false };
        let mut reason = None;
        match action {
            AdjacencyAction::SendHeartbeat { busy } => {
                let told = self.neighbors.get_mut(&bearer.neighbor).map(|link| link.comparison.is_to_be_told(now));
                let lsdb = told.filter(|told| *told).map(|_| self.lsdb.digest());
                self.outputs.push_back(RouterOutput::SendHeartbeat { over: bearer.clone(), busy, lsdb });
                return true;
            }
            AdjacencyAction::CameUp => link.returned(now),
            AdjacencyAction::BecameSuspect => self.outputs.push_back(RouterOutput::Suspected(bearer.clone())),
            AdjacencyAction::Cleared => self.outputs.push_back(RouterOutput::Cleared(bearer.clone())),
            AdjacencyAction::WentDown(why) => {
                link.session_ended(now);
                if why != DownReason::Goodbye {
                    link.damping.died(now);
                }
                if why == DownReason::Silence {
                    self.outputs.push_back(RouterOutput::GiveUp(bearer.clone()));
                }
                reason = Some(why);
            }
        }
        self.review(now, &bearer.neighbor, reason);
        true
    }

    /// Something about a neighbor's bearers is another now: chooses among them anew, and tells what follows from that.
    /// `reason` is why it is down, should it be.
    fn review(&mut self, now: Now, neighbor: &NodeId, reason: Option<DownReason>) {
        let Some(link) = self.neighbors.get_mut(neighbor) else { return };
        let turn = link.review();
        let left = if let Turn::Changed(left) = turn { Some(left) } else { None };
        let (choice, in_vain) = (link.choice(), link.said_in_vain(left));
        let told_is_old = link.told != link.cost();
        match turn {
            Turn::CameUp => {
                link.comparison = Comparison::default();
                self.fib.neighbor_back(neighbor);
                self.outputs.push_back(RouterOutput::AdjacencyUp(neighbor.clone()));
                self.outputs.push_back(RouterOutput::SendSummary { to: neighbor.clone() });
            }
            Turn::WentDown => {
                self.fib.neighbor_lost(neighbor.clone());
                let reason = reason.unwrap_or(DownReason::SessionLost);
                self.outputs.push_back(RouterOutput::AdjacencyDown { neighbor: neighbor.clone(), reason });
                return self.originate_after_loss(now);
            }
            Turn::Changed(_) => {
                let changed = choice.map(|choice| RouterOutput::BearerChanged { neighbor: neighbor.clone(), choice });
                self.outputs.extend(changed);
                // Also tells the neighbor by which bearer it is spoken to.
                self.outputs.push_back(RouterOutput::SendSummary { to: neighbor.clone() });
            }
            Turn::Stayed => {}
        }
        for (medium, unknown) in in_vain {
            let doubt = unknown.then_some(medium);
            self.outputs.push_back(RouterOutput::SayAgain { to: neighbor.clone(), doubt });
        }
        if told_is_old {
            self.originate(now);
        }
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
        for link in self.neighbors.values_mut() {
            link.told = link.cost();
        }
        let up = self.neighbors.iter().filter_map(|(node, link)| Some((node, link.told?)));
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
        self.neighbors.iter().filter(|(_, link)| link.is_up()).map(|(neighbor, _)| neighbor)
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
