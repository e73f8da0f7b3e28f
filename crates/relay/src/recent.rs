//! What was appended a moment ago, still in memory: most records are passed on at once, and need no reading back then.
//!
//! It is taken by whoever passes it on first. What finds no room is read from the disk, like everything that is older.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use estafet_model::{CHUNK_BYTES, ChunkHash, RecordId};
use estafet_quic::ReadRecord;
use estafet_spool::{Append, NewRecord, Payload, TransferId};

/// Records by their ids, and what has come of those that are arriving.
pub(crate) struct Recent {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    records: HashMap<RecordId, Kept<ReadRecord>>,
    /// Chunks of payloads that are arriving, each from its first on without a gap.
    transfers: HashMap<TransferId, Kept<Vec<(ChunkHash, Bytes)>>>,
    bytes: usize,
}

struct Kept<T> {
    since: Instant,
    bytes: usize,
    what: T,
}

impl Recent {
    /// With room for so much payload; without, nothing is kept.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default() }
    }

    /// Notes what is about to be stored.
    pub(crate) fn note(&self, batch: &[Append]) {
        if self.bytes_max == 0 {
            return;
        }
        let now = Instant::now();
        let mut state = self.state();
        for append in batch {
            match append {
                Append::Record(record) => state.note_record(record, now, self.bytes_max),
                Append::Chunk { transfer, index, data, hash } => {
                    state.note_chunk(*transfer, *index, (*hash, data.clone()), now, self.bytes_max);
                }
                Append::Begin { .. } | Append::Put { .. } => {}
            }
        }
    }

    /// Nothing if it is not here any more, or never was.
    pub(crate) fn take(&self, id: &RecordId) -> Option<ReadRecord> {
        let mut state = self.state();
        let kept = state.records.remove(id)?;
        state.bytes -= kept.bytes;
        Some(kept.what)
    }

    /// This payload will not become a record.
    pub(crate) fn abort(&self, transfer: TransferId) {
        self.state().drop_transfer(transfer);
    }

    /// Forgets what nobody has taken for so long.
    pub(crate) fn forget(&self, unused_for: Duration) {
        let now = Instant::now();
        let is_new = |since: Instant| now.saturating_duration_since(since) < unused_for;
        let mut state = self.state();
        state.records.retain(|_, kept| is_new(kept.since));
        state.transfers.retain(|_, kept| is_new(kept.since));
        let of_records: usize = state.records.values().map(|kept| kept.bytes).sum();
        state.bytes = of_records + state.transfers.values().map(|kept| kept.bytes).sum::<usize>();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note_record(&mut self, NewRecord { header, payload, .. }: &NewRecord, since: Instant, bytes_max: usize) {
        let chunks = match payload {
            Payload::Inline(payload) if payload.len() <= CHUNK_BYTES && self.bytes + payload.len() <= bytes_max => {
                self.bytes += payload.len();
                vec![(ChunkHash::from_bytes(*header.header().payload_hash.as_bytes()), payload.clone())]
            }
            Payload::Inline(_) => return,
            Payload::Transfer(transfer) => match self.transfers.remove(transfer) {
                Some(kept) => kept.what,
                None => return,
            },
        };
        let bytes = chunks.iter().map(|(_, chunk)| chunk.len()).sum();
        if bytes != header.header().payload_bytes as usize {
            // Its last chunks had no room.
            self.bytes -= bytes;
            return;
        }
        let (chunk_hashes, chunks) = chunks.into_iter().unzip();
        let what = ReadRecord { signed_header: header.encode(), chunk_hashes, chunks };
        if let Some(before) = self.records.insert(header.header().id.clone(), Kept { since, bytes, what }) {
            self.bytes -= before.bytes;
        }
    }

    fn note_chunk(
        &mut self,
        transfer: TransferId,
        index: u32,
        chunk: (ChunkHash, Bytes),
        since: Instant,
        bytes_max: usize,
    ) {
        let bytes = chunk.1.len();
        let before = self.transfers.get(&transfer).map_or(0, |kept| kept.what.len());
        if before != index as usize || self.bytes + bytes > bytes_max {
            return self.drop_transfer(transfer);
        }
        let kept = self.transfers.entry(transfer).or_insert(Kept { since, bytes: 0, what: Vec::new() });
        kept.since = since;
        kept.bytes += bytes;
        kept.what.push(chunk);
        self.bytes += bytes;
    }

    fn drop_transfer(&mut self, transfer: TransferId) {
        self.bytes -= self.transfers.remove(&transfer).map_or(0, |kept| kept.bytes);
    }
}

#[cfg(test)]
mod tests {
    use estafet_model::{
        Class, Kind, MediaType, RecordHeader, SigningKey, UnixMillis, payload_hash_of_chunks, sign_batch,
    };

    use super::*;

    const ROOM: usize = 3 * CHUNK_BYTES;
    const TRANSFER: TransferId = TransferId(7);

    fn chunk(index: u32) -> Append {
        let data = Bytes::from(vec![u8::try_from(index).unwrap(); CHUNK_BYTES]);
        Append::Chunk { transfer: TRANSFER, index, hash: ChunkHash::of(&data, index, 2), data }
    }

    /// A record of one chunk in its own entry, or of so many chunks.
    fn record(seq: u32, payload: Payload, chunks: &[Bytes]) -> Append {
        let count = u32::try_from(chunks.len()).unwrap();
        let hashes: Vec<_> = (0..).zip(chunks).map(|(index, chunk)| ChunkHash::of(chunk, index, count)).collect();
        let header = RecordHeader {
            id: id(seq),
            class: Class::Normal,
            kind: Kind::default(),
            media_type: MediaType::default(),
            payload_bytes: u32::try_from(chunks.iter().map(Bytes::len).sum::<usize>()).unwrap(),
            payload_hash: payload_hash_of_chunks(&hashes),
            captured_at: UnixMillis(0),
        };
        let header = sign_batch(vec![header], &SigningKey::from_seed([1; 32])).remove(0);
        Append::Record(NewRecord { header, received_from: None, stored_at: UnixMillis(0), idempotency: None, payload })
    }

    fn small(seq: u32, bytes: usize) -> Append {
        let payload = Bytes::from(vec![1; bytes]);
        record(seq, Payload::Inline(payload.clone()), &[payload])
    }

    fn of_chunks(seq: u32, count: u32) -> Append {
        let chunks: Vec<_> =
            (0..count).map(|index| Bytes::from(vec![u8::try_from(index).unwrap(); CHUNK_BYTES])).collect();
        record(seq, Payload::Transfer(TRANSFER), &chunks)
    }

    fn id(seq: u32) -> RecordId {
        format!("sail.1.{seq}").parse().unwrap()
    }

    fn bytes_kept(recent: &Recent) -> usize {
        let state = recent.state();
        let records: usize = state.records.values().map(|kept| kept.bytes).sum();
        let transfers: usize = state.transfers.values().map(|kept| kept.bytes).sum();
        assert_eq!(state.bytes, records + transfers, "the sum is kept right");
        state.bytes
    }

    #[test]
    fn a_record_is_at_hand_once() {
        let recent = Recent::new(ROOM);
        recent.note(&[small(1, 500), chunk(0)]);
        recent.note(&[chunk(1), of_chunks(2, 2)]);
        let one = recent.take(&id(1)).unwrap();
        assert_eq!((one.chunks.len(), one.chunks[0].len()), (1, 500));
        assert_eq!(one.chunk_hashes, [ChunkHash::of(&one.chunks[0], 0, 1)]);
        let two = recent.take(&id(2)).unwrap();
        assert_eq!(two.chunks.iter().map(|chunk| chunk[0]).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(two.chunk_hashes, [ChunkHash::of(&two.chunks[0], 0, 2), ChunkHash::of(&two.chunks[1], 1, 2)]);
        assert!(recent.take(&id(1)).is_none() && recent.take(&id(2)).is_none());
        assert_eq!(bytes_kept(&recent), 0);
    }

    #[test]
    fn what_is_not_whole_is_not_at_hand() {
        for (what, appends) in [
            ("the first chunk came before a restart", vec![chunk(1)]),
            ("a chunk came twice", vec![chunk(0), chunk(0), chunk(1)]),
            ("one is missing", vec![chunk(0)]),
            (
                "there was no room for the last",
                vec![small(1, 2 * CHUNK_BYTES / 2), small(3, CHUNK_BYTES), chunk(0), chunk(1)],
            ),
        ] {
            let recent = Recent::new(ROOM);
            recent.note(&appends);
            recent.note(&[of_chunks(2, 2)]);
            assert!(recent.take(&id(2)).is_none(), "{what}");
            assert!(recent.take(&id(1)).is_none_or(|_| recent.take(&id(3)).is_some()), "{what}");
            assert_eq!(bytes_kept(&recent), 0, "{what}");
        }
    }

    #[test]
    fn it_has_a_bound_and_forgets() {
        let recent = Recent::new(ROOM);
        recent.note(&[small(1, CHUNK_BYTES), chunk(0), small(2, CHUNK_BYTES), small(3, 1)]);
        assert_eq!(bytes_kept(&recent), ROOM);
        assert!(recent.take(&id(3)).is_none(), "it came last");
        recent.abort(TRANSFER);
        recent.note(&[small(1, 10)]);
        assert_eq!(bytes_kept(&recent), CHUNK_BYTES + 10, "the former of that number is gone");
        recent.forget(Duration::from_secs(3600));
        assert_eq!(bytes_kept(&recent), CHUNK_BYTES + 10);
        recent.forget(Duration::ZERO);
        assert_eq!(bytes_kept(&recent), 0);
        let none = Recent::new(0);
        none.note(&[small(1, 0)]);
        assert!(none.take(&id(1)).is_none());
    }
}
