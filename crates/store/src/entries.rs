//! Records, chunks and receipts as entries of the spool, and back.

use std::collections::BTreeMap;

use bytes::Bytes;
use estafet_custody::{HeldRecord, Losses, RecoveredTransfer, StorePayload, StoreRecord};
use estafet_model::{
    ChunkHash, Durable, Epoch, Malformed, NodeId, Reader, ReceiptKey, SeqRanges, SignedHeader, SignedReceipt,
    UnixMillis, Writer,
};
use estafet_node::StoredRecord;
use estafet_spool::{Append, NewRecord, Payload, TransferId};

/// Before the key of each receipt.
const RECEIPT_KEY: &[u8] = b"receipt/";

/// Before the key of each origin's epoch of which a hub has lost records.
const LOSSES_KEY: &[u8] = b"losses/";

/// A record as an entry of the spool. `stored_at` is the wall clock, for people.
#[must_use]
pub fn record_append(record: StoreRecord, stored_at: UnixMillis) -> Append {
    Append::Record(NewRecord {
        header: record.header,
        received_from: record.received_from,
        stored_at,
        idempotency: record.idempotency,
        payload: match record.payload {
            StorePayload::Inline(bytes) => Payload::Inline(bytes),
            StorePayload::Transfer(transfer) => Payload::Transfer(transfer_id(transfer)),
        },
    })
}

/// The beginning of a payload that is arriving as an entry of the spool.
#[must_use]
pub fn begin_append(transfer: estafet_custody::TransferId, header: SignedHeader, chunks: Vec<ChunkHash>) -> Append {
    Append::Begin { transfer: transfer_id(transfer), header, chunks }
}

/// A chunk of a payload that is arriving as an entry of the spool.
#[must_use]
pub fn chunk_append(transfer: estafet_custody::TransferId, index: u32, data: Bytes, hash: ChunkHash) -> Append {
    Append::Chunk { transfer: transfer_id(transfer), index, data, hash }
}

/// A receipt as an entry of the spool. It replaces the one of the same hub, origin and epoch.
#[must_use]
pub fn receipt_append(receipt: &SignedReceipt) -> Append {
    Append::Put { key: put_key(receipt.key()), value: receipt.encode() }
}

/// What a hub keeps of its losses. It replaces what was kept of the same origin's epoch.
#[must_use]
pub fn losses_append(origin: &NodeId, epoch: Epoch, losses: &Losses) -> Append {
    let key = Writer::new().raw(LOSSES_KEY).text(origin.as_str()).u16(epoch.get()).finish();
    let mut writer = Writer::new();
    writer.u32(losses.count);
    losses.seqs.write(&mut writer);
    Append::Put { key, value: writer.finish() }
}

/// What a hub has kept of its losses among the values of its spool.
#[must_use]
pub fn losses(puts: &BTreeMap<Bytes, Bytes>) -> BTreeMap<(NodeId, Epoch), Losses> {
    puts.iter().filter_map(|(key, value)| Some((losses_key(key)?, read_losses(value).ok()?))).collect()
}

fn read_losses(value: &[u8]) -> Result<Losses, Malformed> {
    let mut reader = Reader::new(value);
    Ok(Losses { count: reader.u32("losses")?, seqs: SeqRanges::read(&mut reader)? })
}

/// Whose losses are kept under the key of a value, if it is such a key.
pub(crate) fn losses_key(put_key: &[u8]) -> Option<(NodeId, Epoch)> {
    let mut reader = Reader::new(put_key.strip_prefix(LOSSES_KEY)?);
    Some((reader.parse("origin").ok()?, Epoch::new(reader.u16("epoch").ok()?)?))
}

/// The spool's name of a transfer.
#[must_use]
pub fn transfer_id(transfer: estafet_custody::TransferId) -> TransferId {
    TransferId(transfer.0)
}

/// A record that the spool has synced, as the node knows records.
#[must_use]
pub fn stored_record(record: Durable<estafet_spool::StoredRecord>, received_from: Option<NodeId>) -> StoredRecord {
    let idempotency = record.get().idempotency;
    StoredRecord { record: record.map(|record| held_record(record, received_from)), idempotency }
}

/// A record whose payload the spool cannot read any more.
#[must_use]
pub fn lost_record(broken: estafet_spool::BrokenRecord) -> HeldRecord {
    held_record(broken.record, broken.received_from)
}

/// A record in the spool, as custody knows records.
#[must_use]
pub fn held_record(record: estafet_spool::StoredRecord, received_from: Option<NodeId>) -> HeldRecord {
    HeldRecord {
        id: record.id,
        class: record.class,
        payload_bytes: record.payload_bytes,
        payload_hash: record.payload_hash,
        digest: record.digest,
        received_from,
        stored_at: record.stored_at,
    }
}

/// A payload that was arriving when the spool was last used, as the node knows those: its first chunks without a gap.
#[must_use]
pub fn recovered_transfer(found: estafet_spool::RecoveredTransfer) -> RecoveredTransfer {
    let without_gap = (0..).zip(&found.arrived).take_while(|(index, arrived)| index == *arrived).count();
    RecoveredTransfer {
        transfer: estafet_custody::TransferId(found.transfer.0),
        header: found.header,
        chunks: found.chunks,
        arrived: u32::try_from(without_gap).expect("a payload has few chunks"),
    }
}

/// The receipts among the values of a spool.
#[must_use]
pub fn receipts(puts: &BTreeMap<Bytes, Bytes>) -> Vec<SignedReceipt> {
    let receipts = puts.iter().filter(|(key, _)| key.starts_with(RECEIPT_KEY));
    receipts.filter_map(|(_, value)| SignedReceipt::decode(value).ok()).collect()
}

fn put_key(key: &ReceiptKey) -> Bytes {
    Writer::new().raw(RECEIPT_KEY).text(key.hub.as_str()).text(key.origin.as_str()).u16(key.epoch.get()).finish()
}

/// Which receipt is kept under the key of a value, if one is.
pub(crate) fn receipt_key(put_key: &[u8]) -> Option<ReceiptKey> {
    let mut reader = Reader::new(put_key.strip_prefix(RECEIPT_KEY)?);
    let hub = reader.parse("hub").ok()?;
    let origin = reader.parse("origin").ok()?;
    let epoch = Epoch::new(reader.u16("epoch").ok()?)?;
    Some(ReceiptKey { hub, origin, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;
    use estafet_model::{Seq, SeqRanges, SigningKey};

    #[test]
    fn losses_are_found_again_under_their_key() {
        let origin = ("sail".parse().unwrap(), Epoch::new(3).unwrap());
        let kept = Losses { count: 2, seqs: SeqRanges::up_to(Seq::new(5)) };
        let Append::Put { key, value } = losses_append(&origin.0, origin.1, &kept) else { panic!("they are a value") };
        assert_eq!(losses_key(&key), Some(origin.clone()));
        assert_eq!(losses(&BTreeMap::from([(key, value)])), BTreeMap::from([(origin, kept)]));
    }

    #[test]
    fn a_receipt_is_found_again_under_its_key_and_other_values_are_none() {
        let key = ReceiptKey {
            hub: "induk".parse().unwrap(),
            origin: "sail".parse().unwrap(),
            epoch: Epoch::new(3).unwrap(),
        };
        let ranges = SeqRanges::up_to(Seq::new(5));
        let receipt = SignedReceipt::sign(key.clone(), 0, ranges, &SigningKey::from_seed([9; 32]));
        let Append::Put { key: put, value } = receipt_append(&receipt) else { panic!("a receipt is a value") };
        assert_eq!(receipt_key(&put), Some(key));
        assert_eq!(receipt_key(b"epoch"), None);
        let puts = BTreeMap::from([(put, value), (Bytes::from_static(b"starts"), Bytes::new())]);
        assert_eq!(receipts(&puts), [receipt]);
    }
}
