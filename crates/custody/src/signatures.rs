//! Which hubs have signed for the records of one origin's epoch.

use estafet_model::{NodeId, Seq, SeqRanges};

/// Per hub of the area, what it has signed for.
#[derive(Debug)]
pub(crate) struct Signatures {
    by_hub: Vec<(NodeId, SeqRanges)>,
    /// What as many hubs have signed for as the topology demands.
    enough: SeqRanges,
}

impl Signatures {
    /// Of all hubs; so many of them are to have a record before its origin lets it go.
    pub(crate) fn new(by_hub: Vec<(NodeId, SeqRanges)>, copies: usize) -> Self {
        let enough = signed_by(&by_hub, copies);
        Self { by_hub, enough }
    }

    pub(crate) fn are_enough(&self, seq: Seq) -> bool {
        self.enough.contains(seq)
    }

    pub(crate) fn has(&self, hub: &NodeId, seq: Seq) -> bool {
        self.by_hub.iter().any(|(signer, signed)| signer == hub && signed.contains(seq))
    }

    pub(crate) fn one_that_has_and_one_that_lacks(&self, seq: Seq) -> Option<(&NodeId, &NodeId)> {
        let find = |has: bool| self.by_hub.iter().find(|(_, signed)| signed.contains(seq) == has).map(|(hub, _)| hub);
        find(true).zip(find(false))
    }
}

/// What at least so many of the hubs have signed for.
fn signed_by(by_hub: &[(NodeId, SeqRanges)], copies: usize) -> SeqRanges {
    // By at least one hub of those looked at, by at least two, and so on.
    let mut levels = vec![SeqRanges::new(); copies.clamp(1, by_hub.len().max(1))];
    for (_, signed) in by_hub {
        for level in (1..levels.len()).rev() {
            let below = &levels[level - 1];
            let both = below.minus(&below.minus(signed));
            levels[level] = levels[level].union(&both);
        }
        levels[0] = levels[0].union(signed);
    }
    levels.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_counted_by_hubs() {
        let ranges = |seqs: &[u32]| -> SeqRanges { seqs.iter().filter_map(|seq| Seq::new(*seq)).collect() };
        let hub = |name: &str, seqs: &[u32]| (name.parse().unwrap(), ranges(seqs));
        let hubs = || vec![hub("a", &[1, 2, 3]), hub("b", &[2, 3, 4]), hub("c", &[3])];
        for (copies, enough) in [(1, &[1, 2, 3, 4][..]), (2, &[2, 3]), (3, &[3]), (9, &[3])] {
            assert_eq!(Signatures::new(hubs(), copies).enough, ranges(enough), "{copies}");
        }
        let two = Signatures::new(hubs(), 2);
        let seq = |number| Seq::new(number).unwrap();
        let names = two.one_that_has_and_one_that_lacks(seq(4)).map(|(has, lacks)| (has.as_str(), lacks.as_str()));
        assert_eq!(names, Some(("b", "a")));
        assert_eq!(two.one_that_has_and_one_that_lacks(seq(3)), None);
        assert!(two.has(&"a".parse().unwrap(), seq(1)) && !two.has(&"c".parse().unwrap(), seq(1)));
        assert_eq!(Signatures::new(Vec::new(), 2).enough, SeqRanges::new());
    }
}
