//! For how long offices can go on taking records, as a node that answers knows it.

use std::collections::BTreeMap;

use estafet_admin::v1;

/// Hours until an office's store is full, at the pace of its last day; nothing if it captures nothing.
pub(super) type HoursLeft = Option<u64>;

/// What one node knows of this.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    /// Every office that has said it.
    hours_left: BTreeMap<String, HoursLeft>,
}

impl Rooms {
    /// What a node that answered knows.
    pub(super) fn of(network: &v1::Network) -> Self {
        let hours_left = network.nodes.iter().filter_map(|node| Some((node.id.clone(), hours_left(node)?)));
        Self { hours_left: hours_left.collect() }
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
