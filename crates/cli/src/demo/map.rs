//! The area's map as a node has it: is it complete, and how does a record travel.

use std::time::Duration;

use estafet_admin::v1;
use estafet_model::NodeId;
use tokio::time::{Instant, sleep, timeout};

use super::error::DemoFailure;
use super::fleet::Fleet;
use crate::city::CityFolder;
use crate::failure::Failure;
use crate::reach::Reach;

/// Waits until a node's map has every node of the topology serving and with a way to a hub. `say` is told of progress.
pub async fn wait_until_mapped(
    city: &CityFolder,
    seen_from: &NodeId,
    fleet: &mut Fleet,
    mut say: impl FnMut(String),
) -> Result<(), Failure> {
    let reach = Reach::node(city, seen_from)?;
    let began = Instant::now();
    let mut said = String::new();
    loop {
        fleet.check()?;
        let lacking = match network(&reach).await {
            Some(network) => lacking(&network, city.topology().nodes.keys()),
            None => "it does not answer yet".to_owned(),
        };
        let progress = match lacking.as_str() {
            "" => format!("{seen_from} has the whole map after {:.1} s", began.elapsed().as_secs_f64()),
            lacking => format!("{seen_from} waits: {lacking}"),
        };
        if progress != said {
            said.clone_from(&progress);
            say(progress);
        }
        if lacking.is_empty() {
            return Ok(());
        }
        if began.elapsed() > MAP_PATIENCE {
            let (seen_from, waited_s) = (seen_from.to_string(), MAP_PATIENCE.as_secs());
            return Err(DemoFailure::MapIncomplete { seen_from, waited_s, lacking }.into());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A node's map, or nothing if it does not answer soon.
pub(super) async fn network(reach: &Reach) -> Option<v1::Network> {
    let asking = async {
        let mut node = reach.first().await.ok()?;
        Some(node.client.get_network(v1::GetNetworkRequest {}).await.ok()?.into_inner())
    };
    timeout(ANSWER_TIMEOUT, asking).await.ok().flatten()
}

/// What a map lacks, in words; empty if it is complete.
fn lacking<'a>(network: &v1::Network, expected: impl Iterator<Item = &'a NodeId>) -> String {
    let (mut not_serving, mut without_way) = (Vec::new(), Vec::new());
    for id in expected.map(NodeId::as_str) {
        match network.nodes.iter().find(|node| node.id == id) {
            Some(node) if node.state == "serving" && (node.role == "hub" || !node.next_hop.is_empty()) => {}
            Some(node) if node.state == "serving" => without_way.push(id),
            _ => not_serving.push(id),
        }
    }
    let part = |nodes: &[&str], words: &str| (!nodes.is_empty()).then(|| format!("{words} {}", nodes.join(", ")));
    [part(&not_serving, "not serving:"), part(&without_way, "no way yet from")]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ")
}

/// The nodes on the way from a node to its hub, both included; only the node itself if no way leads there.
pub(super) fn way<'a>(network: &'a v1::Network, from: &'a str) -> Vec<&'a str> {
    let mut way = vec![from];
    let mut here = from;
    // While the map changes, next hops may form a ring for a moment.
    while way.len() <= network.nodes.len()
        && let Some(node) = network.nodes.iter().find(|node| node.id == here)
        && !node.next_hop.is_empty()
    {
        here = &node.next_hop;
        way.push(here);
    }
    way
}

/// Thirteen relays on two busy cores need 2 to 3 s.
const MAP_PATIENCE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(rows: &[(&str, &str, &str, &str)]) -> v1::Network {
        let node = |&(id, role, state, next_hop): &(&str, &str, &str, &str)| v1::Node {
            id: id.into(),
            role: role.into(),
            state: state.into(),
            next_hop: next_hop.into(),
            ..Default::default()
        };
        v1::Network { nodes: rows.iter().map(node).collect(), ..Default::default() }
    }

    #[test]
    fn a_way_follows_the_next_hops() {
        let map = network(&[
            ("induk", "hub", "serving", ""),
            ("sukajadi", "relay", "serving", "induk"),
            ("rumbai", "relay", "serving", "sukajadi"),
            ("sail", "relay", "serving", ""),
        ]);
        assert_eq!(way(&map, "rumbai"), ["rumbai", "sukajadi", "induk"]);
        assert_eq!(way(&map, "sail"), ["sail"]);
        assert_eq!(way(&map, "nobody"), ["nobody"]);
        let ring = network(&[("a", "relay", "serving", "b"), ("b", "relay", "serving", "a")]);
        assert_eq!(way(&ring, "a"), ["a", "b", "a"]);
    }

    #[test]
    fn a_complete_map_lacks_nothing() {
        let ids: Vec<NodeId> = ["induk", "sail", "tampan"].map(|id| id.parse().unwrap()).into();
        let hub = ("induk", "hub", "serving", "");
        let sail = ("sail", "relay", "serving", "induk");
        for (rows, expected) in [
            (vec![hub, sail, ("tampan", "relay", "serving", "induk")], ""),
            (vec![hub, sail, ("tampan", "relay", "serving", "")], "no way yet from tampan"),
            (vec![hub, ("sail", "relay", "offline", "induk")], "not serving: sail, tampan"),
        ] {
            assert_eq!(lacking(&network(&rows), ids.iter()), expected);
        }
    }
}
