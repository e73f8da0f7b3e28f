//! For how long offices can go on taking records, as a node that answers knows it.

use std::collections::BTreeMap;
use std::time::Duration;

use estafet_admin::v1;
use tokio::time::timeout;

use super::question;
use crate::reach::Reach;

/// Hours until an office's store is full, at the pace of its last day; nothing if it captures nothing.
pub(super) type HoursLeft = Option<u64>;

/// What one node knows of this.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// The node that answered, if one did.
    pub(super) seen_from: Option<String>,
    /// Every office that has said it.
    hours_left: BTreeMap<String, HoursLeft>,
}

impl Rooms {
    /// Asks the first node that answers, and takes silence for an answer.
    pub(super) async fn ask(reach: &Reach) -> Self {
        let network = async {
            let mut node = reach.first().await.ok()?;
            Some(node.client.get_network(question(v1::GetNetworkRequest {})).await.ok()?.into_inner())
        };
        let network = timeout(PATIENCE, network).await.ok().flatten();
        network.map(|network| Self::of(&network)).unwrap_or_default()
    }

    fn of(network: &v1::Network) -> Self {
        let hours_left = network.nodes.iter().filter_map(|node| Some((node.id.clone(), hours_left(node)?)));
        Self { seen_from: Some(network.seen_from.clone()), hours_left: hours_left.collect() }
    }

    /// Hours left for an office, if they are known.
    pub(super) fn hours_left(&self, node: &str) -> Option<HoursLeft> {
        self.hours_left.get(node).copied()
    }
}

/// Nothing if the node has not said so much of itself.
fn hours_left(node: &v1::Node) -> Option<HoursLeft> {
    let (room, pace) = (node.capture_room_bytes?, node.captured_bytes_per_hour?);
    Some(room.checked_div(pace))
}

/// How people read it: `41 h`, `12 d`; `-` where nothing is captured and `?` where it is not known.
pub(super) fn words(hours_left: Option<HoursLeft>) -> String {
    match hours_left {
        None => "?".to_owned(),
        Some(None) => "-".to_owned(),
        Some(Some(0)) => "under 1 h".to_owned(),
        Some(Some(hours @ 1..48)) => format!("{hours} h"),
        Some(Some(hours @ 48..=YEAR_HOURS)) => format!("{} d", hours / 24),
        Some(Some(_)) => "over a year".to_owned(),
    }
}

const YEAR_HOURS: u64 = 365 * 24;

/// For finding a node and for its answer: a handshake over a satellite takes about 1.3 s. Who is in the dark is told the
/// rest all the same, and soon.
const PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_what_is_left_at_the_pace_of_the_last_day() {
        for (room, pace, expected) in [
            (Some(0), Some(7), "under 1 h"),
            (Some(99), Some(100), "under 1 h"),
            (Some(4_199), Some(100), "41 h"),
            (Some(4_800), Some(100), "2 d"),
            (Some(876_000), Some(100), "365 d"),
            (Some(876_100), Some(100), "over a year"),
            (Some(u64::MAX), Some(1), "over a year"),
            (Some(4_199), Some(0), "-"),
            (Some(4_199), None, "?"),
            (None, None, "?"),
        ] {
            let node = v1::Node {
                id: "rumbai".to_owned(),
                capture_room_bytes: room,
                captured_bytes_per_hour: pace,
                ..v1::Node::default()
            };
            let rooms = Rooms::of(&v1::Network { nodes: vec![node], ..v1::Network::default() });
            assert_eq!(words(rooms.hours_left("rumbai")), expected, "{room:?} {pace:?}");
            assert_eq!(words(rooms.hours_left("sail")), "?");
        }
    }
}
