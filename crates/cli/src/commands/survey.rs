//! What the nodes of a city say now: the map of the first that answers, and the own word of those whom it cannot reach.
//!
//! With the main server dark, offices that hang on it alone are out of each other's sight and serve all the same. Who asks
//! them has their addresses, so nobody is called dark who answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use estafet_admin::v1;
use estafet_model::NodeId;
use estafet_topology::Link;

use super::question;
use crate::failure::Failure;
use crate::reach::Reach;

/// One node's map, mended by those whom it cannot reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    /// The map. Nodes in `cut_off` stand in it as they see themselves.
    pub(super) network: v1::Network,
    /// Those who serve, and whom the node that answered cannot reach.
    pub(super) cut_off: BTreeSet<String>,
    /// No other node could be asked: it is one node's view.
    pub(super) is_one_view: bool,
}

impl Survey {
    /// Asks the first node that answers, then at the same time all whom it cannot reach.
    pub(super) async fn take(reach: &Reach) -> Result<Self, Failure> {
        let mut node = reach.first().await?;
        let network = node.client.get_network(question(v1::GetNetworkRequest {})).await;
        let network = network.map_err(Failure::refused(&node.name))?.into_inner();
        if reach.is_one_node() {
            return Ok(Self { network, is_one_view: true, ..Self::default() });
        }
        let out_of_sight = network.nodes.iter().filter(|node| is_out_of_sight(node)).map(|node| node.id.as_str());
        let others = reach.among(&out_of_sight.collect());
        let asked = others.ask_all(OWN_WORD_TIMEOUT, |mut client| async move {
            Ok(client.get_network(question(v1::GetNetworkRequest {})).await?.into_inner())
        });
        // If none of them answers, they are as dark as they look.
        let own_words = asked.await.map(|asked| asked.answers).unwrap_or_default();
        Ok(Self::mended(network, &own_words.into_iter().collect()))
    }

    /// What is known of a node; nothing if the map does not have it.
    pub(super) fn node(&self, id: &str) -> Option<&v1::Node> {
        self.network.nodes.iter().find(|node| node.id == id)
    }

    /// What is known of a link; nothing if the map does not have it.
    pub(super) fn link(&self, link: &Link) -> Option<&v1::Link> {
        let is_meant = |seen: &&v1::Link| {
            let ends = seen.ends.iter().map(String::as_str);
            ends.eq(link.ends.iter().map(NodeId::as_str)) && seen.medium == link.medium.as_str()
        };
        self.network.links.iter().find(is_meant)
    }

    /// `network` with what those who were asked themselves say of themselves and of their own links.
    fn mended(mut network: v1::Network, own_words: &BTreeMap<String, v1::Network>) -> Self {
        let mut cut_off = BTreeSet::new();
        for node in &mut network.nodes {
            let own_word = own_words.get(&node.id).and_then(|own| own.nodes.iter().find(|own| own.id == node.id));
            if let Some(own_word) = own_word {
                cut_off.insert(node.id.clone());
                *node = own_word.clone();
            }
        }
        for link in &mut network.links {
            let own_words = link.ends.iter().filter_map(|end| own_words.get(end));
            let mut same = own_words.flat_map(|own| &own.links).filter(|own| is_same(own, link));
            if let Some(known) = same.find(|own| own.state != "unknown").filter(|_| link.state == "unknown") {
                *link = known.clone();
            }
        }
        Self { network, cut_off, is_one_view: false }
    }
}

/// True if the node that answered had no way to it.
pub(super) fn is_out_of_sight(node: &v1::Node) -> bool {
    matches!(node.state.as_str(), "offline" | "unknown")
}

fn is_same(left: &v1::Link, right: &v1::Link) -> bool {
    (&left.ends, &left.medium) == (&right.ends, &right.medium)
}

/// For the answer of a node that took the connection, beside the time that connecting may take.
const OWN_WORD_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(states: &[(&str, &str)], links: &[([&str; 2], &str)]) -> v1::Network {
        let node = |(id, state): &(&str, &str)| v1::Node {
            id: (*id).to_owned(),
            state: (*state).to_owned(),
            ..v1::Node::default()
        };
        let link = |(ends, state): &([&str; 2], &str)| v1::Link {
            ends: ends.map(str::to_owned).to_vec(),
            state: (*state).to_owned(),
            ..v1::Link::default()
        };
        let (nodes, links) = (states.iter().map(node).collect(), links.iter().map(link).collect());
        v1::Network { nodes, links, ..v1::Network::default() }
    }

    #[test]
    fn those_who_answer_stand_as_they_see_themselves_and_so_do_their_links() {
        let seen = network(
            &[("sail", "serving"), ("induk", "offline"), ("rumbai", "unknown"), ("sukajadi", "offline")],
            &[(["induk", "sail"], "down"), (["rumbai", "sukajadi"], "unknown"), (["induk", "rumbai"], "unknown")],
        );
        let by_rumbai = network(
            &[("sail", "offline"), ("rumbai", "draining"), ("sukajadi", "serving")],
            &[(["induk", "sail"], "up"), (["rumbai", "sukajadi"], "up"), (["induk", "rumbai"], "down")],
        );
        let survey = Survey::mended(seen, &[("rumbai".to_owned(), by_rumbai)].into());
        let states: Vec<&str> = survey.network.nodes.iter().map(|node| node.state.as_str()).collect();
        assert_eq!(states, ["serving", "offline", "draining", "offline"], "only of themselves");
        let links: Vec<&str> = survey.network.links.iter().map(|link| link.state.as_str()).collect();
        assert_eq!(links, ["down", "up", "down"]);
        assert_eq!(survey.cut_off, ["rumbai".to_owned()].into());
    }
}
