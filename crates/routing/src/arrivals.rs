//! How often news of one node is taken (the idea of MinLSArrival, RFC 2328 section 13).
//!
//! Each new LSA is passed on to everybody, so a node that speaks without end would keep the whole area busy. What it says
//! beyond its pace is dropped as if it had been lost: when it is quiet again, neighbors compare what they have.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{NodeId, Now, PublicKey};

/// So many may come at once: a main server that starts anew in the middle of a province says something at each of
/// some hundred adjacencies.
const AT_ONCE: u32 = 512;

/// And so often after that: ten times what a node says whose ledger changes all the time.
const INTERVAL: Duration = Duration::from_millis(50);

/// For each node, how many of its words have been taken that time has not made up for, and since when that counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrivals(BTreeMap<NodeId, (u32, Now)>);

impl Arrivals {
    /// News of this node may be taken.
    pub(crate) fn may_come(&mut self, now: Now, origin: &NodeId) -> bool {
        let Some((taken, since)) = self.0.get_mut(origin) else { return true };
        let made_up = u32::try_from(now.since(*since).as_nanos() / INTERVAL.as_nanos()).unwrap_or(u32::MAX);
        if made_up >= *taken {
            self.0.remove(origin);
            return true;
        }
        *taken -= made_up;
        *since = *since + INTERVAL * made_up;
        *taken < AT_ONCE
    }

    /// News of this node was taken.
    pub(crate) fn came(&mut self, now: Now, origin: &NodeId) {
        self.0.entry(origin.clone()).or_insert((0, now)).0 += 1;
    }

    /// By a new topology there are only these nodes.
    pub(crate) fn retain(&mut self, keys: &BTreeMap<NodeId, PublicKey>) {
        self.0.retain(|origin, _| keys.contains_key(origin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pekanbaru::id;

    #[test]
    fn who_speaks_without_end_is_heard_at_a_pace_and_others_as_before() {
        let mut arrivals = Arrivals::default();
        let at = |ms| Now(Duration::from_millis(ms));
        let mut heard = |from: u64, to: u64, origin: &str| {
            let may = |ms: &u64| {
                let may = arrivals.may_come(at(*ms), &id(origin));
                if may {
                    arrivals.came(at(*ms), &id(origin));
                }
                may
            };
            (from..to).filter(may).count()
        };
        let first = heard(0, 1_000, "sukajadi");
        assert!(first.abs_diff(AT_ONCE as usize + 20) <= 1, "{first}");
        assert_eq!(heard(1_000, 11_000, "sukajadi"), 200);
        assert_eq!(heard(11_000, 11_100, "sail"), 100);
        assert_eq!(heard(60_000, 60_500, "sukajadi"), 500, "when it has been quiet");
    }
}
