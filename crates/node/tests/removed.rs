//! A node that is taken out of the topology, with what it had not handed on.

use std::sync::Arc;

use estafet_model::{Bearer, Epoch, Medium, NodeId, Now, SealKey, SeqRanges, SigningKey};
use estafet_node::custody::RECEIPT_PATIENCE;
use estafet_node::{Input, Node, NodeConfig, Recovered};
use estafet_routing::{Lsa, OriginLedger, SignedLsa, Standing, TopologyVersions};
use estafet_topology::{NodeSetup, Operator, OperatorRole, Template, Topology};
use estafet_wire::Frame;

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32])
}

fn id(name: &str) -> NodeId {
    name.parse().expect("a node id")
}

/// Pekanbaru, in which every node has key 1.
fn topology() -> Topology {
    let operator = Operator { id: "kepala".to_owned(), key: key(100).public(), role: OperatorRole::Admin };
    let address = |port| ([10, 77, 0, 1], port).into();
    let setup = |_: &NodeId| NodeSetup { key: key(1).public(), addresses: vec![address(4460)], admin: address(4461) };
    Template::Pekanbaru.plan().into_topology(operator, setup, |_| SealKey::from_bytes([1; SealKey::BYTES]))
}

/// Rumbai has captured five, holds three of them, and has seen receipts for two.
fn word_of_rumbai(epoch: Epoch) -> SignedLsa {
    let numbers = |seqs: std::ops::RangeInclusive<u32>| -> SeqRanges {
        seqs.map(|seq| estafet_model::Seq::new(seq).expect("a number")).collect()
    };
    let ledger = OriginLedger {
        epoch,
        captured: 5,
        held: numbers(3..=5),
        receipted: numbers(1..=2),
        former: vec![],
        holdings: vec![],
        conflicts: vec![],
        transit_held: 0,
    };
    let lsa = Lsa {
        origin: id("rumbai"),
        sequence: 9,
        adjacencies: vec![],
        standing: Standing::default(),
        durable: true,
        topology: TopologyVersions::default(),
        ledger: Some(ledger),
        hub: None,
        outlook: None,
    };
    SignedLsa::sign(lsa, &key(1))
}

#[test]
fn what_a_removed_node_had_not_handed_on_is_missing() {
    let epoch = Epoch::new(7).expect("an epoch");
    let config = NodeConfig {
        me: id("sukajadi"),
        signing_key: key(1),
        topology: Arc::new(topology()),
        epoch,
        spare_epoch: Epoch::new(300).expect("an epoch"),
        durable: true,
        first_transfer: 0,
        receipt_patience: RECEIPT_PATIENCE,
        first_lsa_sequence: 1,
    };
    let mut node = Node::new(config, Recovered::default());
    let from = Bearer::new(id("induk"), Medium::Radio);
    let frame = Frame::Lsas(vec![word_of_rumbai(epoch).encode()]);
    node.handle_input(Now::default(), Input::Frame { from, frame });
    let counted = |node: &Node| {
        let report = node.audit();
        let rumbai = report.origins.into_iter().find(|origin| origin.node == id("rumbai")).expect("it is counted");
        (rumbai.removed, rumbai.captured, rumbai.held, rumbai.missing.count())
    };
    assert_eq!(counted(&node), (false, 5, 3, 0));
    let mut without = topology();
    without.nodes.remove(&id("rumbai"));
    without.links.retain(|link| !link.ends.contains(&id("rumbai")));
    node.handle_input(Now::default(), Input::Topology(Arc::new(without)));
    assert_eq!(counted(&node), (true, 5, 0, 3));
}
