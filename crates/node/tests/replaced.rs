//! A machine that takes the place of another one, whose key is not its own.

use std::sync::Arc;

use estafet_model::{Bearer, Epoch, Medium, NodeId, Now, SealKey, SeqRanges, SigningKey};
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

/// What the machine before has said: forty captures in epoch 7.
fn word_of_key_98() -> SignedLsa {
    let ledger = OriginLedger {
        epoch: epoch(7),
        captured: 40,
        held: SeqRanges::new(),
        receipted: SeqRanges::new(),
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
    SignedLsa::sign(lsa, &key(98))
}

/// The earlier epochs that a new machine, itself in epoch `own`, keeps when a neighbor returns that word.
fn kept(former: Option<u8>, own: u16) -> Option<(Epoch, Vec<(Epoch, u32)>)> {
    let config = NodeConfig {
        me: rumbai(),
        signing_key: key(99),
        topology: Arc::new(topology(former)),
        epoch: epoch(own),
        spare_epoch: epoch(300),
        durable: true,
        first_transfer: 0,
        receipt_patience: RECEIPT_PATIENCE,
        first_lsa_sequence: 1,
    };
    let mut node = Node::new(config, Recovered::default());
    let from = Bearer::new("sukajadi".parse().expect("a node id"), Medium::Radio);
    let frame = Frame::Lsas(vec![word_of_key_98().encode()]);
    node.handle_input(Now::default(), Input::Frame { from, frame });
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
