//! What an intruder can put together with the one key that it has.

use bytes::Bytes;
use estafet_model::{
    CHUNK_BYTES, ChunkHash, Class, Kind, LinkCost, MediaType, NodeId, PayloadHash, ReceiptKey, RecordHeader, RecordId,
    SeqRanges, SignedHeader, SignedReceipt, UnixMillis, sign_batch,
};
use estafet_routing::{Adjacency, Lsa, SignedLsa, Standing, TopologyVersions};
use estafet_wire::PieceHead;

use crate::Intruder;

impl Intruder {
    /// An LSA in any node's name, with these adjacencies and their costs.
    #[must_use]
    pub fn lsa(&self, origin: &NodeId, sequence: u64, adjacencies: &[(NodeId, u32)]) -> Bytes {
        let adjacency = |(neighbor, cost): &(NodeId, u32)| Adjacency {
            neighbor: neighbor.clone(),
            cost: LinkCost(*cost),
            rtt_micros: 0,
        };
        let version = self.topology().version;
        let lsa = Lsa {
            origin: origin.clone(),
            sequence,
            adjacencies: adjacencies.iter().map(adjacency).collect(),
            standing: Standing::default(),
            durable: true,
            topology: TopologyVersions { in_force: version, kept: version },
            ledger: None,
            hub: None,
            outlook: None,
        };
        SignedLsa::sign(lsa, &self.key).encode()
    }

    /// The headers of records with these payloads, in any origin's name.
    #[must_use]
    pub fn headers<'a>(&self, records: impl IntoIterator<Item = (RecordId, &'a [u8])>) -> Vec<SignedHeader> {
        let header = |(id, payload): (RecordId, &[u8])| RecordHeader {
            id,
            class: Class::Normal,
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            payload_hash: PayloadHash::of(payload),
            captured_at: UnixMillis(0),
        };
        sign_batch(records.into_iter().map(header).collect(), &self.key)
    }

    /// A receipt in any hub's name.
    #[must_use]
    pub fn receipt(&self, key: ReceiptKey, committed: SeqRanges) -> SignedReceipt {
        SignedReceipt::sign(key, 0, committed, &self.key)
    }
}

/// One piece of a record as it travels, the first or a later one. `sent` are the bytes of the piece, and `hashes` what is
/// said of all.
#[must_use]
pub fn piece(header: &SignedHeader, index: u32, hashes: &[ChunkHash], sent: &[u8]) -> Bytes {
    let chunks = u32::try_from(hashes.len().max(1)).unwrap_or(u32::MAX);
    let head = PieceHead {
        signed_header: (index == 0).then(|| header.encode()),
        id: header.header().id.clone(),
        index,
        chunks,
        chunk_hashes: if index == 0 && chunks > 1 { hashes.to_vec() } else { Vec::new() },
    };
    let sent = &sent[..sent.len().min(CHUNK_BYTES)];
    [&head.encode(sent.len())[..], sent].concat().into()
}
