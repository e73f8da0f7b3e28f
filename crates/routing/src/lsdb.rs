//! The link-state database: the newest LSA of each origin, and what to do with one that arrives.
//!
//! It holds at most one LSA for each origin whose key the caller has, so the topology bounds it. LSAs do not age
//! out: office clocks cannot be trusted to expire anything (P8), a dead node's edges vanish because its neighbors
//! stop listing it, and its last ledger is worth keeping.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use estafet_model::{LsaVersion, LsdbDigest, NodeId, PublicKey};

use crate::graph::{Graph, Index, LinkRisks};
use crate::signed_lsa::SignedLsa;

/// Which LSAs a database has.
pub type Summary = Vec<LsaVersion>;

/// What became of an LSA that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// It is news: flood it.
    Newer {
        /// True if paths may differ with it.
        changed_topology: bool,
    },
    /// It was there.
    Same,
    /// The sender is behind: send it this one.
    Older(SignedLsa),
    /// Not signed by the origin's key. Nothing changed.
    Forged,
}

/// The newest LSA of each origin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lsdb {
    lsas: BTreeMap<NodeId, SignedLsa>,
    digest: LsdbDigest,
}

impl Lsdb {
    /// A database that knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True if an LSA would be newer than what is there, were it verified.
    pub(crate) fn is_news(&self, signed: &SignedLsa) -> bool {
        self.lsas.get(&signed.lsa().origin).is_none_or(|known| age(signed, known) == Ordering::Greater)
    }

    /// Takes an LSA in, if it is newer than what is there and `key`, the origin's by the topology, verifies it.
    ///
    /// The higher sequence number is newer (RFC 2328 section 13.1). Two LSAs with one number can only come from an
    /// origin that lost count in a restart; every node then prefers the one with the greater bytes, so that all
    /// agree until the origin has jumped above both. The signature is checked only when it decides something.
    pub fn install(&mut self, signed: SignedLsa, key: &PublicKey) -> Installed {
        let known = self.lsas.get(&signed.lsa().origin);
        match known.map_or(Ordering::Greater, |known| age(&signed, known)) {
            Ordering::Less => Installed::Older(known.expect("only a known LSA is newer").clone()),
            Ordering::Equal => Installed::Same,
            Ordering::Greater if signed.verify(key).is_err() => Installed::Forged,
            Ordering::Greater => {
                let changed_topology = known.is_none_or(|known| known.lsa().differs_in_topology(signed.lsa()));
                self.put(signed);
                Installed::Newer { changed_topology }
            }
        }
    }

    /// Puts in what this node says about itself; true if paths may differ with it.
    pub(crate) fn install_own(&mut self, signed: SignedLsa) -> bool {
        let before = self.lsas.get(&signed.lsa().origin);
        let changed_topology = before.is_none_or(|before| before.lsa().differs_in_topology(signed.lsa()));
        self.put(signed);
        changed_topology
    }

    fn put(&mut self, signed: SignedLsa) {
        self.digest = self.digest.toggled(signed.body());
        if let Some(before) = self.lsas.insert(signed.lsa().origin.clone(), signed) {
            self.digest = self.digest.toggled(before.body());
        }
    }

    /// If `returned` is a word of its origin from an earlier life, the sequence number that the origin must jump
    /// above (RFC 2328 section 13.4).
    ///
    /// To be asked by the origin itself about an LSA of its own that a neighbor sent it. A node that restarted
    /// counts from the beginning, while the area still holds what it said before and would ignore anything lower.
    /// An LSA that does not verify is nobody's word, and asks for no jump.
    #[must_use]
    pub fn own_sequence_behind(&self, returned: &SignedLsa, key: &PublicKey) -> Option<u64> {
        let current = self.lsas.get(&returned.lsa().origin);
        let ahead = current.is_none_or(|current| {
            let (theirs, ours) = (returned.lsa().sequence, current.lsa().sequence);
            theirs > ours || (theirs == ours && returned.body() != current.body())
        });
        (ahead && returned.verify(key).is_ok()).then(|| returned.lsa().sequence)
    }

    /// The newest LSA of `origin`.
    #[must_use]
    pub fn get(&self, origin: &NodeId) -> Option<&SignedLsa> {
        self.lsas.get(origin)
    }

    /// All LSAs, sorted by origin.
    pub fn iter(&self) -> impl Iterator<Item = &SignedLsa> {
        self.lsas.values()
    }

    /// What this database knows, for a neighbor to compare.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.lsas.values().map(SignedLsa::version).collect()
    }

    /// What this database comes to, for a neighbor to compare often.
    #[must_use]
    pub fn digest(&self) -> LsdbDigest {
        self.digest
    }

    /// The LSAs that a neighbor with this summary lacks or has an older form of, and those of which it has another with
    /// the same number: it finds out which of the two stays.
    #[must_use]
    pub fn newer_than(&self, summary: &[LsaVersion]) -> Vec<&SignedLsa> {
        let theirs: BTreeMap<&NodeId, &LsaVersion> = summary.iter().map(|version| (&version.origin, version)).collect();
        let lacks = |signed: &&SignedLsa| {
            let ours = signed.version();
            theirs.get(&ours.origin).is_none_or(|theirs| {
                theirs.sequence < ours.sequence
                    || (theirs.sequence == ours.sequence && theirs.checksum != ours.checksum)
            })
        };
        self.lsas.values().filter(lacks).collect()
    }

    /// Drops the LSAs that a new topology no longer vouches for: origins without a key, or with another one.
    pub fn retain_verified(&mut self, keys: &BTreeMap<NodeId, PublicKey>) {
        self.lsas.retain(|origin, signed| keys.get(origin).is_some_and(|key| signed.verify(key).is_ok()));
        self.digest = self.lsas.values().fold(LsdbDigest::default(), |digest, signed| digest.toggled(signed.body()));
    }

    /// The map: every origin is a node, and an edge counts only if both ends list each other (RFC 2328 section
    /// 16.1, step 2b) and the topology lists the link. Its cost is what the sending end says, and at least what the topology
    /// says; its risks are what the topology says.
    #[must_use]
    pub fn graph(&self, links: &LinkRisks) -> Graph {
        let mut graph = Graph::new();
        graph.add_nodes(self.lsas.keys().cloned());
        // The graph has the same nodes in the same order: the index of a node is the place of its LSA.
        let index = |node: &NodeId| graph.index(node);
        let listed: Vec<Vec<Option<Index>>> = self
            .lsas
            .values()
            .map(|signed| signed.lsa().adjacencies.iter().map(|adjacency| index(&adjacency.neighbor)).collect())
            .collect();
        let known: Vec<Vec<Index>> = listed.iter().map(|listed| listed.iter().copied().flatten().collect()).collect();
        for (((origin, signed), listed), from) in self.lsas.iter().zip(&listed).zip(0..) {
            if signed.lsa().standing.is_draining() {
                graph.drain(origin.clone());
            }
            if signed.lsa().standing.is_on_battery() {
                graph.set_on_battery(origin.clone());
            }
            for (adjacency, to) in signed.lsa().adjacencies.iter().zip(listed) {
                // Adjacencies are sorted by neighbor in every LSA, and so are their indices.
                if let Some(to) = to.filter(|to| known[*to as usize].binary_search(&from).is_ok())
                    && let Some(edge) = links.edge(origin, &adjacency.neighbor, adjacency.cost)
                {
                    graph.join(from, to, edge);
                }
            }
        }
        graph
    }
}

/// Greater if `left` is newer than `right`.
fn age(left: &SignedLsa, right: &SignedLsa) -> Ordering {
    left.lsa().sequence.cmp(&right.lsa().sequence).then_with(|| left.body().cmp(right.body()))
}

#[cfg(test)]
mod tests {
    use estafet_model::{LinkCost, SigningKey};

    use super::*;
    use crate::lsa::{Adjacency, Lsa, TopologyVersions};
    use crate::pekanbaru::id;
    use crate::standing::Standing;

    fn key() -> SigningKey {
        SigningKey::from_seed([1; 32])
    }

    fn lsa(origin: &str, sequence: u64, neighbors: &[(&str, u32)]) -> SignedLsa {
        let adjacencies = neighbors.iter().map(|(neighbor, cost)| Adjacency {
            neighbor: id(neighbor),
            cost: LinkCost(*cost),
            rtt_micros: 0,
        });
        let (adjacencies, standing) = (adjacencies.collect(), Standing::default());
        let lsa = Lsa {
            origin: id(origin),
            sequence,
            adjacencies,
            standing,
            durable: true,
            topology: TopologyVersions::default(),
            ledger: None,
            hub: None,
            outlook: None,
        };
        SignedLsa::sign(lsa, &key())
    }

    #[test]
    fn newer_replaces_same_and_older_do_not() {
        let mut lsdb = Lsdb::new();
        let rows = [
            (lsa("a", 3, &[("b", 1)]), Installed::Newer { changed_topology: true }),
            (lsa("a", 3, &[("b", 1)]), Installed::Same),
            (lsa("a", 2, &[]), Installed::Older(lsa("a", 3, &[("b", 1)]))),
            (lsa("a", 4, &[("b", 1)]), Installed::Newer { changed_topology: false }),
            (lsa("a", 5, &[("b", 2)]), Installed::Newer { changed_topology: true }),
        ];
        for (signed, expected) in rows {
            assert_eq!(lsdb.install(signed, &key().public()), expected);
        }
    }

    #[test]
    fn a_forged_lsa_changes_nothing() {
        let mut lsdb = Lsdb::new();
        let other = SigningKey::from_seed([2; 32]).public();
        assert_eq!(lsdb.install(lsa("a", 3, &[]), &other), Installed::Forged);
        assert_eq!(lsdb, Lsdb::new());
    }

    #[test]
    fn of_two_lives_with_one_number_all_nodes_prefer_the_same() {
        let (one, two) = (lsa("a", 3, &[("b", 1)]), lsa("a", 3, &[("c", 1)]));
        let after = |first: &SignedLsa, second: &SignedLsa| {
            let mut lsdb = Lsdb::new();
            lsdb.install(first.clone(), &key().public());
            lsdb.install(second.clone(), &key().public());
            lsdb
        };
        assert_eq!(after(&one, &two), after(&two, &one));
    }

    #[test]
    fn an_earlier_life_asks_for_a_jump_and_a_forgery_does_not() {
        let mut lsdb = Lsdb::new();
        lsdb.install_own(lsa("a", 3, &[("b", 1)]));
        let public = key().public();
        assert_eq!(lsdb.own_sequence_behind(&lsa("a", 9, &[]), &public), Some(9));
        assert_eq!(lsdb.own_sequence_behind(&lsa("a", 3, &[]), &public), Some(3));
        assert_eq!(lsdb.own_sequence_behind(&lsa("a", 3, &[("b", 1)]), &public), None);
        assert_eq!(lsdb.own_sequence_behind(&lsa("a", 2, &[]), &public), None);
        assert_eq!(lsdb.own_sequence_behind(&lsa("a", 9, &[]), &SigningKey::from_seed([2; 32]).public()), None);
    }

    #[test]
    fn two_databases_learn_from_each_others_summaries() {
        let mut left = Lsdb::new();
        let mut right = Lsdb::new();
        left.install(lsa("a", 3, &[]), &key().public());
        left.install(lsa("b", 1, &[]), &key().public());
        right.install(lsa("b", 2, &[]), &key().public());
        right.install(lsa("c", 1, &[]), &key().public());
        let to_right: Vec<_> = left.newer_than(&right.summary()).into_iter().cloned().collect();
        let to_left: Vec<_> = right.newer_than(&left.summary()).into_iter().cloned().collect();
        assert_eq!((to_right.len(), to_left.len()), (1, 2));
        to_right.into_iter().for_each(|signed| drop(right.install(signed, &key().public())));
        to_left.into_iter().for_each(|signed| drop(left.install(signed, &key().public())));
        assert_eq!(left, right);
        assert!(left.newer_than(&right.summary()).is_empty());
    }

    #[test]
    fn databases_have_one_digest_if_they_are_the_same_however_they_came_about() {
        let after = |lsas: &[SignedLsa]| {
            let mut lsdb = Lsdb::new();
            lsas.iter().for_each(|signed| drop(lsdb.install(signed.clone(), &key().public())));
            lsdb
        };
        let [old, new, other, twin] =
            [lsa("a", 1, &[]), lsa("a", 2, &[("b", 1)]), lsa("b", 1, &[]), lsa("a", 2, &[("b", 2)])];
        let whole = after(&[new.clone(), other.clone()]);
        assert_eq!(after(&[other.clone(), old.clone(), new.clone()]).digest(), whole.digest());
        for different in [vec![], vec![new], vec![other.clone()], vec![old, other.clone()], vec![twin, other]] {
            assert_ne!(after(&different).digest(), whole.digest(), "{different:?}");
        }
        let mut smaller = whole.clone();
        smaller.retain_verified(&BTreeMap::from([(id("b"), key().public())]));
        assert_eq!(smaller.digest(), after(&[lsa("b", 1, &[])]).digest());
    }

    #[test]
    fn two_lives_with_one_number_show_in_the_summary() {
        let [mut left, mut right] = [(); 2].map(|()| Lsdb::new());
        left.install(lsa("a", 3, &[("b", 1)]), &key().public());
        right.install(lsa("a", 3, &[("c", 1)]), &key().public());
        assert_eq!(left.newer_than(&right.summary()).len(), 1);
        assert!(left.newer_than(&left.summary()).is_empty());
    }

    #[test]
    fn an_edge_counts_only_if_both_ends_list_it() {
        let mut lsdb = Lsdb::new();
        for signed in [lsa("a", 1, &[("b", 10), ("c", 10)]), lsa("b", 1, &[("a", 30)]), lsa("c", 1, &[])] {
            lsdb.install(signed, &key().public());
        }
        let graph = lsdb.graph(&LinkRisks::new());
        let steps: Vec<_> = graph.steps().map(|(from, to, cost)| (from.as_str(), to.as_str(), cost.0)).collect();
        assert_eq!(steps, [("a", "b", 10), ("b", "a", 30)]);
        assert!(graph.contains(&id("c")));
    }

    #[test]
    fn nobody_is_believed_a_link_that_is_not_listed_or_one_that_is_cheaper_than_listed() {
        let mut lsdb = Lsdb::new();
        for signed in [lsa("a", 1, &[("b", 1), ("c", 1)]), lsa("b", 1, &[("a", 30)]), lsa("c", 1, &[("a", 1)])] {
            lsdb.install(signed, &key().public());
        }
        let mut links = LinkRisks::new();
        links.insert(&id("b"), &id("a"), LinkCost(12), ["fiber".to_owned()]);
        links.insert(&id("a"), &id("b"), LinkCost(10), []);
        let graph = lsdb.graph(&links);
        let steps: Vec<_> = graph.steps().map(|(from, to, cost)| (from.as_str(), to.as_str(), cost.0)).collect();
        assert_eq!(steps, [("a", "b", 10), ("b", "a", 30)]);
    }

    #[test]
    fn a_new_topology_drops_whom_it_no_longer_vouches_for() {
        let mut lsdb = Lsdb::new();
        for origin in ["a", "b", "c"] {
            lsdb.install(lsa(origin, 1, &[]), &key().public());
        }
        let other = SigningKey::from_seed([2; 32]).public();
        lsdb.retain_verified(&BTreeMap::from([(id("a"), key().public()), (id("b"), other)]));
        let left: Vec<NodeId> = lsdb.summary().into_iter().map(|version| version.origin).collect();
        assert_eq!(left, [id("a")]);
    }
}
