//! Link-state advertisements, as a neighbor floods them.

use estafet_model::{ByteCount, ChainHead, ChainId, Epoch, LinkCost, Seq, SeqRanges, SignedHead};
use estafet_routing::{
    Adjacency, Holding, HubLedger, Lsa, NodeState, Notice, OriginLedger, Outlook, PowerState, Reason, SignedLsa,
    Standing, TopologyVersions, Words,
};

use super::{Target, with_a_flipped_bit};
use crate::cast::{HUBS, ME, OFFICE, key, node};
use crate::memory::bounded;

pub(super) const TARGET: Target = Target { name: "lsa", check, seeds, words: &[b"\0\0\0\x06rumbai"] };

fn check(input: &[u8]) {
    let Ok(lsa) = bounded(input, 8, || SignedLsa::decode(input)) else { return };
    assert_eq!(lsa.encode(), input, "an LSA has one form");
    let signer = key(OFFICE);
    let signed = SignedLsa::sign(lsa.lsa().clone(), &signer);
    let bytes = signed.encode();
    assert_eq!(bytes[..bytes.len() - 64], input[..input.len() - 64], "what is signed is what was read");
    assert_eq!(signed.verify(&signer.public()), Ok(()), "its own signature is good");
    if let Ok(forged) = SignedLsa::decode(&with_a_flipped_bit(&bytes)) {
        assert!(forged.verify(&signer.public()).is_err(), "no bit can be changed");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let ranges = |seqs: &[u32]| seqs.iter().copied().filter_map(Seq::new).collect::<SeqRanges>();
    let epoch = Epoch::new(2).expect("an epoch");
    let ledger = OriginLedger {
        epoch,
        captured: 9,
        held: ranges(&[4, 6]),
        receipted: ranges(&[1, 2, 3]),
        former: vec![(Epoch::FIRST, 12)],
        holdings: vec![Holding { origin: node(ME), epoch, held: ranges(&[7]) }],
        conflicts: vec![(Epoch::FIRST, ranges(&[5]))],
        transit_held: 2,
    };
    let adjacency = |name, cost| Adjacency { neighbor: node(name), cost: LinkCost(cost), rtt_micros: 1800 };
    let head = ChainHead::first(&node(OFFICE), ChainId::from_bytes([3; 16]));
    let signature = SignedHead::sign(node(OFFICE), head, &key(OFFICE)).signature;
    let plain = Lsa {
        origin: node(OFFICE),
        sequence: 7,
        adjacencies: vec![],
        standing: Standing::default(),
        durable: true,
        topology: TopologyVersions { in_force: 3, kept: 4 },
        ledger: None,
        hub: None,
        outlook: None,
    };
    let full = Lsa {
        adjacencies: vec![adjacency(HUBS[0], 10), adjacency(ME, 15)],
        standing: Standing {
            state: NodeState::Draining,
            power: PowerState::OnBattery { minutes_left: Some(20) },
            notice: Some(Notice {
                reason: Reason::Operator,
                words: Words::shortened("moving the rack"),
                back_unix_s: Some(1_375_786_800),
            }),
        },
        ledger: Some(ledger),
        hub: Some(HubLedger { committed: 9, committed_twice: 1, head: Some((head, signature)) }),
        outlook: Some(Outlook { capture_room: ByteCount(5 << 30), captured_per_hour: ByteCount(12 << 20) }),
        ..plain.clone()
    };
    [plain, full].map(|lsa| SignedLsa::sign(lsa, &key(OFFICE)).encode().to_vec()).to_vec()
}
