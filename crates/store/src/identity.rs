//! Which life of a spool this is.

use std::collections::BTreeMap;

use bytes::Bytes;
use estafet_model::{ChainId, Epoch, Malformed, NodeId, Reader, SeqRanges, Writer};
use estafet_spool::Append;

const EPOCH_KEY: &[u8] = b"epoch";
const STARTS_KEY: &[u8] = b"starts";
const OWNER_KEY: &[u8] = b"node";
const FORMER_KEY: &[u8] = b"former";
const CONFLICT_KEY: &[u8] = b"conflict/";
const CHAIN_KEY: &[u8] = b"chain";

/// What a spool says of itself, and what each start writes into it before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its epoch: the numbers of captures begin again only under another.
    pub epoch: Epoch,
    /// How often it was opened, this time included.
    pub starts: u64,
    /// Its earlier epochs, each with the known count of captures.
    pub former: BTreeMap<Epoch, u32>,
    /// Own captures that no receipt may release, because their numbers were given before.
    pub conflicts: BTreeMap<Epoch, SeqRanges>,
}

impl Identity {
    /// The identity at the next start of a spool with these values. A spool without an epoch is new and takes the one
    /// that `draw` gives. It is to be random: a spool that was lost must not give the same numbers again, and offline
    /// nobody can be asked.
    #[must_use]
    pub fn at_start(puts: &BTreeMap<Bytes, Bytes>, draw: impl FnOnce() -> Epoch) -> Self {
        let epoch = number(puts, EPOCH_KEY).and_then(|epoch| u16::try_from(epoch).ok()).and_then(Epoch::new);
        Self {
            epoch: epoch.unwrap_or_else(draw),
            starts: number(puts, STARTS_KEY).unwrap_or(0) + 1,
            former: puts.get(FORMER_KEY).and_then(|value| read_former(value).ok()).unwrap_or_default(),
            conflicts: puts.iter().filter_map(|(key, value)| read_conflicts(key, value)).collect(),
        }
    }

    /// The entries to make durable before the node starts.
    #[must_use]
    pub fn appends(&self) -> Vec<Append> {
        let put = |key: &'static [u8], value: &[u8]| Append::Put {
            key: Bytes::from_static(key),
            value: Bytes::copy_from_slice(value),
        };
        vec![put(EPOCH_KEY, &self.epoch.get().to_be_bytes()), put(STARTS_KEY, &self.starts.to_be_bytes())]
    }
}

/// Whose store it is, by its own word.
#[must_use]
pub fn owner(puts: &BTreeMap<Bytes, Bytes>) -> Option<NodeId> {
    std::str::from_utf8(puts.get(OWNER_KEY)?).ok()?.parse().ok()
}

/// Marks a store as this node's.
#[must_use]
pub fn owner_append(me: &NodeId) -> Append {
    Append::Put { key: Bytes::from_static(OWNER_KEY), value: Bytes::copy_from_slice(me.as_str().as_bytes()) }
}

/// As which chain a hub tells the history of this archive, if that was decided.
#[must_use]
pub fn chain_id(puts: &BTreeMap<Bytes, Bytes>) -> Option<ChainId> {
    Some(ChainId::from_bytes(puts.get(CHAIN_KEY)?.as_ref().try_into().ok()?))
}

/// A hub tells the history of this archive as this chain.
#[must_use]
pub fn chain_append(id: ChainId) -> Append {
    Append::Put { key: Bytes::from_static(CHAIN_KEY), value: Bytes::copy_from_slice(id.as_bytes()) }
}

/// The node begins an epoch: first what is known of the earlier ones, so that a cut in between forgets none.
#[must_use]
pub fn epoch_appends(epoch: Epoch, former: &BTreeMap<Epoch, u32>) -> Vec<Append> {
    let mut writer = Writer::new();
    for (epoch, captured) in former {
        writer.u16(epoch.get()).u32(*captured);
    }
    vec![
        Append::Put { key: Bytes::from_static(FORMER_KEY), value: writer.finish() },
        Append::Put { key: Bytes::from_static(EPOCH_KEY), value: Bytes::copy_from_slice(&epoch.get().to_be_bytes()) },
    ]
}

/// Own captures that no receipt may release. Replaces what was kept of the epoch.
#[must_use]
pub fn conflicts_append(epoch: Epoch, seqs: &SeqRanges) -> Append {
    let key = Writer::new().raw(CONFLICT_KEY).u16(epoch.get()).finish();
    let mut writer = Writer::new();
    seqs.write(&mut writer);
    Append::Put { key, value: writer.finish() }
}

/// True if the value under this key is the epoch.
pub(crate) fn is_epoch(put_key: &[u8]) -> bool {
    put_key == EPOCH_KEY
}

fn read_former(value: &[u8]) -> Result<BTreeMap<Epoch, u32>, Malformed> {
    let mut reader = Reader::new(value);
    let mut former = BTreeMap::new();
    while !reader.is_empty() {
        former.insert(read_epoch(&mut reader)?, reader.u32("captures")?);
    }
    Ok(former)
}

fn read_conflicts(key: &[u8], value: &[u8]) -> Option<(Epoch, SeqRanges)> {
    let epoch = read_epoch(&mut Reader::new(key.strip_prefix(CONFLICT_KEY)?)).ok()?;
    Some((epoch, SeqRanges::read(&mut Reader::new(value)).ok()?))
}

fn read_epoch(reader: &mut Reader<'_>) -> Result<Epoch, Malformed> {
    Epoch::new(reader.u16("epoch")?).ok_or(Malformed { what: "epoch" })
}

fn number(puts: &BTreeMap<Bytes, Bytes>, key: &[u8]) -> Option<u64> {
    puts.get(key).map(|value| value.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: u16) -> Epoch {
        Epoch::new(number).unwrap()
    }

    #[test]
    fn a_spool_keeps_its_epoch_and_counts_its_starts() {
        let mut puts = BTreeMap::new();
        for starts in 1..4 {
            // Only a new spool draws.
            let identity = Identity::at_start(&puts, || epoch(if starts == 1 { 700 } else { 9 }));
            assert_eq!((identity.epoch, identity.starts), (epoch(700), starts));
            for append in identity.appends() {
                let Append::Put { key, value } = append else { panic!("an identity is values") };
                puts.insert(key, value);
            }
        }
    }

    #[test]
    fn a_store_says_whose_it_is() {
        let me: NodeId = "sail".parse().unwrap();
        let Append::Put { key, value } = owner_append(&me) else { panic!("it is a value") };
        assert_eq!(owner(&BTreeMap::from([(key, value)])), Some(me));
        assert_eq!(owner(&BTreeMap::new()), None);
    }

    #[test]
    fn an_archive_says_which_chain_it_is() {
        let id = ChainId::from_bytes([7; 16]);
        let Append::Put { key, value } = chain_append(id) else { panic!("it is a value") };
        assert_eq!(chain_id(&BTreeMap::from([(key, value)])), Some(id));
        assert_eq!(chain_id(&BTreeMap::new()), None);
    }

    #[test]
    fn a_new_epoch_remembers_the_earlier_ones_and_what_is_in_conflict() {
        let former = BTreeMap::from([(epoch(7), 40), (epoch(9), 3)]);
        let conflicts = SeqRanges::up_to(estafet_model::Seq::new(5));
        let appends = epoch_appends(epoch(12), &former).into_iter().chain([conflicts_append(epoch(9), &conflicts)]);
        let puts = appends.map(|append| match append {
            Append::Put { key, value } => (key, value),
            other => panic!("{other:?} is no value"),
        });
        let identity = Identity::at_start(&puts.collect(), || epoch(1));
        assert_eq!((identity.epoch, identity.former), (epoch(12), former));
        assert_eq!(identity.conflicts, BTreeMap::from([(epoch(9), conflicts)]));
    }
}
