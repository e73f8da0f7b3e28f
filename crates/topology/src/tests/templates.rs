//! The plans of cities hold together and are the networks they say they are.

use std::collections::BTreeSet;

use estafet_model::NodeId;

use super::city;
use crate::{OperatorRole, Template, Topology, parse};

#[test]
fn every_template_is_a_valid_topology() {
    for template in Template::ALL {
        let topology = city(template);
        let read = parse(template.name(), &topology.to_toml());
        assert_eq!(read.unwrap_or_else(|faults| panic!("{:#?}", faults.faults())), topology);
        assert_eq!(topology.operators[0].role, OperatorRole::Admin);
    }
}

#[test]
fn counts_are_those_of_the_city() {
    for (template, links, hubs) in [
        (Template::Pekanbaru2013, 12, vec!["induk"]),
        (Template::Pekanbaru, 18, vec!["induk"]),
        (Template::PekanbaruCadangan, 25, vec!["cadangan", "induk"]),
    ] {
        let topology = city(template);
        assert_eq!(topology.nodes.len(), 12 + hubs.len(), "{template}");
        assert_eq!(topology.links.len(), links, "{template}");
        assert_eq!(topology.hub_ids().map(NodeId::as_str).collect::<Vec<_>>(), hubs);
        // The two main servers stand for the whole city.
        let regions: BTreeSet<_> = topology.nodes.values().filter_map(|node| node.region.as_deref()).collect();
        assert_eq!(regions.len(), 13);
        // Every place lies in the city's box.
        for place in topology.nodes.values().filter_map(|node| node.place) {
            assert!((0.4..0.7).contains(&place.latitude) && (101.3..101.6).contains(&place.longitude), "{place:?}");
        }
    }
}

#[test]
fn both_rumbai_hang_on_sukajadi_until_links_are_added() {
    for (template, expected) in [
        (Template::Pekanbaru2013, ["sukajadi"].as_slice()),
        (Template::Pekanbaru, &["rumbai-pesisir", "senapelan", "sukajadi"]),
    ] {
        let topology = city(template);
        let rumbai = "rumbai".parse().unwrap();
        let neighbors: BTreeSet<&str> = topology.neighbors(&rumbai).map(|(id, _)| id.as_str()).collect();
        assert_eq!(neighbors.into_iter().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_city_with_two_main_servers_may_demand_that_both_have_each_record() {
    let topology = Topology { copies: 2, ..city(Template::PekanbaruCadangan) };
    let text = topology.to_toml();
    assert!(text.contains("\ncopies = 2\n"), "{text}");
    assert_eq!(parse("two", &text).unwrap(), topology);
    assert!(!city(Template::PekanbaruCadangan).to_toml().contains("copies"), "what is not set is left out");
}

#[test]
fn nodes_are_found_by_what_they_are_known_by() {
    let topology = city(Template::Pekanbaru);
    let node = topology.node(topology.id_by_code("RBP".parse().unwrap()).unwrap()).unwrap();
    assert_eq!(node.id.as_str(), "rumbai-pesisir");
    assert_eq!(topology.node_by_key(&node.key), Some(node));
    assert_eq!(topology.node(&node.id), Some(node));
    assert_eq!(topology.operator_by_key(&node.key), None);
    assert_eq!(topology.neighbors(&"bogor".parse().unwrap()).count(), 0);
}

#[test]
fn templates_have_names() {
    for template in Template::ALL {
        assert_eq!(template.name().parse(), Ok(template));
    }
    insta::assert_snapshot!("pekanbaru2013".parse::<Template>().unwrap_err(), @"there is no template `pekanbaru2013`: did you mean `pekanbaru-2013`? Otherwise use one of pekanbaru, pekanbaru-cadangan, pekanbaru-2013");
}
