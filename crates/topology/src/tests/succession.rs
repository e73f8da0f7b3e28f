//! Which of two topologies wins, and when a node takes it.

use super::{city, key, small};
use crate::{
    NoSuccessor, Operator, OperatorRole, SignedTopology, Succession, TakesEffect, Template, Topology, UntrustedTopology,
};

fn signed(topology: Topology) -> SignedTopology {
    SignedTopology::sign(topology, "kepala", &key(100)).unwrap()
}

fn version(version: u64) -> Topology {
    Topology { version, ..small() }
}

#[test]
fn the_highest_version_that_is_vouched_for_wins() {
    let present = signed(version(3));
    let judge = |other: &SignedTopology| present.judge(&other.encode());
    let newer = signed(version(4));
    assert_eq!(judge(&newer).unwrap(), Succession::Newer(Box::new(newer)));
    assert_eq!(judge(&present).unwrap(), Succession::Same);
    assert_eq!(judge(&signed(version(2))).unwrap(), Succession::Older { version: 2 });
    let other = signed(Topology { label: "another".to_owned(), ..version(3) });
    assert!(matches!(judge(&other), Err(NoSuccessor::SameVersion { version: 3 })));
    let elsewhere = signed(Topology { area: "bogor".parse().unwrap(), ..version(9) });
    assert!(matches!(judge(&elsewhere), Err(NoSuccessor::OtherArea { .. })));
}

#[test]
fn only_admins_of_the_topology_in_force_are_believed() {
    let present = signed(version(3));
    let with = |role, number| {
        let mut topology = version(4);
        topology.operators.push(Operator { id: "wakil".to_owned(), key: key(number).public(), role });
        topology
    };
    let by_stranger = SignedTopology::sign(with(OperatorRole::Admin, 101), "wakil", &key(101)).unwrap();
    let fault = present.judge(&by_stranger.encode());
    assert!(matches!(fault, Err(NoSuccessor::Untrusted(UntrustedTopology::SignerUnknown { .. }))));
    let passed_on = signed(with(OperatorRole::Admin, 101));
    let next =
        SignedTopology::sign(Topology { version: 5, ..with(OperatorRole::Admin, 101) }, "wakil", &key(101)).unwrap();
    assert!(matches!(passed_on.judge(&next.encode()), Ok(Succession::Newer(_))), "the new admin is listed by now");
    let demoted = signed(with(OperatorRole::Operator, 101));
    assert!(matches!(demoted.judge(&next.encode()), Err(NoSuccessor::Untrusted(_))), "an operator signs nothing");
    assert_eq!(SignedTopology::decode_kept(&next.encode()).unwrap(), next, "what was judged once is read back");
    assert!(SignedTopology::decode_kept(&next.encode().replace("Sukajadi", "Sukajaya")).is_err());
}

#[test]
fn where_two_admins_have_to_sign_one_is_not_enough() {
    let with_two = |version, required_signatures| {
        let mut topology = Topology { version, required_signatures, ..small() };
        topology.operators.push(Operator { id: "wakil".to_owned(), key: key(101).public(), role: OperatorRole::Admin });
        topology
    };
    let by_both = |topology| signed(topology).countersign("wakil", &key(101)).unwrap();
    let rows = [
        ("no rule, none asked for", 1, signed(with_two(4, 1)), true),
        ("the rule comes with this one, which is the first to keep it", 1, signed(with_two(4, 2)), false),
        ("and has both", 1, by_both(with_two(4, 2)), true),
        ("the rule is in force, and cannot be dropped by one", 2, signed(with_two(4, 1)), false),
        ("but by two", 2, by_both(with_two(4, 1)), true),
    ];
    for (what, required, other, taken) in rows {
        let present = by_both(with_two(3, required));
        let missing = required.max(other.topology().required_signatures) > other.signers().len();
        assert_eq!(missing, !taken, "{what}");
        match present.judge(&other.encode()) {
            Ok(Succession::Newer(_)) => assert!(taken, "{what}"),
            Err(NoSuccessor::TooFewSignatures { found: 1, required: 2 }) => assert!(!taken, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!((signed(with_two(4, 2)).missing_signatures(), by_both(with_two(4, 2)).missing_signatures()), (1, 0));
    let mut stranger = with_two(4, 1);
    stranger.operators.push(Operator { id: "tamu".to_owned(), key: key(102).public(), role: OperatorRole::Admin });
    let by_one_and_a_stranger = signed(stranger).countersign("tamu", &key(102)).unwrap();
    let fault = by_both(with_two(3, 2)).judge(&by_one_and_a_stranger.encode());
    assert!(
        matches!(fault, Err(NoSuccessor::TooFewSignatures { found: 1, .. })),
        "who it names itself counts for nothing"
    );
}

#[test]
fn what_reaches_into_a_nodes_disk_or_sockets_waits_for_its_next_start() {
    let (sukajadi, induk) = ("sukajadi".parse().unwrap(), "induk".parse().unwrap());
    let present = city(Template::Pekanbaru);
    let effect = |change: &dyn Fn(&mut Topology)| {
        let mut changed = present.clone();
        change(&mut changed);
        changed.takes_effect(&sukajadi, &present)
    };
    let waits = |effect| matches!(effect, TakesEffect::NextStart { .. });
    let at_once: [&dyn Fn(&mut Topology); 5] = [
        &|topology| topology.version += 1,
        &|topology| topology.links.truncate(3),
        &|topology| topology.outages = small().outages,
        &|topology| topology.operators.clear(),
        &|topology| drop(topology.nodes.remove(&"sail".parse().unwrap())),
    ];
    for change in at_once {
        assert_eq!(effect(change), TakesEffect::AtOnce);
    }
    assert!(waits(effect(&|topology| topology.copies = 2)));
    assert!(waits(effect(&|topology| topology.nodes.get_mut(&induk).unwrap().key = key(77).public())));
    let sukajadi_in = |topology: &mut Topology| topology.nodes.remove(&sukajadi).unwrap();
    assert!(waits(effect(&|topology| {
        let mut node = sukajadi_in(topology);
        node.addresses[0].set_port(9);
        topology.nodes.insert(sukajadi.clone(), node);
    })));
    let never = [
        effect(&|topology| drop(sukajadi_in(topology))),
        effect(&|topology| {
            let mut node = sukajadi_in(topology);
            node.key = key(77).public();
            topology.nodes.insert(sukajadi.clone(), node);
        }),
    ];
    assert!(never.iter().all(|effect| matches!(effect, TakesEffect::Never { .. })), "{never:?}");
}

#[test]
fn whom_a_topology_shuts_out_that_waits_for_a_restart_is_shut_out_at_once() {
    let (sukajadi, induk) = ("sukajadi".parse().unwrap(), "induk".parse().unwrap());
    let present = city(Template::PekanbaruCadangan);
    let mut next = present.clone();
    (next.version, next.copies) = (present.version + 1, 2);
    next.nodes.remove(&"rumbai".parse().unwrap());
    next.links.retain(|link| !link.ends.contains(&"rumbai".parse().unwrap()) && !link.ends.contains(&induk));
    next.operators.clear();
    next.hubs.retain(|hub| hub.node != induk);
    next.nodes.remove(&induk);
    next.nodes.get_mut(&sukajadi).unwrap().addresses[0].set_port(9);
    let partly = next.until_next_start(&sukajadi, &present);
    assert_eq!(partly.takes_effect(&sukajadi, &present), TakesEffect::AtOnce);
    assert!(matches!(next.takes_effect(&sukajadi, &partly), TakesEffect::NextStart { .. }));
    assert_eq!((partly.version, partly.copies), (present.version, present.copies));
    assert_eq!((&partly.links, &partly.operators), (&next.links, &next.operators));
    assert!(partly.node(&"rumbai".parse().unwrap()).is_none(), "who is shut out");
    assert!(partly.node(&induk).is_some() && partly.neighbors(&induk).next().is_none(), "its receipts still count");
    assert_eq!(partly.node(&sukajadi), present.node(&sukajadi));
}
