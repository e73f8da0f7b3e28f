//! Tests of several routers together: they learn the map, survive deaths and cuts, and agree again afterward.

use std::collections::BTreeSet;
use std::time::Duration;

use estafet_model::{ByteCount, Epoch, LinkCost, NodeId, Seq, SeqRanges};

use crate::adjacency::{DEAD_AFTER, DEAD_AFTER_QUIET, DownReason, NeighborState};
use crate::area::{Area, Dice, LATENCY, SETTLE, STEADY, config, signing_key};
use crate::comparison::REPAIRED_WITHIN;
use crate::graph::Graph;
use crate::lsa::{HubLedger, OriginLedger, TopologyVersions};
use crate::origination::LEDGER_INTERVAL;
use crate::outlook::Outlook;
use crate::output::RouterOutput;
use crate::pekanbaru::{by_radio, id, ids, redundant, words};
use crate::quality::LinkSample;
use crate::router::{Router, RouterConfig};
use crate::signed_lsa::SignedLsa;
use crate::standing::{NodeState, PowerState, Standing};

fn ledger(captured: u32) -> OriginLedger {
    let (held, receipted) = (SeqRanges::up_to(Seq::new(captured)), SeqRanges::new());
    let (former, holdings, conflicts) = (Vec::new(), Vec::new(), Vec::new());
    OriginLedger { epoch: Epoch::FIRST, captured, held, receipted, former, holdings, conflicts, transit_held: 0 }
}

#[test]
fn from_nothing_all_learn_the_whole_map() {
    let area = Area::settled(redundant());
    area.assert_agree_on(&area.map);
    assert_eq!(area.next_hops("rumbai"), "sukajadi senapelan rumbai-pesisir");
    assert_eq!(area.next_hops("induk"), "");
}

#[test]
fn a_silent_death_is_survived_in_half_a_second_and_known_to_all_soon_after() {
    let mut area = Area::settled(redundant());
    area.kill("sukajadi");
    area.run(DEAD_AFTER + LATENCY);
    assert_eq!(area.next_hops("rumbai"), "senapelan rumbai-pesisir");
    area.run(SETTLE);
    area.assert_agree_on(&area.map_without("sukajadi"));
    assert!(!area.router("rumbai").reachable(&id("sukajadi")));
    assert!(area.downs.iter().all(|(_, neighbor, _)| *neighbor == id("sukajadi")), "nobody else was given up");
}

#[test]
fn a_lost_session_and_a_goodbye_switch_before_any_news() {
    for goodbye in [false, true] {
        let mut area = Area::settled(redundant());
        area.change("rumbai", |router, now| {
            let sukajadi = id("sukajadi");
            if goodbye {
                router.goodbye(now, &by_radio(sukajadi.as_str()));
            } else {
                router.session_down(now, &by_radio(sukajadi.as_str()));
            }
        });
        assert_eq!(area.next_hops("rumbai"), "senapelan rumbai-pesisir");
    }
}

#[test]
fn a_restarted_node_jumps_above_its_earlier_life() {
    let mut area = Area::settled(redundant());
    for _ in 0..20 {
        area.change("rumbai", |router, now| {
            router.set_standing(now, draining());
            router.set_standing(now, Standing::default());
        });
    }
    area.run(SETTLE);
    area.kill("rumbai");
    area.run(SETTLE);
    let reborn = Router::new(id("rumbai"), config(&area.map, &id("rumbai")));
    area.routers.insert(id("rumbai"), reborn);
    area.connect(&ids(&["rumbai"]));
    area.run(STEADY);
    area.assert_agree_on(&area.map);
    assert!(area.router("induk").lsdb().get(&id("rumbai")).unwrap().lsa().sequence > 40, "it began at 1");
}

#[test]
fn two_halves_agree_again_after_a_cut() {
    let mut area = Area::settled(redundant());
    let cuts = [
        ("rumbai", "sukajadi"),
        ("rumbai", "senapelan"),
        ("rumbai-pesisir", "sukajadi"),
        ("rumbai-pesisir", "lima-puluh"),
    ];
    cuts.iter().for_each(|(left, right)| area.set_cut(left, right, true));
    area.run(SETTLE);
    assert_eq!(area.next_hops("rumbai"), "");
    assert!(area.router("rumbai").reachable(&id("rumbai-pesisir")));
    area.change("rumbai", |router, _| router.set_ledger(ledger(7)));
    area.change("induk", |router, _| router.set_hub_ledger(HubLedger { committed: 5, ..HubLedger::default() }));
    area.run(SETTLE);
    cuts.iter().for_each(|(left, right)| area.set_cut(left, right, false));
    area.run(STEADY);
    area.assert_agree_on(&area.map);
    let seen_at_hub = area.router("induk").lsdb().get(&id("rumbai")).unwrap().lsa().ledger.clone();
    assert_eq!(seen_at_hub, Some(ledger(7)));
    assert_eq!(area.router("rumbai").lsdb().get(&id("induk")).unwrap().lsa().hub.unwrap().committed, 5);
}

#[test]
fn an_outlook_is_told_like_a_ledger_when_it_is_another() {
    let mut area = Area::settled(redundant());
    let outlook = |mebibytes| Outlook::rounded(ByteCount::mebibytes(mebibytes), ByteCount::mebibytes(1));
    let heard = |area: &Area| {
        let lsa = area.router("induk").lsdb().get(&id("rumbai")).unwrap().lsa().clone();
        (lsa.outlook, lsa.sequence)
    };
    let (before, sequence) = heard(&area);
    assert_eq!(before, None);
    for _ in 0..3 {
        area.change("rumbai", |router, _| router.set_outlook(outlook(30)));
        area.run(SETTLE);
        assert_eq!(heard(&area), (Some(outlook(30)), sequence + 1));
    }
    for mebibytes in [29, 28, 27] {
        area.change("rumbai", |router, _| router.set_outlook(outlook(mebibytes)));
    }
    area.run(SETTLE);
    assert_eq!(heard(&area), (Some(outlook(27)), sequence + 2));
}

#[test]
fn ledgers_that_change_on_and_on_are_told_ever_more_seldom() {
    let mut area = Area::settled(redundant());
    let heard = |area: &Area| area.router("induk").lsdb().get(&id("rumbai")).unwrap().lsa().clone();
    let before = heard(&area).sequence;
    for count in 1..=600 {
        area.change("rumbai", |router, _| router.set_ledger(ledger(count)));
        area.run(LEDGER_INTERVAL / 5);
    }
    let told = heard(&area).sequence - before;
    let nodes = area.map.nodes().count() as u64;
    assert!((15..=4 * 60 / nodes + 4).contains(&told), "{told} times in a minute in an area of {nodes}");
    area.run(STEADY);
    assert_eq!(heard(&area).ledger, Some(ledger(600)));
    for count in [601, 602] {
        area.change("rumbai", |router, _| router.set_ledger(ledger(count)));
        area.run(LEDGER_INTERVAL);
        assert_eq!(heard(&area).ledger, Some(ledger(count)), "after a rest it is told soon");
        area.run(STEADY);
    }
}

#[test]
fn which_topology_a_node_has_is_told_at_once() {
    let mut area = Area::settled(redundant());
    let heard = |area: &Area| area.router("induk").lsdb().get(&id("rumbai")).unwrap().lsa().topology;
    assert_eq!(heard(&area), TopologyVersions { in_force: 1, kept: 1 });
    let flood = LEDGER_INTERVAL / 2;
    for (version, at_once, in_force, kept) in [(2, true, 2, 2), (3, false, 2, 3), (2, false, 2, 3), (3, true, 3, 3)] {
        let next = RouterConfig { topology_version: version, ..config(&area.map, &id("rumbai")) };
        area.change("rumbai", |router, now| match at_once {
            true => router.reconfigure(now, next),
            false => router.set_topology_kept(now, version),
        });
        area.run(flood);
        assert_eq!(heard(&area), TopologyVersions { in_force, kept }, "version {version}");
    }
}

fn draining() -> Standing {
    Standing { state: NodeState::Draining, ..Standing::default() }
}

fn powered_by(power: PowerState) -> Standing {
    Standing { power, ..Standing::default() }
}

#[test]
fn powered_ways_are_preferred_and_a_battery_is_better_than_a_node_that_drains() {
    let mut area = Area::settled(redundant());
    let battery = powered_by(PowerState::OnBattery { minutes_left: Some(30) });
    area.change("sukajadi", |router, now| router.set_standing(now, battery.clone()));
    area.run(SETTLE);
    assert_eq!(area.next_hops("rumbai").split(' ').next(), Some("senapelan"));
    area.change("senapelan", |router, now| router.set_standing(now, powered_by(PowerState::LowBattery)));
    area.run(SETTLE);
    assert_eq!(area.next_hops("rumbai").split(' ').next(), Some("rumbai-pesisir"), "by lima-puluh, which has power");
    area.change("lima-puluh", |router, now| router.set_standing(now, draining()));
    area.run(SETTLE);
    assert_eq!(area.next_hops("rumbai").split(' ').next(), Some("sukajadi"));
    for node in ["sukajadi", "senapelan", "lima-puluh"] {
        area.change(node, |router, now| router.set_standing(now, Standing::default()));
    }
    area.run(SETTLE);
    area.assert_agree_on(&area.map);
}

#[test]
fn nothing_leads_to_a_hub_that_drains_and_without_another_records_wait() {
    let mut area = Area::settled(redundant());
    area.change("induk", |router, now| router.set_standing(now, draining()));
    area.run(SETTLE);
    assert_eq!(area.next_hops("rumbai"), "");
    assert_eq!(area.next_hops("sail"), "");
    assert!(area.router("rumbai").reachable(&id("induk")), "people still find it");
    area.change("induk", |router, now| router.set_standing(now, Standing::default()));
    area.run(SETTLE);
    area.assert_agree_on(&area.map);
}

#[test]
fn a_draining_node_is_left_and_taken_back() {
    let mut area = Area::settled(redundant());
    area.change("sukajadi", |router, now| router.set_standing(now, draining()));
    area.run(SETTLE);
    assert_eq!(area.next_hops("rumbai"), "senapelan rumbai-pesisir sukajadi");
    area.change("sukajadi", |router, now| router.set_standing(now, Standing::default()));
    area.run(SETTLE);
    area.assert_agree_on(&area.map);
}

/// `s` reaches the hub through `e`; `near` hangs on `e`, `far` does not.
fn two_ways() -> Graph {
    let links =
        [("s", "e", 1), ("s", "near", 1), ("near", "e", 1), ("s", "far", 5), ("e", "induk", 1), ("far", "induk", 5)];
    let none: &[String] = &[];
    Graph::from_links(links.map(|(left, right, cost)| (id(left), id(right), LinkCost(cost), none)))
}

#[test]
fn a_lost_neighbor_is_presumed_dead_until_its_own_word_disproves_it() {
    let mut dead = Area::settled(two_ways());
    dead.kill("e");
    dead.change("s", |router, now| router.session_down(now, &by_radio("e")));
    dead.run(Duration::from_millis(100));
    assert_eq!(dead.next_hops("s"), "far", "near still believes in e, and would send there");
    assert_eq!(words(&dead.router("s").route_to(&id("induk")).unwrap().path), "s far induk");

    let mut alive = Area::settled(two_ways());
    alive.set_cut("s", "e", true);
    alive.change("s", |router, now| router.session_down(now, &by_radio("e")));
    alive.run(SETTLE);
    assert_eq!(alive.next_hops("s"), "near far", "e said that it lost s, so it lives");
}

#[test]
fn round_trip_times_are_never_news_and_ledgers_are_gathered() {
    let mut area = Area::settled(redundant());
    area.lsa_frames = 0;
    for step in 0..200 {
        let round_trip = Duration::from_millis(step);
        let sample = LinkSample { round_trip, packets_sent: step, packets_lost: 0, window_bytes: 1 << 20 };
        area.change("sail", |router, now| router.measured(now, &by_radio("induk"), sample));
        area.run(Duration::from_millis(5));
    }
    assert_eq!(area.lsa_frames, 0);
    let before = area.router("sail").lsdb().get(&id("sail")).unwrap().lsa().sequence;
    for captured in 1..=1000 {
        area.change("sail", |router, _| router.set_ledger(ledger(captured)));
        area.run(Duration::from_millis(2));
    }
    area.run(SETTLE);
    let after = area.router("rumbai").lsdb().get(&id("sail")).unwrap().lsa().clone();
    assert!((3..=5).contains(&(after.sequence - before)), "{}", after.sequence - before);
    assert_eq!(after.ledger, Some(ledger(1000)));
    assert_eq!(after.adjacencies[0].rtt_micros, 199_000);
}

#[test]
fn five_percent_loss_kills_nobody_in_a_minute() {
    let mut area = Area::settled(redundant());
    area.loss_percent = 5;
    let map = area.map.clone();
    for _ in 0..12 {
        // At the busy pace, which gives a neighbor the least time.
        for node in map.nodes() {
            area.change(node.as_str(), |router, now| {
                map.edges_from(node).for_each(|(neighbor, _)| router.busy(now, &by_radio(neighbor.as_str())));
            });
        }
        area.run(Duration::from_secs(5));
    }
    assert_eq!(area.downs, []);
    area.loss_percent = 100;
    area.run(DEAD_AFTER_QUIET + LATENCY);
    assert!(!area.downs.is_empty(), "the test can fail");
}

#[test]
fn lost_lsas_are_repaired_in_bounded_time_and_equal_databases_send_no_summaries() {
    let mut losses = 0;
    for seed in 0..20 {
        let mut area = Area::settled(redundant());
        area.run(REPAIRED_WITHIN);
        area.dice = seed;
        area.lsa_loss_percent = 60;
        for node in ["rumbai", "induk", "sail"] {
            area.change(node, |router, now| router.set_standing(now, draining()));
        }
        area.run(SETTLE);
        let differ = area.routers.values().any(|router| router.lsdb() != area.router("induk").lsdb());
        losses += usize::from(differ);
        area.lsa_loss_percent = 0;
        area.summaries = 0;
        area.run(REPAIRED_WITHIN);
        for router in area.routers.values() {
            assert_eq!(router.lsdb(), area.router("induk").lsdb(), "seed {seed}");
        }
        assert_eq!(area.summaries > 0, differ, "seed {seed}");
        area.summaries = 0;
        area.run(Duration::from_secs(600));
        assert_eq!(area.summaries, 0, "seed {seed}: all have the same, and nobody needs to be told");
    }
    assert!(losses > 10, "the test can fail");
}

#[test]
fn a_new_topology_takes_nodes_out_and_lets_the_rest_go_on() {
    let mut area = Area::settled(redundant());
    let smaller = area.map.without(&ids(&["sukajadi"]));
    area.kill("sukajadi");
    for node in smaller.nodes() {
        area.change(node.as_str(), |router, now| router.reconfigure(now, config(&smaller, node)));
    }
    area.run(SETTLE);
    area.assert_agree_on(&smaller);
    assert!(
        area.downs.iter().all(|(_, neighbor, reason)| *neighbor == id("sukajadi") && *reason == DownReason::Removed)
    );
}

#[test]
fn a_neighbor_under_another_key_is_another_machine() {
    let mut area = Area::settled(redundant());
    let mut replaced = config(&area.map, &id("rumbai"));
    replaced.keys.insert(id("sukajadi"), signing_key(&id("the-new-machine")).public());
    area.change("rumbai", |router, now| router.reconfigure(now, replaced));
    assert_eq!(area.downs, [(id("rumbai"), id("sukajadi"), DownReason::Removed)]);
    assert_eq!(area.router("rumbai").neighbor_state(&id("sukajadi")), Some(NeighborState::Down));
    assert!(area.next_hops("rumbai").starts_with("senapelan"), "{}", area.next_hops("rumbai"));
}

#[test]
fn a_link_that_is_planned_to_go_dark_is_left_by_all_and_used_again_afterward() {
    let mut area = Area::settled(redundant());
    for (dark, first_hop, path) in [
        (BTreeSet::from([by_radio("sukajadi")]), "senapelan", "rumbai senapelan induk"),
        (BTreeSet::new(), "sukajadi", "rumbai sukajadi induk"),
    ] {
        area.change("rumbai", |router, now| router.set_planned_dark(now, &dark));
        area.run(SETTLE);
        assert!(area.next_hops("rumbai").starts_with(first_hop), "{}", area.next_hops("rumbai"));
        let route = area.router("sail").route_from(&id("rumbai"), &id("induk")).unwrap();
        assert_eq!(words(&route.path), path, "as others see it");
    }
    assert!(area.downs.is_empty(), "no session ends for it");
}

#[test]
fn forgeries_are_told_and_strangers_ignored() {
    let mut area = Area::settled(redundant());
    let router = area.routers.get_mut(&id("rumbai")).unwrap();
    let now = area.now;
    let mut claim = router.lsdb().get(&id("induk")).unwrap().lsa().clone();
    claim.sequence += 1;
    let forged = SignedLsa::sign(claim.clone(), &signing_key(&id("sail")));
    claim.origin = id("stranger");
    let strange = SignedLsa::sign(claim, &signing_key(&id("stranger")));
    let before = router.lsdb().clone();
    router.lsa_received(now, &id("sukajadi"), strange);
    assert_eq!(router.poll_output(), None);
    router.lsa_received(now, &id("induk"), forged.clone());
    assert_eq!(router.poll_output(), None, "induk is no neighbor of rumbai");
    router.lsa_received(now, &id("sukajadi"), forged);
    let told = RouterOutput::ForgedLsa { from: id("sukajadi"), origin: id("induk") };
    assert_eq!(router.poll_output(), Some(told));
    assert_eq!(*router.lsdb(), before);
}

#[test]
fn after_any_cuts_the_healed_area_agrees_again() {
    for seed in 0..20 {
        let mut area = Area::settled(redundant());
        area.dice = seed;
        let links: Vec<(NodeId, NodeId)> = area
            .map
            .steps()
            .filter(|(from, to, _)| from < to)
            .map(|(from, to, _)| (from.clone(), to.clone()))
            .collect();
        for _ in 0..30 {
            let (left, right) = &links[usize::try_from(area.roll()).unwrap() % links.len()];
            let cut = area.roll() < 70;
            area.set_cut(left.as_str(), right.as_str(), cut);
            let pause = Duration::from_millis(area.roll() * 7);
            area.run(pause);
        }
        links.iter().for_each(|(left, right)| area.set_cut(left.as_str(), right.as_str(), false));
        area.run(REPAIRED_WITHIN + STEADY);
        assert!(!area.downs.is_empty(), "seed {seed} tested nothing");
        area.assert_agree_on(&area.map);
    }
}

#[test]
fn one_change_costs_as_many_messages_as_there_are_links_not_pairs_of_nodes() {
    for nodes in [20, 40, 80] {
        let mut area = Area::settled(Area::large_map(nodes, 7));
        let directed_links = area.map.steps().count();
        area.run(REPAIRED_WITHIN);
        area.lsa_frames = 0;
        area.change("n0003", |router, now| router.set_standing(now, draining()));
        area.run(SETTLE);
        // Everybody hears it once, and nobody sends it back to whom it came from.
        assert!((nodes - 1..=directed_links).contains(&area.lsa_frames), "{nodes} nodes: {}", area.lsa_frames);
        assert!(area.lsa_frames < 3 * nodes, "{nodes} nodes: {}", area.lsa_frames);
    }
}

/// Random nodes die and random links go silent, one after the other; after each all agree on what is left, and after its
/// return on the whole map.
///
/// `ESTAFET_AREA=500 ESTAFET_FAILURES=200 ESTAFET_SEED=7 cargo test --release -p estafet-routing -- --nocapture
/// a_large_area` is the long run.
#[test]
#[expect(clippy::print_stdout, reason = "the long run takes minutes, and its figures are wanted")]
fn a_large_area_agrees_after_each_of_many_failures() {
    let (nodes, failures, seed) = (
        from_environment("ESTAFET_AREA", 60),
        from_environment("ESTAFET_FAILURES", 20),
        from_environment("ESTAFET_SEED", 7),
    );
    let mut area = Area::settled(Area::large_map(nodes, u64::try_from(seed).unwrap()));
    area.run(REPAIRED_WITHIN);
    area.assert_agree_on(&area.map);
    let mut dice = Dice(u64::try_from(seed).unwrap());
    let links: Vec<(NodeId, NodeId)> = area.map.steps().map(|(from, to, _)| (from.clone(), to.clone())).collect();
    let ids: Vec<NodeId> = area.map.nodes().cloned().collect();
    for failure in 0..failures {
        let before = area.lsa_frames;
        if dice.below(2) == 0 {
            let (left, right) = links[dice.below(links.len())].clone();
            area.set_cut(left.as_str(), right.as_str(), true);
            area.run(DEAD_AFTER_QUIET + SETTLE);
            area.assert_agree_on(&area.map_without_link(&left, &right));
            area.set_cut(left.as_str(), right.as_str(), false);
        } else {
            let node = ids[dice.below(ids.len())].clone();
            area.kill(node.as_str());
            area.run(DEAD_AFTER_QUIET + SETTLE);
            area.assert_agree_on(&area.map_without(node.as_str()));
            area.routers.insert(node.clone(), Router::new(node.clone(), config(&area.map, &node)));
            area.connect(&BTreeSet::from([node]));
        }
        area.run(REPAIRED_WITHIN + SETTLE);
        area.assert_agree_on(&area.map);
        println!("failure {failure} of {failures} in {nodes} nodes: {} LSA messages", area.lsa_frames - before);
    }
}

/// A number for a longer run than everybody wants to wait for.
fn from_environment(name: &str, otherwise: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "a test may be told how long to run")]
    let told = std::env::var(name).ok();
    told.map_or(otherwise, |told| told.parse().unwrap())
}
