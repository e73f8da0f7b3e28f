//! How far the neighbors' wall clocks are from this node's, as their heartbeats say. No promise hangs on any clock; people
//! who read times do.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_model::{NodeId, UnixMillis};
use tracing::{info, warn};

/// A difference from which on people are told. Nobody misreads a smaller one.
const TOLD_FROM: Duration = Duration::from_secs(60);

/// The differences that were last heard.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    skews_ms: BTreeMap<NodeId, i64>,
}

impl Clocks {
    /// The neighbor's clock said `theirs` half a `round_trip` ago; this node's says `ours`.
    pub(crate) fn heard(&mut self, neighbor: &NodeId, theirs: UnixMillis, ours: UnixMillis, round_trip: Duration) {
        let on_the_way = i64::try_from(round_trip.as_millis() / 2).unwrap_or(i64::MAX);
        let [theirs, ours] = [theirs, ours].map(|clock| i64::try_from(clock.0).unwrap_or(i64::MAX));
        let skew = theirs.saturating_sub(ours).saturating_add(on_the_way);
        let before = self.skews_ms.insert(neighbor.clone(), skew);
        match (before.is_some_and(is_told), is_told(skew)) {
            (false, true) => warn!(
                %neighbor,
                seconds = skew / 1_000,
                "the neighbor's clock is far from this node's: no record is refused for it, but the times it tells are wrong here"
            ),
            (true, false) => info!(%neighbor, "the neighbor's clock is near this node's again"),
            _ => {}
        }
    }

    /// How far a neighbor's clock is ahead, milliseconds; negative if it is behind, nothing if it was not heard.
    pub(crate) fn skew_ms(&self, neighbor: &NodeId) -> Option<i64> {
        self.skews_ms.get(neighbor).copied()
    }

    /// The largest difference of any neighbor, whole seconds.
    pub(crate) fn largest_skew_seconds(&self) -> u64 {
        self.skews_ms.values().map(|skew| skew.unsigned_abs() / 1_000).max().unwrap_or_default()
    }
}

fn is_told(skew_ms: i64) -> bool {
    u128::from(skew_ms.unsigned_abs()) >= TOLD_FROM.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_clocks_have_a_difference() {
        let neighbor: NodeId = "rumbai".parse().unwrap();
        let mut clocks = Clocks::default();
        assert_eq!((clocks.skew_ms(&neighbor), clocks.largest_skew_seconds()), (None, 0));
        for (theirs, ours, expected) in [
            (1_000, 1_000, 20),
            (90_000_000, 1_000, 89_999_020),
            (0, 90_000_000, -89_999_980),
            (u64::MAX, 0, i64::MAX),
            (0, u64::MAX, -i64::MAX + 20),
        ] {
            clocks.heard(&neighbor, UnixMillis(theirs), UnixMillis(ours), Duration::from_millis(40));
            assert_eq!(clocks.skew_ms(&neighbor), Some(expected));
            assert_eq!(clocks.largest_skew_seconds(), expected.unsigned_abs() / 1_000);
        }
    }
}
