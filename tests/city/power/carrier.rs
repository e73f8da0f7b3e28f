//! A cable that is pulled: the kernel knows, and the relay finds out.
//!
//! Sukajadi's relay runs in a network namespace of its own, with a veth pair as its cable.

use std::process::Command;
use std::time::Duration;

use super::flow::{Network, all_given, in_its_turn, median, time_until_first_hop};
use super::lab::{LAB_TOOLS, Lab};
use super::load::number;
use super::namespace::{alone, own_network_names, report, run};
use crate::harness::{City, program};

/// The namespace, the two ends of the cable and their addresses.
const FAR: &str = "sukajadi";
const NEAR_END: &str = "near";
const FAR_END: &str = "far";
const NEAR_ADDRESS: &str = "10.7.0.1";
const FAR_ADDRESS: &str = "10.7.0.2";

/// Of each end, in a run of all tests; `ESTAFET_TRIALS` makes more.
const TRIALS: u64 = 3;

/// The longest that a record may be stranded at a node that is cut off: its death takes half of it.
const STRANDED_MAX: Duration = Duration::from_secs(1);

fn lay_cable() {
    own_network_names();
    run("ip", &["netns", "add", FAR]);
    run("ip", &["link", "add", NEAR_END, "type", "veth", "peer", "name", FAR_END, "netns", FAR]);
    run("ip", &["address", "add", &format!("{NEAR_ADDRESS}/24"), "dev", NEAR_END]);
    run("ip", &["-n", FAR, "address", "add", &format!("{FAR_ADDRESS}/24"), "dev", FAR_END]);
    run("ip", &["-n", FAR, "link", "set", "lo", "up"]);
    for end in [true, false] {
        set_end(end, "up");
    }
}

/// Takes an end of the cable up or down: the far one, or the one of all others.
fn set_end(far: bool, state: &str) {
    let link = ["link", "set", if far { FAR_END } else { NEAR_END }, state];
    let namespace: &[&str] = if far { &["-n", FAR] } else { &[] };
    run("ip", &[namespace, &link].concat());
}

/// A city in which all but Sukajadi hang on the near end.
fn city_with_cable() -> City {
    let mut city = City::new("pekanbaru");
    let ports: Vec<(String, u16)> =
        city.node_ids().into_iter().map(|node| (node.clone(), city.quic_port(&node))).collect();
    city.edit_topology(|text| {
        ports.iter().fold(text, |text, (node, port)| {
            let address = if node == FAR { FAR_ADDRESS } else { NEAR_ADDRESS };
            text.replace(&format!("addresses = [\"127.0.0.1:{port}\"]"), &format!("addresses = [\"{address}:{port}\"]"))
        })
    });
    for (node, _) in ports.iter().filter(|(node, _)| node != FAR) {
        city.start(node);
    }
    let mut relay = Command::new("ip");
    relay.args(["netns", "exec", FAR]).arg(program("estafet-relay"));
    relay.arg("run").arg("--config").arg(city.config(FAR));
    city.start_as(FAR, relay);
    city.wait_until_whole();
    city
}

#[test]
fn a_pulled_cable_costs_the_flow_a_moment_and_no_record() {
    alone("power::carrier::a_pulled_cable_costs_the_flow_a_moment_and_no_record", LAB_TOOLS, || {
        lay_cable();
        let city = city_with_cable();
        let lab = Lab::new(&city);
        let mut network = Network::of(city, lab);
        let mut all = Vec::new();
        for far in [true, false] {
            let (mut gaps, mut stranded, mut noises) = (vec![], vec![], vec![]);
            for _ in 0..number("ESTAFET_TRIALS").unwrap_or(TRIALS) {
                let sent = network.flow(|_, _| set_end(far, "down"));
                let (gap, slowest) = network.delays_of_the_blow(&sent);
                gaps.push(gap);
                stranded.push(slowest);
                noises.push(network.noise(&sent));
                set_end(far, "up");
                // Under flow, so that those who wait for it see it used.
                let back = network.flow(|city, _| {
                    time_until_first_hop(city, FAR);
                });
                all.extend(all_given([sent, back]));
            }
            report(&in_its_turn(&gaps, noises));
            let gap = median(&mut gaps);
            report(&format!(
                "{} pulled cables of sukajadi, at {} end: no commit for {gap:.0?} (median), {:.0?} (worst); the slowest \
                 record took {:.0?}",
                gaps.len(),
                if far { "its" } else { "the others'" },
                gaps.last().unwrap(),
                stranded.iter().max().unwrap()
            ));
            // What the counter's own disk takes is no fault of the network: its pauses are in the gaps, and not in this. A
            // record that Sukajadi had accepted waits for its death.
            assert!(median(&mut stranded) < STRANDED_MAX);
        }
        assert!(network.city.log("rumbai").contains("has lost its carrier"), "the kernel told");
        network.city.assert_honored(&all);
    });
}
