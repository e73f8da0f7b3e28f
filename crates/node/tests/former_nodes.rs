//! A machine that takes the place of another one, whose key is not its own; and a node that is taken out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use estafet_model::{Bearer, Epoch, Medium, NodeId, Now, SealKey, Seq, SeqRanges, SigningKey};
use estafet_node::custody::RECEIPT_PATIENCE;
use estafet_node::{Input, Node, NodeConfig, Output, Recovered};
use estafet_routing::{Lsa, OriginLedger, SignedLsa, Standing, TopologyVersions};
use estafet_topology::{FormerNode, NodeSetup, Operator, OperatorRole, Role, Template, Topology};
use estafet_wire::Frame;

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

fn rumbai() -> NodeId {
    "rumbai".parse().expect("a node id")
}

fn epoch(number: u16) -> Epoch {
    Epoch::new(number).expect("an epoch")
}

/// Pekanbaru, where Rumbai has key 99 and has had `former`.
fn topology(former: Option<u8>) -> Topology {
    let operator = Operator { id: "kepala".to_owned(), key: key(100).public(), role: OperatorRole::Admin };
    let mut number = 0;
    let setup = |_: &NodeId| {
        number += 1;
        let address = |port| ([10, 77, 0, number], port).into();
        NodeSetup { key: key(number).public(), addresses: vec![address(4460)], admin: address(4461) }
    };
    let seal_key = |_: &NodeId| SealKey::from_bytes([1; SealKey::BYTES]);
    let mut topology = Template::Pekanbaru.plan().into_topology(operator, setup, seal_key);
    let node = topology.nodes.get_mut(&rumbai()).expect("a node of the city");
    node.key = key(99).public();
    let code = node.code;
    let former = former.map(|number| FormerNode {
        id: rumbai(),
        code,
        key: key(number).public(),
        role: Role::Relay,
        accept: false,
    });
    topology.former_nodes.extend(former);
    topology
}

/// What a machine of Rumbai with this key has said: forty captures in epoch 7, of which it holds three.
fn word_of_key(number: u8) -> SignedLsa {
    let numbers = |seqs: RangeInclusive<u32>| -> SeqRanges { seqs.filter_map(Seq::new).collect() };
    let ledger = OriginLedger {
        epoch: epoch(7),
        captured: 40,
        held: numbers(38..=40),
        receipted: numbers(1..=37),
        former: vec![],
        holdings: vec![],
        conflicts: vec![],
        transit_held: 0,
    };
    let lsa = Lsa {
        origin: rumbai(),
        sequence: 1 << 40,
        adjacencies: vec![],
        standing: Standing::default(),
        durable: true,
        topology: TopologyVersions::default(),
        ledger: Some(ledger),
        hub: None,
        outlook: None,
    };
    SignedLsa::sign(lsa, &key(number))
}

/// A node that hears that from a neighbor.
fn told(me: NodeId, own: u16, topology: Topology, word: &SignedLsa) -> Node {
    let config = NodeConfig {
        me,
        signing_key: key(99),
        topology: Arc::new(topology),
        epoch: epoch(own),
        spare_epoch: epoch(300),
        durable: true,
        first_transfer: 0,
        receipt_patience: RECEIPT_PATIENCE,
        first_lsa_sequence: 1,
    };
    let mut node = Node::new(config, Recovered::default());
    let from = Bearer::new("sukajadi".parse().expect("a node id"), Medium::Radio);
    let frame = Frame::Lsas(vec![word.encode()]);
    node.handle_input(Now::default(), Input::Frame { from, frame });
    node
}

/// The earlier epochs that a new machine, itself in epoch `own`, keeps when a neighbor returns what the one before said.
fn kept(former: Option<u8>, own: u16) -> Option<(Epoch, Vec<(Epoch, u32)>)> {
    let mut node = told(rumbai(), own, topology(former), &word_of_key(98));
    std::iter::from_fn(|| node.poll_output()).find_map(|output| match output {
        Output::KeepEpoch { epoch, former } => Some((epoch, former.into_iter().collect())),
        _ => None,
    })
}

#[test]
fn it_is_told_of_the_life_before_it_by_a_key_that_its_node_had() {
    assert_eq!(kept(Some(98), 12), Some((epoch(12), vec![(epoch(7), 40)])));
    assert_eq!(kept(None, 12), None, "a stranger's key counts nothing");
}

#[test]
fn it_does_not_go_on_in_an_epoch_that_the_machine_before_had_drawn_too() {
    assert_eq!(kept(Some(98), 7), Some((epoch(300), vec![(epoch(7), 40)])));
}

#[test]
fn what_a_removed_node_had_not_handed_on_is_missing() {
    let mut node = told("senapelan".parse().expect("a node id"), 12, topology(None), &word_of_key(99));
    let counted = |node: &Node| {
        let report = node.audit();
        let rumbai = report.origins.into_iter().find(|origin| origin.node == rumbai()).expect("it is counted");
        (rumbai.removed, rumbai.captured, rumbai.held, rumbai.missing.count())
    };
    assert_eq!(counted(&node), (false, 40, 3, 0));
    let mut without = topology(None);
    without.nodes.remove(&rumbai());
    without.links.retain(|link| !link.ends.contains(&rumbai()));
    node.handle_input(Now::default(), Input::Topology(Arc::new(without)));
    assert_eq!(counted(&node), (true, 40, 0, 3));
}
