//! What has arrived of payloads that are too large for one piece.
//!
//! It stays when the line breaks, the sender changes or this node starts anew, so that whoever sends next goes on from
//! here. Each chunk is checked against the hash that the payload's own hash proves, so it does not matter who sent it.

use std::collections::{BTreeMap, VecDeque};

use estafet_model::{CHUNK_BYTES, ChunkHash, HeaderDigest, RecordId, SignedHeader};

use crate::output::{CustodyOutput, TransferId};

/// A smaller payload is sent again from its beginning if this node starts anew: noting that it began would cost more.
const KEPT_BYTES_MIN: u32 = 256 << 10;

/// What may lie here of payloads that nobody is sending, in bytes and in count. The oldest gives way.
const IDLE_BYTES_MAX: u64 = 256 << 20;
const IDLE_MAX: usize = 1024;

/// A payload that is arriving.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) header: SignedHeader,
    pub(crate) transfer: TransferId,
    /// The hashes of all its chunks, which give the payload's hash.
    pub(crate) chunks: Vec<ChunkHash>,
    /// How many chunks, from the first on, are with the store.
    pub(crate) arrived: u32,
}

impl Body {
    pub(crate) fn digest(&self) -> HeaderDigest {
        self.header.digest()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.arrived as usize == self.chunks.len()
    }

    fn arrived_bytes(&self) -> u64 {
        u64::from(self.arrived) * CHUNK_BYTES as u64
    }
}

/// All payloads that are arriving.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    bodies: BTreeMap<RecordId, Body>,
    /// Those that nobody is sending, the oldest first.
    idle: VecDeque<RecordId>,
    idle_bytes: u64,
    next_transfer: u64,
}

impl Bodies {
    /// Transfer ids from `first_transfer` on belong to this machine.
    pub(crate) fn new(first_transfer: u64) -> Self {
        Self { next_transfer: first_transfer, ..Self::default() }
    }

    /// Takes back what was found on the disk.
    pub(crate) fn recover(&mut self, body: Body, outputs: &mut VecDeque<CustodyOutput>) {
        let id = body.header.header().id.clone();
        self.forget(&id, outputs);
        self.bodies.insert(id.clone(), body);
        self.set_idle(&id, outputs);
    }

    pub(crate) fn find(&self, id: &RecordId) -> Option<&Body> {
        self.bodies.get(id)
    }

    pub(crate) fn find_mut(&mut self, id: &RecordId) -> Option<&mut Body> {
        self.bodies.get_mut(id)
    }

    /// A payload begins to arrive. If another one had begun under this id, that one is given up.
    pub(crate) fn begin(
        &mut self,
        header: SignedHeader,
        chunks: Vec<ChunkHash>,
        outputs: &mut VecDeque<CustodyOutput>,
    ) {
        let id = header.header().id.clone();
        self.forget(&id, outputs);
        let transfer = TransferId(self.next_transfer);
        self.next_transfer += 1;
        if header.header().payload_bytes > KEPT_BYTES_MIN {
            let (header, chunks) = (header.clone(), chunks.clone());
            outputs.push_back(CustodyOutput::BeginTransfer { transfer, header: Box::new(header), chunks });
        }
        self.bodies.insert(id, Body { header, transfer, chunks, arrived: 0 });
    }

    /// Somebody is sending it.
    pub(crate) fn set_busy(&mut self, id: &RecordId) {
        if let Some(position) = self.idle.iter().position(|idle| idle == id) {
            self.idle.remove(position);
            self.idle_bytes -= self.bodies.get(id).map_or(0, Body::arrived_bytes);
        }
    }

    /// Nobody is sending it any more.
    pub(crate) fn set_idle(&mut self, id: &RecordId, outputs: &mut VecDeque<CustodyOutput>) {
        let Some(body) = self.bodies.get(id) else { return };
        self.idle_bytes += body.arrived_bytes();
        self.idle.push_back(id.clone());
        self.shrink(IDLE_MAX, IDLE_BYTES_MAX, outputs);
    }

    /// Gives up payloads that nobody is sending, until no more than this is left of them.
    pub(crate) fn shrink(&mut self, count_max: usize, bytes_max: u64, outputs: &mut VecDeque<CustodyOutput>) {
        while self.idle.len() > count_max || self.idle_bytes > bytes_max {
            let Some(oldest) = self.idle.front().cloned() else { return };
            self.forget(&oldest, outputs);
        }
    }

    /// It is whole: its chunks are the record's from now on.
    pub(crate) fn take(&mut self, id: &RecordId) -> Option<Body> {
        self.set_busy(id);
        self.bodies.remove(id)
    }

    /// It is not needed.
    pub(crate) fn forget(&mut self, id: &RecordId, outputs: &mut VecDeque<CustodyOutput>) {
        outputs.extend(self.take(id).map(|body| CustodyOutput::AbortTransfer(body.transfer)));
    }

    /// The ids of all payloads that have begun and are of records that `matches`.
    pub(crate) fn ids(&self, matches: impl Fn(&RecordId) -> bool) -> Vec<RecordId> {
        self.bodies.keys().filter(|id| matches(id)).cloned().collect()
    }
}
