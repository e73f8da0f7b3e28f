//! The installed way to the nearest hub, and how it outlives the loss of a neighbor.
//!
//! When a neighbor is lost its entry goes at once, and the alternates that were computed beforehand serve until
//! SPF has run again. Whether the neighbor died or only the link to it is not known at that moment. Death is
//! presumed: a path around a node that lives costs a little, a path through a dead one costs records their time.
//! The neighbor itself disproves it: a node that lives notices the loss too, and its next LSA no longer lists us.

use std::collections::BTreeSet;

use estafet_model::{LinkCost, NodeId, Now};

use crate::alternates::{Protects, Route, routes_to_nearest};
use crate::backoff::SpfSchedule;
use crate::graph::Graph;
use crate::lsdb::Lsdb;

/// A neighbor to send to, toward the nearest hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// The neighbor.
    pub neighbor: NodeId,
    /// What the whole way costs.
    pub cost: LinkCost,
    /// Nothing for the best way; for an alternate, what it protects against.
    pub protects: Option<Protects>,
    /// It is nearer to a hub than this node, and nothing is held against it or the link to it: it may take what the best
    /// way has no room for.
    pub downhill: bool,
}

/// The installed route and the rules that change it.
#[derive(Debug, Clone)]
pub(crate) struct Fib {
    route: Option<Route>,
    presumed_dead: BTreeSet<NodeId>,
    pub(crate) schedule: SpfSchedule,
}

impl Fib {
    pub(crate) fn new() -> Self {
        Self { route: None, presumed_dead: BTreeSet::new(), schedule: SpfSchedule::new() }
    }

    /// The installed next hops that are up, best first.
    pub(crate) fn next_hops(&self, is_up: impl Fn(&NodeId) -> bool) -> Vec<NextHop> {
        let Some(route) = &self.route else { return Vec::new() };
        let best = NextHop { neighbor: route.next_hop.clone(), cost: route.cost, protects: None, downhill: true };
        let alternates = route.alternates.iter().map(|alternate| NextHop {
            neighbor: alternate.next_hop.clone(),
            cost: alternate.cost,
            protects: Some(alternate.protects),
            downhill: alternate.downhill,
        });
        std::iter::once(best).chain(alternates).filter(|hop| is_up(&hop.neighbor)).collect()
    }

    pub(crate) fn neighbor_lost(&mut self, neighbor: NodeId) {
        self.presumed_dead.insert(neighbor);
    }

    /// There is nothing to presume about it any more: it is up, or no neighbor.
    pub(crate) fn neighbor_back(&mut self, neighbor: &NodeId) {
        self.presumed_dead.remove(neighbor);
    }

    /// Drops the presumption of death where the neighbor's own word disproves it.
    pub(crate) fn review_presumptions(&mut self, me: &NodeId, lsdb: &Lsdb) {
        let still_lists_us = |node: &NodeId| lsdb.get(node).is_some_and(|signed| signed.lsa().adjacency(me).is_some());
        self.presumed_dead.retain(still_lists_us);
    }

    /// Runs SPF and installs what it finds.
    pub(crate) fn run_spf(&mut self, now: Now, graph: &Graph, me: &NodeId, hubs: &BTreeSet<NodeId>) {
        self.route = self.around_the_dead(graph, |graph| routes_to_nearest(graph, me, hubs));
        self.schedule.ran(now);
    }

    /// What `find` finds without the presumed dead, or with them if that is nothing: then there is nothing to lose.
    pub(crate) fn around_the_dead<T>(&self, graph: &Graph, find: impl Fn(&Graph) -> Option<T>) -> Option<T> {
        if self.presumed_dead.is_empty() {
            return find(graph);
        }
        find(&graph.without(&self.presumed_dead)).or_else(|| find(graph))
    }
}
